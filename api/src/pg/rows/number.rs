//! Numbers as PostgreSQL writes them.

use std::io::Write;

/// Appends a float with the fewest digits that tell it from its neighbours. From `max_exponent`
/// on, it has an exponent.
fn write_digits(shortest: &str, max_exponent: i32, out: &mut Vec<u8>) {
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // All digits, and the place of the point in them.
    let mut digits = [0u8; 40];
    let mut count = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if let Some(place) = digits.get_mut(count) {
            *place = byte;
            count += 1;
        }
    }
    let digits = digits.get(..count).unwrap_or_default();
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let point = i32::try_from(whole.len()).unwrap_or(0) + exponent;
    let digits = digits.get(zeros..).unwrap_or_default();
    let point = point - i32::try_from(zeros).unwrap_or(0);
    let end = digits
        .iter()
        .rposition(|digit| *digit != b'0')
        .map_or(0, |at| at + 1);
    let digits = digits.get(..end).unwrap_or_default();
    out.extend_from_slice(sign.as_bytes());
    let Some((first, rest)) = digits.split_first() else {
        out.push(b'0');
        return;
    };
    let exponent = point - 1;
    if exponent < -4 || exponent >= max_exponent {
        out.push(*first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        // Writing to a buffer cannot fail.
        let _ = write!(
            out,
            "e{}{:02}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        );
        return;
    }
    match usize::try_from(point) {
        Ok(point) if point > 0 => {
            let (whole, fraction) = digits.split_at(point.min(digits.len()));
            out.extend_from_slice(whole);
            out.extend(std::iter::repeat_n(b'0', point - whole.len()));
            if !fraction.is_empty() {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
        }
        _ => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(
                b'0',
                usize::try_from(-point).unwrap_or(0),
            ));
            out.extend_from_slice(digits);
        }
    }
}

pub fn write_f64(value: f64, out: &mut Vec<u8>) {
    match special(value) {
        Some(name) => out.extend_from_slice(name),
        None => write_digits(ryu::Buffer::new().format_finite(value), 15, out),
    }
}

pub fn write_f32(value: f32, out: &mut Vec<u8>) {
    match special(f64::from(value)) {
        Some(name) => out.extend_from_slice(name),
        None => write_digits(ryu::Buffer::new().format_finite(value), 6, out),
    }
}

fn special(value: f64) -> Option<&'static [u8]> {
    if value.is_nan() {
        Some(b"NaN")
    } else if value == f64::INFINITY {
        Some(b"Infinity")
    } else if value == f64::NEG_INFINITY {
        Some(b"-Infinity")
    } else {
        None
    }
}

/// Appends a decimal number from the digits of its unscaled value.
pub fn write_decimal(unscaled: &str, scale: i8, out: &mut Vec<u8>) {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    out.extend_from_slice(sign.as_bytes());
    let scale_digits = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        if digits != "0" {
            out.extend(std::iter::repeat_n(b'0', scale_digits));
        }
        return;
    }
    let whole = digits.len().saturating_sub(scale_digits);
    let (whole, fraction) = digits.split_at(whole);
    out.extend_from_slice(if whole.is_empty() {
        b"0"
    } else {
        whole.as_bytes()
    });
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', scale_digits - fraction.len()));
    out.extend_from_slice(fraction.as_bytes());
}

/// Bytes that the text of a number may have.
pub const MAX_NUMBER_CHARS: usize = 256;

/// Appends the binary form of the text of a number, which is a sign, digits and perhaps a point:
/// groups of four digits, of which the first has a weight of so many groups.
pub fn write_numeric(text: &[u8], out: &mut Vec<u8>) {
    let (is_negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let point = text
        .iter()
        .position(|byte| *byte == b'.')
        .unwrap_or(text.len());
    let (whole, fraction) = text.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    let mut groups = [0u16; MAX_NUMBER_CHARS / 2];
    let whole_groups = whole.len().div_ceil(4);
    let all_groups = whole_groups + fraction.len().div_ceil(4);
    // The place of a digit among those of all groups.
    let offset = whole_groups * 4 - whole.len();
    for (at, digit) in whole.iter().chain(fraction).enumerate() {
        let place = offset + at;
        let factor = [1000, 100, 10, 1].get(place % 4).copied().unwrap_or(1);
        if let Some(group) = groups.get_mut(place / 4) {
            *group += factor * u16::from(digit.saturating_sub(b'0'));
        }
    }
    let groups = groups.get(..all_groups).unwrap_or_default();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let groups = groups.get(leading..).unwrap_or_default();
    let end = groups
        .iter()
        .rposition(|group| *group != 0)
        .map_or(0, |at| at + 1);
    let groups = groups.get(..end).unwrap_or_default();
    let weight = match groups.is_empty() {
        true => 0,
        false => i32::try_from(whole_groups).unwrap_or(0) - 1 - i32::try_from(leading).unwrap_or(0),
    };
    let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    let sign: u16 = if is_negative && !groups.is_empty() {
        0x4000
    } else {
        0
    };
    out.extend_from_slice(&short(groups.len()));
    out.extend_from_slice(&i16::try_from(weight).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&short(fraction.len()));
    groups
        .iter()
        .for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn f64_text(value: f64) -> String {
        let mut out = Vec::new();
        write_f64(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_as_postgresql_writes_them() {
        let check = |value: f64, expected: &str| assert_eq!(f64_text(value), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(0.1, "0.1");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(123456789012345.0, "123456789012345");
        check(1e15, "1e+15");
        check(1234567890123456.0, "1.234567890123456e+15");
        check(100000.0, "100000");
        check(1e300, "1e+300");
        check(5e-324, "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(-1.5, "-1.5");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
        let mut out = Vec::new();
        write_f32(1e6, &mut out);
        write_f32(0.1, &mut out);
        write_f32(123456.0, &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), "1e+060.1123456");
    }

    #[test]
    fn decimals_have_their_scale() {
        let check = |unscaled: &str, scale: i8, expected: &str| {
            let mut out = Vec::new();
            write_decimal(unscaled, scale, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
        };
        check("12345", 2, "123.45");
        check("-5", 3, "-0.005");
        check("0", 2, "0.00");
        check("15", -2, "1500");
        check("0", -2, "0");
        check("7", 0, "7");
    }

    proptest! {
        #[test]
        fn every_float_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            let back: f64 = f64_text(value).parse().unwrap();
            prop_assert!(back.to_bits() == bits || value.is_nan() && back.is_nan());
        }
    }
}
