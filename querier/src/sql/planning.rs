//! Planning on threads of its own.
//!
//! Parsing and planning recurse with the query and may take a while; the threads that serve other
//! queries have small stacks and should not wait. A thread that has nothing to plan ends after some
//! seconds, and its stack with it: the pages of a stack are only used as far as a query is deep.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tidelake_catalog::{Environment, panics};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::error::SqlError;

/// Reserved, not used: pages are touched as the stack grows.
const STACK_BYTES: usize = 64 << 20;
/// Queries that are planned at a time; others wait.
const MAX_THREADS: usize = 64;

/// Where queries are planned. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Planners(Arc<Threads>);

/// A runtime that runs nothing but blocking calls.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        // A query that is being planned must not hold up the end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Planners {
    /// Threads are started when there is something to plan.
    pub fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name("sql-plan")
            .thread_stack_size(STACK_BYTES)
            .max_blocking_threads(MAX_THREADS)
            .build()?;
        Ok(Self(Arc::new(Threads(Some(runtime)))))
    }

    /// Runs the future that `work` makes on a thread with a large stack; what it spawns, on
    /// `threads` if they are given. If the caller goes away, the future is dropped where it next
    /// waits. In a simulation no thread may run beside the simulated time: it is done in place.
    pub async fn run<T, W, F>(
        &self,
        environment: &Environment,
        threads: Option<&Handle>,
        work: W,
    ) -> Result<T, SqlError>
    where
        T: Send + 'static,
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, SqlError>>,
    {
        let planners = match &self.0.0 {
            Some(planners) if !environment.is_simulated() => planners,
            // On the heap: else every future above would have the room of all planning in it.
            _ => return Box::pin(work()).await,
        };
        let runtime = threads.cloned().unwrap_or_else(Handle::current);
        let (mut answer, question) = oneshot::channel();
        planners.spawn_blocking(move || {
            let result = runtime.block_on(async {
                tokio::select! {
                    result = panics::caught(async { work().await }) => Some(result),
                    () = answer.closed() => None,
                }
            });
            if let Some(result) = result {
                // Nobody listens any more if this fails.
                let _ = answer.send(result.unwrap_or_else(|panicked| Err(panicked.into())));
            }
        });
        question
            .await
            .unwrap_or_else(|_| Err(SqlError::Unavailable("the server stops".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session of a client is a chain of some thirty futures, each with the room of the next in
    /// it, and a build without optimization copies that room at each link.
    #[test]
    fn what_waits_for_planning_has_no_room_for_it() {
        let planners = Planners::new().unwrap();
        let environment = Environment::default();
        let waiting = planners.run(&environment, None, || async {
            let room = [1_u8; 100_000];
            tokio::task::yield_now().await;
            Ok(room.len())
        });
        assert!(size_of_val(&waiting) < 2048, "{}", size_of_val(&waiting));
    }
}
