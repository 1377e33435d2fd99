//! `AS OF` and `asOf=`: what there was before a delete, for as long as the window says.
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::on_every_place;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::Server;

on_every_place!(time_travel, super::the_past_can_be_read);

const TIME: &str = "1700000000";

async fn statement(client: &Client, sql: &str) -> u64 {
    let body = json!({ "db": "default", "q": sql }).to_string();
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
    reply.json()[0]["sequence"].as_u64().expect("a sequence")
}

async fn sql(client: &Client, query: &str) -> Reply {
    client
        .get("/api/v3/query_sql", &[("db", "default"), ("q", query)])
        .await
}

async fn now(client: &Client) -> String {
    let rows = client.sql("SELECT CAST(now() AS TIMESTAMP) AS now").await;
    format!("{}Z", rows[0]["now"].as_str().expect("a time"))
}

/// What is read as of a state, in every way that there is.
async fn check(client: &Client, as_of: &str, hosts: &[&str], stage: &str) {
    let expected: Vec<Value> = hosts.iter().map(|host| json!({ "host": host })).collect();
    let literal = if as_of.bytes().all(|b| b.is_ascii_digit()) {
        as_of.to_owned()
    } else {
        format!("TIMESTAMP '{as_of}'")
    };
    for table in ["cpu", "metrics.up"] {
        let query = format!("SELECT host FROM {table} ORDER BY host");
        let rows = sql(client, &format!("{query} AS OF {literal};"))
            .await
            .expect(200)
            .json();
        assert_eq!(rows, json!(expected), "{stage}: {table}");
        let by_parameter = client
            .get(
                "/api/v3/query_sql",
                &[("db", "default"), ("q", &query), ("asOf", as_of)],
            )
            .await
            .expect(200);
        assert_eq!(by_parameter.json(), rows, "{stage}: {table}");
    }
    sql(
        client,
        &format!("EXPLAIN SELECT host FROM cpu AS OF {literal}"),
    )
    .await
    .expect(200);
    for metric in ["cpu_usage", "up"] {
        let range = [
            ("query", metric),
            ("start", TIME),
            ("end", TIME),
            ("step", "1"),
            ("asOf", as_of),
        ];
        let instant = [("query", metric), ("time", TIME), ("asOf", as_of)];
        for (path, query) in [
            ("/api/v1/query", &instant[..]),
            ("/api/v1/query_range", &range),
        ] {
            let result = client.get(path, query).await.expect(200).json();
            assert_eq!(
                result["data"]["result"].as_array().map(Vec::len),
                Some(hosts.len()),
                "{stage}: {path} {metric} {result}"
            );
        }
        let selected = [("match[]", metric), ("asOf", as_of)];
        let series = client
            .get("/api/v1/series", &selected)
            .await
            .expect(200)
            .json();
        assert_eq!(
            series["data"].as_array().map(Vec::len),
            Some(hosts.len()),
            "{stage}: {series}"
        );
        let values = client
            .get("/api/v1/label/host/values", &selected)
            .await
            .expect(200)
            .json();
        assert_eq!(values["data"], json!(hosts), "{stage}");
        let labels = client
            .get("/api/v1/labels", &selected)
            .await
            .expect(200)
            .json();
        assert_eq!(
            labels["data"]
                .as_array()
                .is_some_and(|names| !names.is_empty()),
            !hosts.is_empty(),
            "{stage}: {labels}"
        );
    }
}

async fn write(client: &Client, host: &str) {
    client
        .write_lines(&format!("cpu,host={host} usage=1 {TIME}000000000"))
        .await;
    client
        .write_samples(&Message::default().series(
            &[("__name__", "up"), ("host", host)],
            &[(1_700_000_000_000, 1.0)],
        ))
        .await;
}

async fn the_past_can_be_read(place: &Place) {
    let mut server = Server::start(place).await;
    let client = server.client();
    write(&client, "a").await;
    write(&client, "b").await;
    let deleted = statement(&client, "DELETE FROM metrics.up WHERE host = 'a'").await;
    let deleted = statement(&client, "DELETE FROM cpu WHERE host = 'a'")
        .await
        .min(deleted);
    let both = (deleted - 1).to_string();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let after_delete = now(&client).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    write(&client, "c").await;
    client.flush().await;
    client.compact().await;
    check(&client, &both, &["a", "b"], "before the delete").await;
    check(&client, &after_delete, &["b"], "after the delete").await;
    let last = client.figure("catalog_sequence_total").await;
    check(&client, &last.to_string(), &["b", "c"], "now").await;

    statement(&client, "DROP TABLE cpu").await;
    statement(&client, "DELETE FROM up").await;
    check(&client, &both, &["a", "b"], "after a drop").await;
    refuse(&client).await;

    if place.is_durable() {
        server.stop().await;
        server = Server::start(place).await;
        check(&server.client(), &both, &["a", "b"], "after a restart").await;
        // A window that has passed.
        server.stop().await;
        server = Server::start_with(place, &["--time-travel-window-ms", "1"]).await;
        let reply = sql(
            &server.client(),
            &format!("SELECT host FROM cpu AS OF {both}"),
        )
        .await
        .expect(400);
        assert!(reply.text().contains(&both), "{}", reply.text());
        let query = [("query", "up"), ("time", TIME), ("asOf", both.as_str())];
        let reply = server
            .client()
            .get("/api/v1/query", &query)
            .await
            .expect(400);
        assert!(reply.text().contains("bad_data"), "{}", reply.text());
    }
}

async fn refuse(client: &Client) {
    let check = async |as_of: &str, word: &str| {
        let reply = client
            .get("/api/v1/query", &[("query", "up"), ("asOf", as_of)])
            .await
            .expect(400);
        assert!(
            reply.text().contains(word),
            "{as_of}: {} lacks {word}",
            reply.text()
        );
        let literal = format!("'{as_of}'");
        let reply = sql(client, &format!("SELECT 1 AS OF {literal}"))
            .await
            .expect(400);
        assert!(
            reply.text().contains(word),
            "{as_of}: {} lacks {word}",
            reply.text()
        );
    };
    check("99999999", "99999999").await;
    check("yesterday", "yesterday").await;
    check("2100-01-01T00:00:00Z", "2100-01-01").await;
    check("2001-01-01T00:00:00Z", "2001-01-01").await;
    let twice = [("db", "default"), ("q", "SELECT 1 AS OF 1"), ("asOf", "1")];
    client.get("/api/v3/query_sql", &twice).await.expect(400);
    let body = json!({ "db": "default", "q": "DELETE FROM up", "asOf": 1 }).to_string();
    client
        .send(
            "POST",
            "/api/v3/query_sql",
            &[],
            &[("content-type", "application/json")],
            body,
        )
        .await
        .expect(400);
}
