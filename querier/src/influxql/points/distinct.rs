//! `distinct()`

use std::ops::Range;

use hashbrown::HashSet;

use super::Lookup;
use crate::influxql::rows::Rows;
use crate::influxql::value::{Column, Value};

/// The values of some rows, each once, in the order in which they come first; those of one time
/// ascend.
pub(super) fn distinct(rows: &Rows, column: &Column, within: Range<usize>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let mut firsts: Vec<usize> = Vec::new();
    for row in within {
        if let Some(value) = Lookup::of(column.get(row))
            && seen.insert(value)
        {
            firsts.push(row);
        }
    }
    firsts.sort_by(|a, b| {
        let times = rows.times[*a].cmp(&rows.times[*b]);
        times.then_with(|| column.get(*a).order(column.get(*b)))
    });
    firsts
        .into_iter()
        .map(|row| column.get(row).to_value())
        .collect()
}
