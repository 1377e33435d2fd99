//! What PromQL's functions compute. Their names and types are the parser's.

pub(crate) mod extended;
pub(crate) mod histogram;
pub(crate) mod histogram_rate;
pub(crate) mod label;
pub(crate) mod math;
pub(crate) mod over_time;
pub(crate) mod range;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod sort;
pub(crate) mod time;

use regex::Regex;
use tidelake_catalog::model::Labels;

use super::exec::engine::{Engine, Evaluated};
use super::exec::grid::Grid;
use super::exec::info::{self, InfoCall};
use super::exec::plan::FunctionCall;
use super::exec::row::{ABSENT, Row, Rows, is_absent};
use super::exec::{QueryError, number};
use super::histogram::variance::variance;

/// A function over instant vectors and scalars, with its string arguments.
#[derive(Debug)]
pub(crate) enum Function {
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
    Pi,
    MaxOf,
    MinOf,
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
    HistogramField(fn(&tidelake_catalog::model::Histogram) -> f64),
    Info(Box<InfoCall>),
}

impl Function {
    /// The function of a name, if it has no string arguments.
    pub fn simple(name: &str) -> Option<Self> {
        if let Some(map) = math::by_name(name) {
            return Some(Self::Map(map));
        }
        if let Some(date) = time::by_name(name) {
            return Some(Self::Date(date));
        }
        Some(match name {
            "round" => Self::Round,
            "clamp" => Self::Clamp,
            "clamp_min" => Self::ClampMin,
            "clamp_max" => Self::ClampMax,
            "timestamp" => Self::Timestamp,
            "start_timestamp" => Self::StartTimestamp,
            "scalar" => Self::Scalar,
            "vector" => Self::Vector,
            "pi" => Self::Pi,
            "max_of" => Self::MaxOf,
            "min_of" => Self::MinOf,
            "sort" => Self::Sort { descending: false },
            "sort_desc" => Self::Sort { descending: true },
            "histogram_quantile" => Self::HistogramQuantile,
            "histogram_fraction" => Self::HistogramFraction,
            "histogram_count" => Self::HistogramField(|h| h.count),
            "histogram_sum" => Self::HistogramField(|h| h.sum),
            "histogram_avg" => Self::HistogramField(|h| h.sum / h.count),
            "histogram_stdvar" => Self::HistogramField(variance),
            "histogram_stddev" => Self::HistogramField(|h| variance(h).sqrt()),
            _ => return None,
        })
    }
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

    fn scalar(&mut self) -> Result<Vec<f64>, QueryError> {
        match self.0.next() {
            Some(Evaluated::Scalar(values)) => Ok(values),
            _ => Err(QueryError::BadData(
                "expected a scalar as argument".to_owned(),
            )),
        }
    }

    fn scalar_or(&mut self, default: f64, steps: usize) -> Result<Vec<f64>, QueryError> {
        if self.0.len() == 0 {
            Ok(vec![default; steps])
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
    let vector = match &call.function {
        Function::Map(function) => map(args.vector()?, |_, value| function(value)),
        Function::Round => {
            let rows = args.vector()?;
            let nearest = args.scalar_or(1.0, grid.count)?;
            map(rows, |step, value| math::round(value, nearest[step]))
        }
        Function::Clamp | Function::ClampMin | Function::ClampMax => {
            let rows = args.vector()?;
            let unbounded = |value| vec![value; grid.count];
            let low = if matches!(call.function, Function::ClampMax) {
                unbounded(f64::NEG_INFINITY)
            } else {
                args.scalar()?
            };
            let high = if matches!(call.function, Function::ClampMin) {
                unbounded(f64::INFINITY)
            } else {
                args.scalar()?
            };
            map(rows, |step, value| {
                if high[step] < low[step] {
                    ABSENT
                } else {
                    number::max(low[step], number::min(high[step], value))
                }
            })
        }
        Function::Date(part) if has_args => {
            map(args.vector()?, |_, value| part(time::seconds(value)))
        }
        Function::Date(part) => {
            let values = grid
                .times()
                .map(|ms| part(i128::from(ms.div_euclid(1000))))
                .collect();
            Rows::new(
                vec![Row::floats(Labels::empty(), false, values)],
                &engine.limits,
            )?
        }
        Function::Timestamp => args.vector()?.map(|mut rows| {
            for row in &mut rows {
                for step in (0..grid.count)
                    .filter(|step| row.has(*step))
                    .collect::<Vec<_>>()
                {
                    row.values[step] = grid.time(step) as f64 / 1000.0;
                }
                row.histograms = None;
                row.drop_name = true;
            }
            rows
        }),
        Function::StartTimestamp => args.vector()?.map(|_| Vec::new()),
        Function::Absent(labels) => {
            let rows = args.vector()?;
            let missing = |step| {
                if rows.list.iter().any(|row| row.has(step)) {
                    ABSENT
                } else {
                    1.0
                }
            };
            Rows::new(
                vec![Row::floats(
                    labels.clone(),
                    false,
                    (0..grid.count).map(missing).collect(),
                )],
                &engine.limits,
            )?
        }
        Function::Scalar => return Ok(Evaluated::Scalar(only_value(&args.vector()?, grid))),
        Function::Vector => Rows::new(
            vec![Row::floats(Labels::empty(), false, args.scalar()?)],
            &engine.limits,
        )?,
        Function::Pi => return Ok(Evaluated::Scalar(vec![std::f64::consts::PI; grid.count])),
        Function::MaxOf | Function::MinOf => {
            let pick = if matches!(call.function, Function::MaxOf) {
                number::max
            } else {
                number::min
            };
            let (a, b) = (args.scalar()?, args.scalar()?);
            return Ok(Evaluated::Scalar(
                a.into_iter().zip(b).map(|(a, b)| pick(a, b)).collect(),
            ));
        }
        Function::Sort { descending } => {
            if grid.count > 1 {
                engine.annotate(|all| all.sort_in_range_query(call.span));
            }
            let rows = map_keeping_name(args.vector()?);
            if grid.count == 1 {
                rows.map(|rows| sort::by_value(rows, *descending))
            } else {
                rows
            }
        }
        Function::SortByLabel { labels, descending } => {
            if grid.count > 1 {
                engine.annotate(|all| all.sort_in_range_query(call.span));
            }
            args.vector()?
                .map(|rows| sort::by_labels(rows, labels, *descending))
        }
        Function::LabelReplace {
            destination,
            replacement,
            source,
            regex,
        } => args
            .vector()?
            .try_map(|rows| label::replace(rows, destination, replacement, source, regex))?,
        Function::LabelJoin {
            destination,
            separator,
            sources,
        } => args
            .vector()?
            .try_map(|rows| label::join(rows, destination, separator, sources))?,
        Function::HistogramField(field) => args.vector()?.map(|mut rows| {
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
            rows
        }),
        Function::HistogramQuantile => {
            let quantiles = args.scalar()?;
            let rows = args.vector()?;
            let spans = histogram::Spans {
                histograms: span(1),
                quantiles: vec![span(0)],
            };
            histogram::quantile(engine, rows, vec![quantiles], None, grid, &spans)?
        }
        Function::HistogramQuantiles(label) => {
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
        Function::HistogramFraction => {
            let (lower, upper) = (args.scalar()?, args.scalar()?);
            histogram::fraction(engine, args.vector()?, &lower, &upper, grid, span(2))?
        }
        Function::Info(info) => info::evaluate(engine, info, args.vector()?, grid).await?,
    };
    Ok(Evaluated::Vector(vector))
}

/// Applies a function of step and value to all floats; histograms are left out, the name goes.
fn map(rows: Rows, function: impl Fn(usize, f64) -> f64) -> Rows {
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
fn map_keeping_name(rows: Rows) -> Rows {
    rows.map(|mut rows| {
        for row in &mut rows {
            row.histograms = None;
        }
        rows.retain(|row| !row.is_empty());
        rows
    })
}

/// The value of the only series with a float at a step, otherwise NaN.
fn only_value(rows: &Rows, grid: Grid) -> Vec<f64> {
    let mut values = vec![f64::NAN; grid.count];
    let mut counts = vec![0u32; grid.count];
    for row in &rows.list {
        for (step, value) in row.values.iter().enumerate() {
            if !is_absent(*value) {
                counts[step] += 1;
                values[step] = if counts[step] == 1 { *value } else { f64::NAN };
            }
        }
    }
    values
}
