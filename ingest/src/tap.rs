//! Copies of rows as they arrive, for those who watch them.
//!
//! Invariants:
//! - without a watcher, a write costs one load more;
//! - a write never waits for a watcher: who is slow misses the oldest arrivals, and learns how many;
//! - what waits for watchers is bounded, in arrivals and in bytes of each.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelake_catalog::model::TableKind;
use tokio::sync::broadcast;

use crate::buffer::TableName;
use crate::prepare::TableBatch;
use crate::rows::Rows;
use crate::series_registry::SeriesRegistry;

/// Arrivals that wait for the slowest watcher.
const MAX_WAITING: usize = 32;
/// Rows of a table in a request that are copied.
const MAX_ROWS: usize = 4096;
/// Bytes that they may take, about.
const MAX_BYTES: usize = 1 << 20;

/// The first rows of a table in a request.
#[derive(Debug)]
pub struct Arrival {
    /// The table.
    pub name: TableName,
    /// What it is for.
    pub kind: TableKind,
    /// Has the series that the rows name.
    pub registry: Arc<SeriesRegistry>,
    /// As many rows as are copied.
    pub rows: Rows,
    /// Rows that have arrived up to this one, those that were not copied included.
    pub arrived: u64,
    /// Rows of this arrival, copied or not.
    pub total: u64,
}

/// Where rows come by on their way to the buffer.
#[derive(Debug)]
pub struct Tap {
    sender: broadcast::Sender<Arc<Arrival>>,
    /// Rows that came by while there was a watcher.
    arrived: Mutex<u64>,
}

impl Default for Tap {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(MAX_WAITING),
            arrived: Mutex::new(0),
        }
    }
}

impl Tap {
    /// The arrivals from now on.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Arrival>> {
        self.sender.subscribe()
    }

    /// Copies rows that are about to be shown, if anybody watches.
    pub(crate) fn copy(&self, groups: &[Vec<TableBatch>]) -> Vec<Arc<Arrival>> {
        if self.sender.receiver_count() == 0 {
            return Vec::new();
        }
        let mut arrived = self.arrived.lock();
        let tables = groups.iter().flatten();
        let copied = tables.filter(|table| !table.rows.is_empty()).map(|table| {
            let total = table.rows.len() as u64;
            *arrived += total;
            Arc::new(Arrival {
                name: table.name.clone(),
                kind: table.kind,
                registry: Arc::clone(&table.registry),
                rows: table.rows.head(rows_within(&table.rows)),
                arrived: *arrived,
                total,
            })
        });
        copied.collect()
    }

    /// Hands them to the watchers.
    pub(crate) fn send(&self, arrivals: Vec<Arc<Arrival>>) {
        for arrival in arrivals {
            // The last watcher may have gone meanwhile.
            let _ = self.sender.send(arrival);
        }
    }
}

/// How many rows are within the limits, if all are alike.
fn rows_within(rows: &Rows) -> usize {
    let each = rows.bytes() / rows.len().max(1) + 1;
    rows.len().min(MAX_ROWS).min((MAX_BYTES / each).max(1))
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::model::Labels;

    use super::*;

    fn batch(rows: usize) -> TableBatch {
        let registry = Arc::new(SeriesRegistry::new(1 << 20));
        let series = registry.register(Labels::from_pairs([("a", "b")])).unwrap();
        TableBatch {
            name: TableName {
                database: "d".into(),
                table: "t".into(),
                id: 1,
            },
            kind: TableKind::Wide,
            registry,
            rows: Rows {
                series: vec![series; rows],
                time: (0..rows as i64).collect(),
                fields: Vec::new(),
            },
            memory: None,
        }
    }

    fn pass(tap: &Tap, rows: usize) {
        tap.send(tap.copy(&[vec![batch(rows)]]));
    }

    #[test]
    fn only_watchers_get_copies() {
        let tap = Tap::default();
        pass(&tap, 3);
        let mut watcher = tap.watch();
        assert!(watcher.try_recv().is_err());
        pass(&tap, 2);
        let arrival = watcher.try_recv().unwrap();
        assert_eq!(
            (arrival.rows.time.as_slice(), arrival.arrived),
            (&[0, 1][..], 2)
        );
        drop(watcher);
        assert!(tap.copy(&[vec![batch(1)]]).is_empty());
    }

    #[test]
    fn large_requests_are_cut_and_slow_watchers_miss_the_oldest() {
        let tap = Tap::default();
        let mut watcher = tap.watch();
        pass(&tap, MAX_ROWS + 10);
        let arrival = watcher.try_recv().unwrap();
        assert_eq!(
            (arrival.rows.len(), arrival.total),
            (MAX_ROWS, MAX_ROWS as u64 + 10)
        );
        for _ in 0..MAX_WAITING + 5 {
            pass(&tap, 1);
        }
        assert_eq!(
            watcher.try_recv().unwrap_err(),
            broadcast::error::TryRecvError::Lagged(5)
        );
        // What was missed can be told from the counts.
        let next = watcher.try_recv().unwrap();
        assert_eq!(next.arrived - next.total - arrival.arrived, 5);
    }
}
