//! Comma separated values: each row is a line of line protocol.
//!
//! Which columns are tags and the time is said; the others are fields. What kind of field a column
//! is, its first thousand rows say, unless the command does: a column of numbers is one of floats.

use std::collections::HashMap;

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDateTime};
use clap::{Args, ValueEnum};
use csv::{ByteRecord, Reader, ReaderBuilder};
use tidelake_ingest::line_protocol::render;

use super::{Batch, BodyKind, Input, Position, Precision, RefusedLine, Source};

/// Rows that say what kinds of fields there are.
const SAMPLED_ROWS: usize = 1000;
/// Bytes of a bad row that are quoted.
const QUOTED_BYTES: usize = 512;

/// How CSV is read.
#[derive(Debug, Clone, Args)]
pub struct CsvArgs {
    /// Table that rows of CSV or Parquet go to
    #[arg(long)]
    pub(super) table: Option<String>,
    /// Column that is the time: RFC 3339, a date and a time in UTC, or a number
    #[arg(long, default_value = "time", value_name = "COLUMN")]
    pub(super) time_column: String,
    /// Unit of times that are numbers
    #[arg(long, value_enum, default_value = "ns", value_name = "UNIT")]
    pub(super) time_unit: Precision,
    /// Columns that are tags; all others are fields. Without it those of Parquet whose types say so
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub(super) tags: Vec<String>,
    /// Kinds of fields, such as requests=integer,host_id=string
    #[arg(long, value_delimiter = ',', value_name = "COLUMN=KIND")]
    types: Vec<String>,
    /// What stands between the columns
    #[arg(long, default_value = ",", value_name = "CHARACTER")]
    delimiter: char,
}

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Float,
    Integer,
    Unsigned,
    Boolean,
    String,
}

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Time,
    Tag,
    Field(Kind),
}

/// Rows of CSV as lines.
pub(super) struct CsvLines {
    reader: Reader<Input>,
    names: Vec<String>,
    roles: Vec<Role>,
    table: Vec<u8>,
    time_unit: Precision,
    batch_bytes: usize,
    /// Rows that were read to see what they are.
    sampled: std::vec::IntoIter<ByteRecord>,
    start: Position,
}

impl CsvLines {
    pub(super) fn new(
        input: Input,
        args: &CsvArgs,
        batch_bytes: usize,
        start: Position,
    ) -> anyhow::Result<Self> {
        let table = args.table.as_deref().context("CSV needs --table")?;
        let mut name = Vec::new();
        render::measurement(&mut name, table)?;
        let delimiter = u8::try_from(args.delimiter).context("--delimiter is not ASCII")?;
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .from_reader(input);
        let names: Vec<String> = reader
            .headers()
            .context("the header cannot be read")?
            .iter()
            .map(|name| name.trim_start_matches('\u{feff}').trim().to_owned())
            .collect();
        let has = |name: &String| match names.contains(name) {
            true => Ok(()),
            false => bail!(
                "there is no column {name:?}; the header has {}",
                names.join(", ")
            ),
        };
        has(&args.time_column)?;
        args.tags.iter().try_for_each(has)?;
        let mut kinds = HashMap::new();
        for text in &args.types {
            let (name, kind) = text
                .split_once('=')
                .with_context(|| format!("invalid --types {text:?}: use COLUMN=KIND"))?;
            let kind = Kind::from_str(kind, true)
                .map_err(|error| anyhow::anyhow!("invalid --types {text:?}: {error}"))?;
            has(&name.to_owned())?;
            kinds.insert(name, kind);
        }
        let mut sampled = Vec::new();
        let mut record = ByteRecord::new();
        while sampled.len() < SAMPLED_ROWS && reader.read_byte_record(&mut record)? {
            sampled.push(record.clone());
        }
        let role = |(column, name): (usize, &String)| {
            if *name == args.time_column {
                Role::Time
            } else if args.tags.contains(name) {
                Role::Tag
            } else {
                let values = sampled.iter().filter_map(|row| row.get(column));
                Role::Field(
                    kinds
                        .get(&**name)
                        .copied()
                        .unwrap_or_else(|| kind_of(values)),
                )
            }
        };
        Ok(Self {
            roles: names.iter().enumerate().map(role).collect(),
            reader,
            names,
            table: name,
            time_unit: args.time_unit,
            batch_bytes,
            sampled: sampled.into_iter(),
            start,
        })
    }

    fn next_row(&mut self, row: &mut ByteRecord) -> anyhow::Result<bool> {
        if let Some(sampled) = self.sampled.next() {
            *row = sampled;
            return Ok(true);
        }
        Ok(self.reader.read_byte_record(row)?)
    }

    /// Appends a row as a line; the error says what is wrong with it.
    fn line(&self, row: &ByteRecord, out: &mut Vec<u8>) -> Result<(), String> {
        if row.len() != self.names.len() {
            return Err(format!(
                "the row has {} columns, the header {}",
                row.len(),
                self.names.len()
            ));
        }
        let text = |column: usize| {
            let value = row.get(column).unwrap_or_default();
            let name = self.names.get(column).map_or("", |name| name);
            std::str::from_utf8(value)
                .map(|value| (name, value))
                .map_err(|_| format!("column {name:?} is not UTF-8"))
        };
        let of = |wanted: fn(&Role) -> bool| {
            let roles = self.roles.iter().enumerate();
            roles.filter(move |(_, role)| wanted(role))
        };
        out.extend_from_slice(&self.table);
        for (column, _) in of(|role| *role == Role::Tag) {
            let (name, value) = text(column)?;
            if !value.is_empty() {
                out.push(b',');
                render::key(out, name).map_err(|error| error.to_string())?;
                out.push(b'=');
                render::key(out, value).map_err(|error| error.to_string())?;
            }
        }
        let mut separator = b' ';
        for (column, role) in of(|role| matches!(role, Role::Field(_))) {
            let (name, value) = text(column)?;
            let Role::Field(kind) = role else { continue };
            if value.is_empty() {
                continue;
            }
            out.push(separator);
            separator = b',';
            render::key(out, name).map_err(|error| error.to_string())?;
            out.push(b'=');
            field(out, *kind, value).map_err(|reason| format!("column {name:?}: {reason}"))?;
        }
        if separator == b' ' {
            return Err("all its fields are empty".to_owned());
        }
        for (column, _) in of(|role| *role == Role::Time) {
            let (name, value) = text(column)?;
            let time = time(value, self.time_unit)
                .ok_or_else(|| format!("column {name:?}: {value:?} is no time"))?;
            render::end(out, time);
        }
        Ok(())
    }
}

impl Source for CsvLines {
    fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        let (mut body, mut lines, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = ByteRecord::new();
        let mut end = None;
        let lines_before = self.start.line;
        while body.len() < self.batch_bytes && self.next_row(&mut row)? {
            let place = row.position();
            let (offset, number) = place.map_or((0, 0), |at| (at.byte(), at.line()));
            // Imported before the import was interrupted.
            if offset < self.start.offset {
                continue;
            }
            let length = body.len();
            match self.line(&row, &mut body) {
                // A string with line feeds is one line here, and several there.
                Ok(()) => {
                    let feeds = memchr::memchr_iter(b'\n', &body[length..]).count();
                    lines.extend(std::iter::repeat_n(number, feeds));
                }
                Err(error) => {
                    body.truncate(length);
                    let mut original = row.iter().collect::<Vec<_>>().join(&b","[..]);
                    original.truncate(QUOTED_BYTES);
                    bad.push(RefusedLine {
                        line_number: number,
                        error_message: error,
                        original_line: String::from_utf8_lossy(&original).into_owned(),
                    });
                }
            }
            // Behind the start of this row; that of the next is not known yet.
            end = Some(Position {
                offset: offset + 1,
                line: number,
            });
        }
        let Some(end) = end else { return Ok(None) };
        self.start = end;
        Ok(Some(Batch {
            body,
            kind: BodyKind::LineProtocol(Precision::Ns),
            lines_before,
            lines: Some(lines),
            bad,
            end,
        }))
    }
}

/// What values are, empty ones aside.
fn kind_of<'a>(values: impl Iterator<Item = &'a [u8]> + Clone) -> Kind {
    let mut values = values
        .filter(|value| !value.is_empty())
        .map(|value| std::str::from_utf8(value).unwrap_or("\""))
        .peekable();
    let is_any = values.peek().is_some();
    let values: Vec<&str> = values.collect();
    if is_any && values.iter().all(|value| is_float(value)) {
        Kind::Float
    } else if is_any && values.iter().all(|value| boolean(value).is_some()) {
        Kind::Boolean
    } else {
        Kind::String
    }
}

fn is_float(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn field(out: &mut Vec<u8>, kind: Kind, text: &str) -> Result<(), String> {
    let no = |what: &str| format!("{text:?} is no {what}");
    let number = text.trim();
    match kind {
        Kind::Float => {
            let value = number.parse().map_err(|_| no("number"))?;
            render::float(out, value).map_err(|error| error.to_string())?;
        }
        Kind::Integer => render::integer(out, number.parse().map_err(|_| no("integer"))?),
        Kind::Unsigned => {
            render::unsigned(out, number.parse().map_err(|_| no("unsigned integer"))?);
        }
        Kind::Boolean => render::boolean(out, boolean(number).ok_or_else(|| no("boolean"))?),
        Kind::String => render::string(out, text),
    }
    Ok(())
}

/// A time in nanoseconds.
fn time(text: &str, unit: Precision) -> Option<i64> {
    let text = text.trim();
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.');
    if text.chars().skip(1).all(|c| c.is_ascii_digit() || c == '.') && text.starts_with(is_number) {
        return number(text, unit);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return time.timestamp_nanos_opt();
    }
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .and_then(|time| time.and_utc().timestamp_nanos_opt())
}

/// Digits, perhaps with a point, of some unit.
fn number(text: &str, unit: Precision) -> Option<i64> {
    let scale: i64 = match unit {
        Precision::Ns => 1,
        Precision::Us => 1_000,
        Precision::Ms => 1_000_000,
        Precision::S => 1_000_000_000,
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let mut rest = 0;
    let mut place = scale;
    for digit in part.chars() {
        place /= 10;
        rest += place * i64::from(digit.to_digit(10)?);
    }
    whole.checked_mul(scale)?.checked_add(sign * rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> CsvArgs {
        CsvArgs {
            table: Some("t x".to_owned()),
            time_column: "time".to_owned(),
            time_unit: Precision::S,
            tags: vec!["host".to_owned()],
            types: vec!["n=integer".to_owned()],
            delimiter: ',',
        }
    }

    fn source(text: &str, start: Position) -> anyhow::Result<CsvLines> {
        let input = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        CsvLines::new(input, &args(), 1 << 20, start)
    }

    #[test]
    fn rows_become_lines() {
        let text = "time,host,v,n,ok,note\n1,a b,1.5,7,true,\"say \"\"hi\"\"\nthere\"\n\
                    2,,2,,,\n3,c,x,1,false,\n4,c,,,,\n2024-01-01T00:00:00Z,c,4,,,é\nlate,c,1,1,true,\n5,6\n";
        let batch = source(text, Position::default())
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        // One of the first rows says that this column is no number.
        assert_eq!(
            String::from_utf8(batch.body).unwrap(),
            "t\\ x,host=a\\ b v=\"1.5\",n=7i,ok=true,note=\"say \\\"hi\\\"\nthere\" 1000000000\n\
             t\\ x v=\"2\" 2000000000\n\
             t\\ x,host=c v=\"x\",n=1i,ok=false 3000000000\n\
             t\\ x,host=c v=\"4\",note=\"é\" 1704067200000000000\n"
        );
        assert_eq!(batch.lines, Some(vec![2, 2, 4, 5, 7]));
        let bad: Vec<(u64, &str)> = batch
            .bad
            .iter()
            .map(|line| (line.line_number, &*line.error_message))
            .collect();
        assert_eq!(
            bad,
            [
                (6, "all its fields are empty"),
                (8, "column \"time\": \"late\" is no time"),
                (9, "the row has 2 columns, the header 6"),
            ]
        );
        // An import that was interrupted goes on behind what it had.
        let start = Position {
            offset: text.find("3,c").unwrap() as u64 + 1,
            line: 5,
        };
        let batch = source(text, start).unwrap().next().unwrap().unwrap();
        assert!(batch.body.starts_with(b"t\\ x,host=c v=\"4\""));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let check = |text: &str, word: &str| {
            let Err(error) = source(text, Position::default()) else {
                panic!("{text}");
            };
            assert!(format!("{error:#}").contains(word), "{error:#}");
        };
        check("", "no column \"time\"");
        check("time,v,n\n1,2,3", "no column \"host\"");
        check("time,host,v\n", "no column \"n\"");
    }

    #[test]
    fn times() {
        let check = |text: &str, unit, expected| assert_eq!(time(text, unit), expected, "{text}");
        check("1", Precision::S, Some(1_000_000_000));
        check("-1.5", Precision::S, Some(-1_500_000_000));
        check("-0.5", Precision::Ms, Some(-500_000));
        check(
            "1700000000.123456789",
            Precision::S,
            Some(1_700_000_000_123_456_789),
        );
        check("9223372036854775807", Precision::Ns, Some(i64::MAX));
        check("9223372036854775807", Precision::Us, None);
        check("1969-12-31T23:59:59.5Z", Precision::S, Some(-500_000_000));
        check("1970-01-01 00:00:01", Precision::S, Some(1_000_000_000));
        check(
            "1970-01-01T01:00:01+01:00",
            Precision::S,
            Some(1_000_000_000),
        );
        for text in ["", "x", "1x", ".", "-", "1e9", "1-2"] {
            check(text, Precision::S, None);
        }
    }
}
