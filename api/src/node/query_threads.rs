//! Threads that compute queries, apart from those that serve connections.
//!
//! A query may compute for seconds without a pause. On the threads of the connections that would
//! keep the server from answering anybody, health checks too, and from noticing that the query's
//! client went away.
use std::io;

use rustix::process::nice;
use tokio::runtime::{Builder, Handle, Runtime};

/// Two pools of as many threads as there are processors; they end when this is dropped.
#[derive(Debug)]
pub struct QueryThreads {
    usual: Option<Runtime>,
    /// For what reads many rows. The system prefers the others, so that a dashboard does not wait
    /// for a report.
    large: Option<Runtime>,
}

/// What the threads for many rows add to their niceness: a third of the processor beside another
/// that wants all of it.
const LARGE_NICENESS: i32 = 3;

impl QueryThreads {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let pool = |name: &str, niceness| {
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(name)
                .on_thread_start(move || {
                    // Of this thread; without it all are alike.
                    let _ = nice(niceness);
                })
                .enable_all()
                .build()
        };
        Ok(Self {
            usual: Some(pool("query", 0)?),
            large: Some(pool("query-large", LARGE_NICENESS)?),
        })
    }

    /// Where to spawn; `None` after the end.
    pub fn handle(&self) -> Option<Handle> {
        self.usual.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Where to read many rows.
    pub fn large(&self) -> Option<Handle> {
        self.large.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        // A task that computes must not hold up the end.
        for runtime in [self.usual.take(), self.large.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}
