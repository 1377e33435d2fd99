//! InfluxQL over HTTP: `/query`, as InfluxDB 1.x has it.
//!
//! Statements are carried out one after the other while the answer is sent. What fails of a
//! statement stands in its result; only what concerns the whole request has another status than
//! 200.
mod csv;
mod indent;
mod json;
pub mod params;

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::stream;
use tidelake_querier::influxql::{InfluxqlError, Statement, parse};

use self::csv::CsvWriter;
use self::json::JsonWriter;
use self::params::Epoch;
use crate::http::app::App;
use crate::http::error::Dialect;
use crate::http::paced_body::CHUNK_BYTES;
use crate::http::params::Params;
use crate::prometheus::params as parameters;
use crate::service::context::RequestContext;
use crate::service::error::ServiceError;
use crate::service::influxql::{InfluxqlRequest, InfluxqlSession, StatementAnswer};

/// Largest request body.
const MAX_QUERY_BYTES: usize = 4 << 20;
/// Rows of a chunk if the request does not say.
const CHUNK_ROWS: usize = 10_000;

/// The path of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/query", get(by_get).post(by_post))
}

async fn by_get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::from_query(query.as_deref());
    respond(run(&app, &caller, &params, &headers, false).await)
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
        let params = Params::from_form(query.as_deref(), &headers, &held.bytes);
        run(&app, &caller, &params, &headers, true).await
    };
    respond(answer.await)
}

/// Every answer says what answers, as clients look for it.
fn respond(answer: Result<Response, ServiceError>) -> Response {
    let mut response = answer.unwrap_or_else(|error| {
        let text = HeaderValue::from_str(&error.message).ok();
        let mut response = error.respond(Dialect::Influx);
        let name = HeaderName::from_static("x-influxdb-error");
        text.map(|text| response.headers_mut().insert(name, text));
        response
    });
    let headers = response.headers_mut();
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    headers.insert(HeaderName::from_static("x-influxdb-version"), version);
    let build = HeaderValue::from_static("tidelake");
    headers.insert(HeaderName::from_static("x-influxdb-build"), build);
    response
}

async fn run(
    app: &Arc<App>,
    caller: &RequestContext,
    params: &Params,
    headers: &HeaderMap,
    may_change: bool,
) -> Result<Response, ServiceError> {
    let text = params
        .get("q")
        .ok_or_else(|| ServiceError::bad_request("missing required parameter \"q\""))?;
    let epoch = Epoch::read(params.get("epoch").or_else(|| params.get("precision")))?;
    let bound = params::bound(params.get("params"))?;
    let statements = parse(text, &bound).map_err(InfluxqlError::from)?;
    if !may_change && !statements.iter().all(Statement::is_read) {
        return Err(ServiceError::bad_request(
            "a statement that changes something must come by POST",
        ));
    }
    let flag = |name: &str| {
        let parsed = params.get(name).map(parameters::parse_bool).transpose();
        parsed.map_err(ServiceError::bad_request)
    };
    let chunk_rows = match flag("chunked")? {
        Some(true) => {
            let asked = params.get("chunk_size").map(str::parse::<usize>);
            Some(
                asked
                    .and_then(Result::ok)
                    .filter(|rows| *rows > 0)
                    .unwrap_or(CHUNK_ROWS),
            )
        }
        _ => None,
    };
    let session = app
        .service
        .influxql(
            caller,
            InfluxqlRequest {
                database: params.get("db").map(str::to_owned),
                policy: params.get("rp").map(str::to_owned),
                statements,
                text: text.to_owned(),
                partial: flag("partial_response")?,
            },
        )
        .await?;
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or("");
    let is_csv = accept.starts_with("application/csv") || accept.starts_with("text/csv");
    let (writer, content_type) = match is_csv {
        true => (Writer::Csv(CsvWriter::new(epoch)), "text/csv"),
        false => {
            let is_pretty = flag("pretty")? == Some(true);
            let writer = JsonWriter::new(epoch, chunk_rows, is_pretty);
            (Writer::Json(writer), "application/json")
        }
    };
    let slot = session.slot().cloned();
    let chunks = Answering {
        app: Arc::clone(app),
        session,
        writer,
        next: 0,
        current: None,
        is_done: false,
    };
    let chunks = stream::unfold(chunks, |mut answering| async move {
        let chunk = answering.chunk().await?;
        Some((Ok::<Bytes, ServiceError>(chunk), answering))
    });
    let body = match slot {
        Some(slot) => app.pace().body(Box::pin(chunks), slot).await?,
        // What reads no rows is short.
        None => {
            let chunks: Vec<_> = futures::StreamExt::collect(Box::pin(chunks)).await;
            let chunks: Result<Vec<Bytes>, _> = chunks.into_iter().collect();
            Body::from(chunks?.concat())
        }
    };
    Ok(([(CONTENT_TYPE, content_type)], body).into_response())
}

enum Writer {
    Json(JsonWriter),
    Csv(CsvWriter),
}

/// The result of one statement.
type StatementResult = Result<StatementAnswer, ServiceError>;

/// An answer while it is sent.
struct Answering {
    app: Arc<App>,
    session: InfluxqlSession,
    writer: Writer,
    /// The next statement.
    next: usize,
    current: Option<(usize, StatementResult)>,
    is_done: bool,
}

impl Answering {
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.is_done {
            return None;
        }
        let mut out = Vec::with_capacity(1024);
        while out.len() < CHUNK_BYTES {
            let Some((number, result)) = &self.current else {
                if self.next == self.session.statements() {
                    self.is_done = true;
                    if let Writer::Json(writer) = &mut self.writer {
                        writer.end(&mut out);
                    }
                    break;
                }
                let number = self.next;
                self.next += 1;
                self.current = Some((
                    number,
                    Box::pin(self.session.run(&self.app.service, number)).await,
                ));
                continue;
            };
            let more = match &mut self.writer {
                Writer::Json(writer) => writer.write(*number, result, &mut out),
                Writer::Csv(writer) => writer.write(*number, result, &mut out),
            };
            if !more {
                self.current = None;
            }
        }
        Some(out.into())
    }
}
