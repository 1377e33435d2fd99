//! The series registries of all tables.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::buffer::TableName;
use crate::series_registry::SeriesRegistry;

/// One registry per table. Series that are gone would fill it for ever, so a registry that has
/// grown large is replaced by an empty one ([`renew`](Self::renew)); rows that were read with the
/// old one keep it alive.
#[derive(Debug)]
pub struct Registries {
    tables: RwLock<HashMap<TableName, Arc<SeriesRegistry>>>,
    limit_bytes: usize,
}

impl Registries {
    /// Registries that take at most `limit_bytes` each.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            tables: RwLock::default(),
            limit_bytes,
        }
    }

    /// The registry of a table, made if need be.
    pub fn get(&self, name: &TableName) -> Arc<SeriesRegistry> {
        if let Some(registry) = self.tables.read().get(name) {
            return Arc::clone(registry);
        }
        let mut tables = self.tables.write();
        Arc::clone(
            tables
                .entry(name.clone())
                .or_insert_with(|| Arc::new(SeriesRegistry::new(self.limit_bytes))),
        )
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

    /// Replaces registries that are more than half full. Series that still come register again.
    pub fn renew(&self) {
        self.tables
            .write()
            .retain(|_, registry| registry.bytes() <= self.limit_bytes / 2);
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
