//! Float arithmetic and number formats as Prometheus has them.
pub(crate) use super::super::digits::plain;
use super::super::digits::scientific;

/// One step of a compensated (Kahan-Neumaier) sum: returns the new sum and the new compensation.
#[inline]
pub(crate) fn kahan_add(increment: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + increment;
    if total.is_infinite() {
        (total, 0.0)
    } else if sum.abs() >= increment.abs() {
        (total, compensation + ((sum - total) + increment))
    } else {
        (total, compensation + ((increment - total) + sum))
    }
}

/// The larger of two floats; NaN wins over all but +Inf.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a > b || (a == b && a.is_sign_positive()) {
        a
    } else {
        b
    }
}

/// The smaller of two floats; NaN wins over all but -Inf.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

/// The quantile of unsorted values by linear interpolation between closest ranks; NaN sorts lowest.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| ascending(*a, *b));
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor().max(0.0) as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Order of values with NaN lowest.
pub(crate) fn ascending(a: f64, b: f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal),
    }
}

/// Shortest decimal, with an exponent below 1e-4 and from 1e6 (`1e+06`), as messages show numbers.
pub(crate) fn general(value: f64) -> String {
    let is_middle = (1e-4..1e6).contains(&value.abs());
    if !value.is_finite() || value == 0.0 || is_middle {
        plain(value)
    } else {
        scientific(value)
    }
}
