//! Parameters as clients send them: text or binary, of a type that they or the statement give.

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use bytes::{Buf, Bytes};
use chrono::DateTime;

use super::error::{PgError, code};
use super::rows::Format;
use super::rows::time::{
    EPOCH_DAYS, Interval, write_date, write_interval, write_time, write_timestamp,
};
use crate::node::backend::{MAX_ELEMENTS, PgValue, TypeOf, array_elements};

const TEXT: u32 = 25;
const EPOCH_US: i64 = EPOCH_DAYS * 86_400_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// The type that the engine is told for one that a client gave; `None` if it shall find one.
pub fn arrow_type(oid: u32) -> Result<Option<DataType>, PgError> {
    if oid == 0 || oid == 705 {
        return Ok(None);
    }
    let of = TypeOf::by_oid(oid).ok_or_else(|| {
        PgError::new(
            code::UNSUPPORTED,
            format!("parameters of type {oid} are not supported"),
        )
    })?;
    let element = match of.element.name {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "oid" | "regclass" | "regtype" | "regproc" => DataType::UInt32,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "numeric" => DataType::Decimal128(38, 10),
        "timestamp" => DataType::Timestamp(TimeUnit::Nanosecond, None),
        "timestamptz" => DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())),
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Nanosecond),
        "interval" => DataType::Interval(IntervalUnit::MonthDayNano),
        "bytea" => DataType::Binary,
        _ => DataType::Utf8,
    };
    Ok(Some(match of.is_array {
        true => DataType::List(Field::new_list_field(element, true).into()),
        false => element,
    }))
}

/// The number of the type of a parameter that the engine found one for.
pub fn oid_of(found: Option<&DataType>) -> u32 {
    found.map_or(TEXT, |found| TypeOf::of(found).oid())
}

/// A parameter.
pub fn value(
    oid: u32,
    format: Format,
    bytes: Option<&Bytes>,
    zone: Tz,
) -> Result<PgValue, PgError> {
    let Some(bytes) = bytes else {
        return Ok(PgValue::Null);
    };
    let Some(of) = TypeOf::by_oid(oid) else {
        return match (oid, format) {
            (0, Format::Text) => Ok(PgValue::Text(utf8(bytes)?.to_owned())),
            _ => Err(PgError::new(
                code::UNSUPPORTED,
                format!("parameters of type {oid} are not supported"),
            )),
        };
    };
    match (format, of.is_array) {
        (Format::Text, false) => text_value(of.element.name, utf8(bytes)?, zone),
        (Format::Text, true) => {
            let text = utf8(bytes)?;
            let elements = array_elements(text).ok_or_else(|| invalid("array", text))?;
            let elements = elements.into_iter().map(|element| match element {
                Some(element) => text_value(of.element.name, &element, zone),
                None => Ok(PgValue::Null),
            });
            Ok(PgValue::Array(elements.collect::<Result<_, _>>()?))
        }
        (Format::Binary, false) => binary_value(of.element.name, bytes.clone()),
        (Format::Binary, true) => binary_array(bytes.clone()),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, PgError> {
    std::str::from_utf8(bytes).map_err(|error| {
        PgError::new(
            code::NOT_IN_REPERTOIRE,
            format!("a parameter is not UTF-8: {error}"),
        )
    })
}

fn invalid(kind: &str, text: &str) -> PgError {
    let shown: String = text.chars().take(80).collect();
    PgError::new(
        code::INVALID_TEXT,
        format!("invalid input syntax for type {kind}: {shown:?}"),
    )
}

fn text_value(kind: &'static str, text: &str, zone: Tz) -> Result<PgValue, PgError> {
    let bad = || invalid(kind, text);
    let no_time = |_| PgError {
        code: code::INVALID_DATETIME,
        ..bad()
    };
    let trimmed = text.trim();
    Ok(match kind {
        "bool" => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => PgValue::Boolean(true),
            "f" | "false" | "n" | "no" | "off" | "0" => PgValue::Boolean(false),
            _ => return Err(bad()),
        },
        "int2" | "int4" | "int8" | "oid" => PgValue::Integer(trimmed.parse().map_err(|_| bad())?),
        "float4" | "float8" => PgValue::Float(trimmed.parse().map_err(|_| bad())?),
        "numeric" => match trimmed.parse::<f64>() {
            Ok(_) => PgValue::Decimal(trimmed.strip_prefix('+').unwrap_or(trimmed).to_owned()),
            Err(_) => return Err(bad()),
        },
        "timestamp" => {
            // Times without a zone are in UTC, so that one with another zone is the same moment.
            let utc: Tz = super::settings::Settings::default().zone();
            PgValue::Timestamp(shown_time(
                &string_to_datetime(&utc, trimmed).map_err(no_time)?,
            ))
        }
        "timestamptz" => PgValue::TimestampTz(shown_time(
            &string_to_datetime(&zone, trimmed).map_err(no_time)?,
        )),
        "date" => PgValue::Date(trimmed.to_owned()),
        "time" => PgValue::Time(trimmed.to_owned()),
        "interval" => PgValue::Interval(trimmed.to_owned()),
        "bytea" => {
            let digits = trimmed.strip_prefix("\\x").ok_or_else(bad)?;
            let pairs = digits.as_bytes().chunks(2);
            let byte = |pair: &[u8]| {
                let pair = std::str::from_utf8(pair)
                    .ok()
                    .filter(|pair| pair.len() == 2)?;
                u8::from_str_radix(pair, 16).ok()
            };
            PgValue::Bytes(pairs.map(byte).collect::<Option<_>>().ok_or_else(bad)?)
        }
        _ => PgValue::Text(text.to_owned()),
    })
}

/// A time in UTC, with its nanoseconds if it has any.
fn shown_time(time: &DateTime<Tz>) -> String {
    match time.timestamp_nanos_opt() {
        Some(ns) if ns % 1000 != 0 => {
            let (seconds, ns) = (ns.div_euclid(SECOND_NS), ns.rem_euclid(SECOND_NS));
            format!("{}.{ns:09}", shown_timestamp(seconds * 1_000_000))
        }
        _ => shown_timestamp(time.timestamp_micros()),
    }
}

fn shown_timestamp(us: i64) -> String {
    shown(|out| write_timestamp(us, out))
}

fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn binary_value(kind: &'static str, mut bytes: Bytes) -> Result<PgValue, PgError> {
    let bad = || {
        PgError::new(
            code::INVALID_BINARY,
            format!("incorrect binary data format of type {kind}"),
        )
    };
    let malformed = |_| bad();
    let value = match kind {
        "bool" => PgValue::Boolean(bytes.try_get_u8().map_err(malformed)? != 0),
        "int2" => PgValue::Integer(bytes.try_get_i16().map_err(malformed)?.into()),
        "int4" => PgValue::Integer(bytes.try_get_i32().map_err(malformed)?.into()),
        "int8" => PgValue::Integer(bytes.try_get_i64().map_err(malformed)?),
        "oid" | "regclass" | "regtype" | "regproc" => {
            PgValue::Integer(bytes.try_get_u32().map_err(malformed)?.into())
        }
        "float4" => PgValue::Float(bytes.try_get_f32().map_err(malformed)?.into()),
        "float8" => PgValue::Float(bytes.try_get_f64().map_err(malformed)?),
        "numeric" => PgValue::Decimal(numeric(&mut bytes).ok_or_else(bad)?),
        "timestamp" | "timestamptz" => {
            let us = bytes
                .try_get_i64()
                .map_err(malformed)?
                .checked_add(EPOCH_US);
            let time = shown_timestamp(us.ok_or_else(bad)?);
            match kind {
                "timestamp" => PgValue::Timestamp(time),
                _ => PgValue::TimestampTz(time),
            }
        }
        "date" => {
            let days = i64::from(bytes.try_get_i32().map_err(malformed)?) + EPOCH_DAYS;
            PgValue::Date(shown(|out| write_date(days, out)))
        }
        "time" => {
            let us = bytes.try_get_i64().map_err(malformed)?;
            PgValue::Time(shown(|out| write_time(us, out)))
        }
        "interval" => {
            let us = bytes.try_get_i64().map_err(malformed)?;
            let days = bytes.try_get_i32().map_err(malformed)?;
            let months = bytes.try_get_i32().map_err(malformed)?;
            let interval = Interval { months, days, us };
            // Each part has its own sign here, so that none needs a plus.
            let text = shown(|out| write_interval(interval, out));
            PgValue::Interval(text.replace('+', ""))
        }
        "bytea" => PgValue::Bytes(std::mem::take(&mut bytes).to_vec()),
        "uuid" => {
            let digits = bytes.try_get_u128().map_err(malformed)?;
            let hex = format!("{digits:032x}");
            let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
            let parts = [
                part(0, 8),
                part(8, 12),
                part(12, 16),
                part(16, 20),
                part(20, 32),
            ];
            PgValue::Text(parts.join("-"))
        }
        "jsonb" => {
            if bytes.try_get_u8().map_err(malformed)? != 1 {
                return Err(bad());
            }
            PgValue::Text(utf8(&std::mem::take(&mut bytes))?.to_owned())
        }
        _ => PgValue::Text(utf8(&std::mem::take(&mut bytes))?.to_owned()),
    };
    match bytes.is_empty() {
        true => Ok(value),
        false => Err(bad()),
    }
}

/// The text of a number of groups of four digits.
fn numeric(bytes: &mut Bytes) -> Option<String> {
    let count = usize::from(bytes.try_get_u16().ok()?);
    let weight = i32::from(bytes.try_get_i16().ok()?);
    let sign = bytes.try_get_u16().ok()?;
    let scale = usize::from(bytes.try_get_u16().ok()?);
    if count > bytes.len() / 2 || scale > 1000 || weight > 1000 {
        return None;
    }
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("inf".to_owned()),
        0xf000 => return Some("-inf".to_owned()),
        _ => return None,
    };
    let groups: Vec<u16> = (0..count).map_while(|_| bytes.try_get_u16().ok()).collect();
    if groups.iter().any(|group| *group > 9999) {
        return None;
    }
    // The group of a weight; those that are not sent are zero.
    let group = |of: i32| {
        let at = usize::try_from(weight - of).ok();
        at.and_then(|at| groups.get(at)).copied().unwrap_or(0)
    };
    let mut text = String::from(sign);
    let whole: String = (0..=weight.max(0))
        .rev()
        .map(|of| format!("{:04}", group(of)))
        .collect();
    let whole = whole.trim_start_matches('0');
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        let groups = i32::try_from(scale.div_ceil(4)).ok()?;
        let fraction: String = (1..=groups)
            .map(|of| format!("{:04}", group(-of)))
            .collect();
        text.push('.');
        text.push_str(fraction.get(..scale)?);
    }
    Some(text)
}

fn binary_array(mut bytes: Bytes) -> Result<PgValue, PgError> {
    let bad = || {
        PgError::new(
            code::INVALID_BINARY,
            "incorrect binary data format of an array",
        )
    };
    let malformed = |_| bad();
    let dimensions = bytes.try_get_i32().map_err(malformed)?;
    let _has_nulls = bytes.try_get_i32().map_err(malformed)?;
    let oid = bytes.try_get_u32().map_err(malformed)?;
    let length = match dimensions {
        0 => 0,
        1 => {
            let length = bytes.try_get_i32().map_err(malformed)?;
            let _first = bytes.try_get_i32().map_err(malformed)?;
            usize::try_from(length).map_err(|_| bad())?
        }
        _ => {
            return Err(PgError::new(
                code::UNSUPPORTED,
                "arrays of more than one dimension are not supported",
            ));
        }
    };
    if length > MAX_ELEMENTS {
        return Err(too_many());
    }
    let of = TypeOf::by_oid(oid)
        .filter(|of| !of.is_array)
        .ok_or_else(bad)?;
    let mut elements = Vec::new();
    for _ in 0..length {
        let element = match usize::try_from(bytes.try_get_i32().map_err(malformed)?) {
            Ok(len) if len > bytes.len() => return Err(bad()),
            Ok(len) => binary_value(of.element.name, bytes.split_to(len))?,
            Err(_) => PgValue::Null,
        };
        elements.push(element);
    }
    match bytes.is_empty() {
        true => Ok(PgValue::Array(elements)),
        false => Err(bad()),
    }
}

fn too_many() -> PgError {
    PgError::new(
        code::TOO_COMPLEX,
        format!("an array has more than {MAX_ELEMENTS} elements"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc() -> Tz {
        "+00:00".parse().unwrap()
    }

    fn text(oid: u32, text: &str) -> Result<PgValue, PgError> {
        value(
            oid,
            Format::Text,
            Some(&Bytes::copy_from_slice(text.as_bytes())),
            utc(),
        )
    }

    #[test]
    fn texts() {
        let check = |oid: u32, given: &str, expected: PgValue| {
            assert_eq!(text(oid, given), Ok(expected), "{given}");
        };
        check(16, "T", PgValue::Boolean(true));
        check(20, "-5", PgValue::Integer(-5));
        check(701, "-Infinity", PgValue::Float(f64::NEG_INFINITY));
        check(1700, "1.50", PgValue::Decimal("1.50".into()));
        check(25, " x", PgValue::Text(" x".into()));
        check(0, "x", PgValue::Text("x".into()));
        check(17, "\\x00ff", PgValue::Bytes(vec![0, 255]));
        let time = "2025-01-02 03:04:05.000001";
        check(1114, time, PgValue::Timestamp(time.into()));
        check(
            1114,
            "2025-01-02T03:04:05",
            PgValue::Timestamp("2025-01-02 03:04:05".into()),
        );
        // A text has all digits of a time.
        let time = "2025-01-02 03:04:05.000001999";
        check(1114, time, PgValue::Timestamp(time.into()));
        check(1184, time, PgValue::TimestampTz(time.into()));
        let time = "1969-12-31 23:59:59.999999999";
        check(1114, time, PgValue::Timestamp(time.into()));
        let zoned = PgValue::TimestampTz("2025-01-02 01:04:05".into());
        check(1184, "2025-01-02 03:04:05+02", zoned);
        let array = PgValue::Array(vec![PgValue::Integer(1), PgValue::Null]);
        check(1016, "{1,NULL}", array);
        let array = ["a", "b c", "NULL", "q\"\\"].map(|text| PgValue::Text(text.into()));
        check(
            1009,
            r#"{a, "b c","NULL","q\"\\"}"#,
            PgValue::Array(array.into()),
        );
        check(1009, "{}", PgValue::Array(vec![]));
        for (oid, given) in [
            (16, "maybe"),
            (20, "1.5"),
            (701, "x"),
            (1700, "x"),
            (17, "\\x0"),
            (17, "00"),
            (1114, "soon"),
            (1016, "{1,x}"),
            (1009, "{a"),
            (1009, "{a,}"),
            (1009, "{\"a}"),
            (1009, "{a}b}"),
            (600, "(1,2)"),
        ] {
            assert!(text(oid, given).is_err(), "{given}");
        }
    }

    #[test]
    fn numerics() {
        let check = |words: &[u16], expected: Option<&str>| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(numeric(&mut bytes.into()).as_deref(), expected, "{words:?}");
        };
        check(&[0, 0, 0, 0], Some("0"));
        check(&[2, 1, 0, 0, 1, 5], Some("10005"));
        check(&[1, 1, 0, 0, 12], Some("120000"));
        check(&[2, 0, 0x4000, 2, 1, 5000], Some("-1.50"));
        check(&[1, 0xffff, 0, 3, 50], Some("0.005"));
        check(&[1, 0xfffe, 0, 6, 1200], Some("0.000012"));
        check(&[0, 0, 0xc000, 0], Some("NaN"));
        check(&[1, 0, 0, 0, 10_000], None);
        check(&[9, 0, 0, 0, 1], None);
        check(&[0, 0, 1, 0], None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(
            oid in prop::sample::select(vec![
                16u32, 20, 701, 1700, 1114, 1186, 1009, 1016, 3802, 2950, 17,
            ]),
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            is_binary: bool,
        ) {
            let format = if is_binary { Format::Binary } else { Format::Text };
            let _ = value(oid, format, Some(&bytes.into()), utc());
        }

        #[test]
        fn numbers_come_back(whole in "(0|[1-9][0-9]{0,30})", fraction in "[0-9]{0,20}") {
            use crate::pg::rows::numeric_of_text;
            let given = if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") };
            let binary = numeric_of_text(&given);
            let found = value(1700, Format::Binary, Some(&binary.into()), utc()).unwrap();
            prop_assert_eq!(found, PgValue::Decimal(given));
        }
    }
}
