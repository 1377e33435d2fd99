use axum::body::Body;
use axum::http::Request;
use clap::Parser;
use tower::ServiceExt;

use super::*;
use crate::cli::remote::{Remote, SourceArgs};
use crate::http::app::App;
use crate::http::router::router;
use crate::node::backend::Backend;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    pull: PullArgs,
}

#[derive(Debug, Parser)]
struct Asked {
    #[command(flatten)]
    source: SourceArgs,
}

/// A server on a folder, without a port.
async fn server(folder: &Path) -> Arc<App> {
    let config = Config {
        data_dir: folder.to_owned(),
        ..Config::default()
    };
    let app = App::new(config.clone());
    let backend = Backend::open_alone(&config, &app.service.memory)
        .await
        .unwrap();
    app.service.attach(backend);
    app
}

async fn post(app: &Arc<App>, path: &str, kind: &str, body: &str) {
    let request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", kind)
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router(Arc::clone(app)).oneshot(request).await.unwrap();
    assert!(response.status().is_success(), "{path}: {response:?}");
}

/// 2026-01-01T00:00:00Z in seconds.
const START: i64 = 1_767_225_600;

/// Metrics of OTLP: a native histogram with an exemplar, and a gauge with a description.
fn metrics(second: i64) -> String {
    let nanos = second * 1_000_000_000;
    let series = |job: &str, count: i64| {
        format!(
            r#"{{"attributes":[{{"key":"job","value":{{"stringValue":"{job}"}}}}],
            "startTimeUnixNano":"{}","timeUnixNano":"{nanos}","count":"{count}","sum":5.5,"scale":3,
            "zeroCount":"1","positive":{{"offset":2,"bucketCounts":["1","0","{}"]}},
            "exemplars":[{{"timeUnixNano":"{nanos}","asDouble":1.25,"traceId":"0102030405060708090a0b0c0d0e0f10"}}]}}"#,
            START * 1_000_000_000,
            count - 2,
        )
    };
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[
        {{"name":"latency","description":"How long","unit":"s","exponentialHistogram":{{
          "aggregationTemporality":2,"dataPoints":[{},{}]}}}},
        {{"name":"level","description":"How high","gauge":{{"dataPoints":[
          {{"attributes":[{{"key":"job","value":{{"stringValue":"a"}}}}],"timeUnixNano":"{nanos}","asDouble":-0.0}},
          {{"attributes":[{{"key":"job","value":{{"stringValue":"b"}}}}],"timeUnixNano":"{nanos}","asDouble":0.1}}]}}}}
        ]}}]}}]}}"#,
        series("a", 4 + second % 60),
        series("b", 7 + second % 60),
    )
}

/// Rows of all types on two days, some overwritten, some deleted, some in no segment.
async fn fill(app: &Arc<App>) {
    let (lines, text) = ("/api/v2/write?bucket=default&precision=s", "text/plain");
    for (number, hour) in [0, 1, 30].into_iter().enumerate() {
        let second = START + hour * 3600;
        let rows = format!(
            "wide,job=a,host=é f=1.5,i={number}i,u=18446744073709551615u,b=true,s=\"x,\\\"y\" {second}\n\
             wide,job=b f=-0.0,i=-9223372036854775808i {second}\n\
             wide,job=gone f=1 {second}\nother,job=a value=7 {second}"
        );
        post(app, lines, text, &rows).await;
        post(app, "/v1/metrics", "application/json", &metrics(second)).await;
        if number < 2 {
            app.service
                .backend()
                .unwrap()
                .ingester()
                .unwrap()
                .flush()
                .await
                .unwrap();
        }
    }
    post(
        app,
        lines,
        text,
        &format!("wide,job=a,host=é f=2.5 {START}"),
    )
    .await;
    let delete = r#"{"db":"default","q":"DELETE FROM wide WHERE job = 'gone'"}"#;
    post(app, "/api/v3/query_sql", "application/json", delete).await;
    let metrics = format!("wide,job=late f=9 {START}");
    post(app, lines, text, &metrics).await;
}

/// What a store answers.
async fn answers(folder: &Path) -> Vec<String> {
    let line = ["test", "--data-dir", folder.to_str().unwrap()];
    let remote = Remote::of(&Asked::parse_from(line).source)
        .unwrap()
        .impatient();
    let mut found = Vec::new();
    for expression in [
        "level",
        "latency_seconds",
        "histogram_quantile(0.9, latency_seconds)",
        "wide_f",
        "{job=\"a\"}",
    ] {
        let form = [
            ("query", expression.to_owned()),
            ("start", START.to_string()),
            ("end", (START + 120_000).to_string()),
            ("step", "1800".to_owned()),
        ];
        found.push(remote.form("/api/v1/query_range", &form).await.unwrap());
    }
    let form = [
        ("query", "latency_seconds".to_owned()),
        ("start", START.to_string()),
        ("end", (START + 120_000).to_string()),
    ];
    found.push(remote.form("/api/v1/query_exemplars", &form).await.unwrap());
    found.push(remote.get("/api/v1/metadata").await.unwrap());
    for sql in [
        "SELECT * FROM wide ORDER BY time, job",
        "SELECT * FROM other ORDER BY time",
        "SELECT * FROM metrics.level ORDER BY time, job",
        "SELECT * FROM promql('latency_seconds', '2026-01-01T01:00:00Z') ORDER BY job",
        "SELECT * FROM exemplars ORDER BY time, job",
        "SELECT table_name, column_name, data_type FROM information_schema.columns ORDER BY 1, 2",
    ] {
        let asked = serde_json::json!({ "db": "default", "q": sql, "format": "jsonl" });
        let headers = [("content-type", "application/json")];
        let body = serde_json::to_vec(&asked).unwrap();
        let answer = remote.query("/api/v3/query_sql", &[], &headers, body).await;
        found.push(match answer {
            Ok(answer) => answer.text().await.unwrap(),
            // A slice may lack the table.
            Err(error) => error.to_string(),
        });
    }
    found
}

async fn pull_into(from: &Path, into: &Path, flags: &[&str]) -> anyhow::Result<serde_json::Value> {
    let (from, into) = (from.to_str().unwrap(), into.to_str().unwrap());
    let fixed = [
        "test",
        "--format",
        "json",
        "--data-dir",
        from,
        "--into",
        into,
    ];
    let args = Line::parse_from([&fixed, flags].concat()).pull;
    let mut out = Vec::new();
    run(&args, &mut out).await?;
    Ok(serde_json::from_slice(&out)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_answers_as_its_source_and_takes_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (from, into) = (folder.path().join("from"), folder.path().join("into"));
    let source = server(&from).await;
    fill(&source).await;
    let expected = answers(&from).await;
    // The test would mean little otherwise.
    for (number, part) in [
        (0, "level"),
        (1, "histograms"),
        (5, "trace_id"),
        (6, "How long"),
        (7, "late"),
        (8, "7.0"),
        (9, "\"job\":\"b\""),
        (10, "\"job\":\"b\""),
        (11, "0102030405060708090a0b0c0d0e0f10"),
        (12, "host"),
    ] {
        assert!(expected[number].contains(part), "{}", expected[number]);
    }
    assert!(!expected[7].contains("gone"), "{}", expected[7]);

    let pulled = pull_into(&from, &into, &[]).await.unwrap();
    assert!(pulled["rows"].as_u64() > Some(20), "{pulled}");
    assert_eq!(answers(&into).await, expected);
    let again = pull_into(&from, &into, &[]).await.unwrap_err().to_string();
    assert!(again.contains("not empty"), "{again}");

    let target = server(&into).await;
    let backend = target.service.backend().unwrap();
    backend.compactor().unwrap().compact_all().await.unwrap();
    assert_eq!(answers(&into).await, expected);
    let newer = format!("wide,job=a,host=é f=99 {START}");
    post(
        &target,
        "/api/v2/write?bucket=default&precision=s",
        "text/plain",
        &newer,
    )
    .await;
    backend.ingester().unwrap().flush().await.unwrap();
    backend.compactor().unwrap().compact_all().await.unwrap();
    assert!(answers(&into).await[7].contains("99.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_has_the_times_and_series_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    let source = server(&from).await;
    fill(&source).await;
    let into = |name: &str| folder.path().join(name);
    let check = async |name: &str, flags: &[&str], rows: u64, tables: u64| {
        let pulled = pull_into(&from, &into(name), flags).await.unwrap();
        let counts = (pulled["rows"].as_u64(), pulled["tables"].as_u64());
        assert_eq!(counts, (Some(rows), Some(tables)), "{flags:?}: {pulled}");
    };
    let hour = (START + 3600).to_string();
    // 2 rows of `wide`, 1 of `other`, 4 samples, 2 exemplars.
    check("time", &["--from", &hour, "--to", &hour], 9, 4).await;
    check("name", &["--match", "level{job=\"b\"}"], 3, 1).await;
    // 3 of `wide`, 3 of `other`, 6 samples, 3 exemplars.
    check("job", &["--match", "{job=\"a\"}"], 15, 4).await;
    check("field", &["--match", "wide_f{job=\"a\"}"], 3, 1).await;
    check(
        "both",
        &["--match", "level{job=\"b\"}", "--match", "other"],
        6,
        2,
    )
    .await;
    check("table", &["--table", "other", "--table", "wide"], 10, 2).await;
    check("metrics", &["--table", "metrics"], 12, 1).await;
    let level = &answers(&into("name")).await[0];
    assert!(
        level.contains(r#""job":"b""#) && !level.contains(r#""job":"a""#),
        "{level}"
    );

    for (flags, part) in [
        (&["--database", "missing"][..], "no database"),
        (&["--table", "missing"], "no table"),
        (&["--match", "sum(up)"], "selector"),
        (&["--from", "2", "--to", "1"], "--to"),
    ] {
        let error = pull_into(&from, &into("bad"), flags).await.unwrap_err();
        assert!(format!("{error:#}").contains(part), "{error:#}");
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 8, "the source and its slices");
}
