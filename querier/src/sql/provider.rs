//! A view as DataFusion's table: projection, filters and limit go into the scan.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use tidelake_catalog::model::{Column, TableKind};
use tidelake_catalog::segment::scan::Edge;

use super::batches::{Layout, Slot};
use super::pushdown::{translate, translate_all};
use super::scan_exec::{ScanExec, ScanSummary};
use super::source::{RowRequest, RowSource};
use super::view::{Origin, TableView, VALUE_COLUMN};

/// A view over the tables of a database.
#[derive(Debug, Clone)]
pub(super) struct ViewProvider {
    source: Arc<dyn RowSource>,
    db: Arc<str>,
    view: Arc<TableView>,
    /// If only one end of each series is asked for, which.
    edge: Option<Edge>,
}

impl ViewProvider {
    pub fn new(source: Arc<dyn RowSource>, db: Arc<str>, view: Arc<TableView>) -> Self {
        Self {
            source,
            db,
            view,
            edge: None,
        }
    }

    pub fn view(&self) -> &TableView {
        &self.view
    }

    /// The same for one end of each series; `None` if that is settled already.
    pub fn at(&self, edge: Edge) -> Option<Self> {
        self.edge.is_none().then(|| Self {
            edge: Some(edge),
            ..self.clone()
        })
    }

    /// What to read for some columns, and where in it they are found.
    fn layout(
        &self,
        projection: Option<&Vec<usize>>,
    ) -> Result<(Layout, Vec<tidelake_catalog::model::Column>)> {
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
        // Which rows of a metric are samples can only be told from their values, and exemplars from
        // each other by all they have: these are always read.
        let samples_only = view.kind == TableKind::Metrics;
        let is_needed = |column: &Column| match view.kind {
            TableKind::Wide => false,
            TableKind::Metrics => &*column.name == VALUE_COLUMN,
            TableKind::Exemplars => true,
        };
        let stored = view.origins.iter().filter_map(|origin| {
            if let Origin::Field(column) = origin {
                Some(column)
            } else {
                None
            }
        });
        let mut fields: Vec<Column> = stored.filter(|column| is_needed(column)).cloned().collect();
        let mut slots = Vec::with_capacity(columns.len());
        for origin in columns.iter().filter_map(|&at| view.origins.get(at)) {
            slots.push(match origin {
                Origin::Tag(label) => Slot::Tag(label.clone()),
                Origin::Time => Slot::Time,
                Origin::Field(column) => {
                    let at = fields
                        .iter()
                        .position(|field| field == column)
                        .unwrap_or_else(|| {
                            fields.push(column.clone());
                            fields.len() - 1
                        });
                    Slot::Field(at)
                }
            });
        }
        Ok((
            Layout {
                schema,
                slots,
                time_unit: view.time_unit(),
                samples_only,
            },
            fields,
        ))
    }

    /// The rows that pass what can be translated of the filters.
    async fn scan_rows(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
        edge: Option<Edge>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (layout, fields) = self.layout(projection)?;
        let pushed = translate_all(filters, &self.view);
        if pushed.nothing {
            return Ok(Arc::new(EmptyExec::new(layout.schema)));
        }
        let summary = ScanSummary::new(&self.view, &fields, &pushed, edge);
        let matchers = self
            .view
            .matchers
            .iter()
            .cloned()
            .chain(pushed.matchers)
            .collect();
        let request = RowRequest {
            fields,
            matchers,
            range: pushed.range,
            edge,
        };
        let units = self
            .source
            .scan(&self.db, &self.view.table, request)
            .await?;
        if units.is_empty() {
            return Ok(Arc::new(EmptyExec::new(layout.schema)));
        }
        Ok(Arc::new(ScanExec::new(
            layout,
            units,
            summary,
            limit,
            state.config().target_partitions(),
        )))
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

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // What a translation lets through too much, `scan` filters itself.
        let support = |filter: &&Expr| match translate(filter, &self.view) {
            Some(_) => TableProviderFilterPushDown::Exact,
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
        // The optimizer goes on to rewrite filters after it handed them over, possibly to something
        // that cannot be translated any more. Nothing else checks them then.
        let unanswered =
            |filter: &&Expr| !translate(filter, &self.view).is_some_and(|pushed| pushed.exact);
        let residual = conjunction(filters.iter().filter(unanswered).cloned());
        let Some(residual) = residual else {
            return self
                .scan_rows(state, projection, filters, limit, self.edge)
                .await;
        };
        let wanted = projection
            .cloned()
            .unwrap_or_else(|| (0..self.view.origins.len()).collect());
        let mut columns = wanted.clone();
        for column in residual.column_refs() {
            let at = self.view.schema.index_of(&column.name)?;
            if !columns.contains(&at) {
                columns.push(at);
            }
        }
        let rows = self
            .scan_rows(state, Some(&columns), filters, None, None)
            .await?;
        let predicate =
            state.create_physical_expr(residual, &DFSchema::try_from(rows.schema())?)?;
        let filter = FilterExecBuilder::new(predicate, rows)
            .apply_projection(Some((0..wanted.len()).collect()))?;
        Ok(Arc::new(filter.with_fetch(limit).build()?))
    }
}
