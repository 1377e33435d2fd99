//! Bytes of segments on a local disk, so that a store that is far away is asked for them once.
//!
//! Objects of segments never change, so that nothing is ever invalidated. Each is cut into blocks
//! of [`BLOCK_BYTES`]; a block is kept under the segment's id, the file and its number. What comes
//! from the disk was checked by `foyer`; a disk that fails, is full, or whose files were deleted or
//! changed makes reads slower and nothing else.

use std::fmt;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, RecoverMode,
};
use futures::{StreamExt, stream};

/// Size of a block. A read that needs a byte of a block reads all of it: for the store a few pages
/// more are nothing beside the time of a request.
pub const BLOCK_BYTES: u64 = 64 << 10;

/// Blocks that are looked up at a time for one read.
const LOOKUPS_AT_ONCE: usize = 16;
/// Memory for blocks that were just used, or are on their way to the disk.
const MEMORY_BYTES: usize = 16 << 20;
/// What the disk is written and given free in.
const FILE_BYTES: usize = 16 << 20;
/// Less cannot be divided into files.
const LEAST_BYTES: u64 = 4 * FILE_BYTES as u64;

/// Which file of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentFile {
    /// The rows.
    Data,
    /// The series index.
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BlockKey {
    segment: u128,
    file: SegmentFile,
    block: u64,
}

impl Code for BlockKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        self.segment.encode(writer)?;
        u8::from(self.file == SegmentFile::Index).encode(writer)?;
        self.block.encode(writer)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        Ok(Self {
            segment: u128::decode(reader)?,
            file: match u8::decode(reader)? {
                0 => SegmentFile::Data,
                _ => SegmentFile::Index,
            },
            block: u64::decode(reader)?,
        })
    }

    fn estimated_size(&self) -> usize {
        size_of::<u128>() + size_of::<u8>() + size_of::<u64>()
    }
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum DiskCacheError {
    /// It is too small to be used.
    #[error("{0} bytes are too few for a cache, at least {LEAST_BYTES} are needed")]
    TooSmall(u64),
    /// The directory cannot be used.
    #[error("{}: {error}", directory.display())]
    Directory {
        /// The directory of the cache.
        directory: PathBuf,
        /// What was tried last.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a cache did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCacheCounts {
    /// Blocks that were found.
    pub hits: u64,
    /// Blocks that were not.
    pub misses: u64,
    /// Bytes read from the disk.
    pub read_bytes: u64,
    /// Bytes written to it.
    pub written_bytes: u64,
    /// Bytes that it may take.
    pub limit_bytes: u64,
}

/// The cache of a process.
pub struct DiskCache {
    blocks: HybridCache<BlockKey, Bytes>,
    directory: PathBuf,
    limit_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    complained: AtomicBool,
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskCache")
            .field("directory", &self.directory)
            .field("limit_bytes", &self.limit_bytes)
            .finish_non_exhaustive()
    }
}

impl DiskCache {
    /// A cache in a directory of its own, with what an earlier process left there. It takes at most
    /// so many bytes.
    ///
    /// # Errors
    /// The directory cannot be created or written.
    pub async fn open(directory: &Path, bytes: u64) -> Result<Arc<Self>, DiskCacheError> {
        let error = |error: Box<dyn std::error::Error + Send + Sync>| DiskCacheError::Directory {
            directory: directory.to_owned(),
            error,
        };
        if bytes < LEAST_BYTES {
            return Err(DiskCacheError::TooSmall(bytes));
        }
        std::fs::create_dir_all(directory).map_err(|refused| error(refused.into()))?;
        let capacity = usize::try_from(bytes).unwrap_or(usize::MAX) / FILE_BYTES * FILE_BYTES;
        let device = FsDeviceBuilder::new(directory)
            .with_capacity(capacity)
            .build()
            .map_err(|refused| error(refused.into()))?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(FILE_BYTES)
            .with_buffer_pool_size(MEMORY_BYTES);
        let blocks = HybridCacheBuilder::new()
            .with_name("segments")
            // A process that is killed has on disk what it has read.
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(MEMORY_BYTES)
            .with_weighter(|_: &BlockKey, block: &Bytes| block.len())
            .storage()
            .with_engine_config(engine)
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await
            .map_err(|refused| error(refused.into()))?;
        Ok(Arc::new(Self {
            blocks,
            directory: directory.to_owned(),
            limit_bytes: capacity as u64,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            complained: AtomicBool::new(false),
        }))
    }

    /// How it did so far.
    pub fn counts(&self) -> DiskCacheCounts {
        let disk = self.blocks.statistics();
        DiskCacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            read_bytes: disk.disk_read_bytes() as u64,
            written_bytes: disk.disk_write_bytes() as u64,
            limit_bytes: self.limit_bytes,
        }
    }

    /// Waits until what was put is on the disk. Nothing is lost without it but time.
    pub async fn close(&self) {
        if let Err(error) = self.blocks.close().await {
            self.complain(&error);
        }
    }

    async fn get(&self, key: BlockKey) -> Option<Bytes> {
        match self.blocks.get(&key).await {
            Ok(found) => found.map(|entry| entry.value().clone()),
            Err(error) => {
                self.complain(&error);
                None
            }
        }
    }

    fn complain(&self, error: &foyer::Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                directory = %self.directory.display(),
                %error,
                "the cache on disk fails; reads go to the store"
            );
        }
    }
}

/// Blocks of one file that a read needs: those that are there, and what is missing.
#[derive(Debug)]
pub(super) struct BlockRead<'a> {
    cache: &'a DiskCache,
    segment: u128,
    file: SegmentFile,
    file_bytes: u64,
    /// Ascending, with what is known of each.
    blocks: Vec<(u64, Option<Bytes>)>,
}

impl<'a> BlockRead<'a> {
    /// Looks up what `ranges` of a file of so many bytes touch.
    pub async fn look_up(
        cache: &'a DiskCache,
        segment: u128,
        file: SegmentFile,
        file_bytes: u64,
        ranges: &[Range<u64>],
    ) -> BlockRead<'a> {
        let mut numbers: Vec<u64> = ranges
            .iter()
            .filter(|range| range.start < range.end)
            .flat_map(|range| range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let key = |block| BlockKey {
            segment,
            file,
            block,
        };
        let blocks: Vec<(u64, Option<Bytes>)> = stream::iter(numbers)
            .map(|block| async move { (block, cache.get(key(block)).await) })
            .buffered(LOOKUPS_AT_ONCE)
            .collect()
            .await;
        let mut read = Self {
            cache,
            segment,
            file,
            file_bytes,
            blocks,
        };
        // A block of another length is of no use.
        for at in 0..read.blocks.len() {
            let (block, bytes) = &read.blocks[at];
            let wanted = read.range(*block);
            if bytes
                .as_ref()
                .is_some_and(|bytes| bytes.len() as u64 != wanted.end - wanted.start)
            {
                read.blocks[at].1 = None;
            }
        }
        let misses = read.blocks.iter().filter(|(_, found)| found.is_none());
        let misses = misses.count() as u64;
        cache.misses.fetch_add(misses, Ordering::Relaxed);
        cache
            .hits
            .fetch_add(read.blocks.len() as u64 - misses, Ordering::Relaxed);
        read
    }

    fn range(&self, block: u64) -> Range<u64> {
        let start = block * BLOCK_BYTES;
        start..(start + BLOCK_BYTES).min(self.file_bytes)
    }

    /// How many blocks were found.
    pub fn hits(&self) -> usize {
        self.blocks
            .iter()
            .filter(|(_, found)| found.is_some())
            .count()
    }

    /// What has to be read from the store, neighbours as one range.
    pub fn missing(&self) -> Vec<Range<u64>> {
        let mut missing: Vec<Range<u64>> = Vec::new();
        for (block, _) in self.blocks.iter().filter(|(_, found)| found.is_none()) {
            let range = self.range(*block);
            match missing.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => missing.push(range),
            }
        }
        missing
    }

    /// Takes what was missing, as it came from the store, and keeps it.
    pub fn fill(&mut self, missing: &[Range<u64>], read: &[Bytes]) {
        for (range, bytes) in missing.iter().zip(read) {
            for at in 0..self.blocks.len() {
                let (block, _) = self.blocks[at];
                let wanted = self.range(block);
                if wanted.start < range.start || wanted.end > range.end {
                    continue;
                }
                let from = (wanted.start - range.start) as usize;
                // A copy: the cache would keep all that was read beside it.
                let bytes = Bytes::copy_from_slice(
                    &bytes[from..from + (wanted.end - wanted.start) as usize],
                );
                let key = BlockKey {
                    segment: self.segment,
                    file: self.file,
                    block,
                };
                self.cache.blocks.insert(key, bytes.clone());
                self.blocks[at].1 = Some(bytes);
            }
        }
    }

    /// The bytes of a range that was asked for; `None` if they did not come.
    pub fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        if range.start >= range.end {
            return Some(Bytes::new());
        }
        let first = range.start / BLOCK_BYTES;
        let at = self
            .blocks
            .binary_search_by_key(&first, |(block, _)| *block)
            .ok()?;
        let from = (range.start % BLOCK_BYTES) as usize;
        let mut left = (range.end - range.start) as usize;
        let block = self.blocks[at].1.as_ref()?;
        if from + left <= block.len() {
            return Some(block.slice(from..from + left));
        }
        let mut all = BytesMut::with_capacity(left);
        let mut from = from;
        for (_, block) in &self.blocks[at..] {
            let block = block.as_ref()?;
            let part = block.get(from..)?;
            let part = &part[..part.len().min(left)];
            all.extend_from_slice(part);
            left -= part.len();
            from = 0;
            if left == 0 {
                return Some(all.freeze());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
