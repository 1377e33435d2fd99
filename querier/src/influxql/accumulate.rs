//! Functions whose results of parts of the points can be put together: they are computed run by
//! run, and no point is kept.

use std::cmp::Ordering;

use arrow::array::{Array, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType as ArrowType, Float64Type, Int64Type, UInt64Type};

use super::plan::Function;
use super::value::{Column, Value, ValueRef};

/// What is known of the points of a window so far.
#[derive(Debug, Clone)]
pub enum State {
    /// How many.
    Count(u64),
    /// The sum of floats, and how many.
    Floats(f64, u64),
    /// The sum of integers, and how many.
    Integers(i64, u64),
    /// The sum of unsigned integers, and how many.
    Unsigned(u64, u64),
    /// The best so far.
    Best(Box<Best>),
    /// The least and the greatest.
    Spread(Value, Value),
    /// How many, their mean, and the sum of squared distances from it (Welford; merged as by Chan
    /// et al.).
    Variance(u64, f64, f64),
}

/// A point that was picked, with the other columns of its row.
#[derive(Debug, Clone)]
pub struct Best {
    /// Its time.
    pub time: i64,
    /// Its value.
    pub value: Value,
    /// The values of the selected slots.
    pub others: Vec<Value>,
}

/// The points of some rows of a column; `None` if there are none. `others` gives the other columns
/// of a row.
pub fn accumulate(
    function: &Function,
    column: &Column,
    rows: std::ops::Range<usize>,
    times: &[i64],
    others: &dyn Fn(usize) -> Vec<Value>,
) -> Option<State> {
    match function {
        Function::Min | Function::Max | Function::First | Function::Last => {
            let row = pick(function, column, rows, times)?;
            Some(State::Best(Box::new(Best {
                time: times[row],
                value: column.get(row).to_value(),
                others: others(row),
            })))
        }
        Function::Count => {
            let count = match column {
                Column::Absent => 0,
                Column::Text(_) => rows.len(),
                Column::Array(array) => {
                    rows.len() - array.slice(rows.start, rows.len()).null_count()
                }
                column => rows.filter(|row| !column.get(*row).is_null()).count(),
            };
            (count > 0).then_some(State::Count(count as u64))
        }
        Function::Sum | Function::Mean => sum(column, rows),
        Function::Spread => {
            let mut ends: Option<(ValueRef<'_>, ValueRef<'_>)> = None;
            for row in rows {
                let value = column.get(row);
                if value.is_null() {
                    continue;
                }
                ends = Some(match ends {
                    None => (value, value),
                    Some((least, most)) => (
                        if value.order(least).is_lt() {
                            value
                        } else {
                            least
                        },
                        if value.order(most).is_gt() {
                            value
                        } else {
                            most
                        },
                    ),
                });
            }
            ends.map(|(least, most)| State::Spread(least.to_value(), most.to_value()))
        }
        Function::Stddev => {
            let (mut count, mut mean, mut squares) = (0u64, 0.0, 0.0);
            for value in rows.filter_map(|row| column.get(row).as_float()) {
                count += 1;
                let delta = value - mean;
                mean += delta / count as f64;
                squares += delta * (value - mean);
            }
            (count > 0).then_some(State::Variance(count, mean, squares))
        }
        _ => None,
    }
}

/// The row of the point that is picked.
fn pick(
    function: &Function,
    column: &Column,
    rows: std::ops::Range<usize>,
    times: &[i64],
) -> Option<usize> {
    if let Column::Array(array) = column {
        match (function, array.data_type()) {
            (Function::Min | Function::Max, ArrowType::Float64) => {
                return extreme(
                    array.as_primitive::<Float64Type>(),
                    rows,
                    *function == Function::Max,
                );
            }
            (Function::Min | Function::Max, ArrowType::Int64) => {
                return extreme(
                    array.as_primitive::<Int64Type>(),
                    rows,
                    *function == Function::Max,
                );
            }
            _ => {}
        }
    }
    match function {
        Function::First => first_of(column, rows, times, false),
        Function::Last => first_of(column, rows, times, true),
        _ => {
            let mut best: Option<usize> = None;
            for row in rows {
                let value = column.get(row);
                if value.is_null() {
                    continue;
                }
                let is_better = best.is_none_or(|best| {
                    let order = value.order(column.get(best));
                    match function {
                        Function::Max => order.is_gt(),
                        _ => order.is_lt(),
                    }
                });
                if is_better {
                    best = Some(row);
                }
            }
            best
        }
    }
}

/// The first or last row that has a value; of several of its time that of the greatest value, but
/// of the first booleans `false`.
fn first_of(
    column: &Column,
    rows: std::ops::Range<usize>,
    times: &[i64],
    is_last: bool,
) -> Option<usize> {
    let has_value = |row: &usize| !column.get(*row).is_null();
    let found = match is_last {
        true => rows.clone().rev().find(has_value),
        false => rows.clone().find(has_value),
    }?;
    // Only rows of subqueries have a time twice.
    let mut best = found;
    let same = |row: &usize| times[*row] == times[found];
    let others: Box<dyn Iterator<Item = usize>> = match is_last {
        true => Box::new((rows.start..found).rev().take_while(same)),
        false => Box::new((found + 1..rows.end).take_while(same)),
    };
    for row in others.filter(has_value) {
        let order = column.get(row).order(column.get(best));
        let is_boolean = matches!(column.get(row), ValueRef::Boolean(_));
        if if is_boolean && !is_last {
            order.is_lt()
        } else {
            order.is_gt()
        } {
            best = row;
        }
    }
    Some(best)
}

/// The first row of the least or greatest value.
fn extreme<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    rows: std::ops::Range<usize>,
    is_max: bool,
) -> Option<usize> {
    let values = &array.values()[rows.clone()];
    let mut best: Option<(usize, T::Native)> = None;
    for (at, value) in values.iter().enumerate() {
        if array.null_count() > 0 && array.is_null(rows.start + at) {
            continue;
        }
        let is_better = match best {
            None => true,
            Some((_, best)) if is_max => value.is_gt(best),
            Some((_, best)) => value.is_lt(best),
        };
        if is_better {
            best = Some((at, *value));
        }
    }
    best.map(|(at, _)| rows.start + at)
}

fn sum(column: &Column, rows: std::ops::Range<usize>) -> Option<State> {
    if let Column::Array(array) = column {
        let part = array.slice(rows.start, rows.len());
        let count = (part.len() - part.null_count()) as u64;
        if count == 0 {
            return None;
        }
        return match part.data_type() {
            ArrowType::Float64 => {
                let part = part.as_primitive::<Float64Type>();
                let sum = match part.null_count() {
                    0 => part.values().iter().sum(),
                    _ => part.iter().flatten().sum(),
                };
                Some(State::Floats(sum, count))
            }
            ArrowType::Int64 => {
                let values = part.as_primitive::<Int64Type>().iter().flatten();
                Some(State::Integers(values.fold(0, i64::wrapping_add), count))
            }
            ArrowType::UInt64 => {
                let values = part.as_primitive::<UInt64Type>().iter().flatten();
                Some(State::Unsigned(values.fold(0, u64::wrapping_add), count))
            }
            _ => None,
        };
    }
    let mut state: Option<State> = None;
    for row in rows {
        let one = match column.get(row) {
            ValueRef::Float(value) => State::Floats(value, 1),
            ValueRef::Integer(value) => State::Integers(value, 1),
            ValueRef::Unsigned(value) => State::Unsigned(value, 1),
            _ => continue,
        };
        match &mut state {
            None => state = Some(one),
            Some(state) => state.merge(&Function::Sum, one),
        }
    }
    state
}

impl State {
    /// Puts what was found of other points of the window to it.
    pub fn merge(&mut self, function: &Function, other: Self) {
        match (self, other) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (Self::Floats(sum, count), Self::Floats(more, points)) => {
                *sum += more;
                *count += points;
            }
            (Self::Integers(sum, count), Self::Integers(more, points)) => {
                *sum = sum.wrapping_add(more);
                *count += points;
            }
            (Self::Unsigned(sum, count), Self::Unsigned(more, points)) => {
                *sum = sum.wrapping_add(more);
                *count += points;
            }
            (Self::Best(best), Self::Best(other)) => {
                if is_better(function, &other, best) {
                    *best = other;
                }
            }
            (Self::Spread(least, most), Self::Spread(lower, higher)) => {
                if lower.as_ref().order(least.as_ref()).is_lt() {
                    *least = lower;
                }
                if higher.as_ref().order(most.as_ref()).is_gt() {
                    *most = higher;
                }
            }
            (Self::Variance(count, mean, squares), Self::Variance(n, other, more)) => {
                let total = *count + n;
                let delta = other - *mean;
                *mean += delta * n as f64 / total as f64;
                *squares += more + delta * delta * (*count as f64) * (n as f64) / total as f64;
                *count = total;
            }
            // Of one function and one type all are of one kind; sums of an integer and a float
            // field of several measurements are cast before.
            (this, other) => debug_assert!(false, "{this:?} and {other:?}"),
        }
    }

    /// The result, and the time of the point if one was picked.
    pub fn finish(self, function: &Function) -> (Value, Option<Best>) {
        let is_mean = *function == Function::Mean;
        let value = match self {
            Self::Count(count) => Value::Integer(i64::try_from(count).unwrap_or(i64::MAX)),
            Self::Floats(sum, count) if is_mean => Value::Float(sum / count as f64),
            Self::Integers(sum, count) if is_mean => Value::Float(sum as f64 / count as f64),
            Self::Unsigned(sum, count) if is_mean => Value::Float(sum as f64 / count as f64),
            Self::Floats(sum, _) => Value::Float(sum),
            Self::Integers(sum, _) => Value::Integer(sum),
            Self::Unsigned(sum, _) => Value::Unsigned(sum),
            Self::Best(best) => return (best.value.clone(), Some(*best)),
            Self::Spread(least, most) => spread(&least, &most),
            // No number, which is not filled as what is not there would be.
            Self::Variance(count, ..) if count < 2 => Value::Float(f64::NAN),
            Self::Variance(count, _, squares) => {
                Value::Float((squares / (count - 1) as f64).sqrt())
            }
        };
        (value, None)
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        let more = match self {
            Self::Best(best) => {
                let others: usize = best.others.iter().map(Value::heap_bytes).sum();
                size_of::<Best>() + best.others.len() * size_of::<Value>() + others
            }
            _ => 0,
        };
        size_of::<Self>() + more
    }
}

fn spread(least: &Value, most: &Value) -> Value {
    match (least, most) {
        (Value::Integer(least), Value::Integer(most)) => Value::Integer(most.wrapping_sub(*least)),
        (Value::Unsigned(least), Value::Unsigned(most)) => {
            Value::Unsigned(most.wrapping_sub(*least))
        }
        (least, most) => match (least.as_ref().as_float(), most.as_ref().as_float()) {
            (Some(least), Some(most)) => Value::Float(most - least),
            _ => Value::Null,
        },
    }
}

/// Of equal values the older counts, and of equal times the greater value.
fn is_better(function: &Function, one: &Best, than: &Best) -> bool {
    let values = one.value.as_ref().order(than.value.as_ref());
    let times = one.time.cmp(&than.time);
    match function {
        Function::Min => values.then(times) == Ordering::Less,
        Function::Max => values.reverse().then(times) == Ordering::Less,
        Function::First if matches!(one.value, Value::Boolean(_)) => {
            times.then(values) == Ordering::Less
        }
        Function::First => times.then(values.reverse()) == Ordering::Less,
        _ => times.reverse().then(values.reverse()) == Ordering::Less,
    }
}
