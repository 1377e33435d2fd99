//! Writes of all protocols.

use std::sync::Arc;

use bytes::Bytes;
use tidelake_catalog::Retention;
use tidelake_catalog::model::LimitsOf;

use super::Service;
use super::context::{Access, Write};
use super::error::ServiceError;
use crate::node::backend::{ContentEncoding, IngestError, Protocol, WriteOutcome, WriteRequest};

/// A body as it was sent, and how it is to be read.
#[derive(Debug, Clone)]
pub struct Points {
    /// What the body is.
    pub protocol: Protocol,
    /// How it is compressed.
    pub encoding: ContentEncoding,
    /// Whether what is good of it is kept when something is bad.
    pub accept_partial: bool,
    /// The body.
    pub body: Bytes,
}

impl Service {
    /// Writes points. When it returns, they are durable and visible.
    pub async fn write(
        &self,
        access: &Access<Write>,
        points: Points,
    ) -> Result<WriteOutcome, ServiceError> {
        let protocol = match points.protocol {
            Protocol::LineProtocol { .. } | Protocol::LineProtocol1 { .. } => "line_protocol",
            Protocol::RemoteWrite1 | Protocol::RemoteWrite2 => "remote_write",
            Protocol::Otlp { .. } => "otlp",
            Protocol::Exposition { .. } => "exposition",
        };
        let bytes = points.body.len();
        let written = self.write_admitted(access, points).await;
        match &written {
            Ok(outcome) => self.metrics.count_write(protocol, bytes, outcome),
            Err(error) => self.metrics.count_refused_write(protocol, error),
        }
        written
    }

    async fn write_admitted(
        &self,
        access: &Access<Write>,
        points: Points,
    ) -> Result<WriteOutcome, ServiceError> {
        let admitted = self.admit_write(access, points.body.len())?;
        let database = access.database();
        let is_new = self
            .backend()?
            .catalog()
            .snapshot()
            .database(database)
            .is_none();
        if is_new {
            self.check_new_database(database)?;
        }
        let request = WriteRequest {
            database: database.to_string(),
            protocol: points.protocol,
            encoding: points.encoding,
            accept_partial: points.accept_partial,
            body: points.body,
        };
        let written = self.backend()?.write(request).await;
        let outcome = written.map_err(|error| {
            if matches!(error, IngestError::Throttled { .. }) {
                let of = LimitsOf::Database(Arc::clone(database));
                self.count_throttled(&of);
            }
            self.refuse(error)
        })?;
        admitted.count(&outcome);
        if is_new {
            self.bound_new_database(access).await?;
        }
        Ok(outcome)
    }

    /// A database that a write makes keeps its rows for as long as it may. An error is safe to
    /// retry: the points are written, and written again they change nothing.
    async fn bound_new_database(&self, access: &Access<Write>) -> Result<(), ServiceError> {
        let (catalog, name) = (self.backend()?.catalog(), access.database());
        let Some(most) = self.limits_of(access)?.max_retention_ms else {
            return Ok(());
        };
        if catalog.snapshot().database(name).is_some() {
            let set = catalog.set_retention(name, None, Retention::Millis(most));
            set.await.map_err(|error| self.refuse_commit(error))?;
        }
        Ok(())
    }
}
