//! What bounds a query: time, samples and bytes in memory.
//!
//! An operator reserves in a [`Charge`] what it is about to allocate: for a batch, a row or a label
//! set, not for a sample. What it hands on keeps the charge, down to the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::QueryError;
use crate::memory::{MemoryExceeded, QueryBytes, QueryPool};

/// Charges that grow little by little reserve this many bytes at least, and at most
/// [`MAX_AHEAD_BYTES`] more than they need yet.
const MIN_AHEAD_BYTES: usize = 8 << 10;
const MAX_AHEAD_BYTES: usize = 256 << 10;

/// Bytes of a hash table's entries of `entry` bytes each, at its load when it is most empty after
/// it has grown.
pub(crate) const fn table_bytes(entries: usize, entry: usize) -> usize {
    // A table has a power of two of buckets, at most seven eighths of them full, and a byte of
    // control for each.
    let buckets = entries
        .saturating_mul(8)
        .div_ceil(7)
        .checked_next_power_of_two();
    match buckets {
        Some(buckets) => buckets.saturating_mul(entry + 1),
        None => usize::MAX,
    }
}

/// Shared by all tasks of a query.
#[derive(Debug)]
pub(crate) struct Limits {
    max_samples: u64,
    held: AtomicU64,
    peak: AtomicU64,
    read: AtomicU64,
    deadline: Option<Instant>,
    canceled: AtomicBool,
    pool: Arc<QueryPool>,
    /// The plan and what else is small; keeps a block of the pool until the query ends.
    _small: QueryBytes,
}

impl Limits {
    /// Limits of a query whose plan takes about `plan_bytes`.
    pub fn new(
        max_samples: u64,
        timeout: Duration,
        pool: Arc<QueryPool>,
        plan_bytes: usize,
    ) -> Result<Arc<Self>, QueryError> {
        Ok(Arc::new(Self {
            max_samples,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            read: AtomicU64::new(0),
            deadline: Instant::now().checked_add(timeout),
            canceled: AtomicBool::new(false),
            _small: pool.try_hold(plan_bytes)?,
            pool,
        }))
    }

    /// The memory of the query.
    pub fn pool(&self) -> &Arc<QueryPool> {
        &self.pool
    }

    /// Makes every later [`Limits::check`] fail: tasks that outlive their query then stop soon.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    /// Fails if the query is out of time. Cheap enough for once per series.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.canceled.load(Ordering::Relaxed) {
            return Err(QueryError::Canceled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(QueryError::Timeout),
            _ => Ok(()),
        }
    }

    /// Most samples that may be held.
    pub fn max_samples(&self) -> u64 {
        self.max_samples
    }

    /// Reserves bytes; samples may be added.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, QueryError> {
        Ok(Charge::of(self, self.pool.try_hold(bytes)?))
    }

    /// The samples of a batch from the source, and the bytes that the source has counted for them.
    pub fn charge_read(
        self: &Arc<Self>,
        samples: u64,
        bytes: QueryBytes,
    ) -> Result<Charge, QueryError> {
        self.read.fetch_add(samples, Ordering::Relaxed);
        let mut charge = Charge::of(self, bytes);
        charge.add_samples(samples)?;
        Ok(charge)
    }

    /// How long the query may still run.
    pub fn time_left(&self) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.deadline.map_or(Duration::MAX, left)
    }

    /// Counts samples that another process has read for the query.
    pub fn read_elsewhere(&self, samples: u64) {
        self.read.fetch_add(samples, Ordering::Relaxed);
    }

    /// Samples that came from the source so far, and most that were held at a time.
    pub fn samples(&self) -> (u64, u64) {
        (
            self.read.load(Ordering::Relaxed),
            self.peak.load(Ordering::Relaxed),
        )
    }
}

/// Cancels a query when whoever waits for it goes away: work that is under way on other threads
/// notices at its next [`Limits::check`], also where nothing is awaited.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(pub Arc<Limits>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Samples that are held.
#[derive(Debug)]
struct HeldSamples {
    limits: Arc<Limits>,
    samples: u64,
}

impl HeldSamples {
    fn add(&mut self, samples: u64) -> Result<(), QueryError> {
        self.samples += samples;
        let held = self
            .limits
            .held
            .fetch_add(samples, Ordering::Relaxed)
            .saturating_add(samples);
        if held > self.limits.max_samples {
            return Err(QueryError::TooManySamples(self.limits.max_samples));
        }
        self.limits.peak.fetch_max(held, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for HeldSamples {
    fn drop(&mut self) {
        self.limits.held.fetch_sub(self.samples, Ordering::Relaxed);
    }
}

/// Samples and bytes that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    samples: HeldSamples,
    bytes: QueryBytes,
    /// Of `bytes`, those that are not just reserved for what may come.
    used: usize,
}

impl Charge {
    fn of(limits: &Arc<Limits>, bytes: QueryBytes) -> Self {
        Self {
            samples: HeldSamples {
                limits: Arc::clone(limits),
                samples: 0,
            },
            used: bytes.bytes(),
            bytes,
        }
    }

    /// Counts samples.
    pub fn add_samples(&mut self, samples: u64) -> Result<(), QueryError> {
        self.samples.add(samples)
    }

    /// Counts bytes that are about to be allocated.
    pub fn take(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.reserve(bytes)?;
        self.used += bytes;
        Ok(())
    }

    /// Makes sure that so many bytes may be taken, for what is gone again right after.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), QueryError> {
        let wanted = self.used.saturating_add(bytes);
        let Some(more) = wanted.checked_sub(self.bytes.bytes()).filter(|&n| n > 0) else {
            return Ok(());
        };
        let ahead = (self.bytes.bytes() / 8).clamp(MIN_AHEAD_BYTES, MAX_AHEAD_BYTES);
        // Near its end memory is taken byte by byte.
        if self.bytes.try_grow(more.saturating_add(ahead)).is_err() {
            self.bytes.try_grow(more)?;
        }
        Ok(())
    }

    /// Gives bytes back that were taken, as soon as they are many.
    pub fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
        if self.bytes.bytes() - self.used > 2 * MAX_AHEAD_BYTES {
            self.bytes
                .shrink(self.bytes.bytes() - self.used - MAX_AHEAD_BYTES);
        }
    }

    /// Holds exactly so many bytes from now on: what was made is there, and what it was made of is
    /// gone.
    pub fn settle(&mut self, bytes: usize) -> Result<(), QueryError> {
        if let Some(more) = bytes.checked_sub(self.bytes.bytes()).filter(|&n| n > 0) {
            self.bytes.try_grow(more)?;
        } else {
            self.bytes.shrink(self.bytes.bytes() - bytes);
        }
        self.used = bytes;
        Ok(())
    }

    /// Takes another charge over.
    pub fn merge(&mut self, mut other: Self) {
        self.samples.samples += std::mem::take(&mut other.samples.samples);
        self.used += other.used;
        self.bytes.merge(other.bytes);
    }

    /// Takes the bytes of another charge over; its samples are no longer held.
    pub fn merge_bytes(&mut self, other: Self) {
        self.used += other.used;
        self.bytes.merge(other.bytes);
    }

    /// The bytes, of which the samples are no longer held by the evaluation.
    pub fn into_bytes(self) -> QueryBytes {
        self.bytes
    }
}

impl From<MemoryExceeded> for QueryError {
    fn from(error: MemoryExceeded) -> Self {
        Self::Memory(error)
    }
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::memory::MemoryBudget;

    use super::*;
    use crate::memory::QueryMemory;

    #[test]
    fn charges_reserve_ahead_and_settle_to_what_is_held() {
        let pool = QueryMemory::new(MemoryBudget::unlimited(), 100_000).pool();
        let limits = Limits::new(100, Duration::MAX, Arc::clone(&pool), 10).unwrap();
        let mut charge = limits.charge(0).unwrap();
        charge.take(100).unwrap();
        assert!(pool.used() > 1000, "{}", pool.used());
        charge.settle(100).unwrap();
        assert_eq!(pool.used(), 110);
        let mut other = limits.charge(50).unwrap();
        // Too near to the end to reserve ahead.
        other.take(99_800).unwrap();
        let refused = other.take(100).unwrap_err();
        assert!(
            refused.to_string().contains("max_query_memory_bytes"),
            "{refused}"
        );
        charge.merge(other);
        charge.settle(7).unwrap();
        assert_eq!(pool.used(), 17);
        drop((charge, limits));
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn samples_are_counted_beside_bytes() {
        let pool = QueryMemory::unlimited().pool();
        let limits = Limits::new(100, Duration::MAX, pool, 0).unwrap();
        let mut charge = limits.charge(0).unwrap();
        charge.add_samples(60).unwrap();
        let refused = limits.charge(0).unwrap().add_samples(41);
        assert_eq!(refused, Err(QueryError::TooManySamples(100)));
        limits.charge(0).unwrap().add_samples(40).unwrap();
        assert_eq!(limits.samples(), (0, 100));
    }
}
