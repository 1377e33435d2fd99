//! Queries over tables of the catalog that never have rows.
//!
//! Tidelake has no indexes, keys, triggers or policies that PostgreSQL's catalog would know of, but
//! clients ask for them, in statements that use all that SQL has. A query that joins such a table
//! has no rows, whatever its expressions are, so that none of these is looked at.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins,
    Value,
};

use super::PG_CATALOG;
use super::names::{name_columns_of, name_of};
use super::parts::{self, null};
use super::subqueries::is_aggregate;
use super::tables::is_always_empty;

/// Makes a query one without tables, if it is known to have no rows. Returns whether it did.
pub(super) fn make_empty(query: &mut Query) -> bool {
    if query.with.is_some() {
        return false;
    }
    let Some(select) = empty_select(&query.body) else {
        return false;
    };
    *query = select;
    true
}

/// Whether a query is known to have no rows.
pub(super) fn is_empty(query: &Query) -> bool {
    query.with.is_none() && empty_select(&query.body).is_some()
}

/// What stands for a body without rows.
fn empty_select(body: &SetExpr) -> Option<Query> {
    match body {
        SetExpr::Select(select) => of_select(select),
        SetExpr::Query(query) if query.with.is_none() => empty_select(&query.body),
        SetExpr::SetOperation { left, right, .. } => {
            let first = empty_select(left)?;
            empty_select(right).map(|_| first)
        }
        _ => None,
    }
}

fn of_select(select: &Select) -> Option<Query> {
    if !select.from.iter().any(has_no_rows) {
        return None;
    }
    let mut items = Vec::with_capacity(select.projection.len());
    for item in &select.projection {
        let name = match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }
                if is_aggregate(expr) =>
            {
                return None;
            }
            SelectItem::UnnamedExpr(expr) => Ident::with_quote('"', name_of(expr)),
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            _ => return None,
        };
        items.push(SelectItem::ExprWithAlias {
            expr: null(),
            alias: name,
        });
    }
    let mut query = parts::select(items);
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.selection = Some(Expr::Value(Value::Boolean(false).into()));
        name_columns_of(select, false);
    }
    Some(query)
}

fn has_no_rows(table: &TableWithJoins) -> bool {
    let keeps_left = |join: &JoinOperator| {
        matches!(
            join,
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) | JoinOperator::FullOuter(_)
        )
    };
    let keeps_right = |join: &JoinOperator| {
        matches!(
            join,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
        )
    };
    let mut is_none = is_without_rows(&table.relation);
    for join in &table.joins {
        let right = is_without_rows(&join.relation);
        is_none = match (
            keeps_left(&join.join_operator),
            keeps_right(&join.join_operator),
        ) {
            (true, true) => is_none && right,
            (true, false) => is_none,
            (false, true) => right,
            (false, false) => is_none || right,
        };
    }
    is_none
}

fn is_without_rows(table: &TableFactor) -> bool {
    match table {
        TableFactor::Table {
            name, args: None, ..
        } => match name.0.as_slice() {
            [schema, table] => {
                let is_catalog = schema
                    .as_ident()
                    .is_some_and(|name| name.value == PG_CATALOG);
                let name = table.as_ident();
                is_catalog && name.is_some_and(|name| is_always_empty(&name.value))
            }
            [table] => {
                let name = table.as_ident();
                name.is_some_and(|name| is_always_empty(&name.value))
            }
            _ => false,
        },
        TableFactor::Derived { subquery, .. } => {
            subquery.with.is_none() && empty_select(&subquery.body).is_some()
        }
        TableFactor::NestedJoin {
            table_with_joins, ..
        } => has_no_rows(table_with_joins),
        _ => false,
    }
}
