//! Failures: a few kinds, and the one place where a kind becomes a status and a body for the
//! protocol that asked.
//!
//! Senders act on the status alone: Telegraf and Prometheus drop a batch on any other 4xx and retry
//! a 5xx, so what may succeed later is always 503 with `Retry-After`, and what can never succeed is
//! never a 5xx.
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::backend::{IngestError, QueryError, SqlError};

/// What the caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Change the request.
    BadRequest,
    /// Ask for something that exists.
    NotFound,
    /// Ask for something that does not exist yet.
    Conflict,
    /// Ask from somewhere else, or be allowed to.
    Forbidden,
    /// Send less at once.
    TooLarge,
    /// Use another encoding or message.
    Unsupported,
    /// Change the query: well-formed, but it cannot be answered.
    Execution,
    /// Change the query: it asks for more than a limit allows.
    Limited,
    /// Ask for less, or later: it took too long.
    Timeout,
    /// Send the same again after so many seconds.
    Unavailable {
        /// Seconds.
        retry_after_s: u64,
    },
    /// Restore an object of the store, or ask for a partial answer.
    Damaged,
    /// Report it.
    Internal,
}

/// A failure on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// What the caller can do.
    pub kind: Kind,
    /// What was wrong, where, and what to do.
    pub message: String,
}

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

/// Seconds after which a client may try again when nothing better is known.
pub const RETRY_AFTER_S: u64 = 1;

impl ApiError {
    /// A failure of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    /// The same request may succeed soon.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(
            Kind::Unavailable {
                retry_after_s: RETRY_AFTER_S,
            },
            message,
        )
    }

    /// The status of this kind, the same for all protocols.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::BadRequest => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Execution | Kind::Limited => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Timeout | Kind::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Damaged | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The answer in the words of a protocol.
    pub fn respond(self, dialect: Dialect) -> Response {
        let status = self.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self.message, "a request failed");
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
                let body = json!({ "status": "error", "errorType": self.prometheus_type(), "error": self.message });
                ("application/json", body.to_string())
            }
            Dialect::Text => ("text/plain; charset=utf-8", self.message.clone() + "\n"),
        };
        let mut response = (status, body).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = match self.kind {
                Kind::Unavailable { retry_after_s } => retry_after_s.max(1),
                _ => RETRY_AFTER_S,
            };
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn influx_code(&self) -> &'static str {
        match self.kind {
            Kind::BadRequest => "invalid",
            Kind::NotFound => "not found",
            Kind::Forbidden => "forbidden",
            Kind::Conflict => "conflict",
            Kind::TooLarge => "request too large",
            Kind::Unsupported => "unsupported media type",
            Kind::Execution | Kind::Limited => "unprocessable entity",
            Kind::Timeout | Kind::Unavailable { .. } => "unavailable",
            Kind::Damaged | Kind::Internal => "internal error",
        }
    }

    fn prometheus_type(&self) -> &'static str {
        match self.kind {
            Kind::BadRequest
            | Kind::Conflict
            | Kind::Forbidden
            | Kind::TooLarge
            | Kind::Unsupported => "bad_data",
            Kind::NotFound => "not_found",
            Kind::Execution | Kind::Limited => "execution",
            Kind::Timeout => "timeout",
            Kind::Unavailable { .. } => "unavailable",
            Kind::Damaged | Kind::Internal => "internal",
        }
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        let message = error.to_string();
        let kind = match error {
            IngestError::BadRequest(_) => Kind::BadRequest,
            IngestError::TooLarge(_) => Kind::TooLarge,
            IngestError::Unsupported(_) => Kind::Unsupported,
            IngestError::Unavailable { retry_after_s, .. } => Kind::Unavailable { retry_after_s },
            // The process ends now; its successor on this node will answer.
            IngestError::Fenced(_) => Kind::Unavailable {
                retry_after_s: RETRY_AFTER_S,
            },
            IngestError::Internal(_) => Kind::Internal,
        };
        Self { kind, message }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        let kind = match error {
            QueryError::BadData(_) => Kind::BadRequest,
            QueryError::Execution(_) => Kind::Execution,
            QueryError::Limited(_) => Kind::Limited,
            QueryError::Timeout(_) => Kind::Timeout,
            QueryError::Unavailable(_) => Kind::Unavailable {
                retry_after_s: RETRY_AFTER_S,
            },
            QueryError::Internal(_) => Kind::Internal,
        };
        Self { kind, message }
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        let message = error.to_string();
        let kind = match error {
            SqlError::BadRequest(_) => Kind::BadRequest,
            SqlError::NotFound(_) => Kind::NotFound,
            // Sent again, the same query would hit the same limit: not a 503.
            SqlError::ResourcesExhausted(_) => Kind::Limited,
            SqlError::Timeout => Kind::Timeout,
            SqlError::Unavailable(_) => Kind::Unavailable {
                retry_after_s: RETRY_AFTER_S,
            },
            SqlError::Damaged { .. } => Kind::Damaged,
            SqlError::Internal(_) => Kind::Internal,
        };
        Self { kind, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(error: ApiError, dialect: Dialect, status: u16, body: &str) {
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
        let bad = || ApiError::bad_request("a \"b\"");
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
            ApiError::unavailable("x"),
            Dialect::InfluxV2,
            503,
            r#"{"code":"unavailable","message":"x"}"#,
        )
        .await;
        check(
            ApiError::new(Kind::TooLarge, "x"),
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
                let response = ApiError::new(kind, "m").respond(Dialect::Prometheus);
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
        check_kind(Kind::BadRequest, 400, "bad_data").await;
        check_kind(Kind::Execution, 422, "execution").await;
        check_kind(Kind::Limited, 422, "execution").await;
        check_kind(Kind::Timeout, 503, "timeout").await;
        check_kind(Kind::Internal, 500, "internal").await;
        check_kind(Kind::NotFound, 404, "not_found").await;
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
        let check =
            |error: ApiError, status: u16| assert_eq!(error.status().as_u16(), status, "{error:?}");
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
