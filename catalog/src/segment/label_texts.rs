//! Names and values of labels in a source: from the dictionary of its index where all its series
//! count, else from the series that do.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::SegmentError;
use super::index::IndexedSeries;
use super::meter::ReadMeter;
use super::scan::{Source, deleted_times};
use super::series::Series;
use crate::model::{Matcher, TimeRange, Tombstone};

/// Which texts are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelTexts<'a> {
    /// Names of labels.
    Names,
    /// Values of the label of this name.
    Values(&'a str),
}

impl LabelTexts<'_> {
    fn add_of(self, series: &Series, found: &mut BTreeSet<String>) {
        let mut add = |text: &str| {
            if !found.contains(text) {
                found.insert(text.to_owned());
            }
        };
        match self {
            LabelTexts::Names => series.labels.iter().for_each(|(name, _)| add(name)),
            LabelTexts::Values(name) => series.labels.get(name).into_iter().for_each(add),
        }
    }
}

impl Source {
    /// Whether any series passes all matchers, with the same rules.
    pub async fn has_series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        kept: TimeRange,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<bool, SegmentError> {
        let range = range.intersect(&kept);
        match self {
            Source::Segment(_, tombstones, segment) => {
                let time = segment.location().time;
                if matchers.is_empty() && tombstones.is_empty() && kept.intersect(&time) == time {
                    return Ok(true);
                }
                let found = segment.index().select(matchers, range, meter).await?;
                Ok(found.series.iter().any(|one| is_left(tombstones, one)))
            }
            Source::Rows(_, rows) => Ok(rows.runs.iter().any(|run| rows.has(run, matchers, range))),
        }
    }

    /// The texts that its series have which pass all matchers.
    ///
    /// Of a segment all series count whose segment has rows in the range, as in Prometheus the
    /// series of a block do. Rows outside of `kept` are expired, however: where a segment has such
    /// or deleted ones, series count that have others.
    pub async fn label_texts(
        &self,
        texts: LabelTexts<'_>,
        matchers: &[Matcher],
        range: TimeRange,
        kept: TimeRange,
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<String>, SegmentError> {
        let mut found = BTreeSet::new();
        match self {
            Source::Segment(_, tombstones, segment) => {
                let (index, time) = (segment.index(), segment.location().time);
                if tombstones.is_empty() && kept.intersect(&time) == time {
                    return match texts {
                        LabelTexts::Names => index.label_names(matchers, meter).await,
                        LabelTexts::Values(name) => index.label_values(name, matchers, meter).await,
                    };
                }
                let range = range.intersect(&kept);
                for one in &index.select(matchers, range, meter).await?.series {
                    if is_left(tombstones, one) {
                        texts.add_of(&one.series, &mut found);
                    }
                }
            }
            Source::Rows(_, rows) => {
                let range = range.intersect(&kept);
                let runs = rows.runs.iter();
                for run in runs.filter(|run| rows.has(run, matchers, range)) {
                    texts.add_of(&run.series, &mut found);
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}

/// Whether tombstones leave any rows of a series.
fn is_left(tombstones: &[Arc<Tombstone>], one: &IndexedSeries) -> bool {
    let deleted = deleted_times(tombstones, &one.series.labels);
    !deleted
        .iter()
        .any(|range| range.intersect(&one.time) == one.time)
}
