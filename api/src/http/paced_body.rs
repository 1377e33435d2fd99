//! Answers that are sent no faster than their client reads them.
//!
//! hyper polls a body only while it can write to the connection. A body that computes when it is
//! polled would never notice that its client reads nothing: its query would keep slot and memory
//! for ever. So a task of its own makes the chunks and puts them into a channel, and that task has
//! a clock.
//!
//! Invariants:
//! - one chunk is ahead of the connection: the next is made when the channel is empty;
//! - the query keeps its slot until the connection has taken the last chunk;
//! - the task ends when the client takes no chunk for `write_timeout_ms`, when the whole answer
//!   takes longer than `query_timeout_ms`, or when the connection is gone. What the query holds is
//!   dropped then;
//! - a body whose task ended early fails, so that half an answer never looks like a whole one.
//!
//! An answer that is no body of bytes ([`Pace::items`]) keeps to the same.
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::service::error::{Code, ServiceError};
use crate::service::slots::{Outcome, QuerySlot};

/// Bytes from which an answer is sent in chunks, and about the size of a chunk. What is smaller is
/// sent whole, without a task.
pub const CHUNK_BYTES: usize = 64 << 10;

/// How fast an answer must be read, and where it is made.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Longest time in which a client takes no chunk.
    pub write_timeout: Duration,
    /// Longest time in which an answer that is sent in chunks is taken.
    pub answer_timeout: Duration,
}

enum Part<T> {
    Items(Vec<T>),
    /// What went wrong after them.
    Failed(ServiceError),
    /// After the last part. Without it the answer is incomplete.
    End,
}

/// An answer that has begun.
enum Begun<T> {
    /// It is small, and this is all.
    Whole(Vec<T>),
    Parts(Parts<T>),
}

impl Pace {
    /// For tests of answers whose readers read.
    #[cfg(test)]
    pub fn patient() -> Self {
        Self {
            write_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(60),
        }
    }

    /// A body of these chunks. Waits for the first [`CHUNK_BYTES`] or for the end.
    ///
    /// # Errors
    /// What `chunks` fails with before so much is there. Later failures break the body.
    pub async fn body(
        &self,
        chunks: impl Stream<Item = Result<Bytes, ServiceError>> + Send + Unpin + 'static,
        slot: impl Into<Arc<QuerySlot>>,
    ) -> Result<Body, ServiceError> {
        Ok(match self.begin(chunks, Bytes::len, slot.into()).await? {
            Begun::Whole(chunks) => Body::from(joined(chunks)),
            Begun::Parts(parts) => Body::from_stream(parts.map(|part| match part {
                Ok(chunks) => Ok(joined(chunks)),
                Err(error) => Err(io::Error::other(error)),
            })),
        })
    }

    /// The same for items that are no bytes; `length` tells how many they become. A later failure
    /// is the last item.
    pub async fn items<T: Send + 'static>(
        &self,
        items: impl Stream<Item = Result<T, ServiceError>> + Send + Unpin + 'static,
        length: fn(&T) -> usize,
        slot: impl Into<Arc<QuerySlot>>,
    ) -> Result<BoxStream<'static, Result<T, ServiceError>>, ServiceError> {
        let of_part = |part: Vec<T>| stream::iter(part.into_iter().map(Ok));
        Ok(match self.begin(items, length, slot.into()).await? {
            Begun::Whole(part) => of_part(part).boxed(),
            Begun::Parts(parts) => parts.map_ok(of_part).try_flatten().boxed(),
        })
    }

    async fn begin<T: Send + 'static>(
        &self,
        mut items: impl Stream<Item = Result<T, ServiceError>> + Send + Unpin + 'static,
        length: fn(&T) -> usize,
        slot: Arc<QuerySlot>,
    ) -> Result<Begun<T>, ServiceError> {
        let (mut head, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES {
            match items.next().await {
                Some(Ok(item)) => {
                    bytes += length(&item);
                    head.push(item);
                }
                Some(Err(error)) => {
                    slot.fail(&error);
                    return Err(error);
                }
                None => {
                    slot.end(Outcome::Answered);
                    return Ok(Begun::Whole(head));
                }
            }
        }
        let (sender, parts) = mpsc::channel(1);
        let parts = Parts {
            parts: Some(parts),
            ended: Arc::default(),
        };
        let lane = slot.lane();
        let task = send(
            head,
            items,
            slot,
            (sender, Arc::clone(&parts.ended)),
            self.write_timeout,
            Instant::now() + self.answer_timeout,
        );
        match lane.threads() {
            // Chunks are made where the query computes.
            Some(threads) => drop(threads.spawn(task)),
            None => drop(tokio::spawn(task)),
        }
        Ok(Begun::Parts(parts))
    }
}

fn joined(chunks: Vec<Bytes>) -> Bytes {
    let mut full = chunks.into_iter().filter(|chunk| !chunk.is_empty());
    let Some(first) = full.next() else {
        return Bytes::new();
    };
    let Some(second) = full.next() else {
        return first;
    };
    let mut joined = BytesMut::from(first);
    joined.extend_from_slice(&second);
    full.for_each(|chunk| joined.extend_from_slice(&chunk));
    joined.freeze()
}

/// Sends an answer to its end, or to that of its client.
async fn send<T>(
    head: Vec<T>,
    items: impl Stream<Item = Result<T, ServiceError>> + Send + Unpin,
    slot: Arc<QuerySlot>,
    (sender, ended): (mpsc::Sender<Part<T>>, Arc<OnceLock<Outcome>>),
    write_timeout: Duration,
    deadline: Instant,
) {
    // What counts if the task panics.
    slot.end(Outcome::Failed);
    let outcome = tokio::select! {
        biased;
        () = sender.closed() => Outcome::Cancelled,
        outcome = send_parts(head, items, &sender, write_timeout, deadline) => outcome,
    };
    let language = slot.language().name();
    match outcome {
        Outcome::Stalled => tracing::warn!(
            language,
            write_timeout_ms = write_timeout.as_millis() as u64,
            "an answer broke off: its client took nothing for so long"
        ),
        Outcome::TimedOut => tracing::warn!(
            language,
            "an answer broke off: it was not taken or not computed within query_timeout_ms"
        ),
        _ => {}
    }
    slot.end(outcome);
    // Nothing was said before.
    let _ = ended.set(outcome);
}

async fn send_parts<T>(
    head: Vec<T>,
    mut items: impl Stream<Item = Result<T, ServiceError>> + Send + Unpin,
    sender: &mpsc::Sender<Part<T>>,
    write_timeout: Duration,
    deadline: Instant,
) -> Outcome {
    let mut next = Some(Ok::<_, ServiceError>(head));
    loop {
        match next {
            Some(Ok(part)) => {
                if sender.send(Part::Items(part)).await.is_err() {
                    return Outcome::Cancelled;
                }
            }
            Some(Err(error)) => {
                tracing::warn!(error = %error.message, "a query failed in the middle of its answer");
                let outcome = Outcome::of(&error);
                // There is room: it was waited for.
                return match sender.send(Part::Failed(error)).await {
                    Ok(()) => outcome,
                    Err(_) => Outcome::Cancelled,
                };
            }
            None => {
                return match sender.send(Part::End).await {
                    Ok(()) => Outcome::Answered,
                    Err(_) => Outcome::Cancelled,
                };
            }
        }
        let stalled = Instant::now() + write_timeout;
        let (until, late) = if deadline < stalled {
            (deadline, Outcome::TimedOut)
        } else {
            (stalled, Outcome::Stalled)
        };
        match tokio::time::timeout_at(until, sender.reserve()).await {
            Ok(Ok(room)) => drop(room),
            Ok(Err(_)) => return Outcome::Cancelled,
            Err(_) => return late,
        }
        next = items.next().await.map(|item| item.map(|item| vec![item]));
    }
}

/// What the connection polls.
struct Parts<T> {
    /// `None` after the end: the compression layer polls past it.
    parts: Option<mpsc::Receiver<Part<T>>>,
    /// How it ended.
    ended: Arc<OnceLock<Outcome>>,
}

impl<T> Stream for Parts<T> {
    type Item = Result<Vec<T>, ServiceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(parts) = &mut self.parts else {
            return Poll::Ready(None);
        };
        let part = ready!(parts.poll_recv(cx));
        if let Some(Part::Items(items)) = part {
            return Poll::Ready(Some(Ok(items)));
        }
        self.parts = None;
        Poll::Ready(match part {
            Some(Part::Failed(error)) => Some(Err(error)),
            Some(_) => None,
            None => {
                let code = match self.ended.get() {
                    Some(Outcome::TimedOut | Outcome::Stalled) => Code::Timeout,
                    _ => Code::Internal,
                };
                let message = "the answer broke off; the log of the server says why";
                Some(Err(ServiceError::new(code, message)))
            }
        })
    }
}

#[cfg(test)]
mod tests;
