//! Remote write: `POST /api/v1/write`.
//!
//! The message, 1.0 or 2.0, is chosen by the content type alone. 1.0 may come without content type
//! and encoding; anything that is not understood is 415, so that senders fall back to what is. From
//! there on every answer to 2.0 says how much was written.
//!
//! Bodies are snappy as the specification has it, or gzip, zstd (vmagent) or plain (Fluent Bit,
//! Vector). Vector asks by `GET` before it sends, with the headers of a write.
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use tidelake_ingest::content;

use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::node::backend::{ContentEncoding, Protocol, WriteOutcome, Written};
use crate::service::context::{RequestContext, Write};
use crate::service::error::{Code, ServiceError};
use crate::service::write::Points;

/// The header that every write has.
const VERSION: &str = "x-prometheus-remote-write-version";
const VERSION_1: &str = "prometheus.WriteRequest";
const VERSION_2: &str = "io.prometheus.write.v2.Request";
/// A refusal names this many series; more would help nobody.
const NAMED_ERRORS: usize = 20;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/write", get(check).post(write))
}

/// Whether the caller may write, for a `GET` that has the headers of a write. No body is read.
async fn check(
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    headers: HeaderMap,
) -> Response {
    let may = database::of_prometheus(&path, &headers)
        .and_then(|database| caller.access::<Write>(&database).map(drop));
    match may {
        Ok(()) if headers.contains_key(VERSION) => StatusCode::OK.into_response(),
        Ok(()) => (
            StatusCode::METHOD_NOT_ALLOWED,
            [(ALLOW, "POST")],
            format!(
                "a write is a POST; a GET that asks whether it may write has the header {VERSION}"
            ),
        )
            .into_response(),
        Err(error) => error.respond(Dialect::Text),
    }
}

async fn write(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let message = match negotiate(&headers) {
        Ok(message) => message,
        Err(error) => return error.respond(Dialect::Text),
    };
    match receive(&app, &caller, &path, &headers, body, message).await {
        Ok(response) => response,
        Err(error) if message.0 == Protocol::RemoteWrite2 => {
            counted(error.respond(Dialect::Text), Written::default())
        }
        Err(error) => error.respond(Dialect::Text),
    }
}

/// How the body is to be read; without an encoding the body itself tells.
fn negotiate(headers: &HeaderMap) -> Result<(Protocol, Option<ContentEncoding>), ServiceError> {
    let protocol = read_protocol(headers)?;
    Ok((protocol, read_encoding(headers)?))
}

async fn receive(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    headers: &HeaderMap,
    body: Body,
    (protocol, encoding): (Protocol, Option<ContentEncoding>),
) -> Result<Response, ServiceError> {
    let access = caller.access::<Write>(&database::of_prometheus(path, headers)?)?;
    app.service.backend()?;
    let held = app
        .bodies
        .read(headers, body, app.service.config.max_remote_write_bytes)
        .await?;
    let points = Points {
        protocol,
        encoding: encoding.unwrap_or_else(|| content::snappy_or_plain(&held.bytes)),
        accept_partial: true,
        body: held.bytes.clone(),
    };
    Ok(answer(&app.service.write(&access, points).await?))
}

fn read_protocol(headers: &HeaderMap) -> Result<Protocol, ServiceError> {
    let unsupported = |what: &str| Err(ServiceError::new(Code::Unsupported, what));
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(Protocol::RemoteWrite1);
    };
    let value = value.to_str().unwrap_or("");
    let mut parts = value.split(';').map(str::trim);
    if !parts
        .next()
        .unwrap_or("")
        .eq_ignore_ascii_case("application/x-protobuf")
    {
        return unsupported(&format!(
            "content type {value:?} is not supported; send \
             application/x-protobuf;proto={VERSION_1}"
        ));
    }
    for part in parts {
        let Some((name, message)) = part.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("proto") {
            return match message.trim().trim_matches('"') {
                VERSION_1 => Ok(Protocol::RemoteWrite1),
                VERSION_2 => Ok(Protocol::RemoteWrite2),
                other => unsupported(&format!(
                    "message {other:?} is not known; send {VERSION_2} or {VERSION_1}"
                )),
            };
        }
    }
    Ok(Protocol::RemoteWrite1)
}

fn read_encoding(headers: &HeaderMap) -> Result<Option<ContentEncoding>, ServiceError> {
    let Some(value) = headers.get(CONTENT_ENCODING) else {
        return Ok(None);
    };
    let value = value.to_str().unwrap_or("?").trim();
    if value.is_empty() {
        return Ok(None);
    }
    let known = content::encoding_of(value);
    known
        .map(Some)
        .map_err(|e| ServiceError::new(Code::Unsupported, e.to_string()))
}

/// 204, or 400 that names what was refused; both count what was kept.
fn answer(outcome: &WriteOutcome) -> Response {
    let response = if outcome.errors.is_empty() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let mut text = format!("{} refused, the others were kept: ", outcome.refused);
        let named: Vec<&str> = outcome
            .errors
            .iter()
            .take(NAMED_ERRORS)
            .map(|e| e.message.as_str())
            .collect();
        text.push_str(&named.join("; "));
        if outcome.errors.len() > NAMED_ERRORS {
            text.push_str("; ...");
        }
        ServiceError::bad_request(text).respond(Dialect::Text)
    };
    counted(response, outcome.written)
}

/// With the headers that say how much was written.
fn counted(mut response: Response, written: Written) -> Response {
    let counts = [
        ("x-prometheus-remote-write-samples-written", written.samples),
        (
            "x-prometheus-remote-write-histograms-written",
            written.histograms,
        ),
        (
            "x-prometheus-remote-write-exemplars-written",
            written.exemplars,
        ),
    ];
    for (name, count) in counts {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from(count));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::backend::LineError;

    fn with(name: HeaderName, value: Option<&str>) -> HeaderMap {
        value
            .map(|v| (name, v.parse().unwrap()))
            .into_iter()
            .collect()
    }

    #[test]
    fn content_types() {
        let check = |value: Option<&str>, expected: Result<Protocol, u16>| {
            assert_eq!(
                read_protocol(&with(CONTENT_TYPE, value))
                    .map_err(|e| e.status(Dialect::Text).as_u16()),
                expected,
                "{value:?}"
            );
        };
        check(None, Ok(Protocol::RemoteWrite1));
        check(Some("application/x-protobuf"), Ok(Protocol::RemoteWrite1));
        check(
            Some("application/x-protobuf;proto=prometheus.WriteRequest"),
            Ok(Protocol::RemoteWrite1),
        );
        check(
            Some("Application/X-Protobuf; charset=x; proto=\"prometheus.WriteRequest\""),
            Ok(Protocol::RemoteWrite1),
        );
        check(
            Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"),
            Ok(Protocol::RemoteWrite2),
        );
        check(
            Some("application/x-protobuf;proto=no.such.Message"),
            Err(415),
        );
        check(Some("application/json"), Err(415));
        check(Some(""), Err(415));
    }

    #[test]
    fn encodings() {
        let check = |value: Option<&str>, expected: Result<Option<ContentEncoding>, u16>| {
            let found = read_encoding(&with(CONTENT_ENCODING, value))
                .map_err(|e| e.status(Dialect::Text).as_u16());
            assert_eq!(found, expected, "{value:?}");
        };
        check(None, Ok(None));
        check(Some(""), Ok(None));
        check(Some("Snappy"), Ok(Some(ContentEncoding::Snappy)));
        check(Some("zstd"), Ok(Some(ContentEncoding::Zstd)));
        check(Some("gzip"), Ok(Some(ContentEncoding::Gzip)));
        check(Some("identity"), Ok(Some(ContentEncoding::Identity)));
        check(Some("br"), Err(415));
        check(Some("snappy, gzip"), Err(415));
    }

    #[test]
    fn both_ends_count_what_was_kept() {
        let written = Written {
            samples: 3,
            histograms: 1,
            exemplars: 0,
        };
        let check = |errors: Vec<LineError>, status: u16| {
            let refused = errors.len() as u64;
            let response = answer(&WriteOutcome {
                written,
                errors,
                refused,
            });
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(
                response.headers()["x-prometheus-remote-write-samples-written"],
                "3"
            );
            assert_eq!(
                response.headers()["x-prometheus-remote-write-histograms-written"],
                "1"
            );
            assert_eq!(
                response.headers()["x-prometheus-remote-write-exemplars-written"],
                "0"
            );
        };
        check(Vec::new(), 204);
        check(
            vec![LineError {
                line: 0,
                original: String::new(),
                message: "no __name__".into(),
            }],
            400,
        );
    }
}
