//! Functions of one float.

use std::f64::consts::{LN_2, PI};

/// The function of a name.
pub(crate) fn by_name(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sgn" => sign,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => area_sine,
        "acosh" => area_cosine,
        "atanh" => f64::atanh,
        "rad" => |degrees| degrees * PI / 180.0,
        "deg" => |radians| radians * 180.0 / PI,
        _ => return None,
    })
}

/// From here on the square of a value is the same whether one is added or not; the library's
/// functions overflow long after.
const LARGE: f64 = (1u64 << 28) as f64;

fn area_sine(value: f64) -> f64 {
    if value.abs() > LARGE {
        (value.abs().ln() + LN_2).copysign(value)
    } else {
        value.asinh()
    }
}

fn area_cosine(value: f64) -> f64 {
    if value > LARGE {
        value.ln() + LN_2
    } else {
        value.acosh()
    }
}

/// -1, 1, or the value itself if it is zero or NaN.
fn sign(value: f64) -> f64 {
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
            let got = by_name(name).unwrap()(value);
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
        assert!(by_name("acosh").unwrap()(0.5).is_nan());
    }
}
