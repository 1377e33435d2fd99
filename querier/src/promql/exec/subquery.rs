//! Subqueries: an expression evaluated at steps of its own, which become the samples of windows.
//!
//! The steps are multiples of the subquery's step since 1970, so that neighbouring windows share
//! them and each is evaluated once, however often windows overlap.

use std::sync::Arc;

use super::QueryError;
use super::grid::Grid;
use super::limits::{Charge, Limits};
use super::row::labels_bytes;
use super::selector::{Points, points_bytes};
use super::work::Evaluated;

/// `expr[range:step]`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subquery {
    pub range: i64,
    pub step: i64,
    pub offset: i64,
    pub at: Option<i64>,
}

impl Subquery {
    /// The time that is looked at when a step is evaluated.
    pub fn reference(&self, time: i64) -> i64 {
        self.at.unwrap_or(time).saturating_sub(self.offset)
    }

    /// The steps of the subquery for all windows of the outer steps.
    pub fn steps(&self, outer: Grid, max_steps: u64) -> Result<Grid, QueryError> {
        if outer.count == 0 {
            return Ok(outer.inner());
        }
        let before = self.reference(outer.start).saturating_sub(self.range);
        let end = self.reference(outer.end());
        let start = before
            .div_euclid(self.step)
            .saturating_mul(self.step)
            .saturating_add(self.step);
        Ok(Grid::new(start, end, self.step, max_steps)?.inner())
    }
}

/// The samples that an expression gives at the steps of a subquery, in the order of its rows.
pub(crate) fn points(
    limits: &Arc<Limits>,
    value: Evaluated,
    grid: Grid,
) -> Result<(Vec<Points>, Charge), QueryError> {
    let mut charge = limits.charge(0)?;
    match value {
        Evaluated::Vector(rows) => {
            let (rows, mut row_charge) = rows.into_parts();
            charge.take(rows.len() * size_of::<Points>())?;
            let mut points = Vec::with_capacity(rows.len());
            for row in rows {
                limits.check()?;
                let old = row.heap_bytes();
                charge.reserve(labels_bytes(&row.labels) + Points::bytes_of_row(&row))?;
                let new = Points::from_row(row, grid);
                charge.take(new.heap_bytes())?;
                points.push(new);
                if let Some(rows) = &mut row_charge {
                    rows.give_back(old);
                }
            }
            drop(row_charge);
            charge.add_samples(points.iter().map(Points::weight).sum())?;
            charge.settle(points_bytes(&points))?;
            Ok((points, charge))
        }
        Evaluated::Scalar(values) => {
            let (values, value_charge) = values.into_parts();
            charge.take(size_of::<Points>() + 8 * grid.count)?;
            charge.merge(value_charge);
            charge.add_samples(grid.count as u64)?;
            let points = Points {
                times: grid.times().collect(),
                values: values.into(),
                ..Points::default()
            };
            Ok((vec![points], charge))
        }
        _ => Err(QueryError::BadData(
            "subquery is only allowed on an instant vector".to_owned(),
        )),
    }
}
