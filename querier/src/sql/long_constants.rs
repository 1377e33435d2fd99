//! Smaller batches for queries with long constants.
//!
//! Operators repeat a constant for each row of a batch: a text of a megabyte would become eight
//! gigabytes.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Constants below this size are short.
const SHORT_BYTES: usize = 1 << 10;
/// Bytes that the long constants of a query may become in a batch.
const MAX_REPEATED_BYTES: usize = 32 << 20;

/// Rows per batch of a query: `usual`, or fewer if it has long constants.
pub(super) fn batch_rows(plan: &LogicalPlan, usual: usize) -> Result<usize> {
    let mut long_bytes = 0usize;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Literal(value, _) = expr
                    && value.size() > SHORT_BYTES
                {
                    long_bytes = long_bytes.saturating_add(value.size());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    match long_bytes {
        0 => Ok(usual),
        bytes => Ok(usual.min(MAX_REPEATED_BYTES / bytes).max(1)),
    }
}
