//! Runs a plan: one call per node, children first, all steps of a node at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{BoxFuture, ready};
use futures::{FutureExt, StreamExt, TryFutureExt};
use parking_lot::Mutex;
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::segment::ReadMeter;
use tokio::time::Instant;

use crate::processors::processors;

use super::super::functions;
use super::super::histogram::arithmetic::multiply;
use super::super::source::{SampleSource, SelectLimits, SelectRequest, SeriesSamples};
use super::annotations::Collector;
use super::finish::{merge_rows, without_metadata};
use super::grid::Grid;
use super::limits::{Charge, Limits};
use super::plan::{FunctionCall, Node, Select};
use super::profile::Profile;
use super::row::{Row, Rows, is_absent};
use super::selector::Points;
use super::stats::{Counter, StepCounts};
use super::{EngineOptions, QueryError, aggregate, binary, range, reset_hints, selector, subquery};

/// The value of a node.
#[derive(Debug)]
pub(crate) enum Evaluated {
    /// One float per step.
    Scalar(Vec<f64>),
    /// Rows as long as the grid.
    Vector(Rows),
    /// Raw samples; only at the top of a query.
    Range(Vec<Points>),
    /// A text.
    String(String),
}

/// Evaluates one query.
pub(crate) struct Engine {
    source: Arc<dyn SampleSource>,
    /// Time and memory of the query.
    pub limits: Arc<Limits>,
    annotations: Mutex<Collector>,
    /// How far instant selectors look back, in milliseconds.
    pub lookback: i64,
    max_series: usize,
    meter: Arc<ReadMeter>,
    profile: Option<Profile>,
    drops_names_late: bool,
    counts: Option<Arc<StepCounts>>,
    /// Pairs of nodes that are being evaluated at the same time.
    pairs: AtomicUsize,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.limits.cancel();
    }
}

impl Engine {
    /// With `profiled`, what each operator does is noted.
    pub fn new(
        source: Arc<dyn SampleSource>,
        options: &EngineOptions,
        lookback: i64,
        profiled: bool,
    ) -> Self {
        let meter = ReadMeter::new(options.max_read_bytes, Vec::new());
        Self {
            profile: profiled.then(|| Profile::new(Arc::clone(&meter))),
            meter,
            drops_names_late: options.experimental,
            source,
            limits: Limits::new(options.max_samples, options.timeout),
            annotations: Mutex::default(),
            lookback: lookback.max(1),
            max_series: options.max_series,
            counts: None,
            pairs: AtomicUsize::new(0),
        }
    }

    /// What the operators did.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Counts the samples that the steps look at, if there is something to count with.
    pub fn counting(mut self, counts: Option<Arc<StepCounts>>) -> Self {
        self.counts = counts;
        self
    }

    /// Counts samples for a node that is evaluated at these steps.
    pub fn counter(&self, grid: Grid) -> Counter {
        Counter::new(self.counts.as_ref(), grid)
    }

    /// What was remarked so far.
    pub fn annotations(&self) -> Collector {
        self.annotations.lock().clone()
    }

    /// Adds remarks.
    pub fn annotate(&self, remarks: impl FnOnce(&mut Collector)) {
        remarks(&mut self.annotations.lock());
    }

    /// Evaluates a node. Nodes nest as deeply as the parser lets them, and every level is a frame
    /// on the thread's stack: each kind of node is a boxed future of its own, so that a level
    /// costs what its kind needs and not what all kinds need.
    pub fn eval<'a>(
        &'a self,
        node: &'a Node,
        grid: Grid,
    ) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        if let Err(error) = self.limits.check() {
            return ready(Err(error)).boxed();
        }
        let mut value = self.eval_node(node, grid);
        if !self.drops_names_late {
            value = value.map(|value| without_names(value?)).boxed();
        }
        match &self.profile {
            Some(profile) => profile.measure(node, value).boxed(),
            None => value,
        }
    }

    fn eval_node<'a>(
        &'a self,
        node: &'a Node,
        grid: Grid,
    ) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        let vector = Evaluated::Vector;
        match node {
            Node::Number(value) => ready(Ok(Evaluated::Scalar(vec![*value; grid.count]))).boxed(),
            Node::String(text) => ready(Ok(Evaluated::String(text.clone()))).boxed(),
            Node::Time => ready(Ok(Evaluated::Scalar(
                grid.times().map(|ms| ms as f64 / 1000.0).collect(),
            )))
            .boxed(),
            Node::Invariant(inner) => self
                .eval(inner, grid.first())
                .map(move |value| self.repeat(value?, grid))
                .boxed(),
            Node::Vector(select) => selector::instant(self, select, grid, selector::Output::Values)
                .map_ok(vector)
                .boxed(),
            Node::StartTimestamps(select) => {
                selector::instant(self, select, grid, selector::Output::StartTimes)
                    .map_ok(vector)
                    .boxed()
            }
            Node::Timestamps(select) => {
                selector::instant(self, select, grid, selector::Output::Times)
                    .map_ok(vector)
                    .boxed()
            }
            Node::Matrix(matrix) => range::raw(self, matrix, grid.start)
                .map_ok(Evaluated::Range)
                .boxed(),
            Node::Subquery(node) => subquery::evaluate(self, node, grid.first())
                .map_ok(|(points, _)| Evaluated::Range(points))
                .boxed(),
            Node::Range(call) => range::evaluate(self, call, grid).map_ok(vector).boxed(),
            Node::Call(call) => self.call(call, grid).boxed(),
            Node::Aggregate(node) => aggregate::evaluate(self, node, grid).map_ok(vector).boxed(),
            Node::Binary(node) => binary::evaluate(self, node, grid).boxed(),
            Node::Negate(inner) => self.eval(inner, grid).map_ok(negated).boxed(),
        }
    }

    /// Evaluates two nodes at the same time.
    pub async fn both(
        &self,
        lhs: &Node,
        rhs: &Node,
        grid: Grid,
    ) -> Result<(Evaluated, Evaluated), QueryError> {
        let computed = [lhs, rhs]
            .iter()
            .all(|node| !matches!(node, Node::Number(_)));
        self.pairs
            .fetch_add(usize::from(computed), Ordering::Relaxed);
        let values = futures::try_join!(self.eval(lhs, grid), self.eval(rhs, grid));
        self.pairs
            .fetch_sub(usize::from(computed), Ordering::Relaxed);
        values
    }

    async fn call(&self, call: &FunctionCall, grid: Grid) -> Result<Evaluated, QueryError> {
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.eval(arg, grid).await?);
        }
        functions::evaluate(self, call, args, grid).await
    }

    /// An instant vector.
    pub async fn vector(&self, node: &Node, grid: Grid) -> Result<Rows, QueryError> {
        match self.eval(node, grid).await? {
            Evaluated::Vector(rows) => Ok(rows),
            _ => Err(QueryError::BadData("expected an instant vector".to_owned())),
        }
    }

    /// One float per step.
    pub async fn scalar(&self, node: &Node, grid: Grid) -> Result<Vec<f64>, QueryError> {
        match self.eval(node, grid).await? {
            Evaluated::Scalar(values) => Ok(values),
            _ => Err(QueryError::BadData("expected a scalar".to_owned())),
        }
    }

    /// Gives every step the value of the first.
    fn repeat(&self, value: Evaluated, grid: Grid) -> Result<Evaluated, QueryError> {
        if grid.count <= 1 {
            return Ok(value);
        }
        Ok(match value {
            Evaluated::Scalar(values) => {
                Evaluated::Scalar(vec![
                    values.first().copied().unwrap_or(f64::NAN);
                    grid.count
                ])
            }
            Evaluated::Vector(rows) => {
                let expected = rows.list.len() as u64 * grid.count as u64;
                if expected > self.limits.max_samples() {
                    return Err(QueryError::TooManySamples(self.limits.max_samples()));
                }
                let list = rows.list.into_iter().map(|row| Row {
                    values: vec![row.values[0]; grid.count],
                    histograms: row
                        .histograms
                        .map(|histograms| vec![histograms[0].clone(); grid.count]),
                    labels: row.labels,
                    drop_name: row.drop_name,
                });
                Evaluated::Vector(Rows::new(list.collect(), &self.limits)?)
            }
            other => other,
        })
    }

    /// Runs `work` over every series that matches, several batches each in a task of its own.
    /// `cost` tells how many samples a result holds.
    ///
    /// Results come in the order of the source's batches, which is no order at all: callers sort.
    pub async fn map_series<T: Send + 'static>(
        &self,
        select: &Select,
        range: TimeRange,
        cost: fn(&T) -> u64,
        work: impl Fn(SeriesSamples, &mut Collector) -> Result<Option<T>, QueryError>
        + Send
        + Sync
        + 'static,
    ) -> Result<(Vec<T>, Vec<Charge>), QueryError> {
        let (mut results, mut charges) = (Vec::new(), Vec::new());
        if range.is_empty() {
            return Ok((results, charges));
        }
        // The first sample that counts is compared with the one before it.
        let since = select.counts_only.then(|| range.min.saturating_sub(1));
        let range = if since.is_some() {
            TimeRange::new(range.min.saturating_sub(self.lookback), range.max)
        } else {
            range
        };
        let operator = self.profile.as_ref().and_then(|_| Profile::current());
        let meter = Arc::clone(
            operator
                .as_ref()
                .map_or(&self.meter, |operator| &operator.read),
        );
        let limits = SelectLimits {
            max_series: self.max_series,
        };
        let alone = self.pairs.load(Ordering::Relaxed) == 0;
        let request = SelectRequest {
            matchers: select.matchers.clone(),
            range,
            limits,
            meter,
            alone,
        };
        let stream = self.source.select(request).await?;
        // To hand over all there is to another thread gains nothing.
        let is_only = alone && stream.size_hint().1 == Some(1);
        let work = Arc::new(work);
        let mut tasks = stream
            .map(|batch| {
                let (work, limits, operator) = (
                    Arc::clone(&work),
                    Arc::clone(&self.limits),
                    operator.clone(),
                );
                async move {
                    let batch = batch?;
                    let samples = batch.iter().map(SeriesSamples::weight).sum();
                    let compute = move || {
                        // The raw samples count as long as the batch is worked on.
                        let _raw = limits.charge_read(samples)?;
                        let begun = operator.as_ref().map(|operator| {
                            operator.batch(
                                batch.len(),
                                batch.iter().map(|series| series.times.len() as u64).sum(),
                            );
                            Instant::now()
                        });
                        let mut remarks = Collector::default();
                        let mut results = Vec::with_capacity(batch.len());
                        let mut held = 0u64;
                        for mut series in batch {
                            limits.check()?;
                            match since {
                                None => reset_hints::forget(&mut series),
                                Some(since) => reset_hints::without_buckets(&mut series, since),
                            }
                            if let Some(result) = work(series, &mut remarks)? {
                                held += cost(&result);
                                if held > limits.max_samples() {
                                    return Err(QueryError::TooManySamples(limits.max_samples()));
                                }
                                results.push(result);
                            }
                        }
                        if let Some((operator, begun)) = operator.zip(begun) {
                            operator.computed(begun.elapsed());
                        }
                        Ok((results, limits.charge(held)?, remarks))
                    };
                    if is_only {
                        return compute();
                    }
                    let task = tokio::spawn(async { compute() });
                    task.await.unwrap_or_else(|error| {
                        Err(QueryError::execution(format!(
                            "evaluation task failed: {error}"
                        )))
                    })
                }
            })
            .buffered(processors() + 1);
        while let Some(done) = tasks.next().await {
            let (part, charge, remarks) = done?;
            results.extend(part);
            charges.push(charge);
            self.annotations.lock().merge(remarks);
        }
        Ok((results, charges))
    }
}

/// Removes the metric names that have to go, where the query does not wait with that until its end.
fn without_names(value: Evaluated) -> Result<Evaluated, QueryError> {
    let Evaluated::Vector(rows) = value else {
        return Ok(value);
    };
    if !rows.list.iter().any(|row| row.drop_name) {
        return Ok(Evaluated::Vector(rows));
    }
    let rows = rows.try_map(|mut rows| {
        for row in rows.iter_mut().filter(|row| row.drop_name) {
            row.labels = without_metadata(&row.labels);
            row.drop_name = false;
        }
        merge_rows(rows)
    })?;
    Ok(Evaluated::Vector(rows))
}

/// Rows in the order of their labels.
pub(crate) fn sort_rows(rows: &mut [Row]) {
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
}

fn negated(value: Evaluated) -> Evaluated {
    match value {
        Evaluated::Scalar(values) => {
            Evaluated::Scalar(values.into_iter().map(|value| -value).collect())
        }
        Evaluated::Vector(rows) => Evaluated::Vector(rows.map(negate)),
        other => other,
    }
}

fn negate(mut rows: Vec<Row>) -> Vec<Row> {
    for row in &mut rows {
        row.drop_name = true;
        for value in row.values.iter_mut().filter(|value| !is_absent(**value)) {
            *value = -*value;
        }
        for histogram in row.histograms.iter_mut().flatten().flatten() {
            multiply(Arc::make_mut(histogram), -1.0);
        }
    }
    rows
}
