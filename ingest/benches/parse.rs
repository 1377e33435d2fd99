//! Bodies into rows with a warmed registry: what a server does nearly all the time.
//!
//! `cargo bench -p tidelake-ingest`; criterion's "elem" is a field value or a sample.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidelake_catalog::model::{TableKind, TableSchema};
use tidelake_ingest::LabelLimits;
use tidelake_ingest::line_protocol::{self, LineOptions, Precision, TableLookup};
use tidelake_ingest::otlp::{Rules, SaidMetrics, Settings, decode};
use tidelake_ingest::remote_write::{v1, v2};
use tidelake_ingest::retention::Oldest;
use tidelake_ingest::series_registry::SeriesRegistry;

const HOSTS: usize = 1_000;
const FIELDS: usize = 10;

/// One table, known or not.
struct OneTable {
    schema: Option<Arc<TableSchema>>,
    registry: Arc<SeriesRegistry>,
}

impl TableLookup for OneTable {
    fn schema(&self, _: &str) -> Option<Arc<TableSchema>> {
        self.schema.clone()
    }

    fn registry(&self, _: &str) -> Arc<SeriesRegistry> {
        self.registry.clone()
    }

    fn oldest(&self, _: &str) -> Oldest {
        Oldest::NONE
    }
}

/// Hosts with ten tags and ten fields, as in the DevOps workload of TSBS.
fn lines(value: impl Fn(usize) -> String) -> String {
    let mut body = String::new();
    for host in 0..HOSTS {
        write!(
            body,
            "cpu,hostname=host_{host},region=eu-west-1,datacenter=eu-west-1c,rack={},os=Ubuntu16.\
             04LTS",
            host % 90
        )
        .unwrap();
        write!(
            body,
            ",arch=x64,team=NYC,service={},service_version=0,service_environment=test ",
            host % 19
        )
        .unwrap();
        for (i, field) in [
            "user",
            "system",
            "idle",
            "nice",
            "iowait",
            "irq",
            "softirq",
            "steal",
            "guest",
            "guest_nice",
        ]
        .iter()
        .enumerate()
        {
            write!(
                body,
                "{}usage_{field}={}",
                if i > 0 { "," } else { "" },
                value(host * 31 + i * 7)
            )
            .unwrap();
        }
        writeln!(body, " 1700000000{host:09}").unwrap();
    }
    body
}

fn line_protocol(c: &mut Criterion) {
    let mut group = c.benchmark_group("line_protocol");
    group.throughput(Throughput::Elements((HOSTS * FIELDS) as u64));
    let options = LineOptions::new(Precision::Nanosecond, 0);
    for (name, body) in [
        ("integers", lines(|n| format!("{}i", n % 100))),
        ("floats", lines(|n| format!("{}.{:02}", n % 100, n % 97))),
        ("long_floats", lines(|n| format!("{:?}", (n as f64).sqrt()))),
        ("strings", lines(|n| format!("\"state {}\"", n % 100))),
    ] {
        let mut tables = OneTable {
            schema: None,
            registry: Arc::new(SeriesRegistry::new(1 << 30)),
        };
        let parsed = line_protocol::parse(body.as_bytes(), &options, &tables);
        assert_eq!(parsed.lines_ok, HOSTS);
        tables.schema = Some(Arc::new(TableSchema {
            kind: TableKind::Wide,
            columns: parsed.tables[0].new_columns.clone(),
        }));
        group.bench_function(name, |b| {
            b.iter(|| line_protocol::parse(body.as_bytes(), &options, &tables))
        });
    }
    group.finish();
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The labels of a series as those of node_exporter.
fn labels(instance: &str) -> [(&str, &str); 10] {
    [
        ("__name__", "node_cpu_seconds_total"),
        ("cluster", "production"),
        ("cpu", "3"),
        ("datacenter", "eu-west-1c"),
        ("instance", instance),
        ("job", "node"),
        ("mode", "iowait"),
        ("namespace", "monitoring"),
        ("pod", "node-exporter-x8sk2"),
        ("team", "platform"),
    ]
}

fn instance(i: usize) -> String {
    format!("10.0.{}.{}:9100", i / 250, i % 250)
}

fn sample(i: usize) -> Vec<u8> {
    let mut sample = vec![0x09];
    sample.extend((i as f64 * 0.25).to_le_bytes());
    sample.push(0x10);
    varint(&mut sample, 1_700_000_000_000);
    sample
}

/// A request as Prometheus sends it: one sample for each of many series with ten labels.
fn write_request(series: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for i in 0..series {
        let mut message = Vec::new();
        for (name, value) in labels(&instance(i)) {
            let mut label = Vec::new();
            bytes(&mut label, 1, name.as_bytes());
            bytes(&mut label, 2, value.as_bytes());
            bytes(&mut message, 1, &label);
        }
        bytes(&mut message, 2, &sample(i));
        bytes(&mut body, 1, &message);
    }
    body
}

/// The same as 2.0.
fn write_request_2(series: usize) -> Vec<u8> {
    let mut symbols = HashMap::from([(String::new(), 0)]);
    let (mut body, mut messages) = (vec![4 << 3 | 2, 0], Vec::new());
    for i in 0..series {
        let mut references = Vec::new();
        for text in labels(&instance(i))
            .into_iter()
            .flat_map(|(name, value)| [name, value])
        {
            let next = symbols.len() as u64;
            let reference = *symbols.entry(text.to_owned()).or_insert_with(|| {
                bytes(&mut body, 4, text.as_bytes());
                next
            });
            varint(&mut references, reference);
        }
        let mut message = Vec::new();
        bytes(&mut message, 1, &references);
        bytes(&mut message, 2, &sample(i));
        bytes(&mut messages, 5, &message);
    }
    body.extend(messages);
    body
}

fn remote_write(c: &mut Criterion) {
    const SERIES: usize = 10_000;
    let mut group = c.benchmark_group("remote_write");
    group.throughput(Throughput::Elements(SERIES as u64));
    let body = write_request(SERIES);
    let registry = SeriesRegistry::new(1 << 30);
    assert_eq!(
        v1::decode(&body, &registry, Oldest::NONE, &LabelLimits::NONE).map(|w| w.samples),
        Ok(SERIES)
    );
    group.bench_function("one_sample_per_series", |b| {
        b.iter(|| v1::decode(&body, &registry, Oldest::NONE, &LabelLimits::NONE))
    });
    group.bench_function("unknown_series", |b| {
        b.iter(|| {
            v1::decode(
                &body,
                &SeriesRegistry::new(1 << 30),
                Oldest::NONE,
                &LabelLimits::NONE,
            )
        })
    });
    let body = write_request_2(SERIES);
    let registry = SeriesRegistry::new(1 << 30);
    assert_eq!(
        v2::decode(&body, &registry, Oldest::NONE, &LabelLimits::NONE).map(|w| w.samples),
        Ok(SERIES)
    );
    assert_eq!(registry.len(), SERIES);
    group.bench_function("version_2", |b| {
        b.iter(|| v2::decode(&body, &registry, Oldest::NONE, &LabelLimits::NONE))
    });
    group.finish();
}

fn fixed64(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn attributes(out: &mut Vec<u8>, number: u8, pairs: &[(&str, &str)]) {
    for (name, text) in pairs {
        let (mut value, mut attribute) = (Vec::new(), Vec::new());
        bytes(&mut value, 1, text.as_bytes());
        bytes(&mut attribute, 1, name.as_bytes());
        bytes(&mut attribute, 2, &value);
        bytes(out, number, &attribute);
    }
}

/// A resource with one scope and these metrics.
fn of_resource(instance: &str, metrics: &[Vec<u8>]) -> Vec<u8> {
    let (mut resource, mut scope, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let identity = [("service.name", "node"), ("service.instance.id", instance)];
    attributes(&mut resource, 1, &identity);
    attributes(&mut resource, 1, &[("k8s.pod.name", "node-exporter-x8sk2")]);
    bytes(&mut scope, 1, b"");
    for metric in metrics {
        bytes(&mut scope, 2, metric);
    }
    bytes(&mut out, 1, &resource);
    bytes(&mut out, 2, &scope);
    out
}

/// The start and the time of a point, and its value in a field.
fn point(value: Option<(u8, f64)>) -> Vec<u8> {
    let mut point = Vec::new();
    fixed64(&mut point, 2, 1_699_999_000_000_000_000);
    fixed64(&mut point, 3, 1_700_000_000_000_000_000);
    if let Some((number, value)) = value {
        fixed64(&mut point, number, value.to_bits());
    }
    point
}

/// A metric of these points; `kind` is the field of its data.
fn metric(name: &str, kind: u8, points: &[Vec<u8>]) -> Vec<u8> {
    let (mut data, mut metric) = (Vec::new(), Vec::new());
    for point in points {
        bytes(&mut data, 1, point);
    }
    data.extend([2 << 3, 2]);
    if kind == 7 {
        data.extend([3 << 3, 1]);
    }
    bytes(&mut metric, 1, name.as_bytes());
    bytes(&mut metric, 2, b"Seconds the CPUs spent in each mode.");
    bytes(&mut metric, 3, b"s");
    bytes(&mut metric, kind, &data);
    metric
}

/// One sample for each of many series, as `write_request` has them: of one metric, or each of a
/// metric and a resource of its own.
fn otlp_request(series: usize, is_spread: bool) -> Vec<u8> {
    let (mut body, mut points) = (Vec::new(), Vec::new());
    for i in 0..series {
        let instance = instance(i);
        let mut point = point(Some((4, i as f64 * 0.25)));
        attributes(&mut point, 7, &labels(&instance)[1..]);
        if is_spread {
            let metric = metric("node.cpu.time", 7, &[point]);
            bytes(&mut body, 1, &of_resource(&instance, &[metric]));
        } else {
            points.push(point);
        }
    }
    if !is_spread {
        bytes(
            &mut body,
            1,
            &of_resource("i", &[metric("node.cpu.time", 7, &points)]),
        );
    }
    body
}

/// Histograms of 15 buckets, each of which is 17 samples.
fn otlp_histograms(histograms: usize) -> Vec<u8> {
    let mut points = Vec::new();
    for i in 0..histograms {
        let mut point = point(Some((5, 12.5)));
        fixed64(&mut point, 4, 15);
        let counts: Vec<u8> = (0..15).flat_map(|_| 1u64.to_le_bytes()).collect();
        let bounds: Vec<u8> = (0..14).flat_map(|n| f64::from(n).to_le_bytes()).collect();
        bytes(&mut point, 6, &counts);
        bytes(&mut point, 7, &bounds);
        attributes(&mut point, 9, &labels(&instance(i))[1..]);
        points.push(point);
    }
    let mut body = Vec::new();
    bytes(
        &mut body,
        1,
        &of_resource("i", &[metric("request.duration", 9, &points)]),
    );
    body
}

fn otlp(c: &mut Criterion) {
    const SERIES: usize = 10_000;
    let mut group = c.benchmark_group("otlp");
    let settings = Settings::default();
    let rules = Rules {
        settings: &settings,
        head: &[],
        oldest: Oldest::NONE,
        limits: LabelLimits::NONE,
        table: 1,
    };
    for (name, body, samples) in [
        (
            "one_sample_per_series",
            otlp_request(SERIES, false),
            SERIES + 1,
        ),
        (
            "one_metric_per_sample",
            otlp_request(SERIES, true),
            2 * SERIES,
        ),
        ("classic_histograms", otlp_histograms(1_000), 17_001),
    ] {
        group.throughput(Throughput::Elements(samples as u64));
        let (registry, said) = (SeriesRegistry::new(1 << 30), SaidMetrics::default());
        let (written, keys) = decode(&body, &registry, rules, Some(&said)).expect("it is valid");
        assert_eq!(written.samples, samples);
        said.add(keys);
        group.bench_function(name, |b| {
            b.iter(|| decode(&body, &registry, rules, Some(&said)))
        });
    }
    let body = otlp_request(SERIES, false);
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("unknown_series", |b| {
        b.iter(|| decode(&body, &SeriesRegistry::new(1 << 30), rules, None))
    });
    group.finish();
}

criterion_group!(benches, line_protocol, remote_write, otlp);
criterion_main!(benches);
