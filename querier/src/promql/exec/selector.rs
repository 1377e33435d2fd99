//! Instant selectors: for every step the last sample within the lookback window.

use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use tidelake_catalog::model::{Histogram, Labels, Matcher, ResetHint, TimeRange, is_stale};

use super::super::functions::rate::is_start_reset;
use super::super::histogram::bounds::is_custom;
use super::super::histogram::interpolate::interpolate;
use super::super::histogram::weight;
use super::super::parse::ast::{Reach, Span};
use super::super::source::SeriesSamples;
use super::QueryError;
use super::annotations::{Collector, Operation};
use super::grid::Grid;
use super::row::{Point, Row, distinct_bytes, is_absent, labels_bytes};
use super::series::SeriesKernel;
use super::stats::Counter;
use super::work::Work;

/// An instant selector.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub matchers: Vec<Matcher>,
    pub offset: i64,
    pub at: Option<i64>,
    pub reach: Reach,
    pub span: Span,
    /// Of histograms only count and sum are needed, see `reset_hints`.
    pub counts_only: bool,
}

impl Select {
    /// The time that is looked at when a step is evaluated.
    #[inline]
    pub fn reference(&self, time: i64) -> i64 {
        self.at.unwrap_or(time).saturating_sub(self.offset)
    }
}

/// A range selector.
#[derive(Debug, Clone)]
pub(crate) struct RangeSelect {
    pub select: Select,
    pub range: i64,
}

/// What of a sample is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Its value.
    Values,
    /// When it was taken, in seconds.
    Times,
    /// When what it counts began, in seconds; 0 if nobody said so.
    StartTimes,
    /// When it was taken, in milliseconds; the name stays, and so does a histogram.
    RawTimes,
}

/// Bytes of a point that is copied.
const COPIED_BYTES: usize = 16;
/// Bytes that a range function may note of a point, or copy of it.
const PREPARED_BYTES: usize = 8;

/// Samples of one series without stale markers, floats and histograms apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Points {
    pub labels: Labels,
    /// See [`Row::drop_name`].
    pub drop_name: bool,
    /// Times of the floats.
    pub times: ScalarBuffer<i64>,
    pub values: ScalarBuffer<f64>,
    pub histogram_times: Vec<i64>,
    pub histograms: Vec<Arc<Histogram>>,
    /// When what the floats count began, see [`SeriesSamples::start_times`]; empty if nobody said
    /// so.
    pub start_times: Vec<i64>,
    /// The same for the histograms.
    pub histogram_start_times: Vec<i64>,
}

impl Points {
    /// Takes the samples over; only series with histograms or stale markers are copied.
    pub fn new(samples: SeriesSamples) -> Self {
        let SeriesSamples {
            labels,
            times,
            values,
            histograms,
            start_times,
        } = samples;
        if histograms.is_empty() && !values.iter().any(|value| is_stale(*value)) {
            return Self {
                labels,
                times,
                values,
                start_times,
                ..Self::default()
            };
        }
        let floats = times.len() - histograms.len().min(times.len());
        let (mut float_times, mut floats) =
            (Vec::with_capacity(floats), Vec::with_capacity(floats));
        let mut points = Self {
            labels,
            histogram_times: Vec::with_capacity(histograms.len()),
            histograms: Vec::with_capacity(histograms.len()),
            ..Self::default()
        };
        let mut pending = histograms.into_iter().peekable();
        for (row, (&time, &value)) in times.iter().zip(values.iter()).enumerate() {
            if let Some((_, histogram)) = pending.next_if(|(at, _)| *at as usize == row) {
                if !is_stale(histogram.sum) {
                    points.histogram_times.push(time);
                    points.histograms.push(histogram);
                    points.histogram_start_times.extend(start_times.get(row));
                }
            } else if !is_stale(value) {
                float_times.push(time);
                floats.push(value);
                points.start_times.extend(start_times.get(row));
            }
        }
        (points.times, points.values) = (float_times.into(), floats.into());
        points
    }

    /// Bytes that [`Points::new`] and what range functions find out about a series allocate.
    pub fn bytes_of(samples: &SeriesSamples) -> usize {
        // Points without histograms are taken over, unless there is a stale marker among them.
        (COPIED_BYTES + PREPARED_BYTES) * samples.times.len() + 16 * samples.start_times.len()
    }

    /// What range functions find out about points, and the copy of a window that some make.
    pub fn prepared_bytes(&self) -> usize {
        PREPARED_BYTES * self.len()
    }

    /// Bytes that [`Points::from_row`] allocates.
    pub fn bytes_of_row(row: &Row) -> usize {
        let histograms = row
            .histograms
            .as_ref()
            .map_or(0, |all| all.iter().flatten().count());
        let floats = row
            .values
            .iter()
            .filter(|value| !is_absent(**value))
            .count();
        16 * (floats + histograms)
    }

    /// Bytes in memory, without its place in a list.
    pub fn heap_bytes(&self) -> usize {
        let numbers = self.times.len()
            + self.values.len()
            + self.histogram_times.capacity()
            + self.histograms.capacity()
            + self.start_times.capacity()
            + self.histogram_start_times.capacity();
        labels_bytes(&self.labels) + 8 * numbers + distinct_bytes(self.histograms.iter())
    }

    /// The present values of a row.
    pub fn from_row(row: Row, grid: Grid) -> Self {
        let histograms = row
            .histograms
            .as_ref()
            .map_or(0, |all| all.iter().flatten().count());
        let floats = row
            .values
            .iter()
            .filter(|value| !is_absent(**value))
            .count();
        if histograms == 0 && floats == row.values.len() {
            return Self {
                labels: row.labels,
                drop_name: row.drop_name,
                times: grid.times().collect(),
                values: row.values.into(),
                ..Self::default()
            };
        }
        let (mut times, mut values) = (Vec::with_capacity(floats), Vec::with_capacity(floats));
        let mut points = Self {
            labels: row.labels.clone(),
            drop_name: row.drop_name,
            histogram_times: Vec::with_capacity(histograms),
            histograms: Vec::with_capacity(histograms),
            ..Self::default()
        };
        for (step, time) in grid.times().enumerate() {
            match row.point(step) {
                Some(Point::Float(value)) => {
                    times.push(time);
                    values.push(value);
                }
                Some(Point::Histogram(histogram)) => {
                    points.histogram_times.push(time);
                    points.histograms.push(histogram);
                }
                None => {}
            }
        }
        (points.times, points.values) = (times.into(), values.into());
        points
    }

    /// Whether the float at an index says that its count began after the float before it.
    #[inline]
    pub fn starts_anew(&self, index: usize) -> bool {
        says_anew(&self.start_times, &self.times, index)
    }

    /// The same for a histogram.
    pub fn histogram_starts_anew(&self, index: usize) -> bool {
        says_anew(&self.histogram_start_times, &self.histogram_times, index)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.times.len() + self.histogram_times.len()
    }

    /// How many floats they count as.
    pub fn weight(&self) -> u64 {
        self.times.len() as u64
            + self
                .histograms
                .iter()
                .map(|histogram| weight(histogram))
                .sum::<u64>()
    }
}

/// Bytes of a list of points.
pub(crate) fn points_bytes(list: &Vec<Points>) -> usize {
    list.capacity() * size_of::<Points>() + list.iter().map(Points::heap_bytes).sum::<usize>()
}

#[inline]
fn says_anew(starts: &[i64], times: &[i64], index: usize) -> bool {
    let at = |list: &[i64]| Some([*list.get(index.checked_sub(1)?)?, *list.get(index)?]);
    match (at(starts), at(times)) {
        (Some(starts), Some(times)) => is_start_reset(starts[0], times[0], starts[1], times[1]),
        _ => false,
    }
}

/// An instant selector at the steps of a query.
pub(crate) struct Instant {
    select: Arc<Select>,
    grid: Grid,
    output: Output,
    lookback: i64,
    counter: Counter,
}

impl Instant {
    /// The selector at some steps.
    pub fn new(work: &Work, select: &Arc<Select>, grid: Grid, output: Output) -> Self {
        Self {
            select: Arc::clone(select),
            grid,
            output,
            lookback: work.lookback,
            counter: work.counter(grid),
        }
    }
}

impl SeriesKernel for Instant {
    fn select(&self) -> &Select {
        &self.select
    }

    fn time_range(&self) -> TimeRange {
        if self.grid.count == 0 {
            return TimeRange::EMPTY;
        }
        let first = self.select.reference(self.grid.start);
        let last = self.select.reference(self.grid.end());
        let ahead = match self.select.reach {
            Reach::Smoothed => self.lookback,
            _ => 0,
        };
        TimeRange::new(
            first.saturating_sub(self.lookback).saturating_add(1),
            last.saturating_add(ahead),
        )
    }

    fn need(&self, samples: &SeriesSamples) -> usize {
        let copied = match self.select.reach {
            Reach::Smoothed => Points::bytes_of(samples),
            _ => 0,
        };
        Row::bytes_of(self.grid.count, !samples.histograms.is_empty()) + copied
    }

    fn row(
        &self,
        samples: SeriesSamples,
        remarks: &mut Collector,
    ) -> Result<Option<Row>, QueryError> {
        let (select, grid, lookback) = (&*self.select, self.grid, self.lookback);
        let row = match select.reach {
            Reach::Smoothed => smoothed(samples, select, grid, lookback, remarks),
            _ => latest(samples, select, grid, lookback, self.output),
        };
        self.counter.add_row(&row);
        Ok((!row.is_empty()).then_some(row))
    }
}

/// The last sample in `(reference - lookback, reference]` of every step, unless it is a stale
/// marker.
fn latest(
    samples: SeriesSamples,
    select: &Select,
    grid: Grid,
    lookback: i64,
    output: Output,
) -> Row {
    let SeriesSamples {
        labels,
        times,
        values,
        histograms,
        start_times,
    } = samples;
    let mut row = Row::empty(
        labels,
        matches!(output, Output::Times | Output::StartTimes),
        grid.count,
    );
    let (mut next, mut next_histogram) = (0, 0);
    for step in 0..grid.count {
        let reference = select.reference(grid.time(step));
        while times.get(next).is_some_and(|time| *time <= reference) {
            next += 1;
        }
        let Some(last) = next.checked_sub(1) else {
            continue;
        };
        if times[last] <= reference.saturating_sub(lookback) {
            continue;
        }
        while histograms
            .get(next_histogram)
            .is_some_and(|(at, _)| (*at as usize) < last)
        {
            next_histogram += 1;
        }
        let point = match histograms.get(next_histogram) {
            Some((at, histogram)) if *at as usize == last => {
                if is_stale(histogram.sum) {
                    continue;
                }
                Point::Histogram(Arc::clone(histogram))
            }
            _ if is_stale(values[last]) => continue,
            _ => Point::Float(values[last]),
        };
        match output {
            Output::Values => row.set(step, point),
            Output::Times => row.values[step] = times[last] as f64 / 1000.0,
            Output::StartTimes => {
                row.values[step] = start_times.get(last).copied().unwrap_or(0) as f64 / 1000.0
            }
            Output::RawTimes => match point {
                Point::Float(_) => row.values[step] = times[last] as f64,
                Point::Histogram(_) => row.set(step, point),
            },
        }
    }
    row
}

/// `selector smoothed`: the value at every step, interpolated between the samples around it.
fn smoothed(
    samples: SeriesSamples,
    select: &Select,
    grid: Grid,
    lookback: i64,
    remarks: &mut Collector,
) -> Row {
    let points = Points::new(samples);
    let mut row = Row::empty(points.labels.clone(), false, grid.count);
    for step in 0..grid.count {
        let reference = select.reference(grid.time(step));
        let (from, to) = (
            reference.saturating_sub(lookback),
            reference.saturating_add(lookback),
        );
        let inside = |times: &[i64]| {
            times.partition_point(|t| *t <= from)..times.partition_point(|t| *t <= to)
        };
        let (floats, histograms) = (inside(&points.times), inside(&points.histogram_times));
        if !histograms.is_empty() {
            if floats.is_empty() {
                let samples = (
                    &points.histogram_times[histograms.clone()],
                    &points.histograms[histograms],
                );
                if let Some(histogram) = smoothed_histogram(
                    samples,
                    reference,
                    points.labels.metric_name(),
                    select.span,
                    remarks,
                ) {
                    row.set(step, Point::Histogram(histogram));
                }
            } else {
                remarks.mixed_floats_histograms(points.labels.metric_name(), select.span);
            }
            continue;
        }
        let (times, values) = (&points.times[floats.clone()], &points.values[floats]);
        let after = times.partition_point(|t| *t < reference);
        let value = match after {
            _ if times.get(after) == Some(&reference) => values[after],
            0 => continue,
            _ if after == times.len() => values[after - 1],
            _ => {
                let (t0, t1, v0, v1) = (
                    times[after - 1],
                    times[after],
                    values[after - 1],
                    values[after],
                );
                v0 + (v1 - v0) * (reference - t0) as f64 / (t1 - t0) as f64
            }
        };
        row.values[step] = value;
    }
    row
}

/// The histogram at a time, interpolated between the samples around it. Counters are told from
/// gauges by what the samples say.
fn smoothed_histogram(
    (times, histograms): (&[i64], &[Arc<Histogram>]),
    time: i64,
    metric: &str,
    span: Span,
    remarks: &mut Collector,
) -> Option<Arc<Histogram>> {
    let after = times.partition_point(|t| *t < time);
    if times.get(after) == Some(&time) {
        return histograms.get(after).cloned();
    }
    let before = after.checked_sub(1)?;
    let sample = |index: usize| Some((*times.get(index)?, &**histograms.get(index)?));
    let previous = sample(before)?;
    let Some(next) = sample(after) else {
        // What a sample says of the one before it does not hold for its copy.
        return Some(Arc::new(Histogram {
            reset_hint: ResetHint::Unknown,
            ..previous.1.clone()
        }));
    };
    let is_counter = [previous.1, next.1]
        .iter()
        .any(|histogram| histogram.reset_hint != ResetHint::Gauge);
    if is_custom(previous.1) != is_custom(next.1) {
        remarks.mixed_exponential_custom(metric, span);
        return None;
    }
    let (histogram, reconciled) = interpolate(previous, next, time, is_counter).ok()?;
    if reconciled.subtraction {
        remarks.reconciled_bounds(Operation::Subtraction, span);
    }
    if reconciled.addition {
        remarks.reconciled_bounds(Operation::Addition, span);
    }
    Some(Arc::new(histogram))
}
