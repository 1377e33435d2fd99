//! `info`: adds the labels of info series, which it reads itself, as they depend on the series.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::info::{InfoCall, evaluate};
use super::super::exec::work::Evaluated;
use super::{Input, Inputs, Operator};

impl Operator for InfoCall {
    fn name(&self) -> &'static str {
        "PromInfoExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        let matchers = self.matchers.iter().flatten().map(ToString::to_string);
        format!("{{{}}}", matchers.collect::<Vec<_>>().join(", "))
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let base = on.vector(0).await?;
            let rows = evaluate(on.work, self, base, on.grid, on.profile()).await?;
            Ok(Evaluated::Vector(rows))
        }
        .boxed()
    }
}
