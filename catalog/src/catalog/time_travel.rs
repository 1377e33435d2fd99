//! States of the past.
//!
//! All records are kept, so any state can be made again from the last checkpoint before it. It can
//! be read for as long as the files that it names are there: garbage collection leaves them for the
//! time-travel window.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Catalog, CatalogError, follow};
use crate::checkpoint;
use crate::snapshot::Snapshot;
use crate::store::StoreError;

/// States that are remembered.
const REMEMBERED: usize = 8;

/// Which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After the commit with this number.
    Sequence(u64),
    /// After the last commit that was made up to this time, in milliseconds since 1970. Commits
    /// count as made at [`Snapshot::time_ms`].
    TimeMs(i64),
}

/// A state, and when the next commit ended it.
#[derive(Debug, Clone)]
struct PastState {
    snapshot: Arc<Snapshot>,
    ended_ms: i64,
}

/// The states that were asked for last, the latest at the end.
#[derive(Debug, Default)]
pub(super) struct Past(Mutex<VecDeque<PastState>>);

impl AsOf {
    /// Whether a state comes after the one that is meant.
    fn is_before(self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Sequence(sequence) => snapshot.sequence() > sequence,
            Self::TimeMs(time_ms) => snapshot.time_ms() > time_ms,
        }
    }
}

impl Past {
    fn find(&self, at: AsOf) -> Option<PastState> {
        let known = self.0.lock();
        let is_meant = |state: &&PastState| match at {
            AsOf::Sequence(sequence) => state.snapshot.sequence() == sequence,
            AsOf::TimeMs(time_ms) => {
                state.snapshot.time_ms() <= time_ms && time_ms < state.ended_ms
            }
        };
        known.iter().find(is_meant).cloned()
    }

    fn remember(&self, state: PastState) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back(state);
    }
}

impl Catalog {
    /// The state of the past, if it was still the present one less than `window` before now
    /// (`now_ms`).
    ///
    /// Reads what others have committed; for a state that was not asked for lately, a checkpoint
    /// and the records after it.
    pub async fn as_of(
        &self,
        at: AsOf,
        window: Duration,
        now_ms: i64,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        let present = self.refresh().await?;
        let first_ms = now_ms.saturating_sub(i64::try_from(window.as_millis()).unwrap_or(i64::MAX));
        match at {
            AsOf::Sequence(sequence) if sequence > present.sequence() => {
                return Err(CatalogError::NoSuchState(format!(
                    "there is no commit {sequence} yet: the last one is {}",
                    present.sequence()
                )));
            }
            AsOf::TimeMs(time_ms) if time_ms > now_ms => {
                return Err(CatalogError::NoSuchState(format!(
                    "{} has not come yet",
                    time_text(time_ms)
                )));
            }
            AsOf::TimeMs(time_ms) if time_ms < first_ms => {
                return Err(too_long_ago(&time_text(time_ms), window));
            }
            _ => {}
        }
        if !at.is_before(&present) {
            return Ok(present);
        }
        let state = match self.past.find(at) {
            Some(state) => state,
            None => {
                let state = self.reconstruct(at, &present).await?;
                self.past.remember(state.clone());
                state
            }
        };
        if state.ended_ms < first_ms {
            return Err(too_long_ago(
                &format!("commit {}", state.snapshot.sequence()),
                window,
            ));
        }
        Ok(state.snapshot)
    }

    /// Makes a state anew that is before the present one.
    async fn reconstruct(&self, at: AsOf, present: &Snapshot) -> Result<PastState, CatalogError> {
        let (mut snapshot, _) =
            checkpoint::load(&self.store, |checkpoint| !at.is_before(checkpoint)).await?;
        let mut records = self
            .log
            .read_between(snapshot.sequence(), present.sequence());
        while let Some(record) = records.next().await? {
            let next = follow(&snapshot, &record)?;
            if at.is_before(&next) {
                return Ok(PastState {
                    snapshot: Arc::new(snapshot),
                    ended_ms: next.time_ms(),
                });
            }
            snapshot = next;
        }
        // The present state is after the one that is meant, so a record must have led there.
        let key = crate::keys::log_record(present.sequence());
        Err(StoreError::Corrupt {
            key,
            reason: "the log ends before the present state".to_owned(),
        }
        .into())
    }
}

fn time_text(time_ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(time_ms) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => format!("{time_ms} ms"),
    }
}

fn too_long_ago(what: &str, window: Duration) -> CatalogError {
    CatalogError::NoSuchState(format!(
        "{what} is too long ago: only states of the last {} s can be read",
        window.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::super::tests::{open, options};
    use super::*;
    use crate::store::Store;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A catalog whose commits each create a database, and the states after them.
    async fn history(store: &Store, commits: usize) -> (Catalog, Vec<Arc<Snapshot>>) {
        let catalog = open(store, "n").await;
        let mut states = vec![catalog.snapshot()];
        for number in 0..commits {
            states.push(
                catalog
                    .create_database(&format!("d{number}"))
                    .await
                    .unwrap(),
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (catalog, states)
    }

    #[tokio::test]
    async fn every_state_within_the_window_comes_back() {
        let store = Store::memory();
        let (_, states) = history(&store, 23).await;
        // Another process, which remembers nothing.
        let catalog = Catalog::load(store, options()).await.unwrap();
        let now_ms = states.last().unwrap().time_ms();
        for state in &states {
            let at = AsOf::Sequence(state.sequence());
            assert_eq!(*catalog.as_of(at, HOUR, now_ms).await.unwrap(), **state);
            let found = catalog
                .as_of(AsOf::TimeMs(state.time_ms()), HOUR, now_ms)
                .await
                .unwrap();
            assert!(
                found.time_ms() <= state.time_ms() && found.sequence() >= state.sequence(),
                "the last one of that time"
            );
        }
    }

    #[tokio::test]
    async fn what_is_too_long_ago_or_not_yet_is_told() {
        let (catalog, states) = history(&Store::memory(), 3).await;
        let (first, second, last) = (&states[0], &states[1], states.last().unwrap());
        let check = async |at: AsOf, now_ms: i64, expected: Result<u64, &str>| match (
            catalog.as_of(at, HOUR, now_ms).await,
            expected,
        ) {
            (Ok(found), Ok(sequence)) => assert_eq!(found.sequence(), sequence),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        };
        check(
            AsOf::Sequence(last.sequence() + 1),
            last.time_ms(),
            Err("there is no commit 5 yet"),
        )
        .await;
        check(
            AsOf::TimeMs(last.time_ms() + 1),
            last.time_ms(),
            Err("has not come yet"),
        )
        .await;
        check(
            AsOf::TimeMs(last.time_ms()),
            last.time_ms() + 3_600_001,
            Err("too long ago"),
        )
        .await;
        // A state counts until the next one came; the present one always.
        let hour_after = second.time_ms() + 3_600_000;
        check(
            AsOf::Sequence(first.sequence()),
            hour_after,
            Ok(first.sequence()),
        )
        .await;
        check(
            AsOf::Sequence(first.sequence()),
            hour_after + 1,
            Err("too long ago"),
        )
        .await;
        check(
            AsOf::Sequence(last.sequence()),
            i64::MAX,
            Ok(last.sequence()),
        )
        .await;
    }

    #[tokio::test]
    async fn a_lost_record_is_an_error_that_names_it() {
        let store = Store::memory();
        let (catalog, _) = history(&store, 9).await;
        let checkpoints: Vec<_> = store
            .list(crate::keys::CHECKPOINTS)
            .try_collect()
            .await
            .unwrap();
        for info in checkpoints {
            store.delete(&info.key).await.unwrap();
        }
        store.delete(&crate::keys::log_record(2)).await.unwrap();
        let error = catalog.as_of(AsOf::Sequence(4), HOUR, 0).await.unwrap_err();
        assert!(
            error.to_string().contains(&crate::keys::log_record(2)),
            "{error}"
        );
    }
}
