//! What operators make of long values.
//!
//! Joins and `unnest` repeat a value of one side for many rows of the other, windows keep the rows
//! of a partition, and none of it is counted. An operator in front of their inputs therefore looks
//! at each batch: values that would become too much when they are repeated are refused, and rows
//! that are kept are counted.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::Array;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt};

use super::functions::widths;
use super::limits::{LimitsExtension, QueryLimits};
use crate::memory::{ClaimPool, QueryBytes};

/// Bytes that the long values of one row may become in a batch.
const MAX_REPEATED_BYTES: u64 = 256 << 20;
/// Rows are unnested together as long as they become at most this many bytes.
const UNNESTED_BYTES: u64 = 32 << 20;

/// Puts a [`GuardExec`] in front of the inputs of joins, `unnest` and windows.
#[derive(Debug)]
pub(super) struct GuardedInputs;

impl PhysicalOptimizerRule for GuardedInputs {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(LimitsExtension(limits)) = config.extensions.get() else {
            return Ok(plan);
        };
        plan.transform_up(|plan| {
            let Some(mode) = Mode::of(plan.as_ref()) else {
                return Ok(Transformed::no(plan));
            };
            let mut guarded = false;
            let children = plan
                .children()
                .into_iter()
                .map(|child| {
                    if !mode.concerns(&child.schema()) {
                        return Arc::clone(child);
                    }
                    guarded = true;
                    Arc::new(GuardExec::new(Arc::clone(child), mode, Arc::clone(limits)))
                })
                .collect();
            if !guarded {
                return Ok(Transformed::no(plan));
            }
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Transformed::yes(plan.replace_children(children, options)?))
        })
        .data()
    }

    fn name(&self) -> &str {
        "guarded_inputs"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What the operator behind does with the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Repeats them by index: a view is not copied.
    Joined,
    /// Repeats them by value.
    Crossed,
    /// Repeats each as often as its longest list has elements.
    Unnested,
    /// Keeps all, and copies them.
    Collected,
    /// Keeps some.
    Windowed,
}

impl Mode {
    fn of(plan: &dyn ExecutionPlan) -> Option<Self> {
        if plan.is::<CrossJoinExec>() {
            Some(Self::Crossed)
        } else if plan.is::<HashJoinExec>()
            || plan.is::<NestedLoopJoinExec>()
            || plan.is::<PiecewiseMergeJoinExec>()
            || plan.is::<SortMergeJoinExec>()
        {
            Some(Self::Joined)
        } else if plan.is::<UnnestExec>() {
            Some(Self::Unnested)
        } else if plan.is::<WindowAggExec>() {
            Some(Self::Collected)
        } else if plan.is::<BoundedWindowAggExec>() {
            Some(Self::Windowed)
        } else {
            None
        }
    }

    fn concerns(self, schema: &SchemaRef) -> bool {
        match self {
            Self::Joined | Self::Crossed => schema
                .fields()
                .iter()
                .any(|field| self.is_long(field.data_type())),
            Self::Unnested | Self::Collected | Self::Windowed => true,
        }
    }

    /// Whether values of a type are copied when they are repeated, and may be long.
    fn is_long(self, data_type: &DataType) -> bool {
        match data_type {
            DataType::Utf8View | DataType::BinaryView => self != Self::Joined,
            // Its values are not copied.
            DataType::Dictionary(_, _) => false,
            other => widths::fixed_width(other).is_none(),
        }
    }
}

#[derive(Debug, Clone)]
struct GuardExec {
    input: Arc<dyn ExecutionPlan>,
    mode: Mode,
    limits: Arc<QueryLimits>,
}

impl GuardExec {
    fn new(input: Arc<dyn ExecutionPlan>, mode: Mode, limits: Arc<QueryLimits>) -> Self {
        Self {
            input,
            mode,
            limits,
        }
    }
}

impl DisplayAs for GuardExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("GuardExec")
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &'static str {
        "GuardExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(Self {
                input,
                ..self.as_ref().clone()
            })),
            _ => internal_err!("GuardExec has one input"),
        }
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
        let batch_rows = context.session_config().batch_size();
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(Guarded {
            schema: input.schema(),
            input,
            mode: self.mode,
            limits: Arc::clone(&self.limits),
            batch_rows: batch_rows as u64,
            ready: VecDeque::new(),
            kept: None,
        }))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match input_stats.first() {
            Some(statistics) => Ok(Arc::clone(statistics)),
            None => internal_err!("GuardExec has one input"),
        }
    }
}

struct Guarded {
    schema: SchemaRef,
    input: SendableRecordBatchStream,
    mode: Mode,
    limits: Arc<QueryLimits>,
    batch_rows: u64,
    /// Parts of a batch that was too much at once.
    ready: VecDeque<RecordBatch>,
    /// Rows that the operator behind keeps until its end.
    kept: Option<QueryBytes>,
}

impl Guarded {
    fn look(&mut self, batch: RecordBatch) -> Result<()> {
        match self.mode {
            Mode::Joined | Mode::Crossed => {
                self.check_repeated(&batch)?;
                self.ready.push_back(batch);
            }
            Mode::Unnested => self.cut(&batch)?,
            Mode::Collected => {
                // The operator puts them together to one batch.
                let bytes = batch.get_array_memory_size().saturating_mul(2);
                match &mut self.kept {
                    Some(kept) => kept.try_grow(bytes).map_err(exceeded)?,
                    None => {
                        self.kept = Some(self.limits.pool().try_hold(bytes).map_err(exceeded)?);
                    }
                }
                self.ready.push_back(batch);
            }
            Mode::Windowed => {
                let bytes = batch.get_array_memory_size();
                drop(self.limits.pool().try_hold(bytes).map_err(exceeded)?);
                let pool = ClaimPool(Arc::clone(self.limits.pool()));
                for column in batch.columns() {
                    column.claim(&pool);
                }
                self.ready.push_back(batch);
            }
        }
        Ok(())
    }

    fn check_repeated(&self, batch: &RecordBatch) -> Result<()> {
        let rows = longest_rows(batch, |data_type| self.mode.is_long(data_type));
        let longest = rows.into_iter().max().unwrap_or(0);
        let limit = MAX_REPEATED_BYTES / self.batch_rows.max(1);
        if longest > limit {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "a row of {longest} bytes goes into a join, which may repeat it; it may have at \
                 most {limit}; leave long columns out before the join"
            )));
        }
        Ok(())
    }

    /// Cuts a batch into parts that do not become too large.
    fn cut(&mut self, batch: &RecordBatch) -> Result<()> {
        let all = longest_rows(batch, |_| true);
        let lists = longest_rows(batch, |data_type| data_type.is_nested());
        let (mut start, mut sum) = (0, 0u64);
        for (row, (all, lists)) in all.iter().zip(&lists).enumerate() {
            // An element of a list has at least eight bytes in `widths`.
            let becomes = (lists / 8).max(1).saturating_mul(all - lists + 16);
            let becomes = becomes.saturating_add(*lists);
            if becomes > MAX_REPEATED_BYTES {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "unnest() would make {becomes} bytes of one row; it may make at most \
                     {MAX_REPEATED_BYTES}"
                )));
            }
            if row > start && sum.saturating_add(becomes) > UNNESTED_BYTES {
                self.ready.push_back(batch.slice(start, row - start));
                (start, sum) = (row, 0);
            }
            sum = sum.saturating_add(becomes);
        }
        if start < batch.num_rows() {
            self.ready
                .push_back(batch.slice(start, batch.num_rows() - start));
        }
        Ok(())
    }
}

fn exceeded(error: crate::memory::MemoryExceeded) -> DataFusionError {
    DataFusionError::ResourcesExhausted(error.to_string())
}

/// Bytes of each row in the columns of some types.
fn longest_rows(batch: &RecordBatch, counts: impl Fn(&DataType) -> bool) -> Vec<u64> {
    let mut sums = vec![0u64; batch.num_rows()];
    for column in batch.columns() {
        if counts(column.data_type()) {
            for (sum, bytes) in sums.iter_mut().zip(widths::widths(column.as_ref())) {
                *sum = sum.saturating_add(bytes);
            }
        }
    }
    sums
}

impl Stream for Guarded {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(batch)));
            }
            match ready!(self.input.poll_next_unpin(cx)) {
                Some(Ok(batch)) => {
                    if batch.num_rows() == 0 {
                        return Poll::Ready(Some(Ok(batch)));
                    }
                    if let Err(error) = self.look(batch) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

impl RecordBatchStream for Guarded {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
