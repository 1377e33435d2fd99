//! Reads a node's log after a position, and fences the epochs that it reads.
//!
//! An older process of this node may still be alive: paused, cut off, or just slow. Reading its log
//! to the end is only possible if there is an end. So in each older epoch, at the first number that
//! is missing, a *fence* is put, if absent: an object without frames. Whoever comes first has the
//! number. If the fence is there, the older process will be told "exists already", find a
//! stranger's object, and stop; it can acknowledge nothing more, because it acknowledges in order
//! and this number will never be its own. If the older process came first, its object is read and
//! the next number is tried.
//!
//! # What counts as acknowledged
//!
//! - Every object says how far its epoch was durable when it was composed
//!   (`durable_end`). What is missing, cut or fenced below that end was
//!   acknowledged and is lost, which is an error ([`ReplayError::Lost`]) that names both objects.
//!   No fence is put in its place.
//! - A gap from that end on ends an epoch. Objects after it were in flight beside the one that is
//!   missing; none of them was acknowledged, as acknowledgements are in order. They are reported
//!   and not replayed.
//! - An object that is damaged is an error, wherever it is: it may have been acknowledged, and what
//!   comes after it may overwrite it. The operator decides.
//! - An object that ends early, with nothing after it, is taken as never acknowledged, and
//!   reported. Stores give an object its name when all its bytes are durable, so it cannot be
//!   there; but a store that breaks this promise breaks it when it fails in the middle of a put,
//!   and then it has not answered. With something after it, it is more likely a durable object that
//!   was cut, and an error like any other damage. A fence is put behind it, which makes the
//!   decision final: the next replay finds "ends early, then a fence". The object stays, because it
//!   keeps its number taken.
//!
//! With [`ReplayOptions::accept_lost`] what is lost or damaged is logged, reported and passed over,
//! and everything that is there is replayed.
//!
//! The listing says which objects there are; it may lag. Nothing is taken as missing before a get
//! has said so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt, TryStreamExt};
use tidelake_catalog::keys;
use tidelake_catalog::store::{ObjectInfo, PutOutcome, Store, StoreError};

use super::clock::Clock;
use super::durable_end::{self, DurableEnd};
use super::frame::{self, DecodeError, Frame, ObjectHeader, ObjectKind, WriterId};
use super::{FIRST_SEQ, WalPosition};

/// How patient replaying is.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// How long one request is repeated while the store is not available, or does not find what it
    /// listed: S3 servers may list before they can read.
    pub patience: Duration,
    /// Pause between the tries of one request.
    pub retry_pause: Duration,
    /// Objects read ahead; each has at most the size of a group.
    pub read_ahead: usize,
    /// Whether to go on without objects that were acknowledged and are gone, cut or damaged. What
    /// they held is lost.
    pub accept_lost: bool,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(180),
            retry_pause: Duration::from_millis(250),
            read_ahead: 4,
            accept_lost: false,
        }
    }
}

/// Why the log cannot be replayed. The server must not serve without it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplayError {
    /// The store failed, and repeating did not help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object that may have been acknowledged cannot be read.
    #[error(
        "the write-ahead log object {key} cannot be read: {reason}; restore it, or start with \
         --accept-lost-wal to go on without what it held"
    )]
    Corrupt {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// An object is sound, but lies under the key of another.
    #[error("the write-ahead log object {key} was written as {found}; somebody moved or copied it")]
    Misplaced {
        /// The object.
        key: String,
        /// The position it says it has.
        found: WalPosition,
    },
    /// An object that was acknowledged is gone.
    #[error(
        "the write-ahead log object {key} {loss}, though it was acknowledged: {proof}; restore it, \
         or start with --accept-lost-wal to go on without what it held"
    )]
    Lost {
        /// The object.
        key: String,
        /// What became of it.
        loss: Loss,
        /// What shows that it was there.
        proof: DurableEnd,
    },
    /// A newer process of this node runs or ran: this one must exit.
    #[error("another process took over this node: {key} is there")]
    Superseded {
        /// Its object.
        key: String,
    },
}

/// What became of an object that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// There is no such object.
    #[error("is missing")]
    Missing,
    /// There is a fence in its place.
    #[error("is gone, with a fence in its place")]
    Fenced,
    /// Its end is missing.
    #[error("was cut ({0})")]
    Cut(DecodeError),
}

/// The frames of one object.
#[derive(Debug)]
pub struct ReplayedGroup {
    /// Where they are in the log.
    pub position: WalPosition,
    /// Who wrote them.
    pub writer: WriterId,
    /// When its first frame was written, in the order of all writes; 0 if it is not known.
    pub order: u64,
    /// The requests, in their order.
    pub frames: Vec<Frame>,
}

/// Where the objects of an older epoch lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochRange {
    /// Which epoch.
    pub epoch: u64,
    /// Its first object that was replayed.
    pub first: u64,
    /// After its last object that was replayed: its fence, or a torn object that its fence
    /// follows.
    pub end: u64,
}

/// What a replay found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Objects with frames.
    pub groups: u64,
    /// Frames in them.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Every older epoch that was read, all of them fenced.
    pub epochs: Vec<EpochRange>,
    /// Objects after a gap, never acknowledged, not replayed.
    pub orphans: Vec<String>,
    /// Objects that end early with nothing behind them, not replayed.
    pub torn: Vec<String>,
    /// Objects that were acknowledged and are gone, or are damaged, where that is accepted.
    pub lost: Vec<String>,
}

/// What is at a position.
enum Taken {
    Object(Bytes),
    /// Nothing was, and now there is our fence.
    Fenced,
    /// An object that was acknowledged is not there.
    Missing(DurableEnd),
}

/// A replay under way. Take groups with [`next`](Self::next) until there is none: only then
/// everything is read and all older epochs are fenced.
pub struct Replay {
    reader: Reader,
    writer: WriterId,
    new_epoch: u64,
    listed: BTreeSet<WalPosition>,
    at: WalPosition,
    range_first: u64,
    /// How far the epoch of `at` was durable, once it was asked for.
    durable_end: Option<Option<DurableEnd>>,
    /// Objects being read ahead, in order, beginning at `at` or later.
    ahead: FuturesOrdered<BoxFuture<'static, (WalPosition, Result<Bytes, StoreError>)>>,
    ahead_to: WalPosition,
    options: ReplayOptions,
    report: ReplayReport,
}

impl Replay {
    /// Begins to read the log of `node` at `covered`, before which everything is in segments, for
    /// the process `writer` that has just been registered with `new_epoch`.
    pub async fn open(
        store: Store,
        node: &str,
        covered: WalPosition,
        new_epoch: u64,
        writer: WriterId,
        options: ReplayOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ReplayError> {
        let reader = Reader {
            store,
            node: node.into(),
            clock,
            patience: options.patience,
            pause: options.retry_pause,
        };
        // No node has an epoch 0: it stands for "never yet".
        let at = covered.max(WalPosition {
            epoch: 1,
            seq: FIRST_SEQ,
        });
        let listed = reader.list_from(at).await?;
        // Whether it is a newer process or its fence in our own epoch: it was here.
        let of_others = listed
            .range(
                WalPosition {
                    epoch: new_epoch,
                    seq: FIRST_SEQ,
                }..,
            )
            .next();
        if let Some(&position) = of_others {
            return Err(ReplayError::Superseded {
                key: reader.key(position),
            });
        }
        if !listed.is_empty() {
            tracing::info!(
                node,
                from = %at,
                objects = listed.len(),
                "replaying the write-ahead log"
            );
        }
        Ok(Self {
            reader,
            writer,
            new_epoch,
            listed,
            at,
            range_first: at.seq,
            durable_end: None,
            ahead: FuturesOrdered::new(),
            ahead_to: at,
            options,
            report: ReplayReport::default(),
        })
    }

    /// What was found so far.
    pub fn report(&self) -> &ReplayReport {
        &self.report
    }

    /// The next group; `None` when everything is read and all older epochs are fenced. After an
    /// error the replay cannot go on.
    pub async fn next(&mut self) -> Result<Option<ReplayedGroup>, ReplayError> {
        while self.at.epoch < self.new_epoch {
            let position = self.at;
            let object = match self.take(position, position.seq).await? {
                Taken::Object(object) => object,
                Taken::Fenced => {
                    self.end_epoch(position.seq, position);
                    continue;
                }
                Taken::Missing(proof) => {
                    self.pass_over(position, Loss::Missing, proof).await?;
                    continue;
                }
            };
            match self.decode(position, &object) {
                Ok((header, frames)) => match header.kind {
                    ObjectKind::Fence => self.fence(position).await?,
                    ObjectKind::Mark => self.at = position.next(),
                    ObjectKind::Group => {
                        self.report.groups += 1;
                        self.report.frames += frames.len() as u64;
                        self.report.bytes += object.len() as u64;
                        self.at = position.next();
                        return Ok(Some(ReplayedGroup {
                            position,
                            writer: header.writer,
                            order: header.order,
                            frames,
                        }));
                    }
                },
                Err(ReplayError::Corrupt {
                    reason: reason @ DecodeError::Truncated { .. },
                    key,
                }) => self.end_torn(position, key, reason).await?,
                Err(error @ ReplayError::Corrupt { .. }) => self.pass_over_damaged(error)?,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The object at `position`. If there is none and there need not be, our fence is put there,
    /// which says `durable_end` of the objects before it.
    async fn take(
        &mut self,
        position: WalPosition,
        durable_end: u64,
    ) -> Result<Taken, ReplayError> {
        if self.listed.contains(&position) {
            self.read_ahead();
            while let Some((found, object)) = self.ahead.next().await {
                if found == position {
                    return self
                        .reader
                        .found(object, self.new_epoch)
                        .await
                        .map(Taken::Object);
                }
            }
            let object = self.reader.get(position).await;
            return self
                .reader
                .found(object, self.new_epoch)
                .await
                .map(Taken::Object);
        }
        // Before anything is put in its place; and a listing may be older than the object.
        if self.is_followed(position) {
            if let Some(object) = self.reader.get_if_there(position).await? {
                return Ok(Taken::Object(object));
            }
            if let Some(proof) = self.proof_of(position).await? {
                return Ok(Taken::Missing(proof));
            }
        }
        let header = ObjectHeader {
            kind: ObjectKind::Fence,
            writer: self.writer,
            epoch: position.epoch,
            seq: position.seq,
            durable_end,
            order: 0,
        };
        match self
            .reader
            .put(position, frame::encode_empty(&header))
            .await?
        {
            PutOutcome::Created => Ok(Taken::Fenced),
            // A last group of the older process, or our own fence whose answer got lost.
            PutOutcome::AlreadyExists => Ok(Taken::Object(self.reader.get(position).await?)),
        }
    }

    /// Whether an object of the same epoch is listed behind `position`.
    fn is_followed(&self, position: WalPosition) -> bool {
        let end = WalPosition {
            epoch: position.epoch.saturating_add(1),
            seq: FIRST_SEQ,
        };
        self.listed.range(position.next()..end).next().is_some()
    }

    /// What shows that the object at `position`, in the epoch of `at`, was once durable.
    async fn proof_of(&mut self, position: WalPosition) -> Result<Option<DurableEnd>, ReplayError> {
        if self.durable_end.is_none() {
            let mut furthest = None;
            for witness in durable_end::witnesses(&self.listed, position.epoch) {
                let object = self.reader.get(witness).await;
                let object = self.reader.found(object, self.new_epoch).await?;
                durable_end::extend(&mut furthest, self.reader.key(witness), witness, &object);
            }
            self.durable_end = Some(furthest);
        }
        Ok(self
            .durable_end
            .iter()
            .flatten()
            .find(|furthest| furthest.end > position)
            .cloned())
    }

    /// Goes on behind an object that is lost, if that is accepted.
    async fn pass_over(
        &mut self,
        position: WalPosition,
        loss: Loss,
        proof: DurableEnd,
    ) -> Result<(), ReplayError> {
        // A newer process deletes what it has flushed, after it has put its fence into our epoch.
        let own = WalPosition {
            epoch: self.new_epoch,
            seq: FIRST_SEQ,
        };
        if self.reader.get_if_there(own).await?.is_some() {
            let key = self.reader.key(own);
            return Err(ReplayError::Superseded { key });
        }
        let key = self.reader.key(position);
        if !self.options.accept_lost {
            return Err(ReplayError::Lost { key, loss, proof });
        }
        tracing::error!(
            %key,
            %loss,
            %proof,
            "an acknowledged object of the write-ahead log is lost, and so is what it held; \
             going on without it, as accept_lost_wal is set"
        );
        self.skip(position, key);
        Ok(())
    }

    /// Goes on behind the object at `at`, which cannot be read, if that is accepted.
    fn pass_over_damaged(&mut self, error: ReplayError) -> Result<(), ReplayError> {
        match error {
            // A newer program can read what this one cannot.
            ReplayError::Corrupt { key, reason }
                if self.options.accept_lost && !matches!(reason, DecodeError::Version(_)) =>
            {
                tracing::error!(
                    %key,
                    %reason,
                    "an object of the write-ahead log cannot be read, and what it held is lost; \
                     going on without it, as accept_lost_wal is set"
                );
                self.skip(self.at, key);
                Ok(())
            }
            error => Err(error),
        }
    }

    fn skip(&mut self, lost: WalPosition, key: String) {
        self.report.lost.push(key);
        self.at = lost.next();
        // What was read ahead may have been taken out of its order.
        self.ahead = FuturesOrdered::new();
        self.ahead_to = self.at;
    }

    /// Ends an epoch at its fence, unless that stands in the place of something else.
    async fn fence(&mut self, position: WalPosition) -> Result<(), ReplayError> {
        if self.is_followed(position)
            && let Some(proof) = self.proof_of(position).await?
        {
            return self.pass_over(position, Loss::Fenced, proof).await;
        }
        self.end_epoch(position.seq, position);
        Ok(())
    }

    /// Keeps the next listed objects coming.
    fn read_ahead(&mut self) {
        self.ahead_to = self.ahead_to.max(self.at);
        while self.ahead.len() < self.options.read_ahead.max(1)
            && self.listed.contains(&self.ahead_to)
        {
            let (position, reader) = (self.ahead_to, self.reader.clone());
            self.ahead.push_back(Box::pin(
                async move { (position, reader.get(position).await) },
            ));
            self.ahead_to = position.next();
        }
    }

    fn decode(
        &self,
        position: WalPosition,
        object: &Bytes,
    ) -> Result<(ObjectHeader, Vec<Frame>), ReplayError> {
        let key = || self.reader.key(position);
        let (header, frames) =
            frame::decode(object).map_err(|reason| ReplayError::Corrupt { key: key(), reason })?;
        let found = WalPosition {
            epoch: header.epoch,
            seq: header.seq,
        };
        if found != position {
            return Err(ReplayError::Misplaced { key: key(), found });
        }
        Ok((header, frames))
    }

    /// Ends an epoch at an object that ends early, if nothing but a fence is behind it.
    async fn end_torn(
        &mut self,
        position: WalPosition,
        key: String,
        reason: DecodeError,
    ) -> Result<(), ReplayError> {
        let behind = position.next();
        if self.is_followed(position) {
            if let Some(proof) = self.proof_of(position).await? {
                return self.pass_over(position, Loss::Cut(reason), proof).await;
            }
            // What lies behind a fence does not matter; whether the next object is one has to be
            // read.
            if !self.listed.contains(&behind) {
                return self.pass_over_damaged(ReplayError::Corrupt { key, reason });
            }
        }
        let is_end = match self.take(behind, position.seq).await? {
            Taken::Fenced => true,
            Taken::Object(object) => match self.decode(behind, &object) {
                Ok((header, _)) => header.kind == ObjectKind::Fence,
                Err(_) => false,
            },
            Taken::Missing(_) => false,
        };
        if !is_end {
            return self.pass_over_damaged(ReplayError::Corrupt { key, reason });
        }
        tracing::error!(
            %key,
            %reason,
            "the last object of an epoch of the write-ahead log ends early; taken as never \
             acknowledged"
        );
        self.report.torn.push(key);
        self.end_epoch(position.seq, behind);
        Ok(())
    }

    /// Goes on to the next epoch; this one has its fence at `fence`.
    fn end_epoch(&mut self, end: u64, fence: WalPosition) {
        let next = WalPosition {
            epoch: fence.epoch.saturating_add(1),
            seq: FIRST_SEQ,
        };
        for &orphan in self.listed.range(fence.next()..next) {
            let key = self.reader.key(orphan);
            tracing::warn!(
                %key,
                "an object of the write-ahead log lies after a gap; it was never acknowledged \
                 and is not replayed"
            );
            self.report.orphans.push(key);
        }
        self.report.epochs.push(EpochRange {
            epoch: fence.epoch,
            first: self.range_first,
            end,
        });
        self.at = next;
        self.durable_end = None;
        self.range_first = FIRST_SEQ;
        // Orphans may have been read ahead.
        self.ahead = FuturesOrdered::new();
        self.ahead_to = next;
    }
}

/// Requests that are repeated until they work or patience ends.
#[derive(Clone)]
struct Reader {
    store: Store,
    node: Arc<str>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    pause: Duration,
}

impl Reader {
    fn key(&self, position: WalPosition) -> String {
        keys::wal_object(&self.node, position.epoch, position.seq)
    }

    async fn get(&self, position: WalPosition) -> Result<Bytes, StoreError> {
        let key = self.key(position);
        let mut patience = self.patience();
        loop {
            match self.store.get(&key).await {
                Ok(object) => return Ok(object),
                Err(error) => patience.wait_after(error).await?,
            }
        }
    }

    /// What was read at a place where an object was listed. If it is gone, a newer process may have
    /// replayed the log and deleted what it has flushed since; before that it has put its fence
    /// into our epoch.
    async fn found<T>(
        &self,
        object: Result<T, StoreError>,
        own_epoch: u64,
    ) -> Result<T, ReplayError> {
        if matches!(object, Err(StoreError::NotFound { .. })) {
            let own = WalPosition {
                epoch: own_epoch,
                seq: FIRST_SEQ,
            };
            if let Some(&newer) = self.list_from(own).await?.first() {
                return Err(ReplayError::Superseded {
                    key: self.key(newer),
                });
            }
        }
        Ok(object?)
    }

    async fn get_if_there(&self, position: WalPosition) -> Result<Option<Bytes>, StoreError> {
        let key = self.key(position);
        let mut patience = self.patience();
        loop {
            match self.store.get(&key).await {
                Ok(object) => return Ok(Some(object)),
                Err(StoreError::NotFound { .. }) => return Ok(None),
                Err(error) => patience.wait_after(error).await?,
            }
        }
    }

    /// Repeated with the same bytes; an earlier try that arrived makes it `AlreadyExists`.
    async fn put(&self, position: WalPosition, object: Bytes) -> Result<PutOutcome, StoreError> {
        let key = self.key(position);
        let mut patience = self.patience();
        loop {
            match self.store.put_if_absent(&key, object.clone()).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => patience.wait_after(error).await?,
            }
        }
    }

    async fn list_from(&self, from: WalPosition) -> Result<BTreeSet<WalPosition>, StoreError> {
        let folder = keys::wal_node(&self.node);
        let after = match from.seq.checked_sub(1) {
            Some(before) => keys::wal_object(&self.node, from.epoch, before),
            // A folder comes before what is in it.
            None => keys::wal_epoch(&self.node, from.epoch),
        };
        let mut patience = self.patience();
        let infos: Vec<ObjectInfo> = loop {
            match self.store.list_from(&folder, &after).try_collect().await {
                Ok(infos) => break infos,
                Err(error) => patience.wait_after(error).await?,
            }
        };
        let mut listed = BTreeSet::new();
        for info in infos {
            match keys::parse_wal_object(&self.node, &info.key) {
                Some((epoch, seq)) => {
                    listed.insert(WalPosition { epoch, seq });
                }
                None => tracing::warn!(
                    key = info.key,
                    "not an object of the write-ahead log; ignored"
                ),
            }
        }
        Ok(listed.split_off(&from))
    }

    fn patience(&self) -> Patience<'_> {
        Patience {
            reader: self,
            began: self.clock.now(),
            warned: false,
        }
    }
}

/// The patience that is left for one request.
struct Patience<'a> {
    reader: &'a Reader,
    began: Duration,
    warned: bool,
}

impl Patience<'_> {
    /// Waits before the next try, or gives the error back if there is to be none.
    async fn wait_after(&mut self, error: StoreError) -> Result<(), StoreError> {
        let clock = &self.reader.clock;
        // "Not found" is for listed objects only, and the store will find them in time.
        let hopeless = !error.is_transient() && !matches!(error, StoreError::NotFound { .. });
        if hopeless || clock.now().saturating_sub(self.began) >= self.reader.patience {
            return Err(error);
        }
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                %error,
                "the store does not answer yet; trying again for {:?}",
                self.reader.patience
            );
        }
        clock.sleep(self.reader.pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
