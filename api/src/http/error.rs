//! The one place where a code becomes a status and a body for the protocol that asked.
//!
//! Senders act on the status alone: Telegraf and Prometheus drop a batch on any other 4xx and retry
//! a 5xx, so what may succeed later is always 503 with `Retry-After`, and what can never succeed is
//! never a 5xx.
use std::error::Error;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::service::error::{Code, RETRY_AFTER_S, ServiceError};

/// What a client may show.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer, Basic realm=\"tidelake\"");

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
}

impl Dialect {
    /// The words of a path, for errors that no handler words.
    pub fn of_path(path: &str) -> Self {
        let below = path
            .strip_prefix("/db/")
            .and_then(|rest| rest.find('/').map(|slash| &rest[slash..]))
            .unwrap_or(path);
        match below {
            "/api/v1/write" | "/api/v1/read" => Self::Text,
            _ if below.starts_with("/admin/") => Self::Text,
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
                Dialect::Text | Dialect::Influx => StatusCode::SERVICE_UNAVAILABLE,
                Dialect::InfluxV2 | Dialect::Prometheus => StatusCode::TOO_MANY_REQUESTS,
            },
            Code::Timeout | Code::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Code::Damaged | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The answer in the words of a protocol.
    pub fn respond(self, dialect: Dialect) -> Response {
        let status = self.status(dialect);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            let source = self.source().map(tracing::field::display);
            tracing::error!(error = %self.message, source, "a request failed");
        }
        let (content_type, body) = match dialect {
            Dialect::Influx => (
                "application/json",
                json!({ "error": self.message }).to_string(),
            ),
            Dialect::InfluxV2 => (
                "application/json",
                json!({ "code": self.influx_code(), "message": self.message }).to_string(),
            ),
            Dialect::Prometheus => {
                let kind = self.prometheus_type();
                let body = json!({ "status": "error", "errorType": kind, "error": self.message });
                ("application/json", body.to_string())
            }
            Dialect::Text => ("text/plain; charset=utf-8", self.message.clone() + "\n"),
        };
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
