//! What there is to read of a table: segments named by the catalog and rows not yet in one.
//!
//! Recent rows are taken before the catalog's snapshot: a flush in between then shows its rows twice, which the
//! merge undoes, and never not at all.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tidelake_catalog::Catalog;
use tidelake_catalog::model::{Column, METRICS_TABLE, Matcher, TableKind, TableSchema, TimeRange};
use tidelake_catalog::segment::scan::{ScanPlan, ScanRequest, Source, WriteOrder, plan};
use tidelake_catalog::segment::{OpenSegment, SegmentError, Series, SortedRows};
use tidelake_catalog::snapshot::{SegmentMeta, Snapshot};
use tidelake_catalog::store::Store;

use crate::segment_cache::SegmentCache;

/// Segments that are opened at a time.
const OPEN_AT_ONCE: usize = 16;

/// Rows that are acknowledged but not yet in a segment.
#[async_trait]
pub trait RecentRows: Send + Sync + 'static {
    /// Sorted rows of a table whose times may lie in the range, each with its place in the order of writes.
    async fn recent(&self, database: &str, table: &str, range: TimeRange) -> Result<Vec<(u64, Arc<SortedRows>)>, SegmentError>;
}

/// A process that only reads what is on the store.
#[derive(Debug)]
pub struct NoRecentRows;

#[async_trait]
impl RecentRows for NoRecentRows {
    async fn recent(&self, _: &str, _: &str, _: TimeRange) -> Result<Vec<(u64, Arc<SortedRows>)>, SegmentError> {
        Ok(Vec::new())
    }
}

/// A table and where its rows are.
#[derive(Debug)]
pub struct TableSources {
    /// The table's columns.
    pub schema: Arc<TableSchema>,
    /// All that may hold rows in the range asked for.
    pub sources: Vec<Source>,
}

struct Inner {
    catalog: Arc<Catalog>,
    store: Store,
    recent: Arc<dyn RecentRows>,
    segments: SegmentCache,
}

/// All tables of all databases. Cheap to clone.
#[derive(Clone)]
pub struct Tables(Arc<Inner>);

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tables")
    }
}

impl Tables {
    /// Tables of a catalog; `cache_bytes` bounds the indexes and footers that are kept.
    pub fn new(catalog: Arc<Catalog>, store: Store, recent: Arc<dyn RecentRows>, cache_bytes: usize) -> Self {
        Self(Arc::new(Inner { catalog, store, recent, segments: SegmentCache::new(cache_bytes) }))
    }

    /// The catalog as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.catalog.snapshot()
    }

    /// Names of the databases.
    pub fn databases(&self) -> Vec<String> {
        self.snapshot().databases().map(|d| d.name.to_string()).collect()
    }

    /// The wide tables of a database.
    pub fn wide_tables(&self, database: &str) -> Vec<(Arc<str>, Arc<TableSchema>)> {
        let snapshot = self.snapshot();
        let tables = snapshot.database(database).into_iter().flat_map(|d| d.tables.values());
        tables.filter(|t| t.schema.kind == TableKind::Wide).map(|t| (Arc::clone(&t.name), Arc::clone(&t.schema))).collect()
    }

    /// Where the rows of a table are; `None` if there is no such table.
    pub async fn sources(&self, database: &str, table: &str, range: TimeRange) -> Result<Option<TableSources>, SegmentError> {
        let recent = self.0.recent.recent(database, table, range).await?;
        let snapshot = self.snapshot();
        let Some(table) = snapshot.table(database, table) else { return Ok(None) };
        let schema = Arc::clone(&table.schema);
        let metas: Vec<Arc<SegmentMeta>> = table.segments(range).cloned().collect();
        let opened = metas.into_iter().map(|meta| {
            let kind = schema.kind;
            async move {
                let segment = self.open(&meta, kind).await?;
                Ok::<_, SegmentError>(Source::Segment(WriteOrder::Segment(meta.order.1), segment))
            }
        });
        let mut sources: Vec<Source> = stream::iter(opened).buffered(OPEN_AT_ONCE).try_collect().await?;
        sources.extend(recent.into_iter().map(|(order, rows)| Source::Rows(WriteOrder::Recent(order), rows)));
        Ok(Some(TableSources { schema, sources }))
    }

    async fn open(&self, meta: &SegmentMeta, kind: TableKind) -> Result<Arc<OpenSegment>, SegmentError> {
        let store = &self.0.store;
        self.0.segments.open(meta, || meta.open(store, kind)).await
    }

    /// Plans the reading of a table. A table that does not exist has no units.
    pub async fn scan(&self, database: &str, table: &str, request: ScanRequest) -> Result<ScanPlan, SegmentError> {
        match self.sources(database, table, request.range).await? {
            Some(found) => Ok(plan(found.schema.kind, found.sources, request, None)),
            None => Ok(ScanPlan { units: Vec::new() }),
        }
    }

    /// The series of a table that pass all matchers and may have rows in the range; each once.
    pub async fn series(
        &self,
        database: &str,
        table: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<Arc<Series>>, SegmentError> {
        let request = ScanRequest { fields: Arc::<[Column]>::from([]), matchers: matchers.to_vec(), range };
        let plan = self.scan(database, table, request).await?;
        Ok(plan.units.iter().flat_map(|unit| unit.series().cloned()).collect())
    }

    /// Names of the metrics in the metrics table, ascending.
    pub async fn metric_names(&self, database: &str) -> Result<Vec<String>, SegmentError> {
        let Some(found) = self.sources(database, METRICS_TABLE, TimeRange::ALL).await? else { return Ok(Vec::new()) };
        let mut names = std::collections::BTreeSet::new();
        for source in &found.sources {
            match source {
                Source::Segment(_, segment) => names.extend(segment.index().metric_names().map(str::to_owned)),
                Source::Rows(_, rows) => {
                    for run in &rows.runs {
                        let name = run.series.labels.metric_name();
                        if !names.contains(name) {
                            names.insert(name.to_owned());
                        }
                    }
                }
            }
        }
        Ok(names.into_iter().collect())
    }
}
