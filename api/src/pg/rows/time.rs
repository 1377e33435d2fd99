//! Times, days and lengths of time as PostgreSQL writes them.

use std::io::Write;

use arrow::array::timezone::Tz;
use chrono::{DateTime, Offset, TimeZone};

use super::super::error::{PgError, code};
use crate::sql::cells::civil;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;
/// Days between 1970, which Arrow counts from, and 2000, which PostgreSQL does.
pub const EPOCH_DAYS: i64 = 10_957;
/// The first moment that PostgreSQL has, in 4713 BC. Its last is beyond what 64 bits have here.
const FIRST_US: i64 = -210_866_803_200_000_000;

/// The microseconds since 1970 of a time with so many units a second. What is below a microsecond
/// is cut off.
///
/// # Errors
/// If PostgreSQL has no such time.
pub fn microseconds(value: i64, per_second: i64) -> Result<i64, PgError> {
    let us = match per_second {
        1_000_000_000 => Some(value.div_euclid(1000)),
        _ => value.checked_mul(SECOND_US / per_second),
    };
    us.filter(|us| *us >= FIRST_US).ok_or_else(|| {
        PgError::new(
            code::DATETIME_OVERFLOW,
            format!(
                "timestamp out of range: {value} of {per_second} a second; select it as a bigint \
                 (time::bigint)"
            ),
        )
    })
}

/// Appends the day, and returns whether it is before the first year.
fn write_day(days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil(days);
    let is_before = year <= 0;
    let shown = if is_before { 1 - year } else { year };
    // Writing to a buffer cannot fail.
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
    is_before
}

/// Appends hours, minutes, seconds and their fraction.
fn write_clock(us: i64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (us / SECOND_US, us % SECOND_US);
    let _ = write!(
        out,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    write_fraction(fraction, out);
}

fn write_fraction(us: i64, out: &mut Vec<u8>) {
    if us > 0 {
        let _ = write!(out, ".{us:06}");
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Appends `2023-11-14`.
pub fn write_date(days: i64, out: &mut Vec<u8>) {
    if write_day(days, out) {
        out.extend_from_slice(b" BC");
    }
}

/// Appends `22:13:20.123456`.
pub fn write_time(us: i64, out: &mut Vec<u8>) {
    write_clock(us.clamp(0, DAY_US), out);
}

/// Appends `2023-11-14 22:13:20.123456`.
pub fn write_timestamp(us: i64, out: &mut Vec<u8>) {
    let is_before = write_day(us.div_euclid(DAY_US), out);
    out.push(b' ');
    write_clock(us.rem_euclid(DAY_US), out);
    if is_before {
        out.extend_from_slice(b" BC");
    }
}

/// Appends `2023-11-14 23:13:20.123456+01`, as clocks of a zone have it.
pub fn write_timestamptz(us: i64, zone: Tz, out: &mut Vec<u8>) {
    // Times beyond what chrono knows are shown in UTC.
    let time = DateTime::from_timestamp(us.div_euclid(SECOND_US), 0);
    let offset = time.map_or(0, |time| {
        let offset = zone.offset_from_utc_datetime(&time.naive_utc());
        i64::from(offset.fix().local_minus_utc())
    });
    let local = us.saturating_add(offset * SECOND_US);
    let is_before = write_day(local.div_euclid(DAY_US), out);
    out.push(b' ');
    write_clock(local.rem_euclid(DAY_US), out);
    let (sign, offset) = if offset < 0 {
        ('-', -offset)
    } else {
        ('+', offset)
    };
    let _ = write!(out, "{sign}{:02}", offset / 3600);
    if offset % 3600 > 0 {
        let _ = write!(out, ":{:02}", offset / 60 % 60);
    }
    if offset % 60 > 0 {
        let _ = write!(out, ":{:02}", offset % 60);
    }
    if is_before {
        out.extend_from_slice(b" BC");
    }
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub us: i64,
}

/// Appends `1 year 2 mons -3 days +04:05:06.789`.
pub fn write_interval(interval: Interval, out: &mut Vec<u8>) {
    let Interval { months, days, us } = interval;
    let parts = [(months / 12, "year"), (months % 12, "mon"), (days, "day")];
    let (mut is_first, mut was_negative) = (true, false);
    for (value, unit) in parts.into_iter().filter(|(value, _)| *value != 0) {
        let space = if is_first { "" } else { " " };
        let plus = if was_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        let _ = write!(out, "{space}{plus}{value} {unit}{plural}");
        (is_first, was_negative) = (false, value < 0);
    }
    if us == 0 && !is_first {
        return;
    }
    if !is_first {
        out.push(b' ');
    }
    match us {
        us if us < 0 => out.push(b'-'),
        _ if was_negative => out.push(b'+'),
        _ => {}
    }
    write_clock(i64::try_from(us.unsigned_abs()).unwrap_or(i64::MAX), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times() {
        let check = |us: i64, expected: &str| {
            assert_eq!(shown(|out| write_timestamp(us, out)), expected);
        };
        check(0, "1970-01-01 00:00:00");
        check(-1, "1969-12-31 23:59:59.999999");
        check(1_700_000_000_120_000, "2023-11-14 22:13:20.12");
        check(-62_135_596_800_000_000, "0001-01-01 00:00:00");
        check(-62_135_596_800_000_001, "0001-12-31 23:59:59.999999 BC");
        check(FIRST_US, "4714-11-24 00:00:00 BC");
        check(i64::MAX, "294247-01-10 04:00:54.775807");
        assert_eq!(microseconds(-1, 1_000_000_000), Ok(-1));
        assert_eq!(microseconds(1999, 1_000_000_000), Ok(1));
        assert_eq!(microseconds(5, 1000), Ok(5000));
        assert!(microseconds(i64::MAX, 1000).is_err());
        assert_eq!(
            microseconds(i64::MIN, 1_000_000_000),
            Ok(-9_223_372_036_854_776)
        );
    }

    #[test]
    fn zones() {
        let check = |zone: &str, us: i64, expected: &str| {
            let zone: Tz = zone.parse().unwrap();
            assert_eq!(shown(|out| write_timestamptz(us, zone, out)), expected);
        };
        check("+00:00", 0, "1970-01-01 00:00:00+00");
        check(
            "Europe/Berlin",
            1_700_000_000_000_000,
            "2023-11-14 23:13:20+01",
        );
        check(
            "Europe/Berlin",
            1_690_000_000_000_000,
            "2023-07-22 06:26:40+02",
        );
        check("Asia/Kolkata", 0, "1970-01-01 05:30:00+05:30");
        check("-07:00", 0, "1969-12-31 17:00:00-07");
        // Before there were zones.
        check(
            "Europe/Berlin",
            -4_000_000_000_000_000,
            "1843-03-31 17:46:48+00:53:28",
        );
    }

    #[test]
    fn intervals() {
        let check = |months, days, us, expected: &str| {
            let interval = Interval { months, days, us };
            assert_eq!(shown(|out| write_interval(interval, out)), expected);
        };
        check(0, 0, 0, "00:00:00");
        check(14, 3, 14_706_789_000, "1 year 2 mons 3 days 04:05:06.789");
        check(1, -1, 0, "1 mon -1 days");
        check(-1, 1, 1, "-1 mons +1 day 00:00:00.000001");
        check(0, -1, 1, "-1 days +00:00:00.000001");
        check(0, 0, -90_000_000_000, "-25:00:00");
        check(-13, 0, 0, "-1 years -1 mons");
    }
}
