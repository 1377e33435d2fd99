//! What a delete leaves until no segment holds the deleted rows any more.

use super::labels::Labels;
use super::matcher::Matcher;
use super::time::TimeRange;

/// Deletes the rows that are before it in the order of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its place in the order of writes: the sequence of its commit.
    pub sequence: u64,
    /// When that was, in milliseconds since 1970.
    pub time_ms: i64,
    /// Series that pass all of these; without any, every series.
    pub matchers: Vec<Matcher>,
    /// Rows of these times, in the unit of the table.
    pub range: TimeRange,
}

impl Tombstone {
    /// Whether it deletes rows of a series.
    pub fn concerns(&self, labels: &Labels) -> bool {
        self.matchers
            .iter()
            .all(|matcher| matcher.matches_labels(labels))
    }
}
