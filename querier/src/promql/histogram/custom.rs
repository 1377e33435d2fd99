//! Custom buckets whose bounds differ: what both can be compared by are the bounds that both have.

use tidelake_catalog::model::Histogram;

use super::buckets::Cells;
use super::layout::{Cell, Side};

/// Whether two lists of bounds are the same.
pub(crate) fn same_bounds(a: &[f64], b: &[f64]) -> bool {
    a == b
}

/// The bounds that both lists have.
pub(crate) fn intersection(a: &[f64], b: &[f64]) -> Vec<f64> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut common = Vec::new();
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        if x == y {
            common.push(**x);
        }
        let (step_a, step_b) = (x <= y, y <= x);
        if !step_a && !step_b {
            break;
        }
        if step_a {
            a.next();
        }
        if step_b {
            b.next();
        }
    }
    common
}

/// Adds cells to the buckets between the common bounds, of which there is one more than bounds.
pub(crate) fn regroup(
    cells: impl Iterator<Item = (i64, Cell)>,
    bounds: &[f64],
    common: &[f64],
    into: &mut [Cell],
) {
    let mut target = 0;
    for (index, cell) in cells {
        let bound = usize::try_from(index)
            .ok()
            .and_then(|index| bounds.get(index));
        match bound {
            Some(bound) => {
                while common.get(target).is_some_and(|end| end < bound) {
                    target += 1;
                }
            }
            // Beyond all bounds.
            None => target = common.len(),
        }
        if let Some(total) = into.get_mut(target) {
            total.add(cell);
        }
    }
}

/// The populated ones of the buckets between the common bounds.
pub(crate) fn populated(cells: Vec<Cell>) -> Side {
    let numbered = cells
        .into_iter()
        .enumerate()
        .map(|(index, cell)| (index as i64, cell));
    Side::collect(numbered.filter(|(_, cell)| cell.count != 0.0 || cell.lost != 0.0))
}

/// Whether any bucket between the common bounds has fewer observations than before.
pub(crate) fn any_decrease(current: &Histogram, previous: &Histogram) -> bool {
    let common = intersection(&current.custom_values, &previous.custom_values);
    let grouped = |histogram: &Histogram| {
        let mut totals = vec![Cell::default(); common.len() + 1];
        let cells =
            Cells::positive(histogram).map(|(index, count)| (index, Cell { count, lost: 0.0 }));
        regroup(cells, &histogram.custom_values, &common, &mut totals);
        totals
    };
    grouped(current)
        .iter()
        .zip(grouped(previous))
        .any(|(current, previous)| current.count < previous.count)
}
