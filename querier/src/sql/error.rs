//! What a SQL query can fail with, by what the caller can do about it.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use tidelake_catalog::panics::Panicked;

/// Bytes of a message, more or less.
const MAX_MESSAGE_BYTES: usize = 2000;

/// Why a query gave no answer, or stopped in the middle of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// The statement or its data cannot be used as asked: change the query.
    #[error("{0}")]
    BadRequest(String),
    /// The text is no statement: change it. The message ends with the place, where there is one.
    #[error("{0}")]
    Syntax(String),
    /// A column that its tables do not have.
    #[error("{0}")]
    UnknownColumn(String),
    /// A database, schema, table or metric that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The query needs more than it may have, of memory or of something else: narrow it, or raise
    /// the setting that is named.
    #[error("{0}")]
    ResourcesExhausted(String),
    /// The query ran longer than it may.
    #[error("the query took longer than it may; narrow its time range, or raise query_timeout_ms")]
    Timeout,
    /// The store does not answer: ask again later.
    #[error("{0}")]
    Unavailable(String),
    /// A table has rows with tags that it did not have when the query was planned: plan it again.
    #[error("tags of table {0:?} were added while the query was planned; ask again")]
    NewTags(String),
    /// An object that the query needs is damaged or gone: restore it.
    #[error("object {object} is corrupt: {message}")]
    Damaged {
        /// Its key.
        object: String,
        /// What is wrong with it.
        message: String,
    },
    /// A fault of the server.
    #[error("{0}")]
    Internal(String),
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        Self::from_ref(&error)
    }
}

impl From<Panicked> for SqlError {
    fn from(panicked: Panicked) -> Self {
        Self::Internal(panicked.to_string())
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl SqlError {
    /// The kind of an error that came out of DataFusion, also from the middle of a stream.
    pub fn from_ref(error: &DataFusionError) -> Self {
        match error {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Self::from_ref(inner)
            }
            DataFusionError::Shared(inner) => Self::from_ref(inner),
            DataFusionError::Collection(all) => all.first().map_or_else(
                || Self::Internal("no error was given".to_owned()),
                Self::from_ref,
            ),
            DataFusionError::External(inner) => Self::from_boxed(inner.as_ref()),
            DataFusionError::ArrowError(inner, _) => Self::from_arrow(inner),
            DataFusionError::ResourcesExhausted(message) => {
                Self::ResourcesExhausted(if is_own_refusal(message) {
                    message.clone()
                } else {
                    format!(
                        "the query needs more memory than it may have (setting \
                         max_query_memory_bytes); narrow it ({message})"
                    )
                })
            }
            DataFusionError::SQL(inner, _) => Self::Syntax(cut(inner.to_string())),
            DataFusionError::SchemaError(inner, _)
                if matches!(inner.as_ref(), SchemaError::FieldNotFound { .. }) =>
            {
                Self::UnknownColumn(cut(error.strip_backtrace()))
            }
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::Execution(_) => Self::BadRequest(cut(error.strip_backtrace())),
            _ => Self::Internal(cut(error.strip_backtrace())),
        }
    }

    fn from_boxed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        if let Some(own) = error.downcast_ref::<SqlError>() {
            own.clone()
        } else if let Some(inner) = error.downcast_ref::<DataFusionError>() {
            Self::from_ref(inner)
        } else if let Some(inner) = error.downcast_ref::<ArrowError>() {
            Self::from_arrow(inner)
        } else if error.is::<regex_syntax::Error>() || error.is::<regex::Error>() {
            Self::BadRequest(cut(error.to_string()))
        } else {
            Self::Internal(cut(error.to_string()))
        }
    }

    fn from_arrow(error: &ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(inner) => Self::from_boxed(inner.as_ref()),
            ArrowError::CastError(_)
            | ArrowError::ParseError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::InvalidArgumentError(_)
            | ArrowError::NotYetImplemented(_) => Self::BadRequest(cut(error.to_string())),
            _ => Self::Internal(cut(error.to_string())),
        }
    }
}

/// A message may quote a value of many megabytes, of which its beginning tells enough.
fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push_str("...");
    }
    message
}

/// Whether a refusal names its limit: those of [`crate::memory`] and of this module do, those that
/// DataFusion makes when it cannot spill do not.
fn is_own_refusal(message: &str) -> bool {
    message.contains("memory_bytes") || message.contains("at most")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_quotes_a_long_value_is_cut() {
        let long = "\u{e9}".repeat(1 << 20);
        let of_arrow = ArrowError::CastError(format!("Cannot cast string '{long}'"));
        let errors = [
            DataFusionError::from(of_arrow),
            DataFusionError::Execution(long),
        ];
        for error in errors {
            let SqlError::BadRequest(message) = SqlError::from(error) else {
                panic!("not a bad request");
            };
            assert!(message.len() < MAX_MESSAGE_BYTES + 10 && message.ends_with("\u{e9}..."));
        }
    }
}
