//! An open segment: its series index and the footer of its data file; reads exact row ranges.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{TimestampMillisecondType, TimestampNanosecondType};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use xxhash_rust::xxh3::xxh3_64;

use super::error::SegmentError;
use super::index::SeriesIndex;
use crate::model::{Column, TIME_COLUMN, TableKind, TimeUnit};

/// Where a segment lies and what it must be.
#[derive(Debug, Clone)]
pub struct SegmentLocation {
    /// Key of the data file.
    pub data: Path,
    /// Key of the series index.
    pub index: Path,
    /// Size of the data file.
    pub data_bytes: u64,
    /// xxh3 of the series index.
    pub index_checksum: u64,
    /// What the table is for.
    pub kind: TableKind,
}

/// An open segment. Cheap to share; holds no file open.
#[derive(Debug)]
pub struct OpenSegment {
    store: Arc<dyn ObjectStore>,
    location: SegmentLocation,
    footer: ArrowReaderMetadata,
    index: SeriesIndex,
}

impl OpenSegment {
    /// Reads and checks the index, and reads the footer.
    pub async fn open(store: Arc<dyn ObjectStore>, location: SegmentLocation) -> Result<Self, SegmentError> {
        let (footer, index) = futures::try_join!(read_footer(&store, &location), read_index(&store, &location))?;
        Ok(Self { store, location, footer, index })
    }

    /// The series in it.
    pub fn index(&self) -> &SeriesIndex {
        &self.index
    }

    /// Whether the data file has a column of that name.
    pub fn has_field(&self, name: &str) -> bool {
        self.footer.schema().column_with_name(name).is_some()
    }

    /// Where it lies.
    pub fn location(&self) -> &SegmentLocation {
        &self.location
    }

    /// Approximate bytes in memory, for caches.
    pub fn memory_size(&self) -> usize {
        self.index.memory_size() + self.footer.metadata().memory_size()
    }

    /// Reads rows: `ranges` ascend and do not overlap; the result holds them one after the other. A field that
    /// the file does not have is null.
    pub async fn read(&self, ranges: &[Range<u64>], fields: &[Column]) -> Result<(ScalarBuffer<i64>, Vec<ArrayRef>), SegmentError> {
        let object = self.location.data.as_ref();
        let corrupt = |message: String| SegmentError::corrupt(object, message);
        let rows: u64 = ranges.iter().map(|r| r.end - r.start).sum();
        let rows = usize::try_from(rows).map_err(|_| corrupt("more rows asked for than memory can hold".to_owned()))?;
        let schema = self.footer.parquet_schema();
        let wanted = |name: &str| name == TIME_COLUMN || fields.iter().any(|f| &*f.name == name);
        let roots = self.footer.schema().fields().iter().enumerate().filter(|(_, f)| wanted(f.name())).map(|(i, _)| i);
        let mask = ProjectionMask::roots(schema, roots);
        let reader = DataFile::new(&self.store, &self.location);
        let batches: Vec<RecordBatch> = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.footer.clone())
            .with_projection(mask)
            .with_row_selection(selection(ranges))
            .with_batch_size(rows.max(1))
            .build()
            .map_err(|error| read_error(object, error))?
            .try_collect()
            .await
            .map_err(|error| read_error(object, error))?;
        let batch = match batches.as_slice() {
            [batch] => batch.clone(),
            [] => return Err(corrupt(format!("{rows} rows expected, none found"))),
            [first, ..] => concat_batches(first.schema_ref(), &batches).map_err(|error| corrupt(error.to_string()))?,
        };
        if batch.num_rows() != rows {
            return Err(corrupt(format!("{rows} rows expected, {} found", batch.num_rows())));
        }
        let time = batch.column_by_name(TIME_COLUMN).and_then(|array| times(self.location.kind, array));
        let time = time.ok_or_else(|| corrupt("no time column of the table's unit".to_owned()))?;
        let found: Vec<Column> = fields.iter().filter(|f| batch.column_by_name(&f.name).is_some()).cloned().collect();
        let arrays: Vec<ArrayRef> = found.iter().filter_map(|f| batch.column_by_name(&f.name).cloned()).collect();
        Ok((time, super::column::project(&found, &arrays, fields, rows)))
    }
}

/// Bytes of the footer that are fetched with the first request: enough for a few hundred pages.
const FOOTER_HINT: usize = 64 * 1024;

/// A data file as the Parquet decoder asks for it.
#[derive(Clone)]
struct DataFile {
    store: Arc<dyn ObjectStore>,
    key: Path,
    bytes: u64,
}

impl DataFile {
    fn new(store: &Arc<dyn ObjectStore>, location: &SegmentLocation) -> Self {
        Self { store: Arc::clone(store), key: location.data.clone(), bytes: location.data_bytes }
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for DataFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store.get_range(&self.key, range).map_err(external).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.store.get_ranges(&self.key, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options).with_prefetch_hint(Some(FOOTER_HINT));
            let bytes = self.bytes;
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}

fn read_error(object: &str, error: ParquetError) -> SegmentError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<object_store::Error>() {
            Ok(error) => SegmentError::store(object, &error),
            Err(other) => SegmentError::Unavailable { object: object.to_owned(), message: other.to_string() },
        },
        error => SegmentError::corrupt(object, error),
    }
}

fn times(kind: TableKind, array: &ArrayRef) -> Option<ScalarBuffer<i64>> {
    if array.null_count() > 0 {
        return None;
    }
    match kind.time_unit() {
        TimeUnit::Millisecond => Some(array.as_primitive_opt::<TimestampMillisecondType>()?.values().clone()),
        TimeUnit::Nanosecond => Some(array.as_primitive_opt::<TimestampNanosecondType>()?.values().clone()),
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

async fn read_footer(store: &Arc<dyn ObjectStore>, location: &SegmentLocation) -> Result<ArrowReaderMetadata, SegmentError> {
    let mut reader = DataFile::new(store, location);
    let options =
        ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional).with_column_index_policy(PageIndexPolicy::Skip);
    ArrowReaderMetadata::load_async(&mut reader, options).await.map_err(|error| read_error(location.data.as_ref(), error))
}

async fn read_index(store: &Arc<dyn ObjectStore>, location: &SegmentLocation) -> Result<SeriesIndex, SegmentError> {
    let object = location.index.as_ref();
    let unavailable = |error: object_store::Error| SegmentError::store(object, &error);
    let bytes: Bytes = store.get(&location.index).await.map_err(unavailable)?.bytes().await.map_err(unavailable)?;
    if xxh3_64(&bytes) != location.index_checksum {
        return Err(SegmentError::corrupt(object, format!("checksum of {} bytes does not match the catalog", bytes.len())));
    }
    SeriesIndex::parse(object, bytes)
}

#[cfg(test)]
mod tests;
