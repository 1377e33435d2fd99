//! Who sends a request: the token that it shows, in any of the places where clients put one.
//!
//! This comes before anything of the body is read.
use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use url::form_urlencoded;

use crate::http::app::App;
use crate::http::class;
use crate::http::cluster;
use crate::http::connections::Peer;
use crate::http::error::Dialect;
use crate::service::context::{Principal, RequestContext};
use crate::service::error::{Code, ServiceError};
use crate::ui;

/// Asked before a client has a token, and by what watches the process.
const OPEN_PATHS: [&str; 5] = ["/health", "/-/healthy", "/ready", "/-/ready", "/ping"];

/// Flight's handshake may show the secret in its message instead, and then authenticates itself.
const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// Puts the context of the request into it, or answers 401.
pub async fn check(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Those check a secret of their own.
    if cluster::is_internal(path) {
        request.extensions_mut().insert(app);
        return next.run(request).await;
    }
    if OPEN_PATHS.contains(&path) || ui::is_public(path) {
        return next.run(request).await;
    }
    if request.uri().path() == HANDSHAKE && !request.headers().contains_key(AUTHORIZATION) {
        return next.run(request).await;
    }
    let context = principal(&app, &request).and_then(|principal| {
        let class = class::of(request.headers())?;
        Ok(RequestContext::new(principal).of_class(class))
    });
    match context {
        Ok(context) => {
            request.extensions_mut().insert(context);
            next.run(request).await
        }
        Err(error) => error.respond(Dialect::of(&request)),
    }
}

fn principal(app: &App, request: &Request) -> Result<Principal, ServiceError> {
    if !app.service.config.auth {
        return Ok(Principal::Anyone);
    }
    let shown = shown(request.headers(), request.uri().query())?;
    let certified = request.extensions().get::<Peer>();
    match (&shown, certified.and_then(|peer| peer.name.as_deref())) {
        (None, Some(name)) => app.service.authenticate_name(name),
        _ => app.service.authenticate(shown.as_deref()),
    }
}

/// The secret that a request shows: in its header, or else in its address as `token=` or `p=`.
fn shown<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<Option<Cow<'a, str>>, ServiceError> {
    if let Some(header) = headers.get(AUTHORIZATION) {
        return in_header(header);
    }
    if let Some(header) = headers.get(FLIGHT_TOKEN) {
        return in_flight_token(header);
    }
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let secret = pairs.find(|(name, value)| matches!(&**name, "token" | "p") && !value.is_empty());
    Ok(secret.map(|(_, value)| value))
}

/// What a handshake of Flight has given, as old clients of it send it.
const FLIGHT_TOKEN: HeaderName = HeaderName::from_static("auth-token-bin");

fn in_flight_token(header: &HeaderValue) -> Result<Option<Cow<'_, str>>, ServiceError> {
    let bytes = header.to_str().ok().and_then(base64);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| {
        ServiceError::new(
            Code::Unauthenticated,
            "auth-token-bin must be text in Base64",
        )
    })?;
    Ok((!text.is_empty()).then_some(Cow::Owned(text)))
}

/// Base64 with or without padding: Go's client of Flight leaves it out.
fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

/// The secret in a header `Authorization`.
pub fn in_header(header: &HeaderValue) -> Result<Option<Cow<'_, str>>, ServiceError> {
    let bad = || {
        ServiceError::new(
            Code::Unauthenticated,
            "the header Authorization must be \"Bearer TOKEN\", \"Token TOKEN\", or Basic with any \
             user and the token as its password",
        )
    };
    let text = header.to_str().map_err(|_| bad())?.trim();
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    let secret = if scheme.eq_ignore_ascii_case("bearer") {
        Cow::Borrowed(rest)
    } else if scheme.eq_ignore_ascii_case("token") {
        // Clients of InfluxDB 1.8 send a user, too.
        Cow::Borrowed(rest.split_once(':').map_or(rest, |(_, password)| password))
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = base64(rest).ok_or_else(bad)?;
        let pair = String::from_utf8(pair).map_err(|_| bad())?;
        let (_, password) = pair.split_once(':').ok_or_else(bad)?;
        Cow::Owned(password.to_owned())
    } else {
        return Err(bad());
    };
    // Telegraf sends an empty one if it has none.
    Ok((!secret.is_empty()).then_some(secret))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn secrets_are_found_where_clients_put_them() {
        let check =
            |header: Option<&str>, query: Option<&str>, expected: Result<Option<&str>, ()>| {
                let mut headers = HeaderMap::new();
                if let Some(header) = header {
                    headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
                }
                let found = shown(&headers, query).map_err(drop);
                assert_eq!(
                    found.as_ref().map(Option::as_deref),
                    expected.as_ref().map(|e| *e)
                );
            };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        check(None, None, Ok(None));
        check(Some("Bearer abc"), None, Ok(Some("abc")));
        check(Some("bearer  abc"), None, Ok(Some("abc")));
        check(Some("Token abc"), None, Ok(Some("abc")));
        check(Some("Token user:abc"), None, Ok(Some("abc")));
        check(Some("Token "), None, Ok(None));
        check(Some(&basic("anyone:a:c")), None, Ok(Some("a:c")));
        check(Some(&basic(":abc")), None, Ok(Some("abc")));
        check(Some("Basic dTphYmM="), None, Ok(Some("abc")));
        check(Some("Basic dTphYmM"), None, Ok(Some("abc")));
        check(Some(&basic("abc")), None, Err(()));
        check(Some("Basic ???"), None, Err(()));
        check(Some("Digest abc"), None, Err(()));
        check(Some("abc"), None, Err(()));
        check(None, Some("db=x&u=me&p=a%2Bc"), Ok(Some("a+c")));
        check(None, Some("token=abc"), Ok(Some("abc")));
        check(None, Some("p=&token=abc"), Ok(Some("abc")));
        // A header counts alone.
        check(Some("Bearer abc"), Some("token=xyz"), Ok(Some("abc")));
        check(Some("Token "), Some("token=xyz"), Ok(None));
    }

    #[test]
    fn what_a_handshake_gave_is_shown_in_its_own_header() {
        let check = |value: &str, expected: Result<Option<&str>, ()>| {
            let headers = HeaderMap::from_iter([(FLIGHT_TOKEN, value.parse().unwrap())]);
            let found = shown(&headers, None).map_err(drop);
            assert_eq!(
                found.as_ref().map(Option::as_deref),
                expected.as_ref().map(|e| *e)
            );
        };
        check("YWJj", Ok(Some("abc")));
        check("YWI=", Ok(Some("ab")));
        check("YWI", Ok(Some("ab")));
        check("", Ok(None));
        check("/w==", Err(()));
        check("?", Err(()));
    }
}
