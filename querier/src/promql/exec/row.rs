//! Series batches: one row per series, one value per step.

use std::sync::Arc;

use tidelake_catalog::model::{Histogram, Labels, STALE_NAN_BITS};

use super::super::histogram::{bytes as histogram_bytes, weight};
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

impl SeriesRow {
    /// Bytes in memory, those of labels and histograms that others hold too included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + heap_bytes(&self.labels, &self.values, self.histograms.as_deref())
    }
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

impl RangeSeries {
    /// See [`SeriesRow::bytes`].
    pub fn bytes(&self) -> usize {
        let histograms = self.histograms.iter().map(|(_, histogram)| histogram);
        size_of::<Self>()
            + labels_bytes(&self.labels)
            + self.floats.capacity() * 16
            + self.histograms.capacity() * 16
            + distinct_bytes(histograms)
    }
}

/// What an allocator adds to a small list of values.
const ALLOCATION_BYTES: usize = 24;

/// Bytes of a label set with the counts of its owners, rounded as allocators do.
pub(crate) fn labels_bytes(labels: &Labels) -> usize {
    labels.as_str().len() + 24
}

/// Bytes that are needed for a moment to make a label set of another of `len` bytes.
pub(crate) fn labels_in_work_bytes(len: usize) -> usize {
    len.saturating_mul(4)
}

/// Longest label set that an error quotes, in bytes.
const MAX_SHOWN_BYTES: usize = 64 << 10;

/// A label set as errors quote it. Those that are made by a query may be of any length.
pub(crate) fn shown(labels: &Labels) -> String {
    match labels.as_str().len() {
        0..=MAX_SHOWN_BYTES => labels.to_string(),
        len => format!("{{a label set of {len} bytes}}"),
    }
}

/// Bytes of histograms. Neighbours are often one and the same.
pub(crate) fn distinct_bytes<'a>(histograms: impl Iterator<Item = &'a Arc<Histogram>>) -> usize {
    let mut last: Option<&Arc<Histogram>> = None;
    let mut bytes = 0;
    for histogram in histograms {
        if !last.is_some_and(|last| Arc::ptr_eq(last, histogram)) {
            bytes += histogram_bytes(histogram);
        }
        last = Some(histogram);
    }
    bytes
}

fn heap_bytes(
    labels: &Labels,
    values: &Vec<f64>,
    histograms: Option<&[Option<Arc<Histogram>>]>,
) -> usize {
    let histograms = histograms.map_or(0, |all| {
        all.len() * 8 + distinct_bytes(all.iter().flatten())
    });
    labels_bytes(labels) + ALLOCATION_BYTES + values.capacity() * 8 + histograms
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

    /// Bytes that a new row needs, without its labels and the histograms themselves.
    pub fn bytes_of(steps: usize, with_histograms: bool) -> usize {
        let step_bytes = if with_histograms { 16 } else { 8 };
        size_of::<Self>() + ALLOCATION_BYTES + steps.saturating_mul(step_bytes)
    }

    /// Bytes of the row in memory, without its place in a list.
    pub fn heap_bytes(&self) -> usize {
        heap_bytes(&self.labels, &self.values, self.histograms.as_deref())
    }

    /// Bytes of its histograms, and of their places.
    pub fn histogram_bytes(&self) -> usize {
        self.histograms.as_ref().map_or(0, |all| {
            all.len() * 8 + distinct_bytes(all.iter().flatten())
        })
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
    #[inline]
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

/// Bytes of a list of rows.
pub(crate) fn rows_bytes(list: &Vec<Row>) -> usize {
    list.capacity() * size_of::<Row>() + list.iter().map(Row::heap_bytes).sum::<usize>()
}

/// Rows, counted against the query's limits while they live.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub list: Vec<Row>,
    /// There is none for no rows.
    charge: Option<Charge>,
}

impl Rows {
    /// Counts and keeps rows; empty ones are left out. `charge` is what was reserved while they
    /// were made.
    pub fn new(mut list: Vec<Row>, mut charge: Charge) -> Result<Self, QueryError> {
        list.retain(|row| !row.is_empty());
        charge.add_samples(list.iter().map(Row::weight).sum())?;
        charge.settle(rows_bytes(&list))?;
        Ok(Self {
            list,
            charge: Some(charge),
        })
    }

    /// Rows of others that are gone now, with their bytes.
    pub fn moved(
        mut list: Vec<Row>,
        from: impl IntoIterator<Item = Charge>,
        limits: &Arc<Limits>,
    ) -> Result<Self, QueryError> {
        list.retain(|row| !row.is_empty());
        let mut charge = limits.charge(0)?;
        charge.add_samples(list.iter().map(Row::weight).sum())?;
        from.into_iter().for_each(|from| charge.merge_bytes(from));
        charge.settle(rows_bytes(&list))?;
        Ok(Self::charged(list, charge))
    }

    /// Rows that were counted before.
    pub fn charged(list: Vec<Row>, charge: Charge) -> Self {
        Self {
            list,
            charge: Some(charge),
        }
    }

    /// The rows and their charge.
    pub fn into_parts(self) -> (Vec<Row>, Option<Charge>) {
        (self.list, self.charge)
    }

    /// Applies a change that does not add values.
    pub fn map(self, change: impl FnOnce(Vec<Row>) -> Vec<Row>) -> Result<Self, QueryError> {
        self.try_map(|rows, _| Ok(change(rows)))
    }

    /// See [`Rows::map`]. What the change allocates is taken from the charge.
    pub fn try_map(
        self,
        change: impl FnOnce(Vec<Row>, &mut Charge) -> Result<Vec<Row>, QueryError>,
    ) -> Result<Self, QueryError> {
        let Some(mut charge) = self.charge else {
            return Ok(Self::default());
        };
        let list = change(self.list, &mut charge)?;
        charge.settle(rows_bytes(&list))?;
        Ok(Self::charged(list, charge))
    }
}
