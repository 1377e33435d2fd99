//! The scan as an operator: units of rows, spread over partitions, read one ahead of their use.
//!
//! A partition holds at most two units: the one that is being used, and the next one, which a task
//! of its own reads and decodes meanwhile. Both are counted in the query's memory. Dropping the
//! stream aborts the task.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::stream;
use tidelake_catalog::model::{Column, TimeRange};
use tidelake_catalog::panics;
use tidelake_catalog::segment::ReadCounts;
use tidelake_catalog::segment::scan::Edge;
use tokio::task::JoinSet;

use super::batches::{Layout, Slot, UnitBatches};
use super::computing;
use super::error::SqlError;
use super::pushdown::Pushed;
use super::source::RowUnit;
use super::view::TableView;
use crate::promql::source::Part;
use crate::read_metrics;

/// Fewer rows than this are not worth another partition.
const MIN_PARTITION_ROWS: u64 = 32 * 1024;

/// What EXPLAIN says about a scan.
#[derive(Debug, Clone)]
pub(super) struct ScanSummary {
    table: Arc<str>,
    text: String,
}

impl ScanSummary {
    pub fn new(view: &TableView, fields: &[Column], pushed: &Pushed, edge: Option<Edge>) -> Self {
        let list = |items: Vec<String>| items.join(", ");
        let mut text = format!(
            "fields=[{}]",
            list(fields.iter().map(|field| field.name.to_string()).collect())
        );
        if !pushed.matchers.is_empty() {
            text.push_str(&format!(
                ", matchers=[{}]",
                list(pushed.matchers.iter().map(ToString::to_string).collect())
            ));
        }
        if pushed.range != TimeRange::ALL {
            text.push_str(&format!(
                ", time={}..={}",
                pushed.range.min, pushed.range.max
            ));
        }
        match edge {
            Some(Edge::Newest(rows)) => text.push_str(&format!(", newest={rows}")),
            Some(Edge::Oldest(rows)) => text.push_str(&format!(", oldest={rows}")),
            None => {}
        }
        Self {
            table: view.name.clone(),
            text,
        }
    }
}

/// Reads the units of a scan.
#[derive(Debug)]
pub(super) struct ScanExec {
    layout: Arc<Layout>,
    partitions: Vec<Vec<Arc<dyn RowUnit>>>,
    /// The units of all partitions in the order of their series.
    units: Vec<Arc<dyn RowUnit>>,
    summary: ScanSummary,
    /// Rows after which a partition may stop.
    limit: Option<usize>,
    /// Whether not all rows are asked for.
    is_filtered: bool,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    pub fn new(
        layout: Layout,
        units: Vec<Arc<dyn RowUnit>>,
        summary: ScanSummary,
        limit: Option<usize>,
        target_partitions: usize,
    ) -> Self {
        let partitions = spread(units.clone(), target_partitions);
        // The units are sorted, but neither across units nor by columns that every query selects:
        // no order is promised.
        let properties = PlanProperties::new(
            EquivalenceProperties::new(layout.schema.clone()),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            layout: Arc::new(layout),
            partitions,
            units,
            summary,
            limit,
            is_filtered: false,
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::new(properties),
        }
    }

    /// The same over nothing.
    pub fn blank(&self) -> Self {
        let summary = ScanSummary {
            text: String::new(),
            ..self.summary.clone()
        };
        self.over(Vec::new(), summary)
    }

    /// The same over other units, in one partition.
    pub fn over(&self, units: Vec<Arc<dyn RowUnit>>, summary: ScanSummary) -> Self {
        Self {
            layout: Arc::clone(&self.layout),
            partitions: vec![units.clone()],
            units,
            summary,
            limit: self.limit,
            is_filtered: self.is_filtered,
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::clone(&self.properties),
        }
    }

    /// The same over a part of the series, in at most so many partitions.
    pub fn part(&self, part: Part, partitions: usize) -> Self {
        let units = self.units[part.range(self.units.len())].to_vec();
        let partitions = spread(units.clone(), partitions);
        let properties = PlanProperties::clone(&self.properties)
            .with_partitioning(Partitioning::UnknownPartitioning(partitions.len()));
        Self {
            layout: Arc::clone(&self.layout),
            partitions,
            units,
            summary: self.summary.clone(),
            limit: self.limit,
            is_filtered: self.is_filtered,
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::new(properties),
        }
    }

    /// How many units there are.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Most rows that they hold together.
    pub fn rows(&self) -> u64 {
        total_rows(&self.units)
    }

    /// What was read for it so far.
    pub fn reads(&self) -> ReadCounts {
        // All units are of one scan.
        let first = self.units.first();
        first.map(|unit| unit.reads().0).unwrap_or_default()
    }

    /// The same below a filter. First and last times are of no use to it, and DataFusion fails over
    /// bounds that a cast of the filter moves by less than its unit.
    pub fn filtered(self) -> Self {
        Self {
            is_filtered: true,
            ..self
        }
    }
}

/// Gives each unit in turn to the partition with the fewest rows.
fn spread(units: Vec<Arc<dyn RowUnit>>, target: usize) -> Vec<Vec<Arc<dyn RowUnit>>> {
    let rows = total_rows(&units);
    let worthwhile = usize::try_from(rows.div_ceil(MIN_PARTITION_ROWS)).unwrap_or(usize::MAX);
    let count = target.min(units.len()).min(worthwhile).max(1);
    let mut partitions: Vec<(u64, Vec<Arc<dyn RowUnit>>)> =
        (0..count).map(|_| (0, Vec::new())).collect();
    for unit in units {
        if let Some((rows, units)) = partitions.iter_mut().min_by_key(|(rows, _)| *rows) {
            *rows = rows.saturating_add(unit.rows_bound());
            units.push(unit);
        }
    }
    partitions.into_iter().map(|(_, units)| units).collect()
}

/// Most rows that units hold together.
pub(super) fn total_rows(units: &[Arc<dyn RowUnit>]) -> u64 {
    units
        .iter()
        .fold(0, |sum, unit| sum.saturating_add(unit.rows_bound()))
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        match t {
            DisplayFormatType::TreeRender => write!(f, "table={}", self.summary.table),
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                let units: usize = self.partitions.iter().map(Vec::len).sum();
                let rows = self
                    .partitions
                    .iter()
                    .map(|units| total_rows(units))
                    .fold(0, u64::saturating_add);
                write!(
                    f,
                    "ScanExec: table={}, {}, units={units}, rows<={rows}",
                    self.summary.table, self.summary.text
                )?;
                match self.limit {
                    Some(limit) => write!(f, ", limit={limit}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
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
        let Some(units) = self.partitions.get(partition) else {
            return internal_err!(
                "the scan has {} partitions, not one numbered {partition}",
                self.partitions.len()
            );
        };
        let reading = PartitionScan {
            layout: self.layout.clone(),
            units: units.iter().cloned().collect(),
            ahead: JoinSet::new(),
            current: None,
            left: self.limit,
            batch_rows: context.session_config().batch_size(),
            memory: MemoryConsumer::new(format!("ScanExec[{partition}]"))
                .register(context.memory_pool()),
            metrics: ScanMetrics::new(&self.metrics, partition),
        };
        let batches = stream::try_unfold(reading, |mut reading| async move {
            let batch = reading.next_batch().await?;
            Ok(batch.map(|batch| (batch, reading)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.layout.schema.clone(),
            batches,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        // All units are of one scan.
        if let Some(unit) = self.partitions.iter().flatten().next() {
            let (counts, request_price) = unit.reads();
            read_metrics::add(&mut metrics, counts, request_price);
        }
        Some(metrics)
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let units: Vec<_> = match args.partition() {
            Some(partition) => self
                .partitions
                .get(partition)
                .into_iter()
                .flatten()
                .collect(),
            None => self.partitions.iter().flatten().collect(),
        };
        let rows = units.iter().map(|unit| unit.rows_bound());
        let rows = usize::try_from(rows.fold(0, u64::saturating_add)).unwrap_or(usize::MAX);
        let mut statistics = Statistics::new_unknown(&self.layout.schema);
        statistics.num_rows = Precision::Inexact(rows);
        // With all of it known, a count and the first and last time need no row.
        let times = units.iter().map(|unit| unit.known());
        let times = times
            .reduce(|a, b| a.zip(b).map(|(a, b)| a.union(&b)))
            .flatten();
        if let Some(time) = times
            && self.limit.is_none()
            && !self.is_filtered
            && !self.layout.samples_only
        {
            statistics.num_rows = Precision::Exact(rows);
            for (column, slot) in statistics
                .column_statistics
                .iter_mut()
                .zip(&self.layout.slots)
            {
                if matches!(slot, Slot::Time) {
                    column.null_count = Precision::Exact(0);
                    column.min_value = Precision::Exact(self.layout.timestamp(time.min));
                    column.max_value = Precision::Exact(self.layout.timestamp(time.max));
                }
            }
        }
        Ok(Arc::new(statistics))
    }
}

/// Shown by EXPLAIN ANALYZE.
#[derive(Debug, Clone)]
struct ScanMetrics {
    baseline: BaselineMetrics,
    units_read: Count,
    rows_read: Count,
    bytes_decoded: Count,
    unit_wait: datafusion::physical_plan::metrics::Time,
}

impl ScanMetrics {
    fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        Self {
            baseline: BaselineMetrics::new(set, partition),
            units_read: MetricBuilder::new(set).counter("units_read", partition),
            rows_read: MetricBuilder::new(set).counter("rows_read", partition),
            bytes_decoded: MetricBuilder::new(set).counter("bytes_decoded", partition),
            unit_wait: MetricBuilder::new(set).subset_time("unit_wait", partition),
        }
    }
}

/// A unit in memory; its bytes are given back when it is dropped.
struct LoadedUnit {
    batches: UnitBatches,
    _memory: MemoryReservation,
}

/// One partition being read.
struct PartitionScan {
    layout: Arc<Layout>,
    units: VecDeque<Arc<dyn RowUnit>>,
    /// The unit after the current one, being read: at most one task, aborted when this is dropped.
    ahead: JoinSet<Result<LoadedUnit, SqlError>>,
    current: Option<LoadedUnit>,
    left: Option<usize>,
    batch_rows: usize,
    memory: MemoryReservation,
    metrics: ScanMetrics,
}

impl PartitionScan {
    async fn next_batch(&mut self) -> Result<Option<arrow::record_batch::RecordBatch>> {
        loop {
            if self.left == Some(0) {
                self.units.clear();
                self.ahead.abort_all();
                self.ahead = JoinSet::new();
                self.current = None;
            }
            if let Some(unit) = &mut self.current {
                let timer = self.metrics.baseline.elapsed_compute().timer();
                let batch = unit.batches.next()?;
                timer.done();
                match batch {
                    Some(batch) if batch.num_rows() == 0 => continue,
                    Some(mut batch) => {
                        if let Some(left) = &mut self.left {
                            batch = batch.slice(0, batch.num_rows().min(*left));
                            *left -= batch.num_rows();
                        }
                        self.metrics.baseline.record_output(batch.num_rows());
                        return Ok(Some(batch));
                    }
                    None => self.current = None,
                }
            }
            if self.ahead.is_empty() {
                // To hand over all there is to another thread gains nothing.
                let is_only = self.units.len() == 1 && self.current.is_none();
                let is_small = |unit: &Arc<dyn RowUnit>| unit.rows_bound() <= MIN_PARTITION_ROWS;
                if is_only
                    && self.units.front().is_some_and(is_small)
                    && let Some(load) = self.load_next()
                {
                    self.current = Some(panics::caught(load).await.map_err(SqlError::from)??);
                    continue;
                }
                self.start_next();
            }
            let timer = self.metrics.unit_wait.timer();
            let Some(read) = self.ahead.join_next().await else {
                self.metrics.baseline.done();
                return Ok(None);
            };
            timer.done();
            let threads_end = |_| SqlError::Unavailable("the server stops".to_owned());
            self.current = Some(read.map_err(threads_end)??);
            // With a limit the next unit is probably not needed.
            if self.left.is_none() {
                self.start_next();
            }
        }
    }

    /// Starts to read the next unit, if there is one.
    fn start_next(&mut self) {
        if let Some(load) = self.load_next() {
            self.ahead.spawn(async { panics::caught(load).await? });
        }
    }

    /// Reads the next unit, if there is one.
    fn load_next(
        &mut self,
    ) -> Option<impl Future<Output = Result<LoadedUnit, SqlError>> + Send + 'static> {
        let unit = self.units.pop_front()?;
        let (layout, memory, metrics, batch_rows) = (
            self.layout.clone(),
            self.memory.new_empty(),
            self.metrics.clone(),
            self.batch_rows,
        );
        let time = self.metrics.baseline.elapsed_compute().clone();
        Some(computing::counted(time, async move {
            let rows = unit.read().await?;
            let bytes = rows.memory_size();
            memory.try_grow(bytes)?;
            metrics.units_read.add(1);
            metrics.rows_read.add(rows.len());
            metrics.bytes_decoded.add(bytes);
            Ok(LoadedUnit {
                batches: UnitBatches::new(layout, rows, batch_rows)?,
                _memory: memory,
            })
        }))
    }
}
