//! Requests against the whole router, without a server and without storage.
use axum::body::Body;
use axum::http::Response;
use tower::ServiceExt;

use super::*;
use crate::config::Config;
use crate::node::backend::Backend;

async fn send(
    app: &Arc<App>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Response<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router(app.clone())
        .oneshot(request.body(body.into()).unwrap())
        .await
        .unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(
        axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap()
            .to_vec(),
    )
    .unwrap()
}

fn starting() -> Arc<App> {
    App::new(Config::default())
}

async fn attached() -> Arc<App> {
    let app = App::new(Config {
        max_body_bytes: 1000,
        ..Config::default()
    });
    app.service.attach(Backend::in_memory().await);
    app
}

#[tokio::test]
async fn health_comes_before_readiness() {
    let check = async |app: &Arc<App>, path: &str, status: u16| {
        let response = send(app, "GET", path, &[], "").await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(
            response.headers().contains_key("retry-after"),
            status == 503,
            "{path}"
        );
    };
    for path in ["/health", "/-/healthy", "/metrics"] {
        check(&starting(), path, 200).await;
    }
    check(&starting(), "/ping", 204).await;
    for path in ["/ready", "/-/ready"] {
        check(&starting(), path, 503).await;
        check(&attached().await, path, 200).await;
    }
    let app = attached().await;
    app.service.fence("epoch 8 owns this node".into());
    check(&app, "/ready", 503).await;
    check(&app, "/health", 200).await;
}

#[tokio::test]
async fn everything_else_is_503_while_starting() {
    let app = starting();
    for (method, path) in [
        ("POST", "/write?db=d"),
        ("POST", "/api/v2/write?bucket=d"),
        ("POST", "/api/v3/write_lp?db=d"),
        ("POST", "/api/v1/write"),
        ("POST", "/db/d/api/v1/write"),
        ("GET", "/api/v1/query?query=1"),
        (
            "GET",
            "/db/d/api/v1/query_range?query=1&start=0&end=1&step=1",
        ),
        ("GET", "/api/v1/labels"),
        ("GET", "/api/v1/label/job/values"),
        ("GET", "/api/v3/query_sql?db=d&q=SELECT+1"),
        ("GET", "/api/v3/configure/database"),
        ("DELETE", "/api/v3/configure/table?db=d&table=t"),
        ("POST", "/api/v1/admin/tsdb/delete_series?match[]=up"),
        ("PUT", "/db/d/api/v1/admin/tsdb/clean_tombstones"),
        ("POST", "/admin/flush"),
        ("POST", "/admin/compact"),
    ] {
        let response = send(&app, method, path, &[], "").await;
        assert_eq!(response.status().as_u16(), 503, "{method} {path}");
        assert!(
            response.headers().contains_key("retry-after"),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn wrong_methods_and_paths() {
    let check = async |method: &str, path: &str, status: u16, allow: Option<&str>| {
        let response = send(&attached().await, method, path, &[], "").await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(
            response.headers().get("allow").map(|v| v.to_str().unwrap()),
            allow,
            "{method} {path}"
        );
    };
    check("GET", "/write?db=d", 405, Some("POST")).await;
    check("GET", "/api/v2/write?bucket=d", 405, Some("POST")).await;
    check("PUT", "/api/v3/write_lp?db=d", 405, Some("POST")).await;
    check("GET", "/api/v1/write", 405, Some("POST")).await;
    check("GET", "/admin/flush", 405, Some("POST")).await;
    check("GET", "/api/v2/delete?bucket=d", 405, Some("POST")).await;
    check(
        "GET",
        "/api/v1/admin/tsdb/delete_series?match[]=up",
        405,
        Some("POST,PUT"),
    )
    .await;
    check("DELETE", "/api/v1/query", 405, Some("GET,HEAD,POST")).await;
    check("POST", "/api/v9/write", 404, None).await;
    check("GET", "/db/d/nothing", 404, None).await;
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_words_of_the_protocol() {
    let check =
        async |method: &str, path: &str, headers: &[(&str, &str)], status: u16, words: &str| {
            let response = send(&attached().await, method, path, headers, "x".repeat(200)).await;
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            let body = text(response).await;
            assert!(body.contains(words), "{path}: {body}");
        };
    check(
        "POST",
        "/write",
        &[],
        400,
        r#"{"error":"the parameter \"db\" is missing"#,
    )
    .await;
    check(
        "POST",
        "/api/v2/write",
        &[],
        400,
        r#"{"code":"invalid","message":"the parameter \"bucket\" is missing"#,
    )
    .await;
    check(
        "POST",
        "/api/v3/write_lp?db=a*b",
        &[],
        400,
        r#"{"error":"invalid database name \"a*b\""#,
    )
    .await;
    check(
        "POST",
        "/write?db=d",
        &[("content-encoding", "lzma")],
        415,
        "lzma",
    )
    .await;
    check(
        "POST",
        "/api/v1/write",
        &[("content-type", "image/png")],
        415,
        "image/png",
    )
    .await;
    check(
        "POST",
        "/api/v1/write",
        &[("x-scope-orgid", "a|b")],
        400,
        "a|b",
    )
    .await;
    check("POST", "/db/_x/api/v1/write", &[], 400, "_x").await;
    check(
        "GET",
        "/api/v1/query?query=1&time=x",
        &[],
        400,
        r#""errorType":"bad_data""#,
    )
    .await;
    check(
        "GET",
        "/api/v1/query_range?query=1",
        &[],
        400,
        r#"invalid parameter \"start\""#,
    )
    .await;
    check(
        "GET",
        "/api/v1/series",
        &[],
        400,
        "no match[] parameter provided",
    )
    .await;
    check(
        "GET",
        "/api/v3/query_sql?db=d",
        &[],
        400,
        r#"the parameter \"q\" is missing"#,
    )
    .await;
    check("POST", "/api/v3/query_sql", &[], 400, "JSON").await;
    check(
        "GET",
        "/api/v3/query_sql?db=d&q=x&format=xml",
        &[],
        400,
        "xml",
    )
    .await;
    check(
        "GET",
        "/api/v3/query_sql?db=d&q=DROP+TABLE+t",
        &[],
        400,
        "POST",
    )
    .await;
    check(
        "GET",
        "/api/v3/query_sql?db=d&q=SELECT+1&asOf=x",
        &[],
        400,
        r#"invalid parameter \"asOf\""#,
    )
    .await;
    check(
        "POST",
        "/api/v2/delete",
        &[],
        400,
        r#"{"code":"invalid","message":"the parameter \"bucket\" is missing"#,
    )
    .await;
    check("POST", "/api/v2/delete?bucket=d", &[], 400, "JSON").await;
    check(
        "POST",
        "/api/v1/admin/tsdb/delete_series",
        &[],
        400,
        "no match[] parameter provided",
    )
    .await;
    check("POST", "/api/v3/configure/database", &[], 400, "JSON").await;
    for path in ["database?", "table?db=default&"] {
        let path = format!("/api/v3/configure/{path}format=line_protocol");
        check("GET", &path, &[], 400, "list cannot be line protocol").await;
    }
    check(
        "DELETE",
        "/api/v3/configure/table?db=d&table=t&hard_delete_at=never",
        &[],
        400,
        "hard_delete_at",
    )
    .await;
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_413() {
    let check = async |size: usize, status: u16| {
        let response = send(
            &attached().await,
            "POST",
            "/api/v2/write?bucket=d",
            &[],
            "#".repeat(size),
        )
        .await;
        assert_eq!(response.status().as_u16(), status);
    };
    // Within the limit it is a comment, which is nothing to write and no error.
    check(1000, 204).await;
    check(1001, 413).await;
}

#[tokio::test]
async fn a_post_form_is_read_like_a_query_string() {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let response = send(
        &attached().await,
        "POST",
        "/api/v1/query_range",
        &form,
        "query=up&start=5&end=1&step=1",
    )
    .await;
    assert_eq!(response.status().as_u16(), 400);
    assert!(
        text(response)
            .await
            .contains("end timestamp must not be before start time")
    );
}

#[tokio::test]
async fn grafana_finds_a_prometheus() {
    let body = async |path: &str| {
        let response = send(&attached().await, "GET", path, &[], "").await;
        assert_eq!(response.status().as_u16(), 200, "{path}");
        serde_json::from_str::<serde_json::Value>(&text(response).await).unwrap()
    };
    let info = body("/api/v1/status/buildinfo").await;
    assert_eq!(info["status"], "success");
    assert!(info["data"].get("features").is_none());
    assert_eq!(body("/api/v1/rules").await["data"]["groups"], json!([]));
    let empty = [
        ("alerts", json!({ "alerts": [] })),
        (
            "alertmanagers",
            json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }),
        ),
        ("scrape_pools", json!({ "scrapePools": [] })),
        (
            "targets",
            json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} }),
        ),
        (
            "targets?state=active",
            json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": null }),
        ),
        ("targets/metadata", json!([])),
        ("notifications", json!([])),
        ("metadata?limit=1&limit_per_metric=1&metric=x", json!({})),
    ];
    for (path, expected) in empty {
        assert_eq!(
            body(&format!("/api/v1/{path}")).await["data"],
            expected,
            "{path}"
        );
    }
    assert_eq!(
        body("/db/d/api/v1/query_exemplars?query=x").await["data"],
        json!([])
    );
}

#[tokio::test]
async fn large_answers_are_compressed_when_asked() {
    let app = attached().await;
    for path in ["/ping", "/ready", "/health"] {
        // Every route adds its own lines to the metrics.
        send(&app, "GET", path, &[], "").await;
    }
    let response = send(&app, "GET", "/metrics", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(
        response
            .headers()
            .get("content-encoding")
            .map(|v| v.to_str().unwrap()),
        Some("gzip")
    );
    let response = send(
        &attached().await,
        "GET",
        "/health",
        &[("accept-encoding", "gzip")],
        "",
    )
    .await;
    assert!(!response.headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn writes_wait_when_merging_cannot_keep_pace_and_go_on_when_it_has() {
    let config = Config {
        store: Some("memory:".into()),
        max_fresh_segments: 64,
        ..Config::default()
    };
    let app = App::new(config.clone());
    app.service.attach(
        Backend::open_alone(&config, &app.service.memory)
            .await
            .unwrap(),
    );
    let write = async || {
        send(
            &app,
            "POST",
            "/api/v2/write?bucket=d",
            &[],
            "cpu,host=a usage=1 1",
        )
        .await
    };
    let mut refused = None;
    for _ in 0..2000 {
        let response = write().await;
        if response.status().as_u16() == 503 {
            refused = Some(response);
            break;
        }
        assert_eq!(response.status().as_u16(), 204);
        assert_eq!(
            send(&app, "POST", "/admin/flush", &[], "")
                .await
                .status()
                .as_u16(),
            204
        );
    }
    let refused = refused.expect("too many segments");
    assert!(refused.headers().contains_key("retry-after"));
    let words = text(refused).await;
    assert!(words.contains("max_fresh_segments = 64"), "{words}");
    // Reads, flushes and merges go on.
    assert_eq!(
        send(&app, "GET", "/api/v1/query?query=cpu_usage", &[], "")
            .await
            .status()
            .as_u16(),
        200
    );
    assert_eq!(
        send(&app, "POST", "/admin/flush", &[], "")
            .await
            .status()
            .as_u16(),
        204
    );
    assert_eq!(
        send(&app, "POST", "/admin/compact", &[], "")
            .await
            .status()
            .as_u16(),
        204
    );
    for _ in 0..1000 {
        if write().await.status().as_u16() == 204 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("writes are still put off");
}

#[tokio::test]
async fn a_panic_is_answered_with_an_id() {
    async fn defect() -> Response<Body> {
        panic!("provoked by a test")
    }
    let check = async |path: &str, member: &str| {
        let routes = Router::new().route(path, get(defect));
        let request = Request::builder()
            .uri(path)
            .header("host", "localhost")
            .body(Body::empty())
            .unwrap();
        let response = layered(routes, starting()).oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), 500);
        let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        let message = body[member].as_str().unwrap();
        let id = message.rsplit(' ').next().unwrap();
        assert!(
            id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()),
            "{message}"
        );
    };
    check("/api/v1/query", "error").await;
    check("/api/v2/write", "message").await;
    check("/api/v3/query_sql", "error").await;
}

#[tokio::test]
async fn otlp_is_answered_in_the_type_of_the_request() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
    let app = attached().await;
    let metrics = |data: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m",{data}}}]}}]}}]}}"#
        )
    };
    let good = metrics(r#""gauge":{"dataPoints":[{"timeUnixNano":"1000000","asInt":"7"}]}"#);
    for path in ["/v1/metrics", "/api/v1/otlp/v1/metrics", "/db/d/v1/metrics"] {
        let response = send(&app, "POST", path, &[JSON], good.clone()).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(text(response).await, "{}", "{path}");
        let response = send(&app, "POST", path, &[PROTOBUF], "").await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "application/x-protobuf");
        assert_eq!(text(response).await, "", "{path}");
    }
    for database in ["default", "d"] {
        let path = format!("/db/{database}/api/v1/query?query=m&time=0.001");
        let answer = text(send(&app, "GET", &path, &[], "").await).await;
        assert!(answer.contains(r#"[0.001,"7"]"#), "{database}: {answer}");
    }
    let delta = metrics(r#""sum":{"aggregationTemporality":1,"dataPoints":[{}]}"#);
    let response = send(&app, "POST", "/v1/metrics", &[JSON], delta).await;
    assert_eq!(response.status(), 200);
    let answer = text(response).await;
    assert!(answer.contains(r#""rejectedDataPoints":"1""#), "{answer}");
    assert!(answer.contains("otlp_delta"), "{answer}");

    let check = async |headers: &[(&str, &str)], body: &str, status: u16, part: &str| {
        let response = send(&app, "POST", "/v1/metrics", headers, body.to_owned()).await;
        assert_eq!(response.status().as_u16(), status, "{headers:?}");
        let answer = text(response).await;
        assert!(answer.contains(part), "{answer} lacks {part}");
    };
    check(&[JSON], "{", 400, r#"{"code":3,"message":"#).await;
    check(&[PROTOBUF], "x", 400, "\u{8}\u{3}\u{12}").await;
    check(
        &[("content-type", "text/plain")],
        "",
        415,
        "application/x-protobuf",
    )
    .await;
    check(
        &[JSON, ("content-encoding", "br")],
        "{}",
        415,
        r#""code":12"#,
    )
    .await;
    check(&[JSON, ("x-scope-orgid", "")], "{}", 400, r#""code":3"#).await;
}
