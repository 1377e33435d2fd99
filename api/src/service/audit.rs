//! Who did what to tokens, limits, retention and rows: the table `audit` of the database
//! `_internal`.
//!
//! Its columns are `node` and `action`, and as fields `principal`, `target` and `outcome`. Nobody
//! writes it but the server, and no row of it can be deleted; it is kept as long as the retention
//! of its database says.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Service;
use super::context::Principal;
use super::error::ServiceError;
use crate::cluster::messages::Recorded;

/// Characters of a target or an error that are kept.
const MAX_CHARS: usize = 1000;

/// The time of the last row, in nanoseconds: two rows of one time would be one.
#[derive(Debug, Default)]
pub struct AuditClock(AtomicI64);

impl AuditClock {
    fn next(&self, now_ns: i64) -> i64 {
        let later = |last: i64| Some(now_ns.max(last.saturating_add(1)));
        let last = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        now_ns.max(last.unwrap_or_default().saturating_add(1))
    }
}

impl Service {
    /// Does something and records who did it, to what, and how it ended. `target` has no secrets.
    pub async fn audited<T>(
        &self,
        principal: &Principal,
        action: &'static str,
        target: &str,
        work: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let result = work.await;
        let outcome = match &result {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        let principal = principal.name();
        tracing::info!(principal, action, target, outcome, "audit");
        let line = self.line(action, principal, target, &outcome);
        if let Err(error) = self.record_anywhere(Recorded::Lines(line)).await {
            // It is done, and the log has it.
            tracing::error!(%error, action, "an entry of the audit table cannot be written");
        }
        result
    }

    fn line(&self, action: &str, principal: &str, target: &str, outcome: &str) -> String {
        let now_ns = (self.now_ms)().saturating_mul(1_000_000);
        let time = self.audit_clock.next(now_ns);
        let mut line = format!("audit,action={action},node={} ", self.config.node);
        let fields = [
            ("principal", principal),
            ("target", target),
            ("outcome", outcome),
        ];
        for (at, (name, value)) in fields.into_iter().enumerate() {
            let value: String = value.chars().take(MAX_CHARS).collect();
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            let separator = if at > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(line, "{separator}{name}=\"{value}\"");
        }
        let _ = write!(line, " {time}");
        line
    }
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::model::{INTERNAL_DATABASE, LimitsOf};

    use super::*;
    use crate::config::Config;
    use crate::node::backend::Backend;
    use crate::service::context::{Access, Admin, Delete, RequestContext, Write};

    #[test]
    fn rows_have_times_of_their_own() {
        let clock = AuditClock::default();
        assert_eq!([5, 5, 4, 9].map(|now| clock.next(now)), [5, 6, 7, 9]);
    }

    #[tokio::test]
    async fn what_is_changed_is_recorded_and_stays() {
        let service = Service::new(Config::default());
        service.attach(Backend::in_memory().await);
        let anyone = RequestContext::new(Principal::Anyone);
        let server = anyone.server().unwrap();
        let of = LimitsOf::Database("d \"x\" \\\n,".into());
        service
            .set_limits(&server, &of, Default::default())
            .await
            .unwrap();
        service.revoke_token(&server, "none").await.unwrap_err();
        service
            .drop_database(&Access::<Admin>::of_anyone("none"))
            .await
            .unwrap_err();
        let backend = service.backend().unwrap();
        // A drop begins with a flush.
        let flushed: u64 = backend
            .catalog()
            .snapshot()
            .segments()
            .map(|s| s.rows)
            .sum();
        assert_eq!((flushed, backend.ingester().unwrap().buffered().1), (2, 1));
        // Nobody else writes or removes what is there.
        assert!(anyone.access::<Write>(INTERNAL_DATABASE).is_err());
        assert!(anyone.access::<Delete>(INTERNAL_DATABASE).is_err());
        let admin = anyone.access::<Admin>(INTERNAL_DATABASE).unwrap();
        assert!(service.drop_database(&admin).await.is_err());
        assert!(service.drop_table(&admin, "audit").await.is_err());
        let inherit = tidelake_catalog::Retention::Inherit;
        let created = service.create_table(&admin, "audit2", Vec::new(), inherit);
        assert!(created.await.is_err());
    }
}
