//! `/metrics`: what the server says about itself, in the OpenMetrics text format.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tidelake_catalog::memory::{MemoryBudget, Share, ShareState};
use tidelake_catalog::panics;

use crate::node::backend::WriteOutcome;
use crate::node::figures::Figure;
use crate::node::process;
use crate::service::slots::QuerySlots;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    path: String,
    code: u16,
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
        registry.register_collector(Box::new(ProcessFigures));
        Self {
            registry: Mutex::new(registry),
            requests,
            durations,
            write_bytes,
            points_written,
            points_refused,
        }
    }
}

impl Metrics {
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

    /// Counts a write that was taken, in whole or in part.
    pub fn count_write(&self, protocol: &'static str, bytes: usize, outcome: &WriteOutcome) {
        let label = ByProtocol { protocol };
        self.write_bytes.get_or_create(&label).inc_by(bytes as u64);
        self.points_written
            .get_or_create(&label)
            .inc_by(outcome.written.samples + outcome.written.histograms);
        self.points_refused
            .get_or_create(&label)
            .inc_by(outcome.errors.len() as u64);
    }

    /// All of them as text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.registry.lock())?;
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

#[derive(Debug)]
struct ProcessFigures;

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode_figure(
            &mut encoder,
            "panics",
            "Defects that ended a request or a task; the log has their backtraces",
            true,
            panics::count() as f64,
        )?;
        if let Some(seconds) = process::cpu_seconds() {
            encode_figure(
                &mut encoder,
                "process_cpu_seconds",
                "Processor time of this process, user and system",
                true,
                seconds,
            )?;
        }
        if let Some(bytes) = process::resident_bytes() {
            encode_figure(
                &mut encoder,
                "process_resident_memory_bytes",
                "Resident memory of this process",
                false,
                bytes,
            )?;
        }
        if let Some(files) = process::open_files() {
            encode_figure(
                &mut encoder,
                "process_open_fds",
                "Open file descriptors of this process",
                false,
                files,
            )?;
        }
        Ok(())
    }
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
                refused: 0,
            },
        );
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
        ] {
            assert!(text.contains(line), "{text}\nlacks {line}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
