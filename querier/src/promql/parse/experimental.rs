//! What Prometheus takes only with a feature flag. Here it is on, unless a setting turns it off;
//! then it is refused with the words and at the place that Prometheus has for it. Errors of the
//! syntax come first.

use super::ast::*;
use super::error::ParseError;
use super::quote::quote;

/// Refuses the first experimental thing of a tree, operands before what is done with them.
pub(super) fn refuse(query: &str, expr: &Expr) -> Result<(), ParseError> {
    let error = |span: Span, message: String| Err(ParseError::new(query, span, message));
    match expr {
        Expr::Number(_) | Expr::String(_) => Ok(()),
        Expr::Vector(selector) => refuse_selector(query, selector),
        Expr::Matrix(matrix) => {
            refuse_duration(query, Some(&matrix.range))?;
            refuse_selector(query, &matrix.selector)
        }
        Expr::Subquery(subquery) => {
            refuse(query, &subquery.expr)?;
            refuse_duration(query, Some(&subquery.range))?;
            refuse_duration(query, subquery.step.as_ref())?;
            refuse_duration(query, subquery.offset.as_ref())
        }
        Expr::Call(call) => {
            call.args.iter().try_for_each(|arg| refuse(query, arg))?;
            if call.function.experimental {
                return error(
                    call.span,
                    format!("function {} is not enabled", quote(call.function.name)),
                );
            }
            Ok(())
        }
        Expr::Aggregate(aggregate) => {
            if let Some(param) = &aggregate.param {
                refuse(query, param)?;
            }
            refuse(query, &aggregate.expr)?;
            if matches!(aggregate.op, AggregateOp::Limitk | AggregateOp::LimitRatio) {
                let op = aggregate.op.as_str();
                let message = format!(
                    "{op}() is experimental and must be enabled with \
                     --enable-feature=promql-experimental-functions"
                );
                return error(aggregate.span, message);
            }
            Ok(())
        }
        Expr::Binary(binary) => {
            refuse(query, &binary.lhs)?;
            refuse(query, &binary.rhs)?;
            match &binary.matching {
                Some(matching) if matching.fill_left.is_some() || matching.fill_right.is_some() => {
                    error(
                        binary.span,
                        "binop fill modifiers are experimental and not enabled".to_owned(),
                    )
                }
                _ => Ok(()),
            }
        }
        Expr::Unary(unary) => refuse(query, &unary.expr),
        Expr::Paren(paren) => refuse(query, &paren.expr),
    }
}

fn refuse_selector(query: &str, selector: &VectorSelector) -> Result<(), ParseError> {
    refuse_duration(query, selector.offset.as_ref())?;
    let word = match selector.reach {
        Reach::Plain => return Ok(()),
        Reach::Anchored => "anchored",
        Reach::Smoothed => "smoothed",
    };
    Err(ParseError::new(
        query,
        selector.span,
        format!("{word} modifier is experimental and not enabled"),
    ))
}

/// Everything but a literal with its sign.
fn refuse_duration(query: &str, duration: Option<&DurationExpr>) -> Result<(), ParseError> {
    let Some(duration) = duration else {
        return Ok(());
    };
    let place = match duration {
        DurationExpr::Literal { .. } | DurationExpr::Number { .. } => return Ok(()),
        DurationExpr::Step(span) | DurationExpr::Range(span) => *span,
        DurationExpr::Unary { expr, span, .. } => {
            refuse_duration(query, Some(expr))?;
            *span
        }
        // Prometheus names the left side.
        DurationExpr::Binary { lhs, rhs, .. } => {
            refuse_duration(query, Some(lhs))?;
            refuse_duration(query, Some(rhs))?;
            lhs.span()
        }
        DurationExpr::Extreme { lhs, rhs, span, .. } => {
            refuse_duration(query, Some(lhs))?;
            refuse_duration(query, Some(rhs))?;
            *span
        }
        DurationExpr::Paren(inner, _) => {
            refuse_duration(query, Some(inner))?;
            inner.span()
        }
    };
    Err(ParseError::new(
        query,
        place,
        "experimental duration expression is not enabled",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::{parse, parse_with};

    #[test]
    fn without_experiments_they_are_refused_as_prometheus_does() {
        let check = |query: &str, expected: &str| {
            assert!(parse(query).is_ok(), "{query}");
            assert_eq!(
                parse_with(query, false).unwrap_err().to_string(),
                expected,
                "{query}"
            );
        };
        check(
            "sum(info(x))",
            "1:5: parse error: function \"info\" is not enabled",
        );
        check(
            "abs(mad_over_time(x[5m]))",
            "1:5: parse error: function \"mad_over_time\" is not enabled",
        );
        check(
            "x + start()",
            "1:5: parse error: function \"start\" is not enabled",
        );
        for op in ["limitk", "limit_ratio"] {
            let message = format!(
                "{op}() is experimental and must be enabled with \
                 --enable-feature=promql-experimental-functions"
            );
            check(
                &format!("-{op}(1, x)"),
                &format!("1:2: parse error: {message}"),
            );
        }
        check(
            "1 + (a + fill(0) b)",
            "1:6: parse error: binop fill modifiers are experimental and not enabled",
        );
        check(
            "a + on (x) fill_left(1) b",
            "1:1: parse error: binop fill modifiers are experimental and not enabled",
        );
        check(
            "1 +\nfoo anchored",
            "2:1: parse error: anchored modifier is experimental and not enabled",
        );
        check(
            "rate(foo[5m] smoothed)",
            "1:6: parse error: smoothed modifier is experimental and not enabled",
        );
        let duration = |query: &str, column: usize| {
            check(
                query,
                &format!(
                    "1:{column}: parse error: experimental duration expression is not enabled"
                ),
            );
        };
        duration("x[5m * 2]", 3);
        duration("x[1 + 5m * 2]", 7);
        duration("x[(5m)]", 4);
        duration("x[step()]", 3);
        duration("x offset -step()", 11);
        duration("x offset (1m+1m)", 11);
        duration("x[1h:max_of(1m, 2m)]", 6);
        duration("x[1h:1m] offset (1m / 2)", 18);
    }

    #[test]
    fn what_is_not_experimental_passes() {
        for query in [
            "sum by (a) (rate(x[5m] offset -5m))",
            "x[1h:1m] @ start()",
            "topk(1, x)",
            "a + on (x) group_left b",
            "x offset -4",
            "first_over_time(x[5])",
        ] {
            assert_eq!(parse_with(query, false), parse(query), "{query}");
            assert!(parse(query).is_ok(), "{query}");
        }
    }
}
