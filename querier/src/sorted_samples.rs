//! Series one after another in the order of their labels, over all tables, without holding more of
//! them than the order needs.
//!
//! Every feed is sorted by itself and knows its series before it reads a sample, so the next series
//! is that of the feed whose next label set is the least. A feed has at most one unit in memory,
//! and only one from whose series others have still to be told apart.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use tidelake_catalog::model::{Labels, Matcher, TimeRange};
use tidelake_catalog::segment::scan::ScanUnit;

use crate::memory::{QueryBytes, QueryPool};
use crate::promql::source::{SelectLimits, SeriesBatch, SeriesSamples, SourceError};
use crate::samples::{
    Feed, FeedOrder, check_series, feeds, hold_plan, named, read_unit, source_error,
};
use crate::tables::Tables;

/// The series that a selector selects.
#[derive(Debug)]
pub struct SortedSamples {
    tables: Tables,
    feeds: Vec<Pending>,
    /// The next label set of each feed that is not at its end.
    next: BinaryHeap<Reverse<(Labels, usize)>>,
    held: u64,
    max_samples: u64,
    pool: Arc<QueryPool>,
    /// The plan, and the series that are in memory.
    bytes: QueryBytes,
    /// Bytes of the series that was handed out last: they count until the next is asked for.
    handed_out: usize,
}

#[derive(Debug)]
struct Pending {
    name: Option<Arc<str>>,
    ready: VecDeque<SeriesSamples>,
    units: VecDeque<ScanUnit>,
}

impl Pending {
    /// The label set that comes next, or one before it if that series turns out to have no samples.
    fn next_labels(&self) -> Option<Labels> {
        if let Some(series) = self.ready.front() {
            return Some(series.labels.clone());
        }
        let labels = &self.units.front()?.series().next()?.labels;
        Some(
            self.name
                .as_ref()
                .map_or_else(|| labels.clone(), |name| named(labels, name)),
        )
    }
}

impl SortedSamples {
    /// Selects series with samples in the range (milliseconds). At most `max_samples` are held at a
    /// time, in the memory of `pool`.
    pub async fn select(
        tables: Tables,
        database: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limits: SelectLimits,
        max_samples: u64,
        pool: Arc<QueryPool>,
    ) -> Result<Self, SourceError> {
        let mut feeds = feeds(&tables, database, matchers, range, FeedOrder::Labels)
            .await
            .map_err(source_error)?;
        check_series(&feeds, limits.max_series)?;
        let bytes = hold_plan(&mut feeds, &pool)?;
        let pending = |Feed { units, name, .. }: Feed| Pending {
            name,
            ready: VecDeque::new(),
            units: units.into(),
        };
        let feeds: Vec<Pending> = feeds.into_iter().map(pending).collect();
        let next = feeds
            .iter()
            .enumerate()
            .filter_map(|(at, feed)| Some(Reverse((feed.next_labels()?, at))))
            .collect();
        Ok(Self {
            tables,
            feeds,
            next,
            held: 0,
            max_samples,
            pool,
            bytes,
            handed_out: 0,
        })
    }

    /// The next series; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<SeriesSamples>, SourceError> {
        self.bytes.shrink(std::mem::take(&mut self.handed_out));
        while let Some(Reverse((_, at))) = self.next.pop() {
            let Some(feed) = self.feeds.get_mut(at) else {
                continue;
            };
            let series = feed.ready.pop_front();
            if let Some(series) = &series {
                self.held = self.held.saturating_sub(series.weight());
            } else if let Some(unit) = feed.units.pop_front() {
                // Some of its series may have no samples; what comes first is known only now.
                let (tables, pool) = (self.tables.clone(), Arc::clone(&self.pool));
                let SeriesBatch { series: read, held } =
                    read_unit(tables, Arc::new(unit), feed.name.clone(), pool).await?;
                self.bytes.merge(held);
                self.held = self
                    .held
                    .saturating_add(read.iter().map(SeriesSamples::weight).sum());
                if self.held > self.max_samples {
                    let limit = self.max_samples;
                    return Err(SourceError::LimitExceeded(format!(
                        "more than {limit} samples would be held at a time"
                    )));
                }
                feed.ready = read.into();
            }
            self.next
                .extend(feed.next_labels().map(|labels| Reverse((labels, at))));
            let Some(series) = series else { continue };
            let bytes = series.bytes();
            if !series.times.is_empty() {
                self.handed_out = bytes;
                return Ok(Some(series));
            }
            self.bytes.shrink(bytes);
        }
        Ok(None)
    }
}
