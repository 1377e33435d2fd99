//! InfluxQL as InfluxDB 3 answers it: `/api/v3/query_influxql`, with the parameters and formats of
//! `/api/v3/query_sql`.

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::Response;
use axum::routing::get;
use tidelake_querier::influxql::{InfluxqlError, parse};

use super::query::params;
use crate::http::app::App;
use crate::http::error::Dialect;
use crate::service::context::RequestContext;
use crate::service::error::ServiceError;
use crate::service::influxql::InfluxqlRequest;
use crate::sql::asked::{Asked, MAX_QUERY_BYTES};
use crate::sql::formats::Format;
use crate::sql::{Shape, respond, warnings};

/// The path of this module.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v3/query_influxql", get(by_get).post(by_post))
}

async fn by_get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<RequestContext>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let asked = Asked::of_query(query.as_deref())?;
        run(&app, &caller, asked, &headers).await
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
        run(&app, &caller, asked, &headers).await
    };
    answer.await.unwrap_or_else(|e| e.respond(Dialect::Influx))
}

async fn run(
    app: &App,
    caller: &RequestContext,
    asked: Asked,
    headers: &HeaderMap,
) -> Result<Response, ServiceError> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::choose(asked.format.as_deref(), accept)?;
    let shape = Shape::new(format, asked.table, asked.tags)?;
    let text = asked
        .q
        .ok_or_else(|| ServiceError::bad_request("the parameter \"q\" is missing"))?;
    if asked.as_of.is_some() {
        return Err(ServiceError::bad_request(
            "InfluxQL reads the present state only: leave out the parameter \"asOf\", or use SQL",
        ));
    }
    let bound = params::of_json(asked.params.unwrap_or_default())?;
    let request = InfluxqlRequest {
        database: asked.db,
        policy: None,
        statements: parse(&text, &bound).map_err(InfluxqlError::from)?,
        text,
        partial: asked.partial_response,
    };
    let rows = app.service.influxql_rows(caller, request);
    let (rows, remarks) = Box::pin(rows).await?;
    let mut response = respond(rows, &shape, &app.pace()).await?;
    warnings::write(response.headers_mut(), &remarks);
    Ok(response)
}
