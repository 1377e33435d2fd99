//! Times: units, inclusive ranges, and the UTC days that partition a table.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The unit in which a table counts time from 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Milliseconds: the metrics table.
    Millisecond,
    /// Nanoseconds: wide tables.
    Nanosecond,
}

impl TimeUnit {
    /// Units per day.
    pub const fn per_day(self) -> i64 {
        match self {
            TimeUnit::Millisecond => 86_400_000,
            TimeUnit::Nanosecond => 86_400_000_000_000,
        }
    }

    /// The day that a time falls on.
    pub const fn day_of(self, time: i64) -> Day {
        Day(time.div_euclid(self.per_day()))
    }

    /// From milliseconds, as far as the unit reaches.
    pub const fn from_millis(self, ms: i64) -> i64 {
        match self {
            TimeUnit::Millisecond => ms,
            TimeUnit::Nanosecond => ms.saturating_mul(1_000_000),
        }
    }

    /// To milliseconds, rounded down.
    pub const fn to_millis(self, time: i64) -> i64 {
        match self {
            TimeUnit::Millisecond => time,
            TimeUnit::Nanosecond => time.div_euclid(1_000_000),
        }
    }
}

/// A UTC day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Day(pub i64);

impl Day {
    /// The times of the day in a unit, cut where the unit ends.
    pub const fn range(self, unit: TimeUnit) -> TimeRange {
        let start = self.0.saturating_mul(unit.per_day());
        TimeRange {
            min: start,
            max: start.saturating_add(unit.per_day() - 1),
        }
    }
}

/// `2026-11-22`; days outside the years 0 to 9999 as `d+NNN` or `d-NNN`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = chrono::DateTime::from_timestamp(self.0.saturating_mul(86_400), 0)
            .map(|t| t.date_naive());
        match date {
            Some(date) if (-719_528..=2_932_896).contains(&self.0) => {
                write!(f, "{}", date.format("%Y-%m-%d"))
            }
            _ => write!(f, "d{:+}", self.0),
        }
    }
}

/// Times from `min` to `max`, both included, in the unit of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    /// First time.
    pub min: i64,
    /// Last time.
    pub max: i64,
}

impl TimeRange {
    /// Every time there is.
    pub const ALL: Self = Self {
        min: i64::MIN,
        max: i64::MAX,
    };

    /// No time at all.
    pub const EMPTY: Self = Self { min: 0, max: -1 };

    /// From `min` to `max`, both included.
    pub const fn new(min: i64, max: i64) -> Self {
        Self { min, max }
    }

    /// Whether no time is in it.
    pub const fn is_empty(&self) -> bool {
        self.min > self.max
    }

    /// Whether a time is in it.
    pub const fn contains(&self, time: i64) -> bool {
        self.min <= time && time <= self.max
    }

    /// Whether the two have a time in common.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// The times in both.
    pub fn intersect(&self, other: &Self) -> Self {
        Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    /// The smallest range with both in it.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_before_1970_and_beyond_the_calendar_have_names() {
        assert_eq!(TimeUnit::Millisecond.day_of(-1).to_string(), "1969-12-31");
        assert_eq!(TimeUnit::Nanosecond.day_of(0).to_string(), "1970-01-01");
        assert_eq!(
            TimeUnit::Millisecond.day_of(i64::MAX).to_string(),
            "d+106751991167"
        );
        assert_eq!(
            TimeUnit::Millisecond.day_of(i64::MIN).to_string(),
            "d-106751991168"
        );
        assert_eq!(
            TimeUnit::Nanosecond.day_of(i64::MAX).to_string(),
            "2262-04-11"
        );
    }

    #[test]
    fn a_day_holds_its_own_times() {
        for time in [i64::MIN, -1, 0, 1, 86_399_999, 86_400_000, i64::MAX] {
            for unit in [TimeUnit::Millisecond, TimeUnit::Nanosecond] {
                assert!(
                    unit.day_of(time).range(unit).contains(time),
                    "{time} {unit:?}"
                );
            }
        }
    }
}
