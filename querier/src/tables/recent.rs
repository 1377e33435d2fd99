//! Rows that are acknowledged but not yet in a segment.

use std::sync::Arc;

use async_trait::async_trait;
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::segment::{SegmentError, SortedRows, WriteOrder};

/// Tells a chunk of recent rows from all others; its rows never change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChunkKey {
    /// Who took its rows.
    pub node: Arc<str>,
    /// In which life of this node.
    pub epoch: u64,
    /// Its number in that life.
    pub id: u64,
}

/// Sorted rows that were acknowledged together.
#[derive(Debug, Clone)]
pub struct RecentChunk {
    /// What other processes know it by; `None` if only this one has it.
    pub key: Option<ChunkKey>,
    /// Its place in the order of writes.
    pub order: WriteOrder,
    /// Its rows.
    pub rows: Arc<SortedRows>,
}

/// A table, and the times of rows that are asked for, in its unit.
pub type TableRange = (Arc<str>, TimeRange);

/// What there is of some tables that is acknowledged but not yet in a segment.
#[derive(Debug, Default)]
pub struct Recent {
    /// The chunks of each.
    pub tables: Vec<Vec<RecentChunk>>,
    /// Who cannot be asked, and why, as sentences.
    pub missing: Vec<String>,
}

/// Rows that are acknowledged but not yet in a segment.
#[async_trait]
pub trait RecentRows: Send + Sync + 'static {
    /// Those of tables of a database whose times may lie in the ranges. When this returns, the
    /// catalog has every segment that holds other rows which were acknowledged before the call, and
    /// all else that is needed to find any such row.
    async fn recent(&self, database: &str, tables: &[TableRange]) -> Result<Recent, SegmentError>;

    /// Whether other processes are asked, which takes as long for many tables as for one.
    fn is_remote(&self) -> bool {
        false
    }
}

/// A process that only reads what is on the store.
#[derive(Debug)]
pub struct NoRecentRows;

#[async_trait]
impl RecentRows for NoRecentRows {
    async fn recent(&self, _: &str, tables: &[TableRange]) -> Result<Recent, SegmentError> {
        Ok(Recent {
            tables: vec![Vec::new(); tables.len()],
            missing: Vec::new(),
        })
    }
}
