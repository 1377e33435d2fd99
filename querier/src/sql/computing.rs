//! The time of processors that a query's operators took.
//!
//! Operators compute in tasks that do not know whose they are, but each counts its time. When the
//! stream of a query ends, the sum is told to its lane.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::Time;
use futures::{Stream, StreamExt};

use crate::lane::Lane;

/// Counts the time that a future computes: while it waits, nobody polls it.
pub(super) async fn counted<F: Future>(time: Time, future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let _timer = time.timer();
        future.as_mut().poll(context)
    })
    .await
}

/// The stream of a plan that tells the lane what the operators took, when it is dropped.
pub(super) fn told(
    plan: Arc<dyn ExecutionPlan>,
    stream: SendableRecordBatchStream,
    lane: &Lane,
) -> SendableRecordBatchStream {
    let lane = lane.clone();
    let sum = Sum { plan, lane };
    Box::pin(Told { stream, _sum: sum })
}

struct Told {
    /// Dropped first: joins tell their time then.
    stream: SendableRecordBatchStream,
    _sum: Sum,
}

/// Tells when it is dropped.
struct Sum {
    plan: Arc<dyn ExecutionPlan>,
    lane: Lane,
}

impl Drop for Sum {
    fn drop(&mut self) {
        let mut nanos = 0_usize;
        let mut operators = vec![&self.plan];
        while let Some(operator) = operators.pop() {
            let metrics = operator.metrics();
            nanos += metrics.and_then(|all| all.elapsed_compute()).unwrap_or(0);
            operators.extend(operator.children());
        }
        self.lane
            .operators_computed(Duration::from_nanos(nanos as u64));
    }
}

impl Stream for Told {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

impl RecordBatchStream for Told {
    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }
}
