//! Exemplars of the series that selectors select, as `/api/v1/query_exemplars` gives them.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray};
use arrow::datatypes::Float64Type;
use tidelake_catalog::model::schema::LABELS_COLUMN;
use tidelake_catalog::model::{EXEMPLARS_TABLE, Labels, Matcher, TableSchema, TimeRange};
use tidelake_catalog::segment::scan::ScanRequest;

use crate::memory::{QueryBytes, QueryPool};
use crate::promql::exec::QueryError;
use crate::promql::exec::row::labels_bytes;
use crate::promql::source::SourceError;
use crate::samples::source_error;
use crate::tables::Tables;

/// An exemplar of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Its own labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// When it was taken, in milliseconds since 1970.
    pub time: i64,
}

/// The exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    /// The series, with the metric's name.
    pub labels: Labels,
    /// By time; those of one time by labels and value.
    pub exemplars: Vec<Exemplar>,
}

/// Bytes of a row while it is read: time, value and some labels.
const READ_ROW_BYTES: usize = 128;
/// Bytes of a series in the tree of those that are found, and then in their list.
const SERIES_BYTES: usize = 2 * size_of::<SeriesExemplars>() + 24;

/// The exemplars in the range (milliseconds) of the series that pass all matchers of any set;
/// series sorted, each once, and what they hold.
///
/// # Errors
/// Also if there are more than `limit`.
pub(crate) async fn exemplars(
    tables: &Tables,
    database: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
    limit: u64,
    pool: &Arc<QueryPool>,
) -> Result<(Vec<SeriesExemplars>, QueryBytes), QueryError> {
    let mut held = pool.try_hold(0)?;
    let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    let mut count = 0;
    for (number, matchers) in sets.iter().enumerate() {
        let request = ScanRequest {
            fields: TableSchema::exemplars().columns.into(),
            matchers: matchers.clone(),
            range,
            edge: None,
        };
        let plan = tables
            .scan(database, EXEMPLARS_TABLE, request)
            .await
            .map_err(source_error)?;
        for unit in plan.units {
            let rows = usize::try_from(unit.rows_bound()).unwrap_or(usize::MAX);
            let mut read = pool.try_hold(rows.saturating_mul(READ_ROW_BYTES))?;
            let rows = tables.read(&unit).await.map_err(source_error)?;
            read.try_resize(rows.memory_size())?;
            let (values, labels) = (rows.array("value"), rows.array(LABELS_COLUMN));
            let columns = Columns::of(values.as_ref(), labels.as_ref()).ok_or_else(|| {
                QueryError::Source(SourceError::Unavailable(
                    "the exemplars table has a column of the wrong type".to_owned(),
                ))
            })?;
            for run in &rows.runs {
                let labels = &run.series.labels;
                // What an earlier selector has found already.
                if sets[..number]
                    .iter()
                    .any(|set| set.iter().all(|matcher| matcher.matches_labels(labels)))
                {
                    continue;
                }
                count += run.rows().len() as u64;
                if count > limit {
                    let why = format!(
                        "the query selects more than {limit} exemplars; select fewer series or a \
                         shorter time"
                    );
                    return Err(QueryError::Source(SourceError::LimitExceeded(why)));
                }
                held.try_grow(
                    SERIES_BYTES + labels_bytes(labels) + run.rows().len() * size_of::<Exemplar>(),
                )?;
                let mut exemplars = Vec::with_capacity(run.rows().len());
                for row in run.rows() {
                    let labels = columns.labels(row);
                    held.try_grow(labels_bytes(&labels))?;
                    exemplars.push(Exemplar {
                        labels,
                        value: columns.values[row],
                        time: rows.time[row],
                    });
                }
                exemplars.sort_by(|a, b| {
                    a.time
                        .cmp(&b.time)
                        .then_with(|| a.labels.cmp(&b.labels))
                        .then_with(|| a.value.total_cmp(&b.value))
                });
                found.insert(labels.clone(), exemplars);
            }
        }
    }
    let list = found
        .into_iter()
        .map(|(labels, exemplars)| SeriesExemplars { labels, exemplars })
        .collect();
    Ok((list, held))
}

struct Columns<'a> {
    values: &'a [f64],
    labels: &'a MapArray,
}

impl<'a> Columns<'a> {
    fn of(values: Option<&'a ArrayRef>, labels: Option<&'a ArrayRef>) -> Option<Self> {
        let values = values?.as_primitive_opt::<Float64Type>()?.values();
        let labels = labels?.as_map_opt()?;
        let is_text = |array: &ArrayRef| array.as_string_opt::<i32>().is_some();
        (is_text(labels.keys()) && is_text(labels.values())).then_some(Self { values, labels })
    }

    fn labels(&self, row: usize) -> Labels {
        let range = self.labels.value_offsets()[row] as usize
            ..self.labels.value_offsets()[row + 1] as usize;
        let (names, values) = (
            self.labels.keys().as_string::<i32>(),
            self.labels.values().as_string::<i32>(),
        );
        Labels::from_pairs(
            range
                .filter(|at| values.is_valid(*at))
                .map(|at| (names.value(at), values.value(at))),
        )
    }
}
