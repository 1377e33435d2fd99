//! Order of an instant vector.

use std::cmp::Ordering;

use super::super::exec::number::ascending;
use super::super::exec::row::Row;

/// By the value at the only step; NaN comes last either way.
pub(crate) fn by_value(mut rows: Vec<Row>, descending: bool) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let (a, b) = (a.values[0], b.values[0]);
        match (a.is_nan(), b.is_nan()) {
            (false, false) if descending => ascending(b, a),
            (false, false) => ascending(a, b),
            (a, b) => a.cmp(&b),
        }
    });
    rows
}

/// By label values in natural order (`node-2` before `node-10`), then by all labels.
pub(crate) fn by_labels(mut rows: Vec<Row>, labels: &[String], descending: bool) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let by_label = labels.iter().map(|label| {
            natural(
                a.labels.get(label).unwrap_or(""),
                b.labels.get(label).unwrap_or(""),
            )
        });
        let order = by_label
            .fold(Ordering::Equal, Ordering::then)
            .then_with(|| a.labels.cmp(&b.labels));
        if descending { order.reverse() } else { order }
    });
    rows
}

/// Compares runs of digits as numbers and everything else as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let ((x, rest_a), (y, rest_b)) = (run(a), run(b));
        let numeric = x.starts_with(|c: char| c.is_ascii_digit())
            && y.starts_with(|c: char| c.is_ascii_digit());
        let order = if numeric {
            let (digits_x, digits_y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            digits_x
                .len()
                .cmp(&digits_y.len())
                .then_with(|| digits_x.cmp(digits_y))
                .then_with(|| x.len().cmp(&y.len()))
        } else {
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

/// Splits off the leading run of digits or of other characters.
fn run(text: &str) -> (&str, &str) {
    let is_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != is_digit)
        .unwrap_or(text.len());
    text.split_at(end)
}
