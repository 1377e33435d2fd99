//! The write path of one node, put together: prepare -> write-ahead log -> buffer ->
//! acknowledgment, and from time to time buffer -> segments -> catalog commit -> the log is cut.
//!
//! Invariants:
//! - nothing is acknowledged before it is durable in the log and visible in the buffer;
//! - the commit of a flush names its segments and the position of the log that they cover, both or
//!   neither;
//! - objects of the log are deleted only after that commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tidelake_catalog::background::supervised;
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_catalog::model::{INTERNAL_DATABASE, TableKind, TimeRange};
use tidelake_catalog::snapshot::{self, SegmentMeta, Snapshot};
use tidelake_catalog::{Catalog, Covered, NameLimits};
use tokio::sync::{Notify, watch};

use crate::buffer::{Buffer, RecentRows, Rotated, TableName};
use crate::flush::write_segments;
use crate::label_limits::LabelLimits;
use crate::line_protocol::LineError;
use crate::otlp::Delta;
use crate::otlp::accumulate::{Accumulated, Accumulator};
use crate::prepare::{Preparer, TableBatch, catalog_error};
use crate::registries::Registries;
use crate::request::{IngestError, WriteOutcome, WriteRequest, Written};
use crate::series_quota::SeriesQuota;
use crate::tap::Tap;
use crate::wal::clock::SystemClock;
use crate::wal::{
    FIRST_SEQ, Frame, Protocol, Replay, ReplayOptions, Truncator, WalError, WalMetrics, WalOptions,
    WalPosition, WalState, WalWriter, WriterId,
};
use crate::write_clock::{NoPeers, Orders, WriteClock, order_in_group};

/// Samples of a body of remote write. An empty one is two bytes in the body and twenty in memory;
/// senders put some thousands into a body.
const MAX_SAMPLES: usize = 4_000_000;

/// Rows of a request that take more bytes are only taken while a quarter of the memory for rows and
/// series is left: the rest is for the small requests of others.
const LARGE_ROWS_BYTES: usize = 1 << 20;

/// Largest decompressed body that replay takes.
const MAX_REPLAYED_BYTES: usize = 1 << 30;

/// Bytes of large requests that were let in and are not in the buffer yet.
struct Underway<'a> {
    all: &'a AtomicUsize,
    bytes: usize,
    /// Those of the requests before.
    before: usize,
}

impl<'a> Underway<'a> {
    fn new(all: &'a AtomicUsize, bytes: usize) -> Self {
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        Self { all, bytes, before }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// When clients should try again whose writes are put off: a merge takes seconds.
const PUT_OFF_RETRY_S: u64 = 5;
/// Longest time that clients are told to wait for the log.
const LOG_RETRY_MAX_S: u64 = 30;

/// Pause before what earlier processes left of the log is looked for again, after a store has
/// failed.
const SWEEP_RETRY: Duration = Duration::from_secs(60);

/// Settings of the write path.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Buffered bytes beyond which writes are answered "later".
    pub buffer_bytes: usize,
    /// Buffered bytes at which a flush begins.
    pub flush_bytes: usize,
    /// Longest time that rows wait for a flush.
    pub flush_interval: Duration,
    /// The memory of the process, in which the buffer counts.
    pub memory: Arc<MemoryBudget>,
    /// Memory for the series of one table.
    pub series_bytes: usize,
    /// Largest decompressed body of line protocol.
    pub max_lines_bytes: usize,
    /// Largest decompressed body of remote write.
    pub max_remote_write_bytes: usize,
    /// Databases, tables and columns that writes may add to.
    pub names: NameLimits,
    /// Number and length of the labels of a series.
    pub labels: LabelLimits,
    /// How OTLP is translated.
    pub otlp: crate::otlp::Settings,
    /// How often to look whether another process took this node over; never if somebody else
    /// follows the catalog, whose news are looked at in any case.
    pub fence_check_interval: Option<Duration>,
    /// The write-ahead log.
    pub wal: WalOptions,
    /// Where writes get their order from; the node's own clock, if there is nobody else.
    pub orders: Option<Orders>,
    /// Whether to start although acknowledged objects of the log are gone or damaged. What they
    /// held is lost.
    pub accept_lost_wal: bool,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            memory: MemoryBudget::unlimited(),
            buffer_bytes: 1 << 30,
            flush_bytes: 256 << 20,
            flush_interval: Duration::from_secs(600),
            series_bytes: 512 << 20,
            max_lines_bytes: 10 << 20,
            max_remote_write_bytes: 32 << 20,
            names: NameLimits::default(),
            labels: LabelLimits::NONE,
            otlp: crate::otlp::Settings::default(),
            fence_check_interval: Some(Duration::from_secs(1)),
            wal: WalOptions::local(),
            orders: None,
            accept_lost_wal: false,
        }
    }
}

/// Counters for `/metrics`.
#[derive(Debug, Default)]
pub struct IngestCounters {
    /// Lines and samples that were acknowledged.
    pub written: AtomicU64,
    /// Lines and samples that were refused as wrong.
    pub refused: AtomicU64,
    /// Writes answered "later".
    pub deferred: AtomicU64,
    /// Flushes that were committed.
    pub flushes: AtomicU64,
    /// Flushes that failed and will be tried again.
    pub failed_flushes: AtomicU64,
    /// Rows written to segments.
    pub flushed_rows: AtomicU64,
    /// Since when there are rows that are in no segment, in milliseconds since 1970; 0 without any.
    pub oldest_ms: AtomicI64,
}

impl IngestCounters {
    fn note_row(&self, now_ms: i64) {
        if self.oldest_ms.load(Ordering::Relaxed) == 0 {
            // Another row may have been first.
            let (ours, order) = (now_ms, Ordering::Relaxed);
            let _ = self.oldest_ms.compare_exchange(0, ours, order, order);
        }
    }
}

/// A flush whose segments are on the store and whose commit is not known to have succeeded.
struct Pending {
    rotated: Rotated,
    covered: Applied,
    segments: Vec<SegmentMeta>,
}

struct FlushState {
    truncator: Truncator,
    covered: WalPosition,
    pending: Option<Pending>,
}

/// The write path of one node.
pub struct Ingester {
    catalog: Arc<Catalog>,
    node: String,
    buffer: Arc<Buffer>,
    registries: Arc<Registries>,
    preparer: Preparer,
    wal: WalWriter<Vec<TableBatch>>,
    /// Held while a group is applied and while the buffer is rotated, so that a rotation falls
    /// between two groups.
    applied: Arc<Mutex<Applied>>,
    orders: Orders,
    flush: tokio::sync::Mutex<FlushState>,
    full: Arc<Notify>,
    fenced: watch::Sender<Option<String>>,
    /// Why writes are put off at present, though they could be taken.
    put_off: RwLock<Option<Arc<str>>>,
    /// Since when the log has not been writable, in ms since 1970.
    log_away_since: Mutex<Option<i64>>,
    /// See [`Underway`].
    underway: AtomicUsize,
    tap: Arc<Tap>,
    counters: IngestCounters,
    /// What a logged request of OTLP begins with.
    otlp_head: Bytes,
    /// What OTLP's deltas add up to.
    sums: Accumulator,
    options: IngestOptions,
}

impl std::fmt::Debug for Ingester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingester")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// Whether rows and series take so much memory that a flush should begin.
fn is_tight(memory: &MemoryBudget) -> bool {
    memory.state(Share::Buffer).used >= memory.limit(Share::Buffer) / 4 * 3
}

/// What is in the buffer or in segments.
#[derive(Debug, Clone, Copy)]
struct Applied {
    /// Everything before it is.
    position: WalPosition,
    /// And with it the rows up to this write order.
    order: u64,
}

/// Puts the rows of a group into the buffer. They keep their orders if others write as well.
fn apply(buffer: &Buffer, tables: Vec<TableBatch>, order: u64, keeps_orders: bool) {
    for mut table in tables {
        // Exemplars replace nothing.
        if keeps_orders && table.kind != TableKind::Exemplars {
            table.rows.keep_order(order);
        }
        buffer.append(&table.name, table.kind, &table.registry, table.rows, order);
    }
}

/// Whether rows of other nodes may have been written between those of this node's log.
fn were_others(snapshot: &Snapshot, node: &str) -> bool {
    let mut others = snapshot.nodes().filter(|other| &*other.name != node);
    others.any(|other| other.order > 0 || other.takes_writes())
}

impl Ingester {
    /// Replays what the node's log holds beyond its segments, fences older processes of the node,
    /// and opens for writes. The catalog must be registered as the node.
    pub async fn start(
        catalog: Arc<Catalog>,
        options: IngestOptions,
    ) -> Result<Arc<Self>, IngestError> {
        let store = catalog.store().clone();
        let Some((node, epoch)) = catalog.node() else {
            return Err(IngestError::Internal(
                "the catalog is not registered as a node".to_owned(),
            ));
        };
        let otlp_head = options.otlp.head().map_err(IngestError::BadRequest)?;
        let registries = Arc::new(Registries::new(
            options.series_bytes,
            Arc::clone(&options.memory),
        ));
        // What was acknowledged under larger limits than today's must come back all the same.
        let preparer = Preparer::new(
            Arc::clone(&catalog),
            Arc::clone(&registries),
            MAX_REPLAYED_BYTES,
            MAX_REPLAYED_BYTES,
            Arc::clone(&options.memory),
        );
        let buffer = Arc::new(Buffer::new(&options.memory));
        let covered = catalog
            .snapshot()
            .node(&node)
            .map(|n| n.wal)
            .unwrap_or_default();
        let covered = WalPosition {
            epoch: covered.epoch,
            seq: covered.next_seq,
        };
        let writer = WriterId::draw(catalog.environment());
        let orders = options.orders.clone().unwrap_or_else(|| Orders {
            clock: Arc::new(WriteClock::new(catalog.environment(), &node)),
            peers: Arc::new(NoPeers),
        });
        let snapshot = catalog.snapshot();
        let last_orders = snapshot.nodes().map(|node| node.order);
        orders.clock.observe(last_orders.max().unwrap_or(0));
        let were_others = were_others(&snapshot, &node);
        let mut replayed_order = snapshot.node(&node).map_or(0, |own| own.order);

        let clock = Arc::new(SystemClock::default());
        let replay_error = |error: crate::wal::ReplayError| match error {
            crate::wal::ReplayError::Superseded { .. } => IngestError::Fenced(error.to_string()),
            error => IngestError::Internal(error.to_string()),
        };
        let mut replay = Replay::open(
            store.clone(),
            &node,
            covered,
            epoch,
            writer,
            ReplayOptions {
                accept_lost: options.accept_lost_wal,
                ..ReplayOptions::default()
            },
            clock,
        )
        .await
        .map_err(replay_error)?;
        let mut flush = FlushState {
            truncator: Truncator::new(
                store.clone(),
                &node,
                WalPosition {
                    epoch,
                    seq: FIRST_SEQ,
                },
                replay.report(),
                Arc::default(),
            ),
            covered,
            pending: None,
        };
        while let Some(group) = replay.next().await.map_err(replay_error)? {
            let mut applied = Applied {
                position: group.position,
                order: replayed_order,
            };
            for (number, frame) in group.frames.iter().enumerate() {
                // Groups that were written before they had an order get theirs in their own order.
                replayed_order = match group.order {
                    0 => order_in_group(replayed_order, 1)
                        .max(orders.clock.of_time(frame.received_ns)),
                    first => order_in_group(first, number),
                };
                let prepared = match preparer.prepare(frame, true).await {
                    Err(IngestError::Unavailable { .. }) if buffer.rows() > 0 => {
                        // Memory for series: a flush makes room.
                        flush_to(&catalog, &node, &buffer, &registries, &mut flush, applied)
                            .await?;
                        preparer.prepare(frame, true).await
                    }
                    other => other,
                };
                let prepared = prepared.map_err(|error| replay_failed(&group.position, error))?;
                apply(&buffer, prepared.tables, replayed_order, were_others);
            }
            applied = Applied {
                position: group.position.next(),
                order: replayed_order,
            };
            orders.clock.observe(replayed_order);
            if buffer.bytes() >= options.flush_bytes {
                flush_to(&catalog, &node, &buffer, &registries, &mut flush, applied).await?;
            }
        }
        catalog.limit_names(options.names);
        let report = replay.report().clone();
        if report.frames > 0 {
            tracing::info!(
                requests = report.frames,
                rows = buffer.rows(),
                "write-ahead log replayed"
            );
        }

        let start = WalPosition {
            epoch,
            seq: FIRST_SEQ,
        };
        if !report.lost.is_empty() {
            tracing::error!(
                objects = report.lost.len(),
                "acknowledged objects of the write-ahead log are lost; what is there was replayed"
            );
            // The next start must not find the loss again.
            let applied = Applied {
                position: start,
                order: replayed_order,
            };
            flush_to(&catalog, &node, &buffer, &registries, &mut flush, applied).await?;
        }
        let applied = Arc::new(Mutex::new(Applied {
            position: start,
            order: replayed_order,
        }));
        let full = Arc::new(Notify::new());
        let tap = Arc::new(Tap::default());
        let sink = {
            let tap = Arc::clone(&tap);
            let (buffer, applied, full, flush_bytes) = (
                Arc::clone(&buffer),
                Arc::clone(&applied),
                Arc::clone(&full),
                options.flush_bytes,
            );
            let memory = Arc::clone(&options.memory);
            let peers = Arc::clone(&orders.peers);
            move |position: WalPosition, order: u64, groups: Vec<Vec<TableBatch>>| {
                let arrivals = tap.copy(&groups);
                {
                    let mut applied = applied.lock();
                    let keeps_orders = peers.are_there();
                    for (number, tables) in groups.into_iter().enumerate() {
                        let order = order_in_group(order, number);
                        apply(&buffer, tables, order, keeps_orders);
                        applied.order = applied.order.max(order);
                    }
                    applied.position = position.next();
                }
                tap.send(arrivals);
                if buffer.bytes() >= flush_bytes
                    || (buffer.bytes() >= flush_bytes / 8 && is_tight(&memory))
                {
                    full.notify_one();
                }
            }
        };
        let preparer = Preparer::new(
            Arc::clone(&catalog),
            Arc::clone(&registries),
            options.max_lines_bytes,
            options.max_remote_write_bytes,
            Arc::clone(&options.memory),
        )
        .for_new(MAX_SAMPLES);
        let wal = WalWriter::start(
            store.clone(),
            &node,
            start,
            writer,
            options.wal.clone(),
            orders.clone(),
            sink,
        );
        flush.truncator = Truncator::new(store.clone(), &node, start, &report, wal.metrics());
        let ingester = Arc::new(Self {
            catalog,
            node,
            buffer,
            registries,
            preparer,
            wal,
            applied,
            orders,
            flush: tokio::sync::Mutex::new(flush),
            full,
            fenced: watch::Sender::new(None),
            put_off: RwLock::new(None),
            log_away_since: Mutex::new(None),
            underway: AtomicUsize::new(0),
            tap,
            counters: IngestCounters::default(),
            otlp_head,
            sums: Accumulator::new(&options.memory),
            options,
        });
        ingester.start_background(covered);
        Ok(ingester)
    }

    fn start_background(self: &Arc<Self>, covered: WalPosition) {
        let (weak, full) = (Arc::downgrade(self), Arc::clone(&self.full));
        let interval = self.options.flush_interval;
        tokio::spawn(supervised("flush", move || {
            flush_when_due(weak.clone(), Arc::clone(&full), interval)
        }));
        let (weak, interval) = (Arc::downgrade(self), self.options.fence_check_interval);
        tokio::spawn(supervised("fence watch", move || {
            watch_for_fence(weak.clone(), interval)
        }));
        let (weak, state) = (Arc::downgrade(self), self.wal.state());
        tokio::spawn(supervised("log watch", move || {
            watch_log(weak.clone(), state.clone())
        }));
        let weak = Arc::downgrade(self);
        tokio::spawn(supervised("log sweep", move || {
            sweep_log(weak.clone(), covered)
        }));
    }

    /// Writes a request. What the outcome does not list as refused is durable and visible.
    pub async fn write(&self, request: WriteRequest) -> Result<WriteOutcome, IngestError> {
        let result = self.try_write(request).await;
        match &result {
            Ok(outcome) => {
                self.counters.written.fetch_add(
                    outcome.written.samples + outcome.written.histograms,
                    Ordering::Relaxed,
                );
                self.counters
                    .refused
                    .fetch_add(outcome.refused, Ordering::Relaxed);
            }
            Err(IngestError::Unavailable { .. }) => {
                self.counters.deferred.fetch_add(1, Ordering::Relaxed);
            }
            Err(IngestError::Fenced(reason)) => self.fence(reason),
            Err(_) => {}
        }
        result
    }

    /// When to try again while the log cannot be written: after as long again as it could not be.
    ///
    /// Some senders count their tries (OpenTelemetry's SDK has six), and outlast a minute so, as
    /// with a pause that doubles; with one of a second they would give up after six.
    fn log_retry_s(&self) -> u64 {
        let Some(since) = *self.log_away_since.lock() else {
            return 1;
        };
        let away_ms = self.catalog.environment().now_ms().saturating_sub(since);
        u64::try_from(away_ms / 1000)
            .unwrap_or_default()
            .clamp(1, LOG_RETRY_MAX_S)
    }

    async fn try_write(&self, request: WriteRequest) -> Result<WriteOutcome, IngestError> {
        let (buffered, limit) = (self.buffer.bytes(), self.options.buffer_bytes);
        if buffered >= limit {
            self.full.notify_one();
            return Err(IngestError::unavailable(format!(
                "{buffered} bytes wait to be flushed, at most {limit} are allowed (setting \
                 buffer_bytes)"
            )));
        }
        if let Err(full) = self.options.memory.try_reserve(Share::Buffer, 1) {
            self.full.notify_one();
            return Err(IngestError::unavailable(full));
        }
        // What the server records about itself comes in any case: it is little.
        let is_internal = request.database == INTERNAL_DATABASE;
        if let Some(reason) = self.put_off.read().clone().filter(|_| !is_internal) {
            return Err(IngestError::Unavailable {
                reason: reason.to_string(),
                retry_after_s: PUT_OFF_RETRY_S,
            });
        }
        // Before anything is committed for it: a fenced or broken log takes nothing.
        let state = self.wal.state().borrow().clone();
        match state {
            WalState::Open => {}
            WalState::Unavailable { reason } => {
                return Err(IngestError::Unavailable {
                    reason: format!("the write-ahead log cannot be written: {reason}"),
                    retry_after_s: self.log_retry_s(),
                });
            }
            WalState::Fenced { key } => return Err(wal_error(WalError::Fenced { key })),
            WalState::Closed => return Err(wal_error(WalError::Closed)),
        }
        if let Some(caught_up) = self.orders.peers.catch_up() {
            caught_up.await.map_err(IngestError::unavailable)?;
        }
        let (request, accumulated, _memory) = match request.protocol {
            Protocol::Otlp { format } if self.options.otlp.delta == Delta::Accumulate => {
                let now_ms = self.catalog.environment().now_ms();
                let sums = &self.sums;
                let done = self.preparer.accumulate(sums, request, format, now_ms);
                let (request, accumulated, memory) = done.await?;
                (request, accumulated, Some(memory))
            }
            _ => (request, Accumulated::default(), None),
        };
        let database: Arc<str> = request.database.into();
        let limits = self.catalog.snapshot().limits_of(&database);
        self.registries
            .limit_series(&database, limits.active_series);
        let labels = match is_internal {
            true => LabelLimits::NONE,
            false => self
                .options
                .labels
                .narrowed(LabelLimits::of_tenant(&limits)),
        };
        let body = match request.protocol {
            Protocol::Otlp { .. } => [&*self.otlp_head, &*request.body].concat().into(),
            _ => request.body,
        };
        let frame = Frame {
            database,
            protocol: request.protocol,
            encoding: request.encoding,
            received_ns: self.catalog.environment().now_ns(),
            limits: labels,
            body,
        };
        let mut prepared = match self.preparer.prepare(&frame, request.accept_partial).await {
            Ok(prepared) => prepared,
            Err(error @ IngestError::Unavailable { .. }) => {
                self.full.notify_one();
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        prepared.outcome.refused += accumulated.refused;
        let errors = accumulated.errors.into_iter();
        prepared
            .outcome
            .errors
            .extend(errors.map(LineError::of_request));
        let Written {
            samples,
            histograms,
            exemplars,
        } = prepared.outcome.written;
        if samples + histograms + exemplars > 0 {
            let bytes: usize = prepared.tables.iter().map(|t| t.rows.bytes()).sum();
            let _underway = self.make_room(bytes)?;
            self.wal
                .append(frame, prepared.tables)
                .await
                .map_err(wal_error)?;
            let now_ms = self.catalog.environment().now_ms();
            self.counters.note_row(now_ms);
        }
        Ok(prepared.outcome)
    }

    /// Refuses rows that take much memory when little is left; otherwise keeps their place until
    /// they are in the buffer.
    fn make_room(&self, bytes: usize) -> Result<Option<Underway<'_>>, IngestError> {
        if bytes <= LARGE_ROWS_BYTES {
            return Ok(None);
        }
        let memory = &self.options.memory;
        let underway = Underway::new(&self.underway, bytes);
        // Rows have a limit of their own in the share, in which series are as well.
        let shares = [
            (
                memory.state(Share::Buffer).used,
                memory.limit(Share::Buffer) / 4 * 3,
            ),
            (self.buffer.bytes(), self.options.buffer_bytes / 4 * 3),
        ];
        for (held, limit) in shares {
            let used = held.saturating_add(underway.before);
            if used > 0 && used.saturating_add(bytes) > limit {
                self.full.notify_one();
                return Err(IngestError::unavailable(format!(
                    "{bytes} bytes of rows do not fit beside the {used} that wait to be flushed, \
                     at most {limit} are allowed (settings buffer_bytes and memory_bytes); send \
                     again later, or smaller bodies"
                )));
            }
        }
        Ok(Some(underway))
    }

    /// Rows as they arrive.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// From now on writes are answered "later" for this reason, until it is `None`. Flushes go on.
    pub fn put_off_writes(&self, reason: Option<String>) {
        *self.put_off.write() = reason.map(Arc::from);
    }

    /// Whether writes are put off at present.
    pub fn puts_off_writes(&self) -> bool {
        self.put_off.read().is_some()
    }

    /// Whether any rows of a table are not in a segment yet.
    pub fn has_recent(&self, database: &str, table: &str) -> bool {
        let name = self.table_name(database, table);
        name.is_some_and(|name| self.buffer.has_rows(&name))
    }

    /// Sorted rows of a table that are not in a segment yet, and perhaps some that already are.
    pub fn recent(&self, database: &str, table: &str, range: TimeRange) -> Vec<RecentRows> {
        let name = self.table_name(database, table);
        name.map_or_else(Vec::new, |name| self.buffer.recent(&name, range))
    }

    /// How many rows [`recent`](Self::recent) would have to sort.
    pub fn unsorted(&self, database: &str, table: &str) -> usize {
        let name = self.table_name(database, table);
        name.map_or(0, |name| self.buffer.unsorted(&name))
    }

    fn table_name(&self, database: &str, table: &str) -> Option<TableName> {
        let snapshot = self.catalog.snapshot();
        let found = snapshot.table(database, table)?;
        Some(TableName {
            database: database.into(),
            table: Arc::clone(&found.name),
            id: found.id,
        })
    }

    /// Returns when everything that was buffered at the call is in segments that the catalog names.
    pub async fn flush(&self) -> Result<(), IngestError> {
        let mut state = self.flush.lock().await;
        let begun_ms = self.catalog.environment().now_ms();
        // First what an earlier flush could not commit, then what came since.
        let mut flushed = 0;
        let result = loop {
            let was_pending = state.pending.is_some();
            match self.flush_once(&mut state).await {
                Ok(rows) => flushed += rows,
                Err(error) => break Err(error),
            }
            if !was_pending {
                break Ok(());
            }
        };
        if result.is_ok() {
            let has_rows = self.buffer.rows() > 0;
            self.counters
                .oldest_ms
                .store(if has_rows { begun_ms } else { 0 }, Ordering::Relaxed);
        }
        match &result {
            Ok(()) => self
                .counters
                .flushes
                .fetch_add(u64::from(flushed > 0), Ordering::Relaxed),
            Err(IngestError::Fenced(reason)) => {
                self.fence(reason);
                0
            }
            Err(_) => self.counters.failed_flushes.fetch_add(1, Ordering::Relaxed),
        };
        self.counters
            .flushed_rows
            .fetch_add(flushed, Ordering::Relaxed);
        result
    }

    async fn flush_once(&self, state: &mut FlushState) -> Result<u64, IngestError> {
        if state.pending.is_none() {
            let (rotated, mut covered) = {
                let applied = self.applied.lock();
                (self.buffer.rotate(), *applied)
            };
            // What comes from now on need not wait for the flush to get rid of old series.
            self.registries.renew();
            if rotated.is_empty() && covered.position <= state.covered {
                let Some(order) = self.order_to_tell(covered.order) else {
                    return Ok(0);
                };
                covered.order = order;
            }
            let segments = encode(
                &self.catalog,
                &self.node,
                &self.options.memory,
                &rotated,
                covered.position,
            )
            .await?;
            state.pending = Some(Pending {
                rotated,
                covered,
                segments,
            });
        }
        self.renew_stale(state).await?;
        let Some(pending) = &state.pending else {
            return Ok(0);
        };
        let rows = pending.segments.iter().map(|s| s.rows).sum();
        commit(&self.catalog, pending).await?;
        if let Some(pending) = state.pending.take() {
            self.buffer.release(&pending.rotated);
            let snapshot = self.catalog.snapshot();
            let is_there = |name: &TableName| {
                name.id == 0
                    || snapshot
                        .table(&name.database, &name.table)
                        .is_some_and(|table| table.id == name.id)
            };
            self.registries.retain(is_there);
            self.buffer.retain(is_there);
            let covered = pending.covered.position;
            state.covered = covered;
            self.wal.covered(covered);
            state.truncator.truncate(covered).await;
        }
        Ok(rows)
    }

    /// What a node without rows tells the others when these have written: all that it will take has
    /// a higher order, so that theirs can be merged.
    fn order_to_tell(&self, applied: u64) -> Option<u64> {
        let snapshot = self.catalog.snapshot();
        let own = snapshot.node(&self.node).map_or(0, |own| own.order);
        let others = snapshot.nodes().filter(|other| *other.name != *self.node);
        let have_written = others.map(|other| other.order).max() > Some(own);
        (have_written && self.orders.peers.are_there())
            .then(|| self.orders.clock.between_groups(applied))
            .flatten()
    }

    /// Segments that could not be committed for half a day may be taken for orphans and deleted:
    /// they are written again.
    async fn renew_stale(&self, state: &mut FlushState) -> Result<(), IngestError> {
        let now_ms = u64::try_from(self.catalog.environment().now_ms()).unwrap_or(0);
        let Some(pending) = &mut state.pending else {
            return Ok(());
        };
        if pending
            .segments
            .iter()
            .any(|segment| segment.id.is_stale(now_ms))
            && !self
                .catalog
                .was_committed(&pending.segments)
                .await
                .map_err(catalog_error)?
        {
            pending.segments = encode(
                &self.catalog,
                &self.node,
                &self.options.memory,
                &pending.rotated,
                pending.covered.position,
            )
            .await?;
        }
        Ok(())
    }

    /// Takes no more writes, and flushes.
    pub async fn shutdown(&self) -> Result<(), IngestError> {
        self.wal.close().await;
        self.flush().await
    }

    /// Whether the log may still hold writes that failed, after [`shutdown`](Self::shutdown). Then
    /// the node must not leave: rows that others have read of its log would be gone until it starts
    /// again.
    pub fn has_open_log(&self) -> bool {
        self.wal.gave_up()
    }

    /// Returns, with the reason, when another process has taken this node over. The caller must
    /// exit and touch nothing.
    pub async fn fenced(&self) -> String {
        let mut fenced = self.fenced.subscribe();
        loop {
            if let Some(reason) = fenced.borrow_and_update().clone() {
                return reason;
            }
            // The sender lives in this ingester.
            if fenced.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn fence(&self, reason: &str) {
        self.fenced.send_if_modified(|fenced| {
            let first = fenced.is_none();
            if first {
                *fenced = Some(reason.to_owned());
            }
            first
        });
    }

    /// Whether the log takes writes.
    pub fn log_state(&self) -> WalState {
        self.wal.state().borrow().clone()
    }

    /// Whether the log takes writes, and when that changes.
    pub fn watch_log_state(&self) -> watch::Receiver<WalState> {
        self.wal.state()
    }

    /// What the log did so far.
    pub fn log_metrics(&self) -> Arc<WalMetrics> {
        self.wal.metrics()
    }

    /// What the write path did so far.
    pub fn counters(&self) -> &IngestCounters {
        &self.counters
    }

    /// Bytes and rows that are not released yet.
    pub fn buffered(&self) -> (usize, usize) {
        (self.buffer.bytes(), self.buffer.rows())
    }

    /// How many series databases have and may have, of those that were written to lately.
    pub fn series_quotas(&self) -> Vec<(Arc<str>, Arc<SeriesQuota>)> {
        self.registries.quotas()
    }

    /// The memory of the process, as rows are counted in it.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.options.memory
    }

    /// Series that are known at present.
    pub fn series(&self) -> usize {
        self.registries.series()
    }
}

/// Who flushes when it is due sees that there is nothing to flush any more.
impl Drop for Ingester {
    fn drop(&mut self) {
        self.full.notify_one();
    }
}

async fn encode(
    catalog: &Catalog,
    node: &str,
    memory: &Arc<MemoryBudget>,
    rotated: &Rotated,
    covered: WalPosition,
) -> Result<Vec<SegmentMeta>, IngestError> {
    let origin = format!("{node}/{covered}");
    write_segments(
        catalog.store(),
        catalog.environment(),
        memory,
        rotated,
        &origin,
    )
    .await
    .map_err(IngestError::unavailable)
}

async fn commit(catalog: &Catalog, pending: &Pending) -> Result<(), IngestError> {
    let covered = snapshot::WalPosition {
        epoch: pending.covered.position.epoch,
        next_seq: pending.covered.position.seq,
    };
    let covered = Covered {
        wal: covered,
        order: pending.covered.order,
    };
    catalog
        .commit_flush(covered, &pending.segments)
        .await
        .map(drop)
        .map_err(catalog_error)
}

/// A flush while the log is replayed, when nothing else runs.
async fn flush_to(
    catalog: &Catalog,
    node: &str,
    buffer: &Buffer,
    registries: &Registries,
    state: &mut FlushState,
    covered: Applied,
) -> Result<(), IngestError> {
    let rotated = buffer.rotate();
    let position = covered.position;
    let segments = encode(catalog, node, registries.memory(), &rotated, position).await?;
    let pending = Pending {
        rotated,
        covered,
        segments,
    };
    commit(catalog, &pending).await?;
    buffer.release(&pending.rotated);
    registries.renew();
    state.covered = position;
    Ok(())
}

fn replay_failed(position: &WalPosition, error: IngestError) -> IngestError {
    match error {
        fenced @ IngestError::Fenced(_) => fenced,
        error => IngestError::Internal(format!(
            "an acknowledged request of the write-ahead log at {position} cannot be read again: \
             {error}"
        )),
    }
}

fn wal_error(error: WalError) -> IngestError {
    match error {
        WalError::Fenced { .. } => IngestError::Fenced(error.to_string()),
        WalError::TooLarge(_) => IngestError::TooLarge(error.to_string()),
        WalError::Overloaded { .. } | WalError::Unavailable { .. } | WalError::Closed => {
            IngestError::unavailable(error)
        }
    }
}

async fn flush_when_due(
    ingester: std::sync::Weak<Ingester>,
    full: Arc<Notify>,
    interval: Duration,
) {
    loop {
        let _ = tokio::time::timeout(interval, full.notified()).await;
        let Some(ingester) = ingester.upgrade() else {
            return;
        };
        while let Err(error) = ingester.flush().await {
            if matches!(error, IngestError::Fenced(_)) {
                return;
            }
            tracing::warn!(%error, "flush failed; rows stay buffered and in the log, trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Deletes what is covered and was still there at the start.
async fn sweep_log(ingester: std::sync::Weak<Ingester>, covered: WalPosition) {
    loop {
        let Some((store, node)) = ingester
            .upgrade()
            .map(|ingester| (ingester.catalog.store().clone(), ingester.node.clone()))
        else {
            return;
        };
        match Truncator::sweep(&store, &node, covered).await {
            Ok(0) => return,
            Ok(deleted) => {
                tracing::info!(
                    deleted,
                    "covered objects of the write-ahead log that an earlier process left were \
                     deleted"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "what an earlier process left of the write-ahead log could not be deleted yet")
            }
        }
        tokio::time::sleep(SWEEP_RETRY).await;
    }
}

async fn watch_for_fence(ingester: std::sync::Weak<Ingester>, interval: Option<Duration>) {
    let Some(mut news) = ingester
        .upgrade()
        .map(|ingester| ingester.catalog.subscribe())
    else {
        return;
    };
    loop {
        match interval {
            Some(interval) => tokio::time::sleep(interval).await,
            None if news.changed().await.is_err() => return,
            None => {}
        }
        let Some(ingester) = ingester.upgrade() else {
            return;
        };
        if interval.is_some() {
            // A store that is away says nothing about fences.
            let _ = ingester.catalog.refresh().await;
        }
        if ingester.catalog.is_fenced() {
            ingester.fence(&format!(
                "a newer process has registered as node {:?}",
                ingester.node
            ));
            return;
        }
    }
}

async fn watch_log(ingester: std::sync::Weak<Ingester>, mut state: watch::Receiver<WalState>) {
    while state.changed().await.is_ok() {
        let now = state.borrow_and_update().clone();
        let Some(ingester) = ingester.upgrade() else {
            return;
        };
        match now {
            WalState::Fenced { key } => ingester.fence(&format!(
                "another process took over this node's log: {key} holds its object"
            )),
            WalState::Unavailable { reason } => {
                let now_ms = ingester.catalog.environment().now_ms();
                ingester.log_away_since.lock().get_or_insert(now_ms);
                tracing::warn!(%reason, "the write-ahead log cannot be written; writes are answered 503 until it can")
            }
            WalState::Open => {
                *ingester.log_away_since.lock() = None;
                tracing::info!("the write-ahead log takes writes again");
            }
            WalState::Closed => return,
        }
    }
}

#[cfg(test)]
mod tests;
