//! A block of Prometheus' storage: `index`, `chunks/*`, `tombstones`.
//!
//! Source of the formats: `tsdb/docs/format/{index,chunks,tombstones}.md` of Prometheus.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::prometheus::read::messages::Label;

const INDEX_MAGIC: [u8; 4] = [0xba, 0xaa, 0xd7, 0x00];
const TOMBSTONES_MAGIC: [u8; 4] = [0x01, 0x30, 0xba, 0x30];
const CHUNKS_MAGIC: [u8; 4] = [0x85, 0xbd, 0x40, 0xdd];
/// Six offsets and a checksum at the end of an index.
const TOC_BYTES: usize = 6 * 8 + 4;
/// Series begin at multiples of it, and their number is their offset divided by it.
const ALIGNMENT: u64 = 16;
/// Longest entry of a series, and longest chunk.
const MAX_ENTRY_BYTES: usize = 64 << 20;
/// Bytes of a chunk that are read at first; most are shorter.
const FIRST_READ_BYTES: usize = 2048;

/// Where a chunk is: the number of its file, and the offset in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkRef(u64);

/// A series as the index has it.
#[derive(Debug)]
pub(super) struct Series {
    /// By which tombstones name it.
    pub number: u64,
    /// Symbols of names and values.
    pub labels: Vec<(u64, u64)>,
    pub chunks: Vec<ChunkRef>,
}

/// A block that is read from its first series to its last.
pub(super) struct Block {
    /// All symbols, each with its length before it.
    symbols: Vec<u8>,
    /// Where each begins.
    starts: Vec<u32>,
    index: BufReader<File>,
    /// Where the index is read, and where its series end.
    at: u64,
    end: u64,
    chunks: Vec<File>,
    deleted: HashMap<u64, Vec<(i64, i64)>>,
}

/// Reads numbers from bytes.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(*self.take(8)?.first_chunk()?))
    }

    fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn varint(&mut self) -> Option<i64> {
        let value = self.uvarint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

fn check(bytes: &[u8], checksum: &[u8], what: &str) -> anyhow::Result<()> {
    let is_right = crc32c::crc32c(bytes).to_be_bytes() == *checksum;
    ensure!(is_right, "{what} is damaged: its checksum is wrong");
    Ok(())
}

impl Block {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let mut index = File::open(path.join("index")).context("cannot open its index")?;
        let size = index.metadata()?.len();
        let mut head = [0; 5];
        index
            .read_exact(&mut head)
            .context("its index is too short")?;
        ensure!(
            head[..4] == INDEX_MAGIC,
            "its index does not begin like one"
        );
        ensure!(
            head[4] == 2,
            "its index has the version {}, only 2 can be read: use promtool tsdb dump-openmetrics",
            head[4]
        );
        let toc_at = size
            .checked_sub(TOC_BYTES as u64)
            .context("its index is too short")?;
        let mut toc = [0; TOC_BYTES];
        index.read_exact_at(&mut toc, toc_at)?;
        let (offsets, checksum) = toc.split_at(TOC_BYTES - 4);
        check(offsets, checksum, "the table of contents of its index")?;
        let mut reader = Bytes(offsets);
        let offsets: Vec<u64> = std::iter::from_fn(|| reader.u64()).collect();
        let [symbols_at, series_at, ..] = offsets[..] else {
            bail!("its index has no table of contents");
        };
        let behind = offsets.iter().copied().filter(|at| *at > series_at);
        let end = behind.min().unwrap_or(toc_at).min(toc_at);
        let (symbols, starts) = symbols(&index, symbols_at, size)?;
        let mut chunks = Vec::new();
        loop {
            let path = path.join(format!("chunks/{:06}", chunks.len() + 1));
            let Ok(file) = File::open(&path) else { break };
            let mut magic = [0; 4];
            file.read_exact_at(&mut magic, 0)
                .with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(magic == CHUNKS_MAGIC, "{} has no chunks", path.display());
            chunks.push(file);
        }
        index.seek(SeekFrom::Start(series_at))?;
        Ok(Self {
            symbols,
            starts,
            index: BufReader::with_capacity(1 << 18, index),
            at: series_at,
            end,
            chunks,
            deleted: tombstones(&path.join("tombstones"))?,
        })
    }

    fn read(&mut self, count: usize) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.index
            .read_exact(&mut bytes)
            .context("its index ends early")?;
        self.at += count as u64;
        Ok(bytes)
    }

    /// The next series; `None` after the last.
    pub(super) fn next_series(&mut self) -> anyhow::Result<Option<Series>> {
        let padding = self.at.next_multiple_of(ALIGNMENT) - self.at;
        if self.at + padding >= self.end {
            return Ok(None);
        }
        self.read(padding as usize)?;
        let number = self.at / ALIGNMENT;
        let mut length = Vec::new();
        while length.last().is_none_or(|byte| byte & 0x80 != 0) && length.len() < 10 {
            length.extend(self.read(1)?);
        }
        let length = Bytes(&length)
            .uvarint()
            .and_then(|n| usize::try_from(n).ok());
        let length = length.filter(|n| *n <= MAX_ENTRY_BYTES);
        let length = length.context("its index has a series of impossible length")?;
        // What stands behind the last one is no series.
        if length == 0 {
            return Ok(None);
        }
        let entry = self.read(length)?;
        let checksum = self.read(4)?;
        check(&entry, &checksum, "a series of its index")?;
        let (labels, chunks) = series(&entry).context("a series of its index is damaged")?;
        Ok(Some(Series {
            number,
            labels,
            chunks,
        }))
    }

    fn symbol(&self, number: u64) -> Option<&str> {
        let start = *self.starts.get(usize::try_from(number).ok()?)? as usize;
        let mut bytes = Bytes(self.symbols.get(start..)?);
        let length = usize::try_from(bytes.uvarint()?).ok()?;
        std::str::from_utf8(bytes.take(length)?).ok()
    }

    pub(super) fn labels(&self, symbols: &[(u64, u64)]) -> anyhow::Result<Vec<Label>> {
        let label = |(name, value): &(u64, u64)| {
            Some(Label {
                name: self.symbol(*name)?.to_owned(),
                value: self.symbol(*value)?.to_owned(),
            })
        };
        let labels: Option<Vec<Label>> = symbols.iter().map(label).collect();
        labels.context("a series of its index names symbols that are not there")
    }

    /// Times of a series that were deleted, from and to.
    pub(super) fn deleted(&self, number: u64) -> Vec<(i64, i64)> {
        self.deleted.get(&number).cloned().unwrap_or_default()
    }

    /// Encoding and bytes of a chunk.
    pub(super) fn chunk(&self, ChunkRef(at): ChunkRef) -> anyhow::Result<(u8, Vec<u8>)> {
        let place = || format!("the chunk at {} of file {}", at as u32, (at >> 32) + 1);
        let file = self.chunks.get((at >> 32) as usize);
        let file = file.with_context(|| format!("{} is missing", place()))?;
        let mut bytes = vec![0; FIRST_READ_BYTES];
        let offset = u64::from(at as u32);
        let read = file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        let mut head = Bytes(&bytes);
        let length = head.uvarint().and_then(|n| usize::try_from(n).ok());
        let length = length.filter(|n| *n <= MAX_ENTRY_BYTES);
        let length = length.with_context(|| format!("{} is damaged", place()))?;
        let start = bytes.len() - head.0.len();
        // The encoding, the data and a checksum.
        let end = start + 1 + length + 4;
        if bytes.len() < end {
            bytes.resize(end, 0);
            file.read_exact_at(&mut bytes, offset)
                .with_context(|| format!("{} ends early", place()))?;
        }
        let (data, checksum) = bytes[start..end].split_at(1 + length);
        check(data, checksum, &place())?;
        Ok((data[0], data[1..].to_vec()))
    }
}

/// The table of symbols, and where each begins.
fn symbols(index: &File, at: u64, size: u64) -> anyhow::Result<(Vec<u8>, Vec<u32>)> {
    let mut head = [0; 8];
    index
        .read_exact_at(&mut head, at)
        .context("its index has no symbols")?;
    let mut reader = Bytes(&head);
    let (length, count) = (reader.u32().unwrap_or(0), reader.u32().unwrap_or(0));
    let length = (length as usize).checked_sub(4);
    let length = length.filter(|length| at + 12 + *length as u64 <= size);
    let length = length.context("the symbols of its index are damaged")?;
    let mut bytes = vec![0; length + 4];
    index.read_exact_at(&mut bytes, at + 8)?;
    let checksum = bytes.split_off(length);
    let hash = crc32c::crc32c_append(crc32c::crc32c(&head[4..]), &bytes);
    ensure!(
        hash.to_be_bytes() == *checksum,
        "the symbols of its index are damaged: their checksum is wrong"
    );
    let mut starts = Vec::new();
    let mut reader = Bytes(&bytes);
    for _ in 0..count {
        starts.push((length - reader.0.len()) as u32);
        let length = reader.uvarint().and_then(|n| usize::try_from(n).ok());
        let symbol = length.and_then(|length| reader.take(length));
        symbol.context("the symbols of its index are damaged")?;
    }
    Ok((bytes, starts))
}

/// Labels and chunks of a series.
fn series(entry: &[u8]) -> Option<(Vec<(u64, u64)>, Vec<ChunkRef>)> {
    let mut reader = Bytes(entry);
    let mut labels = Vec::new();
    for _ in 0..reader.uvarint()? {
        labels.push((reader.uvarint()?, reader.uvarint()?));
    }
    let mut chunks = Vec::new();
    let mut place = 0u64;
    for number in 0..reader.uvarint()? {
        // Times, which the chunks say as well.
        if number == 0 {
            reader.varint()?;
            reader.uvarint()?;
            place = reader.uvarint()?;
        } else {
            reader.uvarint()?;
            reader.uvarint()?;
            place = place.wrapping_add(reader.varint()? as u64);
        }
        chunks.push(ChunkRef(place));
    }
    Some((labels, chunks))
}

/// What was deleted, by the number of the series.
fn tombstones(path: &Path) -> anyhow::Result<HashMap<u64, Vec<(i64, i64)>>> {
    let Ok(bytes) = std::fs::read(path) else {
        return Ok(HashMap::new());
    };
    let damaged = || format!("{} is damaged", path.display());
    ensure!(
        bytes.starts_with(&TOMBSTONES_MAGIC) && bytes.len() >= 9,
        damaged()
    );
    let (entries, checksum) = bytes[5..].split_at(bytes.len() - 9);
    check(entries, checksum, &format!("{}", path.display()))?;
    let mut found: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
    let mut reader = Bytes(entries);
    while !reader.0.is_empty() {
        let mut entry = || Some((reader.uvarint()?, reader.varint()?, reader.varint()?));
        let (series, from, to) = entry().with_context(damaged)?;
        found.entry(series).or_default().push((from, to));
    }
    Ok(found)
}
