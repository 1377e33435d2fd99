//! States of tables that do not move: of the past, or as another process sees them now.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::snapshot::Snapshot;
use tokio::sync::OnceCell;

use super::recent::RecentChunk;

/// What was in segments, and beside them in chunks.
#[derive(Debug, Clone)]
pub struct State {
    /// The catalog. What is expired is expired as of its time.
    pub snapshot: Arc<Snapshot>,
    /// Chunks of recent rows of tables.
    pub recent: Vec<StateChunks>,
}

impl State {
    /// What was in segments and nothing else.
    pub fn of(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            recent: Vec::new(),
        }
    }

    /// The chunks of a table.
    pub(super) fn chunks(&self, database: &str, table: &str, range: TimeRange) -> Vec<RecentChunk> {
        let is_it =
            |of: &&StateChunks| (&*of.database, &*of.table, of.range) == (database, table, range);
        let found = self.recent.iter().find(is_it);
        found.map(|of| of.chunks.clone()).unwrap_or_default()
    }
}

/// Chunks of recent rows of a table, with times in a range.
#[derive(Debug, Clone)]
pub struct StateChunks {
    /// Of which table.
    pub database: String,
    /// Of which table.
    pub table: String,
    /// What was asked for.
    pub range: TimeRange,
    /// What there was.
    pub chunks: Vec<RecentChunk>,
}

/// Notes what a query reads, so that another process can read the same.
#[derive(Debug)]
pub(super) struct StateNotes {
    /// As of when what is expired is expired, in ms since 1970.
    pub now_ms: i64,
    tables: Mutex<Vec<Noted>>,
}

/// What is read of a table: all that ask for it get the same.
#[derive(Debug)]
struct Noted {
    database: String,
    table: String,
    range: TimeRange,
    read: Arc<OnceCell<TableState>>,
}

/// Chunks of recent rows of a table, and a catalog that has all its other rows.
pub(super) type TableState = (Vec<RecentChunk>, Arc<Snapshot>);

impl StateNotes {
    /// Nothing yet.
    pub(super) fn new(now_ms: i64) -> Self {
        Self {
            now_ms,
            tables: Mutex::default(),
        }
    }

    /// What is read of a table in a range, once it is.
    pub(super) fn of(
        &self,
        database: &str,
        table: &str,
        range: TimeRange,
    ) -> Arc<OnceCell<TableState>> {
        let mut tables = self.tables.lock();
        let is_it = |noted: &&Noted| {
            (&*noted.database, &*noted.table, noted.range) == (database, table, range)
        };
        if let Some(noted) = tables.iter().find(is_it) {
            return Arc::clone(&noted.read);
        }
        let read = Arc::<OnceCell<_>>::default();
        tables.push(Noted {
            database: database.to_owned(),
            table: table.to_owned(),
            range,
            read: Arc::clone(&read),
        });
        read
    }

    /// What was read. `None` if a table changed between readings of several ranges.
    pub(crate) fn state(&self) -> Option<State> {
        let tables = self.tables.lock();
        let mut found: BTreeMap<_, (&Arc<Snapshot>, Vec<TimeRange>)> = BTreeMap::new();
        let mut recent = Vec::with_capacity(tables.len());
        for noted in &*tables {
            let (database, table) = (&*noted.database, &*noted.table);
            let (chunks, there) = noted.read.get()?;
            let (first, ranges) = found
                .entry((database, table))
                .or_insert_with(|| (there, Vec::new()));
            let as_in = |snapshot: &Snapshot| snapshot.table(database, table).map(Arc::as_ptr);
            if as_in(first) != as_in(there) {
                return None;
            }
            ranges.push(noted.range);
            recent.push(StateChunks {
                database: database.to_owned(),
                table: table.to_owned(),
                range: noted.range,
                chunks: chunks.clone(),
            });
        }
        let mut snapshot = Snapshot::empty_at(self.now_ms);
        for ((database, table), (there, ranges)) in found {
            if !snapshot.add_table(there, database, table, &ranges) {
                return None;
            }
        }
        Some(State {
            snapshot: Arc::new(snapshot),
            recent,
        })
    }
}
