//! Segments that were found damaged.
//!
//! A query that needs one fails and names it. A query that may be answered in part leaves it out,
//! and says so. For that it has to know before it reads; so damage is remembered for a while, and a
//! query that meets more of it is run again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidelake_catalog::keys;
use tidelake_catalog::segment::SegmentError;
use tidelake_catalog::snapshot::SegmentId;

/// After so long a damaged segment is tried again: somebody may have restored it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Damaged segments, with what was wrong and when it was seen.
#[derive(Debug, Default)]
pub(crate) struct Damaged(Mutex<HashMap<SegmentId, (String, Instant)>>);

impl Damaged {
    /// Remembers an error, if it is damage of a segment.
    pub(crate) fn note(&self, error: &SegmentError) -> Option<SegmentId> {
        let SegmentError::Corrupt { object, .. } = error else {
            return None;
        };
        let id = keys::segment_of_file(object)?;
        let mut damaged = self.0.lock();
        damaged.retain(|_, (_, seen)| seen.elapsed() < REMEMBERED);
        damaged.insert(id, (error.to_string(), Instant::now()));
        Some(id)
    }

    /// What is wrong with a segment, as far as is remembered.
    pub(crate) fn get(&self, id: SegmentId) -> Option<String> {
        self.0
            .lock()
            .get(&id)
            .filter(|(_, seen)| seen.elapsed() < REMEMBERED)
            .map(|(error, _)| error.clone())
    }
}

/// What one query has left out.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    segments: Mutex<BTreeMap<SegmentId, String>>,
    missing: Mutex<BTreeSet<String>>,
}

impl LeftOut {
    pub(crate) fn add(&self, id: SegmentId, error: String) {
        self.segments.lock().insert(id, error);
    }

    /// Notes rows that are in no segment and cannot be had.
    pub(crate) fn add_missing(&self, sentence: &str) {
        self.missing.lock().insert(sentence.to_owned());
    }

    /// One sentence for each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let segments = self.segments.lock();
        let segments = segments
            .values()
            .map(|error| format!("the answer is partial, a segment is left out: {error}"));
        let missing = self.missing.lock();
        let missing = missing
            .iter()
            .map(|sentence| format!("the answer is partial: {sentence}"));
        segments.chain(missing).collect()
    }
}
