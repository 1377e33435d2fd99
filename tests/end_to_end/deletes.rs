//! Deletes and drops by every protocol: gone at once, and for good; what is written afterwards
//! stays.
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::on_every_place;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::Server;

on_every_place!(deletes, super::what_is_deleted_is_gone_at_once_and_for_good);
on_every_place!(drops, super::what_is_dropped_can_be_made_anew);

/// 2023-11-14T22:13:20Z
const TIME_S: i64 = 1_700_000_000;

/// A row of `cpu` and a sample of `up` for each host, at a number of seconds after [`TIME_S`].
async fn write(client: &Client, hosts: &[&str], after_s: i64) {
    let lines = hosts.iter().map(|host| {
        format!(
            "cpu,host={host} usage=1 {}\n",
            (TIME_S + after_s) * 1_000_000_000
        )
    });
    client.write_lines(&lines.collect::<String>()).await;
    let mut message = Message::default();
    for host in hosts {
        message = message.series(
            &[("__name__", "up"), ("host", host)],
            &[((TIME_S + after_s) * 1000, 1.0)],
        );
    }
    client.write_samples(&message).await;
}

/// `host@seconds` of all rows of a table, in the words of SQL and of PromQL, which must be the
/// same.
async fn rows(client: &Client, table: &str, stage: &str) -> Vec<String> {
    let query = format!(
        "SELECT host, CAST(time AS BIGINT) / {} AS s FROM {table} ORDER BY host, s",
        if table == "cpu" { 1_000_000_000 } else { 1000 }
    );
    let reply = client
        .get("/api/v3/query_sql", &[("db", "default"), ("q", &query)])
        .await;
    // A metric is there as long as it has samples.
    let rows = if reply.status == 404 && table != "cpu" {
        json!([])
    } else {
        reply.expect(200).json()
    };
    let of_row = |row: &Value| {
        format!(
            "{}@{}",
            row["host"].as_str().expect("a host"),
            row["s"].as_i64().expect("a time") - TIME_S
        )
    };
    let by_sql: Vec<String> = rows.as_array().expect("rows").iter().map(of_row).collect();
    let metric = if table == "cpu" { "cpu_usage" } else { "up" };
    let mut by_promql = Vec::new();
    for series in client
        .promql(&format!("{metric}[1h]"), &(TIME_S + 600).to_string())
        .await
    {
        let host = series["metric"]["host"]
            .as_str()
            .expect("a host")
            .to_owned();
        for value in series["values"].as_array().expect("samples") {
            by_promql.push(format!(
                "{host}@{}",
                value[0].as_i64().expect("a time") - TIME_S
            ));
        }
    }
    by_promql.sort();
    assert_eq!(by_sql, by_promql, "{stage}: {table}");
    by_sql
}

async fn check(client: &Client, cpu: &[&str], up: &[&str], stage: &str) {
    assert_eq!(rows(client, "cpu", stage).await, cpu, "{stage}: cpu");
    assert_eq!(rows(client, "metrics.up", stage).await, up, "{stage}: up");
}

async fn statement(client: &Client, sql: &str) -> Reply {
    let body = json!({ "db": "default", "q": sql }).to_string();
    client
        .send(
            "POST",
            "/api/v3/query_sql",
            &[],
            &[("content-type", "application/json")],
            body,
        )
        .await
}

async fn run(client: &Client, sql: &str, done: &str) {
    let answer = statement(client, sql).await.expect(200).json();
    assert_eq!(answer[0]["done"], done, "{sql}: {answer}");
    assert!(
        answer[0]["sequence"]
            .as_u64()
            .is_some_and(|sequence| sequence > 0),
        "{answer}"
    );
}

async fn influx_delete(client: &Client, body: Value) -> Reply {
    client
        .send(
            "POST",
            "/api/v2/delete",
            &[("bucket", "default"), ("org", "any")],
            &[],
            body.to_string(),
        )
        .await
}

async fn what_is_deleted_is_gone_at_once_and_for_good(place: &Place) {
    let server = Server::start(place).await;
    let client = server.client();
    // Half of it in segments, half in the buffer.
    let hosts = ["a", "b", "c", "d", "e"];
    write(&client, &hosts, 0).await;
    client.flush().await;
    write(&client, &hosts, 60).await;

    run(
        &client,
        "DELETE FROM cpu WHERE host = 'a' AND time < '2023-11-14T22:14:00Z'",
        "delete",
    )
    .await;
    run(
        &client,
        "DELETE FROM metrics.up WHERE host IN ('a', 'b') AND time >= '2023-11-14T22:14:00Z'",
        "delete",
    )
    .await;
    let cpu = [
        "a@60", "b@0", "b@60", "c@0", "c@60", "d@0", "d@60", "e@0", "e@60",
    ];
    let up = ["a@0", "b@0", "c@0", "c@60", "d@0", "d@60", "e@0", "e@60"];
    check(&client, &cpu, &up, "deleted by SQL").await;

    let from = (TIME_S + 60).to_string();
    let selectors = [
        ("match[]", "up{host=\"b\"}"),
        ("match[]", "up{host=~\"c|x\"}"),
        ("end", from.as_str()),
    ];
    client
        .send(
            "POST",
            "/api/v1/admin/tsdb/delete_series",
            &selectors,
            &[],
            "",
        )
        .await
        .expect(204);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("match[]=%7Bhost%3D%22d%22%2C__name__%3D%22up%22%7D&start={from}");
    client
        .send(
            "PUT",
            "/db/default/api/v1/admin/tsdb/delete_series",
            &[],
            &form,
            body,
        )
        .await
        .expect(204);
    check(
        &client,
        &cpu,
        &["a@0", "d@0", "e@0", "e@60"],
        "deleted by Prometheus' API",
    )
    .await;

    // Both ends of the interval are in it.
    let interval = |predicate: &str| json!({ "start": "2023-11-14T22:13:20Z", "stop": "2023-11-14T22:13:20Z", "predicate": predicate });
    influx_delete(&client, interval("_measurement=\"cpu\" AND host='b'"))
        .await
        .expect(204);
    influx_delete(&client, interval("host=\"d\""))
        .await
        .expect(204);
    influx_delete(&client, interval("_measurement=up AND host=a"))
        .await
        .expect(204);
    influx_delete(&client, interval("nosuchtag=a"))
        .await
        .expect(204);
    let (cpu, up) = (
        ["a@60", "b@60", "c@0", "c@60", "d@60", "e@0", "e@60"],
        ["e@0", "e@60"],
    );
    check(&client, &cpu, &up, "deleted by InfluxDB's API").await;

    // The same series and times again.
    write(&client, &["a"], 0).await;
    let (cpu, up) = (
        ["a@0", "a@60", "b@60", "c@0", "c@60", "d@60", "e@0", "e@60"],
        ["a@0", "e@0", "e@60"],
    );
    check(&client, &cpu, &up, "written again").await;
    client.flush().await;
    check(&client, &cpu, &up, "flushed").await;
    client
        .send("POST", "/api/v1/admin/tsdb/clean_tombstones", &[], &[], "")
        .await
        .expect(204);
    check(&client, &cpu, &up, "merged").await;

    refuse(&client).await;
    check(
        &client,
        &cpu,
        &up,
        "nothing was deleted by what was refused",
    )
    .await;
    if place.is_durable() {
        check_restarts(server, place, &cpu).await;
    }
}

async fn refuse(client: &Client) {
    let check = |reply: Reply, status: u16, word: &str| {
        assert_eq!(reply.status, status, "{word}: {}", reply.text());
        assert!(reply.text().contains(word), "{} lacks {word}", reply.text());
    };
    check(
        client
            .get(
                "/api/v3/query_sql",
                &[("db", "default"), ("q", "DELETE FROM cpu")],
            )
            .await,
        400,
        "POST",
    );
    check(
        statement(client, "DELETE FROM cpu WHERE usage > 0").await,
        400,
        "usage",
    );
    check(
        statement(client, "DELETE FROM cpu WHERE rack = 'a'").await,
        400,
        "rack",
    );
    check(
        statement(client, "DELETE FROM cpu WHERE host = 'a' OR time > now()").await,
        400,
        "joined by AND",
    );
    check(statement(client, "DELETE FROM nosuch").await, 404, "nosuch");
    check(
        statement(client, "DELETE FROM cpu AS OF 1").await,
        400,
        "AS OF",
    );
    check(
        statement(client, "EXPLAIN DELETE FROM cpu").await,
        400,
        "not supported",
    );
    let path = "/api/v1/admin/tsdb/delete_series";
    check(
        client.send("POST", path, &[], &[], "").await,
        400,
        "no match[]",
    );
    check(client.get(path, &[("match[]", "up")]).await, 405, "GET");
    check(
        client
            .send(
                "POST",
                path,
                &[("match[]", "up"), ("match[]", "{")],
                &[],
                "",
            )
            .await,
        400,
        "match[]",
    );
    check(
        client
            .send(
                "POST",
                path,
                &[("match[]", "up"), ("match[]", "cpu_usage{host=\"e\"}")],
                &[],
                "",
            )
            .await,
        400,
        "DELETE FROM",
    );
    check(
        client
            .send("POST", path, &[("match[]", "{host=\"e\"}")], &[], "")
            .await,
        400,
        "cpu_usage",
    );
    check(
        client
            .send(
                "POST",
                path,
                &[("match[]", "up"), ("start", "2"), ("end", "1")],
                &[],
                "",
            )
            .await,
        400,
        "before start",
    );
    let body = |predicate: &str| json!({ "start": "2000-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z", "predicate": predicate });
    check(
        influx_delete(client, body("host!=\"a\"")).await,
        400,
        r#""code":"invalid""#,
    );
    check(
        influx_delete(client, body("host=a OR host=b")).await,
        400,
        "AND",
    );
    check(
        influx_delete(
            client,
            json!({ "start": "yesterday", "stop": "2100-01-01T00:00:00Z" }),
        )
        .await,
        400,
        "start",
    );
    check(
        influx_delete(client, json!({ "predicate": "host=a" })).await,
        400,
        "JSON",
    );
    let elsewhere = client
        .send(
            "POST",
            "/api/v2/delete",
            &[("bucket", "nosuch")],
            &[],
            body("").to_string(),
        )
        .await;
    check(elsewhere, 404, r#""code":"not found""#);
}

async fn check_restarts(mut server: Server, place: &Place, cpu: &[&str]) {
    run(&server.client(), "DELETE FROM up", "delete").await;
    server.kill();
    let mut server = Server::start(place).await;
    check(&server.client(), cpu, &[], "after a kill").await;
    server.client().compact().await;
    check(&server.client(), cpu, &[], "after a kill, merged").await;
    server.stop().await;
    let server = Server::start(place).await;
    check(&server.client(), cpu, &[], "after a restart").await;
    // Without a condition all rows go, and the table stays.
    run(&server.client(), "DELETE FROM cpu", "delete").await;
    check(&server.client(), &[], &[], "all deleted").await;
    assert_eq!(
        server
            .client()
            .sql("SELECT table_name FROM information_schema.tables WHERE table_name = 'cpu'")
            .await
            .len(),
        1
    );
}

async fn what_is_dropped_can_be_made_anew(place: &Place) {
    let server = Server::start(place).await;
    let client = server.client();
    let tables = async |client: &Client| {
        let query = "SELECT table_name FROM information_schema.tables WHERE table_schema = \
                     'public' ORDER BY 1";
        client
            .sql(query)
            .await
            .iter()
            .map(|row| row["table_name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    write(&client, &["a"], 0).await;
    client.flush().await;
    write(&client, &["b"], 0).await;
    client
        .write_lines("disk,host=a free=1i 1700000000000000000")
        .await;

    run(&client, "DROP TABLE cpu", "drop table").await;
    assert_eq!(tables(&client).await, ["disk"]);
    assert_eq!(
        client.promql("cpu_usage", &TIME_S.to_string()).await,
        Vec::<Value>::new()
    );
    run(&client, "DROP TABLE IF EXISTS cpu", "nothing").await;
    statement(&client, "DROP TABLE cpu").await.expect(404);
    // Another type for the column, and the tag a field.
    client
        .write_lines("cpu host=\"x\",usage=\"much\" 1700000000000000000")
        .await;
    let anew = json!([{ "host": "x", "usage": "much" }]);
    assert_eq!(json!(client.sql("SELECT host, usage FROM cpu").await), anew);
    client.flush().await;
    client.compact().await;
    assert_eq!(
        json!(client.sql("SELECT host, usage FROM cpu").await),
        anew,
        "merged"
    );

    run(&client, "DROP TABLE metrics.up", "delete").await;
    assert_eq!(
        client.promql("up", &TIME_S.to_string()).await,
        Vec::<Value>::new()
    );
    let drop = async |path: &str, query: &[(&str, &str)]| {
        client.send("DELETE", path, query, &[], "").await
    };
    drop(
        "/api/v3/configure/table",
        &[("db", "default"), ("table", "disk")],
    )
    .await
    .expect(200);
    assert_eq!(tables(&client).await, ["cpu"]);
    drop(
        "/api/v3/configure/table",
        &[("db", "default"), ("table", "disk")],
    )
    .await
    .expect(404);
    drop(
        "/api/v3/configure/table",
        &[("db", "default"), ("table", "cpu"), ("data_only", "true")],
    )
    .await
    .expect(200);
    assert_eq!(client.sql("SELECT * FROM cpu").await, Vec::<Value>::new());

    client
        .send("POST", "/write", &[("db", "other")], &[], "m f=1 1")
        .await
        .expect(204);
    run(&client, "DROP DATABASE other", "drop database").await;
    run(&client, "DROP DATABASE IF EXISTS other", "nothing").await;
    client
        .get("/api/v3/query_sql", &[("db", "other"), ("q", "SELECT 1")])
        .await
        .expect(404);
    client
        .send("POST", "/write", &[("db", "other")], &[], "m f=\"text\" 1")
        .await
        .expect(204);
    let reply = client
        .get(
            "/api/v3/query_sql",
            &[("db", "other"), ("q", "SELECT f FROM m")],
        )
        .await
        .expect(200);
    assert_eq!(reply.json(), json!([{ "f": "text" }]));
    drop("/api/v3/configure/database", &[("db", "other")])
        .await
        .expect(200);
    drop("/api/v3/configure/database", &[("db", "other")])
        .await
        .expect(404);
}
