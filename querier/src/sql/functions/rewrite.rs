//! Wraps the functions of plans.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::analyzer::AnalyzerRule;

use super::bounded;
use super::concat_operator::concat_operator;
use super::widths::fixed_width;
use crate::sql::limits::LimitsExtension;
use crate::sql::windows;

/// Most bytes that each value of a type may have.
const MAX_TYPE_BYTES: u64 = 64 << 10;

/// Wraps functions that the planner made itself (`[1, 2]`, `a || b` of lists) and those of windows,
/// and turns `||` of texts into a function. Runs after types were coerced.
#[derive(Debug)]
pub(in crate::sql) struct BoundedExpressions;

impl AnalyzerRule for BoundedExpressions {
    fn name(&self) -> &str {
        "bounded_expressions"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let limits = config.extensions.get::<LimitsExtension>();
        plan.transform_down_with_subqueries(|plan| {
            plan.map_expressions(|expr| {
                expr.transform_up(|expr| match (expr, limits) {
                    (Expr::WindowFunction(mut call), Some(LimitsExtension(limits))) => {
                        Ok(match windows::counted(&call.fun, limits) {
                            Some(fun) => {
                                call.fun = fun;
                                Transformed::yes(Expr::WindowFunction(call))
                            }
                            None => Transformed::no(Expr::WindowFunction(call)),
                        })
                    }
                    (expr, _) => bound_one(expr),
                })
            })
        })
        .data()
    }
}

/// An expression with all its functions wrapped.
pub(super) fn bound_expression(expr: Expr) -> Result<Expr> {
    expr.transform_up(bound_one).data()
}

fn bound_one(expr: Expr) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::ScalarFunction(mut call) => match bounded(&call.func) {
            Some(func) => {
                call.func = func;
                Transformed::yes(Expr::ScalarFunction(call))
            }
            None => Transformed::no(Expr::ScalarFunction(call)),
        },
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::StringConcat,
            right,
        }) => Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
            Arc::clone(concat_operator()),
            vec![*left, *right],
        ))),
        Expr::Cast(ref cast) if is_wide(cast.field.data_type()) => {
            return too_wide(cast.field.data_type());
        }
        Expr::TryCast(ref cast) if is_wide(cast.field.data_type()) => {
            return too_wide(cast.field.data_type());
        }
        other => Transformed::no(other),
    })
}

fn is_wide(data_type: &arrow::datatypes::DataType) -> bool {
    fixed_width(data_type).is_some_and(|bytes| bytes > MAX_TYPE_BYTES)
}

fn too_wide<T>(data_type: &arrow::datatypes::DataType) -> Result<T> {
    plan_err!(
        "each value of the type {data_type} has more than {MAX_TYPE_BYTES} bytes; use a list \
         without a fixed size"
    )
}
