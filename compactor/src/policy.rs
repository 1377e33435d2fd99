//! Which segments to merge: a pure function of the catalog's state and the time.
//!
//! Within a day of a table there are three levels. Level 0 is as flushed, or several of those
//! merged; it may overlap anything. Level 1 is cut at every two hours, level 2 holds the day;
//! within each of them no two segments share a series and a time.
//!
//! **Order.** A row in level 0 was written after every row of level 1 with its series and time, and
//! that after every row of level 2. It stays so because a merge into level 1 takes *all* of level
//! 0, and a merge within level 0 takes neighbours in write order. A flush that comes meanwhile has
//! a higher order than all of them. Flushes of several processes overlap in order: each row then has
//! its own (`orders`), which counts whatever level it is in.
//!
//! **Damage.** A segment that cannot be read is *held*: it stays, and so does what cannot pass it.
//! Level 0 that is not older than all of held level 0 stays in level 0, where what lies between two
//! held segments still becomes one. Held level 1 keeps its two hours, and any held level 1 or 2 the
//! day, from being rewritten. So level 0 remains newer than level 1, and that newer than level 2.
//!
//! **Cost.** A byte that arrives in time is written three times: flushed, merged into its two
//! hours, and into its day. Level 1 is only rewritten for late rows when they are as many as what
//! is rewritten, so that lateness costs at most about one more; until then they wait in level 0,
//! where sixteen of a size become one.

use std::collections::HashSet;
use std::sync::Arc;

use tidelake_catalog::model::{TimeRange, TimeUnit, Tombstone};
use tidelake_catalog::snapshot::{SegmentId, SegmentMeta, Snapshot, Table};

/// Flushed segments that are merged into level 1: two hours of them, at the usual interval.
const READY: usize = 12;

/// Neighbours of a size in level 0 that become one.
const FAN_IN: usize = 16;

/// Inputs of one merge beyond which a day is merged in steps: each input costs memory for its
/// index. A day of more segments than this never rests while two of level 0 can become one.
pub const MAX_INPUTS: usize = 64;

/// Neighbours of level 0 differ in size if one is more than so many times the other: what sixteen
/// became is not merged again with the next fifteen.
const ALIKE: u64 = 4;

/// Segments of level 1 cover so many milliseconds.
const WINDOW_MS: i64 = 2 * 3_600_000;

/// A day is taken as over so long after its end: what is on its way has arrived.
const SETTLED_MS: i64 = 3_600_000;

/// What came late to a day that is over is merged when nothing has come for so long.
const QUIET_MS: u64 = 6 * 3_600_000;

/// Late rows of less than this part of a large day stay in level 1.
const WORTH_REWRITING: u64 = 10;

/// A day of fewer bytes is rewritten for anything.
const SMALL_DAY_BYTES: u64 = 64 << 20;

/// Rows that are deleted leave the files when the delete is so old, if nothing else rewrites them
/// before: deletes that come together are then applied together.
const DELETES_WAIT_MS: i64 = 3_600_000;

/// Segments of one table and day to be merged, in write order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The inputs.
    pub segments: Vec<Arc<SegmentMeta>>,
    /// The level of the results.
    pub level: u8,
    /// Where the results are cut by time: each holds rows of one of these, which ascend and cover
    /// all rows of the inputs that are not expired. There are none if all are.
    pub windows: Vec<TimeRange>,
}

/// How much to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// What pays in the long run.
    Steady,
    /// Everything of a day into level 2.
    Full,
}

/// What there is to merge. Segments in `held` cannot be read. `now_ms` is milliseconds since 1970.
pub fn plans(snapshot: &Snapshot, held: &HashSet<SegmentId>, goal: Goal, now_ms: i64) -> Vec<Plan> {
    let tables = snapshot
        .databases()
        .flat_map(|database| database.tables.values().map(move |table| (database, table)));
    let day_plans = tables.flat_map(|(database, table)| {
        let kept = database.kept(table, now_ms);
        table
            .days
            .values()
            .filter_map(move |segments| plan_day(table, segments, held, kept, goal, now_ms))
    });
    day_plans.collect()
}

/// What there is to do for one day of a table, of which rows of the times `kept` are not expired.
fn plan_day(
    table: &Table,
    segments: &[Arc<SegmentMeta>],
    held: &HashSet<SegmentId>,
    kept: TimeRange,
    goal: Goal,
    now_ms: i64,
) -> Option<Plan> {
    let expired: Vec<_> = segments
        .iter()
        .filter(|segment| segment.time.max < kept.min)
        .cloned()
        .collect();
    if !expired.is_empty() {
        return Some(Plan {
            segments: expired,
            level: 0,
            windows: Vec::new(),
        });
    }
    let levels = Levels::of(segments, table.schema.kind.time_unit()).holding(held);
    let mut plan = levels
        .plan(goal, now_ms)
        .or_else(|| apply_deletes(table, segments, held, goal, now_ms))?;
    plan.windows = plan
        .windows
        .iter()
        .map(|window| window.intersect(&kept))
        .filter(|window| !window.is_empty())
        .collect();
    Some(plan)
}

/// A segment is written again, in its place, without the rows that are deleted.
fn apply_deletes(
    table: &Table,
    segments: &[Arc<SegmentMeta>],
    held: &HashSet<SegmentId>,
    goal: Goal,
    now_ms: i64,
) -> Option<Plan> {
    let is_due = |delete: &Tombstone| {
        goal == Goal::Full || delete.time_ms.saturating_add(DELETES_WAIT_MS) <= now_ms
    };
    let mut readable = segments
        .iter()
        .filter(|segment| !held.contains(&segment.id));
    let segment =
        readable.find(|segment| table.tombstones_of(segment).any(|delete| is_due(delete)))?;
    Some(Plan {
        segments: vec![Arc::clone(segment)],
        level: segment.level,
        windows: vec![TimeRange::ALL],
    })
}

/// Segments of level 0 on the day of a table that has most: what backs up when merging cannot keep
/// pace. Only those count that can become one: beyond [`MAX_INPUTS`] there is always something to
/// merge.
pub fn backlog(snapshot: &Snapshot, held: &HashSet<SegmentId>) -> usize {
    let tables = snapshot.databases().flat_map(|d| d.tables.values());
    let days = tables.flat_map(|table| {
        table
            .days
            .values()
            .map(|day| (table.schema.kind.time_unit(), day))
    });
    days.map(|(unit, segments)| {
        Levels::of(segments, unit)
            .holding(held)
            .runs()
            .map(<[_]>::len)
            .max()
            .unwrap_or(0)
    })
    .max()
    .unwrap_or(0)
}

/// The segments of one day, each level in write order.
struct Levels<'a> {
    unit: TimeUnit,
    /// Level 0 that may go into a higher level.
    fresh: Vec<&'a Arc<SegmentMeta>>,
    /// Runs of level 0 that must stay in it.
    staying: Vec<Vec<&'a Arc<SegmentMeta>>>,
    windows: Vec<&'a Arc<SegmentMeta>>,
    day: Vec<&'a Arc<SegmentMeta>>,
    /// Whether level 2 cannot be written.
    is_day_held: bool,
}

fn bytes<'a>(segments: impl IntoIterator<Item = &'a &'a Arc<SegmentMeta>>) -> u64 {
    segments
        .into_iter()
        .map(|s| s.data_bytes + s.index_bytes)
        .sum()
}

impl<'a> Levels<'a> {
    fn of(segments: &'a [Arc<SegmentMeta>], unit: TimeUnit) -> Self {
        let level = |wanted: fn(u8) -> bool| {
            let mut found: Vec<_> = segments.iter().filter(|s| wanted(s.level)).collect();
            found.sort_by_key(|s| (s.order.1, s.order.0, s.id));
            found
        };
        let (fresh, windows, day) = (level(|l| l == 0), level(|l| l == 1), level(|l| l > 1));
        Self {
            unit,
            fresh,
            staying: Vec::new(),
            windows,
            day,
            is_day_held: false,
        }
    }

    /// The same without what cannot be read and what cannot pass it.
    fn holding(mut self, held: &HashSet<SegmentId>) -> Self {
        let is_held = |s: &&Arc<SegmentMeta>| held.contains(&s.id);
        if held.is_empty()
            || !self
                .fresh
                .iter()
                .chain(&self.windows)
                .chain(&self.day)
                .any(is_held)
        {
            return self;
        }
        self.is_day_held = self.windows.iter().chain(&self.day).any(is_held);
        let mut windows = self.all_windows();
        windows.retain(|window| {
            self.windows
                .iter()
                .any(|s| is_held(s) && s.time.overlaps(window))
        });
        let is_in_held_window =
            |s: &&Arc<SegmentMeta>| windows.iter().any(|window| s.time.overlaps(window));
        let first = self
            .fresh
            .iter()
            .position(|s| is_held(s) || is_in_held_window(s))
            .unwrap_or(self.fresh.len());
        let rest = self.fresh.split_off(first);
        self.staying = rest
            .split(is_held)
            .filter(|run| !run.is_empty())
            .map(<[_]>::to_vec)
            .collect();
        self.windows
            .retain(|s| !is_held(s) && !is_in_held_window(s));
        self.day.retain(|s| !is_held(s));
        self
    }

    /// Level 0 in runs of neighbours.
    fn runs(&self) -> impl DoubleEndedIterator<Item = &[&'a Arc<SegmentMeta>]> {
        std::iter::once(&self.fresh[..]).chain(self.staying.iter().map(|run| &run[..]))
    }

    /// What can be merged one way or the other.
    fn lower(&self) -> impl Iterator<Item = &&'a Arc<SegmentMeta>> {
        self.runs().flatten().chain(&self.windows)
    }

    /// The windows of a day.
    fn all_windows(&self) -> Vec<TimeRange> {
        let Some(first) = self.lower().next() else {
            return Vec::new();
        };
        let (day, length) = (first.day.range(self.unit), self.unit.from_millis(WINDOW_MS));
        let starts = (0..12).map(|number| day.min.saturating_add(length.saturating_mul(number)));
        starts
            .map(|start| TimeRange::new(start, start.saturating_add(length - 1).min(day.max)))
            .collect()
    }

    fn plan(&self, goal: Goal, now_ms: i64) -> Option<Plan> {
        let count = self.lower().count();
        if count == 0 {
            return None;
        }
        if count + self.day.len() > MAX_INPUTS
            && let Some(plan) = self.merge_neighbours(2)
        {
            return Some(plan);
        }
        if goal == Goal::Full {
            return self
                .merge_day()
                .or_else(|| self.merge_windows(goal))
                .or_else(|| self.merge_neighbours(2));
        }
        if !self.is_over(now_ms) {
            return self
                .merge_windows(goal)
                .or_else(|| self.merge_neighbours(FAN_IN));
        }
        if self.is_worth_a_day(now_ms)
            && let Some(plan) = self.merge_day()
        {
            return Some(plan);
        }
        if self.is_day_held
            && let Some(plan) = self.merge_windows(goal)
        {
            return Some(plan);
        }
        // Late rows that are not worth a day are one segment, once all have come.
        self.merge_neighbours(if self.is_quiet(now_ms) { 2 } else { FAN_IN })
    }

    fn is_over(&self, now_ms: i64) -> bool {
        let day = self
            .lower()
            .next()
            .map(|s| s.day.range(TimeUnit::Millisecond));
        day.is_some_and(|day| day.max.saturating_add(SETTLED_MS) < now_ms)
    }

    /// Whether nothing has come for a while.
    fn is_quiet(&self, now_ms: i64) -> bool {
        let drawn = self.lower().map(|s| s.id.drawn_ms()).max().unwrap_or(0);
        drawn.saturating_add(QUIET_MS) < now_ms.max(0) as u64
    }

    /// Whether a day that is over is to be rewritten for what is in the lower levels.
    fn is_worth_a_day(&self, now_ms: i64) -> bool {
        let (late, day) = (
            bytes(self.fresh.iter().chain(&self.windows)),
            bytes(&self.day),
        );
        late >= day
            || (self.is_quiet(now_ms)
                && (late.saturating_mul(WORTH_REWRITING) >= day || day < SMALL_DAY_BYTES))
    }

    fn merge_day(&self) -> Option<Plan> {
        if self.is_day_held || (self.fresh.is_empty() && self.windows.is_empty()) {
            return None;
        }
        let segments: Vec<_> = self
            .day
            .iter()
            .chain(&self.windows)
            .chain(&self.fresh)
            .map(|s| Arc::clone(s))
            .collect();
        Some(Plan {
            segments,
            level: 2,
            windows: vec![TimeRange::ALL],
        })
    }

    /// All of level 0 and what it overlaps in level 1.
    fn merge_windows(&self, goal: Goal) -> Option<Plan> {
        let reach = self
            .fresh
            .iter()
            .map(|s| s.time)
            .reduce(|a, b| a.union(&b))?;
        let mut windows = self.all_windows();
        windows.retain(|w| self.fresh.iter().any(|s| s.time.overlaps(w)));
        let old: Vec<_> = self
            .windows
            .iter()
            .filter(|s| s.time.overlaps(&reach) && windows.iter().any(|w| s.time.overlaps(w)))
            .collect();
        let is_ready = goal == Goal::Full
            || self.fresh.len() >= READY && bytes(&self.fresh) >= bytes(old.iter().copied());
        is_ready.then(|| Plan {
            segments: old
                .into_iter()
                .chain(&self.fresh)
                .map(|s| Arc::clone(s))
                .collect(),
            level: 1,
            windows,
        })
    }

    /// Neighbours in level 0 become one: the youngest run of at least `enough` that are alike in
    /// size. Of fewer than [`FAN_IN`] the size does not matter.
    fn merge_neighbours(&self, enough: usize) -> Option<Plan> {
        let are_alike = |a: &&Arc<SegmentMeta>, b: &&Arc<SegmentMeta>| {
            let (a, b) = (bytes([a]), bytes([b]));
            enough < FAN_IN || a.max(b) <= a.min(b).saturating_mul(ALIKE)
        };
        let run = self
            .runs()
            .rev()
            .find_map(|run| run.chunk_by(are_alike).rfind(|run| run.len() >= enough))?;
        let run = &run[..run.len().min(MAX_INPUTS)];
        Some(Plan {
            segments: run.iter().map(|s| Arc::clone(s)).collect(),
            level: 0,
            windows: vec![TimeRange::ALL],
        })
    }
}

mod orders;

pub use orders::keeps_orders;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod tests;
