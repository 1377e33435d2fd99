//! Equality of data: the same numbers in the same layout, bit by bit.

use tidelake_catalog::model::{Histogram, Span};

use super::custom::same_bounds;

/// Whether two native histograms are the same value; what they say about resets does not count.
pub(crate) fn equal(a: &Histogram, b: &Histogram) -> bool {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let all =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(*a, *b));
    a.schema == b.schema
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && same_bounds(&a.custom_values, &b.custom_values)
        && a.zero_threshold == b.zero_threshold
        && same(a.zero_count, b.zero_count)
        && same_layout(&a.negative_spans, &b.negative_spans)
        && all(&a.negative_counts, &b.negative_counts)
        && same_layout(&a.positive_spans, &b.positive_spans)
        && all(&a.positive_counts, &b.positive_counts)
}

/// Whether spans are the same once empty ones are joined with those after them.
fn same_layout(a: &[Span], b: &[Span]) -> bool {
    a == b || populated(a).eq(populated(b))
}

fn populated(spans: &[Span]) -> impl Iterator<Item = (i64, u32)> {
    let mut gap = 0;
    spans.iter().filter_map(move |span| {
        gap += i64::from(span.offset);
        (span.length > 0).then(|| (std::mem::take(&mut gap), span.length))
    })
}
