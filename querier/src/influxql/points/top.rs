//! `top()` and `bottom()`

use std::cmp::Ordering;

use hashbrown::HashMap;

use super::{Points, windows_of};
use crate::influxql::plan::Plan;
use crate::influxql::rows::Rows;
use crate::influxql::value::{Column, Value};

/// The `most` greatest or least points of each window, in the order of time. With tags, only one
/// of each set of their values counts.
pub(super) fn top(
    plan: &Plan,
    rows: &Rows,
    column: &Column,
    most: usize,
    tags: &[usize],
    is_top: bool,
    others: &dyn Fn(usize) -> Vec<Value>,
    made: &mut Points,
) {
    // Of equal values the older is better.
    let better = |a: &usize, b: &usize| -> Ordering {
        let values = column.get(*a).order(column.get(*b));
        let values = if is_top { values.reverse() } else { values };
        values.then(rows.times[*a].cmp(&rows.times[*b]))
    };
    for (_, within) in windows_of(&rows.times, plan.windows, plan.range) {
        let with_value = within.filter(|row| !column.get(*row).is_null());
        let mut candidates: Vec<usize> = if tags.is_empty() {
            with_value.collect()
        } else {
            let mut best: HashMap<Vec<&str>, usize> = HashMap::new();
            for row in with_value {
                let of = tags.iter().map(|tag| match rows.columns[*tag].get(row) {
                    crate::influxql::value::ValueRef::String(text) => text,
                    _ => "",
                });
                let known = best.entry(of.collect()).or_insert(row);
                if better(&row, known).is_lt() {
                    *known = row;
                }
            }
            best.into_values().collect()
        };
        candidates.sort_by(|a, b| better(a, b).then(a.cmp(b)));
        candidates.truncate(most);
        // Rows are in the order of time.
        candidates.sort_unstable();
        for row in candidates {
            made.push(rows.times[row], column.get(row).to_value(), others(row));
        }
    }
}
