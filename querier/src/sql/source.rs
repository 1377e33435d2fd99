//! What SQL needs from storage, and nothing more.
//!
//! There are two implementations: the tables of a server, and rows in memory for tests of the
//! planner.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use tidelake_catalog::model::{Column, Matcher, TableSchema, TimeRange};
use tidelake_catalog::segment::scan::Edge;
use tidelake_catalog::segment::{ReadCounts, Series, SortedRows};

use super::error::SqlError;
use super::retention::RetentionSetting;
use crate::promql::source::SampleSource;
use crate::tables::State;

/// Rows of one table that a query asks for.
#[derive(Debug, Clone)]
pub struct RowRequest {
    /// Fields to read, tags are not among them.
    pub fields: Vec<Column>,
    /// All must match a series for its rows to be read.
    pub matchers: Vec<Matcher>,
    /// Times to read, in the table's unit.
    pub range: TimeRange,
    /// If one end of each series is enough, which. More may come.
    pub edge: Option<Edge>,
    /// How many tags the query knows of, if it is a wide table: rows with others would be shown
    /// without them.
    pub tags: Option<usize>,
}

/// Tables to query.
#[async_trait]
pub trait RowSource: Debug + Send + Sync + 'static {
    /// Names of all databases.
    fn databases(&self) -> Vec<String>;

    /// How long rows of a database are kept.
    fn retention(&self, db: &str) -> Vec<RetentionSetting>;

    /// A database as PromQL sees it.
    fn samples(&self, db: &str) -> Arc<dyn SampleSource>;

    /// The wide tables of a database.
    fn wide_tables(&self, db: &str) -> Vec<(Arc<str>, Arc<TableSchema>)>;

    /// The columns of a table.
    fn schema(&self, db: &str, table: &str) -> Option<Arc<TableSchema>>;

    /// The rows that a request selects, in pieces: a series lies in one piece only.
    async fn scan(
        &self,
        db: &str,
        table: &str,
        request: RowRequest,
    ) -> Result<Vec<Arc<dyn RowUnit>>, SqlError>;

    /// The distinct series of a table that match and have rows in a range.
    async fn series(
        &self,
        db: &str,
        table: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<Arc<Series>>, SqlError>;

    /// What another process needs to read the same as was read so far; `None` if it cannot.
    fn noted(&self) -> Option<State> {
        None
    }

    /// The distinct names in the metrics table of a database.
    async fn metric_names(&self, db: &str) -> Result<Vec<String>, SqlError>;
}

/// A piece of a scan that is read at once: some series, a bounded number of rows.
#[async_trait]
pub trait RowUnit: Debug + Send + Sync + 'static {
    /// Upper bound of the number of rows.
    fn rows_bound(&self) -> u64;

    /// First and last time of all rows of the unit's series in the range, if they are known;
    /// exactly `rows_bound` come then.
    fn known(&self) -> Option<TimeRange>;

    /// What the scan that it is a unit of has read so far, its plan included, and what a request
    /// cost in dollars.
    fn reads(&self) -> (ReadCounts, f64);

    /// The rows: overwritten ones are gone, all lie in the range. `columns` are the requested
    /// fields in request order.
    async fn read(&self) -> Result<SortedRows, SqlError>;
}
