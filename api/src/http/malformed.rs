//! Requests that HTTP's grammar lets through and that mean two things, or nothing.

use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::{HeaderMap, Version};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::error::Dialect;
use crate::service::error::ServiceError;

/// Answers 400 to such requests.
pub async fn check(request: Request, next: Next) -> Response {
    let (version, path) = (request.version(), request.uri().path());
    match fault(version, path, request.headers()) {
        Some(fault) => ServiceError::bad_request(fault.to_owned()).respond(Dialect::of(&request)),
        None => next.run(request).await,
    }
}

fn fault(version: Version, path: &str, headers: &HeaderMap) -> Option<&'static str> {
    // RFC 9112, 3.2.
    if version == Version::HTTP_11 && headers.get_all(HOST).iter().count() != 1 {
        return Some("a request of HTTP/1.1 has exactly one header Host");
    }
    let decoded = percent_decoded(path);
    if std::str::from_utf8(&decoded).is_err() {
        return Some("the path is no UTF-8 when it is decoded");
    }
    None
}

/// Bytes of a path; what is no code stays as it is.
/// A part of a path without its escapes.
pub fn percent_decoded(path: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    while let Some((first, after)) = rest.split_first() {
        if let (b'%', [high, low, end @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.push((16 * high + low) as u8);
            rest = end;
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[track_caller]
    fn check(version: Version, path: &str, headers: &[(HeaderName, &'static str)], bad: &str) {
        let pairs = headers.iter().cloned();
        let mut all = HeaderMap::new();
        for (name, value) in pairs {
            all.append(name, HeaderValue::from_static(value));
        }
        let fault = fault(version, path, &all).unwrap_or_default();
        assert!(
            fault.contains(bad) && fault.is_empty() == bad.is_empty(),
            "{path}: {fault}"
        );
    }

    #[test]
    fn what_means_two_things_is_refused() {
        let host = &[(HOST, "localhost")];
        check(Version::HTTP_11, "/db/a%20b%/x%zz", host, "");
        check(Version::HTTP_11, "/", &[], "one header Host");
        check(
            Version::HTTP_11,
            "/",
            &[host[0].clone(), (HOST, "other")],
            "one header Host",
        );
        check(Version::HTTP_10, "/", &[], "");
        check(Version::HTTP_2, "/", &[], "");
        check(Version::HTTP_11, "/db/%ff/api/v1/query", host, "no UTF-8");
        check(Version::HTTP_11, "/db/%c3%a4/api/v1/query", host, "");
    }
}
