//! How processes learn what order others have given: of a process that takes requests by asking it, of
//! any other, and now and then of that as well, by reading its log.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tidelake_catalog::Catalog;
use tidelake_ingest::wal::{WalPosition, latest_order};
use tidelake_ingest::write_clock::{Peers, WriteClock};

use crate::process::node_name;

/// The clocks of the newest processes that have replayed their logs, with their epochs, by node.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<HashMap<usize, (u64, Arc<WriteClock>)>>);

impl Clocks {
    /// A process has replayed its log, and will take writes.
    pub fn add(&self, node: usize, epoch: u64, clock: &Arc<WriteClock>) {
        let mut clocks = self.0.lock();
        if clocks.get(&node).is_none_or(|(known, _)| *known < epoch) {
            clocks.insert(node, (epoch, Arc::clone(clock)));
        }
    }
}

/// The other nodes of a simulation, as a process of one sees them.
#[derive(Debug)]
pub struct Others {
    pub node: usize,
    pub nodes: usize,
    pub catalog: Arc<Catalog>,
    pub clocks: Arc<Clocks>,
}

impl Peers for Others {
    fn are_there(&self) -> bool {
        self.nodes > 1
    }

    fn latest(&self) -> BoxFuture<'static, Result<u64, String>> {
        let (catalog, clocks) = (Arc::clone(&self.catalog), Arc::clone(&self.clocks));
        let others: Vec<usize> = (0..self.nodes)
            .filter(|other| *other != self.node)
            .collect();
        Box::pin(async move {
            let mut latest = 0;
            for other in others {
                let does_answer = catalog.environment().random() % 4 > 0;
                let clock = clocks.0.lock().get(&other).cloned();
                latest = latest.max(match clock.filter(|_| does_answer) {
                    Some((_, clock)) => clock.last(),
                    None => of_log(&catalog, other).await?,
                });
            }
            Ok(latest)
        })
    }
}

async fn of_log(catalog: &Catalog, node: usize) -> Result<u64, String> {
    let name = node_name(node);
    let snapshot = catalog.refresh().await.map_err(|error| error.to_string())?;
    let Some(node) = snapshot.node(&name) else {
        return Ok(0);
    };
    let covered = WalPosition {
        epoch: node.wal.epoch.max(1),
        seq: node.wal.next_seq,
    };
    let in_log = latest_order(catalog.store(), &name, covered).await;
    Ok(in_log.map_err(|error| error.to_string())?.max(node.order))
}
