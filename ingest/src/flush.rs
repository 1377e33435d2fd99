//! Chunks -> level-0 segments on the store. The commit that names them is the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tidelake_catalog::Environment;
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tidelake_catalog::model::{Column, Day, TableKind, TimeRange, TimeUnit};
use tidelake_catalog::segment::encoding::Effort;
use tidelake_catalog::segment::scan::{ScanUnit, plan_runs};
use tidelake_catalog::segment::{Series, SortOrder, ValueLayout, WriteOrder};
use tidelake_catalog::segment_upload::{SegmentShape, SegmentUpload, UploadError, encoding};
use tidelake_catalog::snapshot::SegmentMeta;
use tidelake_catalog::store::Store;
use tokio::sync::Semaphore;

use crate::buffer::{RecentRows, Rotated, TableName};

/// Segments that are encoded and put at a time, if they are small: for each of so many runs of a
/// chunk one counts as one more.
const AT_ONCE: usize = 8;
const RUNS_A_TURN: usize = 16 << 10;
/// Runs of the series that are planned together. In tests few, so that there are parts.
const PART_RUNS: usize = if cfg!(test) { 2 } else { 64 << 10 };

/// Memory of encoding a segment: what it takes in any case; for each run of a chunk its place in
/// the index and in a part; and for each run of the part at hand its place in the plan.
const SEGMENT_BYTES: usize = 4 << 20;
const RUN_BYTES: usize = 64;
const PLANNED_RUN_BYTES: usize = 256;
/// Most that the rows of a segment add to that: units and row groups are bounded.
const ROWS_BYTES: usize = 96 << 20;
/// How long a segment waits for memory to be encoded in.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes every table and day of a rotation as one segment each. `origin` says, in the files'
/// metadata, up to where in which log the rows come from.
pub async fn write_segments(
    store: &Store,
    environment: &Environment,
    memory: &Arc<MemoryBudget>,
    rotated: &Rotated,
    origin: &str,
) -> Result<Vec<SegmentMeta>, UploadError> {
    let mut jobs = Vec::new();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    for (name, kind, chunks) in rotated.tables() {
        let chunks = Arc::new(chunks);
        for day in days(kind.time_unit(), &chunks) {
            jobs.push(write_day(
                store.clone(),
                environment.clone(),
                Arc::clone(memory),
                Arc::clone(&turns),
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

/// Runs with rows of a day: a flush of many days has a segment for each.
fn runs_of(chunks: &[RecentRows], range: TimeRange) -> Vec<usize> {
    let of_chunk = |chunk: &RecentRows| {
        let runs = chunk.rows.runs.iter();
        runs.filter(|run| chunk.rows.has(run, &[], range)).count()
    };
    chunks.iter().map(of_chunk).collect()
}

/// How many turns a segment takes that is made of so many runs.
fn turns_of(runs: &[usize]) -> u32 {
    (runs.iter().sum::<usize>() / RUNS_A_TURN).clamp(1, AT_ONCE) as u32
}

/// Waits a little for the memory to encode a segment in. The flush must go on without it: it is
/// what makes room.
async fn reserve(
    memory: &Arc<MemoryBudget>,
    chunks: &[RecentRows],
    runs_of_day: &[usize],
) -> Reservation {
    let rows_of_day = chunks
        .iter()
        .zip(runs_of_day)
        .map(|(chunk, runs)| chunk.rows.memory_size() / chunk.rows.runs.len().max(1) * runs);
    let runs: usize = runs_of_day.iter().sum();
    let bytes = SEGMENT_BYTES
        + runs * RUN_BYTES
        + runs.min(PART_RUNS) * PLANNED_RUN_BYTES
        + rows_of_day.sum::<usize>().min(ROWS_BYTES);
    memory.reserve_within(Share::Merges, bytes, PATIENCE).await
}

async fn write_day(
    store: Store,
    environment: Environment,
    memory: Arc<MemoryBudget>,
    turns: Arc<Semaphore>,
    name: TableName,
    kind: TableKind,
    chunks: Arc<Vec<RecentRows>>,
    day: Day,
    origin: String,
) -> Result<Option<SegmentMeta>, UploadError> {
    let range = day.range(kind.time_unit());
    let runs = runs_of(&chunks, range);
    let _turn = turns.acquire_many(turns_of(&runs)).await;
    let _memory = reserve(&memory, &chunks, &runs).await;
    let of_day = chunks.iter().zip(&runs).filter(|(_, runs)| **runs > 0);
    let day_rows = Arc::new(DayRows {
        kind,
        chunks: of_day.map(|(chunk, _)| chunk.clone()).collect(),
        range,
    });
    let orders = day_rows.chunks.iter().map(|chunk| chunk.order);
    let order = orders
        .reduce(WriteOrder::union)
        .unwrap_or(WriteOrder::of((0, 0)));
    let parted = Arc::clone(&day_rows);
    let shape_and_parts = move || {
        let shape = parted.shape(origin);
        let parts = parted.parts(&shape.order);
        (shape, parts)
    };
    let (shape, parts) = encoding(&environment, shape_and_parts).await?;
    let meta = SegmentMeta {
        database: name.database,
        table: name.table,
        table_id: name.id,
        day,
        level: 0,
        order: (order.first, order.last),
        deletes_applied: 0,
        id: environment.segment_id(),
        // Known at the end.
        sort_tags: Arc::from([]),
        time: TimeRange::new(0, -1),
        rows: 0,
        series: 0,
        data_bytes: 0,
        index_bytes: 0,
        data_checksum: 0,
        index_tail_bytes: 0,
        index_checksum: 0,
    };
    let mut upload = SegmentUpload::begin(&store, meta, &shape)?;
    let shape = Arc::new(shape);
    for part in parts {
        let (day_rows, shape) = (Arc::clone(&day_rows), Arc::clone(&shape));
        let plan = move || day_rows.plan(&shape, &part);
        for unit in encoding(&environment, plan).await? {
            // All sources are in memory: this future never waits.
            let read = move || futures::executor::block_on(unit.read());
            let rows = encoding(&environment, read).await??;
            upload = upload.push(&environment, rows).await?;
        }
    }
    upload.finish(&store, &environment).await
}

/// What becomes a segment.
struct DayRows {
    kind: TableKind,
    /// That have any on the day.
    chunks: Vec<RecentRows>,
    range: TimeRange,
}

/// Series that are planned together: their runs, by number, of each chunk. All series of a day
/// would take as much memory as their rows.
type Part = Vec<Vec<u32>>;

impl DayRows {
    /// The runs of a chunk with rows of the day, and their numbers.
    fn runs<'a>(&self, chunk: &'a RecentRows) -> impl Iterator<Item = (u32, &'a Series)> {
        let range = self.range;
        let runs = (0..).zip(&chunk.rows.runs);
        let of_day = runs.filter(move |(_, run)| chunk.rows.has(run, &[], range));
        of_day.map(|(number, run)| (number, &*run.series))
    }

    /// How the rows will lie in the segment.
    fn shape(&self, write_order: String) -> SegmentShape {
        let series = self.chunks.iter().flat_map(|chunk| self.runs(chunk));
        SegmentShape {
            kind: self.kind,
            order: SortOrder::choose(self.kind, series.map(|(_, series)| &series.labels)),
            fields: fields(&self.chunks),
            effort: Effort::Fresh,
            layout: ValueLayout::Plain,
            write_order,
        }
    }

    /// The parts in the order of their series, cut between values of the label that comes first.
    fn parts(&self, order: &SortOrder) -> Vec<Part> {
        // For each value its runs, and then the number of its part.
        let mut values: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, series) in self.chunks.iter().flat_map(|chunk| self.runs(chunk)) {
            *values.entry(order.first_value(&series.labels)).or_default() += 1;
        }
        let (mut last, mut runs_of_last) = (0, 0);
        for value in values.values_mut() {
            if runs_of_last > 0 && runs_of_last + *value > PART_RUNS {
                (last, runs_of_last) = (last + 1, 0);
            }
            runs_of_last += *value;
            *value = last;
        }
        let mut parts = vec![vec![Vec::new(); self.chunks.len()]; last + 1];
        for (at, chunk) in self.chunks.iter().enumerate() {
            for (number, series) in self.runs(chunk) {
                if let Some(part) = values.get(order.first_value(&series.labels)) {
                    parts[*part][at].push(number);
                }
            }
        }
        parts
    }

    /// Puts the series of a part in order.
    fn plan(&self, shape: &SegmentShape, part: &Part) -> Vec<ScanUnit> {
        let chunks = self
            .chunks
            .iter()
            .zip(part)
            .map(|(chunk, runs)| (chunk.order, Arc::clone(&chunk.rows), runs.as_slice()));
        let fields = Arc::clone(&shape.fields);
        plan_runs(
            self.kind,
            chunks.collect(),
            fields,
            self.range,
            &shape.order,
        )
        .units
    }
}
