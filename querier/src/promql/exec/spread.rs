//! Aggregations over many series, which other processes compute parts of.
//!
//! The series of a selector come in an order that depends on them alone, and aggregations do not
//! depend on how they are cut. So each process takes a range of them ([`Part`]) and folds it as far
//! as that goes ([`super::fold::Partial`]); the parts are put together in their order.
//!
//! Another process gets the operator ([`super::super::plan::codec`]) and the state of the tables
//! ([`crate::tables::State`]), and finds the same series in it. What it cannot do, or not in time,
//! is done here: a lost process costs time, and never changes an answer.

use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, stream};
use prost::Message;
use tidelake_catalog::panics;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::plan::aggregate::Aggregation;
use super::super::plan::codec::{encode_operator, numbered};
use super::super::plan::{Input, Inputs, PromExec, Unit, Units};
use super::super::source::{Part, SelectedSeries, SeriesParts};
use super::aggregate::Aggregate;
use super::annotations::Collector;
use super::fold::Partial;
use super::part::{EndMessage, GridMessage, PartMessage, UnitMessage, VERSION};
use super::profile::TaskRun;
use super::work::{Computing, Work};
use super::{EngineOptions, QueryError, QueryParams};
use crate::parts::{self, Asked, Frame, PartKind, PartRequest, Worker, Workers};
use crate::samples::source_error;
use crate::tables::State;

/// Batches of a part that wait for those of the parts before it.
const WAITING: usize = 16;

/// Which series an operator reads, and whether others may read some of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub part: Part,
    /// The number of the operator that other processes can compute in place of this one.
    pub fragment: Option<u32>,
}

impl Extent {
    /// All, here.
    pub const WHOLE: Self = Self {
        part: Part::WHOLE,
        fragment: None,
    };
}

/// What a selector found: processes that find something else must not add to one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub series: u64,
    pub rows: u64,
    pub batches: u64,
}

impl Shape {
    fn of(selected: &SelectedSeries) -> Self {
        Self {
            series: selected.series as u64,
            rows: selected.rows,
            batches: selected.batches as u64,
        }
    }

    /// Fails if something else was found.
    pub fn check(self, selected: &SelectedSeries) -> Result<(), QueryError> {
        let found = Self::of(selected);
        if found != self {
            return Err(QueryError::Execution(format!(
                "another process found {self:?}, this one {found:?}"
            )));
        }
        Ok(())
    }
}

/// A query whose operators other processes can compute.
#[derive(Debug, Clone)]
pub(crate) struct Spread {
    workers: Arc<dyn Workers>,
    root: Arc<PromExec>,
    text: Arc<str>,
    params: QueryParams,
    options: EngineOptions,
}

impl Spread {
    /// A query, if there is anybody else.
    pub fn of(
        root: &Arc<PromExec>,
        text: &str,
        params: QueryParams,
        options: &EngineOptions,
    ) -> Option<Self> {
        let workers = options.workers.as_ref();
        let workers = workers.filter(|workers| workers.has_any())?;
        Some(Self {
            workers: Arc::clone(workers),
            root: Arc::clone(root),
            text: text.into(),
            params,
            options: options.clone(),
        })
    }

    /// Which parts others compute of what was selected; `None` if all is computed here.
    pub fn plan(on: Inputs<'_>, selected: &SelectedSeries) -> Option<Parts> {
        let (work, extent) = (on.work, on.extent);
        let spread = work.spread.as_ref()?;
        let fragment = extent.fragment?;
        let series = Arc::clone(selected.parts.as_ref()?);
        let state = series.state()?;
        let database = state.snapshot.databases().next()?;
        let workers = parts::takers(
            &*spread.workers,
            &database.name,
            selected.batches,
            selected.rows,
            spread.options.distributed_query_rows,
        )?;
        let operators = numbered(&spread.root);
        let node = operators.get(fragment as usize)?;
        let options = &spread.options;
        let message = PartMessage {
            version: VERSION,
            fragment: encode_operator((fragment, node), &spread.text, spread.params, options),
            lookback_ms: work.lookback,
            grid: Some(GridMessage::of(on.grid)),
            part: 0,
            parts: workers.len() as u64,
            series: selected.series as u64,
            rows: selected.rows,
            batches: selected.batches as u64,
            max_samples: options.max_samples,
            max_series: options.max_series as u64,
            max_read_bytes: options.max_read_bytes,
            timeout_ms: 0,
            steps: work.grid.count as u64,
            counts_samples: work.counts().is_some(),
            is_profiled: work.is_profiled,
        };
        Some(Parts {
            workers,
            message,
            state,
            series,
            // From the operator down to the selector.
            operators: chain(node),
            spec: Arc::clone(node.operator_as::<Aggregation>()?.partial()?),
            steps: on.grid.count,
            work: Arc::clone(work),
            spread: spread.clone(),
        })
    }
}

/// An operator and its inputs, one below the other.
fn chain(node: &PromExec) -> Vec<PromExec> {
    let mut all = vec![node.clone()];
    while let Some(below) = all
        .last()
        .and_then(|node| node.inputs().first().and_then(Input::node).cloned())
    {
        all.push(below);
    }
    all
}

impl Work {
    /// The number of an operator that other processes can compute: a partial aggregation that reads
    /// one selector and nothing else.
    pub fn fragment(&self, node: &PromExec) -> Option<u32> {
        let spread = self.spread.as_ref()?;
        node.operator_as::<Aggregation>()?.partial()?;
        let mut below = node;
        loop {
            let mut inputs = below.inputs().iter().filter_map(Input::node);
            // A scalar argument may read what is not sent along.
            match (below.is_selector(), inputs.next(), inputs.next()) {
                (true, None, _) => break,
                (false, Some(input), None) => below = input,
                _ => return None,
            }
        }
        let operators = numbered(&spread.root);
        let number = operators.iter().position(|other| other.is_same(node))?;
        u32::try_from(number).ok()
    }
}

/// The parts of what a selector found.
pub(crate) struct Parts {
    workers: Vec<Worker>,
    message: PartMessage,
    state: Arc<State>,
    series: Arc<dyn SeriesParts>,
    operators: Vec<PromExec>,
    spec: Arc<Aggregate>,
    steps: usize,
    work: Arc<Work>,
    spread: Spread,
}

/// One part while it is computed, here or elsewhere.
struct Task {
    units: mpsc::Receiver<Result<Unit, QueryError>>,
    /// Ends with this.
    task: Option<SpawnedTask<Result<(), panics::Panicked>>>,
}

impl Task {
    async fn next(&mut self) -> Option<Result<Unit, QueryError>> {
        if let Some(unit) = self.units.recv().await {
            return Some(unit);
        }
        match self.task.take()?.join().await {
            Ok(Ok(())) => None,
            Ok(Err(panicked)) => Some(Err(panicked.into())),
            Err(_) => Some(Err(QueryError::Canceled)),
        }
    }
}

impl Parts {
    /// What the batches of all parts came to, in the order of their series. All parts are begun at
    /// once.
    pub fn run<'a>(self, computing: Computing<Unit>) -> Units<'a> {
        let of = self.workers.len();
        let (parts, computing) = (Arc::new(self), Arc::new(computing));
        let tasks: Vec<Task> = (0..of)
            .map(|index| {
                let (tx, rx) = mpsc::channel(WAITING);
                let (parts, computing) = (Arc::clone(&parts), Arc::clone(&computing));
                let work = async move { parts.part(Part { index, of }, &computing, tx).await };
                Task {
                    units: rx,
                    task: Some(SpawnedTask::spawn(panics::caught(work))),
                }
            })
            .collect();
        let in_order = stream::iter(tasks).flat_map(|task| {
            stream::unfold(task, async |mut task| {
                let unit = task.next().await?;
                Some((unit, task))
            })
            .boxed()
        });
        in_order.boxed()
    }

    async fn part(
        &self,
        part: Part,
        computing: &Computing<Unit>,
        to: mpsc::Sender<Result<Unit, QueryError>>,
    ) {
        let begun = Instant::now();
        let worker = &self.workers[part.index];
        let mut run = TaskRun::default();
        let mut sent = 0;
        match worker {
            Worker::Here => run.worker = "here".to_owned(),
            Worker::Node(node) => {
                run.worker = node.to_string();
                match self.elsewhere(part, node, &to, &mut sent).await {
                    Ok(bytes) => {
                        run.bytes = bytes;
                        run.batches = sent as u64;
                        self.note(run, begun);
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%node, %error, "a part of a query is computed here instead");
                        run.failed = Some(error);
                    }
                }
            }
        }
        let mut units = computing.run(self.series.read(part)).skip(sent);
        while let Some(unit) = units.next().await {
            run.batches += 1;
            let is_last = unit.is_err();
            if to.send(unit).await.is_err() || is_last {
                break;
            }
        }
        run.batches += sent as u64;
        self.note(run, begun);
    }

    fn note(&self, run: TaskRun, begun: Instant) {
        if let (true, Some(node)) = (self.work.is_profiled, self.operators.first()) {
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            let profile = node.noting(&self.work);
            profile.tasks.lock().push(TaskRun { micros, ..run });
        }
    }

    /// Has another process compute a part; returns how many bytes it sent. `sent` counts the
    /// batches that were handed on, also if the others do not come.
    async fn elsewhere(
        &self,
        part: Part,
        node: &str,
        to: &mpsc::Sender<Result<Unit, QueryError>>,
        sent: &mut usize,
    ) -> Result<u64, String> {
        let left = self.work.limits.time_left();
        let message = PartMessage {
            part: part.index as u64,
            timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            ..self.message.clone()
        };
        let request = PartRequest {
            head: message.encode_to_vec().into(),
            kind: PartKind::Promql,
            state: Arc::clone(&self.state),
        };
        let mut asked = Asked::ask(&*self.spread.workers, node, request).await?;
        loop {
            match asked.next().await? {
                Frame::Unit(unit) => {
                    let unit = UnitMessage::decode(unit);
                    let unit = unit.map_err(|error| format!("a unit cannot be read: {error}"))?;
                    let (spec, limits) = (&self.spec, &self.work.limits);
                    let batches = unit.batches as usize;
                    let partial = Partial::decode(unit.partial, spec, self.steps, limits);
                    let partial = partial.map_err(|error| error.to_string())?;
                    *sent += batches;
                    if to.send(Ok(Unit::Partial(partial))).await.is_err() {
                        return Ok(asked.bytes);
                    }
                }
                Frame::End(end) => {
                    let end = EndMessage::decode(end);
                    let end = end.map_err(|error| format!("its end cannot be read: {error}"))?;
                    if let Err(error) = self.ended(end) {
                        // More was read than may be.
                        let _ = to.send(Err(error)).await;
                    }
                    return Ok(asked.bytes);
                }
                frame => return Err(format!("it says {frame:?}")),
            }
        }
    }

    /// Takes over what another process counted and remarked.
    fn ended(&self, end: EndMessage) -> Result<(), QueryError> {
        let work = &self.work;
        work.annotate(|all| all.merge(Collector::of(end.remarks)));
        work.limits.read_elsewhere(end.samples_read);
        if let Some(counts) = work.counts() {
            counts.add(&end.samples_per_step);
        }
        let read = end.read.unwrap_or_default().into();
        let meter = match (work.is_profiled, self.operators.last()) {
            (true, Some(selector)) => &selector.noting(work).read,
            _ => &work.meter,
        };
        let added = meter.add(read);
        added.map_err(|error| QueryError::from(source_error(error)))?;
        if work.is_profiled {
            for (node, profile) in self.operators.iter().zip(end.profiles) {
                profile.add_to(node.noting(work));
            }
        }
        Ok(())
    }
}
