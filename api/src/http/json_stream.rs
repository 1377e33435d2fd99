//! Answers that are written while they are sent: a large one is never in memory as a whole, and a
//! client that reads slowly is waited for, within limits.
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;

use crate::http::paced_body::{CHUNK_BYTES, Pace};
use crate::service::error::ServiceError;
use crate::service::slots::QuerySlot;

/// JSON that `write` appends bit by bit: each call adds a little, and returns whether there is
/// more. The slot is kept as long as `write` is.
///
/// What fits one chunk is sent with its length, and is so not compressed if it is small.
///
/// # Errors
/// None at present: `write` cannot fail.
pub async fn json_response(
    write: impl FnMut(&mut Vec<u8>) -> bool + Send + 'static,
    pace: &Pace,
    slot: QuerySlot,
) -> Result<Response, ServiceError> {
    let mut rest = Some(write);
    let chunks = std::iter::from_fn(move || {
        let (chunk, more) = chunk(rest.as_mut()?);
        if !more {
            rest = None;
        }
        Some(Ok(chunk))
    });
    let body = pace.body(stream::iter(chunks), slot).await?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

fn chunk(write: &mut impl FnMut(&mut Vec<u8>) -> bool) -> (Bytes, bool) {
    let mut out = Vec::with_capacity(1024);
    let mut more = true;
    while more && out.len() < CHUNK_BYTES {
        more = write(&mut out);
    }
    (out.into(), more)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::service::slots::{Language, QuerySlots};

    /// Writes `lines` lines of 1000 bytes, and counts them.
    async fn lines(lines: usize) -> (Response, Arc<AtomicUsize>) {
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let pace = Pace::patient();
        let slots = QuerySlots::new(1, Duration::ZERO);
        let slot = slots.enter(Language::Promql).await.unwrap();
        let write = move |out: &mut Vec<u8>| {
            out.extend_from_slice(&[b'x'; 1000]);
            counter.fetch_add(1, Ordering::Relaxed) + 1 < lines
        };
        (json_response(write, &pace, slot).await.unwrap(), written)
    }

    #[tokio::test]
    async fn small_answers_have_a_length_and_large_ones_are_written_as_they_are_read() {
        let (response, _) = lines(3).await;
        assert_eq!(
            axum::body::HttpBody::size_hint(response.body()).exact(),
            Some(3000)
        );
        let (response, written) = lines(1000).await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let mut body = response.into_body();
        assert_eq!(axum::body::HttpBody::size_hint(&body).exact(), None);
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
            let ahead = written.load(Ordering::Relaxed) * 1000 - read;
            assert!(ahead <= CHUNK_BYTES + 1000, "{ahead} bytes wait");
        }
        assert_eq!(read, 1_000_000);
    }
}
