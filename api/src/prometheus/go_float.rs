//! Numbers as Prometheus prints them, so that answers compare equal as text.
//!
//! Go's `strconv.FormatFloat(v, 'f', -1, 64)`, and `'e'` below 1e-6 and from 1e21 on: the shortest
//! digits that read back as the same number.
use tidelake_querier::promql::digits::Digits;

/// Appends a value as text: `1.5`, `1e+21`, `+Inf`, `NaN`.
pub fn write_value(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        let text: &[u8] = match value {
            v if v.is_nan() => b"NaN",
            v if v > 0.0 => b"+Inf",
            _ => b"-Inf",
        };
        return out.extend_from_slice(text);
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let magnitude = value.abs();
    // Most samples are counts.
    if magnitude < 1e15 && magnitude.trunc() == magnitude {
        return write_integer(out, magnitude as u64);
    }
    let shortest = Digits::of(magnitude);
    if !(1e-6..1e21).contains(&magnitude) {
        write_exponent_form(out, shortest.digits(), shortest.exponent());
    } else {
        shortest.write_plain(out);
    }
}

/// Appends milliseconds as seconds: `1700000000.123`, `1700000000`, `-0.500`.
pub fn write_time(out: &mut Vec<u8>, ms: i64) {
    if ms < 0 {
        out.push(b'-');
    }
    let ms = ms.unsigned_abs();
    write_integer(out, ms / 1000);
    let fraction = ms % 1000;
    if fraction != 0 {
        let digit = |n: u64| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[
            b'.',
            digit(fraction / 100),
            digit(fraction / 10),
            digit(fraction),
        ]);
    }
}

/// Appends an integer.
pub fn write_integer(out: &mut Vec<u8>, mut n: u64) {
    let mut text = [0u8; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

fn write_exponent_form(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let (first, rest) = digits.split_at(1.min(digits.len()));
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.unsigned_abs() < 10 {
        out.push(b'0');
    }
    write_integer(out, u64::from(exponent.unsigned_abs()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        write_value(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_as_go_prints_them() {
        let check = |value: f64, expected: &str| assert_eq!(text(value), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(-1.5, "-1.5");
        check(0.1, "0.1");
        check(0.1 + 0.2, "0.30000000000000004");
        check(100.0, "100");
        check(1234567.125, "1234567.125");
        check(1e15, "1000000000000000");
        check(1e20, "100000000000000000000");
        check(123456789012345680000.0, "123456789012345680000");
        check(999999999999999900000.0, "999999999999999900000");
        check(1e21, "1e+21");
        check(1.5e21, "1.5e+21");
        check(1e100, "1e+100");
        check(0.000001, "0.000001");
        check(0.00000123, "0.00000123");
        check(9.99e-7, "9.99e-07");
        check(1e-7, "1e-07");
        check(-2.5e-10, "-2.5e-10");
        check(5e-324, "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(9007199254740993.0, "9007199254740992");
        check(1048576.0000001, "1048576.0000001");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn every_value_reads_back_as_itself() {
        // A fixed walk over bit patterns: mantissas of all kinds at all exponents.
        let mut bits = 0x0123_4567_89ab_cdefu64;
        for _ in 0..200_000 {
            bits = bits
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            for value in [f64::from_bits(bits), (bits >> 40) as f64 / 1000.0] {
                if value.is_finite() {
                    let text = text(value);
                    assert_eq!(
                        text.parse::<f64>().unwrap().to_bits(),
                        value.to_bits(),
                        "{text}"
                    );
                    let digits = text
                        .trim_start_matches('-')
                        .split('e')
                        .next()
                        .unwrap()
                        .replace('.', "");
                    assert!(
                        digits.trim_start_matches('0').trim_end_matches('0').len() <= 17,
                        "{text}"
                    );
                }
            }
        }
    }

    #[test]
    fn times() {
        let check = |ms: i64, expected: &str| {
            let mut out = Vec::new();
            write_time(&mut out, ms);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(0, "0");
        check(1, "0.001");
        check(1500, "1.500");
        check(1_700_000_000_123, "1700000000.123");
        check(-1, "-0.001");
        check(-2000, "-2");
        check(i64::MIN, "-9223372036854775.808");
    }
}
