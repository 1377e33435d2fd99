//! Text in: `POST /api/v1/import/prometheus`, as VictoriaMetrics has it, for Prometheus' text
//! format and OpenMetrics.
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde_json::json;

use crate::http::app::App;
use crate::http::body::content_encoding;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::params::{Params, media_type};
use crate::node::backend::{Protocol, TextFormat, TextSettings, WriteOutcome};
use crate::service::context::{RequestContext, Write};
use crate::service::error::{Code, ServiceError};
use crate::service::write::Points;

/// Bad lines that an answer names.
const NAMED_LINES: usize = 1000;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/import/prometheus", post(import))
}

async fn import(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match receive(&app, &caller, &path, query.as_deref(), &headers, body).await {
        Ok(outcome) => answer(&outcome),
        Err(error) => error.respond(Dialect::Prometheus),
    }
}

async fn receive(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<WriteOutcome, ServiceError> {
    let access = caller.access::<Write>(&database::of_prometheus(path, headers)?)?;
    let settings = settings(&Params::from_query(query))?;
    let (format, encoding) = (format_of(headers)?, content_encoding(headers)?);
    app.service.backend()?;
    let held = app
        .bodies
        .read(headers, body, app.service.config.max_remote_write_bytes)
        .await?;
    let points = Points {
        protocol: Protocol::Exposition { format },
        encoding,
        accept_partial: true,
        body: settings
            .framed(&held.bytes)
            .map_err(ServiceError::bad_request)?,
    };
    app.service.write(&access, points).await
}

/// What the parameters say of all lines.
fn settings(params: &Params) -> Result<TextSettings, ServiceError> {
    let mut settings = TextSettings::default();
    for pair in params.all("extra_label") {
        let label = pair.split_once('=').filter(|(name, _)| !name.is_empty());
        let Some((name, value)) = label else {
            let shown: String = pair.chars().take(80).collect();
            return Err(ServiceError::bad_request(format!(
                "invalid extra_label {shown:?}; use extra_label=name=value"
            )));
        };
        // Of two labels of one name the later counts.
        settings.labels.retain(|(other, _)| other != name);
        settings.labels.push((name.to_owned(), value.to_owned()));
    }
    if let Some(text) = params.get("timestamp") {
        let time = text.parse().map_err(|_| {
            let shown: String = text.chars().take(40).collect();
            ServiceError::bad_request(format!(
                "invalid timestamp {shown:?}: it must be an integer, in milliseconds since 1970"
            ))
        })?;
        settings.time_ms = Some(time);
    }
    Ok(settings)
}

/// Which format a body is in: what names neither is told by its end.
pub fn format_of(headers: &HeaderMap) -> Result<TextFormat, ServiceError> {
    match media_type(headers).as_str() {
        "application/openmetrics-text" => Ok(TextFormat::OpenMetrics),
        "text/plain" => Ok(TextFormat::Prometheus),
        kind @ ("application/vnd.google.protobuf" | "application/x-protobuf") => {
            Err(ServiceError::new(
                Code::Unsupported,
                format!(
                    "content type {kind} is not supported: send text (in Go: \
                     push.New(...).Format(expfmt.NewFormat(expfmt.TypeTextPlain)))"
                ),
            ))
        }
        _ => Ok(TextFormat::ByItsEnd),
    }
}

/// `partial write: line 2: what is wrong; line 7: ... dropped=2`
pub fn describe(outcome: &WriteOutcome) -> String {
    let mut text = String::from(match outcome.written.samples {
        0 => "unable to parse: ",
        _ => "partial write: ",
    });
    for (place, error) in outcome.errors.iter().take(NAMED_LINES).enumerate() {
        let separator = if place > 0 { "; " } else { "" };
        // Writing to a string cannot fail.
        let _ = match error.line {
            0 => write!(text, "{separator}{}", error.message),
            line => write!(text, "{separator}line {line}: {}", error.message),
        };
    }
    let _ = write!(text, " dropped={}", outcome.refused);
    text
}

fn answer(outcome: &WriteOutcome) -> Response {
    if outcome.errors.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let lines: Vec<_> = outcome
        .errors
        .iter()
        .take(NAMED_LINES)
        .map(|e| {
            json!({ "original_line": e.original, "line_number": e.line, "error_message": e.message })
        })
        .collect();
    let body = json!({
        "status": "error",
        "errorType": "bad_data",
        "error": describe(outcome),
        "data": lines,
    });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::header::CONTENT_TYPE;

    use super::*;
    use crate::node::backend::{LineError, Written};

    #[test]
    fn parameters() {
        let check = |query: &str, expected: Result<TextSettings, &str>| match (
            settings(&Params::from_query(Some(query))),
            expected,
        ) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{query}"),
            (Err(error), Err(word)) => assert!(error.message.contains(word), "{error}"),
            (found, expected) => panic!("{query}: {found:?} is not {expected:?}"),
        };
        let with = |labels: &[(&str, &str)], time_ms| {
            Ok(TextSettings {
                time_ms,
                labels: labels
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                refuses_times: false,
            })
        };
        check("", with(&[], None));
        check(
            "extra_label=a=b%3Dc&extra_label=x=&timestamp=-5&other=1",
            with(&[("a", "b=c"), ("x", "")], Some(-5)),
        );
        check("extra_label=a=1&extra_label=a=2", with(&[("a", "2")], None));
        check("extra_label=a", Err("name=value"));
        check("extra_label==a", Err("name=value"));
        check("timestamp=1.5", Err("milliseconds"));
    }

    #[test]
    fn the_content_type_says_the_format() {
        let check = |kind: Option<&str>, expected: Result<TextFormat, u16>| {
            let headers = kind.map(|kind| (CONTENT_TYPE, kind.parse().unwrap()));
            let found = format_of(&headers.into_iter().collect());
            let found = found.map_err(|error| error.status(Dialect::Text).as_u16());
            assert_eq!(found, expected, "{kind:?}");
        };
        check(None, Ok(TextFormat::ByItsEnd));
        check(
            Some("text/plain; version=0.0.4; charset=utf-8"),
            Ok(TextFormat::Prometheus),
        );
        check(
            Some("application/openmetrics-text; version=1.0.0"),
            Ok(TextFormat::OpenMetrics),
        );
        check(
            Some("application/x-www-form-urlencoded"),
            Ok(TextFormat::ByItsEnd),
        );
        check(
            Some("application/vnd.google.protobuf; encoding=delimited"),
            Err(415),
        );
    }

    #[test]
    fn refusals_are_named() {
        let error = |line| LineError {
            line,
            original: "x".to_owned(),
            message: "no value".to_owned(),
        };
        let outcome = |samples, errors: Vec<LineError>| WriteOutcome {
            written: Written {
                samples,
                ..Written::default()
            },
            refused: errors.len() as u64,
            errors,
        };
        assert_eq!(
            describe(&outcome(1, vec![error(2), error(0)])),
            "partial write: line 2: no value; no value dropped=2"
        );
        assert_eq!(
            describe(&outcome(0, vec![error(7)])),
            "unable to parse: line 7: no value dropped=1"
        );
    }
}
