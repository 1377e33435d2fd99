//! Whose merge goes on: one at a time, as two would only share the machine.
//!
//! A full merge of what there is may take hours, and meanwhile what is flushed piles up until
//! writes have to wait. So a full merge gives way between two of its units to what pays in the long
//! run. It stays in memory meanwhile, its inputs are held, and it goes on where it was.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidelake_catalog::snapshot::{SegmentId, SegmentMeta};
use tokio::sync::{MutexGuard, OwnedMutexGuard};

use crate::merge_threads::MergeThreads;
use crate::policy::Goal;

/// Gives turns to merges.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    threads: MergeThreads,
    running: Arc<tokio::sync::Mutex<()>>,
    /// One full merge at a time, also while it gives way.
    full: tokio::sync::Mutex<()>,
    /// Those that wait and go before full merges.
    waiting: AtomicUsize,
    /// Inputs of the merge that gave way.
    paused: Mutex<HashSet<SegmentId>>,
}

/// The right to merge, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    goal: Goal,
    _full: Option<MutexGuard<'a, ()>>,
    /// None while it gives way.
    running: Option<OwnedMutexGuard<()>>,
    /// Since it was asked for the last time.
    gave_way: bool,
}

impl Turns {
    /// For merges on these threads.
    pub fn new(threads: MergeThreads) -> Self {
        Self {
            threads,
            ..Self::default()
        }
    }

    /// Waits for a turn.
    pub async fn take(&self, goal: Goal) -> Turn<'_> {
        let (_full, _waiting) = match goal {
            Goal::Full => (Some(self.full.lock().await), None),
            Goal::Steady => (None, Some(Waiting::of(&self.waiting))),
        };
        Turn {
            turns: self,
            goal,
            _full,
            running: Some(Arc::clone(&self.running).lock_owned().await),
            gave_way: false,
        }
    }

    /// Whether a merge gave way.
    pub fn is_paused(&self) -> bool {
        !self.paused.lock().is_empty()
    }

    /// Inputs of the merge that gave way: it takes them away when it goes on.
    pub fn paused(&self) -> HashSet<SegmentId> {
        self.paused.lock().clone()
    }
}

impl<'a> Turn<'a> {
    /// Where the merge computes.
    pub fn threads(&self) -> &'a MergeThreads {
        &self.turns.threads
    }

    /// Whether another merge went first since this was asked: then there are other plans.
    pub fn has_given_way(&mut self) -> bool {
        mem::take(&mut self.gave_way)
    }

    /// Lets another merge go first if one waits that may. Meanwhile these segments are held.
    pub async fn give_way(&mut self, inputs: &[Arc<SegmentMeta>]) {
        if self.goal == Goal::Steady || self.turns.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.gave_way = true;
        let held = inputs.iter().map(|segment| segment.id).collect();
        *self.turns.paused.lock() = held;
        // Given back also if this is dropped before its turn comes.
        let _paused = Paused(&self.turns.paused);
        self.running = None;
        // Turns are given in the order in which they were asked for.
        self.running = Some(Arc::clone(&self.turns.running).lock_owned().await);
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Paused<'a>(&'a Mutex<HashSet<SegmentId>>);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        drop(mem::take(&mut *self.0.lock()));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_full_merge_gives_way_and_goes_on() {
        let turns = Turns::default();
        let mut full = turns.take(Goal::Full).await;
        full.give_way(&[]).await;
        let mut steady = pin!(turns.take(Goal::Steady));
        assert!(poll!(&mut steady).is_pending(), "it waits for the unit");
        let mut on = Box::pin(full.give_way(&[]));
        assert!(poll!(&mut on).is_pending());
        let mut turn = steady.await;
        // Others wait, full ones also for the one that gave way.
        let mut second = pin!(turns.take(Goal::Steady));
        let mut other = pin!(turns.take(Goal::Full));
        assert!(poll!(&mut second).is_pending() && poll!(&mut other).is_pending());
        turn.give_way(&[]).await;
        assert!(poll!(&mut on).is_pending());
        drop(turn);
        on.await;
        assert!(full.has_given_way() && !full.has_given_way());
        assert!(poll!(&mut second).is_pending() && poll!(&mut other).is_pending());
        drop(full);
        drop(second.await);
        drop(other.await);
    }

    #[tokio::test]
    async fn one_that_ends_while_it_gives_way_leaves_nothing() {
        let turns = Turns::default();
        {
            let mut full = turns.take(Goal::Full).await;
            let mut steady = pin!(turns.take(Goal::Steady));
            assert!(poll!(&mut steady).is_pending());
            assert!(poll!(pin!(full.give_way(&[]))).is_pending());
            drop(steady.await);
        }
        assert!(turns.paused().is_empty());
        drop(turns.take(Goal::Full).await);
    }
}
