//! Which databases the names in a statement mean.
//!
//! InfluxDB 1.x keeps the points of each retention policy of a database apart. Here the policy that
//! a database is made with *is* the database, and each other policy is a database of its own,
//! `{database}/{policy}`, with its own retention.

use std::sync::Arc;

use tidelake_catalog::model::{METRICS_TABLE, TableKind};
use tidelake_catalog::snapshot::Snapshot;

use super::ast::{Measurement, MeasurementName};
use super::compile::Measures;
use super::error::InfluxqlError;
use super::plan::Measure;
use crate::tables::Tables;

/// What a request says about where its statements are carried out.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The database that names without one mean.
    pub database: Option<&'a str>,
    /// The retention policy that names without one mean.
    pub policy: Option<&'a str>,
    /// Whether the request may read a database.
    pub may_read: &'a (dyn Fn(&str) -> bool + Send + Sync),
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scope({:?}, {:?})", self.database, self.policy)
    }
}

impl Scope<'_> {
    /// The database of a statement.
    ///
    /// # Errors
    /// [`InfluxqlError::DatabaseRequired`] if neither it nor the request names one.
    pub fn database<'a>(&'a self, said: Option<&'a str>) -> Result<&'a str, InfluxqlError> {
        said.or(self.database)
            .filter(|name| !name.is_empty())
            .ok_or(InfluxqlError::DatabaseRequired)
    }

    /// The database in which the points of a policy are.
    ///
    /// # Errors
    /// [`InfluxqlError::NoDatabase`] also if the request may not read it, and
    /// [`InfluxqlError::NoPolicy`].
    pub fn stored(
        &self,
        snapshot: &Snapshot,
        database: &str,
        policy: Option<&str>,
    ) -> Result<Arc<str>, InfluxqlError> {
        let shown = || database.chars().take(80).collect::<String>();
        let Some(found) = snapshot.database(database) else {
            return Err(InfluxqlError::NoDatabase(shown()));
        };
        let policy = policy.filter(|policy| !policy.is_empty());
        let stored = found.stored_policy(policy);
        let of_policy = match (snapshot.database(&stored), policy) {
            (Some(of_policy), _) => of_policy,
            // The default policy was dropped.
            (None, None) => found,
            (None, Some(policy)) => {
                return Err(InfluxqlError::NoPolicy(policy.chars().take(80).collect()));
            }
        };
        match (self.may_read)(&of_policy.name) {
            true => Ok(Arc::clone(&of_policy.name)),
            false => Err(InfluxqlError::NoDatabase(shown())),
        }
    }

    /// The measurements that the names of a `SELECT` mean.
    pub(super) fn measures(&self, tables: &Tables) -> ScopeMeasures<'_> {
        ScopeMeasures {
            scope: *self,
            snapshot: tables.snapshot(),
        }
    }
}

/// See [`Scope::measures`].
pub(super) struct ScopeMeasures<'a> {
    scope: Scope<'a>,
    snapshot: Arc<Snapshot>,
}

impl Measures for ScopeMeasures<'_> {
    fn find(&self, measurement: &Measurement) -> Result<Vec<Measure>, InfluxqlError> {
        let said = measurement.database.as_deref();
        let database = self.scope.database(said)?;
        // The policy of the request is one of its own database.
        let own = self
            .scope
            .policy
            .filter(|_| said.is_none_or(|said| Some(said) == self.scope.database));
        let policy = measurement.policy.as_deref().or(own);
        let stored = self.scope.stored(&self.snapshot, database, policy)?;
        Ok(measures(&self.snapshot, &stored, &measurement.name))
    }
}

/// The measurements of a database that a name means, in order.
pub(super) fn measures(snapshot: &Snapshot, stored: &str, name: &MeasurementName) -> Vec<Measure> {
    let Some(database) = snapshot.database(stored) else {
        return Vec::new();
    };
    let tables = database.tables.values().filter(|table| {
        table.schema.kind == TableKind::Wide
            && &*table.name != METRICS_TABLE
            && match name {
                MeasurementName::All => true,
                MeasurementName::Name(name) => *table.name == **name,
                MeasurementName::Regex(pattern) => pattern.regex.is_match(&table.name),
            }
    });
    tables
        .map(|table| Measure {
            name: Arc::clone(&table.name),
            database: Arc::clone(&database.name),
            table: Arc::clone(&table.name),
            schema: Arc::clone(&table.schema),
        })
        .collect()
}
