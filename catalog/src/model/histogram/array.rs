//! Histograms as an Arrow column, and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int8Array, Int32Array, ListArray, NullBufferBuilder,
    PrimitiveArray, StructArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float64Type, Int8Type, Int32Type, UInt32Type,
};
use arrow::error::ArrowError;

use super::{Histogram, ResetHint, Span, data_type};

/// Collects histograms into an array of [`data_type`].
#[derive(Debug)]
pub struct HistogramArrayBuilder {
    schema: Vec<i32>,
    /// Zero threshold, zero count, count, sum.
    numbers: [Vec<f64>; 4],
    positive_spans: SpanLists,
    negative_spans: SpanLists,
    /// Positive counts, negative counts, custom values.
    floats: [FloatLists; 3],
    reset_hint: Vec<i8>,
    nulls: NullBufferBuilder,
}

#[derive(Debug, Default)]
struct SpanLists {
    lengths: Vec<usize>,
    offset: Vec<i32>,
    length: Vec<u32>,
}

#[derive(Debug, Default)]
struct FloatLists {
    lengths: Vec<usize>,
    values: Vec<f64>,
}

impl Default for HistogramArrayBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl HistogramArrayBuilder {
    /// A builder without rows.
    pub fn new() -> Self {
        Self {
            schema: Vec::new(),
            numbers: Default::default(),
            positive_spans: SpanLists::default(),
            negative_spans: SpanLists::default(),
            floats: Default::default(),
            reset_hint: Vec::new(),
            nulls: NullBufferBuilder::new(0),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.schema.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.schema.is_empty()
    }

    /// Adds a histogram.
    pub fn append(&mut self, histogram: &Histogram) {
        self.push(histogram);
        self.nulls.append_non_null();
    }

    /// Adds a row without a histogram.
    pub fn append_null(&mut self) {
        self.push(&Histogram::default());
        self.nulls.append_null();
    }

    fn push(&mut self, h: &Histogram) {
        self.schema.push(h.schema);
        for (values, value) in
            self.numbers
                .iter_mut()
                .zip([h.zero_threshold, h.zero_count, h.count, h.sum])
        {
            values.push(value);
        }
        self.positive_spans.push(&h.positive_spans);
        self.negative_spans.push(&h.negative_spans);
        for (lists, values) in
            self.floats
                .iter_mut()
                .zip([&h.positive_counts, &h.negative_counts, &h.custom_values])
        {
            lists.lengths.push(values.len());
            lists.values.extend_from_slice(values);
        }
        self.reset_hint.push(h.reset_hint.to_number());
    }

    /// The array. It panics if all lists of one kind have more than 2^31 items together, which no
    /// batch comes near to.
    pub fn finish(self) -> StructArray {
        let [zero_threshold, zero_count, count, sum] = self
            .numbers
            .map(|values| Arc::new(Float64Array::from(values)) as ArrayRef);
        let [positive_counts, negative_counts, custom_values] = self.floats.map(FloatLists::finish);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(self.schema)),
            zero_threshold,
            zero_count,
            count,
            sum,
            self.positive_spans.finish(),
            positive_counts,
            self.negative_spans.finish(),
            negative_counts,
            custom_values,
            Arc::new(Int8Array::from(self.reset_hint)),
        ];
        let DataType::Struct(fields) = data_type() else {
            unreachable!("histograms are structs")
        };
        let mut nulls = self.nulls;
        StructArray::new(fields, columns, nulls.finish())
    }
}

impl SpanLists {
    fn push(&mut self, spans: &[Span]) {
        self.lengths.push(spans.len());
        for span in spans {
            self.offset.push(span.offset);
            self.length.push(span.length);
        }
    }

    fn finish(self) -> ArrayRef {
        let DataType::Struct(fields) = super::span_type() else {
            unreachable!("spans are structs")
        };
        let items = StructArray::new(
            fields,
            vec![
                Arc::new(Int32Array::from(self.offset)),
                Arc::new(UInt32Array::from(self.length)),
            ],
            None,
        );
        list(self.lengths, Arc::new(items))
    }
}

impl FloatLists {
    fn finish(self) -> ArrayRef {
        list(self.lengths, Arc::new(Float64Array::from(self.values)))
    }
}

fn list(lengths: Vec<usize>, items: ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new("item", items.data_type().clone(), false));
    Arc::new(ListArray::new(
        field,
        OffsetBuffer::from_lengths(lengths),
        items,
        None,
    ))
}

impl ResetHint {
    /// The number in files; part of the format.
    pub const fn to_number(self) -> i8 {
        match self {
            ResetHint::Unknown => 0,
            ResetHint::Yes => 1,
            ResetHint::No => 2,
            ResetHint::Gauge => 3,
        }
    }

    /// From the number in files; numbers that nobody wrote mean that nothing is known.
    pub const fn from_number(number: i8) -> Self {
        match number {
            1 => ResetHint::Yes,
            2 => ResetHint::No,
            3 => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        }
    }
}

/// A histogram column, taken apart once to read many rows.
#[derive(Debug, Clone)]
pub struct HistogramArray {
    array: StructArray,
    schema: Int32Array,
    zero_threshold: Float64Array,
    zero_count: Float64Array,
    count: Float64Array,
    sum: Float64Array,
    positive_spans: ListArray,
    positive_counts: ListArray,
    negative_spans: ListArray,
    negative_counts: ListArray,
    custom_values: ListArray,
    reset_hint: Int8Array,
}

impl HistogramArray {
    /// Takes an array apart whose columns have the names and types of [`data_type`]; their order
    /// does not matter, and neither do columns that are not known.
    ///
    /// # Errors
    /// If a column is missing or of another type.
    pub fn try_new(array: &StructArray) -> Result<Self, ArrowError> {
        let floats = |name: &str| {
            let list = lists(array, name)?;
            check(
                name,
                list.values().as_primitive_opt::<Float64Type>().is_some(),
            )?;
            Ok::<_, ArrowError>(list)
        };
        let spans = |name: &str| {
            let list = lists(array, name)?;
            let items = list.values().as_struct_opt();
            let column = |field: &str| items.and_then(|items| items.column_by_name(field));
            check(
                name,
                column("offset").is_some_and(|c| c.as_primitive_opt::<Int32Type>().is_some()),
            )?;
            check(
                name,
                column("length").is_some_and(|c| c.as_primitive_opt::<UInt32Type>().is_some()),
            )?;
            Ok::<_, ArrowError>(list)
        };
        Ok(Self {
            array: array.clone(),
            schema: numbers::<Int32Type>(array, "schema")?,
            zero_threshold: numbers::<Float64Type>(array, "zero_threshold")?,
            zero_count: numbers::<Float64Type>(array, "zero_count")?,
            count: numbers::<Float64Type>(array, "count")?,
            sum: numbers::<Float64Type>(array, "sum")?,
            positive_spans: spans("positive_spans")?,
            positive_counts: floats("positive_counts")?,
            negative_spans: spans("negative_spans")?,
            negative_counts: floats("negative_counts")?,
            custom_values: floats("custom_values")?,
            reset_hint: numbers::<Int8Type>(array, "reset_hint")?,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.array.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }

    /// The histogram of a row; `None` if it has none, or there is no such row.
    pub fn get(&self, row: usize) -> Option<Histogram> {
        if row >= self.array.len() || self.array.is_null(row) {
            return None;
        }
        Some(Histogram {
            schema: self.schema.value(row),
            zero_threshold: self.zero_threshold.value(row),
            zero_count: self.zero_count.value(row),
            count: self.count.value(row),
            sum: self.sum.value(row),
            positive_spans: spans_of(&self.positive_spans, row),
            positive_counts: floats_of(&self.positive_counts, row),
            negative_spans: spans_of(&self.negative_spans, row),
            negative_counts: floats_of(&self.negative_counts, row),
            custom_values: floats_of(&self.custom_values, row),
            reset_hint: ResetHint::from_number(self.reset_hint.value(row)),
        })
    }
}

fn check(name: &str, right: bool) -> Result<(), ArrowError> {
    if right {
        Ok(())
    } else {
        Err(ArrowError::SchemaError(format!(
            "column {name:?} of a histogram is missing or of another type"
        )))
    }
}

fn numbers<T: ArrowPrimitiveType>(
    array: &StructArray,
    name: &str,
) -> Result<PrimitiveArray<T>, ArrowError> {
    let column = array
        .column_by_name(name)
        .and_then(|column| column.as_primitive_opt::<T>());
    check(name, column.is_some())?;
    Ok(column
        .cloned()
        .unwrap_or_else(|| PrimitiveArray::new_null(0)))
}

fn lists(array: &StructArray, name: &str) -> Result<ListArray, ArrowError> {
    let column = array
        .column_by_name(name)
        .and_then(|column| column.as_list_opt::<i32>());
    column.cloned().ok_or_else(|| {
        ArrowError::SchemaError(format!(
            "column {name:?} of a histogram is missing or of another type"
        ))
    })
}

fn floats_of(lists: &ListArray, row: usize) -> Vec<f64> {
    lists
        .value(row)
        .as_primitive::<Float64Type>()
        .values()
        .to_vec()
}

fn spans_of(lists: &ListArray, row: usize) -> Vec<Span> {
    let items = lists.value(row);
    let items = items.as_struct();
    let (Some(offset), Some(length)) = (
        items.column_by_name("offset"),
        items.column_by_name("length"),
    ) else {
        return Vec::new();
    };
    let (offset, length) = (
        offset.as_primitive::<Int32Type>(),
        length.as_primitive::<UInt32Type>(),
    );
    offset
        .values()
        .iter()
        .zip(length.values())
        .map(|(&offset, &length)| Span { offset, length })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        proptest::collection::vec(
            (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Span { offset, length }),
            0..4,
        )
    }

    fn floats() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(any::<f64>().prop_map(|x| x + 0.0), 0..5)
    }

    fn histogram() -> impl Strategy<Value = Histogram> {
        (
            (
                any::<i32>(),
                any::<f64>(),
                any::<f64>(),
                any::<f64>(),
                any::<f64>(),
            ),
            (spans(), floats(), spans(), floats(), floats()),
            prop_oneof![
                Just(ResetHint::Unknown),
                Just(ResetHint::Yes),
                Just(ResetHint::No),
                Just(ResetHint::Gauge)
            ],
        )
            .prop_map(
                |((schema, zero_threshold, zero_count, count, sum), lists, reset_hint)| Histogram {
                    schema,
                    zero_threshold,
                    zero_count,
                    count,
                    sum,
                    positive_spans: lists.0,
                    positive_counts: lists.1,
                    negative_spans: lists.2,
                    negative_counts: lists.3,
                    custom_values: lists.4,
                    reset_hint,
                },
            )
    }

    fn build(histograms: &[Option<Histogram>]) -> StructArray {
        let mut builder = HistogramArrayBuilder::new();
        for histogram in histograms {
            match histogram {
                Some(histogram) => builder.append(histogram),
                None => builder.append_null(),
            }
        }
        assert_eq!(builder.len(), histograms.len());
        builder.finish()
    }

    proptest! {
        #[test]
        fn histograms_come_back(histograms in proptest::collection::vec(proptest::option::of(histogram()), 0..20)) {
            let array = build(&histograms);
            prop_assert_eq!(array.data_type(), &data_type());
            let reader = HistogramArray::try_new(&array).unwrap();
            for (row, expected) in histograms.iter().enumerate() {
                prop_assert_eq!(&reader.get(row), expected);
            }
            prop_assert_eq!(reader.get(histograms.len()), None);
            // A slice has its own offsets.
            let from = histograms.len() / 2;
            let reader = HistogramArray::try_new(&array.slice(from, histograms.len() - from)).unwrap();
            for (row, expected) in histograms[from..].iter().enumerate() {
                prop_assert_eq!(&reader.get(row), expected);
            }
        }
    }

    #[test]
    fn the_bits_of_a_stale_marker_survive() {
        let stale = f64::from_bits(crate::model::STALE_NAN_BITS);
        let array = build(&[Some(Histogram {
            sum: stale,
            ..Histogram::default()
        })]);
        let read = HistogramArray::try_new(&array).unwrap().get(0).unwrap();
        assert_eq!(read.sum.to_bits(), crate::model::STALE_NAN_BITS);
    }

    #[test]
    fn other_structs_are_refused_by_the_name_of_the_column() {
        let (fields, mut columns, _) = build(&[None]).into_parts();
        let without = StructArray::new(
            fields.iter().skip(1).cloned().collect::<Vec<_>>().into(),
            columns[1..].to_vec(),
            None,
        );
        let error = HistogramArray::try_new(&without).unwrap_err().to_string();
        assert!(error.contains("\"schema\""), "{error}");
        columns[6] = columns[5].clone();
        let fields: Vec<_> = fields
            .iter()
            .zip(&columns)
            .map(|(f, c)| Field::new(f.name(), c.data_type().clone(), false))
            .collect();
        let error = HistogramArray::try_new(&StructArray::new(fields.into(), columns, None))
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"positive_counts\""), "{error}");
    }
}
