//! `expr[range:step]`: evaluates its input at steps of its own.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::grid::Grid;
use super::super::exec::subquery::{Subquery, points};
use super::super::exec::work::Evaluated;
use super::explain::subquery;
use super::labels::{LabelNames, Lookup, names_of};
use super::{Input, Inputs, Operator};

/// The samples for all windows of the steps at which it is evaluated.
#[derive(Debug)]
pub(crate) struct SubqueryWindows(pub Subquery);

impl Operator for SubqueryWindows {
    fn name(&self) -> &'static str {
        "PromSubqueryExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        subquery(&self.0)
    }

    fn grid_below(&self, grid: Grid) -> Grid {
        // Steps that are too many are refused when they are evaluated.
        self.0.steps(grid, u64::MAX).unwrap_or(grid)
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        names_of(inputs.first(), lookup)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let limits = &on.work.limits;
            let steps = self.0.steps(on.grid, limits.max_samples())?;
            if steps.count == 0 {
                return Ok(Evaluated::Range(Vec::new(), limits.charge(0)?));
            }
            let value = on.value_at(0, steps).await?;
            let (points, charge) = points(limits, value, steps)?;
            Ok(Evaluated::Range(points, charge))
        }
        .boxed()
    }
}
