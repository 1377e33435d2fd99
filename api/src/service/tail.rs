//! Points as they arrive, for a client that watches them.
//!
//! What is sent is a sample: at most `MAX_POINTS` points every `PAUSE`. The rest is counted, and
//! the client is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidelake_catalog::model::{ColumnType, Labels, LabelsBuilder, Matcher, TableKind};
use tidelake_querier::lane::Lane;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

use super::context::{Access, Principal, Read, RequestContext};
use super::error::ServiceError;
use super::slots::{Language, Outcome, QuerySlot};
use super::{Service, missing_role};
use crate::node::backend::{Arrival, FieldColumn, FieldValues};

/// Points that are sent at once.
const MAX_POINTS: usize = 100;
/// Time between two sendings.
const PAUSE: Duration = Duration::from_millis(100);
/// A client hears something, and its token is looked at, at least so often.
const TICK: Duration = Duration::from_secs(1);

/// A point that has arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct TailedPoint {
    /// As PromQL sees it, `__name__` included: a field `f` of a table `t` is `t_f`.
    pub labels: Labels,
    /// Its time, in ms.
    pub time_ms: i64,
    /// Its value.
    pub value: TailedValue,
}

/// The value of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum TailedValue {
    /// A float.
    Float(f64),
    /// An integer.
    Integer(i64),
    /// An integer without a sign.
    Unsigned(u64),
    /// A boolean.
    Boolean(bool),
    /// A text.
    Text(String),
    /// A native histogram: its count and its sum.
    Histogram(f64, f64),
}

/// What has arrived since the last time.
#[derive(Debug, Default, PartialEq)]
pub struct Tailed {
    /// Points that were selected.
    pub points: Vec<TailedPoint>,
    /// Selected points that are not among them.
    pub dropped: u64,
    /// Rows that came too fast to be compared with the selectors.
    pub unseen: u64,
}

/// A client's watch.
pub struct Tail {
    database: Arc<str>,
    principal: Principal,
    /// Empty: everything of the database.
    selectors: Vec<Vec<Matcher>>,
    arrivals: Receiver<Arc<Arrival>>,
    /// Rows that had come by with the last arrival.
    arrived: Option<u64>,
    checked: Instant,
    sent: Instant,
    /// To be held as long as the client watches.
    slot: QuerySlot,
}

impl Service {
    /// Watches the points of a database that match any of the selectors; without any, all of them.
    pub async fn tail(
        &self,
        access: &Access<Read>,
        selectors: Vec<Vec<Matcher>>,
        text: &str,
    ) -> Result<Tail, ServiceError> {
        // Only what comes to this process is seen here.
        let ingester = self.backend()?.ingester().map_err(missing_role)?;
        let admitted = self.admit(access, Language::Tail, None).await?;
        admitted.slot.shows(text);
        // It ends when its client has seen enough.
        admitted.slot.end(Outcome::Answered);
        let now = Instant::now();
        Ok(Tail {
            database: Arc::clone(access.database()),
            principal: access.principal().clone(),
            selectors,
            arrivals: ingester.tap().watch(),
            arrived: None,
            checked: now,
            sent: now,
            slot: admitted.slot,
        })
    }
}

impl Tail {
    /// Waits for points; after a while without any, for nothing.
    ///
    /// # Errors
    /// When the token does not allow it any more, when it is stopped, and at the end of the server.
    pub async fn next(&mut self, service: &Service) -> Result<Tailed, ServiceError> {
        let running = self.slot.running().cloned();
        let work = self.collect(service);
        match running {
            Some(running) => running.unless_stopped(work).await?,
            None => work.await,
        }
    }

    /// Where points are compared with the selectors.
    pub fn lane(&self) -> Lane {
        self.slot.lane()
    }

    /// The client takes nothing.
    pub fn is_stalled(&self) {
        self.slot.end(Outcome::Stalled);
    }

    async fn collect(&mut self, service: &Service) -> Result<Tailed, ServiceError> {
        tokio::time::sleep_until(self.sent + PAUSE).await;
        let mut waiting = VecDeque::new();
        match tokio::time::timeout(TICK, self.arrivals.recv()).await {
            Ok(Ok(arrival)) => waiting.push_back(arrival),
            // How many is told by the next one.
            Ok(Err(RecvError::Lagged(_))) | Err(_) => {}
            Ok(Err(RecvError::Closed)) => {
                return Err(ServiceError::unavailable("the server stops"));
            }
        }
        loop {
            match self.arrivals.try_recv() {
                Ok(arrival) => waiting.push_back(arrival),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        self.check(service)?;
        let mut tailed = Tailed::default();
        while let Some(arrival) = waiting.pop_front() {
            self.take(&arrival, &mut tailed);
            tokio::task::yield_now().await;
        }
        self.sent = Instant::now();
        Ok(tailed)
    }

    /// Rights may end while a client watches.
    fn check(&mut self, service: &Service) -> Result<(), ServiceError> {
        if self.checked.elapsed() >= TICK {
            self.principal = service.still_valid(&self.principal)?;
            RequestContext::new(self.principal.clone()).access::<Read>(&self.database)?;
            self.checked = Instant::now();
        }
        Ok(())
    }

    fn take(&mut self, arrival: &Arrival, tailed: &mut Tailed) {
        let before = arrival.arrived - arrival.total;
        let missed = before.saturating_sub(self.arrived.unwrap_or(before));
        tailed.unseen += missed;
        self.arrived = Some(arrival.arrived);
        if *arrival.name.database != *self.database || arrival.kind == TableKind::Exemplars {
            return;
        }
        tailed.unseen += arrival.total.saturating_sub(arrival.rows.len() as u64);
        let entries = arrival.registry.entries();
        for (row, (series, time)) in arrival
            .rows
            .series
            .iter()
            .zip(&arrival.rows.time)
            .enumerate()
        {
            let Some(entry) = entries.get(*series) else {
                continue;
            };
            let time_ms = arrival.kind.time_unit().to_millis(*time);
            for field in &arrival.rows.fields {
                let Some(value) = value_of(field, row) else {
                    continue;
                };
                let labels = match arrival.kind {
                    TableKind::Wide => {
                        field_labels(&entry.series.labels, &arrival.name.table, &field.name)
                    }
                    TableKind::Metrics | TableKind::Exemplars => entry.series.labels.clone(),
                };
                if !self.selects(&labels) {
                    continue;
                }
                if tailed.points.len() == MAX_POINTS {
                    tailed.dropped += 1;
                } else {
                    tailed.points.push(TailedPoint {
                        labels,
                        time_ms,
                        value,
                    });
                }
            }
        }
    }

    fn selects(&self, labels: &Labels) -> bool {
        let matches = |selector: &Vec<Matcher>| {
            selector
                .iter()
                .all(|matcher| matcher.matches_labels(labels))
        };
        self.selectors.is_empty() || self.selectors.iter().any(matches)
    }
}

/// The labels of a field of a wide table as a metric.
fn field_labels(tags: &Labels, table: &str, field: &str) -> Labels {
    let name = match field {
        "value" => table.to_owned(),
        field => format!("{table}_{field}"),
    };
    let mut labels = LabelsBuilder::from_labels(tags);
    labels.set("__name__", &name);
    labels.build()
}

fn value_of(field: &FieldColumn, row: usize) -> Option<TailedValue> {
    // When a counter began is no value of its series.
    if field.kind == ColumnType::Timestamp {
        return None;
    }
    let at = field.position(row)?;
    Some(match &field.values {
        FieldValues::Float(values) => TailedValue::Float(*values.get(at)?),
        FieldValues::Integer(values) => TailedValue::Integer(*values.get(at)?),
        FieldValues::Unsigned(values) => TailedValue::Unsigned(*values.get(at)?),
        FieldValues::Boolean(values) => TailedValue::Boolean(*values.get(at)?),
        FieldValues::String { .. } => TailedValue::Text(field.values.string(at)?.to_owned()),
        FieldValues::Histogram(values) => {
            let histogram = values.get(at)?;
            TailedValue::Histogram(histogram.count, histogram.sum)
        }
    })
}
