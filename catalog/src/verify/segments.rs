//! Every segment: both files byte by byte, then the series index, then all rows against it, then
//! the levels of each day.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::rows::RowCheck;
use super::{Finding, Followed, Report};
use crate::memory::MemoryBudget;
use crate::model::{TableKind, TableSchema, TimeRange};
use crate::segment::{IndexedSeries, ReadCache, SegmentError, SortOrder};
use crate::snapshot::{DaySegments, SegmentMeta};
use crate::store::{Store, StoreError};

/// Segments that are checked at a time; each holds its series index and some of a row group.
const AT_ONCE: usize = 4;
/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 16 * 1024;

const RESTORE: &str = "restore the file from a backup; it is read again without a restart";
const DEFECT: &str = "report this: the file is as it was written, and was written wrongly";

pub(super) async fn check(
    store: &Store,
    followed: &mut Followed,
    report: &mut Report<'_>,
) -> Result<(), StoreError> {
    let snapshot = followed.snapshot().clone();
    for table in snapshot
        .databases()
        .flat_map(|database| database.tables.values())
    {
        for day in table.days.values() {
            check_day(store, &table.schema, day, followed, report).await?;
        }
    }
    Ok(())
}

/// Where a series lies in time.
type Spans = HashMap<u64, TimeRange>;

/// What was found in a segment, and its series if they are needed.
#[derive(Default)]
struct Checked {
    findings: Vec<Finding>,
    spans: Option<Spans>,
}

async fn check_day(
    store: &Store,
    schema: &Arc<TableSchema>,
    day: &Arc<DaySegments>,
    followed: &mut Followed,
    report: &mut Report<'_>,
) -> Result<(), StoreError> {
    let shares = |a: &SegmentMeta| {
        day.iter()
            .any(|b| b.id != a.id && b.level == a.level && b.time.overlaps(&a.time))
    };
    let jobs = day.iter().map(|meta| {
        let wants_spans = meta.level > 0 && shares(meta);
        let (store, schema, meta) = (store.clone(), Arc::clone(schema), Arc::clone(meta));
        // A task of its own: it uses another core, and a panic of the decoder stays in it.
        async move {
            let task = tokio::spawn({
                let meta = Arc::clone(&meta);
                async move { check_segment(&store, &schema, &meta, wants_spans).await }
            });
            let checked = task.await.unwrap_or_else(|error| {
                let finding = Finding::damage(
                    meta.data_key(),
                    format!("checking it ended early: {error}"),
                    RESTORE,
                );
                Checked {
                    findings: vec![finding],
                    spans: None,
                }
            });
            (meta, checked)
        }
    });
    let mut with_spans: Vec<(Arc<SegmentMeta>, Spans)> = Vec::new();
    let mut checks = stream::iter(jobs).buffered(AT_ONCE);
    while let Some((meta, checked)) = checks.next().await {
        if !checked.findings.is_empty() {
            followed.refresh().await?;
            if followed.snapshot().segment(&meta.reference()).is_none() {
                continue;
            }
        }
        report.checked.segments += 1;
        report.checked.rows += meta.rows;
        report.checked.bytes += meta.data_bytes + meta.index_bytes;
        checked
            .findings
            .into_iter()
            .for_each(|finding| report.add(finding));
        let Some(spans) = checked.spans else { continue };
        for (other, theirs) in with_spans
            .iter()
            .filter(|(other, _)| other.level == meta.level && other.time.overlaps(&meta.time))
        {
            let twice = spans
                .iter()
                .find(|(id, time)| theirs.get(*id).is_some_and(|other| other.overlaps(time)));
            if let Some((series, _)) = twice {
                let problem = format!(
                    "series {series:016x} has rows of the same time in {}, of the same level {}",
                    other.data_key(),
                    meta.level
                );
                report.add(Finding::damage(
                    meta.data_key(),
                    problem,
                    "report this; POST /admin/compact merges the two",
                ));
            }
        }
        with_spans.push((meta, spans));
    }
    Ok(())
}

async fn check_segment(
    store: &Store,
    schema: &TableSchema,
    meta: &SegmentMeta,
    wants_spans: bool,
) -> Checked {
    let (data, index) = (
        meta.check_data_file(store).await,
        meta.check_index_file(store).await,
    );
    let mut checked = Checked::default();
    let mut are_whole = true;
    for (key, result) in [(meta.data_key(), data), (meta.index_key(), index)] {
        if let Err(error) = result {
            are_whole = false;
            checked.findings.push(finding(key, error, RESTORE));
        }
    }
    // Bytes that are not ours need not be decoded to be called damaged.
    if !are_whole {
        return checked;
    }
    let segment = match meta.open_whole(store, schema.kind).await {
        Ok(segment) => segment,
        Err(error) => {
            checked
                .findings
                .push(finding(meta.index_key(), error, DEFECT));
            return checked;
        }
    };
    let series = match segment.index().all().await {
        Ok(series) => series,
        Err(error) => {
            checked
                .findings
                .push(finding(meta.index_key(), error, DEFECT));
            return checked;
        }
    };
    if let Err(problem) = check_index(schema, meta, &series) {
        checked
            .findings
            .push(Finding::damage(meta.index_key(), problem, DEFECT));
        return checked;
    }
    // A cache of its own: what is on the store is checked, not what was read before.
    let cache = ReadCache::new(&MemoryBudget::unlimited(), None);
    if let Err(error) = meta.check_lookup(store, &series, &cache).await {
        checked
            .findings
            .push(finding(meta.index_key(), error, DEFECT));
    }
    let rows = async {
        let mut check = RowCheck::new(schema, &meta.sort_tags, &series, segment.columns()?);
        let mut batches = segment.batches(BATCH_ROWS)?;
        while let Some(batch) = batches.try_next().await? {
            check
                .batch(&batch)
                .map_err(|problem| SegmentError::corrupt("", problem))?;
        }
        check
            .finish()
            .map_err(|problem| SegmentError::corrupt("", problem))
    };
    if let Err(error) = rows.await {
        checked
            .findings
            .push(finding(meta.data_key(), error, DEFECT));
    }
    if wants_spans {
        checked.spans = Some(series.iter().map(|one| (one.series.id, one.time)).collect());
    }
    checked
}

fn finding(key: String, error: SegmentError, advice: &'static str) -> Finding {
    match error {
        SegmentError::Corrupt { message, .. } => Finding::damage(key, message, advice),
        error => Finding::unread(key, error),
    }
}

/// The index against the catalog and itself.
fn check_index(
    schema: &TableSchema,
    meta: &SegmentMeta,
    series: &[IndexedSeries],
) -> Result<(), String> {
    if series.len() as u64 != meta.series {
        return Err(format!(
            "it has {} series, the catalog says {}",
            series.len(),
            meta.series
        ));
    }
    let order = match schema.kind {
        TableKind::Metrics | TableKind::Exemplars => SortOrder::metrics(),
        TableKind::Wide => SortOrder(
            meta.sort_tags
                .iter()
                .map(|tag| tag.as_str().into())
                .collect(),
        ),
    };
    let (mut next_row, mut last, mut ids) = (0u64, None, HashSet::with_capacity(series.len()));
    let mut time: Option<TimeRange> = None;
    for one in series {
        let labels = &one.series.labels;
        if one.series.id != labels.series_id() {
            return Err(format!(
                "the series {labels} has the id {:016x} in place of {:016x}",
                one.series.id,
                labels.series_id()
            ));
        }
        if !ids.insert(one.series.id) {
            return Err(format!("the series {labels} is in it twice"));
        }
        if one.first_row != next_row || one.rows == 0 || one.time.is_empty() {
            return Err(format!(
                "the rows of {labels} do not follow those of the series before: {} from {}",
                one.rows, one.first_row
            ));
        }
        next_row = next_row
            .checked_add(one.rows)
            .ok_or("it counts more rows than there can be")?;
        if last.is_some_and(|last| order.compare(last, labels).is_gt()) {
            return Err(format!("the series {labels} is not in order"));
        }
        last = Some(labels);
        time = Some(time.map_or(one.time, |time| time.union(&one.time)));
    }
    if next_row != meta.rows {
        return Err(format!(
            "it has {next_row} rows, the catalog says {}",
            meta.rows
        ));
    }
    if time != Some(meta.time) {
        return Err(format!(
            "its times are {time:?}, the catalog says {:?}",
            meta.time
        ));
    }
    Ok(())
}
