//! Aggregations that make one row of many: `sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`,
//! `stdvar`, `quantile` and `count_values`.
//!
//! A group is a set of dense accumulators, one per step; rows are added one after the other in the
//! order of their labels, which keeps compensated sums reproducible.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidelake_catalog::model::{Labels, LabelsBuilder};

use super::super::functions::over_time::Mean;
use super::super::histogram::bytes as histogram_bytes;
use super::super::histogram::text::text;
use super::super::parse::ast::AggregateOp;
use super::engine::{Engine, Evaluated};
use super::grid::Grid;
use super::group::{Groups, group_labels};
use super::limits::Charge;
use super::number::{kahan_add, max, min, plain, quantile};
use super::plan::{Aggregate, Node};
use super::row::{ABSENT, Row, Rows, is_absent, labels_bytes, labels_in_work_bytes};
use super::scalar::Scalar;
use super::{QueryError, aggregate_histograms, rank};

/// Evaluates an aggregation.
pub(crate) async fn evaluate(
    engine: &Engine,
    node: &Aggregate,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let param = match &node.param {
        None => Evaluated::Scalar(Scalar::constant(0.0, 0, &engine.limits)?),
        Some(Node::String(text)) => Evaluated::String(text.clone()),
        Some(param) => engine.eval(param, grid).await?,
    };
    let rows = engine.vector(&node.expr, grid).await?;
    if grid.count == 0 {
        return Ok(Rows::default());
    }
    match (node.op, param) {
        (AggregateOp::CountValues, Evaluated::String(label)) => {
            count_values(engine, node, &label, &rows, grid)
        }
        (AggregateOp::CountValues, _) => Err(QueryError::BadData(
            "count_values needs a label name".to_owned(),
        )),
        (
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio,
            Evaluated::Scalar(params),
        ) => rank::evaluate(engine, node, &params, rows, grid),
        (AggregateOp::Quantile, Evaluated::Scalar(params)) => {
            quantiles(engine, node, &params, &rows, grid)
        }
        (_, Evaluated::Scalar(_)) => fold(engine, node, &rows, grid),
        _ => Err(QueryError::BadData(
            "expected a scalar as parameter of an aggregation".to_owned(),
        )),
    }
}

/// The accumulators of one group, one entry per step.
enum Accumulator {
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
    fn step_bytes(op: AggregateOp) -> usize {
        match op {
            AggregateOp::Sum => 16,
            AggregateOp::Avg => size_of::<Option<Mean>>(),
            AggregateOp::Stddev | AggregateOp::Stdvar => 24,
            _ => 8,
        }
    }

    fn new(op: AggregateOp, steps: usize) -> Self {
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
    fn add(&mut self, row: &Row) {
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
                for (step, value) in floats {
                    let old = best[step];
                    // The marker is a NaN too, so a first value always replaces it.
                    if old.is_nan() || (*is_max && value > old) || (!*is_max && value < old) {
                        best[step] = value;
                    }
                }
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

    fn finish(self) -> Vec<f64> {
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

fn fold(engine: &Engine, node: &Aggregate, rows: &Rows, grid: Grid) -> Result<Rows, QueryError> {
    let mut charge = engine.limits.charge(0)?;
    let groups = Groups::new(&rows.list, &node.grouping, node.without, &mut charge)?;
    let group_bytes = grid.count.saturating_mul(Accumulator::step_bytes(node.op))
        + size_of::<Accumulator>()
        + size_of::<Row>();
    charge.take(groups.len().saturating_mul(group_bytes))?;
    let mut accumulators: Vec<Accumulator> = (0..groups.len())
        .map(|_| Accumulator::new(node.op, grid.count))
        .collect();
    let mut drop_name = vec![false; groups.len()];
    for (row, group) in rows.list.iter().zip(&groups.of_row) {
        engine.limits.check()?;
        accumulators[*group].add(row);
        drop_name[*group] |= row.drop_name;
    }
    let mut out: Vec<Row> = accumulators
        .into_iter()
        .zip(groups.labels.iter().zip(drop_name))
        .map(|(accumulator, (labels, drop_name))| {
            Row::floats(labels.clone(), drop_name, accumulator.finish())
        })
        .collect();
    if rows.list.iter().any(Row::has_histograms) {
        histograms(engine, node, rows, &groups, &mut out, &mut charge)?;
    }
    drop(groups);
    Rows::new(out, charge)
}

/// Histograms among the input: added up, or left out with a remark.
fn histograms(
    engine: &Engine,
    node: &Aggregate,
    rows: &Rows,
    groups: &Groups,
    out: &mut [Row],
    charge: &mut Charge,
) -> Result<(), QueryError> {
    let name = match node.op {
        AggregateOp::Sum | AggregateOp::Avg => {
            return aggregate_histograms::evaluate(engine, node, rows, groups, out, charge);
        }
        AggregateOp::Min => "min",
        AggregateOp::Max => "max",
        AggregateOp::Stddev => "stddev",
        AggregateOp::Stdvar => "stdvar",
        _ => return Ok(()),
    };
    engine.annotate(|all| all.histogram_ignored_in_aggregation(name, node.expr_span));
    Ok(())
}

fn quantiles(
    engine: &Engine,
    node: &Aggregate,
    params: &[f64],
    rows: &Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let (least, most) = bounds(params);
    engine.annotate(|all| {
        if params.iter().any(|q| q.is_nan()) {
            all.invalid_quantile(f64::NAN, node.param_span);
        }
        for q in [most]
            .into_iter()
            .filter(|q| *q > 1.0)
            .chain([least].into_iter().filter(|q| *q < 0.0))
        {
            all.invalid_quantile(q, node.param_span);
        }
        if rows.list.iter().any(Row::has_histograms) {
            all.histogram_ignored_in_aggregation("quantile", node.expr_span);
        }
    });
    let mut charge = engine.limits.charge(0)?;
    let groups = Groups::new(&rows.list, &node.grouping, node.without, &mut charge)?;
    charge.take(
        groups
            .len()
            .saturating_mul(Row::bytes_of(grid.count, false)),
    )?;
    charge.take(members_bytes(rows.list.len(), groups.len()))?;
    let mut members: Vec<Vec<&Row>> = vec![Vec::new(); groups.len()];
    for (row, group) in rows.list.iter().zip(&groups.of_row) {
        members[*group].push(row);
    }
    let mut out = Vec::with_capacity(groups.len());
    let mut values = Vec::new();
    for (labels, members) in groups.labels.into_iter().zip(members) {
        let mut row = Row::empty(labels, members.iter().any(|row| row.drop_name), grid.count);
        for (step, q) in params.iter().enumerate() {
            engine.limits.check()?;
            values.clear();
            values.extend(
                members
                    .iter()
                    .map(|row| row.values[step])
                    .filter(|value| !is_absent(*value)),
            );
            if !values.is_empty() {
                row.values[step] = quantile(*q, &mut values);
            }
        }
        out.push(row);
    }
    Rows::new(out, charge)
}

/// Bytes of lists of the rows of each group, which double when they are full, and of the values at
/// a step.
pub(crate) fn members_bytes(rows: usize, groups: usize) -> usize {
    let list = size_of::<Vec<&Row>>() + 4 * size_of::<&Row>();
    groups * list + rows * (2 * size_of::<&Row>() + size_of::<f64>())
}

/// The least and the largest parameter; NaN if one of them is, unless an infinity is beyond all.
pub(crate) fn bounds(params: &[f64]) -> (f64, f64) {
    params
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), value| {
            (min(least, *value), max(most, *value))
        })
}

fn count_values(
    engine: &Engine,
    node: &Aggregate,
    label: &str,
    rows: &Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    if label.is_empty() {
        return Err(QueryError::execution(format!(
            "invalid label name {label:?}"
        )));
    }
    let mut grouping = node.grouping.clone();
    if !node.without {
        grouping.push(label.to_owned());
    }
    let mut counted = Counted {
        positions: HashMap::new(),
        rows: Vec::new(),
        steps: grid.count,
        charge: engine.limits.charge(0)?,
    };
    for row in &rows.list {
        engine.limits.check()?;
        // The labels of the row by themselves, and a set that is made of them with a value.
        let in_work = labels_in_work_bytes(row.labels.as_str().len() + label.len());
        counted.charge.reserve(3 * in_work)?;
        let base = LabelsBuilder::from_labels(&row.labels);
        let labels = |value: &str| {
            let mut builder = base.clone();
            builder.set(label, value);
            group_labels(&builder.build(), &grouping, node.without)
        };
        // Neighbouring steps often have one value; only a new value needs new labels.
        let mut last: Option<(u64, usize)> = None;
        for (step, value) in row
            .values
            .iter()
            .enumerate()
            .filter(|(_, value)| !is_absent(**value))
        {
            let position = match last {
                Some((bits, position)) if bits == value.to_bits() => position,
                _ => {
                    counted.charge.reserve(3 * in_work + LONGEST_NUMBER_BYTES)?;
                    counted.position(labels(&plain(*value)), engine.limits.max_samples())?
                }
            };
            last = Some((value.to_bits(), position));
            counted.add(position, step);
        }
        for (step, histogram) in row.histograms.iter().flatten().enumerate() {
            if let Some(histogram) = histogram {
                // Each bucket is written with its bounds and its count.
                let text_bytes = LONGEST_NUMBER_BYTES
                    + histogram_bytes(histogram).saturating_mul(MOST_TEXT_BYTES_OF_A_BYTE);
                let needed = 3 * in_work + labels_in_work_bytes(text_bytes);
                counted.charge.reserve(needed)?;
                let position =
                    counted.position(labels(&text(histogram)), engine.limits.max_samples())?;
                counted.add(position, step);
            }
        }
    }
    let Counted { rows, charge, .. } = counted;
    Rows::new(rows, charge)
}

/// Room for a number in decimal without an exponent, and for the label set that it becomes a part
/// of.
const LONGEST_NUMBER_BYTES: usize = 2 << 10;

/// Bytes of the text of a histogram for each byte that it has in memory: three numbers of about 24
/// characters for the eight bytes of a bucket.
const MOST_TEXT_BYTES_OF_A_BYTE: usize = 10;

/// The rows of `count_values`.
struct Counted {
    positions: HashMap<Labels, usize>,
    rows: Vec<Row>,
    steps: usize,
    charge: Charge,
}

impl Counted {
    /// The row of some labels.
    fn position(&mut self, labels: Labels, max_samples: u64) -> Result<usize, QueryError> {
        let new = match self.positions.entry(labels) {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(new) => new,
        };
        let position = self.rows.len();
        if (position as u64 + 1).saturating_mul(self.steps as u64) > max_samples {
            return Err(QueryError::TooManySamples(max_samples));
        }
        // Lists and tables double when they are full.
        let bytes = Row::bytes_of(self.steps, false) + size_of::<Row>() + 64;
        self.charge.take(bytes + labels_bytes(new.key()))?;
        self.rows
            .push(Row::empty(new.key().clone(), false, self.steps));
        Ok(*new.insert(position))
    }

    /// Counts one value.
    fn add(&mut self, position: usize, step: usize) {
        let count = &mut self.rows[position].values[step];
        *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
    }
}
