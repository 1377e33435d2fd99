//! The read path: texts become expressions here, and errors the few kinds that a client can act on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use tidelake_catalog::model::{Labels, METRICS_TABLE, Matcher, TimeRange};
use tidelake_catalog::segment::{ReadCounts, SegmentError};
use tidelake_catalog::snapshot::{MetricMetadata, Snapshot};
use tidelake_querier::Answer;
use tidelake_querier::cardinality::Cardinality;
use tidelake_querier::exemplars::SeriesExemplars;
use tidelake_querier::influxql::{InfluxqlAnswer, InfluxqlError, Scope, Statement};
use tidelake_querier::labels::LabelError;
use tidelake_querier::lane::Lane;
use tidelake_querier::parts::{NoPart, PartRequest};
use tidelake_querier::promql::exec::{self, EngineOptions, Explained, QueryOutput, QueryParams};
use tidelake_querier::promql::parse::ast::Expr;
use tidelake_querier::promql::parse::{parse, parse_with};
use tidelake_querier::promql::source::{SelectLimits, SourceError};
use tidelake_querier::sorted_samples::SortedSamples;
use tidelake_querier::sql::postgres::Description;
use tidelake_querier::sql::{Command, Held, SqlAnswer, SqlError, SqlOutline, SqlParam, SqlText};
use tidelake_querier::tables::Tables;

/// The steps of a range query; an instant query has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// First step, in ms.
    pub start_ms: i64,
    /// No step is later, in ms.
    pub end_ms: i64,
    /// Distance, in ms, positive.
    pub step_ms: i64,
}

/// Limits and settings of one PromQL query.
#[derive(Debug, Clone)]
pub struct PromqlOptions {
    /// How far an instant selector looks back, in ms.
    pub lookback_ms: i64,
    /// The query fails after this time.
    pub timeout: Duration,
    /// The query fails when it would hold more samples.
    pub max_samples: u64,
    /// Damaged segments are left out, with a warning.
    pub partial: bool,
    /// The samples that each step looks at are counted.
    pub count_samples: bool,
}

/// Why a PromQL or metadata query failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The text or a parameter is wrong; `1:5: parse error: ...`.
    #[error("{0}")]
    BadData(String),
    /// The query is well-formed and cannot be answered.
    #[error("{0}")]
    Execution(String),
    /// It asks for more than a limit allows.
    #[error("{0}")]
    Limited(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// The store cannot be reached, or the server is busy.
    #[error("{0}")]
    Unavailable(String),
    /// A defect, or a damaged object.
    #[error("{0}")]
    Internal(String),
}

impl From<exec::QueryError> for QueryError {
    fn from(error: exec::QueryError) -> Self {
        let text = error.to_string();
        match error {
            exec::QueryError::BadData(_) => Self::BadData(text),
            exec::QueryError::Timeout => Self::Timeout(text),
            exec::QueryError::TooManySamples(_)
            | exec::QueryError::Memory(_)
            | exec::QueryError::Source(SourceError::Memory(_))
            | exec::QueryError::Source(SourceError::LimitExceeded(_)) => Self::Limited(text),
            exec::QueryError::Source(SourceError::Unavailable(_)) => Self::Unavailable(text),
            exec::QueryError::Source(SourceError::Corrupt { .. })
            | exec::QueryError::Divide(_)
            | exec::QueryError::Panicked(_) => Self::Internal(text),
            _ => Self::Execution(text),
        }
    }
}

impl From<SourceError> for QueryError {
    fn from(error: SourceError) -> Self {
        exec::QueryError::from(error).into()
    }
}

impl From<SegmentError> for QueryError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Unavailable { .. } => Self::Unavailable(error.to_string()),
            SegmentError::Memory(_) | SegmentError::ReadLimit(_) => {
                Self::Limited(error.to_string())
            }
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<LabelError> for QueryError {
    fn from(error: LabelError) -> Self {
        match error {
            LabelError::Segment(error) => error.into(),
            LabelError::Memory(error) => Self::Limited(error.to_string()),
            LabelError::Timeout => Self::Timeout(error.to_string()),
        }
    }
}

/// The read path.
#[derive(Debug)]
pub struct Querier(pub(super) tidelake_querier::Querier);

/// Reads a selector such as `up{job="x"}`; the error names line and column.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, String> {
    match parse(text) {
        Ok(Expr::Vector(selector)) => Ok(selector.matchers),
        Ok(_) => Err(format!("{text:?} is not a series selector")),
        Err(error) => Err(error.to_string()),
    }
}

/// The matchers of all selectors of an expression; the error names line and column.
pub fn parse_selectors(text: &str) -> Result<Vec<Vec<Matcher>>, String> {
    let expr = parse(text).map_err(|error| error.to_string())?;
    Ok(expr
        .selectors()
        .into_iter()
        .map(|selector| selector.matchers.clone())
        .collect())
}

impl Querier {
    /// The exemplars of series that match any of the matcher sets, in the range; more than `limit`
    /// are an error.
    pub async fn exemplars(
        &self,
        db: &str,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        limit: u64,
        partial: bool,
    ) -> Result<Answer<Vec<SeriesExemplars>>, QueryError> {
        Ok(self
            .0
            .exemplars(db, matchers, range, limit, partial)
            .await?)
    }

    /// Evaluates a query at one time.
    pub async fn promql_instant(
        &self,
        db: &str,
        query: &str,
        time_ms: i64,
        options: &PromqlOptions,
    ) -> Result<QueryOutput, QueryError> {
        self.promql(db, query, QueryParams::instant(time_ms), options)
            .await
    }

    /// Evaluates a query at every step.
    pub async fn promql_range(
        &self,
        db: &str,
        query: &str,
        steps: Steps,
        options: &PromqlOptions,
    ) -> Result<QueryOutput, QueryError> {
        self.promql(
            db,
            query,
            QueryParams::range(steps.start_ms, steps.end_ms, steps.step_ms),
            options,
        )
        .await
    }

    async fn promql(
        &self,
        db: &str,
        query: &str,
        params: QueryParams,
        options: &PromqlOptions,
    ) -> Result<QueryOutput, QueryError> {
        let expr = self.parse(query)?;
        let params = QueryParams {
            lookback_delta_ms: Some(options.lookback_ms),
            ..params
        };
        let engine = self.engine(options);
        self.0
            .promql(db, &expr, query, params, &engine, options.partial)
            .await
            .map_err(|error| named(error, options.timeout))
    }

    /// Answers a statement of InfluxQL that reads. `now` is in ns since 1970.
    pub async fn influxql(
        &self,
        statement: &Statement,
        scope: &Scope<'_>,
        now: i64,
        partial: bool,
    ) -> Result<(InfluxqlAnswer, Vec<String>), InfluxqlError> {
        self.0.influxql(statement, scope, now, partial).await
    }

    fn parse(&self, query: &str) -> Result<Expr, QueryError> {
        let parsed = parse_with(query, self.0.promql_options().experimental);
        parsed.map_err(|error| QueryError::BadData(format!("invalid parameter \"query\": {error}")))
    }

    fn engine(&self, options: &PromqlOptions) -> EngineOptions {
        EngineOptions {
            timeout: options.timeout,
            max_samples: options.max_samples.min(self.0.promql_options().max_samples),
            count_samples: options.count_samples,
            ..self.0.promql_options().clone()
        }
    }

    /// How a query is evaluated, and if `analyze`, what each operator did. Without a distance of
    /// steps it is evaluated once.
    pub async fn promql_explain(
        &self,
        db: &str,
        query: &str,
        steps: Steps,
        options: &PromqlOptions,
        analyze: bool,
    ) -> Result<Explained, QueryError> {
        let expr = self.parse(query)?;
        let params = QueryParams::range(steps.start_ms, steps.end_ms, steps.step_ms);
        let params = QueryParams {
            lookback_delta_ms: Some(options.lookback_ms),
            ..params
        };
        let engine = self.engine(options);
        if !analyze {
            return Ok(exec::explain(&expr, params, &engine)?);
        }
        let explained = self
            .0
            .explain_analyze(db, &expr, query, params, &engine, options.partial)
            .await;
        explained.map_err(|error| named(error, options.timeout))
    }

    /// What all queries together have read so far.
    pub fn read_counts(&self) -> ReadCounts {
        self.0.read_counts()
    }

    /// Series that match any of the matcher sets and may have samples in the range; at most
    /// `limit`, 0 for all.
    pub async fn series(
        &self,
        db: &str,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        partial: bool,
    ) -> Result<Answer<Vec<Labels>>, QueryError> {
        Ok(cut(
            self.0.series(db, matchers, range, partial).await?,
            limit,
        ))
    }

    /// Sorted label names of those series.
    pub async fn label_names(
        &self,
        db: &str,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        partial: bool,
    ) -> Result<Answer<Vec<String>>, QueryError> {
        Ok(cut(
            self.0.label_names(db, matchers, range, partial).await?,
            limit,
        ))
    }

    /// Sorted values of one label of those series.
    pub async fn label_values(
        &self,
        db: &str,
        name: &str,
        matchers: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        partial: bool,
    ) -> Result<Answer<Vec<String>>, QueryError> {
        Ok(cut(
            self.0
                .label_values(db, name, matchers, range, partial)
                .await?,
            limit,
        ))
    }

    /// How many series may have samples in the range, and of what; rankings have at most `most`
    /// entries.
    pub async fn cardinality(
        &self,
        db: &str,
        range: TimeRange,
        most: usize,
        partial: bool,
    ) -> Result<Answer<Cardinality>, QueryError> {
        Ok(self.0.cardinality(db, range, most, partial).await?)
    }

    /// Metadata by metric family, sorted; of one family only when it is named.
    pub fn metadata(&self, db: &str, metric: Option<&str>) -> Vec<(String, MetricMetadata)> {
        let all = self.0.metadata(db);
        let wanted = all
            .iter()
            .filter(|(name, _)| metric.is_none_or(|metric| metric == &***name));
        wanted
            .map(|(name, metadata)| (name.to_string(), metadata.clone()))
            .collect()
    }

    /// Series that match, with their samples in the range (milliseconds), in the order of their
    /// labels.
    pub async fn sorted_samples(
        &self,
        db: &str,
        matchers: &[Matcher],
        range: TimeRange,
        max_samples: u64,
    ) -> Result<SortedSamples, QueryError> {
        let options = self.0.promql_options();
        let limits = SelectLimits {
            max_series: options.max_series,
        };
        let meter = options.lane.meter(options.max_read_bytes);
        let tables = self.0.tables().counted(&meter);
        let pool = options.memory.pool();
        let samples =
            SortedSamples::select(tables, db, matchers, range, limits, max_samples, pool).await?;
        Ok(samples)
    }

    /// Looks at a SQL text: does it read, and as of when.
    pub fn read_sql(&self, sql: &str) -> Result<SqlText, SqlError> {
        self.0.read_sql(sql)
    }

    /// Runs one SQL statement; `params` fill `$name` placeholders. `held` is dropped when all that
    /// computes for the query has ended.
    pub async fn sql(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
        partial: bool,
        held: Option<Held>,
    ) -> Result<SqlAnswer, SqlError> {
        self.0.sql(db, text, params, partial, held).await
    }

    /// What a SQL statement takes and answers.
    pub async fn sql_outline(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<SqlOutline, SqlError> {
        self.0.sql_outline(db, text, params).await
    }

    /// What a statement of a client of PostgreSQL takes and answers.
    pub async fn describe_sql(&self, db: &str, text: SqlText) -> Result<Description, SqlError> {
        self.0.describe_sql(db, text).await
    }

    /// What a SQL statement wants to have changed.
    pub async fn sql_command(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<Command, SqlError> {
        self.0.sql_command(db, text, params).await
    }

    /// Computes a part of a query of another process.
    ///
    /// # Errors
    /// If it cannot be begun.
    pub fn part(&self, request: PartRequest) -> Result<BoxStream<'static, Bytes>, NoPart> {
        self.0.part(request)
    }

    /// The same for a query that computes on other threads.
    pub fn on(&self, lane: &Lane) -> Self {
        Self(self.0.on(lane))
    }

    /// The same for queries that may read and hold less.
    pub fn limited(&self, max_read_bytes: u64, max_samples: u64) -> Self {
        Self(self.0.limited(max_read_bytes, max_samples))
    }

    /// What there is to read.
    pub(crate) fn tables(&self) -> &Tables {
        self.0.tables()
    }

    /// Most samples that a query may hold.
    pub fn max_samples(&self) -> u64 {
        self.0.promql_options().max_samples
    }

    /// The same tables in another state.
    pub fn at(&self, snapshot: Arc<Snapshot>) -> Self {
        Self(self.0.at(snapshot))
    }

    /// Whether a selector selects samples that were sent as such.
    pub async fn has_samples(
        &self,
        db: &str,
        selector: &[Matcher],
        range: TimeRange,
    ) -> Result<bool, QueryError> {
        Ok(!self
            .0
            .tables()
            .series(db, METRICS_TABLE, selector, range)
            .await?
            .is_empty())
    }

    /// A wide table of which a selector selects a field, and the name of that as a metric.
    pub async fn selected_field(
        &self,
        db: &str,
        selector: &[Matcher],
        range: TimeRange,
    ) -> Result<Option<(String, String)>, QueryError> {
        Ok(tidelake_querier::labels::selected_field(self.0.tables(), db, selector, range).await?)
    }
}

/// Prometheus' words, and which limit it was.
fn named(error: exec::QueryError, timeout: Duration) -> QueryError {
    match error {
        exec::QueryError::Timeout => QueryError::Timeout(format!(
            "{error} (limit {} ms, setting query_timeout_ms or parameter timeout)",
            timeout.as_millis()
        )),
        error => error.into(),
    }
}

fn cut<T>(mut found: Answer<Vec<T>>, limit: usize) -> Answer<Vec<T>> {
    if limit > 0 {
        found.value.truncate(limit);
    }
    found
}
