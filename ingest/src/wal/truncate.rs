//! Deletes the objects of a log that segments cover.
//!
//! What is covered is not needed, so that the order of deletions does not matter: a replay begins
//! behind it, and misses nothing of it.
//!
//! Objects are deleted by number, from where the last call ended, without listing. The fences of
//! older epochs stay, and so do torn objects: they keep their numbers taken, and a process that was
//! paused for a week must still find its number taken when it goes on. They cost some seventy bytes
//! for each start of a node, and nobody lists them, as replay begins at the covered position.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use futures::stream::{StreamExt, TryStreamExt};
use tidelake_catalog::keys;
use tidelake_catalog::store::{Store, StoreError};

use super::frame::{self, DecodeError, EMPTY_LEN, Frame, ObjectHeader, ObjectKind};
use super::metrics::{self, WalMetrics};
use super::{ReplayReport, WalPosition};

/// Deletions that are under way at once.
const CONCURRENCY: usize = 16;

/// Remembers which objects of a node's log are still there.
pub struct Truncator {
    store: Store,
    node: String,
    /// By epoch, the objects that are not deleted yet. Our own epoch has no end.
    kept: BTreeMap<u64, Range<u64>>,
    metrics: Arc<WalMetrics>,
}

impl Truncator {
    /// For the log that begins at `start` after what a replay found.
    pub fn new(
        store: Store,
        node: &str,
        start: WalPosition,
        replayed: &ReplayReport,
        metrics: Arc<WalMetrics>,
    ) -> Self {
        let mut kept: BTreeMap<u64, Range<u64>> = replayed
            .epochs
            .iter()
            .map(|range| (range.epoch, range.first..range.end))
            .collect();
        kept.insert(start.epoch, start.seq..u64::MAX);
        Self {
            store,
            node: node.to_owned(),
            kept,
            metrics,
        }
    }

    /// Deletes everything before `covered`, which a commit must have made the node's position. What
    /// fails is logged and tried again by the next call.
    pub async fn truncate(&mut self, covered: WalPosition) {
        for (&epoch, range) in self.kept.range_mut(..=covered.epoch) {
            let end = if epoch == covered.epoch {
                range.end.min(covered.seq)
            } else {
                range.end
            };
            while range.start < end {
                let next = end.min(range.start.saturating_add(CONCURRENCY as u64));
                let (store, node) = (&self.store, &self.node);
                let deletions = (range.start..next).map(|seq| async move {
                    store.delete(&keys::wal_object(node, epoch, seq)).await
                });
                if let Some(Err(error)) = first_error(deletions).await {
                    tracing::warn!(%error, "covered objects of the write-ahead log could not be deleted; they will be at the next flush");
                    return;
                }
                metrics::add(&self.metrics.truncated, (next - range.start) as usize);
                range.start = next;
            }
        }
        self.kept
            .retain(|&epoch, range| epoch >= covered.epoch || !range.is_empty());
    }

    /// Deletes what earlier processes left before `covered`, having died between a commit and their
    /// deletions. It lists the node's whole log: once after the start, in the background.
    /// Returns how many were deleted.
    pub async fn sweep(
        store: &Store,
        node: &str,
        covered: WalPosition,
    ) -> Result<usize, StoreError> {
        let mut found: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
        let mut infos = store.list(&keys::wal_node(node));
        while let Some(info) = infos.try_next().await? {
            if let Some((epoch, seq)) = keys::parse_wal_object(node, &info.key)
                && (WalPosition { epoch, seq }) < covered
            {
                found.entry(epoch).or_default().insert(seq, info.bytes);
            }
        }
        let mut deleted = 0;
        for (epoch, objects) in found {
            let is_empty = |seq: u64| objects.get(&seq) == Some(&(EMPTY_LEN as u64));
            // The older epochs have a fence each. Where there is more, there are marks.
            let has_marks =
                epoch == covered.epoch || objects.keys().filter(|&&seq| is_empty(seq)).count() > 1;
            for &seq in objects.keys() {
                let key = keys::wal_object(node, epoch, seq);
                if is_empty(seq) && !(has_marks && is_mark(store, &key).await?) {
                    continue;
                }
                if is_empty(seq.saturating_add(1)) && is_torn(store, &key).await? {
                    continue;
                }
                store.delete(&key).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

async fn is_mark(store: &Store, key: &str) -> Result<bool, StoreError> {
    Ok(match decoded(store, key).await? {
        Some(Ok((header, _))) => header.kind == ObjectKind::Mark,
        _ => false,
    })
}

async fn is_torn(store: &Store, key: &str) -> Result<bool, StoreError> {
    Ok(matches!(
        decoded(store, key).await?,
        Some(Err(DecodeError::Truncated { .. }))
    ))
}

/// `None` if it is gone.
async fn decoded(
    store: &Store,
    key: &str,
) -> Result<Option<Result<(ObjectHeader, Vec<Frame>), DecodeError>>, StoreError> {
    match store.get(key).await {
        Ok(object) => Ok(Some(frame::decode(&object))),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn first_error(
    requests: impl Iterator<Item = impl Future<Output = Result<(), StoreError>>>,
) -> Option<Result<(), StoreError>> {
    let mut requests = futures::stream::iter(requests).buffer_unordered(CONCURRENCY);
    while let Some(result) = requests.next().await {
        if result.is_err() {
            return Some(result);
        }
    }
    None
}
