//! Table schemas: which columns a table has, and what they may hold.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit as ArrowTimeUnit};
use serde::{Deserialize, Serialize};

use super::time::TimeUnit;

/// The name of the time column of every table.
pub const TIME_COLUMN: &str = "time";

/// The table that holds the Prometheus samples of a database. Names that begin with two underscores
/// are reserved: no measurement may have them.
pub const METRICS_TABLE: &str = "__metrics__";

/// The table that holds the exemplars of a database.
pub const EXEMPLARS_TABLE: &str = "__exemplars__";

/// The column of the exemplars table with an exemplar's own labels.
pub const LABELS_COLUMN: &str = "labels";

/// The column of the metrics table that says when what a sample counts began, if its sender says
/// so. The table has it from the first such sample on.
pub const START_TIME_COLUMN: &str = "start_time";

/// What a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TableKind {
    /// One measurement of line protocol: tags, time in nanoseconds, fields.
    Wide,
    /// All Prometheus samples of a database: metric, series id, time in milliseconds, value.
    Metrics,
    /// All Prometheus exemplars of a database: metric, series id, time in milliseconds, value,
    /// labels. No row replaces another.
    Exemplars,
}

impl TableKind {
    /// Whether rows name their series by metric and id, and its labels are in the series index
    /// only; otherwise labels are columns.
    pub const fn is_by_series_id(self) -> bool {
        matches!(self, TableKind::Metrics | TableKind::Exemplars)
    }

    /// The unit of the time column.
    pub const fn time_unit(self) -> TimeUnit {
        match self {
            TableKind::Wide => TimeUnit::Nanosecond,
            TableKind::Metrics | TableKind::Exemplars => TimeUnit::Millisecond,
        }
    }
}

/// What a column may hold. A column's type never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnType {
    /// A tag: a dictionary string, part of the series.
    Tag,
    /// A 64-bit float field.
    Float,
    /// A signed 64-bit integer field.
    Integer,
    /// An unsigned 64-bit integer field.
    Unsigned,
    /// A boolean field.
    Boolean,
    /// A string field.
    String,
    /// A native histogram (only in the metrics table).
    Histogram,
    /// A time in milliseconds (only in the metrics table).
    Timestamp,
    /// Names and values of labels (only in the exemplars table).
    Labels,
}

impl ColumnType {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Tag,
        Self::Float,
        Self::Integer,
        Self::Unsigned,
        Self::Boolean,
        Self::String,
        Self::Histogram,
        Self::Timestamp,
        Self::Labels,
    ];

    /// The word for messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            ColumnType::Tag => "tag",
            ColumnType::Float => "float",
            ColumnType::Integer => "integer",
            ColumnType::Unsigned => "unsigned integer",
            ColumnType::Boolean => "boolean",
            ColumnType::String => "string",
            ColumnType::Histogram => "histogram",
            ColumnType::Timestamp => "timestamp",
            ColumnType::Labels => "map of labels",
        }
    }
}

/// A tag or field of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Unique in the table, never `time`.
    pub name: Arc<str>,
    /// What it holds.
    pub kind: ColumnType,
}

/// What the name of a field has behind it whose name a tag has, too.
const SHARED_FIELD: &str = " (field)";

/// The name of the field of a column, if a tag of the table has it, too.
pub fn shared_name(column: &str) -> Option<&str> {
    column.strip_suffix(SHARED_FIELD)
}

/// The column of a field whose name a tag of the table has, too.
pub fn shared_field(name: &str) -> String {
    format!("{name}{SHARED_FIELD}")
}

/// A column that cannot be as asked, because it is something else already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field type conflict: column {column:?} is a {existing} and cannot be written as a {wanted}", existing = existing.as_str(), wanted = wanted.as_str())]
pub struct SchemaError {
    /// The column's name.
    pub column: String,
    /// Its type.
    pub existing: ColumnType,
    /// The type that was asked for.
    pub wanted: ColumnType,
}

/// The columns of a table, in the order in which they were added; `time` is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// What the table is for.
    pub kind: TableKind,
    /// Tags and fields; positions never change.
    pub columns: Vec<Column>,
}

impl TableSchema {
    /// A schema without tags or fields.
    pub fn new(kind: TableKind) -> Self {
        Self {
            kind,
            columns: Vec::new(),
        }
    }

    /// The schema of every metrics table. Its labels are not columns.
    pub fn metrics() -> Self {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        Self {
            kind: TableKind::Metrics,
            columns: vec![
                column("value", ColumnType::Float),
                column("histogram", ColumnType::Histogram),
            ],
        }
    }

    /// The schema of every exemplars table.
    pub fn exemplars() -> Self {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        Self {
            kind: TableKind::Exemplars,
            columns: vec![
                column("value", ColumnType::Float),
                column(LABELS_COLUMN, ColumnType::Labels),
            ],
        }
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| &*c.name == name)
    }

    /// The tags, in the order in which they were added. This is the order in which rows of a wide
    /// table are sorted, and in which its files list them.
    pub fn tags(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| c.kind == ColumnType::Tag)
    }

    /// The fields, in the order in which they were added.
    pub fn fields(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| c.kind != ColumnType::Tag)
    }

    /// The fields by what their senders call them: those that share the name of a tag have columns
    /// of other names.
    pub fn named_fields(&self) -> impl Iterator<Item = (&str, &Column)> {
        let is_tag = |name: &str| self.tags().any(|tag| *tag.name == *name);
        self.fields()
            .map(move |column| match shared_name(&column.name) {
                Some(name) if is_tag(name) => (name, column),
                _ => (&*column.name, column),
            })
    }

    /// Adds a column, or checks that it is there with this type. Returns whether it was added.
    pub fn ensure(&mut self, name: &str, kind: ColumnType) -> Result<bool, SchemaError> {
        match self.column(name) {
            Some(column) if column.kind == kind => Ok(false),
            Some(column) => Err(SchemaError {
                column: name.to_owned(),
                existing: column.kind,
                wanted: kind,
            }),
            None => {
                self.columns.push(Column {
                    name: name.into(),
                    kind,
                });
                Ok(true)
            }
        }
    }

    /// The Arrow type of a time column of this table.
    pub fn time_type(&self) -> DataType {
        let unit = match self.kind.time_unit() {
            TimeUnit::Millisecond => ArrowTimeUnit::Millisecond,
            TimeUnit::Nanosecond => ArrowTimeUnit::Nanosecond,
        };
        DataType::Timestamp(unit, None)
    }

    /// Rows of a wide table as SQL sees them: tags, `time`, fields.
    pub fn to_arrow(&self) -> SchemaRef {
        let field = |c: &Column| Field::new(&*c.name, arrow_type(c.kind), true);
        let time = Field::new(TIME_COLUMN, self.time_type(), false);
        Arc::new(Schema::new(
            self.tags()
                .map(field)
                .chain([time])
                .chain(self.fields().map(field))
                .collect::<Vec<_>>(),
        ))
    }
}

/// The Arrow type of a tag: a dictionary string.
pub fn tag_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The Arrow type of a column of labels: what a `MapBuilder` of texts makes.
fn labels_type() -> DataType {
    let entries = vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8, true),
    ];
    DataType::Map(
        Arc::new(Field::new(
            "entries",
            DataType::Struct(entries.into()),
            false,
        )),
        false,
    )
}

/// The Arrow type of a tag or field.
pub fn arrow_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Tag => tag_type(),
        ColumnType::Float => DataType::Float64,
        ColumnType::Integer => DataType::Int64,
        ColumnType::Unsigned => DataType::UInt64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::String => DataType::Utf8,
        ColumnType::Histogram => super::histogram::data_type(),
        ColumnType::Labels => labels_type(),
        ColumnType::Timestamp => DataType::Timestamp(ArrowTimeUnit::Millisecond, None),
    }
}
