//! The points of a group that a function makes, and functions that need all rows of a group in the
//! order of time.

mod distinct;
mod integral;
mod sample;
mod top;

use std::ops::Range;

use super::accumulate::{State, accumulate};
use super::condition::MIN_TIME;
use super::plan::{Function, Plan};
use super::rows::Rows;
use super::value::{Column, Value, ValueRef};
use super::window::Windows;

/// What a function made of a group.
#[derive(Debug, Default, Clone)]
pub struct Points {
    /// When.
    pub times: Vec<i64>,
    /// What; null is a point, too, where a window has points but no result.
    pub values: Vec<Value>,
    /// The other columns of points that were picked, one list a point; else empty.
    pub others: Vec<Vec<Value>>,
}

impl Points {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Adds one.
    pub fn push(&mut self, time: i64, value: Value, others: Vec<Value>) {
        self.times.push(time);
        self.values.push(value);
        if !others.is_empty() {
            self.others.push(others);
        }
    }

    /// Leaves `most` of those after `skip`.
    pub fn limit(&mut self, skip: usize, most: usize) {
        let (skip, end) = (
            skip.min(self.len()),
            skip.saturating_add(most).min(self.len()),
        );
        self.times.truncate(end);
        self.values.truncate(end);
        self.others.truncate(end);
        self.times.drain(..skip);
        self.values.drain(..skip);
        self.others.drain(..skip.min(self.others.len()));
    }

    /// Newest first, or back.
    pub fn reverse(&mut self) {
        self.times.reverse();
        self.values.reverse();
        self.others.reverse();
    }

    /// Reverses the points of each time.
    pub fn reverse_each(&mut self) {
        let mut start = 0;
        while start < self.len() {
            let same = |time: &&i64| **time == self.times[start];
            let end = start + self.times[start..].iter().take_while(same).count();
            self.values[start..end].reverse();
            start = end;
        }
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        let value = |value: &Value| size_of::<Value>() + value.heap_bytes();
        let values: usize = self.values.iter().map(value).sum();
        let others = self.others.iter().flatten().map(value).sum::<usize>();
        self.len() * 8 + values + others + self.others.len() * 24
    }
}

/// The time at which results stand that are of all rows.
pub fn start_of(range: (i64, i64)) -> i64 {
    match range.0 {
        MIN_TIME => 0,
        start => start,
    }
}

/// Ranges of rows by their windows, with the beginning of each; all rows are in one if there are
/// no windows.
pub fn windows_of<'a>(
    times: &'a [i64],
    windows: Option<Windows>,
    range: (i64, i64),
) -> impl Iterator<Item = (i64, Range<usize>)> + 'a {
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = *times.get(next)?;
        let start = next;
        let Some(windows) = windows else {
            next = times.len();
            return Some((start_of(range), start..next));
        };
        let (window, end) = windows.of(first);
        let is_inside = |time: &i64| (window..end).contains(time);
        next += match times[start..].last() {
            Some(last) if is_inside(last) => times.len() - start,
            // Windows are short beside the rows: doubling finds the end sooner than halving.
            _ => {
                let mut step = 1;
                while times.get(start + step).is_some_and(is_inside) {
                    step *= 2;
                }
                let (from, to) = (start + step / 2, (start + step).min(times.len()));
                to.min(from + times[from..to].partition_point(is_inside)) - start
            }
        };
        // A window that is shorter than a tick of the clock is passed all the same.
        next = next.max(start + 1);
        Some((window, start..next))
    })
}

/// What a function makes of the rows of a group. `range` is that of the rows.
pub fn points(
    plan: &Plan,
    slot: usize,
    function: &Function,
    rows: &Rows,
    range: (i64, i64),
) -> Points {
    let column = &rows.columns[slot];
    let selected: Vec<usize> = plan.selected().collect();
    let is_selector = plan.is_selector();
    let others = |row: usize| -> Vec<Value> {
        match is_selector {
            true => selected
                .iter()
                .map(|at| rows.columns[*at].get(row).to_value())
                .collect(),
            false => Vec::new(),
        }
    };
    let mut made = Points::default();
    match function {
        Function::Top(most, tags) => {
            top::top(plan, rows, column, *most, tags, true, &others, &mut made);
        }
        Function::Bottom(most, tags) => {
            top::top(plan, rows, column, *most, tags, false, &others, &mut made);
        }
        Function::Integral(unit) => integral::integral(plan, rows, column, *unit, &mut made),
        _ => {
            for (window, within) in windows_of(&rows.times, plan.windows, range) {
                window_points(
                    plan, function, rows, column, window, within, &others, &mut made,
                );
            }
        }
    }
    made
}

/// What a function makes of the rows of one window.
fn window_points(
    plan: &Plan,
    function: &Function,
    rows: &Rows,
    column: &Column,
    window: i64,
    within: Range<usize>,
    others: &dyn Fn(usize) -> Vec<Value>,
    made: &mut Points,
) {
    let picked = |row: usize, made: &mut Points| {
        let time = match plan.is_selector() && plan.windows.is_none() {
            true => rows.times[row],
            false => window,
        };
        made.push(time, column.get(row).to_value(), others(row));
    };
    let has_value = |row: &usize| !column.get(*row).is_null();
    match function {
        Function::Distinct | Function::CountDistinct => {
            let values = distinct::distinct(rows, column, within, plan.ascending);
            if *function == Function::Distinct {
                values
                    .into_iter()
                    .for_each(|value| made.push(window, value, Vec::new()));
            } else if !values.is_empty() {
                made.push(window, Value::Integer(values.len() as i64), Vec::new());
            }
        }
        Function::Sample(most) => {
            let with_value: Vec<usize> = within.filter(has_value).collect();
            for row in sample::sample(&with_value, *most, plan.seed ^ window as u64) {
                made.push(rows.times[row], column.get(row).to_value(), others(row));
            }
        }
        Function::Median => {
            let mut values: Vec<f64> = within
                .filter_map(|row| column.get(row).as_float())
                .collect();
            if values.is_empty() {
                return;
            }
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            let median = match values.len() % 2 {
                0 => values[middle - 1] + (values[middle] - values[middle - 1]) / 2.0,
                _ => values[middle],
            };
            made.push(window, Value::Float(median), Vec::new());
        }
        Function::Mode => {
            if let Some(row) = mode(rows, column, within) {
                made.push(window, column.get(row).to_value(), Vec::new());
            }
        }
        Function::Percentile(percent) => {
            let mut with_value: Vec<usize> = within.filter(has_value).collect();
            with_value.sort_by(|a, b| column.get(*a).order(column.get(*b)));
            let at = (with_value.len() as f64 * percent / 100.0 + 0.5).floor() - 1.0;
            if at >= 0.0
                && let Some(row) = with_value.get(at as usize)
            {
                picked(*row, made);
            }
        }
        _ => {
            let state = accumulate(function, column, within, &rows.times, others);
            let Some(state) = state else { return };
            push_state(plan, function, state, window, made);
        }
    }
}

/// Adds the result of a window.
pub fn push_state(plan: &Plan, function: &Function, state: State, window: i64, made: &mut Points) {
    let (value, best) = state.finish(function);
    match best {
        Some(best) => {
            let time = match plan.is_selector() && plan.windows.is_none() {
                true => best.time,
                false => window,
            };
            made.push(time, value, best.others);
        }
        None => made.push(window, value, Vec::new()),
    }
}

/// The row of the value that is there most often. Of several as frequent it is what InfluxDB's
/// search comes to, which goes through the values in their order: a later one counts if its first
/// time is not after the last of the one before.
fn mode(rows: &Rows, column: &Column, within: Range<usize>) -> Option<usize> {
    let mut with_value: Vec<usize> = within.filter(|row| !column.get(*row).is_null()).collect();
    if with_value
        .iter()
        .any(|row| matches!(column.get(*row), ValueRef::Boolean(_)))
    {
        let is_true = |row: &&usize| column.get(**row) == ValueRef::Boolean(true);
        let wanted = with_value.iter().filter(is_true).count() * 2 >= with_value.len();
        return with_value
            .into_iter()
            .find(|row| column.get(*row) == ValueRef::Boolean(wanted));
    }
    with_value.sort_by(|a, b| column.get(*a).order(column.get(*b)));
    let first = *with_value.first()?;
    let (mut best, mut best_count, mut best_time) = (first, 0, rows.times[first]);
    let (mut current, mut count) = (first, 0);
    for row in with_value {
        if column.get(row) != column.get(current) {
            (current, count) = (row, 1);
            continue;
        }
        count += 1;
        let is_later = rows.times[current] > best_time;
        if best_count > count || (best_count == count && is_later) {
            continue;
        }
        (best, best_count, best_time) = (current, count, rows.times[row]);
    }
    Some(best)
}

/// A value that can be looked up: floats by their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lookup<'a> {
    Float(u64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    String(&'a str),
}

impl<'a> Lookup<'a> {
    /// Of a value that is not null.
    pub fn of(value: ValueRef<'a>) -> Option<Self> {
        Some(match value {
            ValueRef::Null => return None,
            // 0 and -0 are equal.
            ValueRef::Float(value) => Self::Float((value + 0.0).to_bits()),
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Unsigned(value) => Self::Unsigned(value),
            ValueRef::Boolean(value) => Self::Boolean(value),
            ValueRef::String(value) => Self::String(value),
        })
    }
}
