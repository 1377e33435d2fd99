//! Runs merges: plans, merges, commits; and lets garbage be collected.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tidelake_catalog::snapshot::Snapshot;
use tidelake_catalog::{Catalog, CatalogError};
use tokio::time::Instant;

use crate::garbage::{CollectError, Garbage};
use crate::merge::{MergeError, merge};
use crate::policy::{Goal, Plan, plans};

/// Why compacting ended early.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A merge failed.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Its commit failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Settings of the compactor.
#[derive(Debug, Clone)]
pub struct CompactorOptions {
    /// How often to look for something to merge.
    pub interval: Duration,
    /// How long a replaced segment's files stay at least: longer than any query runs.
    pub grace: Duration,
    /// How far back states of the past can be read: files that they name stay for so long, and for the grace period.
    pub time_travel_window: Duration,
    /// How often to look through a table's folder for files that no commit names.
    pub sweep_interval: Duration,
}

impl Default for CompactorOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            grace: Duration::from_secs(300),
            time_travel_window: Duration::from_secs(3600),
            sweep_interval: Duration::from_secs(600),
        }
    }
}

/// Merges the segments of a catalog.
#[derive(Debug)]
pub struct Compactor {
    catalog: Arc<Catalog>,
    options: CompactorOptions,
    /// One merge at a time: two would only share the machine.
    running: tokio::sync::Mutex<()>,
    garbage: Garbage,
}

impl Compactor {
    /// A compactor that runs in the background for as long as it is held.
    pub fn start(catalog: Arc<Catalog>, options: CompactorOptions) -> Arc<Self> {
        let garbage = Garbage::new(options.grace.saturating_add(options.time_travel_window), options.sweep_interval);
        let compactor = Arc::new(Self { catalog, options, running: tokio::sync::Mutex::default(), garbage });
        tokio::spawn(run(Arc::downgrade(&compactor), compactor.options.interval));
        compactor
    }

    /// Merges until nothing is left to merge. Returns the number of merges.
    pub async fn compact(&self, goal: Goal) -> Result<usize, CompactError> {
        let _running = self.running.lock().await;
        let mut merges = 0;
        loop {
            let snapshot = self.catalog.snapshot();
            let todo = plans(&snapshot, goal, self.catalog.environment().now_ms());
            if todo.is_empty() {
                self.catalog.forget_tombstones().await?;
                return Ok(merges);
            }
            for plan in todo {
                if self.run(&snapshot, &plan).await? {
                    merges += 1;
                }
            }
        }
    }

    /// Runs one plan; `false` if another compactor was faster.
    async fn run(&self, snapshot: &Snapshot, plan: &Plan) -> Result<bool, CompactError> {
        let Some(first) = plan.segments.first() else { return Ok(false) };
        let Some(table) = snapshot.table(&first.database, &first.table) else { return Ok(false) };
        let started = Instant::now();
        let added = merge(self.catalog.store(), self.catalog.environment(), table, plan).await?;
        let now = self.catalog.environment().now_ms().max(0) as u64;
        if added.iter().any(|segment| segment.id.is_stale(now)) {
            tracing::warn!("a merge took half a day: its files may be gone already, it is done again");
            return Ok(false);
        }
        let removed: Vec<_> = plan.segments.iter().map(|s| s.reference()).collect();
        match self.catalog.commit_compaction(&removed, &added).await {
            Ok(_) => {}
            Err(CatalogError::Refused(refusal)) => {
                tracing::info!(%refusal, "a merge was for nothing");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(
            database = %first.database, table = %first.table, day = %first.day, level = plan.level,
            inputs = plan.segments.len(), bytes_in = plan.segments.iter().map(|s| s.data_bytes).sum::<u64>(),
            outputs = added.len(), bytes_out = added.iter().map(|s| s.data_bytes).sum::<u64>(),
            rows = added.iter().map(|s| s.rows).sum::<u64>(), seconds = started.elapsed().as_secs_f64(), "merged"
        );
        Ok(true)
    }

    /// Deletes what nothing names any more.
    pub async fn collect(&self) -> Result<(), CollectError> {
        self.garbage.collect(&self.catalog, self.catalog.environment().now_ms()).await
    }
}

async fn run(compactor: Weak<Compactor>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(compactor) = compactor.upgrade() else { return };
        match compactor.compact(Goal::Steady).await {
            Ok(_) => {}
            Err(CompactError::Catalog(CatalogError::Fenced { .. })) => return,
            Err(error) => tracing::warn!(%error, "a merge failed; it will be tried again"),
        }
        if let Err(error) = compactor.collect().await {
            tracing::warn!(%error, "garbage could not be deleted; it will be tried again");
        }
    }
}
