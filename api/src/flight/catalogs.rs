//! What there is: catalogs (databases), schemas, types of tables, and keys (there are none).
//!
//! A query reads one database, so tables are those of the one that is asked for.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::FlightData;
use arrow_flight::sql::{Command, CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes};
use tidelake_catalog::model::Permissions;
use tonic::Response;

use super::caller::Caller;
use super::{Answers, answer, shown, sql_info, tables, unsupported};
use crate::http::app::App;
use crate::service::error::{Code, ServiceError};

/// The schemas of each database.
const SCHEMAS: [&str; 3] = ["information_schema", "metrics", "public"];
/// As the information schema names them.
pub const TABLE: &str = "BASE TABLE";
pub const VIEW: &str = "VIEW";

/// The schema of the answer to a command that describes something.
pub fn schema(command: &Command) -> Option<Schema> {
    let schema = match command {
        Command::CommandGetCatalogs(asked) => asked.into_builder().schema(),
        Command::CommandGetDbSchemas(asked) => asked.clone().into_builder().schema(),
        Command::CommandGetTables(asked) => asked.clone().into_builder().schema(),
        Command::CommandGetTableTypes(asked) => asked.into_builder().schema(),
        Command::CommandGetSqlInfo(_) => return Some(sql_info::schema()),
        Command::CommandGetXdbcTypeInfo(_) => return Some(sql_info::types_schema()),
        Command::CommandGetPrimaryKeys(_) => return Some(primary_keys()),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => return Some(foreign_keys()),
        _ => return None,
    };
    Some(schema.as_ref().clone())
}

/// The answer to such a command.
pub async fn answer(
    app: &App,
    caller: &Caller,
    command: Command,
) -> Result<Response<Answers<FlightData>>, ServiceError> {
    let batch = match command {
        Command::CommandGetTables(asked) => return tables::answer(app, caller, asked).await,
        Command::CommandGetCatalogs(asked) => catalogs(asked, &readable(app, caller)?),
        Command::CommandGetDbSchemas(asked) => schemas(asked, &readable(app, caller)?),
        Command::CommandGetTableTypes(asked) => table_types(asked),
        Command::CommandGetSqlInfo(asked) => sql_info::answer(asked),
        Command::CommandGetXdbcTypeInfo(asked) => sql_info::types(asked),
        Command::CommandGetPrimaryKeys(_) => Ok(RecordBatch::new_empty(primary_keys().into())),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(foreign_keys().into())),
        other => {
            let what = shown(other.type_url());
            return Err(unsupported(&what, "it is no ticket of this server"));
        }
    };
    let batch = batch.map_err(|error| ServiceError::of(Code::Internal, error))?;
    answer::small(batch).await
}

/// The databases that the caller may read, in their order.
fn readable(app: &App, caller: &Caller) -> Result<Vec<Arc<str>>, ServiceError> {
    let databases = app.service.databases(&caller.context)?.into_iter();
    let readable = databases.filter(|(name, _)| caller.context.may(name, Permissions::READ));
    Ok(readable.map(|(name, _)| name).collect())
}

fn catalogs(
    asked: CommandGetCatalogs,
    databases: &[Arc<str>],
) -> Result<RecordBatch, arrow_flight::error::FlightError> {
    let mut builder = asked.into_builder();
    databases.iter().for_each(|name| builder.append(&**name));
    builder.build()
}

fn schemas(
    asked: CommandGetDbSchemas,
    databases: &[Arc<str>],
) -> Result<RecordBatch, arrow_flight::error::FlightError> {
    let mut builder = asked.into_builder();
    for name in databases {
        SCHEMAS
            .iter()
            .for_each(|schema| builder.append(name, schema));
    }
    builder.build()
}

fn table_types(
    asked: CommandGetTableTypes,
) -> Result<RecordBatch, arrow_flight::error::FlightError> {
    let mut builder = asked.into_builder();
    builder.append(TABLE);
    builder.append(VIEW);
    builder.build()
}

fn primary_keys() -> Schema {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ])
}

fn foreign_keys() -> Schema {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])
}
