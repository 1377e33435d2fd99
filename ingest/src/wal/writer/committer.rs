//! The task that owns the log of one epoch: forms groups, puts them, and publishes them in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use futures::stream::{FuturesUnordered, StreamExt};
use tidelake_catalog::keys;
use tidelake_catalog::store::{PutOutcome, Store};
use tokio::sync::oneshot;

use super::super::frame::{self, ObjectHeader, ObjectKind, PreparedFrame, WriterId};
use super::super::{WalPosition, metrics};
use super::{Pending, Queue, Shared, Sink, WalError, WalState};
use crate::write_clock::{Orders, order_in_group};

/// A group or a mark that is in flight, or durable and waiting for an earlier one.
struct Group<T> {
    position: WalPosition,
    order: u64,
    kind: ObjectKind,
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

impl<T> Group<T> {
    /// Whether its deadline counts: clients wait for it, or the end of the log does.
    fn is_awaited(&self) -> bool {
        !self.acks.is_empty() || (self.kind == ObjectKind::Mark && !self.failed)
    }
}

/// Requests of a group that waits for its order.
struct NextGroup<T> {
    taken: Vec<Pending<T>>,
    order: BoxFuture<'static, Result<u64, String>>,
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
    orders: Orders,
    /// Requests of the next group, while its order is asked for.
    ordering: Option<NextGroup<T>>,
    /// That of the last group.
    last_order: u64,
    /// By position, without gaps.
    groups: VecDeque<Group<T>>,
    /// Durable, as all before them, but not yet applied.
    ready: Vec<Group<T>>,
    tries: FuturesUnordered<BoxFuture<'static, (WalPosition, Try)>>,
    last_launch: Option<Duration>,
    /// When a group was composed or became visible last.
    last_change: Duration,
    /// After the last group.
    groups_end: u64,
    /// The furthest durable end that an object has.
    told_end: u64,
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
        orders: Orders,
    ) -> Self {
        Self {
            shared,
            store,
            node: node.to_owned(),
            next: start,
            writer,
            orders,
            ordering: None,
            last_order: 0,
            groups: VecDeque::new(),
            ready: Vec::new(),
            tries: FuturesUnordered::new(),
            last_launch: None,
            last_change: Duration::ZERO,
            groups_end: start.seq,
            told_end: start.seq,
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
            if self.mark_due().is_some_and(|due| due <= now) {
                self.launch_mark(now);
            }
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
                self.shared
                    .gave_up
                    .store(!self.groups.is_empty(), Ordering::Relaxed);
                return;
            }
            let timer = self
                .next_deadline(now)
                .map(|at| self.shared.clock.sleep(at.saturating_sub(now)));
            let has_timer = timer.is_some();
            tokio::select! {
                biased;
                Some((position, outcome)) = self.tries.next(), if !self.tries.is_empty() => self.settle(position, outcome),
                order = asked(&mut self.ordering), if self.ordering.is_some() => self.put_ordered(order),
                () = self.shared.wake.notified() => {}
                () = async { if let Some(timer) = timer { timer.await } }, if has_timer => {}
            }
        }
    }

    /// Closed, and everybody has an answer. What failed and is still being tried is given up: its
    /// clients know.
    fn is_finished(&self) -> bool {
        let is_drained = {
            let queue = self.shared.queue.lock();
            queue.closing && queue.pending.is_empty()
        };
        is_drained
            && self.ordering.is_none()
            && (self.outage || (self.groups.is_empty() && self.mark_due().is_none()))
    }

    /// When something must happen even if nothing comes.
    fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let mark = self.mark_due();
        let queue = self.shared.queue.lock();
        let pending = queue.pending.front().map(|pending| pending.deadline);
        let group = self
            .groups
            .iter()
            .find(|group| group.is_awaited())
            .map(|group| group.deadline);
        let launch = match self.last_launch {
            Some(last) if !queue.pending.is_empty() && self.may_launch() => {
                Some(last + self.shared.options.min_interval)
            }
            _ => None,
        };
        [pending, group, launch, mark]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(now))
    }

    fn may_launch(&self) -> bool {
        !self.outage
            && self.fenced.is_none()
            && self.ordering.is_none()
            && self.groups.len() < self.shared.options.max_in_flight
    }

    /// When a mark is to be put: if nothing is under way, and no object says that the last group
    /// was durable.
    fn mark_due(&self) -> Option<Duration> {
        let told = self
            .told_end
            .max(self.shared.covered_end.load(Ordering::Relaxed));
        let is_needed = told < self.groups_end
            && self.groups.is_empty()
            && self.ready.is_empty()
            && self.may_launch();
        if !is_needed {
            return None;
        }
        let queue = self.shared.queue.lock();
        if !queue.pending.is_empty() {
            return None;
        }
        Some(if queue.closing {
            Duration::ZERO
        } else {
            self.last_change + self.shared.options.mark_after
        })
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
            .find(|group| group.is_awaited() && group.deadline <= now)
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
            match self.orders.alone(taken.len()) {
                Some(order) => self.put_group(taken, order, now),
                None => {
                    let order = self.orders.ask(taken.len());
                    self.ordering = Some(NextGroup { taken, order });
                }
            }
        }
    }

    /// Goes on with the group whose order was asked for.
    fn put_ordered(&mut self, order: Result<u64, String>) {
        let Some(NextGroup { taken, .. }) = self.ordering.take() else {
            return;
        };
        let error = match (&self.fenced, order) {
            (None, Ok(_)) if self.outage => WalError::Unavailable {
                reason: "the store failed before it was put".into(),
            },
            (None, Ok(order)) => {
                let now = self.shared.clock.now();
                return self.put_group(taken, order, now);
            }
            (Some(key), _) => WalError::Fenced {
                key: Arc::clone(key),
            },
            (None, Err(reason)) => WalError::Unavailable {
                reason: reason.into(),
            },
        };
        for pending in taken {
            let bytes = pending.frame.encoded_len();
            self.shared.release(&mut self.shared.queue.lock(), bytes);
            self.shared.fail(pending.ack, &error);
        }
    }

    fn put_group(&mut self, taken: Vec<Pending<T>>, order: u64, now: Duration) {
        let last = order_in_group(order, taken.len().saturating_sub(1));
        let frames = taken.iter().map(|pending| &pending.frame);
        let mut group = self.compose(ObjectKind::Group, order, frames, now);
        self.last_order = last;
        self.groups_end = self.next.seq;
        group.deadline = taken.first().map_or(now, |pending| pending.deadline);
        for pending in taken {
            group.held_bytes += pending.frame.encoded_len();
            group.payloads.push(pending.payload);
            group.acks.push(pending.ack);
        }
        self.tries.push(self.try_put(&group, Duration::ZERO));
        self.groups.push_back(group);
    }

    fn launch_mark(&mut self, now: Duration) {
        let mark = self.compose(ObjectKind::Mark, self.last_order, [].iter(), now);
        self.tries.push(self.try_put(&mark, Duration::ZERO));
        self.groups.push_back(mark);
    }

    /// The next object, without acknowledgements yet.
    fn compose<'a>(
        &mut self,
        kind: ObjectKind,
        order: u64,
        frames: impl ExactSizeIterator<Item = &'a PreparedFrame> + Clone,
        now: Duration,
    ) -> Group<T> {
        let position = self.next;
        self.next = position.next();
        self.last_change = now;
        // What is not in `groups` any more is durable, as all before it.
        let durable_end = self.groups.front().map_or(position, |group| group.position);
        self.told_end = durable_end.seq;
        let header = ObjectHeader {
            kind,
            writer: self.writer,
            epoch: position.epoch,
            seq: position.seq,
            durable_end: durable_end.seq,
            order,
        };
        Group {
            position,
            order,
            kind,
            object: frame::encode_prepared(&header, frames),
            payloads: Vec::new(),
            acks: Vec::new(),
            deadline: now + self.shared.options.submit_timeout,
            held_bytes: 0,
            durable: false,
            failed: false,
            failures: 0,
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
                    tracing::info!(
                        %position,
                        tries = group.failures + 1,
                        "a write-ahead log object is durable at last"
                    );
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
                    tracing::warn!(
                        %position,
                        %reason,
                        "a write-ahead log object could not be put; trying until it is there"
                    );
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
        self.last_change = self.shared.clock.now();
        for group in self.ready.drain(..) {
            let metrics = &self.shared.metrics;
            if group.kind == ObjectKind::Group {
                metrics::add(&metrics.groups, 1);
            }
            metrics::add(&metrics.bytes, group.object.len());
            metrics::add(&metrics.frames, group.payloads.len());
            sink.apply(group.position, group.order, group.payloads);
            self.shared
                .release(&mut self.shared.queue.lock(), group.held_bytes);
            for ack in group.acks {
                // Who does not wait any more need not be told.
                let _ = ack.send(Ok(group.position));
            }
        }
    }

    fn stop_fenced(&mut self, key: Arc<str>) {
        tracing::error!(
            %key,
            "another process took over this node's write-ahead log; nothing more is written"
        );
        let error = WalError::Fenced {
            key: Arc::clone(&key),
        };
        self.shared.refuse(&error, WalState::Fenced { key });
        let waiting = self
            .ordering
            .take()
            .map_or_else(Vec::new, |next| next.taken);
        for pending in waiting {
            self.shared.fail(pending.ack, &error);
        }
        for group in self.groups.drain(..) {
            for ack in group.acks {
                self.shared.fail(ack, &error);
            }
        }
    }
}

/// The order of the next group, once it is known.
async fn asked<T>(ordering: &mut Option<NextGroup<T>>) -> Result<u64, String> {
    match ordering {
        Some(next) => (&mut next.order).await,
        None => std::future::pending().await,
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
