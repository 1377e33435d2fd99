//! Runs merges: plans, merges, commits; and lets garbage be collected.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidelake_catalog::background::supervised;
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_catalog::model::Day;
use tidelake_catalog::segment::{SegmentError, ValueLayout};
use tidelake_catalog::segment_upload::UploadError;
use tidelake_catalog::snapshot::{SegmentId, Snapshot};
use tidelake_catalog::{Catalog, CatalogError, keys};
use tokio::time::Instant;

use crate::garbage::{CollectError, Garbage};
use crate::merge::merge;
use crate::merge_threads::MergeThreads;
use crate::policy::{Goal, Plan, plans};
use crate::quarantine::{Quarantine, damaged};
use crate::turns::{Turn, Turns};

/// Merges that fail one after the other before the rest is left for the next time: the store is
/// away, or full.
const FAILURES: usize = 3;

/// Why not everything was merged.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A merge failed.
    #[error(transparent)]
    Merge(#[from] UploadError),
    /// Its commit failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Merges of some days failed; those of others were made.
    #[error("{count} merges failed; the first: {first}")]
    Some {
        /// How many.
        count: usize,
        /// Why the first one did.
        first: Box<CompactError>,
    },
    /// It ended before its end.
    #[error("merging was broken off: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// Everything else was merged.
    #[error("{count} damaged segments were left as they are; one of them: {error}")]
    Quarantined {
        /// How many.
        count: usize,
        /// What is wrong with one.
        error: SegmentError,
    },
}

/// Settings of the compactor.
#[derive(Debug, Clone)]
pub struct CompactorOptions {
    /// How often to look for something to merge.
    pub interval: Duration,
    /// How long a replaced segment's files stay at least: longer than any query runs.
    pub grace: Duration,
    /// How far back states of the past can be read: files that they name stay for so long, and for
    /// the grace period.
    pub time_travel_window: Duration,
    /// How often to look through a table's folder for files that no commit names.
    pub sweep_interval: Duration,
    /// After how long a damaged segment is looked at again.
    pub recheck: Duration,
    /// How merged files of metrics tables hold values. Files that need not be merged stay as they
    /// are.
    pub value_layout: ValueLayout,
    /// The memory of the process, in which merges count.
    pub memory: Arc<MemoryBudget>,
    /// Where merges compute.
    pub threads: MergeThreads,
}

/// Memory of a merge: the series of a part, two units and a row group, whatever it merges, and for
/// each series of an input its place in the index of the result. Series of wide tables are in
/// memory all at a time.
const MERGE_BYTES: usize = 128 << 20;
const SERIES_BYTES: usize = 64;
const WIDE_SERIES_BYTES: usize = 300;
/// How long a merge waits for its memory.
const MERGE_PATIENCE: Duration = Duration::from_secs(30);

impl Default for CompactorOptions {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            interval: Duration::from_secs(10),
            grace: minutes(5),
            time_travel_window: minutes(60),
            sweep_interval: minutes(10),
            recheck: minutes(10),
            value_layout: ValueLayout::Plain,
            memory: MemoryBudget::unlimited(),
            threads: MergeThreads::default(),
        }
    }
}

/// What merges did so far.
#[derive(Debug, Default)]
pub struct CompactorCounters {
    /// Merges that were committed.
    pub merges: AtomicU64,
    /// Merges that failed and are tried again.
    pub failures: AtomicU64,
    /// How long those that were committed took, in milliseconds.
    pub milliseconds: AtomicU64,
    /// Bytes of data files that went into them.
    pub bytes_in: AtomicU64,
    /// Bytes of data files that came out of them.
    pub bytes_out: AtomicU64,
    /// Merges that are left to do, when they were last counted.
    pub backlog: AtomicU64,
}

/// Merges the segments of a catalog.
#[derive(Debug)]
pub struct Compactor {
    catalog: Arc<Catalog>,
    options: CompactorOptions,
    turns: Turns,
    garbage: Garbage,
    quarantine: Quarantine,
    counters: CompactorCounters,
}

/// What became of a plan.
enum Outcome {
    Merged,
    /// Another compactor was faster.
    ForNothing,
    /// Inputs are damaged; without them there is another plan.
    Damaged,
}

impl Compactor {
    /// A compactor that runs in the background for as long as it is held.
    pub fn start(catalog: Arc<Catalog>, options: CompactorOptions) -> Arc<Self> {
        let garbage = Garbage::new(
            options.grace.saturating_add(options.time_travel_window),
            options.sweep_interval,
        );
        let quarantine = Quarantine::new(options.recheck);
        let turns = Turns::new(options.threads.clone());
        let compactor = Arc::new(Self {
            catalog,
            options,
            turns,
            garbage,
            quarantine,
            counters: CompactorCounters::default(),
        });
        let (weak, interval) = (Arc::downgrade(&compactor), compactor.options.interval);
        let round = move || run(Weak::clone(&weak), interval);
        let round = supervised("compactor", round);
        match compactor.options.threads.usual() {
            Some(threads) => drop(threads.spawn(round)),
            None => drop(tokio::spawn(round)),
        }
        compactor
    }

    /// What it did so far.
    pub fn counters(&self) -> &CompactorCounters {
        &self.counters
    }

    /// Where it computes.
    pub fn threads(&self) -> &MergeThreads {
        &self.options.threads
    }

    /// Segments that are damaged and therefore not merged.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Merges until nothing is left to merge. Returns the number of merges. One with [`Goal::Full`]
    /// gives way to [`Goal::Steady`] between units. A day whose merge fails
    /// does not keep others from theirs. With [`Goal::Full`] damaged segments that had to be
    /// left are an error.
    pub async fn compact(&self, goal: Goal) -> Result<usize, CompactError> {
        let mut turn = self.turns.take(goal).await;
        let now_ms = || self.catalog.environment().now_ms();
        self.quarantine
            .recheck(self.catalog.store(), &self.catalog.snapshot(), now_ms())
            .await;
        let (mut merges, mut in_a_row) = (0, 0);
        let (mut failures, mut first_failure) = (HashSet::<(Arc<str>, Arc<str>, Day)>::new(), None);
        'all: loop {
            let snapshot = self.catalog.snapshot();
            let mut todo = plans(&snapshot, &self.held(), goal, now_ms());
            todo.retain(|plan| day_of(plan).is_some_and(|day| !failures.contains(&day)));
            self.counters
                .backlog
                .store(todo.len() as u64, Ordering::Relaxed);
            if todo.is_empty() {
                self.catalog.forget_tombstones().await?;
                break;
            }
            for plan in todo {
                match self.run(&snapshot, &plan, &mut turn).await {
                    Ok(outcome) => {
                        self.counters.backlog.fetch_sub(1, Ordering::Relaxed);
                        in_a_row = 0;
                        merges += usize::from(matches!(outcome, Outcome::Merged));
                    }
                    Err(error @ CompactError::Catalog(CatalogError::Fenced { .. })) => {
                        return Err(error);
                    }
                    Err(error) => {
                        self.counters.failures.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(%error, "a merge failed; it will be tried again");
                        failures.extend(day_of(&plan));
                        first_failure.get_or_insert(error);
                        in_a_row += 1;
                        if in_a_row >= FAILURES {
                            break 'all;
                        }
                    }
                }
                if turn.has_given_way() {
                    break;
                }
            }
        }
        match (first_failure, self.quarantine.error()) {
            (Some(first), _) => Err(CompactError::Some {
                count: failures.len(),
                first: Box::new(first),
            }),
            (None, Some(error)) if goal == Goal::Full => Err(CompactError::Quarantined {
                count: self.quarantine.held().len(),
                error,
            }),
            _ => Ok(merges),
        }
    }

    /// What no merge may take: segments that are damaged, and inputs of a merge that gave way.
    fn held(&self) -> HashSet<SegmentId> {
        let mut held = self.turns.paused();
        held.extend(self.quarantine.held().iter());
        held
    }

    /// Runs one plan.
    async fn run(
        &self,
        snapshot: &Snapshot,
        plan: &Plan,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, CompactError> {
        let Some(first) = plan.segments.first() else {
            return Ok(Outcome::ForNothing);
        };
        let Some(table) = snapshot.table(&first.database, &first.table) else {
            return Ok(Outcome::ForNothing);
        };
        let started = Instant::now();
        let now_ms = || self.catalog.environment().now_ms();
        // What goes as a whole is not read.
        let inputs = if plan.windows.is_empty() {
            &[]
        } else {
            &plan.segments[..]
        };
        let found = damaged(self.catalog.store(), inputs)
            .await
            .map_err(UploadError::from)?;
        if !found.is_empty() {
            found
                .into_iter()
                .for_each(|(segment, error)| self.quarantine.put(segment, error, now_ms()));
            return Ok(Outcome::Damaged);
        }
        // A merge is bounded whatever there is, and reads would suffer without it.
        let memory = &self.options.memory;
        let series: u64 = plan.segments.iter().map(|segment| segment.series).sum();
        let series = usize::try_from(series).unwrap_or(usize::MAX);
        let series_bytes = if table.schema.kind.is_by_series_id() {
            SERIES_BYTES
        } else {
            WIDE_SERIES_BYTES
        };
        let bytes = MERGE_BYTES.saturating_add(series.saturating_mul(series_bytes));
        let patience = match self.turns.is_paused() {
            // What the one that gave way has does not become free before.
            true => Duration::ZERO,
            false => MERGE_PATIENCE,
        };
        let _memory = memory.reserve_within(Share::Merges, bytes, patience).await;
        let added = match merge(
            self.catalog.store(),
            self.catalog.environment(),
            snapshot,
            table,
            plan,
            self.options.value_layout,
            turn,
        )
        .await
        {
            Ok(added) => added,
            Err(error) => return self.quarantine_input(plan, error),
        };
        let now = now_ms().max(0) as u64;
        if added.iter().any(|segment| segment.id.is_stale(now)) {
            tracing::warn!(
                "a merge took half a day: its files may be gone already, it is done again"
            );
            return Ok(Outcome::ForNothing);
        }
        let removed: Vec<_> = plan.segments.iter().map(|s| s.reference()).collect();
        match self.catalog.commit_compaction(&removed, &added).await {
            Ok(_) => {}
            Err(CatalogError::Refused(refusal)) => {
                tracing::info!(%refusal, "a merge was for nothing");
                return Ok(Outcome::ForNothing);
            }
            Err(error) => return Err(error.into()),
        }
        let took = started.elapsed();
        let bytes_in: u64 = plan.segments.iter().map(|s| s.data_bytes).sum();
        let bytes_out: u64 = added.iter().map(|s| s.data_bytes).sum();
        let counters = &self.counters;
        for (counter, more) in [
            (&counters.merges, 1),
            (&counters.milliseconds, took.as_millis() as u64),
            (&counters.bytes_in, bytes_in),
            (&counters.bytes_out, bytes_out),
        ] {
            counter.fetch_add(more, Ordering::Relaxed);
        }
        tracing::info!(
            database = %first.database, table = %first.table, day = %first.day, level = plan.level,
            inputs = plan.segments.len(), bytes_in,
            outputs = added.len(), bytes_out,
            rows = added.iter().map(|s| s.rows).sum::<u64>(), seconds = took.as_secs_f64(), "merged"
        );
        Ok(Outcome::Merged)
    }

    /// A file that is as it was written may still not be readable, or have gone while it was read.
    fn quarantine_input(&self, plan: &Plan, error: UploadError) -> Result<Outcome, CompactError> {
        let UploadError::Segment(damage @ SegmentError::Corrupt { object, .. }) = &error else {
            return Err(error.into());
        };
        let id = keys::segment_of_file(object);
        let Some(segment) = plan.segments.iter().find(|segment| Some(segment.id) == id) else {
            return Err(error.into());
        };
        self.quarantine.put(
            Arc::clone(segment),
            damage.clone(),
            self.catalog.environment().now_ms(),
        );
        Ok(Outcome::Damaged)
    }

    /// Deletes what nothing names any more.
    pub async fn collect(&self) -> Result<(), CollectError> {
        self.garbage
            .collect(&self.catalog, self.catalog.environment().now_ms())
            .await
    }
}

fn day_of(plan: &Plan) -> Option<(Arc<str>, Arc<str>, Day)> {
    plan.segments.first().map(|first| {
        (
            Arc::clone(&first.database),
            Arc::clone(&first.table),
            first.day,
        )
    })
}

async fn run(compactor: Weak<Compactor>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(compactor) = compactor.upgrade() else {
            return;
        };
        match compactor.compact(Goal::Steady).await {
            Ok(_) => {}
            Err(CompactError::Catalog(CatalogError::Fenced { .. })) => return,
            Err(error) => tracing::debug!(%error, "not everything was merged"),
        }
        if let Err(error) = compactor.collect().await {
            tracing::warn!(%error, "garbage could not be deleted; it will be tried again");
        }
    }
}

#[cfg(test)]
mod tests;
