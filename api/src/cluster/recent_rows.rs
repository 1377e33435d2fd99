//! What all ingesters have in no segment yet.
//!
//! An ingester's chunks never change, so each is fetched once and kept while it is asked for. With its
//! rows an ingester says which commit it knows: rows that it let go before are in segments that this
//! commit has, and the catalog is followed up to it before anything is read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::segment::{SegmentError, SortedRows, WriteOrder};
use tidelake_catalog::{CatalogError, Node, Snapshot};
use tidelake_ingest::Ingester;
use tidelake_querier::tables::{ChunkKey, Recent, RecentChunk, RecentRows, TableRange};
use tokio::time::Instant;

use super::Cluster;
use super::log_rows::{LogError, LogRows};
use super::messages::{RecentAsked, RecentHead, TableAsked};
use super::rows_codec;
use super::transport::CallError;

/// So few rows are sorted in no time, and the series of so few runs compared with matchers.
const FEW_UNSORTED: usize = 4 << 10;
/// How long to wait in all: what is asked for may change again and again.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long to wait for one that reads its log, or whose log is put into segments.
const START_PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait for one that lives and does not answer in time.
const LATE_PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// Chunks that nobody asked for in this time are let go.
const KEPT: Duration = Duration::from_secs(60);

/// Recent rows of the ingester of the same process, and of all others.
#[derive(Debug)]
pub struct ClusterRows {
    own: Option<Arc<Ingester>>,
    cluster: Arc<Cluster>,
    memory: Arc<MemoryBudget>,
    logs: LogRows,
    kept: Mutex<HashMap<ChunkKey, Kept>>,
}

#[derive(Debug)]
struct Kept {
    rows: Arc<SortedRows>,
    used: Instant,
    table: (String, String),
    _memory: Reservation,
}

/// What one node has.
struct OfNode {
    sequence: u64,
    /// Which table of each name, and its chunks.
    tables: Vec<(u64, Vec<RecentChunk>)>,
}

impl ClusterRows {
    /// Rows of these, kept in the share of caches, and out of the logs of those that cannot be asked.
    pub fn new(
        own: Option<Arc<Ingester>>,
        cluster: Arc<Cluster>,
        memory: &Arc<MemoryBudget>,
        logs: LogRows,
    ) -> Self {
        Self {
            own,
            cluster,
            memory: Arc::clone(memory),
            logs,
            kept: Mutex::default(),
        }
    }

    async fn of_own(&self, database: &str, table: &str, range: TimeRange) -> Vec<RecentChunk> {
        let Some(ingester) = &self.own else {
            return Vec::new();
        };
        if ingester.unsorted(database, table) > FEW_UNSORTED {
            // A query that is small so far goes on elsewhere.
            tokio::task::yield_now().await;
        }
        let recent = ingester.recent(database, table, range);
        let runs: usize = recent.iter().map(|chunk| chunk.rows.runs.len()).sum();
        if runs > FEW_UNSORTED {
            // Matchers are compared with the series of each.
            tokio::task::yield_now().await;
        }
        let node: Arc<str> = self.cluster.node.as_str().into();
        let chunks = recent.into_iter().map(|chunk| RecentChunk {
            key: Some(ChunkKey {
                node: Arc::clone(&node),
                epoch: self.cluster.epoch,
                id: chunk.id,
            }),
            order: chunk.order,
            rows: chunk.rows,
        });
        chunks.collect()
    }

    /// The rows of another node.
    async fn of_node(
        &self,
        node: &Node,
        database: &str,
        tables: &[TableRange],
    ) -> Result<OfNode, CallError> {
        let cluster = &self.cluster;
        if let Some(error) = cluster.members.failed_just_now(node) {
            return Err(error);
        }
        let asked = tables.iter().map(|(table, range)| TableAsked {
            table: table.to_string(),
            min: range.min,
            max: range.max,
            have: self.have(node, (database, table)),
        });
        let asked = RecentAsked {
            node: node.name.to_string(),
            epoch: node.epoch,
            database: database.to_owned(),
            tables: asked.collect(),
        };
        // One that has not answered lately is not waited for long.
        let patience = cluster
            .members
            .is_suspect(node)
            .then_some(super::PATIENCE.min(cluster.lease / 2));
        let answer = cluster.calls.recent(&node.address, &asked, patience).await;
        let read = match answer {
            Ok(answer) => self.read(node, &asked, &answer).map_err(CallError::Another),
            Err(error) => Err(error),
        };
        if let Err(error @ (CallError::Unreachable(_) | CallError::Late(_))) = &read {
            cluster.members.note(node, &Err(error.clone()));
        }
        read
    }

    fn have(&self, node: &Node, table: (&str, &str)) -> Vec<u64> {
        let kept = self.kept.lock();
        let of_table = kept.iter().filter(|(key, chunk)| {
            key.node == node.name
                && key.epoch == node.epoch
                && (&*chunk.table.0, &*chunk.table.1) == table
        });
        of_table.map(|(key, _)| key.id).collect()
    }

    fn read(&self, node: &Node, asked: &RecentAsked, answer: &Bytes) -> Result<OfNode, String> {
        let malformed = || "its answer ends early".to_owned();
        let (len, rest) = answer.split_first_chunk::<4>().ok_or_else(malformed)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (head, mut rest) = rest.split_at_checked(len).ok_or_else(malformed)?;
        let head: RecentHead = serde_json::from_slice(head).map_err(|error| error.to_string())?;
        if head.tables.len() != asked.tables.len() {
            return Err("it answers for other tables".to_owned());
        }
        let mut tables = Vec::with_capacity(head.tables.len());
        for (table, asked_table) in head.tables.into_iter().zip(&asked.tables) {
            let mut chunks = Vec::with_capacity(table.chunks.len());
            for chunk in table.chunks {
                let key = ChunkKey {
                    node: Arc::clone(&node.name),
                    epoch: node.epoch,
                    id: chunk.id,
                };
                let found = match chunk.bytes {
                    None => {
                        let found = self.kept(&key);
                        found.ok_or("rows that it thinks are here were let go")?
                    }
                    Some(len) => {
                        let (bytes, others) = rest.split_at_checked(len).ok_or_else(malformed)?;
                        rest = others;
                        let decoded =
                            rows_codec::decode(bytes).map_err(|error| error.to_string())?;
                        let decoded = Arc::new(decoded);
                        self.keep(&key, (&asked.database, &asked_table.table), &decoded);
                        decoded
                    }
                };
                let (first, last, part) = chunk.order;
                chunks.push(RecentChunk {
                    key: Some(key),
                    order: WriteOrder::of((first, last)).part(part),
                    rows: found,
                });
            }
            tables.push((table.table_id, chunks));
        }
        Ok(OfNode {
            sequence: head.sequence,
            tables,
        })
    }

    /// The ingester of this process.
    pub(super) fn own(&self) -> Option<&Arc<Ingester>> {
        self.own.as_ref()
    }

    /// Whether a chunk is one of this process.
    pub(super) fn is_own(&self, key: &ChunkKey) -> bool {
        *key.node == *self.cluster.node && key.epoch == self.cluster.epoch
    }

    /// The rows of a chunk that is kept.
    pub(super) fn kept(&self, key: &ChunkKey) -> Option<Arc<SortedRows>> {
        let mut kept = self.kept.lock();
        let chunk = kept.get_mut(key)?;
        chunk.used = Instant::now();
        Some(Arc::clone(&chunk.rows))
    }

    /// Keeps rows if there is memory for them.
    pub(super) fn keep(&self, key: &ChunkKey, table: (&str, &str), rows: &Arc<SortedRows>) {
        let mut kept = self.kept.lock();
        kept.retain(|_, chunk| chunk.used.elapsed() < KEPT);
        // Series have their labels.
        let series: usize = rows
            .runs
            .iter()
            .map(|run| run.series.labels.as_str().len())
            .sum();
        let bytes = rows.memory_size() + series + rows.runs.len() * 64;
        if let Ok(memory) = self.memory.try_reserve(Share::Caches, bytes) {
            let chunk = Kept {
                rows: Arc::clone(rows),
                used: Instant::now(),
                table: (table.0.to_owned(), table.1.to_owned()),
                _memory: memory,
            };
            kept.insert(key.clone(), chunk);
        }
    }

    /// One try: what there is, and which nodes do not tell.
    async fn of_all(&self, database: &str, tables: &[TableRange]) -> Result<Tried, CatalogError> {
        let cluster = &self.cluster;
        cluster.refresh_if_stale().await?;
        let snapshot = cluster.catalog.snapshot();
        let writers = cluster.other_writers(&snapshot);
        let own = async {
            let mut all = Vec::with_capacity(tables.len());
            for (table, range) in tables {
                all.push(self.of_own(database, table, *range).await);
            }
            all
        };
        let asked = writers
            .iter()
            .map(|node| self.of_node(node, database, tables));
        let (mut all, answers) = futures::future::join(own, join_all(asked)).await;
        let newest = answers.iter().flatten().map(|answer| answer.sequence).max();
        cluster.refresh_to(newest.unwrap_or(0)).await?;
        let snapshot = cluster.catalog.snapshot();
        let mut failed = Vec::new();
        for (node, answer) in writers.iter().zip(answers) {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    failed.push((Arc::clone(node), error));
                    continue;
                }
            };
            for ((of_table, (table, _)), (id, chunks)) in
                all.iter_mut().zip(tables).zip(answer.tables)
            {
                // If not, it was dropped, and perhaps made anew.
                if snapshot
                    .table(database, table)
                    .is_some_and(|table| table.id == id)
                {
                    of_table.extend(chunks);
                }
            }
        }
        Ok(Tried {
            tables: all,
            failed,
        })
    }
}

struct Tried {
    tables: Vec<Vec<RecentChunk>>,
    failed: Vec<(Arc<Node>, CallError)>,
}

impl ClusterRows {
    /// Whether a node that does not tell may do so in a moment, or another process for it.
    async fn is_worth_waiting(
        &self,
        node: &Node,
        error: &CallError,
        waited: Duration,
    ) -> Result<bool, CatalogError> {
        // It may have stopped, or been adopted, or started anew.
        let snapshot = self.cluster.refresh().await?;
        let now = snapshot.node(&node.name);
        let is_as_it_was =
            now.is_some_and(|now| now.epoch == node.epoch && now.has_left == node.has_left);
        let patience = match error {
            _ if !is_as_it_was => PATIENCE,
            CallError::Unreachable(_) => Duration::ZERO,
            _ if self.cluster.is_dead(node) => Duration::ZERO,
            // It may only be busy.
            CallError::Late(_) => LATE_PATIENCE,
            CallError::Another(_) | CallError::Refused(_) => START_PATIENCE,
        };
        Ok(waited < patience)
    }

    /// Adds the rows of a node that are in its log.
    async fn add_of_log(
        &self,
        node: &Node,
        database: &str,
        asked: &[TableRange],
        all: &mut [Vec<RecentChunk>],
    ) -> Result<(), LogError> {
        let rows = self.logs.of(&self.cluster.catalog, node).await?;
        let (copy, snapshot) = (rows.catalog.snapshot(), self.cluster.refresh().await?);
        let now = snapshot.node(&node.name);
        if now.is_none_or(|now| now.epoch != node.epoch || now.has_left) {
            return Err(LogError::Changed);
        }
        for ((table, range), of_table) in asked.iter().zip(all) {
            let id = |snapshot: &Snapshot| Some(snapshot.table(database, table)?.id);
            // If not, it was dropped, and perhaps made anew.
            if id(&copy) == id(&snapshot) {
                let recent = rows.ingester.recent(database, table, *range);
                of_table.extend(recent.into_iter().map(|chunk| RecentChunk {
                    key: None,
                    order: chunk.order,
                    rows: chunk.rows,
                }));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl RecentRows for ClusterRows {
    async fn recent(&self, database: &str, tables: &[TableRange]) -> Result<Recent, SegmentError> {
        let unavailable = |error: CatalogError| SegmentError::Unavailable {
            object: "the catalog".to_owned(),
            message: error.to_string(),
        };
        let begun = Instant::now();
        loop {
            let tried = self.of_all(database, tables).await;
            let mut tried = tried.map_err(unavailable)?;
            let mut missing = Vec::new();
            let mut waits = false;
            for (node, error) in &tried.failed {
                let waiting = self.is_worth_waiting(node, error, begun.elapsed()).await;
                if waiting.map_err(unavailable)? {
                    waits = true;
                    break;
                }
                let added = self.add_of_log(node, database, tables, &mut tried.tables);
                match added.await {
                    Ok(()) => {}
                    Err(LogError::Changed) if begun.elapsed() < PATIENCE => {
                        waits = true;
                        break;
                    }
                    Err(unread) => missing.push(format!(
                        "node {} at {} cannot be asked for what it acknowledged last ({error}), \
                         and its log cannot be read: {unread}",
                        node.name, node.address
                    )),
                }
            }
            if !waits {
                return Ok(Recent {
                    tables: tried.tables,
                    missing,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn is_remote(&self) -> bool {
        self.cluster.has_other_writers()
    }
}
