//! Series -> series index file.
//!
//! The rows are Parquet. Behind them, where Parquet readers do not look, lie the postings and the
//! dictionary of the labels, and the root that names these; then comes the Parquet footer.

use std::sync::Arc;

use arrow::array::{ArrayRef, MapBuilder, RecordBatch, StringBuilder, UInt64Array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use hashbrown::HashMap;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use xxhash_rust::xxh3::xxh3_64;

use super::dictionary::{BlockWriter, LabelEntry};
use super::positions::Positions;
use super::root::{CHECKED_BYTES, Root};
use super::{IndexedSeries, PAGE_SERIES};
use crate::model::{METRIC_NAME, TableKind};
use crate::segment::encoding::zstd;
use crate::segment::error::SegmentError;
use crate::segment::writer::time_array;

/// Series of a row group at most.
const ROW_GROUP_SERIES: usize = 1 << 20;
/// Series that are made columns at a time: there may be millions.
const BATCH_SERIES: usize = 32 * 1024;
/// Rows of a page of numbers. Labels have smaller pages, for they are most of the bytes.
const NUMBERS_PAGE_ROWS: usize = 1024;
/// Names of labels are few; a longer dictionary would be read with every page.
const NAMES_DICTIONARY_BYTES: usize = 16 << 10;
/// A page ends after a number of rows, not of bytes.
const PAGE_BYTES: usize = 1 << 30;

/// A file, and what the catalog has to know of it.
pub(in crate::segment) struct EncodedIndex {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Its last bytes, from the root on.
    pub tail_bytes: u64,
    /// xxh3-64 of these.
    pub checksum: u64,
}

fn encode_error(error: impl ToString) -> SegmentError {
    SegmentError::Encode(error.to_string())
}

/// Encodes the index of a segment with these series, in the order of their rows.
pub(in crate::segment) fn encode(
    kind: TableKind,
    series: &[IndexedSeries],
) -> Result<EncodedIndex, SegmentError> {
    let count = u32::try_from(series.len()).map_err(encode_error)?;
    let mut file = RowsWriter::new(kind)?;
    for group in series.chunks(ROW_GROUP_SERIES) {
        file.write_group(kind, group)?;
    }
    let mut file = file.file;
    let base = file.bytes_written() as u64;
    let (lookup, labels) = lookup(series, base)?;
    file.write_all(&lookup).map_err(encode_error)?;
    file.flush().map_err(encode_error)?;
    let checked = file.inner();
    let start = checked.len();
    let root = Root {
        series: count,
        checksums: checked
            .chunks(CHECKED_BYTES as usize)
            .map(xxh3_64)
            .collect(),
        labels,
    };
    let mut encoded = Vec::new();
    root.encode(&mut encoded);
    file.write_all(&encoded).map_err(encode_error)?;
    file.append_key_value_metadata(KeyValue::new("tidelake.root".to_owned(), start.to_string()));
    let bytes = file.into_inner().map_err(encode_error)?;
    let tail = &bytes[start..];
    Ok(EncodedIndex {
        tail_bytes: tail.len() as u64,
        checksum: xxh3_64(tail),
        bytes,
    })
}

/// Writes the rows.
struct RowsWriter {
    schema: SchemaRef,
    file: SerializedFileWriter<Vec<u8>>,
    /// Makes the writers of numbers and names of metrics.
    numbers: ArrowRowGroupWriterFactory,
    /// Makes those of labels.
    labels: ArrowRowGroupWriterFactory,
}

impl RowsWriter {
    fn new(kind: TableKind) -> Result<Self, SegmentError> {
        let schema = batch(kind, &[])?.schema();
        let writer = |page_rows: usize| {
            let properties = properties(page_rows);
            ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?
                .into_serialized_writer()
        };
        let (file, numbers) = writer(NUMBERS_PAGE_ROWS).map_err(encode_error)?;
        let (_, labels) = writer(PAGE_SERIES).map_err(encode_error)?;
        Ok(Self {
            schema,
            file,
            numbers,
            labels,
        })
    }

    fn write_group(
        &mut self,
        kind: TableKind,
        series: &[IndexedSeries],
    ) -> Result<(), SegmentError> {
        let number = self.file.flushed_row_groups().len();
        let mut numbers = self
            .numbers
            .create_column_writers(number)
            .map_err(encode_error)?;
        let mut labels = self
            .labels
            .create_column_writers(number)
            .map_err(encode_error)?;
        for series in series.chunks(BATCH_SERIES) {
            let batch = batch(kind, series)?;
            self.write_batch(&batch, &mut numbers, &mut labels)
                .map_err(encode_error)?;
        }
        let mut group = self.file.next_row_group().map_err(encode_error)?;
        for (leaf, (numbers, labels)) in numbers.into_iter().zip(labels).enumerate() {
            let writer = if is_label(leaf) { labels } else { numbers };
            writer
                .close()
                .and_then(|chunk| chunk.append_to_row_group(&mut group))
                .map_err(encode_error)?;
        }
        group.close().map(|_| ()).map_err(encode_error)
    }

    fn write_batch(
        &self,
        batch: &RecordBatch,
        numbers: &mut [ArrowColumnWriter],
        labels: &mut [ArrowColumnWriter],
    ) -> Result<(), ParquetError> {
        let mut leaf = 0;
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            let is_label = is_label(leaf);
            // A page of labels ends with each of these pieces.
            let rows = if is_label {
                PAGE_SERIES
            } else {
                batch.num_rows()
            };
            let mut leaves = 0;
            for start in (0..batch.num_rows()).step_by(rows.max(1)) {
                let piece = column.slice(start, rows.min(batch.num_rows() - start));
                leaves = 0;
                for values in compute_leaves(field, &piece)? {
                    let writers = if is_label {
                        &mut *labels
                    } else {
                        &mut *numbers
                    };
                    writers[leaf + leaves].write(&values)?;
                    leaves += 1;
                }
            }
            leaf += leaves;
        }
        Ok(())
    }
}

/// Whether a leaf of the schema has names or values of labels.
fn is_label(leaf: usize) -> bool {
    (LABEL_LEAF..LABEL_LEAF + 2).contains(&leaf)
}

/// The first leaf of the labels: behind `series_id` and `metric`.
const LABEL_LEAF: usize = 2;

fn properties(page_rows: usize) -> WriterProperties {
    let path =
        |name: &str| ColumnPath::from(name.split('.').map(str::to_owned).collect::<Vec<_>>());
    let mut properties = WriterProperties::builder()
        .set_created_by("tidelake".to_owned())
        .set_compression(zstd(3))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_SERIES))
        .set_data_page_row_count_limit(page_rows)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            "tidelake.format".to_owned(),
            "2".to_owned(),
        )]));
    if page_rows == PAGE_SERIES {
        // What is given to a writer at once must not be cut.
        properties = properties.set_write_batch_size(PAGE_BYTES);
    }
    for name in ["first_row", "rows", "min_time", "max_time"] {
        properties = properties.set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
    }
    properties
        .set_dictionary_page_size_limit(NAMES_DICTIONARY_BYTES)
        .set_column_dictionary_enabled(path("labels.entries.keys"), true)
        .build()
}

/// Some of the series as rows of the index.
pub(super) fn batch(kind: TableKind, rows: &[IndexedSeries]) -> Result<RecordBatch, SegmentError> {
    let mut labels = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    let mut metric = StringBuilder::new();
    for row in rows {
        // The name of a metric has a column of its own; in a wide table a label of this name is a
        // tag like others.
        let name = if kind.is_by_series_id() {
            row.series.labels.get(METRIC_NAME)
        } else {
            None
        };
        metric.append_option(name);
        for (name, value) in row
            .series
            .labels
            .iter()
            .filter(|(label, _)| name.is_none() || *label != METRIC_NAME)
        {
            labels.keys().append_value(name);
            labels.values().append_value(value);
        }
        labels.append(true).map_err(encode_error)?;
    }
    let column = |value: fn(&IndexedSeries) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(value)))
    };
    let labels: ArrayRef = Arc::new(labels.finish());
    let metric: ArrayRef = Arc::new(metric.finish());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("series_id", column(|row| row.series.id)),
        ("metric", metric),
        ("labels", labels),
        ("first_row", column(|row| row.first_row)),
        ("rows", column(|row| row.rows)),
        (
            "min_time",
            time_array(kind, rows.iter().map(|row| row.time.min).collect()),
        ),
        (
            "max_time",
            time_array(kind, rows.iter().map(|row| row.time.max).collect()),
        ),
    ];
    let field = |(name, array): &(&str, ArrayRef)| {
        Field::new(*name, array.data_type().clone(), *name == "metric")
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|c| c.1).collect())
        .map_err(encode_error)
}

/// The series that have each value of each label, by name and value.
pub(super) fn postings(series: &[IndexedSeries]) -> Vec<(&str, &str, Positions)> {
    let mut all: Vec<(&str, &str, Positions)> = Vec::new();
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    // Neighbours have most labels in common, in the same places: these are not looked up.
    let mut last: Vec<usize> = Vec::new();
    for (at, one) in series.iter().enumerate() {
        let at = at as u32;
        let mut labels = 0;
        for (place, (name, value)) in one.series.labels.iter().enumerate() {
            labels = place + 1;
            let same = last
                .get(place)
                .copied()
                .filter(|entry| (all[*entry].0, all[*entry].1) == (name, value));
            let entry = same.unwrap_or_else(|| {
                *known.entry((name, value)).or_insert_with(|| {
                    all.push((name, value, Positions::default()));
                    all.len() - 1
                })
            });
            all[entry].2.push(at..at + 1);
            match last.get_mut(place) {
                Some(last) => *last = entry,
                None => last.push(entry),
            }
        }
        last.truncate(labels);
    }
    all.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    all
}

/// Postings and dictionary, which begin at byte `base` of the file, and the labels of the root.
fn lookup(series: &[IndexedSeries], base: u64) -> Result<(Vec<u8>, Vec<LabelEntry>), SegmentError> {
    let postings = postings(series);
    let mut part = Vec::new();
    let mut labels: Vec<LabelEntry> = Vec::new();
    for of_label in postings.chunk_by(|a, b| a.0 == b.0) {
        let Some((name, ..)) = of_label.first() else {
            continue;
        };
        let begin = base + part.len() as u64;
        let lengths: Vec<u64> = of_label
            .iter()
            .map(|(_, _, positions)| {
                let before = part.len();
                positions.encode(&mut part);
                (part.len() - before) as u64
            })
            .collect();
        let presence = base + part.len() as u64;
        Positions::union(of_label.iter().map(|(_, _, positions)| positions)).encode(&mut part);
        let presence = presence..base + part.len() as u64;
        let mut blocks = BlockWriter::new(&mut part, base, begin);
        for ((_, value, _), length) in of_label.iter().zip(lengths) {
            blocks.push(value, length).map_err(encode_error)?;
        }
        labels.push(LabelEntry {
            name: (*name).to_owned(),
            values: of_label.len() as u64,
            presence,
            blocks: blocks.finish().map_err(encode_error)?,
        });
    }
    Ok((part, labels))
}
