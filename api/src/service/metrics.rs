//! `/metrics`: what the server says about itself, in the OpenMetrics text format.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tidelake_catalog::memory::{MemoryBudget, Share, ShareState};
use tidelake_catalog::model::LimitsOf;
use tidelake_catalog::panics;
use tidelake_catalog::store::StoreCounts;
use tidelake_catalog::{Catalog, Environment};
use tidelake_ingest::series_quota::SeriesQuota;

use crate::node::backend::{Ingester, WriteOutcome};
use crate::node::class_threads::{Class, ClassTimes};
use crate::node::figures::Figure;
use crate::node::process;
use crate::service::error::ServiceError;
use crate::service::slots::QuerySlots;
use crate::service::tenants::Tenants;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    path: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    protocol: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OnPath {
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProtocol {
    protocol: &'static str,
}

/// All figures of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    process: Registry,
    refused_writes: Family<Refused, Counter>,
    requests: Family<Answered, Counter>,
    durations: Family<OnPath, Histogram, fn() -> Histogram>,
    write_bytes: Family<ByProtocol, Counter>,
    points_written: Family<ByProtocol, Counter>,
    points_refused: Family<ByProtocol, Counter>,
}

fn duration_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.5, 12))
}

impl Default for Metrics {
    /// The figures of the HTTP server and the process.
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tidelake");
        let requests = Family::<Answered, Counter>::default();
        registry.register(
            "http_requests",
            "Requests by route and status",
            requests.clone(),
        );
        let durations = Family::<OnPath, Histogram, fn() -> Histogram>::new_with_constructor(
            duration_histogram,
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time to the head of the answer, by route",
            Unit::Seconds,
            durations.clone(),
        );
        let write_bytes = Family::<ByProtocol, Counter>::default();
        registry.register(
            "write_body_bytes",
            "Bytes of write bodies as received",
            write_bytes.clone(),
        );
        let points_written = Family::<ByProtocol, Counter>::default();
        registry.register(
            "write_points",
            "Lines, samples and histograms that were acknowledged",
            points_written.clone(),
        );
        let points_refused = Family::<ByProtocol, Counter>::default();
        registry.register(
            "write_points_refused",
            "Lines and series that were refused",
            points_refused.clone(),
        );
        let refused_writes = Family::<Refused, Counter>::default();
        registry.register(
            "write_requests_refused",
            "Writes that were refused as a whole, by why",
            refused_writes.clone(),
        );
        // Those that alerts ask for begin at 0, so that the first one is an increase.
        for protocol in ["line_protocol", "remote_write", "otlp"] {
            for reason in ["unavailable", "throttled", "too_large", "bad_request"] {
                drop(refused_writes.get_or_create(&Refused { protocol, reason }));
            }
        }
        registry.register(
            "build",
            "What this program is",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(PanicFigures));
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessFigures {
            started_ms: Environment::system().now_ms(),
        }));
        Self {
            registry: Mutex::new(registry),
            process,
            refused_writes,
            requests,
            durations,
            write_bytes,
            points_written,
            points_refused,
        }
    }
}

impl Metrics {
    /// Adds what classes use of the processors.
    pub fn add_classes(&self, times: &Arc<ClassTimes>) {
        self.registry
            .lock()
            .register_collector(Box::new(ClassFigures(Arc::clone(times))));
    }

    /// Adds figures that are read at every scrape.
    pub fn add_figures(&self, figures: Vec<Figure>) {
        self.registry
            .lock()
            .register_collector(Box::new(Figures(figures)));
    }

    /// Adds the figures of queries.
    pub fn add_queries(&self, slots: &Arc<QuerySlots>) {
        self.registry
            .lock()
            .register_collector(Box::new(QueryFigures(Arc::clone(slots))));
    }

    /// Adds the figures of the memory's shares.
    pub fn add_memory(&self, memory: &Arc<MemoryBudget>) {
        self.registry
            .lock()
            .register_collector(Box::new(MemoryFigures(Arc::clone(memory))));
    }

    /// Counts a request by its route.
    pub fn count_request(&self, path: String, code: u16, took: Duration) {
        let durations = self.durations.get_or_create(&OnPath { path: path.clone() });
        durations.observe(took.as_secs_f64());
        drop(durations);
        self.requests.get_or_create(&Answered { path, code }).inc();
    }

    /// Adds the figures of the parts that have labels.
    pub fn add_parts(
        &self,
        catalog: &Arc<Catalog>,
        ingester: Option<&Arc<Ingester>>,
        tenants: &Arc<Tenants>,
    ) {
        let mut registry = self.registry.lock();
        let store = Arc::clone(catalog.store().counts());
        registry.register_collector(Box::new(StoreFigures(store)));
        registry.register_collector(Box::new(TenantFigures {
            tenants: Arc::clone(tenants),
            catalog: Arc::clone(catalog),
        }));
        if let Some(ingester) = ingester {
            registry.register_collector(Box::new(SeriesFigures(Arc::clone(ingester))));
        }
    }

    /// Counts a write that was refused as a whole.
    pub fn count_refused_write(&self, protocol: &'static str, error: &ServiceError) {
        let reason = error.code.name();
        let refused = Refused { protocol, reason };
        self.refused_writes.get_or_create(&refused).inc();
    }

    /// Counts a write that was taken, in whole or in part.
    pub fn count_write(&self, protocol: &'static str, bytes: usize, outcome: &WriteOutcome) {
        let label = ByProtocol { protocol };
        self.write_bytes.get_or_create(&label).inc_by(bytes as u64);
        self.points_written
            .get_or_create(&label)
            .inc_by(outcome.written.samples + outcome.written.histograms);
        self.points_refused
            .get_or_create(&label)
            .inc_by(outcome.refused);
    }

    /// All of them as text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 << 10);
        encode_registry(&mut text, &self.registry.lock())?;
        encode_registry(&mut text, &self.process)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Queries by language and how they ended, and how many run.
struct QueryFigures(Arc<QuerySlots>);

impl fmt::Debug for QueryFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueryFigures")
    }
}

impl Collector for QueryFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode_figure(
            &mut encoder,
            "queries_running",
            "Queries that run now",
            false,
            self.0.running() as f64,
        )?;
        let help = "Queries by language and outcome: answered, failed, limited, timed_out, \
                    cancelled, stalled, refused";
        let mut family =
            encoder.encode_descriptor("queries_ended", help, None, MetricType::Counter)?;
        for (language, outcome, count) in self.0.ended() {
            let labels = [("language", language.name()), ("outcome", outcome.name())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Queries that took so much that they went to the threads for heavy ones, by \
                    the class that they began in";
        let mut family =
            encoder.encode_descriptor("queries_heavy", help, None, MetricType::Counter)?;
        for (class, count) in self.0.heavy() {
            let labels = [("class", class.name())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Processor time by class.
#[derive(Debug)]
struct ClassFigures(Arc<ClassTimes>);

impl Collector for ClassFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Processor time of the threads that queries and merges compute on, by class";
        let (seconds, kind) = (Unit::Seconds, MetricType::Counter);
        let mut family = encoder.encode_descriptor("class_cpu", help, Some(&seconds), kind)?;
        for class in Class::ALL {
            let labels = [("class", class.name())];
            let used = ConstCounter::new(self.0.seconds(class));
            used.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The shares of the memory: what they may have and have, what waits, and what was refused.
#[derive(Debug)]
struct MemoryFigures(Arc<MemoryBudget>);

impl Collector for MemoryFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let states: Vec<(Share, ShareState)> = Share::ALL
            .into_iter()
            .map(|share| (share, self.0.state(share)))
            .collect();
        let mut gauge = |name, help, read: &dyn Fn(Share, &ShareState) -> f64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (share, state) in &states {
                let labels = [("share", share.name())];
                ConstGauge::new(read(*share, state)).encode(family.encode_family(&labels)?)?;
            }
            Ok(())
        };
        gauge(
            "memory_share_used_bytes",
            "Memory that is counted, by share",
            &|_, state| state.used as f64,
        )?;
        gauge(
            "memory_share_peak_bytes",
            "Most memory that was counted at a time, by share",
            &|_, state| state.peak as f64,
        )?;
        gauge(
            "memory_share_guaranteed_bytes",
            "Memory that a share may always have",
            &|_, state| state.guaranteed as f64,
        )?;
        gauge(
            "memory_share_limit_bytes",
            "Memory that a share may have now, with what it borrows",
            &|share, _| self.0.limit(share) as f64,
        )?;
        gauge(
            "memory_share_waiting",
            "Requests that wait for memory, by share",
            &|_, state| state.waiting as f64,
        )?;
        let help = "Requests for memory that were refused, by share";
        let mut family =
            encoder.encode_descriptor("memory_share_refused", help, None, MetricType::Counter)?;
        for (share, state) in &states {
            let labels = [("share", share.name())];
            ConstCounter::new(state.refused).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

struct Figures(Vec<Figure>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|figure| figure.name))
            .finish()
    }
}

fn encode_figure(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    is_counter: bool,
    value: f64,
) -> fmt::Result {
    if is_counter {
        ConstCounter::new(value).encode(encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Counter,
        )?)
    } else {
        ConstGauge::new(value).encode(encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Gauge,
        )?)
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for figure in &self.0 {
            encode_figure(
                &mut encoder,
                figure.name,
                figure.help,
                figure.is_counter,
                (figure.read)(),
            )?;
        }
        Ok(())
    }
}

/// Requests to the store.
#[derive(Debug)]
struct StoreFigures(Arc<StoreCounts>);

impl Collector for StoreFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests to the store by operation, and by what they were for";
        let mut family =
            encoder.encode_descriptor("store_requests", help, None, MetricType::Counter)?;
        for (operation, purpose, count) in self.0.all() {
            let labels = [("operation", operation.name()), ("purpose", purpose.name())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Series by database, known and allowed.
struct SeriesFigures(Arc<Ingester>);

impl fmt::Debug for SeriesFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeriesFigures")
    }
}

/// Databases that have figures of their own.
const MAX_DATABASES: usize = 1000;

impl Collector for SeriesFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut quotas = self.0.series_quotas();
        quotas.sort_by(|(a, _), (b, _)| a.cmp(b));
        quotas.truncate(MAX_DATABASES);
        let mut gauge = |name, help, read: &dyn Fn(&SeriesQuota) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (database, quota) in &quotas {
                let labels = [("database", &**database)];
                let value = read(quota) as f64;
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
            Ok(())
        };
        let help = "Series of a database that got points lately";
        gauge("database_active_series", help, &|quota| quota.held())?;
        let help = "Series of a database that may get points; 0 without a limit";
        gauge("database_active_series_limit", help, &|quota| {
            quota.limit().unwrap_or_default()
        })
    }
}

/// What databases and tokens take.
struct TenantFigures {
    tenants: Arc<Tenants>,
    catalog: Arc<Catalog>,
}

impl fmt::Debug for TenantFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantFigures")
    }
}

impl Collector for TenantFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.catalog.snapshot();
        let name_of = |of: LimitsOf| match &of {
            LimitsOf::Default => None,
            LimitsOf::Database(name) => Some(("database", Arc::clone(name), of)),
            LimitsOf::Token(id) => {
                let token = snapshot.tokens().get(*id)?;
                Some(("token", Arc::clone(&token.name), of))
            }
        };
        let mut known: Vec<_> = self
            .tenants
            .known()
            .into_iter()
            .filter_map(name_of)
            .collect();
        known.sort();
        known.truncate(MAX_DATABASES);
        type Taken = (u64, u64, u64);
        let figures: [(_, _, _, fn(Taken) -> u64); 3] = [
            (
                "tenant_queries",
                "Queries of a database or a token that run",
                MetricType::Gauge,
                |(queries, ..)| queries,
            ),
            (
                "tenant_written_samples",
                "Samples that were written to a database or with a token",
                MetricType::Counter,
                |(_, samples, _)| samples,
            ),
            (
                "tenant_throttled",
                "Requests that were over a limit of a database or a token",
                MetricType::Counter,
                |(.., throttled)| throttled,
            ),
        ];
        for (name, help, kind, read) in figures {
            let is_counter = matches!(kind, MetricType::Counter);
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (kind, tenant, of) in &known {
                let labels = [("kind", *kind), ("name", &**tenant)];
                let value = read(self.tenants.taken(of));
                let encoder = family.encode_family(&labels)?;
                match is_counter {
                    true => ConstCounter::new(value).encode(encoder)?,
                    false => ConstGauge::new(value as f64).encode(encoder)?,
                }
            }
        }
        Ok(())
    }
}

/// What every process has, under the names that every exporter gives it.
#[derive(Debug)]
struct ProcessFigures {
    started_ms: i64,
}

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let started = self.started_ms as f64 / 1000.0;
        for (name, help, is_counter, value) in [
            (
                "process_cpu_seconds",
                "Processor time, user and system",
                true,
                process::cpu_seconds(),
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory",
                false,
                process::resident_bytes(),
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory",
                false,
                process::virtual_bytes(),
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                false,
                process::open_files(),
            ),
            (
                "process_max_fds",
                "Most file descriptors that may be open",
                false,
                process::max_files(),
            ),
            (
                "process_start_time_seconds",
                "When the process began to serve, in seconds since 1970",
                false,
                Some(started),
            ),
        ] {
            if let Some(value) = value {
                encode_figure(&mut encoder, name, help, is_counter, value)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct PanicFigures;

impl Collector for PanicFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode_figure(
            &mut encoder,
            "panics",
            "Defects that ended a request or a task; the log has their backtraces",
            true,
            panics::count() as f64,
        )
    }
}

/// OpenMetrics as the older text format has it, for clients that ask for nothing else: counters are
/// described by the names of their samples, and nothing marks the end.
pub fn as_plain_text(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF"), ..) | (Some("#"), Some("UNIT"), ..) => {}
            (Some("#"), Some("HELP"), Some(_), _) => help = line,
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (end, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                let text = help.splitn(4, ' ').nth(3).unwrap_or_default();
                out.push_str(&format!("# HELP {name}{end} {text}\n"));
                out.push_str(&format!("# TYPE {name}{end} {kind}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::backend::Written;

    #[test]
    fn the_text_holds_counters_and_figures() {
        let metrics = Metrics::default();
        let written = Written {
            samples: 3,
            histograms: 1,
            exemplars: 0,
        };
        metrics.count_write(
            "line_protocol",
            100,
            &WriteOutcome {
                written,
                errors: Vec::new(),
                refused: 7,
            },
        );
        metrics.count_refused_write("line_protocol", &ServiceError::bad_request("x"));
        metrics
            .requests
            .get_or_create(&Answered {
                path: "/write".into(),
                code: 204,
            })
            .inc();
        metrics.add_figures(vec![Figure {
            name: "segments",
            help: "Segments in the catalog",
            is_counter: false,
            read: Box::new(|| 7.0),
        }]);
        let text = metrics.text().unwrap();
        for line in [
            "tidelake_write_body_bytes_total{protocol=\"line_protocol\"} 100",
            "tidelake_write_points_total{protocol=\"line_protocol\"} 4",
            "tidelake_http_requests_total{path=\"/write\",code=\"204\"} 1",
            "tidelake_segments 7.0",
            "tidelake_write_points_refused_total{protocol=\"line_protocol\"} 7",
            "tidelake_write_requests_refused_total{protocol=\"line_protocol\",reason=\"bad_request\"} 1",
            "# TYPE process_cpu_seconds counter",
            "process_start_time_seconds",
            "process_max_fds",
            "tidelake_build_info{version=",
        ] {
            assert!(text.contains(line), "{text}\nlacks {line}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# EOF").count(), 1);
        let plain = as_plain_text(&text);
        for line in [
            "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total ",
            "# TYPE tidelake_segments gauge\ntidelake_segments 7.0\n",
            "# TYPE tidelake_build_info gauge\ntidelake_build_info{",
        ] {
            assert!(plain.contains(line), "{plain}\nlacks {line}");
        }
        assert!(
            !plain.contains("EOF") && !plain.contains("# UNIT"),
            "{plain}"
        );
    }
}
