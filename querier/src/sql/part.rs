//! A part of a query that another process asked for.
//!
//! It plans the same text as of the same time over the same state, and computes the same operator
//! over some of the series.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bytes::{Buf, Bytes};
use chrono::DateTime;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tidelake_catalog::panics;
use tokio::time::Instant;

use super::SqlEngine;
use super::error::SqlError;
use super::limits::{QueryLimits, StopOnDrop};
use super::promql::PromqlCalls;
use super::session::Basis;
use super::spread::Fragment;
use super::threads;
use crate::parts::{Frame, Frames, MAX_FRAME_BYTES, answer};
use crate::promql::source::Part;

/// The version of these messages.
pub(super) const VERSION: u32 = 1;
/// Most partitions that a query is planned in for another process.
const MAX_PARTITIONS: u64 = 1024;

/// What is asked for.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SqlPartMessage {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub text: String,
    /// As of when `now()` is, in ms since 1970.
    #[prost(int64, tag = "3")]
    pub started_ms: i64,
    /// The number of the operator in its plan.
    #[prost(uint32, tag = "4")]
    pub operator: u32,
    /// The operator and those below it, as plans are shown.
    #[prost(string, tag = "5")]
    pub shown: String,
    #[prost(uint64, tag = "6")]
    pub part: u64,
    #[prost(uint64, tag = "7")]
    pub parts: u64,
    #[prost(uint64, tag = "8")]
    pub timeout_ms: u64,
    /// In how many partitions the query was planned.
    #[prost(uint64, tag = "9")]
    pub partitions: u64,
    #[prost(uint64, tag = "10")]
    pub max_read_bytes: u64,
}

/// Most bytes that a part may read.
pub(crate) fn read_limit(head: &[u8]) -> Result<u64, SqlPartError> {
    Ok(SqlPartMessage::decode(head)?.max_read_bytes)
}

/// What is said at the end of a part.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SqlEndMessage {
    /// Requests to the store, and bytes that they asked for.
    #[prost(uint64, tag = "1")]
    pub requests: u64,
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// Why a part cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum SqlPartError {
    /// What is asked for cannot be read.
    #[error("what is asked for cannot be read: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// Another version asks.
    #[error("a part of a query is asked for in version {0}; this process knows version {VERSION}")]
    Version(u32),
    /// It makes no sense.
    #[error("it is a part of nothing")]
    Nothing,
    /// The text is no query.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

impl SqlEngine {
    /// Computes a part that another process asked for over the tables of this engine.
    ///
    /// # Errors
    /// If it cannot be begun; what fails later is in the last frame.
    pub(crate) fn part(
        &self,
        db: &str,
        head: &[u8],
    ) -> Result<BoxStream<'static, Bytes>, SqlPartError> {
        let message = SqlPartMessage::decode(head)?;
        if message.version != VERSION {
            return Err(SqlPartError::Version(message.version));
        }
        if message.part >= message.parts {
            return Err(SqlPartError::Nothing);
        }
        // It is planned as of that time.
        let engine = self.clone();
        let db = db.to_owned();
        let threads = self.options.lane.clone();
        Ok(answer(async move |to| {
            let work = panics::caught(engine.compute(db, message, to));
            match threads.there(work).await {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(error))) => Err(error.to_string()),
                Ok(Err(panicked)) => Err(panicked.to_string()),
                Err(_) => Err("the server stops".to_owned()),
            }
        }))
    }

    async fn compute(
        self,
        db: String,
        message: SqlPartMessage,
        to: Frames,
    ) -> Result<(), SqlError> {
        let text = self.read(&message.text)?;
        let timeout = Duration::from_millis(message.timeout_ms);
        let timeout = Instant::now().checked_add(timeout);
        let deadline = [self.deadline(), timeout].into_iter().flatten().min();
        let limits = QueryLimits::new(self.options.memory.pool(), deadline, None);
        let _stop = StopOnDrop(Some(Arc::clone(&limits)));
        let promql = PromqlCalls::new(
            self.source.samples(&db),
            self.options.promql.clone(),
            self.options.environment.now_ms(),
            Arc::clone(limits.pool()),
        );
        let basis = Basis {
            started: DateTime::from_timestamp_millis(message.started_ms),
            partitions: Some(message.partitions.min(MAX_PARTITIONS) as usize),
        };
        let planning = self.planning(&db, None, &limits, basis)?;
        let (planned, _) = self.plan(planning, text, HashMap::new(), promql).await?;
        let fragment = Fragment::find(&planned.plan, message.operator);
        let fragment = fragment.filter(|fragment| fragment.shown == message.shown);
        let Some(fragment) = fragment else {
            return Err(SqlError::Internal(
                "the query is planned otherwise than where it was asked".to_owned(),
            ));
        };
        let part = Part {
            index: message.part as usize,
            of: message.parts as usize,
        };
        let plan = fragment.part(part, self.options.target_partitions)?;
        let lane = &self.options.lane;
        lane.starts(planned.rows.unwrap_or(0) / message.parts);
        let mut stream = execute_stream(Arc::clone(&plan), planned.context)?;
        if let Some(handle) = lane.threads() {
            stream = threads::on(lane, handle, stream, Arc::clone(&limits));
        }
        while let Some(batch) = stream.next().await {
            limits.check()?;
            let bytes = encode(&batch?)?;
            if bytes.len() >= MAX_FRAME_BYTES {
                let error = format!("a batch came to {} bytes", bytes.len());
                return Err(SqlError::ResourcesExhausted(error));
            }
            if to.send(Frame::Unit(bytes.into())).await.is_err() {
                return Ok(());
            }
        }
        let (requests, bytes) = fragment.reads();
        let end = SqlEndMessage { requests, bytes };
        let _ = to.send(Frame::End(end.encode_to_vec().into())).await;
        Ok(())
    }
}

fn encode(batch: &RecordBatch) -> Result<Vec<u8>, SqlError> {
    let failed = |error| SqlError::Internal(format!("a batch cannot be encoded: {error}"));
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(failed)?;
    writer.write(batch).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

/// The batch of a frame.
pub(super) fn decode(bytes: Bytes) -> Result<RecordBatch, String> {
    let failed = |error: arrow::error::ArrowError| format!("a batch cannot be read: {error}");
    let mut reader = StreamReader::try_new(bytes.reader(), None).map_err(failed)?;
    let batch = reader.next().ok_or("a frame has no batch")?;
    batch.map_err(failed)
}
