//! `expr[range:step]`: evaluates its input at steps of its own.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::subquery::{Subquery, points};
use super::super::exec::work::Evaluated;
use super::explain::subquery;
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
