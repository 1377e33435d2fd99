//! Chunks -> level-0 segments on the store. The commit that names them is the caller's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tidelake_catalog::Environment;
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tidelake_catalog::model::{Column, Day, TableKind, TimeRange, TimeUnit};
use tidelake_catalog::segment::encoding::Effort;
use tidelake_catalog::segment::scan::{ScanRequest, WriteOrder, plan_rows};
use tidelake_catalog::segment::{SegmentError, SegmentWriter, SortOrder};
use tidelake_catalog::snapshot::SegmentMeta;
use tidelake_catalog::store::{Store, StoreError};

use crate::buffer::{RecentRows, Rotated, TableName};

/// Segments that are encoded and put at a time.
const AT_ONCE: usize = 8;

/// Memory of encoding a segment: what it takes in any case, and for each run of a chunk, with the
/// place of its series in plan and index.
const SEGMENT_BYTES: usize = 4 << 20;
const RUN_BYTES: usize = 256;
/// Most that the rows of a segment add to that: units and row groups are bounded.
const ROWS_BYTES: usize = 96 << 20;
/// How long a segment waits for memory to be encoded in.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a flush failed. Nothing is lost: the chunks stay, and files that were put are orphans.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// A segment could not be encoded.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A segment could not be put.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes every table and day of a rotation as one segment each. `origin` says, in the files'
/// metadata, up to where in which log the rows come from.
pub async fn write_segments(
    store: &Store,
    environment: &Environment,
    memory: &Arc<MemoryBudget>,
    rotated: &Rotated,
    origin: &str,
) -> Result<Vec<SegmentMeta>, FlushError> {
    let mut jobs = Vec::new();
    for (name, kind, chunks) in rotated.tables() {
        let chunks = Arc::new(chunks);
        for day in days(kind.time_unit(), &chunks) {
            jobs.push(write_day(
                store.clone(),
                environment.clone(),
                Arc::clone(memory),
                name.clone(),
                kind,
                Arc::clone(&chunks),
                day,
                origin.to_owned(),
            ));
        }
    }
    stream::iter(jobs)
        .buffer_unordered(AT_ONCE)
        .try_filter_map(futures::future::ok)
        .try_collect()
        .await
}

/// The days on which there are rows.
fn days(unit: TimeUnit, chunks: &[RecentRows]) -> BTreeSet<Day> {
    let mut days = BTreeSet::new();
    for chunk in chunks {
        for run in &chunk.rows.runs {
            let mut times = chunk.rows.times(run);
            // Times ascend: skip from day to day.
            while let Some(&first) = times.first() {
                let day = unit.day_of(first);
                days.insert(day);
                let end = day.range(unit).max;
                times = &times[times.partition_point(|&t| t <= end)..];
            }
        }
    }
    days
}

/// Fields in the order in which they first appear.
fn fields(chunks: &[RecentRows]) -> Arc<[Column]> {
    let mut fields: Vec<Column> = Vec::new();
    for field in chunks.iter().flat_map(|chunk| chunk.rows.fields.iter()) {
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(field.clone());
        }
    }
    fields.into()
}

/// Waits a little for the memory to encode a segment in. The flush must go on without it: it is
/// what makes room.
async fn reserve(
    memory: &Arc<MemoryBudget>,
    chunks: &[RecentRows],
    range: TimeRange,
) -> Reservation {
    let (mut runs, mut bytes) = (0, 0);
    for chunk in chunks {
        // Only rows of the day count: a flush of many days has a segment for each.
        let of_day = chunk.rows.runs.iter();
        let of_day = of_day.filter(|run| chunk.rows.has(run, &[], range)).count();
        runs += of_day;
        bytes += chunk.rows.memory_size() / chunk.rows.runs.len().max(1) * of_day;
    }
    let bytes = SEGMENT_BYTES + runs * RUN_BYTES + bytes.min(ROWS_BYTES);
    memory.reserve_within(Share::Merges, bytes, PATIENCE).await
}

async fn write_day(
    store: Store,
    environment: Environment,
    memory: Arc<MemoryBudget>,
    name: TableName,
    kind: TableKind,
    chunks: Arc<Vec<RecentRows>>,
    day: Day,
    origin: String,
) -> Result<Option<SegmentMeta>, FlushError> {
    let range = day.range(kind.time_unit());
    let _memory = reserve(&memory, &chunks, range).await;
    let encode = move || -> Result<_, SegmentError> {
        let sources = chunks
            .iter()
            .map(|c| (WriteOrder::Recent(c.order), Arc::clone(&c.rows)))
            .collect();
        let labels = chunks
            .iter()
            .flat_map(|c| c.rows.runs.iter().map(|run| &run.series.labels));
        let order = SortOrder::choose(kind, labels);
        let request = ScanRequest {
            fields: fields(&chunks),
            matchers: Vec::new(),
            range,
            edge: None,
        };
        let mut writer = SegmentWriter::new(
            kind,
            order.clone(),
            Arc::clone(&request.fields),
            Effort::Fresh,
            &[("tidelake.write_order", origin)],
        )?;
        let mut data = Vec::new();
        for unit in plan_rows(kind, sources, request, Some(&order)).units {
            // All sources are in memory: this future never waits.
            writer.push(&futures::executor::block_on(unit.read())?)?;
            data.append(&mut writer.take_bytes());
        }
        let done = writer.finish()?;
        data.extend_from_slice(&done.data_tail);
        Ok((data, done, order))
    };
    let encoded = environment.run_blocking(encode).await;
    let (data, done, order) =
        encoded.map_err(|error| SegmentError::Encode(error.to_string()))??;
    if done.rows == 0 {
        return Ok(None);
    }
    let sort_tags: Vec<String> = match kind {
        TableKind::Metrics | TableKind::Exemplars => Vec::new(),
        TableKind::Wide => order.0.iter().map(|tag| tag.to_string()).collect(),
    };
    let meta = SegmentMeta {
        id: environment.segment_id(),
        database: name.database,
        table: name.table,
        table_id: name.id,
        day,
        level: 0,
        order: (0, 0),
        time: done.time,
        rows: done.rows,
        series: done.series,
        data_bytes: done.data_bytes,
        index_bytes: done.index.len() as u64,
        data_checksum: done.data_checksum,
        index_tail_bytes: done.index_tail_bytes,
        index_checksum: done.index_checksum,
        sort_tags: sort_tags.into(),
        deletes_applied: 0,
    };
    let (data_key, index_key) = (meta.data_key(), meta.index_key());
    futures::future::try_join(
        store.put(&data_key, data),
        store.put(&index_key, done.index),
    )
    .await?;
    Ok(Some(meta))
}
