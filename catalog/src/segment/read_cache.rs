//! What reading has decoded and may need again: parts of series indexes and pages of data files;
//! and the bytes below them on disk.
//!
//! Entries are named by the segment and the place in its files. Segments never change, so that
//! nothing is ever invalidated.

use std::sync::Arc;

use super::disk_cache::DiskCache;
use super::index::{IndexPart, IndexPartKey, Interned};
use super::lru::{CacheCounts, Lru};
use super::page_reader::{DecodedPage, PageKey};
use crate::memory::{MemoryBudget, OutOfMemory, Reservation, Share};

/// Half of the share of caches is for pages of data, a quarter for parts of series indexes; the
/// rest is for open segments, which others keep.
const PAGES_PART: usize = 2;
const INDEX_PART: usize = 4;

/// The caches of all segments of a process.
#[derive(Debug)]
pub struct ReadCache {
    pub(super) index: Lru<IndexPartKey, IndexPart>,
    pub(super) pages: Lru<PageKey, DecodedPage>,
    /// Label sets that are in memory.
    pub(super) interned: Interned,
    disk: Option<Arc<DiskCache>>,
    memory: Arc<MemoryBudget>,
}

impl ReadCache {
    /// Empty caches in the share of caches, over what is kept on disk of a store that is far away.
    pub fn new(memory: &Arc<MemoryBudget>, disk: Option<Arc<DiskCache>>) -> Arc<Self> {
        Arc::new(Self {
            index: Lru::new(memory, INDEX_PART),
            pages: Lru::new(memory, PAGES_PART),
            interned: Interned::default(),
            disk,
            memory: Arc::clone(memory),
        })
    }

    /// How the cache of parts of series indexes did so far.
    pub fn index_counts(&self) -> CacheCounts {
        self.index.counts()
    }

    /// How the cache of pages did so far.
    pub fn page_counts(&self) -> CacheCounts {
        self.pages.counts()
    }

    /// What is kept on disk.
    pub fn disk(&self) -> Option<&Arc<DiskCache>> {
        self.disk.as_ref()
    }

    /// Memory of a query for the series that it finds.
    pub(super) fn reserve(&self, bytes: usize) -> Result<Reservation, OutOfMemory> {
        self.memory.try_reserve(Share::Queries, bytes)
    }
}
