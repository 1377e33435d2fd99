//! Rows of series while they are worked on.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::{concat, filter, take};
use arrow::error::ArrowError;

use super::error::InfluxqlError;
use super::value::Column;

/// The group that rows are in: a measurement, and the values of the tags that are grouped by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The measurement.
    pub name: Arc<str>,
    /// The values, empty where a series has none, in the order of the query's dimensions.
    pub tags: Arc<[Arc<str>]>,
}

/// Rows of one series, ascending in time.
#[derive(Debug, Clone)]
pub struct Run {
    /// Their group.
    pub key: GroupKey,
    /// Their times in ns.
    pub times: ScalarBuffer<i64>,
    /// A column for each slot of the query.
    pub columns: Vec<Column>,
}

impl Run {
    /// Leaves the rows that are set.
    pub fn filter(&mut self, keep: &BooleanBuffer) -> Result<(), InfluxqlError> {
        let kept = keep.count_set_bits();
        if kept == self.times.len() {
            return Ok(());
        }
        let mask = arrow::array::BooleanArray::new(keep.clone(), None);
        let times: Vec<i64> = keep.set_indices().map(|row| self.times[row]).collect();
        self.times = times.into();
        for column in &mut self.columns {
            match column {
                Column::Absent | Column::Text(_) => {}
                Column::Array(array) => *array = filter(array, &mask).map_err(internal)?,
                Column::Texts(_, which) => {
                    *which = keep.set_indices().map(|row| which[row]).collect();
                }
                Column::Values(values) => {
                    let mut row = 0;
                    values.retain(|_| {
                        row += 1;
                        keep.value(row - 1)
                    });
                }
            }
        }
        Ok(())
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        let columns: usize = self.columns.iter().map(Column::memory_size).sum();
        columns + self.times.len() * 8
    }
}

/// All rows of a group, in the order of time or backwards.
#[derive(Debug)]
pub struct Rows {
    /// Their times in ns.
    pub times: Vec<i64>,
    /// A column for each slot of the query.
    pub columns: Vec<Column>,
}

impl Rows {
    /// Joins runs in the order of time, or if `is_sorted`, one after the other. Of rows of one
    /// time, those of earlier runs come first. `most` rows are left of those after `skip`.
    pub fn join(
        mut runs: Vec<Run>,
        is_sorted: bool,
        ascending: bool,
        skip: usize,
        most: usize,
    ) -> Result<Self, InfluxqlError> {
        if let [run] = runs.as_mut_slice() {
            let rows = run.times.len();
            let (start, end) = (skip.min(rows), skip.saturating_add(most).min(rows));
            if ascending {
                let columns = std::mem::take(&mut run.columns).into_iter();
                return Ok(Self {
                    times: run.times[start..end].to_vec(),
                    columns: columns
                        .map(|column| slice(column, start, end - start))
                        .collect(),
                });
            }
        }
        let total: usize = runs.iter().map(|run| run.times.len()).sum();
        if u32::try_from(total).is_err() {
            return Err(InfluxqlError::invalid(
                "the query reads more than 2^32 rows at once",
            ));
        }
        // (time, run, row of all runs one after the other)
        let mut order: Vec<(i64, u32, u32)> = Vec::with_capacity(total);
        for (number, run) in runs.iter().enumerate() {
            let first = order.len();
            let rows = run.times.iter().enumerate();
            order.extend(rows.map(|(row, time)| (*time, number as u32, (first + row) as u32)));
        }
        if !is_sorted {
            order.sort_by_key(|(time, ..)| *time);
        }
        if !ascending {
            order.reverse();
        }
        let start = skip.min(total);
        let end = skip.saturating_add(most).min(total);
        let order = &order[start..end];
        let slots = runs.first().map_or(0, |run| run.columns.len());
        let picks = UInt32Array::from_iter_values(order.iter().map(|(.., row)| *row));
        let which: Arc<[u32]> = order.iter().map(|(_, run, _)| *run).collect();
        let columns = (0..slots)
            .map(|slot| join_column(&runs, slot, &picks, &which))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            times: order.iter().map(|(time, ..)| *time).collect(),
            columns,
        })
    }
}

fn slice(column: Column, start: usize, len: usize) -> Column {
    match column {
        Column::Array(array) => Column::Array(array.slice(start, len)),
        Column::Texts(texts, which) => Column::Texts(texts, which[start..start + len].into()),
        Column::Values(mut values) => {
            values.truncate(start + len);
            Column::Values(values.split_off(start))
        }
        column @ (Column::Absent | Column::Text(_)) => column,
    }
}

fn join_column(
    runs: &[Run],
    slot: usize,
    picks: &UInt32Array,
    which: &Arc<[u32]>,
) -> Result<Column, InfluxqlError> {
    let columns = || runs.iter().map(|run| &run.columns[slot]);
    if columns().all(|column| matches!(column, Column::Absent)) {
        return Ok(Column::Absent);
    }
    if columns().all(|column| matches!(column, Column::Absent | Column::Text(_))) {
        let text = |column: &Column| match column {
            Column::Text(text) => Some(Arc::clone(text)),
            _ => None,
        };
        return Ok(Column::Texts(
            columns().map(text).collect(),
            Arc::clone(which),
        ));
    }
    let kind = columns().find_map(|column| match column {
        Column::Array(array) => Some(array.data_type().clone()),
        _ => None,
    });
    let is_array = |column: &Column| matches!(column, Column::Absent | Column::Array(_));
    if let Some(kind) = kind
        && columns().all(is_array)
    {
        let arrays: Vec<ArrayRef> = runs
            .iter()
            .map(|run| match &run.columns[slot] {
                Column::Array(array) => Arc::clone(array),
                _ => new_null_array(&kind, run.times.len()),
            })
            .collect();
        let arrays: Vec<&dyn Array> = arrays.iter().map(|array| &**array).collect();
        let joined = concat(&arrays).map_err(internal)?;
        return Ok(Column::Array(take(&joined, picks, None).map_err(internal)?));
    }
    // Columns of different kinds, of several sources.
    let mut starts = Vec::with_capacity(runs.len());
    let mut first = 0;
    for run in runs {
        starts.push(first);
        first += run.times.len();
    }
    let rows = picks.values().iter().zip(which.iter());
    let values = rows.map(|(row, run)| {
        let run = *run as usize;
        runs[run].columns[slot]
            .get(*row as usize - starts[run])
            .to_value()
    });
    Ok(Column::Values(values.collect()))
}

pub(super) fn internal(error: ArrowError) -> InfluxqlError {
    InfluxqlError::Internal(format!("columns of one field do not fit together: {error}"))
}
