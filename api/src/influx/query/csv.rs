//! Answers as comma-separated values, in the columns that InfluxDB's have: the measurement, the
//! tags, and the columns of the answer. Times are in ns.

use std::io::Write as _;

use tidelake_querier::influxql::{Series, ValueRef};

use super::StatementResult;
use super::params::Epoch;
use crate::prometheus::go_float::write_value;

/// Rows that are written at a time.
const PART_ROWS: usize = 256;

/// See the module.
pub struct CsvWriter {
    epoch: Epoch,
    has_written: bool,
    series: usize,
    row: usize,
}

impl CsvWriter {
    /// At the beginning of an answer.
    pub fn new(epoch: Epoch) -> Self {
        let epoch = match epoch {
            Epoch::Text => Epoch::Number(1),
            epoch => epoch,
        };
        Self {
            epoch,
            has_written: false,
            series: 0,
            row: 0,
        }
    }

    /// Writes a part of a statement's result; returns whether there is more of it.
    pub fn write(&mut self, _: usize, result: &StatementResult, out: &mut Vec<u8>) -> bool {
        let more = match result {
            Ok(answer) => self.write_part(answer.series(), out),
            Err(error) => {
                self.separate(out);
                out.extend_from_slice(b"error\n");
                write_text(out, &error.message);
                out.push(b'\n');
                false
            }
        };
        if !more {
            (self.series, self.row) = (0, 0);
        }
        more
    }

    /// An empty line stands before each new head.
    fn separate(&mut self, out: &mut Vec<u8>) {
        if self.has_written {
            out.push(b'\n');
        }
        self.has_written = true;
    }

    fn write_part(&mut self, all: &[Series], out: &mut Vec<u8>) -> bool {
        let Some(series) = all.get(self.series) else {
            return false;
        };
        let before = self.series.checked_sub(1).and_then(|at| all.get(at));
        if self.row == 0 && before.is_none_or(|before| before.columns != series.columns) {
            self.separate(out);
            out.extend_from_slice(b"name,tags");
            for column in series.columns.iter() {
                out.push(b',');
                write_text(out, column);
            }
            out.push(b'\n');
        }
        let tags: Vec<String> = series
            .tags
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let tags = tags.join(",");
        let end = series.len.min(self.row + PART_ROWS);
        for row in self.row..end {
            write_text(out, series.name.as_deref().unwrap_or(""));
            out.push(b',');
            write_text(out, &tags);
            if let Some(times) = &series.times {
                out.push(b',');
                self.epoch.write(out, times[row], None);
            }
            for column in &series.values {
                out.push(b',');
                match column.get(row) {
                    ValueRef::Null => {}
                    ValueRef::Float(value) => write_value(out, value),
                    ValueRef::Integer(value) => drop(write!(out, "{value}")),
                    ValueRef::Unsigned(value) => drop(write!(out, "{value}")),
                    ValueRef::Boolean(value) => drop(write!(out, "{value}")),
                    ValueRef::String(text) => write_text(out, text),
                }
            }
            out.push(b'\n');
        }
        self.row = end;
        if self.row == series.len {
            (self.series, self.row) = (self.series + 1, 0);
        }
        self.series < all.len()
    }
}

/// Appends a cell, in quotes if it needs them (RFC 4180).
fn write_text(out: &mut Vec<u8>, text: &str) {
    if !text.contains(['"', ',', '\n', '\r']) && !text.starts_with(' ') {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
