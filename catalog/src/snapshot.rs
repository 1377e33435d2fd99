//! The state of the catalog after some commit, which never changes.
//!
//! Readers hold a [`Snapshot`] for as long as their query runs. A commit makes a new one that
//! shares all that it did not touch: each level (databases, tables, days) is behind its own `Arc`,
//! and only the path to a change is copied. Everything here is cheap to clone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Day, INTERNAL_DATABASE, Limits, LimitsOf, METRICS_TABLE, TableKind, TableSchema, TimeRange,
    Tokens, Tombstone,
};

mod extract;
mod node;
mod segment;

pub use node::{Node, Registration, Roles, WalPosition, knows};
pub use segment::{
    NotASegmentId, ORPHAN_AGE_MS, SegmentId, SegmentMeta, SegmentRef, is_clock_order,
};

/// What a metric is, as its target says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricKind {
    /// Not said.
    #[default]
    Unknown,
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets.
    Histogram,
    /// Buckets that go up and down.
    GaugeHistogram,
    /// Quantiles.
    Summary,
    /// Labels that inform.
    Info,
    /// Which of some states hold.
    StateSet,
}

impl MetricKind {
    /// The word of the Prometheus API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// What is known of a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricMetadata {
    /// What it is.
    pub kind: MetricKind,
    /// A sentence on it.
    pub help: Arc<str>,
    /// Its unit.
    pub unit: Arc<str>,
}

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// A table's rows as long as its database says; a database's for ever.
    #[default]
    Inherit,
    /// For ever.
    Forever,
    /// Until their time is so many milliseconds ago; not 0.
    Millis(u64),
}

/// The segments of one table and day, in write order.
pub type DaySegments = Vec<Arc<SegmentMeta>>;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: Arc<str>,
    /// The sequence of the commit that created it: tells it from others that had its name.
    pub id: u64,
    /// Its columns.
    pub schema: Arc<TableSchema>,
    /// How long its rows are kept.
    pub retention: Retention,
    /// What is deleted and may still be in segments, in the order of the deletes.
    pub tombstones: Arc<Vec<Arc<Tombstone>>>,
    /// Its segments by day; no day is empty.
    pub days: BTreeMap<Day, Arc<DaySegments>>,
}

impl Table {
    /// The segments that may hold rows of these times, day by day, within a day in write order.
    pub fn segments(&self, times: TimeRange) -> impl Iterator<Item = &Arc<SegmentMeta>> {
        let unit = self.schema.kind.time_unit();
        // An inverted range would panic in the map.
        let days = (!times.is_empty()).then(|| {
            self.days
                .range(unit.day_of(times.min)..=unit.day_of(times.max))
        });
        days.into_iter()
            .flatten()
            .flat_map(|(_, segments)| segments.iter())
            .filter(move |segment| segment.time.overlaps(&times))
    }

    /// The tombstones that delete rows of a segment.
    pub fn tombstones_of<'a>(
        &'a self,
        segment: &'a SegmentMeta,
    ) -> impl Iterator<Item = &'a Arc<Tombstone>> {
        self.tombstones.iter().filter(|tombstone| {
            tombstone.range.overlaps(&segment.time) && tombstone.sequence > segment.deletes_seen()
        })
    }

    /// A segment by day and id.
    pub fn segment(&self, day: Day, id: SegmentId) -> Option<&Arc<SegmentMeta>> {
        self.days.get(&day)?.iter().find(|segment| segment.id == id)
    }
}

/// What the retention policies of InfluxDB 1.x are called that a database has.
///
/// The points of its own policy are in the database itself, those of each other one in a database
/// `{database}/{policy}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    /// The one whose points are in the database itself.
    pub own: Arc<str>,
    /// The one that names without one mean.
    pub default: Arc<str>,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            own: "autogen".into(),
            default: "autogen".into(),
        }
    }
}

/// The database that another one is a retention policy of, or the one itself.
pub fn base_database(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: Arc<str>,
    /// Its tables by name.
    pub tables: BTreeMap<Arc<str>, Arc<Table>>,
    /// What is known of its metric families, by name.
    pub metadata: Arc<BTreeMap<Arc<str>, MetricMetadata>>,
    /// How long rows are kept of tables that say nothing else.
    pub retention: Retention,
    /// What its retention policies are called.
    pub policies: Policies,
}

impl Database {
    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(name)
    }

    /// The database in which the points of one of its retention policies are; `None` is the default
    /// one. It may not exist.
    pub fn stored_policy(&self, policy: Option<&str>) -> String {
        let policy = policy.unwrap_or(&self.policies.default);
        match *policy == *self.policies.own {
            true => self.name.to_string(),
            false => format!("{}/{policy}", self.name),
        }
    }

    /// How many milliseconds the rows of one of its tables are kept; `None` for ever.
    pub fn retention_ms(&self, table: &Table) -> Option<u64> {
        // Exemplars stay with their samples.
        let samples = (table.schema.kind == TableKind::Exemplars)
            .then(|| self.table(METRICS_TABLE).map(|samples| samples.retention));
        let own = match (table.retention, samples.flatten()) {
            (Retention::Inherit, Some(samples)) => samples,
            (own, _) => own,
        };
        match (own, self.retention) {
            (Retention::Millis(ms), _) | (Retention::Inherit, Retention::Millis(ms)) => Some(ms),
            (Retention::Forever, _)
            | (Retention::Inherit, Retention::Inherit | Retention::Forever) => None,
        }
    }

    /// The times of a table's rows that are not expired, in its unit. `now_ms` is milliseconds
    /// since 1970.
    pub fn kept(&self, table: &Table, now_ms: i64) -> TimeRange {
        match self.retention_ms(table) {
            None => TimeRange::ALL,
            Some(ms) => {
                let first_ms = now_ms.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX));
                TimeRange::new(
                    table.schema.kind.time_unit().from_millis(first_ms),
                    i64::MAX,
                )
            }
        }
    }
}

/// A segment that went and whose files may still be there: older snapshots name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The segment.
    pub segment: SegmentRef,
    /// When it went: [`Snapshot::time_ms`] of that commit.
    pub time_ms: i64,
}

/// The state of the catalog after the commit with number [`sequence`](Self::sequence).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub(crate) sequence: u64,
    pub(crate) time_ms: i64,
    pub(crate) databases: BTreeMap<Arc<str>, Arc<Database>>,
    pub(crate) nodes: BTreeMap<Arc<str>, Arc<Node>>,
    pub(crate) retired: BTreeMap<SegmentId, Arc<Retired>>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) limits: Arc<BTreeMap<LimitsOf, Limits>>,
}

impl Snapshot {
    /// Number of the last commit in it; 0 for the empty catalog.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When the last commit was made, in milliseconds since 1970: the latest of the clocks of all
    /// commits so far, so that it never goes back.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// All databases in order of their names.
    pub fn databases(&self) -> impl Iterator<Item = &Arc<Database>> {
        self.databases.values()
    }

    /// A database by name.
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.get(name)
    }

    /// A table by names.
    pub fn table(&self, database: &str, table: &str) -> Option<&Arc<Table>> {
        self.database(database)?.table(table)
    }

    /// A segment, if it is (still) there.
    pub fn segment(&self, segment: &SegmentRef) -> Option<&Arc<SegmentMeta>> {
        self.table(&segment.database, &segment.table)?
            .segment(segment.day, segment.id)
    }

    /// All segments.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<SegmentMeta>> {
        self.databases()
            .flat_map(|database| database.tables.values())
            .flat_map(|table| table.days.values())
            .flat_map(|day| day.iter())
    }

    /// Segments that went and whose files may still be there.
    pub fn retired(&self) -> impl Iterator<Item = &Arc<Retired>> {
        self.retired.values()
    }

    /// All nodes that ever registered, in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// What clients may show, and what they may then do.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// All limits that were set.
    pub fn limits(&self) -> &BTreeMap<LimitsOf, Limits> {
        &self.limits
    }

    /// The limits of a database: its own, and the defaults where it has none.
    pub fn limits_of(&self, database: &str) -> Limits {
        // What the server records about itself must come, whatever is set for others.
        if self.limits.is_empty() || database == INTERNAL_DATABASE {
            return Limits::default();
        }
        let get = |of| self.limits.get(&of).copied().unwrap_or_default();
        get(LimitsOf::Database(base_database(database).into())).or(get(LimitsOf::Default))
    }

    /// The limits of a token.
    pub fn limits_of_token(&self, id: u64) -> Limits {
        let limits = self.limits.get(&LimitsOf::Token(id));
        limits.copied().unwrap_or_default()
    }

    /// Whether every process that may be running understands [`knows`] up to this.
    pub fn all_know(&self, what: u32) -> bool {
        let mut running = self.nodes().filter(|node| !node.has_left);
        running.all(|node| node.knows >= what || node.roles == Roles::NONE)
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }
}
