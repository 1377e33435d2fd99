//! Reading a table by every way out, as cells that the model can judge.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use tidelake_catalog::model::{Labels, METRIC_NAME, METRICS_TABLE, TimeRange};
use tidelake_catalog::segment::scan::{ScanRequest, ScanUnit};
use tidelake_catalog::segment::{SegmentError, SortedRows};
use tidelake_querier::Querier;
use tidelake_querier::promql::exec::{EngineOptions, QueryError, QueryParams, Value};
use tidelake_querier::promql::parse::parse;
use tidelake_querier::promql::source::SourceError;
use tidelake_querier::sql::SqlError;
use tidelake_querier::tables::{Recent, RecentChunk, RecentRows, TableRange, Tables};

use crate::model::{CellKey, Cells};
use crate::workload::DATABASE;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed, which is right if it was let fail.
    #[error("no answer: {0}")]
    Unavailable(String),
    /// A file that the catalog names is not there, which is right if the reader's catalog was too
    /// old.
    #[error("a file is gone: {0}")]
    Missing(String),
    /// The answer is wrong by itself.
    #[error("wrong: {0}")]
    Wrong(String),
}

impl ReadError {
    /// An object is not what the catalog says.
    fn damaged(error: impl std::fmt::Display) -> Self {
        let text = error.to_string();
        if text.contains("not on the store") {
            Self::Missing(text)
        } else {
            Self::Wrong(text)
        }
    }
}

impl From<SegmentError> for ReadError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Unavailable { .. } => Self::Unavailable(error.to_string()),
            error => Self::damaged(error),
        }
    }
}

fn add(cells: &mut Cells, key: CellKey, value: String) -> Result<(), ReadError> {
    match cells.insert(key.clone(), value) {
        None => Ok(()),
        Some(_) => Err(ReadError::Wrong(format!("{key:?} is there twice"))),
    }
}

/// A series as the model names it.
fn series_name(labels: &Labels) -> String {
    labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// The units of a scan of all of a table.
pub async fn plan(tables: &Tables, table: &str) -> Result<Vec<ScanUnit>, ReadError> {
    let snapshot = tables.snapshot();
    let Some(found) = snapshot.table(DATABASE, table) else {
        return Ok(Vec::new());
    };
    let fields = found.schema.fields().cloned().collect();
    let request = ScanRequest {
        fields,
        matchers: Vec::new(),
        range: TimeRange::ALL,
        edge: None,
    };
    Ok(tables.scan(DATABASE, table, request).await?.units)
}

/// What the units hold.
pub async fn read(units: &[ScanUnit]) -> Result<Cells, ReadError> {
    let mut cells = Cells::new();
    for unit in units {
        add_rows(&mut cells, &unit.read().await?)?;
    }
    Ok(cells)
}

/// All of a table.
pub async fn scan(tables: &Tables, table: &str) -> Result<Cells, ReadError> {
    read(&plan(tables, table).await?).await
}

fn add_rows(cells: &mut Cells, rows: &SortedRows) -> Result<(), ReadError> {
    let options = FormatOptions::default();
    for (field, column) in rows.fields.iter().zip(&rows.columns) {
        let column = column.to_array();
        let shown = match column.data_type() {
            // Native histograms are not written here.
            DataType::Struct(_) => continue,
            _ => ArrayFormatter::try_new(&column, &options)
                .map_err(|error| ReadError::Wrong(error.to_string()))?,
        };
        for run in &rows.runs {
            let series = series_name(&run.series.labels);
            if !rows.times(run).is_sorted_by(|a, b| a < b) {
                return Err(ReadError::Wrong(format!(
                    "the times of {series} do not ascend"
                )));
            }
            for row in run.rows().filter(|row| !column.is_null(*row)) {
                add(
                    cells,
                    (series.clone(), rows.time[row], field.name.to_string()),
                    shown.value(row).to_string(),
                )?;
            }
        }
    }
    Ok(())
}

/// A field of a table by PromQL.
pub async fn promql(
    querier: &Querier,
    table: &str,
    field: &str,
    now_ms: i64,
) -> Result<Cells, ReadError> {
    let is_metrics = table == METRICS_TABLE;
    let name = if is_metrics {
        "{__name__=~\".+\",instance=~\".+\"}".to_owned()
    } else {
        format!("{table}_{field}")
    };
    let text = format!("{name}[70y]");
    let expr = parse(&text).map_err(|error| ReadError::Wrong(error.to_string()))?;
    let params = QueryParams::instant(now_ms + 3 * 86_400_000);
    let output = querier
        .promql(
            DATABASE,
            &expr,
            &text,
            params,
            &EngineOptions::default(),
            false,
        )
        .await;
    let output = output.map_err(|error| match error {
        QueryError::Source(error @ SourceError::Corrupt { .. }) => ReadError::damaged(error),
        QueryError::Source(SourceError::Unavailable(_)) | QueryError::Timeout => {
            ReadError::Unavailable(error.to_string())
        }
        error => ReadError::Wrong(format!("{text}: {error}")),
    })?;
    let Value::RangeVector(series) = output.value else {
        return Err(ReadError::Wrong(format!("{text} is no range vector")));
    };
    let mut cells = Cells::new();
    for one in series {
        let named = if is_metrics {
            one.labels.clone()
        } else {
            one.labels.retain(|name| name != METRIC_NAME)
        };
        let named = series_name(&named);
        for (time, value) in one.floats {
            let time = if is_metrics { time } else { time * 1_000_000 };
            add(
                &mut cells,
                (named.clone(), time, field.to_owned()),
                value.to_string(),
            )?;
        }
    }
    Ok(cells)
}

/// A table by SQL; of the metrics table one metric.
pub async fn sql(querier: &Querier, table: &str, metric: &str) -> Result<Cells, ReadError> {
    let is_metrics = table == METRICS_TABLE;
    let text = if is_metrics {
        format!("SELECT * FROM metrics.\"{metric}\"")
    } else {
        format!("SELECT * FROM \"{table}\"")
    };
    let failed = |error: SqlError| match error {
        SqlError::Damaged { .. } => ReadError::damaged(error),
        SqlError::Unavailable(_) | SqlError::Timeout => ReadError::Unavailable(error.to_string()),
        error => ReadError::Wrong(format!("{text}: {error}")),
    };
    let statement = querier.read_sql(&text).map_err(failed)?;
    let stream = match querier
        .sql(DATABASE, statement, HashMap::new(), false, None)
        .await
    {
        Ok(answer) => answer.stream,
        // A table that is not there has no rows.
        Err(SqlError::NotFound(_)) => return Ok(Cells::new()),
        Err(error) => return Err(failed(error)),
    };
    let batches: Vec<_> = stream
        .try_collect()
        .await
        .map_err(|error| failed(SqlError::from_ref(&error)))?;
    let mut cells = Cells::new();
    let wrong = |error: arrow::error::ArrowError| ReadError::Wrong(error.to_string());
    for batch in batches {
        let schema = batch.schema();
        let time = batch
            .column_by_name("time")
            .ok_or_else(|| ReadError::Wrong(format!("{text} has no time")))?;
        let time = cast(time, &DataType::Int64).map_err(wrong)?;
        let time = time.as_primitive::<Int64Type>();
        let options = FormatOptions::default();
        let shown: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c, &options))
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        // Tags are what the model writes as tags.
        let is_tag = |name: &str| ["client", "host", "instance", "job"].contains(&name);
        for row in 0..batch.num_rows() {
            let mut tags: Vec<String> = Vec::new();
            for (column, field) in schema
                .fields()
                .iter()
                .enumerate()
                .filter(|(_, field)| is_tag(field.name()))
            {
                if !batch.column(column).is_null(row)
                    && !shown[column].value(row).to_string().is_empty()
                {
                    tags.push(format!("{}={}", field.name(), shown[column].value(row)));
                }
            }
            tags.sort();
            let mut series = tags.join(",");
            if is_metrics {
                series = format!("{METRIC_NAME}={metric},{series}");
            }
            for (column, field) in schema
                .fields()
                .iter()
                .enumerate()
                .filter(|(_, f)| !is_tag(f.name()) && f.name() != "time")
            {
                if !batch.column(column).is_null(row)
                    && !matches!(field.data_type(), DataType::Struct(_))
                {
                    let key = (series.clone(), time.value(row), field.name().clone());
                    add(&mut cells, key, shown[column].value(row).to_string())?;
                }
            }
        }
    }
    Ok(cells)
}

/// Rows of an ingester, as queries see them.
#[derive(Debug)]
pub struct OwnRows(pub Arc<tidelake_ingest::Ingester>);

#[async_trait::async_trait]
impl RecentRows for OwnRows {
    async fn recent(&self, database: &str, tables: &[TableRange]) -> Result<Recent, SegmentError> {
        let of_table = |(table, range): &TableRange| {
            let recent = self.0.recent(database, table, *range).into_iter();
            let chunks = recent.map(|chunk| RecentChunk {
                key: None,
                order: chunk.order,
                rows: chunk.rows,
            });
            chunks.collect()
        };
        Ok(Recent {
            tables: tables.iter().map(of_table).collect(),
            missing: Vec::new(),
        })
    }
}
