//! Scans that need no more than the ends of series: the newest row of each host, the last ten rows
//! of a table, the first time of all.

use super::{Slot, SlotRun};
use crate::model::TimeRange;

/// The rows at one end of each series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// So many with the lowest times.
    Oldest(u64),
    /// So many with the highest times.
    Newest(u64),
}

impl Edge {
    /// Leaves those rows of a series that may be at its end in the range, and often a few more: of
    /// several sources each may have some.
    ///
    /// Of the union of all runs the newest `n` rows are among the newest `n` of each run, also
    /// where a row is in several runs: fewer than `n` rows of any of them are newer than it. That
    /// holds for rows up to the end of the range only if no run goes beyond it, and for rows that
    /// are there, which deleted ones are not: such series are left whole.
    pub(super) fn trim(self, slot: &mut Slot, range: TimeRange) {
        let runs = &mut slot.runs;
        let (rows, is_last) = match self {
            Edge::Oldest(rows) => (rows, false),
            Edge::Newest(rows) => (rows, true),
        };
        let is_whole = |run: &SlotRun| {
            let within = if is_last {
                run.time.max <= range.max
            } else {
                run.time.min >= range.min
            };
            within && run.deleted.is_empty()
        };
        if !runs.iter().all(is_whole) {
            return;
        }
        if rows == 1 {
            // Only runs that reach the end have the row.
            if is_last {
                let end = runs.iter().map(|run| run.time.max).max();
                runs.retain(|run| Some(run.time.max) == end);
            } else {
                let end = runs.iter().map(|run| run.time.min).min();
                runs.retain(|run| Some(run.time.min) == end);
            }
        }
        for run in runs {
            if is_last {
                run.rows.start = run.rows.start.max(run.rows.end.saturating_sub(rows));
            } else {
                run.rows.end = run.rows.end.min(run.rows.start.saturating_add(rows));
            }
        }
    }
}
