//! Rows of nodes that cannot be asked, out of their logs.
//!
//! All that a node has acknowledged and has in no segment is in its log, from the position on that
//! its last flush covered. These objects are copied into memory, over a store that keeps what is
//! put, and an ingester replays them there, as at a start of the node. Nothing is put on the store
//! itself: the node may live, and go on.
//!
//! A query reads what was acknowledged before it began: it lists the log, and what was replayed
//! before serves as long as the list is the same.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tidelake_catalog::memory::{Reservation, Share};
use tidelake_catalog::{
    Catalog, CatalogError, CatalogOptions, Environment, Node, ObjectInfo, Registration, Store,
    StoreError, WalPosition, keys,
};
use tidelake_ingest::wal::WalOptions;
use tidelake_ingest::{IngestError, IngestOptions, Ingester};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::write_orders::replay_of_other;

/// Objects of a log that are read at a time.
const READS_AT_ONCE: usize = 32;
/// A store that does not answer for so long is an error.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A replayed log is dropped when no query has used it for so long.
const KEPT: Duration = Duration::from_secs(60);

/// Why the log of a node cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Its rows cannot be had out of it.
    #[error(transparent)]
    Replay(#[from] IngestError),
    /// The node flushes or is being adopted, so its rows move into segments.
    #[error("its log changes while it is read")]
    Changed,
    /// There is not enough memory.
    #[error("the rows of its log do not fit into memory")]
    TooLarge,
    /// The process ends.
    #[error("the log is not read to its end: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

/// The objects of a node's log that are not covered by segments.
pub async fn log_of(store: &Store, node: &Node) -> Result<Vec<ObjectInfo>, StoreError> {
    let covered = (node.wal.epoch, node.wal.next_seq);
    let objects = store.list(&keys::wal_node(&node.name));
    let is_left = |object: &ObjectInfo| {
        let position = keys::parse_wal_object(&node.name, &object.key);
        futures::future::ready(position.is_some_and(|position| position >= covered))
    };
    let mut left: Vec<ObjectInfo> = objects.try_filter(is_left).try_collect().await?;
    left.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(left)
}

/// Copies objects of a log; false if any is gone.
pub async fn copy_log(from: &Store, to: &Store, log: &[ObjectInfo]) -> Result<bool, StoreError> {
    let keys: Vec<String> = log.iter().map(|object| object.key.clone()).collect();
    let copies = keys
        .into_iter()
        .map(|key| copy(from.clone(), to.clone(), key));
    let mut copied = stream::iter(copies).buffered(READS_AT_ONCE);
    while let Some(is_there) = copied.try_next().await? {
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn copy(from: Store, to: Store, key: String) -> Result<bool, StoreError> {
    match from.get(&key).await {
        Ok(bytes) => to.put(&key, bytes).await.map(|()| true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a log was replayed into.
#[derive(Debug)]
struct Replayed {
    epoch: u64,
    log: Vec<ObjectInfo>,
    used: Instant,
    covered: WalPosition,
    ingester: Arc<Ingester>,
    /// Of the copy.
    catalog: Arc<Catalog>,
    /// For the copy of the log.
    _memory: Reservation,
}

type Slot = tokio::sync::Mutex<Option<Replayed>>;

/// Rows of nodes that cannot be asked.
#[derive(Debug)]
pub struct LogRows {
    options: IngestOptions,
    threads: Handle,
    /// One query reads a log, and the others wait for it.
    slots: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
}

/// The rows of a node.
pub struct RowsOfLog {
    /// Has the rows.
    pub ingester: Arc<Ingester>,
    /// Knows the tables that they belong to.
    pub catalog: Arc<Catalog>,
}

impl LogRows {
    /// Logs are replayed on these threads, with the options of an ingester.
    pub fn new(options: IngestOptions, threads: Handle) -> Self {
        let options = IngestOptions {
            // A flush would move rows out of the buffer that queries read.
            buffer_bytes: usize::MAX,
            flush_bytes: usize::MAX,
            flush_interval: Duration::from_secs(1 << 30),
            fence_check_interval: None,
            wal: WalOptions::local(),
            ..options
        };
        Self {
            options,
            threads,
            slots: Mutex::default(),
        }
    }

    /// All that a node has acknowledged before and has in no segment that the catalog has.
    ///
    /// # Errors
    /// If its log cannot be read, or changes meanwhile.
    pub async fn of(&self, catalog: &Catalog, node: &Node) -> Result<RowsOfLog, LogError> {
        let slot = {
            let mut slots = self.slots.lock();
            Arc::clone(slots.entry(Arc::clone(&node.name)).or_default())
        };
        let mut kept = Arc::clone(&slot).lock_owned().await;
        let log = log_of(catalog.store(), node).await?;
        let is_same = |kept: &&mut Replayed| kept.epoch == node.epoch && kept.log == log;
        if kept.as_mut().filter(is_same).is_none() {
            // After the list: it has the columns of all rows in these objects.
            let sequence = catalog.refresh().await?.sequence();
            // Two copies at a time would take twice the memory.
            *kept = None;
            let store = catalog.store().clone();
            let replayed = replay(
                store,
                sequence,
                node.clone(),
                log,
                self.options.clone(),
                catalog.environment().clone(),
            );
            // If the query ends before, the next one finds it.
            let unused = Arc::downgrade(&slot);
            let replayed = self.threads.spawn(async move {
                *kept = Some(replayed.await?);
                tokio::spawn(drop_unused(unused));
                Ok::<_, LogError>(kept)
            });
            kept = replayed.await??;
        }
        let replayed = kept.as_mut().ok_or(LogError::Changed)?;
        replayed.used = Instant::now();
        let copy = replayed.catalog.snapshot();
        match copy.node(&node.name).map(|node| node.wal) == Some(replayed.covered) {
            true => Ok(RowsOfLog {
                ingester: Arc::clone(&replayed.ingester),
                catalog: Arc::clone(&replayed.catalog),
            }),
            false => Err(LogError::TooLarge),
        }
    }
}

/// Drops a replayed log when no query has used it for a while.
async fn drop_unused(slot: Weak<Slot>) {
    loop {
        tokio::time::sleep(KEPT).await;
        let Some(slot) = slot.upgrade() else {
            return;
        };
        let mut kept = slot.lock().await;
        if kept.as_ref().is_none_or(|kept| kept.used.elapsed() >= KEPT) {
            *kept = None;
            return;
        }
    }
}

async fn replay(
    store: Store,
    sequence: u64,
    node: Node,
    log: Vec<ObjectInfo>,
    options: IngestOptions,
    environment: Environment,
) -> Result<Replayed, LogError> {
    let bytes: u64 = log.iter().map(|object| object.bytes).sum();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let memory = options.memory.try_reserve(Share::Caches, bytes);
    let memory = memory.map_err(|_| LogError::TooLarge)?;
    let copy = store.frozen_at(sequence);
    if !copy_log(&store, &copy, &log).await? {
        return Err(LogError::Changed);
    }
    let catalog_options = CatalogOptions {
        load_timeout: LOAD_TIMEOUT,
        // Over a copy a checkpoint is of no use.
        checkpoint_every: u64::MAX,
        environment,
        ..CatalogOptions::default()
    };
    let catalog = Arc::new(Catalog::load(copy, catalog_options).await?);
    // A flush may have come since the node was looked at.
    let covered = catalog.snapshot().node(&node.name).map(|node| node.wal);
    let covered = covered.ok_or(LogError::Changed)?;
    let registration = Registration {
        address: String::new(),
        roles: node.roles,
    };
    catalog.register(&node.name, registration).await?;
    let ingester = replay_of_other(&catalog, &node.name, options).await?;
    Ok(Replayed {
        epoch: node.epoch,
        log,
        used: Instant::now(),
        covered,
        ingester,
        catalog,
        _memory: memory,
    })
}
