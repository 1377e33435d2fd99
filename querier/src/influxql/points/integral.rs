//! `integral()`

use super::Points;
use crate::influxql::plan::Plan;
use crate::influxql::rows::Rows;
use crate::influxql::value::{Column, Value};

/// The area below the line from point to point, by trapezia, per `unit` ns. A line across the end
/// of a window counts in both parts.
pub(super) fn integral(plan: &Plan, rows: &Rows, column: &Column, unit: i64, made: &mut Points) {
    let edges = |time: i64| match plan.windows {
        None => (0, i64::MAX),
        Some(windows) => windows.of(time),
    };
    let mut previous: Option<(i64, f64)> = None;
    let mut window = (0, i64::MAX);
    let mut area = 0.0;
    for (row, &time) in rows.times.iter().enumerate() {
        let Some(value) = column.get(row).as_float() else {
            continue;
        };
        let Some((mut before, mut from)) = previous else {
            previous = Some((time, value));
            window = edges(time);
            continue;
        };
        if before == time {
            previous = Some((time, value));
            continue;
        }
        let elapsed = |from: i64, to: i64| (to - from) as f64 / unit as f64;
        if plan.windows.is_some() && time >= window.1 {
            if before != window.1 {
                let slope = (value - from) / (time - before) as f64;
                let at_end = slope * (window.1 - before) as f64 + from;
                area += 0.5 * (at_end + from) * elapsed(before, window.1);
                (before, from) = (window.1, at_end);
            }
            made.push(window.0, Value::Float(area), Vec::new());
            window = edges(time);
            area = 0.0;
        }
        area += 0.5 * (value + from) * elapsed(before, time);
        previous = Some((time, value));
    }
    if let Some((time, _)) = previous
        && time != window.0
    {
        made.push(window.0, Value::Float(area), Vec::new());
    }
}
