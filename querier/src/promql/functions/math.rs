//! Functions of one float.

use std::f64::consts::{LN_2, PI};

/// `rad`
pub(super) fn radians(degrees: f64) -> f64 {
    degrees * PI / 180.0
}

/// `deg`
pub(super) fn degrees(radians: f64) -> f64 {
    radians * 180.0 / PI
}

/// From here on the square of a value is the same whether one is added or not; the library's
/// functions overflow long after.
const LARGE: f64 = (1u64 << 28) as f64;

/// `asinh`
pub(super) fn area_sine(value: f64) -> f64 {
    if value.abs() > LARGE {
        (value.abs().ln() + LN_2).copysign(value)
    } else {
        value.asinh()
    }
}

/// `acosh`
pub(super) fn area_cosine(value: f64) -> f64 {
    if value > LARGE {
        value.ln() + LN_2
    } else {
        value.acosh()
    }
}

/// `sgn`: -1, 1, or the value itself if it is zero or NaN.
pub(super) fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// The multiple of `nearest` closest to a value; ties go up.
pub(crate) fn round(value: f64, nearest: f64) -> f64 {
    // Multiplying by the inverse loses less than dividing by numbers like 0.1.
    let inverse = 1.0 / nearest;
    (value * inverse + 0.5).floor() / inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_do_not_overflow() {
        let check = |name: &str, value: f64, expected: f64| {
            let got = match name {
                "acosh" => area_cosine(value),
                _ => area_sine(value),
            };
            assert!(
                (got - expected).abs() <= 1e-12 * expected.abs() || got == expected,
                "{name}({value}): {got}"
            );
        };
        check("acosh", 1e308, 709.889_355_822_726);
        check("asinh", 1e308, 709.889_355_822_726);
        check("asinh", -1e308, -709.889_355_822_726);
        check("acosh", 3e8, 20.212_440_213_180_418);
        check("asinh", f64::NEG_INFINITY, f64::NEG_INFINITY);
        check("acosh", f64::INFINITY, f64::INFINITY);
        assert!(area_cosine(0.5).is_nan());
    }
}
