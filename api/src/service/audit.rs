//! Who did what to tokens, deletes, drops, retention and limits.

use super::Service;
use super::context::Principal;
use super::error::ServiceError;

impl Service {
    /// Notes what a principal did, and how it ended. `what` has no secrets.
    pub fn audit<T>(
        &self,
        principal: &Principal,
        action: &'static str,
        what: &str,
        result: &Result<T, ServiceError>,
    ) {
        let outcome = match result {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::info!(principal = principal.name(), action, what, outcome, "audit");
    }
}
