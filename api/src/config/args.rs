//! Settings as flags and variables, over a file, over the defaults.

use std::path::{Path, PathBuf};

use clap::Args;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde::Serialize;
use tidelake_catalog::segment::ValueLayout;

use super::{Config, ConfigError};
use crate::otlp::{OtlpDelta, OtlpTranslationStrategy};

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
    /// What this process does, of ingest, query and compact [default: all three]
    #[arg(long, env = "TIDELAKE_ROLES", value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<String>,
    /// Where other processes of the store reach this one [default: the address of --listen]
    #[arg(long, env = "TIDELAKE_ADVERTISE", value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// After so long without a sign of life a node is dead, and another adopts its log
    /// [default: 10000]
    #[arg(long, env = "TIDELAKE_LEASE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
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
    /// Queriers compute parts of large aggregations, each of so many rows or more [default:
    /// 8388608]
    #[arg(long, env = "TIDELAKE_DISTRIBUTED_QUERY_ROWS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distributed_query_rows: Option<u64>,
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
    /// Memory for pages of data, series indexes and footers
    /// [default: their share of --memory-bytes]
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
