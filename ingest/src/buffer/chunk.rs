//! A chunk: rows as they came, and once frozen, sorted.

use std::sync::{Arc, OnceLock};

use arrow::array::BooleanBufferBuilder;
use parking_lot::Mutex;
use tidelake_catalog::model::{Column, TableKind, TimeRange};
use tidelake_catalog::segment::scan::{ScanRequest, Source, WriteOrder, plan};
use tidelake_catalog::segment::{SeriesRun, SortedRows};

use super::sort::sort;
use crate::rows::{FieldColumn, FieldValues, Rows};
use crate::series_registry::SeriesRegistry;

/// A field of an open chunk. It may be shorter than the chunk: the rows after its end lack it.
#[derive(Debug)]
pub(super) struct OpenColumn {
    pub(super) column: Column,
    pub(super) values: FieldValues,
    /// `None` while all rows so far have the field.
    pub(super) validity: Option<BooleanBufferBuilder>,
    pub(super) len: usize,
}

/// Rows in the order of the log.
#[derive(Debug)]
pub(super) struct OpenChunk {
    pub(super) kind: TableKind,
    registry: Arc<SeriesRegistry>,
    pub(super) series: Vec<u32>,
    pub(super) time: Vec<i64>,
    pub(super) columns: Vec<OpenColumn>,
    bytes: usize,
}

impl OpenColumn {
    fn new(column: Column) -> Self {
        Self {
            values: FieldValues::empty(column.kind),
            column,
            validity: None,
            len: 0,
        }
    }

    /// Rows up to `rows` lack the field.
    pub(super) fn pad_to(&mut self, rows: usize) {
        if self.len >= rows {
            return;
        }
        let missing = rows - self.len;
        let len = self.len;
        let validity = self.validity.get_or_insert_with(|| {
            let mut all = BooleanBufferBuilder::new(rows);
            all.append_n(len, true);
            all
        });
        validity.append_n(missing, false);
        match &mut self.values {
            FieldValues::Float(v) => v.resize(rows, 0.0),
            FieldValues::Integer(v) => v.resize(rows, 0),
            FieldValues::Unsigned(v) => v.resize(rows, 0),
            FieldValues::Boolean(v) => v.resize(rows, false),
            FieldValues::String { ends, bytes } => ends.resize(rows, bytes.len() as u32),
            FieldValues::Histogram(_) => {}
        }
        self.len = rows;
    }

    fn append(&mut self, field: FieldColumn, rows: usize) {
        let before = self.len;
        match (&mut self.values, field.values) {
            (FieldValues::Float(to), FieldValues::Float(from)) => to.extend_from_slice(&from),
            (FieldValues::Integer(to), FieldValues::Integer(from)) => to.extend_from_slice(&from),
            (FieldValues::Unsigned(to), FieldValues::Unsigned(from)) => to.extend_from_slice(&from),
            (FieldValues::Boolean(to), FieldValues::Boolean(from)) => to.extend_from_slice(&from),
            (
                FieldValues::String { ends, bytes },
                FieldValues::String {
                    ends: new_ends,
                    bytes: new_bytes,
                },
            ) => {
                let base = bytes.len() as u32;
                bytes.extend_from_slice(&new_bytes);
                ends.extend(new_ends.into_iter().map(|end| base + end));
            }
            (FieldValues::Histogram(to), FieldValues::Histogram(from)) => {
                to.extend(from.into_iter().map(|(row, h)| (before as u32 + row, h)));
            }
            // The schema fixes a column's kind before its rows come here.
            (_, _) => return,
        }
        match (&mut self.validity, field.validity) {
            (None, None) => {}
            (Some(all), None) => all.append_n(rows, true),
            (all, Some(new)) => {
                let all = all.get_or_insert_with(|| {
                    let mut all = BooleanBufferBuilder::new(before + rows);
                    all.append_n(before, true);
                    all
                });
                all.append_buffer(new.inner());
            }
        }
        self.len = before + rows;
    }
}

impl OpenChunk {
    pub(super) fn new(kind: TableKind, registry: Arc<SeriesRegistry>) -> Self {
        Self {
            kind,
            registry,
            series: Vec::new(),
            time: Vec::new(),
            columns: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn same_registry(&self, registry: &Arc<SeriesRegistry>) -> bool {
        Arc::ptr_eq(&self.registry, registry)
    }

    pub(super) fn rows(&self) -> usize {
        self.time.len()
    }

    pub(super) fn append(&mut self, rows: Rows, bytes: usize) {
        let (before, added) = (self.rows(), rows.len());
        for field in rows.fields {
            let at = match self
                .columns
                .iter()
                .position(|c| c.column.name == field.name)
            {
                Some(at) => at,
                None => {
                    self.columns.push(OpenColumn::new(Column {
                        name: Arc::clone(&field.name),
                        kind: field.kind,
                    }));
                    self.columns.len() - 1
                }
            };
            let column = &mut self.columns[at];
            column.pad_to(before);
            column.append(field, added);
        }
        self.series.extend_from_slice(&rows.series);
        self.time.extend_from_slice(&rows.time);
        self.bytes += bytes;
    }
}

/// A frozen chunk.
pub(super) struct Chunk {
    order: u64,
    rows: usize,
    bytes: usize,
    time: TimeRange,
    /// Until somebody needs the sorted rows.
    open: Mutex<Option<OpenChunk>>,
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
    pub(super) fn new(open: OpenChunk, order: u64) -> Self {
        let ends = open
            .time
            .iter()
            .fold((i64::MAX, i64::MIN), |(min, max), &t| {
                (min.min(t), max.max(t))
            });
        Self {
            order,
            rows: open.rows(),
            bytes: open.bytes,
            time: TimeRange::new(ends.0, ends.1),
            open: Mutex::new(Some(open)),
            sorted: OnceLock::new(),
        }
    }

    /// One chunk with the rows of several; takes the place of the last in the order of writes.
    pub(super) fn merge(kind: TableKind, chunks: &[Arc<Chunk>]) -> Option<Self> {
        let order = chunks.last()?.order;
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
            sources.push(Source::Rows(WriteOrder::Recent(chunk.order), rows));
        }
        let request = ScanRequest {
            fields: fields.into(),
            matchers: Vec::new(),
            range: TimeRange::ALL,
        };
        let units = plan(kind, sources, request, None).units;
        // Small chunks are fewer rows than one unit holds; anything else stays as it is.
        let [unit] = units.as_slice() else {
            return None;
        };
        let rows = futures::executor::block_on(unit.read()).ok()?;
        let time = chunks.iter().map(|c| c.time).reduce(|a, b| a.union(&b))?;
        let sorted = OnceLock::new();
        let count = rows.len();
        let _ = sorted.set(Arc::new(rows));
        Some(Self {
            order,
            rows: count,
            bytes: chunks.iter().map(|c| c.bytes).sum(),
            time,
            open: Mutex::new(None),
            sorted,
        })
    }

    pub(super) fn order(&self) -> u64 {
        self.order
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn time_range(&self) -> TimeRange {
        self.time
    }

    /// The rows, sorted by the first who asks.
    pub(super) fn sorted(&self) -> Arc<SortedRows> {
        let make = || {
            let open = self.open.lock().take();
            Arc::new(open.map_or_else(empty, |open| {
                let registry = Arc::clone(&open.registry);
                let mut sorted = sort(open);
                let entries = registry.entries();
                let runs = std::mem::take(&mut sorted.runs).into_iter();
                let known = runs.filter_map(|(series, rows)| {
                    Some(SeriesRun {
                        series: Arc::clone(&entries.get(series)?.series),
                        rows,
                    })
                });
                SortedRows {
                    runs: known.collect(),
                    time: sorted.time.into(),
                    fields: sorted.fields.into(),
                    columns: sorted.columns,
                }
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
