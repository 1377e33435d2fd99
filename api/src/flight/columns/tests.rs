use arrow::array::{
    BooleanArray, DictionaryArray, Float64Array, Int64Array, LargeStringArray, ListArray,
    StringArray, StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn columns_have_types_that_all_clients_know() {
    let times = || TimestampNanosecondArray::from(vec![-1]);
    let rows = batch(vec![
        ("time", Arc::new(times())),
        ("view", Arc::new(StringViewArray::from(vec!["tag"]))),
        (
            "dict",
            Arc::new(DictionaryArray::<Int32Type>::from_iter(["tag"])),
        ),
        ("large", Arc::new(LargeStringArray::from(vec!["text"]))),
        ("s", Arc::new(StringArray::from(vec!["text"]))),
        ("ms", Arc::new(TimestampMillisecondArray::from(vec![-2]))),
        ("f", Arc::new(Float64Array::from(vec![-0.0]))),
        ("i", Arc::new(Int64Array::from(vec![i64::MIN]))),
        ("u", Arc::new(UInt64Array::from(vec![1 << 63]))),
        ("b", Arc::new(BooleanArray::from(vec![true]))),
        (
            "l",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([
                Some(1),
            ])])),
        ),
    ]);
    let schema = Arc::new(sent(&rows.schema()));
    let got = schema.fields().iter().map(|field| {
        let kind = field.metadata()[COLUMN_TYPE]
            .rsplit_once("type::")
            .unwrap()
            .1;
        (field.name().as_str(), field.data_type().to_string(), kind)
    });
    let expected = [
        ("time", "Timestamp(ns)", "timestamp"),
        ("view", "Utf8", "tag"),
        ("dict", "Utf8", "tag"),
        ("large", "Utf8", "field::string"),
        ("s", "Utf8", "field::string"),
        ("ms", "Timestamp(ns)", "field::string"),
        ("f", "Float64", "field::float"),
        ("i", "Int64", "field::integer"),
        ("u", "UInt64", "field::uinteger"),
        ("b", "Boolean", "field::boolean"),
        ("l", "List(Int32)", "field::string"),
    ];
    let expected = expected.map(|(name, kind, influx)| (name, kind.to_owned(), influx));
    assert_eq!(got.collect::<Vec<_>>(), expected);
    let converted = converted(&rows, &schema).unwrap();
    assert_eq!(
        converted.column(5).as_ref(),
        &TimestampNanosecondArray::from(vec![-2_000_000])
    );
    assert_eq!(
        converted.column(2).as_ref(),
        &StringArray::from(vec!["tag"])
    );
    // What was made of sent columns stays as it is.
    assert_eq!(sent(&schema).fields().len(), schema.fields().len());
}

#[test]
fn times_that_nanoseconds_cannot_tell_are_no_nulls() {
    let rows = batch(vec![(
        "ms",
        Arc::new(TimestampMillisecondArray::from(vec![i64::MAX])),
    )]);
    let schema = Arc::new(sent(&rows.schema()));
    assert!(converted(&rows, &schema).is_err());
}

#[test]
fn sizes_are_those_of_what_is_sent() {
    let check = |column: ArrayRef, least: usize, most: usize| {
        let bytes = sent_bytes(&batch(vec![("c", column)]));
        assert!((least..=most).contains(&bytes), "{bytes}");
    };
    let long = "x".repeat(1000);
    let repeated = DictionaryArray::<Int32Type>::from_iter(vec![long.as_str(); 100]);
    check(Arc::new(repeated.clone()), 100_000, 101_000);
    check(Arc::new(repeated.slice(0, 10)), 10_000, 10_200);
    check(
        Arc::new(StringViewArray::from(vec![long.as_str(); 100])),
        100_000,
        101_000,
    );
    check(
        Arc::new(StringArray::from(vec![long.as_str(); 100])),
        100_000,
        101_000,
    );
    check(
        Arc::new(StringArray::from(vec![long.as_str(); 100]).slice(0, 1)),
        1000,
        1010,
    );
    check(Arc::new(Int64Array::from(vec![1; 100])), 800, 820);
    let lists =
        ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1); 50]); 100]);
    check(Arc::new(lists.clone()), 20_000, 22_000);
    check(Arc::new(lists.slice(99, 1)), 200, 220);
    check(Arc::new(StringArray::from(Vec::<&str>::new())), 0, 10);
}
