//! Damage and failures of some days do not keep others from being merged, and nothing damaged is
//! dropped.

use arrow::array::Float64Array;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidelake_catalog::catalog::TableColumns;
use tidelake_catalog::model::{Column, ColumnType, Labels, TableKind};
use tidelake_catalog::segment::encoding::Effort;
use tidelake_catalog::segment::rows::SeriesRun;
use tidelake_catalog::segment::{FieldArray, SegmentWriter, Series, SortOrder, SortedRows};
use tidelake_catalog::snapshot::{SegmentMeta, WalPosition};
use tidelake_catalog::store::Store;
use tidelake_catalog::store::faulty::{Faults, FaultyStore};

use super::*;

const DAY_NS: i64 = 86_400_000_000_000;

struct Place {
    faults: Arc<FaultyStore>,
    store: Store,
    catalog: Arc<Catalog>,
    compactor: Arc<Compactor>,
    flushes: u64,
}

impl Place {
    async fn new() -> Self {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let faults = Arc::new(FaultyStore::new(inner, 1, Faults::default()));
        let store = Store::new(Arc::clone(&faults) as Arc<dyn ObjectStore>, "prefix").unwrap();
        let catalog = Arc::new(Catalog::open(store.clone(), "n", "").await.unwrap());
        let columns = [("host", ColumnType::Tag), ("value", ColumnType::Float)]
            .map(|(name, kind)| (name.to_owned(), kind));
        let table = TableColumns {
            table: "cpu".to_owned(),
            kind: TableKind::Wide,
            columns: columns.into(),
        };
        catalog.ensure_columns("d", &[table]).await.unwrap();
        let options = CompactorOptions {
            interval: Duration::from_secs(3600),
            recheck: Duration::ZERO,
            ..CompactorOptions::default()
        };
        let compactor = Compactor::start(Arc::clone(&catalog), options);
        Self {
            faults,
            store,
            catalog,
            compactor,
            flushes: 0,
        }
    }

    /// A flush of one row; what is put in the data file's place may be anything.
    async fn flush(&mut self, day: i64, forged: Option<&'static [u8]>) -> SegmentMeta {
        self.flushes += 1;
        let time = day * DAY_NS + self.flushes as i64;
        let fields: Arc<[Column]> = [Column {
            name: "value".into(),
            kind: ColumnType::Float,
        }]
        .into();
        let rows = SortedRows {
            runs: vec![SeriesRun::new(
                Arc::new(Series::new(Labels::from_pairs([("host", "a")]))),
                0..1,
            )],
            time: vec![time].into(),
            fields: Arc::clone(&fields),
            columns: vec![FieldArray::new(Float64Array::from(vec![1.0]))],
        };
        let mut writer = SegmentWriter::new(
            TableKind::Wide,
            SortOrder(vec!["host".into()]),
            fields,
            Effort::Fresh,
            &[],
        )
        .unwrap();
        writer.push(&rows).unwrap();
        let mut data = writer.take_bytes();
        let done = writer.finish().unwrap();
        data.extend(&done.data_tail);
        let (data, data_checksum) = forged.map_or((data, done.data_checksum), |bytes| {
            (bytes.to_vec(), xxhash_rust::xxh3::xxh3_64(bytes))
        });
        let meta = SegmentMeta {
            id: self.catalog.environment().segment_id(),
            database: "d".into(),
            table: "cpu".into(),
            table_id: 2,
            day: Day(day),
            level: 0,
            order: (0, 0),
            time: done.time,
            rows: done.rows,
            series: done.series,
            data_bytes: data.len() as u64,
            index_bytes: done.index.len() as u64,
            data_checksum,
            index_tail_bytes: done.index_tail_bytes,
            index_checksum: done.index_checksum,
            sort_tags: ["host".to_owned()].into(),
            deletes_applied: 0,
        };
        self.store.put(&meta.data_key(), data).await.unwrap();
        self.store.put(&meta.index_key(), done.index).await.unwrap();
        self.catalog
            .commit_flush(
                WalPosition {
                    epoch: 1,
                    next_seq: self.flushes,
                },
                std::slice::from_ref(&meta),
            )
            .await
            .unwrap();
        meta
    }

    /// Level and rows of the segments of a day.
    fn day(&self, day: i64) -> Vec<(u8, u64)> {
        let snapshot = self.catalog.snapshot();
        snapshot.table("d", "cpu").unwrap().days[&Day(day)]
            .iter()
            .map(|s| (s.level, s.rows))
            .collect()
    }
}

#[tokio::test]
async fn a_damaged_segment_stays_and_everything_else_is_merged_until_it_is_restored() {
    let mut place = Place::new().await;
    let mut metas = Vec::new();
    for _ in 0..5 {
        metas.push(place.flush(0, None).await);
        place.flush(1, None).await;
    }
    let key = metas[2].data_key();
    let sound = place.store.get(&key).await.unwrap();
    let mut damaged = sound.to_vec();
    damaged[7] ^= 1;
    for damage in [Some(damaged), None] {
        match damage {
            Some(bytes) => place.store.put(&key, bytes).await.unwrap(),
            None => place.store.delete(&key).await.unwrap(),
        }
        let error = place.compactor.compact(Goal::Full).await.unwrap_err();
        assert!(
            matches!(&error, CompactError::Quarantined { count: 1, .. })
                && error.to_string().contains(&key),
            "{error}"
        );
        assert_eq!(place.compactor.quarantine().held().len(), 1);
        assert_eq!(place.day(1), [(2, 5)]);
        assert_eq!(
            place.day(0),
            [(2, 2), (0, 1), (0, 2)],
            "what is older, itself, what is newer"
        );
        // In the background it is no failure.
        assert_eq!(place.compactor.compact(Goal::Steady).await.unwrap(), 0);
    }
    place.store.put(&key, sound).await.unwrap();
    assert_eq!(place.compactor.compact(Goal::Full).await.unwrap(), 1);
    assert_eq!(
        (place.day(0), place.compactor.quarantine().held().len()),
        (vec![(2, 5)], 0)
    );
}

#[tokio::test]
async fn a_file_that_was_written_wrongly_is_held_too() {
    let mut place = Place::new().await;
    place.flush(0, None).await;
    let wrong = place.flush(0, Some(b"not a Parquet file")).await;
    let error = place.compactor.compact(Goal::Full).await.unwrap_err();
    assert!(error.to_string().contains(&wrong.data_key()), "{error}");
    assert_eq!(place.day(0), [(2, 1), (0, 1)]);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_damage() {
    let mut place = Place::new().await;
    for day in 0..10 {
        place.flush(day, None).await;
        place.flush(day, None).await;
    }
    place.faults.set(Faults {
        unreadable: true,
        ..Faults::default()
    });
    let error = place.compactor.compact(Goal::Full).await.unwrap_err();
    assert!(
        matches!(
            error,
            CompactError::Some {
                count: FAILURES,
                ..
            }
        ),
        "{error}"
    );
    assert!(place.compactor.quarantine().held().is_empty());
    place.faults.set(Faults::default());
    assert_eq!(place.compactor.compact(Goal::Full).await.unwrap(), 10);
}

#[tokio::test]
async fn one_day_that_fails_stops_no_other() {
    let mut place = Place::new().await;
    for day in 0..6 {
        place.flush(day, None).await;
        place.flush(day, None).await;
    }
    // Some requests fail; each of those days is left, and the others are merged.
    place.faults.set(Faults {
        error: 0.05,
        ..Faults::default()
    });
    let mut failed = 0;
    for _ in 0..200 {
        match place.compactor.compact(Goal::Full).await {
            Ok(_) => break,
            Err(CompactError::Some { .. }) => failed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    place.faults.set(Faults::default());
    assert!(failed > 0, "the faults came");
    assert!((0..6).all(|day| place.day(day) == [(2, 2)]));
    assert!(place.compactor.quarantine().held().is_empty());
}

#[tokio::test]
async fn a_full_merge_gives_way_and_what_it_merges_is_held() {
    let mut place = Place::new().await;
    for day in [0, 1, 0, 1] {
        place.flush(day, None).await;
    }
    // The full merge has begun with the first day when the other asks.
    place.faults.set(Faults {
        max_delay: 20,
        ..Faults::default()
    });
    let full = async {
        let merges = place.compactor.compact(Goal::Full).await.unwrap();
        (merges, place.day(0), place.day(1))
    };
    let steady = async {
        let merges = place.compactor.compact(Goal::Steady).await.unwrap();
        (merges, place.day(0), place.day(1))
    };
    let (full, steady) = futures::join!(full, steady);
    assert_eq!(steady, (1, vec![(0, 1), (0, 1)], vec![(2, 2)]));
    assert_eq!(full, (1, vec![(2, 2)], vec![(2, 2)]));
    assert!(place.compactor.held().is_empty());
}
