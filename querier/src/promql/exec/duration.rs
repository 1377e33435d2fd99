//! Durations that are computed when a query starts: `[step() * 4]`, `offset max(5m, step())`.

use super::super::parse::ast::{BinaryOp, DurationExpr, Span};
use super::QueryError;

/// What `step()` and `range()` stand for, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DurationContext {
    pub step: f64,
    pub range: f64,
}

impl DurationContext {
    /// A duration in milliseconds that must be positive: a range or the step of a subquery.
    pub fn positive(&self, expr: &DurationExpr) -> Result<i64, QueryError> {
        self.milliseconds(expr, false)
    }

    /// A duration in milliseconds of either sign: an offset.
    pub fn signed(&self, expr: &DurationExpr) -> Result<i64, QueryError> {
        self.milliseconds(expr, true)
    }

    fn milliseconds(&self, expr: &DurationExpr, signed: bool) -> Result<i64, QueryError> {
        let span = span(expr);
        let exact = match expr {
            DurationExpr::Literal { ms, .. } => Some(*ms),
            _ => None,
        };
        let seconds = self.seconds(expr)?;
        if !seconds.is_finite() {
            return Err(error(span, "duration is NaN or infinite"));
        }
        // A literal was looked at by the parser, and may be less than a millisecond.
        if seconds <= 0.0 && !signed && exact.is_none() {
            return Err(error(span, "duration must be greater than 0"));
        }
        // The widest duration that 64 bits of nanoseconds hold, as Prometheus limits it.
        if seconds.abs() > 9_223_372_036.854_775 {
            return Err(error(span, "duration is out of range"));
        }
        Ok(exact.unwrap_or((seconds * 1000.0) as i64))
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, QueryError> {
        Ok(match expr {
            DurationExpr::Literal { ms, .. } => *ms as f64 / 1000.0,
            DurationExpr::Number { value, .. } => *value,
            DurationExpr::Step(_) => self.step,
            DurationExpr::Range(_) => self.range,
            DurationExpr::Unary {
                negative: true,
                expr,
                ..
            } => -self.seconds(expr)?,
            DurationExpr::Unary { expr, .. } | DurationExpr::Paren(expr, _) => {
                self.seconds(expr)?
            }
            DurationExpr::Extreme { max, lhs, rhs, .. } => {
                let (lhs, rhs) = (self.seconds(lhs)?, self.seconds(rhs)?);
                if *max {
                    super::number::max(lhs, rhs)
                } else {
                    super::number::min(lhs, rhs)
                }
            }
            DurationExpr::Binary { op, lhs, rhs, span } => {
                let (lhs, rhs) = (self.seconds(lhs)?, self.seconds(rhs)?);
                match op {
                    BinaryOp::Add => lhs + rhs,
                    BinaryOp::Sub => lhs - rhs,
                    BinaryOp::Mul => lhs * rhs,
                    BinaryOp::Div if rhs == 0.0 => return Err(error(*span, "division by zero")),
                    BinaryOp::Div => lhs / rhs,
                    BinaryOp::Mod if rhs == 0.0 => return Err(error(*span, "modulo by zero")),
                    BinaryOp::Mod => lhs % rhs,
                    BinaryOp::Pow => lhs.powf(rhs),
                    _ => return Err(error(*span, "unexpected operator in a duration")),
                }
            }
        })
    }
}

fn span(expr: &DurationExpr) -> Span {
    match expr {
        DurationExpr::Literal { span, .. }
        | DurationExpr::Number { span, .. }
        | DurationExpr::Step(span)
        | DurationExpr::Range(span)
        | DurationExpr::Unary { span, .. }
        | DurationExpr::Binary { span, .. }
        | DurationExpr::Extreme { span, .. }
        | DurationExpr::Paren(_, span) => *span,
    }
}

fn error(span: Span, message: &str) -> QueryError {
    QueryError::BadData(format!("{}:{}: {message}", span.start, span.end))
}
