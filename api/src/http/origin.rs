//! Requests that a web page may have had a browser make.
//!
//! Without tokens, anybody who reaches the port may change everything, and a browser on the same
//! machine reaches it on behalf of any page that it shows. A page of another origin is told by the
//! header `Origin`; one whose name was made to mean this machine (DNS rebinding) by `Host`, which
//! then has that name. So a request that may change something has to name an allowed host, and an
//! origin of such a host if it names any. With tokens the host may be any: a page of another name
//! has none of the browser's passwords for this one.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::app::App;
use crate::http::cluster;
use crate::http::error::Dialect;
use crate::service::error::{Code, ServiceError};

/// Ends of names that the public DNS does not have: of this machine, and of private networks.
const PRIVATE_SUFFIXES: [&str; 6] = [
    ".localhost",
    ".local",
    ".internal",
    ".lan",
    ".home.arpa",
    ".cluster.local",
];

/// Answers 403 to requests that may change something and that a foreign page may have made.
pub async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    ) || cluster::is_internal(request.uri().path())
    {
        return next.run(request).await;
    }
    let config = &app.service.config;
    let any_host = config.auth;
    match refused(
        request.headers(),
        request.uri(),
        &config.allowed_hosts,
        any_host,
    ) {
        Some(reason) => {
            let dialect = Dialect::of(&request);
            ServiceError::new(Code::Forbidden, reason).respond(dialect)
        }
        None => next.run(request).await,
    }
}

fn refused(headers: &HeaderMap, uri: &Uri, allowed: &[String], any_host: bool) -> Option<String> {
    let host = headers
        .get(HOST)
        .map(|host| host.to_str().unwrap_or_default());
    // HTTP/2 has it in the address.
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
    let Some(host) = host else {
        return Some("a request that may change something needs the header Host".to_owned());
    };
    if !any_host && !is_allowed(host, allowed) {
        return Some(format!(
            "the header Host names {host:?}, which is no address and no private name; add it to \
             allowed_hosts if it is a name of this server"
        ));
    }
    let origin = headers.get(ORIGIN)?.to_str().unwrap_or_default();
    let of_page = origin.split_once("://").map(|(_, host)| host);
    match of_page {
        Some(page) if page == host || is_allowed_page(page, allowed) => None,
        _ => Some(format!(
            "the request comes from a web page of {origin:?}; add its host to allowed_hosts if it may \
             change what is here"
        )),
    }
}

/// The host without its port.
fn name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_allowed(host: &str, allowed: &[String]) -> bool {
    let name = name(host).trim_end_matches('.').to_ascii_lowercase();
    let is_address = name.parse::<IpAddr>().is_ok();
    let is_name = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let is_private = !name.contains('.') || PRIVATE_SUFFIXES.iter().any(|end| name.ends_with(end));
    !name.is_empty() && (is_address || is_name && is_private || is_listed(&name, allowed))
}

/// A page of another port of this machine is another origin.
fn is_allowed_page(page: &str, allowed: &[String]) -> bool {
    is_listed(&name(page).to_ascii_lowercase(), allowed)
}

fn is_listed(name: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|host| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(host: Option<&'static str>, origin: Option<&'static str>, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            headers.extend(value.map(|value| (name, HeaderValue::from_static(value))));
        }
        let allowed = ["tsdb.example.org".to_owned()];
        let got = refused(&headers, &Uri::from_static("/write"), &allowed, false);
        match (&got, expected) {
            (None, None) => {}
            (Some(got), Some(expected)) => assert!(got.contains(expected), "{got}"),
            _ => panic!("{host:?} {origin:?}: {got:?}"),
        }
    }

    #[test]
    fn programs_name_an_address_or_a_private_name() {
        for host in [
            "127.0.0.1:7070",
            "[::1]:7070",
            "10.0.0.7",
            "localhost:7070",
            "LOCALHOST",
            "tidelake:7070",
            "tidelake.monitoring.svc.cluster.local:7070",
            "box.lan",
            "tsdb.example.org",
            "TSDB.example.org:443",
            "box.local.",
        ] {
            check(Some(host), None, None);
        }
        check(None, None, Some("needs the header Host"));
        for host in [
            "evil.example:7070",
            "",
            ":7070",
            "evil.cluster.local.example",
            "[evil",
        ] {
            check(Some(host), None, Some("allowed_hosts"));
        }
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let own = Some("127.0.0.1:7070");
        check(own, Some("http://127.0.0.1:7070"), None);
        check(own, Some("https://tsdb.example.org"), None);
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:8080",
            "http://localhost:7070",
            "null",
            "",
            "http://evil.example/http://127.0.0.1:7070",
        ] {
            check(own, Some(origin), Some("comes from a web page"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("tsdb.example.com"));
        let refused_with_tokens =
            |headers: &HeaderMap| refused(headers, &Uri::from_static("/write"), &[], true);
        assert_eq!(refused_with_tokens(&headers), None);
        headers.insert(ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(refused_with_tokens(&headers).is_some());
        // A name that was made to mean this machine.
        check(
            Some("evil.example:7070"),
            Some("http://evil.example:7070"),
            Some("allowed_hosts"),
        );
    }
}
