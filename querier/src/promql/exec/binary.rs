//! Binary operators; what needs vector matching is in `matching` and `set`.

use std::sync::Arc;

use super::super::parse::ast::BinaryOp;
use super::engine::{Engine, Evaluated};
use super::grid::Grid;
use super::plan::Binary;
use super::row::{ABSENT, Point, Rows, is_absent};
use super::sample_op::{self, Remark, Remarks};
use super::{QueryError, matching, set};

/// Evaluates a binary operation.
pub(crate) async fn evaluate(
    engine: &Engine,
    node: &Binary,
    grid: Grid,
) -> Result<Evaluated, QueryError> {
    let (lhs, rhs) = engine.both(&node.lhs, &node.rhs, grid).await?;
    Ok(match (lhs, rhs) {
        (Evaluated::Scalar(mut lhs), Evaluated::Scalar(rhs)) => {
            for (a, b) in lhs.iter_mut().zip(&*rhs) {
                *a = match apply(node.op, *a, *b) {
                    Applied::Value(value) => value,
                    Applied::Holds(holds) => f64::from(u8::from(holds)),
                };
            }
            Evaluated::Scalar(lhs)
        }
        (Evaluated::Vector(rows), Evaluated::Scalar(scalar)) => {
            Evaluated::Vector(with_scalar(engine, node, rows, &scalar, false)?)
        }
        (Evaluated::Scalar(scalar), Evaluated::Vector(rows)) => {
            Evaluated::Vector(with_scalar(engine, node, rows, &scalar, true)?)
        }
        (Evaluated::Vector(lhs), Evaluated::Vector(rhs)) => Evaluated::Vector(match node.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                set::evaluate(engine, node, lhs, rhs, grid)?
            }
            _ => matching::evaluate(engine, node, lhs, rhs, grid)?,
        }),
        _ => {
            return Err(QueryError::BadData(
                "binary operators need scalars or instant vectors".to_owned(),
            ));
        }
    })
}

/// What an operator gives for two floats.
pub(crate) enum Applied {
    /// An arithmetic result.
    Value(f64),
    /// Whether a comparison holds.
    Holds(bool),
}

/// Applies an operator to two floats.
#[inline]
pub(crate) fn apply(op: BinaryOp, a: f64, b: f64) -> Applied {
    match op {
        BinaryOp::Add => Applied::Value(a + b),
        BinaryOp::Sub => Applied::Value(a - b),
        BinaryOp::Mul => Applied::Value(a * b),
        BinaryOp::Div => Applied::Value(a / b),
        BinaryOp::Mod => Applied::Value(a % b),
        BinaryOp::Pow => Applied::Value(a.powf(b)),
        BinaryOp::Atan2 => Applied::Value(a.atan2(b)),
        BinaryOp::Eql => Applied::Holds(a == b),
        BinaryOp::Neq => Applied::Holds(a != b),
        BinaryOp::Lt => Applied::Holds(a < b),
        BinaryOp::Gt => Applied::Holds(a > b),
        BinaryOp::Lte => Applied::Holds(a <= b),
        BinaryOp::Gte => Applied::Holds(a >= b),
        // Set operators never get here, and trimming applies to histograms only.
        BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Unless
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => Applied::Holds(false),
    }
}

/// Whether an operator makes another quantity of its operands, so that the metric name no longer
/// fits.
pub(crate) fn is_arithmetic(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Mod
            | BinaryOp::Pow
            | BinaryOp::Atan2
    )
}

pub(crate) fn is_trim(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

/// The value that a comparison or an arithmetic operation leaves at a step; `kept` is what a
/// comparison lets through.
#[inline]
pub(crate) fn result(op: BinaryOp, a: f64, b: f64, kept: f64, return_bool: bool) -> f64 {
    match apply(op, a, b) {
        Applied::Value(value) => value,
        Applied::Holds(holds) if return_bool => f64::from(u8::from(holds)),
        Applied::Holds(true) => kept,
        Applied::Holds(false) => ABSENT,
    }
}

/// A vector and a scalar; a comparison keeps the vector's values whichever side they are on.
fn with_scalar(
    engine: &Engine,
    node: &Binary,
    rows: Rows,
    scalar: &[f64],
    scalar_is_left: bool,
) -> Result<Rows, QueryError> {
    let mut remarks = Remarks::new(scalar.len());
    let mut remarks_charge = None;
    let rows = rows.try_map(|mut rows, charge| {
        if is_trim(node.op) || rows.iter().any(|row| row.histograms.is_some()) {
            remarks_charge = Some(engine.limits.charge(Remarks::bytes_of(scalar.len()))?);
        }
        for (order, row) in rows.iter_mut().enumerate() {
            engine.limits.check()?;
            // Each histogram becomes another one.
            charge.reserve(row.histogram_bytes())?;
            let histograms = row.histograms.take();
            row.drop_name |= is_arithmetic(node.op) || node.return_bool;
            if is_trim(node.op) {
                for (step, value) in row
                    .values
                    .iter_mut()
                    .enumerate()
                    .filter(|(_, value)| !is_absent(**value))
                {
                    remarks.note(step, order, Remark::Types("float", "float"));
                    *value = ABSENT;
                }
            } else {
                for (value, scalar) in row.values.iter_mut().zip(scalar) {
                    if !is_absent(*value) {
                        let (a, b) = if scalar_is_left {
                            (*scalar, *value)
                        } else {
                            (*value, *scalar)
                        };
                        *value = result(node.op, a, b, *value, node.return_bool);
                    }
                }
            }
            for (step, histogram) in histograms.into_iter().flatten().enumerate() {
                let Some(histogram) = histogram else { continue };
                let (vector, scalar) = (Point::Histogram(histogram), Point::Float(scalar[step]));
                let (a, b) = if scalar_is_left {
                    (&scalar, &vector)
                } else {
                    (&vector, &scalar)
                };
                let (applied, remark) = sample_op::apply(node.op, a, b);
                if let sample_op::Applied::Value(value) = applied {
                    row.set(step, Point::Histogram(Arc::new(value)));
                }
                if let Some(remark) = remark {
                    remarks.note(step, order, remark);
                }
            }
            charge.take(row.histogram_bytes())?;
        }
        rows.retain(|row| !row.is_empty());
        Ok(rows)
    })?;
    engine.annotate(|all| remarks.report(node.op, node.span, all));
    drop(remarks_charge);
    Ok(rows)
}
