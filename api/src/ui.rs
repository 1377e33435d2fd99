//! The web page: static files that are built from `api/ui/` and are a part of the program.
//!
//! The page has nothing of the databases in it, so that it needs no token; what it asks the server
//! for does.
use std::io::Write;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest::{SHA256, digest};

use crate::http::app::App;

/// Scripts and styles are files of this server and nothing else, and no other page may show this
/// one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    /// Made when it is first asked for.
    packed: OnceLock<Packed>,
}

struct Packed {
    /// Where that is smaller.
    gzip: Option<Bytes>,
    tag: HeaderValue,
}

macro_rules! asset {
    ($path:literal, $file:literal, $content_type:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            plain: include_bytes!(concat!("../ui/dist/", $file)),
            packed: OnceLock::new(),
        }
    };
}

static ASSETS: [Asset; 7] = [
    asset!("/", "index.html", "text/html; charset=utf-8"),
    asset!("/ui/page.js", "page.js", "text/javascript; charset=utf-8"),
    asset!(
        "/ui/editor.js",
        "editor.js",
        "text/javascript; charset=utf-8"
    ),
    asset!(
        "/ui/worker.js",
        "worker.js",
        "text/javascript; charset=utf-8"
    ),
    asset!("/ui/style.css", "style.css", "text/css; charset=utf-8"),
    asset!("/ui/icon.svg", "icon.svg", "image/svg+xml"),
    asset!(
        "/ui/licences.txt",
        "licences.txt",
        "text/plain; charset=utf-8"
    ),
];

/// The page and its files.
pub fn routes() -> Router<Arc<App>> {
    ASSETS.iter().fold(Router::new(), |routes, asset| {
        routes.route(
            asset.path,
            get(async move |headers: HeaderMap| asset.answer(&headers)),
        )
    })
}

/// Whether a path is one of the page's, which need no token.
pub fn is_public(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

impl Asset {
    fn packed(&self) -> &Packed {
        self.packed.get_or_init(|| {
            let hash = digest(&SHA256, self.plain);
            let hex: String = hash
                .as_ref()
                .iter()
                .take(12)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            Packed {
                gzip: gzip(self.plain),
                // Weak: the same tag stands for the plain and the compressed bytes.
                tag: HeaderValue::from_str(&format!("W/\"{hex}\""))
                    .unwrap_or(HeaderValue::from_static("W/\"\"")),
            }
        })
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let packed = self.packed();
        let is_known = asked.get_all(IF_NONE_MATCH).iter().any(|tags| {
            let mut tags = tags.to_str().unwrap_or_default().split(',').map(str::trim);
            tags.any(|tag| tag.as_bytes() == packed.tag.as_bytes())
        });
        let mut response = match packed.gzip.as_ref().filter(|_| accepts_gzip(asked)) {
            _ if is_known => StatusCode::NOT_MODIFIED.into_response(),
            Some(gzip) => {
                let encoding = HeaderValue::from_static("gzip");
                ([(CONTENT_ENCODING, encoding)], Body::from(gzip.clone())).into_response()
            }
            None => Body::from(self.plain).into_response(),
        };
        let headers = response.headers_mut();
        let fixed = [
            (CONTENT_TYPE, self.content_type),
            (CONTENT_SECURITY_POLICY, POLICY),
            // The browser asks each time whether its copy is that of this version.
            (CACHE_CONTROL, "no-cache"),
            (VARY, "accept-encoding"),
            (REFERRER_POLICY, "no-referrer"),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(ETAG, packed.tag.clone());
        response
    }
}

/// Writing to memory cannot fail; if it did, the file would be sent as it is.
fn gzip(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < plain.len()).then(|| packed.into())
}

fn accepts_gzip(asked: &HeaderMap) -> bool {
    let encodings = asked.get_all(ACCEPT_ENCODING).iter();
    let texts = encodings.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|encoding| {
        let (name, weight) = encoding.split_once(';').unwrap_or((encoding, ""));
        let is_refused = weight.trim().trim_start_matches("q=").parse() == Ok(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

#[cfg(test)]
mod tests;
