//! The root of a plan: the steps of the query, and what is done with the series of its answer.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::super::exec::QueryError;
use super::super::exec::finish::finish_rows;
use super::super::exec::grid::Grid;
use super::super::exec::work::Evaluated;
use super::labels::{LabelNames, Lookup, names_of};
use super::{Input, Inputs, Operator};

/// Removes metric names that have to go, makes one series of those that become equal by that, and
/// puts the answer to a range query in order.
#[derive(Debug)]
pub(crate) struct Finish {
    pub grid: Grid,
    pub is_range: bool,
}

impl Operator for Finish {
    fn name(&self) -> &'static str {
        "PromFinishExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let (start, end) = (seconds(self.grid.start), seconds(self.grid.end()));
        let steps = match self.is_range {
            true => format!(
                "start={start:.3}, end={end:.3}, step={}, steps={}",
                seconds(self.grid.step),
                self.grid.count
            ),
            false => format!("time={start:.3}"),
        };
        match inputs {
            [Input::Plan(_)] | [] => steps,
            [constant, ..] => format!("{}, {steps}", super::shown(constant)),
        }
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        names_of(inputs.first(), lookup)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let value = on.value(0).await?;
            let Evaluated::Vector(rows) = value else {
                return Ok(value);
            };
            let begun = Instant::now();
            let rows = finish_rows(rows, self.is_range)?;
            on.work.sorted(begun.elapsed());
            Ok(Evaluated::Vector(rows))
        }
        .boxed()
    }
}
