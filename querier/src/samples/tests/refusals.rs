//! What selectors may read and hold, and what fails.

use tidelake_catalog::memory::MemoryBudget;

use super::*;
use crate::memory::MemoryExceeded;

/// Three series with 1,000 samples each.
async fn tables() -> TestTables {
    let test = TestTables::new().await;
    for job in ["a", "b", "c"] {
        let series = format!("up job={job}");
        let rows = (0..1000).map(|time| sample(&series, time, time as f64));
        test.flush(METRICS_TABLE, &rows.collect::<Vec<Row>>()).await;
    }
    test
}

fn pool(bytes: usize) -> Arc<QueryPool> {
    QueryMemory::new(MemoryBudget::unlimited(), bytes).pool()
}

fn in_memory(pool: &Arc<QueryPool>) -> SelectRequest {
    SelectRequest {
        pool: Arc::clone(pool),
        ..request("up")
    }
}

#[tokio::test]
async fn more_series_than_allowed_are_refused() {
    let test = tables().await;
    let limited = |max_series| SelectRequest {
        limits: SelectLimits { max_series },
        ..request("up")
    };
    assert_eq!(select(&test, limited(3)).await.unwrap().len(), 3);
    let refused = select(&test, limited(2)).await.unwrap_err();
    let message = "a selector matches 3 series, at most 2 are allowed; narrow it, or raise \
                   max_query_series";
    assert_eq!(refused, SourceError::LimitExceeded(message.to_owned()));
    // The series of wide tables count as well.
    test.flush("up", &[row("job=d", 1, &[("value", Float(1.0))])])
        .await;
    assert_eq!(select(&test, limited(4)).await.unwrap().len(), 4);
    let refused = select(&test, limited(3)).await.unwrap_err();
    assert!(
        refused.to_string().contains("matches 4 series"),
        "{refused}"
    );
}

#[tokio::test]
async fn more_bytes_than_allowed_are_not_read() {
    let test = tables().await;
    let limited = SelectRequest {
        meter: ReadMeter::new(1000, Vec::new()),
        ..request("up")
    };
    let refused = select(&test, limited).await.unwrap_err();
    let message = too_many_bytes(1000);
    assert!(message.contains("max_query_read_bytes"), "{message}");
    assert_eq!(refused, SourceError::LimitExceeded(message));
}

#[tokio::test]
async fn a_plan_that_does_not_fit_is_refused() {
    let test = tables().await;
    let pool = pool(3 * PLANNED_SERIES_BYTES - 1);
    let samples = DatabaseSamples::new(test.tables.clone(), DATABASE);
    let refused = samples.select(in_memory(&pool)).await.err().unwrap();
    let expected = MemoryExceeded::Query {
        used: 0,
        wanted: 3 * PLANNED_SERIES_BYTES,
        limit: 3 * PLANNED_SERIES_BYTES - 1,
    };
    assert_eq!(refused, SourceError::Memory(expected));
    assert_eq!(pool.used(), 0);
}

#[tokio::test]
async fn rows_that_do_not_fit_are_not_read() {
    let test = tables().await;
    let plan = 3 * PLANNED_SERIES_BYTES;
    let meter = ReadMeter::unlimited(Vec::new());
    let pool = pool(plan + 3000 * ROW_BYTES - 1);
    let limited = SelectRequest {
        meter: Arc::clone(&meter),
        ..in_memory(&pool)
    };
    let refused = select(&test, limited).await.unwrap_err();
    let expected = MemoryExceeded::Query {
        used: plan,
        wanted: 3000 * ROW_BYTES,
        limit: plan + 3000 * ROW_BYTES - 1,
    };
    assert_eq!(refused, SourceError::Memory(expected));
    assert_eq!((pool.used(), meter.counts().rows), (0, 0));
}

#[tokio::test]
async fn all_queries_together_have_a_limit() {
    let test = tables().await;
    let budget = Arc::new(MemoryBudget::new(10_000));
    let pool = QueryMemory::new(Arc::clone(&budget), usize::MAX).pool();
    let refused = select(&test, in_memory(&pool)).await.unwrap_err();
    let SourceError::Memory(MemoryExceeded::Queries(refused)) = refused else {
        panic!("{refused}")
    };
    assert_eq!(refused.wanted, 3000 * ROW_BYTES);
    assert_eq!((pool.used(), budget.used()), (0, 0));
}

#[tokio::test]
async fn many_series_count_before_they_are_planned() {
    let test = TestTables::new().await;
    let rows = (0..5000).map(|job| sample(&format!("up job={job}"), 1, 0.0));
    test.flush(METRICS_TABLE, &rows.collect::<Vec<Row>>()).await;
    let (catalog, recent) = (Arc::clone(&test.catalog), Arc::clone(&test.recent));
    let memory = Arc::new(MemoryBudget::new(100_000));
    let tables = Tables::new(catalog, test.store.clone(), recent, &memory, None);
    let samples = DatabaseSamples::new(tables, DATABASE);
    let many = SelectRequest {
        limits: SelectLimits { max_series: 5000 },
        ..request("up")
    };
    let refused = samples.select(many).await.err().unwrap();
    let is_of_all = matches!(refused, SourceError::Memory(MemoryExceeded::Queries(_)));
    assert!(is_of_all, "{refused}");
}

#[tokio::test]
async fn a_batch_holds_its_series_until_it_is_dropped() {
    let test = tables().await;
    for is_parted in [false, true] {
        let pool = pool(1 << 20);
        let samples = DatabaseSamples::new(test.tables.clone(), DATABASE);
        let request = SelectRequest {
            alone: !is_parted,
            ..in_memory(&pool)
        };
        let selected = samples.select(request).await.unwrap();
        assert_eq!(pool.used(), 3 * PLANNED_SERIES_BYTES);
        let batches: Vec<SeriesBatch> = selected.stream.try_collect().await.unwrap();
        let bytes: usize = batches
            .iter()
            .map(|batch| series_bytes(&batch.series))
            .sum();
        assert!(bytes >= 3000 * ROW_BYTES, "{bytes}");
        assert_eq!(pool.used(), bytes, "the plan is not counted any more");
        drop(batches);
        assert_eq!(pool.used(), 0);
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_to_its_end_leaves_nothing() {
    let test = tables().await;
    test.flush("up", &[row("job=d", 1, &[("value", Float(1.0))])])
        .await;
    let pool = pool(1 << 20);
    let samples = DatabaseSamples::new(test.tables.clone(), DATABASE);
    let mut selected = samples.select(in_memory(&pool)).await.unwrap();
    let first = selected.stream.next().await.unwrap().unwrap();
    assert_eq!(first.series.len(), 3);
    drop(selected);
    // A task that reads ahead ends with the stream.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.used(), first.held.bytes());
    drop(first);
    assert_eq!(pool.used(), 0);
}

#[tokio::test]
async fn a_damaged_segment_is_named() {
    let test = TestTables::new().await;
    let metas = test.flush(METRICS_TABLE, &[sample("up", 10, 1.0)]).await;
    let key = metas[0].data_key();
    test.lose(&key).await;
    match select(&test, request("up")).await {
        Err(SourceError::Corrupt { object, .. }) => assert_eq!(object, key),
        other => panic!("{other:?}"),
    }
    // Nothing is read of a segment without such series.
    check(&test, "down", TimeRange::ALL, &[]).await;
}

#[tokio::test]
async fn a_store_that_does_not_answer_may_do_so_later() {
    let test = TestTables::new().await;
    test.flush(METRICS_TABLE, &[sample("up", 10, 1.0)]).await;
    test.set_down(true);
    let failed = select(&test, request("up")).await.unwrap_err();
    assert!(matches!(failed, SourceError::Unavailable(_)), "{failed}");
    test.set_down(false);
    check(&test, "up", TimeRange::ALL, &["up: 1@10"]).await;
}
