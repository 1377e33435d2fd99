//! Runs a plan: one call per node, children first, all steps of a node at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{BoxFuture, ready};
use futures::{FutureExt, StreamExt, TryFutureExt};
use parking_lot::Mutex;
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::panics;
use tidelake_catalog::segment::ReadMeter;
use tokio::time::Instant;

use crate::processors::processors;

use super::super::functions;
use super::super::histogram::arithmetic::multiply;
use super::super::source::{SampleSource, SelectLimits, SelectRequest, SeriesBatch, SeriesSamples};
use super::annotations::Collector;
use super::finish::{merge_rows, without_metadata};
use super::grid::Grid;
use super::limits::{Charge, Limits};
use super::plan::{FunctionCall, Node, Select};
use super::profile::Profile;
use super::row::{Row, Rows, is_absent, labels_bytes, labels_in_work_bytes};
use super::scalar::Scalar;
use super::selector::Points;
use super::stats::{Counter, StepCounts};
use super::{EngineOptions, QueryError, aggregate, binary, range, reset_hints, selector, subquery};

/// The value of a node.
#[derive(Debug)]
pub(crate) enum Evaluated {
    /// One float per step.
    Scalar(Scalar),
    /// Rows as long as the grid.
    Vector(Rows),
    /// Raw samples; only at the top of a query.
    Range(Vec<Points>, Charge),
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
        limits: Arc<Limits>,
        lookback: i64,
        profiled: bool,
    ) -> Self {
        let meter = ReadMeter::new(options.max_read_bytes, Vec::new());
        Self {
            profile: profiled.then(|| Profile::new(Arc::clone(&meter))),
            meter,
            drops_names_late: options.experimental,
            source,
            limits,
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
            value = value.map(|value| self.without_names(value?)).boxed();
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
            Node::Number(value) => {
                ready(Scalar::constant(*value, grid.count, &self.limits).map(Evaluated::Scalar))
                    .boxed()
            }
            Node::String(text) => ready(Ok(Evaluated::String(text.clone()))).boxed(),
            Node::Time => ready(
                Scalar::new(grid, &self.limits, |ms| ms as f64 / 1000.0).map(Evaluated::Scalar),
            )
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
                .map_ok(|(points, charge)| Evaluated::Range(points, charge))
                .boxed(),
            Node::Subquery(node) => subquery::evaluate(self, node, grid.first())
                .map_ok(|(points, charge)| Evaluated::Range(points, charge))
                .boxed(),
            Node::Range(call) => range::evaluate(self, call, grid).map_ok(vector).boxed(),
            Node::Call(call) => self.call(call, grid).boxed(),
            Node::Aggregate(node) => aggregate::evaluate(self, node, grid).map_ok(vector).boxed(),
            Node::Binary(node) => binary::evaluate(self, node, grid).boxed(),
            Node::Negate(inner) => self.eval(inner, grid).map(|value| negated(value?)).boxed(),
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
        functions::call::evaluate(self, call, args, grid).await
    }

    /// An instant vector.
    pub async fn vector(&self, node: &Node, grid: Grid) -> Result<Rows, QueryError> {
        match self.eval(node, grid).await? {
            Evaluated::Vector(rows) => Ok(rows),
            _ => Err(QueryError::BadData("expected an instant vector".to_owned())),
        }
    }

    /// One float per step.
    pub async fn scalar(&self, node: &Node, grid: Grid) -> Result<Scalar, QueryError> {
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
                let value = values.first().copied().unwrap_or(f64::NAN);
                Evaluated::Scalar(Scalar::constant(value, grid.count, &self.limits)?)
            }
            Evaluated::Vector(rows) => {
                let expected = rows.list.len() as u64 * grid.count as u64;
                if expected > self.limits.max_samples() {
                    return Err(QueryError::TooManySamples(self.limits.max_samples()));
                }
                let mut charge = self.limits.charge(0)?;
                for row in &rows.list {
                    let with_histograms = row.histograms.is_some();
                    charge.take(Row::bytes_of(grid.count, with_histograms))?;
                }
                let (list, single) = rows.into_parts();
                let list = list.into_iter().map(|row| Row {
                    values: vec![row.values[0]; grid.count],
                    histograms: row
                        .histograms
                        .map(|histograms| vec![histograms[0].clone(); grid.count]),
                    labels: row.labels,
                    drop_name: row.drop_name,
                });
                let rows = Rows::new(list.collect(), charge)?;
                drop(single);
                Evaluated::Vector(rows)
            }
            other => other,
        })
    }

    /// Runs `work` over every series that matches, several batches each in a task of its own.
    /// `need` tells how many bytes the work on a series allocates, its result included.
    ///
    /// Results come in the order of the source's batches, which is no order at all: callers sort.
    pub async fn map_series<T: Weighed + Send + 'static>(
        &self,
        select: &Select,
        range: TimeRange,
        need: impl Fn(&SeriesSamples) -> usize + Send + Sync + 'static,
        work: impl Fn(SeriesSamples, &mut Collector) -> Result<Option<T>, QueryError>
        + Send
        + Sync
        + 'static,
    ) -> Result<(Vec<T>, Charge), QueryError> {
        if range.is_empty() {
            return Ok((Vec::new(), self.limits.charge(0)?));
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
            pool: Arc::clone(self.limits.pool()),
            alone,
        };
        let stream = self.source.select(request).await?;
        // To hand over all there is to another thread gains nothing.
        let is_only = alone && stream.size_hint().1 == Some(1);
        let work = Arc::new((need, work));
        let mut tasks = stream
            .map(|batch| {
                let (work, limits, operator) = (
                    Arc::clone(&work),
                    Arc::clone(&self.limits),
                    operator.clone(),
                );
                async move {
                    let SeriesBatch {
                        series: batch,
                        held,
                    } = batch?;
                    let samples = batch.iter().map(SeriesSamples::weight).sum();
                    let compute = move || {
                        // The raw samples count as long as the batch is worked on.
                        let _raw = limits.charge_read(samples, held)?;
                        let begun = operator.as_ref().map(|operator| {
                            operator.batch(
                                batch.len(),
                                batch.iter().map(|series| series.times.len() as u64).sum(),
                            );
                            Instant::now()
                        });
                        let mut remarks = Collector::default();
                        let mut charge = limits.charge(batch.len() * size_of::<T>())?;
                        let mut results = Vec::with_capacity(batch.len());
                        let (mut held, mut bytes) = (0u64, 0);
                        let (need, work) = &*work;
                        for mut series in batch {
                            limits.check()?;
                            charge.reserve(need(&series))?;
                            match since {
                                None => reset_hints::forget(&mut series),
                                Some(since) => reset_hints::without_buckets(&mut series, since),
                            }
                            if let Some(result) = work(series, &mut remarks)? {
                                held += result.weight();
                                if held > limits.max_samples() {
                                    return Err(QueryError::TooManySamples(limits.max_samples()));
                                }
                                let more = result.heap_bytes();
                                charge.take(more)?;
                                bytes += more;
                                results.push(result);
                            }
                        }
                        if let Some((operator, begun)) = operator.zip(begun) {
                            operator.computed(begun.elapsed());
                        }
                        charge.add_samples(held)?;
                        charge.settle(results.capacity() * size_of::<T>() + bytes)?;
                        Ok((results, charge, remarks))
                    };
                    if is_only {
                        return compute();
                    }
                    let task = tokio::spawn(async { panics::caught_call(compute) });
                    // Its threads end.
                    task.await.map_err(|_| QueryError::Canceled)??
                }
            })
            .buffered(processors() + 1);
        let mut all: Option<(Vec<T>, Charge)> = None;
        while let Some(done) = tasks.next().await {
            let (part, part_charge, remarks) = done?;
            self.annotations.lock().merge(remarks);
            let Some((results, charge)) = &mut all else {
                all = Some((part, part_charge));
                continue;
            };
            charge.merge(part_charge);
            if part.len() > results.capacity() - results.len() {
                let grown = (2 * results.capacity()).max(results.len() + part.len());
                charge.take(
                    grown.saturating_sub(results.capacity() + part.capacity()) * size_of::<T>(),
                )?;
                // While it grows the old list is still there.
                charge.reserve(results.capacity() * size_of::<T>())?;
                results.reserve_exact(grown - results.len());
            }
            results.extend(part);
        }
        match all {
            Some(all) => Ok(all),
            None => Ok((Vec::new(), self.limits.charge(0)?)),
        }
    }

    /// Removes the metric names that have to go, where the query does not wait with that until its
    /// end.
    fn without_names(&self, value: Evaluated) -> Result<Evaluated, QueryError> {
        let Evaluated::Vector(rows) = value else {
            return Ok(value);
        };
        if !rows.list.iter().any(|row| row.drop_name) {
            return Ok(Evaluated::Vector(rows));
        }
        let rows = rows.try_map(|mut rows, charge| {
            drop_names(&mut rows, charge)?;
            rows.iter_mut().for_each(|row| row.drop_name = false);
            merge_rows(rows, charge)
        })?;
        Ok(Evaluated::Vector(rows))
    }
}

/// What results of [`Engine::map_series`] hold.
pub(crate) trait Weighed {
    /// Samples.
    fn weight(&self) -> u64;
    /// Bytes, without its own place.
    fn heap_bytes(&self) -> usize;
}

impl Weighed for Row {
    fn weight(&self) -> u64 {
        Row::weight(self)
    }

    fn heap_bytes(&self) -> usize {
        Row::heap_bytes(self)
    }
}

impl Weighed for Points {
    fn weight(&self) -> u64 {
        Points::weight(self)
    }

    fn heap_bytes(&self) -> usize {
        Points::heap_bytes(self)
    }
}

/// Removes the metric names that have to go.
pub(crate) fn drop_names(rows: &mut [Row], charge: &mut Charge) -> Result<(), QueryError> {
    for row in rows.iter_mut().filter(|row| row.drop_name) {
        let len = row.labels.as_str().len();
        charge.reserve(labels_in_work_bytes(len))?;
        row.labels = without_metadata(&row.labels);
        charge.take(labels_bytes(&row.labels))?;
    }
    Ok(())
}

/// Rows in the order of their labels.
pub(crate) fn sort_rows(rows: &mut [Row], charge: &mut Charge) -> Result<(), QueryError> {
    // A stable sort has a buffer of half its input.
    charge.reserve(size_of_val(rows) / 2)?;
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(())
}

fn negated(value: Evaluated) -> Result<Evaluated, QueryError> {
    Ok(match value {
        Evaluated::Scalar(mut values) => {
            values.iter_mut().for_each(|value| *value = -*value);
            Evaluated::Scalar(values)
        }
        Evaluated::Vector(rows) => Evaluated::Vector(rows.try_map(negate)?),
        other => other,
    })
}

fn negate(mut rows: Vec<Row>, charge: &mut Charge) -> Result<Vec<Row>, QueryError> {
    for row in &mut rows {
        // Histograms that others have too are copied.
        charge.reserve(row.histogram_bytes())?;
        row.drop_name = true;
        for value in row.values.iter_mut().filter(|value| !is_absent(**value)) {
            *value = -*value;
        }
        for histogram in row.histograms.iter_mut().flatten().flatten() {
            multiply(Arc::make_mut(histogram), -1.0);
        }
        charge.take(row.histogram_bytes())?;
    }
    Ok(rows)
}
