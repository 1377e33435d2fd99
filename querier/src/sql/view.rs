//! How a table looks in SQL: a wide table as it is, a metric as a table of its own.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit as ArrowTimeUnit};
use tidelake_catalog::model::schema::{
    EXEMPLARS_TABLE, METRICS_TABLE, START_TIME_COLUMN, TIME_COLUMN, arrow_type, tag_type,
};
use tidelake_catalog::model::{
    Column, ColumnType, METRIC_NAME, Matcher, TableKind, TableSchema, TimeUnit,
};

/// The column of a metric's samples.
pub(super) const VALUE_COLUMN: &str = "value";

/// What users call the exemplars of a database.
pub(super) const EXEMPLARS_VIEW: &str = "exemplars";
/// The column with the name of a metric where several are together.
const METRIC_COLUMN: &str = "metric";

/// The type of tags in batches.
///
/// Views are repeated per row without looking at the text, and DataFusion groups, compares and
/// keeps the first or last of them by vectorised code; for dictionaries it falls back to encoding
/// row by row.
const TAG_TYPE: DataType = DataType::Utf8View;

/// Where a column of a view comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A label of the series.
    Tag(Arc<str>),
    /// The time of the row.
    Time,
    /// A stored field.
    Field(Column),
}

/// A table as a query sees it.
#[derive(Debug, PartialEq)]
pub(super) struct TableView {
    /// The stored table.
    pub table: Arc<str>,
    /// What the user calls it.
    pub name: Arc<str>,
    /// What the table holds.
    pub kind: TableKind,
    /// One per column of `schema`.
    pub origins: Vec<Origin>,
    /// Columns with the types of batches.
    pub schema: SchemaRef,
    /// What belongs to the view at all.
    pub matchers: Vec<Matcher>,
}

impl TableView {
    /// A wide table: tags, `time`, fields.
    pub fn wide(name: Arc<str>, schema: &TableSchema) -> Self {
        let tags = schema.tags().map(|tag| Origin::Tag(tag.name.clone()));
        let fields = schema.fields().map(|field| Origin::Field(field.clone()));
        let origins: Vec<Origin> = tags.chain([Origin::Time]).chain(fields).collect();
        let names: Vec<String> = origins
            .iter()
            .map(|origin| plain_name(origin).to_owned())
            .collect();
        Self {
            table: name.clone(),
            name,
            kind: schema.kind,
            schema: arrow_schema(&origins, &names, schema.kind),
            origins,
            matchers: Vec::new(),
        }
    }

    /// How many tags it shows, if these are columns of its table.
    pub fn tags(&self) -> Option<usize> {
        let tags = |origin: &&Origin| matches!(origin, Origin::Tag(_));
        (self.kind == TableKind::Wide).then(|| self.origins.iter().filter(tags).count())
    }

    /// A metric: `time`, the labels of its series in order of their names, `value`, and
    /// `start_time` if the stored table has it.
    ///
    /// A label that is called like one of the other columns gets the prefix `label_`.
    pub fn metric<'a>(
        name: &str,
        labels: impl IntoIterator<Item = &'a str>,
        stored: Option<&TableSchema>,
    ) -> Self {
        let value = Column {
            name: VALUE_COLUMN.into(),
            kind: ColumnType::Float,
        };
        let fields: Vec<Column> = [value]
            .into_iter()
            .chain(stored.and_then(|s| s.column(START_TIME_COLUMN)).cloned())
            .collect();
        let taken: Vec<&str> = [TIME_COLUMN]
            .into_iter()
            .chain(fields.iter().map(|field| &*field.name))
            .collect();
        let (mut origins, mut names) = tag_columns(labels, &taken);
        origins.insert(0, Origin::Time);
        names.insert(0, TIME_COLUMN.to_owned());
        names.extend(fields.iter().map(|field| field.name.to_string()));
        origins.extend(fields.into_iter().map(Origin::Field));
        Self {
            table: METRICS_TABLE.into(),
            name: name.into(),
            kind: TableKind::Metrics,
            schema: arrow_schema(&origins, &names, TableKind::Metrics),
            origins,
            matchers: vec![Matcher::equal(METRIC_NAME, name)],
        }
    }

    /// The exemplars of a database: `time`, `metric`, the labels of their series in order of their
    /// names, `value`, `labels`.
    ///
    /// A label that is called like one of the other columns gets the prefix `label_`.
    pub fn exemplars<'a>(labels: impl IntoIterator<Item = &'a str>, schema: &TableSchema) -> Self {
        let fields: Vec<Column> = schema.fields().cloned().collect();
        let taken: Vec<&str> = [TIME_COLUMN, METRIC_COLUMN]
            .into_iter()
            .chain(fields.iter().map(|field| &*field.name))
            .collect();
        let (mut origins, mut names) = tag_columns(labels, &taken);
        origins.splice(0..0, [Origin::Time, Origin::Tag(METRIC_NAME.into())]);
        names.splice(0..0, [TIME_COLUMN.to_owned(), METRIC_COLUMN.to_owned()]);
        names.extend(fields.iter().map(|field| field.name.to_string()));
        origins.extend(fields.into_iter().map(Origin::Field));
        Self {
            table: EXEMPLARS_TABLE.into(),
            name: EXEMPLARS_VIEW.into(),
            kind: schema.kind,
            schema: arrow_schema(&origins, &names, schema.kind),
            origins,
            matchers: Vec::new(),
        }
    }

    /// The unit of the time column.
    pub fn time_unit(&self) -> TimeUnit {
        self.kind.time_unit()
    }

    /// Where a column comes from, by its name.
    pub fn origin(&self, column: &str) -> Option<&Origin> {
        self.schema
            .index_of(column)
            .ok()
            .and_then(|at| self.origins.get(at))
    }

    /// The columns with the types that describe them to users: tags are dictionaries, as in the
    /// files.
    pub fn described(&self) -> SchemaRef {
        let fields = self
            .schema
            .fields()
            .iter()
            .zip(&self.origins)
            .map(|(field, origin)| match origin {
                Origin::Tag(_) => Field::new(field.name(), tag_type(), true),
                _ => field.as_ref().clone(),
            });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// Columns of labels in order of their names, without the metric's name; those whose names are
/// taken get a prefix.
fn tag_columns<'a>(
    labels: impl IntoIterator<Item = &'a str>,
    taken: &[&str],
) -> (Vec<Origin>, Vec<String>) {
    let mut labels: Vec<&str> = labels
        .into_iter()
        .filter(|label| *label != METRIC_NAME)
        .collect();
    labels.sort_unstable();
    labels.dedup();
    let column = |label: &&str| {
        let mut column = (*label).to_owned();
        if taken.contains(label) {
            column = format!("label_{column}");
            while labels.contains(&column.as_str()) {
                column = format!("label_{column}");
            }
        }
        (Origin::Tag(Arc::from(*label)), column)
    };
    labels.iter().map(column).unzip()
}

fn plain_name(origin: &Origin) -> &str {
    match origin {
        Origin::Tag(name) => name,
        Origin::Time => TIME_COLUMN,
        Origin::Field(column) => &column.name,
    }
}

fn arrow_schema(origins: &[Origin], names: &[String], kind: TableKind) -> SchemaRef {
    let unit = match kind.time_unit() {
        TimeUnit::Millisecond => ArrowTimeUnit::Millisecond,
        TimeUnit::Nanosecond => ArrowTimeUnit::Nanosecond,
    };
    let fields = origins
        .iter()
        .zip(names)
        .map(|(origin, name)| match origin {
            Origin::Tag(_) => Field::new(name, TAG_TYPE, true),
            Origin::Time => Field::new(name, DataType::Timestamp(unit, None), false),
            Origin::Field(column) => Field::new(name, arrow_type(column.kind), true),
        });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
