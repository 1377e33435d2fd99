//! Exemplars: rows of their own, which belong to the series of the message that brings them.

use std::borrow::Cow;

use tidelake_catalog::model::{ColumnType, Labels};

use super::{DecodeError, LABELS_COLUMN, VALUE_COLUMN};
use crate::column::{FieldColumn, FieldValues};
use crate::rows::Rows;

/// Characters of all names and values of an exemplar, as in OpenMetrics and Prometheus.
const MAX_LABEL_CHARS: usize = 128;
/// Exemplars of a body. An empty one takes two bytes in the body and thirty in memory.
const MAX_EXEMPLARS: usize = 1_000_000;

/// Bytes of an exemplar without its labels: series, time, value, and where its labels end.
pub(super) const ROW_BYTES: usize = 24;

/// Exemplars of one body, series by series.
pub(super) struct ExemplarsBuilder {
    rows: Rows,
    value: FieldColumn,
    labels: FieldColumn,
    /// Rows of the series before the present one.
    before: usize,
}

impl ExemplarsBuilder {
    pub(super) fn new() -> Self {
        let (value, labels) = (
            FieldColumn::new(VALUE_COLUMN.into(), ColumnType::Float),
            FieldColumn::new(LABELS_COLUMN.into(), ColumnType::Labels),
        );
        Self {
            rows: Rows::default(),
            value,
            labels,
            before: 0,
        }
    }

    /// Adds an exemplar to the present series.
    pub(super) fn push(
        &mut self,
        labels: &Labels,
        value: f64,
        time: i64,
    ) -> Result<(), DecodeError> {
        let row = self.rows.time.len();
        if row >= MAX_EXEMPLARS {
            return Err(DecodeError(format!(
                "it has more than {MAX_EXEMPLARS} exemplars; send it in smaller parts"
            )));
        }
        if let FieldValues::Float(values) = self.value.open_row(row) {
            values.push(value);
        }
        if let FieldValues::String { ends, bytes } = self.labels.open_row(row) {
            bytes.extend_from_slice(labels.as_str().as_bytes());
            ends.push(bytes.len() as u32);
        }
        self.rows.time.push(time);
        Ok(())
    }

    /// Whether the present series has any.
    pub(super) fn has_data(&self) -> bool {
        self.rows.time.len() > self.before
    }

    /// All that was added since the last call belongs to this series.
    pub(super) fn end_series(&mut self, series: u32) {
        self.before = self.rows.time.len();
        self.rows.series.resize(self.before, series);
    }

    /// Takes back all that was added to the present series.
    pub(super) fn truncate(&mut self) {
        self.rows.time.truncate(self.before);
        self.value.truncate(self.before);
        self.labels.truncate(self.before);
    }

    pub(super) fn finish(self) -> Rows {
        let Self {
            mut rows,
            value,
            labels,
            ..
        } = self;
        rows.fields = vec![value, labels];
        rows.fields.retain(|column| column.count() > 0);
        rows
    }
}

/// The labels of an exemplar in canonical form, without those that are empty; the error says why it
/// is refused.
pub(super) fn labels(pairs: &[(&[u8], &[u8])]) -> Result<Labels, String> {
    // A character has at most four bytes: nothing long is looked at.
    let bytes: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let too_long =
        || format!("an exemplar has labels of more than {MAX_LABEL_CHARS} characters in all");
    if bytes > 4 * MAX_LABEL_CHARS {
        return Err(too_long());
    }
    let mut texts: Vec<(Cow<'_, str>, Cow<'_, str>)> = pairs
        .iter()
        .map(|(name, value)| {
            (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            )
        })
        .collect();
    if texts
        .iter()
        .map(|(name, value)| name.chars().count() + value.chars().count())
        .sum::<usize>()
        > MAX_LABEL_CHARS
    {
        return Err(too_long());
    }
    texts.sort_unstable();
    texts.dedup_by(|a, b| a.0 == b.0);
    texts.retain(|(name, value)| !name.is_empty() && !value.is_empty());
    Ok(Labels::from_sorted(
        texts
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref())),
    ))
}
