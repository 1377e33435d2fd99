//! What there is to read of a table: segments named by the catalog and rows not yet in one.
//!
//! Recent rows are taken before the catalog's snapshot: a flush in between then shows its rows
//! twice, which the merge undoes, and never not at all.

mod recent;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tidelake_catalog::Catalog;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::{
    Column, METRIC_NAME, METRICS_TABLE, Matcher, TableKind, TableSchema, TimeRange,
};
use tidelake_catalog::segment::disk_cache::DiskCache;
use tidelake_catalog::segment::scan::{ScanPlan, ScanRequest, ScanUnit, Source, plan};
use tidelake_catalog::segment::{
    LabelTexts, OpenSegment, ReadCache, ReadMeter, SegmentError, Series, SortedRows, WriteOrder,
};
use tidelake_catalog::snapshot::{SegmentId, SegmentMeta, Snapshot};
use tidelake_catalog::store::Store;

pub use self::recent::{ChunkKey, NoRecentRows, Recent, RecentChunk, RecentRows, TableRange};
pub use self::state::{State, StateChunks};
use self::state::{StateNotes, TableState};

use crate::damage::{Damaged, LeftOut};
use crate::segment_cache::SegmentCache;
use crate::warm::{LateScans, WarmReaders, warm_followed};

/// Segments that are opened at a time.
const OPEN_AT_ONCE: usize = 16;

/// A table and where its rows are.
#[derive(Debug)]
pub struct TableSources {
    /// The table's columns.
    pub schema: Arc<TableSchema>,
    /// All that may hold rows in the range asked for.
    pub sources: Vec<Source>,
    /// Rows of other times are expired.
    pub kept: TimeRange,
}

struct Inner {
    catalog: Arc<Catalog>,
    store: Store,
    recent: Arc<dyn RecentRows>,
    segments: SegmentCache,
    /// What was decoded of them.
    cache: Arc<ReadCache>,
    damaged: Damaged,
    late_scans: LateScans,
    memory: Arc<MemoryBudget>,
}

/// All tables of all databases. Cheap to clone.
#[derive(Clone)]
pub struct Tables {
    inner: Arc<Inner>,
    /// The state that is read; the present one, and recent rows, if there is none.
    at: Option<Arc<State>>,
    /// Where what is read is noted.
    notes: Option<Arc<StateNotes>>,
    /// What was left out, if damaged segments may be.
    left_out: Option<Arc<LeftOut>>,
    /// Who counts what is read.
    meter: Option<Arc<ReadMeter>>,
    /// What a read request costs, in dollars.
    request_price: f64,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tables")
    }
}

impl Tables {
    /// Tables of a catalog; what is kept of segments in memory counts in the share of caches,
    /// `disk` keeps more.
    pub fn new(
        catalog: Arc<Catalog>,
        store: Store,
        recent: Arc<dyn RecentRows>,
        memory: &Arc<MemoryBudget>,
        disk: Option<Arc<DiskCache>>,
    ) -> Self {
        let segments = SegmentCache::new(memory);
        Self::of(Arc::new(Inner {
            catalog,
            store,
            recent,
            segments,
            cache: ReadCache::new(memory, disk),
            damaged: Damaged::default(),
            late_scans: LateScans::default(),
            memory: Arc::clone(memory),
        }))
    }

    /// The same tables for one query that may be answered in part: damaged segments that are known
    /// are left out. It may still fail for one that is not known yet, and will know it when it
    /// is run again.
    pub fn partial(&self) -> Self {
        Self {
            left_out: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// The same tables on a store whose read requests cost so many dollars each.
    pub fn with_request_price(self, request_price: f64) -> Self {
        Self {
            request_price,
            ..self
        }
    }

    /// What a read request costs, in dollars.
    pub fn request_price(&self) -> f64 {
        self.request_price
    }

    /// What counts that which is read.
    pub fn meter(&self) -> Option<&Arc<ReadMeter>> {
        self.meter.as_ref()
    }

    /// The same tables for one reader, whose reads a meter counts besides those that do already.
    pub fn counted(&self, meter: &Arc<ReadMeter>) -> Self {
        let meter = match &self.meter {
            Some(others) => ReadMeter::unlimited(vec![Arc::clone(others), Arc::clone(meter)]),
            None => Arc::clone(meter),
        };
        Self {
            meter: Some(meter),
            ..self.clone()
        }
    }

    /// What was decoded of segments and is kept.
    pub fn cache(&self) -> &ReadCache {
        &self.inner.cache
    }

    /// Scans that were made of late.
    pub(crate) fn late_scans(&self) -> &LateScans {
        &self.inner.late_scans
    }

    /// Whether a segment is open, or being opened.
    pub(crate) fn is_open(&self, id: SegmentId) -> bool {
        self.inner.segments.has(id)
    }

    /// From now on caches know of the segments of this process before commits add them, and of
    /// those of others soon after: as long as the future is polled, and there are tables.
    pub fn keep_warm(&self) -> impl Future<Output = ()> + Send + use<> {
        let inner = Arc::downgrade(&self.inner);
        let tables = move || inner.upgrade().map(Self::of);
        let (readers, catalog) = (WarmReaders(Box::new(tables.clone())), &self.inner.catalog);
        catalog.prepare_by(Box::new(readers));
        warm_followed(catalog.subscribe(), tables)
    }

    fn of(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            at: None,
            notes: None,
            left_out: None,
            meter: None,
            request_price: 0.0,
        }
    }

    pub(crate) fn memory(&self) -> &Arc<MemoryBudget> {
        &self.inner.memory
    }

    /// What was left out, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.left_out
            .as_ref()
            .map_or_else(Vec::new, |left_out| left_out.warnings())
    }

    /// The tables as they were in a state of the past: what was in segments then, and nothing else.
    pub fn at(&self, snapshot: Arc<Snapshot>) -> Self {
        self.fixed(Arc::new(State::of(snapshot)))
    }

    /// The tables of a state, and nothing else.
    pub fn fixed(&self, state: Arc<State>) -> Self {
        Self {
            at: Some(state),
            ..self.clone()
        }
    }

    /// The same tables for one selection, which notes what it reads if that is of use.
    pub(crate) fn noting(&self, is_shared: bool) -> Self {
        let is_of_use = is_shared || self.inner.recent.is_remote();
        let notes = (is_of_use && self.at.is_none()).then(|| {
            let now_ms = self.inner.catalog.environment().now_ms();
            Arc::new(StateNotes::new(now_ms))
        });
        Self {
            notes,
            ..self.clone()
        }
    }

    /// What another process needs to read the same as was noted; `None` if it may not be the same
    /// there.
    pub(crate) fn noted(&self) -> Option<State> {
        let notes = self.notes.as_ref()?;
        self.left_out.is_none().then(|| notes.state()).flatten()
    }

    /// The catalog as it is read.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        match &self.at {
            Some(state) => Arc::clone(&state.snapshot),
            None => self.inner.catalog.snapshot(),
        }
    }

    /// Random bits.
    pub fn random(&self) -> u64 {
        self.inner.catalog.environment().random() as u64
    }

    /// Names of the databases.
    pub fn databases(&self) -> Vec<String> {
        self.snapshot()
            .databases()
            .map(|d| d.name.to_string())
            .collect()
    }

    /// The wide tables of a database.
    pub fn wide_tables(&self, database: &str) -> Vec<(Arc<str>, Arc<TableSchema>)> {
        let snapshot = self.snapshot();
        let tables = snapshot
            .database(database)
            .into_iter()
            .flat_map(|d| d.tables.values());
        tables
            .filter(|t| t.schema.kind == TableKind::Wide)
            .map(|t| (Arc::clone(&t.name), Arc::clone(&t.schema)))
            .collect()
    }

    /// Where the rows of a table are; `None` if there is no such table.
    pub async fn sources(
        &self,
        database: &str,
        table: &str,
        range: TimeRange,
    ) -> Result<Option<TableSources>, SegmentError> {
        let (recent, snapshot) = self.recent_and_snapshot(database, table, range).await?;
        let Some(database) = snapshot.database(database) else {
            return Ok(None);
        };
        let Some(table) = database.table(table) else {
            return Ok(None);
        };
        let schema = Arc::clone(&table.schema);
        // A state of the past had the rows that were not expired then.
        let now_ms = match (&self.at, &self.notes) {
            (Some(_), _) => snapshot.time_ms(),
            (None, Some(notes)) => notes.now_ms,
            (None, None) => self.inner.catalog.environment().now_ms(),
        };
        let kept = database.kept(table, now_ms);
        let metas: Vec<Arc<SegmentMeta>> =
            table.segments(range.intersect(&kept)).cloned().collect();
        let opened = metas.into_iter().map(|meta| {
            let kind = schema.kind;
            let tombstones = table.tombstones_of(&meta).cloned().collect();
            async move {
                let segment = self.open(&meta, kind).await?;
                Ok::<_, SegmentError>(segment.map(|segment| {
                    Source::Segment(WriteOrder::of(meta.order), tombstones, segment)
                }))
            }
        });
        let opened = stream::iter(opened)
            .buffered(OPEN_AT_ONCE)
            .try_filter_map(futures::future::ok);
        let mut sources: Vec<Source> = opened.try_collect().await?;
        if let Some(meter) = &self.meter {
            meter.looked_at(sources.len(), recent.len());
        }
        sources.extend(
            recent
                .into_iter()
                .map(|chunk| Source::Rows(chunk.order, chunk.rows)),
        );
        Ok(Some(TableSources {
            schema,
            sources,
            kept,
        }))
    }

    /// Recent rows, and a state from just after they were taken. Rows that were recent before a
    /// delete and are in segments after it must not come as recent ones, which no delete
    /// concerns: a delete in between begins anew.
    async fn recent_and_snapshot(
        &self,
        database: &str,
        table: &str,
        range: TimeRange,
    ) -> Result<TableState, SegmentError> {
        if let Some(state) = &self.at {
            let chunks = state.chunks(database, table, range);
            return Ok((chunks, Arc::clone(&state.snapshot)));
        }
        let Some(notes) = &self.notes else {
            return self.present_of(database, table, range).await;
        };
        let noted = notes.of(database, table, range);
        let present = noted.get_or_try_init(|| self.present_of(database, table, range));
        present.await.cloned()
    }

    async fn present_of(
        &self,
        database: &str,
        table: &str,
        range: TimeRange,
    ) -> Result<TableState, SegmentError> {
        let tables = [(Arc::from(table), range)];
        let states = self.present(database, &tables).await?;
        Ok(states
            .into_iter()
            .next()
            .unwrap_or_else(|| (Vec::new(), self.snapshot())))
    }

    /// Recent rows of tables, and a state from just after they were taken.
    async fn present(
        &self,
        database: &str,
        tables: &[TableRange],
    ) -> Result<Vec<TableState>, SegmentError> {
        let removals = |snapshot: &Snapshot| -> Vec<_> {
            let of_table = |(table, _): &TableRange| {
                let table = snapshot.table(database, table)?;
                let last = table.tombstones.last();
                Some((table.id, last.map(|tombstone| tombstone.sequence)))
            };
            tables.iter().map(of_table).collect()
        };
        loop {
            let before = removals(&self.snapshot());
            let recent = self.inner.recent.recent(database, tables).await?;
            let snapshot = self.snapshot();
            if removals(&snapshot) == before {
                self.note_missing(&recent.missing)?;
                let with_snapshot = |chunks| (chunks, Arc::clone(&snapshot));
                return Ok(recent.tables.into_iter().map(with_snapshot).collect());
            }
        }
    }

    /// Asks other processes for the recent rows of all these tables at once, before each of them is
    /// read, if there are any others.
    pub(crate) async fn ask_ahead(
        &self,
        database: &str,
        tables: &[TableRange],
    ) -> Result<(), SegmentError> {
        let (Some(notes), None) = (&self.notes, &self.at) else {
            return Ok(());
        };
        if !self.inner.recent.is_remote() {
            return Ok(());
        }
        let states = self.present(database, tables).await?;
        for ((table, range), state) in tables.iter().zip(states) {
            // Nobody else asks yet.
            let _ = notes.of(database, table, *range).set(state);
        }
        Ok(())
    }

    /// An answer without rows that may be somewhere else is partial.
    fn note_missing(&self, missing: &[String]) -> Result<(), SegmentError> {
        for sentence in missing {
            match &self.left_out {
                Some(left_out) => left_out.add_missing(sentence),
                None => {
                    return Err(SegmentError::Unavailable {
                        object: "rows that are in no segment yet".to_owned(),
                        message: sentence.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// An open segment; `None` if it is damaged and may be left out.
    pub(crate) async fn open(
        &self,
        meta: &SegmentMeta,
        kind: TableKind,
    ) -> Result<Option<Arc<OpenSegment>>, SegmentError> {
        let Inner {
            store,
            segments,
            cache,
            damaged,
            ..
        } = &*self.inner;
        if let Some(left_out) = &self.left_out
            && let Some(error) = damaged.get(meta.id)
        {
            left_out.add(meta.id, error);
            return Ok(None);
        }
        let opened = segments
            .open(meta, || meta.open(store, kind, cache, self.meter.clone()))
            .await;
        let Err(error) = opened else {
            return opened.map(Some);
        };
        match (damaged.note(&error), &self.left_out) {
            (Some(id), Some(left_out)) => {
                left_out.add(id, error.to_string());
                Ok(None)
            }
            _ => Err(error),
        }
    }

    /// Reads a unit of a scan, and remembers damage that it meets.
    pub async fn read(&self, unit: &ScanUnit) -> Result<SortedRows, SegmentError> {
        let rows = unit.read_counted(self.meter.as_ref()).await;
        if let Err(error) = &rows
            && let Some(id) = self.inner.damaged.note(error)
        {
            // Its footer may have been read from the damaged file as well.
            self.inner.segments.forget(id);
        }
        rows
    }

    /// Plans the reading of a table. A table that does not exist has no units.
    pub async fn scan(
        &self,
        database: &str,
        table: &str,
        request: ScanRequest,
    ) -> Result<ScanPlan, SegmentError> {
        // In a box, as futures around it are deep.
        let plan = self.scan_with_tags(database, table, request, None).boxed();
        Ok(plan.await?.unwrap_or_default())
    }

    /// The same, or `None` if so many tags are expected and the table has more.
    pub async fn scan_with_tags(
        &self,
        database: &str,
        table: &str,
        mut request: ScanRequest,
        tags: Option<usize>,
    ) -> Result<Option<ScanPlan>, SegmentError> {
        match self.sources(database, table, request.range).await? {
            Some(found) if tags.is_some_and(|tags| found.schema.tags().count() > tags) => Ok(None),
            Some(found) => {
                request.range = request.range.intersect(&found.kept);
                let (late, meter) = (request.clone(), self.meter.as_ref());
                let plan = plan(found.schema.kind, found.sources, request, meter).await?;
                self.late_scans().note(database, table, late, &plan);
                Ok(Some(plan))
            }
            None => Ok(Some(ScanPlan::default())),
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
        let request = ScanRequest {
            fields: Arc::<[Column]>::from([]),
            matchers: matchers.to_vec(),
            range,
            edge: None,
        };
        let plan = self.scan(database, table, request).await?;
        Ok(plan
            .units
            .iter()
            .flat_map(|unit| unit.series().cloned())
            .collect())
    }

    /// Names of labels or values of a label that series of a table have which pass all matchers,
    /// with [what counts of a segment](Source::label_texts); a list for each source.
    pub async fn label_texts(
        &self,
        database: &str,
        table: &str,
        texts: LabelTexts<'_>,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<Vec<String>>, SegmentError> {
        let Some(found) = self.sources(database, table, range).await? else {
            return Ok(Vec::new());
        };
        let meter = self.meter.as_ref();
        let lists = found
            .sources
            .iter()
            .map(|source| source.label_texts(texts, matchers, range, found.kept, meter));
        let lists: Vec<_> = lists.collect();
        stream::iter(lists)
            .buffered(OPEN_AT_ONCE)
            .try_collect()
            .await
    }

    /// Whether any series of a table passes all matchers, with the same rules.
    pub async fn has_series(
        &self,
        database: &str,
        table: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<bool, SegmentError> {
        let Some(found) = self.sources(database, table, range).await? else {
            return Ok(false);
        };
        for source in &found.sources {
            let meter = self.meter.as_ref();
            if source
                .has_series(matchers, range, found.kept, meter)
                .await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Names of the metrics in the metrics table, ascending.
    pub async fn metric_names(&self, database: &str) -> Result<Vec<String>, SegmentError> {
        let texts = LabelTexts::Values(METRIC_NAME);
        let lists = self
            .label_texts(database, METRICS_TABLE, texts, &[], TimeRange::ALL)
            .await?;
        let names: BTreeSet<String> = lists.into_iter().flatten().collect();
        Ok(names.into_iter().collect())
    }
}
