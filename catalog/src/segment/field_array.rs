//! The values of one field for a number of rows.
//!
//! A table may have thousands of fields of which each row has one. Such a field is kept as the rows
//! that have it and their values, so that it costs what it holds; an array of all rows is made of
//! it only where one is needed, column by column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanBufferBuilder, PrimitiveArray,
    UInt32Array, new_empty_array, new_null_array,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;

/// A field is kept sparse where at most one row in this many has it.
pub const SPARSE_RATIO: usize = 8;

/// One field of some rows.
#[derive(Debug, Clone)]
pub enum FieldArray {
    /// A value or null for each row.
    Dense(ArrayRef),
    /// Few rows have a value.
    Sparse(SparseArray),
}

/// A field that few rows have.
#[derive(Debug, Clone)]
pub struct SparseArray {
    /// Rows in all.
    len: usize,
    /// What is subtracted of `rows`.
    first: u32,
    /// The rows that have the field, ascending.
    rows: ScalarBuffer<u32>,
    /// Their values, none of them null.
    values: ArrayRef,
}

impl SparseArray {
    /// `rows` ascend, are below `len`, and are as many as `values`, of which none is null.
    pub fn new(len: usize, rows: ScalarBuffer<u32>, values: ArrayRef) -> Self {
        debug_assert!(rows.len() == values.len() && values.null_count() == 0);
        debug_assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
        Self {
            len,
            first: 0,
            rows,
            values,
        }
    }

    /// The rows that have the field, each with its position among the values.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.rows.iter().map(|&row| (row - self.first) as usize)
    }

    /// The values of [`entries`](Self::entries).
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    /// Position among the values of the first entry from a row on.
    fn position(&self, row: usize) -> usize {
        self.rows
            .partition_point(|&r| ((r - self.first) as usize) < row)
    }

    fn slice(&self, start: usize, len: usize) -> Self {
        let (from, to) = (self.position(start), self.position(start + len));
        Self {
            len,
            // Rows are 32-bit numbers, and so is where a slice of them starts.
            first: self.first + start as u32,
            rows: self.rows.slice(from, to - from),
            values: self.values.slice(from, to - from),
        }
    }

    fn to_array(&self) -> ArrayRef {
        fn scatter<T: ArrowPrimitiveType>(sparse: &SparseArray) -> ArrayRef {
            let mut values = vec![T::Native::default(); sparse.len];
            let mut valid = BooleanBufferBuilder::new(sparse.len);
            valid.append_n(sparse.len, false);
            let from = sparse.values.as_primitive::<T>().values();
            for (row, value) in sparse.entries().zip(from) {
                values[row] = *value;
                valid.set_bit(row, true);
            }
            let nulls = NullBuffer::new(valid.finish());
            Arc::new(PrimitiveArray::<T>::new(values.into(), Some(nulls)))
        }
        match self.values.data_type() {
            _ if self.rows.is_empty() => new_null_array(self.values.data_type(), self.len),
            DataType::Float64 => scatter::<Float64Type>(self),
            DataType::Int64 => scatter::<Int64Type>(self),
            DataType::UInt64 => scatter::<UInt64Type>(self),
            _ => {
                let mut positions: Vec<Option<u32>> = vec![None; self.len];
                for (position, row) in self.entries().enumerate() {
                    positions[row] = Some(position as u32);
                }
                // Positions are those of the values: it cannot fail.
                take(&self.values, &UInt32Array::from(positions), None)
                    .unwrap_or_else(|_| new_null_array(self.values.data_type(), self.len))
            }
        }
    }
}

impl FieldArray {
    /// A field that no row has.
    pub fn absent(kind: &DataType, len: usize) -> Self {
        Self::Sparse(SparseArray::new(
            len,
            Vec::new().into(),
            new_empty_array(kind),
        ))
    }

    /// An array in the form that suits it.
    pub fn new(array: impl Array + 'static) -> Self {
        Self::of(Arc::new(array))
    }

    /// The form that suits an array.
    pub fn of(array: ArrayRef) -> Self {
        let valid = array.len() - array.null_count();
        let Some(nulls) = array.nulls().filter(|_| is_sparse(valid, array.len())) else {
            return Self::Dense(array);
        };
        let rows: Vec<u32> = nulls.valid_indices().map(|row| row as u32).collect();
        match take(&array, &UInt32Array::from(rows.clone()), None) {
            Ok(values) => Self::Sparse(SparseArray::new(array.len(), rows.into(), values)),
            Err(_) => Self::Dense(array),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Dense(array) => array.len(),
            Self::Sparse(sparse) => sparse.len,
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of the values.
    pub fn data_type(&self) -> &DataType {
        match self {
            Self::Dense(array) => array.data_type(),
            Self::Sparse(sparse) => sparse.values.data_type(),
        }
    }

    /// Whether a row has the field.
    pub fn is_valid(&self, row: usize) -> bool {
        match self {
            Self::Dense(array) => array.is_valid(row),
            Self::Sparse(sparse) => {
                let entry = sparse.rows.get(sparse.position(row));
                entry.is_some_and(|&entry| (entry - sparse.first) as usize == row)
            }
        }
    }

    /// Some of the rows; nothing is copied.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Self {
        match self {
            Self::Dense(array) => Self::Dense(array.slice(start, len)),
            Self::Sparse(sparse) => Self::Sparse(sparse.slice(start, len)),
        }
    }

    /// A value or null for each row; made anew if the field is sparse.
    pub fn to_array(&self) -> ArrayRef {
        match self {
            Self::Dense(array) => Arc::clone(array),
            Self::Sparse(sparse) => sparse.to_array(),
        }
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        match self {
            Self::Dense(array) => array.get_array_memory_size(),
            Self::Sparse(sparse) => {
                sparse.rows.inner().capacity() + sparse.values.get_array_memory_size()
            }
        }
    }

    /// Number of rows that have the field.
    pub fn value_count(&self) -> usize {
        match self {
            Self::Dense(array) => array.len() - array.null_count(),
            Self::Sparse(sparse) => sparse.rows.len(),
        }
    }

    /// The values that there are, in the order of their rows: each row and the position of its
    /// value in the array that is returned with them.
    fn valid_values(&self) -> (ArrayRef, Vec<(u32, u32)>) {
        match self {
            Self::Dense(array) => {
                let row = |row: usize| (row as u32, row as u32);
                let rows = match array.nulls() {
                    Some(nulls) => nulls.valid_indices().map(row).collect(),
                    None => (0..array.len()).map(row).collect(),
                };
                (Arc::clone(array), rows)
            }
            Self::Sparse(sparse) => (
                Arc::clone(&sparse.values),
                sparse.entries().map(|row| row as u32).zip(0..).collect(),
            ),
        }
    }

    /// Several fields' rows one after the other.
    ///
    /// # Errors
    /// If they are of different types.
    pub fn concat(parts: &[&Self]) -> Result<Self, ArrowError> {
        if let [one] = parts {
            return Ok((*one).clone());
        }
        let len = parts.iter().map(|part| part.len()).sum();
        let places: Vec<Vec<u32>> = parts
            .iter()
            .scan(0u32, |at, part| {
                let end = *at + part.len() as u32;
                Some((std::mem::replace(at, end)..end).collect())
            })
            .collect();
        if parts
            .iter()
            .any(|part| matches!(part, Self::Sparse(sparse) if sparse.len > 0))
        {
            return Self::gather_sparse(parts, &places, len);
        }
        let arrays: Vec<ArrayRef> = parts.iter().map(|part| part.to_array()).collect();
        let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
        Ok(Self::Dense(arrow::compute::concat(&arrays)?))
    }

    /// The rows of several inputs in new places: `places` says for each row of each input its row
    /// among the `len` that come out, [`NOWHERE`] if it is left out. Of several rows in one place
    /// that have the field, that of the last input counts.
    ///
    /// # Errors
    /// If the inputs are of different types.
    pub fn gather_sparse(
        inputs: &[&Self],
        places: &[Vec<u32>],
        len: usize,
    ) -> Result<Self, ArrowError> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(inputs.len());
        // Where to, of which input, and which value.
        let mut found: Vec<(u32, u32, u32)> = Vec::new();
        for (input, (field, places)) in inputs.iter().zip(places).enumerate() {
            let (array, entries) = field.valid_values();
            arrays.push(array);
            let entries = entries.into_iter().filter_map(|(row, value)| {
                let place = places[row as usize];
                (place != NOWHERE).then_some((place, input as u32, value))
            });
            found.extend(entries);
        }
        if !found.is_sorted() {
            found.sort_unstable();
        }
        // Of equal places the last one.
        let last: Vec<(u32, u32, u32)> = found
            .iter()
            .enumerate()
            .filter(|(at, one)| found.get(at + 1).is_none_or(|next| next.0 != one.0))
            .map(|(_, one)| *one)
            .collect();
        let Some(kind) = inputs.first().map(|input| input.data_type().clone()) else {
            return Ok(Self::absent(&DataType::Null, len));
        };
        if last.is_empty() {
            return Ok(Self::absent(&kind, len));
        }
        let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
        let picks: Vec<(usize, usize)> = last
            .iter()
            .map(|&(_, input, value)| (input as usize, value as usize))
            .collect();
        let values = interleave(&arrays, &picks)?;
        let rows: ScalarBuffer<u32> = last.iter().map(|one| one.0).collect();
        let sparse = SparseArray::new(len, rows, values);
        Ok(if is_sparse(last.len(), len) {
            Self::Sparse(sparse)
        } else {
            Self::Dense(sparse.to_array())
        })
    }
}

/// Marks a row that [`FieldArray::gather_sparse`] leaves out.
pub const NOWHERE: u32 = u32::MAX;

/// Whether so few of the rows have a field that it is kept sparse.
pub fn is_sparse(values: usize, rows: usize) -> bool {
    values.saturating_mul(SPARSE_RATIO) <= rows
}

impl From<ArrayRef> for FieldArray {
    fn from(array: ArrayRef) -> Self {
        Self::of(array)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};

    use super::*;

    fn floats(values: &[Option<f64>]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    /// Values at these rows of a hundred.
    fn at(rows: &[usize]) -> Vec<Option<f64>> {
        (0..100)
            .map(|row| rows.contains(&row).then_some(row as f64))
            .collect()
    }

    #[test]
    fn an_array_comes_back_from_either_form() {
        let check = |array: ArrayRef, sparse: bool| {
            let field = FieldArray::of(Arc::clone(&array));
            assert_eq!(matches!(field, FieldArray::Sparse(_)), sparse);
            assert_eq!(&field.to_array(), &array);
            assert_eq!(field.value_count(), array.len() - array.null_count());
            for row in 0..array.len() {
                assert_eq!(field.is_valid(row), array.is_valid(row), "row {row}");
            }
            for (start, len) in [(0, 100), (3, 40), (40, 60), (100, 0)] {
                let slice = field.slice(start, len);
                assert_eq!(&slice.to_array(), &array.slice(start, len));
                let (from, within) = (len / 3, len - len / 3);
                assert_eq!(
                    &slice.slice(from, within).to_array(),
                    &array.slice(start + from, within)
                );
            }
        };
        check(floats(&at(&[3, 41, 99])), true);
        check(floats(&at(&[])), true);
        check(floats(&at(&(0..50).collect::<Vec<_>>())), false);
        let texts = (0..100).map(|row| (row % 30 == 1).then(|| format!("text {row}")));
        check(Arc::new(StringArray::from_iter(texts)), true);
    }

    #[test]
    fn a_field_that_no_row_has_takes_nothing() {
        let field = FieldArray::absent(&DataType::Float64, 1_000_000);
        assert!(field.memory_size() < 1000, "{}", field.memory_size());
        assert_eq!(
            (field.len(), field.to_array().null_count()),
            (1_000_000, 1_000_000)
        );
    }

    #[test]
    fn rows_find_their_places_and_the_last_input_counts() {
        let (a, b) = (
            FieldArray::of(floats(&at(&[0, 1, 2]))),
            FieldArray::Dense(floats(&[None, Some(-1.0), Some(-2.0)])),
        );
        let mut of_a = vec![NOWHERE; 100];
        (of_a[0], of_a[1], of_a[2]) = (7, 5, 6);
        let of_b = vec![5, 6, NOWHERE];
        let out = FieldArray::gather_sparse(&[&a, &b], &[of_a, of_b], 100).unwrap();
        let mut expected = vec![None; 100];
        (expected[5], expected[6], expected[7]) = (Some(1.0), Some(-1.0), Some(0.0));
        assert_eq!(&out.to_array(), &floats(&expected));
    }

    #[test]
    fn parts_come_one_after_the_other() {
        let (sparse, dense) = (at(&[2, 98]), vec![Some(1.0); 3]);
        let parts = [
            FieldArray::of(floats(&sparse)),
            FieldArray::of(floats(&dense)),
            FieldArray::absent(&DataType::Float64, 2),
        ];
        let out = FieldArray::concat(&parts.iter().collect::<Vec<_>>()).unwrap();
        let expected = [sparse, dense, vec![None; 2]].concat();
        assert_eq!(&out.to_array(), &floats(&expected));
    }
}
