//! Cells as text.

use std::io::Write;

use arrow::array::Array;
use arrow::array::cast::AsArray;
use arrow::array::timezone::Tz;
use arrow::array::types::{
    ArrowPrimitiveType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::datatypes::DataType;

use super::time::{write_date, write_interval, write_time, write_timestamp, write_timestamptz};
use super::{CellWriter, number, values, write_text};
use crate::pg::error::{PgError, code};

/// The writer of a column.
pub(super) fn writer(array: &dyn Array, zone: Tz) -> Result<CellWriter<'_>, PgError> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| Ok(())),
        DataType::Boolean => {
            let array = array.as_boolean();
            Box::new(move |row, out| {
                out.push(if array.value(row) { b't' } else { b'f' });
                Ok(())
            })
        }
        DataType::Int8 => integers::<Int8Type>(array),
        DataType::Int16 => integers::<Int16Type>(array),
        DataType::Int32 => integers::<Int32Type>(array),
        DataType::Int64 => integers::<Int64Type>(array),
        DataType::UInt8 => integers::<UInt8Type>(array),
        DataType::UInt16 => integers::<UInt16Type>(array),
        DataType::UInt32 => integers::<UInt32Type>(array),
        DataType::UInt64 => integers::<UInt64Type>(array),
        DataType::Float16 => {
            let array = array.as_primitive::<Float16Type>();
            Box::new(move |row, out| {
                number::write_f32(array.value(row).to_f32(), out);
                Ok(())
            })
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |row, out| {
                number::write_f32(array.value(row), out);
                Ok(())
            })
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |row, out| {
                number::write_f64(array.value(row), out);
                Ok(())
            })
        }
        DataType::Decimal32(_, scale) => decimals::<Decimal32Type>(array, *scale),
        DataType::Decimal64(_, scale) => decimals::<Decimal64Type>(array, *scale),
        DataType::Decimal128(_, scale) => decimals::<Decimal128Type>(array, *scale),
        DataType::Decimal256(_, scale) => decimals::<Decimal256Type>(array, *scale),
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |row, out| write_text(array.value(row), out))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            Box::new(move |row, out| write_text(array.value(row), out))
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            Box::new(move |row, out| write_text(array.value(row), out))
        }
        DataType::FixedSizeBinary(1) => {
            let bytes = values::bytes(array)?;
            Box::new(move |row, out| {
                out.extend_from_slice(bytes(row));
                Ok(())
            })
        }
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => {
            let bytes = values::bytes(array)?;
            Box::new(move |row, out| {
                out.extend_from_slice(b"\\x");
                for byte in bytes(row) {
                    // Writing to a buffer cannot fail.
                    let _ = write!(out, "{byte:02x}");
                }
                Ok(())
            })
        }
        DataType::Date32 | DataType::Date64 => {
            let days = values::days(array)?;
            Box::new(move |row, out| {
                write_date(days(row), out);
                Ok(())
            })
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let us = values::clocks(array)?;
            Box::new(move |row, out| {
                write_time(us(row), out);
                Ok(())
            })
        }
        DataType::Timestamp(_, in_zone) => {
            let us = values::timestamps(array)?;
            match in_zone {
                None => Box::new(move |row, out| {
                    write_timestamp(us(row)?, out);
                    Ok(())
                }),
                Some(_) => Box::new(move |row, out| {
                    write_timestamptz(us(row)?, zone, out);
                    Ok(())
                }),
            }
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            let intervals = values::intervals(array)?;
            Box::new(move |row, out| {
                write_interval(intervals(row)?, out);
                Ok(())
            })
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let write = writer(dictionary.values().as_ref(), zone)?;
            let keys = dictionary.normalized_keys();
            Box::new(move |row, out| match keys.get(row) {
                Some(key) => write(*key, out),
                None => Ok(()),
            })
        }
        other => {
            return Err(PgError::new(
                code::UNSUPPORTED,
                format!("values of type {other} cannot be shown"),
            ));
        }
    })
}

fn integers<T: ArrowPrimitiveType>(array: &dyn Array) -> CellWriter<'_>
where
    T::Native: std::fmt::Display,
{
    let array = array.as_primitive::<T>();
    Box::new(move |row, out| {
        let _ = write!(out, "{}", array.value(row));
        Ok(())
    })
}

fn decimals<T: DecimalType>(array: &dyn Array, scale: i8) -> CellWriter<'_>
where
    T::Native: std::fmt::Display,
{
    let array = array.as_primitive::<T>();
    Box::new(move |row, out| {
        number::write_decimal(&array.value(row).to_string(), scale, out);
        Ok(())
    })
}
