//! How many series the tables of one database may have together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Series are forgotten no sooner after they were the last time: a flush can be asked for at any
/// time, and would make room for others each time.
const LEAST_ACTIVE: Duration = Duration::from_secs(300);

/// Counts the series of all registries of a database. They are forgotten when their registry is,
/// which after a flush happens to those that are near their limit: what still gets points comes
/// again, so that the count is about active series.
#[derive(Debug)]
pub struct SeriesQuota {
    held: AtomicU64,
    /// The largest number without a limit.
    limit: AtomicU64,
    forgotten: Mutex<Instant>,
}

impl Default for SeriesQuota {
    fn default() -> Self {
        Self {
            held: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            forgotten: Mutex::new(Instant::now()),
        }
    }
}

impl SeriesQuota {
    /// Series that are known.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Most that may be.
    pub fn limit(&self) -> Option<u64> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit < u64::MAX).then_some(limit)
    }

    /// Sets the limit; series that are known stay.
    pub fn set_limit(&self, limit: Option<u64>) {
        let limit = limit.unwrap_or(u64::MAX);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether few more may come, and those that are known were known for long enough. If so, they
    /// are about to be forgotten.
    pub(crate) fn is_to_be_renewed(&self) -> bool {
        let is_nearly_used = self
            .limit()
            .is_some_and(|limit| self.held() > limit / 4 * 3);
        let mut forgotten = self.forgotten.lock();
        let is_due = is_nearly_used && forgotten.elapsed() >= LEAST_ACTIVE;
        if is_due {
            *forgotten = Instant::now();
        }
        is_due
    }

    /// Counts one more; the limit if it is reached.
    pub(crate) fn take(&self) -> Result<(), u64> {
        let limit = self.limit.load(Ordering::Relaxed);
        let one_more = |held| (held < limit).then_some(held + 1);
        let order = Ordering::Relaxed;
        let taken = self.held.fetch_update(order, order, one_more);
        taken.map(drop).map_err(|_| limit)
    }

    /// Forgets some.
    pub(crate) fn give_back(&self, series: usize) {
        self.held.fetch_sub(series as u64, Ordering::Relaxed);
    }
}
