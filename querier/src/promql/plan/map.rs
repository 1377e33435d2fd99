//! Changes of values that look at one series at a time: functions of floats, negation, arithmetic
//! and comparison with a scalar.

use std::ops::Range;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tidelake_catalog::model::Histogram;

use super::super::exec::annotations::Collector;
use super::super::exec::binary::{ScalarBinary, with_scalar};
use super::super::exec::grid::Grid;
use super::super::exec::limits::{Charge, Limits};
use super::super::exec::row::{ABSENT, Row, Rows, is_absent};
use super::super::exec::scalar::Scalar;
use super::super::exec::work::Evaluated;
use super::super::exec::{QueryError, number};
use super::super::functions::{math, time};
use super::super::histogram::arithmetic::multiply;
use super::labels::{LabelNames, Lookup, names_of, without_metadata};
use super::{Input, Inputs, Operator, Stage, Unit, Units, shown, vector};

/// A change of the values of a series.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// To no value.
    Nothing,
    Negate,
    /// Float to float.
    Map(fn(f64) -> f64),
    /// Seconds since 1970 to a part of the UTC date.
    Date(fn(i128) -> f64),
    /// To a multiple of a scalar.
    Round,
    /// To the range between two scalars.
    Clamp,
    ClampMin,
    ClampMax,
    /// The time of evaluation, where there is a value.
    Timestamp,
    /// A number that a native histogram holds.
    HistogramField(fn(&Histogram) -> f64),
    Scalar(ScalarBinary),
}

/// One change after another.
#[derive(Debug, Clone)]
struct Step {
    /// The function; none of an operator.
    name: Option<&'static str>,
    change: Change,
    /// Which inputs are its scalars.
    scalars: Range<usize>,
}

/// Changes the values of its first input; the others are scalars.
#[derive(Debug)]
pub(crate) struct Map {
    steps: Arc<[Step]>,
}

/// A change of an input. With `may_join`, it joins the changes that the input itself makes.
pub(crate) fn change(
    input: Input,
    name: Option<&'static str>,
    change: Change,
    scalars: Vec<Input>,
    may_join: bool,
) -> Input {
    let (mut steps, mut inputs) = match input.node() {
        Some(node) if may_join && let Some(before) = node.operator_as::<Map>() => {
            (before.steps.to_vec(), node.inputs().to_vec())
        }
        _ => (Vec::new(), vec![input]),
    };
    let first = inputs.len();
    inputs.extend(scalars);
    steps.push(Step {
        name,
        change,
        scalars: first..inputs.len(),
    });
    Input::new(
        Map {
            steps: steps.into(),
        },
        inputs,
    )
}

impl Operator for Map {
    fn name(&self) -> &'static str {
        "PromMapExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        let steps = self.steps.iter().map(|step| step.detail(inputs));
        steps.collect::<Vec<_>>().join(", ")
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let names = names_of(inputs.first(), lookup)?;
        let keeps_name = |step: &Step| match &step.change {
            Change::Scalar(binary) => !binary.changes_quantity(),
            _ => false,
        };
        Some(match self.steps.iter().all(keeps_name) {
            true => names,
            false => without_metadata(names),
        })
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let value = on.value(0).await?;
            let rows = match value {
                Evaluated::Scalar(values) => return self.negated(values),
                value => vector(value)?,
            };
            let scalars = on.scalars_from(1).await?;
            let limits = &on.work.limits;
            let mut remarks = Collector::default();
            let rows = apply(&self.steps, rows, &scalars, on.grid, limits, &mut remarks)?;
            on.work.annotate(|all| all.merge(remarks));
            Ok(Evaluated::Vector(rows))
        }
        .boxed()
    }

    fn is_streaming(&self, inputs: &[Input]) -> bool {
        inputs.first().is_some_and(Input::is_streaming)
    }

    fn units<'a>(
        &'a self,
        on: Inputs<'a>,
        stage: Stage,
    ) -> BoxFuture<'a, Result<Units<'a>, QueryError>> {
        async move {
            let scalars = on.scalars_from(1).await?;
            let (steps, grid) = (Arc::clone(&self.steps), on.grid);
            let limits = Arc::clone(&on.work.limits);
            let stage = move |unit: Unit, remarks: &mut Collector| match unit {
                Unit::Rows(rows) => {
                    let rows = apply(&steps, rows, &scalars, grid, &limits, remarks)?;
                    stage(Unit::Rows(rows), remarks)
                }
                unit => stage(unit, remarks),
            };
            let input = on.node(0)?;
            input.units(grid, on.extent, on.work, Arc::new(stage)).await
        }
        .boxed()
    }
}

impl Map {
    /// A scalar: only its sign can be changed.
    fn negated(&self, mut values: Scalar) -> Result<Evaluated, QueryError> {
        for step in &*self.steps {
            match step.change {
                Change::Negate => values.iter_mut().for_each(|value| *value = -*value),
                _ => return Err(QueryError::BadData("expected an instant vector".to_owned())),
            }
        }
        Ok(Evaluated::Scalar(values))
    }
}

impl Step {
    fn detail(&self, inputs: &[Input]) -> String {
        let scalars = inputs.get(self.scalars.clone()).unwrap_or_default();
        let scalars = scalars.iter().map(shown).collect::<Vec<_>>().join(", ");
        match &self.change {
            Change::Negate => "-".to_owned(),
            Change::Scalar(binary) => {
                let flag = if binary.return_bool { " bool" } else { "" };
                let op = binary.op.as_str();
                match binary.scalar_is_left {
                    true => format!("{scalars} {op}{flag}"),
                    false => format!("{op}{flag} {scalars}"),
                }
            }
            _ if scalars.is_empty() => self.name.unwrap_or_default().to_owned(),
            _ => format!("{}({scalars})", self.name.unwrap_or_default()),
        }
    }
}

fn apply(
    steps: &[Step],
    mut rows: Rows,
    scalars: &[Scalar],
    grid: Grid,
    limits: &Arc<Limits>,
    remarks: &mut Collector,
) -> Result<Rows, QueryError> {
    for step in steps {
        // The first input is the vector.
        let of_step = step.scalars.start - 1..step.scalars.end - 1;
        let scalars = scalars.get(of_step).unwrap_or_default();
        rows = match (&step.change, scalars) {
            (Change::Nothing, _) => rows.map(|_| Vec::new())?,
            (Change::Negate, _) => rows.try_map(negate)?,
            (Change::Map(function), _) => map(rows, |_, value| function(value))?,
            (Change::Date(part), _) => map(rows, |_, value| part(time::seconds(value)))?,
            (Change::Round, [nearest]) => {
                map(rows, |step, value| math::round(value, nearest[step]))?
            }
            (Change::Clamp, [low, high]) => clamp(rows, |step| (low[step], high[step]))?,
            (Change::ClampMin, [low]) => clamp(rows, |step| (low[step], f64::INFINITY))?,
            (Change::ClampMax, [high]) => clamp(rows, |step| (f64::NEG_INFINITY, high[step]))?,
            (Change::Timestamp, _) => timestamps(rows, grid)?,
            (Change::HistogramField(field), _) => fields(rows, *field, grid)?,
            (Change::Scalar(binary), [scalar]) => {
                with_scalar(limits, binary, rows, scalar, remarks)?
            }
            (change, scalars) => {
                return Err(QueryError::Execution(format!(
                    "{change:?} cannot have {} scalars",
                    scalars.len()
                )));
            }
        };
    }
    Ok(rows)
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

fn clamp(rows: Rows, bounds: impl Fn(usize) -> (f64, f64)) -> Result<Rows, QueryError> {
    map(rows, |step, value| {
        let (low, high) = bounds(step);
        if high < low {
            ABSENT
        } else {
            number::max(low, number::min(high, value))
        }
    })
}

fn timestamps(rows: Rows, grid: Grid) -> Result<Rows, QueryError> {
    rows.map(|mut rows| {
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
    })
}

fn fields(rows: Rows, field: fn(&Histogram) -> f64, grid: Grid) -> Result<Rows, QueryError> {
    rows.try_map(|mut rows, charge| {
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
    })
}

fn negate(mut rows: Vec<Row>, charge: &mut Charge) -> Result<Vec<Row>, QueryError> {
    for row in &mut rows {
        // Histograms that others have too are copied.
        charge.reserve(row.histogram_bytes())?;
        row.drop_name = true;
        for value in row.values.iter_mut().filter(|value| !is_absent(**value)) {
            *value = -*value;
        }
        for histogram in row.histograms.iter_mut().flatten().flatten() {
            multiply(Arc::make_mut(histogram), -1.0);
        }
        charge.take(row.histogram_bytes())?;
    }
    Ok(rows)
}
