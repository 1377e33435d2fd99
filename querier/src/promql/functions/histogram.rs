//! Quantiles and fractions of classic histograms: sets of series that differ in `le` only.

use hashbrown::HashMap;
use tidelake_catalog::model::{Histogram, Labels, LabelsBuilder};

use super::super::exec::QueryError;
use super::super::exec::annotations::Monotonicity;
use super::super::exec::engine::Engine;
use super::super::exec::finish::merge_rows;
use super::super::exec::grid::Grid;
use super::super::exec::number::plain;
use super::super::exec::row::{Row, Rows, is_absent};
use super::super::parse::ast::Span;

const BUCKET_LABEL: &str = "le";

/// Differences of counts up to this share are taken for rounding, not for a decrease.
const SMALL_DELTA: f64 = 1e-12;

/// Where arguments stand.
pub(crate) struct Spans {
    pub histograms: Span,
    pub quantiles: Vec<Span>,
}

/// The series of one histogram, by upper bound.
struct Group<'a> {
    labels: Labels,
    buckets: Vec<(f64, &'a Row)>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    upper: f64,
    count: f64,
}

/// Groups the series of classic histograms.
fn group<'a>(engine: &Engine, rows: &'a Rows, span: Span) -> Result<Vec<Group<'a>>, QueryError> {
    let mut positions: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for row in &rows.list {
        if row.has_histograms() {
            return Err(QueryError::unsupported_histogram("histogram_quantile and histogram_fraction"));
        }
        let bound = row.labels.get(BUCKET_LABEL).unwrap_or("");
        let Ok(upper) = bound.parse::<f64>() else {
            engine.annotate(|all| all.bad_bucket_label(row.labels.metric_name(), bound, span));
            continue;
        };
        let labels = row.labels.retain(|name| name != BUCKET_LABEL);
        let position = *positions.entry(labels.clone()).or_insert_with(|| {
            groups.push(Group { labels, buckets: Vec::new() });
            groups.len() - 1
        });
        groups[position].buckets.push((upper, row));
    }
    for group in &mut groups {
        group.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    Ok(groups)
}

impl Group<'_> {
    /// The buckets that are there at a step; those with equal bounds added up.
    fn at(&self, step: usize, buckets: &mut Vec<Bucket>) {
        buckets.clear();
        for (upper, row) in &self.buckets {
            let count = row.values[step];
            if is_absent(count) {
                continue;
            }
            match buckets.last_mut() {
                Some(last) if last.upper == *upper => last.count += count,
                _ => buckets.push(Bucket { upper: *upper, count }),
            }
        }
    }
}

/// `histogram_quantile`, and `histogram_quantiles` if there is a label for the quantile.
pub(crate) fn quantile(
    engine: &Engine,
    rows: Rows,
    quantiles: Vec<Vec<f64>>,
    label: Option<&str>,
    grid: Grid,
    spans: &Spans,
) -> Result<Rows, QueryError> {
    for (values, span) in quantiles.iter().zip(&spans.quantiles) {
        let mut bad: Vec<f64> = values.iter().copied().filter(|q| !(0.0..=1.0).contains(q)).collect();
        bad.dedup_by_key(|q| q.to_bits());
        engine.annotate(|all| bad.iter().for_each(|q| all.invalid_quantile(*q, *span)));
    }
    let groups = group(engine, &rows, spans.histograms)?;
    let mut out: Vec<Row> = Vec::with_capacity(groups.len());
    let mut buckets = Vec::new();
    for group in &groups {
        engine.limits.check()?;
        for quantile in &quantiles {
            // The value of the label may change from step to step, so there may be several rows.
            let first = out.len();
            let mut current: Option<(u64, usize)> = None;
            for step in 0..grid.count {
                let q = quantile[step];
                group.at(step, &mut buckets);
                if buckets.is_empty() {
                    continue;
                }
                let position = match (label, current) {
                    (Some(_), Some((bits, position))) if bits == q.to_bits() => position,
                    (None, Some((_, position))) => position,
                    _ => {
                        let labels = labels_with(&group.labels, label, q);
                        out[first..].iter().position(|row| row.labels == labels).map(|at| first + at).unwrap_or_else(|| {
                            out.push(Row::empty(labels, true, grid.count));
                            out.len() - 1
                        })
                    }
                };
                current = Some((q.to_bits(), position));
                let (value, fix) = bucket_quantile(q, &mut buckets);
                if let Some(fix) = fix {
                    let fix = Monotonicity { time: grid.time(step), ..fix };
                    engine.annotate(|all| all.forced_monotonicity(group.labels.metric_name(), spans.histograms, fix));
                }
                out[position].values[step] = value;
            }
        }
    }
    let out = if label.is_some() && grid.count > 1 { merge_rows(out)? } else { out };
    Rows::new(out, &engine.limits)
}

fn labels_with(labels: &Labels, label: Option<&str>, q: f64) -> Labels {
    let Some(label) = label else { return labels.clone() };
    let mut text = plain(q);
    // Quantiles are written as OpenMetrics writes floats: 1.0, not 1.
    if q.is_finite() && !text.contains('.') {
        text.push_str(".0");
    }
    let mut builder = LabelsBuilder::from_labels(labels);
    builder.set(label, &text);
    builder.build()
}

/// The quantile of a cumulative histogram with ascending bounds, interpolated within a bucket, and what had to be
/// corrected for the counts to ascend.
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
    if buckets.last().is_none_or(|bucket| bucket.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    let fix = make_monotonic(buckets);
    let [below @ .., last] = &*buckets else { return (f64::NAN, fix) };
    if below.is_empty() || last.count == 0.0 {
        return (f64::NAN, fix);
    }
    let rank = q * last.count;
    let index = below.partition_point(|bucket| bucket.count < rank || bucket.count.is_nan() || rank.is_nan());
    let value = match below.get(index) {
        // Beyond all finite bounds: the highest of them is the best that is known.
        None => below[below.len() - 1].upper,
        Some(bucket) if index == 0 && bucket.upper <= 0.0 => bucket.upper,
        Some(bucket) => {
            let previous = index.checked_sub(1).map_or(Bucket { upper: 0.0, count: 0.0 }, |index| below[index]);
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
pub(crate) fn fraction(engine: &Engine, rows: Rows, lower: &[f64], upper: &[f64], grid: Grid, span: Span) -> Result<Rows, QueryError> {
    let groups = group(engine, &rows, span)?;
    let mut out = Vec::with_capacity(groups.len());
    let mut buckets = Vec::new();
    for group in &groups {
        engine.limits.check()?;
        let mut row = Row::empty(group.labels.clone(), true, grid.count);
        for step in 0..grid.count {
            group.at(step, &mut buckets);
            if !buckets.is_empty() {
                row.values[step] = bucket_fraction(lower[step], upper[step], &buckets);
            }
        }
        out.push(row);
    }
    Rows::new(out, &engine.limits)
}

fn bucket_fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    let Some(last) = buckets.last().filter(|bucket| bucket.upper == f64::INFINITY) else { return f64::NAN };
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
    let mut previous = Bucket { upper: if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 }, count: 0.0 };
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
                previous.count + (bucket.count - previous.count) * (value - previous.upper) / (bucket.upper - previous.upper)
            };
            return rank.min(total);
        }
        previous = *bucket;
    }
    total
}

/// Whether two native histograms are the same value; what they say about resets does not count.
pub(crate) fn equal(a: &Histogram, b: &Histogram) -> bool {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let all = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(*a, *b));
    a.schema == b.schema
        && same(a.zero_threshold, b.zero_threshold)
        && same(a.zero_count, b.zero_count)
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && all(&a.positive_counts, &b.positive_counts)
        && all(&a.negative_counts, &b.negative_counts)
        && all(&a.custom_values, &b.custom_values)
}
