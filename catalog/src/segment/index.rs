//! The series index of a segment: which series it holds, and in which rows.
//!
//! The file is Parquet with one row a series (`rows`). Behind the rows lie a dictionary of the
//! labels (`dictionary`), the postings of their values (`positions`), and the root (`root`)
//! which says where these are. A reader keeps root and footer, and reads of the rest what a lookup
//! needs (`lookup`): the blocks of the dictionary that a matcher asks about, the postings of the
//! values that pass, the pages of the series that are left. All parts are checked against the root
//! (`file`), and the root against the catalog. What was read stays in the `ReadCache`.
//!
//! An index of the first format has rows only; it is parsed whole when it is opened, as any is by
//! readers that need all series.

mod cache;
mod cursor;
mod dictionary;
mod file;
mod lookup;
mod positions;
mod root;
mod rows;
pub(in crate::segment) mod writer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::PageIndexPolicy;
use xxhash_rust::xxh3::xxh3_64;

pub(in crate::segment) use cache::{IndexPart, IndexPartKey, Interned};

use self::file::{IndexBytes, IndexFile, WHOLE_BYTES};
use self::lookup::LookupIndex;
use self::root::{CHECKED_BYTES, Root};
use super::disk_cache::SegmentFile;
use super::error::SegmentError;
use super::meter::ReadMeter;
use super::object_reader::ObjectReader;
use super::read_cache::ReadCache;
use super::reader::SegmentLocation;
use super::series::Series;
use crate::memory::Reservation;
use crate::model::{METRIC_NAME, MatchOp, Matcher, TimeRange};

/// Series of a page of an index.
const PAGE_SERIES: usize = 128;

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

/// Series that were found in an index.
#[derive(Debug)]
pub struct FoundSeries {
    /// The series, in file order.
    pub series: Vec<IndexedSeries>,
    /// Their memory, in the share of queries, if they were not in memory before. Readers that keep
    /// the series keep it until they have counted these on their own.
    pub held: Option<Reservation>,
}

impl IndexedSeries {
    /// Approximate bytes in memory, with the labels.
    pub fn memory_size(&self) -> usize {
        size_of::<Self>() + size_of::<Series>() + 32 + self.series.labels.as_str().len()
    }
}

/// The index of an open segment.
#[derive(Debug)]
pub struct SeriesIndex(Form);

#[derive(Debug)]
enum Form {
    /// All series are in memory.
    Loaded(LoadedIndex),
    /// Root and footer are in memory.
    Lookup(Box<LookupIndex>),
}

impl SeriesIndex {
    /// Opens an index to be looked up; what is read of it is kept in the cache.
    pub(super) async fn open(
        store: &Arc<dyn ObjectStore>,
        location: &SegmentLocation,
        cache: &Arc<ReadCache>,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Self, SegmentError> {
        Self::open_within(WHOLE_BYTES, store, location, cache, meter).await
    }

    /// The same; files of at most so many bytes are read whole.
    async fn open_within(
        whole_bytes: u64,
        store: &Arc<dyn ObjectStore>,
        location: &SegmentLocation,
        cache: &Arc<ReadCache>,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Self, SegmentError> {
        if location.index_tail_bytes == 0 {
            return Self::load(store, location, meter).await;
        }
        let bytes = location.index_bytes;
        let wanted = match bytes <= whole_bytes {
            true => bytes,
            false => location.index_tail_bytes,
        };
        let object = ObjectReader::of(store, location, SegmentFile::Index, cache.disk());
        let read = read_from(&object, bytes.saturating_sub(wanted), meter).await?;
        let (root, root_start) = checked_root(location, &read)?;
        let corrupt = |message: String| SegmentError::corrupt(location.index.as_ref(), message);
        let checksums: Arc<[u64]> = root.checksums.as_slice().into();
        if read.len() as u64 == bytes {
            check_pieces(&read[..root_start as usize], &checksums).map_err(corrupt)?;
        }
        let options = ArrowReaderOptions::new()
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_column_index_policy(PageIndexPolicy::Skip);
        let tail = IndexBytes::of_tail(bytes, read.clone());
        let rows = ArrowReaderMetadata::load(&tail, options)
            .map_err(|error| corrupt(error.to_string()))?;
        let series: i64 = rows.metadata().file_metadata().num_rows();
        if series != i64::from(root.series) {
            return Err(corrupt(format!(
                "its root is of {} series, not of {series}",
                root.series
            )));
        }
        Ok(Self(Form::Lookup(Box::new(LookupIndex {
            segment: location.id,
            file: IndexFile {
                object,
                checksums,
                resident: read,
            },
            root: Root {
                checksums: Vec::new(),
                ..root
            },
            rows,
            cache: Arc::clone(cache),
        }))))
    }

    /// Reads and checks an index whole, for readers that need all of it.
    pub(super) async fn load(
        store: &Arc<dyn ObjectStore>,
        location: &SegmentLocation,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Self, SegmentError> {
        let object = ObjectReader::of(store, location, SegmentFile::Index, None);
        let read = read_from(&object, 0, meter).await?;
        check(location, &read)?;
        let series = rows::parse(read)
            .map_err(|message| SegmentError::corrupt(location.index.as_ref(), message))?;
        Ok(Self(Form::Loaded(LoadedIndex::new(series))))
    }

    /// The series that pass all matchers and have rows whose times may lie in the range, in file
    /// order.
    ///
    /// # Errors
    /// [`SegmentError::Memory`] before the series are read, if they are more than queries have
    /// memory for.
    pub async fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<FoundSeries, SegmentError> {
        match &self.0 {
            Form::Loaded(index) => Ok(FoundSeries {
                series: index.select(matchers, range).cloned().collect(),
                held: None,
            }),
            Form::Lookup(index) => index.select(matchers, range, meter).await,
        }
    }

    /// All series, in file order.
    pub async fn all(&self) -> Result<Cow<'_, [IndexedSeries]>, SegmentError> {
        match &self.0 {
            Form::Loaded(index) => Ok(Cow::Borrowed(&index.series)),
            Form::Lookup(index) => {
                let found = index.select(&[], TimeRange::ALL, None).await?;
                Ok(Cow::Owned(found.series))
            }
        }
    }

    /// Names of labels that any series has which passes all matchers, whatever its times are.
    pub async fn label_names(
        &self,
        matchers: &[Matcher],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<String>, SegmentError> {
        match &self.0 {
            Form::Loaded(index) => Ok(index.distinct(matchers, |series, found| {
                found.extend(series.labels.iter().map(|(name, _)| name));
            })),
            Form::Lookup(index) => index.label_names(matchers, meter).await,
        }
    }

    /// Values of a label that any series has which passes all matchers, whatever its times are;
    /// ascending.
    pub async fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<String>, SegmentError> {
        match &self.0 {
            Form::Loaded(index) => Ok(index.distinct(matchers, |series, found| {
                found.extend(series.labels.get(name));
            })),
            Form::Lookup(index) => index.label_values(name, matchers, meter).await,
        }
    }

    /// How many series have each value of a label, by value; the empty one is that of series
    /// without the label.
    pub async fn value_counts(&self, name: &str) -> Result<Vec<(String, usize)>, SegmentError> {
        match &self.0 {
            Form::Loaded(index) => {
                let mut counts = BTreeMap::<&str, usize>::new();
                for one in &index.series {
                    let value = one.series.labels.get(name).unwrap_or_default();
                    *counts.entry(value).or_default() += 1;
                }
                let owned = |(value, count): (&str, usize)| (value.to_owned(), count);
                Ok(counts.into_iter().map(owned).collect())
            }
            Form::Lookup(index) => index.value_counts(name).await,
        }
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Loaded(index) => index.series.len(),
            Form::Lookup(index) => index.root.series as usize,
        }
    }

    /// Whether there are no series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The series at some positions, in file order.
    pub async fn slice(&self, at: Range<usize>) -> Result<Vec<IndexedSeries>, SegmentError> {
        match &self.0 {
            Form::Loaded(index) => Ok(index.series.get(at).unwrap_or_default().to_vec()),
            Form::Lookup(index) => index.slice(at).await,
        }
    }

    /// Approximate bytes in memory, without what the cache counts.
    pub fn memory_size(&self) -> usize {
        match &self.0 {
            Form::Loaded(index) => index.series.iter().map(IndexedSeries::memory_size).sum(),
            Form::Lookup(index) => index.memory_size(),
        }
    }
}

/// Reads the end of an index, from a byte on.
async fn read_from(
    object: &ObjectReader,
    start: u64,
    meter: Option<&Arc<ReadMeter>>,
) -> Result<Bytes, SegmentError> {
    let end = start..object.bytes();
    let mut read = object.ranges(std::slice::from_ref(&end), meter).await?;
    Ok(read.pop().unwrap_or_default())
}

/// Compares dictionary and postings of an index with its series, which it was opened whole for.
///
/// # Errors
/// What does not fit, and what of the store fails.
pub(crate) async fn check_lookup(
    store: &Arc<dyn ObjectStore>,
    location: &SegmentLocation,
    series: &[IndexedSeries],
    cache: &Arc<ReadCache>,
) -> Result<(), SegmentError> {
    match SeriesIndex::open(store, location, cache, None).await?.0 {
        Form::Loaded(_) => Ok(()),
        Form::Lookup(index) => index.check(&writer::Postings::of(series).sorted()).await,
    }
}

/// Reads an index whole and compares it with what the catalog and its own root say.
pub(crate) async fn check_index(
    store: &Arc<dyn ObjectStore>,
    location: &SegmentLocation,
) -> Result<(), SegmentError> {
    let object = ObjectReader::of(store, location, SegmentFile::Index, None);
    check(location, &read_from(&object, 0, None).await?)
}

fn check(location: &SegmentLocation, bytes: &[u8]) -> Result<(), SegmentError> {
    let object = location.index.as_ref();
    if location.index_tail_bytes == 0 {
        if xxh3_64(bytes) == location.index_checksum {
            return Ok(());
        }
        return Err(SegmentError::corrupt(
            object,
            format!(
                "checksum of {} bytes does not match the catalog",
                bytes.len()
            ),
        ));
    }
    let (root, start) = checked_root(location, bytes)?;
    check_pieces(&bytes[..start as usize], &root.checksums)
        .map_err(|message| SegmentError::corrupt(object, message))
}

/// The root of a file, of which `read` is the end, and at which byte of `read` it begins.
fn checked_root(location: &SegmentLocation, read: &[u8]) -> Result<(Root, u64), SegmentError> {
    let corrupt = |message: String| SegmentError::corrupt(location.index.as_ref(), message);
    let start = (read.len() as u64)
        .checked_sub(location.index_tail_bytes)
        .ok_or_else(|| corrupt(format!("it has only {} bytes", read.len())))?;
    let tail = &read[start as usize..];
    if xxh3_64(tail) != location.index_checksum {
        return Err(corrupt(format!(
            "checksum of its last {} bytes does not match the catalog",
            tail.len()
        )));
    }
    let file_start = location.index_bytes - location.index_tail_bytes;
    Ok((Root::decode(tail, file_start).map_err(corrupt)?, start))
}

/// Compares all pieces before the root with its checksums.
fn check_pieces(bytes: &[u8], checksums: &[u64]) -> Result<(), String> {
    let pieces = bytes.chunks(CHECKED_BYTES as usize);
    if pieces.len() != checksums.len() {
        return Err(format!("its root has {} checksums", checksums.len()));
    }
    for (number, (piece, checksum)) in pieces.zip(checksums).enumerate() {
        if xxh3_64(piece) != *checksum {
            let start = number as u64 * CHECKED_BYTES;
            return Err(format!(
                "the checksum of its bytes {start}..{} does not match its root",
                start + piece.len() as u64
            ));
        }
    }
    Ok(())
}

/// All series of an index, in file order.
#[derive(Debug)]
struct LoadedIndex {
    series: Vec<IndexedSeries>,
    /// Metric names with the position of their first series; ascending, because files are sorted
    /// by metric first. Empty for wide tables.
    metrics: Vec<(Arc<str>, usize)>,
}

impl LoadedIndex {
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

    fn select<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = &'a IndexedSeries> {
        let (by_name, others): (Vec<&Matcher>, Vec<&Matcher>) = matchers
            .iter()
            .partition(|m| m.name == METRIC_NAME && !self.metrics.is_empty());
        let spans: Vec<Range<usize>> = if by_name.is_empty() {
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
    fn metric_spans(&self, by_name: &[&Matcher]) -> Vec<Range<usize>> {
        let span = |at: usize| {
            let start = self.metrics[at].1;
            let end = self.metrics.get(at + 1);
            start..end.map_or(self.series.len(), |next| next.1)
        };
        let equal = by_name.iter().find(|m| m.op == MatchOp::Equal);
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

    /// Different texts of the series that pass, ascending.
    fn distinct<'a>(
        &'a self,
        matchers: &'a [Matcher],
        texts: impl Fn(&'a Series, &mut std::collections::BTreeSet<&'a str>),
    ) -> Vec<String> {
        let mut found = std::collections::BTreeSet::new();
        for one in self.select(matchers, TimeRange::ALL) {
            texts(&one.series, &mut found);
        }
        found.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests;
