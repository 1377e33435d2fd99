//! SQL over HTTP: `/api/v3/query_sql`, by GET parameters or a POST of JSON (or a form), as InfluxDB
//! 3's clients ask.
//!
//! A POST may also change something: `DELETE`, `DROP`, `ALTER ... SET (retention = ...)`. Its
//! answer is one row with the number of the commit; how many rows went nobody knows before they are
//! read.
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt, stream};

use crate::http::app::App;
use crate::http::error::Dialect;
use crate::http::paced_body::{CHUNK_BYTES, Pace};
use crate::node::backend::{AsOf, SqlText, parse_as_of};
use crate::prometheus::params as parameters;
use crate::service::context::{Read, RequestContext};
use crate::service::database::check_name;
use crate::service::error::{Code, ServiceError};
use crate::service::sql::{SqlRequest, SqlRows, failure_of_rows};

pub mod asked;
pub mod cells;
pub mod columns;
pub mod formats;
pub mod lines;
pub mod placeholders;
pub mod warnings;

use self::asked::{Asked, MAX_QUERY_BYTES};
use self::formats::{Encoder, Format};
use self::lines::Lines;

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v3/query_sql", get(by_get).post(by_post))
}

async fn by_get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        run(
            &app,
            &caller,
            Asked::of_query(query.as_deref())?,
            &headers,
            false,
        )
        .await
    };
    answer.await.unwrap_or_else(|e| e.respond(Dialect::Influx))
}

async fn by_post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let held = app.bodies.read(&headers, body, MAX_QUERY_BYTES).await?;
        let asked = Asked::of_body(query.as_deref(), &headers, &held.bytes)?;
        run(&app, &caller, asked, &headers, true).await
    };
    answer.await.unwrap_or_else(|e| e.respond(Dialect::Influx))
}

async fn run(
    app: &App,
    caller: &RequestContext,
    asked: Asked,
    headers: &HeaderMap,
    may_change: bool,
) -> Result<Response, ServiceError> {
    let missing =
        |name: &str| ServiceError::bad_request(format!("the parameter {name:?} is missing"));
    let database = asked.db.ok_or_else(|| missing("db"))?;
    check_name(&database)?;
    let query = asked.q.ok_or_else(|| missing("q"))?;
    let format = Format::choose(
        asked.format.as_deref(),
        headers.get(ACCEPT).and_then(|v| v.to_str().ok()),
    )?;
    let params = placeholders::from_json(asked.params.unwrap_or_default())?;
    let text = app.service.read_sql(&query)?;
    let as_of = read_as_of(asked.as_of.as_ref(), &text)?;
    if text.is_command() {
        if !may_change {
            let words = text.first_words();
            return Err(ServiceError::bad_request(format!(
                "{words} changes something, and a GET only reads: send it by POST"
            )));
        }
        if as_of.is_some() {
            return Err(ServiceError::bad_request(
                "the statement changes the present state: leave out the parameter \"asOf\"",
            ));
        }
        let changed = app.service.sql_command(caller, &database, text, params);
        let (done, sequence) = Box::pin(changed).await?;
        return changed_answer(done, sequence, format);
    }
    let access = caller.access::<Read>(&database)?;
    let request = SqlRequest {
        text,
        params,
        partial: asked.partial_response,
        as_of,
        timeout: None,
    };
    let pace = app.pace();
    let shape = Shape::new(format, asked.table, asked.tags)?;
    let begin = |rows| respond(rows, &shape, &pace);
    let (mut response, warnings) = Box::pin(app.service.sql(&access, request, begin)).await?;
    warnings::write(response.headers_mut(), &warnings);
    Ok(response)
}

/// The state to read, said by the statement or by a parameter.
fn read_as_of(
    parameter: Option<&serde_json::Value>,
    text: &SqlText,
) -> Result<Option<AsOf>, ServiceError> {
    let given = match parameter {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        // A number keeps its fraction, by which a time is told from the number of a commit.
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        Some(_) => {
            return Err(ServiceError::bad_request(
                "the parameter \"asOf\" must be a number or a text",
            ));
        }
    };
    let given = given
        .map(|text| parse_as_of(&text))
        .transpose()
        .map_err(|why| parameters::invalid("asOf", why))?;
    match (given, text.as_of()) {
        (Some(_), Some(_)) => Err(ServiceError::bad_request(
            "there is AS OF in the statement and the parameter \"asOf\": give one of them",
        )),
        (given, said) => Ok(given.or(said)),
    }
}

/// How the rows of an answer are written.
#[derive(Debug)]
pub enum Shape {
    /// One of the formats.
    Format(Format),
    /// Line protocol of a table.
    Lines {
        /// Its name.
        table: String,
        /// Its tags, if types do not say them.
        tags: Option<Vec<String>>,
    },
}

impl Shape {
    /// Of a format, and what line protocol needs besides.
    pub fn new(
        format: Format,
        table: Option<String>,
        tags: Option<Vec<String>>,
    ) -> Result<Self, ServiceError> {
        match (format, table) {
            (Format::LineProtocol, Some(table)) => Ok(Self::Lines { table, tags }),
            (Format::LineProtocol, None) => Err(ServiceError::bad_request(
                "the parameter \"table\" is missing: line protocol needs it",
            )),
            (format, _) => Ok(Self::Format(format)),
        }
    }

    fn encoder(&self, schema: SchemaRef) -> Result<Encoder, ArrowError> {
        match self {
            Self::Format(format) => Encoder::new(*format, schema),
            Self::Lines { table, tags } => {
                let lines = Lines::new(table, tags.as_deref(), &schema)?;
                Ok(Encoder::lines(lines, schema))
            }
        }
    }

    fn content_type(&self) -> &'static str {
        match self {
            Self::Format(format) => format.content_type(),
            Self::Lines { .. } => Format::LineProtocol.content_type(),
        }
    }
}

/// What was done, and the number of the commit.
fn changed_answer(
    done: &'static str,
    sequence: u64,
    format: Format,
) -> Result<Response, ServiceError> {
    let columns: [(&str, ArrayRef); 2] = [
        ("done", Arc::new(StringArray::from(vec![done]))),
        ("sequence", Arc::new(UInt64Array::from(vec![sequence]))),
    ];
    let batch = RecordBatch::try_from_iter(columns)
        .map_err(|error| ServiceError::of(Code::Internal, error))?;
    formats::answer(format, &batch)
}

/// An answer whose failures have a status until its first chunk is complete, and break the body
/// after it.
pub async fn respond(rows: SqlRows, shape: &Shape, pace: &Pace) -> Result<Response, ServiceError> {
    let SqlRows {
        stream: batches,
        deadline,
        slot,
    } = rows;
    let encoder = shape
        .encoder(batches.schema())
        .map_err(|error| ServiceError::of(Code::Execution, error))?;
    let chunks = Box::pin(encode(batches, encoder));
    let in_time = stream::unfold(Some((chunks, deadline)), async |rest| {
        let (mut chunks, deadline) = rest?;
        match deadline.within(chunks.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some((chunks, deadline)))),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(failure_of_rows(error)), None)),
            Err(late) => Some((Err(late), None)),
        }
    });
    let body = pace.body(Box::pin(in_time), slot).await?;
    let mut response = body.into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(shape.content_type()));
    Ok(response)
}

/// Rows that are encoded at once.
const MIN_ROWS: usize = 64;
const MAX_ROWS: usize = 8192;

/// Batches on their way to chunks of about [`CHUNK_BYTES`].
struct Encoding {
    batches: SendableRecordBatchStream,
    /// `None` after the end.
    encoder: Option<Encoder>,
    batch: RecordBatch,
    /// Rows of `batch` that are encoded.
    done: usize,
    /// How many to encode next.
    rows: usize,
}

impl Encoding {
    /// The next bytes; there may be none yet. `None` after the last.
    async fn next(&mut self) -> Option<Result<Bytes, DataFusionError>> {
        while self.done == self.batch.num_rows() {
            match self.batches.next().await {
                Some(Ok(batch)) => (self.batch, self.done) = (batch, 0),
                Some(Err(error)) => {
                    self.encoder = None;
                    return Some(Err(error));
                }
                None => {
                    let encoder = self.encoder.take()?;
                    return Some(encoder.finish().map_err(arrow_failure));
                }
            }
        }
        let rows = self.rows.min(self.batch.num_rows() - self.done);
        let part = self.batch.slice(self.done, rows);
        self.done += rows;
        let chunk = self.encoder.as_mut()?.batch(&part);
        match &chunk {
            // Rows differ in size: what the last ones took is the best guess.
            Ok(chunk) => {
                let fitting = rows.saturating_mul(CHUNK_BYTES) / chunk.len().max(1);
                self.rows = fitting.clamp(MIN_ROWS, MAX_ROWS);
            }
            Err(_) => self.encoder = None,
        }
        Some(chunk.map_err(arrow_failure))
    }
}

fn encode(
    batches: SendableRecordBatchStream,
    encoder: Encoder,
) -> impl Stream<Item = Result<Bytes, DataFusionError>> {
    let encoding = Encoding {
        batch: RecordBatch::new_empty(batches.schema()),
        batches,
        encoder: Some(encoder),
        done: 0,
        rows: MIN_ROWS,
    };
    stream::unfold(encoding, async |mut encoding| {
        encoding.encoder.as_ref()?;
        let chunk = encoding.next().await?;
        Some((chunk, encoding))
    })
}

fn arrow_failure(error: ArrowError) -> DataFusionError {
    match error {
        ArrowError::MemoryError(message) => DataFusionError::ResourcesExhausted(message),
        other => DataFusionError::ArrowError(Box::new(other), None),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    use super::*;
    use std::time::Duration;

    use crate::service::read::Deadline;
    use crate::service::slots::{Language, QuerySlots};

    fn numbers(n: i64) -> RecordBatch {
        RecordBatch::try_from_iter([(
            "n",
            Arc::new(Int64Array::from_iter_values(0..n)) as ArrayRef,
        )])
        .unwrap()
    }

    async fn answer(
        items: Vec<Result<RecordBatch, DataFusionError>>,
        format: Format,
    ) -> Result<Response, ServiceError> {
        let batches = Box::pin(RecordBatchStreamAdapter::new(
            numbers(0).schema(),
            stream::iter(items),
        ));
        let slot = Arc::new(
            QuerySlots::new(1, Duration::ZERO)
                .enter(Language::Sql)
                .await
                .unwrap(),
        );
        let rows = SqlRows {
            stream: batches,
            deadline: Deadline::new(Duration::from_secs(10)),
            slot,
        };
        respond(rows, &Shape::Format(format), &Pace::patient()).await
    }

    fn failure() -> DataFusionError {
        DataFusionError::Execution("no luck".into())
    }

    #[tokio::test]
    async fn rows_stream_to_a_well_formed_end() {
        let response = answer(
            vec![Ok(numbers(0)), Ok(numbers(1)), Ok(numbers(2))],
            Format::Json,
        )
        .await
        .unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = axum::body::to_bytes(response.into_body(), 1000)
            .await
            .unwrap();
        assert_eq!(body, r#"[{"n":0},{"n":0},{"n":1}]"#);
        let response = answer(vec![], Format::Json).await.unwrap();
        assert_eq!(
            axum::body::to_bytes(response.into_body(), 1000)
                .await
                .unwrap(),
            "[]"
        );
    }

    #[tokio::test]
    async fn an_early_failure_has_a_status_and_a_late_one_breaks_the_body() {
        let early = answer(vec![Ok(numbers(0)), Err(failure())], Format::Json)
            .await
            .unwrap_err();
        assert_eq!(early.status(Dialect::Text).as_u16(), 422);
        assert!(early.message.contains("no luck"));
        let many = numbers(CHUNK_BYTES as i64 / 4);
        let late = answer(vec![Ok(many), Err(failure())], Format::JsonLines)
            .await
            .unwrap();
        let read = axum::body::to_bytes(late.into_body(), 1 << 20).await;
        assert!(read.is_err());
    }

    #[tokio::test]
    async fn large_batches_leave_in_chunks() {
        let text = "x".repeat(100);
        let texts = StringArray::from_iter_values(std::iter::repeat_n(&text, 100_000));
        let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap();
        for format in [Format::JsonLines, Format::Csv, Format::Json] {
            let batches = stream::iter([Ok(batch.clone())]);
            let batches = RecordBatchStreamAdapter::new(batch.schema(), batches);
            let encoder = Encoder::new(format, batch.schema()).unwrap();
            let chunks: Vec<usize> = encode(Box::pin(batches), encoder)
                .map(|chunk| chunk.unwrap().len())
                .collect()
                .await;
            assert!(chunks.iter().all(|n| *n < CHUNK_BYTES + 1000), "{chunks:?}");
            assert!(chunks.iter().sum::<usize>() > 10_000_000);
            assert!(chunks.len() < 500, "{}", chunks.len());
        }
    }
}
