//! Where the engine gets samples from.
//!
//! One seam with several implementations: segments on the store together with recent rows, and
//! plain memory in tests. A source resolves matchers to series, merges what it holds of a series
//! from all its places and removes duplicate times; the engine never sees two pieces of one series.

#[cfg(test)]
pub(crate) mod memory;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use async_trait::async_trait;
use futures::stream::BoxStream;
use tidelake_catalog::model::{Histogram, Labels, Matcher, TimeRange};
use tidelake_catalog::segment::ReadMeter;

use super::exec::row::labels_bytes;
use super::histogram::{bytes as histogram_bytes, weight};
use crate::memory::{MemoryExceeded, QueryBytes, QueryPool};
use crate::tables::State;

/// The samples of one series in ascending time, without duplicates. Stale markers are among them
/// with their exact bits (see `model::is_stale`), because the engine decides what they end.
#[derive(Debug, Clone, Default)]
pub struct SeriesSamples {
    /// The full label set, metric name included.
    pub labels: Labels,
    /// Milliseconds since 1970-01-01 UTC, strictly ascending.
    pub times: ScalarBuffer<i64>,
    /// One value per time; NaN where the sample is a histogram.
    pub values: ScalarBuffer<f64>,
    /// Histogram samples as (position in `times`, histogram), positions ascending.
    pub histograms: Vec<(u32, Arc<Histogram>)>,
    /// One per time: when what the sample counts began, in milliseconds; 0 where its sender did
    /// not say. Empty if no sample has one.
    pub start_times: Vec<i64>,
}

impl SeriesSamples {
    /// How many floats the samples count as in limits.
    pub fn weight(&self) -> u64 {
        let floats = self.times.len().saturating_sub(self.histograms.len()) as u64;
        floats
            + self
                .histograms
                .iter()
                .map(|(_, histogram)| weight(histogram))
                .sum::<u64>()
    }

    /// Bytes in memory, those of labels and histograms that others hold too included.
    pub fn bytes(&self) -> usize {
        let histograms = self
            .histograms
            .iter()
            .map(|(_, histogram)| histogram_bytes(histogram));
        let numbers = self.times.len() + self.values.len() + self.start_times.capacity();
        size_of::<Self>()
            + labels_bytes(&self.labels)
            + 8 * numbers
            + 16 * self.histograms.capacity()
            + histograms.sum::<usize>()
    }
}

/// Series, and the memory of the query that is counted for them.
#[derive(Debug)]
pub struct SeriesBatch {
    /// Whole series.
    pub series: Vec<SeriesSamples>,
    /// What they hold.
    pub held: QueryBytes,
}

impl SeriesBatch {
    /// Counts series that are there already.
    ///
    /// # Errors
    /// [`MemoryExceeded`] if the query may not have so much.
    pub fn counted(
        series: Vec<SeriesSamples>,
        pool: &Arc<QueryPool>,
    ) -> Result<Self, MemoryExceeded> {
        let held = pool.try_hold(series_bytes(&series))?;
        Ok(Self { series, held })
    }
}

/// Bytes of series in memory.
pub(crate) fn series_bytes(series: &[SeriesSamples]) -> usize {
    series.iter().map(SeriesSamples::bytes).sum()
}

/// What a source must refuse instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectLimits {
    /// Most series that one selector may match; above it the source answers
    /// [`SourceError::LimitExceeded`].
    pub max_series: usize,
}

/// One selector's need.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// Milliseconds, both ends included. Samples outside are not delivered.
    pub range: TimeRange,
    /// See [`SelectLimits`].
    pub limits: SelectLimits,
    /// Counts what is read for it, and refuses what is too much.
    pub meter: Arc<ReadMeter>,
    /// The memory of the query.
    pub pool: Arc<QueryPool>,
    /// Whether nothing else of the query is read at the same time.
    pub alone: bool,
    /// Which of the series.
    pub part: Part,
    /// Whether other processes may read some of them.
    pub is_shared: bool,
    /// Whether batches, and the series of each, have to come in one order, which depends on the
    /// labels of all selected series only.
    pub is_ordered: bool,
}

/// One of several parts that the ordered series of a selector are cut into: no series is in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 0 on.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Part {
    /// The only part.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Which of so many things, one after the other, are in it.
    pub fn range(self, count: usize) -> Range<usize> {
        let of = self.of.max(1);
        let bound = |index: usize| (count as u128 * index.min(of) as u128 / of as u128) as usize;
        bound(self.index)..bound(self.index.saturating_add(1))
    }
}

/// What is known of the series of a selector before they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesShape {
    /// Names of their labels, that of the metric's name included.
    pub label_names: BTreeSet<String>,
    /// Whether any may have native histograms.
    pub may_have_histograms: bool,
}

/// The series that a selector matches.
pub struct SelectedSeries {
    /// How many there are, at most.
    pub series: usize,
    /// How many rows are read for them, about.
    pub rows: u64,
    /// In how many batches all of them come, whichever part was asked for.
    pub batches: usize,
    /// Their samples; nothing is read before they are asked for.
    pub stream: SeriesStream,
    /// The same, part by part; `None` if nobody else can read them.
    pub parts: Option<Arc<dyn SeriesParts>>,
}

/// Selected series that can be read in parts, here and by other processes.
pub trait SeriesParts: Send + Sync {
    /// The batches of a part.
    fn read(&self, part: Part) -> SeriesStream;

    /// What another process needs to find the same series.
    fn state(&self) -> Option<Arc<State>>;
}

/// Why samples could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The store or a peer did not answer; the same query may succeed later.
    #[error("samples are unavailable: {0}")]
    Unavailable(String),
    /// An object is damaged. Trying again does not help.
    #[error("object {object} is corrupt: {message}")]
    Corrupt {
        /// Its key.
        object: String,
        /// What is wrong with it.
        message: String,
    },
    /// The query asks for more than it may.
    #[error("query limit exceeded: {0}")]
    LimitExceeded(String),
    /// The samples need more memory than there is for them.
    #[error(transparent)]
    Memory(#[from] MemoryExceeded),
}

/// Batches of whole series.
pub type SeriesStream = BoxStream<'static, Result<SeriesBatch, SourceError>>;

/// Delivers the samples of the series that a selector matches.
#[async_trait]
pub trait SampleSource: Send + Sync + 'static {
    /// Batches of series; each series comes whole, in one batch. A batch is the unit of parallel
    /// work, so a source cuts batches to some ten thousand to some million samples.
    async fn select(&self, request: SelectRequest) -> Result<SelectedSeries, SourceError>;

    /// What is known of the series that match and may have samples in a range, without reading
    /// any; `None` if nothing is.
    async fn shape(
        &self,
        _matchers: &[Matcher],
        _range: TimeRange,
        _pool: &Arc<QueryPool>,
    ) -> Result<Option<SeriesShape>, SourceError> {
        Ok(None)
    }
}
