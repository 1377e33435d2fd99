//! Between messages and the types that the program works with. Whatever a message holds, converting
//! it answers an error at worst: messages come from the store.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    AdvanceWal, Change, Checkpoint, Column, Database, Kind, Matcher, Metadata, Node, Removed,
    Retired, Segment, SetPolicies, SortOrder, Table, Tombstone,
};
use crate::model::{self, ColumnType, Day, MatchOp, TableKind, TableSchema, TimeRange};
use crate::snapshot::{
    self, MetricKind, MetricMetadata, Policies, Retention, Roles, SegmentId, SegmentMeta,
    SegmentRef, Snapshot, WalPosition,
};

/// A number in a message that means nothing to this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is not known to this version")]
pub struct Unknown {
    what: &'static str,
    value: u64,
}

impl Unknown {
    pub(crate) const fn new(what: &'static str, value: u64) -> Self {
        Self { what, value }
    }
}

const fn unknown(what: &'static str, value: u64) -> Unknown {
    Unknown::new(what, value)
}

impl From<Kind> for Change {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

pub(crate) fn id(high: u64, low: u64) -> SegmentId {
    SegmentId((u128::from(high) << 64) | u128::from(low))
}

/// Upper and lower half.
pub(crate) fn id_halves(id: SegmentId) -> (u64, u64) {
    ((id.0 >> 64) as u64, id.0 as u64)
}

/// A removed segment of a table.
pub(crate) fn reference(database: &Arc<str>, table: &Arc<str>, message: &Removed) -> SegmentRef {
    let id = id(message.id_high, message.id_low);
    SegmentRef {
        database: Arc::clone(database),
        table: Arc::clone(table),
        day: Day(message.day),
        id,
    }
}

pub(crate) fn removed_message(segment: &SegmentRef) -> Removed {
    let (id_high, id_low) = id_halves(segment.id);
    Removed {
        day: segment.day.0,
        id_high,
        id_low,
    }
}

pub(crate) const fn table_kind_number(kind: TableKind) -> u32 {
    match kind {
        TableKind::Wide => 1,
        TableKind::Metrics => 2,
        TableKind::Exemplars => 3,
    }
}

pub(crate) fn table_kind(number: u32) -> Result<TableKind, Unknown> {
    match number {
        1 => Ok(TableKind::Wide),
        2 => Ok(TableKind::Metrics),
        3 => Ok(TableKind::Exemplars),
        _ => Err(unknown("table kind", number.into())),
    }
}

const fn column_kind_number(kind: ColumnType) -> u32 {
    match kind {
        ColumnType::Tag => 1,
        ColumnType::Float => 2,
        ColumnType::Integer => 3,
        ColumnType::Unsigned => 4,
        ColumnType::Boolean => 5,
        ColumnType::String => 6,
        ColumnType::Histogram => 7,
        ColumnType::Timestamp => 8,
        ColumnType::Labels => 9,
    }
}

pub(crate) fn column_message(name: &str, kind: ColumnType) -> Column {
    Column {
        name: name.to_owned(),
        kind: column_kind_number(kind),
    }
}

pub(crate) fn column(message: &Column) -> Result<model::Column, Unknown> {
    let kind = match message.kind {
        1 => ColumnType::Tag,
        2 => ColumnType::Float,
        3 => ColumnType::Integer,
        4 => ColumnType::Unsigned,
        5 => ColumnType::Boolean,
        6 => ColumnType::String,
        7 => ColumnType::Histogram,
        8 => ColumnType::Timestamp,
        9 => ColumnType::Labels,
        number => return Err(unknown("column kind", number.into())),
    };
    Ok(model::Column {
        name: message.name.as_str().into(),
        kind,
    })
}

pub(crate) fn metadata_message(metric: &str, metadata: &MetricMetadata) -> Metadata {
    let kind = match metadata.kind {
        MetricKind::Unknown => 0,
        MetricKind::Counter => 1,
        MetricKind::Gauge => 2,
        MetricKind::Histogram => 3,
        MetricKind::GaugeHistogram => 4,
        MetricKind::Summary => 5,
        MetricKind::Info => 6,
        MetricKind::StateSet => 7,
    };
    Metadata {
        metric: metric.to_owned(),
        kind,
        help: metadata.help.to_string(),
        unit: metadata.unit.to_string(),
    }
}

pub(crate) fn metadata(message: &Metadata) -> Result<MetricMetadata, Unknown> {
    let kind = match message.kind {
        0 => MetricKind::Unknown,
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        number => return Err(unknown("metric kind", number.into())),
    };
    Ok(MetricMetadata {
        kind,
        help: message.help.as_str().into(),
        unit: message.unit.as_str().into(),
    })
}

/// The number that stands for keeping rows for ever.
const FOR_EVER: u64 = u64::MAX;

pub(crate) const fn retention_ms(retention: Retention) -> u64 {
    match retention {
        Retention::Inherit => 0,
        Retention::Forever => FOR_EVER,
        Retention::Millis(ms) => ms,
    }
}

pub(crate) const fn retention(ms: u64) -> Retention {
    match ms {
        0 => Retention::Inherit,
        FOR_EVER => Retention::Forever,
        ms => Retention::Millis(ms),
    }
}

/// The policies of a database that says nothing of them is not written.
pub(crate) fn policies_record(database: &str, policies: &Policies) -> SetPolicies {
    SetPolicies {
        database: database.to_owned(),
        own: policies.own.to_string(),
        default: policies.default.to_string(),
    }
}

pub(crate) fn policies(message: &SetPolicies) -> Policies {
    Policies {
        own: message.own.as_str().into(),
        default: message.default.as_str().into(),
    }
}

fn matcher_message(matcher: &model::Matcher) -> Matcher {
    let op = match matcher.op {
        MatchOp::Equal => 1,
        MatchOp::NotEqual => 2,
        MatchOp::Regex => 3,
        MatchOp::NotRegex => 4,
    };
    Matcher {
        name: matcher.name.clone(),
        op,
        value: matcher.stored_value().to_owned(),
    }
}

fn matcher(message: &Matcher) -> Result<model::Matcher, Unknown> {
    let op = match message.op {
        1 => MatchOp::Equal,
        2 => MatchOp::NotEqual,
        3 => MatchOp::Regex,
        4 => MatchOp::NotRegex,
        number => return Err(unknown("comparison", number.into())),
    };
    let length = message.value.len() as u64;
    model::Matcher::new(&message.name, op, &message.value)
        .map_err(|_| unknown("regular expression of length", length))
}

pub(crate) fn tombstone_message(tombstone: &model::Tombstone) -> Tombstone {
    Tombstone {
        matchers: tombstone.matchers.iter().map(matcher_message).collect(),
        time_min: tombstone.range.min,
        time_max: tombstone.range.max,
        sequence: tombstone.sequence,
        time_ms: tombstone.time_ms,
    }
}

pub(crate) fn tombstone(message: &Tombstone) -> Result<model::Tombstone, Unknown> {
    Ok(model::Tombstone {
        sequence: message.sequence,
        time_ms: message.time_ms,
        matchers: message
            .matchers
            .iter()
            .map(matcher)
            .collect::<Result<_, _>>()?,
        range: TimeRange::new(message.time_min, message.time_max),
    })
}

pub(crate) fn process(bytes: &[u8]) -> Result<Uuid, Unknown> {
    Uuid::from_slice(bytes).map_err(|_| unknown("length of a process id", bytes.len() as u64))
}

impl From<WalPosition> for AdvanceWal {
    fn from(position: WalPosition) -> Self {
        Self {
            epoch: position.epoch,
            next_seq: position.next_seq,
            order: 0,
        }
    }
}

impl From<AdvanceWal> for WalPosition {
    fn from(message: AdvanceWal) -> Self {
        Self {
            epoch: message.epoch,
            next_seq: message.next_seq,
        }
    }
}

/// Collects the sort orders of the segments of a message.
#[derive(Default)]
pub(crate) struct SortOrders(Vec<SortOrder>);

impl SortOrders {
    /// The segment's message; its sort order is added if it is a new one.
    pub(crate) fn segment_message(&mut self, meta: &SegmentMeta) -> Segment {
        let known = self
            .0
            .iter()
            .position(|order| order.tags[..] == meta.sort_tags[..]);
        let sort_order = known.unwrap_or_else(|| {
            self.0.push(SortOrder {
                tags: meta.sort_tags.to_vec(),
            });
            self.0.len() - 1
        });
        let (id_high, id_low) = id_halves(meta.id);
        Segment {
            id_high,
            id_low,
            day: meta.day.0,
            level: meta.level.into(),
            order_min: meta.order.0,
            order_max: meta.order.1,
            time_min: meta.time.min,
            time_span: meta.time.max.wrapping_sub(meta.time.min) as u64,
            rows: meta.rows,
            series: meta.series,
            data_bytes: meta.data_bytes,
            index_bytes: meta.index_bytes,
            data_checksum: meta.data_checksum,
            index_checksum: meta.index_checksum,
            index_tail_bytes: meta.index_tail_bytes,
            sort_order: sort_order as u32,
            deletes_applied: meta.deletes_applied,
        }
    }

    pub(crate) fn into_messages(self) -> Vec<SortOrder> {
        self.0
    }
}

/// Segments of one table: they share its names and their sort orders.
pub(crate) struct SegmentReader {
    database: Arc<str>,
    table: Arc<str>,
    table_id: u64,
    sort_orders: Vec<Arc<[String]>>,
}

impl SegmentReader {
    pub(crate) fn new(
        database: &Arc<str>,
        table: &Arc<str>,
        table_id: u64,
        sort_orders: &[SortOrder],
    ) -> Self {
        let sort_orders = sort_orders
            .iter()
            .map(|order| Arc::from(order.tags.as_slice()))
            .collect();
        Self {
            database: Arc::clone(database),
            table: Arc::clone(table),
            table_id,
            sort_orders,
        }
    }

    pub(crate) fn segment(&self, message: &Segment) -> Result<SegmentMeta, Unknown> {
        let sort_tags = self.sort_orders.get(message.sort_order as usize);
        let time_max = message.time_min.checked_add_unsigned(message.time_span);
        Ok(SegmentMeta {
            id: id(message.id_high, message.id_low),
            database: Arc::clone(&self.database),
            table: Arc::clone(&self.table),
            table_id: self.table_id,
            day: Day(message.day),
            level: u8::try_from(message.level)
                .map_err(|_| unknown("level", message.level.into()))?,
            order: (message.order_min, message.order_max),
            time: TimeRange::new(
                message.time_min,
                time_max.ok_or(unknown("time span", message.time_span))?,
            ),
            rows: message.rows,
            series: message.series,
            data_bytes: message.data_bytes,
            index_bytes: message.index_bytes,
            data_checksum: message.data_checksum,
            index_tail_bytes: message.index_tail_bytes,
            index_checksum: message.index_checksum,
            sort_tags: Arc::clone(
                sort_tags.ok_or(unknown("sort order", message.sort_order.into()))?,
            ),
            deletes_applied: message.deletes_applied,
        })
    }
}

impl Checkpoint {
    /// The message of a whole state.
    pub(crate) fn from_snapshot(snapshot: &Snapshot) -> Self {
        let node = |node: &Arc<snapshot::Node>| Node {
            name: node.name.to_string(),
            epoch: node.epoch,
            address: node.address.to_string(),
            process: node.process.as_bytes().to_vec(),
            wal: Some(AdvanceWal {
                epoch: node.wal.epoch,
                next_seq: node.wal.next_seq,
                order: node.order,
            }),
            roles: node.roles.number(),
            knows: node.knows,
            has_left: node.has_left,
        };
        let table = |table: &Arc<snapshot::Table>| {
            let mut sort_orders = SortOrders::default();
            let segments = table
                .days
                .values()
                .flat_map(|day| day.iter())
                .map(|meta| sort_orders.segment_message(meta))
                .collect();
            Table {
                name: table.name.to_string(),
                kind: table_kind_number(table.schema.kind),
                columns: table
                    .schema
                    .columns
                    .iter()
                    .map(|column| column_message(&column.name, column.kind))
                    .collect(),
                sort_orders: sort_orders.into_messages(),
                segments,
                id: table.id,
                retention_ms: retention_ms(table.retention),
                tombstones: table
                    .tombstones
                    .iter()
                    .map(|tombstone| tombstone_message(tombstone))
                    .collect(),
            }
        };
        let database = |database: &Arc<snapshot::Database>| Database {
            name: database.name.to_string(),
            tables: database.tables.values().map(table).collect(),
            metadata: database
                .metadata
                .iter()
                .map(|(metric, metadata)| metadata_message(metric, metadata))
                .collect(),
            retention_ms: retention_ms(database.retention),
            policies: (database.policies != Policies::default())
                .then(|| policies_record(&database.name, &database.policies)),
        };
        Self {
            sequence: snapshot.sequence,
            nodes: snapshot.nodes.values().map(node).collect(),
            databases: snapshot.databases.values().map(database).collect(),
            retired: snapshot
                .retired
                .values()
                .map(|retired| retired_message(retired))
                .collect(),
            time_ms: snapshot.time_ms,
            ..Self::default()
        }
        .with_tokens(snapshot)
    }

    /// The whole state of a message.
    pub(crate) fn to_snapshot(&self) -> Result<Snapshot, Unknown> {
        let mut snapshot = Snapshot {
            sequence: self.sequence,
            time_ms: self.time_ms,
            ..Snapshot::default()
        };
        for node in &self.nodes {
            let name: Arc<str> = node.name.as_str().into();
            let node = snapshot::Node {
                name: Arc::clone(&name),
                epoch: node.epoch,
                address: node.address.as_str().into(),
                process: process(&node.process)?,
                roles: Roles::of(node.roles, &node.address),
                knows: node.knows,
                has_left: node.has_left,
                wal: node.wal.unwrap_or_default().into(),
                order: node.wal.unwrap_or_default().order,
            };
            snapshot.nodes.insert(name, Arc::new(node));
        }
        for database in &self.databases {
            let name: Arc<str> = database.name.as_str().into();
            let mut tables = std::collections::BTreeMap::new();
            for message in &database.tables {
                let table = table_from_message(&name, message)?;
                tables.insert(Arc::clone(&table.name), Arc::new(table));
            }
            let known = database
                .metadata
                .iter()
                .map(|message| Ok((message.metric.as_str().into(), metadata(message)?)));
            let metadata = Arc::new(known.collect::<Result<_, Unknown>>()?);
            let retention = retention(database.retention_ms);
            let policies = database.policies.as_ref().map(policies).unwrap_or_default();
            snapshot.databases.insert(
                Arc::clone(&name),
                Arc::new(snapshot::Database {
                    name,
                    tables,
                    metadata,
                    retention,
                    policies,
                }),
            );
        }
        for message in &self.retired {
            let removed = message
                .segment
                .as_ref()
                .ok_or(unknown("retired segment without an id", 0))?;
            let segment = reference(
                &message.database.as_str().into(),
                &message.table.as_str().into(),
                removed,
            );
            snapshot.retired.insert(
                segment.id,
                Arc::new(snapshot::Retired {
                    segment,
                    time_ms: message.time_ms,
                }),
            );
        }
        self.read_tokens(&mut snapshot)?;
        Ok(snapshot)
    }
}

fn retired_message(retired: &snapshot::Retired) -> Retired {
    let segment = &retired.segment;
    Retired {
        database: segment.database.to_string(),
        table: segment.table.to_string(),
        segment: Some(removed_message(segment)),
        time_ms: retired.time_ms,
    }
}

fn table_from_message(database: &Arc<str>, message: &Table) -> Result<snapshot::Table, Unknown> {
    let name: Arc<str> = message.name.as_str().into();
    let columns = message
        .columns
        .iter()
        .map(column)
        .collect::<Result<_, _>>()?;
    let schema = Arc::new(TableSchema {
        kind: table_kind(message.kind)?,
        columns,
    });
    let reader = SegmentReader::new(database, &name, message.id, &message.sort_orders);
    let mut days = std::collections::BTreeMap::<Day, Vec<Arc<SegmentMeta>>>::new();
    for segment in &message.segments {
        let segment = reader.segment(segment)?;
        days.entry(segment.day).or_default().push(Arc::new(segment));
    }
    let tombstones = message
        .tombstones
        .iter()
        .map(|message| Ok(Arc::new(tombstone(message)?)));
    Ok(snapshot::Table {
        name,
        id: message.id,
        schema,
        retention: retention(message.retention_ms),
        tombstones: Arc::new(tombstones.collect::<Result<_, Unknown>>()?),
        days: days
            .into_iter()
            .map(|(day, segments)| (day, Arc::new(segments)))
            .collect(),
    })
}
