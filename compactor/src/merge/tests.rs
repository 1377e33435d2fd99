//! Merges of the metrics table go part by part; a part holds two series here.

use arrow::array::Float64Array;
use tidelake_catalog::Catalog;
use tidelake_catalog::catalog::TableColumns;
use tidelake_catalog::model::{ColumnType, Day, Labels, METRICS_TABLE, TimeRange};
use tidelake_catalog::segment::rows::SeriesRun;
use tidelake_catalog::segment::{FieldArray, IndexedSeries, Series};
use tidelake_catalog::snapshot::WalPosition;

use super::*;
use crate::policy::Goal;
use crate::{Compactor, CompactorOptions};

/// Rows of series in their order, one at each time.
fn rows(fields: &Arc<[Column]>, series: &[Labels], times: &[i64]) -> SortedRows {
    let count = series.len() * times.len();
    let run = |(at, labels): (usize, &Labels)| {
        SeriesRun::new(
            Arc::new(Series::new(labels.clone())),
            at * times.len()..(at + 1) * times.len(),
        )
    };
    SortedRows {
        runs: series.iter().enumerate().map(run).collect(),
        time: series.iter().flat_map(|_| times.iter().copied()).collect(),
        fields: Arc::clone(fields),
        columns: vec![FieldArray::new(Float64Array::from(vec![1.0; count]))],
    }
}

/// Series of some metrics, in the order of the table; the first has no name.
fn series(metrics: Range<usize>) -> Vec<Labels> {
    let mut all = vec![Labels::from_pairs([("instance", "nameless")])];
    for metric in metrics {
        // One metric has more series than a part.
        for host in 0..=metric % 4 {
            let metric = format!("metric_{metric}");
            all.push(Labels::from_pairs([
                (METRIC_NAME, metric),
                ("instance", format!("host-{host}")),
            ]));
        }
    }
    all
}

#[tokio::test]
async fn all_series_of_all_parts_are_merged_in_order() {
    let store = Store::memory();
    let catalog = Arc::new(Catalog::open(store.clone(), "n", "").await.unwrap());
    let table = TableColumns {
        table: METRICS_TABLE.to_owned(),
        kind: TableKind::Metrics,
        columns: vec![("value".to_owned(), ColumnType::Float)],
    };
    catalog.ensure_columns("d", &[table]).await.unwrap();
    let snapshot = catalog.snapshot();
    let table = snapshot.table("d", METRICS_TABLE).unwrap();
    let fields: Arc<[Column]> = table.schema.fields().cloned().collect();
    let shape = SegmentShape {
        kind: TableKind::Metrics,
        order: SortOrder::metrics(),
        fields: Arc::clone(&fields),
        effort: Effort::Fresh,
        layout: ValueLayout::Plain,
        write_order: String::new(),
    };
    for (flush, (metrics, times)) in [(0..6, [1, 2]), (3..9, [2, 3])].into_iter().enumerate() {
        let meta = SegmentMeta {
            id: catalog.environment().segment_id(),
            database: "d".into(),
            table: METRICS_TABLE.into(),
            table_id: table.id,
            day: Day(0),
            level: 0,
            order: (0, 0),
            time: TimeRange::new(0, -1),
            rows: 0,
            series: 0,
            data_bytes: 0,
            index_bytes: 0,
            data_checksum: 0,
            index_tail_bytes: 0,
            index_checksum: 0,
            sort_tags: Arc::from([]),
            deletes_applied: 0,
        };
        let upload = SegmentUpload::begin(&store, meta, &shape).unwrap();
        let rows = rows(&fields, &series(metrics), &times);
        let upload = upload.push(catalog.environment(), rows).await.unwrap();
        let done = upload.finish(&store, catalog.environment()).await.unwrap();
        let position = WalPosition {
            epoch: 1,
            next_seq: flush as u64 + 1,
        };
        let segments = [done.unwrap()];
        catalog.commit_flush(position, &segments).await.unwrap();
    }
    let compactor = Compactor::start(Arc::clone(&catalog), CompactorOptions::default());
    compactor.compact(Goal::Full).await.unwrap();
    let snapshot = catalog.snapshot();
    let merged: Vec<_> = snapshot.segments().collect();
    assert_eq!(merged.len(), 1);
    let opened = merged[0]
        .open_whole(&store, TableKind::Metrics)
        .await
        .unwrap();
    let found = opened.index().all().await.unwrap();
    let labels = |one: &IndexedSeries| one.series.labels.clone();
    assert_eq!(found.iter().map(labels).collect::<Vec<_>>(), series(0..9));
    // Those that are in both inputs have three times, of which the second is in both.
    for one in found.iter() {
        let name = one.series.labels.metric_name();
        let is_in_both = name.is_empty() || ("metric_3".."metric_6").contains(&name);
        assert_eq!(
            one.rows,
            if is_in_both { 3 } else { 2 },
            "{}",
            one.series.labels
        );
    }
}
