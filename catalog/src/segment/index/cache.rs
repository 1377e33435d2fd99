//! What lookups in series indexes keep: blocks of values, postings, and pages of series. Label sets
//! are shared between all pages, for a series is in the segments of many days.

use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::IndexedSeries;
use super::dictionary::Block;
use super::positions::Positions;
use super::rows::{Pairs, labels};
use crate::segment::series::Series;

/// Which part of which index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::segment) struct IndexPartKey {
    pub segment: u128,
    pub place: Place,
}

/// Where in an index a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::segment) enum Place {
    /// Values, by label and block.
    Block(u32, u32),
    /// Postings, by where they begin in the file.
    Postings(u64),
    /// Series, by page.
    Page(u32),
}

/// A part of an index.
#[derive(Debug, Clone)]
pub(in crate::segment) enum IndexPart {
    Block(Arc<Block>),
    Postings(Arc<Positions>),
    Page(Arc<[IndexedSeries]>),
}

impl IndexPart {
    pub(super) fn memory_size(&self) -> usize {
        match self {
            Self::Block(block) => block.memory_size(),
            Self::Postings(positions) => positions.memory_size(),
            // Of label sets that other pages have, too, each counts its own.
            Self::Page(series) => series.iter().map(IndexedSeries::memory_size).sum(),
        }
    }
}

/// Label sets that are in memory, by series id.
#[derive(Debug, Default)]
pub(in crate::segment) struct Interned(Mutex<Interning>);

/// The same while it is added to.
#[derive(Debug, Default)]
pub(in crate::segment) struct Interning {
    series: HashMap<u64, Weak<Series>>,
    /// With so many entries those are looked for that nothing uses any more.
    sweep_at: usize,
}

impl Interned {
    pub fn lock(&self) -> MutexGuard<'_, Interning> {
        self.0.lock()
    }
}

impl Interning {
    /// The series of these labels: one that is in memory, or a new one.
    pub fn series(&mut self, id: u64, pairs: Pairs<'_>) -> Arc<Series> {
        let known = self.series.get(&id).and_then(Weak::upgrade);
        if let Some(known) = known
            && known.labels.iter().eq(pairs.clone())
        {
            return known;
        }
        let labels = labels(pairs);
        let series = Arc::new(Series { id, labels });
        if self.series.len() >= self.sweep_at {
            self.series.retain(|_, series| series.strong_count() > 0);
            self.sweep_at = (self.series.len() * 2).max(1024);
        }
        self.series.insert(id, Arc::downgrade(&series));
        series
    }
}
