//! States of tables that do not move: of the past, or as another process sees them now.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::snapshot::Snapshot;

use super::recent::RecentChunk;

/// What was in segments, and beside them in chunks.
#[derive(Debug, Clone)]
pub struct State {
    /// The catalog. What is expired is expired as of its time.
    pub snapshot: Arc<Snapshot>,
    /// Chunks of recent rows, by database and table.
    pub recent: HashMap<(String, String), Vec<RecentChunk>>,
}

impl State {
    /// What was in segments and nothing else.
    pub fn of(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            recent: HashMap::new(),
        }
    }

    /// The chunks of a table.
    pub(super) fn chunks(&self, database: &str, table: &str) -> Vec<RecentChunk> {
        let key = (database.to_owned(), table.to_owned());
        self.recent.get(&key).cloned().unwrap_or_default()
    }
}

/// Notes what a query reads, so that another process can read the same.
#[derive(Debug)]
pub struct StateNotes {
    /// As of when what is expired is expired, in ms since 1970.
    pub(super) now_ms: i64,
    tables: Mutex<Vec<Noted>>,
}

#[derive(Debug)]
struct Noted {
    database: String,
    table: String,
    range: TimeRange,
    snapshot: Arc<Snapshot>,
    chunks: Vec<RecentChunk>,
}

impl StateNotes {
    /// Nothing yet.
    pub(super) fn new(now_ms: i64) -> Self {
        Self {
            now_ms,
            tables: Mutex::default(),
        }
    }

    /// What was noted of a table for the same range.
    pub(super) fn get(
        &self,
        database: &str,
        table: &str,
        range: TimeRange,
    ) -> Option<(Vec<RecentChunk>, Arc<Snapshot>)> {
        let tables = self.tables.lock();
        let is_it = |noted: &&Noted| {
            (&*noted.database, &*noted.table, noted.range) == (database, table, range)
        };
        let noted = tables.iter().find(is_it)?;
        Some((noted.chunks.clone(), Arc::clone(&noted.snapshot)))
    }

    pub(super) fn note(
        &self,
        (database, table): (&str, &str),
        range: TimeRange,
        chunks: &[RecentChunk],
        snapshot: &Arc<Snapshot>,
    ) {
        self.tables.lock().push(Noted {
            database: database.to_owned(),
            table: table.to_owned(),
            range,
            snapshot: Arc::clone(snapshot),
            chunks: chunks.to_vec(),
        });
    }

    /// What was read. `None` if a table was read for several ranges: there may be several states of
    /// it.
    pub(crate) fn state(&self) -> Option<State> {
        let tables = self.tables.lock();
        let mut snapshot = Snapshot::empty_at(self.now_ms);
        let mut recent = HashMap::new();
        for noted in &*tables {
            let (database, table) = (&noted.database, &noted.table);
            snapshot.add_table(&noted.snapshot, database, table, noted.range);
            let known = recent.insert((database.clone(), table.clone()), noted.chunks.clone());
            if known.is_some() {
                return None;
            }
        }
        Some(State {
            snapshot: Arc::new(snapshot),
            recent,
        })
    }
}
