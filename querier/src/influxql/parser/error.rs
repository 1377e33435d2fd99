//! Why a text is no statement.

/// Why a text is no statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is not InfluxQL. The position is in the message.
    #[error("error parsing query: {0}")]
    Syntax(String),
    /// It is InfluxQL, but cannot mean anything.
    #[error("{0}")]
    Meaningless(String),
    /// It is InfluxQL that is not supported; the message says what to use instead.
    #[error("{0}")]
    Unsupported(String),
}
