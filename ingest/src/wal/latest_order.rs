//! The highest write order in a node's log, for processes that cannot ask the node.

use futures::TryStreamExt;
use tidelake_catalog::keys;
use tidelake_catalog::store::{Store, StoreError};

use super::WalPosition;
use super::frame::{self, HEADER_LEN};

/// Objects at the end of a log that are looked at: fences have no order, and a group and its mark
/// are never far from them.
const LOOKED_AT: usize = 64;

/// The highest order of an object of `node`'s log from a position on; 0 if there is none. What is
/// acknowledged is in it, even if the node acknowledged it at this moment: orders ascend with the
/// objects, and an object is durable before it is acknowledged.
pub async fn latest_order(store: &Store, node: &str, from: WalPosition) -> Result<u64, StoreError> {
    let after = match from.seq.checked_sub(1) {
        Some(before) => keys::wal_object(node, from.epoch, before),
        // A folder comes before what is in it.
        None => keys::wal_epoch(node, from.epoch),
    };
    let found = store.list_from(&keys::wal_node(node), &after);
    let found: Vec<_> = found.try_collect().await?;
    let mut objects: Vec<_> = found
        .iter()
        .filter_map(|info| Some((keys::parse_wal_object(node, &info.key)?, &info.key)))
        .collect();
    objects.sort_unstable();
    for (_, key) in objects.into_iter().rev().take(LOOKED_AT) {
        let head = match store.get_range(key, 0..HEADER_LEN as u64).await {
            Ok(head) => head,
            // Its rows are in segments, and their order is in the catalog.
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        match frame::decode_last_order(&head) {
            Ok(order) if order > 0 => return Ok(order),
            // A fence, or an object that ends early.
            _ => {}
        }
    }
    Ok(0)
}
