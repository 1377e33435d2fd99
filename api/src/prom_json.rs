//! The JSON of the Prometheus query API, written straight into one buffer: no tree, no call of a serializer per sample.
use tidelake_catalog::model::{Labels, is_stale};

use crate::backend::{Annotations, Answer, QueryOutput, RangeSeries, SeriesRow, Steps, Value};
use crate::go_float::{write_time, write_value};
use crate::prom_histogram::write_histogram;

/// Said when `limit` cut an answer.
pub const TRUNCATED: &str = "results truncated due to limit";

/// The body of a successful query: instant when there are no steps.
pub fn query_body(output: &QueryOutput, at: At, limit: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(estimate(&output.value));
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":");
    let truncated = match (&output.value, at) {
        (Value::Scalar(values), At::Time(ms)) => {
            out.extend_from_slice(b"\"scalar\",\"result\":");
            write_sample(&mut out, ms, values.first().copied().unwrap_or(f64::NAN));
            false
        }
        (Value::Scalar(values), At::Steps(steps)) => {
            out.extend_from_slice(b"\"matrix\",\"result\":[");
            write_floats(&mut out, &Labels::empty(), steps, values);
            out.push(b']');
            false
        }
        (Value::String(text), at) => {
            out.extend_from_slice(b"\"string\",\"result\":[");
            write_time(&mut out, at.start_ms());
            out.push(b',');
            write_string(&mut out, text);
            out.push(b']');
            false
        }
        (Value::Vector(rows), At::Time(ms)) => {
            out.extend_from_slice(b"\"vector\",\"result\":");
            write_list(&mut out, rows, limit, |out, row| write_instant_row(out, row, ms))
        }
        (Value::Vector(rows), At::Steps(steps)) => {
            out.extend_from_slice(b"\"matrix\",\"result\":");
            write_list(&mut out, rows, limit, |out, row| write_range_row(out, row, steps))
        }
        (Value::RangeVector(series), _) => {
            out.extend_from_slice(b"\"matrix\",\"result\":");
            write_list(&mut out, series, limit, write_raw_series)
        }
    };
    out.push(b'}');
    write_annotations(&mut out, &output.annotations, truncated);
    out.push(b'}');
    out
}

/// The time or times of a query.
#[derive(Debug, Clone, Copy)]
pub enum At {
    /// An instant query, in ms.
    Time(i64),
    /// A range query.
    Steps(Steps),
}

impl At {
    fn start_ms(self) -> i64 {
        match self {
            At::Time(ms) => ms,
            At::Steps(steps) => steps.start_ms,
        }
    }
}

/// The body of a list of texts, as `labels` and `label/x/values` answer.
pub fn strings_body(answer: &Answer<Vec<String>>) -> Vec<u8> {
    let items = &answer.value;
    let mut out = Vec::with_capacity(64 + items.iter().map(|s| s.len() + 3).sum::<usize>());
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":");
    write_list(&mut out, items, 0, |out, item| {
        write_string(out, item);
        true
    });
    write_annotations(&mut out, &Annotations { warnings: answer.warnings.clone(), infos: Vec::new() }, false);
    out.push(b'}');
    out
}

/// The body of a list of label sets, as `series` answers.
pub fn series_body(answer: &Answer<Vec<Labels>>) -> Vec<u8> {
    let items = &answer.value;
    let mut out = Vec::with_capacity(64 + items.iter().map(|l| l.as_str().len() * 2).sum::<usize>());
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":");
    write_list(&mut out, items, 0, |out, labels| {
        write_labels(out, labels);
        true
    });
    write_annotations(&mut out, &Annotations { warnings: answer.warnings.clone(), infos: Vec::new() }, false);
    out.push(b'}');
    out
}

fn estimate(value: &Value) -> usize {
    let samples = match value {
        Value::Scalar(values) => values.len(),
        Value::String(text) => text.len(),
        Value::Vector(rows) => rows.iter().map(|row| row.values.len() + 8).sum(),
        Value::RangeVector(series) => series.iter().map(|series| series.floats.len() + 8).sum(),
    };
    256 + samples * 24
}

/// Writes items until `limit` (0: all) are written; an item that writes nothing does not count. Returns whether some
/// were left out.
pub fn write_list<T>(out: &mut Vec<u8>, items: &[T], limit: usize, mut write: impl FnMut(&mut Vec<u8>, &T) -> bool) -> bool {
    out.push(b'[');
    let mut written = 0;
    let mut truncated = false;
    for item in items {
        let mark = out.len();
        if written > 0 {
            out.push(b',');
        }
        if write(out, item) {
            if limit > 0 && written == limit {
                out.truncate(mark);
                truncated = true;
                break;
            }
            written += 1;
        } else {
            out.truncate(mark);
        }
    }
    out.push(b']');
    truncated
}

fn write_instant_row(out: &mut Vec<u8>, row: &SeriesRow, ms: i64) -> bool {
    let histogram = row.histograms.as_ref().and_then(|all| all.first()?.as_ref());
    let value = row.values.first().copied().filter(|v| !is_stale(*v));
    if histogram.is_none() && value.is_none() {
        return false;
    }
    write_metric(out, &row.labels);
    match (histogram, value) {
        (Some(histogram), _) => {
            out.extend_from_slice(b",\"histogram\":[");
            write_time(out, ms);
            out.push(b',');
            write_histogram(out, histogram);
            out.push(b']');
        }
        (None, value) => {
            out.extend_from_slice(b",\"value\":");
            write_sample(out, ms, value.unwrap_or(f64::NAN));
        }
    }
    out.push(b'}');
    true
}

fn write_range_row(out: &mut Vec<u8>, row: &SeriesRow, steps: Steps) -> bool {
    let Some(histograms) = &row.histograms else { return write_floats(out, &row.labels, steps, &row.values) };
    let floats = present(steps, &row.values);
    let histograms = times(steps).zip(histograms).filter_map(|(ms, h)| h.as_ref().map(|h| (ms, h)));
    write_series(out, &row.labels, floats, histograms)
}

fn write_raw_series(out: &mut Vec<u8>, series: &RangeSeries) -> bool {
    write_series(out, &series.labels, series.floats.iter().copied(), series.histograms.iter().map(|(ms, h)| (*ms, h)))
}

fn write_floats(out: &mut Vec<u8>, labels: &Labels, steps: Steps, values: &[f64]) -> bool {
    write_series(out, labels, present(steps, values), std::iter::empty())
}

fn times(steps: Steps) -> impl Iterator<Item = i64> {
    (0i64..).map(move |i| steps.start_ms.saturating_add(i.saturating_mul(steps.step_ms)))
}

fn present(steps: Steps, values: &[f64]) -> impl Iterator<Item = (i64, f64)> + '_ {
    times(steps).zip(values.iter().copied()).filter(|(_, v)| !is_stale(*v))
}

/// Writes a series with its samples; one without any is left out, which the answer tells.
fn write_series<'a>(
    out: &mut Vec<u8>,
    labels: &Labels,
    floats: impl Iterator<Item = (i64, f64)>,
    histograms: impl Iterator<Item = (i64, &'a std::sync::Arc<tidelake_catalog::model::Histogram>)>,
) -> bool {
    write_metric(out, labels);
    let mut any = false;
    let mut first = true;
    for (ms, value) in floats {
        out.extend_from_slice(if first { b",\"values\":[" } else { b"," });
        first = false;
        any = true;
        write_sample(out, ms, value);
    }
    if !first {
        out.push(b']');
    }
    first = true;
    for (ms, histogram) in histograms {
        out.extend_from_slice(if first { b",\"histograms\":[[" } else { b",[" });
        first = false;
        any = true;
        write_time(out, ms);
        out.push(b',');
        write_histogram(out, histogram);
        out.push(b']');
    }
    if !first {
        out.push(b']');
    }
    out.push(b'}');
    any
}

fn write_sample(out: &mut Vec<u8>, ms: i64, value: f64) {
    out.push(b'[');
    write_time(out, ms);
    out.extend_from_slice(b",\"");
    write_value(out, value);
    out.extend_from_slice(b"\"]");
}

fn write_metric(out: &mut Vec<u8>, labels: &Labels) {
    out.extend_from_slice(b"{\"metric\":");
    write_labels(out, labels);
}

/// Labels as an object.
pub fn write_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write_string(out, value);
    }
    out.push(b'}');
}

/// Warnings and infos, if there are any, as further members of the answer.
pub fn write_annotations(out: &mut Vec<u8>, annotations: &Annotations, truncated: bool) {
    let truncated = truncated.then_some(TRUNCATED);
    let warnings: Vec<&str> = annotations.warnings.iter().map(String::as_str).chain(truncated).collect();
    let infos: Vec<&str> = annotations.infos.iter().map(String::as_str).collect();
    for (name, texts) in [("warnings", warnings), ("infos", infos)] {
        if !texts.is_empty() {
            out.push(b',');
            write_string(out, name);
            out.push(b':');
            write_list(out, &texts, 0, |out, text| {
                write_string(out, text);
                true
            });
        }
    }
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let hex = |n: u8| b"0123456789abcdef"[usize::from(n & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::model::STALE_NAN_BITS;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    fn check(value: Value, at: At, limit: usize, expected: &str) {
        let body = query_body(&QueryOutput { value, annotations: Annotations::default() }, at, limit);
        let text = String::from_utf8(body).unwrap();
        assert_eq!(text, expected);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    fn row(name: &str, values: &[f64]) -> SeriesRow {
        SeriesRow { labels: labels(&[("__name__", name)]), values: values.to_vec(), histograms: None }
    }

    const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);
    const STEPS: At = At::Steps(Steps { start_ms: 1000, end_ms: 2500, step_ms: 500 });

    #[test]
    fn instant_answers() {
        check(Value::Scalar(vec![2.0]), At::Time(1500), 0, r#"{"status":"success","data":{"resultType":"scalar","result":[1.500,"2"]}}"#);
        check(
            Value::String("a\"b\n".into()),
            At::Time(0),
            0,
            r#"{"status":"success","data":{"resultType":"string","result":[0,"a\"b\n"]}}"#,
        );
        check(
            Value::Vector(vec![row("a", &[1.0]), row("gone", &[ABSENT]), row("b", &[f64::NAN])]),
            At::Time(7000),
            0,
            concat!(
                r#"{"status":"success","data":{"resultType":"vector","result":["#,
                r#"{"metric":{"__name__":"a"},"value":[7,"1"]},{"metric":{"__name__":"b"},"value":[7,"NaN"]}]}}"#
            ),
        );
        check(
            Value::RangeVector(vec![RangeSeries { labels: labels(&[("x", "y")]), floats: vec![(1, 2.0), (3, 4.0)], histograms: vec![] }]),
            At::Time(7000),
            0,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"x":"y"},"values":[[0.001,"2"],[0.003,"4"]]}]}}"#,
        );
    }

    #[test]
    fn range_answers_leave_out_what_is_absent() {
        check(
            Value::Vector(vec![row("gone", &[ABSENT; 4]), row("a", &[1.0, ABSENT, 3.0, ABSENT])]),
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
        check(Value::Vector(vec![]), STEPS, 0, r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#);
    }

    #[test]
    fn histograms_stand_beside_values() {
        let histogram = std::sync::Arc::new(tidelake_catalog::model::Histogram { count: 1.0, sum: 2.0, ..Default::default() });
        let mixed = SeriesRow { histograms: Some(vec![None, Some(histogram.clone())]), ..row("a", &[1.0, ABSENT]) };
        check(
            Value::Vector(vec![mixed]),
            STEPS,
            0,
            concat!(
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"a"},"values":[[1,"1"]],"#,
                r#""histograms":[[1.500,{"count":"1","sum":"2"}]]}]}}"#
            ),
        );
        let only = SeriesRow { histograms: Some(vec![Some(histogram)]), ..row("a", &[ABSENT]) };
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
        let rows = || Value::Vector(vec![row("gone", &[ABSENT]), row("a", &[1.0]), row("b", &[2.0]), row("gone", &[ABSENT])]);
        let one = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"a"},"value":[0,"1"]}"#;
        check(rows(), At::Time(0), 1, &format!("{one}]}},\"warnings\":[\"{TRUNCATED}\"]}}"));
        check(rows(), At::Time(0), 2, &format!("{one},{}]}}}}", r#"{"metric":{"__name__":"b"},"value":[0,"2"]}"#));
    }

    #[test]
    fn annotations_follow_the_data() {
        let annotations = Annotations { warnings: vec!["w".into()], infos: vec!["i".into(), "j".into()] };
        let body = query_body(&QueryOutput { value: Value::Vector(vec![]), annotations }, At::Time(0), 0);
        let expected = r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["w"],"infos":["i","j"]}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn strings_escape_as_json_wants() {
        for text in ["", "plain", "ü🌊", "a\"b\\c\n\r\t", "\u{0}\u{1f}\u{7f}", "end\\"] {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
