//! A call in the plan of a statement: rows of an answer that is there, or the plan of the
//! expression with its answer as rows.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::{Stream, TryStreamExt, stream};

use super::args::Call;
use super::table::{PromqlTable, schema};
use super::{Evaluator, PROMQL_FUNCTION};
use crate::promql::exec::Query;
use crate::promql::plan::PromExec;
use crate::promql::plan::labels::LabelNames;
use crate::sql::error::SqlError;

/// A call that is evaluated when its rows are asked for.
#[derive(Debug)]
pub(super) struct LazyCall {
    evaluator: Arc<Evaluator>,
    call: Call,
    query: Query,
    names: LabelNames,
    schema: SchemaRef,
}

impl LazyCall {
    /// A call whose series have these labels, and no histograms.
    pub fn new(evaluator: &Arc<Evaluator>, call: Call, query: Query, names: LabelNames) -> Self {
        Self {
            evaluator: Arc::clone(evaluator),
            call,
            query,
            schema: schema(&names, false),
            names,
        }
    }

    /// The answer of a plan, which is that of the call or a copy.
    async fn evaluate(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<PromqlTable>, SqlError> {
        let Some(plan) = plan.downcast_ref::<PromExec>() else {
            return Err(SqlError::Internal(format!(
                "{PROMQL_FUNCTION}() cannot be evaluated by {}",
                plan.name()
            )));
        };
        let mut query = self.query.clone();
        query.plan = Arc::new(plan.clone());
        let output = self.evaluator.run(&self.call, query).await?;
        let (value, held) = (output.value, output.held);
        let table = PromqlTable::new(self.call.clone(), value, &self.names, held)?;
        if table.schema() != &self.schema {
            return Err(SqlError::Unavailable(format!(
                "series with other labels, or histograms, have come since {PROMQL_FUNCTION}() was \
                 planned; ask again"
            )));
        }
        Ok(Arc::new(table))
    }
}

/// A call as the planner sees it.
#[derive(Debug, Clone)]
pub(super) enum PromqlProvider {
    /// Evaluated, and how long that took.
    Ready(Arc<PromqlTable>, Duration),
    Lazy(Arc<LazyCall>),
}

#[async_trait]
impl TableProvider for PromqlProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(match self {
            Self::Ready(table, _) => table.schema(),
            Self::Lazy(lazy) => &lazy.schema,
        })
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(PromqlExec::new(self, projection, limit)?))
    }
}

/// Gives the rows of an answer out.
#[derive(Debug)]
struct PromqlExec {
    call: PromqlProvider,
    /// The plan of the expression, if it is not evaluated yet.
    plan: Option<Arc<dyn ExecutionPlan>>,
    wanted: Vec<usize>,
    schema: SchemaRef,
    limit: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl PromqlExec {
    fn new(
        call: &PromqlProvider,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let all = call.schema();
        let wanted = projection.cloned();
        let wanted = wanted.unwrap_or_else(|| (0..all.fields().len()).collect());
        let schema = Arc::new(all.project(&wanted)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            plan: match call {
                PromqlProvider::Ready(..) => None,
                PromqlProvider::Lazy(lazy) => Some(Arc::clone(&lazy.query.plan) as _),
            },
            call: call.clone(),
            wanted,
            schema,
            limit,
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::new(properties),
        })
    }
}

impl DisplayAs for PromqlExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let call = match &self.call {
            PromqlProvider::Ready(table, _) => table.call(),
            PromqlProvider::Lazy(lazy) => &lazy.call,
        };
        // A plan is read line by line.
        let text = call.text.chars();
        let text = text.map(|c| if c.is_control() { ' ' } else { c });
        let text: String = text.take(200).collect();
        if t == DisplayFormatType::TreeRender {
            return write!(f, "promql={text}");
        }
        let (start, end, step) = (call.start_ms, call.end_ms, call.step_ms);
        write!(
            f,
            "PromqlExec: {text}, start={start}, end={end}, step={step}"
        )?;
        if let PromqlProvider::Ready(table, took) = &self.call {
            let (series, rows) = (table.series(), table.rows());
            let took = took.as_secs_f64() * 1000.0;
            write!(
                f,
                ", series={series}, rows={rows}, evaluated while planning in {took:.1} ms"
            )?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

/// The rows of an answer in batches.
fn batches(
    table: Arc<PromqlTable>,
    wanted: Vec<usize>,
    schema: SchemaRef,
    limit: Option<usize>,
    batch_rows: usize,
    metrics: BaselineMetrics,
) -> impl Stream<Item = Result<RecordBatch>> {
    let rows = limit.unwrap_or(usize::MAX).min(table.rows());
    stream::try_unfold(((0, 0), rows), move |(mut at, left)| {
        let timer = metrics.elapsed_compute().timer();
        let batch = table.batch(&mut at, batch_rows.min(left), &wanted, &schema);
        timer.done();
        if let Ok(Some(batch)) = &batch {
            metrics.record_output(batch.num_rows());
        }
        let batch = batch.map_err(|error| {
            DataFusionError::from(SqlError::Internal(format!(
                "an answer of PromQL does not fit its columns: {error}"
            )))
        });
        std::future::ready(batch.map(|batch| {
            batch.map(|batch| {
                let left = left - batch.num_rows();
                (batch, (at, left))
            })
        }))
    })
}

impl ExecutionPlan for PromqlExec {
    fn name(&self) -> &'static str {
        "PromqlExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.plan.iter().collect()
    }

    /// Series are never spread or gathered by operators of DataFusion's.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.children().len() {
            return internal_err!("{} has other children", self.name());
        }
        Ok(Arc::new(Self {
            call: self.call.clone(),
            plan: children.pop(),
            wanted: self.wanted.clone(),
            schema: Arc::clone(&self.schema),
            limit: self.limit,
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::clone(&self.properties),
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!(
                "an answer of PromQL has one partition, not one numbered {partition}"
            );
        }
        let (call, plan) = (self.call.clone(), self.plan.clone());
        let (wanted, schema, limit) = (self.wanted.clone(), Arc::clone(&self.schema), self.limit);
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batch_rows = context.session_config().batch_size().max(1);
        let rows = async move {
            let table = match (call, plan) {
                (PromqlProvider::Ready(table, _), _) => table,
                (PromqlProvider::Lazy(lazy), plan) => {
                    let plan = plan.unwrap_or_else(|| Arc::clone(&lazy.query.plan) as _);
                    lazy.evaluate(&plan).await?
                }
            };
            Ok::<_, DataFusionError>(batches(table, wanted, schema, limit, batch_rows, metrics))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            stream::once(rows).try_flatten(),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let PromqlProvider::Ready(table, _) = &self.call {
            let rows = self.limit.unwrap_or(usize::MAX).min(table.rows());
            statistics.num_rows = Precision::Exact(rows);
        }
        Ok(Arc::new(statistics))
    }
}
