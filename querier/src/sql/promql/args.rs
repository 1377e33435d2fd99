//! What a call asks for, from its constant arguments.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use super::PROMQL_FUNCTION;
use crate::as_of::time_ms;
use crate::promql::parse::duration_ms;
use crate::sql::error::SqlError;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Call {
    /// The expression.
    pub text: String,
    /// The only or the first time of evaluation, in ms.
    pub start_ms: i64,
    /// No evaluation is later, in ms.
    pub end_ms: i64,
    /// Distance of evaluations in ms; 0 for one evaluation.
    pub step_ms: i64,
}

const FORMS: &str =
    "promql('expression'), promql('expression', time) or promql('expression', start, end, step)";

fn bad(message: impl std::fmt::Display) -> SqlError {
    SqlError::BadRequest(format!("{PROMQL_FUNCTION}(): {message}"))
}

impl Call {
    /// Reads arguments that the planner has computed as far as it could.
    pub fn read(args: &[Expr], now_ms: i64) -> Result<Self, SqlError> {
        let (text, times) = match args {
            [text] => (text, [None, None, None]),
            [text, time] => (text, [Some(("time", time)), None, None]),
            [text, start, end, step] => (
                text,
                [
                    Some(("start", start)),
                    Some(("end", end)),
                    Some(("step", step)),
                ],
            ),
            _ => {
                return Err(bad(format!(
                    "it takes 1, 2 or 4 arguments, got {}: {FORMS}",
                    args.len()
                )));
            }
        };
        let value = constant("expression", text)?;
        let text = value.try_as_str().flatten().ok_or_else(|| {
            bad(format!(
                "the expression must be a text, got {value}: {FORMS}"
            ))
        })?;
        let time = |argument: Option<(&str, &Expr)>| {
            argument
                .map(|(name, expr)| time(name, constant(name, expr)?))
                .transpose()
        };
        let start_ms = time(times[0])?.unwrap_or(now_ms);
        let end_ms = time(times[1])?.unwrap_or(start_ms);
        let step_ms = times[2]
            .map(|(name, expr)| step(constant(name, expr)?))
            .transpose()?
            .unwrap_or(0);
        if end_ms < start_ms {
            return Err(bad("end must not be before start"));
        }
        Ok(Self {
            text: text.to_owned(),
            start_ms,
            end_ms,
            step_ms,
        })
    }
}

fn constant<'a>(name: &str, expr: &'a Expr) -> Result<&'a ScalarValue, SqlError> {
    match expr {
        Expr::Literal(value, _) => Ok(value),
        Expr::Alias(alias) => constant(name, &alias.expr),
        Expr::Placeholder(placeholder) => Err(bad(format!(
            "{name} must be a constant, got the parameter {}: write the value into the text of \
             the query",
            placeholder.id
        ))),
        other => Err(bad(format!("{name} must be a constant, got {other}"))),
    }
}

/// Milliseconds since 1970.
fn time(name: &str, value: &ScalarValue) -> Result<i64, SqlError> {
    use ScalarValue as S;
    let wrong = || {
        let shown: String = value.to_string().chars().take(60).collect();
        bad(format!(
            "{name}: {shown:?} is no time; give a timestamp, seconds since 1970, or a text such \
             as '2026-11-25T10:00:00Z'"
        ))
    };
    if let Some(text) = value.try_as_str().flatten() {
        return time_ms(text).ok_or_else(wrong);
    }
    match value {
        S::TimestampSecond(Some(v), _) => v.checked_mul(1000),
        S::TimestampMillisecond(Some(v), _) | S::Date64(Some(v)) => Some(*v),
        S::TimestampMicrosecond(Some(v), _) => Some(v.div_euclid(1000)),
        S::TimestampNanosecond(Some(v), _) => Some(v.div_euclid(1_000_000)),
        S::Date32(Some(days)) => Some(i64::from(*days) * 86_400_000),
        number => seconds(number),
    }
    .ok_or_else(wrong)
}

/// Milliseconds, positive.
fn step(value: &ScalarValue) -> Result<i64, SqlError> {
    use ScalarValue as S;
    const DAY: i64 = 86_400_000;
    let wrong = || {
        let shown: String = value.to_string().chars().take(60).collect();
        bad(format!(
            "step: {shown:?} is no duration above 0; give an interval, seconds, or a text such as \
             '1m30s'"
        ))
    };
    let ms = if let Some(text) = value.try_as_str().flatten() {
        text.parse()
            .ok()
            .and_then(rounded)
            .or_else(|| duration_ms(text).ok())
    } else {
        match value {
            // Months have no length.
            S::IntervalMonthDayNano(Some(v)) if v.months == 0 => i64::from(v.days)
                .checked_mul(DAY)
                .and_then(|days| days.checked_add(v.nanoseconds / 1_000_000)),
            S::IntervalDayTime(Some(v)) => {
                Some(i64::from(v.days) * DAY + i64::from(v.milliseconds))
            }
            S::DurationSecond(Some(v)) => v.checked_mul(1000),
            S::DurationMillisecond(Some(v)) => Some(*v),
            S::DurationMicrosecond(Some(v)) => Some(v / 1000),
            S::DurationNanosecond(Some(v)) => Some(v / 1_000_000),
            number => seconds(number),
        }
    };
    ms.filter(|ms| *ms > 0).ok_or_else(wrong)
}

fn seconds(value: &ScalarValue) -> Option<i64> {
    use ScalarValue as S;
    match value {
        S::Float64(Some(v)) => rounded(*v),
        S::Float32(Some(v)) => rounded(f64::from(*v)),
        S::Int64(Some(v)) => v.checked_mul(1000),
        S::Int32(Some(v)) => Some(i64::from(*v) * 1000),
        S::UInt64(Some(v)) => i64::try_from(*v).ok()?.checked_mul(1000),
        S::Decimal128(Some(v), _, scale) => rounded(*v as f64 / 10f64.powi(i32::from(*scale))),
        _ => None,
    }
}

fn rounded(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1000.0).round();
    (ms.abs() < 9.2e18).then_some(ms as i64)
}
