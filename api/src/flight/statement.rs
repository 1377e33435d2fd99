//! A statement with the values of its parameters and its database: what tickets and handles of
//! prepared statements say. They are not signed, as they give no right: the caller needs the right
//! to the database that they name.

use std::collections::HashMap;

use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use bytes::Bytes;
use prost::Message;

use crate::node::backend::{SqlParam, SqlText};
use crate::service::Service;
use crate::service::database::check_name;
use crate::service::error::{Code, ServiceError};
use crate::service::sql::SqlRequest;

/// Longest ticket or handle: answers with one are to stay below the 4 MiB that clients take.
const MAX_BYTES: usize = 2 << 20;

#[derive(Clone, PartialEq, Message)]
pub struct Statement {
    #[prost(string, tag = "1")]
    pub database: String,
    #[prost(string, tag = "2")]
    pub sql: String,
    #[prost(message, repeated, tag = "3")]
    pub parameters: Vec<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Parameter {
    #[prost(string, tag = "1")]
    pub name: String,
    /// None is NULL.
    #[prost(oneof = "Value", tags = "2, 3, 4, 5, 6, 7")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(bool, tag = "2")]
    Boolean(bool),
    #[prost(sint64, tag = "3")]
    Integer(i64),
    #[prost(uint64, tag = "4")]
    Unsigned(u64),
    #[prost(double, tag = "5")]
    Float(f64),
    #[prost(string, tag = "6")]
    String(String),
    /// Nanoseconds since 1970.
    #[prost(sfixed64, tag = "7")]
    Time(i64),
}

impl Statement {
    pub fn new(database: &str, sql: &str) -> Self {
        Self {
            database: database.to_owned(),
            sql: sql.to_owned(),
            parameters: Vec::new(),
        }
    }

    /// What a ticket or handle says.
    pub fn decode(bytes: &[u8]) -> Result<Self, ServiceError> {
        let statement = <Self as Message>::decode(bytes).map_err(|error| {
            ServiceError::bad_request(format!(
                "the ticket or handle is not of this server: {error}"
            ))
        })?;
        check_name(&statement.database)?;
        Ok(statement)
    }

    /// The handle of it as a prepared statement.
    pub fn handle(&self) -> Result<Bytes, ServiceError> {
        let length = self.encoded_len();
        if length > MAX_BYTES {
            let message = format!(
                "the statement has {length} bytes with its parameters; {MAX_BYTES} are allowed"
            );
            return Err(ServiceError::new(Code::TooLarge, message));
        }
        Ok(self.encode_to_vec().into())
    }

    /// The ticket for its rows.
    pub fn ticket(&self) -> Result<Bytes, ServiceError> {
        let statement_handle = self.handle()?;
        let ticket = TicketStatementQuery { statement_handle };
        Ok(ticket.as_any().encode_to_vec().into())
    }

    /// The values of its parameters.
    pub fn values(&self) -> HashMap<String, SqlParam> {
        let of = |parameter: &Parameter| match parameter.value.clone() {
            None => SqlParam::Null,
            Some(Value::Boolean(value)) => SqlParam::Boolean(value),
            Some(Value::Integer(value)) => SqlParam::Integer(value),
            Some(Value::Unsigned(value)) => SqlParam::Unsigned(value),
            Some(Value::Float(value)) => SqlParam::Float(value),
            Some(Value::String(value)) => SqlParam::String(value),
            Some(Value::Time(value)) => SqlParam::Time(value),
        };
        let named = self.parameters.iter();
        named.map(|one| (one.name.clone(), of(one))).collect()
    }

    /// What it asks for.
    ///
    /// # Errors
    /// If it changes something, which no call that reads may do, or if a parameter has no value.
    pub fn request(&self, service: &Service) -> Result<SqlRequest, ServiceError> {
        self.request_with(service, self.values())
    }

    /// The same with other values of its parameters.
    pub fn request_with(
        &self,
        service: &Service,
        params: HashMap<String, SqlParam>,
    ) -> Result<SqlRequest, ServiceError> {
        let text = service.read_sql(&self.sql)?;
        only_reads(&text)?;
        let missing = text
            .parameters()
            .iter()
            .find(|name| !params.contains_key(*name));
        if let Some(name) = missing {
            return Err(ServiceError::bad_request(format!(
                "the parameter ${} has no value: bind one",
                super::shown(name)
            )));
        }
        Ok(SqlRequest {
            as_of: text.as_of(),
            text,
            params,
            partial: None,
            timeout: None,
        })
    }
}

fn only_reads(text: &SqlText) -> Result<(), ServiceError> {
    if !text.is_command() {
        return Ok(());
    }
    let words = text.first_words();
    Err(ServiceError::bad_request(format!(
        "{words} changes something: execute it as an update (CommandStatementUpdate)"
    )))
}
