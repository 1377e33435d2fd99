//! What a statement takes and answers, found out without running it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};

use super::error::SqlError;
use super::limits::QueryLimits;
use super::promql::PromqlCalls;
use super::session::{self, Basis, Session};
use super::text::SqlText;
use super::{SqlEngine, SqlParam, catalog, statement, until};
use crate::promql::exec::EngineOptions;

/// The columns of an answer, and the types of parameters.
#[derive(Debug, Clone)]
pub struct SqlOutline {
    /// As batches have them; whether they may be null is not settled.
    pub columns: SchemaRef,
    /// Types of the parameters by their names, where their use tells one.
    pub parameters: BTreeMap<String, DataType>,
}

impl SqlEngine {
    /// Outlines a statement that reads. Its parameters need no values.
    pub async fn outline(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<SqlOutline, SqlError> {
        let deadline = self.deadline();
        let limits = QueryLimits::new(self.options.memory.pool(), deadline, None);
        let promql = EngineOptions {
            timeout: self.options.timeout.unwrap_or(Duration::MAX),
            ..self.options.promql.clone()
        };
        let now_ms = self.options.environment.now_ms();
        let samples = self.source.samples(db);
        let promql = PromqlCalls::new(samples, promql, now_ms, Arc::clone(limits.pool()));
        let database = catalog::Database::open(self.source.clone(), db)?;
        let (templates, db) = (Arc::clone(&self.templates), db.to_owned());
        let work = move || async move {
            let statement = statement::parse(text)?;
            let template = &templates.usual;
            let promql = Some(&promql);
            let Session { state, plan, .. } = session::logical(
                template,
                &database,
                &db,
                statement,
                promql,
                None,
                &limits,
                Basis::default(),
            )
            .await?;
            let mut parameters = BTreeMap::new();
            for (name, kind) in plan.get_parameter_types()? {
                if let Some(kind) = kind {
                    parameters.insert(name.trim_start_matches('$').to_owned(), kind);
                }
            }
            let plan = match params.is_empty() {
                true => plan,
                false => session::with_params(plan, params)?,
            };
            // Coercions may change types; nothing after them does.
            let options = state.config_options();
            let plan = state
                .analyzer()
                .execute_and_check(plan, options, |_, _| {})?;
            Ok(SqlOutline {
                columns: Arc::clone(plan.schema().inner()),
                parameters,
            })
        };
        let threads = self.options.lane.threads();
        let work = self.planners.run(&self.options.environment, threads, work);
        until(deadline, work).await
    }
}
