//! The columns that samples go to, whatever version of the protocol brings them.

use std::sync::Arc;

use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tidelake_catalog::model::labels::METRIC_NAME;
use tidelake_catalog::model::{ColumnType, Histogram, Labels};

use super::exemplar::{self, ExemplarsBuilder};
use super::label_fields::labels_of;
use super::{DecodeError, HISTOGRAM_COLUMN, START_TIME_COLUMN, VALUE_COLUMN, WrittenSamples};
use crate::column::{FieldColumn, FieldValues, histogram_bytes};
use crate::label_limits::LabelLimits;
use crate::line_protocol::{LineError, quote};
use crate::retention::Oldest;
use crate::series_registry::{
    KnownSeries, MAX_SERIES, NewSeriesSet, SeriesError, SeriesRegistry, Spelling,
};

/// Histograms of a body. An empty one takes two bytes in the body and two hundred in memory.
const MAX_HISTOGRAMS: usize = 500_000;
/// Labels that an error quotes.
const MAX_SHOWN_LABELS: usize = 16;

/// Samples of one body, series by series.
pub(crate) struct SamplesBuilder {
    out: WrittenSamples,
    new_series: NewSeriesSet,
    value: FieldColumn,
    histogram: FieldColumn,
    start_time: FieldColumn,
    exemplars: ExemplarsBuilder,
    /// Rows of the series before the present one.
    rows: usize,
    oldest: Oldest,
    limits: LabelLimits,
    /// Samples of the present series that are too old, and the time of one.
    expired: (usize, i64),
    memory: Reservation,
    /// Bytes of `memory` that are not used yet.
    spare: usize,
    /// Rows that there is memory for.
    reserved_rows: usize,
}

/// Bytes of a row: series, time and value.
const ROW_BYTES: usize = 20;
/// Rows that memory is reserved for first; each time twice as many as before.
const FIRST_ROWS: usize = 4096;
/// Memory for other things is reserved in blocks of this many bytes.
const BLOCK_BYTES: usize = 256 << 10;

impl SamplesBuilder {
    pub(crate) fn new(oldest: Oldest, limits: LabelLimits, memory: &Arc<MemoryBudget>) -> Self {
        Self {
            out: WrittenSamples::default(),
            new_series: NewSeriesSet::default(),
            value: FieldColumn::new(VALUE_COLUMN.into(), ColumnType::Float),
            histogram: FieldColumn::new(HISTOGRAM_COLUMN.into(), ColumnType::Histogram),
            start_time: FieldColumn::new(START_TIME_COLUMN.into(), ColumnType::Timestamp),
            exemplars: ExemplarsBuilder::new(),
            rows: 0,
            oldest,
            limits,
            expired: (0, 0),
            memory: memory.empty(Share::Parsing),
            spare: 0,
            reserved_rows: 0,
        }
    }

    /// Reserves memory for more rows; false if there is none.
    #[cold]
    fn more_rows(&mut self) -> bool {
        let rows = self.reserved_rows.max(FIRST_ROWS);
        if self.out.out_of_memory.is_some() || !self.reserve(rows * ROW_BYTES) {
            return false;
        }
        self.reserved_rows += rows;
        self.out.rows.time.reserve_exact(rows);
        true
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        match self.memory.try_grow(bytes) {
            Ok(()) => true,
            Err(error) => {
                self.out.out_of_memory = Some(error);
                false
            }
        }
    }

    /// What the labels of each series are held to.
    pub(crate) fn limits(&self) -> &LabelLimits {
        &self.limits
    }

    /// Whether the rest of the body need not be read.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.out.out_of_memory.is_some()
    }

    /// Counts what is no row; false if there is no memory for it.
    pub(crate) fn charge(&mut self, bytes: usize) -> bool {
        if self.out.out_of_memory.is_some() {
            return false;
        }
        if self.spare < bytes {
            let block = bytes.max(BLOCK_BYTES);
            if !self.reserve(block) {
                return false;
            }
            self.spare += block;
        }
        self.spare -= bytes;
        true
    }

    /// Adds a float sample to the present series; `false` if it is too old.
    #[inline]
    pub(crate) fn sample(&mut self, value: f64, time: i64) -> bool {
        if time < self.oldest.time {
            self.expire(time);
            return false;
        }
        let row = self.out.rows.time.len();
        if row >= self.reserved_rows && !self.more_rows() {
            return false;
        }
        if let FieldValues::Float(values) = self.value.open_row(row) {
            values.push(value);
        }
        self.out.rows.time.push(time);
        true
    }

    /// Adds a histogram to the present series; `false` if it is too old.
    pub(crate) fn histogram(
        &mut self,
        histogram: Histogram,
        time: i64,
    ) -> Result<bool, DecodeError> {
        if time < self.oldest.time {
            self.expire(time);
            return Ok(false);
        }
        let row = self.out.rows.time.len();
        if (row >= self.reserved_rows && !self.more_rows())
            || !self.charge(histogram_bytes(&histogram))
        {
            return Ok(false);
        }
        if let FieldValues::Histogram(list) = self.histogram.open_row(row) {
            if list.len() >= MAX_HISTOGRAMS {
                return Err(DecodeError(format!(
                    "it has more than {MAX_HISTOGRAMS} histograms; send it in smaller parts"
                )));
            }
            list.push(Arc::new(histogram));
        }
        self.out.rows.time.push(time);
        Ok(true)
    }

    /// Says of the last sample or histogram of the present series when what it counts began; 0 says
    /// nothing.
    #[inline]
    pub(crate) fn started(&mut self, start_time: i64) {
        let rows = self.out.rows.time.len();
        if start_time != 0
            && let Some(row) = rows.checked_sub(1)
            && let FieldValues::Integer(times) = self.start_time.open_row(row)
        {
            times.push(start_time);
        }
    }

    #[cold]
    fn expire(&mut self, time: i64) {
        self.expired = (self.expired.0 + 1, time);
    }

    /// What is to be said of samples of the present series that were too old, once: how many, and
    /// why.
    #[inline]
    fn take_expired(&mut self) -> Option<(usize, String)> {
        if self.expired.0 == 0 {
            return None;
        }
        let (samples, time) = std::mem::take(&mut self.expired);
        Some((samples, self.oldest.refusal(time)))
    }

    /// Refuses what was too old since the last call.
    #[inline]
    pub(crate) fn refuse_expired(&mut self) {
        if let Some((count, error)) = self.take_expired() {
            self.refuse_samples(count, error);
        }
    }

    /// Adds an exemplar with these labels to the present series.
    pub(crate) fn exemplar(
        &mut self,
        labels: &[(&[u8], &[u8])],
        value: f64,
        time: i64,
    ) -> Result<(), DecodeError> {
        if time < self.oldest.time {
            self.expire(time);
            return Ok(());
        }
        match exemplar::labels(labels) {
            Ok(labels) => {
                if self.charge(exemplar::ROW_BYTES + labels.as_str().len()) {
                    self.exemplars.push(&labels, value, time)?;
                }
            }
            Err(error) => self.refuse(error),
        }
        Ok(())
    }

    /// Adds what is known about a metric family.
    pub(crate) fn metadata(&mut self, metadata: super::Metadata) {
        self.out.metadata.push(metadata);
    }

    /// Whether the present series has anything.
    pub(crate) fn has_data(&self) -> bool {
        self.out.rows.time.len() > self.rows || self.exemplars.has_data()
    }

    /// Ends the present series: all that was added since the last end belongs to it. `labels` is
    /// only called if nobody knows its spelling.
    #[inline]
    pub(crate) fn end_series(
        &mut self,
        known: &KnownSeries<'_>,
        spelling: Spelling,
        labels: impl FnOnce() -> Result<Labels, String>,
    ) {
        let series = match known.find(spelling) {
            Some((series, _)) => series,
            None => match self.new_series.find(spelling) {
                Some(place) => MAX_SERIES + place,
                None => match labels() {
                    Ok(labels) => MAX_SERIES + self.new_series.push(spelling, labels),
                    Err(error) => return self.refuse_series(error),
                },
            },
        };
        self.rows = self.out.rows.time.len();
        self.out.rows.series.resize(self.rows, series);
        self.exemplars.end_series(series);
    }

    /// The same for a series whose labels are these label fields. One that has nothing is left out.
    #[inline]
    pub(crate) fn end_raw_series(
        &mut self,
        known: &KnownSeries<'_>,
        raw: &[u8],
    ) -> Result<(), DecodeError> {
        if !self.has_data() {
            return Ok(());
        }
        let mut malformed = None;
        let limits = self.limits;
        self.end_series(known, Spelling::of(raw), || match labels_of(raw, &limits) {
            Ok(labels) => labels,
            Err(error) => {
                malformed = Some(error);
                Err(String::new())
            }
        });
        malformed.map_or(Ok(()), Err)
    }

    /// Says which parts of the present series were refused: a histogram that cannot be, and samples
    /// that are too old.
    #[inline]
    pub(crate) fn refuse_parts(
        &mut self,
        raw: &[u8],
        bad_histogram: Option<String>,
    ) -> Result<(), DecodeError> {
        if let Some(error) = bad_histogram {
            let error = match labels_of(raw, &self.limits)? {
                Ok(labels) => format!("{error} (series {labels})"),
                Err(other) => other,
            };
            self.refuse(error);
        }
        if let Some((count, error)) = self.take_expired() {
            let error = match labels_of(raw, &self.limits)? {
                Ok(labels) => format!("{count} samples of series {labels} are too old: {error}"),
                Err(other) => other,
            };
            self.refuse_samples(count, error);
        }
        Ok(())
    }

    /// Takes back all that was added to the present series.
    #[cold]
    pub(crate) fn refuse_series(&mut self, error: String) {
        self.expired = (0, 0);
        self.out.rows.time.truncate(self.rows);
        self.value.truncate(self.rows);
        self.histogram.truncate(self.rows);
        self.start_time.truncate(self.rows);
        self.exemplars.truncate();
        self.refuse(error);
    }

    /// Notes that something was refused.
    #[cold]
    pub(crate) fn refuse(&mut self, error: String) {
        self.out.refuse(error);
    }

    /// Notes that some samples were refused for one reason.
    #[cold]
    pub(crate) fn refuse_samples(&mut self, samples: usize, error: String) {
        self.out.refuse(error);
        self.out.refused += samples.saturating_sub(1);
    }

    /// Says something of which nothing was refused that counts.
    #[cold]
    pub(crate) fn remark(&mut self, remark: String) {
        let refused = self.out.refused;
        self.out.refuse(remark);
        self.out.refused = refused;
    }

    /// How much was refused so far, and how much of it is named.
    pub(crate) fn refusals(&self) -> (usize, usize) {
        (self.out.refused, self.out.errors.len())
    }

    /// Says of what was refused since then in which line of the body it stands.
    #[cold]
    pub(crate) fn locate(&mut self, (_, named): (usize, usize), line: usize, text: &[u8]) {
        for message in self.out.errors.drain(named..) {
            let original = quote(text);
            self.out.line_errors.push(LineError {
                line,
                original,
                message,
            });
        }
    }

    /// Makes what was refused since then one refusal.
    #[inline]
    pub(crate) fn merge_refusals(&mut self, (refused, errors): (usize, usize)) {
        if self.out.refused > refused + 1 {
            self.out.refused = refused + 1;
            self.out.errors.truncate(errors + 1);
        }
    }

    /// Registers the new series and gives the rows.
    pub(crate) fn finish(self, registry: &SeriesRegistry) -> WrittenSamples {
        let Self {
            mut out,
            mut new_series,
            value,
            histogram,
            start_time,
            exemplars,
            memory,
            ..
        } = self;
        out.memory = Some(memory);
        out.rows.fields = vec![value, histogram, start_time];
        out.rows.fields.retain(|column| column.count() > 0);

        let registered = registry.insert_all(new_series.take());
        let resolve = |series: u32| match series.checked_sub(MAX_SERIES) {
            None => Some(series),
            Some(place) => registered
                .get(place as usize)
                .and_then(|r| r.as_ref().ok())
                .copied(),
        };
        out.exemplars = exemplars.finish();
        for rows in [&mut out.rows, &mut out.exemplars] {
            let mut lost = false;
            let keep: Vec<bool> = rows
                .series
                .iter_mut()
                .map(|series| {
                    let resolved = resolve(*series);
                    lost |= resolved.is_none();
                    *series = resolved.unwrap_or(0);
                    resolved.is_some()
                })
                .collect();
            if lost {
                rows.retain(&keep);
            }
        }
        for error in registered.iter().filter_map(|r| r.as_ref().err()) {
            out.registry_full |= matches!(error, SeriesError::Full { .. });
            out.over_quota |= matches!(error, SeriesError::OverQuota { .. });
            out.refuse(error.to_string());
        }
        for field in &out.rows.fields {
            match &field.values {
                FieldValues::Histogram(_) => out.histograms = field.count(),
                FieldValues::Float(_) => out.samples = field.count(),
                _ => {}
            }
        }
        out
    }
}

/// The first labels of a series, for an error.
pub(crate) fn shown(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().take(MAX_SHOWN_LABELS).copied())
}

/// Canonical labels from those of a message; labels with empty values are left out.
pub(crate) fn canonical(
    mut pairs: Vec<(&str, &str)>,
    limits: &LabelLimits,
) -> Result<Labels, String> {
    pairs.sort_by_key(|pair| pair.0);
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(format!(
            "series {} has a label with an empty name",
            shown(&pairs)
        ));
    }
    if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!(
            "series {} has the label {:?} more than once",
            shown(&pairs),
            pair[0].0
        ));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    limits
        .check("label", &pairs)
        .map_err(|error| format!("{error}: series {}", shown(&pairs)))?;
    let labels = Labels::from_sorted(pairs.iter().copied());
    if labels.get(METRIC_NAME).is_none() {
        return Err(format!(
            "series {labels} has no metric name: the label {METRIC_NAME} is missing or empty",
            labels = shown(&pairs)
        ));
    }
    Ok(labels)
}
