//! How many databases, tables, columns and metric families there may be: every one of them is in
//! the memory of every process and in every checkpoint, and a request without a password can name
//! a new one.

use crate::apply::Refusal;
use crate::model::{EXEMPLARS_TABLE, INTERNAL_DATABASE, METRICS_TABLE, TableKind};
use crate::snapshot::{Database, Snapshot};

use super::TableColumns;

/// How many names a process adds to the catalog; 0 is no limit. What is there stays, whatever the
/// limits are, and other processes may have others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameLimits {
    /// Databases.
    pub databases: usize,
    /// Tables of all databases together, without those of the samples and exemplars of Prometheus.
    pub tables: usize,
    /// Tags and fields of a table.
    pub columns: usize,
    /// Metric families of a database of which type, help and unit are kept.
    pub families: usize,
}

/// How many more may be added; 0 is no limit.
fn left(limit: usize, used: usize) -> usize {
    if limit == 0 {
        usize::MAX
    } else {
        limit.saturating_sub(used)
    }
}

impl NameLimits {
    /// Whether a database is there or may be created.
    pub fn check_database(&self, snapshot: &Snapshot, database: &str) -> Result<(), Refusal> {
        if database == INTERNAL_DATABASE
            || snapshot.database(database).is_some()
            || left(self.databases, databases_of_users(snapshot)) > 0
        {
            return Ok(());
        }
        Err(Refusal::TooManyDatabases {
            database: database.to_owned(),
            limit: self.databases,
        })
    }

    /// How many tables there may still be more; `usize::MAX` without a limit.
    pub fn tables_left(&self, snapshot: &Snapshot) -> usize {
        if self.tables == 0 {
            return usize::MAX;
        }
        let used = snapshot.databases().map(|d| tables_of_names(d)).sum();
        left(self.tables, used)
    }

    /// How many metric families a database may still get; `usize::MAX` without a limit.
    pub fn families_left(&self, snapshot: &Snapshot, database: &str) -> usize {
        let database = snapshot.database(database);
        left(self.families, database.map_or(0, |d| d.metadata.len()))
    }

    /// Whether a database may have these tables with these columns.
    pub(super) fn check_tables(
        &self,
        snapshot: &Snapshot,
        database: &str,
        tables: &[TableColumns],
    ) -> Result<(), Refusal> {
        if database == INTERNAL_DATABASE {
            return Ok(());
        }
        self.check_database(snapshot, database)?;
        let wide = tables.iter().filter(|table| table.kind == TableKind::Wide);
        let mut tables_left = self.tables_left(snapshot);
        for wanted in wide {
            let found = snapshot.table(database, &wanted.table);
            if found.is_none() {
                tables_left = tables_left
                    .checked_sub(1)
                    .ok_or_else(|| Refusal::TooManyTables {
                        database: database.to_owned(),
                        table: wanted.table.clone(),
                        limit: self.tables,
                    })?;
            }
            let known = found.map(|table| &table.schema);
            let mut columns_left = left(self.columns, known.map_or(0, |s| s.columns.len()));
            for (column, _) in &wanted.columns {
                if known.is_some_and(|schema| schema.column(column).is_some()) {
                    continue;
                }
                columns_left =
                    columns_left
                        .checked_sub(1)
                        .ok_or_else(|| Refusal::TooManyColumns {
                            database: database.to_owned(),
                            table: wanted.table.clone(),
                            column: column.clone(),
                            limit: self.columns,
                        })?;
            }
        }
        Ok(())
    }
}

/// Databases without that of what the server records about itself.
fn databases_of_users(snapshot: &Snapshot) -> usize {
    let internal = snapshot.database(INTERNAL_DATABASE).is_some();
    snapshot.databases.len() - usize::from(internal)
}

/// The tables that requests name, in contrast to those that there is one of in each database.
fn tables_of_names(database: &Database) -> usize {
    let usual = [METRICS_TABLE, EXEMPLARS_TABLE];
    let usual = usual.iter().filter(|name| database.table(name).is_some());
    database.tables.len() - usual.count()
}

#[cfg(test)]
mod tests {
    use crate::model::ColumnType;
    use crate::{Catalog, Store};

    use super::*;

    fn table(table: &str, kind: TableKind, columns: &[&str]) -> TableColumns {
        let columns = columns
            .iter()
            .map(|name| ((*name).to_owned(), ColumnType::Float));
        TableColumns {
            table: table.to_owned(),
            kind,
            columns: columns.collect(),
        }
    }

    async fn catalog() -> Catalog {
        let catalog = Catalog::open(Store::memory(), "n", "").await.unwrap();
        catalog.limit_names(NameLimits {
            databases: 2,
            tables: 2,
            columns: 3,
            families: 2,
        });
        catalog
    }

    #[tokio::test]
    async fn databases_beyond_the_limit_are_refused_and_those_before_go_on() {
        let catalog = catalog().await;
        catalog.create_database("a").await.unwrap();
        let wide = |name: &str| [table(name, TableKind::Wide, &["f"])];
        catalog.ensure_columns("b", &wide("t")).await.unwrap();
        let before = catalog.snapshot().sequence();
        for refused in [
            catalog.create_database("c").await,
            catalog.ensure_columns("c", &wide("t")).await,
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(
                error.contains("max_databases") && error.contains('2'),
                "{error}"
            );
        }
        assert_eq!(catalog.snapshot().sequence(), before);
        catalog.create_database("a").await.unwrap();
        catalog.ensure_columns("a", &wide("t")).await.unwrap();
        catalog.drop_database("b").await.unwrap();
        catalog.create_database("c").await.unwrap();
    }

    #[tokio::test]
    async fn tables_and_columns_beyond_the_limit_are_refused_with_nothing_created() {
        let catalog = catalog().await;
        let check = async |tables: &[TableColumns], refused: Option<&str>| {
            let before = catalog.snapshot().sequence();
            match (catalog.ensure_columns("d", tables).await, refused) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => {
                    assert!(error.to_string().contains(part), "{error} lacks {part}");
                    assert_eq!(catalog.snapshot().sequence(), before);
                }
                (other, _) => panic!("{tables:?}: {other:?}"),
            }
        };
        let wide = |name: &str, columns: &[&str]| table(name, TableKind::Wide, columns);
        // Those of Prometheus do not count.
        let metrics = table(METRICS_TABLE, TableKind::Metrics, &["value"]);
        check(&[metrics], None).await;
        check(
            &[wide("a", &["f"]), wide("b", &["f"]), wide("c", &["f"])],
            Some("max_tables"),
        )
        .await;
        check(&[wide("a", &["f"]), wide("b", &["f"])], None).await;
        check(&[wide("c", &["f"])], Some("\"c\"")).await;
        // Those of another database do.
        let limits = catalog.name_limits();
        let of_two = NameLimits {
            tables: 3,
            ..limits
        };
        catalog.limit_names(of_two);
        catalog
            .ensure_columns("e", &[wide("c", &["f"])])
            .await
            .unwrap();
        let fourth = catalog.ensure_columns("e", &[wide("d", &["f"])]).await;
        assert!(fourth.unwrap_err().to_string().contains("max_tables"));
        check(&[wide("a", &["f", "g", "h"])], None).await;
        check(&[wide("b", &["g", "h", "i"])], Some("max_columns")).await;
        check(&[wide("a", &["h", "i"])], Some("\"i\"")).await;
        check(&[wide("a", &["g", "h"]), wide("b", &["g", "h"])], None).await;
        catalog.limit_names(NameLimits::default());
        check(&[wide("c", &["f", "g", "h", "i"])], None).await;
    }
}
