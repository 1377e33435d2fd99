//! What aggregations remember of the floats of a group.

use super::super::functions::over_time::Mean;
use super::super::parse::ast::AggregateOp;
use super::number::kahan_add;
use super::row::{ABSENT, Row, is_absent};

/// The accumulators of one group, one entry per step.
#[derive(Debug)]
pub(crate) enum Accumulator {
    Sum {
        total: Vec<f64>,
        compensation: Vec<f64>,
    },
    Mean(Vec<Option<Mean>>),
    Extreme {
        best: Vec<f64>,
        is_max: bool,
    },
    Count(Vec<u64>),
    Group(Vec<f64>),
    /// Count, mean and sum of squared distances, updated value by value.
    Variance {
        count: Vec<f64>,
        mean: Vec<f64>,
        squares: Vec<f64>,
        root: bool,
    },
}

impl Accumulator {
    /// Bytes of a step, and of its result where that does not take the place of the state.
    pub fn step_bytes(op: AggregateOp) -> usize {
        match op {
            AggregateOp::Sum => 16,
            AggregateOp::Avg => size_of::<Option<Mean>>(),
            AggregateOp::Stddev | AggregateOp::Stdvar => 24,
            _ => 8,
        }
    }

    /// Nothing yet.
    pub fn new(op: AggregateOp, steps: usize) -> Self {
        match op {
            AggregateOp::Sum => Self::Sum {
                total: vec![ABSENT; steps],
                compensation: vec![0.0; steps],
            },
            AggregateOp::Avg => Self::Mean(vec![None; steps]),
            AggregateOp::Min | AggregateOp::Max => Self::Extreme {
                best: vec![ABSENT; steps],
                is_max: op == AggregateOp::Max,
            },
            AggregateOp::Count => Self::Count(vec![0; steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => Self::Variance {
                count: vec![0.0; steps],
                mean: vec![0.0; steps],
                squares: vec![0.0; steps],
                root: op == AggregateOp::Stddev,
            },
            _ => Self::Group(vec![ABSENT; steps]),
        }
    }

    /// Adds the floats of a row, and for `count` and `group` its histograms.
    pub fn add(&mut self, row: &Row) {
        let floats = row
            .values
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, value)| !is_absent(*value));
        match self {
            Self::Sum {
                total,
                compensation,
            } => {
                for (step, value) in floats {
                    if is_absent(total[step]) {
                        total[step] = value;
                    } else {
                        (total[step], compensation[step]) =
                            kahan_add(value, total[step], compensation[step]);
                    }
                }
            }
            Self::Mean(means) => {
                floats.for_each(|(step, value)| means[step].get_or_insert_default().add(value))
            }
            Self::Extreme { best, is_max } => {
                floats.for_each(|(step, value)| better(&mut best[step], value, *is_max));
            }
            Self::Count(counts) => (0..counts.len())
                .filter(|step| row.has(*step))
                .for_each(|step| counts[step] += 1),
            Self::Group(seen) => (0..seen.len())
                .filter(|step| row.has(*step))
                .for_each(|step| seen[step] = 1.0),
            Self::Variance {
                count,
                mean,
                squares,
                ..
            } => {
                for (step, value) in floats {
                    count[step] += 1.0;
                    if count[step] == 1.0 {
                        mean[step] = value;
                        squares[step] = if value.is_finite() { 0.0 } else { f64::NAN };
                        continue;
                    }
                    let delta = value - mean[step];
                    mean[step] += delta / count[step];
                    squares[step] += delta * (value - mean[step]);
                }
            }
        }
    }

    /// Adds what later rows gave.
    pub fn merge(&mut self, later: Self) {
        match (self, later) {
            (
                Self::Sum {
                    total,
                    compensation,
                },
                Self::Sum {
                    total: totals,
                    compensation: compensations,
                },
            ) => {
                for (step, (value, rest)) in totals.into_iter().zip(compensations).enumerate() {
                    if is_absent(value) {
                        continue;
                    }
                    let (sum, lost) = match is_absent(total[step]) {
                        true => (value, 0.0),
                        false => kahan_add(value, total[step], compensation[step]),
                    };
                    (total[step], compensation[step]) = (sum, lost + rest);
                }
            }
            (Self::Mean(means), Self::Mean(later)) => {
                for (mean, later) in means.iter_mut().zip(later) {
                    match (mean, later) {
                        (_, None) => {}
                        (Some(mean), Some(later)) => mean.merge(later),
                        (mean, later) => *mean = later,
                    }
                }
            }
            (Self::Extreme { best, is_max }, Self::Extreme { best: later, .. }) => {
                let later = later.into_iter().enumerate();
                later
                    .filter(|(_, value)| !is_absent(*value))
                    .for_each(|(step, value)| better(&mut best[step], value, *is_max));
            }
            (Self::Count(counts), Self::Count(later)) => {
                for (count, later) in counts.iter_mut().zip(later) {
                    *count += later;
                }
            }
            (Self::Group(seen), Self::Group(later)) => {
                for (seen, later) in seen.iter_mut().zip(later).filter(|(_, n)| !is_absent(*n)) {
                    *seen = later;
                }
            }
            (
                Self::Variance {
                    count,
                    mean,
                    squares,
                    ..
                },
                Self::Variance {
                    count: counts,
                    mean: means,
                    squares: later,
                    ..
                },
            ) => {
                for step in 0..count.len() {
                    if counts[step] == 0.0 {
                        continue;
                    }
                    let all = count[step] + counts[step];
                    let delta = means[step] - mean[step];
                    // Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
                    // Computing Sample Variances" (1979).
                    (mean[step], squares[step]) = match count[step] == 0.0 {
                        true => (means[step], later[step]),
                        false => (
                            mean[step] + delta * counts[step] / all,
                            squares[step]
                                + later[step]
                                + delta * delta * count[step] * counts[step] / all,
                        ),
                    };
                    count[step] = all;
                }
            }
            // Those of one aggregation are of one kind.
            _ => {}
        }
    }

    /// Whether there is a value at a step.
    pub fn has(&self, step: usize) -> bool {
        match self {
            Self::Sum { total, .. } => !is_absent(total[step]),
            Self::Mean(means) => means[step].is_some(),
            Self::Extreme { best, .. } => !is_absent(best[step]),
            Self::Count(counts) => counts[step] > 0,
            Self::Group(seen) => !is_absent(seen[step]),
            Self::Variance { count, .. } => count[step] > 0.0,
        }
    }

    /// The state as floats, for another process: all steps of one of its parts after those of
    /// another.
    pub fn columns(&self) -> Vec<f64> {
        let concat = |columns: &[&[f64]]| columns.concat();
        match self {
            Self::Sum {
                total,
                compensation,
            } => concat(&[total, compensation]),
            Self::Mean(means) => {
                let parts: Vec<[f64; 4]> = means
                    .iter()
                    .map(|mean| mean.map_or([0.0; 4], |mean| mean.parts()))
                    .collect();
                let column = |at: usize| parts.iter().map(move |parts| parts[at]);
                (0..4).flat_map(column).collect()
            }
            Self::Extreme { best, .. } => best.clone(),
            // A group has fewer series than floats count exactly.
            Self::Count(counts) => counts.iter().map(|count| *count as f64).collect(),
            Self::Group(seen) => seen.clone(),
            Self::Variance {
                count,
                mean,
                squares,
                ..
            } => concat(&[count, mean, squares]),
        }
    }

    /// The state that floats of [`columns`](Self::columns) say; `None` if they are too few or too
    /// many.
    pub fn of_columns(op: AggregateOp, steps: usize, columns: &[f64]) -> Option<Self> {
        let mut state = Self::new(op, steps);
        let parts = match &mut state {
            Self::Sum {
                total,
                compensation,
            } => vec![total, compensation],
            Self::Extreme { best, .. } => vec![best],
            Self::Group(seen) => vec![seen],
            Self::Variance {
                count,
                mean,
                squares,
                ..
            } => vec![count, mean, squares],
            Self::Mean(means) => {
                if columns.len() != 4 * steps {
                    return None;
                }
                for (step, mean) in means.iter_mut().enumerate() {
                    let part = |at: usize| columns[at * steps + step];
                    *mean = (part(0) != 0.0).then(|| Mean::of([0, 1, 2, 3].map(part)));
                }
                return Some(state);
            }
            Self::Count(counts) => {
                if columns.len() != steps {
                    return None;
                }
                let all = counts.iter_mut().zip(columns);
                all.for_each(|(count, column)| *count = *column as u64);
                return Some(state);
            }
        };
        if columns.len() != parts.len() * steps {
            return None;
        }
        for (part, at) in parts.into_iter().zip(0..) {
            part.copy_from_slice(&columns[at * steps..(at + 1) * steps]);
        }
        Some(state)
    }

    /// The value at each step.
    pub fn finish(self) -> Vec<f64> {
        match self {
            Self::Sum {
                mut total,
                compensation,
            } => {
                for (total, compensation) in total
                    .iter_mut()
                    .zip(compensation)
                    .filter(|(total, _)| !is_absent(**total))
                {
                    *total += compensation;
                }
                total
            }
            Self::Mean(means) => means
                .into_iter()
                .map(|mean| mean.map_or(ABSENT, |mean| mean.value()))
                .collect(),
            Self::Extreme { best, .. } => best,
            Self::Count(counts) => counts
                .into_iter()
                .map(|count| if count == 0 { ABSENT } else { count as f64 })
                .collect(),
            Self::Group(seen) => seen,
            Self::Variance {
                count,
                squares,
                root,
                ..
            } => count
                .into_iter()
                .zip(squares)
                .map(|(count, squares)| match (count == 0.0, root) {
                    (true, _) => ABSENT,
                    (false, true) => (squares / count).sqrt(),
                    (false, false) => squares / count,
                })
                .collect(),
        }
    }
}

/// Keeps the better of two values; the first of equal ones.
#[inline]
fn better(best: &mut f64, value: f64, is_max: bool) {
    // The marker is a NaN too, so a first value always replaces it.
    if best.is_nan() || (is_max && value > *best) || (!is_max && value < *best) {
        *best = value;
    }
}
