//! Aggregations over many series, which other processes compute parts of.
//!
//! The series of a selector come in an order that depends on them alone, and aggregations do not
//! depend on how they are cut. So each process takes a range of them ([`Part`]) and folds it as far
//! as that goes ([`super::fold::Partial`]); the parts are put together in their order.
//!
//! Another process gets the operator ([`super::super::plan::codec`]) and the state of the tables
//! ([`crate::tables::State`]), and finds the same series in it. What it cannot do, or not in time, is
//! done here: a lost process costs time, and never changes an answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use prost::Message;
use tidelake_catalog::panics;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::plan::aggregate::Aggregation;
use super::super::plan::codec::{encode_operator, numbered};
use super::super::plan::{Input, Inputs, PromExec, Unit, Units};
use super::super::source::{Part, SelectedSeries, SeriesParts};
use super::annotations::Collector;
use super::part::{EndMessage, Frame, GridMessage, PartMessage, VERSION};
use super::profile::TaskRun;
use super::work::{Computing, Work};
use super::{EngineOptions, QueryError, QueryParams};
use crate::samples::source_error;
use crate::tables::State;

/// What has fewer rows is computed where it is asked for: about 100 ms of a processor.
pub(super) const FEW_ROWS: u64 = 1 << 20;
/// Batches of a part that wait for those of the parts before it.
const WAITING: usize = 16;
/// A process that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(4);

/// Who takes a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Worker {
    /// This process.
    Here,
    /// The process of this name.
    Node(Arc<str>),
}

/// What another process is asked for.
#[derive(Debug, Clone)]
pub struct PartRequest {
    /// What is to be done, for [`crate::Querier::part`].
    pub head: Bytes,
    /// What is to be read.
    pub state: Arc<State>,
}

/// Other processes that compute parts of queries.
#[async_trait]
pub trait Workers: std::fmt::Debug + Send + Sync {
    /// Whether there is any.
    fn has_any(&self) -> bool;

    /// Who takes the parts of the series of a database, one after the other; this process is one of
    /// them. The same process gets the same part as far as that is possible: it has it in its cache.
    fn order(&self, database: &str) -> Vec<Worker>;

    /// Has a part computed: frames as [`crate::Querier::part`] makes them.
    ///
    /// # Errors
    /// What is wrong, in words.
    async fn ask(
        &self,
        node: &str,
        request: PartRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, String>>, String>;
}

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
        if selected.rows < spread.options.distributed_query_rows || selected.batches < 2 {
            return None;
        }
        let parts = Arc::clone(selected.parts.as_ref()?);
        let state = parts.state()?;
        let database = state.snapshot.databases().next()?;
        let mut workers = spread.workers.order(&database.name);
        while workers.len() > selected.batches {
            let last_other = workers.iter().rposition(|worker| *worker != Worker::Here);
            workers.remove(last_other?);
        }
        if workers.len() < 2 {
            return None;
        }
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
            parts,
            // From the operator down to the selector.
            operators: chain(node),
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
        node.operator_as::<Aggregation>()
            .filter(|operator| operator.is_partial())?;
        let mut below = node;
        loop {
            let mut inputs = below.inputs().iter().filter_map(Input::node);
            match (inputs.next(), inputs.next()) {
                (None, _) => break,
                (Some(input), None) => below = input,
                (Some(_), Some(_)) => return None,
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
    parts: Arc<dyn SeriesParts>,
    operators: Vec<PromExec>,
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
        let mut units = computing.run(self.parts.read(part)).skip(sent);
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

    /// Has another process compute a part; returns how many bytes it sent. `sent` counts the batches
    /// that were handed on, also if the others do not come.
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
            state: Arc::clone(&self.state),
        };
        let silent = |_| format!("it is silent for {} s", SILENCE.as_secs());
        let asked = self.spread.workers.ask(node, request);
        let frames = tokio::time::timeout(SILENCE, asked).await;
        let mut frames = frames.map_err(silent)??;
        let mut bytes = 0;
        loop {
            let frame = tokio::time::timeout(SILENCE, frames.next()).await;
            let frame = frame.map_err(silent)?;
            let frame = frame.ok_or("its answer ends early")??;
            bytes += frame.len() as u64;
            match Frame::read(frame)? {
                Frame::Alive => {}
                Frame::Unit(unit) => {
                    *sent += 1;
                    if to.send(Ok(Unit::Bytes(unit))).await.is_err() {
                        return Ok(bytes);
                    }
                }
                Frame::Error(error) => return Err(error),
                Frame::End(end) => {
                    if let Err(error) = self.ended(end) {
                        // More was read than may be.
                        let _ = to.send(Err(error)).boxed().await;
                    }
                    return Ok(bytes);
                }
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
