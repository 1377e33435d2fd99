//! Reads the inputs of a merge unit by unit and writes the result as it comes: what is in memory
//! are the series of a part, two units and one row group, however large the inputs are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::{mem, slice, vec};

use futures::future::{try_join, try_join_all};
use tidelake_catalog::Environment;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::{Column, METRIC_NAME, TableKind};
use tidelake_catalog::segment::encoding::Effort;
use tidelake_catalog::segment::scan::{ScanRequest, ScanUnit, Source, plan_slices};
use tidelake_catalog::segment::write_order::{WriteOrder, order_column};
use tidelake_catalog::segment::{ReadCache, SegmentError, SortOrder, SortedRows, ValueLayout};
use tidelake_catalog::segment_upload::{SegmentShape, SegmentUpload, UploadError};
use tidelake_catalog::snapshot::{SegmentMeta, Snapshot, Table};
use tidelake_catalog::store::Store;

use crate::merge_threads::MergeThreads;
use crate::policy::{Plan, keeps_orders};
use crate::turns::Turn;

/// A result larger than this goes on in another segment, from the next series on.
const TARGET_BYTES: u64 = 512 << 20;

/// Merges the inputs of a plan, whatever their layouts are, into segments of one. The results are
/// on the store and in no commit yet.
pub(crate) async fn merge(
    store: &Store,
    environment: &Environment,
    snapshot: &Snapshot,
    table: &Table,
    plan_of: &Plan,
    layout: ValueLayout,
    turn: &mut Turn<'_>,
) -> Result<Vec<SegmentMeta>, UploadError> {
    let kind = table.schema.kind;
    let (false, Some(first)) = (plan_of.windows.is_empty(), plan_of.segments.first()) else {
        return Ok(Vec::new());
    };
    let cache = ReadCache::new(&Arc::new(MemoryBudget::new(0)), None);
    let sources: Vec<Source> = try_join_all(plan_of.segments.iter().map(|meta| {
        let cache = &cache;
        async move {
            let tombstones = table.tombstones_of(meta).cloned().collect();
            let segment = if kind.is_by_series_id() {
                meta.open_once(store, kind, cache).await?
            } else {
                meta.open_whole(store, kind).await?
            };
            let order = WriteOrder::of(meta.order);
            Ok::<_, SegmentError>(Source::Segment(order, tombstones, Arc::new(segment)))
        }
    }))
    .await?;
    let order = order_of(kind, &sources).await?;
    let present = |field: &&Column| sources.iter().any(|source| source.has_field(&field.name));
    let mut fields: Vec<Column> = table.schema.fields().filter(present).cloned().collect();
    let have_orders = sources.iter().any(Source::has_orders);
    // Exemplars replace nothing.
    if kind != TableKind::Exemplars && keeps_orders(snapshot, table, plan_of, have_orders) {
        fields.push(order_column());
    }
    let fields: Arc<[Column]> = fields.into();
    let orders = plan_of.segments.iter().map(|segment| segment.order);
    let orders = orders.fold(first.order, |a, b| (a.0.min(b.0), a.1.max(b.1)));
    let shape = shape(kind, plan_of, order, Arc::clone(&fields), layout, orders);
    let meta = SegmentMeta {
        level: plan_of.level,
        order: orders,
        deletes_applied: deletes_applied(table, plan_of),
        ..(**first).clone()
    };

    let parts = parts(kind, &sources).await?;
    let mut results = Vec::new();
    for &range in &plan_of.windows {
        let request = ScanRequest {
            fields: Arc::clone(&fields),
            matchers: Vec::new(),
            range,
            edge: None,
        };
        let mut units = Units {
            kind,
            sources: &sources,
            request,
            order: &shape.order,
            parts: parts.iter(),
            planned: Vec::new().into_iter(),
            threads: turn.threads(),
        };
        let mut output: Option<SegmentUpload> = None;
        let mut rows = units.next().await?;
        while let Some(unit) = rows {
            turn.give_way(&plan_of.segments).await;
            let current = match output.take() {
                Some(output) => output,
                None => {
                    let id = environment.segment_id();
                    SegmentUpload::begin(store, SegmentMeta { id, ..meta.clone() }, &shape)?
                }
            };
            // While one unit is encoded the next is read.
            let of_push = environment.clone();
            let pushed = units
                .threads
                .run(async move { current.push(&of_push, unit).await });
            let (current, next) = try_join(pushed, units.next()).await?;
            rows = next;
            if current.bytes() >= TARGET_BYTES {
                results.extend(current.finish(store, environment).await?);
            } else {
                output = Some(current);
            }
        }
        if let Some(output) = output {
            results.extend(output.finish(store, environment).await?);
        }
    }
    Ok(results)
}

/// Up to which commit deletes have been applied to all rows of the results, or are older than them.
fn deletes_applied(table: &Table, plan: &Plan) -> u64 {
    let last = table.tombstones.last();
    let of_inputs = plan.segments.iter().map(|input| input.deletes_seen());
    of_inputs.fold(last.map_or(0, |tombstone| tombstone.sequence), u64::max)
}

/// In which order the series of the result come.
async fn order_of(kind: TableKind, sources: &[Source]) -> Result<SortOrder, SegmentError> {
    if kind.is_by_series_id() {
        return Ok(SortOrder::metrics());
    }
    let mut series = Vec::with_capacity(sources.len());
    for source in sources {
        if let Source::Segment(_, _, segment) = source {
            series.push(segment.index().all().await?);
        }
    }
    let labels = series.iter().flat_map(|series| series.iter());
    Ok(SortOrder::choose(
        kind,
        labels.map(|one| &one.series.labels),
    ))
}

/// Series that are planned together, unless one metric has more. In tests few, so that there are
/// parts.
const PART_SERIES: usize = if cfg!(test) { 2 } else { 64 << 10 };

/// For each source at which positions its series of a part are.
type Part = Vec<Range<usize>>;

/// Where the sources can be cut so that each series is in one part. Files of the metrics table are
/// sorted by metric; those of other tables in orders of their own.
async fn parts(kind: TableKind, sources: &[Source]) -> Result<Vec<Part>, SegmentError> {
    let mut counts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, source) in sources.iter().enumerate() {
        let Source::Segment(_, _, segment) = source else {
            continue;
        };
        let index = segment.index();
        let of_source = if kind.is_by_series_id() {
            index.value_counts(METRIC_NAME).await?
        } else {
            vec![(String::new(), index.len())]
        };
        for (name, count) in of_source {
            let of_name = counts.entry(name);
            of_name.or_insert_with(|| vec![0; sources.len()])[number] = count;
        }
    }
    let mut parts: Vec<Part> = Vec::new();
    let (mut part, mut series) = (vec![0..0; sources.len()], 0);
    for of_name in counts.into_values() {
        let more = of_name.iter().sum::<usize>();
        if series > 0 && series + more > PART_SERIES {
            let next = part.iter().map(|range| range.end..range.end).collect();
            parts.push(mem::replace(&mut part, next));
            series = 0;
        }
        for (range, count) in part.iter_mut().zip(of_name) {
            range.end += count;
        }
        series += more;
    }
    parts.push(part);
    Ok(parts)
}

/// What is read one after the other.
struct Units<'a> {
    kind: TableKind,
    sources: &'a [Source],
    request: ScanRequest,
    order: &'a SortOrder,
    parts: slice::Iter<'a, Part>,
    planned: vec::IntoIter<ScanUnit>,
    threads: &'a MergeThreads,
}

impl Units<'_> {
    async fn next(&mut self) -> Result<Option<SortedRows>, UploadError> {
        loop {
            if let Some(unit) = self.planned.next() {
                let read = self.threads.run(async move { unit.read().await });
                return Ok(Some(read.await?));
            }
            let Some(part) = self.parts.next() else {
                return Ok(None);
            };
            let slices = self.sources.iter().cloned().zip(part.iter().cloned());
            let request = self.request.clone();
            let plan = plan_slices(self.kind, slices.collect(), request, self.order).await?;
            self.planned = plan.units.into_iter();
        }
    }
}

/// What the segments of a plan become.
fn shape(
    kind: TableKind,
    plan: &Plan,
    order: SortOrder,
    fields: Arc<[Column]>,
    layout: ValueLayout,
    orders: (u64, u64),
) -> SegmentShape {
    SegmentShape {
        kind,
        order,
        fields,
        effort: match plan.level {
            // Soon merged again.
            0 => Effort::Fresh,
            // By the next day.
            1 => Effort::Compacted,
            _ => Effort::Settled,
        },
        layout,
        write_order: format!("{}..{}", orders.0, orders.1),
    }
}

#[cfg(test)]
mod tests;
