//! What is written is read back as it was, whatever it is.
use proptest::prelude::*;
use tidelake_catalog::model::histogram::{CUSTOM_BUCKETS_SCHEMA, ResetHint};
use tidelake_catalog::model::{STALE_NAN_BITS, Span};

use super::*;

#[derive(Debug, Clone)]
enum Sample {
    Float(f64),
    Histogram(Arc<Histogram>),
}

fn write(samples: &[(i64, Sample)]) -> Vec<Chunk> {
    let mut writer = ChunkWriter::default();
    let mut chunks: Vec<Chunk> = samples
        .iter()
        .filter_map(|(time, sample)| match sample {
            Sample::Float(value) => writer.float(*time, *value),
            Sample::Histogram(histogram) => writer.histogram(*time, histogram),
        })
        .collect();
    chunks.extend(writer.end());
    chunks
}

/// Bits of what was written and what was read; the reset hints are not compared.
fn bits(time: i64, histogram: &Histogram) -> (i64, i32, Vec<Span>, Vec<Span>, Vec<u64>) {
    if tidelake_catalog::model::is_stale(histogram.sum) {
        return (time, 0, vec![], vec![], vec![]);
    }
    let numbers = [
        histogram.zero_threshold,
        histogram.zero_count,
        histogram.count,
        histogram.sum,
    ];
    let lists = [
        &histogram.positive_counts,
        &histogram.negative_counts,
        &histogram.custom_values,
    ];
    let all = numbers
        .iter()
        .chain(lists.into_iter().flatten())
        .map(|value| value.to_bits())
        .collect();
    (
        time,
        histogram.schema,
        histogram.positive_spans.clone(),
        histogram.negative_spans.clone(),
        all,
    )
}

fn check(samples: &[(i64, Sample)]) -> Vec<Chunk> {
    let chunks = write(samples);
    let mut read = Vec::new();
    for chunk in &chunks {
        let from = read.len();
        match chunk.encoding {
            Encoding::Xor => read.extend(
                read::floats(&chunk.data)
                    .unwrap()
                    .into_iter()
                    .map(|(time, value)| (time, Sample::Float(value))),
            ),
            Encoding::FloatHistogram => {
                read.extend(
                    read::histograms(&chunk.data)
                        .unwrap()
                        .into_iter()
                        .map(|(time, h)| (time, Sample::Histogram(Arc::new(h)))),
                );
            }
        }
        assert!(read.len() - from <= usize::from(MAX_SAMPLES));
        assert_eq!(
            (read[from].0, read[read.len() - 1].0),
            (chunk.min_time_ms, chunk.max_time_ms)
        );
    }
    assert_eq!(read.len(), samples.len());
    for ((time, sample), (read_time, read_sample)) in samples.iter().zip(&read) {
        match (sample, read_sample) {
            (Sample::Float(value), Sample::Float(read)) => {
                assert_eq!((time, value.to_bits()), (read_time, read.to_bits()))
            }
            (Sample::Histogram(histogram), Sample::Histogram(read)) => {
                assert_eq!(bits(*time, histogram), bits(*read_time, read))
            }
            other => panic!("{other:?}"),
        }
    }
    chunks
}

fn floats(samples: &[(i64, f64)]) -> Vec<(i64, Sample)> {
    samples
        .iter()
        .map(|(time, value)| (*time, Sample::Float(*value)))
        .collect()
}

fn histogram(counts: &[f64]) -> Histogram {
    Histogram {
        count: counts.iter().sum(),
        sum: 1.5,
        zero_threshold: 2f64.powi(-128),
        positive_spans: vec![Span {
            offset: -2,
            length: counts.len() as u32,
        }],
        positive_counts: counts.to_vec(),
        ..Histogram::default()
    }
}

fn counts(chunks: &[Chunk]) -> Vec<usize> {
    let samples = |chunk: &Chunk| usize::from(u16::from_be_bytes([chunk.data[0], chunk.data[1]]));
    chunks.iter().map(samples).collect()
}

#[test]
fn odd_floats_and_times() {
    let stale = f64::from_bits(STALE_NAN_BITS);
    check(&floats(&[
        (0, 0.0),
        (1, -0.0),
        (2, f64::NAN),
        (3, stale),
        (4, f64::INFINITY),
        (5, f64::MIN),
        (6, 5e-324),
    ]));
    check(&floats(&[
        (i64::MIN / 2, 1.0),
        (0, 1.0),
        (i64::MAX / 2, 2.0),
    ]));
    // Every width of a changed distance, both ends.
    let ends = [
        8192,
        -8191,
        8193,
        65_536,
        -65_535,
        65_537,
        524_288,
        -524_287,
        524_289,
        1 << 40,
    ];
    let mut time = 0;
    let mut distance = 1 << 41;
    let mut samples = vec![(0, 1.0)];
    for change in ends.into_iter().chain([0]) {
        distance += change;
        time += distance;
        samples.push((time, 1.0));
    }
    check(&floats(&samples));
}

#[test]
fn chunks_end_at_their_limit_and_where_the_kind_changes() {
    let many: Vec<(i64, f64)> = (0..250).map(|at| (at * 15_000, at as f64)).collect();
    assert_eq!(counts(&check(&floats(&many))), [120, 120, 10]);
    let one = Sample::Histogram(Arc::new(histogram(&[1.0, 2.0])));
    let mixed = [
        (1, Sample::Float(1.0)),
        (2, one.clone()),
        (3, one),
        (4, Sample::Float(2.0)),
    ];
    assert_eq!(counts(&check(&mixed)), [1, 2, 1]);
    assert!(write(&[]).is_empty());
}

#[test]
fn a_chunk_of_histograms_has_one_layout_and_no_reset() {
    let stale = Histogram {
        sum: f64::from_bits(STALE_NAN_BITS),
        ..Histogram::default()
    };
    let with = |change: fn(&mut Histogram)| {
        let mut histogram = histogram(&[5.0, 5.0]);
        change(&mut histogram);
        histogram
    };
    let check_cut = |next: Histogram, cut: bool| {
        let samples = [histogram(&[5.0, 5.0]), next].map(|h| Sample::Histogram(Arc::new(h)));
        let samples: Vec<(i64, Sample)> = samples
            .into_iter()
            .enumerate()
            .map(|(at, sample)| (at as i64, sample))
            .collect();
        assert_eq!(
            counts(&check(&samples)).len(),
            if cut { 2 } else { 1 },
            "{samples:?}"
        );
    };
    check_cut(with(|h| h.positive_counts[0] = 7.0), false);
    check_cut(with(|h| h.sum = -4.0), false);
    check_cut(with(|h| h.positive_counts[0] = 4.0), true);
    check_cut(with(|h| h.count = 9.0), true);
    check_cut(with(|h| h.schema = 3), true);
    check_cut(with(|h| h.zero_threshold = 0.1), true);
    check_cut(with(|h| h.positive_spans[0].offset = 0), true);
    check_cut(with(|h| h.reset_hint = ResetHint::Yes), true);
    check_cut(with(|h| h.reset_hint = ResetHint::Gauge), true);
    check_cut(stale.clone(), false);
    let around = [stale.clone(), stale, histogram(&[1.0])].map(|h| Sample::Histogram(Arc::new(h)));
    let around: Vec<(i64, Sample)> = around
        .into_iter()
        .enumerate()
        .map(|(at, sample)| (at as i64, sample))
        .collect();
    assert_eq!(counts(&check(&around)), [2, 1]);
    let gauge = |count: f64| {
        Sample::Histogram(Arc::new(Histogram {
            reset_hint: ResetHint::Gauge,
            ..histogram(&[count])
        }))
    };
    let gauges = check(&[(1, gauge(5.0)), (2, gauge(1.0))]);
    assert_eq!((gauges.len(), gauges[0].data[2]), (1, 0b1100_0000));
}

#[test]
fn custom_bounds_and_thresholds() {
    for bounds in [
        &[0.001, 0.1, 1.0, 33_554.43][..],
        &[-1.0, 0.0001, 1e9, f64::INFINITY],
        &[],
    ] {
        let spans = vec![Span {
            offset: 0,
            length: bounds.len() as u32 + 1,
        }];
        let counts = vec![1.0; bounds.len() + 1];
        let custom = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive_spans: spans,
            positive_counts: counts,
            custom_values: bounds.to_vec(),
            ..Histogram::default()
        };
        check(&[(1, Sample::Histogram(Arc::new(custom)))]);
    }
    for threshold in [
        0.0,
        2f64.powi(-243),
        2f64.powi(-244),
        1024.0,
        2048.0,
        0.001,
        -0.0,
        -1.0,
    ] {
        check(&[(
            1,
            Sample::Histogram(Arc::new(Histogram {
                zero_threshold: threshold,
                ..histogram(&[1.0])
            })),
        )]);
    }
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let spans = || prop::collection::vec((-20i32..20, 0u32..4), 0..3);
    (
        prop::sample::select(vec![-4, 0, 3, 8]),
        spans(),
        spans(),
        any::<[f64; 3]>(),
        0u8..4,
        any::<u64>(),
    )
        .prop_map(
            |(schema, positive, negative, [count, zero_count, sum], hint, seed)| {
                let spans = |list: Vec<(i32, u32)>| {
                    list.into_iter()
                        .map(|(offset, length)| Span { offset, length })
                        .collect::<Vec<_>>()
                };
                let counts = |spans: &[Span]| {
                    let buckets = spans.iter().map(|span| span.length).sum::<u32>();
                    (0..buckets)
                        .map(|at| f64::from(at) + (seed % 1000) as f64 / 7.0)
                        .collect::<Vec<_>>()
                };
                let (positive_spans, negative_spans) = (spans(positive), spans(negative));
                Histogram {
                    schema,
                    zero_threshold: (seed % 3) as f64 / 1000.0,
                    zero_count,
                    count,
                    sum,
                    positive_counts: counts(&positive_spans),
                    negative_counts: counts(&negative_spans),
                    positive_spans,
                    negative_spans,
                    custom_values: vec![],
                    reset_hint: [
                        ResetHint::Unknown,
                        ResetHint::Yes,
                        ResetHint::No,
                        ResetHint::Gauge,
                    ][usize::from(hint)],
                }
            },
        )
}

proptest! {
    #[test]
    fn any_floats_read_back(samples in prop::collection::vec((1i64..1 << 45, prop_oneof![any::<f64>(), prop::sample::select(vec![0.0, 1.0, 2.5, f64::NAN])]), 0..400)) {
        let mut time = -1_000_000;
        let samples: Vec<(i64, f64)> = samples.into_iter().map(|(distance, value)| { time += distance; (time, value) }).collect();
        check(&floats(&samples));
    }

    #[test]
    fn any_samples_read_back(samples in prop::collection::vec((1i64..100_000, prop::option::of(any_histogram()), 1usize..4), 0..60)) {
        let mut time = 1_700_000_000_000;
        let mut all = Vec::new();
        for (distance, histogram, times) in samples {
            let sample = histogram.map_or(Sample::Float(distance as f64), |histogram| Sample::Histogram(Arc::new(histogram)));
            for _ in 0..times {
                time += distance;
                all.push((time, sample.clone()));
            }
        }
        check(&all);
    }
}
