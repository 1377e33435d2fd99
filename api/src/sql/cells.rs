//! Cells of Arrow arrays as JSON text, one writer per column, made once per batch.
//!
//! Integers of 64 bits are numbers with all their digits; NaN and infinities, which JSON lacks, are
//! null; times are `2023-11-14T22:13:20`, with three, six or nine digits of fraction when there is
//! one; what has no form of its own in JSON (intervals, binary) is a string.
use std::io::Write;

use arrow::array::cast::AsArray;
use arrow::array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::columns;
use crate::prometheus::json::write_string;

/// Appends the cell of a row.
pub type CellWriter<'a> = columns::Writer<'a, ArrowError>;

/// Nested types deeper than this are not printed.
const MAX_DEPTH: usize = 16;

/// The writer of a column. Nulls are written as `null`.
pub fn cell_writer(array: &dyn Array) -> Result<CellWriter<'_>, ArrowError> {
    nested_writer(array, 0)
}

fn nested_writer(array: &dyn Array, depth: usize) -> Result<CellWriter<'_>, ArrowError> {
    if depth > MAX_DEPTH {
        return Err(ArrowError::NotYetImplemented(format!(
            "columns nested more than {MAX_DEPTH} deep"
        )));
    }
    let write = value_writer(array, depth)?;
    Ok(Box::new(move |row, out| {
        if array.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        write(row, out)
    }))
}

fn value_writer(array: &dyn Array, depth: usize) -> Result<CellWriter<'_>, ArrowError> {
    let write_text = |text: &str, out: &mut Vec<u8>| {
        write_string(out, text);
        Ok(())
    };
    if let Some(write) = columns::writer(array, write_text) {
        return Ok(write);
    }
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, out| {
            out.extend_from_slice(b"null");
            Ok(())
        }),
        DataType::Boolean => {
            let array = array.as_boolean();
            Box::new(move |row, out| {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
                Ok(())
            })
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |row, out| {
                let value = array.value(row);
                if value.is_finite() {
                    out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
                } else {
                    out.extend_from_slice(b"null");
                }
                Ok(())
            })
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |row, out| {
                let value = array.value(row);
                if value.is_finite() {
                    out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
                } else {
                    out.extend_from_slice(b"null");
                }
                Ok(())
            })
        }
        DataType::Timestamp(unit, zone) if zone.as_deref().is_none_or(is_utc) => {
            timestamps(array, *unit, zone.is_some())
        }
        DataType::Dictionary(_, _) => dictionary(array, depth)?,
        DataType::List(_) => lists(
            array.as_list::<i32>().values(),
            move |row| range(array.as_list::<i32>().value_offsets(), row),
            depth,
        )?,
        DataType::LargeList(_) => lists(
            array.as_list::<i64>().values(),
            move |row| range(array.as_list::<i64>().value_offsets(), row),
            depth,
        )?,
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).unwrap_or(0);
            lists(
                array.as_fixed_size_list().values(),
                move |row| (row * size, (row + 1) * size),
                depth,
            )?
        }
        DataType::Struct(_) => structs(array, depth)?,
        DataType::Map(_, _) => maps(array, depth)?,
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => formatted(array, false)?,
        _ => formatted(array, true)?,
    })
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Z" | "+00:00" | "Etc/UTC")
}

fn timestamps(array: &dyn Array, unit: TimeUnit, utc: bool) -> CellWriter<'_> {
    fn of<'a, T: ArrowPrimitiveType<Native = i64>>(
        array: &'a dyn Array,
        per_second: i64,
        utc: bool,
    ) -> CellWriter<'a> {
        let array = array.as_primitive::<T>();
        Box::new(move |row, out| {
            out.push(b'"');
            write_timestamp(out, array.value(row), per_second);
            out.extend_from_slice(if utc { b"Z\"" } else { b"\"" });
            Ok(())
        })
    }
    match unit {
        TimeUnit::Second => of::<TimestampSecondType>(array, 1, utc),
        TimeUnit::Millisecond => of::<TimestampMillisecondType>(array, 1000, utc),
        TimeUnit::Microsecond => of::<TimestampMicrosecondType>(array, 1_000_000, utc),
        TimeUnit::Nanosecond => of::<TimestampNanosecondType>(array, 1_000_000_000, utc),
    }
}

/// Appends `2023-11-14T22:13:20.123`; years beyond 9999 with a sign, as ISO 8601 wants.
pub fn write_timestamp(out: &mut Vec<u8>, value: i64, per_second: i64) {
    let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let year_text = if (0..=9999).contains(&year) {
        format!("{year:04}")
    } else {
        format!("{year:+05}")
    };
    // Writing to a buffer cannot fail.
    let _ = write!(
        out,
        "{year_text}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    let ns = fraction * (1_000_000_000 / per_second);
    let _ = match ns {
        0 => Ok(()),
        ns if ns % 1_000_000 == 0 => write!(out, ".{:03}", ns / 1_000_000),
        ns if ns % 1000 == 0 => write!(out, ".{:06}", ns / 1000),
        ns => write!(out, ".{ns:09}"),
    };
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
pub fn civil(days: i64) -> (i64, i64, i64) {
    // Years that begin in March put the leap day at their end; eras of 400 years are all alike.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn dictionary(array: &dyn Array, depth: usize) -> Result<CellWriter<'_>, ArrowError> {
    let dictionary = array.as_any_dictionary();
    let values = nested_writer(dictionary.values().as_ref(), depth + 1)?;
    let keys = dictionary.normalized_keys();
    Ok(Box::new(move |row, out| values(keys[row], out)))
}

fn range<O: arrow::array::OffsetSizeTrait>(offsets: &[O], row: usize) -> (usize, usize) {
    (offsets[row].as_usize(), offsets[row + 1].as_usize())
}

fn lists<'a>(
    values: &'a ArrayRef,
    range: impl Fn(usize) -> (usize, usize) + 'a,
    depth: usize,
) -> Result<CellWriter<'a>, ArrowError> {
    let item = nested_writer(values.as_ref(), depth + 1)?;
    Ok(Box::new(move |row, out| {
        let (start, end) = range(row);
        out.push(b'[');
        for index in start..end {
            if index > start {
                out.push(b',');
            }
            item(index, out)?;
        }
        out.push(b']');
        Ok(())
    }))
}

fn structs(array: &dyn Array, depth: usize) -> Result<CellWriter<'_>, ArrowError> {
    let array = array.as_struct();
    let mut members = Vec::with_capacity(array.num_columns());
    for (field, column) in array.fields().iter().zip(array.columns()) {
        let mut name = Vec::new();
        write_string(&mut name, field.name());
        name.push(b':');
        members.push((name, nested_writer(column.as_ref(), depth + 1)?));
    }
    Ok(Box::new(move |row, out| {
        for (i, (name, member)) in members.iter().enumerate() {
            out.push(if i == 0 { b'{' } else { b',' });
            out.extend_from_slice(name);
            member(row, out)?;
        }
        out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        Ok(())
    }))
}

fn maps(array: &dyn Array, depth: usize) -> Result<CellWriter<'_>, ArrowError> {
    let array = array.as_map();
    let (keys, values) = (
        nested_writer(array.keys().as_ref(), depth + 1)?,
        nested_writer(array.values().as_ref(), depth + 1)?,
    );
    Ok(Box::new(move |row, out| {
        let (start, end) = range(array.value_offsets(), row);
        out.push(b'{');
        for index in start..end {
            if index > start {
                out.push(b',');
            }
            let begin = out.len();
            keys(index, out)?;
            // Names of JSON members are strings, whatever the keys are.
            if out.get(begin) != Some(&b'"') {
                let text = String::from_utf8_lossy(&out[begin..]).into_owned();
                out.truncate(begin);
                write_string(out, &text);
            }
            out.push(b':');
            values(index, out)?;
        }
        out.push(b'}');
        Ok(())
    }))
}

/// As Arrow prints it; quoted unless it is a number.
fn formatted(array: &dyn Array, quoted: bool) -> Result<CellWriter<'_>, ArrowError> {
    let options = FormatOptions::new().with_display_error(false);
    let formatter = ArrayFormatter::try_new(array, &options)?;
    Ok(Box::new(move |row, out| {
        let mut text = String::new();
        formatter
            .value(row)
            .write(&mut text)
            .map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
        if quoted {
            write_string(out, &text);
        } else {
            out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::types::{Int8Type, Int64Type};
    use arrow::array::{
        BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, ListArray,
        StringArray, StructArray, TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::Field;

    use super::*;

    fn check(array: impl Array, expected: &[&str]) {
        let writer = cell_writer(&array).unwrap();
        let got: Vec<String> = (0..array.len())
            .map(|row| {
                let mut out = Vec::new();
                writer(row, &mut out).unwrap();
                String::from_utf8(out).unwrap()
            })
            .collect();
        assert_eq!(got, expected);
        got.iter()
            .for_each(|text| drop(serde_json::from_str::<serde_json::Value>(text).unwrap()));
    }

    #[test]
    fn scalars() {
        check(
            Int64Array::from(vec![Some(i64::MIN), None, Some(7)]),
            &["-9223372036854775808", "null", "7"],
        );
        check(UInt64Array::from(vec![u64::MAX]), &["18446744073709551615"]);
        check(
            Float64Array::from(vec![1.0, -0.0, 0.1, 1e300, f64::NAN, f64::INFINITY]),
            &["1.0", "-0.0", "0.1", "1e300", "null", "null"],
        );
        check(
            BooleanArray::from(vec![Some(true), Some(false), None]),
            &["true", "false", "null"],
        );
        check(
            StringArray::from(vec![Some("a\"\n"), Some(""), None]),
            &[r#""a\"\n""#, r#""""#, "null"],
        );
        check(BinaryArray::from(vec![&b"\x01\xff"[..]]), &[r#""01ff""#]);
    }

    #[test]
    fn times() {
        let values = vec![
            1_700_000_000_000_000_000,
            1_700_000_000_120_000_000,
            1_700_000_000_000_001_000,
            1,
            -1,
            i64::MIN,
            i64::MAX,
        ];
        let expected = [
            r#""2023-11-14T22:13:20""#,
            r#""2023-11-14T22:13:20.120""#,
            r#""2023-11-14T22:13:20.000001""#,
            r#""1970-01-01T00:00:00.000000001""#,
            r#""1969-12-31T23:59:59.999999999""#,
            r#""1677-09-21T00:12:43.145224192""#,
            r#""2262-04-11T23:47:16.854775807""#,
        ];
        check(TimestampNanosecondArray::from(values), &expected);
        check(
            TimestampNanosecondArray::from(vec![0]).with_timezone("UTC"),
            &[r#""1970-01-01T00:00:00Z""#],
        );
        let years = |ms: i64| {
            let mut out = Vec::new();
            write_timestamp(&mut out, ms, 1000);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(years(253_402_300_800_000), "+10000-01-01T00:00:00");
        assert_eq!(years(951_782_400_000), "2000-02-29T00:00:00");
        assert_eq!(years(-62_135_596_800_000), "0001-01-01T00:00:00");
        assert_eq!(years(i64::MIN), "-292275055-05-16T16:47:04.192");
    }

    #[test]
    fn nested_values() {
        let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("b"), Some("a")]
            .into_iter()
            .collect();
        check(dictionary, &[r#""a""#, "null", r#""b""#, r#""a""#]);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        check(list, &["[1,null]", "null", "[]"]);
        let fields = vec![
            (
                Arc::new(Field::new("x", DataType::Int64, true)),
                Arc::new(Int64Array::from(vec![1])) as ArrayRef,
            ),
            (
                Arc::new(Field::new("y\"", DataType::Utf8, true)),
                Arc::new(StringArray::from(vec!["z"])) as ArrayRef,
            ),
        ];
        check(StructArray::from(fields), &[r#"{"x":1,"y\"":"z"}"#]);
        let mut map = arrow::array::MapBuilder::new(
            None,
            arrow::array::StringBuilder::new(),
            arrow::array::Int64Builder::new(),
        );
        map.keys().append_value("k");
        map.values().append_value(2);
        map.append(true).unwrap();
        check(map.finish(), &[r#"{"k":2}"#]);
    }
}
