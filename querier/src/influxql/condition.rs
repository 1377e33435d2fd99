//! The time range of a condition, and what is left of it.

use chrono::{NaiveDate, NaiveDateTime, TimeZone};

use super::ast::{Expr, Literal, Operator, Reference};
use super::error::InfluxqlError;

/// Times that stand for no bound.
pub const MIN_TIME: i64 = i64::MIN + 2;
/// The greatest time.
pub const MAX_TIME: i64 = i64::MAX - 1;

/// Times in ns, both inclusive; `None` is without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeBounds {
    /// The first.
    pub min: Option<i64>,
    /// The last.
    pub max: Option<i64>,
}

impl TimeBounds {
    /// The times in both.
    pub fn intersect(self, other: Self) -> Self {
        let of = |a: Option<i64>, b: Option<i64>, pick: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(pick(a, b)),
            (a, b) => a.or(b),
        };
        Self {
            min: of(self.min, other.min, i64::max),
            max: of(self.max, other.max, i64::min),
        }
    }
}

/// What constants of times mean.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Now, in ns.
    pub now: i64,
    /// Where texts are local times.
    pub zone: Option<chrono_tz::Tz>,
}

/// Takes the comparisons with `time` out of a condition. They hold together, wherever they stand.
///
/// # Errors
/// [`InfluxqlError::Invalid`] if the condition compares nothing, or the time with no time.
pub fn split_time(
    condition: &Expr,
    clock: Clock,
) -> Result<(Option<Expr>, TimeBounds), InfluxqlError> {
    match condition {
        Expr::Logical(op, terms) => {
            let mut bounds = TimeBounds::default();
            let mut rest = Vec::with_capacity(terms.len());
            for term in terms {
                let (term, within) = split_time(term, clock)?;
                bounds = bounds.intersect(within);
                rest.extend(term);
            }
            let rest = match rest.len() {
                0 => None,
                1 => rest.pop(),
                _ => Some(Expr::Logical(*op, rest)),
            };
            Ok((rest, bounds))
        }
        Expr::Binary(op, left, right) if is_time(left) => Ok((None, bounds_of(*op, right, clock)?)),
        Expr::Binary(op, left, right) if is_time(right) => {
            Ok((None, bounds_of(op.swapped(), left, clock)?))
        }
        Expr::Binary(op, ..) if op.is_comparison() => {
            Ok((Some(condition.clone()), TimeBounds::default()))
        }
        Expr::Binary(..) | Expr::Literal(Literal::Boolean(_)) => {
            Ok((Some(condition.clone()), TimeBounds::default()))
        }
        _ => Err(InfluxqlError::invalid(
            "invalid condition expression: it compares nothing",
        )),
    }
}

fn is_time(expr: &Expr) -> bool {
    matches!(expr, Expr::Reference(Reference { name, .. }) if name.eq_ignore_ascii_case("time"))
}

fn bounds_of(op: Operator, value: &Expr, clock: Clock) -> Result<TimeBounds, InfluxqlError> {
    let time = time_of(value, clock)?;
    let (min, max) = match op {
        Operator::Equal => (Some(time), Some(time)),
        Operator::Greater => (Some(time.saturating_add(1)), None),
        Operator::GreaterEqual => (Some(time), None),
        Operator::Less => (None, Some(time.saturating_sub(1))),
        Operator::LessEqual => (None, Some(time)),
        op => {
            let op = op.as_str();
            return Err(InfluxqlError::Invalid(format!(
                "invalid time comparison operator: {op}"
            )));
        }
    };
    Ok(TimeBounds { min, max })
}

/// The time that a constant expression means, in ns.
fn time_of(expr: &Expr, clock: Clock) -> Result<i64, InfluxqlError> {
    match constant(expr, clock)? {
        Constant::Time(ns) | Constant::Span(ns) => Ok(ns),
        Constant::Float(number) => Ok(number as i64),
    }
}

enum Constant {
    Time(i64),
    /// A duration or a bare number.
    Span(i64),
    Float(f64),
}

fn constant(expr: &Expr, clock: Clock) -> Result<Constant, InfluxqlError> {
    let incompatible =
        || InfluxqlError::invalid("invalid operation: time is compared with no time");
    Ok(match expr {
        Expr::Literal(Literal::Integer(ns) | Literal::Duration(ns)) => Constant::Span(*ns),
        Expr::Literal(Literal::Time(ns)) => Constant::Time(*ns),
        Expr::Literal(Literal::Number(number)) => Constant::Float(*number),
        Expr::Literal(Literal::String(text)) => Constant::Time(parse_time(text, clock.zone)?),
        Expr::Call(name, args) if name == "now" && args.is_empty() => Constant::Time(clock.now),
        Expr::Binary(op, left, right) => {
            let (left, right) = (constant(left, clock)?, constant(right, clock)?);
            match (op, left, right) {
                (Operator::Add, Constant::Time(a), Constant::Span(b))
                | (Operator::Add, Constant::Span(a), Constant::Time(b)) => {
                    Constant::Time(a.saturating_add(b))
                }
                (Operator::Subtract, Constant::Time(a), Constant::Span(b)) => {
                    Constant::Time(a.saturating_sub(b))
                }
                (Operator::Subtract, Constant::Time(a), Constant::Time(b)) => {
                    Constant::Span(a.saturating_sub(b))
                }
                (Operator::Add, Constant::Span(a), Constant::Span(b)) => {
                    Constant::Span(a.saturating_add(b))
                }
                (Operator::Subtract, Constant::Span(a), Constant::Span(b)) => {
                    Constant::Span(a.saturating_sub(b))
                }
                (Operator::Multiply, Constant::Span(a), Constant::Span(b)) => {
                    Constant::Span(a.saturating_mul(b))
                }
                (Operator::Divide, Constant::Span(a), Constant::Span(b)) => {
                    Constant::Span(a.checked_div(b).ok_or_else(incompatible)?)
                }
                (op, Constant::Float(a), Constant::Span(b)) => arithmetic(*op, a, b as f64),
                (op, Constant::Span(a), Constant::Float(b)) => arithmetic(*op, a as f64, b),
                (op, Constant::Float(a), Constant::Float(b)) => arithmetic(*op, a, b),
                _ => return Err(incompatible()),
            }
        }
        _ => return Err(incompatible()),
    })
}

fn arithmetic(op: Operator, a: f64, b: f64) -> Constant {
    Constant::Float(match op {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        _ => a / b,
    })
}

/// A constant duration in ns, if the expression is one.
pub fn duration_of(expr: &Expr) -> Option<i64> {
    let clock = Clock { now: 0, zone: None };
    let is_duration = match expr {
        Expr::Literal(Literal::Duration(_)) => true,
        Expr::Binary(_, left, right) => duration_of(left).is_some() || duration_of(right).is_some(),
        _ => false,
    };
    match constant(expr, clock) {
        Ok(Constant::Span(ns)) if is_duration => Some(ns),
        _ => None,
    }
}

/// Ns of a text such as `2021-03-01`, `2021-03-01 10:00:00.5` or one in RFC 3339; without an
/// offset it is local time.
///
/// # Errors
/// [`InfluxqlError::Invalid`] if it is none, or beyond the times that there are.
pub fn parse_time(text: &str, zone: Option<chrono_tz::Tz>) -> Result<i64, InfluxqlError> {
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        InfluxqlError::Invalid(format!(
            "invalid operation: time and the text {shown:?} are not compatible: write \
             'YYYY-MM-DD HH:MM:SS' or RFC 3339"
        ))
    };
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return time.timestamp_nanos_opt().ok_or_else(wrong);
    }
    let with_time = [
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
    ]
    .iter()
    .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let local = with_time
        .or_else(|| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .ok()?
                .and_hms_opt(0, 0, 0)
        })
        .ok_or_else(wrong)?;
    let time = match zone {
        None => local.and_utc().timestamp_nanos_opt(),
        Some(zone) => zone
            .from_local_datetime(&local)
            .earliest()
            .and_then(|time| time.timestamp_nanos_opt()),
    };
    time.ok_or_else(wrong)
}
