//! Names for what is stored: label sets, matchers, times, tables, histograms.
//!
//! This module imports nothing else of the crate.

pub mod histogram;
pub mod labels;
pub mod limits;
pub mod matcher;
pub mod pattern;
pub mod schema;
pub mod time;
pub mod token;
pub mod tombstone;

pub use histogram::{Histogram, ResetHint, Span};
pub use labels::{Labels, LabelsBuilder, METRIC_NAME};
pub use limits::{Limits, LimitsOf};
pub use matcher::{MatchOp, Matcher, compile_within};
pub use schema::{
    Column, ColumnType, EXEMPLARS_TABLE, METRICS_TABLE, SchemaError, TIME_COLUMN, TableKind,
    TableSchema,
};
pub use time::{Day, TimeRange, TimeUnit};
pub use token::{INTERNAL_DATABASE, Permissions, Scope, ScramVerifier, Token, Tokens};
pub use tombstone::Tombstone;

/// Bits of the NaN that marks a series as gone (a "stale marker" in Prometheus' exposition of
/// remote write 1.0). It must survive every copy bit by bit, so compare bits, never values.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `value` is a stale marker, as opposed to an ordinary NaN.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
