//! How many series there are, and of what: which metrics, labels and label values make a database
//! large. All is told by series indexes and the ends of data files; no sample is read.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use tidelake_catalog::model::{Column, Labels, METRIC_NAME, METRICS_TABLE, TimeRange};
use tidelake_catalog::segment::SegmentError;
use tidelake_catalog::segment::scan::{ScanPlan, ScanRequest, Source};

use crate::labels::{LabelError, Search};
use crate::memory::QueryBytes;
use crate::samples::{FieldMetric, field_metrics, to_unit};
use crate::tables::Tables;

/// Names with counts, the largest first.
pub type Ranking = Vec<(String, u64)>;

/// What the series of a database are made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Different pairs of a label's name and value.
    pub label_pairs: u64,
    /// Segments and chunks of recent rows that were looked at.
    pub pieces: u64,
    /// First and last time of these in milliseconds; `None` if there are no rows.
    pub times: Option<TimeRange>,
    /// Series of a metric.
    pub by_metric: Ranking,
    /// Different values of a label.
    pub values_by_label: Ranking,
    /// Bytes of a label's values, counted for each series that has them.
    pub bytes_by_label: Ranking,
    /// Series with a label's value, named `name=value`.
    pub by_pair: Ranking,
    /// What is stored of these series, where anything of them lies in the range.
    pub stored: Size,
    /// Bytes of a metric's samples in data files.
    pub stored_bytes_by_metric: Ranking,
    /// Samples of a metric.
    pub samples_by_metric: Ranking,
}

/// What is stored of series: in each segment and chunk of recent rows that has any rows of a
/// series in the range, all of them, also those that another overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Samples. Those of the fields of a table are an estimate where some rows lack a field: that
    /// all series lack it as often.
    pub samples: u64,
    /// Bytes in data files, an estimate: each row takes as much, and fields share it as their
    /// columns do. Recent rows are in none.
    pub bytes: u64,
}

/// The same while it is summed up.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    samples: f64,
    bytes: f64,
}

impl Share {
    fn add(&mut self, more: Share) {
        self.samples += more.samples;
        self.bytes += more.bytes;
    }

    fn rounded(self) -> Size {
        Size {
            samples: self.samples.round() as u64,
            bytes: self.bytes.round() as u64,
        }
    }
}

/// Bytes of a value and its count in a table that doubles when it is full, without its text.
const VALUE_BYTES: usize = 80;
/// Bytes of a label in its table, with an empty table of values.
const LABEL_BYTES: usize = 256;

/// Counts the series that may have samples in a range of milliseconds; each ranking has at most
/// `most` entries.
pub(crate) async fn cardinality(
    tables: &Tables,
    database: &str,
    range: TimeRange,
    most: usize,
    mut search: Search,
) -> Result<(Cardinality, QueryBytes), LabelError> {
    let mut series = 0;
    let mut all = Share::default();
    let mut sizes: HashMap<String, Share> = HashMap::new();
    let mut counts: HashMap<String, HashMap<String, u64>> = HashMap::new();
    let mut count = |label: &str, value: &str| {
        let mut bytes = 0;
        if !counts.contains_key(label) {
            counts.insert(label.to_owned(), HashMap::new());
            bytes += LABEL_BYTES + label.len();
        }
        let Some(values) = counts.get_mut(label) else {
            return bytes;
        };
        match values.get_mut(value) {
            Some(count) => *count += 1,
            None => {
                values.insert(value.to_owned(), 1);
                bytes += VALUE_BYTES + value.len();
            }
        }
        bytes
    };
    let mut size = |metric: &str, share: Share| {
        all.add(share);
        if let Some(known) = sizes.get_mut(metric) {
            known.add(share);
            return 0;
        }
        sizes.insert(metric.to_owned(), share);
        VALUE_BYTES + metric.len()
    };
    visit(
        tables,
        database,
        range,
        &mut search,
        |labels, name, share| {
            series += 1;
            let metric = name.or_else(|| labels.get(METRIC_NAME));
            let sized = size(metric.unwrap_or_default(), share);
            let named = name.map_or(0, |name| count(METRIC_NAME, name));
            let labels = labels.iter().map(|(label, value)| count(label, value));
            sized + named + labels.sum::<usize>()
        },
    )
    .await?;
    let (pieces, times) = extent(tables, database, range).await?;
    let bytes = |values: &HashMap<String, u64>| {
        values
            .iter()
            .map(|(value, count)| value.len() as u64 * count)
            .sum()
    };
    let metrics = counts.get(METRIC_NAME).into_iter().flatten();
    let pairs = counts.iter().flat_map(|(label, values)| {
        values
            .iter()
            .map(move |(value, count)| ((label, value), *count))
    });
    let sized = |of: fn(Size) -> u64| {
        let sizes = sizes.iter();
        let sizes = sizes.map(|(name, share)| (name, of(share.rounded())));
        // What is only recent has no bytes.
        let sizes = sizes.filter(|(_, size)| *size > 0);
        top(sizes, most, |name| (*name).clone())
    };
    let found = Cardinality {
        stored: all.rounded(),
        stored_bytes_by_metric: sized(|size| size.bytes),
        samples_by_metric: sized(|size| size.samples),
        series,
        label_pairs: counts.values().map(|values| values.len() as u64).sum(),
        pieces,
        times,
        by_metric: top(metrics.map(|(name, count)| (name, *count)), most, |name| {
            (*name).clone()
        }),
        values_by_label: top(
            counts
                .iter()
                .map(|(label, values)| (label, values.len() as u64)),
            most,
            |label| (*label).clone(),
        ),
        bytes_by_label: top(
            counts.iter().map(|(label, values)| (label, bytes(values))),
            most,
            |label| (*label).clone(),
        ),
        by_pair: top(pairs, most, |(label, value)| format!("{label}={value}")),
    };
    Ok((found, search.finish()?))
}

/// Calls `visit` with the labels of each series that may have samples in a range of milliseconds,
/// with the name of the metric if it is a field, and with what is stored of it. `visit` tells how
/// many bytes it has collected.
async fn visit(
    tables: &Tables,
    database: &str,
    range: TimeRange,
    search: &mut Search,
    mut visit: impl FnMut(&Labels, Option<&str>, Share) -> usize,
) -> Result<(), LabelError> {
    let (plan, planned) = scan(tables, database, METRICS_TABLE, range, search).await?;
    for (series, stored) in plan.stored() {
        let share = Share {
            samples: stored.rows as f64,
            bytes: stored.bytes,
        };
        search.collected(visit(&series.labels, None, share))?;
    }
    drop((plan, planned));
    let metrics = field_metrics(tables, database, &[]);
    for metrics in metrics.chunk_by(|a, b| a.table == b.table) {
        let Some(FieldMetric { table, schema, .. }) = metrics.first() else {
            continue;
        };
        let range = to_unit(range, schema.kind.time_unit());
        let (plan, _planned) = scan(tables, database, table, range, search).await?;
        let shares = FieldShares::of(&plan, schema.fields());
        for metric in metrics {
            let of_field = shares.of_field(&metric.field.name);
            for (series, stored) in plan.stored() {
                let share = Share {
                    samples: stored.rows as f64 * of_field.samples,
                    bytes: stored.bytes * of_field.bytes,
                };
                search.collected(visit(&series.labels, Some(&metric.name), share))?;
            }
        }
    }
    Ok(())
}

/// The series of a table, and what is counted for them.
async fn scan(
    tables: &Tables,
    database: &str,
    table: &str,
    range: TimeRange,
    search: &mut Search,
) -> Result<(ScanPlan, QueryBytes), LabelError> {
    search.check()?;
    let request = ScanRequest {
        fields: Arc::<[Column]>::from([]),
        matchers: Vec::new(),
        range,
        edge: None,
    };
    let mut plan = tables.scan(database, table, request).await?;
    let series = plan.units.iter().map(|unit| unit.series().len()).sum();
    let planned = search.hold_plan(series)?;
    plan.held.clear();
    Ok((plan, planned))
}

/// What fields of a table have of its rows.
struct FieldShares<'a> {
    /// Bytes and values by name, of all segments.
    sizes: HashMap<&'a str, (u64, u64)>,
    /// Bytes of all fields.
    bytes: u64,
    rows: u64,
}

impl<'a> FieldShares<'a> {
    fn of(plan: &'a ScanPlan, fields: impl Iterator<Item = &'a Column>) -> Self {
        let mut shares = Self {
            sizes: fields.map(|field| (&*field.name, (0, 0))).collect(),
            bytes: 0,
            rows: 0,
        };
        for segment in plan.segments() {
            shares.rows += segment.rows().unwrap_or(0);
            for (name, bytes, values) in segment.field_sizes() {
                if let Some(size) = shares.sizes.get_mut(name) {
                    *size = (size.0 + bytes, size.1 + values);
                    shares.bytes += bytes;
                }
            }
        }
        shares
    }

    /// The part of the rows that have the field, and its part of the bytes.
    fn of_field(&self, name: &str) -> Share {
        let part = |part: u64, all: u64| match all {
            0 => 1.0,
            all => part as f64 / all as f64,
        };
        let (bytes, values) = self.sizes.get(name).copied().unwrap_or_default();
        Share {
            samples: part(values, self.rows),
            bytes: part(bytes, self.bytes),
        }
    }
}

/// How many segments and chunks of recent rows reach into a range, and from when to when these are.
async fn extent(
    tables: &Tables,
    database: &str,
    range: TimeRange,
) -> Result<(u64, Option<TimeRange>), SegmentError> {
    let snapshot = tables.snapshot();
    let wide = tables
        .wide_tables(database)
        .into_iter()
        .map(|(name, _)| name);
    let (mut pieces, mut times) = (0, None::<TimeRange>);
    for name in wide.chain([METRICS_TABLE.into()]) {
        let Some(table) = snapshot.table(database, &name) else {
            continue;
        };
        let unit = table.schema.kind.time_unit();
        let range = to_unit(range, unit);
        let found = tables.sources(database, &name, range).await?;
        let rows =
            found
                .iter()
                .flat_map(|found| &found.sources)
                .filter_map(|source| match source {
                    Source::Rows(_, rows) => rows.time_range(),
                    Source::Segment(..) => None,
                });
        for piece in table
            .segments(range)
            .map(|segment| segment.time)
            .chain(rows)
        {
            pieces += 1;
            let piece = TimeRange::new(unit.to_millis(piece.min), unit.to_millis(piece.max));
            times = Some(times.map_or(piece, |times| times.union(&piece)));
        }
    }
    Ok((pieces, times))
}

/// The largest counts, of equal ones the first by name; only these get a text.
fn top<T: Ord>(
    counts: impl Iterator<Item = (T, u64)>,
    most: usize,
    text: impl Fn(&T) -> String,
) -> Ranking {
    let mut kept = BinaryHeap::new();
    for (name, count) in counts {
        kept.push((Reverse(count), name));
        if kept.len() > most {
            kept.pop();
        }
    }
    kept.into_sorted_vec()
        .into_iter()
        .map(|(Reverse(count), name)| (text(&name), count))
        .collect()
}
