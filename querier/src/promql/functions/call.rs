//! Functions over instant vectors and scalars.

use std::sync::Arc;

use regex::Regex;
use tidelake_catalog::model::{Histogram, Labels};

use super::super::exec::engine::{Engine, Evaluated};
use super::super::exec::grid::Grid;
use super::super::exec::info::{self, InfoCall};
use super::super::exec::limits::Limits;
use super::super::exec::plan::FunctionCall;
use super::super::exec::row::{ABSENT, Row, Rows, is_absent, labels_bytes};
use super::super::exec::scalar::Scalar;
use super::super::exec::{QueryError, number};
use super::{histogram, label, math, sort, time};

/// A function over instant vectors and scalars, with its string arguments.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// Float to float.
    Map(fn(f64) -> f64),
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    /// Seconds since 1970 to a part of the UTC date.
    Date(fn(i128) -> f64),
    /// The time of evaluation, where there is a value.
    Timestamp,
    /// Nothing: only samples say when their counts began, and those of a selector are looked up
    /// where they are read.
    StartTimestamp,
    Absent(Labels),
    Scalar,
    Vector,
    /// One scalar of two.
    Fold(fn(f64, f64) -> f64),
    Sort {
        descending: bool,
    },
    SortByLabel {
        labels: Vec<String>,
        descending: bool,
    },
    LabelReplace {
        destination: String,
        replacement: String,
        source: String,
        regex: Regex,
    },
    LabelJoin {
        destination: String,
        separator: String,
        sources: Vec<String>,
    },
    HistogramQuantile,
    /// With the name of the label for the quantile.
    HistogramQuantiles(String),
    HistogramFraction,
    /// A number that a native histogram holds.
    HistogramField(fn(&Histogram) -> f64),
    Info(Box<InfoCall>),
}

/// What becomes a [`Call`] by looking at the arguments as they are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bind {
    Absent,
    LabelReplace,
    LabelJoin,
    SortByLabel { descending: bool },
    HistogramQuantiles,
    Info,
}

/// The evaluated arguments of a call, taken one by one.
struct Args(std::vec::IntoIter<Evaluated>);

impl Args {
    fn vector(&mut self) -> Result<Rows, QueryError> {
        match self.0.next() {
            Some(Evaluated::Vector(rows)) => Ok(rows),
            _ => Err(QueryError::BadData(
                "expected an instant vector as argument".to_owned(),
            )),
        }
    }

    fn scalar(&mut self) -> Result<Scalar, QueryError> {
        match self.0.next() {
            Some(Evaluated::Scalar(values)) => Ok(values),
            _ => Err(QueryError::BadData(
                "expected a scalar as argument".to_owned(),
            )),
        }
    }

    fn scalar_or(
        &mut self,
        default: f64,
        steps: usize,
        limits: &Arc<Limits>,
    ) -> Result<Scalar, QueryError> {
        if self.0.len() == 0 {
            Scalar::constant(default, steps, limits)
        } else {
            self.scalar()
        }
    }
}

/// Evaluates a call; string arguments are not among `args`.
pub(crate) async fn evaluate(
    engine: &Engine,
    call: &FunctionCall,
    args: Vec<Evaluated>,
    grid: Grid,
) -> Result<Evaluated, QueryError> {
    let has_args = !args.is_empty();
    let mut args = Args(args.into_iter());
    let span = |index: usize| call.spans.get(index).copied().unwrap_or(call.span);
    let vector = match &call.call {
        Call::Map(function) => map(args.vector()?, |_, value| function(value))?,
        Call::Round => {
            let rows = args.vector()?;
            let nearest = args.scalar_or(1.0, grid.count, &engine.limits)?;
            map(rows, |step, value| math::round(value, nearest[step]))?
        }
        Call::Clamp | Call::ClampMin | Call::ClampMax => {
            let rows = args.vector()?;
            let unbounded = |value| Scalar::constant(value, grid.count, &engine.limits);
            let low = if matches!(call.call, Call::ClampMax) {
                unbounded(f64::NEG_INFINITY)?
            } else {
                args.scalar()?
            };
            let high = if matches!(call.call, Call::ClampMin) {
                unbounded(f64::INFINITY)?
            } else {
                args.scalar()?
            };
            map(rows, |step, value| {
                if high[step] < low[step] {
                    ABSENT
                } else {
                    number::max(low[step], number::min(high[step], value))
                }
            })?
        }
        Call::Date(part) if has_args => map(args.vector()?, |_, value| part(time::seconds(value)))?,
        Call::Date(part) => {
            let values = Scalar::new(grid, &engine.limits, |ms| {
                part(i128::from(ms.div_euclid(1000)))
            })?;
            one_row(Labels::empty(), values)?
        }
        Call::Timestamp => args.vector()?.map(|mut rows| {
            for row in &mut rows {
                for step in 0..grid.count {
                    if row.has(step) {
                        row.values[step] = grid.time(step) as f64 / 1000.0;
                    }
                }
                row.histograms = None;
                row.drop_name = true;
            }
            rows
        })?,
        Call::StartTimestamp => args.vector()?.map(|_| Vec::new())?,
        Call::Absent(labels) => {
            let rows = args.vector()?;
            let mut values = Scalar::constant(1.0, grid.count, &engine.limits)?;
            for (step, value) in values.iter_mut().enumerate() {
                if rows.list.iter().any(|row| row.has(step)) {
                    *value = ABSENT;
                }
            }
            one_row(labels.clone(), values)?
        }
        Call::Scalar => {
            let rows = args.vector()?;
            return Ok(Evaluated::Scalar(only_value(&rows, grid, &engine.limits)?));
        }
        Call::Vector => one_row(Labels::empty(), args.scalar()?)?,
        Call::Fold(fold) => {
            let (mut a, b) = (args.scalar()?, args.scalar()?);
            for (a, b) in a.iter_mut().zip(&*b) {
                *a = fold(*a, *b);
            }
            return Ok(Evaluated::Scalar(a));
        }
        Call::Sort { descending } => {
            if grid.count > 1 {
                engine.annotate(|all| all.sort_in_range_query(call.span));
            }
            let rows = map_keeping_name(args.vector()?)?;
            if grid.count == 1 {
                rows.try_map(|rows, charge| {
                    charge.reserve(size_of_val(&rows[..]) / 2)?;
                    Ok(sort::by_value(rows, *descending))
                })?
            } else {
                rows
            }
        }
        Call::SortByLabel { labels, descending } => {
            if grid.count > 1 {
                engine.annotate(|all| all.sort_in_range_query(call.span));
            }
            args.vector()?.try_map(|rows, charge| {
                charge.reserve(size_of_val(&rows[..]) / 2)?;
                Ok(sort::by_labels(rows, labels, *descending))
            })?
        }
        Call::LabelReplace {
            destination,
            replacement,
            source,
            regex,
        } => args.vector()?.try_map(|rows, charge| {
            label::replace(rows, destination, replacement, source, regex, charge)
        })?,
        Call::LabelJoin {
            destination,
            separator,
            sources,
        } => args
            .vector()?
            .try_map(|rows, charge| label::join(rows, destination, separator, sources, charge))?,
        Call::HistogramField(field) => args.vector()?.try_map(|mut rows, charge| {
            // The values of one row at a time are there twice.
            charge.reserve(8 * grid.count)?;
            for row in &mut rows {
                let histograms = row.histograms.take();
                let value = |step: usize| {
                    histograms
                        .as_ref()
                        .and_then(|all| all[step].as_deref())
                        .map_or(ABSENT, field)
                };
                row.values = (0..grid.count).map(value).collect();
                row.drop_name = true;
            }
            rows.retain(|row| !row.is_empty());
            Ok(rows)
        })?,
        Call::HistogramQuantile => {
            let quantiles = args.scalar()?;
            let rows = args.vector()?;
            let spans = histogram::Spans {
                histograms: span(1),
                quantiles: vec![span(0)],
            };
            histogram::quantile(engine, rows, vec![quantiles], None, grid, &spans)?
        }
        Call::HistogramQuantiles(label) => {
            let rows = args.vector()?;
            let mut quantiles = Vec::new();
            while args.0.len() > 0 {
                quantiles.push(args.scalar()?);
            }
            let spans = histogram::Spans {
                histograms: span(0),
                quantiles: (0..quantiles.len()).map(|i| span(i + 2)).collect(),
            };
            histogram::quantile(engine, rows, quantiles, Some(label), grid, &spans)?
        }
        Call::HistogramFraction => {
            let (lower, upper) = (args.scalar()?, args.scalar()?);
            histogram::fraction(engine, args.vector()?, &lower, &upper, grid, span(2))?
        }
        Call::Info(info) => info::evaluate(engine, info, args.vector()?, grid).await?,
    };
    Ok(Evaluated::Vector(vector))
}

/// Applies a function of step and value to all floats; histograms are left out, the name goes.
fn map(rows: Rows, function: impl Fn(usize, f64) -> f64) -> Result<Rows, QueryError> {
    rows.map(|mut rows| {
        for row in &mut rows {
            row.drop_name = true;
            row.histograms = None;
            for (step, value) in row.values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = function(step, *value);
                }
            }
        }
        rows.retain(|row| !row.is_empty());
        rows
    })
}

/// Leaves histograms out.
fn map_keeping_name(rows: Rows) -> Result<Rows, QueryError> {
    rows.map(|mut rows| {
        for row in &mut rows {
            row.histograms = None;
        }
        rows.retain(|row| !row.is_empty());
        rows
    })
}

/// A vector of one series with a value at each step.
fn one_row(labels: Labels, values: Scalar) -> Result<Rows, QueryError> {
    let (values, mut charge) = values.into_parts();
    charge.take(Row::bytes_of(0, false) + labels_bytes(&labels))?;
    Rows::new(vec![Row::floats(labels, false, values)], charge)
}

/// The value of the only series with a float at a step, otherwise NaN.
fn only_value(rows: &Rows, grid: Grid, limits: &Arc<Limits>) -> Result<Scalar, QueryError> {
    let mut values = Scalar::constant(f64::NAN, grid.count, limits)?;
    let _counts = limits.charge(grid.count.saturating_mul(size_of::<u32>()))?;
    let mut counts = vec![0u32; grid.count];
    for row in &rows.list {
        for (step, value) in row.values.iter().enumerate() {
            if !is_absent(*value) {
                counts[step] += 1;
                values[step] = if counts[step] == 1 { *value } else { f64::NAN };
            }
        }
    }
    Ok(values)
}
