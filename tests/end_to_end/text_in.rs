//! Text in: Prometheus' text format and OpenMetrics, pushes as to a Pushgateway, and what is left
//! of both after a restart.
use serde_json::{Value, json};

use crate::client::Client;
use crate::place::Place;
use crate::server::Server;

const IMPORT: &str = "/api/v1/import/prometheus";

/// Labels and value of each series, sorted.
async fn found(client: &Client, query: &str) -> Vec<(Value, String)> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("a time after 1970").as_secs_f64().to_string();
    let mut found: Vec<(Value, String)> = client
        .promql(query, &now)
        .await
        .into_iter()
        .map(|row| {
            let value = row["value"][1].as_str().unwrap_or_default().to_owned();
            (row["metric"].clone(), value)
        })
        .collect();
    found.sort_by_key(|(labels, _)| labels.to_string());
    found
}

#[tokio::test]
async fn text_is_kept_line_by_line() {
    let place = Place::folder();
    let mut server = Server::start(&place).await;
    let client = server.client();
    let text = "# HELP t_a Tells.\n# TYPE t_a gauge\nt_a{x=\"1\"} 1\nbroken\nt_a{x=\"2\",job=\"j\"} 0x1\n\
                t_a{x=\"3\"} NaN\nt_old 5 1700000000123\n";
    let query = [("extra_label", "job=mine"), ("extra_label", "zone=é")];
    let reply = client.send("POST", IMPORT, &query, &[], text).await;
    let answer = reply.expect(400).json();
    assert_eq!(answer["errorType"], "bad_data");
    let error = answer["error"].as_str().unwrap();
    assert!(error.starts_with("partial write: line 4: "), "{error}");
    assert!(error.ends_with("dropped=2"), "{error}");
    assert_eq!(answer["data"][1]["line_number"], 5);
    assert_eq!(answer["data"][0]["original_line"], "broken");

    let open = "# TYPE t_b counter\n# UNIT t_b seconds\nt_b_total{x=\"1\"} 2 1700000000.5 # {trace=\"q\"} 1\n# EOF\n";
    let compressed = zstd::encode_all(open.as_bytes(), 0).unwrap();
    let headers = [
        (
            "content-type",
            "application/openmetrics-text; version=1.0.0",
        ),
        ("content-encoding", "zstd"),
    ];
    let reply = client.send("POST", IMPORT, &[], &headers, compressed).await;
    reply.expect(204);
    let below = "/db/other/api/v1/import/prometheus";
    client
        .send("POST", below, &[], &[], "x 1\n")
        .await
        .expect(204);

    let expected = [
        (
            json!({"__name__": "t_a", "job": "mine", "x": "1", "zone": "é"}),
            "1".to_owned(),
        ),
        (
            json!({"__name__": "t_a", "job": "mine", "x": "3", "zone": "é"}),
            "NaN".to_owned(),
        ),
    ];
    for restarted in [false, true] {
        if restarted {
            server.kill();
            server = Server::start(&place).await;
        }
        let client = server.client();
        assert_eq!(found(&client, "t_a").await, expected);
        let old = client.promql("t_old[1ms]", "1700000000.123").await;
        assert_eq!(old[0]["values"], json!([[1_700_000_000.123, "5"]]));
        let total = client.promql("t_b_total[1ms]", "1700000000.5").await;
        assert_eq!(total[0]["values"], json!([[1_700_000_000.5, "2"]]));
        assert_eq!(found(&client, "x").await, []);
        let query = [
            ("query", "t_b_total"),
            ("start", "1700000000"),
            ("end", "1700000001"),
        ];
        let reply = client.get("/api/v1/query_exemplars", &query).await;
        let exemplars = reply.expect(200).json();
        assert_eq!(
            exemplars["data"][0]["exemplars"][0]["labels"],
            json!({"trace": "q"})
        );
        let metadata = client.get("/api/v1/metadata", &[]).await.expect(200).json();
        assert_eq!(metadata["data"]["t_a"][0]["help"], "Tells.");
        assert_eq!(
            metadata["data"]["t_b_total"][0],
            json!({"type": "counter", "help": "", "unit": "seconds"})
        );
    }
    server.stop().await;
}

/// Names and labels beside those of the group.
async fn group(client: &Client) -> Vec<String> {
    let shown = found(client, "{job=\"j\",__name__!~\"push.*\"}").await;
    let mut shown: Vec<String> = shown
        .into_iter()
        .map(|(labels, value)| {
            let of = |name: &str| labels[name].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {value}", of("__name__"), of("l"), of("instance"))
        })
        .collect();
    shown.sort();
    shown
}

#[tokio::test]
async fn pushes_replace_what_was_pushed_before() {
    let place = Place::folder();
    let mut server = Server::start(&place).await;
    let mut client = server.client();
    let push = async |client: &Client, method: &str, path: &str, body: &'static str, status| {
        let reply = client.send(method, path, &[], &[], body).await;
        reply.expect(status)
    };
    let path = "/metrics/job/j";
    push(
        &client,
        "PUT",
        path,
        "a{l=\"1\"} 1\na{l=\"2\"} 2\nb 3\n",
        200,
    )
    .await;
    push(
        &client,
        "PUT",
        "/metrics/job@base64/ag==/instance/i",
        "b 4\n",
        200,
    )
    .await;
    let all = ["a 1 - 1", "a 2 - 2", "b - - 3", "b - i 4"];
    assert_eq!(group(&client).await, all);
    // What is in the group is known after a restart.
    server.kill();
    server = Server::start(&place).await;
    client = server.client();
    push(&client, "POST", path, "a{l=\"1\"} 5\n", 200).await;
    assert_eq!(group(&client).await, ["a 1 - 5", "b - - 3", "b - i 4"]);
    push(&client, "PUT", path, "c 6\n", 200).await;
    assert_eq!(group(&client).await, ["b - i 4", "c - - 6"]);

    let times = async |client: &Client| {
        let shown = found(client, "{job=\"j\",__name__=~\"push.*\",instance=\"\"}").await;
        let seconds = |value: &str| value.parse::<f64>().unwrap();
        let [(failed, failure), (pushed, time)] = &shown[..] else {
            panic!("{shown:?}");
        };
        assert_eq!(failed["__name__"], "push_failure_time_seconds");
        assert_eq!(pushed["__name__"], "push_time_seconds");
        (seconds(time), seconds(failure))
    };
    let (pushed, failed) = times(&client).await;
    assert!(pushed > 1.7e9 && failed == 0.0, "{pushed} {failed}");
    // A push of which anything is bad changes nothing.
    let reply = push(&client, "PUT", path, "d 1\ne 1 5\n", 400).await;
    assert!(reply.text().contains("line 2"), "{}", reply.text());
    assert!(reply.text().contains("timestamps"), "{}", reply.text());
    assert_eq!(group(&client).await, ["b - i 4", "c - - 6"]);
    let (again, failed) = times(&client).await;
    assert!(again == pushed && failed > pushed, "{again} {failed}");
    push(&client, "PUT", path, "c 7\n", 200).await;
    let (pushed, still) = times(&client).await;
    assert!(pushed > failed && still == failed, "{pushed} {still}");

    push(&client, "DELETE", path, "", 202).await;
    assert_eq!(group(&client).await, ["b - i 4"]);
    let left = found(&client, "{job=\"j\",__name__=~\"push.*\"}").await;
    assert!(
        left.iter().all(|(labels, _)| labels["instance"] == "i"),
        "{left:?}"
    );
    push(&client, "PUT", "/metrics/job/j/instance/i", "", 200).await;
    assert_eq!(group(&client).await, [""; 0]);
    push(&client, "DELETE", "/metrics/job/none", "", 202).await;

    push(&client, "PUT", "/metrics/job/j/odd", "a 1\n", 400).await;
    let headers = [("content-type", "application/vnd.google.protobuf")];
    let reply = client
        .send("PUT", path, &[], &headers, "x")
        .await
        .expect(415);
    assert!(reply.text().contains("TypeTextPlain"), "{}", reply.text());
    let reply = client.send("GET", path, &[], &[], "").await;
    assert_eq!(reply.expect(405).header("allow"), "PUT,POST,DELETE");
    server.stop().await;
}
