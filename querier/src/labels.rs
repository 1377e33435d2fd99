//! Series, label names and label values: answered from series indexes, no sample is read.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelake_catalog::model::{Labels, METRIC_NAME, METRICS_TABLE, Matcher, TimeRange};
use tidelake_catalog::segment::{LabelTexts, SegmentError, Series};
use tokio::time::Instant;

use crate::memory::{MemoryExceeded, QueryBytes, QueryPool};
use crate::promql::exec::row::labels_bytes;
use crate::samples::{PLANNED_SERIES_BYTES, field_metrics, named, tag_matchers, to_unit};
use crate::tables::Tables;

/// Why labels could not be listed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LabelError {
    /// Series indexes could not be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// More was found than fits into the memory of a query.
    #[error(transparent)]
    Memory(#[from] MemoryExceeded),
    /// It took longer than a query may.
    #[error("query timed out while series were looked up")]
    Timeout,
}

/// Series that are visited between two looks at time and memory.
const SERIES_PER_STEP: usize = 2048;
/// Bytes that are collected between two looks at memory, at most.
const STEP_BYTES: usize = 256 << 10;

/// What a search of series holds, and until when it may take.
#[derive(Debug)]
pub(crate) struct Search {
    held: QueryBytes,
    deadline: Option<Instant>,
    /// Bytes that are collected and not counted yet.
    pending: usize,
    seen: usize,
}

impl Search {
    /// A search in a query's memory.
    pub fn new(pool: &Arc<QueryPool>, deadline: Option<Instant>) -> Result<Self, LabelError> {
        Ok(Self {
            held: pool.try_hold(0)?,
            deadline,
            pending: 0,
            seen: 0,
        })
    }

    /// Counts the plan of a scan that so many series were found for.
    pub fn hold_plan(&mut self, series: usize) -> Result<QueryBytes, LabelError> {
        let bytes = series.saturating_mul(PLANNED_SERIES_BYTES);
        Ok(self.held.another(bytes)?)
    }

    /// Fails if it has taken too long.
    pub fn check(&self) -> Result<(), LabelError> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(LabelError::Timeout),
            _ => Ok(()),
        }
    }

    /// Counts what was collected of one more series.
    pub fn collected(&mut self, bytes: usize) -> Result<(), LabelError> {
        self.pending += bytes;
        self.seen += 1;
        if self.seen >= SERIES_PER_STEP || self.pending >= STEP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LabelError> {
        self.check()?;
        self.seen = 0;
        let pending = std::mem::take(&mut self.pending);
        Ok(self.held.try_grow(pending)?)
    }

    /// Counts a list of `items` that is made of what was collected, and which takes `bytes` beside
    /// its items. Both are there for a moment.
    fn list<T>(mut self, items: usize, bytes: usize) -> Result<QueryBytes, LabelError> {
        self.flush()?;
        self.held.try_grow(items * size_of::<T>())?;
        self.held.try_resize(bytes + items * size_of::<T>())?;
        Ok(self.held)
    }

    /// What is held until the search's result is made of it.
    pub fn finish(mut self) -> Result<QueryBytes, LabelError> {
        self.flush()?;
        Ok(self.held)
    }
}

/// Bytes of an entry of `item` bytes in a B-tree, whose nodes are about two thirds full.
const fn tree_bytes(item: usize) -> usize {
    item + item / 2 + 8
}

/// Calls `visit` with the labels of each series of the database that passes all matchers of at
/// least one set and may have samples in the range of milliseconds. Without sets all series pass. A
/// series may be visited more than once, but not without sets. `visit` tells how many bytes it has
/// collected.
pub(crate) async fn visit(
    tables: &Tables,
    database: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
    search: &mut Search,
    mut visit: impl FnMut(&Labels, Option<&str>) -> usize,
) -> Result<(), LabelError> {
    for matchers in each(sets) {
        let (series, listed) =
            list(tables, database, METRICS_TABLE, matchers, range, search).await?;
        for series in &series {
            search.collected(visit(&series.labels, None))?;
        }
        drop((series, listed));
        let tags = tag_matchers(matchers);
        let mut last: Option<(Arc<str>, Listed)> = None;
        for metric in field_metrics(tables, database, matchers) {
            // All fields of a table have its series.
            if last
                .as_ref()
                .is_none_or(|(table, _)| *table != metric.table)
            {
                // The list of the table before is not needed any more.
                drop(last.take());
                let range = to_unit(range, metric.schema.kind.time_unit());
                let listed = list(tables, database, &metric.table, &tags, range, search).await?;
                last = Some((metric.table.clone(), listed));
            }
            for series in last.iter().flat_map(|(_, (series, _))| series) {
                search.collected(visit(&series.labels, Some(&metric.name)))?;
            }
        }
    }
    search.flush()
}

/// Series, and what is counted for their list.
type Listed = (Vec<Arc<Series>>, QueryBytes);

/// The series of a table.
async fn list(
    tables: &Tables,
    database: &str,
    table: &str,
    matchers: &[Matcher],
    range: TimeRange,
    search: &mut Search,
) -> Result<Listed, LabelError> {
    search.check()?;
    let series = tables.series(database, table, matchers, range).await?;
    let listed = search.hold_plan(series.len())?;
    Ok((series, listed))
}

/// What a field of a wide table is called as a metric.
pub fn metric_name(table: &str, field: &str) -> String {
    match field {
        "value" => table.to_owned(),
        field => format!("{table}_{field}"),
    }
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

/// The label sets, sorted, each once, and what they hold.
pub(crate) async fn series(
    tables: &Tables,
    database: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
    mut search: Search,
) -> Result<(Vec<Labels>, QueryBytes), LabelError> {
    let mut found = BTreeSet::new();
    let mut bytes = 0;
    visit(
        tables,
        database,
        sets,
        range,
        &mut search,
        |labels, name| {
            let labels = name.map_or_else(|| labels.clone(), |name| named(labels, name));
            let own = labels_bytes(&labels);
            if !found.insert(labels) {
                return 0;
            }
            bytes += own;
            own + tree_bytes(size_of::<Labels>())
        },
    )
    .await?;
    let held = search.list::<Labels>(found.len(), bytes)?;
    Ok((found.into_iter().collect(), held))
}

/// The names of labels, sorted, and what they hold.
pub(crate) async fn names(
    tables: &Tables,
    database: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
    mut search: Search,
) -> Result<(Vec<String>, QueryBytes), LabelError> {
    let mut found = Texts::default();
    for matchers in each(sets) {
        collect(
            tables,
            database,
            LabelTexts::Names,
            matchers,
            range,
            &mut search,
            &mut found,
        )
        .await?;
    }
    found.into_list(search)
}

/// The values of a label, sorted, and what they hold.
pub(crate) async fn values(
    tables: &Tables,
    database: &str,
    label: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
    mut search: Search,
) -> Result<(Vec<String>, QueryBytes), LabelError> {
    let mut found = Texts::default();
    let texts = LabelTexts::Values(label);
    for matchers in each(sets) {
        collect(
            tables,
            database,
            texts,
            matchers,
            range,
            &mut search,
            &mut found,
        )
        .await?;
    }
    found.into_list(search)
}

/// Without sets of matchers all series pass.
fn each(sets: &[Vec<Matcher>]) -> &[Vec<Matcher>] {
    const ALL: &[Vec<Matcher>] = &[Vec::new()];
    if sets.is_empty() { ALL } else { sets }
}

/// Adds the texts of the series that pass all matchers of a set.
async fn collect(
    tables: &Tables,
    database: &str,
    texts: LabelTexts<'_>,
    matchers: &[Matcher],
    range: TimeRange,
    search: &mut Search,
    found: &mut Texts,
) -> Result<(), LabelError> {
    search.check()?;
    let lists = tables
        .label_texts(database, METRICS_TABLE, texts, matchers, range)
        .await?;
    for text in lists.iter().flatten() {
        search.collected(found.add(text))?;
    }
    drop(lists);
    let tags = tag_matchers(matchers);
    let mut last: Option<(Arc<str>, bool)> = None;
    for metric in field_metrics(tables, database, matchers) {
        // All fields of a table have its series.
        let is_known = last.as_ref().filter(|(table, _)| *table == metric.table);
        let has_series = match is_known {
            Some((_, has_series)) => *has_series,
            None => {
                search.check()?;
                let range = to_unit(range, metric.schema.kind.time_unit());
                let of_fields = LabelTexts::Values(METRIC_NAME);
                let lists = match texts == of_fields {
                    // A tag of this name gives way to the name of the field.
                    true => Vec::new(),
                    false => {
                        tables
                            .label_texts(database, &metric.table, texts, &tags, range)
                            .await?
                    }
                };
                for text in lists.iter().flatten() {
                    search.collected(found.add(text))?;
                }
                let has_series = match lists.iter().any(|list| !list.is_empty()) {
                    true => true,
                    false => {
                        tables
                            .has_series(database, &metric.table, &tags, range)
                            .await?
                    }
                };
                last = Some((metric.table.clone(), has_series));
                has_series
            }
        };
        if has_series {
            let bytes = match texts {
                LabelTexts::Names => found.add(METRIC_NAME),
                LabelTexts::Values(METRIC_NAME) => found.add(&metric.name),
                LabelTexts::Values(_) => 0,
            };
            search.collected(bytes)?;
        }
    }
    search.flush()
}

/// Different texts.
#[derive(Default)]
struct Texts {
    found: BTreeSet<String>,
    bytes: usize,
}

impl Texts {
    /// Adds a text, and tells how many bytes were needed for it.
    fn add(&mut self, text: &str) -> usize {
        if self.found.contains(text) {
            return 0;
        }
        self.found.insert(text.to_owned());
        let own = text.len() + 8;
        self.bytes += own;
        own + tree_bytes(size_of::<String>())
    }

    fn into_list(self, search: Search) -> Result<(Vec<String>, QueryBytes), LabelError> {
        let held = search.list::<String>(self.found.len(), self.bytes)?;
        Ok((self.found.into_iter().collect(), held))
    }
}
