//! Remote write 1.0 messages (`prometheus.WriteRequest`), as far as the tests need them.

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// A body with one series; samples are (value, milliseconds).
pub fn body(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Vec<u8> {
    let labels = labels.iter().map(|(name, value)| Label { name: (*name).to_owned(), value: (*value).to_owned() }).collect();
    let samples = samples.iter().map(|&(value, timestamp)| Sample { value, timestamp }).collect();
    let message = WriteRequest { timeseries: vec![TimeSeries { labels, samples }] };
    snap::raw::Encoder::new().compress_vec(&prost::Message::encode_to_vec(&message)).unwrap()
}
