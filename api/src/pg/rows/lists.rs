//! Lists as arrays of one dimension.

use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray, GenericListArray, OffsetSizeTrait};
use arrow::datatypes::DataType;

use super::{CellWriter, Column, Format};
use crate::node::backend::TypeOf;
use crate::pg::error::{PgError, code};

/// The writer of a column of lists.
pub(super) fn writer(
    array: &dyn Array,
    of: TypeOf,
    format: Format,
    zone: Tz,
) -> Result<CellWriter<'_>, PgError> {
    match array.data_type() {
        DataType::List(_) => of_offsets(array.as_list::<i32>(), of, format, zone),
        DataType::LargeList(_) => of_offsets(array.as_list::<i64>(), of, format, zone),
        DataType::FixedSizeList(_, size) => {
            let lists = array.as_fixed_size_list();
            let size = usize::try_from(*size).unwrap_or(0);
            let range = move |row: usize| (row * size, row * size + size);
            elements(lists.values().as_ref(), range, of, format, zone)
        }
        other => Err(PgError::new(
            code::UNSUPPORTED,
            format!("values of type {other} cannot be shown"),
        )),
    }
}

fn of_offsets<O: OffsetSizeTrait>(
    lists: &GenericListArray<O>,
    of: TypeOf,
    format: Format,
    zone: Tz,
) -> Result<CellWriter<'_>, PgError> {
    let offsets = lists.value_offsets();
    let at = |row: usize| offsets.get(row).map_or(0, |offset| offset.as_usize());
    let range = move |row: usize| (at(row), at(row + 1));
    elements(lists.values().as_ref(), range, of, format, zone)
}

fn elements<'a>(
    values: &'a dyn Array,
    range: impl Fn(usize) -> (usize, usize) + 'a,
    of: TypeOf,
    format: Format,
    zone: Tz,
) -> Result<CellWriter<'a>, PgError> {
    let column = Column::new(values, format, zone)?;
    Ok(match format {
        Format::Text => Box::new(move |row, out| {
            let (start, end) = range(row);
            out.push(b'{');
            for at in start..end {
                if at > start {
                    out.push(b',');
                }
                if column.is_null(at) {
                    out.extend_from_slice(b"NULL");
                    continue;
                }
                let from = out.len();
                column.write(at, out)?;
                quote(from, out);
            }
            out.push(b'}');
            Ok(())
        }),
        Format::Binary => Box::new(move |row, out| {
            let (start, end) = range(row);
            let length = i32::try_from(end - start);
            let length = length
                .map_err(|_| PgError::new(code::TOO_COMPLEX, "an array has too many elements"))?;
            let has_nulls = (start..end).any(|at| column.is_null(at));
            let dimensions = i32::from(length > 0);
            out.extend_from_slice(&dimensions.to_be_bytes());
            out.extend_from_slice(&i32::from(has_nulls).to_be_bytes());
            out.extend_from_slice(&of.element.oid.to_be_bytes());
            if length > 0 {
                out.extend_from_slice(&length.to_be_bytes());
                // The number of the first.
                out.extend_from_slice(&1i32.to_be_bytes());
            }
            (start..end).try_for_each(|at| column.write_sized(at, out))
        }),
    })
}

/// Puts the element that begins at `from` into quotes, if it needs them.
fn quote(from: usize, out: &mut Vec<u8>) {
    let element = out.get(from..).unwrap_or_default();
    let is_special = |byte: &u8| b"{},\"\\".contains(byte) || byte.is_ascii_whitespace();
    let is_plain = !element.is_empty()
        && !element.eq_ignore_ascii_case(b"null")
        && !element.iter().any(is_special);
    if is_plain {
        return;
    }
    let element = out.split_off(from);
    out.push(b'"');
    for byte in element {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
