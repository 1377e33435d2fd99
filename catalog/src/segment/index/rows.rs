//! Rows of a series index file -> series.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, MapArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::ColumnChunkMetaData;

use super::IndexedSeries;
use super::cache::Interned;
use super::file::IndexBytes;
use crate::model::{Labels, METRIC_NAME, TimeRange};
use crate::segment::series::Series;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 16 << 10;

/// All series of a file, in its order.
pub(super) fn parse(bytes: Bytes) -> Result<Vec<IndexedSeries>, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
        .map_err(|error| error.to_string())?;
    let mut series = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        let make = |id, pairs: Pairs<'_>| {
            let labels = labels(pairs);
            Arc::new(Series { id, labels })
        };
        Columns::of(&batch)?.series(make, &mut series);
    }
    Ok(series)
}

/// Where in the file lies what the rows of some ranges need. The ranges ascend.
pub(super) fn byte_ranges(
    metadata: &ArrowReaderMetadata,
    rows: &[Range<u64>],
) -> Result<Vec<Range<u64>>, String> {
    let file = metadata.metadata();
    let mut ranges = Vec::new();
    let mut first_row = 0;
    for (number, group) in file.row_groups().iter().enumerate() {
        let group_rows = first_row..first_row + group.num_rows().max(0) as u64;
        first_row = group_rows.end;
        let within: Vec<Range<u64>> = rows
            .iter()
            .map(|range| range.start.max(group_rows.start)..range.end.min(group_rows.end))
            .filter(|range| range.start < range.end)
            .map(|range| range.start - group_rows.start..range.end - group_rows.start)
            .collect();
        if within.is_empty() {
            continue;
        }
        for (column, chunk) in group.columns().iter().enumerate() {
            let pages = file
                .offset_index()
                .and_then(|index| index.get(number)?.get(column))
                .ok_or("it has no offset index")?
                .page_locations();
            ranges.extend(dictionary(chunk, pages.first().map(|page| page.offset)));
            let mut wanted = within.as_slice();
            for (at, page) in pages.iter().enumerate() {
                let start = page.first_row_index.max(0) as u64;
                let end = pages
                    .get(at + 1)
                    .map_or(u64::MAX, |next| next.first_row_index.max(0) as u64);
                wanted = &wanted[wanted.partition_point(|range| range.end <= start)..];
                if wanted.first().is_some_and(|range| range.start < end) {
                    let offset = page.offset.max(0) as u64;
                    ranges.push(offset..offset + page.compressed_page_size.max(0) as u64);
                }
            }
        }
    }
    Ok(ranges)
}

/// Where the dictionary of a column lies, if it has one.
fn dictionary(chunk: &ColumnChunkMetaData, first_page: Option<i64>) -> Option<Range<u64>> {
    let start = chunk.dictionary_page_offset()?;
    Some(start.max(0) as u64..first_page?.max(start).max(0) as u64)
}

/// Decodes the rows of some ranges, which ascend.
pub(super) fn decode(
    metadata: &ArrowReaderMetadata,
    bytes: &IndexBytes,
    rows: &[Range<u64>],
    interned: &Interned,
) -> Result<Vec<IndexedSeries>, String> {
    let mut selectors = Vec::with_capacity(rows.len() * 2);
    let (mut at, mut count) = (0, 0);
    for range in rows {
        selectors.push(RowSelector::skip((range.start - at) as usize));
        selectors.push(RowSelector::select((range.end - range.start) as usize));
        at = range.end;
        count += (range.end - range.start) as usize;
    }
    let reader =
        ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
            .with_row_selection(RowSelection::from(selectors))
            .with_batch_size(BATCH_ROWS.min(count))
            .build()
            .map_err(|error| error.to_string())?;
    let mut series = Vec::with_capacity(count);
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        let columns = Columns::of(&batch)?;
        let mut interning = interned.lock();
        columns.series(|id, pairs| interning.series(id, pairs), &mut series);
    }
    if series.len() != count {
        return Err(format!("{count} series expected, {} found", series.len()));
    }
    Ok(series)
}

/// The columns of a batch.
struct Columns {
    ids: PrimitiveArray<UInt64Type>,
    metrics: StringArray,
    labels: MapArray,
    names: StringArray,
    values: StringArray,
    first_rows: PrimitiveArray<UInt64Type>,
    rows: PrimitiveArray<UInt64Type>,
    min_times: PrimitiveArray<Int64Type>,
    max_times: PrimitiveArray<Int64Type>,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, String> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| format!("column {name} is missing"))
        };
        let numbers = |name: &str| {
            column(name)?
                .as_primitive_opt::<UInt64Type>()
                .cloned()
                .ok_or_else(|| format!("column {name} is not of 64-bit integers"))
        };
        let times = |name: &str| {
            arrow::compute::cast(column(name)?, &DataType::Int64)
                .map_err(|error| error.to_string())?
                .as_primitive_opt::<Int64Type>()
                .cloned()
                .ok_or_else(|| format!("column {name} is not of times"))
        };
        let texts = |array: &arrow::array::ArrayRef| {
            array
                .as_string_opt::<i32>()
                .cloned()
                .ok_or_else(|| "labels are not strings".to_owned())
        };
        let labels = column("labels")?
            .as_map_opt()
            .ok_or("column labels is not a map")?
            .clone();
        Ok(Self {
            ids: numbers("series_id")?,
            metrics: texts(column("metric")?)?,
            names: texts(labels.keys())?,
            values: texts(labels.values())?,
            labels,
            first_rows: numbers("first_row")?,
            rows: numbers("rows")?,
            min_times: times("min_time")?,
            max_times: times("max_time")?,
        })
    }

    /// Appends the series; `make` makes one of its id and labels.
    fn series(
        &self,
        mut make: impl FnMut(u64, Pairs<'_>) -> Arc<Series>,
        to: &mut Vec<IndexedSeries>,
    ) {
        to.reserve(self.ids.len());
        for row in 0..self.ids.len() {
            to.push(IndexedSeries {
                series: make(self.ids.value(row), self.pairs(row)),
                first_row: self.first_rows.value(row),
                rows: self.rows.value(row),
                time: TimeRange::new(self.min_times.value(row), self.max_times.value(row)),
            });
        }
    }

    fn pairs(&self, row: usize) -> Pairs<'_> {
        let offsets = self.labels.value_offsets();
        Pairs {
            metric: self.metrics.is_valid(row).then(|| self.metrics.value(row)),
            names: &self.names,
            values: &self.values,
            labels: offsets[row] as usize..offsets[row + 1] as usize,
        }
    }
}

/// Names and values of the labels of a row.
#[derive(Clone)]
pub(in crate::segment) struct Pairs<'a> {
    metric: Option<&'a str>,
    names: &'a StringArray,
    values: &'a StringArray,
    labels: Range<usize>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(metric) = self.metric.take() {
            return Some((METRIC_NAME, metric));
        }
        let at = self.labels.next()?;
        Some((self.names.value(at), self.values.value(at)))
    }
}

/// A label set. Labels as files hold them are sorted; another writer's need not be.
pub(super) fn labels(pairs: Pairs<'_>) -> Labels {
    let sorted = pairs.clone().is_sorted_by(|a, b| a.0 < b.0)
        && pairs.clone().all(|(n, v)| !n.is_empty() && !v.is_empty());
    if sorted {
        Labels::from_sorted(pairs)
    } else {
        Labels::from_pairs(pairs)
    }
}
