//! Processes that share a store: who they are, which of them live, and what one asks another.
//!
//! The catalog has all nodes with their roles and addresses (`RegisterNode`). What they ask each
//! other goes over HTTP (`messages`), with a secret that is an object of the store: whoever may
//! read the store may ask.
//!
//! - `members`: a node lives as long as it answers, or changes its lease, an object of the store.
//!   That is judged by the asking process's own clock, from change to change.
//! - `recent_rows`: what all ingesters have in no segment yet, for queries of this process.
//! - `parts`: parts of large queries, which other processes compute;
//! - `write_orders`: the clocks of the other ingesters, for the writes of this one.
//! - `adoption`: the log of a node that is dead is put into segments.
//!
//! # Freshness
//!
//! A process answers queries and takes writes only on a catalog that it has followed within the
//! time of a lease ([`Cluster::refresh_if_stale`]). A new ingester acknowledges nothing before
//! every other process has said that it knows it, or that time and half of it again is over
//! ([`Cluster::until_known`]). So no process that answers misses an ingester that acknowledges. In
//! the same way a request that creates, drops or deletes is answered when all other processes know
//! it (`Cluster::announce`): nobody writes into a table that is gone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use parking_lot::{Mutex, RwLock};
use tidelake_catalog::background::supervised;
use tidelake_catalog::snapshot::knows;
use tidelake_catalog::{
    Announcer, Catalog, CatalogError, Node, Registration, Roles, Snapshot, StoreError,
};
use tidelake_ingest::write_clock::{Orders, WriteClock};
use tidelake_ingest::{IngestError, IngestOptions, Ingester};
use tokio::time::Instant;

mod adoption;
mod calls;
pub mod log_rows;
mod members;
pub mod messages;
mod node_rows;
pub mod parts;
pub mod recent_rows;
mod rows_codec;
mod serve;
pub mod transport;
mod write_orders;

pub use self::serve::NotServed;
pub use self::write_orders::replay_of_other;

use self::adoption::adopt_the_dead;
use self::calls::Calls;
use self::members::Members;
use self::messages::{Hello, Recorded};
use self::transport::{CallError, Http, Transport};
use self::write_orders::OtherIngesters;

/// How long another process may take to answer what takes no time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at the catalog, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The same for a process that is alone on S3, where each is a request that costs money.
const LONGEST_PAUSE_ALONE: Duration = Duration::from_secs(5);

/// Why a process cannot take part.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClusterError {
    /// The catalog cannot be read or written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The secret cannot be had.
    #[error("the secret of the processes of this store cannot be had: {0}")]
    Secret(#[from] tidelake_catalog::StoreError),
    /// HTTP cannot be spoken.
    #[error("other processes cannot be asked: {0}")]
    Client(String),
}

/// The other processes of the store, as this one sees them.
pub struct Cluster {
    catalog: Arc<Catalog>,
    node: String,
    epoch: u64,
    roles: Roles,
    address: String,
    clock: Arc<WriteClock>,
    secret: String,
    calls: Calls,
    lease: Duration,
    members: Members,
    /// Whether any other node takes writes, or may have rows in its log.
    /// Whether nodes of older programs were told of in the log.
    has_older: AtomicBool,
    others_write: AtomicBool,
    /// When the catalog was followed to its end last.
    followed: Mutex<Instant>,
    is_leaving: AtomicBool,
    adopting: Mutex<BTreeSet<String>>,
    announcer: OnceLock<Arc<Announced>>,
    /// How logs of other nodes are replayed.
    adopts_with: OnceLock<IngestOptions>,
    ingester: RwLock<Option<Arc<Ingester>>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("node", &self.node)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// Tells the other processes of commits.
#[derive(Debug)]
struct Announced(Weak<Cluster>);

impl Announcer for Announced {
    fn announce(&self, sequence: u64, is_urgent: bool) -> BoxFuture<'static, ()> {
        let cluster = self.0.upgrade();
        Box::pin(async move {
            if let Some(cluster) = cluster {
                cluster.announce(sequence, is_urgent).await;
            }
        })
    }
}

/// A node as `/api/v1/status/cluster` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// What it does.
    pub roles: Vec<&'static str>,
    /// Where others reach it.
    pub address: String,
    /// `alive`, `leaving`, `dead` or `adopted`.
    pub state: &'static str,
    /// Counts its starts.
    pub epoch: u64,
}

impl Cluster {
    /// Registers this process, and follows the others from now on.
    pub async fn join(
        catalog: Arc<Catalog>,
        node: &str,
        registration: Registration,
        lease: Duration,
    ) -> Result<Arc<Self>, ClusterError> {
        let secret = calls::secret(catalog.store(), catalog.environment()).await?;
        let http = Arc::new(Http::new(&secret).map_err(ClusterError::Client)?);
        Self::join_over(http, secret, catalog, node, registration, lease).await
    }

    /// The same over a transport. Who shows the secret may ask.
    pub async fn join_over(
        transport: Arc<dyn Transport>,
        secret: String,
        catalog: Arc<Catalog>,
        node: &str,
        registration: Registration,
        lease: Duration,
    ) -> Result<Arc<Self>, ClusterError> {
        let began = Instant::now();
        let epoch = catalog.register(node, registration.clone()).await?;
        let cluster = Arc::new(Self {
            clock: Arc::new(WriteClock::new(catalog.environment(), node)),
            catalog,
            node: node.to_owned(),
            epoch,
            roles: registration.roles,
            address: registration.address,
            secret,
            calls: Calls::over(transport),
            lease,
            members: Members::default(),
            has_older: AtomicBool::default(),
            others_write: AtomicBool::new(false),
            followed: Mutex::new(began),
            is_leaving: AtomicBool::new(false),
            adopting: Mutex::default(),
            announcer: OnceLock::new(),
            adopts_with: OnceLock::new(),
            ingester: RwLock::default(),
        });
        cluster.look_at_catalog();
        let announcer = Arc::new(Announced(Arc::downgrade(&cluster)));
        let weak = Arc::downgrade(&announcer);
        let _ = cluster.announcer.set(announcer);
        cluster.catalog.announce_by(weak);
        let weak = Arc::downgrade(&cluster);
        tokio::spawn(supervised("cluster", move || {
            let weak = weak.clone();
            async move {
                while let Some(cluster) = weak.upgrade() {
                    let pause = cluster.round().await;
                    drop(cluster);
                    tokio::time::sleep(pause).await;
                }
            }
        }));
        Ok(cluster)
    }

    /// This process's clock of writes.
    pub fn clock(&self) -> &Arc<WriteClock> {
        &self.clock
    }

    /// What this process does.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Starts the ingester of this process: it replays the node's log while the other processes get
    /// to know this one. From now on this process adopts nodes that are dead.
    ///
    /// # Errors
    /// If the log cannot be replayed.
    pub async fn start_ingester(
        self: &Arc<Self>,
        options: IngestOptions,
    ) -> Result<Arc<Ingester>, IngestError> {
        let options = IngestOptions {
            orders: Some(Orders {
                clock: Arc::clone(&self.clock),
                peers: Arc::new(OtherIngesters(Arc::downgrade(self))),
            }),
            ..options
        };
        let _ = self.adopts_with.set(options.clone());
        let weak = Arc::downgrade(self);
        tokio::spawn(supervised("adoption", move || adopt_the_dead(weak.clone())));
        let started = Ingester::start(Arc::clone(&self.catalog), options);
        let (started, ()) = futures::future::join(started, self.until_known()).await;
        let ingester = started?;
        // Others may ask for its rows.
        *self.ingester.write() = Some(Arc::clone(&ingester));
        Ok(ingester)
    }

    /// From now on this process is shown as leaving.
    pub fn set_leaving(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Returns, with the reason, when another process has taken over this node.
    pub async fn until_fenced(&self) -> String {
        let mut news = self.catalog.subscribe();
        loop {
            if self.catalog.is_fenced() {
                return format!("a newer process has registered as node {:?}", self.node);
            }
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the node of this process was adopted, and not taken over by another process of its
    /// name. The call waits for the end of the adoption, at most for `patience`. A process may
    /// begin anew before that: its next epoch fences the adopting process.
    pub async fn until_adopted(&self, patience: Duration) -> bool {
        let give_up = Instant::now() + patience;
        let mut is_adopted = false;
        while Instant::now() < give_up {
            if let Ok(snapshot) = self.refresh().await {
                let Some(own) = snapshot.node(&self.node) else {
                    return false;
                };
                if own.has_left {
                    return true;
                }
                // Who adopts registers the node at the address of its own.
                let hello = self.calls.hello(&own.address, PATIENCE.min(self.lease / 2));
                if *own.address == *self.address
                    || hello.await.is_ok_and(|hello| hello.node == self.node)
                {
                    return false;
                }
                is_adopted = true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        is_adopted
    }

    /// Whether this process is about to stop.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Nodes that may be running, without this one, commands, and older programs, which answer
    /// nothing of what is asked here.
    fn others(&self, snapshot: &Snapshot) -> Vec<Arc<Node>> {
        let nodes = snapshot.nodes().filter(|node| {
            !node.has_left
                && *node.name != *self.node
                && node.roles != Roles::NONE
                && node.knows >= knows::CLOCK_ORDER
        });
        nodes.cloned().collect()
    }

    /// Other nodes that take writes, or whose logs may have rows.
    fn other_writers(&self, snapshot: &Snapshot) -> Vec<Arc<Node>> {
        let mut others = self.others(snapshot);
        others.retain(|node| node.takes_writes());
        others
    }

    /// Takes note of who writes. Orders that others gave come before all that this process gives
    /// alone.
    fn look_at_catalog(&self) {
        let snapshot = self.catalog.snapshot();
        let orders = snapshot.nodes().map(|node| node.order);
        self.clock.observe(orders.max().unwrap_or(0));
        // An older program could not read what keeps the orders of rows.
        let are_all_new = snapshot.all_know(knows::CLOCK_ORDER);
        let others_write = are_all_new && !self.other_writers(&snapshot).is_empty();
        self.others_write.store(others_write, Ordering::SeqCst);
        if !self.has_older.swap(!are_all_new, Ordering::SeqCst) && !are_all_new {
            let nodes = self.older(&snapshot).map(|node| &node.name);
            tracing::warn!(
                nodes = ?nodes.collect::<Vec<_>>(),
                "nodes of an older program are registered: until they are upgraded, or adopted with \
                 POST /admin/adopt?node=NAME if they are gone for good, the order of writes at \
                 several processes is that of their flushes"
            );
        }
    }

    /// Follows the catalog to its end.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, CatalogError> {
        let began = Instant::now();
        let snapshot = self.catalog.refresh().await?;
        // A catalog that counts as fresh has been looked at for other ingesters.
        self.look_at_catalog();
        let mut followed = self.followed.lock();
        *followed = followed.max(began);
        drop(followed);
        Ok(snapshot)
    }

    /// Whether others may have rows that are in no segment.
    pub fn has_other_writers(&self) -> bool {
        !self.other_writers(&self.catalog.snapshot()).is_empty()
    }

    fn is_stale(&self) -> bool {
        self.followed.lock().elapsed() >= self.lease
    }

    /// Follows the catalog unless that was done within the time of a lease.
    pub async fn refresh_if_stale(&self) -> Result<(), CatalogError> {
        if self.is_stale() {
            self.refresh().await?;
        }
        Ok(())
    }

    /// Follows the catalog at least up to a commit.
    async fn refresh_to(&self, sequence: u64) -> Result<(), CatalogError> {
        if self.catalog.snapshot().sequence() < sequence {
            let found = self.refresh().await?.sequence();
            if found < sequence {
                return Err(CatalogError::OtherStore { found, sequence });
            }
        }
        Ok(())
    }

    /// Before a query: the catalog as it is known to all that acknowledge writes, and as it is now
    /// if one of them does not tell.
    pub async fn meet(&self) -> Result<(), CatalogError> {
        self.refresh_if_stale().await?;
        let writers = self.other_writers(&self.catalog.snapshot());
        if writers.is_empty() {
            return self.catalog.check_fence();
        }
        let hellos = join_all(writers.iter().map(|node| self.hello(node))).await;
        if hellos.iter().any(Result::is_err) {
            self.refresh().await?;
        } else {
            let newest = hellos.iter().flatten().map(|hello| hello.sequence).max();
            self.refresh_to(newest.unwrap_or(0)).await?;
        }
        self.catalog.check_fence()
    }

    /// Asks a node who it is. A process that is not this life of this node is an error.
    async fn hello(&self, node: &Node) -> Result<Hello, CallError> {
        if let Some(error) = self.members.failed_just_now(node) {
            return Err(error);
        }
        let answer = self
            .calls
            .hello(&node.address, PATIENCE.min(self.lease / 2));
        let checked = answer.await.and_then(|hello| {
            let is_it = *hello.node == *node.name && hello.epoch == node.epoch;
            let is_adopting = hello.adopting.iter().any(|name| **name == *node.name);
            match is_it || is_adopting {
                true => Ok(hello),
                false => Err(CallError::Another(format!(
                    "{} answers as node {:?} of epoch {}",
                    node.address, hello.node, hello.epoch
                ))),
            }
        });
        self.members.note(node, &checked);
        checked
    }

    /// One look at everything; returns the pause until the next.
    async fn round(&self) -> Duration {
        // A store that is away says nothing about others.
        if let Err(error) = self.refresh().await {
            tracing::debug!(%error, "the catalog cannot be followed");
        }
        let snapshot = self.catalog.snapshot();
        let others = self.others(&snapshot);
        self.members.retain(&others);
        let often = self.lease / 4;
        if others.is_empty() {
            let is_dear = self.catalog.store().folder().is_none();
            let longest = if is_dear {
                LONGEST_PAUSE_ALONE
            } else {
                PATIENCE
            };
            return longest.min(self.lease / 2);
        }
        let looks = others.iter().map(|node| self.look_at(node));
        futures::future::join(self.renew_lease(), join_all(looks)).await;
        often.min(LONGEST_PAUSE)
    }

    /// Whether a node lives: it answers, or else its lease has changed.
    async fn look_at(&self, node: &Node) {
        if self.hello(node).await.is_ok() {
            return;
        }
        let key = tidelake_catalog::keys::lease(&node.name);
        // A store that is away says nothing about others.
        match self.catalog.store().get(&key).await {
            Ok(lease) => self.members.note_lease(node, Some(lease)),
            Err(StoreError::NotFound { .. }) => self.members.note_lease(node, None),
            Err(error) => tracing::debug!(%error, "a lease cannot be read"),
        }
    }

    /// Shows those that cannot reach this process that it lives.
    async fn renew_lease(&self) {
        let key = tidelake_catalog::keys::lease(&self.node);
        let content = format!("{} {}", self.epoch, self.catalog.environment().uuid());
        if self.members.lease_is_due(self.lease / 3) {
            let put = self.catalog.store().put(&key, Bytes::from(content));
            if let Err(error) = put.await {
                tracing::debug!(%error, "the lease cannot be renewed");
            }
        }
    }

    fn is_dead(&self, node: &Node) -> bool {
        self.members.is_dead(node, self.lease)
    }

    /// Returns when every other process knows this one, or would find it before it answers
    /// anything.
    pub async fn until_known(&self) {
        let sequence = self.catalog.snapshot().sequence();
        let left = self.tell(sequence, self.lease + self.lease / 2).await;
        if !left.is_empty() {
            tracing::warn!(
                nodes = ?left.iter().map(|node| &node.name).collect::<Vec<_>>(),
                "these nodes do not answer; they find out about this one by the catalog"
            );
        }
    }

    /// Returns when every other process knows a commit, or would find it before it answers
    /// anything. What is not urgent is left to those that do not answer at once.
    async fn announce(&self, sequence: u64, is_urgent: bool) {
        let patience = match is_urgent {
            true => self.lease,
            false => Duration::ZERO,
        };
        self.tell(sequence, patience).await;
    }

    /// Tells every other process of a commit, again and again for so long; returns those that live
    /// and have not said that they know it.
    async fn tell(&self, sequence: u64, patience: Duration) -> Vec<Arc<Node>> {
        let began = Instant::now();
        let mut pending = self.others(&self.catalog.snapshot());
        loop {
            let asked = pending.iter().map(|node| self.knows(node, sequence));
            let mut known = join_all(asked).await.into_iter();
            pending.retain(|node| !known.next().unwrap_or(false) && !self.is_dead(node));
            if pending.is_empty() || began.elapsed() >= patience {
                return pending;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn knows(&self, node: &Node, sequence: u64) -> bool {
        let answer = self.calls.seen(&node.address, sequence, PATIENCE).await;
        answer.is_ok_and(|hello| *hello.node == *node.name && hello.sequence >= sequence)
    }

    /// Has all other ingesters put their rows into segments.
    pub async fn flush_others(&self) -> Result<(), String> {
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            let snapshot = self.refresh().await.map_err(|error| error.to_string())?;
            let writers = self.other_writers(&snapshot);
            let flushes = writers.iter().map(async |node| {
                // A process that is not this life of the node has none of its rows.
                self.hello(node).await?;
                match self.adopts(node) {
                    true => Err(CallError::Another("it is being adopted".to_owned())),
                    false => self.calls.flush(&node.address).await,
                }
            });
            let flushed = join_all(flushes).await;
            let failed = writers.iter().zip(flushed).find_map(|(node, flushed)| {
                let error = flushed.err()?;
                Some((Arc::clone(node), error))
            });
            let Some((node, error)) = failed else {
                // Of what they committed.
                self.refresh().await.map_err(|error| error.to_string())?;
                return Ok(());
            };
            // What is being adopted is in segments soon.
            let may_pass = matches!(error, CallError::Another(_)) || self.is_dead(&node);
            if !may_pass || Instant::now() >= give_up {
                return Err(format!(
                    "rows of node {:?} at {} cannot be put into segments: {error}",
                    node.name, node.address
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Writes what the server records about itself at a process that takes writes, for one that
    /// takes none.
    pub async fn record_elsewhere(&self, record: &Recorded) -> Result<(), String> {
        let mut last = self.who_has(Roles::INGEST);
        for node in self.other_writers(&self.catalog.snapshot()) {
            match self.calls.record(&node.address, record).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    /// Whether a node's log is being put into segments by the process at its address.
    fn adopts(&self, node: &Node) -> bool {
        self.members.is_adopted(node)
    }

    /// Nodes whose program does not know the calls between processes. Until they leave, segments
    /// and logs get no clock orders, which such programs cannot read.
    fn older<'a>(&self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Arc<Node>> {
        snapshot.nodes().filter(|node| {
            !node.has_left && node.roles != Roles::NONE && node.knows < knows::CLOCK_ORDER
        })
    }

    /// All nodes, as they are now.
    pub async fn status(&self) -> Vec<NodeStatus> {
        // What is known already is better than nothing.
        let _ = self.refresh().await;
        let snapshot = self.catalog.snapshot();
        let others = self.others(&snapshot);
        let own = snapshot.node(&self.node).filter(|own| !own.has_left);
        let own = own.map(|node| {
            (
                node,
                if self.is_leaving() {
                    "leaving"
                } else {
                    "alive"
                },
            )
        });
        let others = others.iter().map(|node| {
            let state = match () {
                () if self.is_dead(node) => "dead",
                () if self.members.is_adopted(node) => "adopted",
                () => "alive",
            };
            (node, state)
        });
        let older = self.older(&snapshot).map(|node| (node, "older"));
        let mut shown: Vec<NodeStatus> = own
            .into_iter()
            .chain(others)
            .chain(older)
            .map(|(node, state)| NodeStatus {
                node: node.name.to_string(),
                roles: node.roles.names(),
                address: node.address.to_string(),
                state,
                epoch: node.epoch,
            })
            .collect();
        shown.sort_by(|a, b| a.node.cmp(&b.node));
        shown
    }

    /// Who has a role, for messages.
    pub fn who_has(&self, role: Roles) -> String {
        let snapshot = self.catalog.snapshot();
        let others = self.others(&snapshot);
        let have = others.iter().filter(|node| node.roles.has(role));
        let have: Vec<String> = have
            .map(|node| format!("{} at {}", node.name, node.address))
            .collect();
        match have.is_empty() {
            true => "no process has it at present".to_owned(),
            false => format!("those that have it: {}", have.join(", ")),
        }
    }
}
