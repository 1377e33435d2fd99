//! `promql('sum by (job) (rate(x[5m]))', start, end, step)`: the answer to a PromQL expression as a
//! table.
//!
//! The columns of an answer are its labels, which are known for sure only when the expression has
//! been evaluated. So it is evaluated while the statement is planned, within the time and the
//! samples that a query has, and in the memory of the SQL query, where its rows are counted as long
//! as the answer is read. The
//! function that the planner calls cannot wait: it notes the call, planning ends, the call is
//! evaluated, and the statement is planned anew, until no call is missing. Arguments reach it as
//! constants, `now() - INTERVAL '1 hour'` included.
//!
//! Rejected: to derive the columns from the expression alone. `by (...)` says them, a selector does
//! not.

mod args;
mod columns;
mod table;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::args::Call;
use self::table::PromqlTable;
use super::error::SqlError;
use crate::memory::QueryPool;
use crate::promql::exec::{EngineOptions, QueryError, QueryParams, evaluate_in};
use crate::promql::parse::parse_with;
use crate::promql::source::{SampleSource, SourceError};

/// The name of the function.
pub(super) const PROMQL_FUNCTION: &str = "promql";
/// Different calls in one statement.
const MAX_CALLS: usize = 16;

/// The calls of one statement.
pub(super) struct PromqlCalls {
    source: Arc<dyn SampleSource>,
    options: EngineOptions,
    begun: Instant,
    now_ms: i64,
    /// The memory of the SQL query.
    pool: Arc<QueryPool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: HashMap<Call, Arc<PromqlTable>>,
    /// Met while planning, and not evaluated yet.
    wanted: Vec<Call>,
    warnings: BTreeSet<String>,
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
            source,
            options,
            begun: Instant::now(),
            now_ms,
            pool,
            state: Mutex::default(),
        })
    }

    /// What the expressions had to remark, each once.
    pub fn warnings(&self) -> Vec<String> {
        self.state.lock().warnings.iter().cloned().collect()
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
                let table = Arc::new(self.evaluate(&call).await?);
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

    async fn evaluate(&self, call: &Call) -> Result<PromqlTable, SqlError> {
        let begun = Instant::now();
        let expr = parse_with(&call.text, self.options.experimental)
            .map_err(|error| SqlError::BadRequest(format!("{PROMQL_FUNCTION}(): {error}")))?;
        let params = QueryParams::range(call.start_ms, call.end_ms, call.step_ms);
        let left = self.options.timeout.saturating_sub(self.begun.elapsed());
        let options = EngineOptions {
            timeout: left,
            ..self.options.clone()
        };
        let output = evaluate_in(
            Arc::clone(&self.pool),
            &expr,
            &call.text,
            params,
            Arc::clone(&self.source),
            &options,
        )
        .await
        .map_err(sql_error)?;
        let mut state = self.state.lock();
        state.warnings.extend(output.annotations.warnings);
        state.warnings.extend(output.annotations.infos);
        drop(state);
        PromqlTable::new(
            call.clone(),
            output.value,
            &columns::certain(&expr),
            output.held,
            begun.elapsed(),
        )
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
            return Ok(table.provider());
        }
        state.wanted.push(call);
        Err(SqlError::Internal(format!(
            "a call of {PROMQL_FUNCTION}() is not evaluated yet"
        ))
        .into())
    }
}

/// How long an evaluation took, for people.
fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
