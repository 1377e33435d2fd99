//! Rows out of a segment that the memory holds: what a query does for each file.
//!
//! `cargo bench -p tidelake-catalog`; criterion's "elem" is a row.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::Float64Array;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::{Column, ColumnType, Labels, TableKind};
use tidelake_catalog::segment::encoding::Effort;
use tidelake_catalog::segment::reader::SegmentLocation;
use tidelake_catalog::segment::{
    FieldArray, OpenSegment, ReadCache, SegmentWriter, Series, SeriesRun, SortOrder, SortedRows,
    ValueLayout,
};

const METRICS: u64 = 12;
const HOSTS: u64 = 200;
/// A sample each 15 seconds for an hour.
const SAMPLES: u64 = 240;

/// Counters and gauges, a metric after the other as in a file.
fn rows() -> SortedRows {
    let (mut runs, mut time, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let chance = |seed: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    for metric in 0..METRICS {
        for host in 0..HOSTS {
            let start = time.len();
            let labels = Labels::from_pairs([
                ("__name__", format!("metric_{metric:02}")),
                ("instance", format!("host_{host:03}")),
                ("job", "node".to_owned()),
            ]);
            let mut sum = 0;
            for sample in 0..SAMPLES {
                let chance = chance((metric * HOSTS + host) * SAMPLES + sample);
                sum += chance % 10_000;
                time.push((sample * 15_000 + chance % 3) as i64);
                values.push(match metric % 4 {
                    // Bytes, seconds, a load, what seldom changes.
                    0 => (host * 1_000_000_000 + sum) as f64,
                    1 => (host * 100_000 + sum) as f64 / 100.0,
                    2 => (chance % 400) as f64 / 3.0,
                    _ => (host % 5 + chance % 100 / 99) as f64,
                });
            }
            runs.push(SeriesRun::new(
                Arc::new(Series::new(labels)),
                start..time.len(),
            ));
        }
    }
    SortedRows {
        runs,
        time: time.into(),
        fields: fields(),
        columns: vec![FieldArray::new(Float64Array::from(values))],
    }
}

fn fields() -> Arc<[Column]> {
    [Column {
        name: "value".into(),
        kind: ColumnType::Float,
    }]
    .into()
}

async fn segment(rows: &SortedRows, effort: Effort, layout: ValueLayout) -> OpenSegment {
    let (kind, order) = (TableKind::Metrics, SortOrder::metrics());
    let mut writer =
        SegmentWriter::with_layout(kind, order, fields(), effort, layout, &[]).unwrap();
    writer.push(rows).unwrap();
    let mut data = writer.take_bytes();
    let done = writer.finish().unwrap();
    data.extend(&done.data_tail);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let location = SegmentLocation {
        data: Path::from("a.parquet"),
        index: Path::from("a.series.parquet"),
        id: 1,
        data_bytes: done.data_bytes,
        index_bytes: done.index.len() as u64,
        index_tail_bytes: done.index_tail_bytes,
        index_checksum: done.index_checksum,
        time: done.time,
        kind,
    };
    let put = store.put(&location.data, PutPayload::from(data));
    put.await.unwrap();
    let put = store.put(&location.index, PutPayload::from(done.index));
    put.await.unwrap();
    let cache = ReadCache::new(&MemoryBudget::unlimited(), None);
    OpenSegment::open(store, location, &cache, None)
        .await
        .unwrap()
}

/// Series from a number on, each `step`-th.
fn series(from: u64, step: u64, count: u64) -> Vec<Range<u64>> {
    let first_row = |number: u64| (from + number * step) * SAMPLES;
    let ranges = (0..count).map(|number| first_row(number)..first_row(number) + SAMPLES);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

fn read(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let rows = rows();
    let all = METRICS * HOSTS;
    let wanted = [
        // Of each sort of metric one, in the middle of its hosts.
        ("one counter", series(HOSTS / 2, 1, 1)),
        ("one sum of seconds", series(HOSTS * 3 / 2, 1, 1)),
        ("one load", series(HOSTS * 5 / 2, 1, 1)),
        ("one state", series(HOSTS * 7 / 2, 1, 1)),
        ("one host", series(HOSTS / 2, HOSTS, METRICS)),
        ("100 hosts of a metric", series(HOSTS * 5 + 50, 1, 100)),
        ("every 24th series", series(0, 24, all / 24)),
        ("all", series(0, 1, all)),
    ];
    for (name, effort, layout) in [
        ("fresh", Effort::Fresh, ValueLayout::Plain),
        ("settled", Effort::Settled, ValueLayout::Plain),
        ("decimal", Effort::Settled, ValueLayout::Decimal),
    ] {
        let segment = runtime.block_on(segment(&rows, effort, layout));
        let mut group = c.benchmark_group(name);
        group.sample_size(20);
        for (wanted, ranges) in &wanted {
            let count = ranges.iter().map(|range| range.end - range.start).sum();
            group.throughput(Throughput::Elements(count));
            group.bench_function(BenchmarkId::from_parameter(wanted), |b| {
                b.iter(|| {
                    let read = segment.read(black_box(ranges), &rows.fields, None);
                    black_box(runtime.block_on(read).unwrap())
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, read);
criterion_main!(benches);
