//! Who sends a request: what is known of that goes with it from here on.
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::app::App;
use crate::service::context::{Principal, RequestContext};

/// Puts the context of the request into it.
pub async fn check(State(_): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let context = RequestContext::new(Principal::Anyone);
    request.extensions_mut().insert(context);
    next.run(request).await
}
