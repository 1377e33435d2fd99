//! From request bodies to rows.
//!
//! In the order of the data:
//!
//! 1. [`content`]: bodies are decompressed, within limits.
//! 2. [`line_protocol`], [`remote_write`]: bytes become columns.
//! 3. [`series_registry`]: label sections as received become series numbers.
//! 4. [`rows`]: what comes out, the same for every protocol.
pub mod content;
pub mod line_protocol;
pub mod remote_write;
pub mod rows;
pub mod series_registry;
