//! Samples in the chunks of Prometheus' storage, as remote read streams them.
//!
//! Source of the formats: `tsdb/docs/format/chunks.md` of Prometheus. `xor` holds floats,
//! `histogram` native histograms with float counts, which is how they are stored here; `bits`
//! is below both. A chunk has at most [`MAX_SAMPLES`] samples, like those that Prometheus cuts
//! itself.
mod bits;
mod histogram;
pub mod read;
mod xor;

use std::sync::Arc;

use tidelake_catalog::model::Histogram;

use self::histogram::HistogramChunk;
use self::xor::XorChunk;

/// Most samples of a chunk.
pub const MAX_SAMPLES: u16 = 120;

/// What a chunk holds, by the numbers of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Floats.
    Xor = 1,
    /// Histograms with float counts.
    FloatHistogram = 3,
}

/// A finished chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What it holds.
    pub encoding: Encoding,
    /// Time of its first sample in ms.
    pub min_time_ms: i64,
    /// Time of its last sample in ms.
    pub max_time_ms: i64,
    /// Its bytes, header included.
    pub data: Vec<u8>,
}

/// Samples of one series in ascending time become chunks.
#[derive(Debug, Default)]
pub struct ChunkWriter {
    open: Option<Open>,
    min_time_ms: i64,
    max_time_ms: i64,
    samples: u16,
}

#[derive(Debug)]
enum Open {
    Floats(XorChunk),
    Histograms(HistogramChunk),
}

impl ChunkWriter {
    /// Adds a float; a chunk that had to end before it is returned.
    pub fn float(&mut self, time_ms: i64, value: f64) -> Option<Chunk> {
        let fits = matches!(self.open, Some(Open::Floats(_))) && self.samples < MAX_SAMPLES;
        let ended = if fits { None } else { self.end() };
        if let Open::Floats(chunk) = self
            .open
            .get_or_insert_with(|| Open::Floats(XorChunk::new()))
        {
            chunk.push(time_ms, value);
        }
        self.count(time_ms);
        ended
    }

    /// Adds a histogram; a chunk that had to end before it is returned.
    pub fn histogram(&mut self, time_ms: i64, histogram: &Arc<Histogram>) -> Option<Chunk> {
        let fits = matches!(&self.open, Some(Open::Histograms(chunk)) if chunk.takes(histogram))
            && self.samples < MAX_SAMPLES;
        let ended = if fits { None } else { self.end() };
        if let Open::Histograms(chunk) = self
            .open
            .get_or_insert_with(|| Open::Histograms(HistogramChunk::new()))
        {
            chunk.push(time_ms, histogram);
        }
        self.count(time_ms);
        ended
    }

    fn count(&mut self, time_ms: i64) {
        if self.samples == 0 {
            self.min_time_ms = time_ms;
        }
        self.max_time_ms = time_ms;
        self.samples += 1;
    }

    /// The chunk that is open, if there is one.
    pub fn end(&mut self) -> Option<Chunk> {
        let (encoding, data) = match self.open.take()? {
            Open::Floats(chunk) => (Encoding::Xor, chunk.into_bytes()),
            Open::Histograms(chunk) => (Encoding::FloatHistogram, chunk.into_bytes()),
        };
        self.samples = 0;
        Some(Chunk {
            encoding,
            min_time_ms: self.min_time_ms,
            max_time_ms: self.max_time_ms,
            data,
        })
    }
}

#[cfg(test)]
mod tests;
