//! Leaves out what is empty.

use tidelake_catalog::model::{Histogram, Span};

use super::buckets::Cells;
use super::layout::{Cell, Side};

/// Removes empty buckets and joins spans that touch, so that equal histograms have equal layouts.
pub(crate) fn compact(histogram: &mut Histogram) {
    compact_side(
        &mut histogram.positive_spans,
        &mut histogram.positive_counts,
    );
    compact_side(
        &mut histogram.negative_spans,
        &mut histogram.negative_counts,
    );
}

fn compact_side(spans: &mut Vec<Span>, counts: &mut Vec<f64>) {
    if is_compact(spans) && counts.iter().all(|count| *count != 0.0) {
        return;
    }
    let populated = Cells::new(spans, counts).filter(|(_, count)| *count != 0.0);
    let side = Side::collect(populated.map(|(index, count)| (index, Cell { count, lost: 0.0 })));
    (*spans, *counts) = (side.spans, side.counts);
}

/// Whether no span is empty and no two touch.
fn is_compact(spans: &[Span]) -> bool {
    spans.iter().all(|span| span.length > 0) && spans.iter().skip(1).all(|span| span.offset > 0)
}
