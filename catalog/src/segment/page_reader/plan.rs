//! Row ranges -> the pages that hold them, and the bytes to fetch.

use std::ops::Range;

use arrow::datatypes::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{
    Compression, Encoding, LogicalType, TimeUnit as ParquetTimeUnit, Type as PhysicalType,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::schema::types::ColumnDescriptor;

use super::cached::{DecodedPage, PageCache, PageKey};
use super::damaged;

/// The pages of some columns that hold some rows.
#[derive(Debug)]
pub struct PageReads {
    /// In the order of the file.
    pub(super) columns: Vec<ColumnRead>,
    /// The rows that are wanted: ascending, not overlapping, none empty.
    pub(super) rows: Vec<Range<u64>>,
    fetches: Vec<Range<u64>>,
    /// Rows of the pages that are fetched.
    fetched_rows: u64,
    /// Pages that are in memory.
    cached: usize,
}

/// What is read of a column.
#[derive(Debug)]
pub(super) struct ColumnRead {
    pub name: String,
    /// Position among the columns of the file.
    root: usize,
    pub data_type: DataType,
    /// Whether pages say which of their rows are null.
    pub is_nullable: bool,
    /// Of each row group that has wanted rows.
    pub chunks: Vec<ChunkRead>,
}

/// What is read of the column of one row group.
#[derive(Debug)]
pub(super) struct ChunkRead {
    pub is_compressed: bool,
    /// The page before the first data page, if there is any.
    pub dictionary: Option<FetchedBytes>,
    pub pages: Vec<PageRead>,
}

/// A page of which rows are wanted.
#[derive(Debug)]
pub(super) struct PageRead {
    pub key: Option<PageKey>,
    pub source: PageSource,
    /// Its rows by their positions in the file.
    pub rows: Range<u64>,
    /// Which of the wanted ranges have rows in it.
    pub wanted: Range<usize>,
}

impl PageRead {
    /// The position in the page of a row of the file.
    pub fn position(&self, row: u64) -> usize {
        // A page has fewer rows than there are bytes in memory.
        (row.clamp(self.rows.start, self.rows.end) - self.rows.start) as usize
    }
}

/// Where the rows of a page come from.
#[derive(Debug)]
pub(super) enum PageSource {
    /// They are in memory.
    Decoded(DecodedPage),
    /// From bytes that are fetched.
    Fetched(FetchedBytes),
}

/// Where bytes are among those fetched.
#[derive(Debug, Clone)]
pub(super) struct FetchedBytes {
    pub fetch: usize,
    pub range: Range<usize>,
}

impl PageReads {
    /// Plans the reading of `ranges`, which ascend and do not overlap, of those columns of the file
    /// that pass `is_wanted` and are of a kind that this reader knows; [`takes`](Self::takes) tells
    /// which.
    ///
    /// # Errors
    /// If the footer refers to pages that cannot be, or the file has no such rows.
    pub fn plan(
        footer: &ArrowReaderMetadata,
        file_bytes: u64,
        ranges: &[Range<u64>],
        is_wanted: impl Fn(&str) -> bool,
        cache: Option<PageCache<'_>>,
    ) -> Result<Self, ParquetError> {
        let rows = ranges.iter().filter(|range| range.start < range.end);
        let mut reads = Self {
            columns: Vec::new(),
            rows: rows.cloned().collect(),
            fetches: Vec::new(),
            fetched_rows: 0,
            cached: 0,
        };
        let metadata: &ParquetMetaData = footer.metadata();
        let Some(offset_index) = metadata.offset_index() else {
            return Ok(reads);
        };
        let groups = wanted_groups(metadata, &reads.rows)?;
        let leaves = footer.parquet_schema();
        for (leaf, descriptor) in leaves.columns().iter().enumerate() {
            let root = leaves.get_column_root_idx(leaf);
            let Some(field) = footer.schema().fields().get(root) else {
                continue;
            };
            let is_readable = is_wanted(field.name())
                && is_known(descriptor, field.data_type())
                && groups.iter().all(|group| {
                    let chunk = metadata.row_group(group.number).columns().get(leaf);
                    chunk.is_some_and(is_chunk_known)
                });
            if !is_readable {
                continue;
            }
            let mut chunks = Vec::with_capacity(groups.len());
            for group in &groups {
                let chunk = metadata.row_group(group.number).column(leaf);
                let pages = offset_index
                    .get(group.number)
                    .and_then(|columns| columns.get(leaf))
                    .ok_or_else(|| damaged("a column has no offset index, others do"))?;
                let place = (leaf, cache);
                chunks.push(reads.chunk(group, chunk, pages.page_locations(), place)?);
            }
            reads.columns.push(ColumnRead {
                name: field.name().clone(),
                root,
                data_type: field.data_type().clone(),
                is_nullable: descriptor.max_def_level() > 0,
                chunks,
            });
        }
        // No byte belongs to two pages: a damaged footer may otherwise ask for the file many times.
        let bytes = reads.fetches.iter().fold(0u64, |sum, range| {
            sum.saturating_add(range.end - range.start)
        });
        if bytes > file_bytes {
            return Err(damaged(format!(
                "it refers to {bytes} bytes of pages, and has {file_bytes}"
            )));
        }
        Ok(reads)
    }

    /// Whether the reading of a column of the file, by its position, is planned.
    pub fn takes(&self, root: usize) -> bool {
        self.columns
            .binary_search_by_key(&root, |column| column.root)
            .is_ok()
    }

    /// The bytes of the file to fetch.
    pub fn fetches(&self) -> &[Range<u64>] {
        &self.fetches
    }

    /// Rows of the pages to fetch, counted for each column.
    pub fn fetched_rows(&self) -> u64 {
        self.fetched_rows
    }

    /// How many of the pages are in memory.
    pub fn cached(&self) -> usize {
        self.cached
    }

    /// Number of wanted rows.
    pub fn row_count(&self) -> usize {
        let rows: u64 = self.rows.iter().map(|range| range.end - range.start).sum();
        usize::try_from(rows).unwrap_or(usize::MAX)
    }

    fn chunk(
        &mut self,
        group: &WantedGroup,
        chunk: &ColumnChunkMetaData,
        locations: &[PageLocation],
        (leaf, cache): (usize, Option<PageCache<'_>>),
    ) -> Result<ChunkRead, ParquetError> {
        let start = chunk
            .dictionary_page_offset()
            .unwrap_or(chunk.data_page_offset());
        let (start, size) = (unsigned(start)?, unsigned(chunk.compressed_size())?);
        let whole = start..start.saturating_add(size);
        let first = locations
            .first()
            .ok_or_else(|| damaged("a column of a row group has no pages"))?;
        let data_start = unsigned(first.offset)?;
        if first.first_row_index != 0 {
            return Err(damaged("the first page does not begin with the first row"));
        }
        let mut pages = Vec::new();
        let mut dictionary = None;
        let mut next = group.wanted.start;
        // Pages ascend, as is checked, so that none is fetched twice.
        let mut at = whole.start.max(data_start.min(whole.end));
        for (number, location) in locations.iter().enumerate() {
            let end = match locations.get(number + 1) {
                Some(next) => unsigned(next.first_row_index)?,
                None => group.rows.end - group.rows.start,
            };
            let rows = unsigned(location.first_row_index)?..end;
            let offset = unsigned(location.offset)?;
            let size = u64::try_from(location.compressed_page_size).unwrap_or(u64::MAX);
            let bytes = offset..offset.saturating_add(size);
            if rows.start > rows.end
                || rows.end > group.rows.end - group.rows.start
                || bytes.start < at
                || bytes.end > whole.end
            {
                return Err(damaged(format!(
                    "its offset index has a page of rows {rows:?} in bytes {bytes:?}, which is \
                     not possible in a row group of {} rows whose column has bytes {whole:?}",
                    group.rows.end - group.rows.start
                )));
            }
            at = bytes.end;
            let rows = group.rows.start + rows.start..group.rows.start + rows.end;
            while next < group.wanted.end && self.rows[next].end <= rows.start {
                next += 1;
            }
            let in_page = self.rows[next..group.wanted.end]
                .iter()
                .take_while(|range| range.start < rows.end)
                .count();
            if in_page == 0 || rows.is_empty() {
                continue;
            }
            let key = cache.map(|cache| cache.key(leaf, group.number, number));
            let kept = cache.zip(key).and_then(|(cache, key)| {
                let page = cache.pages.get([key]).pop()?;
                // Of another type it can only be if the footer is damaged.
                page.filter(|page| page.rows() as u64 == rows.end - rows.start)
            });
            let source = match kept {
                Some(page) => {
                    self.cached += 1;
                    PageSource::Decoded(page)
                }
                None => {
                    if dictionary.is_none() && whole.start < data_start {
                        dictionary = Some(self.fetch(whole.start..data_start)?);
                    }
                    self.fetched_rows += rows.end - rows.start;
                    PageSource::Fetched(self.fetch(bytes)?)
                }
            };
            pages.push(PageRead {
                key,
                source,
                rows,
                wanted: next..next + in_page,
            });
        }
        Ok(ChunkRead {
            is_compressed: !matches!(chunk.compression(), Compression::UNCOMPRESSED),
            dictionary,
            pages,
        })
    }

    /// Bytes to fetch, with those before if they lie side by side.
    fn fetch(&mut self, bytes: Range<u64>) -> Result<FetchedBytes, ParquetError> {
        let len = usize::try_from(bytes.end - bytes.start)
            .map_err(|_| damaged("a page is larger than memory can be"))?;
        let start = match self.fetches.last_mut() {
            Some(last) if last.end == bytes.start => {
                last.end = bytes.end;
                (bytes.start - last.start) as usize
            }
            _ => {
                self.fetches.push(bytes);
                0
            }
        };
        Ok(FetchedBytes {
            fetch: self.fetches.len() - 1,
            range: start..start.saturating_add(len),
        })
    }
}

/// A row group with wanted rows.
struct WantedGroup {
    number: usize,
    /// Its rows by their positions in the file.
    rows: Range<u64>,
    /// Which of the wanted ranges have rows in it.
    wanted: Range<usize>,
}

fn wanted_groups(
    metadata: &ParquetMetaData,
    ranges: &[Range<u64>],
) -> Result<Vec<WantedGroup>, ParquetError> {
    let mut groups = Vec::new();
    let (mut start, mut next) = (0u64, 0);
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let end = start
            .checked_add(unsigned(group.num_rows())?)
            .ok_or_else(|| damaged("its row groups have too many rows"))?;
        next += ranges[next..]
            .iter()
            .take_while(|range| range.end <= start)
            .count();
        let in_group = ranges[next..]
            .iter()
            .take_while(|range| range.start < end)
            .count();
        if in_group > 0 && start < end {
            groups.push(WantedGroup {
                number,
                rows: start..end,
                wanted: next..next + in_group,
            });
        }
        start = end;
    }
    match ranges.last() {
        Some(last) if last.end > start => Err(damaged(format!(
            "it has {start} rows, and those up to {} are asked for",
            last.end
        ))),
        _ => Ok(groups),
    }
}

fn unsigned(number: i64) -> Result<u64, ParquetError> {
    u64::try_from(number).map_err(|_| damaged(format!("its footer has {number} for a position")))
}

/// Whether a column is flat and its values become those of the arrow type without a conversion.
fn is_known(column: &ColumnDescriptor, data_type: &DataType) -> bool {
    if column.path().parts().len() != 1 || column.max_rep_level() > 0 || column.max_def_level() > 1
    {
        return false;
    }
    let has_unit = |unit: ParquetTimeUnit| match column.logical_type_ref() {
        Some(LogicalType::Timestamp(timestamp)) => timestamp.unit == unit,
        _ => false,
    };
    match (column.physical_type(), data_type) {
        (PhysicalType::DOUBLE, DataType::Float64)
        | (PhysicalType::INT64, DataType::Int64 | DataType::UInt64)
        | (PhysicalType::INT32, DataType::Int8)
        | (PhysicalType::BOOLEAN, DataType::Boolean) => true,
        (PhysicalType::INT64, DataType::Timestamp(TimeUnit::Millisecond, None)) => {
            has_unit(ParquetTimeUnit::MILLIS)
        }
        (PhysicalType::INT64, DataType::Timestamp(TimeUnit::Nanosecond, None)) => {
            has_unit(ParquetTimeUnit::NANOS)
        }
        _ => false,
    }
}

fn is_chunk_known(chunk: &ColumnChunkMetaData) -> bool {
    let is_encoding_known = |encoding: Encoding| {
        matches!(
            encoding,
            Encoding::PLAIN
                | Encoding::RLE
                | Encoding::PLAIN_DICTIONARY
                | Encoding::RLE_DICTIONARY
                | Encoding::DELTA_BINARY_PACKED
                | Encoding::BYTE_STREAM_SPLIT
        )
    };
    matches!(
        chunk.compression(),
        Compression::UNCOMPRESSED | Compression::ZSTD(_)
    ) && chunk.encodings().all(is_encoding_known)
}
