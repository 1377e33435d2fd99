//! What a reader has asked of the store, and how much it may.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::SegmentError;

/// Counts what is read on behalf of somebody: of the whole server, of a query, of an operator of a
/// query. A meter passes what it counts on to those that it is a part of.
#[derive(Debug)]
pub struct ReadMeter {
    max_bytes: u64,
    parts_of: Vec<Arc<ReadMeter>>,
    segments: AtomicU64,
    chunks: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    disk_hits: AtomicU64,
    memory_hits: AtomicU64,
    rounds: AtomicU64,
    /// Requests that are not answered yet.
    underway: AtomicU64,
    rows: AtomicU64,
}

/// A request to the store until it is answered.
#[derive(Debug)]
pub(super) struct Underway<'a>(Option<&'a ReadMeter>);

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if let Some(meter) = self.0 {
            meter.answered();
        }
    }
}

/// The counts of a [`ReadMeter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadCounts {
    /// Segments that were looked at.
    pub segments: u64,
    /// Chunks of recent rows that were looked at.
    pub chunks: u64,
    /// Requests to the store. What a cache holds needs none.
    pub requests: u64,
    /// Bytes that they asked for.
    pub bytes: u64,
    /// How often something was asked of the store while nothing else was: with requests that all
    /// take the same time, how many one after the other.
    pub rounds: u64,
    /// Pages, and parts of indexes, that were in memory.
    pub memory_hits: u64,
    /// Blocks that the cache on disk had.
    pub disk_hits: u64,
    /// Rows that came out of segments and chunks, after overwritten and deleted ones were left
    /// out.
    pub rows: u64,
}

impl AddAssign for ReadCounts {
    fn add_assign(&mut self, more: Self) {
        self.segments += more.segments;
        self.chunks += more.chunks;
        self.requests += more.requests;
        self.bytes += more.bytes;
        self.rounds += more.rounds;
        self.memory_hits += more.memory_hits;
        self.disk_hits += more.disk_hits;
        self.rows += more.rows;
    }
}

impl ReadMeter {
    /// A meter that refuses requests beyond so many bytes.
    pub fn new(max_bytes: u64, parts_of: Vec<Arc<ReadMeter>>) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self {
            max_bytes,
            parts_of,
            segments: zero(),
            chunks: zero(),
            requests: zero(),
            bytes: zero(),
            disk_hits: zero(),
            memory_hits: zero(),
            rounds: zero(),
            underway: zero(),
            rows: zero(),
        })
    }

    /// A meter that only counts.
    pub fn unlimited(parts_of: Vec<Arc<ReadMeter>>) -> Arc<Self> {
        Self::new(u64::MAX, parts_of)
    }

    /// Counts where a scan looks.
    pub fn looked_at(&self, segments: usize, chunks: usize) {
        self.segments.fetch_add(segments as u64, Ordering::Relaxed);
        self.chunks.fetch_add(chunks as u64, Ordering::Relaxed);
        self.parts_of
            .iter()
            .for_each(|meter| meter.looked_at(segments, chunks));
    }

    /// Counts rows that were read.
    pub fn read(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.parts_of.iter().for_each(|meter| meter.read(rows));
    }

    /// Counts blocks that came from the cache on disk.
    pub fn found_on_disk(&self, blocks: usize) {
        self.disk_hits.fetch_add(blocks as u64, Ordering::Relaxed);
        let parts_of = self.parts_of.iter();
        parts_of.for_each(|meter| meter.found_on_disk(blocks));
    }

    /// Counts pages and parts of indexes that were in memory.
    pub fn found_in_memory(&self, parts: usize) {
        self.memory_hits.fetch_add(parts as u64, Ordering::Relaxed);
        let parts_of = self.parts_of.iter();
        parts_of.for_each(|meter| meter.found_in_memory(parts));
    }

    /// Says that the store is being asked until what is returned is dropped.
    pub(super) fn ask(meter: Option<&Arc<Self>>) -> Underway<'_> {
        if let Some(meter) = meter {
            meter.asked();
        }
        Underway(meter.map(Arc::as_ref))
    }

    fn asked(&self) {
        if self.underway.fetch_add(1, Ordering::Relaxed) == 0 {
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
        self.parts_of.iter().for_each(|meter| meter.asked());
    }

    fn answered(&self) {
        self.underway.fetch_sub(1, Ordering::Relaxed);
        self.parts_of.iter().for_each(|meter| meter.answered());
    }

    /// Counts requests before they are made; fails if they may not be.
    pub fn request(&self, requests: u64, bytes: u64) -> Result<(), SegmentError> {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        if self
            .bytes
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes)
            > self.max_bytes
        {
            return Err(SegmentError::ReadLimit(self.max_bytes));
        }
        self.parts_of
            .iter()
            .try_for_each(|meter| meter.request(requests, bytes))
    }

    /// Counts what another process has read.
    ///
    /// # Errors
    /// If that was more than may be read.
    pub fn add(&self, counts: ReadCounts) -> Result<(), SegmentError> {
        let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        self.looked_at(whole(counts.segments), whole(counts.chunks));
        self.read(whole(counts.rows));
        self.found_in_memory(whole(counts.memory_hits));
        self.found_on_disk(whole(counts.disk_hits));
        self.add_rounds(counts.rounds);
        self.request(counts.requests, counts.bytes)
    }

    fn add_rounds(&self, rounds: u64) {
        self.rounds.fetch_add(rounds, Ordering::Relaxed);
        let parts_of = self.parts_of.iter();
        parts_of.for_each(|meter| meter.add_rounds(rounds));
    }

    /// What was counted so far.
    pub fn counts(&self) -> ReadCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ReadCounts {
            segments: read(&self.segments),
            chunks: read(&self.chunks),
            requests: read(&self.requests),
            bytes: read(&self.bytes),
            rounds: read(&self.rounds),
            memory_hits: read(&self.memory_hits),
            disk_hits: read(&self.disk_hits),
            rows: read(&self.rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_part_reads_the_whole_has_read() {
        let query = ReadMeter::new(100, Vec::new());
        let operator = ReadMeter::unlimited(vec![Arc::clone(&query)]);
        operator.looked_at(2, 1);
        operator.request(1, 60).unwrap();
        operator.read(7);
        operator.found_on_disk(3);
        operator.found_in_memory(4);
        // Two that are asked at once are one round.
        let both = [
            ReadMeter::ask(Some(&operator)),
            ReadMeter::ask(Some(&operator)),
        ];
        drop(both);
        drop(ReadMeter::ask(Some(&operator)));
        query.request(2, 40).unwrap();
        let counts = ReadCounts {
            segments: 2,
            chunks: 1,
            requests: 1,
            bytes: 60,
            rounds: 2,
            memory_hits: 4,
            disk_hits: 3,
            rows: 7,
        };
        assert_eq!(operator.counts(), counts);
        assert_eq!(
            query.counts(),
            ReadCounts {
                requests: 3,
                bytes: 100,
                ..counts
            }
        );
        assert!(matches!(
            operator.request(1, 1),
            Err(SegmentError::ReadLimit(100))
        ));
    }
}
