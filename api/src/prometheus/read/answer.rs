//! Series as the two kinds of answers of remote read carry them.
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::messages::{self, ChunkedReadResponse, ChunkedSeries, Sample, TimeSeries};
use crate::node::backend::SeriesSamples;
use crate::prometheus::chunks::{Chunk, ChunkWriter};

/// Chunks of one frame. Prometheus takes every frame for a series of its own, so that a series
/// should be in one; it refuses frames of more than 50 MB.
const FRAME_BYTES: usize = 16 << 20;

/// Appends frames with a series; `query` is the position of the query that it answers.
pub fn write_frames(out: &mut Vec<u8>, query: usize, series: &SeriesSamples) {
    let mut frame = Vec::new();
    let mut bytes = 0;
    for chunk in chunks(series) {
        bytes += chunk.data.len();
        frame.push(chunk.into());
        if bytes >= FRAME_BYTES {
            write_frame(out, query, series, std::mem::take(&mut frame));
            bytes = 0;
        }
    }
    if !frame.is_empty() {
        write_frame(out, query, series, frame);
    }
}

fn chunks(series: &SeriesSamples) -> Vec<Chunk> {
    let mut writer = ChunkWriter::default();
    let mut histograms = series.histograms.iter().peekable();
    let mut chunks = Vec::with_capacity(
        series.times.len() / usize::from(crate::prometheus::chunks::MAX_SAMPLES) + 1,
    );
    for (at, (time, value)) in series.times.iter().zip(&series.values).enumerate() {
        let ended = match histograms.next_if(|(position, _)| *position as usize == at) {
            Some((_, histogram)) => writer.histogram(*time, histogram),
            None => writer.float(*time, *value),
        };
        chunks.extend(ended);
    }
    chunks.extend(writer.end());
    chunks
}

/// Its length, its checksum, and the message.
fn write_frame(
    out: &mut Vec<u8>,
    query: usize,
    series: &SeriesSamples,
    chunks: Vec<messages::Chunk>,
) {
    let series = ChunkedSeries {
        labels: messages::labels(&series.labels),
        chunks,
    };
    let message = ChunkedReadResponse {
        chunked_series: vec![series],
        query_index: query as i64,
    }
    .encode_to_vec();
    encode_varint(message.len() as u64, out);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}

/// Appends a series as field 1 of a `QueryResult`.
pub fn write_series(out: &mut Vec<u8>, series: &SeriesSamples) {
    let mut message = TimeSeries {
        labels: messages::labels(&series.labels),
        ..TimeSeries::default()
    };
    let mut histograms = series.histograms.iter().peekable();
    for (at, (time, value)) in series.times.iter().zip(&series.values).enumerate() {
        match histograms.next_if(|(position, _)| *position as usize == at) {
            Some((_, histogram)) => message
                .histograms
                .push(messages::Histogram::new(*time, histogram)),
            None => message.samples.push(Sample {
                value: Some(*value),
                timestamp: *time,
            }),
        }
    }
    write_part(out, &message.encode_to_vec());
}

/// Appends bytes as field 1 of a message: a `QueryResult` of a `ReadResponse` too.
pub fn write_part(out: &mut Vec<u8>, bytes: &[u8]) {
    encode_key(1, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidelake_catalog::model::{Histogram, Labels};

    use super::*;

    fn series() -> SeriesSamples {
        SeriesSamples {
            labels: Labels::from_pairs([("__name__", "a"), ("b", "c")]),
            times: vec![1000, 2000, 3000].into(),
            values: vec![1.5, f64::NAN, -0.0].into(),
            histograms: vec![(
                1,
                Arc::new(Histogram {
                    count: 4.0,
                    ..Histogram::default()
                }),
            )],
            ..SeriesSamples::default()
        }
    }

    #[test]
    fn a_frame_is_length_checksum_and_message() {
        let mut out = Vec::new();
        write_frames(&mut out, 3, &series());
        let mut rest = &out[..];
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (checksum, message) = rest.split_at(4);
        assert_eq!(
            (checksum, message.len()),
            (&crc32c::crc32c(message).to_be_bytes()[..], length)
        );
        let message = ChunkedReadResponse::decode(message).unwrap();
        assert_eq!(message.query_index, 3);
        assert_eq!(
            message.chunked_series[0].labels[1],
            messages::Label {
                name: "b".into(),
                value: "c".into()
            }
        );
        let chunks: Vec<_> = message.chunked_series[0]
            .chunks
            .iter()
            .map(|c| (c.encoding, c.min_time_ms, c.max_time_ms))
            .collect();
        assert_eq!(chunks, [(1, 1000, 1000), (3, 2000, 2000), (1, 3000, 3000)]);
        // The check value of the algorithm.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn samples_and_histograms_are_apart() {
        let (mut result, mut response) = (Vec::new(), Vec::new());
        write_series(&mut result, &series());
        write_part(&mut response, &result);
        let mut rest = &response[2..];
        assert_eq!((response[0], usize::from(response[1])), (0x0a, rest.len()));
        rest = &rest[2..];
        let series = TimeSeries::decode(rest).unwrap();
        assert_eq!(
            series.samples,
            [
                Sample {
                    value: Some(1.5),
                    timestamp: 1000
                },
                Sample {
                    value: Some(-0.0),
                    timestamp: 3000
                }
            ]
        );
        assert_eq!(
            (
                series.histograms[0].timestamp,
                series.histograms[0].count_float
            ),
            (2000, Some(4.0))
        );
        assert_eq!(
            series.histograms[0].zero_count_float,
            Some(0.0),
            "which of two fields is told even where it is 0"
        );
    }

    #[test]
    fn a_series_without_samples_has_no_frame() {
        let mut out = Vec::new();
        write_frames(&mut out, 0, &SeriesSamples::default());
        assert!(out.is_empty());
    }
}
