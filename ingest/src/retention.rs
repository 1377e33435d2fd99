//! What is too old to be taken: a table would drop it at once, and nothing is dropped after a 2xx.

use chrono::{DateTime, SecondsFormat};
use tidelake_catalog::model::TimeUnit;

/// The oldest time that a table takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oldest {
    /// In the table's unit.
    pub time: i64,
    unit: TimeUnit,
    retention_ms: u64,
}

impl Oldest {
    /// Of a table that keeps its rows for ever.
    pub const NONE: Self = Self {
        time: i64::MIN,
        unit: TimeUnit::Millisecond,
        retention_ms: u64::MAX,
    };

    /// Of a table that keeps its rows for so long.
    pub fn new(retention_ms: u64, now_ms: i64, unit: TimeUnit) -> Self {
        let oldest_ms = now_ms.saturating_sub(i64::try_from(retention_ms).unwrap_or(i64::MAX));
        Self {
            time: unit.from_millis(oldest_ms),
            unit,
            retention_ms,
        }
    }

    /// Why an older time is not taken.
    #[cold]
    pub(crate) fn refusal(&self, time: i64) -> String {
        let [time, oldest] = [time, self.time].map(|time| {
            let shown = DateTime::from_timestamp_millis(self.unit.to_millis(time));
            shown.map_or_else(
                || time.to_string(),
                |shown| shown.to_rfc3339_opts(SecondsFormat::Millis, true),
            )
        });
        format!(
            "the time {time} is outside the retention of {} ms: the oldest time taken is now \
             {oldest}",
            self.retention_ms
        )
    }
}
