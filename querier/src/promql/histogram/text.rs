//! A histogram as text, for the label values of `count_values`.

use std::fmt::Write;

use tidelake_catalog::model::Histogram;

use super::super::exec::number::general;
use super::bounds::{is_custom, upper};
use super::buckets::Cells;

/// `{count:3, sum:4.5, [-0.5,0.5]:1, (0.5,1]:2}`: the populated buckets from the lowest to the
/// highest.
pub(crate) fn text(histogram: &Histogram) -> String {
    let mut out = format!(
        "{{count:{}, sum:{}",
        general(histogram.count),
        general(histogram.sum)
    );
    let custom = is_custom(histogram);
    let mut bucket = |lower: f64, upper: f64, ends: (bool, bool), count: f64| {
        if count != 0.0 {
            let (open, close) = (
                if ends.0 { '[' } else { '(' },
                if ends.1 { ']' } else { ')' },
            );
            // Writing to a string does not fail.
            let _ = write!(
                out,
                ", {open}{},{}{close}:{}",
                general(lower),
                general(upper),
                general(count)
            );
        }
    };
    for (index, count) in Cells::negative(histogram).rev() {
        let (low, high) = (-upper(histogram, index), -upper(histogram, index - 1));
        bucket(low, high, (low < 0.0, high > 0.0), count);
    }
    if !custom {
        bucket(
            -histogram.zero_threshold,
            histogram.zero_threshold,
            (true, true),
            histogram.zero_count,
        );
    }
    for (index, count) in Cells::positive(histogram) {
        let (low, high) = (upper(histogram, index - 1), upper(histogram, index));
        bucket(
            low,
            high,
            if custom {
                (index == 0, true)
            } else {
                (low < 0.0, high > 0.0)
            },
            count,
        );
    }
    out.push('}');
    out
}
