//! The threads that a query computes on, if they are not the caller's.

use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use futures::StreamExt;
use tokio::runtime::Handle;

use super::limits::QueryLimits;
use crate::lane::Lane;

/// Batches that are ready before they are asked for.
const AHEAD: usize = 2;

/// Moves the computing of a stream to other threads; dropping the new stream ends it where it next
/// pauses. Until then the task has the query's limits. It moves on if the query is heavy.
pub(super) fn on(
    lane: &Lane,
    threads: &Handle,
    mut stream: SendableRecordBatchStream,
    limits: Arc<QueryLimits>,
) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStreamBuilder::new(stream.schema(), AHEAD);
    let batches = builder.tx();
    let work = async move {
        while let Some(batch) = stream.next().await {
            let is_end = batch.is_err();
            if batches.send(batch).await.is_err() || is_end {
                break;
            }
        }
        drop(stream);
        drop(limits);
        Ok(())
    };
    let work = lane.onward(work);
    // Without the threads for heavy queries the server stops.
    let work = async { work.await.unwrap_or(Ok(())) };
    builder.spawn_on(work, threads);
    builder.build()
}
