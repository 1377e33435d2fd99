//! `anchored` and `smoothed` windows: they know the samples around the window, so nothing is
//! extrapolated.

use super::super::exec::selector::Points;
use super::super::parse::ast::Reach;
use super::range::Window;
use arrow::buffer::ScalarBuffer;

/// `rate`, `increase` and `delta` over a window whose values at both edges are known or
/// interpolated.
pub(crate) fn rate(window: &Window<'_>, is_counter: bool, per_second: bool) -> Option<f64> {
    let (times, values) = (window.times(), window.values());
    let smoothed = window.reach == Reach::Smoothed;
    let edges = Edges::find(
        times,
        values,
        window.start,
        window.end,
        smoothed,
        is_counter,
    )?;
    let mut result = edges.right - edges.left;
    if is_counter {
        let mut previous = edges.left;
        for value in values
            .get(edges.first..edges.end)
            .unwrap_or(&[])
            .iter()
            .chain([&edges.right])
        {
            if *value < previous {
                result += previous;
            }
            previous = *value;
        }
    }
    if per_second {
        result /= window.range as f64 / 1000.0;
    }
    Some(result)
}

/// Replaces samples beyond `(start, end]` by values at both edges.
pub(crate) fn extend(points: &mut Points, start: i64, end: i64, smoothed: bool) {
    let Some(edges) = Edges::find(&points.times, &points.values, start, end, smoothed, false)
    else {
        points.times = ScalarBuffer::default();
        points.values = ScalarBuffer::default();
        return;
    };
    let inside = edges.first..edges.end.max(edges.first);
    let times = [
        &[start],
        points.times.get(inside.clone()).unwrap_or(&[]),
        &[end],
    ]
    .concat();
    let values = [
        &[edges.left],
        points.values.get(inside).unwrap_or(&[]),
        &[edges.right],
    ]
    .concat();
    (points.times, points.values) = (times.into(), values.into());
}

/// Values at the edges of a window, and the samples strictly between them.
struct Edges {
    left: f64,
    right: f64,
    first: usize,
    end: usize,
}

impl Edges {
    fn find(
        times: &[i64],
        values: &[f64],
        start: i64,
        end: i64,
        smoothed: bool,
        is_counter: bool,
    ) -> Option<Self> {
        let last_index = times.len().checked_sub(1)?;
        let mut last = last_index;
        let mut first = times[..last_index]
            .partition_point(|t| *t <= start)
            .saturating_sub(1);
        if smoothed {
            last = times[..last_index].partition_point(|t| *t < end);
        }
        if times[last] <= start || (smoothed && times[first] > end) {
            return None;
        }
        let between = |a: usize, b: usize, time: i64| {
            let base = if is_counter && values[b] < values[a] {
                0.0
            } else {
                values[a]
            };
            base + (values[b] - base) * (time - times[a]) as f64 / (times[b] - times[a]) as f64
        };
        let left = if smoothed && times[first] < start {
            between(first, first + 1, start)
        } else {
            values[first]
        };
        let right = if smoothed && last > 0 && times[last] > end {
            between(last - 1, last, end)
        } else {
            values[last]
        };
        if times[first] <= start {
            first += 1;
        }
        let end = if times[last] >= end { last } else { last + 1 };
        Some(Self {
            left,
            right,
            first,
            end,
        })
    }
}
