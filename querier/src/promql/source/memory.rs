//! Samples in memory, for tests of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use tidelake_catalog::model::{Histogram, Labels, Matcher, TimeRange};

use super::{
    SampleSource, SelectRequest, SelectedSeries, SeriesBatch, SeriesSamples, SeriesShape,
    SourceError,
};
use crate::memory::QueryPool;

/// A sample of either kind.
#[derive(Debug, Clone)]
pub(crate) enum Sample {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// Series by labels, samples by time.
#[derive(Debug, Default)]
pub(crate) struct MemorySource {
    series: BTreeMap<Labels, BTreeMap<i64, Sample>>,
    /// Start times of samples, by series and time.
    started: BTreeMap<(Labels, i64), i64>,
}

impl MemorySource {
    /// Adds a sample, or replaces that of the same time.
    pub fn insert(&mut self, labels: &Labels, time: i64, sample: Sample) {
        self.series
            .entry(labels.clone())
            .or_default()
            .insert(time, sample);
    }

    /// Says when what a sample counts began.
    pub fn start(&mut self, labels: &Labels, time: i64, start_time: i64) {
        self.started.insert((labels.clone(), time), start_time);
    }
}

#[async_trait]
impl SampleSource for MemorySource {
    async fn shape(
        &self,
        matchers: &[Matcher],
        _: TimeRange,
        _: &Arc<QueryPool>,
    ) -> Result<Option<SeriesShape>, SourceError> {
        let matches = |labels: &&Labels| matchers.iter().all(|m| m.matches_labels(labels));
        let selected = self.series.keys().filter(matches);
        let names = selected.flat_map(|labels| labels.iter().map(|(name, _)| name.to_owned()));
        let mut samples = self.series.values().flat_map(BTreeMap::values);
        Ok(Some(SeriesShape {
            label_names: names.collect(),
            may_have_histograms: samples.any(|sample| matches!(sample, Sample::Histogram(_))),
        }))
    }

    /// One series a batch if there is one part; last label set first, unless an order is asked for:
    /// nothing may depend on it then.
    async fn select(&self, request: SelectRequest) -> Result<SelectedSeries, SourceError> {
        let mut selected = Vec::new();
        for (labels, samples) in self.series.iter().rev() {
            if !request
                .matchers
                .iter()
                .all(|matcher| matcher.matches_labels(labels))
            {
                continue;
            }
            let mut series = SeriesSamples {
                labels: labels.clone(),
                ..SeriesSamples::default()
            };
            let (mut times, mut values) = (Vec::new(), Vec::new());
            for (time, sample) in samples.range(request.range.min..=request.range.max) {
                match sample {
                    Sample::Float(value) => values.push(*value),
                    Sample::Histogram(histogram) => {
                        series
                            .histograms
                            .push((times.len() as u32, Arc::clone(histogram)));
                        values.push(f64::NAN);
                    }
                }
                times.push(*time);
            }
            (series.times, series.values) = (times.into(), values.into());
            let started = |time: &i64| {
                self.started
                    .get(&(labels.clone(), *time))
                    .copied()
                    .unwrap_or(0)
            };
            if series.times.iter().any(|time| started(time) != 0) {
                series.start_times = series.times.iter().map(started).collect();
            }
            if !series.times.is_empty() {
                selected.push(series);
            }
        }
        if selected.len() > request.limits.max_series {
            let found = selected.len();
            return Err(SourceError::LimitExceeded(format!("{found} series")));
        }
        if request.is_ordered {
            selected.reverse();
        }
        let part = request.part.range(selected.len());
        let selected = &selected[part];
        // Of several parts batches are cut otherwise, too.
        let of_batch = match request.part.of {
            1 => 1,
            of => 7 * of,
        };
        let batch =
            |series: &[SeriesSamples]| Ok(SeriesBatch::counted(series.to_vec(), &request.pool)?);
        let batches: Vec<_> = selected.chunks(of_batch).map(batch).collect();
        Ok(SelectedSeries {
            series: selected.len(),
            rows: 0,
            batches: batches.len(),
            stream: futures::stream::iter(batches).boxed(),
            parts: None,
        })
    }
}
