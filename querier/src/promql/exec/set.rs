//! `and`, `or` and `unless`: rows chosen step by step by what is present on the other side.

use super::super::parse::ast::BinaryOp;
use super::QueryError;
use super::binary::VectorBinary;
use super::finish::merge_rows;
use super::grid::Grid;
use super::matching::Signatures;
use super::row::{Row, Rows};
use super::work::Work;

/// Evaluates a set operator.
pub(crate) fn evaluate(
    work: &Work,
    spec: &VectorBinary,
    lhs: Rows,
    rhs: Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let matching = &spec.matching;
    let mut charge = work.limits.charge(0)?;
    let signatures = Signatures::new(&lhs.list, &rhs.list, matching, &mut charge)?;
    charge.take(signatures.count.saturating_mul(grid.count))?;
    let present = match spec.op {
        BinaryOp::Or => presence(&lhs.list, &signatures.left, signatures.count, grid),
        _ => presence(&rhs.list, &signatures.right, signatures.count, grid),
    };
    let (left, left_charge) = lhs.into_parts();
    let (right, right_charge) = rhs.into_parts();
    let list = match spec.op {
        BinaryOp::Or => {
            let mut list = left;
            charge.take(size_of::<Row>() * (list.len() + right.len()))?;
            for (row, signature) in right.into_iter().zip(&signatures.right) {
                list.extend(keep(row, grid, |step| {
                    !present[*signature * grid.count + step]
                }));
            }
            if grid.count > 1 {
                merge_rows(list, &mut charge)?
            } else {
                list
            }
        }
        _ => {
            let wanted = spec.op == BinaryOp::And;
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
    Rows::moved(list, charges, &work.limits)
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
