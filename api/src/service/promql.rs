//! Expressions of PromQL.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::OwnedSemaphorePermit;

use super::context::{Access, Read};
use super::error::ServiceError;
use super::slots::{Language, QuerySlot};
use super::{Service, missing_role};
use crate::cluster::parts::PartRefused;
use crate::node::backend::{AsOf, Explained, PromqlOptions, QueryOutput, Steps};

/// When an expression is evaluated.
#[derive(Debug, Clone, Copy)]
pub enum At {
    /// Once, at this time in ms.
    Time(i64),
    /// At every step.
    Steps(Steps),
}

impl At {
    /// The first time.
    pub fn start_ms(self) -> i64 {
        match self {
            At::Time(ms) => ms,
            At::Steps(steps) => steps.start_ms,
        }
    }

    /// As steps: once is one step.
    pub fn steps(self) -> Steps {
        match self {
            At::Steps(steps) => steps,
            At::Time(ms) => Steps {
                start_ms: ms,
                end_ms: ms,
                step_ms: 0,
            },
        }
    }
}

/// A query.
#[derive(Debug, Clone)]
pub struct PromqlRequest<'a> {
    /// The expression.
    pub query: &'a str,
    /// When.
    pub at: At,
    /// Its limits and settings.
    pub options: PromqlOptions,
    /// Which state is read, if not the present one.
    pub as_of: Option<AsOf>,
}

/// An answer, and the place of the query: to be held until the answer is sent.
pub struct PromqlAnswer {
    /// What was found.
    pub output: QueryOutput,
    /// Free when dropped.
    pub slot: QuerySlot,
    /// How long the query waited for it.
    pub queued: Duration,
}

impl Service {
    /// Limits and settings of a query that asks for nothing else.
    pub fn promql_options(&self) -> PromqlOptions {
        PromqlOptions {
            lookback_ms: i64::try_from(self.config.lookback_ms).unwrap_or(i64::MAX),
            timeout: self.config.query_timeout(),
            max_samples: self.config.max_query_samples,
            partial: self.config.allow_partial_results,
            count_samples: false,
        }
    }

    /// Evaluates a query.
    pub async fn promql(
        &self,
        access: &Access<Read>,
        request: &PromqlRequest<'_>,
    ) -> Result<PromqlAnswer, ServiceError> {
        let admitted = self.admit(access, Language::Promql, request.as_of).await?;
        admitted.slot.shows(request.query);
        let (database, querier) = (access.database(), &admitted.querier);
        let (query, options) = (request.query, &request.options);
        let evaluated = async {
            match request.at {
                At::Time(time_ms) => {
                    querier
                        .promql_instant(database, query, time_ms, options)
                        .await
                }
                At::Steps(steps) => querier.promql_range(database, query, steps, options).await,
            }
        };
        Ok(PromqlAnswer {
            output: admitted.slot.watch(Box::pin(evaluated)).await?,
            slot: admitted.slot,
            queued: admitted.queued,
        })
    }

    /// A place for a part of a query of another process.
    ///
    /// # Errors
    /// [`Code::Unavailable`](super::error::Code::Unavailable) while the server starts, and when too
    /// many parts are being computed.
    pub fn place_of_part(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let backend = self.backend()?;
        backend.querier().map_err(missing_role)?;
        let place = backend.place_of_part();
        let too_many = "as many parts of queries are being computed as may be";
        place.ok_or_else(|| ServiceError::unavailable(too_many))
    }

    /// Computes a part of a query of another process; frames come as they are to be sent.
    ///
    /// # Errors
    /// As those of [`place_of_part`](Self::place_of_part).
    pub fn part(
        &self,
        place: OwnedSemaphorePermit,
        body: Bytes,
    ) -> Result<Result<BoxStream<'static, Bytes>, PartRefused>, ServiceError> {
        Ok(self.backend()?.part(place, body))
    }

    /// Says how a query is evaluated, and with `analyze` what each operator did.
    pub async fn explain_promql(
        &self,
        access: &Access<Read>,
        request: &PromqlRequest<'_>,
        analyze: bool,
    ) -> Result<Explained, ServiceError> {
        let admitted = self.admit(access, Language::Promql, request.as_of).await?;
        admitted.slot.shows(request.query);
        let steps = request.at.steps();
        let (database, options) = (access.database(), &request.options);
        let querier = &admitted.querier;
        let explained = querier.promql_explain(database, request.query, steps, options, analyze);
        admitted.slot.watch(Box::pin(explained)).await
    }
}
