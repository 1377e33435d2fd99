//! Whether a replay of a node's log would succeed, and what it would leave out: the rules of
//! [`replay`](super::replay), without putting a fence. The log may be written and cut meanwhile.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use tidelake_catalog::keys;
use tidelake_catalog::store::{Store, StoreError};
use tidelake_catalog::verify::{Finding, Followed, Report};

use super::durable_end::{self, DurableEnd};
use super::frame::{self, DecodeError, ObjectKind};
use super::{FIRST_SEQ, Loss, WalPosition};

const RESTORE: &str = "restore it, or start the node with --accept-lost-wal, which goes on without \
                       what it held; the node does not start before";
const HARMLESS: &str = "it was never acknowledged and is not replayed; leave it";

/// Checks the objects of a node's log from its covered position on.
pub async fn verify(
    store: &Store,
    node: &str,
    followed: &mut Followed,
    report: &mut Report<'_>,
) -> Result<(), StoreError> {
    let start = covered(followed, node);
    let mut listed = BTreeSet::new();
    let mut infos = store.list(&keys::wal_node(node));
    while let Some(info) = infos.try_next().await? {
        match keys::parse_wal_object(node, &info.key) {
            Some((epoch, seq)) => drop(listed.insert(WalPosition { epoch, seq })),
            None => report.add(Finding::note(
                info.key,
                "it is not an object of a write-ahead log",
                "move it away if nobody needs it",
            )),
        }
    }
    let mut check = LogCheck {
        store,
        node,
        followed,
        report,
        listed: listed.split_off(&start),
        durable_end: None,
    };
    let mut from = start;
    while let Some(&next) = check.listed.range(from..).next() {
        // An epoch begins with its first number, whether or not the object is there.
        let first = if next.epoch == start.epoch {
            from
        } else {
            WalPosition {
                epoch: next.epoch,
                seq: FIRST_SEQ,
            }
        };
        check.epoch(first).await?;
        from = WalPosition {
            epoch: next.epoch.saturating_add(1),
            seq: FIRST_SEQ,
        };
    }
    Ok(())
}

/// The first position of a node that is not in segments.
fn covered(followed: &Followed, node: &str) -> WalPosition {
    followed
        .snapshot()
        .node(node)
        .map(|node| node.wal)
        .unwrap_or_default()
        .into()
}

struct LogCheck<'a, 'r> {
    store: &'a Store,
    node: &'a str,
    followed: &'a mut Followed,
    report: &'a mut Report<'r>,
    listed: BTreeSet<WalPosition>,
    /// How far the epoch that is looked at was durable, once it was asked for.
    durable_end: Option<Option<DurableEnd>>,
}

/// What is at a position.
enum Found {
    /// Or a mark.
    Group,
    Fence,
    EndsEarly(DecodeError),
    /// Reported already.
    Damaged,
    Missing,
    /// In segments by now.
    Covered,
}

impl LogCheck<'_, '_> {
    fn key(&self, at: WalPosition) -> String {
        keys::wal_object(self.node, at.epoch, at.seq)
    }

    /// The first object of an epoch that is listed from a position on.
    fn next_listed(&self, at: WalPosition) -> Option<WalPosition> {
        let end = WalPosition {
            epoch: at.epoch.saturating_add(1),
            seq: FIRST_SEQ,
        };
        self.listed.range(at..end).next().copied()
    }

    async fn epoch(&mut self, first: WalPosition) -> Result<(), StoreError> {
        self.durable_end = None;
        let mut at = first;
        while let Some(next) = self.next_listed(at) {
            match self.look(at).await? {
                Found::Group | Found::Covered | Found::Damaged => {}
                Found::Fence => {
                    if !self.is_lost(at, Loss::Fenced).await {
                        self.leave_out(at.next(), "it lies after the fence of its epoch");
                        return Ok(());
                    }
                }
                Found::EndsEarly(reason) => {
                    if !self.is_lost(at, Loss::Cut(reason.clone())).await {
                        let is_last = self.next_listed(at.next()).is_none();
                        if is_last || matches!(self.look(at.next()).await?, Found::Fence) {
                            self.report
                                .add(Finding::note(self.key(at), reason, HARMLESS));
                            self.leave_out(
                                at.next().next(),
                                "it lies after the fence of its epoch",
                            );
                            return Ok(());
                        }
                        self.report
                            .add(Finding::damage(self.key(at), reason, RESTORE));
                    }
                }
                Found::Missing => {
                    if !self.is_lost(at, Loss::Missing).await {
                        self.leave_out(next, "it lies after a gap, or is on its way");
                        return Ok(());
                    }
                }
            }
            at = at.next();
        }
        Ok(())
    }

    /// Whether the object at `at` was acknowledged, by what later ones say; then its loss is
    /// reported.
    async fn is_lost(&mut self, at: WalPosition, loss: Loss) -> bool {
        // Nothing before it tells anything of it.
        if self.next_listed(at.next()).is_none() {
            return false;
        }
        if self.durable_end.is_none() {
            let furthest = self.furthest_end(at.epoch).await;
            self.durable_end = Some(furthest);
        }
        match self
            .durable_end
            .iter()
            .flatten()
            .find(|proof| proof.end > at)
        {
            Some(proof) => {
                let problem = format!("it {loss}, though it was acknowledged: {proof}");
                self.report
                    .add(Finding::damage(self.key(at), problem, RESTORE));
                true
            }
            None => false,
        }
    }

    async fn furthest_end(&self, epoch: u64) -> Option<DurableEnd> {
        let mut furthest = None;
        for witness in durable_end::witnesses(&self.listed, epoch) {
            let key = self.key(witness);
            // What cannot be read is reported when its turn comes.
            let object = self.store.get(&key).await.unwrap_or_default();
            durable_end::extend(&mut furthest, key, witness, &object);
        }
        furthest
    }

    fn leave_out(&mut self, from: WalPosition, problem: &str) {
        let mut from = from;
        while let Some(at) = self.next_listed(from) {
            self.report
                .add(Finding::note(self.key(at), problem, HARMLESS));
            from = at.next();
        }
    }

    async fn look(&mut self, at: WalPosition) -> Result<Found, StoreError> {
        let key = self.key(at);
        let object = match self.store.get(&key).await {
            Ok(object) => object,
            Err(StoreError::NotFound { .. }) => {
                self.followed.refresh().await?;
                return Ok(if at < covered(self.followed, self.node) {
                    Found::Covered
                } else {
                    Found::Missing
                });
            }
            Err(error) => {
                self.report.add(Finding::unread(key, error));
                return Ok(Found::Damaged);
            }
        };
        self.report.checked.log_objects += 1;
        let problem = match frame::decode(&object) {
            Ok((header, _)) => {
                let found = WalPosition {
                    epoch: header.epoch,
                    seq: header.seq,
                };
                if found == at {
                    return Ok(match header.kind {
                        ObjectKind::Fence => Found::Fence,
                        ObjectKind::Group | ObjectKind::Mark => Found::Group,
                    });
                }
                format!("it was written as {found}: somebody moved or copied it")
            }
            Err(reason @ DecodeError::Truncated { .. }) => return Ok(Found::EndsEarly(reason)),
            Err(reason) => reason.to_string(),
        };
        self.report.add(Finding::damage(key, problem, RESTORE));
        Ok(Found::Damaged)
    }
}

#[cfg(test)]
mod tests;
