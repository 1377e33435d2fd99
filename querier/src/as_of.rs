//! `AS OF`: which earlier state of the catalog a query reads.

use chrono::{DateTime, NaiveDateTime};
pub use tidelake_catalog::AsOf;

/// Reads what users write: a plain integer is the number of a commit, any other number a time in
/// seconds since 1970, and a text a time by RFC 3339 (a blank for the `T` is as good; without zone
/// it is in UTC).
pub fn parse_as_of(text: &str) -> Result<AsOf, String> {
    let text = text.trim();
    let bad = || {
        let shown: String = text.chars().take(60).collect();
        format!(
            "{shown:?} is neither the number of a commit, nor seconds since 1970 with a fraction, \
             nor a time such as 2026-11-25T10:00:00Z"
        )
    };
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map(AsOf::Sequence).map_err(|_| bad());
    }
    time_ms(text).map(AsOf::TimeMs).ok_or_else(bad)
}

/// A time in ms since 1970: seconds since then, or RFC 3339 as [`parse_as_of`] takes it.
pub(crate) fn time_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        return (ms.abs() < 9.2e18).then_some(ms as i64);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let zoneless = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let time = zoneless
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
    Some(time.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_commits_and_times() {
        let check = |text: &str, expected: Option<AsOf>| {
            assert_eq!(parse_as_of(text).ok(), expected, "{text:?}")
        };
        check("0", Some(AsOf::Sequence(0)));
        check("42", Some(AsOf::Sequence(42)));
        check("42.0", Some(AsOf::TimeMs(42_000)));
        check("1764064800.125", Some(AsOf::TimeMs(1_764_064_800_125)));
        check(
            "2025-11-25T10:00:00Z",
            Some(AsOf::TimeMs(1_764_064_800_000)),
        );
        check(
            "2025-11-25T11:00:00.5+01:00",
            Some(AsOf::TimeMs(1_764_064_800_500)),
        );
        check(
            "2025-11-25 10:00:00Z",
            Some(AsOf::TimeMs(1_764_064_800_000)),
        );
        check("2025-11-25 10:00:00", Some(AsOf::TimeMs(1_764_064_800_000)));
        for bad in [
            "",
            "x",
            "NaN",
            "inf",
            "1e300",
            "-",
            "99999999999999999999999",
            "2025-11-25",
            "10:00",
        ] {
            check(bad, None);
        }
    }
}
