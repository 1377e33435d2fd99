//! Tickets in JSON, as the clients of InfluxDB 3 send them.

use arrow_flight::FlightData;
use serde::Deserialize;
use tidelake_querier::influxql::{InfluxqlError, parse};
use tonic::Response;

use super::caller::Caller;
use super::statement::Statement;
use super::{Answers, answer, shown};
use crate::http::app::App;
use crate::influx::query::params as influxql_params;
use crate::service::database::check_name;
use crate::service::error::ServiceError;
use crate::service::influxql::InfluxqlRequest;
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
    match ticket.query_type.as_deref().unwrap_or("sql") {
        "sql" => {
            let access = caller.access(database)?;
            let statement = Statement::new(database, &ticket.sql_query);
            let params = placeholders::from_json(ticket.params.unwrap_or_default())?;
            let request = statement.request_with(&app.service, params)?;
            answer::query(app, &access, request).await
        }
        "influxql" => influxql(app, caller, database, &ticket).await,
        other => Err(ServiceError::bad_request(format!(
            "unknown query_type {:?}; use sql or influxql",
            shown(other)
        ))),
    }
}

/// The rows of a query in InfluxQL.
async fn influxql(
    app: &App,
    caller: &Caller,
    database: &str,
    ticket: &Ticket,
) -> Result<Response<Answers<FlightData>>, ServiceError> {
    let values = ticket.params.clone().unwrap_or_default();
    let params = influxql_params::of_json(values)?;
    let statements = parse(&ticket.sql_query, &params).map_err(InfluxqlError::from)?;
    let request = InfluxqlRequest {
        database: Some(database.to_owned()),
        policy: None,
        statements,
        text: ticket.sql_query.clone(),
        partial: None,
    };
    let rows = app.service.influxql_rows(&caller.context, request);
    let (rows, remarks) = Box::pin(rows).await?;
    answer::rows(app, rows, &remarks).await
}
