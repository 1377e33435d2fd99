//! Carries a `SELECT` out.
//!
//! Rows come as runs (`scan`): those of one series of one unit of a scan, or of a series of a
//! subquery, without what the condition leaves out. Functions whose results of parts can be put
//! together see each run once (`accumulate`); for all else the runs of a group are joined (`rows`)
//! and its functions computed then (`points`). What functions made is filled and transformed, and
//! put side by side (`finish`).

mod finish;
mod scan;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::accumulate::{State, accumulate};
use super::ast::Fill;
use super::compile::read_range;
use super::condition::MIN_TIME;
use super::error::InfluxqlError;
use super::plan::{Function, Plan, PlanSource};
use super::points::{Points, points, push_state, windows_of};
use super::rows::{GroupKey, Rows, Run};
use super::value::{Column, Value};
use crate::lane::Lane;
use crate::memory::{QueryBytes, QueryPool};
use crate::tables::Tables;

/// Rows of one measurement and one set of tags.
#[derive(Debug, Clone)]
pub struct Series {
    /// The measurement; `None` where an answer is of none.
    pub name: Option<Arc<str>>,
    /// What the rows are grouped by.
    pub tags: Vec<(String, Arc<str>)>,
    /// Names of the columns; the first is that of the times, if there are times.
    pub columns: Arc<[String]>,
    /// The time of each row in ns, if rows have times.
    pub times: Option<Vec<i64>>,
    /// The other columns.
    pub values: Vec<Column>,
    /// How many rows there are.
    pub len: usize,
    /// The zone in which times are shown, if not UTC.
    pub zone: Option<chrono_tz::Tz>,
}

impl Series {
    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        let values: usize = self.values.iter().map(Column::memory_size).sum();
        let tags = self
            .tags
            .iter()
            .map(|(name, value)| name.len() + value.len() + 40);
        values + self.times.as_ref().map_or(0, |times| times.len() * 8) + tags.sum::<usize>() + 200
    }
}

/// What one query has to do its work with.
#[derive(Debug, Clone)]
pub struct Context {
    /// What is read.
    pub tables: Tables,
    /// Its memory.
    pub pool: Arc<QueryPool>,
    /// When it must have ended.
    pub deadline: Option<Instant>,
    /// Where large parts are computed.
    pub lane: Lane,
    /// Parts that are worked on at a time.
    pub width: usize,
}

impl Context {
    /// Whether the work may go on.
    ///
    /// # Errors
    /// [`InfluxqlError::Timeout`]
    pub fn check(&self) -> Result<(), InfluxqlError> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(InfluxqlError::Timeout),
            _ => Ok(()),
        }
    }

    /// Starts work on the threads for it; it ends when what is returned is dropped.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> SpawnedTask<T> {
        let work = self.lane.counted(work);
        match self.lane.threads() {
            Some(threads) => {
                let _entered = threads.enter();
                SpawnedTask::spawn(work)
            }
            None => SpawnedTask::spawn(work),
        }
    }
}

/// States of the windows of each call of a group, ascending.
type States = Vec<Vec<(i64, State)>>;

/// The series of a query, in the order of the answer.
pub fn select<'a>(
    context: &'a Context,
    plan: &'a Arc<Plan>,
) -> BoxFuture<'a, Result<(Vec<Series>, QueryBytes), InfluxqlError>> {
    Box::pin(async move {
        for narrow in narrower(plan) {
            let narrow = Arc::new(narrow);
            let found = select_all(context, &narrow).await?;
            let is_enough = |series: &Series| series.len >= plan.limit;
            if !found.0.is_empty() && found.0.iter().all(is_enough) {
                return Ok(found);
            }
        }
        select_all(context, plan).await
    })
}

/// The same query over later times only, in which all may be that it answers: the newest windows of
/// the only group.
fn narrower(plan: &Plan) -> Vec<Plan> {
    let (Some(windows), [PlanSource::Measure(_)]) = (plan.windows, plan.sources.as_slice()) else {
        return Vec::new();
    };
    let has_transform = plan.calls.iter().any(|call| call.transform.is_some());
    let is_whole = plan.ascending
        || plan.limit == 0
        || plan.fill == Fill::Linear
        || windows.zone.is_some()
        || has_transform
        || plan.is_raw()
        || !plan.dimensions.is_empty();
    if is_whole {
        return Vec::new();
    }
    let rows = i64::try_from(plan.limit.saturating_add(plan.offset)).unwrap_or(i64::MAX);
    let newest = windows.of(plan.range.1).0;
    let narrow = |times: i64| {
        let before = rows.saturating_mul(times).saturating_sub(1);
        let start = newest.saturating_sub(before.saturating_mul(windows.every));
        (start > plan.range.0).then(|| Plan {
            range: (start, plan.range.1),
            ..plan.clone()
        })
    };
    [1, 64].into_iter().filter_map(narrow).collect()
}

async fn select_all(
    context: &Context,
    plan: &Arc<Plan>,
) -> Result<(Vec<Series>, QueryBytes), InfluxqlError> {
    let mut held = context.pool.try_hold(0)?;
    let is_mergeable = !plan.is_raw()
        && plan
            .calls
            .iter()
            .all(|call| call.function.as_ref().is_some_and(Function::is_mergeable));
    let is_known = |at: usize| plan.slots[at].kind.is_some();
    let mut series = if plan.is_raw() && !plan.selected().any(is_known) {
        // Nothing has any of the columns.
        Vec::new()
    } else if is_mergeable {
        match merged(context, plan, &mut held).await? {
            Some(series) => series,
            None => {
                let whole = Plan {
                    reads_all: true,
                    ..Plan::clone(plan)
                };
                held.shrink(held.bytes());
                let whole = merged(context, &Arc::new(whole), &mut held).await?;
                whole.unwrap_or_default()
            }
        }
    } else {
        joined(context, plan, &mut held).await?
    };
    if !plan.ascending {
        series.reverse();
    }
    Ok((series, held))
}

/// A query of functions that see each run once; `None` if the ends of series were read, and one of
/// them has no value.
async fn merged(
    context: &Context,
    plan: &Arc<Plan>,
    held: &mut QueryBytes,
) -> Result<Option<Vec<Series>>, InfluxqlError> {
    let mut groups: BTreeMap<GroupKey, States> = BTreeMap::new();
    let of = Arc::clone(plan);
    let work = move |runs: Vec<Run>| Ok(states_of(&of, &runs));
    let (mut bytes, mut is_missing) = (0, false);
    let needs_each = plan.end_of_series().is_some();
    let mut merge = |found: Vec<(GroupKey, States)>| {
        for (key, states) in found {
            is_missing |= needs_each && states.iter().any(Vec::is_empty);
            bytes += match groups.entry(key) {
                Entry::Vacant(free) => {
                    let size = states_size(&states) + 200;
                    free.insert(states);
                    size
                }
                Entry::Occupied(mut known) => merge_states(plan, known.get_mut(), states),
            };
        }
        held.try_grow(std::mem::take(&mut bytes))?;
        Ok(())
    };
    scan::scan(context, plan, work, &mut merge).await?;
    if is_missing {
        return Ok(None);
    }
    let mut answer = Vec::with_capacity(groups.len());
    for (number, (key, states)) in groups.into_iter().enumerate() {
        if number % 1024 == 0 {
            context.check()?;
        }
        let calls = plan.calls.iter().zip(states);
        let points = calls.map(|(call, states)| {
            let mut made = Points::default();
            if let Some(function) = &call.function {
                for (window, state) in states {
                    push_state(plan, function, state, window, &mut made);
                }
            }
            made
        });
        let points = points.collect();
        answer.extend(finish::group(plan, key, points, held)?);
    }
    Ok(Some(answer))
}

fn states_size(states: &States) -> usize {
    states
        .iter()
        .flatten()
        .map(|(_, state)| state.memory_size() + 8)
        .sum()
}

/// The states of the groups of some runs.
fn states_of(plan: &Plan, runs: &[Run]) -> Vec<(GroupKey, States)> {
    let mut found: Vec<(GroupKey, States)> = Vec::new();
    let selected: Vec<usize> = plan.selected().collect();
    let picks_others = plan.is_selector();
    let needs_each = plan.end_of_series().is_some();
    for run in runs {
        let others = |row: usize| -> Vec<Value> {
            match picks_others {
                true => selected
                    .iter()
                    .map(|at| run.columns[*at].get(row).to_value())
                    .collect(),
                false => Vec::new(),
            }
        };
        let mut states: States = Vec::with_capacity(plan.calls.len());
        for call in &plan.calls {
            let range = call_range(plan, call.transform.is_some());
            let start = run.times.partition_point(|time| *time < range.0);
            let end = run
                .times
                .partition_point(|time| *time <= range.1)
                .max(start);
            let mut of_windows = Vec::new();
            if let Some(function) = &call.function {
                for (window, within) in windows_of(&run.times[start..end], plan.windows, range) {
                    let within = within.start + start..within.end + start;
                    let column = &run.columns[call.slot];
                    let state = accumulate(function, column, within, &run.times, &others);
                    of_windows.extend(state.map(|state| (window, state)));
                }
            }
            states.push(of_windows);
        }
        if !needs_each && states.iter().all(Vec::is_empty) {
            continue;
        }
        match found.last_mut() {
            // One that lacks a value is to be seen.
            Some((key, known)) if *key == run.key && !needs_each => {
                merge_states(plan, known, states);
            }
            _ => found.push((run.key.clone(), states)),
        }
    }
    found
}

/// The times that a call looks at.
fn call_range(plan: &Plan, looks_back: bool) -> (i64, i64) {
    match looks_back {
        true => read_range(plan),
        false => plan.range,
    }
}

/// Puts states to others; returns how many bytes they take more.
fn merge_states(plan: &Plan, known: &mut States, more: States) -> usize {
    let mut bytes = 0;
    for ((call, known), more) in plan.calls.iter().zip(known).zip(more) {
        let Some(function) = &call.function else {
            continue;
        };
        let is_after = match (known.last(), more.first()) {
            (Some((last, _)), Some((first, _))) => last < first,
            _ => true,
        };
        if is_after {
            bytes += more
                .iter()
                .map(|(_, state)| state.memory_size() + 8)
                .sum::<usize>();
            known.extend(more);
            continue;
        }
        let mut joined = Vec::with_capacity(known.len().max(more.len()));
        let mut more = more.into_iter().peekable();
        for (window, mut state) in known.drain(..) {
            while let Some((other, new)) = more.next_if(|(other, _)| *other < window) {
                bytes += new.memory_size() + 8;
                joined.push((other, new));
            }
            if let Some((_, new)) = more.next_if(|(other, _)| *other == window) {
                state.merge(function, new);
            }
            joined.push((window, state));
        }
        for (window, new) in more {
            bytes += new.memory_size() + 8;
            joined.push((window, new));
        }
        *known = joined;
    }
    bytes
}

/// A query that needs all rows of a group.
async fn joined(
    context: &Context,
    plan: &Arc<Plan>,
    held: &mut QueryBytes,
) -> Result<Vec<Series>, InfluxqlError> {
    let mut groups: BTreeMap<GroupKey, Vec<Run>> = BTreeMap::new();
    let work = |runs: Vec<Run>| Ok(runs);
    scan::scan(context, plan, work, &mut |runs: Vec<Run>| {
        let bytes = runs.iter().map(|run| run.memory_size() + 200).sum();
        held.try_grow(bytes)?;
        for run in runs {
            groups.entry(run.key.clone()).or_default().push(run);
        }
        Ok(())
    })
    .await?;
    let mut answer = Vec::with_capacity(groups.len());
    for (key, runs) in groups {
        context.check()?;
        // Joined rows are there beside the runs.
        let bytes: usize = runs.iter().map(Run::memory_size).sum();
        let beside = held.another(bytes)?;
        if plan.is_raw() {
            let is_sorted = is_in_order(plan);
            let rows = Rows::join(
                runs,
                is_sorted,
                plan.ascending,
                plan.offset,
                most_rows(plan),
            )?;
            answer.extend(finish::raw(plan, key, rows));
        } else {
            let rows = Rows::join(runs, false, true, 0, usize::MAX)?;
            let points = plan.calls.iter().map(|call| call_points(plan, call, &rows));
            let points = points.collect();
            answer.extend(finish::group(plan, key, points, held)?);
        }
        // What is left of the runs is in the answer.
        drop(beside);
    }
    Ok(answer)
}

/// Whether rows stay in the order of their groups: the points that a subquery picks of groups, one
/// of each.
fn is_in_order(plan: &Plan) -> bool {
    plan.sources.iter().all(|source| match source {
        PlanSource::Subquery(inner) => inner.is_selector() && inner.windows.is_none(),
        PlanSource::Measure(_) => false,
    })
}

/// Most rows of a series as they are. `OFFSET` without `LIMIT` gives one, as in InfluxDB, which
/// says that the two belong together.
fn most_rows(plan: &Plan) -> usize {
    match (plan.limit, plan.offset) {
        (0, 0) => usize::MAX,
        (0, _) => 1,
        (limit, _) => limit,
    }
}

/// What a call makes of the rows of a group, before it is transformed.
fn call_points(plan: &Plan, call: &super::plan::Call, rows: &Rows) -> Points {
    let range = call_range(plan, call.transform.is_some());
    let Some(function) = &call.function else {
        let mut made = Points::default();
        for (row, time) in rows.times.iter().enumerate() {
            let value = rows.columns[call.slot].get(row);
            if !value.is_null() {
                made.push(*time, value.to_value(), Vec::new());
            }
        }
        return made;
    };
    let start = rows.times.partition_point(|time| *time < range.0);
    if start == 0 || range.0 == MIN_TIME {
        return points(plan, call.slot, function, rows, range);
    }
    // Another call looks further back.
    let later = Rows {
        times: rows.times[start..].to_vec(),
        columns: rows
            .columns
            .iter()
            .map(|column| column.from(start))
            .collect(),
    };
    points(plan, call.slot, function, &later, range)
}
