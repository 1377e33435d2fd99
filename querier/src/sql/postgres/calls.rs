//! Calls of functions that tell of the session, and of those that DataFusion has in another form.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Array, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value,
};

use super::parts::{function, null, select, text};
use super::rewrite::Budget;
use super::subqueries::{array_of, unnests_catalog};
use super::{PG_CATALOG, PgSession};
use crate::sql::error::SqlError;

/// Memory of all settings of a session as an expression.
const SETTINGS_BYTES: usize = 128 << 10;

/// What stands for the call of a function; `None` is the call itself.
///
/// # Errors
/// If it cannot be called so, or has no place in the budget.
pub(super) fn replaced(
    call: &mut Function,
    session: &PgSession,
    budget: &mut Budget,
) -> Result<Option<Expr>, SqlError> {
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
                budget.spend(SETTINGS_BYTES)?;
                return setting_of_name(call, session).map(Some);
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
            let FunctionArguments::Subquery(query) = &mut call.args else {
                return Ok(None);
            };
            match unnests_catalog(query) {
                true => null(),
                false => {
                    let query = std::mem::replace(query.as_mut(), select(Vec::new()));
                    Expr::Subquery(Box::new(array_of(query)?))
                }
            }
        }
        _ => return Ok(None),
    }))
}

/// `current_setting()` of a name that is no constant. Unknown names have no value.
fn setting_of_name(call: &Function, session: &PgSession) -> Result<Expr, SqlError> {
    let FunctionArguments::List(list) = &call.args else {
        return Err(no_name());
    };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(name))) = list.args.first() else {
        return Err(no_name());
    };
    let lower = |name| Expr::Function(function("lower", [name]));
    let settings = session.settings.iter().map(|(name, value, _)| CaseWhen {
        condition: text(&name.to_lowercase()),
        result: text(value),
    });
    Ok(Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: Some(Box::new(lower(name.clone()))),
        conditions: settings.collect(),
        else_result: None,
    })
}

fn no_name() -> SqlError {
    SqlError::BadRequest("current_setting() takes the name of a setting".to_owned())
}

/// A constant that a function is called with.
fn constant_argument(call: &Function, nth: usize) -> Option<String> {
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
