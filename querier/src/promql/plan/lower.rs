//! From the expression tree to what the engine runs.
//!
//! Durations, offsets and `@` become milliseconds, functions become values of an enum, parentheses
//! vanish. Parts whose value is the same at every step (all selectors fixed by `@`) are wrapped in
//! [`Node::Invariant`] at the highest possible place and computed once.

use std::cell::Cell;
use std::sync::Arc;

use tidelake_catalog::model::pattern::from_re2;
use tidelake_catalog::model::{Labels, LabelsBuilder, MatchOp, Matcher, compile_within};

use super::super::functions::call::{self, Bind};
use super::super::functions::range::{Extent, RangeFunction};
use super::super::functions::{FUNCTIONS, Function, Histograms, Kernel, Steps};
use super::super::parse::MAX_PATTERN_BYTES;
use super::super::parse::ast::{
    AggregateOp, At, BinaryOp, Call, DurationExpr, Expr, MatrixSelector, Reach, Span,
    Subquery as SubqueryExpr, VectorMatching, VectorSelector,
};
use super::duration::DurationContext;
use super::{EngineOptions, QueryError, QueryParams};

/// A step of a computation.
#[derive(Debug)]
pub(crate) enum Node {
    Number(f64),
    String(String),
    /// `time()`
    Time,
    /// Computed at the first step, the same at all.
    Invariant(Box<Node>),
    Vector(Arc<Select>),
    /// `timestamp(selector)`: the times of the samples instead of their values.
    Timestamps(Arc<Select>),
    /// `start_timestamp(selector)`: when what they count began.
    StartTimestamps(Arc<Select>),
    Matrix(Arc<RangeSelect>),
    Subquery(Box<Subquery>),
    Range(Box<RangeCall>),
    Call(Box<FunctionCall>),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Negate(Box<Node>),
}

/// An instant selector.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub matchers: Vec<Matcher>,
    pub offset: i64,
    pub at: Option<i64>,
    pub reach: Reach,
    pub span: Span,
    /// Of histograms only count and sum are needed, see `reset_hints`.
    pub counts_only: bool,
}

impl Select {
    /// The time that is looked at when a step is evaluated.
    #[inline]
    pub fn reference(&self, time: i64) -> i64 {
        self.at.unwrap_or(time).saturating_sub(self.offset)
    }
}

/// A range selector.
#[derive(Debug, Clone)]
pub(crate) struct RangeSelect {
    pub select: Select,
    pub range: i64,
}

/// `expr[range:step]`
#[derive(Debug)]
pub(crate) struct Subquery {
    pub expr: Node,
    pub range: i64,
    pub step: i64,
    pub offset: i64,
    pub at: Option<i64>,
}

impl Subquery {
    /// See [`Select::reference`].
    pub fn reference(&self, time: i64) -> i64 {
        self.at.unwrap_or(time).saturating_sub(self.offset)
    }
}

/// What a range function reads.
#[derive(Debug)]
pub(crate) enum RangeArg {
    Matrix(Arc<RangeSelect>),
    Subquery(Subquery),
}

/// A function over windows of samples.
#[derive(Debug)]
pub(crate) struct RangeCall {
    /// As written.
    pub name: &'static str,
    pub function: &'static RangeFunction,
    pub range: RangeArg,
    /// The scalar arguments in order.
    pub args: Vec<Node>,
    /// Where the first argument stands: annotations point there.
    pub span: Span,
    /// Labels of the answer of `absent_over_time`.
    pub absent_labels: Labels,
}

/// Any other function.
#[derive(Debug)]
pub(crate) struct FunctionCall {
    /// As written.
    pub name: &'static str,
    pub call: call::Call,
    pub args: Vec<Node>,
    /// Where the arguments stand.
    pub spans: Vec<Span>,
    pub span: Span,
}

/// An aggregation.
#[derive(Debug)]
pub(crate) struct Aggregate {
    pub op: AggregateOp,
    pub expr: Node,
    pub param: Option<Node>,
    pub grouping: Vec<String>,
    pub without: bool,
    pub span: Span,
    pub expr_span: Span,
    pub param_span: Span,
}

/// A binary operation.
#[derive(Debug)]
pub(crate) struct Binary {
    pub op: BinaryOp,
    pub lhs: Node,
    pub rhs: Node,
    pub return_bool: bool,
    pub matching: Option<VectorMatching>,
    pub span: Span,
}

/// A node and whether its value is the same at every step.
struct Planned {
    node: Node,
    invariant: bool,
}

impl Planned {
    fn varying(node: Node) -> Self {
        Self {
            node,
            invariant: false,
        }
    }

    /// The node, wrapped if that saves work.
    fn wrap(self) -> Node {
        match self.node {
            node @ (Node::Number(_)
            | Node::String(_)
            | Node::Matrix(_)
            | Node::Subquery(_)
            | Node::Invariant(_)) => node,
            node if self.invariant => Node::Invariant(Box::new(node)),
            node => node,
        }
    }
}

/// What the expression around a selector needs of histograms.
#[derive(Debug, Clone, Copy, Default)]
struct Need {
    /// Something above takes only their counts or sums.
    counts: bool,
    /// Something above looks at buckets, or evaluates at other times than those of the samples.
    buckets: bool,
}

impl Need {
    fn counts(self) -> Self {
        Self {
            counts: true,
            ..self
        }
    }

    fn buckets(self) -> Self {
        Self {
            buckets: true,
            ..self
        }
    }

    /// The need of a function's arguments.
    fn of_call(self, function: &Function) -> Self {
        match function.histograms {
            Histograms::AsAsked => self,
            Histograms::Counts => self.counts(),
            Histograms::Buckets => self.buckets(),
        }
    }
}

/// Makes plans for one query.
#[derive(Debug)]
pub(crate) struct Planner {
    start: i64,
    end: i64,
    step: i64,
    default_step: i64,
    durations: DurationContext,
    /// Bytes of the patterns of functions, compiled.
    pattern_bytes: Cell<usize>,
}

/// Bounds of a compiled pattern of a function in bytes, tried one after the other; the last is that
/// of the crate `regex`.
const PATTERN_SIZE_LIMITS: [usize; 3] = [128 << 10, 1 << 20, 10 << 20];

impl Planner {
    pub fn new(params: &QueryParams, options: &EngineOptions) -> Self {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let range = params.end_ms.saturating_sub(params.start_ms);
        Self {
            start: params.start_ms,
            end: params.end_ms,
            step: params.step_ms,
            default_step: options.default_step_ms.max(1),
            durations: DurationContext {
                step: seconds(params.step_ms),
                range: seconds(range),
            },
            pattern_bytes: Cell::new(0),
        }
    }

    /// Bytes of the patterns that were compiled for functions.
    pub fn pattern_bytes(&self) -> usize {
        self.pattern_bytes.get()
    }

    /// The plan of a whole query.
    pub fn plan(&self, expr: &Expr) -> Result<Node, QueryError> {
        Ok(self.lower(expr, Need::default())?.wrap())
    }

    fn lower(&self, expr: &Expr, need: Need) -> Result<Planned, QueryError> {
        Ok(match expr {
            Expr::Number(number) => Planned {
                node: Node::Number(number.value),
                invariant: true,
            },
            Expr::String(text) => Planned {
                node: Node::String(text.value.clone()),
                invariant: true,
            },
            Expr::Paren(paren) => self.lower(&paren.expr, need)?,
            Expr::Vector(selector) => {
                let select = self.select(selector, need)?;
                Planned {
                    invariant: select.at.is_some(),
                    node: Node::Vector(Arc::new(select)),
                }
            }
            Expr::Matrix(matrix) => {
                let range = self.range_select(matrix, need)?;
                Planned {
                    invariant: range.select.at.is_some(),
                    node: Node::Matrix(Arc::new(range)),
                }
            }
            Expr::Subquery(subquery) => {
                let subquery = self.subquery(subquery)?;
                Planned {
                    invariant: subquery.at.is_some(),
                    node: Node::Subquery(Box::new(subquery)),
                }
            }
            Expr::Unary(unary) => {
                let inner = self.lower(&unary.expr, need)?;
                if unary.negative {
                    Planned {
                        node: Node::Negate(Box::new(inner.node)),
                        invariant: inner.invariant,
                    }
                } else {
                    inner
                }
            }
            Expr::Aggregate(aggregate) => {
                let inner = self.lower(&aggregate.expr, need)?;
                let param = aggregate.param.as_deref();
                if let Some(name @ Expr::String(text)) = param
                    && text.not_utf8.is_some()
                {
                    return Err(QueryError::execution(format!("invalid label name {name}")));
                }
                let param = param.map(|param| self.lower(param, need)).transpose()?;
                let invariant = inner.invariant && param.as_ref().is_none_or(|p| p.invariant);
                let finish = |planned: Planned| {
                    if invariant {
                        planned.node
                    } else {
                        planned.wrap()
                    }
                };
                let node = Node::Aggregate(Box::new(Aggregate {
                    op: aggregate.op,
                    expr: finish(inner),
                    param: param.map(finish),
                    grouping: aggregate.grouping.clone(),
                    without: aggregate.without,
                    span: aggregate.span,
                    expr_span: unwrap_parens(&aggregate.expr).span(),
                    param_span: aggregate
                        .param
                        .as_deref()
                        .map(|p| unwrap_parens(p).span())
                        .unwrap_or_default(),
                }));
                Planned { node, invariant }
            }
            Expr::Binary(binary) => {
                let need = if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
                    need.buckets()
                } else {
                    need
                };
                let (lhs, rhs) = (
                    self.lower(&binary.lhs, need)?,
                    self.lower(&binary.rhs, need)?,
                );
                let invariant = lhs.invariant && rhs.invariant;
                let finish = |planned: Planned| {
                    if invariant {
                        planned.node
                    } else {
                        planned.wrap()
                    }
                };
                let node = Node::Binary(Box::new(Binary {
                    op: binary.op,
                    lhs: finish(lhs),
                    rhs: finish(rhs),
                    return_bool: binary.return_bool,
                    matching: binary.matching.clone(),
                    span: binary.span,
                }));
                Planned { node, invariant }
            }
            Expr::Call(call) => self.call(call, need.of_call(call.function))?,
        })
    }

    fn call(&self, call: &Call, need: Need) -> Result<Planned, QueryError> {
        let function = call.function;
        let args: Vec<&Expr> = call.args.iter().map(unwrap_parens).collect();
        let bound = match &function.kernel {
            Kernel::Constant(value) => {
                let steps = Steps {
                    start: self.start,
                    end: self.end,
                    step: self.step,
                };
                return Ok(Planned {
                    node: Node::Number(value(&steps)),
                    invariant: true,
                });
            }
            Kernel::Time => return Ok(Planned::varying(Node::Time)),
            Kernel::Range(range) => return self.range_call(call, range, &args, need),
            Kernel::Call(call) => call.clone(),
            Kernel::Bound(bind) => self.bind(*bind, &args)?,
        };
        if let [Expr::Vector(selector)] = args[..]
            && let call::Call::Timestamp | call::Call::StartTimestamp = bound
        {
            let select = self.select(selector, need)?;
            let (invariant, select) = (select.at.is_some(), Arc::new(select));
            let node = match bound {
                call::Call::Timestamp => Node::Timestamps(select),
                _ => Node::StartTimestamps(select),
            };
            return Ok(Planned { invariant, node });
        }
        let lowered = args
            .iter()
            .filter(|arg| !matches!(arg, Expr::String(_)))
            .map(|arg| self.lower(arg, need));
        let lowered = if matches!(bound, call::Call::Info(_)) {
            lowered.take(1).collect()
        } else {
            lowered.collect::<Result<Vec<_>, _>>()
        }?;
        let invariant = !function.is_timed && lowered.iter().all(|arg| arg.invariant);
        let finish = |planned: Planned| {
            if invariant {
                planned.node
            } else {
                planned.wrap()
            }
        };
        let node = Node::Call(Box::new(FunctionCall {
            name: function.name,
            call: bound,
            args: lowered.into_iter().map(finish).collect(),
            spans: args.iter().map(|arg| arg.span()).collect(),
            span: call.span,
        }));
        Ok(Planned { node, invariant })
    }

    fn range_call(
        &self,
        call: &Call,
        function: &'static RangeFunction,
        args: &[&Expr],
        need: Need,
    ) -> Result<Planned, QueryError> {
        let name = call.function.name;
        let mut range = None;
        let mut scalars = Vec::new();
        let mut invariant = !call.function.is_timed;
        let mut absent = Labels::empty();
        for arg in args {
            match arg {
                Expr::Matrix(matrix) => {
                    let select = self.range_select(matrix, need)?;
                    invariant &= select.select.at.is_some();
                    absent = absent_labels(arg);
                    range = Some(RangeArg::Matrix(Arc::new(select)));
                }
                Expr::Subquery(subquery) => {
                    let subquery = self.subquery(subquery)?;
                    invariant &= subquery.at.is_some();
                    range = Some(RangeArg::Subquery(subquery));
                }
                scalar => {
                    let planned = self.lower(scalar, need)?;
                    invariant &= planned.invariant;
                    scalars.push(planned);
                }
            }
        }
        let Some(range) = range else {
            return Err(QueryError::BadData(format!(
                "function {name} needs a range vector"
            )));
        };
        if let RangeArg::Matrix(matrix) = &range {
            let (extent, modifier) = match matrix.select.reach {
                Reach::Plain => (Extent::Plain, ""),
                Reach::Anchored => (Extent::Anchored, "anchored"),
                Reach::Smoothed => (Extent::Smoothed, "smoothed"),
            };
            if function.extent < extent {
                let allowed = reaching(extent).join(", ");
                return Err(QueryError::Execution(format!(
                    "{modifier} modifier can only be used with: {allowed} - not with {name}"
                )));
            }
        }
        let node = Node::Range(Box::new(RangeCall {
            name,
            function,
            range,
            args: scalars
                .into_iter()
                .map(|planned| {
                    if invariant {
                        planned.node
                    } else {
                        planned.wrap()
                    }
                })
                .collect(),
            // A subquery has no position of its own in Prometheus' annotations.
            span: args
                .first()
                .filter(|arg| !matches!(arg, Expr::Subquery(_)))
                .map(|arg| arg.span())
                .unwrap_or_default(),
            absent_labels: absent,
        }));
        Ok(Planned { node, invariant })
    }

    fn bind(&self, bind: Bind, args: &[&Expr]) -> Result<call::Call, QueryError> {
        let strings: Vec<&str> = args
            .iter()
            .filter_map(|arg| match arg {
                Expr::String(text) => Some(text.value.as_str()),
                _ => None,
            })
            .collect();
        // No label has such a name.
        let not_utf8 = |at: usize| {
            let mut literals = args.iter().filter_map(|arg| {
                if let Expr::String(text) = arg {
                    Some(text)
                } else {
                    None
                }
            });
            literals.nth(at).is_some_and(|text| text.not_utf8.is_some())
        };
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        Ok(match bind {
            Bind::Absent => call::Call::Absent(
                args.first()
                    .map(|arg| absent_labels(arg))
                    .unwrap_or_default(),
            ),
            Bind::LabelReplace => {
                let [destination, replacement, source, pattern] = strings[..] else {
                    return Err(QueryError::BadData(
                        "label_replace() needs four strings".to_owned(),
                    ));
                };
                let (regex, bytes) = from_re2(&format!("^(?s:{pattern})$"))
                    .ok()
                    .filter(|_| !not_utf8(3))
                    .and_then(|pattern| compile_within(&pattern, &PATTERN_SIZE_LIMITS).ok())
                    .ok_or_else(|| {
                        QueryError::Execution(format!(
                            "invalid regular expression in label_replace(): {pattern}"
                        ))
                    })?;
                self.pattern_bytes.update(|before| before + bytes);
                if self.pattern_bytes() > MAX_PATTERN_BYTES {
                    return Err(QueryError::Execution(format!(
                        "the regular expressions in label_replace() take more than \
                         {MAX_PATTERN_BYTES} bytes"
                    )));
                }
                if destination.is_empty() || not_utf8(0) {
                    return Err(QueryError::Execution(format!(
                        "invalid destination label name in label_replace(): {destination}"
                    )));
                }
                call::Call::LabelReplace {
                    destination: destination.to_owned(),
                    replacement: replacement.to_owned(),
                    source: source.to_owned(),
                    regex,
                }
            }
            Bind::LabelJoin => {
                let [destination, separator, ref sources @ ..] = strings[..] else {
                    return Err(QueryError::BadData(
                        "label_join() needs a destination and a separator".to_owned(),
                    ));
                };
                if destination.is_empty() || not_utf8(0) {
                    return Err(QueryError::Execution(format!(
                        "invalid destination label name in label_join(): {destination}"
                    )));
                }
                if let Some((_, source)) = sources
                    .iter()
                    .enumerate()
                    .find(|(at, source)| source.is_empty() || not_utf8(2 + at))
                {
                    return Err(QueryError::Execution(format!(
                        "invalid source label name in label_join(): {source}"
                    )));
                }
                call::Call::LabelJoin {
                    destination: destination.to_owned(),
                    separator: separator.to_owned(),
                    sources: owned(sources),
                }
            }
            Bind::SortByLabel { descending } => call::Call::SortByLabel {
                labels: owned(&strings),
                descending,
            },
            Bind::HistogramQuantiles => call::Call::HistogramQuantiles(
                strings.first().copied().unwrap_or_default().to_owned(),
            ),
            Bind::Info => {
                let matchers = match args.get(1) {
                    Some(Expr::Vector(selector)) => Some(selector.matchers.clone()),
                    _ => None,
                };
                let (at, offset) = match args.first() {
                    Some(base) => self
                        .first_selector_time(base, None, 0)?
                        .unwrap_or((None, 0)),
                    None => (None, 0),
                };
                call::Call::Info(Box::new(super::info::InfoCall {
                    matchers,
                    at,
                    offset,
                }))
            }
        })
    }

    /// When the first selector inside an expression is evaluated: its `@`, or that of the innermost
    /// subquery around it that has one, and the offsets on the way. `info` looks for info
    /// series at that time.
    fn first_selector_time(
        &self,
        expr: &Expr,
        at: Option<i64>,
        offset: i64,
    ) -> Result<Option<(Option<i64>, i64)>, QueryError> {
        let first = |parts: &[&Expr]| {
            for part in parts {
                if let Some(found) = self.first_selector_time(part, at, offset)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        match expr {
            Expr::Number(_) | Expr::String(_) => Ok(None),
            Expr::Vector(selector) | Expr::Matrix(MatrixSelector { selector, .. }) => {
                let own = self.offset(selector.offset.as_ref())?;
                Ok(Some(match self.at(selector.at) {
                    Some(fixed) => (Some(fixed), own),
                    None => (at, own.saturating_add(offset)),
                }))
            }
            Expr::Subquery(subquery) => {
                let own = self.offset(subquery.offset.as_ref())?;
                match self.at(subquery.at) {
                    Some(fixed) => self.first_selector_time(&subquery.expr, Some(fixed), own),
                    None => {
                        self.first_selector_time(&subquery.expr, at, own.saturating_add(offset))
                    }
                }
            }
            Expr::Call(call) => first(&call.args.iter().collect::<Vec<_>>()),
            Expr::Aggregate(aggregate) => first(&[&*aggregate.expr]),
            Expr::Binary(binary) => first(&[&*binary.lhs, &*binary.rhs]),
            Expr::Unary(unary) => first(&[&*unary.expr]),
            Expr::Paren(paren) => first(&[&*paren.expr]),
        }
    }

    fn at(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Time(ms) => ms,
            At::Start => self.start,
            At::End => self.end,
        })
    }

    fn offset(&self, offset: Option<&DurationExpr>) -> Result<i64, QueryError> {
        offset.map_or(Ok(0), |offset| self.durations.signed(offset))
    }

    fn select(&self, selector: &VectorSelector, need: Need) -> Result<Select, QueryError> {
        Ok(Select {
            matchers: selector.matchers.clone(),
            offset: self.offset(selector.offset.as_ref())?,
            at: self.at(selector.at),
            reach: selector.reach,
            span: selector.span,
            counts_only: need.counts && !need.buckets,
        })
    }

    fn range_select(&self, matrix: &MatrixSelector, need: Need) -> Result<RangeSelect, QueryError> {
        Ok(RangeSelect {
            select: self.select(&matrix.selector, need)?,
            range: self.durations.positive(&matrix.range)?,
        })
    }

    fn subquery(&self, subquery: &SubqueryExpr) -> Result<Subquery, QueryError> {
        // The inside is evaluated at its own steps, so it is wrapped whether or not the subquery
        // itself is fixed.
        let expr = self
            .lower(&subquery.expr, Need::default().buckets())?
            .wrap();
        let step = subquery
            .step
            .as_ref()
            .map(|step| self.durations.positive(step))
            .transpose()?;
        Ok(Subquery {
            expr,
            range: self.durations.positive(&subquery.range)?,
            step: step.filter(|ms| *ms > 0).unwrap_or(self.default_step),
            offset: self.offset(subquery.offset.as_ref())?,
            at: self.at(subquery.at),
        })
    }
}

/// The functions that can look so far beyond a window.
fn reaching(extent: Extent) -> Vec<&'static str> {
    let reaches = |function: &&Function| match &function.kernel {
        Kernel::Range(range) => range.extent >= extent,
        _ => false,
    };
    let functions = FUNCTIONS.iter().filter(reaches);
    functions.map(|function| function.name).collect()
}

fn unwrap_parens(mut expr: &Expr) -> &Expr {
    while let Expr::Paren(paren) = expr {
        expr = &paren.expr;
    }
    expr
}

/// The labels that an absent series would have: those that a selector asks for by exactly one `=`.
fn absent_labels(expr: &Expr) -> Labels {
    let matchers = match expr {
        Expr::Vector(selector) => &selector.matchers,
        Expr::Matrix(matrix) => &matrix.selector.matchers,
        _ => return Labels::empty(),
    };
    let mut seen: Vec<&str> = Vec::new();
    let mut builder = LabelsBuilder::new();
    for matcher in matchers
        .iter()
        .filter(|matcher| matcher.name != tidelake_catalog::model::METRIC_NAME)
    {
        if matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}
