//! Why a statement has no answer.

use tidelake_catalog::panics::Panicked;
use tidelake_catalog::segment::SegmentError;

use super::parser::ParseError;
use crate::memory::MemoryExceeded;

/// Why a statement has no answer. The kinds are what a caller can act on.
#[derive(Debug, thiserror::Error)]
pub enum InfluxqlError {
    /// The text is no statement.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The statement is InfluxQL, but means nothing.
    #[error("{0}")]
    Invalid(String),
    /// There is no database of that name.
    #[error("database not found: {0}")]
    NoDatabase(String),
    /// The statement needs a database, and neither it nor the request names one.
    #[error("database name required")]
    DatabaseRequired,
    /// There is no retention policy of that name.
    #[error("retention policy not found: {0}")]
    NoPolicy(String),
    /// It ran longer than a query may.
    #[error("the query ran longer than query_timeout_ms; narrow it")]
    Timeout,
    /// The server cannot answer now.
    #[error("{0}")]
    Unavailable(String),
    /// It would hold more memory than it may.
    #[error(transparent)]
    Memory(#[from] MemoryExceeded),
    /// Rows could not be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A defect of the engine.
    #[error("internal error: {0}")]
    Internal(String),
    /// A defect of the engine that made it panic.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

impl InfluxqlError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}
