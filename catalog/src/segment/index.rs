//! The series index of a segment: which series it holds, and in which rows.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::error::SegmentError;
use super::series::Series;
use crate::model::{Labels, METRIC_NAME, Matcher, TimeRange};

/// A series in a segment.
#[derive(Debug, Clone)]
pub struct IndexedSeries {
    /// The series.
    pub series: Arc<Series>,
    /// Its first row in the data file.
    pub first_row: u64,
    /// How many rows it has.
    pub rows: u64,
    /// First and last time.
    pub time: TimeRange,
}

/// The parsed index of a segment, in file order.
#[derive(Debug)]
pub struct SeriesIndex {
    series: Vec<IndexedSeries>,
    /// Metric names with the position of their first series; ascending, because files are sorted
    /// by metric first. Empty for wide tables.
    metrics: Vec<(Arc<str>, usize)>,
}

impl SeriesIndex {
    /// Parses an index file. `object` is named in errors.
    pub fn parse(object: &str, bytes: Bytes) -> Result<Self, SegmentError> {
        let corrupt = |message: String| SegmentError::corrupt(object, message);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.with_batch_size(64 * 1024).build())
            .map_err(|error| corrupt(error.to_string()))?;
        let mut series = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|error| corrupt(error.to_string()))?;
            let column = |name: &str| {
                batch
                    .column_by_name(name)
                    .ok_or_else(|| corrupt(format!("column {name} is missing")))
            };
            let numbers = |name: &str| {
                column(name)?
                    .as_primitive_opt::<UInt64Type>()
                    .ok_or_else(|| corrupt(format!("column {name} is not of 64-bit integers")))
            };
            let times = |name: &str| {
                let array = arrow::compute::cast(column(name)?, &arrow::datatypes::DataType::Int64)
                    .map_err(|e| corrupt(e.to_string()))?;
                array
                    .as_primitive_opt::<Int64Type>()
                    .cloned()
                    .ok_or_else(|| corrupt(format!("column {name} is not of times")))
            };
            let (ids, first, rows) = (
                numbers("series_id")?,
                numbers("first_row")?,
                numbers("rows")?,
            );
            let (min, max) = (times("min_time")?, times("max_time")?);
            let maps = column("labels")?
                .as_map_opt()
                .ok_or_else(|| corrupt("column labels is not a map".to_owned()))?;
            let texts = |array: &arrow::array::ArrayRef| {
                array
                    .as_string_opt::<i32>()
                    .cloned()
                    .ok_or_else(|| corrupt("labels are not strings".to_owned()))
            };
            let (names, values) = (texts(maps.keys())?, texts(maps.values())?);
            let metrics = texts(column("metric")?)?;
            series.reserve(batch.num_rows());
            for row in 0..batch.num_rows() {
                let (start, end) = (
                    maps.value_offsets()[row] as usize,
                    maps.value_offsets()[row + 1] as usize,
                );
                let metric = metrics
                    .is_valid(row)
                    .then(|| (METRIC_NAME, metrics.value(row)));
                let pairs = metric
                    .into_iter()
                    .chain((start..end).map(|i| (names.value(i), values.value(i))));
                series.push(IndexedSeries {
                    series: Arc::new(Series {
                        id: ids.value(row),
                        labels: sorted_labels(pairs),
                    }),
                    first_row: first.value(row),
                    rows: rows.value(row),
                    time: TimeRange::new(min.value(row), max.value(row)),
                });
            }
        }
        Ok(Self::new(series))
    }

    fn new(series: Vec<IndexedSeries>) -> Self {
        let mut metrics: Vec<(Arc<str>, usize)> = Vec::new();
        for (at, one) in series.iter().enumerate() {
            if let Some(name) = one.series.labels.get(METRIC_NAME)
                && metrics.last().is_none_or(|(last, _)| &**last != name)
            {
                metrics.push((name.into(), at));
            }
        }
        Self { series, metrics }
    }

    /// All series, in file order.
    pub fn series(&self) -> &[IndexedSeries] {
        &self.series
    }

    /// Metric names, ascending.
    pub fn metric_names(&self) -> impl Iterator<Item = &str> {
        self.metrics.iter().map(|(name, _)| &**name)
    }

    /// The series that pass all matchers and have rows whose times may lie in the range.
    pub fn select<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = &'a IndexedSeries> {
        let (by_name, others): (Vec<&Matcher>, Vec<&Matcher>) = matchers
            .iter()
            .partition(|m| m.name == METRIC_NAME && !self.metrics.is_empty());
        let spans: Vec<std::ops::Range<usize>> = if by_name.is_empty() {
            std::iter::once(0..self.series.len()).collect()
        } else {
            self.metric_spans(&by_name)
        };
        spans
            .into_iter()
            .flat_map(|span| &self.series[span])
            .filter(move |s| {
                s.time.overlaps(&range) && others.iter().all(|m| m.matches_labels(&s.series.labels))
            })
    }

    /// Where the series of the metrics lie whose names pass.
    fn metric_spans(&self, by_name: &[&Matcher]) -> Vec<std::ops::Range<usize>> {
        let span = |at: usize| {
            let start = self.metrics[at].1;
            start
                ..self
                    .metrics
                    .get(at + 1)
                    .map_or(self.series.len(), |next| next.1)
        };
        let equal = by_name
            .iter()
            .find(|m| m.op == crate::model::MatchOp::Equal);
        let candidates = match equal {
            Some(matcher) => {
                let at = self
                    .metrics
                    .partition_point(|(name, _)| **name < *matcher.value);
                at..(at + 1).min(self.metrics.len())
            }
            None => 0..self.metrics.len(),
        };
        candidates
            .filter(|&at| by_name.iter().all(|m| m.matches(&self.metrics[at].0)))
            .map(span)
            .collect()
    }

    /// Approximate bytes in memory, for caches.
    pub fn memory_size(&self) -> usize {
        self.series
            .iter()
            .map(|s| {
                size_of::<IndexedSeries>()
                    + size_of::<Series>()
                    + 32
                    + s.series.labels.as_str().len()
            })
            .sum()
    }
}

/// Labels as files hold them are sorted; another writer's need not be.
fn sorted_labels<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Labels {
    let sorted = pairs.clone().is_sorted_by(|a, b| a.0 < b.0)
        && pairs.clone().all(|(n, v)| !n.is_empty() && !v.is_empty());
    if sorted {
        Labels::from_sorted(pairs)
    } else {
        Labels::from_pairs(pairs)
    }
}
