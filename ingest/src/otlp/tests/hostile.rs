//! Messages that are malformed or large on purpose.

use proptest::prelude::*;

use super::super::settings::Strategy;
use super::*;

fn try_body(body: &[u8], settings: &Settings) -> Result<WrittenSamples, DecodeError> {
    let registry = SeriesRegistry::new(1 << 20);
    decode(body, &registry, rules(settings), None).map(|(written, _)| written)
}

#[test]
fn one_bad_point_is_refused_alone() {
    let settings = Settings::default();
    let bad = m().text(1, "k").message(2, m().bytes(1, b"\xff"));
    let points = vec![
        with(point(1.0), 7, &[("a", "1")]),
        point(2.0).message(7, bad.clone()),
        with(point(3.0), 7, &[("", "x")]),
        with(point(4.0), 7, &[("__", "x")]),
        with(point(5.0), 7, &[("a", "5")]),
    ];
    let request = request(&[], vec![gauge("g", points)]);
    check(
        &settings,
        &request,
        &["g{a=\"1\"} 1.0 @0", "g{a=\"5\"} 5.0 @0"],
    );
    let parts = [
        "a data point of metric \"g\"",
        "not valid UTF-8",
        "rename the attribute",
    ];
    refuse(&settings, &request, 3, &parts);

    // A point with many series is refused once.
    let histogram = m().fixed64(4, 1).message(9, bad);
    let metric = m()
        .text(1, "h")
        .message(9, m().varint(2, 2).message(1, histogram));
    refuse(
        &settings,
        &super::request(&[], vec![metric]),
        1,
        &["metric \"h\""],
    );
}

#[test]
fn names_that_cannot_be_are_refused_and_named() {
    let settings = Settings::default();
    let metrics = vec![
        gauge("", vec![point(1.0)]),
        gauge("@#$%", vec![point(1.0), point(2.0)]),
        m().bytes(1, b"\xff").message(5, m().message(1, point(1.0))),
        gauge("good", vec![point(1.0)]),
    ];
    let request = request(&[], metrics);
    check(&settings, &request, &["good{} 1.0 @0"]);
    refuse(
        &settings,
        &request,
        4,
        &["rename the metric", "\"@#$%\"", "not valid UTF-8"],
    );
    let as_is = Settings {
        strategy: Strategy::NoTranslation,
        ..Settings::default()
    };
    check(
        &as_is,
        &request,
        &["@#$%{} 1.0 @0", "@#$%{} 2.0 @0", "good{} 1.0 @0"],
    );
    let twice = with(point(1.0), 7, &[("a", "1"), ("a", "2")]);
    let request = super::request(&[], vec![gauge("g", vec![twice])]);
    refuse(&as_is, &request, 1, &["\"a\" is there more than once"]);
}

#[test]
fn resources_and_scopes_that_cannot_be_are_named() {
    let metrics = || vec![gauge("g", vec![point(1.0), point(2.0)])];
    let resource = [("service.name", "n"), ("__", "x")];
    let settings = Settings::default();
    let written = written(&settings, &request(&resource, metrics()));
    assert_eq!((written.refused, written.samples), (0, 2));
    assert!(
        written.errors[0].contains("target_info is not written"),
        "{:?}",
        written.errors
    );
    let all = Settings {
        promotion: Promotion::AllBut(Vec::new()),
        ..Settings::default()
    };
    refuse(
        &all,
        &request(&resource, metrics()),
        2,
        &["metric \"g\"", "attribute name \"__\""],
    );
    let scope = m()
        .text(1, "s")
        .message(3, m().text(1, "k").message(2, m().bytes(1, b"\xff")));
    let scope_metrics = m().message(1, scope).message(2, metrics().remove(0));
    let body = m().message(1, m().message(2, scope_metrics));
    refuse(&settings, &body, 0, &[]);
    let scopes = Settings {
        scope_labels: true,
        ..Settings::default()
    };
    refuse(&scopes, &body, 2, &["metric \"g\"", "not valid UTF-8"]);
}

#[test]
fn labels_are_held_to_their_limits() {
    let settings = Settings::default();
    let limits = LabelLimits {
        per_series: 3,
        name_bytes: 20,
        value_bytes: 8,
    };
    let points = vec![
        with(point(1.0), 7, &[("a", "12345678")]),
        with(point(2.0), 7, &[("a", "123456789")]),
        with(point(3.0), 7, &[("a", "1"), ("b", "2"), ("c", "3")]),
    ];
    let body = request(&[], vec![gauge("g", points)]).into_bytes();
    let registry = SeriesRegistry::new(1 << 20);
    let rules = Rules {
        limits,
        ..rules(&settings)
    };
    let (written, _) = decode(&body, &registry, rules, None).unwrap();
    assert_eq!(
        (written.samples, written.refused),
        (1, 2),
        "{:?}",
        written.errors
    );
    let text = written.errors.join("\n");
    assert!(text.contains("max_label_value_bytes"), "{text}");
    assert!(text.contains("max_labels_per_series"), "{text}");
}

#[test]
fn target_info_is_bounded() {
    let settings = Settings {
        target_info_interval_ms: 1,
        ..Settings::default()
    };
    let points = vec![
        m().double(4, 1.0),
        m().fixed64(3, u64::MAX / 2).double(4, 1.0),
    ];
    let resource = [("service.name", "n"), ("host.name", "h")];
    let one = request(&resource, vec![gauge("g", points)]).into_bytes();
    let written = try_body(&one.repeat(100), &settings).unwrap();
    assert!(written.samples < 21_000, "{}", written.samples);
}

#[test]
fn labels_are_bounded_by_the_body() {
    let all = Settings {
        promotion: Promotion::AllBut(Vec::new()),
        ..Settings::default()
    };
    let long = "x".repeat(100_000);
    let points = (0..2_000)
        .map(|place: u32| with(point(1.0), 7, &[("a", &place.to_string())]))
        .collect();
    let body = request(&[("r", &long)], vec![gauge("g", points)]);
    let error = try_written(&SeriesRegistry::new(1 << 30), &all, &body).unwrap_err();
    assert!(
        error.to_string().contains("far more bytes than the body"),
        "{error}"
    );
}

#[test]
fn numbers_of_parts_are_bounded() {
    let settings = Settings::default();
    let many = |number: usize| (0..5_000).fold(m(), |all, _| all.message(number, m()));
    let check = |body: Message| {
        let error = try_body(&body.into_bytes(), &settings)
            .unwrap_err()
            .to_string();
        assert!(error.contains("more than 4096 attributes"), "{error}");
    };
    check(request(
        &[],
        vec![gauge("g", vec![many(7).fixed64(3, TIME)])],
    ));
    let exemplar = many(7).double(3, 1.0);
    check(request(
        &[],
        vec![sum("c", 2, true, vec![point(1.0).message(5, exemplar)])],
    ));
    let map = m().text(1, "k").message(
        2,
        m().message(6, {
            let entry = |place: usize| m().text(1, &place.to_string());
            (0..5_000).fold(m(), |all, place| all.message(1, entry(place)))
        }),
    );
    check(request(
        &[],
        vec![gauge("g", vec![point(1.0).message(7, map)])],
    ));
    let resource = many(1);
    let metrics = m().message(2, gauge("g", vec![point(1.0)]));
    check(m().message(1, m().message(1, resource).message(2, metrics)));
}

#[test]
fn malformed_bodies_are_refused_as_a_whole() {
    let good = request(&[("service.name", "n")], vec![gauge("g", vec![point(1.0)])]).into_bytes();
    let settings = Settings::default();
    assert!(try_body(&good, &settings).is_ok());
    assert!(try_body(b"", &settings).is_ok());
    for body in [
        &b"\xff"[..],
        b"\x0a\x7f",
        b"\x0a\x02\x12\x09",
        &good[..good.len() - 1],
    ] {
        let error = try_body(body, &settings).unwrap_err().to_string();
        assert!(error.contains("not a valid OTLP"), "{error}");
    }
    // An attribute of a point that is no message.
    let point = point(1.0).bytes(7, b"\xff\xff");
    let body = request(&[], vec![gauge("g", vec![point])]).into_bytes();
    assert!(try_body(&body, &settings).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(
        body in prop::collection::vec(any::<u8>(), 0..200),
        native: bool,
    ) {
        let settings = Settings {
            custom_buckets: native,
            scope_labels: native,
            delta: Delta::Keep,
            ..Settings::default()
        };
        let _ = try_body(&body, &settings);
    }

    #[test]
    fn a_changed_byte_is_no_harm(place: prop::sample::Index, byte: u8, native: bool) {
        let exemplar = m().double(3, 1.0).bytes(5, &[1; 16]);
        let points = m().varint(2, 2).message(
            1,
            with(m().fixed64(4, 3).bytes(6, &[1; 24]).bytes(7, &[2; 16]), 9, &[("a", "b")])
                .message(8, exemplar),
        );
        let buckets = m().varint(1, 3).bytes(2, &[1, 2, 3]);
        let exponential = m().varint(2, 2).message(1, m().fixed64(4, 6).message(8, buckets));
        let metrics = vec![
            m().text(1, "h").message(9, points),
            m().text(1, "e").message(10, exponential),
            gauge("g", vec![with(point(1.0), 7, &[("a.b", "c")])]),
        ];
        let mut body = request(&[("service.name", "n"), ("x", "y")], metrics).into_bytes();
        let place = place.index(body.len());
        body[place] = byte;
        let settings = Settings { custom_buckets: native, ..Settings::default() };
        let _ = try_body(&body, &settings);
    }
}
