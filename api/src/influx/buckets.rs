//! Buckets and organizations as the clients of InfluxDB 2 look for them: `/api/v2/buckets` and
//! `/api/v2/orgs`.
//!
//! A bucket is a database, or `database/policy`. There is one organization, which has the name that
//! a request gives it. The id of a bucket follows from its name, so that every process gives the
//! same and none is kept.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tidelake_catalog::Retention;
use xxhash_rust::xxh3::xxh3_64;

use super::configure::read_body;
use crate::http::app::App;
use crate::http::database::path_value;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::service::context::RequestContext;
use crate::service::database::check_base_name;
use crate::service::error::{Code, ServiceError};

/// The id of the only organization.
const ORGANIZATION: &str = "0000000000000001";
/// Its name where a request gives it none.
const ORGANIZATION_NAME: &str = "tidelake";
/// Buckets of an answer, unless the request says how many.
const PAGE: usize = 20;

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v2/orgs", get(organizations))
        .route("/api/v2/buckets", get(list).post(create))
        .route(
            "/api/v2/buckets/{id}",
            get(one).patch(update).delete(drop_one),
        )
}

#[derive(Debug, Deserialize)]
struct NewBucket {
    name: String,
    #[serde(default, rename = "retentionRules")]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct ChangedBucket {
    name: Option<String>,
    #[serde(rename = "retentionRules")]
    rules: Option<Vec<Rule>>,
}

/// How long points are kept; 0 is for ever.
#[derive(Debug, Deserialize)]
struct Rule {
    #[serde(rename = "everySeconds")]
    seconds: u64,
}

fn respond(answer: Result<Response, ServiceError>) -> Response {
    answer.unwrap_or_else(|error| error.respond(Dialect::InfluxV2))
}

fn id_of(name: &str) -> String {
    format!("{:016x}", xxh3_64(name.as_bytes()))
}

fn retention(rules: &[Rule]) -> Result<Retention, ServiceError> {
    match rules {
        [] => Ok(Retention::Inherit),
        [Rule { seconds: 0 }] => Ok(Retention::Forever),
        [rule] => Ok(Retention::Millis(rule.seconds.saturating_mul(1000))),
        _ => Err(ServiceError::bad_request(
            "a bucket has one retention rule: everySeconds",
        )),
    }
}

fn shown(name: &str, retention: Retention) -> Value {
    let seconds = match retention {
        Retention::Millis(ms) => ms / 1000,
        Retention::Inherit | Retention::Forever => 0,
    };
    let is_system = name.starts_with('_');
    json!({
        "id": id_of(name),
        "orgID": ORGANIZATION,
        "type": if is_system { "system" } else { "user" },
        "name": name,
        "retentionRules": [{ "type": "expire", "everySeconds": seconds }],
        "labels": [],
    })
}

async fn organizations(
    Extension(_caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
) -> Response {
    let params = Params::from_query(query.as_deref());
    let name = params.get("org").unwrap_or(ORGANIZATION_NAME);
    Json(json!({ "orgs": [{ "id": ORGANIZATION, "name": name }] })).into_response()
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
) -> Response {
    let list = || {
        let params = Params::from_query(query.as_deref());
        let number = |name: &str, otherwise: usize| match params.get(name) {
            None => Ok(otherwise),
            Some(text) => text.parse().map_err(|_| {
                let shown: String = text.chars().take(40).collect();
                ServiceError::bad_request(format!("the parameter {name:?} is no number: {shown:?}"))
            }),
        };
        let (offset, limit) = (number("offset", 0)?, number("limit", PAGE)?);
        let asked = |name: &str| {
            params.get("name").is_none_or(|asked| asked == name)
                && params.get("id").is_none_or(|id| id == id_of(name))
        };
        let found = app.service.databases(&caller)?.into_iter();
        let found: Vec<Value> = found
            .filter(|(name, _)| asked(name))
            .skip(offset)
            .take(limit)
            .map(|(name, retention)| shown(&name, retention))
            .collect();
        Ok(Json(json!({ "buckets": found })).into_response())
    };
    respond(list())
}

fn not_found(what: &str) -> ServiceError {
    let shown: String = what.chars().take(120).collect();
    ServiceError::new(Code::NotFound, format!("bucket {shown:?} not found"))
}

/// The bucket of an id in the path, among those of which the caller may know.
fn named(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
) -> Result<(Arc<str>, Retention), ServiceError> {
    let id = path_value(path, "id").unwrap_or_default();
    let mut known = app.service.databases(caller)?.into_iter();
    known
        .find(|(name, _)| id_of(name) == id)
        .ok_or_else(|| not_found(id))
}

async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
) -> Response {
    respond(
        named(&app, &caller, &path).map(|(name, kept)| Json(shown(&name, kept)).into_response()),
    )
}

async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let create = async {
        let asked: NewBucket = read_body(&app, &headers, body).await?;
        check_base_name(&asked.name)?;
        let access = caller.access(&asked.name)?;
        let kept = retention(&asked.rules)?;
        app.service.create_database(&access, kept).await?;
        Ok((StatusCode::CREATED, Json(shown(&asked.name, kept))).into_response())
    };
    respond(create.await)
}

async fn update(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let update = async {
        let asked: ChangedBucket = read_body(&app, &headers, body).await?;
        let (name, kept) = named(&app, &caller, &path)?;
        let access = caller.access(&name)?;
        if asked.name.is_some_and(|new| *new != *name) {
            return Err(ServiceError::bad_request(
                "a bucket keeps its name: make another one",
            ));
        }
        let Some(rules) = asked.rules else {
            return Ok(Json(shown(&name, kept)).into_response());
        };
        let kept = retention(&rules)?;
        app.service.set_retention(&access, None, kept).await?;
        Ok(Json(shown(&name, kept)).into_response())
    };
    respond(update.await)
}

async fn drop_one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
) -> Response {
    let drop = async {
        let (name, _) = named(&app, &caller, &path)?;
        app.service.drop_database(&caller.access(&name)?).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    respond(drop.await)
}
