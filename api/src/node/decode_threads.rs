//! Threads that read large writes, apart from those that serve connections.
//!
//! A body of a few kilobytes may hold millions of samples. To inflate and parse it takes up to
//! seconds without a pause, in which a thread of the connections would answer nothing: no health
//! check, no small write, no query.
use std::io;
use std::time::Duration;

use tidelake_catalog::panics::{self, Panicked};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::node::backend::{ContentEncoding, IngestError, WriteRequest};

/// Bodies with more bytes than this are large: they take up to ten milliseconds. Below it to change
/// threads costs more than it is worth.
const LARGE_BYTES: usize = 256 << 10;
/// The same for bodies of remote write after decompression, of which each byte is less work.
const LARGE_INFLATED_BYTES: usize = 1 << 20;
/// The same for encodings that say nothing reliable about it: gzip inflates to a thousand times as
/// much, zstd to more.
const LARGE_COMPRESSED_BYTES: usize = 1 << 10;
/// How long a large body waits for a thread.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// As many threads as there are processors, so that so many large bodies are parsed at once and
/// the others wait; they end when this is dropped.
#[derive(Debug)]
pub struct DecodeThreads(Option<Runtime>);

/// Why work was not done.
#[derive(Debug)]
pub enum DecodeError {
    /// No thread became free in time; it was not begun.
    Busy,
    /// It panicked.
    Panicked(Panicked),
}

impl DecodeThreads {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        Self::with(std::thread::available_parallelism().map_or(2, usize::from))
    }

    fn with(threads: usize) -> io::Result<Self> {
        Ok(Self(Some(
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name("decode")
                .enable_all()
                .build()?,
        )))
    }

    /// Runs work on these threads. Its waits keep no thread; once begun it runs to its end, whether
    /// or not this future is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, DecodeError> {
        self.run_within(MAX_WAIT, work).await
    }

    async fn run_within<T: Send + 'static>(
        &self,
        most: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, DecodeError> {
        let Some(runtime) = &self.0 else {
            return Err(DecodeError::Busy);
        };
        let (begin, begun) = oneshot::channel();
        let task = runtime.spawn(async move {
            // The other end is gone if the time was over: then nothing is begun.
            if begin.send(()).is_err() {
                return Err(DecodeError::Busy);
            }
            panics::caught(work).await.map_err(DecodeError::Panicked)
        });
        if tokio::time::timeout(most, begun).await.is_err() {
            task.abort();
            return Err(DecodeError::Busy);
        }
        // An error means that the threads end, with the process.
        task.await.unwrap_or(Err(DecodeError::Busy))
    }
}

impl Drop for DecodeThreads {
    fn drop(&mut self) {
        // A task that parses must not hold up the end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether a body takes long to read.
pub fn is_large(request: &WriteRequest) -> bool {
    let bytes = request.body.len();
    match request.encoding {
        ContentEncoding::Identity => bytes > LARGE_BYTES,
        // What cannot be read is refused at once.
        ContentEncoding::Snappy => snap::raw::decompress_len(&request.body)
            .is_ok_and(|inflated| inflated > LARGE_INFLATED_BYTES),
        ContentEncoding::Gzip | ContentEncoding::Zstd => bytes > LARGE_COMPRESSED_BYTES,
    }
}

/// Why a write was not done.
pub fn refusal(error: DecodeError) -> IngestError {
    match error {
        DecodeError::Busy => IngestError::Unavailable {
            reason: format!(
                "too many large bodies are being read: none of the threads became free in {} s; \
                 send smaller bodies, or send again later",
                MAX_WAIT.as_secs()
            ),
            retry_after_s: crate::service::error::RETRY_AFTER_S,
        },
        DecodeError::Panicked(id) => {
            IngestError::Internal(crate::service::error::ServiceError::from(id).message)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::node::backend::{Precision, Protocol};

    #[test]
    fn what_is_large() {
        let check = |encoding, body: Vec<u8>, expected| {
            let request = WriteRequest {
                database: "d".into(),
                protocol: Protocol::LineProtocol {
                    precision: Precision::Auto,
                },
                encoding,
                accept_partial: true,
                body: Bytes::from(body),
            };
            assert_eq!(is_large(&request), expected, "{encoding:?}");
        };
        let snappy = |bytes| {
            snap::raw::Encoder::new()
                .compress_vec(&vec![0; bytes])
                .unwrap()
        };
        check(ContentEncoding::Identity, vec![0; LARGE_BYTES], false);
        check(ContentEncoding::Identity, vec![0; LARGE_BYTES + 1], true);
        check(ContentEncoding::Snappy, snappy(LARGE_INFLATED_BYTES), false);
        check(
            ContentEncoding::Snappy,
            snappy(LARGE_INFLATED_BYTES + 1),
            true,
        );
        check(ContentEncoding::Snappy, vec![0xff; 1 << 20], false);
        check(ContentEncoding::Gzip, vec![0; 1 << 10], false);
        check(ContentEncoding::Gzip, vec![0; (1 << 10) + 1], true);
        check(ContentEncoding::Zstd, vec![0; (1 << 10) + 1], true);
    }

    #[tokio::test]
    async fn those_that_wait_too_long_are_refused_and_never_begun() {
        let threads = DecodeThreads::with(1).unwrap();
        let (free, blocked) = std::sync::mpsc::channel::<()>();
        let first = threads.run(async move { blocked.recv().is_ok() });
        let mut first = Box::pin(first);
        assert!(futures::poll!(&mut first).is_pending());
        let short = Duration::from_millis(20);
        let second = threads.run_within(short, async { unreachable!("it is not begun") });
        assert!(matches!(second.await, Err::<(), _>(DecodeError::Busy)));
        free.send(()).unwrap();
        assert!(matches!(first.await, Ok(true)));
        assert!(matches!(threads.run(async { 7 }).await, Ok(7)));
        let panics = threads.run(async { panic!("provoked by a test") });
        assert!(matches!(
            panics.await,
            Err::<(), _>(DecodeError::Panicked(_))
        ));
        assert!(matches!(threads.run(async { 8 }).await, Ok(8)));
    }
}
