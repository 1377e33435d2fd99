//! Sorted rows as record batches.
//!
//! Everything about a series is worked out once per run, and repeated per row by index only: no
//! text is looked at for a row, and time and fields are copies of ranges of what was read.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, StringViewArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::array::{MutableArrayData, make_array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Float64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::ScalarValue;
use tidelake_catalog::model::{TimeUnit, is_stale};
use tidelake_catalog::segment::{FieldArray, SortedRows};

use super::error::SqlError;

/// Where a column of a batch is found in what was read.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// A label of the run's series.
    Tag(Arc<str>),
    /// The row's time.
    Time,
    /// One of the columns.
    Field(usize),
}

/// What batches look like.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub schema: SchemaRef,
    /// One per field of the schema.
    pub slots: Vec<Slot>,
    pub time_unit: TimeUnit,
    /// The first column read is the value of samples: rows without one (histograms) and stale
    /// markers are left out.
    pub samples_only: bool,
}

impl Layout {
    /// A time as the time column has it.
    pub fn timestamp(&self, time: i64) -> ScalarValue {
        match self.time_unit {
            TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(time), None),
            TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(time), None),
        }
    }
}

/// The batches of one unit.
pub(super) struct UnitBatches {
    layout: Arc<Layout>,
    rows: SortedRows,
    /// Per slot that is a tag, its value in each run.
    tags: Vec<Option<StringViewArray>>,
    /// Rows to give, if not all.
    keep: Option<BooleanArray>,
    batch_rows: usize,
    next_row: usize,
    next_run: usize,
}

impl UnitBatches {
    pub fn new(layout: Arc<Layout>, rows: SortedRows, batch_rows: usize) -> Result<Self, SqlError> {
        check(&rows)?;
        let tags = layout
            .slots
            .iter()
            .map(|slot| match slot {
                Slot::Tag(label) => Some(
                    rows.runs
                        .iter()
                        .map(|run| run.series.labels.get(label))
                        .collect(),
                ),
                _ => None,
            })
            .collect();
        let keep = if layout.samples_only {
            samples(&rows)?
        } else {
            None
        };
        Ok(Self {
            layout,
            rows,
            tags,
            keep,
            batch_rows: batch_rows.max(1),
            next_row: 0,
            next_run: 0,
        })
    }

    /// The next batch; `None` after the last one. Batches may be empty.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let start = self.next_row;
        let len = self.batch_rows.min(self.rows.len() - start);
        if len == 0 {
            return Ok(None);
        }
        self.next_row += len;
        let runs = if self.tags.iter().any(Option::is_some) {
            self.run_of_each_row(start, len)
        } else {
            UInt32Array::from(Vec::<u32>::new())
        };
        let internal = |error: ArrowError| {
            SqlError::Internal(format!("rows do not fit the table's schema: {error}"))
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.layout.slots.len());
        for (slot, tag) in self.layout.slots.iter().zip(&self.tags) {
            columns.push(match (slot, tag) {
                (_, Some(values)) => take(values, &runs, None).map_err(internal)?,
                (Slot::Field(at), None) => match self.rows.columns.get(*at) {
                    Some(FieldArray::Dense(column)) => {
                        copied(column, start, len).map_err(internal)?
                    }
                    Some(sparse) => sparse.slice(start, len).to_array(),
                    None => return Err(SqlError::Internal(format!("field {at} was not read"))),
                },
                (_, None) => {
                    let time = ScalarBuffer::from(self.rows.time[start..start + len].to_vec());
                    match self.layout.time_unit {
                        TimeUnit::Millisecond => {
                            Arc::new(TimestampMillisecondArray::new(time, None))
                        }
                        TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::new(time, None)),
                    }
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let batch =
            RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)
                .map_err(internal)?;
        match &self.keep {
            Some(keep) => filter_record_batch(&batch, &keep.slice(start, len))
                .map_err(internal)
                .map(Some),
            None => Ok(Some(batch)),
        }
    }

    /// The number of its run for each row of a batch.
    fn run_of_each_row(&mut self, start: usize, len: usize) -> UInt32Array {
        let end = start + len;
        let mut runs: Vec<u32> = Vec::with_capacity(len);
        while let Some(run) = self.rows.runs.get(self.next_run) {
            let rows = run
                .rows()
                .end
                .min(end)
                .saturating_sub(run.rows().start.max(start));
            runs.resize(runs.len() + rows, self.next_run as u32);
            if run.rows().end > end {
                break;
            }
            self.next_run += 1;
        }
        UInt32Array::from(runs)
    }
}

/// Rows of a column as an array of their own. A slice would do, but operators that hold batches
/// back count the memory of a slice as that of the whole column, and a query would be refused for a
/// multiple of what it uses.
fn copied(column: &ArrayRef, start: usize, len: usize) -> Result<ArrayRef, ArrowError> {
    let data = column.to_data();
    let mut rows = MutableArrayData::new(vec![&data], false, len);
    rows.try_extend(0, start, start + len)?;
    Ok(make_array(rows.freeze()))
}

/// Runs must cover the rows in order, and columns be as long as them: everything else relies on it.
fn check(rows: &SortedRows) -> Result<(), SqlError> {
    let mut end = 0;
    let in_order = rows.runs.iter().all(|run| {
        let fits = run.rows().start == end && run.rows().end >= end;
        end = run.rows().end;
        fits
    });
    let len = rows.len();
    if !in_order
        || end != len
        || u32::try_from(rows.runs.len()).is_err()
        || rows.columns.iter().any(|column| column.len() != len)
    {
        return Err(SqlError::Internal(
            "a scan returned rows that its series do not cover".to_owned(),
        ));
    }
    Ok(())
}

/// Which rows are samples; `None` if all are.
fn samples(rows: &SortedRows) -> Result<Option<BooleanArray>, SqlError> {
    let values = rows.columns.first().map(FieldArray::to_array);
    let Some(values) = values
        .as_ref()
        .and_then(|column| column.as_primitive_opt::<Float64Type>())
    else {
        return Err(SqlError::Internal(
            "the values of samples were not read".to_owned(),
        ));
    };
    if values.null_count() == 0 && !values.values().iter().any(|value| is_stale(*value)) {
        return Ok(None);
    }
    let keep = BooleanBuffer::collect_bool(values.len(), |row| {
        values.is_valid(row) && !is_stale(values.value(row))
    });
    Ok(Some(BooleanArray::new(keep, None)))
}
