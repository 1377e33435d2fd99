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

use crate::http::app::App;
use crate::http::error::Dialect;
use crate::http::{
    admin, authenticate, cluster, grpc, malformed, metrics, openapi, origin, panics, queries,
};
use crate::service::error::{Code, ServiceError};
use crate::{collectd, flight, influx, otlp, prometheus, sql, ui};

/// Smaller answers are sent as they are.
const COMPRESS_ABOVE_BYTES: u16 = 1024;

/// The whole HTTP interface.
pub fn router(app: Arc<App>) -> Router {
    layered(routes(), app)
}

fn routes() -> Router<Arc<App>> {
    let below_a_database = || {
        let queries = Router::new()
            .merge(prometheus::query::routes())
            .merge(prometheus::explain::routes())
            .merge(prometheus::labels::routes())
            .merge(prometheus::parse::routes())
            .merge(prometheus::exemplars::routes())
            .merge(prometheus::read::routes());
        let reads = queries
            .merge(prometheus::status::routes())
            .merge(prometheus::tail::routes())
            .merge(prometheus::scraping::routes());
        reads
            .merge(prometheus::write::routes())
            .merge(prometheus::import::routes())
            .merge(prometheus::pushgateway::routes())
            .merge(collectd::routes())
            .merge(otlp::routes())
            .merge(prometheus::admin::routes())
    };
    Router::new()
        .merge(below_a_database())
        .nest("/db/{database}", below_a_database())
        .merge(influx::write::routes())
        .merge(influx::delete::routes())
        .merge(influx::buckets::routes())
        .merge(influx::configure::routes())
        .merge(influx::query::routes())
        .merge(influx::query_v3::routes())
        .merge(influx::limits::routes())
        .merge(influx::token::routes())
        .merge(sql::routes())
        .merge(flight::routes())
        .merge(otlp::grpc_routes())
        .merge(admin::routes())
        .merge(queries::routes())
        .merge(cluster::routes())
        .merge(openapi::routes())
        .merge(ui::routes())
        .route("/metrics", get(metrics::metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
}

/// What every request passes, the last one first.
fn layered(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    let compressible = SizeAbove::new(COMPRESS_ABOVE_BYTES)
        .and(NotForContentType::new("application/vnd.apache.parquet"))
        // Its messages are compressed one by one.
        .and(NotForContentType::GRPC)
        // Events would wait until there is enough to compress.
        .and(NotForContentType::SSE);
    routes
        .layer(
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(compressible),
        )
        .layer(middleware::from_fn_with_state(
            app.clone(),
            authenticate::check,
        ))
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
    if grpc::is_grpc(request.headers()) {
        return ServiceError::new(Code::Unsupported, message).respond(Dialect::Grpc);
    }
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
mod authorization_tests;
#[cfg(test)]
mod incident_tests;
#[cfg(test)]
mod openapi_tests;
#[cfg(test)]
mod tests;
