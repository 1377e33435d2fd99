//! The answer of a query as its caller sees it: a stream of batches that ends in time, and with an
//! error whatever happens.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{FutureExt, Stream, StreamExt};
use tidelake_catalog::panics;
use tokio::time::{Instant, Sleep};

use super::error::SqlError;
use super::limits::{QueryLimits, StopOnDrop};

/// Passes batches on until the query's deadline.
pub(super) fn answer(
    inner: SendableRecordBatchStream,
    limits: Arc<QueryLimits>,
) -> SendableRecordBatchStream {
    let sleep_until = |deadline| Box::pin(tokio::time::sleep_until(deadline));
    Box::pin(TimedAnswer {
        schema: inner.schema(),
        inner: Some(inner),
        sleep: limits.deadline().map(sleep_until),
        _stop: StopOnDrop(Some(limits)),
    })
}

struct TimedAnswer {
    schema: SchemaRef,
    /// Dropped when the time is up, so that the query stops to use memory while the client reads
    /// the error.
    inner: Option<SendableRecordBatchStream>,
    sleep: Option<Pin<Box<Sleep>>>,
    _stop: StopOnDrop,
}

impl Stream for TimedAnswer {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let in_time = self
            .sleep
            .as_ref()
            .is_none_or(|sleep| Instant::now() < sleep.deadline());
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        // The clock first: a stream that always has a batch ready would never be asked for the
        // time.
        if in_time {
            match panics::caught_call(|| inner.poll_next_unpin(cx)) {
                Ok(Poll::Pending) => {}
                Ok(ready) => return ready,
                Err(panic) => {
                    self.inner = None;
                    return Poll::Ready(Some(Err(SqlError::from(panic).into())));
                }
            }
        }
        let Some(sleep) = &mut self.sleep else {
            return Poll::Pending;
        };
        if sleep.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.inner = None;
        Poll::Ready(Some(Err(SqlError::Timeout.into())))
    }
}

impl RecordBatchStream for TimedAnswer {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::stream;

    use super::*;
    use crate::memory::QueryMemory;

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_end() {
        let limits = QueryLimits::new(QueryMemory::unlimited().pool(), None, None);
        let panics = stream::poll_fn(|_| panic!("an index is out of bounds"));
        let inner = RecordBatchStreamAdapter::new(Arc::new(Schema::empty()), panics);
        let mut answer = answer(Box::pin(inner), limits);
        let error = SqlError::from(answer.next().await.unwrap().unwrap_err());
        assert!(
            matches!(&error, SqlError::Internal(message) if message.contains("about panic")),
            "{error}"
        );
        assert!(answer.next().await.is_none());
    }
}
