//! Zero buckets of different widths.
//!
//! The wider one counts, widened further until it cuts no populated bucket of either histogram; the
//! buckets that it swallows are added to it. Only exponential histograms have zero buckets.

use super::bounds::exponential;
use super::layout::{Cell, Side};

/// A zero bucket: how many observations, up to which distance from zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Zero {
    pub cell: Cell,
    pub threshold: f64,
}

impl Zero {
    /// What the zero bucket would be if it were at least as wide as `threshold`, given the buckets
    /// beside it. It ends beyond a populated bucket, never inside.
    pub fn widened(self, schema: i32, sides: [&Side; 2], mut threshold: f64) -> Self {
        'wider: loop {
            let mut cell = self.cell;
            for side in sides {
                for (index, bucket) in side.cells() {
                    if exponential(schema, index - 1) >= threshold {
                        break;
                    }
                    cell.add(bucket);
                    let end = exponential(schema, index);
                    if end > threshold {
                        if bucket.count != 0.0 {
                            // The bounds of the other side were compared with too small a
                            // threshold.
                            threshold = end;
                            continue 'wider;
                        }
                        break;
                    }
                }
            }
            return Self { cell, threshold };
        }
    }
}

/// Removes the buckets that a zero bucket swallowed.
pub(crate) fn trim(side: &mut Side, schema: i32, threshold: f64) {
    let outside = side
        .cells()
        .skip_while(|(index, _)| exponential(schema, index - 1) < threshold);
    *side = Side::collect(outside.filter(|(_, cell)| cell.count != 0.0 || cell.lost != 0.0));
}
