//! What goes, when, and what stays.

use tidelake_catalog::Environment;
use tidelake_catalog::catalog::{CatalogOptions, TableColumns};
use tidelake_catalog::model::{ColumnType, Day, TableKind, TimeRange};
use tidelake_catalog::snapshot::{ORPHAN_AGE_MS, SegmentId, SegmentMeta, WalPosition};

use super::*;

const GRACE: Duration = Duration::from_secs(300);

fn now() -> i64 {
    Environment::system().now_ms()
}

async fn open(store: &Store) -> Catalog {
    let catalog = Catalog::load(store.clone(), CatalogOptions::default())
        .await
        .unwrap();
    catalog.register("n", "here:1").await.unwrap();
    let columns = vec![("host".to_owned(), ColumnType::Tag)];
    let table = TableColumns {
        table: "cpu".to_owned(),
        kind: TableKind::Wide,
        columns,
    };
    catalog.ensure_columns("d", &[table]).await.unwrap();
    catalog
}

fn segment(id: SegmentId) -> SegmentMeta {
    SegmentMeta {
        id,
        database: "d".into(),
        table: "cpu".into(),
        table_id: 2,
        day: Day(0),
        level: 0,
        order: (0, 0),
        time: TimeRange::new(5, 10),
        rows: 3,
        series: 2,
        data_bytes: 100,
        index_bytes: 50,
        data_checksum: 1,
        index_tail_bytes: 0,
        index_checksum: 2,
        sort_tags: Vec::new().into(),
        deletes_applied: 0,
    }
}

/// Puts the files of a segment.
async fn put(store: &Store, drawn_ms: i64, random: u128) -> SegmentMeta {
    let segment = segment(SegmentId::from_parts(drawn_ms as u64, random));
    store.put(&segment.data_key(), vec![1]).await.unwrap();
    store.put(&segment.index_key(), vec![2]).await.unwrap();
    segment
}

async fn files(store: &Store) -> usize {
    store
        .list("data")
        .try_collect::<Vec<_>>()
        .await
        .unwrap()
        .len()
}

#[tokio::test]
async fn files_of_a_replaced_segment_go_after_the_grace_period_also_by_another_process() {
    let store = Store::memory();
    let (one, two) = (put(&store, now(), 1).await, put(&store, now(), 2).await);
    {
        let catalog = open(&store).await;
        catalog
            .commit_flush(
                WalPosition {
                    epoch: 1,
                    next_seq: 1,
                },
                std::slice::from_ref(&one),
            )
            .await
            .unwrap();
        let merged = SegmentMeta {
            order: catalog.snapshot().segments().next().unwrap().order,
            level: 1,
            ..two
        };
        catalog
            .commit_compaction(&[one.reference()], &[merged])
            .await
            .unwrap();
    }
    // The process that merged is gone; the catalog remembers.
    let catalog = open(&store).await;
    let garbage = Garbage::new(GRACE, Duration::MAX);
    garbage.collect(&catalog, now() + 200_000).await.unwrap();
    assert_eq!(
        (files(&store).await, catalog.snapshot().retired().count()),
        (4, 1)
    );
    garbage.collect(&catalog, now() + 301_000).await.unwrap();
    assert_eq!(
        (files(&store).await, catalog.snapshot().retired().count()),
        (2, 0)
    );
    assert!(store.get(&one.data_key()).await.is_err());
    // It is forgotten on the store too.
    let later = Catalog::load(store.clone(), CatalogOptions::default())
        .await
        .unwrap();
    assert_eq!(later.snapshot().retired().count(), 0);
}

#[tokio::test]
async fn a_round_that_was_broken_off_is_finished() {
    let store = Store::memory();
    let one = put(&store, now(), 1).await;
    let catalog = open(&store).await;
    catalog
        .commit_flush(
            WalPosition {
                epoch: 1,
                next_seq: 1,
            },
            std::slice::from_ref(&one),
        )
        .await
        .unwrap();
    catalog
        .commit_compaction(&[one.reference()], &[])
        .await
        .unwrap();
    // The files went, and the process before it could say so.
    store.delete(&one.data_key()).await.unwrap();
    Garbage::new(Duration::ZERO, Duration::MAX)
        .collect(&catalog, now() + 1)
        .await
        .unwrap();
    assert_eq!(
        (files(&store).await, catalog.snapshot().retired().count()),
        (0, 0)
    );
}

#[tokio::test]
async fn old_files_that_no_commit_names_go_and_nothing_else() {
    let store = Store::memory();
    let long_ago = now() - ORPHAN_AGE_MS as i64 - 1000;
    let (named, retired) = (
        put(&store, long_ago, 1).await,
        put(&store, long_ago, 2).await,
    );
    let (_orphan, young) = (put(&store, long_ago, 3).await, put(&store, now(), 4).await);
    store
        .put("data/d/cpu/1970-01-01/readme.txt", vec![0])
        .await
        .unwrap();
    let catalog = open(&store).await;
    catalog
        .commit_flush(
            WalPosition {
                epoch: 1,
                next_seq: 1,
            },
            &[named.clone(), retired.clone()],
        )
        .await
        .unwrap();
    catalog
        .commit_compaction(&[retired.reference()], &[])
        .await
        .unwrap();
    let garbage = Garbage::new(GRACE, Duration::from_secs(3600));
    garbage.collect(&catalog, now()).await.unwrap();
    for kept in [&named, &retired, &young] {
        assert!(
            store.get(&kept.data_key()).await.is_ok() && store.get(&kept.index_key()).await.is_ok()
        );
    }
    assert_eq!(files(&store).await, 7);
    // The next look is an hour away.
    put(&store, long_ago, 5).await;
    garbage.collect(&catalog, now()).await.unwrap();
    assert_eq!(files(&store).await, 9);
}
