//! From one state to the next: what a commit record does, and what must hold for it.
//!
//! `apply` runs twice for each record: before it is written, on the state that its writer knows,
//! and whenever it is read. Writers see a [`Refusal`] as an answer; for a reader it means that the
//! log is corrupt, since no writer appends what does not fit the records before.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::model::schema::TIME_COLUMN;
use crate::model::{Column, Limits, LimitsOf, SchemaError, Scope, TableSchema, Token};
use crate::record::convert::{self, SegmentReader, Unknown};
use crate::record::{
    self, AddTombstones, ChangeSegments, ForgetSegments, ForgetTombstones, Kind, Record, tokens,
};
use crate::snapshot::{
    Database, DaySegments, Node, Retired, Roles, SegmentMeta, SegmentRef, Snapshot, Table,
    WalPosition, is_clock_order,
};

/// Longest name of a database or table, in bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// Most tombstones of one table that are not applied yet: every reader looks at each of them.
pub const MAX_TOMBSTONES: usize = 1000;

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The record is not the next one.
    #[error("commit {found} does not follow commit {last}")]
    OutOfSequence {
        /// The last commit.
        last: u64,
        /// The one that was to follow.
        found: u64,
    },
    /// A newer process has registered as this node.
    #[error(
        "node {node:?} with epoch {epoch} is fenced: a newer process has registered as epoch \
         {newest}; this one must stop"
    )]
    Fenced {
        /// The node.
        node: String,
        /// The epoch of who was refused.
        epoch: u64,
        /// The newest epoch.
        newest: u64,
    },
    /// A registration with another epoch than the next.
    #[error("node {node:?} cannot register as epoch {epoch}: its last one is {newest}")]
    EpochTaken {
        /// The node.
        node: String,
        /// The epoch that was to be.
        epoch: u64,
        /// The newest epoch.
        newest: u64,
    },
    /// A name that cannot be.
    #[error(
        "{name:?} cannot be the name of a {what}: names have 1 to {MAX_NAME_BYTES} bytes, and no \
         column is called {TIME_COLUMN:?}"
    )]
    BadName {
        /// Database, table, column or node.
        what: &'static str,
        /// The name, its beginning if it is long.
        name: String,
    },
    /// There is no such database.
    #[error("database {database:?} does not exist")]
    NoDatabase {
        /// Its name.
        database: String,
    },
    /// There is such a database.
    #[error("database {database:?} exists already")]
    DatabaseExists {
        /// Its name.
        database: String,
    },
    /// There is no such table.
    #[error("table {table:?} of database {database:?} does not exist")]
    NoTable {
        /// Database.
        database: String,
        /// Table.
        table: String,
    },
    /// There is such a table, perhaps of another kind.
    #[error("table {table:?} of database {database:?} exists already and is a {kind} table", kind = kind_word(*kind))]
    TableExists {
        /// Database.
        database: String,
        /// Table.
        table: String,
        /// What the existing one is for.
        kind: crate::model::TableKind,
    },
    /// The column has another type.
    #[error("table {table:?} of database {database:?}: {conflict}")]
    ColumnConflict {
        /// Database.
        database: String,
        /// Table.
        table: String,
        /// The column and both types.
        conflict: SchemaError,
    },
    /// The column is there with this type.
    #[error("column {column:?} of table {table:?} of database {database:?} exists already")]
    ColumnExists {
        /// Database.
        database: String,
        /// Table.
        table: String,
        /// Column.
        column: String,
    },
    /// The position of a write-ahead log can only grow, up to the present epoch.
    #[error("the write-ahead log of node {node:?} cannot move from {from:?} to {to:?}")]
    WalPosition {
        /// The node.
        node: String,
        /// Where it is.
        from: WalPosition,
        /// Where it was to be.
        to: WalPosition,
    },
    /// A segment that was to be replaced is not there: another commit replaced it before.
    #[error("segment {} of table {:?} of database {:?} is gone", segment.id, segment.table, segment.database)]
    SegmentGone {
        /// The segment.
        segment: SegmentRef,
    },
    /// A segment that contradicts itself or what is there.
    #[error("segment {} of table {:?} of database {:?} cannot be added: {reason}", segment.id, segment.table, segment.database)]
    BadSegment {
        /// The segment.
        segment: SegmentRef,
        /// What is wrong.
        reason: String,
    },
    /// The table was dropped, and perhaps created again, since rows were read for it.
    #[error("table {table:?} of database {database:?} was dropped")]
    TableDropped {
        /// Database.
        database: String,
        /// Table.
        table: String,
    },
    /// A delete that would be one too many to be looked at by every reader.
    #[error(
        "table {table:?} of database {database:?} has {MAX_TOMBSTONES} deletes that are not \
         applied yet: try again after a compaction, or delete more at a time"
    )]
    TooManyDeletes {
        /// Database.
        database: String,
        /// Table.
        table: String,
    },
    /// A delete that deletes nothing, or one that is not there or still needed.
    #[error("table {table:?} of database {database:?}: {reason}")]
    BadTombstone {
        /// Database.
        database: String,
        /// Table.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// One more database than [`NameLimits`](crate::NameLimits) allow.
    #[error(
        "database {database:?} cannot be created: there are {limit} databases, as many as are \
         allowed (setting max_databases)"
    )]
    TooManyDatabases {
        /// The one that was to be created.
        database: String,
        /// The limit.
        limit: usize,
    },
    /// One more table than [`NameLimits`](crate::NameLimits) allow.
    #[error(
        "table {table:?} of database {database:?} cannot be created: all databases together have \
         at most {limit} tables (setting max_tables)"
    )]
    TooManyTables {
        /// Database.
        database: String,
        /// The table that was to be created.
        table: String,
        /// The limit.
        limit: usize,
    },
    /// More columns than [`NameLimits`](crate::NameLimits) allow in a table.
    #[error(
        "column {column:?} of table {table:?} of database {database:?} cannot be added: a table \
         has at most {limit} columns (setting max_columns)"
    )]
    TooManyColumns {
        /// Database.
        database: String,
        /// Table.
        table: String,
        /// The first column that is too many.
        column: String,
        /// The limit.
        limit: usize,
    },
    /// There is no such token.
    #[error("there is no token {token}")]
    NoToken {
        /// Its number or its name.
        token: String,
    },
    /// There is such a token.
    #[error("token {name:?} exists already")]
    TokenExists {
        /// Its name.
        name: String,
    },
    /// A token that contradicts itself.
    #[error("token {name:?} cannot be: {reason}")]
    BadToken {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A number in the record means nothing to this version.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// A kind of change that this version does not know.
    #[error("it holds a change of a kind that this version does not know: upgrade this program")]
    UnknownChange,
}

const fn kind_word(kind: crate::model::TableKind) -> &'static str {
    match kind {
        crate::model::TableKind::Wide => "wide",
        crate::model::TableKind::Metrics => "metrics",
        crate::model::TableKind::Exemplars => "exemplars",
    }
}

/// The state after a record.
pub(crate) fn apply(snapshot: &Snapshot, record: &Record) -> Result<Snapshot, Refusal> {
    if snapshot.sequence.checked_add(1) != Some(record.sequence) {
        return Err(Refusal::OutOfSequence {
            last: snapshot.sequence,
            found: record.sequence,
        });
    }
    let mut next = snapshot.clone();
    next.sequence = record.sequence;
    next.time_ms = next.time_ms.max(record.time_ms);
    // A registration brings the node to the record's epoch, so it stands before what the new
    // process changes.
    for change in &record.changes {
        let kind = change.kind.as_ref().ok_or(Refusal::UnknownChange)?;
        if let Kind::RegisterNode(change) = kind {
            register_node(&mut next, record, change)?;
            continue;
        }
        check_epoch(&next, record)?;
        match kind {
            Kind::RegisterNode(_) => {}
            Kind::CreateDatabase(change) => create_database(&mut next, change)?,
            Kind::CreateTable(change) => create_table(&mut next, change)?,
            Kind::AddColumns(change) => add_columns(&mut next, change)?,
            Kind::SetMetadata(change) => set_metadata(&mut next, change)?,
            Kind::AdvanceWal(change) => advance_wal(&mut next, record, *change)?,
            Kind::ChangeSegments(change) => change_segments(&mut next, record, change)?,
            Kind::ForgetSegments(change) => forget_segments(&mut next, change)?,
            Kind::SetRetention(change) => set_retention(&mut next, change)?,
            Kind::DropTable(change) => drop_table(&mut next, &change.database, &change.table)?,
            Kind::DropDatabase(change) => drop_database(&mut next, &change.database)?,
            Kind::AddTombstones(change) => add_tombstones(&mut next, change)?,
            Kind::ForgetTombstones(change) => forget_tombstones(&mut next, change)?,
            Kind::CreateToken(change) => create_token(&mut next, change)?,
            Kind::RevokeToken(change) => revoke_token(&mut next, change.id)?,
            Kind::UseTokens(change) => use_tokens(&mut next, change),
            Kind::SetLimits(change) => set_limits(&mut next, change)?,
            Kind::SetPolicies(change) => set_policies(&mut next, change)?,
        }
    }
    check_epoch(&next, record)?;
    Ok(next)
}

/// Most tokens: every process holds all.
pub const MAX_TOKENS: usize = 100_000;
/// Most scopes of one token: each is looked at for every request.
pub const MAX_SCOPES: usize = 100;

fn create_token(next: &mut Snapshot, change: &record::Token) -> Result<(), Refusal> {
    check_name("token", &change.name)?;
    let bad = |reason| Refusal::BadToken {
        name: change.name.clone(),
        reason,
    };
    let token = tokens::token(change).map_err(bad)?;
    if next.tokens.named(&token.name).is_some() {
        let name = change.name.clone();
        return Err(Refusal::TokenExists { name });
    }
    if token.id != next.sequence || next.tokens.get(token.id).is_some() {
        return Err(bad("its number is not that of its commit"));
    }
    if next.tokens.with_hash(&token.hash).is_some() {
        return Err(bad("another token has its secret"));
    }
    if token.scopes.is_empty() || token.scopes.len() > MAX_SCOPES {
        return Err(bad("it has no scopes, or too many"));
    }
    if !token
        .scopes
        .iter()
        .all(|scope| Scope::is_pattern(&scope.databases))
    {
        return Err(bad(
            "databases are named by letters, digits, '-', '_' and '*'",
        ));
    }
    if next.tokens.iter().count() >= MAX_TOKENS {
        return Err(bad("there are too many tokens"));
    }
    Arc::make_mut(&mut next.tokens).put(token);
    Ok(())
}

fn revoke_token(next: &mut Snapshot, id: u64) -> Result<(), Refusal> {
    let removed = Arc::make_mut(&mut next.tokens).remove(id);
    let token = id.to_string();
    removed.ok_or(Refusal::NoToken { token })?;
    Arc::make_mut(&mut next.limits).remove(&LimitsOf::Token(id));
    Ok(())
}

/// Another process may have revoked a token meanwhile.
fn use_tokens(next: &mut Snapshot, change: &record::UseTokens) {
    let tokens = Arc::make_mut(&mut next.tokens);
    for used in &change.uses {
        if let Some(token) = tokens.get(used.id) {
            let token = Token {
                last_used_ms: token.last_used_ms.max(Some(used.last_used_ms)),
                ..Token::clone(token)
            };
            tokens.put(token);
        }
    }
}

fn set_limits(next: &mut Snapshot, change: &record::SetLimits) -> Result<(), Refusal> {
    let of = tokens::limits_of(change)?;
    match &of {
        LimitsOf::Token(id) if next.tokens.get(*id).is_none() => {
            let token = id.to_string();
            return Err(Refusal::NoToken { token });
        }
        LimitsOf::Database(name) => check_name("database", name)?,
        _ => {}
    }
    let limits = tokens::limits(change);
    let all = Arc::make_mut(&mut next.limits);
    match limits == Limits::default() {
        true => drop(all.remove(&of)),
        false => drop(all.insert(of, limits)),
    }
    Ok(())
}

/// The newest epoch of a node; 0 if it never registered.
pub(crate) fn newest_epoch(snapshot: &Snapshot, node: &str) -> u64 {
    snapshot.node(node).map_or(0, |node| node.epoch)
}

fn check_epoch(snapshot: &Snapshot, record: &Record) -> Result<(), Refusal> {
    let newest = newest_epoch(snapshot, &record.node);
    if newest == record.epoch && newest > 0 {
        return Ok(());
    }
    Err(Refusal::Fenced {
        node: record.node.clone(),
        epoch: record.epoch,
        newest,
    })
}

fn check_name(what: &'static str, name: &str) -> Result<(), Refusal> {
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && !(what == "column" && name == TIME_COLUMN) {
        return Ok(());
    }
    Err(Refusal::BadName {
        what,
        name: name.chars().take(64).collect(),
    })
}

fn register_node(
    next: &mut Snapshot,
    record: &Record,
    change: &record::RegisterNode,
) -> Result<(), Refusal> {
    check_name("node", &record.node)?;
    let newest = newest_epoch(next, &record.node);
    if newest.checked_add(1) != Some(record.epoch) {
        return Err(Refusal::EpochTaken {
            node: record.node.clone(),
            epoch: record.epoch,
            newest,
        });
    }
    let name: Arc<str> = record.node.as_str().into();
    let node = Node {
        name: Arc::clone(&name),
        epoch: record.epoch,
        address: change.address.as_str().into(),
        process: convert::process(&change.process)?,
        roles: Roles::of(change.roles, &change.address),
        knows: change.knows,
        has_left: change.has_left,
        wal: next.node(&name).map(|node| node.wal).unwrap_or_default(),
        order: next.node(&name).map_or(0, |node| node.order),
    };
    next.nodes.insert(name, Arc::new(node));
    Ok(())
}

fn create_database(next: &mut Snapshot, change: &record::CreateDatabase) -> Result<(), Refusal> {
    check_name("database", &change.name)?;
    let name: Arc<str> = change.name.as_str().into();
    match next.databases.entry(Arc::clone(&name)) {
        Entry::Occupied(_) => Err(Refusal::DatabaseExists {
            database: change.name.clone(),
        }),
        Entry::Vacant(entry) => {
            entry.insert(Arc::new(Database {
                name,
                tables: Default::default(),
                metadata: Default::default(),
                retention: Default::default(),
                policies: Default::default(),
            }));
            Ok(())
        }
    }
}

fn database_mut<'a>(next: &'a mut Snapshot, database: &str) -> Result<&'a mut Database, Refusal> {
    let found = next
        .databases
        .get_mut(database)
        .ok_or_else(|| Refusal::NoDatabase {
            database: database.to_owned(),
        })?;
    Ok(Arc::make_mut(found))
}

fn table_mut<'a>(
    next: &'a mut Snapshot,
    database: &str,
    table: &str,
) -> Result<&'a mut Table, Refusal> {
    let none = || Refusal::NoTable {
        database: database.to_owned(),
        table: table.to_owned(),
    };
    Ok(Arc::make_mut(
        database_mut(next, database)?
            .tables
            .get_mut(table)
            .ok_or_else(none)?,
    ))
}

fn create_table(next: &mut Snapshot, change: &record::CreateTable) -> Result<(), Refusal> {
    check_name("table", &change.table)?;
    let kind = convert::table_kind(change.kind)?;
    let mut schema = TableSchema::new(kind);
    ensure_new(
        &mut schema,
        &change.database,
        &change.table,
        &change.columns,
    )?;
    let id = next.sequence;
    let database = database_mut(next, &change.database)?;
    if let Some(existing) = database.table(&change.table) {
        let (database, table) = (change.database.clone(), change.table.clone());
        return Err(Refusal::TableExists {
            database,
            table,
            kind: existing.schema.kind,
        });
    }
    let name: Arc<str> = change.table.as_str().into();
    let table = Table {
        name: Arc::clone(&name),
        id,
        schema: Arc::new(schema),
        retention: Default::default(),
        tombstones: Default::default(),
        days: Default::default(),
    };
    database.tables.insert(name, Arc::new(table));
    Ok(())
}

fn add_columns(next: &mut Snapshot, change: &record::AddColumns) -> Result<(), Refusal> {
    let table = table_mut(next, &change.database, &change.table)?;
    ensure_new(
        Arc::make_mut(&mut table.schema),
        &change.database,
        &change.table,
        &change.columns,
    )
}

/// Adds columns, none of which may be there.
fn ensure_new(
    schema: &mut TableSchema,
    database: &str,
    table: &str,
    columns: &[record::Column],
) -> Result<(), Refusal> {
    // Asking the schema for each of thousands of columns would take their square.
    let mut known: std::collections::HashMap<Arc<str>, crate::model::ColumnType> = schema
        .columns
        .iter()
        .map(|column| (Arc::clone(&column.name), column.kind))
        .collect();
    for message in columns {
        check_name("column", &message.name)?;
        let Column { name, kind } = convert::column(message)?;
        let (database, table) = (database.to_owned(), table.to_owned());
        match known.get(&name) {
            None => {
                known.insert(Arc::clone(&name), kind);
                schema.columns.push(Column { name, kind });
            }
            Some(existing) if *existing == kind => {
                return Err(Refusal::ColumnExists {
                    database,
                    table,
                    column: message.name.clone(),
                });
            }
            Some(existing) => {
                let conflict = SchemaError {
                    column: message.name.clone(),
                    existing: *existing,
                    wanted: kind,
                };
                return Err(Refusal::ColumnConflict {
                    database,
                    table,
                    conflict,
                });
            }
        }
    }
    Ok(())
}

fn set_metadata(next: &mut Snapshot, change: &record::SetMetadata) -> Result<(), Refusal> {
    let known = Arc::make_mut(&mut database_mut(next, &change.database)?.metadata);
    for message in &change.metadata {
        known.insert(message.metric.as_str().into(), convert::metadata(message)?);
    }
    Ok(())
}

fn advance_wal(
    next: &mut Snapshot,
    record: &Record,
    change: record::AdvanceWal,
) -> Result<(), Refusal> {
    let to = WalPosition::from(change);
    let fenced = || Refusal::Fenced {
        node: record.node.clone(),
        epoch: record.epoch,
        newest: 0,
    };
    let node = Arc::make_mut(
        next.nodes
            .get_mut(record.node.as_str())
            .ok_or_else(fenced)?,
    );
    if to < node.wal || to.epoch > record.epoch {
        return Err(Refusal::WalPosition {
            node: record.node.clone(),
            from: node.wal,
            to,
        });
    }
    node.wal = to;
    node.order = node.order.max(change.order);
    Ok(())
}

fn change_segments(
    next: &mut Snapshot,
    record: &Record,
    change: &ChangeSegments,
) -> Result<(), Refusal> {
    let time_ms = next.time_ms;
    let database = Arc::clone(&database_mut(next, &change.database)?.name);
    let table = table_mut(next, &change.database, &change.table)?;
    // 0: written before tables had numbers.
    if change.table_id != table.id && change.table_id != 0 {
        return Err(Refusal::TableDropped {
            database: change.database.clone(),
            table: change.table.clone(),
        });
    }
    let mut retired = Vec::with_capacity(change.removed.len());
    for removed in &change.removed {
        let segment = convert::reference(&database, &table.name, removed);
        let (day, id) = (segment.day, segment.id);
        let gone = || Refusal::SegmentGone {
            segment: segment.clone(),
        };
        let Entry::Occupied(mut segments) = table.days.entry(day) else {
            return Err(gone());
        };
        let at = segments
            .get()
            .iter()
            .position(|segment| segment.id == id)
            .ok_or_else(gone)?;
        let left: &mut DaySegments = Arc::make_mut(segments.get_mut());
        left.remove(at);
        if left.is_empty() {
            segments.remove();
        }
        retired.push((id, Arc::new(Retired { segment, time_ms })));
    }
    let reader = SegmentReader::new(&database, &table.name, table.id, &change.sort_orders);
    for added in &change.added {
        let mut segment = reader.segment(added)?;
        if segment.order == (0, 0) {
            segment.order = (record.sequence, record.sequence);
        }
        check_segment(&segment, table, record.sequence)?;
        let segments = Arc::make_mut(table.days.entry(segment.day).or_default());
        let at = segments.partition_point(|other| write_order(other) <= write_order(&segment));
        segments.insert(at, Arc::new(segment));
    }
    next.retired.extend(retired);
    Ok(())
}

fn forget_segments(next: &mut Snapshot, change: &ForgetSegments) -> Result<(), Refusal> {
    for message in &change.segments {
        let segment = convert::reference(
            &change.database.as_str().into(),
            &change.table.as_str().into(),
            message,
        );
        match next.retired.entry(segment.id) {
            Entry::Occupied(entry) if entry.get().segment == segment => entry.remove(),
            _ => return Err(Refusal::SegmentGone { segment }),
        };
    }
    Ok(())
}

fn set_retention(next: &mut Snapshot, change: &record::SetRetention) -> Result<(), Refusal> {
    let retention = convert::retention(change.retention_ms);
    if change.table.is_empty() {
        database_mut(next, &change.database)?.retention = retention;
    } else {
        table_mut(next, &change.database, &change.table)?.retention = retention;
    }
    Ok(())
}

fn set_policies(next: &mut Snapshot, change: &record::SetPolicies) -> Result<(), Refusal> {
    check_name("retention policy", &change.own)?;
    check_name("retention policy", &change.default)?;
    database_mut(next, &change.database)?.policies = convert::policies(change);
    Ok(())
}

/// Its segments stay on the store for as long as those that a merge replaces.
fn drop_table(next: &mut Snapshot, database: &str, table: &str) -> Result<(), Refusal> {
    let none = || Refusal::NoTable {
        database: database.to_owned(),
        table: table.to_owned(),
    };
    let gone = database_mut(next, database)?
        .tables
        .remove(table)
        .ok_or_else(none)?;
    let time_ms = next.time_ms;
    let segments = gone.days.values().flat_map(|segments| segments.iter());
    next.retired.extend(segments.map(|segment| {
        (
            segment.id,
            Arc::new(Retired {
                segment: segment.reference(),
                time_ms,
            }),
        )
    }));
    Ok(())
}

fn drop_database(next: &mut Snapshot, database: &str) -> Result<(), Refusal> {
    let tables: Vec<_> = database_mut(next, database)?
        .tables
        .keys()
        .cloned()
        .collect();
    for table in tables {
        drop_table(next, database, &table)?;
    }
    next.databases.remove(database);
    Ok(())
}

fn add_tombstones(next: &mut Snapshot, change: &AddTombstones) -> Result<(), Refusal> {
    let (sequence, time_ms) = (next.sequence, next.time_ms);
    let table = table_mut(next, &change.database, &change.table)?;
    let tombstones = Arc::make_mut(&mut table.tombstones);
    for message in &change.tombstones {
        let tombstone = crate::model::Tombstone {
            sequence,
            time_ms,
            ..convert::tombstone(message)?
        };
        if tombstone.range.is_empty() {
            let reason = format!(
                "a delete from {} to {} deletes nothing",
                message.time_min, message.time_max
            );
            return Err(Refusal::BadTombstone {
                database: change.database.clone(),
                table: change.table.clone(),
                reason,
            });
        }
        tombstones.push(Arc::new(tombstone));
    }
    if tombstones.len() > MAX_TOMBSTONES {
        return Err(Refusal::TooManyDeletes {
            database: change.database.clone(),
            table: change.table.clone(),
        });
    }
    Ok(())
}

fn forget_tombstones(next: &mut Snapshot, change: &ForgetTombstones) -> Result<(), Refusal> {
    let table = table_mut(next, &change.database, &change.table)?;
    let needed = needed_tombstones(table);
    for sequence in &change.sequences {
        let bad = |reason: &str| {
            let reason = format!("the delete of commit {sequence} {reason}");
            Refusal::BadTombstone {
                database: change.database.clone(),
                table: change.table.clone(),
                reason,
            }
        };
        if needed.contains(sequence) {
            return Err(bad("is not applied to all segments"));
        }
        if !table
            .tombstones
            .iter()
            .any(|tombstone| tombstone.sequence == *sequence)
        {
            return Err(bad("is not there"));
        }
    }
    Arc::make_mut(&mut table.tombstones)
        .retain(|tombstone| !change.sequences.contains(&tombstone.sequence));
    Ok(())
}

/// The commits whose tombstones delete rows that are still in a segment.
pub(crate) fn needed_tombstones(table: &Table) -> std::collections::BTreeSet<u64> {
    if table.tombstones.is_empty() {
        return Default::default();
    }
    let segments = table.days.values().flat_map(|segments| segments.iter());
    segments
        .flat_map(|segment| {
            table
                .tombstones_of(segment)
                .map(|tombstone| tombstone.sequence)
        })
        .collect()
}

fn write_order(segment: &SegmentMeta) -> (u64, u64, crate::snapshot::SegmentId) {
    (segment.order.1, segment.order.0, segment.id)
}

fn check_segment(segment: &SegmentMeta, table: &Table, sequence: u64) -> Result<(), Refusal> {
    let bad = |reason: String| {
        Err(Refusal::BadSegment {
            segment: segment.reference(),
            reason,
        })
    };
    let day = segment.day.range(table.schema.kind.time_unit());
    if segment.time.is_empty() || segment.time.intersect(&day) != segment.time {
        return bad(format!(
            "its times {} to {} are not within {}",
            segment.time.min, segment.time.max, segment.day
        ));
    }
    let (first, last) = segment.order;
    if first == 0 || first > last || (last > sequence && !is_clock_order(last)) {
        return bad(format!(
            "its write order {first} to {last} is not possible in commit {sequence}"
        ));
    }
    if segment.deletes_applied > sequence {
        return bad(format!(
            "deletes up to commit {} are not possible in commit {sequence}",
            segment.deletes_applied
        ));
    }
    if segment.series == 0 || segment.series > segment.rows {
        return bad(format!(
            "it has {} rows of {} series",
            segment.rows, segment.series
        ));
    }
    if table.segment(segment.day, segment.id).is_some() {
        return bad("there is one with this id".to_owned());
    }
    Ok(())
}
