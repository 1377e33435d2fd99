//! What the grammar cannot say: types, numbers of arguments, and which modifiers fit which
//! operands.

use std::collections::HashSet;

use super::ast::*;
use super::error::ParseError;
use super::quote::quote;

/// Checks a tree and settles what depends on types: [`Binary::matching`] is kept only between
/// vectors, and is many-to-many for set operators. Returns the type of the whole.
pub(super) fn check(query: &str, expr: &mut Expr) -> Result<ValueType, ParseError> {
    Check { query }.expr(expr)
}

struct Check<'a> {
    query: &'a str,
}

impl Check<'_> {
    fn error<T>(&self, span: Span, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(self.query, span, message))
    }

    fn expr(&self, expr: &mut Expr) -> Result<ValueType, ParseError> {
        match expr {
            Expr::Number(_) => Ok(ValueType::Scalar),
            Expr::String(_) => Ok(ValueType::String),
            Expr::Vector(vector) => {
                self.selector(vector, vector.span)?;
                Ok(ValueType::InstantVector)
            }
            Expr::Matrix(matrix) => {
                self.selector(&matrix.selector, matrix.span)?;
                Ok(ValueType::RangeVector)
            }
            Expr::Subquery(subquery) => self.subquery(subquery),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Unary(unary) => self.unary(unary),
            Expr::Paren(paren) => self.expr(&mut paren.expr),
        }
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, place: &str) -> Result<(), ParseError> {
        let got = self.expr(expr)?;
        if got == wanted {
            return Ok(());
        }
        self.error(
            expr.span(),
            format!(
                "expected type {} in {place}, got {}",
                wanted.documented(),
                got.documented()
            ),
        )
    }

    fn selector(&self, selector: &VectorSelector, span: Span) -> Result<(), ParseError> {
        let Some(name) = &selector.name else {
            // Otherwise a slip would read every series there is.
            if selector
                .matchers
                .iter()
                .all(|matcher| matcher.matches_empty())
            {
                return self.error(
                    span,
                    "vector selector must contain at least one non-empty matcher",
                );
            }
            return Ok(());
        };
        match selector
            .matchers
            .iter()
            .filter(|matcher| matcher.name == "__name__")
            .nth(1)
        {
            Some(second) => self.error(
                span,
                format!(
                    "metric name must not be set twice: {} or {}",
                    quote(name),
                    quote(&second.value)
                ),
            ),
            None => Ok(()),
        }
    }

    fn subquery(&self, subquery: &mut Subquery) -> Result<ValueType, ParseError> {
        let got = self.expr(&mut subquery.expr)?;
        if got != ValueType::InstantVector {
            let message = format!(
                "subquery is only allowed on instant vector, got {} instead",
                got.name()
            );
            return self.error(subquery.span, message);
        }
        Ok(ValueType::RangeVector)
    }

    fn aggregate(&self, aggregate: &mut Aggregate) -> Result<ValueType, ParseError> {
        self.expect(
            &mut aggregate.expr,
            ValueType::InstantVector,
            "aggregation expression",
        )?;
        if let Some(param) = &mut aggregate.param {
            let wanted = if aggregate.op == AggregateOp::CountValues {
                ValueType::String
            } else {
                ValueType::Scalar
            };
            self.expect(param, wanted, "aggregation parameter")?;
        }
        Ok(ValueType::InstantVector)
    }

    fn unary(&self, unary: &mut Unary) -> Result<ValueType, ParseError> {
        let got = self.expr(&mut unary.expr)?;
        if matches!(got, ValueType::Scalar | ValueType::InstantVector) {
            return Ok(got);
        }
        let got = quote(got.documented());
        self.error(
            unary.span,
            format!(
                "unary expression only allowed on expressions of type scalar or instant vector, \
                 got {got}"
            ),
        )
    }

    fn call(&self, call: &mut Call) -> Result<ValueType, ParseError> {
        let (function, got) = (call.function, call.args.len());
        let (fewest, most) = (function.min_args(), function.max_args());
        let (bound, wanted) = match most {
            Some(most) if fewest == most => ("", fewest),
            _ if got < fewest => ("at least ", fewest),
            _ => ("at most ", most.unwrap_or(got)),
        };
        if got < fewest || most.is_some_and(|most| got > most) {
            let message = format!(
                "expected {bound}{wanted} argument(s) in call to {}, got {got}",
                quote(function.name)
            );
            return self.error(call.span, message);
        }
        let place = format!("call to function {}", quote(function.name));
        if function.name == "info" {
            return self.info(call, &place);
        }
        for (at, arg) in call.args.iter_mut().enumerate() {
            self.expect(arg, function.arg_type(at), &place)?;
        }
        Ok(function.result)
    }

    /// The second argument of `info` is not a selector of its own but narrows which info series are
    /// looked for: it may be empty, and may not name a metric before the braces.
    fn info(&self, call: &mut Call, place: &str) -> Result<ValueType, ParseError> {
        let mut args = call.args.iter_mut();
        if let Some(vector) = args.next() {
            self.expect(vector, ValueType::InstantVector, place)?;
        }
        match args.next() {
            None => {}
            Some(Expr::Vector(selector)) if selector.name.is_none() => {}
            Some(Expr::Vector(selector)) => {
                return self.error(
                    selector.span,
                    "expected label selectors only, got vector selector instead",
                );
            }
            Some(other) => {
                self.expect(other, ValueType::InstantVector, place)?;
                return self.error(other.span(), "expected label selectors only");
            }
        }
        Ok(call.function.result)
    }

    fn binary(&self, binary: &mut Binary) -> Result<ValueType, ParseError> {
        let lhs = self.expr(&mut binary.lhs)?;
        let rhs = self.expr(&mut binary.rhs)?;
        let scalars = usize::from(lhs == ValueType::Scalar) + usize::from(rhs == ValueType::Scalar);
        if binary.return_bool && !binary.op.is_comparison() {
            return self.error(
                self.operator(binary),
                "bool modifier can only be used on comparison operators",
            );
        }
        if binary.op.is_comparison() && !binary.return_bool && scalars == 2 {
            return self.error(
                self.operator(binary),
                "comparisons between scalars must use BOOL modifier",
            );
        }
        if let Some(matching) = &binary.matching
            && matching.on
            && let Some(label) = in_both(&matching.labels, &matching.include)
        {
            let message = format!(
                "label {} must not occur in ON and GROUP clause at once",
                quote(label)
            );
            return self.error(self.operator(binary), message);
        }
        for (side, expr) in [(lhs, &binary.lhs), (rhs, &binary.rhs)] {
            if !matches!(side, ValueType::Scalar | ValueType::InstantVector) {
                return self.error(
                    expr.span(),
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        self.binary_matching(binary, scalars)?;
        if scalars > 0 && binary.op.is_set() {
            let op = quote(binary.op.as_str());
            return self.error(
                binary.span,
                format!("set operator {op} not allowed in binary scalar expression"),
            );
        }
        Ok(if scalars == 2 {
            ValueType::Scalar
        } else {
            ValueType::InstantVector
        })
    }

    fn binary_matching(&self, binary: &mut Binary, scalars: usize) -> Result<(), ParseError> {
        let Some(matching) = &mut binary.matching else {
            return Ok(());
        };
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if scalars > 0 {
            if !matching.labels.is_empty() {
                return self.error(
                    binary.span,
                    "vector matching only allowed between instant vectors",
                );
            }
            if fills {
                return self.error(
                    binary.span,
                    "filling in missing series only allowed between instant vectors",
                );
            }
            binary.matching = None;
        } else if binary.op.is_set() {
            if matching.cardinality != Cardinality::OneToOne {
                return self.error(
                    binary.span,
                    format!(
                        "no grouping allowed for {} operation",
                        quote(binary.op.as_str())
                    ),
                );
            }
            if fills {
                return self.error(
                    binary.span,
                    "filling in missing series not allowed for set operators",
                );
            }
            matching.cardinality = Cardinality::ManyToMany;
        }
        Ok(())
    }

    /// The operator with its modifiers: what is between the operands.
    fn operator(&self, binary: &Binary) -> Span {
        let Span { start, .. } = binary.lhs.span();
        let (from, to) = (binary.lhs.span().end, binary.rhs.span().start);
        match self.query.get(from as usize..to as usize) {
            Some(between) => {
                let blanks = between.len() - between.trim_start().len();
                Span {
                    start: from + blanks as u32,
                    end: from + between.trim_end().len() as u32,
                }
            }
            None => Span { start, end: to },
        }
    }
}

/// A label that is in both lists. Hashed, because a query can list tens of thousands.
fn in_both<'a>(labels: &'a [String], include: &[String]) -> Option<&'a String> {
    let include: HashSet<&String> = include.iter().collect();
    labels.iter().find(|label| include.contains(label))
}
