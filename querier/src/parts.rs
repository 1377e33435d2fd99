//! Parts of queries that processes compute for each other.
//!
//! A process that has a large query cuts the series that it reads into as many ranges as there are
//! processes, see [`crate::promql::source::Part`]. Each plans the query anew over the same state of
//! the tables ([`State`]), so that it finds the same series, and computes its range as far as
//! that goes. What comes back are frames.
//!
//! Whoever asks must be able to do it all itself: another process may be gone, or of another
//! version.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::promql::exec::PartError;
use crate::sql::SqlPartError;
use crate::tables::State;

/// Rows of a part, at least: about 200 ms of a processor, beside which planning it once more, which
/// takes 5 to 10 ms, is little.
pub const PART_ROWS: u64 = 1 << 23;
/// Most bytes of a frame.
pub const MAX_FRAME_BYTES: usize = 256 << 20;
/// A process that is silent for so long is given up.
pub(crate) const SILENCE: Duration = Duration::from_secs(4);
/// How often whoever waits hears that something is going on.
const ALIVE: Duration = Duration::from_secs(1);
/// Frames that wait for their reader.
const WAITING: usize = 4;

/// Who takes a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Worker {
    /// This process.
    Here,
    /// The process of this name.
    Node(Arc<str>),
}

/// In which language a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// An aggregation of PromQL.
    Promql,
    /// An aggregation of SQL.
    Sql,
}

/// What another process is asked for.
#[derive(Debug, Clone)]
pub struct PartRequest {
    /// What is to be done, for [`crate::Querier::part`].
    pub head: Bytes,
    /// What this says it in.
    pub kind: PartKind,
    /// What is to be read.
    pub state: Arc<State>,
}

/// Why a part cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum NoPart {
    /// Of a query of PromQL.
    #[error(transparent)]
    Promql(#[from] PartError),
    /// Of a query of SQL.
    #[error(transparent)]
    Sql(#[from] SqlPartError),
}

/// Other processes that compute parts of queries.
#[async_trait]
pub trait Workers: std::fmt::Debug + Send + Sync {
    /// Whether there is any.
    fn has_any(&self) -> bool;

    /// Who takes the parts of the series of a database, one after the other; this process is one of
    /// them. The same process gets the same part as far as that is possible: it has it in its
    /// cache.
    fn order(&self, database: &str) -> Vec<Worker>;

    /// Has a part computed: frames as [`crate::Querier::part`] makes them.
    ///
    /// # Errors
    /// What is wrong, in words.
    async fn ask(
        &self,
        node: &str,
        request: PartRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, String>>, String>;
}

/// Those who take parts of so many batches, with so many rows of which each has its share. `None`
/// if this process is the only one.
pub(crate) fn takers(
    workers: &dyn Workers,
    database: &str,
    batches: usize,
    rows: u64,
    part_rows: u64,
) -> Option<Vec<Worker>> {
    let shares = usize::try_from(rows / part_rows.max(1)).unwrap_or(usize::MAX);
    let most = batches.min(shares);
    if most < 2 {
        return None;
    }
    let mut takers = workers.order(database);
    while takers.len() > most {
        let last_other = takers.iter().rposition(|taker| *taker != Worker::Here);
        takers.remove(last_other?);
    }
    (takers.len() > 1).then_some(takers)
}

/// Asks another process, and says what it cannot do in words.
pub(crate) struct Asked {
    frames: BoxStream<'static, Result<Bytes, String>>,
    /// Bytes that came.
    pub bytes: u64,
}

impl Asked {
    /// Asks.
    pub async fn ask(
        workers: &dyn Workers,
        node: &str,
        request: PartRequest,
    ) -> Result<Self, String> {
        let frames = tokio::time::timeout(SILENCE, workers.ask(node, request));
        Ok(Self {
            frames: frames.await.map_err(silent)??,
            bytes: 0,
        })
    }

    /// The next frame that says something.
    pub async fn next(&mut self) -> Result<Frame, String> {
        loop {
            let frame = tokio::time::timeout(SILENCE, self.frames.next()).await;
            let frame = frame.map_err(silent)?;
            let frame = frame.ok_or("its answer ends early")??;
            self.bytes += frame.len() as u64;
            match Frame::read(frame)? {
                Frame::Alive => {}
                Frame::Error(error) => return Err(error),
                frame => return Ok(frame),
            }
        }
    }
}

fn silent(_: tokio::time::error::Elapsed) -> String {
    format!("it is silent for {} s", SILENCE.as_secs())
}

/// A piece of the answer: a byte that says of what kind it is, and its content.
#[derive(Debug)]
pub(crate) enum Frame {
    /// It goes on.
    Alive,
    /// What a batch came to.
    Unit(Bytes),
    /// There is no more; what is to be said of all together.
    End(Bytes),
    /// There is no more, and some of it is missing.
    Error(String),
}

impl Frame {
    fn bytes(&self) -> Bytes {
        let (kind, content) = match self {
            Self::Alive => (0, &[][..]),
            Self::Unit(unit) => (1, &unit[..]),
            Self::End(end) => (2, &end[..]),
            Self::Error(error) => (3, error.as_bytes()),
        };
        let mut bytes = BytesMut::with_capacity(1 + content.len());
        bytes.extend_from_slice(&[kind]);
        bytes.extend_from_slice(content);
        bytes.freeze()
    }

    /// The frame that bytes are.
    fn read(mut bytes: Bytes) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("a frame is empty".to_owned());
        }
        let kind = bytes.split_to(1)[0];
        match kind {
            0 => Ok(Self::Alive),
            1 => Ok(Self::Unit(bytes)),
            2 => Ok(Self::End(bytes)),
            3 => Ok(Self::Error(String::from_utf8_lossy(&bytes).into_owned())),
            _ => Err(format!("a frame is of the unknown kind {kind}")),
        }
    }
}

/// Where frames go.
pub(crate) type Frames = mpsc::Sender<Frame>;

/// The frames that work makes as they come, signs of life between them, and at last its error.
/// Dropping the stream ends the work.
pub(crate) fn answer<F>(work: impl FnOnce(Frames) -> F) -> BoxStream<'static, Bytes>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let (to, frames) = mpsc::channel(WAITING);
    let running = Some(Box::pin(work(to)));
    stream::unfold((frames, running), async |(mut frames, mut running)| {
        loop {
            let Some(work) = running.as_mut() else {
                let frame = frames.recv().await?;
                return Some((frame.bytes(), (frames, running)));
            };
            tokio::select! {
                biased;
                Some(frame) = frames.recv() => return Some((frame.bytes(), (frames, running))),
                ended = work => {
                    running = None;
                    if let Err(error) = ended {
                        frames.close();
                        return Some((Frame::Error(error).bytes(), (frames, running)));
                    }
                }
                () = tokio::time::sleep(ALIVE) => {
                    return Some((Frame::Alive.bytes(), (frames, running)));
                }
            }
        }
    })
    .boxed()
}
