//! The end of a query: metric names that have to go, series that become one by that, order of the
//! answer.

use std::sync::Arc;

use hashbrown::HashMap;
use tidelake_catalog::model::{Labels, METRIC_NAME};

use super::limits::{Charge, Limits, table_bytes};
use super::row::{
    RangeSeries, Row, Rows, SeriesRow, labels_bytes, labels_in_work_bytes, rows_bytes,
};
use super::selector::Points;
use super::work::{Evaluated, drop_names, sort_rows};
use super::{QueryError, Value};

/// Labels that describe a metric as it was stored; they go together with its name.
pub(crate) const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// Without the name of the metric, its type and its unit.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    labels.retain(|name| !METADATA_LABELS.contains(&name))
}

/// The rows of the answer.
pub(crate) fn finish_rows(rows: Rows, is_range_query: bool) -> Result<Rows, QueryError> {
    rows.try_map(|mut list, charge| {
        drop_names(&mut list, charge)?;
        let mut list = merge_rows(list, charge)?;
        if is_range_query {
            sort_rows(&mut list, charge)?;
        }
        Ok(list)
    })
}

/// Turns the value of a plan into the answer, with the charge of what it holds.
pub(crate) fn answer(
    value: Evaluated,
    limits: &Arc<Limits>,
) -> Result<(Value, Charge), QueryError> {
    Ok(match value {
        Evaluated::Scalar(values) => {
            let (values, charge) = values.into_parts();
            (Value::Scalar(values), charge)
        }
        Evaluated::String(text) => {
            let charge = limits.charge(text.len())?;
            (Value::String(text), charge)
        }
        Evaluated::Vector(rows) => {
            let (list, charge) = rows.into_parts();
            let mut charge = match charge {
                Some(charge) => charge,
                None => limits.charge(0)?,
            };
            let bytes = rows_bytes(&list);
            let series = |row: Row| SeriesRow {
                labels: row.labels,
                values: row.values,
                histograms: row.histograms,
            };
            // The list becomes one of its own in its place.
            let list = list.into_iter().map(series).collect();
            charge.settle(bytes)?;
            (Value::Vector(list), charge)
        }
        Evaluated::Range(points, mut charge) => {
            let series = range_vector(points, &mut charge)?;
            let bytes = series.iter().map(RangeSeries::bytes).sum();
            charge.settle(bytes)?;
            (Value::RangeVector(series), charge)
        }
    })
}

fn range_vector(points: Vec<Points>, charge: &mut Charge) -> Result<Vec<RangeSeries>, QueryError> {
    charge.take(points.len() * size_of::<RangeSeries>())?;
    let mut series: Vec<RangeSeries> = Vec::with_capacity(points.len());
    for points in points {
        let mut labels = points.labels;
        if points.drop_name {
            charge.reserve(labels_in_work_bytes(labels.as_str().len()))?;
            labels = without_metadata(&labels);
            charge.take(labels_bytes(&labels))?;
        }
        let bytes = 16 * (points.times.len() + points.histogram_times.len());
        charge.take(bytes)?;
        series.push(RangeSeries {
            labels,
            floats: points
                .times
                .iter()
                .copied()
                .zip(points.values.iter().copied())
                .collect(),
            histograms: points
                .histogram_times
                .into_iter()
                .zip(points.histograms)
                .collect(),
        });
        charge.give_back(bytes);
    }
    charge.reserve(size_of_val(&series[..]) / 2)?;
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    // Most often all are different, and stay where they are.
    if series
        .windows(2)
        .all(|pair| pair[0].labels != pair[1].labels)
    {
        return Ok(series);
    }
    charge.take(series.len() * size_of::<RangeSeries>())?;
    let mut merged: Vec<RangeSeries> = Vec::with_capacity(series.len());
    for next in series {
        match merged.last_mut() {
            Some(last) if last.labels == next.labels => {
                // Lists that grow may double, and are sorted with a buffer.
                charge.reserve(48 * (last.floats.len() + next.floats.len()))?;
                last.floats.extend(next.floats);
                last.floats.sort_by_key(|(time, _)| *time);
                charge.reserve(48 * (last.histograms.len() + next.histograms.len()))?;
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
pub(crate) fn merge_rows(rows: Vec<Row>, charge: &mut Charge) -> Result<Vec<Row>, QueryError> {
    if rows.len() < 2 {
        return Ok(rows);
    }
    let table = table_bytes(rows.len(), size_of::<(Labels, usize)>());
    charge.reserve(table.saturating_add(size_of_val(&rows[..])))?;
    let mut positions: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut merged: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match positions.get(&row.labels) {
            None => {
                positions.insert(row.labels.clone(), merged.len());
                merged.push(row);
            }
            Some(position) => {
                let target = &mut merged[*position];
                if row.histograms.is_some() && target.histograms.is_none() {
                    let bytes = 8 * row.values.len();
                    charge.take(bytes)?;
                }
                merge_into(target, &row)?;
            }
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
