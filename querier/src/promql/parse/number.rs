//! Literals of numbers and durations: reading and writing.

use std::fmt::{self, Write};

use super::super::digits::{plain, scientific};
use super::quote::quote;

/// A number token. `Err` says what is wrong with it.
///
/// Integers follow Go's rules: `0x1f` is hexadecimal, `017` octal, but `089` decimal because it
/// cannot be octal.
pub(super) fn parse_number(token: &str) -> Result<f64, String> {
    let invalid = || format!("error parsing number: {}: invalid syntax", quote(token));
    if token.eq_ignore_ascii_case("inf") {
        return Ok(f64::INFINITY);
    }
    if token.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    let hex = token
        .strip_prefix("0x")
        .or_else(|| token.strip_prefix("0X"));
    let digits = match (token.contains('_'), hex) {
        (false, _) => hex.unwrap_or(token).to_owned(),
        (true, _) if !underscores_separate_digits(token) => return Err(invalid()),
        (true, _) => hex.unwrap_or(token).replace('_', ""),
    };
    if hex.is_some() {
        return i64::from_str_radix(&digits, 16)
            .map(|value| value as f64)
            .map_err(|_| invalid());
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(value) = i64::from_str_radix(&digits, 8)
    {
        return Ok(value as f64);
    }
    match digits.parse::<f64>() {
        Ok(value) if value.is_infinite() => Err(format!(
            "error parsing number: {}: value out of range",
            quote(token)
        )),
        Ok(value) => Ok(value),
        Err(_) => Err(invalid()),
    }
}

fn underscores_separate_digits(token: &str) -> bool {
    let bytes = token.as_bytes();
    let digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(|byte| byte.is_ascii_hexdigit() || b"xX".contains(byte))
    };
    (0..bytes.len())
        .filter(|at| bytes[*at] == b'_')
        .all(|at| digit(at.checked_sub(1)) && digit(Some(at + 1)))
}

/// Units of durations, longest first: name and milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Longest duration in milliseconds either way: what Go's nanosecond durations hold.
pub(super) const MAX_DURATION_MS: i64 = i64::MAX / 1_000_000;

/// A duration token such as `1h30m`, in milliseconds. `Err` says what is wrong with it.
pub(crate) fn parse_duration(token: &str) -> Result<i64, String> {
    let invalid = || format!("not a valid duration string: {}", quote(token));
    let out_of_range = || "duration out of range".to_owned();
    let (mut total, mut next_unit, mut rest) = (0i64, 0, token);
    while !rest.is_empty() {
        let (count, after) = rest.split_at(
            rest.find(|c: char| !c.is_ascii_digit())
                .ok_or_else(invalid)?,
        );
        let (unit, after) = after.split_at(
            after
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(after.len()),
        );
        let Some(at) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(format!(
                "unknown unit {} in duration {}",
                quote(unit),
                quote(token)
            ));
        };
        if count.is_empty() || at < next_unit {
            return Err(invalid());
        }
        next_unit = at + 1;
        let ms = count
            .parse::<i64>()
            .ok()
            .and_then(|count| count.checked_mul(UNITS[at].1));
        total = ms
            .and_then(|ms| total.checked_add(ms))
            .filter(|total| *total <= MAX_DURATION_MS)
            .ok_or_else(out_of_range)?;
        rest = after;
    }
    Ok(total)
}

/// A duration as Prometheus writes it: years and weeks only if they come out even, because `90d`
/// reads better than `12w6d`.
pub(super) fn write_duration(ms: i64, f: &mut impl Write) -> fmt::Result {
    if ms == 0 {
        return f.write_str("0s");
    }
    if ms < 0 {
        f.write_char('-')?;
    }
    let mut left = ms.unsigned_abs();
    for (name, unit) in UNITS {
        let unit = unit.unsigned_abs();
        let only_exact = matches!(name, "y" | "w");
        if left >= unit && (!only_exact || left.is_multiple_of(unit)) {
            write!(f, "{}{name}", left / unit)?;
            left %= unit;
        }
    }
    Ok(())
}

/// A number with all its digits and without an exponent.
pub(super) fn write_number(value: f64, f: &mut impl Write) -> fmt::Result {
    f.write_str(&plain(value))
}

/// A number as Go's `%v` writes it: with an exponent where it is very large or very small.
pub(super) fn write_number_short(value: f64, f: &mut impl Write) -> fmt::Result {
    let magnitude = value.abs();
    if !value.is_finite() || value == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return write_number(value, f);
    }
    f.write_str(&scientific(value))
}
