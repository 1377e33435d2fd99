//! Functions that rewrite labels; they look at no value.

use regex::Regex;
use tidelake_catalog::model::{LabelsBuilder, METRIC_NAME};

use super::super::exec::QueryError;
use super::super::exec::finish::merge_rows;
use super::super::exec::row::Row;

/// `label_replace`: sets a label from the captures of a pattern over another label's value.
pub(crate) fn replace(
    mut rows: Vec<Row>,
    destination: &str,
    replacement: &str,
    source: &str,
    regex: &Regex,
) -> Result<Vec<Row>, QueryError> {
    let mut text = String::new();
    for row in &mut rows {
        let value = row.labels.get(source).unwrap_or("");
        let Some(captures) = regex.captures(value) else {
            continue;
        };
        text.clear();
        captures.expand(replacement, &mut text);
        set(row, destination, &text);
    }
    merge_rows(rows)
}

/// `label_join`: sets a label to the values of others with a separator between them.
pub(crate) fn join(
    mut rows: Vec<Row>,
    destination: &str,
    separator: &str,
    sources: &[String],
) -> Result<Vec<Row>, QueryError> {
    for row in &mut rows {
        let values: Vec<&str> = sources
            .iter()
            .map(|source| row.labels.get(source).unwrap_or(""))
            .collect();
        let text = values.join(separator);
        set(row, destination, &text);
    }
    merge_rows(rows)
}

fn set(row: &mut Row, label: &str, value: &str) {
    let mut builder = LabelsBuilder::from_labels(&row.labels);
    builder.set(label, value);
    row.labels = builder.build();
    // A name that was set explicitly stays.
    row.drop_name &= label != METRIC_NAME;
}
