//! Rows on their way: messages of about a megabyte, no faster than the client takes them.
//!
//! The slot, the memory and the deadline of a query are held until its last message is taken. A
//! failure before the first [`CHUNK_BYTES`](crate::http::paced_body::CHUNK_BYTES) is the status of
//! the call, a later one its last words.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use axum::http::HeaderMap;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use futures::{Stream, stream};
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::{Answers, columns};
use crate::http::app::App;
use crate::http::paced_body::Pace;
use crate::service::context::{Access, Read};
use crate::service::error::{Code, ServiceError};
use crate::service::slots::QuerySlot;
use crate::service::sql::{SqlRequest, SqlRows};
use crate::sql::warnings;

/// Rows that are sent together take about so many bytes. Clients refuse messages of 4 MiB; a single
/// row may be larger.
const MESSAGE_BYTES: usize = 1 << 20;

/// Rows to send.
pub struct Rows {
    /// What they are sent as.
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch, ServiceError>>,
    /// Held until they are sent.
    pub slot: Arc<QuerySlot>,
}

impl Rows {
    /// Those of a statement as they are.
    fn of(rows: SqlRows) -> Result<Self, ServiceError> {
        let schema = Arc::new(columns::sent(&rows.stream.schema()));
        let (batches, slot) = rows.in_time();
        let batches = batches.boxed();
        Ok(Self {
            schema,
            batches,
            slot,
        })
    }

    async fn sent(self, pace: &Pace) -> Result<Answers<FlightData>, ServiceError> {
        let parts = parts(self.schema.clone(), self.batches);
        let messages = messages(self.schema, parts);
        let length = |data: &FlightData| data.data_header.len() + data.data_body.len();
        let answers = pace.items(messages, length, self.slot).await?;
        Ok(answers.map_err(Status::from).boxed())
    }
}

/// The rows of a statement.
pub async fn query(
    app: &App,
    access: &Access<Read>,
    request: SqlRequest,
) -> Result<Response<Answers<FlightData>>, ServiceError> {
    query_as(app, access, request, Rows::of).await
}

/// What `make` makes of the rows of a statement.
pub async fn query_as(
    app: &App,
    access: &Access<Read>,
    request: SqlRequest,
    make: impl Fn(SqlRows) -> Result<Rows, ServiceError>,
) -> Result<Response<Answers<FlightData>>, ServiceError> {
    let pace = app.pace();
    let begin = |rows: SqlRows| {
        let rows = make(rows);
        let pace = &pace;
        async move { rows?.sent(pace).await }
    };
    let (answers, remarks) = Box::pin(app.service.sql(access, request, begin)).await?;
    Ok(remarked(answers, &remarks))
}

/// Rows as they are, with what is to be known about them.
pub async fn rows(
    app: &App,
    rows: SqlRows,
    remarks: &[String],
) -> Result<Response<Answers<FlightData>>, ServiceError> {
    let answers = Rows::of(rows)?.sent(&app.pace()).await?;
    Ok(remarked(answers, remarks))
}

fn remarked(answers: Answers<FlightData>, remarks: &[String]) -> Response<Answers<FlightData>> {
    let mut response = Response::new(answers);
    let mut headers = HeaderMap::new();
    warnings::write(&mut headers, remarks);
    *response.metadata_mut() = MetadataMap::from_headers(headers);
    response
}

/// One batch, which is small.
pub async fn small(batch: RecordBatch) -> Result<Response<Answers<FlightData>>, ServiceError> {
    let schema = batch.schema();
    let messages = messages(schema, stream::iter([Ok(batch)]));
    Ok(Response::new(messages.map_err(Status::from).boxed()))
}

/// Batches as messages, after one with the schema.
fn messages(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, ServiceError>> + Send + 'static,
) -> impl Stream<Item = Result<FlightData, ServiceError>> + Send + Unpin {
    let batches = batches.map_err(|error| FlightError::ExternalError(Box::new(error)));
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        // They are cut already, by what they really take.
        .with_max_flight_data_size(usize::MAX)
        .build(batches);
    messages.map_err(|error| match error {
        FlightError::ExternalError(error) => match error.downcast::<ServiceError>() {
            Ok(error) => *error,
            Err(error) => ServiceError::new(Code::Internal, error.to_string()),
        },
        error => ServiceError::of(Code::Internal, error),
    })
}

/// Batches in parts of about [`MESSAGE_BYTES`], with the types that are sent.
fn parts(
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, ServiceError>>,
) -> impl Stream<Item = Result<RecordBatch, ServiceError>> + Send {
    let cutting = Cutting {
        rest: RecordBatch::new_empty(Arc::clone(&schema)),
        schema,
        batches,
        rows: usize::MAX,
    };
    stream::try_unfold(cutting, async |mut cutting| {
        Ok(cutting.next().await?.map(|part| (part, cutting)))
    })
}

struct Cutting {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, ServiceError>>,
    /// What is not sent of the last batch.
    rest: RecordBatch,
    /// How many rows may fit, as the last ones did.
    rows: usize,
}

impl Cutting {
    async fn next(&mut self) -> Result<Option<RecordBatch>, ServiceError> {
        while self.rest.num_rows() == 0 {
            match self.batches.next().await {
                Some(batch) => self.rest = batch?,
                None => return Ok(None),
            }
        }
        let left = self.rest.num_rows();
        let mut rows = self.rows.saturating_mul(2).clamp(1, left);
        while rows > 1 && columns::sent_bytes(&self.rest.slice(0, rows)) > MESSAGE_BYTES {
            rows /= 2;
        }
        self.rows = rows;
        let part = self.rest.slice(0, rows);
        self.rest = self.rest.slice(rows, left - rows);
        let part = columns::converted(&part, &self.schema).map_err(|error| {
            let message = format!("the answer cannot be sent: {error}");
            ServiceError::new(Code::Execution, message)
        })?;
        Ok(Some(part))
    }
}

#[cfg(test)]
mod tests;
