//! A write as it comes in, and what becomes of it.

use bytes::Bytes;

use crate::line_protocol::LineError;
use crate::wal::{ContentEncoding, Protocol};

/// A write request, its body as received.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// Where its points go; made if it is not there.
    pub database: String,
    /// How to read the body.
    pub protocol: Protocol,
    /// How to decompress the body.
    pub encoding: ContentEncoding,
    /// Whether good lines are kept when others are refused; if not, one bad line refuses all.
    pub accept_partial: bool,
    /// The body.
    pub body: Bytes,
}

/// How much was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines of line protocol, or float samples of remote write.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// What was written and what was refused. When this is returned, everything that was not refused is
/// durable and visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOutcome {
    /// What was kept.
    pub written: Written,
    /// What was refused and why, in order; a long list is cut. `line` is 0 where there are no
    /// lines.
    pub errors: Vec<LineError>,
    /// How much was refused, with what `errors` leaves out.
    pub refused: u64,
}

/// Why a write failed as a whole; what to do about it decides the kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The client must change the request.
    #[error("{0}")]
    BadRequest(String),
    /// The client must send less at a time.
    #[error("{0}")]
    TooLarge(String),
    /// The client must use another encoding.
    #[error("{0}")]
    Unsupported(String),
    /// The client should send the same again later.
    #[error("{reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
        /// After how many seconds to try again.
        retry_after_s: u64,
    },
    /// The client sends more than it may; it should go on with the same later.
    #[error("{reason}")]
    Throttled {
        /// Which limit.
        reason: String,
        /// After how many seconds to try again.
        retry_after_s: u64,
    },
    /// Another process took this node over; this one must exit.
    #[error("{0}")]
    Fenced(String),
    /// Somebody should look at this.
    #[error("{0}")]
    Internal(String),
}

impl IngestError {
    /// Something is missing that should be back soon.
    pub fn unavailable(reason: impl ToString) -> Self {
        Self::Unavailable {
            reason: reason.to_string(),
            retry_after_s: 1,
        }
    }
}
