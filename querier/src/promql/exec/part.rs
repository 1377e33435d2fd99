//! A part of a query that another process asked for: what it asks, what it is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tidelake_catalog::panics;
use tidelake_catalog::segment::ReadCounts;

use super::super::plan::aggregate::Aggregation;
use super::super::plan::codec::{CodecError, Fragment, numbered};
use super::super::plan::{Stage, Unit};
use super::super::source::{Part, SampleSource};
use super::annotations::Remark;
use super::fold::Partial;
use super::grid::{Grid, Place};
use super::limits::Limits;
use super::profile::Profile;
use super::spread::{Extent, Shape};
use super::stats::StepCounts;
use super::work::Work;
use super::{EngineOptions, QueryError};
use crate::parts::{Frame, Frames, MAX_FRAME_BYTES, answer};

/// The version of these messages.
pub(crate) const VERSION: u32 = 2;
/// Bytes beyond which a unit takes no more batches.
const UNIT_BYTES: usize = 4 << 20;

/// What is asked for.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartMessage {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The operator.
    #[prost(bytes = "vec", tag = "2")]
    pub fragment: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub lookback_ms: i64,
    /// At which steps.
    #[prost(message, optional, tag = "4")]
    pub grid: Option<GridMessage>,
    /// Which part of how many.
    #[prost(uint64, tag = "5")]
    pub part: u64,
    #[prost(uint64, tag = "6")]
    pub parts: u64,
    /// What its selector has to find.
    #[prost(uint64, tag = "7")]
    pub series: u64,
    #[prost(uint64, tag = "8")]
    pub rows: u64,
    #[prost(uint64, tag = "9")]
    pub batches: u64,
    /// Limits of the query.
    #[prost(uint64, tag = "10")]
    pub max_samples: u64,
    #[prost(uint64, tag = "11")]
    pub max_series: u64,
    #[prost(uint64, tag = "12")]
    pub max_read_bytes: u64,
    #[prost(uint64, tag = "13")]
    pub timeout_ms: u64,
    /// Steps of the whole query.
    #[prost(uint64, tag = "14")]
    pub steps: u64,
    #[prost(bool, tag = "15")]
    pub counts_samples: bool,
    #[prost(bool, tag = "16")]
    pub is_profiled: bool,
}

/// Steps.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GridMessage {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(uint64, tag = "3")]
    count: u64,
    /// Of the steps of the query: those from one on (0), one that stands for some (1), none (2).
    #[prost(uint32, tag = "4")]
    place: u32,
    #[prost(uint64, tag = "5")]
    first: u64,
    #[prost(uint64, tag = "6")]
    stands_for: u64,
}

impl GridMessage {
    /// Steps of a query.
    pub fn of(grid: Grid) -> Self {
        let (place, first, stands_for) = match grid.place {
            Place::From(first) => (0, first, 0),
            Place::Invariant(first, steps) => (1, first, steps),
            Place::Inner => (2, 0, 0),
        };
        Self {
            start: grid.start,
            step: grid.step,
            count: grid.count as u64,
            place,
            first: first as u64,
            stands_for: stands_for as u64,
        }
    }

    /// The steps, of at most so many.
    fn grid(&self, most: u64) -> Option<Grid> {
        let whole = |number: u64| (number <= most).then_some(number as usize);
        let first = whole(self.first)?;
        let place = match self.place {
            0 => Place::From(first),
            1 => Place::Invariant(first, whole(self.stands_for)?),
            2 => Place::Inner,
            _ => return None,
        };
        (self.step > 0).then_some(Grid {
            start: self.start,
            step: self.step,
            count: whole(self.count)?,
            place,
            is_divisible: false,
        })
    }
}

/// What some batches came to.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UnitMessage {
    /// How many.
    #[prost(uint32, tag = "1")]
    pub batches: u32,
    /// See [`Partial::encode`].
    #[prost(bytes = "bytes", tag = "2")]
    pub partial: Bytes,
}

/// What is said at the end of a part.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EndMessage {
    #[prost(message, repeated, tag = "1")]
    pub remarks: Vec<Remark>,
    #[prost(uint64, tag = "2")]
    pub samples_read: u64,
    #[prost(uint64, repeated, tag = "3")]
    pub samples_per_step: Vec<u64>,
    #[prost(message, optional, tag = "4")]
    pub read: Option<ReadMessage>,
    /// Of the operator and those below.
    #[prost(message, repeated, tag = "5")]
    pub profiles: Vec<ProfileMessage>,
}

/// What was read of the store.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ReadMessage {
    #[prost(uint64, tag = "1")]
    requests: u64,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(uint64, tag = "3")]
    rounds: u64,
    #[prost(uint64, tag = "4")]
    memory_hits: u64,
    #[prost(uint64, tag = "5")]
    disk_hits: u64,
    #[prost(uint64, tag = "6")]
    rows: u64,
}

impl From<ReadCounts> for ReadMessage {
    fn from(counts: ReadCounts) -> Self {
        Self {
            requests: counts.requests,
            bytes: counts.bytes,
            rounds: counts.rounds,
            memory_hits: counts.memory_hits,
            disk_hits: counts.disk_hits,
            rows: counts.rows,
        }
    }
}

impl From<ReadMessage> for ReadCounts {
    fn from(read: ReadMessage) -> Self {
        Self {
            // Whoever asked has looked at the same.
            segments: 0,
            chunks: 0,
            requests: read.requests,
            bytes: read.bytes,
            rounds: read.rounds,
            memory_hits: read.memory_hits,
            disk_hits: read.disk_hits,
            rows: read.rows,
        }
    }
}

/// What an operator did.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ProfileMessage {
    #[prost(uint64, tag = "1")]
    rows: u64,
    #[prost(uint64, tag = "2")]
    values: u64,
    #[prost(uint64, tag = "3")]
    series: u64,
    #[prost(uint64, tag = "4")]
    samples: u64,
    #[prost(uint64, tag = "5")]
    batches: u64,
    #[prost(uint64, tag = "6")]
    compute_nanos: u64,
}

impl ProfileMessage {
    fn of(profile: &Profile) -> Self {
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Self {
            rows: load(&profile.rows),
            values: load(&profile.values),
            series: load(&profile.series),
            samples: load(&profile.samples),
            batches: load(&profile.batches),
            compute_nanos: load(&profile.compute_nanos),
        }
    }

    /// Adds it to what the same operator did here.
    pub fn add_to(&self, profile: &Profile) {
        let counts = [
            (&profile.rows, self.rows),
            (&profile.values, self.values),
            (&profile.series, self.series),
            (&profile.samples, self.samples),
            (&profile.batches, self.batches),
            (&profile.compute_nanos, self.compute_nanos),
        ];
        for (count, more) in counts {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }
}

/// Why a part cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// What is asked for cannot be read.
    #[error("what is asked for cannot be read: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// Another version asks.
    #[error("a part of a query is asked for in version {0}; this process knows version {VERSION}")]
    Version(u32),
    /// The operator is none.
    #[error(transparent)]
    Operator(#[from] CodecError),
    /// It makes no sense.
    #[error("{0}")]
    Refused(&'static str),
    /// There is no memory for it.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Computes a part that another process asked for. Settings of the query are in `head`, those of
/// this process in `options`. Dropping the stream ends it.
///
/// # Errors
/// If it cannot be begun; what fails later is in the last frame.
pub(crate) fn compute(
    head: &[u8],
    source: Arc<dyn SampleSource>,
    options: &EngineOptions,
) -> Result<BoxStream<'static, Bytes>, PartError> {
    let message = PartMessage::decode(head)?;
    if message.version != VERSION {
        return Err(PartError::Version(message.version));
    }
    let options = EngineOptions {
        lookback_delta_ms: message.lookback_ms,
        max_samples: options.max_samples.min(message.max_samples),
        max_series: usize::try_from(message.max_series).unwrap_or(usize::MAX),
        max_read_bytes: message.max_read_bytes,
        timeout: options
            .timeout
            .min(Duration::from_millis(message.timeout_ms)),
        workers: None,
        ..options.clone()
    };
    let fragment = Fragment::decode(&message.fragment, &options)?;
    let node = Arc::clone(fragment.node());
    let spec = node
        .operator_as::<Aggregation>()
        .and_then(Aggregation::partial);
    let Some(spec) = spec.cloned() else {
        return Err(PartError::Refused("only partial aggregations are computed"));
    };
    let grid = message
        .grid
        .as_ref()
        .and_then(|grid| grid.grid(options.max_samples));
    let grid = grid.ok_or(PartError::Refused("its steps are none"))?;
    if message.part >= message.parts || message.steps > options.max_samples {
        return Err(PartError::Refused("it is a part of nothing"));
    }
    let part = Part {
        index: message.part as usize,
        of: message.parts as usize,
    };
    let pool = options.memory.pool();
    let limits = Limits::new(options.max_samples, options.timeout, pool, head.len())?;
    let steps = message.steps as usize;
    // Counted while they are made, and once more as a part of the end.
    let counters = limits.charge(match message.counts_samples {
        true => steps.saturating_mul(2 * size_of::<u64>()),
        false => 0,
    })?;
    let counts = message.counts_samples.then(|| StepCounts::new(steps));
    let whole = Grid {
        count: steps,
        ..grid
    };
    let lookback = message.lookback_ms;
    let mut work = Work::new(
        source,
        &options,
        limits,
        whole,
        lookback,
        message.is_profiled,
    )
    .counting(counts.clone());
    work.expected = Some(Shape {
        series: message.series,
        rows: message.rows,
        batches: message.batches,
    });
    let work = Arc::new(work);
    let lane = work.lane.clone();
    let run = async move |to: Frames| {
        let extent = Extent {
            part,
            fragment: None,
        };
        let stage: Stage = Arc::new(|unit, _| Ok(unit));
        let mut units = node.units(grid, extent, &work, stage).await?;
        // Batches that go into the same blocks are one unit.
        let mut pending: Option<(Partial, u32)> = None;
        while let Some(unit) = units.next().await {
            let Unit::Partial(next) = unit? else {
                return Err(QueryError::Execution("a part has rows".to_owned()));
            };
            let next = match &mut pending {
                Some((partial, batches)) if partial.bytes(&spec, grid.count) < UNIT_BYTES => {
                    let left = partial.append(next, &spec, grid.count, &work.limits)?;
                    *batches += u32::from(left.is_none());
                    left
                }
                _ => Some(next),
            };
            if let Some(next) = next
                && let Some((partial, batches)) = pending.replace((next, 1))
            {
                send(&to, &partial, batches).await?;
            }
        }
        drop(units);
        if let Some((partial, batches)) = pending {
            send(&to, &partial, batches).await?;
        }
        let operators = numbered(&node);
        let profiles = operators.iter().filter_map(|node| node.profile());
        let end = EndMessage {
            remarks: work.annotations().remarks(),
            samples_read: work.limits.samples().0,
            samples_per_step: counts.map(|counts| counts.all()).unwrap_or_default(),
            read: Some(work.meter.counts().into()),
            profiles: profiles
                .map(|profile| ProfileMessage::of(profile))
                .collect(),
        };
        let _ = to.send(Frame::End(end.encode_to_vec().into())).await;
        drop(counters);
        Ok(())
    };
    Ok(answer(async move |to| {
        let done = lane.there(panics::caught(run(to))).await;
        match done {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(panicked)) => Err(panicked.to_string()),
            Err(_) => Err("the server stops".to_owned()),
        }
    }))
}

/// Sends what so many batches came to.
async fn send(to: &Frames, partial: &Partial, batches: u32) -> Result<(), QueryError> {
    let unit = UnitMessage {
        batches,
        partial: partial.encode().into(),
    };
    let bytes = unit.encode_to_vec();
    if bytes.len() >= MAX_FRAME_BYTES {
        return Err(QueryError::Execution(format!(
            "a batch came to {} bytes",
            bytes.len()
        )));
    }
    let sent = to.send(Frame::Unit(bytes.into())).await;
    sent.map_err(|_| QueryError::Canceled)
}
