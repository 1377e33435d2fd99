//! The log of commits from its first record, and every checkpoint against the records before it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use super::{Finding, Followed, Report};
use crate::apply::apply;
use crate::log::Log;
use crate::record::Record;
use crate::snapshot::Snapshot;
use crate::store::{Store, StoreError};
use crate::{checkpoint, keys};

const READ_AHEAD: usize = 16;

const RESTORE_RECORD: &str =
    "restore the record from a backup: no process can start that has to read it";
const DELETE_CHECKPOINT: &str = "delete the checkpoint: it only makes starting short, an older \
                                 one or the log is taken in its place";
const NOT_OURS: &str = "move it away if nobody knows what it is for";

pub(super) async fn check(store: &Store, report: &mut Report<'_>) -> Result<Followed, StoreError> {
    let log = Log::new(store.clone(), Duration::ZERO);
    let mut walk = Walk {
        checkpoints: checkpoints(store, report).await?,
        state: Some(Snapshot::default()),
        last_good: Snapshot::default(),
    };
    let mut last = 0;
    let mut listing = store.list(keys::LOG);
    while let Some(info) = listing.try_next().await? {
        match keys::parse_log_record(&info.key) {
            Some(sequence) => last = last.max(sequence),
            None => report.add(Finding::note(
                info.key,
                "it is not a commit record",
                NOT_OURS,
            )),
        }
    }
    let mut reads = stream::iter(1..=last)
        .map(|sequence| read(&log, sequence))
        .buffered(READ_AHEAD);
    while let Some((sequence, found)) = reads.next().await {
        walk.record(sequence, found, report);
    }
    drop(reads);
    for (&sequence, _) in walk.checkpoints.range(last.saturating_add(1)..) {
        let problem = format!(
            "it is missing, and {} is there: it lies beyond the end of the log, whose last record \
             is {last}",
            keys::checkpoint(sequence)
        );
        report.add(Finding::damage(
            keys::log_record(last.saturating_add(1)),
            problem,
            "restore this record and all up to the checkpoint from a backup",
        ));
    }
    if let (None, Some((_, newest))) = (&walk.state, walk.checkpoints.last_key_value()) {
        // What a server would begin with, had it been the last checkpoint.
        if newest.sequence() > walk.last_good.sequence() {
            walk.last_good = newest.clone();
        }
    }
    let is_complete = walk.state.is_some();
    let mut followed = Followed {
        log,
        snapshot: walk.state.unwrap_or(walk.last_good),
        is_complete,
    };
    followed.refresh().await?;
    report.checked.records = report.checked.records.max(followed.snapshot.sequence());
    Ok(followed)
}

/// A record, or what is wrong with it.
async fn read(log: &Log, sequence: u64) -> (u64, Result<Record, Finding>) {
    let key = || keys::log_record(sequence);
    let found = match log.read(sequence).await {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(Finding::damage(
            key(),
            "it is missing, and later records are there",
            RESTORE_RECORD,
        )),
        Err(StoreError::Corrupt { reason, .. }) => {
            Err(Finding::damage(key(), reason, RESTORE_RECORD))
        }
        Err(error) => Err(Finding::unread(key(), error)),
    };
    (sequence, found)
}

/// The readable checkpoints by their sequences. There are a handful at most.
async fn checkpoints(
    store: &Store,
    report: &mut Report<'_>,
) -> Result<BTreeMap<u64, Snapshot>, StoreError> {
    let mut found = BTreeMap::new();
    for sequence in checkpoint::list(store).await? {
        report.checked.checkpoints += 1;
        match checkpoint::read(store, sequence).await {
            Ok(snapshot) => drop(found.insert(sequence, snapshot)),
            // A server replaced it with a newer one.
            Err(StoreError::NotFound { .. }) => report.checked.checkpoints -= 1,
            Err(StoreError::Corrupt { key, reason }) => {
                report.add(Finding::damage(key, reason, DELETE_CHECKPOINT))
            }
            Err(error) => report.add(Finding::unread(keys::checkpoint(sequence), error)),
        }
    }
    Ok(found)
}

struct Walk {
    checkpoints: BTreeMap<u64, Snapshot>,
    /// The state after the record before; `None` after one that does not fit, until a checkpoint.
    state: Option<Snapshot>,
    /// The last state that all records up to it give, or a checkpoint.
    last_good: Snapshot,
}

impl Walk {
    fn record(&mut self, sequence: u64, found: Result<Record, Finding>, report: &mut Report<'_>) {
        report.checked.records += 1;
        let next = match (found, &self.state) {
            (Err(finding), _) => {
                report.add(finding);
                None
            }
            (Ok(record), Some(state)) => match apply(state, &record) {
                Ok(next) => Some(next),
                Err(refusal) => {
                    let problem = format!("it does not fit the records before it: {refusal}");
                    report.add(Finding::damage(
                        keys::log_record(sequence),
                        problem,
                        RESTORE_RECORD,
                    ));
                    None
                }
            },
            // It parses; whether it fits cannot be said.
            (Ok(_), None) => None,
        };
        match (&next, self.checkpoints.get(&sequence)) {
            (Some(next), Some(checkpoint)) if next != checkpoint => {
                let problem = "it is not the state that the records up to it give";
                report.add(Finding::damage(
                    keys::checkpoint(sequence),
                    problem,
                    DELETE_CHECKPOINT,
                ));
                self.state = Some(next.clone());
            }
            (None, Some(checkpoint)) => self.state = Some(checkpoint.clone()),
            _ => {
                if next.is_none()
                    && let Some(state) = self.state.take()
                {
                    self.last_good = state;
                }
                self.state = next;
            }
        }
    }
}
