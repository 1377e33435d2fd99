//! An open segment: its series index and the footer of its data file; reads exact row ranges.
//!
//! A data file that is damaged or missing does not prevent opening: whoever only needs series reads
//! the index, and whoever reads rows is told which object is damaged. What Parquet does not notice
//! by itself is found by [`check_object`] only.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{TimestampMillisecondType, TimestampNanosecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use hashbrown::{HashMap, HashSet};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector,
};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use xxhash_rust::xxh3::Xxh3;

use super::decimal::{Decimals, MANTISSA, SCALE, VALUE};
use super::disk_cache::{DiskCache, SegmentFile};
use super::error::SegmentError;
use super::field_array::FieldArray;
use super::index::SeriesIndex;
use super::meter::ReadMeter;
use super::object_reader::ObjectReader;
use super::page_reader::{PageCache, PageReads};
use super::read_cache::ReadCache;
use crate::model::{Column, TIME_COLUMN, TableKind, TimeRange, TimeUnit};

/// Where a segment lies and what it must be.
#[derive(Debug, Clone)]
pub struct SegmentLocation {
    /// Key of the data file.
    pub data: Path,
    /// Key of the series index.
    pub index: Path,
    /// Names the segment in caches.
    pub id: u128,
    /// Size of the data file.
    pub data_bytes: u64,
    /// Size of the series index.
    pub index_bytes: u64,
    /// Its last bytes, from its root on; 0 in the first format, which has none.
    pub index_tail_bytes: u64,
    /// xxh3 of the last bytes; in the first format of all.
    pub index_checksum: u64,
    /// First and last time of its rows.
    pub time: TimeRange,
    /// What the table is for.
    pub kind: TableKind,
}

/// An open segment. Cheap to share; holds no file open.
#[derive(Debug)]
pub struct OpenSegment {
    store: Arc<dyn ObjectStore>,
    location: SegmentLocation,
    /// Or what is wrong with the data file.
    footer: Result<ArrowReaderMetadata, SegmentError>,
    index: SeriesIndex,
    /// Where decoded pages stay; a reader that reads everything once has none.
    cache: Option<Arc<ReadCache>>,
}

impl OpenSegment {
    /// Reads the root of the index and the footer of the data file. What is read of the index later
    /// is kept in the cache.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        location: SegmentLocation,
        cache: &Arc<ReadCache>,
        meter: Option<Arc<ReadMeter>>,
    ) -> Result<Self, SegmentError> {
        let index = SeriesIndex::open(&store, &location, cache, meter.as_ref());
        let footer = footer(&store, &location, cache.disk(), meter.clone());
        let (footer, index) = futures::try_join!(footer, index)?;
        Ok(Self {
            store,
            location,
            footer,
            index,
            cache: Some(Arc::clone(cache)),
        })
    }

    /// The same for a reader that goes through everything once: pages of data are not kept.
    pub async fn open_once(
        store: Arc<dyn ObjectStore>,
        location: SegmentLocation,
        cache: &Arc<ReadCache>,
    ) -> Result<Self, SegmentError> {
        let opened = Self::open(store, location, cache, None).await?;
        Ok(Self {
            cache: None,
            ..opened
        })
    }

    /// The same for a reader that needs all series at a time: the index is read and checked whole.
    pub async fn open_whole(
        store: Arc<dyn ObjectStore>,
        location: SegmentLocation,
    ) -> Result<Self, SegmentError> {
        let index = SeriesIndex::load(&store, &location, None);
        let (footer, index) = futures::try_join!(footer(&store, &location, None, None), index)?;
        Ok(Self {
            store,
            location,
            footer,
            index,
            cache: None,
        })
    }

    /// What was found wrong with the data file when it was opened; [`read`](Self::read) fails with
    /// it.
    pub fn damage(&self) -> Option<&SegmentError> {
        self.footer.as_ref().err()
    }

    /// The series in it.
    pub fn index(&self) -> &SeriesIndex {
        &self.index
    }

    /// Whether the data file has a column of that name. Of a damaged file it may have any.
    pub fn has_field(&self, name: &str) -> bool {
        self.footer.as_ref().map_or(true, |footer| {
            footer.schema().column_with_name(name).is_some()
        })
    }

    /// Rows of the data file, if it is not damaged.
    pub fn rows(&self) -> Option<u64> {
        let footer = self.footer.as_ref().ok()?;
        let rows = footer.metadata().file_metadata().num_rows();
        u64::try_from(rows).ok()
    }

    /// What each column takes in the data file, by the name of its field: its bytes, and the rows
    /// that have a value there. A field with parts has several columns.
    pub fn field_sizes(&self) -> Vec<(&str, u64, u64)> {
        let Ok(footer) = &self.footer else {
            return Vec::new();
        };
        let positive = |count: i64| u64::try_from(count).unwrap_or(0);
        let mut sizes = Vec::new();
        for (at, column) in footer.parquet_schema().columns().iter().enumerate() {
            let Some(name) = column.path().parts().first() else {
                continue;
            };
            let (mut bytes, mut values) = (0, 0);
            for group in footer.metadata().row_groups() {
                let column = group.column(at);
                let nulls = column.statistics().and_then(|found| found.null_count_opt());
                bytes += positive(column.compressed_size());
                values += positive(group.num_rows()).saturating_sub(nulls.unwrap_or(0));
            }
            sizes.push((name.as_str(), bytes, values));
        }
        sizes
    }

    /// Where it lies.
    pub fn location(&self) -> &SegmentLocation {
        &self.location
    }

    /// Approximate bytes in memory, for caches.
    pub fn memory_size(&self) -> usize {
        self.index.memory_size()
            + self
                .footer
                .as_ref()
                .map_or(0, |footer| footer.metadata().memory_size())
    }

    /// Reads rows: `ranges` ascend and do not overlap; the result holds them one after the other. A
    /// field that the file does not have is null.
    pub async fn read(
        &self,
        ranges: &[Range<u64>],
        fields: &[Column],
        meter: Option<Arc<ReadMeter>>,
    ) -> Result<(ScalarBuffer<i64>, Vec<FieldArray>), SegmentError> {
        let object = self.location.data.as_ref();
        let corrupt = |message: String| SegmentError::corrupt(object, message);
        let rows: u64 = ranges.iter().map(|r| r.end - r.start).sum();
        let rows = usize::try_from(rows)
            .map_err(|_| corrupt("more rows asked for than memory can hold".to_owned()))?;
        let footer = self.footer.as_ref().map_err(Clone::clone)?;
        let names: HashSet<&str> = fields.iter().map(|field| &*field.name).collect();
        let is_asked_for = |name: &str| names.contains(name);
        let is_split = self.is_decimal(footer) && is_asked_for(VALUE);
        let wanted = |name: &str| {
            name == TIME_COLUMN
                || is_asked_for(name)
                || (is_split && (name == MANTISSA || name == SCALE))
        };
        let decoded = self.read_columns(footer, ranges, wanted, meter);
        let mut decoded = guarded(object, decoded).await?;
        if decoded.rows != rows {
            return Err(corrupt(format!(
                "{rows} rows expected, {} found",
                decoded.rows
            )));
        }
        let time = decoded
            .take(TIME_COLUMN)
            .and_then(|column| times(self.location.kind, &column.to_array()));
        let time = time.ok_or_else(|| corrupt("no time column of the table's unit".to_owned()))?;
        let split = is_split.then(|| [MANTISSA, SCALE].map(|name| decoded.take(name)));
        let (found, mut columns): (Vec<Column>, Vec<FieldArray>) = fields
            .iter()
            .filter_map(|field| Some((field.clone(), decoded.take(&field.name)?)))
            .unzip();
        if let Some([Some(mantissa), Some(scale)]) = split
            && let Some(value) = found.iter().position(|f| &*f.name == VALUE)
        {
            let decimals = Decimals::of(
                &columns[value].to_array(),
                &mantissa.to_array(),
                &scale.to_array(),
            )
            .ok_or_else(|| corrupt("its values are of other types".to_owned()))?;
            columns[value] = FieldArray::Dense(Arc::new(decimals.join().map_err(corrupt)?));
        }
        Ok((time, super::column::project(&found, &columns, fields, rows)))
    }

    /// Reads the columns that pass `is_wanted`: numbers page by page, the others as Parquet's
    /// reader does, both at a time.
    async fn read_columns(
        &self,
        footer: &ArrowReaderMetadata,
        ranges: &[Range<u64>],
        is_wanted: impl Fn(&str) -> bool,
        meter: Option<Arc<ReadMeter>>,
    ) -> Result<Decoded, ParquetError> {
        let cache = self.cache.as_ref().map(|cache| PageCache {
            pages: &cache.pages,
            segment: self.location.id,
        });
        let pages = PageReads::plan(footer, self.location.data_bytes, ranges, &is_wanted, cache)?;
        if let Some(meter) = &meter {
            meter.found_in_memory(pages.cached());
        }
        let disk = self.cache.as_ref().and_then(|cache| cache.disk());
        let file = DataFile::new(&self.store, &self.location, disk, meter);
        let fields = footer.schema().fields().iter().enumerate();
        let others: Vec<usize> = fields
            .filter(|(root, field)| is_wanted(field.name()) && !pages.takes(*root))
            .map(|(root, _)| root)
            .collect();
        let numbers = async {
            let fetched = match pages.fetches() {
                [] => Vec::new(),
                fetches => file.ranges(fetches).await?,
            };
            pages.decode(&fetched, cache)
        };
        if others.is_empty() {
            return Ok(Decoded {
                rows: pages.row_count(),
                columns: numbers.await?.into_iter().collect(),
            });
        }
        let batch_rows = batch_rows(pages.row_count(), others.len());
        let batches = async {
            let mask = ProjectionMask::roots(footer.parquet_schema(), others);
            ParquetRecordBatchStreamBuilder::new_with_metadata(file.clone(), footer.clone())
                .with_projection(mask)
                .with_row_selection(selection(ranges))
                .with_batch_size(batch_rows)
                .build()?
                .map(|batch| batch.map(Decoded::of))
                .try_collect()
                .await
        };
        let (numbers, batches): (_, Vec<Decoded>) = futures::try_join!(numbers, batches)?;
        let mut decoded = Decoded::concat(batches)?;
        decoded.columns.extend(numbers);
        Ok(decoded)
    }

    /// Whether values are split into columns of their own.
    fn is_decimal(&self, footer: &ArrowReaderMetadata) -> bool {
        self.location.kind == TableKind::Metrics
            && footer.schema().column_with_name(MANTISSA).is_some()
    }

    /// Names and types of the columns of the data file.
    pub fn columns(&self) -> Result<&arrow::datatypes::SchemaRef, SegmentError> {
        self.footer
            .as_ref()
            .map(ArrowReaderMetadata::schema)
            .map_err(Clone::clone)
    }

    /// All rows with all columns, in batches of at most so many rows; no more than a row group is
    /// in memory.
    pub fn batches(
        &self,
        rows: usize,
    ) -> Result<BoxStream<'static, Result<RecordBatch, SegmentError>>, SegmentError> {
        let footer = self.footer.clone()?;
        let object = self.location.data.to_string();
        let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(
            DataFile::new(&self.store, &self.location, None, None),
            footer,
        )
        .with_batch_size(rows.max(1))
        .build()
        .map_err(|error| read_error(&object, error))?;
        Ok(stream
            .map_err(move |error| read_error(&object, error))
            .boxed())
    }
}

/// Values that are decoded at a time: wide tables come in smaller batches, whose columns become
/// sparse before the next batch is decoded.
const BATCH_VALUES: usize = 4 << 20;
/// Fewer rows than this are not worth a batch.
const MIN_BATCH_ROWS: usize = 1024;

fn batch_rows(rows: usize, fields: usize) -> usize {
    rows.clamp(1, (BATCH_VALUES / fields.max(1)).max(MIN_BATCH_ROWS))
}

/// Decoded rows: columns by name.
struct Decoded {
    rows: usize,
    columns: HashMap<String, FieldArray>,
}

impl Decoded {
    fn of(batch: RecordBatch) -> Self {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        Self {
            rows: batch.num_rows(),
            columns: columns
                .map(|(field, array)| (field.name().clone(), FieldArray::of(Arc::clone(array))))
                .collect(),
        }
    }

    /// Batches of the same columns as one.
    fn concat(mut batches: Vec<Self>) -> Result<Self, ArrowError> {
        if batches.len() <= 1 {
            return Ok(batches.pop().unwrap_or(Self {
                rows: 0,
                columns: HashMap::new(),
            }));
        }
        let names: Vec<String> = batches[0].columns.keys().cloned().collect();
        let mut columns = HashMap::with_capacity(names.len());
        for name in names {
            let parts: Vec<FieldArray> = batches
                .iter_mut()
                .filter_map(|batch| batch.take(&name))
                .collect();
            let parts: Vec<&FieldArray> = parts.iter().collect();
            columns.insert(name, FieldArray::concat(&parts)?);
        }
        Ok(Self {
            rows: batches.iter().map(|batch| batch.rows).sum(),
            columns,
        })
    }

    fn take(&mut self, name: &str) -> Option<FieldArray> {
        self.columns.remove(name)
    }
}

/// Decodes what may be damaged: the decoder is not known to answer any bytes without a panic.
async fn guarded<T>(
    object: &str,
    decode: impl Future<Output = Result<T, ParquetError>>,
) -> Result<T, SegmentError> {
    match AssertUnwindSafe(decode).catch_unwind().await {
        Ok(result) => result.map_err(|error| read_error(object, error)),
        Err(_) => Err(SegmentError::corrupt(
            object,
            "decoding it ended in a panic",
        )),
    }
}

/// Bytes of one request of [`check_object`].
const CHECKED_AT_ONCE: u64 = 8 << 20;

/// Compares an object with what the catalog says of it: its size, and the xxh3-64 of all its bytes.
pub async fn check_object(
    store: &Arc<dyn ObjectStore>,
    key: &Path,
    bytes: u64,
    checksum: u64,
) -> Result<(), SegmentError> {
    let object = key.as_ref();
    let failed = |error: object_store::Error| SegmentError::store(object, &error);
    let found = store.head(key).await.map_err(failed)?.size;
    if found != bytes {
        return Err(SegmentError::corrupt(
            object,
            format!("it has {found} bytes, the catalog says {bytes}"),
        ));
    }
    let mut hash = Xxh3::new();
    for start in (0..bytes).step_by(CHECKED_AT_ONCE as usize) {
        hash.update(
            &store
                .get_range(key, start..bytes.min(start + CHECKED_AT_ONCE))
                .await
                .map_err(failed)?,
        );
    }
    if hash.digest() != checksum {
        return Err(SegmentError::corrupt(
            object,
            format!("the checksum of its {bytes} bytes does not match the catalog"),
        ));
    }
    Ok(())
}

/// Bytes of the footer that are fetched with the first request: enough for a few hundred pages.
const FOOTER_HINT: usize = 64 * 1024;

/// A data file as the Parquet decoder asks for it.
#[derive(Clone)]
struct DataFile {
    object: ObjectReader,
    meter: Option<Arc<ReadMeter>>,
}

impl DataFile {
    fn new(
        store: &Arc<dyn ObjectStore>,
        location: &SegmentLocation,
        disk: Option<&Arc<DiskCache>>,
        meter: Option<Arc<ReadMeter>>,
    ) -> Self {
        Self {
            object: ObjectReader::of(store, location, SegmentFile::Data, disk),
            meter,
        }
    }

    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        let read = self.object.ranges(ranges, self.meter.as_ref()).await;
        read.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl AsyncFileReader for DataFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { Ok(self.ranges(&[range]).await?.pop().unwrap_or_default()) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.ranges(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let reader = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(Some(FOOTER_HINT));
            let bytes = self.object.bytes();
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}

fn read_error(object: &str, error: ParquetError) -> SegmentError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<SegmentError>() {
            Ok(error) => *error,
            // All errors of the store are ours by now; this is the decoder's.
            Err(other) => SegmentError::corrupt(object, other),
        },
        error => SegmentError::corrupt(object, error),
    }
}

fn times(kind: TableKind, array: &ArrayRef) -> Option<ScalarBuffer<i64>> {
    if array.null_count() > 0 {
        return None;
    }
    match kind.time_unit() {
        TimeUnit::Millisecond => Some(
            array
                .as_primitive_opt::<TimestampMillisecondType>()?
                .values()
                .clone(),
        ),
        TimeUnit::Nanosecond => Some(
            array
                .as_primitive_opt::<TimestampNanosecondType>()?
                .values()
                .clone(),
        ),
    }
}

fn selection(ranges: &[Range<u64>]) -> RowSelection {
    let mut selectors = Vec::with_capacity(ranges.len() * 2);
    let mut at = 0;
    for range in ranges {
        if range.start > at {
            selectors.push(RowSelector::skip((range.start - at) as usize));
        }
        selectors.push(RowSelector::select((range.end - range.start) as usize));
        at = range.end;
    }
    selectors.into()
}

async fn read_footer(mut file: DataFile) -> Result<ArrowReaderMetadata, SegmentError> {
    let object = file.object.name().to_owned();
    let options = ArrowReaderOptions::new()
        .with_offset_index_policy(PageIndexPolicy::Optional)
        .with_column_index_policy(PageIndexPolicy::Skip);
    guarded(&object, ArrowReaderMetadata::load_async(&mut file, options)).await
}

/// The footer of a data file, or what is wrong with the file.
async fn footer(
    store: &Arc<dyn ObjectStore>,
    location: &SegmentLocation,
    disk: Option<&Arc<DiskCache>>,
    meter: Option<Arc<ReadMeter>>,
) -> Result<Result<ArrowReaderMetadata, SegmentError>, SegmentError> {
    match read_footer(DataFile::new(store, location, disk, meter)).await {
        Err(error @ SegmentError::Corrupt { .. }) => Ok(Err(error)),
        other => other.map(Ok),
    }
}

#[cfg(test)]
mod tests;
