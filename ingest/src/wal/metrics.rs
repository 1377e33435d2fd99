//! Counters of the log, plain atomics that the server exports as it likes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the put latency buckets in microseconds; one more bucket holds what is above.
pub const PUT_LATENCY_BOUNDS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// How long puts took, the failed ones included.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    buckets: [AtomicU64; PUT_LATENCY_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl LatencyHistogram {
    /// Counts one.
    pub fn observe(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = PUT_LATENCY_BOUNDS_US.partition_point(|&bound| bound < us);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Counts per bucket (not cumulative), in the order of [`PUT_LATENCY_BOUNDS_US`], the open one
    /// last.
    pub fn counts(&self) -> [u64; PUT_LATENCY_BOUNDS_US.len() + 1] {
        std::array::from_fn(|i| {
            self.buckets
                .get(i)
                .map_or(0, |count| count.load(Ordering::Relaxed))
        })
    }

    /// All latencies together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed))
    }
}

/// What the log did since the process started. Reading needs no lock; the figures need not fit each
/// other to the last one.
#[derive(Debug, Default)]
pub struct WalMetrics {
    /// Groups that became durable.
    pub groups: AtomicU64,
    /// Bytes of these groups' objects.
    pub bytes: AtomicU64,
    /// Frames in these groups.
    pub frames: AtomicU64,
    /// Puts that failed or got no answer.
    pub put_errors: AtomicU64,
    /// Submissions refused because too much was queued.
    pub overloaded: AtomicU64,
    /// Submissions answered "unavailable", whether refused at once or given up later.
    pub unavailable: AtomicU64,
    /// Bytes that are queued or in flight now.
    pub queued_bytes: AtomicU64,
    /// Objects deleted because segments cover them.
    pub truncated: AtomicU64,
    /// Time of each put.
    pub put_latency: LatencyHistogram,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_the_last_bucket_is_open() {
        let check = |us: u64, bucket: usize| {
            let histogram = LatencyHistogram::default();
            histogram.observe(Duration::from_micros(us));
            let counts = histogram.counts();
            assert_eq!(counts.iter().position(|&c| c == 1), Some(bucket), "{us} us");
            assert_eq!(histogram.sum(), Duration::from_micros(us));
        };
        check(0, 0);
        check(250, 0);
        check(251, 1);
        check(10_000_000, 13);
        check(10_000_001, 14);
    }
}
