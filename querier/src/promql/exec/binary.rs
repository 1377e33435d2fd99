//! Binary operators; what needs vector matching is in `matching` and `set`.

use std::sync::Arc;

use super::super::parse::ast::{BinaryOp, Span, VectorMatching};
use super::annotations::Collector;
use super::grid::Grid;
use super::limits::Limits;
use super::row::{ABSENT, Point, Rows, is_absent};
use super::sample_op::{self, Remark, Remarks};
use super::scalar::Scalar;
use super::work::Work;
use super::{QueryError, matching, set};

/// An operation on two vectors.
#[derive(Debug, Clone)]
pub(crate) struct VectorBinary {
    pub op: BinaryOp,
    pub return_bool: bool,
    pub matching: VectorMatching,
    pub span: Span,
}

/// An operation on a vector and a scalar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScalarBinary {
    pub op: BinaryOp,
    pub return_bool: bool,
    pub scalar_is_left: bool,
    pub span: Span,
}

impl ScalarBinary {
    /// Whether it makes another quantity of the vector, so that the metric name no longer fits.
    pub fn changes_quantity(&self) -> bool {
        is_arithmetic(self.op) || self.return_bool
    }
}

/// Evaluates an operation on two vectors.
pub(crate) fn vectors(
    work: &Work,
    spec: &VectorBinary,
    lhs: Rows,
    rhs: Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    match spec.op {
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
            set::evaluate(work, spec, lhs, rhs, grid)
        }
        _ => matching::evaluate(work, spec, lhs, rhs, grid),
    }
}

/// Evaluates an operation on two scalars; a comparison gives 0 or 1.
pub(crate) fn scalars(op: BinaryOp, mut lhs: Scalar, rhs: &[f64]) -> Scalar {
    for (a, b) in lhs.iter_mut().zip(rhs) {
        *a = match apply(op, *a, *b) {
            Applied::Value(value) => value,
            Applied::Holds(holds) => f64::from(u8::from(holds)),
        };
    }
    lhs
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
pub(crate) fn with_scalar(
    limits: &Arc<Limits>,
    spec: &ScalarBinary,
    rows: Rows,
    scalar: &[f64],
    all: &mut Collector,
) -> Result<Rows, QueryError> {
    let scalar_is_left = spec.scalar_is_left;
    let mut remarks = Remarks::new(scalar.len());
    let mut remarks_charge = None;
    let rows = rows.try_map(|mut rows, charge| {
        if is_trim(spec.op) || rows.iter().any(|row| row.histograms.is_some()) {
            remarks_charge = Some(limits.charge(Remarks::bytes_of(scalar.len()))?);
        }
        for (order, row) in rows.iter_mut().enumerate() {
            limits.check()?;
            // Each histogram becomes another one.
            charge.reserve(row.histogram_bytes())?;
            let histograms = row.histograms.take();
            row.drop_name |= spec.changes_quantity();
            if is_trim(spec.op) {
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
                        *value = result(spec.op, a, b, *value, spec.return_bool);
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
                let (applied, remark) = sample_op::apply(spec.op, a, b);
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
    remarks.report(spec.op, spec.span, all);
    drop(remarks_charge);
    Ok(rows)
}
