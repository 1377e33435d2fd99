//! The end of a query: metric names that have to go, series that become one by that, order of the
//! answer.

use hashbrown::HashMap;
use tidelake_catalog::model::{Labels, METRIC_NAME};

use super::engine::{Evaluated, sort_rows};
use super::row::{RangeSeries, Row, SeriesRow};
use super::selector::Points;
use super::{QueryError, Value};

/// Labels that describe a metric as it was stored; they go together with its name.
const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// Without the name of the metric, its type and its unit.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    labels.retain(|name| !METADATA_LABELS.contains(&name))
}

/// Turns the engine's value into the answer.
pub(crate) fn finish(value: Evaluated, is_range_query: bool) -> Result<Value, QueryError> {
    Ok(match value {
        Evaluated::Scalar(values) => Value::Scalar(values),
        Evaluated::String(text) => Value::String(text),
        Evaluated::Vector(mut rows) => {
            let mut list = std::mem::take(&mut rows.list);
            for row in list.iter_mut().filter(|row| row.drop_name) {
                row.labels = without_metadata(&row.labels);
            }
            let mut list = merge_rows(list)?;
            if is_range_query {
                sort_rows(&mut list);
            }
            let series = |row: Row| SeriesRow {
                labels: row.labels,
                values: row.values,
                histograms: row.histograms,
            };
            Value::Vector(list.into_iter().map(series).collect())
        }
        Evaluated::Range(points) => Value::RangeVector(range_vector(points)?),
    })
}

fn range_vector(points: Vec<Points>) -> Result<Vec<RangeSeries>, QueryError> {
    let mut series: Vec<RangeSeries> = points
        .into_iter()
        .map(|points| RangeSeries {
            labels: if points.drop_name {
                without_metadata(&points.labels)
            } else {
                points.labels
            },
            floats: points.times.into_iter().zip(points.values).collect(),
            histograms: points
                .histogram_times
                .into_iter()
                .zip(points.histograms)
                .collect(),
        })
        .collect();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut merged: Vec<RangeSeries> = Vec::with_capacity(series.len());
    for next in series {
        match merged.last_mut() {
            Some(last) if last.labels == next.labels => {
                last.floats.extend(next.floats);
                last.floats.sort_by_key(|(time, _)| *time);
                last.histograms.extend(next.histograms);
                last.histograms.sort_by_key(|(time, _)| *time);
                let repeated = last.floats.windows(2).any(|pair| pair[0].0 == pair[1].0)
                    || last
                        .histograms
                        .windows(2)
                        .any(|pair| pair[0].0 == pair[1].0);
                if repeated {
                    return Err(same_labelset());
                }
            }
            _ => merged.push(next),
        }
    }
    Ok(merged)
}

/// Makes rows with equal labels one. They must not both have a value at a step.
pub(crate) fn merge_rows(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    let mut positions: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut merged: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match positions.get(&row.labels) {
            None => {
                positions.insert(row.labels.clone(), merged.len());
                merged.push(row);
            }
            Some(position) => merge_into(&mut merged[*position], &row)?,
        }
    }
    Ok(merged)
}

fn merge_into(target: &mut Row, row: &Row) -> Result<(), QueryError> {
    for step in 0..row.values.len() {
        if let Some(point) = row.point(step) {
            if target.has(step) {
                return Err(same_labelset());
            }
            target.set(step, point);
        }
    }
    Ok(())
}

fn same_labelset() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}
