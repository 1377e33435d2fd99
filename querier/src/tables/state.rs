//! States of tables that do not move: of the past, or as another process sees them now.

use std::collections::HashMap;
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

    /// What was read. `None` if a table was read for several ranges: there may be several states of
    /// it.
    pub(crate) fn state(&self) -> Option<State> {
        let tables = self.tables.lock();
        let mut snapshot = Snapshot::empty_at(self.now_ms);
        let mut recent = HashMap::new();
        for noted in &*tables {
            let (database, table) = (&noted.database, &noted.table);
            let (chunks, there) = noted.read.get()?;
            snapshot.add_table(there, database, table, noted.range);
            let known = recent.insert((database.clone(), table.clone()), chunks.clone());
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
