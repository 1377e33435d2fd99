//! How many queries run at once: the others wait for a bounded time and are then told to come back.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// A place to run a query in; free again when dropped.
#[derive(Debug)]
pub struct QuerySlot(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// The places for queries.
#[derive(Debug)]
pub struct QuerySlots {
    places: Arc<Semaphore>,
    wait: Duration,
}

impl QuerySlots {
    /// So many places, and how long to wait for one.
    pub fn new(places: usize, wait: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))), wait }
    }

    /// Waits for a place; 503 when none becomes free in time.
    pub async fn enter(&self) -> Result<QuerySlot, ApiError> {
        match tokio::time::timeout(self.wait, self.places.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(QuerySlot(permit)),
            _ => Err(ApiError::unavailable(format!(
                "too many queries at once: no place became free in {} ms; try again later or raise max_concurrent_queries",
                self.wait.as_millis()
            ))),
        }
    }

    /// Places that are free.
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_house_answers_503_and_a_left_place_is_free() {
        let slots = QuerySlots::new(1, Duration::from_millis(10));
        let first = slots.enter().await.unwrap();
        assert_eq!(slots.enter().await.unwrap_err().status().as_u16(), 503);
        drop(first);
        assert!(slots.enter().await.is_ok());
    }
}
