//! Functions of consecutive points.

mod holt_winters;

use super::plan::Transform;
use super::points::Points;
use super::value::{Value, ValueRef};

/// What is made of points one after the other; `ascending` is their order. Points without a value
/// are passed over. `every` is the distance of windows, if the points are of windows.
pub fn transform(
    transform: Transform,
    points: &Points,
    ascending: bool,
    every: Option<i64>,
) -> Points {
    let given = points.times.iter().zip(&points.values);
    let given = given.filter(|(_, value)| **value != Value::Null);
    let mut given = given.map(|(time, value)| (*time, value.as_ref()));
    let mut made = Points::default();
    match transform {
        Transform::Derivative(_)
        | Transform::NonNegativeDerivative(_)
        | Transform::Difference
        | Transform::NonNegativeDifference => {
            let mut previous: Option<(i64, ValueRef<'_>)> = None;
            for (time, value) in given {
                // Of points of one time the first counts.
                if previous.is_some_and(|(before, _)| before == time) {
                    continue;
                }
                if let Some((before, from)) = previous
                    && let Some(changed) = change(transform, from, value, before, time, ascending)
                {
                    made.push(time, changed, Vec::new());
                }
                previous = Some((time, value));
            }
        }
        Transform::Elapsed(unit) => {
            let mut before: Option<i64> = None;
            for (time, _) in given {
                if let Some(before) = before {
                    made.push(time, Value::Integer((time - before) / unit), Vec::new());
                }
                before = Some(time);
            }
        }
        Transform::CumulativeSum => {
            let mut sum = Value::Null;
            for (time, value) in given {
                sum = match (&sum, value) {
                    (Value::Integer(sum), ValueRef::Integer(value)) => {
                        Value::Integer(sum.wrapping_add(value))
                    }
                    (Value::Unsigned(sum), ValueRef::Unsigned(value)) => {
                        Value::Unsigned(sum.wrapping_add(value))
                    }
                    (Value::Null, value) => value.to_value(),
                    (sum, value) => match (sum.as_ref().as_float(), value.as_float()) {
                        (Some(sum), Some(value)) => Value::Float(sum + value),
                        _ => continue,
                    },
                };
                made.push(time, sum.clone(), Vec::new());
            }
        }
        Transform::MovingAverage(width) => {
            let mut recent: std::collections::VecDeque<f64> = std::collections::VecDeque::new();
            let mut sum = 0.0;
            for (time, value) in given {
                let Some(value) = value.as_float() else {
                    continue;
                };
                if recent.len() == width {
                    sum -= recent.pop_front().unwrap_or(0.0);
                }
                recent.push_back(value);
                sum += value;
                if recent.len() == width {
                    made.push(time, Value::Float(sum / width as f64), Vec::new());
                }
            }
        }
        Transform::HoltWinters(points, season, with_fit) => {
            let known: Vec<(i64, f64)> = given
                .by_ref()
                .filter_map(|(time, value)| Some((time, value.as_float()?)))
                .collect();
            if let Some(every) = every {
                let forecast = holt_winters::forecast(&known, points, season, with_fit, every);
                for (time, value) in forecast {
                    made.push(time, Value::Float(value), Vec::new());
                }
            }
        }
    }
    made
}

/// The change from one point to the next, if it counts.
fn change(
    transform: Transform,
    from: ValueRef<'_>,
    to: ValueRef<'_>,
    before: i64,
    time: i64,
    ascending: bool,
) -> Option<Value> {
    let per = |unit: i64, non_negative: bool| {
        let changed = to.as_float()? - from.as_float()?;
        let elapsed = if ascending {
            time - before
        } else {
            before - time
        };
        let rate = changed / (elapsed as f64 / unit as f64);
        (!non_negative || changed >= 0.0).then_some(Value::Float(rate))
    };
    let non_negative = match transform {
        Transform::Derivative(unit) => return per(unit, false),
        Transform::NonNegativeDerivative(unit) => return per(unit, true),
        Transform::NonNegativeDifference => true,
        _ => false,
    };
    match (from, to) {
        (ValueRef::Integer(from), ValueRef::Integer(to)) => {
            let changed = to.wrapping_sub(from);
            (!non_negative || changed >= 0).then_some(Value::Integer(changed))
        }
        (ValueRef::Unsigned(from), ValueRef::Unsigned(to)) => {
            (!non_negative || to >= from).then_some(Value::Unsigned(to.wrapping_sub(from)))
        }
        (from, to) => {
            let changed = to.as_float()? - from.as_float()?;
            (!non_negative || changed >= 0.0).then_some(Value::Float(changed))
        }
    }
}
