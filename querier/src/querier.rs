//! All ways to read one set of tables.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;
use tidelake_catalog::model::{Labels, Matcher, TimeRange};
use tidelake_catalog::segment::SegmentError;
use tidelake_catalog::snapshot::{MetricMetadata, Snapshot};

use crate::labels;
use crate::promql::exec::{EngineOptions, QueryError, QueryOutput, QueryParams, evaluate};
use crate::promql::parse::ast::Expr;
use crate::samples::DatabaseSamples;
use crate::sql::{Command, SqlEngine, SqlError, SqlOptions, SqlParam, SqlText};
use crate::tables::Tables;

/// Answers PromQL and SQL.
#[derive(Debug)]
pub struct Querier {
    tables: Tables,
    promql: EngineOptions,
    sql: SqlEngine,
}

impl Querier {
    /// A querier over tables.
    pub fn new(tables: Tables, promql: EngineOptions, sql: SqlOptions) -> Result<Self, SqlError> {
        let sql = SqlEngine::new(Arc::new(tables.clone()), sql)?;
        Ok(Self { tables, promql, sql })
    }

    /// The same over the tables as they were in a state of the past.
    pub fn at(&self, snapshot: Arc<Snapshot>) -> Self {
        let tables = self.tables.at(snapshot);
        let sql = self.sql.over(Arc::new(tables.clone()));
        Self { tables, promql: self.promql.clone(), sql }
    }

    /// The tables that are read.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Settings of the PromQL engine.
    pub fn promql_options(&self) -> &EngineOptions {
        &self.promql
    }

    /// Evaluates a PromQL expression over a database; `text` is what it was parsed from.
    pub async fn promql(
        &self,
        database: &str,
        expr: &Expr,
        text: &str,
        params: QueryParams,
        options: &EngineOptions,
    ) -> Result<QueryOutput, QueryError> {
        let source = Arc::new(DatabaseSamples::new(self.tables.clone(), database));
        evaluate(expr, text, params, source, options).await
    }

    /// Plans a SQL query and starts it.
    pub async fn sql(
        &self,
        database: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<SendableRecordBatchStream, SqlError> {
        self.sql.query(database, text, params).await
    }

    /// Looks at a SQL text: does it read, and as of when.
    pub fn read_sql(&self, sql: &str) -> Result<SqlText, SqlError> {
        self.sql.read(sql)
    }

    /// What a SQL statement wants to have changed.
    pub async fn sql_command(&self, database: &str, text: SqlText, params: HashMap<String, SqlParam>) -> Result<Command, SqlError> {
        self.sql.command(database, text, params).await
    }

    /// The series that pass all matchers of a set and may have samples in the range (milliseconds); sorted.
    pub async fn series(&self, database: &str, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<Labels>, SegmentError> {
        labels::series(&self.tables, database, sets, range).await
    }

    /// The label names of those series; sorted.
    pub async fn label_names(&self, database: &str, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, SegmentError> {
        labels::names(&self.tables, database, sets, range).await
    }

    /// The values of a label of those series; sorted.
    pub async fn label_values(
        &self,
        database: &str,
        label: &str,
        sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<String>, SegmentError> {
        labels::values(&self.tables, database, label, sets, range).await
    }

    /// What senders said about the metric families of a database.
    pub fn metadata(&self, database: &str) -> Arc<BTreeMap<Arc<str>, MetricMetadata>> {
        self.tables.snapshot().database(database).map(|d| Arc::clone(&d.metadata)).unwrap_or_default()
    }
}
