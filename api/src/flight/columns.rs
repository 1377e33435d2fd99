//! The types that are sent: those that clients of many languages know.
//!
//! Grafana reads neither dictionaries nor views nor large strings, and takes every timestamp for
//! nanoseconds. InfluxDB's JavaScript client tells tags from fields by metadata of columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

/// The column of times.
const TIME: &str = "time";
/// Metadata of columns.
const COLUMN_TYPE: &str = "iox::column::type";

/// The schema of an answer whose rows have this one. Whether values may be null is known to plans
/// and not to tables, so it is left open: schemas of the same query are to be equal.
pub fn sent(schema: &Schema) -> Schema {
    let column = |field: &FieldRef| {
        let kind = format!("iox::column_type::{}", influx_type(field));
        Field::new(field.name(), sent_type(field.data_type()), true)
            .with_metadata(HashMap::from([(COLUMN_TYPE.to_owned(), kind)]))
    };
    Schema::new(schema.fields().iter().map(column).collect::<Vec<_>>())
}

fn influx_type(field: &Field) -> &'static str {
    match field.data_type() {
        DataType::Timestamp(_, _) if field.name() == TIME => "timestamp",
        DataType::Dictionary(_, value) if value.is_string() => "tag",
        // Tags in batches: views are repeated without a look at the text.
        DataType::Utf8View => "tag",
        kind if kind.is_signed_integer() => "field::integer",
        kind if kind.is_unsigned_integer() => "field::uinteger",
        kind if kind.is_numeric() => "field::float",
        DataType::Boolean => "field::boolean",
        _ => "field::string",
    }
}

fn sent_type(kind: &DataType) -> DataType {
    let inner = |field: &FieldRef| -> FieldRef {
        let kind = sent_type(field.data_type());
        Arc::new(Field::new(field.name(), kind, field.is_nullable()))
    };
    match kind {
        DataType::Dictionary(_, value) => sent_type(value),
        DataType::RunEndEncoded(_, value) => sent_type(value.data_type()),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => DataType::List(inner(field)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Fields>()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        other => other.clone(),
    }
}

/// Rows with the types of `schema`, which has the same columns.
pub fn converted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    // What does not fit is an error and not NULL.
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let column = |(column, field): (&ArrayRef, &FieldRef)| {
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        cast_with_options(column, field.data_type(), &options)
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column);
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}

/// About how many bytes rows take when they are sent.
pub fn sent_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|column| array_bytes(column))
        .sum()
}

fn array_bytes(array: &dyn Array) -> usize {
    let rows = array.len();
    let of_views = |views: &[u128]| -> usize {
        // The length is in the lower half of the lower half.
        let lengths = views
            .iter()
            .map(|view| (*view & u128::from(u32::MAX)) as usize);
        lengths.sum()
    };
    let values = match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows / 8,
        DataType::Utf8 => text_bytes(array.as_string::<i32>().offsets()),
        DataType::LargeUtf8 => text_bytes(array.as_string::<i64>().offsets()),
        DataType::Binary => text_bytes(array.as_binary::<i32>().offsets()),
        DataType::LargeBinary => text_bytes(array.as_binary::<i64>().offsets()),
        DataType::Utf8View => of_views(array.as_string_view().views()) + 4 * rows,
        DataType::BinaryView => of_views(array.as_binary_view().views()) + 4 * rows,
        DataType::Dictionary(_, _) => {
            let values = array.as_any_dictionary().values();
            let longest = (0..values.len()).map(|at| array_bytes(&values.slice(at, 1)));
            rows * longest.max().unwrap_or_default()
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            child_bytes(list.values(), list.offsets()) + 4 * rows
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            child_bytes(map.entries(), map.offsets()) + 4 * rows
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.map(|column| array_bytes(column)).sum()
        }
        other => match other.primitive_width() {
            Some(width) => rows * width,
            None => array.to_data().get_slice_memory_size().unwrap_or_default(),
        },
    };
    values + rows / 8
}

fn text_bytes<O: arrow::array::OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> usize {
    range(offsets).len() + 4 * offsets.len()
}

fn child_bytes(child: &dyn Array, offsets: &OffsetBuffer<i32>) -> usize {
    let range = range(offsets);
    array_bytes(&child.slice(range.start, range.len()))
}

/// What the offsets of some rows span.
fn range<O: arrow::array::OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> std::ops::Range<usize> {
    let end = |offset: Option<&O>| offset.map_or(0, |offset| offset.as_usize());
    end(offsets.first())..end(offsets.last())
}

#[cfg(test)]
mod tests;
