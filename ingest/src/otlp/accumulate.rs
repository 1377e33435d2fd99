//! Deltas summed up: points that count since the point before become points that count since the
//! first.
//!
//! A request with deltas is written anew before it is logged, so that a replay needs no sums. Sums
//! are in memory only: after a start they begin anew, which their start time tells.
//!
//! A sender that got no answer sends a point again. One of the time of the last point is therefore
//! not added a second time.

mod totals;

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidelake_catalog::memory::{MemoryBudget, OutOfMemory, Reservation, Share};

use self::totals::{Point, Total};
use super::DecodeError;
use super::output::{MAX_LENGTH, Output};
use crate::protobuf::{Fields, WireError};
use crate::series_registry::Spelling;

/// Sums at a time. One that gets no points for an hour makes room for another.
const MAX_STREAMS: usize = 1_000_000;
const IDLE_MS: i64 = 3_600_000;
/// Idle ones are looked for once in this time: that looks at all of them.
const SWEEP_MS: i64 = 60_000;
/// Memory of a sum, beside its buckets.
const STREAM_BYTES: usize = 256;
/// The new body is reserved in steps of at least so many bytes.
const RESERVED_BYTES: usize = 64 << 10;
/// Refusals that are kept as text.
const MAX_ERRORS: usize = 20;

const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;

/// What was counted by each sender's series since its first point.
#[derive(Debug)]
pub struct Accumulator(Mutex<State>);

#[derive(Debug)]
struct State {
    streams: HashMap<[u8; 16], Stream>,
    memory: Reservation,
    swept_ms: i64,
}

#[derive(Debug)]
struct Stream {
    /// Start of the first point, in nanoseconds since 1970.
    start: u64,
    /// Time of the last point.
    time: u64,
    total: Total,
    bytes: usize,
    used_ms: i64,
}

/// A request without deltas, and what was refused of it.
#[derive(Debug, Default)]
pub struct Accumulated {
    /// The message.
    pub body: Vec<u8>,
    /// Why points were refused; a long list is cut.
    pub errors: Vec<String>,
    /// Number of points that were refused.
    pub refused: u64,
}

/// Why a request is not accumulated.
#[derive(Debug, thiserror::Error)]
pub enum AccumulateError {
    /// It is malformed, or too long.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// There is no memory for it now.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl From<WireError> for AccumulateError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.into())
    }
}

impl Accumulator {
    /// Without any sums.
    pub fn new(memory: &Arc<MemoryBudget>) -> Self {
        Self(Mutex::new(State {
            streams: HashMap::new(),
            memory: memory.empty(Share::Buffer),
            swept_ms: i64::MIN,
        }))
    }

    /// The same request with sums in place of its deltas, of at most `limit` bytes; `None` if it
    /// has none. `memory` grows by what it takes.
    ///
    /// # Errors
    /// If it is malformed or too long, or has no memory.
    pub fn rewrite(
        &self,
        database: &str,
        body: &[u8],
        now_ms: i64,
        limit: usize,
        memory: &mut Reservation,
    ) -> Result<Option<Accumulated>, AccumulateError> {
        if !has_delta(body)? {
            return Ok(None);
        }
        let mut state = self.0.lock();
        let mut rewriter = Rewriter {
            state: &mut state,
            now_ms,
            out: Output::default(),
            limit: limit.min(MAX_LENGTH),
            memory,
            reserved: 0,
            done: Accumulated::default(),
            key: Vec::new(),
        };
        rewriter.request(database, body)?;
        rewriter.reserve()?;
        let Rewriter {
            out,
            memory,
            mut done,
            ..
        } = rewriter;
        // What is logged is a copy, behind the settings.
        memory.try_grow(out.len())?;
        done.body = out.into_bytes();
        Ok(Some(done))
    }
}

impl State {
    /// Forgets sums that have got no points for long.
    fn forget_idle(&mut self, now_ms: i64) {
        if now_ms < self.swept_ms.saturating_add(SWEEP_MS) {
            return;
        }
        self.swept_ms = now_ms;
        let mut freed = 0;
        self.streams.retain(|_, stream| {
            let is_used = now_ms.saturating_sub(stream.used_ms) < IDLE_MS;
            freed += if is_used { 0 } else { stream.bytes };
            is_used
        });
        self.memory.shrink(freed.min(self.memory.bytes()));
    }

    /// Takes memory for a sum.
    fn reserve(&mut self, bytes: usize, now_ms: i64) -> Result<(), String> {
        if self.streams.len() >= MAX_STREAMS {
            self.forget_idle(now_ms);
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(format!(
                "there are {MAX_STREAMS} sums of deltas, no more are kept"
            ));
        }
        if self.memory.try_grow(bytes).is_ok() {
            return Ok(());
        }
        self.forget_idle(now_ms);
        self.memory.try_grow(bytes).map_err(no_memory)
    }

    /// Adds a point to its sum, and makes it the sum.
    fn add(&mut self, key: [u8; 16], point: &mut Point, now_ms: i64) -> Result<(), String> {
        let (time, start) = (point.time, point.start);
        let Some(stream) = self.streams.get_mut(&key) else {
            let total = Total::of(point);
            let bytes = STREAM_BYTES + total.bytes();
            self.reserve(bytes, now_ms)?;
            let stream = Stream {
                start,
                time,
                total,
                bytes,
                used_ms: now_ms,
            };
            stream.total.put(point);
            self.streams.insert(key, stream);
            return Ok(());
        };
        if time < stream.time {
            return Err("a delta is older than the one before it".to_owned());
        }
        stream.used_ms = now_ms;
        if time > stream.time {
            let is_added = stream.total.add(point);
            // With other buckets than before it counts from here on.
            let new = (!is_added).then(|| Total::of(point));
            let bytes = STREAM_BYTES + new.as_ref().unwrap_or(&stream.total).bytes();
            let more = bytes.saturating_sub(stream.bytes);
            match new {
                Some(total) => {
                    self.memory.try_grow(more).map_err(no_memory)?;
                    (stream.total, stream.start) = (total, start);
                }
                // It is added already, and grows by little.
                None => self.memory.grow(more),
            }
            stream.time = time;
            stream.bytes += more;
        }
        stream.total.put(point);
        point.start = stream.start;
        Ok(())
    }

    fn end(&mut self, key: [u8; 16]) {
        if let Some(stream) = self.streams.remove(&key) {
            self.memory.shrink(stream.bytes.min(self.memory.bytes()));
        }
    }
}

fn no_memory(error: OutOfMemory) -> String {
    format!("there is no memory for another sum of deltas: {error}")
}

/// The bytes of the last field with this number.
fn find(message: &[u8], wanted: u32) -> Result<&[u8], WireError> {
    let mut found: &[u8] = &[];
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if number == wanted {
            found = value.bytes("a message")?;
        }
    }
    Ok(found)
}

/// Whether the data of a metric are deltas.
fn is_delta(number: u32, data: &[u8]) -> Result<bool, WireError> {
    if !matches!(number, 7 | 9 | 10) {
        return Ok(false);
    }
    let mut temporality = 0;
    let mut fields = Fields::new(data);
    while let Some((number, value)) = fields.next()? {
        if number == 2 {
            temporality = value.varint("a metric's temporality")?;
        }
    }
    Ok(temporality == DELTA)
}

fn has_delta(body: &[u8]) -> Result<bool, WireError> {
    let mut resources = Fields::new(body);
    while let Some((number, value)) = resources.next()? {
        if number != 1 {
            continue;
        }
        let mut scopes = value.message("metrics of a resource")?;
        while let Some((number, value)) = scopes.next()? {
            if number != 2 {
                continue;
            }
            let mut metrics = value.message("metrics of a scope")?;
            while let Some((number, value)) = metrics.next()? {
                if number != 2 {
                    continue;
                }
                let mut fields = value.message("a metric")?;
                while let Some((number, value)) = fields.next()? {
                    if matches!(number, 7 | 9 | 10)
                        && is_delta(number, value.bytes("the data of a metric")?)?
                    {
                        return Ok(true);
                    }
                }
            }
        }
    }
    Ok(false)
}

struct Rewriter<'s> {
    state: &'s mut State,
    now_ms: i64,
    out: Output,
    limit: usize,
    memory: &'s mut Reservation,
    /// Bytes of `memory` for `out`.
    reserved: usize,
    done: Accumulated,
    /// What names the sums of the present metric.
    key: Vec<u8>,
}

impl Rewriter<'_> {
    /// Takes memory for what is written, before it becomes much more.
    fn reserve(&mut self) -> Result<(), AccumulateError> {
        let len = self.out.len();
        if len > self.limit {
            let error = "it is too long to be accumulated; send it in smaller parts";
            return Err(WireError(error.to_owned()).into());
        }
        if len > self.reserved {
            // The buffer doubles when it grows.
            let more = (2 * len).max(RESERVED_BYTES) - self.reserved;
            self.memory.try_grow(more)?;
            self.reserved += more;
        }
        Ok(())
    }

    /// Copies a message, with those in one of its fields written anew.
    fn copy(
        &mut self,
        message: &[u8],
        rewritten: u32,
        mut rewrite: impl FnMut(&mut Self, &[u8]) -> Result<(), AccumulateError>,
    ) -> Result<(), AccumulateError> {
        let mut fields = Fields::new(message);
        loop {
            let start = fields.position();
            let Some((number, value)) = fields.next()? else {
                return Ok(());
            };
            if number == rewritten {
                let began = self.out.begin(number);
                rewrite(self, value.bytes("a message")?)?;
                self.out.end(began);
            } else {
                let field = message.get(start..fields.position());
                self.out.raw(field.unwrap_or_default());
            }
        }
    }

    fn request(&mut self, database: &str, body: &[u8]) -> Result<(), AccumulateError> {
        self.copy(body, 1, |this, of_resource| {
            let resource = find(of_resource, 1)?;
            this.copy(of_resource, 2, |this, of_scope| {
                let scope = find(of_scope, 1)?;
                this.copy(of_scope, 2, |this, metric| {
                    this.key.clear();
                    for part in [database.as_bytes(), resource, scope] {
                        this.key.extend_from_slice(&part.len().to_le_bytes());
                        this.key.extend_from_slice(part);
                    }
                    this.metric(metric)
                })
            })
        })
    }

    fn metric(&mut self, metric: &[u8]) -> Result<(), AccumulateError> {
        let mut name: &[u8] = &[];
        let mut fields = Fields::new(metric);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 | 3 => {
                    let text = value.bytes("a metric's name or unit")?;
                    self.key.extend_from_slice(&text.len().to_le_bytes());
                    self.key.extend_from_slice(text);
                    name = if number == 1 { text } else { name };
                }
                _ => {}
            }
        }
        let of_metric = Spelling::of(&self.key).to_bytes();
        let mut fields = Fields::new(metric);
        loop {
            let start = fields.position();
            let Some((number, value)) = fields.next()? else {
                return Ok(());
            };
            let field = metric.get(start..fields.position()).unwrap_or_default();
            match number {
                7 | 9 | 10 => {
                    let data = value.bytes("the data of a metric")?;
                    match is_delta(number, data)? {
                        true => self.data(number, data, &of_metric, name)?,
                        false => self.out.raw(field),
                    }
                }
                _ => self.out.raw(field),
            }
        }
    }

    fn data(
        &mut self,
        kind: u32,
        data: &[u8],
        of_metric: &[u8; 16],
        name: &[u8],
    ) -> Result<(), AccumulateError> {
        let began = self.out.begin(kind);
        let mut fields = Fields::new(data);
        loop {
            let start = fields.position();
            let Some((number, value)) = fields.next()? else {
                break;
            };
            match number {
                1 => self.point(kind, value.bytes("a data point")?, of_metric, name)?,
                2 => self.out.varint(2, CUMULATIVE),
                _ => {
                    let field = data.get(start..fields.position());
                    self.out.raw(field.unwrap_or_default());
                }
            }
        }
        self.out.end(began);
        Ok(())
    }

    fn point(
        &mut self,
        kind: u32,
        message: &[u8],
        of_metric: &[u8; 16],
        name: &[u8],
    ) -> Result<(), AccumulateError> {
        let mut point = Point::read(kind, message)?;
        let mut attributes = std::mem::take(&mut point.attributes);
        // Their order means nothing.
        attributes.sort_unstable();
        let mut key = of_metric.to_vec();
        key.push(kind as u8);
        for attribute in attributes {
            key.extend_from_slice(&attribute.len().to_le_bytes());
            key.extend_from_slice(attribute);
        }
        let key = Spelling::of(&key).to_bytes();
        let added = match point.is_end {
            true => {
                self.state.end(key);
                Ok(())
            }
            false => self.state.add(key, &mut point, self.now_ms),
        };
        match added {
            Ok(()) => {
                let began = self.out.begin(1);
                point.write(&mut self.out);
                self.out.end(began);
                self.reserve()?;
            }
            Err(error) => {
                self.done.refused += 1;
                if self.done.errors.len() < MAX_ERRORS {
                    let name: String = String::from_utf8_lossy(name).chars().take(200).collect();
                    self.done.errors.push(format!("metric {name:?}: {error}"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
