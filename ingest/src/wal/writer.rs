//! Group commit: requests are queued, put together in one object, and acknowledged when it is
//! durable.
//!
//! One task owns the log of one epoch. On a folder it keeps one group in flight and puts the next
//! as soon as that is durable, with whatever has queued up: a fixed interval would cap clients that
//! wait for their answer. On S3 every put costs money, so groups keep a minimum interval, and
//! several are in flight because one put takes longer than that. In both cases groups become
//! visible in order: the sink gets group `n` after group `n-1`, and clients get their answer after
//! the sink.
//!
//! # When the store fails
//!
//! After a failed put nobody knows whether the object is there or will be. The group's clients are
//! told so at once, and so is everybody behind them and everybody who comes; but the number cannot
//! be given to another group, and no later group may be acknowledged while this one may be missing,
//! because replay ends at the first gap. So the same bytes are tried again and again under the same
//! key, until they are there. Then the group *is* in the log, and the sink gets it like any other,
//! though its clients were told 503: a write that was not acknowledged may be there, but memory
//! must not differ from what a replay would give. With that settled the log is open again.
//!
//! "Exists already" is an answer too: the bytes are read back, and if they are ours an earlier try
//! had arrived. If not, another process has fenced this epoch, and the writer stops for ever.
//!
//! # Write order
//!
//! Where several processes take writes, the others' clocks are asked before a group is composed
//! ([`write_clock`](crate::write_clock)). It waits for their answer with its requests, and no other
//! group overtakes it; those whose puts are under way go on.
//!
//! # Marks
//!
//! Every object says how far the log was durable when it was composed, so that a replay notices if
//! an earlier one is gone. Behind the last group there is none that says so. When the log is idle
//! or closed, an object without frames does: a *mark*. It is put, repeated and published like a
//! group, at most once for each pause. Rejected: a mark for each group, which doubles the requests;
//! one object that is overwritten, which breaks "put if absent".

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tidelake_catalog::store::Store;
use tokio::sync::{Notify, oneshot, watch};

use super::clock::{Clock, SystemClock};
use super::frame::{Frame, FrameTooLarge, PreparedFrame, WriterId};
use super::metrics::{self, WalMetrics};
use super::{MAX_IN_FLIGHT, WalPosition};
use crate::write_clock::Orders;
use committer::Committer;

mod committer;

/// How groups are formed, and how long anything may take.
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// Least time between the puts of two groups, unless a group is full. Costs latency, saves
    /// requests.
    pub min_interval: Duration,
    /// Most groups whose puts are under way at once; at most [`MAX_IN_FLIGHT`].
    pub max_in_flight: usize,
    /// A group is full at this many bytes. A larger frame makes a group of its own.
    pub group_bytes: usize,
    /// Most bytes of frames that are queued or in flight; beyond it submissions are refused.
    pub queued_bytes: usize,
    /// Longest time until a submission is answered, whatever the store does.
    pub submit_timeout: Duration,
    /// After this time a put is given up and tried anew; `None` where giving up frees nothing (a
    /// folder, where the blocked thread stays).
    pub put_timeout: Option<Duration>,
    /// Pause before the first new try of a failed put; it doubles from try to try.
    pub min_retry_pause: Duration,
    /// After this time without a group a mark is put, if the last group has none yet: it shows that
    /// the group was acknowledged, should its object be lost. Each is a request, so one that comes
    /// before the next write of a steady client doubles that client's.
    pub mark_after: Duration,
    /// Longest pause between tries, hence the longest time that writes stay refused once the store
    /// is back.
    pub max_retry_pause: Duration,
}

impl WalOptions {
    /// For a local folder or memory: no interval, one group in flight.
    pub fn local() -> Self {
        Self {
            min_interval: Duration::ZERO,
            max_in_flight: 1,
            group_bytes: 8 << 20,
            queued_bytes: 64 << 20,
            submit_timeout: Duration::from_secs(10),
            put_timeout: None,
            min_retry_pause: Duration::from_millis(50),
            max_retry_pause: Duration::from_millis(500),
            mark_after: Duration::from_secs(1),
        }
    }

    /// For S3: a group every 250 ms, four in flight.
    pub fn remote() -> Self {
        Self {
            min_interval: Duration::from_millis(250),
            max_in_flight: 4,
            put_timeout: Some(Duration::from_secs(5)),
            // Longer than most intervals at which clients write.
            mark_after: Duration::from_secs(30),
            ..Self::local()
        }
    }
}

/// Why a submission was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// More is queued than memory is granted for: answer 503 and `Retry-After`. It is not in the
    /// log.
    #[error(
        "{queued} bytes wait to be written to the log, at most {limit} are allowed; try again \
         later"
    )]
    Overloaded {
        /// Bytes queued, without this submission.
        queued: usize,
        /// The limit.
        limit: usize,
    },
    /// The store does not take it now: answer 503 and `Retry-After`. It may yet appear.
    #[error("the write-ahead log cannot be written: {reason}")]
    Unavailable {
        /// What the store said.
        reason: Arc<str>,
    },
    /// Another process owns this node now: answer 503 and exit. It may have been taken over by that
    /// process.
    #[error("another process took over this node's log: {key} holds its object")]
    Fenced {
        /// The object that is not ours.
        key: Arc<str>,
    },
    /// The writer was closed: answer 503.
    #[error("the write-ahead log is closed")]
    Closed,
    /// It does not fit the format: answer 413.
    #[error(transparent)]
    TooLarge(#[from] FrameTooLarge),
}

/// Whether the log takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalState {
    /// It does.
    Open,
    /// Not until the store is back; it opens again by itself.
    Unavailable {
        /// What the store said.
        reason: Arc<str>,
    },
    /// Never again: the process must exit without touching anything.
    Fenced {
        /// The object that is not ours.
        key: Arc<str>,
    },
    /// Closed, or its task died.
    Closed,
}

/// Where durable groups go, in the order of the log, each before its clients are answered.
pub trait Sink<T>: Send + 'static {
    /// Takes the payloads of the group at `position`, the first of which has this order. It runs on
    /// the log's task: no I/O, no waiting.
    fn apply(&mut self, position: WalPosition, order: u64, payloads: Vec<T>);
}

impl<T, F: FnMut(WalPosition, u64, Vec<T>) + Send + 'static> Sink<T> for F {
    fn apply(&mut self, position: WalPosition, order: u64, payloads: Vec<T>) {
        self(position, order, payloads);
    }
}

/// The answer to a submission, once there is one. Dropping it does not take the submission back.
#[derive(Debug)]
pub struct Ack(oneshot::Receiver<Result<WalPosition, WalError>>);

impl Future for Ack {
    type Output = Result<WalPosition, WalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or(Err(WalError::Closed)))
    }
}

struct Pending<T> {
    frame: PreparedFrame,
    payload: T,
    ack: oneshot::Sender<Result<WalPosition, WalError>>,
    /// By when it must be answered.
    deadline: Duration,
}

struct Queue<T> {
    pending: VecDeque<Pending<T>>,
    pending_bytes: usize,
    /// Those of `pending` and of the groups in flight.
    held_bytes: usize,
    /// What new submissions are told, if the log takes none.
    refusal: Option<WalError>,
    closing: bool,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    wake: Notify,
    /// Every object of this epoch with a lower sequence is in segments.
    covered_end: AtomicU64,
    /// Whether it was closed while it was not known whether an object came to the store.
    gave_up: AtomicBool,
    state: watch::Sender<WalState>,
    metrics: Arc<WalMetrics>,
    options: WalOptions,
    clock: Arc<dyn Clock>,
}

impl<T> Shared<T> {
    fn close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
    }

    fn release(&self, queue: &mut Queue<T>, bytes: usize) {
        queue.held_bytes = queue.held_bytes.saturating_sub(bytes);
        self.metrics
            .queued_bytes
            .store(queue.held_bytes as u64, Ordering::Relaxed);
    }

    /// From now on submissions are refused with `error`, beginning with those that are queued.
    fn refuse(&self, error: &WalError, state: WalState) {
        let refused = {
            let mut queue = self.queue.lock();
            queue.refusal = Some(error.clone());
            let bytes = std::mem::take(&mut queue.pending_bytes);
            self.release(&mut queue, bytes);
            std::mem::take(&mut queue.pending)
        };
        self.state.send_replace(state);
        for pending in refused {
            self.fail(pending.ack, error);
        }
    }

    fn fail(&self, ack: oneshot::Sender<Result<WalPosition, WalError>>, error: &WalError) {
        if matches!(error, WalError::Unavailable { .. }) {
            metrics::add(&self.metrics.unavailable, 1);
        }
        // Who does not wait any more need not be told.
        let _ = ack.send(Err(error.clone()));
    }
}

/// Closes the log when the last handle is gone.
struct Handle<T>(Arc<Shared<T>>);

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A handle to the log of one epoch; cheap to clone. `T` is what the sink gets for a frame.
pub struct WalWriter<T> {
    handle: Arc<Handle<T>>,
}

impl<T> Clone for WalWriter<T> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<T: Send + 'static> WalWriter<T> {
    /// Starts the log of `node` at `start`, which must be the beginning of an epoch that nobody
    /// else has, with all older epochs fenced by a [`Replay`](super::Replay) that came to its
    /// end. Needs a tokio runtime.
    pub fn start(
        store: Store,
        node: &str,
        start: WalPosition,
        writer: WriterId,
        options: WalOptions,
        orders: Orders,
        sink: impl Sink<T>,
    ) -> Self {
        let (handle, task) = Self::prepare(
            store,
            node,
            start,
            writer,
            options,
            orders,
            sink,
            Arc::new(SystemClock::default()),
        );
        tokio::spawn(task);
        handle
    }

    /// The same with the task still to be run, and a clock.
    pub fn prepare(
        store: Store,
        node: &str,
        start: WalPosition,
        writer: WriterId,
        options: WalOptions,
        orders: Orders,
        sink: impl Sink<T>,
        clock: Arc<dyn Clock>,
    ) -> (Self, BoxFuture<'static, ()>) {
        let options = WalOptions {
            max_in_flight: options.max_in_flight.clamp(1, MAX_IN_FLIGHT),
            ..options
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                pending: VecDeque::new(),
                pending_bytes: 0,
                held_bytes: 0,
                refusal: None,
                closing: false,
            }),
            wake: Notify::new(),
            covered_end: AtomicU64::new(start.seq),
            gave_up: AtomicBool::new(false),
            state: watch::Sender::new(WalState::Open),
            metrics: Arc::default(),
            options,
            clock,
        });
        let committer = Committer::new(Arc::clone(&shared), store, node, start, writer, orders);
        (
            Self {
                handle: Arc::new(Handle(shared)),
            },
            Box::pin(committer.run(sink)),
        )
    }

    fn shared(&self) -> &Shared<T> {
        &self.handle.0
    }

    /// Queues a request. The answer comes when it is durable and the sink has its payload, or when
    /// it is known that this will not be soon; within [`WalOptions::submit_timeout`] in any
    /// case.
    ///
    /// Fails at once with [`WalError::Overloaded`] over the limit of queued bytes, and with
    /// whatever else closes the log at present.
    pub fn submit(&self, frame: Frame, payload: T) -> Result<Ack, WalError> {
        let shared = self.shared();
        let frame = PreparedFrame::new(frame)?;
        let bytes = frame.encoded_len();
        let deadline = shared.clock.now() + shared.options.submit_timeout;
        let (ack, answer) = oneshot::channel();
        {
            let mut queue = shared.queue.lock();
            if let Some(error) = &queue.refusal {
                if matches!(error, WalError::Unavailable { .. }) {
                    metrics::add(&shared.metrics.unavailable, 1);
                }
                return Err(error.clone());
            }
            if queue.closing {
                return Err(WalError::Closed);
            }
            let (queued, limit) = (queue.held_bytes, shared.options.queued_bytes);
            // One frame is always taken, or one above the limit could never be.
            if queued > 0 && queued + bytes > limit {
                metrics::add(&shared.metrics.overloaded, 1);
                return Err(WalError::Overloaded { queued, limit });
            }
            queue.held_bytes += bytes;
            queue.pending_bytes += bytes;
            shared
                .metrics
                .queued_bytes
                .store(queue.held_bytes as u64, Ordering::Relaxed);
            queue.pending.push_back(Pending {
                frame,
                payload,
                ack,
                deadline,
            });
        }
        shared.wake.notify_one();
        Ok(Ack(answer))
    }

    /// Submits and waits for the answer.
    pub async fn append(&self, frame: Frame, payload: T) -> Result<WalPosition, WalError> {
        self.submit(frame, payload)?.await
    }

    /// Whether the log takes writes, and when that changes. The server exits on
    /// [`WalState::Fenced`].
    pub fn state(&self) -> watch::Receiver<WalState> {
        self.shared().state.subscribe()
    }

    /// What the log did so far.
    pub fn metrics(&self) -> Arc<WalMetrics> {
        Arc::clone(&self.shared().metrics)
    }

    /// Notes that everything before `covered`, a position of this epoch, is in segments: no mark is
    /// needed for it.
    pub fn covered(&self, covered: WalPosition) {
        self.shared()
            .covered_end
            .fetch_max(covered.seq, Ordering::Relaxed);
    }

    /// Takes no more submissions and returns when all earlier ones are answered, and the last of
    /// them has its mark.
    pub async fn close(&self) {
        let mut state = self.state();
        self.shared().close();
        let ended = |state: &WalState| matches!(state, WalState::Closed | WalState::Fenced { .. });
        // An error would mean that the state is gone, but this handle holds it.
        let _ = state.wait_for(ended).await;
    }

    /// Whether the log was closed while it was not known whether its last objects came to the
    /// store. Their clients were told that they failed, and others may have read them.
    pub fn gave_up(&self) -> bool {
        self.shared().gave_up.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
