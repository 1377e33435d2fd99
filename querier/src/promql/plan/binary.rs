//! Binary operators on two vectors, or on two scalars. Those on a vector and a scalar are changes
//! of its values (see `map`).

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::exec::QueryError;
use super::super::exec::binary::{VectorBinary, scalars, vectors};
use super::super::exec::work::Evaluated;
use super::super::parse::ast::{BinaryOp, Cardinality, VectorMatching};
use super::labels::{LabelNames, Lookup, names_of};
use super::{Input, Inputs, Operator, scalar, shown, vector};

impl Operator for VectorBinary {
    fn name(&self) -> &'static str {
        "PromBinaryExec"
    }

    fn detail(&self, _: &[Input]) -> String {
        let flag = if self.return_bool { " bool" } else { "" };
        format!("{}{flag}{}", self.op.as_str(), matching(&self.matching))
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let lhs = names_of(inputs.first(), lookup)?;
        match self.op {
            BinaryOp::And | BinaryOp::Unless => Some(lhs),
            BinaryOp::Or => {
                let rhs = names_of(inputs.get(1), lookup)?;
                Some(lhs.into_iter().chain(rhs).collect())
            }
            _ => None,
        }
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let (lhs, rhs) = on.both(0, 1).await?;
            let (lhs, rhs) = (vector(lhs)?, vector(rhs)?);
            vectors(on.work, self, lhs, rhs, on.grid).map(Evaluated::Vector)
        }
        .boxed()
    }
}

/// An operation on two scalars.
#[derive(Debug)]
pub(crate) struct Scalars(pub BinaryOp);

impl Operator for Scalars {
    fn name(&self) -> &'static str {
        "PromBinaryExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        let inputs: Vec<String> = inputs.iter().map(shown).collect();
        inputs.join(&format!(" {} ", self.0.as_str()))
    }

    fn label_names(&self, _: &[Input], _: Lookup<'_>) -> Option<LabelNames> {
        Some(LabelNames::new())
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        async move {
            let (lhs, rhs) = on.both(0, 1).await?;
            let (lhs, rhs) = (scalar(lhs)?, scalar(rhs)?);
            Ok(Evaluated::Scalar(scalars(self.0, lhs, &rhs)))
        }
        .boxed()
    }
}

fn matching(matching: &VectorMatching) -> String {
    let mut text = String::new();
    if matching.on || !matching.labels.is_empty() {
        text.push_str(&format!(
            " {} ({})",
            if matching.on { "on" } else { "ignoring" },
            matching.labels.join(", ")
        ));
    }
    let group = match matching.cardinality {
        Cardinality::ManyToOne => "group_left",
        Cardinality::OneToMany => "group_right",
        Cardinality::OneToOne | Cardinality::ManyToMany => "",
    };
    if !group.is_empty() {
        text.push_str(&format!(" {group} ({})", matching.include.join(", ")));
    }
    for (word, value) in [
        ("fill_left", matching.fill_left),
        ("fill_right", matching.fill_right),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(" {word} ({value})"));
        }
    }
    text
}
