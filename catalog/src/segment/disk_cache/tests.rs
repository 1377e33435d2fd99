use super::*;

const FILE: u64 = 5 * BLOCK_BYTES / 2;
const WHOLE: Range<u64> = 0..FILE;

/// What the store has.
fn stored() -> Bytes {
    (0..FILE)
        .map(|at| (at % 251) as u8)
        .collect::<Vec<_>>()
        .into()
}

/// Reads ranges by way of the cache; says how many bytes the store was asked for.
async fn read(cache: &DiskCache, segment: u128, ranges: &[Range<u64>]) -> u64 {
    let stored = stored();
    let slice = |range: &Range<u64>| stored.slice(range.start as usize..range.end as usize);
    let mut read = BlockRead::look_up(cache, segment, SegmentFile::Data, FILE, ranges).await;
    let missing = read.missing();
    read.fill(&missing, &missing.iter().map(slice).collect::<Vec<_>>());
    for range in ranges {
        assert_eq!(read.get(range), Some(slice(range)), "{range:?}");
    }
    missing.iter().map(|range| range.end - range.start).sum()
}

async fn open(directory: &Path) -> Arc<DiskCache> {
    DiskCache::open(directory, 128 << 20).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_asked_once_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path()).await;
    let inside = [10..20, BLOCK_BYTES - 5..BLOCK_BYTES + 5];
    assert_eq!(read(&cache, 1, &inside).await, 2 * BLOCK_BYTES);
    assert_eq!(read(&cache, 1, &inside).await, 0);
    // Only what is missing; the last block is a short one.
    assert_eq!(read(&cache, 1, &[WHOLE, 7..7]).await, BLOCK_BYTES / 2);
    assert_eq!(read(&cache, 2, &[WHOLE]).await, FILE, "another segment");
    let counts = cache.counts();
    assert_eq!((counts.hits, counts.misses), (4, 6));
    cache.close().await;
    drop(cache);

    let cache = open(directory.path()).await;
    assert_eq!(read(&cache, 1, &[WHOLE]).await, 0);
    assert_eq!(read(&cache, 2, &[WHOLE]).await, 0);
    assert!(cache.counts().read_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cache_is_slower_and_not_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path()).await;
    for segment in 0..20 {
        read(&cache, segment, &[WHOLE]).await;
    }
    cache.close().await;
    drop(cache);
    let files = || {
        std::fs::read_dir(directory.path())
            .unwrap()
            .map(|file| file.unwrap().path())
    };
    let mut changed = 0;
    for file in files() {
        let mut bytes = std::fs::read(&file).unwrap();
        // Some of what is stored.
        for at in (0..bytes.len()).step_by(70_001) {
            changed += usize::from(bytes[at] != 0);
            bytes[at] ^= 1;
        }
        std::fs::write(file, bytes).unwrap();
    }
    assert!(changed > 10);
    let cache = open(directory.path()).await;
    let mut asked = 0;
    for segment in 0..20 {
        // `read` compares what comes.
        asked += read(&cache, segment, &[WHOLE]).await;
    }
    assert!(asked > 0);
    cache.close().await;
    drop(cache);

    files().for_each(|file| std::fs::write(file, b"not a cache").unwrap());
    let cache = open(directory.path()).await;
    assert_eq!(read(&cache, 1, &[WHOLE]).await, FILE);
    // Deleted under a running process.
    std::fs::remove_dir_all(directory.path()).unwrap();
    for segment in 0..20 {
        read(&cache, segment, &[WHOLE]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_never_larger_than_it_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(directory.path(), LEAST_BYTES + 5)
        .await
        .unwrap();
    for segment in 0..1_000 {
        read(&cache, segment, &[WHOLE]).await;
    }
    cache.close().await;
    assert_eq!(cache.counts().limit_bytes, LEAST_BYTES);
    let files = std::fs::read_dir(directory.path()).unwrap();
    let size: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= LEAST_BYTES, "{size}");
}

#[tokio::test]
async fn what_cannot_be_a_cache_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let small = DiskCache::open(directory.path(), LEAST_BYTES - 1).await;
    assert!(matches!(small, Err(DiskCacheError::TooSmall(_))));
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = DiskCache::open(&file.join("cache"), 128 << 20)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("file/cache"), "{error}");
}
