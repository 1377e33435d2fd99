//! What happened, in order: to compare two runs of a seed, and to read what led to a violation.

use std::fmt::{Arguments, Write};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Events of one seed.
#[derive(Debug)]
pub struct Trace {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Of all events; two runs that differ anywhere differ here.
    hash: u64,
    /// Only if somebody wants to read them.
    lines: Option<Vec<String>>,
    line: String,
}

impl Trace {
    pub fn new(keep: bool) -> Self {
        Self {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                hash: 0,
                lines: keep.then(Vec::new),
                line: String::new(),
            }),
        }
    }

    /// Notes an event with its time.
    pub fn note(&self, event: Arguments<'_>) {
        let inner = &mut *self.inner.lock();
        inner.line.clear();
        let at = self.began.elapsed();
        // Writing to a string does not fail.
        let _ = write!(
            inner.line,
            "{:>10}.{:03} {event}",
            at.as_secs(),
            at.subsec_millis()
        );
        inner.hash = inner.line.bytes().fold(inner.hash, |hash, byte| {
            (hash ^ u64::from(byte))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(5)
        });
        if let Some(lines) = &mut inner.lines {
            lines.push(inner.line.clone());
        }
    }

    /// The hash of all events, and the events if they were kept.
    pub fn take(&self) -> (u64, Vec<String>) {
        let inner = &mut *self.inner.lock();
        (inner.hash, inner.lines.take().unwrap_or_default())
    }
}

/// Notes an event: `note!(trace, "{} happened", what)`.
macro_rules! note {
    ($trace:expr, $($event:tt)*) => { $trace.note(format_args!($($event)*)) };
}
pub(crate) use note;
