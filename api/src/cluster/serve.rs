//! What this process answers to others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;
use tidelake_catalog::memory::{Reservation, Share};
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::{Roles, Snapshot};
use tidelake_ingest::Ingester;
use tidelake_ingest::buffer::RecentRows;

use super::Cluster;
use super::messages::{
    self, ChunkHead, Hello, RecentAsked, RecentHead, Seen, TableAsked, TableHead,
};
use super::rows_codec;

/// Bytes of rows for which no memory is reserved.
const FEW_BYTES: usize = 1 << 20;
/// How long to wait for memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(5);

/// Why something is not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotServed {
    /// Another process, or another life of this one, is meant.
    #[error("{0}")]
    Another(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
    /// It is no question.
    #[error("the body cannot be read: {0}")]
    Malformed(#[from] Arc<serde_json::Error>),
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, NotServed> {
    Ok(serde_json::from_slice(body).map_err(Arc::new)?)
}

fn json(answer: &impl Serialize) -> Result<Bytes, NotServed> {
    let answer = serde_json::to_vec(answer);
    let answer = answer.map_err(|error| NotServed::Unavailable(error.to_string()))?;
    Ok(answer.into())
}

impl Cluster {
    /// Whether a request shows the secret of this store's processes.
    pub fn is_secret(&self, shown: &str) -> bool {
        shown.as_bytes().ct_eq(self.secret.as_bytes()).into()
    }

    /// Answers what another process asks at one of [`SERVED`](messages::SERVED), as [`messages`]
    /// describes it.
    ///
    /// # Errors
    /// If another is meant, the body cannot be read, or this process cannot do it now.
    pub async fn serve(self: &Arc<Self>, path: &str, body: &[u8]) -> Result<Bytes, NotServed> {
        match path {
            messages::HELLO => json(&self.serve_hello()),
            messages::SEEN => {
                let asked: Seen = read(body)?;
                json(&self.serve_seen(asked.sequence).await?)
            }
            messages::RECENT => {
                let asked: RecentAsked = read(body)?;
                self.serve_recent(Arc::new(asked)).await
            }
            messages::FLUSH => self.serve_flush().await.map(|()| Bytes::new()),
            path => Err(NotServed::Unavailable(format!(
                "nothing is asked at {path}"
            ))),
        }
    }

    /// Who this is.
    fn serve_hello(&self) -> Hello {
        // The commit first: what comes after it is found by a newer one.
        let sequence = self.catalog.snapshot().sequence();
        Hello {
            node: self.node.clone(),
            epoch: self.epoch,
            sequence,
            clock: self.clock.last(),
            is_ready: self.ingester.read().is_some(),
            adopting: self.adopting.lock().iter().cloned().collect(),
        }
    }

    /// Makes sure that this process knows a commit, and with it who writes.
    async fn serve_seen(&self, sequence: u64) -> Result<Hello, NotServed> {
        let seen = self.refresh_to(sequence).await;
        seen.map_err(|error| NotServed::Unavailable(error.to_string()))?;
        self.look_at_catalog();
        Ok(self.serve_hello())
    }

    /// Rows of tables that are in no segment, as the bytes that [`messages`](super::messages)
    /// describe.
    async fn serve_recent(self: &Arc<Self>, asked: Arc<RecentAsked>) -> Result<Bytes, NotServed> {
        let machine = self.catalog.environment();
        let stopped = |error: tokio::task::JoinError| NotServed::Unavailable(error.to_string());
        let (cluster, of) = (Arc::clone(self), Arc::clone(&asked));
        // Rows may have to be sorted.
        let found = machine.run_blocking(move || cluster.find_recent(&of));
        let found = found.await.map_err(stopped)??;
        let bytes = found.bytes(&asked);
        if asked.most_bytes.is_some_and(|most| bytes > most) {
            return found.announce(bytes);
        }
        let memory = match bytes > FEW_BYTES {
            true => Some(self.memory_for(bytes).await?),
            false => None,
        };
        let encoded = machine.run_blocking(move || found.encode(&asked, memory));
        encoded.await.map_err(stopped)?
    }

    async fn memory_for(&self, bytes: usize) -> Result<Reservation, NotServed> {
        let ingester = self.own_ingester()?;
        // A chunk is encoded apart before it is part of the answer.
        let memory = ingester
            .memory()
            .reserve(Share::Queries, bytes.saturating_mul(2));
        match tokio::time::timeout(MEMORY_PATIENCE, memory).await {
            Ok(Ok(memory)) => Ok(memory),
            _ => Err(NotServed::Unavailable(format!(
                "there is no memory to send {bytes} bytes of rows"
            ))),
        }
    }

    fn find_recent(&self, asked: &RecentAsked) -> Result<FoundRows, NotServed> {
        if self.adopting.lock().contains(&asked.node) {
            return Err(NotServed::Unavailable(format!(
                "the log of node {:?} is being put into segments",
                asked.node
            )));
        }
        if (&asked.node, asked.epoch) != (&self.node, self.epoch) {
            return Err(NotServed::Another(format!(
                "this is node {:?} of epoch {}",
                self.node, self.epoch
            )));
        }
        let ingester = self.own_ingester()?;
        let of_table = |table: &TableAsked| {
            let range = TimeRange::new(table.min, table.max);
            ingester.recent(&asked.database, &table.table, range)
        };
        let tables = asked.tables.iter().map(of_table).collect();
        // After the rows were taken: what is in none of them is in segments that it has.
        let snapshot = self.catalog.snapshot();
        Ok(FoundRows { tables, snapshot })
    }

    fn own_ingester(&self) -> Result<Arc<Ingester>, NotServed> {
        let ingester = self.ingester.read().clone();
        ingester.ok_or_else(|| {
            NotServed::Unavailable(match self.roles.has(Roles::INGEST) {
                true => format!("node {:?} is reading its log", self.node),
                false => format!("node {:?} takes no writes", self.node),
            })
        })
    }

    /// Puts everything that this process has into segments.
    async fn serve_flush(&self) -> Result<(), NotServed> {
        let ingester = self.own_ingester()?;
        let flushed = ingester.flush().await;
        flushed.map_err(|error| NotServed::Unavailable(error.to_string()))
    }
}

/// Rows that were asked for, and a commit that has all others.
struct FoundRows {
    tables: Vec<Vec<RecentRows>>,
    snapshot: Arc<Snapshot>,
}

impl FoundRows {
    /// Bytes of the rows that the asking process has not.
    fn bytes(&self, asked: &RecentAsked) -> usize {
        let tables = self.tables.iter().zip(&asked.tables);
        let new = tables.flat_map(|(chunks, table)| {
            let new = chunks
                .iter()
                .filter(|chunk| !table.have.contains(&chunk.id));
            new.map(|chunk| rows_codec::size(&chunk.rows))
        });
        new.sum()
    }

    fn announce(&self, bytes: usize) -> Result<Bytes, NotServed> {
        let head = RecentHead {
            sequence: self.snapshot.sequence(),
            tables: Vec::new(),
            announced_bytes: Some(bytes),
        };
        let head = json(&head)?;
        let mut out = Vec::with_capacity(4 + head.len());
        put_head(&mut out, &head);
        Ok(out.into())
    }

    /// Its memory stays reserved until the answer is sent.
    fn encode(&self, asked: &RecentAsked, memory: Option<Reservation>) -> Result<Bytes, NotServed> {
        let mut heads = Vec::with_capacity(self.tables.len());
        let mut rows = Vec::new();
        for (found, table) in self.tables.iter().zip(&asked.tables) {
            let mut chunks = Vec::with_capacity(found.len());
            for chunk in found {
                let bytes = match table.have.contains(&chunk.id) {
                    true => None,
                    false => {
                        let encoded = rows_codec::encode(&chunk.rows);
                        let encoded =
                            encoded.map_err(|error| NotServed::Unavailable(error.to_string()))?;
                        rows.push(encoded);
                        rows.last().map(Vec::len)
                    }
                };
                chunks.push(ChunkHead {
                    id: chunk.id,
                    order: (chunk.order.first, chunk.order.last, chunk.order.part),
                    bytes,
                });
            }
            let table = self.snapshot.table(&asked.database, &table.table);
            heads.push(TableHead {
                table_id: table.map_or(0, |table| table.id),
                chunks,
            });
        }
        let head = json(&RecentHead {
            sequence: self.snapshot.sequence(),
            tables: heads,
            announced_bytes: None,
        })?;
        let len = 4 + head.len() + rows.iter().map(Vec::len).sum::<usize>();
        let mut out = Vec::with_capacity(len);
        put_head(&mut out, &head);
        // One after the other is let go.
        rows.into_iter()
            .for_each(|rows| out.extend_from_slice(&rows));
        Ok(match memory {
            Some(memory) => Bytes::from_owner(Held {
                bytes: out,
                _memory: memory,
            }),
            None => out.into(),
        })
    }
}

fn put_head(out: &mut Vec<u8>, head: &[u8]) {
    out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(head);
}

/// Bytes and their memory.
struct Held {
    bytes: Vec<u8>,
    _memory: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
