//! A sound store is clean; each kind of damage is found, and named by its key.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int8Array, Int64Array, RecordBatch,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::catalog::{Catalog, CatalogOptions, TableColumns};
use crate::keys;
use crate::model::{Column, ColumnType, Day, Labels, METRICS_TABLE, TableKind, TimeRange};
use crate::segment::FieldArray;
use crate::segment::encoding::Effort;
use crate::segment::rows::SeriesRun;
use crate::segment::{SegmentWriter, Series, SortOrder, SortedRows};
use crate::snapshot::{ORPHAN_AGE_MS, SegmentId, SegmentMeta, WalPosition};

const NOW: u64 = 1_700_000_000_000;

/// Rows of some series: labels, and times in the table's unit.
fn rows(series: &[(Labels, &[i64])]) -> SortedRows {
    let (mut runs, mut time) = (Vec::new(), Vec::new());
    for (labels, times) in series {
        let start = time.len();
        time.extend_from_slice(times);
        runs.push(SeriesRun::new(
            Arc::new(Series::new(labels.clone())),
            start..time.len(),
        ));
    }
    let values: Vec<f64> = (0..time.len()).map(|row| row as f64).collect();
    let fields = [Column {
        name: "value".into(),
        kind: ColumnType::Float,
    }]
    .into();
    SortedRows {
        runs,
        time: time.into(),
        fields,
        columns: vec![FieldArray::new(Float64Array::from(values))],
    }
}

fn host(name: &str) -> Labels {
    Labels::from_pairs([("host", name)])
}

fn up(instance: &str) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("instance", instance)])
}

/// A metrics table's file with these columns beside `value`, forged or not, and its series index.
fn decimal_file(
    rows: &SortedRows,
    mantissa: Vec<Option<i64>>,
    scale: Option<Vec<Option<i8>>>,
) -> Vec<u8> {
    let ids: Vec<u64> = rows
        .runs
        .iter()
        .flat_map(|run| run.rows().map(|_| run.series.id))
        .collect();
    let metric: DictionaryArray<Int32Type> = rows
        .runs
        .iter()
        .flat_map(|run| run.rows().map(|_| "up"))
        .collect();
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("metric", Arc::new(metric), false),
        ("series_id", Arc::new(UInt64Array::from(ids)), false),
        (
            "time",
            Arc::new(TimestampMillisecondArray::new(rows.time.clone(), None)),
            false,
        ),
        ("value", rows.columns[0].to_array(), true),
        ("mantissa", Arc::new(Int64Array::from(mantissa)), true),
    ];
    columns
        .extend(scale.map(|scale| -> (_, ArrayRef, _) {
            ("scale", Arc::new(Int8Array::from(scale)), true)
        }));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Writes the files of a segment as they are given, right or wrong.
async fn put(store: &Store, table: &str, number: u128, rows: &SortedRows) -> SegmentMeta {
    let (kind, order) = match table {
        METRICS_TABLE => (TableKind::Metrics, SortOrder::metrics()),
        _ => (TableKind::Wide, SortOrder(vec!["host".into()])),
    };
    let mut writer = SegmentWriter::new(
        kind,
        order.clone(),
        Arc::clone(&rows.fields),
        Effort::Fresh,
        &[],
    )
    .unwrap();
    writer.push(rows).unwrap();
    let mut data = writer.take_bytes();
    let done = writer.finish().unwrap();
    data.extend(&done.data_tail);
    let meta = SegmentMeta {
        id: SegmentId::from_parts(NOW - 1000, number),
        database: "d".into(),
        table: table.into(),
        // The second commit makes the tables.
        table_id: 2,
        day: Day(0),
        level: 0,
        order: (0, 0),
        time: done.time,
        rows: done.rows,
        series: done.series,
        data_bytes: done.data_bytes,
        index_bytes: done.index.len() as u64,
        data_checksum: done.data_checksum,
        index_tail_bytes: done.index_tail_bytes,
        index_checksum: done.index_checksum,
        sort_tags: if kind == TableKind::Wide {
            ["host".to_owned()].into()
        } else {
            Vec::new().into()
        },
        deletes_applied: 0,
    };
    store.put(&meta.data_key(), data).await.unwrap();
    store.put(&meta.index_key(), done.index).await.unwrap();
    meta
}

struct Place {
    store: Store,
    catalog: Catalog,
    next_seq: u64,
}

impl Place {
    async fn new() -> Self {
        let store = Store::memory();
        let options = CatalogOptions {
            checkpoint_every: 4,
            ..CatalogOptions::default()
        };
        let catalog = Catalog::load(store.clone(), options).await.unwrap();
        catalog.register("n", "").await.unwrap();
        let table = |table: &str, kind, columns: &[(&str, ColumnType)]| TableColumns {
            table: table.to_owned(),
            kind,
            columns: columns
                .iter()
                .map(|(name, kind)| ((*name).to_owned(), *kind))
                .collect(),
        };
        let cpu = table(
            "cpu",
            TableKind::Wide,
            &[("host", ColumnType::Tag), ("value", ColumnType::Float)],
        );
        let metrics = table(
            METRICS_TABLE,
            TableKind::Metrics,
            &[("value", ColumnType::Float)],
        );
        catalog.ensure_columns("d", &[cpu, metrics]).await.unwrap();
        Self {
            store,
            catalog,
            next_seq: 1,
        }
    }

    async fn commit(&mut self, segments: &[SegmentMeta]) {
        self.catalog
            .commit_flush(
                WalPosition {
                    epoch: 1,
                    next_seq: self.next_seq,
                },
                segments,
            )
            .await
            .unwrap();
        self.next_seq += 1;
    }

    /// Two tables with two segments each, and more than one checkpoint.
    async fn sound() -> (Self, Vec<SegmentMeta>) {
        let mut place = Self::new().await;
        let mut metas = Vec::new();
        for number in [1, 2] {
            let wide = rows(&[(host("a"), &[1, 2, 5]), (host("b"), &[2, 3])]);
            let metric = rows(&[(up("x"), &[1, 2]), (up("y"), &[7])]);
            metas.push(put(&place.store, "cpu", number, &wide).await);
            metas.push(put(&place.store, METRICS_TABLE, 10 + number, &metric).await);
        }
        for meta in &metas {
            place.commit(std::slice::from_ref(meta)).await;
        }
        while place.store.get(&keys::checkpoint(4)).await.is_err() {
            tokio::task::yield_now().await;
        }
        (place, metas)
    }

    async fn alter(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.store.get(key).await.unwrap().to_vec();
        change(&mut bytes);
        self.store.put(key, bytes).await.unwrap();
    }

    /// The findings as words and key, and what was looked at.
    async fn findings(&self) -> (Vec<(Severity, String, String)>, Checked) {
        let mut found = Vec::new();
        let mut collect = |finding: &Finding| {
            assert!(!finding.to_string().contains('\n'));
            found.push((
                finding.severity,
                finding.object.clone(),
                finding.problem.clone(),
            ));
        };
        let mut report = Report::new(&mut collect);
        verify(&self.store, NOW, &mut report).await.unwrap();
        let checked = report.checked;
        assert_eq!(
            report.is_clean(),
            found
                .iter()
                .all(|(severity, ..)| *severity == Severity::Note)
        );
        (found, checked)
    }

    /// Damage is found in these objects and no others.
    async fn expect(&self, objects: &[&str], words: &str) {
        let (found, _) = self.findings().await;
        let damaged: Vec<&str> = found
            .iter()
            .filter(|(severity, ..)| *severity == Severity::Damage)
            .map(|(_, key, _)| key.as_str())
            .collect();
        assert_eq!(damaged, objects, "{found:?}");
        assert!(
            found.iter().any(|(.., problem)| problem.contains(words)),
            "{found:?} lack {words}"
        );
    }
}

#[tokio::test]
async fn an_intact_store_is_clean() {
    let (place, _) = Place::sound().await;
    let (found, checked) = place.findings().await;
    assert_eq!(found, []);
    assert_eq!(
        (
            checked.records,
            checked.checkpoints,
            checked.segments,
            checked.rows
        ),
        (6, 1, 4, 16)
    );
    // An empty one too.
    let empty = Place {
        store: Store::memory(),
        ..place
    };
    assert_eq!(empty.findings().await.0, []);
}

#[tokio::test]
async fn a_flipped_byte_is_found_wherever_it_is() {
    let (place, metas) = Place::sound().await;
    let record = keys::log_record(4);
    for (key, words) in [
        (metas[0].data_key(), "checksum"),
        (metas[1].data_key(), "checksum"),
        (metas[1].index_key(), "checksum"),
        (record, ""),
    ] {
        let bytes = place.store.get(&key).await.unwrap().to_vec();
        for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            place.alter(&key, |bytes| bytes[at] ^= 0x10).await;
            let (found, _) = place.findings().await;
            assert!(
                found
                    .iter()
                    .any(|(severity, object, problem)| *severity == Severity::Damage
                        && *object == key
                        && problem.contains(words)),
                "{at} of {key}: {found:?}"
            );
        }
        place.store.put(&key, bytes).await.unwrap();
    }
    assert_eq!(place.findings().await.0, []);
}

#[tokio::test]
async fn files_that_are_gone_cut_or_swapped_are_named() {
    let (place, metas) = Place::sound().await;
    let (data, index, other) = (
        metas[0].data_key(),
        metas[0].index_key(),
        metas[3].data_key(),
    );
    let sound: Vec<_> = [
        place.store.get(&data).await.unwrap(),
        place.store.get(&index).await.unwrap(),
        place.store.get(&other).await.unwrap(),
    ]
    .into();
    let restore = async || {
        for (key, bytes) in [&data, &index, &other].into_iter().zip(&sound) {
            place.store.put(key, bytes.clone()).await.unwrap();
        }
    };
    for key in [&data, &index] {
        place.store.delete(key).await.unwrap();
        place.expect(&[key], "not on the store").await;
        restore().await;
        place
            .alter(key, |bytes| bytes.truncate(bytes.len() - 1))
            .await;
        place.expect(&[key], "the catalog says").await;
        restore().await;
    }
    place.store.put(&data, sound[2].clone()).await.unwrap();
    place.store.put(&other, sound[0].clone()).await.unwrap();
    // The metrics table comes first.
    place.expect(&[&other, &data], "").await;
}

#[tokio::test]
async fn a_broken_log_is_named_and_the_rest_still_checked() {
    let (place, metas) = Place::sound().await;
    // A checkpoint stands in for what cannot be read before it.
    place.store.delete(&keys::log_record(2)).await.unwrap();
    place.expect(&[&keys::log_record(2)], "missing").await;
    place
        .alter(&metas[0].data_key(), |bytes| bytes[9] ^= 1)
        .await;
    place
        .expect(&[&keys::log_record(2), &metas[0].data_key()], "missing")
        .await;

    let (place, _) = Place::sound().await;
    let (three, four) = (
        place.store.get(&keys::log_record(3)).await.unwrap(),
        place.store.get(&keys::log_record(4)).await.unwrap(),
    );
    place.store.put(&keys::log_record(3), four).await.unwrap();
    place.store.put(&keys::log_record(4), three).await.unwrap();
    place
        .expect(
            &[&keys::log_record(3), &keys::log_record(4)],
            "it is record",
        )
        .await;

    let (place, _) = Place::sound().await;
    place
        .alter(&keys::checkpoint(4), |bytes| bytes[20] ^= 1)
        .await;
    place.expect(&[&keys::checkpoint(4)], "checksum").await;
    let other = Place::new().await;
    let forged = crate::record::envelope::seal(&crate::record::Checkpoint {
        sequence: 4,
        ..Default::default()
    });
    drop(other);
    place.store.put(&keys::checkpoint(4), forged).await.unwrap();
    place.expect(&[&keys::checkpoint(4)], "not the state").await;

    let (place, _) = Place::sound().await;
    for sequence in 4..=6 {
        place
            .store
            .delete(&keys::log_record(sequence))
            .await
            .unwrap();
    }
    place
        .expect(&[&keys::log_record(4)], "beyond the end of the log")
        .await;
}

/// Commits a segment whose files are what they were written as, and wrong.
async fn forged(
    table: &str,
    rows: SortedRows,
    change: impl FnOnce(&mut SegmentMeta),
) -> (Place, SegmentMeta) {
    let mut place = Place::new().await;
    let mut meta = put(&place.store, table, 1, &rows).await;
    change(&mut meta);
    place.commit(std::slice::from_ref(&meta)).await;
    (place, meta)
}

#[tokio::test]
async fn rows_that_were_written_wrongly_are_found() {
    let check = async |table: &str,
                       rows: SortedRows,
                       change: fn(&mut SegmentMeta),
                       in_index: bool,
                       words: &str| {
        let (place, meta) = forged(table, rows, change).await;
        let key = if in_index {
            meta.index_key()
        } else {
            meta.data_key()
        };
        place.expect(&[&key], words).await;
    };
    let good = || rows(&[(host("a"), &[1, 2]), (host("b"), &[2, 3])]);
    let nothing: fn(&mut SegmentMeta) = |_| {};
    check(
        "cpu",
        rows(&[(host("b"), &[1, 2]), (host("a"), &[1, 2])]),
        nothing,
        true,
        "not in order",
    )
    .await;
    check(
        "cpu",
        rows(&[(host("a"), &[1, 3, 2, 4])]),
        nothing,
        false,
        "do not ascend",
    )
    .await;
    check(
        "cpu",
        rows(&[(host("a"), &[1, 2, 2, 4])]),
        nothing,
        false,
        "do not ascend",
    )
    .await;
    check(
        METRICS_TABLE,
        rows(&[(up("x"), &[1, 1])]),
        nothing,
        false,
        "do not ascend",
    )
    .await;
    check(
        "cpu",
        good(),
        |meta| meta.rows = 5,
        true,
        "4 rows, the catalog says 5",
    )
    .await;
    check(
        "cpu",
        good(),
        |meta| meta.series = 3,
        true,
        "2 series, the catalog says 3",
    )
    .await;
    check(
        "cpu",
        good(),
        |meta| meta.time = TimeRange::new(1, 4),
        true,
        "the catalog says",
    )
    .await;
    check(
        "cpu",
        good(),
        |meta| meta.sort_tags = ["rack".to_owned()].into(),
        false,
        "should begin with",
    )
    .await;
    // Sorted by a tag that only the index has.
    let two_tags = Labels::from_pairs([("host", "a"), ("rack", "1")]);
    check(
        "cpu",
        rows(&[(two_tags, &[1, 2])]),
        nothing,
        false,
        "no column for the tag",
    )
    .await;
    let mut wrong_id = rows(&[(up("x"), &[1, 2])]);
    wrong_id.runs[0].series = Arc::new(Series {
        id: 7,
        labels: up("x"),
    });
    check(METRICS_TABLE, wrong_id, nothing, true, "has the id").await;
}

#[tokio::test]
async fn the_decimal_layout_is_checked_row_by_row() {
    type Rows = [(Option<f64>, Option<i64>, Option<i8>); 3];
    let findings = async |of: Rows, has_scale: bool| {
        let mut rows = rows(&[(up("x"), &[1, 2]), (up("y"), &[7])]);
        rows.columns = vec![FieldArray::new(Float64Array::from(
            of.map(|(value, ..)| value).to_vec(),
        ))];
        let mut place = Place::new().await;
        let meta = put(&place.store, METRICS_TABLE, 1, &rows).await;
        let scale = has_scale.then(|| of.map(|(.., scale)| scale).to_vec());
        let data = decimal_file(&rows, of.map(|(_, mantissa, _)| mantissa).to_vec(), scale);
        let meta = SegmentMeta {
            data_bytes: data.len() as u64,
            data_checksum: xxh3_64(&data),
            ..meta
        };
        place.store.put(&meta.data_key(), data).await.unwrap();
        place.commit(std::slice::from_ref(&meta)).await;
        (meta.data_key(), place)
    };
    let sound = (Some(0.5), None, None);
    let split = (None, Some(15), Some(1));
    let (_, place) = findings([sound, split, (None, Some(-7), Some(0))], true).await;
    assert_eq!(place.findings().await.0, []);
    for (wrong, words) in [
        (
            (Some(1.5), Some(15), Some(1)),
            "both a value and a mantissa",
        ),
        ((None, None, None), "no value, no mantissa and no histogram"),
        ((None, Some(15), None), "without a scale"),
        ((Some(1.5), None, Some(1)), "without a mantissa"),
        ((None, Some(1 << 53), Some(1)), "mantissa 9007199254740992"),
        ((None, Some(15), Some(23)), "scale 23"),
    ] {
        let (key, place) = findings([sound, split, wrong], true).await;
        place.expect(&[&key], words).await;
    }
    let (key, place) = findings([sound, sound, (None, Some(1), None)], false).await;
    place.expect(&[&key], "not all there").await;
}

#[tokio::test]
async fn an_index_of_another_file_is_found() {
    let mut place = Place::new().await;
    let wrong = |a: Labels, b: Labels, times: [Range<i64>; 2]| {
        let [first, second] = times.map(|range| range.collect::<Vec<_>>());
        rows(&[(a, &first), (b, &second)])
    };
    let cases = [
        (
            "cpu",
            wrong(host("a"), host("b"), [1..3, 2..4]),
            wrong(host("a"), host("c"), [1..3, 2..4]),
            "another value in column",
        ),
        (
            "cpu",
            wrong(host("a"), host("b"), [1..3, 2..4]),
            wrong(host("a"), host("b"), [1..2, 2..5]),
            "the times of",
        ),
        (
            "cpu",
            wrong(host("a"), host("b"), [1..3, 2..4]),
            wrong(host("a"), host("b"), [1..3, 2..5]),
            "fewer rows",
        ),
        (
            "cpu",
            wrong(host("a"), host("b"), [1..3, 2..5]),
            wrong(host("a"), host("b"), [1..3, 2..4]),
            "",
        ),
        (
            METRICS_TABLE,
            wrong(up("a"), up("b"), [1..3, 2..4]),
            wrong(up("a"), up("c"), [1..3, 2..4]),
            "another series_id",
        ),
    ];
    let mut expected = Vec::new();
    for (number, (table, data, index, words)) in cases.into_iter().enumerate() {
        let number = number as u128;
        let of_index = put(&place.store, table, 100 + number, &index).await;
        let of_data = put(&place.store, table, number, &data).await;
        let bytes = place.store.get(&of_index.index_key()).await.unwrap();
        place.store.put(&of_data.index_key(), bytes).await.unwrap();
        let SegmentMeta {
            index_bytes,
            index_checksum,
            rows,
            series,
            time,
            ..
        } = of_index;
        let meta = SegmentMeta {
            index_bytes,
            index_checksum,
            rows,
            series,
            time,
            ..of_data
        };
        place.commit(std::slice::from_ref(&meta)).await;
        expected.push((meta.data_key(), words));
    }
    let (found, _) = place.findings().await;
    for (key, words) in expected {
        assert!(
            found
                .iter()
                .any(|(_, object, problem)| *object == key && problem.contains(words)),
            "{found:?} lack {key} {words}"
        );
    }
}

#[tokio::test]
async fn segments_of_a_level_may_share_no_series_and_time() {
    let check = async |level: u8, first: SortedRows, second: SortedRows, damaged: usize| {
        let mut place = Place::new().await;
        let metas = [
            put(&place.store, "cpu", 1, &first).await,
            put(&place.store, "cpu", 2, &second).await,
        ];
        place
            .commit(&metas.map(|meta| SegmentMeta { level, ..meta }))
            .await;
        let (found, _) = place.findings().await;
        assert_eq!(found.len(), damaged, "{found:?}");
    };
    let of = |name: &str, times: &[i64]| rows(&[(host(name), times)]);
    check(1, of("a", &[1, 5]), of("a", &[3, 9]), 1).await;
    check(2, of("a", &[1, 5]), of("a", &[5, 9]), 1).await;
    check(0, of("a", &[1, 5]), of("a", &[3, 9]), 0).await;
    check(2, of("a", &[1, 5]), of("b", &[3, 9]), 0).await;
    check(1, of("a", &[1, 5]), of("a", &[6, 9]), 0).await;
}

#[tokio::test]
async fn files_that_no_commit_names_are_told_by_their_age() {
    let (place, metas) = Place::sound().await;
    let stray = |drawn_ms| keys::data_file("d", "cpu", Day(0), SegmentId::from_parts(drawn_ms, 99));
    place.store.put(&stray(NOW - 1), vec![1]).await.unwrap();
    let (found, checked) = place.findings().await;
    assert_eq!((found.len(), checked.young_orphans), (0, 1));
    place
        .store
        .put(&stray(NOW - ORPHAN_AGE_MS - 1), vec![1])
        .await
        .unwrap();
    place
        .store
        .put("data/d/cpu/readme.txt", vec![1])
        .await
        .unwrap();
    place
        .expect(&[&stray(NOW - ORPHAN_AGE_MS - 1)], "no commit names it")
        .await;
    // What was replaced waits for its grace period.
    place
        .store
        .delete(&stray(NOW - ORPHAN_AGE_MS - 1))
        .await
        .unwrap();
    place
        .catalog
        .commit_compaction(&[metas[0].reference()], &[])
        .await
        .unwrap();
    place.expect(&[], "not a file of a segment").await;
}

#[tokio::test]
async fn what_a_broken_off_put_left_in_a_folder_is_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("data/x#00000000000000000001");
    std::fs::create_dir_all(folder.path().join("data")).unwrap();
    std::fs::write(&left, "half").unwrap();
    let store = Store::open_to_read(
        folder.path().to_str().unwrap(),
        &crate::store::S3Settings::default(),
    )
    .unwrap();
    let mut found = Vec::new();
    let mut collect = |finding: &Finding| found.push((finding.severity, finding.object.clone()));
    let mut report = Report::new(&mut collect);
    verify(&store, NOW, &mut report).await.unwrap();
    assert!(report.is_clean());
    assert_eq!(
        found,
        [(Severity::Note, "data/x#00000000000000000001".to_owned())]
    );
    // A folder that is not there is not made.
    let absent = folder.path().join("absent");
    assert!(
        Store::open_to_read(
            absent.to_str().unwrap(),
            &crate::store::S3Settings::default()
        )
        .is_err()
            && !absent.exists()
    );
}
