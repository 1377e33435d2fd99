use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, DurationSecondArray,
    Float64Array, Int64Array, Int64Builder, IntervalMonthDayNanoArray, ListArray, MapBuilder,
    StringArray, StringBuilder, StringViewArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int8Type, Int64Type, IntervalMonthDayNano};
use arrow_pg::datatypes::arrow_schema_to_pg_fields;
use arrow_pg::row_encoder::RowEncoder;
use bytes::Buf;
use pgwire::api::portal::Format as PgwireFormat;
use proptest::prelude::*;

use super::*;

fn cells(array: ArrayRef, format: Format) -> Vec<Option<Vec<u8>>> {
    let zone = "Europe/Berlin".parse().unwrap();
    let column = Column::new(array.as_ref(), format, zone).unwrap();
    let cell = |row| {
        let mut out = Vec::new();
        column.write(row, &mut out).unwrap();
        out
    };
    (0..array.len())
        .map(|row| (!column.is_null(row)).then(|| cell(row)))
        .collect()
}

#[track_caller]
fn check(array: impl Array + 'static, expected: &[&str]) {
    let found: Vec<String> = cells(Arc::new(array), Format::Text)
        .into_iter()
        .map(|cell| cell.map_or("-".to_owned(), |cell| String::from_utf8(cell).unwrap()))
        .collect();
    assert_eq!(found, expected);
}

/// The cells as another implementation writes them.
fn other_cells(array: ArrayRef, format: Format) -> Vec<Option<Vec<u8>>> {
    let format = match format {
        Format::Text => PgwireFormat::UnifiedText,
        Format::Binary => PgwireFormat::UnifiedBinary,
    };
    let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
    let fields = arrow_schema_to_pg_fields(&batch.schema(), &format, None).unwrap();
    let mut rows = RowEncoder::new(batch, Arc::new(fields));
    let mut cells = Vec::new();
    while let Some(row) = rows.next_row() {
        let mut row = row.unwrap().data;
        cells.push(
            usize::try_from(row.get_i32())
                .ok()
                .map(|len| row.split_to(len).to_vec()),
        );
    }
    cells
}

/// Both implementations write the same.
#[track_caller]
fn same(array: impl Array + 'static) {
    let array: ArrayRef = Arc::new(array);
    for format in [Format::Text, Format::Binary] {
        let (own, other) = (
            cells(Arc::clone(&array), format),
            other_cells(Arc::clone(&array), format),
        );
        assert_eq!(own, other, "{array:?} {format:?}");
    }
}

#[test]
fn texts() {
    check(
        Int64Array::from(vec![Some(i64::MIN), None]),
        &["-9223372036854775808", "-"],
    );
    check(
        UInt64Array::from(vec![u64::MAX, 1 << 63]),
        &["18446744073709551615", "9223372036854775808"],
    );
    check(
        Float64Array::from(vec![f64::NAN, -0.0, 5e-324]),
        &["NaN", "-0", "5e-324"],
    );
    check(BooleanArray::from(vec![true, false]), &["t", "f"]);
    check(
        StringArray::from(vec![Some(""), None, Some("'\\\n")]),
        &["", "-", "'\\\n"],
    );
    check(StringViewArray::from(vec!["é"]), &["é"]);
    check(BinaryArray::from(vec![&b"\0\xff"[..]]), &["\\x00ff"]);
    let decimals = Decimal128Array::from(vec![-12345])
        .with_precision_and_scale(10, 3)
        .unwrap();
    check(decimals, &["-12.345"]);
    let times = vec![-1, 1_700_000_000_000_001_999];
    let expected = ["1969-12-31 23:59:59.999999", "2023-11-14 22:13:20.000001"];
    check(TimestampNanosecondArray::from(times.clone()), &expected);
    let zoned = TimestampNanosecondArray::from(times).with_timezone("UTC");
    check(
        zoned,
        &[
            "1970-01-01 00:59:59.999999+01",
            "2023-11-14 23:13:20.000001+01",
        ],
    );
    check(DurationSecondArray::from(vec![90_061]), &["25:01:01"]);
    let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
    check(dictionary, &["a", "-"]);
}

#[test]
fn nested_texts() {
    let numbers = vec![Some(vec![Some(1), None]), None, Some(vec![])];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(numbers);
    check(lists, &["{1,NULL}", "-", "{}"]);
    let mut lists = arrow::array::ListBuilder::new(StringBuilder::new());
    for text in ["a", "", "NULL", "a b", "a\"\\b", "{x}"] {
        lists.values().append_value(text);
    }
    lists.append(true);
    check(lists.finish(), &[r#"{a,"","NULL","a b","a\"\\b","{x}"}"#]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k\"");
    map.values().append_value(2);
    map.append(true).unwrap();
    check(map.finish(), &[r#"{"k\"":2}"#]);
}

#[test]
fn another_implementation_writes_the_same() {
    same(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]));
    same(UInt64Array::from(vec![0, 9999, 10_000, u64::MAX]));
    same(BooleanArray::from(vec![Some(true), None]));
    same(StringViewArray::from(vec![Some("a'\\é"), Some(""), None]));
    same(BinaryArray::from(vec![&b"\0\xff"[..]]));
    same(TimestampNanosecondArray::from(vec![
        Some(1_700_000_000_000_001_000),
        None,
    ]));
    same(TimestampMillisecondArray::from(vec![
        -1000,
        1_700_000_000_123,
    ]));
    let lists = vec![Some(vec![Some(1), None]), None];
    same(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
}

#[test]
fn what_the_other_lacks() {
    let interval = IntervalMonthDayNano::new(14, -3, 5_000_001_999);
    let found = cells(
        Arc::new(IntervalMonthDayNanoArray::from(vec![interval])),
        Format::Binary,
    );
    let expected = [
        &5_000_001i64.to_be_bytes()[..],
        &(-3i32).to_be_bytes(),
        &14i32.to_be_bytes(),
    ];
    assert_eq!(found, [Some(expected.concat())]);
    let oids = cells(Arc::new(UInt32Array::from(vec![u32::MAX])), Format::Binary);
    assert_eq!(oids, [Some(vec![0xff; 4])]);
    let empty = vec![Some(Vec::<Option<i64>>::new())];
    let empty = ListArray::from_iter_primitive::<Int64Type, _, _>(empty);
    let found = cells(Arc::new(empty), Format::Binary);
    assert_eq!(
        found,
        [Some([[0; 4], [0; 4], 20u32.to_be_bytes()].concat())]
    );
}

proptest! {
    #[test]
    fn numbers_are_the_same(bits: u64, value: i128, scale in 0i8..28) {
        let float = f64::from_bits(bits);
        let own = cells(Arc::new(Float64Array::from(vec![float])), Format::Binary);
        prop_assert_eq!(own, [Some(float.to_be_bytes().to_vec())]);
        let decimals = Decimal128Array::from(vec![value >> 40]);
        same(decimals.with_precision_and_scale(38, scale).unwrap());
    }
}

#[test]
fn what_cannot_be_shown_is_an_error() {
    let zone = utc();
    let text = StringArray::from(vec!["a\0b"]);
    let column = Column::new(&text, Format::Text, zone).unwrap();
    assert_eq!(column.write(0, &mut Vec::new()).unwrap_err().code, "22021");
    let times = TimestampMillisecondArray::from(vec![i64::MAX]);
    for format in [Format::Text, Format::Binary] {
        let column = Column::new(&times, format, zone).unwrap();
        let error = column.write(0, &mut Vec::new()).unwrap_err();
        assert!(
            error.code == "22008" && error.message.contains("bigint"),
            "{error}"
        );
    }
}

#[test]
fn a_row_that_fails_leaves_nothing() {
    let text = StringArray::from(vec!["a\0b"]);
    let columns = [Column::new(&text, Format::Text, utc()).unwrap()];
    let mut out = Output::default();
    out.ready(b'I');
    let before = out.0.clone();
    assert!(write_row(&columns, 0, &mut out).is_err());
    assert_eq!(out.0, before);
}
