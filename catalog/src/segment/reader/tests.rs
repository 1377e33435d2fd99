use arrow::array::{Float64Array, StringArray};
use arrow::datatypes::Float64Type;
use object_store::PutPayload;
use object_store::memory::InMemory;
use xxhash_rust::xxh3::xxh3_64;

use super::super::encoding::Effort;
use super::super::rows::SeriesRun;
use super::super::scan::{ScanRequest, Source, plan};
use super::super::series::{Series, SortOrder};
use super::super::write_order::WriteOrder;
use super::super::writer::SegmentWriter;
use super::super::{SegmentError, SortedRows, ValueLayout};
use super::*;
use crate::memory::MemoryBudget;
use crate::model::{ColumnType, Labels, MatchOp, Matcher, STALE_NAN_BITS, TimeRange};

mod pages;

fn cache() -> Arc<ReadCache> {
    ReadCache::new(&MemoryBudget::unlimited(), None)
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column {
        name: name.into(),
        kind,
    }
}

fn metric_rows(series: usize, samples: usize) -> SortedRows {
    let order = SortOrder::metrics();
    let mut all: Vec<Labels> = (0..series)
        .map(|i| {
            Labels::from_pairs([
                ("__name__", format!("m{}", i % 3)),
                ("instance", format!("host{i:03}")),
                ("job", "node".into()),
            ])
        })
        .collect();
    all.sort_by_cached_key(|labels| order.key(labels));
    let (mut runs, mut time, mut value) = (Vec::new(), Vec::new(), Vec::new());
    for (i, labels) in all.into_iter().enumerate() {
        let start = time.len();
        time.extend((0..samples).map(|t| 1_000 * t as i64 + i as i64));
        value.extend((0..samples).map(|t| {
            if t == 3 {
                f64::from_bits(STALE_NAN_BITS)
            } else {
                (i * samples + t) as f64
            }
        }));
        runs.push(SeriesRun::new(
            Arc::new(Series::new(labels)),
            start..time.len(),
        ));
    }
    SortedRows {
        runs,
        time: time.into(),
        fields: [column("value", ColumnType::Float)].into(),
        columns: vec![FieldArray::new(Float64Array::from(value))],
    }
}

async fn write(
    kind: TableKind,
    order: SortOrder,
    rows: &SortedRows,
) -> (Arc<dyn ObjectStore>, SegmentLocation) {
    let writer =
        SegmentWriter::new(kind, order, Arc::clone(&rows.fields), Effort::Fresh, &[]).unwrap();
    put(kind, writer, rows).await
}

/// The same in the decimal layout.
async fn write_decimals(rows: &SortedRows) -> OpenSegment {
    let (kind, order, effort) = (TableKind::Metrics, SortOrder::metrics(), Effort::Compacted);
    let writer = SegmentWriter::with_layout(
        kind,
        order,
        Arc::clone(&rows.fields),
        effort,
        ValueLayout::Decimal,
        &[],
    )
    .unwrap();
    let (store, location) = put(kind, writer, rows).await;
    OpenSegment::open(store, location, &cache(), None)
        .await
        .unwrap()
}

async fn put(
    kind: TableKind,
    mut writer: SegmentWriter,
    rows: &SortedRows,
) -> (Arc<dyn ObjectStore>, SegmentLocation) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    writer.push(rows).unwrap();
    let mut data = writer.take_bytes();
    let done = writer.finish().unwrap();
    data.extend(&done.data_tail);
    assert_eq!(data.len() as u64, done.data_bytes);
    assert_eq!(xxh3_64(&data), done.data_checksum);
    let location = SegmentLocation {
        data: Path::from("data/a.parquet"),
        index: Path::from("data/a.series.parquet"),
        data_bytes: done.data_bytes,
        id: 1,
        index_bytes: done.index.len() as u64,
        index_tail_bytes: done.index_tail_bytes,
        index_checksum: done.index_checksum,
        time: done.time,
        kind,
    };
    store
        .put(&location.data, PutPayload::from(data))
        .await
        .unwrap();
    store
        .put(&location.index, PutPayload::from(done.index))
        .await
        .unwrap();
    (store, location)
}

#[tokio::test]
async fn a_selector_reads_back_exactly_its_series() {
    let rows = metric_rows(30, 40);
    let (store, location) = write(TableKind::Metrics, SortOrder::metrics(), &rows).await;
    let segment = Arc::new(
        OpenSegment::open(store, location, &cache(), None)
            .await
            .unwrap(),
    );
    assert_eq!(
        segment
            .index()
            .label_values("__name__", &[], None)
            .await
            .unwrap(),
        ["m0", "m1", "m2"]
    );
    let matchers = vec![
        Matcher::equal("__name__", "m1"),
        Matcher::new("instance", MatchOp::Regex, "host00.").unwrap(),
    ];
    let request = ScanRequest {
        fields: Arc::clone(&rows.fields),
        matchers,
        range: TimeRange::new(2_000, 10_000),
        edge: None,
    };
    let plan = plan(
        TableKind::Metrics,
        vec![Source::Segment(WriteOrder::of((1, 1)), [].into(), segment)],
        request,
        None,
    )
    .await
    .unwrap();
    assert_eq!(plan.units.len(), 1);
    let out = plan.units[0].read().await.unwrap();
    let hosts: Vec<_> = out
        .runs
        .iter()
        .map(|r| r.series.labels.get("instance").unwrap())
        .collect();
    assert_eq!(hosts, ["host001", "host004", "host007"]);
    for run in &out.runs {
        let original = rows
            .runs
            .iter()
            .find(|r| r.series.id == run.series.id)
            .unwrap();
        let expected: Vec<usize> = original
            .rows()
            .filter(|&row| (2_000..=10_000).contains(&rows.time[row]))
            .collect();
        assert_eq!(
            out.times(run),
            expected
                .iter()
                .map(|&row| rows.time[row])
                .collect::<Vec<_>>()
        );
        let bits = |rows: &SortedRows, row: usize| {
            rows.columns[0]
                .to_array()
                .as_primitive::<Float64Type>()
                .value(row)
                .to_bits()
        };
        assert!(
            run.rows()
                .zip(expected)
                .all(|(got, row)| bits(&out, got) == bits(&rows, row)),
            "values keep every bit"
        );
    }
}

#[tokio::test]
async fn wide_rows_come_back_with_missing_tags_and_fields() {
    let labels = [
        Labels::from_pairs([("host", "a")]),
        Labels::from_pairs([("host", "b"), ("rack", "1")]),
    ];
    let rows = SortedRows {
        runs: labels
            .iter()
            .enumerate()
            .map(|(i, l)| SeriesRun::new(Arc::new(Series::new(l.clone())), i * 2..i * 2 + 2))
            .collect(),
        time: vec![1, 2, 1, 2].into(),
        fields: [
            column("f", ColumnType::Float),
            column("s", ColumnType::String),
        ]
        .into(),
        columns: vec![
            FieldArray::new(Float64Array::from(vec![Some(1.5), None, None, Some(-0.0)])),
            FieldArray::new(StringArray::from(vec![None, Some("x\ny"), Some(""), None])),
        ],
    };
    let order = SortOrder::choose(TableKind::Wide, &labels);
    let (store, location) = write(TableKind::Wide, order, &rows).await;
    let segment = OpenSegment::open(store, location, &cache(), None)
        .await
        .unwrap();
    let fields = [
        column("s", ColumnType::String),
        column("later", ColumnType::Integer),
        column("f", ColumnType::Float),
    ];
    let (time, columns) = segment.read(&[1..2, 3..4], &fields, None).await.unwrap();
    assert_eq!(&time[..], [2, 2]);
    assert_eq!(
        columns[0]
            .to_array()
            .as_string::<i32>()
            .iter()
            .collect::<Vec<_>>(),
        [Some("x\ny"), None]
    );
    assert_eq!(columns[1].value_count(), 0);
    let floats: Vec<_> = columns[2]
        .to_array()
        .as_primitive::<Float64Type>()
        .iter()
        .map(|v| v.map(f64::to_bits))
        .collect();
    assert_eq!(floats, [None, Some((-0.0f64).to_bits())]);
    assert_eq!(
        segment.index().all().await.unwrap()[1].series.labels,
        labels[1]
    );
}

/// Series of hundredths, of noise, and of all sorts of things, some rows of which are histograms.
fn decimal_rows(series: usize, samples: usize) -> SortedRows {
    let mut rows = metric_rows(series, samples);
    let chance = |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = |row: usize| match (row / samples) % 4 {
        0 => Some((10_000_000 + row as u64 * 1_499 + chance(row) % 7) as f64 / 100.0),
        1 => Some(f64::from_bits(chance(row))),
        2 if row.is_multiple_of(7) => None,
        2 => Some([f64::from_bits(STALE_NAN_BITS), -0.0, 17.0, 0.1, 1e300][row % 5]),
        _ => Some(
            row as f64 / 2.0
                + if row.is_multiple_of(40) {
                    f64::INFINITY
                } else {
                    0.0
                },
        ),
    };
    rows.columns = vec![FieldArray::new(
        (0..series * samples).map(value).collect::<Float64Array>(),
    )];
    rows
}

#[tokio::test]
async fn values_in_the_decimal_layout_come_back_with_every_bit() {
    let rows = decimal_rows(40, 5_000);
    let segment = write_decimals(&rows).await;
    let names: Vec<_> = segment
        .columns()
        .unwrap()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(
        names,
        ["metric", "series_id", "time", "value", "mantissa", "scale"]
    );
    let batches: Vec<_> = segment
        .batches(1 << 20)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let splits: usize = batches
        .iter()
        .map(|batch| batch.num_rows() - batch["mantissa"].null_count())
        .sum();
    assert!(
        (40_000..110_000).contains(&splits),
        "{splits} of 200000 are split"
    );

    let expected: Vec<_> = rows.columns[0]
        .to_array()
        .as_primitive::<Float64Type>()
        .iter()
        .map(|value| value.map(f64::to_bits))
        .collect();
    for ranges in [
        &[0..100_000, 100_000..200_000][..],
        &[0..1, 7..8],
        &[
            3..9,
            5_000..5_001,
            9_990..10_020,
            131_000..131_100,
            199_999..200_000,
        ],
    ] {
        let (_, columns) = segment.read(ranges, &rows.fields, None).await.unwrap();
        let found: Vec<_> = columns[0]
            .to_array()
            .as_primitive::<Float64Type>()
            .iter()
            .map(|value| value.map(f64::to_bits))
            .collect();
        let expected: Vec<_> = ranges
            .iter()
            .flat_map(|range| expected[range.start as usize..range.end as usize].to_vec())
            .collect();
        assert!(found == expected, "{ranges:?}");
    }
    // Without the values none of their columns.
    let (time, columns) = segment
        .read(
            &[0..4, 4..10],
            &[column("histogram", ColumnType::Histogram)],
            None,
        )
        .await
        .unwrap();
    assert_eq!(
        (time.len(), columns.len(), columns[0].value_count()),
        (10, 1, 0)
    );
}

#[tokio::test]
async fn plain_and_decimal_files_are_merged_alike() {
    let later = decimal_rows(6, 50);
    let mut earlier = decimal_rows(9, 60);
    earlier.columns = vec![FieldArray::new(
        earlier.columns[0]
            .to_array()
            .as_primitive::<Float64Type>()
            .unary::<_, Float64Type>(|value| value / 4.0),
    )];
    let plain = async |rows| {
        let (store, location) = write(TableKind::Metrics, SortOrder::metrics(), rows).await;
        OpenSegment::open(store, location, &cache(), None)
            .await
            .unwrap()
    };
    let merged = async |segments: [OpenSegment; 2]| {
        let source = |(order, segment)| {
            Source::Segment(WriteOrder::of((order, order)), [].into(), Arc::new(segment))
        };
        let sources = (1..).zip(segments).map(source).collect();
        let request = ScanRequest {
            fields: Arc::clone(&later.fields),
            matchers: Vec::new(),
            range: TimeRange::ALL,
            edge: None,
        };
        let plan = plan(TableKind::Metrics, sources, request, None)
            .await
            .unwrap();
        let rows = plan.units[0].read().await.unwrap();
        let bits: Vec<_> = rows.columns[0]
            .to_array()
            .as_primitive::<Float64Type>()
            .iter()
            .map(|value| value.map(f64::to_bits))
            .collect();
        (rows.time.to_vec(), bits)
    };
    let expected = merged([plain(&earlier).await, plain(&later).await]).await;
    assert!(merged([write_decimals(&earlier).await, plain(&later).await]).await == expected);
    assert!(merged([plain(&earlier).await, write_decimals(&later).await]).await == expected);
    assert!(
        merged([write_decimals(&earlier).await, write_decimals(&later).await]).await == expected
    );
}

#[tokio::test]
async fn a_wide_table_may_have_fields_of_these_names_and_is_never_split() {
    let fields = [
        column("value", ColumnType::Float),
        column("mantissa", ColumnType::Float),
        column("scale", ColumnType::String),
    ];
    let rows = SortedRows {
        runs: vec![SeriesRun::new(
            Arc::new(Series::new(Labels::from_pairs([("host", "a")]))),
            0..2,
        )],
        time: vec![1, 2].into(),
        fields: fields.into(),
        columns: vec![
            FieldArray::new(Float64Array::from(vec![0.5, 0.25])),
            FieldArray::new(Float64Array::from(vec![1.0, 2.0])),
            FieldArray::new(StringArray::from(vec!["a", "b"])),
        ],
    };
    let (kind, order, effort) = (
        TableKind::Wide,
        SortOrder(vec!["host".into()]),
        Effort::Settled,
    );
    let writer = SegmentWriter::with_layout(
        kind,
        order,
        Arc::clone(&rows.fields),
        effort,
        ValueLayout::Decimal,
        &[],
    )
    .unwrap();
    let (store, location) = put(kind, writer, &rows).await;
    let (_, columns) = OpenSegment::open(store, location, &cache(), None)
        .await
        .unwrap()
        .read(&[0..1, 1..2], &rows.fields, None)
        .await
        .unwrap();
    let arrays =
        |columns: &[FieldArray]| -> Vec<_> { columns.iter().map(FieldArray::to_array).collect() };
    assert_eq!(arrays(&columns), arrays(&rows.columns));
}

#[tokio::test]
async fn a_changed_index_is_named_and_refused() {
    let (store, location) =
        write(TableKind::Metrics, SortOrder::metrics(), &metric_rows(3, 3)).await;
    let mut bytes = store
        .get(&location.index)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store
        .put(&location.index, PutPayload::from(bytes))
        .await
        .unwrap();
    let error = OpenSegment::open(store, location, &cache(), None)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SegmentError::Corrupt { object, .. } if object == "data/a.series.parquet"),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_data_file_is_named_by_whoever_reads_it_and_leaves_its_series() {
    let rows = metric_rows(3, 40);
    let (store, location) = write(TableKind::Metrics, SortOrder::metrics(), &rows).await;
    let sound = store
        .get(&location.data)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let check = async |bytes: Option<Vec<u8>>, may_be_missed: bool| {
        match bytes {
            Some(bytes) => drop(
                store
                    .put(&location.data, PutPayload::from(bytes))
                    .await
                    .unwrap(),
            ),
            None => store.delete(&location.data).await.unwrap(),
        }
        let segment = OpenSegment::open(Arc::clone(&store), location.clone(), &cache(), None)
            .await
            .unwrap();
        assert_eq!(segment.index().all().await.unwrap().len(), 3);
        match segment
            .read(std::slice::from_ref(&(0..120)), &rows.fields, None)
            .await
        {
            Err(SegmentError::Corrupt { object, .. }) => assert_eq!(object, "data/a.parquet"),
            Err(other) => panic!("{other}"),
            Ok(_) => assert!(may_be_missed),
        }
    };
    // Parquet has no checksum of its own: some changed bytes are only found by comparing the whole
    // file.
    for at in 0..sound.len() {
        let mut bytes = sound.to_vec();
        bytes[at] ^= 0x55;
        check(Some(bytes), true).await;
    }
    for length in [
        0,
        1,
        8,
        sound.len() / 3,
        sound.len() / 2,
        sound.len() - 9,
        sound.len() - 1,
    ] {
        check(Some(sound[..length].to_vec()), false).await;
    }
    check(Some(vec![0; sound.len()]), false).await;
    check(None, false).await;
}

#[tokio::test]
async fn every_changed_byte_is_found_by_the_checksum() {
    let (store, location) = write(
        TableKind::Metrics,
        SortOrder::metrics(),
        &metric_rows(3, 40),
    )
    .await;
    let sound = store
        .get(&location.data)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let (size, sum) = (sound.len() as u64, xxh3_64(&sound));
    check_object(&store, &location.data, size, sum)
        .await
        .unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.to_vec();
        bytes[at] ^= 1;
        store
            .put(&location.data, PutPayload::from(bytes))
            .await
            .unwrap();
        let error = check_object(&store, &location.data, size, sum)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SegmentError::Corrupt { object, .. } if object == "data/a.parquet"),
            "{error}"
        );
    }
}
