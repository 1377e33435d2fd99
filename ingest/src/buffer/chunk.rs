//! A chunk: rows as they came, and once frozen, sorted.

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidelake_catalog::model::{Column, TableKind, TimeRange};
use tidelake_catalog::segment::scan::{ScanRequest, plan_rows};
use tidelake_catalog::segment::{ORDER_COLUMN, SeriesRun, SortedRows, WriteOrder};

use super::RecentRows;
use super::held::Counted;
use super::sort::sort;
use crate::column::FieldColumn;
use crate::rows::Rows;
use crate::series_registry::SeriesRegistry;

/// Rows in the order of the log.
#[derive(Debug)]
pub(super) struct OpenChunk {
    pub(super) kind: TableKind,
    registry: Arc<SeriesRegistry>,
    pub(super) series: Vec<u32>,
    pub(super) time: Vec<i64>,
    pub(super) columns: Vec<FieldColumn>,
    /// Lowest and highest place in the order of writes.
    orders: Option<(u64, u64)>,
    columns_by_name: HashMap<Arc<str>, usize>,
    /// What the columns hold.
    column_bytes: usize,
    counted: Counted,
}

impl OpenChunk {
    pub(super) fn new(kind: TableKind, registry: Arc<SeriesRegistry>, counted: Counted) -> Self {
        Self {
            kind,
            registry,
            series: Vec::new(),
            time: Vec::new(),
            columns: Vec::new(),
            orders: None,
            columns_by_name: HashMap::new(),
            column_bytes: 0,
            counted,
        }
    }

    pub(super) fn same_registry(&self, registry: &Arc<SeriesRegistry>) -> bool {
        Arc::ptr_eq(&self.registry, registry)
    }

    pub(super) fn rows(&self) -> usize {
        self.time.len()
    }

    /// Whether rows with or without orders of their own can be appended.
    pub(super) fn takes(&self, rows: &Rows) -> bool {
        let is_first = self.columns.is_empty();
        is_first || self.columns_by_name.contains_key(ORDER_COLUMN) == rows.has_orders()
    }

    /// Bytes of memory, spare capacity included.
    pub(super) fn bytes(&self) -> usize {
        self.column_bytes + self.series.capacity() * 4 + self.time.capacity() * 8
    }

    /// Appends rows that were written together. Either all rows of a chunk have their orders, or
    /// none.
    pub(super) fn append(&mut self, rows: Rows, order: u64) {
        let before = self.rows();
        let (first, last) = self.orders.unwrap_or((order, order));
        self.orders = Some((first.min(order), last.max(order)));
        if before == 0 {
            // Nothing is copied: a large body fills a chunk of its own.
            return self.take(rows);
        }
        // Bodies of one sender bring their fields in the same order.
        let mut next = 0;
        for field in rows.fields {
            let at = match self.columns.get(next) {
                Some(column) if column.name == field.name => next,
                _ => self.column(&field),
            };
            next = at + 1;
            let column = &mut self.columns[at];
            let bytes = column.bytes();
            column.append(field, before);
            self.column_bytes += column.bytes() - bytes;
        }
        self.series.extend_from_slice(&rows.series);
        self.time.extend_from_slice(&rows.time);
        self.counted.set(self.bytes());
    }

    /// The first rows, as they are.
    fn take(&mut self, rows: Rows) {
        for field in rows.fields {
            let at = self.column(&field);
            self.column_bytes += field.bytes();
            self.columns[at] = field;
        }
        self.series = rows.series;
        self.time = rows.time;
        self.counted.set(self.bytes());
    }

    /// The place of a field's column, made if need be.
    fn column(&mut self, field: &FieldColumn) -> usize {
        if let Some(&at) = self.columns_by_name.get(&field.name) {
            return at;
        }
        let at = self.columns.len();
        self.columns
            .push(FieldColumn::new(Arc::clone(&field.name), field.kind));
        self.columns_by_name.insert(Arc::clone(&field.name), at);
        // Its name, and its place in the list and the index.
        self.column_bytes += 2 * size_of::<FieldColumn>();
        at
    }
}

/// A frozen chunk.
pub(super) struct Chunk {
    id: u64,
    order: WriteOrder,
    rows: usize,
    time: TimeRange,
    /// Until the sorted rows are needed.
    open: Mutex<Option<OpenChunk>>,
    /// The memory of the sorted rows.
    counted: Mutex<Counted>,
    sorted: OnceLock<Arc<SortedRows>>,
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunk")
            .field("order", &self.order)
            .field("rows", &self.rows)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

impl Chunk {
    pub(super) fn new(open: OpenChunk, id: u64) -> Self {
        let ends = open
            .time
            .iter()
            .fold((i64::MAX, i64::MIN), |(min, max), &t| {
                (min.min(t), max.max(t))
            });
        Self {
            id,
            order: WriteOrder::of(open.orders.unwrap_or_default()).part(id),
            rows: open.rows(),
            time: TimeRange::new(ends.0, ends.1),
            counted: Mutex::new(open.counted.sibling()),
            open: Mutex::new(Some(open)),
            sorted: OnceLock::new(),
        }
    }

    /// One chunk with the rows of several neighbours.
    pub(super) fn merge(kind: TableKind, id: u64, chunks: &[Arc<Chunk>]) -> Option<Self> {
        let orders = chunks.iter().map(|chunk| chunk.order);
        let order = orders.reduce(WriteOrder::union)?;
        let mut fields: Vec<Column> = Vec::new();
        let mut sources = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let rows = chunk.sorted();
            fields.extend(
                rows.fields
                    .iter()
                    .filter(|f| !fields.iter().any(|known| known.name == f.name))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            sources.push((chunk.order, rows));
        }
        let request = ScanRequest {
            fields: fields.into(),
            matchers: Vec::new(),
            range: TimeRange::ALL,
            edge: None,
        };
        let units = plan_rows(kind, sources, request).units;
        // Small chunks are fewer rows than one unit holds; anything else stays as it is.
        let [unit] = units.as_slice() else {
            return None;
        };
        let rows = futures::executor::block_on(unit.read()).ok()?;
        let time = chunks.iter().map(|c| c.time).reduce(|a, b| a.union(&b))?;
        let mut counted = chunks.last()?.counted.lock().sibling();
        counted.set(rows.memory_size());
        let sorted = OnceLock::new();
        let count = rows.len();
        let _ = sorted.set(Arc::new(rows));
        Some(Self {
            id,
            order,
            rows: count,
            counted: Mutex::new(counted),
            time,
            open: Mutex::new(None),
            sorted,
        })
    }

    /// Its rows, sorted.
    pub(super) fn recent(&self) -> RecentRows {
        RecentRows {
            id: self.id,
            order: self.order,
            rows: self.sorted(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn time_range(&self) -> TimeRange {
        self.time
    }

    pub(super) fn is_sorted(&self) -> bool {
        self.sorted.get().is_some()
    }

    /// The rows, sorted at the first call.
    pub(super) fn sorted(&self) -> Arc<SortedRows> {
        let make = || {
            let open = self.open.lock().take();
            Arc::new(open.map_or_else(empty, |open| {
                let registry = Arc::clone(&open.registry);
                // As much again while both are there.
                self.counted.lock().set(open.bytes());
                let mut sorted = sort(open);
                let entries = registry.entries();
                let runs = std::mem::take(&mut sorted.runs).into_iter();
                let known = runs.filter_map(|(series, rows)| {
                    Some(SeriesRun::new(
                        Arc::clone(&entries.get(series)?.series),
                        rows,
                    ))
                });
                let rows = SortedRows {
                    runs: known.collect(),
                    time: sorted.time.into(),
                    fields: sorted.fields.into(),
                    columns: sorted.columns,
                };
                self.counted.lock().set(rows.memory_size());
                rows
            }))
        };
        Arc::clone(self.sorted.get_or_init(make))
    }
}

fn empty() -> SortedRows {
    SortedRows {
        runs: Vec::<SeriesRun>::new(),
        time: Vec::new().into(),
        fields: Arc::from([]),
        columns: Vec::new(),
    }
}
