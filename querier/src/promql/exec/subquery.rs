//! Subqueries: an expression evaluated at steps of its own, which become the samples of windows.
//!
//! The steps are multiples of the subquery's step since 1970, so that neighbouring windows share
//! them and each is evaluated once, however often windows overlap.

use super::QueryError;
use super::engine::{Engine, Evaluated};
use super::grid::Grid;
use super::limits::Charge;
use super::plan::Subquery;
use super::row::labels_bytes;
use super::selector::{Points, points_bytes};

/// The samples for all windows of the outer steps, in the order of the inner rows.
pub(crate) async fn evaluate(
    engine: &Engine,
    node: &Subquery,
    outer: Grid,
) -> Result<(Vec<Points>, Charge), QueryError> {
    let mut charge = engine.limits.charge(0)?;
    if outer.count == 0 {
        return Ok((Vec::new(), charge));
    }
    let grid = inner_grid(node, outer, engine.limits.max_samples())?;
    if grid.count == 0 {
        return Ok((Vec::new(), charge));
    }
    match engine.eval(&node.expr, grid).await? {
        Evaluated::Vector(rows) => {
            let (rows, mut row_charge) = rows.into_parts();
            charge.take(rows.len() * size_of::<Points>())?;
            let mut points = Vec::with_capacity(rows.len());
            for row in rows {
                engine.limits.check()?;
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

fn inner_grid(node: &Subquery, outer: Grid, max_steps: u64) -> Result<Grid, QueryError> {
    let before = node.reference(outer.start).saturating_sub(node.range);
    let end = node.reference(outer.end());
    let start = before
        .div_euclid(node.step)
        .saturating_mul(node.step)
        .saturating_add(node.step);
    Grid::new(start, end, node.step, max_steps)
}
