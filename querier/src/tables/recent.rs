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

/// What there is of a table that is acknowledged but not yet in a segment.
#[derive(Debug, Default)]
pub struct Recent {
    /// Its chunks.
    pub chunks: Vec<RecentChunk>,
    /// Who cannot be asked, and why, as sentences.
    pub missing: Vec<String>,
}

/// Rows that are acknowledged but not yet in a segment.
#[async_trait]
pub trait RecentRows: Send + Sync + 'static {
    /// Those of a table whose times may lie in the range. When this returns, the catalog has every
    /// segment that holds other rows which were acknowledged before the call.
    async fn recent(
        &self,
        database: &str,
        table: &str,
        range: TimeRange,
    ) -> Result<Recent, SegmentError>;
}

/// A process that only reads what is on the store.
#[derive(Debug)]
pub struct NoRecentRows;

#[async_trait]
impl RecentRows for NoRecentRows {
    async fn recent(&self, _: &str, _: &str, _: TimeRange) -> Result<Recent, SegmentError> {
        Ok(Recent::default())
    }
}
