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
    mut lhs: Rows,
    mut rhs: Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let Some(matching) = &node.matching else {
        return Err(QueryError::BadData(
            "set operators need vectors on both sides".to_owned(),
        ));
    };
    let signatures = Signatures::new(&lhs.list, &rhs.list, matching);
    match node.op {
        BinaryOp::Or => {
            let present = presence(&lhs.list, &signatures.left, signatures.count, grid);
            let mut list = std::mem::take(&mut lhs.list);
            for (row, signature) in std::mem::take(&mut rhs.list)
                .into_iter()
                .zip(&signatures.right)
            {
                list.extend(keep(row, grid, |step| {
                    !present[*signature * grid.count + step]
                }));
            }
            let list = if grid.count > 1 {
                merge_rows(list)?
            } else {
                list
            };
            Rows::new(list, &engine.limits)
        }
        _ => {
            let wanted = node.op == BinaryOp::And;
            let present = presence(&rhs.list, &signatures.right, signatures.count, grid);
            let rows = std::mem::take(&mut lhs.list)
                .into_iter()
                .zip(&signatures.left);
            let list = rows.filter_map(|(row, signature)| {
                keep(row, grid, |step| {
                    present[*signature * grid.count + step] == wanted
                })
            });
            Rows::new(list.collect(), &engine.limits)
        }
    }
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
