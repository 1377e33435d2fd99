//! Merges segments into fewer, better compressed ones.
//!
//! [`policy`] decides, from the catalog's state alone, which segments of one table and day belong together;
//! [`merge`] reads them by series runs and writes their successor; [`compactor`] commits it and later deletes
//! what it replaced.
//!
//! Invariants:
//! - inputs of a merge are neighbours in write order, so that the result has a place in that order;
//! - a crashed job leaves only orphans: files count from the commit on;
//! - a commit whose inputs are gone is refused, and the job was for nothing.

pub mod compactor;
pub mod merge;
pub mod policy;

pub use compactor::{CompactError, Compactor, CompactorOptions};
