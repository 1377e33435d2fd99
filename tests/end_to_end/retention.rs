//! How long rows are kept: set, shown, and applied to writes and reads.
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::on_every_place;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::Server;

on_every_place!(retention, super::rows_are_kept_for_as_long_as_it_is_set);

const HOUR_S: i64 = 3600;

fn now_s() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs() as i64
}

fn line(table: &str, age_s: i64) -> String {
    format!(
        "{table},host=a f={age_s} {}\n",
        (now_s() - age_s) * 1_000_000_000
    )
}

async fn statement(client: &Client, sql: &str) -> Reply {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let sql = sql.replace('%', "%25").replace('=', "%3D");
    client
        .send(
            "POST",
            "/api/v3/query_sql",
            &[],
            &form,
            format!("db=default&q={sql}"),
        )
        .await
}

async fn configure(client: &Client, method: &str, what: &str, body: Value) -> Reply {
    client
        .send(
            method,
            &format!("/api/v3/configure/{what}"),
            &[],
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
}

async fn ages(client: &Client, table: &str) -> Vec<i64> {
    let rows = client
        .sql(&format!("SELECT f FROM {table} ORDER BY f"))
        .await;
    rows.iter()
        .map(|row| row["f"].as_f64().expect("a number") as i64)
        .collect()
}

async fn rows_are_kept_for_as_long_as_it_is_set(place: &Place) {
    let mut server = Server::start(place).await;
    let client = server.client();
    client
        .write_lines(&(line("m", 60) + &line("m", 3 * HOUR_S) + &line("kept", 48 * HOUR_S)))
        .await;
    client.flush().await;
    client.write_lines(&line("m", 5 * HOUR_S)).await;

    statement(&client, "ALTER TABLE m SET (retention = '4h')")
        .await
        .expect(200);
    assert_eq!(
        ages(&client, "m").await,
        [60, 3 * HOUR_S],
        "older rows are hidden at once"
    );
    configure(
        &client,
        "PUT",
        "database",
        json!({ "db": "default", "retention_period": "1d" }),
    )
    .await
    .expect(200);
    assert_eq!(ages(&client, "kept").await, Vec::<i64>::new());
    statement(&client, "ALTER TABLE kept SET (retention = 'forever')")
        .await
        .expect(200);
    assert_eq!(ages(&client, "kept").await, [48 * HOUR_S]);
    let shown = json!([
        { "table_name": null, "retention_period": "1d", "effective_retention_period": "1d" },
        { "table_name": "kept", "retention_period": "forever", "effective_retention_period": "forever" },
        { "table_name": "m", "retention_period": "4h", "effective_retention_period": "4h" },
    ]);
    let query = "SELECT table_name, retention_period, effective_retention_period FROM \
                 information_schema.retention";
    assert_eq!(json!(client.sql(query).await), shown);
    assert_eq!(client.sql("SHOW RETENTION").await.len(), 3);
    let listed = client
        .get("/api/v3/configure/database", &[("format", "json")])
        .await
        .expect(200)
        .json();
    assert_eq!(
        listed,
        json!([
            { "iox::database": "_internal", "retention_period": "default" },
            { "iox::database": "default", "retention_period": "1d" },
        ])
    );

    refuse_old_writes(&client).await;
    refuse_settings(&client).await;
    assert_eq!(ages(&client, "m").await, [30, 60, 3 * HOUR_S]);

    if place.is_durable() {
        // In the log with a line that was taken.
        let partly = line("m", 45) + &line("m", 6 * HOUR_S);
        client
            .try_write_lines(partly)
            .await
            .expect("an answer")
            .expect(400);
        server.kill();
        server = Server::start(place).await;
        let client = server.client();
        assert_eq!(
            ages(&client, "m").await,
            [30, 45, 60, 3 * HOUR_S],
            "after a kill"
        );
        statement(&client, "ALTER TABLE m SET (retention = '2d')")
            .await
            .expect(200);
        assert!(
            !ages(&client, "m").await.contains(&(6 * HOUR_S)),
            "what was refused came back"
        );
        statement(&client, "ALTER TABLE m SET (retention = '4h')")
            .await
            .expect(200);
        let query = format!("{query} WHERE table_name = 'm'");
        assert_eq!(
            json!(client.sql(&query).await),
            json!([shown[2]]),
            "after a kill"
        );
    }
    let client = server.client();
    client.flush().await;
    client.compact().await;
    let merged = ages(&client, "m").await;
    assert!(
        merged.starts_with(&[30]) && merged.ends_with(&[60, 3 * HOUR_S]),
        "merged: {merged:?}"
    );
    assert_eq!(ages(&client, "kept").await, [48 * HOUR_S], "merged");

    // A table of its own retention goes back to that of the database.
    configure(
        &client,
        "PUT",
        "table",
        json!({ "db": "default", "table": "kept", "retention_period": "none" }),
    )
    .await
    .expect(200);
    assert_eq!(ages(&client, "kept").await, Vec::<i64>::new());
    configure(
        &client,
        "POST",
        "database",
        json!({ "db": "new", "retention_period": "1h" }),
    )
    .await
    .expect(200);
    configure(&client, "POST", "database", json!({ "db": "new" }))
        .await
        .expect(409);
    let old = client
        .send(
            "POST",
            "/write",
            &[("db", "new")],
            &[],
            line("m", 2 * HOUR_S),
        )
        .await
        .expect(400);
    assert!(
        old.text().contains("outside the retention of 3600000 ms"),
        "{}",
        old.text()
    );
}

async fn refuse_old_writes(client: &Client) {
    let body = line("m", 30) + &line("m", 5 * HOUR_S) + &line("fresh", 25 * HOUR_S);
    let reply = client
        .try_write_lines(body.clone())
        .await
        .expect("an answer")
        .expect(400);
    let text = reply.text();
    assert!(
        text.contains("partial write: line 2: ")
            && text.contains("; line 3: ")
            && text.contains("dropped=2"),
        "{text}"
    );
    assert!(
        text.contains("outside the retention of 14400000 ms")
            && text.contains("outside the retention of 86400000 ms"),
        "{text}"
    );
    let whole = [("db", "default"), ("accept_partial", "false")];
    let reply = client
        .send("POST", "/api/v3/write_lp", &whole, &[], body)
        .await
        .expect(400);
    assert_eq!(
        reply.json()["data"][0]["line_number"],
        2,
        "{}",
        reply.text()
    );

    let now_ms = now_s() * 1000;
    let samples = Message::default().series(
        &[("__name__", "s")],
        &[(now_ms - 25 * HOUR_S * 1000, 1.0), (now_ms, 2.0)],
    );
    let reply = client
        .try_write_samples(&samples)
        .await
        .expect("an answer")
        .expect(400);
    assert!(
        reply.text().contains("1 refused") && reply.text().contains("series {__name__=\"s\"}"),
        "{}",
        reply.text()
    );
    assert_eq!(
        reply.header("x-prometheus-remote-write-samples-written"),
        "1"
    );
    assert_eq!(
        json!(client.sql("SELECT value FROM metrics.s").await),
        json!([{ "value": 2.0 }])
    );
    statement(client, "ALTER SCHEMA metrics SET (retention = '2d')")
        .await
        .expect(200);
    client.write_samples(&samples).await;
    assert_eq!(client.sql("SELECT value FROM metrics.s").await.len(), 2);
}

async fn refuse_settings(client: &Client) {
    let check = |reply: Reply, status: u16, word: &str| {
        assert_eq!(reply.status, status, "{word}: {}", reply.text());
        assert!(reply.text().contains(word), "{} lacks {word}", reply.text());
    };
    check(
        statement(client, "ALTER TABLE m SET (retention = 'soon')").await,
        400,
        "soon",
    );
    check(
        statement(client, "ALTER TABLE s SET (retention = '1d')").await,
        400,
        "ALTER SCHEMA metrics",
    );
    check(
        statement(client, "ALTER TABLE nosuch SET (retention = '1d')").await,
        404,
        "nosuch",
    );
    check(
        statement(client, "ALTER DATABASE nosuch SET (retention = '1d')").await,
        404,
        "nosuch",
    );
    check(
        configure(
            client,
            "PUT",
            "database",
            json!({ "db": "nosuch", "retention_period": "1d" }),
        )
        .await,
        404,
        "nosuch",
    );
    check(
        configure(
            client,
            "PUT",
            "table",
            json!({ "db": "default", "table": "m", "retention_period": "0d" }),
        )
        .await,
        400,
        "0d",
    );
    check(
        configure(client, "POST", "database", json!({ "db": "a/b" })).await,
        400,
        "a/b",
    );
    check(
        configure(
            client,
            "PUT",
            "database",
            json!({ "retention_period": "1d" }),
        )
        .await,
        400,
        "db",
    );
}
