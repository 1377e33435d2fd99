//! Native histograms: one value of a series that is a whole distribution.
//!
//! Source: Prometheus' native histogram specification and `prompb/types.proto` (remote write 1.0).
//! Counts are kept as absolute floats whatever the sender used (integer deltas included): PromQL
//! computes with floats only.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};

mod array;
mod bounds;
mod layout;

pub use array::{HistogramArray, HistogramArrayBuilder};
pub use bounds::exponential_bound;

/// Schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Gap to the previous span, in buckets; for the first span the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What a sender says about counter resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    /// Nothing known: compare with the previous histogram.
    #[default]
    Unknown,
    /// This histogram follows a reset.
    Yes,
    /// No reset since the previous one.
    No,
    /// A gauge histogram: resets have no meaning.
    Gauge,
}

/// A native histogram with exponential or custom buckets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// -4 to 8: exponential, base 2^(2^-schema); [`CUSTOM_BUCKETS_SCHEMA`]: bounds in
    /// `custom_values`.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations. A stale marker here marks the histogram series as gone.
    pub sum: f64,
    /// Buckets above zero.
    pub positive_spans: Vec<Span>,
    /// Absolute counts of the buckets above zero.
    pub positive_counts: Vec<f64>,
    /// Buckets below zero.
    pub negative_spans: Vec<Span>,
    /// Absolute counts of the buckets below zero.
    pub negative_counts: Vec<f64>,
    /// Upper bounds of custom buckets, ascending, without +Inf.
    pub custom_values: Vec<f64>,
    /// What the sender says about resets.
    pub reset_hint: ResetHint,
}

fn list(name: &str, item: DataType) -> Field {
    Field::new(
        name,
        DataType::List(Arc::new(Field::new("item", item, false))),
        false,
    )
}

fn span_type() -> DataType {
    DataType::Struct(Fields::from(vec![
        Field::new("offset", DataType::Int32, false),
        Field::new("length", DataType::UInt32, false),
    ]))
}

/// The Arrow type of a histogram column; see `FORMAT.md`.
pub fn data_type() -> DataType {
    let span = span_type();
    DataType::Struct(Fields::from(vec![
        Field::new("schema", DataType::Int32, false),
        Field::new("zero_threshold", DataType::Float64, false),
        Field::new("zero_count", DataType::Float64, false),
        Field::new("count", DataType::Float64, false),
        Field::new("sum", DataType::Float64, false),
        list("positive_spans", span.clone()),
        list("positive_counts", DataType::Float64),
        list("negative_spans", span),
        list("negative_counts", DataType::Float64),
        list("custom_values", DataType::Float64),
        Field::new("reset_hint", DataType::Int8, false),
    ]))
}
