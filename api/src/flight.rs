//! Arrow Flight SQL, and the queries of InfluxDB 3's clients, which are tickets of Flight.
//!
//! `caller` finds the database in the metadata. A `statement` is all that a ticket or the handle of
//! a prepared statement says, so nothing is kept between calls and any process answers them.
//! `prepared` fills in parameters, `update` carries out what changes something, `influx` reads
//! tickets in JSON. `tables`, `catalogs` and `sql_info` describe what there is. `answer` sends rows
//! in messages that clients take, with the types that they know (`columns`).
mod answer;
mod caller;
mod catalogs;
mod columns;
mod handshake;
mod influx;
mod prepared;
mod sql_info;
mod statement;
mod tables;
mod update;

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, IpcMessage, PollInfo, PutResult, SchemaAsIpc,
    SchemaResult, Ticket,
};
use axum::Router;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use self::caller::Caller;
use self::statement::Statement;
use crate::http::app::App;
use crate::http::grpc;
use crate::service::error::{Code, ServiceError};

/// The methods of Flight.
const METHODS: [&str; 10] = [
    "/arrow.flight.protocol.FlightService/Handshake",
    "/arrow.flight.protocol.FlightService/ListFlights",
    "/arrow.flight.protocol.FlightService/GetFlightInfo",
    "/arrow.flight.protocol.FlightService/PollFlightInfo",
    "/arrow.flight.protocol.FlightService/GetSchema",
    "/arrow.flight.protocol.FlightService/DoGet",
    "/arrow.flight.protocol.FlightService/DoPut",
    "/arrow.flight.protocol.FlightService/DoExchange",
    "/arrow.flight.protocol.FlightService/DoAction",
    "/arrow.flight.protocol.FlightService/ListActions",
];

/// The paths of this module.
pub fn routes() -> Router<Arc<App>> {
    grpc::service(&METHODS, |app| {
        FlightServiceServer::new(Flight { app })
            .max_decoding_message_size(usize::MAX)
            .send_compressed(tonic::codec::CompressionEncoding::Gzip)
            .send_compressed(tonic::codec::CompressionEncoding::Zstd)
    })
}

struct Flight {
    app: Arc<App>,
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

fn one<T: Send + 'static>(answer: T) -> Response<Answers<T>> {
    Response::new(stream::iter([Ok(answer)]).boxed())
}

/// What this server does not do, and what to do instead.
fn unsupported(what: &str, instead: &str) -> ServiceError {
    ServiceError::new(
        Code::Unsupported,
        format!("{what} is not supported: {instead}"),
    )
}

/// The command in a descriptor, a ticket or an action.
fn command(bytes: &[u8]) -> Result<Command, ServiceError> {
    let any = Any::decode(bytes).map_err(|error| {
        ServiceError::bad_request(format!("there is no command of Flight SQL: {error}"))
    })?;
    Command::try_from(any).map_err(|error| ServiceError::bad_request(error.to_string()))
}

/// A name from outside for a message, not too long.
fn shown(name: &str) -> String {
    name.chars().take(120).collect()
}

/// A schema as clients read it.
fn schema_bytes(schema: &Schema) -> Result<Bytes, ServiceError> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options)
        .try_into()
        .map_err(|error: arrow::error::ArrowError| ServiceError::of(Code::Internal, error))?;
    Ok(bytes)
}

/// One place to get an answer from: here.
fn info(
    schema: &Schema,
    ticket: Bytes,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, ServiceError> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new()
        .with_descriptor(descriptor)
        .with_endpoint(endpoint);
    info.try_with_schema(schema)
        .map_err(|error| ServiceError::of(Code::Internal, error))
}

impl Flight {
    /// The statement in a command that asks for rows; `None` if it is no such command.
    fn statement(caller: &Caller, command: &Command) -> Result<Option<Statement>, ServiceError> {
        Ok(Some(match command {
            Command::CommandStatementQuery(query) => {
                update::no_transaction(query.transaction_id.as_ref())?;
                Statement::new(&caller.database, &query.query)
            }
            Command::CommandPreparedStatementQuery(query) => {
                Statement::decode(&query.prepared_statement_handle)?
            }
            Command::TicketStatementQuery(ticket) => Statement::decode(&ticket.statement_handle)?,
            _ => return Ok(None),
        }))
    }

    async fn schema(&self, caller: &Caller, command: &Command) -> Result<Schema, ServiceError> {
        if let Some(statement) = Self::statement(caller, command)? {
            let access = caller.access(&statement.database)?;
            let request = statement.request(&self.app.service)?;
            let outline = self.app.service.sql_outline(&access, request).await?;
            return Ok(columns::sent(&outline.columns));
        }
        match catalogs::schema(command) {
            Some(schema) => Ok(schema),
            None => Err(unsupported(&shown(command.type_url()), "it is no query")),
        }
    }

    async fn flight_info(
        &self,
        caller: &Caller,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, ServiceError> {
        let asked = command(&descriptor.cmd)?;
        let schema = self.schema(caller, &asked).await?;
        let ticket = match asked {
            Command::CommandStatementQuery(_) => match Self::statement(caller, &asked)? {
                Some(statement) => statement.ticket()?,
                None => descriptor.cmd.clone(),
            },
            // The command says all.
            _ => descriptor.cmd.clone(),
        };
        info(&schema, ticket, descriptor)
    }

    async fn rows(
        &self,
        caller: &Caller,
        ticket: &[u8],
    ) -> Result<Response<Answers<FlightData>>, ServiceError> {
        if influx::is_ticket(ticket) {
            return influx::answer(&self.app, caller, ticket).await;
        }
        let asked = command(ticket)?;
        match Self::statement(caller, &asked)? {
            Some(statement) => {
                let access = caller.access(&statement.database)?;
                let request = statement.request(&self.app.service)?;
                answer::query(&self.app, &access, request).await
            }
            None => catalogs::answer(&self.app, caller, asked).await,
        }
    }
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        handshake::answer(&self.app, request).await
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(unsupported("ListFlights", "ask for tables by CommandGetTables").into())
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = Caller::of(&request)?;
        let info = self.flight_info(&caller, request.into_inner()).await?;
        Ok(Response::new(info))
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(unsupported("PollFlightInfo", "call GetFlightInfo and DoGet").into())
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let caller = Caller::of(&request)?;
        let asked = command(&request.get_ref().cmd)?;
        let schema = self.schema(&caller, &asked).await?;
        let schema = schema_bytes(&schema)?;
        Ok(Response::new(SchemaResult { schema }))
    }

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let caller = Caller::of(&request)?;
        Ok(self.rows(&caller, &request.get_ref().ticket).await?)
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let caller = Caller::of(&request)?;
        let metadata = update::put(&self.app, &caller, request.into_inner()).await?;
        Ok(one(PutResult {
            app_metadata: metadata,
        }))
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(unsupported("DoExchange", "read by DoGet").into())
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let caller = Caller::of(&request)?;
        let Action { r#type: kind, body } = request.into_inner();
        match (kind.as_str(), command(&body)) {
            (prepared::CREATE, Ok(Command::ActionCreatePreparedStatementRequest(create))) => {
                update::no_transaction(create.transaction_id.as_ref())?;
                let body = prepared::create(&self.app, &caller, &create.query).await?;
                Ok(one(arrow_flight::Result { body }))
            }
            // Nothing is kept of it.
            (prepared::CLOSE, _) => Ok(Response::new(stream::empty().boxed())),
            (prepared::CREATE, Err(error)) => Err(error.into()),
            _ => {
                let what = format!("the action {:?}", shown(&kind));
                Err(unsupported(&what, "ListActions names those that are").into())
            }
        }
    }

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let action = |kind: &str, description: &str| {
            Ok(ActionType {
                r#type: kind.to_owned(),
                description: description.to_owned(),
            })
        };
        let actions = [
            action(
                prepared::CREATE,
                "Looks at a statement, which may have parameters",
            ),
            action(prepared::CLOSE, "Does nothing: no statement is kept"),
        ];
        Ok(Response::new(stream::iter(actions).boxed()))
    }
}

#[cfg(test)]
mod tests;
