//! The one place where a code becomes a status and a body for the protocol that asked.
//!
//! Senders act on the status alone: Telegraf and Prometheus drop a batch on any other 4xx and retry
//! a 5xx, so what may succeed later is always 503 with `Retry-After`, and what can never succeed is
//! never a 5xx.
use std::error::Error;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde_json::json;
use tonic::Status;

use crate::http::grpc;
use crate::http::params::media_type;
use crate::service::error::{Code, RETRY_AFTER_S, ServiceError};

/// What a client may show.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer, Basic realm=\"tidelake\"");

/// The content types of OTLP.
pub const OTLP_PROTOBUF: &str = "application/x-protobuf";
pub const OTLP_JSON: &str = "application/json";

/// How a protocol words its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error": "..."}`: `/write`, `/api/v3/*`
    Influx,
    /// `{"code": "invalid", "message": "..."}`: `/api/v2/*`
    InfluxV2,
    /// `{"status": "error", "errorType": "bad_data", "error": "..."}`
    Prometheus,
    /// The message alone: remote write, administration.
    Text,
    /// `google.rpc.Status` in protobuf: OTLP.
    OtlpProtobuf,
    /// The same in JSON.
    OtlpJson,
    /// A status of gRPC in the trailers of a response that is 200 to HTTP.
    Grpc,
}

/// What a status of gRPC may be long: clients refuse heads of more than 8 KiB, and it is there
/// twice.
const MAX_STATUS_CHARS: usize = 1000;

impl Dialect {
    /// The words for a request, for errors that no handler words.
    pub fn of<B>(request: &Request<B>) -> Self {
        if grpc::is_grpc(request.headers()) {
            return Self::Grpc;
        }
        match Self::of_path(request.uri().path()) {
            Self::OtlpProtobuf => Self::of_otlp(request.headers()),
            dialect => dialect,
        }
    }

    /// The words for a request of OTLP: in the content type that it has.
    pub fn of_otlp(headers: &HeaderMap) -> Self {
        match media_type(headers) == OTLP_JSON {
            true => Self::OtlpJson,
            false => Self::OtlpProtobuf,
        }
    }

    fn of_path(path: &str) -> Self {
        let below = path
            .strip_prefix("/db/")
            .and_then(|rest| rest.find('/').map(|slash| &rest[slash..]))
            .unwrap_or(path);
        match below {
            "/api/v1/write" | "/api/v1/read" => Self::Text,
            "/v1/metrics" | "/api/v1/otlp/v1/metrics" => Self::OtlpProtobuf,
            _ if below.starts_with("/admin/") || below.starts_with("/metrics/job") => Self::Text,
            _ if below.starts_with("/api/v1/") => Self::Prometheus,
            _ if below.starts_with("/api/v2/") => Self::InfluxV2,
            _ => Self::Influx,
        }
    }
}

impl ServiceError {
    /// The status for a protocol. What is throttled is 503 where clients drop what gets a 429.
    pub fn status(&self, dialect: Dialect) -> StatusCode {
        match self.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::Conflict => StatusCode::CONFLICT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Execution | Code::Limited => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Throttled { .. } => match dialect {
                // Prometheus and Telegraf's first output drop every other 4xx and this one.
                Dialect::Text | Dialect::Influx | Dialect::Grpc => StatusCode::SERVICE_UNAVAILABLE,
                // OpenTelemetry's SDK for Python retries no 4xx but 408.
                Dialect::OtlpProtobuf | Dialect::OtlpJson => StatusCode::SERVICE_UNAVAILABLE,
                Dialect::InfluxV2 | Dialect::Prometheus => StatusCode::TOO_MANY_REQUESTS,
            },
            Code::Timeout | Code::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Code::Damaged | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The answer in the words of a protocol.
    pub fn respond(self, dialect: Dialect) -> Response {
        let status = self.status(dialect);
        let (content_type, body): (_, Body) = match dialect {
            Dialect::Grpc => return Status::from(self).into_http(),
            Dialect::Influx => (
                "application/json",
                json!({ "error": self.message }).to_string().into(),
            ),
            Dialect::InfluxV2 => (
                "application/json",
                json!({ "code": self.influx_code(), "message": self.message })
                    .to_string()
                    .into(),
            ),
            Dialect::Prometheus => {
                let kind = self.prometheus_type();
                let body = json!({ "status": "error", "errorType": kind, "error": self.message });
                ("application/json", body.to_string().into())
            }
            Dialect::OtlpProtobuf => {
                let status = rpc_status(self.grpc_code(), &self.message, Vec::new());
                (OTLP_PROTOBUF, status.into())
            }
            Dialect::OtlpJson => {
                let code = i32::from(self.grpc_code());
                let body = json!({ "code": code, "message": self.message });
                (OTLP_JSON, body.to_string().into())
            }
            Dialect::Text => (
                "text/plain; charset=utf-8",
                (self.message.clone() + "\n").into(),
            ),
        };
        self.log();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        match self.code {
            Code::Unavailable { retry_after_s } | Code::Throttled { retry_after_s } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_s.max(1)));
            }
            Code::Timeout => drop(headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S))),
            Code::Unauthenticated => drop(headers.insert(WWW_AUTHENTICATE, CHALLENGE)),
            _ => {}
        }
        response
    }

    /// Failures that somebody has to look at.
    fn log(&self) {
        if matches!(self.code, Code::Damaged | Code::Internal) {
            let source = self.source().map(tracing::field::display);
            tracing::error!(error = %self.message, source, "a request failed");
        }
    }

    /// The status of gRPC. OpenTelemetry's senders come again after `UNAVAILABLE`, and after
    /// `RESOURCE_EXHAUSTED` only if it says when; no status that they retry is for what never
    /// succeeds.
    fn grpc_code(&self) -> tonic::Code {
        match self.code {
            Code::BadRequest | Code::Execution => tonic::Code::InvalidArgument,
            Code::Unauthenticated => tonic::Code::Unauthenticated,
            Code::NotFound => tonic::Code::NotFound,
            Code::Forbidden => tonic::Code::PermissionDenied,
            Code::Conflict => tonic::Code::AlreadyExists,
            Code::TooLarge | Code::Limited => tonic::Code::ResourceExhausted,
            Code::Unsupported => tonic::Code::Unimplemented,
            Code::Timeout => tonic::Code::DeadlineExceeded,
            Code::Throttled { .. } | Code::Unavailable { .. } => tonic::Code::Unavailable,
            Code::Damaged => tonic::Code::DataLoss,
            Code::Internal => tonic::Code::Internal,
        }
    }

    fn influx_code(&self) -> &'static str {
        match self.code {
            Code::BadRequest => "invalid",
            Code::Unauthenticated => "unauthorized",
            Code::NotFound => "not found",
            Code::Forbidden => "forbidden",
            Code::Conflict => "conflict",
            Code::TooLarge => "request too large",
            Code::Unsupported => "unsupported media type",
            Code::Execution | Code::Limited => "unprocessable entity",
            Code::Throttled { .. } => "too many requests",
            Code::Timeout | Code::Unavailable { .. } => "unavailable",
            Code::Damaged | Code::Internal => "internal error",
        }
    }

    fn prometheus_type(&self) -> &'static str {
        match self.code {
            Code::BadRequest
            | Code::Conflict
            | Code::Forbidden
            | Code::Unauthenticated
            | Code::TooLarge
            | Code::Unsupported => "bad_data",
            Code::NotFound => "not_found",
            Code::Execution | Code::Limited => "execution",
            Code::Timeout => "timeout",
            Code::Throttled { .. } | Code::Unavailable { .. } => "unavailable",
            Code::Damaged | Code::Internal => "internal",
        }
    }
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        error.log();
        let code = error.grpc_code();
        let mut message = error.message;
        if let Some((end, _)) = message.char_indices().nth(MAX_STATUS_CHARS) {
            message.truncate(end);
            message.push_str("...");
        }
        match error.code {
            Code::Unavailable { retry_after_s } | Code::Throttled { retry_after_s } => {
                let details = vec![retry_info(retry_after_s.max(1))];
                let details = rpc_status(code, &message, details);
                Status::with_details(code, message, details.into())
            }
            _ => Status::new(code, message),
        }
    }
}

/// A `google.rpc.RetryInfo`, by which senders know when to come again.
fn retry_info(after_s: u64) -> RpcAny {
    #[derive(prost::Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<Delay>,
    }
    #[derive(prost::Message)]
    struct Delay {
        #[prost(int64, tag = "1")]
        seconds: i64,
    }
    let seconds = i64::try_from(after_s).unwrap_or(i64::MAX);
    let delay = RetryInfo {
        retry_delay: Some(Delay { seconds }),
    };
    RpcAny {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: delay.encode_to_vec(),
    }
}

/// `google.protobuf.Any`
#[derive(prost::Message)]
struct RpcAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// A `google.rpc.Status` in protobuf.
fn rpc_status(code: tonic::Code, message: &str, details: Vec<RpcAny>) -> Vec<u8> {
    #[derive(prost::Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<RpcAny>,
    }
    let status = RpcStatus {
        code: code.into(),
        message: message.to_owned(),
        details,
    };
    status.encode_to_vec()
}

/// The status of HTTP that figures count for one of gRPC.
pub fn http_equivalent(status: &Status) -> StatusCode {
    match status.code() {
        tonic::Code::Ok => StatusCode::OK,
        tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
        tonic::Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        tonic::Code::PermissionDenied => StatusCode::FORBIDDEN,
        tonic::Code::NotFound => StatusCode::NOT_FOUND,
        tonic::Code::AlreadyExists => StatusCode::CONFLICT,
        tonic::Code::ResourceExhausted => StatusCode::UNPROCESSABLE_ENTITY,
        tonic::Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::backend::{IngestError, QueryError, SqlError};

    async fn check(error: ServiceError, dialect: Dialect, status: u16, body: &str) {
        let response = error.respond(dialect);
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(
            response.headers().contains_key(RETRY_AFTER),
            status == 503,
            "Retry-After exactly on 503"
        );
        let bytes = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), body);
    }

    #[tokio::test]
    async fn every_protocol_gets_its_own_words() {
        let bad = || ServiceError::bad_request("a \"b\"");
        check(bad(), Dialect::Influx, 400, r#"{"error":"a \"b\""}"#).await;
        check(
            bad(),
            Dialect::InfluxV2,
            400,
            r#"{"code":"invalid","message":"a \"b\""}"#,
        )
        .await;
        check(bad(), Dialect::Text, 400, "a \"b\"\n").await;
        check(
            ServiceError::unavailable("x"),
            Dialect::InfluxV2,
            503,
            r#"{"code":"unavailable","message":"x"}"#,
        )
        .await;
        check(
            ServiceError::new(Code::TooLarge, "x"),
            Dialect::InfluxV2,
            413,
            r#"{"code":"request too large","message":"x"}"#,
        )
        .await;
    }

    #[tokio::test]
    async fn prometheus_statuses() {
        let check_kind = async |kind, status, name: &str| {
            let error: serde_json::Value = {
                let response = ServiceError::new(kind, "m").respond(Dialect::Prometheus);
                assert_eq!(response.status().as_u16(), status);
                serde_json::from_slice(
                    &axum::body::to_bytes(response.into_body(), 10_000)
                        .await
                        .unwrap(),
                )
                .unwrap()
            };
            assert_eq!(
                error,
                json!({ "status": "error", "errorType": name, "error": "m" })
            );
        };
        check_kind(Code::BadRequest, 400, "bad_data").await;
        check_kind(Code::Execution, 422, "execution").await;
        check_kind(Code::Limited, 422, "execution").await;
        check_kind(Code::Timeout, 503, "timeout").await;
        check_kind(Code::Internal, 500, "internal").await;
        check_kind(Code::NotFound, 404, "not_found").await;
    }

    #[test]
    fn paths_have_dialects() {
        let check = |path, expected| assert_eq!(Dialect::of_path(path), expected, "{path}");
        check("/api/v1/query", Dialect::Prometheus);
        check("/db/d/api/v1/query", Dialect::Prometheus);
        check("/api/v1/write", Dialect::Text);
        check("/db/d/api/v1/read", Dialect::Text);
        check("/v1/metrics", Dialect::OtlpProtobuf);
        check("/db/d/api/v1/otlp/v1/metrics", Dialect::OtlpProtobuf);
        check("/api/v2/write", Dialect::InfluxV2);
        check("/api/v3/query_sql", Dialect::Influx);
        check("/write", Dialect::Influx);
        check("/db/", Dialect::Influx);
    }

    #[test]
    fn what_can_never_succeed_is_never_a_5xx() {
        let check = |error: ServiceError, status: u16| {
            assert_eq!(error.status(Dialect::Influx).as_u16(), status, "{error:?}")
        };
        check(IngestError::BadRequest("x".into()).into(), 400);
        check(IngestError::TooLarge("x".into()).into(), 413);
        check(IngestError::Unsupported("x".into()).into(), 415);
        check(
            IngestError::Unavailable {
                reason: "x".into(),
                retry_after_s: 9,
            }
            .into(),
            503,
        );
        check(IngestError::Fenced("x".into()).into(), 503);
        check(SqlError::ResourcesExhausted("x".into()).into(), 422);
        check(QueryError::Execution("x".into()).into(), 422);
        check(SqlError::Unavailable("x".into()).into(), 503);
        check(
            SqlError::Damaged {
                object: "x".into(),
                message: "y".into(),
            }
            .into(),
            500,
        );
    }
}
