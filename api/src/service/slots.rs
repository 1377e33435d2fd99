//! How many queries run at once: the others wait for a bounded time and are then told to come back.
//! And how they end.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidelake_querier::lane::Lane;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::service::class::QueryClass;
use crate::service::error::{Code, ServiceError};
use crate::service::running::{Listed, Running};
use crate::service::tenants::TenantQuery;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// An expression of PromQL, with or without its answer.
    Promql,
    /// A SQL statement that reads.
    Sql,
    /// A statement of InfluxQL.
    Influxql,
    /// Series, label names, label values, and how many there are.
    Labels,
    /// Exemplars.
    Exemplars,
    /// Series with their samples, for another Prometheus.
    RemoteRead,
    /// Points as they arrive.
    Tail,
}

impl Language {
    const ALL: [Language; 7] = [
        Language::Promql,
        Language::Sql,
        Language::Influxql,
        Language::Labels,
        Language::Exemplars,
        Language::RemoteRead,
        Language::Tail,
    ];

    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Language::Promql => "promql",
            Language::Sql => "sql",
            Language::Influxql => "influxql",
            Language::Labels => "labels",
            Language::Exemplars => "exemplars",
            Language::RemoteRead => "remote_read",
            Language::Tail => "tail",
        }
    }
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Answered,
    /// It was wrong, or could not be answered.
    Failed,
    /// It asked for more samples, series, bytes or memory than it may.
    Limited,
    /// It took longer than it may.
    TimedOut,
    /// Its client went away.
    Cancelled,
    /// Its client took nothing of the answer for `write_timeout_ms`.
    Stalled,
    /// There was no place for it.
    Refused,
}

impl Outcome {
    const ALL: [Outcome; 7] = [
        Outcome::Answered,
        Outcome::Failed,
        Outcome::Limited,
        Outcome::TimedOut,
        Outcome::Cancelled,
        Outcome::Stalled,
        Outcome::Refused,
    ];

    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Failed => "failed",
            Outcome::Limited => "limited",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Stalled => "stalled",
            Outcome::Refused => "refused",
        }
    }

    /// The outcome that an error is.
    pub fn of(error: &ServiceError) -> Self {
        match error.code {
            Code::Limited => Outcome::Limited,
            Code::Timeout => Outcome::TimedOut,
            _ => Outcome::Failed,
        }
    }
}

/// Queries by language and outcome, and those that were heavy by class, since the start.
#[derive(Debug, Default)]
struct Ended {
    outcomes: [[AtomicU64; Outcome::ALL.len()]; Language::ALL.len()],
    heavy: [AtomicU64; QueryClass::ALL.len()],
}

impl Ended {
    fn count(&self, language: Language, outcome: Outcome) {
        self.outcomes[language as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A place to run a query in; free again when dropped. A query that does not say how it ended was
/// cancelled.
#[derive(Debug)]
pub struct QuerySlot {
    language: Language,
    /// With the code of the failure, if it is known.
    ending: Mutex<(Outcome, Option<Code>)>,
    ended: Arc<Ended>,
    #[allow(dead_code, reason = "held for its drop")]
    tenants: Option<TenantQuery>,
    listed: Option<Listed>,
    #[allow(dead_code, reason = "held for its drop")]
    permit: OwnedSemaphorePermit,
}

impl QuerySlot {
    /// Who asks.
    pub fn language(&self) -> Language {
        self.language
    }

    /// The same, counted among the queries of its tenants.
    pub fn of(mut self, tenants: TenantQuery) -> Self {
        self.tenants = Some(tenants);
        self
    }

    /// The same, in the list of those that run.
    pub fn listed(mut self, listed: Listed) -> Self {
        self.listed = Some(listed);
        self
    }

    /// The query as those see it who may stop it.
    pub fn running(&self) -> Option<&Arc<Running>> {
        self.listed.as_ref().map(Listed::running)
    }

    /// Where the query computes.
    pub fn lane(&self) -> Lane {
        let lane = self.running().map(|running| running.lane().clone());
        lane.unwrap_or_default()
    }

    /// Shows what is asked in the list of queries that run.
    pub fn shows(&self, text: &str) {
        if let Some(running) = self.running() {
            running.set_text(text);
        }
    }

    /// Notes how the query ends; the last word counts, but what was stopped stays so.
    pub fn end(&self, outcome: Outcome) {
        self.note((outcome, None));
    }

    /// The same for a query that fails.
    pub fn fail(&self, error: &ServiceError) {
        self.note((Outcome::of(error), Some(error.code)));
    }

    fn note(&self, ending: (Outcome, Option<Code>)) {
        let is_stopped = self.running().is_some_and(|running| running.is_stopped());
        *self.ending.lock() = match is_stopped {
            true => (Outcome::Cancelled, None),
            false => ending,
        };
    }

    /// Waits for what the query computes, until it is stopped, and notes how that ends.
    pub async fn watch<T, E: Into<ServiceError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ServiceError> {
        let answer = match self.running() {
            Some(running) => running.unless_stopped(work).await,
            None => Ok(work.await),
        };
        let answer = answer.and_then(|done| done.map_err(Into::into));
        match &answer {
            Ok(_) => self.end(Outcome::Answered),
            Err(error) => self.fail(error),
        }
        answer
    }
}

impl Drop for QuerySlot {
    fn drop(&mut self) {
        let (outcome, code) = *self.ending.get_mut();
        self.ended.count(self.language, outcome);
        if let Some(listed) = &self.listed {
            listed.note_end(outcome, code);
        }
        let running = self.running().filter(|running| running.lane().is_heavy());
        if let Some(running) = running {
            self.ended.heavy[running.class() as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The places for queries.
#[derive(Debug)]
pub struct QuerySlots {
    places: Arc<Semaphore>,
    total: usize,
    wait: Duration,
    ended: Arc<Ended>,
}

impl QuerySlots {
    /// So many places, and how long to wait for one.
    pub fn new(places: usize, wait: Duration) -> Self {
        let total = places.min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(total)),
            total,
            wait,
            ended: Arc::default(),
        }
    }

    /// Waits for a place; 503 when none becomes free in time.
    pub async fn enter(&self, language: Language) -> Result<QuerySlot, ServiceError> {
        match tokio::time::timeout(self.wait, self.places.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(QuerySlot {
                language,
                ending: Mutex::new((Outcome::Cancelled, None)),
                ended: Arc::clone(&self.ended),
                tenants: None,
                listed: None,
                permit,
            }),
            _ => {
                self.ended.count(language, Outcome::Refused);
                Err(ServiceError::unavailable(format!(
                    "too many queries at once: none of the {} places (max_concurrent_queries) \
                     became free in {} ms (query_queue_ms); try again later",
                    self.total,
                    self.wait.as_millis()
                )))
            }
        }
    }

    /// Places that are free.
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }

    /// Places that are taken.
    pub fn running(&self) -> usize {
        self.total.saturating_sub(self.free())
    }

    /// How many queries of each class turned out to be heavy, of those that ended.
    pub fn heavy(&self) -> impl Iterator<Item = (QueryClass, u64)> + '_ {
        let count = |class: QueryClass| self.ended.heavy[class as usize].load(Ordering::Relaxed);
        QueryClass::ALL
            .map(|class| (class, count(class)))
            .into_iter()
    }

    /// How many queries ended how so far.
    pub fn ended(&self) -> impl Iterator<Item = (Language, Outcome, u64)> + '_ {
        let of = move |language: Language| {
            Outcome::ALL.into_iter().map(move |outcome| {
                (
                    language,
                    outcome,
                    self.ended.outcomes[language as usize][outcome as usize]
                        .load(Ordering::Relaxed),
                )
            })
        };
        Language::ALL.into_iter().flat_map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(slots: &QuerySlots) -> Vec<(&'static str, &'static str, u64)> {
        let all = slots.ended().filter(|(_, _, count)| *count > 0);
        all.map(|(language, outcome, count)| (language.name(), outcome.name(), count))
            .collect()
    }

    #[tokio::test]
    async fn a_full_house_answers_503_and_a_left_place_is_free() {
        let slots = QuerySlots::new(1, Duration::from_millis(10));
        let first = slots.enter(Language::Sql).await.unwrap();
        assert_eq!(slots.running(), 1);
        let refused = slots.enter(Language::Sql).await.unwrap_err();
        assert!(matches!(refused.code, Code::Unavailable { .. }));
        assert!(
            refused
                .message
                .contains("none of the 1 places (max_concurrent_queries) became free in 10 ms"),
            "{}",
            refused.message
        );
        drop(first);
        assert!(slots.enter(Language::Sql).await.is_ok());
        assert_eq!(slots.running(), 0);
    }

    #[tokio::test]
    async fn every_end_is_counted() {
        let slots = QuerySlots::new(1, Duration::ZERO);
        let end = async |result: Result<(), ServiceError>| {
            let slot = slots.enter(Language::Promql).await.unwrap();
            let _ = slot.watch(std::future::ready(result)).await;
        };
        end(Ok(())).await;
        end(Err(ServiceError::bad_request("x"))).await;
        end(Err(ServiceError::new(Code::Limited, "x"))).await;
        end(Err(ServiceError::new(Code::Timeout, "x"))).await;
        let slot = slots.enter(Language::Promql).await.unwrap();
        assert!(slots.enter(Language::Sql).await.is_err());
        // The client goes away while the query runs.
        let watched = tokio::time::timeout(
            Duration::ZERO,
            slot.watch(std::future::pending::<Result<(), ServiceError>>()),
        )
        .await;
        assert!(watched.is_err());
        drop(slot);
        let promql = ["answered", "failed", "limited", "timed_out", "cancelled"]
            .map(|outcome| ("promql", outcome, 1));
        assert_eq!(
            ended(&slots),
            [promql.as_slice(), &[("sql", "refused", 1)]].concat()
        );
    }
}
