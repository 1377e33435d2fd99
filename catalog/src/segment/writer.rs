//! Sorted rows -> data file and series index.
//!
//! Both are plain Parquet that any engine reads. Bytes come out as row groups fill up
//! ([`SegmentWriter::take_bytes`]), so that a writer of large segments holds one row group, not the
//! file.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Int32Array, PrimitiveArray, StringArray, UInt64Array,
};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Schema, SchemaRef, TimestampMillisecondType,
    TimestampNanosecondType,
};
use hashbrown::HashMap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::decimal::{self, Decimals, MANTISSA, VALUE, ValueLayout};
use super::encoding::{Effort, file_properties};
use super::error::SegmentError;
use super::field_array::FieldArray;
use super::index::IndexedSeries;
use super::index::writer::IndexWriter;
use super::row_groups::RowGroups;
use super::rows::{SeriesRun, SortedRows};
use super::series::{Series, SortOrder};
use crate::model::schema::{arrow_type, tag_type};
use crate::model::{Column, TIME_COLUMN, TableKind, TableSchema, TimeRange, TimeUnit};

/// What was written, besides the data file's bytes that [`SegmentWriter::take_bytes`] gave out.
#[derive(Debug)]
pub struct WrittenSegment {
    /// The series index, whole.
    pub index: Vec<u8>,
    /// Its last bytes, from its root on.
    pub index_tail_bytes: u64,
    /// xxh3 of these.
    pub index_checksum: u64,
    /// The last bytes of the data file.
    pub data_tail: Vec<u8>,
    /// Size of the data file.
    pub data_bytes: u64,
    /// xxh3 of the data file.
    pub data_checksum: u64,
    /// Rows in the data file.
    pub rows: u64,
    /// Series in the index.
    pub series: u64,
    /// First and last time.
    pub time: TimeRange,
}

#[derive(Default)]
struct SinkState {
    pending: Vec<u8>,
    written: u64,
    hash: Xxh3,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<SinkState>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        state.pending.extend_from_slice(bytes);
        state.hash.update(bytes);
        state.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one segment.
pub struct SegmentWriter {
    kind: TableKind,
    order: SortOrder,
    schema: SchemaRef,
    fields: Arc<[Column]>,
    /// Whether values are split.
    is_decimal: bool,
    data: RowGroups<Sink>,
    sink: Sink,
    index: IndexWriter,
    rows: u64,
    /// First and last time so far.
    time: Option<TimeRange>,
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("kind", &self.kind)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

fn encode_error(error: impl ToString) -> SegmentError {
    SegmentError::Encode(error.to_string())
}

impl SegmentWriter {
    /// A writer for rows with these fields, sorted by `order`. `note` is kept in the file's
    /// metadata: pairs that tell a reader without a catalog what it sees.
    pub fn new(
        kind: TableKind,
        order: SortOrder,
        fields: Arc<[Column]>,
        effort: Effort,
        note: &[(&str, String)],
    ) -> Result<Self, SegmentError> {
        Self::with_layout(kind, order, fields, effort, ValueLayout::Plain, note)
    }

    /// The same with a layout for the values of a metrics table. Files that are merged soon have
    /// the plain one in any case: what makes the other smaller is too much work for them.
    pub fn with_layout(
        kind: TableKind,
        order: SortOrder,
        fields: Arc<[Column]>,
        effort: Effort,
        layout: ValueLayout,
        note: &[(&str, String)],
    ) -> Result<Self, SegmentError> {
        let is_decimal = kind == TableKind::Metrics
            && layout == ValueLayout::Decimal
            && effort != Effort::Fresh
            && fields.iter().any(|field| &*field.name == VALUE);
        let schema = data_schema(kind, &order, &fields, is_decimal);
        let mut notes = vec![
            ("tidelake.format", "1".to_owned()),
            ("tidelake.sort", order.0.join(",")),
        ];
        notes.extend(is_decimal.then(|| ("tidelake.value_layout", "decimal".to_owned())));
        notes.extend(note.iter().map(|(k, v)| (*k, v.clone())));
        let properties = file_properties(&fields, effort, &notes);
        let numbers = |name: &str| {
            name == TIME_COLUMN
                || (is_decimal && name == MANTISSA)
                || fields.iter().any(|f| &*f.name == name)
        };
        let sink = Sink::default();
        let mut data = RowGroups::new(
            sink.clone(),
            Arc::clone(&schema),
            properties,
            effort,
            numbers,
        )
        .map_err(encode_error)?;
        if is_decimal {
            data = data.with_decimals();
        }
        Ok(Self {
            kind,
            order,
            schema,
            fields,
            is_decimal,
            data,
            sink,
            index: IndexWriter::new(kind)?,
            rows: 0,
            time: None,
        })
    }

    /// Appends rows. Their series come after all series of earlier calls, but a series may go on
    /// where the last call ended, with later times.
    pub fn push(&mut self, rows: &SortedRows) -> Result<(), SegmentError> {
        if rows.is_empty() {
            return Ok(());
        }
        for run in &rows.runs {
            let times = rows.times(run);
            let (Some(&min), Some(&max)) = (times.first(), times.last()) else {
                continue;
            };
            let time = TimeRange::new(min, max);
            let first_row = self.rows + run.rows().start as u64;
            self.time = Some(self.time.map_or(time, |all| all.union(&time)));
            match self.index.last_mut() {
                Some(last) if last.series.id == run.series.id => {
                    last.rows += run.rows().len() as u64;
                    last.time = last.time.union(&time);
                }
                _ => self.index.push(IndexedSeries {
                    series: Arc::clone(&run.series),
                    first_row,
                    rows: run.rows().len() as u64,
                    time,
                })?,
            }
        }
        let columns = self.data_columns(rows)?;
        self.data
            .write(&columns, rows.len())
            .map_err(encode_error)?;
        self.rows += rows.len() as u64;
        Ok(())
    }

    fn data_columns(&self, rows: &SortedRows) -> Result<Vec<FieldArray>, SegmentError> {
        let mut columns: Vec<FieldArray> = Vec::with_capacity(self.schema.fields().len());
        match self.kind {
            TableKind::Metrics | TableKind::Exemplars => {
                columns.push(FieldArray::Dense(run_dictionary(
                    rows.len(),
                    &rows.runs,
                    |s| Some(s.labels.metric_name()),
                )?));
                let mut ids = Vec::with_capacity(rows.len());
                for run in &rows.runs {
                    ids.resize(ids.len() + run.rows().len(), run.series.id);
                }
                columns.push(FieldArray::Dense(Arc::new(UInt64Array::from(ids))));
            }
            TableKind::Wide => {
                for tag in &self.order.0 {
                    columns.push(FieldArray::Dense(run_dictionary(
                        rows.len(),
                        &rows.runs,
                        |s| s.labels.get(tag),
                    )?));
                }
            }
        }
        columns.push(FieldArray::Dense(time_array(self.kind, rows.time.clone())));
        let fields = super::column::project(&rows.fields, &rows.columns, &self.fields, rows.len());
        for (field, column) in self.fields.iter().zip(fields) {
            if self.is_decimal && &*field.name == VALUE {
                let array = column.to_array();
                let values = array
                    .as_primitive_opt::<Float64Type>()
                    .ok_or_else(|| encode_error("values to be split are not floats"))?;
                let runs = rows.runs.iter().map(|run| run.rows());
                let split = Decimals::split(values, runs).columns();
                columns.extend(split.into_iter().map(FieldArray::Dense));
            } else {
                columns.push(column);
            }
        }
        Ok(columns)
    }

    /// Series so far.
    pub fn series(&self) -> usize {
        self.index.series() as usize
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the data file so far, of which the encoder may hold some.
    pub fn bytes(&self) -> u64 {
        self.data.bytes() as u64
    }

    /// The bytes of the data file that came out since the last call.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sink.0.lock().pending)
    }

    /// Ends the data file and makes the index.
    pub fn finish(self) -> Result<WrittenSegment, SegmentError> {
        self.data.finish().map_err(encode_error)?;
        let series = self.index.series();
        let index = self.index.finish()?;
        let mut state = self.sink.0.lock();
        Ok(WrittenSegment {
            index_checksum: index.checksum,
            index_tail_bytes: index.tail_bytes,
            index: index.bytes,
            data_tail: std::mem::take(&mut state.pending),
            data_bytes: state.written,
            data_checksum: state.hash.digest(),
            rows: self.rows,
            series,
            time: self.time.unwrap_or(TimeRange::new(0, -1)),
        })
    }
}

fn time_type(kind: TableKind) -> DataType {
    TableSchema::new(kind).time_type()
}

pub(super) fn time_array(kind: TableKind, times: arrow::buffer::ScalarBuffer<i64>) -> ArrayRef {
    match kind.time_unit() {
        TimeUnit::Millisecond => {
            Arc::new(PrimitiveArray::<TimestampMillisecondType>::new(times, None))
        }
        TimeUnit::Nanosecond => {
            Arc::new(PrimitiveArray::<TimestampNanosecondType>::new(times, None))
        }
    }
}

fn data_schema(
    kind: TableKind,
    order: &SortOrder,
    fields: &[Column],
    is_decimal: bool,
) -> SchemaRef {
    let mut columns = match kind {
        TableKind::Metrics | TableKind::Exemplars => {
            vec![
                Field::new("metric", tag_type(), false),
                Field::new("series_id", DataType::UInt64, false),
            ]
        }
        TableKind::Wide => order
            .0
            .iter()
            .map(|tag| Field::new(&**tag, tag_type(), true))
            .collect(),
    };
    columns.push(Field::new(TIME_COLUMN, time_type(kind), false));
    for field in fields {
        columns.push(Field::new(&*field.name, arrow_type(field.kind), true));
        if is_decimal && &*field.name == VALUE {
            columns.extend(decimal::fields());
        }
    }
    Arc::new(Schema::new(columns))
}

/// A column of one value per run; `value` gives the text of a series.
fn run_dictionary<'a>(
    rows: usize,
    runs: &'a [SeriesRun],
    value: impl Fn(&'a Series) -> Option<&'a str>,
) -> Result<ArrayRef, SegmentError> {
    let mut texts: Vec<&str> = Vec::new();
    let mut known: HashMap<&str, i32> = HashMap::new();
    let mut keys: Vec<i32> = Vec::with_capacity(rows);
    let mut valid: Vec<bool> = Vec::new();
    for run in runs {
        let key = value(&run.series).map(|text| {
            *known.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() as i32 - 1
            })
        });
        if key.is_none() && valid.is_empty() {
            valid = vec![true; keys.len()];
        }
        keys.resize(keys.len() + run.rows().len(), key.unwrap_or(0));
        if key.is_none() || !valid.is_empty() {
            valid.resize(keys.len(), key.is_some());
        }
    }
    let nulls = (!valid.is_empty()).then(|| valid.into());
    let keys = Int32Array::new(keys.into(), nulls);
    let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(StringArray::from(texts)))
        .map_err(encode_error)?;
    Ok(Arc::new(array))
}
