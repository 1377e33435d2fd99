//! Threads of the ingester: its write-ahead log, which puts rows into the buffer, and its flushes.
//!
//! The rows of a large write take up to a second to go into the buffer. On a thread of the
//! connections all that it serves would wait for that.
use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinError;

/// One applies rows while the other flushes, looks for fences, or talks to the store.
const THREADS: usize = 2;

/// The threads; they end when this is dropped, without waiting for what runs there.
#[derive(Debug)]
pub struct IngestThreads(Option<Runtime>);

impl IngestThreads {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        Ok(Self(Some(
            Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("ingest")
                .enable_all()
                .build()?,
        )))
    }

    /// Runs work there; what it spawns stays there.
    ///
    /// # Errors
    /// If the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        match &self.0 {
            Some(runtime) => runtime.spawn(work).await,
            // Only while this is dropped.
            None => tokio::spawn(work).await,
        }
    }
}

impl Drop for IngestThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
