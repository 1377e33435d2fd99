//! From what a `SELECT` says to what the engine carries out: names to columns of sources, patterns
//! and `*` to names, functions to what they do.

mod names;

use std::collections::{BTreeSet, HashMap};

use super::ast::{
    Cast, Dimension, Expr, Field, Fill, Literal, Measurement, Reference, Select, Source,
};
use super::check;
use super::condition::{Clock, MAX_TIME, MIN_TIME, TimeBounds, split_time};
use super::error::InfluxqlError;
use super::eval::{At, Math, Node, type_of};
use super::plan::{Call, Function, Measure, Plan, PlanField, PlanSource, Slot, Transform};
use super::value::DataType;
use super::window::Windows;
use names::Names;

/// Where the measurements are that a query names.
pub trait Measures {
    /// All that are meant.
    ///
    /// # Errors
    /// If the query may not read them, or there is no such database or retention policy.
    fn find(&self, measurement: &Measurement) -> Result<Vec<Measure>, InfluxqlError>;
}

/// Most columns of an answer.
const MAX_COLUMNS: usize = 10_000;

/// The windows of the queries around one: length and offset.
type Inherited = Option<(i64, i64)>;

/// Plans a query.
///
/// # Errors
/// [`InfluxqlError::Invalid`] if it means nothing, and those of `measures`.
pub fn compile(
    select: &Select,
    measures: &dyn Measures,
    now: i64,
    seed: u64,
) -> Result<Plan, InfluxqlError> {
    let mut plan = compile_within(select, measures, now, None, !select.descending)?;
    plan.seed = seed;
    let range = plan.range;
    restrict(&mut plan, range);
    Ok(plan)
}

fn compile_within(
    select: &Select,
    measures: &dyn Measures,
    now: i64,
    inherited: Inherited,
    ascending: bool,
) -> Result<Plan, InfluxqlError> {
    let clock = Clock {
        now,
        zone: select.zone,
    };
    let (condition, bounds) = match &select.condition {
        Some(condition) => split_time(condition, clock)?,
        None => (None, TimeBounds::default()),
    };
    if let Some(condition) = &condition {
        check::condition(condition)?;
    }
    let own = check::interval(select, clock)?;
    let (fields, time_column) = without_time(&select.fields);
    check::fields(select, &fields, own.is_some(), inherited.is_some())?;
    let interval = own.or(inherited);
    let latest = if own.is_some() || inherited.is_some() {
        now
    } else {
        MAX_TIME
    };
    let range = (bounds.min.unwrap_or(MIN_TIME), bounds.max.unwrap_or(latest));

    let mut sources = Vec::new();
    for source in &select.sources {
        match source {
            Source::Measurement(measurement) => {
                let found = measures.find(measurement)?;
                sources.extend(found.into_iter().map(PlanSource::Measure));
            }
            Source::Subquery(inner) => {
                if inner.is_ordered && inner.descending == ascending {
                    return Err(InfluxqlError::invalid(
                        "subqueries must be ordered in the same direction as the query itself",
                    ));
                }
                let mut inner = compile_within(inner, measures, now, interval, ascending)?;
                // What is null is skipped by the query around.
                if inner.fill == Fill::Null {
                    inner.fill = Fill::None;
                }
                sources.push(PlanSource::Subquery(Box::new(inner)));
            }
        }
    }
    let names = Names::of(&sources);
    let dimensions = expand_dimensions(&select.dimensions, &names);
    let fields = expand_fields(fields, select, &dimensions, &names)?;

    let mut builder = Builder {
        names: &names,
        slots: Vec::new(),
        calls: Vec::new(),
        interval: interval.map(|(every, _)| every),
    };
    let mut columns = Vec::with_capacity(fields.len());
    for field in &fields {
        let tags = match &field.expr {
            Expr::Call(name, args) if matches!(name.as_str(), "top" | "bottom") => {
                &args[1..args.len() - 1]
            }
            _ => &[],
        };
        let alias = std::iter::once(field.alias.clone()).chain(tags.iter().map(|_| None));
        for (expr, alias) in std::iter::once(&field.expr).chain(tags).zip(alias) {
            columns.push(Unnamed {
                alias,
                name: natural_name(expr),
                kind: type_of(expr, &|reference| names.kind(reference))?,
                node: builder.node(expr)?,
            });
        }
    }
    let condition = match &condition {
        Some(condition) => Some(builder.condition(condition)?),
        None => None,
    };
    let fields = name_columns(columns);
    let (slots, calls) = (builder.slots, builder.calls);
    let mut plan = Plan {
        sources,
        range,
        windows: interval.map(|(every, offset)| Windows {
            every,
            offset,
            zone: select.zone,
        }),
        zone: select.zone,
        ascending,
        fill: select.fill,
        limit: usize::try_from(select.limit).unwrap_or(usize::MAX),
        offset: usize::try_from(select.offset).unwrap_or(usize::MAX),
        series_limit: usize::try_from(select.series_limit).unwrap_or(usize::MAX),
        series_offset: usize::try_from(select.series_offset).unwrap_or(usize::MAX),
        dimensions: dimensions.clone(),
        slots,
        condition,
        calls,
        fields,
        time_column,
        seed: 0,
        reads_all: false,
    };
    let (limit, offset) = (plan.series_limit, plan.series_offset);
    for source in &mut plan.sources {
        if let PlanSource::Subquery(inner) = source {
            group_too(inner, &dimensions);
            limit_series(inner, limit, offset);
        }
    }
    Ok(plan)
}

/// Groups a subquery by what the query around it groups by, too.
fn group_too(plan: &mut Plan, dimensions: &[String]) {
    for dimension in dimensions {
        if !plan.dimensions.contains(dimension) {
            plan.dimensions.push(dimension.clone());
        }
    }
    plan.dimensions.sort();
    for source in &mut plan.sources {
        if let PlanSource::Subquery(inner) = source {
            group_too(inner, dimensions);
        }
    }
}

fn limit_series(plan: &mut Plan, limit: usize, offset: usize) {
    plan.series_limit = plan.series_limit.saturating_add(limit);
    plan.series_offset = plan.series_offset.saturating_add(offset);
    for source in &mut plan.sources {
        if let PlanSource::Subquery(inner) = source {
            limit_series(inner, limit, offset);
        }
    }
}

/// Restricts a query to times, and subqueries to what it needs of them.
fn restrict(plan: &mut Plan, range: (i64, i64)) {
    plan.range = (plan.range.0.max(range.0), plan.range.1.min(range.1));
    let read = read_range(plan);
    for source in &mut plan.sources {
        if let PlanSource::Subquery(inner) = source {
            restrict(inner, read);
        }
    }
}

/// The times that a query looks at: more than it answers if its functions look back.
pub fn read_range(plan: &Plan) -> (i64, i64) {
    let (min, max) = plan.range;
    let every = plan.windows.map_or(0, |windows| windows.every);
    let extra = every.saturating_mul(plan.extra_windows());
    match plan.ascending {
        true if min > MIN_TIME => (min.saturating_sub(extra).max(MIN_TIME), max),
        false if max < MAX_TIME => (min, max.saturating_add(extra).min(MAX_TIME)),
        _ => (min, max),
    }
}

/// The columns but the time, and the name of the column of the time.
fn without_time(fields: &[Field]) -> (Vec<Field>, String) {
    let mut time_column = "time".to_owned();
    let mut rest = Vec::with_capacity(fields.len());
    for field in fields {
        match &field.expr {
            Expr::Reference(reference) if reference.name == "time" => {
                if let Some(alias) = &field.alias {
                    time_column.clone_from(alias);
                }
            }
            _ => rest.push(field.clone()),
        }
    }
    (rest, time_column)
}

fn expand_dimensions(dimensions: &[Dimension], names: &Names) -> Vec<String> {
    let mut expanded: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !expanded.iter().any(|known| known == name) {
            expanded.push(name.to_owned());
        }
    };
    for dimension in dimensions {
        match dimension {
            Dimension::Time(_) => {}
            Dimension::Tag(name) => add(name),
            Dimension::All => names.tags.iter().for_each(|tag| add(tag)),
            Dimension::Regex(pattern) => {
                let matching = names.tags.iter().filter(|tag| pattern.regex.is_match(tag));
                matching.for_each(|tag| add(tag));
            }
        }
    }
    expanded.sort();
    expanded
}

fn expand_fields(
    fields: Vec<Field>,
    select: &Select,
    dimensions: &[String],
    names: &Names,
) -> Result<Vec<Field>, InfluxqlError> {
    let is_all = |dimension: &Dimension| matches!(dimension, Dimension::All | Dimension::Regex(_));
    let has_all = select.dimensions.iter().any(is_all);
    // Tags that rows are grouped by stand beside the rows.
    let tags: BTreeSet<&String> = match has_all {
        true => BTreeSet::new(),
        false => names
            .tags
            .iter()
            .filter(|tag| !dimensions.contains(tag))
            .collect(),
    };
    let mut all: Vec<Reference> = names
        .fields
        .keys()
        .map(|name| field_reference(name, names))
        .collect();
    all.extend(tags.into_iter().map(|tag| Reference {
        name: tag.clone(),
        cast: Some(Cast::Tag),
    }));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let mut expanded: Vec<Field> = Vec::with_capacity(fields.len());
    for field in fields {
        let plain = |keep: &dyn Fn(&Reference) -> bool, expanded: &mut Vec<Field>| {
            let kept = all.iter().filter(|reference| keep(reference));
            expanded.extend(kept.map(|reference| Field {
                expr: Expr::Reference(reference.clone()),
                alias: None,
            }));
        };
        match &field.expr {
            Expr::Wildcard(cast) => {
                let is_kept = |reference: &Reference| match cast {
                    Some(Cast::Tag) => reference.cast == Some(Cast::Tag),
                    Some(_) => reference.cast != Some(Cast::Tag),
                    None => true,
                };
                plain(&is_kept, &mut expanded);
            }
            Expr::Literal(Literal::Regex(pattern)) => {
                plain(
                    &|reference| pattern.regex.is_match(&reference.name),
                    &mut expanded,
                );
            }
            Expr::Call(..) => expanded.extend(expand_call(&field, names)),
            _ => expanded.push(field),
        }
        if expanded.len() > MAX_COLUMNS {
            return Err(InfluxqlError::Invalid(format!(
                "the answer would have more than {MAX_COLUMNS} columns; name those that you need"
            )));
        }
    }
    Ok(expanded)
}

fn field_reference(name: &str, names: &Names) -> Reference {
    // A tag of the same name is another column.
    let cast = names.tags.contains(name).then_some(Cast::Field);
    Reference {
        name: name.to_owned(),
        cast,
    }
}

/// A function of several fields becomes one of each that it is defined for.
fn expand_call(field: &Field, names: &Names) -> Vec<Field> {
    // The innermost call has the argument.
    let mut inner = &field.expr;
    let mut path = Vec::new();
    while let Expr::Call(name, args) = inner {
        path.push((name, args));
        match args.first() {
            Some(arg) => inner = arg,
            None => break,
        }
    }
    let pattern = match inner {
        Expr::Wildcard(_) => None,
        Expr::Literal(Literal::Regex(pattern)) => Some(pattern),
        _ => return vec![field.clone()],
    };
    let Some((name, _)) = path
        .iter()
        .rev()
        .find(|(name, _)| Math::named(name).is_none())
    else {
        return vec![field.clone()];
    };
    let is_taken = |kind: DataType| match name.as_str() {
        "count" | "first" | "last" | "distinct" | "elapsed" | "mode" | "sample" => true,
        "min" | "max" => kind.is_numeric() || kind == DataType::Boolean,
        _ => kind.is_numeric(),
    };
    let outer = path.first().map_or("", |(name, _)| name.as_str());
    let base = field.alias.as_deref().unwrap_or(outer);
    let taken = names.fields.iter().filter(|(name, kind)| {
        is_taken(**kind)
            && **kind != DataType::Tag
            && pattern.is_none_or(|pattern| pattern.regex.is_match(name))
    });
    taken
        .map(|(name, _)| {
            let reference = Expr::Reference(field_reference(name, names));
            Field {
                expr: with_argument(&field.expr, &reference),
                alias: Some(format!("{base}_{name}")),
            }
        })
        .collect()
}

fn with_argument(call: &Expr, argument: &Expr) -> Expr {
    match call {
        Expr::Call(name, args) => {
            let mut args = args.clone();
            if let Some(first) = args.first_mut() {
                *first = with_argument(first, argument);
            }
            Expr::Call(name.clone(), args)
        }
        _ => argument.clone(),
    }
}

/// What a column is called that is not named: after functions and references in it.
fn natural_name(expr: &Expr) -> String {
    match expr {
        Expr::Reference(reference) => reference.name.clone(),
        Expr::Call(name, _) => name.clone(),
        Expr::Binary(_, left, right) => {
            let parts = [natural_name(left), natural_name(right)];
            let parts: Vec<&str> = parts
                .iter()
                .map(String::as_str)
                .filter(|p| !p.is_empty())
                .collect();
            parts.join("_")
        }
        _ => String::new(),
    }
}

/// A column before it has a name of its own.
struct Unnamed {
    alias: Option<String>,
    name: String,
    kind: Option<DataType>,
    node: Node,
}

/// Gives each column a name of its own: what is said first, then what else is free.
fn name_columns(columns: Vec<Unnamed>) -> Vec<PlanField> {
    let aliases = columns.iter().filter_map(|column| column.alias.clone());
    let mut counts: HashMap<String, usize> = aliases.map(|alias| (alias, 1)).collect();
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let name = column.alias.clone().unwrap_or_else(|| column.name.clone());
        let shown = match (&column.alias, counts.get(&name).copied()) {
            (Some(_), _) => name.clone(),
            (None, None) => {
                counts.insert(name.clone(), 1);
                name.clone()
            }
            (None, Some(mut count)) => loop {
                let free = format!("{name}_{count}");
                count += 1;
                if !counts.contains_key(&free) {
                    counts.insert(name.clone(), count);
                    counts.insert(free.clone(), 1);
                    break free;
                }
            },
        };
        fields.push(PlanField {
            column: shown,
            name,
            node: column.node,
            kind: column.kind,
        });
    }
    fields
}

struct Builder<'a> {
    names: &'a Names,
    slots: Vec<Slot>,
    calls: Vec<Call>,
    /// Length of the windows.
    interval: Option<i64>,
}

impl Builder<'_> {
    fn node(&mut self, expr: &Expr) -> Result<Node, InfluxqlError> {
        Node::build(expr, &mut |expr| match expr {
            Expr::Reference(reference) => Ok(Node::Value(At::Slot(self.slot(reference, true)))),
            Expr::Call(name, args) => {
                let mut call = self.call(name, args)?;
                call.kind = type_of(expr, &|reference| self.names.kind(reference))?;
                let at = self.calls.iter().position(|known| *known == call);
                let at = at.unwrap_or_else(|| {
                    self.calls.push(call);
                    self.calls.len() - 1
                });
                Ok(Node::Value(At::Call(at)))
            }
            _ => Err(InfluxqlError::invalid(
                "a wildcard stands where it means nothing",
            )),
        })
    }

    /// In conditions what nothing has is a tag without a value.
    fn condition(&mut self, expr: &Expr) -> Result<Node, InfluxqlError> {
        Node::build(expr, &mut |expr| match expr {
            Expr::Reference(reference) => {
                let mut reference = reference.clone();
                if self.names.kind(&reference).is_none() {
                    reference.cast = Some(Cast::Tag);
                }
                Ok(Node::Value(At::Slot(self.slot(&reference, false))))
            }
            _ => Err(InfluxqlError::invalid("invalid expression in a condition")),
        })
    }

    fn slot(&mut self, reference: &Reference, is_selected: bool) -> usize {
        let kind = match (reference.cast, self.names.kind(reference)) {
            (Some(Cast::Tag), _) => Some(DataType::Tag),
            (_, kind) => kind,
        };
        let found = self
            .slots
            .iter()
            .position(|slot| slot.name == reference.name && slot.kind == kind);
        match found {
            Some(at) => {
                self.slots[at].is_selected |= is_selected;
                at
            }
            None => {
                self.slots.push(Slot {
                    name: reference.name.clone(),
                    kind,
                    is_selected,
                });
                self.slots.len() - 1
            }
        }
    }

    /// The slot of what a function is called with. It is no column of the answer.
    fn argument(&mut self, args: &[Expr]) -> Result<usize, InfluxqlError> {
        match args.first() {
            Some(Expr::Reference(reference)) => Ok(self.slot(reference, false)),
            _ => Err(InfluxqlError::invalid("a function is called with no field")),
        }
    }

    fn call(&mut self, name: &str, args: &[Expr]) -> Result<Call, InfluxqlError> {
        let unit = |or: i64| match args.get(1) {
            Some(Expr::Literal(Literal::Duration(ns))) => *ns,
            _ => or,
        };
        let integer = |at: usize| match args.get(at) {
            Some(Expr::Literal(Literal::Integer(number))) => {
                usize::try_from(*number).unwrap_or(usize::MAX)
            }
            _ => 0,
        };
        const SECOND: i64 = 1_000_000_000;
        if check::is_transform(name) {
            let per_window = unit(self.interval.unwrap_or(SECOND));
            let transform = match name {
                "derivative" => Transform::Derivative(per_window),
                "non_negative_derivative" => Transform::NonNegativeDerivative(per_window),
                "difference" => Transform::Difference,
                "non_negative_difference" => Transform::NonNegativeDifference,
                "elapsed" => Transform::Elapsed(unit(1)),
                "moving_average" => Transform::MovingAverage(integer(1)),
                "holt_winters" => Transform::HoltWinters(integer(1), integer(2), false),
                "holt_winters_with_fit" => Transform::HoltWinters(integer(1), integer(2), true),
                _ => Transform::CumulativeSum,
            };
            let (slot, function) = match args.first() {
                Some(Expr::Call(name, args)) => {
                    let inner = self.call(name, args)?;
                    (inner.slot, inner.function)
                }
                _ => (self.argument(args)?, None),
            };
            return Ok(Call {
                slot,
                function,
                transform: Some(transform),
                kind: None,
            });
        }
        let function = match name {
            "count" => match args.first() {
                Some(Expr::Call(_, inner)) => {
                    return Ok(Call {
                        slot: self.argument(inner)?,
                        function: Some(Function::CountDistinct),
                        transform: None,
                        kind: None,
                    });
                }
                _ => Function::Count,
            },
            "sum" => Function::Sum,
            "mean" => Function::Mean,
            "min" => Function::Min,
            "max" => Function::Max,
            "first" => Function::First,
            "last" => Function::Last,
            "spread" => Function::Spread,
            "stddev" => Function::Stddev,
            "median" => Function::Median,
            "mode" => Function::Mode,
            "distinct" => Function::Distinct,
            "integral" => Function::Integral(unit(SECOND)),
            "sample" => Function::Sample(integer(1)),
            "percentile" => Function::Percentile(match args.get(1) {
                Some(Expr::Literal(Literal::Integer(number))) => *number as f64,
                Some(Expr::Literal(Literal::Number(number))) => *number,
                _ => 0.0,
            }),
            "top" | "bottom" => {
                let most = integer(args.len() - 1);
                let mut tags = Vec::new();
                for tag in &args[1..args.len() - 1] {
                    if let Expr::Reference(reference) = tag {
                        tags.push(self.slot(reference, true));
                    }
                }
                match name {
                    "top" => Function::Top(most, tags),
                    _ => Function::Bottom(most, tags),
                }
            }
            _ => {
                return Err(InfluxqlError::Invalid(format!(
                    "undefined function {name}()"
                )));
            }
        };
        Ok(Call {
            slot: self.argument(args)?,
            function: Some(function),
            transform: None,
            kind: None,
        })
    }
}
