//! An answer as a table: a row for each value of each series, in batches made when they are asked
//! for.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, StringViewArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use tidelake_catalog::model::histogram::{self, HistogramArrayBuilder};
use tidelake_catalog::model::schema::TIME_COLUMN;
use tidelake_catalog::model::{Histogram, Labels};

use super::PROMQL_FUNCTION;
use super::args::Call;
use crate::memory::{MemoryExceeded, QueryBytes};
use crate::promql::exec::{Value, is_absent};
use crate::promql::plan::labels::LabelNames;
use crate::sql::error::SqlError;
use crate::sql::view::VALUE_COLUMN;

const HISTOGRAM_COLUMN: &str = "histogram";

/// The values of one series.
#[derive(Debug)]
enum Points {
    /// One place for each step; it may be empty.
    Steps(Vec<f64>, Option<Vec<Option<Arc<Histogram>>>>),
    /// Samples with times of their own.
    Samples(Vec<(i64, Sample)>),
}

#[derive(Debug, Clone)]
enum Sample {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Points {
    fn places(&self) -> usize {
        match self {
            Points::Steps(values, _) => values.len(),
            Points::Samples(samples) => samples.len(),
        }
    }

    /// What is at a place, if anything.
    fn get(&self, call: &Call, place: usize) -> Option<(i64, Sample)> {
        match self {
            Points::Samples(samples) => samples.get(place).cloned(),
            Points::Steps(values, histograms) => {
                let time = call
                    .start_ms
                    .saturating_add(call.step_ms.saturating_mul(place as i64));
                let histogram = histograms.as_ref().and_then(|all| all.get(place)?.clone());
                let sample = match (histogram, values.get(place)) {
                    (Some(histogram), _) => Sample::Histogram(histogram),
                    (None, Some(value)) if !is_absent(*value) => Sample::Float(*value),
                    _ => return None,
                };
                Some((time, sample))
            }
        }
    }

    fn has_histograms(&self) -> bool {
        match self {
            Points::Steps(_, histograms) => histograms
                .as_ref()
                .is_some_and(|all| all.iter().any(Option::is_some)),
            Points::Samples(samples) => samples
                .iter()
                .any(|(_, sample)| matches!(sample, Sample::Histogram(_))),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Points::Samples(samples) => samples.len(),
            Points::Steps(values, histograms) => {
                let floats = values.iter().filter(|value| !is_absent(**value)).count();
                floats
                    + histograms
                        .as_ref()
                        .map_or(0, |all| all.iter().flatten().count())
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Column {
    Time,
    /// The value of the label in each series.
    Label(StringViewArray),
    Value,
    Histogram,
}

/// The answer to a call.
#[derive(Debug)]
pub(super) struct PromqlTable {
    call: Call,
    schema: SchemaRef,
    columns: Vec<Column>,
    series: Vec<Points>,
    rows: usize,
    /// Given back when the answer goes.
    _memory: QueryBytes,
}

/// The columns of an answer whose series have these labels.
pub(super) fn schema(names: &LabelNames, with_histograms: bool) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let mut fields = vec![Field::new(TIME_COLUMN, time, false)];
    let label = |name: &String| Field::new(column_name(name, names), DataType::Utf8View, true);
    fields.extend(names.iter().map(label));
    fields.push(Field::new(VALUE_COLUMN, DataType::Float64, true));
    if with_histograms {
        fields.push(Field::new(HISTOGRAM_COLUMN, histogram::data_type(), true));
    }
    Arc::new(Schema::new(fields))
}

impl PromqlTable {
    /// `certain` are labels that become columns in any case.
    pub fn new(
        call: Call,
        value: Value,
        certain: &LabelNames,
        mut memory: QueryBytes,
    ) -> Result<Self, SqlError> {
        let exhausted = |error: MemoryExceeded| {
            SqlError::ResourcesExhausted(format!("{PROMQL_FUNCTION}(): {error}"))
        };
        // Samples with times of their own are put into one list for each series.
        memory.try_grow(list_bytes(&value)).map_err(exhausted)?;
        let series: Vec<(Labels, Points)> = match value {
            Value::Scalar(values) => vec![(Labels::empty(), Points::Steps(values, None))],
            Value::String(_) => {
                return Err(SqlError::BadRequest(format!(
                    "{PROMQL_FUNCTION}(): the expression is a string, which is no table"
                )));
            }
            Value::Vector(rows) => rows
                .into_iter()
                .map(|row| (row.labels, Points::Steps(row.values, row.histograms)))
                .collect(),
            Value::RangeVector(series) => series
                .into_iter()
                .map(|series| {
                    let floats = series
                        .floats
                        .into_iter()
                        .map(|(time, value)| (time, Sample::Float(value)));
                    let histograms = series
                        .histograms
                        .into_iter()
                        .map(|(time, histogram)| (time, Sample::Histogram(histogram)));
                    let mut samples: Vec<_> = floats.chain(histograms).collect();
                    samples.sort_by_key(|(time, _)| *time);
                    (series.labels, Points::Samples(samples))
                })
                .collect(),
        };
        let mut names = certain.clone();
        for (labels, _) in &series {
            for (name, _) in labels {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        let with_histograms = series.iter().any(|(_, points)| points.has_histograms());
        let mut columns = vec![Column::Time];
        // Each label becomes a column of the series, which may hold copies of its values.
        let values = names.len().saturating_mul(series.len()).saturating_mul(16);
        let texts = series.iter().map(|(labels, _)| labels.as_str().len());
        memory
            .try_grow(values.saturating_add(texts.sum()))
            .map_err(exhausted)?;
        for name in &names {
            let values = series.iter().map(|(labels, _)| labels.get(name));
            columns.push(Column::Label(values.collect()));
        }
        columns.push(Column::Value);
        if with_histograms {
            columns.push(Column::Histogram);
        }
        let series: Vec<Points> = series.into_iter().map(|(_, points)| points).collect();
        if u32::try_from(series.len()).is_err() {
            return Err(SqlError::ResourcesExhausted(format!(
                "{PROMQL_FUNCTION}(): the answer has {} series",
                series.len()
            )));
        }
        let rows = series.iter().map(Points::rows).sum();
        Ok(Self {
            call,
            schema: schema(&names, with_histograms),
            columns,
            series,
            rows,
            _memory: memory,
        })
    }

    /// The call.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many series it has.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Bytes of the series and lists that a table makes of an answer, beside what is taken over.
fn list_bytes(value: &Value) -> usize {
    let series = size_of::<(Labels, Points)>() + size_of::<Points>();
    match value {
        Value::Scalar(_) | Value::String(_) => series,
        Value::Vector(rows) => rows.len().saturating_mul(series),
        Value::RangeVector(list) => list.iter().fold(0, |bytes: usize, one| {
            let samples = one.floats.len() + one.histograms.len();
            bytes.saturating_add(series + 2 * samples * size_of::<(i64, Sample)>())
        }),
    }
}

/// A label that is called like one of the other columns gets a prefix, as in the tables of metrics.
fn column_name(label: &str, labels: &LabelNames) -> String {
    let mut column = label.to_owned();
    if [TIME_COLUMN, VALUE_COLUMN, HISTOGRAM_COLUMN].contains(&label) {
        column = format!("label_{column}");
        while labels.contains(&column) {
            column = format!("label_{column}");
        }
    }
    column
}

impl PromqlTable {
    /// Rows from a place on, at most so many; `None` after the last.
    pub fn batch(
        &self,
        at: &mut (usize, usize),
        most: usize,
        wanted: &[usize],
        schema: &SchemaRef,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let (mut runs, mut times) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut values = Float64Builder::with_capacity(most);
        let mut histograms = HistogramArrayBuilder::new();
        let with_histograms = wanted
            .iter()
            .any(|column| matches!(self.columns.get(*column), Some(Column::Histogram)));
        while let Some(points) = self.series.get(at.0)
            && runs.len() < most
        {
            if at.1 >= points.places() {
                *at = (at.0 + 1, 0);
                continue;
            }
            if let Some((time, sample)) = points.get(&self.call, at.1) {
                runs.push(at.0 as u32);
                times.push(time);
                match &sample {
                    Sample::Float(value) => values.append_value(*value),
                    Sample::Histogram(_) => values.append_null(),
                }
                if with_histograms {
                    match &sample {
                        Sample::Float(_) => histograms.append_null(),
                        Sample::Histogram(histogram) => histograms.append(histogram),
                    }
                }
            }
            at.1 += 1;
        }
        if runs.is_empty() {
            return Ok(None);
        }
        let rows = runs.len();
        let runs = UInt32Array::from(runs);
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(times));
        let values: ArrayRef = Arc::new(values.finish());
        let histograms: Option<ArrayRef> = if with_histograms {
            Some(Arc::new(histograms.finish()))
        } else {
            None
        };
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(wanted.len());
        for column in wanted.iter().filter_map(|column| self.columns.get(*column)) {
            arrays.push(match column {
                Column::Time => Arc::clone(&times),
                Column::Label(labels) => take(labels, &runs, None)?,
                Column::Value => Arc::clone(&values),
                Column::Histogram => match &histograms {
                    Some(histograms) => Arc::clone(histograms),
                    None => continue,
                },
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map(Some)
    }
}
