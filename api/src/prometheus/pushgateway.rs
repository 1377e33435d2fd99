//! Pushgateway's paths: `/metrics/job/<job>{/<label>/<value>}` with PUT, POST and DELETE.
//!
//! The labels in the path are the *group* of what is pushed. `service::push` says what becomes of a
//! push here, where all samples are kept.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{OriginalUri, RawPathParams, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, put};
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::http::app::App;
use crate::http::body::content_encoding;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::malformed::percent_decoded;
use crate::prometheus::import::{describe, format_of};
use crate::service::context::{Access, RequestContext, Write};
use crate::service::error::ServiceError;
use crate::service::push::{Group, PushKind, Pushed};

const JOB: &str = "job";
const ENCODED: &str = "@base64";
/// Values in the path have the alphabet of URLs, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    let methods = || -> MethodRouter<Arc<App>> { put(replace).post(update).delete(delete) };
    Router::new()
        .route("/metrics/job/{*group}", methods())
        .route("/metrics/job@base64/{*group}", methods())
}

async fn replace(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let target = target(&caller, &path, &headers, uri.path());
    push(&app, target, PushKind::Replace, &headers, body).await
}

async fn update(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let target = target(&caller, &path, &headers, uri.path());
    push(&app, target, PushKind::Update, &headers, body).await
}

async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Response {
    let deleted = async {
        let (access, group) = target(&caller, &path, &headers, uri.path())?;
        app.service.delete_group(&access, &group).await
    };
    match deleted.await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => error.respond(Dialect::Text),
    }
}

async fn push(
    app: &App,
    target: Result<(Access<Write>, Group), ServiceError>,
    kind: PushKind,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let received = async {
        let (access, group) = target?;
        let (format, encoding) = (format_of(headers)?, content_encoding(headers)?);
        app.service.backend()?;
        let limit = app.service.config.max_remote_write_bytes;
        let held = app.bodies.read(headers, body, limit).await?;
        let pushed = Pushed {
            kind,
            format,
            encoding,
            body: &held.bytes,
        };
        let outcome = app.service.push(&access, &group, pushed).await?;
        match outcome.refused {
            0 => Ok(()),
            _ => Err(ServiceError::bad_request(describe(&outcome))),
        }
    };
    match received.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.respond(Dialect::Text),
    }
}

/// The right to write to the database of a request, and the group that its path names.
fn target(
    caller: &RequestContext,
    path: &RawPathParams,
    headers: &HeaderMap,
    uri_path: &str,
) -> Result<(Access<Write>, Group), ServiceError> {
    let access = caller.access::<Write>(&database::of_prometheus(path, headers)?)?;
    Ok((access, group_of(uri_path)?))
}

/// The group of a path that has `/metrics/job`.
fn group_of(path: &str) -> Result<Group, ServiceError> {
    let start = path
        .find("/metrics/job")
        .map_or(path.len(), |at| at + "/metrics/".len());
    let mut parts = path[start..].split('/');
    let mut labels: Vec<(String, String)> = Vec::new();
    while let Some(part) = parts.next() {
        let name = decode(part)?;
        let value = parts
            .next()
            .ok_or_else(|| bad(&format!("the label {name:?} in the path has no value")))?;
        let (name, value) = match name.strip_suffix(ENCODED) {
            Some(name) => (name.to_owned(), from_base64(&decode(value)?)?),
            None => (name, decode(value)?),
        };
        if labels.iter().any(|(other, _)| *other == name) {
            return Err(bad(&format!("the label {name:?} is twice in the path")));
        }
        check_name(&name)?;
        labels.push((name, value));
    }
    match labels.first() {
        Some((name, value)) if name == JOB && !value.is_empty() => Ok(Group::new(labels)),
        _ => Err(bad("job name is required")),
    }
}

fn bad(what: &str) -> ServiceError {
    ServiceError::bad_request(format!(
        "{what}; the path is /metrics/job/<job>{{/<label>/<value>}}, where <label>{ENCODED} has its \
         value in base64"
    ))
}

fn decode(part: &str) -> Result<String, ServiceError> {
    String::from_utf8(percent_decoded(part)).map_err(|_| bad("the path is not UTF-8"))
}

fn check_name(name: &str) -> Result<(), ServiceError> {
    let is_in_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_name = name.bytes().all(is_in_name)
        && !name.starts_with("__")
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    match is_name {
        true => Ok(()),
        false => {
            let shown: String = name.chars().take(80).collect();
            Err(bad(&format!("improper label name {shown:?} in the path")))
        }
    }
}

fn from_base64(text: &str) -> Result<String, ServiceError> {
    // The padding alone is an empty value.
    let text = text.trim_end_matches('=');
    let bytes = BASE64.decode(text).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            bad(&format!("{shown:?} is no UTF-8 in base64 for URLs"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let check = |path: &str, expected: &[(&str, &str)]| {
            let group = group_of(path).unwrap();
            let found: Vec<_> = group
                .labels()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            assert_eq!(found, expected, "{path}");
        };
        check("/metrics/job/a", &[("job", "a")]);
        check(
            "/db/x/metrics/job/a%20b/instance/%C3%A9",
            &[("job", "a b"), ("instance", "é")],
        );
        check(
            "/metrics/job@base64/L3Zhci90bXA=/path@base64/=",
            &[("job", "/var/tmp"), ("path", "")],
        );
        check("/metrics/job@base64/L3Zhci90bXA", &[("job", "/var/tmp")]);
        check("/metrics/job/a/job_/b+c", &[("job", "a"), ("job_", "b+c")]);
    }

    #[test]
    fn paths_that_are_none() {
        let check = |path: &str, word: &str| {
            let error = group_of(path).unwrap_err();
            assert_eq!(error.status(Dialect::Text).as_u16(), 400);
            assert!(error.message.contains(word), "{path}: {error}");
        };
        check("/metrics/job/", "job name is required");
        check("/metrics/job@base64/=", "job name is required");
        check("/metrics/job/a/instance", "no value");
        check("/metrics/job/a/b/1/b/2", "twice");
        check("/metrics/job/a/__x/1", "improper label name");
        check("/metrics/job/a/1x/1", "improper label name");
        check("/metrics/job/a//1", "improper label name");
        check("/metrics/job@base64/%FF", "UTF-8");
        check("/metrics/job@base64/_w", "UTF-8");
        check("/metrics/job@base64/a!", "base64");
    }
}
