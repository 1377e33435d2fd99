//! A segment on its way to the store: the one way in which flushes and merges write.
//!
//! Bytes go out as row groups fill up, so that what is in memory are the rows at hand and one row
//! group, however large the segment becomes. Encoding runs on threads that may be held up.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use object_store::buffered::BufWriter;
use tokio::io::AsyncWriteExt;

use crate::environment::Environment;
use crate::model::{Column, TableKind};
use crate::segment::encoding::Effort;
use crate::segment::{SegmentError, SegmentWriter, SortOrder, SortedRows, ValueLayout};
use crate::snapshot::SegmentMeta;
use crate::store::{Store, StoreError, put_error};

/// Why a segment was not written. What was put of it is an orphan.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Its rows could not be read or encoded.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// It could not be put.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the rows of a segment lie in it.
#[derive(Debug, Clone)]
pub struct SegmentShape {
    /// Of which kind of table.
    pub kind: TableKind,
    /// In which order its series come.
    pub order: SortOrder,
    /// Its fields.
    pub fields: Arc<[Column]>,
    /// How much is done to make it small.
    pub effort: Effort,
    /// How the values of a metrics table are kept.
    pub layout: ValueLayout,
    /// Up to where the write order reaches, for readers of the file without a catalog.
    pub write_order: String,
}

/// A segment that is being written.
#[derive(Debug)]
pub struct SegmentUpload {
    meta: SegmentMeta,
    key: String,
    writer: SegmentWriter,
    upload: BufWriter,
}

impl SegmentUpload {
    /// Begins one. Of `meta` what is known beforehand counts.
    pub fn begin(
        store: &Store,
        meta: SegmentMeta,
        shape: &SegmentShape,
    ) -> Result<Self, UploadError> {
        let meta = SegmentMeta {
            sort_tags: match shape.kind {
                TableKind::Metrics | TableKind::Exemplars => Vec::new().into(),
                TableKind::Wide => shape.order.0.iter().map(|tag| tag.to_string()).collect(),
            },
            ..meta
        };
        let writer = SegmentWriter::with_layout(
            shape.kind,
            shape.order.clone(),
            Arc::clone(&shape.fields),
            shape.effort,
            shape.layout,
            &[("tidelake.write_order", shape.write_order.clone())],
        )?;
        let key = meta.data_key();
        let upload = BufWriter::new(Arc::clone(store.object_store()), store.path(&key)?);
        Ok(Self {
            meta,
            key,
            writer,
            upload,
        })
    }

    /// Bytes of the data file so far.
    pub fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Appends rows, as [`SegmentWriter::push`] does.
    pub async fn push(
        self,
        environment: &Environment,
        rows: SortedRows,
    ) -> Result<Self, UploadError> {
        let Self {
            meta,
            key,
            mut writer,
            mut upload,
        } = self;
        let pushed = move || writer.push(&rows).map(|()| (writer.take_bytes(), writer));
        let (bytes, writer) = encoding(environment, pushed).await??;
        put(&mut upload, &key, bytes).await?;
        Ok(Self {
            meta,
            key,
            writer,
            upload,
        })
    }

    /// Puts what is left, and the series index. `None` if no rows came: then there is no file.
    pub async fn finish(
        mut self,
        store: &Store,
        environment: &Environment,
    ) -> Result<Option<SegmentMeta>, UploadError> {
        let writer = self.writer;
        let done = encoding(environment, move || writer.finish()).await??;
        if done.rows == 0 {
            // Nothing was put.
            let _ = self.upload.abort().await;
            return Ok(None);
        }
        let meta = SegmentMeta {
            time: done.time,
            rows: done.rows,
            series: done.series,
            data_bytes: done.data_bytes,
            index_bytes: done.index.len() as u64,
            data_checksum: done.data_checksum,
            index_tail_bytes: done.index_tail_bytes,
            index_checksum: done.index_checksum,
            ..self.meta
        };
        let index_key = meta.index_key();
        let data = async {
            put(&mut self.upload, &self.key, done.data_tail).await?;
            let ended = self.upload.shutdown().await;
            ended.map_err(|error| ended_badly(&self.key, &error))
        };
        futures::future::try_join(data, store.put(&index_key, done.index)).await?;
        Ok(Some(meta))
    }
}

/// Work that takes too long for a thread that serves requests.
pub async fn encoding<T: Send + 'static>(
    environment: &Environment,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SegmentError> {
    environment
        .run_blocking(work)
        .await
        .map_err(|error| SegmentError::Encode(error.to_string()))
}

/// What the store said when an upload was to be ended.
fn ended_badly(key: &str, error: &io::Error) -> StoreError {
    let of_store = error.get_ref().and_then(|error| error.downcast_ref());
    of_store.map_or_else(
        || StoreError::Unavailable {
            key: key.to_owned(),
            reason: error.to_string(),
        },
        |error| put_error(key, error),
    )
}

async fn put(upload: &mut BufWriter, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
    if bytes.is_empty() {
        return Ok(());
    }
    upload
        .put(Bytes::from(bytes))
        .await
        .map_err(|error| put_error(key, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_store_keeps_its_kind() {
        let full = object_store::Error::Generic {
            store: "folder",
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        };
        let direct = put_error("k", &full);
        assert!(matches!(direct, StoreError::Full { .. }), "{direct}");
        let ended = ended_badly("k", &io::Error::from(full));
        assert!(matches!(ended, StoreError::Full { .. }), "{ended}");
        let other = ended_badly("k", &io::Error::other("a socket broke"));
        assert!(matches!(other, StoreError::Unavailable { .. }), "{other}");
    }
}
