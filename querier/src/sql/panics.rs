//! Panics of what computes a query, as errors of that query.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::SqlError;

/// Runs a step of a query; a panic becomes an error.
pub(super) fn caught<T>(step: impl FnOnce() -> T) -> Result<T, SqlError> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|panic| {
        SqlError::Internal(format!(
            "computing the query failed unexpectedly: {}",
            message(panic.as_ref())
        ))
    })
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
