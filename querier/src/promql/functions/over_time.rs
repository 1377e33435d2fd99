//! `*_over_time`: aggregation of one series' samples in a window.

use std::sync::Arc;

use tidelake_catalog::model::Histogram;

use super::super::exec::aggregate_histograms::{Accumulator, SeenHints};
use super::super::exec::annotations::Operation;
use super::super::exec::number::{kahan_add, quantile};
use super::super::exec::row::Point;
use super::super::histogram::Incompatible;
use super::range::{Remarks, Window};

/// The compensated sum.
pub(crate) fn sum(values: &[f64]) -> f64 {
    let (mut sum, mut compensation) = (0.0, 0.0);
    for value in values {
        (sum, compensation) = kahan_add(*value, sum, compensation);
    }
    if sum.is_infinite() {
        sum
    } else {
        sum + compensation
    }
}

/// The mean: sum by count, unless the sum overflows; then a mean that is updated value by value.
pub(crate) fn avg(values: &[f64]) -> f64 {
    let mut mean = Mean::default();
    for value in values {
        mean.add(*value);
    }
    mean.value()
}

/// A mean of values that come one by one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    count: f64,
    /// The sum, or the mean itself once `incremental`.
    total: f64,
    compensation: f64,
    incremental: bool,
}

impl Mean {
    /// Takes one more value in.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.total = value;
            return;
        }
        if !self.incremental {
            let (total, compensation) = kahan_add(value, self.total, self.compensation);
            if !total.is_infinite() {
                (self.total, self.compensation) = (total, compensation);
                return;
            }
            self.incremental = true;
            self.total /= self.count - 1.0;
            self.compensation /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        (self.total, self.compensation) = kahan_add(
            value / self.count,
            weight * self.total,
            weight * self.compensation,
        );
    }

    /// The mean of all values so far.
    pub fn value(&self) -> f64 {
        if self.incremental {
            self.total + self.compensation
        } else {
            self.total / self.count + self.compensation / self.count
        }
    }
}

/// The sum or the mean of histograms, not compacted.
pub(crate) fn histograms(
    histograms: &[Arc<Histogram>],
    is_mean: bool,
    remarks: &mut Remarks,
) -> Option<Point> {
    let (first, rest) = histograms.split_first()?;
    let mut hints = SeenHints::default();
    hints.see(first.reset_hint);
    let mut total = Accumulator::new(is_mean, first);
    let mut reconciled = false;
    for histogram in rest {
        hints.see(histogram.reset_hint);
        match total.add(histogram) {
            Ok(merged) => reconciled |= merged.reconciled,
            Err(Incompatible) => {
                remarks.mixed_layouts = true;
                return None;
            }
        }
    }
    if reconciled {
        remarks.reconciled(Operation::Aggregation);
    }
    remarks.conflicting_resets |= hints.conflict();
    Some(Point::Histogram(Arc::new(total.finish())))
}

/// The best value; NaN only if there is nothing else. As long as the best value of the previous
/// window is still in this one, only new values are compared.
pub(crate) fn extreme(window: &Window<'_>, better: impl Fn(f64, f64) -> bool) -> f64 {
    let values = &window.points.values;
    let (mut best, from) = match window.prepared.best.get() {
        Some((best, seen)) if best >= window.low && seen <= window.high => (best, seen),
        _ => (window.low, window.low + 1),
    };
    for index in from..window.high {
        if better(values[index], values[best]) || values[best].is_nan() {
            best = index;
        }
    }
    window.prepared.best.set(Some((best, window.high)));
    values[best]
}

/// Seconds of the last smallest value.
pub(crate) fn time_of_min(window: &Window<'_>) -> f64 {
    time_of(window, |value, least| value <= least || least.is_nan())
}

/// Seconds of the last largest value.
pub(crate) fn time_of_max(window: &Window<'_>) -> f64 {
    time_of(window, |value, most| value >= most || most.is_nan())
}

fn time_of(window: &Window<'_>, better: impl Fn(f64, f64) -> bool) -> f64 {
    let (times, values) = (window.times(), window.values());
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if better(*value, values[best]) {
            best = index;
        }
    }
    times[best] as f64 / 1000.0
}

/// The variance around the mean (of the population, not of a sample).
pub(crate) fn variance(values: &[f64]) -> f64 {
    let mut count = 0.0;
    let (mut mean, mut mean_compensation) = (0.0, 0.0);
    let (mut squares, mut squares_compensation) = (0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - (mean + mean_compensation);
        (mean, mean_compensation) = kahan_add(delta / count, mean, mean_compensation);
        let rest = value - (mean + mean_compensation);
        (squares, squares_compensation) = kahan_add(delta * rest, squares, squares_compensation);
    }
    (squares + squares_compensation) / count
}

/// The median distance from the median; NaN if there is one among the values.
pub(crate) fn median_absolute_deviation(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut values = values.to_vec();
    let median = quantile(0.5, &mut values);
    for value in &mut values {
        *value = (*value - median).abs();
    }
    quantile(0.5, &mut values)
}

/// The oldest sample.
pub(crate) fn first(window: &Window<'_>) -> Option<Point> {
    match (window.times().first(), window.histogram_times().first()) {
        (Some(time), histogram) if histogram.is_none_or(|other| time < other) => {
            Some(Point::Float(window.values()[0]))
        }
        _ => window
            .points
            .histograms
            .get(window.histogram_low)
            .map(|histogram| Point::Histogram(Arc::clone(histogram))),
    }
}

/// The youngest sample.
pub(crate) fn last(window: &Window<'_>) -> Option<Point> {
    match (window.times().last(), window.histogram_times().last()) {
        (Some(time), histogram) if histogram.is_none_or(|other| time > other) => {
            window.values().last().copied().map(Point::Float)
        }
        _ => {
            let index = window.histogram_high.checked_sub(1)?;
            window
                .points
                .histograms
                .get(index)
                .map(|histogram| Point::Histogram(Arc::clone(histogram)))
        }
    }
}

/// Seconds of the oldest sample.
pub(crate) fn first_time(window: &Window<'_>) -> Option<f64> {
    let times = window
        .times()
        .first()
        .into_iter()
        .chain(window.histogram_times().first());
    times.min().map(|ms| *ms as f64 / 1000.0)
}

/// Seconds of the youngest sample.
pub(crate) fn last_time(window: &Window<'_>) -> Option<f64> {
    let times = window
        .times()
        .last()
        .into_iter()
        .chain(window.histogram_times().last());
    times.max().map(|ms| *ms as f64 / 1000.0)
}
