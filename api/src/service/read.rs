//! Admits a query: a place among those that run, a state to read, and a deadline.

use std::sync::Arc;
use std::time::Duration;

use tidelake_querier::lane::Lane;
use tokio::time::Instant;

use super::context::{Access, Read};
use super::error::{Code, ServiceError};
use super::running::Running;
use super::slots::{Language, QuerySlot};
use super::{Service, missing_role};
use crate::node::backend::{AsOf, Querier};

/// A query that may run.
pub struct Admitted {
    /// Reads the state that was asked for.
    pub querier: Arc<Querier>,
    /// Its place; free when dropped.
    pub slot: QuerySlot,
    /// How long it waited for the place.
    pub queued: Duration,
    /// When it must have ended.
    pub deadline: Deadline,
    /// Where it computes.
    pub lane: Lane,
}

/// When a query must have ended.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Instant,
    limit: Limit,
    /// The query that may be stopped before.
    running: Option<Arc<Running>>,
}

/// What sets a deadline.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// A setting, and its value.
    Setting(&'static str, Duration),
    /// The client, which waits no longer.
    Client,
}

impl Deadline {
    /// So much time from now on.
    pub fn new(timeout: Duration) -> Self {
        Self {
            at: Instant::now() + timeout,
            limit: Limit::Setting("query_timeout_ms", timeout),
            running: None,
        }
    }

    /// The same for a query that may be stopped.
    pub fn or_stopped(self, running: Option<Arc<Running>>) -> Self {
        Self { running, ..self }
    }

    /// The same, or so much time from now on if that is less: what the setting of a session says.
    pub fn or_sooner(self, timeout: Option<Duration>) -> Self {
        match timeout {
            Some(timeout) => {
                let at = Instant::now() + timeout;
                let limit = Limit::Setting("statement_timeout", timeout);
                if at < self.at {
                    Self { at, limit, ..self }
                } else {
                    self
                }
            }
            None => self,
        }
    }

    /// The same, or earlier if the client waits less long.
    pub fn or_before(self, until: Option<Instant>) -> Self {
        match until {
            Some(at) if at < self.at => Self {
                at,
                limit: Limit::Client,
                ..self
            },
            _ => self,
        }
    }

    /// Waits for work, but not longer.
    ///
    /// # Errors
    /// [`Code::Timeout`], and [`Code::Execution`] when the query is stopped.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, ServiceError> {
        let late = |_| {
            let message = match self.limit {
                Limit::Setting(name, timeout) => {
                    let timeout = timeout.as_millis();
                    format!("the query ran longer than {name} = {timeout}")
                }
                Limit::Client => "the query ran longer than its client waits".to_owned(),
            };
            ServiceError::new(Code::Timeout, message)
        };
        let in_time = tokio::time::timeout_at(self.at, work);
        let done = match &self.running {
            Some(running) => running.unless_stopped(in_time).await?,
            None => in_time.await,
        };
        done.map_err(late)
    }
}

impl Service {
    /// Waits for a place, and finds the state as of a time.
    ///
    /// # Errors
    /// [`Code::Unavailable`] while the server starts or stops, or when no place becomes free;
    /// [`Code::Throttled`] when the database or the token has as many queries as it may.
    pub async fn admit(
        &self,
        access: &Access<Read>,
        language: Language,
        as_of: Option<AsOf>,
    ) -> Result<Admitted, ServiceError> {
        let limits = self.limits_of(access)?;
        let tenants = self.admit_query(access)?;
        let backend = self.backend()?;
        if language != Language::Tail && !access.is_inside() {
            backend.querier().map_err(missing_role)?;
        }
        let lane = backend.lane(access.class().threads());
        let querier = match (language, as_of) {
            // Its selectors hear from all ingesters before they look at the catalog.
            (Language::Promql, None) => Arc::clone(&backend.querier),
            _ => Box::pin(self.querier(as_of)).await?,
        };
        let mut querier = querier.on(&lane);
        if limits.query_read_bytes.is_some() || limits.query_samples.is_some() {
            let or_none = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
            let (bytes, samples) = (limits.query_read_bytes, limits.query_samples);
            querier = querier.limited(or_none(bytes), or_none(samples));
        }
        let asked = Instant::now();
        let slot = self.slots.enter(language).await?.of(tenants);
        let begun_ms = (self.now_ms)();
        let running = self.running.begin(language, access, &lane, begun_ms);
        let slot = slot.listed(running);
        let running = slot.running().cloned();
        Ok(Admitted {
            querier: Arc::new(querier),
            lane,
            slot,
            queued: asked.elapsed(),
            deadline: Deadline::new(self.config.query_timeout())
                .or_before(access.until())
                .or_stopped(running),
        })
    }
}
