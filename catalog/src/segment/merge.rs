//! Puts the runs of each series together: whole copies where runs do not overlap in time, a merge
//! by time where they do.
//!
//! Of two rows of one series with one time the row with the later write order wins. In wide tables
//! this holds for each field by itself: a later row that leaves a field unset keeps the earlier
//! row's value. In the metrics table a sample is one thing: float or histogram, the later one
//! replaces the earlier. Exemplars replace nothing: of one series and time those that differ in
//! anything are all kept.
//!
//! A merge that keeps the orders of rows, since rows of other sources may lie between them, keeps
//! in wide tables every row of one time that has a field which no later one has.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DynComparator, Float64Array, MutableArrayData, make_array,
    make_comparator,
};
use arrow::buffer::ScalarBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Float64Type};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::error::SegmentError;
use super::field_array::{FieldArray, NOWHERE, is_sparse};
use super::rows::{SeriesRun, SortedRows};
use super::series::Series;
use super::write_order::{ORDER_COLUMN, RowOrders, has_orders};
use crate::model::{Column, TableKind, TimeRange};

/// Rows of one source, ready to be merged. All inputs of a merge have the same fields.
#[derive(Debug)]
pub struct Input {
    /// Times of the rows.
    pub time: ScalarBuffer<i64>,
    /// One per field.
    pub columns: Vec<FieldArray>,
    /// When they were written.
    pub orders: RowOrders,
}

/// A run of one series in an input. Inputs are numbered in write order: of equal times and orders
/// the higher input wins.
#[derive(Debug, Clone)]
pub struct Run {
    /// Which input.
    pub input: usize,
    /// Which of its rows.
    pub rows: Range<usize>,
    /// Without those of these times.
    pub deleted: Vec<TimeRange>,
}

/// All runs of one series.
#[derive(Debug, Clone)]
pub struct SeriesRuns {
    /// Whose runs.
    pub series: Arc<Series>,
    /// In any order; those of one input do not overlap.
    pub runs: Vec<Run>,
}

struct Copy {
    input: usize,
    start: usize,
    len: usize,
}

/// A row that several inputs have: for each field the first candidate with a value counts.
struct Contested {
    copy: usize,
    candidates: Vec<(usize, usize)>,
}

#[derive(Default)]
struct Picks {
    copies: Vec<Copy>,
    contested: Vec<Contested>,
    /// Whether the latest candidate of a row is not always the last of the inputs.
    is_interleaved: bool,
    rows: usize,
}

impl Picks {
    fn push(&mut self, input: usize, rows: Range<usize>) {
        self.rows += rows.len();
        if let Some(last) = self.copies.last_mut()
            && last.input == input
            && last.start + last.len == rows.start
            && self
                .contested
                .last()
                .is_none_or(|c| c.copy + 1 < self.copies.len())
        {
            let last = self.copies.len() - 1;
            self.copies[last].len += rows.len();
            return;
        }
        self.copies.push(Copy {
            input,
            start: rows.start,
            len: rows.len(),
        });
    }

    fn push_contested(&mut self, candidates: Vec<(usize, usize)>) {
        let Some(&(input, row)) = candidates.first() else {
            return;
        };
        self.is_interleaved |= !candidates.is_sorted_by(|a, b| a > b);
        self.rows += 1;
        self.copies.push(Copy {
            input,
            start: row,
            len: 1,
        });
        self.contested.push(Contested {
            copy: self.copies.len() - 1,
            candidates,
        });
    }
}

/// Merges the runs of each series and cuts them to `range`. Series without rows in the range are
/// left out.
pub fn merge(
    kind: TableKind,
    fields: Arc<[Column]>,
    inputs: &[Input],
    series: Vec<SeriesRuns>,
    range: TimeRange,
) -> Result<SortedRows, SegmentError> {
    let mut picks = Picks::default();
    let mut runs = Vec::with_capacity(series.len());
    let rules = Rules {
        kind,
        inputs,
        fields: &fields,
        keeps_orders: has_orders(&fields),
    };
    for mut one in series {
        let start = picks.rows;
        for run in &mut one.runs {
            cut(&inputs[run.input].time, &mut run.rows, range);
        }
        if one.runs.iter().any(|run| !run.deleted.is_empty()) {
            one.runs = one
                .runs
                .into_iter()
                .flat_map(|run| left_of(&inputs[run.input].time, run))
                .collect();
        }
        one.runs.retain(|run| !run.rows.is_empty());
        rules.pick_series(&mut one.runs, &mut picks)?;
        if picks.rows > start {
            runs.push(SeriesRun::new(one.series, start..picks.rows));
        }
    }
    let time = match picks.copies.as_slice() {
        [only] => inputs[only.input].time.slice(only.start, only.len),
        copies => {
            let mut time = Vec::with_capacity(picks.rows);
            for copy in copies {
                time.extend_from_slice(&inputs[copy.input].time[copy.start..copy.start + copy.len]);
            }
            time.into()
        }
    };
    let places = OnceCell::new();
    let columns = (0..fields.len())
        .map(|field| gather(field, inputs, &picks, &places))
        .collect::<Result<_, _>>()?;
    Ok(SortedRows {
        runs,
        time,
        fields,
        columns,
    })
}

/// Narrows rows, ascending in time, to those inside the range.
fn cut(time: &[i64], rows: &mut Range<usize>, range: TimeRange) {
    let times = &time[rows.clone()];
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return;
    };
    let (first, last) = (*first, *last);
    let start = rows.start;
    if last > range.max {
        rows.end = start + times.partition_point(|t| *t <= range.max);
    }
    if first < range.min {
        rows.start = (start + times.partition_point(|t| *t < range.min)).min(rows.end);
    }
}

/// What is left of a run when its deleted rows are gone: the pieces between them.
fn left_of(time: &[i64], run: Run) -> Vec<Run> {
    let mut left = vec![run.rows];
    for range in run.deleted {
        let without = |rows: Range<usize>| {
            let at = |bound: &dyn Fn(i64) -> bool| {
                rows.start + time[rows.clone()].partition_point(|t| bound(*t))
            };
            let (from, to) = (at(&|t| t < range.min), at(&|t| t <= range.max));
            [rows.start..from, to.max(from)..rows.end]
        };
        left = left
            .into_iter()
            .flat_map(without)
            .filter(|rows| !rows.is_empty())
            .collect();
    }
    left.into_iter()
        .map(|rows| Run {
            input: run.input,
            rows,
            deleted: Vec::new(),
        })
        .collect()
}

/// What is merged, and how.
struct Rules<'a> {
    kind: TableKind,
    inputs: &'a [Input],
    fields: &'a [Column],
    keeps_orders: bool,
}

impl Rules<'_> {
    fn times(&self, run: &Run) -> &[i64] {
        &self.inputs[run.input].time[run.rows.clone()]
    }

    fn ends(&self, run: &Run) -> (i64, i64) {
        match self.times(run) {
            [only] => (*only, *only),
            [first, .., last] => (*first, *last),
            [] => (i64::MAX, i64::MIN),
        }
    }

    /// Whether the rows of a run come out as they are, if no other overlaps it.
    fn is_final(&self, run: &Run) -> bool {
        self.keeps_orders
            || !self.inputs[run.input].orders.has_versions(self.kind)
            || self.times(run).is_sorted_by(|a, b| a < b)
    }

    fn pick_series(&self, runs: &mut [Run], picks: &mut Picks) -> Result<(), SegmentError> {
        runs.sort_unstable_by_key(|run| (self.ends(run).0, run.input));
        // Groups of runs that overlap; between groups rows are copied as they are.
        let mut at = 0;
        while at < runs.len() {
            let mut reach = self.ends(&runs[at]).1;
            let mut next = at + 1;
            while next < runs.len() && self.ends(&runs[next]).0 <= reach {
                reach = reach.max(self.ends(&runs[next]).1);
                next += 1;
            }
            match &runs[at..next] {
                [run] if self.is_final(run) => picks.push(run.input, run.rows.clone()),
                group => self.pick_overlapping(group, picks)?,
            }
            at = next;
        }
        Ok(())
    }

    fn pick_overlapping(&self, group: &[Run], picks: &mut Picks) -> Result<(), SegmentError> {
        let mut rows: Vec<Candidate> =
            Vec::with_capacity(group.iter().map(|run| run.rows.len()).sum());
        for run in group {
            let input = &self.inputs[run.input];
            rows.extend(run.rows.clone().map(|row| Candidate {
                time: input.time[row],
                order: input.orders.at(row),
                input: run.input as u32,
                row: row as u32,
            }));
        }
        // Stable and nearly sorted by construction: a merge of a few ascending runs.
        rows.sort_by_key(|row| (row.time, row.order, row.input));
        for same in rows.chunk_by_mut(|a, b| a.time == b.time) {
            match same {
                [only] => picks.push(only.input(), only.rows()),
                [.., last] if self.kind == TableKind::Metrics => {
                    picks.push(last.input(), last.rows());
                }
                same if self.kind == TableKind::Exemplars => {
                    pick_distinct(self.inputs, same, picks)?;
                }
                same if self.keeps_orders => self.pick_versions(same, picks),
                same => picks.push_contested(latest_first(same)),
            }
        }
        Ok(())
    }

    /// Rows of one time: those that have a field which no later one has, each order once.
    fn pick_versions(&self, rows: &[Candidate], picks: &mut Picks) {
        let mut taken = vec![false; self.fields.len()];
        let mut versions = Vec::new();
        for version in rows.chunk_by(|a, b| a.order == b.order).rev() {
            let mut has_news = false;
            for (field, taken) in taken.iter_mut().enumerate() {
                if *taken || &*self.fields[field].name == ORDER_COLUMN {
                    continue;
                }
                let has = |row: &Candidate| {
                    let column = &self.inputs[row.input()].columns[field];
                    column.is_valid(row.row as usize)
                };
                *taken = version.iter().any(has);
                has_news |= *taken;
            }
            if has_news {
                versions.push(latest_first(version));
            }
        }
        versions
            .into_iter()
            .rev()
            .for_each(|version| picks.push_contested(version));
    }
}

/// A row of a group of runs.
#[derive(Clone, Copy)]
struct Candidate {
    time: i64,
    order: u64,
    // Rows of an input are far fewer than 2^32, see `SeriesRun::new`.
    input: u32,
    row: u32,
}

impl Candidate {
    fn input(self) -> usize {
        self.input as usize
    }

    fn rows(self) -> Range<usize> {
        self.row as usize..self.row as usize + 1
    }
}

fn latest_first(rows: &[Candidate]) -> Vec<(usize, usize)> {
    let rows = rows.iter().rev();
    rows.map(|row| (row.input(), row.row as usize)).collect()
}

/// All rows of one time but those that are the same as another.
fn pick_distinct(
    inputs: &[Input],
    rows: &mut [Candidate],
    picks: &mut Picks,
) -> Result<(), SegmentError> {
    let mut contents = Contents {
        inputs,
        comparators: HashMap::new(),
    };
    let mut failed = None;
    let place = |row: &Candidate| (row.input(), row.row as usize);
    rows.sort_by(|one, other| {
        contents
            .compare(place(one), place(other))
            .unwrap_or_else(|error| {
                failed = Some(error);
                Ordering::Equal
            })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let mut last = None;
    for row in rows {
        let is_new = match last {
            Some(last) => contents.compare(last, place(row))?.is_ne(),
            None => true,
        };
        if is_new {
            picks.push(row.input(), row.rows());
            last = Some(place(row));
        }
    }
    Ok(())
}

/// Compares rows by all their fields.
struct Contents<'a> {
    inputs: &'a [Input],
    /// One for each field, by the two inputs.
    comparators: HashMap<(usize, usize), Vec<DynComparator>>,
}

impl Contents<'_> {
    fn compare(
        &mut self,
        one: (usize, usize),
        other: (usize, usize),
    ) -> Result<Ordering, SegmentError> {
        let comparators = match self.comparators.entry((one.0, other.0)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let pairs = self.inputs[one.0]
                    .columns
                    .iter()
                    .zip(&self.inputs[other.0].columns);
                let made = pairs
                    .map(|(a, b)| {
                        make_comparator(&a.to_array(), &b.to_array(), SortOptions::default())
                    })
                    .collect::<Result<_, _>>();
                place.insert(made.map_err(|error| SegmentError::Encode(error.to_string()))?)
            }
        };
        Ok(comparators
            .iter()
            .map(|compare| compare(one.1, other.1))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal))
    }
}

/// For each row of each input the row that it becomes, for fields that few rows have: they are
/// walked by their values, not by the rows that come out.
fn places(inputs: &[Input], picks: &Picks) -> Vec<Vec<u32>> {
    let mut places: Vec<Vec<u32>> = inputs
        .iter()
        .map(|input| vec![NOWHERE; input.time.len()])
        .collect();
    let mut contested = picks.contested.iter().peekable();
    let mut row = 0u32;
    for (at, copy) in picks.copies.iter().enumerate() {
        for place in &mut places[copy.input][copy.start..copy.start + copy.len] {
            *place = row;
            row += 1;
        }
        if let Some(contest) = contested.next_if(|c| c.copy == at) {
            for &(input, candidate) in &contest.candidates {
                places[input][candidate] = row - 1;
            }
        }
    }
    places
}

fn gather(
    field: usize,
    inputs: &[Input],
    picks: &Picks,
    known_places: &OnceCell<Vec<Vec<u32>>>,
) -> Result<FieldArray, SegmentError> {
    let fields: Vec<&FieldArray> = inputs.iter().map(|input| &input.columns[field]).collect();
    if let [only] = picks.copies.as_slice()
        && picks.contested.is_empty()
    {
        return Ok(fields[only.input].slice(only.start, only.len));
    }
    let values: usize = fields.iter().map(|field| field.value_count()).sum();
    // Of few values those of the later input replace others, which must be right.
    if is_sparse(values, picks.rows) && !picks.is_interleaved {
        let places = known_places.get_or_init(|| places(inputs, picks));
        return FieldArray::gather_sparse(&fields, places, picks.rows)
            .map_err(|error| SegmentError::Encode(error.to_string()));
    }
    let arrays: Vec<ArrayRef> = fields.iter().map(|field| field.to_array()).collect();
    let plain_floats = arrays
        .iter()
        .all(|a| *a.data_type() == DataType::Float64 && a.null_count() == 0);
    if plain_floats {
        // Without nulls the latest row of a contested time always has the value.
        let values: Vec<&[f64]> = arrays
            .iter()
            .map(|a| &a.as_primitive::<Float64Type>().values()[..])
            .collect();
        let mut out = Vec::with_capacity(picks.rows);
        for copy in &picks.copies {
            out.extend_from_slice(&values[copy.input][copy.start..copy.start + copy.len]);
        }
        return Ok(FieldArray::Dense(Arc::new(Float64Array::from(out))));
    }
    let data: Vec<_> = arrays.iter().map(|a| a.to_data()).collect();
    let mut out = MutableArrayData::new(data.iter().collect(), true, picks.rows);
    let mut contested = picks.contested.iter().peekable();
    for (at, copy) in picks.copies.iter().enumerate() {
        if let Some(contest) = contested.next_if(|c| c.copy == at) {
            let (input, row) = contest
                .candidates
                .iter()
                .copied()
                .find(|&(input, row)| arrays[input].is_valid(row))
                .unwrap_or((copy.input, copy.start));
            out.try_extend(input, row, row + 1)
        } else {
            out.try_extend(copy.input, copy.start, copy.start + copy.len)
        }
        .map_err(|error| SegmentError::Encode(error.to_string()))?;
    }
    Ok(FieldArray::Dense(make_array(out.freeze())))
}

#[cfg(test)]
mod tests;
