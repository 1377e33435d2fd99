//! The vocabulary of Tidelake: what a series, a table and a segment are, where they lie on the
//! object store, and which of them exist.
//!
//! In the order in which data meets it:
//!
//! 1. [`model`]: label sets, matchers, time ranges, table schemas, native histograms.
//! 2. [`segment`]: sorted rows, their Parquet form with a series index, merging and scanning.
pub mod model;
pub mod segment;
