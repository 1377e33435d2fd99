//! What aggregations remember of the floats of a group.

use std::borrow::Cow;

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

    /// The state as columns of floats, one of each step, for another process.
    pub fn columns(&self) -> Vec<Cow<'_, [f64]>> {
        match self {
            Self::Sum {
                total,
                compensation,
            } => vec![total.into(), compensation.into()],
            Self::Mean(means) => {
                let part = |at: usize| {
                    let parts = |mean: &Option<Mean>| mean.map_or(0.0, |mean| mean.parts()[at]);
                    means.iter().map(parts).collect()
                };
                (0..4).map(part).collect()
            }
            Self::Extreme { best, .. } => vec![best.into()],
            // A group has fewer series than floats count exactly.
            Self::Count(counts) => vec![counts.iter().map(|count| *count as f64).collect()],
            Self::Group(seen) => vec![seen.into()],
            Self::Variance {
                count,
                mean,
                squares,
                ..
            } => vec![count.into(), mean.into(), squares.into()],
        }
    }

    /// The state that columns of [`columns`](Self::columns), each of all steps, say; `None` if they
    /// are too few or too many.
    pub fn of_columns(op: AggregateOp, columns: Vec<Vec<f64>>) -> Option<Self> {
        let is_max = op == AggregateOp::Max;
        let root = op == AggregateOp::Stddev;
        Some(match op {
            AggregateOp::Sum => {
                let [total, compensation] = columns.try_into().ok()?;
                Self::Sum {
                    total,
                    compensation,
                }
            }
            AggregateOp::Avg => {
                let [counts, totals, compensations, incremental]: [Vec<f64>; 4] =
                    columns.try_into().ok()?;
                let parts = counts.into_iter().zip(totals);
                let parts = parts.zip(compensations.into_iter().zip(incremental));
                let mean = |((count, total), (compensation, incremental))| {
                    let parts = [count, total, compensation, incremental];
                    (count != 0.0).then(|| Mean::of(parts))
                };
                Self::Mean(parts.map(mean).collect())
            }
            AggregateOp::Min | AggregateOp::Max => {
                let [best] = columns.try_into().ok()?;
                Self::Extreme { best, is_max }
            }
            AggregateOp::Count => {
                let [counts]: [Vec<f64>; 1] = columns.try_into().ok()?;
                Self::Count(counts.into_iter().map(|count| count as u64).collect())
            }
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                let [count, mean, squares] = columns.try_into().ok()?;
                Self::Variance {
                    count,
                    mean,
                    squares,
                    root,
                }
            }
            _ => {
                let [seen] = columns.try_into().ok()?;
                Self::Group(seen)
            }
        })
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
