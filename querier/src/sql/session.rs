//! From a statement to an executable plan.
//!
//! All queries share one memory pool and one set of functions; a query's own state is a copy of a
//! template with the query's database in it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::ParamValues;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ResolvedTableReference, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;

use super::catalog::{Database, INFORMATION_SCHEMA, PUBLIC_SCHEMA};
use super::edges::SeriesEdges;
use super::error::SqlError;
use super::functions::{self, BoundedExpressions};
use super::guard::GuardedInputs;
use super::limits::{LimitsExtension, QueryLimits};
use super::long_constants;
use super::postgres::{self, Description, PG_CATALOG, PgSession};
use super::promql::{PROMQL_FUNCTION, PromqlCalls, PromqlFunction};
use super::provider::ViewProvider;
use super::ready::ReadyPlan;
use super::retention::RETENTION_TABLE;
use super::shapes::{Known, KnownPlan, Shape, Shapes};
use super::text::SqlText;
use super::yielding::YieldingJoins;
use super::{SqlOptions, SqlParam, computing};
use crate::lane::Lane;
use crate::memory::QueryMemory;
use crate::small::FEW_ROWS;

/// A query that reads no more rows is computed by one thread: to hand rows to others takes longer.
const SMALL_ROWS: u64 = 64 * 1024;

/// A plan and what it runs in.
#[derive(Debug)]
pub(super) struct Planned {
    /// See [`Size`].
    pub is_small: bool,
    /// To read, at most, if that is known; as many as can be if rows may be made of few.
    pub rows: Option<u64>,
    pub plan: Arc<dyn ExecutionPlan>,
    pub context: Arc<TaskContext>,
}

impl Planned {
    /// Whether it reads at least so many rows.
    pub fn reads(&self, rows: u64) -> bool {
        self.rows.is_none_or(|all| all >= rows)
    }

    /// Starts it; what it computes is told to the lane.
    pub fn start(self, lane: &Lane) -> Result<SendableRecordBatchStream, SqlError> {
        let stream = execute_stream(Arc::clone(&self.plan), self.context)?;
        Ok(computing::told(self.plan, stream, lane))
    }
}

/// The states that queries start from.
#[derive(Debug)]
pub(super) struct Templates {
    pub usual: SessionState,
    /// As usual, with functions of PostgreSQL.
    postgres: SessionState,
    /// For small queries that are optimized already: without functions, as nothing looks for them
    /// by their names any more, and rules that do nothing for them.
    small: SessionState,
}

/// Rules for joins, windows, many partitions, and what only shows when a query runs.
const RULES_OF_LARGE: [&str; 8] = [
    "join_selection",
    "FilterPushdown",
    "FilterPushdown(Post)",
    "WindowTopN",
    "LimitPushPastWindows",
    "HashJoinBuffering",
    "TopKRepartition",
    "PushdownSort",
];

/// What states are made of.
pub(super) fn templates(options: &SqlOptions) -> Result<Templates, SqlError> {
    let mut config = SessionConfig::new()
        .with_batch_size(options.batch_rows.max(1))
        .with_target_partitions(options.target_partitions.max(1))
        .with_create_default_catalog_and_schema(false)
        // The one that DataFusion would add describes the tables as batches have them; see
        // `catalog`.
        .with_information_schema(false);
    // Names mean what is written: tags and fields are case sensitive.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let runtime = runtime(options)?;
    let rules = PhysicalOptimizer::new().rules.into_iter();
    let rules = rules.filter(|rule| !RULES_OF_LARGE.contains(&rule.name()));
    let small = SessionStateBuilder::new()
        .with_config(config.clone())
        .with_runtime_env(Arc::clone(&runtime))
        .with_physical_optimizer_rules(rules.collect())
        .with_physical_optimizer_rule(Arc::new(GuardedInputs))
        .build();
    let mut usual = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_analyzer_rule(Arc::new(BoundedExpressions))
        .with_optimizer_rule(Arc::new(SeriesEdges))
        .with_physical_optimizer_rule(Arc::new(YieldingJoins))
        .with_physical_optimizer_rule(Arc::new(GuardedInputs))
        .build();
    let mut with_postgres = usual.clone();
    postgres::register(&mut with_postgres)?;
    functions::bound_all(&mut usual)?;
    functions::bound_all(&mut with_postgres)?;
    Ok(Templates {
        usual,
        postgres: with_postgres,
        small,
    })
}

fn runtime(options: &SqlOptions) -> Result<Arc<RuntimeEnv>, SqlError> {
    let disk = match &options.spill_dir {
        Some(directory) => DiskManagerMode::Directories(vec![directory.clone()]),
        None => DiskManagerMode::Disabled,
    };
    Ok(RuntimeEnvBuilder::new()
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
        .build_arc()?)
}

/// A statement with its names looked up, and what it was planned in.
pub(super) struct Session {
    pub state: SessionState,
    pub plan: LogicalPlan,
    /// All tables that it names.
    pub tables: Vec<ResolvedTableReference>,
}

/// What a query is planned with.
#[derive(Clone)]
pub(super) struct Planning {
    pub templates: Arc<Templates>,
    pub shapes: Arc<Shapes>,
    pub database: Arc<Database>,
    pub db: String,
    /// Of a client of PostgreSQL.
    pub session: Option<Arc<PgSession>>,
    pub limits: Arc<QueryLimits>,
    pub basis: Basis,
}

/// What plans depend on beside their texts, tables and settings.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Basis {
    /// As of when `now()` is, if not as of the planning.
    pub started: Option<DateTime<Utc>>,
    /// Partitions that a query runs in, if not as many as there are processors here.
    pub partitions: Option<usize>,
}

impl Planning {
    /// What plans depend on beside their statement.
    pub fn key(&self) -> String {
        match &self.session {
            None => self.db.clone(),
            Some(session) => format!("{}\n{}\n{}", self.db, session.schema, session.time_zone),
        }
    }

    fn template(&self) -> &SessionState {
        match &self.session {
            None => &self.templates.usual,
            Some(_) => &self.templates.postgres,
        }
    }

    /// See [`SqlEngine::describe`](super::SqlEngine::describe).
    pub async fn describe(
        &self,
        text: SqlText,
        promql: &Arc<PromqlCalls>,
    ) -> Result<Description, SqlError> {
        let statement = super::statement::parse(text)?;
        let Session { state, plan, .. } = self.logical(statement, Some(promql)).await?;
        let parameters = postgres::parameter_types(&plan)?;
        // Types are settled by the analyzer, which does not like parameters of no type.
        let config = state.config_options();
        let analyzed = state
            .analyzer()
            .execute_and_check(plan.clone(), config, |_, _| {});
        let plan = analyzed.unwrap_or(plan);
        Ok(Description {
            columns: Arc::clone(plan.schema().inner()),
            parameters,
        })
    }

    async fn logical(
        &self,
        statement: Statement,
        promql: Option<&Arc<PromqlCalls>>,
    ) -> Result<Session, SqlError> {
        let session = self.session.as_ref();
        let (database, limits) = (&self.database, &self.limits);
        logical(
            self.template(),
            database,
            &self.db,
            statement,
            promql,
            session,
            limits,
            self.basis,
        )
        .await
    }

    fn state(&self, template: &SessionState) -> SessionState {
        let session = self.session.as_ref();
        state(template, &self.db, session, &self.limits, self.basis)
    }

    /// Plans a statement of a shape whose plan is kept; `None` if there is none.
    pub async fn known(&self, shape: &Shape) -> Result<Option<Planned>, SqlError> {
        match self.shapes.find(&self.database, shape).await? {
            Known::Plan(known) => self.physical_of_shape(known).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn physical_of_shape(&self, known: KnownPlan) -> Result<Planned, SqlError> {
        if let Some(ReadyPlan { plan, config }) = known.ready().await? {
            self.limits.planned();
            let runtime = self.templates.small.runtime_env();
            return Ok(Planned {
                is_small: true,
                rows: None,
                plan,
                context: context(config, runtime, &self.limits),
            });
        }
        let plan = known.logical()?;
        let size = size(&plan).await?;
        if !size.is_small {
            let state = self.state(self.template());
            return physical(state, plan, size, &self.limits).await;
        }
        if known.is_new() && size.rows > 0 {
            self.make_ready(&known).await?;
        }
        let state = self.state(&self.templates.small);
        physical(state, plan, size, &self.limits).await
    }

    /// Makes operators of a plan that are to be kept, and that must hold nothing of this query.
    async fn make_ready(&self, known: &KnownPlan) -> Result<(), SqlError> {
        let plan = known.logical()?;
        let size = size(&plan).await?;
        let nobody = QueryLimits::new(QueryMemory::unlimited().pool(), None, None);
        let small = &self.templates.small;
        let session = self.session.as_ref();
        let state = state(small, &self.db, session, &nobody, self.basis);
        let Planned { plan, context, .. } = physical(state, plan, size, &nobody).await?;
        known.keep(|| ReadyPlan::of(&plan, context.session_config().clone()));
        Ok(())
    }

    /// Plans a statement that [`super::statement::parse`] let through. A plan of `shape` is kept.
    pub async fn plan(
        &self,
        statement: Statement,
        shape: Option<&Shape>,
        params: HashMap<String, SqlParam>,
        promql: &Arc<PromqlCalls>,
    ) -> Result<Planned, SqlError> {
        if let Some(shape) = shape {
            let known = match self.shapes.find(&self.database, shape).await? {
                Known::No => self.plan_shape(shape).await,
                known => known,
            };
            if let Known::Plan(plan) = known {
                return self.physical_of_shape(plan).await;
            }
        }
        let promql = Some(promql);
        let Session {
            mut state, plan, ..
        } = self.logical(statement, promql).await?;
        let plan = with_params(plan, params)?;
        let plan = optimized(&mut state, &plan)?;
        let size = size(&plan).await?;
        physical(state, plan, size, &self.limits).await
    }

    /// Plans a shape and keeps what was learned. An error is better told of what was written.
    async fn plan_shape(&self, shape: &Shape) -> Known {
        let statement = shape.statement();
        let session = self.logical(statement, None).await;
        let plans = session.and_then(|mut session| {
            let plan = optimized(&mut session.state, &session.plan)?;
            Ok((session.plan, plan))
        });
        let Ok((logical, optimized)) = plans else {
            return Known::AsWritten;
        };
        self.shapes.keep(shape, &logical, &optimized);
        let found = self.shapes.find(&self.database, shape).await;
        found.unwrap_or(Known::AsWritten)
    }
}

fn optimized(state: &mut SessionState, plan: &LogicalPlan) -> Result<LogicalPlan, SqlError> {
    if is_simple(plan) {
        state.config_mut().options_mut().optimizer.max_passes = 1;
    }
    Ok(state.optimize(plan)?)
}

/// How much a query has to do.
struct Size {
    /// To read, at most; as many as can be if that is not known.
    rows: u64,
    /// Whether it is computed as fast as it could be handed over to other threads.
    is_small: bool,
    /// See [`multiplies`].
    multiplies: bool,
}

/// Plans the scans of a query ahead.
async fn size(plan: &LogicalPlan) -> Result<Size, SqlError> {
    let known = rows_to_read(plan).await?;
    let rows = known.unwrap_or(u64::MAX);
    Ok(Size {
        rows,
        is_small: rows <= FEW_ROWS && is_cheap(plan),
        multiplies: known.is_none() && multiplies(plan)?,
    })
}

async fn physical(
    mut state: SessionState,
    plan: LogicalPlan,
    size: Size,
    limits: &Arc<QueryLimits>,
) -> Result<Planned, SqlError> {
    let usual = state.config().batch_size();
    let batch_rows = long_constants::batch_rows(&plan, usual)?;
    if batch_rows < usual {
        *state.config_mut() = state.config().clone().with_batch_size(batch_rows);
    }
    if size.rows <= SMALL_ROWS {
        state.config_mut().options_mut().execution.target_partitions = 1;
    }
    let planner = Arc::clone(state.query_planner());
    let plan = planner.create_physical_plan(&plan, &state).await?;
    limits.planned();
    Ok(Planned {
        is_small: size.is_small,
        rows: match size.multiplies {
            true => Some(u64::MAX),
            false => Some(size.rows).filter(|rows| *rows < u64::MAX),
        },
        plan,
        context: context(state.config().clone(), state.runtime_env(), limits),
    })
}

/// What operators run in.
fn context(
    config: SessionConfig,
    runtime: &RuntimeEnv,
    limits: &Arc<QueryLimits>,
) -> Arc<TaskContext> {
    let runtime = RuntimeEnv {
        memory_pool: Arc::clone(limits) as Arc<dyn MemoryPool>,
        ..runtime.clone()
    };
    // Functions are in the plan; by their names nothing looks for them any more.
    Arc::new(TaskContext::new(
        None,
        String::new(),
        config,
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        Arc::new(runtime),
    ))
}

/// Whether a node makes of the rows of one table no more rows than there are.
fn is_plain(node: &LogicalPlan) -> bool {
    matches!(
        node,
        LogicalPlan::TableScan(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Sort(_)
    ) && !node.expressions().iter().any(has_subquery)
}

/// Whether a row takes little time: no node joins it with others, and no function makes much of it.
fn is_cheap(plan: &LogicalPlan) -> bool {
    let is_costly = |expr: &Expr| {
        expr.exists(|part| match part {
            Expr::ScalarFunction(call) => Ok(!functions::is_cheap(&call.func)),
            _ => Ok(false),
        })
        .unwrap_or(true)
    };
    let has_costly = plan.exists(|node| {
        let fits =
            is_plain(node) || matches!(node, LogicalPlan::EmptyRelation(_) | LogicalPlan::Limit(_));
        Ok(!fits || node.expressions().iter().any(is_costly))
    });
    matches!(has_costly, Ok(false))
}

/// Whether one pass of the optimizer does all that can be done. More are for what only shows when
/// joins were moved, subqueries became joins, and no filter is left between a limit and its scan.
fn is_simple(plan: &LogicalPlan) -> bool {
    let has_others = plan.exists(|node| {
        let fits =
            is_plain(node) || matches!(node, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        Ok(!fits)
    });
    matches!(has_others, Ok(false))
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
        ))
    })
    .unwrap_or(true)
}

/// Whether a query joins what a function makes, or what it makes itself: how many rows that are
/// shows only while other tasks than the query's first compute them.
fn multiplies(plan: &LogicalPlan) -> Result<bool, SqlError> {
    let (mut makes, mut joins) = (false, false);
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                let is_listed = scan.table_name.schema().is_some()
                    || scan.table_name.table().starts_with("pg_");
                makes |= provider.downcast_ref::<ViewProvider>().is_none() && !is_listed;
            }
            LogicalPlan::RecursiveQuery(_) | LogicalPlan::Unnest(_) => makes = true,
            LogicalPlan::Join(_) => joins = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(makes && joins)
}

/// Plans all scans of a query ahead. Returns how many rows there are to read at most, if all that
/// it reads are tables.
async fn rows_to_read(plan: &LogicalPlan) -> Result<Option<u64>, SqlError> {
    let mut scans = Vec::new();
    let mut others = false;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                match provider.downcast_ref::<ViewProvider>() {
                    Some(view) => {
                        let filters: Vec<Expr> = unnormalize_cols(scan.filters.clone());
                        scans.push((view.clone(), scan.projection.clone(), filters));
                    }
                    None => others = true,
                }
            }
            LogicalPlan::RecursiveQuery(_) | LogicalPlan::Unnest(_) => others = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if others {
        return Ok(None);
    }
    let mut rows = 0u64;
    for (view, projection, filters) in scans {
        rows = rows.saturating_add(view.plan_ahead(projection.as_ref(), &filters).await?);
    }
    Ok(Some(rows))
}

/// The state of a query.
fn state(
    template: &SessionState,
    db: &str,
    session: Option<&Arc<PgSession>>,
    limits: &Arc<QueryLimits>,
    basis: Basis,
) -> SessionState {
    let mut state = template.clone();
    let options = state.config_mut().options_mut();
    options.catalog.default_catalog = db.to_owned();
    options.catalog.default_schema = default_schema(session).to_owned();
    if let Some(session) = session {
        options.execution.time_zone = Some(session.time_zone.clone());
    }
    let limits = LimitsExtension(Arc::clone(limits));
    options.extensions.insert(limits);
    state.mark_start_execution();
    if let Some(started) = basis.started {
        state.execution_props_mut().query_execution_start_time = Some(started);
    }
    if let Some(partitions) = basis.partitions {
        state.config_mut().options_mut().execution.target_partitions = partitions.max(1);
    }
    state
}

/// Where names without a schema are looked up.
fn default_schema(session: Option<&Arc<PgSession>>) -> &str {
    session.map_or(PUBLIC_SCHEMA, |session| &session.schema)
}

/// The logical plan of such a statement. Without `promql` it cannot call the function of that name.
pub(super) async fn logical(
    template: &SessionState,
    database: &Arc<Database>,
    db: &str,
    statement: Statement,
    promql: Option<&Arc<PromqlCalls>>,
    session: Option<&Arc<PgSession>>,
    limits: &Arc<QueryLimits>,
    basis: Basis,
) -> Result<Session, SqlError> {
    let mut state = state(template, db, session, limits, basis);
    if let Some(promql) = promql {
        state.register_udtf(
            PROMQL_FUNCTION,
            Arc::new(PromqlFunction(Arc::clone(promql))),
        );
    }

    let mut described = BTreeSet::new();
    let mut tables = Vec::new();
    for reference in state.resolve_table_references(&statement)? {
        let name = reference.resolve(db, default_schema(session));
        if &*name.schema == INFORMATION_SCHEMA {
            if &*name.table != RETENTION_TABLE {
                described.insert(name.table.to_string());
            }
        } else if &*name.schema == PG_CATALOG && session.is_some() {
            described.extend(postgres::needed_by(&name.table)?.map(str::to_owned));
        } else if !state.table_functions().contains_key(&*name.table) {
            database
                .require(&name.catalog, &name.schema, &name.table)
                .await?;
        }
        tables.push(name);
    }
    let described = database.describe(&described).await?;
    state.register_catalog_list(database.catalogs(described, session)?);

    let logical = match promql {
        Some(promql) if tables.iter().any(|name| &*name.table == PROMQL_FUNCTION) => {
            promql.plan(&state, statement).await?
        }
        _ => state.statement_to_plan(statement).await?,
    };
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&logical)?;
    Ok(Session {
        state,
        plan: logical,
        tables,
    })
}

/// A plan with the values of its parameters.
pub(super) fn with_params(
    plan: LogicalPlan,
    params: HashMap<String, SqlParam>,
) -> Result<LogicalPlan, SqlError> {
    let names = plan.get_parameter_names()?;
    if names.is_empty() {
        return Ok(plan);
    }
    if let Some(missing) = names
        .iter()
        .find(|name| !params.contains_key(name.trim_start_matches('$')))
    {
        return Err(SqlError::BadRequest(format!(
            "the query uses parameter {missing}, which was not given in params"
        )));
    }
    let values = params
        .into_iter()
        .map(|(name, value)| (name, ScalarAndMetadata::from(ScalarValue::from(value))))
        .collect();
    Ok(plan.with_param_values(ParamValues::Map(values))?)
}

impl From<SqlParam> for ScalarValue {
    fn from(value: SqlParam) -> Self {
        match value {
            SqlParam::Null => ScalarValue::Null,
            SqlParam::Boolean(value) => ScalarValue::Boolean(Some(value)),
            SqlParam::Integer(value) => ScalarValue::Int64(Some(value)),
            SqlParam::Unsigned(value) => ScalarValue::UInt64(Some(value)),
            SqlParam::Float(value) => ScalarValue::Float64(Some(value)),
            SqlParam::String(value) => ScalarValue::Utf8(Some(value)),
            SqlParam::Time(value) => ScalarValue::TimestampNanosecond(Some(value), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_left_out_are_there() {
        let rules = PhysicalOptimizer::new().rules;
        for name in RULES_OF_LARGE {
            assert!(rules.iter().any(|rule| rule.name() == name), "{name}");
        }
    }
}
