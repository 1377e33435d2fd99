//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::work::Evaluated;
use super::super::functions::histogram::{BUCKET_LABEL, Spans, fraction, quantile};
use super::super::parse::ast::Span;
use super::explain::call;
use super::labels::{LabelNames, Lookup, names_of, without_metadata};
use super::{Input, Inputs, Operator};

/// Quantiles of the histograms that its first input has; the others are which.
#[derive(Debug)]
pub(crate) struct HistogramQuantile {
    /// Where each quantile of several goes.
    pub label: Option<String>,
    pub spans: Spans,
}

impl Operator for HistogramQuantile {
    fn name(&self) -> &'static str {
        "PromHistogramQuantileExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        match &self.label {
            None => call("histogram_quantile", None, inputs),
            Some(label) => call("histogram_quantiles", Some(format!("{label:?}")), inputs),
        }
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let mut names = without_metadata(names_of(inputs.first(), lookup)?);
        names.remove(BUCKET_LABEL);
        names.extend(self.label.clone());
        Some(names)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let quantiles = on.scalars_from(1).await?;
            let rows = on.vector(0).await?;
            let label = self.label.as_deref();
            quantile(on.work, rows, quantiles, label, on.grid, &self.spans).map(Evaluated::Vector)
        }
        .boxed()
    }
}

/// The share of observations between two bounds, which are its second and third input.
#[derive(Debug)]
pub(crate) struct HistogramFraction {
    pub span: Span,
}

impl Operator for HistogramFraction {
    fn name(&self) -> &'static str {
        "PromHistogramFractionExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        call("histogram_fraction", None, inputs)
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let mut names = without_metadata(names_of(inputs.first(), lookup)?);
        names.remove(BUCKET_LABEL);
        Some(names)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let (lower, upper) = (on.scalar(1).await?, on.scalar(2).await?);
            let rows = on.vector(0).await?;
            fraction(on.work, rows, &lower, &upper, on.grid, self.span).map(Evaluated::Vector)
        }
        .boxed()
    }
}
