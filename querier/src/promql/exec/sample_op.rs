//! Binary operators on two samples of which at least one is a histogram.

use std::sync::Arc;

use tidelake_catalog::model::{Histogram, ResetHint};

use super::super::histogram::arithmetic::{add, divide, multiply, subtract};
use super::super::histogram::compact::compact;
use super::super::histogram::equal::equal;
use super::super::histogram::trim::{Keep, trim};
use super::super::parse::ast::{BinaryOp, Span};
use super::annotations::{Collector, Operation};
use super::row::Point;

/// What an operator gives for two samples.
#[derive(Debug)]
pub(crate) enum Applied {
    /// A histogram.
    Value(Histogram),
    /// Whether a comparison holds.
    Holds(bool),
    /// No result, not even that a comparison does not hold.
    Nothing,
}

/// Why there is no result, or what is to be known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remark {
    /// The operator is not defined for these kinds of samples.
    Types(&'static str, &'static str),
    /// Exponential and custom buckets.
    Layout,
    Conflict(Operation),
    Reconciled(Operation),
}

/// Applies an operator.
pub(crate) fn apply(op: BinaryOp, a: &Point, b: &Point) -> (Applied, Option<Remark>) {
    let value = |histogram| (Applied::Value(histogram), None);
    match (op, a, b) {
        (BinaryOp::Mul, Point::Float(factor), Point::Histogram(histogram))
        | (BinaryOp::Mul, Point::Histogram(histogram), Point::Float(factor)) => {
            value(changed(histogram, |histogram| multiply(histogram, *factor)))
        }
        (BinaryOp::Div, Point::Histogram(histogram), Point::Float(divisor)) => {
            value(changed(histogram, |histogram| divide(histogram, *divisor)))
        }
        (BinaryOp::TrimUpper, Point::Histogram(histogram), Point::Float(end)) => {
            value(trim(histogram, Keep::Below, *end))
        }
        (BinaryOp::TrimLower, Point::Histogram(histogram), Point::Float(end)) => {
            value(trim(histogram, Keep::Above, *end))
        }
        (BinaryOp::Eql, Point::Histogram(a), Point::Histogram(b)) => {
            (Applied::Holds(equal(a, b)), None)
        }
        (BinaryOp::Neq, Point::Histogram(a), Point::Histogram(b)) => {
            (Applied::Holds(!equal(a, b)), None)
        }
        (BinaryOp::Add, Point::Histogram(a), Point::Histogram(b)) => {
            combined(add(a, b), Operation::Addition)
        }
        (BinaryOp::Sub, Point::Histogram(a), Point::Histogram(b)) => {
            combined(subtract(a, b), Operation::Subtraction)
        }
        _ => (Applied::Nothing, Some(Remark::Types(kind(a), kind(b)))),
    }
}

/// What a point is called in remarks.
fn kind(point: &Point) -> &'static str {
    if matches!(point, Point::Float(_)) {
        "float"
    } else {
        "histogram"
    }
}

fn changed(histogram: &Arc<Histogram>, change: impl FnOnce(&mut Histogram)) -> Histogram {
    let mut copy = Histogram::clone(histogram);
    change(&mut copy);
    compact(&mut copy);
    copy
}

/// A sum or a difference. Two that contradict each other on counter resets have none, as in
/// Prometheus.
fn combined(
    result: Result<
        (Histogram, super::super::histogram::Merged),
        super::super::histogram::Incompatible,
    >,
    operation: Operation,
) -> (Applied, Option<Remark>) {
    match result {
        Err(_) => (Applied::Nothing, Some(Remark::Layout)),
        Ok((_, merged)) if merged.conflict => (Applied::Nothing, Some(Remark::Conflict(operation))),
        Ok((mut histogram, merged)) => {
            if operation == Operation::Subtraction {
                histogram.reset_hint = ResetHint::Gauge;
            }
            compact(&mut histogram);
            (
                Applied::Value(histogram),
                merged.reconciled.then_some(Remark::Reconciled(operation)),
            )
        }
    }
}

/// The remarks of one operation. Of all that are made at a step, only that on the last pair of
/// samples is kept.
#[derive(Debug)]
pub(crate) struct Remarks {
    steps: Vec<Option<(usize, Remark)>>,
    count: usize,
}

impl Remarks {
    /// Bytes of the remarks on so many steps.
    pub fn bytes_of(steps: usize) -> usize {
        steps.saturating_mul(size_of::<Option<(usize, Remark)>>())
    }

    /// For a number of steps; nothing is allocated before the first remark.
    pub fn new(steps: usize) -> Self {
        Self {
            steps: Vec::new(),
            count: steps,
        }
    }

    /// Remarks on a pair at a step; pairs are told apart by their order.
    pub fn note(&mut self, step: usize, order: usize, remark: Remark) {
        if self.steps.is_empty() {
            self.steps = vec![None; self.count];
        }
        if let Some(last) = self.steps.get_mut(step)
            && last.is_none_or(|(before, _)| before <= order)
        {
            *last = Some((order, remark));
        }
    }

    /// Hands the remarks over.
    pub fn report(self, op: BinaryOp, span: Span, collector: &mut Collector) {
        let mut done: Vec<Remark> = Vec::new();
        for (_, remark) in self.steps.into_iter().flatten() {
            if done.contains(&remark) {
                continue;
            }
            done.push(remark);
            match remark {
                Remark::Types(lhs, rhs) => {
                    collector.incompatible_types(lhs, op.as_str(), rhs, span)
                }
                Remark::Layout => collector.incompatible_layout(op.as_str(), span),
                Remark::Conflict(operation) => collector.conflicting_resets(operation, span),
                Remark::Reconciled(operation) => collector.reconciled_bounds(operation, span),
            }
        }
    }
}
