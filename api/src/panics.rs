//! Panics: each is counted, logged with its backtrace under an id, and answered with that id.
//!
//! A panic is a defect. It must not look like a network failure to the client, and must not pass
//! unseen where only a background task ends.
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;
use tidelake_catalog::Environment;

use crate::error::{ApiError, Dialect, Kind};

static PANICS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The last panic of this thread, for the code that catches it there.
    static LAST: Cell<Option<PanicId>> = const { Cell::new(None) };
}

/// Random, so that it tells nothing, and can be searched for in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanicId(u64);

impl PanicId {
    fn draw() -> Self {
        Self(Environment::system().random() as u64)
    }
}

impl fmt::Display for PanicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<PanicId> for ApiError {
    fn from(id: PanicId) -> Self {
        ApiError::new(
            Kind::Internal,
            format!(
                "the server met a defect of its own; please report it with what its log says \
                 about panic {id}"
            ),
        )
    }
}

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
    let id = PanicId::draw();
    PANICS.fetch_add(1, Ordering::Relaxed);
    // The thread may be about to end.
    let _ = LAST.try_with(|last| last.set(Some(id)));
    let message = info.payload_as_str().unwrap_or("not a text");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        panic = %id,
        message,
        location,
        thread = thread.name().unwrap_or(""),
        "panicked: a defect of the server\n{}",
        Backtrace::force_capture()
    );
}

/// Runs work to its end, or to its panic.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, PanicId> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    // The work was polled by this thread when it panicked.
    caught.map_err(|_| LAST.take().unwrap_or_else(PanicId::draw))
}

/// A handler that panics is answered with 500, in the words of its path.
pub async fn answer(request: Request, next: Next) -> Response {
    let dialect = Dialect::of_path(request.uri().path());
    caught(next.run(request))
        .await
        .unwrap_or_else(|id| ApiError::from(id).respond(dialect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_has_an_id() {
        assert_eq!(caught(std::future::ready(1)).await, Ok(1));
        install();
        let before = count();
        let id = caught(async { panic!("provoked by a test") })
            .await
            .map(|(): ()| ())
            .unwrap_err();
        assert_eq!(LAST.take(), None, "its id is used once");
        assert!(count() > before);
        assert_eq!(id.to_string().len(), 16);
        let error = ApiError::from(id);
        assert_eq!(error.status().as_u16(), 500);
        assert!(error.message.contains(&id.to_string()));
    }
}
