//! What collectd's plugin `write_http` sends with `Format "JSON"`: `POST /api/v1/import/collectd`.
//!
//! A value list becomes lines as InfluxDB's listener for collectd makes them, see `lines`.
//! collectd counts every answer as delivered: what is refused here is lost for it, and in its log
//! only.

mod lines;

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::node::backend::{ContentEncoding, Precision, Protocol};
use crate::service::context::{RequestContext, Write};
use crate::service::error::{Code, ServiceError};
use crate::service::write::Points;

/// collectd's own buffer has 4 KiB unless it is told otherwise.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Bytes of lines that a byte of JSON may become.
const MAX_GROWTH: usize = 4;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/import/collectd", post(write))
}

async fn write(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    headers: HeaderMap,
    body: Body,
) -> Response {
    receive(&app, &caller, &path, &headers, body)
        .await
        .unwrap_or_else(|error| error.respond(Dialect::Prometheus))
}

async fn receive(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ServiceError> {
    let access = caller.access::<Write>(&database::of_prometheus(path, headers)?)?;
    check_form(headers)?;
    app.service.backend()?;
    let limit = app.service.config.max_body_bytes.min(MAX_BODY_BYTES);
    let held = app.bodies.read(headers, body, limit).await?;
    let most = MAX_GROWTH * held.bytes.len();
    // A text that grows has twice as much memory as it needs.
    let _memory = app.bodies.reserve(2 * most).await?;
    let read = lines::read(&held.bytes, most)?;
    if !read.lines.is_empty() {
        let points = Points {
            protocol: Protocol::LineProtocol {
                precision: Precision::Microsecond,
            },
            encoding: ContentEncoding::Identity,
            accept_partial: true,
            body: read.lines.into(),
        };
        let outcome = app.service.write(&access, points).await?;
        if let Some(first) = outcome.errors.first() {
            let (refused, message) = (outcome.refused, &first.message);
            return Err(ServiceError::bad_request(format!(
                "{refused} values were refused, the others were kept; the first: {message}"
            )));
        }
    }
    match read.refused {
        None => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(refused) => Err(ServiceError::bad_request(refused)),
    }
}

fn check_form(headers: &HeaderMap) -> Result<(), ServiceError> {
    let text = |name| headers.get(name).map_or("", |v| v.to_str().unwrap_or("?"));
    let unsupported = |what: String| Err(ServiceError::new(Code::Unsupported, what));
    let media = text(CONTENT_TYPE).split(';').next().unwrap_or("").trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return unsupported(format!(
            "content type {media:?} is not supported; set Format \"JSON\" for the plugin write_http"
        ));
    }
    match text(CONTENT_ENCODING).trim() {
        "" | "identity" => Ok(()),
        other => unsupported(format!(
            "content encoding {other:?} is not supported; send identity"
        )),
    }
}
