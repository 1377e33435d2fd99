//! Threads that compute queries, apart from those that serve connections.
//!
//! A query may compute for seconds without a pause. On the threads of the connections that would
//! keep the server from answering anybody, health checks too, and from noticing that the query's
//! client went away.
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// A pool of as many threads as there are processors; it ends when this is dropped.
#[derive(Debug)]
pub struct QueryThreads(Option<Runtime>);

impl QueryThreads {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self(Some(
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name("query")
                .enable_all()
                .build()?,
        )))
    }

    /// Where to spawn; `None` after the end.
    pub fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        // A task that computes must not hold up the end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
