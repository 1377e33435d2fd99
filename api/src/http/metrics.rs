//! `GET /metrics`, and the counts of requests.
use std::fmt;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tidelake_catalog::Environment;
use tidelake_catalog::model::INTERNAL_DATABASE;
use tokio::time::Instant;

use crate::http::app::App;
use crate::http::error::{self, Dialect};
use crate::service::context::{Read, RequestContext};
use crate::service::metrics::as_plain_text;

const OPEN_METRICS: &str = "application/openmetrics-text";

/// `GET /metrics`. Figures may wait for locks of the write path, so they are read on a thread that
/// may wait.
pub async fn metrics(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = caller.access::<Read>(INTERNAL_DATABASE) {
        return error.respond(Dialect::Text);
    }
    let text = Environment::system()
        .run_blocking(move || app.service.metrics.text())
        .await
        .unwrap_or(Err(fmt::Error));
    let wants_open_metrics = headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains(OPEN_METRICS)));
    match text {
        Ok(text) if wants_open_metrics => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Ok(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(CONTENT_TYPE, kind)], as_plain_text(&text)).into_response()
        }
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot write the metrics: {error}\n"),
        )
            .into_response(),
    }
}

/// Counts every request by its route, so that paths from outside cannot make new series.
pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", MatchedPath::as_str)
        .to_owned();
    let begun = Instant::now();
    let mut response = next.run(request).await;
    // No browser may take for a page what clients wrote.
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // What fails in gRPC is 200 to HTTP.
    let failed = response.extensions().get::<tonic::Status>();
    let code = failed.map_or(response.status(), error::http_equivalent);
    app.service
        .metrics
        .count_request(path, code.as_u16(), begun.elapsed());
    response
}
