//! What processes of one store ask each other (`/internal/v1/`), and `/api/v1/status/cluster`.
//!
//! The first need the secret of the store's processes, whatever tokens there are, and are answered
//! from the registration of the process on.
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::StreamExt;
use serde_json::json;
use tidelake_catalog::Environment;

use crate::cluster::messages::{self, Recorded};
use crate::cluster::parts::{MAX_BODY_BYTES, PartRefused, framed};
use crate::cluster::{Cluster, NotServed};
use crate::http::app::App;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::service::context::RequestContext;
use crate::service::error::{Code, ServiceError};

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    let served = messages::SERVED.into_iter();
    let internal = served
        .fold(Router::new(), |router, path| {
            router.route(path, post(answer))
        })
        .route(messages::RECORD, post(record))
        .route(messages::PART, post(part))
        .layer(middleware::from_fn(with_secret));
    Router::new()
        .merge(internal)
        .route("/api/v1/status/cluster", get(status))
        .route("/admin/adopt", post(adopt))
}

/// Whether a path is only for processes of the same store.
pub fn is_internal(path: &str) -> bool {
    messages::PATHS.contains(&path)
}

/// Answers 401 to whoever has not the secret, and puts the cluster into the request.
async fn with_secret(request: Request, next: Next) -> Response {
    let Some(app) = request.extensions().get::<Arc<App>>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let shown = request.headers().get(AUTHORIZATION);
    let shown = shown.and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
    let cluster = app.service.cluster();
    let checked = cluster.and_then(|cluster| match shown {
        Some(shown) if cluster.is_secret(shown) => Ok(cluster),
        _ => Err(ServiceError::new(
            Code::Unauthenticated,
            "only processes of the same store may ask this",
        )),
    });
    match checked {
        Ok(cluster) => {
            let mut request = request;
            request.extensions_mut().insert(cluster);
            next.run(request).await
        }
        Err(error) => error.respond(Dialect::Text),
    }
}

async fn answer(Extension(cluster): Extension<Arc<Cluster>>, uri: Uri, body: Bytes) -> Response {
    match cluster.serve(uri.path(), &body).await {
        Ok(answer) if answer.is_empty() => StatusCode::NO_CONTENT.into_response(),
        Ok(answer) => Body::from(answer).into_response(),
        Err(error) => {
            let status = match error {
                NotServed::Another(_) => StatusCode::CONFLICT,
                NotServed::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                NotServed::Malformed(_) => StatusCode::BAD_REQUEST,
            };
            (status, error.to_string()).into_response()
        }
    }
}

async fn record(State(app): State<Arc<App>>, Json(record): Json<Recorded>) -> Response {
    match app.service.record(&record).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.respond(Dialect::Text),
    }
}

async fn part(State(app): State<Arc<App>>, body: Body) -> Response {
    let place = match app.service.place_of_part() {
        Ok(place) => place,
        Err(error) => return error.respond(Dialect::Text),
    };
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        let text = format!("a part may have at most {MAX_BODY_BYTES} bytes");
        return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
    };
    // Rows of this process may have to be sorted.
    let machine = Environment::system();
    let begun = machine.run_blocking(move || app.service.part(place, body));
    let begun = begun
        .await
        .unwrap_or_else(|error| Err(ServiceError::unavailable(error.to_string())));
    match begun {
        Ok(Ok(frames)) => {
            let frames = frames.map(|frame| Ok::<_, Infallible>(framed(&frame)));
            Body::from_stream(frames).into_response()
        }
        Ok(Err(PartRefused::Missing(missing))) => {
            (StatusCode::PRECONDITION_FAILED, Json(missing)).into_response()
        }
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Err(error) => error.respond(Dialect::Text),
    }
}

/// Puts the log of a node that is gone into segments.
async fn adopt(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
) -> Response {
    let adopted = async {
        let access = caller.server()?;
        let params = Params::from_query(query.as_deref());
        let node = params.get("node");
        let node = node.ok_or_else(|| ServiceError::bad_request("node must name a node"))?;
        app.service.adopt(&access, node).await
    };
    match adopted.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.respond(Dialect::Text),
    }
}

/// All processes of the store.
async fn status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
) -> Response {
    let nodes = async {
        caller.server()?;
        Ok(app.service.cluster()?.status().await)
    };
    match nodes.await {
        Ok(nodes) => {
            let answer = json!({ "status": "success", "data": { "nodes": nodes } });
            Json(answer).into_response()
        }
        Err(error) => ServiceError::respond(error, Dialect::Prometheus),
    }
}
