//! The whole way of a point: in by each protocol, out by SQL in each format and by PromQL, the same
//! before and after every step of its life: buffered, in segments, overwritten by the same, merged,
//! and read back by another process.
use arrow::util::pretty::pretty_format_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::on_every_place;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::Server;

on_every_place!(every_protocol, super::every_protocol_is_read_by_every_other);

/// Writes the points, by each protocol in its own way. 1_700_000_000 is 2023-11-14T22:13:20Z.
async fn write(client: &Client) {
    let milliseconds = "cpu,host=a,region=eu usage=0.5,cores=4i \
                        1700000000000\ncpu,host=b,region=us usage=1.5,cores=8i \
                        1700000000000\ncpu,host=a,region=eu usage=0.75 1700000015000\n";
    let query = [("db", "default"), ("precision", "ms")];
    client
        .send("POST", "/write", &query, &[], milliseconds)
        .await
        .expect(204);

    let nanoseconds = "mem,host=a used=18446744073709551615u,ok=true,note=\"say \\\"hi\\\", you\" \
                       1700000000123456789\nmem,host=a ok=false 1700000030000000000\n";
    client
        .send(
            "POST",
            "/api/v2/write",
            &[("bucket", "default"), ("org", "any")],
            &[],
            nanoseconds,
        )
        .await
        .expect(204);

    // Seconds, found out by the magnitude.
    client
        .send(
            "POST",
            "/api/v3/write_lp",
            &[("db", "default")],
            &[],
            "disk,host=a\\ b value=-7.25 1700000000",
        )
        .await
        .expect(204);

    let requests = Message::default()
        .series(
            &[
                ("__name__", "requests_total"),
                ("code", "200"),
                ("job", "web"),
            ],
            &[
                (1_700_000_000_000, 1.0),
                (1_700_000_015_000, 2.0),
                (1_700_000_030_000, 4.0),
            ],
        )
        .series(
            &[
                ("__name__", "requests_total"),
                ("code", "500"),
                ("job", "web"),
            ],
            &[(1_700_000_000_000, 0.1)],
        )
        .series(
            &[("__name__", "temperature"), ("zone", "北")],
            &[
                (1_700_000_000_000, f64::NEG_INFINITY),
                (1_700_000_015_001, -0.0),
            ],
        );
    client.write_samples(&requests).await;
}

async fn every_protocol_is_read_by_every_other(place: &Place) {
    let mut server = Server::start(place).await;
    let client = server.client();
    write(&client).await;
    check_all(&client, "in the buffer").await;
    client.flush().await;
    assert_eq!(client.figure("buffer_rows").await, 0.0);
    check_all(&client, "in segments").await;

    // A retried batch changes nothing, wherever the first one is.
    write(&client).await;
    check_all(&client, "in the buffer and in segments").await;
    client.flush().await;
    let segments = client.figure("segments").await;
    check_all(&client, "in two segments each").await;
    client.compact().await;
    assert!(
        client.figure("segments").await < segments,
        "there was something to merge"
    );
    check_all(&client, "merged").await;

    if place.is_durable() {
        server.stop().await;
        check_all(&Server::start(place).await.client(), "after a restart").await;
    }
}

const CPU: &str = "SELECT time, host, region, usage, cores FROM cpu ORDER BY time, host";

async fn check_all(client: &Client, stage: &str) {
    check_formats(client, stage).await;
    check_sql(client, stage).await;
    check_promql(client, stage).await;
    check_labels(client, stage).await;
}

async fn sql(client: &Client, query: &str, format: &str) -> Reply {
    client
        .get(
            "/api/v3/query_sql",
            &[("db", "default"), ("q", query), ("format", format)],
        )
        .await
        .expect(200)
}

async fn check_formats(client: &Client, stage: &str) {
    let table = "\
+---------------------+------+--------+-------+-------+
| time                | host | region | usage | cores |
+---------------------+------+--------+-------+-------+
| 2023-11-14T22:13:20 | a    | eu     | 0.5   | 4     |
| 2023-11-14T22:13:20 | b    | us     | 1.5   | 8     |
| 2023-11-14T22:13:35 | a    | eu     | 0.75  |       |
+---------------------+------+--------+-------+-------+";
    let lines = [
        r#"{"time":"2023-11-14T22:13:20","host":"a","region":"eu","usage":0.5,"cores":4}"#,
        r#"{"time":"2023-11-14T22:13:20","host":"b","region":"us","usage":1.5,"cores":8}"#,
        r#"{"time":"2023-11-14T22:13:35","host":"a","region":"eu","usage":0.75,"cores":null}"#,
    ];
    let csv = "time,host,region,usage,cores\r\n2023-11-14T22:13:20,a,eu,0.5,4\r\n2023-11-14T22:13:\
               20,b,us,1.5,8\r\n2023-11-14T22:13:35,a,eu,0.75,\r\n";
    assert_eq!(
        sql(client, CPU, "json").await.text(),
        format!("[{}]", lines.join(",")),
        "{stage}"
    );
    assert_eq!(
        sql(client, CPU, "jsonl").await.text(),
        lines.map(|line| format!("{line}\n")).concat(),
        "{stage}"
    );
    assert_eq!(sql(client, CPU, "csv").await.text(), csv, "{stage}");
    assert_eq!(
        sql(client, CPU, "pretty").await.text().trim_end(),
        table,
        "{stage}"
    );
    let file = sql(client, CPU, "parquet").await.body;
    let batches: Result<Vec<_>, _> = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap()
        .collect();
    assert_eq!(
        pretty_format_batches(&batches.unwrap())
            .unwrap()
            .to_string(),
        table,
        "{stage}"
    );
}

async fn check_sql(client: &Client, stage: &str) {
    let check = async |query: &str, expected: Value| {
        assert_eq!(
            Value::Array(client.sql(query).await),
            expected,
            "{stage}: {query}"
        )
    };
    check(
        "SELECT * FROM mem ORDER BY time",
        json!([
            { "host": "a", "time": "2023-11-14T22:13:20.123456789", "used": 18446744073709551615u64, "ok": true, "note": "say \"hi\", you" },
            { "host": "a", "time": "2023-11-14T22:13:50", "used": null, "ok": false, "note": null },
        ]),
    )
    .await;
    check(
        "SELECT * FROM disk",
        json!([{ "host": "a b", "time": "2023-11-14T22:13:20", "value": -7.25 }]),
    )
    .await;
    check(
        "SELECT time, code, job, value FROM requests_total ORDER BY code, time",
        json!([
            { "time": "2023-11-14T22:13:20", "code": "200", "job": "web", "value": 1.0 },
            { "time": "2023-11-14T22:13:35", "code": "200", "job": "web", "value": 2.0 },
            { "time": "2023-11-14T22:13:50", "code": "200", "job": "web", "value": 4.0 },
            { "time": "2023-11-14T22:13:20", "code": "500", "job": "web", "value": 0.1 },
        ]),
    )
    .await;
    check(
        "SELECT zone, value < -1e308 AS low, time FROM metrics.temperature ORDER BY time",
        json!([
            { "zone": "北", "low": true, "time": "2023-11-14T22:13:20" },
            { "zone": "北", "low": false, "time": "2023-11-14T22:13:35.001" },
        ]),
    )
    .await;
    // Pruned by time and by tag, grouped, and over both kinds of tables.
    check(
        "SELECT host, max(usage) AS most, count(*) AS n FROM cpu WHERE time > \
         '2023-11-14T22:13:20' GROUP BY host",
        json!([{ "host": "a", "most": 0.75, "n": 1 }]),
    )
    .await;
    check(
        "SELECT c.time, r.code, c.usage + r.value AS total FROM cpu c JOIN requests_total r ON \
         c.time = r.time WHERE c.host = 'a' ORDER BY c.time, r.code",
        json!([
            { "time": "2023-11-14T22:13:20", "code": "200", "total": 1.5 },
            { "time": "2023-11-14T22:13:20", "code": "500", "total": 0.6 },
            { "time": "2023-11-14T22:13:35", "code": "200", "total": 2.75 },
        ]),
    )
    .await;
    check(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY \
         table_name",
        json!([{ "table_name": "cpu" }, { "table_name": "disk" }, { "table_name": "mem" }]),
    )
    .await;
}

/// What matters is what is in an answer; the order of series means nothing.
fn sorted(mut result: Value) -> Value {
    if let Some(rows) = result.as_array_mut() {
        rows.sort_by_key(Value::to_string);
    }
    result
}

async fn check_promql(client: &Client, stage: &str) {
    let instant = async |query: &str, time: &str, expected: Value| {
        let result = Value::Array(client.promql(query, time).await);
        assert_eq!(sorted(result), sorted(expected), "{stage}: {query}");
    };
    let cpu = |host: &str, region: &str| json!({ "__name__": "cpu_usage", "host": host, "region": region });
    instant(
        "cpu_usage",
        "1700000015",
        json!([
            { "metric": cpu("a", "eu"), "value": [1_700_000_015, "0.75"] },
            { "metric": cpu("b", "us"), "value": [1_700_000_015, "1.5"] },
        ]),
    )
    .await;
    instant("disk", "1700000000", json!([{ "metric": { "__name__": "disk", "host": "a b" }, "value": [1_700_000_000, "-7.25"] }])).await;
    instant(
        "temperature{zone=\"北\"}[1m]",
        "2023-11-14T22:13:40Z",
        json!([{ "metric": { "__name__": "temperature", "zone": "北" }, "values": [[1_700_000_000, "-Inf"], [1_700_000_015.001, "-0"]] }]),
    )
    .await;
    instant(
        "increase(requests_total{code=\"200\"}[30s])",
        "1700000030",
        json!([{ "metric": { "code": "200", "job": "web" }, "value": [1_700_000_030, "4"] }]),
    )
    .await;
    // Both kinds of tables in one query.
    instant(
        "sum by (host) (cpu_cores) * on () group_left sum(requests_total)",
        "1700000000",
        json!([
            { "metric": { "host": "a" }, "value": [1_700_000_000, "4.4"] },
            { "metric": { "host": "b" }, "value": [1_700_000_000, "8.8"] },
        ]),
    )
    .await;

    let query = [
        ("query", "sum by (job) (requests_total)"),
        ("start", "1700000000"),
        ("end", "1700000030"),
        ("step", "15s"),
    ];
    let expected = json!({ "status": "success", "data": { "resultType": "matrix", "result": [
        { "metric": { "job": "web" }, "values": [[1_700_000_000, "1.1"], [1_700_000_015, "2.1"], [1_700_000_030, "4.1"]] },
    ]}});
    assert_eq!(
        client
            .get("/api/v1/query_range", &query)
            .await
            .expect(200)
            .json(),
        expected,
        "{stage}"
    );
    // The same by the path of the database, and as a form.
    let form =
        "query=sum+by+%28job%29+%28requests_total%29&start=1700000000&end=1700000030&step=15s";
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let reply = client
        .send(
            "POST",
            "/db/default/api/v1/query_range",
            &[],
            &headers,
            form,
        )
        .await
        .expect(200);
    assert_eq!(reply.json(), expected, "{stage}");
    let elsewhere = client
        .get(
            "/db/other/api/v1/query",
            &[("query", "requests_total"), ("time", "1700000000")],
        )
        .await
        .expect(200);
    assert_eq!(elsewhere.json()["data"]["result"], json!([]), "{stage}");
}

async fn check_labels(client: &Client, stage: &str) {
    let check = async |path: &str, query: &[(&str, &str)], expected: Value| {
        let reply = client.get(path, query).await.expect(200).json();
        assert_eq!(
            reply,
            json!({ "status": "success", "data": expected }),
            "{stage}: {path} {query:?}"
        );
    };
    check(
        "/api/v1/labels",
        &[],
        json!(["__name__", "code", "host", "job", "region", "zone"]),
    )
    .await;
    check(
        "/api/v1/labels",
        &[("match[]", "cpu_usage")],
        json!(["__name__", "host", "region"]),
    )
    .await;
    check("/api/v1/label/host/values", &[], json!(["a", "a b", "b"])).await;
    check("/api/v1/label/zone/values", &[], json!(["北"])).await;
    check(
        "/api/v1/label/host/values",
        &[("start", "1600000000"), ("end", "1600000001")],
        json!([]),
    )
    .await;
    check(
        "/api/v1/label/__name__/values",
        &[],
        json!([
            "cpu_cores",
            "cpu_usage",
            "disk",
            "mem_ok",
            "mem_used",
            "requests_total",
            "temperature"
        ]),
    )
    .await;
    check(
        "/api/v1/series",
        &[
            ("match[]", "requests_total{code=~\"2..\"}"),
            ("match[]", "{host=\"b\"}"),
        ],
        json!([
            { "__name__": "cpu_cores", "host": "b", "region": "us" },
            { "__name__": "cpu_usage", "host": "b", "region": "us" },
            { "__name__": "requests_total", "code": "200", "job": "web" },
        ]),
    )
    .await;
}
