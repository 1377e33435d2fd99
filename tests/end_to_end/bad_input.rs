//! Writes that cannot be taken: each gets a clear 4xx that says what is wrong, what was good beside
//! it is kept, and what was written before stays as it was.
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, Reply};
use crate::on_every_place;
use crate::place::Place;
use crate::protobuf::{Message, snappy};
use crate::server::Server;

on_every_place!(refused, super::bad_writes_are_refused_and_harm_nothing);

/// A time in ns, and the same in ms.
const TIME: &str = "1700000000000000000";
const TIME_MS: i64 = 1_700_000_000_000;

async fn bad_writes_are_refused_and_harm_nothing(place: &Place) {
    let mut server = Server::start(place).await;
    let client = server.client();
    write_good(&client).await;
    refuse_bodies(&client).await;
    refuse_lines(&client).await;
    name_exact_lines(&client).await;
    refuse_large_lines(&client).await;
    refuse_messages(&client).await;
    refuse_series_one_by_one(&client).await;
    refuse_broken_connections(&client).await;
    assert!(server.is_running(), "{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    client.get("/ready", &[]).await.expect(200);
    check_kept(&client, "in the buffer").await;
    if place.is_durable() {
        // Half-good requests are in the log as they came: replay must refuse the same halves.
        server.kill();
        server = Server::start(place).await;
        check_kept(&server.client(), "replayed").await;
    }
    let client = server.client();
    client.flush().await;
    check_kept(&client, "in segments").await;
}

async fn write_good(client: &Client) {
    client
        .write_lines(&format!("good,k=a value=1,text=\"t\" {TIME}"))
        .await;
    client
        .write_samples(
            &Message::default().series(&[("__name__", "up"), ("k", "a")], &[(TIME_MS, 1.0)]),
        )
        .await;
}

/// All that was good in this test.
async fn check_kept(client: &Client, stage: &str) {
    let row =
        |k: &str, value: f64, text: Option<&str>| json!({ "k": k, "value": value, "text": text });
    let expected = json!([
        row("a", 1.0, Some("t")),
        row("b", 2.0, None),
        row("c", 3.0, Some("over\ntwo lines\n# no comment")),
        row("d", 4.0, None)
    ]);
    assert_eq!(
        json!(
            client
                .sql("SELECT k, value, text FROM good ORDER BY k")
                .await
        ),
        expected,
        "{stage}"
    );
    let samples = client.sql("SELECT k, value FROM up ORDER BY k").await;
    assert_eq!(
        json!(samples),
        json!([{ "k": "a", "value": 1.0 }, { "k": "b", "value": 2.0 }]),
        "{stage}"
    );
    let result = client
        .promql("count({__name__=~\".+\"})", "1700000000")
        .await;
    assert_eq!(
        result[0]["value"][1], "6",
        "{stage}: no series beside those"
    );
    let tables = client
        .sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        .await;
    assert_eq!(
        json!(tables),
        json!([{ "table_name": "good" }]),
        "{stage}: refused lines leave no tables behind"
    );
    let columns = client
        .sql(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'good' ORDER \
             BY column_name",
        )
        .await;
    let names: Vec<_> = columns.iter().map(|row| &row["column_name"]).collect();
    assert_eq!(
        json!(names),
        json!(["k", "text", "time", "value"]),
        "{stage}: refused lines leave no columns behind"
    );
}

/// A 4xx that says what is wrong, in the form of its protocol.
#[track_caller]
fn check_refusal(reply: &Reply, path: &str, status: u16, word: &str) {
    assert_eq!(reply.status, status, "{path}, {word}: {}", reply.text());
    assert!(
        reply.text().contains(word),
        "{path}: {:?} lacks {word:?}",
        reply.text()
    );
    assert!(
        reply.body.len() < 20_000,
        "{path}, {word}: an answer of {} bytes",
        reply.body.len()
    );
    match path {
        "/write" => assert!(reply.json()["error"].is_string()),
        "/api/v2/write" => {
            assert!(reply.json()["code"].is_string() && reply.json()["message"].is_string())
        }
        "/api/v3/write_lp" => assert!(reply.json()["error"].is_string()),
        _ => {}
    }
}

const WRITES: [(&str, &str); 3] = [
    ("/write", "db"),
    ("/api/v2/write", "bucket"),
    ("/api/v3/write_lp", "db"),
];

async fn refuse_bodies(client: &Client) {
    for (path, parameter) in WRITES {
        let line = format!("other value=1 {TIME}");
        let check = async |method: &str,
                           query: &[(&str, &str)],
                           headers: &[(&str, &str)],
                           body: Vec<u8>,
                           status: u16,
                           word: &str| {
            let reply = client.send(method, path, query, headers, body).await;
            check_refusal(&reply, path, status, word);
        };
        let there = [(parameter, "default")];
        check("POST", &[], &[], line.clone().into(), 400, parameter).await;
        check(
            "POST",
            &[(parameter, "../x")],
            &[],
            line.clone().into(),
            400,
            "../x",
        )
        .await;
        check(
            "POST",
            &[(parameter, "default"), ("precision", "weeks")],
            &[],
            line.clone().into(),
            400,
            "weeks",
        )
        .await;
        check(
            "POST",
            &there,
            &[("content-encoding", "gzip")],
            line.clone().into(),
            400,
            "gzip",
        )
        .await;
        check(
            "POST",
            &there,
            &[("content-encoding", "zstd")],
            line.clone().into(),
            400,
            "zstd",
        )
        .await;
        check(
            "POST",
            &there,
            &[("content-encoding", "br")],
            line.clone().into(),
            415,
            "br",
        )
        .await;
        check(
            "POST",
            &there,
            &[],
            vec![b'#'; (10 << 20) + 1],
            413,
            "10485760",
        )
        .await;
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let reply = client
                .send(method, path, &there, &[], line.clone())
                .await
                .expect(405);
            assert_eq!(reply.header("allow"), "POST", "{method} {path}");
            assert!(
                reply.json()["error"]
                    .as_str()
                    .is_some_and(|error| error.contains(method)),
                "{}",
                reply.text()
            );
        }
    }
    let reply = client
        .send("POST", "/api/v4/write", &[("db", "default")], &[], "")
        .await
        .expect(404);
    assert!(reply.text().contains("/api/v4/write"), "{}", reply.text());
}

/// Bodies of which no line is good.
async fn refuse_lines(client: &Client) {
    let check = async |body: &[u8], word: &str| {
        for (path, parameter) in WRITES {
            let reply = client
                .send(
                    "POST",
                    path,
                    &[(parameter, "default"), ("precision", "ns")],
                    &[],
                    body.to_vec(),
                )
                .await;
            check_refusal(&reply, path, 400, word);
            let place = if path == "/api/v3/write_lp" {
                "\"line_number\":1"
            } else {
                "line 1: "
            };
            assert!(
                reply.text().contains(place),
                "{} lacks {place}",
                reply.text()
            );
        }
    };
    check(b"garbage", "").await;
    check(b"\x00\x01\x02\xff\xfe", "").await;
    check(b"other value=", "value").await;
    check(b"other,k value=1", "tag").await;
    check(b"other,k=a,k=b value=1", "twice").await;
    check(b"other,time=a value=1", "time").await;
    check(b"other value=1 soon", "soon").await;
    check(b"other value=1 9223372036854775808", "").await;
    check(b"other value=9223372036854775808i", "").await;
    check(b"other value=-1u", "").await;
    check(b"other value=1e400", "1e400").await;
    check(b"other value=\"no end", "").await;
    check(b"other,k=\xff value=1", "UTF-8").await;
    check(b"other text=\"\xff\"", "UTF-8").await;
    check(b"good value=1i", "value").await;
    check(b"good text=1", "text").await;
    check(b"good k=1", "k").await;
}

/// The lines that are refused are named by their numbers, with blank lines, comments and line ends
/// in strings counted; their neighbours are kept.
async fn name_exact_lines(client: &Client) {
    let body = format!(
        "good,k=b value=2 {TIME}\n\n# a comment\ngood,k=c value=3,text=\"over\ntwo lines\n# no \
         comment\" {TIME}\r\ngood,k=x value=\"no number\" {TIME}\ngood,k=x,\u{fffd} value=5 \
         {TIME}\ngood,k=d value=4 {TIME}\ngood,k=x value=6,other= {TIME}"
    );
    let mut body = body.into_bytes();
    // The character of three bytes becomes one byte that is no UTF-8.
    let at = body
        .windows(3)
        .position(|window| window == "\u{fffd}".as_bytes())
        .expect("it is there");
    body.splice(at..at + 3, [0xff]);
    for (path, parameter) in WRITES {
        let query = [(parameter, "default"), ("precision", "ns")];
        let reply = client.send("POST", path, &query, &[], body.clone()).await;
        check_refusal(&reply, path, 400, "partial write");
        if path == "/api/v3/write_lp" {
            let lines: Vec<Value> = reply.json()["data"]
                .as_array()
                .expect("lines")
                .iter()
                .map(|line| line["line_number"].clone())
                .collect();
            assert_eq!(json!(lines), json!([7, 8, 10]), "{}", reply.text());
            assert_eq!(
                reply.json()["data"][0]["original_line"],
                format!("good,k=x value=\"no number\" {TIME}")
            );
            assert!(
                reply.json()["data"][0]["error_message"]
                    .as_str()
                    .is_some_and(|text| text.contains("value")),
                "{}",
                reply.text()
            );
        } else {
            for line in ["line 7: ", "line 8: ", "line 10: ", "dropped=3"] {
                assert!(reply.text().contains(line), "{} lacks {line}", reply.text());
            }
        }
    }
    // All or nothing, on demand.
    let query = [
        ("db", "default"),
        ("precision", "ns"),
        ("accept_partial", "false"),
    ];
    let lines = format!("good,k=z value=9 {TIME}\ngood,k=z value=\"no number\" {TIME}");
    let reply = client
        .send("POST", "/api/v3/write_lp", &query, &[], lines)
        .await
        .expect(400);
    assert_eq!(
        reply.json()["data"][0]["line_number"],
        2,
        "{}",
        reply.text()
    );
}

async fn refuse_large_lines(client: &Client) {
    // Within the limit of the body and beyond that of a line; the last line is good and there
    // already.
    let long = "x".repeat(9 << 20);
    let good = format!("good,k=b value=2 {TIME}");
    let write = async |body: String| client.try_write_lines(body).await.expect("an answer");
    check_refusal(
        &write(format!("good,k=x text=\"{long}\" {TIME}\n{good}")).await,
        "/api/v2/write",
        400,
        "line 1",
    );
    check_refusal(
        &write(format!("good,k={long} value=1 {TIME}\n{good}")).await,
        "/api/v2/write",
        400,
        "line 1",
    );
    check_refusal(
        &write(format!("{long}\n{good}")).await,
        "/api/v2/write",
        400,
        "line 1",
    );
    let name = "x".repeat(5_000);
    check_refusal(
        &write(format!("good,k=x {name}=1 {TIME}\n{good}")).await,
        "/api/v2/write",
        400,
        "line 1",
    );
    let fields: Vec<String> = (0..3_000).map(|i| format!("f{i}=1")).collect();
    check_refusal(
        &write(format!("good,k=x {} {TIME}\n{good}", fields.join(","))).await,
        "/api/v2/write",
        400,
        "line 1",
    );
    // Many bad lines are answered by a bounded text.
    let reply = write("bad\n".repeat(200_000)).await.expect(400);
    assert!(
        reply.text().contains("dropped=200000"),
        "{}",
        &reply.text()[reply.text().len() - 200..]
    );
    assert!(reply.body.len() < 1 << 20, "{} bytes", reply.body.len());
}

/// Remote write bodies that are no message at all.
async fn refuse_messages(client: &Client) {
    let good = Message::default().series(&[("__name__", "other")], &[(TIME_MS, 1.0)]);
    let check = async |body: Vec<u8>, status: u16, word: &str| {
        let reply = client.try_write_protobuf(body).await.expect("an answer");
        check_refusal(&reply, "/api/v1/write", status, word);
    };
    check(b"garbage that is no snappy".to_vec(), 400, "snappy").await;
    check(Vec::new(), 400, "snappy").await;
    let body = good.snappy();
    check(body[..body.len() - 3].to_vec(), 400, "snappy").await;
    // A header that promises 4 GiB, one that promises 30 MiB, and what really inflates to more than
    // is allowed.
    let before = client.figure("process_resident_memory_bytes").await;
    check(
        [&[0xff, 0xff, 0xff, 0xff, 0x0f], &body[1..]].concat(),
        413,
        "33554432",
    )
    .await;
    check(
        [&[0x80, 0x80, 0x80, 0x0f], &body[1..]].concat(),
        400,
        "snappy",
    )
    .await;
    check(snappy(&vec![0; 40 << 20]), 413, "33554432").await;
    let grown = client.figure("process_resident_memory_bytes").await - before;
    assert!(grown < 100e6, "{grown} bytes more");
    check(vec![0; (32 << 20) + 1], 413, "33554432").await;
    // Protobuf that ends early, has lengths beyond its end, or numbers that do not exist.
    check(
        snappy(&good.bytes()[..good.bytes().len() - 4]),
        400,
        "remote write",
    )
    .await;
    check(
        snappy(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1]),
        400,
        "remote write",
    )
    .await;
    check(snappy(&[0xff; 64]), 400, "remote write").await;
    check(snappy(b"other value=1"), 400, "remote write").await;

    let send = async |headers: &[(&str, &str)]| {
        client
            .send("POST", "/api/v1/write", &[], headers, good.snappy())
            .await
    };
    check_refusal(
        &send(&[("content-type", "application/json")]).await,
        "",
        415,
        "application/json",
    );
    let newer = "application/x-protobuf;proto=io.prometheus.write.v2.Wrong";
    check_refusal(&send(&[("content-type", newer)]).await, "", 415, "v2.Wrong");
    check_refusal(
        &send(&[
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "br"),
        ])
        .await,
        "",
        415,
        "br",
    );
    check_refusal(&send(&[("x-scope-orgid", "a|b")]).await, "", 400, "a|b");
    check_refusal(
        &send(&[("x-scope-orgid", "a/b")]).await,
        "",
        404,
        "retention policy",
    );
    for method in ["GET", "PUT", "DELETE"] {
        let reply = client
            .send(method, "/api/v1/write", &[], &[], "")
            .await
            .expect(405);
        // A GET with the headers of a write asks whether it may.
        let allowed = match method {
            "GET" => "POST",
            _ => "GET,HEAD,POST",
        };
        assert_eq!(reply.header("allow"), allowed, "{method}");
    }
}

/// Series that cannot be; the others of the same message are kept.
async fn refuse_series_one_by_one(client: &Client) {
    let sample = [(TIME_MS, 2.0)];
    let good = || Message::default().series(&[("__name__", "up"), ("k", "b")], &sample);
    let check = async |message: Message, word: &str| {
        let reply = client.try_write_samples(&message).await.expect("an answer");
        check_refusal(&reply, "/api/v1/write", 400, word);
        assert_eq!(
            reply.header("x-prometheus-remote-write-samples-written"),
            "1",
            "{}",
            reply.text()
        );
    };
    check(good().series(&[("k", "no name")], &sample), "no name").await;
    check(
        good().series(&[("__name__", "other"), ("k", "1"), ("k", "2")], &sample),
        "other",
    )
    .await;
    check(
        good().raw_series(&[(b"__name__", b"other"), (b"k", b"\xff\xfe")], &sample),
        "UTF-8",
    )
    .await;
    check(
        good().raw_series(&[(b"__name__", b"other"), (b"\xc3", b"v")], &sample),
        "UTF-8",
    )
    .await;
    check(
        good().series(&[("__name__", "other"), ("", "v")], &sample),
        "other",
    )
    .await;
}

/// Connections that break off, or speak something else.
async fn refuse_broken_connections(client: &Client) {
    let check = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(client.address())
            .await
            .expect("a connection");
        stream.write_all(bytes).await.expect("sent");
        stream.shutdown().await.expect("the end of what is sent");
        let mut answer = Vec::new();
        // It may be cut off without an answer, but it must end.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    };
    check(b"POST /api/v2/write?bucket=default HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nother value=1").await;
    check(b"POST /api/v2/write?bucket=default HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nother").await;
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    check(b"GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n").await;
    check(&[b'A'; 100_000]).await;
}
