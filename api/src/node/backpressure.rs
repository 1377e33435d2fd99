//! Holds writes back when merging cannot keep pace: every query of a day opens all of its segments,
//! so reads would suffer first.
//!
//! Worked out once for each change of the catalog or of the quarantine, never for a write. Flushes
//! and merges go on, so it ends by itself: beyond the least limit that can be set there is always
//! something to merge.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use tidelake_catalog::Catalog;
use tidelake_catalog::background::supervised;
use tidelake_catalog::snapshot::{SegmentId, Snapshot};
use tidelake_compactor::policy::backlog;
use tidelake_compactor::{Compactor, MergeThreads};
use tidelake_ingest::Ingester;
use tokio::sync::watch;

/// Watches for as long as the ingester lives.
pub fn start(
    catalog: &Catalog,
    compactor: Option<&Compactor>,
    ingester: &Arc<Ingester>,
    max_fresh_segments: usize,
) {
    // Of segments that another process found damaged nothing is known here.
    let held = compactor.map_or_else(
        || watch::channel(Arc::default()).1,
        |compactor| compactor.quarantine().subscribe(),
    );
    let snapshots = catalog.subscribe();
    let merges = compactor.map(|compactor| compactor.threads().clone());
    let ingester = Arc::downgrade(ingester);
    tokio::spawn(supervised("backpressure", move || {
        hold_back(
            snapshots.clone(),
            held.clone(),
            Weak::clone(&ingester),
            merges.clone(),
            max_fresh_segments,
        )
    }));
}

async fn hold_back(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    mut held: watch::Receiver<Arc<HashSet<SegmentId>>>,
    ingester: Weak<Ingester>,
    merges: Option<MergeThreads>,
    max_fresh_segments: usize,
) {
    let mut was_put_off = false;
    loop {
        let (snapshot, quarantined) = (
            snapshots.borrow_and_update().clone(),
            held.borrow_and_update().clone(),
        );
        let Some(ingester) = ingester.upgrade() else {
            return;
        };
        let waiting = backlog(&snapshot, &quarantined);
        // Before writes have to wait for them, merges no longer give way to queries.
        if let Some(merges) = &merges {
            merges.hurry(waiting > max_fresh_segments / 2);
        }
        let reason = reason(waiting, max_fresh_segments);
        if reason.is_some() != was_put_off {
            was_put_off = reason.is_some();
            match &reason {
                Some(reason) => tracing::warn!(reason, "writes are answered 503"),
                None => tracing::info!("merging has caught up; writes are taken again"),
            }
        }
        ingester.put_off_writes(reason);
        drop(ingester);
        let news = tokio::select! {
            news = snapshots.changed() => news,
            news = held.changed(), if held.has_changed().is_ok() => news,
        };
        if news.is_err() {
            return;
        }
    }
}

/// Why writes must wait, if they must.
fn reason(waiting: usize, max_fresh_segments: usize) -> Option<String> {
    (waiting > max_fresh_segments).then(|| {
        format!(
            "{waiting} segments of one table and day wait to be merged, at most \
             max_fresh_segments = {max_fresh_segments} may; send again later"
        )
    })
}
