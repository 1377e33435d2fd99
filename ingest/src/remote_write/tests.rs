//! Messages built field by field, and what becomes of them as text.

mod version_2;

use std::fmt::Write;

use proptest::prelude::*;
use tidelake_catalog::model::labels::METRIC_NAME;
use tidelake_catalog::model::{Labels, ResetHint, STALE_NAN_BITS, Span, TimeUnit};

use super::*;
use crate::column::FieldValues;
use crate::label_limits::LabelLimits;
use crate::retention::Oldest;
use crate::series_registry::SeriesRegistry;

/// A protobuf message under construction.
#[derive(Debug, Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn varint(self, number: u32, value: u64) -> Self {
        self.raw_varint(u64::from(number) << 3).raw_varint(value)
    }

    fn sint(self, number: u32, value: i64) -> Self {
        self.varint(number, zigzag(value))
    }

    fn double(mut self, number: u32, value: f64) -> Self {
        self = self.raw_varint(u64::from(number) << 3 | 1);
        self.0.extend(value.to_bits().to_le_bytes());
        self
    }

    fn bytes(mut self, number: u32, bytes: &[u8]) -> Self {
        self = self
            .raw_varint(u64::from(number) << 3 | 2)
            .raw_varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(self, number: u32, message: Message) -> Self {
        self.bytes(number, &message.0)
    }

    fn label(self, name: &str, value: &str) -> Self {
        self.message(
            1,
            Message::default()
                .bytes(1, name.as_bytes())
                .bytes(2, value.as_bytes()),
        )
    }

    fn labels(self, pairs: &[(&str, &str)]) -> Self {
        pairs
            .iter()
            .fold(self, |m, (name, value)| m.label(name, value))
    }

    /// A sample, with zeros left out as proto3 does it.
    fn sample(self, value: f64, time: i64) -> Self {
        let mut sample = Message::default();
        if value.to_bits() != 0 {
            sample = sample.double(1, value);
        }
        if time != 0 {
            sample = sample.varint(2, time as u64);
        }
        self.message(2, sample)
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn m() -> Message {
    Message::default()
}

fn series(pairs: &[(&str, &str)]) -> Message {
    m().labels(pairs)
}

fn request(series: impl IntoIterator<Item = Message>) -> Message {
    series
        .into_iter()
        .fold(m(), |request, series| request.message(1, series))
}

fn show(written: &WrittenSamples, registry: &SeriesRegistry) -> Vec<String> {
    let rows = &written.rows;
    let mut out = Vec::new();
    for row in 0..rows.len() {
        let mut text = format!(
            "{} {}",
            registry.entry(rows.series[row]).unwrap().series.labels,
            rows.time[row]
        );
        for field in &rows.fields {
            let Some(at) = field.position(row) else {
                continue;
            };
            match &field.values {
                FieldValues::Float(v) => write!(text, " {:?}", v[at]).unwrap(),
                FieldValues::Histogram(list) => {
                    write!(text, " histogram count={}", list[at].count).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        out.push(text);
    }
    out
}

fn show_exemplars(written: &WrittenSamples, registry: &SeriesRegistry) -> Vec<String> {
    let rows = &written.exemplars;
    let columns: Vec<_> = rows.fields.iter().map(|field| &field.values).collect();
    let show = |row: usize| {
        let [FieldValues::Float(values), labels] = columns[..] else {
            panic!("{columns:?}")
        };
        let labels = Labels::from_sorted(Labels::iter_canonical(labels.string(row).unwrap()));
        format!(
            "{} {labels} {} {}",
            registry.entry(rows.series[row]).unwrap().series.labels,
            rows.time[row],
            values[row]
        )
    };
    (0..rows.len()).map(show).collect()
}

/// What is kept of a message, and a part of each error; twice, so that the second time everything
/// is known.
#[track_caller]
fn check(message: &Message, rows: &[&str], errors: &[&str]) {
    let registry = SeriesRegistry::new(1 << 20);
    for _ in 0..2 {
        let written = v1::decode(&message.0, &registry, Oldest::NONE, &LabelLimits::NONE).unwrap();
        assert_eq!(show(&written, &registry), rows);
        assert_eq!(
            (written.errors.len(), written.refused),
            (errors.len(), errors.len()),
            "{:?}",
            written.errors
        );
        for (error, part) in written.errors.iter().zip(errors) {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
        assert_eq!(written.samples + written.histograms, rows.len());
        assert_eq!(
            written.rows.fields.len(),
            usize::from(written.samples > 0) + usize::from(written.histograms > 0)
        );
    }
}

#[test]
fn samples_with_times_and_values_of_zero() {
    let a = series(&[("__name__", "up"), ("job", "a")])
        .sample(1.0, 1000)
        .sample(0.0, 0)
        .sample(-0.0, -5);
    let b = series(&[("__name__", "up")]).sample(f64::INFINITY, i64::MAX);
    let rows = [
        r#"{__name__="up", job="a"} 1000 1.0"#,
        r#"{__name__="up", job="a"} 0 0.0"#,
        r#"{__name__="up", job="a"} -5 -0.0"#,
        r#"{__name__="up"} 9223372036854775807 inf"#,
    ];
    check(&request([a, b]), &rows, &[]);
    check(&m(), &[], &[]);
    check(&request([series(&[("__name__", "up")])]), &[], &[]);
    check(&request([m()]), &[], &[]);
}

#[test]
fn the_bits_of_a_nan_are_kept() {
    for bits in [STALE_NAN_BITS, 0x7ff8_0000_0000_0001, 0xfff0_0000_0000_0001] {
        let registry = SeriesRegistry::new(1 << 20);
        let body = request([series(&[("__name__", "up")]).sample(f64::from_bits(bits), 1)]);
        let written = v1::decode(&body.0, &registry, Oldest::NONE, &LabelLimits::NONE).unwrap();
        let FieldValues::Float(values) = &written.rows.fields[0].values else {
            panic!("floats")
        };
        assert_eq!(values[0].to_bits(), bits);
    }
}

#[test]
fn labels_are_sorted_and_empty_ones_dropped() {
    let one = series(&[("b", "2"), ("__name__", "x"), ("e", ""), ("a", "1")]).sample(1.0, 1);
    let two = series(&[("__name__", "x"), ("a", "1"), ("b", "2")]).sample(2.0, 2);
    check(
        &request([one, two]),
        &[
            r#"{__name__="x", a="1", b="2"} 1 1.0"#,
            r#"{__name__="x", a="1", b="2"} 2 2.0"#,
        ],
        &[],
    );
}

#[test]
fn labels_may_come_after_samples_and_in_pieces() {
    let odd = m()
        .label("a", "1")
        .sample(1.0, 1)
        .label("__name__", "x")
        .sample(2.0, 2)
        .label("b", "2")
        .varint(99, 7)
        .label("c", "3");
    let name = r#"{__name__="x", a="1", b="2", c="3"}"#;
    check(
        &request([odd]),
        &[&format!("{name} 1 1.0"), &format!("{name} 2 2.0")],
        &[],
    );
}

#[test]
fn bad_series_are_refused_alone() {
    let good = || series(&[("__name__", "ok")]).sample(1.0, 1);
    let kept = &[r#"{__name__="ok"} 1 1.0"#, r#"{__name__="ok"} 1 1.0"#];
    for (bad, part) in [
        (
            series(&[("job", "a")]),
            r#"series {job="a"} has no metric name"#,
        ),
        (series(&[("__name__", "")]), "no metric name"),
        (series(&[]), "no metric name"),
        (
            series(&[("__name__", "x"), ("a", "1"), ("a", "1")]),
            r#"label "a" more than once"#,
        ),
        (
            series(&[("__name__", "x"), ("a", "1"), ("b", "2"), ("a", "")]),
            r#"label "a" more than once"#,
        ),
        (series(&[("__name__", "x"), ("", "1")]), "empty name"),
        (
            series(&[("__name__", "x")]).message(1, m().bytes(1, b"l\xff").bytes(2, b"v")),
            "not valid UTF-8",
        ),
        (
            series(&[("__name__", "x")]).message(1, m().bytes(1, b"l").bytes(2, b"v\xff")),
            "not valid UTF-8",
        ),
    ] {
        check(
            &request([good(), bad.clone().sample(7.0, 7).sample(8.0, 8), good()]),
            kept,
            &[part],
        );
        // With an exemplar and a histogram to be taken back.
        let more = bad.message(3, m().double(2, 1.0)).message(4, histogram());
        check(
            &request([good(), more.sample(7.0, 7), good()]),
            kept,
            &[part],
        );
    }
}

#[test]
fn unknown_fields_are_skipped() {
    let odd = series(&[("__name__", "x")])
        .varint(17, 3)
        .double(18, 1.0)
        .bytes(2047, b"??")
        .message(2, m().double(1, 1.5).varint(2, 9).varint(3, 4));
    let body = m().varint(2, 5).message(1, odd).bytes(77, &[0xff; 9]);
    check(&body, &[r#"{__name__="x"} 9 1.5"#], &[]);
}

#[test]
fn malformed_messages_refuse_the_body() {
    let good = series(&[("__name__", "x")]).sample(1.0, 1);
    let bodies: Vec<Vec<u8>> = vec![
        b"not protobuf at all".to_vec(),
        [request([good.clone()]).0, vec![0x0a]].concat(),
        [request([good.clone()]).0, vec![0x0a, 0x7f]].concat(),
        m().varint(1, 5).0,
        m().message(1, good.clone().varint(2, 1)).0,
        m().message(1, m().bytes(1, &[0x0a, 0x05, b'x']).sample(1.0, 1))
            .0,
        m().message(1, m().bytes(1, &[0xff; 11]).sample(1.0, 1)).0,
        m().message(1, good.clone().message(2, m().varint(1, 1))).0,
        m().message(1, good.clone().message(4, m().bytes(13, &[0; 7])))
            .0,
        vec![0x00, 0x00],
        vec![0x0b],
        vec![
            0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ],
    ];
    for body in bodies {
        let registry = SeriesRegistry::new(1 << 20);
        let result = v1::decode(&body, &registry, Oldest::NONE, &LabelLimits::NONE);
        assert!(result.is_err(), "{body:?}: {result:?}");
        assert!(registry.is_empty());
    }
    let body = request([good.clone(), good]).0;
    let decodes = (0..=body.len())
        .filter(|&len| {
            v1::decode(
                &body[..len],
                &SeriesRegistry::new(1 << 20),
                Oldest::NONE,
                &LabelLimits::NONE,
            )
            .is_ok()
        })
        .count();
    assert_eq!(decodes, 3, "only whole series can be decoded");
}

#[test]
fn metadata_is_kept() {
    let metadata = m()
        .varint(1, 3)
        .bytes(2, b"http_seconds")
        .bytes(4, b"How long\n.")
        .bytes(5, b"seconds");
    let written = v1::decode(
        &m().message(3, metadata).message(3, m().varint(1, 99)).0,
        &SeriesRegistry::new(1 << 20),
        Oldest::NONE,
        &LabelLimits::NONE,
    )
    .unwrap();
    let expected = Metadata {
        family: "http_seconds".into(),
        kind: MetricKind::Histogram,
        help: "How long\n.".into(),
        unit: "seconds".into(),
    };
    assert_eq!(written.metadata[0], expected);
    assert_eq!(written.metadata[1].kind, MetricKind::Unknown);
}

#[test]
fn exemplars_belong_to_their_series() {
    let exemplar = m().label("trace_id", "abc").double(2, 0.5).varint(3, 77);
    let body = request([
        series(&[("__name__", "a")]).sample(1.0, 1),
        series(&[("__name__", "b")])
            .message(3, exemplar.clone())
            .message(3, m().double(2, 1.0)),
        series(&[("nameless", "c")]).message(3, exemplar),
    ]);
    let registry = SeriesRegistry::new(1 << 20);
    for _ in 0..2 {
        let written = v1::decode(&body.0, &registry, Oldest::NONE, &LabelLimits::NONE).unwrap();
        assert_eq!(written.refused, 1);
        let expected = [
            r#"{__name__="b"} {trace_id="abc"} 77 0.5"#,
            r#"{__name__="b"} {} 0 1"#,
        ];
        assert_eq!(show_exemplars(&written, &registry), expected);
    }
}

#[test]
fn exemplars_with_long_labels_are_refused_alone() {
    let exemplar = |value: &str| m().label("trace_id", value).double(2, 0.5);
    let check = |value: &str, is_taken: bool| {
        let body = request([series(&[("__name__", "a")])
            .sample(1.0, 1)
            .message(3, exemplar(value))
            .message(3, exemplar("x"))]);
        let written = v1::decode(
            &body.0,
            &SeriesRegistry::new(1 << 20),
            Oldest::NONE,
            &LabelLimits::NONE,
        )
        .unwrap();
        let refused = usize::from(!is_taken);
        assert_eq!(
            (written.samples, written.exemplars.len(), written.refused),
            (1, 2 - refused, refused),
            "{value}"
        );
        assert!(
            written
                .errors
                .iter()
                .all(|error| error.contains("more than 128 characters")),
            "{:?}",
            written.errors
        );
    };
    // With the name's eight.
    check(&"a".repeat(120), true);
    check(&"a".repeat(121), false);
    check(&"\u{1f980}".repeat(120), true);
    check(&"\u{1f980}".repeat(121), false);
    check(&"a".repeat(10_000), false);
}

#[test]
fn a_full_registry_refuses_new_series_only() {
    let registry = SeriesRegistry::new(450);
    v1::decode(
        &request([series(&[("__name__", "a")]).sample(1.0, 1)]).0,
        &registry,
        Oldest::NONE,
        &LabelLimits::NONE,
    )
    .unwrap();
    let names = ["a", "b", "c", "d", "a"];
    let body = request(names.iter().map(|name| {
        series(&[("__name__", name)])
            .sample(2.0, 2)
            .message(3, m().double(2, 1.0))
    }));
    let written = v1::decode(&body.0, &registry, Oldest::NONE, &LabelLimits::NONE).unwrap();
    assert!(written.registry_full && written.refused > 0, "{written:?}");
    let rows = show(&written, &registry);
    assert_eq!(rows.len(), 5 - written.refused);
    assert_eq!(
        (rows.first(), rows.last()),
        (
            Some(&r#"{__name__="a"} 2 2.0"#.to_owned()),
            Some(&r#"{__name__="a"} 2 2.0"#.to_owned())
        )
    );
    assert_eq!(
        (written.samples, written.exemplars.len()),
        (rows.len(), rows.len())
    );
}

/// Eight observations: one in the zero bucket, 1, 3 and 2 above, 1 below.
fn histogram() -> Message {
    let spans = m().sint(1, -1).varint(2, 2);
    let more = m().sint(1, 3).varint(2, 1);
    let deltas = [1, 2, -1]
        .into_iter()
        .fold(m(), |m, d| m.raw_varint(zigzag(d)));
    m().varint(1, 8)
        .double(3, 18.5)
        .sint(4, 3)
        .double(5, 0.001)
        .varint(6, 1)
        .message(8, m().varint(2, 1))
        .bytes(9, &m().raw_varint(zigzag(1)).0)
        .message(11, spans)
        .message(11, more)
        .bytes(12, &deltas.0)
        .varint(14, 3)
        .varint(15, 1234)
}

fn decode_histogram(message: Message) -> Result<tidelake_catalog::model::Histogram, String> {
    let registry = SeriesRegistry::new(1 << 20);
    let body = request([series(&[("__name__", "h")])
        .sample(5.0, 1)
        .message(4, message)]);
    let written = v1::decode(&body.0, &registry, Oldest::NONE, &LabelLimits::NONE).unwrap();
    assert_eq!(written.samples, 1, "the float beside it is kept");
    match written.errors.first() {
        Some(error) => {
            assert!(error.contains(r#"{__name__="h"}"#), "{error}");
            assert_eq!((written.histograms, written.refused), (0, 1));
            Err(error.clone())
        }
        None => match &written.rows.fields[1].values {
            FieldValues::Histogram(list) => Ok((*list[0]).clone()),
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn integer_histograms_become_absolute_counts() {
    let h = decode_histogram(histogram()).unwrap();
    assert_eq!(
        (h.schema, h.zero_threshold, h.zero_count, h.count, h.sum),
        (3, 0.001, 1.0, 8.0, 18.5)
    );
    assert_eq!(
        h.positive_spans,
        [
            Span {
                offset: -1,
                length: 2
            },
            Span {
                offset: 3,
                length: 1
            }
        ]
    );
    assert_eq!(
        (h.positive_counts.as_slice(), h.negative_counts.as_slice()),
        ([1.0, 3.0, 2.0].as_slice(), [1.0].as_slice())
    );
    assert_eq!(h.reset_hint, ResetHint::Gauge);
    // One by one instead of packed.
    let unpacked = m()
        .varint(1, 3)
        .message(11, m().varint(2, 2))
        .sint(12, 1)
        .sint(12, 1);
    assert_eq!(
        decode_histogram(unpacked).unwrap().positive_counts,
        [1.0, 2.0]
    );
}

#[test]
fn float_and_custom_histograms() {
    let floats = |counts: &[f64]| {
        counts
            .iter()
            .flat_map(|c| c.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let h = decode_histogram(
        m().double(2, 4.5)
            .double(7, 0.5)
            .message(11, m().varint(2, 2))
            .bytes(13, &floats(&[1.5, 2.5])),
    )
    .unwrap();
    assert_eq!(
        (h.count, h.zero_count, h.positive_counts.as_slice()),
        (4.5, 0.5, [1.5, 2.5].as_slice())
    );
    let custom = |bounds: &[f64]| {
        let deltas = m().raw_varint(zigzag(1)).raw_varint(zigzag(2));
        m().varint(1, 4)
            .sint(4, -53)
            .message(11, m().varint(2, 2))
            .bytes(12, &deltas.0)
            .bytes(16, &floats(bounds))
    };
    assert_eq!(
        decode_histogram(custom(&[0.5, 1.0])).unwrap().custom_values,
        [0.5, 1.0]
    );
    assert!(
        decode_histogram(custom(&[0.5])).is_ok(),
        "the last bucket reaches to infinity"
    );
    for (bad, part) in [
        (custom(&[]), "beyond them"),
        (custom(&[1.0, 0.5]), "ascending"),
        (custom(&[1.0, 1.0]), "ascending"),
        (custom(&[1.0, f64::INFINITY]), "ascending"),
        (custom(&[1.0, f64::NAN]), "ascending"),
        (custom(&[1.0, 2.0]).double(5, 0.1), "zero bucket"),
        (
            histogram().bytes(16, &floats(&[1.0])),
            "without custom buckets",
        ),
    ] {
        let error = decode_histogram(bad).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn histograms_that_contradict_themselves_are_refused() {
    for (bad, part) in [
        (histogram().varint(1, 7), "count is 7"),
        (histogram().varint(1, 9), "count is 9"),
        (histogram().double(3, f64::NAN).varint(1, 7), "count is 7"),
        (histogram().varint(6, u64::MAX), "count"),
        (histogram().sint(12, -3), "negative count"),
        (
            histogram().varint(1, 10).sint(12, 0),
            "spans have 3 buckets, but there are 4",
        ),
        (
            histogram().message(11, m().varint(2, 1)),
            "spans have 4 buckets, but there are 3",
        ),
        (histogram().message(11, m().sint(1, -1)), "negative offset"),
        (
            histogram().message(11, m().sint(1, i64::from(i32::MAX))),
            "last bucket",
        ),
        (
            histogram().message(8, m().varint(2, u64::from(u32::MAX))),
            "spans have",
        ),
        (histogram().sint(4, 9), "schema"),
        (histogram().sint(4, -5), "schema"),
        (histogram().double(2, 8.0), "integer buckets"),
        (m().varint(1, 0).double(13, 1.0), "float buckets"),
        (m().double(2, -1.0), "negative count"),
        (
            m().double(2, 1.0)
                .message(11, m().varint(2, 1))
                .double(13, -1.0),
            "negative count",
        ),
    ] {
        let error = decode_histogram(bad).unwrap_err();
        assert!(error.contains(part), "{error} lacks {part}");
    }
    // Observations of NaN are in the count only.
    assert!(decode_histogram(histogram().double(3, f64::NAN).varint(1, 9)).is_ok());
    let stale = decode_histogram(m().double(3, f64::from_bits(STALE_NAN_BITS))).unwrap();
    assert_eq!(stale.sum.to_bits(), STALE_NAN_BITS);
}

type Given = (Vec<(String, String)>, Vec<(u64, i64)>);

fn many_series() -> impl Strategy<Value = Vec<Given>> {
    let labels = proptest::collection::btree_map("[a-zé]{1,3}", ".{0,5}", 0..4);
    let samples = proptest::collection::vec((any::<u64>(), any::<i64>()), 1..5);
    proptest::collection::vec(
        (labels, samples).prop_map(|(l, s)| (l.into_iter().collect(), s)),
        0..8,
    )
}

proptest! {
    #[test]
    fn samples_come_back(given in many_series(), rotate in 0usize..4) {
        let mut expected = Vec::new();
        let mut body = m();
        for (labels, samples) in &given {
            let mut message = m().label(METRIC_NAME, "x");
            let mut labels = labels.clone();
            expected.extend(samples.iter().map(|s| (Labels::from_pairs([(METRIC_NAME.to_owned(), "x".to_owned())].into_iter().chain(labels.clone())), *s)));
            let by = rotate.min(labels.len());
            labels.rotate_left(by);
            for (name, value) in &labels {
                message = message.label(name, value);
            }
            for (bits, time) in samples {
                message = message.sample(f64::from_bits(*bits), *time);
            }
            body = body.message(1, message);
        }
        let registry = SeriesRegistry::new(1 << 20);
        for _ in 0..2 {
            let written = v1::decode(&body.0, &registry, Oldest::NONE, &LabelLimits::NONE).unwrap();
            prop_assert_eq!(&written.errors, &Vec::<String>::new());
            let rows = &written.rows;
            prop_assert_eq!(rows.len(), expected.len());
            for (row, (labels, (bits, time))) in expected.iter().enumerate() {
                let FieldValues::Float(values) = &rows.fields[0].values else { panic!("floats") };
                prop_assert_eq!(&registry.entry(rows.series[row]).unwrap().series.labels, labels);
                prop_assert_eq!((values[row].to_bits(), rows.time[row]), (*bits, *time));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = v1::decode(&body, &SeriesRegistry::new(1 << 20), Oldest::NONE, &LabelLimits::NONE);
    }

    #[test]
    fn damaged_messages_never_panic(at in 0usize..400, with in any::<u8>()) {
        let one = series(&[("__name__", "x"), ("a", "b")]).sample(1.0, 1).message(4, histogram()).message(3, m().double(2, 1.0));
        let mut body = request([one.clone(), one]).message(3, m().bytes(2, b"x")).0;
        let len = body.len();
        body[at % len] = with;
        let _ = v1::decode(&body, &SeriesRegistry::new(1 << 20), Oldest::NONE, &LabelLimits::NONE);
    }
}

#[test]
fn samples_older_than_the_retention_are_refused_one_by_one() {
    let registry = SeriesRegistry::new(1 << 20);
    let oldest = Oldest::new(1_000, 5_000, TimeUnit::Millisecond);
    let body = request([
        series(&[("__name__", "a")])
            .sample(1.0, 3_999)
            .sample(2.0, 4_000)
            .sample(3.0, -1),
        series(&[("__name__", "b")]).sample(4.0, 0),
        series(&[("__name__", "c")]).sample(5.0, 5_000),
    ]);
    let written = v1::decode(&body.0, &registry, oldest, &LabelLimits::NONE).unwrap();
    assert_eq!(
        show(&written, &registry),
        [r#"{__name__="a"} 4000 2.0"#, r#"{__name__="c"} 5000 5.0"#]
    );
    assert_eq!(
        (written.samples, written.refused, written.errors.len()),
        (2, 3, 2)
    );
    assert!(written.errors[0].starts_with(
        r#"2 samples of series {__name__="a"} are too old: the time 1969-12-31T23:59:59.999Z"#
    ));
    assert!(written.errors[1].contains(r#"1 samples of series {__name__="b"}"#));
    assert_eq!(
        registry.len(),
        2,
        "a series without samples is not registered"
    );
}

#[test]
fn series_beyond_the_limits_of_labels_are_refused_alone() {
    let limits = LabelLimits {
        per_series: 3,
        name_bytes: 8,
        value_bytes: 6,
    };
    let named = |more: &[(&str, &str)]| {
        let labels = [&[("__name__", "up")], more].concat();
        series(&labels).sample(1.0, 1)
    };
    let body = request([
        named(&[("a", "1"), ("b", "2"), ("empty", "")]),
        named(&[("a", "1"), ("b", "2"), ("c", "3")]).sample(2.0, 2),
        named(&[("long_name", "1")]),
        named(&[("a", "1234567")]),
        series(&[("__name__", "too_long")]).sample(1.0, 1),
        named(&[("a", "123456"), ("eightlet", "1")]),
    ]);
    let registry = SeriesRegistry::new(1 << 20);
    // Twice: what was refused is not known the second time.
    for _ in 0..2 {
        let written = v1::decode(&body.0, &registry, Oldest::NONE, &limits).unwrap();
        let parts = [
            "4 labels are more than the 3 that a series may have (setting max_labels_per_series)",
            "longer than 8 bytes (setting max_label_name_bytes)",
            "longer than 6 bytes (setting max_label_value_bytes)",
            "\"too_long\" of label \"__name__\" has 8 bytes",
        ];
        assert_eq!((written.refused, written.samples), (4, 2));
        for (error, part) in written.errors.iter().zip(parts) {
            assert!(error.contains(part), "{error} lacks {part}");
            assert!(
                error.contains("up") || error.contains("too_long"),
                "{error}"
            );
        }
    }
    assert_eq!(registry.len(), 2);
}
