//! Rows as every protocol leaves them: columns of one table, series by index.
//!
//! A row is a series, a time and some fields. Rows keep the order in which they were received,
//! because of two rows with one series and time the later one wins, field by field.

use std::sync::Arc;

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::NullBuffer;
use tidelake_catalog::model::{ColumnType, Histogram};

/// Rows of one table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// For each row the index of its series in the table's
    /// [`SeriesRegistry`](crate::series_registry::SeriesRegistry).
    pub series: Vec<u32>,
    /// For each row its time, in the table's unit.
    pub time: Vec<i64>,
    /// The fields that at least one row has.
    pub fields: Vec<FieldColumn>,
}

/// One field of all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldColumn {
    /// The field's name.
    pub name: Arc<str>,
    /// What it holds; agrees with `values`.
    pub kind: ColumnType,
    /// One value per row; where the row lacks the field, a default.
    pub values: FieldValues,
    /// Which rows have the field; `None` if all have it.
    pub validity: Option<NullBuffer>,
}

/// Values of a field, one per row.
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
        /// For each row, where in `bytes` its string ends; it begins where the one before ends.
        ends: Vec<u32>,
        /// UTF-8.
        bytes: Vec<u8>,
    },
    /// Native histograms: only the rows that have one, ascending.
    Histogram(Vec<(u32, Arc<Histogram>)>),
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// Bytes of memory that the rows hold, without the spare capacity.
    pub fn bytes(&self) -> usize {
        self.len() * 12
            + self
                .fields
                .iter()
                .map(|f| f.values.bytes() + f.validity.as_ref().map_or(0, |v| v.len() / 8))
                .sum::<usize>()
    }

    /// Leaves out the rows for which `keep` is false, and then the fields that no row has.
    pub fn retain(&mut self, keep: &[bool]) {
        fn filter<T: Clone>(values: &mut Vec<T>, keep: &[bool]) {
            let mut at = 0;
            values.retain(|_| {
                at += 1;
                keep.get(at - 1).copied().unwrap_or(false)
            });
        }
        filter(&mut self.series, keep);
        filter(&mut self.time, keep);
        for field in &mut self.fields {
            match &mut field.values {
                FieldValues::Float(v) => filter(v, keep),
                FieldValues::Integer(v) => filter(v, keep),
                FieldValues::Unsigned(v) => filter(v, keep),
                FieldValues::Boolean(v) => filter(v, keep),
                FieldValues::String { ends, bytes } => {
                    let (mut kept_ends, mut kept_bytes, mut start) = (Vec::new(), Vec::new(), 0);
                    for (&end, &keep) in ends.iter().zip(keep) {
                        if keep {
                            kept_bytes.extend_from_slice(&bytes[start..end as usize]);
                            kept_ends.push(kept_bytes.len() as u32);
                        }
                        start = end as usize;
                    }
                    (*ends, *bytes) = (kept_ends, kept_bytes);
                }
                FieldValues::Histogram(list) => {
                    let new_row: Vec<u32> = keep
                        .iter()
                        .scan(0u32, |next, &k| {
                            Some(std::mem::replace(next, *next + u32::from(k)))
                        })
                        .collect();
                    list.retain(|(row, _)| keep.get(*row as usize).copied().unwrap_or(false));
                    for (row, _) in list {
                        *row = new_row[*row as usize];
                    }
                }
            }
            if let Some(validity) = &field.validity {
                let mut kept: Vec<bool> = validity.iter().collect();
                filter(&mut kept, keep);
                field.validity = Some(NullBuffer::from(kept)).filter(|v| v.null_count() > 0);
            }
        }
        let rows = self.len();
        self.fields.retain(|f| f.present() > 0 && rows > 0);
    }
}

impl FieldColumn {
    /// Whether a row has the field.
    pub fn is_valid(&self, row: usize) -> bool {
        self.validity.as_ref().is_none_or(|v| v.is_valid(row))
    }

    /// Number of rows that have the field.
    fn present(&self) -> usize {
        match (&self.values, &self.validity) {
            (FieldValues::Histogram(list), _) => list.len(),
            (_, Some(validity)) => validity.len() - validity.null_count(),
            (_, None) => usize::MAX,
        }
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

    /// The string of a row; `None` if these are no strings, or there is no such row.
    pub fn string(&self, row: usize) -> Option<&str> {
        let FieldValues::String { ends, bytes } = self else {
            return None;
        };
        let start = if row == 0 {
            0
        } else {
            *ends.get(row - 1)? as usize
        };
        std::str::from_utf8(bytes.get(start..*ends.get(row)? as usize)?).ok()
    }

    fn bytes(&self) -> usize {
        match self {
            FieldValues::Float(v) => v.len() * 8,
            FieldValues::Integer(v) => v.len() * 8,
            FieldValues::Unsigned(v) => v.len() * 8,
            FieldValues::Boolean(v) => v.len(),
            FieldValues::String { ends, bytes } => ends.len() * 4 + bytes.len(),
            FieldValues::Histogram(list) => list.iter().map(|(_, h)| histogram_bytes(h)).sum(),
        }
    }
}

fn histogram_bytes(h: &Histogram) -> usize {
    size_of::<Histogram>()
        + (h.positive_spans.len()
            + h.negative_spans.len()
            + h.positive_counts.len()
            + h.negative_counts.len()
            + h.custom_values.len())
            * 8
}

/// A field while its rows arrive. Rows that lack it cost nothing until a later row has it.
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    values: FieldValues,
    /// Rows so far, the padded ones included.
    len: usize,
    /// Made with the first gap.
    validity: Option<BooleanBufferBuilder>,
}

impl ColumnBuilder {
    pub(crate) fn new(kind: ColumnType) -> Self {
        Self {
            values: FieldValues::empty(kind),
            len: 0,
            validity: None,
        }
    }

    /// Rows so far: more than `row` if that row has the field already.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Pads up to `row` and gives the values, to which exactly one has to be added.
    #[inline]
    pub(crate) fn open_row(&mut self, row: usize) -> &mut FieldValues {
        if self.len < row {
            self.pad_to(row);
        }
        self.len += 1;
        if let Some(validity) = &mut self.validity {
            validity.append(true);
        }
        &mut self.values
    }

    #[cold]
    fn pad_to(&mut self, rows: usize) {
        let validity = self.validity.get_or_insert_with(|| {
            let mut all = BooleanBufferBuilder::new(rows);
            all.append_n(self.len, true);
            all
        });
        validity.append_n(rows - self.len, false);
        self.len = rows;
        match &mut self.values {
            FieldValues::Float(v) => v.resize(rows, 0.0),
            FieldValues::Integer(v) => v.resize(rows, 0),
            FieldValues::Unsigned(v) => v.resize(rows, 0),
            FieldValues::Boolean(v) => v.resize(rows, false),
            FieldValues::String { ends, bytes } => ends.resize(rows, bytes.len() as u32),
            FieldValues::Histogram(_) => {}
        }
    }

    /// Takes back all from row `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if self.len <= rows {
            return;
        }
        self.len = rows;
        if let Some(validity) = &mut self.validity {
            validity.truncate(rows);
        }
        match &mut self.values {
            FieldValues::Float(v) => v.truncate(rows),
            FieldValues::Integer(v) => v.truncate(rows),
            FieldValues::Unsigned(v) => v.truncate(rows),
            FieldValues::Boolean(v) => v.truncate(rows),
            FieldValues::String { ends, bytes } => {
                ends.truncate(rows);
                bytes.truncate(ends.last().map_or(0, |&end| end as usize));
            }
            FieldValues::Histogram(list) => list.retain(|(row, _)| (*row as usize) < rows),
        }
    }

    /// The column of `rows` rows, or `None` if no row has the field.
    pub(crate) fn finish(
        mut self,
        name: Arc<str>,
        kind: ColumnType,
        rows: usize,
    ) -> Option<FieldColumn> {
        if self.len < rows {
            self.pad_to(rows);
        }
        let validity = self
            .validity
            .map(|mut v| NullBuffer::new(v.finish()))
            .filter(|v| v.null_count() > 0);
        if rows == 0 || validity.as_ref().is_some_and(|v| v.null_count() == rows) {
            return None;
        }
        Some(FieldColumn {
            name,
            kind,
            values: self.values,
            validity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(builder: &mut ColumnBuilder, row: usize, text: &str) {
        let FieldValues::String { ends, bytes } = builder.open_row(row) else {
            panic!("strings")
        };
        bytes.extend_from_slice(text.as_bytes());
        ends.push(bytes.len() as u32);
    }

    #[test]
    fn gaps_are_padded_and_taken_back_rows_leave_nothing() {
        let mut builder = ColumnBuilder::new(ColumnType::String);
        push(&mut builder, 1, "one");
        push(&mut builder, 2, "two");
        builder.truncate(2);
        push(&mut builder, 3, "three");
        let column = builder.finish("f".into(), ColumnType::String, 5).unwrap();
        let rows: Vec<_> = (0..5)
            .map(|row| {
                column
                    .is_valid(row)
                    .then(|| column.values.string(row).unwrap())
            })
            .collect();
        assert_eq!(rows, [None, Some("one"), None, Some("three"), None]);
        assert_eq!(column.values.string(5), None);
    }

    #[test]
    fn a_column_of_which_all_rows_were_taken_back_is_none() {
        let mut builder = ColumnBuilder::new(ColumnType::String);
        push(&mut builder, 1, "one");
        builder.truncate(1);
        assert_eq!(builder.finish("f".into(), ColumnType::String, 2), None);
    }

    #[test]
    fn retain_keeps_rows_of_every_kind_together() {
        let mut strings = ColumnBuilder::new(ColumnType::String);
        push(&mut strings, 0, "a");
        push(&mut strings, 2, "c");
        let mut gone = ColumnBuilder::new(ColumnType::String);
        push(&mut gone, 0, "x");
        let histogram = Arc::new(Histogram::default());
        let mut rows = Rows {
            series: vec![7, 8, 9],
            time: vec![1, 2, 3],
            fields: vec![
                strings.finish("s".into(), ColumnType::String, 3).unwrap(),
                gone.finish("g".into(), ColumnType::String, 3).unwrap(),
                FieldColumn {
                    name: "h".into(),
                    kind: ColumnType::Histogram,
                    values: FieldValues::Histogram(vec![
                        (0, histogram.clone()),
                        (2, histogram.clone()),
                    ]),
                    validity: Some(NullBuffer::from(vec![true, false, true])),
                },
            ],
        };
        rows.retain(&[false, true, true]);
        assert_eq!(
            (rows.series.as_slice(), rows.time.as_slice()),
            ([8, 9].as_slice(), [2, 3].as_slice())
        );
        assert_eq!(
            rows.fields.iter().map(|f| &*f.name).collect::<Vec<_>>(),
            ["s", "h"]
        );
        assert_eq!(
            (rows.fields[0].is_valid(0), rows.fields[0].values.string(1)),
            (false, Some("c"))
        );
        assert_eq!(
            rows.fields[1].values,
            FieldValues::Histogram(vec![(1, histogram)])
        );
    }
}
