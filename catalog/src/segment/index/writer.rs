//! Series -> series index file.
//!
//! The rows are Parquet. Behind them, where Parquet readers do not look, lie the postings and the
//! dictionary of the labels, and the root that names these; then comes the Parquet footer.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{ArrayRef, MapBuilder, RecordBatch, StringBuilder, UInt64Array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use hashbrown::{DefaultHashBuilder, HashTable};
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
const BATCH_SERIES: usize = 32 << 10;
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

/// Encodes the index of a segment, a batch of series at a time: of the series themselves it keeps
/// no more than that.
pub(in crate::segment) struct IndexWriter {
    kind: TableKind,
    /// Those that are not encoded yet.
    batch: Vec<IndexedSeries>,
    /// All that came.
    series: u64,
    rows: RowsWriter,
    postings: Postings,
}

impl IndexWriter {
    pub fn new(kind: TableKind) -> Result<Self, SegmentError> {
        Ok(Self {
            kind,
            batch: Vec::new(),
            series: 0,
            rows: RowsWriter::new(kind)?,
            postings: Postings::default(),
        })
    }

    /// Number of series.
    pub fn series(&self) -> u64 {
        self.series
    }

    /// The series that came last, which may get more rows.
    pub fn last_mut(&mut self) -> Option<&mut IndexedSeries> {
        self.batch.last_mut()
    }

    /// Appends a series, whose rows come after all others.
    pub fn push(&mut self, series: IndexedSeries) -> Result<(), SegmentError> {
        // The last one may still change, so it waits for the next.
        if self.batch.len() == BATCH_SERIES {
            self.end_batch()?;
        }
        self.series += 1;
        self.batch.push(series);
        Ok(())
    }

    fn end_batch(&mut self) -> Result<(), SegmentError> {
        let series = std::mem::take(&mut self.batch);
        self.postings.extend(&series);
        self.rows.write(self.kind, &series)
    }

    /// The whole file.
    pub fn finish(mut self) -> Result<EncodedIndex, SegmentError> {
        if !self.batch.is_empty() {
            self.end_batch()?;
        }
        let count = u32::try_from(self.series).map_err(encode_error)?;
        let mut file = self.rows.finish()?;
        let base = file.bytes_written() as u64;
        let (lookup, labels) = lookup(&self.postings.sorted(), base)?;
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
        file.append_key_value_metadata(KeyValue::new(
            "tidelake.root".to_owned(),
            start.to_string(),
        ));
        let bytes = file.into_inner().map_err(encode_error)?;
        let tail = &bytes[start..];
        Ok(EncodedIndex {
            tail_bytes: tail.len() as u64,
            checksum: xxh3_64(tail),
            bytes,
        })
    }
}

/// Writes the rows.
struct RowsWriter {
    schema: SchemaRef,
    file: SerializedFileWriter<Vec<u8>>,
    /// Makes the writers of numbers and names of metrics.
    numbers: ArrowRowGroupWriterFactory,
    /// Makes those of labels.
    labels: ArrowRowGroupWriterFactory,
    group: Option<Group>,
}

/// A row group that is being written.
struct Group {
    numbers: Vec<ArrowColumnWriter>,
    labels: Vec<ArrowColumnWriter>,
    series: usize,
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
            group: None,
        })
    }

    fn write(&mut self, kind: TableKind, series: &[IndexedSeries]) -> Result<(), SegmentError> {
        let mut group = match self.group.take() {
            Some(group) => group,
            None => {
                let number = self.file.flushed_row_groups().len();
                let writers = |factory: &ArrowRowGroupWriterFactory| {
                    factory.create_column_writers(number).map_err(encode_error)
                };
                Group {
                    numbers: writers(&self.numbers)?,
                    labels: writers(&self.labels)?,
                    series: 0,
                }
            }
        };
        let batch = batch(kind, series)?;
        group.write(&self.schema, &batch).map_err(encode_error)?;
        group.series += series.len();
        let is_full = group.series >= ROW_GROUP_SERIES;
        self.group = Some(group);
        if is_full { self.end_group() } else { Ok(()) }
    }

    fn end_group(&mut self) -> Result<(), SegmentError> {
        let Some(Group {
            numbers, labels, ..
        }) = self.group.take()
        else {
            return Ok(());
        };
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

    /// The file, without its footer.
    fn finish(mut self) -> Result<SerializedFileWriter<Vec<u8>>, SegmentError> {
        self.end_group()?;
        Ok(self.file)
    }
}

impl Group {
    fn write(&mut self, schema: &Schema, batch: &RecordBatch) -> Result<(), ParquetError> {
        let mut leaf = 0;
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
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
                        &mut self.labels
                    } else {
                        &mut self.numbers
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

/// The series that have each value of each label.
#[derive(Default)]
pub(super) struct Postings {
    all: Vec<Posting>,
    /// Where in `all` that of a value is, by the hash of name and value.
    known: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Those of the labels of the last series. Neighbours have most labels in common, in the same
    /// places: these are not looked up.
    last: Vec<u32>,
    series: u32,
}

/// The series that have a value of a label.
pub(super) struct Posting {
    pub name: Box<str>,
    pub value: Box<str>,
    pub positions: Positions,
}

impl Posting {
    fn is_of(&self, name: &str, value: &str) -> bool {
        *self.value == *value && *self.name == *name
    }
}

impl Postings {
    pub fn of(series: &[IndexedSeries]) -> Self {
        let mut postings = Self::default();
        postings.extend(series);
        postings
    }

    /// Adds the series that come next.
    fn extend(&mut self, series: &[IndexedSeries]) {
        for one in series {
            let mut labels = 0;
            for (place, (name, value)) in one.series.labels.iter().enumerate() {
                labels = place + 1;
                let same = self.last.get(place).copied();
                let at = same
                    .filter(|at| self.all[*at as usize].is_of(name, value))
                    .unwrap_or_else(|| self.place(name, value));
                let positions = &mut self.all[at as usize].positions;
                positions.push(self.series..self.series + 1);
                match self.last.get_mut(place) {
                    Some(last) => *last = at,
                    None => self.last.push(at),
                }
            }
            self.last.truncate(labels);
            self.series += 1;
        }
    }

    /// Where the posting of a value is, which is added if need be.
    fn place(&mut self, name: &str, value: &str) -> u32 {
        let (all, hasher) = (&self.all, &self.hasher);
        let hash = hasher.hash_one((name, value));
        if let Some(&at) = self
            .known
            .find(hash, |&at| all[at as usize].is_of(name, value))
        {
            return at;
        }
        let at = all.len() as u32;
        self.known.insert_unique(hash, at, |&at| {
            let posting = &all[at as usize];
            hasher.hash_one((&*posting.name, &*posting.value))
        });
        self.all.push(Posting {
            name: name.into(),
            value: value.into(),
            positions: Positions::default(),
        });
        at
    }

    /// All, by name and value.
    pub fn sorted(self) -> Vec<Posting> {
        let mut all = self.all;
        all.sort_unstable_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
        all
    }
}

/// Postings and dictionary, which begin at byte `base` of the file, and the labels of the root.
fn lookup(postings: &[Posting], base: u64) -> Result<(Vec<u8>, Vec<LabelEntry>), SegmentError> {
    let mut part = Vec::new();
    let mut labels: Vec<LabelEntry> = Vec::new();
    for of_label in postings.chunk_by(|a, b| a.name == b.name) {
        let Some(first) = of_label.first() else {
            continue;
        };
        let begin = base + part.len() as u64;
        let lengths: Vec<u64> = of_label
            .iter()
            .map(|posting| {
                let before = part.len();
                posting.positions.encode(&mut part);
                (part.len() - before) as u64
            })
            .collect();
        let presence = base + part.len() as u64;
        Positions::union(of_label.iter().map(|posting| &posting.positions)).encode(&mut part);
        let presence = presence..base + part.len() as u64;
        let mut blocks = BlockWriter::new(&mut part, base, begin);
        for (posting, length) in of_label.iter().zip(lengths) {
            blocks.push(&posting.value, length).map_err(encode_error)?;
        }
        labels.push(LabelEntry {
            name: first.name.to_string(),
            values: of_label.len() as u64,
            presence,
            blocks: blocks.finish().map_err(encode_error)?,
        });
    }
    Ok((part, labels))
}
