use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::METRICS_TABLE;

use super::*;
use crate::memory::{MemoryExceeded, QueryMemory};
use crate::samples::PLANNED_SERIES_BYTES;
use crate::test_tables::Cell::{Float, Integer};
use crate::test_tables::{DATABASE, Row, TestTables, matchers, row, sample, words};

const MS: i64 = 1_000_000;
const ANY: &str = r#"{__name__=~".+"}"#;
const LIMITS: SelectLimits = SelectLimits { max_series: 100 };

async fn begin(
    test: &TestTables,
    selector: &str,
    range: TimeRange,
    max_samples: u64,
    pool: &Arc<QueryPool>,
) -> Result<SortedSamples, SourceError> {
    let (tables, pool) = (test.tables.clone(), Arc::clone(pool));
    let matchers = matchers(selector);
    SortedSamples::select(
        tables,
        DATABASE,
        &matchers,
        range,
        LIMITS,
        max_samples,
        pool,
    )
    .await
}

/// A series and its samples: `up job=a: 1@10 2@20`.
fn text(series: &SeriesSamples) -> String {
    let samples = series.times.iter().zip(series.values.iter());
    let samples = samples.map(|(time, value)| format!(" {value}@{time}"));
    format!("{}:{}", words(&series.labels), samples.collect::<String>())
}

async fn all(mut samples: SortedSamples) -> Result<Vec<SeriesSamples>, SourceError> {
    let mut found = Vec::new();
    while let Some(series) = samples.next().await? {
        found.push(series);
    }
    assert!(samples.next().await?.is_none());
    Ok(found)
}

async fn check(test: &TestTables, selector: &str, range: TimeRange, expected: &[&str]) {
    let pool = QueryMemory::unlimited().pool();
    let samples = begin(test, selector, range, u64::MAX, &pool).await.unwrap();
    let series = all(samples).await.unwrap();
    assert!(
        series.is_sorted_by(|a, b| a.labels < b.labels),
        "{series:?}"
    );
    let found: Vec<String> = series.iter().map(text).collect();
    assert_eq!(found, expected, "{selector} {range:?}");
    assert_eq!(pool.used(), 0);
}

/// A metrics table and two wide tables whose series lie between each other's by label order.
async fn tables() -> TestTables {
    let test = TestTables::new().await;
    let cpu = |host: &str, time: i64| {
        let fields = [("usage", Float(1.0)), ("idle", Integer(2))];
        row(&format!("host={host}"), time * MS, &fields)
    };
    let rows = [sample("cpu_load host=b", 10, 3.0), sample("zzz", 10, 4.0)];
    test.flush(METRICS_TABLE, &rows).await;
    let rows = [sample("cpu_load host=a", 20, 5.0), sample("aaa", 10, 6.0)];
    test.flush(METRICS_TABLE, &rows).await;
    let rows = [sample("cpu_load host=b", 20, 7.0)];
    test.buffer(METRICS_TABLE, &rows).await;
    test.flush("cpu", &[cpu("b", 10), cpu("c", 10)]).await;
    test.flush("cpu", &[cpu("a", 10), cpu("b", 20)]).await;
    test.buffer("disk", &[row("", 10 * MS, &[("free", Integer(8))])])
        .await;
    test
}

#[tokio::test]
async fn series_of_all_tables_come_in_the_order_of_their_labels() {
    let test = tables().await;
    let expected = [
        "aaa: 6@10",
        "cpu_idle host=a: 2@10",
        "cpu_idle host=b: 2@10 2@20",
        "cpu_idle host=c: 2@10",
        "cpu_load host=a: 5@20",
        "cpu_load host=b: 3@10 7@20",
        "cpu_usage host=a: 1@10",
        "cpu_usage host=b: 1@10 1@20",
        "cpu_usage host=c: 1@10",
        "disk_free: 8@10",
        "zzz: 4@10",
    ];
    check(&test, ANY, TimeRange::ALL, &expected).await;
    let of_a = [expected[1], expected[4], expected[6]];
    check(&test, r#"{host="a"}"#, TimeRange::ALL, &of_a).await;
    check(&test, "cpu_load", TimeRange::ALL, &expected[4..6]).await;
    check(&test, "none", TimeRange::ALL, &[]).await;
    let late = [
        "cpu_idle host=b: 2@20",
        "cpu_load host=a: 5@20",
        "cpu_load host=b: 7@20",
        "cpu_usage host=b: 1@20",
    ];
    check(&test, ANY, TimeRange::new(11, 20), &late).await;
}

#[tokio::test]
async fn the_order_of_a_file_is_not_that_of_labels() {
    let test = TestTables::new().await;
    let rows = [
        sample("up job=b", 10, 1.0),
        sample("up instance=2 job=a", 10, 2.0),
        sample("up dc=z job=c", 10, 3.0),
    ];
    test.flush(METRICS_TABLE, &rows).await;
    let usage = |series, value| row(series, 10 * MS, &[("usage", Float(value))]);
    // The host, of which there are more, comes first in the file.
    let rows = [
        usage("dc=y host=a", 4.0),
        usage("dc=x host=b", 5.0),
        usage("dc=x host=c", 6.0),
        usage("host=0", 7.0),
    ];
    test.flush("cpu", &rows).await;
    let expected = [
        "cpu_usage dc=x host=b: 5@10",
        "cpu_usage dc=x host=c: 6@10",
        "cpu_usage dc=y host=a: 4@10",
        "cpu_usage host=0: 7@10",
        "up dc=z job=c: 3@10",
        "up instance=2 job=a: 2@10",
        "up job=b: 1@10",
    ];
    check(&test, ANY, TimeRange::ALL, &expected).await;
}

#[tokio::test]
async fn a_series_without_values_is_left_out() {
    let test = TestTables::new().await;
    let usage = |host, value| row(host, 10 * MS, &[("usage", Float(value))]);
    let idle = |host| row(host, 10 * MS, &[("idle", Float(0.0))]);
    // In the index of the one field stand the series of the other, first and last.
    let rows = [idle("host=a"), usage("host=b", 1.0), idle("host=c")];
    test.flush("cpu", &rows).await;
    test.flush(METRICS_TABLE, &[sample("cpu_usage host=aa", 10, 2.0)])
        .await;
    let expected = ["cpu_usage host=aa: 2@10", "cpu_usage host=b: 1@10"];
    check(&test, "cpu_usage", TimeRange::ALL, &expected).await;
    let expected = ["cpu_idle host=a: 0@10", "cpu_idle host=c: 0@10"];
    check(&test, "cpu_idle", TimeRange::ALL, &expected).await;
}

#[tokio::test]
async fn more_samples_than_may_be_held_are_refused() {
    let test = TestTables::new().await;
    let rows = (0..30).map(|time| sample(&format!("up job={}", time % 3), time, 0.0));
    test.flush(METRICS_TABLE, &rows.collect::<Vec<Row>>()).await;
    let pool = QueryMemory::unlimited().pool();
    let select = |most| begin(&test, "up", TimeRange::ALL, most, &pool);
    let series = all(select(30).await.unwrap()).await.unwrap();
    assert_eq!(series.len(), 3);
    let refused = all(select(29).await.unwrap()).await.unwrap_err();
    let message = "more than 29 samples would be held at a time";
    assert_eq!(refused, SourceError::LimitExceeded(message.to_owned()));
    assert_eq!(pool.used(), 0);
}

#[tokio::test]
async fn tables_are_held_one_after_the_other() {
    let test = TestTables::new().await;
    for table in ["a", "b", "c"] {
        let rows = (0..10).map(|time| row("", time * MS, &[("x", Float(0.0))]));
        test.flush(table, &rows.collect::<Vec<Row>>()).await;
    }
    let pool = QueryMemory::unlimited().pool();
    // Each has ten samples, and is given away before the next is read.
    let samples = begin(&test, ANY, TimeRange::ALL, 10, &pool).await.unwrap();
    assert_eq!(all(samples).await.unwrap().len(), 3);
}

#[tokio::test]
async fn more_series_than_allowed_are_refused() {
    let test = TestTables::new().await;
    let rows = (0..101).map(|job| sample(&format!("up job={job}"), 1, 0.0));
    test.flush(METRICS_TABLE, &rows.collect::<Vec<Row>>()).await;
    let pool = QueryMemory::unlimited().pool();
    let refused = begin(&test, "up", TimeRange::ALL, u64::MAX, &pool).await;
    let refused = refused.unwrap_err().to_string();
    let words = "matches 101 series, at most 100 are allowed";
    assert!(refused.contains(words), "{refused}");
}

#[tokio::test]
async fn memory_follows_what_is_held() {
    let test = TestTables::new().await;
    let rows = (0..200).map(|time| sample(&format!("up job={}", time % 2), time, 0.0));
    test.flush(METRICS_TABLE, &rows.collect::<Vec<Row>>()).await;
    let pool = |bytes| QueryMemory::new(MemoryBudget::unlimited(), bytes).pool();
    let plan = 2 * PLANNED_SERIES_BYTES;
    let enough = pool(1 << 20);
    let samples = begin(&test, "up", TimeRange::ALL, u64::MAX, &enough).await;
    let mut samples = samples.unwrap();
    assert_eq!(enough.used(), plan);
    let first = samples.next().await.unwrap().unwrap();
    let each = first.bytes();
    assert_eq!(enough.used(), plan + 2 * each);
    samples.next().await.unwrap().unwrap();
    assert_eq!(enough.used(), plan + each);
    assert!(samples.next().await.unwrap().is_none());
    assert_eq!(enough.used(), plan);
    drop(samples);
    assert_eq!(enough.used(), 0);
    let refused = begin(&test, "up", TimeRange::ALL, u64::MAX, &pool(plan - 1)).await;
    let is_refused = |error| matches!(error, SourceError::Memory(MemoryExceeded::Query { .. }));
    assert!(is_refused(refused.unwrap_err()));
    let little = pool(plan + 1000);
    let samples = begin(&test, "up", TimeRange::ALL, u64::MAX, &little).await;
    assert!(is_refused(all(samples.unwrap()).await.unwrap_err()));
    assert_eq!(little.used(), 0);
}
