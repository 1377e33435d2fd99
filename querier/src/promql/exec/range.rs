//! Range functions, fused with the selector or subquery that they read.
//!
//! Windows are pairs of indexes that only move forward; no sample is copied into a window.

use std::array;
use std::ops::Range;
use std::sync::Arc;

use tidelake_catalog::model::TimeRange;

use super::super::functions::over_time::LANES;
use super::super::functions::range::{Prepared, RangeFunction, Remarks, Window};
use super::super::histogram::weight;
use super::super::parse::ast::{Reach, Span};
use super::super::source::SeriesSamples;
use super::QueryError;
use super::annotations::Collector;
use super::engine::{Engine, sort_rows};
use super::grid::Grid;
use super::limits::{Charge, Limits};
use super::plan::{RangeArg, RangeCall, RangeSelect};
use super::row::{Row, Rows, is_absent, labels_bytes, rows_bytes};
use super::scalar::Scalar;
use super::selector::{Points, points_bytes};
use super::stats::Counter;
use super::subquery;

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

/// Evaluates a range function.
pub(crate) async fn evaluate(
    engine: &Engine,
    call: &RangeCall,
    grid: Grid,
) -> Result<Rows, QueryError> {
    if grid.count == 0 {
        return Ok(Rows::default());
    }
    let mut params = Vec::with_capacity(call.args.len());
    for arg in &call.args {
        params.push(engine.scalar(arg, grid).await?);
    }
    let sliding = |range, offset, at, reach| Sliding {
        function: call.function,
        grid,
        range,
        offset,
        at,
        reach,
        lookback: engine.lookback,
        params,
        span: call.span,
        limits: Arc::clone(&engine.limits),
        counter: engine.counter(grid),
    };
    let rows = match &call.range {
        RangeArg::Matrix(matrix) => {
            let sliding = sliding(
                matrix.range,
                matrix.select.offset,
                matrix.select.at,
                matrix.select.reach,
            );
            let range = sliding.time_range();
            let work = move |samples: SeriesSamples, remarks: &mut Collector| {
                sliding.evaluate(&Points::new(samples), remarks)
            };
            let need = move |samples: &SeriesSamples| {
                let with_histograms = !samples.histograms.is_empty();
                Row::bytes_of(grid.count, with_histograms) + Points::bytes_of(samples)
            };
            let (mut rows, mut charge) =
                engine.map_series(&matrix.select, range, need, work).await?;
            sort_rows(&mut rows, &mut charge)?;
            charge.settle(rows_bytes(&rows))?;
            Rows::charged(rows, charge)
        }
        RangeArg::Subquery(node) => {
            let (points, _charge) = subquery::evaluate(engine, node, grid).await?;
            let sliding = sliding(node.range, node.offset, node.at, Reach::Plain);
            let mut charge = engine.limits.charge(points.len() * size_of::<Row>())?;
            let mut rows = Vec::with_capacity(points.len());
            let mut remarks = Collector::default();
            for points in &points {
                engine.limits.check()?;
                let with_histograms = !points.histograms.is_empty();
                charge.reserve(
                    Row::bytes_of(grid.count, with_histograms) + points.prepared_bytes(),
                )?;
                if let Some(row) = sliding.evaluate(points, &mut remarks)? {
                    charge.take(row.heap_bytes())?;
                    rows.push(row);
                }
            }
            engine.annotate(|all| all.merge(remarks));
            Rows::new(rows, charge)?
        }
    };
    if call.function.is_of_absence {
        return absent(engine, call, &rows, grid);
    }
    Ok(rows)
}

/// 1 at every step at which no series has a sample.
fn absent(engine: &Engine, call: &RangeCall, rows: &Rows, grid: Grid) -> Result<Rows, QueryError> {
    let labels = &call.absent_labels;
    let charge = engine
        .limits
        .charge(Row::bytes_of(grid.count, false) + labels_bytes(labels))?;
    let mut row = Row::floats(labels.clone(), true, vec![1.0; grid.count]);
    for (step, value) in row.values.iter_mut().enumerate() {
        if rows.list.iter().any(|row| !is_absent(row.values[step])) {
            *value = super::ABSENT;
        }
    }
    Rows::new(vec![row], charge)
}

impl Sliding {
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

/// The raw samples of a window, by labels.
pub(crate) async fn raw(
    engine: &Engine,
    matrix: &Arc<RangeSelect>,
    time: i64,
) -> Result<(Vec<Points>, Charge), QueryError> {
    let end = matrix.select.reference(time);
    let start = end.saturating_sub(matrix.range);
    let reach = matrix.select.reach;
    let (before, after) = match reach {
        Reach::Plain => (0, 0),
        Reach::Anchored => (engine.lookback, 0),
        Reach::Smoothed => (engine.lookback, engine.lookback),
    };
    let range = TimeRange::new(
        start.saturating_sub(before).saturating_add(1),
        end.saturating_add(after),
    );
    let work = move |samples: SeriesSamples, _: &mut Collector| {
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
            super::super::functions::extended::extend(
                &mut points,
                start,
                end,
                reach == Reach::Smoothed,
            );
        }
        Ok((points.len() > 0).then_some(points))
    };
    let (mut points, mut charge) = engine
        .map_series(&matrix.select, range, Points::bytes_of, work)
        .await?;
    charge.reserve(size_of_val(&points[..]) / 2)?;
    points.sort_by(|a, b| a.labels.cmp(&b.labels));
    engine
        .counter(Grid {
            start: time,
            step: 1,
            count: 1,
        })
        .add(0, points.iter().map(Points::weight).sum());
    charge.settle(points_bytes(&points))?;
    Ok((points, charge))
}
