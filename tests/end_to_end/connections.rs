//! What connections may not do: stay open for nothing, be too many, or change things for a web
//! page.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::Client;
use crate::place::Place;
use crate::server::{Server, finish};

async fn open(client: &Client, bytes: &str) -> TcpStream {
    let mut connection = TcpStream::connect(client.address())
        .await
        .expect("a connection");
    let sent = connection.write_all(bytes.as_bytes()).await;
    sent.expect("it takes bytes");
    connection
}

/// What comes until the server closes; fails if it does not.
async fn until_closed(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = connection.read_to_end(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    // A reset is an end, too.
    let _ = read.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn connections_without_progress_are_closed() {
    let place = Place::folder();
    let flags = [
        "--head-timeout-ms=400",
        "--body-timeout-ms=400",
        "--idle-timeout-ms=3000",
    ];
    let mut server = Server::start_with(&place, &flags).await;
    let client = server.client();
    let begun = Instant::now();
    let mut idle = open(&client, "").await;
    let mut halves = Vec::new();
    for i in 0..60 {
        let half = match i % 3 {
            0 => "GET /health HTT",
            1 => "POST /write?db=d HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
            _ => {
                "POST /write?db=d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\nabc"
            }
        };
        halves.push(open(&client, half).await);
    }
    // One that sends a byte now and then is no better.
    let mut trickle = open(&client, "POST /write?db=d HTTP/1.1\r\n").await;
    let drops = tokio::spawn(async move {
        for _ in 0..100 {
            if trickle.write_all(b"x").await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    });
    client
        .write_lines("m,host=a value=1 1700000000000000000")
        .await;
    for (i, half) in halves.iter_mut().enumerate() {
        let answer = until_closed(half).await;
        assert_eq!(answer.contains("body_timeout_ms"), i % 3 == 2, "{answer}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        drops.await.expect("it ends"),
        "bytes one by one keep a connection open"
    );
    let answer = until_closed(&mut idle).await;
    assert_eq!(answer, "");
    assert!(
        begun.elapsed() >= Duration::from_millis(2900),
        "{:?}",
        begun.elapsed()
    );

    // A stop does not wait for what sends nothing.
    let _half = open(&client, "GET /health HTT").await;
    let _idle = open(&client, "").await;
    let begun = Instant::now();
    server.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_are_turned_away() {
    let place = Place::folder();
    let flags = ["--max-connections=10", "--max-connections-per-peer=8"];
    let server = Server::start_with(&place, &flags).await;
    let client = server.client();
    assert_eq!(client.figure("connections").await, 1.0);
    let mut others = Vec::new();
    for _ in 0..7 {
        others.push(open(&client, "").await);
    }
    let mut refused = open(&client, "").await;
    let answer = until_closed(&mut refused).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5"),
        "{answer}"
    );
    assert!(answer.ends_with("see max_connections\"}"), "{answer}");
    // The client's own connection stays, and others come when some go.
    assert!(client.figure("connections_refused_total").await >= 1.0);
    others.truncate(3);
    let begun = Instant::now();
    while client.figure("connections").await > 4.0 {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "connections stay"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut another = open(
        &client,
        "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    let answer = until_closed(&mut another).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn web_pages_change_nothing() {
    let place = Place::folder();
    let server = Server::start(&place).await;
    let client = server.client();
    client
        .write_lines("m,host=a value=1 1700000000000000000")
        .await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let foreign = ("origin", "http://evil.example");
    let drop_table = "db=default&q=DROP+TABLE+m";
    for (path, body) in [
        ("/api/v3/query_sql", drop_table),
        ("/api/v1/admin/tsdb/delete_series?match[]=m_value", ""),
        ("/api/v2/delete?bucket=default", "{}"),
        ("/write?db=default", "m value=2"),
        ("/admin/flush", ""),
    ] {
        let page = client.send("POST", path, &[], &[form, foreign], body).await;
        assert_eq!(page.status, 403, "{path}: {}", page.text());
        assert!(page.text().contains("web page of"), "{}", page.text());
        // A name of the page's that was made to mean this machine.
        let rebound = [
            form,
            ("host", "evil.example:7070"),
            ("origin", "http://evil.example:7070"),
        ];
        let page = client.send("POST", path, &[], &rebound, body).await;
        assert_eq!(page.status, 403, "{path}: {}", page.text());
        assert!(page.text().contains("allowed_hosts"), "{}", page.text());
    }
    let rows = client.sql("SELECT value FROM m").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let own = ("origin", &*format!("http://{}", client.address()));
    client
        .send("POST", "/api/v3/query_sql", &[], &[form, own], drop_table)
        .await
        .expect(200);
}

#[test]
fn other_machines_are_let_in_only_if_that_is_said() {
    let (code, out) = finish(&["serve", "--listen", "0.0.0.0:0"], &Place::folder());
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("--insecure-no-auth"), "{out}");
}

#[tokio::test]
async fn requests_that_mean_two_things_are_refused() {
    let place = Place::folder();
    let server = Server::start(&place).await;
    let client = server.client();
    for (request, expected) in [
        (
            "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
            "one header Host",
        ),
        (
            "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
            "one header Host",
        ),
        (
            "GET /db/%ff/api/v1/query HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "\"errorType\":\"bad_data\"",
        ),
    ] {
        let mut connection = open(&client, request).await;
        let answer = until_closed(&mut connection).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
        assert!(answer.contains(expected), "{request}: {answer}");
        assert!(!answer.contains("200 OK"), "{request}: {answer}");
    }
}
