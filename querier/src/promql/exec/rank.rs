//! Aggregations that choose among rows: `topk`, `bottomk`, `limitk` and `limit_ratio`.
//!
//! A row that is chosen at some steps keeps its values there and loses the others; labels stay.

use std::cmp::Ordering;

use super::super::parse::ast::AggregateOp;
use super::QueryError;
use super::aggregate::{Aggregate, bounds, members_bytes};
use super::grid::Grid;
use super::group::Groups;
use super::number::ascending;
use super::row::{Row, Rows, is_absent};
use super::sampling::in_ratio;
use super::work::Work;

/// Chooses rows; `params` is `k` or the ratio at every step.
pub(crate) fn evaluate(
    work: &Work,
    spec: &Aggregate,
    params: &[f64],
    rows: Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let (least, most) = bounds(params);
    let has_nan = params.iter().any(|value| value.is_nan());
    if spec.op == AggregateOp::LimitRatio {
        if least == 0.0 && most == 0.0 {
            return Ok(Rows::default());
        }
        if has_nan {
            return Err(QueryError::execution("Ratio value is NaN"));
        }
        work.annotate(|all| {
            if most > 1.0 {
                all.invalid_ratio(most, 1.0, spec.param_span);
            }
            if least < -1.0 {
                all.invalid_ratio(least, -1.0, spec.param_span);
            }
        });
    } else {
        if most < 1.0 && !has_nan {
            return Ok(Rows::default());
        }
        if has_nan {
            return Err(QueryError::execution("Parameter value is NaN"));
        }
        if least <= i64::MIN as f64 {
            return Err(QueryError::execution(format!(
                "Scalar value {} underflows int64",
                super::number::general(least)
            )));
        }
        if most >= i64::MAX as f64 {
            return Err(QueryError::execution(format!(
                "Scalar value {} overflows int64",
                super::number::general(most)
            )));
        }
    }
    let mut charge = work.limits.charge(0)?;
    let groups = Groups::new(&rows.list, &spec.grouping, spec.without, &mut charge)?;
    // The rows that are chosen, in two lists, their order, and the candidates of a step.
    let row_bytes = 2 * size_of::<Option<Row>>() + 4 * size_of::<usize>();
    charge.take(rows.list.len() * row_bytes)?;
    charge.take(members_bytes(rows.list.len(), groups.len()))?;
    // One label set at a time is copied to be hashed.
    let longest = rows.list.iter().map(|row| row.labels.as_str().len()).max();
    charge.reserve(longest.unwrap_or(0) * 2)?;
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
    for (row, group) in groups.of_row.iter().enumerate() {
        members[*group].push(row);
    }
    let ranked = matches!(spec.op, AggregateOp::Topk | AggregateOp::Bottomk);
    if ranked && rows.list.iter().any(Row::has_histograms) {
        let name = if spec.op == AggregateOp::Topk {
            "topk"
        } else {
            "bottomk"
        };
        work.annotate(|all| all.histogram_ignored_in_aggregation(name, spec.span));
    }
    let mut chosen: Vec<Option<Row>> = vec![None; rows.list.len()];
    let mut order = Vec::new();
    let mut candidates: Vec<usize> = Vec::new();
    for (step, param) in params.iter().enumerate() {
        work.limits.check()?;
        for members in &members {
            candidates.clear();
            match spec.op {
                AggregateOp::LimitRatio => {
                    let ratio = param.clamp(-1.0, 1.0);
                    candidates.extend(members.iter().filter(|row| {
                        rows.list[**row].has(step) && in_ratio(&rows.list[**row].labels, ratio)
                    }));
                }
                AggregateOp::Limitk => {
                    let k = count(*param);
                    candidates.extend(
                        members
                            .iter()
                            .filter(|row| rows.list[**row].has(step))
                            .take(k),
                    );
                }
                _ => {
                    candidates.extend(
                        members
                            .iter()
                            .filter(|row| !is_absent(rows.list[**row].values[step])),
                    );
                    let value = |row: &usize| rows.list[*row].values[step];
                    let compare = |a: &usize, b: &usize| {
                        let order = best_first(value(a), value(b), spec.op == AggregateOp::Topk);
                        order.then(a.cmp(b))
                    };
                    let k = count(*param);
                    if k == 0 {
                        candidates.clear();
                    } else if k < candidates.len() {
                        candidates.select_nth_unstable_by(k - 1, compare);
                        candidates.truncate(k);
                    }
                    candidates.sort_unstable_by(compare);
                }
            }
            for row in &candidates {
                let source = &rows.list[*row];
                let chosen = &mut chosen[*row];
                if chosen.is_none() {
                    let with_histograms = source.histograms.is_some();
                    charge.take(Row::bytes_of(grid.count, with_histograms))?;
                    order.push(*row);
                }
                let target = chosen.get_or_insert_with(|| {
                    Row::empty(source.labels.clone(), source.drop_name, grid.count)
                });
                if let Some(point) = source.point(step) {
                    target.set(step, point);
                }
            }
        }
    }
    Rows::new(
        order
            .into_iter()
            .filter_map(|row| chosen[row].take())
            .collect(),
        charge,
    )
}

/// `k` as a count; NaN and infinities were refused before.
fn count(k: f64) -> usize {
    if k < 1.0 { 0 } else { k as usize }
}

/// NaN is worse than every number, for `topk` as for `bottomk`.
fn best_first(a: f64, b: f64, largest: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if largest => ascending(b, a),
        (false, false) => ascending(a, b),
        (a, b) => a.cmp(&b),
    }
}
