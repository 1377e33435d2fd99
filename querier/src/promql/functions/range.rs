//! Functions over a window of samples: which there are, and what they share.

use std::cell::Cell;
use std::sync::Arc;

use tidelake_catalog::model::Histogram;

use super::super::exec::QueryError;
use super::super::exec::annotations::{Collector, Operation};
use super::super::exec::row::Point;
use super::super::exec::selector::Points;
use super::super::histogram::reset;
use super::super::parse::ast::{Reach, Span};
use super::over_time::LANES;
use super::rate;

/// What a kernel answers: a value, or that there is none.
pub(super) type Computed = Result<Option<Point>, QueryError>;

/// Computes a value of a window that holds at least one sample, and of the scalar arguments at its
/// step.
type Kernel = fn(&Window<'_>, params: &[f64], &mut Remarks) -> Computed;

/// A function over windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeFunction {
    kernel: Kernel,
    /// The same for several windows of floats alone, none of which is empty.
    pub several: Option<fn([&[f64]; LANES]) -> [f64; LANES]>,
    /// Whether it looks at floats only, and is not asked where there are none.
    of_floats: bool,
    /// What is found out about a series once.
    facts: Facts,
    /// Whether the result still is a value of the metric, so that its name stays.
    pub keeps_name: bool,
    /// Whether it takes values for those of a counter.
    pub is_of_counters: bool,
    /// Whether it is 1 where no series has a value.
    pub is_of_absence: bool,
    /// How far beyond a window it can look.
    pub extent: Extent,
}

/// How far beyond a window a function can look: each of these includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    Plain,
    Anchored,
    Smoothed,
}

/// What is found out about a series once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Facts {
    Nothing,
    Resets,
    Changes,
}

/// A function of windows that hold any sample.
pub(super) const fn windows(kernel: Kernel) -> RangeFunction {
    RangeFunction {
        kernel,
        several: None,
        of_floats: false,
        facts: Facts::Nothing,
        keeps_name: false,
        is_of_counters: false,
        is_of_absence: false,
        extent: Extent::Plain,
    }
}

/// A function of windows that hold a float; histograms beside it are remarked on.
pub(super) const fn floats(kernel: Kernel) -> RangeFunction {
    RangeFunction {
        of_floats: true,
        ..windows(kernel)
    }
}

impl RangeFunction {
    pub(super) const fn several(self, several: fn([&[f64]; LANES]) -> [f64; LANES]) -> Self {
        Self {
            several: Some(several),
            ..self
        }
    }

    pub(super) const fn with_resets(self) -> Self {
        Self {
            facts: Facts::Resets,
            ..self
        }
    }

    pub(super) const fn with_changes(self) -> Self {
        Self {
            facts: Facts::Changes,
            ..self
        }
    }

    pub(super) const fn of_counters(self) -> Self {
        Self {
            is_of_counters: true,
            ..self.with_resets()
        }
    }

    pub(super) const fn of_absence(self) -> Self {
        Self {
            is_of_absence: true,
            ..self
        }
    }

    pub(super) const fn keeping_name(self) -> Self {
        Self {
            keeps_name: true,
            ..self
        }
    }

    pub(super) const fn reaching(self, extent: Extent) -> Self {
        Self { extent, ..self }
    }

    /// The value for a window that holds at least one sample.
    #[inline]
    pub fn evaluate(&self, window: &Window<'_>, params: &[f64], remarks: &mut Remarks) -> Computed {
        if self.of_floats {
            if window.values().is_empty() {
                return Ok(None);
            }
            remarks.histograms_ignored |= !window.histogram_times().is_empty();
        }
        (self.kernel)(window, params, remarks)
    }
}

/// A scalar argument; one for each that the function has.
pub(super) fn param(params: &[f64], at: usize) -> f64 {
    params.get(at).copied().unwrap_or(f64::NAN)
}

/// A result that is a float, if there is one.
pub(super) fn float(value: Option<f64>) -> Computed {
    Ok(value.map(Point::Float))
}

/// What is found out about a series once, for all its windows.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// Indexes of floats that are smaller than their predecessor, or say that their count began
    /// after it.
    pub resets: Vec<u32>,
    /// Indexes of floats whose count is said to have begun before their predecessor, and not with
    /// it.
    pub overlaps: Vec<u32>,
    /// For every histogram whether it has decreased since the one before; nothing if nobody needs
    /// to know.
    histogram_decreases: Vec<bool>,
    /// For every float the number of changes of value up to it.
    pub changes: Vec<u32>,
    /// For `min` and `max`: index of the best float so far, and how many floats were looked at.
    pub best: Cell<Option<(usize, usize)>>,
}

impl Prepared {
    pub fn new(function: &RangeFunction, points: &Points) -> Self {
        let mut prepared = Self::default();
        match function.facts {
            Facts::Resets => {
                for (index, pair) in points.values.windows(2).enumerate() {
                    if pair[1] < pair[0] || points.starts_anew(index + 1) {
                        prepared.resets.push(index as u32 + 1);
                    }
                }
                for (index, (starts, times)) in points
                    .start_times
                    .windows(2)
                    .zip(points.times.windows(2))
                    .enumerate()
                {
                    if rate::is_start_overlap(starts[0], times[0], starts[1]) {
                        prepared.overlaps.push(index as u32 + 1);
                    }
                }
                let pairs = points
                    .histograms
                    .windows(2)
                    .map(|pair| reset::detect(&pair[1], &pair[0]));
                prepared.histogram_decreases.extend(
                    (!points.histograms.is_empty())
                        .then_some(false)
                        .into_iter()
                        .chain(pairs),
                );
            }
            Facts::Changes if points.histograms.is_empty() => {
                let mut count = 0;
                prepared.changes.reserve(points.values.len());
                for (index, value) in points.values.iter().enumerate() {
                    if index > 0 && rate::differ(points.values[index - 1], *value) {
                        count += 1;
                    }
                    prepared.changes.push(count);
                }
            }
            _ => {}
        }
        prepared
    }

    /// Whether a histogram has decreased since the one before it.
    pub fn histogram_decreased(&self, index: usize) -> bool {
        self.histogram_decreases
            .get(index)
            .copied()
            .unwrap_or(false)
    }
}

/// The samples that a function sees at one step.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    pub points: &'a Points,
    /// First float of the window, and one past the last.
    pub low: usize,
    pub high: usize,
    pub histogram_low: usize,
    pub histogram_high: usize,
    /// The window is `(start, end]`. With [`Reach::Anchored`] and [`Reach::Smoothed`] there are
    /// samples beyond it.
    pub start: i64,
    pub end: i64,
    /// Length of the window in milliseconds.
    pub range: i64,
    /// The time of the step.
    pub time: i64,
    pub reach: Reach,
    pub prepared: &'a Prepared,
}

impl<'a> Window<'a> {
    pub fn times(&self) -> &'a [i64] {
        &self.points.times[self.low..self.high]
    }

    pub fn values(&self) -> &'a [f64] {
        &self.points.values[self.low..self.high]
    }

    pub fn histogram_times(&self) -> &'a [i64] {
        &self.points.histogram_times[self.histogram_low..self.histogram_high]
    }

    pub fn histograms(&self) -> &'a [Arc<Histogram>] {
        &self.points.histograms[self.histogram_low..self.histogram_high]
    }

    /// When what the histograms count began; empty if nobody said so.
    pub fn histogram_start_times(&self) -> &'a [i64] {
        self.points
            .histogram_start_times
            .get(self.histogram_low..self.histogram_high)
            .unwrap_or(&[])
    }

    /// Whether a histogram (by its index in the whole series) begins anew after the one before it.
    pub fn is_histogram_reset(&self, index: usize) -> bool {
        self.prepared.histogram_decreased(index) || self.points.histogram_starts_anew(index)
    }

    /// Whether there are histograms but no floats.
    pub fn has_only_histograms(&self) -> bool {
        self.low == self.high && self.histogram_low < self.histogram_high
    }

    /// Whether there are both; remarks on it.
    pub fn mixed(&self, remarks: &mut Remarks) -> bool {
        let mixed = self.low < self.high && self.histogram_low < self.histogram_high;
        remarks.mixed |= mixed;
        mixed
    }

    /// When what the floats count began; empty if nobody said so.
    pub fn start_times(&self) -> &'a [i64] {
        self.points
            .start_times
            .get(self.low..self.high)
            .unwrap_or(&[])
    }

    /// Indexes (into the whole series) of floats in the window that begin anew after their
    /// predecessor in it.
    pub fn resets(&self) -> &'a [u32] {
        self.with_predecessor(&self.prepared.resets)
    }

    /// Whether a float in the window is said to have begun to count before its predecessor in it.
    pub fn has_overlap(&self) -> bool {
        !self.with_predecessor(&self.prepared.overlaps).is_empty()
    }

    /// Those of ascending indexes of floats that lie in the window together with the float before.
    fn with_predecessor(&self, indexes: &'a [u32]) -> &'a [u32] {
        let from = indexes.partition_point(|index| (*index as usize) <= self.low);
        let to = indexes.partition_point(|index| (*index as usize) < self.high);
        indexes.get(from..to).unwrap_or(&[])
    }
}

/// What is worth a remark; reported once per series.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    /// Floats and histograms in one window.
    pub mixed: bool,
    /// Histograms beside the floats were left out.
    pub histograms_ignored: bool,
    /// Counts that are said to have begun before an earlier sample.
    pub overlap: bool,
    /// Histograms with exponential and with custom buckets in one window.
    pub mixed_layouts: bool,
    /// A gauge histogram where a counter is meant, or the other way round.
    pub not_counter: bool,
    pub not_gauge: bool,
    /// Histograms that were added up contradicted each other on counter resets.
    pub conflicting_resets: bool,
    reconciled: Vec<Operation>,
    quantiles: Vec<f64>,
}

/// Most different quantiles out of range that are remarked on: there may be one for each step.
const MAX_QUANTILES: usize = 4096;

impl Remarks {
    /// Notes a quantile that is none.
    pub fn quantile(&mut self, q: f64) {
        let known = |other: &f64| other.to_bits() == q.to_bits();
        if !(0.0..=1.0).contains(&q)
            && self.quantiles.len() < MAX_QUANTILES
            && !self.quantiles.iter().any(known)
        {
            self.quantiles.push(q);
        }
    }

    /// Notes that custom bounds had to be reconciled.
    pub fn reconciled(&mut self, operation: Operation) {
        if !self.reconciled.contains(&operation) {
            self.reconciled.push(operation);
        }
    }

    /// Hands the remarks over.
    pub fn report(
        &self,
        function: &RangeFunction,
        points: &Points,
        has_floats: bool,
        span: Span,
        collector: &mut Collector,
    ) {
        let metric = points.labels.metric_name();
        if self.mixed {
            collector.mixed_floats_histograms(metric, span);
        }
        if self.histograms_ignored {
            collector.histogram_ignored_in_range(metric, span);
        }
        if self.overlap {
            collector.start_time_overlap(metric, span);
        }
        if self.mixed_layouts {
            collector.mixed_exponential_custom(metric, span);
        }
        if self.not_counter {
            collector.histogram_not_counter(metric, span);
        }
        if self.not_gauge {
            collector.histogram_not_gauge(metric, span);
        }
        if self.conflicting_resets {
            collector.conflicting_resets(Operation::Aggregation, span);
        }
        for operation in &self.reconciled {
            collector.reconciled_bounds(*operation, span);
        }
        for q in &self.quantiles {
            collector.invalid_quantile(*q, span);
        }
        let has_counter_name = ["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|suffix| metric.ends_with(suffix));
        if function.is_of_counters && has_floats && !metric.is_empty() && !has_counter_name {
            collector.possible_non_counter(metric, span);
        }
    }
}
