//! A store without a server: what a server would answer that starts on a copy of it now.
//!
//! The catalog is read up to a commit, and the write-ahead logs of all nodes that have not left are
//! copied into memory as they are at that commit. The logs are then adopted, as those of dead nodes
//! are, in a store that keeps what is put in memory. The store itself is only read, and servers go
//! on working on it. Such a view is as old as its opening, and its files may be deleted after a
//! while.

use std::sync::Arc;
use std::time::Duration;

use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::{Catalog, CatalogOptions, Node, Registration, Roles, Snapshot, Store};
use tidelake_ingest::IngestOptions;
use tidelake_ingest::wal::WalOptions;

use super::backend::{Backend, OpenError, ingest_options, open_store_to_read};
use crate::cluster::log_rows::{copy_log, log_of};
use crate::cluster::replay_of_other;
use crate::config::Config;

/// A store that does not answer for so long is an error.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Flushes that may come while the logs are copied; each begins anew.
const MAX_TRIES: u32 = 10;

/// A store as of one commit.
pub struct View {
    /// Answers queries, and takes no writes.
    pub backend: Backend,
    /// Objects of write-ahead logs that are left out.
    pub left_out: usize,
}

/// Opens a store to read it. Without `with_logs` only what is in segments is there.
pub async fn open(
    config: &Config,
    memory: &Arc<MemoryBudget>,
    with_logs: bool,
) -> Result<View, OpenError> {
    let store = open_store_to_read(config)?;
    let (frozen, left_out) = freeze(&store, with_logs).await?;
    let catalog = Arc::new(load(frozen).await?);
    for node in catalog.snapshot().nodes() {
        adopt(config, memory, &catalog, node, with_logs).await?;
    }
    let joined = Backend::join_with(config, catalog, "").await?;
    Ok(View {
        backend: Backend::open(config, memory, joined).await?,
        left_out,
    })
}

async fn load(store: Store) -> Result<Catalog, OpenError> {
    let options = CatalogOptions {
        load_timeout: LOAD_TIMEOUT,
        // The store below must not be written to, and above it a checkpoint is of no use.
        checkpoint_every: u64::MAX,
        ..CatalogOptions::default()
    };
    Ok(Catalog::load(store, options).await?)
}

/// The store at its newest commit with the logs of that commit, and how many objects of logs are
/// left out.
async fn freeze(store: &Store, with_logs: bool) -> Result<(Store, usize), OpenError> {
    let catalog = load(store.clone()).await?;
    for _ in 0..MAX_TRIES {
        let snapshot = catalog.snapshot();
        let frozen = store.frozen_at(snapshot.sequence());
        let mut left_out = 0;
        let mut is_whole = true;
        for node in snapshot.nodes().filter(|node| node.takes_writes()) {
            let logged = log_of(store, node).await?;
            if !with_logs {
                left_out += logged.len();
                continue;
            }
            is_whole &= copy_log(store, &frozen, &logged).await?;
        }
        // A flush, or a start of a node, that came meanwhile may have deleted what had to be
        // copied.
        let now = catalog.refresh().await?;
        if is_whole && positions(&now) == positions(&snapshot) {
            return Ok((frozen, left_out));
        }
    }
    Err(OpenError::Transient(format!(
        "its servers have flushed {MAX_TRIES} times while the write-ahead logs were read"
    )))
}

/// How far the logs of all nodes are in segments, and who writes them.
fn positions(snapshot: &Snapshot) -> Vec<(Arc<str>, u64, tidelake_catalog::WalPosition)> {
    let nodes = snapshot.nodes().filter(|node| node.takes_writes());
    nodes
        .map(|node| (Arc::clone(&node.name), node.epoch, node.wal))
        .collect()
}

/// Puts the log of a node into segments, in memory, and lets the node leave.
async fn adopt(
    config: &Config,
    memory: &Arc<MemoryBudget>,
    catalog: &Arc<Catalog>,
    node: &Node,
    with_log: bool,
) -> Result<(), OpenError> {
    if node.has_left || node.roles == Roles::NONE {
        return Ok(());
    }
    let registration = Registration {
        address: String::new(),
        roles: node.roles,
    };
    catalog.register(&node.name, registration).await?;
    if with_log && node.takes_writes() {
        let options = IngestOptions {
            wal: WalOptions::local(),
            ..ingest_options(config, memory)
        };
        let ingester = replay_of_other(catalog, &node.name, options).await?;
        ingester.shutdown().await?;
    }
    Ok(catalog.leave().await?)
}
