//! What the server measures of itself, as samples of the database `_internal`: every figure of
//! `/metrics`, with the labels `job="tidelake"` and the node's name as `instance`.
//!
//! They go the way of all writes, so they are durable and visible like any. Nothing waits for them:
//! - A round is left out while the server is not ready or its memory is tight.
//! - While the store is away, some minutes of rounds are held and written after its return.
//! - A start does not wait for the first round, and a stop breaks one off.
//!
//! Writing them makes no further series: figures have labels from fixed sets.

use std::sync::Arc;
use std::time::Duration;

use tidelake_catalog::memory::Share;
use tidelake_catalog::model::{INTERNAL_DATABASE, METRICS_TABLE};
use tidelake_catalog::{Environment, Retention};
use tokio::time::MissedTickBehavior;

use super::Service;
use super::error::{Code, ServiceError};
use super::metrics::as_plain_text;
use super::own_samples::OwnSamples;
use crate::cluster::messages::Recorded;
use crate::config::StoreLocation;
use crate::node::backend::WalState;

/// How long the samples are kept, if nobody says otherwise.
const RETENTION_MS: u64 = 30 * 24 * 3_600_000;
/// How often a server to which nobody writes puts its samples on S3, where every object costs
/// money.
const IDLE_WRITE_INTERVAL_MS: u64 = 60_000;
/// Rounds that are held while they cannot be written: five minutes of the default interval.
const MAX_HELD_ROUNDS: u64 = 20;

/// What was measured and is not written.
#[derive(Debug)]
struct Unwritten {
    samples: OwnSamples,
    rounds: u64,
    has_written: bool,
    /// Objects of the log after the last write.
    log_objects: u64,
    /// Whether the table's retention was looked at.
    is_bound: bool,
}

impl Service {
    /// Measures and writes for as long as it is polled.
    pub async fn monitor_itself(&self) {
        let interval = Duration::from_millis(self.config.self_monitoring_interval_ms);
        if interval.is_zero() {
            return;
        }
        let mut held = Unwritten {
            samples: OwnSamples::new(&self.config.node),
            rounds: 0,
            has_written: false,
            log_objects: 0,
            is_bound: false,
        };
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.monitor_once(&mut held).await {
                tracing::debug!(%error, "the server's own metrics are not written");
            }
        }
    }

    async fn monitor_once(&self, held: &mut Unwritten) -> Result<(), ServiceError> {
        let backend = self.backend()?;
        let buffer = self.memory.state(Share::Buffer);
        let is_tight = buffer.used >= self.memory.limit(Share::Buffer) / 4 * 3;
        let ingester = backend.ingester.as_ref();
        if is_tight || ingester.is_some_and(|ingester| ingester.puts_off_writes()) {
            return Ok(());
        }
        let metrics = Arc::clone(&self.metrics);
        // Figures may wait for locks of the write path.
        let machine = Environment::system();
        let text = machine.run_blocking(move || metrics.text()).await;
        let Ok(Ok(text)) = text else {
            return Ok(());
        };
        if held.rounds >= MAX_HELD_ROUNDS {
            held.samples.clear();
            held.rounds = 0;
        }
        held.samples.add(&as_plain_text(&text), (self.now_ms)());
        held.rounds += 1;
        if !self.is_due(held)? {
            return Ok(());
        }
        let samples = Recorded::Samples(held.samples.encode()?);
        let written = self.record_anywhere(samples).await;
        // What is refused once is refused again.
        if let Err(error) = &written
            && error.code != Code::BadRequest
        {
            return written;
        }
        held.samples.clear();
        held.rounds = 0;
        held.has_written = true;
        held.log_objects = self.log_objects()?;
        if !held.is_bound {
            self.bound_own_samples().await?;
            held.is_bound = true;
        }
        written
    }

    /// Whether the time has come to write what is held. On S3 a lone round waits for others, unless
    /// clients write too.
    fn is_due(&self, held: &Unwritten) -> Result<bool, ServiceError> {
        if let Some(ingester) = &self.backend()?.ingester {
            let log = ingester.watch_log_state();
            if !matches!(*log.borrow(), WalState::Open) {
                return Ok(false);
            }
        }
        let is_dear = matches!(self.config.store_location(), Ok(StoreLocation::S3 { .. }));
        let interval_ms = self.config.self_monitoring_interval_ms.max(1);
        let enough = (IDLE_WRITE_INTERVAL_MS / interval_ms).clamp(1, MAX_HELD_ROUNDS);
        Ok(!is_dear
            || !held.has_written
            || held.rounds >= enough
            || self.log_objects()? > held.log_objects)
    }

    fn log_objects(&self) -> Result<u64, ServiceError> {
        let ingester = self.backend()?.ingester.as_ref();
        Ok(ingester.map_or(0, |ingester| {
            let log = ingester.log_metrics();
            log.groups.load(std::sync::atomic::Ordering::Relaxed)
        }))
    }

    /// Bounds how long the samples stay, unless that was set for them or for the whole database.
    /// What is audited is in another table.
    async fn bound_own_samples(&self) -> Result<(), ServiceError> {
        let catalog = self.backend()?.catalog();
        let snapshot = catalog.snapshot();
        let inherits = snapshot.database(INTERNAL_DATABASE).is_some_and(|found| {
            let table = found.table(METRICS_TABLE).map(|table| table.retention);
            (table, found.retention) == (Some(Retention::Inherit), Retention::Inherit)
        });
        if inherits {
            let kept = Retention::Millis(RETENTION_MS);
            let set = catalog.set_retention(INTERNAL_DATABASE, Some(METRICS_TABLE), kept);
            set.await.map_err(|error| self.refuse_commit(error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::model::{Limits, LimitsOf, Matcher, TimeRange};

    use super::*;
    use crate::config::Config;
    use crate::node::backend::Backend;
    use crate::service::context::{Admin, Principal, RequestContext};

    async fn opened(config: Config) -> Service {
        let service = Service::new(config);
        service.attach(Backend::in_memory().await);
        service
    }

    fn nothing_held() -> Unwritten {
        Unwritten {
            samples: OwnSamples::new("node-1"),
            rounds: 0,
            has_written: false,
            log_objects: 0,
            is_bound: false,
        }
    }

    fn metrics_retention(service: &Service) -> Option<Retention> {
        let snapshot = service.backend().unwrap().catalog().snapshot();
        let table = snapshot.table(INTERNAL_DATABASE, METRICS_TABLE);
        table.map(|table| table.retention)
    }

    async fn has(service: &Service, metric: &str) -> bool {
        let metric = [Matcher::equal("__name__", metric)];
        let querier = &service.backend().unwrap().querier;
        let found = querier.has_samples(INTERNAL_DATABASE, &metric, TimeRange::ALL);
        found.await.unwrap()
    }

    #[tokio::test]
    async fn a_round_is_there_at_once_and_changes_no_retention_that_was_set() {
        let service = opened(Config::default()).await;
        let mut held = nothing_held();
        service.monitor_once(&mut held).await.unwrap();
        assert_eq!(held.rounds, 0);
        assert!(has(&service, "tidelake_build_info").await);
        assert!(!has(&service, "tidelake_build").await);
        let kept = Retention::Millis(RETENTION_MS);
        assert_eq!(metrics_retention(&service), Some(kept));
        let snapshot = service.backend().unwrap().catalog().snapshot();
        let internal = snapshot.database(INTERNAL_DATABASE).unwrap();
        assert_eq!(internal.retention, Retention::Inherit, "audit stays");
        let said = &internal.metadata["process_cpu_seconds_total"];
        assert_eq!(&*said.help, "Processor time, user and system");

        let anyone = RequestContext::new(Principal::Anyone);
        let admin = anyone.access::<Admin>(INTERNAL_DATABASE).unwrap();
        for set in [Retention::Forever, Retention::Millis(7)] {
            let done = service.set_retention(&admin, Some(METRICS_TABLE), set);
            done.await.unwrap();
            service.monitor_once(&mut nothing_held()).await.unwrap();
            assert_eq!(metrics_retention(&service), Some(set));
        }
    }

    #[tokio::test]
    async fn a_database_that_says_how_long_is_heeded() {
        let service = opened(Config::default()).await;
        let anyone = RequestContext::new(Principal::Anyone);
        let server = anyone.server().unwrap();
        // The first entry of the audit table makes the database.
        let none = Limits::default();
        let limited = service.set_limits(&server, &LimitsOf::Default, none);
        limited.await.unwrap();
        let admin = anyone.access::<Admin>(INTERNAL_DATABASE).unwrap();
        let year = Retention::Millis(365 * 24 * 3_600_000);
        service.set_retention(&admin, None, year).await.unwrap();
        service.monitor_once(&mut nothing_held()).await.unwrap();
        assert_eq!(metrics_retention(&service), Some(Retention::Inherit));
    }

    #[tokio::test]
    async fn writes_that_are_held_back_and_a_closed_log_leave_rounds_out() {
        let service = opened(Config::default()).await;
        let ingester = service.backend().unwrap().ingester().unwrap();
        ingester.put_off_writes(Some("merging is behind".to_owned()));
        let mut held = nothing_held();
        service.monitor_once(&mut held).await.unwrap();
        assert_eq!((held.rounds, ingester.buffered().1), (0, 0));
        ingester.put_off_writes(None);
        ingester.shutdown().await.unwrap();
        for round in 1..=2 * MAX_HELD_ROUNDS {
            service.monitor_once(&mut held).await.unwrap();
            assert_eq!(held.rounds, (round - 1) % MAX_HELD_ROUNDS + 1);
        }
    }

    #[tokio::test]
    async fn an_idle_server_writes_rarely_to_s3() {
        let service = opened(Config {
            store: Some("s3://bucket".to_owned()),
            ..Config::default()
        })
        .await;
        let mut held = nothing_held();
        service.monitor_once(&mut held).await.unwrap();
        service.monitor_once(&mut held).await.unwrap();
        assert_eq!(held.rounds, 1, "it waits for more");
        held.log_objects = 0;
        service.monitor_once(&mut held).await.unwrap();
        assert_eq!(held.rounds, 0, "others write, too");
        for round in [1, 2, 3, 0] {
            service.monitor_once(&mut held).await.unwrap();
            assert_eq!(held.rounds, round, "four are a minute");
        }
    }

    #[tokio::test]
    async fn before_the_start_and_without_an_interval_nothing_happens() {
        let service = Service::new(Config {
            self_monitoring_interval_ms: 0,
            ..Config::default()
        });
        service.monitor_itself().await;
        service.monitor_once(&mut nothing_held()).await.unwrap_err();
    }
}
