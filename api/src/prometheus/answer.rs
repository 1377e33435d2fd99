//! Successful answers of the Prometheus API: results of queries row by row, lists, and what needs
//! no speed.
//!
//! Rows are let go as they are written, so that what waits for a slow client only gets less.
use std::sync::Arc;
use std::vec::IntoIter;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidelake_catalog::model::{Histogram, Labels, is_stale};
use tidelake_querier::promql::digits::plain;

use crate::http::json_stream::json_response;
use crate::http::paced_body::Pace;
use crate::node::backend::{
    Annotations, Answer, QueryOutput, RangeSeries, SeriesRow, Steps, Value,
};
use crate::prometheus::go_float::write_time;
use crate::prometheus::json::{
    write_histogram_sample, write_labels, write_sample, write_string, write_texts,
};
use crate::service::error::ServiceError;
use crate::service::promql::At;
use crate::service::slots::QuerySlot;

/// Said when `limit` cut an answer.
pub const TRUNCATED: &str = "results truncated due to limit";

/// Most warnings, and most infos, that an answer tells; the rest are counted.
const MAX_ANNOTATIONS: usize = 10;

/// A row is written in parts of about this size, and of at most so many samples.
const PART_BYTES: usize = 16 << 10;
const PART_SAMPLES: usize = 4096;

/// The body of an answer that needs no speed.
pub fn success(data: serde_json::Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}

/// The same with warnings, if there are any.
pub fn success_with(data: serde_json::Value, warnings: Vec<String>) -> Response {
    if warnings.is_empty() {
        return success(data);
    }
    Json(json!({ "status": "success", "data": data, "warnings": warnings })).into_response()
}

/// A list, as `labels`, `label/x/values` and `series` answer.
pub async fn list_answer<T: Send + 'static>(
    mut answer: Answer<Vec<T>>,
    write: impl Fn(&mut Vec<u8>, &T) + Send + 'static,
    pace: &Pace,
    slot: QuerySlot,
) -> Result<Response, ServiceError> {
    let mut items = std::mem::take(&mut answer.value).into_iter();
    let mut begun = false;
    let write = move |out: &mut Vec<u8>| {
        out.extend_from_slice(if begun {
            b","
        } else {
            b"{\"status\":\"success\",\"data\":["
        });
        begun = true;
        if let Some(item) = items.next() {
            write(out, &item);
        }
        if items.len() > 0 {
            return true;
        }
        out.push(b']');
        write_texts(out, "warnings", &answer.warnings);
        out.push(b'}');
        false
    };
    json_response(write, pace, slot).await
}

/// The answer to a query, with at most `limit` series (0: all); `stats` is a JSON object. The query
/// keeps its slot until the answer is sent.
pub async fn query_answer(
    output: QueryOutput,
    at: At,
    limit: usize,
    stats: Option<String>,
    pace: &Pace,
    slot: QuerySlot,
) -> Result<Response, ServiceError> {
    let mut answer = QueryAnswer::new(output, at, limit, stats);
    json_response(move |out| answer.write(out), pace, slot).await
}

/// The body of an answer to a range query, in one piece: for measuring.
pub fn encoded(output: QueryOutput, steps: Steps) -> Vec<u8> {
    let mut answer = QueryAnswer::new(output, At::Steps(steps), 0, None);
    let mut body = Vec::new();
    while answer.write(&mut body) {}
    body
}

/// How far an answer is written.
struct QueryAnswer {
    rows: IntoIter<Row>,
    /// The row that is being written.
    open: Option<OpenRow>,
    /// What stands before the rows, until it is written.
    head: Option<Vec<u8>>,
    is_list: bool,
    written: usize,
    limit: usize,
    annotations: Annotations,
    stats: Option<String>,
    #[allow(
        dead_code,
        reason = "what the query counts as held is held until the answer is sent"
    )]
    rest: QueryOutput,
}

/// A series of the answer.
enum Row {
    /// With one value at most.
    Instant(i64, SeriesRow),
    /// With a value at each step at most.
    Steps(Steps, SeriesRow),
    /// With samples as they are.
    Raw(RangeSeries),
}

/// A row of which a part is written.
struct OpenRow {
    row: Row,
    /// Position among the floats and then the histograms.
    next: usize,
    list: Option<List>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Values,
    Histograms,
}

impl QueryAnswer {
    fn new(mut output: QueryOutput, at: At, limit: usize, stats: Option<String>) -> Self {
        let mut head = b"{\"status\":\"success\",\"data\":{\"resultType\":".to_vec();
        let mut rows: Vec<Row> = Vec::new();
        let value = std::mem::replace(&mut output.value, Value::Vector(Vec::new()));
        let is_list = match (value, at) {
            (Value::Scalar(values), At::Time(ms)) => {
                head.extend_from_slice(b"\"scalar\",\"result\":");
                write_scalar(&mut head, ms, values.first().copied().unwrap_or(f64::NAN));
                false
            }
            (Value::String(text), at) => {
                head.extend_from_slice(b"\"string\",\"result\":[");
                write_time(&mut head, at.start_ms());
                head.push(b',');
                write_string(&mut head, &text);
                head.push(b']');
                false
            }
            (Value::Scalar(values), At::Steps(steps)) => {
                head.extend_from_slice(b"\"matrix\",\"result\":[");
                rows.push(Row::Steps(
                    steps,
                    SeriesRow {
                        labels: Labels::empty(),
                        values,
                        histograms: None,
                    },
                ));
                true
            }
            (Value::Vector(found), At::Time(ms)) => {
                head.extend_from_slice(b"\"vector\",\"result\":[");
                rows.extend(found.into_iter().map(|row| Row::Instant(ms, row)));
                true
            }
            (Value::Vector(found), At::Steps(steps)) => {
                head.extend_from_slice(b"\"matrix\",\"result\":[");
                rows.extend(found.into_iter().map(|row| Row::Steps(steps, row)));
                true
            }
            (Value::RangeVector(found), _) => {
                head.extend_from_slice(b"\"matrix\",\"result\":[");
                rows.extend(found.into_iter().map(Row::Raw));
                true
            }
        };
        let Annotations { warnings, infos } = std::mem::take(&mut output.annotations);
        let annotations = Annotations {
            warnings: told(warnings, "warning"),
            infos: told(infos, "info"),
        };
        Self {
            rows: rows.into_iter(),
            open: None,
            head: Some(head),
            is_list,
            written: 0,
            limit,
            annotations,
            stats,
            rest: output,
        }
    }

    /// Writes a little more; whether there is still more.
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(head) = self.head.take() {
            out.extend_from_slice(&head);
            return true;
        }
        if let Some(open) = &mut self.open {
            if open.write(out) {
                self.open = None;
            }
            return true;
        }
        // A series without any sample is none.
        match self.rows.find(|row| !row.is_empty()) {
            Some(_) if self.limit > 0 && self.written == self.limit => {
                self.rows = Vec::new().into_iter();
                self.annotations.warnings.push(TRUNCATED.to_owned());
                true
            }
            Some(row) => {
                if self.written > 0 {
                    out.push(b',');
                }
                self.written += 1;
                self.open = row.begin(out);
                true
            }
            None => {
                self.end(out);
                false
            }
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        if self.is_list {
            out.push(b']');
        }
        if let Some(stats) = &self.stats {
            out.extend_from_slice(b",\"stats\":");
            out.extend_from_slice(stats.as_bytes());
        }
        out.push(b'}');
        write_texts(out, "warnings", &self.annotations.warnings);
        write_texts(out, "infos", &self.annotations.infos);
        out.push(b'}');
    }
}

impl Row {
    fn labels(&self) -> &Labels {
        match self {
            Row::Instant(_, row) | Row::Steps(_, row) => &row.labels,
            Row::Raw(series) => &series.labels,
        }
    }

    /// Places that may hold a float, and after these places that may hold a histogram.
    fn places(&self) -> (usize, usize) {
        match self {
            Row::Instant(_, row) => (
                row.values.len().min(1),
                row.histograms.as_ref().map_or(0, |all| all.len().min(1)),
            ),
            Row::Steps(_, row) => (
                row.values.len(),
                row.histograms.as_ref().map_or(0, Vec::len),
            ),
            Row::Raw(series) => (series.floats.len(), series.histograms.len()),
        }
    }

    /// The first float at a place or after it: where, when and which.
    fn next_float(&self, from: usize) -> Option<(usize, i64, f64)> {
        let present = |row: &SeriesRow| {
            let at = from
                + row
                    .values
                    .get(from..)?
                    .iter()
                    .position(|value| !is_stale(*value))?;
            Some((at, *row.values.get(at)?))
        };
        match self {
            Row::Instant(ms, row) => present(row).map(|(at, value)| (at, *ms, value)),
            Row::Steps(steps, row) => present(row).map(|(at, value)| (at, time(*steps, at), value)),
            Row::Raw(series) => series
                .floats
                .get(from)
                .map(|(ms, value)| (from, *ms, *value)),
        }
    }

    fn histogram(&self, place: usize) -> Option<(i64, &Arc<Histogram>)> {
        match self {
            Row::Instant(ms, row) => Some((*ms, row.histograms.as_ref()?.get(place)?.as_ref()?)),
            Row::Steps(steps, row) => Some((
                time(*steps, place),
                row.histograms.as_ref()?.get(place)?.as_ref()?,
            )),
            Row::Raw(series) => series
                .histograms
                .get(place)
                .map(|(ms, histogram)| (*ms, histogram)),
        }
    }

    fn is_empty(&self) -> bool {
        let (_, histograms) = self.places();
        self.next_float(0).is_none()
            && !(0..histograms).any(|place| self.histogram(place).is_some())
    }

    /// Writes the labels, and a single value too; what is left is an open row.
    fn begin(self, out: &mut Vec<u8>) -> Option<OpenRow> {
        out.extend_from_slice(b"{\"metric\":");
        write_labels(out, self.labels());
        let Row::Instant(..) = &self else {
            return Some(OpenRow {
                row: self,
                next: 0,
                list: None,
            });
        };
        if let Some((ms, histogram)) = self.histogram(0) {
            out.extend_from_slice(b",\"histogram\":");
            write_histogram_sample(out, ms, histogram);
        } else if let Some((_, ms, value)) = self.next_float(0) {
            out.extend_from_slice(b",\"value\":");
            write_sample(out, ms, value);
        }
        out.push(b'}');
        None
    }
}

/// A scalar is the only value that is never written with an exponent, however large or small.
fn write_scalar(out: &mut Vec<u8>, ms: i64, value: f64) {
    out.push(b'[');
    write_time(out, ms);
    out.extend_from_slice(format!(",\"{}\"]", plain(value)).as_bytes());
}

/// The first annotations, and how many more there are.
fn told(mut all: Vec<String>, kind: &str) -> Vec<String> {
    let more = all.len().saturating_sub(MAX_ANNOTATIONS);
    if more > 0 {
        all.truncate(MAX_ANNOTATIONS);
        all.push(format!("{more} more {kind} annotations omitted"));
    }
    all
}

fn time(steps: Steps, place: usize) -> i64 {
    steps
        .start_ms
        .saturating_add(steps.step_ms.saturating_mul(place as i64))
}

impl OpenRow {
    /// Writes some samples; whether these were the last.
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let (floats, histograms) = self.row.places();
        let begun = out.len();
        for _ in 0..PART_SAMPLES {
            if out.len() - begun >= PART_BYTES {
                break;
            }
            if self.next < floats {
                let Some((place, ms, value)) = self.row.next_float(self.next) else {
                    self.next = floats;
                    continue;
                };
                self.next = place + 1;
                self.separate(out, List::Values);
                write_sample(out, ms, value);
                continue;
            }
            let place = self.next;
            self.next += 1;
            if place < floats + histograms {
                if let Some((ms, histogram)) = self.row.histogram(place - floats) {
                    let histogram = Arc::clone(histogram);
                    self.separate(out, List::Histograms);
                    write_histogram_sample(out, ms, &histogram);
                }
            } else {
                out.extend_from_slice(if self.list.is_some() { b"]}" } else { b"}" });
                return true;
            }
        }
        false
    }

    /// Writes what stands before a sample of a list.
    fn separate(&mut self, out: &mut Vec<u8>, list: List) {
        if self.list == Some(list) {
            return out.push(b',');
        }
        if self.list.is_some() {
            out.push(b']');
        }
        self.list = Some(list);
        out.extend_from_slice(if list == List::Values {
            b",\"values\":["
        } else {
            b",\"histograms\":["
        });
    }
}

#[cfg(test)]
mod tests;
