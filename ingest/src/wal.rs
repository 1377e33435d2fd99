//! The write-ahead log: requests as they came, durable before they are acknowledged.
//!
//! What is logged is the request (database, protocol, time of receipt, body), not what became of
//! it, so that replaying runs the same code as receiving did, and logging costs no encoding. Many
//! requests share one object (a *group*), because every object costs a sync on a folder and money
//! on S3.
//!
//! - [`frame`]: how a group lies in an object; specified in `FORMAT.md`.
//! - [`writer`]: group commit in strict order, with 503 instead of waiting while the store is gone.
//! - [`replay`]: what is in the log after a position, and the fences that stop older processes.
//! - [`mod@latest_order`]: what others must know of a log whose node does not answer.
//! - [`durable_end`]: how later objects tell that an earlier one was acknowledged and is lost.
//! - [`truncate`]: deletes what segments cover.
//! - [`verify`]: whether a replay would succeed, for `tidelake verify`.
//! - [`metrics`], [`clock`]: what the server exports, and time, passed in so that tests can turn
//!   it.
//!
//! What never happens here:
//!
//! - An object is overwritten, or put without "if absent".
//! - A group is acknowledged or applied before all earlier ones of its epoch are durable.
//! - Two different groups are tried under one key by one process.
//! - A group that became durable is not applied, even when its clients were told 503: memory is
//!   always what a replay would give.
//! - A fence of an older epoch is deleted.
//! - A replay fences or passes over what was acknowledged, unless the operator accepts the loss.

use std::fmt;

use tidelake_catalog::snapshot;

pub mod clock;
pub mod durable_end;
pub mod frame;
pub mod latest_order;
pub mod metrics;
pub mod replay;
pub mod truncate;
pub mod verify;
pub mod writer;

#[cfg(test)]
mod simulation;

pub use frame::{ContentEncoding, Frame, OtlpFormat, Precision, Protocol, WriterId};
pub use latest_order::latest_order;
pub use metrics::WalMetrics;
pub use replay::{Loss, Replay, ReplayError, ReplayOptions, ReplayReport, ReplayedGroup};
pub use truncate::Truncator;
pub use writer::{Ack, Sink, WalError, WalOptions, WalState, WalWriter};

/// The sequence number of the first object of every epoch.
pub const FIRST_SEQ: u64 = 0;

/// Most groups that any writer may have in flight. An object this far beyond a missing one cannot
/// have been put while the missing one was being tried, so replay takes it as a sign of loss.
pub const MAX_IN_FLIGHT: usize = 16;

/// A place in a node's log: the object `seq` of `epoch`. As a bound it means everything before that
/// object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalPosition {
    /// Which life of the node.
    pub epoch: u64,
    /// Which object of that epoch, counted from [`FIRST_SEQ`].
    pub seq: u64,
}

impl WalPosition {
    /// The object after this one, in the same epoch.
    pub const fn next(self) -> Self {
        Self {
            epoch: self.epoch,
            seq: self.seq.saturating_add(1),
        }
    }
}

/// The first position that is not covered.
impl From<snapshot::WalPosition> for WalPosition {
    fn from(covered: snapshot::WalPosition) -> Self {
        Self {
            epoch: covered.epoch,
            seq: covered.next_seq,
        }
    }
}

/// As a bound: what is before the position is covered.
impl From<WalPosition> for snapshot::WalPosition {
    fn from(position: WalPosition) -> Self {
        Self {
            epoch: position.epoch,
            next_seq: position.seq,
        }
    }
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}
