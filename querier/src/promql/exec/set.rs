//! `and`, `or` and `unless`: rows chosen step by step by what is present on the other side.

use super::super::parse::ast::BinaryOp;
use super::QueryError;
use super::engine::Engine;
use super::finish::merge_rows;
use super::grid::Grid;
use super::matching::Signatures;
use super::plan::Binary;
use super::row::{Row, Rows};

/// Evaluates a set operator.
pub(crate) fn evaluate(
    engine: &Engine,
    node: &Binary,
    lhs: Rows,
    rhs: Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let Some(matching) = &node.matching else {
        return Err(QueryError::BadData(
            "set operators need vectors on both sides".to_owned(),
        ));
    };
    let mut work = engine.limits.charge(0)?;
    let signatures = Signatures::new(&lhs.list, &rhs.list, matching, &mut work)?;
    work.take(signatures.count.saturating_mul(grid.count))?;
    let present = match node.op {
        BinaryOp::Or => presence(&lhs.list, &signatures.left, signatures.count, grid),
        _ => presence(&rhs.list, &signatures.right, signatures.count, grid),
    };
    let (left, left_charge) = lhs.into_parts();
    let (right, right_charge) = rhs.into_parts();
    let list = match node.op {
        BinaryOp::Or => {
            let mut list = left;
            work.take(size_of::<Row>() * (list.len() + right.len()))?;
            for (row, signature) in right.into_iter().zip(&signatures.right) {
                list.extend(keep(row, grid, |step| {
                    !present[*signature * grid.count + step]
                }));
            }
            if grid.count > 1 {
                merge_rows(list, &mut work)?
            } else {
                list
            }
        }
        _ => {
            let wanted = node.op == BinaryOp::And;
            let rows = left.into_iter().zip(&signatures.left);
            let list = rows.filter_map(|(row, signature)| {
                keep(row, grid, |step| {
                    present[*signature * grid.count + step] == wanted
                })
            });
            list.collect()
        }
    };
    let charges = [left_charge, right_charge].into_iter().flatten();
    Rows::moved(list, charges, &engine.limits)
}

/// For every signature and step whether any row has a value.
fn presence(rows: &[Row], signatures: &[usize], count: usize, grid: Grid) -> Vec<bool> {
    let mut present = vec![false; count * grid.count];
    for (row, signature) in rows.iter().zip(signatures) {
        for step in 0..grid.count {
            present[*signature * grid.count + step] |= row.has(step);
        }
    }
    present
}

/// The row where it is wanted.
fn keep(mut row: Row, grid: Grid, wanted: impl Fn(usize) -> bool) -> Option<Row> {
    for step in 0..grid.count {
        if !wanted(step) {
            row.clear(step);
        }
    }
    (!row.is_empty()).then_some(row)
}
