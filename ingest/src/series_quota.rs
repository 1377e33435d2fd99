//! How many series the tables of one database may have together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the series of all registries of a database. They are forgotten when their registry is,
/// which after a flush happens to those that are near their limit: what still gets points comes
/// again, so that the count is about active series.
#[derive(Debug, Default)]
pub struct SeriesQuota {
    held: AtomicU64,
    /// 0 without a limit.
    limit: AtomicU64,
}

impl SeriesQuota {
    /// Series that are known.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Most that may be; 0 without a limit.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit; series that are known stay.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether few more may come.
    pub fn is_nearly_used(&self) -> bool {
        let limit = self.limit();
        limit > 0 && self.held() > limit / 4 * 3
    }

    /// Counts one more; the limit if it is reached.
    pub(crate) fn take(&self) -> Result<(), u64> {
        let limit = match self.limit() {
            0 => u64::MAX,
            limit => limit,
        };
        let one_more = |held| (held < limit).then_some(held + 1);
        let taken = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map(drop).map_err(|_| limit)
    }

    /// Forgets some.
    pub(crate) fn give_back(&self, series: usize) {
        self.held.fetch_sub(series as u64, Ordering::Relaxed);
    }
}
