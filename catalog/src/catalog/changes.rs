//! What a commit has to change so that something is as it is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{NameLimits, TableColumns};
use crate::apply::Refusal;
use crate::model::SchemaError;
use crate::record::convert::{self, SortOrders};
use crate::record::{AddColumns, ChangeSegments, CreateDatabase, CreateTable, Kind, Removed};
use crate::snapshot::{SegmentMeta, SegmentRef, Snapshot};

/// The changes after which a database has these tables and columns.
pub(super) fn missing_columns(
    snapshot: &Snapshot,
    database: &str,
    tables: &[TableColumns],
    limits: &NameLimits,
) -> Result<Vec<Kind>, Refusal> {
    let mut changes = Vec::new();
    let found = snapshot.database(database);
    limits.check_tables(snapshot, database, tables)?;
    if found.is_none() {
        changes.push(Kind::CreateDatabase(CreateDatabase {
            name: database.to_owned(),
        }));
    }
    for TableColumns {
        table,
        kind,
        columns,
    } in tables
    {
        let Some(found) = found.and_then(|database| database.table(table)) else {
            let columns = columns
                .iter()
                .map(|(name, kind)| convert::column_message(name, *kind))
                .collect();
            let (database, table) = (database.to_owned(), table.clone());
            changes.push(Kind::CreateTable(CreateTable {
                database,
                table,
                kind: convert::table_kind_number(*kind),
                columns,
            }));
            continue;
        };
        if found.schema.kind != *kind {
            return Err(Refusal::TableExists {
                database: database.to_owned(),
                table: table.clone(),
                kind: found.schema.kind,
            });
        }
        let mut missing = Vec::new();
        for (name, wanted) in columns {
            match found.schema.column(name) {
                None => missing.push(convert::column_message(name, *wanted)),
                Some(column) if column.kind == *wanted => {}
                Some(column) => {
                    let conflict = SchemaError {
                        column: name.clone(),
                        existing: column.kind,
                        wanted: *wanted,
                    };
                    return Err(Refusal::ColumnConflict {
                        database: database.to_owned(),
                        table: table.clone(),
                        conflict,
                    });
                }
            }
        }
        if !missing.is_empty() {
            changes.push(Kind::AddColumns(AddColumns {
                database: database.to_owned(),
                table: table.clone(),
                columns: missing,
            }));
        }
    }
    Ok(changes)
}

/// The changes of segments, one per table.
pub(super) fn segment_changes(removed: &[SegmentRef], added: &[SegmentMeta]) -> Vec<Kind> {
    #[derive(Default)]
    struct TableChange {
        removed: Vec<Removed>,
        added: Vec<crate::record::Segment>,
        sort_orders: SortOrders,
        table_id: u64,
    }
    let mut tables = BTreeMap::<(Arc<str>, Arc<str>), TableChange>::new();
    for segment in removed {
        let change = tables
            .entry((Arc::clone(&segment.database), Arc::clone(&segment.table)))
            .or_default();
        change.removed.push(convert::removed_message(segment));
    }
    for segment in added {
        let change = tables
            .entry((Arc::clone(&segment.database), Arc::clone(&segment.table)))
            .or_default();
        let message = change.sort_orders.segment_message(segment);
        change.added.push(message);
        change.table_id = segment.table_id;
    }
    let change = |((database, table), change): (_, TableChange)| {
        let (database, table): (Arc<str>, Arc<str>) = (database, table);
        Kind::ChangeSegments(ChangeSegments {
            database: database.to_string(),
            table: table.to_string(),
            sort_orders: change.sort_orders.into_messages(),
            removed: change.removed,
            added: change.added,
            table_id: change.table_id,
        })
    };
    tables
        .into_iter()
        .map(|((database, table), segments)| change(((database, table), segments)))
        .collect()
}
