//! What processes of one store ask each other, by HTTP with bodies of JSON, except for [`PART`].

use serde::{Deserialize, Serialize};

/// Who are you, and how far are you?
pub const HELLO: &str = "/internal/v1/hello";
/// Have you seen this commit?
pub const SEEN: &str = "/internal/v1/seen";
/// What have you of some tables that is in no segment?
pub const RECENT: &str = "/internal/v1/recent";
/// Put everything into segments.
pub const FLUSH: &str = "/internal/v1/flush";
/// Write what I record about myself.
pub const RECORD: &str = "/internal/v1/record";
/// Compute a part of a query.
pub const PART: &str = "/internal/v1/part";
/// What `Cluster::serve` answers.
pub const SERVED: [&str; 4] = [HELLO, SEEN, RECENT, FLUSH];
/// All paths.
pub const PATHS: [&str; 6] = [HELLO, SEEN, RECENT, FLUSH, RECORD, PART];

/// The answer to [`HELLO`] and [`SEEN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its name.
    pub node: String,
    /// Its epoch.
    pub epoch: u64,
    /// The last commit that it knows.
    pub sequence: u64,
    /// The highest write order that it has given or seen.
    pub clock: u64,
    /// Whether its ingester has replayed its log: before, its clock may be behind what it has
    /// acknowledged.
    pub is_ready: bool,
    /// Nodes whose logs it is putting into segments.
    pub adopting: Vec<String>,
}

/// The body of [`SEEN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The commit.
    pub sequence: u64,
}

/// The body of [`RECORD`]: goes into the database of what servers record about themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recorded {
    /// Line protocol, with times in nanoseconds.
    Lines(String),
    /// A compressed message of remote write 2.0.
    Samples(Vec<u8>),
}

/// The body of [`RECENT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentAsked {
    /// Who is meant.
    pub node: String,
    /// In which of its lives.
    pub epoch: u64,
    /// Database.
    pub database: String,
    /// Some of its tables.
    pub tables: Vec<TableAsked>,
    /// If there are more bytes of rows than this which the asking process has not, it wants to hear
    /// how many, and nothing else. Older programs take whatever comes.
    #[serde(default)]
    pub most_bytes: Option<usize>,
}

/// A table of [`RecentAsked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableAsked {
    /// Its name.
    pub table: String,
    /// First time, in the table's unit.
    pub min: i64,
    /// Last time.
    pub max: i64,
    /// Chunks that the asking process has.
    pub have: Vec<u64>,
}

/// What the answer to [`RECENT`] begins with: its length in 4 bytes, and this. The rows of the
/// chunks follow, as `rows_codec` has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentHead {
    /// All rows that were acknowledged before and are in no chunk are in segments that this commit
    /// has.
    pub sequence: u64,
    /// The tables in the order in which they were asked for.
    pub tables: Vec<TableHead>,
    /// Bytes of the rows, if there are more than the asking process takes; then there are no
    /// tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_bytes: Option<usize>,
}

/// A table of [`RecentHead`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableHead {
    /// Which table of this name.
    pub table_id: u64,
    /// All chunks with rows in the range.
    pub chunks: Vec<ChunkHead>,
}

/// A chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkHead {
    /// Tells it from all others of this life of the node.
    pub id: u64,
    /// Its place among all writes: lowest, highest, and the place among its neighbours.
    pub order: (u64, u64, u64),
    /// Bytes of its rows; none if the asking process has them.
    pub bytes: Option<usize>,
}
