//! Evaluation of a PromQL expression over series batches.
//!
//! Path of a query: expression tree -> `plan::lower` (durations and `@` resolved, step-invariant
//! parts marked, functions looked up) -> operators of `plan`, each evaluated over all steps at once
//! -> `plan::finish` drops metric names and orders the answer. Here is what the operators compute
//! with.
//!
//! The unit of data is a `row::Row`: the labels of one series and one float per step, with an
//! in-band marker for "no value at this step". Selectors are fused with the range function around
//! them, so raw samples never outlive the batch in which the source delivered them.
//!
//! Invariants:
//! * Floats are only computed with after their presence was checked, so the marker never takes part
//!   in arithmetic.
//! * The order of rows depends only on labels, never on the order in which batches arrive: sums are
//!   reproducible.
//! * What is large is reserved in the query's memory before it is allocated (`limits`), and stays
//!   counted as long as it is there, in the answer too.
//! * A histogram never silently becomes a float: what an operation leaves out for want of a meaning
//!   is remarked on.

pub(crate) mod accumulator;
pub(crate) mod aggregate;
pub(crate) mod aggregate_histograms;
pub(crate) mod annotations;
pub(crate) mod binary;
pub(crate) mod duration;
pub(crate) mod finish;
pub(crate) mod fold;
pub(crate) mod grid;
pub(crate) mod group;
pub(crate) mod info;
pub(crate) mod limits;
pub(crate) mod matching;
pub(crate) mod number;
pub(crate) mod part;
pub(crate) mod profile;
pub(crate) mod range;
pub(crate) mod rank;
pub(crate) mod reset_hints;
pub(crate) mod row;
pub(crate) mod sample_op;
pub(crate) mod sampling;
pub(crate) mod scalar;
pub(crate) mod selector;
pub(crate) mod series;
pub(crate) mod set;
pub(crate) mod spread;
pub(crate) mod stats;
pub(crate) mod subquery;
#[cfg(test)]
mod tests;
pub(crate) mod work;

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use tidelake_catalog::model::Matcher;
use tidelake_catalog::panics::{self, Panicked};

pub use annotations::Annotations;
pub use part::PartError;
pub use row::{ABSENT, RangeSeries, SeriesRow, is_absent};
pub use stats::QueryStats;

use tokio::time::Instant;

use super::parse::ast::{Expr, ValueType};
pub use super::plan::codec::{CodecError, Fragment};
pub use super::plan::explain::{Measured, Operator, Read};
use super::plan::{PromExec, explain as explained, lower::Planner};
use super::source::{SampleSource, SourceError};
use crate::lane::Lane;
use crate::memory::{MemoryExceeded, QueryBytes, QueryMemory, QueryPool};
use crate::parts::Workers;

/// Settings of the engine that hold for all queries.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How far an instant selector looks back for a sample, in milliseconds.
    pub lookback_delta_ms: i64,
    /// Step of subqueries that name none, in milliseconds.
    pub default_step_ms: i64,
    /// Most samples that one query may hold in memory at a time: values of rows, and raw samples
    /// of the batches in work.
    pub max_samples: u64,
    /// Where queries have their memory from. A query that would exceed it fails alone.
    pub memory: QueryMemory,
    /// Most series that one selector may match.
    pub max_series: usize,
    /// How long a query may run.
    pub timeout: Duration,
    /// Most bytes that one query may read from the store; what a cache holds does not count.
    pub max_read_bytes: u64,
    /// Whether Prometheus' experimental features are on: what
    /// [`parse_with`](super::parse::parse_with) lets through for it, and that metric names are
    /// removed at the end of a query only.
    pub experimental: bool,
    /// The threads that queries compute on.
    pub lane: Lane,
    /// Whether the samples that steps look at are counted ([`QueryStats::samples_per_step`]).
    pub count_samples: bool,
    /// What a read request to the store costs, in dollars; for explanations.
    pub request_price: f64,
    /// How many ranges the series of an aggregation are cut into; they are read one after the
    /// other, and answers do not depend on it.
    pub partitions: usize,
    /// Values of the rows of a selector, at all their steps, up to which an aggregation that looks
    /// at all of them at once does so at all steps at once.
    pub undivided_values: usize,
    /// Other processes that compute parts of large aggregations.
    pub workers: Option<Arc<dyn Workers>>,
    /// Rows that each of them, and this one, takes at least.
    pub distributed_query_rows: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback_delta_ms: 300_000,
            default_step_ms: 60_000,
            max_samples: 50_000_000,
            memory: QueryMemory::unlimited(),
            max_series: 2_000_000,
            timeout: Duration::from_secs(120),
            max_read_bytes: u64::MAX,
            experimental: true,
            lane: Lane::default(),
            count_samples: false,
            request_price: 0.0,
            partitions: 1,
            undivided_values: 16 << 20,
            workers: None,
            distributed_query_rows: crate::parts::PART_ROWS,
        }
    }
}

/// When an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryParams {
    /// First step, milliseconds since 1970-01-01 UTC.
    pub start_ms: i64,
    /// No step is later than this.
    pub end_ms: i64,
    /// Distance of steps; 0 makes an instant query at `start_ms`.
    pub step_ms: i64,
    /// Overrides [`EngineOptions::lookback_delta_ms`].
    pub lookback_delta_ms: Option<i64>,
}

impl QueryParams {
    /// One evaluation.
    pub fn instant(time_ms: i64) -> Self {
        Self {
            start_ms: time_ms,
            end_ms: time_ms,
            step_ms: 0,
            lookback_delta_ms: None,
        }
    }

    /// Evaluations at `start_ms`, `start_ms + step_ms`, ... up to `end_ms`.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        Self {
            start_ms,
            end_ms,
            step_ms,
            lookback_delta_ms: None,
        }
    }
}

/// The answer to a query.
#[derive(Debug)]
pub struct QueryOutput {
    /// What was computed.
    pub value: Value,
    /// What the user should know about it.
    pub annotations: Annotations,
    /// What it cost.
    pub stats: QueryStats,
    /// The memory of `value`, counted until this is dropped. What is let go earlier can be given
    /// back by [`QueryBytes::shrink`]; [`SeriesRow::bytes`] and [`RangeSeries::bytes`] are in it.
    pub held: QueryBytes,
}

/// A computed value.
#[derive(Debug, Clone)]
pub enum Value {
    /// One float per step.
    Scalar(Vec<f64>),
    /// A text.
    String(String),
    /// Series with at most one value per step: an instant vector, or the matrix of a range query.
    /// The order is that of the expression (`sort`, `topk`) for an instant query, by labels for
    /// a range query.
    Vector(Vec<SeriesRow>),
    /// Raw samples per series, by labels: the answer to an instant query of `x[5m]` or of a
    /// subquery.
    RangeVector(Vec<RangeSeries>),
}

/// Why a query has no answer. The kinds are what a caller can act on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// The query itself is wrong.
    #[error("{0}")]
    BadData(String),
    /// The query is right but cannot be computed over these data.
    #[error("{0}")]
    Execution(String),
    /// It ran longer than [`EngineOptions::timeout`].
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Nobody waits for it any more.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// Rows would be large, and can be asked for at so many steps after the others. Operators say
    /// it to those above; it is never the answer to a query.
    #[error("the steps are to be divided, at most {0} at a time")]
    Divide(usize),
    /// It would hold more than [`EngineOptions::max_samples`].
    #[error(
        "query processing would load too many samples into memory in query execution (limit {0}, \
         setting max_query_samples)"
    )]
    TooManySamples(u64),
    /// It, or all queries together, would hold more memory than they may.
    #[error("{0}")]
    Memory(MemoryExceeded),
    /// The samples could not be read.
    #[error(transparent)]
    Source(SourceError),
    /// A defect of the engine.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

impl From<SourceError> for QueryError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Memory(error) => Self::Memory(error),
            error => Self::Source(error),
        }
    }
}

impl QueryError {
    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }
}

/// How a query is evaluated.
#[derive(Debug, Clone)]
pub struct Explained {
    /// Its operators.
    pub plan: Operator,
    /// The same as DataFusion shows plans.
    pub text: String,
    /// What the user should know about the answer, if it was evaluated.
    pub annotations: Annotations,
}

/// Evaluates an expression.
///
/// `query_text` is the text that was parsed; annotations name positions in it. Needs a tokio
/// runtime with timers; everything is computed in tasks of their own, which stop soon after the
/// returned future is dropped.
pub async fn evaluate(
    expr: &Expr,
    query_text: &str,
    params: QueryParams,
    source: Arc<dyn SampleSource>,
    options: &EngineOptions,
) -> Result<QueryOutput, QueryError> {
    Query::new(expr, params, options)?
        .run(query_text, source, options, options.memory.pool(), false)
        .await
}

/// Says how an expression is evaluated, as far as that is known beforehand: nothing is read.
pub fn explain(
    expr: &Expr,
    params: QueryParams,
    options: &EngineOptions,
) -> Result<Explained, QueryError> {
    let plan: Arc<dyn ExecutionPlan> = Query::new(expr, params, options)?.plan;
    Ok(Explained {
        plan: explained::describe(&plan),
        text: explained::text(&plan, false),
        annotations: Annotations::default(),
    })
}

/// Evaluates an expression as [`evaluate`] does, and says what each operator did instead of the
/// answer.
pub async fn explain_analyze(
    expr: &Expr,
    query_text: &str,
    params: QueryParams,
    source: Arc<dyn SampleSource>,
    options: &EngineOptions,
) -> Result<Explained, QueryError> {
    let query = Query::new(expr, params, options)?;
    let pool = options.memory.pool();
    let plan: Arc<dyn ExecutionPlan> = Arc::clone(&query.plan) as _;
    let output = query.run(query_text, source, options, pool, true).await?;
    Ok(Explained {
        plan: explained::describe(&plan),
        text: explained::text(&plan, true),
        annotations: output.annotations,
    })
}

/// What the plan of a query takes at least, and for each byte of its text: an expression of a few
/// bytes is a node of some hundred.
const PLAN_BYTES: usize = 4 << 10;
const PLAN_BYTES_OF_TEXT: usize = 64;

/// Steps, bytes and expressions of a query that is small.
const FEW_STEPS: i64 = 1000;
const FEW_BYTES: usize = 1 << 10;
const FEW_EXPRESSIONS: usize = 24;

/// Whether only what selectors find can make a query large. Many nested calls make a short label
/// long.
fn is_small(expr: &Expr, params: &QueryParams) -> bool {
    let steps = match params.step_ms {
        ..=0 => 1,
        step => params.end_ms.saturating_sub(params.start_ms) / step,
    };
    let all = expr.all();
    steps <= FEW_STEPS
        && all.len() <= FEW_EXPRESSIONS
        && !all.iter().any(|expr| matches!(expr, Expr::Subquery(_)))
}

/// A planned query.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// What is evaluated.
    pub plan: Arc<PromExec>,
    /// At which steps.
    pub grid: grid::Grid,
    params: QueryParams,
    /// Unless its selectors find much, it takes no time.
    is_small: bool,
    /// How far instant selectors look back, in milliseconds.
    pub lookback: i64,
    begun: Instant,
    /// Bytes of compiled patterns.
    pattern_bytes: usize,
}

impl Query {
    /// Plans an expression.
    pub fn new(
        expr: &Expr,
        params: QueryParams,
        options: &EngineOptions,
    ) -> Result<Self, QueryError> {
        let is_range = params.step_ms > 0;
        let value_type = expr.value_type();
        if is_range && matches!(value_type, ValueType::String | ValueType::RangeVector) {
            let name = if value_type == ValueType::String {
                "string"
            } else {
                "range vector"
            };
            return Err(QueryError::BadData(format!(
                "invalid expression type {name:?} for range query, must be Scalar or instant \
                 Vector"
            )));
        }
        let begun = Instant::now();
        let planner = Planner::new(&params, options);
        let grid = grid::Grid::new(
            params.start_ms,
            params.end_ms,
            params.step_ms,
            options.max_samples,
        )?;
        Ok(Self {
            lookback: params
                .lookback_delta_ms
                .filter(|ms| *ms > 0)
                .unwrap_or(options.lookback_delta_ms),
            grid,
            params,
            begun,
            is_small: is_small(expr, &params),
            plan: Arc::new(planner.plan(expr, grid)?),
            // Those of selectors were compiled while they were parsed.
            pattern_bytes: planner.pattern_bytes()
                + expr
                    .selectors()
                    .into_iter()
                    .flat_map(|selector| &selector.matchers)
                    .map(Matcher::pattern_bytes)
                    .sum::<usize>(),
        })
    }

    /// Runs it in a task of its own, so that its client can go away while the task computes. With
    /// `profiled`, operators note what they do.
    pub async fn run(
        self,
        query_text: &str,
        source: Arc<dyn SampleSource>,
        options: &EngineOptions,
        pool: Arc<QueryPool>,
        profiled: bool,
    ) -> Result<QueryOutput, QueryError> {
        let plan_bytes = PLAN_BYTES + PLAN_BYTES_OF_TEXT * query_text.len() + self.pattern_bytes;
        let limits = limits::Limits::new(options.max_samples, options.timeout, pool, plan_bytes)?;
        // Counted while they are made, and once more as a part of the statistics.
        let counters = limits.charge(if options.count_samples {
            self.grid.count.saturating_mul(2 * size_of::<u64>())
        } else {
            0
        })?;
        let counts = options
            .count_samples
            .then(|| stats::StepCounts::new(self.grid.count));
        let grid = self.grid;
        let work = work::Work::new(source, options, limits, grid, self.lookback, profiled);
        let mut work = work.counting(counts.clone());
        work.spread = spread::Spread::of(&self.plan, query_text, self.params, options);
        let work = Arc::new(work);
        let _cancel = limits::CancelOnDrop(Arc::clone(&work.limits));
        let query_text = query_text.to_owned();
        let is_small = self.is_small && query_text.len() <= FEW_BYTES;
        let lane = work.lane.clone();
        let work = async move {
            let planned = Instant::now();
            let evaluated = self.plan.value(grid, &work).await?;
            let evaluation = planned.elapsed().saturating_sub(work.sorting());
            let (value, mut charge) = finish::answer(evaluated, &work.limits)?;
            charge.merge_bytes(counters);
            let (samples_read, peak_samples) = work.limits.samples();
            let stats = QueryStats {
                preparation: planned - self.begun,
                evaluation,
                sorting: work.sorting(),
                samples_read,
                peak_samples,
                samples_per_step: counts.map(|counts| counts.all()).unwrap_or_default(),
            };
            Ok(QueryOutput {
                value,
                annotations: work.annotations().render(&query_text),
                stats,
                held: charge.into_bytes(),
            })
        };
        let work = panics::caught(work);
        let done = async {
            match is_small {
                true => lane.here_first(work).await,
                false => lane.there(work).await,
            }
        };
        // The clock runs here, among others: the only timer of idle threads would wake one of them
        // for nothing.
        match tokio::time::timeout(options.timeout, done).await {
            Ok(Ok(result)) => result?,
            // The threads end.
            Ok(Err(_)) => Err(QueryError::Canceled),
            Err(_) => Err(QueryError::Timeout),
        }
    }
}
