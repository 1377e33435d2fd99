//! Trends of a gauge: least squares and double exponential smoothing.

use super::super::exec::QueryError;
use super::super::exec::number::kahan_add;
use super::range::{Computed, Remarks, Window, float, param};

/// `deriv`: the slope per second.
pub(super) fn deriv(window: &Window<'_>, _: &[f64], remarks: &mut Remarks) -> Computed {
    // Times relative to the first sample keep the sums small.
    let origin = enough(window, remarks);
    float(origin.map(|origin| regression(window, origin).0))
}

/// `predict_linear`: the value on the fitted line, so many seconds after the time of evaluation.
pub(super) fn predict(window: &Window<'_>, params: &[f64], remarks: &mut Remarks) -> Computed {
    float(enough(window, remarks).map(|_| {
        let (slope, intercept) = regression(window, window.time);
        slope * param(params, 0) + intercept
    }))
}

/// The time of the first float, if there are at least two. Remarks on histograms beside floats.
fn enough(window: &Window<'_>, remarks: &mut Remarks) -> Option<i64> {
    let floats = window.values().len();
    remarks.histograms_ignored |= floats > 0 && !window.histogram_times().is_empty();
    if floats < 2 {
        None
    } else {
        window.times().first().copied()
    }
}

/// Slope per second, and the value at `origin`.
fn regression(window: &Window<'_>, origin: i64) -> (f64, f64) {
    let (times, values) = (window.times(), window.values());
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let mut sums = [(0.0, 0.0); 4];
    for (time, y) in times.iter().zip(values) {
        let x = time.saturating_sub(origin) as f64 / 1000.0;
        for (sum, increment) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            *sum = kahan_add(increment, sum.0, sum.1);
        }
    }
    let [x, y, xy, xx] = sums.map(|(sum, compensation)| sum + compensation);
    let count = values.len() as f64;
    let slope = (xy - x * y / count) / (xx - x * x / count);
    (slope, y / count - slope * x / count)
}

/// `double_exponential_smoothing`: the last value, smoothed together with its trend. Both factors
/// must be more than 0 and less than 1; as long as there is no sample, nobody asks.
pub(super) fn double_exponential(
    window: &Window<'_>,
    params: &[f64],
    remarks: &mut Remarks,
) -> Computed {
    let (smoothing, trend) = (param(params, 0), param(params, 1));
    for (factor, name, short) in [(smoothing, "smoothing", "sf"), (trend, "trend", "tf")] {
        if factor <= 0.0 || factor >= 1.0 {
            return Err(QueryError::execution(format!(
                "invalid {name} factor. Expected: 0 < {short} < 1, got: {factor:.6}"
            )));
        }
    }
    if enough(window, remarks).is_none() {
        return Ok(None);
    }
    let &[first, second, ..] = window.values() else {
        return Ok(None);
    };
    let (mut before, mut smoothed, mut slope) = (0.0, first, second - first);
    for (index, value) in window.values().iter().enumerate().skip(1) {
        if index > 1 {
            slope = trend * (smoothed - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (smoothed + slope);
        (before, smoothed) = (smoothed, next);
    }
    float(Some(smoothed))
}
