//! What an operator of a query did: for `EXPLAIN ANALYZE`, and not collected otherwise.
//!
//! From when it is asked until it answers an operator has a time, of which it may wait for its
//! operands; its own time is what remains.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidelake_catalog::segment::ReadMeter;

use super::super::source::SeriesSamples;
use super::row::{Row, Rows};
use super::work::Evaluated;

/// What one operator did.
#[derive(Debug)]
pub(crate) struct Profile {
    /// What it asked of the store.
    pub read: Arc<ReadMeter>,
    /// What a request to the store costs, in dollars.
    pub request_price: f64,
    /// Series that it read.
    pub series: AtomicU64,
    /// Samples of these.
    pub samples: AtomicU64,
    /// Batches in which they came.
    pub batches: AtomicU64,
    /// Time that its tasks were computing, all together.
    pub compute_nanos: AtomicU64,
    /// From when it was asked until it answered.
    pub total_nanos: AtomicU64,
    /// Of that, while it waited for operands.
    pub waited_nanos: AtomicU64,
    /// Rows that came out.
    pub rows: AtomicU64,
    /// Values in these rows, histograms included.
    pub values: AtomicU64,
    /// Who computed it, if several processes did.
    pub tasks: Mutex<Vec<TaskRun>>,
}

/// What one process did of an operator.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskRun {
    pub worker: String,
    /// Batches of series.
    pub batches: u64,
    /// Bytes that another process sent.
    pub bytes: u64,
    /// From its beginning to its end.
    pub micros: u64,
    /// Why it was computed here in place of the worker.
    pub failed: Option<String>,
}

impl Profile {
    /// Nothing yet; what it reads counts as read by the query, too.
    pub fn new(query: &Arc<ReadMeter>, request_price: f64) -> Self {
        Self {
            read: ReadMeter::unlimited(vec![Arc::clone(query)]),
            request_price,
            series: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            compute_nanos: AtomicU64::new(0),
            total_nanos: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            values: AtomicU64::new(0),
            tasks: Mutex::default(),
        }
    }

    /// Counts a batch that was read.
    pub fn batch(&self, series: &[SeriesSamples]) {
        let samples = series.iter().map(|series| series.times.len() as u64).sum();
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.series
            .fetch_add(series.len() as u64, Ordering::Relaxed);
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// Counts what a task has computed.
    pub fn computed(&self, time: Duration) {
        add(&self.compute_nanos, time);
    }

    /// Counts from when it was asked until it answered.
    pub fn took(&self, time: Duration) {
        add(&self.total_nanos, time);
    }

    /// Counts a time during which it waited for operands.
    pub fn waited(&self, time: Duration) {
        add(&self.waited_nanos, time);
    }

    /// Counts what came out.
    pub fn answered(&self, value: &Evaluated) {
        let (rows, values) = size(value);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.values.fetch_add(values, Ordering::Relaxed);
    }

    /// Counts groups that came out of a partial aggregation.
    pub fn answered_groups(&self, groups: usize) {
        self.rows.fetch_add(groups as u64, Ordering::Relaxed);
    }

    /// Counts rows that came out in a batch.
    pub fn answered_rows(&self, rows: &Rows) {
        self.rows
            .fetch_add(rows.list.len() as u64, Ordering::Relaxed);
        self.values.fetch_add(values(rows), Ordering::Relaxed);
    }
}

fn add(nanos: &AtomicU64, time: Duration) {
    nanos.fetch_add(
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        Ordering::Relaxed,
    );
}

fn size(value: &Evaluated) -> (u64, u64) {
    match value {
        Evaluated::Scalar(values) => (1, values.len() as u64),
        Evaluated::String(_) => (1, 1),
        Evaluated::Range(points, _) => (
            points.len() as u64,
            points.iter().map(|points| points.len() as u64).sum(),
        ),
        Evaluated::Vector(rows) => (rows.list.len() as u64, values(rows)),
    }
}

fn values(rows: &Rows) -> u64 {
    let of_row = |row: &Row| (0..row.values.len()).filter(|step| row.has(*step)).count() as u64;
    rows.list.iter().map(of_row).sum()
}
