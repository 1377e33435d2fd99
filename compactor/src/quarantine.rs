//! Segments that cannot be merged because a file of theirs is damaged or gone.
//!
//! They are remembered, never dropped: what they still hold is read by queries, and the rest may be
//! restored. Each is looked at again after a while, so that a restored file is merged without
//! anybody saying so.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tidelake_catalog::segment::SegmentError;
use tidelake_catalog::snapshot::{SegmentId, SegmentMeta, Snapshot};
use tidelake_catalog::store::Store;
use tokio::sync::watch;

/// Files that are read at a time.
const AT_ONCE: usize = 4;

#[derive(Debug)]
struct Entry {
    segment: Arc<SegmentMeta>,
    error: SegmentError,
    checked_ms: i64,
}

/// Damaged segments. Times are milliseconds since 1970.
#[derive(Debug)]
pub struct Quarantine {
    recheck: Duration,
    entries: Mutex<BTreeMap<SegmentId, Entry>>,
    held: watch::Sender<Arc<HashSet<SegmentId>>>,
}

impl Quarantine {
    /// An empty one, in which segments are looked at again after `recheck`.
    pub fn new(recheck: Duration) -> Self {
        Self {
            recheck,
            entries: Mutex::default(),
            held: watch::Sender::default(),
        }
    }

    /// The segments in it.
    pub fn held(&self) -> Arc<HashSet<SegmentId>> {
        self.held.borrow().clone()
    }

    /// Sees every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<HashSet<SegmentId>>> {
        self.held.subscribe()
    }

    /// What is wrong with one of them.
    pub fn error(&self) -> Option<SegmentError> {
        self.entries
            .lock()
            .values()
            .next()
            .map(|entry| entry.error.clone())
    }

    /// Puts a segment in.
    pub fn put(&self, segment: Arc<SegmentMeta>, error: SegmentError, now_ms: i64) {
        tracing::error!(
            %error, database = %segment.database, table = %segment.table, day = %segment.day, rows = segment.rows,
            "a segment is damaged and is not merged; restore the file, it is looked at again in {} s", self.recheck.as_secs()
        );
        self.entries.lock().insert(
            segment.id,
            Entry {
                segment,
                error,
                checked_ms: now_ms,
            },
        );
        self.publish();
    }

    /// Forgets segments that are no longer there, and lets out those that are whole again.
    pub async fn recheck(&self, store: &Store, snapshot: &Snapshot, now_ms: i64) {
        self.entries
            .lock()
            .retain(|_, entry| snapshot.segment(&entry.segment.reference()).is_some());
        let recheck = i64::try_from(self.recheck.as_millis()).unwrap_or(i64::MAX);
        let is_due = |entry: &&Entry| entry.checked_ms.saturating_add(recheck) <= now_ms;
        let due: Vec<_> = self
            .entries
            .lock()
            .values()
            .filter(is_due)
            .map(|entry| Arc::clone(&entry.segment))
            .collect();
        for segment in due {
            match check(store, &segment).await {
                Ok(()) => {
                    tracing::info!(object = %segment.data_key(), "a segment that was damaged is whole again and is merged");
                    self.entries.lock().remove(&segment.id);
                }
                Err(error @ SegmentError::Corrupt { .. }) => self.put(segment, error, now_ms),
                // Nothing is known: it is tried the next time.
                Err(error) => tracing::warn!(%error, "a damaged segment could not be looked at"),
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let now: HashSet<SegmentId> = self.entries.lock().keys().copied().collect();
        self.held.send_if_modified(|held| {
            let changed = **held != now;
            if changed {
                *held = Arc::new(now);
            }
            changed
        });
    }
}

/// Whether both files are, byte by byte, what the catalog says. A merge of changed bytes would make
/// them true for ever.
async fn check(store: &Store, segment: &SegmentMeta) -> Result<(), SegmentError> {
    segment.check_index_file(store).await?;
    segment.check_data_file(store).await
}

/// Checks the inputs of a merge; returns the damaged ones.
pub(crate) async fn damaged(
    store: &Store,
    segments: &[Arc<SegmentMeta>],
) -> Result<Vec<(Arc<SegmentMeta>, SegmentError)>, SegmentError> {
    let checks = segments.iter().cloned().map(|segment| async move {
        match check(store, &segment).await {
            Ok(()) => Ok(None),
            Err(error @ SegmentError::Corrupt { .. }) => Ok(Some((segment, error))),
            Err(error) => Err(error),
        }
    });
    stream::iter(checks)
        .buffer_unordered(AT_ONCE)
        .try_filter_map(futures::future::ok)
        .try_collect()
        .await
}
