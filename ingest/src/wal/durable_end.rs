//! How far the objects of an epoch were durable, as later ones of the epoch say.
//!
//! A number below that end whose object is gone was acknowledged and is lost. A number from it on
//! may have been in flight when the process died. Every header has the end that its writer knew;
//! also, an object has at most [`MAX_IN_FLIGHT`] numbers in flight, itself included, so that its
//! number alone tells a lower end.

use std::collections::BTreeSet;
use std::fmt;

use super::frame::{self, least_durable_end};
use super::{FIRST_SEQ, MAX_IN_FLIGHT, WalPosition};

/// An end, and the object that tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableEnd {
    /// The object.
    pub key: String,
    /// Everything of its epoch before this was durable when the object was composed.
    pub end: WalPosition,
}

impl fmt::Display for DurableEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, end } = self;
        write!(
            f,
            "{key} was written when everything before {end} was durable"
        )
    }
}

/// The objects of an epoch whose headers tell its furthest end: the last ones, as ends do not
/// decrease. A fence, which has an end as well, is followed by at most what was in flight.
pub(super) fn witnesses(listed: &BTreeSet<WalPosition>, epoch: u64) -> Vec<WalPosition> {
    let first = WalPosition {
        epoch,
        seq: FIRST_SEQ,
    };
    let end = WalPosition {
        epoch: epoch.saturating_add(1),
        seq: FIRST_SEQ,
    };
    listed
        .range(first..end)
        .rev()
        .take(2 * MAX_IN_FLIGHT)
        .copied()
        .collect()
}

/// Takes the end that the object at `position` tells, if it is further. The object may be damaged
/// or not its own.
pub(super) fn extend(
    furthest: &mut Option<DurableEnd>,
    key: String,
    position: WalPosition,
    object: &[u8],
) {
    let told = match frame::decode_header(object) {
        Ok(header) if (header.epoch, header.seq) == (position.epoch, position.seq) => {
            header.durable_end
        }
        _ => FIRST_SEQ,
    };
    let end = WalPosition {
        epoch: position.epoch,
        seq: told.max(least_durable_end(position.seq)),
    };
    if furthest.as_ref().is_none_or(|furthest| furthest.end < end) {
        *furthest = Some(DurableEnd { key, end });
    }
}
