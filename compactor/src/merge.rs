//! Reads the inputs of a merge unit by unit and writes the result as it comes: what is in memory
//! are two units and one row group, however large the inputs are.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{try_join, try_join_all};
use object_store::buffered::BufWriter;
use tidelake_catalog::Environment;
use tidelake_catalog::model::{Column, TableKind};
use tidelake_catalog::segment::encoding::Effort;
use tidelake_catalog::segment::scan::{ScanRequest, ScanUnit, Source, WriteOrder, plan};
use tidelake_catalog::segment::writer::WrittenSegment;
use tidelake_catalog::segment::{SegmentError, SegmentWriter, SortOrder, SortedRows, ValueLayout};
use tidelake_catalog::snapshot::{SegmentId, SegmentMeta, Table};
use tidelake_catalog::store::{Store, StoreError};
use tokio::io::AsyncWriteExt;

use crate::policy::Plan;

/// A result larger than this goes on in another segment, from the next series on.
const TARGET_BYTES: u64 = 512 << 20;

/// Why a merge failed. Its inputs are as they were.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// An input could not be read, or the result not be encoded.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The result could not be put.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Merges the inputs of a plan, whatever their layouts are, into segments of one. The results are
/// on the store and in no commit yet.
pub async fn merge(
    store: &Store,
    environment: &Environment,
    table: &Table,
    plan_of: &Plan,
    layout: ValueLayout,
) -> Result<Vec<SegmentMeta>, MergeError> {
    let kind = table.schema.kind;
    if plan_of.windows.is_empty() {
        return Ok(Vec::new());
    }
    let sources: Vec<Source> = try_join_all(plan_of.segments.iter().map(|meta| async move {
        let tombstones = table.tombstones_of(meta).cloned().collect();
        Ok::<_, SegmentError>(Source::Segment(
            WriteOrder::Segment(meta.order.1),
            tombstones,
            Arc::new(meta.open_whole(store, kind).await?),
        ))
    }))
    .await?;
    let mut series = Vec::with_capacity(sources.len());
    for source in &sources {
        if let Source::Segment(_, _, segment) = source {
            series.push(segment.index().all().await?);
        }
    }
    let labels = series.iter().flat_map(|series| series.iter());
    let order = SortOrder::choose(kind, labels.map(|one| &one.series.labels));
    drop(series);
    let present = |field: &&Column| sources.iter().any(|source| source.has_field(&field.name));
    let fields: Arc<[Column]> = table.schema.fields().filter(present).cloned().collect();

    let mut results = Vec::new();
    for &range in &plan_of.windows {
        let request = ScanRequest {
            fields: Arc::clone(&fields),
            matchers: Vec::new(),
            range,
            edge: None,
        };
        let mut units = plan(kind, sources.clone(), request, Some(&order), None)
            .await?
            .units
            .into_iter();
        let mut output: Option<Output> = None;
        let mut rows = read(units.next()).await?;
        while let Some(unit) = rows {
            let current = match output.take() {
                Some(output) => output,
                None => Output::open(
                    store,
                    environment.segment_id(),
                    table,
                    plan_of,
                    &order,
                    &fields,
                    layout,
                )?,
            };
            // While one unit is encoded the next is read.
            let (current, next) =
                try_join(current.push(environment, unit), read(units.next())).await?;
            rows = next;
            if current.writer.bytes() >= TARGET_BYTES {
                results.extend(current.finish(store, environment).await?);
            } else {
                output = Some(current);
            }
        }
        if let Some(output) = output {
            results.extend(output.finish(store, environment).await?);
        }
    }
    Ok(results)
}

async fn read(unit: Option<ScanUnit>) -> Result<Option<SortedRows>, MergeError> {
    match unit {
        Some(unit) => Ok(Some(unit.read().await?)),
        None => Ok(None),
    }
}

/// Work of the encoder, which takes too long for a thread that serves requests.
async fn encode<T: Send + 'static>(
    environment: &Environment,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SegmentError> {
    environment
        .run_blocking(work)
        .await
        .map_err(|error| SegmentError::Encode(error.to_string()))
}

/// A segment that is being written.
struct Output {
    meta: SegmentMeta,
    key: String,
    writer: SegmentWriter,
    upload: BufWriter,
}

impl Output {
    fn open(
        store: &Store,
        id: SegmentId,
        table: &Table,
        plan: &Plan,
        order: &SortOrder,
        fields: &Arc<[Column]>,
        layout: ValueLayout,
    ) -> Result<Self, MergeError> {
        let kind = table.schema.kind;
        let Some(first) = plan.segments.first() else {
            return Err(SegmentError::Encode("a merge without inputs".to_owned()).into());
        };
        let orders = plan
            .segments
            .iter()
            .map(|s| s.order)
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            .unwrap_or((0, 0));
        let meta = SegmentMeta {
            id,
            level: plan.level,
            order: orders,
            deletes_applied: table
                .tombstones
                .last()
                .map_or(0, |tombstone| tombstone.sequence),
            sort_tags: match kind {
                TableKind::Metrics | TableKind::Exemplars => Vec::new().into(),
                TableKind::Wide => order.0.iter().map(|tag| tag.to_string()).collect(),
            },
            ..(**first).clone()
        };
        let key = meta.data_key();
        let note = [(
            "tidelake.write_order",
            format!("{}..{}", orders.0, orders.1),
        )];
        let effort = match plan.level {
            // Soon merged again.
            0 => Effort::Fresh,
            // By the next day.
            1 => Effort::Compacted,
            _ => Effort::Settled,
        };
        let writer = SegmentWriter::with_layout(
            kind,
            order.clone(),
            Arc::clone(fields),
            effort,
            layout,
            &note,
        )?;
        let upload = BufWriter::new(Arc::clone(store.object_store()), store.path(&key)?);
        Ok(Self {
            meta,
            key,
            writer,
            upload,
        })
    }

    async fn push(self, environment: &Environment, rows: SortedRows) -> Result<Self, MergeError> {
        let Self {
            meta,
            key,
            mut writer,
            mut upload,
        } = self;
        let pushed = move || writer.push(&rows).map(|()| (writer.take_bytes(), writer));
        let (bytes, writer) = encode(environment, pushed).await??;
        put(&mut upload, &key, bytes).await?;
        Ok(Self {
            meta,
            key,
            writer,
            upload,
        })
    }

    /// `None` if no rows came.
    async fn finish(
        mut self,
        store: &Store,
        environment: &Environment,
    ) -> Result<Option<SegmentMeta>, MergeError> {
        let writer = self.writer;
        let done: WrittenSegment = encode(environment, move || writer.finish()).await??;
        if done.rows == 0 {
            let _ = self.upload.abort().await;
            return Ok(None);
        }
        put(&mut self.upload, &self.key, done.data_tail).await?;
        self.upload
            .shutdown()
            .await
            .map_err(|error| unavailable(&self.key, error))?;
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
        store.put(&meta.index_key(), done.index).await?;
        Ok(Some(meta))
    }
}

fn unavailable(key: &str, error: impl ToString) -> MergeError {
    StoreError::Unavailable {
        key: key.to_owned(),
        reason: error.to_string(),
    }
    .into()
}

async fn put(upload: &mut BufWriter, key: &str, bytes: Vec<u8>) -> Result<(), MergeError> {
    if bytes.is_empty() {
        return Ok(());
    }
    upload
        .put(Bytes::from(bytes))
        .await
        .map_err(|error| unavailable(key, error))
}
