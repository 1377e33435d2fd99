//! The threads that merges compute on, chosen anew for each unit: merges that nobody waits for
//! leave the processors to queries, and those that writes wait for do not.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Where merges compute. Clones are of the same threads.
#[derive(Debug, Clone, Default)]
pub struct MergeThreads {
    usual: Option<Handle>,
    urgent: Option<Handle>,
    is_urgent: Arc<AtomicBool>,
}

impl MergeThreads {
    /// Threads for usual times, and those for when merges are urgent; without any merges are done
    /// where they are asked for.
    pub fn new(usual: Option<Handle>, urgent: Option<Handle>) -> Self {
        Self {
            usual,
            urgent,
            is_urgent: Arc::default(),
        }
    }

    /// Whether merges are urgent from their next unit on.
    pub fn hurry(&self, is_urgent: bool) {
        self.is_urgent.store(is_urgent, Ordering::Relaxed);
    }

    /// Where all but the units of merges is done.
    pub fn usual(&self) -> Option<&Handle> {
        self.usual.as_ref()
    }

    /// Does a part of a merge; it ends when the returned future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let threads = match self.is_urgent.load(Ordering::Relaxed) {
            true => &self.urgent,
            false => &self.usual,
        };
        let Some(threads) = threads else {
            return work.await;
        };
        let mut task = JoinSet::new();
        task.spawn_on(work, threads);
        match task.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // The threads end, with the process.
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[tokio::test]
    async fn the_next_unit_of_an_urgent_merge_is_done_elsewhere() {
        let threads = |name: &str| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(1).thread_name(name).build().unwrap()
        };
        let name = || std::thread::current().name().unwrap_or_default().to_owned();
        let (usual, urgent) = (threads("usual"), threads("urgent"));
        let handle = |runtime: &tokio::runtime::Runtime| Some(runtime.handle().clone());
        let merges = MergeThreads::new(handle(&usual), handle(&urgent));
        assert_eq!(merges.run(async move { name() }).await, "usual");
        merges.clone().hurry(true);
        assert_eq!(merges.run(async move { name() }).await, "urgent");
        merges.hurry(false);
        assert_eq!(merges.run(async move { name() }).await, "usual");
        usual.shutdown_background();
        urgent.shutdown_background();
        let here = name();
        assert_eq!(
            MergeThreads::default().run(async move { name() }).await,
            here
        );
    }

    #[tokio::test]
    #[should_panic(expected = "provoked by a test")]
    async fn a_panic_is_that_of_the_merge() {
        let threads = MergeThreads::new(Some(Handle::current()), None);
        threads.run(async { panic!("provoked by a test") }).await
    }
}
