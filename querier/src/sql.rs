//! SQL, by DataFusion.
//!
//! In the order in which a query passes them:
//!
//! 1. `planning`: a thread with a large stack, as everything up to the plan recurses with the query;
//! 2. `tokens`, `statement`: text to a statement that only reads and is not too deep for what follows;
//! 3. `catalog`, `view`: names to tables, wide ones as they are, each metric as a table of its own;
//! 4. `session`: statement to plan; `provider` and `pushdown` turn filters into matchers and a time range;
//! 5. `scan_exec`, `batches`: units of sorted rows to record batches;
//! 6. `deadline`: the answer, as a stream that ends in time.
//!
//! What never happens here: a query names no file, URL or other database, writes nothing, changes no
//! setting, and no text is looked at per row of a tag.

mod batches;
mod catalog;
mod deadline;
mod error;
mod planning;
mod provider;
mod pushdown;
mod scan_exec;
mod session;
mod source;
mod statement;
#[cfg(test)]
mod tests;
mod tokens;
mod view;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::{SendableRecordBatchStream, SessionState};
use tokio::time::Instant;

pub use catalog::{INFORMATION_SCHEMA, METRICS_SCHEMA, PUBLIC_SCHEMA};
pub use error::SqlError;
pub use source::{RowRequest, RowSource, RowUnit};

/// What queries may use.
#[derive(Debug, Clone)]
pub struct SqlOptions {
    /// Memory of all running queries together, in bytes. A query that would exceed it fails alone.
    pub query_memory_bytes: usize,
    /// Partitions that a query runs in: usually the number of cores.
    pub target_partitions: usize,
    /// Rows per batch.
    pub batch_rows: usize,
    /// Longest SQL text, in bytes.
    pub max_sql_bytes: usize,
    /// Time for a whole query, planning and reading the answer included; `None` is without end.
    pub timeout: Option<Duration>,
    /// Where sorts and aggregations may put what does not fit into memory; `None` is nowhere.
    pub spill_dir: Option<PathBuf>,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            query_memory_bytes: 1 << 30,
            target_partitions: std::thread::available_parallelism().map_or(1, usize::from),
            batch_rows: 8192,
            max_sql_bytes: 1 << 20,
            timeout: None,
            spill_dir: None,
        }
    }
}

/// The value of a query parameter (`$name`).
#[derive(Debug, Clone, PartialEq)]
pub enum SqlParam {
    /// NULL
    Null,
    /// A boolean.
    Boolean(bool),
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer, for what is too large for a signed one.
    Unsigned(u64),
    /// A float.
    Float(f64),
    /// A text; where a time is expected, one in RFC 3339.
    String(String),
}

/// Answers SQL queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqlEngine {
    source: Arc<dyn RowSource>,
    options: Arc<SqlOptions>,
    template: Arc<SessionState>,
}

impl SqlEngine {
    /// An engine over tables. Fails if the options cannot be used, for example if the spill directory
    /// cannot be created.
    pub fn new(source: Arc<dyn RowSource>, options: SqlOptions) -> Result<Self, SqlError> {
        let template = Arc::new(session::template(&options)?);
        Ok(Self { source, options: Arc::new(options), template })
    }

    /// The same engine over other tables.
    pub(crate) fn over(&self, source: Arc<dyn RowSource>) -> Self {
        Self { source, ..self.clone() }
    }

    /// Plans a query and starts it. The stream's errors are understood by [`SqlError::from_ref`].
    ///
    /// `params` are the values of `$name` (without the dollar sign); `$1` is called `1`.
    pub async fn query(&self, db: &str, sql: &str, params: HashMap<String, SqlParam>) -> Result<SendableRecordBatchStream, SqlError> {
        // A deadline too far away to be told is none.
        let deadline = self.options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let planning = self.plan(db.to_owned(), sql.to_owned(), params);
        let planned = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, planning).await.map_err(|_| SqlError::Timeout)??,
            None => planning.await?,
        };
        let stream = planned.start()?;
        Ok(match deadline {
            Some(deadline) => deadline::until(deadline, stream),
            None => stream,
        })
    }

    async fn plan(&self, db: String, sql: String, params: HashMap<String, SqlParam>) -> Result<session::Planned, SqlError> {
        let (source, options, template) = (self.source.clone(), self.options.clone(), self.template.clone());
        planning::on_large_stack(move || async move {
            let statement = statement::parse(&sql, options.max_sql_bytes)?;
            let database = catalog::Database::open(source, &db)?;
            session::plan(&template, &database, &db, statement, params).await
        })
        .await
    }
}
