//! Subqueries and table functions that DataFusion takes in another form only.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, GroupByExpr, Ident, OrderByExpr, OrderByKind, Query, SelectItem, SetExpr,
    TableFactor, Value,
};

use super::PG_CATALOG;
use super::parts::{column, derived, from, function, null, select};
use super::tables::is_catalog_table;
use crate::sql::error::SqlError;

/// Functions that make one row of many.
const AGGREGATES: [&str; 12] = [
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "string_agg",
    "array_agg",
    "bool_or",
    "bool_and",
    "every",
    "json_agg",
    "array",
];

/// Whether a query is the one by which Grafana cuts the search path into names: all that it reads
/// are functions of that setting.
pub(super) fn is_search_path(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    let is_function = |table: &TableFactor| match table {
        TableFactor::Table { args, .. } => args.is_some(),
        TableFactor::Function { .. } => true,
        _ => false,
    };
    let mut tables = select.from.iter();
    let all_functions = tables.all(|table| table.joins.is_empty() && is_function(&table.relation));
    let mut tables = select.from.iter();
    let of_path = |table: &TableFactor| {
        let shown = table.to_string();
        shown.contains("current_setting('search_path')") && shown.contains("string_to_array")
    };
    all_functions && tables.any(|table| of_path(&table.relation))
}

/// Whether a query takes an array of the catalog apart: psql does so with options of tables, which
/// have none.
pub(super) fn unnests_catalog(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    let is_unnest = |table: &TableFactor| {
        matches!(table, TableFactor::Table { name, args: Some(_), .. }
            if name.to_string().eq_ignore_ascii_case("pg_catalog.unnest"))
    };
    select.from.iter().any(|table| is_unnest(&table.relation))
}

/// Has a subquery that stands for one value answer one row, as the catalog's do: DataFusion wants
/// to see that they do.
pub(super) fn one_row(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return;
    };
    let mut tables = select.from.iter().flat_map(|table| {
        let joined = table.joins.iter().map(|join| &join.relation);
        std::iter::once(&table.relation).chain(joined)
    });
    let is_of_catalog = |table: &TableFactor| match table {
        TableFactor::Table { name, .. } => match name.0.as_slice() {
            [schema, _] => schema.to_string() == PG_CATALOG,
            [name] => name
                .as_ident()
                .is_some_and(|name| is_catalog_table(&name.value)),
            _ => false,
        },
        _ => false,
    };
    if select.from.is_empty() || !tables.all(is_of_catalog) || query.limit_clause.is_some() {
        return;
    }
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] =
        select.projection.as_slice()
    else {
        return;
    };
    if !is_aggregate(expr) {
        query.order_by = None;
        if let SetExpr::Select(select) = query.body.as_mut()
            && let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] =
                select.projection.as_mut_slice()
        {
            let column = std::mem::replace(expr, null());
            *expr = Expr::Function(function("max", [column]));
        }
    }
}

/// `ARRAY(SELECT ..)` as a query of one array.
pub(super) fn array_of(mut query: Query) -> Result<Query, SqlError> {
    let order = match query.order_by.take().map(|order| order.kind) {
        None => Vec::new(),
        Some(OrderByKind::Expressions(order)) => order,
        Some(OrderByKind::All(_)) => return Err(unordered()),
    };
    if is_plain(&query) {
        collect(&mut query, order);
        return Ok(query);
    }
    if !order.is_empty() {
        return Err(unordered());
    }
    let value = Ident::new("value");
    let column = Expr::Identifier(value.clone());
    let array = Expr::Function(function("array_agg", [column]));
    let rows = derived(query, Ident::new("rows"), vec![value]);
    Ok(from(select(vec![SelectItem::UnnamedExpr(array)]), rows))
}

fn unordered() -> SqlError {
    SqlError::BadRequest(
        "ARRAY(SELECT ..) with ORDER BY takes no DISTINCT, GROUP BY, LIMIT or UNION: order by \
         what is selected in array_agg(.. ORDER BY ..)"
            .to_owned(),
    )
}

/// Whether each row of its tables that its filter lets through is a row of a query.
fn is_plain(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    let is_grouped = match &select.group_by {
        GroupByExpr::Expressions(of, modifiers) => !of.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let is_aggregated = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            is_aggregate(expr)
        }
        _ => true,
    });
    query.limit_clause.is_none()
        && query.fetch.is_none()
        && select.distinct.is_none()
        && select.having.is_none()
        && !is_grouped
        && !is_aggregated
}

/// Makes the one column of a query an array in an order.
fn collect(query: &mut Query, mut order: Vec<OrderByExpr>) {
    let SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    let [item] = select.projection.as_mut_slice() else {
        return;
    };
    let (column, alias) = match item {
        SelectItem::UnnamedExpr(expr) => (expr.clone(), None),
        SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), Some(alias.value.clone())),
        _ => return,
    };
    for by in &mut order {
        let is_column = match &by.expr {
            Expr::Value(value) => matches!(&value.value, Value::Number(n, _) if n == "1"),
            Expr::Identifier(name) => Some(&name.value) == alias.as_ref(),
            _ => false,
        };
        if is_column {
            by.expr = column.clone();
        }
    }
    let mut array = function("array_agg", [column]);
    if let FunctionArguments::List(list) = &mut array.args
        && !order.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    *item = SelectItem::UnnamedExpr(Expr::Function(array));
}

/// Whether an expression calls an aggregate function outside of subqueries.
pub(super) fn is_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Function(call) => {
            let name = call.name.0.last();
            let name = name.map(|part| part.to_string().to_lowercase());
            let is_one = name.is_some_and(|name| AGGREGATES.contains(&name.as_str()));
            is_one && call.over.is_none() || arguments(call).any(is_aggregate)
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) | Expr::UnaryOp { expr, .. } => {
            is_aggregate(expr)
        }
        Expr::BinaryOp { left, right, .. } => is_aggregate(left) || is_aggregate(right),
        _ => false,
    }
}

fn arguments(call: &Function) -> impl Iterator<Item = &Expr> {
    let arguments = match &call.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    arguments.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    })
}

/// `generate_series(a, b) AS s(i)` with other arguments than constants as a list that is unnested.
pub(super) fn series_of_expressions(table: &mut TableFactor) {
    let TableFactor::Table {
        name,
        args: Some(args),
        alias,
        ..
    } = table
    else {
        return;
    };
    let is_series = name
        .0
        .last()
        .is_some_and(|part| part.to_string().eq_ignore_ascii_case("generate_series"));
    if !is_series {
        return;
    }
    name.0.drain(..name.0.len().saturating_sub(1));
    let is_constant = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => match expr {
            Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
            Expr::UnaryOp { expr, .. } => matches!(expr.as_ref(), Expr::Value(_)),
            _ => false,
        },
        _ => true,
    };
    let short = name.to_string();
    let called = alias
        .as_ref()
        .map_or(short.as_str(), |alias| &alias.name.value);
    let called = called.to_owned();
    if args.args.iter().all(is_constant) {
        // PostgreSQL calls the column as the table.
        if let Some(alias) = alias
            && alias.columns.is_empty()
        {
            alias.columns.push(column(alias.name.clone()));
        }
        return;
    }
    let mut series = function("generate_series", []);
    series.args = FunctionArguments::List(FunctionArgumentList {
        duplicate_treatment: None,
        args: std::mem::take(&mut args.args),
        clauses: Vec::new(),
    });
    let names = alias.as_ref().and_then(|alias| alias.columns.first());
    let name = names.map_or(Ident::new(called.clone()), |column| column.name.clone());
    let unnested = function("unnest", [Expr::Function(series)]);
    let rows = select(vec![SelectItem::ExprWithAlias {
        expr: Expr::Function(unnested),
        alias: name,
    }]);
    *table = derived(rows, Ident::new(called), Vec::new());
}
