//! From requests to segments: protocols, the write-ahead log, the buffer, the flush.
//!
//! In the order in which a write passes them ([`ingester`] is the whole way):
//!
//! 1. [`request`]: what comes in, and what becomes of it.
//! 2. [`prepare`]: [`content`] is decompressed, within limits; [`line_protocol`],
//!    [`exposition`], [`remote_write`] and [`otlp`] make columns of bytes ([`rows`]), [`retention`]
//!    says what is too old, [`label_limits`] what is too much;
//!    [`series_registry`] turns label sections as received into series numbers; new tables and
//!    columns are committed to the catalog.
//! 3. [`wal`]: the request as received is made durable, many in one object, before anybody is told
//!    "stored". [`write_clock`] says where it stands among all writes.
//! 4. [`buffer`]: its rows become visible to queries.
//!    [`tap`] shows copies of them to those who watch.
//! 5. [`flush`]: chunks of the buffer become segments, one commit names them and lets the log be
//!    cut.
pub mod buffer;
pub mod column;
pub mod content;
pub mod exposition;
pub mod flush;
pub mod ingester;
pub mod label_limits;
pub mod line_protocol;
pub mod otlp;
pub mod prepare;
mod protobuf;
pub mod registries;
pub mod remote_write;
pub mod request;
pub mod retention;
pub mod rows;
pub mod series_quota;
pub mod series_registry;
pub mod tap;
pub mod wal;
pub mod write_clock;

pub use ingester::{IngestOptions, Ingester};
pub use label_limits::LabelLimits;
pub use request::{IngestError, WriteOutcome, WriteRequest};
