//! Constructs of PostgreSQL that DataFusion lacks, as ones that it has.
//!
//! A statement comes here after its depth was bounded. What a rule makes is a few levels deeper at
//! most, and every rule is applied once to each part.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Ident, LimitClause, ObjectName, ObjectNamePart, Query, SetExpr,
    Statement as SqlStatement, TableFactor, Value, VisitMut, VisitorMut,
};

use super::casts::{CastTo, array_constant, cast_type};
use super::names::{name_columns, name_columns_of};
use super::parts::{function, null, text};
use super::subqueries::{is_search_path, one_row, series_of_expressions};
use super::tables::is_catalog_table;
use super::values::{cast, constant, index};
use super::{PG_CATALOG, PgParams, PgSession, PgStatement, calls, empty};
use crate::sql::error::SqlError;
use crate::sql::statement::parse_tokens;
use crate::sql::text::SqlText;

/// Bytes that may be put into a statement, counted at each place where they stand: a parameter of a
/// megabyte that stands in a thousand places would be a gigabyte.
const MAX_ADDED_BYTES: usize = 16 << 20;

/// Bytes that may still be put into a statement.
pub(super) struct Budget(usize);

impl Budget {
    /// Takes some of them.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn spend(&mut self, bytes: usize) -> Result<(), SqlError> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or_else(|| {
            SqlError::BadRequest(format!(
                "parameters and settings have more than {MAX_ADDED_BYTES} bytes at all places \
                 where they stand together"
            ))
        })?;
        Ok(())
    }
}

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
                budget: Budget(MAX_ADDED_BYTES),
            };
            match statement.visit(&mut rewriter) {
                ControlFlow::Break(error) => Err(error),
                ControlFlow::Continue(()) => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// What asyncpg asks about types: a recursive query of all that types of PostgreSQL can consist of,
/// which has one answer here.
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
    budget: Budget,
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
                let replaced = match calls::replaced(call, self.session, &mut self.budget) {
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
            self.budget.spend(value.bytes())?;
        }
        constant(self.params, placeholder, is_compared)
    }
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
