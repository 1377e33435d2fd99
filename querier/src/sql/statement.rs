//! From text to a statement that may be planned.
//!
//! The parser, the planner and the expressions at run time are recursive and do not watch their
//! stack, so this module refuses what would be too deep for any of them before they see it. The
//! chain that programs write most, `host = 'a' OR host = 'b' OR ...`, becomes an `IN` list here and
//! so has no depth.
//!
//! Only statements that read are let through; those that change something are [`super::command`]'s.
//! The list names what is allowed, so that a statement which a later parser learns stays refused.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, ObjectName, Query, SetExpr, Statement as SqlStatement, TableFactor,
    Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;

use super::error::SqlError;
use super::postgres;
use super::retention::SHOW_RETENTION;
use super::text::SqlText;

/// Nested constructs that the parser follows.
const MAX_PARSER_DEPTH: usize = 64;
/// Operators inside operators, after chains of comparisons became lists.
const MAX_EXPRESSION_DEPTH: usize = 128;
/// Tables in all `FROM` clauses, with the ones in common table expressions counted at each use.
const MAX_RELATIONS: u64 = 256;
/// `UNION`, `EXCEPT` and `INTERSECT` in one query.
const MAX_SET_OPERATIONS: usize = 128;
/// `WITH` inside `WITH`; names are resolved twice per level.
const MAX_WITH_DEPTH: usize = 8;
/// Chains shorter than this stay as they are.
const MIN_CHAIN: usize = 8;

/// The one statement in a text, if it may run. Needs a large stack: see [`super::planning`].
pub(super) fn parse(text: SqlText) -> Result<Statement, SqlError> {
    let mut statements = parse_tokens(text.tokens)?;
    let Some(mut statement) = statements.pop_front() else {
        return Err(SqlError::BadRequest(
            "the SQL text has no statement".to_owned(),
        ));
    };
    if !statements.is_empty() {
        return Err(SqlError::BadRequest(format!(
            "the SQL text has {} statements; send them one by one",
            statements.len() + 1
        )));
    }
    if is_show_retention(&statement) {
        let mut shown = SqlText::read(SHOW_RETENTION, SHOW_RETENTION.len())?;
        shown.postgres = text.postgres;
        return parse(shown);
    }
    check_allowed(&statement, &text.first_words)?;
    shape(&mut statement)?;
    if let Some(postgres) = &text.postgres {
        postgres::rewrite(&mut statement, postgres)?;
    }
    Ok(statement)
}

fn is_show_retention(statement: &Statement) -> bool {
    let Statement::Statement(statement) = statement else {
        return false;
    };
    matches!(statement.as_ref(), SqlStatement::ShowVariable { variable }
        if matches!(variable.as_slice(), [one] if one.value.eq_ignore_ascii_case("retention")))
}

/// The statements of a text, as long as they are not too deep for the parser.
pub(super) fn parse_tokens(tokens: Vec<TokenWithSpan>) -> Result<VecDeque<Statement>, SqlError> {
    DFParserBuilder::new(tokens)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(MAX_PARSER_DEPTH)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| match SqlError::from(error) {
            SqlError::Syntax(message) if message.contains("recursion limit") => {
                SqlError::BadRequest(format!(
                    "the SQL text is nested too deeply: {MAX_PARSER_DEPTH} levels are allowed"
                ))
            }
            other => other,
        })
}

fn too_complex(what: &str, limit: impl std::fmt::Display) -> SqlError {
    SqlError::BadRequest(format!(
        "the query is too complex: more than {limit} {what}"
    ))
}

fn check_allowed(statement: &Statement, first_words: &str) -> Result<(), SqlError> {
    let allowed = match statement {
        Statement::Explain(explain) => return check_allowed(&explain.statement, first_words),
        Statement::Statement(statement) => match statement.as_ref() {
            SqlStatement::Query(_)
            | SqlStatement::ExplainTable { .. }
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ShowVariable { .. }
            | SqlStatement::ShowVariables { .. } => true,
            SqlStatement::Explain { statement, .. } => {
                matches!(statement.as_ref(), SqlStatement::Query(_))
            }
            _ => false,
        },
        Statement::CopyTo(_) => {
            return Err(SqlError::BadRequest(
                "COPY ... TO a file is not supported: the server writes no files of its host. Use \
                 tidelake export, or over PostgreSQL's protocol COPY (SELECT ...) TO STDOUT"
                    .to_owned(),
            ));
        }
        Statement::CreateExternalTable(_) | Statement::Reset(_) => false,
    };
    if allowed {
        return Ok(());
    }
    // Named by the text: to print the statement would recurse as deep as it is.
    Err(SqlError::BadRequest(format!(
        "{first_words} is not supported: there are SELECT, WITH, VALUES, EXPLAIN, SHOW and \
         DESCRIBE, and by POST DELETE, DROP and ALTER ... SET (retention = ...)"
    )))
}

/// Rewrites long chains and measures what is left.
pub(super) fn shape(statement: &mut Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Explain(explain) => shape(&mut explain.statement),
        Statement::Statement(statement) => {
            let mut shaper = Shaper::default();
            shaper.queries.push(QueryScope::default());
            if let ControlFlow::Break(error) = statement.visit(&mut shaper) {
                return Err(error);
            }
            let relations = shaper.queries.pop().map_or(0, |scope| scope.relations);
            if relations > MAX_RELATIONS {
                Err(too_complex("tables", MAX_RELATIONS))
            } else {
                Ok(())
            }
        }
        _ => Ok(()),
    }
}

/// A query being walked.
#[derive(Default)]
struct QueryScope {
    /// Tables so far, with the ones behind names of common table expressions.
    relations: u64,
    /// Names of common table expressions whose queries are still to come: they are the first
    /// children.
    pending: VecDeque<String>,
    has_with: bool,
}

#[derive(Default)]
struct Shaper {
    depth: usize,
    with_depth: usize,
    queries: Vec<QueryScope>,
    /// How many tables a common table expression stands for.
    weights: HashMap<String, u64>,
}

impl Shaper {
    fn enter(&mut self) -> ControlFlow<SqlError> {
        self.depth += 1;
        if self.depth > MAX_EXPRESSION_DEPTH {
            return ControlFlow::Break(too_complex(
                "operators inside operators (use IN for long lists)",
                MAX_EXPRESSION_DEPTH,
            ));
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Shaper {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        self.enter()?;
        let mut scope = QueryScope::default();
        if let Some(with) = &query.with {
            scope.has_with = true;
            self.with_depth += 1;
            if self.with_depth > MAX_WITH_DEPTH {
                return ControlFlow::Break(too_complex(
                    "WITH clauses inside each other",
                    MAX_WITH_DEPTH,
                ));
            }
            scope.pending = with
                .cte_tables
                .iter()
                .map(|cte| cte.alias.name.value.clone())
                .collect();
        }
        self.queries.push(scope);
        let (mut operations, mut pending) = (0usize, vec![query.body.as_ref()]);
        while let Some(body) = pending.pop() {
            if let SetExpr::SetOperation { left, right, .. } = body {
                operations += 1;
                pending.extend([left.as_ref(), right.as_ref()]);
            }
        }
        if operations > MAX_SET_OPERATIONS {
            return ControlFlow::Break(too_complex(
                "set operations (UNION, EXCEPT, INTERSECT)",
                MAX_SET_OPERATIONS,
            ));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        let Some(done) = self.queries.pop() else {
            return ControlFlow::Continue(());
        };
        if done.has_with {
            self.with_depth -= 1;
        }
        if let Some(parent) = self.queries.last_mut() {
            match parent.pending.pop_front() {
                Some(name) => {
                    self.weights.insert(name, done.relations.saturating_add(1));
                }
                None => parent.relations = parent.relations.saturating_add(done.relations),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<SqlError> {
        let weight = match relation.0.as_slice() {
            [part] => part
                .as_ident()
                .and_then(|ident| self.weights.get(&ident.value))
                .copied()
                .unwrap_or(1),
            _ => 1,
        };
        if let Some(scope) = self.queries.last_mut() {
            scope.relations = scope.relations.saturating_add(weight);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, _: &mut TableFactor) -> ControlFlow<SqlError> {
        self.enter()
    }

    fn post_visit_table_factor(&mut self, _: &mut TableFactor) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if matches!(
            expr,
            Expr::BinaryOp {
                op: BinaryOperator::Or,
                ..
            }
        ) {
            shorten_chain(expr);
        }
        self.enter()
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// A chain of `OR`s with its comparisons of one column with literals merged into `IN` lists. `IN`
/// means exactly such a chain, NULLs included.
fn shorten_chain(expr: &mut Expr) {
    let whole = std::mem::replace(expr, Expr::Value(Value::Null.into()));
    let (mut terms, mut pending) = (Vec::new(), vec![whole]);
    while let Some(part) = pending.pop() {
        match part {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Or,
                right,
            } => pending.extend([*right, *left]),
            term => terms.push(term),
        }
    }
    let terms = if terms.len() >= MIN_CHAIN {
        merge_comparisons(terms)
    } else {
        terms
    };
    let joined = terms.into_iter().reduce(|left, right| Expr::BinaryOp {
        left: left.into(),
        op: BinaryOperator::Or,
        right: right.into(),
    });
    if let Some(joined) = joined {
        *expr = joined;
    }
}

fn merge_comparisons(terms: Vec<Expr>) -> Vec<Expr> {
    let mut merged: Vec<Expr> = Vec::new();
    let mut lists: HashMap<(String, bool), usize> = HashMap::new();
    for term in terms {
        let Some(key) = comparison_key(&term) else {
            merged.push(term);
            continue;
        };
        let Expr::BinaryOp { left, op, right } = term else {
            merged.push(term);
            continue;
        };
        match lists.get(&key).and_then(|&at| merged.get_mut(at)) {
            Some(Expr::InList { list, .. }) => list.push(*right),
            _ => {
                lists.insert(key, merged.len());
                if op == BinaryOperator::Eq {
                    merged.push(Expr::InList {
                        expr: left,
                        list: vec![*right],
                        negated: false,
                    });
                } else {
                    merged.push(Expr::BinaryOp { left, op, right });
                }
            }
        }
    }
    merged
}

/// Column and kind of literal of `column = literal`. Texts and numbers stay apart: in one list they
/// would be compared as texts.
fn comparison_key(term: &Expr) -> Option<(String, bool)> {
    let Expr::BinaryOp {
        left,
        op: BinaryOperator::Eq,
        right,
    } = term
    else {
        return None;
    };
    let Expr::Value(literal) = right.as_ref() else {
        return None;
    };
    let is_text = match literal.value {
        Value::SingleQuotedString(_) => true,
        Value::Number(..) => false,
        _ => return None,
    };
    matches!(
        left.as_ref(),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_)
    )
    .then(|| (left.to_string(), is_text))
}
