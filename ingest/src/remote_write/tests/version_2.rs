//! The same for 2.0, as far as it differs.

use tidelake_catalog::model::ColumnType;

use super::*;

/// A request of 2.0: the table of symbols, and messages of series.
#[derive(Debug, Clone, Default)]
struct Request {
    symbols: Vec<String>,
    series: Vec<Message>,
}

impl Request {
    fn new() -> Self {
        Self {
            symbols: vec![String::new()],
            series: Vec::new(),
        }
    }

    fn symbol(&mut self, text: &str) -> u64 {
        let known = self.symbols.iter().position(|s| s == text);
        known.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        }) as u64
    }

    /// A message with references to labels, in field 1.
    fn labels(&mut self, pairs: &[(&str, &str)]) -> Message {
        let texts = pairs.iter().flat_map(|(name, value)| [name, value]);
        let packed = texts.fold(m(), |packed, text| packed.raw_varint(self.symbol(text)));
        m().bytes(1, &packed.0)
    }

    fn add(&mut self, series: Message) -> &mut Self {
        self.series.push(series);
        self
    }

    fn body(&self) -> Vec<u8> {
        let symbols = self
            .symbols
            .iter()
            .fold(m(), |body, symbol| body.bytes(4, symbol.as_bytes()));
        self.series
            .iter()
            .fold(symbols, |body, series| body.message(5, series.clone()))
            .0
    }
}

fn decode(body: &[u8], registry: &SeriesRegistry) -> WrittenSamples {
    v2::decode(body, registry, Oldest::NONE, &LabelLimits::NONE).unwrap()
}

/// What is kept of a request, and a part of each error; twice, so that the second time everything
/// is known.
#[track_caller]
fn check(body: &[u8], rows: &[&str], errors: &[&str]) {
    let registry = SeriesRegistry::new(1 << 20);
    for _ in 0..2 {
        let written = decode(body, &registry);
        assert_eq!(show(&written, &registry), rows);
        assert_eq!(written.errors.len(), errors.len(), "{:?}", written.errors);
        for (error, part) in written.errors.iter().zip(errors) {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
        assert_eq!(written.samples + written.histograms, rows.len());
    }
}

#[test]
fn series_by_their_symbols() {
    let mut request = Request::new();
    let a = request
        .labels(&[("__name__", "up"), ("job", "a"), ("empty", "")])
        .sample(1.0, 1000)
        .sample(-0.0, 0);
    let b = request
        .labels(&[("job", "b"), ("__name__", "up")])
        .sample(2.0, -5);
    let h = request.labels(&[("__name__", "h")]).message(3, histogram());
    request.add(a).add(b).add(h);
    let rows = [
        r#"{__name__="up", job="a"} 1000 1.0"#,
        r#"{__name__="up", job="a"} 0 -0.0"#,
        r#"{__name__="up", job="b"} -5 2.0"#,
        r#"{__name__="h"} 1234 histogram count=8"#,
    ];
    check(&request.body(), &rows, &[]);
    check(&[], &[], &[]);
    // The table may come last, references one by one, and rc.3 had a created timestamp.
    let series = m().varint(1, 1).varint(1, 2).sample(1.0, 7).varint(6, 5);
    let body = m()
        .message(5, series)
        .bytes(4, b"")
        .bytes(4, b"__name__")
        .bytes(4, b"x");
    check(&body.0, &[r#"{__name__="x"} 7 1.0"#], &[]);
}

#[test]
fn both_versions_know_a_series_by_the_same_bytes() {
    let registry = SeriesRegistry::new(1 << 20);
    let long = "v".repeat(300);
    let labels = [
        ("__name__", "x"),
        ("a", long.as_str()),
        ("b", ""),
        ("", "c"),
    ];
    let one = series(&labels[..2]).label("b", "2").sample(1.0, 1);
    v1::decode(
        &request_of([one]).0,
        &registry,
        Oldest::NONE,
        &LabelLimits::NONE,
    )
    .unwrap();
    let bytes = registry.bytes();
    let mut request = Request::new();
    let two = request
        .labels(&[labels[0], labels[1], ("b", "2")])
        .sample(2.0, 2);
    request.add(two);
    assert_eq!(decode(&request.body(), &registry).rows.series, [0]);
    assert_eq!(registry.bytes(), bytes, "no spelling was added");
}

fn request_of(series: impl IntoIterator<Item = Message>) -> Message {
    super::request(series)
}

#[test]
fn bad_series_are_refused_alone() {
    let kept = &[r#"{__name__="ok"} 1 1.0"#, r#"{__name__="ok"} 2 2.0"#];
    type Make = fn(&mut Request) -> Message;
    let cases: [(Make, &str); 9] = [
        (
            |r| r.labels(&[("job", "a")]),
            r#"series {job="a"} has no metric name"#,
        ),
        (
            |r| r.labels(&[("__name__", "x"), ("a", "1"), ("a", "2")]),
            r#"label "a" more than once"#,
        ),
        (|r| r.labels(&[("__name__", "x"), ("", "1")]), "empty name"),
        (|_| m(), "no metric name"),
        (|_| m().varint(1, 1), "1 label references"),
        (
            |_| m().varint(1, 1).varint(1, 77),
            "refers to the symbols 1 and 77, but there are 4",
        ),
        (
            |_| m().varint(1, u64::MAX).varint(1, 1),
            "refers to the symbols 18446744073709551615 and 1",
        ),
        (|_| m().bytes(1, &m().raw_varint(1).0), "1 label references"),
        (
            |r| r.labels(&[("__name__", "x")]).message(3, histogram()),
            "float samples and histograms",
        ),
    ];
    for (bad, part) in cases {
        let mut request = Request::new();
        let (first, last) = (
            request.labels(&[("__name__", "ok")]).sample(1.0, 1),
            request.labels(&[("__name__", "ok")]).sample(2.0, 2),
        );
        request.symbol("ok2");
        let bad = bad(&mut request)
            .sample(7.0, 7)
            .message(4, m().double(2, 1.0));
        request.add(first).add(bad).add(last);
        check(&request.body(), kept, &[part]);
    }
}

#[test]
fn malformed_messages_refuse_the_body() {
    let good = m().bytes(1, &[1, 2]).sample(1.0, 1);
    let symbols = m().bytes(4, b"").bytes(4, b"__name__").bytes(4, b"x");
    for bad in [
        symbols.clone().message(5, good.clone()).varint(4, 1),
        symbols.clone().varint(5, 1),
        symbols.clone().message(5, good.clone().double(1, 1.0)),
        symbols.clone().message(5, good.clone().bytes(1, &[0xff])),
        symbols
            .clone()
            .message(5, good.clone().message(2, m().varint(1, 1))),
        symbols
            .clone()
            .message(5, good.clone().message(5, m().double(3, 1.0))),
    ] {
        let registry = SeriesRegistry::new(1 << 20);
        let result = v2::decode(&bad.0, &registry, Oldest::NONE, &LabelLimits::NONE);
        assert!(result.is_err(), "{bad:?}: {result:?}");
        assert!(registry.is_empty());
    }
}

#[test]
fn references_cannot_multiply_without_end() {
    // A text of a megabyte, named by ten thousand series.
    let mut request = Request::new();
    let series = request
        .labels(&[("__name__", "x"), ("a", &"v".repeat(1 << 20))])
        .sample(1.0, 1);
    for _ in 0..10_000 {
        request.add(series.clone());
    }
    let error = v2::decode(
        &request.body(),
        &SeriesRegistry::new(1 << 30),
        Oldest::NONE,
        &LabelLimits::NONE,
    )
    .unwrap_err();
    assert!(error.to_string().contains("resolve to far more"), "{error}");
    // Metadata of as many metrics with one help.
    let mut body = m()
        .bytes(4, b"")
        .bytes(4, b"__name__")
        .bytes(4, &[b'h'; 1 << 20]);
    for name in 0..1000u64 {
        let series = m()
            .varint(1, 1)
            .varint(1, 3 + name)
            .sample(1.0, 1)
            .message(5, m().varint(1, 1).varint(3, 2));
        body = body
            .bytes(4, format!("m{name}").as_bytes())
            .message(5, series);
    }
    let error = v2::decode(
        &body.0,
        &SeriesRegistry::new(1 << 30),
        Oldest::NONE,
        &LabelLimits::NONE,
    )
    .unwrap_err();
    assert!(error.to_string().contains("resolve to far more"), "{error}");
}

#[test]
fn metadata_are_kept_by_family_and_once() {
    let mut request = Request::new();
    let (help, unit) = (request.symbol("How long."), request.symbol("seconds"));
    let mut add = |name: &str, kind: u64, help: u64, native: bool| {
        for job in ["a", "b"] {
            let series = request.labels(&[("__name__", name), ("job", job)]);
            let series = if native {
                series.message(3, histogram())
            } else {
                series.sample(1.0, 1)
            };
            request.add(series.message(5, m().varint(1, kind).varint(3, help).varint(4, unit)));
        }
    };
    add("http_seconds_bucket", 3, help, false);
    add("http_seconds_count", 3, help, false);
    add("native_count", 3, help, true);
    add("rpc_sum", 5, help, false);
    add("requests_total", 1, 0, false);
    add("bad", 1, 99, false);
    let written = decode(&request.body(), &SeriesRegistry::new(1 << 20));
    let found: Vec<_> = written
        .metadata
        .iter()
        .map(|m| (m.family.as_str(), m.kind, m.help.as_str(), m.unit.as_str()))
        .collect();
    let expected = [
        (
            "http_seconds",
            MetricKind::Histogram,
            "How long.",
            "seconds",
        ),
        (
            "http_seconds",
            MetricKind::Histogram,
            "How long.",
            "seconds",
        ),
        (
            "native_count",
            MetricKind::Histogram,
            "How long.",
            "seconds",
        ),
        ("rpc", MetricKind::Summary, "How long.", "seconds"),
        ("requests_total", MetricKind::Counter, "", "seconds"),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        (written.samples, written.histograms),
        (10, 2),
        "samples with bad metadata are kept"
    );
    assert_eq!(written.errors.len(), 1);
    assert!(
        written.errors[0].contains("metadata refer to the symbols 99"),
        "{:?}",
        written.errors
    );
}

#[test]
fn start_times_are_a_column_only_where_somebody_says_them() {
    let mut request = Request::new();
    let labels = request.labels(&[("__name__", "x")]);
    let at = |time: i64, start: i64| {
        m().double(1, 1.0)
            .varint(2, time as u64)
            .varint(3, start as u64)
    };
    let bad = request.labels(&[("job", "nameless")]).message(2, at(1, -7));
    let h = request
        .labels(&[("__name__", "h")])
        .message(3, histogram().varint(17, 99))
        .message(3, histogram());
    request
        .add(labels.clone().message(2, at(1, 0)))
        .add(labels.clone().message(2, at(2, -5)).message(2, at(3, 0)))
        .add(bad)
        .add(h);
    let written = decode(&request.body(), &SeriesRegistry::new(1 << 20));
    let column = written.rows.fields.last().unwrap();
    assert_eq!(
        (&*column.name, column.kind),
        (START_TIME_COLUMN, ColumnType::Timestamp)
    );
    let FieldValues::Integer(times) = &column.values else {
        panic!("{column:?}")
    };
    let found: Vec<_> = (0..written.rows.len())
        .map(|row| column.position(row).map(|at| times[at]))
        .collect();
    assert_eq!(found, [None, Some(-5), None, Some(99), None]);
    assert_eq!((written.samples, written.histograms), (3, 2));

    let mut request = Request::new();
    let series = request.labels(&[("__name__", "x")]).message(2, at(1, 0));
    request.add(series);
    assert_eq!(
        decode(&request.body(), &SeriesRegistry::new(1 << 20))
            .rows
            .fields
            .len(),
        1
    );
    // Samples that are too old take theirs with them.
    let mut request = Request::new();
    let series = request
        .labels(&[("__name__", "x")])
        .message(2, at(1_500, 0))
        .message(2, at(1, 7))
        .message(2, at(1_600, 8));
    request.add(series);
    let oldest = Oldest::new(1_000, 2_000, TimeUnit::Millisecond);
    let written = v2::decode(
        &request.body(),
        &SeriesRegistry::new(1 << 20),
        oldest,
        &LabelLimits::NONE,
    )
    .unwrap();
    let column = written.rows.fields.last().unwrap();
    assert_eq!(
        (
            written.rows.time.as_slice(),
            column.position(0).is_some(),
            column.position(1).is_some()
        ),
        ([1_500, 1_600].as_slice(), false, true)
    );
}

#[test]
fn exemplars_belong_to_their_series() {
    let mut request = Request::new();
    let exemplar = request
        .labels(&[("trace_id", "abc"), ("a", "1")])
        .double(2, 0.5)
        .varint(3, 77);
    let good = request
        .labels(&[("__name__", "b")])
        .sample(1.0, 1)
        .message(4, exemplar);
    let bad = request
        .labels(&[("__name__", "c")])
        .sample(1.0, 1)
        .message(4, m().varint(1, 1).varint(1, 99))
        .message(4, m().varint(1, 1));
    request.add(good).add(bad);
    let registry = SeriesRegistry::new(1 << 20);
    let written = decode(&request.body(), &registry);
    assert_eq!(
        (written.samples, written.exemplars.len(), written.refused),
        (2, 1, 2),
        "{:?}",
        written.errors
    );
    assert_eq!(
        show_exemplars(&written, &registry),
        [r#"{__name__="b"} {a="1", trace_id="abc"} 77 0.5"#]
    );
}

proptest! {
    #[test]
    fn both_versions_give_the_same_rows(given in many_series()) {
        let (mut one, mut two) = (m(), Request::new());
        for (labels, samples) in &given {
            let pairs: Vec<(&str, &str)> =
                [(METRIC_NAME, "x")].into_iter().chain(labels.iter().map(|(n, v)| (n.as_str(), v.as_str()))).collect();
            let with_samples = |message: Message| samples.iter().fold(message, |m, (bits, time)| m.sample(f64::from_bits(*bits), *time));
            one = one.message(1, with_samples(series(&pairs)));
            let series = two.labels(&pairs);
            two.add(with_samples(series));
        }
        let registry = SeriesRegistry::new(1 << 20);
        let expected = v1::decode(&one.0, &registry, Oldest::NONE, &LabelLimits::NONE).unwrap();
        let found = decode(&two.body(), &registry);
        prop_assert_eq!(&found.errors, &expected.errors);
        prop_assert_eq!((&found.rows.series, &found.rows.time), (&expected.rows.series, &expected.rows.time));
        prop_assert_eq!(show(&found, &registry), show(&expected, &registry));
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = v2::decode(&body, &SeriesRegistry::new(1 << 20), Oldest::NONE, &LabelLimits::NONE);
    }

    #[test]
    fn damaged_messages_never_panic(at in 0usize..400, with in any::<u8>()) {
        let mut request = Request::new();
        let exemplar = request.labels(&[("trace_id", "abc")]).double(2, 0.5).varint(3, 77);
        let one = request.labels(&[("__name__", "x"), ("a", "b")]).sample(1.0, 1).message(4, exemplar);
        let two = request.labels(&[("__name__", "h")]).message(3, histogram()).message(5, m().varint(1, 3).varint(3, 1));
        request.add(one).add(two);
        let mut body = request.body();
        let len = body.len();
        body[at % len] = with;
        let _ = v2::decode(&body, &SeriesRegistry::new(1 << 20), Oldest::NONE, &LabelLimits::NONE);
    }
}
