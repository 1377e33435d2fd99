//! The queries that run, so that an administrator sees them and can stop them.
//!
//! A query is listed from its place ([`QuerySlot`](super::slots::QuerySlot)) to the end of its
//! answer. To stop it is to drop what computes for it, as when its client goes away; the client is
//! told.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tidelake_querier::lane::Lane;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Service;
use super::class::QueryClass;
use super::context::{Access, Principal, ServerAccess};
use super::ended::{Cost, EndedQueries, EndedQuery, cut_name, cut_text};
use super::error::{Code, ServiceError};
use super::slots::{Language, Outcome};
use crate::node::class_threads::Class;

/// Characters of a query's text that are kept to show.
const MAX_TEXT_CHARS: usize = 2000;

/// The queries of a process.
#[derive(Debug, Default)]
pub struct RunningQueries {
    last: AtomicU64,
    queries: Mutex<BTreeMap<u64, Arc<Running>>>,
    ended: EndedQueries,
}

/// A query that runs.
#[derive(Debug)]
pub struct Running {
    id: u64,
    language: Language,
    database: Arc<str>,
    principal: Principal,
    class: QueryClass,
    lane: Lane,
    begun_ms: i64,
    begun: Instant,
    text: Mutex<String>,
    is_stopped: AtomicBool,
    bell: Notify,
}

/// A query in the list; out of it when dropped.
#[derive(Debug)]
pub struct Listed {
    queries: Arc<RunningQueries>,
    running: Arc<Running>,
}

/// What is shown of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningQuery {
    /// To stop it by; counts up from the start of the process.
    pub id: u64,
    /// Its language.
    pub language: Language,
    /// Its database.
    pub database: Arc<str>,
    /// Who asks.
    pub principal: String,
    /// With which others it shares the processors: what it is for, or `heavy` once it took much.
    pub class: &'static str,
    /// When it got its place, in milliseconds since 1970.
    pub begun_ms: i64,
    /// What it took so far.
    pub cost: Cost,
    /// Its text, cut off; empty if it has none.
    pub text: String,
}

impl RunningQueries {
    /// Lists a query.
    pub fn begin<A>(
        self: &Arc<Self>,
        language: Language,
        access: &Access<A>,
        lane: &Lane,
        now_ms: i64,
    ) -> Listed {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let running = Arc::new(Running {
            id,
            language,
            database: Arc::clone(access.database()),
            principal: access.principal().clone(),
            class: access.class(),
            lane: lane.clone(),
            begun_ms: now_ms,
            begun: Instant::now(),
            text: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            bell: Notify::new(),
        });
        self.queries.lock().insert(id, Arc::clone(&running));
        Listed {
            queries: Arc::clone(self),
            running,
        }
    }

    /// Those that ran before.
    pub fn ended(&self) -> &EndedQueries {
        &self.ended
    }

    /// All of them, the oldest first.
    pub fn list(&self) -> Vec<RunningQuery> {
        let queries = self.queries.lock();
        queries.values().map(|running| running.show()).collect()
    }

    /// Ends what would never end by itself, so that the process can.
    pub fn stop_tails(&self) {
        let queries = self.queries.lock();
        let tails = queries
            .values()
            .filter(|running| running.language == Language::Tail);
        tails.for_each(|running| running.stop());
    }

    /// Stops a query; `None` if it does not run any more.
    pub fn stop(&self, id: u64) -> Option<RunningQuery> {
        let running = self.queries.lock().get(&id).cloned()?;
        running.stop();
        Some(running.show())
    }
}

impl Listed {
    /// The query.
    pub fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Notes what the query took, which has ended. What only waits for points takes nothing.
    pub fn note_end(&self, outcome: Outcome, code: Option<Code>) {
        if self.running.language != Language::Tail {
            let ended = self.running.ended(outcome, code);
            self.queries.ended.note(ended);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.queries.queries.lock().remove(&self.running.id);
    }
}

impl Running {
    /// What is shown of its text.
    pub fn set_text(&self, text: &str) {
        *self.text.lock() = text.chars().take(MAX_TEXT_CHARS).collect();
    }

    /// What it is for.
    pub fn class(&self) -> QueryClass {
        self.class
    }

    /// Where it computes.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Waits for work, but not longer than until the query is stopped.
    ///
    /// # Errors
    /// [`Code::Execution`] when it is.
    pub async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, ServiceError> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(ServiceError::new(
                Code::Execution,
                "the query was stopped by an administrator",
            )),
            done = work => Ok(done),
        }
    }

    /// Waits until it is stopped.
    async fn stopped(&self) {
        loop {
            // A bell that rings between the look and the wait wakes it all the same.
            let rung = self.bell.notified();
            if self.is_stopped() {
                return;
            }
            rung.await;
        }
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.bell.notify_waiters();
    }

    fn show(&self) -> RunningQuery {
        RunningQuery {
            id: self.id,
            language: self.language,
            database: Arc::clone(&self.database),
            principal: self.principal.name().to_owned(),
            class: self.class_name(),
            begun_ms: self.begun_ms,
            cost: self.cost(),
            text: self.text.lock().clone(),
        }
    }

    fn ended(&self, outcome: Outcome, code: Option<Code>) -> EndedQuery {
        EndedQuery {
            id: self.id,
            language: self.language,
            database: cut_name(&self.database),
            principal: cut_name(self.principal.name()),
            class: self.class_name(),
            begun_ms: self.begun_ms,
            outcome: match self.is_stopped() {
                true => "stopped",
                false => outcome.name(),
            },
            code: code.map(Code::name),
            text: cut_text(&self.text.lock()),
            cost: Cost {
                failed: u64::from(outcome != Outcome::Answered),
                ..self.cost()
            },
        }
    }

    fn class_name(&self) -> &'static str {
        match self.lane.is_heavy() {
            true => Class::Heavy.name(),
            false => self.class.name(),
        }
    }

    fn cost(&self) -> Cost {
        Cost {
            queries: 1,
            failed: 0,
            running: self.begun.elapsed(),
            computing: match self.language {
                // Known when it has ended.
                Language::Sql => self.lane.operators_computing(),
                _ => self.lane.computing(),
            },
            read: self.lane.read_counts(),
        }
    }
}

impl Service {
    /// The queries that run in this process.
    pub fn running_queries(&self, _: &ServerAccess) -> Vec<RunningQuery> {
        self.running.list()
    }

    /// Stops a query.
    ///
    /// # Errors
    /// [`Code::NotFound`] if none of the number runs.
    pub async fn stop_query(&self, access: &ServerAccess, id: u64) -> Result<(), ServiceError> {
        let stop = async {
            let missing = || ServiceError::new(Code::NotFound, format!("no query {id} runs"));
            self.running.stop(id).map(drop).ok_or_else(missing)
        };
        let target = format!("query {id}");
        self.audited(access.principal(), "stop_query", &target, stop)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::context::Read;

    #[tokio::test]
    async fn a_query_is_listed_while_it_has_its_place() {
        let queries = Arc::new(RunningQueries::default());
        let access = Access::<Read>::of_anyone("a");
        let listed = queries.begin(Language::Sql, &access, &Lane::default(), 5);
        listed.running().set_text(&"x".repeat(MAX_TEXT_CHARS + 1));
        let [shown] = &queries.list()[..] else {
            panic!("one query runs");
        };
        let what = (
            shown.id,
            shown.language.name(),
            &*shown.database,
            shown.begun_ms,
        );
        assert_eq!(what, (1, "sql", "a", 5));
        assert_eq!(shown.principal, "anyone");
        assert_eq!(shown.text.len(), MAX_TEXT_CHARS);
        drop(listed);
        assert_eq!(queries.list(), []);
        assert_eq!(queries.stop(1), None);
    }

    #[tokio::test]
    async fn what_is_stopped_ends() {
        let queries = Arc::new(RunningQueries::default());
        let access = Access::<Read>::of_anyone("a");
        let (first, second) = (
            queries.begin(Language::Promql, &access, &Lane::default(), 0),
            queries.begin(Language::Promql, &access, &Lane::default(), 0),
        );
        let running = Arc::clone(first.running());
        let waiting =
            tokio::spawn(async move { running.unless_stopped(std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        assert!(queries.stop(1).is_some());
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.code, Code::Execution);
        assert!(error.message.contains("stopped"), "{}", error.message);
        // What begins afterwards ends at once, and other queries go on.
        assert!(
            first
                .running()
                .unless_stopped(std::future::pending::<()>())
                .await
                .is_err()
        );
        assert_eq!(
            second.running().unless_stopped(async { 7 }).await.unwrap(),
            7
        );
    }
}
