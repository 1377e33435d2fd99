use std::io::Read;

use axum::body::to_bytes;
use axum::http::Request;
use flate2::read::GzDecoder;
use tower::ServiceExt;

use super::*;
use crate::config::Config;
use crate::http::router::router;

async fn get_with(path: &str, headers: &[(HeaderName, &str)]) -> Response {
    let config = Config {
        auth: true,
        ..Config::default()
    };
    let mut request = Request::get(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    router(App::new(config)).oneshot(request).await.unwrap()
}

async fn body(response: Response) -> Bytes {
    to_bytes(response.into_body(), 1 << 22).await.unwrap()
}

#[tokio::test]
async fn the_page_needs_no_token_and_no_storage() {
    for asset in &ASSETS {
        let response = get_with(asset.path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", asset.path);
        let headers = response.headers();
        assert_eq!(headers[CONTENT_TYPE], asset.content_type);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(&*body(response).await, asset.plain);
    }
    for path in ["/ui/", "/ui/nothing.js", "/ui/page.js/x", "/index.html"] {
        assert_eq!(
            get_with(path, &[]).await.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
}

#[tokio::test]
async fn nothing_of_the_page_is_inline_or_of_others() {
    let response = get_with("/", &[]).await;
    let policy = response.headers()[CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    let page = String::from_utf8(body(response).await.to_vec()).unwrap();
    for refused in ["<style", "style=", "onload", "http:", "https:", "<script>"] {
        assert!(!page.contains(refused), "{refused}");
    }
    // What the page names is there.
    let named = page.split(['"']).filter(|text| text.starts_with("/ui/"));
    assert!(named.clone().count() > 2);
    for path in named {
        assert!(is_public(path), "{path}");
    }
}

#[tokio::test]
async fn a_known_file_is_not_sent_again() {
    let tag = get_with("/ui/page.js", &[]).await.headers()[ETAG].clone();
    let check = async |known: &str, expected: StatusCode| {
        let response = get_with("/ui/page.js", &[(IF_NONE_MATCH, known)]).await;
        assert_eq!(response.status(), expected, "{known}");
        assert_eq!(response.headers()[ETAG], tag);
        let is_empty = body(response).await.is_empty();
        assert_eq!(is_empty, expected == StatusCode::NOT_MODIFIED);
    };
    let tag = tag.to_str().unwrap();
    check(tag, StatusCode::NOT_MODIFIED).await;
    check(&format!("\"x\", {tag}"), StatusCode::NOT_MODIFIED).await;
    check("\"x\"", StatusCode::OK).await;
    assert_ne!(get_with("/ui/editor.js", &[]).await.headers()[ETAG], tag);
}

#[tokio::test]
async fn large_files_are_compressed_for_who_takes_it() {
    let check = async |encodings: &str, is_compressed: bool| {
        let response = get_with("/ui/page.js", &[(ACCEPT_ENCODING, encodings)]).await;
        let named = response.headers().get(CONTENT_ENCODING).cloned();
        assert_eq!(
            named.is_some_and(|name| name == "gzip"),
            is_compressed,
            "{encodings}"
        );
        let sent = body(response).await;
        let mut plain = Vec::new();
        if is_compressed {
            GzDecoder::new(&sent[..]).read_to_end(&mut plain).unwrap();
            assert!(sent.len() < 90 << 10);
        }
        assert!(!is_compressed || plain == ASSETS[1].plain);
    };
    check("gzip, deflate, br, zstd", true).await;
    check("br;q=1.0, GZIP;q=0.5", true).await;
    check("gzip;q=0", false).await;
    check("identity", false).await;
}
