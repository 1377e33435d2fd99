//! Group commit: requests are queued, put together in one object, and acknowledged when it is durable.
//!
//! One task owns the log of one epoch. On a folder it keeps one group in flight and puts the next as soon as
//! that is durable, with whatever has queued up: a fixed interval would cap clients that wait for their answer.
//! On S3 every put costs money, so groups keep a minimum interval, and several are in flight because one put
//! takes longer than that. In both cases groups become visible in order: the sink gets group `n` after group
//! `n-1`, and clients get their answer after the sink.
//!
//! # When the store fails
//!
//! After a failed put nobody knows whether the object is there or will be. The group's clients are told so at
//! once, and so is everybody behind them and everybody who comes; but the number cannot be given to another
//! group, and no later group may be acknowledged while this one may be missing, because replay ends at the
//! first gap. So the same bytes are tried again and again under the same key, until they are there. Then the
//! group *is* in the log, and the sink gets it like any other, though its clients were told 503: a write that
//! was not acknowledged may be there, but memory must not differ from what a replay would give. With that
//! settled the log is open again.
//!
//! "Exists already" is an answer too: the bytes are read back, and if they are ours an earlier try had arrived.
//! If not, another process has fenced this epoch, and the writer stops for ever.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tidelake_catalog::keys;
use tidelake_catalog::store::{PutOutcome, Store};
use tokio::sync::{Notify, oneshot, watch};

use super::clock::{Clock, SystemClock};
use super::frame::{self, Frame, FrameTooLarge, ObjectHeader, PreparedFrame, WriterId};
use super::metrics::{self, WalMetrics};
use super::{MAX_IN_FLIGHT, WalPosition};

/// How groups are formed, and how long anything may take.
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// Least time between the puts of two groups, unless a group is full. Costs latency, saves requests.
    pub min_interval: Duration,
    /// Most groups whose puts are under way at once; at most [`MAX_IN_FLIGHT`].
    pub max_in_flight: usize,
    /// A group is full at this many bytes. A larger frame makes a group of its own.
    pub group_bytes: usize,
    /// Most bytes of frames that are queued or in flight; beyond it submissions are refused.
    pub queued_bytes: usize,
    /// Longest time until a submission is answered, whatever the store does.
    pub submit_timeout: Duration,
    /// After this time a put is given up and tried anew; `None` where giving up frees nothing (a folder, where
    /// the blocked thread stays).
    pub put_timeout: Option<Duration>,
    /// Pause before the first new try of a failed put; it doubles from try to try.
    pub min_retry_pause: Duration,
    /// Longest pause between tries, hence the longest time that writes stay refused once the store is back.
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
        }
    }

    /// For S3: a group every 250 ms, four in flight.
    pub fn remote() -> Self {
        Self { min_interval: Duration::from_millis(250), max_in_flight: 4, put_timeout: Some(Duration::from_secs(5)), ..Self::local() }
    }
}

/// Why a submission was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// More is queued than memory is granted for: answer 503 and `Retry-After`. It is not in the log.
    #[error("{queued} bytes wait to be written to the log, at most {limit} are allowed; try again later")]
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
    /// Another process owns this node now: answer 503 and exit. It may have been taken over by that process.
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
    /// Takes the payloads of the group at `position`. It runs on the log's task: no I/O, no waiting.
    fn apply(&mut self, position: WalPosition, payloads: Vec<T>);
}

impl<T, F: FnMut(WalPosition, Vec<T>) + Send + 'static> Sink<T> for F {
    fn apply(&mut self, position: WalPosition, payloads: Vec<T>) {
        self(position, payloads);
    }
}

/// The answer to a submission, once there is one. Dropping it does not take the submission back.
#[derive(Debug)]
pub struct Ack(oneshot::Receiver<Result<WalPosition, WalError>>);

impl Future for Ack {
    type Output = Result<WalPosition, WalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(WalError::Closed)))
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
        self.metrics.queued_bytes.store(queue.held_bytes as u64, Ordering::Relaxed);
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
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<T: Send + 'static> WalWriter<T> {
    /// Starts the log of `node` at `start`, which must be the beginning of an epoch that nobody else has, with
    /// all older epochs fenced by a [`Replay`](super::Replay) that came to its end. Needs a tokio runtime.
    pub fn start(store: Store, node: &str, start: WalPosition, writer: WriterId, options: WalOptions, sink: impl Sink<T>) -> Self {
        let (handle, task) = Self::prepare(store, node, start, writer, options, sink, Arc::new(SystemClock::default()));
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
        sink: impl Sink<T>,
        clock: Arc<dyn Clock>,
    ) -> (Self, BoxFuture<'static, ()>) {
        let options = WalOptions { max_in_flight: options.max_in_flight.clamp(1, MAX_IN_FLIGHT), ..options };
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { pending: VecDeque::new(), pending_bytes: 0, held_bytes: 0, refusal: None, closing: false }),
            wake: Notify::new(),
            state: watch::Sender::new(WalState::Open),
            metrics: Arc::default(),
            options,
            clock,
        });
        let committer = Committer {
            shared: Arc::clone(&shared),
            store,
            node: node.to_owned(),
            next: start,
            writer,
            groups: VecDeque::new(),
            ready: Vec::new(),
            tries: FuturesUnordered::new(),
            last_launch: None,
            outage: false,
            fenced: None,
        };
        (Self { handle: Arc::new(Handle(shared)) }, Box::pin(committer.run(sink)))
    }

    fn shared(&self) -> &Shared<T> {
        &self.handle.0
    }

    /// Queues a request. The answer comes when it is durable and the sink has its payload, or when it is known
    /// that this will not be soon; within [`WalOptions::submit_timeout`] in any case.
    ///
    /// Fails at once with [`WalError::Overloaded`] over the limit of queued bytes, and with whatever else closes
    /// the log at present.
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
            shared.metrics.queued_bytes.store(queue.held_bytes as u64, Ordering::Relaxed);
            queue.pending.push_back(Pending { frame, payload, ack, deadline });
        }
        shared.wake.notify_one();
        Ok(Ack(answer))
    }

    /// Submits and waits for the answer.
    pub async fn append(&self, frame: Frame, payload: T) -> Result<WalPosition, WalError> {
        self.submit(frame, payload)?.await
    }

    /// Whether the log takes writes, and when that changes. The server exits on [`WalState::Fenced`].
    pub fn state(&self) -> watch::Receiver<WalState> {
        self.shared().state.subscribe()
    }

    /// What the log did so far.
    pub fn metrics(&self) -> Arc<WalMetrics> {
        Arc::clone(&self.shared().metrics)
    }

    /// Takes no more submissions and returns when all earlier ones are answered.
    pub async fn close(&self) {
        let mut state = self.state();
        self.shared().close();
        let ended = |state: &WalState| matches!(state, WalState::Closed | WalState::Fenced { .. });
        // An error would mean that the state is gone, but this handle holds it.
        let _ = state.wait_for(ended).await;
    }
}

/// A group that is in flight, or durable and waiting for an earlier one.
struct Group<T> {
    position: WalPosition,
    object: Bytes,
    payloads: Vec<T>,
    /// Empty once they are answered.
    acks: Vec<oneshot::Sender<Result<WalPosition, WalError>>>,
    /// The earliest of its submissions.
    deadline: Duration,
    held_bytes: usize,
    durable: bool,
    /// Its clients were told that the store failed: until it is durable nobody can be acknowledged.
    failed: bool,
    failures: u32,
}

/// How a try to put a group ended.
enum Try {
    /// It is durable, by this try or an earlier one.
    Durable,
    /// The key holds another object.
    Conflict(Arc<str>),
    /// Not known.
    Failed(Arc<str>),
}

struct Committer<T> {
    shared: Arc<Shared<T>>,
    store: Store,
    node: String,
    /// The position of the next group.
    next: WalPosition,
    writer: WriterId,
    /// By position, without gaps.
    groups: VecDeque<Group<T>>,
    /// Durable, as all before them, but not yet applied.
    ready: Vec<Group<T>>,
    tries: FuturesUnordered<BoxFuture<'static, (WalPosition, Try)>>,
    last_launch: Option<Duration>,
    /// Whether submissions are refused because a group failed.
    outage: bool,
    fenced: Option<Arc<str>>,
}

/// However the task ends, by closing, by a panic of the sink or with the runtime: nobody waits for ever.
struct EndGuard<T>(Arc<Shared<T>>);

impl<T> Drop for EndGuard<T> {
    fn drop(&mut self) {
        let fenced = matches!(*self.0.state.borrow(), WalState::Fenced { .. });
        if !fenced {
            self.0.refuse(&WalError::Closed, WalState::Closed);
        }
    }
}

impl<T: Send + 'static> Committer<T> {
    async fn run(mut self, mut sink: impl Sink<T>) {
        let _guard = EndGuard(Arc::clone(&self.shared));
        loop {
            let now = self.shared.clock.now();
            self.expire(now);
            self.launch(now);
            if !self.ready.is_empty() {
                // The next put is on its way while the sink is at work.
                if let Poll::Ready(Some((position, outcome))) = futures::poll!(self.tries.next()) {
                    self.settle(position, outcome);
                }
                self.publish(&mut sink);
                continue;
            }
            if let Some(key) = self.fenced.take() {
                self.stop_fenced(key);
                return;
            }
            if self.is_finished() {
                return;
            }
            let timer = self.next_deadline(now).map(|at| self.shared.clock.sleep(at.saturating_sub(now)));
            let has_timer = timer.is_some();
            tokio::select! {
                biased;
                Some((position, outcome)) = self.tries.next(), if !self.tries.is_empty() => self.settle(position, outcome),
                () = self.shared.wake.notified() => {}
                () = async { if let Some(timer) = timer { timer.await } }, if has_timer => {}
            }
        }
    }

    /// Closed, and everybody has an answer. What failed and is still being tried is given up: its clients know.
    fn is_finished(&self) -> bool {
        let queue = self.shared.queue.lock();
        queue.closing && queue.pending.is_empty() && (self.groups.is_empty() || self.outage)
    }

    /// When something must happen even if nothing comes.
    fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let queue = self.shared.queue.lock();
        let pending = queue.pending.front().map(|pending| pending.deadline);
        let group = self.groups.iter().find(|group| !group.acks.is_empty()).map(|group| group.deadline);
        let launch = match self.last_launch {
            Some(last) if !queue.pending.is_empty() && self.may_launch() => Some(last + self.shared.options.min_interval),
            _ => None,
        };
        [pending, group, launch].into_iter().flatten().min().map(|at| at.max(now))
    }

    fn may_launch(&self) -> bool {
        !self.outage && self.fenced.is_none() && self.groups.len() < self.shared.options.max_in_flight
    }

    /// Answers those whose time is over.
    fn expire(&mut self, now: Duration) {
        let reason: Arc<str> = format!("the store did not take it within {:?}", self.shared.options.submit_timeout).into();
        let error = WalError::Unavailable { reason: Arc::clone(&reason) };
        loop {
            let expired = {
                let mut queue = self.shared.queue.lock();
                let Some(expired) = queue.pending.pop_front_if(|pending| pending.deadline <= now) else { break };
                let bytes = expired.frame.encoded_len();
                queue.pending_bytes -= bytes;
                self.shared.release(&mut queue, bytes);
                expired
            };
            self.shared.fail(expired.ack, &error);
        }
        if let Some(group) = self.groups.iter_mut().find(|group| !group.acks.is_empty() && group.deadline <= now) {
            // The first of these is what the others wait for.
            let position = group.position;
            group.failed = true;
            self.begin_outage(position, reason);
        }
    }

    /// Puts as many groups as may be put now.
    fn launch(&mut self, now: Duration) {
        while self.may_launch() {
            let options = &self.shared.options;
            let taken = {
                let mut queue = self.shared.queue.lock();
                let early = self.last_launch.is_some_and(|last| now < last + options.min_interval);
                if queue.pending.is_empty() || (early && queue.pending_bytes < options.group_bytes && !queue.closing) {
                    return;
                }
                take_group(&mut queue, options.group_bytes)
            };
            self.last_launch = Some(now);
            let position = self.next;
            self.next = position.next();
            let header = ObjectHeader { writer: self.writer, epoch: position.epoch, seq: position.seq };
            let object = frame::encode_prepared(&header, taken.iter().map(|pending| &pending.frame));
            let mut group = Group {
                position,
                object,
                payloads: Vec::with_capacity(taken.len()),
                acks: Vec::with_capacity(taken.len()),
                deadline: taken.first().map_or(now, |pending| pending.deadline),
                held_bytes: 0,
                durable: false,
                failed: false,
                failures: 0,
            };
            for pending in taken {
                group.held_bytes += pending.frame.encoded_len();
                group.payloads.push(pending.payload);
                group.acks.push(pending.ack);
            }
            self.tries.push(self.try_put(&group, Duration::ZERO));
            self.groups.push_back(group);
        }
    }

    fn try_put(&self, group: &Group<T>, pause: Duration) -> BoxFuture<'static, (WalPosition, Try)> {
        let (position, object, store) = (group.position, group.object.clone(), self.store.clone());
        let key = keys::wal_object(&self.node, position.epoch, position.seq);
        let clock = Arc::clone(&self.shared.clock);
        let timeout = self.shared.options.put_timeout;
        let metrics = Arc::clone(&self.shared.metrics);
        Box::pin(async move {
            if !pause.is_zero() {
                clock.sleep(pause).await;
            }
            let began = clock.now();
            let outcome = match timeout {
                None => put(&store, &key, object).await,
                Some(timeout) => {
                    let put = std::pin::pin!(put(&store, &key, object));
                    match futures::future::select(put, clock.sleep(timeout)).await {
                        Either::Left((outcome, _)) => outcome,
                        Either::Right(_) => Try::Failed(format!("no answer to the put of {key} within {timeout:?}").into()),
                    }
                }
            };
            metrics.put_latency.observe(clock.now().saturating_sub(began));
            (position, outcome)
        })
    }

    /// Takes note of how a try ended.
    fn settle(&mut self, position: WalPosition, outcome: Try) {
        let options = &self.shared.options;
        let Some(group) = self.groups.iter_mut().find(|group| group.position == position) else { return };
        match outcome {
            Try::Durable => {
                if group.failures > 0 {
                    tracing::info!(%position, tries = group.failures + 1, "a write-ahead log object is durable at last");
                }
                group.durable = true;
                while let Some(group) = self.groups.pop_front_if(|group| group.durable) {
                    self.ready.push(group);
                }
                if self.outage && !self.groups.iter().any(|group| group.failed) {
                    self.end_outage();
                }
            }
            Try::Conflict(key) => self.fenced = Some(key),
            Try::Failed(reason) => {
                metrics::add(&self.shared.metrics.put_errors, 1);
                let pause = options.min_retry_pause.saturating_mul(1 << group.failures.min(16)).min(options.max_retry_pause);
                group.failures = group.failures.saturating_add(1);
                group.failed = true;
                if group.failures == 1 {
                    tracing::warn!(%position, %reason, "a write-ahead log object could not be put; trying until it is there");
                }
                if let Some(group) = self.groups.iter().find(|group| group.position == position) {
                    self.tries.push(self.try_put(group, pause));
                }
                self.begin_outage(position, reason);
            }
        }
    }

    /// Tells everybody who waits for `from`, and everybody who comes, that the store failed.
    fn begin_outage(&mut self, from: WalPosition, reason: Arc<str>) {
        self.outage = true;
        let error = WalError::Unavailable { reason: Arc::clone(&reason) };
        self.shared.refuse(&error, WalState::Unavailable { reason });
        for group in self.groups.iter_mut().filter(|group| group.position >= from) {
            for ack in group.acks.drain(..) {
                self.shared.fail(ack, &error);
            }
        }
    }

    fn end_outage(&mut self) {
        self.outage = false;
        self.shared.queue.lock().refusal = None;
        self.shared.state.send_replace(WalState::Open);
        tracing::info!("the write-ahead log takes writes again");
    }

    /// Hands durable groups to the sink, then to their clients.
    fn publish(&mut self, sink: &mut impl Sink<T>) {
        for group in self.ready.drain(..) {
            let metrics = &self.shared.metrics;
            metrics::add(&metrics.groups, 1);
            metrics::add(&metrics.bytes, group.object.len());
            metrics::add(&metrics.frames, group.payloads.len());
            sink.apply(group.position, group.payloads);
            self.shared.release(&mut self.shared.queue.lock(), group.held_bytes);
            for ack in group.acks {
                // Who does not wait any more need not be told.
                let _ = ack.send(Ok(group.position));
            }
        }
    }

    fn stop_fenced(&mut self, key: Arc<str>) {
        tracing::error!(%key, "another process took over this node's write-ahead log; nothing more is written");
        let error = WalError::Fenced { key: Arc::clone(&key) };
        self.shared.refuse(&error, WalState::Fenced { key });
        for group in self.groups.drain(..) {
            for ack in group.acks {
                self.shared.fail(ack, &error);
            }
        }
    }
}

/// The next group: what is queued, up to `limit` bytes, at least one.
fn take_group<T>(queue: &mut Queue<T>, limit: usize) -> Vec<Pending<T>> {
    let mut bytes = 0;
    let mut count = 0;
    for pending in &queue.pending {
        let with_it = bytes + pending.frame.encoded_len();
        if count > 0 && with_it > limit {
            break;
        }
        bytes = with_it;
        count += 1;
    }
    queue.pending_bytes -= bytes;
    queue.pending.drain(..count).collect()
}

/// Puts an object; if there is one by this name already, finds out whose it is.
async fn put(store: &Store, key: &str, object: Bytes) -> Try {
    match store.put_if_absent(key, object.clone()).await {
        Ok(PutOutcome::Created) => Try::Durable,
        Ok(PutOutcome::AlreadyExists) => match store.get(key).await {
            // The writer's id is part of the bytes: nobody else writes the same.
            Ok(found) if found == object => Try::Durable,
            Ok(_) => Try::Conflict(key.into()),
            Err(error) => Try::Failed(error.to_string().into()),
        },
        Err(error) => Try::Failed(error.to_string().into()),
    }
}

#[cfg(test)]
mod tests;
