//! The columns of one table while the lines of a body are read into them.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tidelake_catalog::model::schema::{SchemaError, TIME_COLUMN, shared_field};
use tidelake_catalog::model::{Column, ColumnType, Labels, TableKind, TableSchema};

use super::syntax::{self, Escapes};
use super::value::{self, Value};
use super::{Known, Line, LineLimits, LineOptions, TableRows};
use crate::column::{FieldColumn, FieldValues};
use crate::label_limits::LabelLimits;
use crate::retention::Oldest;
use crate::rows::Rows;
use crate::series_registry::{MAX_SERIES, NewSeriesSet, SeriesError, SeriesRegistry, Spelling};

/// Columns of a schema that are looked for one after the other; beyond as many an index is made.
const MAX_SEARCHED_COLUMNS: usize = 32;

struct Field {
    /// The key as first written, with the equals sign.
    key: Box<[u8]>,
    column: FieldColumn,
}

/// What the table had before the line that is being read.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    fields: usize,
    new_columns: usize,
    new_series: usize,
}

/// A row whose series is not registered yet.
struct PendingRow {
    row: usize,
    line: LineStart,
}

/// Where to find a line again.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineStart {
    pub(super) line: usize,
    pub(super) start: usize,
}

/// The rows of one table of one body.
pub(super) struct TableBuilder {
    pub(super) name: Arc<str>,
    /// `None` if the catalog does not know the table.
    schema: Option<Arc<TableSchema>>,
    pub(super) registry: Option<Arc<SeriesRegistry>>,
    oldest: Oldest,
    /// Where in the schema the last column was found: lines tend to go through it in order.
    schema_hint: usize,
    /// The columns of a large schema by name, made when they do not come in order.
    schema_index: Option<HashMap<Arc<str>, ColumnType>>,
    /// Columns that the schema lacks.
    new_columns: Vec<Column>,
    new_columns_index: HashMap<Arc<str>, ColumnType>,
    /// Sets of tag names that are known to be in the schema or in `new_columns`.
    name_sets: HashSet<u32>,
    /// The one that the line being read has added.
    added_name_set: Option<u32>,
    last_name_set: Option<u32>,
    new_series: NewSeriesSet,
    pending: Vec<PendingRow>,

    fields: Vec<Field>,
    fields_by_key: HashMap<Box<[u8]>, u32>,
    fields_by_name: HashMap<Arc<str>, u32>,
    /// The fields of the last line, in its order.
    order: Vec<u32>,
    series: Vec<u32>,
    time: Vec<i64>,
    mark: Mark,
}

/// What is left of a table at the end of the body.
pub(super) struct Finished {
    pub(super) rows: Option<TableRows>,
    /// Lines whose series could not be registered.
    pub(super) refused: Vec<(LineStart, SeriesError)>,
}

impl TableBuilder {
    pub(super) fn new(
        name: Arc<str>,
        schema: Option<Arc<TableSchema>>,
        registry: Option<Arc<SeriesRegistry>>,
        oldest: Oldest,
    ) -> Self {
        Self {
            name,
            schema,
            registry,
            oldest,
            schema_hint: 0,
            schema_index: None,
            new_columns: Vec::new(),
            new_columns_index: HashMap::new(),
            name_sets: HashSet::new(),
            added_name_set: None,
            last_name_set: None,
            new_series: NewSeriesSet::default(),
            pending: Vec::new(),
            fields: Vec::new(),
            fields_by_key: HashMap::new(),
            fields_by_name: HashMap::new(),
            order: Vec::new(),
            series: Vec::new(),
            time: Vec::new(),
            mark: Mark::default(),
        }
    }

    /// Reads the rest of a line whose measurement ends at `at`. If it fails,
    /// [`undo_line`](Self::undo_line) has to be called; the message then says what is wrong.
    pub(super) fn parse_line(
        &mut self,
        body: &[u8],
        mut at: usize,
        (line, start): (usize, usize),
        known: Known<'_>,
        options: &LineOptions,
    ) -> Result<Line, String> {
        self.mark = Mark {
            fields: self.fields.len(),
            new_columns: self.new_columns.len(),
            new_series: self.new_series.len(),
        };
        self.added_name_set = None;
        if self
            .schema
            .as_ref()
            .is_some_and(|s| s.kind != TableKind::Wide)
        {
            return Err(format!(
                "table {:?} holds Prometheus samples and takes no lines",
                self.name
            ));
        }
        let row = self.time.len();
        let mut feeds = 1;

        let (at_tags, tags_end) = (at, syntax::tags_end(body, at));
        let series = self.series_of(&body[at..tags_end], known, &options.limits)?;

        at = syntax::skip_blanks(body, tags_end);
        let mut count = 0;
        loop {
            let (field, value, end) =
                self.field(body, at, count, row, &body[at_tags..tags_end], options)?;
            if let Value::String { raw, .. } = value {
                feeds += memchr::memchr_iter(b'\n', raw).count();
            }
            let column = &mut self.fields[field].column;
            if !push(column, row, value) {
                return Err(conflict(&column.name, column.kind, value.kind()));
            }
            count += 1;
            match body.get(end) {
                Some(b',') => at = end + 1,
                Some(b' ') => {
                    at = syntax::skip_blanks(body, end);
                    break;
                }
                _ if syntax::line_end(body, end).is_some() => {
                    at = end;
                    break;
                }
                _ => return Err(after_value(body, at, end)),
            }
        }

        let (time, next) = match syntax::line_end(body, at) {
            Some(next) => (options.precision.truncate(options.now_ns), next),
            None => {
                let (time, end) = value::timestamp(body, at, options.precision)?;
                let next =
                    syntax::line_end(body, syntax::skip_blanks(body, end)).ok_or_else(|| {
                        format!(
                            "unexpected text after the timestamp {:?}",
                            syntax::shorten(&body[at..end])
                        )
                    })?;
                (time, next)
            }
        };
        if time < self.oldest.time {
            return Err(self.oldest.refusal(time));
        }
        if next - start > options.limits.line_bytes {
            return Err(format!(
                "the line is longer than {} bytes",
                options.limits.line_bytes
            ));
        }

        if series >= MAX_SERIES {
            self.pending.push(PendingRow {
                row,
                line: LineStart { line, start },
            });
        }
        self.series.push(series);
        self.time.push(time);
        Ok(Line { next, feeds })
    }

    /// Whether no line was good yet.
    pub(super) fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// Whether the catalog lacks the table.
    pub(super) fn is_new(&self) -> bool {
        self.schema.is_none()
    }

    /// Takes back what a line added before it failed.
    #[cold]
    pub(super) fn undo_line(&mut self) {
        let mark = self.mark;
        for field in self.fields.drain(mark.fields..) {
            self.fields_by_name.remove(&field.column.name);
            self.fields_by_key.remove(&field.key);
        }
        // The fields of the line are in `order`; those of the line before it, which may follow
        // there, have nothing to take back.
        let rows = self.time.len();
        for place in self.order.drain(..) {
            if let Some(field) = self.fields.get_mut(place as usize) {
                field.column.truncate(rows);
            }
        }
        for column in self.new_columns.drain(mark.new_columns..) {
            self.new_columns_index.remove(&column.name);
        }
        self.new_series.truncate(mark.new_series);
        if let Some(names) = self.added_name_set.take() {
            self.name_sets.remove(&names);
            self.last_name_set = None;
        }
    }

    /// The number of the series with these tags; from [`MAX_SERIES`] on its place among the new
    /// ones.
    #[inline]
    fn series_of(
        &mut self,
        raw: &[u8],
        known: Known<'_>,
        limits: &LineLimits,
    ) -> Result<u32, String> {
        let spelling = Spelling::of(raw);
        if let Some(known) = known
            && let Some((series, names)) = known.find(spelling)
        {
            if self.last_name_set != Some(names) {
                if !self.name_sets.contains(&names) {
                    if let Some(labels) = known.labels(series) {
                        self.ensure_tags(labels, limits)?;
                    }
                    self.name_sets.insert(names);
                    self.added_name_set = Some(names);
                }
                self.last_name_set = Some(names);
            }
            return Ok(series);
        }
        if let Some(place) = self.new_series.find(spelling) {
            return Ok(MAX_SERIES + place);
        }
        if raw.len() > limits.tags_bytes {
            return Err(format!(
                "the tags are longer than {} bytes",
                limits.tags_bytes
            ));
        }
        let labels = syntax::tags(raw, limits.name_bytes, &limits.labels)?;
        self.ensure_tags(&labels, limits)?;
        Ok(MAX_SERIES + self.new_series.push(spelling, labels))
    }

    fn ensure_tags(&mut self, labels: &Labels, limits: &LineLimits) -> Result<(), String> {
        for (name, _) in labels {
            match self.column(name) {
                Some(ColumnType::Tag) => {}
                Some(existing) => return Err(conflict(name, existing, ColumnType::Tag)),
                None => self.add_column(name.into(), ColumnType::Tag, limits)?,
            }
        }
        Ok(())
    }

    /// What a column is, in the catalog or by an earlier line.
    fn column(&mut self, name: &str) -> Option<ColumnType> {
        if let Some(schema) = &self.schema {
            let columns = &schema.columns;
            let is_it = |at: &usize| *columns[*at].name == *name;
            let next = self.schema_hint.min(columns.len());
            let found = if columns.len() <= MAX_SEARCHED_COLUMNS {
                (next..columns.len()).chain(0..next).find(is_it)
            } else {
                Some(next)
                    .filter(|next| *next < columns.len())
                    .filter(is_it)
            };
            if let Some(at) = found {
                self.schema_hint = at + 1;
                return Some(columns[at].kind);
            }
            if columns.len() > MAX_SEARCHED_COLUMNS {
                let all = || columns.iter().map(|c| (Arc::clone(&c.name), c.kind));
                let index = self.schema_index.get_or_insert_with(|| all().collect());
                if let Some(&kind) = index.get(name) {
                    return Some(kind);
                }
            }
        }
        self.new_columns_index.get(name).copied()
    }

    fn add_column(
        &mut self,
        name: Arc<str>,
        kind: ColumnType,
        limits: &LineLimits,
    ) -> Result<(), String> {
        if self.schema.as_ref().map_or(0, |s| s.columns.len()) + self.new_columns.len()
            >= limits.columns
        {
            return Err(format!(
                "column {name:?} cannot be added: a table has at most {} columns (setting \
                 max_columns)",
                limits.columns
            ));
        }
        self.new_columns_index.insert(name.clone(), kind);
        self.new_columns.push(Column { name, kind });
        Ok(())
    }

    /// Reads the field at `at`, the `nth` of its line. Gives its place, its value, and where that
    /// ends.
    #[inline]
    fn field<'b>(
        &mut self,
        body: &'b [u8],
        at: usize,
        nth: usize,
        row: usize,
        tags: &[u8],
        options: &LineOptions,
    ) -> Result<(usize, Value<'b>, usize), String> {
        if let Some(&expected) = self.order.get(nth)
            && let Some(field) = self.fields.get(expected as usize)
            && body[at..].starts_with(&field.key)
        {
            let (value, end) = value::value(body, at + field.key.len())?;
            return if field.column.next_row() > row {
                Err(twice(&field.column.name))
            } else {
                Ok((expected as usize, value, end))
            };
        }
        self.other_field(body, at, nth, row, tags, options)
    }

    /// As [`field`](Self::field), for a field that the line before did not have in this place.
    fn other_field<'b>(
        &mut self,
        body: &'b [u8],
        at: usize,
        nth: usize,
        row: usize,
        tags: &[u8],
        options: &LineOptions,
    ) -> Result<(usize, Value<'b>, usize), String> {
        let limits = &options.limits;
        let equals = syntax::field_key_end(body, at);
        if body.get(equals) != Some(&b'=') {
            return Err(no_field(body, at, equals));
        }
        let key = &body[at..=equals];
        let place = match self.fields_by_key.get(key) {
            Some(&place) => Some(place),
            None => {
                let name = syntax::name(
                    &body[at..equals],
                    Escapes::Key,
                    "field key",
                    limits.name_bytes,
                )?;
                if name == TIME_COLUMN {
                    return Err(format!("a field cannot be named {TIME_COLUMN:?}"));
                }
                let place = self.fields_by_name.get(name.as_ref()).copied();
                if let Some(place) = place {
                    self.fields_by_key.insert(key.into(), place);
                }
                place
            }
        };
        let (value, end) = value::value(body, equals + 1)?;
        let place = match place {
            Some(place)
                if self
                    .fields
                    .get(place as usize)
                    .is_some_and(|f| f.column.next_row() > row) =>
            {
                return Err(twice(&self.fields[place as usize].column.name));
            }
            Some(place) => place,
            None => {
                let name = syntax::unescape(&body[at..equals], Escapes::Key)?;
                let name: Arc<str> = match options.shares_names && self.is_shared(&name, tags) {
                    true => shared_field(&name).into(),
                    false => name.as_ref().into(),
                };
                let kind = value.kind();
                match self.column(&name) {
                    Some(existing) if existing != kind => {
                        return Err(conflict(&name, existing, kind));
                    }
                    Some(_) => {}
                    None => self.add_column(name.clone(), kind, limits)?,
                }
                let place = self.fields.len() as u32;
                self.fields_by_key.insert(key.into(), place);
                self.fields_by_name.insert(name.clone(), place);
                self.fields.push(Field {
                    key: key.into(),
                    column: FieldColumn::new(name, kind),
                });
                place
            }
        };
        self.order.truncate(nth);
        self.order.push(place);
        Ok((place as usize, value, end))
    }

    /// Whether a field has the name of a tag, and the line has both or an earlier one had.
    fn is_shared(&mut self, name: &str, tags: &[u8]) -> bool {
        if self.column(name) != Some(ColumnType::Tag) {
            return false;
        }
        let of_line = syntax::tags(tags, usize::MAX, &LabelLimits::NONE);
        of_line.is_ok_and(|tags| tags.get(name).is_some())
            || self.column(&shared_field(name)).is_some()
    }

    /// Registers the new series and gives the rows; `None` if there are none.
    pub(super) fn finish(
        mut self,
        registry: impl FnOnce() -> Arc<SeriesRegistry>,
    ) -> Option<Finished> {
        if self.time.is_empty() {
            return None;
        }
        let columns = self.fields.into_iter().map(|field| field.column);
        let mut rows = Rows {
            series: self.series,
            time: self.time,
            fields: columns.filter(|column| column.count() > 0).collect(),
        };
        let registry = self.registry.take().unwrap_or_else(registry);
        let registered = registry.insert_all(self.new_series.take());
        let mut refused = Vec::new();
        let mut keep: Vec<bool> = Vec::new();
        for pending in self.pending {
            let series = rows.series.get_mut(pending.row);
            let place = series.as_ref().and_then(|s| s.checked_sub(MAX_SERIES));
            let (Some(series), Some(place)) = (series, place) else {
                continue;
            };
            match registered.get(place as usize) {
                Some(Ok(found)) => *series = *found,
                Some(Err(error)) => {
                    refused.push((pending.line, error.clone()));
                    keep.resize(rows.time.len(), true);
                    keep[pending.row] = false;
                }
                None => {}
            }
        }
        if !keep.is_empty() {
            rows.retain(&keep);
            // Fields that only refused lines brought. (A tag may stay behind, which does no harm.)
            let used = |name: &Arc<str>| rows.fields.iter().any(|f| f.name == *name);
            self.new_columns
                .retain(|c| c.kind == ColumnType::Tag || used(&c.name));
        }
        let rows = (!rows.is_empty()).then(|| TableRows {
            table: self.name,
            is_new: self.schema.is_none(),
            new_columns: self.new_columns,
            rows,
            registry,
        });
        Some(Finished { rows, refused })
    }
}

/// Adds a value to a column; false if it is of another type.
#[inline]
fn push(column: &mut FieldColumn, row: usize, value: Value<'_>) -> bool {
    match (column.open_row(row), value) {
        (FieldValues::Float(v), Value::Float(x)) => v.push(x),
        (FieldValues::Integer(v), Value::Integer(x)) => v.push(x),
        (FieldValues::Unsigned(v), Value::Unsigned(x)) => v.push(x),
        (FieldValues::Boolean(v), Value::Boolean(x)) => v.push(x),
        (FieldValues::String { ends, bytes }, Value::String { raw, escaped }) => {
            if escaped {
                syntax::unescape_string(raw, bytes);
            } else {
                bytes.extend_from_slice(raw);
            }
            // The body is below 4 GiB, and so is what its strings amount to.
            ends.push(bytes.len() as u32);
        }
        _ => return false,
    }
    true
}

#[cold]
fn conflict(name: &str, existing: ColumnType, wanted: ColumnType) -> String {
    SchemaError {
        column: name.to_owned(),
        existing,
        wanted,
    }
    .to_string()
}

#[cold]
fn twice(name: &str) -> String {
    format!("field {name:?} is there twice")
}

#[cold]
fn no_field(body: &[u8], at: usize, end: usize) -> String {
    match &body[at..end] {
        b"" | b"\r" => "a field is missing: expected key=value".to_owned(),
        key => format!(
            "field {:?} has no value: expected '=' after its key",
            syntax::shorten(key)
        ),
    }
}

/// The message for a value that something strange follows. If it is no string, all of it is no
/// value.
#[cold]
fn after_value(body: &[u8], at: usize, end: usize) -> String {
    let value = syntax::field_key_end(body, at) + 1;
    match body.get(value) {
        Some(b'"') => format!(
            "unexpected {:?} after a string",
            syntax::shorten(&body[end..(end + 8).min(body.len())])
        ),
        Some(_) => value::invalid(body, value),
        None => "a field value is missing after '='".to_owned(),
    }
}
