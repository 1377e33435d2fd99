//! Plans and runs the reading of series out of several sources.
//!
//! The indexes tell, before any sample is read, which series there are and how many rows each
//! source holds of them. A plan cuts the series into units of bounded size; a unit reads its rows
//! of every source and merges them. Units are independent: queries run them on several threads, the
//! compactor one after the other.

mod edge;
mod sort;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use futures::future::try_join_all;
use futures::{StreamExt, stream};
use hashbrown::HashMap;

use super::column::project;
use super::error::SegmentError;
use super::field_array::FieldArray;
use super::index::{FoundSeries, IndexedSeries};
use super::merge::{Input, Run, SeriesRuns, merge};
use super::meter::ReadMeter;
use super::reader::OpenSegment;
use super::row_groups::ROW_GROUP_ROWS;
use super::rows::{SeriesRun, SortedRows};
use super::series::{Series, SortOrder};
use super::write_order::{ORDER_COLUMN, RowOrders, WriteOrder, has_orders, order_column};
use crate::memory::Reservation;
use crate::model::{Column, Labels, Matcher, TableKind, TimeRange, Tombstone};

pub use edge::Edge;

/// Rows that a unit may hold before the next series goes to the next unit.
pub const UNIT_ROWS: u64 = 256 * 1024;

/// Series of a unit of a flush or merge: each takes as much memory as dozens of rows. Queries read
/// pages of data once only if they read as many rows as a page has, of whichever series.
const UNIT_SERIES: usize = 32 * 1024;

/// Fewer rows than this are not worth a unit, however many fields they have.
const MIN_UNIT_ROWS: u64 = 8 * 1024;

/// Series indexes that are looked up at a time.
const LOOKUPS_AT_ONCE: usize = 16;

/// Values that a unit may hold before the next series goes to the next unit: units of wide tables
/// have fewer rows.
const UNIT_VALUES: u64 = 16 * UNIT_ROWS;

/// Where rows are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In an open segment, without what these tombstones delete.
    Segment(WriteOrder, Arc<[Arc<Tombstone>]>, Arc<OpenSegment>),
    /// In memory.
    Rows(WriteOrder, Arc<SortedRows>),
}

impl Source {
    /// Whether any row may have the field.
    pub fn has_field(&self, name: &str) -> bool {
        match self {
            Source::Segment(_, _, segment) => segment.has_field(name),
            Source::Rows(_, rows) => rows.fields.iter().any(|f| &*f.name == name),
        }
    }

    /// Bytes of the data file for each row; rows in memory are in none, and a damaged one has none.
    fn bytes_of_row(&self) -> f64 {
        match self {
            Source::Segment(_, _, segment) => match segment.rows() {
                Some(rows) if rows > 0 => segment.location().data_bytes as f64 / rows as f64,
                _ => 0.0,
            },
            Source::Rows(..) => 0.0,
        }
    }

    fn order(&self) -> WriteOrder {
        match self {
            Source::Segment(order, ..) | Source::Rows(order, _) => *order,
        }
    }

    /// For messages.
    fn name(&self) -> String {
        match self {
            Source::Segment(_, _, segment) => segment.location().data.to_string(),
            Source::Rows(..) => "rows in memory".to_owned(),
        }
    }

    /// Whether its rows have orders of their own.
    pub fn has_orders(&self) -> bool {
        self.has_field(ORDER_COLUMN)
    }
}

/// What to read.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Which fields; a source without one has nulls. Of exemplars all: they are told from each
    /// other by what they have.
    pub fields: Arc<[Column]>,
    /// Which series; all matchers must pass.
    pub matchers: Vec<Matcher>,
    /// Which times, in the table's unit.
    pub range: TimeRange,
    /// If only one end of each series is needed, which. More may be read.
    pub edge: Option<Edge>,
}

/// The rows that a source has of a series.
#[derive(Debug, Clone)]
struct SlotRun {
    source: u32,
    rows: Range<u64>,
    /// First and last time.
    time: TimeRange,
    /// Rows of these times are deleted.
    deleted: Box<[TimeRange]>,
}

#[derive(Debug, Clone)]
struct Slot {
    series: Arc<Series>,
    runs: Vec<SlotRun>,
}

impl Slot {
    /// First and last time, if exactly the rows of the runs come out: none is deleted, out of the
    /// range or in two runs, and no run has two of one time.
    fn known(&self, range: TimeRange) -> Option<TimeRange> {
        let is_whole =
            |run: &SlotRun| run.deleted.is_empty() && range.intersect(&run.time) == run.time;
        if !self.runs.iter().all(is_whole) {
            return None;
        }
        match self.runs.as_slice() {
            [run] => Some(run.time),
            runs => {
                let mut times: Vec<TimeRange> = runs.iter().map(|run| run.time).collect();
                times.sort_unstable_by_key(|time| time.min);
                let is_apart = times.windows(2).all(|pair| pair[0].max < pair[1].min);
                let whole = times.into_iter().reduce(|a, b| a.union(&b))?;
                is_apart.then_some(whole)
            }
        }
    }
}

/// What sources hold of a series, whatever of it is overwritten, deleted or out of the range.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StoredRows {
    /// Rows.
    pub rows: u64,
    /// Their part of the data files, if each row of a file takes as much.
    pub bytes: f64,
}

/// The units of a scan.
#[derive(Debug, Default)]
pub struct ScanPlan {
    /// In the order of the series.
    pub units: Vec<ScanUnit>,
    /// The memory of what was found, which readers keep until they have counted the units.
    pub held: Vec<Reservation>,
}

impl ScanPlan {
    /// Leaves the series whose labels pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&Labels) -> bool) {
        for unit in &mut self.units {
            let before = unit.slots.len();
            unit.slots.retain(|slot| keep(&slot.series.labels));
            if unit.slots.len() < before {
                let runs = unit.slots.iter().flat_map(|slot| &slot.runs);
                unit.rows = runs.map(|run| run.rows.end - run.rows.start).sum();
                unit.known = None;
            }
        }
        self.units.retain(|unit| !unit.slots.is_empty());
    }

    /// The series, with what is stored of them.
    pub fn stored(&self) -> impl Iterator<Item = (&Arc<Series>, StoredRows)> {
        let bytes_of_row: Vec<f64> = self.sources().iter().map(Source::bytes_of_row).collect();
        let slots = self.units.iter().flat_map(|unit| &unit.slots);
        slots.map(move |slot| {
            let mut stored = StoredRows::default();
            for run in &slot.runs {
                let rows = run.rows.end - run.rows.start;
                stored.rows += rows;
                let bytes = bytes_of_row.get(run.source as usize);
                stored.bytes += bytes.map_or(0.0, |bytes| rows as f64 * bytes);
            }
            (&slot.series, stored)
        })
    }

    /// The segments that are read.
    pub fn segments(&self) -> impl Iterator<Item = &OpenSegment> {
        self.sources().iter().filter_map(|source| match source {
            Source::Segment(_, _, segment) => Some(&**segment),
            Source::Rows(..) => None,
        })
    }

    /// All units have the same.
    fn sources(&self) -> &[Source] {
        self.units.first().map_or(&[], |unit| &unit.sources)
    }
}

/// Some series, whole, from every source.
#[derive(Debug, Clone)]
pub struct ScanUnit {
    kind: TableKind,
    sources: Arc<Vec<Source>>,
    /// Of each source whether its rows have orders of their own.
    has_orders: Arc<[bool]>,
    fields: Arc<[Column]>,
    range: TimeRange,
    slots: Vec<Slot>,
    rows: u64,
    /// First and last time of the series' rows in the range, if it is known that `rows` come out.
    known: Option<TimeRange>,
}

/// Plans a scan whose series come in the order of the sources. What is read of series indexes is
/// counted.
pub async fn plan(
    kind: TableKind,
    sources: Vec<Source>,
    request: ScanRequest,
    meter: Option<&Arc<ReadMeter>>,
) -> Result<ScanPlan, SegmentError> {
    let scan = Scan::new(kind, sources, request, meter).await?;
    Ok(scan.into_plan())
}

/// Plans a scan of whole segments, but only of the series at some positions of each. Whoever goes
/// on from positions to positions never holds all series.
pub async fn plan_slices(
    kind: TableKind,
    mut slices: Vec<(Source, Range<usize>)>,
    request: ScanRequest,
    order: &SortOrder,
) -> Result<ScanPlan, SegmentError> {
    slices.sort_by_key(|(source, _)| source.order());
    let (sources, positions): (Vec<Source>, Vec<Range<usize>>) = slices.into_iter().unzip();
    let mut scan = Scan::of_sources(kind, sources, request.fields, request.range);
    (scan.unit_series, scan.ends_at_groups) = (UNIT_SERIES, false);
    for (number, positions) in positions.into_iter().enumerate() {
        let Source::Segment(_, _, segment) = &scan.sources[number] else {
            continue;
        };
        let mut found = segment.index().slice(positions).await?;
        found.retain(|one| one.time.overlaps(&scan.range));
        scan.add_series(number, found);
    }
    scan.sort(order);
    Ok(scan.into_plan())
}

/// Plans a scan of rows that are all in memory.
pub fn plan_rows(
    kind: TableKind,
    rows: Vec<(WriteOrder, Arc<SortedRows>)>,
    request: ScanRequest,
) -> ScanPlan {
    let sources = rows
        .into_iter()
        .map(|(order, rows)| Source::Rows(order, rows))
        .collect();
    let mut scan = Scan::of_sources(kind, sources, request.fields, request.range);
    scan.edge = request.edge;
    for number in 0..scan.sources.len() {
        scan.add_rows(number, &request.matchers);
    }
    scan.into_plan()
}

/// Plans a scan of some runs of rows in memory, given by their numbers, with the series sorted.
pub fn plan_runs(
    kind: TableKind,
    mut rows: Vec<(WriteOrder, Arc<SortedRows>, &[u32])>,
    fields: Arc<[Column]>,
    range: TimeRange,
    order: &SortOrder,
) -> ScanPlan {
    rows.sort_by_key(|(order, ..)| *order);
    let source = |(order, rows, _): &(_, Arc<_>, _)| Source::Rows(*order, Arc::clone(rows));
    let sources = rows.iter().map(source).collect();
    let mut scan = Scan::of_sources(kind, sources, fields, range);
    (scan.unit_series, scan.ends_at_groups) = (UNIT_SERIES, false);
    for (number, (_, rows, runs)) in rows.iter().enumerate() {
        for run in *runs {
            scan.add_run(number, rows, &rows.runs[*run as usize]);
        }
    }
    scan.sort(order);
    scan.into_plan()
}

/// Plans a scan whose series come in the order of what `key` makes of their labels.
pub async fn plan_by<K: Ord>(
    kind: TableKind,
    sources: Vec<Source>,
    request: ScanRequest,
    key: impl Fn(&Labels) -> K,
    meter: Option<&Arc<ReadMeter>>,
) -> Result<ScanPlan, SegmentError> {
    let mut scan = Scan::new(kind, sources, request, meter).await?;
    scan.slots
        .sort_by_cached_key(|slot| key(&slot.series.labels));
    Ok(scan.into_plan())
}

/// Plans a scan whose series come in the order in which a file of just these would have them: it
/// depends on their labels only, and neighbours lie together.
pub async fn plan_stored(
    kind: TableKind,
    sources: Vec<Source>,
    request: ScanRequest,
    meter: Option<&Arc<ReadMeter>>,
) -> Result<ScanPlan, SegmentError> {
    let mut scan = Scan::new(kind, sources, request, meter).await?;
    let order = SortOrder::choose(kind, scan.slots.iter().map(|slot| &slot.series.labels));
    // Most often they are: what is new comes in later segments.
    let is_sorted = scan.slots.is_sorted_by(|a, b| {
        let order = order.compare(&a.series.labels, &b.series.labels);
        order.is_le()
    });
    if !is_sorted {
        scan.sort(&order);
    }
    Ok(scan.into_plan())
}

/// The series of a scan before they are cut into units.
struct Scan {
    kind: TableKind,
    sources: Vec<Source>,
    fields: Arc<[Column]>,
    range: TimeRange,
    edge: Option<Edge>,
    /// Most series of a unit.
    unit_series: usize,
    /// Whether units end where row groups do, see [`Rows`].
    ends_at_groups: bool,
    slots: Vec<Slot>,
    /// Where in `slots` the series of an id is.
    by_id: HashMap<u64, usize>,
    held: Vec<Reservation>,
}

impl Scan {
    async fn new(
        kind: TableKind,
        sources: Vec<Source>,
        request: ScanRequest,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Self, SegmentError> {
        let ScanRequest {
            fields,
            matchers,
            range,
            edge,
        } = request;
        let mut scan = Self::of_sources(kind, sources, fields, range);
        scan.edge = edge;
        let lookups: Vec<_> = scan
            .sources
            .iter()
            .map(|source| match source {
                Source::Segment(_, _, segment) => Some(Arc::clone(segment)),
                Source::Rows(..) => None,
            })
            .map(|segment| {
                let matchers = &matchers;
                async move {
                    match segment {
                        Some(segment) => segment.index().select(matchers, range, meter).await,
                        None => Ok(FoundSeries {
                            series: Vec::new(),
                            held: None,
                        }),
                    }
                }
            })
            .collect();
        let mut lookups = stream::iter(lookups).buffered(LOOKUPS_AT_ONCE).enumerate();
        while let Some((number, found)) = lookups.next().await {
            match &scan.sources[number] {
                Source::Segment(..) => {
                    let found = found?;
                    scan.add_series(number, found.series);
                    scan.held.extend(found.held);
                }
                Source::Rows(..) => scan.add_rows(number, &matchers),
            }
        }
        drop(lookups);
        Ok(scan)
    }

    fn of_sources(
        kind: TableKind,
        mut sources: Vec<Source>,
        fields: Arc<[Column]>,
        range: TimeRange,
    ) -> Self {
        sources.sort_by_key(Source::order);
        Self {
            kind,
            sources,
            fields,
            range,
            edge: None,
            unit_series: usize::MAX,
            ends_at_groups: true,
            slots: Vec::new(),
            by_id: HashMap::new(),
            held: Vec::new(),
        }
    }

    fn add(&mut self, series: &Arc<Series>, run: SlotRun) {
        let slots = &mut self.slots;
        let at = *self.by_id.entry(series.id).or_insert_with(|| {
            slots.push(Slot {
                series: Arc::clone(series),
                runs: Vec::new(),
            });
            slots.len() - 1
        });
        // Mostly there are one or two, and there may be millions of series.
        let runs = &mut self.slots[at].runs;
        runs.reserve_exact(1);
        runs.push(run);
    }

    /// Adds what was found in the index of a segment.
    fn add_series(&mut self, source: usize, found: Vec<IndexedSeries>) {
        let tombstones = match &self.sources[source] {
            Source::Segment(_, tombstones, _) => Arc::clone(tombstones),
            Source::Rows(..) => Arc::from([]),
        };
        for one in found {
            let deleted = deleted_times(&tombstones, &one.series.labels);
            if !deleted
                .iter()
                .any(|range| range.intersect(&one.time) == one.time)
            {
                let rows = one.first_row..one.first_row + one.rows;
                self.add(
                    &one.series,
                    SlotRun {
                        source: source as u32,
                        rows,
                        time: one.time,
                        deleted: deleted.into(),
                    },
                );
            }
        }
    }

    /// Adds rows in memory whose series pass.
    fn add_rows(&mut self, source: usize, matchers: &[Matcher]) {
        let Source::Rows(_, rows) = &self.sources[source] else {
            return;
        };
        let rows = Arc::clone(rows);
        for run in &rows.runs {
            if rows.has(run, matchers, self.range) {
                self.add_run(source, &rows, run);
            }
        }
    }

    fn add_run(&mut self, source: usize, rows: &SortedRows, run: &SeriesRun) {
        let range = run.rows();
        self.add(
            &run.series,
            SlotRun {
                source: source as u32,
                rows: range.start as u64..range.end as u64,
                time: rows.time_of(run),
                deleted: Box::default(),
            },
        );
    }

    /// Sorts the series, of which each is there.
    fn sort(&mut self, order: &SortOrder) {
        self.by_id = HashMap::new();
        sort::sort(&mut self.slots, order, |slot| &slot.series);
    }

    fn into_plan(self) -> ScanPlan {
        let has_orders: Arc<[bool]> = self.sources.iter().map(Source::has_orders).collect();
        let has_versions = |slot: &Slot| {
            let mut runs = slot.runs.iter();
            self.kind == TableKind::Wide && runs.any(|run| has_orders[run.source as usize])
        };
        let sources = Arc::new(self.sources);
        let fields = self.fields.len().max(1) as u64;
        let unit_rows = UNIT_ROWS.min(UNIT_VALUES / fields).max(MIN_UNIT_ROWS);
        let mut units: Vec<ScanUnit> = Vec::new();
        let mut of_unit = Rows::Any;
        for mut slot in self.slots {
            let has_versions = has_versions(&slot);
            let known = (!has_versions).then(|| slot.known(self.range)).flatten();
            if let Some(edge) = self.edge.filter(|_| !has_versions) {
                edge.trim(&mut slot, self.range);
            }
            let rows: u64 = slot
                .runs
                .iter()
                .map(|run| run.rows.end - run.rows.start)
                .sum();
            let of_slot = Rows::of(&slot);
            let is_end = self.ends_at_groups
                && units
                    .last()
                    .is_some_and(|unit| of_unit.end_before(unit.rows, of_slot));
            match units.last_mut() {
                Some(unit)
                    if !is_end
                        && unit.rows + rows <= unit_rows
                        && unit.slots.len() < self.unit_series =>
                {
                    unit.rows += rows;
                    unit.known = unit.known.zip(known).map(|(a, b)| a.union(&b));
                    unit.slots.push(slot);
                    if of_slot != of_unit {
                        of_unit = Rows::Any;
                    }
                }
                _ => {
                    of_unit = match of_slot {
                        Rows::Any if is_end => Rows::Between,
                        of_slot => of_slot,
                    };
                    units.push(ScanUnit {
                        kind: self.kind,
                        sources: Arc::clone(&sources),
                        has_orders: Arc::clone(&has_orders),
                        fields: Arc::clone(&self.fields),
                        range: self.range,
                        slots: vec![slot],
                        rows,
                        known,
                    });
                }
            }
        }
        ScanPlan {
            units,
            held: self.held,
        }
    }
}

/// What the series of a unit have in common. Units of queries end where a row group of their source
/// does, if they have most of it: its rows need not be copied then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// All are in one row group of one source.
    OfGroup(u32, u64),
    /// One series that goes on from the row group of the unit before to that of the next.
    Between,
    Any,
}

impl Rows {
    fn of(slot: &Slot) -> Self {
        let group = |row: u64| row / ROW_GROUP_ROWS as u64;
        match &slot.runs[..] {
            [run] if group(run.rows.start) == group(run.rows.end.saturating_sub(1)) => {
                Self::OfGroup(run.source, group(run.rows.start))
            }
            _ => Self::Any,
        }
    }

    /// Whether a unit of so many rows ends before a series.
    fn end_before(self, rows: u64, next: Self) -> bool {
        match self {
            Self::OfGroup(..) => self != next && 2 * rows >= ROW_GROUP_ROWS as u64,
            Self::Between => next != Self::Any,
            Self::Any => false,
        }
    }
}

/// The times at which tombstones delete the rows of a series.
pub(super) fn deleted_times(tombstones: &[Arc<Tombstone>], labels: &Labels) -> Vec<TimeRange> {
    // Without tombstones, as nearly always, nothing is allocated.
    tombstones
        .iter()
        .filter(|tombstone| tombstone.concerns(labels))
        .map(|tombstone| tombstone.range)
        .collect()
}

impl ScanUnit {
    /// At most so many rows come out.
    pub fn rows_bound(&self) -> u64 {
        self.rows
    }

    /// First and last time of all rows of the series in the range, if they are known; exactly
    /// [`rows_bound`](Self::rows_bound) come out then.
    pub fn known(&self) -> Option<TimeRange> {
        self.known
    }

    /// The series of the unit; some may turn out to have no rows in the range.
    pub fn series(&self) -> impl ExactSizeIterator<Item = &Arc<Series>> {
        self.slots.iter().map(|slot| &slot.series)
    }

    /// Reads and merges.
    pub async fn read(&self) -> Result<SortedRows, SegmentError> {
        self.read_counted(None).await
    }

    /// The same, with what it asks of the store and the rows that come out counted.
    pub async fn read_counted(
        &self,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<SortedRows, SegmentError> {
        // Only the sources that hold anything of this unit become inputs, in write order.
        let mut used: Vec<usize> = self
            .slots
            .iter()
            .flat_map(|slot| slot.runs.iter().map(|run| run.source as usize))
            .collect();
        used.sort_unstable();
        used.dedup();
        let is_contested = has_orders(&self.fields)
            || (self.kind == TableKind::Wide && used.iter().any(|&source| self.has_orders[source]))
            || self.slots.iter().any(|slot| slot.runs.len() > 1);
        let loads = used.iter().map(|&source| {
            let with_orders = is_contested && self.has_orders[source];
            self.load(source, with_orders, meter)
        });
        let loaded = try_join_all(loads).await?;
        let mut starts: Vec<HashMap<u64, Range<usize>>> = Vec::with_capacity(loaded.len());
        let mut inputs = Vec::with_capacity(loaded.len());
        for (input, rows) in loaded {
            inputs.push(input);
            starts.push(rows);
        }
        let runs = |slot: &Slot| {
            let run = |run: &SlotRun| {
                let input = used.binary_search(&(run.source as usize)).ok()?;
                Some(Run {
                    input,
                    rows: starts[input].get(&run.rows.start)?.clone(),
                    deleted: run.deleted.to_vec(),
                })
            };
            slot.runs.iter().filter_map(run).collect()
        };
        let series = self
            .slots
            .iter()
            .map(|slot| SeriesRuns {
                series: Arc::clone(&slot.series),
                runs: runs(slot),
            })
            .collect();
        let rows = merge(
            self.kind,
            Arc::clone(&self.fields),
            &inputs,
            series,
            self.range,
        )?;
        if let Some(meter) = meter {
            meter.read(rows.len());
        }
        Ok(rows)
    }

    /// The rows of one source, and where in them each run lies (by its first row in the source).
    async fn load(
        &self,
        source: usize,
        with_orders: bool,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<(Input, HashMap<u64, Range<usize>>), SegmentError> {
        let mut ranges: Vec<Range<u64>> = self
            .slots
            .iter()
            .flat_map(|slot| {
                slot.runs
                    .iter()
                    .filter(|run| run.source as usize == source)
                    .map(|run| run.rows.clone())
            })
            .collect();
        ranges.sort_unstable_by_key(|r| r.start);
        match &self.sources[source] {
            Source::Rows(_, rows) => {
                let columns = project(&rows.fields, &rows.columns, &self.fields, rows.len());
                let orders = rows.column(ORDER_COLUMN).filter(|_| with_orders);
                let positions = ranges
                    .iter()
                    .map(|r| (r.start, r.start as usize..r.end as usize))
                    .collect();
                let input = self.input(source, rows.time.clone(), columns, orders)?;
                Ok((input, positions))
            }
            Source::Segment(_, _, segment) => {
                let mut positions = HashMap::with_capacity(ranges.len());
                let mut at = 0;
                for range in &ranges {
                    let len = (range.end - range.start) as usize;
                    positions.insert(range.start, at..at + len);
                    at += len;
                }
                // Neighbouring runs become one range.
                let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
                for range in ranges {
                    match joined.last_mut() {
                        Some(last) if last.end == range.start => last.end = range.end,
                        _ => joined.push(range),
                    }
                }
                let mut fields = Cow::Borrowed(&self.fields[..]);
                let asks_for_orders = with_orders && !has_orders(&fields);
                if asks_for_orders {
                    fields.to_mut().push(order_column());
                }
                let (time, mut columns) = segment.read(&joined, &fields, meter.cloned()).await?;
                let orders = match with_orders {
                    true if asks_for_orders => columns.pop(),
                    true => self.order_of(&columns).cloned(),
                    false => None,
                };
                let input = self.input(source, time, columns, orders.as_ref())?;
                Ok((input, positions))
            }
        }
    }

    /// The column of orders, if it is asked for.
    fn order_of<'a>(&self, columns: &'a [FieldArray]) -> Option<&'a FieldArray> {
        let mut fields = self.fields.iter();
        columns.get(fields.position(|field| &*field.name == ORDER_COLUMN)?)
    }

    fn input(
        &self,
        source: usize,
        time: ScalarBuffer<i64>,
        mut columns: Vec<FieldArray>,
        orders: Option<&FieldArray>,
    ) -> Result<Input, SegmentError> {
        let source = &self.sources[source];
        let orders = RowOrders::of(orders, source.order()).ok_or_else(|| {
            SegmentError::corrupt(&source.name(), format!("its {ORDER_COLUMN} is no number"))
        })?;
        let asked = self.fields.iter().zip(&mut columns);
        for (_, column) in asked.filter(|(field, _)| &*field.name == ORDER_COLUMN) {
            *column = orders.to_column(time.len());
        }
        Ok(Input {
            time,
            columns,
            orders,
        })
    }
}
