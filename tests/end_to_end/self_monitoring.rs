//! What the server measures of itself: there at once, durable, kept for as long as it is set, and
//! in nobody's way.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::on_every_place;
use crate::place::Place;
use crate::server::Server;

on_every_place!(kept, super::measurements_are_kept);

/// Often, and one database for users.
const FLAGS: [&str; 4] = [
    "--self-monitoring-interval-ms",
    "200",
    "--max-databases",
    "1",
];

async fn result(client: &Client, query: &str) -> Vec<Value> {
    let reply = client
        .get("/db/_internal/api/v1/query", &[("query", query)])
        .await
        .expect(200);
    let result = reply.json()["data"]["result"].take();
    result.as_array().expect("a vector").clone()
}

/// The value of a query with one result, when it is at least this.
async fn wait_for(client: &Client, query: &str, least: f64) {
    let begun = Instant::now();
    loop {
        let found = result(client, query).await;
        let value = found.first().map(|row| row["value"][1].clone());
        let value = value.as_ref().and_then(Value::as_str);
        if value.is_some_and(|value| value.parse::<f64>().is_ok_and(|value| value >= least)) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{query}: {found:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn measurements_are_kept(place: &Place) {
    let mut server = Server::start_with(place, &FLAGS).await;
    let client = server.client();
    wait_for(&client, "tidelake_build_info", 1.0).await;
    let found = result(&client, "tidelake_build_info").await;
    let labels = &found[0]["metric"];
    assert_eq!(labels["job"], "tidelake");
    assert_eq!(labels["instance"], "node-1");
    // What users do is measured, and their database has its place.
    client.write_lines("m f=1").await;
    let points = "sum(tidelake_write_points_total)";
    wait_for(&client, points, 1.0).await;
    let counted = "count(count_over_time(tidelake_segments[1m]) > 2)";
    if place.is_durable() {
        wait_for(&client, counted, 1.0).await;
        let before = result(&client, "count_over_time(tidelake_segments[1h])").await;
        server.kill();
        server = Server::start_with(place, &FLAGS).await;
        let client = server.client();
        let least = before[0]["value"][1].as_str().expect("a text");
        let least: f64 = least.parse().expect("a number");
        let count = "count_over_time(tidelake_segments[1h])";
        wait_for(&client, count, least + 1.0).await;
    }
    let client = server.client();
    let metadata = [("metric", "tidelake_write_points_total")];
    let said = client
        .get("/db/_internal/api/v1/metadata", &metadata)
        .await
        .expect(200)
        .json();
    let expected = json!({ "tidelake_write_points_total": [{
        "type": "counter", "unit": "",
        "help": "Lines, samples and histograms that were acknowledged.",
    }] });
    assert_eq!(said["data"], expected);
    let tables = [("db", "_internal"), ("format", "json")];
    let tables = client.get("/api/v3/configure/table", &tables).await;
    assert_eq!(
        tables.expect(200).json(),
        json!([{ "table": "__metrics__", "retention_period": "30d" }])
    );
    client.flush().await;
    wait_for(&client, points, 0.0).await;
    // Reading it makes no more series.
    let series = "count({__name__=~\".+\",__name__!~\".*http_.*\"})";
    let before = result(&client, series).await[0]["value"][1].clone();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(result(&client, series).await[0]["value"][1], before);

    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(20));
}
