//! Planning on a thread of its own.
//!
//! Parsing and planning recurse with the query and may take a while; the threads that serve other
//! queries have small stacks and should not wait. A thread per query costs tens of microseconds,
//! and the pages of its stack are only used as far as a query is deep.

use std::future::Future;

use tidelake_catalog::Environment;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::error::SqlError;

/// Reserved, not used: pages are touched as the stack grows.
const STACK_BYTES: usize = 64 << 20;

/// Runs the future that `work` makes on a thread with a large stack; what it spawns, on `threads`
/// if they are given. If the caller goes away, the future is dropped where it next waits. In a
/// simulation no thread may run beside the simulated time: it is done in place.
pub(super) async fn on_large_stack<T, W, F>(
    environment: &Environment,
    threads: Option<&Handle>,
    work: W,
) -> Result<T, SqlError>
where
    T: Send + 'static,
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<T, SqlError>>,
{
    if environment.is_simulated() {
        return work().await;
    }
    let runtime = threads.cloned().unwrap_or_else(Handle::current);
    let (mut answer, question) = oneshot::channel();
    std::thread::Builder::new()
        .name("sql-plan".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let result = runtime.block_on(async {
                tokio::select! {
                    result = work() => Some(result),
                    () = answer.closed() => None,
                }
            });
            if let Some(result) = result {
                // Nobody listens any more if this fails.
                let _ = answer.send(result);
            }
        })
        .map_err(|error| {
            SqlError::ResourcesExhausted(format!(
                "no thread to plan the query on: {error}; try again later"
            ))
        })?;
    question.await.unwrap_or_else(|_| {
        Err(SqlError::Internal(
            "planning the query failed unexpectedly".to_owned(),
        ))
    })
}
