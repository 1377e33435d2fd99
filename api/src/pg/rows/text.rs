//! Cells as text.

use std::io::Write;

use arrow::array::Array;
use arrow::array::cast::AsArray;
use arrow::array::timezone::Tz;
use arrow::array::types::{Float16Type, Float32Type, Float64Type};
use arrow::datatypes::DataType;

use super::time::{write_date, write_interval, write_time, write_timestamp, write_timestamptz};
use super::{CellWriter, number, of_keys, values, write_text};
use crate::pg::error::{PgError, code};
use crate::sql::columns;

/// The writer of a column.
pub(super) fn writer(array: &dyn Array, zone: Tz) -> Result<CellWriter<'_>, PgError> {
    if let Some(write) = columns::writer(array, write_text) {
        return Ok(write);
    }
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| Ok(())),
        DataType::Boolean => {
            let array = array.as_boolean();
            Box::new(move |row, out| {
                out.push(if array.value(row) { b't' } else { b'f' });
                Ok(())
            })
        }
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
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => {
            let write = values::decimals(array)?;
            Box::new(move |row, out| {
                write(row, out);
                Ok(())
            })
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
            let values = array.as_any_dictionary().values();
            of_keys(array, writer(values.as_ref(), zone)?)
        }
        other => {
            return Err(PgError::new(
                code::UNSUPPORTED,
                format!("values of type {other} cannot be shown"),
            ));
        }
    })
}
