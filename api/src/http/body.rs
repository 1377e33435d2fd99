//! Request bodies: read within a limit for the one and a budget for all.
//!
//! The memory of a body is counted as it comes, so that any number of connections together hold at
//! most the budget, and those that announce much and send nothing hold none.
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};

use crate::node::backend::ContentEncoding;
use crate::service::error::{Code, ServiceError};

/// A body that begins to come has so much memory, if it is announced to be as large.
const AHEAD_BYTES: usize = 1 << 20;
/// How long a body waits for memory.
const MEMORY_WAIT: Duration = Duration::from_millis(500);
/// A client that goes on sending after the limit is heard out for so much and so long: closing at
/// once would reset the connection, and many clients then never see the 413.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Memory for request bodies: a share of the process' memory.
#[derive(Debug)]
pub struct BodyBudget {
    memory: Arc<MemoryBudget>,
}

/// A body and its share of the budget, given back when dropped.
#[derive(Debug)]
pub struct HeldBody {
    /// As received.
    pub bytes: Bytes,
    _share: Option<Reservation>,
}

impl BodyBudget {
    /// Bodies that count in a share of their own.
    pub fn new(memory: Arc<MemoryBudget>) -> Self {
        Self { memory }
    }

    /// Waits for memory for so many bytes of a body, for a short time.
    ///
    /// # Errors
    /// [`Code::Unavailable`]
    pub async fn reserve(&self, bytes: usize) -> Result<Reservation, ServiceError> {
        let reserved = self.memory.reserve(Share::Bodies, bytes);
        match tokio::time::timeout(MEMORY_WAIT, reserved).await {
            Ok(Ok(share)) => Ok(share),
            Ok(Err(error)) => Err(ServiceError::unavailable(format!(
                "the request body does not fit the memory for request bodies: {error}"
            ))),
            Err(_) => Err(ServiceError::unavailable(
                "too many request bodies are in memory; send again later",
            )),
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<HeldBody, ServiceError> {
        let announced = headers.get(CONTENT_LENGTH).and_then(length);
        if announced.is_some_and(|n| n > limit) {
            // Who asked before sending ("Expect") has not sent anything yet.
            if !headers.contains_key(EXPECT) {
                drain(body).await;
            }
            return Err(too_large(limit));
        }
        self.collect(body, limit, announced.unwrap_or_default())
            .await
    }

    async fn collect(
        &self,
        mut body: Body,
        limit: usize,
        announced: usize,
    ) -> Result<HeldBody, ServiceError> {
        let (mut counted, mut share): (usize, Option<Reservation>) = (0, None);
        let mut first = Bytes::new();
        let mut whole: Option<BytesMut> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| {
                ServiceError::bad_request(format!("the request body ended early: {e}"))
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let have = whole.as_ref().map_or(first.len(), BytesMut::len);
            let wanted = have + data.len();
            if wanted > limit {
                drain(body).await;
                return Err(too_large(limit));
            }
            if wanted > counted {
                // What is announced is not there yet: a body has memory for as much again as came.
                let ahead = (2 * wanted).clamp(AHEAD_BYTES, limit.max(AHEAD_BYTES));
                let more = ahead.min(announced.max(wanted)).max(wanted);
                let taken = self.reserve(more - counted).await?;
                match &mut share {
                    Some(share) => share.merge(taken),
                    None => share = Some(taken),
                }
                counted = more;
            }
            match &mut whole {
                None if first.is_empty() => first = data,
                None => {
                    let mut joined = BytesMut::with_capacity(counted);
                    joined.extend_from_slice(&first);
                    joined.extend_from_slice(&data);
                    whole = Some(joined);
                }
                Some(whole) => {
                    whole.reserve(counted - whole.len());
                    whole.extend_from_slice(&data);
                }
            }
        }
        Ok(HeldBody {
            bytes: whole.map_or(first, BytesMut::freeze),
            _share: share,
        })
    }
}

fn length(value: &HeaderValue) -> Option<usize> {
    value.to_str().ok()?.trim().parse().ok()
}

fn too_large(limit: usize) -> ServiceError {
    ServiceError::new(
        Code::TooLarge,
        format!("the request body is larger than {limit} bytes; send smaller batches"),
    )
}

async fn drain(mut body: Body) {
    let reading = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let n = frame.data_ref().map_or(0, Bytes::len);
            if n > left {
                break;
            }
            left -= n;
        }
    };
    // In time or not, the answer is the same.
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

/// How a body of text is compressed.
pub fn content_encoding(headers: &HeaderMap) -> Result<ContentEncoding, ServiceError> {
    let value = headers
        .get(CONTENT_ENCODING)
        .map_or("", |v| v.to_str().unwrap_or("?"));
    match value.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(ContentEncoding::Identity),
        "gzip" | "x-gzip" => Ok(ContentEncoding::Gzip),
        "zstd" => Ok(ContentEncoding::Zstd),
        other => Err(ServiceError::new(
            Code::Unsupported,
            format!("content encoding {other:?} is not supported; send identity, gzip or zstd"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::http::error::Dialect;

    fn memory(bytes: usize) -> (Arc<MemoryBudget>, BodyBudget) {
        let memory = Arc::new(MemoryBudget::new(1 << 30).with_cap(Share::Bodies, bytes));
        (Arc::clone(&memory), BodyBudget::new(memory))
    }

    fn chunks(parts: &[&'static str]) -> Body {
        let parts: Vec<Result<Bytes, std::io::Error>> = parts
            .iter()
            .map(|p| Ok(Bytes::from_static(p.as_bytes())))
            .collect();
        Body::from_stream(stream::iter(parts))
    }

    async fn check(
        parts: &[&'static str],
        announced: Option<usize>,
        limit: usize,
        expected: Result<&str, u16>,
    ) {
        let (memory, budget) = memory(1 << 20);
        let mut headers = HeaderMap::new();
        if let Some(n) = announced {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(n));
        }
        let got = budget.read(&headers, chunks(parts), limit).await;
        match (&got, expected) {
            (Ok(held), Ok(text)) => assert_eq!(held.bytes, text.as_bytes()),
            (Err(error), Err(status)) => assert_eq!(error.status(Dialect::Influx).as_u16(), status),
            other => panic!("{other:?}"),
        }
        drop(got);
        assert_eq!(memory.used(), 0, "the memory is given back");
    }

    #[tokio::test]
    async fn bodies_within_and_beyond_the_limit() {
        check(&[], Some(0), 5, Ok("")).await;
        check(&[], None, 5, Ok("")).await;
        check(&["abc"], Some(3), 5, Ok("abc")).await;
        check(&["abc", "de"], None, 5, Ok("abcde")).await;
        check(&["a", "b", "c"], Some(3), 5, Ok("abc")).await;
        check(&["abc", "def"], None, 5, Err(413)).await;
        check(&["abcdef"], Some(6), 5, Err(413)).await;
        check(&["abcdef"], Some(3), 5, Err(413)).await;
    }

    #[tokio::test]
    async fn more_than_the_budget_gets_503() {
        let (_, budget) = memory(4096);
        let headers = HeaderMap::new();
        let read = |part| budget.read(&headers, chunks(part), 10_000);
        let held = read(&["abc"]).await.unwrap();
        let large: &'static str = Box::leak("x".repeat(4096).into_boxed_str());
        let refused = budget.read(&headers, chunks(&[large]), 10_000).await;
        assert_eq!(refused.unwrap_err().status(Dialect::Text).as_u16(), 503);
        drop(held);
        assert!(
            budget
                .read(&headers, chunks(&[large]), 10_000)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn announced_bytes_take_no_memory() {
        let (memory, budget) = memory(8 << 20);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(8 << 20));
        let silent = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let mut waiting: Vec<_> = (0..8)
            .map(|_| Box::pin(budget.read(&headers, silent(), 8 << 20)))
            .collect();
        for read in &mut waiting {
            assert!(futures::poll!(read).is_pending());
        }
        assert_eq!(memory.used(), 0);
        let other = budget.read(&HeaderMap::new(), chunks(&["abc"]), 10).await;
        assert_eq!(other.unwrap().bytes, "abc");
    }
}
