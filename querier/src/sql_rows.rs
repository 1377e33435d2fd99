//! Tables as SQL reads them.

use std::sync::Arc;

use async_trait::async_trait;
use tidelake_catalog::model::{Matcher, TableSchema, TimeRange};
use tidelake_catalog::segment::scan::{ScanRequest, ScanUnit};
use tidelake_catalog::segment::{ReadCounts, ReadMeter, SegmentError, Series, SortedRows};

use crate::promql::source::SampleSource;
use crate::samples::{DatabaseSamples, too_many_bytes};
use crate::sql::{RetentionSetting, RowRequest, RowSource, RowUnit, SqlError, settings};
use crate::tables::{State, Tables};

pub(crate) fn sql_error(error: SegmentError) -> SqlError {
    match error {
        SegmentError::Corrupt { object, message } => SqlError::Damaged { object, message },
        SegmentError::ReadLimit(limit) => SqlError::ResourcesExhausted(too_many_bytes(limit)),
        SegmentError::Memory(_) => SqlError::ResourcesExhausted(error.to_string()),
        SegmentError::Unavailable { .. } => SqlError::Unavailable(error.to_string()),
        error => SqlError::Internal(error.to_string()),
    }
}

/// A unit, and the tables that it is of.
#[derive(Debug)]
struct TableUnit {
    tables: Tables,
    unit: ScanUnit,
    /// Of the scan.
    meter: Arc<ReadMeter>,
}

#[async_trait]
impl RowSource for Tables {
    fn databases(&self) -> Vec<String> {
        Tables::databases(self)
    }

    fn retention(&self, db: &str) -> Vec<RetentionSetting> {
        self.snapshot()
            .database(db)
            .map(|database| settings(database))
            .unwrap_or_default()
    }

    fn samples(&self, db: &str) -> Arc<dyn SampleSource> {
        Arc::new(DatabaseSamples::new(self.clone(), db))
    }

    fn wide_tables(&self, db: &str) -> Vec<(Arc<str>, Arc<TableSchema>)> {
        Tables::wide_tables(self, db)
    }

    fn schema(&self, db: &str, table: &str) -> Option<Arc<TableSchema>> {
        self.snapshot()
            .table(db, table)
            .map(|table| Arc::clone(&table.schema))
    }

    async fn scan(
        &self,
        db: &str,
        table: &str,
        request: RowRequest,
    ) -> Result<Vec<Arc<dyn RowUnit>>, SqlError> {
        let tags = request.tags;
        let request = ScanRequest {
            fields: request.fields.into(),
            matchers: request.matchers,
            range: request.range,
            edge: request.edge,
        };
        let meter = ReadMeter::unlimited(Vec::new());
        let tables = self.counted(&meter);
        let plan = tables
            .scan_with_tags(db, table, request, tags)
            .await
            .map_err(sql_error)?
            .ok_or_else(|| SqlError::NewTags(table.to_owned()))?;
        Ok(plan
            .units
            .into_iter()
            .map(|unit| {
                let unit = TableUnit {
                    tables: tables.clone(),
                    unit,
                    meter: Arc::clone(&meter),
                };
                Arc::new(unit) as Arc<dyn RowUnit>
            })
            .collect())
    }

    async fn series(
        &self,
        db: &str,
        table: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<Arc<Series>>, SqlError> {
        Tables::series(self, db, table, matchers, range)
            .await
            .map_err(sql_error)
    }

    fn noted(&self) -> Option<State> {
        Tables::noted(self)
    }

    async fn metric_names(&self, db: &str) -> Result<Vec<String>, SqlError> {
        Tables::metric_names(self, db).await.map_err(sql_error)
    }
}

#[async_trait]
impl RowUnit for TableUnit {
    fn rows_bound(&self) -> u64 {
        self.unit.rows_bound()
    }

    fn known(&self) -> Option<TimeRange> {
        self.unit.known()
    }

    fn reads(&self) -> (ReadCounts, f64) {
        (self.meter.counts(), self.tables.request_price())
    }

    async fn read(&self) -> Result<SortedRows, SqlError> {
        self.tables.read(&self.unit).await.map_err(sql_error)
    }
}
