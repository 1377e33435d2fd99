//! Requests to a server.

use reqwest::{Client, Response};
use serde_json::Value;

use crate::server::Server;

/// A status and a body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        Self { status: response.status().as_u16(), body: response.text().await.unwrap() }
    }

    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status < 300, "{self:?}");
        self.body
    }
}

impl Server {
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        Answer::of(Client::new().post(format!("{}{path}", self.url)).body(body).send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(reqwest::get(format!("{}{path}", self.url)).await.unwrap()).await
    }

    /// Line protocol with timestamps in nanoseconds.
    pub async fn lines(&self, lines: &str) -> Answer {
        self.post("/api/v2/write?bucket=default", lines.to_owned()).await
    }

    /// A remote write; an error if the connection broke.
    pub async fn try_remote_write(&self, body: Vec<u8>) -> reqwest::Result<u16> {
        let request = Client::new().post(format!("{}/api/v1/write", self.url)).body(body);
        let request = request.header("content-type", "application/x-protobuf").header("content-encoding", "snappy");
        Ok(request.header("x-prometheus-remote-write-version", "0.1.0").send().await?.status().as_u16())
    }

    pub async fn remote_write(&self, labels: &[(&str, &str)], samples: &[(f64, i64)]) -> u16 {
        self.try_remote_write(crate::remote_write::body(labels, samples)).await.unwrap()
    }

    /// The answer to SQL in a format.
    pub async fn sql(&self, query: &str, format: &str) -> Answer {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v3/query_sql?db=default", self.url), [("q", query), ("format", format)]);
        Answer::of(reqwest::get(url.unwrap()).await.unwrap()).await
    }

    /// The rows that SQL answers.
    pub async fn rows(&self, query: &str) -> Vec<Value> {
        serde_json::from_str(&self.sql(query, "json").await.ok()).unwrap()
    }

    /// `data` of an answer of the Prometheus API.
    pub async fn prometheus(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), params).unwrap();
        let answer: Value = serde_json::from_str(&Answer::of(reqwest::get(url).await.unwrap()).await.ok()).unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].clone()
    }

    /// The result of an instant query.
    pub async fn promql(&self, query: &str, seconds: i64) -> Value {
        self.prometheus("query", &[("query", query), ("time", &seconds.to_string())]).await["result"].clone()
    }

    pub async fn flush(&self) {
        self.post("/admin/flush", "").await.ok();
    }

    pub async fn compact(&self) {
        self.post("/admin/compact", "").await.ok();
    }
}
