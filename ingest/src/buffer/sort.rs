//! Sorts the rows of a chunk by series and time.
//!
//! Of rows with one series and time the one that came last wins, in wide tables field by field;
//! exemplars are all kept unless they are the same in everything. Where rows keep their orders,
//! since those of other processes may lie between them, a wide table keeps every row of one time
//! that has a field which no later one has. The rows are put in order by a counting sort over the
//! series' numbers; times are compared only within a series, and mostly only to see that they
//! ascend already.

use std::cmp::Ordering;
use std::ops::Range;

use tidelake_catalog::model::{Column, TableKind};
use tidelake_catalog::segment::field_array::NOWHERE;
use tidelake_catalog::segment::{FieldArray, ORDER_COLUMN};

use super::chunk::OpenChunk;
use crate::column::{FieldColumn, FieldValues};

/// Sorted rows whose series are still numbers of the registry.
pub(super) struct Sorted {
    pub(super) runs: Vec<(u32, Range<usize>)>,
    pub(super) time: Vec<i64>,
    pub(super) fields: Vec<Column>,
    pub(super) columns: Vec<FieldArray>,
}

/// A row that came several times: its place, and all of them, the last first.
struct Repeated {
    at: usize,
    rows: Vec<u32>,
}

pub(super) fn sort(mut chunk: OpenChunk) -> Sorted {
    let rows = chunk.rows();
    let columns = std::mem::take(&mut chunk.columns);
    let versions = Versions::of(chunk.kind, &columns);
    let order = by_series(&chunk.series);
    let mut picked: Vec<u32> = Vec::with_capacity(rows);
    let mut repeated: Vec<Repeated> = Vec::new();
    let mut runs = Vec::new();
    let mut at = 0;
    while at < rows {
        let series = chunk.series[order[at] as usize];
        let mut end = at + 1;
        while end < rows && chunk.series[order[end] as usize] == series {
            end += 1;
        }
        let start = picked.len();
        if chunk.kind == TableKind::Exemplars {
            pick_distinct(&order[at..end], &chunk.time, &columns, &mut picked);
        } else {
            let rows = &order[at..end];
            pick(rows, &chunk.time, versions, &mut picked, &mut repeated);
        }
        runs.push((series, start..picked.len()));
        at = end;
    }
    if chunk.kind == TableKind::Metrics {
        // A sample is one thing, float or histogram: the last one counts whole.
        repeated.clear();
    }
    let time = picked.iter().map(|&row| chunk.time[row as usize]).collect();
    let places = places(rows, &picked, &repeated);
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for column in columns {
        arrays.push(column.gather(rows, &picked, &places));
        fields.push(Column {
            name: column.name,
            kind: column.kind,
        });
    }
    Sorted {
        runs,
        time,
        fields,
        columns: arrays,
    }
}

/// For each row the one that it becomes; rows that came several times become one.
fn places(rows: usize, picked: &[u32], repeated: &[Repeated]) -> Vec<u32> {
    let mut places = vec![NOWHERE; rows];
    for (place, &row) in (0u32..).zip(picked) {
        places[row as usize] = place;
    }
    for again in repeated {
        for &row in &again.rows {
            places[row as usize] = again.at as u32;
        }
    }
    places
}

/// Row numbers ordered by series; rows of one series stay in the order in which they came.
fn by_series(series: &[u32]) -> Vec<u32> {
    let max = series.iter().copied().max().unwrap_or(0) as usize;
    if max > series.len().saturating_mul(4) {
        // Few rows of a table with many series: counting would touch more memory than the rows
        // take.
        let mut keyed: Vec<u64> = series
            .iter()
            .zip(0u64..)
            .map(|(&s, row)| u64::from(s) << 32 | row)
            .collect();
        keyed.sort_unstable();
        return keyed.into_iter().map(|key| key as u32).collect();
    }
    let mut starts = vec![0u32; max + 2];
    for &s in series {
        starts[s as usize + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut order = vec![0u32; series.len()];
    for (row, &s) in series.iter().enumerate() {
        let place = &mut starts[s as usize];
        order[*place as usize] = row as u32;
        *place += 1;
    }
    order
}

/// Adds the rows of one series by time, each time once.
fn pick(
    rows: &[u32],
    time: &[i64],
    versions: Option<Versions<'_>>,
    picked: &mut Vec<u32>,
    repeated: &mut Vec<Repeated>,
) {
    let time_of = |row: u32| time[row as usize];
    if rows.is_sorted_by(|&a, &b| time_of(a) < time_of(b)) {
        picked.extend_from_slice(rows);
        return;
    }
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|&row| time_of(row));
    let mut add = |same: &[u32]| {
        let Some(&last) = same.last() else { return };
        if same.len() > 1 {
            repeated.push(Repeated {
                at: picked.len(),
                rows: same.iter().rev().copied().collect(),
            });
        }
        picked.push(last);
    };
    for same in sorted.chunk_by(|&a, &b| time_of(a) == time_of(b)) {
        match versions {
            Some(versions) if same.len() > 1 => {
                versions.of_time(same).into_iter().for_each(&mut add)
            }
            _ => add(same),
        }
    }
}

/// What is kept of rows of one series and time that have orders of their own.
#[derive(Clone, Copy)]
struct Versions<'a> {
    orders: &'a [i64],
    columns: &'a [FieldColumn],
}

impl<'a> Versions<'a> {
    fn of(kind: TableKind, columns: &'a [FieldColumn]) -> Option<Self> {
        let is_orders = |column: &&FieldColumn| &*column.name == ORDER_COLUMN;
        let orders = columns.iter().find(is_orders)?;
        match &orders.values {
            FieldValues::Integer(orders) if kind == TableKind::Wide => {
                Some(Self { orders, columns })
            }
            _ => None,
        }
    }

    /// Rows of one time, the last one last, in groups of one order: of those that have a field
    /// which no later one has.
    fn of_time(self, rows: &[u32]) -> Vec<&[u32]> {
        let mut taken = vec![false; self.columns.len()];
        let order = |row: u32| self.orders.get(row as usize);
        let mut groups = Vec::new();
        for group in rows.chunk_by(|&a, &b| order(a) == order(b)).rev() {
            let mut has_news = false;
            for (column, taken) in self.columns.iter().zip(&mut taken) {
                if !*taken && &*column.name != ORDER_COLUMN {
                    let mut has = group.iter().map(|&row| column.position(row as usize));
                    *taken = has.any(|position| position.is_some());
                    has_news |= *taken;
                }
            }
            if has_news {
                groups.push(group);
            }
        }
        groups.reverse();
        groups
    }
}

/// Adds the rows of one series by time, without those that are the same as another.
fn pick_distinct(rows: &[u32], time: &[i64], columns: &[FieldColumn], picked: &mut Vec<u32>) {
    let mut sorted = rows.to_vec();
    let compare = |a: u32, b: u32| {
        let contents = columns
            .iter()
            .map(|column| compare_cells(column, a as usize, b as usize));
        time[a as usize]
            .cmp(&time[b as usize])
            .then_with(|| contents.fold(Ordering::Equal, Ordering::then))
    };
    sorted.sort_by(|&a, &b| compare(a, b));
    sorted.dedup_by(|a, b| compare(*a, *b).is_eq());
    picked.extend(sorted);
}

/// Orders what two rows have of a field, in any way that tells different things apart.
fn compare_cells(column: &FieldColumn, a: usize, b: usize) -> Ordering {
    let (Some(a), Some(b)) = (column.position(a), column.position(b)) else {
        return column.position(a).cmp(&column.position(b));
    };
    match &column.values {
        FieldValues::Float(v) => v[a].total_cmp(&v[b]),
        FieldValues::Integer(v) => v[a].cmp(&v[b]),
        FieldValues::Unsigned(v) => v[a].cmp(&v[b]),
        FieldValues::Boolean(v) => v[a].cmp(&v[b]),
        values @ FieldValues::String { .. } => values.string(a).cmp(&values.string(b)),
        // No such row is compared: only exemplars are.
        FieldValues::Histogram(_) => a.cmp(&b),
    }
}
