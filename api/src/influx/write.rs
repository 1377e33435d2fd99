//! Line protocol by the three ways of InfluxDB's clients: `/write`, `/api/v2/write`,
//! `/api/v3/write_lp`.
//!
//! They differ in the name of the database parameter, in the words for precisions and in the form
//! of errors; what a line means is the same. Users, organizations and consistency levels are
//! accepted and not looked at.
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::http::app::App;
use crate::http::body::content_encoding;
use crate::http::error::Dialect;
use crate::http::params::Params;
use crate::node::backend::{LineError, Precision, Protocol, WriteOutcome};
use crate::service::context::{RequestContext, Write};
use crate::service::database::check_name;
use crate::service::error::ServiceError;
use crate::service::write::Points;

/// A refusal names this many lines; a body of nothing but bad lines must not be answered by one of
/// the same size.
const NAMED_LINES: usize = 1000;
/// So much of a refused line is quoted.
const QUOTED_CHARS: usize = 500;

/// The paths of line protocol and of its clients' health checks.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/write", post(write_v1))
        .route("/api/v2/write", post(write_v2))
        .route("/api/v3/write_lp", post(write_v3))
        .route("/ping", get(ping))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
    V3,
}

impl Version {
    fn dialect(self) -> Dialect {
        match self {
            Version::V1 | Version::V3 => Dialect::Influx,
            Version::V2 => Dialect::InfluxV2,
        }
    }

    fn database_param(self) -> &'static str {
        match self {
            Version::V1 | Version::V3 => "db",
            Version::V2 => "bucket",
        }
    }
}

async fn ping() -> Response {
    let version = |name| (HeaderName::from_static(name), env!("CARGO_PKG_VERSION"));
    (
        StatusCode::NO_CONTENT,
        [version("x-influxdb-version")],
        [(HeaderName::from_static("x-influxdb-build"), "tidelake")],
    )
        .into_response()
}

async fn write_v1(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    write(&app, &caller, Version::V1, query.as_deref(), &headers, body).await
}

async fn write_v2(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    write(&app, &caller, Version::V2, query.as_deref(), &headers, body).await
}

async fn write_v3(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    write(&app, &caller, Version::V3, query.as_deref(), &headers, body).await
}

async fn write(
    app: &App,
    caller: &RequestContext,
    version: Version,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    receive(app, caller, version, query, headers, body)
        .await
        .unwrap_or_else(|e| e.respond(version.dialect()))
}

async fn receive(
    app: &App,
    caller: &RequestContext,
    version: Version,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ServiceError> {
    let params = Params::from_query(query);
    let (database, precision, accept_partial) = read_target(version, &params)?;
    // Who may not write learns nothing of what there is.
    caller.access::<Write>(&database)?;
    let policy = params.get("rp").filter(|_| version == Version::V1);
    let stored = app.service.written_database(&database, policy)?;
    let access = caller.access::<Write>(&stored)?;
    let encoding = content_encoding(headers)?;
    app.service.backend()?;
    let held = app
        .bodies
        .read(headers, body, app.service.config.max_body_bytes)
        .await?;
    let protocol = match version {
        Version::V1 => Protocol::LineProtocol1 { precision },
        Version::V2 | Version::V3 => Protocol::LineProtocol { precision },
    };
    let points = Points {
        protocol,
        encoding,
        accept_partial,
        body: held.bytes.clone(),
    };
    let outcome = app.service.write(&access, points).await?;
    Ok(answer(version, accept_partial, &outcome))
}

fn read_target(
    version: Version,
    params: &Params,
) -> Result<(String, Precision, bool), ServiceError> {
    let param = version.database_param();
    let database = params.get(param);
    let database = database.ok_or_else(|| {
        ServiceError::bad_request(format!(
            "the parameter {param:?} is missing: it names the database"
        ))
    })?;
    check_name(database)?;
    let precision = read_precision(version, params.get("precision"))?;
    let accept_partial = match params.get("accept_partial") {
        Some(text) if version == Version::V3 => read_bool("accept_partial", text)?,
        _ => true,
    };
    if let Some(text) = params.get("no_sync").filter(|_| version == Version::V3) {
        // Every write is durable when it is acknowledged; who does not insist on it gets it all the
        // same.
        read_bool("no_sync", text)?;
    }
    Ok((database.to_owned(), precision, accept_partial))
}

fn read_bool(name: &str, text: &str) -> Result<bool, ServiceError> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ServiceError::bad_request(format!(
            "the parameter {name:?} must be true or false, not {text:?}"
        ))),
    }
}

fn read_precision(version: Version, text: Option<&str>) -> Result<Precision, ServiceError> {
    let Some(text) = text else {
        return Ok(if version == Version::V3 {
            Precision::Auto
        } else {
            Precision::Nanosecond
        });
    };
    let precision = match text {
        "auto" if version == Version::V3 => Precision::Auto,
        "ns" | "n" | "nanosecond" => Precision::Nanosecond,
        "us" | "u" | "µ" | "µs" | "microsecond" => Precision::Microsecond,
        "ms" | "millisecond" => Precision::Millisecond,
        "s" | "second" => Precision::Second,
        "m" if version == Version::V1 => Precision::Minute,
        "h" if version == Version::V1 => Precision::Hour,
        _ => {
            let allowed = match version {
                Version::V1 => "ns, us, ms, s, m or h",
                Version::V2 => "ns, us, ms or s",
                Version::V3 => "auto, ns, us, ms or s",
            };
            let shown: String = text.chars().take(40).collect();
            return Err(ServiceError::bad_request(format!(
                "invalid precision {shown:?}; use {allowed}"
            )));
        }
    };
    Ok(precision)
}

fn answer(version: Version, keeps_good_lines: bool, outcome: &WriteOutcome) -> Response {
    if outcome.errors.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let errors = outcome.errors.get(..NAMED_LINES).unwrap_or(&outcome.errors);
    match version {
        Version::V3 => {
            let error = if keeps_good_lines {
                "partial write of line protocol occurred"
            } else {
                "parsing failed for write_lp endpoint"
            };
            let data: Vec<_> = errors
                .iter()
                .map(|e| json!({ "original_line": quote(&e.original), "line_number": e.line, "error_message": e.message }))
                .collect();
            (
                StatusCode::BAD_REQUEST,
                Json(json!({ "error": error, "data": data })),
            )
                .into_response()
        }
        Version::V1 | Version::V2 => {
            ServiceError::bad_request(describe(errors, outcome)).respond(version.dialect())
        }
    }
}

/// `partial write: line 2: what is wrong; line 7: ... dropped=2`
fn describe(errors: &[LineError], outcome: &WriteOutcome) -> String {
    // Clients look for these words to tell lines that are lost from a body that is.
    let mut text = String::from(if outcome.written.samples > 0 {
        "partial write: "
    } else {
        "unable to parse: "
    });
    for (i, error) in errors.iter().enumerate() {
        let separator = if i > 0 { "; " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}line {}: {}", error.line, error.message);
    }
    let _ = write!(text, " dropped={}", outcome.refused);
    text
}

fn quote(line: &str) -> &str {
    line.char_indices()
        .nth(QUOTED_CHARS)
        .map_or(line, |(end, _)| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::backend::Written;

    fn target(version: Version, query: &str) -> Result<(String, Precision, bool), (u16, String)> {
        match read_target(version, &Params::from_query(Some(query))) {
            Ok(target) => Ok(target),
            Err(e) => Err((e.status(Dialect::Influx).as_u16(), e.message)),
        }
    }

    #[test]
    fn targets() {
        let check = |version, query: &str, precision, accept_partial| {
            assert_eq!(
                target(version, query),
                Ok(("d".to_owned(), precision, accept_partial)),
                "{query}"
            );
        };
        check(Version::V1, "db=d", Precision::Nanosecond, true);
        check(
            Version::V1,
            "db=d&precision=m&u=x&p=y&rp=z&consistency=all",
            Precision::Minute,
            true,
        );
        check(
            Version::V1,
            "db=d&precision=u",
            Precision::Microsecond,
            true,
        );
        check(
            Version::V2,
            "org=o&bucket=d&precision=ms",
            Precision::Millisecond,
            true,
        );
        check(Version::V3, "db=d", Precision::Auto, true);
        check(
            Version::V3,
            "db=d&precision=second&accept_partial=false&no_sync=true",
            Precision::Second,
            false,
        );
        check(
            Version::V1,
            "db=d&accept_partial=false",
            Precision::Nanosecond,
            true,
        );
    }

    #[test]
    fn wrong_targets_are_400_and_say_why() {
        let check = |version, query: &str, word: &str| {
            let (status, message) = target(version, query).unwrap_err();
            assert_eq!(status, 400);
            assert!(message.contains(word), "{message} lacks {word}");
        };
        check(Version::V1, "", "db");
        check(Version::V1, "db=", "db");
        check(Version::V2, "db=d", "bucket");
        check(Version::V2, "bucket=a*b", "a*b");
        check(Version::V1, "db=d&precision=weeks", "weeks");
        check(Version::V1, "db=d&precision=auto", "auto");
        check(Version::V2, "bucket=d&precision=h", "\"h\"");
        check(Version::V3, "db=d&precision=m", "\"m\"");
        check(Version::V3, "db=d&accept_partial=perhaps", "perhaps");
    }

    async fn body_of(version: Version, keeps: bool, kept: u64, lines: &[usize]) -> (u16, String) {
        let errors = lines
            .iter()
            .map(|&line| LineError {
                line,
                original: format!("m f=\"é{line}"),
                message: "no closing quote".into(),
            })
            .collect();
        let refused = lines.len() as u64;
        let outcome = WriteOutcome {
            written: Written {
                samples: kept,
                ..Written::default()
            },
            errors,
            refused,
        };
        let response = answer(version, keeps, &outcome);
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers() {
        assert_eq!(
            body_of(Version::V1, true, 1, &[]).await,
            (204, String::new())
        );
        let (status, body) = body_of(Version::V1, true, 1, &[2, 7]).await;
        assert_eq!(
            (status, body.as_str()),
            (
                400,
                r#"{"error":"partial write: line 2: no closing quote; line 7: no closing quote dropped=2"}"#
            )
        );
        let (_, body) = body_of(Version::V2, true, 0, &[1]).await;
        assert_eq!(
            body,
            r#"{"code":"invalid","message":"unable to parse: line 1: no closing quote dropped=1"}"#
        );
        let (_, body) = body_of(Version::V3, true, 1, &[3]).await;
        let expected = json!({ "error": "partial write of line protocol occurred",
            "data": [{ "original_line": "m f=\"é3", "line_number": 3, "error_message": "no closing quote" }] });
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&body).unwrap(),
            expected
        );
        assert!(
            body_of(Version::V3, false, 0, &[3])
                .await
                .1
                .contains("parsing failed for write_lp endpoint")
        );
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let line = "é".repeat(600);
        assert_eq!(quote(&line), "é".repeat(500));
        assert_eq!(quote("short"), "short");
    }
}
