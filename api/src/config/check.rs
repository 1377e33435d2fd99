//! Which settings go together.

use tidelake_catalog::Roles;
use tidelake_compactor::policy::MAX_INPUTS;

use super::{Config, ConfigError};

/// Shortest time between two measurements of the server by itself, in milliseconds.
const MIN_SELF_MONITORING_MS: u64 = 100;
/// Shortest lease, in milliseconds.
const MIN_LEASE_MS: u64 = 1000;

impl Config {
    /// Checks all settings.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("max_body_bytes", self.max_body_bytes as u64),
            ("max_remote_write_bytes", self.max_remote_write_bytes as u64),
            ("buffer_bytes", self.buffer_bytes as u64),
            ("flush_interval_ms", self.flush_interval_ms),
            ("max_concurrent_queries", self.max_concurrent_queries as u64),
            ("query_timeout_ms", self.query_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            (
                "max_connections",
                self.max_connections.map_or(1, |n| n as u64),
            ),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("head_timeout_ms", self.head_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("max_query_samples", self.max_query_samples),
            ("max_query_series", self.max_query_series as u64),
            ("max_query_read_bytes", self.max_query_read_bytes),
            ("distributed_query_rows", self.distributed_query_rows),
            ("lookback_ms", self.lookback_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError(format!("{name} must be greater than 0")));
        }
        if let Err(error) = self.roles.parse::<Roles>() {
            return Err(ConfigError(format!("roles: {error}")));
        }
        if self.lease_ms < MIN_LEASE_MS {
            return Err(ConfigError(format!(
                "lease_ms must be at least {MIN_LEASE_MS}: shorter pauses of a process are usual"
            )));
        }
        if (1..MIN_SELF_MONITORING_MS).contains(&self.self_monitoring_interval_ms) {
            return Err(ConfigError(format!(
                "self_monitoring_interval_ms must be 0, which turns it off, or at least \
                 {MIN_SELF_MONITORING_MS}"
            )));
        }
        let largest = self.max_body_bytes.max(self.max_remote_write_bytes);
        if self.max_inflight_body_bytes < largest {
            return Err(ConfigError(format!(
                "max_inflight_body_bytes must be at least {largest}, the size of the largest body \
                 allowed"
            )));
        }
        if self.gc_grace_ms <= self.query_timeout_ms {
            return Err(ConfigError(format!(
                "gc_grace_ms ({}) must be greater than query_timeout_ms ({}): a query could still \
                 need a file that is deleted",
                self.gc_grace_ms, self.query_timeout_ms
            )));
        }
        if self.max_fresh_segments < MAX_INPUTS {
            return Err(ConfigError(format!(
                "max_fresh_segments must be at least {MAX_INPUTS}: fewer may rest without being \
                 merged"
            )));
        }
        let (all, names) = (
            self.otlp_promote_all_resource_attributes,
            &self.otlp_promote_resource_attributes,
        );
        if all && !names.is_empty() {
            return Err(ConfigError(
                "otlp_promote_all_resource_attributes and otlp_promote_resource_attributes \
                 exclude each other: give one of them"
                    .into(),
            ));
        }
        if !all && !self.otlp_ignore_resource_attributes.is_empty() {
            return Err(ConfigError(
                "otlp_ignore_resource_attributes needs otlp_promote_all_resource_attributes: \
                 without it only named attributes become labels"
                    .into(),
            ));
        }
        crate::otlp::settings(self)
            .head()
            .map_err(|error| ConfigError(format!("otlp_promote_resource_attributes: {error}")))?;
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(ConfigError(
                "tls_cert and tls_key belong together: give both or neither".into(),
            ));
        }
        if self.tls_client_ca.is_some() && self.tls_cert.is_none() {
            return Err(ConfigError(
                "tls_client_ca needs tls_cert and tls_key: without TLS no client shows a \
                 certificate"
                    .into(),
            ));
        }
        if self.auth && self.insecure_no_auth {
            return Err(ConfigError(
                "auth and insecure_no_auth contradict each other: give one of them".into(),
            ));
        }
        let name_ok = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if self.node.is_empty()
            || self.node.len() > 64
            || !self.node.chars().all(name_ok)
            || self.node.starts_with('.')
        {
            return Err(ConfigError(format!(
                "node {:?} must be 1 to 64 letters, digits, '-', '_' or '.', not starting with '.'",
                self.node
            )));
        }
        self.store_location().map(|_| ())
    }
}
