//! What this process answers to others.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;
use tidelake_catalog::Roles;
use tidelake_catalog::model::TimeRange;
use tidelake_ingest::Ingester;

use super::Cluster;
use super::messages::{self, ChunkHead, Hello, RecentAsked, RecentHead, Seen, TableHead};
use super::rows_codec;

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
                // Rows may have to be sorted, and are encoded.
                let (machine, cluster) = (self.catalog.environment(), Arc::clone(self));
                let rows = machine.run_blocking(move || cluster.serve_recent(&asked));
                let rows = rows.await;
                rows.unwrap_or_else(|error| Err(NotServed::Unavailable(error.to_string())))
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
    fn serve_recent(&self, asked: &RecentAsked) -> Result<Bytes, NotServed> {
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
        let unavailable = |error: &dyn std::fmt::Display| NotServed::Unavailable(error.to_string());
        let mut tables = Vec::with_capacity(asked.tables.len());
        let mut rows = Vec::new();
        for table in &asked.tables {
            let range = TimeRange::new(table.min, table.max);
            let recent = ingester.recent(&asked.database, &table.table, range);
            let mut chunks = Vec::with_capacity(recent.len());
            for chunk in recent {
                let bytes = match table.have.contains(&chunk.id) {
                    true => None,
                    false => {
                        let encoded = rows_codec::encode(&chunk.rows);
                        rows.push(encoded.map_err(|error| unavailable(&error))?);
                        rows.last().map(Vec::len)
                    }
                };
                chunks.push(ChunkHead {
                    id: chunk.id,
                    order: (chunk.order.first, chunk.order.last, chunk.order.part),
                    bytes,
                });
            }
            tables.push(TableHead {
                table_id: 0,
                chunks,
            });
        }
        // After the rows were taken: what is in none of them is in segments that it has.
        let snapshot = self.catalog.snapshot();
        for (head, table) in tables.iter_mut().zip(&asked.tables) {
            let table = snapshot.table(&asked.database, &table.table);
            head.table_id = table.map_or(0, |table| table.id);
        }
        let head = RecentHead {
            sequence: snapshot.sequence(),
            tables,
        };
        let head = serde_json::to_vec(&head).map_err(|error| unavailable(&error))?;
        let mut out = Vec::with_capacity(4 + head.len() + rows.iter().map(Vec::len).sum::<usize>());
        out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&head);
        rows.iter().for_each(|rows| out.extend_from_slice(rows));
        Ok(out.into())
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
