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
use super::{extended, histogram_rate, over_time, rate, regression};

/// A function over windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Resets,
    Changes,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Quantile,
    Stddev,
    Stdvar,
    Mad,
    First,
    Last,
    Present,
    Absent,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMin,
    TimeOfMax,
}

impl RangeFunction {
    /// The function of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::Irate,
            "idelta" => Self::Idelta,
            "resets" => Self::Resets,
            "changes" => Self::Changes,
            "deriv" => Self::Deriv,
            "predict_linear" => Self::PredictLinear,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            "sum_over_time" => Self::Sum,
            "avg_over_time" => Self::Avg,
            "min_over_time" => Self::Min,
            "max_over_time" => Self::Max,
            "count_over_time" => Self::Count,
            "quantile_over_time" => Self::Quantile,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "mad_over_time" => Self::Mad,
            "first_over_time" => Self::First,
            "last_over_time" => Self::Last,
            "present_over_time" => Self::Present,
            "absent_over_time" => Self::Absent,
            "ts_of_first_over_time" => Self::TimeOfFirst,
            "ts_of_last_over_time" => Self::TimeOfLast,
            "ts_of_min_over_time" => Self::TimeOfMin,
            "ts_of_max_over_time" => Self::TimeOfMax,
            _ => return None,
        })
    }

    /// Whether the result still is a value of the metric, so that its name stays.
    pub fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    /// The value for a window that holds at least one sample.
    pub fn evaluate(
        self,
        window: &Window<'_>,
        params: &[f64],
        remarks: &mut Remarks,
    ) -> Result<Option<Point>, QueryError> {
        let param = |index: usize| params.get(index).copied().unwrap_or(f64::NAN);
        let float = |value: Option<f64>| Ok(value.map(Point::Float));
        match self {
            Self::Rate | Self::Increase | Self::Delta => {
                let (is_counter, per_second) = (self != Self::Delta, self == Self::Rate);
                if window.mixed(remarks) {
                    return Ok(None);
                }
                if window.has_only_histograms() {
                    return Ok(match window.reach {
                        Reach::Plain => {
                            histogram_rate::extrapolated(window, is_counter, per_second, remarks)
                        }
                        _ => histogram_rate::extended(window, is_counter, per_second, remarks),
                    });
                }
                remarks.overlap |=
                    is_counter && window.reach == Reach::Plain && window.has_overlap();
                float(match window.reach {
                    Reach::Plain => rate::extrapolated(window, is_counter, per_second),
                    _ => extended::rate(window, is_counter, per_second),
                })
            }
            Self::Irate => Ok(rate::instant(window, true, remarks)),
            Self::Idelta => Ok(rate::instant(window, false, remarks)),
            Self::Resets => float(rate::resets(window)),
            Self::Changes => float(rate::changes(window)),
            Self::Deriv => float(regression::deriv(window, remarks)),
            Self::PredictLinear => float(regression::predict(window, param(0), remarks)),
            Self::DoubleExponentialSmoothing => float(regression::double_exponential(
                window,
                param(0),
                param(1),
                remarks,
            )?),
            Self::Sum | Self::Avg => {
                if window.mixed(remarks) {
                    return Ok(None);
                }
                if window.has_only_histograms() {
                    return Ok(over_time::histograms(
                        window.histograms(),
                        self == Self::Avg,
                        remarks,
                    ));
                }
                float(Some(if self == Self::Sum {
                    over_time::sum(window.values())
                } else {
                    over_time::avg(window.values())
                }))
            }
            Self::Count => float(Some(
                (window.values().len() + window.histogram_times().len()) as f64,
            )),
            Self::Present | Self::Absent => float(Some(1.0)),
            Self::First => Ok(over_time::first(window)),
            Self::Last => Ok(over_time::last(window)),
            Self::TimeOfFirst => float(over_time::first_time(window)),
            Self::TimeOfLast => float(over_time::last_time(window)),
            _ if window.values().is_empty() => Ok(None),
            _ => {
                remarks.histograms_ignored |= !window.histogram_times().is_empty();
                let values = window.values();
                float(Some(match self {
                    Self::Min => over_time::extreme(window, |value, least| value < least),
                    Self::Max => over_time::extreme(window, |value, most| value > most),
                    Self::TimeOfMin => over_time::time_of_min(window),
                    Self::TimeOfMax => over_time::time_of_max(window),
                    Self::Stdvar => over_time::variance(values),
                    Self::Stddev => over_time::variance(values).sqrt(),
                    Self::Mad => over_time::median_absolute_deviation(values),
                    _ => {
                        let q = param(0);
                        remarks.quantile(q);
                        super::super::exec::number::quantile(q, &mut values.to_vec())
                    }
                }))
            }
        }
    }
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
    pub fn new(function: RangeFunction, points: &Points) -> Self {
        let mut prepared = Self::default();
        match function {
            RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Resets => {
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
            RangeFunction::Changes if points.histograms.is_empty() => {
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
        function: RangeFunction,
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
        let is_counter_function = matches!(function, RangeFunction::Rate | RangeFunction::Increase);
        let has_counter_name = ["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|suffix| metric.ends_with(suffix));
        if is_counter_function && has_floats && !metric.is_empty() && !has_counter_name {
            collector.possible_non_counter(metric, span);
        }
    }
}
