//! Rows as tests write them down, and as tables hold them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, MapBuilder, StringArray, StringBuilder,
    TimestampMillisecondArray, UInt64Array,
};
use tidelake_catalog::model::histogram::HistogramArrayBuilder;
use tidelake_catalog::model::{
    Column, ColumnType, Histogram, Labels, METRIC_NAME, Matcher, TableKind,
};
use tidelake_catalog::segment::{FieldArray, Series, SeriesRun, SortOrder, SortedRows};

use crate::promql::parse;

/// What a row has in a field.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    Text(&'static str),
    Histogram(Histogram),
    Time(i64),
    Labels(Labels),
}

impl Cell {
    fn kind(&self) -> ColumnType {
        match self {
            Self::Float(_) => ColumnType::Float,
            Self::Integer(_) => ColumnType::Integer,
            Self::Unsigned(_) => ColumnType::Unsigned,
            Self::Boolean(_) => ColumnType::Boolean,
            Self::Text(_) => ColumnType::String,
            Self::Histogram(_) => ColumnType::Histogram,
            Self::Time(_) => ColumnType::Timestamp,
            Self::Labels(_) => ColumnType::Labels,
        }
    }
}

/// A row of any table, its time in the table's unit.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(super) labels: Labels,
    pub(super) time: i64,
    cells: Vec<(&'static str, Cell)>,
}

/// A row of a series that is written as in [`labels`].
pub(crate) fn row(series: &str, time: i64, cells: &[(&'static str, Cell)]) -> Row {
    Row {
        labels: labels(series),
        time,
        cells: cells.to_vec(),
    }
}

impl Row {
    /// A row of the same series.
    pub(crate) fn at(&self, time: i64, cells: &[(&'static str, Cell)]) -> Self {
        Self {
            labels: self.labels.clone(),
            time,
            cells: cells.to_vec(),
        }
    }
}

/// A row with one float in the field `value`.
pub(crate) fn sample(series: &str, time: i64, value: f64) -> Row {
    row(series, time, &[("value", Cell::Float(value))])
}

/// Labels from words: `up job=a` is `up{job="a"}`.
pub(crate) fn labels(words: &str) -> Labels {
    let pairs = words.split_whitespace();
    Labels::from_pairs(pairs.map(|word| word.split_once('=').unwrap_or((METRIC_NAME, word))))
}

/// The way back of [`labels`].
pub(crate) fn words(labels: &Labels) -> String {
    let pairs = labels.iter().map(|(name, value)| match name {
        METRIC_NAME => value.to_owned(),
        name => format!("{name}={value}"),
    });
    pairs.collect::<Vec<_>>().join(" ")
}

/// The matchers of a selector of PromQL; none of an empty text.
pub(crate) fn matchers(selector: &str) -> Vec<Matcher> {
    if selector.is_empty() {
        return Vec::new();
    }
    let expr = parse::parse(selector).unwrap();
    expr.selectors()[0].matchers.clone()
}

/// The fields that any row has, by name.
pub(super) fn fields_of(rows: &[Row]) -> Arc<[Column]> {
    let cells = rows.iter().flat_map(|row| &row.cells);
    let fields: BTreeMap<&str, ColumnType> =
        cells.map(|(name, cell)| (*name, cell.kind())).collect();
    let field = |(name, kind): (&str, ColumnType)| Column {
        name: name.into(),
        kind,
    };
    fields.into_iter().map(field).collect()
}

/// Rows in the order of a segment.
pub(super) fn sorted(kind: TableKind, rows: &[Row]) -> SortedRows {
    let order = SortOrder::choose(kind, rows.iter().map(|row| &row.labels));
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by(|a, b| {
        let by_series = order.compare(&a.labels, &b.labels);
        by_series.then(a.time.cmp(&b.time))
    });
    let mut runs = Vec::new();
    for of_series in sorted.chunk_by(|a, b| a.labels == b.labels) {
        let start = runs.last().map_or(0, |run: &SeriesRun| run.rows().end);
        let series = Arc::new(Series::new(of_series[0].labels.clone()));
        runs.push(SeriesRun::new(series, start..start + of_series.len()));
    }
    let fields = fields_of(rows);
    let columns = fields.iter().map(|field| column(field, &sorted));
    SortedRows {
        runs,
        time: sorted.iter().map(|row| row.time).collect::<Vec<_>>().into(),
        columns: columns.map(FieldArray::of).collect(),
        fields,
    }
}

fn column(field: &Column, rows: &[&Row]) -> ArrayRef {
    let cells = rows.iter().map(|row| {
        let cell = row.cells.iter().find(|(name, _)| **name == *field.name);
        cell.map(|(_, cell)| cell)
    });
    macro_rules! array {
        ($array:ty, $cell:path) => {
            Arc::new(
                cells
                    .map(|cell| match cell {
                        Some($cell(value)) => Some(*value),
                        _ => None,
                    })
                    .collect::<$array>(),
            )
        };
    }
    match field.kind {
        ColumnType::Float => array!(Float64Array, Cell::Float),
        ColumnType::Integer => array!(Int64Array, Cell::Integer),
        ColumnType::Unsigned => array!(UInt64Array, Cell::Unsigned),
        ColumnType::Boolean => array!(BooleanArray, Cell::Boolean),
        ColumnType::String => array!(StringArray, Cell::Text),
        ColumnType::Timestamp => array!(TimestampMillisecondArray, Cell::Time),
        ColumnType::Histogram => {
            let mut histograms = HistogramArrayBuilder::new();
            for cell in cells {
                match cell {
                    Some(Cell::Histogram(histogram)) => histograms.append(histogram),
                    _ => histograms.append_null(),
                }
            }
            Arc::new(histograms.finish())
        }
        ColumnType::Labels => {
            let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
            for cell in cells {
                if let Some(Cell::Labels(labels)) = cell {
                    for (name, value) in labels {
                        maps.keys().append_value(name);
                        maps.values().append_value(value);
                    }
                }
                maps.append(true).unwrap();
            }
            Arc::new(maps.finish())
        }
        ColumnType::Tag => panic!("{} is a tag, not a field", field.name),
    }
}
