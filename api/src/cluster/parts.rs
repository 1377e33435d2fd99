//! Parts of queries that processes compute for each other.
//!
//! A process sends what is to be done and the state of the tables that it has to be done over. It
//! sends only those chunks of recent rows that the other does not have: the first try names all,
//! and where some are missing the second one brings them.
//!
//! A body is the length of a `PartAsked` in 4 bytes, little-endian, this as JSON, what is to be
//! done, the state as a checkpoint of the catalog, and rows as `rows_codec` has them. An answer is
//! frames, each after its length in 4 bytes.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::segment::{SortedRows, WriteOrder};
use tidelake_catalog::snapshot::{Node, Snapshot};
use tidelake_catalog::{Roles, StoreError};
use tidelake_querier::parts::{MAX_FRAME_BYTES, NoPart, PartKind, PartRequest, Worker, Workers};
use tidelake_querier::tables::{ChunkKey, RecentChunk, State, StateChunks};
use xxhash_rust::xxh3::xxh3_64;

use super::Cluster;
use super::recent_rows::ClusterRows;
use super::rows_codec::{self, RowsError};
use super::transport::{CallError, PartAnswer};

/// Most bytes of a body.
pub const MAX_BODY_BYTES: usize = 512 << 20;

/// Most bytes of rows that are sent along: with more the part is computed where they are.
const MAX_ATTACHED_BYTES: usize = 64 << 20;

const PROMQL: &str = "promql";
const SQL: &str = "sql";

/// What a body begins with.
#[derive(Debug, Serialize, Deserialize)]
struct PartAsked {
    /// `promql` or `sql`.
    kind: String,
    head_bytes: usize,
    state_bytes: usize,
    chunks: Vec<PartChunk>,
}

/// A chunk of recent rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PartChunk {
    database: String,
    table: String,
    /// The times that were asked for.
    range: (i64, i64),
    node: String,
    epoch: u64,
    id: u64,
    /// Its place among all writes, as in [`ChunkHead`](super::messages::ChunkHead).
    order: (u64, u64, u64),
    /// Bytes of its rows; none if they do not come along.
    bytes: Option<usize>,
}

/// Why a part is not computed.
#[derive(Debug, thiserror::Error)]
pub enum PartRefused {
    /// These chunks, by their places in the body, are not here.
    #[error("{} chunks of recent rows are not here", .0.len())]
    Missing(Vec<usize>),
    /// The body is none.
    #[error("the body {0}")]
    Malformed(&'static str),
    /// Its beginning is none.
    #[error("the body cannot be read: {0}")]
    Head(#[from] serde_json::Error),
    /// Its state is none.
    #[error(transparent)]
    State(#[from] StoreError),
    /// Its rows are none.
    #[error("recent rows cannot be read: {0}")]
    Rows(#[from] RowsError),
    /// What it asks for cannot be begun.
    #[error(transparent)]
    Part(#[from] NoPart),
}

/// The other processes that answer queries.
#[derive(Debug)]
pub struct ClusterWorkers(pub Arc<Cluster>);

impl ClusterWorkers {
    fn others(&self) -> Vec<Arc<Node>> {
        let cluster = &self.0;
        let mut others = cluster.others(&cluster.catalog.snapshot());
        others.retain(|node| {
            node.roles.has(Roles::QUERY)
                && cluster.members.failed_just_now(node).is_none()
                && !cluster.is_dead(node)
        });
        others
    }
}

#[async_trait]
impl Workers for ClusterWorkers {
    fn has_any(&self) -> bool {
        !self.others().is_empty()
    }

    /// The order of hashes: who comes or goes moves the bounds of the others' parts, and no more.
    fn order(&self, database: &str) -> Vec<Worker> {
        let others = self.others();
        let names = others.iter().map(|node| Worker::Node(node.name.clone()));
        let mut workers: Vec<Worker> = names.chain([Worker::Here]).collect();
        workers.sort_by_cached_key(|worker| {
            let name = match worker {
                Worker::Here => &*self.0.node,
                Worker::Node(name) => name,
            };
            xxh3_64(format!("{database}/{name}").as_bytes())
        });
        workers
    }

    async fn ask(
        &self,
        node: &str,
        request: PartRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, String>>, String> {
        let cluster = &self.0;
        let snapshot = cluster.catalog.snapshot();
        let node = snapshot.node(node).ok_or("it has left")?;
        let chunks = chunks_of(&request.state).ok_or("rows have no name that it knows")?;
        let mut attached = Vec::new();
        for _ in 0..2 {
            let body = body(&request, &chunks, &attached).map_err(|error| error.to_string())?;
            let answer = cluster.calls.part(&node.address, body).await;
            match answer {
                Ok(PartAnswer::Frames(pieces)) => return Ok(frames(pieces)),
                Ok(PartAnswer::Missing(missing)) => attached = missing,
                Err(error) => {
                    if matches!(error, CallError::Unreachable(_)) {
                        cluster.members.note(node, &Err(error.clone()));
                    }
                    return Err(error.to_string());
                }
            }
        }
        Err("it lets go of rows that it was sent".to_owned())
    }
}

/// All chunks of a state, in an order; `None` if any is of no process.
fn chunks_of(state: &State) -> Option<Vec<(PartChunk, &RecentChunk)>> {
    let mut found = Vec::new();
    for of in &state.recent {
        for chunk in &of.chunks {
            let key = chunk.key.as_ref()?;
            let (first, last, part) = (chunk.order.first, chunk.order.last, chunk.order.part);
            let named = PartChunk {
                database: of.database.clone(),
                table: of.table.clone(),
                range: (of.range.min, of.range.max),
                node: key.node.to_string(),
                epoch: key.epoch,
                id: key.id,
                order: (first, last, part),
                bytes: None,
            };
            found.push((named, chunk));
        }
    }
    Some(found)
}

/// A body with the rows of some of the chunks.
fn body(
    request: &PartRequest,
    chunks: &[(PartChunk, &RecentChunk)],
    attached: &[usize],
) -> Result<Bytes, RowsError> {
    let mut rows = HashMap::with_capacity(attached.len());
    let mut bytes = 0;
    for at in attached {
        if let Some((_, chunk)) = chunks.get(*at) {
            let encoded = rows_codec::encode(&chunk.rows)?;
            bytes += encoded.len();
            if bytes > MAX_ATTACHED_BYTES {
                return Err(RowsError::Malformed("there are too many to be sent along"));
            }
            rows.insert(*at, encoded);
        }
    }
    let state = request.state.snapshot.to_bytes();
    let named = chunks.iter().zip(0..).map(|((chunk, _), at)| PartChunk {
        bytes: rows.get(&at).map(Vec::len),
        ..chunk.clone()
    });
    let kind = match request.kind {
        PartKind::Promql => PROMQL,
        PartKind::Sql => SQL,
    };
    let asked = PartAsked {
        kind: kind.to_owned(),
        head_bytes: request.head.len(),
        state_bytes: state.len(),
        chunks: named.collect(),
    };
    let asked = serde_json::to_vec(&asked)?;
    let mut body = BytesMut::with_capacity(4 + asked.len() + request.head.len() + state.len());
    body.extend_from_slice(&u32::try_from(asked.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend_from_slice(&asked);
    body.extend_from_slice(&request.head);
    body.extend_from_slice(&state);
    let in_order = (0..chunks.len()).filter_map(|at| rows.get(&at));
    in_order.for_each(|rows| body.extend_from_slice(rows));
    Ok(body.freeze())
}

/// What a body asks for.
///
/// # Errors
/// If it asks for nothing, or over rows that are not here.
pub fn read(mut body: Bytes, rows: &ClusterRows) -> Result<PartRequest, PartRefused> {
    let mut take = |len: usize| match len <= body.len() {
        true => Ok(body.split_to(len)),
        false => Err(PartRefused::Malformed("ends early")),
    };
    let len = take(4)?.get_u32_le();
    let asked: PartAsked = serde_json::from_slice(&take(len as usize)?)?;
    let head = take(asked.head_bytes)?;
    let snapshot = Snapshot::from_bytes(&take(asked.state_bytes)?)?;
    let kind = match &*asked.kind {
        PROMQL => PartKind::Promql,
        SQL => PartKind::Sql,
        _ => return Err(PartRefused::Malformed("is of an unknown kind")),
    };
    let mut recent: Vec<StateChunks> = Vec::new();
    let mut own = HashMap::new();
    let mut missing = Vec::new();
    for (at, chunk) in asked.chunks.into_iter().enumerate() {
        let key = ChunkKey {
            node: chunk.node.as_str().into(),
            epoch: chunk.epoch,
            id: chunk.id,
        };
        let table = (&*chunk.database, &*chunk.table);
        let found = match chunk.bytes {
            None => rows.find(&key, table, &mut own),
            Some(len) => {
                let decoded = Arc::new(rows_codec::decode(&take(len)?)?);
                rows.others.keep(&key, table, &decoded);
                Some(decoded)
            }
        };
        let Some(found) = found else {
            missing.push(at);
            continue;
        };
        let (first, last, part) = chunk.order;
        let found = RecentChunk {
            key: Some(key),
            order: WriteOrder::of((first, last)).part(part),
            rows: found,
        };
        let range = TimeRange::new(chunk.range.0, chunk.range.1);
        // Those of a table follow each other.
        let is_it = |of: &&mut StateChunks| {
            (&of.database, &of.table, of.range) == (&chunk.database, &chunk.table, range)
        };
        match recent.last_mut().filter(is_it) {
            Some(of) => of.chunks.push(found),
            None => recent.push(StateChunks {
                database: chunk.database,
                table: chunk.table,
                range,
                chunks: vec![found],
            }),
        }
    }
    if !missing.is_empty() {
        return Err(PartRefused::Missing(missing));
    }
    let snapshot = Arc::new(snapshot);
    Ok(PartRequest {
        head,
        kind,
        state: Arc::new(State { snapshot, recent }),
    })
}

impl ClusterRows {
    /// The rows of a chunk, if this process has it.
    fn find(
        &self,
        key: &ChunkKey,
        (database, table): (&str, &str),
        own: &mut HashMap<(String, String), HashMap<u64, Arc<SortedRows>>>,
    ) -> Option<Arc<SortedRows>> {
        if !self.is_own(key) {
            return self.others.kept(key);
        }
        let ingester = self.own()?;
        let of_table = own
            .entry((database.to_owned(), table.to_owned()))
            .or_insert_with(|| {
                let recent = ingester.recent(database, table, TimeRange::ALL);
                recent
                    .into_iter()
                    .map(|chunk| (chunk.id, chunk.rows))
                    .collect()
            });
        of_table.get(&key.id).cloned()
    }
}

/// A frame as it is sent.
pub fn framed(frame: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + frame.len());
    out.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(frame);
    out.freeze()
}

/// The frames in pieces of bytes.
fn frames(
    pieces: BoxStream<'static, Result<Bytes, CallError>>,
) -> BoxStream<'static, Result<Bytes, String>> {
    let begun = (pieces, BytesMut::new());
    stream::try_unfold(begun, async |(mut pieces, mut buffer)| {
        loop {
            if let Some((len, _)) = buffer.split_first_chunk::<4>() {
                let len = u32::from_le_bytes(*len) as usize;
                if len > MAX_FRAME_BYTES + 1 {
                    return Err(format!("it sends a frame of {len} bytes"));
                }
                if buffer.len() >= 4 + len {
                    buffer.advance(4);
                    let frame = buffer.split_to(len).freeze();
                    return Ok(Some((frame, (pieces, buffer))));
                }
            }
            match pieces.next().await {
                Some(Ok(piece)) => buffer.extend_from_slice(&piece),
                Some(Err(error)) => return Err(error.to_string()),
                None if buffer.is_empty() => return Ok(None),
                None => return Err("its answer ends early".to_owned()),
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn frames_come_out_of_pieces_of_any_size() {
        let sent = [
            Bytes::from_static(b"one"),
            Bytes::new(),
            vec![7; 300].into(),
        ];
        let all: Vec<u8> = sent.iter().flat_map(framed).collect();
        for size in [1, 3, 4, 5, 64, 1000] {
            let pieces = all
                .chunks(size)
                .map(|piece| Ok(Bytes::copy_from_slice(piece)));
            let pieces: Vec<_> = pieces.collect();
            let read = frames(stream::iter(pieces).boxed());
            assert_eq!(read.try_collect::<Vec<_>>().await.unwrap(), sent, "{size}");
        }
        let cut = stream::iter([Ok(Bytes::copy_from_slice(&all[..all.len() - 1]))]);
        let cut = frames(cut.boxed()).try_collect::<Vec<_>>().await;
        assert_eq!(cut.unwrap_err(), "its answer ends early");
        let long = stream::iter([Ok(Bytes::from_static(&[255; 4]))]);
        let long = frames(long.boxed()).try_collect::<Vec<_>>().await;
        assert!(long.unwrap_err().contains("4294967295 bytes"));
    }
}
