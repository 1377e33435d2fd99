//! What clients of PostgreSQL say in SQL beside what this engine understands.
//!
//! A text that was [given a session](super::SqlText::in_postgres) may name the tables of
//! `pg_catalog` (`tables`) and some of its functions (`functions`), and is rewritten where
//! DataFusion lacks a construct (`rewrite`, with `calls`, `casts` and `subqueries`). Its parameters
//! are put into the statement (`values`), so that it keeps to the plans that are kept for its
//! shape. Texts without a session know nothing of all this.

mod calls;
mod casts;
mod catalog_tables;
mod empty;
mod functions;
mod names;
mod parameters;
mod parts;
mod rewrite;
mod subqueries;
mod tables;
#[cfg(test)]
mod tests;
pub mod types;
mod values;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};

use super::catalog::COLUMNS_TABLE;
use super::error::SqlError;

pub(super) use self::functions::register;
pub use self::names::shown_name;
pub(super) use self::parameters::parameter_types;
pub(super) use self::rewrite::rewrite;
pub(super) use self::tables::{CatalogTables, information_columns};
pub use self::values::{MAX_ELEMENTS, array_elements};

/// The schema of PostgreSQL's catalog.
pub(super) const PG_CATALOG: &str = "pg_catalog";

/// A connection of a client, as its statements see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgSession {
    /// The name of the user.
    pub user: String,
    /// The number of the connection.
    pub pid: i32,
    /// What `version()` says.
    pub version: String,
    /// Databases that may be seen.
    pub databases: Vec<String>,
    /// Names, values and descriptions of settings, sorted by name.
    pub settings: Vec<(String, String, &'static str)>,
    /// Where names without a schema are looked up.
    pub schema: String,
    /// The zone of times that have one.
    pub time_zone: String,
}

impl PgSession {
    /// The value of a setting.
    pub fn setting(&self, name: &str) -> Option<&str> {
        let mut settings = self.settings.iter();
        let found = settings.find(|(known, ..)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value, _)| value.as_str())
    }
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum PgValue {
    /// NULL
    Null,
    /// A boolean.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A decimal number, as digits with a sign and a point.
    Decimal(String),
    /// A text, or whatever else the place where it stands makes of one.
    Text(String),
    /// A time without a zone, as `2025-11-25 10:00:00.123456`.
    Timestamp(String),
    /// A time, in UTC, in the same form.
    TimestampTz(String),
    /// A day.
    Date(String),
    /// A time of a day.
    Time(String),
    /// A length of time.
    Interval(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values of one type.
    Array(Vec<PgValue>),
}

impl PgValue {
    /// Bytes that it takes, more or less.
    pub fn bytes(&self) -> usize {
        let own = size_of::<Self>();
        own + match self {
            PgValue::Null | PgValue::Boolean(_) | PgValue::Integer(_) | PgValue::Float(_) => 0,
            PgValue::Decimal(text)
            | PgValue::Text(text)
            | PgValue::Timestamp(text)
            | PgValue::TimestampTz(text)
            | PgValue::Date(text)
            | PgValue::Time(text)
            | PgValue::Interval(text) => text.len(),
            PgValue::Bytes(bytes) => bytes.len(),
            PgValue::Array(values) => values.iter().map(PgValue::bytes).sum(),
        }
    }
}

/// What is known of the parameters of a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum PgParams {
    /// Their values, in the order of their numbers.
    Values(Vec<PgValue>),
    /// Their types where the client gave one: the statement is only described.
    Types(Vec<Option<DataType>>),
}

/// A session, and what a text has of it.
#[derive(Debug, Clone)]
pub(super) struct PgStatement {
    pub session: Arc<PgSession>,
    pub params: PgParams,
}

/// What a statement takes and answers.
#[derive(Debug, Clone)]
pub struct Description {
    /// The columns of its answer.
    pub columns: SchemaRef,
    /// The types of its parameters as far as they follow from it, in the order of their numbers.
    pub parameters: Vec<Option<DataType>>,
}

/// What of the information schema a table of the catalog is made of, if of anything.
pub(super) fn needed_by(table: &str) -> Result<Option<&'static str>, SqlError> {
    match table {
        "pg_attribute" => Ok(Some(COLUMNS_TABLE)),
        // The number of columns is told, too.
        "pg_class" | "pg_tables" => Ok(Some("tables")),
        _ if tables::is_catalog_table(table) => Ok(None),
        _ => Err(SqlError::NotFound(format!(
            "table {table:?} not found in schema {PG_CATALOG:?}"
        ))),
    }
}
