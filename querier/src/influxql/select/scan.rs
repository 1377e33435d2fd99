//! Rows of measurements and subqueries, run by run.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::BooleanBuffer;
use futures::{StreamExt, stream};
use tidelake_catalog::model::{Column as TableColumn, Labels, MatchOp, Matcher, TimeRange};
use tidelake_catalog::panics;
use tidelake_catalog::segment::SortedRows;
use tidelake_catalog::segment::scan::{Edge, ScanRequest, ScanUnit};

use super::{Context, Series, select};
use crate::influxql::ast::Operator;
use crate::influxql::compile::read_range;
use crate::influxql::error::InfluxqlError;
use crate::influxql::eval::{At, Node};
use crate::influxql::plan::{Function, Measure, Plan, PlanSource};
use crate::influxql::rows::{GroupKey, Run};
use crate::influxql::value::{Column, DataType, Value, ValueRef};
use crate::small;

/// Fewer rows than this are read where they are asked for.
const FEW_ROWS: u64 = 16 << 10;

/// Reads the rows of all sources of a query. `work` sees runs of consecutive series, on several
/// threads; `merge` gets what it made of them, in the order of the series.
pub(super) async fn scan<T: Send + 'static>(
    context: &Context,
    plan: &Arc<Plan>,
    work: impl Fn(Vec<Run>) -> Result<T, InfluxqlError> + Clone + Send + Sync + 'static,
    merge: &mut (dyn FnMut(T) -> Result<(), InfluxqlError> + Send),
) -> Result<(), InfluxqlError> {
    for (number, source) in plan.sources.iter().enumerate() {
        match source {
            PlanSource::Measure(measure) => {
                scan_measure(context, plan, number, measure, work.clone(), merge).await?;
            }
            PlanSource::Subquery(inner) => {
                let (found, _held) = select(context, &Arc::new(Plan::clone(inner))).await?;
                let filter = Filter::of(plan);
                let mut runs = Vec::with_capacity(found.len());
                for series in found {
                    let mut run = run_of_series(plan, inner, series);
                    filter.apply(plan, &mut run, false)?;
                    if !run.times.is_empty() {
                        runs.push(run);
                    }
                }
                merge(work(runs)?)?;
            }
        }
    }
    Ok(())
}

async fn scan_measure<T: Send + 'static>(
    context: &Context,
    plan: &Arc<Plan>,
    number: usize,
    measure: &Measure,
    work: impl Fn(Vec<Run>) -> Result<T, InfluxqlError> + Clone + Send + Sync + 'static,
    merge: &mut (dyn FnMut(T) -> Result<(), InfluxqlError> + Send),
) -> Result<(), InfluxqlError> {
    let Some(fields) = wanted_fields(plan, measure) else {
        return Ok(());
    };
    let range = read_range(plan);
    let request = ScanRequest {
        fields,
        matchers: matchers(plan),
        range: TimeRange::new(range.0, range.1),
        edge: edge(plan, measure),
    };
    let mut units = context
        .tables
        .scan(&measure.database, &measure.table, request)
        .await?;
    let filter = Filter::of(plan);
    if filter.has_tag_terms() {
        units.retain(|labels| filter.passes(plan, labels));
    }
    if plan.series_limit > 0 || plan.series_offset > 0 {
        let series = units.units.iter().flat_map(ScanUnit::series);
        let keys: BTreeSet<GroupKey> = series
            .map(|series| key_of(plan, measure, &series.labels))
            .collect();
        let most = if plan.series_limit == 0 {
            usize::MAX
        } else {
            plan.series_limit
        };
        let kept: BTreeSet<GroupKey> = keys
            .into_iter()
            .skip(plan.series_offset)
            .take(most)
            .collect();
        units.retain(|labels| kept.contains(&key_of(plan, measure, labels)));
    }
    let total: u64 = units.units.iter().map(ScanUnit::rows_bound).sum();
    let is_small = total <= FEW_ROWS;
    context.lane.reads(total);
    if !is_small {
        small::large().await;
    }
    let parts = units.units.into_iter().map(|unit| {
        let part = Part {
            context: context.clone(),
            plan: Arc::clone(plan),
            number,
            unit,
        };
        let work = work.clone();
        async move {
            let computed = async move { work(part.runs().await?) };
            if is_small {
                return computed.await;
            }
            let task = context.spawn(panics::caught(computed));
            match task.join().await {
                Ok(done) => done?,
                Err(_) => Err(InfluxqlError::Unavailable("the server stops".to_owned())),
            }
        }
    });
    let mut parts = stream::iter(parts).buffered(if is_small { 1 } else { context.width });
    while let Some(made) = parts.next().await {
        context.check()?;
        merge(made?)?;
    }
    Ok(())
}

/// The fields to read; `None` if no row of the measurement can matter.
fn wanted_fields(plan: &Plan, measure: &Measure) -> Option<Arc<[TableColumn]>> {
    let is_driven = |at: usize| {
        let slot = &plan.slots[at];
        slot.kind != Some(DataType::Tag) && field_of(measure, &slot.name).is_some()
    };
    // Rows come from selected fields, or from those that functions are called with.
    let drives = match plan.is_raw() {
        true => plan.selected().any(is_driven),
        false => plan.calls.iter().any(|call| is_driven(call.slot)),
    };
    if !drives {
        return None;
    }
    let mut fields: Vec<TableColumn> = Vec::new();
    for slot in &plan.slots {
        if slot.kind != Some(DataType::Tag)
            && let Some(field) = field_of(measure, &slot.name)
            && !fields.iter().any(|known| known.name == field.name)
        {
            fields.push(field.clone());
        }
    }
    Some(fields.into())
}

fn field_of<'a>(measure: &'a Measure, name: &str) -> Option<&'a TableColumn> {
    let mut fields = measure.schema.named_fields();
    let found = fields.find(|(known, field)| *known == name && DataType::of(field.kind).is_some());
    found.map(|(_, field)| field)
}

/// Only the ends of series are read where each row of theirs counts.
fn edge(plan: &Plan, measure: &Measure) -> Option<Edge> {
    if plan.condition.as_ref().is_some_and(has_field(plan)) {
        return None;
    }
    match plan.end_of_series() {
        Some(Function::First) => return Some(Edge::Oldest(1)),
        Some(_) => return Some(Edge::Newest(1)),
        None if !plan.is_raw() || plan.limit == 0 => return None,
        None => {}
    }
    let fields: Vec<&str> = measure
        .schema
        .named_fields()
        .map(|(name, _)| name)
        .collect();
    let is_selected = |name: &&str| {
        plan.slots
            .iter()
            .any(|slot| slot.is_selected && slot.kind != Some(DataType::Tag) && slot.name == **name)
    };
    if !fields.iter().all(is_selected) {
        return None;
    }
    let rows = u64::try_from(plan.limit.saturating_add(plan.offset)).unwrap_or(u64::MAX);
    Some(match plan.ascending {
        true => Edge::Oldest(rows),
        false => Edge::Newest(rows),
    })
}

fn has_field(plan: &Plan) -> impl Fn(&Node) -> bool + '_ {
    |node| {
        node.any(&|at| match at {
            At::Slot(at) => plan.slots[at].kind != Some(DataType::Tag),
            At::Call(_) => true,
        })
    }
}

/// What the condition says of tags, as far as an index of series can be asked for it. The condition
/// is checked all the same.
fn matchers(plan: &Plan) -> Vec<Matcher> {
    let terms: &[Node] = match &plan.condition {
        Some(Node::Logical(Operator::And, terms)) => terms,
        Some(condition) => std::slice::from_ref(condition),
        None => &[],
    };
    terms
        .iter()
        .filter_map(|term| matcher(plan, term))
        .collect()
}

fn matcher(plan: &Plan, term: &Node) -> Option<Matcher> {
    let tag = |node: &Node| match node {
        Node::Value(At::Slot(at)) if plan.slots[*at].kind == Some(DataType::Tag) => {
            Some(plan.slots[*at].name.clone())
        }
        _ => None,
    };
    let text = |node: &Node| match node {
        Node::Constant(Value::String(text)) => Some(text.to_string()),
        _ => None,
    };
    match term {
        Node::Binary(op @ (Operator::Equal | Operator::NotEqual), left, right) => {
            let (name, value) = match (tag(left), text(right)) {
                (Some(name), Some(value)) => (name, value),
                _ => (tag(right)?, text(left)?),
            };
            let op = match op {
                Operator::Equal => MatchOp::Equal,
                _ => MatchOp::NotEqual,
            };
            Matcher::new(name, op, value).ok()
        }
        Node::Matches(of, regex, true) => {
            // What Grafana writes for several chosen values.
            let listed = regex.as_str().strip_prefix("^(")?.strip_suffix(")$")?;
            Matcher::new(tag(of)?, MatchOp::Regex, listed).ok()
        }
        Node::Logical(Operator::Or, terms) => {
            let mut of: Option<String> = None;
            let mut values = Vec::with_capacity(terms.len());
            for term in terms {
                let Node::Binary(Operator::Equal, left, right) = term else {
                    return None;
                };
                let name = tag(left)?;
                if of.get_or_insert_with(|| name.clone()) != &name {
                    return None;
                }
                values.push(regex::escape(&text(right)?));
            }
            Matcher::new(of?, MatchOp::Regex, values.join("|")).ok()
        }
        _ => None,
    }
}

fn key_of(plan: &Plan, measure: &Measure, labels: &Labels) -> GroupKey {
    let value = |name: &String| Arc::from(labels.get(name).unwrap_or(""));
    GroupKey {
        name: Arc::clone(&measure.name),
        tags: plan.dimensions.iter().map(value).collect(),
    }
}

/// A unit of a scan, and what is to be read of it.
struct Part {
    context: Context,
    plan: Arc<Plan>,
    number: usize,
    unit: ScanUnit,
}

impl Part {
    async fn runs(self) -> Result<Vec<Run>, InfluxqlError> {
        let rows = self.context.tables.read(&self.unit).await?;
        let _held = self.context.pool.try_hold(rows.memory_size())?;
        let PlanSource::Measure(measure) = &self.plan.sources[self.number] else {
            return Ok(Vec::new());
        };
        runs_of(&self.plan, measure, &rows)
    }
}

/// The runs of rows that were read, without what the condition leaves out.
fn runs_of(plan: &Plan, measure: &Measure, rows: &SortedRows) -> Result<Vec<Run>, InfluxqlError> {
    let arrays: Vec<Option<ArrayRef>> = plan
        .slots
        .iter()
        .map(|slot| match slot.kind {
            Some(DataType::Tag) => None,
            _ => field_of(measure, &slot.name).and_then(|field| rows.array(&field.name)),
        })
        .collect();
    let filter = Filter::of(plan);
    let mut runs = Vec::with_capacity(rows.runs.len());
    for run in &rows.runs {
        let within = run.rows();
        if within.is_empty() {
            continue;
        }
        let labels = &run.series.labels;
        let columns = plan
            .slots
            .iter()
            .zip(&arrays)
            .map(|(slot, array)| match array {
                Some(array) => {
                    let part = array.slice(within.start, within.len());
                    cast(part, slot.kind)
                }
                None if slot.kind == Some(DataType::Tag) => match labels.get(&slot.name) {
                    Some(value) if !value.is_empty() => Column::Text(value.into()),
                    _ => Column::Absent,
                },
                None => Column::Absent,
            });
        let mut made = Run {
            key: key_of(plan, measure, labels),
            times: rows.time.slice(within.start, within.len()),
            columns: columns.collect(),
        };
        filter.apply(plan, &mut made, true)?;
        if !made.times.is_empty() {
            runs.push(made);
        }
    }
    Ok(runs)
}

/// A field as the type that the query has it in.
fn cast(array: ArrayRef, kind: Option<DataType>) -> Column {
    use arrow::datatypes::DataType as ArrowType;
    let own = match array.data_type() {
        ArrowType::Float64 => DataType::Float,
        ArrowType::Int64 => DataType::Integer,
        ArrowType::UInt64 => DataType::Unsigned,
        ArrowType::Boolean => DataType::Boolean,
        _ => DataType::String,
    };
    match kind {
        Some(kind) if kind != own => {
            let value = |row| ValueRef::of(&array, row).cast(kind).to_value();
            Column::Values((0..array.len()).map(value).collect())
        }
        _ => Column::Array(array),
    }
}

/// Rows of a subquery as those of a series.
fn run_of_series(plan: &Plan, inner: &Plan, mut series: Series) -> Run {
    let mut times = series.times.take().unwrap_or_default();
    let reverse = |column: &Column| match column {
        Column::Absent | Column::Text(_) => column.clone(),
        column => {
            let rows = (0..series.len).rev();
            Column::Values(rows.map(|row| column.get(row).to_value()).collect())
        }
    };
    if !inner.ascending {
        times.reverse();
    }
    let tag = |name: &str| {
        let found = series.tags.iter().find(|(tag, _)| tag == name);
        found
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    };
    let columns = plan.slots.iter().map(|slot| {
        let field = match slot.kind {
            Some(DataType::Tag) if tag(&slot.name).is_some() => None,
            _ => inner
                .fields
                .iter()
                .position(|field| field.name == slot.name),
        };
        match field {
            Some(at) => {
                let column = &series.values[at];
                let column = if inner.ascending {
                    column.clone()
                } else {
                    reverse(column)
                };
                match (slot.kind, inner.fields[at].kind) {
                    (Some(wanted), Some(own)) if wanted != own => {
                        let value = |row| column.get(row).cast(wanted).to_value();
                        Column::Values((0..series.len).map(value).collect())
                    }
                    _ => column,
                }
            }
            // What a subquery groups by is there, if only empty.
            None => {
                let found = series.tags.iter().find(|(tag, _)| *tag == slot.name);
                found.map_or(Column::Absent, |(_, value)| Column::Text(Arc::clone(value)))
            }
        }
    });
    let key = GroupKey {
        name: series.name.clone().unwrap_or_else(|| "".into()),
        tags: plan
            .dimensions
            .iter()
            .map(|name| tag(name).cloned().unwrap_or_else(|| "".into()))
            .collect(),
    };
    Run {
        key,
        columns: columns.collect(),
        times: times.into(),
    }
}

/// The condition, in the parts that must all hold: of tags alone, and of fields.
struct Filter<'a> {
    tags: Vec<&'a Node>,
    fields: Vec<&'a Node>,
}

impl<'a> Filter<'a> {
    fn of(plan: &'a Plan) -> Self {
        let terms: &[Node] = match &plan.condition {
            Some(Node::Logical(Operator::And, terms)) => terms,
            Some(condition) => std::slice::from_ref(condition),
            None => &[],
        };
        let (fields, tags) = terms.iter().partition(|term| has_field(plan)(term));
        Self { tags, fields }
    }

    fn has_tag_terms(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Whether a series may have rows that pass.
    fn passes(&self, plan: &'a Plan, labels: &'a Labels) -> bool {
        let value = |at: At| match at {
            At::Slot(at) => ValueRef::String(labels.get(&plan.slots[at].name).unwrap_or("")),
            At::Call(_) => ValueRef::Null,
        };
        self.tags
            .iter()
            .all(|term| term.eval(&value) == ValueRef::Boolean(true))
    }

    /// Leaves the rows that pass; of a measurement's, for an answer of rows as they are, only those
    /// that have a selected field.
    fn apply(
        &self,
        plan: &Plan,
        run: &mut Run,
        is_of_measurement: bool,
    ) -> Result<(), InfluxqlError> {
        let rows = run.times.len();
        let mut keep: Option<BooleanBuffer> = None;
        let mut and = |mask: BooleanBuffer| {
            keep = Some(match keep.take() {
                Some(known) => &known & &mask,
                None => mask,
            });
        };
        for term in self.tags.iter().chain(&self.fields) {
            and(mask(plan, term, run, rows));
        }
        if is_of_measurement && plan.is_raw() {
            let fields = plan
                .selected()
                .filter(|at| plan.slots[*at].kind != Some(DataType::Tag));
            let columns: Vec<&Column> = fields.map(|at| &run.columns[at]).collect();
            let is_full = |column: &&Column| match column {
                Column::Array(array) => array.null_count() == 0,
                _ => false,
            };
            if !columns.iter().any(is_full) {
                and(BooleanBuffer::collect_bool(rows, |row| {
                    columns.iter().any(|column| !column.get(row).is_null())
                }));
            }
        }
        match keep {
            Some(keep) => run.filter(&keep),
            None => Ok(()),
        }
    }
}

/// The rows of a run for which a part of the condition holds.
fn mask(plan: &Plan, term: &Node, run: &Run, rows: usize) -> BooleanBuffer {
    let value = |at: usize, row: usize| match run.columns[at].get(row) {
        // A tag that a series does not have is empty.
        ValueRef::Null if plan.slots[at].kind == Some(DataType::Tag) => ValueRef::String(""),
        value => value,
    };
    let is_true = |row: usize| {
        let of_row = |at: At| match at {
            At::Slot(at) => value(at, row),
            At::Call(_) => ValueRef::Null,
        };
        term.eval(&of_row) == ValueRef::Boolean(true)
    };
    let is_constant = |at: At| match at {
        At::Slot(at) => !matches!(run.columns[at], Column::Absent | Column::Text(_)),
        At::Call(_) => false,
    };
    if rows > 0 && !term.any(&is_constant) {
        return match is_true(0) {
            true => BooleanBuffer::new_set(rows),
            false => BooleanBuffer::new_unset(rows),
        };
    }
    BooleanBuffer::collect_bool(rows, is_true)
}
