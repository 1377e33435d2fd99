//! How long rows are kept, as users write and read it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::catalog::TableProvider;
use datafusion::common::Result as PlanResult;
use datafusion::datasource::MemTable;
pub use tidelake_catalog::Retention;
use tidelake_catalog::model::{EXEMPLARS_TABLE, METRICS_TABLE};

use super::catalog::{METRICS_SCHEMA, PUBLIC_SCHEMA};
use super::view::EXEMPLARS_VIEW;

/// The table of the information schema that shows it, and what `SHOW RETENTION` stands for.
pub(super) const RETENTION_TABLE: &str = "retention";
pub(super) const SHOW_RETENTION: &str = "SELECT * FROM information_schema.retention";

/// What is set for a database or for one of its tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionSetting {
    /// The table; `None` is the default of the database.
    pub table: Option<Arc<str>>,
    /// As set.
    pub set: Retention,
    /// What follows from it: never [`Retention::Inherit`].
    pub effective: Retention,
}

/// What is set for a database, then for each of its tables.
pub fn settings(database: &tidelake_catalog::Database) -> Vec<RetentionSetting> {
    let effective = |ms: Option<u64>| ms.map_or(Retention::Forever, Retention::Millis);
    let of_database = match database.retention {
        Retention::Inherit => Retention::Forever,
        set => set,
    };
    let first = RetentionSetting {
        table: None,
        set: database.retention,
        effective: of_database,
    };
    let tables = database.tables.values().map(|table| RetentionSetting {
        table: Some(Arc::clone(&table.name)),
        set: table.retention,
        effective: effective(database.retention_ms(table)),
    });
    std::iter::once(first).chain(tables).collect()
}

/// The settings of a database as a table.
pub(super) fn table(
    database: &str,
    settings: &[RetentionSetting],
) -> PlanResult<Arc<dyn TableProvider>> {
    let text = |of: &dyn Fn(&RetentionSetting) -> Option<String>| -> ArrayRef {
        Arc::new(settings.iter().map(of).collect::<StringArray>())
    };
    let is_metrics = |table: &str| table == METRICS_TABLE;
    let shown = |table: &str| {
        if table == EXEMPLARS_TABLE {
            EXEMPLARS_VIEW
        } else {
            table
        }
        .to_owned()
    };
    let schema = |s: &RetentionSetting| {
        s.table.as_deref().map(|table| {
            if is_metrics(table) {
                METRICS_SCHEMA
            } else {
                PUBLIC_SCHEMA
            }
            .to_owned()
        })
    };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("table_catalog", text(&|_| Some(database.to_owned())), false),
        ("table_schema", text(&schema), true),
        // All metrics have one.
        (
            "table_name",
            text(&|s| {
                s.table
                    .as_deref()
                    .filter(|table| !is_metrics(table))
                    .map(shown)
            }),
            true,
        ),
        (
            "retention_period",
            text(&|s| Some(show_retention(s.set))),
            false,
        ),
        (
            "effective_retention_period",
            text(&|s| Some(show_retention(s.effective))),
            false,
        ),
    ])?;
    Ok(Arc::new(MemTable::try_new(
        batch.schema(),
        vec![vec![batch]],
    )?))
}

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 86_400 * SECOND_MS;
/// Units by their names, the larger ones first; the first name is the one that is shown. Months
/// have 30 days and years 365, as InfluxDB counts them.
const UNITS: [(u64, &[&str]); 8] = [
    (365 * DAY_MS, &["y", "yr", "year", "years"]),
    (30 * DAY_MS, &["mo", "month", "months"]),
    (7 * DAY_MS, &["w", "week", "weeks"]),
    (DAY_MS, &["d", "day", "days"]),
    (3600 * SECOND_MS, &["h", "hr", "hour", "hours"]),
    (60 * SECOND_MS, &["m", "min", "minute", "minutes"]),
    (SECOND_MS, &["s", "sec", "second", "seconds"]),
    (1, &["ms"]),
];

/// Reads a retention: `30d`, `1y 6mo`, `90 minutes`; `forever`; `default` for what is set further
/// up.
pub fn parse_retention(text: &str) -> Result<Retention, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "forever" | "infinite" | "inf" => Ok(Retention::Forever),
        "default" | "inherit" => Ok(Retention::Inherit),
        duration => parse_duration(duration)
            .map(Retention::Millis)
            .ok_or_else(|| {
                let shown: String = text.chars().take(60).collect();
                format!(
                    "{shown:?} is no retention: write a duration such as '30d', '24h' or '1y \
                     6mo', or 'forever', or 'default'"
                )
            }),
    }
}

/// Numbers with units, added up; at least a second in all.
fn parse_duration(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let end = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (unit_ms, _) = UNITS.iter().find(|(_, names)| names.contains(&unit))?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit_ms)?)?;
        rest = tail.trim_start();
    }
    // Nothing can be kept for no time, and what is longer than times can be told apart is
    // "forever".
    (total >= SECOND_MS && total <= i64::MAX as u64).then_some(total)
}

/// A text that [`parse_retention`] reads as the same.
pub fn show_retention(retention: Retention) -> String {
    let ms = match retention {
        Retention::Forever => return "forever".to_owned(),
        Retention::Inherit => return "default".to_owned(),
        Retention::Millis(ms) => ms,
    };
    // Weeks and months would be correct and are not what people set.
    let mut units = UNITS
        .iter()
        .filter(|(unit, _)| ![30 * DAY_MS, 7 * DAY_MS].contains(unit));
    match units.find(|(unit, _)| ms.is_multiple_of(*unit)) {
        Some((unit, names)) => format!("{}{}", ms / unit, names[0]),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_words() {
        let check = |text: &str, expected: Option<Retention>| {
            assert_eq!(parse_retention(text).ok(), expected, "{text:?}")
        };
        let days = |n: u64| Some(Retention::Millis(n * DAY_MS));
        check("30d", days(30));
        check(" 30 Days ", days(30));
        check("1y6mo", days(365 + 180));
        check("2w", days(14));
        check("24h", days(1));
        check("1d 12h 30m 5s", Some(Retention::Millis(131_405_000)));
        check("forever", Some(Retention::Forever));
        check("DEFAULT", Some(Retention::Inherit));
        for bad in [
            "",
            "30",
            "d",
            "0s",
            "0d",
            "-1d",
            "1.5d",
            "1 parsec",
            "99999999999999999999d",
            "400000000y",
            "none",
            "30d,",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        let check = |text: &str, shown: &str| {
            let retention = parse_retention(text).unwrap();
            assert_eq!(show_retention(retention), shown);
            assert_eq!(parse_retention(shown), Ok(retention));
        };
        check("30d", "30d");
        check("1w", "7d");
        check("2y", "2y");
        check("36h", "36h");
        check("90m", "90m");
        check("1d 1s", "86401s");
        check("1s 1ms", "1001ms");
        check("1h 1m 1s", "3661s");
        check("forever", "forever");
        check("default", "default");
    }
}
