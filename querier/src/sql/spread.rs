//! Aggregations over many rows, which other processes compute parts of.
//!
//! Partial aggregations over one scan are told by their place in the plan: each process plans the
//! text anew, over the same state of the tables and as of the same time, takes a range of the units
//! of the scan, and sends what the operator makes of it. A part is kept until all of it is there,
//! so that one which breaks off can be computed here instead.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, replace_children_if_necessary,
};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, ReplaceChildrenOptions, displayable, execute_stream,
};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use prost::Message;
use tidelake_catalog::segment::{ReadCounts, ReadMeter};
use tokio::time::Instant;

use super::part::{SqlEndMessage, SqlPartMessage, VERSION, decode};
use super::ready::on_scan;
use super::scan_exec::ScanExec;
use crate::parts::{self, Asked, Frame, PartKind, PartRequest, Worker, Workers};
use crate::promql::source::Part;
use crate::sql_rows::sql_error;
use crate::tables::State;

/// A partial aggregation over one scan, in a plan.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    /// Counted from the root on, operators before their inputs.
    number: u32,
    /// The operator and those below it, as plans are shown.
    pub shown: String,
    plan: Arc<dyn ExecutionPlan>,
}

impl Fragment {
    /// The one of a number.
    pub fn find(plan: &Arc<dyn ExecutionPlan>, number: u32) -> Option<Self> {
        let mut found = None;
        let mut keep = |fragment: Self| {
            if fragment.number == number {
                found = Some(fragment);
            }
            Ok(None)
        };
        replace(plan, false, &mut 0, &mut keep).ok()?;
        found
    }

    fn scan(&self) -> Option<&ScanExec> {
        scan_of(&self.plan)
    }

    /// The same over a part of the series, in at most so many partitions.
    pub fn part(&self, part: Part, partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
        on_scan(&self.plan, &|scan| scan.part(part, partitions))
    }

    /// Requests to the store that the scan has made, and bytes that they asked for.
    pub fn reads(&self) -> (u64, u64) {
        let counts = self.scan().map(ScanExec::reads).unwrap_or_default();
        (counts.requests, counts.bytes)
    }
}

/// The scan below operators that look at one row after the other.
fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&ScanExec> {
    let mut below = plan.children().first().copied()?;
    loop {
        if let Some(scan) = below.downcast_ref::<ScanExec>() {
            return Some(scan);
        }
        let is_plain = below.is::<FilterExec>()
            || below.is::<ProjectionExec>()
            || below.is::<CooperativeExec>();
        let fetches = below.fetch().is_some();
        let [input] = below.children()[..] else {
            return None;
        };
        if !is_plain || fetches {
            return None;
        }
        below = input;
    }
}

/// A plan with other operators in place of its fragments. `gathers` is whether the operator above
/// takes any number of partitions.
fn replace(
    plan: &Arc<dyn ExecutionPlan>,
    gathers: bool,
    next: &mut u32,
    change: &mut dyn FnMut(Fragment) -> Result<Option<Arc<dyn ExecutionPlan>>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let number = *next;
    *next += 1;
    let is_partial = plan
        .downcast_ref::<AggregateExec>()
        .is_some_and(|aggregate| *aggregate.mode() == AggregateMode::Partial);
    if is_partial && gathers && scan_of(plan).is_some() {
        let fragment = Fragment {
            number,
            shown: displayable(&**plan).indent(false).to_string(),
            plan: Arc::clone(plan),
        };
        // The value of a subquery is computed beside the operator.
        let is_alone = !fragment.shown.contains("scalar_subquery(");
        if is_alone && let Some(changed) = change(fragment)? {
            return Ok(changed);
        }
    }
    let gathers = plan.is::<CoalescePartitionsExec>() || plan.is::<RepartitionExec>();
    let inputs: Result<Vec<_>> = plan
        .children()
        .into_iter()
        .map(|input| replace(input, gathers, next, change))
        .collect();
    replace_children_if_necessary(Arc::clone(plan), inputs?)
}

/// A query whose aggregations other processes can compute parts of.
#[derive(Debug)]
pub(super) struct Spread {
    pub workers: Arc<dyn Workers>,
    /// What is read.
    pub state: Arc<State>,
    pub database: String,
    pub text: String,
    /// As of when `now()` is.
    pub started_ms: i64,
    /// What counts that which is read for the query, and how much it lets through.
    pub meter: Option<Arc<ReadMeter>>,
    pub max_read_bytes: u64,
    pub deadline: Option<Instant>,
    /// Rows that a part has at least.
    pub part_rows: u64,
    pub partitions: usize,
}

impl Spread {
    /// The plan with its large aggregations cut into parts.
    pub fn over(self, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let spread = Arc::new(self);
        replace(plan, false, &mut 0, &mut |fragment| {
            let Some(scan) = fragment.scan() else {
                return Ok(None);
            };
            let takers = parts::takers(
                &*spread.workers,
                &spread.database,
                scan.units(),
                scan.rows(),
                spread.part_rows,
            );
            let Some(takers) = takers else {
                return Ok(None);
            };
            let parts = PartsExec::new(Arc::clone(&spread), fragment, &takers)?;
            Ok(Some(Arc::new(parts) as _))
        })
    }
}

/// What one process did.
#[derive(Debug, Clone)]
struct TaskRun {
    worker: String,
    bytes: u64,
    time: Duration,
    failed: Option<String>,
}

/// A part that another process computes.
#[derive(Debug)]
struct Elsewhere {
    node: Arc<str>,
    part: Part,
}

/// An aggregation of which other processes compute parts. Its first partitions are those of the
/// part that is computed here, and each other part is a partition.
#[derive(Debug)]
struct PartsExec {
    spread: Arc<Spread>,
    fragment: Fragment,
    /// The part that is computed here.
    here: Arc<dyn ExecutionPlan>,
    others: Arc<[Elsewhere]>,
    runs: Arc<Mutex<Vec<TaskRun>>>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl PartsExec {
    fn new(spread: Arc<Spread>, fragment: Fragment, takers: &[Worker]) -> Result<Self> {
        let of = takers.len();
        let mut here = Part { index: 0, of: 1 };
        let mut others = Vec::with_capacity(of);
        for (index, taker) in takers.iter().enumerate() {
            let part = Part { index, of };
            match taker {
                Worker::Here => here = part,
                Worker::Node(node) => others.push(Elsewhere {
                    node: Arc::clone(node),
                    part,
                }),
            }
        }
        let here = fragment.part(here, spread.partitions)?;
        Ok(Self::of(spread, fragment, here, others.into()))
    }

    fn of(
        spread: Arc<Spread>,
        fragment: Fragment,
        here: Arc<dyn ExecutionPlan>,
        others: Arc<[Elsewhere]>,
    ) -> Self {
        let partitions = here.properties().partitioning.partition_count() + others.len();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(here.schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            spread,
            fragment,
            here,
            others,
            runs: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for PartsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartsExec: parts={}, others=[", self.others.len() + 1)?;
        let runs = self.runs.lock();
        for (number, other) in self.others.iter().enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", other.node)?;
            let Some(run) = runs.iter().find(|run| *run.worker == *other.node) else {
                continue;
            };
            write!(f, ": {} bytes in {:?}", run.bytes, run.time)?;
            if let Some(error) = &run.failed {
                write!(f, ", here because: {error}")?;
            }
        }
        f.write_str("]")
    }
}

impl ExecutionPlan for PartsExec {
    fn name(&self) -> &'static str {
        "PartsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.here]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let here = children.into_iter().next();
        let here = here.unwrap_or_else(|| Arc::clone(&self.here));
        let (spread, fragment) = (Arc::clone(&self.spread), self.fragment.clone());
        let others = Arc::clone(&self.others);
        Ok(Arc::new(Self::of(spread, fragment, here, others)))
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
        let here = self.here.properties().partitioning.partition_count();
        let Some(other) = partition.checked_sub(here) else {
            return self.here.execute(partition, context);
        };
        let elsewhere = self.others.get(other).map(|other| Elsewhere {
            node: Arc::clone(&other.node),
            part: other.part,
        });
        let run = PartRun {
            spread: Arc::clone(&self.spread),
            fragment: self.fragment.clone(),
            runs: Arc::clone(&self.runs),
            memory: MemoryConsumer::new(format!("PartsExec[{partition}]"))
                .register(context.memory_pool()),
            requests: MetricBuilder::new(&self.metrics).counter("remote_requests", partition),
            read: MetricBuilder::new(&self.metrics).counter("remote_bytes_read", partition),
            counts: ReadCounts::default(),
        };
        let batches = stream::once(async move {
            match elsewhere {
                Some(elsewhere) => run.batches(&elsewhere, context).await,
                None => Ok(stream::empty().boxed()),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            batches.try_flatten(),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A part of another process while it is waited for.
struct PartRun {
    spread: Arc<Spread>,
    fragment: Fragment,
    runs: Arc<Mutex<Vec<TaskRun>>>,
    memory: MemoryReservation,
    requests: Count,
    read: Count,
    counts: ReadCounts,
}

type Batches = stream::BoxStream<'static, Result<RecordBatch>>;

impl PartRun {
    async fn batches(mut self, of: &Elsewhere, context: Arc<TaskContext>) -> Result<Batches> {
        let begun = Instant::now();
        let mut batches = Vec::new();
        let mut bytes = 0;
        let asked = self.ask(of, &mut batches, &mut bytes).await;
        let run = TaskRun {
            worker: of.node.to_string(),
            bytes,
            time: begun.elapsed(),
            failed: asked.as_ref().err().cloned(),
        };
        self.runs.lock().push(run);
        let Err(error) = asked else {
            if let Some(meter) = &self.spread.meter {
                let added = meter.add(self.counts);
                added.map_err(|error| DataFusionError::from(sql_error(error)))?;
            }
            let memory = self.memory;
            return Ok(stream::iter(batches)
                .map(move |batch| {
                    let _held = &memory;
                    Ok(batch)
                })
                .boxed());
        };
        drop(batches);
        self.memory.free();
        tracing::warn!(node = %of.node, %error, "a part of a query is computed here instead");
        let plan = self.fragment.part(of.part, self.spread.partitions)?;
        Ok(execute_stream(plan, context)?.boxed())
    }

    async fn ask(
        &mut self,
        of: &Elsewhere,
        batches: &mut Vec<RecordBatch>,
        bytes: &mut u64,
    ) -> Result<(), String> {
        let spread = &self.spread;
        let left = spread.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let message = SqlPartMessage {
            version: VERSION,
            text: spread.text.clone(),
            started_ms: spread.started_ms,
            operator: self.fragment.number,
            shown: self.fragment.shown.clone(),
            part: of.part.index as u64,
            parts: of.part.of as u64,
            timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            partitions: spread.partitions as u64,
            max_read_bytes: spread.max_read_bytes,
        };
        let request = PartRequest {
            head: message.encode_to_vec().into(),
            kind: PartKind::Sql,
            state: Arc::clone(&spread.state),
        };
        let schema: SchemaRef = self.fragment.plan.schema();
        let mut asked = Asked::ask(&*spread.workers, &of.node, request).await?;
        loop {
            let frame = asked.next().await?;
            *bytes = asked.bytes;
            match frame {
                Frame::Unit(unit) => {
                    // As bytes and as a batch.
                    let grown = self.memory.try_grow(2 * unit.len());
                    grown.map_err(|error| error.to_string())?;
                    let batch = decode(unit)?;
                    // Metadata may be another's.
                    let batch = batch.with_schema(Arc::clone(&schema));
                    let other = |error| format!("its columns are others: {error}");
                    batches.push(batch.map_err(other)?);
                }
                Frame::End(end) => {
                    let end = SqlEndMessage::decode(end);
                    let end = end.map_err(|error| format!("its end cannot be read: {error}"))?;
                    self.requests
                        .add(usize::try_from(end.requests).unwrap_or(0));
                    self.read.add(usize::try_from(end.bytes).unwrap_or(0));
                    self.counts = ReadCounts {
                        requests: end.requests,
                        bytes: end.bytes,
                        ..ReadCounts::default()
                    };
                    return Ok(());
                }
                frame => return Err(format!("it says {frame:?}")),
            }
        }
    }
}
