//! Functions over windows of samples, with the selector or above the subquery that they read.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::grid::Grid;
use super::super::exec::range::{RangeCall, SelectorWindows, over_subquery};
use super::super::exec::row::Rows;
use super::super::exec::selector::RangeSelect;
use super::super::exec::series;
use super::super::exec::subquery::Subquery;
use super::super::exec::work::Evaluated;
use super::explain::{call, range_selector};
use super::labels::{LabelNames, Lookup, Selected, names_of, without_metadata};
use super::{Input, Inputs, Operator, Stage, Units};

/// A function over the windows of a selector. Its inputs are the scalar arguments.
#[derive(Debug)]
pub(crate) struct SelectorFunction {
    pub call: RangeCall,
    pub matrix: Arc<RangeSelect>,
}

impl Operator for SelectorFunction {
    fn name(&self) -> &'static str {
        "PromSelectExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        call(
            self.call.function.name,
            Some(range_selector(&self.matrix)),
            inputs,
        )
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let params = on.scalars_from(0).await?;
            let kernel = SelectorWindows::new(on.work, &self.call, &self.matrix, params, on.grid);
            let rows = series::rows(on.work, kernel, on.grid, on.profile()).await?;
            Ok(Evaluated::Vector(rows))
        }
        .boxed()
    }

    fn selected(&self, grid: Grid, lookback: i64) -> Option<Selected> {
        let back = self.matrix.range.saturating_add(lookback);
        Some(Selected::new(&self.matrix.select, back, grid))
    }

    fn label_names(&self, _: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let names = lookup(&self.matrix.select);
        Some(match self.call.range_function.keeps_name {
            true => names,
            false => without_metadata(names),
        })
    }

    fn is_streaming(&self, _: &[Input]) -> bool {
        true
    }

    fn units<'a>(
        &'a self,
        on: Inputs<'a>,
        stage: Stage,
    ) -> BoxFuture<'a, Result<Units<'a>, QueryError>> {
        async move {
            let params = on.scalars_from(0).await?;
            let kernel = SelectorWindows::new(on.work, &self.call, &self.matrix, params, on.grid);
            series::batches(on, kernel, stage).await
        }
        .boxed()
    }
}

/// A function over the windows of a subquery, its first input; the others are the scalar arguments.
#[derive(Debug)]
pub(crate) struct SubqueryFunction {
    pub call: RangeCall,
    pub subquery: Subquery,
}

impl Operator for SubqueryFunction {
    fn name(&self) -> &'static str {
        "PromRangeExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        call(self.call.function.name, None, inputs)
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let names = names_of(inputs.first(), lookup)?;
        Some(match self.call.range_function.keeps_name {
            true => names,
            false => without_metadata(names),
        })
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            if on.grid.count == 0 {
                return Ok(Evaluated::Vector(Rows::default()));
            }
            let params = on.scalars_from(1).await?;
            let Evaluated::Range(points, _charge) = on.value(0).await? else {
                return Err(QueryError::BadData("expected a range vector".to_owned()));
            };
            let (call, subquery) = (&self.call, &self.subquery);
            over_subquery(on.work, call, subquery, &points, params, on.grid).map(Evaluated::Vector)
        }
        .boxed()
    }
}
