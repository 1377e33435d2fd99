//! `sort`, `sort_desc`, `sort_by_label` and `sort_by_label_desc`: the order of the answer to an
//! instant query. That to a range query has one already.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::row::Rows;
use super::super::exec::work::Evaluated;
use super::super::functions::sort::{by_labels, by_value};
use super::super::parse::ast::Span;
use super::labels::{LabelNames, Lookup, names_of};
use super::{Input, Inputs, Operator};

/// Puts series in order.
#[derive(Debug)]
pub(crate) struct Sort {
    /// By the values of these labels; by value if there is none.
    pub labels: Option<Vec<String>>,
    pub descending: bool,
    pub span: Span,
}

impl Operator for Sort {
    fn name(&self) -> &'static str {
        "PromSortExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        let by = match &self.labels {
            None => "by value".to_owned(),
            Some(labels) => format!("by ({})", labels.join(", ")),
        };
        format!("{by}{}", if self.descending { " descending" } else { "" })
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        names_of(inputs.first(), lookup)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let rows = on.vector(0).await?;
            if on.grid.count > 1 {
                on.work.annotate(|all| all.sort_in_range_query(self.span));
            }
            let (labels, descending) = (self.labels.as_deref(), self.descending);
            let rows = match labels {
                Some(labels) => rows.try_map(|rows, charge| {
                    charge.reserve(size_of_val(&rows[..]) / 2)?;
                    Ok(by_labels(rows, labels, descending))
                })?,
                None if on.grid.count == 1 => {
                    without_histograms(rows)?.try_map(|rows, charge| {
                        charge.reserve(size_of_val(&rows[..]) / 2)?;
                        Ok(by_value(rows, descending))
                    })?
                }
                None => without_histograms(rows)?,
            };
            Ok(Evaluated::Vector(rows))
        }
        .boxed()
    }
}

fn without_histograms(rows: Rows) -> Result<Rows, QueryError> {
    rows.map(|mut rows| {
        for row in &mut rows {
            row.histograms = None;
        }
        rows.retain(|row| !row.is_empty());
        rows
    })
}
