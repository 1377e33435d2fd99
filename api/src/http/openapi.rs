//! `/api/openapi.json`: a description of the HTTP interface, which tests compare with the router.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use crate::http::app::App;

/// OpenAPI 3.1. A path that also exists below `/db/{database}` has that as its second server.
pub const DESCRIPTION: &str = include_str!("../../openapi.json");

/// The path of the description.
pub fn routes() -> Router<Arc<App>> {
    let description = ([(CONTENT_TYPE, "application/json")], DESCRIPTION);
    Router::new().route("/api/openapi.json", get(async move || description))
}
