//! The expression tree of a PromQL query.
//!
//! Every node knows where it stands in the text, so that errors and annotations can name line and
//! column.

use tidelake_catalog::model::Matcher;

/// Where a node stands: byte offsets into the query text, `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// One float per step.
    Scalar,
    /// A set of series with at most one value per step.
    InstantVector,
    /// A set of series with a window of samples per step.
    RangeVector,
    /// A text.
    String,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A number; a duration literal such as `5m` where a number is wanted is its seconds.
    Number(NumberLiteral),
    /// A quoted text.
    String(StringLiteral),
    /// `name{...}`
    Vector(VectorSelector),
    /// `name{...}[5m]`
    Matrix(MatrixSelector),
    /// `expr[1h:5m]`
    Subquery(Subquery),
    /// `f(...)`
    Call(Call),
    /// `sum by (...) (...)`
    Aggregate(Aggregate),
    /// `a op b`
    Binary(Binary),
    /// `-a`, `+a`
    Unary(Unary),
    /// `(a)`
    Paren(Paren),
}

impl Expr {
    /// All expressions in it and itself, in the order of the text.
    pub fn all(&self) -> Vec<&Expr> {
        let (mut found, mut open) = (Vec::new(), vec![self]);
        while let Some(expr) = open.pop() {
            found.push(expr);
            match expr {
                Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {}
                Expr::Subquery(subquery) => open.push(&subquery.expr),
                Expr::Call(call) => open.extend(call.args.iter().rev()),
                Expr::Aggregate(aggregate) => open.extend(
                    [&aggregate.expr]
                        .into_iter()
                        .chain(&aggregate.param)
                        .map(|e| &**e),
                ),
                Expr::Binary(binary) => open.extend([&*binary.rhs, &*binary.lhs]),
                Expr::Unary(unary) => open.push(&unary.expr),
                Expr::Paren(paren) => open.push(&paren.expr),
            }
        }
        found
    }

    /// All selectors in it, in the order of the text.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        for expr in self.all() {
            match expr {
                Expr::Vector(selector) => found.push(selector),
                Expr::Matrix(matrix) => found.push(&matrix.selector),
                _ => {}
            }
        }
        found
    }
}

/// See [`Expr::Number`].
#[derive(Debug, Clone, PartialEq)]
pub struct NumberLiteral {
    /// Its value.
    pub value: f64,
    /// Whether it was written as a duration (`5m`); only for printing.
    pub is_duration: bool,
    /// Where it stands.
    pub span: Span,
}

/// See [`Expr::String`].
#[derive(Debug, Clone, PartialEq)]
pub struct StringLiteral {
    /// The text with escapes resolved; U+FFFD stands for what is not UTF-8.
    pub value: String,
    /// The bytes, if escapes such as `\xff` made them something other than UTF-8. No label has
    /// such a name.
    pub not_utf8: Option<Box<[u8]>>,
    /// Where it stands.
    pub span: Span,
}

/// A duration: a literal, or arithmetic over literals and the query's step and range.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// Milliseconds.
    Literal {
        /// The duration in milliseconds.
        ms: i64,
        /// Where it stands.
        span: Span,
    },
    /// A bare number of seconds inside arithmetic; also factors (`5m * 2`).
    Number {
        /// The number as written.
        value: f64,
        /// Where it stands.
        span: Span,
    },
    /// `step()`
    Step(Span),
    /// `range()`
    Range(Span),
    /// `-d`, `+d`
    Unary {
        /// Whether the sign is a minus.
        negative: bool,
        /// The operand.
        expr: Box<DurationExpr>,
        /// Where it stands.
        span: Span,
    },
    /// `a op b`
    Binary {
        /// `+ - * / % ^`
        op: BinaryOp,
        /// Left operand.
        lhs: Box<DurationExpr>,
        /// Right operand.
        rhs: Box<DurationExpr>,
        /// Where it stands.
        span: Span,
    },
    /// `min(a, b)` / `max(a, b)` (also written `min_of`, `max_of`)
    Extreme {
        /// Whether the larger one is taken.
        max: bool,
        /// First operand.
        lhs: Box<DurationExpr>,
        /// Second operand.
        rhs: Box<DurationExpr>,
        /// Where it stands.
        span: Span,
    },
    /// `(d)`
    Paren(Box<DurationExpr>, Span),
}

/// The `@` modifier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum At {
    /// `@ 1600000000.5`, in milliseconds.
    Time(i64),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// How a range or instant selector reaches beyond its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Only samples inside the window.
    #[default]
    Plain,
    /// `anchored`: the last sample before the window counts at its start.
    Anchored,
    /// `smoothed`: values at both edges are interpolated.
    Smoothed,
}

/// See [`Expr::Vector`].
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric name if written before the braces; it is also among `matchers`.
    pub name: Option<String>,
    /// All matchers, `__name__` included.
    pub matchers: Vec<Matcher>,
    /// `offset d`
    pub offset: Option<DurationExpr>,
    /// `@ t`
    pub at: Option<At>,
    /// `anchored` / `smoothed`
    pub reach: Reach,
    /// Where it stands.
    pub span: Span,
}

/// See [`Expr::Matrix`]. Offset and `@` are those of the selector.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// The selector.
    pub selector: VectorSelector,
    /// `[d]`
    pub range: DurationExpr,
    /// Where it stands, brackets included.
    pub span: Span,
}

/// See [`Expr::Subquery`].
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated at each step.
    pub expr: Box<Expr>,
    /// How far it reaches back.
    pub range: DurationExpr,
    /// `None`: the engine's default.
    pub step: Option<DurationExpr>,
    /// `offset d`
    pub offset: Option<DurationExpr>,
    /// `@ t`
    pub at: Option<At>,
    /// Where it stands, brackets included.
    pub span: Span,
}

/// See [`Expr::Call`].
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Name, argument types, result type.
    pub function: &'static crate::promql::functions::Function,
    /// The arguments.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// Aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

/// See [`Expr::Aggregate`].
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// `k`, the quantile or the label name.
    pub param: Option<Box<Expr>>,
    /// Labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether `grouping` is that of `without`.
    pub without: bool,
    /// Where it stands.
    pub span: Span,
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eql,
    Neq,
    Lt,
    Gt,
    Lte,
    Gte,
    And,
    Or,
    Unless,
    /// `</`: drop the buckets above
    TrimUpper,
    /// `>/`: drop the buckets below
    TrimLower,
}

/// Which side of a vector match may have several series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// Neither.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the series of two vectors find each other.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorMatching {
    /// Which side may have several.
    pub cardinality: Cardinality,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether `labels` is that of `on`.
    pub on: bool,
    /// Labels that `group_left` / `group_right` takes over from the other side.
    pub include: Vec<String>,
    /// `fill` / `fill_left`: value for a series missing on the left.
    pub fill_left: Option<f64>,
    /// `fill` / `fill_right`: value for a series missing on the right.
    pub fill_right: Option<f64>,
}

/// See [`Expr::Binary`].
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Box<Expr>,
    /// Right operand.
    pub rhs: Box<Expr>,
    /// `bool`
    pub return_bool: bool,
    /// Present if both sides are vectors.
    pub matching: Option<VectorMatching>,
    /// Where it stands.
    pub span: Span,
}

/// See [`Expr::Unary`].
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Whether the sign is a minus.
    pub negative: bool,
    /// The operand.
    pub expr: Box<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// See [`Expr::Paren`].
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Box<Expr>,
    /// Where it stands, parentheses included.
    pub span: Span,
}

impl Expr {
    /// Where the expression stands.
    pub fn span(&self) -> Span {
        match self {
            Expr::Number(e) => e.span,
            Expr::String(e) => e.span,
            Expr::Vector(e) => e.span,
            Expr::Matrix(e) => e.span,
            Expr::Subquery(e) => e.span,
            Expr::Call(e) => e.span,
            Expr::Aggregate(e) => e.span,
            Expr::Binary(e) => e.span,
            Expr::Unary(e) => e.span,
            Expr::Paren(e) => e.span,
        }
    }

    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Vector(_) | Expr::Aggregate(_) => ValueType::InstantVector,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::RangeVector,
            Expr::Call(e) => e.function.result,
            Expr::Binary(e) => match (e.lhs.value_type(), e.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::InstantVector,
            },
            Expr::Unary(e) => e.expr.value_type(),
            Expr::Paren(e) => e.expr.value_type(),
        }
    }
}

impl DurationExpr {
    /// Where the duration stands.
    pub fn span(&self) -> Span {
        match self {
            DurationExpr::Literal { span, .. }
            | DurationExpr::Number { span, .. }
            | DurationExpr::Step(span)
            | DurationExpr::Range(span)
            | DurationExpr::Unary { span, .. }
            | DurationExpr::Binary { span, .. }
            | DurationExpr::Extreme { span, .. }
            | DurationExpr::Paren(_, span) => *span,
        }
    }
}

impl ValueType {
    /// As the HTTP API names it.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::InstantVector => "vector",
            ValueType::RangeVector => "matrix",
            ValueType::String => "string",
        }
    }

    /// As the documentation and error messages name it.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::InstantVector => "instant vector",
            ValueType::RangeVector => "range vector",
            ValueType::Scalar | ValueType::String => self.name(),
        }
    }
}

impl AggregateOp {
    /// As written in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Count => "count",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// Whether it takes a parameter before the vector.
    pub fn has_param(self) -> bool {
        use AggregateOp::*;
        matches!(
            self,
            Topk | Bottomk | CountValues | Quantile | Limitk | LimitRatio
        )
    }
}

impl BinaryOp {
    /// As written in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eql => "==",
            BinaryOp::Neq => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Gt => ">",
            BinaryOp::Lte => "<=",
            BinaryOp::Gte => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    /// Whether it compares: filters, or gives 0 and 1 with `bool`.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eql | Neq | Lt | Gt | Lte | Gte)
    }

    /// Whether it is `and`, `or` or `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}
