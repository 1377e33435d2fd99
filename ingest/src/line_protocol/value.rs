//! Values and times of a line.

use super::Precision;
use super::syntax::{shorten, string_end};
use tidelake_catalog::model::ColumnType;

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'b> {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    /// UTF-8, between the quotes.
    String {
        raw: &'b [u8],
        /// Whether a backslash is in it.
        escaped: bool,
    },
}

impl Value<'_> {
    pub(super) fn kind(&self) -> ColumnType {
        match self {
            Value::Float(_) => ColumnType::Float,
            Value::Integer(_) => ColumnType::Integer,
            Value::Unsigned(_) => ColumnType::Unsigned,
            Value::Boolean(_) => ColumnType::Boolean,
            Value::String { .. } => ColumnType::String,
        }
    }
}

/// Reads the value at `at`. Gives it and where it ends; what may follow is for the caller to check.
#[inline]
pub(super) fn value(body: &[u8], at: usize) -> Result<(Value<'_>, usize), String> {
    match body.get(at) {
        Some(b'0'..=b'9' | b'-' | b'.') => number(body, at),
        Some(b'"') => string(body, at + 1),
        _ => boolean(body, at),
    }
}

#[inline]
fn number(body: &[u8], at: usize) -> Result<(Value<'_>, usize), String> {
    let negative = body[at] == b'-';
    let first = at + usize::from(negative);
    let mut end = first;
    let mut digits = 0u64;
    while let Some(byte @ b'0'..=b'9') = body.get(end) {
        digits = digits.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        end += 1;
    }
    let count = end - first;
    match body.get(end) {
        Some(b'i') if count > 0 => {
            // 18 digits always fit.
            let value = if count <= 18 {
                let value = digits as i64;
                if negative { -value } else { value }
            } else {
                long::<i64>(&body[at..end])
                    .ok_or_else(|| out_of_range(&body[at..=end], "integer"))?
            };
            Ok((Value::Integer(value), end + 1))
        }
        Some(b'u') if count > 0 => {
            if negative {
                return Err(out_of_range(&body[at..=end], "unsigned integer"));
            }
            let value = if count <= 18 {
                digits
            } else {
                long::<u64>(&body[at..end])
                    .ok_or_else(|| out_of_range(&body[at..=end], "unsigned integer"))?
            };
            Ok((Value::Unsigned(value), end + 1))
        }
        Some(b'.' | b'e' | b'E') => float(body, at, first),
        // 15 digits are exact as a float.
        _ if count > 0 && count <= 15 => {
            let value = digits as f64;
            Ok((Value::Float(if negative { -value } else { value }), end))
        }
        _ => float(body, at, first),
    }
}

fn float(body: &[u8], at: usize, first: usize) -> Result<(Value<'_>, usize), String> {
    // The library would also take "inf" and "nan".
    if !matches!(body.get(first), Some(b'0'..=b'9' | b'.')) {
        return Err(invalid(body, at));
    }
    let (value, len) =
        fast_float2::parse_partial::<f64, _>(&body[at..]).map_err(|_| invalid(body, at))?;
    if !value.is_finite() {
        return Err(out_of_range(&body[at..at + len], "float"));
    }
    Ok((Value::Float(value), at + len))
}

fn long<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn string(body: &[u8], at: usize) -> Result<(Value<'_>, usize), String> {
    let end =
        string_end(body, at).ok_or_else(|| "a string is not closed: expected '\"'".to_owned())?;
    let raw = &body[at..end];
    std::str::from_utf8(raw).map_err(|e| format!("invalid UTF-8 in a string: {e}"))?;
    Ok((
        Value::String {
            raw,
            escaped: memchr::memchr(b'\\', raw).is_some(),
        },
        end + 1,
    ))
}

fn boolean(body: &[u8], at: usize) -> Result<(Value<'_>, usize), String> {
    let end = token_end(body, at);
    match &body[at..end] {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Ok((Value::Boolean(true), end)),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Ok((Value::Boolean(false), end)),
        _ => Err(invalid(body, at)),
    }
}

/// Where a value without quotes ends.
fn token_end(body: &[u8], at: usize) -> usize {
    body[at..]
        .iter()
        .position(|b| matches!(b, b',' | b' ' | b'\n' | b'\r'))
        .map_or(body.len(), |n| at + n)
}

/// The message for what is no value at all.
#[cold]
pub(super) fn invalid(body: &[u8], at: usize) -> String {
    match &body[at..token_end(body, at)] {
        b"" => "a field value is missing after '='".to_owned(),
        token => format!(
            "invalid field value {:?}: expected a finite float (1.5), an integer (1i), an \
             unsigned integer (1u), a boolean (true) or a string (\"...\")",
            shorten(token)
        ),
    }
}

#[cold]
fn out_of_range(token: &[u8], what: &str) -> String {
    format!(
        "field value {:?} is outside the range of a 64-bit {what}",
        shorten(token)
    )
}

impl Precision {
    /// Nanoseconds in a unit; for [`Precision::Auto`] that of a timestamp of this magnitude.
    #[inline]
    fn unit(self, timestamp: i64) -> i64 {
        const MINUTE: i64 = 60_000_000_000;
        match self {
            Precision::Nanosecond => 1,
            Precision::Microsecond => 1_000,
            Precision::Millisecond => 1_000_000,
            Precision::Second => 1_000_000_000,
            Precision::Minute => MINUTE,
            Precision::Hour => 60 * MINUTE,
            Precision::Auto => match timestamp.unsigned_abs() {
                0..5_000_000_000 => 1_000_000_000,
                5_000_000_000..5_000_000_000_000 => 1_000_000,
                5_000_000_000_000..5_000_000_000_000_000 => 1_000,
                _ => 1,
            },
        }
    }

    /// The present in nanoseconds, rounded down to whole units.
    pub(super) fn truncate(self, now_ns: i64) -> i64 {
        match self {
            Precision::Auto => now_ns,
            _ => now_ns - now_ns.rem_euclid(self.unit(0)),
        }
    }
}

/// Reads the timestamp at `at`. Gives it in nanoseconds, and where it ends.
#[inline]
pub(super) fn timestamp(
    body: &[u8],
    at: usize,
    precision: Precision,
) -> Result<(i64, usize), String> {
    let negative = body.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    let mut end = first;
    let mut digits = 0u64;
    while let Some(byte @ b'0'..=b'9') = body.get(end) {
        digits = digits.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        end += 1;
    }
    let time = match end - first {
        0 => {
            return Err(format!(
                "invalid timestamp {:?}: expected an integer",
                shorten(&body[at..token_end(body, at)])
            ));
        }
        1..=18 if negative => Some(-(digits as i64)),
        1..=18 => Some(digits as i64),
        _ => long::<i64>(&body[at..end]),
    };
    match time.and_then(|time| time.checked_mul(precision.unit(time))) {
        Some(time) => Ok((time, end)),
        None => Err(format!(
            "timestamp {:?} does not fit into 64-bit nanoseconds",
            shorten(&body[at..end])
        )),
    }
}
