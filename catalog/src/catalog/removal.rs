//! What makes rows go: deletes, dropped tables and databases, retention.
//!
//! None of these touches a file. A delete is a tombstone, which readers apply at once and the
//! compactor in time; dropped segments are retired like those that a merge replaces.

use std::sync::Arc;

use super::{Catalog, CatalogError};
use crate::apply::{Refusal, needed_tombstones};
use crate::model::{Matcher, TimeRange, Tombstone};
use crate::record::convert;
use crate::record::{AddTombstones, DropDatabase, DropTable, ForgetTombstones, Kind, SetRetention};
use crate::snapshot::{Policies, Retention, Snapshot};

impl Catalog {
    /// Deletes the rows of a table that are in segments now, of the series that pass all matchers
    /// (every series without any), at the times of `range` (in the table's unit, both ends
    /// included). What is committed later is not deleted: whoever wants acknowledged rows to go
    /// must see to it that they are flushed before.
    ///
    /// After an error of the store the same can be asked for again: a second tombstone does no
    /// harm.
    pub async fn delete(
        &self,
        database: &str,
        table: &str,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        let tombstone = Tombstone {
            sequence: 0,
            time_ms: 0,
            matchers,
            range,
        };
        self.commit_as_node(|_| {
            Ok(vec![Kind::AddTombstones(AddTombstones {
                database: database.to_owned(),
                table: table.to_owned(),
                tombstones: vec![convert::tombstone_message(&tombstone)],
            })])
        })
        .await
    }

    /// Drops a table with all its rows. Rows that are buffered for it go when they are flushed.
    pub async fn drop_table(
        &self,
        database: &str,
        table: &str,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|_| {
            Ok(vec![Kind::DropTable(DropTable {
                database: database.to_owned(),
                table: table.to_owned(),
            })])
        })
        .await
    }

    /// Drops a database with all its tables.
    pub async fn drop_database(&self, database: &str) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|_| {
            Ok(vec![Kind::DropDatabase(DropDatabase {
                database: database.to_owned(),
            })])
        })
        .await
    }

    /// Sets how long rows of a database, or of one of its tables, are kept. What is set already
    /// makes no commit.
    pub async fn set_retention(
        &self,
        database: &str,
        table: Option<&str>,
        retention: Retention,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|snapshot| {
            let known = snapshot
                .database(database)
                .and_then(|database| match table {
                    Some(table) => database.table(table).map(|table| table.retention),
                    None => Some(database.retention),
                });
            if known == Some(retention) {
                return Ok(Vec::new());
            }
            let (database, table) = (database.to_owned(), table.unwrap_or_default().to_owned());
            Ok(vec![Kind::SetRetention(SetRetention {
                database,
                table,
                retention_ms: convert::retention_ms(retention),
            })])
        })
        .await
    }

    /// Names the retention policies of a database: its own, and the default one. What is set
    /// already makes no commit.
    pub async fn set_policies(
        &self,
        database: &str,
        policies: &Policies,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|snapshot| {
            let known = snapshot.database(database);
            if known.is_some_and(|known| known.policies == *policies) {
                return Ok(Vec::new());
            }
            Ok(vec![Kind::SetPolicies(convert::policies_record(
                database, policies,
            ))])
        })
        .await
    }

    /// Forgets the tombstones of all tables that no segment needs any more.
    pub async fn forget_tombstones(&self) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|snapshot| Ok::<_, Refusal>(unneeded_tombstones(snapshot)))
            .await
    }
}

fn unneeded_tombstones(snapshot: &Snapshot) -> Vec<Kind> {
    let mut changes = Vec::new();
    for database in snapshot.databases() {
        for table in database
            .tables
            .values()
            .filter(|table| !table.tombstones.is_empty())
        {
            let needed = needed_tombstones(table);
            let mut sequences: Vec<u64> = table
                .tombstones
                .iter()
                .map(|tombstone| tombstone.sequence)
                .collect();
            sequences.dedup();
            sequences.retain(|sequence| !needed.contains(sequence));
            if !sequences.is_empty() {
                let (database, table) = (database.name.to_string(), table.name.to_string());
                changes.push(Kind::ForgetTombstones(ForgetTombstones {
                    database,
                    table,
                    sequences,
                }));
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::super::tests::{columns, open, options, segment, wal};
    use super::*;
    use crate::model::{ColumnType, EXEMPLARS_TABLE, METRICS_TABLE, TableKind};
    use crate::snapshot::SegmentMeta;
    use crate::store::Store;

    /// A catalog with table `default.cpu`, and the id of that table.
    async fn with_table(store: &Store) -> (Catalog, u64) {
        let catalog = open(store, "n").await;
        let snapshot = catalog
            .ensure_columns(
                "default",
                &[columns(
                    "cpu",
                    TableKind::Wide,
                    &[("host", ColumnType::Tag)],
                )],
            )
            .await
            .unwrap();
        let id = snapshot.table("default", "cpu").unwrap().id;
        (catalog, id)
    }

    fn tombstones(snapshot: &Snapshot) -> Vec<u64> {
        snapshot
            .table("default", "cpu")
            .unwrap()
            .tombstones
            .iter()
            .map(|tombstone| tombstone.sequence)
            .collect()
    }

    #[tokio::test]
    async fn a_delete_concerns_what_was_committed_before_it_and_is_forgotten_when_applied() {
        let store = Store::memory();
        let (catalog, table_id) = with_table(&store).await;
        let segment = |id| SegmentMeta {
            table_id,
            ..segment(id)
        };
        catalog
            .commit_flush(wal(1, 1), &[segment(1)])
            .await
            .unwrap();
        let snapshot = catalog
            .delete(
                "default",
                "cpu",
                vec![Matcher::equal("host", "a")],
                TimeRange::new(0, 7),
            )
            .await
            .unwrap();
        let delete = snapshot.sequence();
        let snapshot = catalog
            .commit_flush(wal(1, 2), &[segment(2)])
            .await
            .unwrap();
        let table = snapshot.table("default", "cpu").unwrap();
        let concerned = |meta: &SegmentMeta| table.tombstones_of(meta).count();
        let metas: Vec<_> = snapshot.segments().collect();
        assert_eq!(
            metas.iter().map(|meta| concerned(meta)).collect::<Vec<_>>(),
            [1, 0]
        );
        assert_eq!(
            concerned(&SegmentMeta {
                time: TimeRange::new(8, 9),
                ..(**metas[0]).clone()
            }),
            0,
            "other times"
        );
        // Still needed: nothing is forgotten, and nobody can make it so.
        assert_eq!(
            tombstones(&catalog.forget_tombstones().await.unwrap()),
            [delete]
        );
        let forget = ForgetTombstones {
            database: "default".into(),
            table: "cpu".into(),
            sequences: vec![delete],
        };
        let error = catalog
            .commit_as_node(|_| Ok(vec![Kind::ForgetTombstones(forget.clone())]))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("is not applied to all segments"),
            "{error}"
        );
        // A merge that applied it.
        let merged = SegmentMeta {
            order: metas[0].order,
            deletes_applied: delete,
            ..segment(3)
        };
        catalog
            .commit_compaction(&[metas[0].reference()], &[merged])
            .await
            .unwrap();
        let snapshot = catalog.forget_tombstones().await.unwrap();
        assert!(tombstones(&snapshot).is_empty());
        assert_eq!(
            catalog.forget_tombstones().await.unwrap().sequence(),
            snapshot.sequence(),
            "nothing to forget, no commit"
        );
        let again = Catalog::load(store, options()).await.unwrap();
        assert_eq!(*again.snapshot(), *snapshot);
    }

    #[tokio::test]
    async fn deletes_are_bounded_and_checked() {
        let (catalog, table_id) = with_table(&Store::memory()).await;
        let delete = async |range| catalog.delete("default", "cpu", Vec::new(), range).await;
        let error = delete(TimeRange::new(1, 0)).await.unwrap_err();
        assert!(error.to_string().contains("deletes nothing"), "{error}");
        assert!(
            catalog
                .delete("default", "mem", Vec::new(), TimeRange::ALL)
                .await
                .unwrap_err()
                .to_string()
                .contains("does not exist")
        );
        catalog
            .commit_flush(
                wal(1, 1),
                &[SegmentMeta {
                    table_id,
                    ..segment(1)
                }],
            )
            .await
            .unwrap();
        for _ in 0..crate::apply::MAX_TOMBSTONES {
            delete(TimeRange::new(0, 7)).await.unwrap();
        }
        let error = delete(TimeRange::new(0, 7)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("1000 deletes that are not applied yet"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_dropped_table_leaves_nothing_and_takes_late_flushes_and_merges_with_it() {
        let (catalog, table_id) = with_table(&Store::memory()).await;
        let old = |id| SegmentMeta {
            table_id,
            ..segment(id)
        };
        let snapshot = catalog.commit_flush(wal(1, 1), &[old(1)]).await.unwrap();
        let input = snapshot.segments().next().unwrap().reference();
        let snapshot = catalog.drop_table("default", "cpu").await.unwrap();
        assert_eq!(
            (snapshot.segments().count(), snapshot.retired().count()),
            (0, 1)
        );
        assert!(snapshot.table("default", "cpu").is_none());
        // Rows that were on their way: gone with the table, and the log moves on.
        let snapshot = catalog.commit_flush(wal(1, 2), &[old(2)]).await.unwrap();
        assert_eq!(
            (snapshot.segments().count(), snapshot.node("n").unwrap().wal),
            (0, wal(1, 2))
        );
        // Also when there is a table of that name again.
        let snapshot = catalog
            .ensure_columns(
                "default",
                &[columns(
                    "cpu",
                    TableKind::Wide,
                    &[("host", ColumnType::Float)],
                )],
            )
            .await
            .unwrap();
        let new_id = snapshot.table("default", "cpu").unwrap().id;
        assert_ne!(new_id, table_id);
        let new = SegmentMeta {
            table_id: new_id,
            ..segment(4)
        };
        let snapshot = catalog
            .commit_flush(wal(1, 3), &[old(3), new.clone()])
            .await
            .unwrap();
        assert_eq!(
            snapshot
                .segments()
                .map(|segment| segment.id)
                .collect::<Vec<_>>(),
            [new.id]
        );
        let error = catalog
            .commit_compaction(
                &[input],
                &[SegmentMeta {
                    order: (3, 3),
                    ..old(5)
                }],
            )
            .await
            .unwrap_err();
        assert!(
            matches!(error, CatalogError::Refused(Refusal::TableDropped { .. })),
            "{error}"
        );
        let snapshot = catalog.drop_database("default").await.unwrap();
        assert_eq!(
            (snapshot.databases().count(), snapshot.retired().count()),
            (0, 2)
        );
        assert!(
            catalog
                .drop_database("default")
                .await
                .unwrap_err()
                .to_string()
                .contains("does not exist")
        );
    }

    #[tokio::test]
    async fn a_table_keeps_rows_as_long_as_it_says_or_else_its_database() {
        let store = Store::memory();
        let (catalog, _) = with_table(&store).await;
        let check = async |table: Option<&str>, retention: Retention, expected: Option<u64>| {
            let snapshot = catalog
                .set_retention("default", table, retention)
                .await
                .unwrap();
            let database = snapshot.database("default").unwrap();
            assert_eq!(
                database.retention_ms(database.table("cpu").unwrap()),
                expected,
                "{table:?} {retention:?}"
            );
        };
        check(None, Retention::Inherit, None).await;
        check(None, Retention::Millis(5), Some(5)).await;
        check(Some("cpu"), Retention::Millis(7), Some(7)).await;
        check(Some("cpu"), Retention::Forever, None).await;
        check(Some("cpu"), Retention::Inherit, Some(5)).await;
        let sequence = catalog.snapshot().sequence();
        check(Some("cpu"), Retention::Inherit, Some(5)).await;
        assert_eq!(
            catalog.snapshot().sequence(),
            sequence,
            "nothing new, no commit"
        );
        let database = Arc::clone(catalog.snapshot().database("default").unwrap());
        let kept = database.kept(database.table("cpu").unwrap(), 1_000);
        assert_eq!(kept.min, 995_000_000, "a wide table counts nanoseconds");
        assert!(
            catalog
                .set_retention("default", Some("mem"), Retention::Forever)
                .await
                .is_err()
        );
        assert_eq!(
            *Catalog::load(store, options()).await.unwrap().snapshot(),
            *catalog.snapshot()
        );
    }

    #[tokio::test]
    async fn exemplars_are_kept_as_long_as_samples_unless_their_table_says_otherwise() {
        let catalog = open(&Store::memory(), "n").await;
        let table = |name, kind| columns(name, kind, &[("value", ColumnType::Float)]);
        let tables = [
            table(METRICS_TABLE, TableKind::Metrics),
            table(EXEMPLARS_TABLE, TableKind::Exemplars),
        ];
        catalog.ensure_columns("default", &tables).await.unwrap();
        let check = async |table: Option<&str>, retention: Retention, expected: Option<u64>| {
            let snapshot = catalog
                .set_retention("default", table, retention)
                .await
                .unwrap();
            let database = snapshot.database("default").unwrap();
            assert_eq!(
                database.retention_ms(database.table(EXEMPLARS_TABLE).unwrap()),
                expected,
                "{table:?} {retention:?}"
            );
        };
        check(None, Retention::Millis(5), Some(5)).await;
        check(Some(METRICS_TABLE), Retention::Millis(7), Some(7)).await;
        check(Some(METRICS_TABLE), Retention::Forever, None).await;
        check(Some(EXEMPLARS_TABLE), Retention::Millis(3), Some(3)).await;
        check(Some(EXEMPLARS_TABLE), Retention::Inherit, None).await;
        check(Some(METRICS_TABLE), Retention::Inherit, Some(5)).await;
    }

    #[tokio::test]
    async fn names_of_retention_policies_come_back_from_the_log_and_from_checkpoints() {
        let catalog = Catalog::load(Store::memory(), Default::default())
            .await
            .unwrap();
        catalog.register("n", "here:1").await.unwrap();
        catalog.create_database("plant").await.unwrap();
        let stored = |snapshot: &Snapshot, policy| {
            let database = snapshot.database("plant").unwrap();
            database.stored_policy(policy)
        };
        let fresh = catalog.snapshot();
        assert_eq!(stored(&fresh, None), "plant");
        assert_eq!(stored(&fresh, Some("autogen")), "plant");
        let policies = Policies {
            own: "raw".into(),
            default: "year".into(),
        };
        let set = catalog.set_policies("plant", &policies).await.unwrap();
        assert_eq!(stored(&set, None), "plant/year");
        assert_eq!(stored(&set, Some("raw")), "plant");
        // What is set already makes no commit.
        let again = catalog.set_policies("plant", &policies).await.unwrap();
        assert_eq!(again.sequence(), set.sequence());
        let store = catalog.store().clone();
        let loaded = Catalog::load(store, Default::default()).await.unwrap();
        assert_eq!(loaded.snapshot(), set);
        let message = crate::record::Checkpoint::from_snapshot(&set);
        assert_eq!(message.to_snapshot().unwrap(), *set);
    }
}
