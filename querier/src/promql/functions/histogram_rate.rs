//! Rates of native histograms: what `rate`, `anchored` windows and `smoothed` ones do for floats,
//! bucket by bucket.

use std::sync::Arc;

use tidelake_catalog::model::{Histogram, ResetHint};

use super::super::exec::annotations::Operation;
use super::super::exec::row::Point;
use super::super::histogram::arithmetic::{add, divide, in_schema, multiply, subtract};
use super::super::histogram::bounds::is_custom;
use super::super::histogram::compact::compact;
use super::super::histogram::interpolate::interpolate;
use super::super::histogram::{Incompatible, reset};
use super::super::parse::ast::Reach;
use super::range::{Remarks, Window};
use super::rate::{self, Origin};

/// `rate`, `increase` and `delta`, extrapolated like those of floats; a counter begins where its
/// count was zero.
pub(crate) fn extrapolated(
    window: &Window<'_>,
    is_counter: bool,
    per_second: bool,
    remarks: &mut Remarks,
) -> Option<Point> {
    let (times, histograms) = (window.histogram_times(), window.histograms());
    let (&first_time, &last_time) = times.first().zip(times.last())?;
    let first = histograms.first()?;
    let began = rate::began(window.histogram_start_times(), window.start, first_time)
        .filter(|_| is_counter);
    let mut result = match (histograms.len(), began) {
        (1, None) => return None,
        (1, Some(_)) => Histogram::clone(first),
        (_, began) => {
            let difference = difference(window, is_counter, remarks)?;
            if began.is_some() {
                combined(add(&difference, first), Operation::Addition, remarks)?
            } else {
                difference
            }
        }
    };
    let origin = match began {
        Some(began) => Origin::Known(began),
        None if is_counter && result.count > 0.0 && first.count >= 0.0 => {
            Origin::Before(first.count / result.count)
        }
        None => Origin::Unknown,
    };
    let factor = rate::extrapolation(
        window,
        (first_time, last_time),
        times.len(),
        origin,
        per_second,
    );
    multiply(&mut result, factor);
    Some(Point::Histogram(Arc::new(result)))
}

/// What was counted between the first and the last histogram of a window.
fn difference(window: &Window<'_>, is_counter: bool, remarks: &mut Remarks) -> Option<Histogram> {
    let histograms = window.histograms();
    let [first, middle @ .., last] = histograms else {
        return None;
    };
    let is_reset = |index: usize| window.is_histogram_reset(window.histogram_low + index);
    // Before a reset right after it the first histogram does not matter, not even its layout.
    let begun;
    let mut base: &Histogram = first;
    if is_counter && is_reset(1) {
        let second = histograms.get(1)?;
        begun = Histogram {
            schema: second.schema,
            custom_values: second.custom_values.clone(),
            ..Histogram::default()
        };
        base = &begun;
    }
    let custom = is_custom(base);
    let is_gauge = |histogram: &Arc<Histogram>| histogram.reset_hint == ResetHint::Gauge;
    if is_custom(last) != custom {
        remarks.not_counter |= is_counter && (is_gauge(first) || is_gauge(last));
        remarks.mixed_layouts = true;
        return None;
    }
    if is_counter
        && middle
            .iter()
            .any(|histogram| is_custom(histogram) != custom)
    {
        remarks.mixed_layouts = true;
        return None;
    }
    if is_counter {
        remarks.not_counter |= histograms.iter().any(is_gauge);
        let starts = window
            .histogram_start_times()
            .windows(2)
            .zip(window.histogram_times());
        remarks.overlap |= starts
            .into_iter()
            .any(|(starts, time)| rate::is_start_overlap(starts[0], *time, starts[1]));
    } else {
        remarks.not_gauge |= !is_gauge(first) || !is_gauge(last);
    }
    let schemas = middle
        .iter()
        .filter(|_| is_counter)
        .map(|histogram| histogram.schema);
    let schema = schemas.fold(last.schema.min(base.schema), i32::min);
    let mut result = in_schema(last, schema);
    result = combined(subtract(&result, base), Operation::Subtraction, remarks)?;
    if is_counter {
        for index in (2..histograms.len()).filter(|index| is_reset(*index)) {
            result = combined(
                add(&result, &histograms[index - 1]),
                Operation::Addition,
                remarks,
            )?;
        }
    }
    result.reset_hint = ResetHint::Gauge;
    compact(&mut result);
    Some(result)
}

/// A sum or a difference, with a remark if it was not straightforward.
fn combined(
    result: Result<(Histogram, super::super::histogram::Merged), Incompatible>,
    operation: Operation,
    remarks: &mut Remarks,
) -> Option<Histogram> {
    match result {
        Err(Incompatible) => {
            remarks.mixed_layouts = true;
            None
        }
        Ok((histogram, merged)) => {
            if merged.reconciled {
                remarks.reconciled(operation);
            }
            Some(histogram)
        }
    }
}

/// `irate` and `idelta` of two samples, of which the last may say that it `starts_anew`.
pub(crate) fn instant(
    previous: (i64, &Histogram),
    last: (i64, &Histogram),
    is_rate: bool,
    starts_anew: bool,
    remarks: &mut Remarks,
) -> Option<Point> {
    let gauges = [previous.1, last.1].map(|histogram| histogram.reset_hint == ResetHint::Gauge);
    if is_rate {
        remarks.not_counter |= gauges.contains(&true);
    } else {
        remarks.not_gauge |= gauges.contains(&false);
    }
    let mut result = if is_rate && (starts_anew || reset::detect(last.1, previous.1)) {
        last.1.clone()
    } else {
        combined(
            subtract(last.1, previous.1),
            Operation::Subtraction,
            remarks,
        )?
    };
    result.reset_hint = ResetHint::Gauge;
    compact(&mut result);
    if is_rate {
        divide(&mut result, (last.0 - previous.0) as f64 / 1000.0);
    }
    Some(Point::Histogram(Arc::new(result)))
}

/// `rate`, `increase` and `delta` over a window whose values at both edges are known or
/// interpolated.
pub(crate) fn extended(
    window: &Window<'_>,
    is_counter: bool,
    per_second: bool,
    remarks: &mut Remarks,
) -> Option<Point> {
    let (times, histograms) = (window.histogram_times(), window.histograms());
    let smoothed = window.reach == Reach::Smoothed;
    let newest = times.len().checked_sub(1)?;
    let first = times[..newest]
        .partition_point(|t| *t <= window.start)
        .saturating_sub(1);
    let last = if smoothed {
        times[..newest].partition_point(|t| *t < window.end)
    } else {
        newest
    };
    if times[last] <= window.start || (smoothed && times[first] > window.end) {
        return None;
    }
    let used = &histograms[first.min(last)..=last];
    for histogram in used {
        if is_custom(histogram) != is_custom(&used[0]) {
            remarks.mixed_layouts = true;
            return None;
        }
        remarks.not_counter |= is_counter && histogram.reset_hint == ResetHint::Gauge;
    }
    let between = |before: usize, time: i64, remarks: &mut Remarks| {
        let sample = |index: usize| (times[index], &*histograms[index]);
        edge(
            sample(before),
            sample(before + 1),
            time,
            is_counter,
            remarks,
        )
    };
    let from_inside = smoothed && times[first] < window.start;
    let left = if from_inside {
        between(first, window.start, remarks)?
    } else {
        Histogram::clone(&histograms[first])
    };
    let to_inside = smoothed && last > 0 && times[last] > window.end;
    let right = if to_inside {
        between(last - 1, window.end, remarks)?
    } else {
        Histogram::clone(&histograms[last])
    };
    if !is_counter {
        remarks.not_gauge |=
            left.reset_hint != ResetHint::Gauge || right.reset_hint != ResetHint::Gauge;
    }
    let mut result = combined(subtract(&right, &left), Operation::Subtraction, remarks)?;
    if is_counter {
        for index in (first + 1)..=last {
            if !window
                .prepared
                .histogram_decreased(window.histogram_low + index)
            {
                continue;
            }
            // The left edge lies beyond a reset that it was interpolated across.
            if index == first + 1 && from_inside {
                continue;
            }
            let before = if index == first + 1 {
                &left
            } else {
                &*histograms[index - 1]
            };
            result = combined(add(&result, before), Operation::Addition, remarks)?;
        }
    }
    if per_second {
        divide(&mut result, window.range as f64 / 1000.0);
    }
    result.reset_hint = ResetHint::Gauge;
    compact(&mut result);
    Some(Point::Histogram(Arc::new(result)))
}

/// The histogram at the edge of a window.
fn edge(
    before: (i64, &Histogram),
    after: (i64, &Histogram),
    time: i64,
    is_counter: bool,
    remarks: &mut Remarks,
) -> Option<Histogram> {
    match interpolate(before, after, time, is_counter) {
        Err(Incompatible) => {
            remarks.mixed_layouts = true;
            None
        }
        Ok((histogram, reconciled)) => {
            if reconciled.subtraction {
                remarks.reconciled(Operation::Subtraction);
            }
            if reconciled.addition {
                remarks.reconciled(Operation::Addition);
            }
            Some(histogram)
        }
    }
}
