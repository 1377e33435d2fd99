//! Queries as operators meet them: PromQL inside SQL, plans, limits with their settings, and
//! clients that go away.
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Client, Reply};
use crate::place::Place;
use crate::protobuf::{Message, read_request, snappy};
use crate::server::Server;

const START_S: i64 = 1_700_000_000;

/// Samples every ten seconds of some series: `x{job="a", i="0"}` and on, counting up.
async fn write_counters(client: &Client, series: usize, samples: i64) {
    let values: Vec<(i64, f64)> = (0..samples)
        .map(|k| ((START_S + k * 10) * 1000, (k * 10) as f64))
        .collect();
    let mut message = Message::default();
    for i in 0..series {
        let job = if i % 2 == 0 { "a" } else { "b" };
        message = message.series(
            &[("__name__", "x_total"), ("i", &i.to_string()), ("job", job)],
            &values,
        );
    }
    client.write_samples(&message).await;
}

async fn ask_sql(client: &Client, query: &str) -> Reply {
    client
        .get(
            "/api/v3/query_sql",
            &[("db", "default"), ("format", "json"), ("q", query)],
        )
        .await
}

#[tokio::test]
async fn promql_is_a_table_in_sql() {
    let server = Server::start(&Place::Memory).await;
    let client = server.client();
    write_counters(&client, 4, 100).await;
    client
        .write_lines("teams,job=a owner=\"ann\" 1\nteams,job=b owner=\"bob\" 1")
        .await;
    let call = format!(
        "promql('sum by (job) (rate(x_total[5m]))', {}, {}, '5m')",
        START_S + 300,
        START_S + 900
    );
    let joined = format!(
        "SELECT p.job, t.owner, round(p.value) AS value FROM {call} p JOIN teams t USING (job) \
         ORDER BY p.time, job"
    );
    let rows = |a: f64, b: f64| json!([{ "job": "a", "owner": "ann", "value": a }, { "job": "b", "owner": "bob", "value": b }]);
    let got = client.sql(&joined).await;
    assert_eq!((got.len(), json!(got[..2])), (6, rows(2.0, 2.0)));

    // A state of the past, in which there is less.
    client.flush().await;
    let sequence = client.figure("catalog_sequence_total").await as u64;
    let values: Vec<(i64, f64)> = (0..100)
        .map(|k| ((START_S + k * 10) * 1000, (k * 10) as f64))
        .collect();
    let more = Message::default().series(
        &[("__name__", "x_total"), ("i", "9"), ("job", "a")],
        &values,
    );
    client.write_samples(&more).await;
    client.flush().await;
    assert_eq!(json!(client.sql(&joined).await[..2]), rows(3.0, 2.0));
    assert_eq!(
        json!(client.sql(&format!("{joined} AS OF {sequence}")).await[..2]),
        rows(2.0, 2.0)
    );

    let warned = ask_sql(
        &client,
        &format!("SELECT * FROM promql('quantile(2, x_total)', {START_S})"),
    )
    .await
    .expect(200);
    assert_eq!(
        warned.header("x-tidelake-warning"),
        "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"
    );
    let bad = ask_sql(&client, "SELECT * FROM promql('rate(x_total)', 0)")
        .await
        .expect(400);
    assert!(
        bad.text()
            .contains("promql(): 1:6: parse error: expected type range vector"),
        "{}",
        bad.text()
    );
    let explained = ask_sql(
        &client,
        &format!("EXPLAIN SELECT * FROM promql('x_total', {START_S})"),
    )
    .await
    .expect(200);
    let text = explained.text();
    assert!(text.contains("PromSelectExec: x_total"), "{text}");
}

fn find<'a>(operator: &'a Value, name: &str) -> Option<&'a Value> {
    if operator["operator"] == name {
        return Some(operator);
    }
    operator["children"]
        .as_array()?
        .iter()
        .find_map(|child| find(child, name))
}

#[tokio::test]
async fn a_plan_says_what_was_read() {
    let place = Place::folder();
    let mut server = Server::start(&place).await;
    write_counters(&server.client(), 4, 100).await;
    server.client().flush().await;
    server.stop().await;
    // Nothing is cached.
    let server = Server::start(&place).await;
    let client = server.client();
    let end = (START_S + 900).to_string();
    let query = [
        ("query", "sum by (job) (rate(x_total[5m]))"),
        ("start", &(START_S + 300).to_string()),
        ("end", &end),
        ("step", "60"),
    ];
    let plan = client
        .get("/api/v1/explain", &query)
        .await
        .expect(200)
        .json();
    assert_eq!(
        find(&plan["data"]["plan"], "PromSelectExec").unwrap(),
        &json!({ "operator": "PromSelectExec", "detail": "rate(x_total[5m])" })
    );
    assert_eq!(client.figure("query_read_requests_total").await, 0.0);

    let query = [query.as_slice(), &[("analyze", "true")]].concat();
    let reply = client
        .get("/api/v1/explain", &query)
        .await
        .expect(200)
        .json();
    let plan = &reply["data"]["plan"];
    assert_eq!(
        plan["detail"],
        format!(
            "start={}.000, end={end}.000, step=60, steps=11",
            START_S + 300
        )
    );
    let aggregate = find(plan, "PromAggregateExec").unwrap();
    assert_eq!(
        (
            aggregate["detail"].as_str(),
            aggregate["measured"]["rows"].as_u64(),
            aggregate["measured"]["values"].as_u64()
        ),
        (Some("mode=Final, sum by (job)"), Some(2), Some(22))
    );
    let read = &find(plan, "PromSelectExec").unwrap()["read"];
    let count = |name: &str| {
        read[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {reply}"))
    };
    assert_eq!(
        (count("series"), count("segments"), count("bufferChunks")),
        (4, 1, 0)
    );
    assert_eq!(count("samples"), 4 * 90);
    let (requests, rounds) = (count("requests"), count("rounds"));
    assert!(
        requests >= 3 && count("bytes") > 500,
        "index, footer and pages: {reply}"
    );
    assert!((1..=requests).contains(&rounds), "{reply}");
    assert_eq!(read["dollars"], requests as f64 * (0.4 / 1e6));
    assert_eq!(
        client.figure("query_read_bytes_total").await,
        count("bytes") as f64
    );
    // Now index, footer and pages are in memory.
    let again = client
        .get("/api/v1/explain", &query)
        .await
        .expect(200)
        .json();
    assert_eq!(
        find(&again["data"]["plan"], "PromSelectExec").unwrap()["read"]["requests"],
        0
    );
    let read = &find(&again["data"]["plan"], "PromSelectExec").unwrap()["read"];
    assert!(read["memoryHits"].as_u64() > Some(0), "{read}");
    assert!(client.figure("page_cache_hits_total").await > 0.0);
    assert!(client.figure("index_cache_hits_total").await > 0.0);

    let text = client
        .get(
            "/api/v1/explain",
            &[query.as_slice(), &[("format", "text")]].concat(),
        )
        .await
        .expect(200);
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    let text = text.text();
    let line = text.lines().find(|line| line.contains("PromSelectExec"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    for figure in [
        "output_series=4",
        "output_values=44",
        "segments=1",
        "store_rounds=0",
    ] {
        assert!(line.contains(figure), "{figure}: {text}");
    }
    let instant = client
        .get(
            "/api/v1/explain",
            &[("query", "sum(x_total @ 5)"), ("format", "text")],
        )
        .await
        .expect(200);
    assert!(
        instant.text().ends_with(
            "\n  PromRepeatExec: evaluated once for all steps\n    PromAggregateExec: mode=Final, \
             sum\n      PromAggregateExec: mode=Partial, sum\n        PromSelectExec: x_total @ \
             5.000\n"
        ),
        "{}",
        instant.text()
    );
    let bad = client
        .get("/api/v1/explain", &[("query", "sum(")])
        .await
        .expect(400)
        .json();
    assert_eq!(bad["errorType"], "bad_data");
}

#[tokio::test]
async fn every_limit_names_itself() {
    let place = Place::folder();
    let mut server = Server::start(&place).await;
    write_counters(&server.client(), 4, 1000).await;
    server.client().flush().await;
    server.stop().await;
    let flags = [
        "--max-query-samples=3000",
        "--max-query-series=3",
        "--query-memory-bytes=20000",
    ];
    let mut server = Server::start_with(&place, &flags).await;
    let client = server.client();
    let range = async |client: &Client, query: &str, step: &str| {
        let (start, end) = (START_S.to_string(), (START_S + 10_000).to_string());
        let reply = client
            .get(
                "/api/v1/query_range",
                &[
                    ("query", query),
                    ("start", &start),
                    ("end", &end),
                    ("step", step),
                ],
            )
            .await;
        let reply = reply.expect(422).json();
        assert_eq!(reply["errorType"], "execution");
        reply["error"].as_str().unwrap().to_owned()
    };
    let text = range(&client, "x_total", "1000").await;
    assert_eq!(
        text,
        "query limit exceeded: a selector matches 4 series, at most 3 are allowed; narrow it, or \
         raise max_query_series"
    );
    let text = range(&client, "1", "2").await;
    let samples = "query processing would load too many samples into memory in query execution \
                   (limit 3000, setting max_query_samples)";
    assert_eq!(text, samples);
    let refused = async |client: &Client, query: &str, words: &str| {
        let reply = ask_sql(client, query).await.expect(422);
        assert!(
            reply.text().contains(words),
            "{} lacks {words}",
            reply.text()
        );
    };
    refused(&client, "SELECT * FROM promql('1', 0, 100000, 1)", samples).await;
    refused(
        &client,
        "SELECT * FROM promql('1', 0, 2000, 1)",
        "query_memory_bytes",
    )
    .await;
    let limited = |language: &str| {
        format!("queries_ended_total{{language=\"{language}\",outcome=\"limited\"}}")
    };
    assert_eq!(
        (
            client.figure(&limited("promql")).await,
            client.figure(&limited("sql")).await
        ),
        (2.0, 2.0)
    );
    server.stop().await;

    let mut server = Server::start_with(&place, &["--max-query-read-bytes=2000"]).await;
    let client = server.client();
    let bytes = "more than 2000 bytes would be read from the store; narrow the selectors or the \
                 time range, or raise max_query_read_bytes";
    assert_eq!(
        range(&client, "x_total", "1000").await,
        format!("query limit exceeded: {bytes}")
    );

    refused(&client, "SELECT sum(value) FROM x_total", bytes).await;
    refused(
        &client,
        "SELECT * FROM promql('x_total', 1700001000)",
        bytes,
    )
    .await;
    assert_eq!(
        (
            client.figure(&limited("promql")).await,
            client.figure(&limited("sql")).await
        ),
        (1.0, 2.0)
    );
    let body = snappy(&read_request(
        &[],
        &[&[(0, "__name__", "x_total")]],
        START_S * 1000,
        (START_S + 10_000) * 1000,
    ));
    let reply = client
        .send(
            "POST",
            "/api/v1/read",
            &[],
            &[("content-encoding", "snappy")],
            body,
        )
        .await
        .expect(422);
    assert!(reply.text().contains(bytes), "{}", reply.text());
    assert_eq!(client.figure(&limited("remote_read")).await, 1.0);

    let labels = [("__name__", "x_total")];
    let exemplar = Message::default()
        .series(&labels, &[(START_S * 1000, 1.0)])
        .exemplar(&labels, START_S * 1000, 0.5, &[("trace_id", "t")]);
    client.write_samples(&exemplar).await;
    client.flush().await;
    server.stop().await;
    let server = Server::start_with(&place, &["--max-query-read-bytes=10"]).await;
    let client = server.client();
    let reply = client
        .get("/api/v1/query_exemplars", &[("query", "x_total")])
        .await
        .expect(422);
    assert!(
        reply
            .text()
            .contains("more than 10 bytes would be read from the store"),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn a_late_query_and_one_without_a_place_say_so() {
    let server = Server::start_with(
        &Place::Memory,
        &[
            "--max-concurrent-queries=1",
            "--query-queue-ms=50",
            "--query-timeout-ms=2000",
        ],
    )
    .await;
    let client = server.client();
    write_counters(&client, 2, 20_000).await;
    let slow = heavy_promql();
    let first = client.get("/api/v1/query_range", &slow);
    let second = async {
        until(&client, "queries_running", 1.0).await;
        client.get("/api/v1/query", &[("query", "1")]).await
    };
    let (first, second) = tokio::join!(first, second);
    let late = first.expect(503).json();
    assert_eq!(late["errorType"], "timeout");
    let words = "query timed out in expression evaluation (limit 2000 ms, setting \
                 query_timeout_ms or parameter timeout)";
    assert_eq!(late["error"], words);
    let refused = second.expect(503);
    assert_eq!(refused.header("retry-after"), "1");
    assert!(
        refused.text().contains(
            "none of the 1 places (max_concurrent_queries) became free in 50 ms (query_queue_ms)"
        ),
        "{}",
        refused.text()
    );
    let ended =
        |outcome: &str| format!("queries_ended_total{{language=\"promql\",outcome=\"{outcome}\"}}");
    assert_eq!(
        (
            client.figure(&ended("timed_out")).await,
            client.figure(&ended("refused")).await
        ),
        (1.0, 1.0)
    );
    is_idle(&client, "a query that is late").await;
}

/// Minutes of work: each of ten thousand steps sorts windows of twenty thousand samples.
fn heavy_promql() -> [(&'static str, &'static str); 4] {
    [
        ("query", "quantile_over_time(0.5, x_total[3d])"),
        ("start", "1700200000"),
        ("end", "1700210000"),
        ("step", "1"),
    ]
}

/// Waits for a figure.
async fn until(client: &Client, figure: &str, expected: f64) {
    let begun = Instant::now();
    while client.figure(figure).await != expected {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{figure} does not become {expected}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The server's processor time stands still: nobody works on what nobody waits for.
async fn is_idle(client: &Client, after: &str) {
    let begun = Instant::now();
    loop {
        let before = client.figure("process_cpu_seconds_total").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let used = client.figure("process_cpu_seconds_total").await - before;
        if used < 0.15 {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{used} seconds of work in half a second after everybody went away from {after}"
        );
    }
}

/// Sends a request, waits until a query runs, and goes away.
async fn disconnect_from(client: &Client, path_and_query: &str) {
    let mut connection = TcpStream::connect(client.address())
        .await
        .expect("a connection");
    let request = format!("GET {path_and_query} HTTP/1.1\r\nHost: x\r\n\r\n");
    connection
        .write_all(request.as_bytes())
        .await
        .expect("it takes a request");
    until(client, "queries_running", 1.0).await;
    // It is busy, not about to end.
    let (begun, before) = (
        Instant::now(),
        client.figure("process_cpu_seconds_total").await,
    );
    while client.figure("process_cpu_seconds_total").await - before < 0.2 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the query does nothing"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        client.figure("queries_running").await,
        1.0,
        "the query is too short for this test"
    );
    drop(connection);
    until(client, "queries_running", 0.0).await;
    is_idle(client, path_and_query).await;
}

#[tokio::test]
async fn a_query_ends_when_its_client_goes_away() {
    let server = Server::start_with(&Place::Memory, &["--max-concurrent-queries=1"]).await;
    let client = server.client();
    write_counters(&client, 2, 20_000).await;
    let ended = |language: &str| {
        format!("queries_ended_total{{language=\"{language}\",outcome=\"cancelled\"}}")
    };

    let promql: String = heavy_promql()
        .iter()
        .map(|(name, value)| format!("{name}={}&", value.replace(' ', "%20")))
        .collect();
    disconnect_from(&client, &format!("/api/v1/query_range?{promql}")).await;
    assert_eq!(client.figure(&ended("promql")).await, 1.0);
    disconnect_from(&client, &format!("/api/v1/explain?{promql}analyze=1")).await;
    assert_eq!(client.figure(&ended("promql")).await, 2.0);

    // A product of forty thousand rows with themselves, twice.
    let sql =
        "SELECT count(*) FROM x_total a, x_total b, x_total c WHERE a.value + b.value < c.value";
    disconnect_from(
        &client,
        &format!(
            "/api/v3/query_sql?db=default&q={}",
            sql.replace(' ', "%20")
                .replace('+', "%2B")
                .replace('<', "%3C")
        ),
    )
    .await;
    assert_eq!(client.figure(&ended("sql")).await, 1.0);
    // PromQL that is evaluated while SQL is planned.
    let inside =
        "SELECT * FROM promql('quantile_over_time(0.5, x_total[3d])', 1700200000, 1700210000, 1)";
    disconnect_from(
        &client,
        &format!(
            "/api/v3/query_sql?db=default&q={}",
            inside.replace(' ', "%20")
        ),
    )
    .await;
    assert_eq!(client.figure(&ended("sql")).await, 2.0);
    // The one place is free.
    assert_eq!(client.promql("1 + 1", "0").await.len(), 2);
}

#[tokio::test]
async fn experiments_can_be_turned_off() {
    let server = Server::start_with(&Place::Memory, &["--promql-experimental=false"]).await;
    let client = server.client();
    let refused = async |query: &str, words: &str| {
        let reply = client
            .get("/api/v1/query", &[("query", query)])
            .await
            .expect(400)
            .json();
        assert_eq!(
            (reply["errorType"].as_str(), reply["error"].as_str()),
            (Some("bad_data"), Some(words))
        );
    };
    refused(
        "limitk(1, x)",
        "invalid parameter \"query\": 1:1: parse error: limitk() is experimental and must be \
         enabled with --enable-feature=promql-experimental-functions",
    )
    .await;
    refused(
        "info(x)",
        "invalid parameter \"query\": 1:1: parse error: function \"info\" is not enabled",
    )
    .await;
    let sql = ask_sql(&client, "SELECT * FROM promql('x[5m * 2]', 0)")
        .await
        .expect(404);
    assert!(sql.text().contains("database"), "{}", sql.text());
    client.write_lines("m value=1 1700000000000000000").await;
    let sql = ask_sql(&client, "SELECT * FROM promql('x[5m * 2]', 0)")
        .await
        .expect(400);
    assert!(
        sql.text().contains(
            "promql(): 1:3: parse error: experimental duration expression is not enabled"
        ),
        "{}",
        sql.text()
    );
}
