//! Requests as clients send them, and answers as they see them.
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::protobuf::{Message, Message2};

/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the answer is text")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// Itself, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// A header's text, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("headers are text"))
    }
}

impl Client {
    /// For a server at a URL such as `http://127.0.0.1:7070`.
    pub fn new(url: String) -> Self {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .no_proxy()
            .build()
            .expect("a client");
        Self { http, url }
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Any request; an error if no whole answer came.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<Reply, reqwest::Error> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        let headers: HeaderMap = headers
            .iter()
            .map(|(n, v)| (name(n), HeaderValue::from_str(v).expect("a header's value")))
            .collect();
        let request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .query(query)
            .headers(headers)
            .body(body);
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply {
            status,
            headers,
            body: response.bytes().await?,
        })
    }

    /// Any request that must be answered.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Reply {
        self.try_send(method, path, query, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    /// GET
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Reply {
        self.send("GET", path, query, &[], "").await
    }

    /// Line protocol by `/api/v2/write` with nanoseconds, as Telegraf sends it.
    pub async fn try_write_lines(&self, lines: String) -> Result<Reply, reqwest::Error> {
        self.try_send(
            "POST",
            "/api/v2/write",
            &[("bucket", "default")],
            &[],
            lines,
        )
        .await
    }

    /// The same, which must be taken.
    pub async fn write_lines(&self, lines: &str) {
        self.try_write_lines(lines.to_owned())
            .await
            .expect("an answer")
            .expect(204);
    }

    /// Remote write 1.0 as Prometheus sends it.
    pub async fn try_write_samples(&self, message: &Message) -> Result<Reply, reqwest::Error> {
        self.try_write_protobuf(message.snappy()).await
    }

    /// Remote write 2.0.
    pub async fn try_write_samples_2(&self, message: &Message2) -> Result<Reply, reqwest::Error> {
        let headers = [
            (
                "content-type",
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            ),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", "2.0.0"),
        ];
        self.try_send("POST", "/api/v1/write", &[], &headers, message.snappy())
            .await
    }

    /// Any body that says it is remote write 1.0.
    pub async fn try_write_protobuf(&self, body: Vec<u8>) -> Result<Reply, reqwest::Error> {
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        self.try_send("POST", "/api/v1/write", &[], &headers, body)
            .await
    }

    /// Remote write, which must be taken.
    pub async fn write_samples(&self, message: &Message) {
        self.try_write_samples(message)
            .await
            .expect("an answer")
            .expect(204);
    }

    /// The rows of a SQL query.
    pub async fn sql(&self, query: &str) -> Vec<Value> {
        let reply = self
            .get(
                "/api/v3/query_sql",
                &[("db", "default"), ("format", "json"), ("q", query)],
            )
            .await
            .expect(200);
        match reply.json() {
            Value::Array(rows) => rows,
            other => panic!("no rows: {other}"),
        }
    }

    /// The result of an instant PromQL query.
    pub async fn promql(&self, query: &str, time: &str) -> Vec<Value> {
        let reply = self
            .get("/api/v1/query", &[("query", query), ("time", time)])
            .await
            .expect(200);
        match reply.json()["data"]["result"].take() {
            Value::Array(rows) => rows,
            other => panic!("no rows: {other}"),
        }
    }

    /// A figure of `/metrics` without labels, by its name without the prefix of the server's own.
    pub async fn figure(&self, name: &str) -> f64 {
        let reply = self.get("/metrics", &[]).await.expect(200);
        let line = reply.text().lines().find_map(|line| {
            let line = line.strip_prefix("tidelake_").unwrap_or(line);
            line.strip_prefix(name)?.strip_prefix(' ')
        });
        line.unwrap_or_else(|| panic!("no figure {name}"))
            .parse()
            .expect("a number")
    }

    /// Returns when all is in segments.
    pub async fn flush(&self) {
        self.send("POST", "/admin/flush", &[], &[], "")
            .await
            .expect(204);
    }

    /// Returns when nothing is left to merge.
    pub async fn compact(&self) {
        self.send("POST", "/admin/compact", &[], &[], "")
            .await
            .expect(204);
    }
}
