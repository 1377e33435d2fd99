//! States with a few tables only, for another process that reads them as they are here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Database, Snapshot, Table};
use crate::model::TimeRange;
use crate::record::{Checkpoint, envelope};
use crate::store::StoreError;

impl Snapshot {
    /// Adds a table of another state, with the segments that may hold rows of a range. False if it
    /// is there already and was another one then.
    pub fn add_table(
        &mut self,
        from: &Snapshot,
        database: &str,
        table: &str,
        range: TimeRange,
    ) -> bool {
        let Some(there) = from.database(database) else {
            return true;
        };
        let Some(found) = there.table(table) else {
            return true;
        };
        let here = self
            .databases
            .entry(Arc::clone(&there.name))
            .or_insert_with(|| {
                Arc::new(Database {
                    tables: BTreeMap::new(),
                    metadata: Arc::default(),
                    ..Database::clone(there)
                })
            });
        if (here.retention, &here.policies) != (there.retention, &there.policies) {
            return false;
        }
        let tables = &mut Arc::make_mut(here).tables;
        let part = tables.entry(Arc::clone(&found.name)).or_insert_with(|| {
            Arc::new(Table {
                days: BTreeMap::new(),
                ..Table::clone(found)
            })
        });
        let of = |table: &Table| (table.id, table.retention);
        let is_same = of(part) == of(found)
            && part.schema == found.schema
            && part.tombstones == found.tombstones;
        if !is_same {
            return false;
        }
        let days = &mut Arc::make_mut(part).days;
        for segment in found.segments(range) {
            let day = days.entry(segment.day).or_default();
            if !day.iter().any(|known| known.id == segment.id) {
                Arc::make_mut(day).push(Arc::clone(segment));
            }
        }
        // Of another state there may be segments that replace these.
        let is_whole = days.iter().all(|(day, segments)| {
            let there = found.days.get(day);
            let is_there = |segment: &Arc<super::SegmentMeta>| {
                there.is_some_and(|there| there.iter().any(|other| other.id == segment.id))
            };
            segments.iter().all(is_there)
        });
        for segments in days.values_mut() {
            // The order of the table's own list.
            Arc::make_mut(segments).sort_by_key(|segment| {
                let there = found.days.get(&segment.day);
                there.and_then(|there| there.iter().position(|other| other.id == segment.id))
            });
        }
        self.sequence = self.sequence.max(from.sequence);
        is_whole
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
