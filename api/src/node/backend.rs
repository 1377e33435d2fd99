//! The parts that serve requests, opened and put together, in the shapes that the handlers need.
//!
//! The ingester is used as it is. The querier and the compactor are wrapped: texts become
//! expressions here, and their errors the few kinds that a client can act on.
mod figures;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tidelake_catalog::background::supervised;
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_catalog::model::{Labels, METRICS_TABLE, Matcher, TimeRange};
use tidelake_catalog::panics;
use tidelake_catalog::segment::disk_cache::DiskCache;
use tidelake_catalog::segment::{ReadCounts, ReadMeter, SegmentError};
use tidelake_catalog::snapshot::{MetricMetadata, Snapshot};
use tidelake_catalog::store::bucket::Bucket;
use tidelake_catalog::{
    Catalog, CatalogError, CatalogOptions, NameLimits, Registration, Roles, S3Settings, Store,
    StoreError,
};
use tidelake_compactor::policy::Goal;
use tidelake_compactor::{CompactError, CompactorOptions};
use tidelake_ingest::wal::WalOptions;
use tidelake_ingest::write_clock::Orders;
use tidelake_ingest::{IngestOptions, LabelLimits};
use tidelake_querier::influxql::{Scope, Statement};
use tidelake_querier::labels::LabelError;
use tidelake_querier::lane::Lane;
use tidelake_querier::memory::QueryMemory;
use tidelake_querier::promql::exec::{self, EngineOptions, QueryParams};
use tidelake_querier::promql::parse::ast::Expr;
use tidelake_querier::promql::parse::{parse, parse_with};
use tidelake_querier::promql::source::{SelectLimits, SourceError};
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

use crate::cluster::adoption::adopt_the_dead;
use crate::cluster::parts::{self, ClusterWorkers, PartRefused};
use crate::cluster::recent_rows::ClusterRows;
use crate::cluster::{Cluster, ClusterError, OtherIngesters};
use crate::config::{Config, StoreLocation};
use crate::node::class_threads::{Class, ClassThreads, ClassTimes};
use crate::node::decode_threads::{self, DecodeThreads};
use crate::node::ingest_threads::IngestThreads;

/// Parts of queries of other processes that are computed at a time.
const PARTS_AT_ONCE: usize = 16;

/// The steps of a range query; an instant query has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// First step, in ms.
    pub start_ms: i64,
    /// No step is later, in ms.
    pub end_ms: i64,
    /// Distance, in ms, positive.
    pub step_ms: i64,
}

/// Limits and settings of one PromQL query.
#[derive(Debug, Clone)]
pub struct PromqlOptions {
    /// How far an instant selector looks back, in ms.
    pub lookback_ms: i64,
    /// The query fails after this time.
    pub timeout: Duration,
    /// The query fails when it would hold more samples.
    pub max_samples: u64,
    /// Damaged segments are left out, with a warning.
    pub partial: bool,
    /// The samples that each step looks at are counted.
    pub count_samples: bool,
}

/// Why a PromQL or metadata query failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The text or a parameter is wrong; `1:5: parse error: ...`.
    #[error("{0}")]
    BadData(String),
    /// The query is well-formed and cannot be answered.
    #[error("{0}")]
    Execution(String),
    /// It asks for more than a limit allows.
    #[error("{0}")]
    Limited(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// The store cannot be reached, or the server is busy.
    #[error("{0}")]
    Unavailable(String),
    /// A defect, or a damaged object.
    #[error("{0}")]
    Internal(String),
}

impl From<exec::QueryError> for QueryError {
    fn from(error: exec::QueryError) -> Self {
        let text = error.to_string();
        match error {
            exec::QueryError::BadData(_) => Self::BadData(text),
            exec::QueryError::Timeout => Self::Timeout(text),
            exec::QueryError::TooManySamples(_)
            | exec::QueryError::Memory(_)
            | exec::QueryError::Source(SourceError::Memory(_))
            | exec::QueryError::Source(SourceError::LimitExceeded(_)) => Self::Limited(text),
            exec::QueryError::Source(SourceError::Unavailable(_)) => Self::Unavailable(text),
            exec::QueryError::Source(SourceError::Corrupt { .. })
            | exec::QueryError::Divide(_)
            | exec::QueryError::Panicked(_) => Self::Internal(text),
            _ => Self::Execution(text),
        }
    }
}

impl From<SourceError> for QueryError {
    fn from(error: SourceError) -> Self {
        exec::QueryError::from(error).into()
    }
}

impl From<SegmentError> for QueryError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Unavailable { .. } => Self::Unavailable(error.to_string()),
            SegmentError::Memory(_) | SegmentError::ReadLimit(_) => {
                Self::Limited(error.to_string())
            }
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<LabelError> for QueryError {
    fn from(error: LabelError) -> Self {
        match error {
            LabelError::Segment(error) => error.into(),
            LabelError::Memory(error) => Self::Limited(error.to_string()),
            LabelError::Timeout => Self::Timeout(error.to_string()),
        }
    }
}

/// The read path.
#[derive(Debug)]
pub struct Querier(tidelake_querier::Querier);

/// Reads a selector such as `up{job="x"}`; the error names line and column.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, String> {
    match parse(text) {
        Ok(Expr::Vector(selector)) => Ok(selector.matchers),
        Ok(_) => Err(format!("{text:?} is not a series selector")),
        Err(error) => Err(error.to_string()),
    }
}

/// The matchers of all selectors of an expression; the error names line and column.
pub fn parse_selectors(text: &str) -> Result<Vec<Vec<Matcher>>, String> {
    let expr = parse(text).map_err(|error| error.to_string())?;
    Ok(expr
        .selectors()
        .into_iter()
        .map(|selector| selector.matchers.clone())
        .collect())
}

impl Querier {
    /// The exemplars of series that match any of the matcher sets, in the range; more than `limit`
    /// are an error.
    pub async fn exemplars(
        &self,
        db: &str,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        limit: u64,
        partial: bool,
    ) -> Result<Answer<Vec<SeriesExemplars>>, QueryError> {
        Ok(self
            .0
            .exemplars(db, matchers, range, limit, partial)
            .await?)
    }

    /// Evaluates a query at one time.
    pub async fn promql_instant(
        &self,
        db: &str,
        query: &str,
        time_ms: i64,
        options: &PromqlOptions,
    ) -> Result<QueryOutput, QueryError> {
        self.promql(db, query, QueryParams::instant(time_ms), options)
            .await
    }

    /// Evaluates a query at every step.
    pub async fn promql_range(
        &self,
        db: &str,
        query: &str,
        steps: Steps,
        options: &PromqlOptions,
    ) -> Result<QueryOutput, QueryError> {
        self.promql(
            db,
            query,
            QueryParams::range(steps.start_ms, steps.end_ms, steps.step_ms),
            options,
        )
        .await
    }

    async fn promql(
        &self,
        db: &str,
        query: &str,
        params: QueryParams,
        options: &PromqlOptions,
    ) -> Result<QueryOutput, QueryError> {
        let expr = self.parse(query)?;
        let params = QueryParams {
            lookback_delta_ms: Some(options.lookback_ms),
            ..params
        };
        let engine = self.engine(options);
        self.0
            .promql(db, &expr, query, params, &engine, options.partial)
            .await
            .map_err(|error| named(error, options.timeout))
    }

    /// Answers a statement of InfluxQL that reads. `now` is in ns since 1970.
    pub async fn influxql(
        &self,
        statement: &Statement,
        scope: &Scope<'_>,
        now: i64,
        partial: bool,
    ) -> Result<(InfluxqlAnswer, Vec<String>), InfluxqlError> {
        self.0.influxql(statement, scope, now, partial).await
    }

    fn parse(&self, query: &str) -> Result<Expr, QueryError> {
        let parsed = parse_with(query, self.0.promql_options().experimental);
        parsed.map_err(|error| QueryError::BadData(format!("invalid parameter \"query\": {error}")))
    }

    fn engine(&self, options: &PromqlOptions) -> EngineOptions {
        EngineOptions {
            timeout: options.timeout,
            max_samples: options.max_samples.min(self.0.promql_options().max_samples),
            count_samples: options.count_samples,
            ..self.0.promql_options().clone()
        }
    }

    /// How a query is evaluated, and if `analyze`, what each operator did. Without a distance of
    /// steps it is evaluated once.
    pub async fn promql_explain(
        &self,
        db: &str,
        query: &str,
        steps: Steps,
        options: &PromqlOptions,
        analyze: bool,
    ) -> Result<Explained, QueryError> {
        let expr = self.parse(query)?;
        let params = QueryParams::range(steps.start_ms, steps.end_ms, steps.step_ms);
        let params = QueryParams {
            lookback_delta_ms: Some(options.lookback_ms),
            ..params
        };
        let engine = self.engine(options);
        if !analyze {
            return Ok(exec::explain(&expr, params, &engine)?);
        }
        let explained = self
            .0
            .explain_analyze(db, &expr, query, params, &engine, options.partial)
            .await;
        explained.map_err(|error| named(error, options.timeout))
    }

    /// What all queries together have read so far.
    pub fn read_counts(&self) -> ReadCounts {
        self.0.read_counts()
    }

    /// Series that match any of the matcher sets and may have samples in the range; at most
    /// `limit`, 0 for all.
    pub async fn series(
        &self,
        db: &str,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        partial: bool,
    ) -> Result<Answer<Vec<Labels>>, QueryError> {
        Ok(cut(
            self.0.series(db, matchers, range, partial).await?,
            limit,
        ))
    }

    /// Sorted label names of those series.
    pub async fn label_names(
        &self,
        db: &str,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        partial: bool,
    ) -> Result<Answer<Vec<String>>, QueryError> {
        Ok(cut(
            self.0.label_names(db, matchers, range, partial).await?,
            limit,
        ))
    }

    /// Sorted values of one label of those series.
    pub async fn label_values(
        &self,
        db: &str,
        name: &str,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        partial: bool,
    ) -> Result<Answer<Vec<String>>, QueryError> {
        Ok(cut(
            self.0
                .label_values(db, name, matchers, range, partial)
                .await?,
            limit,
        ))
    }

    /// How many series may have samples in the range, and of what; rankings have at most `most`
    /// entries.
    pub async fn cardinality(
        &self,
        db: &str,
        range: TimeRange,
        most: usize,
        partial: bool,
    ) -> Result<Answer<Cardinality>, QueryError> {
        Ok(self.0.cardinality(db, range, most, partial).await?)
    }

    /// Metadata by metric family, sorted; of one family only when it is named.
    pub fn metadata(&self, db: &str, metric: Option<&str>) -> Vec<(String, MetricMetadata)> {
        let all = self.0.metadata(db);
        let wanted = all
            .iter()
            .filter(|(name, _)| metric.is_none_or(|metric| metric == &***name));
        wanted
            .map(|(name, metadata)| (name.to_string(), metadata.clone()))
            .collect()
    }

    /// Series that match, with their samples in the range (milliseconds), in the order of their
    /// labels.
    pub async fn sorted_samples(
        &self,
        db: &str,
        matchers: &[Matcher],
        range: TimeRange,
        max_samples: u64,
    ) -> Result<SortedSamples, QueryError> {
        let options = self.0.promql_options();
        let limits = SelectLimits {
            max_series: options.max_series,
        };
        let tables = self
            .0
            .tables()
            .counted(&ReadMeter::new(options.max_read_bytes, Vec::new()));
        let pool = options.memory.pool();
        let samples =
            SortedSamples::select(tables, db, matchers, range, limits, max_samples, pool).await?;
        Ok(samples)
    }

    /// Looks at a SQL text: does it read, and as of when.
    pub fn read_sql(&self, sql: &str) -> Result<SqlText, SqlError> {
        self.0.read_sql(sql)
    }

    /// Runs one SQL statement; `params` fill `$name` placeholders. `held` is dropped when all that
    /// computes for the query has ended.
    pub async fn sql(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
        partial: bool,
        held: Option<Held>,
    ) -> Result<SqlAnswer, SqlError> {
        self.0.sql(db, text, params, partial, held).await
    }

    /// What a SQL statement takes and answers.
    pub async fn sql_outline(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<SqlOutline, SqlError> {
        self.0.sql_outline(db, text, params).await
    }

    /// What a statement of a client of PostgreSQL takes and answers.
    pub async fn describe_sql(&self, db: &str, text: SqlText) -> Result<Description, SqlError> {
        self.0.describe_sql(db, text).await
    }

    /// What a SQL statement wants to have changed.
    pub async fn sql_command(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<Command, SqlError> {
        self.0.sql_command(db, text, params).await
    }

    /// The same for a query that computes on other threads.
    pub fn on(&self, lane: &Lane) -> Self {
        Self(self.0.on(lane))
    }

    /// The same for queries that may read and hold less.
    pub fn limited(&self, max_read_bytes: u64, max_samples: u64) -> Self {
        Self(self.0.limited(max_read_bytes, max_samples))
    }

    /// What there is to read.
    pub(crate) fn tables(&self) -> &Tables {
        self.0.tables()
    }

    /// Most samples that a query may hold.
    pub fn max_samples(&self) -> u64 {
        self.0.promql_options().max_samples
    }

    /// The same tables in another state.
    pub fn at(&self, snapshot: Arc<Snapshot>) -> Self {
        Self(self.0.at(snapshot))
    }

    /// Whether a selector selects samples that were sent as such.
    pub async fn has_samples(
        &self,
        db: &str,
        selector: &[Matcher],
        range: TimeRange,
    ) -> Result<bool, QueryError> {
        Ok(!self
            .0
            .tables()
            .series(db, METRICS_TABLE, selector, range)
            .await?
            .is_empty())
    }

    /// A wide table of which a selector selects a field, and the name of that as a metric.
    pub async fn selected_field(
        &self,
        db: &str,
        selector: &[Matcher],
        range: TimeRange,
    ) -> Result<Option<(String, String)>, QueryError> {
        Ok(tidelake_querier::labels::selected_field(self.0.tables(), db, selector, range).await?)
    }
}

/// Prometheus' words, and which limit it was.
fn named(error: exec::QueryError, timeout: Duration) -> QueryError {
    match error {
        exec::QueryError::Timeout => QueryError::Timeout(format!(
            "{error} (limit {} ms, setting query_timeout_ms or parameter timeout)",
            timeout.as_millis()
        )),
        error => error.into(),
    }
}

fn cut<T>(mut found: Answer<Vec<T>>, limit: usize) -> Answer<Vec<T>> {
    if limit > 0 {
        found.value.truncate(limit);
    }
    found
}

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

/// Replays the node's log, while the other processes get to know this one.
async fn start_ingester(
    config: &Config,
    memory: &Arc<MemoryBudget>,
    catalog: &Arc<Catalog>,
    cluster: &Arc<Cluster>,
    threads: &IngestThreads,
) -> Result<Arc<Ingester>, OpenError> {
    let options = IngestOptions {
        orders: Some(Orders {
            clock: Arc::clone(cluster.clock()),
            peers: Arc::new(OtherIngesters(Arc::clone(cluster))),
        }),
        ..ingest_options(config, memory)
    };
    let (weak, of_others) = (Arc::downgrade(cluster), options.clone());
    threads.spawn(supervised("adoption", move || {
        adopt_the_dead(weak.clone(), of_others.clone())
    }));
    let started = threads.run(Ingester::start(Arc::clone(catalog), options));
    let (started, ()) = tokio::join!(started, cluster.until_known());
    let ingester = started
        .map_err(|error| OpenError::Fatal(format!("the ingester did not start: {error}")))??;
    cluster.serve_rows_of(&ingester);
    Ok(ingester)
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
    /// Opens the store, loads the catalog and registers the process, which others reach at `address`.
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
                Some(start_ingester(config, memory, &catalog, &cluster, &ingest_threads).await?)
            }
            false => None,
        };
        let rows = ClusterRows::new(ingester.clone(), Arc::clone(&cluster), memory);
        let recent = Arc::new(rows);
        let disk = disk_cache(config).await;
        let request_price = config.store_dollars_per_million_reads / 1e6;
        let rows = Arc::clone(&recent);
        let tables = Tables::new(Arc::clone(&catalog), store, recent, memory, disk)
            .with_request_price(request_price);
        let threads = ClassThreads::start().map_err(|e| no_threads("queries", e))?;
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
        let frames = self.querier.0.on(&lane).part(request)?;
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
