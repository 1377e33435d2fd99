//! Counter resets: whether a histogram can have come from the one before it by counting on.

use tidelake_catalog::model::{Histogram, ResetHint};

use super::bounds::{exponential, is_custom, shift};
use super::buckets::{Cells, reduced};
use super::custom::{any_decrease, same_bounds};
use super::layout::{Cell, Side};
use super::zero::Zero;

/// Whether something has decreased (the sum does not count: observations may be negative), or was
/// lost: a populated bucket, resolution, or a part of the zero bucket's width. What the histogram
/// itself says comes first.
pub(crate) fn detect(current: &Histogram, previous: &Histogram) -> bool {
    match current.reset_hint {
        ResetHint::Yes => return true,
        ResetHint::No => return false,
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if current.count < previous.count {
        return true;
    }
    match (is_custom(current), is_custom(previous)) {
        (true, true) if !same_bounds(&current.custom_values, &previous.custom_values) => {
            return any_decrease(current, previous);
        }
        (true, true) => return decreases(Cells::positive(current), Cells::positive(previous)),
        (false, false) => {}
        _ => return true,
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    if zero_decreases(current, previous) {
        return true;
    }
    side_decreases(
        current,
        Cells::positive(current),
        previous,
        Cells::positive(previous),
    ) || side_decreases(
        current,
        Cells::negative(current),
        previous,
        Cells::negative(previous),
    )
}

/// Whether a bucket outside the zero bucket has fewer observations than before, in the lower
/// resolution of now.
fn side_decreases(
    current: &Histogram,
    now: Cells<'_>,
    previous: &Histogram,
    before: Cells<'_>,
) -> bool {
    let (schema, threshold) = (current.schema, current.zero_threshold);
    let in_zero =
        move |cell: &(i64, f64)| threshold > 0.0 && exponential(schema, cell.0) <= threshold;
    let now = now.skip_while(in_zero);
    match shift(previous.schema, schema) {
        0 => decreases(now, before.skip_while(in_zero)),
        shift => decreases(now, reduced(before, shift).skip_while(in_zero)),
    }
}

/// Whether the zero bucket has fewer observations than it had, or ends inside a populated bucket of
/// the past.
fn zero_decreases(current: &Histogram, previous: &Histogram) -> bool {
    if current.zero_threshold == previous.zero_threshold {
        return current.zero_count < previous.zero_count;
    }
    let zero = Zero {
        cell: Cell {
            count: previous.zero_count,
            lost: 0.0,
        },
        threshold: previous.zero_threshold,
    };
    let positive = Side::new(
        previous.positive_spans.clone(),
        previous.positive_counts.clone(),
    );
    let negative = Side::new(
        previous.negative_spans.clone(),
        previous.negative_counts.clone(),
    );
    let widened = zero.widened(
        previous.schema,
        [&positive, &negative],
        current.zero_threshold,
    );
    widened.threshold != current.zero_threshold || current.zero_count < widened.cell.count
}

/// Whether any bucket has fewer observations than before.
fn decreases(
    mut current: impl Iterator<Item = (i64, f64)>,
    previous: impl Iterator<Item = (i64, f64)>,
) -> bool {
    let mut now = current.next();
    for (index, before) in previous {
        while now.is_some_and(|(at, _)| at < index) {
            now = current.next();
        }
        let decreased = match now {
            Some((at, count)) if at == index => count < before,
            _ => before != 0.0,
        };
        if decreased {
            return true;
        }
    }
    false
}
