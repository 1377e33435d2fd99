//! How many bytes the values of an argument have, row by row.

use arrow::array::{Array, AsArray, OffsetSizeTrait};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

/// A value that is an element of a list has at least this many bytes: its offset or view.
const ELEMENT_BYTES: u64 = 8;

/// Bytes of each value of an argument.
#[derive(Debug)]
pub(super) enum Widths {
    /// The argument is a constant.
    Same(u64),
    /// One per row.
    Each(Vec<u64>),
}

impl Widths {
    pub fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self::Each(widths(array.as_ref())),
            ColumnarValue::Scalar(scalar) => Self::Same(scalar_width(scalar)?),
        })
    }

    pub fn at(&self, row: usize) -> u64 {
        match self {
            Self::Same(bytes) => *bytes,
            Self::Each(bytes) => bytes.get(row).copied().unwrap_or(0),
        }
    }
}

/// Whole numbers of an argument.
#[derive(Debug)]
pub(super) enum Integers {
    Same(Option<i64>),
    Each(arrow::array::Int64Array),
}

impl Integers {
    pub fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self::Each(
                arrow::compute::cast(array, &DataType::Int64)?
                    .as_primitive::<Int64Type>()
                    .clone(),
            ),
            ColumnarValue::Scalar(scalar) => {
                let array = arrow::compute::cast(&scalar.to_array_of_size(1)?, &DataType::Int64)?;
                let array = array.as_primitive::<Int64Type>();
                Self::Same(array.is_valid(0).then(|| array.value(0)))
            }
        })
    }

    pub fn at(&self, row: usize) -> Option<i64> {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values.is_valid(row).then(|| values.value(row)),
        }
    }
}

/// Bytes of a constant.
pub(super) fn scalar_width(scalar: &ScalarValue) -> Result<u64> {
    Ok(match scalar {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, |text| text.len() as u64)
        }
        ScalarValue::Binary(bytes)
        | ScalarValue::LargeBinary(bytes)
        | ScalarValue::BinaryView(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
        other => match fixed_width(&other.data_type()) {
            Some(bytes) => bytes,
            None => total(other.to_array_of_size(1)?.as_ref()),
        },
    })
}

/// Bytes of each value of a type, if all have the same.
pub(in crate::sql) fn fixed_width(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Null | DataType::Boolean => Some(1),
        DataType::FixedSizeBinary(bytes) => Some(u64::try_from(*bytes).unwrap_or(0)),
        DataType::FixedSizeList(field, len) => {
            let len = u64::try_from(*len).unwrap_or(0);
            Some(fixed_width(field.data_type())?.saturating_mul(len))
        }
        other => other.primitive_width().map(|bytes| bytes as u64),
    }
}

/// Bytes of all values of an array.
pub(super) fn total(array: &dyn Array) -> u64 {
    if let Some(bytes) = fixed_width(array.data_type()) {
        return bytes.saturating_mul(array.len() as u64);
    }
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => span(array.as_string::<i64>().value_offsets()),
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => span(array.as_binary::<i64>().value_offsets()),
        _ => widths(array)
            .iter()
            .fold(0, |sum, bytes| sum.saturating_add(*bytes)),
    }
}

fn span<O: OffsetSizeTrait>(offsets: &[O]) -> u64 {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => last.as_usize().saturating_sub(first.as_usize()) as u64,
        _ => 0,
    }
}

/// Bytes of each value of an array.
pub(in crate::sql) fn widths(array: &dyn Array) -> Vec<u64> {
    let rows = array.len();
    if let Some(bytes) = fixed_width(array.data_type()) {
        return vec![bytes; rows];
    }
    match array.data_type() {
        DataType::Utf8 => lengths(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => lengths(array.as_string::<i64>().value_offsets()),
        DataType::Binary => lengths(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => lengths(array.as_binary::<i64>().value_offsets()),
        // The length of a value is the low half of its view.
        DataType::Utf8View => views(array.as_string_view().views()),
        DataType::BinaryView => views(array.as_binary_view().views()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            elements(list.value_offsets(), list.values().as_ref())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            elements(list.value_offsets(), list.values().as_ref())
        }
        DataType::FixedSizeList(_, len) => {
            let list = array.as_fixed_size_list();
            let len = usize::try_from(*len).unwrap_or(0);
            let values = widths(list.values().as_ref());
            (0..rows)
                .map(|row| values.iter().skip(row * len).take(len).sum())
                .collect()
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            elements(map.value_offsets(), map.entries())
        }
        DataType::Struct(_) => {
            let mut sums = vec![0u64; rows];
            for column in array.as_struct().columns() {
                for (sum, bytes) in sums.iter_mut().zip(widths(column.as_ref())) {
                    *sum = sum.saturating_add(bytes);
                }
            }
            sums
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = widths(dictionary.values().as_ref());
            if values.is_empty() {
                return vec![0; rows];
            }
            dictionary
                .normalized_keys()
                .into_iter()
                .map(|key| values.get(key).copied().unwrap_or(0))
                .collect()
        }
        // What has no rule of its own counts as if each row had all of it.
        _ => vec![array.get_array_memory_size() as u64; rows],
    }
}

fn lengths<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<u64> {
    offsets
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_usize() as u64)
        .collect()
}

fn views(views: &[u128]) -> Vec<u64> {
    views.iter().map(|view| u64::from(*view as u32)).collect()
}

fn elements<O: OffsetSizeTrait>(offsets: &[O], values: &dyn Array) -> Vec<u64> {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return Vec::new();
    };
    let first = first.as_usize();
    let values = widths(values.slice(first, last.as_usize() - first).as_ref());
    offsets
        .windows(2)
        .map(|pair| {
            values
                .get(pair[0].as_usize() - first..pair[1].as_usize() - first)
                .map_or(0, |list| {
                    list.iter().fold(ELEMENT_BYTES, |sum, bytes| {
                        sum.saturating_add(*bytes).saturating_add(ELEMENT_BYTES)
                    })
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, ListArray, StringArray, StringViewArray};

    use super::*;

    #[track_caller]
    fn check(array: ArrayRef, expected: &[u64]) {
        assert_eq!(widths(array.as_ref()), expected);
        assert_eq!(total(array.as_ref()), expected.iter().sum::<u64>());
    }

    #[test]
    fn values_have_the_bytes_of_their_content() {
        let long = "x".repeat(100);
        let texts = vec![Some("a"), None, Some(long.as_str()), Some("é")];
        check(Arc::new(StringArray::from(texts.clone())), &[1, 0, 100, 2]);
        check(
            Arc::new(StringViewArray::from(texts.clone())),
            &[1, 0, 100, 2],
        );
        check(Arc::new(StringArray::from(texts).slice(2, 2)), &[100, 2]);
        check(Arc::new(Int64Array::from(vec![1, 2])), &[8, 8]);
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![]),
        ]);
        check(Arc::new(lists.clone()), &[40, 8, 8]);
        check(Arc::new(lists.slice(0, 1)), &[40]);
        check(Arc::new(lists.slice(1, 2)), &[8, 8]);
    }
}
