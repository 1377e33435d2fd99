//! Failures, in words that no protocol owns: a few codes, each defined by what the caller can do.
//!
//! A failure keeps what it came from as its source. Each protocol maps codes to its own statuses.
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use tidelake_catalog::segment::SegmentError;
use tidelake_catalog::{CatalogError, Refusal};

use crate::node::backend::{InfluxqlError, IngestError, QueryError, SqlError};

/// What the caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Change the request.
    BadRequest,
    /// Ask for something that exists.
    NotFound,
    /// Ask for something that does not exist yet.
    Conflict,
    /// Say who asks: show a token that is valid.
    Unauthenticated,
    /// Ask from somewhere else, or be allowed to.
    Forbidden,
    /// Send less at once.
    TooLarge,
    /// Use another encoding or message.
    Unsupported,
    /// Change the query: well-formed, but it cannot be answered.
    Execution,
    /// Change the query: it asks for more than a limit allows.
    Limited,
    /// Ask for less, or later: it took too long.
    Timeout,
    /// Send the same again after so many seconds.
    Unavailable {
        /// Seconds.
        retry_after_s: u64,
    },
    /// Send less per time: go on after so many seconds.
    Throttled {
        /// Seconds.
        retry_after_s: u64,
    },
    /// Restore an object of the store, or ask for a partial answer.
    Damaged,
    /// Report it.
    Internal,
}

impl Code {
    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Code::BadRequest => "bad_request",
            Code::NotFound => "not_found",
            Code::Conflict => "conflict",
            Code::Unauthenticated => "unauthenticated",
            Code::Forbidden => "forbidden",
            Code::TooLarge => "too_large",
            Code::Unsupported => "unsupported",
            Code::Execution => "execution",
            Code::Limited => "limited",
            Code::Timeout => "timeout",
            Code::Unavailable { .. } => "unavailable",
            Code::Throttled { .. } => "throttled",
            Code::Damaged => "damaged",
            Code::Internal => "internal",
        }
    }
}

/// A failure on its way to a client.
#[derive(Debug, Clone)]
pub struct ServiceError {
    /// What the caller can do.
    pub code: Code,
    /// What was wrong, where, and what to do.
    pub message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// Seconds after which a client may try again when nothing better is known.
pub const RETRY_AFTER_S: u64 = 1;

impl ServiceError {
    /// A failure that came from nothing else.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
        }
    }

    /// A failure in the words of what it came from.
    pub fn of(code: Code, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            code,
            message: source.to_string(),
            source: Some(Arc::new(source)),
        }
    }

    /// The request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// The same request may succeed soon.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(
            Code::Unavailable {
                retry_after_s: RETRY_AFTER_S,
            },
            message,
        )
    }
}

const UNAVAILABLE: Code = Code::Unavailable {
    retry_after_s: RETRY_AFTER_S,
};

impl From<IngestError> for ServiceError {
    fn from(error: IngestError) -> Self {
        let code = match &error {
            IngestError::BadRequest(_) => Code::BadRequest,
            IngestError::TooLarge(_) => Code::TooLarge,
            IngestError::Unsupported(_) => Code::Unsupported,
            IngestError::Unavailable { retry_after_s, .. } => Code::Unavailable {
                retry_after_s: *retry_after_s,
            },
            IngestError::Throttled { retry_after_s, .. } => Code::Throttled {
                retry_after_s: *retry_after_s,
            },
            // The process ends now; its successor on this node will answer.
            IngestError::Fenced(_) => UNAVAILABLE,
            IngestError::Internal(_) => Code::Internal,
        };
        Self::of(code, error)
    }
}

impl From<QueryError> for ServiceError {
    fn from(error: QueryError) -> Self {
        let code = match &error {
            QueryError::BadData(_) => Code::BadRequest,
            QueryError::Execution(_) => Code::Execution,
            QueryError::Limited(_) => Code::Limited,
            QueryError::Timeout(_) => Code::Timeout,
            QueryError::Unavailable(_) => UNAVAILABLE,
            QueryError::Internal(_) => Code::Internal,
        };
        Self::of(code, error)
    }
}

impl From<SqlError> for ServiceError {
    fn from(error: SqlError) -> Self {
        let code = match &error {
            SqlError::BadRequest(_) | SqlError::Syntax(_) | SqlError::UnknownColumn(_) => {
                Code::BadRequest
            }
            SqlError::NotFound(_) => Code::NotFound,
            // Sent again, the same query would hit the same limit: not a 503.
            SqlError::ResourcesExhausted(_) => Code::Limited,
            SqlError::Timeout => Code::Timeout,
            SqlError::Unavailable(_) | SqlError::NewTags(_) => UNAVAILABLE,
            SqlError::Damaged { .. } => Code::Damaged,
            SqlError::Internal(_) => Code::Internal,
        };
        Self::of(code, error)
    }
}

impl From<InfluxqlError> for ServiceError {
    fn from(error: InfluxqlError) -> Self {
        let code = match &error {
            InfluxqlError::Parse(_)
            | InfluxqlError::Invalid(_)
            | InfluxqlError::DatabaseRequired => Code::BadRequest,
            InfluxqlError::NoDatabase(_) | InfluxqlError::NoPolicy(_) => Code::NotFound,
            InfluxqlError::Timeout => Code::Timeout,
            InfluxqlError::Unavailable(_) => UNAVAILABLE,
            InfluxqlError::Memory(_) => Code::Limited,
            InfluxqlError::Segment(SegmentError::Corrupt { .. }) => Code::Damaged,
            InfluxqlError::Segment(SegmentError::Unavailable { .. }) => UNAVAILABLE,
            InfluxqlError::Segment(SegmentError::ReadLimit(_) | SegmentError::Memory(_)) => {
                Code::Limited
            }
            InfluxqlError::Segment(SegmentError::Encode(_)) => Code::Internal,
            InfluxqlError::Internal(_) | InfluxqlError::Panicked(_) => Code::Internal,
        };
        Self::of(code, error)
    }
}

impl From<CatalogError> for ServiceError {
    fn from(error: CatalogError) -> Self {
        let code = match &error {
            // The process ends now; its successor on this node, or another, will answer.
            CatalogError::Fenced { .. }
            | CatalogError::NotRegistered
            | CatalogError::OtherStore { .. } => UNAVAILABLE,
            CatalogError::Refused(
                Refusal::NoDatabase { .. } | Refusal::NoTable { .. } | Refusal::NoToken { .. },
            ) => Code::NotFound,
            CatalogError::Refused(Refusal::TokenExists { .. }) => Code::Conflict,
            // The compactor applies deletes within minutes.
            CatalogError::Refused(Refusal::TooManyDeletes { .. }) => {
                Code::Unavailable { retry_after_s: 60 }
            }
            CatalogError::Refused(_) | CatalogError::NoSuchState(_) => Code::BadRequest,
            CatalogError::Store(error) if error.is_transient() => UNAVAILABLE,
            CatalogError::Store(_) => Code::Internal,
        };
        Self::of(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_left_says_that_another_may_do_it() {
        let error = ServiceError::from(CatalogError::NotRegistered);
        assert_eq!(error.code, UNAVAILABLE);
    }
}
