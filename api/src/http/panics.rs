//! Panics of handlers, answered as defects of the server.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tidelake_catalog::panics::{Panicked, caught};

use crate::http::error::Dialect;
use crate::service::error::{Code, ServiceError};

impl From<Panicked> for ServiceError {
    fn from(panicked: Panicked) -> Self {
        ServiceError::new(Code::Internal, panicked.to_string())
    }
}

/// A handler that panics is answered with 500, in the words of its path.
pub async fn answer(request: Request, next: Next) -> Response {
    let dialect = Dialect::of(&request);
    caught(next.run(request))
        .await
        .unwrap_or_else(|panicked| ServiceError::from(panicked).respond(dialect))
}
