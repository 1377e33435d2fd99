use tidelake_catalog::memory::MemoryBudget;

use super::*;
use crate::memory::{MemoryExceeded, QueryMemory};
use crate::test_tables::{Cell, DATABASE, Row, TestTables, labels, matchers, row, words};

fn exemplar(series: &str, time: i64, value: f64, own: &str) -> Row {
    let cells = [
        ("value", Cell::Float(value)),
        ("labels", Cell::Labels(labels(own))),
    ];
    row(series, time, &cells)
}

async fn tables() -> TestTables {
    let test = TestTables::new().await;
    let rows = [
        exemplar("lat job=b", 10, 1.0, "trace=x"),
        exemplar("lat job=a", 20, 2.0, "trace=y"),
        exemplar("lat job=a", 10, 3.0, "trace=z"),
    ];
    test.flush(EXEMPLARS_TABLE, &rows).await;
    let rows = [
        exemplar("req job=a", 30, 4.0, ""),
        exemplar("lat job=a", 15, 5.0, "span=s trace=w"),
    ];
    test.flush(EXEMPLARS_TABLE, &rows).await;
    let rows = [exemplar("lat job=b", 40, 6.0, "trace=v")];
    test.buffer(EXEMPLARS_TABLE, &rows).await;
    test
}

/// `lat job=a: 2@20{trace=y}`
fn text(series: &SeriesExemplars) -> String {
    let exemplars = series.exemplars.iter().map(|exemplar| {
        let own = words(&exemplar.labels);
        format!(" {}@{}{{{own}}}", exemplar.value, exemplar.time)
    });
    let exemplars: String = exemplars.collect();
    format!("{}:{exemplars}", words(&series.labels))
}

async fn select(
    test: &TestTables,
    selectors: &[&str],
    range: TimeRange,
    limit: u64,
    pool: &Arc<QueryPool>,
) -> Result<(Vec<SeriesExemplars>, QueryBytes), QueryError> {
    let sets: Vec<_> = selectors.iter().map(|text| matchers(text)).collect();
    exemplars(&test.tables, DATABASE, &sets, range, limit, pool).await
}

async fn check(test: &TestTables, selectors: &[&str], range: TimeRange, expected: &[&str]) {
    let pool = QueryMemory::unlimited().pool();
    let found = select(test, selectors, range, u64::MAX, &pool).await;
    let (found, held) = found.unwrap();
    let texts: Vec<String> = found.iter().map(text).collect();
    assert_eq!(texts, expected, "{selectors:?} {range:?}");
    assert_eq!(pool.used(), held.bytes());
    drop(held);
    assert_eq!(pool.used(), 0);
}

const OF_A: &str = "lat job=a: 3@10{trace=z} 5@15{span=s trace=w} 2@20{trace=y}";
const OF_B: &str = "lat job=b: 1@10{trace=x} 6@40{trace=v}";
const REQ: &str = "req job=a: 4@30{}";

#[tokio::test]
async fn exemplars_come_by_series_and_time() {
    let test = tables().await;
    let all = TimeRange::ALL;
    check(&test, &["lat"], all, &[OF_A, OF_B]).await;
    check(&test, &[r#"{__name__=~".+"}"#], all, &[OF_A, OF_B, REQ]).await;
    check(&test, &[r#"{job="a"}"#], all, &[OF_A, REQ]).await;
    check(&test, &[r#"lat{job!="a"}"#], all, &[OF_B]).await;
    check(&test, &[r#"lat{trace="x"}"#], all, &[]).await;
    check(&test, &[], all, &[]).await;
}

#[tokio::test]
async fn a_range_has_both_of_its_ends() {
    let test = tables().await;
    let range = TimeRange::new(15, 30);
    let expected = ["lat job=a: 5@15{span=s trace=w} 2@20{trace=y}", REQ];
    check(&test, &[r#"{__name__=~".+"}"#], range, &expected).await;
    let range = TimeRange::new(16, 19);
    check(&test, &[r#"{__name__=~".+"}"#], range, &[]).await;
}

#[tokio::test]
async fn a_series_of_several_selectors_comes_once() {
    let test = tables().await;
    let all = TimeRange::ALL;
    let selectors = ["req", r#"lat{job="b"}"#, "lat", r#"{job="a"}"#];
    check(&test, &selectors, all, &[OF_A, OF_B, REQ]).await;
    let selectors = ["lat", "lat"];
    check(&test, &selectors, all, &[OF_A, OF_B]).await;
    // It counts once, too.
    let pool = QueryMemory::unlimited().pool();
    let (found, _) = select(&test, &selectors, all, 5, &pool).await.unwrap();
    assert_eq!(found.len(), 2);
}

#[tokio::test]
async fn exemplars_of_one_time_come_by_labels_and_value() {
    let test = TestTables::new().await;
    let of_b = [2.0, -1.0, 3.0].map(|value| exemplar("lat", 10, value, "trace=b"));
    let rows = [of_b[2].clone(), exemplar("lat", 10, 9.0, "trace=a")];
    test.flush(EXEMPLARS_TABLE, &[&rows, &of_b[..2]].concat())
        .await;
    let expected = "lat: 9@10{trace=a} -1@10{trace=b} 2@10{trace=b} 3@10{trace=b}";
    check(&test, &["lat"], TimeRange::ALL, &[expected]).await;
    // The same exemplar in another place is no further one.
    test.flush(EXEMPLARS_TABLE, &of_b[..1]).await;
    test.buffer(EXEMPLARS_TABLE, &of_b[1..2]).await;
    check(&test, &["lat"], TimeRange::ALL, &[expected]).await;
}

#[tokio::test]
async fn more_exemplars_than_the_limit_are_refused() {
    let test = tables().await;
    let pool = QueryMemory::unlimited().pool();
    let range = TimeRange::new(10, 20);
    let limited = |limit| select(&test, &["lat"], range, limit, &pool);
    let (found, _) = limited(4).await.unwrap();
    assert_eq!(
        found.iter().map(|one| one.exemplars.len()).sum::<usize>(),
        4
    );
    match limited(3).await {
        Err(QueryError::Source(SourceError::LimitExceeded(message))) => assert_eq!(
            message,
            "the query selects more than 3 exemplars; select fewer series or a shorter time"
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.used(), 0);
}

#[tokio::test]
async fn exemplars_that_do_not_fit_are_refused() {
    let test = tables().await;
    let all = TimeRange::ALL;
    let mut refused = 0;
    for bytes in (0..2000).step_by(50) {
        let pool = QueryMemory::new(MemoryBudget::unlimited(), bytes).pool();
        match select(&test, &["lat"], all, 100, &pool).await {
            Ok((found, held)) => {
                assert_eq!(found.len(), 2);
                drop(held);
            }
            Err(QueryError::Memory(MemoryExceeded::Query { .. })) => refused += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.used(), 0);
    }
    assert!((1..40).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_damaged_segment_is_named() {
    let test = TestTables::new().await;
    let rows = [exemplar("lat", 10, 2.0, "trace=b")];
    let metas = test.flush(EXEMPLARS_TABLE, &rows).await;
    let key = metas[0].data_key();
    test.lose(&key).await;
    let pool = QueryMemory::unlimited().pool();
    let failed = select(&test, &["lat"], TimeRange::ALL, 10, &pool).await;
    let Err(QueryError::Source(SourceError::Corrupt { object, .. })) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(object, key);
    let series = test
        .tables
        .series(DATABASE, EXEMPLARS_TABLE, &[], TimeRange::ALL);
    assert_eq!(series.await.unwrap().len(), 1);
}
