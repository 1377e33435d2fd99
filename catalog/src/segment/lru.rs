//! A cache of things that never change, bounded by bytes; what was not used for longest goes first.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::memory::{MemoryBudget, Reservation, Share};

/// How often a cache had what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheCounts {
    /// Entries that were there.
    pub hits: u64,
    /// Entries that had to be read.
    pub misses: u64,
    /// Entries that were let go for others.
    pub evictions: u64,
    /// Bytes of the entries that are there.
    pub bytes: usize,
}

/// A cache in a part of the share of caches.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    inner: Mutex<Inner<K, V>>,
    memory: Arc<MemoryBudget>,
    /// One part in so many of the share.
    part: usize,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Debug)]
struct Inner<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// The memory of the entries.
    held: Reservation,
    uses: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Lru<K, V> {
    /// An empty cache of one part in `part` of the share of caches.
    pub fn new(memory: &Arc<MemoryBudget>, part: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                held: memory.empty(Share::Caches),
                uses: 0,
            }),
            memory: Arc::clone(memory),
            part: part.max(1),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Bytes that it may hold at present.
    pub fn limit(&self) -> usize {
        self.memory.limit(Share::Caches) / self.part
    }

    /// What happened so far.
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            bytes: self.inner.lock().held.bytes(),
        }
    }

    /// For each key what is there.
    pub fn get(&self, keys: impl IntoIterator<Item = K>) -> Vec<Option<V>> {
        let mut inner = self.inner.lock();
        inner.uses += 1;
        let used = inner.uses;
        let found: Vec<Option<V>> = keys
            .into_iter()
            .map(|key| {
                let entry = inner.entries.get_mut(&key)?;
                entry.used = used;
                Some(entry.value.clone())
            })
            .collect();
        drop(inner);
        let hits = found.iter().flatten().count();
        self.hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.misses
            .fetch_add((found.len() - hits) as u64, Ordering::Relaxed);
        found
    }

    /// Keeps values of so many bytes.
    pub fn insert(&self, values: impl IntoIterator<Item = (K, V, usize)>) {
        let limit = self.limit();
        let mut inner = self.inner.lock();
        let used = inner.uses;
        for (key, value, bytes) in values {
            let bytes = bytes + size_of::<(K, Entry<V>)>();
            inner.held.grow(bytes);
            let entry = Entry { value, bytes, used };
            if let Some(before) = inner.entries.insert(key, entry) {
                inner.held.shrink(before.bytes);
            }
        }
        let evicted = inner.evict(limit);
        drop(inner);
        self.evictions.fetch_add(evicted, Ordering::Relaxed);
    }
}

impl<K: Copy + Eq + Hash, V> Inner<K, V> {
    /// Lets go what was not used for longest, down to nine tenths, so that not every further entry
    /// pays for sorting.
    fn evict(&mut self, limit: usize) -> u64 {
        if self.held.bytes() <= limit {
            return 0;
        }
        let mut by_use: Vec<(u64, K)> = self
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let memory = Arc::new(MemoryBudget::new(usize::MAX / 4).with_cap(Share::Caches, 20_000));
        let cache: Lru<u32, u32> = Lru::new(&memory, 2);
        for key in 0..10 {
            cache.insert([(key, key * 2, 800)]);
            assert_eq!(cache.get([key, 0]), [Some(key * 2), Some(0)]);
        }
        cache.insert([(10, 20, 5_000)]);
        assert_eq!(cache.get([0, 1, 10]), [Some(0), None, Some(20)]);
        let counts = cache.counts();
        assert!(counts.bytes <= 10_000 && counts.evictions > 0, "{counts:?}");
        assert_eq!(memory.state(Share::Caches).used, counts.bytes);
        cache.insert([(0, 1, 100)]);
        assert_eq!(cache.get([0]), [Some(1)]);
        drop(cache);
        assert_eq!(memory.state(Share::Caches).used, 0);
    }
}
