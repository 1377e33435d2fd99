//! Rows in memory, found by looking at each of them: slow, and too simple to be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use async_trait::async_trait;
use tidelake_catalog::model::schema::METRICS_TABLE;
use tidelake_catalog::model::{
    Column, ColumnType, Labels, Matcher, TableKind, TableSchema, TimeRange,
};
use tidelake_catalog::segment::scan::Edge;
use tidelake_catalog::segment::{ReadCounts, Series, SeriesRun, SortedRows};

use crate::promql::source::SampleSource;
use crate::promql::source::memory as promql;
use crate::sql::{Retention, RetentionSetting, RowRequest, RowSource, RowUnit, SqlError};

#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    String(&'static str),
}

/// Rows of a series by time, each with the fields it has.
type Rows = BTreeMap<i64, BTreeMap<&'static str, Cell>>;

#[derive(Debug, Clone, Default)]
struct MemoryTable {
    schema: Option<Arc<TableSchema>>,
    series: BTreeMap<Labels, Rows>,
}

/// Tables in memory: database, table, series, time.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    tables: BTreeMap<String, BTreeMap<String, MemoryTable>>,
    /// Series per unit.
    pub unit_series: usize,
    /// How long the reading of a unit takes.
    pub read_delay: Duration,
}

impl MemorySource {
    pub fn new() -> Self {
        Self {
            unit_series: 2,
            ..Self::default()
        }
    }

    pub fn table(
        &mut self,
        db: &str,
        table: &str,
        kind: TableKind,
        columns: &[(&str, ColumnType)],
    ) {
        let mut schema = if kind == TableKind::Metrics {
            TableSchema::metrics()
        } else {
            TableSchema::new(kind)
        };
        for (name, kind) in columns {
            schema.ensure(name, *kind).unwrap();
        }
        self.tables
            .entry(db.into())
            .or_default()
            .entry(table.into())
            .or_default()
            .schema = Some(Arc::new(schema));
    }

    pub fn row(
        &mut self,
        db: &str,
        table: &str,
        labels: &[(&str, &str)],
        time: i64,
        cells: &[(&'static str, Cell)],
    ) {
        let table = self.tables.get_mut(db).unwrap().get_mut(table).unwrap();
        let row = table
            .series
            .entry(Labels::from_pairs(labels.iter().copied()))
            .or_default()
            .entry(time)
            .or_default();
        row.extend(cells.iter().cloned());
    }

    pub fn sample(&mut self, db: &str, labels: &[(&str, &str)], time: i64, value: f64) {
        self.row(
            db,
            METRICS_TABLE,
            labels,
            time,
            &[("value", Cell::Float(value))],
        );
    }

    fn matching<'a>(
        &'a self,
        db: &str,
        table: &str,
        matchers: &'a [Matcher],
    ) -> impl Iterator<Item = (&'a Labels, &'a Rows)> {
        let series = self
            .tables
            .get(db)
            .and_then(|tables| tables.get(table))
            .map(|table| &table.series);
        series.into_iter().flatten().filter(|(labels, _)| {
            matchers
                .iter()
                .all(|matcher| matcher.matches_labels(labels))
        })
    }
}

#[derive(Debug)]
struct MemoryUnit {
    fields: Vec<Column>,
    rows: Vec<(Arc<Series>, Vec<(i64, BTreeMap<&'static str, Cell>)>)>,
    delay: Duration,
}

#[async_trait]
impl RowSource for MemorySource {
    fn databases(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    fn retention(&self, db: &str) -> Vec<RetentionSetting> {
        let of_database = RetentionSetting {
            table: None,
            set: Retention::Millis(86_400_000),
            effective: Retention::Millis(86_400_000),
        };
        let of_table = |name: &String| {
            let (set, effective) = if name == "cpu" {
                (Retention::Forever, Retention::Forever)
            } else {
                (Retention::Inherit, of_database.effective)
            };
            RetentionSetting {
                table: Some(Arc::from(name.as_str())),
                set,
                effective,
            }
        };
        let tables = self
            .tables
            .get(db)
            .into_iter()
            .flat_map(|tables| tables.keys())
            .map(of_table);
        std::iter::once(of_database.clone()).chain(tables).collect()
    }

    fn schema(&self, db: &str, table: &str) -> Option<Arc<TableSchema>> {
        self.tables.get(db)?.get(table)?.schema.clone()
    }

    fn samples(&self, db: &str) -> Arc<dyn SampleSource> {
        let mut samples = promql::MemorySource::default();
        for (labels, rows) in self.matching(db, METRICS_TABLE, &[]) {
            for (time, row) in rows {
                if let Some(Cell::Float(value)) = row.get("value") {
                    samples.insert(labels, *time, promql::Sample::Float(*value));
                }
            }
        }
        Arc::new(samples)
    }

    fn wide_tables(&self, db: &str) -> Vec<(Arc<str>, Arc<TableSchema>)> {
        let tables = self.tables.get(db).into_iter().flatten();
        tables
            .filter_map(|(name, table)| {
                table
                    .schema
                    .clone()
                    .map(|schema| (Arc::from(name.as_str()), schema))
            })
            .collect()
    }

    async fn scan(
        &self,
        db: &str,
        table: &str,
        request: RowRequest,
    ) -> Result<Vec<Arc<dyn RowUnit>>, SqlError> {
        let series: Vec<_> = self
            .matching(db, table, &request.matchers)
            .map(|(labels, rows)| {
                let in_range = rows
                    .iter()
                    .filter(|(time, _)| request.range.contains(**time));
                let mut rows: Vec<_> = in_range.map(|(time, row)| (*time, row.clone())).collect();
                // No more than was asked for, so that a query that needs more is found out.
                match request.edge {
                    Some(Edge::Oldest(edge)) => rows.truncate(edge as usize),
                    Some(Edge::Newest(edge)) => {
                        rows.drain(..rows.len().saturating_sub(edge as usize));
                    }
                    None => {}
                }
                (Arc::new(Series::new(labels.clone())), rows)
            })
            .filter(|(_, rows)| !rows.is_empty())
            .collect();
        let unit = |rows: &[_]| {
            let unit: Arc<dyn RowUnit> = Arc::new(MemoryUnit {
                fields: request.fields.clone(),
                rows: rows.to_vec(),
                delay: self.read_delay,
            });
            unit
        };
        Ok(series.chunks(self.unit_series).map(unit).collect())
    }

    async fn series(
        &self,
        db: &str,
        table: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<Arc<Series>>, SqlError> {
        let matching = self
            .matching(db, table, matchers)
            .filter(|(_, rows)| rows.keys().any(|time| range.contains(*time)));
        Ok(matching
            .map(|(labels, _)| Arc::new(Series::new(labels.clone())))
            .collect())
    }

    async fn metric_names(&self, db: &str) -> Result<Vec<String>, SqlError> {
        let mut names: Vec<String> = self
            .matching(db, METRICS_TABLE, &[])
            .map(|(labels, _)| labels.metric_name().to_owned())
            .collect();
        names.dedup();
        Ok(names)
    }
}

#[async_trait]
impl RowUnit for MemoryUnit {
    fn rows_bound(&self) -> u64 {
        self.rows.iter().map(|(_, rows)| rows.len() as u64).sum()
    }

    fn known(&self) -> Option<TimeRange> {
        let times = self
            .rows
            .iter()
            .flat_map(|(_, rows)| rows.iter().map(|(time, _)| *time));
        times
            .map(|time| TimeRange::new(time, time))
            .reduce(|a, b| a.union(&b))
    }

    fn reads(&self) -> (ReadCounts, f64) {
        (ReadCounts::default(), 0.0)
    }

    async fn read(&self) -> Result<SortedRows, SqlError> {
        tokio::time::sleep(self.delay).await;
        let (mut runs, mut time, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (series, run) in &self.rows {
            runs.push(SeriesRun::new(
                series.clone(),
                time.len()..time.len() + run.len(),
            ));
            time.extend(run.iter().map(|(time, _)| *time));
            rows.extend(run.iter().map(|(_, row)| row));
        }
        let columns = self
            .fields
            .iter()
            .map(|field| column(field, &rows).into())
            .collect();
        Ok(SortedRows {
            runs,
            time: time.into(),
            fields: self.fields.clone().into(),
            columns,
        })
    }
}

fn column(field: &Column, rows: &[&BTreeMap<&'static str, Cell>]) -> ArrayRef {
    let cells = rows
        .iter()
        .map(|row| row.get(&*field.name).unwrap_or(&Cell::Null));
    macro_rules! array {
        ($array:ty, $cell:path) => {
            Arc::new(
                cells
                    .map(|cell| {
                        if let $cell(value) = cell {
                            Some(value.clone())
                        } else {
                            None
                        }
                    })
                    .collect::<$array>(),
            )
        };
    }
    match field.kind {
        ColumnType::Float => array!(Float64Array, Cell::Float),
        ColumnType::Integer => array!(Int64Array, Cell::Integer),
        ColumnType::Unsigned => array!(UInt64Array, Cell::Unsigned),
        ColumnType::Boolean => array!(BooleanArray, Cell::Boolean),
        ColumnType::String => array!(StringArray, Cell::String),
        ColumnType::Tag | ColumnType::Histogram | ColumnType::Timestamp | ColumnType::Labels => {
            panic!("{} is not a field of a test table", field.name)
        }
    }
}
