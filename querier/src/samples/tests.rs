mod model;
mod order;
mod refusals;

use futures::TryStreamExt;
use tidelake_catalog::model::STALE_NAN_BITS;
use tidelake_catalog::segment::ReadMeter;

use super::*;
use crate::memory::QueryMemory;
use crate::promql::source::{Part, SelectLimits};
use crate::test_tables::Cell::{Boolean, Float, Integer, Text, Time, Unsigned};
use crate::test_tables::{Cell, DATABASE, Row, TestTables, matchers, row, sample, words};

const MS: i64 = 1_000_000;

/// A request for all samples of a selector, in order and without limits.
fn request(selector: &str) -> SelectRequest {
    SelectRequest {
        matchers: matchers(selector),
        range: TimeRange::ALL,
        limits: SelectLimits { max_series: 1000 },
        meter: ReadMeter::unlimited(Vec::new()),
        pool: QueryMemory::unlimited().pool(),
        alone: true,
        part: Part::WHOLE,
        is_shared: false,
        is_ordered: true,
    }
}

async fn select(
    test: &TestTables,
    request: SelectRequest,
) -> Result<Vec<SeriesSamples>, SourceError> {
    let samples = DatabaseSamples::new(test.tables.clone(), DATABASE);
    let selected = samples.select(request).await?;
    let batches: Vec<SeriesBatch> = selected.stream.try_collect().await?;
    Ok(batches.into_iter().flat_map(|batch| batch.series).collect())
}

/// A series and its samples: `up job=a: 1@10 2@20`.
fn text(series: &SeriesSamples) -> String {
    let samples = series.times.iter().zip(series.values.iter());
    let samples = samples.map(|(time, value)| format!(" {value}@{time}"));
    format!("{}:{}", words(&series.labels), samples.collect::<String>())
}

/// The series that a selector selects in a range of milliseconds, by their labels.
async fn check(test: &TestTables, selector: &str, range: TimeRange, expected: &[&str]) {
    let request = SelectRequest {
        range,
        ..request(selector)
    };
    let mut series = select(test, request).await.unwrap();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let found: Vec<String> = series.iter().map(text).collect();
    assert_eq!(found, expected, "{selector} {range:?}");
}

fn histogram(count: f64) -> Histogram {
    Histogram {
        count,
        sum: 2.0 * count,
        zero_count: count,
        ..Histogram::default()
    }
}

#[tokio::test]
async fn samples_of_all_segments_and_chunks_are_one_series() {
    let test = TestTables::new().await;
    let flushed = [sample("up job=a", 10, 1.0), sample("up job=b", 10, 5.0)];
    test.flush(METRICS_TABLE, &flushed).await;
    let later = [sample("up job=a", 10, 2.0), sample("up job=a", 20, 3.0)];
    test.flush(METRICS_TABLE, &later).await;
    let recent = [sample("up job=a", 15, 4.0), sample("load job=a", 15, 6.0)];
    test.buffer(METRICS_TABLE, &recent).await;
    let (all, a, b) = (TimeRange::ALL, "up job=a: 2@10 4@15 3@20", "up job=b: 5@10");
    check(&test, "up", all, &[a, b]).await;
    let selector = r#"{job="a"}"#;
    check(&test, selector, all, &["load job=a: 6@15", a]).await;
    check(&test, r#"up{job!~"a|c"}"#, all, &[b]).await;
    let range = TimeRange::new(11, 15);
    check(&test, "up", range, &["up job=a: 4@15"]).await;
    check(&test, "up", TimeRange::new(21, 99), &[]).await;
    check(&test, "down", all, &[]).await;
}

#[tokio::test]
async fn a_stale_marker_keeps_its_bits() {
    let test = TestTables::new().await;
    let stale = f64::from_bits(STALE_NAN_BITS);
    let rows = [sample("up", 10, stale), sample("up", 20, f64::NAN)];
    test.flush(METRICS_TABLE, &rows).await;
    let series = select(&test, request("up")).await.unwrap();
    assert_eq!(series[0].values[0].to_bits(), STALE_NAN_BITS);
    assert_ne!(series[0].values[1].to_bits(), STALE_NAN_BITS);
}

#[tokio::test]
async fn histograms_stand_beside_floats() {
    let test = TestTables::new().await;
    let mixed = |time, count| {
        row(
            "lat job=a",
            time,
            &[("histogram", Cell::Histogram(histogram(count)))],
        )
    };
    let rows = [
        mixed(10, 1.0),
        sample("lat job=a", 20, 7.0),
        mixed(30, 3.0),
        sample("lat job=b", 10, 8.0),
    ];
    test.flush(METRICS_TABLE, &rows).await;
    // This one replaces the float, and is the only one of its chunk.
    test.buffer(METRICS_TABLE, &[mixed(20, 2.0)]).await;
    test.buffer(METRICS_TABLE, &[sample("lat job=a", 40, 4.0)])
        .await;
    let mut series = select(&test, request("lat")).await.unwrap();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let [a, b] = &series[..] else {
        panic!("{series:?}")
    };
    assert_eq!(text(a), "lat job=a: NaN@10 NaN@20 NaN@30 4@40");
    let found: Vec<_> = a
        .histograms
        .iter()
        .map(|(at, h)| (*at, (**h).clone()))
        .collect();
    let expected = [1.0, 2.0, 3.0].map(histogram);
    assert_eq!(found, (0..).zip(expected).collect::<Vec<_>>());
    assert_eq!(text(b), "lat job=b: 8@10");
    assert!(b.histograms.is_empty() && b.start_times.is_empty());
}

#[tokio::test]
async fn a_start_time_that_is_not_known_is_zero() {
    let test = TestTables::new().await;
    let begun = |series, time, start| {
        row(
            series,
            time,
            &[("value", Float(1.0)), ("start_time", Time(start))],
        )
    };
    test.flush(
        METRICS_TABLE,
        &[sample("n job=a", 10, 1.0), sample("n job=b", 10, 1.0)],
    )
    .await;
    test.flush(
        METRICS_TABLE,
        &[begun("n job=a", 20, 5), sample("n job=a", 30, 1.0)],
    )
    .await;
    test.buffer(
        METRICS_TABLE,
        &[begun("n job=a", 40, 35), begun("n job=c", 10, 0)],
    )
    .await;
    let mut series = select(&test, request("n")).await.unwrap();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let found: Vec<_> = series.iter().map(|s| s.start_times.as_slice()).collect();
    assert_eq!(found, [&[0, 5, 0, 35][..], &[], &[]]);
}

#[tokio::test]
async fn numeric_fields_of_wide_tables_are_metrics() {
    let test = TestTables::new().await;
    let fields = [
        ("usage", Float(0.5)),
        ("count", Integer(-3)),
        ("big", Unsigned(1 << 40)),
        ("up", Boolean(true)),
        ("note", Text("idle")),
        ("value", Float(9.0)),
    ];
    test.flush("cpu", &[row("host=a", 10 * MS, &fields)]).await;
    test.buffer("cpu", &[row("host=b", 20 * MS, &[("up", Boolean(false))])])
        .await;
    test.flush("disk", &[row("", 10 * MS, &[("free", Integer(1))])])
        .await;
    test.flush(METRICS_TABLE, &[sample("cpu_load host=a", 10, 7.0)])
        .await;
    let all = TimeRange::ALL;
    let of_a = [
        "cpu host=a: 9@10",
        "cpu_big host=a: 1099511627776@10",
        "cpu_count host=a: -3@10",
        "cpu_load host=a: 7@10",
        "cpu_up host=a: 1@10",
        "cpu_usage host=a: 0.5@10",
    ];
    check(&test, r#"{host="a"}"#, all, &of_a).await;
    let up = ["cpu_up host=a: 1@10", "cpu_up host=b: 0@20"];
    check(&test, "cpu_up", all, &up).await;
    check(
        &test,
        r#"{__name__=~"cpu_(l|u).*",host!="b"}"#,
        all,
        &[of_a[3], of_a[4], of_a[5]],
    )
    .await;
    check(
        &test,
        r#"{__name__="disk_free",host=""}"#,
        all,
        &["disk_free: 1@10"],
    )
    .await;
    check(&test, "cpu_note", all, &[]).await;
    check(&test, "cpu_value", all, &[]).await;
    check(&test, "cpu_up", TimeRange::new(11, 20), &up[1..]).await;
}

#[tokio::test]
async fn of_several_rows_in_a_millisecond_the_last_counts() {
    let test = TestTables::new().await;
    let usage = |time, value| row("host=a", time, &[("usage", Float(value))]);
    let none = row("host=a", 3 * MS + 5, &[("idle", Float(8.0))]);
    test.flush(
        "cpu",
        &[
            usage(MS, 1.0),
            usage(2 * MS - 1, 2.0),
            usage(3 * MS, 3.0),
            none,
        ],
    )
    .await;
    test.buffer(
        "cpu",
        &[usage(MS + 7, 4.0), usage(-1, 5.0), usage(-MS, 6.0)],
    )
    .await;
    let all = TimeRange::ALL;
    check(&test, "cpu_usage", all, &["cpu_usage host=a: 5@-1 2@1 3@3"]).await;
    // A range of milliseconds has its last one whole.
    let range = TimeRange::new(-1, 1);
    check(&test, "cpu_usage", range, &["cpu_usage host=a: 5@-1 2@1"]).await;
    let range = TimeRange::new(2, 2);
    check(&test, "cpu_usage", range, &[]).await;
}

#[test]
fn ranges_of_milliseconds_reach_as_far_as_nanoseconds_do() {
    let check = |min, max, expected: (i64, i64)| {
        let range = TimeRange::new(min, max);
        assert_eq!(to_unit(range, TimeUnit::Millisecond), range);
        let found = to_unit(range, TimeUnit::Nanosecond);
        assert_eq!((found.min, found.max), expected);
    };
    check(1, 2, (MS, 3 * MS - 1));
    check(-2, -2, (-2 * MS, -MS - 1));
    check(i64::MIN, i64::MAX, (i64::MIN, i64::MAX));
}

#[tokio::test]
async fn the_shape_is_known_before_samples_are_read() {
    let test = TestTables::new().await;
    let shape = async |selector: &str, range| {
        let samples = DatabaseSamples::new(test.tables.clone(), DATABASE);
        let pool = QueryMemory::unlimited().pool();
        let shape = samples.shape(&matchers(selector), range, &pool).await;
        let shape = shape.unwrap().unwrap();
        let names = Vec::from_iter(shape.label_names);
        (names.join(" "), shape.may_have_histograms)
    };
    let all = TimeRange::ALL;
    assert_eq!(shape("up", all).await, (String::new(), false));
    test.flush("cpu", &[row("host=a", MS, &[("usage", Float(1.0))])])
        .await;
    test.flush(METRICS_TABLE, &[sample("up job=a", 10, 1.0)])
        .await;
    let names = |names: &str| names.to_owned();
    assert_eq!(shape("up", all).await, (names("__name__ job"), false));
    assert_eq!(
        shape("cpu_usage", all).await,
        (names("__name__ host"), false)
    );
    let any = r#"{__name__=~".+"}"#;
    assert_eq!(shape(any, all).await, (names("__name__ host job"), false));
    let lat = row("lat", 20, &[("histogram", Cell::Histogram(histogram(1.0)))]);
    test.buffer(METRICS_TABLE, &[lat]).await;
    assert!(shape("up", all).await.1, "of all series, not only of these");
    assert!(!shape("up", TimeRange::new(0, 19)).await.1);
}
