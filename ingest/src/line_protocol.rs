//! Line protocol: `measurement,tag=value field=1.5,other=2i 1700000000000000000`.
//!
//! Bytes go straight into columns. A line that looks like the one before it (same measurement, same
//! fields in the same order, a series that the registry knows) allocates nothing: the measurement
//! and the keys are compared with what they were, the tags are found by their hash.
//!
//! A line counts whole or not at all. It is appended while it is read and taken back if it turns
//! out to be bad, together with the columns and series that only it would have added. A bad line
//! does not harm its neighbours: reading goes on behind it, with a string that goes over several
//! lines skipped as one, so that text inside a string is never read as a line.
//!
//! In the order of the data: `syntax` (where things end), `value` (numbers, strings, times),
//! `table` (columns of one table).

pub mod render;
mod syntax;
mod table;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashMap;
use tidelake_catalog::apply::MAX_NAME_BYTES;
use tidelake_catalog::model::{Column, TableSchema};

use crate::label_limits::LabelLimits;
use crate::retention::Oldest;
use crate::rows::Rows;
use crate::series_registry::SeriesError;
use crate::series_registry::{KnownSeries, SeriesRegistry};
use syntax::Escapes;
use table::TableBuilder;

pub use crate::wal::Precision;

/// What a body may ask for; a line that goes beyond is refused.
#[derive(Debug, Clone, Copy)]
pub struct LineLimits {
    /// Bytes of a line.
    pub line_bytes: usize,
    /// Bytes of the name of a table, tag or field; no more than the catalog takes.
    pub name_bytes: usize,
    /// Bytes of all tags of a line.
    pub tags_bytes: usize,
    /// Number and length of the tags of a line.
    pub labels: LabelLimits,
    /// Tags and fields of a table.
    pub columns: usize,
    /// Tables of all databases, for messages.
    pub tables: usize,
    /// Tables that there may still be more.
    pub tables_left: usize,
    /// Tables that one body may add.
    pub new_tables: usize,
    /// Lines whose errors are listed; those beyond are only counted.
    pub errors: usize,
}

impl Default for LineLimits {
    fn default() -> Self {
        Self {
            line_bytes: 8 << 20,
            name_bytes: MAX_NAME_BYTES,
            tags_bytes: 65_535,
            labels: LabelLimits::NONE,
            columns: usize::MAX,
            tables: usize::MAX,
            tables_left: usize::MAX,
            new_tables: 5_000,
            errors: 10_000,
        }
    }
}

/// How to read a body.
#[derive(Debug, Clone, Copy)]
pub struct LineOptions {
    /// Unit of the timestamps.
    pub precision: Precision,
    /// Time of lines without a timestamp, in nanoseconds; rounded down to the precision.
    pub now_ns: i64,
    /// What a body may ask for.
    pub limits: LineLimits,
    /// Whether a tag and a field of one line may share a name: the field then goes to the column
    /// [`shared_field`](tidelake_catalog::model::schema::shared_field).
    pub shares_names: bool,
}

impl LineOptions {
    /// With the default limits.
    pub fn new(precision: Precision, now_ns: i64) -> Self {
        Self {
            precision,
            now_ns,
            limits: LineLimits::default(),
            shares_names: false,
        }
    }
}

/// What the parser needs to know about the tables of the database.
pub trait TableLookup {
    /// The table's columns as the catalog has them now; `None` if there is no such table.
    fn schema(&self, table: &str) -> Option<Arc<TableSchema>>;
    /// The one registry of a table, made if need be. For a table that is not in the catalog it is
    /// asked for only if a good line names the table.
    fn registry(&self, table: &str) -> Arc<SeriesRegistry>;
    /// The oldest time that a table takes, also one that is not in the catalog yet.
    fn oldest(&self, table: &str) -> Oldest;
}

/// What a body holds.
#[derive(Debug, Default)]
pub struct ParsedLines {
    /// The tables with at least one good line, in the order in which they first appear.
    pub tables: Vec<TableRows>,
    /// Bad lines in ascending order, at most [`LineLimits::errors`].
    pub errors: Vec<LineError>,
    /// Number of good lines.
    pub lines_ok: usize,
    /// Number of bad lines.
    pub lines_refused: usize,
    /// Whether lines were refused because a series registry is full: the client may send them
    /// again later.
    pub registry_full: bool,
    /// Whether lines were refused because the database has as many series as it may.
    pub over_quota: bool,
}

/// The good lines of one table.
#[derive(Debug)]
pub struct TableRows {
    /// The table's name.
    pub table: Arc<str>,
    /// Whether the table is not in the catalog yet.
    pub is_new: bool,
    /// Tags and fields that are not in the catalog yet, in the order in which they appear.
    pub new_columns: Vec<Column>,
    /// The lines, in order.
    pub rows: Rows,
    /// The registry that the rows' series belong to.
    pub registry: Arc<SeriesRegistry>,
}

/// A line that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Its number, from 1; blank lines, comments and line feeds inside strings count.
    pub line: usize,
    /// Its beginning, at most [`ORIGINAL_BYTES`]; what is not UTF-8 is replaced.
    pub original: String,
    /// What is wrong with it.
    pub message: String,
}

impl LineError {
    /// Of a protocol that has no lines.
    pub(crate) fn of_request(message: String) -> Self {
        Self {
            line: 0,
            original: String::new(),
            message,
        }
    }
}

/// Bytes of a bad line that are quoted.
pub const ORIGINAL_BYTES: usize = 512;

/// Lines after which others get a chance to add series.
const LINES_PER_LOCK: usize = 1024;

/// Reads a body. It never fails as a whole: every bad line is listed, every good one is in a table.
pub fn parse(body: &[u8], options: &LineOptions, lookup: &dyn TableLookup) -> ParsedLines {
    let mut parser = Parser {
        body,
        at: 0,
        line: 1,
        options,
        lookup,
        tables: Vec::new(),
        by_raw: HashMap::new(),
        by_name: HashMap::new(),
        new_tables: 0,
        out: ParsedLines::default(),
    };
    // Strings of a column are found by 32-bit offsets.
    if u32::try_from(body.len()).is_err() {
        parser.refuse(
            0,
            body.len().min(ORIGINAL_BYTES),
            "the body is larger than 4 GiB".to_owned(),
        );
        return parser.out;
    }
    parser.run();
    parser.finish()
}

/// Bytes of the lines at the beginning of a text that are whole: the last line may go on behind the
/// text, and a string may have line feeds.
pub fn whole_lines(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(next) = syntax::whole_line(text, at) {
        at = next;
    }
    at
}

/// A line that was read to its end.
struct Line {
    /// Where the next one begins.
    next: usize,
    /// Line feeds in it, its own included.
    feeds: usize,
}

struct Parser<'b> {
    body: &'b [u8],
    at: usize,
    line: usize,
    options: &'b LineOptions,
    lookup: &'b dyn TableLookup,
    tables: Vec<TableBuilder>,
    /// By measurement as written.
    by_raw: HashMap<&'b [u8], usize>,
    by_name: HashMap<Arc<str>, usize>,
    new_tables: usize,
    out: ParsedLines,
}

impl<'b> Parser<'b> {
    fn run(&mut self) {
        // A byte order mark is no part of the first name.
        if self.body.starts_with(b"\xef\xbb\xbf") {
            self.at = 3;
        }
        while let Some((start, text)) = self.next_line() {
            let end = syntax::name_end(self.body, text);
            match self.table_of(&self.body[text..end]) {
                Ok(table) => self.run_of_lines(table, start, text, end),
                Err(message) => self.refuse_line(start, message),
            }
        }
    }

    /// Skips blank lines and comments. Gives where the next line begins, and where its text does.
    #[inline]
    fn next_line(&mut self) -> Option<(usize, usize)> {
        loop {
            let start = self.at;
            let text = syntax::skip_blanks(self.body, start);
            if let Some(next) = syntax::line_end(self.body, text) {
                if text == self.body.len() {
                    return None;
                }
                self.at = next;
                self.line += 1;
            } else if self.body[text] == b'#' {
                self.at = memchr::memchr(b'\n', &self.body[text..])
                    .map_or(self.body.len(), |n| text + n + 1);
                self.line += 1;
            } else {
                return Some((start, text));
            }
        }
    }

    /// Reads lines as long as they are of one table, with its registry held.
    fn run_of_lines(&mut self, table: usize, mut start: usize, text: usize, mut end: usize) {
        let name = &self.body[text..end];
        let registry = self.tables[table].registry.clone();
        let known = registry.as_ref().map(|r| r.read());
        for _ in 0..LINES_PER_LOCK {
            let at = (self.line, start);
            match self.tables[table].parse_line(self.body, end, at, known.as_ref(), self.options) {
                Ok(line) => {
                    self.at = line.next;
                    self.line += line.feeds;
                    self.out.lines_ok += 1;
                }
                Err(message) => {
                    self.tables[table].undo_line();
                    self.refuse_line(start, message);
                    if self.forget_if_empty(table, name) {
                        return;
                    }
                }
            }
            // Peek at the next line; if it is another table's, it is looked at again by the caller.
            let Some((next_start, text)) = self.next_line() else {
                return;
            };
            if self.body[text..].starts_with(name)
                && matches!(self.body.get(text + name.len()), Some(b',' | b' '))
            {
                (start, end) = (next_start, text + name.len());
            } else {
                self.at = next_start;
                return;
            }
        }
        // Given up the registry for a moment: the line that was peeked at is read again.
        self.at = start;
    }

    /// The builder of a measurement.
    fn table_of(&mut self, raw: &'b [u8]) -> Result<usize, String> {
        if let Some(&table) = self.by_raw.get(raw) {
            return Ok(table);
        }
        let limits = &self.options.limits;
        let name = syntax::name(raw, Escapes::Measurement, "measurement", limits.name_bytes)?;
        let table = match self.by_name.get(name.as_ref()) {
            Some(&table) => table,
            None => {
                let schema = self.lookup.schema(&name);
                if schema.is_none() && self.new_tables >= limits.tables_left {
                    return Err(format!(
                        "table {:?} cannot be created: all databases together have at most {} \
                         tables (setting max_tables)",
                        syntax::shorten(name.as_bytes()),
                        limits.tables
                    ));
                }
                if schema.is_none() && self.new_tables >= limits.new_tables {
                    return Err(format!(
                        "the body names more than {} tables that do not exist yet; send it in \
                         smaller parts",
                        limits.new_tables
                    ));
                }
                self.new_tables += usize::from(schema.is_none());
                let registry = schema.as_ref().map(|_| self.lookup.registry(&name));
                let name: Arc<str> = name.as_ref().into();
                self.by_name.insert(name.clone(), self.tables.len());
                let oldest = self.lookup.oldest(&name);
                self.tables
                    .push(TableBuilder::new(name, schema, registry, oldest));
                self.tables.len() - 1
            }
        };
        self.by_raw.insert(raw, table);
        Ok(table)
    }

    /// Forgets the newest table if its only line was bad: a body that is no line protocol at all
    /// would otherwise count as thousands of tables.
    fn forget_if_empty(&mut self, table: usize, raw: &[u8]) -> bool {
        if table + 1 != self.tables.len() || !self.tables[table].is_empty() {
            return false;
        }
        if let Some(builder) = self.tables.pop() {
            self.new_tables -= usize::from(builder.is_new());
            self.by_name.remove(&builder.name);
            self.by_raw.remove(raw);
        }
        true
    }

    /// Refuses the line that begins at `start` and goes on behind it.
    #[cold]
    fn refuse_line(&mut self, start: usize, message: String) {
        let skipped = syntax::skip_line(self.body, start);
        self.refuse(start, skipped.end, message);
        self.line += skipped.feeds;
        self.at = skipped.next;
    }

    fn refuse(&mut self, start: usize, end: usize, message: String) {
        self.out.lines_refused += 1;
        if self.out.errors.len() < self.options.limits.errors {
            // A message quotes what is wrong, which may be as long as a line.
            let message = quote(message.as_bytes());
            self.out.errors.push(LineError {
                line: self.line,
                original: quote(&self.body[start..end]),
                message,
            });
        }
    }

    fn finish(mut self) -> ParsedLines {
        let body = self.body;
        for table in self.tables {
            let name = table.name.clone();
            let Some(finished) = table.finish(|| self.lookup.registry(&name)) else {
                continue;
            };
            for (refused, error) in finished.refused {
                self.out.lines_ok -= 1;
                self.out.lines_refused += 1;
                self.out.registry_full |= matches!(error, SeriesError::Full { .. });
                self.out.over_quota |= matches!(error, SeriesError::OverQuota { .. });
                if self.out.errors.len() < self.options.limits.errors {
                    let end = syntax::skip_line(body, refused.start).end;
                    let original = quote(&body[refused.start..end]);
                    self.out.errors.push(LineError {
                        line: refused.line,
                        original,
                        message: quote(error.to_string().as_bytes()),
                    });
                }
            }
            if let Some(rows) = finished.rows {
                self.out.tables.push(rows);
            }
        }
        self.out.errors.sort_by_key(|e| e.line);
        self.out
    }
}

/// The beginning of a text, for an error. Not marked as cut, so that it is a prefix of what was
/// sent.
pub(crate) fn quote(text: &[u8]) -> String {
    let mut cut = text.len();
    if cut > ORIGINAL_BYTES {
        // Not in the middle of a character: continuation bytes are 10xxxxxx.
        cut = (ORIGINAL_BYTES - 3..=ORIGINAL_BYTES)
            .rev()
            .find(|&n| text[n] & 0xc0 != 0x80)
            .unwrap_or(ORIGINAL_BYTES);
    }
    String::from_utf8_lossy(&text[..cut]).into_owned()
}

type Known<'a> = Option<&'a KnownSeries<'a>>;
