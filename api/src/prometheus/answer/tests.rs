//! The text of answers.
use std::time::Duration;

use tidelake_catalog::model::STALE_NAN_BITS;

use tidelake_querier::memory::QueryMemory;

use super::*;
use crate::node::backend::QueryStats;
use crate::service::slots::{Language, QuerySlots};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn text(
    value: Value,
    annotations: Annotations,
    at: At,
    limit: usize,
    stats: Option<String>,
) -> String {
    let mut answer = QueryAnswer::new(
        QueryOutput {
            value,
            annotations,
            stats: QueryStats::default(),
            held: QueryMemory::unlimited().pool().try_hold(0).unwrap(),
        },
        at,
        limit,
        stats,
    );
    let mut out = Vec::new();
    while answer.write(&mut out) {}
    String::from_utf8(out).unwrap()
}

fn check(value: Value, at: At, limit: usize, expected: &str) {
    let text = text(value, Annotations::default(), at, limit, None);
    assert_eq!(text, expected);
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
}

fn row(name: &str, values: &[f64]) -> SeriesRow {
    SeriesRow {
        labels: labels(&[("__name__", name)]),
        values: values.to_vec(),
        histograms: None,
    }
}

const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);
const STEPS: At = At::Steps(Steps {
    start_ms: 1000,
    end_ms: 2500,
    step_ms: 500,
});

#[test]
fn instant_answers() {
    check(
        Value::Scalar(vec![2.0]),
        At::Time(1500),
        0,
        r#"{"status":"success","data":{"resultType":"scalar","result":[1.500,"2"]}}"#,
    );
    let scalar = |value: f64, text: &str| {
        let expected = format!(
            r#"{{"status":"success","data":{{"resultType":"scalar","result":[0,"{text}"]}}}}"#
        );
        check(Value::Scalar(vec![value]), At::Time(0), 0, &expected);
    };
    scalar(-1.25e-8, "-0.0000000125");
    scalar(1e24, "1000000000000000000000000");
    scalar(f64::INFINITY, "+Inf");
    scalar(f64::NAN, "NaN");
    check(
        Value::String("a\"b\n".into()),
        At::Time(0),
        0,
        r#"{"status":"success","data":{"resultType":"string","result":[0,"a\"b\n"]}}"#,
    );
    check(
        Value::Vector(vec![
            row("a", &[1.0]),
            row("gone", &[ABSENT]),
            row("b", &[f64::NAN]),
        ]),
        At::Time(7000),
        0,
        concat!(
            r#"{"status":"success","data":{"resultType":"vector","result":["#,
            r#"{"metric":{"__name__":"a"},"value":[7,"1"]},{"metric":{"__name__":"b"},"value":[7,"NaN"]}]}}"#
        ),
    );
    check(
        Value::RangeVector(vec![RangeSeries {
            labels: labels(&[("x", "y")]),
            floats: vec![(1, 2.0), (3, 4.0)],
            histograms: vec![],
        }]),
        At::Time(7000),
        0,
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"x":"y"},"values":[[0.001,"2"],[0.003,"4"]]}]}}"#,
    );
}

#[test]
fn range_answers_leave_out_what_is_absent() {
    check(
        Value::Vector(vec![
            row("gone", &[ABSENT; 4]),
            row("a", &[1.0, ABSENT, 3.0, ABSENT]),
        ]),
        STEPS,
        0,
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"a"},"values":[[1,"1"],[2,"3"]]}]}}"#,
    );
    check(
        Value::Scalar(vec![1.0, 2.0]),
        STEPS,
        0,
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[1.500,"2"]]}]}}"#,
    );
    check(
        Value::Vector(vec![]),
        STEPS,
        0,
        r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
    );
}

#[test]
fn histograms_stand_beside_values() {
    let histogram = std::sync::Arc::new(tidelake_catalog::model::Histogram {
        count: 1.0,
        sum: 2.0,
        ..Default::default()
    });
    let mixed = SeriesRow {
        histograms: Some(vec![None, Some(histogram.clone())]),
        ..row("a", &[1.0, ABSENT])
    };
    check(
        Value::Vector(vec![mixed]),
        STEPS,
        0,
        concat!(
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"a"},"values":[[1,"1"]],"#,
            r#""histograms":[[1.500,{"count":"1","sum":"2"}]]}]}}"#
        ),
    );
    let only = SeriesRow {
        histograms: Some(vec![Some(histogram)]),
        ..row("a", &[ABSENT])
    };
    check(
        Value::Vector(vec![only]),
        At::Time(0),
        0,
        concat!(
            r#"{"status":"success","data":{"resultType":"vector","result":["#,
            r#"{"metric":{"__name__":"a"},"histogram":[0,{"count":"1","sum":"2"}]}]}}"#
        ),
    );
}

#[test]
fn a_limit_cuts_and_warns() {
    let rows = || {
        Value::Vector(vec![
            row("gone", &[ABSENT]),
            row("a", &[1.0]),
            row("b", &[2.0]),
            row("gone", &[ABSENT]),
        ])
    };
    let one = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"a"},"value":[0,"1"]}"#;
    check(
        rows(),
        At::Time(0),
        1,
        &format!("{one}]}},\"warnings\":[\"{TRUNCATED}\"]}}"),
    );
    check(
        rows(),
        At::Time(0),
        2,
        &format!(
            "{one},{}]}}}}",
            r#"{"metric":{"__name__":"b"},"value":[0,"2"]}"#
        ),
    );
}

#[test]
fn annotations_follow_the_data() {
    let annotations = Annotations {
        warnings: vec!["w".into()],
        infos: vec!["i".into(), "j".into()],
    };
    let got = text(
        Value::Vector(vec![]),
        annotations,
        At::Time(0),
        0,
        Some("{}".into()),
    );
    let expected = r#"{"status":"success","data":{"resultType":"vector","result":[],"stats":{}},"warnings":["w"],"infos":["i","j"]}"#;
    assert_eq!(got, expected);
}

#[test]
fn long_rows_are_written_in_parts() {
    let steps = Steps {
        start_ms: 0,
        end_ms: 49_999_000,
        step_ms: 1000,
    };
    let values: Vec<f64> = (0..50_000).map(f64::from).collect();
    let histogram = Arc::new(Histogram {
        count: 1.0,
        ..Histogram::default()
    });
    let row = SeriesRow {
        labels: labels(&[("a", "b")]),
        values,
        histograms: Some(vec![Some(histogram); 50_000]),
    };
    let output = QueryOutput {
        value: Value::Vector(vec![row]),
        annotations: Annotations::default(),
        stats: QueryStats::default(),
        held: QueryMemory::unlimited().pool().try_hold(0).unwrap(),
    };
    let mut answer = QueryAnswer::new(output, At::Steps(steps), 0, None);
    let (mut out, mut largest) = (Vec::new(), 0);
    loop {
        let before = out.len();
        let more = answer.write(&mut out);
        largest = largest.max(out.len() - before);
        if !more {
            break;
        }
    }
    assert!(largest < PART_BYTES + 1000, "{largest}");
    let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let series = &parsed["data"]["result"][0];
    for list in ["values", "histograms"] {
        let times: Vec<i64> = series[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|sample| sample[0].as_i64().unwrap())
            .collect();
        assert!(times.iter().copied().eq(0..50_000), "{list}");
    }
    assert_eq!(series["values"][49_999][1], "49999");
}

#[tokio::test]
async fn lists() {
    let check = async |items: &[&str], warnings: &[&str], expected: &str| {
        let value = items.iter().map(|item| (*item).to_owned()).collect();
        let warnings = warnings.iter().map(|text| (*text).to_owned()).collect();
        let (slots, pace) = (QuerySlots::new(1, Duration::ZERO), Pace::patient());
        let response = list_answer(
            Answer {
                value,
                warnings,
                held: None,
            },
            |out, item: &String| write_string(out, item),
            &pace,
            slots.enter(Language::Labels).await.unwrap(),
        );
        let response = response.await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
    };
    check(&[], &[], r#"{"status":"success","data":[]}"#).await;
    check(&["a"], &[], r#"{"status":"success","data":["a"]}"#).await;
    check(&["a", "b\"", "c"], &[TRUNCATED], r#"{"status":"success","data":["a","b\"","c"],"warnings":["results truncated due to limit"]}"#)
        .await;
}

#[test]
fn ten_annotations_of_a_kind_are_told() {
    let texts = |count: usize| (0..count).map(|n| format!("w{n}")).collect::<Vec<_>>();
    let check = |warnings: usize, infos: usize, expected: &str| {
        let annotations = Annotations {
            warnings: texts(warnings),
            infos: texts(infos),
        };
        let text = text(Value::Vector(Vec::new()), annotations, At::Time(0), 0, None);
        assert_eq!(text.split_once("[]}").unwrap().1, expected);
    };
    check(2, 0, r#","warnings":["w0","w1"]}"#);
    let ten = r#""w0","w1","w2","w3","w4","w5","w6","w7","w8","w9""#;
    check(10, 0, &format!(r#","warnings":[{ten}]}}"#));
    let omitted = r#""2 more warning annotations omitted""#;
    check(
        12,
        11,
        &format!(
            r#","warnings":[{ten},{omitted}],"infos":[{ten},"1 more info annotations omitted"]}}"#
        ),
    );
}
