//! What each operator of a query did: for `EXPLAIN ANALYZE`, and not collected otherwise.
//!
//! Every operator is evaluated at most once, so it has one time from which it was asked until it
//! answered. While it waits for its operands they have theirs; its own time is what remains.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidelake_catalog::segment::ReadMeter;
use tokio::time::Instant;

use super::QueryError;
use super::engine::Evaluated;
use super::plan::Node;

tokio::task_local! {
    /// The operator that is being evaluated.
    static CURRENT: Arc<OperatorProfile>;
}

/// What one operator did.
#[derive(Debug)]
pub(crate) struct OperatorProfile {
    /// What its selector asked of the store.
    pub read: Arc<ReadMeter>,
    /// Series that its selector got.
    pub series: AtomicU64,
    /// Samples of these.
    pub samples: AtomicU64,
    /// Batches in which they came.
    pub batches: AtomicU64,
    /// Time that its tasks were computing, all together.
    pub compute_nanos: AtomicU64,
    done: Mutex<Done>,
}

/// When an operator ran, and what came out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    /// Begin and end.
    pub span: Option<(Instant, Instant)>,
    /// Rows.
    pub rows: u64,
    /// Values in these rows, histograms included.
    pub values: u64,
}

impl OperatorProfile {
    /// When it ran, and what came out.
    pub fn done(&self) -> Done {
        *self.done.lock()
    }

    /// Counts a batch of a selector.
    pub fn batch(&self, series: usize, samples: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.series.fetch_add(series as u64, Ordering::Relaxed);
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// Counts what a task has computed.
    pub fn computed(&self, time: Duration) {
        self.compute_nanos.fetch_add(
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

/// What the operators of a query did.
#[derive(Debug)]
pub(crate) struct Profile {
    query: Arc<ReadMeter>,
    operators: Mutex<HashMap<usize, Arc<OperatorProfile>>>,
}

/// Nodes do not move while a query runs.
fn key(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

impl Profile {
    /// Nothing yet; what operators read counts as read by the query.
    pub fn new(query: Arc<ReadMeter>) -> Self {
        Self {
            query,
            operators: Mutex::default(),
        }
    }

    /// What an operator did, if it was evaluated.
    pub fn of(&self, node: &Node) -> Option<Arc<OperatorProfile>> {
        self.operators.lock().get(&key(node)).cloned()
    }

    /// The operator on whose behalf the present task runs.
    pub fn current() -> Option<Arc<OperatorProfile>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Evaluates an operator and notes what it did.
    pub async fn measure(
        &self,
        node: &Node,
        work: impl Future<Output = Result<Evaluated, QueryError>>,
    ) -> Result<Evaluated, QueryError> {
        let operator = Arc::new(OperatorProfile {
            read: ReadMeter::unlimited(vec![Arc::clone(&self.query)]),
            series: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            compute_nanos: AtomicU64::new(0),
            done: Mutex::default(),
        });
        self.operators
            .lock()
            .insert(key(node), Arc::clone(&operator));
        let begun = Instant::now();
        let value = CURRENT.scope(Arc::clone(&operator), work).await;
        let (rows, values) = value.as_ref().map_or((0, 0), size);
        *operator.done.lock() = Done {
            span: Some((begun, Instant::now())),
            rows,
            values,
        };
        value
    }
}

fn size(value: &Evaluated) -> (u64, u64) {
    match value {
        Evaluated::Scalar(values) => (1, values.len() as u64),
        Evaluated::String(_) => (1, 1),
        Evaluated::Range(points, _) => (
            points.len() as u64,
            points.iter().map(|points| points.len() as u64).sum(),
        ),
        Evaluated::Vector(rows) => {
            let values = rows
                .list
                .iter()
                .map(|row| (0..row.values.len()).filter(|step| row.has(*step)).count() as u64)
                .sum();
            (rows.list.len() as u64, values)
        }
    }
}
