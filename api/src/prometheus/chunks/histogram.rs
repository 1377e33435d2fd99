//! A chunk of native histograms with float counts: two bytes that count the samples, one that says
//! of counter resets, then bits: the layout of the buckets once, and for each histogram its time,
//! its counts and its sum.
//!
//! All histograms of a chunk have one layout, and readers take it for granted that no counter was
//! reset within a chunk; another chunk begins where either is not so. After a stale marker only
//! stale markers follow.
use std::sync::Arc;

use tidelake_catalog::model::histogram::{CUSTOM_BUCKETS_SCHEMA, ResetHint};
use tidelake_catalog::model::{Histogram, Span, is_stale};

use super::bits::{Bits, Xor};

/// In the header: the chunk begins with a counter reset.
const FLAG_RESET: u8 = 0b1000_0000;
/// In the header: gauges, whose resets have no meaning.
const FLAG_GAUGE: u8 = 0b1100_0000;

/// A chunk that grows.
#[derive(Debug)]
pub struct HistogramChunk {
    bits: Bits,
    samples: u16,
    flags: u8,
    time: i64,
    distance: i64,
    /// The layout is that of the first; the counts those of the last.
    first: Option<Arc<Histogram>>,
    last: Option<Arc<Histogram>>,
    /// Count, zero count and sum, then the buckets above zero, then those below.
    values: Vec<Xor>,
}

impl HistogramChunk {
    /// An empty chunk.
    pub fn new() -> Self {
        Self {
            bits: Bits::after(&[0; 3]),
            samples: 0,
            flags: 0,
            time: 0,
            distance: 0,
            first: None,
            last: None,
            values: Vec::new(),
        }
    }

    /// Whether a histogram that comes next can be in this chunk.
    pub fn takes(&self, next: &Histogram) -> bool {
        let (Some(first), Some(last)) = (&self.first, &self.last) else {
            return true;
        };
        if is_stale(next.sum) {
            return true;
        }
        let is_gauge = next.reset_hint == ResetHint::Gauge;
        !is_stale(last.sum)
            && is_gauge == (self.flags == FLAG_GAUGE)
            && next.reset_hint != ResetHint::Yes
            && has_layout_of(next, first)
            && (is_gauge || !is_reset(last, next))
    }

    /// Adds a histogram, later than those before it, that the chunk takes.
    pub fn push(&mut self, time: i64, histogram: &Arc<Histogram>) {
        let is_marker = is_stale(histogram.sum);
        // A marker has neither buckets nor a layout.
        let bare = is_marker.then(|| Histogram {
            sum: histogram.sum,
            ..Histogram::default()
        });
        let written: &Histogram = bare.as_ref().unwrap_or(histogram);
        let numbers = [written.count, written.zero_count, written.sum];
        let buckets = buckets(&written.positive_spans, &written.positive_counts)
            .chain(buckets(&written.negative_spans, &written.negative_counts));
        let distance = time.wrapping_sub(self.time);
        if self.samples == 0 {
            self.flags = match histogram.reset_hint {
                ResetHint::Gauge => FLAG_GAUGE,
                ResetHint::Yes => FLAG_RESET,
                ResetHint::Unknown | ResetHint::No => 0,
            };
            write_layout(&mut self.bits, written);
            self.bits.write_varbit_int(time);
            for value in numbers.into_iter().chain(buckets) {
                self.bits.write(value.to_bits(), 64);
                self.values.push(Xor::new(value));
            }
            self.first = Some(bare.map_or_else(|| Arc::clone(histogram), Arc::new));
        } else {
            self.bits
                .write_varbit_int(distance.wrapping_sub(self.distance));
            for (last, value) in self
                .values
                .iter_mut()
                .zip(numbers.into_iter().chain(buckets))
            {
                last.write(&mut self.bits, value);
            }
            self.distance = distance;
        }
        self.last = Some(Arc::clone(histogram));
        self.time = time;
        self.samples += 1;
    }

    /// The finished chunk.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.bits.into_bytes();
        if let Some([high, low, flags]) = bytes.first_chunk_mut::<3>() {
            [*high, *low] = self.samples.to_be_bytes();
            *flags = self.flags;
        }
        bytes
    }
}

fn has_layout_of(one: &Histogram, other: &Histogram) -> bool {
    one.schema == other.schema
        && one.zero_threshold.to_bits() == other.zero_threshold.to_bits()
        && one.positive_spans == other.positive_spans
        && one.negative_spans == other.negative_spans
        && one.custom_values.len() == other.custom_values.len()
        && one
            .custom_values
            .iter()
            .zip(&other.custom_values)
            .all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Whether anything that only grows is less than before. Both have one layout.
fn is_reset(before: &Histogram, after: &Histogram) -> bool {
    let fell = |before: &[f64], after: &[f64]| {
        before
            .iter()
            .zip(after)
            .any(|(before, after)| after < before)
    };
    after.count < before.count
        || after.zero_count < before.zero_count
        || fell(&before.positive_counts, &after.positive_counts)
        || fell(&before.negative_counts, &after.negative_counts)
}

/// As many counts as the spans have buckets.
fn buckets<'a>(spans: &[Span], counts: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let buckets: usize = spans.iter().map(|span| span.length as usize).sum();
    let missing = buckets.saturating_sub(counts.len());
    counts
        .iter()
        .copied()
        .take(buckets)
        .chain(std::iter::repeat_n(0.0, missing))
}

fn write_layout(bits: &mut Bits, histogram: &Histogram) {
    write_zero_threshold(bits, histogram.zero_threshold);
    bits.write_varbit_int(i64::from(histogram.schema));
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        bits.write_varbit_uint(spans.len() as u64);
        for span in spans {
            bits.write_varbit_uint(u64::from(span.length));
            bits.write_varbit_int(i64::from(span.offset));
        }
    }
    if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
        bits.write_varbit_uint(histogram.custom_values.len() as u64);
        histogram
            .custom_values
            .iter()
            .for_each(|bound| write_custom_bound(bits, *bound));
    }
}

/// A byte for 0 and for the powers of two from 2^-243 to 2^10; others need nine.
fn write_zero_threshold(bits: &mut Bits, threshold: f64) {
    let exponent = (threshold.to_bits() >> 52) as i64 - 1023;
    let is_power = threshold.to_bits().trailing_zeros() >= 52 && (-243..=10).contains(&exponent);
    if threshold.to_bits() == 0 {
        bits.write(0, 8);
    } else if is_power {
        bits.write((exponent + 244) as u64, 8);
    } else {
        bits.write(255, 8);
        bits.write(threshold.to_bits(), 64);
    }
}

/// Thousandths up to 33,554.43 are short; others are a 0 and 64 bits.
fn write_custom_bound(bits: &mut Bits, bound: f64) {
    let thousandths = (bound * 1000.0).round();
    if (0.0..=33_554_430.0).contains(&(bound * 1000.0))
        && (thousandths / 1000.0).to_bits() == bound.to_bits()
    {
        bits.write_varbit_uint(thousandths as u64 + 1);
    } else {
        bits.write(0, 1);
        bits.write(bound.to_bits(), 64);
    }
}
