//! The plan of a PromQL query: DataFusion operators that hand each other series.
//!
//! `lower` makes the plan of an expression. Every operator of it is an [`ExecutionPlan`], here one
//! struct ([`PromExec`]) with what the operator does ([`Operator`]) in a file of its own. Between
//! operators of one task series go as they are ([`Evaluated`]), without a copy; Arrow is for
//! other plans (`batch`). An operator answers for all steps of a grid at once.
//!
//! Operators that work series by series can hand over batches of series instead ([`Unit`]), each
//! made in a task of its own together with what the operators above add to it ([`Stage`]).

pub(crate) mod absent;
pub(crate) mod aggregate;
pub(crate) mod batch;
pub(crate) mod binary;
pub(crate) mod codec;
pub(crate) mod explain;
pub(crate) mod finish;
#[cfg(test)]
mod golden_tests;
pub(crate) mod histogram;
pub(crate) mod info;
pub(crate) mod label;
pub(crate) mod labels;
pub(crate) mod lower;
pub(crate) mod map;
pub(crate) mod range;
pub(crate) mod repeat;
pub(crate) mod scalar;
pub(crate) mod select;
pub(crate) mod sort;
pub(crate) mod subquery;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, exec_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::future::{BoxFuture, ready};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryFutureExt};
use tokio::time::Instant;

use super::exec::QueryError;
use super::exec::annotations::Collector;
use super::exec::fold::Partial;
use super::exec::grid::Grid;
use super::exec::profile::Profile;
use super::exec::row::Rows;
use super::exec::scalar::Scalar;
use super::exec::spread::Extent;
use super::exec::work::{Evaluated, Work};
use labels::{LabelNames, Lookup, Selected};

/// What an operator does.
pub(crate) trait Operator: Any + fmt::Debug + Send + Sync {
    /// Its name as an execution plan.
    fn name(&self) -> &'static str;

    /// What it does in particular, in the words of PromQL.
    fn detail(&self, inputs: &[Input]) -> String;

    /// Its value at all steps.
    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>>;

    /// What it selects, if it reads series.
    fn selected(&self, _: Grid, _lookback: i64) -> Option<Selected> {
        None
    }

    /// The steps at which its inputs are evaluated.
    fn grid_below(&self, grid: Grid) -> Grid {
        grid
    }

    /// The names of the labels that its series can have; `None` if only the answer tells.
    fn label_names(&self, _: &[Input], _: Lookup<'_>) -> Option<LabelNames> {
        None
    }

    /// Whether it can hand over batches of series.
    fn is_streaming(&self, _: &[Input]) -> bool {
        false
    }

    /// Its rows batch by batch in the order of the series, with more work done on each.
    ///
    /// # Errors
    /// If it cannot.
    fn units<'a>(
        &'a self,
        _: Inputs<'a>,
        _: Stage,
    ) -> BoxFuture<'a, Result<Units<'a>, QueryError>> {
        let error = format!("{} has no batches of series", self.name());
        ready(Err(QueryError::Execution(error))).boxed()
    }
}

/// A batch of series on its way up.
#[derive(Debug)]
pub(crate) enum Unit {
    Rows(Rows),
    /// What they came to in an aggregation.
    Partial(Partial),
}

/// Work on a batch.
pub(crate) type Stage = Arc<dyn Fn(Unit, &mut Collector) -> Result<Unit, QueryError> + Send + Sync>;

/// Batches in the order of their series.
pub(crate) type Units<'a> = BoxStream<'a, Result<Unit, QueryError>>;

/// What an operator reads. Constants are no operators.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Plan(Arc<dyn ExecutionPlan>),
    Number(f64),
    Text(String),
}

impl Input {
    /// An operator.
    pub fn new(operator: impl Operator, inputs: Vec<Input>) -> Self {
        Self::Plan(Arc::new(PromExec::new(operator, inputs, 1)))
    }

    /// Whether it can hand over batches of series.
    pub fn is_streaming(&self) -> bool {
        self.node().is_some_and(PromExec::is_streaming)
    }

    /// The operator, if it is one.
    pub fn node(&self) -> Option<&PromExec> {
        match self {
            Input::Plan(plan) => plan.downcast_ref(),
            Input::Number(_) | Input::Text(_) => None,
        }
    }
}

/// An operator with what it reads.
#[derive(Debug, Clone)]
pub(crate) struct PromExec {
    operator: Arc<dyn Operator>,
    inputs: Vec<Input>,
    properties: Arc<PlanProperties>,
    profile: Arc<OnceLock<Arc<Profile>>>,
}

impl PromExec {
    /// An operator whose batches come from so many partitions.
    pub fn new(operator: impl Operator, inputs: Vec<Input>, partitions: usize) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(batch::schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        // DataFusion puts an operator that yields above plans that do not say so.
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            operator: Arc::new(operator),
            inputs,
            properties: Arc::new(properties),
            profile: Arc::default(),
        }
    }

    /// What it does, if it is an operator of a kind.
    pub fn operator_as<T: Operator>(&self) -> Option<&T> {
        let operator: &dyn Any = &*self.operator;
        operator.downcast_ref()
    }

    /// What it reads.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// What it did, if that was noted.
    pub fn profile(&self) -> Option<&Arc<Profile>> {
        self.profile.get()
    }

    /// Whether it can hand over batches of series.
    pub fn is_streaming(&self) -> bool {
        self.operator.is_streaming(&self.inputs)
    }

    /// Number of its partitions.
    pub fn partitions(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    fn inputs_at<'a>(&'a self, grid: Grid, extent: Extent, work: &'a Arc<Work>) -> Inputs<'a> {
        Inputs {
            node: self,
            grid,
            extent,
            work,
        }
    }

    /// Whether it reads series.
    pub fn is_selector(&self) -> bool {
        let once = Grid::new(0, 0, 1, 1);
        once.is_ok_and(|once| self.operator.selected(once, 1).is_some())
    }

    /// Whether two are one and the same operator.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.operator), Arc::as_ptr(&other.operator))
    }

    /// Where it is noted what it did; it is noted from now on.
    pub fn noting(&self, work: &Work) -> &Arc<Profile> {
        let new = || Arc::new(Profile::new(&work.meter, work.request_price));
        self.profile.get_or_init(new)
    }

    /// Its value at the steps of a grid. Operators nest as deeply as the parser lets them, and
    /// every level is a frame on the thread's stack: each operator is a boxed future of its own.
    pub fn value<'a>(
        &'a self,
        grid: Grid,
        work: &'a Arc<Work>,
    ) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        if let Err(error) = work.limits.check() {
            return ready(Err(error)).boxed();
        }
        let on = self.inputs_at(grid, Extent::WHOLE, work);
        let mut value = self.operator.evaluate(on);
        if !work.drops_names_late {
            value = value.map(|value| work.without_names(value?)).boxed();
        }
        match on.profile() {
            None => value,
            Some(profile) => {
                let begun = Instant::now();
                let noted = move |value: &Result<Evaluated, QueryError>| {
                    profile.took(begun.elapsed());
                    if let Ok(value) = value {
                        profile.answered(value);
                    }
                };
                value.inspect(noted).boxed()
            }
        }
    }

    /// The batches of a partition, see [`Operator::units`].
    pub fn units<'a>(
        &'a self,
        grid: Grid,
        extent: Extent,
        work: &'a Arc<Work>,
        stage: Stage,
    ) -> BoxFuture<'a, Result<Units<'a>, QueryError>> {
        let on = self.inputs_at(grid, extent, work);
        let Some(profile) = on.profile() else {
            return self.operator.units(on, stage);
        };
        let counted = Arc::clone(&profile);
        let stage: Stage = Arc::new(move |unit: Unit, remarks: &mut Collector| {
            match &unit {
                Unit::Rows(rows) => counted.answered_rows(rows),
                Unit::Partial(partial) => counted.answered_groups(partial.groups()),
            }
            stage(unit, remarks)
        });
        let begun = Instant::now();
        let units = self.operator.units(on, stage);
        let ended = move |_: &mut Context<'_>| {
            let time = begun.elapsed();
            profile.took(time);
            // What is done with the batches of an input is done in the tasks of that.
            if self.inputs.first().is_some_and(Input::is_streaming) {
                profile.waited(time);
            }
            Poll::Ready(None)
        };
        units
            .map_ok(|units| units.chain(stream::poll_fn(ended)).boxed())
            .boxed()
    }
}

/// What an operator reads, at the steps at which it is evaluated.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    node: &'a PromExec,
    /// The steps.
    pub grid: Grid,
    /// Which of the series are read, where batches are, and by whom.
    pub extent: Extent,
    /// The query.
    pub work: &'a Arc<Work>,
}

impl<'a> Inputs<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.node.inputs.len()
    }

    /// Where it is noted what the operator does, if it is.
    pub fn profile(&self) -> Option<Arc<Profile>> {
        let is_profiled = self.work.is_profiled;
        is_profiled.then(|| Arc::clone(self.node.noting(self.work)))
    }

    /// An operator among the inputs.
    pub fn node(&self, at: usize) -> Result<&'a PromExec, QueryError> {
        let node = self.node.inputs.get(at).and_then(Input::node);
        node.ok_or_else(|| {
            let name = self.node.operator.name();
            QueryError::Execution(format!("input {at} of {name} is no operator of PromQL"))
        })
    }

    fn input(&self, at: usize, grid: Grid) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        match self.node.inputs.get(at) {
            Some(Input::Number(value)) => ready(
                Scalar::constant(*value, grid.count, &self.work.limits).map(Evaluated::Scalar),
            )
            .boxed(),
            Some(Input::Text(text)) => ready(Ok(Evaluated::String(text.clone()))).boxed(),
            Some(Input::Plan(_)) | None => match self.node(at) {
                Ok(node) => node.value(grid, self.work),
                Err(error) => ready(Err(error)).boxed(),
            },
        }
    }

    /// Notes how long the operator waits.
    pub fn waited<T: 'a>(&self, work: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
        let Some(profile) = self.profile() else {
            return work.boxed();
        };
        let begun = Instant::now();
        work.inspect(move |_| profile.waited(begun.elapsed()))
            .boxed()
    }

    /// An input at steps of its own.
    pub fn value_at(&self, at: usize, grid: Grid) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        match self.work.is_profiled {
            true => self.waited(self.input(at, grid)),
            false => self.input(at, grid),
        }
    }

    /// An input.
    pub fn value(&self, at: usize) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        self.value_at(at, self.grid)
    }

    /// Two inputs, evaluated at the same time.
    pub async fn both(&self, lhs: usize, rhs: usize) -> Result<(Evaluated, Evaluated), QueryError> {
        let is_plan = |at| matches!(self.node.inputs.get(at), Some(Input::Plan(_)));
        if is_plan(lhs) && is_plan(rhs) {
            let (a, b) = (self.input(lhs, self.grid), self.input(rhs, self.grid));
            self.waited(self.work.both(a, b)).await
        } else {
            Ok((self.value(lhs).await?, self.value(rhs).await?))
        }
    }

    /// An input that is an instant vector.
    pub fn vector(&self, at: usize) -> impl Future<Output = Result<Rows, QueryError>> + Send + 'a {
        self.value(at).map(|value| vector(value?))
    }

    /// An input that is a scalar.
    pub fn scalar(
        &self,
        at: usize,
    ) -> impl Future<Output = Result<Scalar, QueryError>> + Send + 'a {
        self.value(at).map(|value| scalar(value?))
    }

    /// All inputs from one on, which are scalars.
    pub async fn scalars_from(&self, first: usize) -> Result<Vec<Scalar>, QueryError> {
        let mut scalars = Vec::with_capacity(self.len().saturating_sub(first));
        for at in first..self.len() {
            scalars.push(self.scalar(at).await?);
        }
        Ok(scalars)
    }
}

/// A value that is an instant vector.
pub(crate) fn vector(value: Evaluated) -> Result<Rows, QueryError> {
    match value {
        Evaluated::Vector(rows) => Ok(rows),
        _ => Err(QueryError::BadData("expected an instant vector".to_owned())),
    }
}

/// A value that is a scalar.
pub(crate) fn scalar(value: Evaluated) -> Result<Scalar, QueryError> {
    match value {
        Evaluated::Scalar(values) => Ok(values),
        _ => Err(QueryError::BadData("expected a scalar".to_owned())),
    }
}

/// How constants are shown.
pub(crate) fn shown(input: &Input) -> String {
    match input {
        Input::Plan(_) => "...".to_owned(),
        Input::Number(value) => value.to_string(),
        Input::Text(text) => format!("{text:?}"),
    }
}

impl DisplayAs for PromExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let detail = self.operator.detail(&self.inputs);
        // One line for each operator, whatever a matcher holds.
        let detail = detail.replace(|c: char| c.is_control(), " ");
        match t {
            DisplayFormatType::TreeRender => f.write_str(&detail),
            DisplayFormatType::Default | DisplayFormatType::Verbose if detail.is_empty() => {
                f.write_str(self.operator.name())
            }
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "{}: {detail}", self.operator.name())
            }
        }
    }
}

impl ExecutionPlan for PromExec {
    fn name(&self) -> &str {
        self.operator.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        let plans = self.inputs.iter().filter_map(|input| match input {
            Input::Plan(plan) => Some(plan),
            Input::Number(_) | Input::Text(_) => None,
        });
        plans.collect()
    }

    /// Series are never spread or gathered by operators of DataFusion's.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (name, wanted, got) = (self.name(), self.children().len(), children.len());
        if wanted != got {
            return internal_err!("{name} has {wanted} children, not {got}");
        }
        let mut children = children.into_iter();
        let inputs = self.inputs.iter().map(|input| match input {
            Input::Plan(plan) => Input::Plan(children.next().unwrap_or_else(|| Arc::clone(plan))),
            constant => constant.clone(),
        });
        Ok(Arc::new(Self {
            operator: Arc::clone(&self.operator),
            inputs: inputs.collect(),
            properties: Arc::clone(&self.properties),
            profile: Arc::default(),
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    /// What it hands to PromQL operators, in Arrow (see `batch`). The query is an extension of the
    /// session.
    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let Some(work) = context.session_config().get_extension::<Work>() else {
            return exec_err!("{} is evaluated by a query of PromQL only", self.name());
        };
        batch::execute(self.clone(), partition, work)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.profile().map(|profile| explain::metrics(profile))
    }
}
