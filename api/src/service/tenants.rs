//! What a database and a token may take: rates of samples, sizes of bodies, queries at a time, and
//! what one query may read.
//!
//! The narrower of both counts. Limits of series and labels are those of a database alone; the
//! write path holds requests to them. A request that is over a limit is refused as a whole, before
//! anything of it is written.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelake_catalog::model::{INTERNAL_DATABASE, Limits, LimitsOf};
use tokio::time::Instant;

use super::Service;
use super::context::{Access, Admin, Principal, ServerAccess, internal_is_kept};
use super::error::{Code, ServiceError};
use crate::node::backend::WriteOutcome;

/// Databases and tokens of which something is known; idle ones are forgotten beyond it.
const MAX_TENANTS: usize = 10_000;

/// What a tenant takes.
#[derive(Debug)]
struct Taken {
    queries: u64,
    /// Samples that may come now; below 0 when more came than may per second.
    samples: f64,
    /// When that was so.
    at: Instant,
    /// Samples that came in all, and the bytes that they came in.
    written: u64,
    bytes: u64,
    throttled: u64,
}

impl Taken {
    fn new() -> Self {
        Self {
            queries: 0,
            samples: f64::INFINITY,
            at: Instant::now(),
            written: 0,
            bytes: 0,
            throttled: 0,
        }
    }

    /// Lets samples come as time passes, for a second ahead at most.
    fn refill(&mut self, rate: u64) {
        let now = Instant::now();
        let more = (now - self.at).as_secs_f64() * rate as f64;
        self.samples = (self.samples + more).min(rate as f64);
        self.at = now;
    }
}

/// What tenants take.
#[derive(Debug, Default)]
pub struct Tenants(Mutex<HashMap<LimitsOf, Taken>>);

/// When to try again where nothing is let in, in seconds: the limit has to be changed first.
const CLOSED_RETRY_S: f64 = 30.0;
/// Bytes of a sample as it is sent, as long as none was.
const LIKELY_BYTES: f64 = 20.0;

/// A write that was let in, with what was taken off for it.
#[derive(Debug)]
pub struct AdmittedWrite {
    tenants: Arc<Tenants>,
    bytes: u64,
    taken: Vec<(LimitsOf, f64)>,
}

impl AdmittedWrite {
    /// Counts what was written. The request that is too much makes the next ones wait.
    pub fn count(mut self, outcome: &WriteOutcome) {
        let written = outcome.written;
        let samples = written.samples + written.histograms + written.exemplars;
        for (of, likely) in std::mem::take(&mut self.taken) {
            self.tenants.with(&of, |taken| {
                taken.written += samples;
                taken.bytes += self.bytes;
                taken.samples += likely - samples as f64;
            });
        }
    }
}

impl Drop for AdmittedWrite {
    /// What was not written is given back.
    fn drop(&mut self) {
        for (of, likely) in &self.taken {
            self.tenants.with(of, |taken| taken.samples += likely);
        }
    }
}

/// A query among those of its tenants; counted until it is dropped.
#[derive(Debug)]
pub struct TenantQuery {
    tenants: Arc<Tenants>,
    of: Vec<LimitsOf>,
}

impl Drop for TenantQuery {
    fn drop(&mut self) {
        let mut all = self.tenants.0.lock();
        for of in &self.of {
            if let Some(taken) = all.get_mut(of) {
                taken.queries = taken.queries.saturating_sub(1);
            }
        }
    }
}

impl Tenants {
    fn with<T>(&self, of: &LimitsOf, look: impl FnOnce(&mut Taken) -> T) -> T {
        let mut all = self.0.lock();
        if let Some(taken) = all.get_mut(of) {
            return look(taken);
        }
        if all.len() >= MAX_TENANTS {
            // Who has taken too much is not let off.
            all.retain(|_, taken| taken.queries > 0 || taken.samples <= 0.0);
        }
        look(all.entry(of.clone()).or_insert_with(Taken::new))
    }

    /// How much a tenant takes: queries, samples so far, and requests that were throttled.
    pub fn taken(&self, of: &LimitsOf) -> (u64, u64, u64) {
        let all = self.0.lock();
        let taken = all.get(of);
        taken.map_or((0, 0, 0), |taken| {
            (taken.queries, taken.written, taken.throttled)
        })
    }

    /// All of which something is known.
    pub fn known(&self) -> Vec<LimitsOf> {
        self.0.lock().keys().cloned().collect()
    }

    /// Counts a request that something else has throttled.
    pub fn count_throttled(&self, of: &LimitsOf) {
        self.with(of, |taken| taken.throttled += 1);
    }

    fn throttle(&self, of: &LimitsOf, limit: &str, value: u64, retry_after_s: u64) -> ServiceError {
        self.count_throttled(of);
        let whose = match of {
            LimitsOf::Database(name) => format!("the database {:?}", &**name),
            LimitsOf::Token(_) => "the token".to_owned(),
            LimitsOf::Default => "each database".to_owned(),
        };
        let message = format!("{whose} may have {value} (limit {limit}); go on later");
        ServiceError::new(Code::Throttled { retry_after_s }, message)
    }
}

impl Service {
    /// How much a tenant takes: queries, samples so far, and requests that were throttled.
    pub fn taken(&self, of: &LimitsOf) -> (u64, u64, u64) {
        self.tenants.taken(of)
    }

    /// Counts a request of a tenant that the write path has throttled.
    pub fn count_throttled(&self, of: &LimitsOf) {
        self.tenants.count_throttled(of);
    }

    /// All tenants that took something.
    pub fn known_tenants(&self) -> Vec<LimitsOf> {
        self.tenants.known()
    }

    /// The limits of a request, each with whose they are.
    fn tenants_of<A>(
        &self,
        access: &Access<A>,
    ) -> Result<impl Iterator<Item = (LimitsOf, Limits)> + use<A>, ServiceError> {
        let snapshot = self.backend()?.catalog().snapshot();
        let database = Arc::clone(access.database());
        let of_database = snapshot.limits_of(&database);
        let of_token = match access.principal() {
            Principal::Anyone => None,
            Principal::Holder(token) => Some((
                LimitsOf::Token(token.id),
                snapshot.limits_of_token(token.id),
            )),
        };
        Ok([(LimitsOf::Database(database), of_database)]
            .into_iter()
            .chain(of_token))
    }

    /// The limits of a request: the narrower of those of its database and its token.
    pub fn limits_of<A>(&self, access: &Access<A>) -> Result<Limits, ServiceError> {
        let mut all = self.tenants_of(access)?.map(|(_, limits)| limits);
        let first = all.next().unwrap_or_default();
        Ok(all.fold(first, |a, b| narrower(&a, &b)))
    }

    /// Lets a write come, or says when it may. What it is likely to bring is taken off at once, so
    /// that many at a time are not let in as one.
    pub fn admit_write<A>(
        &self,
        access: &Access<A>,
        bytes: usize,
    ) -> Result<AdmittedWrite, ServiceError> {
        let mut admitted = AdmittedWrite {
            tenants: Arc::clone(&self.tenants),
            bytes: bytes as u64,
            taken: Vec::new(),
        };
        for (of, limits) in self.tenants_of(access)? {
            if let Some(most) = limits.body_bytes.filter(|most| bytes as u64 > *most) {
                let message = format!(
                    "the body has {bytes} bytes, at most {most} are allowed (limit body_bytes); send \
                     smaller ones"
                );
                return Err(ServiceError::new(Code::TooLarge, message));
            }
            let Some(rate) = limits.samples_per_second else {
                admitted.taken.push((of, 0.0));
                continue;
            };
            let (left, likely) = self.tenants.with(&of, |taken| {
                taken.refill(rate);
                let left = taken.samples;
                let each = match taken.written {
                    0 => LIKELY_BYTES,
                    written => taken.bytes as f64 / written as f64,
                };
                let likely = bytes as f64 / each.max(1.0);
                if left > 0.0 {
                    taken.samples -= likely;
                }
                (left, likely)
            });
            if left <= 0.0 {
                let wait = match rate {
                    0 => CLOSED_RETRY_S,
                    rate => (-left / rate as f64).ceil().clamp(1.0, 3600.0),
                };
                let error = self
                    .tenants
                    .throttle(&of, "samples_per_second", rate, wait as u64);
                return Err(error);
            }
            admitted.taken.push((of, likely));
        }
        Ok(admitted)
    }

    /// Lets a query run beside the others of its tenants.
    pub fn admit_query<A>(&self, access: &Access<A>) -> Result<TenantQuery, ServiceError> {
        let mut query = TenantQuery {
            tenants: Arc::clone(&self.tenants),
            of: Vec::new(),
        };
        let snapshot = self.backend()?.catalog().snapshot();
        for (of, limits) in self.tenants_of(access)? {
            if let LimitsOf::Database(name) = &of
                && snapshot.database(name).is_none()
            {
                continue;
            }
            let most = limits.concurrent_queries.unwrap_or(u64::MAX);
            let is_let_in = self.tenants.with(&of, |taken| {
                let is_let_in = taken.queries < most;
                taken.queries += u64::from(is_let_in);
                is_let_in
            });
            if !is_let_in {
                return Err(self.tenants.throttle(&of, "concurrent_queries", most, 1));
            }
            query.of.push(of);
        }
        Ok(query)
    }

    /// Whether rows may be kept for so long; `None` is for ever.
    pub fn check_retention(
        &self,
        access: &Access<Admin>,
        retention_ms: Option<u64>,
    ) -> Result<(), ServiceError> {
        let limits = self.limits_of(access)?;
        let wanted = retention_ms.unwrap_or(u64::MAX);
        let too = |word, name, limit: u64| {
            let message =
                format!("rows would be kept for too {word} a time: the limit {name} is {limit} ms");
            Err(ServiceError::new(Code::Limited, message))
        };
        match (limits.min_retention_ms, limits.max_retention_ms) {
            (Some(least), _) if wanted < least => too("short", "min_retention_ms", least),
            (_, Some(most)) if wanted > most => too("long", "max_retention_ms", most),
            _ => Ok(()),
        }
    }

    /// Sets what a tenant may take.
    pub async fn set_limits(
        &self,
        access: &ServerAccess,
        of: &LimitsOf,
        limits: Limits,
    ) -> Result<(), ServiceError> {
        if *of == LimitsOf::Database(INTERNAL_DATABASE.into()) {
            return Err(internal_is_kept());
        }
        let is_token = matches!(of, LimitsOf::Token(_));
        let of_databases = [
            limits.active_series,
            limits.labels_per_series,
            limits.label_name_bytes,
            limits.label_value_bytes,
        ];
        if is_token && of_databases.iter().any(Option::is_some) {
            return Err(ServiceError::bad_request(
                "active_series and the limits of labels are limits of databases, not of tokens",
            ));
        }
        let set = async {
            let set = self.backend()?.catalog().set_limits(of, limits).await;
            set.map(drop).map_err(|error| self.refuse_commit(error))
        };
        let target = format!("{of:?}: {limits:?}");
        self.audited(access.principal(), "set_limits", &target, set)
            .await
    }
}

/// The smaller of each two; of the shortest retention the longer.
fn narrower(a: &Limits, b: &Limits) -> Limits {
    let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Limits {
        samples_per_second: least(a.samples_per_second, b.samples_per_second),
        active_series: least(a.active_series, b.active_series),
        labels_per_series: least(a.labels_per_series, b.labels_per_series),
        label_name_bytes: least(a.label_name_bytes, b.label_name_bytes),
        label_value_bytes: least(a.label_value_bytes, b.label_value_bytes),
        body_bytes: least(a.body_bytes, b.body_bytes),
        concurrent_queries: least(a.concurrent_queries, b.concurrent_queries),
        query_read_bytes: least(a.query_read_bytes, b.query_read_bytes),
        query_samples: least(a.query_samples, b.query_samples),
        min_retention_ms: a.min_retention_ms.max(b.min_retention_ms),
        max_retention_ms: least(a.max_retention_ms, b.max_retention_ms),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use tidelake_catalog::Retention;

    use crate::node::backend::{Backend, ContentEncoding, Precision, Protocol, Written};
    use crate::service::context::{Read, Write};
    use crate::service::write::Points;

    async fn service(limits: Limits) -> Service {
        let service = Service::new(Config::default());
        service.attach(Backend::in_memory().await);
        let catalog = service.backend().unwrap().catalog();
        catalog.create_database("d").await.unwrap();
        let of = LimitsOf::Database("d".into());
        catalog.set_limits(&of, limits).await.unwrap();
        service
    }

    fn written(samples: u64) -> WriteOutcome {
        WriteOutcome {
            written: Written {
                samples,
                ..Written::default()
            },
            ..WriteOutcome::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn samples_come_at_the_rate_that_they_may() {
        let service = service(Limits {
            samples_per_second: Some(100),
            body_bytes: Some(10),
            ..Limits::default()
        })
        .await;
        let access = Access::<Write>::of_anyone("d");
        let write = |samples| {
            service.admit_write(&access, 1)?.count(&written(samples));
            Ok::<_, ServiceError>(())
        };
        write(60).unwrap();
        write(390).unwrap();
        let error = write(1).unwrap_err();
        assert_eq!(error.code, Code::Throttled { retry_after_s: 4 });
        tokio::time::advance(Duration::from_millis(3400)).await;
        assert!(write(1).is_err());
        tokio::time::advance(Duration::from_millis(200)).await;
        write(1).unwrap();
        // Idle time is not saved up.
        tokio::time::advance(Duration::from_secs(100)).await;
        write(150).unwrap();
        assert!(write(1).is_err());
        service
            .admit_write(&Access::<Write>::of_anyone("e"), 11)
            .unwrap();
        tokio::time::advance(Duration::from_secs(100)).await;
        let error = service.admit_write(&access, 11).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
        let of = LimitsOf::Database("d".into());
        assert_eq!(service.tenants.taken(&of), (0, 601, 3));
        let text = service.metrics.text().unwrap();
        for line in [
            "tidelake_tenant_written_samples_total{kind=\"database\",name=\"d\"} 601",
            "tidelake_tenant_throttled_total{kind=\"database\",name=\"d\"} 3",
        ] {
            assert!(text.contains(line), "{text}\nlacks {line}");
        }
        // Many at a time: what each is likely to bring is taken off at once, and what does not come
        // is given back.
        let ten = || service.admit_write(&access, 10);
        tokio::time::advance(Duration::from_secs(100)).await;
        service
            .tenants
            .with(&of, |taken| (taken.bytes, taken.written) = (60, 600));
        let held: Vec<_> = (0..20).filter_map(|_| ten().ok()).collect();
        assert_eq!(held.len(), 10);
        drop(held);
        ten().unwrap();
        // Nobody is let off because others come.
        ten().unwrap().count(&written(500));
        for number in 0..MAX_TENANTS + 10 {
            let of = LimitsOf::Database(format!("x{number}").into());
            service.tenants.with(&of, |taken| taken.written += 1);
        }
        assert!(ten().is_err());
    }

    #[tokio::test]
    async fn queries_run_beside_as_many_others_as_may() {
        let service = service(Limits {
            concurrent_queries: Some(2),
            ..Limits::default()
        })
        .await;
        let access = Access::<Read>::of_anyone("d");
        let first = service.admit_query(&access).unwrap();
        let _second = service.admit_query(&access).unwrap();
        let error = service.admit_query(&access).unwrap_err();
        assert_eq!(error.code, Code::Throttled { retry_after_s: 1 });
        assert!(service.admit_query(&Access::<Read>::of_anyone("e")).is_ok());
        drop(first);
        assert!(service.admit_query(&access).is_ok());
    }

    #[tokio::test]
    async fn retention_stays_within_bounds() {
        let service = service(Limits {
            min_retention_ms: Some(10),
            max_retention_ms: Some(20),
            ..Limits::default()
        })
        .await;
        let access = Access::<Admin>::of_anyone("d");
        let check = |ms, is_allowed: bool| {
            assert_eq!(
                service.check_retention(&access, ms).is_ok(),
                is_allowed,
                "{ms:?}"
            );
        };
        check(Some(9), false);
        check(Some(10), true);
        check(Some(20), true);
        check(Some(21), false);
        check(None, false);
    }

    #[tokio::test]
    async fn a_database_that_a_write_makes_keeps_its_rows_as_long_as_it_may() {
        let service = service(Limits::default()).await;
        let catalog = service.backend().unwrap().catalog();
        let limits = Limits {
            max_retention_ms: Some(1000),
            ..Limits::default()
        };
        catalog
            .set_limits(&LimitsOf::Default, limits)
            .await
            .unwrap();
        let write = async |database: &str, line: &'static str| {
            let points = Points {
                protocol: Protocol::LineProtocol {
                    precision: Precision::Nanosecond,
                },
                encoding: ContentEncoding::Identity,
                accept_partial: true,
                body: line.into(),
            };
            let access = Access::<Write>::of_anyone(database);
            service.write(&access, points).await.unwrap();
            let snapshot = catalog.snapshot();
            snapshot
                .database(database)
                .map(|database| database.retention)
        };
        let now = Some(Retention::Millis(1000));
        assert_eq!(write("new", "m f=1").await, now);
        assert_eq!(write("new", "m f=2").await, now);
        // What is there is not shortened by a write, and what is refused makes nothing.
        assert_eq!(write("d", "m f=1").await, Some(Retention::Inherit));
        assert_eq!(write("bad", "no line").await, None);
    }
}
