//! What is the same at all steps is evaluated once.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::limits::Limits;
use super::super::exec::row::{Row, Rows};
use super::super::exec::scalar::Scalar;
use super::super::exec::work::Evaluated;
use super::labels::{LabelNames, Lookup, names_of};
use super::{Input, Inputs, Operator};

/// Gives every step the value of its input at the first.
#[derive(Debug)]
pub(crate) struct Repeat;

impl Operator for Repeat {
    fn name(&self) -> &'static str {
        "PromRepeatExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        "evaluated once for all steps".to_owned()
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        names_of(inputs.first(), lookup)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let value = on.value_at(0, on.grid.first()).await?;
            repeat(value, on.grid.count, &on.work.limits)
        }
        .boxed()
    }
}

fn repeat(value: Evaluated, steps: usize, limits: &Arc<Limits>) -> Result<Evaluated, QueryError> {
    if steps <= 1 {
        return Ok(value);
    }
    Ok(match value {
        Evaluated::Scalar(values) => {
            let value = values.first().copied().unwrap_or(f64::NAN);
            Evaluated::Scalar(Scalar::constant(value, steps, limits)?)
        }
        Evaluated::Vector(rows) => {
            let expected = rows.list.len() as u64 * steps as u64;
            if expected > limits.max_samples() {
                return Err(QueryError::TooManySamples(limits.max_samples()));
            }
            let mut charge = limits.charge(0)?;
            for row in &rows.list {
                charge.take(Row::bytes_of(steps, row.histograms.is_some()))?;
            }
            let (list, single) = rows.into_parts();
            let list = list.into_iter().map(|row| Row {
                values: vec![row.values[0]; steps],
                histograms: row
                    .histograms
                    .map(|histograms| vec![histograms[0].clone(); steps]),
                labels: row.labels,
                drop_name: row.drop_name,
            });
            let rows = Rows::new(list.collect(), charge)?;
            drop(single);
            Evaluated::Vector(rows)
        }
        other => other,
    })
}
