//! Points of every kind.

use super::*;

fn histogram_metric(name: &str, temporality: u64, points: Vec<Message>) -> Message {
    let data = points
        .into_iter()
        .fold(m(), |data, point| data.message(1, point));
    m().text(1, name).message(9, data.varint(2, temporality))
}

fn exponential_metric(name: &str, temporality: u64, points: Vec<Message>) -> Message {
    let data = points
        .into_iter()
        .fold(m(), |data, point| data.message(1, point));
    m().text(1, name).message(10, data.varint(2, temporality))
}

fn histogram_point(count: u64, counts: &[u64], bounds: &[f64]) -> Message {
    let point = m().fixed64(3, TIME).fixed64(4, count);
    let counts: Vec<u8> = counts
        .iter()
        .flat_map(|count| count.to_le_bytes())
        .collect();
    let bounds: Vec<u8> = bounds
        .iter()
        .flat_map(|bound| bound.to_le_bytes())
        .collect();
    point.bytes(6, &counts).bytes(7, &bounds)
}

fn buckets(offset: i32, counts: &[u64]) -> Message {
    let zigzag = (offset << 1 ^ offset >> 31) as u32;
    let packed: Vec<u8> = counts
        .iter()
        .flat_map(|&count| m().varint(1, count).into_bytes().split_off(1))
        .collect();
    m().varint(1, u64::from(zigzag)).bytes(2, &packed)
}

fn scale(scale: i32) -> u64 {
    u64::from((scale << 1 ^ scale >> 31) as u32)
}

fn one(metric: Message) -> Message {
    request(&[], vec![metric])
}

#[test]
fn numbers_keep_every_bit() {
    let settings = Settings::default();
    let check = |point: Message, expected: &str| {
        let point = point.fixed64(3, TIME);
        check(
            &settings,
            &one(gauge("g", vec![point])),
            &[&format!("g{{}} {expected} @0")],
        );
    };
    check(m().double(4, 0.1 + 0.2), "0.30000000000000004");
    check(m().double(4, -0.0), "-0.0");
    check(m().double(4, f64::INFINITY), "inf");
    check(m().double(4, 5e-324), "5e-324");
    check(m().fixed64(6, -7i64 as u64), "-7.0");
    check(
        m().fixed64(6, i64::MAX as u64),
        "9.223372036854775807e18"
            .parse::<f64>()
            .map(|v| format!("{v:?}"))
            .unwrap()
            .as_str(),
    );
    // The last one counts.
    check(m().double(4, 1.5).fixed64(6, 3), "3.0");
    check(m(), "0.0");
    let nan = f64::from_bits(0x7ff8_0000_0000_beef);
    let registry = SeriesRegistry::new(1 << 20);
    let body = one(gauge("g", vec![m().double(4, nan)]));
    let written = try_written(&registry, &settings, &body).unwrap();
    let FieldValues::Float(values) = &written.rows.fields[0].values else {
        panic!("no floats");
    };
    assert_eq!(values[0].to_bits(), nan.to_bits());
}

#[test]
fn times_are_cut_to_milliseconds() {
    let settings = Settings::default();
    let at = |time: u64, start: u64| {
        let registry = SeriesRegistry::new(1 << 20);
        let point = m().fixed64(2, start).fixed64(3, time).double(4, 1.0);
        let body = one(sum("c", 2, true, vec![point]));
        let written = try_written(&registry, &settings, &body).unwrap();
        let started = written
            .rows
            .fields
            .iter()
            .find_map(|field| match &field.values {
                FieldValues::Integer(values) => Some(values[0]),
                _ => None,
            });
        (written.rows.time[0], started)
    };
    assert_eq!(
        at(TIME, TIME - 1_000_000),
        (1_700_000_000_123, Some(1_700_000_000_122))
    );
    assert_eq!(at(999_999, 0), (0, None));
    assert_eq!(at(-1_500_000i64 as u64, 0), (-1, None));
    assert_eq!(at(u64::MAX, 0), (0, None));
}

#[test]
fn the_end_of_a_series_is_a_stale_marker() {
    let settings = Settings::default();
    let bits = |metric: Message, settings: &Settings| {
        let registry = SeriesRegistry::new(1 << 20);
        let written = try_written(&registry, settings, &one(metric)).unwrap();
        assert_eq!(written.refused, 0, "{:?}", written.errors);
        let mut bits = Vec::new();
        for field in &written.rows.fields {
            match &field.values {
                FieldValues::Float(values) => bits.extend(values.iter().map(|v| v.to_bits())),
                FieldValues::Histogram(list) => bits.extend(list.iter().map(|h| h.sum.to_bits())),
                _ => {}
            }
        }
        bits
    };
    const STALE: u64 = 0x7ff0_0000_0000_0002;
    assert_eq!(
        bits(gauge("g", vec![m().double(4, 5.0).varint(8, 1)]), &settings),
        [STALE]
    );
    assert_eq!(
        bits(gauge("g", vec![m().double(4, 5.0).varint(8, 2)]), &settings),
        [5f64.to_bits()]
    );
    let histogram = histogram_point(9, &[1, 2], &[1.0])
        .double(5, 1.0)
        .varint(10, 1);
    let classic = histogram_metric("h", 2, vec![histogram.clone()]);
    assert_eq!(bits(classic.clone(), &settings), [STALE; 4]);
    let native = Settings {
        custom_buckets: true,
        ..Settings::default()
    };
    assert_eq!(bits(classic, &native), [STALE]);
    let exponential = exponential_metric("e", 2, vec![m().fixed64(4, 9).varint(10, 1)]);
    assert_eq!(bits(exponential, &settings), [STALE]);
    let quantile = m().double(1, 0.5).double(2, 1.0);
    let summary = m().fixed64(4, 1).message(6, quantile).varint(8, 1);
    let summary = m().text(1, "s").message(11, m().message(1, summary));
    assert_eq!(bits(summary, &settings), [STALE; 3]);
}

#[test]
fn summaries_are_a_sum_a_count_and_quantiles() {
    let quantile = |quantile: f64, value: f64| m().double(1, quantile).double(2, value);
    let summary = m()
        .fixed64(3, TIME)
        .fixed64(2, TIME - 1_000_000)
        .fixed64(4, 50)
        .double(5, 100.0)
        .message(6, quantile(0.5, 30.0))
        .message(6, quantile(0.9, 40.0));
    let summary = with(summary, 7, &[("a", "b"), ("quantile", "x")]);
    let metric = |point| {
        m().text(1, "test_summary")
            .message(11, m().message(1, point))
    };
    let expected = [
        "test_summary_count{a=\"b\", quantile=\"x\"} 50.0 @0 since -1",
        "test_summary_sum{a=\"b\", quantile=\"x\"} 100.0 @0 since -1",
        "test_summary{a=\"b\", quantile=\"0.5\"} 30.0 @0 since -1",
        "test_summary{a=\"b\", quantile=\"0.9\"} 40.0 @0 since -1",
    ];
    check(&Settings::default(), &one(metric(summary)), &expected);
    let empty = ["test_summary_count{} 0.0 @0", "test_summary_sum{} 0.0 @0"];
    check(
        &Settings::default(),
        &one(metric(m().fixed64(3, TIME))),
        &empty,
    );
}

#[test]
fn histograms_are_a_series_a_bucket() {
    let settings = Settings::default();
    let point = histogram_point(6, &[1, 0, 2, 3], &[0.005, 1.0, 1e22]).double(5, 7.5);
    let point = with(point, 9, &[("le", "x"), ("a", "b")]).fixed64(2, TIME - 2_000_000);
    let expected = [
        "h_bucket{a=\"b\", le=\"+Inf\"} 6.0 @0 since -2",
        "h_bucket{a=\"b\", le=\"0.005\"} 1.0 @0 since -2",
        "h_bucket{a=\"b\", le=\"1\"} 1.0 @0 since -2",
        "h_bucket{a=\"b\", le=\"10000000000000000000000\"} 3.0 @0 since -2",
        "h_count{a=\"b\", le=\"x\"} 6.0 @0 since -2",
        "h_sum{a=\"b\", le=\"x\"} 7.5 @0 since -2",
    ];
    check(
        &settings,
        &one(histogram_metric("h", 2, vec![point])),
        &expected,
    );
    // Without a sum there is none, and without buckets only that of all.
    let point = m().fixed64(3, TIME).fixed64(4, 2);
    let expected = ["h_bucket{le=\"+Inf\"} 2.0 @0", "h_count{} 2.0 @0"];
    check(
        &settings,
        &one(histogram_metric("h", 2, vec![point])),
        &expected,
    );
}

#[test]
fn histograms_with_explicit_bounds_may_be_native() {
    let settings = Settings {
        custom_buckets: true,
        ..Settings::default()
    };
    let check = |count: u64, counts: &[u64], bounds: &[f64], expected: &str| {
        let point = histogram_point(count, counts, bounds).double(5, 3.0);
        let line = format!("h{{}} schema -53 count {count} sum 3.0{expected} @0");
        check(
            &settings,
            &one(histogram_metric("h", 2, vec![point])),
            &[&line],
        );
    };
    check(
        2,
        &[1, 1],
        &[0.0, 1.0],
        " above [(0, 2)] [1.0, 1.0] bounds [0.0, 1.0]",
    );
    check(
        3,
        &[2, 0, 1],
        &[5.0, 10.0],
        " above [(0, 3)] [2.0, 0.0, 1.0] bounds [5.0, 10.0]",
    );
    check(
        11,
        &[3, 8, 0],
        &[0.0, 1.0],
        " above [(0, 2)] [3.0, 8.0] bounds [0.0, 1.0]",
    );
    let nine = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let bounds = " bounds [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]";
    let check_nine = |counts: &[u64], expected: &str| {
        check(
            counts.iter().sum(),
            counts,
            &nine,
            &format!("{expected}{bounds}"),
        );
    };
    check_nine(&[4, 3, 2, 1], " above [(0, 4)] [4.0, 3.0, 2.0, 1.0]");
    check_nine(&[0, 0, 1, 1, 2, 3], " above [(2, 4)] [1.0, 1.0, 2.0, 3.0]");
    check_nine(
        &[0, 0, 1, 1, 2, 3, 0, 0],
        " above [(2, 4)] [1.0, 1.0, 2.0, 3.0]",
    );
    check_nine(
        &[1, 2, 0, 0, 2],
        " above [(0, 5)] [1.0, 2.0, 0.0, 0.0, 2.0]",
    );
    check_nine(
        &[1, 2, 0, 0, 0, 2, 4, 4],
        " above [(0, 2), (3, 3)] [1.0, 2.0, 2.0, 4.0, 4.0]",
    );
    // All is in the bucket without bounds.
    check(5, &[], &[], " above [(0, 1)] [5.0]");
    check(
        2,
        &[1, 1],
        &[1.0, f64::INFINITY],
        " above [(0, 2)] [1.0, 1.0] bounds [1.0]",
    );

    let refuse_point = |point: Message, part: &str| {
        refuse(
            &settings,
            &one(histogram_metric("h", 2, vec![point])),
            1,
            &["metric \"h\"", part],
        );
    };
    refuse_point(histogram_point(9, &[1, 1], &[1.0]), "count is 9");
    refuse_point(histogram_point(2, &[1, 1], &[1.0, 1.0]), "ascending");
    refuse_point(histogram_point(2, &[1, 1], &[]), "beyond");
    refuse_point(histogram_point(0, &vec![0; 70_000], &[]), "70000 buckets");
}

#[test]
fn exponential_histograms_are_native() {
    let settings = Settings::default();
    let point = |count: u64, of: i32, zero: u64, above: Message, below: Message| {
        m().fixed64(3, TIME)
            .fixed64(4, count)
            .double(5, 10.1)
            .varint(6, scale(of))
            .fixed64(7, zero)
            .message(8, above)
            .message(9, below)
    };
    let check = |point: Message, expected: &str| {
        let line = format!("e{{}} {expected} @0");
        check(
            &settings,
            &one(exponential_metric("e", 2, vec![point])),
            &[&line],
        );
    };
    check(
        point(5, 1, 1, buckets(1, &[1, 1]), buckets(1, &[1, 1])),
        "schema 1 count 5 sum 10.1 zero 1 within 1e-128 \
         above [(2, 2)] [1.0, 1.0] below [(2, 2)] [1.0, 1.0]",
    );
    check(
        point(7, 8, 1, buckets(1, &[1, 1, 1]), buckets(2, &[1, 1, 1])),
        "schema 8 count 7 sum 10.1 zero 1 within 1e-128 \
         above [(2, 3)] [1.0, 1.0, 1.0] below [(3, 3)] [1.0, 1.0, 1.0]",
    );
    check(
        point(7, 9, 1, buckets(1, &[1, 1, 1]), buckets(2, &[1, 1, 1])),
        "schema 8 count 7 sum 10.1 zero 1 within 1e-128 \
         above [(1, 2)] [1.0, 2.0] below [(2, 2)] [2.0, 1.0]",
    );
    check(
        point(7, -4, 0, buckets(-1, &[4, 2, 1]), m()),
        "schema -4 count 7 sum 10.1 zero 0 within 1e-128 above [(0, 3)] [4.0, 2.0, 1.0]",
    );
    // Without a sum it is 0, and the sender's threshold does not count.
    check(
        m().fixed64(3, TIME)
            .fixed64(4, 2)
            .fixed64(7, 2)
            .double(14, 0.5),
        "schema 0 count 2 sum 0.0 zero 2 within 1e-128",
    );
    check(
        point(u64::MAX, 0, u64::MAX, m(), m()),
        "schema 0 count 18446744073709552000 sum 10.1 zero 18446744073709552000 within 1e-128",
    );
    let refuse_point = |point: Message, part: &str| {
        let request = one(exponential_metric("e", 2, vec![point]));
        refuse(&settings, &request, 1, &["metric \"e\"", part]);
    };
    refuse_point(point(0, -5, 0, m(), m()), "scale -5");
    refuse_point(point(0, -10, 0, m(), m()), "the lowest that is taken is -4");
    refuse_point(
        point(5, 0, 1, m(), m()),
        "count is 5, but its buckets have 1",
    );
    refuse_point(point(1, 0, 0, buckets(i32::MAX, &[1]), m()), "beyond");
    refuse_point(
        point(0, 0, 0, buckets(0, &vec![0; 70_000]), m()),
        "70000 buckets",
    );
    // Its other points are kept.
    let good = point(1, 0, 1, m(), m());
    let request = one(exponential_metric(
        "e",
        2,
        vec![point(0, -5, 0, m(), m()), good],
    ));
    assert_eq!(written(&settings, &request).histograms, 1);
}

#[test]
fn deltas_of_histograms_are_gauges() {
    let settings = Settings {
        delta: Delta::Keep,
        custom_buckets: true,
        ..Settings::default()
    };
    let exponential = m().fixed64(3, TIME).fixed64(4, 2).fixed64(7, 2);
    let metrics = vec![
        exponential_metric("e", 1, vec![exponential]),
        histogram_metric("h", 1, vec![histogram_point(1, &[1], &[])]),
    ];
    let expected = [
        "e{} schema 0 count 2 sum 0.0 zero 2 within 1e-128 gauge @0",
        "h{} schema -53 count 1 sum 0.0 above [(0, 1)] [1.0] gauge @0",
    ];
    check(&settings, &request(&[], metrics), &expected);
}

fn exemplar(value: f64) -> Message {
    m().double(3, value).fixed64(2, TIME + 5_000_000)
}

#[test]
fn exemplars_are_those_of_their_bucket() {
    let point = histogram_point(10, &[7, 3], &[100.0])
        .double(5, 42.0)
        .message(8, exemplar(1.0).bytes(5, &[0xab; 16]).bytes(4, &[0xcd; 8]))
        .message(8, exemplar(100.0))
        .message(8, exemplar(200.0).bytes(5, &[0; 16]));
    let other = with(histogram_point(20, &[14, 6], &[100.0]), 9, &[("a", "b")]);
    let request = one(histogram_metric("h", 2, vec![point, other]));
    let mut settings = Settings::default();
    let ids = format!("span_id={} trace_id={}", "cd".repeat(8), "ab".repeat(16));
    let first = format!("exemplar of h_bucket{{le=\"100\"}} 1.0 {ids} @5");
    let expected = [
        "exemplar of h_bucket{le=\"+Inf\"} 200.0 @5",
        &first,
        "exemplar of h_bucket{le=\"100\"} 100.0 @5",
        "h_bucket{a=\"b\", le=\"+Inf\"} 20.0 @0",
        "h_bucket{a=\"b\", le=\"100\"} 14.0 @0",
        "h_bucket{le=\"+Inf\"} 10.0 @0",
        "h_bucket{le=\"100\"} 7.0 @0",
        "h_count{a=\"b\"} 20.0 @0",
        "h_count{} 10.0 @0",
        "h_sum{} 42.0 @0",
    ];
    check(&settings, &request, &expected);
    settings.custom_buckets = true;
    let registry = SeriesRegistry::new(1 << 20);
    let written = try_written(&registry, &settings, &request).unwrap();
    let found = lines(&registry, &written);
    let of_h = |line: &&String| line.starts_with("exemplar of h{}");
    assert_eq!(found.iter().filter(of_h).count(), 3, "{found:?}");
}

#[test]
fn exemplars_have_128_characters_at_most() {
    let settings = Settings::default();
    let check_labels = |exemplar: Message, expected: &str| {
        let point = point(1.0).message(5, exemplar);
        let line = format!("exemplar of c_total{{}} 2.0{expected} @0");
        let request = one(sum("c", 2, true, vec![point]));
        check(&settings, &request, &["c_total{} 1.0 @0", &line]);
    };
    // Without a time it has that of its sample.
    let exemplar = || m().fixed64(6, 2);
    let ids = |exemplar: Message| exemplar.bytes(5, &[1; 16]).bytes(4, &[2; 8]);
    let shown = format!(" span_id={} trace_id={}", "02".repeat(8), "01".repeat(16));
    check_labels(exemplar(), "");
    check_labels(ids(exemplar()), &shown);
    // 63 characters are ids.
    let note = |chars: usize| "é".repeat(chars);
    let fits = with(ids(exemplar()), 7, &[("note", &note(61))]);
    check_labels(fits, &format!(" note={}{shown}", note(61)));
    let too_long = with(ids(exemplar()), 7, &[("note", &note(62)), ("b", "c")]);
    check_labels(too_long, &shown);
    check_labels(with(exemplar(), 7, &[("note", &note(200))]), "");
    check_labels(with(exemplar(), 7, &[("b", "2"), ("a", "1")]), " a=1 b=2");
    // One without a value is none, and gauges have none.
    let none = point(1.0).message(5, m().bytes(5, &[1; 16]));
    check(
        &settings,
        &one(sum("c", 2, true, vec![none])),
        &["c_total{} 1.0 @0"],
    );
    let of_gauge = point(1.0).message(5, exemplar());
    check(&settings, &one(gauge("g", vec![of_gauge])), &["g{} 1.0 @0"]);
}
