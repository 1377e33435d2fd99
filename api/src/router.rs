//! Which path belongs to which module, and what every request passes on its way.
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::ALLOW;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::json;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

use crate::app::App;
use crate::{
    admin, influx_configure, influx_delete, influx_write, malformed, metrics, origin, panics,
    prom_admin, prom_exemplars, prom_explain, prom_labels, prom_parse, prom_query, prom_read,
    prom_scraping, prom_status, prom_write, sql,
};

/// Smaller answers are sent as they are.
const COMPRESS_ABOVE_BYTES: u16 = 1024;

/// The whole HTTP interface.
pub fn router(app: Arc<App>) -> Router {
    let prometheus = || {
        let queries = Router::new()
            .merge(prom_query::routes())
            .merge(prom_explain::routes())
            .merge(prom_labels::routes());
        let queries = queries
            .merge(prom_parse::routes())
            .merge(prom_exemplars::routes())
            .merge(prom_read::routes());
        let reads = queries
            .merge(prom_status::routes())
            .merge(prom_scraping::routes());
        reads
            .merge(prom_write::routes())
            .merge(prom_admin::routes())
    };
    let routes = Router::new()
        .merge(prometheus())
        .nest("/db/{database}", prometheus())
        .merge(influx_write::routes())
        .merge(influx_delete::routes())
        .merge(influx_configure::routes())
        .merge(sql::routes())
        .merge(admin::routes())
        .route("/metrics", get(metrics::metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method);
    layered(routes, app)
}

/// What every request passes, the last one first.
fn layered(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    let compressible = SizeAbove::new(COMPRESS_ABOVE_BYTES)
        .and(NotForContentType::new("application/vnd.apache.parquet"));
    routes
        .layer(
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(compressible),
        )
        .layer(middleware::from_fn_with_state(app.clone(), origin::check))
        .layer(middleware::from_fn(malformed::check))
        .layer(middleware::from_fn(panics::answer))
        .layer(middleware::from_fn_with_state(
            app.clone(),
            metrics::observe,
        ))
        .with_state(app)
}

async fn unknown_path(request: Request) -> Response {
    let message = format!("there is nothing at {}", request.uri().path());
    (StatusCode::NOT_FOUND, Json(json!({ "error": message }))).into_response()
}

async fn wrong_method(method: Method) -> Response {
    // The header Allow is added by the router, which knows the methods.
    let message =
        format!("the method {method} is not allowed here; the header {ALLOW} lists those that are");
    (
        StatusCode::METHOD_NOT_ALLOWED,
        Json(json!({ "error": message })),
    )
        .into_response()
}

#[cfg(test)]
mod tests;
