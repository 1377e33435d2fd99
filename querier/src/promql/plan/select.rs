//! Selectors: the leaves of a plan, which read series.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::grid::Grid;
use super::super::exec::range::raw;
use super::super::exec::selector::{Instant, Output, RangeSelect, Select};
use super::super::exec::series;
use super::super::exec::work::Evaluated;
use super::explain::{range_selector, selector};
use super::labels::{LabelNames, Lookup, Selected, without_metadata};
use super::{Input, Inputs, Operator, Stage, Units};

/// For every step the last sample of each series.
#[derive(Debug)]
pub(crate) struct InstantSelector {
    pub select: Arc<Select>,
    pub output: Output,
}

impl Operator for InstantSelector {
    fn name(&self) -> &'static str {
        "PromSelectExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        let of = match self.output {
            Output::Values | Output::RawTimes => "",
            Output::Times => "timestamp of ",
            Output::StartTimes => "start timestamp of ",
        };
        format!("{of}{}", selector(&self.select, None))
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let kernel = Instant::new(on.work, &self.select, on.grid, self.output);
            let rows = series::rows(on.work, kernel, on.grid, on.profile()).await?;
            Ok(Evaluated::Vector(rows))
        }
        .boxed()
    }

    fn selected(&self, grid: Grid, lookback: i64) -> Option<Selected> {
        Some(Selected::new(&self.select, lookback, grid))
    }

    fn label_names(&self, _: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let names = lookup(&self.select);
        Some(match self.output {
            Output::Values | Output::RawTimes => names,
            Output::Times | Output::StartTimes => without_metadata(names),
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
        let kernel = Instant::new(on.work, &self.select, on.grid, self.output);
        series::batches(on, kernel, stage).boxed()
    }
}

/// The raw samples of a range, which only the answer to an instant query can be.
#[derive(Debug)]
pub(crate) struct RawSelector {
    pub matrix: Arc<RangeSelect>,
}

impl Operator for RawSelector {
    fn name(&self) -> &'static str {
        "PromRawSelectExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        range_selector(&self.matrix)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let (points, charge) = raw(on.work, &self.matrix, on.grid, on.profile()).await?;
            Ok(Evaluated::Range(points, charge))
        }
        .boxed()
    }
}
