//! What is on a store: the catalog, segments, files that no commit names, write-ahead logs.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::TryStreamExt;
use serde_json::json;
use tidelake_catalog::snapshot::{Node, Roles, SegmentId, Snapshot, WalPosition};
use tidelake_catalog::store::{Store, StoreError};
use tidelake_catalog::{Catalog, CatalogError, Environment, keys};
use tidelake_compactor::policy;
use tokio::time::Instant;

use super::report::{Check, Report};
use super::{LONG_LIMIT, load_catalog, size, thousands, time, within};
use crate::config::Config;

/// Names that a line shows.
const MAX_NAMES: usize = 8;
/// Days whose tables are those that are written to.
const WRITTEN_DAYS: i64 = 2;
/// Flush intervals after which rows should be in segments.
const LATE_FLUSHES: u64 = 3;
/// A log whose newest objects a flush did not cover has a mark and a fence in it.
const MAX_IDLE_OBJECTS: u64 = 2;

/// What the bill is made of.
#[derive(Debug, Default)]
pub struct Contents {
    /// Bytes of all objects.
    pub bytes: u64,
    /// Nodes that work on it.
    pub processes: u64,
    /// Those of them that take writes.
    pub ingesters: u64,
    /// Tables that were written to lately.
    pub tables: u64,
}

/// Looks at everything; `None` if the catalog or the listings cannot be read.
pub async fn check(
    store: &Store,
    config: &Config,
    environment: &Environment,
    report: &mut Report<'_>,
) -> Option<Contents> {
    let is_folder = store.folder().is_some();
    let began = Instant::now();
    let loaded = match tokio::time::timeout(LONG_LIMIT, load_catalog(store)).await {
        Ok(Ok(catalog)) => Ok(catalog),
        Ok(Err(CatalogError::Store(error))) => Err(error),
        Ok(Err(error)) => {
            report.add(Check::error("catalog", error, "run tidelake verify"));
            return None;
        }
        Err(_) => Err(StoreError::Unavailable {
            key: keys::LOG.to_owned(),
            reason: format!("it was not read within {} s", LONG_LIMIT.as_secs()),
        }),
    };
    let catalog = match loaded {
        Ok(catalog) => catalog,
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Missing { .. })) => {
            report.add(Check::error("catalog", error, "run tidelake verify"));
            return None;
        }
        Err(error) => {
            report.add(Check::refused("catalog", &error, is_folder, "s3:GetObject"));
            return None;
        }
    };
    let snapshot = catalog.snapshot();
    report.add(describe(&snapshot).with(json!({
        "sequence": snapshot.sequence(),
        "nodes": working(&snapshot).map(|node| &*node.name).collect::<Vec<_>>(),
        "load_ms": began.elapsed().as_millis() as u64,
    })));
    report.add(segments(&snapshot, config));

    let now_ms = environment.now_ms();
    let mut contents = Contents {
        processes: working(&snapshot).count() as u64,
        ingesters: snapshot.nodes().filter(|node| node.takes_writes()).count() as u64,
        tables: written_tables(&snapshot, now_ms),
        ..Contents::default()
    };
    let mut add = |check: Result<(Check, u64), StoreError>| match check {
        Ok((check, bytes)) => {
            report.add(check);
            contents.bytes += bytes;
            true
        }
        Err(error) => {
            report.add(Check::refused(
                "listing",
                &error,
                is_folder,
                "s3:ListBucket",
            ));
            false
        }
    };
    let is_listed = add(within(LONG_LIMIT, files(&catalog, now_ms)).await);
    let logs = within(LONG_LIMIT, write_ahead_logs(&catalog, config, now_ms)).await;
    let is_listed = add(logs) && is_listed;
    let of_catalog = within(LONG_LIMIT, sum(store, "catalog")).await;
    contents.bytes += of_catalog.unwrap_or_default();
    is_listed.then_some(contents)
}

/// Nodes that have not ended cleanly; they may have been killed.
fn working(snapshot: &Snapshot) -> impl Iterator<Item = &Node> {
    let nodes = snapshot.nodes().map(|node| &**node);
    nodes.filter(|node| !node.has_left && node.roles != Roles::NONE)
}

fn describe(snapshot: &Snapshot) -> Check {
    if snapshot.sequence() == 0 {
        return Check::ok(
            "catalog",
            "there is none: no server has run on this store yet",
        );
    }
    let names: Vec<String> = working(snapshot)
        .map(|node| format!("{} ({})", node.name, node.roles))
        .collect();
    let more = names.len().saturating_sub(MAX_NAMES);
    let mut shown = match names.is_empty() {
        true => "none at work".to_owned(),
        false => names[..names.len() - more].join(", "),
    };
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    let time = chrono::DateTime::from_timestamp_millis(snapshot.time_ms()).unwrap_or_default();
    let tables: usize = snapshot.databases().map(|db| db.tables.len()).sum();
    let seen = format!(
        "commit {} of {}; {} databases, {tables} tables; nodes: {shown}",
        snapshot.sequence(),
        time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        snapshot.databases().count(),
    );
    Check::ok("catalog", seen)
}

fn segments(snapshot: &Snapshot, config: &Config) -> Check {
    const NAME: &str = "segments";
    let mut levels = BTreeMap::<u8, (u64, u64)>::new();
    let mut rows = 0u64;
    for segment in snapshot.segments() {
        let (count, bytes) = levels.entry(segment.level).or_default();
        *count += 1;
        *bytes += segment.data_bytes + segment.index_bytes;
        rows += segment.rows;
    }
    let count: u64 = levels.values().map(|(count, _)| count).sum();
    let bytes: u64 = levels.values().map(|(_, bytes)| bytes).sum();
    let by_level: Vec<String> = levels
        .iter()
        .map(|(level, (count, bytes))| format!("level {level}: {count} ({})", size(*bytes)))
        .collect();
    let mut seen = format!("{count} with {} rows, {}", thousands(rows), size(bytes));
    if !by_level.is_empty() {
        seen = format!("{seen}; {}", by_level.join(", "));
    }
    let backlog = policy::backlog(snapshot, &HashSet::new());
    let check = match backlog > config.max_fresh_segments / 2 {
        true => {
            let limit = config.max_fresh_segments;
            let seen = format!("{seen}; {backlog} of one table and day wait for a merge");
            let advice = format!(
                "see that a server merges: writes get 503 beyond {limit} (max_fresh_segments)"
            );
            Check::warning(NAME, seen, &advice)
        }
        false => Check::ok(NAME, seen),
    };
    let levels: BTreeMap<String, _> = levels
        .into_iter()
        .map(|(level, (count, bytes))| {
            (
                level.to_string(),
                json!({ "segments": count, "bytes": bytes }),
            )
        })
        .collect();
    check.with(json!({
        "segments": count, "rows": rows, "bytes": bytes, "levels": levels, "backlog": backlog,
    }))
}

/// Files below `data/` and their bytes, as far as the catalog names them.
async fn files(catalog: &Catalog, now_ms: i64) -> Result<(Check, u64), StoreError> {
    #[derive(Default)]
    struct Sum(u64, u64);
    impl Sum {
        fn add(&mut self, bytes: u64) {
            self.0 += 1;
            self.1 += bytes;
        }
    }
    let named = |snapshot: &Snapshot| -> HashSet<SegmentId> {
        let live = snapshot.segments().map(|segment| segment.id);
        live.chain(snapshot.retired().map(|retired| retired.segment.id))
            .collect()
    };
    let before = named(&catalog.snapshot());
    let (mut all, mut unnamed, mut foreign) = (Sum::default(), Vec::new(), 0u64);
    let mut listing = catalog.store().list(keys::DATA);
    while let Some(info) = listing.try_next().await? {
        all.add(info.bytes);
        match keys::parse_segment(&info.key) {
            Some(id) if before.contains(&id) => {}
            Some(id) => unnamed.push((id, info.bytes)),
            None => foreign += 1,
        }
    }
    // After the listing: what was committed meanwhile is named.
    let snapshot = match catalog.refresh().await {
        Ok(snapshot) => snapshot,
        Err(CatalogError::Store(error)) => return Err(error),
        // `verify` says what is wrong with the log.
        Err(_) => catalog.snapshot(),
    };
    let after = named(&snapshot);
    let (mut orphans, mut young) = (Sum::default(), Sum::default());
    for (id, bytes) in unnamed.into_iter().filter(|(id, _)| !after.contains(id)) {
        match id.is_orphan(now_ms.max(0) as u64) {
            true => orphans.add(bytes),
            false => young.add(bytes),
        }
    }
    let retired = snapshot.retired().count();
    let seen = format!(
        "{} files of data, {}: {} orphans ({}) of more than a day, {} files of less than a day await \
         their commit; {retired} replaced segments await their deletion",
        all.0,
        size(all.1),
        orphans.0,
        size(orphans.1),
        young.0,
    );
    const NAME: &str = "orphans";
    let check = if orphans.0 > 0 {
        let advice =
            "let a server run, which deletes them within hours; tidelake verify names them";
        Check::warning(NAME, seen, advice)
    } else if foreign > 0 {
        let seen = format!("{seen}; {foreign} files are no segments");
        Check::warning(NAME, seen, "tidelake verify names them; move them away")
    } else {
        Check::ok(NAME, seen)
    };
    let figures = json!({
        "files": all.0, "bytes": all.1, "orphans": orphans.0, "orphan_bytes": orphans.1,
        "young": young.0, "foreign": foreign, "retired_segments": retired,
    });
    Ok((check.with(figures), all.1))
}

/// What waits of one node.
#[derive(Debug, Default, Clone, Copy)]
struct Waiting {
    objects: u64,
    bytes: u64,
    oldest_ms: i64,
}

async fn write_ahead_logs(
    catalog: &Catalog,
    config: &Config,
    now_ms: i64,
) -> Result<(Check, u64), StoreError> {
    const NAME: &str = "write-ahead log";
    // Before the listing: a position that moves meanwhile makes more wait, never less.
    let snapshot = catalog.snapshot();
    let nodes: HashMap<String, _> = snapshot
        .nodes()
        .map(|node| (keys::folder(&node.name), node))
        .collect();
    let mut all_bytes = 0;
    let mut waiting = BTreeMap::<&str, Waiting>::new();
    let mut listing = catalog.store().list(keys::WAL);
    while let Some(info) = listing.try_next().await? {
        all_bytes += info.bytes;
        let folder = info.key.split('/').nth(1).unwrap_or_default();
        let Some(node) = nodes.get(folder) else {
            continue;
        };
        let of_node = waiting.entry(&*node.name).or_default();
        let Some((epoch, next_seq)) = keys::parse_wal_object(&node.name, &info.key) else {
            continue;
        };
        if (WalPosition { epoch, next_seq }) < node.wal {
            continue;
        }
        of_node.oldest_ms = match of_node.objects {
            0 => info.modified_ms,
            _ => of_node.oldest_ms.min(info.modified_ms),
        };
        of_node.objects += 1;
        of_node.bytes += info.bytes;
    }
    let objects: u64 = waiting.values().map(|waiting| waiting.objects).sum();
    let bytes: u64 = waiting.values().map(|waiting| waiting.bytes).sum();
    let seen = format!(
        "{} objects ({}) of {} nodes wait to become segments",
        thousands(objects),
        size(bytes),
        waiting.len()
    );
    let late_ms = config.flush_interval_ms.saturating_mul(LATE_FLUSHES);
    let late = waiting.iter().filter(|(_, waiting)| {
        let age_ms = now_ms.saturating_sub(waiting.oldest_ms);
        waiting.objects > MAX_IDLE_OBJECTS && age_ms > i64::try_from(late_ms).unwrap_or(i64::MAX)
    });
    let late: Vec<&str> = late.map(|(node, _)| *node).collect();
    let check = match late.first() {
        Some(node) => {
            let of_node = waiting.get(node).copied().unwrap_or_default();
            let age_ms = u64::try_from(now_ms.saturating_sub(of_node.oldest_ms)).unwrap_or(0);
            let seen = format!(
                "{seen}; those of node {node:?} for {}{}",
                time(std::time::Duration::from_millis(age_ms)),
                match late.len() {
                    1 => String::new(),
                    count => format!(", and of {} more nodes", count - 1),
                }
            );
            let advice = "start the node, which replays and flushes them, or see in its log why it \
                          does not flush";
            Check::warning(NAME, seen, advice)
        }
        None => Check::ok(NAME, seen),
    };
    let figures = json!({ "objects": objects, "bytes": bytes, "late_nodes": late });
    Ok((check.with(figures), all_bytes))
}

async fn sum(store: &Store, folder: &str) -> Result<u64, StoreError> {
    store
        .list(folder)
        .try_fold(0, async |sum, info| Ok(sum + info.bytes))
        .await
}

/// Tables that have rows of the last days, at least one.
fn written_tables(snapshot: &Snapshot, now_ms: i64) -> u64 {
    let today = now_ms.div_euclid(24 * 3_600_000);
    let tables = snapshot.databases().flat_map(|db| db.tables.values());
    let written = tables.filter(|table| {
        let last = table.days.keys().next_back();
        last.is_some_and(|day| day.0 > today - WRITTEN_DAYS)
    });
    (written.count() as u64).max(1)
}
