//! Changes of what is kept: deletes, drops, retention. All protocols come here.
//!
//! A change is about everything that was acknowledged before it, and the catalog knows only of
//! segments: so the buffer is flushed first if it has such rows, and the change committed after.
//! What another process of the same store has in its own buffer is not reached. If the flush or the
//! commit fails, nothing has changed, or the answer is 503 and the same request is safe to repeat.
use std::sync::Arc;
use std::time::Duration;

use tidelake_catalog::model::{
    ColumnType, EXEMPLARS_TABLE, INTERNAL_DATABASE, METRIC_NAME, METRICS_TABLE, Matcher, TableKind,
    TimeRange,
};
use tidelake_catalog::{CatalogError, Retention, Snapshot, TableColumns};
use tidelake_ingest::Ingester;
use tokio::time::Instant;

use super::context::{Access, Admin, Delete, ServerAccess, internal_is_kept};
use super::error::{Code, ServiceError};
use super::{Service, missing_role};

/// Time after a flush that was asked for, until the next one.
const FLUSH_PAUSE: Duration = Duration::from_millis(200);

/// Rows of one table that go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The stored table; that of the samples stands for the exemplars as well.
    pub table: String,
    /// All must match a series; without any all series do.
    pub matchers: Vec<Matcher>,
    /// In the table's unit.
    pub range: TimeRange,
}

impl Service {
    /// Deletes rows; returns the number of the last commit. Each deletion is a commit of its own;
    /// who repeats them after a 503 deletes nothing else.
    pub async fn delete(
        &self,
        access: &Access<Delete>,
        deletions: Vec<Deletion>,
    ) -> Result<u64, ServiceError> {
        let target = format!("database {:?}: {}", access.database(), shown(&deletions));
        let delete = self.delete_rows(access, deletions);
        self.audited(access.principal(), "delete", &target, delete)
            .await
    }

    async fn delete_rows(
        &self,
        access: &Access<Delete>,
        deletions: Vec<Deletion>,
    ) -> Result<u64, ServiceError> {
        let (backend, database) = (self.backend()?, access.database());
        self.meet().await?;
        let mut last = backend.catalog().snapshot().sequence();
        if deletions.is_empty() {
            return Ok(last);
        }
        let mut tables: Vec<&str> = deletions.iter().map(|d| d.table.as_str()).collect();
        tables.push(EXEMPLARS_TABLE);
        self.flush_rows_of(database, &tables).await?;
        let snapshot = backend.catalog().snapshot();
        let has_exemplars = snapshot.table(database, EXEMPLARS_TABLE).is_some();
        // Exemplars go with the samples of their series.
        let with_exemplars = |deletion: Deletion| {
            let exemplars = (has_exemplars && deletion.table == METRICS_TABLE).then(|| Deletion {
                table: EXEMPLARS_TABLE.to_owned(),
                ..deletion.clone()
            });
            [deletion].into_iter().chain(exemplars)
        };
        for deletion in deletions.into_iter().flat_map(with_exemplars) {
            let Deletion {
                table,
                matchers,
                range,
            } = deletion;
            let deleted = backend.catalog().delete(database, &table, matchers, range);
            last = self.sequence(deleted.await)?;
        }
        Ok(last)
    }

    /// Creates a database.
    ///
    /// # Errors
    /// [`Code::Conflict`] if there is one of the name.
    pub async fn create_database(
        &self,
        access: &Access<Admin>,
        retention: Retention,
    ) -> Result<(), ServiceError> {
        let (catalog, name) = (self.backend()?.catalog(), access.database());
        refuse_internal(access)?;
        self.check_retention(access, kept_ms(retention))?;
        if catalog.snapshot().database(name).is_some() {
            return Err(ServiceError::new(
                Code::Conflict,
                format!("database {name:?} exists already; PUT changes its retention"),
            ));
        }
        self.sequence(catalog.create_database(name).await)?;
        if retention != Retention::Inherit {
            self.set_retention(access, None, retention).await?;
        }
        Ok(())
    }

    /// Creates a table for line protocol.
    ///
    /// # Errors
    /// [`Code::Conflict`] if there is one of the name.
    pub async fn create_table(
        &self,
        access: &Access<Admin>,
        table: &str,
        columns: Vec<(String, ColumnType)>,
        retention: Retention,
    ) -> Result<(), ServiceError> {
        let (catalog, database) = (self.backend()?.catalog(), access.database());
        refuse_internal(access)?;
        if retention != Retention::Inherit {
            self.check_retention(access, kept_ms(retention))?;
        }
        if catalog.snapshot().table(database, table).is_some() {
            return Err(ServiceError::new(
                Code::Conflict,
                format!("table {table:?} exists already; PUT changes its retention"),
            ));
        }
        let columns = TableColumns {
            table: table.to_owned(),
            kind: TableKind::Wide,
            columns,
        };
        self.sequence(catalog.ensure_columns(database, &[columns]).await)?;
        if retention != Retention::Inherit {
            self.set_retention(access, Some(table), retention).await?;
        }
        Ok(())
    }

    /// Drops a table with its rows and columns; returns the number of the commit.
    pub async fn drop_table(
        &self,
        access: &Access<Admin>,
        table: &str,
    ) -> Result<u64, ServiceError> {
        let (catalog, database) = (self.backend()?.catalog(), access.database());
        let target = format!("table {table:?} of database {database:?}");
        let drop = async {
            refuse_internal(access)?;
            self.flush_rows_of(database, &[table]).await?;
            self.sequence(catalog.drop_table(database, table).await)
        };
        self.audited(access.principal(), "drop_table", &target, drop)
            .await
    }

    /// Deletes all rows of a table, or of a metric of the name. Returns whether there was any such;
    /// columns stay.
    pub async fn delete_all_rows(
        &self,
        access: &Access<Delete>,
        table: &str,
    ) -> Result<bool, ServiceError> {
        let (backend, database) = (self.backend()?, access.database());
        self.meet().await?;
        let everything = |table: &str, matchers| Deletion {
            table: table.to_owned(),
            matchers,
            range: TimeRange::ALL,
        };
        let deletion = if backend
            .catalog()
            .snapshot()
            .table(database, table)
            .is_some()
        {
            everything(table, Vec::new())
        } else {
            let metric = vec![Matcher::equal(METRIC_NAME, table)];
            let samples = backend
                .querier
                .has_samples(database, &metric, TimeRange::ALL);
            if !samples.await? {
                return Ok(false);
            }
            everything(METRICS_TABLE, metric)
        };
        self.delete(access, vec![deletion]).await?;
        Ok(true)
    }

    /// Drops a database with all its tables; returns the number of the commit.
    pub async fn drop_database(&self, access: &Access<Admin>) -> Result<u64, ServiceError> {
        let target = format!("database {:?}", access.database());
        let drop = async {
            refuse_internal(access)?;
            self.flush_buffer().await?;
            let dropped = self.backend()?.catalog().drop_database(access.database());
            self.sequence(dropped.await)
        };
        self.audited(access.principal(), "drop_database", &target, drop)
            .await
    }

    /// Sets how long rows are kept, of one table or as the default of the database; returns the
    /// number of the commit.
    pub async fn set_retention(
        &self,
        access: &Access<Admin>,
        table: Option<&str>,
        retention: Retention,
    ) -> Result<u64, ServiceError> {
        let target = format!(
            "database {:?}, table {table:?}: {retention:?}",
            access.database()
        );
        let set = async {
            // A table may be kept as its database is, whose retention was checked.
            if table.is_none() || retention != Retention::Inherit {
                self.check_retention(access, kept_ms(retention))?;
            }
            self.flush_buffer().await?;
            let catalog = self.backend()?.catalog();
            let set = catalog.set_retention(access.database(), table, retention);
            self.sequence(set.await)
        };
        self.audited(access.principal(), "set_retention", &target, set)
            .await
    }

    /// Returns when everything that is buffered is in segments on the store.
    pub async fn flush(&self, _: &ServerAccess) -> Result<(), ServiceError> {
        let ingester = self.backend()?.ingester().map_err(missing_role)?;
        let flushed = ingester.flush().await;
        flushed.map_err(|error| self.refuse(error))
    }

    /// Returns when nothing is left to merge.
    pub async fn compact(&self, _: &ServerAccess) -> Result<(), ServiceError> {
        let backend = self.backend()?;
        let compactor = backend.compactor().map_err(missing_role)?;
        let followed = backend.cluster().refresh().await;
        followed.map_err(|error| self.refuse_commit(error))?;
        let compacted = compactor.compact_all().await;
        compacted.map_err(|error| ServiceError::of(Code::Internal, error))
    }

    /// Puts the log of a node that is gone for good into segments, and lets it leave.
    pub async fn adopt(&self, access: &ServerAccess, node: &str) -> Result<(), ServiceError> {
        let adopt = async {
            let backend = self.backend()?;
            backend.ingester().map_err(missing_role)?;
            let adopted = backend.cluster().adopt_named(node).await;
            adopted.map_err(|error| ServiceError::new(Code::Conflict, error))
        };
        self.audited(access.principal(), "adopt", node, adopt).await
    }

    /// Flushes if rows of any of these tables are in no segment yet.
    async fn flush_rows_of(&self, database: &str, tables: &[&str]) -> Result<(), ServiceError> {
        let backend = self.backend()?;
        let has_recent = |ingester: &Arc<Ingester>| {
            let mut tables = tables.iter();
            tables.any(|table| ingester.has_recent(database, table))
        };
        if backend.cluster().has_other_writers() || backend.ingester.iter().any(has_recent) {
            self.flush_buffer().await?;
        }
        Ok(())
    }

    /// A flush writes a segment of every table that has rows, and merges have to keep up with those
    /// that are asked for: there is a pause after each.
    async fn flush_buffer(&self) -> Result<(), ServiceError> {
        let mut next = self.next_flush.lock().await;
        if let Some(next) = *next {
            tokio::time::sleep_until(next).await;
        }
        *next = Some(Instant::now() + FLUSH_PAUSE);
        let backend = self.backend()?;
        if let Some(ingester) = &backend.ingester {
            let flushed = ingester.flush().await;
            flushed.map_err(|error| self.refuse(error))?;
        }
        let flushed = backend.cluster().flush_others().await;
        flushed.map_err(ServiceError::unavailable)
    }

    fn sequence(
        &self,
        committed: Result<Arc<Snapshot>, CatalogError>,
    ) -> Result<u64, ServiceError> {
        let snapshot = committed.map_err(|error| self.refuse_commit(error))?;
        Ok(snapshot.sequence())
    }

    /// Notes what a failure of the catalog means for the process, and words it for the client.
    pub fn refuse_commit(&self, error: CatalogError) -> ServiceError {
        if matches!(error, CatalogError::Fenced { .. }) {
            self.fence(error.to_string());
        }
        error.into()
    }
}

/// How long rows are kept; `None` for ever.
fn kept_ms(retention: Retention) -> Option<u64> {
    match retention {
        Retention::Millis(ms) => Some(ms),
        Retention::Forever | Retention::Inherit => None,
    }
}

fn refuse_internal(access: &Access<Admin>) -> Result<(), ServiceError> {
    match **access.database() == *INTERNAL_DATABASE {
        true => Err(internal_is_kept()),
        false => Ok(()),
    }
}

fn shown(deletions: &[Deletion]) -> String {
    let one = |deletion: &Deletion| {
        let matchers: Vec<String> = deletion.matchers.iter().map(ToString::to_string).collect();
        let Deletion { table, range, .. } = deletion;
        format!(
            "{table:?} {{{}}} {}..={}",
            matchers.join(","),
            range.min,
            range.max
        )
    };
    deletions.iter().map(one).collect::<Vec<_>>().join("; ")
}
