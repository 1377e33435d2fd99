//! Quantiles and fractions of histograms: native ones, and classic ones, which are sets of series
//! that differ in `le` only. Where a native and a classic histogram have the same labels there is
//! no telling which is meant.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidelake_catalog::model::{Histogram, Labels, LabelsBuilder};

use super::super::exec::QueryError;
use super::super::exec::annotations::{Collector, Monotonicity};
use super::super::exec::finish::merge_rows;
use super::super::exec::grid::Grid;
use super::super::exec::limits::Charge;
use super::super::exec::number::plain;
use super::super::exec::row::{Row, Rows, is_absent, labels_bytes, labels_in_work_bytes};
use super::super::exec::scalar::Scalar;
use super::super::exec::work::Work;
use super::super::histogram::fraction::fraction as native_fraction;
use super::super::histogram::quantile::{NanEffect, quantile as native_quantile};
use super::super::parse::ast::Span;

pub(crate) const BUCKET_LABEL: &str = "le";

/// Differences of counts up to this share are taken for rounding, not for a decrease.
const SMALL_DELTA: f64 = 1e-12;

/// Where arguments stand.
#[derive(Debug)]
pub(crate) struct Spans {
    pub histograms: Span,
    pub quantiles: Vec<Span>,
}

/// The series of one classic histogram, by upper bound.
struct Group<'a> {
    labels: Labels,
    buckets: Vec<(f64, &'a Row)>,
}

/// The histograms among the rows.
struct Found<'a> {
    classic: Vec<Group<'a>>,
    native: Vec<&'a Row>,
    /// For each classic histogram the native one of the same labels.
    native_of: Vec<Option<&'a Row>>,
    /// For each native histogram the position of the classic one of the same labels.
    classic_of: Vec<Option<usize>>,
}

impl Found<'_> {
    /// Remarks on native and classic histograms of the same labels that are there at the same time.
    fn report_conflicts(&self, work: &Work, span: Span) {
        for (native, group) in self
            .native
            .iter()
            .zip(&self.classic_of)
            .filter_map(|(row, group)| Some((row, self.classic.get((*group)?)?)))
        {
            if (0..native.values.len())
                .any(|step| native.histogram(step).is_some() && group.has(step))
            {
                work.annotate(|all| all.mixed_classic_native(native.labels.metric_name(), span));
            }
        }
    }

    /// The native histogram of a position, unless there is a classic one at that step.
    fn native_at(&self, position: usize, step: usize) -> Option<&Histogram> {
        let histogram = self.native[position].histogram(step)?;
        let classic = self.classic_of[position].and_then(|group| self.classic.get(group));
        (!classic.is_some_and(|group| group.has(step))).then_some(histogram)
    }

    /// Fills in the buckets of a classic histogram; there are none if there is a native one at that
    /// step.
    fn classic_at(&self, position: usize, step: usize, buckets: &mut Vec<Bucket>) {
        buckets.clear();
        if self.native_of[position].is_none_or(|row| row.histogram(step).is_none()) {
            self.classic[position].at(step, buckets);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    upper: f64,
    count: f64,
}

/// Bytes of a row in the list of its group, which doubles when it is full.
const FOUND_BYTES: usize = 32;

/// Bytes of a classic histogram in its list and in the table of labels.
const GROUP_BYTES: usize = 192;

/// Finds native histograms, and groups the series of classic ones.
fn find<'a>(
    work: &Work,
    rows: &'a Rows,
    span: Span,
    charge: &mut Charge,
) -> Result<Found<'a>, QueryError> {
    let mut positions: HashMap<Labels, usize> = HashMap::new();
    let mut classic: Vec<Group<'a>> = Vec::new();
    let mut native = Vec::new();
    for row in &rows.list {
        charge.reserve(labels_in_work_bytes(row.labels.as_str().len()))?;
        charge.take(FOUND_BYTES)?;
        if row.has_histograms() {
            native.push(row);
            if row.values.iter().all(|value| is_absent(*value)) {
                continue;
            }
        }
        let bound = row.labels.get(BUCKET_LABEL).unwrap_or("");
        let Ok(upper) = bound.parse::<f64>() else {
            work.annotate(|all| all.bad_bucket_label(row.labels.metric_name(), bound, span));
            continue;
        };
        let labels = row.labels.retain(|name| name != BUCKET_LABEL);
        let position = match positions.entry(labels) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                charge.take(GROUP_BYTES + labels_bytes(new.key()))?;
                classic.push(Group {
                    labels: new.key().clone(),
                    buckets: Vec::new(),
                });
                *new.insert(classic.len() - 1)
            }
        };
        classic[position].buckets.push((upper, row));
    }
    for group in &mut classic {
        group.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let classic_of: Vec<Option<usize>> = native
        .iter()
        .map(|row| positions.get(&row.labels).copied())
        .collect();
    let mut native_of = vec![None; classic.len()];
    for (row, group) in native.iter().zip(&classic_of) {
        if let Some(group) = *group {
            native_of[group] = Some(*row);
        }
    }
    let found = Found {
        classic,
        native,
        native_of,
        classic_of,
    };
    found.report_conflicts(work, span);
    Ok(found)
}

impl Group<'_> {
    /// Whether any bucket is there at a step.
    fn has(&self, step: usize) -> bool {
        self.buckets
            .iter()
            .any(|(_, row)| !is_absent(row.values[step]))
    }

    /// Appends the buckets that are there at a step; those with equal bounds added up.
    fn at(&self, step: usize, buckets: &mut Vec<Bucket>) {
        for (upper, row) in &self.buckets {
            let count = row.values[step];
            if is_absent(count) {
                continue;
            }
            match buckets.last_mut() {
                Some(last) if last.upper == *upper => last.count += count,
                _ => buckets.push(Bucket {
                    upper: *upper,
                    count,
                }),
            }
        }
    }
}

/// `histogram_quantile`, and `histogram_quantiles` if there is a label for the quantile.
pub(crate) fn quantile(
    work: &Work,
    rows: Rows,
    quantiles: Vec<Scalar>,
    label: Option<&str>,
    grid: Grid,
    spans: &Spans,
) -> Result<Rows, QueryError> {
    for (values, span) in quantiles.iter().zip(&spans.quantiles) {
        let bad = values.iter().filter(|q| !(0.0..=1.0).contains(*q));
        work.annotate(|all| {
            let mut last = None;
            for q in bad {
                if last.replace(q.to_bits()) != Some(q.to_bits()) {
                    all.invalid_quantile(*q, *span);
                }
            }
        });
    }
    let mut charge = work.limits.charge(0)?;
    let found = find(work, &rows, spans.histograms, &mut charge)?;
    let most_rows = (found.native.len() + found.classic.len()) * quantiles.len();
    charge.take(most_rows * size_of::<Row>())?;
    let mut out: Vec<Row> =
        Vec::with_capacity((found.native.len() + found.classic.len()) * quantiles.len());
    let mut buckets = Vec::new();
    let mut remarks = Collector::default();
    for (position, native) in found.native.iter().enumerate() {
        work.limits.check()?;
        for quantile in &quantiles {
            let mut target = Target::new(&native.labels, label, grid, out.len());
            for (step, q) in quantile.iter().copied().enumerate() {
                let Some(histogram) = found.native_at(position, step) else {
                    continue;
                };
                let (value, effect) = native_quantile(q, histogram);
                match effect {
                    Some(NanEffect::Result) => {
                        remarks.quantile_is_nan(native.labels.metric_name(), spans.histograms)
                    }
                    Some(NanEffect::Skew) => {
                        remarks.quantile_is_skewed(native.labels.metric_name(), spans.histograms)
                    }
                    None => {}
                }
                target.row(q, &mut out, &mut charge)?.values[step] = value;
            }
        }
    }
    for (position, group) in found.classic.iter().enumerate() {
        work.limits.check()?;
        for quantile in &quantiles {
            let mut target = Target::new(&group.labels, label, grid, out.len());
            for (step, q) in quantile.iter().copied().enumerate() {
                found.classic_at(position, step, &mut buckets);
                if buckets.is_empty() {
                    continue;
                }
                let (value, fix) = bucket_quantile(q, &mut buckets);
                if let Some(fix) = fix {
                    let fix = Monotonicity {
                        time: grid.time(step),
                        ..fix
                    };
                    remarks.forced_monotonicity(group.labels.metric_name(), spans.histograms, fix);
                }
                target.row(q, &mut out, &mut charge)?.values[step] = value;
            }
        }
    }
    let may_repeat = label.is_some() || !found.native.is_empty();
    work.annotate(|all| all.merge(remarks));
    let out = if may_repeat && grid.count > 1 {
        merge_rows(out, &mut charge)?
    } else {
        out
    };
    Rows::new(out, charge)
}

/// Where quantiles of one histogram go: to one row, or to one per value of the label for the
/// quantile, which may change from step to step.
struct Target<'a> {
    labels: &'a Labels,
    label: Option<&'a str>,
    grid: Grid,
    /// The first row that may be its own.
    first: usize,
    current: Option<(u64, usize)>,
}

impl<'a> Target<'a> {
    fn new(labels: &'a Labels, label: Option<&'a str>, grid: Grid, first: usize) -> Self {
        Self {
            labels,
            label,
            grid,
            first,
            current: None,
        }
    }

    /// The row of a quantile.
    fn row<'b>(
        &mut self,
        q: f64,
        out: &'b mut Vec<Row>,
        charge: &mut Charge,
    ) -> Result<&'b mut Row, QueryError> {
        let position = match self.current {
            Some((bits, position)) if self.label.is_none() || bits == q.to_bits() => position,
            _ => {
                let len = self.labels.as_str().len() + self.label.map_or(0, str::len) + 400;
                charge.reserve(labels_in_work_bytes(len))?;
                let labels = labels_with(self.labels, self.label, q);
                let mut rows = out[self.first..].iter();
                match rows.position(|row| row.labels == labels) {
                    Some(at) => self.first + at,
                    None => {
                        let bytes = Row::bytes_of(self.grid.count, false) + size_of::<Row>();
                        charge.take(bytes + labels_bytes(&labels))?;
                        out.push(Row::empty(labels, true, self.grid.count));
                        out.len() - 1
                    }
                }
            }
        };
        self.current = Some((q.to_bits(), position));
        Ok(&mut out[position])
    }
}

fn labels_with(labels: &Labels, label: Option<&str>, q: f64) -> Labels {
    let Some(label) = label else {
        return labels.clone();
    };
    let mut text = plain(q);
    // Quantiles are written as OpenMetrics writes floats: 1.0, not 1.
    if q.is_finite() && !text.contains('.') {
        text.push_str(".0");
    }
    let mut builder = LabelsBuilder::from_labels(labels);
    builder.set(label, &text);
    builder.build()
}

/// The quantile of a cumulative histogram with ascending bounds, interpolated within a bucket, and
/// what had to be corrected for the counts to ascend.
fn bucket_quantile(q: f64, buckets: &mut [Bucket]) -> (f64, Option<Monotonicity>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets
        .last()
        .is_none_or(|bucket| bucket.upper != f64::INFINITY)
    {
        return (f64::NAN, None);
    }
    let fix = make_monotonic(buckets);
    let [below @ .., last] = &*buckets else {
        return (f64::NAN, fix);
    };
    if below.is_empty() || last.count == 0.0 {
        return (f64::NAN, fix);
    }
    let rank = q * last.count;
    let index = below
        .partition_point(|bucket| bucket.count < rank || bucket.count.is_nan() || rank.is_nan());
    let value = match below.get(index) {
        // Beyond all finite bounds: the highest of them is the best that is known.
        None => below[below.len() - 1].upper,
        Some(bucket) if index == 0 && bucket.upper <= 0.0 => bucket.upper,
        Some(bucket) => {
            let previous = index.checked_sub(1).map_or(
                Bucket {
                    upper: 0.0,
                    count: 0.0,
                },
                |index| below[index],
            );
            let share = (rank - previous.count) / (bucket.count - previous.count);
            previous.upper + (bucket.upper - previous.upper) * share
        }
    };
    (value, fix)
}

/// Raises counts that are smaller than the one before.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Monotonicity> {
    let mut fix: Option<Monotonicity> = None;
    let mut previous = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == previous {
            continue;
        }
        if nearly_equal(previous, count) {
            bucket.count = previous;
        } else if count < previous {
            bucket.count = previous;
            let fix = fix.get_or_insert(Monotonicity {
                time: 0,
                min_bucket: f64::INFINITY,
                max_bucket: f64::NEG_INFINITY,
                max_difference: 0.0,
            });
            fix.min_bucket = fix.min_bucket.min(bucket.upper);
            fix.max_bucket = fix.max_bucket.max(bucket.upper);
            fix.max_difference = fix.max_difference.max(previous - count);
        } else {
            previous = count;
        }
    }
    fix
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

/// `histogram_fraction`: the share of observations between two bounds.
pub(crate) fn fraction(
    work: &Work,
    rows: Rows,
    lower: &[f64],
    upper: &[f64],
    grid: Grid,
    span: Span,
) -> Result<Rows, QueryError> {
    let mut charge = work.limits.charge(0)?;
    let found = find(work, &rows, span, &mut charge)?;
    charge.take((found.native.len() + found.classic.len()) * size_of::<Row>())?;
    let mut out = Vec::with_capacity(found.native.len() + found.classic.len());
    let mut buckets = Vec::new();
    let mut remarks = Collector::default();
    for (position, native) in found.native.iter().enumerate() {
        work.limits.check()?;
        charge.take(Row::bytes_of(grid.count, false))?;
        let mut row = Row::empty(native.labels.clone(), true, grid.count);
        for step in 0..grid.count {
            if let Some(histogram) = found.native_at(position, step) {
                let (value, has_nan) = native_fraction(lower[step], upper[step], histogram);
                if has_nan {
                    remarks.fraction_without_nan(native.labels.metric_name(), span);
                }
                row.values[step] = value;
            }
        }
        out.push(row);
    }
    for (position, group) in found.classic.iter().enumerate() {
        work.limits.check()?;
        charge.take(Row::bytes_of(grid.count, false))?;
        let mut row = Row::empty(group.labels.clone(), true, grid.count);
        for step in 0..grid.count {
            found.classic_at(position, step, &mut buckets);
            if !buckets.is_empty() {
                row.values[step] = bucket_fraction(lower[step], upper[step], &buckets);
            }
        }
        out.push(row);
    }
    let may_repeat = !found.native.is_empty();
    work.annotate(|all| all.merge(remarks));
    let out = if may_repeat && grid.count > 1 {
        merge_rows(out, &mut charge)?
    } else {
        out
    };
    Rows::new(out, charge)
}

fn bucket_fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    let Some(last) = buckets
        .last()
        .filter(|bucket| bucket.upper == f64::INFINITY)
    else {
        return f64::NAN;
    };
    if last.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets) - rank_of(lower, buckets)) / last.count
}

/// How many observations lie below a value.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let mut previous = Bucket {
        upper: if buckets[0].upper <= 0.0 {
            f64::NEG_INFINITY
        } else {
            0.0
        },
        count: 0.0,
    };
    let total = buckets[buckets.len() - 1].count;
    for bucket in buckets {
        if previous.upper >= value {
            return previous.count.min(total);
        }
        if bucket.upper > value {
            // Nothing is known about where in an unbounded bucket observations lie.
            let rank = if previous.upper == f64::NEG_INFINITY {
                bucket.count
            } else {
                previous.count
                    + (bucket.count - previous.count) * (value - previous.upper)
                        / (bucket.upper - previous.upper)
            };
            return rank.min(total);
        }
        previous = *bucket;
    }
    total
}
