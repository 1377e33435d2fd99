//! What any Parquet reader finds below `data/`, read with nothing of the database but the list of
//! live segments.
use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchReader};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMillisecondType, UInt64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::ledger::{Points, add};
use crate::place::Place;
use crate::server;

/// A live segment: its table, and the keys of its files without their endings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    table: String,
    day: String,
    key: String,
}

/// The segments that the catalog names, as `tidelake catalog dump` prints it.
pub fn live_segments(place: &Place) -> BTreeSet<Segment> {
    let mut live = BTreeSet::new();
    for line in server::run(&["catalog", "dump"], place).lines() {
        // The test harness has its own lines, and words before the first record.
        let Some(at) = line.find('{') else { continue };
        let record: Value = serde_json::from_str(&line[at..]).expect("a record");
        assert_eq!(record["error"], Value::Null, "the catalog is damaged");
        for change in record["changes"].as_array().expect("changes") {
            let change = &change["change_segments"];
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            let segment = |of: &Value| {
                let (table, day) = (text(&change["table"]), text(&of["day"]));
                let key = format!(
                    "data/{}/{table}/{day}/{}",
                    text(&change["database"]),
                    text(&of["id"])
                );
                Segment { table, day, key }
            };
            for removed in change["removed"].as_array().into_iter().flatten() {
                assert!(live.remove(&segment(removed)), "{removed} was not there");
            }
            for added in change["added"].as_array().into_iter().flatten() {
                assert!(live.insert(segment(added)), "{added} was there already");
            }
        }
    }
    live
}

/// All points in the files of live segments, which must be merged: one segment per table and day,
/// each point once.
pub async fn points(place: &Place) -> Points {
    let segments = live_segments(place);
    let days: BTreeSet<_> = segments.iter().map(|s| (&s.table, &s.day)).collect();
    assert_eq!(days.len(), segments.len(), "not merged: {segments:?}");
    let mut points = Points::new();
    for segment in &segments {
        let data = read_parquet(place.read(&format!("{}.parquet", segment.key)).await);
        if segment.table == "__metrics__" {
            let index = read_parquet(place.read(&format!("{}.series.parquet", segment.key)).await);
            add_samples(&mut points, &data, &index);
        } else {
            add_rows(&mut points, &segment.table, &data);
        }
    }
    points
}

/// The data files of a table.
pub async fn data_of(place: &Place, table: &str) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    for segment in live_segments(place)
        .iter()
        .filter(|segment| segment.table == table)
    {
        batches.push(read_parquet(
            place.read(&format!("{}.parquet", segment.key)).await,
        ));
    }
    batches
}

fn read_parquet(file: Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .expect("a Parquet file")
        .build()
        .expect("a reader");
    let schema = reader.schema();
    let batches: Vec<_> = reader.collect::<Result<_, _>>().expect("its rows");
    concat_batches(&schema, &batches).expect("batches of one schema")
}

fn column(batch: &RecordBatch, name: &str, kind: &DataType) -> ArrayRef {
    let column = batch
        .column_by_name(name)
        .unwrap_or_else(|| panic!("no column {name}"));
    let column = cast(column, kind).expect("a column of its type");
    assert_eq!(column.null_count(), 0, "{name}");
    column
}

const MILLISECONDS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// The rows of a wide table, whose file stands alone.
fn add_rows(points: &mut Points, table: &str, data: &RecordBatch) {
    let (writers, times) = (
        column(data, "writer", &DataType::Utf8),
        column(data, "time", &MILLISECONDS),
    );
    let values = column(data, "value", &DataType::Float64);
    for row in 0..data.num_rows() {
        let (time, value) = (
            times.as_primitive::<TimestampMillisecondType>(),
            values.as_primitive::<Float64Type>(),
        );
        add(
            points,
            table,
            writers.as_string::<i32>().value(row),
            time.value(row),
            value.value(row),
        );
    }
}

/// The samples of a metrics table; their labels are in the series index, once per series.
fn add_samples(points: &mut Points, data: &RecordBatch, index: &RecordBatch) {
    let (metrics, times) = (
        column(data, "metric", &DataType::Utf8),
        column(data, "time", &MILLISECONDS),
    );
    let (ids, values) = (
        column(data, "series_id", &DataType::UInt64),
        column(data, "value", &DataType::Float64),
    );
    let number = |name: &str| {
        column(index, name, &DataType::UInt64)
            .as_primitive::<UInt64Type>()
            .clone()
    };
    let (first_rows, rows, index_ids) = (number("first_row"), number("rows"), number("series_id"));
    let labels = index
        .column_by_name("labels")
        .expect("labels")
        .as_map()
        .clone();
    let mut next = 0;
    for series in 0..index.num_rows() {
        let of_series = labels.value(series);
        let (names, texts) = (
            cast(of_series.column(0), &DataType::Utf8).unwrap(),
            cast(of_series.column(1), &DataType::Utf8).unwrap(),
        );
        let names: Vec<_> = names.as_string::<i32>().iter().flatten().collect();
        assert_eq!(
            names,
            ["writer"],
            "the metric's name is not among its labels"
        );
        assert_eq!(
            first_rows.value(series),
            next,
            "series lie one after the other"
        );
        next += rows.value(series);
        for row in first_rows.value(series) as usize..next as usize {
            assert_eq!(
                ids.as_primitive::<UInt64Type>().value(row),
                index_ids.value(series)
            );
            let (time, value) = (
                times.as_primitive::<TimestampMillisecondType>(),
                values.as_primitive::<Float64Type>(),
            );
            let metric = metrics.as_string::<i32>().value(row);
            add(
                points,
                metric,
                texts.as_string::<i32>().value(0),
                time.value(row),
                value.value(row),
            );
        }
    }
    assert_eq!(
        next as usize,
        data.num_rows(),
        "every row belongs to a series"
    );
}
