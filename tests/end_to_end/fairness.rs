//! Large writes keep no connection waiting that is not theirs, and heavy queries no small ones.
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::place::Place;
use crate::protobuf::snappy;
use crate::server::Server;

/// Samples of a body: empty ones, of two bytes each.
const SAMPLES: usize = 4_000_000;
/// Far longer than a health check takes, and far shorter than it takes to parse such a body without
/// optimisation.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A write request of one series whose samples are empty.
fn empty_samples(k: u8) -> Vec<u8> {
    let label = |name: &[u8], value: &[u8]| {
        let lengths = (name.len() as u8, value.len() as u8);
        let mut label = vec![0x0a, lengths.0];
        label.extend_from_slice(name);
        label.extend_from_slice(&[0x12, lengths.1]);
        label.extend_from_slice(value);
        [&[0x0a, label.len() as u8], &label[..]].concat()
    };
    let mut series = label(b"__name__", b"empty");
    series.extend_from_slice(&label(b"k", &[k]));
    series.extend_from_slice(&[0x12, 0].repeat(SAMPLES));
    let mut body = vec![0x0a];
    let mut length = series.len();
    while length > 127 {
        body.push(length as u8 | 0x80);
        length >>= 7;
    }
    body.push(length as u8);
    body.extend_from_slice(&series);
    snappy(&body)
}

#[tokio::test]
async fn health_checks_and_small_requests_do_not_wait_for_large_writes() {
    let mut server = Server::start(&Place::Memory).await;
    let client = server.client();
    let writes: Vec<_> = (b'a'..b'e')
        .map(|k| {
            let client = client.clone();
            tokio::spawn(async move { client.try_write_protobuf(empty_samples(k)).await })
        })
        .collect();
    let (mut checks, mut longest) = (0, Duration::ZERO);
    while !writes.iter().all(tokio::task::JoinHandle::is_finished) {
        for path in ["/health", "/metrics"] {
            let begun = Instant::now();
            client.get(path, &[]).await.expect(200);
            longest = longest.max(begun.elapsed());
        }
        assert_eq!(client.promql("1 + 1", "0").await.len(), 2);
        checks += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for write in writes {
        let reply = write.await.expect("no panic").expect("an answer");
        // Four of them may fill the buffer.
        assert!([204, 503].contains(&reply.status), "{}", reply.text());
    }
    assert!(
        longest < PATIENCE,
        "{longest:?} for the longest of {checks}"
    );
    assert!(checks > 1);
    assert!(server.is_running(), "{}", server.log());
}

/// Computes for minutes, and reads nothing.
const HEAVY: &str = "SELECT sum(a.value * b.value) FROM generate_series(1, 2000000) a CROSS JOIN \
                     generate_series(1, 2000000) b";

#[tokio::test]
async fn queries_of_dashboards_do_not_wait_for_heavy_ones() {
    let server = Server::start(&Place::Memory).await;
    let client = server.client();
    client
        .write_lines("m,host=a value=1 1700000000000000000")
        .await;
    // More than there are threads.
    let many = 2 * std::thread::available_parallelism().map_or(2, usize::from) + 1;
    let heavy: Vec<_> = (0..many)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let query = [("db", "default"), ("q", HEAVY)];
                client.get("/api/v3/query_sql", &query).await
            })
        })
        .collect();
    let running = async || {
        let queries = client.get("/admin/queries", &[]).await.expect(200).json();
        queries.as_array().expect("a list").clone()
    };
    // Nothing told that they are heavy: it shows.
    let begun = Instant::now();
    while running()
        .await
        .iter()
        .filter(|q| q["class"] == "heavy")
        .count()
        < many
    {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            running().await
        );
        assert!(heavy.iter().all(|query| !query.is_finished()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for class in ["dashboard", "rules", "adhoc"] {
        // Not so few rows that it is computed where it comes.
        let query = [
            ("query", "sum_over_time(vector(1)[20000s:1s])"),
            ("time", "0"),
        ];
        let headers = [("x-tidelake-class", class)];
        let begun = Instant::now();
        let reply = client
            .send("GET", "/api/v1/query", &query, &headers, "")
            .await;
        reply.expect(200);
        assert!(
            begun.elapsed() < PATIENCE * 4,
            "{class}: {:?}",
            begun.elapsed()
        );
    }
    let queries = running().await;
    assert_eq!(queries.len(), many);
    at_least(&client, "class_cpu_seconds_total{class=\"heavy\"}", 0.1).await;
    for query in queries {
        let id = query["id"].to_string();
        let path = format!("/admin/queries?id={id}");
        let stopped = client.send("DELETE", &path, &[], &[], "").await;
        stopped.expect(204);
    }
    for query in heavy {
        query.await.expect("no panic").expect(422);
    }
    at_least(&client, "queries_heavy_total{class=\"adhoc\"}", many as f64).await;
}

/// Waits until a figure has grown.
async fn at_least(client: &Client, name: &str, least: f64) {
    let begun = Instant::now();
    while client.figure(name).await < least {
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
