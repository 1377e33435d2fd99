use proptest::prelude::*;
use tidelake_catalog::model::{Labels, STALE_NAN_BITS};

use super::*;
use crate::column::FieldValues;
use crate::line_protocol::LineError;
use crate::remote_write::MetricKind;

const NOW: i64 = 1_700_000_000_123;

fn read_with(text: &[u8], format: TextFormat, settings: &Settings) -> (Found, WrittenSamples) {
    let registry = SeriesRegistry::new(1 << 20);
    let rules = Rules {
        settings,
        format,
        time_ms: settings.time_ms.unwrap_or(NOW),
        oldest: Oldest::NONE,
        limits: LabelLimits::NONE,
    };
    let written = decode(text, &registry, rules);
    // A second time every series is known by its spelling.
    let again = decode(text, &registry, rules);
    assert_eq!(bits(&again), bits(&written));
    let values = match written.rows.fields.first().map(|field| &field.values) {
        Some(FieldValues::Float(values)) => values.clone(),
        None => Vec::new(),
        other => panic!("{other:?}"),
    };
    let series = |place: usize| {
        let entry = registry.entry(written.rows.series[place]).unwrap();
        entry.series.labels.clone()
    };
    let found = values
        .into_iter()
        .enumerate()
        .map(|(place, value)| (series(place), written.rows.time[place], value.to_bits()))
        .collect();
    (found, written)
}

type Found = Vec<(Labels, i64, u64)>;

/// Rows in which a NaN is equal to itself.
fn bits(written: &WrittenSamples) -> (Vec<u32>, Vec<i64>, Vec<u64>) {
    let values = written.rows.fields.first().map(|field| &field.values);
    let bits = match values {
        Some(FieldValues::Float(values)) => values.iter().map(|v| v.to_bits()).collect(),
        _ => Vec::new(),
    };
    (written.rows.series.clone(), written.rows.time.clone(), bits)
}

fn read(text: &str, format: TextFormat) -> (Found, WrittenSamples) {
    read_with(text.as_bytes(), format, &Settings::default())
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// A line gives one sample of these labels.
fn check(line: &str, pairs: &[(&str, &str)], time: i64, value: f64) {
    let (found, written) = read(line, TextFormat::Prometheus);
    assert_eq!(written.line_errors, [], "{line}");
    assert_eq!(found, [(labels(pairs), time, value.to_bits())], "{line}");
}

fn refused(text: &str, format: TextFormat) -> Vec<(usize, String)> {
    let (_, written) = read(text, format);
    assert_eq!(written.refused, written.line_errors.len(), "{text}");
    assert!(written.errors.is_empty(), "{:?}", written.errors);
    let pair = |error: LineError| (error.line, error.message);
    written.line_errors.into_iter().map(pair).collect()
}

/// A line is refused in words that have this one.
fn check_refused(line: &str, word: &str) {
    let found = refused(line, TextFormat::Prometheus);
    let [(1, message)] = &found[..] else {
        panic!("{line}: {found:?}");
    };
    assert!(message.contains(word), "{line}: {message} lacks {word}");
}

#[test]
fn samples() {
    let name = "__name__";
    check("up 1", &[(name, "up")], NOW, 1.0);
    check("  a:b_c \t -0 \t 5 \t ", &[(name, "a:b_c")], 5, -0.0);
    check("up{} 1 -7", &[(name, "up")], -7, 1.0);
    check("up{a=\"b\"}1", &[(name, "up"), ("a", "b")], NOW, 1.0);
    check("up {a=\"b\",} 1", &[(name, "up"), ("a", "b")], NOW, 1.0);
    check(
        "up{ z = \"1\" , a=\"{x=,}#\" } 1",
        &[(name, "up"), ("a", "{x=,}#"), ("z", "1")],
        NOW,
        1.0,
    );
    check(
        r#"up{a="q\"b\\n\n\x é",b=""} 1"#,
        &[(name, "up"), ("a", "q\"b\\n\n\\x é")],
        NOW,
        1.0,
    );
    check(
        r#"{"my.metric","a.b"="c",d="e"} 1"#,
        &[(name, "my.metric"), ("a.b", "c"), ("d", "e")],
        NOW,
        1.0,
    );
    check(r#"{d="e","x"} 1"#, &[(name, "x"), ("d", "e")], NOW, 1.0);
    check(r#"{__name__="x"} 1"#, &[(name, "x")], NOW, 1.0);
    check("up NaN", &[(name, "up")], NOW, f64::from_bits(NAN_BITS));
    let stale = f64::from_bits(STALE_NAN_BITS);
    check("up NaN(0x7ff0000000000002)", &[(name, "up")], NOW, stale);
    check("up 1\r", &[(name, "up")], NOW, 1.0);
    check("\u{feff}up 1", &[(name, "up")], NOW, 1.0);
    check("inf inf", &[(name, "inf")], NOW, f64::INFINITY);
}

#[test]
fn bad_lines_are_refused_with_a_reason() {
    check_refused("up", "value of \"up\" is missing");
    check_refused("up{a=\"b\"}", "is missing");
    check_refused("up # 1", "is missing");
    check_refused("1up 1", "must begin with a name");
    check_refused("é 1", "must begin with a name");
    check_refused("a-b 1", "invalid character");
    check_refused("a.b{c=\"d\"} 1", "invalid character");
    check_refused("up 0x1p4", "invalid value \"0x1p4\"");
    check_refused("up 1_000", "invalid value");
    check_refused("up 1e400", "does not fit");
    check_refused("up 1 1.5", "milliseconds");
    check_refused("up 1 2 3", "behind value and timestamp");
    check_refused("up{a=\"b} 1", "quote is not closed");
    check_refused("up{a=\"b\\\"} 1", "quote is not closed");
    check_refused("up{a=\"b\" 1", "braces");
    check_refused("up{a} 1", "expected '='");
    check_refused("up{a=b} 1", "in quotes");
    check_refused("up{=\"b\"} 1", "name of a label");
    check_refused("up{a:b=\"c\"} 1", "expected '='");
    check_refused("up{a=\"b\";c=\"d\"} 1", "expected ','");
    check_refused("up{,} 1", "name of a label");
    check_refused("up{a=\"b\",a=\"c\"} 1", "more than once");
    check_refused("up{\"down\"} 1", "more than once");
    check_refused("{} 1", "no metric name");
    check_refused("{a=\"b\"} 1", "no metric name");
    check_refused("{\"\"=\"b\",\"x\"} 1", "empty name");
    check_refused("h {count:1,sum:2} 5", "native histograms");
    check_refused("h{} {count:1,sum:2} 5", "native histograms");
    check_refused("h 1 # {a=\"b\"} 1", "application/openmetrics-text");
    check_refused("# TYPE up counters", "unknown type \"counters\"");
    check_refused("# HELP", "name of a metric");
    check_refused("# TYPE a.b counter", "name of a metric");
    let (_, written) = read_with(
        b"up{a=\"\xff\"} 1\n",
        TextFormat::Prometheus,
        &Settings::default(),
    );
    assert!(written.line_errors[0].message.contains("UTF-8"));
}

#[test]
fn good_lines_are_kept_beside_bad_ones() {
    let text = "a 1\n\n# a comment\nb x\n#HELP\na 2 7\n{ 5\nc{d=\"e\nf 6";
    let (found, written) = read(text, TextFormat::Prometheus);
    let values: Vec<f64> = found.iter().map(|found| f64::from_bits(found.2)).collect();
    assert_eq!(values, [1.0, 2.0, 6.0]);
    let lines: Vec<(usize, &str)> = written
        .line_errors
        .iter()
        .map(|error| (error.line, error.original.as_str()))
        .collect();
    assert_eq!(lines, [(4, "b x"), (7, "{ 5"), (8, "c{d=\"e")]);
    assert_eq!((written.refused, written.samples), (3, 3));
    // Long lists are cut, long lines too.
    let many = format!("{} 1\n", "é".repeat(400)).repeat(3000);
    let (_, written) = read(&many, TextFormat::Prometheus);
    assert_eq!(written.refused, 3000);
    assert_eq!(written.line_errors.len(), 1000);
    assert!(written.line_errors[999].original.len() <= 512);
}

#[test]
fn families_are_kept_as_remote_write_names_them() {
    let text = "# HELP a_total Tells \\\\ all\\n.\n# TYPE a_total counter\n# UNIT b seconds\n\
                # TYPE b histogram\n# TYPE \"c.d\" untyped\n# HELP e\n";
    let check = |text: &str, format, expected: &[(&str, MetricKind, &str, &str)]| {
        let (_, written) = read(text, format);
        assert_eq!(written.line_errors, []);
        let mut found: Vec<_> = written
            .metadata
            .iter()
            .map(|said| (&*said.family, said.kind, &*said.help, &*said.unit))
            .collect();
        found.sort_by_key(|said| said.0);
        assert_eq!(found, expected);
    };
    check(
        text,
        TextFormat::Prometheus,
        &[
            ("a_total", MetricKind::Counter, "Tells \\ all\n.", ""),
            ("b", MetricKind::Histogram, "", "seconds"),
            ("c.d", MetricKind::Unknown, "", ""),
            ("e", MetricKind::Unknown, "", ""),
        ],
    );
    check(
        "# TYPE a counter\n# TYPE b info\n# TYPE c_total counter\n# TYPE d gauge\n# EOF\n",
        TextFormat::OpenMetrics,
        &[
            ("a_total", MetricKind::Counter, "", ""),
            ("b_info", MetricKind::Info, "", ""),
            ("c_total", MetricKind::Counter, "", ""),
            ("d", MetricKind::Gauge, "", ""),
        ],
    );
}

#[test]
fn openmetrics_has_seconds_exemplars_and_an_end() {
    let text = "a_total 1 1.5 # {trace=\"x\"} 0.5 1.25\nb 2 # {} 3\n# EOF\n";
    for format in [TextFormat::OpenMetrics, TextFormat::ByItsEnd] {
        let (found, written) = read(text, format);
        assert_eq!(written.line_errors, []);
        assert_eq!(found[0].1, 1500);
        assert_eq!(found[1].1, NOW);
        assert_eq!(written.exemplars.time, [1250, NOW]);
        assert_eq!(written.exemplars.series, written.rows.series);
    }
    let check = |text: &str, line: usize, word: &str| {
        let found = refused(text, TextFormat::OpenMetrics);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].0, line);
        assert!(found[0].1.contains(word), "{found:?}");
    };
    check("a 1\n", 2, "# EOF");
    check("", 1, "# EOF");
    check("a 1\n# EOF\n\nb 2\nc 3\n", 4, "more after");
    check("a 1 x\n# EOF", 1, "seconds");
    check("a 1 # x\n# EOF", 1, "exemplar");
    check("a 1 # {x=\"y\"} 1 2 # {} 1\n# EOF", 1, "exemplar");
    check("a 1 # a{x=\"y\"} 1\n# EOF", 1, "exemplar");
    let long = "x".repeat(200);
    check(
        &format!("a 1 # {{x=\"{long}\"}} 1\n# EOF"),
        1,
        "128 characters",
    );
    // Its sample is kept.
    let (found, _) = read(
        &format!("a 1 # {{x=\"{long}\"}} 1\n# EOF"),
        TextFormat::OpenMetrics,
    );
    assert_eq!(found.len(), 1);
    // A comment without that meaning.
    assert_eq!(refused("a 1\n# EOF\n", TextFormat::Prometheus), []);
}

#[test]
fn settings_are_those_of_all_lines() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let settings = Settings {
        time_ms: Some(9),
        labels: vec![pair("job", "j"), pair("gone", "")],
        refuses_times: false,
    };
    let text = b"a{job=\"x\",gone=\"y\",kept=\"z\"} 1\na 2 3\n";
    let (found, _) = read_with(text, TextFormat::Prometheus, &settings);
    let expected = [
        labels(&[("__name__", "a"), ("job", "j"), ("kept", "z")]),
        labels(&[("__name__", "a"), ("job", "j")]),
    ];
    assert_eq!(found[0].0, expected[0]);
    assert_eq!((&found[1].0, found[0].1, found[1].1), (&expected[1], 9, 3));
    let strict = Settings {
        refuses_times: true,
        ..settings
    };
    let (found, written) = read_with(text, TextFormat::Prometheus, &strict);
    assert_eq!((found.len(), written.refused), (1, 1));
    // The same bytes under other labels are other series.
    let registry = SeriesRegistry::new(1 << 20);
    let of = |settings: &Settings| {
        let rules = Rules {
            settings,
            format: TextFormat::Prometheus,
            time_ms: 0,
            oldest: Oldest::NONE,
            limits: LabelLimits::NONE,
        };
        decode(b"a 1", &registry, rules).rows.series[0]
    };
    let none = Settings::default();
    assert_ne!(of(&none), of(&strict));
    assert_eq!(of(&none), of(&none));
}

#[test]
fn old_samples_and_long_labels_are_named_with_their_lines() {
    let registry = SeriesRegistry::new(1 << 20);
    let settings = Settings::default();
    let rules = Rules {
        settings: &settings,
        format: TextFormat::Prometheus,
        time_ms: NOW,
        oldest: Oldest::new(1000, NOW, tidelake_catalog::model::TimeUnit::Millisecond),
        limits: LabelLimits {
            per_series: 2,
            ..LabelLimits::NONE
        },
    };
    let written = decode(b"a 1\na 2 5\na{b=\"c\",d=\"e\"} 3\na 4\n", &registry, rules);
    let lines: Vec<usize> = written.line_errors.iter().map(|e| e.line).collect();
    assert_eq!(lines, [2, 3], "{:?}", written.line_errors);
    assert_eq!((written.samples, written.refused), (2, 2));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z_][a-zA-Z0-9_]{0,5}",
        "\\PC{1,6}",
        "[\"\\\\\n,={} #é]{1,6}"
    ]
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let others = prop::collection::btree_map(text(), text(), 0..4);
    (text(), others).prop_map(|(metric, mut others)| {
        others.insert("__name__".to_owned(), metric);
        Labels::from_sorted(others.iter().map(|(name, value)| (&**name, &**value)))
    })
}

proptest! {
    #[test]
    fn what_is_rendered_is_read(samples in prop::collection::vec((any_labels(), any::<i64>(), any::<u64>()), 0..20)) {
        let mut text = Vec::new();
        for (labels, time, bits) in &samples {
            render::series(&mut text, labels);
            text.push(b' ');
            render::value(&mut text, f64::from_bits(*bits));
            text.push(b' ');
            render::seconds(&mut text, *time);
            text.push(b'\n');
        }
        text.extend_from_slice(b"# EOF\n");
        let (found, written) = read_with(&text, TextFormat::ByItsEnd, &Settings::default());
        prop_assert_eq!(&written.line_errors, &[], "{}", String::from_utf8_lossy(&text));
        prop_assert_eq!(found, samples);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in "[a{}=\",\\\\# 1.\nEOF]{0,60}", open: bool) {
        let format = if open { TextFormat::OpenMetrics } else { TextFormat::Prometheus };
        let (_, written) = read_with(bytes.as_bytes(), format, &Settings::default());
        prop_assert!(written.samples + written.refused <= bytes.len() + 2);
    }
}
