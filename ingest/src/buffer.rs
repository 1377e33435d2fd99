//! Rows that are durable in the write-ahead log but not yet in a segment.
//!
//! Rows of a table are appended to its open chunk in the order of the log. A full chunk is frozen:
//! it never changes again, and is sorted by whoever needs it first, outside every lock. A flush
//! takes all chunks there are at one position of the log ([`Buffer::rotate`]), writes them as
//! segments and lets them go ([`Buffer::release`]) once the catalog names the segments. Until then
//! queries read them here.
//!
//! Invariants:
//! - no lock is held while rows are sorted;
//! - a row leaves the buffer only after the catalog commit that names its segment;
//! - between two rotations the chunks of a table hold exactly the log's rows between the two
//!   positions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::{TableKind, TimeRange};
use tidelake_catalog::segment::{SortedRows, WriteOrder};

mod chunk;
mod held;
mod sort;

use chunk::{Chunk, OpenChunk};
use held::Held;

use crate::rows::Rows;
use crate::series_registry::SeriesRegistry;

/// Rows of a chunk. Small enough to be sorted within milliseconds when a query meets an unsorted
/// one.
const CHUNK_ROWS: usize = 256 * 1024;
/// Bytes of a chunk: while it is sorted it takes twice as many.
const CHUNK_BYTES: usize = 16 << 20;
/// So many chunks at the end of a table that are smaller than half a chunk are merged into one:
/// queries freeze what they find, and would otherwise leave a trail of tiny chunks.
const SMALL_CHUNKS: usize = 8;

/// A table of a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The database.
    pub database: Arc<str>,
    /// The table.
    pub table: Arc<str>,
    /// Which table of this name, as the catalog counts: a dropped one and its successor share
    /// nothing.
    pub id: u64,
}

/// Sorted rows with their place in the order of writes.
#[derive(Debug, Clone)]
pub struct RecentRows {
    /// Tells these from all other rows that this process ever gives.
    pub id: u64,
    /// Where they stand among all writes.
    pub order: WriteOrder,
    /// The rows.
    pub rows: Arc<SortedRows>,
}

#[derive(Debug, Default)]
struct TableChunks {
    /// Taken by a flush that is under way.
    flushing: Vec<Arc<Chunk>>,
    /// Frozen since.
    frozen: Vec<Arc<Chunk>>,
    open: Option<OpenChunk>,
}

#[derive(Debug)]
struct TableBuffer {
    kind: TableKind,
    chunks: Mutex<TableChunks>,
}

/// What a flush has to write: all chunks of all tables at one position of the log.
#[derive(Debug)]
pub struct Rotated {
    tables: Vec<(TableName, TableKind, Vec<Arc<Chunk>>)>,
}

/// The recent rows of all tables.
#[derive(Debug)]
pub struct Buffer {
    tables: RwLock<HashMap<TableName, Arc<TableBuffer>>>,
    held: Held,
    rows: AtomicUsize,
    next_id: AtomicU64,
}

impl Buffer {
    /// An empty buffer, whose chunks count in the memory of the process.
    pub fn new(memory: &Arc<MemoryBudget>) -> Self {
        Self {
            tables: RwLock::default(),
            held: Held::new(memory),
            rows: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
        }
    }

    /// Bytes of memory of all chunks, those that a flush is writing included.
    pub fn bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Rows of all chunks, those that a flush is writing included.
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Appends rows of one table that were written together. Calls come in the order of the log,
    /// one at a time.
    pub fn append(
        &self,
        name: &TableName,
        kind: TableKind,
        registry: &Arc<SeriesRegistry>,
        rows: Rows,
        order: u64,
    ) {
        if rows.is_empty() {
            return;
        }
        let table = self.table(name, kind);
        self.rows.fetch_add(rows.len(), Ordering::Relaxed);
        let mut chunks = table.chunks.lock();
        // Numbers of series mean something only within their registry.
        if chunks.open.as_ref().is_some_and(|open| {
            !open.same_registry(registry) || !open.takes(&rows) || rows.len() >= CHUNK_ROWS / 2
        }) {
            self.freeze(&mut chunks);
        }
        let open = chunks
            .open
            .get_or_insert_with(|| OpenChunk::new(kind, Arc::clone(registry), self.held.none()));
        open.append(rows, order);
        if open.rows() >= CHUNK_ROWS || open.bytes() >= CHUNK_BYTES {
            self.freeze(&mut chunks);
        }
    }

    fn table(&self, name: &TableName, kind: TableKind) -> Arc<TableBuffer> {
        if let Some(table) = self.tables.read().get(name) {
            return Arc::clone(table);
        }
        let mut tables = self.tables.write();
        Arc::clone(tables.entry(name.clone()).or_insert_with(|| {
            Arc::new(TableBuffer {
                kind,
                chunks: Mutex::default(),
            })
        }))
    }

    fn freeze(&self, chunks: &mut TableChunks) {
        if let Some(open) = chunks.open.take() {
            chunks
                .frozen
                .push(Arc::new(Chunk::new(open, self.draw_id())));
        }
    }

    fn draw_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The rows of a table whose times may lie in the range, sorted, in no particular order of
    /// chunks.
    pub fn recent(&self, name: &TableName, range: TimeRange) -> Vec<RecentRows> {
        let Some(table) = self.tables.read().get(name).cloned() else {
            return Vec::new();
        };
        let (all, small) = {
            let mut chunks = table.chunks.lock();
            self.freeze(&mut chunks);
            let all: Vec<Arc<Chunk>> = chunks
                .flushing
                .iter()
                .chain(&chunks.frozen)
                .cloned()
                .collect();
            let small = chunks
                .frozen
                .iter()
                .rev()
                .take_while(|chunk| chunk.rows() < CHUNK_ROWS / 2)
                .count();
            (
                all,
                if small >= SMALL_CHUNKS {
                    chunks.frozen[chunks.frozen.len() - small..].to_vec()
                } else {
                    Vec::new()
                },
            )
        };
        if !small.is_empty() {
            self.consolidate(&table, &small);
        }
        let overlapping = all
            .into_iter()
            .filter(|chunk| chunk.time_range().overlaps(&range));
        overlapping.map(|chunk| chunk.recent()).collect()
    }

    /// Whether any rows of a table are not released.
    pub fn has_rows(&self, name: &TableName) -> bool {
        let Some(table) = self.tables.read().get(name).cloned() else {
            return false;
        };
        let chunks = table.chunks.lock();
        let is_empty = chunks.flushing.is_empty() && chunks.frozen.is_empty();
        !is_empty || chunks.open.as_ref().is_some_and(|open| open.rows() > 0)
    }

    /// Rows of a table that are not sorted yet.
    pub fn unsorted(&self, name: &TableName) -> usize {
        let Some(table) = self.tables.read().get(name).cloned() else {
            return 0;
        };
        let chunks = table.chunks.lock();
        let frozen = chunks.flushing.iter().chain(&chunks.frozen);
        let unsorted = frozen.filter(|chunk| !chunk.is_sorted());
        unsorted.map(|chunk| chunk.rows()).sum::<usize>()
            + chunks.open.as_ref().map_or(0, OpenChunk::rows)
    }

    /// Replaces chunks by one with the same rows. Gives up if a flush took them meanwhile.
    fn consolidate(&self, table: &TableBuffer, small: &[Arc<Chunk>]) {
        let Some(merged) = Chunk::merge(table.kind, self.draw_id(), small) else {
            return;
        };
        let mut chunks = table.chunks.lock();
        let same = |a: &[Arc<Chunk>]| {
            a.len() == small.len() && a.iter().zip(small).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let Some(at) = chunks.frozen.windows(small.len()).position(same) else {
            return;
        };
        let (before, after): (usize, usize) = (small.iter().map(|c| c.rows()).sum(), merged.rows());
        chunks
            .frozen
            .splice(at..at + small.len(), [Arc::new(merged)]);
        self.rows.fetch_sub(before - after, Ordering::Relaxed);
    }

    /// Takes all chunks for a flush. The caller makes sure that no append runs, so that the chunks
    /// hold the log up to one position. While chunks of an earlier rotation are not released
    /// the same ones come again.
    pub fn rotate(&self) -> Rotated {
        let mut names: Vec<(TableName, Arc<TableBuffer>)> = self
            .tables
            .read()
            .iter()
            .map(|(name, table)| (name.clone(), Arc::clone(table)))
            .collect();
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let take = |(name, table): (TableName, Arc<TableBuffer>)| {
            let mut chunks = table.chunks.lock();
            self.freeze(&mut chunks);
            let frozen = std::mem::take(&mut chunks.frozen);
            chunks.flushing.extend(frozen);
            (name, table.kind, chunks.flushing.clone())
        };
        Rotated {
            tables: names
                .into_iter()
                .map(take)
                .filter(|(_, _, chunks)| !chunks.is_empty())
                .collect(),
        }
    }

    /// Lets the chunks of a rotation go: the catalog names their segments.
    pub fn release(&self, rotated: &Rotated) {
        for (name, _, written) in &rotated.tables {
            let Some(table) = self.tables.read().get(name).cloned() else {
                continue;
            };
            table
                .chunks
                .lock()
                .flushing
                .retain(|chunk| !written.iter().any(|w| Arc::ptr_eq(w, chunk)));
            self.rows
                .fetch_sub(written.iter().map(|c| c.rows()).sum(), Ordering::Relaxed);
        }
    }
}

impl Buffer {
    /// Forgets tables that are not there any more and of which no rows are left.
    pub fn retain(&self, is_there: impl Fn(&TableName) -> bool) {
        let is_empty = |table: &TableBuffer| {
            let chunks = table.chunks.lock();
            chunks.flushing.is_empty() && chunks.frozen.is_empty() && chunks.open.is_none()
        };
        // Whoever appends to one now would append to a table that is gone: that one holds its own
        // handle.
        self.tables.write().retain(|name, table| {
            is_there(name) || Arc::strong_count(table) > 1 || !is_empty(table)
        });
    }
}

impl Rotated {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The tables with their sorted rows, in the order of writes.
    pub fn tables(&self) -> impl Iterator<Item = (&TableName, TableKind, Vec<RecentRows>)> {
        self.tables
            .iter()
            .map(|(name, kind, chunks)| (name, *kind, chunks.iter().map(|c| c.recent()).collect()))
    }
}

#[cfg(test)]
mod tests;
