//! Answers as tables and as CSV: a column for each label, then time and value.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::answer::Answer;

/// A column for each label, then `time` and `value`.
fn head(answer: &Answer) -> Vec<&str> {
    let mut head = answer.label_names();
    head.extend(["time", "value"]);
    head
}

fn rows<'a>(answer: &'a Answer) -> impl Iterator<Item = Vec<String>> + 'a {
    let names = answer.label_names();
    answer.series.iter().flat_map(move |series| {
        let labels: Vec<String> = names
            .iter()
            .map(|name| series.labels.get(*name).cloned().unwrap_or_default())
            .collect();
        series.samples.iter().map(move |(time, value)| {
            let mut row = labels.clone();
            row.push(shown_time(*time));
            row.push(value.clone());
            row
        })
    })
}

/// A time in seconds since 1970, as far as the calendar goes.
fn shown_time(seconds: f64) -> String {
    let ms = (seconds * 1000.0).round();
    match DateTime::from_timestamp_millis(ms as i64) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => seconds.to_string(),
    }
}

/// Prints a table, no wider than `width` if there is one.
pub fn print(answer: &Answer, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let head = head(answer);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    table.set_header(&head);
    if let Some(column) = table.column_mut(head.len() - 1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_rows(rows(answer));
    writeln!(out, "{table}")
}

/// Writes CSV (RFC 4180).
pub fn csv(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(head(answer)).map_err(of_output)?;
    for row in rows(answer) {
        writer.write_record(row).map_err(of_output)?;
    }
    writer.flush()
}

/// Records are as long as the head, so that only writing can fail. The conversion of the library
/// hides the kind.
fn of_output(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        kind => io::Error::other(format!("{kind:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let text = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"m","host":"a,b"},"value":[1.5,"2"]},
            {"metric":{"__name__":"m"},"value":[-1,"-0"]}]}}"#;
        Answer::read(text).unwrap()
    }

    #[test]
    fn a_series_is_a_row() {
        let mut out = Vec::new();
        print(&answer(), None, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["__name__", "host", "time", "value"]);
        assert_eq!(lines[1], ["m", "a,b", "1970-01-01T00:00:01.500Z", "2"]);
        assert_eq!(lines[2], ["m", "1969-12-31T23:59:59.000Z", "-0"]);
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut out = Vec::new();
        csv(&answer(), &mut out).unwrap();
        let expected = "__name__,host,time,value\n\
                        m,\"a,b\",1970-01-01T00:00:01.500Z,2\n\
                        m,,1969-12-31T23:59:59.000Z,-0\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
