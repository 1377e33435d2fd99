//! Aggregations that look at all rows of a group at once: `quantile` and `count_values`.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidelake_catalog::model::{Labels, LabelsBuilder};

use super::super::histogram::bytes as histogram_bytes;
use super::super::histogram::text::text;
use super::super::parse::ast::{AggregateOp, Span};
use super::QueryError;
use super::grid::Grid;
use super::group::{Groups, group_labels};
use super::limits::Charge;
use super::number::{max, min, plain, quantile};
use super::row::{Row, Rows, is_absent, labels_bytes, labels_in_work_bytes};
use super::work::Work;

/// An aggregation.
#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub op: AggregateOp,
    pub grouping: Vec<String>,
    pub without: bool,
    pub span: Span,
    pub expr_span: Span,
    pub param_span: Span,
}

/// The quantile of each group; `params` is which at every step.
pub(crate) fn quantiles(
    work: &Work,
    spec: &Aggregate,
    params: &[f64],
    rows: &Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let (least, most) = bounds(params);
    work.annotate(|all| {
        if params.iter().any(|q| q.is_nan()) {
            all.invalid_quantile(f64::NAN, spec.param_span);
        }
        for q in [most]
            .into_iter()
            .filter(|q| *q > 1.0)
            .chain([least].into_iter().filter(|q| *q < 0.0))
        {
            all.invalid_quantile(q, spec.param_span);
        }
        if rows.list.iter().any(Row::has_histograms) {
            all.histogram_ignored_in_aggregation("quantile", spec.expr_span);
        }
    });
    let mut charge = work.limits.charge(0)?;
    let groups = Groups::new(&rows.list, &spec.grouping, spec.without, &mut charge)?;
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
            work.limits.check()?;
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

/// Counts the series of each value; `label` is where the value goes.
pub(crate) fn count_values(
    work: &Work,
    spec: &Aggregate,
    label: &str,
    rows: &Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    if label.is_empty() {
        return Err(QueryError::execution(format!(
            "invalid label name {label:?}"
        )));
    }
    let mut grouping = spec.grouping.clone();
    if !spec.without {
        grouping.push(label.to_owned());
    }
    let mut counted = Counted {
        positions: HashMap::new(),
        rows: Vec::new(),
        steps: grid.count,
        charge: work.limits.charge(0)?,
    };
    for row in &rows.list {
        work.limits.check()?;
        // The labels of the row by themselves, and a set that is made of them with a value.
        let in_work = labels_in_work_bytes(row.labels.as_str().len() + label.len());
        counted.charge.reserve(3 * in_work)?;
        let base = LabelsBuilder::from_labels(&row.labels);
        let labels = |value: &str| {
            let mut builder = base.clone();
            builder.set(label, value);
            group_labels(&builder.build(), &grouping, spec.without)
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
                    counted.position(labels(&plain(*value)), work.limits.max_samples())?
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
                    counted.position(labels(&text(histogram)), work.limits.max_samples())?;
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
