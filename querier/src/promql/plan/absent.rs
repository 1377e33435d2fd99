//! `absent` and `absent_over_time`: 1 where no series has a value.

use futures::FutureExt;
use futures::future::BoxFuture;
use tidelake_catalog::model::Labels;

use super::super::exec::QueryError;
use super::super::exec::row::{ABSENT, Row, Rows, labels_bytes};
use super::super::exec::work::Evaluated;
use super::labels::{LabelNames, Lookup};
use super::{Input, Inputs, Operator};

/// Answers with one series where its input has none.
#[derive(Debug)]
pub(crate) struct Absent {
    /// Of that series.
    pub labels: Labels,
    /// Whether labels that describe a metric have to go from it.
    pub drop_name: bool,
}

impl Operator for Absent {
    fn name(&self) -> &'static str {
        "PromAbsentExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        self.labels.to_string()
    }

    fn label_names(&self, _: &[Input], _: Lookup<'_>) -> Option<LabelNames> {
        Some(
            self.labels
                .iter()
                .map(|(name, _)| name.to_owned())
                .collect(),
        )
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let rows = on.vector(0).await?;
            let (labels, steps) = (&self.labels, on.grid.count);
            let bytes = Row::bytes_of(steps, false) + labels_bytes(labels);
            let charge = on.work.limits.charge(bytes)?;
            let mut row = Row::floats(labels.clone(), self.drop_name, vec![1.0; steps]);
            for (step, value) in row.values.iter_mut().enumerate() {
                if rows.list.iter().any(|row| row.has(step)) {
                    *value = ABSENT;
                }
            }
            Rows::new(vec![row], charge).map(Evaluated::Vector)
        }
        .boxed()
    }
}
