//! Tokens, by the management API of InfluxDB 3: `/api/v3/configure/token` and below, and
//! `/api/v3/enterprise/configure/token` for tokens that allow something of some databases.
//!
//! Listing them, and the actions `delete` and `admin`, are ours. A list has no secrets.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use chrono::{DateTime, SecondsFormat};
use serde::Deserialize;
use serde_json::{Value, json};
use tidelake_catalog::model::{Permissions, Scope, Token};

use crate::http::app::App;
use crate::http::params::Params;
use crate::influx::configure::{read_body, required, respond};
use crate::service::context::{RequestContext, ServerAccess};
use crate::service::error::ServiceError;
use crate::service::first_token::FIRST_TOKEN;
use crate::service::tokens::TokenRequest;

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v3/configure/token", get(list).delete(revoke))
        .route("/api/v3/configure/token/admin", post(create_admin))
        .route(
            "/api/v3/configure/token/admin/regenerate",
            post(regenerate_admin),
        )
        .route(
            "/api/v3/configure/token/named_admin",
            post(create_named_admin),
        )
        .route("/api/v3/enterprise/configure/token", post(create_scoped))
}

#[derive(Debug, Deserialize)]
struct NamedAdmin {
    token_name: String,
    expiry_secs: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Scoped {
    token_name: String,
    permissions: Vec<Permission>,
    expiry_secs: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Permission {
    resource_type: String,
    resource_names: Vec<String>,
    actions: Vec<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let list = || {
        let tokens = app.service.tokens(&caller.server()?)?;
        let shown: Vec<Value> = tokens.iter().map(show).collect();
        Ok(Json(shown).into_response())
    };
    respond(list())
}

async fn revoke(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
) -> Response {
    let revoke = async {
        let access = caller.server()?;
        let params = Params::from_query(query.as_deref());
        let name = required(&params, "token_name")?;
        app.service.revoke_token(&access, name).await?;
        Ok(StatusCode::OK.into_response())
    };
    respond(revoke.await)
}

async fn create_admin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    respond(admin(&app, &caller, FIRST_TOKEN.to_owned(), None, false).await)
}

async fn regenerate_admin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    respond(admin(&app, &caller, FIRST_TOKEN.to_owned(), None, true).await)
}

async fn create_named_admin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let create = async {
        caller.server()?;
        let asked: NamedAdmin = read_body(&app, &headers, body).await?;
        admin(&app, &caller, asked.token_name, asked.expiry_secs, false).await
    };
    respond(create.await)
}

async fn admin(
    app: &App,
    caller: &RequestContext,
    name: String,
    expiry_secs: Option<u64>,
    replaced: bool,
) -> Result<Response, ServiceError> {
    let access = caller.server()?;
    let scopes = vec![Scope::everything()];
    create(app, &access, name, scopes, expiry_secs, replaced).await
}

async fn create_scoped(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let scoped = async {
        let access = caller.server()?;
        let asked: Scoped = read_body(&app, &headers, body).await?;
        let mut scopes = Vec::new();
        for permission in &asked.permissions {
            scopes.extend(read_scopes(permission)?);
        }
        let (name, expiry) = (asked.token_name, asked.expiry_secs);
        create(&app, &access, name, scopes, expiry, false).await
    };
    respond(scoped.await)
}

fn read_scopes(permission: &Permission) -> Result<impl Iterator<Item = Scope>, ServiceError> {
    if permission.resource_type != "db" {
        return Err(ServiceError::bad_request(format!(
            "resource_type {:?} is not supported; use \"db\"",
            permission.resource_type
        )));
    }
    let mut permissions = Permissions::default();
    for action in &permission.actions {
        let one = Permissions::from_word(action).ok_or_else(|| {
            ServiceError::bad_request(format!(
                "action {action:?} is not one of read, write, delete, admin"
            ))
        })?;
        permissions = permissions | one;
    }
    if permissions == Permissions::default() {
        return Err(ServiceError::bad_request("actions are missing"));
    }
    Ok(permission.resource_names.iter().map(move |name| Scope {
        databases: name.as_str().into(),
        permissions,
    }))
}

async fn create(
    app: &App,
    access: &ServerAccess,
    name: String,
    scopes: Vec<Scope>,
    expiry_secs: Option<u64>,
    replaced: bool,
) -> Result<Response, ServiceError> {
    let now_ms = (app.service.now_ms)();
    let expires_ms = expiry_secs.map(|seconds| {
        let ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        now_ms.saturating_add(ms)
    });
    let request = TokenRequest {
        name,
        scopes,
        expires_ms,
        replaced,
    };
    let (token, secret) = app.service.create_token(access, request).await?;
    let mut shown = show(&token);
    shown["token"] = secret.reveal().into();
    shown["hash"] = token.hash.map(|byte| format!("{byte:02x}")).concat().into();
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

fn show(token: &Token) -> Value {
    let time = |ms: i64| {
        let time = DateTime::from_timestamp_millis(ms);
        time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
    };
    let scope = |scope: &Scope| {
        let actions: Vec<&str> = scope.permissions.words().collect();
        json!({ "resource_type": "db", "resource_names": [&*scope.databases], "actions": actions })
    };
    json!({
        "id": token.id,
        "name": &*token.name,
        "permissions": token.scopes.iter().map(scope).collect::<Vec<_>>(),
        "created_at": time(token.created_ms),
        "expiry": token.expires_ms.and_then(time),
        "last_used_at": token.last_used_ms.and_then(time),
    })
}
