//! States with a few tables only, for another process that reads them as they are here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Database, Snapshot, Table};
use crate::model::TimeRange;
use crate::record::{Checkpoint, envelope};
use crate::store::StoreError;

impl Snapshot {
    /// Adds a table of another state, with the segments that may hold rows of any of these ranges.
    /// False if there is another state of its database already.
    pub fn add_table(
        &mut self,
        from: &Snapshot,
        database: &str,
        table: &str,
        ranges: &[TimeRange],
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
        let mut part = Table::clone(found);
        part.days.retain(|_, segments| {
            Arc::make_mut(segments)
                .retain(|segment| ranges.iter().any(|range| segment.time.overlaps(range)));
            !segments.is_empty()
        });
        let tables = &mut Arc::make_mut(here).tables;
        tables.insert(Arc::clone(&part.name), Arc::new(part));
        self.sequence = self.sequence.max(from.sequence);
        true
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Day, TableKind, TableSchema};
    use crate::snapshot::{Policies, Retention, SegmentId, SegmentMeta};

    const DAY_MS: i64 = 86_400_000;

    fn segment(id: u128, day: i64) -> Arc<SegmentMeta> {
        Arc::new(SegmentMeta {
            id: SegmentId::from_parts(1, id),
            database: "db".into(),
            table: "t".into(),
            table_id: 7,
            day: Day(day),
            level: 0,
            order: (1, 1),
            time: TimeRange::new(day * DAY_MS, day * DAY_MS + 9),
            rows: 10,
            series: 1,
            data_bytes: 1,
            index_bytes: 1,
            data_checksum: 1,
            index_tail_bytes: 1,
            index_checksum: 1,
            sort_tags: Arc::from([]),
            deletes_applied: 0,
        })
    }

    /// Table `t` with segments of days 1 to 3, two a day.
    fn state() -> Snapshot {
        let mut days = BTreeMap::new();
        for day in 1..=3 {
            let of_day = vec![
                segment(2 * day as u128, day),
                segment(2 * day as u128 + 1, day),
            ];
            days.insert(Day(day), Arc::new(of_day));
        }
        let table = Table {
            name: "t".into(),
            id: 7,
            schema: Arc::new(TableSchema::new(TableKind::Metrics)),
            retention: Retention::Inherit,
            tombstones: Arc::default(),
            days,
        };
        let database = Database {
            name: "db".into(),
            tables: BTreeMap::from([(Arc::from("t"), Arc::new(table))]),
            metadata: Arc::default(),
            retention: Retention::Forever,
            policies: Policies::default(),
        };
        Snapshot {
            sequence: 5,
            databases: BTreeMap::from([(Arc::from("db"), Arc::new(database))]),
            ..Snapshot::default()
        }
    }

    fn ids(state: &Snapshot) -> Vec<SegmentId> {
        state.segments().map(|segment| segment.id).collect()
    }

    #[test]
    fn a_part_has_the_segments_of_its_ranges_and_survives_bytes() {
        let all = state();
        let mut part = Snapshot::empty_at(99);
        let days = |first: i64, last: i64| TimeRange::new(first * DAY_MS, last * DAY_MS);
        assert!(part.add_table(&all, "db", "t", &[days(2, 2), days(2, 3)]));
        assert!(part.add_table(&all, "db", "unknown", &[days(1, 1)]));
        let expected: Vec<_> = (4..=7).map(|id| SegmentId::from_parts(1, id)).collect();
        assert_eq!(ids(&part), expected);
        assert_eq!((part.sequence(), part.time_ms()), (5, 99));
        let bytes = part.to_bytes();
        assert_eq!(Snapshot::from_bytes(&bytes).unwrap(), part);
        assert!(Snapshot::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_database_has_one_state() {
        let all = state();
        let mut later = all.clone();
        let database = later.databases.get_mut("db").unwrap();
        Arc::make_mut(database).retention = Retention::Millis(1);
        let mut part = Snapshot::empty_at(0);
        assert!(part.add_table(&all, "db", "t", &[TimeRange::ALL]));
        assert!(!part.add_table(&later, "db", "t", &[TimeRange::ALL]));
    }
}
