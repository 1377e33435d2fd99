//! How the columns of an answer are called.
//!
//! PostgreSQL calls them `count`, `max` or `?column?` where DataFusion shows the whole expression,
//! and lets several have one name, which DataFusion does not. They are told apart by what follows
//! a separator that no name has, and that is left out when they are shown.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArguments, Ident, Query, Select, SelectItem, SetExpr,
};

const SEPARATOR: char = '\u{1}';
const UNNAMED: &str = "?column?";

/// A name as clients see it.
pub fn shown_name(name: &str) -> &str {
    name.split(SEPARATOR).next().unwrap_or(name)
}

/// Gives a name to each column of a query that has none.
pub(super) fn name_columns(query: &mut Query) {
    let mut body = query.body.as_mut();
    // The first of several decides.
    loop {
        match body {
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => body = inner.body.as_mut(),
            SetExpr::Select(select) => return name_columns_of(select, true),
            _ => return,
        }
    }
}

/// Tells columns apart that would have one name. If `all`, expressions get PostgreSQL's names.
pub(super) fn name_columns_of(select: &mut Select, all: bool) {
    let mut taken: HashSet<String> = HashSet::new();
    for item in &mut select.projection {
        let (name, stays, is_call) = match item {
            SelectItem::UnnamedExpr(expr) => {
                let is_column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                let is_call = matches!(expr, Expr::Function(_));
                (name_of(expr), is_column || !all, is_call)
            }
            SelectItem::ExprWithAlias { alias, .. } => (alias.value.clone(), true, false),
            _ => continue,
        };
        let is_new = taken.insert(name.clone());
        if is_new && stays {
            continue;
        }
        // What is made of a column must not be taken for it.
        let name = match is_new && is_call {
            true => name,
            false => format!("{name}{SEPARATOR}{}", taken.len() + 1),
        };
        taken.insert(name.clone());
        let expr = match std::mem::replace(item, SelectItem::Wildcard(Default::default())) {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
            other => {
                *item = other;
                continue;
            }
        };
        let alias = Ident::with_quote('"', name);
        *item = SelectItem::ExprWithAlias { expr, alias };
    }
}

/// As PostgreSQL calls the column of an expression.
pub(super) fn name_of(expr: &Expr) -> String {
    let last = |parts: &[Ident]| parts.last().map(|part| part.value.clone());
    let found = match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(parts) => last(parts),
        Expr::Function(call) => match &call.args {
            FunctionArguments::Subquery(_) => Some("array".to_owned()),
            _ => {
                let part = call.name.0.last().and_then(|part| part.as_ident());
                part.map(|part| part.value.to_lowercase())
            }
        },
        Expr::Cast {
            expr,
            data_type,
            kind: CastKind::Cast | CastKind::DoubleColon,
            ..
        } => match name_of(expr) {
            name if name == UNNAMED => type_name(data_type),
            name => Some(name),
        },
        Expr::Nested(inner) => Some(name_of(inner)),
        Expr::Collate { expr, .. }
        | Expr::AtTimeZone {
            timestamp: expr, ..
        } => Some(name_of(expr)),
        Expr::CompoundFieldAccess { root, .. } => Some(name_of(root)),
        Expr::Extract { .. } => Some("extract".to_owned()),
        Expr::Case { .. } => Some("case".to_owned()),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Floor { .. } => Some("floor".to_owned()),
        Expr::Ceil { .. } => Some("ceil".to_owned()),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Position { .. } => Some("position".to_owned()),
        Expr::Trim { .. } => Some("btrim".to_owned()),
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Interval(_) => Some("interval".to_owned()),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => Some(name_of(expr)),
                Some(SelectItem::ExprWithAlias { alias, .. }) => Some(alias.value.clone()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    found.unwrap_or_else(|| UNNAMED.to_owned())
}

fn type_name(data_type: &DataType) -> Option<String> {
    let text = data_type.to_string().to_lowercase();
    let name = text.split(['(', ' ']).next().unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default();
    let name = match name {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "double" => "float8",
        "real" => "float4",
        "boolean" => "bool",
        "decimal" => "numeric",
        other => other,
    };
    (!name.is_empty()).then(|| name.to_owned())
}
