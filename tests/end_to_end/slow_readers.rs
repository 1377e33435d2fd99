//! Clients that ask for large answers and do not read them: their queries end, and those of others
//! are answered meanwhile.
use std::io::Read;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::Server;

const SERIES: usize = 50;
/// Twelve megabytes of JSON: more than sockets and servers buffer.
const PROMQL: &str =
    "/api/v1/query_range?query=x_total&start=1700000000&end=1700000219.98&step=0.02";
/// More than anybody reads to its end.
const SQL: &str = "/api/v3/query_sql?db=default&q=SELECT%20a.value,b.k,c.k%20FROM%20x_total%20a,\
                   x_total%20b,x_total%20c,x_total%20d";
/// The end of a chunked body.
const END: &[u8] = b"\r\n0\r\n\r\n";

async fn start(flags: &[&str]) -> (Server, Client) {
    let server = Server::start_with(&Place::Memory, flags).await;
    let client = server.client();
    let mut message = Message::default();
    for series in 0..SERIES {
        let k = format!("{series}");
        message = message.series(
            &[("__name__", "x_total"), ("k", k.as_str())],
            &[(1_700_000_000_000, series as f64 / 7.0)],
        );
    }
    client.write_samples(&message).await;
    (server, client)
}

/// Sends a request on a connection of its own.
async fn ask(client: &Client, method: &str, path: &str) -> TcpStream {
    let mut connection = TcpStream::connect(client.address())
        .await
        .expect("a connection");
    send(&mut connection, method, path).await;
    connection
}

async fn send(connection: &mut TcpStream, method: &str, path: &str) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    connection
        .write_all(request.as_bytes())
        .await
        .expect("it takes a request");
}

/// Reads a chunked answer to its end; fails if the connection ends before.
async fn read_answer(connection: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    while !answer.ends_with(END) {
        let read = connection.read_buf(&mut answer).await.expect("an answer");
        assert!(read > 0, "the answer ends early");
    }
    answer
}

fn ended(language: &str, outcome: &str) -> String {
    format!("queries_ended_total{{language=\"{language}\",outcome=\"{outcome}\"}}")
}

/// Waits until no query runs.
async fn until_idle(client: &Client) {
    let begun = Instant::now();
    while client.figure("queries_running").await > 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "a query stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn stalled_readers_end_and_others_are_answered() {
    // A queue for slow machines: the small queries below wait for their turn.
    let flags = [
        "--max-concurrent-queries=3",
        "--write-timeout-ms=400",
        "--query-queue-ms=50000",
    ];
    let (mut server, client) = start(&flags).await;
    let before = client.figure("process_resident_memory_bytes").await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(ask(&client, "GET", PROMQL).await);
        stalled.push(ask(&client, "GET", SQL).await);
    }
    let mut peak = before;
    for _ in 0..5 {
        assert_eq!(client.promql("1 + 1", "0").await.len(), 2);
        peak = client
            .figure("process_resident_memory_bytes")
            .await
            .max(peak);
    }
    until_idle(&client).await;
    assert_eq!(client.figure(&ended("promql", "stalled")).await, 4.0);
    assert_eq!(client.figure(&ended("sql", "stalled")).await, 4.0);
    // Three queries at a time, each with some megabytes.
    let grown = peak - before;
    assert!(grown < 300e6, "{grown} bytes more");
    // The connections have ended too, and none of the answers looks complete.
    for mut connection in stalled {
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = connection.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
        assert!(!answer.ends_with(END), "{} bytes", answer.len());
    }
    assert!(server.is_running(), "{}", server.log());
    assert!(server.log().contains("its client took nothing for so long"));
}

#[tokio::test]
async fn readers_that_read_get_whole_answers() {
    let (_server, client) = start(&["--max-concurrent-queries=1"]).await;
    // Two on one connection.
    let mut connection = ask(&client, "GET", PROMQL).await;
    let first = read_answer(&mut connection).await;
    send(&mut connection, "GET", PROMQL).await;
    let second = read_answer(&mut connection).await;
    let body = |answer: &[u8]| answer.len();
    assert!(first.len() > 5_000_000 && body(&first).abs_diff(body(&second)) < 100);
    // Compressed it is the same.
    let gzip = [("accept-encoding", "gzip")];
    let plain = client.send("GET", PROMQL, &[], &[], "").await.expect(200);
    let packed = client.send("GET", PROMQL, &[], &gzip, "").await.expect(200);
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..])
        .read_to_end(&mut unpacked)
        .expect("gzip");
    assert_eq!(
        plain.json()["data"]["result"].as_array().map(Vec::len),
        Some(SERIES)
    );
    assert!(unpacked == plain.body, "the compressed answer differs");
    until_idle(&client).await;
    assert_eq!(client.figure(&ended("promql", "answered")).await, 4.0);
    // The head alone, and a client that goes away in the middle.
    let head = client.send("HEAD", PROMQL, &[], &[], "").await.expect(200);
    assert!(head.body.is_empty());
    until_idle(&client).await;
    assert_eq!(client.figure(&ended("promql", "cancelled")).await, 1.0);
    let mut connection = ask(&client, "GET", SQL).await;
    let mut some = [0; 1000];
    connection.read_exact(&mut some).await.expect("some of it");
    assert_eq!(client.figure("queries_running").await, 1.0);
    drop(connection);
    until_idle(&client).await;
    assert_eq!(client.figure(&ended("sql", "cancelled")).await, 1.0);
}
