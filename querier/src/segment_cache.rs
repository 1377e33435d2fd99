//! Open segments: roots of series indexes and footers, the part of a segment that every query
//! needs.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tidelake_catalog::segment::{OpenSegment, SegmentError};
use tidelake_catalog::snapshot::{SegmentId, SegmentMeta};
use tokio::sync::OnceCell;

#[derive(Default)]
struct Entry {
    segment: Arc<OnceCell<Arc<OpenSegment>>>,
    bytes: usize,
    used: u64,
}

struct Inner {
    entries: HashMap<SegmentId, Entry>,
    /// The memory of the entries.
    held: Reservation,
}

/// Open segments, within a quarter of the share of caches; the ones not used for longest go first.
pub(crate) struct SegmentCache {
    inner: Mutex<Inner>,
    memory: Arc<MemoryBudget>,
    uses: AtomicU64,
}

impl SegmentCache {
    /// An empty cache in the share of caches: it keeps what that leaves.
    pub(crate) fn new(memory: &Arc<MemoryBudget>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                held: memory.empty(Share::Caches),
            }),
            memory: Arc::clone(memory),
            uses: AtomicU64::new(0),
        }
    }

    /// The open segment; `open` runs once however many ask at a time. A failure is not remembered.
    pub(crate) async fn open<F, Fut>(
        &self,
        meta: &SegmentMeta,
        open: F,
    ) -> Result<Arc<OpenSegment>, SegmentError>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<OpenSegment, SegmentError>>,
    {
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        let cell = {
            let mut inner = self.inner.lock();
            let entry = inner.entries.entry(meta.id).or_default();
            entry.used = used;
            Arc::clone(&entry.segment)
        };
        if let Some(segment) = cell.get() {
            return Ok(Arc::clone(segment));
        }
        let _opening = Opening {
            cache: self,
            id: meta.id,
            cell: &cell,
        };
        let opened = cell
            .get_or_try_init(|| async { Ok::<_, SegmentError>(Arc::new(open().await?)) })
            .await
            .cloned();
        let mut inner = self.inner.lock();
        match &opened {
            Ok(segment) if segment.damage().is_none() => {
                let bytes = segment.memory_size();
                if let Some(entry) = inner.entries.get_mut(&meta.id)
                    && entry.bytes == 0
                {
                    entry.bytes = bytes;
                    // It is there: what does not fit is let go.
                    inner.held.grow(bytes);
                }
                inner.evict(self.memory.limit(Share::Caches) / 4);
            }
            // Nor is a damaged one kept: it may be restored at any time.
            _ => inner.remove(meta.id),
        }
        opened
    }

    /// Whether a segment is open, or being opened.
    pub(crate) fn has(&self, id: SegmentId) -> bool {
        self.inner.lock().entries.contains_key(&id)
    }

    /// Has a segment opened anew.
    pub(crate) fn forget(&self, id: SegmentId) {
        self.inner.lock().remove(id);
    }
}

/// Somebody who opens a segment. If all give up, no entry is left.
struct Opening<'a> {
    cache: &'a SegmentCache,
    id: SegmentId,
    cell: &'a Arc<OnceCell<Arc<OpenSegment>>>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if self.cell.initialized() {
            return;
        }
        let mut inner = self.cache.inner.lock();
        // The entry has one, and each that opens it.
        let is_last = Arc::strong_count(self.cell) <= 2;
        let entry = inner.entries.get(&self.id);
        if is_last && entry.is_some_and(|entry| Arc::ptr_eq(&entry.segment, self.cell)) {
            inner.remove(self.id);
        }
    }
}

impl Inner {
    fn remove(&mut self, id: SegmentId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.held.shrink(entry.bytes);
        }
    }

    fn evict(&mut self, limit: usize) {
        if self.held.bytes() <= limit {
            return;
        }
        // Down to nine tenths, so that not every further segment pays for sorting.
        let mut by_use: Vec<(u64, SegmentId)> = self
            .entries
            .iter()
            .filter(|(_, e)| e.bytes > 0)
            .map(|(id, e)| (e.used, *id))
            .collect();
        by_use.sort_unstable();
        for (_, id) in by_use {
            if self.held.bytes() <= limit / 10 * 9 {
                break;
            }
            self.remove(id);
        }
    }
}
