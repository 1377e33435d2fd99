use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::writer::{EncodedIndex, IndexWriter, Postings, batch};
use super::*;
use crate::memory::{MemoryBudget, Share};
use crate::model::{Labels, TableKind};
use crate::segment::read_cache::ReadCache;
use crate::segment::series::SortOrder;

/// Series of some metrics, hosts and modes; some labels only some series have.
fn series(hosts: usize) -> Vec<IndexedSeries> {
    let mut sets = Vec::new();
    for host in 0..hosts {
        for metric in 0..4 {
            for mode in 0..3 {
                let mut pairs = vec![
                    ("__name__", format!("metric_{metric}")),
                    ("instance", format!("node-{host:04}:9100")),
                    ("job", "node".to_owned()),
                ];
                if metric < 2 {
                    pairs.push(("mode", format!("mode{mode}")));
                } else if mode > 0 {
                    continue;
                }
                if host % 7 == 3 {
                    pairs.push(("zone", format!("z{}", host % 5)));
                }
                sets.push(Labels::from_pairs(pairs));
            }
        }
    }
    let order = SortOrder::metrics();
    sets.sort_by_cached_key(|labels| order.key(labels));
    let mut first_row = 0;
    let indexed = sets.into_iter().enumerate().map(|(at, labels)| {
        let rows = 1 + at as u64 % 5;
        first_row += rows;
        IndexedSeries {
            series: Arc::new(Series::new(labels)),
            first_row: first_row - rows,
            rows,
            time: TimeRange::new(at as i64 % 100, at as i64 % 100 + 10),
        }
    });
    indexed.collect()
}

fn encode(kind: TableKind, series: &[IndexedSeries]) -> Result<EncodedIndex, SegmentError> {
    let mut writer = IndexWriter::new(kind)?;
    for one in series {
        writer.push(one.clone())?;
    }
    writer.finish()
}

struct Stored {
    store: Arc<dyn ObjectStore>,
    location: SegmentLocation,
}

impl Stored {
    async fn put(bytes: Vec<u8>, tail_bytes: u64, checksum: u64) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let location = SegmentLocation {
            data: Path::from("data/a.parquet"),
            index: Path::from("data/a.series.parquet"),
            id: 7,
            data_bytes: 0,
            index_bytes: bytes.len() as u64,
            index_tail_bytes: tail_bytes,
            index_checksum: checksum,
            time: TimeRange::ALL,
            kind: TableKind::Metrics,
        };
        store
            .put(&location.index, PutPayload::from(bytes))
            .await
            .unwrap();
        Self { store, location }
    }

    async fn of(series: &[IndexedSeries]) -> Self {
        let index = encode(TableKind::Metrics, series).unwrap();
        Self::put(index.bytes, index.tail_bytes, index.checksum).await
    }

    /// Opened so that nothing but root and footer is in memory.
    async fn open(&self, cache: &Arc<ReadCache>) -> Result<SeriesIndex, SegmentError> {
        SeriesIndex::open_within(0, &self.store, &self.location, cache, None).await
    }

    async fn replace(&self, bytes: Vec<u8>) {
        let payload = PutPayload::from(bytes);
        self.store.put(&self.location.index, payload).await.unwrap();
    }

    async fn bytes(&self) -> Vec<u8> {
        let got = self.store.get(&self.location.index).await.unwrap();
        got.bytes().await.unwrap().to_vec()
    }
}

fn unlimited() -> Arc<ReadCache> {
    ReadCache::new(&MemoryBudget::unlimited(), None)
}

fn rows(series: &[IndexedSeries]) -> Vec<(Labels, u64, u64, u64, TimeRange)> {
    let row = |one: &IndexedSeries| {
        let Series { id, labels } = &*one.series;
        (labels.clone(), *id, one.first_row, one.rows, one.time)
    };
    series.iter().map(row).collect()
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let name = prop::sample::select(vec!["__name__", "instance", "job", "mode", "zone", "none"]);
    let op = prop::sample::select(vec![
        MatchOp::Equal,
        MatchOp::NotEqual,
        MatchOp::Regex,
        MatchOp::NotRegex,
    ]);
    let value = prop::sample::select(vec![
        "",
        "metric_1",
        "metric_2|metric_3",
        "metric_.+",
        "node-0003:9100",
        "node-00.*",
        ".*1.*",
        "node",
        "mode1",
        "mode1|mode2|mode9",
        "z3",
        "z[0-3]",
        "|z3",
        ".+",
        ".*",
        "nothing",
    ]);
    (name, op, value).prop_map(|(name, op, value)| Matcher::new(name, op, value).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_lookup_finds_what_a_scan_finds(
        matchers in prop::collection::vec(matcher(), 0..4),
        (start, len) in (0i64..110, 0i64..110),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            static SERIES: std::sync::OnceLock<Vec<IndexedSeries>> = std::sync::OnceLock::new();
            let all = SERIES.get_or_init(|| series(100));
            let stored = Stored::of(all).await;
            let index = stored.open(&unlimited()).await.unwrap();
            let range = TimeRange::new(start, start + len);
            let passes = |one: &&IndexedSeries| {
                let labels = &one.series.labels;
                matchers.iter().all(|m| m.matches_labels(labels))
            };
            let passing: Vec<IndexedSeries> = all.iter().filter(passes).cloned().collect();
            let in_range: Vec<IndexedSeries> =
                passing.iter().filter(|one| one.time.overlaps(&range)).cloned().collect();
            // Read, and once more from the cache.
            for _ in 0..2 {
                let found = index.select(&matchers, range, None).await.unwrap().series;
                prop_assert_eq!(rows(&found), rows(&in_range));
                let names = index.label_names(&matchers, None).await.unwrap();
                let expected: std::collections::BTreeSet<String> = passing
                    .iter()
                    .flat_map(|one| one.series.labels.iter())
                    .map(|(name, _)| name.to_owned())
                    .collect();
                prop_assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
                for label in ["__name__", "instance", "mode", "zone", "none"] {
                    let values = index.label_values(label, &matchers, None).await.unwrap();
                    let expected: std::collections::BTreeSet<String> = passing
                        .iter()
                        .filter_map(|one| one.series.labels.get(label))
                        .map(str::to_owned)
                        .collect();
                    prop_assert_eq!(values, expected.into_iter().collect::<Vec<_>>());
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn all_forms_hold_the_same() {
    for hosts in [0, 1, 200] {
        let all = series(hosts);
        let stored = Stored::of(&all).await;
        check_index(&stored.store, &stored.location).await.unwrap();
        let lookup = stored.open(&unlimited()).await.unwrap();
        let loaded = SeriesIndex::load(&stored.store, &stored.location, None)
            .await
            .unwrap();
        let whole = SeriesIndex::open(&stored.store, &stored.location, &unlimited(), None)
            .await
            .unwrap();
        for index in [lookup, loaded, whole] {
            assert_eq!(rows(&index.all().await.unwrap()), rows(&all));
        }
    }
}

#[tokio::test]
async fn the_first_format_is_read() {
    let all = series(20);
    let batch = batch(TableKind::Metrics, &all).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let checksum = xxh3_64(&bytes);
    let stored = Stored::put(bytes, 0, checksum).await;
    let index = stored.open(&unlimited()).await.unwrap();
    assert_eq!(rows(&index.all().await.unwrap()), rows(&all));
    let matchers = [Matcher::equal("__name__", "metric_2")];
    let found = index
        .select(&matchers, TimeRange::ALL, None)
        .await
        .unwrap()
        .series;
    assert_eq!(found.len(), 20);
    let values = index.label_values("mode", &[], None).await.unwrap();
    assert_eq!(values, ["mode0", "mode1", "mode2"]);
    check_index(&stored.store, &stored.location).await.unwrap();
}

#[tokio::test]
async fn a_lookup_reads_what_it_touches() {
    let stored = Stored::of(&series(2000)).await;
    let cache = unlimited();
    let meter = ReadMeter::unlimited(Vec::new());
    let index = SeriesIndex::open_within(0, &stored.store, &stored.location, &cache, Some(&meter))
        .await
        .unwrap();
    let matchers = [
        Matcher::equal("__name__", "metric_1"),
        Matcher::equal("instance", "node-1234:9100"),
    ];
    let found = index.select(&matchers, TimeRange::ALL, Some(&meter)).await;
    assert_eq!(found.unwrap().series.len(), 3);
    let counts = meter.counts();
    let bytes = stored.location.index_bytes;
    assert!(counts.bytes < bytes, "{counts:?} of {bytes}");
    // Again: nothing.
    let again = index.select(&matchers, TimeRange::ALL, Some(&meter)).await;
    assert_eq!(again.unwrap().series.len(), 3);
    let repeated = meter.counts();
    assert_eq!(
        (repeated.requests, repeated.rounds),
        (counts.requests, counts.rounds)
    );
    assert!(repeated.memory_hits > counts.memory_hits, "{repeated:?}");
    assert!(cache.index_counts().hits > 0);
    // Another segment with the same series shares their labels.
    let other = Stored {
        store: Arc::clone(&stored.store),
        location: SegmentLocation {
            id: 8,
            ..stored.location.clone()
        },
    };
    let other = other.open(&cache).await.unwrap();
    let again = other
        .select(&matchers, TimeRange::ALL, None)
        .await
        .unwrap()
        .series;
    let first = index
        .select(&matchers, TimeRange::ALL, None)
        .await
        .unwrap()
        .series;
    assert!(Arc::ptr_eq(&first[0].series, &again[0].series));
}

#[tokio::test]
async fn a_small_cache_forgets_and_answers_right() {
    let all = series(500);
    let stored = Stored::of(&all).await;
    let memory = Arc::new(MemoryBudget::new(usize::MAX / 4).with_cap(Share::Caches, 64 << 10));
    let cache = ReadCache::new(&memory, None);
    let index = stored.open(&cache).await.unwrap();
    for _ in 0..3 {
        let found = index
            .select(&[], TimeRange::ALL, None)
            .await
            .unwrap()
            .series;
        assert_eq!(rows(&found), rows(&all));
        let counts = cache.index_counts();
        assert!(counts.bytes <= 16 << 10, "{counts:?}");
    }
    assert!(cache.index_counts().evictions > 0);
    drop(cache);
    drop(index);
    assert_eq!(memory.state(Share::Caches).used, 0);
}

#[tokio::test]
async fn every_changed_byte_is_found_by_a_check_and_never_a_panic() {
    let all = series(60);
    let stored = Stored::of(&all).await;
    let good = stored.bytes().await;
    for at in (0..good.len()).step_by(61) {
        let mut damaged = good.clone();
        damaged[at] ^= 0x10;
        stored.replace(damaged).await;
        let checked = check_index(&stored.store, &stored.location).await;
        assert!(
            matches!(checked, Err(SegmentError::Corrupt { .. })),
            "byte {at}"
        );
        // A reader that looks only at parts answers right or finds it.
        let read = async {
            let index = stored.open(&unlimited()).await?;
            index.select(&[], TimeRange::ALL, None).await
        };
        match read.await {
            Ok(found) => assert_eq!(rows(&found.series), rows(&all), "byte {at}"),
            Err(SegmentError::Corrupt { object, .. }) => {
                assert_eq!(object, "data/a.series.parquet");
            }
            Err(error) => panic!("{error}"),
        }
    }
    for len in (0..good.len()).step_by(997) {
        stored.replace(good[..len].to_vec()).await;
        let opened = stored.open(&unlimited()).await;
        assert!(
            matches!(opened, Err(SegmentError::Corrupt { .. })),
            "{len} bytes"
        );
    }
}

#[test]
fn postings_are_of_every_series() {
    let all = series(10);
    let postings = Postings::of(&all).sorted();
    assert!(postings.is_sorted_by(|a, b| (&a.name, &a.value) < (&b.name, &b.value)));
    for (at, one) in all.iter().enumerate() {
        let at = at as u32;
        for (name, value) in one.series.labels.iter() {
            let mut found = postings
                .iter()
                .filter(|posting| (&*posting.name, &*posting.value) == (name, value))
                .flat_map(|posting| posting.positions.runs());
            assert!(found.any(|run| run.contains(&at)));
        }
    }
    let labels: usize = all.iter().map(|one| one.series.labels.len()).sum();
    let counted: usize = postings.iter().map(|found| found.positions.count()).sum();
    assert_eq!(counted, labels);
}

#[tokio::test]
async fn postings_that_are_not_those_of_the_series_are_found() {
    let all = series(50);
    let check = async |written: &[IndexedSeries]| {
        let stored = Stored::of(written).await;
        check_lookup(&stored.store, &stored.location, &all, &unlimited()).await
    };
    check(&all).await.unwrap();
    // A label of the last series is another one's, and the last series is missing.
    let mut other = all.clone();
    let last = other.last_mut().unwrap();
    last.series = Arc::new(Series::new(Labels::from_pairs([("__name__", "metric_9")])));
    for written in [&other, &all[..all.len() - 1]] {
        let error = check(written).await.unwrap_err().to_string();
        assert!(error.contains("postings"), "{error}");
    }
}

#[tokio::test]
async fn what_is_found_is_counted_before_it_is_read() {
    let all = series(2000);
    let stored = Stored::of(&all).await;
    let memory = Arc::new(MemoryBudget::new(2 << 20));
    let index = stored.open(&ReadCache::new(&memory, None)).await.unwrap();
    let some = [Matcher::equal("__name__", "metric_2")];
    let found = index.select(&some, TimeRange::ALL, None).await;
    let found = found.unwrap();
    assert!(memory.state(Share::Queries).used >= found.series.len() * size_of::<IndexedSeries>());
    drop(found);
    assert_eq!(memory.state(Share::Queries).used, 0);
    let refused = index.select(&[], TimeRange::ALL, None).await.unwrap_err();
    assert!(matches!(refused, SegmentError::Memory(_)), "{refused}");
}
