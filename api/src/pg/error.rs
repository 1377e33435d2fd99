//! The one place where a code becomes a SQLSTATE and the fields of an error.

use std::error::Error;
use std::fmt;

use super::lexer::{Kind, Lexer, Token, value};
use crate::node::backend::SqlError;
use crate::service::error::{Code, ServiceError};

/// The codes of PostgreSQL that are used.
pub mod code {
    pub const WARNING: &str = "01000";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const UNSUPPORTED: &str = "0A000";
    pub const DATA_EXCEPTION: &str = "22000";
    pub const DATETIME_OVERFLOW: &str = "22008";
    pub const INVALID_DATETIME: &str = "22007";
    pub const NOT_IN_REPERTOIRE: &str = "22021";
    pub const INVALID_PARAMETER: &str = "22023";
    pub const INVALID_TEXT: &str = "22P02";
    pub const INVALID_BINARY: &str = "22P03";
    pub const OPEN_TRANSACTION: &str = "25001";
    pub const NO_TRANSACTION: &str = "25P01";
    pub const FAILED_TRANSACTION: &str = "25P02";
    pub const NO_STATEMENT: &str = "26000";
    pub const UNAUTHENTICATED: &str = "28000";
    pub const WRONG_PASSWORD: &str = "28P01";
    pub const NO_CURSOR: &str = "34000";
    pub const NO_DATABASE: &str = "3D000";
    pub const INVALID_STATEMENT: &str = "42000";
    pub const FORBIDDEN: &str = "42501";
    pub const SYNTAX: &str = "42601";
    pub const NO_COLUMN: &str = "42703";
    pub const NO_SETTING: &str = "42704";
    pub const NO_TABLE: &str = "42P01";
    pub const DUPLICATE_CURSOR: &str = "42P03";
    pub const DUPLICATE_STATEMENT: &str = "42P05";
    pub const CONFLICT: &str = "42710";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const THROTTLED: &str = "53400";
    pub const TOO_COMPLEX: &str = "54000";
    pub const NOT_IN_THIS_STATE: &str = "55000";
    pub const CANNOT_CHANGE: &str = "55P02";
    pub const CANCELED: &str = "57014";
    pub const STOPPING: &str = "57P01";
    pub const NOT_NOW: &str = "57P03";
    pub const IDLE: &str = "57P05";
    pub const INTERNAL: &str = "XX000";
    pub const DAMAGED: &str = "XX001";
}

/// An error as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgError {
    /// See [`code`].
    pub code: &'static str,
    /// What was wrong, where, and what to do.
    pub message: String,
    /// What else to do.
    pub hint: Option<String>,
    /// A name by which clients know some errors.
    pub routine: Option<&'static str>,
    /// The character of the statement that it is about, from 1 on.
    pub position: Option<usize>,
    /// Whether the connection ends by it.
    pub is_fatal: bool,
}

impl PgError {
    /// Of a statement.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            routine: None,
            position: None,
            is_fatal: false,
        }
    }

    /// Of a connection, which ends.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            is_fatal: true,
            ..Self::new(code, message)
        }
    }

    /// The same, and the connection ends.
    pub fn ending(self) -> Self {
        Self {
            is_fatal: true,
            ..self
        }
    }

    /// With a hint.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// With the place in a statement that the message names, if it names one.
    pub fn located(mut self, statement: &str) -> Self {
        self.position = self.position.or_else(|| match self.code {
            code::NO_COLUMN => place_of_column(&self.message, statement),
            _ => place(&self.message, statement),
        });
        self
    }

    /// An error of a part of a text as one of the text. It has no place if the text has no such
    /// part.
    pub fn of_part(mut self, text: &str, part: &str) -> Self {
        let before = text.find(part).and_then(|at| text.get(..at));
        let before = before.map(|before| before.chars().count());
        self.position = self.position.zip(before).map(|(at, before)| at + before);
        self
    }
}

/// The character at the line and the column that the parser names at the end of its messages.
fn place(message: &str, statement: &str) -> Option<usize> {
    let (_, rest) = message.rsplit_once("Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (line, column) = (line.parse::<usize>().ok()?, rest.get(..digits)?);
    let lines = statement.split('\n').take(line.checked_sub(1)?);
    let start: usize = lines.map(|line| line.chars().count() + 1).sum();
    Some(start + column.parse::<usize>().ok()?)
}

/// The first character of the column that the planner does not know.
fn place_of_column(message: &str, statement: &str) -> Option<usize> {
    let (_, name) = message.split_once("No field named ")?;
    let is_name = |token: &Token| matches!(token.kind, Kind::Word | Kind::Quoted);
    let mut tokens = Lexer::new(name);
    let mut column = tokens.next().filter(is_name)?;
    // A table or an alias may stand before it. The sentence ends with a point and a space.
    while let (Some(point), Some(part)) = (tokens.next(), tokens.next())
        && point.at.start == column.at.end
        && part.at.start == point.at.end
        && is_name(&part)
    {
        column = part;
    }
    let column = value(name, &column);
    let mut tokens = Lexer::new(statement);
    let found = tokens.find(|token| is_name(token) && value(statement, token) == column)?;
    let before = statement.get(..found.at.start)?;
    Some(before.chars().count() + 1)
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl Error for PgError {}

impl From<ServiceError> for PgError {
    fn from(error: ServiceError) -> Self {
        let of_sql = error
            .source()
            .and_then(|source| source.downcast_ref::<SqlError>());
        let state = match error.code {
            Code::BadRequest => match of_sql {
                Some(SqlError::Syntax(_)) => code::SYNTAX,
                Some(SqlError::UnknownColumn(_)) => code::NO_COLUMN,
                _ => code::INVALID_STATEMENT,
            },
            Code::NotFound => code::NO_TABLE,
            Code::Conflict => code::CONFLICT,
            Code::Unauthenticated => code::UNAUTHENTICATED,
            Code::Forbidden => code::FORBIDDEN,
            Code::TooLarge => code::TOO_COMPLEX,
            Code::Unsupported => code::UNSUPPORTED,
            Code::Execution => code::DATA_EXCEPTION,
            Code::Limited => code::OUT_OF_MEMORY,
            Code::Timeout => code::CANCELED,
            Code::Unavailable { .. } => code::NOT_NOW,
            Code::Throttled { .. } => code::THROTTLED,
            Code::Damaged => code::DAMAGED,
            Code::Internal => code::INTERNAL,
        };
        if state.starts_with("XX") {
            let source = error.source().map(tracing::field::display);
            tracing::error!(error = %error.message, source, "a statement failed");
        }
        let hint = match error.code {
            Code::Unavailable { retry_after_s } | Code::Throttled { retry_after_s } => {
                Some(format!("Try again in {retry_after_s} s."))
            }
            _ => None,
        };
        Self {
            hint,
            ..Self::new(state, error.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::error::RETRY_AFTER_S;

    #[test]
    fn every_code_has_a_state() {
        let check = |error: ServiceError, state: &str| {
            assert_eq!(PgError::from(error).code, state);
        };
        check(SqlError::Syntax("x".into()).into(), "42601");
        check(SqlError::UnknownColumn("x".into()).into(), "42703");
        check(SqlError::BadRequest("x".into()).into(), "42000");
        check(SqlError::NotFound("x".into()).into(), "42P01");
        check(SqlError::ResourcesExhausted("x".into()).into(), "53200");
        check(SqlError::Timeout.into(), "57014");
        check(ServiceError::new(Code::Forbidden, "x"), "42501");
        let later = PgError::from(ServiceError::unavailable("x"));
        assert_eq!(later.code, "57P03");
        assert_eq!(later.hint, Some(format!("Try again in {RETRY_AFTER_S} s.")));
    }

    #[test]
    fn places_are_characters_of_the_statement() {
        let error = PgError::new(code::SYNTAX, "Expected: x, found: y at Line: 2, Column: 3");
        let located = error.located("é1\n2345");
        assert_eq!(located.position, Some(6));
        let moved = located.clone().of_part("SELECT 1; é1\n2345", "é1\n2345");
        assert_eq!(moved.position, Some(16));
        assert_eq!(located.of_part("SELECT 1", "é1").position, None);
        let other = PgError::new(code::SYNTAX, "Line: x");
        assert_eq!(other.located("a").position, None);
        let check = |name: &str, statement: &str, expected: Option<usize>| {
            let message = format!("Schema error: No field named {name}. Valid fields are a.b, c.");
            let error = PgError::new(code::NO_COLUMN, message).located(statement);
            assert_eq!(error.position, expected, "{name} in {statement}");
        };
        check("x", "SELECT 'x', é.y, x FROM t", Some(18));
        check("t.x", "SELECT t.x FROM t", Some(10));
        check("t.\"X y\"", "SELECT \"X y\"", Some(8));
        check("z", "SELECT x", None);
    }
}
