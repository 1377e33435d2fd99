//! The bytes of a series index: read in checked pieces, many ranges with one request to the store.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use xxhash_rust::xxh3::xxh3_64;

use super::root::CHECKED_BYTES;
use crate::segment::error::SegmentError;
use crate::segment::meter::ReadMeter;
use crate::segment::object_reader::ObjectReader;

/// An index of at most so many bytes is read whole when it is opened: a second request would take
/// longer than its bytes.
pub(super) const WHOLE_BYTES: u64 = 256 << 10;

/// Where an index lies.
#[derive(Debug, Clone)]
pub(super) struct IndexFile {
    pub object: ObjectReader,
    /// xxh3-64 of each piece of [`CHECKED_BYTES`].
    pub checksums: Arc<[u64]>,
    /// The end of the file, which stays in memory; it is checked.
    pub resident: Bytes,
}

impl IndexFile {
    /// Reads ranges of the file with all that is asked for at once.
    pub async fn read(
        &self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<IndexBytes, SegmentError> {
        let (object, file_bytes) = (self.object.name(), self.object.bytes());
        let resident = file_bytes - self.resident.len() as u64;
        let mut pieces: Vec<u64> = Vec::new();
        for range in ranges {
            if range.start > range.end || range.end > file_bytes {
                return Err(SegmentError::corrupt(
                    object,
                    format!("it refers to bytes {range:?}, and has {file_bytes}"),
                ));
            }
            let end = range.end.min(resident);
            pieces.extend(range.start / CHECKED_BYTES..end.div_ceil(CHECKED_BYTES));
        }
        pieces.sort_unstable();
        pieces.dedup();
        let mut read = HashMap::with_capacity(pieces.len());
        if !pieces.is_empty() {
            // Neighbours are one range.
            let mut runs: Vec<Range<u64>> = Vec::new();
            for &piece in &pieces {
                match runs.last_mut() {
                    Some(run) if run.end == piece => run.end += 1,
                    _ => runs.push(piece..piece + 1),
                }
            }
            let byte = |piece: u64| (piece * CHECKED_BYTES).min(resident);
            let wanted: Vec<Range<u64>> = runs
                .iter()
                .map(|run| byte(run.start)..byte(run.end))
                .collect();
            let found = self.object.ranges(&wanted, meter).await?;
            for ((run, range), bytes) in runs.iter().zip(&wanted).zip(found) {
                for piece in run.clone() {
                    let piece_bytes = bytes.slice(
                        (byte(piece) - range.start) as usize
                            ..(byte(piece + 1) - range.start) as usize,
                    );
                    if self.checksums.get(piece as usize) != Some(&xxh3_64(&piece_bytes)) {
                        return Err(SegmentError::corrupt(
                            object,
                            format!(
                                "the checksum of its bytes {}..{} does not match its root",
                                byte(piece),
                                byte(piece + 1)
                            ),
                        ));
                    }
                    read.insert(piece, piece_bytes);
                }
            }
        }
        Ok(IndexBytes(Arc::new(Read {
            bytes: file_bytes,
            resident_from: resident,
            resident: self.resident.clone(),
            pieces: read,
        })))
    }
}

/// Bytes of an index that were read and checked. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct IndexBytes(Arc<Read>);

#[derive(Debug)]
struct Read {
    bytes: u64,
    resident_from: u64,
    resident: Bytes,
    pieces: HashMap<u64, Bytes>,
}

impl IndexBytes {
    /// The bytes of a file that is in memory whole from some byte on.
    pub fn of_tail(bytes: u64, tail: Bytes) -> Self {
        Self(Arc::new(Read {
            bytes,
            resident_from: bytes - tail.len() as u64,
            resident: tail,
            pieces: HashMap::new(),
        }))
    }

    /// The bytes of a range that was asked for.
    pub fn get(&self, range: Range<u64>) -> Result<Bytes, String> {
        let read = &*self.0;
        let outside = || format!("bytes {range:?} were not read");
        if range.start >= range.end {
            return Ok(Bytes::new());
        }
        if range.start >= read.resident_from {
            let (start, end) = (
                range.start - read.resident_from,
                range.end - read.resident_from,
            );
            if end > read.resident.len() as u64 {
                return Err(outside());
            }
            return Ok(read.resident.slice(start as usize..end as usize));
        }
        let piece = |byte: u64| read.pieces.get(&(byte / CHECKED_BYTES)).ok_or_else(outside);
        let first = piece(range.start)?;
        let from = (range.start % CHECKED_BYTES) as usize;
        let len = (range.end - range.start) as usize;
        if from + len <= first.len() {
            return Ok(first.slice(from..from + len));
        }
        let mut all = BytesMut::with_capacity(len);
        all.extend_from_slice(first.get(from..).unwrap_or_default());
        while all.len() < len {
            let at = range.start + all.len() as u64;
            let part = if at >= read.resident_from {
                read.resident.get((at - read.resident_from) as usize..)
            } else {
                piece(at)?.get((at % CHECKED_BYTES) as usize..)
            };
            let part = part.filter(|part| !part.is_empty()).ok_or_else(outside)?;
            all.extend_from_slice(&part[..part.len().min(len - all.len())]);
        }
        Ok(all.freeze())
    }
}

impl Length for IndexBytes {
    fn len(&self) -> u64 {
        self.0.bytes
    }
}

impl ChunkReader for IndexBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        use bytes::Buf;
        // A reader of unknown length gets all bytes that were read from here on.
        let read = &*self.0;
        let mut end = start;
        while end < read.bytes {
            if end >= read.resident_from {
                end = read.bytes;
            } else if let Some(piece) = read.pieces.get(&(end / CHECKED_BYTES)) {
                end = end / CHECKED_BYTES * CHECKED_BYTES + piece.len() as u64;
            } else {
                break;
            }
        }
        Ok(self
            .get(start..end)
            .map_err(ParquetError::General)?
            .reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.saturating_add(length as u64);
        self.get(start..end).map_err(ParquetError::General)
    }
}
