//! Health and administration: `/health`, `/ready`, `/-/healthy`, `/-/ready`, `/admin/flush`,
//! `/admin/compact`.
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::app::App;
use crate::error::{ApiError, Dialect, Kind};

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health))
        .route("/-/healthy", get(async || "Tidelake is healthy.\n"))
        .route("/ready", get(ready))
        .route("/-/ready", get(ready))
        .route("/admin/flush", post(flush))
        .route("/admin/compact", post(compact))
}

/// The process is up and answers, whether or not it can serve yet. The form is that of InfluxDB,
/// whose clients ask for it.
async fn health() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({ "name": "tidelake", "message": "up", "status": "pass", "checks": [], "version": version })).into_response()
}

/// 200 once reads and writes are served.
async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.backend() {
        Ok(_) => Json(json!({ "status": "ready" })).into_response(),
        Err(error) => error.respond(Dialect::Influx),
    }
}

/// Returns when everything buffered is in segments on the store.
async fn flush(State(app): State<Arc<App>>) -> Response {
    let work = async {
        app.backend()?
            .ingester
            .flush()
            .await
            .map_err(|e| app.refuse(e))
    };
    work.await.map_or_else(
        |e: ApiError| e.respond(Dialect::Text),
        |()| StatusCode::NO_CONTENT.into_response(),
    )
}

/// Returns when nothing is left to merge.
async fn compact(State(app): State<Arc<App>>) -> Response {
    let work = async {
        app.backend()?
            .compactor
            .compact_all()
            .await
            .map_err(|e| ApiError::new(Kind::Internal, e.to_string()))
    };
    work.await.map_or_else(
        |e| e.respond(Dialect::Text),
        |()| StatusCode::NO_CONTENT.into_response(),
    )
}
