//! `promql('sum by (job) (rate(x[5m]))', start, end, step)`: the answer to a PromQL expression as a
//! table.
//!
//! The columns of an answer are its labels. Where the plan of the expression says them (`by (...)`
//! does, and selectors do as soon as the indexes were asked), the plan becomes a part of the
//! statement's. Else, as of `x / on (a) y`, and where native histograms may come out, which need a
//! column of their own, it is evaluated while the statement is planned, within the time and the
//! samples that a query has, and in the memory of the SQL query, where its rows are counted as long
//! as the answer is read.
//!
//! The function that the planner calls cannot wait: it notes the call, planning ends, the call is
//! looked into, and the statement is planned anew, until no call is missing. Arguments reach it as
//! constants, `now() - INTERVAL '1 hour'` included.

mod args;
mod columns;
mod scan;
mod table;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::args::Call;
use self::scan::{LazyCall, PromqlProvider};
use self::table::PromqlTable;
use super::error::SqlError;
use crate::memory::QueryPool;
use crate::promql::exec::{EngineOptions, Query, QueryError, QueryOutput, QueryParams};
use crate::promql::parse::parse_with;
use crate::promql::plan::labels::{LabelNames, key, names, selectors};
use crate::promql::source::{SampleSource, SourceError};

/// The name of the function.
pub(super) const PROMQL_FUNCTION: &str = "promql";
/// Different calls in one statement.
const MAX_CALLS: usize = 16;

/// The calls of one statement.
pub(super) struct PromqlCalls {
    evaluator: Arc<Evaluator>,
    now_ms: i64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: HashMap<Call, Arc<dyn TableProvider>>,
    /// Met while planning, and not looked into yet.
    wanted: Vec<Call>,
}

/// Evaluates the calls of one statement.
struct Evaluator {
    source: Arc<dyn SampleSource>,
    options: EngineOptions,
    begun: Instant,
    /// The memory of the SQL query.
    pool: Arc<QueryPool>,
    warnings: Mutex<BTreeSet<String>>,
}

/// What the expressions of a statement have remarked so far.
#[derive(Clone)]
pub(super) struct Remarks(Arc<Evaluator>);

impl Remarks {
    /// Each once.
    pub fn list(&self) -> Vec<String> {
        self.0.warnings.lock().iter().cloned().collect()
    }
}

impl std::fmt::Debug for Remarks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remarks")
    }
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Evaluator")
    }
}

impl std::fmt::Debug for PromqlCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PromqlCalls")
    }
}

impl PromqlCalls {
    /// No calls yet. `now_ms` is when a call is evaluated that says no time.
    pub fn new(
        source: Arc<dyn SampleSource>,
        options: EngineOptions,
        now_ms: i64,
        pool: Arc<QueryPool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            evaluator: Arc::new(Evaluator {
                source,
                options,
                begun: Instant::now(),
                pool,
                warnings: Mutex::default(),
            }),
            now_ms,
            state: Mutex::default(),
        })
    }

    /// What the expressions have to remark: some of them when they have been evaluated.
    pub fn remarks(&self) -> Remarks {
        Remarks(Arc::clone(&self.evaluator))
    }

    /// Plans a statement in a session that has the function of these calls.
    pub async fn plan(
        &self,
        session: &SessionState,
        statement: Statement,
    ) -> Result<LogicalPlan, SqlError> {
        loop {
            let planned = session.statement_to_plan(statement.clone()).await;
            let wanted = std::mem::take(&mut self.state.lock().wanted);
            if wanted.is_empty() {
                return Ok(planned?);
            }
            for call in wanted {
                let table = self.evaluator.table(&call).await?;
                let mut state = self.state.lock();
                state.done.insert(call, table);
                if state.done.len() > MAX_CALLS {
                    return Err(SqlError::BadRequest(format!(
                        "the query is too complex: more than {MAX_CALLS} different calls of \
                         {PROMQL_FUNCTION}()"
                    )));
                }
            }
        }
    }
}

impl Evaluator {
    /// A call as a table.
    async fn table(self: &Arc<Self>, call: &Call) -> Result<Arc<dyn TableProvider>, SqlError> {
        let begun = Instant::now();
        let expr = parse_with(&call.text, self.options.experimental)
            .map_err(|error| SqlError::BadRequest(format!("{PROMQL_FUNCTION}(): {error}")))?;
        let params = QueryParams::range(call.start_ms, call.end_ms, call.step_ms);
        let query = Query::new(&expr, params, &self.options).map_err(sql_error)?;
        let certain = columns::certain(&expr);
        if let Some(names) = self.label_names(&query).await? {
            let names = certain.into_iter().chain(names).collect();
            let lazy = LazyCall::new(self, call.clone(), query, names);
            return Ok(Arc::new(PromqlProvider::Lazy(Arc::new(lazy))));
        }
        let output = self.run(call, query).await?;
        let (value, held) = (output.value, output.held);
        let table = PromqlTable::new(call.clone(), value, &certain, held)?;
        Ok(Arc::new(PromqlProvider::Ready(
            Arc::new(table),
            begun.elapsed(),
        )))
    }

    /// The names of the labels of an answer, if they are known before it is, and that it has no
    /// histograms.
    async fn label_names(&self, query: &Query) -> Result<Option<LabelNames>, SqlError> {
        if names(&query.plan, &mut |_| LabelNames::new()).is_none() {
            return Ok(None);
        }
        let mut known = HashMap::new();
        for selected in selectors(&query.plan, query.grid, query.lookback) {
            let (matchers, range) = (&selected.matchers, selected.range);
            let shape = self.source.shape(matchers, range, &self.pool).await;
            match shape.map_err(|error| sql_error(error.into()))? {
                Some(shape) if !shape.may_have_histograms => {
                    known.insert(selected.key, shape.label_names);
                }
                _ => return Ok(None),
            }
        }
        let mut lookup = |select: &_| known.get(&key(select)).cloned().unwrap_or_default();
        Ok(names(&query.plan, &mut lookup))
    }

    /// Evaluates a call, within what is left of the time.
    async fn run(&self, call: &Call, query: Query) -> Result<QueryOutput, SqlError> {
        let options = EngineOptions {
            timeout: self.options.timeout.saturating_sub(self.begun.elapsed()),
            ..self.options.clone()
        };
        let (source, pool) = (Arc::clone(&self.source), Arc::clone(&self.pool));
        let output = query.run(&call.text, source, &options, pool, true).await;
        let output = output.map_err(sql_error)?;
        let mut warnings = self.warnings.lock();
        warnings.extend(output.annotations.warnings.iter().cloned());
        warnings.extend(output.annotations.infos.iter().cloned());
        drop(warnings);
        Ok(output)
    }
}

fn sql_error(error: QueryError) -> SqlError {
    let message = format!("{PROMQL_FUNCTION}(): {error}");
    match error {
        QueryError::BadData(_) | QueryError::Execution(_) => SqlError::BadRequest(message),
        QueryError::Timeout | QueryError::Canceled => SqlError::Timeout,
        QueryError::TooManySamples(_)
        | QueryError::Memory(_)
        | QueryError::Source(SourceError::LimitExceeded(_) | SourceError::Memory(_)) => {
            SqlError::ResourcesExhausted(message)
        }
        QueryError::Source(SourceError::Unavailable(_)) => SqlError::Unavailable(message),
        QueryError::Divide(_) | QueryError::Panicked(_) => SqlError::Internal(message),
        QueryError::Source(SourceError::Corrupt { object, message }) => {
            SqlError::Damaged { object, message }
        }
    }
}

/// The function as the planner knows it.
#[derive(Debug)]
pub(super) struct PromqlFunction(pub Arc<PromqlCalls>);

impl TableFunctionImpl for PromqlFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let call = Call::read(args.exprs(), self.0.now_ms)?;
        let mut state = self.0.state.lock();
        if let Some(table) = state.done.get(&call) {
            return Ok(Arc::clone(table));
        }
        state.wanted.push(call);
        Err(SqlError::Internal(format!(
            "a call of {PROMQL_FUNCTION}() is not looked into yet"
        ))
        .into())
    }
}
