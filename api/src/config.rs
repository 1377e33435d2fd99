//! Settings: documented defaults, overridden by a TOML file, by `TIDELAKE_*` variables, and by
//! flags, in this order.
//!
//! Keys in the file are the flags' names with underscores (`max_body_bytes = 10485760`). A key that
//! does not exist is an error that names it: a misspelt limit that silently does nothing is worse
//! than a server that does not start. Variables that do not exist are ignored, because other
//! programs may use the prefix too.
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use tidelake_catalog::segment::ValueLayout;
use tidelake_compactor::policy::MAX_INPUTS;

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
    /// Address and port of PostgreSQL's protocol; empty is none. Without a value: 127.0.0.1:5433, if
    /// that is free.
    pub pg_listen: Option<String>,
    /// Name of this process on the store. Two processes with one name fence each other: the later
    /// one wins.
    pub node: String,
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
    /// Connections that are open at a time; more are answered 503 and closed. Without a value: as many
    /// as the limit of open files leaves beside those of the store.
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
    /// Whether requests have to show a token, which says what they may do. The first start makes one
    /// that allows everything and writes it to `admin_token_file`.
    pub auth: bool,
    /// Where the first start with `auth` writes its token, readable by its owner only; if the file is
    /// there, the token in it is used, as text or in the form of InfluxDB 3's `--admin-token-file`.
    /// Without a value: `admin-token` in `data_dir`.
    pub admin_token_file: Option<PathBuf>,
    /// Certificate chain for TLS, in PEM. It is read again when it changes.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// Certificates of the authorities whose clients may connect, in PEM; others are turned away. With
    /// `auth`, the DNS name in a client's certificate stands for the token of that name.
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
    /// Folder for what was read of segments, so that it is asked of the store once. Without a value:
    /// `cache` and the node's name in `data_dir` if the store is S3, and none otherwise.
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
    /// How often the server measures itself, for the metrics of the database `_internal`; 0 is never.
    /// Shorter: more points and, on S3, more requests to the store.
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

/// Where the durable state lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A folder of the local file system.
    Folder(PathBuf),
    /// An S3 bucket and a prefix in it, perhaps empty.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Prefix of all keys, without slashes at its ends.
        prefix: String,
    },
    /// The memory of this process.
    Memory,
}

impl std::fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(
                f,
                "{}",
                std::path::absolute(path)
                    .unwrap_or_else(|_| path.clone())
                    .display()
            ),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Memory => f.write_str("memory only: they are gone when the process ends"),
        }
    }
}

/// Settings that cannot be used; the text says which and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// The settings as flags and variables; what is not given stays out.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct ConfigArgs {
    /// TOML file with settings; keys are the flags' names with underscores
    #[arg(long, env = "TIDELAKE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Folder for all data [default: ./data]
    #[arg(long, env = "TIDELAKE_DATA_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// s3://bucket/prefix, memory: or a path, instead of --data-dir
    #[arg(long, env = "TIDELAKE_STORE", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// URL of an S3-compatible server (keys and region come from AWS_* variables)
    #[arg(long, env = "TIDELAKE_S3_ENDPOINT", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_endpoint: Option<String>,
    /// Allow a plain HTTP S3 endpoint
    #[arg(
        long,
        env = "TIDELAKE_S3_ALLOW_HTTP",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_allow_http: Option<bool>,
    /// Address and port of the HTTP server [default: 127.0.0.1:7070]
    #[arg(long, env = "TIDELAKE_LISTEN", value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Address and port of PostgreSQL's protocol; empty is none [default: 127.0.0.1:5433, if free]
    #[arg(long, env = "TIDELAKE_PG_LISTEN", value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pg_listen: Option<String>,
    /// Name of this process on the store [default: node-1]
    #[arg(long, env = "TIDELAKE_NODE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Log filter, as in RUST_LOG [default: info]
    #[arg(long, env = "TIDELAKE_LOG", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Memory of the process [default: 60 % of what the control group or the machine has]
    #[arg(long, env = "TIDELAKE_MEMORY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<usize>,
    /// Largest line protocol body, also after decompression [default: 10485760]
    #[arg(long, env = "TIDELAKE_MAX_BODY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<usize>,
    /// Largest remote write body, also after decompression [default: 33554432]
    #[arg(long, env = "TIDELAKE_MAX_REMOTE_WRITE_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_remote_write_bytes: Option<usize>,
    /// Request bodies held at once by all connections [default: 268435456]
    #[arg(long, env = "TIDELAKE_MAX_INFLIGHT_BODY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_inflight_body_bytes: Option<usize>,
    /// Databases that writes may create, 0 without a limit [default: 1000]
    #[arg(long, env = "TIDELAKE_MAX_DATABASES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_databases: Option<usize>,
    /// Make databases by the first write to them [default: true]
    #[arg(
        long,
        env = "TIDELAKE_AUTO_CREATE_DATABASES",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_create_databases: Option<bool>,
    /// Tables that writes may create in all databases, 0 without a limit [default: 10000]
    #[arg(long, env = "TIDELAKE_MAX_TABLES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tables: Option<usize>,
    /// Tags and fields of a table, 0 without a limit [default: 2000]
    #[arg(long, env = "TIDELAKE_MAX_COLUMNS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_columns: Option<usize>,
    /// Metric families of a database with metadata, 0 without a limit [default: 100000]
    #[arg(long, env = "TIDELAKE_MAX_METRIC_FAMILIES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_metric_families: Option<usize>,
    /// Labels of a series, or tags of a line, 0 without a limit [default: 512]
    #[arg(long, env = "TIDELAKE_MAX_LABELS_PER_SERIES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_labels_per_series: Option<u32>,
    /// Bytes of a label's name, 0 without a limit [default: 1024]
    #[arg(long, env = "TIDELAKE_MAX_LABEL_NAME_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_label_name_bytes: Option<u32>,
    /// Bytes of a label's value, 0 without a limit [default: 4096]
    #[arg(long, env = "TIDELAKE_MAX_LABEL_VALUE_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_label_value_bytes: Option<u32>,
    /// Rows held in memory before writes get 503 [default: 536870912]
    #[arg(long, env = "TIDELAKE_BUFFER_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_bytes: Option<usize>,
    /// Age at which buffered rows become segments [default: 600000]
    #[arg(long, env = "TIDELAKE_FLUSH_INTERVAL_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_interval_ms: Option<u64>,
    /// Shortest time between two WAL objects [default: 0 on a folder, 250 on S3]
    #[arg(long, env = "TIDELAKE_WAL_INTERVAL_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_interval_ms: Option<u64>,
    /// Queries that run at once [default: 20]
    #[arg(long, env = "TIDELAKE_MAX_CONCURRENT_QUERIES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_queries: Option<usize>,
    /// How long a query waits for its turn before it gets 503 [default: 10000]
    #[arg(long, env = "TIDELAKE_QUERY_QUEUE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_queue_ms: Option<u64>,
    /// A query fails after this time [default: 120000]
    #[arg(long, env = "TIDELAKE_QUERY_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_timeout_ms: Option<u64>,
    /// How long a client may take nothing of its answer [default: 30000]
    #[arg(long, env = "TIDELAKE_WRITE_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_timeout_ms: Option<u64>,
    /// Connections that are open at a time [default: what the limit of open files leaves]
    #[arg(long, env = "TIDELAKE_MAX_CONNECTIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// Connections of one address [default: half of max_connections]
    #[arg(long, env = "TIDELAKE_MAX_CONNECTIONS_PER_PEER", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_peer: Option<usize>,
    /// How long a connection may wait for a request [default: 600000]
    #[arg(long, env = "TIDELAKE_IDLE_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// How long the head of a request may take [default: 10000]
    #[arg(long, env = "TIDELAKE_HEAD_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_timeout_ms: Option<u64>,
    /// How long less than 1 KiB of a body may take [default: 30000]
    #[arg(long, env = "TIDELAKE_BODY_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_timeout_ms: Option<u64>,
    /// Names of this server beside addresses and private names, with commas between them
    #[arg(
        long,
        env = "TIDELAKE_ALLOWED_HOSTS",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_hosts: Option<Vec<String>>,
    /// Requests have to show a token; the first start makes one [default: false]
    #[arg(
        long,
        env = "TIDELAKE_AUTH",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<bool>,
    /// Where the first token is written, or read from [default: admin-token in the data folder]
    #[arg(long, env = "TIDELAKE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// Certificate chain for TLS, in PEM
    #[arg(long, env = "TIDELAKE_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, env = "TIDELAKE_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Authorities whose clients may connect, in PEM
    #[arg(long, env = "TIDELAKE_TLS_CLIENT_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_client_ca: Option<PathBuf>,
    /// Listen where other machines reach the server, though anybody may change everything
    #[arg(
        long,
        env = "TIDELAKE_INSECURE_NO_AUTH",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_no_auth: Option<bool>,
    /// A PromQL query fails when it would hold more samples [default: 50000000]
    #[arg(long, env = "TIDELAKE_MAX_QUERY_SAMPLES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_query_samples: Option<u64>,
    /// A PromQL query fails when a selector matches more series [default: 2000000]
    #[arg(long, env = "TIDELAKE_MAX_QUERY_SERIES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_query_series: Option<usize>,
    /// A query fails when it would read more bytes from the store [default: 68719476736]
    #[arg(long, env = "TIDELAKE_MAX_QUERY_READ_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_query_read_bytes: Option<u64>,
    /// Take what is experimental in PromQL [default: true]
    #[arg(
        long,
        env = "TIDELAKE_PROMQL_EXPERIMENTAL",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promql_experimental: Option<bool>,
    /// Memory that all queries may use together [default: their share of --memory-bytes]
    #[arg(long, env = "TIDELAKE_QUERY_MEMORY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_memory_bytes: Option<usize>,
    /// Memory that one query may use [default: a fifth of --memory-bytes]
    #[arg(long, env = "TIDELAKE_MAX_QUERY_MEMORY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_query_memory_bytes: Option<usize>,
    /// Leave damaged segments out of answers, with a warning, instead of failing [default: false]
    #[arg(
        long,
        env = "TIDELAKE_ALLOW_PARTIAL_RESULTS",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_partial_results: Option<bool>,
    /// Memory for pages of data, series indexes and footers [default: their share of --memory-bytes]
    #[arg(long, env = "TIDELAKE_INDEX_CACHE_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_cache_bytes: Option<usize>,
    /// Folder for what was read of an S3 store [default: cache/NODE in the data folder]
    #[arg(long, env = "TIDELAKE_CACHE_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
    /// What may be kept there; 0 is nothing [default: 10 GiB]
    #[arg(long, env = "TIDELAKE_CACHE_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    /// What a million read requests cost, as plans show it [default: 0.4]
    #[arg(
        long,
        env = "TIDELAKE_STORE_DOLLARS_PER_MILLION_READS",
        value_name = "DOLLARS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_dollars_per_million_reads: Option<f64>,
    /// How long the files of a merged segment stay
    #[arg(long, env = "TIDELAKE_GC_GRACE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_grace_ms: Option<u64>,
    /// How far back AS OF reaches [default: 3600000]
    #[arg(long, env = "TIDELAKE_TIME_TRAVEL_WINDOW_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_travel_window_ms: Option<u64>,
    /// Segments of a table and day that wait to be merged before writes get 503 [default: 256]
    #[arg(long, env = "TIDELAKE_MAX_FRESH_SEGMENTS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fresh_segments: Option<usize>,
    /// How merged files of metrics hold values: plain (DOUBLE) or decimal (split where that is
    /// smaller) [default: plain]
    #[arg(long, env = "TIDELAKE_VALUE_LAYOUT", value_name = "LAYOUT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_layout: Option<ValueLayout>,
    /// How far back an instant selector looks [default: 300000]
    #[arg(long, env = "TIDELAKE_LOOKBACK_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookback_ms: Option<u64>,
    /// Names of OTLP's metrics and attributes [default: UnderscoreEscapingWithSuffixes]
    #[arg(
        long,
        env = "TIDELAKE_OTLP_TRANSLATION_STRATEGY",
        value_name = "STRATEGY"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_translation_strategy: Option<OtlpTranslationStrategy>,
    /// Attributes of OTLP's resources that become labels, with commas between them
    #[arg(
        long,
        env = "TIDELAKE_OTLP_PROMOTE_RESOURCE_ATTRIBUTES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_promote_resource_attributes: Option<Vec<String>>,
    /// All attributes of OTLP's resources become labels [default: false]
    #[arg(
        long,
        env = "TIDELAKE_OTLP_PROMOTE_ALL_RESOURCE_ATTRIBUTES",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_promote_all_resource_attributes: Option<bool>,
    /// Attributes that do not, if all others do, with commas between them
    #[arg(
        long,
        env = "TIDELAKE_OTLP_IGNORE_RESOURCE_ATTRIBUTES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_ignore_resource_attributes: Option<Vec<String>>,
    /// target_info has the attributes that job and instance are made of [default: false]
    #[arg(
        long,
        env = "TIDELAKE_OTLP_KEEP_IDENTIFYING_RESOURCE_ATTRIBUTES",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_keep_identifying_resource_attributes: Option<bool>,
    /// OTLP's histograms become native ones with custom buckets [default: false]
    #[arg(
        long,
        env = "TIDELAKE_OTLP_CONVERT_HISTOGRAMS_TO_NHCB",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_convert_histograms_to_nhcb: Option<bool>,
    /// Name, version and attributes of OTLP's scopes become labels [default: false]
    #[arg(
        long,
        env = "TIDELAKE_OTLP_PROMOTE_SCOPE_METADATA",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_promote_scope_metadata: Option<bool>,
    /// Type and unit of OTLP's metrics become labels [default: false]
    #[arg(
        long,
        env = "TIDELAKE_OTLP_TYPE_AND_UNIT_LABELS",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_type_and_unit_labels: Option<bool>,
    /// OTLP's points that count since the point before [default: refuse]
    #[arg(long, env = "TIDELAKE_OTLP_DELTA", value_name = "WAY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_delta: Option<OtlpDelta>,
    /// How often the server measures itself, 0 for never [default: 15000]
    #[arg(long, env = "TIDELAKE_SELF_MONITORING_INTERVAL_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_monitoring_interval_ms: Option<u64>,
    /// Time that running requests get when the server stops [default: 30000]
    #[arg(long, env = "TIDELAKE_SHUTDOWN_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_timeout_ms: Option<u64>,
    /// How long to wait for a store that does not answer at start [default: 600000]
    #[arg(long, env = "TIDELAKE_STARTUP_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_timeout_ms: Option<u64>,
    /// Start although acknowledged objects of the write-ahead log are gone; what they held is lost
    /// [default: false]
    #[arg(
        long,
        env = "TIDELAKE_ACCEPT_LOST_WAL",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_lost_wal: Option<bool>,
}

impl ConfigArgs {
    /// Puts flags and variables over the file over the defaults, and checks the result.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path).map_err(|e| {
                ConfigError(format!("cannot read --config {}: {e}", path.display()))
            })?;
            figment = figment.merge(Toml::string(&text));
        }
        let named = |path: &Option<PathBuf>| {
            path.as_deref()
                .map_or(String::new(), |p: &Path| format!("{}: ", p.display()))
        };
        let config: Config = figment
            .merge(Serialized::defaults(self))
            .extract()
            .map_err(|e| {
                ConfigError(format!(
                    "{}{}",
                    named(&self.config),
                    e.to_string().trim_end()
                ))
            })?;
        config.check()?;
        Ok(config)
    }
}

/// Shortest time between two measurements of the server by itself, in milliseconds.
const MIN_SELF_MONITORING_MS: u64 = 100;

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("max_body_bytes", self.max_body_bytes as u64),
            ("max_remote_write_bytes", self.max_remote_write_bytes as u64),
            ("buffer_bytes", self.buffer_bytes as u64),
            ("flush_interval_ms", self.flush_interval_ms),
            ("max_concurrent_queries", self.max_concurrent_queries as u64),
            ("query_timeout_ms", self.query_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            (
                "max_connections",
                self.max_connections.map_or(1, |n| n as u64),
            ),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("head_timeout_ms", self.head_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("max_query_samples", self.max_query_samples),
            ("max_query_series", self.max_query_series as u64),
            ("max_query_read_bytes", self.max_query_read_bytes),
            ("lookback_ms", self.lookback_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError(format!("{name} must be greater than 0")));
        }
        if (1..MIN_SELF_MONITORING_MS).contains(&self.self_monitoring_interval_ms) {
            return Err(ConfigError(format!(
                "self_monitoring_interval_ms must be 0, which turns it off, or at least \
                 {MIN_SELF_MONITORING_MS}"
            )));
        }
        let largest = self.max_body_bytes.max(self.max_remote_write_bytes);
        if self.max_inflight_body_bytes < largest {
            return Err(ConfigError(format!(
                "max_inflight_body_bytes must be at least {largest}, the size of the largest body \
                 allowed"
            )));
        }
        if self.gc_grace_ms <= self.query_timeout_ms {
            return Err(ConfigError(format!(
                "gc_grace_ms ({}) must be greater than query_timeout_ms ({}): a query could still \
                 need a file that is deleted",
                self.gc_grace_ms, self.query_timeout_ms
            )));
        }
        if self.max_fresh_segments < MAX_INPUTS {
            return Err(ConfigError(format!(
                "max_fresh_segments must be at least {MAX_INPUTS}: fewer may rest without being \
                 merged"
            )));
        }
        let (all, names) = (
            self.otlp_promote_all_resource_attributes,
            &self.otlp_promote_resource_attributes,
        );
        if all && !names.is_empty() {
            return Err(ConfigError(
                "otlp_promote_all_resource_attributes and otlp_promote_resource_attributes \
                 exclude each other: give one of them"
                    .into(),
            ));
        }
        if !all && !self.otlp_ignore_resource_attributes.is_empty() {
            return Err(ConfigError(
                "otlp_ignore_resource_attributes needs otlp_promote_all_resource_attributes: \
                 without it only named attributes become labels"
                    .into(),
            ));
        }
        crate::otlp::settings(self)
            .head()
            .map_err(|error| ConfigError(format!("otlp_promote_resource_attributes: {error}")))?;
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(ConfigError(
                "tls_cert and tls_key belong together: give both or neither".into(),
            ));
        }
        if self.tls_client_ca.is_some() && self.tls_cert.is_none() {
            return Err(ConfigError(
                "tls_client_ca needs tls_cert and tls_key: without TLS no client shows a \
                 certificate"
                    .into(),
            ));
        }
        if self.auth && self.insecure_no_auth {
            return Err(ConfigError(
                "auth and insecure_no_auth contradict each other: give one of them".into(),
            ));
        }
        let name_ok = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if self.node.is_empty()
            || self.node.len() > 64
            || !self.node.chars().all(name_ok)
            || self.node.starts_with('.')
        {
            return Err(ConfigError(format!(
                "node {:?} must be 1 to 64 letters, digits, '-', '_' or '.', not starting with '.'",
                self.node
            )));
        }
        self.store_location().map(|_| ())
    }

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

    /// Where the durable state lies.
    pub fn store_location(&self) -> Result<StoreLocation, ConfigError> {
        let Some(store) = &self.store else {
            return Ok(StoreLocation::Folder(self.data_dir.clone()));
        };
        if store == "memory:" || store == "memory" {
            return Ok(StoreLocation::Memory);
        }
        if let Some(rest) = store.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(ConfigError(format!(
                    "store {store:?} names no bucket; write s3://bucket/prefix"
                )));
            }
            return Ok(StoreLocation::S3 {
                bucket: bucket.into(),
                prefix: prefix.trim_matches('/').into(),
            });
        }
        let path = store.strip_prefix("file://").unwrap_or(store);
        match path.split_once("://") {
            Some((scheme, _)) => Err(ConfigError(format!(
                "store {store:?}: {scheme:?} is not known; use s3://bucket/prefix, memory: or a \
                 path"
            ))),
            None if path.is_empty() => Err(ConfigError(
                "store is empty; use s3://bucket/prefix, memory: or a path".into(),
            )),
            None => Ok(StoreLocation::Folder(path.into())),
        }
    }

    /// See [`Config::query_timeout_ms`].
    pub fn query_timeout(&self) -> Duration {
        Duration::from_millis(self.query_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, args: ConfigArgs) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidelake.toml");
        std::fs::write(&path, text).unwrap();
        ConfigArgs {
            config: Some(path),
            ..args
        }
        .resolve()
    }

    #[test]
    fn defaults_pass_their_own_check() {
        assert_eq!(ConfigArgs::default().resolve().unwrap(), Config::default());
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "listen = '0.0.0.0:1'\nmax_body_bytes = 77\ns3_allow_http = true\n";
        let config = with_file(
            file,
            ConfigArgs {
                listen: Some("127.0.0.1:2".into()),
                ..Default::default()
            },
        )
        .unwrap();
        assert_eq!(config.listen, "127.0.0.1:2");
        assert_eq!(config.max_body_bytes, 77);
        assert!(config.s3_allow_http);
        assert_eq!(config.node, Config::default().node);
    }

    #[test]
    fn every_flag_is_a_key_and_every_key_is_a_flag() {
        use clap::{Args as _, Command};
        let command = ConfigArgs::augment_args(Command::new("x"));
        let mut flags: Vec<String> = command
            .get_arguments()
            .map(|a| a.get_id().to_string())
            .filter(|id| id != "config" && id != "help")
            .collect();
        let serde_json::Value::Object(map) = serde_json::to_value(Config::default()).unwrap()
        else {
            panic!("not an object")
        };
        let mut keys: Vec<String> = map.keys().cloned().collect();
        flags.sort();
        keys.sort();
        assert_eq!(flags, keys);
        for arg in command.get_arguments().filter(|a| a.get_id() != "help") {
            let expected = format!("TIDELAKE_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(
                arg.get_env().and_then(|e| e.to_str()),
                Some(expected.as_str())
            );
        }
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let check = |file: &str, expected: &str| {
            let message = with_file(file, ConfigArgs::default())
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message} lacks {expected}");
        };
        check("max_boddy_bytes = 1", "max_boddy_bytes");
        check("max_body_bytes = 'big'", "max_body_bytes");
        check("max_body_bytes = 0", "max_body_bytes");
        check("node = 'a/b'", "node");
        check("store = 'gs://x'", "gs");
        check("store = 's3:///x'", "bucket");
        check("max_inflight_body_bytes = 5", "max_inflight_body_bytes");
        check("listen = ", "tidelake.toml");
        check(
            "gc_grace_ms = 120000",
            "gc_grace_ms (120000) must be greater than query_timeout_ms (120000)",
        );
        check("query_timeout_ms = 300000", "gc_grace_ms");
        check("max_fresh_segments = 63", "at least 64");
        check("self_monitoring_interval_ms = 99", "at least 100");
        check("value_layout = 'double'", "value_layout");
        check("otlp_delta = 'drop'", "otlp_delta");
        check(
            "otlp_translation_strategy = 'x'",
            "otlp_translation_strategy",
        );
        check(
            "otlp_promote_all_resource_attributes = true\notlp_promote_resource_attributes = ['a']",
            "exclude each other",
        );
        check(
            "otlp_ignore_resource_attributes = ['a']",
            "otlp_ignore_resource_attributes needs",
        );
        check("tls_cert = 'a'", "tls_cert and tls_key");
        check("tls_client_ca = 'a'", "tls_client_ca needs");
        check("auth = true\ninsecure_no_auth = true", "contradict");
    }

    #[test]
    fn stores_are_told_apart() {
        let check = |store: Option<&str>, expected: StoreLocation| {
            let config = Config {
                store: store.map(str::to_owned),
                ..Config::default()
            };
            assert_eq!(config.store_location().unwrap(), expected);
        };
        check(None, StoreLocation::Folder("./data".into()));
        check(Some("memory:"), StoreLocation::Memory);
        check(
            Some("/var/lib/x"),
            StoreLocation::Folder("/var/lib/x".into()),
        );
        check(
            Some("file:///var/lib/x"),
            StoreLocation::Folder("/var/lib/x".into()),
        );
        check(
            Some("s3://b/p/q/"),
            StoreLocation::S3 {
                bucket: "b".into(),
                prefix: "p/q".into(),
            },
        );
        check(
            Some("s3://b"),
            StoreLocation::S3 {
                bucket: "b".into(),
                prefix: "".into(),
            },
        );
    }
}
