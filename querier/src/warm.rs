//! Warms caches: has new segments read as queries lately read those that they replace.
//!
//! A flush or a merge makes files that no cache knows, and the first query of each of them would
//! open and decode what it needs while somebody waits. So scans are remembered, and made once more
//! over new segments before a commit adds these. Scans that read much are not: who asks them waits
//! anyway.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use parking_lot::Mutex;
use tidelake_catalog::Readers;
use tidelake_catalog::memory::Share;
use tidelake_catalog::model::TableKind;
use tidelake_catalog::segment::scan::{ScanPlan, ScanRequest, ScanUnit, Source, plan};
use tidelake_catalog::segment::{SegmentError, WriteOrder};
use tidelake_catalog::snapshot::{SegmentMeta, Snapshot};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::tables::Tables;

/// Scans that are remembered, at most: the panels of a few dashboards.
const SCANS: usize = 256;
/// How long, unless they are made again.
const LATELY: Duration = Duration::from_secs(300);
/// Rows of a scan that is remembered, at most: those of a query that does not count as heavy.
const SCAN_ROWS: u64 = 1 << 20;
/// Rows that are read of new segments, at most: about 200 ms of a processor.
const WARM_ROWS: u64 = 1 << 23;
/// How long a commit waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of a value or a time.
const VALUE_BYTES: u64 = 8;

/// A scan that was made.
#[derive(Debug, Clone)]
struct Made {
    database: Arc<str>,
    table: Arc<str>,
    request: ScanRequest,
    at: Instant,
}

impl Made {
    fn reads(&self, segment: &SegmentMeta) -> bool {
        (&self.database, &self.table) == (&segment.database, &segment.table)
            && self.request.range.overlaps(&segment.time)
    }
}

/// The scans of late, by a hash of what they read.
#[derive(Debug, Default)]
pub(crate) struct LateScans {
    made: Mutex<HashMap<u64, Made>>,
    hashes: DefaultHashBuilder,
}

impl LateScans {
    /// Remembers a scan and how it was planned.
    pub(crate) fn note(&self, database: &str, table: &str, request: ScanRequest, plan: &ScanPlan) {
        let rows: u64 = plan.units.iter().map(ScanUnit::rows_bound).sum();
        if rows == 0 || rows > SCAN_ROWS {
            return;
        }
        let hash = self.hash(database, table, &request);
        let now = Instant::now();
        let mut made = self.made.lock();
        if let Some(known) = made.get_mut(&hash) {
            (known.request.range, known.at) = (request.range, now);
            return;
        }
        if made.len() >= SCANS {
            // Half of them, so that not every further one looks at all.
            let mut times: Vec<Instant> = made.values().map(|made| made.at).collect();
            let (_, middle, _) = times.select_nth_unstable(SCANS / 2);
            let middle = *middle;
            made.retain(|_, made| made.at > middle);
        }
        let new = Made {
            database: database.into(),
            table: table.into(),
            request,
            at: now,
        };
        made.insert(hash, new);
    }

    /// What a scan reads, except for its times: those of a dashboard move on.
    fn hash(&self, database: &str, table: &str, request: &ScanRequest) -> u64 {
        let mut hasher = self.hashes.build_hasher();
        (database, table).hash(&mut hasher);
        for field in &*request.fields {
            field.name.hash(&mut hasher);
        }
        for matcher in &request.matchers {
            (&matcher.name, matcher.op, &matcher.value).hash(&mut hasher);
        }
        request.edge.is_some().hash(&mut hasher);
        hasher.finish()
    }

    /// Those of late, the last one first.
    fn all(&self) -> Vec<Made> {
        let mut made = self.made.lock();
        made.retain(|_, made| made.at.elapsed() < LATELY);
        let mut all: Vec<Made> = made.values().cloned().collect();
        drop(made);
        all.sort_unstable_by_key(|made| Reverse(made.at));
        all
    }

    /// Those that would read any of some segments.
    fn over(&self, segments: &[SegmentMeta]) -> Vec<Made> {
        let mut made = self.all();
        made.retain(|made| segments.iter().any(|segment| made.reads(segment)));
        made
    }
}

/// Readers of the tables of a process, for as long as there are any.
pub(crate) struct WarmReaders(pub Box<dyn Fn() -> Option<Tables> + Send + Sync>);

impl std::fmt::Debug for WarmReaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WarmReaders")
    }
}

impl Readers for WarmReaders {
    fn prepare(&self, added: &[SegmentMeta]) -> BoxFuture<'static, ()> {
        let tables = (self.0)();
        let wanted = tables.and_then(|tables| {
            let scans = tables.late_scans().over(added);
            (!scans.is_empty()).then(|| (tables, scans, added.to_vec()))
        });
        async {
            if let Some((tables, scans, added)) = wanted {
                tables.warm(scans, added).await;
            }
        }
        .boxed()
    }
}

/// Warms caches for the segments of other processes when they are known here.
pub(crate) async fn warm_followed(
    mut news: watch::Receiver<Arc<Snapshot>>,
    tables: impl Fn() -> Option<Tables>,
) {
    let mut known = HashSet::new();
    while news.changed().await.is_ok() {
        let snapshot = Arc::clone(&news.borrow_and_update());
        let Some(tables) = tables() else { return };
        let scans = tables.late_scans().all();
        let mut read = HashSet::new();
        let mut added = Vec::new();
        for Made {
            database,
            table,
            request,
            ..
        } in &scans
        {
            let table = snapshot.table(database, table);
            for segment in table
                .into_iter()
                .flat_map(|table| table.segments(request.range))
            {
                let is_new = read.insert(segment.id) && !known.contains(&segment.id);
                if is_new && !tables.is_open(segment.id) {
                    added.push(SegmentMeta::clone(segment));
                }
            }
        }
        known = read;
        if !added.is_empty() {
            tables.warm(scans, added).await;
        }
    }
}

impl Tables {
    /// Has caches know of segments what scans of late would read of them, as far as that is
    /// possible in a few seconds. What fails here fails again where somebody is told.
    async fn warm(&self, scans: Vec<Made>, segments: Vec<SegmentMeta>) {
        let warm = self.warm_for(&scans, &segments);
        match tokio::time::timeout(PATIENCE, warm).await {
            Ok(Ok(rows)) => tracing::debug!(scans = scans.len(), rows, "caches are warm"),
            Ok(Err(error)) => tracing::debug!(%error, "caches are not warmed further"),
            Err(_) => tracing::debug!("caches are not warmed further: it takes too long"),
        }
    }

    async fn warm_for(
        &self,
        scans: &[Made],
        segments: &[SegmentMeta],
    ) -> Result<u64, SegmentError> {
        let snapshot = self.snapshot();
        let mut read = 0;
        for made in scans {
            let Some(table) = snapshot.table(&made.database, &made.table) else {
                continue;
            };
            let kind = table.schema.kind;
            let mut sources = Vec::new();
            for segment in segments.iter().filter(|segment| made.reads(segment)) {
                let order = WriteOrder::of(segment.order);
                let opened = self.open(segment, kind).await?;
                sources.extend(opened.map(|opened| Source::Segment(order, [].into(), opened)));
            }
            let left = WARM_ROWS - read;
            read += self
                .warm_scan(kind, sources, made.request.clone(), left)
                .await?;
            if read >= WARM_ROWS {
                break;
            }
        }
        Ok(read)
    }

    /// Reads what a scan wants of some segments, and forgets it: caches have it then.
    async fn warm_scan(
        &self,
        kind: TableKind,
        sources: Vec<Source>,
        request: ScanRequest,
        most_rows: u64,
    ) -> Result<u64, SegmentError> {
        let columns = 1 + request.fields.len() as u64;
        let planned = plan(kind, sources, request, None).await?;
        let mut read = 0;
        for unit in &planned.units {
            let rows = unit.rows_bound();
            if read + rows > most_rows {
                return Ok(most_rows);
            }
            let bytes = rows.saturating_mul(columns * VALUE_BYTES);
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let _held = self.memory().try_reserve(Share::Queries, bytes)?;
            unit.read().await?;
            read += rows;
        }
        Ok(read)
    }
}
