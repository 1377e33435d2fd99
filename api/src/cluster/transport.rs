//! How a process reaches another: over HTTP, or in a simulation over a network that goes wrong.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, StatusCode};

use super::messages;

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
    /// There is no memory here for its answer.
    #[error("{0}")]
    TooLarge(String),
}

/// What another process answers when it is asked for a part.
pub enum PartAnswer {
    /// Pieces of frames.
    Frames(BoxStream<'static, Result<Bytes, CallError>>),
    /// These chunks have to come along.
    Missing(Vec<usize>),
}

/// Carries calls between processes of one store. A simulation has one of its own.
pub trait Transport: Send + Sync {
    /// Sends a body of JSON to a path of the process at an address, and returns its answer.
    fn call(
        &self,
        address: &str,
        path: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// Has a part of a query computed. The answer takes as long as it takes.
    fn part(&self, address: &str, body: Bytes)
    -> BoxFuture<'static, Result<PartAnswer, CallError>>;
}

/// Over HTTP, with the secret of the store.
pub struct Http {
    client: Client,
    secret: String,
}

impl Http {
    /// Whoever is called is shown the secret.
    ///
    /// # Errors
    /// If there can be no client.
    pub fn new(secret: &str) -> Result<Self, String> {
        let client = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(1))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            secret: secret.to_owned(),
        })
    }

    fn post(&self, address: &str, path: &str, body: Bytes) -> RequestBuilder {
        let url = match address.contains("://") {
            true => format!("{address}{path}"),
            false => format!("http://{address}{path}"),
        };
        let request = self.client.post(url).body(body);
        request.header(AUTHORIZATION, format!("Bearer {}", self.secret))
    }
}

impl Transport for Http {
    fn call(
        &self,
        address: &str,
        path: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let request = self.post(address, path, body).timeout(patience);
        let request = request.header(CONTENT_TYPE, "application/json");
        async move {
            let answer = request.send().await.map_err(unreachable)?;
            let status = answer.status();
            let bytes = answer.bytes().await.map_err(unreachable)?;
            match status {
                StatusCode::OK | StatusCode::NO_CONTENT => Ok(bytes),
                StatusCode::CONFLICT => Err(CallError::Another(shown(&bytes))),
                _ => Err(CallError::Refused(format!("{status}: {}", shown(&bytes)))),
            }
        }
        .boxed()
    }

    fn part(
        &self,
        address: &str,
        body: Bytes,
    ) -> BoxFuture<'static, Result<PartAnswer, CallError>> {
        let request = self.post(address, messages::PART, body);
        async move {
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
        .boxed()
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
