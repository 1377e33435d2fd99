//! States with a few tables only, for another process that reads them as they are here.

use std::sync::Arc;

use bytes::Bytes;

use super::{Snapshot, Table};
use crate::model::TimeRange;
use crate::record::{Checkpoint, envelope};
use crate::store::StoreError;

impl Snapshot {
    /// Adds a table of another state, with the segments that may hold rows of a range.
    pub fn add_table(&mut self, from: &Snapshot, database: &str, table: &str, range: TimeRange) {
        let Some(there) = from.database(database) else {
            return;
        };
        let Some(found) = there.table(table) else {
            return;
        };
        let mut part = Table {
            days: Default::default(),
            ..Table::clone(found)
        };
        for segment in found.segments(range) {
            let day = part.days.entry(segment.day).or_default();
            Arc::make_mut(day).push(Arc::clone(segment));
        }
        let here = self
            .databases
            .entry(Arc::clone(&there.name))
            .or_insert_with(|| {
                Arc::new(super::Database {
                    tables: Default::default(),
                    metadata: Arc::default(),
                    ..super::Database::clone(there)
                })
            });
        let tables = &mut Arc::make_mut(here).tables;
        tables.insert(Arc::clone(&part.name), Arc::new(part));
        self.sequence = self.sequence.max(from.sequence);
    }

    /// A state without tables, as if its last commit had been made then (ms since 1970).
    pub fn empty_at(time_ms: i64) -> Self {
        Self {
            time_ms,
            ..Self::default()
        }
    }

    /// The state in the bytes of a checkpoint.
    pub fn to_bytes(&self) -> Bytes {
        envelope::seal(&Checkpoint::from_snapshot(self))
    }

    /// The state that bytes of [`to_bytes`](Self::to_bytes) have.
    ///
    /// # Errors
    /// If they are damaged, or of a newer program.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let what = "a state of the catalog that another process sent";
        let message: Checkpoint = envelope::open(what, bytes)?;
        let snapshot = message.to_snapshot();
        snapshot.map_err(|error| StoreError::Corrupt {
            key: what.to_owned(),
            reason: error.to_string(),
        })
    }
}
