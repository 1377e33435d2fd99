//! A stream of batches that ends with an error when its time is up.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use super::error::SqlError;

/// Passes batches on until `deadline`.
pub(super) fn until(
    deadline: Instant,
    inner: SendableRecordBatchStream,
) -> SendableRecordBatchStream {
    let schema = inner.schema();
    Box::pin(Deadline {
        schema,
        inner: Some(inner),
        sleep: Box::pin(tokio::time::sleep_until(deadline)),
    })
}

struct Deadline {
    schema: SchemaRef,
    /// Dropped when the time is up, so that the query stops to use memory while the client reads
    /// the error.
    inner: Option<SendableRecordBatchStream>,
    sleep: Pin<Box<Sleep>>,
}

impl Stream for Deadline {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let in_time = Instant::now() < self.sleep.deadline();
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        // The clock first: a stream that always has a batch ready would never be asked for the
        // time.
        if in_time && let Poll::Ready(item) = inner.poll_next_unpin(cx) {
            return Poll::Ready(item);
        }
        if self.sleep.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.inner = None;
        Poll::Ready(Some(Err(SqlError::Timeout.into())))
    }
}

impl RecordBatchStream for Deadline {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
