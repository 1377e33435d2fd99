//! What bounds a query: time and samples in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::QueryError;

/// Shared by all tasks of a query.
#[derive(Debug)]
pub(crate) struct Limits {
    max_samples: u64,
    held: AtomicU64,
    peak: AtomicU64,
    read: AtomicU64,
    deadline: Option<Instant>,
    canceled: AtomicBool,
}

impl Limits {
    pub fn new(max_samples: u64, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            max_samples,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            read: AtomicU64::new(0),
            deadline: Instant::now().checked_add(timeout),
            canceled: AtomicBool::new(false),
        })
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

    /// Counts samples as held until the charge is dropped.
    pub fn charge(self: &Arc<Self>, samples: u64) -> Result<Charge, QueryError> {
        let charge = Charge {
            limits: Arc::clone(self),
            samples,
        };
        let held = self
            .held
            .fetch_add(samples, Ordering::Relaxed)
            .saturating_add(samples);
        if held > self.max_samples {
            return Err(QueryError::TooManySamples(self.max_samples));
        }
        self.peak.fetch_max(held, Ordering::Relaxed);
        Ok(charge)
    }

    /// The same for samples that come from the source.
    pub fn charge_read(self: &Arc<Self>, samples: u64) -> Result<Charge, QueryError> {
        self.read.fetch_add(samples, Ordering::Relaxed);
        self.charge(samples)
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
pub(crate) struct Charge {
    limits: Arc<Limits>,
    samples: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.limits.held.fetch_sub(self.samples, Ordering::Relaxed);
    }
}
