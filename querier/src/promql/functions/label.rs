//! Functions that rewrite labels; they look at no value.

use regex::{Captures, Regex};
use tidelake_catalog::model::{LabelsBuilder, METRIC_NAME};

use super::super::exec::QueryError;
use super::super::exec::finish::merge_rows;
use super::super::exec::limits::Charge;
use super::super::exec::row::{Row, labels_bytes, labels_in_work_bytes};

/// `label_replace`: sets a label from the captures of a pattern over another label's value.
pub(crate) fn replace(
    mut rows: Vec<Row>,
    destination: &str,
    replacement: &str,
    source: &str,
    regex: &Regex,
    charge: &mut Charge,
) -> Result<Vec<Row>, QueryError> {
    let mut text = String::new();
    for row in &mut rows {
        let value = row.labels.get(source).unwrap_or("");
        // No reference to a capture is shorter than two bytes.
        let longest = replacement
            .len()
            .saturating_add((replacement.len() / 2).saturating_mul(value.len()));
        if longest > SMALL_TEXT_BYTES {
            // How long the text becomes is seldom near to that: it is computed without the text.
            let Some(captures) = regex.captures(value) else {
                continue;
            };
            charge.reserve(expanded_bytes(&captures, replacement).saturating_mul(2))?;
        }
        let Some(captures) = regex.captures(value) else {
            continue;
        };
        text.clear();
        captures.expand(replacement, &mut text);
        set(row, destination, &text, charge)?;
    }
    merge_rows(rows, charge)
}

/// Texts up to this length are made before they are counted.
const SMALL_TEXT_BYTES: usize = 4 << 10;

/// At least as many bytes as a replacement has with its captures filled in.
fn expanded_bytes(captures: &Captures<'_>, replacement: &str) -> usize {
    let longest = captures
        .iter()
        .flatten()
        .map(|capture| capture.len())
        .max()
        .unwrap_or(0);
    let references = replacement.bytes().filter(|byte| *byte == b'$').count();
    replacement
        .len()
        .saturating_add(references.saturating_mul(longest))
}

/// `label_join`: sets a label to the values of others with a separator between them.
pub(crate) fn join(
    mut rows: Vec<Row>,
    destination: &str,
    separator: &str,
    sources: &[String],
    charge: &mut Charge,
) -> Result<Vec<Row>, QueryError> {
    for row in &mut rows {
        let values: Vec<&str> = sources
            .iter()
            .map(|source| row.labels.get(source).unwrap_or(""))
            .collect();
        let len = values.iter().fold(0usize, |len, value| {
            len.saturating_add(value.len())
                .saturating_add(separator.len())
        });
        charge.reserve(len.saturating_add(size_of_val(&values[..])))?;
        let text = values.join(separator);
        set(row, destination, &text, charge)?;
    }
    merge_rows(rows, charge)
}

/// Sets a label. `value`, which may be as long as the whole, is there already.
fn set(row: &mut Row, label: &str, value: &str, charge: &mut Charge) -> Result<(), QueryError> {
    let len = row
        .labels
        .as_str()
        .len()
        .saturating_add(label.len() + value.len());
    charge.reserve(labels_in_work_bytes(len).saturating_add(value.len()))?;
    let mut builder = LabelsBuilder::from_labels(&row.labels);
    builder.set(label, value);
    let labels = builder.build();
    charge.take(labels_bytes(&labels))?;
    let old = std::mem::replace(&mut row.labels, labels);
    charge.give_back(labels_bytes(&old));
    // A name that was set explicitly stays.
    row.drop_name &= label != METRIC_NAME;
    Ok(())
}
