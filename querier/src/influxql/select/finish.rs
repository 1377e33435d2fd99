//! What functions made of a group, put side by side.

use std::sync::Arc;

use super::Series;
use crate::influxql::ast::Fill;
use crate::influxql::compile::read_range;
use crate::influxql::error::InfluxqlError;
use crate::influxql::eval::{At, Node};
use crate::influxql::fill::fill;
use crate::influxql::plan::{Call, Function, Plan};
use crate::influxql::points::Points;
use crate::influxql::rows::{GroupKey, Rows};
use crate::influxql::transform::transform;
use crate::influxql::value::{Column, DataType, Value, ValueRef};
use crate::memory::QueryBytes;

/// The series of a group of which each call made points, oldest first; `None` if there are none.
pub(super) fn group(
    plan: &Plan,
    key: GroupKey,
    points: Vec<Points>,
    held: &mut QueryBytes,
) -> Result<Option<Series>, InfluxqlError> {
    let mut calls = Vec::with_capacity(points.len());
    for (call, points) in plan.calls.iter().zip(points) {
        let points = finish_call(plan, call, points)?;
        held.try_grow(points.memory_size())?;
        calls.push(points);
    }
    let mut joiner = Joiner::new(plan, &calls);
    let mut times = Vec::new();
    let mut columns: Vec<Vec<Value>> = vec![Vec::new(); plan.fields.len()];
    while let Some(time) = joiner.next() {
        times.push(time);
        for (field, column) in plan.fields.iter().zip(&mut columns) {
            let value = field.node.eval(&|at| joiner.value(at));
            column.push(finite(value).to_value());
        }
    }
    if times.is_empty() {
        return Ok(None);
    }
    let values: Vec<Column> = columns.into_iter().map(Column::Values).collect();
    let series = series(plan, key, times, values);
    held.try_grow(series.memory_size())?;
    Ok(Some(series))
}

/// Fills, transforms and limits what a call made.
fn finish_call(plan: &Plan, call: &Call, mut points: Points) -> Result<Points, InfluxqlError> {
    if !plan.ascending {
        points.reverse();
        if call.function == Some(Function::Distinct) {
            // The values of a window stay in their order.
            points.reverse_each();
        }
    }
    if let Some(function) = &call.function
        && function.is_filled()
        && plan.fill != Fill::None
    {
        let range = match call.transform {
            Some(transform) => extended(plan, transform.extra_windows()),
            None => plan.range,
        };
        let is_count = matches!(function, Function::Count | Function::CountDistinct);
        // Nothing counts as 0.
        let with = match plan.fill {
            Fill::Null if is_count => Fill::Integer(0),
            with => with,
        };
        let kind = match (call.transform, is_count) {
            (_, true) => Some(DataType::Integer),
            (Some(_), _) => points.values.iter().find_map(|value| match value {
                Value::Float(_) => Some(DataType::Float),
                Value::Integer(_) => Some(DataType::Integer),
                Value::Unsigned(_) => Some(DataType::Unsigned),
                _ => None,
            }),
            (None, _) => call.kind,
        };
        points = fill(plan, points, range, with, kind)?;
    }
    if let Some(of) = call.transform {
        let every = plan.windows.map(|windows| windows.every);
        points = transform(of, &points, plan.ascending, every);
    }
    if plan.limit > 0 || plan.offset > 0 {
        let most = if plan.limit == 0 {
            usize::MAX
        } else {
            plan.limit
        };
        points.limit(plan.offset, most);
    }
    Ok(points)
}

/// The range of a query with so many windows before.
fn extended(plan: &Plan, windows: i64) -> (i64, i64) {
    let mut range = plan.range;
    let full = read_range(plan);
    let every = plan.windows.map_or(0, |windows| windows.every);
    let by = every.saturating_mul(windows);
    match plan.ascending {
        true => range.0 = range.0.saturating_sub(by).max(full.0),
        false => range.1 = range.1.saturating_add(by).min(full.1),
    }
    range
}

/// Walks over the times of several calls.
struct Joiner<'a> {
    plan: &'a Plan,
    calls: &'a [Points],
    next: Vec<usize>,
    /// What stands where a call has nothing; `None` is what it had before.
    default: Option<Value>,
    current: Vec<Value>,
    /// The other columns of a point that was picked, by slot.
    others: Vec<Value>,
}

impl<'a> Joiner<'a> {
    fn new(plan: &'a Plan, calls: &'a [Points]) -> Self {
        let default = match plan.fill {
            Fill::Previous => None,
            Fill::Integer(number) => Some(Value::Integer(number)),
            Fill::Number(number) => Some(Value::Float(number)),
            Fill::Null | Fill::None | Fill::Linear => Some(Value::Null),
        };
        Self {
            plan,
            calls,
            next: vec![0; calls.len()],
            default,
            current: vec![Value::Null; calls.len()],
            others: vec![Value::Null; plan.slots.len()],
        }
    }

    fn next(&mut self) -> Option<i64> {
        let heads = self.calls.iter().zip(&self.next);
        let heads = heads.filter_map(|(points, next)| points.times.get(*next).copied());
        let time = match self.plan.ascending {
            true => heads.min(),
            false => heads.max(),
        }?;
        for (at, points) in self.calls.iter().enumerate() {
            let next = self.next[at];
            let is_here = points.times.get(next) == Some(&time);
            let found = match is_here {
                true => points.values[next].as_ref(),
                false => ValueRef::Null,
            };
            let kind = self.plan.calls[at].kind;
            if kind.is_none() {
                // No source has what it is called with.
                continue;
            }
            set(&mut self.current[at], found, self.default.as_ref(), kind);
            if !is_here {
                continue;
            }
            self.next[at] += 1;
            if let Some(others) = points.others.get(next) {
                for (slot, value) in self.plan.selected().zip(others) {
                    let kind = self.plan.slots[slot].kind;
                    set(
                        &mut self.others[slot],
                        value.as_ref(),
                        self.default.as_ref(),
                        kind,
                    );
                }
            }
        }
        Some(time)
    }

    fn value(&self, at: At) -> ValueRef<'_> {
        match at {
            At::Slot(at) => self.others[at].as_ref(),
            At::Call(at) => self.current[at].as_ref(),
        }
    }
}

fn set(to: &mut Value, found: ValueRef<'_>, default: Option<&Value>, kind: Option<DataType>) {
    if !found.is_null() {
        *to = found.to_value();
    } else if let Some(default) = default {
        *to = as_kind(default, kind);
    }
}

/// A number as the type of a column, if it can be one.
fn as_kind(value: &Value, kind: Option<DataType>) -> Value {
    let cast = kind.map_or(ValueRef::Null, |kind| value.as_ref().cast(kind));
    match cast {
        ValueRef::Null => value.clone(),
        cast => cast.to_value(),
    }
}

/// The series of the rows of a group as they are; `None` if there are none.
pub(super) fn raw(plan: &Plan, key: GroupKey, rows: Rows) -> Option<Series> {
    if rows.times.is_empty() {
        return None;
    }
    let len = rows.times.len();
    let mut columns = rows.columns;
    let default = match plan.fill {
        Fill::Previous => Some(None),
        Fill::Integer(number) => Some(Some(Value::Integer(number))),
        Fill::Number(number) => Some(Some(Value::Float(number))),
        Fill::Null | Fill::None | Fill::Linear => None,
    };
    if let Some(default) = default {
        for slot in plan.selected() {
            let mut current = Value::Null;
            let values = (0..len).map(|row| {
                let kind = plan.slots[slot].kind;
                set(&mut current, columns[slot].get(row), default.as_ref(), kind);
                current.clone()
            });
            columns[slot] = Column::Values(values.collect());
        }
    }
    let values = plan.fields.iter().map(|field| match &field.node {
        Node::Value(At::Slot(at)) => columns[*at].clone(),
        node => {
            let value = |row: usize| {
                let of_row = |at: At| match at {
                    At::Slot(at) => columns[at].get(row),
                    At::Call(_) => ValueRef::Null,
                };
                finite(node.eval(&of_row)).to_value()
            };
            Column::Values((0..len).map(value).collect())
        }
    });
    let values = values.collect();
    Some(series(plan, key, rows.times, values))
}

/// What is no number is no value.
fn finite(value: ValueRef<'_>) -> ValueRef<'_> {
    match value {
        ValueRef::Float(number) if number.is_nan() => ValueRef::Null,
        value => value,
    }
}

fn series(plan: &Plan, key: GroupKey, times: Vec<i64>, values: Vec<Column>) -> Series {
    let names = std::iter::once(plan.time_column.clone());
    let columns = names.chain(plan.fields.iter().map(|field| field.column.clone()));
    Series {
        name: Some(key.name),
        tags: plan
            .dimensions
            .iter()
            .cloned()
            .zip(key.tags.iter().map(Arc::clone))
            .collect(),
        columns: columns.collect(),
        len: times.len(),
        zone: plan.zone,
        times: Some(times),
        values,
    }
}
