//! Databases, tables and how long they keep their rows, by the management API of InfluxDB 3:
//! `/api/v3/configure/database` and `/api/v3/configure/table`.
//!
//! `retention_period` is a duration (`30d`), `none` for what it is without one (a table then keeps
//! its rows as its database says), or `forever`. The retention of all metrics together is that of
//! the table `__metrics__`. Listing it, and setting it for a table that exists, are ours.
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidelake_catalog::Retention;
use tidelake_catalog::model::{ColumnType, METRICS_TABLE, Permissions};

use crate::http::app::App;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::node::backend::{parse_retention, show_retention};
use crate::service::context::{Admin, Delete, Read, RequestContext};
use crate::service::database::{check_base_name, check_name};
use crate::service::error::{Code, ServiceError};
use crate::sql::formats::{self, Format};

/// Largest request body.
const MAX_BYTES: usize = 1 << 20;

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    let databases = get(list_databases)
        .post(create_database)
        .put(update_database)
        .delete(drop_database);
    let tables = get(list_tables)
        .post(create_table)
        .put(update_table)
        .delete(drop_table);
    Router::new()
        .route("/api/v3/configure/database", databases)
        .route("/api/v3/configure/table", tables)
}

#[derive(Debug, Deserialize)]
struct DatabaseSettings {
    db: String,
    retention_period: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TableSettings {
    db: String,
    table: String,
    retention_period: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    fields: Vec<FieldSettings>,
}

#[derive(Debug, Deserialize)]
struct FieldSettings {
    name: String,
    r#type: String,
}

/// An answer, or an error in the words of InfluxDB 3.
pub fn respond(answer: Result<Response, ServiceError>) -> Response {
    answer.unwrap_or_else(|error| error.respond(Dialect::Influx))
}

/// A body that is a JSON object.
pub async fn read_body<T: DeserializeOwned>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, ServiceError> {
    let held = app.bodies.read(headers, body, MAX_BYTES).await?;
    serde_json::from_slice(&held.bytes)
        .map_err(|e| ServiceError::bad_request(format!("the body must be a JSON object: {e}")))
}

/// A parameter that must be there.
pub fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, ServiceError> {
    params
        .get(name)
        .ok_or_else(|| ServiceError::bad_request(format!("the parameter {name:?} is missing")))
}

fn read_retention(text: Option<&str>) -> Result<Retention, ServiceError> {
    match text {
        None | Some("none") => Ok(Retention::Inherit),
        Some(text) => parse_retention(text)
            .map_err(|why| ServiceError::bad_request(format!("retention_period: {why}"))),
    }
}

fn read_format(params: &Params, headers: &HeaderMap) -> Result<Format, ServiceError> {
    let format = Format::choose(
        params.get("format"),
        headers.get(ACCEPT).and_then(|v| v.to_str().ok()),
    )?;
    match format {
        Format::LineProtocol => Err(ServiceError::bad_request(
            "a list cannot be line protocol; use json, jsonl, csv, parquet or pretty",
        )),
        format => Ok(format),
    }
}

fn table_of(columns: Vec<(&str, Vec<String>)>, format: Format) -> Result<Response, ServiceError> {
    let columns = columns
        .into_iter()
        .map(|(name, texts)| (name, Arc::new(StringArray::from(texts)) as ArrayRef));
    let batch = RecordBatch::try_from_iter(columns)
        .map_err(|error| ServiceError::of(Code::Internal, error))?;
    formats::answer(format, &batch)
}

async fn list_databases(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let list = || {
        let format = read_format(&Params::from_query(query.as_deref()), &headers)?;
        let (names, retentions) = app
            .service
            .databases(&caller)?
            .into_iter()
            .map(|(name, retention)| (name.to_string(), show_retention(retention)))
            .unzip();
        table_of(
            vec![("iox::database", names), ("retention_period", retentions)],
            format,
        )
    };
    respond(list())
}

async fn create_database(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let create = async {
        let asked: DatabaseSettings = read_body(&app, &headers, body).await?;
        check_base_name(&asked.db)?;
        let access = caller.access(&asked.db)?;
        let retention = read_retention(asked.retention_period.as_deref())?;
        app.service.create_database(&access, retention).await?;
        Ok(StatusCode::OK.into_response())
    };
    respond(create.await)
}

async fn update_database(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let update = async {
        let asked: DatabaseSettings = read_body(&app, &headers, body).await?;
        let access = caller.access(&asked.db)?;
        let retention = read_retention(asked.retention_period.as_deref())?;
        app.service.set_retention(&access, None, retention).await?;
        Ok(StatusCode::OK.into_response())
    };
    respond(update.await)
}

/// Refuses times of deletion that we do not keep: what is dropped can be read for the time-travel
/// window and is then gone.
fn check_deletion_time(params: &Params) -> Result<(), ServiceError> {
    match params.get("hard_delete_at") {
        None | Some("now" | "default") => Ok(()),
        Some(other) => Err(ServiceError::bad_request(format!(
            "hard_delete_at {other:?} is not supported; use now or default"
        ))),
    }
}

async fn drop_database(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
) -> Response {
    let drop = async {
        let params = Params::from_query(query.as_deref());
        let access = caller.access(required(&params, "db")?)?;
        check_deletion_time(&params)?;
        app.service.drop_database(&access).await?;
        Ok(StatusCode::OK.into_response())
    };
    respond(drop.await)
}

async fn list_tables(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let list = || {
        let params = Params::from_query(query.as_deref());
        let access = caller.access::<Read>(required(&params, "db")?)?;
        let format = read_format(&params, &headers)?;
        let database = app.service.database(&access)?;
        let (names, retentions) = database
            .tables
            .values()
            .map(|t| (t.name.to_string(), show_retention(t.retention)))
            .unzip();
        table_of(
            vec![("table", names), ("retention_period", retentions)],
            format,
        )
    };
    respond(list())
}

fn column_type(name: &str) -> Result<ColumnType, ServiceError> {
    match name {
        "utf8" => Ok(ColumnType::String),
        "int64" => Ok(ColumnType::Integer),
        "uint64" => Ok(ColumnType::Unsigned),
        "float64" => Ok(ColumnType::Float),
        "bool" => Ok(ColumnType::Boolean),
        _ => Err(ServiceError::bad_request(format!(
            "unknown field type {name:?}; use utf8, int64, uint64, float64 or bool"
        ))),
    }
}

async fn create_table(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let create = async {
        let asked: TableSettings = read_body(&app, &headers, body).await?;
        check_name(&asked.db)?;
        let access = caller.access(&asked.db)?;
        let retention = read_retention(asked.retention_period.as_deref())?;
        let mut columns: Vec<(String, ColumnType)> = asked
            .tags
            .into_iter()
            .map(|tag| (tag, ColumnType::Tag))
            .collect();
        for field in asked.fields {
            columns.push((field.name, column_type(&field.r#type)?));
        }
        let created = app
            .service
            .create_table(&access, &asked.table, columns, retention);
        created.await?;
        Ok(StatusCode::OK.into_response())
    };
    respond(create.await)
}

async fn update_table(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let update = async {
        let asked: TableSettings = read_body(&app, &headers, body).await?;
        let access = caller.access(&asked.db)?;
        let retention = read_retention(asked.retention_period.as_deref())?;
        let set = app
            .service
            .set_retention(&access, Some(&asked.table), retention);
        set.await?;
        Ok(StatusCode::OK.into_response())
    };
    respond(update.await)
}

/// Drops a wide table; of a metric, and with `data_only=true`, all rows.
async fn drop_table(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
) -> Response {
    let drop = async {
        let params = Params::from_query(query.as_deref());
        let (database, table) = (required(&params, "db")?, required(&params, "table")?);
        check_deletion_time(&params)?;
        let data_only = match params.get("data_only") {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                return Err(ServiceError::bad_request(format!(
                    "data_only must be true or false, not {other:?}"
                )));
            }
        };
        // Whoever may do neither learns nothing of what there is.
        if !caller.may(database, Permissions::DELETE) {
            caller.access::<Admin>(database)?;
        }
        let service = &app.service;
        let snapshot = service.backend()?.catalog().snapshot();
        let is_stored = snapshot.table(database, table).is_some();
        // A metric is no table that could be dropped, and the table of all metrics never is.
        if data_only || table == METRICS_TABLE || !is_stored {
            let access = caller.access::<Delete>(database)?;
            if service.delete_all_rows(&access, table).await? {
                return Ok(StatusCode::OK.into_response());
            }
            if data_only {
                let message = format!("table {table:?} of database {database:?} does not exist");
                return Err(ServiceError::new(Code::NotFound, message));
            }
        }
        service.drop_table(&caller.access(database)?, table).await?;
        Ok(StatusCode::OK.into_response())
    };
    respond(drop.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_periods() {
        let check = |text: Option<&str>, expected: Option<Retention>| {
            assert_eq!(read_retention(text).ok(), expected, "{text:?}")
        };
        check(None, Some(Retention::Inherit));
        check(Some("none"), Some(Retention::Inherit));
        check(Some("forever"), Some(Retention::Forever));
        check(Some("30d"), Some(Retention::Millis(2_592_000_000)));
        check(Some("0"), None);
        check(Some(""), None);
    }
}
