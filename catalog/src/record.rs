//! The messages of commit records and checkpoints, as `FORMAT.md` specifies them.
//!
//! - this file: the protobuf messages, and how they read as JSON
//! - `envelope`: magic, version and checksum around a message
//! - `convert`, `tokens`: between messages and the types of [`snapshot`](crate::snapshot) and
//!   [`model`](crate::model)
//!
//! To add a kind of change: specify it and what must hold in `FORMAT.md`, add it to [`Kind`] with
//! the next free tag, apply it in `apply.rs`. A version that does not know it refuses the record,
//! so nothing is lost by being skipped.

use serde::{Serialize, Serializer};

pub(crate) mod convert;
pub(crate) mod envelope;
pub(crate) mod tokens;

/// One commit: all of its changes or none.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Record {
    /// Its position in the log, as in its key.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Who commits.
    #[prost(string, tag = "2")]
    pub node: String,
    /// The node's epoch; for its registration the new one.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// 16 random bytes: tells one's own record from others'.
    #[prost(bytes = "vec", tag = "4")]
    #[serde(serialize_with = "hex")]
    pub nonce: Vec<u8>,
    /// The writer's clock: how long files of removed segments stay is counted from it.
    #[prost(sint64, tag = "5")]
    pub time_ms: i64,
    /// What changes, in this order.
    #[prost(message, repeated, tag = "6")]
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Change {
    /// `None` only if this version does not know the kind.
    #[prost(
        oneof = "Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18"
    )]
    #[serde(flatten)]
    pub kind: Option<Kind>,
}

/// Kinds of changes.
#[derive(Clone, PartialEq, Eq, prost::Oneof, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A process starts as the record's node.
    #[prost(message, tag = "1")]
    RegisterNode(RegisterNode),
    /// A new database.
    #[prost(message, tag = "2")]
    CreateDatabase(CreateDatabase),
    /// A new table.
    #[prost(message, tag = "3")]
    CreateTable(CreateTable),
    /// New columns of a table.
    #[prost(message, tag = "4")]
    AddColumns(AddColumns),
    /// What is known of metric families.
    #[prost(message, tag = "5")]
    SetMetadata(SetMetadata),
    /// More of the node's write-ahead log is in segments.
    #[prost(message, tag = "6")]
    AdvanceWal(AdvanceWal),
    /// Segments come and go.
    #[prost(message, tag = "7")]
    ChangeSegments(ChangeSegments),
    /// Files of segments that went are deleted.
    #[prost(message, tag = "8")]
    ForgetSegments(ForgetSegments),
    /// How long the rows of a database or a table are kept.
    #[prost(message, tag = "9")]
    SetRetention(SetRetention),
    /// A table goes, with its segments.
    #[prost(message, tag = "10")]
    DropTable(DropTable),
    /// A database goes, with its tables.
    #[prost(message, tag = "11")]
    DropDatabase(DropDatabase),
    /// Rows written before this record are deleted.
    #[prost(message, tag = "12")]
    AddTombstones(AddTombstones),
    /// No segment needs these tombstones any more.
    #[prost(message, tag = "13")]
    ForgetTombstones(ForgetTombstones),
    /// A new token.
    #[prost(message, tag = "14")]
    CreateToken(Token),
    /// A token allows nothing any more.
    #[prost(message, tag = "15")]
    RevokeToken(RevokeToken),
    /// When tokens were last used.
    #[prost(message, tag = "16")]
    UseTokens(UseTokens),
    /// What a tenant may take.
    #[prost(message, tag = "17")]
    SetLimits(SetLimits),
    /// The names of a database's retention policies.
    #[prost(message, tag = "18")]
    SetPolicies(SetPolicies),
}

/// A token; what could help to guess its secret is never shown.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Token {
    /// Its number: the sequence of the commit that made it.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// SHA-256 of its secret.
    #[prost(bytes = "vec", tag = "3")]
    #[serde(skip)]
    pub hash: Vec<u8>,
    /// What it allows.
    #[prost(message, repeated, tag = "4")]
    pub scopes: Vec<Scope>,
    /// When it ends; 0: never.
    #[prost(sint64, tag = "5")]
    pub expires_ms: i64,
    /// When it was made.
    #[prost(sint64, tag = "6")]
    pub created_ms: i64,
    /// Checks the secret without seeing it.
    #[prost(message, optional, tag = "7")]
    #[serde(skip)]
    pub scram: Option<Scram>,
    /// In a checkpoint: when it was last used; 0: never.
    #[prost(sint64, tag = "8")]
    pub last_used_ms: i64,
}

/// What a token allows where.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Scope {
    /// Names of databases, `*` for any characters.
    #[prost(string, tag = "1")]
    pub databases: String,
    /// 1 read, 2 write, 4 delete, 8 everything; their sum.
    #[prost(uint32, tag = "2")]
    pub permissions: u32,
}

/// What SCRAM-SHA-256 needs to check a secret.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Scram {
    /// Rounds.
    #[prost(uint32, tag = "1")]
    pub iterations: u32,
    /// Random bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub salt: Vec<u8>,
    /// Hash of the client's key.
    #[prost(bytes = "vec", tag = "3")]
    pub stored_key: Vec<u8>,
    /// The server's key.
    #[prost(bytes = "vec", tag = "4")]
    pub server_key: Vec<u8>,
}

/// A token allows nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize)]
pub struct RevokeToken {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// When tokens were last used.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct UseTokens {
    /// One per token; of those that are gone nothing happens.
    #[prost(message, repeated, tag = "1")]
    pub uses: Vec<TokenUse>,
}

/// When a token was last used.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize)]
pub struct TokenUse {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The time.
    #[prost(sint64, tag = "2")]
    pub last_used_ms: i64,
}

/// What a tenant may take; of neither a database nor a token: what all may that say nothing else.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct SetLimits {
    /// Database; empty: of a token, or the defaults.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Token; 0: of a database, or the defaults.
    #[prost(uint64, tag = "2")]
    pub token: u64,
    /// All of them anew.
    #[prost(message, optional, tag = "3")]
    pub limits: Option<Limits>,
}

/// Limits; what is absent is not limited here.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize)]
pub struct Limits {
    /// See `model::Limits`.
    #[prost(uint64, optional, tag = "1")]
    pub samples_per_second: Option<u64>,
    /// Series that got points lately.
    #[prost(uint64, optional, tag = "2")]
    pub active_series: Option<u64>,
    /// Labels of one series.
    #[prost(uint64, optional, tag = "3")]
    pub labels_per_series: Option<u64>,
    /// Bytes of a name.
    #[prost(uint64, optional, tag = "4")]
    pub label_name_bytes: Option<u64>,
    /// Bytes of a value.
    #[prost(uint64, optional, tag = "5")]
    pub label_value_bytes: Option<u64>,
    /// Bytes of a write.
    #[prost(uint64, optional, tag = "6")]
    pub body_bytes: Option<u64>,
    /// Queries at a time.
    #[prost(uint64, optional, tag = "7")]
    pub concurrent_queries: Option<u64>,
    /// Bytes that a query reads.
    #[prost(uint64, optional, tag = "8")]
    pub query_read_bytes: Option<u64>,
    /// Samples that a query holds.
    #[prost(uint64, optional, tag = "9")]
    pub query_samples: Option<u64>,
    /// Shortest retention.
    #[prost(uint64, optional, tag = "10")]
    pub min_retention_ms: Option<u64>,
    /// Longest retention.
    #[prost(uint64, optional, tag = "11")]
    pub max_retention_ms: Option<u64>,
}

/// A process starts as the record's node, with the record's epoch.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct RegisterNode {
    /// Where it answers; may be empty.
    #[prost(string, tag = "1")]
    pub address: String,
    /// 16 bytes that identify the process.
    #[prost(bytes = "vec", tag = "2")]
    #[serde(serialize_with = "hex")]
    pub process: Vec<u8>,
    /// What it does: 1 takes writes, 2 answers queries, 4 merges, their sum, and 8 in any case; 0
    /// if it does not say.
    #[prost(uint32, tag = "3")]
    pub roles: u32,
    /// What it understands: see `snapshot::knows`.
    #[prost(uint32, tag = "4")]
    pub knows: u32,
    /// It does not start: the process of the epoch before is gone, with nothing left in its log.
    #[prost(bool, tag = "5")]
    pub has_left: bool,
}

/// A new database.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct CreateDatabase {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// A new table.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct CreateTable {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub table: String,
    /// What it is for.
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// Its first columns.
    #[prost(message, repeated, tag = "4")]
    pub columns: Vec<Column>,
}

/// New columns of a table.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct AddColumns {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Table.
    #[prost(string, tag = "2")]
    pub table: String,
    /// The new ones.
    #[prost(message, repeated, tag = "3")]
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Column {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it holds.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
}

/// What is known of metric families; others stay as they are.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct SetMetadata {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// One per family.
    #[prost(message, repeated, tag = "2")]
    pub metadata: Vec<Metadata>,
}

/// What is known of one metric family.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Metadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub metric: String,
    /// What it is.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// A sentence on it.
    #[prost(string, tag = "3")]
    pub help: String,
    /// Its unit.
    #[prost(string, tag = "4")]
    pub unit: String,
}

/// How far the node's write-ahead log is in segments.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize)]
pub struct AdvanceWal {
    /// Objects of lower epochs are in segments.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// In this epoch, objects of lower sequences are in segments.
    #[prost(uint64, tag = "2")]
    pub next_seq: u64,
    /// Rows of the node up to this write order are in segments; later ones have higher orders.
    #[prost(uint64, tag = "3")]
    pub order: u64,
}

/// Segments of one table come and go.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct ChangeSegments {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Table.
    #[prost(string, tag = "2")]
    pub table: String,
    /// What `Segment::sort_order` counts in: nearly always one order for all.
    #[prost(message, repeated, tag = "3")]
    pub sort_orders: Vec<SortOrder>,
    /// These go.
    #[prost(message, repeated, tag = "4")]
    pub removed: Vec<Removed>,
    /// These come.
    #[prost(message, repeated, tag = "5")]
    pub added: Vec<Segment>,
    /// Which table of this name: the sequence of the commit that created it.
    #[prost(uint64, tag = "6")]
    pub table_id: u64,
}

/// How long rows are kept.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct SetRetention {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Table; empty for the database.
    #[prost(string, tag = "2")]
    pub table: String,
    /// Milliseconds; 0: as the database says, the largest number: for ever.
    #[prost(uint64, tag = "3")]
    pub retention_ms: u64,
}

/// What retention policies of a database are called.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct SetPolicies {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// The one whose points are in the database itself.
    #[prost(string, tag = "2")]
    pub own: String,
    /// The one that names without one mean.
    #[prost(string, tag = "3")]
    pub default: String,
}

/// A table goes.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct DropTable {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Table.
    #[prost(string, tag = "2")]
    pub table: String,
}

/// A database goes.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct DropDatabase {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
}

/// Rows of a table that were written before this record are deleted.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct AddTombstones {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Table.
    #[prost(string, tag = "2")]
    pub table: String,
    /// Which rows: those of any of these.
    #[prost(message, repeated, tag = "3")]
    pub tombstones: Vec<Tombstone>,
}

/// Which rows are deleted: those of the series that pass all matchers, at these times.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Tombstone {
    /// All must pass; none: every series.
    #[prost(message, repeated, tag = "1")]
    pub matchers: Vec<Matcher>,
    /// First time, in the unit of the table.
    #[prost(sint64, tag = "2")]
    pub time_min: i64,
    /// Last time.
    #[prost(sint64, tag = "3")]
    pub time_max: i64,
    /// In a checkpoint: the commit that added it.
    #[prost(uint64, tag = "4")]
    pub sequence: u64,
    /// In a checkpoint: when that was.
    #[prost(sint64, tag = "5")]
    pub time_ms: i64,
}

/// A comparison of a label.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Matcher {
    /// The label.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The comparison.
    #[prost(uint32, tag = "2")]
    pub op: u32,
    /// What it is compared with.
    #[prost(string, tag = "3")]
    pub value: String,
}

/// Tombstones that are applied to all segments.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct ForgetTombstones {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Table.
    #[prost(string, tag = "2")]
    pub table: String,
    /// The commits that added them.
    #[prost(uint64, repeated, tag = "3")]
    pub sequences: Vec<u64>,
}

/// The files of these segments, which went earlier, are deleted.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct ForgetSegments {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Table.
    #[prost(string, tag = "2")]
    pub table: String,
    /// Which.
    #[prost(message, repeated, tag = "3")]
    pub segments: Vec<Removed>,
}

/// A segment that went and whose files may still be there, in a checkpoint.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Retired {
    /// Database.
    #[prost(string, tag = "1")]
    pub database: String,
    /// Table.
    #[prost(string, tag = "2")]
    pub table: String,
    /// Which.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Removed>,
    /// When it went, by the clock of the commit.
    #[prost(sint64, tag = "4")]
    pub time_ms: i64,
}

/// The tags by which rows are sorted.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct SortOrder {
    /// First by the first one.
    #[prost(string, repeated, tag = "1")]
    pub tags: Vec<String>,
}

/// A segment that goes.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Removed {
    /// Its day.
    #[prost(sint64, tag = "1")]
    pub day: i64,
    /// Upper half of its id.
    #[prost(fixed64, tag = "2")]
    pub id_high: u64,
    /// Lower half of its id.
    #[prost(fixed64, tag = "3")]
    pub id_low: u64,
}

/// A segment; see `SegmentMeta` for the meaning.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Segment {
    /// Upper half of its id.
    #[prost(fixed64, tag = "1")]
    pub id_high: u64,
    /// Lower half of its id.
    #[prost(fixed64, tag = "2")]
    pub id_low: u64,
    /// Days since 1970-01-01.
    #[prost(sint64, tag = "3")]
    pub day: i64,
    /// 0: as flushed.
    #[prost(uint32, tag = "4")]
    pub level: u32,
    /// Lowest write order.
    #[prost(uint64, tag = "5")]
    pub order_min: u64,
    /// Highest write order.
    #[prost(uint64, tag = "6")]
    pub order_max: u64,
    /// First time.
    #[prost(sint64, tag = "7")]
    pub time_min: i64,
    /// Last time minus first time: shorter than the last time.
    #[prost(uint64, tag = "8")]
    pub time_span: u64,
    /// Rows.
    #[prost(uint64, tag = "9")]
    pub rows: u64,
    /// Series.
    #[prost(uint64, tag = "10")]
    pub series: u64,
    /// Size of the data file.
    #[prost(uint64, tag = "11")]
    pub data_bytes: u64,
    /// Size of the series index.
    #[prost(uint64, tag = "12")]
    pub index_bytes: u64,
    /// xxh3-64 of the data file.
    #[prost(fixed64, tag = "13")]
    pub data_checksum: u64,
    /// xxh3-64 of the last bytes of the series index; in its first format of the whole.
    #[prost(fixed64, tag = "14")]
    pub index_checksum: u64,
    /// Position in the sort orders of the message around it.
    #[prost(uint32, tag = "15")]
    pub sort_order: u32,
    /// Rows that tombstones up to this commit delete are not in it.
    #[prost(uint64, tag = "16")]
    pub deletes_applied: u64,
    /// The last bytes of the series index, from its root on; 0 in its first format.
    #[prost(uint64, tag = "17")]
    pub index_tail_bytes: u64,
}

/// The state after a commit.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Checkpoint {
    /// The last commit in it, as in its key.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// All nodes.
    #[prost(message, repeated, tag = "2")]
    pub nodes: Vec<Node>,
    /// All databases.
    #[prost(message, repeated, tag = "3")]
    pub databases: Vec<Database>,
    /// Segments that went and whose files may still be there.
    #[prost(message, repeated, tag = "4")]
    pub retired: Vec<Retired>,
    /// The latest time of any commit so far.
    #[prost(sint64, tag = "5")]
    pub time_ms: i64,
    /// All tokens.
    #[prost(message, repeated, tag = "6")]
    pub tokens: Vec<Token>,
    /// All limits.
    #[prost(message, repeated, tag = "7")]
    pub limits: Vec<SetLimits>,
}

/// A node in a checkpoint.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Node {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its newest epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Where it answers.
    #[prost(string, tag = "3")]
    pub address: String,
    /// 16 bytes that identify the process.
    #[prost(bytes = "vec", tag = "4")]
    pub process: Vec<u8>,
    /// How far its write-ahead log is in segments.
    #[prost(message, optional, tag = "5")]
    pub wal: Option<AdvanceWal>,
    /// As in `RegisterNode`.
    #[prost(uint32, tag = "6")]
    pub roles: u32,
    /// As in `RegisterNode`.
    #[prost(uint32, tag = "7")]
    pub knows: u32,
    /// As in `RegisterNode`.
    #[prost(bool, tag = "8")]
    pub has_left: bool,
}

/// A database in a checkpoint.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Database {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its tables.
    #[prost(message, repeated, tag = "2")]
    pub tables: Vec<Table>,
    /// What is known of its metric families.
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<Metadata>,
    /// How long rows are kept, as in `SetRetention`.
    #[prost(uint64, tag = "4")]
    pub retention_ms: u64,
    /// What its retention policies are called, if that was set.
    #[prost(message, optional, tag = "5")]
    pub policies: Option<SetPolicies>,
}

/// A table in a checkpoint.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Table {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it is for.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// Its columns.
    #[prost(message, repeated, tag = "3")]
    pub columns: Vec<Column>,
    /// What `Segment::sort_order` counts in.
    #[prost(message, repeated, tag = "4")]
    pub sort_orders: Vec<SortOrder>,
    /// Its segments.
    #[prost(message, repeated, tag = "5")]
    pub segments: Vec<Segment>,
    /// The commit that created it.
    #[prost(uint64, tag = "6")]
    pub id: u64,
    /// How long rows are kept, as in `SetRetention`.
    #[prost(uint64, tag = "7")]
    pub retention_ms: u64,
    /// What is deleted.
    #[prost(message, repeated, tag = "8")]
    pub tombstones: Vec<Tombstone>,
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(
        &bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    )
}

/// With the id and the day in words, and the figures as they are.
impl Serialize for Removed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Words {
            id: String,
            day: String,
        }
        Words {
            id: convert::id(self.id_high, self.id_low).to_string(),
            day: crate::model::Day(self.day).to_string(),
        }
        .serialize(serializer)
    }
}

impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Words {
            id: String,
            day: String,
            level: u32,
            order: (u64, u64),
            time: (i64, Option<i64>),
            rows: u64,
            series: u64,
            data_bytes: u64,
            index_bytes: u64,
            data_checksum: String,
            index_checksum: String,
            index_tail_bytes: u64,
            sort_order: u32,
            deletes_applied: u64,
        }
        Words {
            id: convert::id(self.id_high, self.id_low).to_string(),
            day: crate::model::Day(self.day).to_string(),
            level: self.level,
            order: (self.order_min, self.order_max),
            time: (
                self.time_min,
                self.time_min.checked_add_unsigned(self.time_span),
            ),
            rows: self.rows,
            series: self.series,
            data_bytes: self.data_bytes,
            index_bytes: self.index_bytes,
            data_checksum: format!("{:016x}", self.data_checksum),
            index_checksum: format!("{:016x}", self.index_checksum),
            index_tail_bytes: self.index_tail_bytes,
            sort_order: self.sort_order,
            deletes_applied: self.deletes_applied,
        }
        .serialize(serializer)
    }
}
