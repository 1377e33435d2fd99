//! `distinct()`

use std::ops::Range;

use hashbrown::HashSet;

use super::Lookup;
use crate::influxql::rows::Rows;
use crate::influxql::value::{Column, Value};

/// The values of some rows, each once, in the order in which they come first, or if rows are asked
/// for backwards, last; those of one time ascend.
pub(super) fn distinct(
    rows: &Rows,
    column: &Column,
    within: Range<usize>,
    ascending: bool,
) -> Vec<Value> {
    let mut seen = HashSet::new();
    let mut kept: Vec<usize> = Vec::new();
    let mut look = |row: usize| {
        if let Some(value) = Lookup::of(column.get(row))
            && seen.insert(value)
        {
            kept.push(row);
        }
    };
    match ascending {
        true => within.for_each(&mut look),
        false => within.rev().for_each(&mut look),
    }
    kept.sort_by(|a, b| {
        let times = rows.times[*a].cmp(&rows.times[*b]);
        times.then_with(|| column.get(*a).order(column.get(*b)))
    });
    kept.into_iter()
        .map(|row| column.get(row).to_value())
        .collect()
}
