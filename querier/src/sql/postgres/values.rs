//! Parameters become constants of the statement.
//!
//! They are put into the parsed statement, never into its text. A text or a time that a column is
//! compared with becomes a plain text, so that the statement keeps the shape by which its plan is
//! found again.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    Array, CastKind, DataType as SqlType, ExactNumberInfo, Expr, TimezoneInfo, TypedString,
    UnaryOperator, Value,
};

use super::{PgParams, PgValue};
use crate::sql::error::SqlError;

/// Elements of an array, each of which is a constant of the statement.
pub const MAX_ELEMENTS: usize = 10_000;
/// Digits of a decimal number of 128 and of 256 bits.
const DIGITS_128: usize = 38;
const DIGITS_256: usize = 76;

/// The number of a placeholder (`$1`), from 0 on.
pub(super) fn index(placeholder: &str) -> Result<usize, SqlError> {
    let number = placeholder.strip_prefix('$').map(str::parse::<usize>);
    match number {
        Some(Ok(number)) if number > 0 => Ok(number - 1),
        _ => Err(SqlError::BadRequest(format!(
            "there is no parameter {placeholder}: parameters are numbered, $1 is the first"
        ))),
    }
}

/// What stands in the place of a parameter; `None` leaves it, for the planner to find its type.
pub(super) fn constant(
    params: &PgParams,
    placeholder: &str,
    is_compared: bool,
) -> Result<Option<Expr>, SqlError> {
    let at = index(placeholder)?;
    match params {
        PgParams::Values(values) => match values.get(at) {
            Some(value) => expression(value, is_compared).map(Some),
            None => Err(SqlError::BadRequest(format!(
                "the statement uses {placeholder}, but {} parameters were given",
                values.len()
            ))),
        },
        PgParams::Types(types) => {
            let known = types.get(at).and_then(Option::as_ref).and_then(sql_type);
            Ok(known.map(|data_type| cast(value(Value::Null), data_type)))
        }
    }
}

fn value(value: Value) -> Expr {
    Expr::Value(value.into())
}

fn text(text: &str) -> Expr {
    value(Value::SingleQuotedString(text.to_owned()))
}

pub(super) fn cast(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

fn typed(data_type: SqlType, text: &str) -> Expr {
    Expr::TypedString(TypedString {
        data_type,
        value: Value::SingleQuotedString(text.to_owned()).into(),
        uses_odbc_syntax: false,
    })
}

fn number(digits: &str) -> Expr {
    match digits.strip_prefix('-') {
        Some(digits) => Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(value(Value::Number(digits.to_owned(), false))),
        },
        None => value(Value::Number(digits.to_owned(), false)),
    }
}

fn expression(given: &PgValue, is_compared: bool) -> Result<Expr, SqlError> {
    Ok(match given {
        PgValue::Null => value(Value::Null),
        PgValue::Boolean(given) => value(Value::Boolean(*given)),
        PgValue::Integer(given) => number(&given.to_string()),
        PgValue::Float(given) if given.is_finite() => number(&format!("{given:?}")),
        PgValue::Float(given) => cast(text(&given.to_string()), SqlType::DoublePrecision),
        PgValue::Decimal(given) => decimal(given)?,
        PgValue::Text(given) => text(given),
        PgValue::Timestamp(given) | PgValue::TimestampTz(given) if is_compared => text(given),
        PgValue::Timestamp(given) => typed(SqlType::Timestamp(None, TimezoneInfo::None), given),
        PgValue::TimestampTz(given) => {
            let zoned = format!("{given}+00:00");
            typed(SqlType::Timestamp(None, TimezoneInfo::Tz), &zoned)
        }
        PgValue::Date(given) => typed(SqlType::Date, given),
        PgValue::Time(given) => typed(SqlType::Time(None, TimezoneInfo::None), given),
        PgValue::Interval(given) => cast(
            text(given),
            SqlType::Interval {
                fields: None,
                precision: None,
            },
        ),
        PgValue::Bytes(bytes) => {
            let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            value(Value::HexStringLiteral(hex))
        }
        PgValue::Array(items) => {
            let items = items.iter().map(|item| expression(item, false));
            Expr::Array(Array {
                elem: items.collect::<Result<_, _>>()?,
                named: true,
            })
        }
    })
}

/// A number with all its digits: whole ones as such, as far as there are integers for them.
fn decimal(given: &str) -> Result<Expr, SqlError> {
    let digits = given.strip_prefix('-').unwrap_or(given);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !is_number(whole) || !is_number(fraction) {
        // NaN, infinities, exponents.
        return Ok(cast(text(given), SqlType::DoublePrecision));
    }
    let is_integer = given.parse::<i64>().is_ok() || given.parse::<u64>().is_ok();
    if fraction.is_empty() && is_integer {
        return Ok(number(given));
    }
    let (scale, precision) = (fraction.len(), whole.len() + fraction.len());
    let precision = match precision {
        0..=DIGITS_128 => DIGITS_128,
        _ if precision <= DIGITS_256 => DIGITS_256,
        _ => {
            return Err(SqlError::BadRequest(format!(
                "a number has {precision} digits; {DIGITS_256} are allowed"
            )));
        }
    };
    let info = ExactNumberInfo::PrecisionAndScale(precision as u64, scale as i64);
    Ok(cast(text(given), SqlType::Decimal(info)))
}

/// How SQL names the type of a parameter.
fn sql_type(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Boolean => SqlType::Boolean,
        DataType::Int16 => SqlType::SmallInt(None),
        DataType::Int32 => SqlType::Int(None),
        DataType::Int64 => SqlType::BigInt(None),
        DataType::UInt32 => SqlType::IntUnsigned(None),
        DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::DoublePrecision,
        DataType::Decimal128(precision, scale) => SqlType::Decimal(
            ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)),
        ),
        DataType::Utf8 => SqlType::Text,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => {
            SqlType::Timestamp(None, TimezoneInfo::None)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => {
            SqlType::Timestamp(None, TimezoneInfo::Tz)
        }
        DataType::Date32 => SqlType::Date,
        DataType::Time64(TimeUnit::Nanosecond) => SqlType::Time(None, TimezoneInfo::None),
        DataType::Interval(_) => SqlType::Interval {
            fields: None,
            precision: None,
        },
        DataType::Binary => SqlType::Bytea,
        DataType::List(item) => SqlType::Array(
            datafusion::sql::sqlparser::ast::ArrayElemTypeDef::SquareBracket(
                Box::new(sql_type(item.data_type())?),
                None,
            ),
        ),
        _ => return None,
    })
}

/// The elements of an array as text, such as `{a,"b c",NULL}`; `None` inside is NULL. `None` if it
/// is none, has others in it, or more than [`MAX_ELEMENTS`].
pub fn array_elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let inner = inner?.trim();
    let mut elements = Vec::new();
    if inner.is_empty() {
        return Some(elements);
    }
    let mut chars = inner.chars().peekable();
    loop {
        let (mut element, mut is_quoted) = (String::new(), false);
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next_if_eq(&'"').is_some() {
            is_quoted = true;
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => element.push(chars.next()?),
                    c => element.push(c),
                }
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                match c {
                    '{' | '}' | '"' => return None,
                    '\\' => element.push(chars.next()?),
                    c => element.push(c),
                }
            }
            element.truncate(element.trim_end().len());
        }
        let is_null = !is_quoted && element.eq_ignore_ascii_case("null");
        if element.is_empty() && !is_quoted {
            return None;
        }
        if elements.len() == MAX_ELEMENTS {
            return None;
        }
        elements.push((!is_null).then_some(element));
        match chars.next() {
            None => return Some(elements),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_constants() {
        let check = |given: PgValue, expected: &str| {
            let params = PgParams::Values(vec![PgValue::Null, given]);
            let found = constant(&params, "$2", false).unwrap().unwrap();
            assert_eq!(found.to_string(), expected);
        };
        check(PgValue::Integer(i64::MIN), "-9223372036854775808");
        check(PgValue::Float(-0.0), "-0.0");
        check(PgValue::Float(5e-324), "5e-324");
        check(PgValue::Float(f64::NAN), "CAST('NaN' AS DOUBLE PRECISION)");
        check(
            PgValue::Text("a'; DROP TABLE b".into()),
            "'a''; DROP TABLE b'",
        );
        check(
            PgValue::Decimal("18446744073709551615".into()),
            "18446744073709551615",
        );
        check(
            PgValue::Decimal("-1.50".into()),
            "CAST('-1.50' AS DECIMAL(38,2))",
        );
        check(
            PgValue::Timestamp("2025-01-01 00:00:00".into()),
            "TIMESTAMP '2025-01-01 00:00:00'",
        );
        check(PgValue::Bytes(vec![0, 255]), "X'00ff'");
        check(
            PgValue::Array(vec![PgValue::Integer(1), PgValue::Null]),
            "ARRAY[1, NULL]",
        );
    }

    #[test]
    fn missing_and_misnamed_ones_are_errors() {
        let params = PgParams::Values(vec![PgValue::Null]);
        for placeholder in ["$2", "$0", "$name", "?"] {
            assert!(
                constant(&params, placeholder, false).is_err(),
                "{placeholder}"
            );
        }
        let long = PgValue::Decimal("9".repeat(77) + ".5");
        assert!(constant(&PgParams::Values(vec![long]), "$1", false).is_err());
    }
}
