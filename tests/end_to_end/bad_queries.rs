//! Queries that cannot be answered: each gets a clear 4xx in the form of its protocol, and the
//! server goes on answering.
use std::time::Duration;

use serde_json::json;

use crate::client::{Client, Reply};
use crate::place::Place;
use crate::server::Server;

#[tokio::test]
async fn bad_queries_are_refused_and_harm_nothing() {
    let mut server = Server::start(&Place::Memory).await;
    let client = server.client();
    client
        .write_lines("m,host=a value=1 1700000000000000000")
        .await;
    refuse_promql(&client).await;
    refuse_deep_promql(&client).await;
    refuse_parameters(&client).await;
    refuse_sql(&client).await;
    refuse_deep_sql(&client).await;
    assert!(server.is_running(), "{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(
        json!(client.sql("SELECT host, value FROM m").await),
        json!([{ "host": "a", "value": 1.0 }])
    );
    assert_eq!(client.promql("m", "1700000000").await[0]["value"][1], "1");
}

#[track_caller]
fn check_prometheus(reply: &Reply, status: u16, kind: &str, word: &str) {
    assert_eq!(reply.status, status, "{word}: {}", reply.text());
    let body = reply.json();
    assert_eq!(
        (body["status"].as_str(), body["errorType"].as_str()),
        (Some("error"), Some(kind)),
        "{body}"
    );
    assert!(
        body["error"]
            .as_str()
            .is_some_and(|error| error.contains(word)),
        "{body} lacks {word:?}"
    );
    assert!(
        reply.body.len() < 10_000,
        "an answer of {} bytes",
        reply.body.len()
    );
}

async fn refuse_promql(client: &Client) {
    let check = async |query: &str, status: u16, kind: &str, word: &str| {
        let reply = client
            .get("/api/v1/query", &[("query", query), ("time", "1700000000")])
            .await;
        check_prometheus(&reply, status, kind, word);
    };
    let bad = async |query: &str, word: &str| check(query, 400, "bad_data", word).await;
    bad("", "parse error").await;
    bad("m{", "1:").await;
    bad("sum(\n m))", "2:4: parse error").await;
    bad("m{host=~\"(\"}", "parse error").await;
    bad("{}", "at least one non-empty matcher").await;
    bad("rate(m)", "expected type range vector").await;
    bad("nosuch(m)", "nosuch").await;
    bad("\u{0}", "parse error").await;
    check(
        "m * on (host) group_left () (m or label_replace(m, \"x\", \"y\", \"\", \"\"))",
        422,
        "execution",
        "many-to-many",
    )
    .await;
    let reply = client
        .send(
            "POST",
            "/api/v1/query",
            &[],
            &[("content-type", "application/x-www-form-urlencoded")],
            "query=%ff%fe",
        )
        .await;
    check_prometheus(&reply, 400, "bad_data", "parse error");
}

async fn refuse_deep_promql(client: &Client) {
    let check = async |query: String, status: u16, word: &str| {
        let query = query.replace('+', "%2B");
        let form = format!("time=1700000000&query={query}");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        check_prometheus(
            &client
                .send("POST", "/api/v1/query", &[], &headers, form)
                .await,
            status,
            "bad_data",
            word,
        );
    };
    for depth in [2_000, 200_000] {
        check(
            format!("{}m{}", "(".repeat(depth), ")".repeat(depth)),
            400,
            "nested too deeply",
        )
        .await;
        check(
            format!("{}m{}", "abs(".repeat(depth), ")".repeat(depth)),
            400,
            "nested too deeply",
        )
        .await;
        check(format!("{}m", "-".repeat(depth)), 400, "nested too deeply").await;
        check(format!("m{}", "+m".repeat(depth)), 400, "nested too deeply").await;
        check("(".repeat(depth), 400, "parse error").await;
        let some = depth.min(40_000);
        check(
            format!(
                "{}m{}",
                "max_over_time(".repeat(some),
                "[1m:1m])".repeat(some)
            ),
            400,
            "nested too deeply",
        )
        .await;
        check(
            format!("{}m{}", "(m+".repeat(some), ")".repeat(some)),
            400,
            "nested too deeply",
        )
        .await;
        check(
            format!("m{}", "[1m:1m]".repeat(some)),
            400,
            "nested too deeply",
        )
        .await;
        check(
            format!("m[{}1m{}]", "(".repeat(depth), ")".repeat(depth)),
            400,
            "nested too deeply",
        )
        .await;
    }
    check(
        format!("m{{host=\"{}\"}}", "x".repeat(5 << 20)),
        413,
        "4194304",
    )
    .await;
    // What is just as deep as allowed is answered.
    let deep = format!("{}m{}", "(".repeat(90), ")".repeat(90));
    assert_eq!(client.promql(&deep, "1700000000").await[0]["value"][1], "1");
}

async fn refuse_parameters(client: &Client) {
    let check = async |path: &str, query: &[(&str, &str)], word: &str| {
        check_prometheus(&client.get(path, query).await, 400, "bad_data", word);
    };
    check(
        "/api/v1/query",
        &[("query", "m"), ("time", "yesterday")],
        "\"time\"",
    )
    .await;
    check(
        "/api/v1/query",
        &[("query", "m"), ("timeout", "never")],
        "\"timeout\"",
    )
    .await;
    let range = "/api/v1/query_range";
    check(
        range,
        &[("query", "m"), ("end", "1"), ("step", "1")],
        "\"start\"",
    )
    .await;
    check(
        range,
        &[("query", "m"), ("start", "2"), ("end", "1"), ("step", "1")],
        "\"end\"",
    )
    .await;
    check(
        range,
        &[("query", "m"), ("start", "1"), ("end", "2"), ("step", "0")],
        "\"step\"",
    )
    .await;
    check(
        range,
        &[
            ("query", "m"),
            ("start", "0"),
            ("end", "1700000000"),
            ("step", "1"),
        ],
        "11,000 points",
    )
    .await;
    check(
        range,
        &[
            ("query", "m[5m]"),
            ("start", "0"),
            ("end", "1"),
            ("step", "1"),
        ],
        "range vector",
    )
    .await;
    check("/api/v1/series", &[], "match[]").await;
    check("/api/v1/series", &[("match[]", "{}")], "match[]").await;
    check("/api/v1/labels", &[("match[]", "1 + 1")], "series selector").await;
    check("/api/v1/labels", &[("limit", "-1")], "\"limit\"").await;
    check("/db/a%7Cb/api/v1/query", &[("query", "m")], "a|b").await;
    for path in ["/api/v1/query", range, "/api/v1/labels", "/api/v1/series"] {
        let reply = client.send("DELETE", path, &[], &[], "").await.expect(405);
        assert_eq!(reply.header("allow"), "GET,HEAD,POST", "{path}");
    }
}

#[track_caller]
fn check_influx(reply: &Reply, status: u16, word: &str) {
    assert_eq!(reply.status, status, "{word}: {}", reply.text());
    let error = reply.json()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(error.contains(word), "{error:?} lacks {word:?}");
    assert!(error.len() < 10_000, "an answer of {} bytes", error.len());
}

async fn refuse_sql(client: &Client) {
    let path = "/api/v3/query_sql";
    let check = async |query: &str, status: u16, word: &str| {
        check_influx(
            &client.get(path, &[("db", "default"), ("q", query)]).await,
            status,
            word,
        );
    };
    check("", 400, "\"q\" is missing").await;
    check("-- nothing", 400, "no statement").await;
    check("SELEC 1", 400, "SELEC").await;
    check("SELECT * FROM nosuch", 404, "nosuch").await;
    check("SELECT nosuch FROM m", 400, "nosuch").await;
    check("SELECT 1; SELECT 2", 400, "2 statements").await;
    check("INSERT INTO m VALUES (1)", 400, "INSERT").await;
    check("DROP TABLE m", 400, "DROP").await;
    check(
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        400,
        "CREATE",
    )
    .await;
    check("COPY m TO '/tmp/x.csv'", 400, "COPY").await;
    check("SET datafusion.execution.batch_size = 1", 400, "SET").await;
    check("SELECT * FROM '/etc/passwd'", 404, "passwd").await;
    check("SELECT CAST('x' AS BIGINT) FROM m", 400, "x").await;
    check("SELECT $1", 400, "$1").await;

    let get = async |query: &[(&str, &str)]| client.get(path, query).await;
    check_influx(&get(&[("q", "SELECT 1")]).await, 400, "db");
    check_influx(&get(&[("db", "default")]).await, 400, "\"q\"");
    check_influx(
        &get(&[("db", "nosuch"), ("q", "SELECT 1")]).await,
        404,
        "nosuch",
    );
    check_influx(
        &get(&[("db", "default"), ("q", "SELECT 1"), ("format", "xml")]).await,
        400,
        "xml",
    );
    check_influx(
        &get(&[("db", "default"), ("q", "SELECT 1"), ("params", "[1]")]).await,
        400,
        "params",
    );
    let json_type = [("content-type", "application/json")];
    let post = async |body: Vec<u8>| client.send("POST", path, &[], &json_type, body).await;
    check_influx(&post(b"{".to_vec()).await, 400, "JSON");
    check_influx(&post(b"[\"q\"]".to_vec()).await, 400, "db");
    check_influx(
        &post(b"{\"db\":\"default\",\"q\":\"SELECT '\xff'\"}".to_vec()).await,
        400,
        "JSON",
    );
    check_influx(&post(vec![b' '; 5 << 20]).await, 413, "4194304");
    let reply = client.send("PUT", path, &[], &[], "").await.expect(405);
    assert_eq!(reply.header("allow"), "GET,HEAD,POST");
}

async fn refuse_deep_sql(client: &Client) {
    let check = async |query: String| {
        let body = json!({ "db": "default", "q": query }).to_string();
        let sent = client.send(
            "POST",
            "/api/v3/query_sql",
            &[],
            &[("content-type", "application/json")],
            body,
        );
        let reply = tokio::time::timeout(Duration::from_secs(20), sent)
            .await
            .expect("an answer in time");
        check_influx(&reply, 400, "");
    };
    for depth in [500, 50_000] {
        check(format!(
            "SELECT {}1{}",
            "(".repeat(depth),
            ")".repeat(depth)
        ))
        .await;
        check(format!(
            "SELECT {}1{}",
            "abs(".repeat(depth),
            ")".repeat(depth)
        ))
        .await;
        check(format!("SELECT {}true", "NOT ".repeat(depth))).await;
        check(format!("SELECT {}1", "- ".repeat(depth))).await;
        check(format!("SELECT 1{}", " + 1".repeat(depth))).await;
        check(format!(
            "{}SELECT 1{}",
            "SELECT * FROM (".repeat(depth),
            ")".repeat(depth)
        ))
        .await;
        check(format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(depth))).await;
        check(format!(
            "SELECT {}1{}",
            "CASE WHEN true THEN ".repeat(depth),
            " END".repeat(depth)
        ))
        .await;
        check("(".repeat(depth)).await;
    }
    check(format!("SELECT '{}'", "x".repeat(2 << 20))).await;
    // A long chain of the kind that programs write is answered.
    let chain: Vec<String> = (0..5_000).map(|i| format!("host = 'h{i}'")).collect();
    let query = format!(
        "SELECT value FROM m WHERE {} OR host = 'a'",
        chain.join(" OR ")
    );
    let body = json!({ "db": "default", "q": query }).to_string();
    let reply = client
        .send(
            "POST",
            "/api/v3/query_sql",
            &[],
            &[("content-type", "application/json")],
            body,
        )
        .await
        .expect(200);
    assert_eq!(reply.json(), json!([{ "value": 1.0 }]));
}
