//! From requests to segments: protocols, the write-ahead log, the buffer, the flush.
//!
//! In the order in which a write passes them:
//!
//! 1. [`wal`]: makes the request durable as it came, many in one object, before anybody is told "stored".
pub mod wal;
