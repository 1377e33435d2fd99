//! What a query is refused with.

use std::fmt;

use super::ast::Span;

/// Why a query was refused, and where it goes wrong.
///
/// Displays as Prometheus does (`1:7: parse error: unexpected end of input`), because Grafana and
/// users match on that form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Line of the first offending byte, counted from 1; 0 if the query is empty and has no place
    /// to point at.
    pub line: u32,
    /// Column of the first offending byte, counted from 1 in bytes as Prometheus counts.
    pub column: u32,
    /// The offending bytes of the query.
    pub span: Span,
}

impl ParseError {
    pub(super) fn new(query: &str, span: Span, message: impl Into<String>) -> Self {
        let message = message.into();
        if query.is_empty() {
            return Self {
                message,
                line: 0,
                column: 0,
                span,
            };
        }
        let before = query
            .as_bytes()
            .get(..span.start as usize)
            .unwrap_or(query.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u32;
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        Self {
            message,
            line,
            column: (before.len() - line_start) as u32 + 1,
            span,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "unknown position: parse error: {}", self.message),
            line => write!(f, "{line}:{}: parse error: {}", self.column, self.message),
        }
    }
}

impl std::error::Error for ParseError {}
