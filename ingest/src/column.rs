//! A field of some rows, as protocols fill it, the buffer collects it and sorting reads it.
//!
//! Only rows that have the field take memory: a table of thousands of fields of which each row has
//! one costs what it holds. As long as every row has the field, the rows are not listed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, MapBuilder, StringBuilder,
    TimestampMillisecondArray, UInt64Array,
};
use tidelake_catalog::model::histogram::HistogramArrayBuilder;
use tidelake_catalog::model::{ColumnType, Histogram, Labels};
use tidelake_catalog::segment::field_array::{NOWHERE, is_sparse};
use tidelake_catalog::segment::{FieldArray, SparseArray};

/// One field of a number of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldColumn {
    /// The field's name.
    pub name: Arc<str>,
    /// What it holds; agrees with `values`.
    pub kind: ColumnType,
    /// The values of the rows that have the field, in their order.
    pub values: FieldValues,
    /// Number of values.
    count: usize,
    /// Which rows have the field, ascending; the first `count` rows if they are not listed.
    rows: Option<Vec<u32>>,
}

/// Values of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValues {
    /// Floats.
    Float(Vec<f64>),
    /// Signed integers, and times in milliseconds.
    Integer(Vec<i64>),
    /// Unsigned integers.
    Unsigned(Vec<u64>),
    /// Booleans.
    Boolean(Vec<bool>),
    /// Strings one after another, and labels in their canonical form.
    String {
        /// For each value, where in `bytes` it ends; it begins where the one before ends.
        ends: Vec<u32>,
        /// UTF-8.
        bytes: Vec<u8>,
    },
    /// Native histograms.
    Histogram(Vec<Arc<Histogram>>),
}

impl FieldColumn {
    /// A field that no row has yet.
    pub fn new(name: Arc<str>, kind: ColumnType) -> Self {
        Self {
            name,
            kind,
            values: FieldValues::empty(kind),
            count: 0,
            rows: None,
        }
    }

    /// Integers that the first rows have, each its own.
    pub fn of_integers(name: Arc<str>, values: Vec<i64>) -> Self {
        Self {
            name,
            kind: ColumnType::Integer,
            count: values.len(),
            values: FieldValues::Integer(values),
            rows: None,
        }
    }

    /// Number of rows that have the field.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The row after the last that has the field: more than `row` if that row has it already.
    #[inline]
    pub fn next_row(&self) -> usize {
        match &self.rows {
            None => self.count,
            Some(rows) => rows.last().map_or(0, |&row| row as usize + 1),
        }
    }

    /// Notes that a row, after all that have the field, has it too, and gives the values, to which
    /// exactly one is to be added.
    #[inline]
    pub fn open_row(&mut self, row: usize) -> &mut FieldValues {
        match &mut self.rows {
            None if self.count == row => {}
            None => self.list_rows().push(row as u32),
            Some(rows) => rows.push(row as u32),
        }
        self.count += 1;
        &mut self.values
    }

    #[cold]
    fn list_rows(&mut self) -> &mut Vec<u32> {
        let count = self.count as u32;
        self.rows.get_or_insert_with(|| (0..count).collect())
    }

    /// The rows that have the field, each at the position of its value.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        let (first, listed) = match &self.rows {
            None => (self.count as u32, [].as_slice()),
            Some(rows) => (0, rows.as_slice()),
        };
        (0..first).chain(listed.iter().copied())
    }

    /// The position of a row's value; `None` if the row lacks the field.
    pub fn position(&self, row: usize) -> Option<usize> {
        match &self.rows {
            None => (row < self.count).then_some(row),
            Some(rows) => rows.binary_search(&u32::try_from(row).ok()?).ok(),
        }
    }

    /// The column of the first rows.
    pub fn head(&self, rows: usize) -> Self {
        let listed = self.rows.as_ref().map(|listed| {
            let count = listed.partition_point(|&row| (row as usize) < rows);
            listed.iter().take(count).copied().collect::<Vec<u32>>()
        });
        let count = listed.as_ref().map_or(self.count.min(rows), Vec::len);
        let positions: Vec<u32> = (0..count as u32).collect();
        Self {
            name: Arc::clone(&self.name),
            kind: self.kind,
            values: self.values.pick(&positions),
            count,
            rows: listed,
        }
    }

    /// Takes back all from row `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        let count = match &mut self.rows {
            None => self.count.min(rows),
            Some(listed) => {
                let count = listed.partition_point(|&row| (row as usize) < rows);
                listed.truncate(count);
                count
            }
        };
        self.count = count;
        self.values.truncate(count);
    }

    /// Appends the column of further rows, of which the first is row `before`.
    pub fn append(&mut self, other: Self, before: usize) {
        let (name, kind) = (&self.name, self.kind);
        // The schema fixes a column's kind before its rows come here. They are acknowledged when
        // they are in the buffer, so that a value that cannot be there must not pass in silence.
        assert!(
            self.values.append(other.values),
            "field {name:?} is {kind:?} in the buffer, and a request brings another kind of it"
        );
        match other.rows {
            None if self.rows.is_none() && self.count == before => {}
            None => {
                let (from, count) = (before as u32, other.count as u32);
                self.list_rows().extend(from..from + count);
            }
            Some(rows) => {
                let from = before as u32;
                self.list_rows().extend(rows.iter().map(|row| from + row));
            }
        }
        self.count += other.count;
    }

    /// Leaves out the rows for which `keep` is false; those after them move up.
    pub fn retain(&mut self, keep: &[bool]) {
        let mut new_rows = Vec::with_capacity(keep.len());
        let mut next = 0u32;
        for &kept in keep {
            new_rows.push(if kept { next } else { NOWHERE });
            next += u32::from(kept);
        }
        let (mut kept, mut positions) = (Vec::new(), Vec::new());
        for (position, row) in self.rows().enumerate() {
            let new_row = new_rows.get(row as usize).copied().unwrap_or(NOWHERE);
            if new_row != NOWHERE {
                kept.push(new_row);
                positions.push(position as u32);
            }
        }
        self.values = self.values.pick(&positions);
        self.count = positions.len();
        let is_prefix = kept.iter().zip(0..).all(|(&row, at)| row == at);
        self.rows = (!is_prefix).then_some(kept);
    }

    /// The column in another order: row `i` of what comes out is row `picked[i]`. `places` says for
    /// each row where it goes, of several that go to one place the last that has the field counts.
    pub fn gather(&self, rows: usize, picked: &[u32], places: &[u32]) -> FieldArray {
        if self.rows.is_none() && self.count == rows {
            return FieldArray::Dense(self.values.array(picked, self.kind));
        }
        let mut found: Vec<(u32, u32)> = self
            .rows()
            .enumerate()
            .filter_map(|(position, row)| {
                let place = places.get(row as usize).copied().unwrap_or(NOWHERE);
                (place != NOWHERE).then_some((place, position as u32))
            })
            .collect();
        if !found.is_sorted() {
            found.sort_unstable();
        }
        let last: Vec<(u32, u32)> = found
            .iter()
            .enumerate()
            .filter(|(at, one)| found.get(at + 1).is_none_or(|next| next.0 != one.0))
            .map(|(_, one)| *one)
            .collect();
        let positions: Vec<u32> = last.iter().map(|one| one.1).collect();
        let values = self.values.array(&positions, self.kind);
        let at: Vec<u32> = last.iter().map(|one| one.0).collect();
        let sparse = FieldArray::Sparse(SparseArray::new(picked.len(), at.into(), values));
        if is_sparse(last.len(), picked.len()) {
            sparse
        } else {
            FieldArray::Dense(sparse.to_array())
        }
    }

    /// Bytes of memory that it holds, spare capacity included.
    pub fn bytes(&self) -> usize {
        self.values.bytes() + self.rows.as_ref().map_or(0, |rows| rows.capacity() * 4)
    }
}

impl FieldValues {
    /// No values of a kind. A tag has none that could be listed here and gives strings.
    pub fn empty(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Float => FieldValues::Float(Vec::new()),
            ColumnType::Integer | ColumnType::Timestamp => FieldValues::Integer(Vec::new()),
            ColumnType::Unsigned => FieldValues::Unsigned(Vec::new()),
            ColumnType::Boolean => FieldValues::Boolean(Vec::new()),
            ColumnType::String | ColumnType::Tag | ColumnType::Labels => FieldValues::String {
                ends: Vec::new(),
                bytes: Vec::new(),
            },
            ColumnType::Histogram => FieldValues::Histogram(Vec::new()),
        }
    }

    /// A string by its position; `None` if these are no strings, or there is none at the position.
    pub fn string(&self, position: usize) -> Option<&str> {
        let FieldValues::String { ends, bytes } = self else {
            return None;
        };
        let start = match position.checked_sub(1) {
            None => 0,
            Some(before) => *ends.get(before)? as usize,
        };
        std::str::from_utf8(bytes.get(start..*ends.get(position)? as usize)?).ok()
    }

    fn truncate(&mut self, count: usize) {
        match self {
            FieldValues::Float(v) => v.truncate(count),
            FieldValues::Integer(v) => v.truncate(count),
            FieldValues::Unsigned(v) => v.truncate(count),
            FieldValues::Boolean(v) => v.truncate(count),
            FieldValues::String { ends, bytes } => {
                ends.truncate(count);
                bytes.truncate(ends.last().map_or(0, |&end| end as usize));
            }
            FieldValues::Histogram(list) => list.truncate(count),
        }
    }

    /// Appends others; false if they are of another kind.
    fn append(&mut self, other: Self) -> bool {
        match (self, other) {
            (FieldValues::Float(to), FieldValues::Float(from)) => to.extend_from_slice(&from),
            (FieldValues::Integer(to), FieldValues::Integer(from)) => to.extend_from_slice(&from),
            (FieldValues::Unsigned(to), FieldValues::Unsigned(from)) => to.extend_from_slice(&from),
            (FieldValues::Boolean(to), FieldValues::Boolean(from)) => to.extend_from_slice(&from),
            (
                FieldValues::String { ends, bytes },
                FieldValues::String {
                    ends: new_ends,
                    bytes: new_bytes,
                },
            ) => {
                // A chunk of the buffer and a body are both far below 4 GiB.
                let base = bytes.len() as u32;
                bytes.extend_from_slice(&new_bytes);
                ends.extend(new_ends.into_iter().map(|end| base + end));
            }
            (FieldValues::Histogram(to), FieldValues::Histogram(from)) => to.extend(from),
            (_, _) => return false,
        }
        true
    }

    /// The values at these positions.
    fn pick(&self, positions: &[u32]) -> Self {
        fn of<T: Clone>(values: &[T], positions: &[u32]) -> Vec<T> {
            let value = |&position: &u32| values[position as usize].clone();
            positions.iter().map(value).collect()
        }
        match self {
            FieldValues::Float(v) => FieldValues::Float(of(v, positions)),
            FieldValues::Integer(v) => FieldValues::Integer(of(v, positions)),
            FieldValues::Unsigned(v) => FieldValues::Unsigned(of(v, positions)),
            FieldValues::Boolean(v) => FieldValues::Boolean(of(v, positions)),
            FieldValues::Histogram(v) => FieldValues::Histogram(of(v, positions)),
            FieldValues::String { .. } => {
                let (mut ends, mut bytes) = (Vec::with_capacity(positions.len()), Vec::new());
                for &position in positions {
                    let text = self.string(position as usize).unwrap_or("");
                    bytes.extend_from_slice(text.as_bytes());
                    ends.push(bytes.len() as u32);
                }
                FieldValues::String { ends, bytes }
            }
        }
    }

    /// The values at these positions as an array.
    fn array(&self, positions: &[u32], kind: ColumnType) -> ArrayRef {
        fn of<'a, T: Copy>(
            values: &'a [T],
            positions: &'a [u32],
        ) -> impl ExactSizeIterator<Item = T> + 'a {
            positions.iter().map(|&position| values[position as usize])
        }
        match self {
            FieldValues::Float(v) => {
                Arc::new(Float64Array::new(of(v, positions).collect(), None)) as ArrayRef
            }
            FieldValues::Integer(v) if kind == ColumnType::Timestamp => Arc::new(
                TimestampMillisecondArray::new(of(v, positions).collect(), None),
            ),
            FieldValues::Integer(v) => Arc::new(Int64Array::new(of(v, positions).collect(), None)),
            FieldValues::Unsigned(v) => {
                Arc::new(UInt64Array::new(of(v, positions).collect(), None))
            }
            FieldValues::Boolean(v) => {
                Arc::new(BooleanArray::new(of(v, positions).collect(), None))
            }
            FieldValues::String { .. } if kind == ColumnType::Labels => {
                let mut out = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
                for &position in positions {
                    let labels = self.string(position as usize).unwrap_or("");
                    for (name, value) in Labels::iter_canonical(labels) {
                        out.keys().append_value(name);
                        out.values().append_value(value);
                    }
                    // As many names as values: it cannot fail.
                    let _ = out.append(true);
                }
                Arc::new(out.finish())
            }
            FieldValues::String { ends, bytes } => {
                let average = bytes.len() / ends.len().max(1) + 1;
                let mut out =
                    StringBuilder::with_capacity(positions.len(), average * positions.len());
                for &position in positions {
                    out.append_value(self.string(position as usize).unwrap_or(""));
                }
                Arc::new(out.finish())
            }
            FieldValues::Histogram(list) => {
                let mut out = HistogramArrayBuilder::new();
                for &position in positions {
                    out.append(&list[position as usize]);
                }
                Arc::new(out.finish())
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            FieldValues::Float(v) => v.capacity() * 8,
            FieldValues::Integer(v) => v.capacity() * 8,
            FieldValues::Unsigned(v) => v.capacity() * 8,
            FieldValues::Boolean(v) => v.capacity(),
            FieldValues::String { ends, bytes } => ends.capacity() * 4 + bytes.capacity(),
            FieldValues::Histogram(list) => {
                list.capacity() * 8 + list.iter().map(|h| histogram_bytes(h)).sum::<usize>()
            }
        }
    }
}

/// Bytes of memory of a histogram that is held by an `Arc`.
pub(crate) fn histogram_bytes(h: &Histogram) -> usize {
    let lists = h.positive_spans.capacity()
        + h.negative_spans.capacity()
        + h.positive_counts.capacity()
        + h.negative_counts.capacity()
        + h.custom_values.capacity();
    size_of::<Histogram>() + 16 + lists * 8
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    #[should_panic(expected = "field \"f\" is")]
    fn another_kind_is_a_defect() {
        let name: Arc<str> = "f".into();
        let mut column = FieldColumn::new(Arc::clone(&name), ColumnType::Float);
        column.append(FieldColumn::new(name, ColumnType::Integer), 0);
    }

    fn push(column: &mut FieldColumn, row: usize, text: &str) {
        let FieldValues::String { ends, bytes } = column.open_row(row) else {
            panic!("strings")
        };
        bytes.extend_from_slice(text.as_bytes());
        ends.push(bytes.len() as u32);
    }

    fn strings(rows: &[(usize, &str)]) -> FieldColumn {
        let mut column = FieldColumn::new("f".into(), ColumnType::String);
        rows.iter()
            .for_each(|(row, text)| push(&mut column, *row, text));
        column
    }

    #[track_caller]
    fn check(column: &FieldColumn, rows: usize, expected: &[Option<&str>]) {
        let found: Vec<Option<&str>> = (0..rows)
            .map(|row| column.values.string(column.position(row)?))
            .collect();
        assert_eq!(found, expected);
        let picked: Vec<u32> = (0..rows as u32).collect();
        let array = column.gather(rows, &picked, &picked).to_array();
        assert_eq!(
            array.as_string::<i32>().iter().collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn rows_without_the_field_take_nothing_and_rows_are_taken_back() {
        let mut column = strings(&[(1, "one"), (2, "two")]);
        column.truncate(2);
        push(&mut column, 3, "three");
        check(&column, 5, &[None, Some("one"), None, Some("three"), None]);
        column.truncate(1);
        assert_eq!((column.count(), column.next_row()), (0, 0));
        let mut all = strings(&[(0, "a"), (1, "b"), (2, "c")]);
        assert_eq!((all.rows.clone(), all.next_row()), (None, 3));
        all.truncate(1);
        check(&all, 3, &[Some("a"), None, None]);
    }

    #[test]
    fn columns_are_appended_whether_or_not_rows_are_listed() {
        let mut column = strings(&[(0, "a"), (1, "b")]);
        column.append(strings(&[(0, "c")]), 2);
        assert_eq!(column.rows, None);
        column.append(strings(&[(1, "e")]), 3);
        check(
            &column,
            5,
            &[Some("a"), Some("b"), Some("c"), None, Some("e")],
        );
        let mut late = strings(&[]);
        late.append(strings(&[(0, "x"), (1, "y")]), 2);
        check(&late, 4, &[None, None, Some("x"), Some("y")]);
    }

    #[test]
    fn rows_move_up_when_others_are_left_out() {
        let mut column = strings(&[(0, "a"), (2, "c"), (3, "d")]);
        column.retain(&[false, true, true, true]);
        check(&column, 3, &[None, Some("c"), Some("d")]);
        column.retain(&[false, true, true]);
        assert_eq!(column.rows, None);
        check(&column, 2, &[Some("c"), Some("d")]);
    }

    #[test]
    fn of_rows_in_one_place_the_last_with_a_value_counts() {
        let column = strings(&[(0, "a"), (1, "b"), (3, "d")]);
        // Rows 1 to 3 are one row, and row 4 comes first.
        let array = column.gather(5, &[4, 0, 3], &[1, 2, 2, 2, 0]).to_array();
        let expected = [None, Some("a"), Some("d")];
        assert_eq!(
            array.as_string::<i32>().iter().collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn a_thousand_fields_of_one_row_each_take_little() {
        let columns: Vec<FieldColumn> = (0..1000)
            .map(|field| {
                let mut column = FieldColumn::new("f".into(), ColumnType::Float);
                if let FieldValues::Float(values) = column.open_row(field * 1000) {
                    values.push(1.0);
                }
                column
            })
            .collect();
        let bytes: usize = columns.iter().map(FieldColumn::bytes).sum();
        assert!(bytes < 100_000, "{bytes}");
    }
}
