//! Of several writes of one series and time the last one wins, field by field, wherever the earlier
//! ones are.
use serde_json::{Value, json};

use crate::client::Client;
use crate::on_every_place;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::Server;

on_every_place!(last_write, super::the_last_write_wins);

const TIME_NS: &str = "1700000000000000000";
const TIME_MS: i64 = 1_700_000_000_000;

async fn write_a(client: &Client, a: f64) {
    client
        .write_lines(&format!("m,host=x a={a} {TIME_NS}"))
        .await;
}

async fn write_b(client: &Client, b: f64) {
    client
        .write_lines(&format!("m,host=x b={b} {TIME_NS}"))
        .await;
}

async fn write_sample(client: &Client, value: f64) {
    client.write_samples(&sample(value)).await;
}

fn sample(value: f64) -> Message {
    Message::default().series(&[("__name__", "s"), ("host", "x")], &[(TIME_MS, value)])
}

/// Fields `a` and `b` of the one row of `m`, and the one sample of `s`.
async fn check(client: &Client, a: f64, b: f64, s: f64, stage: &str) {
    assert_eq!(
        json!(client.sql("SELECT a, b FROM m").await),
        json!([{ "a": a, "b": b }]),
        "{stage}"
    );
    assert_eq!(
        json!(
            client
                .sql("SELECT count(*) AS n, sum(value) AS v FROM s")
                .await
        ),
        json!([{ "n": 1, "v": s }]),
        "{stage}"
    );
    for (query, value) in [("m_a", a), ("m_b", b), ("s", s)] {
        let result = client.promql(&format!("{query}[1m]"), "1700000000").await;
        let values: Vec<&Value> = result.iter().map(|series| &series["values"]).collect();
        assert_eq!(
            json!(values),
            json!([[[1_700_000_000, value.to_string()]]]),
            "{stage}: {query}"
        );
    }
}

async fn the_last_write_wins(place: &Place) {
    let server = Server::start(place).await;
    let client = server.client();

    // Within one request.
    client
        .write_lines(&format!(
            "m,host=x a=0,b=0 {TIME_NS}\nm,host=x a=1 {TIME_NS}\n"
        ))
        .await;
    let twice = Message::default().series(
        &[("__name__", "s"), ("host", "x")],
        &[(TIME_MS, 0.0), (TIME_MS, 1.0)],
    );
    client.write_samples(&twice).await;
    check(&client, 1.0, 0.0, 1.0, "in one request").await;

    // In the buffer: the other field stays.
    write_b(&client, 2.0).await;
    write_sample(&client, 2.0).await;
    check(&client, 1.0, 2.0, 2.0, "in the buffer").await;
    client.flush().await;
    check(&client, 1.0, 2.0, 2.0, "in a segment").await;

    // In the buffer over a segment, then in a segment over a segment, some fields each.
    write_a(&client, 3.0).await;
    write_sample(&client, 3.0).await;
    check(&client, 3.0, 2.0, 3.0, "buffer over segment").await;
    client.flush().await;
    check(&client, 3.0, 2.0, 3.0, "segment over segment").await;
    write_b(&client, 4.0).await;
    client.flush().await;
    check(&client, 3.0, 4.0, 3.0, "three segments").await;

    // A smaller and an older-looking value wins too: only the order of writes counts.
    write_a(&client, -5.0).await;
    write_sample(&client, -5.0).await;
    client.flush().await;
    client.compact().await;
    check(&client, -5.0, 4.0, -5.0, "merged").await;
    write_b(&client, 6.5).await;
    write_sample(&client, 6.5).await;
    check(&client, -5.0, 6.5, 6.5, "buffer over merged").await;

    // A flush that also holds other days and series takes part in the same order.
    client.write_lines("m,host=early a=1 1000000000\n").await;
    client.flush().await;
    assert_eq!(
        json!(client.sql("SELECT a FROM m WHERE host = 'early'").await),
        json!([{ "a": 1.0 }])
    );
    assert_eq!(
        json!(client.sql("SELECT a, b FROM m WHERE host = 'x'").await),
        json!([{ "a": -5.0, "b": 6.5 }])
    );

    if place.is_durable() {
        check_restarts(server, place).await;
    }
}

async fn check_restarts(mut server: Server, place: &Place) {
    let check = async |server: &Server, stage: &str| {
        let client = server.client();
        assert_eq!(
            json!(client.sql("SELECT a, b FROM m WHERE host = 'x'").await),
            json!([{ "a": 7.0, "b": 6.5 }]),
            "{stage}"
        );
        assert_eq!(
            client.promql("s", "1700000000").await[0]["value"][1],
            "7",
            "{stage}"
        );
    };
    let client = server.client();
    for value in [8.0, 7.0] {
        write_a(&client, value).await;
        write_sample(&client, value).await;
    }
    server.kill();
    let mut server = Server::start(place).await;
    check(&server, "replayed").await;
    server.client().flush().await;
    server.client().compact().await;
    check(&server, "replayed and merged").await;
    server.stop().await;
    check(&Server::start(place).await, "after a restart").await;
}
