//! The clocks of the other ingesters, for the order of this one's writes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, TryFutureExt};
use tidelake_catalog::{Catalog, CatalogError, Node};
use tidelake_ingest::wal::{WalPosition, latest_order};
use tidelake_ingest::write_clock::{Orders, Peers, WriteClock};
use tidelake_ingest::{IngestError, IngestOptions, Ingester};

use super::Cluster;

/// The ingesters that this process knows besides its own.
#[derive(Debug, Clone)]
pub struct OtherIngesters(pub Weak<Cluster>);

impl Peers for OtherIngesters {
    fn are_there(&self) -> bool {
        // Somebody may have come that this process has not heard of.
        self.0
            .upgrade()
            .is_none_or(|cluster| cluster.others_write.load(Ordering::SeqCst) || cluster.is_stale())
    }

    fn catch_up(&self) -> Option<BoxFuture<'static, Result<(), String>>> {
        let cluster = self.0.upgrade().filter(|cluster| cluster.is_stale())?;
        let fresh = async move { cluster.refresh_if_stale().await };
        Some(fresh.map_err(|error| unread_catalog(&error)).boxed())
    }

    fn latest(&self) -> BoxFuture<'static, Result<u64, String>> {
        let cluster = self.0.upgrade();
        Box::pin(async move {
            let cluster = cluster.ok_or("this process ends")?;
            let fresh = cluster.refresh_if_stale().await;
            fresh.map_err(|error| unread_catalog(&error))?;
            let writers = cluster.other_writers(&cluster.catalog.snapshot());
            let clocks = join_all(writers.iter().map(|node| cluster.clock_of(node))).await;
            let clocks: Vec<u64> = clocks.into_iter().collect::<Result<_, _>>()?;
            Ok(clocks.into_iter().max().unwrap_or(0))
        })
    }
}

fn unread_catalog(error: &CatalogError) -> String {
    format!("the catalog cannot be read: {error}")
}

impl Cluster {
    /// The highest order that a node has given: it says so, or its log does.
    async fn clock_of(&self, node: &Node) -> Result<u64, String> {
        if let Ok(hello) = self.hello(node).await
            && *hello.node == *node.name
            && hello.is_ready
        {
            return Ok(hello.clock);
        }
        // It does not answer, or is gone: all that it has acknowledged is in its log or in
        // segments.
        let unread = |error: String| {
            format!(
                "node {:?} at {} does not answer, and its log cannot be read: {error}",
                node.name, node.address
            )
        };
        let covered = WalPosition {
            epoch: node.wal.epoch.max(1),
            seq: node.wal.next_seq,
        };
        let in_log = latest_order(self.catalog.store(), &node.name, covered).await;
        let in_log = in_log.map_err(|error| unread(error.to_string()))?;
        // After the log: what a flush has taken out of it meanwhile is here.
        let snapshot = self.refresh().await;
        let snapshot = snapshot.map_err(|error| unread(error.to_string()))?;
        let in_segments = snapshot.node(&node.name).map_or(0, |node| node.order);
        Ok(in_log.max(in_segments))
    }
}

/// Replays the log of another node, as which `catalog` is registered.
///
/// # Errors
/// If the log cannot be replayed.
pub async fn replay_of_other(
    catalog: &Arc<Catalog>,
    node: &str,
    options: IngestOptions,
) -> Result<Arc<Ingester>, IngestError> {
    let orders = Orders {
        clock: Arc::new(WriteClock::new(catalog.environment(), node)),
        peers: Arc::new(Interleaved),
    };
    let options = IngestOptions {
        orders: Some(orders),
        ..options
    };
    Ingester::start(Arc::clone(catalog), options).await
}

/// For the log of another node: its rows lie between those of others.
#[derive(Debug)]
struct Interleaved;

impl Peers for Interleaved {
    fn are_there(&self) -> bool {
        true
    }

    fn latest(&self) -> BoxFuture<'static, Result<u64, String>> {
        Box::pin(async { Err("nothing is written in the name of another node".to_owned()) })
    }
}
