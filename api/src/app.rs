//! What all handlers share.
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidelake_catalog::Environment;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::panics::{self, Panicked};
use tidelake_querier::small;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinError;

use crate::backend::{AsOf, Backend, IngestError, Querier};
use crate::body::BodyBudget;
use crate::config::Config;
use crate::connections::Connections;
use crate::error::ApiError;
use crate::maintenance;
use crate::memory;
use crate::metrics::Metrics;
use crate::paced_body::Pace;
use crate::query_slots::QuerySlots;

/// A figure that is read when somebody scrapes it.
pub struct Figure {
    /// Name without the prefix `tidelake_`.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Whether it only ever grows.
    pub is_counter: bool,
    /// Reads it; must not block.
    pub read: Box<dyn Fn() -> f64 + Send + Sync>,
}

/// Shared by all requests.
pub struct App {
    /// The settings.
    pub config: Config,
    /// Milliseconds since 1970.
    pub now_ms: fn() -> i64,
    /// When the process began to serve, in milliseconds since 1970.
    pub started_ms: i64,
    /// Places for queries.
    pub query_slots: Arc<QuerySlots>,
    /// The memory of the process.
    pub memory: Arc<MemoryBudget>,
    /// Memory for request bodies.
    pub bodies: BodyBudget,
    /// Connections that are open.
    pub(crate) connections: Arc<Connections>,
    pub(crate) metrics: Metrics,
    backend: OnceLock<Backend>,
    fenced: OnceLock<String>,
    fence_bell: Notify,
}

impl App {
    /// Answers `/health` from now on, and the rest after [`App::attach`].
    pub fn new(config: Config) -> Arc<Self> {
        let query_slots = Arc::new(QuerySlots::new(
            config.max_concurrent_queries,
            Duration::from_millis(config.query_queue_ms),
        ));
        let metrics = Metrics::new();
        metrics.add_queries(&query_slots);
        let memory = memory::budget(&config);
        metrics.add_memory(&memory);
        let connections = Arc::new(Connections::default());
        metrics.add_figures(connections.figures());
        Arc::new(Self {
            now_ms: wall_clock_ms,
            started_ms: wall_clock_ms(),
            query_slots,
            bodies: BodyBudget::new(Arc::clone(&memory)),
            memory,
            connections,
            metrics,
            backend: OnceLock::new(),
            fenced: OnceLock::new(),
            fence_bell: Notify::new(),
            config,
        })
    }

    /// The parts are open and replayed: requests may come.
    pub fn attach(&self, backend: Backend) {
        self.metrics.add_figures(backend.figures());
        // A second call would be a defect of the composition root; the first one counts.
        let _ = self.backend.set(backend);
    }

    /// The parts, or 503 while they are not open or when the node was taken over.
    pub fn backend(&self) -> Result<&Backend, ApiError> {
        if let Some(reason) = self.fenced.get() {
            return Err(ApiError::unavailable(reason.clone()));
        }
        self.backend.get().ok_or_else(|| {
            ApiError::unavailable("starting: the catalog and the write-ahead log are being read")
        })
    }

    /// Reads the present state, or one of the past within `time_travel_window_ms`.
    pub async fn querier(&self, as_of: Option<AsOf>) -> Result<Arc<Querier>, ApiError> {
        let backend = self.backend()?;
        let Some(as_of) = as_of else {
            return Ok(Arc::clone(&backend.querier));
        };
        let window = Duration::from_millis(self.config.time_travel_window_ms);
        let state = backend
            .catalog()
            .as_of(as_of, window, (self.now_ms)())
            .await;
        Ok(Arc::new(backend.querier.at(
            state.map_err(|error| maintenance::refuse(self, error))?,
        )))
    }

    /// How fast answers must be read, and where they are made.
    pub fn pace(&self) -> Pace {
        Pace {
            write_timeout: Duration::from_millis(self.config.write_timeout_ms),
            answer_timeout: self.config.query_timeout(),
            threads: self.backend.get().and_then(Backend::query_threads),
        }
    }

    /// Computes a part of a query on the threads for it, and stops when this future is dropped: what
    /// holds a processor for long must not hold up connections.
    pub async fn compute<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let threads = self.query_threads()?;
        computed(small::there(Some(&threads), panics::caught(work)).await)
    }

    /// The same for what mostly is small: it begins here.
    pub async fn compute_small<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let threads = self.query_threads()?;
        let done = small::here_first(Some(&threads), panics::caught(work)).await;
        computed(done)
    }

    fn query_threads(&self) -> Result<Handle, ApiError> {
        let threads = self.backend()?.query_threads();
        threads.ok_or_else(|| ApiError::unavailable("the server stops"))
    }

    /// Notes what an ingester's failure means for the process, and words it for the client.
    pub fn refuse(&self, error: IngestError) -> ApiError {
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

fn wall_clock_ms() -> i64 {
    Environment::system().now_ms()
}

/// The result of work that was done here or on other threads.
fn computed<T, E: Into<ApiError>>(
    done: Result<Result<Result<T, E>, Panicked>, JoinError>,
) -> Result<T, ApiError> {
    match done {
        Ok(Ok(result)) => result.map_err(Into::into),
        Ok(Err(panicked)) => Err(panicked.into()),
        // The threads end.
        Err(_) => Err(ApiError::unavailable("the server stops")),
    }
}
