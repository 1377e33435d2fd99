//! Panics: each is counted, logged with its backtrace under an id, and becomes an error with that
//! id.
//!
//! A panic is a defect. It must not look like a network failure to the client, and must not pass
//! unseen where only a background task ends.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use crate::Environment;

static PANICS: AtomicU64 = AtomicU64::new(0);
/// The last panic of the process.
static LATEST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The last panic of this thread, for the code that catches it there.
    static LAST: Cell<Option<Panicked>> = const { Cell::new(None) };
}

/// Something panicked. The id is random, so that it tells nothing, and can be searched for in the
/// log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server met a defect of its own; please report it with what its log says about panic \
     {0:016x}"
)]
pub struct Panicked(u64);

/// Panics since the start, of all threads.
pub fn count() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// From now on panics of this process are counted, and logged instead of printed.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(report)));
}

fn report(info: &PanicHookInfo<'_>) {
    let id = Environment::system().random() as u64;
    PANICS.fetch_add(1, Ordering::Relaxed);
    LATEST.store(id, Ordering::Relaxed);
    // The thread may be about to end.
    let _ = LAST.try_with(|last| last.set(Some(Panicked(id))));
    let message = info.payload_as_str().unwrap_or("not a text");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        panic = %format_args!("{id:016x}"),
        message,
        location,
        thread = thread.name().unwrap_or(""),
        "panicked: a defect of the server\n{}",
        Backtrace::force_capture()
    );
}

/// Runs work that is a call.
///
/// # Errors
/// [`Panicked`] if it panics.
pub fn caught_call<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    LAST.set(None);
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        // One that was passed on from another thread is most likely the latest.
        let latest = || Panicked(LATEST.load(Ordering::Relaxed));
        LAST.take().unwrap_or_else(latest)
    })
}

/// Runs work to its end.
///
/// # Errors
/// [`Panicked`] if it panics.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    poll_fn(|cx| match caught_call(|| work.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_has_an_id() {
        assert_eq!(caught(std::future::ready(1)).await, Ok(1));
        install();
        let before = count();
        let panic = || async { panic!("provoked by a test") };
        let first: Result<(), _> = caught(panic()).await;
        assert_eq!(LAST.take(), None, "its id is used once");
        assert!(count() > before);
        let second: Result<(), _> = caught(panic()).await;
        assert_ne!(first, second);
        assert!(first.unwrap_err().to_string().contains(" panic "));
    }

    #[tokio::test]
    async fn a_panic_of_another_thread_has_the_id_under_which_it_was_logged() {
        install();
        let passed_on = async {
            let environment = Environment::system();
            let there = environment.run_blocking(|| panic!("provoked by a test"));
            std::panic::resume_unwind(there.await.unwrap_err().into_panic())
        };
        let panicked: Result<(), _> = caught(passed_on).await;
        assert_ne!(panicked, Err(Panicked(0)));
    }
}
