//! Cells in binary.

use std::io::Write;

use arrow::array::Array;
use arrow::array::cast::AsArray;
use arrow::array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::datatypes::DataType;

use super::number::{MAX_NUMBER_CHARS, write_numeric};
use super::time::EPOCH_DAYS;
use super::{CellWriter, of_keys, text, values};
use crate::pg::error::{PgError, code};

const EPOCH_US: i64 = EPOCH_DAYS * 86_400_000_000;

/// The writer of a column.
pub(super) fn writer(array: &dyn Array) -> Result<CellWriter<'_>, PgError> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            Box::new(move |row, out| {
                out.push(u8::from(array.value(row)));
                Ok(())
            })
        }
        DataType::Int8 => fixed::<Int8Type, 2>(array, |value| i16::from(value).to_be_bytes()),
        DataType::UInt8 => fixed::<UInt8Type, 2>(array, |value| i16::from(value).to_be_bytes()),
        DataType::Int16 => fixed::<Int16Type, 2>(array, i16::to_be_bytes),
        DataType::UInt16 => fixed::<UInt16Type, 4>(array, |value| i32::from(value).to_be_bytes()),
        DataType::Int32 => fixed::<Int32Type, 4>(array, i32::to_be_bytes),
        DataType::UInt32 => fixed::<UInt32Type, 4>(array, u32::to_be_bytes),
        DataType::Int64 => fixed::<Int64Type, 8>(array, i64::to_be_bytes),
        DataType::Float16 => fixed::<Float16Type, 4>(array, |value| value.to_f32().to_be_bytes()),
        DataType::Float32 => fixed::<Float32Type, 4>(array, f32::to_be_bytes),
        DataType::Float64 => fixed::<Float64Type, 8>(array, f64::to_be_bytes),
        DataType::UInt64 => {
            let array = array.as_primitive::<UInt64Type>();
            Box::new(move |row, out| {
                let mut text = [0; 20];
                let mut rest = text.as_mut_slice();
                // A buffer of twenty digits holds every number.
                let _ = write!(rest, "{}", array.value(row));
                let left = rest.len();
                write_numeric(text.get(..text.len() - left).unwrap_or_default(), out);
                Ok(())
            })
        }
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => {
            let write = values::decimals(array)?;
            Box::new(move |row, out| {
                let mut text = Vec::with_capacity(MAX_NUMBER_CHARS);
                write(row, &mut text);
                write_numeric(&text, out);
                Ok(())
            })
        }
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => {
            let bytes = values::bytes(array)?;
            Box::new(move |row, out| {
                out.extend_from_slice(bytes(row));
                Ok(())
            })
        }
        DataType::Date32 | DataType::Date64 => {
            let days = values::days(array)?;
            Box::new(move |row, out| {
                let days = i32::try_from(days(row) - EPOCH_DAYS);
                let days =
                    days.map_err(|_| PgError::new(code::DATETIME_OVERFLOW, "date out of range"))?;
                out.extend_from_slice(&days.to_be_bytes());
                Ok(())
            })
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let us = values::clocks(array)?;
            Box::new(move |row, out| {
                out.extend_from_slice(&us(row).to_be_bytes());
                Ok(())
            })
        }
        DataType::Timestamp(..) => {
            let us = values::timestamps(array)?;
            Box::new(move |row, out| {
                out.extend_from_slice(&(us(row)? - EPOCH_US).to_be_bytes());
                Ok(())
            })
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            let intervals = values::intervals(array)?;
            Box::new(move |row, out| {
                let interval = intervals(row)?;
                out.extend_from_slice(&interval.us.to_be_bytes());
                out.extend_from_slice(&interval.days.to_be_bytes());
                out.extend_from_slice(&interval.months.to_be_bytes());
                Ok(())
            })
        }
        DataType::Dictionary(..) => {
            let values = array.as_any_dictionary().values();
            of_keys(array, writer(values.as_ref())?)
        }
        // Texts are the same in both forms.
        _ => return text::writer(array, super::utc()),
    })
}

fn fixed<T: ArrowPrimitiveType, const N: usize>(
    array: &dyn Array,
    bytes: impl Fn(T::Native) -> [u8; N] + 'static,
) -> CellWriter<'_> {
    let array = array.as_primitive::<T>();
    Box::new(move |row, out| {
        out.extend_from_slice(&bytes(array.value(row)));
        Ok(())
    })
}
