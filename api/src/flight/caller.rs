//! The caller of a method, and the database that it asks.

use tonic::Request;

use crate::http::database::DEFAULT_DATABASE;
use crate::service::context::{Access, Read, RequestContext};
use crate::service::database::check_name;
use crate::service::error::{Code, ServiceError};

/// Metadata that name the database: ours, that of Grafana and InfluxDB Cloud, and that of IOx.
const NAMES: [&str; 4] = ["database", "bucket-name", "iox-namespace-name", "bucket"];

/// The caller of a method.
pub struct Caller {
    pub context: RequestContext,
    /// The database of the call, unless what it asks names another one.
    pub database: String,
}

impl Caller {
    pub fn of<T>(request: &Request<T>) -> Result<Self, ServiceError> {
        let context = request.extensions().get::<RequestContext>().cloned();
        let context = context.ok_or_else(|| {
            ServiceError::new(Code::Internal, "the request was not authenticated")
        })?;
        let mut named = NAMES.into_iter().filter_map(|name| {
            let value = request.metadata().get(name)?;
            let text = value.to_str().map_err(|_| {
                ServiceError::bad_request(format!("the metadata {name:?} is not ASCII"))
            });
            (!value.is_empty()).then_some(text)
        });
        let database = named.next().transpose()?.unwrap_or(DEFAULT_DATABASE);
        check_name(database)?;
        Ok(Self {
            context,
            database: database.to_owned(),
        })
    }

    /// The right to read a database.
    pub fn access(&self, database: &str) -> Result<Access<Read>, ServiceError> {
        self.context.access(database)
    }
}
