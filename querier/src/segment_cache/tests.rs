use std::sync::atomic::AtomicUsize;

use tidelake_catalog::model::{METRICS_TABLE, TableKind};
use tidelake_catalog::segment::ReadCache;

use super::*;
use crate::test_tables::{TestTables, sample};

/// A cache in a share of its own, and segments that are opened through it.
struct Cached {
    test: TestTables,
    metas: Vec<SegmentMeta>,
    memory: Arc<MemoryBudget>,
    cache: SegmentCache,
    opened: AtomicUsize,
}

impl Cached {
    /// Segments of the same size, in a cache that has room for `segments` and a half.
    async fn new(segments: usize) -> Self {
        let test = TestTables::new().await;
        let mut metas = Vec::new();
        for job in ["a", "b", "c", "d"] {
            let row = sample(&format!("up job={job}"), 1, 1.0);
            metas.extend(test.flush(METRICS_TABLE, &[row]).await);
        }
        let size = open(&test, &metas[0]).await.unwrap().memory_size();
        let bytes = size * segments + size / 2;
        let memory = MemoryBudget::new(1 << 40).with_cap(Share::Caches, 4 * bytes);
        let memory = Arc::new(memory);
        Self {
            test,
            metas,
            cache: SegmentCache::new(&memory),
            memory,
            opened: AtomicUsize::new(0),
        }
    }

    async fn open(&self, number: usize) -> Result<Arc<OpenSegment>, SegmentError> {
        let meta = &self.metas[number];
        let open = || {
            self.opened.fetch_add(1, Ordering::Relaxed);
            open(&self.test, meta)
        };
        self.cache.open(meta, open).await
    }

    /// Opens one of the segments, and tells whether that was new work.
    async fn is_opened_anew(&self, number: usize) -> bool {
        let before = self.opened();
        self.open(number).await.unwrap();
        self.opened() > before
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    fn held(&self) -> usize {
        self.memory.state(Share::Caches).used
    }
}

async fn open(test: &TestTables, meta: &SegmentMeta) -> Result<OpenSegment, SegmentError> {
    let cache = ReadCache::new(&MemoryBudget::unlimited(), None);
    // As if the store took a while.
    tokio::task::yield_now().await;
    meta.open(&test.store, TableKind::Metrics, &cache, None)
        .await
}

#[tokio::test]
async fn an_open_segment_is_shared() {
    let cached = Cached::new(4).await;
    let (one, same, other) = futures::join!(cached.open(0), cached.open(0), cached.open(1));
    let (one, same, other) = (one.unwrap(), same.unwrap(), other.unwrap());
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    assert_eq!(cached.opened(), 2);
    assert!(Arc::ptr_eq(&one, &cached.open(0).await.unwrap()));
    assert_eq!(cached.opened(), 2);
    assert_eq!(cached.held(), one.memory_size() + other.memory_size());
    drop(cached.cache);
    assert_eq!(cached.memory.state(Share::Caches).used, 0);
}

#[tokio::test]
async fn the_segment_that_was_not_used_for_longest_goes_first() {
    let cached = Cached::new(3).await;
    for number in [0, 1, 2] {
        assert!(cached.is_opened_anew(number).await);
    }
    assert!(!cached.is_opened_anew(0).await);
    // There is no room for a fourth.
    assert!(cached.is_opened_anew(3).await);
    assert!(cached.held() <= cached.memory.limit(Share::Caches) / 4);
    for number in [0, 2, 3] {
        assert!(!cached.is_opened_anew(number).await, "{number}");
    }
    assert!(cached.is_opened_anew(1).await);
}

#[tokio::test]
async fn a_segment_that_does_not_fit_is_opened_each_time() {
    let cached = Cached::new(0).await;
    for _ in 0..3 {
        assert!(cached.is_opened_anew(0).await);
        assert_eq!(cached.held(), 0);
    }
}

#[tokio::test]
async fn a_segment_that_is_in_use_outlives_its_place() {
    let cached = Cached::new(1).await;
    let used = cached.open(0).await.unwrap();
    assert!(cached.is_opened_anew(1).await);
    assert_eq!(used.index().len(), 1);
    assert!(cached.is_opened_anew(0).await);
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let cached = Cached::new(4).await;
    let key = cached.metas[0].index_key();
    let bytes = cached.test.lose(&key).await;
    for tries in 1..3 {
        match cached.open(0).await {
            Err(SegmentError::Corrupt { object, .. }) => assert_eq!(object, key),
            other => panic!("{other:?}"),
        }
        assert_eq!((cached.opened(), cached.held()), (tries, 0));
    }
    // Both that wait for it try by themselves.
    let (one, other) = futures::join!(cached.open(0), cached.open(0));
    assert!(one.is_err() && other.is_err());
    assert_eq!(cached.opened(), 4);
    cached.test.store.put(&key, bytes).await.unwrap();
    assert!(cached.is_opened_anew(0).await);
    assert!(!cached.is_opened_anew(0).await);
}

#[tokio::test]
async fn a_segment_without_its_data_is_not_kept() {
    let cached = Cached::new(4).await;
    let key = cached.metas[0].data_key();
    let bytes = cached.test.lose(&key).await;
    for tries in 1..3 {
        let segment = cached.open(0).await.unwrap();
        assert!(matches!(
            segment.damage(),
            Some(SegmentError::Corrupt { .. })
        ));
        assert_eq!((cached.opened(), cached.held()), (tries, 0));
    }
    cached.test.store.put(&key, bytes).await.unwrap();
    assert!(cached.open(0).await.unwrap().damage().is_none());
    assert!(!cached.is_opened_anew(0).await);
}

#[tokio::test]
async fn a_segment_that_is_forgotten_is_opened_anew() {
    let cached = Cached::new(4).await;
    cached.open(0).await.unwrap();
    let kept = cached.open(1).await.unwrap();
    cached.cache.forget(cached.metas[0].id);
    assert_eq!(cached.held(), kept.memory_size());
    // What is not there cannot be forgotten.
    cached.cache.forget(cached.metas[0].id);
    cached.cache.forget(cached.metas[3].id);
    assert_eq!(cached.held(), kept.memory_size());
    assert!(!cached.is_opened_anew(1).await);
    assert!(cached.is_opened_anew(0).await);
}

#[tokio::test]
async fn an_opening_that_is_given_up_is_made_by_the_next() {
    let cached = Cached::new(4).await;
    {
        let mut opening = std::pin::pin!(cached.open(0));
        assert!(futures::poll!(&mut opening).is_pending());
    }
    assert_eq!((cached.opened(), cached.held()), (1, 0));
    assert!(
        cached.cache.inner.lock().entries.is_empty(),
        "an entry is left"
    );
    let segment = cached.open(0).await.unwrap();
    assert_eq!((cached.opened(), cached.held()), (2, segment.memory_size()));
}
