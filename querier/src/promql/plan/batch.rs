//! Series in Arrow, for whoever is no operator of PromQL: a row for each.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Float64Builder, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use tidelake_catalog::model::Labels;
use tidelake_catalog::model::histogram::{self, HistogramArrayBuilder};

use super::super::exec::QueryError;
use super::super::exec::row::{Row, is_absent};
use super::super::exec::work::{Evaluated, Work};
use super::PromExec;

/// Most values of a batch, unless one series has more.
const BATCH_VALUES: usize = 1 << 20;

fn values_field() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

fn histograms_field() -> FieldRef {
    Arc::new(Field::new_list_field(histogram::data_type(), true))
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("labels", DataType::Utf8, false),
        Field::new("drop_name", DataType::Boolean, false),
        Field::new("values", DataType::List(values_field()), false),
        Field::new("histograms", DataType::List(histograms_field()), true),
    ]))
});

/// Labels as `{name="value", ...}`, whether the metric's name has to go from them when the query
/// ends, a float for each step, and the same of native histograms if there are any.
pub(super) fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Evaluates an operator at the steps of the query.
pub(super) fn execute(
    node: PromExec,
    partition: usize,
    work: Arc<Work>,
) -> Result<SendableRecordBatchStream> {
    if partition != 0 {
        return exec_err!("series come in one partition, not in one numbered {partition}");
    }
    let batches = async move {
        let value = node.value(work.grid, &work).await.map_err(external)?;
        let rows = rows(value)?;
        let most = (BATCH_VALUES / work.grid.count.max(1)).max(1);
        let batches: Vec<_> = rows.chunks(most).map(batch).collect();
        Ok::<_, DataFusionError>(stream::iter(batches))
    };
    let batches = stream::once(batches).try_flatten().boxed();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), batches)))
}

fn external(error: QueryError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn rows(value: Evaluated) -> Result<Vec<Row>> {
    match value {
        Evaluated::Vector(rows) => Ok(rows.into_parts().0),
        Evaluated::Scalar(values) => {
            let (values, _) = values.into_parts();
            Ok(vec![Row::floats(Labels::empty(), false, values)])
        }
        Evaluated::String(_) | Evaluated::Range(..) => {
            exec_err!("strings and raw samples are no series with a value at each step")
        }
    }
}

fn batch(rows: &[Row]) -> Result<RecordBatch> {
    let offsets = || OffsetBuffer::<i32>::from_lengths(rows.iter().map(|row| row.values.len()));
    let mut floats = Float64Builder::new();
    for value in rows.iter().flat_map(|row| &row.values) {
        floats.append_option((!is_absent(*value)).then_some(*value));
    }
    let mut histograms = HistogramArrayBuilder::new();
    let with_histograms = rows.iter().any(Row::has_histograms);
    if with_histograms {
        for row in rows {
            for step in 0..row.values.len() {
                match row.histogram(step) {
                    Some(histogram) => histograms.append(histogram),
                    None => histograms.append_null(),
                }
            }
        }
    }
    let values = ListArray::try_new(values_field(), offsets(), Arc::new(floats.finish()), None)?;
    let histograms: ArrayRef = match with_histograms {
        true => {
            let all = Arc::new(histograms.finish());
            Arc::new(ListArray::try_new(
                histograms_field(),
                offsets(),
                all,
                None,
            )?)
        }
        false => arrow::array::new_null_array(&DataType::List(histograms_field()), rows.len()),
    };
    let labels = StringArray::from_iter_values(rows.iter().map(|row| row.labels.to_string()));
    let drop_name: BooleanArray = rows.iter().map(|row| Some(row.drop_name)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(labels),
        Arc::new(drop_name),
        Arc::new(values),
        histograms,
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
