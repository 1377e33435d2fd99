//! What is wrong gets a clear 4xx, and loses nothing that was good.

use serde_json::{Value, json};

use crate::server::{Place, Server};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

async fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
    let mut request = reqwest::Client::new().request(method.parse().unwrap(), format!("{}{path}", server.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_request_is_a_4xx_and_the_server_lives() {
    let server = Server::start(&Place::memory()).await;
    server.lines("m,t=x v=1 1").await.ok();
    let snappy = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    let good = crate::remote_write::body(&[("__name__", "up")], &[(1.0, 1)]);
    // A length of 1 GiB and nothing behind it.
    let bomb = vec![0x80, 0x80, 0x80, 0x80, 0x04, 0, 0, 0];
    let write = "/api/v1/write";
    let nested = |open: &str, close: &str, n: usize| format!("query={}", urlencoded(&format!("{}1{}", open.repeat(n), close.repeat(n))));
    let cases: Vec<(&str, &str, &str, Vec<(&str, &str)>, Vec<u8>, u16)> = vec![
        ("garbage in snappy", "POST", write, vec![PROTOBUF], b"not snappy at all".to_vec(), 400),
        ("truncated snappy", "POST", write, vec![PROTOBUF], good[..good.len() - 3].to_vec(), 400),
        ("snappy bomb", "POST", write, vec![PROTOBUF], bomb, 413),
        ("bad protobuf", "POST", write, vec![PROTOBUF], snappy(&[0x0a, 0xff, 0xff]), 400),
        ("no such content type", "POST", write, vec![("content-type", "text/html")], good.clone(), 415),
        ("no such encoding", "POST", write, vec![PROTOBUF, ("content-encoding", "br")], good.clone(), 415),
        (
            "label not UTF-8",
            "POST",
            write,
            vec![PROTOBUF],
            snappy(b"\x0a\x1c\x0a\x0d\x0a\x08__name__\x12\x01\xff\x12\x0b\x09\0\0\0\0\0\0\0\0\x10\x01"),
            400,
        ),
        ("lines not UTF-8", "POST", "/api/v2/write?bucket=default", vec![], b"m,t=\xff v=1 2".to_vec(), 400),
        ("broken gzip", "POST", "/api/v2/write?bucket=default", vec![("content-encoding", "gzip")], b"\x1f\x8b\x08nope".to_vec(), 400),
        ("no database", "POST", "/write", vec![], b"m v=1".to_vec(), 400),
        ("type conflict", "POST", "/api/v2/write?bucket=default", vec![], b"m,t=x v=\"text\" 2".to_vec(), 400),
        ("reserved name", "POST", "/api/v2/write?bucket=default", vec![], b"m,time=x v=1 2".to_vec(), 400),
        ("wrong method", "GET", "/api/v2/write?bucket=default", vec![], vec![], 405),
        ("wrong path", "GET", "/api/v9/nothing", vec![], vec![], 404),
        ("too large", "POST", "/api/v2/write?bucket=default", vec![], vec![b'#'; 11 << 20], 413),
        ("SQL that writes", "GET", "/api/v3/query_sql?db=default&q=DROP%20VIEW%20m", vec![], vec![], 400),
        ("SQL with an error", "GET", "/api/v3/query_sql?db=default&q=SELEC", vec![], vec![], 400),
        ("no such table", "GET", "/api/v3/query_sql?db=default&q=SELECT%20*%20FROM%20nothing", vec![], vec![], 404),
        ("PromQL with an error", "GET", "/api/v1/query?query=sum(", vec![], vec![], 400),
        ("a bad step", "GET", "/api/v1/query_range?query=up&start=0&end=1&step=0", vec![], vec![], 400),
        ("too many steps", "GET", "/api/v1/query_range?query=up&start=0&end=100000&step=1", vec![], vec![], 400),
    ];
    for (what, method, path, headers, body, status) in cases {
        let (got, text) = send(&server, method, path, &headers, body).await;
        assert_eq!(got, status, "{what}: {text}");
        assert!(!text.is_empty(), "{what} has no explanation");
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for body in [nested("(", ")", 100_000), nested("-", "", 300_000), nested("sum(", ")", 5000)] {
        let (got, text) = send(&server, "POST", "/api/v1/query", &form, body.into_bytes()).await;
        assert_eq!(got, 400, "{text}");
        assert!(text.contains("nested too deeply") || text.contains("too long"), "{text}");
    }
    let deep = json!({"db": "default", "q": format!("SELECT {}1{}", "(".repeat(50_000), ")".repeat(50_000))});
    let (got, text) =
        send(&server, "POST", "/api/v3/query_sql", &[("content-type", "application/json")], deep.to_string().into_bytes()).await;
    assert_eq!(got, 400, "{text}");
    // All is as it was: nothing of a refused request came in, and what was good is still there.
    assert_eq!(server.rows("SELECT * FROM m").await.len(), 1);
    assert_eq!(server.prometheus("label/__name__/values", &[]).await, json!(["m_v"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn good_lines_are_kept_and_bad_ones_named() {
    for place in [Place::memory(), Place::folder()] {
        let server = Server::start(&place).await;
        server.lines("m v=1i 1").await.ok();
        let body = "m v=2i 2\n\n# a comment\nm v=2.5 3\nm v=4i 4\nm v= 5\nm,t=x v=6i 6";
        let answer = server.post("/api/v3/write_lp?db=default&precision=nanosecond", body).await;
        assert_eq!(answer.status, 400);
        let error: Value = serde_json::from_str(&answer.body).unwrap();
        let lines: Vec<_> = error["data"].as_array().unwrap().iter().map(|e| e["line_number"].as_u64().unwrap()).collect();
        assert_eq!(lines, [4, 6], "{error}");
        assert_eq!(server.rows("SELECT v FROM m ORDER BY time").await, [1, 2, 4, 6].map(|v| json!({ "v": v })));
        if place.durable {
            server.kill();
            let server = Server::start(&place).await;
            assert_eq!(server.rows("SELECT v FROM m ORDER BY time").await, [1, 2, 4, 6].map(|v| json!({ "v": v })));
        }
    }
}

fn urlencoded(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
