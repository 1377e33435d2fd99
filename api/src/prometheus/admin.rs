//! Deletes by Prometheus' administration API: `/api/v1/admin/tsdb/delete_series` and
//! `clean_tombstones`.
//!
//! Prometheus has them behind a flag. Here they are always on, as SQL's `DELETE` and InfluxDB's
//! `/api/v2/delete` are on the same port: a lock on one of several doors would only look safe.
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tidelake_catalog::model::{METRICS_TABLE, Matcher, TimeRange};

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::prometheus::labels::read_selector;
use crate::prometheus::params as parameters;
use crate::prometheus::query::read_params;
use crate::service::context::{Delete, RequestContext};
use crate::service::error::ServiceError;
use crate::service::maintain::Deletion;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/api/v1/admin/tsdb/delete_series",
            post(delete_series).put(delete_series),
        )
        .route(
            "/api/v1/admin/tsdb/clean_tombstones",
            post(clean_tombstones).put(clean_tombstones),
        )
}

async fn delete_series(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = delete(&app, &caller, &path, query.as_deref(), &headers, body).await;
    answer.map_or_else(
        |e| e.respond(Dialect::Prometheus),
        |()| StatusCode::NO_CONTENT.into_response(),
    )
}

/// Checks all selectors before anything is deleted.
async fn delete(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), ServiceError> {
    let access = caller.access::<Delete>(&database::of_prometheus(path, headers)?)?;
    let database = access.database();
    let params = read_params(app, query, headers, body).await?;
    let min = parameters::time_or(&params, "start", TimeRange::ALL.min)?;
    let max = parameters::time_or(&params, "end", TimeRange::ALL.max)?;
    if max < min {
        return Err(parameters::invalid(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let range = TimeRange::new(min, max);
    let selectors = params
        .all("match[]")
        .map(read_selector)
        .collect::<Result<Vec<Vec<Matcher>>, _>>();
    let selectors = selectors.map_err(|why| parameters::invalid("match[]", why))?;
    if selectors.is_empty() {
        return Err(ServiceError::bad_request("no match[] parameter provided"));
    }
    app.service.meet().await?;
    let backend = app.service.backend()?;
    for selector in &selectors {
        if let Some((table, metric)) = backend
            .querier
            .selected_field(database, selector, range)
            .await?
        {
            return Err(parameters::invalid(
                "match[]",
                format!(
                    "{} selects {metric}, a field of table {table:?}, whose rows can only be \
                     deleted as a whole: use the SQL statement DELETE FROM \"{table}\" WHERE ..., \
                     or a selector of metrics only",
                    show(selector)
                ),
            ));
        }
    }
    if backend
        .catalog()
        .snapshot()
        .table(database, METRICS_TABLE)
        .is_none()
    {
        return Ok(());
    }
    let deletion = |matchers| Deletion {
        table: METRICS_TABLE.to_owned(),
        matchers,
        range,
    };
    let deletions = selectors.into_iter().map(deletion).collect();
    app.service.delete(&access, deletions).await.map(drop)
}

fn show(selector: &[Matcher]) -> String {
    let text = selector
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    format!("{{{}}}", text.chars().take(200).collect::<String>())
}

/// Merges everything, by which deleted rows leave the segments. Their files stay for the
/// time-travel window.
async fn clean_tombstones(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let work = async { app.service.compact(&caller.server()?).await };
    work.await.map_or_else(
        |e| e.respond(Dialect::Prometheus),
        |()| StatusCode::NO_CONTENT.into_response(),
    )
}
