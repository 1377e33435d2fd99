//! Requests built field by field, and the series that they become, as text.
//!
//! The inputs and the series are those that the tests of Prometheus' translator have, and more.

mod hostile;
mod points;

use std::fmt::Write;

use tidelake_catalog::MetricKind;
use tidelake_catalog::model::{Histogram, ResetHint, TimeUnit};

use super::testing::{Message, text_value};
use super::*;
use crate::column::FieldValues;
use crate::label_limits::LabelLimits;
use crate::remote_write::{LABELS_COLUMN, WrittenSamples};
use crate::retention::Oldest;
use crate::series_registry::SeriesRegistry;

/// Nanoseconds of the time that points have, where nothing else is said.
const TIME: u64 = 1_700_000_000_123_999_999;

fn m() -> Message {
    Message::default()
}

fn attribute(key: &str, value: &str) -> Message {
    m().text(1, key).message(2, text_value(value))
}

/// A message with attributes in a field.
fn with(message: Message, number: usize, attributes: &[(&str, &str)]) -> Message {
    attributes.iter().fold(message, |message, (key, value)| {
        message.message(number, attribute(key, value))
    })
}

/// A request with one resource and one scope.
fn request(resource: &[(&str, &str)], metrics: Vec<Message>) -> Message {
    let scope = with(
        m().text(1, "test-scope").text(2, "1.0.0"),
        3,
        &[("attr1", "value1"), ("attr.2", "value2")],
    );
    let scope_metrics = metrics
        .into_iter()
        .fold(m().message(1, scope), |all, metric| all.message(2, metric))
        .text(3, "https://schema.com");
    // What describes comes last: its place does not matter.
    let resource_metrics = m()
        .message(2, scope_metrics)
        .message(1, with(m(), 1, resource));
    m().message(1, resource_metrics)
}

fn gauge(name: &str, points: Vec<Message>) -> Message {
    let data = points
        .into_iter()
        .fold(m(), |data, point| data.message(1, point));
    m().message(5, data).text(1, name)
}

fn sum(name: &str, temporality: u64, is_monotonic: bool, points: Vec<Message>) -> Message {
    let data = points
        .into_iter()
        .fold(m(), |data, point| data.message(1, point));
    let data = data
        .varint(2, temporality)
        .varint(3, u64::from(is_monotonic));
    m().text(1, name).message(7, data)
}

fn point(value: f64) -> Message {
    m().fixed64(3, TIME).double(4, value)
}

fn rules(settings: &Settings) -> Rules<'_> {
    Rules {
        settings,
        head: &[],
        oldest: Oldest::NONE,
        limits: LabelLimits::NONE,
        table: 1,
    }
}

fn try_written(
    registry: &SeriesRegistry,
    settings: &Settings,
    request: &Message,
) -> Result<WrittenSamples, DecodeError> {
    let head = settings.head().unwrap();
    let rules = Rules {
        head: &head,
        ..rules(settings)
    };
    let body = request.clone().into_bytes();
    let said = SaidMetrics::default();
    decode(&body, registry, rules, Some(&said)).map(|(written, _)| written)
}

fn written(settings: &Settings, request: &Message) -> WrittenSamples {
    let registry = SeriesRegistry::new(1 << 20);
    let first = try_written(&registry, settings, request).unwrap();
    // Known by their bytes, series are the same.
    let second = try_written(&registry, settings, request).unwrap();
    assert_eq!(lines(&registry, &first), lines(&registry, &second));
    assert_eq!(first.errors.len(), second.errors.len());
    first
}

/// Sorted lines: labels, value, time and start time of each sample, and the exemplars.
fn lines(registry: &SeriesRegistry, written: &WrittenSamples) -> Vec<String> {
    let name = |series: u32| {
        let labels = registry.entry(series).unwrap().series.labels.clone();
        let metric = labels.metric_name().to_owned();
        format!("{metric}{}", labels.without_metric_name())
    };
    let mut lines = Vec::new();
    let rows = &written.rows;
    for row in 0..rows.len() {
        let mut line = format!("{} ", name(rows.series[row]));
        let mut started = String::new();
        for field in &rows.fields {
            let Some(place) = field.position(row) else {
                continue;
            };
            match &field.values {
                FieldValues::Float(values) => write!(line, "{:?}", values[place]).unwrap(),
                FieldValues::Histogram(values) => line.push_str(&shown(&values[place])),
                FieldValues::Integer(values) => {
                    started = format!(" since {}", values[place] - millis(TIME));
                }
                other => panic!("{other:?}"),
            }
        }
        lines.push(format!(
            "{line} @{}{started}",
            rows.time[row] - millis(TIME)
        ));
    }
    let exemplars = &written.exemplars;
    for row in 0..exemplars.len() {
        let mut line = format!("exemplar of {}", name(exemplars.series[row]));
        for field in &exemplars.fields {
            let Some(place) = field.position(row) else {
                continue;
            };
            match &field.values {
                FieldValues::Float(values) => write!(line, " {:?}", values[place]).unwrap(),
                FieldValues::String { ends, bytes } => {
                    assert_eq!(&*field.name, LABELS_COLUMN);
                    let start = place
                        .checked_sub(1)
                        .map_or(0, |before| ends[before] as usize);
                    let text = std::str::from_utf8(&bytes[start..ends[place] as usize]).unwrap();
                    for (name, value) in tidelake_catalog::model::Labels::iter_canonical(text) {
                        write!(line, " {name}={value}").unwrap();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        lines.push(format!("{line} @{}", exemplars.time[row] - millis(TIME)));
    }
    lines.sort();
    lines
}

fn millis(nanos: u64) -> i64 {
    super::points::millis(nanos)
}

fn shown(h: &Histogram) -> String {
    let spans = |spans: &[tidelake_catalog::model::Span]| -> Vec<(i32, u32)> {
        spans.iter().map(|s| (s.offset, s.length)).collect()
    };
    let mut text = format!("schema {} count {} sum {:?}", h.schema, h.count, h.sum);
    if h.zero_threshold != 0.0 || h.zero_count != 0.0 {
        write!(text, " zero {} within {:?}", h.zero_count, h.zero_threshold).unwrap();
    }
    for (word, side, counts) in [
        ("above", &h.positive_spans, &h.positive_counts),
        ("below", &h.negative_spans, &h.negative_counts),
    ] {
        if !side.is_empty() {
            write!(text, " {word} {:?} {counts:?}", spans(side)).unwrap();
        }
    }
    if !h.custom_values.is_empty() {
        write!(text, " bounds {:?}", h.custom_values).unwrap();
    }
    if h.reset_hint == ResetHint::Gauge {
        text.push_str(" gauge");
    }
    text
}

/// The lines of a request without those of `target_info`.
#[track_caller]
fn check(settings: &Settings, request: &Message, expected: &[&str]) {
    let registry = SeriesRegistry::new(1 << 20);
    let written_once = try_written(&registry, settings, request).unwrap();
    let mut found = lines(&registry, &written_once);
    found.retain(|line| !line.starts_with("target_info"));
    assert_eq!(found, expected, "{:?}", written_once.errors);
    // Known by their bytes, series are the same.
    let again = try_written(&registry, settings, request).unwrap();
    let mut again = lines(&registry, &again);
    again.retain(|line| !line.starts_with("target_info"));
    assert_eq!(again, expected);
}

/// Refusals, and how many points were refused.
#[track_caller]
fn refuse(settings: &Settings, request: &Message, refused: usize, parts: &[&str]) {
    let written = written(settings, request);
    assert_eq!(written.refused, refused, "{:?}", written.errors);
    let text = written.errors.join("\n");
    for part in parts {
        assert!(text.contains(part), "{text} lacks {part}");
    }
}

fn promoting(names: &[&str]) -> Settings {
    Settings {
        promotion: Promotion::Only(names.iter().map(|name| (*name).to_owned()).collect()),
        ..Settings::default()
    }
}

const SERVICE: [(&str, &str); 6] = [
    ("service.name", "service name"),
    ("service.instance.id", "service ID"),
    ("existent-attr", "resource value"),
    ("metric-attr", "resource value"),
    ("job", "resource value"),
    ("instance", "resource value"),
];
const POINT: [(&str, &str); 2] = [
    ("metric-attr", "metric value"),
    ("metric-attr-other", "metric value other"),
];

/// The labels of a point with attributes, of a resource, in the order of their names.
#[track_caller]
fn check_labels(
    settings: &Settings,
    resource: &[(&str, &str)],
    attributes: &[(&str, &str)],
    expected: &[(&str, &str)],
) {
    let request = request(
        resource,
        vec![gauge("test_metric", vec![with(point(1.0), 7, attributes)])],
    );
    let pairs: Vec<String> = expected
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    let line = format!("test_metric{{{}}} 1.0 @0", pairs.join(", "));
    check(settings, &request, &[&line]);
}

#[test]
fn labels_come_from_point_resource_and_scope() {
    let settings = Settings::default();
    let plain = [
        ("instance", "service ID"),
        ("job", "service name"),
        ("metric_attr", "metric value"),
        ("metric_attr_other", "metric value other"),
    ];
    check_labels(&settings, &SERVICE, &POINT, &plain);
    check_labels(&promoting(&["none", "none"]), &SERVICE, &POINT, &plain);
    let promoted = [
        ("existent_attr", "resource value"),
        ("instance", "service ID"),
        ("job", "service name"),
        ("metric_attr", "metric value"),
        ("metric_attr_other", "metric value other"),
    ];
    let names = [
        "non-existent-attr",
        "existent-attr",
        "metric-attr",
        "job",
        "instance",
    ];
    check_labels(&promoting(&names), &SERVICE, &POINT, &promoted);
    let scopes = Settings {
        scope_labels: true,
        ..promoting(&["existent-attr"])
    };
    let scoped = [
        ("existent_attr", "resource value"),
        ("instance", "service ID"),
        ("job", "service name"),
        ("metric_attr", "metric value"),
        ("metric_attr_other", "metric value other"),
        ("otel_scope_attr1", "value1"),
        ("otel_scope_attr_2", "value2"),
        ("otel_scope_name", "test-scope"),
        ("otel_scope_schema_url", "https://schema.com"),
        ("otel_scope_version", "1.0.0"),
    ];
    check_labels(&scopes, &SERVICE, &POINT, &scoped);
    let all = |ignored: &[&str]| Settings {
        promotion: Promotion::AllBut(ignored.iter().map(|name| (*name).to_owned()).collect()),
        ..Settings::default()
    };
    let mut everything = promoted.to_vec();
    everything.push(("service_instance_id", "service ID"));
    everything.push(("service_name", "service name"));
    check_labels(&all(&[]), &SERVICE, &POINT, &everything);
    everything.retain(|(name, _)| *name != "service_instance_id");
    check_labels(
        &all(&["service.instance.id"]),
        &SERVICE,
        &POINT,
        &everything,
    );
    let both = [("service.name", "n"), ("service.namespace", "ns")];
    check_labels(&settings, &both, &[], &[("job", "ns/n")]);
    check_labels(&settings, &[("service.namespace", "ns")], &[], &[]);
    check_labels(&settings, &[("service.name", "")], &[], &[]);
}

#[test]
fn names_of_attributes_become_names_of_labels() {
    let settings = promoting(&["_private", "label___multi", "__reserved__"]);
    let resource = [
        ("_private", "private value"),
        ("__reserved__", "reserved value"),
        ("label___multi", "multi value"),
    ];
    let attributes = [
        ("_metric_private", "private metric"),
        ("metric___multi", "multi metric"),
    ];
    let expected = [
        ("__reserved__", "reserved value"),
        ("key_metric_private", "private metric"),
        ("key_private", "private value"),
        ("label___multi", "multi value"),
        ("metric___multi", "multi metric"),
    ];
    check_labels(&settings, &resource, &attributes, &expected);
    let utf8 = Settings {
        strategy: Strategy::NoTranslation,
        ..Settings::default()
    };
    let odd = [
        ("a.b", "1"),
        ("a_b", "2"),
        ("ü", "3"),
        ("_x", "4"),
        ("empty", ""),
    ];
    let as_is = [("_x", "4"), ("a.b", "1"), ("a_b", "2"), ("ü", "3")];
    check_labels(&utf8, &[], &odd, &as_is);
}

#[test]
fn attributes_of_one_label_are_joined_in_the_order_of_their_names() {
    let settings = Settings::default();
    check_labels(
        &settings,
        &[],
        &[("a_b", "2"), ("a.b", "1")],
        &[("a_b", "1;2")],
    );
    let three = [("a.b", "2"), ("a_b", "3"), ("a-b", "1")];
    check_labels(&settings, &[], &three, &[("a_b", "1;2;3")]);
    let groups = [
        ("a.b", "1"),
        ("c_d", "4"),
        ("a_b", "2"),
        ("c.d", "3"),
        ("e", "9"),
    ];
    let joined = [("a_b", "1;2"), ("c_d", "3;4"), ("e", "9")];
    check_labels(&settings, &[], &groups, &joined);
    check_labels(
        &settings,
        &[],
        &[("a.b", ""), ("a_b", "2")],
        &[("a_b", "2")],
    );
    let resource = [
        ("k8s.pod.name", "a"),
        ("k8s_pod_name", "b"),
        ("service.name", "s"),
    ];
    let request = request(&resource, vec![gauge("g", vec![point(1.0)])]);
    let registry = SeriesRegistry::new(1 << 20);
    let written = try_written(&registry, &settings, &request).unwrap();
    assert_eq!(
        lines(&registry, &written),
        [
            "g{job=\"s\"} 1.0 @0",
            "target_info{job=\"s\", k8s_pod_name=\"a;b\"} 1.0 @0",
        ]
    );
}

#[test]
fn reserved_labels_are_those_of_the_metric() {
    let settings = Settings {
        type_and_unit_labels: true,
        ..Settings::default()
    };
    let reserved = [
        ("__name__", "x"),
        ("__type__", "x"),
        ("__unit__", "x"),
        ("a", "b"),
    ];
    let points = |value| vec![with(point(value), 7, &reserved)];
    let metric = sum("m", 2, true, points(1.0)).text(3, "By/s");
    let expected = "m_bytes_per_second_total{__type__=\"counter\", \
        __unit__=\"bytes_per_second\", a=\"b\"} 1.0 @0";
    check(&settings, &request(&[], vec![metric]), &[expected]);
    let metric = gauge("m", points(2.0));
    let expected = "m{__type__=\"gauge\", __unit__=\"x\", a=\"b\"} 2.0 @0";
    check(&settings, &request(&[], vec![metric]), &[expected]);
}

#[test]
fn target_info_says_what_is_known_of_a_resource() {
    let check_target = |settings: &Settings, resource: &[(&str, &str)], expected: &[&str]| {
        let last = TIME + 400_000_000_000;
        let points = vec![
            m().fixed64(3, last).double(4, 1.0),
            m().fixed64(3, TIME).double(4, 1.0),
        ];
        let registry = SeriesRegistry::new(1 << 20);
        let request = request(resource, vec![gauge("g", points)]);
        for _ in 0..2 {
            let written = try_written(&registry, settings, &request).unwrap();
            let mut found = lines(&registry, &written);
            found.retain(|line| line.starts_with("target_info"));
            assert_eq!(found, expected, "{resource:?}");
        }
    };
    let settings = Settings::default();
    let identity = [("service.name", "n"), ("service.instance.id", "i")];
    // Nothing to say, and nothing to say it of.
    check_target(&settings, &identity, &[]);
    check_target(&settings, &[("host.name", "h")], &[]);
    let known = [
        ("service.name", "n"),
        ("host.name", "h"),
        ("service.namespace", "ns"),
    ];
    let line = |labels: &str, time: &str| format!("target_info{{{labels}}} 1.0 @{time}");
    let times = ["0", "150000", "300000", "400000"];
    let labels = "host_name=\"h\", job=\"ns/n\"";
    let lines: Vec<String> = times.iter().map(|time| line(labels, time)).collect();
    let expected: Vec<&str> = lines.iter().map(String::as_str).collect();
    check_target(&settings, &known, &expected);
    check_target(&promoting(&["host.name"]), &known, &expected);
    let keeping = Settings {
        keep_identifying: true,
        target_info_interval_ms: 300_000,
        ..Settings::default()
    };
    let labels = "host_name=\"h\", job=\"ns/n\", service_name=\"n\", service_namespace=\"ns\"";
    let lines = [
        line(labels, "0"),
        line(labels, "300000"),
        line(labels, "400000"),
    ];
    check_target(&keeping, &known, &[&lines[0], &lines[1], &lines[2]]);
    // A label of this name will do.
    let lines: Vec<String> = times.iter().map(|time| line("job=\"j\"", time)).collect();
    let expected: Vec<&str> = lines.iter().map(String::as_str).collect();
    check_target(&settings, &[("job", "j")], &expected);
}

#[test]
fn one_resource_has_one_target_info_a_time() {
    let resource = [("service.name", "n"), ("host.name", "h")];
    let one = request(&resource, vec![gauge("a", vec![point(1.0)])]).into_bytes();
    let two = request(&resource, vec![gauge("b", vec![point(1.0)])]).into_bytes();
    let settings = Settings::default();
    let registry = SeriesRegistry::new(1 << 20);
    let body = [one, two].concat();
    let (written, _) = decode(&body, &registry, rules(&settings), None).unwrap();
    assert_eq!(written.samples, 3, "{:?}", lines(&registry, &written));
}

#[test]
fn metadata_are_said_once() {
    let metrics = vec![
        sum("c", 2, true, vec![point(1.0)])
            .text(2, "help")
            .text(3, "s"),
        sum("u", 2, false, vec![point(1.0)]),
        sum("d", 1, true, vec![point(1.0)]),
        gauge("g", vec![point(1.0)]).text(3, "By"),
        gauge("none", vec![]),
        m().text(1, "h")
            .message(9, m().varint(2, 2).message(1, m())),
        m().text(1, "e")
            .message(10, m().varint(2, 2).message(1, m())),
        m().text(1, "s").message(11, m().message(1, m())),
    ];
    let settings = Settings {
        delta: Delta::Keep,
        ..Settings::default()
    };
    let body = request(&[], metrics.clone()).into_bytes();
    let registry = SeriesRegistry::new(1 << 20);
    let said = SaidMetrics::default();
    let (written, keys) = decode(&body, &registry, rules(&settings), Some(&said)).unwrap();
    let found: Vec<(&str, MetricKind, &str, &str)> = written
        .metadata
        .iter()
        .map(|m| (&*m.family, m.kind, &*m.help, &*m.unit))
        .collect();
    let expected = [
        ("c_seconds_total", MetricKind::Counter, "help", "seconds"),
        ("u", MetricKind::Gauge, "", ""),
        ("d_total", MetricKind::Unknown, "", ""),
        ("g_bytes", MetricKind::Gauge, "", "bytes"),
        ("h", MetricKind::Histogram, "", ""),
        ("e", MetricKind::Histogram, "", ""),
        ("s", MetricKind::Summary, "", ""),
    ];
    assert_eq!(found, expected);
    // Until they are kept, they are said again.
    let again = |rules: Rules<'_>| {
        let (written, _) = decode(&body, &registry, rules, Some(&said)).unwrap();
        written.metadata.len()
    };
    assert_eq!(again(rules(&settings)), 7);
    said.add(keys);
    assert_eq!(again(rules(&settings)), 0);
    let other_table = Rules {
        table: 2,
        ..rules(&settings)
    };
    assert_eq!(again(other_table), 7);
    let (written, _) = decode(&body, &registry, rules(&settings), None).unwrap();
    assert!(written.metadata.is_empty());
}

#[test]
fn temporality_that_cannot_be_is_refused_and_named() {
    let points = || vec![point(1.0), with(point(2.0), 7, &[("a", "b")])];
    let metrics = || {
        vec![
            sum("good", 2, true, points()),
            sum("delta", 1, true, points()),
            sum("unsaid", 0, true, points()),
            m().text(1, "h")
                .message(9, m().varint(2, 1).message(1, m())),
            m().text(1, "empty"),
        ]
    };
    let mut settings = Settings::default();
    let good = ["good_total{a=\"b\"} 2.0 @0", "good_total{} 1.0 @0"];
    check(&settings, &request(&[], metrics()), &good);
    let parts = [
        "metric \"delta\" has delta temporality",
        "otlp_delta",
        "metric \"unsaid\" does not say",
        "metric \"h\" has delta",
        "metric \"empty\" has no data",
    ];
    refuse(&settings, &request(&[], metrics()), 5, &parts);
    settings.delta = Delta::Keep;
    let kept = [
        "delta_total{a=\"b\"} 2.0 @0",
        "delta_total{} 1.0 @0",
        good[0],
        good[1],
        "h_bucket{le=\"+Inf\"} 0.0 @-1700000000123",
        "h_count{} 0.0 @-1700000000123",
    ];
    check(&settings, &request(&[], metrics()), &kept);
    refuse(&settings, &request(&[], metrics()), 2, &["unsaid"]);
}

#[test]
fn what_is_too_old_is_counted_and_named() {
    let oldest = Oldest::new(1000, millis(TIME), TimeUnit::Millisecond);
    let old = |ms: u64| m().fixed64(3, TIME - ms * 1_000_000).double(4, 1.0);
    let metric = sum(
        "c",
        2,
        true,
        vec![old(999), old(1002), old(1001), old(1000)],
    );
    let settings = Settings::default();
    let registry = SeriesRegistry::new(1 << 20);
    let rules = Rules {
        oldest,
        ..rules(&settings)
    };
    let resource = [("service.name", "n"), ("host.name", "h")];
    let body = request(&resource, vec![metric]).into_bytes();
    let (written, _) = decode(&body, &registry, rules, None).unwrap();
    assert_eq!(written.refused, 2);
    let error = &written.errors[0];
    assert!(
        error.contains("2 data points of metric \"c\" are too old"),
        "{error}"
    );
    // That of the oldest points is left out without a word.
    let found = lines(&registry, &written);
    assert_eq!(found.len(), 3, "{found:?}");
}
