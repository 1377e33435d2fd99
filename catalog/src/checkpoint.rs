//! Whole states on the store, so that starting does not take longer the older the catalog is.
//!
//! A checkpoint is never needed: whatever goes wrong with one costs time only, since all records
//! are kept.

use futures::TryStreamExt;

use crate::keys;
use crate::record::{Checkpoint, envelope};
use crate::snapshot::Snapshot;
use crate::store::{Store, StoreError};

/// How many of the newest are kept: more than one, should the last turn out to be broken.
const KEPT: u64 = 8;

/// Whether a checkpoint stays, of a catalog of which one is written every `every` commits. Those
/// before the newest few become fewer the older they are: of those twice as old every second one
/// stays, so that any state of the past is reached from one by reading no more records than have
/// been written since, and only some dozens stay of millions.
fn is_kept(sequence: u64, newest: u64, every: u64) -> bool {
    let every = every.max(1);
    let age = newest.saturating_sub(sequence) / every;
    age < KEPT
        || (sequence.is_multiple_of(every)
            && (sequence / every).is_multiple_of(2 << (age / KEPT).ilog2()))
}

/// Sequences of all checkpoints, newest first.
pub(crate) async fn list(store: &Store) -> Result<Vec<u64>, StoreError> {
    let infos: Vec<_> = store.list(keys::CHECKPOINTS).try_collect().await?;
    let mut sequences: Vec<_> = infos
        .iter()
        .filter_map(|info| keys::parse_checkpoint(&info.key))
        .collect();
    sequences.sort_unstable_by(|a, b| b.cmp(a));
    Ok(sequences)
}

/// The newest state that can be read and is wanted, the empty one if there is none; and the
/// sequence of the newest checkpoint that there is.
pub(crate) async fn load(
    store: &Store,
    is_wanted: impl Fn(&Snapshot) -> bool,
) -> Result<(Snapshot, u64), StoreError> {
    let sequences = list(store).await?;
    let newest = sequences.first().copied().unwrap_or_default();
    for sequence in sequences {
        match read(store, sequence).await {
            Ok(snapshot) if is_wanted(&snapshot) => return Ok((snapshot, newest)),
            Ok(_) => {}
            // Either it was just replaced by newer ones, or the store cannot read yet what it
            // lists.
            Err(StoreError::NotFound { key }) => {
                return Err(StoreError::Unavailable {
                    key,
                    reason: "it is listed, but cannot be found".to_owned(),
                });
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(%error, "a checkpoint is left out, an older one is taken")
            }
            Err(error) => return Err(error),
        }
    }
    Ok((Snapshot::default(), newest))
}

/// The state of one checkpoint.
pub(crate) async fn read(store: &Store, sequence: u64) -> Result<Snapshot, StoreError> {
    let key = keys::checkpoint(sequence);
    open(&key, sequence, &store.get(&key).await?)
}

fn open(key: &str, sequence: u64, bytes: &[u8]) -> Result<Snapshot, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt {
        key: key.to_owned(),
        reason,
    };
    let message: Checkpoint = envelope::open(key, bytes)?;
    if message.sequence != sequence {
        return Err(corrupt(format!("it is checkpoint {}", message.sequence)));
    }
    message
        .to_snapshot()
        .map_err(|error| corrupt(error.to_string()))
}

/// Writes a state, of which one is written every `every` commits, and deletes some of the older
/// ones.
pub(crate) async fn write(
    store: &Store,
    snapshot: &Snapshot,
    every: u64,
) -> Result<(), StoreError> {
    let bytes = envelope::seal(&Checkpoint::from_snapshot(snapshot));
    // Another process may have written the same state: it does not matter whose it is.
    store
        .put_if_absent(&keys::checkpoint(snapshot.sequence), bytes)
        .await?;
    let all = list(store).await?;
    let newest = all.first().copied().unwrap_or_default();
    for sequence in all
        .into_iter()
        .filter(|sequence| !is_kept(*sequence, newest, every))
    {
        store.delete(&keys::checkpoint(sequence)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_checkpoints_become_fewer_and_every_past_state_stays_within_reach() {
        let mut kept: Vec<u64> = Vec::new();
        for newest in (100..=1_000_000).step_by(100) {
            kept.push(newest);
            kept.retain(|sequence| is_kept(*sequence, newest, 100));
            assert!(kept.len() <= 80, "{} at {newest}", kept.len());
            let newest_few: Vec<u64> = (0..8)
                .filter_map(|back| newest.checked_sub(100 * back))
                .filter(|s| *s > 0)
                .collect();
            assert!(kept.iter().rev().take(8).eq(&newest_few));
        }
        for past in (0..1_000_000).step_by(777) {
            let from = kept
                .iter()
                .rfind(|sequence| **sequence <= past)
                .copied()
                .unwrap_or(0);
            assert!(
                past - from <= (1_000_000 - past).max(400),
                "{past} from {from}"
            );
        }
    }
}
