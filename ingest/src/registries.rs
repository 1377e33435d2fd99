//! The series registries of all tables.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::RwLock;
use tidelake_catalog::memory::{MemoryBudget, Share};

use crate::buffer::TableName;
use crate::label_limits::LabelLimits;
use crate::series_quota::SeriesQuota;
use crate::series_registry::SeriesRegistry;

type Key = (TableName, LabelLimits);

/// One registry per table and limits of labels: a series that is known is taken without a look at
/// its labels, so it must have been held to the same limits. Series that are gone would fill it for
/// ever, so a registry that has grown large is replaced by an empty one ([`renew`](Self::renew));
/// rows that were read with the old one keep it alive.
#[derive(Debug)]
pub struct Registries {
    tables: RwLock<HashMap<Key, Arc<SeriesRegistry>>>,
    quotas: RwLock<HashMap<Arc<str>, Arc<SeriesQuota>>>,
    limit_bytes: usize,
    memory: Arc<MemoryBudget>,
}

impl Registries {
    /// Registries that take at most `limit_bytes` each, counted in the memory of the process.
    pub fn new(limit_bytes: usize, memory: Arc<MemoryBudget>) -> Self {
        Self {
            tables: RwLock::default(),
            quotas: RwLock::default(),
            limit_bytes,
            memory,
        }
    }

    /// The memory that they count in.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.memory
    }

    /// The registry of a table for requests that are held to these limits, made if need be.
    pub fn get(&self, name: &TableName, limits: LabelLimits) -> Arc<SeriesRegistry> {
        let key = (name.clone(), limits);
        if let Some(registry) = self.tables.read().get(&key) {
            return Arc::clone(registry);
        }
        let quota = self.quota(&name.database);
        let mut tables = self.tables.write();
        Arc::clone(tables.entry(key).or_insert_with(|| {
            let memory = Arc::clone(&self.memory);
            Arc::new(SeriesRegistry::counted(self.limit_bytes, memory, quota))
        }))
    }

    /// How many series a database has and may have.
    pub fn quota(&self, database: &Arc<str>) -> Arc<SeriesQuota> {
        if let Some(quota) = self.quotas.read().get(database) {
            return Arc::clone(quota);
        }
        let mut quotas = self.quotas.write();
        Arc::clone(quotas.entry(Arc::clone(database)).or_default())
    }

    /// Sets how many series a database may have; nothing is kept of one that has none and no limit.
    pub fn limit_series(&self, database: &Arc<str>, limit: Option<u64>) {
        if let Some(quota) = self.quotas.read().get(database) {
            return quota.set_limit(limit);
        }
        if limit.is_some() {
            self.quota(database).set_limit(limit);
        }
    }

    /// The same of all databases that were written to.
    pub fn quotas(&self) -> Vec<(Arc<str>, Arc<SeriesQuota>)> {
        let quotas = self.quotas.read();
        let all = quotas.iter();
        all.map(|(name, quota)| (Arc::clone(name), Arc::clone(quota)))
            .collect()
    }

    /// The registries of a table that were made before the catalog had the table are from now on
    /// known by its id.
    pub fn adopt(&self, before: &TableName, name: &TableName) {
        let mut tables = self.tables.write();
        let made: Vec<Key> = tables
            .keys()
            .filter(|(of, _)| of == before)
            .cloned()
            .collect();
        for key in made {
            if let Some(registry) = tables.remove(&key) {
                tables.entry((name.clone(), key.1)).or_insert(registry);
            }
        }
    }

    /// Forgets the registries of tables that are not there any more.
    pub fn retain(&self, is_there: impl Fn(&TableName) -> bool) {
        self.tables.write().retain(|(name, _), _| is_there(name));
        let tables = self.tables.read();
        let mut quotas = self.quotas.write();
        quotas.retain(|database, _| tables.keys().any(|(name, _)| name.database == *database));
    }

    /// Replaces registries that are more than three quarters full, those of databases that have
    /// nearly as many series as they may, and all if together they take more than half of the
    /// memory that there is for rows and series; whether there were any. Series that still come
    /// register again. Rows that are not in segments yet keep theirs.
    pub fn renew(&self) -> bool {
        let mut tables = self.tables.write();
        let before = tables.len();
        let quotas = self.quotas.read();
        let full: HashSet<Arc<str>> = quotas
            .iter()
            .filter(|(_, quota)| quota.is_to_be_renewed())
            .map(|(database, _)| Arc::clone(database))
            .collect();
        tables.retain(|(name, _), registry| {
            registry.bytes() <= self.limit_bytes / 4 * 3 && !full.contains(&name.database)
        });
        let left: usize = tables.values().map(|registry| registry.bytes()).sum();
        if left > self.memory.limit(Share::Buffer) / 2 {
            tables.clear();
        }
        tables.len() < before
    }

    /// Series in all registries.
    pub fn series(&self) -> usize {
        self.tables
            .read()
            .values()
            .map(|registry| registry.len())
            .sum()
    }
}
