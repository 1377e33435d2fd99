//! What lookups in series indexes have read: blocks of values, postings, and pages of series.
//!
//! Entries are named by the segment and the place in its index. Segments never change, so that
//! nothing is ever invalidated; what was not used for longest goes first. Label sets are shared
//! between all pages, for a series is in the segments of many days.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::IndexedSeries;
use super::dictionary::Block;
use super::positions::Positions;
use super::rows::{Pairs, labels};
use crate::memory::{MemoryBudget, OutOfMemory, Reservation, Share};
use crate::segment::series::Series;

/// Which part of which index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub segment: u128,
    pub part: Part,
}

/// A part of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Values, by label and block.
    Block(u32, u32),
    /// Postings, by where they begin in the file.
    Postings(u64),
    /// Series, by page.
    Page(u32),
}

/// What was read.
#[derive(Debug, Clone)]
pub(super) enum Cached {
    Block(Arc<Block>),
    Postings(Arc<Positions>),
    Page(Arc<[IndexedSeries]>),
}

impl Cached {
    fn memory_size(&self) -> usize {
        let held = match self {
            Self::Block(block) => block.memory_size(),
            Self::Postings(positions) => positions.memory_size(),
            // Of label sets that other pages have, too, each counts its own.
            Self::Page(series) => series.iter().map(IndexedSeries::memory_size).sum(),
        };
        size_of::<(Key, Entry)>() + held
    }
}

#[derive(Debug)]
struct Entry {
    cached: Cached,
    bytes: usize,
    used: u64,
}

#[derive(Debug)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// The memory of the entries.
    held: Reservation,
    uses: u64,
}

/// How often an [`IndexCache`] had what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexCacheCounts {
    /// Parts that were there.
    pub hits: u64,
    /// Parts that had to be read.
    pub misses: u64,
    /// Parts that were let go for others.
    pub evictions: u64,
    /// Bytes of the parts that are there.
    pub bytes: usize,
}

/// Parts of series indexes, within half of the share of caches.
#[derive(Debug)]
pub struct IndexCache {
    inner: Mutex<Inner>,
    memory: Arc<MemoryBudget>,
    interned: Interned,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

impl IndexCache {
    /// An empty cache.
    pub fn new(memory: &Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                held: memory.empty(Share::Caches),
                uses: 0,
            }),
            memory: Arc::clone(memory),
            interned: Interned::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        })
    }

    /// What happened so far.
    pub fn counts(&self) -> IndexCacheCounts {
        IndexCacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            bytes: self.inner.lock().held.bytes(),
        }
    }

    /// Memory of a query for what it finds.
    pub(super) fn reserve(&self, bytes: usize) -> Result<Reservation, OutOfMemory> {
        self.memory.try_reserve(Share::Queries, bytes)
    }

    /// The label sets that its pages share.
    pub(super) fn interned(&self) -> &Interned {
        &self.interned
    }

    /// For each part what is there.
    pub(super) fn get(
        &self,
        segment: u128,
        parts: impl IntoIterator<Item = Part>,
    ) -> Vec<Option<Cached>> {
        let mut inner = self.inner.lock();
        inner.uses += 1;
        let used = inner.uses;
        let found: Vec<Option<Cached>> = parts
            .into_iter()
            .map(|part| {
                let entry = inner.entries.get_mut(&Key { segment, part })?;
                entry.used = used;
                Some(entry.cached.clone())
            })
            .collect();
        drop(inner);
        let hits = found.iter().flatten().count();
        self.hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.misses
            .fetch_add((found.len() - hits) as u64, Ordering::Relaxed);
        found
    }

    /// Keeps parts that were read.
    pub(super) fn insert(&self, segment: u128, parts: impl IntoIterator<Item = (Part, Cached)>) {
        let limit = self.memory.limit(Share::Caches) / 2;
        let mut inner = self.inner.lock();
        let used = inner.uses;
        for (part, cached) in parts {
            let bytes = cached.memory_size();
            let entry = Entry {
                cached,
                bytes,
                used,
            };
            inner.held.grow(bytes);
            if let Some(before) = inner.entries.insert(Key { segment, part }, entry) {
                inner.held.shrink(before.bytes);
            }
        }
        let evicted = inner.evict(limit);
        drop(inner);
        self.evictions.fetch_add(evicted, Ordering::Relaxed);
    }
}

impl Inner {
    /// Lets go what was not used for longest, down to nine tenths, so that not every further part
    /// pays for sorting.
    fn evict(&mut self, limit: usize) -> u64 {
        if self.held.bytes() <= limit {
            return 0;
        }
        let mut by_use: Vec<(u64, Key)> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.used, *key))
            .collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        let mut evicted = 0;
        for (_, key) in by_use {
            if self.held.bytes() <= limit / 10 * 9 {
                break;
            }
            if let Some(entry) = self.entries.remove(&key) {
                self.held.shrink(entry.bytes);
                evicted += 1;
            }
        }
        evicted
    }
}

/// Label sets that are in memory, by series id.
#[derive(Debug, Default)]
pub(super) struct Interned(Mutex<Interning>);

/// The same while it is added to.
#[derive(Debug, Default)]
pub(super) struct Interning {
    series: HashMap<u64, Weak<Series>>,
    /// With so many entries those are looked for that nothing uses any more.
    sweep_at: usize,
}

impl Interned {
    pub fn lock(&self) -> MutexGuard<'_, Interning> {
        self.0.lock()
    }
}

impl Interning {
    /// The series of these labels: one that is in memory, or a new one.
    pub fn series(&mut self, id: u64, pairs: Pairs<'_>) -> Arc<Series> {
        let known = self.series.get(&id).and_then(Weak::upgrade);
        if let Some(known) = known
            && known.labels.iter().eq(pairs.clone())
        {
            return known;
        }
        let labels = labels(pairs);
        let series = Arc::new(Series { id, labels });
        if self.series.len() >= self.sweep_at {
            self.series.retain(|_, series| series.strong_count() > 0);
            self.sweep_at = (self.series.len() * 2).max(1024);
        }
        self.series.insert(id, Arc::downgrade(&series));
        series
    }
}
