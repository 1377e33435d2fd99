//! Labels that every answer to an expression can have, whether or not there are any series today.
//!
//! They become columns in any case, so that `USING (job)` does not begin to fail when nothing
//! matches.

use std::collections::BTreeSet;

use tidelake_catalog::model::MatchOp;

use crate::promql::parse::ast::{AggregateOp, BinaryOp, Expr, ValueType, VectorSelector};

/// Names of such labels.
pub(super) fn certain(expr: &Expr) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    add(expr, &mut names);
    names
}

fn add(expr: &Expr, names: &mut BTreeSet<String>) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(selector) => add_selector(selector, names),
        Expr::Matrix(matrix) => add_selector(&matrix.selector, names),
        Expr::Subquery(subquery) => add(&subquery.expr, names),
        Expr::Paren(paren) => add(&paren.expr, names),
        Expr::Unary(unary) => add(&unary.expr, names),
        Expr::Call(call) => {
            for arg in call
                .args
                .iter()
                .filter(|arg| {
                    matches!(
                        arg.value_type(),
                        ValueType::InstantVector | ValueType::RangeVector
                    )
                })
                .take(1)
            {
                add(arg, names);
            }
            // The destination; of `histogram_quantiles` the label of the quantile.
            let label = match call.function.name {
                "label_replace" | "label_join" | "histogram_quantiles" => call.args.get(1),
                _ => None,
            };
            if let Some(Expr::String(label)) = label {
                names.insert(label.value.clone());
            }
        }
        Expr::Aggregate(aggregate) => {
            let keeps_series = matches!(
                aggregate.op,
                AggregateOp::Topk
                    | AggregateOp::Bottomk
                    | AggregateOp::Limitk
                    | AggregateOp::LimitRatio
            );
            if keeps_series {
                add(&aggregate.expr, names);
            } else if aggregate.without {
                let mut inside = BTreeSet::new();
                add(&aggregate.expr, &mut inside);
                names.extend(
                    inside
                        .into_iter()
                        .filter(|name| !aggregate.grouping.contains(name)),
                );
            } else {
                names.extend(aggregate.grouping.iter().cloned());
            }
            if aggregate.op == AggregateOp::CountValues
                && let Some(Expr::String(label)) = aggregate.param.as_deref()
            {
                names.insert(label.value.clone());
            }
        }
        Expr::Binary(binary) => {
            let matching = binary.matching.as_ref();
            match (binary.lhs.value_type(), matching) {
                (ValueType::Scalar, _) => add(&binary.rhs, names),
                (_, Some(matching)) if matching.on && !binary.op.is_set() => {
                    names.extend(matching.labels.iter().chain(&matching.include).cloned());
                }
                _ => add(&binary.lhs, names),
            }
            if binary.op == BinaryOp::Or {
                add(&binary.rhs, names);
            }
        }
    }
}

/// A label that a selector demands by `=` is one of every series that it finds.
fn add_selector(selector: &VectorSelector, names: &mut BTreeSet<String>) {
    let demanded = selector
        .matchers
        .iter()
        .filter(|m| m.op == MatchOp::Equal && !m.value.is_empty() && m.name != "__name__");
    names.extend(demanded.map(|matcher| matcher.name.clone()));
}
