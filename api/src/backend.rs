//! What the handlers call: the ingester, the querier and the compactor.
//!
//! The types here are the seam to those crates, in the shapes that the handlers need. Everything answers
//! "unavailable" until the storage is attached, so nothing is ever acknowledged that is not kept.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;
use tidelake_catalog::model::{Histogram, Labels, Matcher, TimeRange};

use crate::config::Config;

const DETACHED: &str = "the storage is not attached";

/// Unit of line protocol timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// By magnitude, line by line.
    Auto,
    /// Nanoseconds.
    Nanosecond,
    /// Microseconds.
    Microsecond,
    /// Milliseconds.
    Millisecond,
    /// Seconds.
    Second,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
}

/// How the body of a write is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Text lines.
    LineProtocol {
        /// Unit of the timestamps.
        precision: Precision,
        /// Whether good lines are kept when others are bad.
        accept_partial: bool,
    },
    /// `prometheus.WriteRequest`
    RemoteWrite1,
}

/// `Content-Encoding` of the body of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// As it is.
    Identity,
    /// RFC 1952, any number of members.
    Gzip,
    /// Snappy block format.
    Snappy,
    /// RFC 8878.
    Zstd,
}

/// A write as it was received.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// Checked name.
    pub database: String,
    /// How to read the body.
    pub protocol: Protocol,
    /// How the body is compressed.
    pub encoding: ContentEncoding,
    /// The body as received.
    pub body: Bytes,
}

/// What a write kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines or samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// A line (or series) that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// From 1; 0 when the protocol has no lines.
    pub line: usize,
    /// The line as received, perhaps cut.
    pub original: String,
    /// What is wrong with it.
    pub message: String,
}

/// The end of a write that was not refused as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOutcome {
    /// What is durable.
    pub written: Written,
    /// What was refused, in order of lines.
    pub errors: Vec<LineError>,
}

/// Why a write was refused as a whole.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IngestError {
    /// The sender must change the request.
    #[error("{0}")]
    BadRequest(String),
    /// A limit on sizes.
    #[error("{0}")]
    TooLarge(String),
    /// An encoding or message that is not understood.
    #[error("{0}")]
    Unsupported(String),
    /// Something named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The same request may succeed later.
    #[error("{reason}")]
    Unavailable {
        /// Why not now.
        reason: String,
        /// When to try again.
        retry_after_s: u64,
    },
    /// A newer process owns this node; this one must stop.
    #[error("{0}")]
    Fenced(String),
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

/// The write path.
#[derive(Debug)]
pub struct Ingester(());

fn ingest_detached() -> IngestError {
    IngestError::Unavailable { reason: DETACHED.into(), retry_after_s: 5 }
}

impl Ingester {
    /// Returns once the points are durable and visible.
    pub async fn write(&self, _request: WriteRequest) -> Result<WriteOutcome, IngestError> {
        Err(ingest_detached())
    }

    /// Returns once all that was buffered is in segments on the store.
    pub async fn flush(&self) -> Result<(), IngestError> {
        Err(ingest_detached())
    }

    /// Flushes and stops; later writes are refused.
    pub async fn shutdown(&self) -> Result<(), IngestError> {
        Ok(())
    }
}

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
}

/// Notes on a query's answer.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    /// Things that make the answer doubtful.
    pub warnings: Vec<String>,
    /// Things worth knowing.
    pub infos: Vec<String>,
}

/// One series with a place for a value at every step.
#[derive(Debug, Clone)]
pub struct SeriesRow {
    /// Its labels.
    pub labels: Labels,
    /// One per step; the stale marker stands for "no float here".
    pub values: Vec<f64>,
    /// One entry per step if the series has histograms.
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
}

/// Raw samples of one series.
#[derive(Debug, Clone)]
pub struct RangeSeries {
    /// Its labels.
    pub labels: Labels,
    /// Times in ms and values, ascending.
    pub floats: Vec<(i64, f64)>,
    /// Times in ms and histograms, ascending.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

/// The value of a PromQL expression.
#[derive(Debug, Clone)]
pub enum Value {
    /// One per step.
    Scalar(Vec<f64>),
    /// A text.
    String(String),
    /// Series in the order of the answer.
    Vector(Vec<SeriesRow>),
    /// Only from instant queries.
    RangeVector(Vec<RangeSeries>),
}

/// The answer to a PromQL query.
#[derive(Debug, Clone)]
pub struct QueryOutput {
    /// Its value.
    pub value: Value,
    /// Its notes.
    pub annotations: Annotations,
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

/// Why an SQL query failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SqlError {
    /// The text or a parameter is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// A database or table does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A limit on memory or the like.
    #[error("{0}")]
    Resource(String),
    /// A defect, or a damaged object.
    #[error("{0}")]
    Internal(String),
}

/// What a sender said about a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricMetadata {
    /// `counter`, `gauge`, ...
    pub kind: String,
    /// Text for people.
    pub help: String,
    /// Unit, or empty.
    pub unit: String,
}

/// The read path.
#[derive(Debug)]
pub struct Querier(());

fn query_detached() -> QueryError {
    QueryError::Unavailable(DETACHED.into())
}

/// Reads a selector such as `up{job="x"}`; the error names line and column.
pub fn parse_selector(_text: &str) -> Result<Vec<Matcher>, String> {
    Err(DETACHED.into())
}

impl Querier {
    /// Evaluates a query at one time.
    pub async fn promql_instant(
        &self,
        _db: &str,
        _query: &str,
        _time_ms: i64,
        _options: &PromqlOptions,
    ) -> Result<QueryOutput, QueryError> {
        Err(query_detached())
    }

    /// Evaluates a query at every step.
    pub async fn promql_range(&self, _db: &str, _query: &str, _steps: Steps, _options: &PromqlOptions) -> Result<QueryOutput, QueryError> {
        Err(query_detached())
    }

    /// Series that match any of the matcher sets and have samples in the range; at most `limit`, 0 for all.
    pub async fn series(&self, _db: &str, _matchers: &[Vec<Matcher>], _range: TimeRange, _limit: usize) -> Result<Vec<Labels>, QueryError> {
        Err(query_detached())
    }

    /// Sorted label names of those series.
    pub async fn label_names(
        &self,
        _db: &str,
        _matchers: &[Vec<Matcher>],
        _range: TimeRange,
        _limit: usize,
    ) -> Result<Vec<String>, QueryError> {
        Err(query_detached())
    }

    /// Sorted values of one label of those series.
    pub async fn label_values(
        &self,
        _db: &str,
        _name: &str,
        _matchers: &[Vec<Matcher>],
        _range: TimeRange,
        _limit: usize,
    ) -> Result<Vec<String>, QueryError> {
        Err(query_detached())
    }

    /// Metadata by metric name, sorted; of one metric only when it is named.
    pub async fn metadata(&self, _db: &str, _metric: Option<&str>) -> Result<Vec<(String, Vec<MetricMetadata>)>, QueryError> {
        Err(query_detached())
    }

    /// Runs one SQL statement; `params` fill `$name` placeholders.
    pub async fn sql(&self, _db: &str, _sql: &str, _params: Vec<(String, ScalarValue)>) -> Result<SendableRecordBatchStream, SqlError> {
        Err(SqlError::Internal(DETACHED.into()))
    }
}

/// Merges segments.
#[derive(Debug)]
pub struct Compactor(());

impl Compactor {
    /// Returns when nothing is left to merge.
    pub async fn compact_all(&self) -> Result<(), String> {
        Err(DETACHED.into())
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

/// The parts that serve requests, once they are ready.
#[derive(Debug)]
pub struct Backend {
    /// Takes writes.
    pub ingester: Arc<Ingester>,
    /// Answers queries.
    pub querier: Arc<Querier>,
    /// Merges segments.
    pub compactor: Arc<Compactor>,
}

impl Backend {
    /// Opens the store, loads the catalog, registers the node and replays its WAL.
    pub async fn open(_config: &Config) -> Result<Self, OpenError> {
        Ok(Self { ingester: Ingester(()).into(), querier: Querier(()).into(), compactor: Compactor(()).into() })
    }

    /// Figures read at every scrape: name, help, whether it only grows, and how to read it.
    pub fn figures(&self) -> Vec<crate::app::Figure> {
        Vec::new()
    }

    /// For tests of handlers that never reach the storage.
    #[cfg(test)]
    pub fn detached() -> Self {
        Self { ingester: Ingester(()).into(), querier: Querier(()).into(), compactor: Compactor(()).into() }
    }
}

/// Writes the catalog as JSON lines.
pub async fn dump_catalog(_config: &Config, _out: &mut impl std::io::Write) -> anyhow::Result<()> {
    anyhow::bail!(DETACHED)
}
