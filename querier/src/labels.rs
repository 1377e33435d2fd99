//! Series, label names and label values: answered from series indexes, no sample is read.

use std::collections::BTreeSet;

use tidelake_catalog::model::{Labels, METRIC_NAME, METRICS_TABLE, Matcher, TimeRange};
use tidelake_catalog::segment::SegmentError;

use crate::samples::{field_metrics, named, tag_matchers, to_unit};
use crate::tables::Tables;

/// Calls `visit` with the labels of each series of the database that passes all matchers of at
/// least one set and may have samples in the range of milliseconds. Without sets all series pass. A
/// series may be visited more than once, but not without sets.
pub(crate) async fn visit(
    tables: &Tables,
    database: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
    mut visit: impl FnMut(&Labels, Option<&str>),
) -> Result<(), SegmentError> {
    let all = [Vec::new()];
    for matchers in if sets.is_empty() { &all[..] } else { sets } {
        for series in tables
            .series(database, METRICS_TABLE, matchers, range)
            .await?
        {
            visit(&series.labels, None);
        }
        let tags = tag_matchers(matchers);
        let mut last: Option<(std::sync::Arc<str>, Vec<_>)> = None;
        for metric in field_metrics(tables, database, matchers) {
            // All fields of a table have its series.
            if last
                .as_ref()
                .is_none_or(|(table, _)| *table != metric.table)
            {
                let range = to_unit(range, metric.schema.kind.time_unit());
                let series = tables.series(database, &metric.table, &tags, range).await?;
                last = Some((metric.table.clone(), series));
            }
            for series in last.iter().flat_map(|(_, series)| series) {
                visit(&series.labels, Some(&metric.name));
            }
        }
    }
    Ok(())
}

/// A wide table of which a selector selects a field that has values in the range, if there is one,
/// and the field's name as a metric.
pub async fn selected_field(
    tables: &Tables,
    database: &str,
    selector: &[Matcher],
    range: TimeRange,
) -> Result<Option<(String, String)>, SegmentError> {
    let tags = tag_matchers(selector);
    let mut empty: Option<std::sync::Arc<str>> = None;
    for metric in field_metrics(tables, database, selector) {
        if empty.as_ref() == Some(&metric.table) {
            continue;
        }
        let range = to_unit(range, metric.schema.kind.time_unit());
        if !tables
            .series(database, &metric.table, &tags, range)
            .await?
            .is_empty()
        {
            return Ok(Some((metric.table.to_string(), metric.name)));
        }
        empty = Some(metric.table);
    }
    Ok(None)
}

/// The label sets, sorted, each once.
pub async fn series(
    tables: &Tables,
    database: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<Vec<Labels>, SegmentError> {
    let mut found = BTreeSet::new();
    visit(tables, database, sets, range, |labels, name| {
        found.insert(name.map_or_else(|| labels.clone(), |name| named(labels, name)));
    })
    .await?;
    Ok(found.into_iter().collect())
}

/// The names of labels, sorted.
pub async fn names(
    tables: &Tables,
    database: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<Vec<String>, SegmentError> {
    let mut found = BTreeSet::new();
    visit(tables, database, sets, range, |labels, metric| {
        for name in labels
            .iter()
            .map(|(name, _)| name)
            .chain(metric.map(|_| METRIC_NAME))
        {
            if !found.contains(name) {
                found.insert(name.to_owned());
            }
        }
    })
    .await?;
    Ok(found.into_iter().collect())
}

/// The values of a label, sorted.
pub async fn values(
    tables: &Tables,
    database: &str,
    label: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<Vec<String>, SegmentError> {
    let mut found = BTreeSet::new();
    visit(tables, database, sets, range, |labels, metric| {
        let value = if label == METRIC_NAME {
            metric.or_else(|| labels.get(label))
        } else {
            labels.get(label)
        };
        if let Some(value) = value
            && !found.contains(value)
        {
            found.insert(value.to_owned());
        }
    })
    .await?;
    Ok(found.into_iter().collect())
}
