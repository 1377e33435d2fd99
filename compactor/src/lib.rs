//! Merges segments into fewer, better compressed ones.
//!
//! [`policy`] decides, from the catalog's state alone, which segments of one table and day belong
//! together; `merge` reads them by series runs and writes their successor; [`compactor`] commits
//! it, on [`MergeThreads`] and in the order of `turns`; [`garbage`] later deletes what nothing
//! names any more. What is damaged is in [`quarantine`].
//!
//! Invariants:
//! - whatever stays and shares times with the inputs of a merge is newer than all of them or older
//!   than all of them, so that the result has a place in the write order;
//! - no merge reads a file that is not, byte by byte, what the catalog says, and no damaged segment
//!   is dropped;
//! - a crashed job leaves only orphans: files count from the commit on;
//! - a commit whose inputs are gone is refused, and the job was for nothing.

pub mod compactor;
pub mod garbage;
mod merge;
mod merge_threads;
pub mod policy;
pub mod quarantine;
mod turns;

pub use compactor::{CompactError, Compactor, CompactorCounters, CompactorOptions};
pub use merge_threads::MergeThreads;
