//! The vocabulary of Tidelake: what a series, a table and a segment are, where they lie on the
//! object store, and which of them exist.
//!
//! In the order in which data meets it:
//!
//! 1. [`model`]: label sets, matchers, time ranges, table schemas, native histograms.
//! 2. [`segment`]: sorted rows, their Parquet form with a series index, merging and scanning.
//! 3. [`segment_upload`]: how a segment gets to the store; [`store`]: put-if-absent, get and list on
//!    S3, a folder or memory; [`keys`]: the names of all objects.
//! 4. [`record`]: what one commit says; [`apply`]: what must hold for it, and the state after it.
//! 5. `log` and `checkpoint`: records and whole states on the store.
//! 6. [`catalog`]: the operations, and the present state as an immutable [`snapshot`]; [`dump`]:
//!    the log as JSON; [`verify`]: whether all of it is true.
//!
//! [`environment`] is what all of this takes from the machine: clock, random numbers, threads.
//!
//! `FORMAT.md` beside this crate specifies all that is stored. What always holds:
//!
//! - The log is a sequence without gaps; no record is ever overwritten or deleted, and only
//!   put-if-absent adds one.
//! - No record is in the log that does not fit the records before it: this is checked when it is
//!   written and again when it is read.
//! - No record of an epoch follows the registration of a newer epoch of the same node.
//! - No file is named before its bytes are durable, and no write-ahead log object is passed over
//!   before its rows are.
//! - A snapshot never changes, and no reader waits for a writer.
//! - Nothing is found by listing data: a file that no commit names does not exist.
pub mod apply;
pub mod background;
pub mod catalog;
mod checkpoint;
pub mod dump;
pub mod environment;
pub mod keys;
mod log;
pub mod memory;
pub mod model;
pub mod panics;
pub mod record;
pub mod segment;
pub mod segment_upload;
pub mod snapshot;
pub mod store;
pub mod verify;

pub use apply::Refusal;
pub use catalog::{
    Announcer, AsOf, Catalog, CatalogError, CatalogOptions, Covered, NameLimits, NewToken, Readers,
    TableColumns,
};
pub use environment::Environment;
pub use snapshot::{
    Database, MetricKind, MetricMetadata, Node, Policies, Registration, Retention, Retired, Roles,
    SegmentId, SegmentMeta, SegmentRef, Snapshot, Table, WalPosition, base_database,
};
pub use store::{ObjectInfo, PutOutcome, S3Settings, Store, StoreError};
