//! Work that goes on in the background for as long as the process lives.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

/// Pause after a panic: a defect that comes back at once must not fill the log.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Runs work until it returns. When it panics, that is logged, and after a pause it is begun anew:
/// a defect in one round must not stop flushes or merges for ever.
///
/// Only for work that may be broken off anywhere. What must not go on after a panic, as the
/// write-ahead log, ends instead.
pub async fn supervised<W: Future<Output = ()>>(name: &'static str, mut work: impl FnMut() -> W) {
    while let Err(panic) = AssertUnwindSafe(async { work().await })
        .catch_unwind()
        .await
    {
        tracing::error!(
            task = name,
            panic = text_of(&*panic),
            restart_in_s = RESTART_PAUSE.as_secs(),
            "a background task panicked, a defect; it begins anew"
        );
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("not a text")
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_begins_anew_after_a_pause() {
        let (begun, mut rounds) = (Instant::now(), 0);
        supervised("test", || {
            rounds += 1;
            let round = rounds;
            async move { assert!(round == 3, "provoked by a test") }
        })
        .await;
        assert_eq!(rounds, 3);
        assert_eq!(begun.elapsed(), RESTART_PAUSE * 2);
    }
}
