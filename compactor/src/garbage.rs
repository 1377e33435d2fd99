//! Deletes files that nothing names any more: those of segments that merges replaced, and those of
//! flushes and merges that never came to their commit.
//!
//! What a commit removed is known from the catalog, however often processes were restarted since.
//! It waits for a grace period that is longer than any query runs, because older snapshots name it,
//! and longer than states of the past can be read. What no commit ever named is found by listing,
//! one table's folder at a time, so that a look costs a request per thousand of *its* files and
//! never one for all of the store.
//!
//! Nothing here decides by time alone: a file goes only if the newest catalog does not name it.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tidelake_catalog::snapshot::{SegmentRef, Snapshot};
use tidelake_catalog::store::{Store, StoreError};
use tidelake_catalog::{Catalog, CatalogError, keys};
use tokio::time::Instant;

/// Segments whose files are deleted before that is committed.
const BATCH: usize = 500;

/// Deletions under way at a time.
const AT_ONCE: usize = 8;

/// Why garbage is left.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A file could not be deleted, or a folder not be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// That files are deleted could not be committed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Where the next look for orphans goes.
#[derive(Debug)]
struct Sweep {
    last: Instant,
    /// The table looked at last.
    table: (String, String),
}

/// Collects garbage.
#[derive(Debug)]
pub struct Garbage {
    grace: Duration,
    interval: Duration,
    sweep: Mutex<Option<Sweep>>,
}

impl Garbage {
    /// Files of removed segments stay for `grace`; every `interval` one table is searched for
    /// orphans.
    pub fn new(grace: Duration, interval: Duration) -> Self {
        Self {
            grace,
            interval,
            sweep: Mutex::new(None),
        }
    }

    /// One round. `now_ms` is milliseconds since 1970.
    pub async fn collect(&self, catalog: &Catalog, now_ms: i64) -> Result<(), CollectError> {
        self.delete_retired(catalog, now_ms).await?;
        if let Some((database, table)) = self.next_table(&catalog.snapshot()) {
            let deleted = delete_orphans(catalog, &database, &table, now_ms).await?;
            if deleted > 0 {
                tracing::info!(
                    database,
                    table,
                    deleted,
                    "files that no commit names were deleted"
                );
            }
        }
        Ok(())
    }

    async fn delete_retired(&self, catalog: &Catalog, now_ms: i64) -> Result<(), CollectError> {
        let grace = i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX);
        loop {
            let snapshot = catalog.snapshot();
            let due = snapshot
                .retired()
                .filter(|retired| retired.time_ms.saturating_add(grace) <= now_ms);
            let due: Vec<SegmentRef> = due
                .take(BATCH)
                .map(|retired| retired.segment.clone())
                .collect();
            if due.is_empty() {
                return Ok(());
            }
            let files = due.iter().flat_map(|segment| {
                let SegmentRef {
                    database,
                    table,
                    day,
                    id,
                } = segment;
                [
                    keys::data_file(database, table, *day, *id),
                    keys::series_index(database, table, *day, *id),
                ]
            });
            delete_all(catalog.store(), files.collect()).await?;
            catalog.commit_forget(&due).await?;
        }
    }

    /// The table whose turn it is, if it is time.
    fn next_table(&self, snapshot: &Snapshot) -> Option<(String, String)> {
        let mut sweep = self.sweep.lock();
        if sweep
            .as_ref()
            .is_some_and(|sweep| sweep.last.elapsed() < self.interval)
        {
            return None;
        }
        let tables = || {
            snapshot.databases().flat_map(|d| {
                d.tables
                    .keys()
                    .map(|table| (d.name.to_string(), table.to_string()))
            })
        };
        let next = tables()
            .find(|table| sweep.as_ref().is_none_or(|sweep| *table > sweep.table))
            .or_else(|| tables().next())?;
        *sweep = Some(Sweep {
            last: Instant::now(),
            table: next.clone(),
        });
        Some(next)
    }
}

/// Deletes the old files of a table that no commit names.
async fn delete_orphans(
    catalog: &Catalog,
    database: &str,
    table: &str,
    now_ms: i64,
) -> Result<usize, CollectError> {
    let listed: Vec<String> = catalog
        .store()
        .list(&keys::table(database, table))
        .map_ok(|info| info.key)
        .try_collect()
        .await?;
    // After the listing: what was committed meanwhile is named.
    let snapshot = catalog.refresh().await?;
    let named: std::collections::HashSet<_> = snapshot
        .table(database, table)
        .into_iter()
        .flat_map(|table| table.days.values())
        .flat_map(|day| day.iter().map(|segment| segment.id))
        .chain(snapshot.retired().map(|retired| retired.segment.id))
        .collect();
    let is_orphan = |key: &String| {
        keys::parse_segment(key)
            .is_some_and(|id| id.is_orphan(now_ms.max(0) as u64) && !named.contains(&id))
    };
    let orphans: Vec<String> = listed.into_iter().filter(is_orphan).collect();
    let count = orphans.len();
    delete_all(catalog.store(), orphans).await?;
    Ok(count)
}

async fn delete_all(store: &Store, files: Vec<String>) -> Result<(), StoreError> {
    let delete = |key: String| async move {
        match store.delete(&key).await {
            // An earlier round was broken off between deleting and saying so.
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    };
    stream::iter(files)
        .map(delete)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests;
