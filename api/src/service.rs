//! What a request of any protocol comes to: who asks is checked, admitted, limited and answered
//! here, once for all protocols. Nothing in here knows HTTP or gRPC.
//!
//! In the order in which a request meets them:
//!
//! 1. `tokens`: what the client shows becomes a principal; `first_token`: who may do everything at
//!    first.
//! 2. `class`: what its queries are for; `context`: the principal gets an [`Access`](context::Access) to the database that it names,
//!    for what it wants to do there, or is refused. Nothing below can be called without one.
//! 3. `tenants`: what the database and the token may take.
//! 4. `write`, and `push` for groups of metrics; `read`, which admits a query (`slots`) to a state and gives it a
//!    deadline, for `promql`, `sql`, `influxql`, `labels`, `exemplars`, `samples`; `running` lists and
//!    stops those, `ended` knows what they cost. `tail`: points as they arrive. `metadata`, `storage`; `maintain`: deletes, drops,
//!    retention. `audit` records those.
//! 5. `error`: a few codes, each defined by what the caller can do.
//! 6. `metrics`: what is counted of all that. `self_monitoring` writes it as samples of `_internal`, which
//!    `own_samples` makes of it; `record` writes there, or has another process do it.

pub mod audit;
pub mod class;
pub mod context;
pub mod database;
pub mod ended;
pub mod error;
pub mod exemplars;
pub mod first_token;
pub mod influxql;
pub mod labels;
pub mod maintain;
pub mod metadata;
pub mod metrics;
mod own_samples;
pub mod promql;
pub mod push;
pub mod read;
pub mod record;
pub mod running;
pub mod samples;
pub mod self_monitoring;
pub mod slots;
pub mod sql;
pub mod storage;
pub mod tail;
pub mod tenants;
pub mod tokens;
pub mod write;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use tidelake_catalog::Environment;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::panics::{self, Panicked};
use tidelake_querier::lane::Lane;
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::time::Instant;

use self::audit::AuditClock;
use self::error::ServiceError;
use self::metrics::Metrics;
use self::running::RunningQueries;
use self::slots::QuerySlots;
use self::tenants::Tenants;
use self::tokens::TokenUses;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::node::backend::{AsOf, Backend, IngestError, MissingRole, Querier};
use crate::node::memory;

/// Answers the requests of all protocols.
pub struct Service {
    /// The settings.
    pub config: Config,
    /// Milliseconds since 1970.
    pub now_ms: fn() -> i64,
    /// When the process began to serve, in milliseconds since 1970.
    pub started_ms: i64,
    /// Places for queries.
    pub slots: Arc<QuerySlots>,
    /// The queries that have one.
    pub running: Arc<RunningQueries>,
    /// The memory of the process.
    pub memory: Arc<MemoryBudget>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    uses: TokenUses,
    tenants: Arc<Tenants>,
    audit_clock: AuditClock,
    next_flush: tokio::sync::Mutex<Option<Instant>>,
    backend: OnceLock<Backend>,
    cluster: RwLock<Option<Arc<Cluster>>>,
    fenced: OnceLock<String>,
    fence_bell: Notify,
}

impl Service {
    /// Refuses everything until [`Service::attach`].
    pub fn new(config: Config) -> Self {
        let slots = Arc::new(QuerySlots::new(
            config.max_concurrent_queries,
            Duration::from_millis(config.query_queue_ms),
        ));
        let metrics = Metrics::default();
        metrics.add_queries(&slots);
        let memory = memory::budget(&config);
        metrics.add_memory(&memory);
        let metrics = Arc::new(metrics);
        Self {
            now_ms: wall_clock_ms,
            started_ms: wall_clock_ms(),
            slots,
            running: Arc::default(),
            memory,
            metrics,
            uses: TokenUses::default(),
            tenants: Arc::default(),
            audit_clock: AuditClock::default(),
            next_flush: tokio::sync::Mutex::default(),
            backend: OnceLock::new(),
            cluster: RwLock::default(),
            fenced: OnceLock::new(),
            fence_bell: Notify::new(),
            config,
        }
    }

    /// The process is registered: others may ask who it is.
    pub fn join(&self, cluster: Arc<Cluster>) {
        *self.cluster.write() = Some(cluster);
    }

    /// The other processes of the store, or 503 before this one is registered.
    pub fn cluster(&self) -> Result<Arc<Cluster>, ServiceError> {
        let cluster = self.cluster.read().clone();
        cluster.ok_or_else(|| ServiceError::unavailable("starting: the catalog is being read"))
    }

    /// The parts are open and replayed: requests may come.
    pub fn attach(&self, backend: Backend) {
        self.join(Arc::clone(backend.cluster()));
        self.metrics.add_figures(backend.figures());
        self.metrics
            .add_parts(backend.catalog(), backend.ingester.as_ref(), &self.tenants);
        self.metrics.add_classes(backend.class_times());
        // A second call would be a defect of the composition root; the first one counts.
        let _ = self.backend.set(backend);
    }

    /// The parts, or 503 while they are not open or when the node was taken over.
    pub fn backend(&self) -> Result<&Backend, ServiceError> {
        if let Some(reason) = self.fenced.get() {
            return Err(ServiceError::unavailable(reason.clone()));
        }
        self.backend.get().ok_or_else(|| {
            ServiceError::unavailable(
                "starting: the catalog and the write-ahead log are being read",
            )
        })
    }

    /// Has this process know what others committed before they acknowledged it: before anything is
    /// chosen by the tables that there are.
    pub async fn meet(&self) -> Result<(), ServiceError> {
        let met = self.backend()?.cluster().meet().await;
        met.map_err(|error| self.refuse_commit(error))
    }

    /// Reads the present state, or one of the past within `time_travel_window_ms`.
    pub async fn querier(&self, as_of: Option<AsOf>) -> Result<Arc<Querier>, ServiceError> {
        let backend = self.backend()?;
        let querier = &backend.querier;
        let Some(as_of) = as_of else {
            self.meet().await?;
            return Ok(Arc::clone(querier));
        };
        let window = Duration::from_millis(self.config.time_travel_window_ms);
        let state = backend
            .catalog()
            .as_of(as_of, window, (self.now_ms)())
            .await;
        Ok(Arc::new(
            querier.at(state.map_err(|error| self.refuse_commit(error))?),
        ))
    }

    /// Computes a part of a query on the threads for it, and stops when this future is dropped:
    /// what holds a processor for long must not hold up connections.
    pub async fn compute<T: Send + 'static, E: Into<ServiceError> + Send + 'static>(
        &self,
        lane: &Lane,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, ServiceError> {
        computed(lane.there(panics::caught(work)).await)
    }

    /// The same for what mostly is small: it begins here.
    pub async fn compute_small<T: Send + 'static, E: Into<ServiceError> + Send + 'static>(
        &self,
        lane: &Lane,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, ServiceError> {
        computed(lane.here_first(panics::caught(work)).await)
    }

    /// Notes what an ingester's failure means for the process, and words it for the client.
    pub fn refuse(&self, error: IngestError) -> ServiceError {
        if let IngestError::Fenced(reason) = &error {
            self.fence(reason.clone());
        }
        error.into()
    }

    /// A newer process owns this node: refuse everything from now on and have the server stop.
    pub fn fence(&self, reason: String) {
        // Only the first reason matters.
        let _ = self.fenced.set(reason);
        self.fence_bell.notify_one();
    }

    /// Waits until the node was taken over; returns why it is thought so.
    pub async fn until_fenced(&self) -> String {
        loop {
            if let Some(reason) = self.fenced.get() {
                return reason.clone();
            }
            self.fence_bell.notified().await;
        }
    }
}

/// A process with another role answers the same tomorrow, but another process may answer now.
pub(crate) fn missing_role(error: MissingRole) -> ServiceError {
    ServiceError::unavailable(error.to_string())
}

fn wall_clock_ms() -> i64 {
    Environment::system().now_ms()
}

/// The result of work that was done here or on other threads.
fn computed<T, E: Into<ServiceError>>(
    done: Result<Result<Result<T, E>, Panicked>, JoinError>,
) -> Result<T, ServiceError> {
    match done {
        Ok(Ok(result)) => result.map_err(Into::into),
        Ok(Err(panicked)) => Err(panicked.into()),
        // The threads end.
        Err(_) => Err(ServiceError::unavailable("the server stops")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Other protocols than HTTP come to the service as well.
    #[test]
    fn the_service_knows_no_web_framework() {
        let mut files = Vec::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/service")];
        while let Some(folder) = folders.pop() {
            let found = fs::read_dir(folder).unwrap();
            let (more, of_folder): (Vec<_>, Vec<_>) = found
                .map(|entry| entry.unwrap().path())
                .partition(|path| path.is_dir());
            folders.extend(more);
            files.extend(of_folder);
        }
        assert!(files.len() > 10 && files.iter().any(|file| file.ends_with("ended/shape.rs")));
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for name in [
                "axum",
                "hyper",
                "tonic",
                "crate::http",
                "crate::prometheus",
                "crate::influx",
                "crate::pg",
            ] {
                let is_used = text
                    .lines()
                    .any(|line| line.contains(&format!("use {name}")));
                assert!(!is_used, "{} uses {name}", file.display());
            }
        }
    }
}
