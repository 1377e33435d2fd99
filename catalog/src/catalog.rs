//! The catalog of a running process: its snapshot, and the operations that change it.
//!
//! An operation is a function from the present snapshot to the changes that it wants. They become a
//! record, the record is checked on the snapshot and appended to the log. Who loses the race for
//! the next sequence reads what the winner wrote and runs the function again on the new snapshot.
//!
//! In one process commits go one after the other, by a lock that is held while the record is
//! written. This is the one lock over I/O, by design: without it the commits of one process would
//! race each other on the store, and each lost race is two more requests. Readers never take it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::apply::{Refusal, apply, newest_epoch};
use crate::checkpoint;
use crate::environment::Environment;
use crate::keys;
use crate::log::{Appended, Log};
use crate::model::{ColumnType, TableKind};
use crate::record::convert;
use crate::record::{
    AdvanceWal, Change, CreateDatabase, ForgetSegments, Kind, Record, RegisterNode, Removed,
    SetMetadata,
};
use crate::snapshot::{
    MetricMetadata, Node, Registration, SegmentId, SegmentMeta, SegmentRef, Snapshot, WalPosition,
    knows,
};
use crate::store::{Store, StoreError};

mod changes;
mod names;
#[cfg(test)]
mod refreshes;
mod removal;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod time_travel;
mod tokens;

use changes::{missing_columns, segment_changes};
pub use names::NameLimits;
pub use time_travel::AsOf;
pub use tokens::NewToken;

/// Races for a sequence that one commit may lose. Each lost one is a commit of somebody else.
const MAX_RACES: u32 = 1000;

/// How long a record that must be there is looked for, before it counts as lost.
const MISSING_PATIENCE: Duration = Duration::from_secs(5);

/// Why the catalog did not do as asked, by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogError {
    /// A newer process has registered as this node: stop, and touch nothing more.
    #[error(
        "node {node:?} with epoch {epoch} is fenced: a newer process has registered as epoch \
         {newest}; this one must stop"
    )]
    Fenced {
        /// The node.
        node: String,
        /// The epoch of this process.
        epoch: u64,
        /// The newest epoch.
        newest: u64,
    },
    /// What was asked is not possible: repeating will not help.
    #[error(transparent)]
    Refused(Refusal),
    /// No state of the past that can be read: too long ago, or not yet.
    #[error("{0}")]
    NoSuchState(String),
    /// Another process knows of a commit that is not there.
    #[error(
        "another process knows commit {sequence}, and this store ends at {found}: it works on \
         another store, perhaps the one that this is a copy of"
    )]
    OtherStore {
        /// The last commit of this store.
        found: u64,
        /// The one of which it tells.
        sequence: u64,
    },
    /// This process only reads: it has not registered as a node, or has left.
    #[error("this process is no node of the store, or has left, so it can only read the catalog")]
    NotRegistered,
    /// The store: its kinds say what to do. After `Unavailable` the commit may be in the log all
    /// the same; asking again for the same finds out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for CatalogError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fenced {
                node,
                epoch,
                newest,
            } => Self::Fenced {
                node,
                epoch,
                newest,
            },
            refusal => Self::Refused(refusal),
        }
    }
}

/// How a catalog behaves; the defaults are right for all but tests.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// Commits between two checkpoints.
    pub checkpoint_every: u64,
    /// How long to wait for a store that is not up when the process starts.
    pub load_timeout: Duration,
    /// Time before an append is tried a second time.
    pub retry_delay: Duration,
    /// Clock, random numbers and threads, also for all that works on this catalog.
    pub environment: Environment,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self {
            checkpoint_every: 100,
            load_timeout: Duration::from_secs(300),
            retry_delay: Duration::from_millis(50),
            environment: Environment::system(),
        }
    }
}

/// The table and the columns that a write needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumns {
    /// Table.
    pub table: String,
    /// What it is for.
    pub kind: TableKind,
    /// Columns that must be there, with their types; a table may have more.
    pub columns: Vec<(String, ColumnType)>,
}

/// How far a node's log is in segments with a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Covered {
    /// Everything before it is.
    pub wal: WalPosition,
    /// So are all rows up to this write order.
    pub order: u64,
}

impl From<WalPosition> for Covered {
    fn from(wal: WalPosition) -> Self {
        Self { wal, order: 0 }
    }
}

/// Tells other processes of commits that they must know before whoever asked for them is answered.
pub trait Announcer: std::fmt::Debug + Send + Sync {
    /// Has them know a commit. What is not urgent may be left to those that do not answer at once.
    fn announce(&self, sequence: u64, is_urgent: bool) -> BoxFuture<'static, ()>;
}

/// Numbers of calls of [`Catalog::refresh`] that asked the store.
#[derive(Debug, Default)]
struct Refreshes {
    /// How many have begun.
    begun: AtomicU64,
    /// The last one that has ended well.
    done: AtomicU64,
}

/// Whoever reads segments in this process, and gets ready for new ones.
pub trait Readers: std::fmt::Debug + Send + Sync {
    /// Gets ready for segments whose files are there, and which a commit is about to add.
    fn prepare(&self, added: &[SegmentMeta]) -> BoxFuture<'static, ()>;
}

/// Whether others must know of changes at once, and if so whether it is urgent: nothing may be done
/// any more on what was before.
fn urgency(changes: &[Kind]) -> Option<bool> {
    let of_change = |change: &Kind| match change {
        Kind::RegisterNode(_)
        | Kind::AdvanceWal(_)
        | Kind::ChangeSegments(_)
        | Kind::ForgetSegments(_)
        | Kind::ForgetTombstones(_)
        | Kind::UseTokens(_) => None,
        Kind::CreateTable(_) | Kind::AddColumns(_) | Kind::SetMetadata(_) => Some(false),
        Kind::CreateDatabase(_)
        | Kind::SetRetention(_)
        | Kind::DropTable(_)
        | Kind::DropDatabase(_)
        | Kind::AddTombstones(_)
        | Kind::CreateToken(_)
        | Kind::RevokeToken(_)
        | Kind::SetLimits(_)
        | Kind::SetPolicies(_) => Some(true),
    };
    changes.iter().filter_map(of_change).max()
}

/// Who this process is.
#[derive(Debug, Clone)]
struct Identity {
    node: String,
    epoch: u64,
}

/// The catalog of a running process.
#[derive(Debug)]
pub struct Catalog {
    store: Store,
    log: Log,
    options: CatalogOptions,
    identity: RwLock<Option<Identity>>,
    current: watch::Sender<Arc<Snapshot>>,
    /// Held while a record is appended or the log is followed.
    writing: Mutex<()>,
    /// Segments of this process's own records that were read from the log: their appends ended in
    /// an error, and took effect. Whoever asks for them again is done, even if they have been
    /// merged meanwhile.
    landed: parking_lot::Mutex<HashSet<SegmentId>>,
    /// States of the past that were asked for last.
    past: time_travel::Past,
    /// How many names this process adds.
    limits: RwLock<NameLimits>,
    announcer: OnceLock<Weak<dyn Announcer>>,
    readers: OnceLock<Box<dyn Readers>>,
    refreshes: Refreshes,
}

/// What an operation wants to commit.
struct Draft {
    node: String,
    epoch: u64,
    changes: Vec<Kind>,
}

impl Catalog {
    /// Loads the catalog and registers this process as a node, which fences every older process of
    /// it.
    pub async fn open(
        store: Store,
        node: &str,
        registration: impl Into<Registration>,
    ) -> Result<Self, CatalogError> {
        let catalog = Self::load(store, CatalogOptions::default()).await?;
        catalog.register(node, registration).await?;
        Ok(catalog)
    }

    /// Loads the catalog to read it. While the store does not answer this tries again, for minutes.
    pub async fn load(store: Store, options: CatalogOptions) -> Result<Self, CatalogError> {
        let log = Log::new(store.clone(), options.retry_delay);
        let started = Instant::now();
        let mut delay = options.retry_delay;
        let (snapshot, replayed) = loop {
            let error = match Self::load_once(&store, &log).await {
                Ok(loaded) => break loaded,
                Err(error) => error,
            };
            let advice = match &error {
                CatalogError::Store(error) => error.advice(),
                _ => None,
            };
            let patience = match &error {
                // A store that has just come up may refuse what it takes soon.
                CatalogError::Store(_) if advice.is_some() => {
                    options.load_timeout.min(MISSING_PATIENCE)
                }
                CatalogError::Store(error) if error.is_transient() => options.load_timeout,
                // A store that has just come up may not show everything at once.
                CatalogError::Store(StoreError::Missing { .. }) => {
                    options.load_timeout.min(MISSING_PATIENCE)
                }
                _ => return Err(error),
            };
            if started.elapsed() + delay >= patience {
                return Err(match (error, advice) {
                    (CatalogError::Store(error), Some(advice)) => error.with_advice(advice).into(),
                    (error, _) => error,
                });
            }
            tracing::warn!(
                %error,
                %store,
                waited_s = started.elapsed().as_secs(),
                "the catalog cannot be loaded yet; trying again"
            );
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(2));
        };
        tracing::info!(sequence = snapshot.sequence, replayed, %store, "catalog loaded");
        let catalog = Self {
            store,
            log,
            identity: RwLock::new(None),
            current: watch::Sender::new(Arc::new(snapshot)),
            writing: Mutex::new(()),
            landed: parking_lot::Mutex::default(),
            past: time_travel::Past::default(),
            limits: RwLock::default(),
            announcer: OnceLock::new(),
            readers: OnceLock::new(),
            refreshes: Refreshes::default(),
            options,
        };
        if replayed >= catalog.options.checkpoint_every {
            catalog.write_checkpoint(catalog.snapshot());
        }
        Ok(catalog)
    }

    async fn load_once(store: &Store, log: &Log) -> Result<(Snapshot, u64), CatalogError> {
        let (mut snapshot, newest) = checkpoint::load(store, |_| true).await?;
        let loaded = snapshot.sequence;
        log.replay(loaded, newest, |record| {
            snapshot = follow(&snapshot, &record)?;
            Ok::<_, CatalogError>(())
        })
        .await?;
        let replayed = snapshot.sequence - loaded;
        Ok((snapshot, replayed))
    }

    /// Registers this process as a node with its next epoch, which is returned. From now on every
    /// older process of the node is fenced.
    pub async fn register(
        &self,
        node: &str,
        registration: impl Into<Registration>,
    ) -> Result<u64, CatalogError> {
        let registration = registration.into();
        let epoch = self.register_if(node, &registration, |_| true).await?;
        // Its condition always holds.
        Ok(epoch.unwrap_or_default())
    }

    /// The same if the node is in a state that passes, looked at in the very commit.
    pub async fn register_if(
        &self,
        node: &str,
        registration: &Registration,
        passes: impl Fn(Option<&Node>) -> bool + Send + Sync,
    ) -> Result<Option<u64>, CatalogError> {
        let process = self.options.environment.uuid();
        let mut epoch = None;
        self.commit(|snapshot| {
            epoch = passes(snapshot.node(node).map(Arc::as_ref))
                .then(|| newest_epoch(snapshot, node).saturating_add(1));
            let change = RegisterNode {
                address: registration.address.clone(),
                process: process.as_bytes().to_vec(),
                roles: registration.roles.number(),
                knows: knows::ALL,
                has_left: false,
            };
            Ok(epoch.map(|epoch| Draft {
                node: node.to_owned(),
                epoch,
                changes: vec![Kind::RegisterNode(change)],
            }))
        })
        .await?;
        let Some(epoch) = epoch else {
            return Ok(None);
        };
        *self.identity.write() = Some(Identity {
            node: node.to_owned(),
            epoch,
        });
        tracing::info!(node, epoch, roles = %registration.roles, "registered");
        Ok(Some(epoch))
    }

    /// Commits that this process's node is gone and nothing of its log is left. Nothing can be
    /// committed as the node afterwards.
    pub async fn leave(&self) -> Result<(), CatalogError> {
        let Some(Identity { node, epoch }) = self.identity.read().clone() else {
            return Err(CatalogError::NotRegistered);
        };
        self.commit(|snapshot| {
            let newest = newest_epoch(snapshot, &node);
            let own = snapshot.node(&node).filter(|_| newest == epoch);
            let Some(own) = own else {
                let node = node.clone();
                return Err(Refusal::Fenced {
                    node,
                    epoch,
                    newest,
                });
            };
            let change = RegisterNode {
                address: own.address.to_string(),
                process: own.process.as_bytes().to_vec(),
                roles: own.roles.number(),
                knows: own.knows,
                has_left: true,
            };
            Ok(Some(Draft {
                node: node.clone(),
                epoch: epoch.saturating_add(1),
                changes: vec![Kind::RegisterNode(change)],
            }))
        })
        .await?;
        *self.identity.write() = None;
        tracing::info!(node, epoch, "left");
        Ok(())
    }

    /// The state as far as this process knows. Never waits.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.borrow().clone()
    }

    /// Sees every new snapshot (the newest, if several come at once).
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }

    /// Clock, random numbers and threads of this process.
    pub fn environment(&self) -> &Environment {
        &self.options.environment
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The node's name and epoch, once registered.
    pub fn node(&self) -> Option<(String, u64)> {
        self.identity
            .read()
            .as_ref()
            .map(|identity| (identity.node.clone(), identity.epoch))
    }

    /// Whether the present snapshot has a newer process of this node. Only
    /// [`refresh`](Self::refresh) finds news.
    pub fn is_fenced(&self) -> bool {
        self.check_fence().is_err()
    }

    /// Fails if the present snapshot has a newer process of this node. New ingesters do not wait any
    /// more until this process knows them, so that it may miss what they acknowledge.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`]
    pub fn check_fence(&self) -> Result<(), CatalogError> {
        let identity = self.identity.read();
        let Some(Identity { node, epoch, .. }) = identity.as_ref() else {
            return Ok(());
        };
        match newest_epoch(&self.snapshot(), node) {
            newest if newest == *epoch => Ok(()),
            newest => Err(CatalogError::Fenced {
                node: node.to_string(),
                epoch: *epoch,
                newest,
            }),
        }
    }

    /// Applies what others have committed; one request if there is nothing new, however many ask at
    /// a time.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, CatalogError> {
        let begun_before = self.refreshes.begun.load(Ordering::SeqCst);
        let _writing = self.writing.lock().await;
        // Somebody may have begun and ended one meanwhile.
        if self.refreshes.done.load(Ordering::SeqCst) <= begun_before {
            let own = self.refreshes.begun.fetch_add(1, Ordering::SeqCst) + 1;
            self.catch_up().await?;
            self.refreshes.done.store(own, Ordering::SeqCst);
        }
        Ok(self.snapshot())
    }

    /// From now on others are told of what they must know. Once.
    pub fn announce_by(&self, announcer: Weak<dyn Announcer>) {
        let _ = self.announcer.set(announcer);
    }

    /// From now on commits wait until readers are ready for the segments that they add. Once.
    pub fn prepare_by(&self, readers: Box<dyn Readers>) {
        let _ = self.readers.set(readers);
    }

    async fn prepare(&self, added: &[SegmentMeta]) {
        if let Some(readers) = self.readers.get() {
            readers.prepare(added).await;
        }
    }

    /// From now on this process creates no database, table or column beyond these limits. What is
    /// there already stays.
    pub fn limit_names(&self, limits: NameLimits) {
        *self.limits.write() = limits;
    }

    /// The limits of [`limit_names`](Self::limit_names); none before.
    pub fn name_limits(&self) -> NameLimits {
        *self.limits.read()
    }

    /// Creates a database, if it is not there. Refused beyond the limit of databases.
    pub async fn create_database(&self, database: &str) -> Result<Arc<Snapshot>, CatalogError> {
        let limits = self.name_limits();
        self.commit_as_node(|snapshot| {
            if snapshot.database(database).is_some() {
                return Ok(Vec::new());
            }
            limits.check_database(snapshot, database)?;
            Ok(vec![Kind::CreateDatabase(CreateDatabase {
                name: database.to_owned(),
            })])
        })
        .await
    }

    /// Makes sure that a database has these tables with these columns: what is missing is created,
    /// all in one commit. Refused, with nothing created, if a table is of another kind or a
    /// column of another type, or beyond the limits of names.
    pub async fn ensure_columns(
        &self,
        database: &str,
        tables: &[TableColumns],
    ) -> Result<Arc<Snapshot>, CatalogError> {
        let limits = self.name_limits();
        self.commit_as_node(|snapshot| missing_columns(snapshot, database, tables, &limits))
            .await
    }

    /// Stores what is known of metric families. What is known already makes no commit. New families
    /// beyond the limit of names are left out.
    pub async fn set_metadata(
        &self,
        database: &str,
        metadata: &BTreeMap<String, MetricMetadata>,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        let limits = self.name_limits();
        self.commit_as_node(|snapshot| {
            let known = snapshot
                .database(database)
                .map(|database| &database.metadata);
            let mut left = limits.families_left(snapshot, database);
            let news = metadata.iter().filter(|(metric, metadata)| {
                match known.and_then(|known| known.get(metric.as_str())) {
                    Some(known) => known != *metadata,
                    None => {
                        let fits = left > 0;
                        left = left.saturating_sub(1);
                        fits
                    }
                }
            });
            let news: Vec<_> = news
                .map(|(metric, metadata)| convert::metadata_message(metric, metadata))
                .collect();
            if news.is_empty() {
                return Ok(Vec::new());
            }
            Ok(vec![Kind::SetMetadata(SetMetadata {
                database: database.to_owned(),
                metadata: news,
            })])
        })
        .await
    }

    /// Commits a flush: its segments are there, and the node's write-ahead log is in segments up to
    /// `wal`, both or neither. All files must be durable before. Their write order is the
    /// sequence of this commit. Segments of a table that was dropped since are left out: their
    /// rows count as dropped with it.
    ///
    /// After an error of the store the same flush can be asked for again: it is never applied
    /// twice.
    pub async fn commit_flush(
        &self,
        covered: impl Into<Covered>,
        segments: &[SegmentMeta],
    ) -> Result<Arc<Snapshot>, CatalogError> {
        let Covered { wal, order } = covered.into();
        self.prepare(segments).await;
        self.commit_as_node(|snapshot| {
            let has_table = |s: &&SegmentMeta| {
                snapshot
                    .table(&s.database, &s.table)
                    .is_some_and(|table| table.id == s.table_id)
            };
            let mut segments: Vec<SegmentMeta> =
                segments.iter().filter(has_table).cloned().collect();
            let has_clock_orders = snapshot.all_know(knows::CLOCK_ORDER);
            for segment in &mut segments {
                if has_clock_orders && segment.order != (0, 0) {
                    // No delete before this commit concerns it.
                    segment.deletes_applied = snapshot.sequence.saturating_add(1);
                } else {
                    segment.order = (0, 0);
                }
            }
            let mut changes = Vec::new();
            if !self.is_committed(snapshot, &segments) {
                changes.extend(segment_changes(&[], &segments));
            }
            let node = self
                .identity
                .read()
                .as_ref()
                .and_then(|identity| snapshot.node(&identity.node).cloned());
            let (position, last) = node.map_or_else(Default::default, |n| (Some(n.wal), n.order));
            let done = changes.is_empty() && position >= Some(wal) && last >= order;
            if !done && (position != Some(wal) || last < order) {
                changes.push(Kind::AdvanceWal(AdvanceWal {
                    epoch: wal.epoch,
                    next_seq: wal.next_seq,
                    order,
                }));
            }
            Ok(changes)
        })
        .await
    }

    /// Commits a merge: `added` replace `removed`, all or none. Refused with
    /// [`Refusal::SegmentGone`] if one of `removed` is not there any more. The files of
    /// `removed` stay: older snapshots name them.
    ///
    /// After an error of the store the same merge can be asked for again: it is never applied
    /// twice.
    pub async fn commit_compaction(
        &self,
        removed: &[SegmentRef],
        added: &[SegmentMeta],
    ) -> Result<Arc<Snapshot>, CatalogError> {
        self.prepare(added).await;
        self.commit_as_node(|snapshot| {
            let done = !added.is_empty() && self.is_committed(snapshot, added);
            Ok(if done {
                Vec::new()
            } else {
                segment_changes(removed, added)
            })
        })
        .await
    }

    /// Commits that the files of these segments, which went earlier, are deleted. Those that are
    /// forgotten already are left out.
    pub async fn commit_forget(
        &self,
        deleted: &[SegmentRef],
    ) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|snapshot| {
            let mut tables = BTreeMap::<(&str, &str), Vec<Removed>>::new();
            for segment in deleted
                .iter()
                .filter(|segment| snapshot.retired.contains_key(&segment.id))
            {
                tables
                    .entry((&segment.database, &segment.table))
                    .or_default()
                    .push(convert::removed_message(segment));
            }
            let change = |((database, table), segments): ((&str, &str), _)| {
                Kind::ForgetSegments(ForgetSegments {
                    database: database.to_owned(),
                    table: table.to_owned(),
                    segments,
                })
            };
            Ok(tables.into_iter().map(change).collect())
        })
        .await
    }

    /// Whether segments that this process wanted to add are in the catalog, or were; asks the store
    /// for the latest commits.
    pub async fn was_committed(&self, segments: &[SegmentMeta]) -> Result<bool, CatalogError> {
        let snapshot = self.refresh().await?;
        Ok(self.is_committed(&snapshot, segments))
    }

    /// Whether an earlier try of the commit that adds these took effect. One commit adds all of
    /// them or none.
    fn is_committed(&self, snapshot: &Snapshot, added: &[SegmentMeta]) -> bool {
        let landed = self.landed.lock();
        added.iter().all(|segment| {
            landed.contains(&segment.id) || snapshot.segment(&segment.reference()).is_some()
        })
    }

    async fn commit_as_node(
        &self,
        mut changes: impl FnMut(&Snapshot) -> Result<Vec<Kind>, Refusal> + Send,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        let Some(Identity { node, epoch }) = self.identity.read().clone() else {
            return Err(CatalogError::NotRegistered);
        };
        let mut committed = None;
        let snapshot = self
            .commit(|snapshot| {
                let newest = newest_epoch(snapshot, &node);
                if newest != epoch {
                    return Err(Refusal::Fenced {
                        node: node.clone(),
                        epoch,
                        newest,
                    });
                }
                let changes = changes(snapshot)?;
                committed = urgency(&changes);
                Ok((!changes.is_empty()).then(|| Draft {
                    node: node.clone(),
                    epoch,
                    changes,
                }))
            })
            .await?;
        if let Some(is_urgent) = committed
            && let Some(announcer) = self.announcer.get().and_then(Weak::upgrade)
        {
            announcer.announce(snapshot.sequence, is_urgent).await;
        }
        Ok(snapshot)
    }

    /// Commits what `draft` makes of the present snapshot; nothing if it makes nothing. Returns the
    /// snapshot in which it holds.
    async fn commit(
        &self,
        mut draft: impl FnMut(&Snapshot) -> Result<Option<Draft>, Refusal> + Send,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        let _writing = self.writing.lock().await;
        let mut is_fresh = false;
        for _ in 0..MAX_RACES {
            let snapshot = self.snapshot();
            let drafted = draft(&snapshot).and_then(|draft| {
                let record = draft.map(|draft| {
                    draft.into_record(
                        snapshot.sequence.saturating_add(1),
                        &self.options.environment,
                    )
                });
                record
                    .map(|record| apply(&snapshot, &record).map(|next| (record, next)))
                    .transpose()
            });
            let (record, next) = match drafted {
                Ok(Some(drafted)) => drafted,
                Ok(None) => return Ok(snapshot),
                Err(refusal) if is_fresh => return Err(refusal.into()),
                // Others may have committed what it lacks.
                Err(_) => {
                    self.catch_up().await?;
                    is_fresh = true;
                    continue;
                }
            };
            match self.log.append(&record).await? {
                Appended::Ours => {
                    let next = Arc::new(next);
                    self.current.send_replace(Arc::clone(&next));
                    if next.sequence % self.options.checkpoint_every == 0 {
                        self.write_checkpoint(Arc::clone(&next));
                    }
                    return Ok(next);
                }
                Appended::Theirs(theirs) => {
                    self.publish(&theirs)?;
                    self.catch_up().await?;
                    is_fresh = true;
                }
            }
        }
        let (key, reason) = (
            keys::LOG.to_owned(),
            format!("the commit lost {MAX_RACES} races against other writers"),
        );
        Err(StoreError::Unavailable { key, reason }.into())
    }

    /// Applies all records after the present snapshot. The lock must be held.
    async fn catch_up(&self) -> Result<(), CatalogError> {
        loop {
            let sequence = self.current.borrow().sequence.saturating_add(1);
            match self.log.read(sequence).await? {
                Some(record) => self.publish(&record)?,
                None => return Ok(()),
            }
        }
    }

    /// Applies a record that was read from the log. The lock must be held.
    fn publish(&self, record: &Record) -> Result<(), CatalogError> {
        let next = follow(&self.snapshot(), record)?;
        let is_own = self
            .identity
            .read()
            .as_ref()
            .is_some_and(|own| own.node == record.node && own.epoch == record.epoch);
        if is_own {
            let changes = record
                .changes
                .iter()
                .filter_map(|change| match &change.kind {
                    Some(Kind::ChangeSegments(change)) => Some(change),
                    _ => None,
                });
            let added = changes
                .flat_map(|change| &change.added)
                .map(|added| convert::id(added.id_high, added.id_low));
            self.landed.lock().extend(added);
        }
        self.current.send_replace(Arc::new(next));
        Ok(())
    }

    /// Writes a checkpoint in the background: no commit waits for it, and one that fails is made up
    /// for by the next.
    fn write_checkpoint(&self, snapshot: Arc<Snapshot>) {
        let (store, every) = (self.store.clone(), self.options.checkpoint_every);
        tokio::spawn(async move {
            match checkpoint::write(&store, &snapshot, every).await {
                Ok(()) => tracing::debug!(sequence = snapshot.sequence, "checkpoint written"),
                Err(error) => {
                    tracing::warn!(%error, sequence = snapshot.sequence, "no checkpoint could be written; the log is complete")
                }
            }
        });
    }
}

impl Draft {
    fn into_record(self, sequence: u64, environment: &Environment) -> Record {
        Record {
            sequence,
            node: self.node,
            epoch: self.epoch,
            nonce: environment.uuid().as_bytes().to_vec(),
            time_ms: environment.now_ms(),
            changes: self.changes.into_iter().map(Change::from).collect(),
        }
    }
}

/// The state after a record of the log. What a writer may be refused is corruption here.
fn follow(snapshot: &Snapshot, record: &Record) -> Result<Snapshot, StoreError> {
    apply(snapshot, record).map_err(|refusal| StoreError::Corrupt {
        key: keys::log_record(record.sequence),
        reason: format!("it does not fit the records before it: {refusal}"),
    })
}
