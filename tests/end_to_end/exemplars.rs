//! Exemplars by remote write 1.0 and 2.0: the same from the log, the buffer, fresh segments and
//! merged ones, by `query_exemplars`, SQL and in the files; gone with the samples of their series.
use arrow::array::AsArray;
use serde_json::{Value, json};

use crate::client::Client;
use crate::place::Place;
use crate::protobuf::{Message, Message2};
use crate::server::{self, Server};
use crate::{files, on_durable_places};

on_durable_places!(exemplars, super::live_with_their_samples);

/// 2023-11-14T22:13:20Z
const TIME_MS: i64 = 1_700_000_000_000;
const A: [(&str, &str); 3] = [("__name__", "http_bucket"), ("job", "a"), ("le", "1")];
const B: [(&str, &str); 3] = [("__name__", "http_bucket"), ("job", "b"), ("le", "1")];

async fn live_with_their_samples(place: &Place) {
    let mut server = Server::start(place).await;
    let mut client = server.client();
    assert_eq!(
        query(&client, &[("query", "http_bucket")]).await,
        json!([]),
        "nothing is there yet"
    );

    let message = Message::default().series(&A, &[(TIME_MS, 1.0)]).exemplar(
        &A,
        TIME_MS,
        0.5,
        &[("trace_id", "t1")],
    );
    let reply = client
        .try_write_samples(&message)
        .await
        .expect("an answer")
        .expect(204);
    assert_eq!(
        reply.header("x-prometheus-remote-write-exemplars-written"),
        "1"
    );
    client.flush().await;
    // The first again, two others of its time, one that is older, and one of a series without
    // samples.
    let message = Message2::default()
        .exemplars(
            &A,
            &[
                (TIME_MS, 0.5, &[("trace_id", "t1")]),
                (TIME_MS, 0.5, &[("trace_id", "t2")]),
                (TIME_MS, 0.25, &[("trace_id", "t1")]),
            ],
        )
        .exemplars(&A, &[(TIME_MS - 86_400_000, 7.0, &[])])
        .exemplars(
            &B,
            &[(
                TIME_MS + 1,
                f64::INFINITY,
                &[("span_id", "s"), ("trace_id", "t3")],
            )],
        );
    let reply = client
        .try_write_samples_2(&message)
        .await
        .expect("an answer")
        .expect(204);
    assert_eq!(
        reply.header("x-prometheus-remote-write-exemplars-written"),
        "5"
    );
    // One that is too long is named, the other kept.
    let long = "x".repeat(200);
    let message = Message2::default().exemplars(
        &B,
        &[
            (TIME_MS + 2, 1.0, &[("trace_id", &long)]),
            (TIME_MS + 3, 2.0, &[("trace_id", "t4")]),
        ],
    );
    let reply = client
        .try_write_samples_2(&message)
        .await
        .expect("an answer")
        .expect(400);
    assert_eq!(
        reply.header("x-prometheus-remote-write-exemplars-written"),
        "1"
    );
    assert!(reply.text().contains("128 characters"), "{}", reply.text());

    check(&client, "buffered").await;
    server.kill();
    server = Server::start(place).await;
    client = server.client();
    check(&client, "replayed").await;
    client.flush().await;
    check(&client, "flushed").await;
    client.compact().await;
    check(&client, "merged").await;
    check_files(place).await;

    // They go with the samples of their series.
    let params = [("match[]", "http_bucket{job=\"a\"}"), ("end", "1700000000")];
    client
        .send("POST", "/api/v1/admin/tsdb/delete_series", &params, &[], "")
        .await
        .expect(204);
    for stage in ["deleted", "merged"] {
        assert_eq!(
            query(&client, &[("query", "http_bucket{job=\"a\"}")]).await,
            json!([]),
            "{stage}"
        );
        assert_eq!(
            traces(&client, "http_bucket").await,
            ["t3", "t4"],
            "{stage}"
        );
        client.compact().await;
    }
    client
        .write_samples(&Message::default().series(&B, &[(TIME_MS + 10, 1.0)]))
        .await;
    let delete = "DELETE FROM http_bucket WHERE time < '2023-11-14T22:13:20.002'";
    let body = json!({ "db": "default", "q": delete }).to_string();
    client
        .send(
            "POST",
            "/api/v3/query_sql",
            &[],
            &[("content-type", "application/json")],
            body,
        )
        .await
        .expect(200);
    assert_eq!(traces(&client, "http_bucket").await, ["t4"]);
    server.stop().await;
    server::run(&["verify"], place);
}

async fn query(client: &Client, params: &[(&str, &str)]) -> Value {
    let reply = client
        .get("/api/v1/query_exemplars", params)
        .await
        .expect(200)
        .json();
    assert_eq!(reply["status"], "success");
    reply["data"].clone()
}

async fn traces(client: &Client, query_text: &str) -> Vec<String> {
    let data = query(client, &[("query", query_text)]).await;
    let exemplars = data
        .as_array()
        .expect("series")
        .iter()
        .flat_map(|series| series["exemplars"].as_array().expect("exemplars"));
    exemplars
        .map(|exemplar| {
            exemplar["labels"]["trace_id"]
                .as_str()
                .expect("a trace")
                .to_owned()
        })
        .collect()
}

async fn check(client: &Client, stage: &str) {
    let labels = |job: &str| json!({"__name__": "http_bucket", "job": job, "le": "1"});
    let exemplar = |labels: Value, value: &str, timestamp: Value| json!({"labels": labels, "value": value, "timestamp": timestamp});
    let (a, b) = (
        json!({"seriesLabels": labels("a"), "exemplars": [
            exemplar(json!({"trace_id": "t1"}), "0.25", json!(1_700_000_000)),
            exemplar(json!({"trace_id": "t1"}), "0.5", json!(1_700_000_000)),
            exemplar(json!({"trace_id": "t2"}), "0.5", json!(1_700_000_000)),
        ]}),
        json!({"seriesLabels": labels("b"), "exemplars": [
            exemplar(json!({"span_id": "s", "trace_id": "t3"}), "+Inf", json!(1_700_000_000.001)),
            exemplar(json!({"trace_id": "t4"}), "2", json!(1_700_000_000.003)),
        ]}),
    );
    // All selectors of an expression, each series once.
    let expression = "histogram_quantile(0.9, sum by (le) (rate(http_bucket{job=\"b\"}[5m]))) / \
                      on () http_bucket unless absent(nothing)";
    let params = [
        ("query", expression),
        ("start", "2023-11-14T22:13:20Z"),
        ("end", "1700000000.003"),
    ];
    assert_eq!(query(client, &params).await, json!([a, b]), "{stage}");
    let params = [
        ("query", "http_bucket{job=\"b\"}"),
        ("start", "1700000000.002"),
    ];
    assert_eq!(
        query(client, &params).await[0]["exemplars"],
        json!([b["exemplars"][1]]),
        "{stage}"
    );
    let form = "query=http_bucket&end=1699999999";
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let reply = client
        .send("POST", "/api/v1/query_exemplars", &[], &headers, form)
        .await
        .expect(200)
        .json();
    assert_eq!(
        reply["data"][0]["exemplars"],
        json!([exemplar(json!({}), "7", json!(1_699_913_600))]),
        "{stage}"
    );
    for (params, error) in [
        (["http_bucket{", "0", "1"], "parse error"),
        (["x", "b", "1"], "start"),
        (["x", "2", "1"], "end timestamp"),
    ] {
        let params: Vec<_> = ["query", "start", "end"].into_iter().zip(params).collect();
        let reply = client
            .get("/api/v1/query_exemplars", &params)
            .await
            .expect(400)
            .json();
        assert_eq!(reply["errorType"], "bad_data");
        assert!(
            reply["error"]
                .as_str()
                .is_some_and(|text| text.contains(error)),
            "{reply}"
        );
    }
    let rows = client
        .sql("SELECT * FROM exemplars WHERE job = 'b' ORDER BY time")
        .await;
    let row = |time: &str, value: Value, labels: Value| json!({"time": format!("2023-11-14T22:13:20.{time}"), "metric": "http_bucket", "job": "b", "le": "1", "value": value, "labels": labels});
    let expected = [
        row(
            "001",
            Value::Null,
            json!({"span_id": "s", "trace_id": "t3"}),
        ),
        row("003", json!(2.0), json!({"trace_id": "t4"})),
    ];
    assert_eq!(rows, expected, "{stage}");
    let rows = client
        .sql("SELECT count(*) AS n FROM exemplars WHERE labels['trace_id'] = 't1'")
        .await;
    assert_eq!(rows, [json!({"n": 2})], "{stage}");
    // A sample is no exemplar, and the other way round.
    assert_eq!(
        client.promql("count(http_bucket)", "1700000000.003").await[0]["value"][1],
        "1",
        "{stage}"
    );
    let tables = client
        .sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        .await;
    assert_eq!(tables, [json!({"table_name": "exemplars"})], "{stage}");
}

/// Any Parquet reader finds them.
async fn check_files(place: &Place) {
    let mut found = Vec::new();
    for batch in files::data_of(place, "__exemplars__").await {
        let times = batch
            .column_by_name("time")
            .expect("time")
            .as_primitive::<arrow::datatypes::TimestampMillisecondType>();
        let labels = batch.column_by_name("labels").expect("labels").as_map();
        for row in 0..batch.num_rows() {
            let of_row = labels.value(row);
            let names: Vec<_> = of_row
                .column(0)
                .as_string::<i32>()
                .iter()
                .flatten()
                .map(str::to_owned)
                .collect();
            found.push((times.value(row) - TIME_MS, names.join(",")));
        }
    }
    found.sort();
    let expected = [
        (-86_400_000, ""),
        (0, "trace_id"),
        (0, "trace_id"),
        (0, "trace_id"),
        (1, "span_id,trace_id"),
        (3, "trace_id"),
    ];
    assert_eq!(
        found,
        expected.map(|(time, names)| (time, names.to_owned()))
    );
}
