//! All rows of a data file against its series index: labels, times and their order, types of the
//! columns.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    DataType, Int32Type, SchemaRef, TimestampMillisecondType, TimestampNanosecondType, UInt64Type,
};

use crate::model::schema::{arrow_type, tag_type};
use crate::model::{METRIC_NAME, TIME_COLUMN, TableKind, TableSchema, TimeUnit};
use crate::segment::decimal::{Decimals, MANTISSA, SCALE, VALUE};
use crate::segment::{IndexedSeries, ORDER_COLUMN};

const METRIC: &str = "metric";
const SERIES_ID: &str = "series_id";
const HISTOGRAM: &str = "histogram";

/// Goes through the rows of a file as they come, once.
pub(super) struct RowCheck<'a> {
    kind: TableKind,
    series: std::slice::Iter<'a, IndexedSeries>,
    current: Option<&'a IndexedSeries>,
    /// Rows of the current series that came.
    seen: u64,
    last_time: i64,
    /// Columns of labels, with the label of each.
    labels: Arc<[(String, Arc<str>)]>,
    /// What is wrong with the columns.
    columns: Result<(), String>,
    /// Whether a series may have several rows of one time.
    has_versions: bool,
}

impl<'a> RowCheck<'a> {
    pub fn new(
        schema: &TableSchema,
        sort_tags: &[String],
        series: &'a [IndexedSeries],
        columns: &SchemaRef,
    ) -> Self {
        let labels: Arc<[(String, Arc<str>)]> = match schema.kind {
            TableKind::Metrics | TableKind::Exemplars => {
                [(METRIC.to_owned(), METRIC_NAME.into())].into()
            }
            TableKind::Wide => sort_tags
                .iter()
                .map(|tag| (tag.clone(), tag.as_str().into()))
                .collect(),
        };
        let has_versions = match schema.kind {
            TableKind::Exemplars => true,
            TableKind::Wide => columns.column_with_name(ORDER_COLUMN).is_some(),
            TableKind::Metrics => false,
        };
        let columns = check_columns(schema, &labels, columns);
        Self {
            kind: schema.kind,
            series: series.iter(),
            current: None,
            seen: 0,
            last_time: 0,
            labels,
            columns,
            has_versions,
        }
    }

    /// The next rows.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<(), String> {
        self.columns.clone()?;
        let missing = |name: &str| format!("its column {name:?} is not of the right type");
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let time = column(TIME_COLUMN)?;
        let times: &[i64] = match self.kind.time_unit() {
            TimeUnit::Millisecond => time
                .as_primitive_opt::<TimestampMillisecondType>()
                .map(|array| &array.values()[..]),
            TimeUnit::Nanosecond => time
                .as_primitive_opt::<TimestampNanosecondType>()
                .map(|array| &array.values()[..]),
        }
        .filter(|_| time.null_count() == 0)
        .ok_or_else(|| missing(TIME_COLUMN))?;
        let ids = match self.kind {
            TableKind::Metrics | TableKind::Exemplars => Some(
                column(SERIES_ID)?
                    .as_primitive_opt::<UInt64Type>()
                    .ok_or_else(|| missing(SERIES_ID))?
                    .clone(),
            ),
            TableKind::Wide => None,
        };
        if self.kind == TableKind::Metrics {
            check_samples(batch)?;
        }
        let labels = Arc::clone(&self.labels);
        let texts = labels
            .iter()
            .map(|(name, _)| Texts::new(column(name)?).ok_or_else(|| missing(name)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut row = 0;
        while row < times.len() {
            let one = self.next_run()?;
            let rows = usize::try_from(one.rows - self.seen)
                .unwrap_or(usize::MAX)
                .min(times.len() - row);
            let run = row..row + rows;
            self.check_times(one, &times[run.clone()])?;
            if ids.as_ref().is_some_and(|ids| {
                ids.values()[run.clone()]
                    .iter()
                    .any(|id| *id != one.series.id)
                    || ids.null_count() > 0
            }) {
                return Err(format!(
                    "rows of {} have another series_id",
                    one.series.labels
                ));
            }
            for ((name, label), texts) in labels.iter().zip(&texts) {
                if !texts.are(run.clone(), one.series.labels.get(label)) {
                    return Err(format!(
                        "rows of {} have another value in column {name:?}",
                        one.series.labels
                    ));
                }
            }
            self.seen += rows as u64;
            row += rows;
        }
        Ok(())
    }

    /// The series of the next row.
    fn next_run(&mut self) -> Result<&'a IndexedSeries, String> {
        if let Some(current) = self.current.filter(|current| self.seen < current.rows) {
            return Ok(current);
        }
        let next = self
            .series
            .next()
            .ok_or("it has more rows than its series index")?;
        // Every tag has a column, or it could not be told from the file alone which series a row
        // belongs to.
        if self.kind == TableKind::Wide
            && let Some((name, _)) = next
                .series
                .labels
                .iter()
                .find(|(name, _)| !self.labels.iter().any(|(_, label)| &**label == *name))
        {
            return Err(format!(
                "it has no column for the tag {name:?} of {}",
                next.series.labels
            ));
        }
        (self.current, self.seen) = (Some(next), 0);
        Ok(next)
    }

    fn check_times(&mut self, one: &IndexedSeries, times: &[i64]) -> Result<(), String> {
        let labels = &one.series.labels;
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
            return Ok(());
        };
        let begins = self.seen == 0;
        let ascend = |a: &i64, b: &i64| a < b || (a == b && self.has_versions);
        if (!begins && !ascend(&self.last_time, &first)) || !times.is_sorted_by(ascend) {
            return Err(format!("the times of {labels} do not ascend"));
        }
        let ends = self.seen + times.len() as u64 == one.rows;
        if (begins && first != one.time.min) || (ends && last != one.time.max) {
            return Err(format!(
                "the times of {labels} are not those of the series index"
            ));
        }
        self.last_time = last;
        Ok(())
    }

    /// After the last row.
    pub fn finish(mut self) -> Result<(), String> {
        self.columns.clone()?;
        let is_whole = self.current.is_none_or(|current| self.seen == current.rows)
            && self.series.next().is_none();
        if is_whole {
            Ok(())
        } else {
            Err("it has fewer rows than its series index".to_owned())
        }
    }
}

/// The columns of a file against the table's.
fn check_columns(
    schema: &TableSchema,
    labels: &[(String, Arc<str>)],
    columns: &SchemaRef,
) -> Result<(), String> {
    let ids = schema.kind.is_by_series_id().then(|| SERIES_ID.to_owned());
    let before_fields: Vec<String> = labels
        .iter()
        .map(|(name, _)| name.clone())
        .chain(ids)
        .chain([TIME_COLUMN.to_owned()])
        .collect();
    let found: Vec<&str> = columns
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    if found.len() < before_fields.len()
        || before_fields
            .iter()
            .zip(&found)
            .any(|(wanted, found)| wanted != found)
    {
        return Err(format!(
            "its columns are {found:?}, and should begin with {before_fields:?}"
        ));
    }
    for (name, _) in labels {
        if columns
            .field_with_name(name)
            .is_ok_and(|field| *field.data_type() != tag_type())
        {
            return Err(format!(
                "its column {name:?} does not hold dictionary strings"
            ));
        }
    }
    let of_layout = decimal_columns(schema, columns)?;
    for field in columns.fields().iter().skip(before_fields.len()) {
        if of_layout.contains(&field.name().as_str()) {
            continue;
        }
        if field.name() == ORDER_COLUMN && *field.data_type() == DataType::Int64 {
            continue;
        }
        match schema.column(field.name()) {
            Some(column) if arrow_type(column.kind) == *field.data_type() => {}
            Some(column) => {
                return Err(format!(
                    "its column {:?} is not of the table's type {}",
                    field.name(),
                    column.kind.as_str()
                ));
            }
            None => return Err(format!("the table has no column {:?}", field.name())),
        }
    }
    Ok(())
}

/// The columns that are not the table's but of the decimal layout, if the file has it.
fn decimal_columns(
    schema: &TableSchema,
    columns: &SchemaRef,
) -> Result<&'static [&'static str], String> {
    let has = |name: &str| columns.column_with_name(name).is_some();
    if schema.kind != TableKind::Metrics || !(has(MANTISSA) || has(SCALE)) {
        return Ok(&[]);
    }
    let is = |name: &str, of: DataType| {
        columns
            .field_with_name(name)
            .is_ok_and(|field| *field.data_type() == of)
    };
    if has(VALUE) && is(MANTISSA, DataType::Int64) && is(SCALE, DataType::Int8) {
        return Ok(&[MANTISSA, SCALE]);
    }
    Err(format!(
        "its columns {VALUE:?}, {MANTISSA:?} and {SCALE:?} are not all there and of their types"
    ))
}

/// Each row of a metrics table is one sample: a float, whole or split, or a histogram.
fn check_samples(batch: &RecordBatch) -> Result<(), String> {
    let column = |name: &str| batch.column_by_name(name);
    if let (Some(value), Some(mantissa), Some(scale)) =
        (column(VALUE), column(MANTISSA), column(SCALE))
    {
        Decimals::of(value, mantissa, scale)
            .ok_or("its values are not of their types")?
            .check()?;
    }
    let is_there = |name: &str| match column(name) {
        Some(array) => array.nulls().map_or_else(
            || BooleanBuffer::new_set(array.len()),
            |nulls| nulls.inner().clone(),
        ),
        None => BooleanBuffer::new_unset(batch.num_rows()),
    };
    let (float, histogram) = (&is_there(VALUE) | &is_there(MANTISSA), is_there(HISTOGRAM));
    if (&float & &histogram).count_set_bits() > 0 {
        return Err("a row has both a float and a histogram".to_owned());
    }
    match (&float | &histogram).count_set_bits() == batch.num_rows() {
        true => Ok(()),
        false => Err("a row has no value, no mantissa and no histogram".to_owned()),
    }
}

/// A column of dictionary strings.
struct Texts<'a> {
    keys: &'a arrow::array::PrimitiveArray<Int32Type>,
    values: &'a StringArray,
}

impl<'a> Texts<'a> {
    fn new(column: &'a arrow::array::ArrayRef) -> Option<Self> {
        let dictionary = column.as_dictionary_opt::<Int32Type>()?;
        Some(Self {
            keys: dictionary.keys(),
            values: dictionary.values().as_string_opt::<i32>()?,
        })
    }

    /// Whether all these rows have this value, or none.
    fn are(&self, rows: std::ops::Range<usize>, wanted: Option<&str>) -> bool {
        let Some(wanted) = wanted else {
            return rows.into_iter().all(|row| self.keys.is_null(row));
        };
        let mut known = None;
        rows.into_iter().all(|row| {
            if self.keys.is_null(row) {
                return false;
            }
            let key = self.keys.value(row);
            // Texts are compared once for each of a run.
            if known == Some(key) {
                return true;
            }
            known = Some(key);
            usize::try_from(key).is_ok_and(|at| {
                at < self.values.len()
                    && self.values.is_valid(at)
                    && self.values.value(at) == wanted
            })
        })
    }
}
