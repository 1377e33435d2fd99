//! gRPC on the router and the connections of HTTP: each method is a POST to a path of its own.
//!
//! A request has passed `malformed`, `origin` and `authenticate` when it comes here, like all
//! others. What is the same for all methods is here: content type, the client's deadline, size and
//! memory of messages, compression. A method is added in one of two ways:
//! - [`service`], for a generated service: its messages come decoded;
//! - [`unary`], for a message that is to be stored or decoded as received.
//!
//! Handlers find the [`RequestContext`] in the extensions of the request. They answer a
//! [`ServiceError`], which `http::error` turns into a status.
mod messages;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Version};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{BufMut, BytesMut};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

pub use self::messages::Message;
use self::messages::Messages;
use crate::http::app::App;
use crate::http::error::Dialect;
use crate::node::backend::ContentEncoding;
use crate::service::context::RequestContext;
use crate::service::error::{Code, ServiceError};

const CONTENT: &str = "application/grpc";
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What messages may be compressed with.
const ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");
/// Bytes before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Whether a request is one of gRPC, whatever its path.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = value.and_then(|value| value.strip_prefix(CONTENT.as_bytes()));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// Routes to the methods of a generated service, by their paths. What `make` gives for each call
/// gets messages within the limit and decompressed, so it sets no limit of its own.
pub fn service<S>(methods: &[&'static str], make: fn(Arc<App>) -> S) -> Router<Arc<App>>
where
    S: Service<
            axum::http::Request<tonic::body::Body>,
            Response = axum::http::Response<tonic::body::Body>,
            Error = Infallible,
        > + Send
        + 'static,
    S::Future: Send,
{
    let handler = move |State(app): State<Arc<App>>, request: Request| async move {
        answer(Call::begin(&app, request), async |call| {
            let service = make(app);
            let (messages, _memory) = call.messages.decompressed(call.encoding);
            let request = axum::http::Request::from_parts(call.parts, messages);
            let Ok(response) = service.oneshot(request).await;
            Ok(response.map(Body::new))
        })
        .await
    };
    let empty = Router::new();
    let add = |router: Router<_>, path: &&'static str| router.route(path, post(handler));
    methods.iter().fold(empty, add)
}

/// What a method of one message gets.
pub struct UnaryCall {
    /// What all handlers share.
    pub app: Arc<App>,
    /// The caller, and until when an answer is of use.
    pub caller: RequestContext,
    /// The metadata.
    pub headers: HeaderMap,
    /// The message as received.
    pub message: Message,
    /// What it is compressed with.
    pub encoding: ContentEncoding,
}

/// A route to a method that takes one message and answers one.
pub fn unary<F, A>(path: &str, method: fn(UnaryCall) -> F) -> Router<Arc<App>>
where
    F: Future<Output = Result<A, ServiceError>> + Send + 'static,
    A: prost::Message + 'static,
{
    let handler = move |State(app): State<Arc<App>>, request: Request| async move {
        answer(Call::begin(&app, request), async |mut call| {
            let Some(message) = call.messages.next().await else {
                return Err(ServiceError::bad_request("the request has no message"));
            };
            let message = message?;
            let encoding = match message.is_compressed {
                true => call.encoding.ok_or_else(messages::not_announced)?,
                false => ContentEncoding::Identity,
            };
            let caller = call.parts.extensions.remove::<RequestContext>();
            let caller = caller.ok_or_else(|| {
                ServiceError::new(Code::Internal, "the request was not authenticated")
            })?;
            let headers = call.parts.headers;
            let call = UnaryCall {
                app,
                caller,
                headers,
                message,
                encoding,
            };
            Ok(of_message(&method(call).await?))
        })
        .await
    };
    Router::new().route(path, post(handler))
}

/// A call before its method gets it.
struct Call {
    parts: Parts,
    messages: Messages,
    /// What messages are compressed with that are.
    encoding: Option<ContentEncoding>,
    /// When the client no longer waits.
    until: Option<Instant>,
}

/// Why a call does not begin, and the words for it.
type Refusal = (ServiceError, Dialect);

impl Call {
    fn begin(app: &Arc<App>, request: Request) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        if !is_grpc(&parts.headers) {
            let message = "this is a method of gRPC: send application/grpc over HTTP/2";
            return Err((
                ServiceError::new(Code::Unsupported, message),
                Dialect::Influx,
            ));
        }
        if parts.version != Version::HTTP_2 {
            let message = "gRPC needs HTTP/2; a proxy between may have made HTTP/1.1 of it";
            return Err((ServiceError::bad_request(message), Dialect::Influx));
        }
        let refusal = |error| (error, Dialect::Grpc);
        let encoding = encoding(&parts.headers).map_err(refusal)?;
        let timeout = timeout(&parts.headers).map_err(refusal)?;
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let (Some(until), Some(caller)) = (until, parts.extensions.get_mut::<RequestContext>()) {
            caller.waits_until(until);
        }
        // Messages are decompressed before a service gets them.
        parts.headers.remove(ENCODING);
        let accepted = parts.headers.get(ACCEPT_ENCODING);
        match accepted.and_then(|value| answer_encoding(value, encoding)) {
            Some(value) => drop(parts.headers.insert(ACCEPT_ENCODING, value)),
            None => drop(parts.headers.remove(ACCEPT_ENCODING)),
        }
        Ok(Self {
            parts,
            messages: Messages::new(Arc::clone(app), body),
            encoding,
            until,
        })
    }
}

/// The answer of a method, in time.
async fn answer(
    call: Result<Call, Refusal>,
    method: impl AsyncFnOnce(Call) -> Result<Response, ServiceError>,
) -> Response {
    let answered = match call {
        Err((error, Dialect::Grpc)) => Err(error),
        Err((error, dialect)) => return error.respond(dialect),
        Ok(call) => match call.until {
            None => method(call).await,
            Some(until) => match tokio::time::timeout_at(until, method(call)).await {
                Ok(answered) => answered,
                Err(_) => {
                    let message = "the client did not wait longer (grpc-timeout)";
                    Err(ServiceError::new(Code::Timeout, message))
                }
            },
        },
    };
    let mut response = answered.unwrap_or_else(|error| error.respond(Dialect::Grpc));
    response.headers_mut().insert(ACCEPT_ENCODING, ENCODINGS);
    response
}

/// A response of one message.
fn of_message(message: &impl prost::Message) -> Response {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put(&message.encode_to_vec()[..]);
    let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]);
    let body = Full::new(bytes.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    ([(CONTENT_TYPE, CONTENT)], Body::new(body)).into_response()
}

/// What the messages of a request are compressed with.
fn encoding(headers: &HeaderMap) -> Result<Option<ContentEncoding>, ServiceError> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(None),
        Some(b"gzip") => Ok(Some(ContentEncoding::Gzip)),
        Some(b"zstd") => Ok(Some(ContentEncoding::Zstd)),
        Some(other) => {
            let other: String = String::from_utf8_lossy(other).chars().take(64).collect();
            let message =
                format!("grpc-encoding {other:?} is not supported; send identity, gzip or zstd");
            Err(ServiceError::new(Code::Unsupported, message))
        }
    }
}

/// What an answer may be compressed with. Most libraries accept gzip unasked, which would cost
/// processors more than networks. So gzip is for clients that send it, and zstd for those that
/// accept it, which none does unasked.
fn answer_encoding(accepted: &HeaderValue, sent: Option<ContentEncoding>) -> Option<HeaderValue> {
    let mut names = accepted.to_str().ok()?.split(',').map(str::trim);
    if names.clone().any(|name| name == "zstd") {
        return Some(HeaderValue::from_static("zstd"));
    }
    (sent == Some(ContentEncoding::Gzip) && names.any(|name| name == "gzip"))
        .then(|| HeaderValue::from_static("gzip"))
}

/// How long the client waits: at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, ServiceError> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(None);
    };
    let bad = || ServiceError::bad_request("grpc-timeout must be 1 to 8 digits and one of HMSmun");
    let (unit, digits) = value.as_bytes().split_last().ok_or_else(bad)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let number = digits
        .iter()
        .fold(0, |n, digit| 10 * n + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(3600 * number),
        b'M' => Duration::from_secs(60 * number),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(bad()),
    };
    Ok(Some(timeout))
}

#[cfg(test)]
mod tests;
