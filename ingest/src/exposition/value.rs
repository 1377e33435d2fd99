//! Values and times of a line.

use super::syntax::{NO_HISTOGRAMS, shown};

/// The bits of the value that is written `NaN`, as Prometheus has it.
pub const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// What stands around the bits of any other NaN: `NaN(0x7ff0000000000002)` is the stale marker.
const BITS_START: &[u8] = b"nan(0x";

/// A float in decimal, an infinity, or a NaN.
#[inline]
pub(super) fn float(text: &[u8]) -> Result<f64, String> {
    let unsigned = match text.first() {
        Some(b'+' | b'-') => &text[1..],
        _ => text,
    };
    if !matches!(unsigned.first(), Some(b'0'..=b'9' | b'.')) {
        return named(text, unsigned);
    }
    match fast_float2::parse::<f64, _>(text) {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(format!("the value {} does not fit a float", shown(text))),
        Err(_) => Err(invalid(text)),
    }
}

#[cold]
fn invalid(text: &[u8]) -> String {
    if text.first() == Some(&b'{') {
        return NO_HISTOGRAMS.to_owned();
    }
    format!(
        "invalid value {}: it must be a decimal number, NaN, +Inf or -Inf",
        shown(text)
    )
}

/// `Inf`, `Infinity` and `NaN` in any letters.
#[cold]
fn named(text: &[u8], unsigned: &[u8]) -> Result<f64, String> {
    let is = |name: &[u8]| unsigned.eq_ignore_ascii_case(name);
    if is(b"inf") || is(b"infinity") {
        return Ok(match text.first() {
            Some(b'-') => f64::NEG_INFINITY,
            _ => f64::INFINITY,
        });
    }
    if is(b"nan") {
        return Ok(f64::from_bits(NAN_BITS));
    }
    let bits = || {
        let (start, rest) = text.split_at_checked(BITS_START.len())?;
        let hex = rest.strip_suffix(b")")?;
        let is_hex = hex.len() == 16 && hex.iter().all(u8::is_ascii_hexdigit);
        (is_hex && start.eq_ignore_ascii_case(BITS_START)).then_some(())?;
        let value = f64::from_bits(u64::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        value.is_nan().then_some(value)
    };
    bits().ok_or_else(|| invalid(text))
}

/// A time as the text format has it.
#[inline]
pub(super) fn milliseconds(text: &[u8]) -> Result<i64, String> {
    integer(text).ok_or_else(|| {
        format!(
            "invalid timestamp {}: it must be an integer, in milliseconds since 1970 (seconds are \
             OpenMetrics: send the content type application/openmetrics-text)",
            shown(text)
        )
    })
}

/// A time as OpenMetrics has it; what is less than a millisecond is cut off.
#[inline]
pub(super) fn seconds(text: &[u8]) -> Result<i64, String> {
    exact_seconds(text)
        .or_else(|| rounded_seconds(text))
        .ok_or_else(|| {
            format!(
                "invalid timestamp {}: it must be a number of seconds since 1970",
                shown(text)
            )
        })
}

fn integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0i64;
    for digit in digits {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        let signed = if is_negative { -digit } else { digit };
        number = number.checked_mul(10)?.checked_add(signed)?;
    }
    Some(number)
}

/// Digits with a point, without the detour of a float: `1629.857` is 1629857 ms.
fn exact_seconds(text: &[u8]) -> Option<i64> {
    let point = memchr::memchr(b'.', text).unwrap_or(text.len());
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let is_negative = text.first() == Some(&b'-');
    let whole = integer(&text[..point])?;
    let mut millis = 0;
    for place in 0..3 {
        let digit = fraction.get(place).map_or(0, |byte| byte - b'0');
        millis = millis * 10 + i64::from(digit);
    }
    let millis = if is_negative { -millis } else { millis };
    whole.checked_mul(1000)?.checked_add(millis)
}

/// With an exponent, say.
fn rounded_seconds(text: &[u8]) -> Option<i64> {
    let is_number = |b: &u8| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    if !text.iter().all(is_number) {
        return None;
    }
    let millis = fast_float2::parse::<f64, _>(text).ok()? * 1000.0;
    // Two to the power of 63 is a float.
    (millis.abs() < 9_223_372_036_854_775_808.0).then_some(millis as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats() {
        let check = |text: &str, bits: Option<u64>| {
            let found = float(text.as_bytes()).ok().map(f64::to_bits);
            assert_eq!(found, bits, "{text}");
        };
        let number = |text: &str, value: f64| check(text, Some(value.to_bits()));
        number("0", 0.0);
        number("-0", -0.0);
        number("+1.5", 1.5);
        number("1.", 1.0);
        number(".5", 0.5);
        number("-1e-3", -0.001);
        number("5e-324", 5e-324);
        number("2.2250738585072011e-308", 2.225_073_858_507_201e-308);
        number("1e-400", 0.0);
        number("9223372036854775808", 9_223_372_036_854_775_808.0);
        for text in ["Inf", "+Inf", "inf", "+infinity", "INF"] {
            number(text, f64::INFINITY);
        }
        number("-Inf", f64::NEG_INFINITY);
        for text in ["NaN", "nan", "NAN", "-nan"] {
            check(text, Some(NAN_BITS));
        }
        check("NaN(0x7ff0000000000002)", Some(0x7ff0_0000_0000_0002));
        check("NaN(0xfff8000000000000)", Some(0xfff8_0000_0000_0000));
        for text in [
            "",
            "+",
            "-",
            ".",
            "e5",
            "1e",
            "1e400",
            "-1e400",
            "0x10",
            "0x1p4",
            "1_000",
            "1,5",
            "1d",
            "infinit",
            "nano",
            "true",
            "{",
            "{count:1}",
            "NaN()",
            "NaN(0x1)",
            "++1",
            "1 ",
            "NaN(0x0000000000000001)",
            "NaN(0x+ff8000000000001)",
            "١",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn times() {
        let check = |text: &str, ms: Option<i64>, s: Option<i64>| {
            assert_eq!(milliseconds(text.as_bytes()).ok(), ms, "{text}");
            assert_eq!(seconds(text.as_bytes()).ok(), s, "{text}");
        };
        check("0", Some(0), Some(0));
        check("-1", Some(-1), Some(-1000));
        check("+1", Some(1), Some(1000));
        check("1629.857", None, Some(1_629_857));
        check("-1629.857", None, Some(-1_629_857));
        check("-0.001", None, Some(-1));
        check("0.0019", None, Some(1));
        check("1.", None, Some(1000));
        check("1.7e9", None, Some(1_700_000_000_000));
        check("9223372036854775.807", None, Some(i64::MAX));
        check("-9223372036854775.808", None, Some(i64::MIN));
        check("9223372036854775.808", None, None);
        check("9223372036854775807", Some(i64::MAX), None);
        check("-9223372036854775808", Some(i64::MIN), None);
        check("9223372036854775808", None, None);
        for text in ["", "-", "1e400", "NaN", "Inf", "1x", "0x1", ".", "1.5.2"] {
            check(text, None, None);
        }
    }
}
