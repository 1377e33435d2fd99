//! InfluxQL as clients of InfluxDB 1.x meet it: the same answers before and after a flush, a merge
//! and a restart; retention policies; deletes; forms of answers.
use serde_json::{Value, json};

use crate::client::Client;
use crate::place::Place;
use crate::server::Server;

const START_NS: i64 = 1_614_556_800_000_000_000;

/// The result of a statement, with times in seconds.
async fn ask(client: &Client, statement: &str) -> Value {
    let query = [("db", "plant"), ("q", statement), ("epoch", "s")];
    let reply = client.get("/query", &query).await.expect(200);
    reply.json()["results"][0].clone()
}

async fn rows(client: &Client, statement: &str) -> Value {
    ask(client, statement).await["series"][0]["values"].clone()
}

async fn change(client: &Client, statement: &str) {
    let query = [("db", "plant"), ("q", statement)];
    let reply = client.send("POST", "/query", &query, &[], "").await;
    let answer = reply.expect(200).json();
    assert_eq!(
        answer,
        json!({ "results": [{ "statement_id": 0 }] }),
        "{statement}"
    );
}

async fn write(client: &Client, more: &[(&str, &str)], lines: &str) {
    let query = [&[("db", "plant"), ("precision", "s")], more].concat();
    let lines = lines.to_owned();
    client
        .send("POST", "/write", &query, &[], lines)
        .await
        .expect(204);
}

async fn write_machines(client: &Client) {
    let start = START_NS / 1_000_000_000;
    let line = |second: i64| {
        let (at, host) = (start + second, ["a", "b"][(second / 10 % 2) as usize]);
        format!(
            "cpu,host={host} usage={},state=\"ok\" {at}\n",
            second * 3 % 50
        )
    };
    let lines: String = (0..600).step_by(10).map(line).collect();
    write(client, &[], &lines).await;
    // A tag and a field of one name.
    write(
        client,
        &[],
        &format!("door,room=hall room=\"open\",n=1i {start}"),
    )
    .await;
}

#[tokio::test]
async fn answers_stay_the_same() {
    let place = Place::folder();
    let statements = [
        "SELECT mean(usage), max(usage), last(state) FROM cpu WHERE time >= '2021-03-01T00:00:00Z' \
         AND time < '2021-03-01T00:10:00Z' GROUP BY time(2m), host fill(previous)",
        "SELECT usage, host FROM cpu WHERE usage > 30 ORDER BY time DESC LIMIT 4",
        "SELECT derivative(usage, 10s) FROM cpu WHERE host = 'a' AND usage < 20",
        "SELECT top(usage, host, 2) FROM cpu",
        "SELECT sum(m) FROM (SELECT max(usage) AS m FROM cpu GROUP BY host)",
        "SELECT room, n, room::tag FROM door",
        "SHOW SERIES",
        "SHOW TAG VALUES WITH KEY = host",
        "SHOW FIELD KEYS",
    ];
    let mut server = Server::start(&place).await;
    let client = server.client();
    write_machines(&client).await;
    let mut expected = Vec::new();
    for statement in statements {
        let answer = ask(&client, statement).await;
        assert!(answer["series"].is_array(), "{statement}: {answer}");
        expected.push(answer);
    }
    let door = &expected[5]["series"][0]["values"];
    assert_eq!(
        *door,
        json!([[START_NS / 1_000_000_000, "open", 1, "hall"]])
    );
    let check = async |client: &Client, when: &str| {
        for (statement, expected) in statements.iter().zip(&expected) {
            assert_eq!(
                ask(client, statement).await,
                *expected,
                "{when}: {statement}"
            );
        }
    };
    client
        .send("POST", "/admin/flush", &[], &[], "")
        .await
        .expect(204);
    check(&client, "flushed").await;
    write_machines(&client).await;
    check(&client, "written again").await;
    client
        .send("POST", "/admin/flush", &[], &[], "")
        .await
        .expect(204);
    client
        .send("POST", "/admin/compact", &[], &[], "")
        .await
        .expect(204);
    check(&client, "merged").await;
    server.stop().await;
    let server = Server::start(&place).await;
    check(&server.client(), "started again").await;
}

#[tokio::test]
async fn retention_policies_are_databases_of_their_own() {
    let place = Place::folder();
    let mut server = Server::start(&place).await;
    let client = server.client();
    change(&client, "CREATE DATABASE plant WITH DURATION 0s NAME raw").await;
    change(
        &client,
        "CREATE RETENTION POLICY year ON plant DURATION 5200w REPLICATION 1 DEFAULT",
    )
    .await;
    let policies = json!([
        ["raw", "0s", "168h0m0s", 1, false],
        ["year", "873600h0m0s", "168h0m0s", 1, true]
    ]);
    assert_eq!(rows(&client, "SHOW RETENTION POLICIES").await, policies);
    write(&client, &[], "m v=1 1614556800").await;
    write(&client, &[("rp", "raw")], "m v=2 1614556800").await;
    let check = async |client: &Client| {
        let row = |value: i64| json!([[1_614_556_800, value]]);
        assert_eq!(rows(client, "SELECT v FROM m").await, row(1));
        assert_eq!(rows(client, "SELECT v FROM year.m").await, row(1));
        assert_eq!(rows(client, "SELECT v FROM plant.raw.m").await, row(2));
        assert_eq!(
            rows(client, "SHOW DATABASES").await,
            json!([["_internal"], ["plant"]])
        );
        // By the name that v2 clients give it, and in SQL.
        let sql = [("db", "plant/year"), ("q", "SELECT v FROM m")];
        let reply = client.get("/api/v3/query_sql", &sql).await.expect(200);
        assert_eq!(reply.json(), json!([{ "v": 1.0 }]));
    };
    check(&client).await;
    server.stop().await;
    let server = Server::start(&place).await;
    let client = server.client();
    check(&client).await;

    let missing = [("db", "plant"), ("rp", "none")];
    let reply = client
        .send("POST", "/write", &missing, &[], "m v=1")
        .await
        .expect(404);
    assert!(
        reply.text().contains("retention policy not found"),
        "{}",
        reply.text()
    );
    let bucket = [("bucket", "plant/raw"), ("precision", "s")];
    let written = client
        .send("POST", "/api/v2/write", &bucket, &[], "m v=3 1614556801")
        .await;
    written.expect(204);
    assert_eq!(
        rows(&client, "SELECT count(v) FROM raw.m").await,
        json!([[0, 2]])
    );

    change(&client, "DROP RETENTION POLICY year ON plant").await;
    assert_eq!(
        rows(&client, "SELECT count(v) FROM m").await,
        json!([[0, 2]])
    );
    change(&client, "DROP DATABASE plant").await;
    assert_eq!(
        rows(&client, "SHOW DATABASES").await,
        json!([["_internal"]])
    );
}

#[tokio::test]
async fn databases_are_made_by_writes_only_if_they_may() {
    let place = Place::Memory;
    let server = Server::start_with(&place, &["--auto-create-databases=false"]).await;
    let client = server.client();
    let query = [("db", "plant")];
    let refused = client
        .send("POST", "/write", &query, &[], "m v=1")
        .await
        .expect(404);
    assert!(
        refused.text().contains("database not found"),
        "{}",
        refused.text()
    );
    change(&client, "CREATE DATABASE plant").await;
    client
        .send("POST", "/write", &query, &[], "m v=1")
        .await
        .expect(204);
}

#[tokio::test]
async fn what_is_deleted_is_gone() {
    let server = Server::start(&Place::Memory).await;
    let client = server.client();
    write_machines(&client).await;
    let count = "SELECT count(usage) FROM cpu GROUP BY host";
    let counts = async || -> Vec<Value> {
        let answer = ask(&client, count).await;
        let series = answer["series"].as_array().cloned().unwrap_or_default();
        series
            .iter()
            .map(|series| series["values"][0][1].clone())
            .collect()
    };
    assert_eq!(counts().await, [json!(30), json!(30)]);
    change(
        &client,
        "DELETE FROM cpu WHERE host = 'a' AND time < '2021-03-01T00:01:00Z'",
    )
    .await;
    assert_eq!(counts().await, [json!(27), json!(30)]);
    change(&client, "DROP SERIES FROM cpu WHERE host =~ /^b$/").await;
    assert_eq!(counts().await, [json!(27)]);
    change(&client, "DROP MEASUREMENT cpu").await;
    assert_eq!(rows(&client, "SHOW MEASUREMENTS").await, json!([["door"]]));

    // A request that only reads changes nothing.
    let query = [("db", "plant"), ("q", "DROP MEASUREMENT door")];
    let refused = client.get("/query", &query).await.expect(400);
    assert!(
        refused.text().contains("must come by POST"),
        "{}",
        refused.text()
    );
    // Fields decide nothing in a deletion.
    let query = [("db", "plant"), ("q", "DELETE FROM door WHERE n = 1")];
    let refused = client
        .send("POST", "/query", &query, &[], "")
        .await
        .expect(200);
    assert!(
        refused.text().contains("fields not supported"),
        "{}",
        refused.text()
    );
    assert_eq!(rows(&client, "SHOW MEASUREMENTS").await, json!([["door"]]));
}

#[tokio::test]
async fn answers_have_many_forms() {
    let server = Server::start(&Place::Memory).await;
    let client = server.client();
    write_machines(&client).await;
    let text = "SELECT usage FROM cpu WHERE time < '2021-03-01T00:00:25Z'; SHOW TAG KEYS FROM cpu";
    let query = [("db", "plant"), ("q", text)];
    let reply = client.get("/query", &query).await.expect(200);
    let expected = json!({ "results": [
        { "statement_id": 0, "series": [{ "name": "cpu", "columns": ["time", "usage"], "values": [
            ["2021-03-01T00:00:00Z", 0], ["2021-03-01T00:00:10Z", 30], ["2021-03-01T00:00:20Z", 10]
        ] }] },
        { "statement_id": 1, "series": [
            { "name": "cpu", "columns": ["tagKey"], "values": [["host"]] }
        ] },
    ] });
    assert_eq!(reply.json(), expected);
    assert!(!reply.header("x-influxdb-version").is_empty());

    let csv = client
        .send(
            "GET",
            "/query",
            &query,
            &[("accept", "application/csv")],
            "",
        )
        .await;
    let expected_csv = "name,tags,time,usage\ncpu,,1614556800000000000,0\n\
                        cpu,,1614556810000000000,30\ncpu,,1614556820000000000,10\n\n\
                        name,tags,tagKey\ncpu,,host\n";
    assert_eq!(csv.expect(200).text(), expected_csv);

    let pretty = [&query[..], &[("pretty", "true")]].concat();
    let reply = client.get("/query", &pretty).await.expect(200);
    assert!(
        reply
            .text()
            .starts_with("{\n    \"results\": [\n        {\n"),
        "{}",
        reply.text()
    );
    assert_eq!(reply.json(), expected);

    let chunked = [&query[..], &[("chunked", "true"), ("chunk_size", "2")]].concat();
    let reply = client.get("/query", &chunked).await.expect(200);
    let chunks: Vec<Value> = reply
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks[0]["results"][0]["partial"], json!(true));
    assert_eq!(
        chunks[0]["results"][0]["series"][0]["values"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(chunks[1]["results"][0]["partial"], Value::Null);
    assert_eq!(chunks[2], json!({ "results": [expected["results"][1]] }));

    let params = [
        ("db", "plant"),
        (
            "q",
            "SELECT count(usage) FROM cpu WHERE host = $h AND time < $t",
        ),
        (
            "params",
            r#"{"h": "a' OR host = 'b", "t": "2021-03-01T00:01:00Z"}"#,
        ),
    ];
    let reply = client.get("/query", &params).await.expect(200);
    assert_eq!(reply.json(), json!({ "results": [{ "statement_id": 0 }] }));

    // What fails of one statement fails no other.
    let query = [
        ("db", "plant"),
        ("q", "SELECT mean(state) FROM cpu; SHOW TAG KEYS FROM door"),
    ];
    let reply = client.get("/query", &query).await.expect(200).json();
    assert!(
        reply["results"][0]["error"]
            .as_str()
            .unwrap()
            .contains("not defined"),
        "{reply}"
    );
    assert_eq!(
        reply["results"][1]["series"][0]["values"],
        json!([["room"]])
    );
    let query = [("db", "plant"), ("q", "SELEC 1")];
    let refused = client.get("/query", &query).await.expect(400);
    assert!(
        refused.text().contains("line 1, char 1"),
        "{}",
        refused.text()
    );
}
