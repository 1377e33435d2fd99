//! Start times of samples by remote write 2.0: the same from the log, the buffer, fresh segments
//! and merged ones, by PromQL, SQL and in the files; tables without them are as they were.
use serde_json::json;

use crate::client::Client;
use crate::on_durable_places;
use crate::place::Place;
use crate::protobuf::{Message, Message2};
use crate::server::{self, Server};

on_durable_places!(start_times, super::are_kept_and_used);

/// 2023-11-14T22:13:20Z
const TIME_MS: i64 = 1_700_000_000_000;
const MINUTE_MS: i64 = 60_000;

async fn are_kept_and_used(place: &Place) {
    let mut server = Server::start(place).await;
    let mut client = server.client();
    // Nobody says anything yet: no column.
    let plain = [("__name__", "plain_total"), ("job", "a")];
    client
        .write_samples(&Message::default().series(&plain, &[(TIME_MS, 1.0)]))
        .await;
    assert_eq!(
        client.sql("SELECT * FROM plain_total").await,
        [json!({"time": "2023-11-14T22:13:20", "job": "a", "value": 1.0})]
    );
    client.flush().await;

    // 60 a minute, begun anew before each sample: only the start times tell.
    let deltas = [("__name__", "deltas_total"), ("job", "a")];
    for minute in 0..6 {
        let time = TIME_MS + minute * MINUTE_MS;
        let message = Message2::default()
            .series(&deltas, &[(time, 60.0, time - MINUTE_MS)])
            .series(&plain, &[(time + 1, 2.0, 0)]);
        let reply = client
            .try_write_samples_2(&message)
            .await
            .expect("an answer")
            .expect(204);
        assert_eq!(
            reply.header("x-prometheus-remote-write-samples-written"),
            "2"
        );
        if minute == 2 {
            client.flush().await;
        }
    }
    check(&client, "buffered").await;
    server.kill();
    server = Server::start(place).await;
    client = server.client();
    check(&client, "replayed").await;
    client.flush().await;
    check(&client, "flushed").await;
    client.compact().await;
    check(&client, "merged").await;
    server.stop().await;
    server::run(&["verify"], place);
}

async fn check(client: &Client, stage: &str) {
    let end = (TIME_MS + 5 * MINUTE_MS) / 1000;
    let increase = client
        .promql("increase(deltas_total[5m])", &end.to_string())
        .await;
    assert_eq!(
        increase,
        [json!({"metric": {"job": "a"}, "value": [end, "300"]})],
        "{stage}"
    );
    for (metric, began) in [("deltas_total", end - 60), ("plain_total", 0)] {
        let found = client
            .promql(&format!("start_timestamp({metric})"), &end.to_string())
            .await;
        assert_eq!(
            found,
            [json!({"metric": {"job": "a"}, "value": [end, began.to_string()]})],
            "{stage}"
        );
    }
    let rows = client
        .sql("SELECT start_time, value FROM deltas_total ORDER BY time LIMIT 2")
        .await;
    let expected = [
        json!({"start_time": "2023-11-14T22:12:20", "value": 60.0}),
        json!({"start_time": "2023-11-14T22:13:20", "value": 60.0}),
    ];
    assert_eq!(rows, expected, "{stage}");
    let rows = client
        .sql("SELECT count(*) AS rows, count(start_time) AS started FROM plain_total")
        .await;
    assert_eq!(rows, [json!({"rows": 7, "started": 0})], "{stage}");
}
