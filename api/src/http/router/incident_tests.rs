//! What went wrong elsewhere, as requests to this server.
use axum::body::Body;
use tidelake_catalog::model::{Permissions, Scope};
use tower::ServiceExt;

use super::*;
use crate::config::Config;
use crate::node::backend::Backend;
use crate::service::tokens::{Secret, TokenRequest, create};

struct Server {
    app: Arc<App>,
    /// May read the database `a`, and write to it.
    secret: String,
}

impl Server {
    /// Both databases hold series of the same names.
    async fn start() -> Self {
        let app = App::new(Config {
            auth: true,
            ..Config::default()
        });
        app.service.attach(Backend::in_memory().await);
        let secret = Secret::random().unwrap();
        let request = TokenRequest {
            name: "a".to_owned(),
            scopes: vec![Scope {
                databases: "a".into(),
                permissions: Permissions::READ | Permissions::WRITE,
            }],
            expires_ms: None,
            replaced: false,
        };
        let catalog = app.service.backend().unwrap().catalog();
        create(catalog, request, &secret).await.unwrap();
        let all = Secret::random().unwrap();
        let request = TokenRequest {
            name: "all".to_owned(),
            scopes: vec![Scope::everything()],
            expires_ms: None,
            replaced: false,
        };
        create(catalog, request, &all).await.unwrap();
        let server = Self {
            app,
            secret: all.reveal().to_owned(),
        };
        for database in ["a", "b"] {
            let lines = format!("m,host=of-{database} value=1 1700000000000000000");
            let (status, text) = server
                .ask("POST", &format!("/write?db={database}"), &lines)
                .await;
            assert_eq!(status, 204, "{text}");
        }
        Self {
            secret: secret.reveal().to_owned(),
            ..server
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.secret))
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = router(Arc::clone(&self.app))
            .oneshot(request)
            .await
            .unwrap();
        let status = response.status().as_u16();
        let nosniff = response.headers().get("x-content-type-options");
        assert_eq!(
            nosniff.map(|value| value.as_bytes()),
            Some(&b"nosniff"[..]),
            "{path}"
        );
        let kind = response.headers().get("content-type");
        let kind = kind.map(|kind| kind.to_str().unwrap().to_owned());
        assert!(!kind.is_some_and(|kind| kind.contains("html")), "{path}");
        let body = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

/// CVE-2021-36157 and CVE-2026-21726: names of tenants as paths, and what is decoded twice.
#[tokio::test]
async fn names_of_databases_are_no_paths() {
    let server = Server::start().await;
    for name in [
        "..%2fb",
        "%2e%2e%2fb",
        "%252e%252e%252fb",
        "a%2f..%2fb",
        "a%00",
        "..",
        "%2e%2e",
    ] {
        let (status, text) = server
            .ask("GET", &format!("/db/{name}/api/v1/labels"), "")
            .await;
        assert!([400, 404].contains(&status), "{name}: {status} {text}");
        let path = format!("/api/v3/query_sql?db={name}&q=SELECT+1");
        let (status, text) = server.ask("GET", &path, "").await;
        assert_eq!(status, 400, "{name}: {text}");
    }
}

/// CVE-2026-40179: names and values of labels as script in pages.
#[tokio::test]
async fn what_clients_wrote_is_never_a_page() {
    let server = Server::start().await;
    let script = "<script>alert(1)</script>";
    let line = format!("m,host={script} value=1 1700000000000000000");
    assert_eq!(server.ask("POST", "/write?db=a", &line).await.0, 204);
    for path in [
        "/db/a/api/v1/label/host/values".to_owned(),
        "/db/a/api/v1/query?query=m&time=1700000000".to_owned(),
        format!("/db/a/api/v1/query?query={script}"),
        format!("/{script}"),
        format!("/db/{script}/api/v1/labels"),
        format!("/api/v3/query_sql?db=a&q={script}"),
        format!("/write?db={script}"),
    ] {
        let path = path.replace('<', "%3C").replace('>', "%3E");
        server.ask("GET", &path, "").await;
    }
}

/// ClickHouse CVE-2024-22412: caches without the one who asks in their keys. And filters that are
/// joined by "or" to the one that keeps tenants apart.
#[tokio::test]
async fn nothing_of_another_database_is_answered() {
    let server = Server::start().await;
    let sql = |db: &str, q: &str| {
        let body = json!({ "db": db, "q": q, "format": "json" });
        (format!("/api/v3/query_sql?_={}", q.len()), body.to_string())
    };
    // Kept plans must not answer for the other database: each is asked until it has one.
    let statement = "SELECT host, value FROM m WHERE host != 'x' AND time > '2020-01-01'";
    for _ in 0..3 {
        for (db, expected) in [("a", 200), ("b", 403)] {
            let (path, body) = sql(db, statement);
            let (status, text) = server.ask("POST", &path, &body).await;
            assert_eq!(status, expected, "{text}");
            assert!(!text.contains("of-b"), "{text}");
        }
    }
    let everything = "%7B__name__%3D~%22.%2B%22%7D";
    for path in [
        format!("/db/a/api/v1/query?query={everything}&time=1700000000"),
        format!("/db/a/api/v1/query?query=m+or+{everything}&time=1700000000"),
        format!("/db/a/api/v1/series?match[]={everything}&match[]=m%7Bhost%3D~%22.*%22%7D"),
        "/db/a/api/v1/label/host/values".to_owned(),
        "/db/a/api/v1/status/tsdb?start=0".to_owned(),
    ] {
        let (status, text) = server.ask("GET", &path, "").await;
        assert_eq!(status, 200, "{path}: {text}");
        assert!(
            text.contains("of-a") || path.contains("tsdb"),
            "{path}: {text}"
        );
        assert!(!text.contains("of-b"), "{path}: {text}");
    }
    for statement in [
        "SELECT * FROM b.public.m",
        "SELECT * FROM promql('m', 1700000000) p, b.public.m",
        "SELECT * FROM m WHERE host = 'x' OR 1 = 1 UNION ALL SELECT * FROM b.public.m",
    ] {
        let (path, body) = sql("a", statement);
        let (status, text) = server.ask("POST", &path, &body).await;
        assert!([400, 404].contains(&status), "{statement}: {status} {text}");
        assert!(!text.contains("of-b"), "{text}");
    }
    let (path, body) = sql("a", "SELECT host FROM m WHERE host = 'of-a' OR 1 = 1");
    let (_, text) = server.ask("POST", &path, &body).await;
    assert!(text.contains("of-a") && !text.contains("of-b"), "{text}");
}

/// VictoriaMetrics 5552: series deleted by a GET, which any page can have a browser send.
#[tokio::test]
async fn a_get_changes_nothing() {
    let app = App::new(Config::default());
    app.service.attach(Backend::in_memory().await);
    let server = Server {
        app,
        secret: String::new(),
    };
    assert_eq!(
        server.ask("POST", "/write?db=a", "m value=1 1").await.0,
        204
    );
    for path in [
        "/db/a/api/v1/admin/tsdb/delete_series?match[]=m",
        "/db/a/api/v1/admin/tsdb/clean_tombstones",
        "/api/v2/delete?bucket=a",
        "/api/v3/query_sql?db=a&q=DROP+TABLE+m",
        "/api/v3/query_sql?db=a&q=DELETE+FROM+m",
        "/admin/flush",
        "/write?db=a",
    ] {
        let (status, text) = server.ask("GET", path, "").await;
        assert!([400, 405].contains(&status), "{path}: {status} {text}");
    }
    let snapshot = server.app.service.backend().unwrap().catalog().snapshot();
    let table = snapshot.table("a", "m").unwrap();
    assert!(table.tombstones.is_empty());
}
