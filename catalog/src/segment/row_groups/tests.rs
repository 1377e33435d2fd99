use arrow::array::{AsArray, Float64Array};
use arrow::datatypes::{Field, Float64Type, Schema};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Encoding;

use super::super::decimal::{self, Decimals};
use super::super::encoding::file_properties;
use super::*;

fn written(values: &[f64], effort: Effort, batch_rows: usize) -> Bytes {
    let schema = Arc::new(Schema::new(vec![Field::new(
        "value",
        DataType::Float64,
        true,
    )]));
    let mut bytes = Vec::new();
    let mut groups = RowGroups::new(
        &mut bytes,
        Arc::clone(&schema),
        file_properties(&[], effort, &[]),
        effort,
        |_| true,
    )
    .unwrap();
    for values in values.chunks(batch_rows) {
        let column = FieldArray::new(Float64Array::from(values.to_vec()));
        groups.write(&[column], values.len()).unwrap();
    }
    groups.finish().unwrap();
    bytes.into()
}

#[test]
fn each_row_group_has_its_smallest_encoding_and_all_values_come_back() {
    // A row group of few values in no order, one that climbs in whole numbers, one in hundredths of
    // which each comes again soon.
    let chance = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let few = (0..ROW_GROUP_ROWS).map(|i| [0.1, 17.33, 1e9, -4.0][chance(i) as usize % 4]);
    let whole =
        (0..ROW_GROUP_ROWS).map(|i| (1_000_000_000 + i as u64 * 5_000 + chance(i) % 5_000) as f64);
    let hundredths = (0..ROW_GROUP_ROWS)
        .map(|i| (1_000_000 + (i as u64 / 4 + chance(i) % 8) * 37) as f64 / 100.0);
    let values: Vec<f64> = few
        .chain(whole)
        .chain(hundredths)
        .chain([f64::NAN, 1.0])
        .collect();
    let sizes = [Effort::Fresh, Effort::Compacted, Effort::Settled]
        .map(|effort| written(&values, effort, 30_000).len());
    assert!(
        sizes[1] < sizes[0] * 9 / 10 && sizes[2] <= sizes[1],
        "{sizes:?}"
    );

    let reader =
        ParquetRecordBatchReaderBuilder::try_new(written(&values, Effort::Settled, 30_000))
            .unwrap();
    let groups = reader.metadata().row_groups();
    let full = ROW_GROUP_ROWS as i64;
    assert_eq!(
        groups
            .iter()
            .map(|group| group.num_rows())
            .collect::<Vec<_>>(),
        [full, full, full, 2]
    );
    let encodings = groups[..3].iter().map(|group| {
        let has = |encoding| group.column(0).encodings().any(|e| e == encoding);
        (
            has(Encoding::RLE_DICTIONARY),
            has(Encoding::BYTE_STREAM_SPLIT),
        )
    });
    assert_eq!(
        encodings.collect::<Vec<_>>(),
        [(true, false), (false, true), (false, false)]
    );
    let read = reader.build().unwrap().flat_map(|batch| {
        batch
            .unwrap()
            .column(0)
            .as_primitive::<Float64Type>()
            .values()
            .to_vec()
    });
    assert!(
        read.map(f64::to_bits)
            .eq(values.iter().map(|value| value.to_bits()))
    );
}

#[test]
fn a_row_group_is_split_where_that_is_smaller() {
    let chance = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    // Hundredths that climb, floats with so many digits that each is a decimal of sixteen, and half
    // of each.
    let hundredths = |i: usize| (1_000_000 + i as u64 * 1_499 + chance(i) % 100) as f64 / 100.0;
    let noise = |i: usize| (1 + chance(i)) as f64 / 3e8;
    let values: Vec<f64> = (0..ROW_GROUP_ROWS)
        .map(hundredths)
        .chain((0..ROW_GROUP_ROWS).map(noise))
        .chain((0..ROW_GROUP_ROWS).map(|i| {
            if i < ROW_GROUP_ROWS / 2 {
                hundredths(i)
            } else {
                noise(i)
            }
        }))
        .collect();
    let [mantissa, scale] = decimal::fields();
    let schema = Arc::new(Schema::new(vec![
        Field::new("value", DataType::Float64, true),
        mantissa,
        scale,
    ]));
    let write = |with_decimals: bool| {
        let (mut bytes, effort) = (Vec::new(), Effort::Compacted);
        let properties = file_properties(&[], effort, &[]);
        let mut groups = RowGroups::new(
            &mut bytes,
            Arc::clone(&schema),
            properties,
            effort,
            |name| name != "scale",
        )
        .unwrap();
        if with_decimals {
            groups = groups.with_decimals();
        }
        for values in values.chunks(1_000) {
            let runs = if with_decimals { 0..values.len() } else { 0..0 };
            let decimals = Decimals::split(&Float64Array::from(values.to_vec()), [runs]);
            let columns: Vec<FieldArray> = decimals.columns().map(FieldArray::of).to_vec();
            groups.write(&columns, values.len()).unwrap();
        }
        groups.finish().unwrap();
        Bytes::from(bytes)
    };
    let (plain, split) = (write(false), write(true));
    let reader = ParquetRecordBatchReaderBuilder::try_new(split)
        .unwrap()
        .with_batch_size(ROW_GROUP_ROWS);
    let size = |file: &Bytes| {
        let metadata = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        metadata
            .metadata()
            .row_groups()
            .iter()
            .map(|group| group.compressed_size())
            .collect::<Vec<_>>()
    };
    let (plain, split) = (
        size(&plain),
        reader
            .metadata()
            .row_groups()
            .iter()
            .map(|group| group.compressed_size())
            .collect::<Vec<_>>(),
    );
    assert!(
        split[0] * 10 < plain[0] * 6 && split[1] < plain[1] + 1_000 && split[2] < plain[2],
        "{split:?}, plain {plain:?}"
    );
    let batches: Vec<_> = reader
        .build()
        .unwrap()
        .map(|batch| batch.unwrap())
        .collect();
    assert!(
        batches[0]["mantissa"].null_count() < 1_000,
        "all but the run that goes on in the next row group"
    );
    let joined = batches.iter().flat_map(|batch| {
        let [rest, mantissa, scale] = [0, 1, 2].map(|column| batch.column(column));
        Decimals::of(rest, mantissa, scale)
            .unwrap()
            .join()
            .unwrap()
            .values()
            .to_vec()
    });
    assert!(
        joined
            .map(f64::to_bits)
            .eq(values.iter().map(|value| value.to_bits()))
    );
}
