//! Binary operators; what needs vector matching is in `matching` and `set`.

use super::super::parse::ast::{BinaryOp, Span};
use super::engine::{Engine, Evaluated};
use super::grid::Grid;
use super::plan::Binary;
use super::row::{ABSENT, Row, Rows, is_absent};
use super::{QueryError, matching, set};

/// Evaluates a binary operation.
pub(crate) async fn evaluate(engine: &Engine, node: &Binary, grid: Grid) -> Result<Evaluated, QueryError> {
    let (lhs, rhs) = futures::try_join!(engine.eval(&node.lhs, grid), engine.eval(&node.rhs, grid))?;
    Ok(match (lhs, rhs) {
        (Evaluated::Scalar(lhs), Evaluated::Scalar(rhs)) => {
            let values = lhs.into_iter().zip(rhs).map(|(a, b)| match apply(node.op, a, b) {
                Applied::Value(value) => value,
                Applied::Holds(holds) => f64::from(u8::from(holds)),
            });
            Evaluated::Scalar(values.collect())
        }
        (Evaluated::Vector(rows), Evaluated::Scalar(scalar)) => Evaluated::Vector(with_scalar(engine, node, rows, &scalar, false)?),
        (Evaluated::Scalar(scalar), Evaluated::Vector(rows)) => Evaluated::Vector(with_scalar(engine, node, rows, &scalar, true)?),
        (Evaluated::Vector(lhs), Evaluated::Vector(rhs)) => Evaluated::Vector(match node.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => set::evaluate(engine, node, lhs, rhs, grid)?,
            _ => matching::evaluate(engine, node, lhs, rhs, grid)?,
        }),
        _ => return Err(QueryError::BadData("binary operators need scalars or instant vectors".to_owned())),
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
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => Applied::Holds(false),
    }
}

/// Whether an operator makes another quantity of its operands, so that the metric name no longer fits.
pub(crate) fn is_arithmetic(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Pow | BinaryOp::Atan2)
}

pub(crate) fn is_trim(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

/// The operator as written.
pub(crate) fn symbol(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Mod => "%",
        BinaryOp::Pow => "^",
        BinaryOp::Atan2 => "atan2",
        BinaryOp::Eql => "==",
        BinaryOp::Neq => "!=",
        BinaryOp::Lt => "<",
        BinaryOp::Gt => ">",
        BinaryOp::Lte => "<=",
        BinaryOp::Gte => ">=",
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
        BinaryOp::Unless => "unless",
        BinaryOp::TrimUpper => "</",
        BinaryOp::TrimLower => ">/",
    }
}

/// The value that a comparison or an arithmetic operation leaves at a step; `kept` is what a comparison lets through.
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
fn with_scalar(engine: &Engine, node: &Binary, rows: Rows, scalar: &[f64], scalar_is_left: bool) -> Result<Rows, QueryError> {
    rows.try_map(|mut rows| {
        for row in &mut rows {
            engine.limits.check()?;
            if row.has_histograms() {
                histogram_with_scalar(engine, node, row, scalar_is_left)?;
            }
            row.drop_name |= is_arithmetic(node.op) || node.return_bool;
            if is_trim(node.op) && row.values.iter().any(|value| !is_absent(*value)) {
                engine.annotate(|all| all.incompatible_types("float", symbol(node.op), "float", node.span));
            }
            for (value, scalar) in row.values.iter_mut().zip(scalar) {
                if !is_absent(*value) {
                    let (a, b) = if scalar_is_left { (*scalar, *value) } else { (*value, *scalar) };
                    *value = result(node.op, a, b, *value, node.return_bool);
                }
            }
        }
        rows.retain(|row| !row.is_empty());
        Ok(rows)
    })
}

/// Histograms meet a scalar: most operators make no sense and leave nothing, the others cannot be computed yet.
fn histogram_with_scalar(engine: &Engine, node: &Binary, row: &mut Row, scalar_is_left: bool) -> Result<(), QueryError> {
    let defined = matches!((node.op, scalar_is_left), (BinaryOp::Mul, _) | (BinaryOp::Div, false)) || (is_trim(node.op) && !scalar_is_left);
    if defined {
        return Err(QueryError::unsupported_histogram("binary operators"));
    }
    let (lhs, rhs) = if scalar_is_left { ("float", "histogram") } else { ("histogram", "float") };
    incompatible(engine, node.op, lhs, rhs, node.span);
    row.histograms = None;
    Ok(())
}

/// Remarks that an operator is not defined for two kinds of samples.
pub(crate) fn incompatible(engine: &Engine, op: BinaryOp, lhs: &str, rhs: &str, span: Span) {
    engine.annotate(|all| all.incompatible_types(lhs, symbol(op), rhs, span));
}
