//! Whole states on the store, so that starting does not take longer the older the catalog is.
//!
//! A checkpoint is never needed: whatever goes wrong with one costs time only, since all records are kept.

use futures::TryStreamExt;

use crate::keys;
use crate::record::{Checkpoint, envelope};
use crate::snapshot::Snapshot;
use crate::store::{Store, StoreError};

/// How many of the newest are kept: more than one, should the last turn out to be broken.
const KEPT: usize = 4;

/// Sequences of all checkpoints, newest first.
pub(crate) async fn list(store: &Store) -> Result<Vec<u64>, StoreError> {
    let infos: Vec<_> = store.list(keys::CHECKPOINTS).try_collect().await?;
    let mut sequences: Vec<_> = infos.iter().filter_map(|info| keys::parse_checkpoint(&info.key)).collect();
    sequences.sort_unstable_by(|a, b| b.cmp(a));
    Ok(sequences)
}

/// The newest state that can be read, the empty one if there is none.
pub(crate) async fn load(store: &Store) -> Result<Snapshot, StoreError> {
    for sequence in list(store).await? {
        match read(store, sequence).await {
            Ok(snapshot) => return Ok(snapshot),
            // Either it was just replaced by newer ones, or the store cannot read yet what it lists.
            Err(StoreError::NotFound { key }) => {
                return Err(StoreError::Unavailable { key, reason: "it is listed, but cannot be found".to_owned() });
            }
            Err(error @ StoreError::Corrupt { .. }) => tracing::error!(%error, "a checkpoint is left out, an older one is taken"),
            Err(error) => return Err(error),
        }
    }
    Ok(Snapshot::default())
}

/// The state of one checkpoint.
pub(crate) async fn read(store: &Store, sequence: u64) -> Result<Snapshot, StoreError> {
    let key = keys::checkpoint(sequence);
    open(&key, sequence, &store.get(&key).await?)
}

fn open(key: &str, sequence: u64, bytes: &[u8]) -> Result<Snapshot, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt { key: key.to_owned(), reason };
    let message: Checkpoint = envelope::open(key, bytes)?;
    if message.sequence != sequence {
        return Err(corrupt(format!("it is checkpoint {}", message.sequence)));
    }
    message.to_snapshot().map_err(|error| corrupt(error.to_string()))
}

/// Writes a state, and deletes those before the newest few.
pub(crate) async fn write(store: &Store, snapshot: &Snapshot) -> Result<(), StoreError> {
    let bytes = envelope::seal(&Checkpoint::from_snapshot(snapshot));
    // Another process may have written the same state: it does not matter whose it is.
    store.put_if_absent(&keys::checkpoint(snapshot.sequence), bytes).await?;
    for sequence in list(store).await?.into_iter().skip(KEPT) {
        store.delete(&keys::checkpoint(sequence)).await?;
    }
    Ok(())
}
