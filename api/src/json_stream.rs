//! Answers that are written while they are sent: a large one is never in memory as a whole, and a
//! client that reads slowly is waited for.
use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};

/// An answer goes out in pieces of about this size.
const CHUNK_BYTES: usize = 64 << 10;

/// JSON that `write` appends bit by bit: each call adds a little, and returns whether there is
/// more.
///
/// What fits one piece is sent with its length, and is so not compressed if it is small.
pub fn json_response(mut write: impl FnMut(&mut Vec<u8>) -> bool + Send + 'static) -> Response {
    let (first, more) = chunk(&mut write);
    let body = if more {
        Body::from_stream(rest(first, write))
    } else {
        Body::from(first)
    };
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn chunk(write: &mut impl FnMut(&mut Vec<u8>) -> bool) -> (Bytes, bool) {
    let mut out = Vec::with_capacity(1024);
    let mut more = true;
    while more && out.len() < CHUNK_BYTES {
        more = write(&mut out);
    }
    (out.into(), more)
}

/// The first chunk and those that `write` still has, each written when it is asked for.
fn rest(
    first: Bytes,
    write: impl FnMut(&mut Vec<u8>) -> bool + Send,
) -> impl stream::Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::unfold((Some(first), Some(write)), async |(ready, write)| {
        if let Some(ready) = ready {
            return Some((Ok(ready), (None, write)));
        }
        let mut write = write?;
        let (ready, more) = chunk(&mut write);
        Some((Ok(ready), (None, more.then_some(write))))
    })
    // Whoever compresses it asks again after the end.
    .fuse()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    /// Writes `lines` lines of 1000 bytes, and counts them.
    fn lines(lines: usize) -> (Response, Arc<AtomicUsize>) {
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let response = json_response(move |out| {
            out.extend_from_slice(&[b'x'; 1000]);
            counter.fetch_add(1, Ordering::Relaxed) + 1 < lines
        });
        (response, written)
    }

    #[tokio::test]
    async fn small_answers_have_a_length_and_large_ones_are_written_as_they_are_read() {
        let (response, _) = lines(3);
        assert_eq!(
            axum::body::HttpBody::size_hint(response.body()).exact(),
            Some(3000)
        );
        let (response, written) = lines(1000);
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
        assert!(
            body.frame().await.is_none(),
            "after the end there is nothing"
        );
    }
}
