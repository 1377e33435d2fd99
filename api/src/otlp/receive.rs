//! `ExportMetricsServiceRequest`: `POST /v1/metrics`, `POST /api/v1/otlp/v1/metrics` and
//! `MetricsService/Export`.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message;
use serde_json::json;

use crate::http::app::App;
use crate::http::database;
use crate::http::error::{Dialect, OTLP_JSON, OTLP_PROTOBUF};
use crate::http::grpc::{self, UnaryCall};
use crate::http::params::media_type;
use crate::node::backend::{ContentEncoding, OtlpFormat, Protocol, WriteOutcome};
use crate::service::context::{RequestContext, Write};
use crate::service::error::{Code, ServiceError};
use crate::service::write::Points;

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// Refusals that an answer quotes; senders write them to their logs.
const NAMED_ERRORS: usize = 20;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/metrics", post(receive))
        // As Prometheus has it.
        .route("/api/v1/otlp/v1/metrics", post(receive))
}

/// Paths of gRPC.
pub fn grpc_routes() -> Router<Arc<App>> {
    grpc::unary(EXPORT, export)
}

async fn receive(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let dialect = Dialect::of_otlp(&headers);
    match write(&app, &caller, &path, &headers, body).await {
        Ok(outcome) if dialect == Dialect::OtlpJson => as_json(partial_success(&outcome)),
        Ok(outcome) => as_protobuf(partial_success(&outcome)),
        Err(error) => error.respond(dialect),
    }
}

async fn write(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    headers: &HeaderMap,
    body: Body,
) -> Result<WriteOutcome, ServiceError> {
    let access = caller.access::<Write>(&database::of_prometheus(path, headers)?)?;
    let (format, encoding) = (format_of(headers)?, encoding_of(headers)?);
    app.service.backend()?;
    let held = app
        .bodies
        .read(headers, body, app.service.config.max_remote_write_bytes)
        .await?;
    let points = Points {
        protocol: Protocol::Otlp { format },
        encoding,
        accept_partial: true,
        body: held.bytes.clone(),
    };
    app.service.write(&access, points).await
}

async fn export(call: UnaryCall) -> Result<ExportMetricsServiceResponse, ServiceError> {
    let database = database::of_header(&call.headers)?;
    let access = call.caller.access::<Write>(&database)?;
    let points = Points {
        protocol: Protocol::Otlp {
            format: OtlpFormat::Protobuf,
        },
        encoding: call.encoding,
        accept_partial: true,
        body: call.message.bytes.clone(),
    };
    let outcome = call.app.service.write(&access, points).await?;
    Ok(ExportMetricsServiceResponse {
        partial_success: partial_success(&outcome),
    })
}

fn format_of(headers: &HeaderMap) -> Result<OtlpFormat, ServiceError> {
    match media_type(headers).as_str() {
        OTLP_PROTOBUF => Ok(OtlpFormat::Protobuf),
        OTLP_JSON => Ok(OtlpFormat::Json),
        other => Err(ServiceError::new(
            Code::Unsupported,
            format!("content type {other:?} is not supported; send {OTLP_PROTOBUF} or {OTLP_JSON}"),
        )),
    }
}

fn encoding_of(headers: &HeaderMap) -> Result<ContentEncoding, ServiceError> {
    let value = headers.get(CONTENT_ENCODING).map_or("", |value| {
        // What is no text is no known encoding.
        value.to_str().unwrap_or("?")
    });
    match value.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(ContentEncoding::Identity),
        "gzip" => Ok(ContentEncoding::Gzip),
        "zstd" => Ok(ContentEncoding::Zstd),
        other => {
            let other: String = other.chars().take(64).collect();
            Err(ServiceError::new(
                Code::Unsupported,
                format!("content encoding {other:?} is not supported; send gzip, zstd or identity"),
            ))
        }
    }
}

/// What was refused and why; `None` if nothing was.
fn partial_success(outcome: &WriteOutcome) -> Option<ExportMetricsPartialSuccess> {
    if outcome.errors.is_empty() {
        return None;
    }
    let named = outcome.errors.iter().take(NAMED_ERRORS);
    let named: Vec<&str> = named.map(|error| error.message.as_str()).collect();
    let mut error_message = named.join("; ");
    if outcome.errors.len() > NAMED_ERRORS {
        error_message.push_str("; ...");
    }
    Some(ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(outcome.refused).unwrap_or(i64::MAX),
        error_message,
    })
}

fn as_protobuf(partial_success: Option<ExportMetricsPartialSuccess>) -> Response {
    let body = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    (
        [(CONTENT_TYPE, HeaderValue::from_static(OTLP_PROTOBUF))],
        body,
    )
        .into_response()
}

fn as_json(partial_success: Option<ExportMetricsPartialSuccess>) -> Response {
    let body = match partial_success {
        None => json!({}),
        Some(partial) => json!({ "partialSuccess": {
            // Integers of 64 bits are strings in this JSON.
            "rejectedDataPoints": partial.rejected_data_points.to_string(),
            "errorMessage": partial.error_message,
        }}),
    };
    let content_type = [(CONTENT_TYPE, HeaderValue::from_static(OTLP_JSON))];
    (content_type, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use axum::http::header::RETRY_AFTER;

    use super::*;
    use crate::node::backend::LineError;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn headers_say_what_a_body_is() {
        let format = |value: &str| {
            let format = format_of(&with(CONTENT_TYPE, value));
            format.map_err(|error| error.status(Dialect::OtlpJson).as_u16())
        };
        assert_eq!(format("application/x-protobuf"), Ok(OtlpFormat::Protobuf));
        let json = "Application/JSON; charset=utf-8";
        assert_eq!(format(json), Ok(OtlpFormat::Json));
        assert_eq!(format("application/grpc"), Err(415));
        assert_eq!(format(""), Err(415));
        assert!(format_of(&HeaderMap::new()).is_err());
        let encoding = |value: &str| {
            let encoding = encoding_of(&with(CONTENT_ENCODING, value));
            encoding.map_err(|error| error.status(Dialect::OtlpJson).as_u16())
        };
        assert_eq!(encoding("GZIP"), Ok(ContentEncoding::Gzip));
        assert_eq!(encoding("zstd"), Ok(ContentEncoding::Zstd));
        assert_eq!(encoding("identity"), Ok(ContentEncoding::Identity));
        assert_eq!(encoding("snappy"), Err(415));
        let none = encoding_of(&HeaderMap::new()).map_err(drop);
        assert_eq!(none, Ok(ContentEncoding::Identity));
    }

    async fn text(response: Response) -> String {
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        String::from_utf8_lossy(&body.unwrap()).into_owned()
    }

    #[tokio::test]
    async fn refusals_are_a_partial_success() {
        let outcome = |errors: usize| WriteOutcome {
            errors: (0..errors)
                .map(|place| LineError {
                    line: 0,
                    original: String::new(),
                    message: format!("e{place}"),
                })
                .collect(),
            refused: 2 * errors as u64,
            ..WriteOutcome::default()
        };
        assert_eq!(text(as_json(partial_success(&outcome(0)))).await, "{}");
        assert_eq!(text(as_protobuf(partial_success(&outcome(0)))).await, "");
        assert_eq!(
            text(as_json(partial_success(&outcome(2)))).await,
            r#"{"partialSuccess":{"errorMessage":"e0; e1","rejectedDataPoints":"4"}}"#
        );
        let many = partial_success(&outcome(21)).unwrap();
        assert!(many.error_message.ends_with("e19; ..."), "{many:?}");
        assert_eq!(many.rejected_data_points, 42);
    }

    #[tokio::test]
    async fn errors_are_a_status_in_the_type_of_the_request() {
        let later = || ServiceError::unavailable("later");
        let response = later().respond(Dialect::OtlpJson);
        assert_eq!(response.status().as_u16(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(text(response).await, r#"{"code":14,"message":"later"}"#);
        let response = later().respond(Dialect::OtlpProtobuf);
        assert_eq!(response.headers()[CONTENT_TYPE], OTLP_PROTOBUF);
        assert_eq!(text(response).await, "\u{8}\u{e}\u{12}\u{5}later");
        let throttled = Code::Throttled { retry_after_s: 7 };
        let response = ServiceError::new(throttled, "x").respond(Dialect::OtlpJson);
        assert_eq!(response.status().as_u16(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "7");
    }
}
