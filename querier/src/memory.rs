//! The memory of queries, SQL and PromQL alike.
//!
//! Each query has a [`QueryPool`]: what it holds is counted there and, in blocks, in the share of
//! queries of the process' memory budget. The pool is DataFusion's memory pool for the operators of
//! a SQL query, Arrow's for the buffers that functions make ([`ClaimPool`]), and [`QueryBytes`] for
//! everything else, answers that are being written included. A query that wants more than it may
//! have fails alone.

use std::fmt;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use tidelake_catalog::memory::{MemoryBudget, OutOfMemory, Reservation, Share};

/// Pools reserve blocks of this many bytes, so that most growth takes no lock of the process.
const BLOCK_BYTES: usize = 256 << 10;

/// Where queries have their memory from.
#[derive(Debug, Clone)]
pub struct QueryMemory {
    budget: Arc<MemoryBudget>,
    max_query_bytes: usize,
}

/// A query wants more memory than it may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryExceeded {
    /// More than one query may have.
    #[error(
        "the query needs more memory than it may have: it holds {used} bytes, wants {wanted} \
         more, and may have {limit} (setting max_query_memory_bytes); narrow it"
    )]
    Query {
        /// Bytes that the query holds.
        used: usize,
        /// Bytes that it asked for.
        wanted: usize,
        /// Bytes that it may hold.
        limit: usize,
    },
    /// More than is left of the share of queries.
    #[error("the queries that run need more memory than there is: {0}; try again later")]
    Queries(#[from] OutOfMemory),
}

impl QueryMemory {
    /// Queries that may hold at most `max_query_bytes` each.
    pub fn new(budget: Arc<MemoryBudget>, max_query_bytes: usize) -> Self {
        Self {
            budget,
            max_query_bytes,
        }
    }

    /// Without any bound, for tests and tools.
    pub fn unlimited() -> Self {
        Self::new(MemoryBudget::unlimited(), usize::MAX)
    }

    /// The pool of a new query.
    pub fn pool(&self) -> Arc<QueryPool> {
        Arc::new(QueryPool {
            max_bytes: self.max_query_bytes,
            held: Mutex::new(Held {
                used: 0,
                reserved: self.budget.empty(Share::Queries),
            }),
        })
    }
}

/// The memory of one query.
#[derive(Debug)]
pub struct QueryPool {
    max_bytes: usize,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    used: usize,
    /// At least as many bytes, in blocks.
    reserved: Reservation,
}

impl QueryPool {
    /// Counts bytes as held until what is returned is dropped.
    ///
    /// # Errors
    /// [`MemoryExceeded`] if the query may not have so much.
    pub fn try_hold(self: &Arc<Self>, bytes: usize) -> Result<QueryBytes, MemoryExceeded> {
        self.take(bytes)?;
        Ok(QueryBytes {
            pool: Arc::clone(self),
            bytes,
        })
    }

    /// Bytes that the query holds.
    pub fn used(&self) -> usize {
        self.held.lock().used
    }

    /// Most bytes that the query may hold.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    fn take(&self, bytes: usize) -> Result<(), MemoryExceeded> {
        if bytes == 0 {
            return Ok(());
        }
        let held = &mut *self.held.lock();
        let used = held.used.saturating_add(bytes);
        if used > self.max_bytes {
            return Err(MemoryExceeded::Query {
                used: held.used,
                wanted: bytes,
                limit: self.max_bytes,
            });
        }
        if let Some(more) = used.checked_sub(held.reserved.bytes()).filter(|&n| n > 0) {
            // No more is reserved than the query may use, which others could use instead.
            let most = self.max_bytes - held.reserved.bytes().min(self.max_bytes);
            let block = more.next_multiple_of(BLOCK_BYTES).min(most.max(more));
            match held.reserved.try_grow(block) {
                Ok(()) => {}
                Err(_) => held.reserved.try_grow(more)?,
            }
        }
        held.used = used;
        Ok(())
    }

    /// Counts bytes that are there already and cannot be refused any more.
    fn force(&self, bytes: usize) {
        let held = &mut *self.held.lock();
        held.used += bytes;
        if let Some(more) = held.used.checked_sub(held.reserved.bytes()) {
            held.reserved.grow(more);
        }
    }

    fn give_back(&self, bytes: usize) {
        let held = &mut *self.held.lock();
        held.used = held.used.saturating_sub(bytes);
        let needed = held.used.next_multiple_of(BLOCK_BYTES);
        if held.reserved.bytes() > needed {
            held.reserved.shrink(held.reserved.bytes() - needed);
        }
    }
}

/// Bytes that a query holds until this is dropped.
#[derive(Debug)]
pub struct QueryBytes {
    pool: Arc<QueryPool>,
    bytes: usize,
}

impl QueryBytes {
    /// Bytes that are counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts other bytes of the same query, by themselves.
    ///
    /// # Errors
    /// [`MemoryExceeded`] if the query may not have so much.
    pub fn another(&self, bytes: usize) -> Result<Self, MemoryExceeded> {
        self.pool.try_hold(bytes)
    }

    /// Counts more bytes.
    ///
    /// # Errors
    /// [`MemoryExceeded`] if the query may not have so much; then nothing has changed.
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), MemoryExceeded> {
        self.pool.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives bytes back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        if bytes > 0 {
            self.bytes -= bytes;
            self.pool.give_back(bytes);
        }
    }

    /// Holds `bytes` in all from now on.
    ///
    /// # Errors
    /// [`MemoryExceeded`] if that is more than before and too much; then nothing has changed.
    pub fn try_resize(&mut self, bytes: usize) -> Result<(), MemoryExceeded> {
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.try_grow(more)?,
            None => self.shrink(self.bytes - bytes),
        }
        Ok(())
    }

    /// Holds what other bytes of the same query hold, too.
    pub fn merge(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.pool, &other.pool));
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for QueryBytes {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query(max_bytes: {})", self.max_bytes)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.force(additional);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.give_back(shrink);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Result<(), DataFusionError> {
        self.take(additional)
            .map_err(|error| DataFusionError::ResourcesExhausted(error.to_string()))
    }

    fn reserved(&self) -> usize {
        self.used()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.max_bytes)
    }
}

/// The same pool for Arrow: a buffer that was claimed for it is counted as long as it lives.
///
/// A claim cannot be refused, so what is large is reserved before it is made, and the reservation
/// given up when the buffers are claimed.
#[derive(Debug, Clone)]
pub struct ClaimPool(pub Arc<QueryPool>);

#[derive(Debug)]
struct Claimed {
    pool: Arc<QueryPool>,
    bytes: usize,
}

impl arrow_buffer::MemoryPool for ClaimPool {
    fn reserve(&self, size: usize) -> Box<dyn arrow_buffer::MemoryReservation> {
        self.0.force(size);
        Box::new(Claimed {
            pool: Arc::clone(&self.0),
            bytes: size,
        })
    }

    fn available(&self) -> isize {
        isize::try_from(self.0.max_bytes.saturating_sub(self.0.used())).unwrap_or(isize::MAX)
    }

    fn used(&self) -> usize {
        self.0.used()
    }

    fn capacity(&self) -> usize {
        self.0.max_bytes
    }
}

impl arrow_buffer::MemoryReservation for Claimed {
    fn size(&self) -> usize {
        self.bytes
    }

    fn resize(&mut self, new_size: usize) {
        if let Some(more) = new_size.checked_sub(self.bytes) {
            self.pool.force(more);
        } else {
            self.pool.give_back(self.bytes - new_size);
        }
        self.bytes = new_size;
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.pool.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Int64Array};

    use super::*;

    /// Queries may have 20 MB together, and borrow 27.5 more; one of them 30.
    fn memory() -> (Arc<MemoryBudget>, QueryMemory) {
        let budget = Arc::new(MemoryBudget::new(100_000_000));
        (Arc::clone(&budget), QueryMemory::new(budget, 30_000_000))
    }

    #[test]
    fn a_query_that_wants_too_much_fails_alone() {
        let (budget, memory) = memory();
        let (one, other) = (memory.pool(), memory.pool());
        let held = one.try_hold(30_000_000).unwrap();
        let refused = one.try_hold(1).unwrap_err();
        assert!(matches!(refused, MemoryExceeded::Query { .. }), "{refused}");
        let refused = other.try_hold(25_000_000).unwrap_err();
        assert!(matches!(refused, MemoryExceeded::Queries(_)), "{refused}");
        let small = other.try_hold(10_000_000).unwrap();
        drop((held, small));
        assert_eq!((one.used(), other.used(), budget.used()), (0, 0, 0));
    }

    #[test]
    fn a_claimed_buffer_counts_as_long_as_it_lives() {
        let (budget, memory) = memory();
        let pool = memory.pool();
        let array = Int64Array::from(vec![1; 10_000]);
        array.claim(&ClaimPool(Arc::clone(&pool)));
        assert!(pool.used() >= 80_000, "{}", pool.used());
        let slice = array.slice(5, 10);
        drop(array);
        assert!(pool.used() >= 80_000, "{}", pool.used());
        drop(slice);
        assert_eq!((pool.used(), budget.used()), (0, 0));
    }
}
