//! Segments as they are written, read page by page.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutResult, Result,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Counts what is asked of a store.
#[derive(Debug)]
struct CountingStore {
    inner: Arc<dyn ObjectStore>,
    /// Calls for ranges.
    ranges: AtomicUsize,
    /// Other calls for bytes.
    others: AtomicUsize,
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counting {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.others.fetch_add(1, Ordering::Relaxed);
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn float_bits(array: &FieldArray) -> Vec<Option<u64>> {
    let array = array.to_array();
    let values = array.as_primitive::<Float64Type>().iter();
    values.map(|value| value.map(f64::to_bits)).collect()
}

#[tokio::test]
async fn one_read_makes_one_call_of_the_store() {
    // Two row groups, three columns.
    let rows = decimal_rows(30, 5_000);
    let segment = write_decimals(&rows).await;
    let store = Arc::new(CountingStore {
        inner: Arc::clone(&segment.store),
        ranges: AtomicUsize::new(0),
        others: AtomicUsize::new(0),
    });
    let calls = || [&store.ranges, &store.others].map(|count| count.load(Ordering::Relaxed));
    for ranges in [
        &[(0, 150_000)][..],
        &[(3, 240)],
        &[(0, 1), (70_000, 70_240), (149_000, 150_000)],
        // No rows, no call.
        &[],
    ] {
        let location = segment.location.clone();
        let opened = OpenSegment::open(store.clone(), location, &cache(), None).await;
        let opened = opened.unwrap();
        let ranges: Vec<_> = ranges.iter().map(|(start, end)| *start..*end).collect();
        let read = async || {
            let before = calls();
            let meter = ReadMeter::unlimited(Vec::new());
            let counted = Some(Arc::clone(&meter));
            let (time, _) = opened.read(&ranges, &rows.fields, counted).await.unwrap();
            let expected: u64 = ranges.iter().map(|r| r.end - r.start).sum();
            assert_eq!(time.len() as u64, expected);
            let after = calls();
            assert_eq!(meter.counts().requests > 0, after != before);
            [after[0] - before[0], after[1] - before[1]]
        };
        let once = usize::from(!ranges.is_empty());
        assert_eq!(read().await, [once, 0], "{ranges:?}");
        // Again: its pages are in memory.
        assert_eq!(read().await, [0, 0], "{ranges:?}");
    }
}

#[tokio::test]
async fn every_effort_and_layout_gives_the_rows_that_were_written() {
    let (series, samples) = (32, 4_500);
    let rows = decimal_rows(series, samples);
    let expected = float_bits(&rows.columns[0]);
    let total = (series * samples) as u64;
    let mut random = StdRng::seed_from_u64(7);
    for effort in [Effort::Fresh, Effort::Compacted, Effort::Settled] {
        for layout in [ValueLayout::Plain, ValueLayout::Decimal] {
            let writer = SegmentWriter::with_layout(
                TableKind::Metrics,
                SortOrder::metrics(),
                Arc::clone(&rows.fields),
                effort,
                layout,
                &[],
            )
            .unwrap();
            let (store, location) = put(TableKind::Metrics, writer, &rows).await;
            let segment = OpenSegment::open(store, location, &cache(), None)
                .await
                .unwrap();
            for _ in 0..20 {
                let cuts = 2 * random.random_range(1..10);
                let mut cuts: Vec<u64> =
                    (0..cuts).map(|_| random.random_range(0..=total)).collect();
                cuts.sort_unstable();
                cuts.dedup();
                let ranges: Vec<_> = cuts.chunks_exact(2).map(|cut| cut[0]..cut[1]).collect();
                let (time, columns) = segment.read(&ranges, &rows.fields, None).await.unwrap();
                let wanted = || ranges.iter().flat_map(|r| r.start as usize..r.end as usize);
                assert!(
                    time.iter().copied().eq(wanted().map(|row| rows.time[row])),
                    "{effort:?} {layout:?} {ranges:?}"
                );
                let found = float_bits(&columns[0]);
                assert!(
                    found.into_iter().eq(wanted().map(|row| expected[row])),
                    "{effort:?} {layout:?} {ranges:?}"
                );
            }
        }
    }
}
