//! The messages of remote read: `prompb/remote.proto` and `prompb/types.proto` of Prometheus, as
//! far as they are used here.
use tidelake_catalog::model;
use tidelake_catalog::model::histogram::ResetHint;

use crate::prometheus::chunks;

/// Numbers of `ReadRequest.ResponseType`.
pub const SAMPLES: i32 = 0;
/// See [`SAMPLES`].
pub const STREAMED_XOR_CHUNKS: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Query {
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LabelMatcher {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Sample {
    // Optional, so that -0 is not left out as if it were the default.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    #[prost(double, optional, tag = "3")]
    pub sum: Option<f64>,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub chunked_series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    pub query_index: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Chunk {
    #[prost(int64, tag = "1")]
    pub min_time_ms: i64,
    #[prost(int64, tag = "2")]
    pub max_time_ms: i64,
    #[prost(int32, tag = "3")]
    pub encoding: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

/// Labels in their order.
pub fn labels(labels: &model::Labels) -> Vec<Label> {
    labels
        .iter()
        .map(|(name, value)| Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect()
}

impl From<chunks::Chunk> for Chunk {
    fn from(chunk: chunks::Chunk) -> Self {
        let chunks::Chunk {
            encoding,
            min_time_ms,
            max_time_ms,
            data,
        } = chunk;
        Self {
            min_time_ms,
            max_time_ms,
            encoding: encoding as i32,
            data,
        }
    }
}

impl Histogram {
    /// A histogram at a time in ms.
    pub fn new(timestamp: i64, histogram: &model::Histogram) -> Self {
        let spans = |spans: &[model::Span]| {
            spans
                .iter()
                .map(|s| BucketSpan {
                    offset: s.offset,
                    length: s.length,
                })
                .collect()
        };
        Self {
            count_float: Some(histogram.count),
            sum: Some(histogram.sum),
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count_float: Some(histogram.zero_count),
            negative_spans: spans(&histogram.negative_spans),
            negative_counts: histogram.negative_counts.clone(),
            positive_spans: spans(&histogram.positive_spans),
            positive_counts: histogram.positive_counts.clone(),
            reset_hint: match histogram.reset_hint {
                ResetHint::Unknown => 0,
                ResetHint::Yes => 1,
                ResetHint::No => 2,
                ResetHint::Gauge => 3,
            },
            timestamp,
            custom_values: histogram.custom_values.clone(),
        }
    }
}
