//! A series index that is looked up: matchers become sets of positions by the dictionary and the
//! postings, and only pages of series that such a set touches are read.

use std::ops::Range;
use std::sync::Arc;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::cache::{IndexPart, IndexPartKey, Place};
use super::dictionary::{Block, LabelEntry};
use super::file::IndexFile;
use super::positions::Positions;
use super::root::Root;
use super::rows::{byte_ranges, decode};
use super::writer::Posting;
use super::{FoundSeries, IndexedSeries, PAGE_SERIES};
use crate::model::{MatchOp, Matcher, TimeRange};
use crate::segment::error::SegmentError;
use crate::segment::meter::ReadMeter;
use crate::segment::read_cache::ReadCache;

/// So few series are read and compared with the other matchers, instead of looking these up.
const FEW_SERIES: usize = 256;
/// So few series are not counted when they are found: queries count them soon after.
const UNCOUNTED_SERIES: usize = 1024;
/// Bytes of a series that was found, and of its place in a plan.
const FOUND_BYTES: usize = 320;
/// Pages that are read and decoded at a time: then others have their turn.
const PAGES_AT_ONCE: usize = 32;

/// An index whose root and footer are in memory.
#[derive(Debug)]
pub(super) struct LookupIndex {
    pub segment: u128,
    pub file: IndexFile,
    pub root: Root,
    pub rows: ArrowReaderMetadata,
    pub cache: Arc<ReadCache>,
}

/// What passes the matchers that were looked up.
struct Candidates<'m> {
    positions: Positions,
    /// What series have to be compared with.
    others: Vec<&'m Matcher>,
}

impl LookupIndex {
    /// The series that pass all matchers and have rows whose times may lie in the range, in file
    /// order.
    pub async fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<FoundSeries, SegmentError> {
        let found = self.candidates(matchers, FEW_SERIES, meter).await?;
        let held = match found.positions.count() {
            0..=UNCOUNTED_SERIES => None,
            many => Some(self.cache.reserve(many * FOUND_BYTES)?),
        };
        let passes = |one: &IndexedSeries| {
            let labels = &one.series.labels;
            one.time.overlaps(&range) && found.others.iter().all(|m| m.matches_labels(labels))
        };
        if held.is_some() {
            tokio::task::yield_now().await;
        }
        let series = self.read(&found.positions, passes, meter).await?;
        Ok(FoundSeries { series, held })
    }

    /// The series at some positions.
    pub async fn slice(&self, at: Range<usize>) -> Result<Vec<IndexedSeries>, SegmentError> {
        let mut positions = Positions::default();
        let end = at.end.min(self.root.series as usize) as u32;
        positions.push(at.start as u32..end.max(at.start as u32));
        self.read(&positions, |_| true, None).await
    }

    /// Those of the series at some positions that pass.
    async fn read(
        &self,
        positions: &Positions,
        passes: impl Fn(&IndexedSeries) -> bool,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<IndexedSeries>, SegmentError> {
        let mut series = Vec::new();
        let mut pages: Vec<u32> = Vec::new();
        for run in positions.runs() {
            let (first, last) = (page_of(run.start), page_of(run.end - 1));
            let first = first.max(pages.last().map_or(0, |last| last + 1));
            pages.extend(first..=last);
        }
        let mut runs = positions.runs();
        for pages in pages.chunks(PAGES_AT_ONCE) {
            for (&page, of_page) in pages.iter().zip(self.pages(pages, meter).await?) {
                let start = page * PAGE_SERIES as u32;
                let end = start + of_page.len() as u32;
                while let Some(run) = runs.first().filter(|run| run.start < end) {
                    let within = run.start.max(start) - start..run.end.min(end) - start;
                    let of_run = &of_page[within.start as usize..within.end as usize];
                    series.extend(of_run.iter().filter(|one| passes(one)).cloned());
                    if run.end > end {
                        break;
                    }
                    runs = &runs[1..];
                }
            }
            if pages.len() == PAGES_AT_ONCE {
                tokio::task::yield_now().await;
            }
        }
        Ok(series)
    }

    /// How many series have each value of a label, by value; the empty one is that of series
    /// without the label.
    pub async fn value_counts(&self, name: &str) -> Result<Vec<(String, usize)>, SegmentError> {
        let mut counts = vec![(String::new(), 0)];
        if let Some((at, label)) = self.root.label(name) {
            for number in 0..label.blocks.len() {
                for block in self.blocks(at, label, number..number + 1, None).await? {
                    let ranges: Vec<Range<u64>> = block.iter().map(|(_, range)| range).collect();
                    let postings = self.postings(&ranges, None).await?;
                    let counted = block.iter().zip(&postings);
                    counts.extend(counted.map(|((value, _), set)| (value.to_owned(), set.count())));
                }
            }
        }
        let counted: usize = counts.iter().map(|(_, count)| count).sum();
        let all = self.root.series as usize;
        counts[0].1 = all
            .checked_sub(counted)
            .ok_or_else(|| self.corrupt(format!("{counted} values of {name} in {all} series")))?;
        Ok(counts)
    }

    /// Names of labels that any series has which passes the matchers.
    pub async fn label_names(
        &self,
        matchers: &[Matcher],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<String>, SegmentError> {
        let names = self.root.labels.iter().map(|label| label.name.clone());
        if matchers.is_empty() {
            return Ok(names.collect());
        }
        let found = self.candidates(matchers, 0, meter).await?.positions;
        let presence: Vec<Range<u64>> = self
            .root
            .labels
            .iter()
            .map(|label| label.presence.clone())
            .collect();
        let presence = self.postings(&presence, meter).await?;
        Ok(names
            .zip(presence)
            .filter(|(_, present)| found.intersects(present))
            .map(|(name, _)| name)
            .collect())
    }

    /// Values of a label that any series has which passes the matchers, ascending.
    pub async fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<String>, SegmentError> {
        let Some((at, label)) = self.root.label(name) else {
            return Ok(Vec::new());
        };
        let mut values = Vec::new();
        label.pause().await;
        if matchers.is_empty() {
            for block in self.blocks(at, label, 0..label.blocks.len(), meter).await? {
                values.extend(block.iter().map(|(value, _)| value.to_owned()));
            }
            return Ok(values);
        }
        let found = self.candidates(matchers, 0, meter).await?.positions;
        if found.is_empty() {
            return Ok(values);
        }
        for block in self.blocks(at, label, 0..label.blocks.len(), meter).await? {
            let ranges: Vec<Range<u64>> = block.iter().map(|(_, range)| range).collect();
            let postings = self.postings(&ranges, meter).await?;
            let some = block
                .iter()
                .zip(postings)
                .filter(|(_, postings)| found.intersects(postings));
            values.extend(some.map(|((value, _), _)| value.to_owned()));
        }
        Ok(values)
    }

    /// Compares dictionary and postings with what they should be, by name and value.
    pub async fn check(&self, expected: &[Posting]) -> Result<(), SegmentError> {
        let mut expected = expected.iter();
        for (at, label) in self.root.labels.iter().enumerate() {
            let mut any = Vec::new();
            for number in 0..label.blocks.len() {
                for block in self.blocks(at, label, number..number + 1, None).await? {
                    let ranges: Vec<Range<u64>> = block.iter().map(|(_, range)| range).collect();
                    let postings = self.postings(&ranges, None).await?;
                    for ((value, _), found) in block.iter().zip(postings) {
                        let fits = expected.next().is_some_and(|posting| {
                            *posting.name == *label.name
                                && *posting.value == *value
                                && posting.positions == *found
                        });
                        if !fits {
                            return Err(self.corrupt(format!(
                                "its postings of {}={value:?} are not those of its series",
                                label.name
                            )));
                        }
                        any.push(found);
                    }
                }
            }
            let present = self
                .postings(std::slice::from_ref(&label.presence), None)
                .await?;
            let union = Positions::union(any.iter().map(|set| &**set));
            if present.len() != 1 || *present[0] != union || label.values != any.len() as u64 {
                return Err(self.corrupt(format!(
                    "its postings of all values of {} are not those of its series",
                    label.name
                )));
            }
        }
        match expected.next() {
            Some(posting) => Err(self.corrupt(format!(
                "it has no postings of {}={:?}",
                posting.name, posting.value
            ))),
            None => Ok(()),
        }
    }

    /// Looks matchers up until at most `few` series are left.
    async fn candidates<'m>(
        &self,
        matchers: &'m [Matcher],
        few: usize,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Candidates<'m>, SegmentError> {
        let mut left: Vec<&Matcher> = matchers.iter().collect();
        // What can be listed is cheap, and leaves least to do for the others.
        left.sort_by_key(|matcher| match matcher.op {
            MatchOp::Equal if !matcher.matches_empty() => 0,
            _ if matcher.listed_values().is_some() => 1,
            _ => 2,
        });
        let mut positions = Positions::all(self.root.series);
        let mut left = left.into_iter();
        while positions.count() > few {
            let Some(matcher) = left.next() else {
                break;
            };
            positions = self.narrow(&positions, matcher, meter).await?;
        }
        Ok(Candidates {
            positions,
            others: left.collect(),
        })
    }

    /// What of a set passes a matcher.
    async fn narrow(
        &self,
        set: &Positions,
        matcher: &Matcher,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Positions, SegmentError> {
        let without = matcher.matches_empty();
        let Some((at, label)) = self.root.label(&matcher.name) else {
            return Ok(if without {
                set.clone()
            } else {
                Positions::default()
            });
        };
        // A series without the label passes if the empty value does: then those that have a value
        // which does not pass are taken out.
        let mut wanted: Vec<Range<u64>> = Vec::new();
        let mut count = 0;
        match matcher.listed_values().filter(|_| !without) {
            Some(listed) => {
                let mut blocks: Vec<usize> = listed
                    .iter()
                    .filter_map(|value| label.block_of(value))
                    .collect();
                blocks.sort_unstable();
                blocks.dedup();
                let read = self.some_blocks(at, label, &blocks, meter).await?;
                let mut listed = listed;
                listed.sort_unstable();
                listed.dedup();
                wanted.extend(listed.iter().filter_map(|value| {
                    let block = blocks.binary_search(&label.block_of(value)?).ok()?;
                    read[block].find(value)
                }));
            }
            None => {
                label.pause().await;
                let prefix = if without { "" } else { matcher.prefix() };
                let within = label.blocks_of_prefix(prefix);
                let whole = within.len() == label.blocks.len();
                for block in self.blocks(at, label, within, meter).await? {
                    for (value, postings) in block.iter() {
                        if matcher.matches(value) != without {
                            wanted.push(postings);
                            count += 1;
                        }
                    }
                }
                if whole && count == label.values {
                    // Any value: what has the label at all.
                    wanted = vec![label.presence.clone()];
                }
            }
        }
        let postings = self.postings(&wanted, meter).await?;
        let any = match postings.as_slice() {
            [one] => Arc::clone(one),
            many => Arc::new(Positions::union(many.iter().map(|set| &**set))),
        };
        Ok(if without {
            set.subtract(&any)
        } else {
            set.intersect(&any)
        })
    }

    async fn blocks(
        &self,
        label: usize,
        entry: &LabelEntry,
        blocks: Range<usize>,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<Arc<Block>>, SegmentError> {
        self.some_blocks(label, entry, &blocks.collect::<Vec<_>>(), meter)
            .await
    }

    /// Blocks of values of a label.
    async fn some_blocks(
        &self,
        label: usize,
        entry: &LabelEntry,
        blocks: &[usize],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<Arc<Block>>, SegmentError> {
        let part = |block: usize| Place::Block(label as u32, block as u32);
        let found = self.cached(
            blocks,
            |&block| part(block),
            |cached| match cached {
                IndexPart::Block(block) => Some(block),
                _ => None,
            },
            meter,
        );
        let missing: Vec<usize> = blocks
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(block, _)| *block)
            .collect();
        let ranges = missing
            .iter()
            .map(|&block| entry.blocks[block].bytes.clone());
        let bytes = self.file.read(ranges, meter).await?;
        let mut read = Vec::with_capacity(missing.len());
        for &block in &missing {
            let entry = &entry.blocks[block];
            let parsed = bytes
                .get(entry.bytes.clone())
                .and_then(|bytes| Block::parse(&bytes, entry))
                .map_err(|error| self.corrupt(error))?;
            read.push(Arc::new(parsed));
        }
        self.keep(
            missing.iter().map(|&block| part(block)),
            &read,
            IndexPart::Block,
        );
        Ok(merge(found, read))
    }

    /// Postings that lie in these ranges of the file.
    async fn postings(
        &self,
        ranges: &[Range<u64>],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<Arc<Positions>>, SegmentError> {
        let part = |range: &Range<u64>| Place::Postings(range.start);
        let of = |cached| match cached {
            IndexPart::Postings(positions) => Some(positions),
            _ => None,
        };
        let found = self.cached(ranges, part, of, meter);
        let missing: Vec<Range<u64>> = ranges
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(range, _)| range.clone())
            .collect();
        let bytes = self.file.read(missing.iter().cloned(), meter).await?;
        let mut read = Vec::with_capacity(missing.len());
        for range in &missing {
            let positions = bytes
                .get(range.clone())
                .and_then(|bytes| Positions::decode(&bytes, self.root.series))
                .map_err(|error| self.corrupt(error))?;
            read.push(Arc::new(positions));
        }
        self.keep(missing.iter().map(part), &read, IndexPart::Postings);
        Ok(merge(found, read))
    }

    /// Pages of series; their numbers ascend.
    async fn pages(
        &self,
        pages: &[u32],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<Arc<[IndexedSeries]>>, SegmentError> {
        let found = self.cached(
            pages,
            |&page| Place::Page(page),
            |cached| match cached {
                IndexPart::Page(series) => Some(series),
                _ => None,
            },
            meter,
        );
        let missing: Vec<u32> = pages
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(page, _)| *page)
            .collect();
        let mut read: Vec<Arc<[IndexedSeries]>> = Vec::with_capacity(missing.len());
        if !missing.is_empty() {
            let rows: Vec<Range<u64>> = missing.iter().map(|&page| self.rows_of(page)).collect();
            let ranges = byte_ranges(&self.rows, &rows).map_err(|error| self.corrupt(error))?;
            let bytes = self.file.read(ranges, meter).await?;
            let series = decode(&self.rows, &bytes, &rows, &self.cache.interned)
                .map_err(|error| self.corrupt(error))?;
            let mut series = series.into_iter();
            for rows in rows {
                let rows = (rows.end - rows.start) as usize;
                read.push(series.by_ref().take(rows).collect());
            }
            self.keep(
                missing.iter().map(|&page| Place::Page(page)),
                &read,
                IndexPart::Page,
            );
        }
        Ok(merge(found, read))
    }

    /// The rows of a page.
    fn rows_of(&self, page: u32) -> Range<u64> {
        let start = u64::from(page) * PAGE_SERIES as u64;
        start..(start + PAGE_SERIES as u64).min(u64::from(self.root.series))
    }

    fn cached<K, T>(
        &self,
        keys: &[K],
        part: impl Fn(&K) -> Place,
        of: impl Fn(IndexPart) -> Option<T>,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Vec<Option<T>> {
        let key = |place| IndexPartKey {
            segment: self.segment,
            place,
        };
        let found = self.cache.index.get(keys.iter().map(|at| key(part(at))));
        if let Some(meter) = meter {
            meter.found_in_memory(found.iter().flatten().count());
        }
        found.into_iter().map(|found| found.and_then(&of)).collect()
    }

    fn keep<T: Clone>(
        &self,
        parts: impl Iterator<Item = Place>,
        read: &[T],
        cached: impl Fn(T) -> IndexPart,
    ) {
        if !read.is_empty() {
            let parts = parts.zip(read.iter().cloned().map(cached));
            self.cache.index.insert(parts.map(|(place, part)| {
                let bytes = part.memory_size();
                let segment = self.segment;
                (IndexPartKey { segment, place }, part, bytes)
            }));
        }
    }

    fn corrupt(&self, message: String) -> SegmentError {
        SegmentError::corrupt(self.file.object.name(), message)
    }

    /// Bytes in memory, without what is in the cache.
    pub fn memory_size(&self) -> usize {
        size_of::<Self>()
            + self.root.memory_size()
            + self.file.resident.len()
            + self.file.checksums.len() * 8
            + self.rows.metadata().memory_size()
    }
}

/// The page of a series.
fn page_of(position: u32) -> u32 {
    position / PAGE_SERIES as u32
}

/// What was found, with what was read in the place of what was not.
fn merge<T>(found: Vec<Option<T>>, read: Vec<T>) -> Vec<T> {
    let mut read = read.into_iter();
    found
        .into_iter()
        .filter_map(|found| found.or_else(|| read.next()))
        .collect()
}
