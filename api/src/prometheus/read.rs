//! Remote read: `POST /api/v1/read`, by which a Prometheus (or whatever speaks its protocol) reads
//! samples as they are.
//!
//! The kind of answer is the first that the request accepts: chunks are streamed series by series;
//! samples are one message, which has to be in memory as a whole and is therefore limited. What is
//! selected is what PromQL sees, fields of wide tables included.
pub mod answer;
pub mod messages;

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures::{StreamExt, stream};
use prost::Message;
use tidelake_catalog::model::{MatchOp, Matcher, TimeRange};

use self::messages::{LabelMatcher, ReadRequest, SAMPLES, STREAMED_XOR_CHUNKS};
use crate::http::app::App;
use crate::http::database;
use crate::http::error::Dialect;
use crate::http::paced_body::{CHUNK_BYTES, Pace};
use crate::service::context::{Read, RequestContext};
use crate::service::error::{Code, ServiceError};
use crate::service::samples::{SampleQuery, SampleReader};
use crate::service::slots::QuerySlot;

/// Largest request as sent, and decompressed.
const MAX_REQUEST_BYTES: usize = 4 << 20;
const MAX_DECOMPRESSED_BYTES: usize = 32 << 20;
/// Compiling a regular expression takes memory.
const MAX_PATTERNS: usize = 1000;
const MAX_QUERIES: usize = 1000;
/// Most samples of an answer that has to be in memory as a whole.
const MAX_UNSTREAMED_SAMPLES: u64 = 5_000_000;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/read", post(read))
}

async fn read(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    path: RawPathParams,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, &caller, &path, &headers, body)
        .await
        .unwrap_or_else(|e| e.respond(Dialect::Text))
}

async fn answer(
    app: &App,
    caller: &RequestContext,
    path: &RawPathParams,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ServiceError> {
    let access = caller.access::<Read>(&database::of_prometheus(path, headers)?)?;
    let held = app.bodies.read(headers, body, MAX_REQUEST_BYTES).await?;
    let request = decode(headers, &held.bytes)?;
    drop(held);
    let streams = negotiate(&request.accepted_response_types)?;
    let queries = queries(&request)?;
    let (reader, slot) = app.service.samples(&access, queries).await?;
    if streams {
        stream_chunks(app, reader, slot).await
    } else {
        let body = slot
            .watch(
                app.service
                    .compute(&slot.lane(), Box::pin(collect_samples(reader))),
            )
            .await?;
        send_whole(body, &app.pace(), slot).await
    }
}

fn decode(headers: &HeaderMap, body: &[u8]) -> Result<ReadRequest, ServiceError> {
    let encoding = headers
        .get(CONTENT_ENCODING)
        .map_or("snappy", |value| value.to_str().unwrap_or("?"));
    if !encoding.eq_ignore_ascii_case("snappy") {
        return Err(ServiceError::new(
            Code::Unsupported,
            format!("content encoding {encoding:?} is not supported; send snappy (block format)"),
        ));
    }
    let bad = |why: &dyn std::fmt::Display| {
        ServiceError::bad_request(format!(
            "the body is not a prometheus.ReadRequest in snappy: {why}"
        ))
    };
    let length = snap::raw::decompress_len(body).map_err(|e| bad(&e))?;
    if length > MAX_DECOMPRESSED_BYTES {
        return Err(ServiceError::new(
            Code::TooLarge,
            format!("the request has {length} bytes, more than {MAX_DECOMPRESSED_BYTES}"),
        ));
    }
    let bytes = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|e| bad(&e))?;
    ReadRequest::decode(&bytes[..]).map_err(|e| bad(&e))
}

/// Whether the answer is streamed: the first kind that is known counts.
fn negotiate(accepted: &[i32]) -> Result<bool, ServiceError> {
    if accepted.is_empty() {
        return Ok(false);
    }
    let first = accepted
        .iter()
        .find(|kind| [SAMPLES, STREAMED_XOR_CHUNKS].contains(*kind));
    first
        .map(|kind| *kind == STREAMED_XOR_CHUNKS)
        .ok_or_else(|| {
            let shown = accepted.iter().take(10).collect::<Vec<_>>();
            ServiceError::bad_request(format!(
                "none of the accepted response types {shown:?} is supported; known are SAMPLES \
                 (0) and STREAMED_XOR_CHUNKS (1)"
            ))
        })
}

fn queries(request: &ReadRequest) -> Result<VecDeque<SampleQuery>, ServiceError> {
    let patterns = request
        .queries
        .iter()
        .flat_map(|query| &query.matchers)
        .filter(|matcher| matcher.kind >= 2)
        .count();
    if request.queries.len() > MAX_QUERIES || patterns > MAX_PATTERNS {
        let why = format!(
            "a request has at most {MAX_QUERIES} queries and {MAX_PATTERNS} regular expression \
             matchers"
        );
        return Err(ServiceError::bad_request(why));
    }
    let query = |query: &messages::Query| {
        let matchers = query
            .matchers
            .iter()
            .map(matcher)
            .collect::<Result<_, _>>()?;
        Ok((
            matchers,
            TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms),
        ))
    };
    request.queries.iter().map(query).collect()
}

fn matcher(matcher: &LabelMatcher) -> Result<Matcher, ServiceError> {
    let op = match matcher.kind {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => {
            return Err(ServiceError::bad_request(format!(
                "invalid matcher type {other} of label {:?}",
                matcher.name
            )));
        }
    };
    Matcher::promql(matcher.name.as_str(), op, matcher.value.as_str())
        .map_err(ServiceError::bad_request)
}

/// All samples as one message, compressed.
async fn collect_samples(mut reader: SampleReader) -> Result<Bytes, ServiceError> {
    let most = reader.max_samples().min(MAX_UNSTREAMED_SAMPLES);
    let (mut response, mut samples) = (Vec::new(), 0);
    while reader.begin().await?.is_some() {
        let mut result = Vec::new();
        while let Some(series) = reader.series().await? {
            samples += series.times.len() as u64;
            if samples > most {
                let why = format!(
                    "exceeded sample limit ({most}); read a shorter range, or accept \
                     STREAMED_XOR_CHUNKS, which has no limit"
                );
                return Err(ServiceError::bad_request(why));
            }
            answer::write_series(&mut result, &series);
        }
        answer::write_part(&mut response, &result);
    }
    let compressed = snap::raw::Encoder::new().compress_vec(&response);
    compressed
        .map(Bytes::from)
        .map_err(|e| ServiceError::new(Code::Internal, format!("cannot compress the answer: {e}")))
}

/// Sends a message that is complete, with its length.
async fn send_whole(
    message: Bytes,
    pace: &Pace,
    slot: QuerySlot,
) -> Result<Response, ServiceError> {
    let length = message.len();
    let mut rest = message;
    let chunks = std::iter::from_fn(move || {
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
        (!chunk.is_empty()).then_some(Ok(chunk))
    });
    let body = pace.body(stream::iter(chunks), slot).await?;
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        ),
        (CONTENT_ENCODING, HeaderValue::from_static("snappy")),
        (CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    Ok((headers, body).into_response())
}

/// Frames that are ready to be sent; `None` after the last.
async fn next_frames(
    reader: &mut SampleReader,
    query: &mut Option<usize>,
) -> Result<Option<Bytes>, ServiceError> {
    let mut out = Vec::new();
    while out.len() < CHUNK_BYTES {
        let Some(at) = *query else { break };
        match reader.series().await? {
            Some(series) => answer::write_frames(&mut out, at, &series),
            None => *query = reader.begin().await?,
        }
    }
    Ok((!out.is_empty()).then(|| out.into()))
}

/// What fails before the first frames gets a status; what fails later ends the connection.
async fn stream_chunks(
    app: &App,
    mut reader: SampleReader,
    slot: QuerySlot,
) -> Result<Response, ServiceError> {
    let lane = slot.lane();
    let begin = async move {
        let mut query = reader.begin().await?;
        let first = next_frames(&mut reader, &mut query).await?;
        Ok::<_, ServiceError>((reader, query, first))
    };
    let begun = app.service.compute(&lane, Box::pin(begin));
    let (reader, query, first) = slot.watch(begun).await?;
    let frames = stream::unfold(Some((reader, query)), async |reading| {
        let (mut reader, mut query) = reading?;
        match next_frames(&mut reader, &mut query).await {
            Ok(None) => None,
            Ok(Some(ready)) => Some((Ok(ready), Some((reader, query)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    let frames = stream::iter(first.map(Ok)).chain(Box::pin(frames));
    let body = app.pace().body(frames, slot).await?;
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    Ok(([(CONTENT_TYPE, kind)], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_kind_counts() {
        let check = |accepted: &[i32], expected: Option<bool>| {
            assert_eq!(negotiate(accepted).ok(), expected, "{accepted:?}")
        };
        check(&[], Some(false));
        check(&[0], Some(false));
        check(&[1, 0], Some(true));
        check(&[0, 1], Some(false));
        check(&[7, 1], Some(true));
        check(&[7], None);
    }

    #[test]
    fn requests_that_are_none() {
        let check = |headers: &[(axum::http::HeaderName, &str)], body: &[u8], status: u16| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.clone(), value.parse().unwrap()))
                .collect();
            match decode(&headers, body) {
                Ok(_) => assert_eq!(status, 200),
                Err(error) => assert_eq!(error.status(Dialect::Text).as_u16(), status, "{error:?}"),
            }
        };
        let snappy = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
        check(&[], &snappy(&[]), 200);
        check(&[(CONTENT_ENCODING, "snappy")], &snappy(&[]), 200);
        check(&[(CONTENT_ENCODING, "gzip")], &snappy(&[]), 415);
        check(&[], b"", 400);
        check(&[], b"\xff\xff\xff\xff", 400);
        check(&[], &snappy(b"\x0a\xff"), 400);
        // Says that it inflates to 1 GB.
        check(&[], &[0x80, 0x80, 0x80, 0x80, 0x04, 0], 413);
    }

    #[test]
    fn matchers_of_all_kinds_and_none_other() {
        let check = |kind: i32, value: &str, expected: Option<&str>| {
            let got = matcher(&LabelMatcher {
                kind,
                name: "a".into(),
                value: value.into(),
            });
            assert_eq!(
                got.ok().map(|matcher| matcher.to_string()).as_deref(),
                expected
            );
        };
        check(0, "b", Some("a=\"b\""));
        check(1, "b", Some("a!=\"b\""));
        check(2, "b.*", Some("a=~\"b.*\""));
        check(3, "b.*", Some("a!~\"b.*\""));
        check(4, "b", None);
        check(2, "(", None);
        let many = LabelMatcher {
            kind: 2,
            name: "a".into(),
            value: "b.".into(),
        };
        let query = messages::Query {
            matchers: vec![many; 1001],
            ..messages::Query::default()
        };
        assert!(
            queries(&ReadRequest {
                queries: vec![query],
                ..ReadRequest::default()
            })
            .is_err()
        );
    }
}
