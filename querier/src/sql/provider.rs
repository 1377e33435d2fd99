//! A view as DataFusion's table: projection, filters and limit go into the scan.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use tidelake_catalog::model::TableKind;

use super::batches::{Layout, Slot};
use super::pushdown::{translate, translate_all};
use super::scan_exec::{ScanExec, ScanSummary};
use super::source::{RowRequest, RowSource};
use super::view::{Origin, TableView};

/// A view over the tables of a database.
#[derive(Debug)]
pub(super) struct ViewProvider {
    source: Arc<dyn RowSource>,
    db: Arc<str>,
    view: Arc<TableView>,
}

impl ViewProvider {
    pub fn new(source: Arc<dyn RowSource>, db: Arc<str>, view: Arc<TableView>) -> Self {
        Self { source, db, view }
    }

    /// What to read for some columns, and where in it they are found.
    fn layout(&self, projection: Option<&Vec<usize>>) -> Result<(Layout, Vec<tidelake_catalog::model::Column>)> {
        let view = &self.view;
        let schema = match projection {
            Some(columns) => Arc::new(view.schema.project(columns)?),
            None => view.schema.clone(),
        };
        let all: Vec<usize>;
        let columns = match projection {
            Some(columns) => columns,
            None => {
                all = (0..view.origins.len()).collect();
                &all
            }
        };
        // Which rows of a metric are samples can only be told from their values, so these are always read.
        let samples_only = view.kind == TableKind::Metrics;
        let mut fields: Vec<_> = if samples_only {
            view.origins.iter().filter_map(|origin| if let Origin::Field(column) = origin { Some(column.clone()) } else { None }).collect()
        } else {
            Vec::new()
        };
        let mut slots = Vec::with_capacity(columns.len());
        for origin in columns.iter().filter_map(|&at| view.origins.get(at)) {
            slots.push(match origin {
                Origin::Tag(label) => Slot::Tag(label.clone()),
                Origin::Time => Slot::Time,
                Origin::Field(column) => {
                    let at = fields.iter().position(|field| field == column).unwrap_or_else(|| {
                        fields.push(column.clone());
                        fields.len() - 1
                    });
                    Slot::Field(at)
                }
            });
        }
        Ok((Layout { schema, slots, time_unit: view.time_unit(), samples_only }, fields))
    }
}

#[async_trait]
impl TableProvider for ViewProvider {
    fn schema(&self) -> SchemaRef {
        self.view.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match translate(filter, &self.view) {
            Some(pushed) if pushed.exact => TableProviderFilterPushDown::Exact,
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (layout, fields) = self.layout(projection)?;
        let pushed = translate_all(filters, &self.view);
        if pushed.nothing {
            return Ok(Arc::new(EmptyExec::new(layout.schema)));
        }
        let summary = ScanSummary::new(&self.view, &fields, &pushed);
        let matchers = self.view.matchers.iter().cloned().chain(pushed.matchers).collect();
        let request = RowRequest { fields, matchers, range: pushed.range };
        let units = self.source.scan(&self.db, &self.view.table, request).await?;
        if units.is_empty() {
            return Ok(Arc::new(EmptyExec::new(layout.schema)));
        }
        Ok(Arc::new(ScanExec::new(layout, units, summary, limit, state.config().target_partitions())))
    }
}
