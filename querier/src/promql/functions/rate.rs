//! Rates: how much a counter or gauge moved within a window.

use super::super::exec::row::Point;
use super::super::histogram::equal::equal;
use super::super::parse::ast::Reach;
use super::range::{Computed, Remarks, Window, float};
use super::{extended, histogram_rate};

/// `rate`
pub(super) fn rate(window: &Window<'_>, _: &[f64], remarks: &mut Remarks) -> Computed {
    Ok(difference(window, true, true, remarks))
}

/// `increase`
pub(super) fn increase(window: &Window<'_>, _: &[f64], remarks: &mut Remarks) -> Computed {
    Ok(difference(window, true, false, remarks))
}

/// `delta`
pub(super) fn delta(window: &Window<'_>, _: &[f64], remarks: &mut Remarks) -> Computed {
    Ok(difference(window, false, false, remarks))
}

/// Of floats or of histograms, where there are not both.
#[inline]
fn difference(
    window: &Window<'_>,
    is_counter: bool,
    per_second: bool,
    remarks: &mut Remarks,
) -> Option<Point> {
    if window.mixed(remarks) {
        return None;
    }
    let is_plain = window.reach == Reach::Plain;
    if window.has_only_histograms() {
        return match is_plain {
            true => histogram_rate::extrapolated(window, is_counter, per_second, remarks),
            false => histogram_rate::extended(window, is_counter, per_second, remarks),
        };
    }
    remarks.overlap |= is_counter && is_plain && window.has_overlap();
    let difference = match is_plain {
        true => extrapolated(window, is_counter, per_second),
        false => extended::rate(window, is_counter, per_second),
    };
    difference.map(Point::Float)
}

/// `rate`, `increase` and `delta`: the difference of the last and the first sample, corrected for
/// counter resets and extrapolated to the edges of the window.
///
/// The edge is reached only if a sample could be expected near it (within 1.1 average sample
/// intervals); otherwise the series is taken to begin or end half an interval beyond its outermost
/// sample. A counter is not extrapolated to below zero.
///
/// A counter that says when it began, within the window and before its first sample, was 0 then:
/// nothing is extrapolated to that side, and one sample is enough.
fn extrapolated(window: &Window<'_>, is_counter: bool, per_second: bool) -> Option<f64> {
    let (times, values) = (window.times(), window.values());
    let (&first_time, &last_time) = times.first().zip(times.last())?;
    let (&first, &last) = values.first().zip(values.last())?;
    let began = began(window.start_times(), window.start, first_time).filter(|_| is_counter);
    if values.len() < 2 && began.is_none() {
        return None;
    }
    let mut result = last - first;
    if is_counter {
        for index in window.resets() {
            result += window.points.values[*index as usize - 1];
        }
    }
    let origin = match began {
        Some(began) => {
            result += first;
            Origin::Known(began)
        }
        None if is_counter && result > 0.0 && first >= 0.0 => Origin::Before(first / result),
        None => Origin::Unknown,
    };
    Some(
        result
            * extrapolation(
                window,
                (first_time, last_time),
                values.len(),
                origin,
                per_second,
            ),
    )
}

/// When the first sample of a window says that its count began, if that is within the window and
/// before the sample.
pub(crate) fn began(start_times: &[i64], window_start: i64, first_time: i64) -> Option<i64> {
    start_times
        .first()
        .copied()
        .filter(|&began| began != 0 && window_start < began && began < first_time)
}

/// Where a counter was zero.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// Nobody knows, or there is no such place.
    Unknown,
    /// By its slope, this share of the sampled time before the first sample.
    Before(f64),
    /// At a time that it tells; the difference is counted from there on.
    Known(i64),
}

/// By how much a difference between samples grows on the way to the edges of the window.
pub(crate) fn extrapolation(
    window: &Window<'_>,
    (first_time, last_time): (i64, i64),
    samples: usize,
    origin: Origin,
    per_second: bool,
) -> f64 {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let mut to_start = seconds(first_time - window.start);
    let mut to_end = seconds(window.end - last_time);
    let mut sampled = seconds(last_time - first_time);
    let average = if samples > 1 {
        sampled / (samples - 1) as f64
    } else {
        0.0
    };
    let threshold = average * 1.1;
    if let Origin::Known(began) = origin {
        to_start = 0.0;
        sampled = seconds(last_time - began);
    } else if to_start >= threshold {
        to_start = average / 2.0;
    }
    if let Origin::Before(share) = origin {
        let to_zero = sampled * share;
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if per_second {
        factor /= seconds(window.range);
    }
    factor
}

/// Whether a sample that says when its count began tells of a reset after the sample before it. 0
/// says nothing, and neither does a beginning at or after the sample itself. A count that began at
/// the time of the sample before is a reset only if that one says when its own began, as series of
/// deltas do: cumulative ones of which nobody knows the beginning start at their first sample.
pub(crate) fn is_start_reset(
    previous_start: i64,
    previous_time: i64,
    start: i64,
    time: i64,
) -> bool {
    if start == 0 || start >= time || start < previous_time {
        return false;
    }
    start > previous_time || (previous_start != 0 && previous_start < previous_time)
}

/// Whether a count is said to have begun before the sample before it, and not when that one's did:
/// one of them is wrong.
pub(crate) fn is_start_overlap(previous_start: i64, previous_time: i64, start: i64) -> bool {
    start != 0 && start < previous_time && start != previous_start
}

/// `irate`
pub(super) fn irate(window: &Window<'_>, _: &[f64], remarks: &mut Remarks) -> Computed {
    Ok(instant(window, true, remarks))
}

/// `idelta`
pub(super) fn idelta(window: &Window<'_>, _: &[f64], remarks: &mut Remarks) -> Computed {
    Ok(instant(window, false, remarks))
}

/// From the last two samples only.
fn instant(window: &Window<'_>, is_rate: bool, remarks: &mut Remarks) -> Option<Point> {
    let (times, values, histograms) = (window.times(), window.values(), window.histogram_times());
    if times.len() + histograms.len() < 2 {
        return None;
    }
    // Which of the two youngest samples are floats.
    let float_at = |back: usize| times.len().checked_sub(back + 1).map(|index| times[index]);
    let histogram_at = |back: usize| {
        histograms
            .len()
            .checked_sub(back + 1)
            .map(|index| histograms[index])
    };
    let last_is_float = float_at(0) > histogram_at(0);
    let previous_is_float = if last_is_float {
        float_at(1) > histogram_at(0)
    } else {
        float_at(0) > histogram_at(1)
    };
    match (previous_is_float, last_is_float) {
        (true, true) => {
            let (&[.., previous_time, last_time], &[.., previous, last]) = (times, values) else {
                return None;
            };
            let is_reset = last < previous || window.points.starts_anew(window.high - 1);
            let result = if is_rate && is_reset {
                last
            } else {
                last - previous
            };
            Some(Point::Float(if is_rate {
                result / ((last_time - previous_time) as f64 / 1000.0)
            } else {
                result
            }))
        }
        (false, false) => {
            let (&[.., previous_time, last_time], [.., previous, last]) =
                (histograms, window.histograms())
            else {
                return None;
            };
            let is_new = window
                .points
                .histogram_starts_anew(window.histogram_high - 1);
            histogram_rate::instant(
                (previous_time, previous),
                (last_time, last),
                is_rate,
                is_new,
                remarks,
            )
        }
        _ => {
            remarks.mixed = true;
            None
        }
    }
}

/// `resets`: how often a counter began anew. A change between float and histogram counts as well.
pub(super) fn resets(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    float(merge(window).map(|merged| match merged {
        Merged::Floats(low) => {
            let resets = &window.prepared.resets;
            let from = resets.partition_point(|index| *index as usize <= low);
            let to = resets.partition_point(|index| (*index as usize) < window.high);
            (to - from) as f64
        }
        Merged::Mixed(kinds) => {
            let is_reset = |pair: &&[Kind]| match (pair[0], pair[1]) {
                (Kind::Float(previous), Kind::Float(current)) => {
                    window.points.values[current] < window.points.values[previous]
                        || window.points.starts_anew(current)
                }
                (Kind::Histogram(_), Kind::Histogram(index)) => window.is_histogram_reset(index),
                _ => true,
            };
            kinds.windows(2).filter(is_reset).count() as f64
        }
    }))
}

/// `changes`: how often the value differs from the one before; NaN does not differ from NaN.
pub(super) fn changes(window: &Window<'_>, _: &[f64], _: &mut Remarks) -> Computed {
    float(merge(window).map(|merged| match merged {
        Merged::Floats(low) => {
            let changes = &window.prepared.changes;
            f64::from(changes[window.high - 1] - changes[low])
        }
        Merged::Mixed(kinds) => {
            let differs = |pair: &&[Kind]| match (pair[0], pair[1]) {
                (Kind::Float(a), Kind::Float(b)) => {
                    differ(window.points.values[a], window.points.values[b])
                }
                (Kind::Histogram(a), Kind::Histogram(b)) => {
                    !equal(&window.points.histograms[a], &window.points.histograms[b])
                }
                _ => true,
            };
            kinds.windows(2).filter(differs).count() as f64
        }
    }))
}

/// Whether two floats count as different values.
pub(crate) fn differ(a: f64, b: f64) -> bool {
    a != b && !(a.is_nan() && b.is_nan())
}

/// A sample by its index in the series.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Float(usize),
    Histogram(usize),
}

enum Merged {
    /// Only floats, from this index of the series on.
    Floats(usize),
    /// All samples by time.
    Mixed(Vec<Kind>),
}

/// The samples by time. An anchored window begins with the youngest sample at or before its start;
/// `None` if it holds no later one.
fn merge(window: &Window<'_>) -> Option<Merged> {
    let (mut low, mut histogram_low) = (window.low, window.histogram_low);
    if window.reach == Reach::Anchored {
        let before = window.times().partition_point(|t| *t <= window.start);
        let histograms_before = window
            .histogram_times()
            .partition_point(|t| *t <= window.start);
        if before == window.times().len() && histograms_before == window.histogram_times().len() {
            return None;
        }
        let float_anchor = before.checked_sub(1).map(|index| window.times()[index]);
        let histogram_anchor = histograms_before
            .checked_sub(1)
            .map(|index| window.histogram_times()[index]);
        let anchor_is_float = float_anchor >= histogram_anchor;
        low += if anchor_is_float {
            before.saturating_sub(1)
        } else {
            before
        };
        histogram_low += if anchor_is_float {
            histograms_before
        } else {
            histograms_before.saturating_sub(1)
        };
    }
    if histogram_low == window.histogram_high && window.points.histograms.is_empty() {
        return Some(Merged::Floats(low));
    }
    let points = window.points;
    let mut kinds = Vec::with_capacity(window.high - low + window.histogram_high - histogram_low);
    let (mut float, mut histogram) = (low, histogram_low);
    while float < window.high || histogram < window.histogram_high {
        let float_first = histogram >= window.histogram_high
            || (float < window.high && points.times[float] < points.histogram_times[histogram]);
        if float_first {
            kinds.push(Kind::Float(float));
            float += 1;
        } else {
            kinds.push(Kind::Histogram(histogram));
            histogram += 1;
        }
    }
    Some(Merged::Mixed(kinds))
}
