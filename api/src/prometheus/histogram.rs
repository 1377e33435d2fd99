//! A native histogram as the Prometheus API prints it: count, sum and the buckets that hold
//! something.
//!
//! Bucket bounds follow Prometheus' native histogram specification: schema s has the bounds 2^(i *
//! 2^-s), bucket i reaching from bound i-1 (excluded) to bound i (included); buckets of negative
//! values mirror that; the zero bucket includes both its ends and cuts what reaches into it; custom
//! buckets have their bounds listed, the first reaching down to -Inf and the last up to +Inf.
use tidelake_catalog::model::histogram::{CUSTOM_BUCKETS_SCHEMA, exponential_bound};
use tidelake_catalog::model::{Histogram, Span};

use crate::prometheus::go_float::{write_integer, write_value};

/// Which ends of a bucket belong to it, in the numbers of the API.
#[derive(Debug, Clone, Copy)]
enum Ends {
    UpperOnly = 0,
    LowerOnly = 1,
    Both = 3,
}

/// Appends `{"count":"..","sum":"..","buckets":[[ends,"lower","upper","count"],...]}`.
pub fn write_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    out.extend_from_slice(b"{\"count\":\"");
    write_value(out, histogram.count);
    out.extend_from_slice(b"\",\"sum\":\"");
    write_value(out, histogram.sum);
    out.push(b'"');
    let mut first = true;
    let mut bucket = |ends: Ends, lower: f64, upper: f64, count: f64| {
        if count == 0.0 {
            return;
        }
        out.extend_from_slice(if first { b",\"buckets\":[" } else { b"," });
        first = false;
        out.push(b'[');
        write_integer(out, ends as u64);
        for value in [lower, upper, count] {
            out.extend_from_slice(b",\"");
            write_value(out, value);
            out.push(b'"');
        }
        out.push(b']');
    };
    let custom = histogram.schema == CUSTOM_BUCKETS_SCHEMA;
    let negative: Vec<_> = indexes(&histogram.negative_spans)
        .zip(&histogram.negative_counts)
        .collect();
    for (index, count) in negative.into_iter().rev() {
        let (near, far) = (
            exponential_bound(histogram.schema, index - 1),
            exponential_bound(histogram.schema, index),
        );
        bucket(
            Ends::LowerOnly,
            -far,
            (-near).min(-histogram.zero_threshold),
            *count,
        );
    }
    if !custom && histogram.zero_count > 0.0 {
        bucket(
            Ends::Both,
            -histogram.zero_threshold,
            histogram.zero_threshold,
            histogram.zero_count,
        );
    }
    for (index, count) in indexes(&histogram.positive_spans).zip(&histogram.positive_counts) {
        if custom {
            let (lower, upper) = (
                custom_bound(histogram, index - 1),
                custom_bound(histogram, index),
            );
            bucket(
                if index == 0 {
                    Ends::Both
                } else {
                    Ends::UpperOnly
                },
                lower,
                upper,
                *count,
            );
        } else {
            let lower =
                exponential_bound(histogram.schema, index - 1).max(histogram.zero_threshold);
            bucket(
                Ends::UpperOnly,
                lower,
                exponential_bound(histogram.schema, index),
                *count,
            );
        }
    }
    if !first {
        out.push(b']');
    }
    out.push(b'}');
}

/// The indexes of the buckets that the spans list.
fn indexes(spans: &[Span]) -> impl Iterator<Item = i64> + '_ {
    let mut next = 0i64;
    spans.iter().flat_map(move |span| {
        let start = next + i64::from(span.offset);
        next = start + i64::from(span.length);
        start..next
    })
}

fn custom_bound(histogram: &Histogram, index: i64) -> f64 {
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => histogram
            .custom_values
            .get(index)
            .copied()
            .unwrap_or(f64::INFINITY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(histogram: &Histogram, expected: &str) {
        let mut out = Vec::new();
        write_histogram(&mut out, histogram);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn exponential_buckets_from_low_to_high() {
        let histogram = Histogram {
            schema: 0,
            count: 12.0,
            sum: 18.4,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![
                Span {
                    offset: 0,
                    length: 2,
                },
                Span {
                    offset: 1,
                    length: 1,
                },
            ],
            positive_counts: vec![1.0, 0.0, 3.0],
            negative_spans: vec![Span {
                offset: -1,
                length: 2,
            }],
            negative_counts: vec![1.0, 3.0],
            ..Histogram::default()
        };
        check(
            &histogram,
            concat!(
                r#"{"count":"12","sum":"18.4","buckets":[[1,"-1","-0.5","3"],[1,"-0.5","-0.25","1"],[3,"-0.001","0.001","2"],"#,
                r#"[0,"0.5","1","1"],[0,"4","8","3"]]}"#
            ),
        );
    }

    #[test]
    fn custom_buckets_reach_to_both_infinities() {
        let histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 7.0,
            sum: 9.5,
            positive_spans: vec![
                Span {
                    offset: 0,
                    length: 2,
                },
                Span {
                    offset: 1,
                    length: 1,
                },
            ],
            positive_counts: vec![1.0, 2.0, 4.0],
            custom_values: vec![0.5, 1.0, 2.5],
            ..Histogram::default()
        };
        check(
            &histogram,
            r#"{"count":"7","sum":"9.5","buckets":[[3,"-Inf","0.5","1"],[0,"0.5","1","2"],[0,"2.5","+Inf","4"]]}"#,
        );
    }

    #[test]
    fn the_zero_bucket_cuts_its_neighbours() {
        let span = vec![Span {
            offset: 0,
            length: 1,
        }];
        let histogram = Histogram {
            zero_threshold: 0.75,
            positive_spans: span.clone(),
            positive_counts: vec![1.0],
            negative_spans: span,
            negative_counts: vec![1.0],
            ..Histogram::default()
        };
        check(
            &histogram,
            r#"{"count":"0","sum":"0","buckets":[[1,"-1","-0.75","1"],[0,"0.75","1","1"]]}"#,
        );
    }

    #[test]
    fn a_zero_bucket_with_a_negative_count_is_left_out_but_other_buckets_are_not() {
        let histogram = Histogram {
            zero_threshold: 0.5,
            zero_count: -1.0,
            positive_spans: vec![Span {
                offset: 1,
                length: 1,
            }],
            positive_counts: vec![-1.0],
            count: -2.0,
            sum: -2.0,
            ..Histogram::default()
        };
        check(
            &histogram,
            r#"{"count":"-2","sum":"-2","buckets":[[0,"1","2","-1"]]}"#,
        );
    }

    #[test]
    fn an_empty_histogram_lists_no_buckets() {
        check(&Histogram::default(), r#"{"count":"0","sum":"0"}"#);
    }
}
