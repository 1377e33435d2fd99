//! Asks another process.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Serialize;
use tidelake_catalog::{Environment, PutOutcome, Store, StoreError, keys};

use super::messages::{self, Hello, RecentAsked, Recorded, Seen};
use super::transport::{CallError, PartAnswer, Transport};

/// How long a flush may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(120);
/// How long a write may take.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);
/// How long rows may take to come.
const ROWS_PATIENCE: Duration = Duration::from_secs(20);

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

/// What processes ask each other, over any transport.
pub struct Calls(Arc<dyn Transport>);

impl Calls {
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Self(transport)
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

    pub async fn part(&self, address: &str, body: Bytes) -> Result<PartAnswer, CallError> {
        self.0.part(address, body).await
    }

    async fn ask(
        &self,
        address: &str,
        path: &'static str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let body = serde_json::to_vec(body);
        let body = body.map_err(|error| CallError::Refused(error.to_string()))?;
        self.0.call(address, path, body.into(), patience).await
    }
}

fn read(answer: &[u8]) -> Result<Hello, CallError> {
    serde_json::from_slice(answer)
        .map_err(|error| CallError::Another(format!("it answers something else: {error}")))
}
