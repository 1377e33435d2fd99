//! Sorted rows as bytes: their series, and their columns as Arrow's IPC streams.
//!
//! Lengths are 4 bytes, little-endian. First the fields as JSON, with their length; then the number
//! of runs, and for each its rows, and its labels with their length; then streams, each with its
//! length: one of the time and the fields that most rows have, and one for each field that few
//! rows have, of these rows and their values.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt32Type};
use arrow::error::ArrowError;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use tidelake_catalog::model::schema::arrow_type;
use tidelake_catalog::model::{Column, ColumnType, Labels};
use tidelake_catalog::segment::{FieldArray, Series, SeriesRun, SortedRows, SparseArray};

/// Why bytes are no rows.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// They end early or contradict themselves.
    #[error("{0}")]
    Malformed(&'static str),
    /// The columns are none of Arrow's.
    #[error("their columns cannot be read: {0}")]
    Columns(#[from] ArrowError),
    /// The fields are none.
    #[error("their fields cannot be read: {0}")]
    Fields(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct FieldHead {
    name: String,
    kind: String,
    is_sparse: bool,
}

/// About how many bytes [`encode`] makes.
pub fn size(rows: &SortedRows) -> usize {
    let labels = rows.runs.iter().map(|run| run.series.labels.as_str().len());
    rows.memory_size() + labels.map(|len| len + 8).sum::<usize>()
}

/// Rows as bytes.
pub fn encode(rows: &SortedRows) -> Result<Vec<u8>, RowsError> {
    let mut out = Vec::with_capacity(size(rows));
    let heads: Vec<FieldHead> = rows
        .fields
        .iter()
        .zip(&rows.columns)
        .map(|(field, column)| FieldHead {
            name: field.name.to_string(),
            kind: field.kind.as_str().to_owned(),
            is_sparse: matches!(column, FieldArray::Sparse(_)),
        })
        .collect();
    put(&mut out, &serde_json::to_vec(&heads)?);
    put_number(&mut out, rows.runs.len());
    for run in &rows.runs {
        put_number(&mut out, run.rows().len());
        put(&mut out, run.series.labels.as_str().as_bytes());
    }
    let time: ArrayRef = Arc::new(Int64Array::new(rows.time.clone(), None));
    let mut dense = vec![time];
    let mut sparse = Vec::new();
    for column in &rows.columns {
        match column {
            FieldArray::Dense(array) => dense.push(Arc::clone(array)),
            FieldArray::Sparse(few) => {
                let entries = few.entries().map(|row| row as u32);
                let entries: ArrayRef = Arc::new(UInt32Array::from_iter_values(entries));
                sparse.push(vec![entries, Arc::clone(few.values())]);
            }
        }
    }
    for columns in std::iter::once(dense).chain(sparse) {
        put(&mut out, &stream(columns)?);
    }
    Ok(out)
}

fn stream(columns: Vec<ArrayRef>) -> Result<Vec<u8>, ArrowError> {
    // Fields are told by their places.
    let fields = columns
        .iter()
        .map(|column| Field::new("", column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.into_inner()
}

/// The rows of bytes.
pub fn decode(bytes: &[u8]) -> Result<SortedRows, RowsError> {
    let mut input = Input(bytes);
    let heads: Vec<FieldHead> = serde_json::from_slice(input.take()?)?;
    let count = input.number()?;
    let mut runs = Vec::with_capacity(count.min(bytes.len() / 8));
    let mut at = 0usize;
    for _ in 0..count {
        let rows = input.number()?;
        let labels = std::str::from_utf8(input.take()?)
            .map_err(|_| RowsError::Malformed("labels are not UTF-8"))?;
        let labels = Labels::try_canonical(labels)
            .ok_or(RowsError::Malformed("labels are not in canonical form"))?;
        let end = at + rows;
        if u32::try_from(end).is_err() {
            return Err(RowsError::Malformed("there are too many rows"));
        }
        runs.push(SeriesRun::new(Arc::new(Series::new(labels)), at..end));
        at = end;
    }
    let mut dense = columns(input.take()?)?.into_iter();
    let time = dense
        .next()
        .and_then(|time| time.as_primitive_opt::<Int64Type>().cloned())
        .filter(|time| time.len() == at && time.null_count() == 0)
        .ok_or(RowsError::Malformed("times are missing"))?;
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for head in heads {
        let kind = ColumnType::ALL
            .into_iter()
            .find(|kind| kind.as_str() == head.kind)
            .ok_or(RowsError::Malformed("a field is of an unknown type"))?;
        let array = match head.is_sparse {
            true => sparse(columns(input.take()?)?, at)?,
            false => FieldArray::Dense(
                dense
                    .next()
                    .ok_or(RowsError::Malformed("a field is missing"))?,
            ),
        };
        if *array.data_type() != arrow_type(kind) || array.len() != at {
            return Err(RowsError::Malformed(
                "a field has other values than it says",
            ));
        }
        fields.push(Column {
            name: head.name.into(),
            kind,
        });
        arrays.push(array);
    }
    Ok(SortedRows {
        runs,
        time: time.values().clone(),
        fields: fields.into(),
        columns: arrays,
    })
}

fn columns(stream: &[u8]) -> Result<Vec<ArrayRef>, RowsError> {
    let mut batches = StreamReader::try_new(Cursor::new(stream), None)?;
    let batch = batches
        .next()
        .ok_or(RowsError::Malformed("a stream is empty"))??;
    Ok(batch.columns().to_vec())
}

fn sparse(columns: Vec<ArrayRef>, len: usize) -> Result<FieldArray, RowsError> {
    let malformed = RowsError::Malformed("a field of few rows is none");
    let [rows, values] = columns.as_slice() else {
        return Err(malformed);
    };
    let is_numbers = *rows.data_type() == DataType::UInt32 && rows.null_count() == 0;
    if !is_numbers || rows.len() != values.len() || values.null_count() > 0 {
        return Err(malformed);
    }
    let rows = rows.as_primitive::<UInt32Type>().values().clone();
    let ascend = rows.is_sorted_by(|a, b| a < b);
    if !ascend || rows.last().is_some_and(|&last| last as usize >= len) {
        return Err(malformed);
    }
    let values = Arc::clone(values);
    Ok(FieldArray::Sparse(SparseArray::new(len, rows, values)))
}

fn put_number(out: &mut Vec<u8>, number: usize) {
    // Rows, labels and columns of a chunk are far smaller.
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn number(&mut self) -> Result<usize, RowsError> {
        let (number, rest) = self
            .0
            .split_first_chunk::<4>()
            .ok_or(RowsError::Malformed("they end early"))?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*number) as usize)
    }

    fn take(&mut self) -> Result<&'a [u8], RowsError> {
        let len = self.number()?;
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(RowsError::Malformed("they end early"))?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};

    use super::*;

    fn rows() -> SortedRows {
        let series = |host: &str| {
            let labels = Labels::from_pairs([("__name__", "up"), ("host", host)]);
            Arc::new(Series::new(labels))
        };
        let field = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        let few = SparseArray::new(
            20,
            vec![3, 17].into(),
            Arc::new(StringArray::from(vec!["x", "y"])),
        );
        let floats = Float64Array::from_iter((0..20).map(|i| (i % 3 > 0).then_some(f64::from(i))));
        SortedRows {
            runs: vec![
                SeriesRun::new(series("a"), 0..5),
                SeriesRun::new(series("b"), 5..20),
            ],
            time: (0..20).collect::<Vec<i64>>().into(),
            fields: [
                field("v", ColumnType::Float),
                field("note", ColumnType::String),
            ]
            .into(),
            columns: vec![FieldArray::Dense(Arc::new(floats)), FieldArray::Sparse(few)],
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let rows = rows();
        let back = decode(&encode(&rows).unwrap()).unwrap();
        assert_eq!(back.time, rows.time);
        assert_eq!(back.fields, rows.fields);
        for (one, other) in back.columns.iter().zip(&rows.columns) {
            assert_eq!(&one.to_array(), &other.to_array());
        }
        for (one, other) in back.runs.iter().zip(&rows.runs) {
            assert_eq!((&one.series, one.rows()), (&other.series, other.rows()));
        }
    }

    #[test]
    fn what_is_cut_anywhere_is_an_error() {
        let bytes = encode(&rows()).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
