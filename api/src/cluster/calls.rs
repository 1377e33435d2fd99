//! Asks another process.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, StatusCode};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tidelake_catalog::{Environment, PutOutcome, Store, StoreError, keys};

use super::messages::{self, Hello, RecentAsked, Recorded, Seen};
use super::parts::PartAnswer;

/// How long a flush may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(120);
/// How long a write may take.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);
/// How long rows may take to come.
const ROWS_PATIENCE: Duration = Duration::from_secs(20);

/// Why another process did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody is there.
    #[error("{0}")]
    Unreachable(String),
    /// It has not answered in time.
    #[error("{0}")]
    Late(String),
    /// Another process answers, or another life of the one that is meant.
    #[error("{0}")]
    Another(String),
    /// It cannot do it now.
    #[error("{0}")]
    Refused(String),
}

/// The secret that the processes of a store show each other; the first of them makes it.
pub async fn secret(store: &Store, environment: &Environment) -> Result<String, StoreError> {
    let key = keys::CLUSTER_SECRET;
    let found = match store.get(key).await {
        Err(StoreError::NotFound { .. }) => {
            let halves = [environment.random(), environment.random()];
            let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_be_bytes()).collect();
            let made = URL_SAFE_NO_PAD.encode(bytes);
            match store.put_if_absent(key, made.clone()).await? {
                PutOutcome::Created => return Ok(made),
                PutOutcome::AlreadyExists => store.get(key).await?,
            }
        }
        found => found?,
    };
    String::from_utf8(found.to_vec()).map_err(|_| StoreError::Corrupt {
        key: key.to_owned(),
        reason: "it is no text".to_owned(),
    })
}

/// Speaks HTTP with the others.
pub struct Calls {
    http: Client,
    secret: String,
}

impl Calls {
    pub fn new(secret: &str) -> Result<Self, String> {
        let http = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(1))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            http,
            secret: secret.to_owned(),
        })
    }

    /// Whether a request shows the secret.
    pub fn is_secret(&self, shown: &str) -> bool {
        shown.as_bytes().ct_eq(self.secret.as_bytes()).into()
    }

    pub async fn hello(&self, address: &str, patience: Duration) -> Result<Hello, CallError> {
        let answer = self.ask(address, messages::HELLO, &(), patience).await?;
        read(&answer)
    }

    pub async fn seen(
        &self,
        address: &str,
        sequence: u64,
        patience: Duration,
    ) -> Result<Hello, CallError> {
        let body = Seen { sequence };
        let answer = self.ask(address, messages::SEEN, &body, patience).await?;
        read(&answer)
    }

    pub async fn recent(
        &self,
        address: &str,
        asked: &RecentAsked,
        patience: Option<Duration>,
    ) -> Result<Bytes, CallError> {
        let patience = patience.unwrap_or(ROWS_PATIENCE);
        self.ask(address, messages::RECENT, asked, patience).await
    }

    pub async fn flush(&self, address: &str) -> Result<(), CallError> {
        let answer = self.ask(address, messages::FLUSH, &(), FLUSH_PATIENCE);
        answer.await.map(drop)
    }

    pub async fn record(&self, address: &str, record: &Recorded) -> Result<(), CallError> {
        let answer = self.ask(address, messages::RECORD, record, RECORD_PATIENCE);
        answer.await.map(drop)
    }

    /// Has a part of a query computed. The answer takes as long as it takes.
    pub async fn part(&self, address: &str, body: Bytes) -> Result<PartAnswer, CallError> {
        let request = self
            .http
            .post(url(address, messages::PART))
            .header(AUTHORIZATION, format!("Bearer {}", self.secret))
            .body(body);
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status == StatusCode::OK {
            let pieces = answer.bytes_stream().map_err(unreachable);
            return Ok(PartAnswer::Frames(pieces.boxed()));
        }
        let bytes = answer.bytes().await.map_err(unreachable)?;
        if status == StatusCode::PRECONDITION_FAILED {
            let missing = serde_json::from_slice(&bytes);
            return missing.map(PartAnswer::Missing).map_err(|error| {
                CallError::Another(format!("it answers something else: {error}"))
            });
        }
        Err(CallError::Refused(format!("{status}: {}", shown(&bytes))))
    }

    async fn ask(
        &self,
        address: &str,
        path: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let request = self
            .http
            .post(url(address, path))
            .header(AUTHORIZATION, format!("Bearer {}", self.secret))
            .json(body)
            .timeout(patience);
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(bytes),
            StatusCode::CONFLICT => Err(CallError::Another(shown(&bytes))),
            _ => Err(CallError::Refused(format!("{status}: {}", shown(&bytes)))),
        }
    }
}

fn url(address: &str, path: &str) -> String {
    match address.contains("://") {
        true => format!("{address}{path}"),
        false => format!("http://{address}{path}"),
    }
}

fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(500).collect()
}

fn unreachable(error: reqwest::Error) -> CallError {
    let is_late = error.is_timeout();
    let text = format!("{:#}", anyhow::Error::from(error.without_url()));
    match is_late {
        true => CallError::Late(text),
        false => CallError::Unreachable(text),
    }
}

fn read(answer: &[u8]) -> Result<Hello, CallError> {
    serde_json::from_slice(answer)
        .map_err(|error| CallError::Another(format!("it answers something else: {error}")))
}
