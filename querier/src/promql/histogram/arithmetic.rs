//! Operations on one or two histograms.

use tidelake_catalog::model::{Histogram, ResetHint, Span};

use super::bounds::{is_custom, shift};
use super::buckets::{Cells, reduced};
use super::compensated::Total;
use super::layout::{Cell, Side};
use super::{Incompatible, Merged};

/// The sum of two histograms, not compacted.
pub(crate) fn add(a: &Histogram, b: &Histogram) -> Result<(Histogram, Merged), Incompatible> {
    combine(a, b, 1.0)
}

/// What `a` has more than `b`, not compacted.
pub(crate) fn subtract(a: &Histogram, b: &Histogram) -> Result<(Histogram, Merged), Incompatible> {
    combine(a, b, -1.0)
}

fn combine(a: &Histogram, b: &Histogram, sign: f64) -> Result<(Histogram, Merged), Incompatible> {
    let mut total = Total::new(a);
    let merged = total.add(b, sign)?;
    Ok((total.finish(), merged))
}

/// Multiplies all counts and the sum. What has negative counts is no counter.
pub(crate) fn multiply(histogram: &mut Histogram, factor: f64) {
    numbers(histogram, |number| number * factor);
    if factor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

/// Divides all counts and the sum. Division by zero leaves no buckets.
pub(crate) fn divide(histogram: &mut Histogram, divisor: f64) {
    if divisor == 0.0 {
        histogram.positive_spans.clear();
        histogram.positive_counts.clear();
        histogram.negative_spans.clear();
        histogram.negative_counts.clear();
    }
    numbers(histogram, |number| number / divisor);
    if divisor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

fn numbers(histogram: &mut Histogram, change: impl Fn(f64) -> f64) {
    let single = [
        &mut histogram.zero_count,
        &mut histogram.count,
        &mut histogram.sum,
    ];
    let buckets = histogram
        .positive_counts
        .iter_mut()
        .chain(&mut histogram.negative_counts);
    single
        .into_iter()
        .chain(buckets)
        .for_each(|number| *number = change(*number));
}

/// The histogram in the resolution of a schema, if that is lower than its own.
pub(crate) fn in_schema(histogram: &Histogram, schema: i32) -> Histogram {
    if is_custom(histogram) || schema >= histogram.schema {
        return histogram.clone();
    }
    let shift = shift(histogram.schema, schema);
    let side = |spans: &[Span], counts: &[f64]| {
        let side = Side::collect(
            reduced(Cells::new(spans, counts), shift)
                .map(|(index, count)| (index, Cell { count, lost: 0.0 })),
        );
        (side.spans, side.counts)
    };
    let (positive_spans, positive_counts) =
        side(&histogram.positive_spans, &histogram.positive_counts);
    let (negative_spans, negative_counts) =
        side(&histogram.negative_spans, &histogram.negative_counts);
    Histogram {
        schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: histogram.zero_count,
        count: histogram.count,
        sum: histogram.sum,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        ..Histogram::default()
    }
}
