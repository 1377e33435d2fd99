//! Subqueries: an expression evaluated at steps of its own, which become the samples of windows.
//!
//! The steps are multiples of the subquery's step since 1970, so that neighbouring windows share
//! them and each is evaluated once, however often windows overlap.

use super::QueryError;
use super::engine::{Engine, Evaluated};
use super::grid::Grid;
use super::limits::Charge;
use super::plan::Subquery;
use super::selector::Points;

/// The samples for all windows of the outer steps, in the order of the inner rows.
pub(crate) async fn evaluate(
    engine: &Engine,
    node: &Subquery,
    outer: Grid,
) -> Result<(Vec<Points>, Option<Charge>), QueryError> {
    if outer.count == 0 {
        return Ok((Vec::new(), None));
    }
    let grid = inner_grid(node, outer, engine.limits.max_samples())?;
    if grid.count == 0 {
        return Ok((Vec::new(), None));
    }
    let points: Vec<Points> = match engine.eval(&node.expr, grid).await? {
        Evaluated::Vector(rows) => rows
            .list
            .into_iter()
            .map(|row| Points::from_row(row, grid))
            .collect(),
        Evaluated::Scalar(values) => vec![Points {
            times: grid.times().collect(),
            values,
            ..Points::default()
        }],
        _ => {
            return Err(QueryError::BadData(
                "subquery is only allowed on an instant vector".to_owned(),
            ));
        }
    };
    let held = points.iter().map(Points::weight).sum();
    let charge = engine.limits.charge(held)?;
    Ok((points, Some(charge)))
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
