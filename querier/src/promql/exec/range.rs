//! Range functions, fused with the selector or subquery that they read.
//!
//! Windows are pairs of indexes that only move forward; no sample is copied into a window.

use std::array;
use std::ops::Range;
use std::sync::Arc;

use tidelake_catalog::model::TimeRange;

use super::super::functions::Function;
use super::super::functions::extended::extend;
use super::super::functions::over_time::LANES;
use super::super::functions::range::{Prepared, RangeFunction, Remarks, Window};
use super::super::histogram::weight;
use super::super::parse::ast::{Reach, Span};
use super::super::source::{Part, SeriesSamples};
use super::QueryError;
use super::annotations::Collector;
use super::grid::Grid;
use super::limits::{Charge, Limits};
use super::profile::Profile;
use super::row::{Row, Rows, is_absent};
use super::scalar::Scalar;
use super::selector::{Points, RangeSelect, Select, points_bytes};
use super::series::SeriesKernel;
use super::stats::Counter;
use super::subquery::Subquery;
use super::work::{Scan, Work};

/// A call of a function over windows of samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeCall {
    pub function: &'static Function,
    pub range_function: &'static RangeFunction,
    /// Where the first argument stands: annotations point there.
    pub span: Span,
}

/// What is the same for all series of a call.
struct Sliding {
    function: &'static RangeFunction,
    grid: Grid,
    range: i64,
    offset: i64,
    at: Option<i64>,
    reach: Reach,
    lookback: i64,
    /// Scalar arguments: one value per step each.
    params: Vec<Scalar>,
    /// Where the first argument stands.
    span: Span,
    limits: Arc<Limits>,
    counter: Counter,
}

/// Steps, or samples of a window, after which it is worth to look at the limits.
const STEPS_BETWEEN_CHECKS: usize = 256;
const LARGE_WINDOW: usize = 4096;

/// A range function over the windows of a selector.
pub(crate) struct SelectorWindows {
    matrix: Arc<RangeSelect>,
    sliding: Sliding,
}

impl SelectorWindows {
    /// The windows of these steps. `params` are the scalar arguments.
    pub fn new(
        work: &Work,
        call: &RangeCall,
        matrix: &Arc<RangeSelect>,
        params: Vec<Scalar>,
        grid: Grid,
    ) -> Self {
        let select = &matrix.select;
        Self {
            sliding: Sliding {
                range: matrix.range,
                offset: select.offset,
                at: select.at,
                reach: select.reach,
                ..Sliding::new(work, call, params, grid)
            },
            matrix: Arc::clone(matrix),
        }
    }
}

impl SeriesKernel for SelectorWindows {
    fn select(&self) -> &Select {
        &self.matrix.select
    }

    fn time_range(&self) -> TimeRange {
        match self.sliding.grid.count {
            0 => TimeRange::EMPTY,
            _ => self.sliding.time_range(),
        }
    }

    fn need(&self, samples: &SeriesSamples) -> usize {
        let with_histograms = !samples.histograms.is_empty();
        Row::bytes_of(self.sliding.grid.count, with_histograms) + Points::bytes_of(samples)
    }

    fn row(
        &self,
        samples: SeriesSamples,
        remarks: &mut Collector,
    ) -> Result<Option<Row>, QueryError> {
        self.sliding.evaluate(&Points::new(samples), remarks)
    }
}

/// Evaluates a range function over the samples that a subquery made.
pub(crate) fn over_subquery(
    work: &Work,
    call: &RangeCall,
    subquery: &Subquery,
    points: &[Points],
    params: Vec<Scalar>,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let sliding = Sliding {
        range: subquery.range,
        offset: subquery.offset,
        at: subquery.at,
        ..Sliding::new(work, call, params, grid)
    };
    let mut charge = work.limits.charge(size_of_val(points))?;
    let mut rows = Vec::with_capacity(points.len());
    let mut remarks = Collector::default();
    for points in points {
        work.limits.check()?;
        let with_histograms = !points.histograms.is_empty();
        charge.reserve(Row::bytes_of(grid.count, with_histograms) + points.prepared_bytes())?;
        if let Some(row) = sliding.evaluate(points, &mut remarks)? {
            charge.take(row.heap_bytes())?;
            rows.push(row);
        }
    }
    work.annotate(|all| all.merge(remarks));
    Rows::new(rows, charge)
}

impl Sliding {
    /// Windows of no length.
    fn new(work: &Work, call: &RangeCall, params: Vec<Scalar>, grid: Grid) -> Self {
        Self {
            function: call.range_function,
            grid,
            range: 0,
            offset: 0,
            at: None,
            reach: Reach::Plain,
            lookback: work.lookback,
            params,
            span: call.span,
            limits: Arc::clone(&work.limits),
            counter: work.counter(grid),
        }
    }

    fn reference(&self, time: i64) -> i64 {
        self.at.unwrap_or(time).saturating_sub(self.offset)
    }

    /// How far samples before and after the window count.
    fn margins(&self) -> (i64, i64) {
        match self.reach {
            Reach::Plain => (0, 0),
            Reach::Anchored => (self.lookback, 0),
            Reach::Smoothed => (self.lookback, self.lookback),
        }
    }

    /// All samples that any window needs.
    fn time_range(&self) -> TimeRange {
        let (before, after) = self.margins();
        let start = self
            .reference(self.grid.start)
            .saturating_sub(self.range)
            .saturating_sub(before);
        TimeRange::new(
            start.saturating_add(1),
            self.reference(self.grid.end()).saturating_add(after),
        )
    }

    fn evaluate(
        &self,
        points: &Points,
        collector: &mut Collector,
    ) -> Result<Option<Row>, QueryError> {
        let mut row = Row::empty(
            points.labels.clone(),
            points.drop_name || !self.function.keeps_name,
            self.grid.count,
        );
        let prepared = Prepared::new(self.function, points);
        let mut remarks = Remarks::default();
        let (before, after) = self.margins();
        let (mut low, mut high, mut histogram_low, mut histogram_high) = (0, 0, 0, 0);
        let mut params = vec![0.0; self.params.len()];
        let several = self.function.several;
        let several = several.filter(|_| points.histograms.is_empty());
        let mut waiting = Waiting::default();
        for step in 0..self.grid.count {
            let time = self.grid.time(step);
            let end = self.reference(time);
            let start = end.saturating_sub(self.range);
            let (from, to) = (start.saturating_sub(before), end.saturating_add(after));
            advance(&points.times, &mut high, to);
            advance(&points.times, &mut low, from);
            if !points.histogram_times.is_empty() {
                advance(&points.histogram_times, &mut histogram_high, to);
                advance(&points.histogram_times, &mut histogram_low, from);
            }
            if low == high && histogram_low == histogram_high {
                continue;
            }
            // One series may be hours of work.
            if step % STEPS_BETWEEN_CHECKS == 0 || high - low > LARGE_WINDOW {
                self.limits.check()?;
            }
            if self.counter.is_counting() {
                let histograms = points
                    .histograms
                    .get(histogram_low..histogram_high)
                    .unwrap_or_default();
                self.counter.add(
                    step,
                    (high - low) as u64
                        + histograms
                            .iter()
                            .map(|histogram| weight(histogram))
                            .sum::<u64>(),
                );
            }
            if let Some(several) = several {
                waiting.push(step, low..high);
                if waiting.count == LANES {
                    waiting.evaluate(several, &points.values, &mut row.values);
                }
                continue;
            }
            for (param, values) in params.iter_mut().zip(&self.params) {
                *param = values[step];
            }
            let window = Window {
                points,
                low,
                high,
                histogram_low,
                histogram_high,
                start,
                end,
                range: self.range,
                time,
                reach: self.reach,
                prepared: &prepared,
            };
            if let Some(point) = self.function.evaluate(&window, &params, &mut remarks)? {
                row.set(step, point);
            }
        }
        if let Some(several) = several {
            waiting.evaluate(several, &points.values, &mut row.values);
        }
        remarks.report(
            self.function,
            points,
            !row.values.iter().all(|v| is_absent(*v)),
            self.span,
            collector,
        );
        Ok((!row.is_empty()).then_some(row))
    }
}

/// Windows of floats that are evaluated together.
#[derive(Default)]
struct Waiting {
    steps: [usize; LANES],
    windows: [Range<usize>; LANES],
    count: usize,
}

impl Waiting {
    fn push(&mut self, step: usize, window: Range<usize>) {
        (self.steps[self.count], self.windows[self.count]) = (step, window);
        self.count += 1;
    }

    fn evaluate(
        &mut self,
        several: fn([&[f64]; LANES]) -> [f64; LANES],
        values: &[f64],
        to: &mut [f64],
    ) {
        // Those that are missing are the first once more.
        let filled = |lane: usize| if lane < self.count { lane } else { 0 };
        if self.count > 0 {
            let windows = array::from_fn(|lane| &values[self.windows[filled(lane)].clone()]);
            let results = several(windows);
            for lane in 0..self.count {
                to[self.steps[lane]] = results[lane];
            }
        }
        self.count = 0;
    }
}

/// Moves an index past all times up to `time`.
#[inline]
fn advance(times: &[i64], index: &mut usize, time: i64) {
    while times.get(*index).is_some_and(|t| *t <= time) {
        *index += 1;
    }
}

/// The raw samples of the window at the first step, by labels.
pub(crate) async fn raw(
    work: &Work,
    matrix: &RangeSelect,
    grid: Grid,
    profile: Option<Arc<Profile>>,
) -> Result<(Vec<Points>, Charge), QueryError> {
    let end = matrix.select.reference(grid.start);
    let start = end.saturating_sub(matrix.range);
    let reach = matrix.select.reach;
    let (before, after) = match reach {
        Reach::Plain => (0, 0),
        Reach::Anchored => (work.lookback, 0),
        Reach::Smoothed => (work.lookback, work.lookback),
    };
    let scan = Scan {
        select: &matrix.select,
        range: TimeRange::new(
            start.saturating_sub(before).saturating_add(1),
            end.saturating_add(after),
        ),
        part: Part::WHOLE,
        is_ordered: false,
        divided: None,
        profile,
    };
    let points_of = move |samples: SeriesSamples, _: &mut Collector| {
        let mut points = Points::new(samples);
        if reach != Reach::Plain {
            if !points.histograms.is_empty() {
                let modifier = if reach == Reach::Anchored {
                    "anchored"
                } else {
                    "smoothed"
                };
                return Err(QueryError::execution(format!(
                    "{modifier} modifier is not supported with histograms"
                )));
            }
            extend(&mut points, start, end, reach == Reach::Smoothed);
        }
        Ok((points.len() > 0).then_some(points))
    };
    let (mut points, mut charge) = work.map_series(scan, Points::bytes_of, points_of).await?;
    charge.reserve(size_of_val(&points[..]) / 2)?;
    points.sort_by(|a, b| a.labels.cmp(&b.labels));
    work.counter(grid)
        .add(0, points.iter().map(Points::weight).sum());
    charge.settle(points_bytes(&points))?;
    Ok((points, charge))
}
