//! All ways to read one set of tables.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use tidelake_catalog::model::{Labels, Matcher, TimeRange};
use tidelake_catalog::segment::{ReadCounts, ReadMeter, SegmentError};
use tidelake_catalog::snapshot::{MetricMetadata, Snapshot};
use tokio::time::Instant;

use crate::cardinality::{self, Cardinality};
use crate::exemplars::{self, SeriesExemplars};
use crate::influxql::{self, InfluxqlAnswer, InfluxqlError, Scope, Statement};
use crate::labels::{self, LabelError, Search};
use crate::lane::Lane;
use crate::memory::QueryBytes;
use crate::parts::{NoPart, PartKind, PartRequest};
use crate::promql::exec::part::compute;
use crate::promql::exec::{
    EngineOptions, Explained, QueryError, QueryOutput, QueryParams, evaluate, explain_analyze,
};
use crate::promql::parse::ast::Expr;
use crate::promql::source::{SampleSource, SourceError};
use crate::samples::DatabaseSamples;
use crate::sql::part::read_limit;
use crate::sql::postgres::Description;
use crate::sql::{
    Command, Held, SqlAnswer, SqlEngine, SqlError, SqlOptions, SqlOutline, SqlParam, SqlText,
};
use crate::tables::Tables;

/// Times that a query of SQL is planned.
const PLAN_TRIES: usize = 5;

/// Times that a query which may be answered in part is run: each but the last has met damage that
/// was not known before.
pub const PARTIAL_TRIES: usize = 16;

/// What was found, and what was left out of it.
#[derive(Debug)]
pub struct Answer<T> {
    /// What was found.
    pub value: T,
    /// A sentence for each damaged segment that was left out.
    pub warnings: Vec<String>,
    /// The memory of `value`, counted until this is dropped; a stream counts its own.
    pub held: Option<QueryBytes>,
}

/// Answers PromQL and SQL.
#[derive(Debug)]
pub struct Querier {
    tables: Tables,
    promql: EngineOptions,
    sql: SqlEngine,
    /// What all queries together read.
    meter: Arc<ReadMeter>,
}

impl Querier {
    /// A querier over tables.
    pub fn new(tables: Tables, promql: EngineOptions, sql: SqlOptions) -> Result<Self, SqlError> {
        let meter = ReadMeter::unlimited(Vec::new());
        let tables = tables.counted(&meter);
        let sql = SqlEngine::new(Arc::new(tables.clone()), sql)?;
        Ok(Self {
            tables,
            promql,
            sql,
            meter,
        })
    }

    /// The same over the tables as they were in a state of the past.
    pub fn at(&self, snapshot: Arc<Snapshot>) -> Self {
        let tables = self.tables.at(snapshot);
        let sql = self.sql.over(Arc::new(tables.clone()));
        Self {
            tables,
            promql: self.promql.clone(),
            sql,
            meter: Arc::clone(&self.meter),
        }
    }

    /// The same for queries that may read and hold less.
    pub fn limited(&self, max_read_bytes: u64, max_samples: u64) -> Self {
        let promql = EngineOptions {
            max_read_bytes: self.promql.max_read_bytes.min(max_read_bytes),
            max_samples: self.promql.max_samples.min(max_samples),
            ..self.promql.clone()
        };
        Self {
            tables: self.tables.clone(),
            sql: self.sql.with_promql(promql.clone()),
            promql,
            meter: Arc::clone(&self.meter),
        }
    }

    /// The same for a query that computes on other threads.
    pub fn on(&self, lane: &Lane) -> Self {
        Self {
            tables: self.tables.clone(),
            sql: self.sql.on(lane),
            promql: EngineOptions {
                lane: lane.clone(),
                ..self.promql.clone()
            },
            meter: Arc::clone(&self.meter),
        }
    }

    /// Counts what one query reads, as far as it may.
    fn query_meter(&self) -> Arc<ReadMeter> {
        self.promql.lane.meter(self.promql.max_read_bytes)
    }

    /// The tables that are read.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What all queries together have read so far.
    pub fn read_counts(&self) -> ReadCounts {
        self.meter.counts()
    }

    /// Settings of the PromQL engine.
    pub fn promql_options(&self) -> &EngineOptions {
        &self.promql
    }

    /// Evaluates a PromQL expression over a database; `text` is what it was parsed from. If
    /// `partial`, damaged segments are left out, and warnings say so.
    pub async fn promql(
        &self,
        database: &str,
        expr: &Expr,
        text: &str,
        params: QueryParams,
        options: &EngineOptions,
        partial: bool,
    ) -> Result<QueryOutput, QueryError> {
        let work =
            |source, options| async move { evaluate(expr, text, params, source, &options).await };
        let (mut output, warnings) = self.computed(database, options, partial, work).await?;
        output.annotations.warnings.extend(warnings);
        Ok(output)
    }

    /// Evaluates a PromQL expression, and says what each operator did.
    pub async fn explain_analyze(
        &self,
        database: &str,
        expr: &Expr,
        text: &str,
        params: QueryParams,
        options: &EngineOptions,
        partial: bool,
    ) -> Result<Explained, QueryError> {
        let work = |source, options| async move {
            explain_analyze(expr, text, params, source, &options).await
        };
        let (mut explained, warnings) = self.computed(database, options, partial, work).await?;
        explained.annotations.warnings.extend(warnings);
        Ok(explained)
    }

    /// Computes a part of a query of another process, over the state of the tables that it reads;
    /// frames come as [`crate::parts::Workers::ask`] hands them on.
    ///
    /// # Errors
    /// If it cannot be begun; what fails later is said in the last frame.
    pub fn part(&self, request: PartRequest) -> Result<BoxStream<'static, Bytes>, NoPart> {
        let database = request.state.snapshot.databases().next();
        let database = database.map_or_else(String::new, |database| database.name.to_string());
        let tables = self.tables.fixed(request.state);
        Ok(match request.kind {
            PartKind::Promql => {
                let source = Arc::new(DatabaseSamples::new(tables, &database));
                compute(&request.head, source, &self.promql)?
            }
            PartKind::Sql => {
                let most = read_limit(&request.head)?.min(self.promql.max_read_bytes);
                let tables = Arc::new(tables.counted(&self.promql.lane.meter(most)));
                self.sql.over(tables).part(&database, &request.head)?
            }
        })
    }

    /// Has the samples of a database worked on; all tries together take no longer than one may.
    async fn computed<T, F: Future<Output = Result<T, QueryError>>>(
        &self,
        database: &str,
        options: &EngineOptions,
        partial: bool,
        work: impl Fn(Arc<dyn SampleSource>, EngineOptions) -> F,
    ) -> Result<(T, Vec<String>), QueryError> {
        let begun = Instant::now();
        let run = |tables| {
            let options = EngineOptions {
                timeout: options.timeout.saturating_sub(begun.elapsed()),
                ..options.clone()
            };
            work(Arc::new(DatabaseSamples::new(tables, database)), options)
        };
        self.answer(partial, run, is_damaged_source).await
    }

    /// Looks at a SQL text: does it read, and as of when.
    pub fn read_sql(&self, sql: &str) -> Result<SqlText, SqlError> {
        self.sql.read(sql)
    }

    /// What a SQL statement takes and answers.
    pub async fn sql_outline(
        &self,
        database: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<SqlOutline, SqlError> {
        let meter = self.query_meter();
        let tables = Arc::new(self.tables.counted(&meter));
        self.sql.over(tables).outline(database, text, params).await
    }

    /// What a statement of a client of PostgreSQL takes and answers.
    pub async fn describe_sql(
        &self,
        database: &str,
        text: SqlText,
    ) -> Result<Description, SqlError> {
        self.sql.describe(database, text).await
    }

    /// What a SQL statement wants to have changed.
    pub async fn sql_command(
        &self,
        database: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<Command, SqlError> {
        self.sql.command(database, text, params).await
    }

    /// Plans a SQL query and starts it, once more if its tables got tags meanwhile. If `partial`,
    /// segments that are known to be damaged are left out. One that is met later breaks the stream
    /// off; then the query can be asked again, up to [`PARTIAL_TRIES`] times, if nothing was
    /// answered yet. `held` is dropped when all that computes for the query has ended.
    pub async fn sql(
        &self,
        database: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
        partial: bool,
        held: Option<Held>,
    ) -> Result<SqlAnswer, SqlError> {
        let meter = self.query_meter();
        let tables = self.tables.counted(&meter);
        let tables = if partial { tables.partial() } else { tables };
        let workers = self.promql.workers.as_ref();
        let tables = tables.noting(workers.is_some_and(|workers| workers.has_any()));
        let sql = self.sql.over(Arc::new(tables.clone())).metered(meter);
        let mut tries = 1;
        let mut answer = loop {
            let asked = (text.clone(), params.clone(), held.clone());
            let answer = sql.query(database, asked.0, asked.1, asked.2).await;
            match answer {
                Err(SqlError::NewTags(_)) if tries < PLAN_TRIES => tries += 1,
                answer => break answer?,
            }
        };
        // Everything is opened while the query is planned.
        answer.warnings.leave_out(tables.warnings());
        Ok(answer)
    }

    /// Answers a statement of InfluxQL that reads. `now` is in ns since 1970. If `partial`, damaged
    /// segments are left out, and warnings say so.
    pub async fn influxql(
        &self,
        statement: &Statement,
        scope: &Scope<'_>,
        now: i64,
        partial: bool,
    ) -> Result<(InfluxqlAnswer, Vec<String>), InfluxqlError> {
        let run = |tables: Tables| async move {
            let tables = tables.counted(&self.query_meter());
            influxql::answer(&tables, &self.promql, statement, scope, now).await
        };
        let is_damage = |error: &InfluxqlError| {
            matches!(error, InfluxqlError::Segment(SegmentError::Corrupt { .. }))
        };
        self.answer(partial, run, is_damage).await
    }

    async fn answer<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        partial: bool,
        run: impl Fn(Tables) -> F,
        is_damage: impl Fn(&E) -> bool,
    ) -> Result<(T, Vec<String>), E> {
        if !partial {
            return Ok((run(self.tables.clone()).await?, Vec::new()));
        }
        let mut tries = 1;
        loop {
            let tables = self.tables.partial();
            match run(tables.clone()).await {
                Ok(value) => return Ok((value, tables.warnings())),
                Err(error) if is_damage(&error) && tries < PARTIAL_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Searches series within the time and the memory of a query.
    async fn searched<T, F: Future<Output = Result<(T, QueryBytes), LabelError>>>(
        &self,
        partial: bool,
        run: impl Fn(Tables, Search) -> F,
    ) -> Result<Answer<T>, LabelError> {
        let pool = self.promql.memory.pool();
        let deadline = Instant::now().checked_add(self.promql.timeout);
        let run = |tables: Tables| {
            let meter = self.query_meter();
            let tables = tables.counted(&meter);
            let search = Search::new(&pool, deadline).map(|search| run(tables, search));
            async move { search?.await }
        };
        let answer = self.answer(partial, run, is_damage);
        let ((value, held), warnings) = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, answer)
                .await
                .unwrap_or(Err(LabelError::Timeout))?,
            None => answer.await?,
        };
        Ok(Answer {
            value,
            warnings,
            held: Some(held),
        })
    }

    /// The series that pass all matchers of a set and may have samples in the range (milliseconds);
    /// sorted.
    pub async fn series(
        &self,
        database: &str,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        partial: bool,
    ) -> Result<Answer<Vec<Labels>>, LabelError> {
        let run = |tables, search| async move {
            labels::series(&tables, database, sets, range, search).await
        };
        self.searched(partial, run).await
    }

    /// The label names of those series; sorted.
    pub async fn label_names(
        &self,
        database: &str,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        partial: bool,
    ) -> Result<Answer<Vec<String>>, LabelError> {
        let run = |tables, search| async move {
            labels::names(&tables, database, sets, range, search).await
        };
        self.searched(partial, run).await
    }

    /// The values of a label of those series; sorted.
    pub async fn label_values(
        &self,
        database: &str,
        label: &str,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        partial: bool,
    ) -> Result<Answer<Vec<String>>, LabelError> {
        let run = |tables, search| async move {
            labels::values(&tables, database, label, sets, range, search).await
        };
        self.searched(partial, run).await
    }

    /// The exemplars in the range (milliseconds) of the series that pass all matchers of any set,
    /// at most `limit`.
    pub async fn exemplars(
        &self,
        database: &str,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: u64,
        partial: bool,
    ) -> Result<Answer<Vec<SeriesExemplars>>, QueryError> {
        let pool = &self.promql.memory.pool();
        let run = |tables: Tables| async move {
            let tables = tables.counted(&self.query_meter());
            exemplars::exemplars(&tables, database, sets, range, limit, pool).await
        };
        let ((value, held), warnings) = self.answer(partial, run, is_damaged_source).await?;
        Ok(Answer {
            value,
            warnings,
            held: Some(held),
        })
    }

    /// Counts the series that may have samples in the range (milliseconds); rankings have at most
    /// `most` entries.
    pub async fn cardinality(
        &self,
        database: &str,
        range: TimeRange,
        most: usize,
        partial: bool,
    ) -> Result<Answer<Cardinality>, LabelError> {
        let run = |tables, search| async move {
            cardinality::cardinality(&tables, database, range, most, search).await
        };
        self.searched(partial, run).await
    }

    /// What senders said about the metric families of a database.
    pub fn metadata(&self, database: &str) -> Arc<BTreeMap<Arc<str>, MetricMetadata>> {
        self.tables
            .snapshot()
            .database(database)
            .map(|d| Arc::clone(&d.metadata))
            .unwrap_or_default()
    }
}

fn is_damage(error: &LabelError) -> bool {
    matches!(error, LabelError::Segment(SegmentError::Corrupt { .. }))
}

fn is_damaged_source(error: &QueryError) -> bool {
    matches!(error, QueryError::Source(SourceError::Corrupt { .. }))
}

#[cfg(test)]
mod tests;
