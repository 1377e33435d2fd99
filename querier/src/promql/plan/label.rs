//! `label_replace` and `label_join`: change the labels of series, and look at no value.

use futures::FutureExt;
use futures::future::BoxFuture;
use regex::Regex;

use super::super::exec::QueryError;
use super::super::exec::work::Evaluated;
use super::super::functions::label::{join, replace};
use super::labels::{LabelNames, Lookup, names_of};
use super::{Input, Inputs, Operator};

/// Sets a label from the captures of a pattern over another label's value.
#[derive(Debug)]
pub(crate) struct LabelReplace {
    pub destination: String,
    pub replacement: String,
    pub source: String,
    pub regex: Regex,
    /// As written.
    pub pattern: String,
}

impl Operator for LabelReplace {
    fn name(&self) -> &'static str {
        "PromLabelExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        let (destination, source) = (&self.destination, &self.source);
        let (replacement, pattern) = (&self.replacement, &self.pattern);
        format!("label_replace({destination:?}, {replacement:?}, {source:?}, {pattern:?})")
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let mut names = names_of(inputs.first(), lookup)?;
        names.insert(self.destination.clone());
        Some(names)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let (destination, source) = (&self.destination, &self.source);
            let rows = on.vector(0).await?.try_map(|rows, charge| {
                replace(
                    rows,
                    destination,
                    &self.replacement,
                    source,
                    &self.regex,
                    charge,
                )
            })?;
            Ok(Evaluated::Vector(rows))
        }
        .boxed()
    }
}

/// Sets a label to the values of others with a separator between them.
#[derive(Debug)]
pub(crate) struct LabelJoin {
    pub destination: String,
    pub separator: String,
    pub sources: Vec<String>,
}

impl Operator for LabelJoin {
    fn name(&self) -> &'static str {
        "PromLabelExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        let arguments = [&self.destination, &self.separator].into_iter();
        let arguments = arguments
            .chain(&self.sources)
            .map(|text| format!("{text:?}"));
        format!("label_join({})", arguments.collect::<Vec<_>>().join(", "))
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let mut names = names_of(inputs.first(), lookup)?;
        names.insert(self.destination.clone());
        Some(names)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let rows = on.vector(0).await?.try_map(|rows, charge| {
                join(
                    rows,
                    &self.destination,
                    &self.separator,
                    &self.sources,
                    charge,
                )
            })?;
            Ok(Evaluated::Vector(rows))
        }
        .boxed()
    }
}
