//! What a server records about itself, written into `_internal`: by this process, or, if it takes
//! no writes, by another of the store.

use tidelake_catalog::model::INTERNAL_DATABASE;

use super::Service;
use super::error::ServiceError;
use crate::cluster::messages::Recorded;
use crate::node::backend::{ContentEncoding, Precision, Protocol, WriteRequest};

impl Service {
    /// Writes it here.
    pub async fn record(&self, record: &Recorded) -> Result<(), ServiceError> {
        let (protocol, encoding, body) = match record {
            Recorded::Lines(lines) => (
                Protocol::LineProtocol {
                    precision: Precision::Nanosecond,
                },
                ContentEncoding::Identity,
                lines.clone().into_bytes(),
            ),
            Recorded::Samples(samples) => (
                Protocol::RemoteWrite2,
                ContentEncoding::Snappy,
                samples.clone(),
            ),
        };
        let request = WriteRequest {
            database: INTERNAL_DATABASE.to_owned(),
            accept_partial: matches!(record, Recorded::Samples(_)),
            protocol,
            encoding,
            body: body.into(),
        };
        let written = self.backend()?.write(request).await;
        let outcome = written.map_err(|error| self.refuse(error))?;
        match outcome.errors.into_iter().next() {
            None => Ok(()),
            Some(error) => Err(ServiceError::bad_request(error.message)),
        }
    }

    /// Writes it wherever writes are taken.
    pub(super) async fn record_anywhere(&self, record: Recorded) -> Result<(), ServiceError> {
        let backend = self.backend()?;
        if backend.ingester.is_some() {
            return self.record(&record).await;
        }
        let written = backend.cluster().record_elsewhere(&record).await;
        written.map_err(ServiceError::unavailable)
    }
}
