//! Prepared statements: the handle is the statement with the values that were bound so far.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampNanosecondType, UInt64Type,
};
use arrow_flight::sql::{ActionCreatePreparedStatementResult, ProstMessageExt};
use bytes::Bytes;
use prost::Message;

use super::caller::Caller;
use super::statement::{Parameter, Statement, Value};
use super::{columns, schema_bytes};
use crate::http::app::App;
use crate::node::backend::SqlText;
use crate::service::error::{Code, ServiceError};
use crate::service::sql::SqlRequest;

/// The actions.
pub const CREATE: &str = "CreatePreparedStatement";
pub const CLOSE: &str = "ClosePreparedStatement";

/// Prepares a statement: its handle, what it answers and which parameters it takes.
pub async fn create(app: &App, caller: &Caller, sql: &str) -> Result<Bytes, ServiceError> {
    let text = app.service.read_sql(sql)?;
    let names = text.parameters().to_vec();
    let unknown = |name: &String| Field::new(name, DataType::Utf8, true);
    // By an empty schema clients know that it changes something.
    let (mut dataset_schema, mut kinds) = (Bytes::new(), Vec::new());
    if text.is_command() {
        kinds.extend(names.iter().map(unknown));
    } else {
        let access = caller.access(&caller.database)?;
        let request = SqlRequest {
            as_of: text.as_of(),
            text,
            params: Default::default(),
            partial: None,
            timeout: None,
        };
        let outline = app.service.sql_outline(&access, request).await?;
        let known = names.iter().map(|name| match outline.parameters.get(name) {
            Some(kind) => Field::new(name, kind.clone(), true),
            None => unknown(name),
        });
        kinds.extend(known);
        dataset_schema = schema_bytes(&columns::sent(&outline.columns))?;
    }
    let created = ActionCreatePreparedStatementResult {
        prepared_statement_handle: Statement::new(&caller.database, sql).handle()?,
        dataset_schema,
        parameter_schema: schema_bytes(&columns::sent(&Schema::new(kinds)))?,
    };
    Ok(created.as_any().encode_to_vec().into())
}

/// A statement with the values of a row. Columns belong to numbered parameters in their order, and
/// to others by their names.
pub fn bound(
    mut statement: Statement,
    text: &SqlText,
    rows: &[RecordBatch],
) -> Result<Statement, ServiceError> {
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    let Some(row) = rows.iter().find(|batch| batch.num_rows() > 0) else {
        return Ok(statement);
    };
    if count > 1 {
        return Err(ServiceError::bad_request(format!(
            "{count} rows of parameters were bound; a statement takes one row, so execute it once \
             for each"
        )));
    }
    let names = text.parameters();
    let are_numbered = names.iter().all(|name| name.parse::<u64>().is_ok());
    statement.parameters.clear();
    for (at, (field, column)) in row.schema().fields().iter().zip(row.columns()).enumerate() {
        let name = match are_numbered {
            true => (at + 1).to_string(),
            false => field.name().trim_start_matches(['$', ':', '@']).to_owned(),
        };
        let value = value(column).map_err(|kind| {
            ServiceError::bad_request(format!(
                "the parameter {name} has the type {kind}, which no parameter may have"
            ))
        })?;
        statement.parameters.push(Parameter { name, value });
    }
    Ok(statement)
}

/// The value in the first row, or the name of a type that is not supported.
fn value(column: &ArrayRef) -> Result<Option<Value>, DataType> {
    let kind = column.data_type();
    if column.is_null(0) || *kind == DataType::Null {
        return Ok(None);
    }
    let as_type = |wanted: &DataType| cast(column, wanted).map_err(|_| kind.clone());
    let times = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let converted = match kind {
        DataType::Boolean => as_type(&DataType::Boolean)?,
        kind if kind.is_signed_integer() => as_type(&DataType::Int64)?,
        kind if kind.is_unsigned_integer() => as_type(&DataType::UInt64)?,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => as_type(&DataType::Float64)?,
        DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => as_type(&DataType::Float64)?,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => as_type(&DataType::Utf8)?,
        DataType::Dictionary(_, value) if value.is_string() => as_type(&DataType::Utf8)?,
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => as_type(&times)?,
        other => return Err(other.clone()),
    };
    // A value that its type cannot hold.
    if converted.is_null(0) {
        return Err(kind.clone());
    }
    Ok(Some(match converted.data_type() {
        DataType::Boolean => Value::Boolean(converted.as_boolean().value(0)),
        DataType::Int64 => Value::Integer(converted.as_primitive::<Int64Type>().value(0)),
        DataType::UInt64 => Value::Unsigned(converted.as_primitive::<UInt64Type>().value(0)),
        DataType::Float64 => Value::Float(converted.as_primitive::<Float64Type>().value(0)),
        DataType::Utf8 => Value::String(converted.as_string::<i32>().value(0).to_owned()),
        _ => Value::Time(converted.as_primitive::<TimestampNanosecondType>().value(0)),
    }))
}

/// What a failure to read rows of parameters means.
pub fn unreadable(error: impl std::fmt::Display) -> ServiceError {
    ServiceError::new(
        Code::BadRequest,
        format!("the parameters cannot be read: {error}"),
    )
}
