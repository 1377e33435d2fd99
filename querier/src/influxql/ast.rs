//! What a text says.

use regex::Regex;

/// A compiled regular expression; equal to one of the same text.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As written, without slashes.
    pub text: String,
    /// Compiled.
    pub regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// The type that `::` says a reference has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// `::float`
    Float,
    /// `::integer`
    Integer,
    /// `::unsigned`
    Unsigned,
    /// `::string`
    String,
    /// `::boolean`
    Boolean,
    /// `::field`
    Field,
    /// `::tag`
    Tag,
}

/// A tag, a field or the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// The type it is to have.
    pub cast: Option<Cast>,
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// Digits.
    Integer(i64),
    /// Digits beyond those of a signed integer.
    Unsigned(u64),
    /// A number with a point.
    Number(f64),
    /// A text.
    String(String),
    /// `true` or `false`
    Boolean(bool),
    /// A duration in ns.
    Duration(i64),
    /// A time in ns; `now()` and texts become one where a time is expected.
    Time(i64),
    /// `/pattern/`
    Regex(Pattern),
}

/// An operator between two expressions, those that bind least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `OR`
    Or,
    /// `AND`
    And,
    /// `=`
    Equal,
    /// `!=`, `<>`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `|`
    BitOr,
    /// `^`
    BitXor,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `&`
    BitAnd,
}

impl Operator {
    /// How strongly it binds.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            op if op.is_comparison() => 3,
            Self::Add | Self::Subtract | Self::BitOr | Self::BitXor => 4,
            _ => 5,
        }
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Matches
                | Self::NotMatches
                | Self::Less
                | Self::LessEqual
                | Self::Greater
                | Self::GreaterEqual
        )
    }

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "OR",
            Self::And => "AND",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::NotMatches => "!~",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::BitAnd => "&",
        }
    }

    /// The operator when its sides change places.
    pub fn swapped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            op => op,
        }
    }
}

/// Something that has a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A tag, a field or the time.
    Reference(Reference),
    /// A function and its arguments; its name in lower case.
    Call(String, Vec<Expr>),
    /// `left op right`
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// All or any of several conditions: there may be thousands, and they are not nested.
    Logical(Operator, Vec<Expr>),
    /// A constant.
    Literal(Literal),
    /// `*`, `*::field`, `*::tag`
    Wildcard(Option<Cast>),
}

impl Expr {
    /// A reference without a cast.
    pub fn reference(name: impl Into<String>) -> Self {
        Self::Reference(Reference {
            name: name.into(),
            cast: None,
        })
    }

    /// Calls a function with this and all expressions in it, outer ones first.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        match self {
            Self::Call(_, args) | Self::Logical(_, args) => {
                args.iter().for_each(|arg| arg.walk(visit));
            }
            Self::Binary(_, left, right) => {
                left.walk(visit);
                right.walk(visit);
            }
            Self::Reference(_) | Self::Literal(_) | Self::Wildcard(_) => {}
        }
    }
}

/// A column of a `SELECT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its value.
    pub expr: Expr,
    /// Its name, if it says one.
    pub alias: Option<String>,
}

/// What is meant by a name of a measurement.
#[derive(Debug, Clone, PartialEq)]
pub enum MeasurementName {
    /// Every one.
    All,
    /// This one.
    Name(String),
    /// All that match.
    Regex(Pattern),
}

/// A measurement, or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The database, if it says one.
    pub database: Option<String>,
    /// The retention policy, if it says one.
    pub policy: Option<String>,
    /// Which.
    pub name: MeasurementName,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Measurements.
    Measurement(Measurement),
    /// A query in parentheses.
    Subquery(Box<Select>),
}

/// What `GROUP BY` names.
#[derive(Debug, Clone, PartialEq)]
pub enum Dimension {
    /// `time(every, offset)`
    Time(Vec<Expr>),
    /// A tag.
    Tag(String),
    /// `*`
    All,
    /// All tags that match.
    Regex(Pattern),
}

/// What stands in windows without points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// Null.
    Null,
    /// The windows are left out.
    None,
    /// An integer.
    Integer(i64),
    /// A float.
    Number(f64),
    /// The value of the window before.
    Previous,
    /// What lies on the line between the windows around.
    Linear,
}

/// `SELECT`
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// The columns.
    pub fields: Vec<Field>,
    /// Where rows come from.
    pub sources: Vec<Source>,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// `GROUP BY`
    pub dimensions: Vec<Dimension>,
    /// `fill()`
    pub fill: Fill,
    /// Whether the newest rows come first.
    pub descending: bool,
    /// Whether `ORDER BY` says so.
    pub is_ordered: bool,
    /// Most rows of a series; 0 is all.
    pub limit: u64,
    /// Rows of a series that are passed over.
    pub offset: u64,
    /// Most series; 0 is all.
    pub series_limit: u64,
    /// Series that are passed over.
    pub series_offset: u64,
    /// `tz()`
    pub zone: Option<chrono_tz::Tz>,
}

impl Select {
    fn databases<'a>(&'a self, named: Option<&'a str>, found: &mut Vec<&'a str>) {
        for source in &self.sources {
            match source {
                Source::Measurement(measurement) => {
                    found.extend(measurement.database.as_deref().or(named));
                }
                Source::Subquery(inner) => inner.databases(named, found),
            }
        }
    }
}

/// Which tag keys `SHOW TAG VALUES` means.
#[derive(Debug, Clone, PartialEq)]
pub enum TagKeys {
    /// `=`, `IN`
    OneOf(Vec<String>),
    /// `!=`
    NotOneOf(Vec<String>),
    /// `=~`
    Matching(Pattern),
    /// `!~`
    NotMatching(Pattern),
}

/// What a `SHOW` about series names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShowScope {
    /// `ON`
    pub database: Option<String>,
    /// `FROM`
    pub sources: Vec<Measurement>,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// Most rows; 0 is all.
    pub limit: u64,
    /// Rows that are passed over.
    pub offset: u64,
    /// Most series; 0 is all.
    pub series_limit: u64,
    /// Series that are passed over.
    pub series_offset: u64,
}

/// What `SHOW ... CARDINALITY` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Series.
    Series,
    /// Measurements.
    Measurements,
    /// Tag keys of each measurement.
    TagKeys,
    /// Values of tags of each measurement.
    TagValues,
    /// Fields of each measurement.
    FieldKeys,
}

/// How long a retention policy keeps points.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyOptions {
    /// The duration in ns; 0 is for ever.
    pub duration: Option<i64>,
    /// Its name.
    pub name: Option<String>,
    /// Whether it becomes the default one.
    pub is_default: bool,
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `SELECT`
    Select(Box<Select>),
    /// `EXPLAIN SELECT`
    Explain(Box<Select>),
    /// `SHOW DATABASES`
    ShowDatabases,
    /// `SHOW MEASUREMENTS`, with the names that are asked for.
    ShowMeasurements(ShowScope, Option<MeasurementName>),
    /// `SHOW SERIES`
    ShowSeries(ShowScope),
    /// `SHOW TAG KEYS`
    ShowTagKeys(ShowScope),
    /// `SHOW TAG VALUES`
    ShowTagValues(ShowScope, TagKeys),
    /// `SHOW FIELD KEYS`
    ShowFieldKeys(ShowScope),
    /// `SHOW ... CARDINALITY`
    ShowCardinality(ShowScope, Counted, Option<TagKeys>),
    /// `SHOW RETENTION POLICIES`
    ShowPolicies(Option<String>),
    /// A `SHOW` of something that does not exist here, whose answer has no rows.
    ShowNothing(Nothing),
    /// `CREATE DATABASE`
    CreateDatabase(String, PolicyOptions),
    /// `DROP DATABASE`
    DropDatabase(String),
    /// `CREATE RETENTION POLICY name ON database`
    CreatePolicy(String, String, PolicyOptions),
    /// `ALTER RETENTION POLICY name ON database`
    AlterPolicy(String, String, PolicyOptions),
    /// `DROP RETENTION POLICY name ON database`
    DropPolicy(String, String),
    /// `DROP MEASUREMENT`
    DropMeasurement(String),
    /// `DROP SERIES`
    DropSeries(Vec<Measurement>, Option<Expr>),
    /// `DELETE`
    Delete(Vec<Measurement>, Option<Expr>),
}

/// Things of InfluxDB that there are none of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// Continuous queries.
    ContinuousQueries,
    /// Subscriptions.
    Subscriptions,
    /// Users.
    Users,
}

impl Statement {
    /// The databases that it is about, where `named` is the one that names without one mean.
    pub fn databases<'a>(&'a self, named: Option<&'a str>) -> Vec<&'a str> {
        let mut found: Vec<&str> = Vec::new();
        match self {
            Self::Select(select) | Self::Explain(select) => select.databases(named, &mut found),
            Self::ShowDatabases | Self::ShowNothing(_) => {}
            Self::ShowMeasurements(scope, _)
            | Self::ShowSeries(scope)
            | Self::ShowTagKeys(scope)
            | Self::ShowTagValues(scope, _)
            | Self::ShowFieldKeys(scope)
            | Self::ShowCardinality(scope, ..) => {
                let own = scope.database.as_deref().or(named);
                let sources = scope.sources.iter();
                found.extend(sources.filter_map(|source| source.database.as_deref().or(own)));
                if scope.sources.is_empty() {
                    found.extend(own);
                }
            }
            Self::ShowPolicies(database) => found.extend(database.as_deref().or(named)),
            Self::CreateDatabase(database, _)
            | Self::DropDatabase(database)
            | Self::CreatePolicy(_, database, _)
            | Self::AlterPolicy(_, database, _)
            | Self::DropPolicy(_, database) => found.push(database),
            Self::DropMeasurement(_) | Self::DropSeries(..) | Self::Delete(..) => {
                found.extend(named);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether it only reads.
    pub fn is_read(&self) -> bool {
        !matches!(
            self,
            Self::CreateDatabase(..)
                | Self::DropDatabase(_)
                | Self::CreatePolicy(..)
                | Self::AlterPolicy(..)
                | Self::DropPolicy(..)
                | Self::DropMeasurement(_)
                | Self::DropSeries(..)
                | Self::Delete(..)
        )
    }
}
