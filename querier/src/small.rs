//! Small queries run on the thread of the connection; large ones go to the threads for queries.
//!
//! To hand a query over to another thread and its answer back takes as long as many a query. Work
//! therefore begins where it is asked for. Whatever is about to take long on the processor pauses
//! once before it begins (`large`), as does what waits for the store: from its first pause on the
//! work is done by other threads ([`Lane`](crate::lane::Lane) says which).

use std::future::Future;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

/// Rows and series that are read without a pause.
pub(crate) const FEW_ROWS: u64 = 16 << 10;
pub(crate) const FEW_SERIES: usize = 256;

/// Pauses before something large.
pub(crate) async fn large() {
    tokio::task::yield_now().await;
}

/// Does work here up to its first pause, and the rest on other threads, or in another task if there
/// are none. It stops when the returned future is dropped.
///
/// # Errors
/// If the threads end, or the work panics there.
pub async fn here_first<T: Send + 'static>(
    threads: Option<&Handle>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    let mut work = Box::pin(work);
    if let Some(done) = (&mut work).now_or_never() {
        return Ok(done);
    }
    there(threads, work).await
}

/// The same for work that is large: nothing of it is done here.
///
/// # Errors
/// As those of [`here_first`].
pub async fn there<T: Send + 'static>(
    threads: Option<&Handle>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    let mut task = JoinSet::new();
    match threads {
        Some(threads) => task.spawn_on(work, threads),
        None => task.spawn(work),
    };
    match task.join_next().await {
        Some(done) => done,
        // There is one.
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_goes_to_other_threads_when_it_pauses() {
        let others = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("others")
            .build()
            .unwrap();
        let name = || std::thread::current().name().unwrap_or_default().to_owned();
        let asked = name();
        let work = async move {
            let begun = name();
            large().await;
            (begun, name())
        };
        let (begun, ended) = here_first(Some(others.handle()), work).await.unwrap();
        assert_eq!((begun, ended.as_str()), (asked, "others"));
        assert_eq!(
            there(Some(others.handle()), async move { name() })
                .await
                .unwrap(),
            "others"
        );
        others.shutdown_background();
        let gone = here_first(None, std::future::ready(7)).await;
        assert_eq!(gone.unwrap(), 7);
    }
}
