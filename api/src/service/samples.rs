//! Samples as they are, series by series, for another Prometheus.

use std::collections::VecDeque;
use std::sync::Arc;

use tidelake_catalog::model::{Matcher, TimeRange};

use super::Service;
use super::context::{Access, Read};
use super::error::ServiceError;
use super::labels::shown;
use super::read::Deadline;
use super::slots::{Language, QuerySlot};
use crate::node::backend::{Querier, QueryError, SeriesSamples, SortedSamples};

/// Which series, and which of their samples in ms.
pub type SampleQuery = (Vec<Matcher>, TimeRange);

/// The series of some queries, one query after another.
pub struct SampleReader {
    querier: Arc<Querier>,
    database: Arc<str>,
    queries: VecDeque<SampleQuery>,
    /// Position of the first of `queries` in the request.
    next: usize,
    current: Option<SortedSamples>,
    max_samples: u64,
    deadline: Deadline,
}

impl Service {
    /// Reads samples; the place is to be held until all are sent.
    pub async fn samples(
        &self,
        access: &Access<Read>,
        queries: VecDeque<SampleQuery>,
    ) -> Result<(SampleReader, QuerySlot), ServiceError> {
        let admitted = self.admit(access, Language::RemoteRead, None).await?;
        let selectors = queries.iter().map(|(matchers, _)| matchers);
        admitted.slot.shows(&shown("samples", selectors));
        let reader = SampleReader {
            max_samples: admitted.querier.max_samples(),
            querier: admitted.querier,
            database: access.database().clone(),
            queries,
            next: 0,
            current: None,
            deadline: admitted.deadline,
        };
        Ok((reader, admitted.slot))
    }
}

impl SampleReader {
    /// Most samples that a query may hold.
    pub fn max_samples(&self) -> u64 {
        self.max_samples
    }

    /// Begins the next query; its position, or `None` after the last.
    pub async fn begin(&mut self) -> Result<Option<usize>, ServiceError> {
        let Some((matchers, range)) = self.queries.pop_front() else {
            return Ok(None);
        };
        let (database, most) = (&self.database, self.max_samples);
        // Large, and moved several times.
        let selected = Box::pin(
            self.querier
                .sorted_samples(database, &matchers, range, most),
        );
        self.current = Some(self.deadline.within(selected).await??);
        self.next += 1;
        Ok(Some(self.next - 1))
    }

    /// The next series of the query that was begun.
    pub async fn series(&mut self) -> Result<Option<SeriesSamples>, ServiceError> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        let series = self.deadline.within(current.next()).await?;
        Ok(series.map_err(QueryError::from)?)
    }
}
