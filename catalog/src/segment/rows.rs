//! Rows in the order of a segment: what the buffer seals, a flush writes and a scan returns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::buffer::ScalarBuffer;

use super::field_array::FieldArray;
use super::series::Series;
use crate::model::{Column, Matcher, TimeRange};

/// The rows of one series: consecutive, ascending in time, no time twice.
#[derive(Debug, Clone)]
pub struct SeriesRun {
    /// Whose rows.
    pub series: Arc<Series>,
    // Half of a `Range<usize>`: there are millions of runs in a buffer.
    start: u32,
    end: u32,
}

impl SeriesRun {
    /// A run of these rows.
    ///
    /// # Panics
    ///
    /// If they are not within the first 2^32 rows: those of one chunk or unit are far fewer.
    pub fn new(series: Arc<Series>, rows: Range<usize>) -> Self {
        let [start, end] = [rows.start, rows.end].map(|row| {
            assert!(
                row <= u32::MAX as usize,
                "{row} is no row of a chunk or unit"
            );
            row as u32
        });
        Self { series, start, end }
    }

    /// Which rows.
    pub fn rows(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Rows of several series, run by run.
#[derive(Debug, Clone)]
pub struct SortedRows {
    /// The series; their rows cover all rows, in order.
    pub runs: Vec<SeriesRun>,
    /// Time of each row, in the table's unit.
    pub time: ScalarBuffer<i64>,
    /// What `columns` hold.
    pub fields: Arc<[Column]>,
    /// One per field, as long as `time`.
    pub columns: Vec<FieldArray>,
}

impl SortedRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// The times of a run.
    pub fn times(&self, run: &SeriesRun) -> &[i64] {
        &self.time[run.rows()]
    }

    /// First and last time of a run; nothing lies in that of a run without rows.
    pub(super) fn time_of(&self, run: &SeriesRun) -> TimeRange {
        match self.times(run) {
            [only] => TimeRange::new(*only, *only),
            [first, .., last] => TimeRange::new(*first, *last),
            [] => TimeRange::new(i64::MAX, i64::MIN),
        }
    }

    /// Whether a run may have rows in the range, and its series passes all matchers.
    pub fn has(&self, run: &SeriesRun, matchers: &[Matcher], range: TimeRange) -> bool {
        let times = self.times(run);
        let (Some(&min), Some(&max)) = (times.first(), times.last()) else {
            return false;
        };
        range.overlaps(&TimeRange::new(min, max))
            && matchers
                .iter()
                .all(|matcher| matcher.matches_labels(&run.series.labels))
    }

    /// First and last time of all rows; `None` without rows.
    pub fn time_range(&self) -> Option<TimeRange> {
        let ends = |run: &SeriesRun| {
            let times = self.times(run);
            Some(TimeRange::new(*times.first()?, *times.last()?))
        };
        self.runs.iter().filter_map(ends).reduce(|a, b| a.union(&b))
    }

    /// The values of a field; `None` if no row has it.
    pub fn column(&self, name: &str) -> Option<&FieldArray> {
        self.fields
            .iter()
            .position(|f| &*f.name == name)
            .and_then(|i| self.columns.get(i))
    }

    /// A field as an array of all rows; `None` if no row has it.
    pub fn array(&self, name: &str) -> Option<ArrayRef> {
        self.column(name).map(FieldArray::to_array)
    }

    /// Bytes in memory, without the series.
    pub fn memory_size(&self) -> usize {
        let columns: usize = self.columns.iter().map(FieldArray::memory_size).sum();
        columns + self.time.len() * 8 + self.runs.len() * size_of::<SeriesRun>()
    }
}
