//! Series in Arrow, for plans that are no operators of PromQL: a row for each series.

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float64Type;
    use datafusion::execution::TaskContext;
    use datafusion::physical_plan::{ExecutionPlan, collect};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use tidelake_catalog::model::Histogram;

    use super::*;
    use crate::memory::QueryMemory;
    use crate::promql::exec::limits::Limits;
    use crate::promql::exec::{EngineOptions, Query, QueryParams};
    use crate::promql::parse::parse;
    use crate::promql::source::memory::{MemorySource, Sample};

    /// What DataFusion gets of a query over two series and four steps.
    fn run(text: &str) -> Result<Vec<RecordBatch>> {
        let mut source = MemorySource::default();
        for (instance, samples) in [("a", [1.0, 2.0, 3.0]), ("b", [10.0, 20.0, 30.0])] {
            let labels = Labels::from_pairs([("__name__", "x"), ("instance", instance)]);
            for (time, value) in (0..).step_by(60_000).zip(samples) {
                source.insert(&labels, time, Sample::Float(value));
            }
        }
        let histogram = Histogram {
            count: 7.0,
            ..Histogram::default()
        };
        let labels = Labels::from_pairs([("__name__", "h")]);
        source.insert(&labels, 60_000, Sample::Histogram(Arc::new(histogram)));
        let options = EngineOptions {
            lookback_delta_ms: 60_000,
            ..EngineOptions::default()
        };
        let params = QueryParams::range(0, 180_000, 60_000);
        let query = Query::new(&parse(text).unwrap(), params, &options).unwrap();
        let limits = Limits::new(1000, Duration::MAX, QueryMemory::unlimited().pool(), 0).unwrap();
        let source = Arc::new(source);
        let work = Work::new(source, &options, limits, query.grid, query.lookback, false);
        let config = SessionConfig::new().with_extension(Arc::new(work));
        let context: Arc<TaskContext> = SessionContext::new_with_config(config).task_ctx();
        let plan: Arc<dyn ExecutionPlan> = query.plan;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(collect(plan, context))
    }

    #[test]
    fn a_plan_can_be_executed_by_datafusion() {
        let batches = run("rate(x[2m]) * 60").unwrap();
        let batch = &batches[0];
        assert_eq!((batches.len(), batch.num_rows()), (1, 2));
        let labels = batch.column(0).as_string::<i32>();
        let labels: Vec<_> = labels.iter().flatten().collect();
        assert_eq!(labels, ["{instance=\"a\"}", "{instance=\"b\"}"]);
        let values = batch.column(2).as_list::<i32>().value(1);
        let values: Vec<_> = values.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [None, Some(10.0), Some(10.0), None]);
        assert_eq!(batch.column(3).null_count(), 2);
    }

    #[test]
    fn scalars_and_histograms_are_rows_and_texts_are_not() {
        let batches = run("time()").unwrap();
        let values = batches[0].column(2).as_list::<i32>().value(0);
        let values: Vec<_> = values.as_primitive::<Float64Type>().values().to_vec();
        assert_eq!(values, [0.0, 60.0, 120.0, 180.0]);
        let batches = run("h").unwrap();
        let histograms = batches[0].column(3).as_list::<i32>().value(0);
        assert_eq!((histograms.len(), histograms.null_count()), (4, 3));
        let error = run("x + on () x").unwrap_err();
        assert!(error.to_string().contains("many"), "{error}");
    }

    #[test]
    fn without_a_query_there_is_nothing_to_evaluate() {
        let query = Query::new(
            &parse("x").unwrap(),
            QueryParams::instant(0),
            &EngineOptions::default(),
        );
        let error = query
            .unwrap()
            .plan
            .execute(0, SessionContext::new().task_ctx())
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("by a query of PromQL only"),
            "{error}"
        );
    }
}
