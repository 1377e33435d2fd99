//! `DoPut`: statements that change something, and the values of parameters.

use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use bytes::Bytes;
use futures::stream::StreamExt;
use futures::{TryStreamExt, stream};
use prost::Message;
use tonic::{Status, Streaming};

use super::caller::Caller;
use super::statement::Statement;
use super::{command, prepared, shown, unsupported};
use crate::http::app::App;
use crate::service::error::ServiceError;

/// How many rows went is not known before they are read.
const UNKNOWN_COUNT: i64 = -1;

/// Carries out a command; returns the metadata of the answer.
pub async fn put(
    app: &App,
    caller: &Caller,
    mut stream: Streaming<FlightData>,
) -> Result<Bytes, Status> {
    let Some(first) = stream.message().await? else {
        return Err(ServiceError::bad_request("there is no command").into());
    };
    let descriptor = first.flight_descriptor.clone().unwrap_or_default();
    let asked = command(&descriptor.cmd)?;
    match asked {
        Command::CommandStatementUpdate(update) => {
            no_transaction(update.transaction_id.as_ref())?;
            let statement = Statement::new(&caller.database, &update.query);
            Ok(carry_out(app, caller, statement).await?)
        }
        Command::CommandPreparedStatementUpdate(update) => {
            let statement = Statement::decode(&update.prepared_statement_handle)?;
            let statement = bind(app, statement, first, stream).await?;
            Ok(carry_out(app, caller, statement).await?)
        }
        Command::CommandPreparedStatementQuery(query) => {
            let statement = Statement::decode(&query.prepared_statement_handle)?;
            let statement = bind(app, statement, first, stream).await?;
            let result = DoPutPreparedStatementResult {
                prepared_statement_handle: Some(statement.handle()?),
            };
            Ok(result.encode_to_vec().into())
        }
        Command::CommandStatementIngest(_) => {
            let instead = "write by line protocol, remote write or OTLP";
            Err(unsupported("bulk ingestion over Flight SQL", instead).into())
        }
        other => {
            let what = shown(other.type_url());
            Err(unsupported(&what, "DoPut takes updates and parameters").into())
        }
    }
}

/// Refuses what would be a part of a transaction.
pub fn no_transaction(id: Option<&Bytes>) -> Result<(), ServiceError> {
    match id {
        Some(id) if !id.is_empty() => Err(unsupported(
            "a transaction",
            "each statement is one of its own",
        )),
        _ => Ok(()),
    }
}

/// Reads a row of parameters, if there is one.
async fn bind(
    app: &App,
    statement: Statement,
    first: FlightData,
    rest: Streaming<FlightData>,
) -> Result<Statement, Status> {
    let text = app.service.read_sql(&statement.sql)?;
    let has_schema = !first.data_header.is_empty();
    let mut batches = Vec::new();
    if has_schema {
        let messages = stream::iter([Ok(first)])
            .chain(rest)
            .map_err(FlightError::from);
        let mut rows = FlightRecordBatchStream::new_from_flight_data(messages);
        while let Some(batch) = rows.try_next().await.map_err(not_read)? {
            batches.push(batch);
            if batches.iter().map(|batch| batch.num_rows()).sum::<usize>() > 1 {
                break;
            }
        }
    }
    Ok(prepared::bound(statement, &text, &batches)?)
}

fn not_read(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => prepared::unreadable(other).into(),
    }
}

async fn carry_out(
    app: &App,
    caller: &Caller,
    statement: Statement,
) -> Result<Bytes, ServiceError> {
    let text = app.service.read_sql(&statement.sql)?;
    if !text.is_command() {
        let words = text.first_words();
        return Err(ServiceError::bad_request(format!(
            "{words} is no update: DELETE, DROP and ALTER ... SET (retention = ...) are; rows are \
             written by line protocol, remote write or OTLP, and read by a query"
        )));
    }
    let params = statement.values();
    let database = &statement.database;
    let changed = app
        .service
        .sql_command(&caller.context, database, text, params);
    Box::pin(changed).await?;
    let result = DoPutUpdateResult {
        record_count: UNKNOWN_COUNT,
    };
    Ok(result.encode_to_vec().into())
}
