//! The parts that serve requests, opened and put together, in the shapes that the handlers need.
//!
//! The ingester is used as it is. The querier and the compactor are wrapped: texts become
//! expressions here, and their errors the few kinds that a client can act on.
mod figures;
mod querier;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_catalog::panics;
use tidelake_catalog::segment::disk_cache::DiskCache;
use tidelake_catalog::store::bucket::Bucket;
use tidelake_catalog::{
    Catalog, CatalogError, CatalogOptions, NameLimits, Registration, Roles, S3Settings, Store,
    StoreError,
};
use tidelake_compactor::policy::Goal;
use tidelake_compactor::{CompactError, CompactorOptions};
use tidelake_ingest::wal::WalOptions;
use tidelake_ingest::{IngestOptions, LabelLimits};
use tidelake_querier::lane::Lane;
use tidelake_querier::memory::QueryMemory;
use tidelake_querier::promql::exec::EngineOptions;
use tidelake_querier::small;
use tidelake_querier::sql::SqlOptions;
use tidelake_querier::tables::Tables;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use tidelake_ingest::column::{FieldColumn, FieldValues};
pub use tidelake_ingest::exposition::{
    Settings as TextSettings, TextFormat, render as text_render,
};
pub use tidelake_ingest::line_protocol::LineError;
pub use tidelake_ingest::request::Written;
pub use tidelake_ingest::tap::Arrival;
pub use tidelake_ingest::wal::{ContentEncoding, OtlpFormat, Precision, Protocol, WalState};
pub use tidelake_ingest::{IngestError, Ingester, WriteOutcome, WriteRequest};
pub use tidelake_querier::as_of::{AsOf, parse_as_of};
pub use tidelake_querier::cardinality::{Cardinality, Ranking};
pub use tidelake_querier::exemplars::SeriesExemplars;
pub use tidelake_querier::influxql::{InfluxqlAnswer, InfluxqlError};
pub use tidelake_querier::promql::exec::{
    Annotations, Explained, QueryOutput, QueryStats, RangeSeries, SeriesRow, Value,
};
pub use tidelake_querier::promql::source::SeriesSamples;
pub use tidelake_querier::sorted_samples::SortedSamples;
pub use tidelake_querier::sql::SqlAnswer;
pub use tidelake_querier::sql::postgres::types::{TYPES, TypeOf};
pub use tidelake_querier::sql::postgres::{
    Description, MAX_ELEMENTS, PgParams, PgSession, PgValue, array_elements, shown_name,
};
pub use tidelake_querier::sql::{
    Command, Held, Retention, SqlError, SqlOutline, SqlParam, SqlText, parse_retention,
    show_retention,
};
pub use tidelake_querier::{Answer, PARTIAL_TRIES};

pub use self::querier::{
    PromqlOptions, Querier, QueryError, Steps, parse_selector, parse_selectors,
};

use crate::cluster::log_rows::LogRows;
use crate::cluster::parts::{self, ClusterWorkers, PartRefused};
use crate::cluster::recent_rows::ClusterRows;
use crate::cluster::{Cluster, ClusterError};
use crate::config::{Config, StoreLocation};
use crate::node::class_threads::{Class, ClassThreads, ClassTimes};
use crate::node::decode_threads::{self, DecodeThreads};
use crate::node::ingest_threads::IngestThreads;

/// Parts of queries of other processes that are computed at a time.
const PARTS_AT_ONCE: usize = 16;

/// Merges segments.
#[derive(Debug)]
pub struct Compactor(Arc<tidelake_compactor::Compactor>);

impl Compactor {
    /// Segments that were found damaged.
    pub fn damaged_segments(&self) -> usize {
        self.0.quarantine().held().len()
    }

    /// Returns when nothing is left to merge.
    pub async fn compact_all(&self) -> Result<(), CompactError> {
        let compactor = Arc::clone(&self.0);
        let work = panics::caught(async move { compactor.compact(Goal::Full).await });
        let threads = self.0.threads().usual();
        let stopped = |reason: String| CompactError::Stopped { reason };
        let done = small::there(threads, work).await;
        let done = done.map_err(|_| stopped("the server stops".to_owned()))?;
        done.map_err(|panicked| stopped(panicked.to_string()))??;
        Ok(())
    }
}

/// Why the storage could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The store may answer later; worth another try.
    #[error("{0}")]
    Transient(String),
    /// Trying again will not help.
    #[error("{0}")]
    Fatal(String),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            Self::Transient(error.to_string())
        } else {
            Self::Fatal(error.to_string())
        }
    }
}

impl From<CatalogError> for OpenError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => error.into(),
            error => Self::Fatal(error.to_string()),
        }
    }
}

impl From<IngestError> for OpenError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Unavailable { reason, .. } => Self::Transient(reason),
            error => Self::Fatal(error.to_string()),
        }
    }
}

impl From<ClusterError> for OpenError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Catalog(error) => error.into(),
            ClusterError::Secret(error) => error.into(),
            error => Self::Fatal(error.to_string()),
        }
    }
}

/// A process that is registered, before its parts are open.
#[derive(Debug)]
pub struct Joined {
    /// The others.
    pub cluster: Arc<Cluster>,
    catalog: Arc<Catalog>,
    store: Store,
}

/// The parts that serve requests, once they are ready.
#[derive(Debug)]
pub struct Backend {
    /// Takes writes, if the process has this role.
    pub ingester: Option<Arc<Ingester>>,
    /// Answers queries, if the process has this role.
    pub querier: Arc<Querier>,
    /// Merges segments, if the process has this role.
    pub compactor: Option<Arc<Compactor>>,
    cluster: Arc<Cluster>,
    rows: Arc<ClusterRows>,
    /// Parts of queries of other processes that may be computed at a time.
    parts: Arc<Semaphore>,
    catalog: Arc<Catalog>,
    class_threads: ClassThreads,
    decode_threads: DecodeThreads,
    #[allow(dead_code, reason = "the write-ahead log and the flushes run there")]
    ingest_threads: IngestThreads,
}

/// Something was asked of a process that does other things.
#[derive(Debug, Clone, thiserror::Error)]
#[error("this process has no role {role}, so it {what} (its roles: {roles}); {others}")]
pub struct MissingRole {
    roles: Roles,
    role: Roles,
    what: &'static str,
    others: String,
}

/// The store, to read and to write.
pub(crate) fn open_store(config: &Config) -> Result<Store, OpenError> {
    open_store_by(config, Store::open)
}

/// The store for a command that changes nothing.
pub(crate) fn open_store_to_read(config: &Config) -> Result<Store, OpenError> {
    open_store_by(config, Store::open_to_read)
}

/// The bucket as a whole and the prefix in it, if the store is S3.
pub(crate) fn open_bucket(config: &Config) -> Result<Option<(Bucket, String)>, OpenError> {
    let StoreLocation::S3 { prefix, .. } = location(config)? else {
        return Ok(None);
    };
    let bucket = Bucket::open(&address(config)?, &s3_settings(config))?;
    Ok(Some((bucket, prefix)))
}

fn open_store_by(
    config: &Config,
    open: fn(&str, &S3Settings) -> Result<Store, StoreError>,
) -> Result<Store, OpenError> {
    Ok(open(&address(config)?, &s3_settings(config))?)
}

fn location(config: &Config) -> Result<StoreLocation, OpenError> {
    config
        .store_location()
        .map_err(|error| OpenError::Fatal(error.to_string()))
}

fn address(config: &Config) -> Result<String, OpenError> {
    Ok(match location(config)? {
        StoreLocation::Folder(path) => path.to_string_lossy().into_owned(),
        StoreLocation::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}"),
        StoreLocation::Memory => "memory:".to_owned(),
    })
}

fn s3_settings(config: &Config) -> S3Settings {
    S3Settings {
        endpoint: config.s3_endpoint.clone(),
        allow_http: config.s3_allow_http,
    }
}

/// The cache on disk. Without one reads are slower, and nothing else.
async fn disk_cache(config: &Config) -> Option<Arc<DiskCache>> {
    let (directory, bytes) = config.disk_cache()?;
    DiskCache::open(&directory, bytes)
        .await
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                "no cache on disk; reads go to the store (settings cache_dir and cache_bytes)"
            );
        })
        .ok()
}

pub(super) fn ingest_options(config: &Config, memory: &Arc<MemoryBudget>) -> IngestOptions {
    let is_remote = matches!(config.store_location(), Ok(StoreLocation::S3 { .. }));
    let mut wal = if is_remote {
        WalOptions::remote()
    } else {
        WalOptions::local()
    };
    if let Some(interval) = config.wal_interval_ms {
        wal.min_interval = Duration::from_millis(interval);
    }
    IngestOptions {
        memory: Arc::clone(memory),
        buffer_bytes: config.buffer_bytes,
        // Writes go on while the older half is on its way to the store.
        flush_bytes: memory
            .state(Share::Buffer)
            .guaranteed
            .min(config.buffer_bytes)
            / 2,
        flush_interval: Duration::from_millis(config.flush_interval_ms),
        max_lines_bytes: config.max_body_bytes,
        max_remote_write_bytes: config.max_remote_write_bytes,
        names: NameLimits {
            databases: config.max_databases,
            tables: config.max_tables,
            columns: config.max_columns,
            families: config.max_metric_families,
        },
        labels: LabelLimits {
            per_series: config.max_labels_per_series,
            name_bytes: config.max_label_name_bytes,
            value_bytes: config.max_label_value_bytes,
        },
        otlp: crate::otlp::settings(config),
        // The cluster follows the catalog.
        fence_check_interval: None,
        wal,
        accept_lost_wal: config.accept_lost_wal,
        ..IngestOptions::default()
    }
}

impl Backend {
    /// Opens the store, loads the catalog and registers the process, which others reach at
    /// `address`.
    pub async fn join(config: &Config, address: &str) -> Result<Joined, OpenError> {
        let store = open_store(config)?;
        let catalog = Catalog::load(store, CatalogOptions::default()).await?;
        Self::join_with(config, Arc::new(catalog), address).await
    }

    /// The same with a catalog that is loaded already.
    pub(super) async fn join_with(
        config: &Config,
        catalog: Arc<Catalog>,
        address: &str,
    ) -> Result<Joined, OpenError> {
        let store = catalog.store().clone();
        let roles = config.roles.parse().map_err(OpenError::Fatal)?;
        let registration = Registration {
            address: address.to_owned(),
            roles,
        };
        let lease = Duration::from_millis(config.lease_ms);
        let joined = Cluster::join(Arc::clone(&catalog), &config.node, registration, lease);
        Ok(Joined {
            cluster: joined.await?,
            catalog,
            store,
        })
    }

    /// Opens the parts, which replays the node's log.
    pub async fn open(
        config: &Config,
        memory: &Arc<MemoryBudget>,
        joined: Joined,
    ) -> Result<Self, OpenError> {
        let Joined {
            cluster,
            catalog,
            store,
        } = joined;
        let no_threads = |what: &str, error: std::io::Error| {
            OpenError::Fatal(format!("cannot start threads for {what}: {error}"))
        };
        let ingest_threads = IngestThreads::start().map_err(|e| no_threads("the ingester", e))?;
        let decode_threads = DecodeThreads::start().map_err(|e| no_threads("large writes", e))?;
        let ingester = match cluster.roles().has(Roles::INGEST) {
            true => {
                let (joined, options) = (Arc::clone(&cluster), ingest_options(config, memory));
                let started =
                    ingest_threads.run(async move { joined.start_ingester(options).await });
                let started = started.await.map_err(|error| {
                    OpenError::Fatal(format!("the ingester did not start: {error}"))
                })?;
                Some(started?)
            }
            false => None,
        };
        let rows = ClusterRows::new(
            ingester.clone(),
            Arc::clone(&cluster),
            memory,
            LogRows::new(ingest_options(config, memory), ingest_threads.handle()),
        );
        let recent = Arc::new(rows);
        let disk = disk_cache(config).await;
        let request_price = config.store_dollars_per_million_reads / 1e6;
        let rows = Arc::clone(&recent);
        let tables = Tables::new(Arc::clone(&catalog), store, recent, memory, disk)
            .with_request_price(request_price);
        let threads = ClassThreads::start().map_err(|e| no_threads("queries", e))?;
        match threads.handle(Class::Adhoc) {
            Some(threads) => drop(threads.spawn(tables.keep_warm())),
            None => drop(tokio::spawn(tables.keep_warm())),
        }
        let query_memory = QueryMemory::new(
            Arc::clone(memory),
            crate::node::memory::max_query_bytes(config, memory),
        );
        // Of what is no query; each query has one of its own.
        let lane = Lane::on(threads.handle(Class::Adhoc));
        let promql = EngineOptions {
            memory: query_memory.clone(),
            lookback_delta_ms: i64::try_from(config.lookback_ms).unwrap_or(i64::MAX),
            max_samples: config.max_query_samples,
            timeout: config.query_timeout(),
            max_series: config.max_query_series,
            max_read_bytes: config.max_query_read_bytes,
            experimental: config.promql_experimental,
            lane: lane.clone(),
            request_price,
            workers: Some(Arc::new(ClusterWorkers(Arc::clone(&cluster)))),
            distributed_query_rows: config.distributed_query_rows,
            ..EngineOptions::default()
        };
        let sql = SqlOptions {
            memory: query_memory,
            timeout: Some(config.query_timeout()),
            promql: promql.clone(),
            lane,
            ..SqlOptions::default()
        };
        let querier = tidelake_querier::Querier::new(tables, promql, sql)
            .map_err(|error| OpenError::Fatal(error.to_string()))?;
        let options = CompactorOptions {
            grace: Duration::from_millis(config.gc_grace_ms),
            time_travel_window: Duration::from_millis(config.time_travel_window_ms),
            value_layout: config.value_layout,
            memory: Arc::clone(memory),
            threads: threads.merges(),
            ..CompactorOptions::default()
        };
        let compactor = cluster
            .roles()
            .has(Roles::COMPACT)
            .then(|| tidelake_compactor::Compactor::start(Arc::clone(&catalog), options));
        if let Some(ingester) = &ingester {
            crate::node::backpressure::start(
                &catalog,
                compactor.as_deref(),
                ingester,
                config.max_fresh_segments,
            );
        }
        Ok(Self {
            ingester,
            querier: Arc::new(Querier(querier)),
            compactor: compactor.map(|compactor| Arc::new(Compactor(compactor))),
            cluster,
            rows,
            parts: Arc::new(Semaphore::new(PARTS_AT_ONCE)),
            catalog,
            class_threads: threads,
            decode_threads,
            ingest_threads,
        })
    }

    /// Both, where no other process will come.
    pub async fn open_alone(
        config: &Config,
        memory: &Arc<MemoryBudget>,
    ) -> Result<Self, OpenError> {
        let joined = Self::join(config, &config.listen).await?;
        Self::open(config, memory, joined).await
    }

    /// A place for a part of a query of another process. `None` if too many are being computed: the
    /// other process does it itself then.
    pub fn place_of_part(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.parts).try_acquire_owned().ok()
    }

    /// Computes a part of a query of another process.
    ///
    /// # Errors
    /// If the body asks for nothing that can be computed here.
    pub fn part(
        &self,
        place: OwnedSemaphorePermit,
        body: Bytes,
    ) -> Result<BoxStream<'static, Bytes>, PartRefused> {
        let request = parts::read(body, &self.rows)?;
        let lane = self.lane(Class::Adhoc);
        let frames = self.querier.on(&lane).part(request)?;
        let held = frames.inspect(move |_| {
            let _ = &place;
        });
        Ok(held.boxed())
    }

    /// Where a query of a class computes.
    pub fn lane(&self, class: Class) -> Lane {
        self.class_threads.lane(class)
    }

    /// What queries and merges used of the processors.
    pub fn class_times(&self) -> &Arc<ClassTimes> {
        self.class_threads.times()
    }

    /// Writes a request. A large body is read on threads of its own.
    ///
    /// # Errors
    /// Those of the ingester; "later" also when too many large bodies wait to be read.
    pub async fn write(&self, request: WriteRequest) -> Result<WriteOutcome, IngestError> {
        let ingester = self.ingester().map_err(IngestError::unavailable)?;
        if !decode_threads::is_large(&request) {
            return ingester.write(request).await;
        }
        let ingester = Arc::clone(ingester);
        let written = self
            .decode_threads
            .run(async move { ingester.write(request).await });
        written
            .await
            .unwrap_or_else(|error| Err(decode_threads::refusal(error)))
    }

    /// What takes writes.
    ///
    /// # Errors
    /// If the process has another role; it names those that have this one.
    pub fn ingester(&self) -> Result<&Arc<Ingester>, MissingRole> {
        let missing = || self.missing(Roles::INGEST, "takes no writes");
        self.ingester.as_ref().ok_or_else(missing)
    }

    /// What answers queries.
    ///
    /// # Errors
    /// If the process has another role.
    pub fn querier(&self) -> Result<&Arc<Querier>, MissingRole> {
        match self.cluster.roles().has(Roles::QUERY) {
            true => Ok(&self.querier),
            false => Err(self.missing(Roles::QUERY, "answers no queries")),
        }
    }

    /// What merges segments.
    ///
    /// # Errors
    /// If the process has another role.
    pub fn compactor(&self) -> Result<&Arc<Compactor>, MissingRole> {
        let missing = || self.missing(Roles::COMPACT, "merges nothing");
        self.compactor.as_ref().ok_or_else(missing)
    }

    fn missing(&self, role: Roles, what: &'static str) -> MissingRole {
        MissingRole {
            roles: self.cluster.roles(),
            role,
            what,
            others: self.cluster.who_has(role),
        }
    }

    /// The other processes of the store.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// What there is.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Over empty memory, for tests of handlers.
    #[cfg(test)]
    pub async fn in_memory() -> Self {
        let config = Config {
            store: Some("memory:".into()),
            ..Config::default()
        };
        let memory = crate::node::memory::budget(&config);
        Self::open_alone(&config, &memory)
            .await
            .expect("memory always opens")
    }
}

/// Writes the catalog's log as JSON lines.
pub async fn dump_catalog(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let store = open_store_to_read(config)?;
    let mut failed = None;
    tidelake_catalog::dump::dump(&store, |record| {
        if failed.is_none() {
            failed = writeln!(out, "{record}").err();
        }
    })
    .await?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}
