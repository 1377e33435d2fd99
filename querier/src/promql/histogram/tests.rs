//! Examples worked out by hand, and properties over many random histograms.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidelake_catalog::model::histogram::CUSTOM_BUCKETS_SCHEMA;
use tidelake_catalog::model::{Histogram, ResetHint, Span};

use super::arithmetic::{add, divide, in_schema, multiply, subtract};
use super::bounds::{exponential, is_custom};
use super::buckets::{Cells, ascending, descending};
use super::compact::compact;
use super::compensated::{Mean, Total};
use super::custom::intersection;
use super::equal::equal;
use super::fraction::fraction;
use super::interpolate::interpolate;
use super::quantile::{NanEffect, quantile};
use super::reset::detect;
use super::text::text;
use super::trim::{Keep, trim};
use super::variance::variance;
use super::{Incompatible, Merged};

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

/// An exponential histogram; the sum is of no interest.
fn exponential_of(
    schema: i32,
    zero: (f64, f64),
    positive: (Vec<Span>, Vec<f64>),
    negative: (Vec<Span>, Vec<f64>),
) -> Histogram {
    let count = zero.1 + positive.1.iter().chain(&negative.1).sum::<f64>();
    Histogram {
        schema,
        zero_threshold: zero.0,
        zero_count: zero.1,
        count,
        sum: count,
        positive_spans: positive.0,
        positive_counts: positive.1,
        negative_spans: negative.0,
        negative_counts: negative.1,
        ..Histogram::default()
    }
}

/// Buckets above zero from number 0 on.
fn simple(schema: i32, counts: &[f64]) -> Histogram {
    exponential_of(
        schema,
        (0.0, 0.0),
        (vec![span(0, counts.len() as u32)], counts.to_vec()),
        (Vec::new(), Vec::new()),
    )
}

fn custom(bounds: &[f64], counts: &[f64]) -> Histogram {
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: counts.iter().sum(),
        sum: 1.0,
        positive_spans: vec![span(0, counts.len() as u32)],
        positive_counts: counts.to_vec(),
        custom_values: bounds.to_vec(),
        ..Histogram::default()
    }
}

fn check_add(a: &Histogram, b: &Histogram, expected: &str) {
    let (mut sum, _) = add(a, b).unwrap();
    compact(&mut sum);
    assert_eq!(text(&sum), expected);
}

#[test]
fn cells_are_walked_from_both_ends() {
    let spans = [span(-2, 2), span(0, 0), span(3, 1), span(0, 2)];
    let counts = [1.0, 2.0, 3.0, 4.0, 5.0];
    let forward: Vec<_> = Cells::new(&spans, &counts).collect();
    assert_eq!(
        forward,
        [(-2, 1.0), (-1, 2.0), (3, 3.0), (4, 4.0), (5, 5.0)]
    );
    let mut backward: Vec<_> = Cells::new(&spans, &counts).rev().collect();
    backward.reverse();
    assert_eq!(forward, backward);
}

#[test]
fn damaged_layouts_end_early_instead_of_panicking() {
    let many = [span(i32::MAX, u32::MAX), span(i32::MAX, 3)];
    assert_eq!(Cells::new(&many, &[1.0]).count(), 1);
    assert_eq!(Cells::new(&[span(0, 1)], &[1.0, 2.0, 3.0]).count(), 1);
    assert_eq!(Cells::new(&[], &[1.0]).rev().count(), 0);
    let damaged = Histogram {
        positive_spans: many.to_vec(),
        positive_counts: vec![1.0, 2.0],
        schema: 8,
        count: 3.0,
        ..Histogram::default()
    };
    let odd = Histogram {
        custom_values: vec![1.0],
        positive_spans: vec![span(-7, 3)],
        ..custom(&[1.0], &[1.0, 2.0, 3.0])
    };
    for histogram in [&damaged, &odd] {
        for other in [&damaged, &odd, &simple(-4, &[1.0])] {
            let _ = add(histogram, other);
            detect(histogram, other);
        }
        trim(histogram, Keep::Below, 1.0);
        quantile(0.5, histogram);
        fraction(0.0, 1.0, histogram);
        text(histogram);
        variance(histogram);
    }
}

#[test]
fn thresholds_that_are_no_numbers_do_not_loop() {
    let nan = Histogram {
        zero_threshold: f64::NAN,
        ..simple(0, &[1.0])
    };
    let infinite = Histogram {
        zero_threshold: f64::INFINITY,
        ..simple(0, &[1.0])
    };
    for a in [&nan, &infinite, &simple(1, &[1.0])] {
        for b in [&nan, &infinite, &simple(2, &[1.0])] {
            assert!(add(a, b).is_ok());
            detect(a, b);
        }
    }
}

#[test]
fn sums_have_the_lower_resolution() {
    check_add(
        &simple(0, &[1.0, 2.0]),
        &simple(0, &[1.0, 0.0, 4.0]),
        "{count:8, sum:8, (0.5,1]:2, (1,2]:2, (2,4]:4}",
    );
    check_add(
        &simple(0, &[1.0, 2.0, 3.0]),
        &simple(-1, &[1.0, 1.0]),
        "{count:8, sum:8, (0.25,1]:2, (1,4]:6}",
    );
    check_add(
        &simple(-1, &[1.0, 1.0]),
        &simple(0, &[1.0, 2.0, 3.0]),
        "{count:8, sum:8, (0.25,1]:2, (1,4]:6}",
    );
}

#[test]
fn the_wider_zero_bucket_swallows_what_lies_in_it() {
    let wide = exponential_of(
        0,
        (1.0, 2.0),
        (vec![span(1, 1)], vec![1.0]),
        (vec![], vec![]),
    );
    let narrow = exponential_of(
        0,
        (0.001, 1.0),
        (vec![span(-1, 3)], vec![1.0, 2.0, 3.0]),
        (vec![span(0, 2)], vec![5.0, 7.0]),
    );
    check_add(
        &wide,
        &narrow,
        "{count:22, sum:22, [-2,-1):7, [-1,1]:11, (1,2]:4}",
    );
    check_add(
        &narrow,
        &wide,
        "{count:22, sum:22, [-2,-1):7, [-1,1]:11, (1,2]:4}",
    );
    // A threshold inside a populated bucket moves to its end, on both sides.
    let inside = exponential_of(0, (0.75, 2.0), (vec![], vec![]), (vec![], vec![]));
    let negative = exponential_of(
        0,
        (0.0, 0.0),
        (vec![span(0, 1)], vec![3.0]),
        (vec![span(1, 1)], vec![4.0]),
    );
    check_add(&inside, &negative, "{count:9, sum:9, [-2,-1):4, [-1,1]:5}");
    // Inside an empty one it stays.
    let empty = exponential_of(
        0,
        (0.0, 0.0),
        (vec![span(0, 2)], vec![0.0, 3.0]),
        (vec![], vec![]),
    );
    check_add(&inside, &empty, "{count:5, sum:5, [-0.75,0.75]:2, (1,2]:3}");
}

#[test]
fn custom_buckets_keep_the_bounds_that_both_have() {
    assert_eq!(
        intersection(&[1.0, 2.0, 3.0], &[0.5, 2.0, 2.5, 3.0, 4.0]),
        [2.0, 3.0]
    );
    assert_eq!(intersection(&[f64::NAN], &[1.0]), [0.0; 0]);
    let (a, b) = (
        custom(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]),
        custom(&[2.0, 5.0], &[10.0, 20.0, 30.0]),
    );
    let (sum, merged) = add(&a, &b).unwrap();
    assert_eq!(
        merged,
        Merged {
            conflict: false,
            reconciled: true
        }
    );
    assert_eq!(
        (sum.custom_values.as_slice(), sum.positive_counts.as_slice()),
        (&[2.0][..], &[13.0, 57.0][..])
    );
    let (difference, _) = subtract(&a, &b).unwrap();
    assert_eq!(difference.positive_counts, [-7.0, -43.0]);
    let (sum, merged) = add(&a, &a).unwrap();
    assert_eq!(
        (merged.reconciled, sum.positive_counts.as_slice()),
        (false, &[2.0, 4.0, 6.0, 8.0][..])
    );
}

#[test]
fn exponential_and_custom_buckets_do_not_mix() {
    let (a, b) = (simple(0, &[1.0]), custom(&[1.0], &[1.0]));
    assert_eq!(add(&a, &b).err(), Some(Incompatible));
    assert_eq!(subtract(&b, &a).err(), Some(Incompatible));
    assert!(detect(&a, &b) && detect(&b, &a));
}

#[test]
fn hints_of_sums() {
    use ResetHint::{Gauge, No, Unknown, Yes};
    let with = |reset_hint| Histogram {
        reset_hint,
        ..simple(0, &[1.0])
    };
    for (a, b, expected, conflict) in [
        (No, No, No, false),
        (Yes, Yes, Yes, false),
        (No, Yes, Unknown, true),
        (Yes, No, Unknown, true),
        (Unknown, Yes, Unknown, false),
        (No, Unknown, Unknown, false),
        (Gauge, Yes, Gauge, false),
        (Unknown, Gauge, Gauge, false),
    ] {
        let (sum, merged) = add(&with(a), &with(b)).unwrap();
        assert_eq!(
            (sum.reset_hint, merged.conflict),
            (expected, conflict),
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn scaling() {
    let mut histogram = exponential_of(
        0,
        (0.5, 2.0),
        (vec![span(1, 2)], vec![4.0, 6.0]),
        (vec![span(1, 1)], vec![8.0]),
    );
    multiply(&mut histogram, 0.5);
    assert_eq!(
        text(&histogram),
        "{count:10, sum:10, [-2,-1):4, [-0.5,0.5]:1, (1,2]:2, (2,4]:3}"
    );
    assert_eq!(histogram.reset_hint, ResetHint::Unknown);
    divide(&mut histogram, -1.0);
    assert_eq!(
        (histogram.reset_hint, histogram.count),
        (ResetHint::Gauge, -10.0)
    );
    divide(&mut histogram, 0.0);
    assert!(
        histogram.positive_counts.is_empty()
            && histogram.negative_spans.is_empty()
            && histogram.count == f64::NEG_INFINITY
    );
}

#[test]
fn compacting() {
    let mut histogram = simple(0, &[0.0, 1.0, 0.0, 0.0, 2.0, 0.0]);
    histogram.positive_spans = vec![span(-3, 2), span(0, 2), span(4, 2)];
    compact(&mut histogram);
    assert_eq!(
        (
            histogram.positive_spans.as_slice(),
            histogram.positive_counts.as_slice()
        ),
        (&[span(-2, 1), span(6, 1)][..], &[1.0, 2.0][..])
    );
    let before = histogram.clone();
    compact(&mut histogram);
    assert_eq!(histogram, before);
}

#[test]
fn resets() {
    let base = simple(1, &[1.0, 2.0, 3.0]);
    let more = simple(1, &[1.0, 3.0, 3.0]);
    assert!(!detect(&more, &base) && detect(&base, &more) && !detect(&base, &base));
    // A bucket decreases though the count does not.
    assert!(detect(&simple(1, &[9.0, 1.0, 3.0]), &base));
    // Less resolution is none, more is one.
    let coarse = in_schema(&base, 0);
    assert!(!detect(&coarse, &base) && detect(&base, &coarse));
    // A populated bucket is missing; an empty one may be.
    assert!(detect(&simple(1, &[1.0, 9.0]), &base));
    assert!(!detect(
        &simple(1, &[1.0, 9.0]),
        &simple(1, &[1.0, 2.0, 0.0])
    ));
    // A wider zero bucket, at a bound and inside a populated bucket.
    let zero = |threshold, count, buckets: Vec<f64>| {
        exponential_of(
            0,
            (threshold, count),
            (vec![span(0, buckets.len() as u32)], buckets),
            (vec![], vec![]),
        )
    };
    assert!(!detect(
        &zero(1.0, 3.0, vec![0.0, 2.0]),
        &zero(0.25, 2.0, vec![1.0, 2.0])
    ));
    assert!(detect(
        &zero(1.0, 2.0, vec![0.0, 3.0]),
        &zero(0.25, 2.0, vec![1.0, 2.0])
    ));
    assert!(detect(
        &zero(0.75, 9.0, vec![0.0, 2.0]),
        &zero(0.25, 2.0, vec![1.0, 2.0])
    ));
    assert!(detect(
        &zero(0.25, 9.0, vec![1.0, 2.0]),
        &zero(0.5, 2.0, vec![1.0, 2.0])
    ));
    // What the histogram says comes first.
    assert!(detect(
        &Histogram {
            reset_hint: ResetHint::Yes,
            ..more.clone()
        },
        &base
    ));
    assert!(!detect(
        &Histogram {
            reset_hint: ResetHint::No,
            ..base.clone()
        },
        &more
    ));
    // Custom buckets with other bounds.
    let old = custom(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 1.0]);
    assert!(!detect(&custom(&[2.0, 3.0], &[2.0, 2.0, 2.0]), &old));
    assert!(detect(&custom(&[2.0, 3.0], &[1.0, 5.0, 2.0]), &old));
}

#[test]
fn equality_is_of_data() {
    let a = simple(0, &[1.0, 2.0]);
    assert!(equal(
        &a,
        &Histogram {
            reset_hint: ResetHint::Gauge,
            ..a.clone()
        }
    ));
    assert!(equal(
        &a,
        &Histogram {
            positive_spans: vec![span(2, 0), span(-2, 2), span(3, 0)],
            ..a.clone()
        }
    ));
    assert!(!equal(
        &a,
        &Histogram {
            positive_spans: vec![span(1, 2)],
            ..a.clone()
        }
    ));
    assert!(!equal(&a, &simple(0, &[1.0, 2.0, 0.0])));
    assert!(!equal(
        &a,
        &Histogram {
            sum: 4.0,
            ..a.clone()
        }
    ));
    let nan = Histogram { sum: f64::NAN, ..a };
    assert!(equal(&nan, &nan));
}

#[test]
fn quantiles() {
    let check = |histogram: &Histogram, q: f64, expected: f64| {
        let (value, effect) = quantile(q, histogram);
        assert!(
            (value - expected).abs() < 1e-12
                || value == expected
                || (value.is_nan() && expected.is_nan()),
            "{q}: {value}"
        );
        assert_eq!(effect, None);
    };
    let histogram = simple(0, &[4.0, 4.0, 4.0]);
    check(&histogram, -0.1, f64::NEG_INFINITY);
    check(&histogram, 1.1, f64::INFINITY);
    check(&histogram, f64::NAN, f64::NAN);
    check(&histogram, 0.0, 0.5);
    check(&histogram, 0.5, std::f64::consts::SQRT_2);
    check(&histogram, 1.0, 4.0);
    check(&Histogram::default(), 0.5, f64::NAN);
    let zero = exponential_of(
        0,
        (0.5, 2.0),
        (vec![span(1, 1)], vec![2.0]),
        (vec![], vec![]),
    );
    check(&zero, 0.25, 0.25);
    let negative = exponential_of(
        0,
        (0.0, 0.0),
        (vec![], vec![]),
        (vec![span(1, 2)], vec![4.0, 4.0]),
    );
    check(&negative, 0.25, -8f64.sqrt());
    check(&negative, 0.75, -2f64.sqrt());
    let bounded = custom(&[-1.0, 2.0, 4.0], &[4.0, 0.0, 4.0, 4.0]);
    check(&bounded, 0.2, -1.0);
    check(&bounded, 0.5, 3.0);
    check(&bounded, 0.99, 4.0);
    let nan = Histogram {
        sum: f64::NAN,
        count: 10.0,
        ..simple(0, &[5.0])
    };
    assert_eq!(quantile(0.25, &nan).1, Some(NanEffect::Skew));
    let (value, effect) = quantile(0.9, &nan);
    assert!(value.is_nan() && effect == Some(NanEffect::Result));
}

#[test]
fn fractions() {
    let check = |histogram: &Histogram, lower: f64, upper: f64, expected: f64| {
        let (value, _) = fraction(lower, upper, histogram);
        assert!(
            (value - expected).abs() < 1e-12 || (value.is_nan() && expected.is_nan()),
            "{lower} {upper}: {value}"
        );
    };
    let histogram = simple(0, &[4.0, 4.0, 4.0]);
    check(&histogram, f64::NEG_INFINITY, f64::INFINITY, 1.0);
    check(&histogram, 0.5, 2.0, 2.0 / 3.0);
    check(&histogram, 1.0, std::f64::consts::SQRT_2, 1.0 / 6.0);
    check(&histogram, 2.0, 1.0, 0.0);
    check(&histogram, f64::NAN, 1.0, f64::NAN);
    // All observations are taken for positive, also those of the first bucket.
    check(&custom(&[5.0, 10.0], &[4.0, 4.0, 2.0]), 2.0, 7.5, 0.44);
    check(&custom(&[-5.0, 10.0], &[4.0, 4.0]), -7.0, -5.0, 0.0);
    let nan = Histogram {
        sum: f64::NAN,
        count: 10.0,
        ..simple(0, &[5.0])
    };
    assert_eq!(
        fraction(f64::NEG_INFINITY, f64::INFINITY, &nan),
        (0.5, true)
    );
}

#[test]
fn variances() {
    // Two buckets whose geometric means are sqrt(2)/2 and sqrt(2), around a mean of 1.
    let histogram = Histogram {
        sum: 2.0,
        ..simple(0, &[1.0, 1.0])
    };
    let expected = ((0.5f64.sqrt() - 1.0).powi(2) + (2f64.sqrt() - 1.0).powi(2)) / 2.0;
    assert!((variance(&histogram) - expected).abs() < 1e-12);
    let bounded = Histogram {
        sum: 8.0,
        ..custom(&[2.0, 6.0], &[0.0, 2.0])
    };
    assert_eq!(variance(&bounded), 0.0);
}

#[test]
fn trimming() {
    let check = |histogram: &Histogram, keep, value, expected: &str| {
        assert_eq!(text(&trim(histogram, keep, value)), expected)
    };
    let histogram = exponential_of(
        0,
        (0.5, 2.0),
        (vec![span(1, 2)], vec![4.0, 6.0]),
        (vec![span(1, 1)], vec![8.0]),
    );
    check(&histogram, Keep::Below, f64::INFINITY, &text(&histogram));
    check(
        &histogram,
        Keep::Above,
        f64::NEG_INFINITY,
        &text(&histogram),
    );
    check(
        &histogram,
        Keep::Below,
        0.0,
        "{count:9, sum:-11.563708498984761, [-2,-1):8, [-0.5,0.5]:1}",
    );
    check(
        &histogram,
        Keep::Above,
        2.0,
        "{count:6, sum:16.970562748477143, (2,4]:6}",
    );
    let cut = trim(&histogram, Keep::Below, std::f64::consts::SQRT_2);
    assert!((cut.positive_counts[0] - 2.0).abs() < 1e-12 && cut.positive_counts.len() == 1);
    let bounded = custom(&[5.0, 10.0], &[4.0, 4.0, 2.0]);
    check(
        &bounded,
        Keep::Below,
        7.5,
        "{count:6, sum:22.5, [-Inf,5]:4, (5,10]:2}",
    );
    check(
        &bounded,
        Keep::Above,
        2.5,
        "{count:8, sum:57.5, [-Inf,5]:2, (5,10]:4, (10,+Inf]:2}",
    );
    check(
        &bounded,
        Keep::Above,
        12.0,
        "{count:2, sum:24, (10,+Inf]:2}",
    );
}

#[test]
fn means_go_on_where_the_sum_overflows() {
    let huge = Histogram {
        sum: f64::MAX,
        ..simple(0, &[1.0])
    };
    let mut mean = Mean::new(&huge);
    for _ in 0..3 {
        mean.add(&huge).unwrap();
    }
    let mean = mean.finish();
    assert!((mean.sum / f64::MAX - 1.0).abs() < 1e-12, "{}", mean.sum);
    assert_eq!(mean.count, 1.0);
}

#[test]
fn sums_are_compensated() {
    let values = [1e16, 1.0, -1e16, 1.0];
    let mut total = Total::new(&Histogram {
        sum: values[0],
        ..simple(0, &[values[0]])
    });
    for value in &values[1..] {
        total
            .add(
                &Histogram {
                    sum: *value,
                    ..simple(0, &[*value])
                },
                1.0,
            )
            .unwrap();
    }
    let total = total.finish();
    assert_eq!(
        (total.sum, total.count, total.positive_counts.as_slice()),
        (2.0, 2.0, &[2.0][..])
    );
}

#[test]
fn what_is_alone_keeps_the_signs_of_zeros() {
    let negated = Histogram {
        count: -0.0,
        sum: -0.0,
        zero_count: -0.0,
        ..simple(0, &[-0.0])
    };
    let bits =
        |h: Histogram| [h.count, h.sum, h.zero_count, h.positive_counts[0]].map(f64::to_bits);
    let (minus, plus) = ([(-0.0_f64).to_bits(); 4], [0; 4]);
    assert_eq!(bits(Total::new(&negated).finish()), minus);
    assert_eq!(bits(Mean::new(&negated).finish()), minus);
    // What two have lost is nothing, which is not negative.
    let mut total = Total::new(&negated);
    total.add(&negated, 1.0).unwrap();
    assert_eq!(bits(total.finish()), plus);
}

#[test]
fn interpolation() {
    let (a, b) = (simple(0, &[1.0, 2.0]), simple(0, &[3.0, 2.0]));
    let at = |time, a, b| interpolate((0, a), (10, b), time, true).unwrap().0;
    assert_eq!(at(0, &a, &b), a);
    assert_eq!(at(10, &a, &b), b);
    assert_eq!(at(5, &a, &b).positive_counts, [2.0, 2.0]);
    // From b down to a is a reset: the counter began at zero.
    assert_eq!(at(5, &b, &a).positive_counts, [0.5, 1.0]);
    let gauge = interpolate((0, &b), (10, &a), 5, false).unwrap().0;
    assert_eq!(gauge.positive_counts, [2.0, 2.0]);
}

/// A histogram whose counts are whole numbers, so that sums are exact whatever their order.
fn random(random: &mut StdRng, custom: bool) -> Histogram {
    let mut side = |most: u32| {
        let (mut spans, mut counts) = (Vec::new(), Vec::new());
        for n in 0..random.random_range(0..4) {
            let offset = if n == 0 && most == u32::MAX {
                random.random_range(-20..20)
            } else {
                random.random_range(0..4)
            };
            let length = random.random_range(0..5);
            spans.push(span(offset, length));
            counts.extend((0..length).map(|_| f64::from(random.random_range(0..5u32))));
        }
        let (mut end, mut kept) = (0i64, 0usize);
        spans.retain(|span| {
            end += i64::from(span.offset) + i64::from(span.length);
            let fits = end <= i64::from(most);
            kept += if fits { span.length as usize } else { 0 };
            fits
        });
        counts.truncate(kept);
        (spans, counts)
    };
    if custom {
        let (positive_spans, positive_counts) = side(8);
        let mut bounds: Vec<f64> = (0..12).map(f64::from).collect();
        for _ in 0..5 {
            bounds.remove(random.random_range(0..bounds.len()));
        }
        let count = positive_counts.iter().sum();
        let schema = CUSTOM_BUCKETS_SCHEMA;
        return Histogram {
            schema,
            count,
            sum: count,
            positive_spans,
            positive_counts,
            custom_values: bounds,
            ..Histogram::default()
        };
    }
    let (positive, negative) = (side(u32::MAX), side(u32::MAX));
    let threshold = [0.0, 0.001, 0.25, 0.7, 1.0, 3.0][random.random_range(0..6)];
    exponential_of(
        random.random_range(-2..5),
        (threshold, f64::from(random.random_range(0..9u32))),
        positive,
        negative,
    )
}

fn populated(histogram: &Histogram) -> f64 {
    let buckets: f64 = histogram
        .positive_counts
        .iter()
        .chain(&histogram.negative_counts)
        .sum();
    buckets + histogram.zero_count
}

/// Whether spans tell of as many buckets as there are counts.
fn is_consistent(histogram: &Histogram) -> bool {
    let buckets = |spans: &[Span]| spans.iter().map(|span| span.length as usize).sum::<usize>();
    buckets(&histogram.positive_spans) == histogram.positive_counts.len()
        && buckets(&histogram.negative_spans) == histogram.negative_counts.len()
        && histogram
            .negative_spans
            .iter()
            .skip(1)
            .chain(histogram.positive_spans.iter().skip(1))
            .all(|span| span.offset >= 0)
}

fn check_pairs(check: impl Fn(&Histogram, &Histogram, u64)) {
    for seed in 0..4000 {
        let mut numbers = StdRng::seed_from_u64(seed);
        let custom = seed % 3 == 0;
        check(
            &random(&mut numbers, custom),
            &random(&mut numbers, custom),
            seed,
        );
    }
}

#[test]
fn sums_commute_and_lose_nothing() {
    check_pairs(|a, b, seed| {
        let (mut sum, merged) = add(a, b).unwrap();
        let (mut swapped, _) = add(b, a).unwrap();
        assert!(is_consistent(&sum), "{seed}: {sum:?}");
        // A zero bucket may end inside a bucket of the lower resolution, which then counts for
        // itself as well, and buckets that a zero bucket overlaps from the start are
        // ignored when they are added: as in Prometheus.
        let outside = |(index, _), h: &Histogram| exponential(h.schema, index) > h.zero_threshold;
        let is_tidy = |h: &Histogram| {
            Cells::positive(h)
                .chain(Cells::negative(h))
                .all(|cell| outside(cell, h))
        };
        if is_custom(a) || (a.schema == b.schema && is_tidy(a) && is_tidy(b)) {
            assert_eq!(
                populated(&sum),
                populated(a) + populated(b),
                "{seed}: {a:?} {b:?}"
            );
            compact(&mut sum);
            compact(&mut swapped);
            assert_eq!(text(&sum), text(&swapped), "{seed}: {a:?} {b:?}");
        }
        assert_eq!(
            merged.reconciled,
            a.custom_values != b.custom_values,
            "{seed}"
        );
    });
}

#[test]
fn what_was_added_can_be_subtracted() {
    check_pairs(|a, b, seed| {
        let (sum, _) = add(a, b).unwrap();
        let (mut back, _) = subtract(&sum, b).unwrap();
        compact(&mut back);
        assert!(is_consistent(&back), "{seed}");
        assert_eq!((back.count, back.sum), (a.count, a.sum), "{seed}");
    });
}

#[test]
fn what_only_grows_is_not_reset() {
    check_pairs(|a, b, seed| {
        if is_custom(a) || a.zero_threshold == b.zero_threshold {
            let (sum, _) = add(a, b).unwrap();
            assert!(!detect(&sum, a), "{seed}: {a:?} {b:?}");
            if b.count > 0.0 {
                assert!(detect(a, &sum), "{seed}");
            }
        }
    });
}

#[test]
fn buckets_ascend_and_descend_alike() {
    check_pairs(|a, _, seed| {
        let upwards: Vec<_> = ascending(a).collect();
        let mut downwards: Vec<_> = descending(a).collect();
        downwards.reverse();
        assert_eq!(upwards, downwards, "{seed}");
    });
}

#[test]
fn a_lower_resolution_keeps_all_observations() {
    check_pairs(|a, _, seed| {
        let coarse = in_schema(a, -4);
        assert!(is_consistent(&coarse), "{seed}");
        assert_eq!(populated(&coarse), populated(a), "{seed}");
        assert!(!detect(&coarse, a) || is_custom(a), "{seed}");
    });
}

#[test]
fn two_trims_at_one_value_are_the_whole() {
    check_pairs(|a, _, seed| {
        for value in [-3.0, -0.5, 0.0, 0.1, 1.0, 1.7, 100.0] {
            let (below, above) = (trim(a, Keep::Below, value), trim(a, Keep::Above, value));
            assert!(is_consistent(&below) && is_consistent(&above), "{seed}");
            for part in [&below, &above] {
                assert!(
                    (part.count - populated(part)).abs() < 1e-9,
                    "{seed}: {part:?}"
                );
                assert!(
                    part.positive_counts
                        .iter()
                        .chain(&part.negative_counts)
                        .all(|count| *count >= 0.0),
                    "{seed}"
                );
            }
            // What lies in an unbounded bucket is left out on one side.
            let unbounded =
                is_custom(a) && (value <= 0.0 || value > *a.custom_values.last().unwrap_or(&0.0));
            if !unbounded {
                assert!(
                    (below.count + above.count - a.count).abs() < 1e-9,
                    "{seed} {value}: {a:?}"
                );
            }
        }
    });
}

#[test]
fn quantiles_ascend_and_agree_with_fractions() {
    check_pairs(|a, _, seed| {
        let mut last = f64::NEG_INFINITY;
        for q in [0.0, 0.1, 0.3, 0.49, 0.5, 0.7, 0.9, 1.0] {
            let (value, _) = quantile(q, a);
            // Buckets that overlap the zero bucket are cut by it, so only tidy histograms are in
            // order.
            let tidy = is_custom(a)
                || Cells::positive(a)
                    .chain(Cells::negative(a))
                    .all(|(index, _)| exponential(a.schema, index - 1) >= a.zero_threshold);
            if a.count > 0.0 && tidy {
                assert!(
                    value >= last - 1e-9 * last.abs(),
                    "{seed} {q}: {value} {last} {a:?}"
                );
                last = value;
            }
        }
    });
}
