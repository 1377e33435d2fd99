//! The series registries of all tables.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;
use tidelake_catalog::memory::{MemoryBudget, Share};

use crate::buffer::TableName;
use crate::series_registry::SeriesRegistry;

/// One registry per table. Series that are gone would fill it for ever, so a registry that has
/// grown large is replaced by an empty one ([`renew`](Self::renew)); rows that were read with the
/// old one keep it alive.
#[derive(Debug)]
pub struct Registries {
    tables: RwLock<HashMap<TableName, Arc<SeriesRegistry>>>,
    limit_bytes: usize,
    memory: Arc<MemoryBudget>,
}

impl Registries {
    /// Registries that take at most `limit_bytes` each, counted in the memory of the process.
    pub fn new(limit_bytes: usize, memory: Arc<MemoryBudget>) -> Self {
        Self {
            tables: RwLock::default(),
            limit_bytes,
            memory,
        }
    }

    /// The memory that they count in.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.memory
    }

    /// The registry of a table, made if need be.
    pub fn get(&self, name: &TableName) -> Arc<SeriesRegistry> {
        if let Some(registry) = self.tables.read().get(name) {
            return Arc::clone(registry);
        }
        let mut tables = self.tables.write();
        Arc::clone(tables.entry(name.clone()).or_insert_with(|| {
            let memory = Arc::clone(&self.memory);
            Arc::new(SeriesRegistry::counted(self.limit_bytes, memory))
        }))
    }

    /// The registry of a table that was made before the catalog had the table is from now on known
    /// by its id.
    pub fn adopt(&self, before: &TableName, name: &TableName) {
        let mut tables = self.tables.write();
        if let Some(registry) = tables.remove(before) {
            tables.entry(name.clone()).or_insert(registry);
        }
    }

    /// Forgets the registries of tables that are not there any more.
    pub fn retain(&self, is_there: impl Fn(&TableName) -> bool) {
        self.tables.write().retain(|name, _| is_there(name));
    }

    /// Replaces registries that are more than three quarters full, and all if together they take
    /// more than half of the memory that there is for rows and series; whether there were any.
    /// Series that still come register again. Rows that are not in segments yet keep theirs.
    pub fn renew(&self) -> bool {
        let mut tables = self.tables.write();
        let before = tables.len();
        tables.retain(|_, registry| registry.bytes() <= self.limit_bytes / 4 * 3);
        let left: usize = tables.values().map(|registry| registry.bytes()).sum();
        if left > self.memory.limit(Share::Buffer) / 2 {
            tables.clear();
        }
        tables.len() < before
    }

    /// Forgets all series, which were registered under other limits than those that come. Rows that
    /// are not in segments yet keep theirs.
    pub fn clear(&self) {
        self.tables.write().clear();
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
