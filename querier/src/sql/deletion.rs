//! From the conditions of a `DELETE` to what a tombstone says: matchers and a range of times.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::sql::parser::Statement;
use tidelake_catalog::model::{MatchOp, TimeRange};

use super::SqlParam;
use super::catalog::{Database, INFORMATION_SCHEMA, METRICS_SCHEMA, PUBLIC_SCHEMA};
use super::command::{Command, Draft, TableDraft};
use super::error::SqlError;
use super::limits::QueryLimits;
use super::pushdown::{Pushed, contains, translate};
use super::session::{self, Basis, Session};
use super::source::RowSource;
use super::view::TableView;

/// Characters of a condition that an error quotes.
const QUOTED_CHARS: usize = 200;
const ALLOWED: &str = "a delete takes whole rows of whole series: its conditions, joined by AND, \
                       compare a tag with constant texts (=, !=, IN, NOT IN, LIKE, NOT LIKE, ~, \
                       !~, IS NULL, IS NOT NULL) or time with constants (=, <, <=, >, >=, BETWEEN)";

/// Looks up the names of a command.
pub(super) async fn resolve(
    template: &SessionState,
    source: Arc<dyn RowSource>,
    db: &str,
    draft: Draft,
    params: HashMap<String, SqlParam>,
    limits: &Arc<QueryLimits>,
) -> Result<Command, SqlError> {
    // These name their database themselves.
    let draft = match draft {
        Draft::DatabaseRetention { name, retention } => {
            return Ok(Command::SetRetention {
                database: name,
                table: None,
                retention,
            });
        }
        Draft::DropDatabase { name, if_exists } => {
            return Ok(Command::DropDatabase {
                database: name,
                if_exists,
            });
        }
        Draft::OfDatabase(draft) => draft,
    };
    let database = &Database::open(source, db)?;
    match draft {
        TableDraft::Delete(select) => delete(template, database, db, *select, params, limits).await,
        TableDraft::DropTable { name, if_exists } => {
            let (schema, table) = qualified(db, name)?;
            match database.view(&schema, &table).await? {
                None if if_exists => Ok(Command::Nothing),
                None => Err(database.no_table(&schema, &table)),
                // Metrics share a table: what can be dropped of it is their rows.
                Some(view) if !view.matchers.is_empty() => Ok(everything_of(&view)),
                Some(view) => Ok(Command::DropTable {
                    table: view.table.to_string(),
                }),
            }
        }
        TableDraft::TableRetention { name, retention } => {
            let (schema, table) = qualified(db, name)?;
            let view = database
                .view(&schema, &table)
                .await?
                .ok_or_else(|| database.no_table(&schema, &table))?;
            if !view.matchers.is_empty() {
                return Err(SqlError::BadRequest(format!(
                    "{table:?} is a metric, and all metrics of a database have one retention: \
                     ALTER SCHEMA {METRICS_SCHEMA} SET (retention = '...')"
                )));
            }
            Ok(Command::SetRetention {
                database: db.to_owned(),
                table: Some(view.table.to_string()),
                retention,
            })
        }
        TableDraft::SchemaRetention { name, retention } => {
            if name != [METRICS_SCHEMA] {
                return Err(SqlError::BadRequest(format!(
                    "schema {:?} has no retention of its own: there are ALTER SCHEMA \
                     {METRICS_SCHEMA} (all metrics), ALTER TABLE and ALTER DATABASE",
                    name.join(".")
                )));
            }
            let table = tidelake_catalog::model::METRICS_TABLE.to_owned();
            Ok(Command::SetRetention {
                database: db.to_owned(),
                table: Some(table),
                retention,
            })
        }
    }
}

/// Schema and name of a table; the error says what cannot be named.
fn qualified(db: &str, mut name: Vec<String>) -> Result<(String, String), SqlError> {
    let table = name.pop().unwrap_or_default();
    let schema = name.pop().unwrap_or_else(|| PUBLIC_SCHEMA.to_owned());
    match name.pop() {
        Some(other) if other != db || !name.is_empty() => Err(SqlError::NotFound(format!(
            "database {other:?} not found: a statement is about one database, this one about \
             {db:?}"
        ))),
        _ if schema == INFORMATION_SCHEMA => Err(only_describes(&schema)),
        _ => Ok((schema, table)),
    }
}

fn only_describes(schema: &str) -> SqlError {
    SqlError::BadRequest(format!("schema {schema:?} only describes the others"))
}

fn everything_of(view: &TableView) -> Command {
    Command::Delete {
        table: view.table.to_string(),
        matchers: view.matchers.clone(),
        range: TimeRange::ALL,
    }
}

async fn delete(
    template: &SessionState,
    database: &Arc<Database>,
    db: &str,
    select: Statement,
    params: HashMap<String, SqlParam>,
    limits: &Arc<QueryLimits>,
) -> Result<Command, SqlError> {
    // Before it is planned: the planner has other words for it.
    for name in template.resolve_table_references(&select)? {
        let name = name.resolve(db, PUBLIC_SCHEMA);
        if &*name.schema == INFORMATION_SCHEMA {
            return Err(only_describes(&name.schema));
        }
    }
    let Session {
        state,
        plan,
        tables,
    } = session::logical(
        template,
        database,
        db,
        select,
        None,
        None,
        limits,
        Basis::default(),
    )
    .await?;
    let plan = session::with_params(plan, params)?;
    let [name] = tables.as_slice() else {
        return Err(refused("more than one table"));
    };
    let (schema, table) = qualified(db, vec![name.schema.to_string(), name.table.to_string()])?;
    let view = database
        .view(&schema, &table)
        .await?
        .ok_or_else(|| database.no_table(&schema, &table))?;
    // Constants are folded and types made equal by the optimizer; whatever else it makes of the
    // plan is refused.
    let plan = state.optimize(&plan)?;
    let mut conditions = Vec::new();
    let mut node = &plan;
    loop {
        node = match node {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Filter(filter) => {
                conditions.extend(split_conjunction(&filter.predicate));
                &filter.input
            }
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
                conditions.extend(scan.filters.iter().flat_map(split_conjunction));
                break;
            }
            // The conditions contradict each other.
            LogicalPlan::EmptyRelation(_) => return Ok(Command::Nothing),
            _ => return Err(refused("a subquery")),
        };
    }
    let mut matchers = view.matchers.clone();
    let mut range = TimeRange::ALL;
    for condition in conditions {
        let Some(pushed) = pattern(condition, &view)
            .or_else(|| translate(condition, &view).filter(|pushed| pushed.exact))
        else {
            return Err(refused(&format!("the condition {condition}")));
        };
        matchers.extend(pushed.matchers);
        range = range.intersect(&pushed.range);
        if pushed.nothing || range.is_empty() {
            return Ok(Command::Nothing);
        }
    }
    Ok(Command::Delete {
        table: view.table.to_string(),
        matchers,
        range,
    })
}

fn refused(what: &str) -> SqlError {
    let what: String = what.chars().take(QUOTED_CHARS).collect();
    SqlError::BadRequest(format!("DELETE cannot use {what}: {ALLOWED}"))
}

/// `tag ~ 'pattern'` and `tag !~ 'pattern'`, which a query checks again on the rows and a delete
/// cannot.
fn pattern(condition: &Expr, view: &TableView) -> Option<Pushed> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
        return None;
    };
    match op {
        Operator::RegexMatch => contains(left, MatchOp::Regex, right, view),
        Operator::RegexNotMatch => contains(left, MatchOp::NotRegex, right, view),
        _ => None,
    }
}
