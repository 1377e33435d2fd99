//! What all ingesters have in no segment yet.
//!
//! With its rows (`node_rows`) an ingester says which commit it knows: rows that it let go before
//! are in segments that this commit has, and the catalog is followed up to it before anything is
//! read.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::segment::SegmentError;
use tidelake_catalog::{CatalogError, Node, Snapshot};
use tidelake_ingest::Ingester;
use tidelake_querier::tables::{ChunkKey, Recent, RecentChunk, RecentRows, TableRange};
use tokio::time::Instant;

use super::Cluster;
use super::log_rows::{LogError, LogRows};
use super::node_rows::NodeRows;
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

/// Recent rows of the ingester of the same process, and of all others.
#[derive(Debug)]
pub struct ClusterRows {
    own: Option<Arc<Ingester>>,
    cluster: Arc<Cluster>,
    logs: LogRows,
    /// Chunks of others.
    pub(super) others: NodeRows,
}

impl ClusterRows {
    /// Rows of these, kept in the share of caches, and out of the logs of those that cannot be
    /// asked.
    pub fn new(
        own: Option<Arc<Ingester>>,
        cluster: Arc<Cluster>,
        memory: &Arc<MemoryBudget>,
        logs: LogRows,
    ) -> Self {
        Self {
            own,
            cluster,
            logs,
            others: NodeRows::new(memory),
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

    /// The ingester of this process.
    pub(super) fn own(&self) -> Option<&Arc<Ingester>> {
        self.own.as_ref()
    }

    /// Whether a chunk is one of this process.
    pub(super) fn is_own(&self, key: &ChunkKey) -> bool {
        *key.node == *self.cluster.node && key.epoch == self.cluster.epoch
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
            .map(|node| self.others.of(cluster, node, database, tables));
        let (mut all, answers) = futures::future::join(own, join_all(asked)).await;
        let newest = answers.iter().flatten().map(|answer| answer.sequence).max();
        cluster.refresh_to(newest.unwrap_or(0)).await?;
        cluster.catalog.check_fence()?;
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
            CallError::Unreachable(_) | CallError::TooLarge(_) => Duration::ZERO,
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
                if matches!(error, CallError::TooLarge(_)) {
                    missing.push(format!("node {} at {}: {error}", node.name, node.address));
                    continue;
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
