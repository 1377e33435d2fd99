//! Windows without points.

use super::ast::Fill;
use super::condition::MIN_TIME;
use super::error::InfluxqlError;
use super::plan::Plan;
use super::points::Points;
use super::value::{DataType, Value, ValueRef};

/// Most rows of one series.
const MAX_ROWS: usize = 50_000_000;

/// Puts a point into each window of the range that has none. `kind` is the type of the values.
///
/// # Errors
/// If the range has more windows than can be answered.
pub fn fill(
    plan: &Plan,
    points: Points,
    range: (i64, i64),
    fill: Fill,
    kind: Option<DataType>,
) -> Result<Points, InfluxqlError> {
    let (Some(windows), Some(&first)) = (plan.windows, points.times.first()) else {
        return Ok(points);
    };
    let (from, to) = match plan.ascending {
        true => range,
        false => (range.1, range.0),
    };
    let mut start = windows.of(from).0;
    let end = windows.of(to).0;
    if start == MIN_TIME {
        start = first;
    }
    let width = (i128::from(end) - i128::from(start)).unsigned_abs() / windows.every as u128;
    if width > MAX_ROWS as u128 {
        return Err(InfluxqlError::Invalid(format!(
            "the time range has {width} windows, and an answer at most {MAX_ROWS} rows a series: \
             bound the time, use longer windows, or fill(none)"
        )));
    }
    let others = points.others.first().map_or(0, Vec::len);
    let mut filled = Points::default();
    let mut given = points.times.into_iter().zip(points.values).zip(
        points
            .others
            .into_iter()
            .map(Some)
            .chain(std::iter::repeat(None)),
    );
    let mut next = given.next();
    let mut previous: Option<(i64, Value)> = None;
    for window in windows.from(start, plan.ascending) {
        let is_past = |time: i64| {
            if plan.ascending {
                time > end
            } else {
                time < end
            }
        };
        // Windows that move with the clocks may not meet those of points.
        while let Some(((time, _), _)) = &next {
            let is_due = if plan.ascending {
                *time <= window
            } else {
                *time >= window
            };
            if !is_due {
                break;
            }
            let Some(((time, value), picked)) = next.take() else {
                break;
            };
            if value != Value::Null {
                previous = Some((time, value.clone()));
            }
            filled.push(time, value, picked.unwrap_or_default());
            next = given.next();
        }
        if next.is_none() && is_past(window) {
            break;
        }
        if filled.times.last() == Some(&window) {
            continue;
        }
        if is_past(window) {
            continue;
        }
        let value = match fill {
            Fill::Null | Fill::None => Value::Null,
            Fill::Previous => previous
                .as_ref()
                .map_or(Value::Null, |(_, value)| value.clone()),
            Fill::Integer(number) => number_as(ValueRef::Integer(number), kind),
            Fill::Number(number) => number_as(ValueRef::Float(number), kind),
            Fill::Linear => match (&previous, &next) {
                (Some((before, from)), Some(((after, to), _))) => {
                    linear(window, *before, *after, from, to, windows.every)
                }
                _ => Value::Null,
            },
        };
        filled.push(window, value, vec![Value::Null; others]);
    }
    Ok(filled)
}

/// A number where no point is; a text or boolean gets its zero.
fn number_as(number: ValueRef<'_>, kind: Option<DataType>) -> Value {
    match kind {
        Some(DataType::String | DataType::Tag) => Value::String("".into()),
        Some(DataType::Boolean) => Value::Boolean(false),
        Some(kind) => number.cast(kind).to_value(),
        None => number.to_value(),
    }
}

fn linear(window: i64, before: i64, after: i64, from: &Value, to: &Value, every: i64) -> Value {
    let (Some(low), Some(high)) = (from.as_ref().as_float(), to.as_ref().as_float()) else {
        return Value::Null;
    };
    let [window, before, after] = [window, before, after].map(|time| (time / every) as f64);
    let slope = (high - low) / (after - before);
    let value = slope * (window - before) + low;
    match from {
        Value::Integer(_) => Value::Integer(value as i64),
        Value::Unsigned(_) => Value::Unsigned(value as u64),
        _ => Value::Float(value),
    }
}
