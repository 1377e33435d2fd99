//! How many series there are, and of what: which metrics, labels and label values make a database
//! large.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tidelake_catalog::model::{METRIC_NAME, METRICS_TABLE, TimeRange};
use tidelake_catalog::segment::SegmentError;
use tidelake_catalog::segment::scan::Source;

use crate::labels::{LabelError, Search, visit};
use crate::memory::QueryBytes;
use crate::samples::to_unit;
use crate::tables::Tables;

/// Names with counts, the largest first.
pub type Ranking = Vec<(String, u64)>;

/// What the series of a database are made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Different pairs of a label's name and value.
    pub label_pairs: u64,
    /// Segments and chunks of recent rows that were looked at.
    pub pieces: u64,
    /// First and last time of these in milliseconds; `None` if there are no rows.
    pub times: Option<TimeRange>,
    /// Series of a metric.
    pub by_metric: Ranking,
    /// Different values of a label.
    pub values_by_label: Ranking,
    /// Bytes of a label's values, counted for each series that has them.
    pub bytes_by_label: Ranking,
    /// Series with a label's value, named `name=value`.
    pub by_pair: Ranking,
}

/// Bytes of a value and its count in a table that doubles when it is full, without its text.
const VALUE_BYTES: usize = 80;
/// Bytes of a label in its table, with an empty table of values.
const LABEL_BYTES: usize = 256;

/// Counts the series that may have samples in a range of milliseconds; each ranking has at most
/// `most` entries.
pub(crate) async fn cardinality(
    tables: &Tables,
    database: &str,
    range: TimeRange,
    most: usize,
    mut search: Search,
) -> Result<(Cardinality, QueryBytes), LabelError> {
    let mut series = 0;
    let mut counts: HashMap<String, HashMap<String, u64>> = HashMap::new();
    let mut count = |label: &str, value: &str| {
        let mut bytes = 0;
        if !counts.contains_key(label) {
            counts.insert(label.to_owned(), HashMap::new());
            bytes += LABEL_BYTES + label.len();
        }
        let Some(values) = counts.get_mut(label) else {
            return bytes;
        };
        match values.get_mut(value) {
            Some(count) => *count += 1,
            None => {
                values.insert(value.to_owned(), 1);
                bytes += VALUE_BYTES + value.len();
            }
        }
        bytes
    };
    // Without selectors every series is visited once.
    visit(tables, database, &[], range, &mut search, |labels, name| {
        series += 1;
        let named = name.map_or(0, |name| count(METRIC_NAME, name));
        let labels = labels.iter().map(|(label, value)| count(label, value));
        named + labels.sum::<usize>()
    })
    .await?;
    let (pieces, times) = extent(tables, database, range).await?;
    let bytes = |values: &HashMap<String, u64>| {
        values
            .iter()
            .map(|(value, count)| value.len() as u64 * count)
            .sum()
    };
    let metrics = counts.get(METRIC_NAME).into_iter().flatten();
    let pairs = counts.iter().flat_map(|(label, values)| {
        values
            .iter()
            .map(move |(value, count)| ((label, value), *count))
    });
    let found = Cardinality {
        series,
        label_pairs: counts.values().map(|values| values.len() as u64).sum(),
        pieces,
        times,
        by_metric: top(metrics.map(|(name, count)| (name, *count)), most, |name| {
            (*name).clone()
        }),
        values_by_label: top(
            counts
                .iter()
                .map(|(label, values)| (label, values.len() as u64)),
            most,
            |label| (*label).clone(),
        ),
        bytes_by_label: top(
            counts.iter().map(|(label, values)| (label, bytes(values))),
            most,
            |label| (*label).clone(),
        ),
        by_pair: top(pairs, most, |(label, value)| format!("{label}={value}")),
    };
    Ok((found, search.finish()?))
}

/// How many segments and chunks of recent rows reach into a range, and from when to when these are.
async fn extent(
    tables: &Tables,
    database: &str,
    range: TimeRange,
) -> Result<(u64, Option<TimeRange>), SegmentError> {
    let snapshot = tables.snapshot();
    let wide = tables
        .wide_tables(database)
        .into_iter()
        .map(|(name, _)| name);
    let (mut pieces, mut times) = (0, None::<TimeRange>);
    for name in wide.chain([METRICS_TABLE.into()]) {
        let Some(table) = snapshot.table(database, &name) else {
            continue;
        };
        let unit = table.schema.kind.time_unit();
        let range = to_unit(range, unit);
        let found = tables.sources(database, &name, range).await?;
        let rows =
            found
                .iter()
                .flat_map(|found| &found.sources)
                .filter_map(|source| match source {
                    Source::Rows(_, rows) => rows.time_range(),
                    Source::Segment(..) => None,
                });
        for piece in table
            .segments(range)
            .map(|segment| segment.time)
            .chain(rows)
        {
            pieces += 1;
            let piece = TimeRange::new(unit.to_millis(piece.min), unit.to_millis(piece.max));
            times = Some(times.map_or(piece, |times| times.union(&piece)));
        }
    }
    Ok((pieces, times))
}

/// The largest counts, of equal ones the first by name; only these get a text.
fn top<T: Ord>(
    counts: impl Iterator<Item = (T, u64)>,
    most: usize,
    text: impl Fn(&T) -> String,
) -> Ranking {
    let mut kept = BinaryHeap::new();
    for (name, count) in counts {
        kept.push((Reverse(count), name));
        if kept.len() > most {
            kept.pop();
        }
    }
    kept.into_sorted_vec()
        .into_iter()
        .map(|(Reverse(count), name)| (text(&name), count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_have_the_largest_first_and_no_more_than_asked_for() {
        let check = |most: usize, expected: &[(&str, u64)]| {
            let counts = [("b", 2), ("a", 2), ("d", 9), ("c", 1)];
            let expected: Ranking = expected
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect();
            assert_eq!(
                top(counts.into_iter(), most, |name| (*name).to_owned()),
                expected
            );
        };
        check(0, &[]);
        check(1, &[("d", 9)]);
        check(2, &[("d", 9), ("a", 2)]);
        check(9, &[("d", 9), ("a", 2), ("b", 2), ("c", 1)]);
    }
}
