//! Fetched pages -> columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int8Array, NullBufferBuilder, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType,
    TimestampNanosecondType, UInt64Type,
};
use bytes::Bytes;
use parquet::errors::ParquetError;

use super::super::field_array::FieldArray;
use super::cached::{DecodedPage, Kept, PageCache, PageKey, PageRows};
use super::damaged;
use super::hybrid::{Bits, Hybrid};
use super::inflate::{Buffer as PageBuffer, Context, Inflater, MAX_PAGE_BYTES};
use super::page_header::{PageEncoding, PageHeader, PageKind};
use super::plan::{ChunkRead, ColumnRead, FetchedBytes, PageRead, PageReads, PageSource};
use super::values::{Value, Values, with_length};

impl PageReads {
    /// Decodes what was fetched: each column with its name.
    ///
    /// # Errors
    /// If the bytes are no such pages.
    pub fn decode(
        &self,
        fetched: &[Bytes],
        cache: Option<PageCache<'_>>,
    ) -> Result<Vec<(String, FieldArray)>, ParquetError> {
        let rows = self.row_count();
        let cache = cache.filter(|cache| cache.keeps(self.fetched_rows()));
        let mut kept = Vec::new();
        let columns = Inflater::with(|inflater| {
            let mut decoder = Decoder {
                wanted: &self.rows,
                fetched,
                inflater,
                kept: cache.is_some().then_some(&mut kept),
            };
            let column = |column: &ColumnRead| {
                let array = decoder
                    .array(column, rows)
                    .map_err(|error| damaged(format!("column {:?}: {error}", column.name)))?;
                Ok((column.name.clone(), FieldArray::of(array)))
            };
            self.columns
                .iter()
                .map(column)
                .collect::<Result<Vec<_>, ParquetError>>()
        })?;
        if let Some(cache) = cache.filter(|_| !kept.is_empty()) {
            let pages = kept.into_iter().map(|(key, page)| {
                let bytes = page.memory_size();
                (key, page, bytes)
            });
            cache.pages.insert(pages);
        }
        Ok(columns)
    }
}

/// Bytes that a value of a page may have inflated, with its level, in the most wasteful encoding.
const MAX_VALUE_BYTES: usize = 16;

/// Bytes that a page may have besides.
const MAX_FIXED_BYTES: usize = 64 * 1024;

/// What all columns of a read are decoded with.
struct Decoder<'a> {
    wanted: &'a [Range<u64>],
    fetched: &'a [Bytes],
    inflater: &'a mut Inflater,
    /// Pages that were decoded whole, if they are to be kept.
    kept: Option<&'a mut Vec<(PageKey, DecodedPage)>>,
}

/// A column that is being filled.
struct Column<V> {
    /// As many as there are of `nulls`.
    values: Vec<V>,
    nulls: NullBufferBuilder,
}

/// A data page, not compressed any more.
#[derive(Debug, Clone, Copy)]
struct DataPage<'a> {
    encoding: PageEncoding,
    /// Which rows are not null, if any may be.
    levels: Option<&'a [u8]>,
    values: &'a [u8],
}

impl Decoder<'_> {
    fn array(&mut self, column: &ColumnRead, rows: usize) -> Result<ArrayRef, ParquetError> {
        match &column.data_type {
            DataType::Float64 => self.numbers::<Float64Type>(column, rows),
            DataType::Int64 => self.numbers::<Int64Type>(column, rows),
            DataType::UInt64 => self.numbers::<UInt64Type>(column, rows),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                self.numbers::<TimestampMillisecondType>(column, rows)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                self.numbers::<TimestampNanosecondType>(column, rows)
            }
            DataType::Int8 => {
                let (values, nulls) = self.column::<i8>(column, rows)?;
                Ok(Arc::new(Int8Array::new(values, nulls)))
            }
            DataType::Boolean => {
                let (values, nulls) = self.column::<bool>(column, rows)?;
                Ok(Arc::new(BooleanArray::new(values.into(), nulls)))
            }
            other => Err(damaged(format!("pages of {other} are not decoded here"))),
        }
    }

    fn numbers<T: ArrowPrimitiveType>(
        &mut self,
        column: &ColumnRead,
        rows: usize,
    ) -> Result<ArrayRef, ParquetError> {
        let (values, nulls) = self.column::<u64>(column, rows)?;
        let len = values.len();
        // The same bits as numbers of another type.
        let values = ScalarBuffer::<T::Native>::new(values.into_inner(), 0, len);
        Ok(Arc::new(PrimitiveArray::<T>::new(values, nulls)))
    }

    fn column<V: Kept>(
        &mut self,
        column: &ColumnRead,
        rows: usize,
    ) -> Result<(V::Rows, Option<NullBuffer>), ParquetError> {
        if let Some(values) = self.shared::<V>(column, rows) {
            return Ok((values, None));
        }
        let mut out = Column::<V>::new(rows);
        for chunk in &column.chunks {
            self.chunk(chunk, column.is_nullable, &mut out)?;
        }
        if out.nulls.len() != rows {
            return Err(damaged(format!(
                "{rows} rows expected, {} found",
                out.nulls.len()
            )));
        }
        Ok((out.values.into(), out.nulls.finish()))
    }

    /// The rows of a column that lie together in a page in memory, without a copy. They keep the
    /// page as long as they are there, so they are most of it.
    fn shared<V: Kept>(&self, column: &ColumnRead, rows: usize) -> Option<V::Rows> {
        let [chunk] = &column.chunks[..] else {
            return None;
        };
        let ([page], [range]) = (&chunk.pages[..], self.wanted) else {
            return None;
        };
        let PageSource::Decoded(decoded) = &page.source else {
            return None;
        };
        let page_rows = V::kept(decoded).filter(|rows| rows.nulls.is_none())?;
        let wanted = page.position(range.start)..page.position(range.end);
        let is_most = wanted.len() == rows && 2 * rows >= page_rows.values.len();
        (is_most && wanted.end <= page_rows.values.len())
            .then(|| V::slice(&page_rows.values, wanted))
    }

    fn chunk<V: Kept>(
        &mut self,
        chunk: &ChunkRead,
        is_nullable: bool,
        out: &mut Column<V>,
    ) -> Result<(), ParquetError> {
        let fetched = self.fetched;
        let bytes = |of: &FetchedBytes| {
            let bytes = fetched.get(of.fetch);
            bytes
                .and_then(|bytes| bytes.get(of.range.clone()))
                .ok_or_else(|| damaged("the bytes of a page were not fetched"))
        };
        let Inflater {
            context,
            dictionary: dictionary_buffer,
            page: page_buffer,
        } = &mut *self.inflater;
        let mut dictionary_buffer = Some(dictionary_buffer);
        let mut dictionary: Option<&[u8]> = None;
        for page in &chunk.pages {
            let wanted = &self.wanted[page.wanted.clone()];
            let page_bytes = match &page.source {
                PageSource::Decoded(decoded) => {
                    let rows = V::kept(decoded)
                        .ok_or_else(|| damaged("a page has values of another type"))?;
                    out.append_rows(page, wanted, rows)?;
                    continue;
                }
                PageSource::Fetched(fetched) => bytes(fetched)?,
            };
            let data = RawPage::split(page_bytes)?.data_page(
                page.rows.end - page.rows.start,
                is_nullable,
                chunk
                    .is_compressed
                    .then_some((&mut *context, &mut *page_buffer)),
            )?;
            // A chunk may have one that its later pages do not refer to.
            if data.encoding == PageEncoding::Dictionary
                && let Some(of) = &chunk.dictionary
                && let Some(buffer) = dictionary_buffer.take()
            {
                let values = RawPage::split(bytes(of)?)?.dictionary(
                    V::BYTES,
                    chunk.is_compressed.then_some((&mut *context, buffer)),
                )?;
                dictionary = Some(values);
            }
            match (&mut self.kept, page.key) {
                (Some(kept), Some(key)) => {
                    let rows = (page.rows.end - page.rows.start) as usize;
                    let mut whole = Column::<V>::new(rows);
                    let all = std::slice::from_ref(&page.rows);
                    whole.append(page, all, &data, dictionary)?;
                    let rows = Arc::new(PageRows {
                        values: whole.values.into(),
                        nulls: whole.nulls.finish(),
                    });
                    out.append_rows(page, wanted, &rows)?;
                    kept.push((key, V::keep(rows)));
                }
                _ => out.append(page, wanted, &data, dictionary)?,
            }
        }
        Ok(())
    }
}

/// What pages are inflated with.
type Inflate<'a, 'b> = (&'a mut Context, &'b mut PageBuffer);

/// A page as it lies in the file.
struct RawPage<'a> {
    header: PageHeader,
    body: &'a [u8],
}

impl<'a> RawPage<'a> {
    fn split(bytes: &'a [u8]) -> Result<Self, ParquetError> {
        let (header, len) = PageHeader::parse(bytes)?;
        let body = bytes[len..].get(..header.bytes).ok_or_else(|| {
            damaged(format!(
                "a page has {} bytes, and {} are there",
                header.bytes,
                bytes.len() - len
            ))
        })?;
        Ok(Self { header, body })
    }

    /// The values of a dictionary.
    fn dictionary(
        self,
        value_bytes: usize,
        inflate: Option<Inflate<'_, 'a>>,
    ) -> Result<&'a [u8], ParquetError> {
        let PageKind::Dictionary { values } = self.header.kind else {
            return Err(damaged("there are rows where a dictionary should be"));
        };
        let size = self.header.inflated_bytes;
        if size > MAX_PAGE_BYTES || values.checked_mul(value_bytes) != Some(size) {
            return Err(damaged(format!(
                "a dictionary of {values} values has {size} bytes"
            )));
        }
        inflated(self.body, size, inflate)
    }

    /// A page of so many rows.
    fn data_page(
        self,
        rows: u64,
        is_nullable: bool,
        inflate: Option<Inflate<'_, 'a>>,
    ) -> Result<DataPage<'a>, ParquetError> {
        let (values, encoding) = match self.header.kind {
            PageKind::Data { values, encoding } => (values, encoding),
            PageKind::DataV2 {
                values, encoding, ..
            } => (values, encoding),
            PageKind::Dictionary { .. } => {
                return Err(damaged("there is a dictionary where rows should be"));
            }
        };
        if values as u64 != rows {
            return Err(damaged(format!(
                "a page has {values} values, its offset index says {rows}"
            )));
        }
        let size = self.header.inflated_bytes;
        let max = MAX_PAGE_BYTES.min(
            values
                .saturating_mul(MAX_VALUE_BYTES)
                .saturating_add(MAX_FIXED_BYTES),
        );
        if size > max {
            return Err(damaged(format!(
                "a page of {values} values has {size} bytes"
            )));
        }
        let (levels, values) = match self.header.kind {
            // Levels lie before what is compressed.
            PageKind::DataV2 {
                level_bytes,
                is_compressed,
                ..
            } => {
                let cut = || damaged("the levels of a page are longer than the page");
                let (levels, body) = self.body.split_at_checked(level_bytes).ok_or_else(cut)?;
                let size = size.checked_sub(level_bytes).ok_or_else(cut)?;
                let values = inflated(body, size, inflate.filter(|_| is_compressed))?;
                (is_nullable.then_some(levels), values)
            }
            _ => {
                let body = inflated(self.body, size, inflate)?;
                if is_nullable {
                    let (levels, values) = with_length(body)?;
                    (Some(levels), values)
                } else {
                    (None, body)
                }
            }
        };
        Ok(DataPage {
            encoding,
            levels,
            values,
        })
    }
}

/// Bytes of a page that are `size` when they are not compressed.
fn inflated<'a>(
    bytes: &'a [u8],
    size: usize,
    inflate: Option<Inflate<'_, 'a>>,
) -> Result<&'a [u8], ParquetError> {
    match inflate {
        Some((context, buffer)) => buffer.inflate(context, bytes, size),
        None if bytes.len() == size => Ok(bytes),
        None => Err(damaged(format!(
            "a page has {} bytes, its header says {size}",
            bytes.len()
        ))),
    }
}

impl<V: Kept> Column<V> {
    fn new(rows: usize) -> Self {
        Self {
            values: Vec::with_capacity(rows),
            nulls: NullBufferBuilder::new(rows),
        }
    }

    /// Fails if so many rows more are more than there should be.
    fn has_room(&self, rows: usize) -> Result<(), ParquetError> {
        match rows <= self.values.capacity() - self.values.len() {
            true => Ok(()),
            false => Err(damaged("there are more rows than expected")),
        }
    }

    /// Appends those rows of a decoded page that are `wanted`.
    fn append_rows(
        &mut self,
        page: &PageRead,
        wanted: &[Range<u64>],
        rows: &PageRows<V>,
    ) -> Result<(), ParquetError> {
        for range in wanted {
            let of_page = page.position(range.start)..page.position(range.end);
            let values = rows.values.get(of_page.clone());
            let values = values.ok_or_else(|| damaged("there are more rows than expected"))?;
            self.has_room(values.len())?;
            self.values.extend_from_slice(values);
            match &rows.nulls {
                Some(nulls) => {
                    let nulls = nulls.slice(of_page.start, of_page.len());
                    self.nulls.append_buffer(&nulls);
                }
                None => self.nulls.append_n_non_nulls(of_page.len()),
            }
        }
        Ok(())
    }

    /// Appends those rows of a page that are `wanted`.
    fn append(
        &mut self,
        page: &PageRead,
        wanted: &[Range<u64>],
        data: &DataPage<'_>,
        dictionary: Option<&[u8]>,
    ) -> Result<(), ParquetError> {
        let in_page = |range: &Range<u64>| page.position(range.start)..page.position(range.end);
        let end = wanted.last().map_or(0, |last| in_page(last).end);
        let levels = match data.levels {
            Some(levels) => Hybrid::new(levels, 1)?.bits(end)?,
            None => Bits::Set,
        };
        let mut values = None;
        let mut at = 0;
        for rows in wanted.iter().map(in_page) {
            let skipped = levels.count(at..rows.start);
            let count = levels.count(rows.clone());
            at = rows.end;
            self.has_room(rows.len())?;
            let filled = self.values.len();
            self.values.resize(filled + rows.len(), V::default());
            let out = &mut self.values[filled..];
            // A page without values need not have any bytes for them.
            if skipped + count > 0 {
                let values = match &mut values {
                    Some(values) => values,
                    None => {
                        values.insert(Values::new::<V>(data.encoding, data.values, dictionary)?)
                    }
                };
                values.skip(skipped)?;
                values.read(&mut out[..count])?;
            }
            match &levels {
                Bits::Some(bits) if (1..rows.len()).contains(&count) => {
                    let valid = bits.slice(rows.start, rows.len());
                    spread(out, &valid, count);
                    self.nulls.append_buffer(&NullBuffer::new(valid));
                }
                _ if count > 0 => self.nulls.append_n_non_nulls(rows.len()),
                _ => self.nulls.append_n_nulls(rows.len()),
            }
        }
        Ok(())
    }
}

impl Bits {
    /// How many are set of some.
    fn count(&self, range: Range<usize>) -> usize {
        match self {
            Bits::Set => range.len(),
            Bits::Unset => 0,
            Bits::Some(bits) => bits.slice(range.start, range.len()).count_set_bits(),
        }
    }
}

/// Moves the first `count` values to the rows that have one, from the last to the first.
fn spread<V: Value>(out: &mut [V], valid: &BooleanBuffer, count: usize) {
    // Rows with values mostly lie together, or there are few.
    let runs: Vec<(usize, usize)> = valid.set_slices().collect();
    let mut from = count;
    for (start, end) in runs.into_iter().rev() {
        let len = end - start;
        from -= len;
        if from == start {
            break;
        }
        out.copy_within(from..from + len, start);
        out[from..start.min(from + len)].fill(V::default());
    }
}
