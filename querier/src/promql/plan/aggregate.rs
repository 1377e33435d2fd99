//! Aggregations. What adds up row by row is folded in two operators: a partial one in the tasks
//! that make the rows, and a final one. The others look at all rows of a group at once; where these
//! are many, they ask for some steps after the others.

use std::ops::Range;
use std::sync::Arc;

use futures::future::{BoxFuture, ready};
use futures::{FutureExt, StreamExt, TryFutureExt};
use hashbrown::HashMap;
use tidelake_catalog::model::{Labels, METRIC_NAME};

use super::super::exec::aggregate::{Aggregate, count_values, quantiles};
use super::super::exec::annotations::Collector;
use super::super::exec::fold::{Folder, partial};
use super::super::exec::grid::Grid;
use super::super::exec::limits::{Charge, Limits};
use super::super::exec::row::{Row, Rows, labels_bytes};
use super::super::exec::scalar::Scalar;
use super::super::exec::spread::Extent;
use super::super::exec::work::{Evaluated, Work};
use super::super::exec::{QueryError, rank};
use super::super::parse::ast::AggregateOp;
use super::super::source::Part;
use super::labels::{LabelNames, Lookup, names_of};
use super::{Input, Inputs, Operator, PromExec, Stage, Unit, Units, shown, vector};

/// Which part of an aggregation an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Single,
    Partial,
    Final,
}

/// Makes fewer rows of many. Its second input, if there is one, is the parameter.
#[derive(Debug)]
pub(crate) struct Aggregation {
    spec: Arc<Aggregate>,
    mode: Mode,
}

/// An aggregation of an input, in two operators if it can be. The input is read in so many
/// partitions then.
pub(crate) fn aggregation(
    spec: Aggregate,
    input: Input,
    param: Option<Input>,
    may_stream: bool,
    partitions: usize,
) -> Input {
    let spec = Arc::new(spec);
    let with_mode = |mode| Aggregation {
        spec: Arc::clone(&spec),
        mode,
    };
    if !(may_stream && is_fold(spec.op) && input.is_streaming()) {
        let inputs = [input].into_iter().chain(param);
        return Input::new(with_mode(Mode::Single), inputs.collect());
    }
    let partial = PromExec::new(with_mode(Mode::Partial), vec![input], partitions);
    Input::new(with_mode(Mode::Final), vec![Input::Plan(Arc::new(partial))])
}

/// Whether rows are added up one after the other.
fn is_fold(op: AggregateOp) -> bool {
    match op {
        AggregateOp::Sum
        | AggregateOp::Avg
        | AggregateOp::Min
        | AggregateOp::Max
        | AggregateOp::Count
        | AggregateOp::Group
        | AggregateOp::Stddev
        | AggregateOp::Stdvar => true,
        AggregateOp::CountValues
        | AggregateOp::Quantile
        | AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => false,
    }
}

impl Operator for Aggregation {
    fn name(&self) -> &'static str {
        "PromAggregateExec"
    }

    fn detail(&self, inputs: &[Input]) -> String {
        let spec = &self.spec;
        let grouping = match (spec.without, spec.grouping.as_slice()) {
            (false, []) => String::new(),
            (without, labels) => format!(
                " {} ({})",
                if without { "without" } else { "by" },
                labels.join(", ")
            ),
        };
        let param = inputs
            .get(1)
            .map(|param| format!("({})", shown(param)))
            .unwrap_or_default();
        format!(
            "mode={:?}, {}{param}{grouping}",
            self.mode,
            spec.op.as_str()
        )
    }

    fn label_names(&self, inputs: &[Input], lookup: Lookup<'_>) -> Option<LabelNames> {
        let spec = &self.spec;
        let inner = names_of(inputs.first(), lookup);
        let keeps_series = !is_fold(spec.op)
            && !matches!(spec.op, AggregateOp::Quantile | AggregateOp::CountValues);
        if keeps_series || self.mode == Mode::Final {
            return inner;
        }
        let mut names: LabelNames = match spec.without {
            false => spec.grouping.iter().cloned().collect(),
            true => {
                let mut names = inner?;
                names.retain(|name| name != METRIC_NAME && !spec.grouping.contains(name));
                names
            }
        };
        if let (AggregateOp::CountValues, Some(Input::Text(label))) = (spec.op, inputs.get(1)) {
            names.insert(label.clone());
        }
        Some(names)
    }

    fn evaluate<'a>(&'a self, on: Inputs<'a>) -> BoxFuture<'a, Result<Evaluated, QueryError>> {
        match self.mode {
            Mode::Partial => {
                let error = "a partial aggregation has no rows".to_owned();
                ready(Err(QueryError::Execution(error))).boxed()
            }
            Mode::Final => self.finish(on).map_ok(Evaluated::Vector).boxed(),
            Mode::Single => async move {
                let param = match on.len() {
                    0 | 1 => None,
                    _ => Some(on.value(1).await?),
                };
                let value = on.value_at(0, divisible(on.grid, 0..on.grid.count)).await;
                // Aggregations nest: what comes after their operands has a frame of its own.
                self.all(on, param, value)
                    .map_ok(Evaluated::Vector)
                    .boxed()
                    .await
            }
            .boxed(),
        }
    }

    fn is_streaming(&self, _: &[Input]) -> bool {
        false
    }

    fn units<'a>(
        &'a self,
        on: Inputs<'a>,
        stage: Stage,
    ) -> BoxFuture<'a, Result<Units<'a>, QueryError>> {
        async move {
            let (spec, steps) = (Arc::clone(&self.spec), on.grid.count);
            let limits = Arc::clone(&on.work.limits);
            let stage = move |unit: Unit, remarks: &mut Collector| match unit {
                Unit::Rows(rows) => {
                    let folded = partial(&spec, rows, steps, &limits)?;
                    stage(Unit::Partial(folded), remarks)
                }
                unit => stage(unit, remarks),
            };
            let input = on.node(0)?;
            input
                .units(on.grid, on.extent, on.work, Arc::new(stage))
                .await
        }
        .boxed()
    }
}

impl Aggregation {
    /// What it does, if it is the part of an aggregation that other processes can do.
    pub fn partial(&self) -> Option<&Arc<Aggregate>> {
        (self.mode == Mode::Partial).then_some(&self.spec)
    }

    /// Puts together what the partial operator made of all batches, in the order of their series.
    async fn finish(&self, on: Inputs<'_>) -> Result<Rows, QueryError> {
        let input = on.node(0)?;
        let limits = &on.work.limits;
        let mut folder = Folder::new(&self.spec, on.grid.count, limits)?;
        let of = input.partitions();
        let fragment = (of == 1).then(|| on.work.fragment(input)).flatten();
        for index in 0..of {
            let stage: Stage = Arc::new(|unit, _| Ok(unit));
            let extent = Extent {
                part: Part { index, of },
                fragment,
            };
            let units = input.units(on.grid, extent, on.work, stage);
            let mut units = on.waited(units).await?;
            while let Some(unit) = on.waited(units.next()).await {
                match unit? {
                    Unit::Rows(rows) => folder.add_rows(&rows)?,
                    Unit::Partial(partial) => folder.add_partial(partial)?,
                }
            }
        }
        finished(folder, on.work)
    }

    /// Aggregates rows that are there all together.
    async fn all(
        &self,
        on: Inputs<'_>,
        param: Option<Evaluated>,
        value: Result<Evaluated, QueryError>,
    ) -> Result<Rows, QueryError> {
        if on.grid.count == 0 {
            return value.map(|_| Rows::default());
        }
        match (&param, self.spec.op) {
            (Some(Evaluated::String(label)), AggregateOp::CountValues) => {
                let compute =
                    |rows, grid: Grid, _| count_values(on.work, &self.spec, label, &rows, grid);
                in_parts(on, value, compute).await
            }
            (_, AggregateOp::CountValues) => Err(QueryError::BadData(
                "count_values needs a label name".to_owned(),
            )),
            (Some(Evaluated::Scalar(params)), _) => {
                let compute =
                    |rows, grid, steps| self.with_param(on.work, params, rows, grid, steps);
                in_parts(on, value, compute).await
            }
            (None, op) if is_fold(op) => {
                let compute = |rows: Rows, grid: Grid, _| {
                    let mut folder = Folder::new(&self.spec, grid.count, &on.work.limits)?;
                    folder.add_rows(&rows)?;
                    drop(rows);
                    finished(folder, on.work)
                };
                in_parts(on, value, compute).await
            }
            _ => Err(QueryError::BadData(
                "expected a scalar as parameter of an aggregation".to_owned(),
            )),
        }
    }

    fn with_param(
        &self,
        work: &Work,
        params: &Scalar,
        rows: Rows,
        grid: Grid,
        steps: Range<usize>,
    ) -> Result<Rows, QueryError> {
        let params = params.get(steps).unwrap_or_default();
        match self.spec.op {
            AggregateOp::Quantile => quantiles(work, &self.spec, params, &rows, grid),
            _ => rank::evaluate(work, &self.spec, params, rows, grid),
        }
    }
}

fn finished(folder: Folder<'_>, work: &Work) -> Result<Rows, QueryError> {
    let (rows, remarks) = folder.finish()?;
    work.annotate(|all| all.merge(remarks));
    Ok(rows)
}

/// Some steps, which may be asked for one after the other.
fn divisible(grid: Grid, steps: Range<usize>) -> Grid {
    Grid {
        is_divisible: steps.len() > 1,
        ..grid.part(steps)
    }
}

/// Computes from the first input: from its value, or if its steps are asked to be divided, from
/// that at some steps after the others.
async fn in_parts(
    on: Inputs<'_>,
    value: Result<Evaluated, QueryError>,
    compute: impl Fn(Rows, Grid, Range<usize>) -> Result<Rows, QueryError>,
) -> Result<Rows, QueryError> {
    let grid = on.grid;
    let mut most = match value {
        Err(QueryError::Divide(most)) => most,
        value => return compute(vector(value?)?, grid, 0..grid.count),
    };
    let mut joined = Joined::new(grid.count, &on.work.limits)?;
    let mut begun = 0;
    while begun < grid.count {
        let steps = begun..(begun + most).min(grid.count);
        let part = divisible(grid, steps.clone());
        match on.value_at(0, part).await {
            Err(QueryError::Divide(fewer)) => most = fewer.clamp(1, (most / 2).max(1)),
            value => {
                begun = steps.end;
                joined.add(compute(vector(value?)?, part, steps.clone())?, steps.start)?;
            }
        }
    }
    joined.finish()
}

/// Rows of some steps after the others.
struct Joined {
    steps: usize,
    positions: HashMap<Labels, usize>,
    rows: Vec<Row>,
    charge: Charge,
}

impl Joined {
    fn new(steps: usize, limits: &Arc<Limits>) -> Result<Self, QueryError> {
        Ok(Self {
            steps,
            positions: HashMap::new(),
            rows: Vec::new(),
            charge: limits.charge(0)?,
        })
    }

    /// Adds rows whose steps begin at one of all.
    fn add(&mut self, rows: Rows, first: usize) -> Result<(), QueryError> {
        for part in &rows.list {
            let position = match self.positions.get(&part.labels) {
                Some(position) => *position,
                None => {
                    let bytes = Row::bytes_of(self.steps, part.histograms.is_some());
                    self.charge.take(bytes + 2 * labels_bytes(&part.labels))?;
                    self.positions.insert(part.labels.clone(), self.rows.len());
                    let new = Row::empty(part.labels.clone(), part.drop_name, self.steps);
                    self.rows.push(new);
                    self.rows.len() - 1
                }
            };
            let row = &mut self.rows[position];
            let points = (0..part.values.len()).filter_map(|step| Some((step, part.point(step)?)));
            points.for_each(|(step, point)| row.set(first + step, point));
        }
        Ok(())
    }

    fn finish(self) -> Result<Rows, QueryError> {
        drop(self.positions);
        Rows::new(self.rows, self.charge)
    }
}
