//! The task that owns the log of one epoch: forms groups, puts them, and publishes them in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use futures::stream::{FuturesUnordered, StreamExt};
use tidelake_catalog::keys;
use tidelake_catalog::store::{PutOutcome, Store};
use tokio::sync::oneshot;

use super::super::frame::{self, ObjectHeader, WriterId};
use super::super::{WalPosition, metrics};
use super::{Pending, Queue, Shared, Sink, WalError, WalState};

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
    /// Its clients were told that the store failed: until it is durable nobody can be
    /// acknowledged.
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

pub(super) struct Committer<T> {
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

/// However the task ends, by closing, by a panic of the sink or with the runtime: nobody waits for
/// ever.
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
    /// For the log of `node` from `start` on.
    pub(super) fn new(
        shared: Arc<Shared<T>>,
        store: Store,
        node: &str,
        start: WalPosition,
        writer: WriterId,
    ) -> Self {
        Self {
            shared,
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
        }
    }

    pub(super) async fn run(mut self, mut sink: impl Sink<T>) {
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
            let timer = self
                .next_deadline(now)
                .map(|at| self.shared.clock.sleep(at.saturating_sub(now)));
            let has_timer = timer.is_some();
            tokio::select! {
                biased;
                Some((position, outcome)) = self.tries.next(), if !self.tries.is_empty() => self.settle(position, outcome),
                () = self.shared.wake.notified() => {}
                () = async { if let Some(timer) = timer { timer.await } }, if has_timer => {}
            }
        }
    }

    /// Closed, and everybody has an answer. What failed and is still being tried is given up: its
    /// clients know.
    fn is_finished(&self) -> bool {
        let queue = self.shared.queue.lock();
        queue.closing && queue.pending.is_empty() && (self.groups.is_empty() || self.outage)
    }

    /// When something must happen even if nothing comes.
    fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let queue = self.shared.queue.lock();
        let pending = queue.pending.front().map(|pending| pending.deadline);
        let group = self
            .groups
            .iter()
            .find(|group| !group.acks.is_empty())
            .map(|group| group.deadline);
        let launch = match self.last_launch {
            Some(last) if !queue.pending.is_empty() && self.may_launch() => {
                Some(last + self.shared.options.min_interval)
            }
            _ => None,
        };
        [pending, group, launch]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(now))
    }

    fn may_launch(&self) -> bool {
        !self.outage
            && self.fenced.is_none()
            && self.groups.len() < self.shared.options.max_in_flight
    }

    /// Answers those whose time is over.
    fn expire(&mut self, now: Duration) {
        let reason: Arc<str> = format!(
            "the store did not take it within {:?}",
            self.shared.options.submit_timeout
        )
        .into();
        let error = WalError::Unavailable {
            reason: Arc::clone(&reason),
        };
        loop {
            let expired = {
                let mut queue = self.shared.queue.lock();
                let Some(expired) = queue
                    .pending
                    .pop_front_if(|pending| pending.deadline <= now)
                else {
                    break;
                };
                let bytes = expired.frame.encoded_len();
                queue.pending_bytes -= bytes;
                self.shared.release(&mut queue, bytes);
                expired
            };
            self.shared.fail(expired.ack, &error);
        }
        if let Some(group) = self
            .groups
            .iter_mut()
            .find(|group| !group.acks.is_empty() && group.deadline <= now)
        {
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
                let early = self
                    .last_launch
                    .is_some_and(|last| now < last + options.min_interval);
                if queue.pending.is_empty()
                    || (early && queue.pending_bytes < options.group_bytes && !queue.closing)
                {
                    return;
                }
                take_group(&mut queue, options.group_bytes)
            };
            self.last_launch = Some(now);
            let position = self.next;
            self.next = position.next();
            let header = ObjectHeader {
                writer: self.writer,
                epoch: position.epoch,
                seq: position.seq,
            };
            let object =
                frame::encode_prepared(&header, taken.iter().map(|pending| &pending.frame));
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
                        Either::Right(_) => Try::Failed(
                            format!("no answer to the put of {key} within {timeout:?}").into(),
                        ),
                    }
                }
            };
            metrics
                .put_latency
                .observe(clock.now().saturating_sub(began));
            (position, outcome)
        })
    }

    /// Takes note of how a try ended.
    fn settle(&mut self, position: WalPosition, outcome: Try) {
        let options = &self.shared.options;
        let Some(group) = self
            .groups
            .iter_mut()
            .find(|group| group.position == position)
        else {
            return;
        };
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
                let pause = options
                    .min_retry_pause
                    .saturating_mul(1 << group.failures.min(16))
                    .min(options.max_retry_pause);
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
        let error = WalError::Unavailable {
            reason: Arc::clone(&reason),
        };
        self.shared.refuse(&error, WalState::Unavailable { reason });
        for group in self
            .groups
            .iter_mut()
            .filter(|group| group.position >= from)
        {
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
            self.shared
                .release(&mut self.shared.queue.lock(), group.held_bytes);
            for ack in group.acks {
                // Who does not wait any more need not be told.
                let _ = ack.send(Ok(group.position));
            }
        }
    }

    fn stop_fenced(&mut self, key: Arc<str>) {
        tracing::error!(%key, "another process took over this node's write-ahead log; nothing more is written");
        let error = WalError::Fenced {
            key: Arc::clone(&key),
        };
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
