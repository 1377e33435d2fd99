//! The shortest digits that read back as a number. Of two that are as short and as near, the even
//! one, as in Go: `ryu` finds them, Rust's own formatting takes the larger one.

/// Digits of a finite number, whose sign is not among them.
#[derive(Debug, Clone, Copy)]
pub struct Digits {
    text: [u8; 20],
    count: usize,
    /// How many digits stand before the point (zero or less: so many zeros follow the point).
    point: i32,
}

impl Digits {
    /// The digits of a number.
    pub fn of(value: f64) -> Self {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value.abs());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let mut digits = Self {
            text: [0; 20],
            count: 0,
            point: 0,
        };
        let mut seen_point = false;
        for byte in mantissa.bytes() {
            if byte == b'.' {
                seen_point = true;
            } else if byte == b'0' && digits.count == 0 {
                // Leading zeros are not significant, but those behind the point move it.
                digits.point -= i32::from(seen_point);
            } else if let Some(slot) = digits.text.get_mut(digits.count) {
                *slot = byte;
                digits.count += 1;
                digits.point += i32::from(!seen_point);
            }
        }
        while digits.count > 1 && digits.text[digits.count - 1] == b'0' {
            digits.count -= 1;
        }
        digits.point += exponent.parse::<i32>().unwrap_or(0);
        digits
    }

    /// The digits; none for zero.
    pub fn digits(&self) -> &[u8] {
        self.text.get(..self.count).unwrap_or(&self.text)
    }

    /// The power of ten of the first digit.
    pub fn exponent(&self) -> i32 {
        self.point - 1
    }

    /// Appends the number without an exponent.
    pub fn write_plain(&self, out: &mut Vec<u8>) {
        let digits = self.digits();
        if digits.is_empty() {
            return out.push(b'0');
        }
        if self.point <= 0 {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(
                b'0',
                self.point.unsigned_abs() as usize,
            ));
            return out.extend_from_slice(digits);
        }
        let point = self.point as usize;
        if point >= digits.len() {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', point - digits.len()));
        } else {
            let (whole, fraction) = digits.split_at(point);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    }
}

/// A number with all its digits and without an exponent, however many zeros that needs: `1000000`,
/// `0.1`, `+Inf`.
pub fn plain(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned();
    }
    let mut out = Vec::new();
    if value.is_sign_negative() {
        out.push(b'-');
    }
    Digits::of(value).write_plain(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A number with one digit before the point and an exponent of at least two digits: `1.5e+06`.
pub(crate) fn scientific(value: f64) -> String {
    let shortest = Digits::of(value);
    let digits = String::from_utf8_lossy(shortest.digits());
    let (first, rest) = digits.split_at(1.min(digits.len()));
    let (minus, point) = (
        if value.is_sign_negative() { "-" } else { "" },
        if rest.is_empty() { "" } else { "." },
    );
    let exponent = shortest.exponent();
    format!(
        "{minus}{first}{point}{rest}e{}{:02}",
        if exponent < 0 { '-' } else { '+' },
        exponent.abs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_writes_them() {
        let check = |value: f64, expected: &str| assert_eq!(plain(value), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(1e21, "1000000000000000000000");
        check(-1.5, "-1.5");
        check(1e-7, "0.0000001");
        check(5e15, "5000000000000000");
        check(f64::NEG_INFINITY, "-Inf");
        // Halfway between .2 and .3.
        check(900_719_925_474_099.2, "900719925474099.2");
        check(-900_719_925_474_099.2, "-900719925474099.2");
        assert_eq!(scientific(1e6), "1e+06");
        assert_eq!(scientific(-1.25e-7), "-1.25e-07");
        assert_eq!(scientific(1e100), "1e+100");
    }
}
