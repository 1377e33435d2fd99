//! Settings: documented defaults, overridden by a TOML file, by `TIDELAKE_*` variables, and by
//! flags, in this order.
//!
//! Keys in the file are the flags' names with underscores (`max_body_bytes = 10485760`). A key that
//! does not exist is an error that names it: a misspelt limit that silently does nothing is worse
//! than a server that does not start. Variables that do not exist are ignored, because other
//! programs may use the prefix too.
//!
//! A setting is a field of [`Config`] and one of [`ConfigArgs`] (`args`). `check` has its bounds.
mod args;
mod check;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidelake_catalog::segment::ValueLayout;

pub use self::args::ConfigArgs;
pub use self::store::StoreLocation;
use crate::otlp::{OtlpDelta, OtlpTranslationStrategy};

/// All settings, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder that holds everything when `store` is not given.
    pub data_dir: PathBuf,
    /// `s3://bucket/prefix`, `memory:` or a path; takes precedence over `data_dir`.
    pub store: Option<String>,
    /// URL of an S3-compatible server; AWS itself when not given.
    pub s3_endpoint: Option<String>,
    /// Whether the S3 endpoint may be plain HTTP.
    pub s3_allow_http: bool,
    /// Address and port of the HTTP server.
    pub listen: String,
    /// Address and port of PostgreSQL's protocol; empty is none. Without a value: 127.0.0.1:5433,
    /// if that is free.
    pub pg_listen: Option<String>,
    /// Name of this process on the store. Two processes with one name fence each other: the later
    /// one wins.
    pub node: String,
    /// What this process does: a list of ingest, query and compact.
    pub roles: String,
    /// Where other processes of the store reach this one. Without a value: where it listens.
    pub advertise: Option<String>,
    /// A node that has not answered nor changed its lease for so long is taken as dead: another
    /// adopts its log. Shorter: queries are whole sooner; longer: pauses of a process cost nothing.
    pub lease_ms: u64,
    /// Log filter in the syntax of `RUST_LOG`, which counts when this is not set.
    pub log: String,
    /// Memory of the process, divided into shares as `catalog::memory` has it. Without a value: 60
    /// percent of what the control group or the machine has.
    pub memory_bytes: Option<usize>,
    /// Largest body of a line protocol write, also after decompression. Larger ones cost clients a
    /// split, smaller ones cost memory less.
    pub max_body_bytes: usize,
    /// Largest body of a remote write, also after decompression. Prometheus' receivers use 32 MiB.
    pub max_remote_write_bytes: usize,
    /// Request bodies held at once by all connections together; more wait for a moment and then
    /// get 503.
    pub max_inflight_body_bytes: usize,
    /// Databases that writes may create; 0 is no limit. Each is in the memory of every process and
    /// in every checkpoint. Those that are there go on beyond it.
    pub max_databases: usize,
    /// Whether a write to a database that does not exist makes it. If not, it gets 404, as by
    /// InfluxDB 1.x, and databases are made by `CREATE DATABASE` or `/api/v3/configure/database`.
    pub auto_create_databases: bool,
    /// Tables that writes may create in all databases together, one a measurement; 0 is no limit.
    /// Each has two files a day at least, and its rows are flushed and merged apart from those of
    /// others.
    pub max_tables: usize,
    /// Tags and fields of a table of line protocol; 0 is no limit. Each is a column of every file.
    pub max_columns: usize,
    /// Metric families of a database of which type, help and unit are kept; 0 is no limit. Samples
    /// of others are taken all the same.
    pub max_metric_families: usize,
    /// Labels of a series, with its name, and tags of a line; 0 is no limit. More are an error of
    /// their sender, as a rule.
    pub max_labels_per_series: u32,
    /// Bytes of a label's or tag's name; 0 is no limit. Names of tags, fields and measurements have
    /// at most 1024 bytes in any case.
    pub max_label_name_bytes: u32,
    /// Bytes of a label's or tag's value, such as the name of a metric; 0 is no limit. All tags of
    /// a line have at most 65535 bytes in any case.
    pub max_label_value_bytes: u32,
    /// Rows held in memory before they become segments; when it is full, writes get 503.
    pub buffer_bytes: usize,
    /// Age at which buffered rows become segments. Shorter: more, smaller files; longer: more WAL
    /// to replay.
    pub flush_interval_ms: u64,
    /// Shortest time between two WAL objects; 0 commits as soon as the previous one is durable.
    /// Without a value: 0 on a folder, 250 on S3, where every object is a request that costs
    /// money.
    pub wal_interval_ms: Option<u64>,
    /// Queries that run at once.
    pub max_concurrent_queries: usize,
    /// How long a query waits for its turn before it gets 503.
    pub query_queue_ms: u64,
    /// A query fails after this time. As long may a large answer take to be read.
    pub query_timeout_ms: u64,
    /// Longest time in which a client takes nothing of its answer (of a large one: less than 64 kB)
    /// before its query and its connection end. Shorter: stalled clients keep slots and memory of
    /// queries for less long; longer: slow networks are waited for.
    pub write_timeout_ms: u64,
    /// Connections that are open at a time; more are answered 503 and closed. Without a value: as
    /// many as the limit of open files leaves beside those of the store.
    pub max_connections: Option<usize>,
    /// The same of one address. Without a value: half of all.
    pub max_connections_per_peer: Option<usize>,
    /// How long a connection may wait for a request before it is closed. Longer than clients keep
    /// idle connections, so that they close them.
    pub idle_timeout_ms: u64,
    /// How long the head of a request may take from its first byte on.
    pub head_timeout_ms: u64,
    /// Longest time in which less than 1 KiB of a request's body comes.
    pub body_timeout_ms: u64,
    /// Names of this server beside addresses and private names. Requests that may change something
    /// have to name such a host, and web pages of these hosts may make them.
    pub allowed_hosts: Vec<String>,
    /// Whether requests have to show a token, which says what they may do. The first start makes
    /// one that allows everything and writes it to `admin_token_file`.
    pub auth: bool,
    /// Where the first start with `auth` writes its token, readable by its owner only; if the file
    /// is there, the token in it is used, as text or in the form of InfluxDB 3's
    /// `--admin-token-file`. Without a value: `admin-token` in `data_dir`.
    pub admin_token_file: Option<PathBuf>,
    /// Certificate chain for TLS, in PEM. It is read again when it changes.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// Certificates of the authorities whose clients may connect, in PEM; others are turned away.
    /// With `auth`, the DNS name in a client's certificate stands for the token of that name.
    pub tls_client_ca: Option<PathBuf>,
    /// Listen on addresses that other machines reach, though anybody there may read, change and
    /// delete everything.
    pub insecure_no_auth: bool,
    /// A PromQL query fails when it would hold more samples at once.
    pub max_query_samples: u64,
    /// A PromQL query fails when one of its selectors matches more series.
    pub max_query_series: usize,
    /// A query fails when it would read more bytes from the store, SQL or PromQL. What the index
    /// cache holds does not count.
    pub max_query_read_bytes: u64,
    /// Queriers compute parts of large aggregations, each of so many rows or more.
    pub distributed_query_rows: u64,
    /// Whether PromQL takes what Prometheus takes only with a feature flag: experimental functions
    /// and aggregations, duration expressions, `anchored` and `smoothed`, `fill`, metric names
    /// that are removed at the end of a query only.
    pub promql_experimental: bool,
    /// Memory that all queries may use together, if it is less than their share of `memory_bytes`
    /// leaves.
    pub query_memory_bytes: Option<usize>,
    /// Memory that one query may use, its answer included. Without a value: what queries are always
    /// granted, a fifth of `memory_bytes`.
    pub max_query_memory_bytes: Option<usize>,
    /// Whether answers may leave out segments that are damaged, with a warning, where a request
    /// does not say. Otherwise the query fails.
    pub allow_partial_results: bool,
    /// Memory for pages of data, series indexes and footers of segments. What does not fit is read
    /// again from the store. Without a value: what their share of `memory_bytes` leaves.
    pub index_cache_bytes: Option<usize>,
    /// Folder for what was read of segments, so that it is asked of the store once. Without a
    /// value: `cache` and the node's name in `data_dir` if the store is S3, and none otherwise.
    pub cache_dir: Option<PathBuf>,
    /// What may be kept there; 0 is nothing.
    pub cache_bytes: u64,
    /// What a million read requests to the store cost, in dollars, as plans show it.
    pub store_dollars_per_million_reads: f64,
    /// How long the files of a merged segment stay before they are deleted: longer than any query
    /// runs.
    pub gc_grace_ms: u64,
    /// How far back `AS OF` reaches. What is deleted or merged takes space on the store for so
    /// long.
    pub time_travel_window_ms: u64,
    /// Segments of one table and day that may wait to be merged; writes get 503 beyond it. Merging
    /// takes up to 64 at a time, and some 60 of a few sizes are left on purpose, so 256 is far
    /// behind.
    pub max_fresh_segments: usize,
    /// How this process writes merged files of metrics: any engine reads plain ones as they are,
    /// decimal ones are smaller.
    pub value_layout: ValueLayout,
    /// How far back an instant selector looks for a sample.
    pub lookback_ms: u64,
    /// What becomes of the names of metrics and attributes of OTLP.
    pub otlp_translation_strategy: OtlpTranslationStrategy,
    /// Attributes of OTLP's resources that become labels of all their series. Others are in
    /// `target_info`, so that series stay the same when they change.
    pub otlp_promote_resource_attributes: Vec<String>,
    /// Whether all of them become labels.
    pub otlp_promote_all_resource_attributes: bool,
    /// Those that do not, if all others do.
    pub otlp_ignore_resource_attributes: Vec<String>,
    /// Whether `target_info` has `service.name`, `service.namespace` and `service.instance.id` too,
    /// of which `job` and `instance` are made.
    pub otlp_keep_identifying_resource_attributes: bool,
    /// Whether OTLP's histograms with explicit bounds become native histograms with custom buckets.
    /// Otherwise each bucket is a series.
    pub otlp_convert_histograms_to_nhcb: bool,
    /// Whether name, version and attributes of OTLP's scopes become labels.
    pub otlp_promote_scope_metadata: bool,
    /// Whether type and unit of OTLP's metrics become the labels `__type__` and `__unit__`.
    pub otlp_type_and_unit_labels: bool,
    /// What becomes of OTLP's points that count since the point before.
    pub otlp_delta: OtlpDelta,
    /// How often the server measures itself, for the metrics of the database `_internal`; 0 is
    /// never. Shorter: more points and, on S3, more requests to the store.
    pub self_monitoring_interval_ms: u64,
    /// Time that running requests get to finish when the server stops.
    pub shutdown_timeout_ms: u64,
    /// How long to wait for a store that does not answer at start.
    pub startup_timeout_ms: u64,
    /// Start although acknowledged objects of the write-ahead log are gone or damaged; what they
    /// held is lost. Without it the server names them and does not start. For one start: what is
    /// lost is passed over for good then.
    pub accept_lost_wal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "./data".into(),
            store: None,
            s3_endpoint: None,
            s3_allow_http: false,
            listen: "127.0.0.1:7070".into(),
            pg_listen: None,
            node: "node-1".into(),
            roles: "ingest,query,compact".into(),
            advertise: None,
            lease_ms: 10_000,
            log: "info".into(),
            memory_bytes: None,
            max_body_bytes: 10 << 20,
            max_remote_write_bytes: 32 << 20,
            max_inflight_body_bytes: 256 << 20,
            max_databases: 1_000,
            auto_create_databases: true,
            max_tables: 10_000,
            max_columns: 2_000,
            max_metric_families: 100_000,
            max_labels_per_series: 512,
            max_label_name_bytes: 1024,
            max_label_value_bytes: 4096,
            buffer_bytes: 512 << 20,
            flush_interval_ms: 600_000,
            wal_interval_ms: None,
            max_concurrent_queries: 20,
            query_queue_ms: 10_000,
            query_timeout_ms: 120_000,
            write_timeout_ms: 30_000,
            max_connections: None,
            max_connections_per_peer: None,
            idle_timeout_ms: 600_000,
            head_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            allowed_hosts: Vec::new(),
            auth: false,
            admin_token_file: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            insecure_no_auth: false,
            max_query_samples: 50_000_000,
            max_query_series: 2_000_000,
            max_query_read_bytes: 64 << 30,
            distributed_query_rows: 1 << 23,
            promql_experimental: true,
            query_memory_bytes: None,
            max_query_memory_bytes: None,
            allow_partial_results: false,
            index_cache_bytes: None,
            cache_dir: None,
            cache_bytes: 10 << 30,
            store_dollars_per_million_reads: 0.4,
            gc_grace_ms: 300_000,
            time_travel_window_ms: 3_600_000,
            max_fresh_segments: 256,
            value_layout: ValueLayout::Plain,
            lookback_ms: 300_000,
            otlp_translation_strategy: OtlpTranslationStrategy::default(),
            otlp_promote_resource_attributes: Vec::new(),
            otlp_promote_all_resource_attributes: false,
            otlp_ignore_resource_attributes: Vec::new(),
            otlp_keep_identifying_resource_attributes: false,
            otlp_convert_histograms_to_nhcb: false,
            otlp_promote_scope_metadata: false,
            otlp_type_and_unit_labels: false,
            otlp_delta: OtlpDelta::default(),
            self_monitoring_interval_ms: 15_000,
            shutdown_timeout_ms: 30_000,
            startup_timeout_ms: 600_000,
            accept_lost_wal: false,
        }
    }
}

/// Settings that cannot be used; the text says which and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// Folder and size of the cache on disk; `None` if there is none.
    pub fn disk_cache(&self) -> Option<(PathBuf, u64)> {
        let is_remote = matches!(self.store_location(), Ok(StoreLocation::S3 { .. }));
        let directory = match &self.cache_dir {
            Some(directory) => directory.clone(),
            None if is_remote => self.data_dir.join("cache").join(&self.node),
            None => return None,
        };
        (self.cache_bytes > 0).then_some((directory, self.cache_bytes))
    }

    /// See [`Config::admin_token_file`].
    pub fn admin_token_path(&self) -> PathBuf {
        let given = self.admin_token_file.clone();
        given.unwrap_or_else(|| self.data_dir.join("admin-token"))
    }

    /// See [`Config::query_timeout_ms`].
    pub fn query_timeout(&self) -> Duration {
        Duration::from_millis(self.query_timeout_ms)
    }
}
