//! Series batches: one row per series, one value per step.

use std::sync::Arc;

use tidelake_catalog::model::{Histogram, Labels, STALE_NAN_BITS};

use super::super::histogram::weight;
use super::QueryError;
use super::limits::{Charge, Limits};

/// "No value at this step". These are the bits of a stale marker: selectors never let one through,
/// and arithmetic quietens signalling NaNs, so no computed value has them.
pub const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// Whether a value of a row is the marker [`ABSENT`].
#[inline]
pub fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One series of an answer.
#[derive(Debug, Clone)]
pub struct SeriesRow {
    /// Its labels.
    pub labels: Labels,
    /// One value per step, [`ABSENT`] where there is none and where there is a histogram.
    pub values: Vec<f64>,
    /// One entry per step if the series has histograms.
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
}

/// Raw samples of one series of an answer.
#[derive(Debug, Clone)]
pub struct RangeSeries {
    /// Its labels.
    pub labels: Labels,
    /// Times and values of the float samples, ascending.
    pub floats: Vec<(i64, f64)>,
    /// Times and values of the histogram samples, ascending.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

/// One series inside the engine.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Labels, with the metric name as long as nothing removed it explicitly.
    pub labels: Labels,
    /// Whether the metric name has to go when the query ends. Names are removed as late as that,
    /// so that `label_replace` and `by (__name__)` can still see them.
    pub drop_name: bool,
    /// See [`SeriesRow::values`].
    pub values: Vec<f64>,
    /// See [`SeriesRow::histograms`].
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
}

/// A value of a row.
#[derive(Debug, Clone)]
pub(crate) enum Point {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Row {
    /// A row of floats.
    pub fn floats(labels: Labels, drop_name: bool, values: Vec<f64>) -> Self {
        Self {
            labels,
            drop_name,
            values,
            histograms: None,
        }
    }

    /// A row without any value yet.
    pub fn empty(labels: Labels, drop_name: bool, steps: usize) -> Self {
        Self::floats(labels, drop_name, vec![ABSENT; steps])
    }

    /// The histogram at a step.
    #[inline]
    pub fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref()?.get(step)?.as_ref()
    }

    /// Whether there is a float or a histogram at a step.
    #[inline]
    pub fn has(&self, step: usize) -> bool {
        !is_absent(self.values[step]) || self.histogram(step).is_some()
    }

    /// The value at a step.
    #[inline]
    pub fn point(&self, step: usize) -> Option<Point> {
        let value = self.values[step];
        if !is_absent(value) {
            return Some(Point::Float(value));
        }
        self.histogram(step).cloned().map(Point::Histogram)
    }

    /// Sets the value at a step.
    pub fn set(&mut self, step: usize, point: Point) {
        match point {
            Point::Float(value) => self.values[step] = value,
            Point::Histogram(histogram) => {
                let steps = self.values.len();
                self.histograms.get_or_insert_with(|| vec![None; steps])[step] = Some(histogram);
            }
        }
    }

    /// Removes the value at a step.
    pub fn clear(&mut self, step: usize) {
        self.values[step] = ABSENT;
        if let Some(histograms) = &mut self.histograms {
            histograms[step] = None;
        }
    }

    /// How many samples it counts as: a place for each step, and its histograms.
    pub fn weight(&self) -> u64 {
        let histograms = self
            .histograms
            .iter()
            .flatten()
            .flatten()
            .map(|histogram| weight(histogram));
        self.values.len() as u64 + histograms.sum::<u64>()
    }

    /// Whether no step has a value.
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(|v| is_absent(*v))
            && self
                .histograms
                .as_ref()
                .is_none_or(|h| h.iter().all(Option::is_none))
    }

    /// Whether any step has a histogram.
    pub fn has_histograms(&self) -> bool {
        self.histograms
            .as_ref()
            .is_some_and(|h| h.iter().any(Option::is_some))
    }
}

/// Rows, counted against the query's limit while they live.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub list: Vec<Row>,
    _charges: Vec<Charge>,
}

impl Rows {
    /// Counts and keeps rows; empty ones are left out.
    pub fn new(mut list: Vec<Row>, limits: &Arc<Limits>) -> Result<Self, QueryError> {
        list.retain(|row| !row.is_empty());
        let samples = list.iter().map(Row::weight).sum();
        Ok(Self {
            list,
            _charges: vec![limits.charge(samples)?],
        })
    }

    /// Rows that were counted before, in pieces.
    pub fn charged(list: Vec<Row>, charges: Vec<Charge>) -> Self {
        Self {
            list,
            _charges: charges,
        }
    }

    /// Applies a change that does not add values.
    pub fn map(mut self, change: impl FnOnce(Vec<Row>) -> Vec<Row>) -> Self {
        self.list = change(std::mem::take(&mut self.list));
        self
    }

    /// See [`Rows::map`].
    pub fn try_map(
        mut self,
        change: impl FnOnce(Vec<Row>) -> Result<Vec<Row>, QueryError>,
    ) -> Result<Self, QueryError> {
        self.list = change(std::mem::take(&mut self.list))?;
        Ok(self)
    }
}
