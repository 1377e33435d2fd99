//! `*_over_time`: aggregation of one series' samples in a window.

use std::sync::Arc;

use tidelake_catalog::model::Histogram;

use super::super::exec::aggregate_histograms::{Accumulator, SeenHints};
use super::super::exec::annotations::Operation;
use super::super::exec::number::{kahan_add, quantile};
use super::super::exec::row::Point;
use super::super::histogram::Incompatible;
use super::range::{Computed, Remarks, Window, float, param};

/// The compensated sum.
fn sum(values: &[f64]) -> f64 {
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

/// Windows whose values are added up side by side. A compensated addition waits for the one before
/// it in its window, and for none of another.
pub(crate) const LANES: usize = 4;

/// [`sum`] of several windows, bit by bit; none is empty.
pub(crate) fn sums(windows: [&[f64]; LANES]) -> [f64; LANES] {
    let (sums, compensations) = add_up([0.0; LANES], windows);
    each(|lane| match sums[lane].is_finite() {
        true => sums[lane] + compensations[lane],
        false => sum(windows[lane]),
    })
}

/// [`avg`] of several windows, bit by bit; none is empty.
pub(crate) fn avgs(windows: [&[f64]; LANES]) -> [f64; LANES] {
    let (firsts, rests) = (windows.map(|all| all[0]), windows.map(|all| &all[1..]));
    let (sums, compensations) = add_up(firsts, rests);
    each(|lane| match sums[lane].is_finite() {
        true => {
            let count = windows[lane].len() as f64;
            sums[lane] / count + compensations[lane] / count
        }
        false => avg(windows[lane]),
    })
}

fn each(value: impl Fn(usize) -> f64) -> [f64; LANES] {
    std::array::from_fn(value)
}

/// Compensated sums that begin with some values. One that is not finite is to be computed anew: the
/// compensation of a sum that overflows is another.
fn add_up(mut sums: [f64; LANES], windows: [&[f64]; LANES]) -> ([f64; LANES], [f64; LANES]) {
    let mut compensations = [0.0; LANES];
    let shortest = windows.iter().map(|window| window.len()).min().unwrap_or(0);
    let [a, b, c, d] = windows.map(|window| &window[..shortest]);
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for (lane, value) in [a, b, c, d].into_iter().enumerate() {
            add_finite(*value, &mut sums[lane], &mut compensations[lane]);
        }
    }
    for lane in 0..LANES {
        for value in &windows[lane][shortest..] {
            add_finite(*value, &mut sums[lane], &mut compensations[lane]);
        }
    }
    (sums, compensations)
}

/// [`kahan_add`] while the sum is finite, without a branch.
#[inline(always)]
fn add_finite(increment: f64, sum: &mut f64, compensation: &mut f64) {
    let total = *sum + increment;
    let (large, small) = match sum.abs() >= increment.abs() {
        true => (*sum, increment),
        false => (increment, *sum),
    };
    *compensation += (large - total) + small;
    *sum = total;
}

/// The mean: sum by count, unless the sum overflows; then a mean that is updated value by value.
fn avg(values: &[f64]) -> f64 {
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
    /// What it is made of: the count of values, their sum or mean and what that lost, and 1 if it
    /// is a mean.
    pub fn parts(&self) -> [f64; 4] {
        let incremental = f64::from(u8::from(self.incremental));
        [self.count, self.total, self.compensation, incremental]
    }

    /// The mean that [`parts`](Self::parts) make.
    pub fn of([count, total, compensation, incremental]: [f64; 4]) -> Self {
        Self {
            count,
            total,
            compensation,
            incremental: incremental != 0.0,
        }
    }

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

    /// Takes in all values of another mean, which come later.
    pub fn merge(&mut self, mut later: Self) {
        let count = self.count + later.count;
        if !self.incremental && !later.incremental {
            let (total, compensation) = kahan_add(later.total, self.total, self.compensation);
            if !total.is_infinite() {
                self.count = count;
                (self.total, self.compensation) = (total, compensation + later.compensation);
                return;
            }
        }
        self.become_incremental();
        later.become_incremental();
        let (weight, later_weight) = (self.count / count, later.count / count);
        self.count = count;
        (self.total, self.compensation) = kahan_add(
            later_weight * later.total,
            weight * self.total,
            weight * self.compensation,
        );
        self.compensation += later_weight * later.compensation;
    }

    fn become_incremental(&mut self) {
        if !self.incremental {
            self.incremental = true;
            self.total /= self.count;
            self.compensation /= self.count;
        }
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

/// `sum_over_time`
pub(super) fn total(window: &Window<'_>, _: &[f64], remarks: &mut Remarks) -> Computed {
    Ok(of_either(window, sum, false, remarks))
}

/// `avg_over_time`
pub(super) fn mean(window: &Window<'_>, _: &[f64], remarks: &mut Remarks) -> Computed {
    Ok(of_either(window, avg, true, remarks))
}

/// Of floats or of histograms, where there are not both.
fn of_either(
    window: &Window<'_>,
    of_floats: fn(&[f64]) -> f64,
    is_mean: bool,
    remarks: &mut Remarks,
) -> Option<Point> {
    if window.mixed(remarks) {
        return None;
    }
    match window.has_only_histograms() {
        true => histograms(window.histograms(), is_mean, remarks),
        false => Some(Point::Float(of_floats(window.values()))),
    }
}

/// `count_over_time`
pub(super) fn count(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    let samples = window.values().len() + window.histogram_times().len();
    float(Some(samples as f64))
}

/// `present_over_time`
pub(super) fn present(_: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    float(Some(1.0))
}

/// The sum or the mean of histograms, not compacted.
fn histograms(
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
fn extreme(window: &Window<'_>, better: impl Fn(f64, f64) -> bool) -> f64 {
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

/// `min_over_time`
pub(super) fn min(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    float(Some(extreme(window, |value, least| value < least)))
}

/// `max_over_time`
pub(super) fn max(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    float(Some(extreme(window, |value, most| value > most)))
}

/// `ts_of_min_over_time`: seconds of the last smallest value.
pub(super) fn time_of_min(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    let is_less = |value: f64, least: f64| value <= least || least.is_nan();
    float(Some(time_of(window, is_less)))
}

/// `ts_of_max_over_time`: seconds of the last largest value.
pub(super) fn time_of_max(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    let is_more = |value: f64, most: f64| value >= most || most.is_nan();
    float(Some(time_of(window, is_more)))
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

/// `quantile_over_time`
pub(super) fn quantiles(window: &Window<'_>, params: &[f64], remarks: &mut Remarks) -> Computed {
    let q = param(params, 0);
    remarks.quantile(q);
    float(Some(quantile(q, &mut window.values().to_vec())))
}

/// `stdvar_over_time`
pub(super) fn variances(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    float(Some(variance(window.values())))
}

/// `stddev_over_time`
pub(super) fn deviation(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    float(Some(variance(window.values()).sqrt()))
}

/// `mad_over_time`
pub(super) fn median_deviation(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    float(Some(median_absolute_deviation(window.values())))
}

/// The variance around the mean (of the population, not of a sample).
fn variance(values: &[f64]) -> f64 {
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
fn median_absolute_deviation(values: &[f64]) -> f64 {
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

/// `first_over_time`: the oldest sample.
pub(super) fn first(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    Ok(
        match (window.times().first(), window.histogram_times().first()) {
            (Some(time), histogram) if histogram.is_none_or(|other| time < other) => {
                Some(Point::Float(window.values()[0]))
            }
            _ => window
                .points
                .histograms
                .get(window.histogram_low)
                .map(|histogram| Point::Histogram(Arc::clone(histogram))),
        },
    )
}

/// `last_over_time`: the youngest sample.
pub(super) fn last(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    Ok(
        match (window.times().last(), window.histogram_times().last()) {
            (Some(time), histogram) if histogram.is_none_or(|other| time > other) => {
                window.values().last().copied().map(Point::Float)
            }
            _ => {
                let index = window.histogram_high.checked_sub(1);
                index
                    .and_then(|index| window.points.histograms.get(index))
                    .map(|histogram| Point::Histogram(Arc::clone(histogram)))
            }
        },
    )
}

/// `ts_of_first_over_time`: seconds of the oldest sample.
pub(super) fn time_of_first(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    let times = window
        .times()
        .first()
        .into_iter()
        .chain(window.histogram_times().first());
    float(times.min().map(|ms| *ms as f64 / 1000.0))
}

/// `ts_of_last_over_time`: seconds of the youngest sample.
pub(super) fn time_of_last(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    let times = window
        .times()
        .last()
        .into_iter()
        .chain(window.histogram_times().last());
    float(times.max().map(|ms| *ms as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let special = prop::sample::select(vec![
            0.0,
            -0.0,
            1e16,
            -1e16,
            f64::MAX,
            f64::MIN_POSITIVE,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ]);
        let value = prop_oneof![8 => -1e6..1e6f64, 2 => special];
        vec(value, 1..40)
    }

    proptest! {
        #[test]
        fn windows_side_by_side_are_as_one_by_one(all in vec(values(), LANES)) {
            let windows: [&[f64]; LANES] = std::array::from_fn(|lane| &all[lane][..]);
            let bits = |values: [f64; LANES]| values.map(f64::to_bits);
            prop_assert_eq!(bits(sums(windows)), bits(windows.map(sum)));
            prop_assert_eq!(bits(avgs(windows)), bits(windows.map(avg)));
        }
    }
}
