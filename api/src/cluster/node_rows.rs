//! Rows of another ingester that are in no segment yet: fetched, and kept while they are asked for.
//!
//! An ingester's chunks never change, so each is fetched once. Most answers are small: what was
//! written since the last query. If there is more, the ingester says how much, and nothing else.
//! Then one query fetches it, within the memory that it has reserved, and the others find it here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelake_catalog::Node;
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tidelake_catalog::segment::{SortedRows, WriteOrder};
use tidelake_querier::tables::{ChunkKey, RecentChunk, TableRange};
use tokio::time::Instant;

use super::Cluster;
use super::messages::{RecentAsked, RecentHead, TableAsked};
use super::rows_codec;
use super::transport::CallError;

/// Bytes of rows that come without being announced.
const FEW_BYTES: usize = 1 << 20;
/// Times to ask for announced rows: meanwhile there may be more of them.
const TRIES: usize = 4;
/// How long to wait for memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Chunks that nobody asked for in this time are let go.
const KEPT: Duration = Duration::from_secs(60);

/// What one node has.
pub struct OfNode {
    /// The commit that has all that is in none of the chunks.
    pub sequence: u64,
    /// Which table of each name, and its chunks.
    pub tables: Vec<(u64, Vec<RecentChunk>)>,
}

/// Chunks of other nodes.
#[derive(Debug)]
pub struct NodeRows {
    memory: Arc<MemoryBudget>,
    kept: Mutex<HashMap<ChunkKey, Kept>>,
    /// Who fetches much of a node.
    turns: Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug)]
struct Kept {
    rows: Arc<SortedRows>,
    used: Instant,
    table: (String, String),
    _memory: Reservation,
}

impl NodeRows {
    /// None yet; they are kept in the share of caches.
    pub fn new(memory: &Arc<MemoryBudget>) -> Self {
        Self {
            memory: Arc::clone(memory),
            kept: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// The rows of a node in some tables.
    ///
    /// # Errors
    /// If it does not tell, or if there is no memory for them.
    pub async fn of(
        &self,
        cluster: &Cluster,
        node: &Node,
        database: &str,
        tables: &[TableRange],
    ) -> Result<OfNode, CallError> {
        if let Some(error) = cluster.members.failed_just_now(node) {
            return Err(error);
        }
        let ask = async |most_bytes| {
            let asked = self.asked(node, database, tables, most_bytes);
            // One that has not answered lately is not waited for long.
            let patience = cluster
                .members
                .is_suspect(node)
                .then_some(super::PATIENCE.min(cluster.lease / 2));
            let answer = cluster.calls.recent(&node.address, &asked, patience).await;
            let read = answer.and_then(|answer| self.read(node, &asked, &answer));
            if let Err(error @ (CallError::Unreachable(_) | CallError::Late(_))) = &read {
                cluster.members.note(node, &Err(error.clone()));
            }
            read
        };
        if let Read::All(all) = ask(FEW_BYTES).await? {
            return Ok(all);
        }
        let turn = {
            let mut turns = self.turns.lock();
            Arc::clone(turns.entry(Arc::clone(&node.name)).or_default())
        };
        let _turn = turn.lock().await;
        for _ in 0..TRIES {
            // Whoever had the turn before may have fetched it.
            let announced = match ask(FEW_BYTES).await? {
                Read::All(all) => return Ok(all),
                Read::Announced(bytes) => bytes,
            };
            // A little more may have been written until it is asked for again.
            let most = (announced / 8 * 9).saturating_add(FEW_BYTES);
            // The answer, and its rows until they are kept.
            let memory = self.memory.reserve(Share::Queries, most.saturating_mul(2));
            let memory = tokio::time::timeout(PATIENCE, memory).await;
            let Ok(Ok(_memory)) = memory else {
                return Err(too_large(announced));
            };
            if let Read::All(all) = ask(most).await? {
                return Ok(all);
            }
        }
        Err(CallError::Late(
            "it takes writes faster than they are read".to_owned(),
        ))
    }

    fn asked(
        &self,
        node: &Node,
        database: &str,
        tables: &[TableRange],
        most_bytes: usize,
    ) -> RecentAsked {
        let asked = tables.iter().map(|(table, range)| TableAsked {
            table: table.to_string(),
            min: range.min,
            max: range.max,
            have: self.have(node, (database, table)),
        });
        RecentAsked {
            node: node.name.to_string(),
            epoch: node.epoch,
            database: database.to_owned(),
            tables: asked.collect(),
            most_bytes: Some(most_bytes),
        }
    }

    fn have(&self, node: &Node, table: (&str, &str)) -> Vec<u64> {
        let mut kept = self.kept.lock();
        kept.retain(|_, chunk| chunk.used.elapsed() < KEPT);
        let of_table = kept.iter().filter(|(key, chunk)| {
            key.node == node.name
                && key.epoch == node.epoch
                && (&*chunk.table.0, &*chunk.table.1) == table
        });
        of_table.map(|(key, _)| key.id).collect()
    }

    fn read(&self, node: &Node, asked: &RecentAsked, answer: &Bytes) -> Result<Read, CallError> {
        let another = |why: &str| CallError::Another(why.to_owned());
        let malformed = || another("its answer ends early");
        let (len, rest) = answer.split_first_chunk::<4>().ok_or_else(malformed)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (head, mut rest) = rest.split_at_checked(len).ok_or_else(malformed)?;
        let head: RecentHead =
            serde_json::from_slice(head).map_err(|error| another(&error.to_string()))?;
        if let Some(bytes) = head.announced_bytes {
            return Ok(Read::Announced(bytes));
        }
        if head.tables.len() != asked.tables.len() {
            return Err(another("it answers for other tables"));
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
                        found.ok_or_else(|| another("rows that it thinks are here were let go"))?
                    }
                    Some(len) => {
                        let (bytes, others) = rest.split_at_checked(len).ok_or_else(malformed)?;
                        rest = others;
                        let decoded = rows_codec::decode(bytes);
                        let decoded = decoded.map_err(|error| another(&error.to_string()))?;
                        let decoded = Arc::new(decoded);
                        let table = (&*asked.database, &*asked_table.table);
                        // What is counted nowhere must be little.
                        if !self.keep(&key, table, &decoded) && len > FEW_BYTES {
                            return Err(too_large(len));
                        }
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
        Ok(Read::All(OfNode {
            sequence: head.sequence,
            tables,
        }))
    }

    /// The rows of a chunk that is kept.
    pub fn kept(&self, key: &ChunkKey) -> Option<Arc<SortedRows>> {
        let mut kept = self.kept.lock();
        let chunk = kept.get_mut(key)?;
        chunk.used = Instant::now();
        Some(Arc::clone(&chunk.rows))
    }

    /// Keeps rows if there is memory for them; false if not.
    pub fn keep(&self, key: &ChunkKey, table: (&str, &str), rows: &Arc<SortedRows>) -> bool {
        let mut kept = self.kept.lock();
        kept.retain(|_, chunk| chunk.used.elapsed() < KEPT);
        // Series have their labels.
        let series: usize = rows
            .runs
            .iter()
            .map(|run| run.series.labels.as_str().len())
            .sum();
        let bytes = rows.memory_size() + series + rows.runs.len() * 64;
        let Ok(memory) = self.memory.try_reserve(Share::Caches, bytes) else {
            return false;
        };
        let chunk = Kept {
            rows: Arc::clone(rows),
            used: Instant::now(),
            table: (table.0.to_owned(), table.1.to_owned()),
            _memory: memory,
        };
        kept.insert(key.clone(), chunk);
        true
    }
}

/// What an answer says.
enum Read {
    All(OfNode),
    /// There are so many bytes of rows.
    Announced(usize),
}

fn too_large(bytes: usize) -> CallError {
    CallError::TooLarge(format!(
        "{bytes} bytes of rows that are in no segment yet do not fit into memory"
    ))
}
