//! Health and administration: `/health`, `/ready`, `/-/healthy`, `/-/ready`, `/admin/flush`,
//! `/admin/compact`.
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::json;

use crate::http::app::App;
use crate::http::error::Dialect;
use crate::node::backend::WalState;
use crate::service::context::RequestContext;
use crate::service::error::ServiceError;

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

/// 200 while reads and writes are served. Segments that are damaged or gone are counted: only what
/// is in them cannot be read, and an orchestrator that takes the server away would make it more.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let ready = app.service.backend().and_then(|backend| {
        if backend.cluster().is_leaving() {
            return Err(ServiceError::unavailable("stopping"));
        }
        let ingester = backend.ingester.as_ref();
        ingester.map_or(Ok(()), |ingester| takes_writes(&ingester.log_state()))
    });
    let damaged = app
        .service
        .backend()
        .ok()
        .and_then(|backend| backend.compactor.as_ref())
        .map_or(0, |compactor| compactor.damaged_segments());
    match ready {
        Ok(()) => Json(json!({ "status": "ready", "damaged_segments": damaged })).into_response(),
        Err(error) => error.respond(Dialect::Influx),
    }
}

/// Writes are refused while the log cannot put its objects: on a full disk, or without a store.
fn takes_writes(state: &WalState) -> Result<(), ServiceError> {
    match state {
        WalState::Open => Ok(()),
        WalState::Unavailable { reason } => Err(ServiceError::unavailable(format!(
            "reads are served, but writes are refused until the store is back: {reason}"
        ))),
        WalState::Fenced { .. } | WalState::Closed => {
            Err(ServiceError::unavailable("the write-ahead log has ended"))
        }
    }
}

/// Returns when everything buffered is in segments on the store.
async fn flush(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let work = async { app.service.flush(&caller.server()?).await };
    work.await.map_or_else(
        |e| e.respond(Dialect::Text),
        |()| StatusCode::NO_CONTENT.into_response(),
    )
}

/// Returns when nothing is left to merge.
async fn compact(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let work = async { app.service.compact(&caller.server()?).await };
    work.await.map_or_else(
        |e| e.respond(Dialect::Text),
        |()| StatusCode::NO_CONTENT.into_response(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_refuses_writes_is_not_ready() {
        assert!(takes_writes(&WalState::Open).is_ok());
        let full = WalState::Unavailable {
            reason: "no space left".into(),
        };
        let error = takes_writes(&full).unwrap_err();
        assert_eq!(
            error.status(Dialect::Influx),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert!(
            error.message.ends_with("no space left"),
            "{}",
            error.message
        );
        let key = "wal/x".into();
        assert!(takes_writes(&WalState::Fenced { key }).is_err());
        assert!(takes_writes(&WalState::Closed).is_err());
    }
}
