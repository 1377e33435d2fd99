use std::pin::pin;

use futures::poll;
use tidelake_catalog::model::{METRICS_TABLE, TimeRange};
use tidelake_catalog::segment::ReadMeter;

use super::*;
use crate::test_tables::{DATABASE, NOW_MS, Row, TestTables, matchers, sample};

fn rows(from: i64) -> Vec<Row> {
    let all = (0..200).flat_map(|step| {
        let sample = |series| sample(series, from + step * 1000, step as f64);
        ["up job=a", "up job=b"].map(sample)
    });
    all.collect()
}

/// Requests of a scan to the store.
async fn requests(tables: &Tables, selector: &str, range: TimeRange) -> u64 {
    let snapshot = tables.snapshot();
    let schema = &snapshot.table(DATABASE, METRICS_TABLE).unwrap().schema;
    let request = ScanRequest {
        fields: schema.fields().cloned().collect(),
        matchers: matchers(selector),
        range,
        edge: None,
    };
    let meter = ReadMeter::unlimited(Vec::new());
    let tables = tables.counted(&meter);
    let units = tables.scan(DATABASE, METRICS_TABLE, request).await.unwrap();
    assert!(!units.units.is_empty());
    for unit in units.units {
        tables.read(&unit).await.unwrap();
    }
    meter.counts().requests
}

#[tokio::test]
async fn new_segments_are_in_caches_for_scans_of_late() {
    let test = TestTables::new().await;
    drop(test.tables.keep_warm());
    let range = TimeRange::new(NOW_MS, NOW_MS + 1_000_000);
    test.flush(METRICS_TABLE, &rows(NOW_MS)).await;
    assert!(requests(&test.tables, "up", range).await > 0);
    assert_eq!(requests(&test.tables, "up", range).await, 0);
    test.flush(METRICS_TABLE, &rows(NOW_MS + 200_000)).await;
    assert_eq!(requests(&test.tables, "up", range).await, 0);
    // Nothing is read of other times.
    test.flush(METRICS_TABLE, &rows(NOW_MS + 2_000_000)).await;
    let later = TimeRange::new(NOW_MS + 2_000_000, NOW_MS + 3_000_000);
    assert!(requests(&test.tables, "up", later).await > 0);
}

#[tokio::test]
async fn so_are_those_of_other_processes() {
    let test = TestTables::new().await;
    // Commits do not wait for what this has read.
    let (catalog, reader) = test.reader().await;
    let mut followed = pin!(reader.keep_warm());
    let range = TimeRange::new(NOW_MS, NOW_MS + 1_000_000);
    for first in [true, false] {
        test.flush(METRICS_TABLE, &rows(NOW_MS)).await;
        catalog.refresh().await.unwrap();
        for _ in 0..1000 {
            assert!(poll!(&mut followed).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(requests(&reader, "up", range).await > 0, first);
    }
}
