//! Plans and runs the reading of series out of several sources.
//!
//! The indexes tell, before any sample is read, which series there are and how many rows each
//! source holds of them. A plan cuts the series into units of bounded size; a unit reads its rows
//! of every source and merges them. Units are independent: queries run them on several threads, the
//! compactor one after the other.

use std::ops::Range;
use std::sync::Arc;

use futures::future::try_join_all;
use hashbrown::HashMap;

use super::column::project;
use super::error::SegmentError;
use super::merge::{Input, Run, SeriesRuns, merge};
use super::meter::ReadMeter;
use super::reader::OpenSegment;
use super::rows::SortedRows;
use super::series::{Series, SortOrder};
use crate::model::{Column, Labels, Matcher, TableKind, TimeRange, Tombstone};

/// Rows that a unit may hold before the next series goes to the next unit.
pub const UNIT_ROWS: u64 = 256 * 1024;

/// Fewer rows than this are not worth a unit, however many fields they have.
const MIN_UNIT_ROWS: u64 = 8 * 1024;

/// More series than this are sorted by comparing their labels: the keys of all of them would take
/// more memory than anything else of a scan.
const MAX_KEYS: usize = 64 * 1024;

/// Values that a unit may hold before the next series goes to the next unit: units of wide tables
/// have fewer rows.
const UNIT_VALUES: u64 = 16 * UNIT_ROWS;

/// The total order of writes: of two rows of one series with one time, the one from the source with
/// the higher order counts. Segments are ordered by the catalog's sequence of the commit that
/// brought their rows; rows not yet in a segment come after all segments, in the order in which
/// they were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteOrder {
    /// In a segment: the catalog sequence.
    Segment(u64),
    /// Not yet in a segment: the number of the chunk.
    Recent(u64),
}

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

    fn order(&self) -> WriteOrder {
        match self {
            Source::Segment(order, ..) | Source::Rows(order, _) => *order,
        }
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
}

/// The rows that a source has of a series.
#[derive(Debug, Clone)]
struct SlotRun {
    source: usize,
    rows: Range<u64>,
    /// Rows of these times are deleted.
    deleted: Vec<TimeRange>,
}

#[derive(Debug, Clone)]
struct Slot {
    series: Arc<Series>,
    runs: Vec<SlotRun>,
}

/// The units of a scan.
#[derive(Debug)]
pub struct ScanPlan {
    /// In the order of the series.
    pub units: Vec<ScanUnit>,
}

/// Some series, whole, from every source.
#[derive(Debug, Clone)]
pub struct ScanUnit {
    kind: TableKind,
    sources: Arc<Vec<Source>>,
    fields: Arc<[Column]>,
    range: TimeRange,
    slots: Vec<Slot>,
    rows: u64,
}

/// Plans a scan. With `order`, series come sorted by it; without, in the order of the sources.
pub fn plan(
    kind: TableKind,
    sources: Vec<Source>,
    request: ScanRequest,
    order: Option<&SortOrder>,
) -> ScanPlan {
    let mut scan = Scan::new(kind, sources, request);
    match order {
        Some(order) if scan.slots.len() > MAX_KEYS => scan
            .slots
            .sort_by(|a, b| order.compare(&a.series.labels, &b.series.labels)),
        Some(order) => scan
            .slots
            .sort_by_cached_key(|slot| order.key(&slot.series.labels)),
        None => {}
    }
    scan.into_plan()
}

/// Plans a scan whose series come in the order of what `key` makes of their labels.
pub fn plan_by<K: Ord>(
    kind: TableKind,
    sources: Vec<Source>,
    request: ScanRequest,
    key: impl Fn(&Labels) -> K,
) -> ScanPlan {
    let mut scan = Scan::new(kind, sources, request);
    scan.slots
        .sort_by_cached_key(|slot| key(&slot.series.labels));
    scan.into_plan()
}

/// The series of a scan before they are cut into units.
struct Scan {
    kind: TableKind,
    sources: Vec<Source>,
    fields: Arc<[Column]>,
    range: TimeRange,
    slots: Vec<Slot>,
}

impl Scan {
    fn new(kind: TableKind, mut sources: Vec<Source>, request: ScanRequest) -> Self {
        sources.sort_by_key(Source::order);
        let mut slots: Vec<Slot> = Vec::new();
        let mut by_id: HashMap<u64, usize> = HashMap::new();
        for (number, source) in sources.iter().enumerate() {
            let mut add = |series: &Arc<Series>, rows: Range<u64>, deleted: Vec<TimeRange>| {
                let at = *by_id.entry(series.id).or_insert_with(|| {
                    slots.push(Slot {
                        series: Arc::clone(series),
                        // Mostly there is one, and there may be millions of series.
                        runs: Vec::with_capacity(1),
                    });
                    slots.len() - 1
                });
                slots[at].runs.push(SlotRun {
                    source: number,
                    rows,
                    deleted,
                });
            };
            match source {
                Source::Segment(_, tombstones, segment) => {
                    for one in segment.index().select(&request.matchers, request.range) {
                        let deleted = deleted_times(tombstones, &one.series.labels);
                        if !deleted
                            .iter()
                            .any(|range| range.intersect(&one.time) == one.time)
                        {
                            add(
                                &one.series,
                                one.first_row..one.first_row + one.rows,
                                deleted,
                            );
                        }
                    }
                }
                Source::Rows(_, rows) => {
                    for run in &rows.runs {
                        let times = rows.times(run);
                        let (Some(&min), Some(&max)) = (times.first(), times.last()) else {
                            continue;
                        };
                        if request.range.overlaps(&TimeRange::new(min, max))
                            && request
                                .matchers
                                .iter()
                                .all(|m| m.matches_labels(&run.series.labels))
                        {
                            add(
                                &run.series,
                                run.rows.start as u64..run.rows.end as u64,
                                Vec::new(),
                            );
                        }
                    }
                }
            }
        }
        Self {
            kind,
            sources,
            fields: request.fields,
            range: request.range,
            slots,
        }
    }

    fn into_plan(self) -> ScanPlan {
        let sources = Arc::new(self.sources);
        let fields = self.fields.len().max(1) as u64;
        let unit_rows = UNIT_ROWS.min(UNIT_VALUES / fields).max(MIN_UNIT_ROWS);
        let mut units: Vec<ScanUnit> = Vec::new();
        for slot in self.slots {
            let rows: u64 = slot
                .runs
                .iter()
                .map(|run| run.rows.end - run.rows.start)
                .sum();
            match units.last_mut() {
                Some(unit) if unit.rows + rows <= unit_rows => {
                    unit.rows += rows;
                    unit.slots.push(slot);
                }
                _ => units.push(ScanUnit {
                    kind: self.kind,
                    sources: Arc::clone(&sources),
                    fields: Arc::clone(&self.fields),
                    range: self.range,
                    slots: vec![slot],
                    rows,
                }),
            }
        }
        ScanPlan { units }
    }
}

/// The times at which tombstones delete the rows of a series.
fn deleted_times(tombstones: &[Arc<Tombstone>], labels: &Labels) -> Vec<TimeRange> {
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
            .flat_map(|slot| slot.runs.iter().map(|run| run.source))
            .collect();
        used.sort_unstable();
        used.dedup();
        let loads = used.iter().map(|&source| self.load(source, meter));
        let loaded = try_join_all(loads).await?;
        let mut starts: Vec<HashMap<u64, Range<usize>>> = Vec::with_capacity(loaded.len());
        let mut inputs = Vec::with_capacity(loaded.len());
        for (input, rows) in loaded {
            inputs.push(input);
            starts.push(rows);
        }
        let runs = |slot: &Slot| {
            let run = |run: &SlotRun| {
                let input = used.binary_search(&run.source).ok()?;
                Some(Run {
                    input,
                    rows: starts[input].get(&run.rows.start)?.clone(),
                    deleted: run.deleted.clone(),
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
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<(Input, HashMap<u64, Range<usize>>), SegmentError> {
        let mut ranges: Vec<Range<u64>> = self
            .slots
            .iter()
            .flat_map(|slot| {
                slot.runs
                    .iter()
                    .filter(|run| run.source == source)
                    .map(|run| run.rows.clone())
            })
            .collect();
        ranges.sort_unstable_by_key(|r| r.start);
        match &self.sources[source] {
            Source::Rows(_, rows) => {
                let columns = project(&rows.fields, &rows.columns, &self.fields, rows.len());
                let positions = ranges
                    .iter()
                    .map(|r| (r.start, r.start as usize..r.end as usize))
                    .collect();
                Ok((
                    Input {
                        time: rows.time.clone(),
                        columns,
                    },
                    positions,
                ))
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
                let (time, columns) = segment.read(&joined, &self.fields, meter.cloned()).await?;
                Ok((Input { time, columns }, positions))
            }
        }
    }
}
