//! `CommandGetTables`: the tables of a database, with their columns if asked, from its information
//! schema. They are sent as they are read, some hundred at a time.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::FlightData;
use arrow_flight::sql::CommandGetTables;
use arrow_flight::sql::metadata::GetTablesBuilder;
use futures::stream::{self, BoxStream, StreamExt};
use tonic::Response;

use super::answer::Rows;
use super::caller::Caller;
use super::{Answers, answer, columns};
use crate::http::app::App;
use crate::node::backend::SqlParam;
use crate::service::database::check_name;
use crate::service::error::{Code, ServiceError};
use crate::service::sql::{SqlRequest, SqlRows};

/// Tables of one message.
const AT_ONCE: usize = 200;
/// Types of tables that may be asked for at once.
const MAX_TYPES: usize = 16;

/// Sends the tables that are asked for.
pub async fn answer(
    app: &App,
    caller: &Caller,
    asked: CommandGetTables,
) -> Result<Response<Answers<FlightData>>, ServiceError> {
    let database = match asked.catalog.as_deref() {
        // Tables of no catalog: there are none.
        Some("") => {
            return answer::small(RecordBatch::new_empty(schema(asked.include_schema))).await;
        }
        Some(catalog) => catalog,
        None => &caller.database,
    };
    check_name(database)?;
    let access = caller.access(database)?;
    let request = request(app, &asked)?;
    let (catalog, with_columns): (Arc<str>, _) = (database.into(), asked.include_schema);
    let make = |rows: SqlRows| {
        let (batches, slot) = rows.in_time();
        let tables = Tables {
            catalog: Arc::clone(&catalog),
            with_columns,
            rows: Some(batches.boxed()),
            done: Vec::new(),
            open: None,
        };
        let batches = stream::try_unfold(tables, async |mut tables| {
            Ok(tables.next().await?.map(|batch| (batch, tables)))
        });
        Ok(Rows {
            schema: schema(with_columns),
            batches: batches.boxed(),
            slot,
        })
    };
    answer::query_as(app, &access, request, make).await
}

fn schema(with_columns: bool) -> Arc<Schema> {
    builder(with_columns).schema()
}

fn builder(with_columns: bool) -> GetTablesBuilder {
    let no_filter = None::<String>;
    GetTablesBuilder::new(
        no_filter.clone(),
        no_filter.clone(),
        no_filter,
        Vec::<String>::new(),
        with_columns,
    )
}

/// The statement that reads them.
fn request(app: &App, asked: &CommandGetTables) -> Result<SqlRequest, ServiceError> {
    if asked.table_types.len() > MAX_TYPES {
        return Err(ServiceError::bad_request(format!(
            "{} types of tables are asked for; {MAX_TYPES} are allowed",
            asked.table_types.len()
        )));
    }
    let mut params = HashMap::new();
    let mut conditions = vec!["true".to_owned()];
    let patterns = [
        ("table_schema", &asked.db_schema_filter_pattern),
        ("table_name", &asked.table_name_filter_pattern),
    ];
    for (column, pattern) in patterns {
        if let Some(pattern) = pattern {
            params.insert(column.to_owned(), SqlParam::String(pattern.clone()));
            conditions.push(format!("t.{column} LIKE ${column}"));
        }
    }
    if !asked.table_types.is_empty() {
        let mut names = Vec::new();
        for (at, kind) in asked.table_types.iter().enumerate() {
            // What most servers call tables.
            let kind = if kind == "TABLE" {
                super::catalogs::TABLE
            } else {
                kind
            };
            params.insert(format!("type{at}"), SqlParam::String(kind.to_owned()));
            names.push(format!("$type{at}"));
        }
        conditions.push(format!("t.table_type IN ({})", names.join(", ")));
    }
    let (columns, join, order) = match asked.include_schema {
        false => ("", "", ""),
        true => (
            ", c.column_name, c.data_type",
            "LEFT JOIN information_schema.columns AS c \
             ON t.table_schema = c.table_schema AND t.table_name = c.table_name",
            ", c.ordinal_position",
        ),
    };
    let sql = format!(
        "SELECT t.table_schema, t.table_name, t.table_type{columns} \
         FROM information_schema.tables AS t {join} WHERE {} \
         ORDER BY t.table_schema, t.table_name{order}",
        conditions.join(" AND ")
    );
    Ok(SqlRequest {
        text: app.service.read_sql(&sql)?,
        params,
        partial: None,
        timeout: None,
        as_of: None,
    })
}

#[derive(Debug, PartialEq)]
struct Table {
    schema: String,
    name: String,
    kind: String,
    columns: Vec<Field>,
}

/// Rows of columns on their way to rows of tables.
struct Tables {
    catalog: Arc<str>,
    with_columns: bool,
    /// `None` after the end.
    rows: Option<BoxStream<'static, Result<RecordBatch, ServiceError>>>,
    done: Vec<Table>,
    /// More columns may follow.
    open: Option<Table>,
}

impl Tables {
    async fn next(&mut self) -> Result<Option<RecordBatch>, ServiceError> {
        while self.done.len() < AT_ONCE {
            let Some(rows) = &mut self.rows else {
                break;
            };
            match rows.next().await {
                Some(batch) => self.add(&batch?)?,
                None => {
                    self.rows = None;
                    self.done.extend(self.open.take());
                }
            }
        }
        if self.done.is_empty() {
            return Ok(None);
        }
        let mut builder = builder(self.with_columns);
        for table in self.done.drain(..AT_ONCE.min(self.done.len())) {
            let columns = columns::sent(&Schema::new(table.columns));
            let added = builder.append(
                &*self.catalog,
                &table.schema,
                &table.name,
                &table.kind,
                &columns,
            );
            added.map_err(|error| ServiceError::of(Code::Internal, error))?;
        }
        let batch = builder.build();
        batch
            .map(Some)
            .map_err(|error| ServiceError::of(Code::Internal, error))
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), ServiceError> {
        let text = |column: &Arc<dyn Array>| {
            arrow::compute::cast(column, &DataType::Utf8)
                .map_err(|error| ServiceError::of(Code::Internal, error))
        };
        let columns = batch.columns().iter().map(text);
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<_> = columns
            .iter()
            .map(|column| column.as_string::<i32>())
            .collect();
        let [schema, name, kind, described @ ..] = columns.as_slice() else {
            return Ok(());
        };
        for row in 0..batch.num_rows() {
            let (schema, name) = (schema.value(row), name.value(row));
            let is_open = |table: &mut Table| table.schema == schema && table.name == name;
            if !self.open.as_mut().is_some_and(is_open) {
                let next = Table {
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                    kind: kind.value(row).to_owned(),
                    columns: Vec::new(),
                };
                self.done.extend(self.open.replace(next));
            }
            if let ([column, data_type], Some(table)) = (described, &mut self.open)
                && !column.is_null(row)
            {
                let data_type = DataType::from_str(data_type.value(row)).unwrap_or(DataType::Utf8);
                table
                    .columns
                    .push(Field::new(column.value(row), data_type, true));
            }
        }
        Ok(())
    }
}
