//! What the users of one database, or the holder of one token, may take of a server.

use std::sync::Arc;

/// Limits; `None` is as the next wider ones say, and in the end without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// Samples, or values of fields, that are taken per second.
    pub samples_per_second: Option<u64>,
    /// Series that got points lately.
    pub active_series: Option<u64>,
    /// Labels or tags of one series.
    pub labels_per_series: Option<u64>,
    /// Bytes of the name of a label.
    pub label_name_bytes: Option<u64>,
    /// Bytes of the value of a label.
    pub label_value_bytes: Option<u64>,
    /// Bytes of a write as it is sent.
    pub body_bytes: Option<u64>,
    /// Queries at a time.
    pub concurrent_queries: Option<u64>,
    /// Bytes that one query may read from the store.
    pub query_read_bytes: Option<u64>,
    /// Samples that one query may hold.
    pub query_samples: Option<u64>,
    /// Shortest retention that may be set, in milliseconds.
    pub min_retention_ms: Option<u64>,
    /// Longest retention that may be set, in milliseconds.
    pub max_retention_ms: Option<u64>,
}

impl Limits {
    /// These where they say something, and the wider ones elsewhere.
    pub fn or(self, wider: Self) -> Self {
        Self {
            samples_per_second: self.samples_per_second.or(wider.samples_per_second),
            active_series: self.active_series.or(wider.active_series),
            labels_per_series: self.labels_per_series.or(wider.labels_per_series),
            label_name_bytes: self.label_name_bytes.or(wider.label_name_bytes),
            label_value_bytes: self.label_value_bytes.or(wider.label_value_bytes),
            body_bytes: self.body_bytes.or(wider.body_bytes),
            concurrent_queries: self.concurrent_queries.or(wider.concurrent_queries),
            query_read_bytes: self.query_read_bytes.or(wider.query_read_bytes),
            query_samples: self.query_samples.or(wider.query_samples),
            min_retention_ms: self.min_retention_ms.or(wider.min_retention_ms),
            max_retention_ms: self.max_retention_ms.or(wider.max_retention_ms),
        }
    }
}

/// Whose limits they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitsOf {
    /// Of every database that says nothing else.
    Default,
    /// Of all requests about a database.
    Database(Arc<str>),
    /// Of all requests with a token.
    Token(u64),
}
