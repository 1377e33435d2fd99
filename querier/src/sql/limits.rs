//! What one query may use, where everything that computes for it finds it.
//!
//! [`QueryLimits`] is the memory pool of the query's operators and an extension of its
//! configuration, through which functions reach it, during planning and after. So every task of a
//! query holds its limits, and what [`QueryLimits::new`] is given to hold is dropped when the last
//! of them has ended, however early the client went away.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{DataFusionError, Result, config_err};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use tokio::time::Instant;

use super::error::SqlError;
use crate::memory::QueryPool;

/// Largest constant that planning computes, in bytes: larger ones are computed when the query runs.
pub(super) const MAX_FOLDED_BYTES: usize = 1 << 20;
/// Bytes of all constants that planning computes.
const MAX_ALL_FOLDED_BYTES: usize = 16 << 20;

/// Something that a query holds until the last of its tasks has ended.
pub type Held = Arc<dyn Any + Send + Sync>;

/// See the module.
pub(super) struct QueryLimits {
    pool: Arc<QueryPool>,
    deadline: Option<Instant>,
    stopped: AtomicBool,
    planning: AtomicBool,
    folded_bytes: AtomicUsize,
    _held: Option<Held>,
}

impl fmt::Debug for QueryLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueryLimits({})", self.pool)
    }
}

impl QueryLimits {
    /// Limits of a query that is about to be planned.
    pub fn new(pool: Arc<QueryPool>, deadline: Option<Instant>, held: Option<Held>) -> Arc<Self> {
        Arc::new(Self {
            pool,
            deadline,
            stopped: AtomicBool::new(false),
            planning: AtomicBool::new(true),
            folded_bytes: AtomicUsize::new(0),
            _held: held,
        })
    }

    /// The query's memory.
    pub fn pool(&self) -> &Arc<QueryPool> {
        &self.pool
    }

    /// When the query must have ended.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The query is planned; from now on it computes rows.
    pub fn planned(&self) {
        self.planning.store(false, Ordering::Relaxed);
    }

    /// Nothing waits for the query any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether computing may go on.
    ///
    /// # Errors
    /// [`SqlError::Timeout`] if the deadline has passed or nothing waits for the query.
    pub fn check(&self) -> Result<(), SqlError> {
        if self.stopped.load(Ordering::Relaxed)
            || self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
        {
            return Err(SqlError::Timeout);
        }
        Ok(())
    }

    /// Whether a constant of `bytes` may become part of the plan. Plans are copied by each
    /// optimizer rule, and nothing counts that.
    ///
    /// # Errors
    /// [`DataFusionError::ResourcesExhausted`] while planning, if it is too large.
    pub fn fold(&self, name: &str, bytes: usize) -> Result<()> {
        if !self.planning.load(Ordering::Relaxed) || bytes < 64 {
            return Ok(());
        }
        let all = self
            .folded_bytes
            .fetch_add(bytes.min(MAX_FOLDED_BYTES), Ordering::Relaxed);
        if bytes > MAX_FOLDED_BYTES || all > MAX_ALL_FOLDED_BYTES {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{name}() has a constant result of {bytes} bytes, while planning has computed \
                 {all}; one may have at most {MAX_FOLDED_BYTES}, all together at most \
                 {MAX_ALL_FOLDED_BYTES}; use shorter constants"
            )));
        }
        Ok(())
    }
}

/// Stops a query that is dropped before it has a stream.
pub(super) struct StopOnDrop(pub Option<Arc<QueryLimits>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(limits) = &self.0 {
            limits.stop();
        }
    }
}

impl fmt::Display for QueryLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.pool, f)
    }
}

impl MemoryPool for QueryLimits {
    fn name(&self) -> &str {
        MemoryPool::name(self.pool.as_ref())
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.pool.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

/// The limits as a part of a query's configuration.
#[derive(Debug, Clone)]
pub(super) struct LimitsExtension(pub Arc<QueryLimits>);

impl ConfigExtension for LimitsExtension {
    const PREFIX: &'static str = "tidelake";
}

impl ExtensionOptions for LimitsExtension {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        config_err!("there is no setting {}.{key}", Self::PREFIX)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use futures::StreamExt;

    use super::*;
    use crate::sql::functions::tests::{engine_on, one_at_a_time, runtime};

    /// The client of a query goes away while a function computes.
    #[track_caller]
    fn check_held_until_the_end(sql: &str) {
        let _alone = one_at_a_time();
        let (runtime, held) = (runtime(), Arc::new(()));
        runtime.block_on(async {
            let engine = engine_on(Some(runtime.handle().clone()));
            let text = engine.read(sql).unwrap();
            let guard: Held = Arc::clone(&held) as Held;
            let client = async {
                let answer = engine.query("default", text, HashMap::new(), Some(guard));
                let mut answer = answer.await.unwrap().stream;
                answer.next().await.unwrap().unwrap();
            };
            tokio::time::timeout(Duration::from_millis(100), client)
                .await
                .expect_err("the function is too fast for this test");
            assert!(Arc::strong_count(&held) > 1, "{sql}");
            let ended = async {
                while Arc::strong_count(&held) > 1 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), ended)
                .await
                .unwrap_or_else(|_| panic!("{sql} is held for ever"));
        });
    }

    #[test]
    fn a_query_counts_until_its_computing_has_ended() {
        check_held_until_the_end("SELECT levenshtein(repeat('x', 8000), repeat('y', 8000))");
        check_held_until_the_end(
            "SELECT levenshtein(repeat('x', 8000 + value), repeat('y', 8000)) FROM \
             generate_series(1, 2)",
        );
    }
}
