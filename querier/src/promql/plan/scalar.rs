//! Between scalars and vectors: `scalar`, `vector`, `time`, date functions without an argument, and
//! functions of two scalars.

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tidelake_catalog::model::Labels;

use super::super::exec::QueryError;
use super::super::exec::grid::Grid;
use super::super::exec::row::{Row, Rows, is_absent, labels_bytes};
use super::super::exec::scalar::Scalar;
use super::super::exec::work::{Evaluated, Work};
use super::explain::call;
use super::labels::{LabelNames, Lookup};
use super::{Input, Inputs, Operator};

/// The time of each step, in seconds.
#[derive(Debug)]
pub(crate) struct Time;

impl Operator for Time {
    fn name(&self) -> &'static str {
        "PromTimeExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        String::new()
    }

    fn label_names(&self, _: &[Input], _: Lookup<'_>) -> Option<LabelNames> {
        Some(LabelNames::new())
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        let times = Scalar::new(on.grid, &on.work.limits, |ms| ms as f64 / 1000.0);
        ready(times.map(Evaluated::Scalar)).boxed()
    }
}

/// A part of the UTC date of each step, as a vector.
#[derive(Debug)]
pub(crate) struct DateOfStep {
    pub name: &'static str,
    pub part: fn(i128) -> f64,
}

impl Operator for DateOfStep {
    fn name(&self) -> &'static str {
        "PromTimeExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        self.name.to_owned()
    }

    fn label_names(&self, _: &[Input], _: Lookup<'_>) -> Option<LabelNames> {
        Some(LabelNames::new())
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        let part = |ms: i64| (self.part)(i128::from(ms.div_euclid(1000)));
        let values = Scalar::new(on.grid, &on.work.limits, part);
        ready(values.and_then(one_row).map(Evaluated::Vector)).boxed()
    }
}

/// The value of the only series at a step, otherwise NaN.
#[derive(Debug)]
pub(crate) struct ToScalar;

impl Operator for ToScalar {
    fn name(&self) -> &'static str {
        "PromScalarExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        String::new()
    }

    fn label_names(&self, _: &[Input], _: Lookup<'_>) -> Option<LabelNames> {
        Some(LabelNames::new())
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let rows = on.vector(0).await?;
            only_value(&rows, on.grid, on.work).map(Evaluated::Scalar)
        }
        .boxed()
    }
}

/// A vector of one series without labels.
#[derive(Debug)]
pub(crate) struct ToVector;

impl Operator for ToVector {
    fn name(&self) -> &'static str {
        "PromVectorExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        call("vector", None, inputs)
    }

    fn label_names(&self, _: &[Input], _: Lookup<'_>) -> Option<LabelNames> {
        Some(LabelNames::new())
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move { one_row(on.scalar(0).await?).map(Evaluated::Vector) }.boxed()
    }
}

/// A function of two scalars.
#[derive(Debug)]
pub(crate) struct ScalarFunction {
    pub name: &'static str,
    pub function: fn(f64, f64) -> f64,
}

impl Operator for ScalarFunction {
    fn name(&self) -> &'static str {
        "PromBinaryExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        call(self.name, None, inputs)
    }

    fn label_names(&self, _: &[Input], _: Lookup<'_>) -> Option<LabelNames> {
        Some(LabelNames::new())
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let (mut a, b) = (on.scalar(0).await?, on.scalar(1).await?);
            for (a, b) in a.iter_mut().zip(&*b) {
                *a = (self.function)(*a, *b);
            }
            Ok(Evaluated::Scalar(a))
        }
        .boxed()
    }
}

fn one_row(values: Scalar) -> Result<Rows, QueryError> {
    let (values, mut charge) = values.into_parts();
    let labels = Labels::empty();
    charge.take(Row::bytes_of(0, false) + labels_bytes(&labels))?;
    Rows::new(vec![Row::floats(labels, false, values)], charge)
}

fn only_value(rows: &Rows, grid: Grid, work: &Work) -> Result<Scalar, QueryError> {
    let limits = &work.limits;
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
