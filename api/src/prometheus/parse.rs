//! `/api/v1/format_query` and `/api/v1/parse_query`: a query's text laid out, and its tree.
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;
use tidelake_querier::promql::parse::ast::Expr;
use tidelake_querier::promql::parse::{parse_with, pretty};

use crate::http::app::App;
use crate::http::error::Dialect;
use crate::prometheus::answer::success;
use crate::prometheus::ast;
use crate::prometheus::params as parameters;
use crate::prometheus::query::read_params;
use crate::service::error::ServiceError;

/// Paths below a database.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/format_query", get(format_query).post(format_query))
        .route("/api/v1/parse_query", get(parse_query).post(parse_query))
}

async fn format_query(
    State(app): State<Arc<App>>,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, q.as_deref(), &headers, body, |expr| {
        pretty(expr).into()
    })
    .await
}

async fn parse_query(
    State(app): State<Arc<App>>,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&app, q.as_deref(), &headers, body, ast::tree).await
}

async fn answer(
    app: &App,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
    show: impl Fn(&Expr) -> Value,
) -> Response {
    let read = async {
        let params = read_params(app, query, headers, body).await?;
        let expr = parse_with(
            params.get("query").unwrap_or(""),
            app.service.config.promql_experimental,
        )
        .map_err(|e| parameters::invalid("query", e))?;
        Ok::<_, ServiceError>(success(show(&expr)))
    };
    read.await
        .unwrap_or_else(|e| e.respond(Dialect::Prometheus))
}
