//! Series, values and times in OpenMetrics, so that [`decode`](super::decode) reads the same.

use std::io::Write as _;

use tidelake_catalog::model::labels::METRIC_NAME;
use tidelake_catalog::model::{Labels, is_stale};

use super::NAN_BITS;

/// Name and labels of a series.
pub fn series(out: &mut Vec<u8>, labels: &Labels) {
    let metric = labels.metric_name();
    let is_plain = is_plain_name(metric, true);
    if is_plain {
        out.extend_from_slice(metric.as_bytes());
    }
    let mut others = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let mut next = others.next();
    if is_plain && next.is_none() {
        return;
    }
    out.push(b'{');
    if !is_plain {
        quoted(out, metric);
        if next.is_some() {
            out.push(b',');
        }
    }
    while let Some((name, value)) = next {
        if is_plain_name(name, false) {
            out.extend_from_slice(name.as_bytes());
        } else {
            quoted(out, name);
        }
        out.push(b'=');
        quoted(out, value);
        next = others.next();
        if next.is_some() {
            out.push(b',');
        }
    }
    out.push(b'}');
}

/// Whether a name needs no quotes.
pub fn is_plain_name(name: &str, has_colons: bool) -> bool {
    let is_in_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (has_colons && b == b':');
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(is_in_name)
}

/// A text in quotes.
pub fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text, true);
    out.push(b'"');
}

/// A text without line feeds.
pub fn escaped(out: &mut Vec<u8>, text: &str, escapes_quotes: bool) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if escapes_quotes => out.extend_from_slice(b"\\\""),
            other => out.push(other),
        }
    }
}

/// A value, to the last bit. A NaN that is not Prometheus' own has its bits behind it, which no
/// other reader knows.
pub fn value(out: &mut Vec<u8>, value: f64) {
    // Writing to memory cannot fail.
    let _ = match value {
        _ if value.is_nan() && value.to_bits() == NAN_BITS => out.write(b"NaN").map(drop),
        _ if value.is_nan() => write!(out, "NaN(0x{:016x})", value.to_bits()),
        _ if value == f64::INFINITY => out.write(b"+Inf").map(drop),
        _ if value == f64::NEG_INFINITY => out.write(b"-Inf").map(drop),
        // The shortest decimal that is read as the same float.
        _ => write!(out, "{value:?}"),
    };
}

/// The same for any reader of the format: a NaN is a NaN. `false` for a stale marker, which the
/// format cannot say.
pub fn portable_value(out: &mut Vec<u8>, value: f64) -> bool {
    if is_stale(value) {
        return false;
    }
    self::value(
        out,
        if value.is_nan() {
            f64::from_bits(NAN_BITS)
        } else {
            value
        },
    );
    true
}

/// A time in milliseconds as seconds.
pub fn seconds(out: &mut Vec<u8>, time_ms: i64) {
    let sign = if time_ms < 0 { "-" } else { "" };
    let millis = time_ms.unsigned_abs();
    let (whole, part) = (millis / 1000, millis % 1000);
    let _ = match part {
        0 => write!(out, "{sign}{whole}"),
        _ => write!(out, "{sign}{whole}.{part:03}"),
    };
}
