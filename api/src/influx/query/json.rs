//! Answers in JSON, written row by row.

use std::io::Write as _;

use tidelake_querier::influxql::{Series, ValueRef};

use super::StatementResult;
use super::indent::Indenter;
use super::params::Epoch;
use crate::prometheus::go_float::write_value;
use crate::prometheus::json::write_string;
use crate::service::influxql::StatementAnswer;

/// Rows that are written at a time.
const PART_ROWS: usize = 256;

/// See the module.
pub struct JsonWriter {
    epoch: Epoch,
    /// Most rows of a chunk, if the answer comes in chunks: each a document of its own.
    chunk_rows: Option<usize>,
    indent: Option<Indenter>,
    /// Whether a document is open, and whether it has a result.
    is_open: bool,
    has_result: bool,
    /// The series of the present statement that is written, and its next row.
    series: usize,
    row: usize,
    /// Rows of the present chunk.
    in_chunk: usize,
    is_begun: bool,
}

impl JsonWriter {
    /// At the beginning of an answer.
    pub fn new(epoch: Epoch, chunk_rows: Option<usize>, is_pretty: bool) -> Self {
        Self {
            epoch,
            chunk_rows,
            indent: is_pretty.then(Indenter::default),
            is_open: false,
            has_result: false,
            series: 0,
            row: 0,
            in_chunk: 0,
            is_begun: false,
        }
    }

    /// Writes a part of a statement's result; returns whether there is more of it.
    pub fn write(&mut self, number: usize, result: &StatementResult, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let more = match result {
            Ok(answer) => self.write_answer(number, answer, out),
            Err(error) => {
                self.open(out);
                self.begin_result(number, out);
                out.extend_from_slice(b",\"error\":");
                write_string(out, &error.message);
                self.end_result(out);
                false
            }
        };
        self.indent_from(start, out);
        if !more {
            (self.series, self.row, self.in_chunk, self.is_begun) = (0, 0, 0, false);
        }
        more
    }

    /// Writes what ends the answer.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.chunk_rows.is_none() {
            self.open(out);
            out.extend_from_slice(b"]}\n");
        }
        self.indent_from(start, out);
    }

    fn indent_from(&mut self, start: usize, out: &mut Vec<u8>) {
        if let Some(indent) = &mut self.indent {
            let compact = out.split_off(start);
            indent.write(&compact, out);
        }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        if !self.is_open {
            out.extend_from_slice(b"{\"results\":[");
            (self.is_open, self.has_result) = (true, false);
        }
    }

    fn begin_result(&mut self, number: usize, out: &mut Vec<u8>) {
        if self.has_result {
            out.push(b',');
        }
        self.has_result = true;
        // Writing into memory cannot fail.
        drop(write!(out, "{{\"statement_id\":{number}"));
    }

    fn end_result(&mut self, out: &mut Vec<u8>) {
        out.push(b'}');
        if self.chunk_rows.is_some() {
            out.extend_from_slice(b"]}\n");
            self.is_open = false;
        }
    }

    fn write_answer(&mut self, number: usize, answer: &StatementAnswer, out: &mut Vec<u8>) -> bool {
        let all = answer.series();
        let Some(series) = all.get(self.series) else {
            self.open(out);
            self.begin_result(number, out);
            write_warnings(answer, out);
            self.end_result(out);
            return false;
        };
        if self.row == 0 || !self.is_begun {
            self.open(out);
            if self.series == 0 || self.chunk_rows.is_some() {
                self.begin_result(number, out);
                out.extend_from_slice(b",\"series\":[");
            } else {
                out.push(b',');
            }
            write_head(series, out);
            (self.is_begun, self.in_chunk) = (true, 0);
        }
        let most = self
            .chunk_rows
            .map_or(usize::MAX, |rows| rows - self.in_chunk);
        let end = series.len.min(self.row + PART_ROWS.min(most));
        for row in self.row..end {
            if self.in_chunk > 0 {
                out.push(b',');
            }
            self.in_chunk += 1;
            self.write_row(series, row, out);
        }
        self.row = end;
        let is_series_done = self.row == series.len;
        let is_chunk_done = self.chunk_rows.is_some_and(|rows| self.in_chunk >= rows);
        if !is_series_done && !is_chunk_done {
            return true;
        }
        out.push(b']');
        if !is_series_done {
            out.extend_from_slice(b",\"partial\":true");
        }
        out.push(b'}');
        if is_series_done {
            self.series += 1;
            self.row = 0;
        }
        let is_last = self.series == all.len();
        self.is_begun = false;
        if self.chunk_rows.is_some() || is_last {
            out.push(b']');
            if is_last {
                write_warnings(answer, out);
            } else {
                out.extend_from_slice(b",\"partial\":true");
            }
            self.end_result(out);
        }
        !is_last
    }

    fn write_row(&self, series: &Series, row: usize, out: &mut Vec<u8>) {
        out.push(b'[');
        let mut is_first = true;
        if let Some(times) = &series.times {
            self.epoch.write(out, times[row], series.zone);
            is_first = false;
        }
        for column in &series.values {
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            match column.get(row) {
                ValueRef::Float(value) if value.is_finite() => write_value(out, value),
                ValueRef::Null | ValueRef::Float(_) => out.extend_from_slice(b"null"),
                ValueRef::Integer(value) => drop(write!(out, "{value}")),
                ValueRef::Unsigned(value) => drop(write!(out, "{value}")),
                ValueRef::Boolean(value) => drop(write!(out, "{value}")),
                ValueRef::String(text) => write_string(out, text),
            }
        }
        out.push(b']');
    }
}

fn write_warnings(answer: &StatementAnswer, out: &mut Vec<u8>) {
    let messages = answer.warnings.as_slice();
    if messages.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"messages\":[");
    for (at, text) in messages.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"{" } else { b",{" });
        out.extend_from_slice(b"\"level\":\"warning\",\"text\":");
        write_string(out, text);
        out.push(b'}');
    }
    out.push(b']');
}

fn write_head(series: &Series, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(name) = &series.name {
        out.extend_from_slice(b"\"name\":");
        write_string(out, name);
        out.push(b',');
    }
    if !series.tags.is_empty() {
        out.extend_from_slice(b"\"tags\":{");
        for (at, (name, value)) in series.tags.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(out, name);
            out.push(b':');
            write_string(out, value);
        }
        out.extend_from_slice(b"},");
    }
    out.extend_from_slice(b"\"columns\":[");
    for (at, column) in series.columns.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, column);
    }
    out.extend_from_slice(b"],\"values\":[");
}
