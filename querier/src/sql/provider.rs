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
use parking_lot::Mutex;
use tidelake_catalog::model::{Column, TableKind};
use tidelake_catalog::segment::scan::Edge;

use super::batches::{Layout, Slot};
use super::pushdown::{translate, translate_all};
use super::scan_exec::{ScanExec, ScanSummary, total_rows};
use super::shapes;
use super::source::{RowRequest, RowSource, RowUnit};
use super::view::{Origin, TableView, VALUE_COLUMN};
use crate::small::FEW_ROWS;

/// A view over the tables of a database.
#[derive(Debug, Clone)]
pub(super) struct ViewProvider {
    source: Arc<dyn RowSource>,
    db: Arc<str>,
    view: Arc<TableView>,
    /// If only one end of each series is asked for, which.
    edge: Option<Edge>,
    /// What was planned ahead: columns, filters and edge, and what there is to read.
    ahead: Ahead,
}

type Ahead = Arc<Mutex<Vec<((Option<Vec<usize>>, Vec<Expr>, Option<Edge>), Rows)>>>;

impl ViewProvider {
    pub fn new(
        source: Arc<dyn RowSource>,
        db: Arc<str>,
        view: Arc<TableView>,
        edge: Option<Edge>,
    ) -> Self {
        Self {
            source,
            db,
            view,
            edge,
            ahead: Ahead::default(),
        }
    }

    pub fn view(&self) -> &Arc<TableView> {
        &self.view
    }

    pub fn edge(&self) -> Option<Edge> {
        self.edge
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

    /// Finds out which rows pass what can be translated of the filters, unless that was done
    /// [ahead](Self::plan_ahead).
    async fn rows(
        &self,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        edge: Option<Edge>,
    ) -> Result<Rows> {
        let key = (projection.cloned(), filters.to_vec(), edge);
        {
            let mut ahead = self.ahead.lock();
            if let Some(at) = ahead.iter().position(|(planned, _)| *planned == key) {
                return Ok(ahead.swap_remove(at).1);
            }
        }
        let (layout, fields) = self.layout(projection)?;
        let pushed = translate_all(filters, &self.view);
        let summary = ScanSummary::new(&self.view, &fields, &pushed, edge);
        let units = if pushed.nothing {
            Vec::new()
        } else {
            let own = self.view.matchers.iter().cloned();
            let request = RowRequest {
                fields,
                matchers: own.chain(pushed.matchers).collect(),
                range: pushed.range,
                edge,
                tags: self.view.tags(),
            };
            self.source
                .scan(&self.db, &self.view.table, request)
                .await?
        };
        Ok(Rows {
            layout,
            summary,
            units,
        })
    }

    fn filters(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> Result<Filters> {
        // The optimizer goes on to rewrite filters after it handed them over, possibly to something
        // that cannot be translated any more. Nothing else checks them then.
        let unanswered =
            |filter: &&Expr| !translate(filter, &self.view).is_some_and(|pushed| pushed.exact);
        let residual = conjunction(filters.iter().filter(unanswered).cloned());
        let Some(residual) = residual else {
            return Ok(Filters {
                columns: projection.cloned(),
                residual: None,
                edge: self.edge,
            });
        };
        let mut columns = match projection {
            Some(wanted) => wanted.clone(),
            None => (0..self.view.origins.len()).collect(),
        };
        let wanted = columns.len();
        for column in residual.column_refs() {
            let at = self.view.schema.index_of(&column.name)?;
            if !columns.contains(&at) {
                columns.push(at);
            }
        }
        Ok(Filters {
            columns: Some(columns),
            residual: Some((residual, wanted)),
            // Rows at the edge may not pass.
            edge: None,
        })
    }

    /// Does the part of a scan that looks into indexes, and keeps it for the scan. Returns how many
    /// rows there are to read at most.
    pub async fn plan_ahead(
        &self,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<u64> {
        let Filters { columns, edge, .. } = self.filters(projection, filters)?;
        let rows = self.rows(columns.as_ref(), filters, edge).await?;
        let bound = total_rows(&rows.units);
        let key = (columns, filters.to_vec(), edge);
        self.ahead.lock().push((key, rows));
        Ok(bound)
    }

    /// What there is to read, if that is little and has to be filtered no further; what was looked
    /// up else is kept for the scan.
    pub async fn few_rows(
        &self,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Option<Rows>> {
        let needed = self.filters(projection, filters)?;
        if needed.residual.is_some() {
            return Ok(None);
        }
        let rows = self
            .rows(needed.columns.as_ref(), filters, needed.edge)
            .await?;
        if !rows.units.is_empty() && total_rows(&rows.units) <= FEW_ROWS {
            return Ok(Some(rows));
        }
        let key = (needed.columns, filters.to_vec(), needed.edge);
        self.ahead.lock().push((key, rows));
        Ok(None)
    }
}

/// What a scan has to do about filters.
struct Filters {
    /// Columns to read.
    columns: Option<Vec<usize>>,
    /// What rows have to be filtered by after they are read, and how many of the columns to give.
    residual: Option<(Expr, usize)>,
    edge: Option<Edge>,
}

/// What there is to read.
#[derive(Debug)]
pub(super) struct Rows {
    layout: Layout,
    pub summary: ScanSummary,
    pub units: Vec<Arc<dyn RowUnit>>,
}

impl Rows {
    fn into_scan(
        self,
        limit: Option<usize>,
        partitions: usize,
        is_filtered: bool,
    ) -> Arc<dyn ExecutionPlan> {
        let Self {
            layout,
            summary,
            units,
        } = self;
        if units.is_empty() {
            return Arc::new(EmptyExec::new(layout.schema));
        }
        let scan = ScanExec::new(layout, units, summary, limit, partitions);
        Arc::new(match is_filtered {
            true => scan.filtered(),
            false => scan,
        })
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
        let support = |filter: &&Expr| {
            let example = shapes::with_examples(filter);
            match translate(example.as_ref().unwrap_or(filter), &self.view) {
                Some(_) => TableProviderFilterPushDown::Exact,
                None => TableProviderFilterPushDown::Unsupported,
            }
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
        let partitions = state.config().target_partitions();
        let Filters {
            columns,
            residual,
            edge,
        } = self.filters(projection, filters)?;
        let rows = self.rows(columns.as_ref(), filters, edge).await?;
        let Some((residual, wanted)) = residual else {
            return Ok(rows.into_scan(limit, partitions, false));
        };
        let rows = rows.into_scan(None, partitions, true);
        let predicate =
            state.create_physical_expr(residual, &DFSchema::try_from(rows.schema())?)?;
        let filter = FilterExecBuilder::new(predicate, rows)
            .apply_projection(Some((0..wanted).collect()))?;
        Ok(Arc::new(filter.with_fetch(limit).build()?))
    }
}
