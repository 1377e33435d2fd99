//! Tickets in JSON, as the clients of InfluxDB 3 send them.

use arrow_flight::FlightData;
use serde::Deserialize;
use tonic::Response;

use super::caller::Caller;
use super::statement::Statement;
use super::{Answers, answer, shown, unsupported};
use crate::http::app::App;
use crate::service::context::{Access, Read};
use crate::service::database::check_name;
use crate::service::error::ServiceError;
use crate::sql::placeholders;

/// A query in a ticket.
#[derive(Debug, Deserialize)]
struct Ticket {
    #[serde(alias = "namespace_name")]
    database: Option<String>,
    #[serde(alias = "query")]
    sql_query: String,
    query_type: Option<String>,
    #[serde(default)]
    params: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Whether a ticket is one of these: those of Flight SQL begin with another byte.
pub fn is_ticket(ticket: &[u8]) -> bool {
    ticket.first() == Some(&b'{')
}

/// The rows that a ticket asks for.
pub async fn answer(
    app: &App,
    caller: &Caller,
    ticket: &[u8],
) -> Result<Response<Answers<FlightData>>, ServiceError> {
    let ticket: Ticket = serde_json::from_slice(ticket).map_err(|error| {
        ServiceError::bad_request(format!(
            "a ticket must be JSON like {{\"database\": \"..\", \"sql_query\": \"..\", \
             \"query_type\": \"sql\"}}: {error}"
        ))
    })?;
    let database = ticket.database.as_deref().unwrap_or(&caller.database);
    check_name(database)?;
    let access = caller.access(database)?;
    match ticket.query_type.as_deref().unwrap_or("sql") {
        "sql" => {
            let statement = Statement::new(database, &ticket.sql_query);
            let params = placeholders::from_json(ticket.params.unwrap_or_default())?;
            let request = statement.request_with(&app.service, params)?;
            answer::query(app, &access, request).await
        }
        "influxql" => influxql(app, &access, &ticket).await,
        other => Err(ServiceError::bad_request(format!(
            "unknown query_type {:?}; use sql or influxql",
            shown(other)
        ))),
    }
}

/// The rows of a query in InfluxQL.
async fn influxql(
    _app: &App,
    _access: &Access<Read>,
    _ticket: &Ticket,
) -> Result<Response<Answers<FlightData>>, ServiceError> {
    Err(unsupported(
        "InfluxQL over Flight",
        "send SQL, with query_type \"sql\"",
    ))
}
