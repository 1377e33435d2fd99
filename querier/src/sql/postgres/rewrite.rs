//! Constructs of PostgreSQL that DataFusion lacks, as ones that it has.
//!
//! A statement comes here after its depth was bounded. What a rule makes is a few levels deeper at
//! most, and every rule is applied once to each part.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, LimitClause, ObjectName,
    ObjectNamePart, Query, SelectItem, SetExpr, Statement as SqlStatement, TableAlias, TableFactor,
    Value, VisitMut, VisitorMut,
};

use super::empty;
use super::names::{name_columns, name_columns_of};
use super::tables::is_catalog_table;
use super::values::{array_elements, cast, constant, index};
use super::{PG_CATALOG, PgParams, PgSession, PgStatement};
use crate::sql::error::SqlError;
use crate::sql::statement::parse_tokens;
use crate::sql::text::SqlText;

/// Bytes of parameters in a statement, counted at each place where one stands: a text of a megabyte
/// that stands in a thousand places would be a gigabyte.
const MAX_PARAMETER_BYTES: usize = 16 << 20;

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

/// Puts the parameters of a statement into it, and rewrites what DataFusion lacks.
pub(in crate::sql) fn rewrite(
    statement: &mut Statement,
    postgres: &PgStatement,
) -> Result<(), SqlError> {
    match statement {
        Statement::Explain(explain) => rewrite(&mut explain.statement, postgres),
        Statement::Statement(statement) => {
            if let SqlStatement::Query(query) = statement.as_mut() {
                if is_type_question(query) {
                    *statement = type_question()?;
                } else {
                    name_columns(query);
                }
            }
            let mut rewriter = Rewriter {
                session: &postgres.session,
                params: &postgres.params,
                left: MAX_PARAMETER_BYTES,
            };
            match statement.visit(&mut rewriter) {
                ControlFlow::Break(error) => Err(error),
                ControlFlow::Continue(()) => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// What asyncpg wants to know of types: a recursive query, of all that types of PostgreSQL can consist
/// of, which has one answer here.
const TYPE_QUESTION: &str = "SELECT oid, ns, name, kind, basetype, elemtype, elemdelim, \
    range_subtype, attrtypoids, attrnames, depth, basetype_name, elemtype_name, \
    range_subtype_name FROM pg_catalog.pg_typeinfo WHERE root = ANY($1::oid[]) ORDER BY depth DESC";

fn is_type_question(query: &Query) -> bool {
    let with = query.with.as_ref().filter(|with| with.recursive);
    with.is_some_and(|with| {
        let mut names = with
            .cte_tables
            .iter()
            .map(|cte| cte.alias.name.value.as_str());
        names.next() == Some("typeinfo_tree")
    })
}

fn type_question() -> Result<Box<SqlStatement>, SqlError> {
    let text = SqlText::read(TYPE_QUESTION, TYPE_QUESTION.len())?;
    match parse_tokens(text.tokens)?.pop_front() {
        Some(Statement::Statement(statement)) => Ok(statement),
        _ => Err(SqlError::Internal(
            "the question about types is none".to_owned(),
        )),
    }
}

struct Rewriter<'a> {
    session: &'a PgSession,
    params: &'a PgParams,
    /// Bytes of parameters that may still be put into the statement.
    left: usize,
}

impl VisitorMut for Rewriter<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        if empty::make_empty(query) {
            return ControlFlow::Continue(());
        }
        if let SetExpr::Select(select) = query.body.as_mut() {
            name_columns_of(select, false);
        }
        if let (Some(LimitClause::LimitOffset { limit, offset, .. }), PgParams::Types(_)) =
            (&mut query.limit_clause, self.params)
        {
            // Nothing else says of what type they are.
            let offset = offset.as_mut().map(|offset| &mut offset.value);
            for part in [limit.as_mut(), offset].into_iter().flatten() {
                if is_placeholder(part) {
                    let placeholder = std::mem::replace(part, null());
                    *part = cast(placeholder, DataType::BigInt(None));
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<SqlError> {
        let name = match relation.0.as_slice() {
            [only] => only.as_ident(),
            _ => None,
        };
        // The catalog comes first in every search path.
        if name.is_some_and(|name| is_catalog_table(&name.value)) {
            let schema = ObjectNamePart::Identifier(Ident::new(PG_CATALOG));
            relation.0.insert(0, schema);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<SqlError> {
        series_of_expressions(table);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                if let BinaryOperator::PGCustomBinaryOperator(parts) = op
                    && let Some(known) = parts.last().and_then(|name| operator(name))
                {
                    *op = known;
                }
                if is_comparison(op) && is_column(left) {
                    self.compared(right)?;
                }
            }
            Expr::Between {
                expr, low, high, ..
            } if is_column(expr) => {
                self.compared(low)?;
                self.compared(high)?;
            }
            Expr::InList { expr, list, .. } if is_column(expr) => {
                for item in list {
                    self.compared(item)?;
                }
            }
            Expr::InSubquery {
                expr: needle,
                subquery,
                negated,
            } if is_search_path(subquery) => {
                let path = self.session.setting("search_path").unwrap_or_default();
                let list = path.split(',').map(|name| match name.trim() {
                    "\"$user\"" => self.session.user.clone(),
                    name => name.to_owned(),
                });
                *expr = Expr::InList {
                    list: list.map(|name| text(&name)).collect(),
                    expr: std::mem::replace(needle, Box::new(null())),
                    negated: *negated,
                };
            }
            Expr::Subquery(query) => match empty::is_empty(query) {
                true => *expr = null(),
                false => one_row(query),
            },
            Expr::Exists { subquery, negated } if empty::is_empty(subquery) => {
                *expr = Expr::Value(Value::Boolean(*negated).into());
            }
            Expr::Collate { .. } => {
                while let Expr::Collate { expr: inner, .. } = expr {
                    *expr = std::mem::replace(inner, null());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expr {
            Expr::Value(_) => self.fill(expr, false)?,
            Expr::Function(call) => {
                let replaced = match self.called(call) {
                    Ok(replaced) => replaced,
                    Err(error) => return ControlFlow::Break(error),
                };
                if let Some(replaced) = replaced {
                    *expr = replaced;
                }
            }
            Expr::Cast {
                expr: inner,
                data_type,
                ..
            } => {
                if let Some(elements) = array_constant(inner, data_type) {
                    **inner = elements;
                }
                match cast_type(data_type) {
                    CastTo::Type(known) => *data_type = known,
                    CastTo::Function(name) => {
                        let inner = std::mem::replace(inner.as_mut(), null());
                        *expr = Expr::Function(function(name, [inner]));
                    }
                    CastTo::AsIs => {}
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Rewriter<'_> {
    /// What a column is compared with.
    fn compared(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        self.fill(expr, true)
    }

    /// Puts a parameter into its place.
    fn fill(&mut self, expr: &mut Expr, is_compared: bool) -> ControlFlow<SqlError> {
        let Expr::Value(value) = expr else {
            return ControlFlow::Continue(());
        };
        let Value::Placeholder(placeholder) = &value.value else {
            return ControlFlow::Continue(());
        };
        match self.constant(placeholder, is_compared) {
            Ok(Some(constant)) => *expr = constant,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }

    fn constant(&mut self, placeholder: &str, is_compared: bool) -> Result<Option<Expr>, SqlError> {
        if let PgParams::Values(values) = self.params
            && let Some(value) = values.get(index(placeholder)?)
        {
            let left = self.left.checked_sub(value.bytes());
            self.left = left.ok_or_else(|| {
                SqlError::BadRequest(format!(
                    "the parameters have more than {MAX_PARAMETER_BYTES} bytes at all places \
                     where they stand together"
                ))
            })?;
        }
        constant(self.params, placeholder, is_compared)
    }

    /// What stands for the call of a function; `None` is the call itself.
    fn called(&self, call: &mut Function) -> Result<Option<Expr>, SqlError> {
        if let [schema, _] = call.name.0.as_slice()
            && let Some(schema) = schema.as_ident()
            && [PG_CATALOG, "information_schema"].contains(&schema.value.as_str())
        {
            call.name.0.remove(0);
        }
        let Some(name) = call.name.0.first().and_then(|part| part.as_ident()) else {
            return Ok(None);
        };
        let name = name.value.to_lowercase();
        let session = self.session;
        Ok(Some(match name.as_str() {
            "current_user" | "session_user" | "user" | "current_role" => text(&session.user),
            "current_database" | "current_catalog" => {
                text(session.setting("database").unwrap_or_default())
            }
            "current_schema" => text(&session.schema),
            "current_schemas" => Expr::Array(Array {
                elem: match constant_argument(call, 0).as_deref() {
                    Some("true") => vec![text(PG_CATALOG), text(&session.schema)],
                    _ => vec![text(&session.schema)],
                },
                named: true,
            }),
            "version" => text(&session.version),
            "pg_backend_pid" => Expr::Value(Value::Number(session.pid.to_string(), false).into()),
            "current_setting" => {
                let Some(setting) = constant_argument(call, 0) else {
                    return Err(SqlError::BadRequest(
                        "current_setting() takes the name of a setting as a constant".to_owned(),
                    ));
                };
                match session.setting(&setting) {
                    Some(value) => text(value),
                    None if constant_argument(call, 1).as_deref() == Some("true") => null(),
                    None => {
                        return Err(SqlError::BadRequest(format!(
                            "unrecognized configuration parameter {setting:?}"
                        )));
                    }
                }
            }
            // The connection has set it.
            "set_config" => text(&constant_argument(call, 1).unwrap_or_default()),
            // ARRAY(SELECT ..)
            "array" => {
                let FunctionArguments::Subquery(query) =
                    std::mem::replace(&mut call.args, FunctionArguments::None)
                else {
                    return Ok(None);
                };
                if unnests_catalog(&query) {
                    return Ok(Some(null()));
                }
                let mut query = query;
                wrap_column(&mut query, "array_agg");
                Expr::Subquery(query)
            }
            _ => return Ok(None),
        }))
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

fn text(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).into())
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn is_placeholder(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

fn is_comparison(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

fn operator(name: &str) -> Option<BinaryOperator> {
    Some(match name {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

fn function<const N: usize>(name: &str, args: [Expr; N]) -> Function {
    let args = args.map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// A constant that a function is called with.
pub(super) fn constant_argument(call: &Function, nth: usize) -> Option<String> {
    let FunctionArguments::List(list) = &call.args else {
        return None;
    };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) = list.args.get(nth)
    else {
        return None;
    };
    match &value.value {
        Value::Boolean(value) => Some(value.to_string()),
        Value::Number(digits, _) => Some(digits.clone()),
        other => other.clone().into_string(),
    }
}

enum CastTo {
    AsIs,
    Type(DataType),
    /// A function of `functions` does it.
    Function(&'static str),
}

/// Where a cast leads.
fn cast_type(data_type: &DataType) -> CastTo {
    let name = match data_type {
        DataType::Regclass => return CastTo::Function("regclass"),
        DataType::CharacterVarying(_)
        | DataType::Character(_)
        | DataType::CharVarying(_)
        | DataType::Char(_)
        | DataType::Nvarchar(_)
        | DataType::JSON
        | DataType::JSONB
        | DataType::Uuid => return CastTo::Type(DataType::Text),
        DataType::Timestamp(Some(_), zone) => {
            return CastTo::Type(DataType::Timestamp(None, *zone));
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, size)) => {
            return match cast_type(item) {
                CastTo::Type(item) => CastTo::Type(DataType::Array(
                    ArrayElemTypeDef::SquareBracket(Box::new(item), *size),
                )),
                _ => CastTo::AsIs,
            };
        }
        DataType::Custom(name, _) => match name.0.last().and_then(|part| part.as_ident()) {
            Some(name) => name.value.to_lowercase(),
            None => return CastTo::AsIs,
        },
        _ => return CastTo::AsIs,
    };
    CastTo::Type(match name.as_str() {
        "regclass" => return CastTo::Function("regclass"),
        "regtype" => return CastTo::Function("regtype"),
        "regproc" | "regprocedure" => return CastTo::Function("regproc"),
        "regnamespace" => return CastTo::Function("regnamespace"),
        "regrole" => return CastTo::Function("pg_get_userbyid"),
        "text" | "name" | "char" | "bpchar" | "varchar" | "citext" | "json" | "jsonb" | "uuid"
        | "cstring" => DataType::Text,
        "oid" | "xid" | "cid" => DataType::IntUnsigned(None),
        "int2" => DataType::SmallInt(None),
        "int4" => DataType::Int(None),
        "int8" => DataType::BigInt(None),
        "float4" => DataType::Real,
        "float8" => DataType::DoublePrecision,
        "bool" => DataType::Boolean,
        "timestamptz" => {
            DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::Tz)
        }
        _ => return CastTo::AsIs,
    })
}

/// `'{a,b}'`, cast to an array, as the array.
fn array_constant(expr: &Expr, data_type: &DataType) -> Option<Expr> {
    let (Expr::Value(value), DataType::Array(_)) = (expr, data_type) else {
        return None;
    };
    let Value::SingleQuotedString(given) = &value.value else {
        return None;
    };
    let elements = array_elements(given)?.into_iter();
    let element = |element: Option<String>| element.map_or_else(null, |element| text(&element));
    Some(Expr::Array(Array {
        elem: elements.map(element).collect(),
        named: true,
    }))
}

/// Whether a query is the one by which Grafana cuts the search path into names: all that it reads
/// are functions of that setting.
fn is_search_path(query: &Query) -> bool {
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

/// Whether a query takes an array of the catalog apart: psql does so with options of tables, of which
/// there are none.
fn unnests_catalog(query: &Query) -> bool {
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
fn one_row(query: &mut Query) {
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
        wrap_column(query, "max");
    }
}

/// Calls a function with the one column of a query.
fn wrap_column(query: &mut Query, name: &str) {
    if let SetExpr::Select(select) = query.body.as_mut()
        && let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] =
            select.projection.as_mut_slice()
    {
        let column = std::mem::replace(expr, null());
        *expr = Expr::Function(function(name, [column]));
        if name == "array_agg" {
            query.order_by = None;
        }
    }
}

/// Whether an expression calls an aggregate function outside of subqueries.
pub(super) fn is_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Function(call) => {
            let name = call
                .name
                .0
                .last()
                .map(|part| part.to_string().to_lowercase());
            let is_one = name.is_some_and(|name| AGGREGATES.contains(&name.as_str()));
            is_one && call.over.is_none()
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) | Expr::UnaryOp { expr, .. } => {
            is_aggregate(expr)
        }
        Expr::BinaryOp { left, right, .. } => is_aggregate(left) || is_aggregate(right),
        _ => false,
    }
}

/// `generate_series(a, b) AS s(i)` with other arguments than constants as a list that is unnested.
fn series_of_expressions(table: &mut TableFactor) {
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
    *table = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(empty::select(vec![SelectItem::ExprWithAlias {
            expr: Expr::Function(unnested),
            alias: name,
        }])),
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::new(called),
            columns: Vec::new(),
            at: None,
        }),
        sample: None,
    };
}

fn column(name: Ident) -> datafusion::sql::sqlparser::ast::TableAliasColumnDef {
    datafusion::sql::sqlparser::ast::TableAliasColumnDef {
        name,
        data_type: None,
    }
}
