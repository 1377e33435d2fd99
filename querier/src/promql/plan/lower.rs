//! From the expression tree to the plan.
//!
//! Durations, offsets and `@` become milliseconds, functions operators, parentheses vanish. Parts
//! whose value is the same at every step (all selectors fixed by `@`) are below a [`Repeat`] at the
//! highest possible place and computed once.

use std::cell::Cell;
use std::sync::Arc;

use tidelake_catalog::model::pattern::from_re2;
use tidelake_catalog::model::{Labels, LabelsBuilder, MatchOp, compile_within};

use super::super::exec::aggregate::Aggregate;
use super::super::exec::binary::{ScalarBinary, VectorBinary};
use super::super::exec::duration::DurationContext;
use super::super::exec::grid::Grid;
use super::super::exec::info::InfoCall;
use super::super::exec::range::RangeCall;
use super::super::exec::selector::{Output, RangeSelect, Select};
use super::super::exec::subquery::Subquery;
use super::super::exec::{EngineOptions, QueryError, QueryParams};
use super::super::functions::call::Call as CallKind;
use super::super::functions::histogram::Spans;
use super::super::functions::range::{Extent, RangeFunction};
use super::super::functions::{FUNCTIONS, Function, Histograms, Kernel, Steps};
use super::super::parse::MAX_PATTERN_BYTES;
use super::super::parse::ast::{
    Aggregate as AggregateExpr, At, Binary as BinaryExpr, BinaryOp, Call, DurationExpr, Expr,
    MatrixSelector, Reach, Subquery as SubqueryExpr, ValueType, VectorSelector,
};
use super::absent::Absent;
use super::aggregate::aggregation;
use super::binary::Scalars;
use super::finish::Finish;
use super::histogram::{HistogramFraction, HistogramQuantile};
use super::label::{LabelJoin, LabelReplace};
use super::map::{self, Change};
use super::range::{SelectorFunction, SubqueryFunction};
use super::repeat::Repeat;
use super::scalar::{DateOfStep, ScalarFunction, Time, ToScalar, ToVector};
use super::select::{InstantSelector, RawSelector};
use super::sort::Sort;
use super::subquery::SubqueryWindows;
use super::{Input, Operator, PromExec};

/// What an expression becomes, and whether its value is the same at every step.
struct Planned {
    input: Input,
    invariant: bool,
}

impl Planned {
    fn new(invariant: bool, operator: impl Operator, inputs: Vec<Input>) -> Self {
        Self {
            input: Input::new(operator, inputs),
            invariant,
        }
    }

    /// The input of an operator whose own value is the same at every step or not.
    fn below(self, is_invariant: bool) -> Input {
        match is_invariant {
            true => self.input,
            false => self.wrap(),
        }
    }

    /// The input, evaluated once for all steps if that saves work.
    fn wrap(self) -> Input {
        let is_repeatable = self.input.node().is_some_and(|node| {
            node.operator_as::<RawSelector>().is_none()
                && node.operator_as::<SubqueryWindows>().is_none()
                && node.operator_as::<Repeat>().is_none()
        });
        match self.invariant && is_repeatable {
            true => Input::new(Repeat, vec![self.input]),
            false => self.input,
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
    /// Whether metric names are removed at the end only.
    drops_names_late: bool,
    /// Of the series of a partial aggregation.
    partitions: usize,
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
            drops_names_late: options.experimental,
            partitions: options.partitions.max(1),
            pattern_bytes: Cell::new(0),
        }
    }

    /// Bytes of the patterns that were compiled for functions.
    pub fn pattern_bytes(&self) -> usize {
        self.pattern_bytes.get()
    }

    /// The plan of a whole query, at the steps of a grid.
    pub fn plan(&self, expr: &Expr, grid: Grid) -> Result<PromExec, QueryError> {
        let input = self.lower(expr, Need::default())?.wrap();
        let finish = Finish {
            grid,
            is_range: self.step > 0,
        };
        Ok(PromExec::new(finish, vec![input], 1))
    }

    fn lower(&self, expr: &Expr, need: Need) -> Result<Planned, QueryError> {
        Ok(match expr {
            Expr::Number(number) => Planned {
                input: Input::Number(number.value),
                invariant: true,
            },
            Expr::String(text) => Planned {
                input: Input::Text(text.value.clone()),
                invariant: true,
            },
            Expr::Paren(paren) => self.lower(&paren.expr, need)?,
            Expr::Vector(selector) => self.instant(selector, need, Output::Values)?,
            Expr::Matrix(matrix) => {
                let matrix = self.range_select(matrix, need)?;
                let invariant = matrix.select.at.is_some();
                let matrix = Arc::new(matrix);
                Planned::new(invariant, RawSelector { matrix }, Vec::new())
            }
            Expr::Subquery(subquery) => {
                let (subquery, inner) = self.subquery(subquery)?;
                let invariant = subquery.at.is_some();
                Planned::new(invariant, SubqueryWindows(subquery), vec![inner])
            }
            Expr::Unary(unary) => {
                let inner = self.lower(&unary.expr, need)?;
                match (unary.negative, inner.input) {
                    (false, input) => Planned { input, ..inner },
                    (true, Input::Number(value)) => Planned {
                        input: Input::Number(-value),
                        ..inner
                    },
                    (true, input) => Planned {
                        input: self.change(input, None, Change::Negate, Vec::new()),
                        ..inner
                    },
                }
            }
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, need)?,
            Expr::Binary(binary) => self.binary(binary, need)?,
            Expr::Call(call) => self.call(call, need.of_call(call.function))?,
        })
    }

    fn instant(
        &self,
        selector: &VectorSelector,
        need: Need,
        output: Output,
    ) -> Result<Planned, QueryError> {
        let select = Arc::new(self.select(selector, need)?);
        let invariant = select.at.is_some();
        let selector = InstantSelector { select, output };
        Ok(Planned::new(invariant, selector, Vec::new()))
    }

    /// A change of values, joined with those before it. Where names go early, each has to be
    /// followed by that.
    fn change(
        &self,
        input: Input,
        name: Option<&'static str>,
        change: Change,
        scalars: Vec<Input>,
    ) -> Input {
        map::change(input, name, change, scalars, self.drops_names_late)
    }

    fn aggregate(&self, aggregate: &AggregateExpr, need: Need) -> Result<Planned, QueryError> {
        let inner = self.lower(&aggregate.expr, need)?;
        let param = aggregate.param.as_deref();
        if let Some(name @ Expr::String(text)) = param
            && text.not_utf8.is_some()
        {
            return Err(QueryError::execution(format!("invalid label name {name}")));
        }
        let param = param.map(|param| self.lower(param, need)).transpose()?;
        Ok(self.aggregation(aggregate, inner, param))
    }

    fn aggregation(
        &self,
        aggregate: &AggregateExpr,
        inner: Planned,
        param: Option<Planned>,
    ) -> Planned {
        let invariant = inner.invariant && param.as_ref().is_none_or(|p| p.invariant);
        let span = |expr: &Expr| unwrap_parens(expr).span();
        let spec = Aggregate {
            op: aggregate.op,
            grouping: aggregate.grouping.clone(),
            without: aggregate.without,
            span: aggregate.span,
            expr_span: span(&aggregate.expr),
            param_span: aggregate.param.as_deref().map(span).unwrap_or_default(),
        };
        let input = inner.below(invariant);
        let param = param.map(|param| param.below(invariant));
        // Where names go early, series that become equal by that must meet.
        let may_stream = self.drops_names_late;
        Planned {
            input: aggregation(spec, input, param, may_stream, self.partitions),
            invariant,
        }
    }

    fn binary(&self, binary: &BinaryExpr, need: Need) -> Result<Planned, QueryError> {
        let need = match binary.op {
            BinaryOp::TrimUpper | BinaryOp::TrimLower => need.buckets(),
            _ => need,
        };
        let lhs = self.lower(&binary.lhs, need)?;
        let rhs = self.lower(&binary.rhs, need)?;
        self.operation(binary, lhs, rhs)
    }

    fn operation(
        &self,
        binary: &BinaryExpr,
        lhs: Planned,
        rhs: Planned,
    ) -> Result<Planned, QueryError> {
        let is_scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
        let (scalar_is_left, scalar_is_right) = (is_scalar(&binary.lhs), is_scalar(&binary.rhs));
        let invariant = lhs.invariant && rhs.invariant;
        let (lhs, rhs) = (lhs.below(invariant), rhs.below(invariant));
        let with_scalar = Change::Scalar(ScalarBinary {
            op: binary.op,
            return_bool: binary.return_bool,
            scalar_is_left,
            span: binary.span,
        });
        let input = match (scalar_is_left, scalar_is_right) {
            (true, true) => Input::new(Scalars(binary.op), vec![lhs, rhs]),
            (true, false) => self.change(rhs, None, with_scalar, vec![lhs]),
            (false, true) => self.change(lhs, None, with_scalar, vec![rhs]),
            (false, false) => {
                let Some(matching) = binary.matching.clone() else {
                    return Err(QueryError::BadData(
                        "vectors cannot be matched here".to_owned(),
                    ));
                };
                let operator = VectorBinary {
                    op: binary.op,
                    return_bool: binary.return_bool,
                    matching,
                    span: binary.span,
                };
                Input::new(operator, vec![lhs, rhs])
            }
        };
        Ok(Planned { input, invariant })
    }

    fn call(&self, call: &Call, need: Need) -> Result<Planned, QueryError> {
        let function = call.function;
        let args: Vec<&Expr> = call.args.iter().map(unwrap_parens).collect();
        match &function.kernel {
            Kernel::Constant(value) => {
                let steps = Steps {
                    start: self.start,
                    end: self.end,
                    step: self.step,
                };
                Ok(Planned {
                    input: Input::Number(value(&steps)),
                    invariant: true,
                })
            }
            Kernel::Time => Ok(Planned::new(false, Time, Vec::new())),
            Kernel::Range(range) => self.range_call(call, range, &args, need),
            Kernel::Call(kind) => self.function_call(call, *kind, &args, need),
        }
    }

    fn range_call(
        &self,
        call: &Call,
        function: &'static RangeFunction,
        args: &[&Expr],
        need: Need,
    ) -> Result<Planned, QueryError> {
        let name = call.function.name;
        let mut invariant = !call.function.is_timed;
        let (mut matrix, mut subquery) = (None, None);
        let mut absent = Labels::empty();
        let mut scalars = Vec::new();
        for arg in args {
            match arg {
                Expr::Matrix(selector) => {
                    let select = self.range_select(selector, need)?;
                    invariant &= select.select.at.is_some();
                    absent = absent_labels(arg);
                    matrix = Some(select);
                }
                Expr::Subquery(expr) => {
                    let (windows, inner) = self.subquery(expr)?;
                    invariant &= windows.at.is_some();
                    subquery = Some((windows, inner));
                }
                scalar => {
                    let planned = self.lower(scalar, need)?;
                    invariant &= planned.invariant;
                    scalars.push(planned);
                }
            }
        }
        let range_call = RangeCall {
            function: call.function,
            range_function: function,
            // A subquery has no position of its own in Prometheus' annotations.
            span: args
                .first()
                .filter(|arg| !matches!(arg, Expr::Subquery(_)))
                .map(|arg| arg.span())
                .unwrap_or_default(),
        };
        let scalars = scalars.into_iter().map(|scalar| scalar.below(invariant));
        let input = match (matrix, subquery) {
            (Some(matrix), _) => {
                check_reach(name, function, matrix.select.reach)?;
                let operator = SelectorFunction {
                    call: range_call,
                    matrix: Arc::new(matrix),
                };
                Input::new(operator, scalars.collect())
            }
            (None, Some((windows, inner))) => {
                let samples = Input::new(SubqueryWindows(windows), vec![inner]);
                let operator = SubqueryFunction {
                    call: range_call,
                    subquery: windows,
                };
                Input::new(operator, [samples].into_iter().chain(scalars).collect())
            }
            (None, None) => {
                return Err(QueryError::BadData(format!(
                    "function {name} needs a range vector"
                )));
            }
        };
        let input = match function.is_of_absence {
            true => {
                let operator = Absent {
                    labels: absent,
                    drop_name: true,
                };
                Input::new(operator, vec![input])
            }
            false => input,
        };
        Ok(Planned { input, invariant })
    }

    fn function_call(
        &self,
        call: &Call,
        kind: CallKind,
        args: &[&Expr],
        need: Need,
    ) -> Result<Planned, QueryError> {
        // Only selectors have samples with times of their own.
        if let ([Expr::Vector(selector)], Some(output)) = (args, output_of(kind)) {
            return self.instant(selector, need, output);
        }
        // The second argument of `info` is looked at, not evaluated.
        let most = match kind {
            CallKind::Info => 1,
            _ => args.len(),
        };
        let mut lowered = Vec::with_capacity(most);
        for arg in args.iter().take(most) {
            if !matches!(arg, Expr::String(_)) {
                lowered.push(self.lower(arg, need)?);
            }
        }
        let invariant = !call.function.is_timed && lowered.iter().all(|arg| arg.invariant);
        let lowered = lowered.into_iter().map(|arg| arg.below(invariant));
        let input = self.function(call, kind, args, lowered.collect())?;
        Ok(Planned { input, invariant })
    }

    /// The operator of a call. Calls nest, and this is not on the way down.
    fn function(
        &self,
        call: &Call,
        kind: CallKind,
        args: &[&Expr],
        mut inputs: Vec<Input>,
    ) -> Result<Input, QueryError> {
        let name = call.function.name;
        let texts = Texts::of(args);
        let span = |at: usize| args.get(at).map_or(call.span, |arg| arg.span());
        let change = |change, mut inputs: Vec<Input>| {
            if inputs.is_empty() {
                return Err(QueryError::BadData(format!(
                    "function {name} needs a vector"
                )));
            }
            let scalars = inputs.split_off(1);
            let vector = inputs.remove(0);
            Ok(self.change(vector, Some(name), change, scalars))
        };
        Ok(match kind {
            CallKind::Map(function) => change(Change::Map(function), inputs)?,
            CallKind::HistogramField(field) => change(Change::HistogramField(field), inputs)?,
            CallKind::Timestamp => change(Change::Timestamp, inputs)?,
            CallKind::Clamp => change(Change::Clamp, inputs)?,
            CallKind::ClampMin => change(Change::ClampMin, inputs)?,
            CallKind::ClampMax => change(Change::ClampMax, inputs)?,
            CallKind::Round => {
                if inputs.len() < 2 {
                    inputs.push(Input::Number(1.0));
                }
                change(Change::Round, inputs)?
            }
            CallKind::Date(part) if inputs.is_empty() => {
                Input::new(DateOfStep { name, part }, inputs)
            }
            CallKind::Date(part) => change(Change::Date(part), inputs)?,
            CallKind::StartTimestamp => change(Change::Nothing, inputs)?,
            CallKind::Fold(function) => Input::new(ScalarFunction { name, function }, inputs),
            CallKind::Scalar => Input::new(ToScalar, inputs),
            CallKind::Vector => Input::new(ToVector, inputs),
            CallKind::Absent => {
                let operator = Absent {
                    labels: args
                        .first()
                        .map(|arg| absent_labels(arg))
                        .unwrap_or_default(),
                    drop_name: false,
                };
                Input::new(operator, inputs)
            }
            CallKind::Sort { descending } => {
                let operator = Sort {
                    labels: None,
                    descending,
                    span: call.span,
                };
                Input::new(operator, inputs)
            }
            CallKind::SortByLabel { descending } => {
                let operator = Sort {
                    labels: Some(texts.owned()),
                    descending,
                    span: call.span,
                };
                Input::new(operator, inputs)
            }
            CallKind::LabelReplace => Input::new(self.label_replace(&texts)?, inputs),
            CallKind::LabelJoin => Input::new(label_join(&texts)?, inputs),
            CallKind::HistogramQuantile => {
                // Of the vector and the quantile, as it is written, the quantile comes first.
                inputs.reverse();
                let spans = Spans {
                    histograms: span(1),
                    quantiles: vec![span(0)],
                };
                Input::new(HistogramQuantile { label: None, spans }, inputs)
            }
            CallKind::HistogramQuantiles => {
                let spans = Spans {
                    histograms: span(0),
                    quantiles: (2..args.len()).map(span).collect(),
                };
                let label = texts.first().to_owned();
                Input::new(
                    HistogramQuantile {
                        label: Some(label),
                        spans,
                    },
                    inputs,
                )
            }
            CallKind::HistogramFraction => {
                // The vector comes last, as it is written.
                inputs.rotate_right(1);
                Input::new(HistogramFraction { span: span(2) }, inputs)
            }
            CallKind::Info => Input::new(self.info(args)?, inputs),
        })
    }

    fn label_replace(&self, texts: &Texts<'_>) -> Result<LabelReplace, QueryError> {
        let [destination, replacement, source, pattern] = texts.texts[..] else {
            return Err(QueryError::BadData(
                "label_replace() needs four strings".to_owned(),
            ));
        };
        let (regex, bytes) = from_re2(&format!("^(?s:{pattern})$"))
            .ok()
            .filter(|_| !texts.is_not_utf8(3))
            .and_then(|pattern| compile_within(&pattern, &PATTERN_SIZE_LIMITS).ok())
            .ok_or_else(|| {
                QueryError::Execution(format!(
                    "invalid regular expression in label_replace(): {pattern}"
                ))
            })?;
        self.pattern_bytes.update(|before| before + bytes);
        if self.pattern_bytes() > MAX_PATTERN_BYTES {
            return Err(QueryError::Execution(format!(
                "the regular expressions in label_replace() take more than {MAX_PATTERN_BYTES} \
                 bytes"
            )));
        }
        if destination.is_empty() || texts.is_not_utf8(0) {
            return Err(QueryError::Execution(format!(
                "invalid destination label name in label_replace(): {destination}"
            )));
        }
        Ok(LabelReplace {
            destination: destination.to_owned(),
            replacement: replacement.to_owned(),
            source: source.to_owned(),
            pattern: pattern.to_owned(),
            regex,
        })
    }

    fn info(&self, args: &[&Expr]) -> Result<InfoCall, QueryError> {
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
        Ok(InfoCall {
            matchers,
            at,
            offset,
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

    /// The windows of a subquery, and what is evaluated at its steps: that has steps of its own, so
    /// it is wrapped whether or not the subquery itself is fixed.
    fn subquery(&self, subquery: &SubqueryExpr) -> Result<(Subquery, Input), QueryError> {
        let inner = self
            .lower(&subquery.expr, Need::default().buckets())?
            .wrap();
        let step = subquery
            .step
            .as_ref()
            .map(|step| self.durations.positive(step))
            .transpose()?;
        let windows = Subquery {
            range: self.durations.positive(&subquery.range)?,
            step: step.filter(|ms| *ms > 0).unwrap_or(self.default_step),
            offset: self.offset(subquery.offset.as_ref())?,
            at: self.at(subquery.at),
        };
        Ok((windows, inner))
    }
}

/// The strings among the arguments of a call.
struct Texts<'a> {
    texts: Vec<&'a str>,
    not_utf8: Vec<bool>,
}

impl<'a> Texts<'a> {
    fn of(args: &[&'a Expr]) -> Self {
        let texts = args.iter().filter_map(|arg| match arg {
            Expr::String(text) => Some((text.value.as_str(), text.not_utf8.is_some())),
            _ => None,
        });
        let (texts, not_utf8) = texts.unzip();
        Self { texts, not_utf8 }
    }

    /// Whether one was no UTF-8 as it was written: no label has such a name.
    fn is_not_utf8(&self, at: usize) -> bool {
        self.not_utf8.get(at).copied().unwrap_or_default()
    }

    fn first(&self) -> &'a str {
        self.texts.first().copied().unwrap_or_default()
    }

    fn owned(&self) -> Vec<String> {
        self.texts.iter().map(|text| (*text).to_owned()).collect()
    }
}

fn label_join(texts: &Texts<'_>) -> Result<LabelJoin, QueryError> {
    let [destination, separator, ref sources @ ..] = texts.texts[..] else {
        return Err(QueryError::BadData(
            "label_join() needs a destination and a separator".to_owned(),
        ));
    };
    if destination.is_empty() || texts.is_not_utf8(0) {
        return Err(QueryError::Execution(format!(
            "invalid destination label name in label_join(): {destination}"
        )));
    }
    let mut sources_with_places = sources.iter().enumerate();
    let is_invalid = |(at, source): &(usize, &&str)| source.is_empty() || texts.is_not_utf8(2 + at);
    if let Some((_, source)) = sources_with_places.find(is_invalid) {
        return Err(QueryError::Execution(format!(
            "invalid source label name in label_join(): {source}"
        )));
    }
    Ok(LabelJoin {
        destination: destination.to_owned(),
        separator: separator.to_owned(),
        sources: sources.iter().map(|source| (*source).to_owned()).collect(),
    })
}

/// What of a selector's samples a function wants, if it looks at more than their values.
fn output_of(kind: CallKind) -> Option<Output> {
    match kind {
        CallKind::Timestamp => Some(Output::Times),
        CallKind::StartTimestamp => Some(Output::StartTimes),
        _ => None,
    }
}

/// Refuses modifiers of a range selector that a function knows nothing of.
fn check_reach(name: &str, function: &RangeFunction, reach: Reach) -> Result<(), QueryError> {
    let (extent, modifier) = match reach {
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
    Ok(())
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
