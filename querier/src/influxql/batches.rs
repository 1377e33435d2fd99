//! Series as batches of Arrow, in the columns of InfluxDB 3: `iox::measurement`, `time`, a column
//! for each tag of `GROUP BY`, then what was selected.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, NullArray, RecordBatch,
    StringBuilder, StringViewBuilder, TimestampNanosecondArray, UInt64Builder,
};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::{Column, InfluxqlAnswer, InfluxqlError, Series, ValueRef};

/// The column with the name of the measurement.
const MEASUREMENT: &str = "iox::measurement";
/// The column of the times.
const TIME: &str = "time";
/// Most rows of a batch.
const BATCH_ROWS: usize = 8192;

/// The answer to a statement, batch by batch. Tags are string views, fields are not.
#[derive(Debug)]
pub struct Batches {
    answer: InfluxqlAnswer,
    schema: SchemaRef,
    columns: Vec<Output>,
    /// Where the next batch begins.
    series: usize,
    row: usize,
}

/// What a column holds.
#[derive(Debug)]
enum Output {
    Measurement,
    Time,
    /// The tag of this name.
    Tag(String),
    /// What is called so.
    Selected(String),
}

impl Batches {
    /// All rows of an answer.
    ///
    /// # Errors
    /// [`InfluxqlError::Invalid`] if a column has values of types that are not one.
    pub fn new(answer: InfluxqlAnswer) -> Result<Self, InfluxqlError> {
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        let mut add = |column, name: &str, kind| {
            columns.push(column);
            fields.push(Field::new(name, kind, true));
        };
        let all = &answer.series;
        if all.iter().any(|series| series.name.is_some()) {
            add(Output::Measurement, MEASUREMENT, DataType::Utf8);
        }
        if all.iter().any(|series| series.times.is_some()) {
            add(
                Output::Time,
                TIME,
                DataType::Timestamp(TimeUnit::Nanosecond, None),
            );
        }
        let tags = in_order(all.iter().flat_map(|s| s.tags.iter().map(|(name, _)| name)));
        for tag in &tags {
            add(Output::Tag((*tag).clone()), tag, DataType::Utf8View);
        }
        let kinds = kinds(all)?;
        let selected = all
            .iter()
            .flat_map(|series| selected(series).map(|(name, _)| name));
        for name in in_order(selected) {
            // `SELECT host, value ... GROUP BY host` says the same twice.
            if !tags.contains(&name) {
                let kind = kinds.get(name.as_str()).cloned().flatten();
                let kind = kind.unwrap_or(DataType::Null);
                add(Output::Selected(name.clone()), name, kind);
            }
        }
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            columns,
            answer,
            series: 0,
            row: 0,
        })
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The series of the next batch, and their rows in it.
    fn take(&mut self) -> Vec<(usize, Range<usize>)> {
        let mut parts = Vec::new();
        let mut left = BATCH_ROWS;
        while let Some(series) = self.answer.series.get(self.series)
            && left > 0
        {
            let rows = (series.len - self.row).min(left);
            if rows > 0 {
                parts.push((self.series, self.row..self.row + rows));
            }
            left -= rows;
            self.row += rows;
            if self.row == series.len {
                (self.series, self.row) = (self.series + 1, 0);
            }
        }
        parts
    }

    fn batch(&self, parts: &[(usize, Range<usize>)]) -> Result<RecordBatch, ArrowError> {
        let parts: Vec<(&Series, Range<usize>)> = parts
            .iter()
            .filter_map(|(at, rows)| Some((self.answer.series.get(*at)?, rows.clone())))
            .collect();
        let columns = self.columns.iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| match column {
            Output::Measurement => Ok(measurements(&parts)),
            Output::Time => Ok(times(&parts)),
            Output::Tag(name) => Ok(tags(&parts, name)),
            Output::Selected(name) => values(&parts, name, field.data_type()),
        });
        RecordBatch::try_new(self.schema(), columns.collect::<Result<_, _>>()?)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let parts = self.take();
        (!parts.is_empty()).then(|| self.batch(&parts))
    }
}

/// Each once, where it stands first.
fn in_order<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut seen = std::collections::HashSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// The columns beside the times, with their names.
fn selected(series: &Series) -> impl Iterator<Item = (&String, &Column)> {
    let times = usize::from(series.times.is_some());
    series.columns.iter().skip(times).zip(&series.values)
}

/// The types of all columns; none where no row has a value.
fn kinds(all: &[Series]) -> Result<BTreeMap<&str, Option<DataType>>, InfluxqlError> {
    let mut kinds: BTreeMap<&str, Option<DataType>> = BTreeMap::new();
    for (name, column) in all.iter().flat_map(selected) {
        let kind = kinds.entry(name).or_default();
        let (Some(known), Some(other)) = (kind.clone(), kind_of(column)) else {
            *kind = kind.take().or_else(|| kind_of(column));
            continue;
        };
        *kind = Some(match (known, other) {
            (known, other) if known == other => known,
            (known, other) if known.is_numeric() && other.is_numeric() => DataType::Float64,
            (DataType::Utf8 | DataType::Utf8View, DataType::Utf8 | DataType::Utf8View) => {
                DataType::Utf8
            }
            (known, other) => {
                return Err(InfluxqlError::Invalid(format!(
                    "the column {name:?} has values of two types, {known} and {other}: select \
                     them apart"
                )));
            }
        });
    }
    Ok(kinds)
}

fn kind_of(column: &Column) -> Option<DataType> {
    match column {
        Column::Absent => None,
        Column::Array(array) => Some(array.data_type().clone()),
        Column::Text(_) | Column::Texts(..) => Some(DataType::Utf8View),
        Column::Values(values) => values.iter().find_map(|value| match value.as_ref() {
            ValueRef::Null => None,
            ValueRef::Float(_) => Some(DataType::Float64),
            ValueRef::Integer(_) => Some(DataType::Int64),
            ValueRef::Unsigned(_) => Some(DataType::UInt64),
            ValueRef::Boolean(_) => Some(DataType::Boolean),
            ValueRef::String(_) => Some(DataType::Utf8),
        }),
    }
}

type Part<'a> = (&'a Series, Range<usize>);

fn measurements(parts: &[Part]) -> ArrayRef {
    let mut built = StringBuilder::new();
    for (series, rows) in parts {
        for _ in rows.clone() {
            built.append_option(series.name.as_deref());
        }
    }
    Arc::new(built.finish())
}

fn times(parts: &[Part]) -> ArrayRef {
    let rows = parts.iter().flat_map(|(series, rows)| {
        let times = series.times.as_deref();
        rows.clone().map(move |row| times?.get(row).copied())
    });
    Arc::new(TimestampNanosecondArray::from_iter(rows))
}

fn tags(parts: &[Part], name: &str) -> ArrayRef {
    let mut built = StringViewBuilder::new().with_deduplicate_strings();
    for (series, rows) in parts {
        let tag = series.tags.iter().find(|(tag, _)| tag == name);
        let tag = tag
            .map(|(_, value)| &**value)
            .filter(|value| !value.is_empty());
        for _ in rows.clone() {
            built.append_option(tag);
        }
    }
    Arc::new(built.finish())
}

fn values(parts: &[Part], name: &str, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(parts.len());
    for (series, rows) in parts {
        let column = selected(series).find(|(other, _)| *other == name);
        let column = column.map_or(&Column::Absent, |(_, column)| column);
        arrays.push(match column {
            Column::Array(array) => cast(&array.slice(rows.start, rows.len()), kind)?,
            other => built(other, rows.clone(), kind)?,
        });
    }
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    concat(&arrays)
}

/// The rows of a column that is no array.
fn built(column: &Column, rows: Range<usize>, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    let len = rows.len();
    let values = rows.map(|row| column.get(row));
    macro_rules! built {
        ($builder:expr, $value:pat => $made:expr) => {{
            let mut built = $builder;
            for value in values {
                built.append_option(match value {
                    $value => Some($made),
                    _ => None,
                });
            }
            Arc::new(built.finish()) as ArrayRef
        }};
    }
    Ok(match kind {
        DataType::Null => Arc::new(NullArray::new(len)),
        DataType::Float64 => {
            let mut built = Float64Builder::with_capacity(len);
            values.for_each(|value| built.append_option(value.as_float()));
            Arc::new(built.finish())
        }
        DataType::Int64 => built!(Int64Builder::new(), ValueRef::Integer(value) => value),
        DataType::UInt64 => built!(UInt64Builder::new(), ValueRef::Unsigned(value) => value),
        DataType::Boolean => built!(BooleanBuilder::new(), ValueRef::Boolean(value) => value),
        DataType::Utf8 => built!(StringBuilder::new(), ValueRef::String(value) => value),
        DataType::Utf8View => {
            let views = StringViewBuilder::new().with_deduplicate_strings();
            built!(views, ValueRef::String(value) => value)
        }
        // Only times have another type, and those are arrays.
        other => cast(
            &built!(Int64Builder::new(), ValueRef::Integer(value) => value),
            other,
        )?,
    })
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::influxql::value::Value;
    use crate::memory::QueryMemory;

    fn series(name: &str, tag: Option<&str>, columns: &[(&str, Column)], len: usize) -> Series {
        let names = std::iter::once("time").chain(columns.iter().map(|(name, _)| *name));
        Series {
            name: Some(name.into()),
            tags: tag
                .map(|value| ("host".to_owned(), value.into()))
                .into_iter()
                .collect(),
            columns: names.map(str::to_owned).collect(),
            times: Some((0..len as i64).collect()),
            values: columns.iter().map(|(_, column)| column.clone()).collect(),
            len,
            zone: None,
        }
    }

    fn answer(series: Vec<Series>) -> InfluxqlAnswer {
        InfluxqlAnswer {
            series,
            held: QueryMemory::unlimited().pool().try_hold(0).unwrap(),
        }
    }

    fn shown(series: Vec<Series>) -> String {
        let batches: Result<Vec<_>, _> = Batches::new(answer(series)).unwrap().collect();
        pretty_format_batches(&batches.unwrap())
            .unwrap()
            .to_string()
    }

    #[test]
    fn series_of_several_measurements_share_their_columns() {
        let floats = Column::Values(vec![Value::Float(1.5), Value::Null]);
        let integers = Column::Values(vec![Value::Integer(7)]);
        let all = vec![
            series(
                "cpu",
                Some("a"),
                &[("v", floats), ("none", Column::Absent)],
                2,
            ),
            series(
                "mem",
                Some(""),
                &[("v", integers), ("host", Column::Text("b".into()))],
                1,
            ),
        ];
        let expected = "\
+------------------+-------------------------------+------+-----+------+
| iox::measurement | time                          | host | v   | none |
+------------------+-------------------------------+------+-----+------+
| cpu              | 1970-01-01T00:00:00           | a    | 1.5 |      |
| cpu              | 1970-01-01T00:00:00.000000001 | a    |     |      |
| mem              | 1970-01-01T00:00:00           |      | 7.0 |      |
+------------------+-------------------------------+------+-----+------+";
        assert_eq!(shown(all), expected);
    }

    #[test]
    fn large_series_come_in_parts_and_small_ones_together() {
        let large = Column::Values(vec![Value::Boolean(true); 20_000]);
        let small = Column::Values(vec![Value::Boolean(false)]);
        let mut all = vec![series("m", Some("x"), &[("v", large)], 20_000)];
        all.extend((0..100).map(|_| series("m", Some("y"), &[("v", small.clone())], 1)));
        let sizes: Vec<usize> = Batches::new(answer(all))
            .unwrap()
            .map(|batch| batch.unwrap().num_rows())
            .collect();
        assert_eq!(sizes, [8192, 8192, 20_100 - 2 * 8192]);
    }

    #[test]
    fn values_that_are_of_no_one_type_are_refused() {
        let texts = Column::Values(vec![Value::String("a".into())]);
        let floats = Column::Values(vec![Value::Float(1.0)]);
        let all = vec![
            series("a", None, &[("v", texts)], 1),
            series("b", None, &[("v", floats)], 1),
        ];
        let error = Batches::new(answer(all)).unwrap_err().to_string();
        assert!(error.contains("two types, Utf8 and Float64"), "{error}");
    }

    #[test]
    fn an_empty_answer_has_no_batches() {
        let mut batches = Batches::new(answer(Vec::new())).unwrap();
        assert!(batches.schema().fields().is_empty());
        assert!(batches.next().is_none());
    }
}
