//! Arithmetic of native histograms, as PromQL defines it.
//!
//! A histogram is a few numbers (count, sum, zero bucket) and two sparse lists of buckets, above
//! and below zero. Buckets are numbered outwards from zero; [`bounds`] tells what a number means.
//! Everything here works on [`buckets::Cells`] (number and count) as long as bounds do not matter,
//! and on [`buckets::Bucket`] where they do.
//!
//! Before two histograms are added or compared they are brought to one layout: the lower of two
//! resolutions, the wider of two zero buckets ([`zero`]), or the bounds that both have
//! ([`custom`]). Exponential and custom buckets cannot be reconciled: [`Incompatible`].
//!
//! Invariants:
//! * Nothing here panics, whatever spans and counts say: they came from a client once.
//! * Inputs are not changed; who adds up owns the total.
//!
//! Source: Prometheus' native histogram specification and the behaviour of its query engine.

pub(crate) mod arithmetic;
pub(crate) mod bounds;
pub(crate) mod buckets;
pub(crate) mod compact;
pub(crate) mod compensated;
pub(crate) mod custom;
pub(crate) mod equal;
pub(crate) mod fraction;
pub(crate) mod interpolate;
pub(crate) mod layout;
pub(crate) mod quantile;
pub(crate) mod reset;
pub(crate) mod text;
pub(crate) mod trim;
pub(crate) mod variance;
pub(crate) mod zero;

#[cfg(test)]
mod tests;

use tidelake_catalog::model::Histogram;

/// How many floats a histogram counts as in limits and statistics: its bytes, those of its time
/// included, by those of a float with its time. Prometheus counts so.
pub(crate) fn weight(histogram: &Histogram) -> u64 {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let numbers = histogram.positive_counts.len()
        + histogram.negative_counts.len()
        + histogram.custom_values.len();
    (FIXED_BYTES + 8 * (spans + numbers) as u64) / FLOAT_BYTES
}

/// Bytes of a histogram in memory, with its lists and the counts of its owners.
pub(crate) fn bytes(histogram: &Histogram) -> usize {
    let spans = histogram.positive_spans.capacity() + histogram.negative_spans.capacity();
    let numbers = histogram.positive_counts.capacity()
        + histogram.negative_counts.capacity()
        + histogram.custom_values.capacity();
    size_of::<Histogram>() + 2 * size_of::<usize>() + 8 * (spans + numbers)
}

const FIXED_BYTES: u64 = 176;
const FLOAT_BYTES: u64 = 16;

/// Exponential and custom buckets met: there is no layout that both fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incompatible;

/// What happened when two histograms were put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Merged {
    /// One says that it follows a counter reset, the other that it does not.
    pub conflict: bool,
    /// Their custom bounds differed; the result has those that both had.
    pub reconciled: bool,
}
