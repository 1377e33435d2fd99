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
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::service::error::ServiceError;
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
    /// Where chunks are made; the present runtime if there is none.
    pub threads: Option<Handle>,
}

enum Part {
    Chunk(Bytes),
    /// After the last chunk. Without it the answer is incomplete.
    End,
}

impl Pace {
    /// For tests of answers whose readers read.
    #[cfg(test)]
    pub fn patient() -> Self {
        Self {
            write_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(60),
            threads: None,
        }
    }

    /// A body of these chunks. Waits for the first [`CHUNK_BYTES`] or for the end.
    ///
    /// # Errors
    /// What `chunks` fails with before so much is there. Later failures break the body.
    pub async fn body(
        &self,
        mut chunks: impl Stream<Item = Result<Bytes, ServiceError>> + Send + Unpin + 'static,
        slot: impl Into<Arc<QuerySlot>>,
    ) -> Result<Body, ServiceError> {
        let slot = slot.into();
        let mut head = Bytes::new();
        while head.len() < CHUNK_BYTES {
            match chunks.next().await {
                Some(Ok(chunk)) => head = joined(head, chunk),
                Some(Err(error)) => {
                    slot.end(Outcome::of(&error));
                    return Err(error);
                }
                None => {
                    slot.end(Outcome::Answered);
                    return Ok(Body::from(head));
                }
            }
        }
        let (sender, parts) = mpsc::channel(1);
        let task = send(
            head,
            chunks,
            slot,
            sender,
            self.write_timeout,
            Instant::now() + self.answer_timeout,
        );
        match &self.threads {
            Some(threads) => drop(threads.spawn(task)),
            None => drop(tokio::spawn(task)),
        }
        Ok(Body::from_stream(PacedBody(Some(parts))))
    }
}

fn joined(head: Bytes, chunk: Bytes) -> Bytes {
    if head.is_empty() {
        return chunk;
    }
    let mut joined = BytesMut::from(head);
    joined.extend_from_slice(&chunk);
    joined.freeze()
}

/// Sends an answer to its end, or to that of its client.
async fn send(
    head: Bytes,
    chunks: impl Stream<Item = Result<Bytes, ServiceError>> + Send + Unpin,
    slot: Arc<QuerySlot>,
    sender: mpsc::Sender<Part>,
    write_timeout: Duration,
    deadline: Instant,
) {
    // What counts if the task panics.
    slot.end(Outcome::Failed);
    let outcome = tokio::select! {
        biased;
        () = sender.closed() => Outcome::Cancelled,
        outcome = send_parts(head, chunks, &sender, write_timeout, deadline) => outcome,
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
}

async fn send_parts(
    head: Bytes,
    mut chunks: impl Stream<Item = Result<Bytes, ServiceError>> + Send + Unpin,
    sender: &mpsc::Sender<Part>,
    write_timeout: Duration,
    deadline: Instant,
) -> Outcome {
    let mut next = Some(Ok::<_, ServiceError>(head));
    loop {
        match next {
            Some(Ok(chunk)) => {
                if sender.send(Part::Chunk(chunk)).await.is_err() {
                    return Outcome::Cancelled;
                }
            }
            Some(Err(error)) => {
                tracing::warn!(error = %error.message, "a query failed in the middle of its answer");
                return Outcome::of(&error);
            }
            None => {
                // There is room: it was waited for.
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
        next = chunks.next().await;
    }
}

/// What the connection polls. `None` after the end: the compression layer polls past it.
struct PacedBody(Option<mpsc::Receiver<Part>>);

impl Stream for PacedBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(parts) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let part = ready!(parts.poll_recv(cx));
        if let Some(Part::Chunk(chunk)) = part {
            return Poll::Ready(Some(Ok(chunk)));
        }
        self.0 = None;
        Poll::Ready(match part {
            Some(_) => None,
            None => Some(Err(io::Error::other(
                "the answer broke off; the log of the server says why",
            ))),
        })
    }
}

#[cfg(test)]
mod tests;
