//! Writers of columns that are alike in every form of an answer: whole numbers and texts.

use arrow::array::cast::AsArray;
use arrow::array::types::{
    ArrowPrimitiveType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::array::{Array, ArrayAccessor};
use arrow::datatypes::DataType;

/// Appends the cell of a row.
pub type Writer<'a, E> = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), E> + 'a>;

/// The writer of a column of whole numbers, or of texts, which `write` writes; `None` if it has
/// others.
pub fn writer<'a, E: 'a>(
    array: &'a dyn Array,
    write: impl Fn(&str, &mut Vec<u8>) -> Result<(), E> + 'a,
) -> Option<Writer<'a, E>> {
    Some(match array.data_type() {
        DataType::Int8 => integers::<Int8Type, E>(array),
        DataType::Int16 => integers::<Int16Type, E>(array),
        DataType::Int32 => integers::<Int32Type, E>(array),
        DataType::Int64 => integers::<Int64Type, E>(array),
        DataType::UInt8 => integers::<UInt8Type, E>(array),
        DataType::UInt16 => integers::<UInt16Type, E>(array),
        DataType::UInt32 => integers::<UInt32Type, E>(array),
        DataType::UInt64 => integers::<UInt64Type, E>(array),
        DataType::Utf8 => texts(array.as_string::<i32>(), write),
        DataType::LargeUtf8 => texts(array.as_string::<i64>(), write),
        DataType::Utf8View => texts(array.as_string_view(), write),
        _ => return None,
    })
}

fn integers<T: ArrowPrimitiveType, E>(array: &dyn Array) -> Writer<'_, E>
where
    T::Native: std::fmt::Display,
{
    use std::io::Write;
    let array = array.as_primitive::<T>();
    Box::new(move |row, out| {
        // Writing to a buffer cannot fail.
        let _ = write!(out, "{}", array.value(row));
        Ok(())
    })
}

fn texts<'a, A: ArrayAccessor<Item = &'a str> + 'a, E: 'a>(
    array: A,
    write: impl Fn(&str, &mut Vec<u8>) -> Result<(), E> + 'a,
) -> Writer<'a, E> {
    Box::new(move |row, out| write(array.value(row), out))
}
