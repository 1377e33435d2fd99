use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int8Array, Int64Array, RecordBatch,
    StringArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::prelude::*;

use super::super::field_array::FieldArray;
use super::super::lru::Lru;
use super::delta::Delta;
use super::hybrid::Hybrid;
use super::page_header::{PageEncoding, PageHeader};
use super::values::Values;
use super::{PageCache, PageReads};
use crate::memory::MemoryBudget;

/// How a file is written.
#[derive(Debug, Clone)]
struct Layout {
    /// `None` is a dictionary.
    encoding: Option<Encoding>,
    version: WriterVersion,
    is_compressed: bool,
    page_rows: usize,
    group_rows: usize,
}

fn layout() -> impl Strategy<Value = Layout> {
    (
        prop_oneof![
            Just(None),
            Just(Some(Encoding::PLAIN)),
            Just(Some(Encoding::BYTE_STREAM_SPLIT)),
            Just(Some(Encoding::DELTA_BINARY_PACKED)),
        ],
        prop_oneof![
            Just(WriterVersion::PARQUET_1_0),
            Just(WriterVersion::PARQUET_2_0)
        ],
        any::<bool>(),
        1..200usize,
        1..900usize,
    )
        .prop_map(
            |(encoding, version, is_compressed, page_rows, group_rows)| Layout {
                encoding,
                version,
                is_compressed,
                page_rows,
                group_rows,
            },
        )
}

/// Numbers of the kinds that columns have: alike, few, climbing, or any.
fn number() -> impl Strategy<Value = Vec<Option<u64>>> {
    let value = |kind: u8, row: usize, any: u64| match kind {
        0 => 7,
        1 => any % 5,
        2 => 1_000 * row as u64 + any % 16,
        3 => (row as f64 / 4.0).to_bits(),
        4 => f64::NAN.to_bits() | any & 0xff,
        _ => any,
    };
    // How many of eight rows are null, and whether these lie together.
    (
        0..6u8,
        0..=8u64,
        any::<bool>(),
        prop::collection::vec(any::<u64>(), 1..1_500),
    )
        .prop_map(move |(kind, nulls, are_together, numbers)| {
            let rows = numbers.iter().enumerate();
            rows.map(|(row, any)| {
                let chance = if are_together {
                    row as u64 / 40
                } else {
                    any >> 32
                };
                (chance % 8 >= nulls).then(|| value(kind, row, any >> 3))
            })
            .collect()
        })
}

/// The same numbers as columns of all types that the reader knows, and one of texts.
fn batch(numbers: &[Option<u64>]) -> RecordBatch {
    let given = |number: &Option<u64>| number.unwrap_or(3);
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        (
            "time",
            Arc::new(
                numbers
                    .iter()
                    .map(|n| Some(given(n) as i64))
                    .collect::<TimestampMillisecondArray>(),
            ),
            false,
        ),
        (
            "nanos",
            Arc::new(
                numbers
                    .iter()
                    .map(|n| n.map(|n| n as i64))
                    .collect::<TimestampNanosecondArray>(),
            ),
            true,
        ),
        (
            "float",
            Arc::new(
                numbers
                    .iter()
                    .map(|n| n.map(f64::from_bits))
                    .collect::<Float64Array>(),
            ),
            true,
        ),
        (
            "integer",
            Arc::new(
                numbers
                    .iter()
                    .map(|n| n.map(|n| n as i64))
                    .collect::<Int64Array>(),
            ),
            true,
        ),
        (
            "unsigned",
            Arc::new(numbers.iter().copied().collect::<UInt64Array>()),
            true,
        ),
        (
            "scale",
            Arc::new(
                numbers
                    .iter()
                    .map(|n| n.map(|n| n as i8))
                    .collect::<Int8Array>(),
            ),
            true,
        ),
        (
            "boolean",
            Arc::new(
                numbers
                    .iter()
                    .map(|n| n.map(|n| n % 3 == 0))
                    .collect::<BooleanArray>(),
            ),
            true,
        ),
        (
            "text",
            Arc::new(
                numbers
                    .iter()
                    .map(|n| n.map(|n| n.to_string()))
                    .collect::<StringArray>(),
            ),
            true,
        ),
    ];
    let field = |(name, array, is_nullable): &(&str, ArrayRef, bool)| {
        Field::new(*name, array.data_type().clone(), *is_nullable)
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let arrays = columns.into_iter().map(|column| column.1).collect();
    RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
}

fn written(batch: &RecordBatch, layout: &Layout) -> Bytes {
    let mut properties = WriterProperties::builder()
        .set_writer_version(layout.version)
        .set_compression(match layout.is_compressed {
            true => Compression::ZSTD(ZstdLevel::default()),
            false => Compression::UNCOMPRESSED,
        })
        .set_dictionary_enabled(layout.encoding.is_none())
        // Larger dictionaries end in plain pages.
        .set_dictionary_page_size_limit(2_000)
        .set_write_batch_size(16)
        .set_data_page_row_count_limit(layout.page_rows)
        .set_max_row_group_row_count(Some(layout.group_rows));
    for field in batch.schema().fields() {
        let is_possible = !matches!(field.data_type(), DataType::Boolean | DataType::Utf8)
            && (layout.encoding != Some(Encoding::DELTA_BINARY_PACKED)
                || *field.data_type() != DataType::Float64);
        if let Some(encoding) = layout.encoding.filter(|_| is_possible) {
            properties = properties.set_column_encoding(field.name().as_str().into(), encoding);
        }
    }
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes.into()
}

fn footer(file: &Bytes) -> ArrowReaderMetadata {
    let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
    ArrowReaderMetadata::load(file, options).unwrap()
}

fn fetched(file: &Bytes, reads: &PageReads) -> Vec<Bytes> {
    let fetches = reads.fetches().iter();
    fetches
        .map(|range| file.slice(range.start as usize..range.end as usize))
        .collect()
}

fn read(file: &Bytes, ranges: &[Range<u64>]) -> Vec<(String, FieldArray)> {
    let reads = PageReads::plan(&footer(file), file.len() as u64, ranges, |_| true, None).unwrap();
    let found = reads.decode(&fetched(file, &reads), None).unwrap();
    // The same from a cache: of another segment there is nothing, and the second time everything.
    let pages = Lru::new(&MemoryBudget::unlimited(), 2);
    for (segment, is_kept) in [(1, false), (1, true), (2, false)] {
        let cache = Some(PageCache {
            pages: &pages,
            segment,
        });
        let bytes = file.len() as u64;
        let reads = PageReads::plan(&footer(file), bytes, ranges, |_| true, cache).unwrap();
        assert!(reads.fetches().is_empty() || !is_kept);
        assert_eq!(reads.fetched_rows() == 0, is_kept || reads.row_count() == 0);
        let again = reads.decode(&fetched(file, &reads), cache).unwrap();
        for ((name, array), (other, other_array)) in found.iter().zip(&again) {
            assert_eq!(name, other);
            assert_eq!(
                bits(&array.to_array()),
                bits(&other_array.to_array()),
                "{name}"
            );
        }
        assert_eq!(found.len(), again.len());
    }
    found
}

#[test]
fn most_of_a_page_in_memory_is_not_copied() {
    let numbers: Vec<Option<i64>> = (0..1000).map(Some).collect();
    let batch = RecordBatch::try_from_iter([(
        "v",
        Arc::new(numbers.into_iter().collect::<Int64Array>()) as ArrayRef,
    )])
    .unwrap();
    let layout = Layout {
        encoding: Some(Encoding::PLAIN),
        version: WriterVersion::PARQUET_2_0,
        is_compressed: true,
        page_rows: 500,
        group_rows: 1000,
    };
    let file = written(&batch, &layout);
    let pages = Lru::new(&MemoryBudget::unlimited(), 2);
    let cache = PageCache {
        pages: &pages,
        segment: 1,
    };
    let place = |range: (u64, u64)| {
        let bytes = file.len() as u64;
        let ranges = wanted(&[range]);
        let reads = PageReads::plan(&footer(&file), bytes, &ranges, |_| true, Some(cache)).unwrap();
        let found = reads.decode(&fetched(&file, &reads), Some(cache)).unwrap();
        let values = found[0].1.to_array().to_data();
        assert_eq!(values.len() as u64, range.1 - range.0);
        values.buffers()[0].as_ptr() as u64 - 8 * range.0
    };
    place((0, 1000));
    assert_eq!(place((0, 500)), place((100, 400)));
    // A few rows are copied, and so are those of two pages.
    assert_ne!(place((0, 500)), place((0, 10)));
    assert_ne!(place((500, 1000)), place((400, 900)));
}

/// What Parquet's reader makes of the file.
fn expected(file: &Bytes, ranges: &[Range<u64>]) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone())
        .unwrap()
        .build()
        .unwrap();
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let all = concat_batches(&schema, &reader.map(Result::unwrap).collect::<Vec<_>>()).unwrap();
    let slices = ranges
        .iter()
        .map(|range| all.slice(range.start as usize, (range.end - range.start) as usize));
    concat_batches(&schema, &slices.collect::<Vec<_>>()).unwrap()
}

/// Values with every bit of a float.
fn bits(array: &ArrayRef) -> Vec<Option<u64>> {
    use arrow::datatypes::{
        Float64Type, Int8Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType,
        UInt64Type,
    };
    fn numbers<T: ArrowPrimitiveType>(
        array: &ArrayRef,
        of: impl Fn(T::Native) -> u64,
    ) -> Vec<Option<u64>> {
        let values = array.as_primitive::<T>().iter();
        values.map(|value| value.map(&of)).collect()
    }
    match array.data_type() {
        DataType::Float64 => numbers::<Float64Type>(array, f64::to_bits),
        DataType::Int64 => numbers::<Int64Type>(array, |value| value as u64),
        DataType::Int8 => numbers::<Int8Type>(array, |value| value as u64),
        DataType::UInt64 => numbers::<UInt64Type>(array, |value| value),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            numbers::<TimestampMillisecondType>(array, |value| value as u64)
        }
        DataType::Timestamp(..) => numbers::<TimestampNanosecondType>(array, |value| value as u64),
        _ => {
            let values = array.as_boolean().iter();
            values.map(|value| value.map(u64::from)).collect()
        }
    }
}

fn wanted(ranges: &[(u64, u64)]) -> Vec<Range<u64>> {
    ranges.iter().map(|(start, end)| *start..*end).collect()
}

/// Ranges of rows out of where they are cut.
fn ranges(mut cuts: Vec<u64>, rows: usize) -> Vec<Range<u64>> {
    for cut in &mut cuts {
        *cut %= rows as u64 + 1;
    }
    cuts.sort_unstable();
    cuts.chunks_exact(2).map(|cut| cut[0]..cut[1]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_those_of_parquets_reader(
        numbers in number(),
        layout in layout(),
        cuts in prop::collection::vec(any::<u64>(), 2..12),
    ) {
        let file = written(&batch(&numbers), &layout);
        for ranges in [ranges(cuts, numbers.len()), std::iter::once(0..numbers.len() as u64).collect()] {
            let found = read(&file, &ranges);
            let expected = expected(&file, &ranges);
            let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
            prop_assert_eq!(names, ["time", "nanos", "float", "integer", "unsigned", "scale", "boolean"]);
            for (name, column) in &found {
                let (found, expected) = (column.to_array(), &expected[&**name]);
                prop_assert_eq!(found.data_type(), expected.data_type());
                prop_assert!(bits(&found) == bits(expected), "{}", name);
            }
        }
    }

    #[test]
    fn changed_bytes_are_an_error_or_other_values(
        numbers in number(),
        layout in layout(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let file = written(&batch(&numbers), &layout);
        let ranges = [0..1, numbers.len() as u64 / 2..numbers.len() as u64];
        let ranges = if numbers.len() < 2 { &ranges[..1] } else { &ranges[..] };
        let reads = PageReads::plan(&footer(&file), file.len() as u64, ranges, |_| true, None).unwrap();
        let mut bytes: Vec<Vec<u8>> = fetched(&file, &reads).iter().map(|bytes| bytes.to_vec()).collect();
        for (at, byte) in changes {
            let fetch = at.index(bytes.len());
            let at = at.index(bytes[fetch].len());
            bytes[fetch][at] = byte;
            let changed: Vec<Bytes> = bytes.iter().cloned().map(Bytes::from).collect();
            if let Ok(columns) = reads.decode(&changed, None) {
                prop_assert!(columns.iter().all(|(_, column)| column.len() == reads.row_count()));
            }
        }
        // A dictionary that no wanted page refers to may be missing.
        let mut sound = fetched(&file, &reads);
        let columns = |bytes: &[Bytes]| {
            let columns = reads.decode(bytes, None)?.into_iter();
            Ok::<_, ParquetError>(columns.map(|(_, column)| bits(&column.to_array())).collect::<Vec<_>>())
        };
        let expected = columns(&sound).unwrap();
        let fetch = cut.index(sound.len());
        let len = cut.index(sound[fetch].len());
        sound[fetch].truncate(len);
        prop_assert!(columns(&sound).map_or(true, |columns| columns == expected));
    }

    #[test]
    fn any_bytes_are_an_error_or_values(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        width in 0..=64u8,
        skip in 0..400usize,
        count in 0..400usize,
    ) {
        if let Ok((_, len)) = PageHeader::parse(&bytes) {
            prop_assert!(len <= bytes.len());
        }
        if let Ok(mut hybrid) = Hybrid::new(&bytes, width) {
            let _ = hybrid.skip(skip).and_then(|()| hybrid.read(&mut vec![0; count], Some));
        }
        if let Ok(mut levels) = Hybrid::new(&bytes, 1) {
            let _ = levels.skip(skip).and_then(|()| levels.bits(count).map(drop));
        }
        for bytes in [&bytes[..], &[&[128, 1, 4, 50][..], &bytes].concat()] {
            if let Ok(mut delta) = Delta::new(bytes) {
                let _ = delta.skip(skip).and_then(|()| delta.read(&mut vec![0; count], |number| number));
            }
        }
        for encoding in [
            PageEncoding::Plain,
            PageEncoding::Dictionary,
            PageEncoding::Runs,
            PageEncoding::Delta,
            PageEncoding::Split,
        ] {
            if let Ok(mut values) = Values::new::<u64>(encoding, &bytes, Some(&bytes)) {
                let _ = values.skip(skip).and_then(|()| values.read(&mut vec![0u64; count]));
            }
            if let Ok(mut values) = Values::new::<i8>(encoding, &bytes, None) {
                let _ = values.skip(skip).and_then(|()| values.read(&mut vec![0i8; count]));
            }
            if let Ok(mut values) = Values::new::<bool>(encoding, &bytes, None) {
                let _ = values.skip(skip).and_then(|()| values.read(&mut vec![false; count]));
            }
        }
    }

    /// Each width of differences, in pieces.
    #[test]
    fn differences_of_any_width_come_back(
        width in 0..=64u32,
        numbers in prop::collection::vec(any::<u64>(), 1..700),
        pieces in prop::collection::vec(0..90usize, 1..40),
    ) {
        use parquet::data_type::Int64Type;
        use parquet::file::writer::SerializedFileWriter;
        use parquet::schema::parser::parse_message_type;
        let mut sum = 0u64;
        let numbers: Vec<i64> = numbers
            .iter()
            .map(|number| {
                sum = sum.wrapping_add(number.checked_shr(64 - width).unwrap_or(0));
                sum as i64
            })
            .collect();
        let schema = parse_message_type("message m { required int64 n; }").unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::DELTA_BINARY_PACKED)
            .build();
        let mut file = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut file, Arc::new(schema), Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&numbers, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let file = Bytes::from(file);
        let footer = footer(&file);
        let page = &footer.metadata().offset_index().unwrap()[0][0].page_locations()[0];
        let page = &file[page.offset as usize..][..page.compressed_page_size as usize];
        let (_, len) = PageHeader::parse(page).unwrap();
        let mut delta = Delta::new(&page[len..]).unwrap();
        let mut at = 0;
        for (piece, len) in pieces.into_iter().enumerate() {
            let len = len.min(numbers.len() - at);
            if piece % 3 == 0 {
                delta.skip(len).unwrap();
            } else {
                let mut found = vec![0; len];
                delta.read(&mut found, |number| number as i64).unwrap();
                prop_assert_eq!(&found, &numbers[at..at + len]);
            }
            at += len;
        }
        prop_assert!(delta.skip(numbers.len() - at + 1).is_err());
    }
}

#[test]
fn only_pages_with_wanted_rows_are_fetched() {
    let layout = Layout {
        encoding: Some(Encoding::PLAIN),
        version: WriterVersion::PARQUET_1_0,
        is_compressed: false,
        page_rows: 96,
        group_rows: 960,
    };
    let numbers: Vec<Option<u64>> = (0..2_000).map(Some).collect();
    let file = written(&batch(&numbers), &layout);
    let check = |ranges: &[(u64, u64)], pages: usize| {
        let ranges = &wanted(ranges);
        let reads = PageReads::plan(
            &footer(&file),
            file.len() as u64,
            ranges,
            |name| name == "float",
            None,
        )
        .unwrap();
        let read = reads
            .columns
            .iter()
            .flat_map(|column| &column.chunks)
            .map(|chunk| chunk.pages.len());
        assert_eq!(read.sum::<usize>(), pages, "{ranges:?}");
        let bytes: u64 = reads
            .fetches()
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        assert!(
            bytes <= pages as u64 * (96 * 8 + 200),
            "{bytes} bytes of {ranges:?}"
        );
    };
    check(&[], 0);
    check(&[(5, 5)], 0);
    check(&[(0, 1)], 1);
    check(&[(95, 96)], 1);
    check(&[(95, 97)], 2);
    check(&[(96, 192)], 1);
    check(&[(0, 1), (2, 3), (90, 91)], 1);
    check(&[(0, 1), (1_999, 2_000)], 2);
    check(&[(959, 961)], 2);
}

#[test]
fn what_the_footer_says_wrong_is_an_error() {
    let layout = Layout {
        encoding: None,
        version: WriterVersion::PARQUET_1_0,
        is_compressed: true,
        page_rows: 64,
        group_rows: 500,
    };
    let numbers: Vec<Option<u64>> = (0..1_000).map(|row| Some(row % 7)).collect();
    let file = written(&batch(&numbers), &layout);
    let check = |ranges: &[(u64, u64)], file_bytes: u64, expected: &str| {
        let ranges = &wanted(ranges);
        let error =
            PageReads::plan(&footer(&file), file_bytes, ranges, |_| true, None).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    let len = file.len() as u64;
    check(
        &[(0, 1_001)],
        len,
        "it has 1000 rows, and those up to 1001 are asked for",
    );
    check(&[(5_000, 5_001)], len, "it has 1000 rows");
    check(&[(0, 1_000)], 100, "bytes of pages, and has 100");
}
