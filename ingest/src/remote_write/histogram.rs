//! Native histograms: `prometheus.Histogram` and that of 2.0, which has the same fields and a start
//! timestamp; decoded and checked.
//!
//! The checks are those of Prometheus, so that whatever is stored can be computed with: spans that
//! agree with the counts, no negative buckets, a total that agrees with its parts.

use tidelake_catalog::model::{Histogram, ResetHint, Span, is_stale};

use super::DecodeError;
use crate::protobuf::{Fields, zigzag};

/// A histogram as sent: counts of buckets as differences of integers, or as floats.
#[derive(Debug, Default)]
struct Sent {
    histogram: Histogram,
    time: i64,
    start_time: i64,
    /// Whether counts are floats: decided by the form of the total.
    float: bool,
    count_int: u64,
    zero_count_int: u64,
    positive_deltas: Vec<i64>,
    negative_deltas: Vec<i64>,
}

/// A histogram with its times in milliseconds.
#[derive(Debug)]
pub(super) struct Dated {
    pub histogram: Histogram,
    pub time: i64,
    /// When what it counts began; 0 if the sender does not say.
    pub start_time: i64,
}

/// A histogram with its times. The outer error refuses the body, the inner one the histogram.
pub(super) fn decode(fields: Fields<'_>) -> Result<Result<Dated, String>, DecodeError> {
    let sent = read(fields)?;
    let (time, start_time) = (sent.time, sent.start_time);
    Ok(finish(sent).and_then(|histogram| {
        check(&histogram).map(|()| Dated {
            histogram,
            time,
            start_time,
        })
    }))
}

fn read(mut fields: Fields<'_>) -> Result<Sent, DecodeError> {
    let mut sent = Sent::default();
    let h = &mut sent.histogram;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                sent.count_int = value.varint("a histogram's count")?;
                sent.float = false;
            }
            2 => {
                h.count = value.double("a histogram's count")?;
                sent.float = true;
            }
            3 => h.sum = value.double("a histogram's sum")?,
            4 => h.schema = zigzag(value.varint("a histogram's schema")?) as i32,
            5 => h.zero_threshold = value.double("a histogram's zero threshold")?,
            6 => sent.zero_count_int = value.varint("a histogram's zero count")?,
            7 => h.zero_count = value.double("a histogram's zero count")?,
            8 => h.negative_spans.push(span(value.message("a span")?)?),
            9 => value.varints("bucket deltas", |v| sent.negative_deltas.push(zigzag(v)))?,
            10 => value.doubles("bucket counts", &mut h.negative_counts)?,
            11 => h.positive_spans.push(span(value.message("a span")?)?),
            12 => value.varints("bucket deltas", |v| sent.positive_deltas.push(zigzag(v)))?,
            13 => value.doubles("bucket counts", &mut h.positive_counts)?,
            14 => {
                h.reset_hint = match value.varint("a reset hint")? {
                    1 => ResetHint::Yes,
                    2 => ResetHint::No,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                }
            }
            15 => sent.time = value.varint("a histogram's timestamp")? as i64,
            16 => value.doubles("custom values", &mut h.custom_values)?,
            17 => sent.start_time = value.varint("a histogram's start timestamp")? as i64,
            _ => {}
        }
    }
    Ok(sent)
}

fn span(mut fields: Fields<'_>) -> Result<Span, DecodeError> {
    let mut span = Span {
        offset: 0,
        length: 0,
    };
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => span.offset = zigzag(value.varint("a span's offset")?) as i32,
            2 => span.length = value.varint("a span's length")? as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// Brings integer counts into the form of float counts.
fn finish(sent: Sent) -> Result<Histogram, String> {
    let mut h = sent.histogram;
    if sent.float {
        if !sent.positive_deltas.is_empty() || !sent.negative_deltas.is_empty() {
            return Err("a histogram with a float count has integer buckets".to_owned());
        }
        return Ok(h);
    }
    if !h.positive_counts.is_empty() || !h.negative_counts.is_empty() {
        return Err("a histogram with an integer count has float buckets".to_owned());
    }
    let mut total = i128::from(sent.zero_count_int);
    h.positive_counts = counts(&sent.positive_deltas, &mut total)?;
    h.negative_counts = counts(&sent.negative_deltas, &mut total)?;
    h.count = sent.count_int as f64;
    h.zero_count = sent.zero_count_int as f64;
    // Observations of NaN are counted but lie in no bucket.
    let agrees = if h.sum.is_nan() {
        total <= i128::from(sent.count_int)
    } else {
        total == i128::from(sent.count_int)
    };
    if !agrees && !is_stale(h.sum) {
        return Err(format!(
            "a histogram's count is {}, but its buckets have {total} observations",
            sent.count_int
        ));
    }
    Ok(h)
}

fn counts(deltas: &[i64], total: &mut i128) -> Result<Vec<f64>, String> {
    let mut count = 0i64;
    deltas
        .iter()
        .map(|&delta| {
            count = count
                .checked_add(delta)
                .filter(|&c| c >= 0)
                .ok_or("a histogram has a bucket with a negative count")?;
            *total += i128::from(count);
            Ok(count as f64)
        })
        .collect()
}

/// Whether what there is can be computed with.
pub(crate) fn check(h: &Histogram) -> Result<(), String> {
    h.check_layout()?;
    for (side, counts) in [
        ("positive", &h.positive_counts),
        ("negative", &h.negative_counts),
    ] {
        if let Some(count) = counts.iter().find(|c| **c < 0.0) {
            return Err(format!(
                "a histogram has a {side} bucket with the negative count {count}"
            ));
        }
    }
    if h.count < 0.0 || h.zero_count < 0.0 {
        return Err("a histogram has a negative count".to_owned());
    }
    Ok(())
}
