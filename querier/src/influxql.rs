//! InfluxQL, the query language of InfluxDB 1.x.
//!
//! In the order in which a statement passes them:
//!
//! 1. `lexer`, `parser`: text to statements ([`ast`]);
//! 2. `compile`: names to columns of tables, functions to what they do
//!    (`plan`), checked by `check`; `condition` takes the time range out;
//! 3. `select`: carries a plan out over the units of a scan, which SQL and PromQL
//!    read as well;
//! 4. `show`: what there is, from series indexes alone;
//! 5. `change`: what a statement wants to have changed, which others carry out.
//!
//! Answers are those of InfluxDB 1.x, in what it documents and what it does: the time at which a
//! result stands, what fills windows, names of columns. Why the operators are not DataFusion's is
//! said in `DECISIONS.md`.

mod accumulate;
pub mod ast;
mod batches;
pub mod change;
mod check;
mod compile;
mod condition;
mod error;
mod eval;
mod explain;
mod fill;
mod lexer;
mod parser;
mod plan;
mod points;
mod rows;
mod scope;
mod select;
mod show;
#[cfg(test)]
mod tests;
mod transform;
mod value;
mod window;

use std::sync::Arc;

use tokio::time::Instant;

use crate::memory::QueryBytes;
use crate::processors::processors;
use crate::promql::exec::EngineOptions;
use crate::tables::Tables;

pub use ast::Statement;
pub use ast::{Literal, PolicyOptions};
pub use batches::Batches;
pub use chrono_tz::Tz;
pub use error::InfluxqlError;
pub use lexer::parse_duration;
pub use parser::{Params, ParseError, parse, pattern};
pub use scope::Scope;
pub use select::Series;
pub use value::{Column, ValueRef};

use select::Context;

/// The answer to a statement that reads.
#[derive(Debug)]
pub struct InfluxqlAnswer {
    /// Its series, in order.
    pub series: Vec<Series>,
    /// Their memory, counted until this is dropped.
    pub held: QueryBytes,
}

/// Answers a statement that reads. `now` is in ns since 1970.
pub(crate) async fn answer(
    tables: &Tables,
    options: &EngineOptions,
    statement: &Statement,
    scope: &Scope<'_>,
    now: i64,
) -> Result<InfluxqlAnswer, InfluxqlError> {
    let context = Context {
        tables: tables.clone(),
        pool: options.memory.pool(),
        deadline: Instant::now().checked_add(options.timeout),
        lane: options.lane.clone(),
        width: processors(),
    };
    let work = answer_within(&context, statement, scope, now);
    match context.deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| InfluxqlError::Timeout)?,
        None => work.await,
    }
}

async fn answer_within(
    context: &Context,
    statement: &Statement,
    scope: &Scope<'_>,
    now: i64,
) -> Result<InfluxqlAnswer, InfluxqlError> {
    let (series, held) = match statement {
        Statement::Select(select) => {
            let measures = scope.measures(&context.tables);
            let seed = context.tables.random();
            let plan = Arc::new(compile::compile(select, &measures, now, seed)?);
            select::select(context, &plan).await?
        }
        Statement::Explain(select) => {
            let measures = scope.measures(&context.tables);
            let plan = compile::compile(select, &measures, now, 0)?;
            (vec![explain::explain(&plan)], context.pool.try_hold(0)?)
        }
        statement => show::show(context, statement, scope, now).await?,
    };
    Ok(InfluxqlAnswer { series, held })
}
