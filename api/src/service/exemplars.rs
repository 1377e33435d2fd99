//! Exemplars.

use super::Service;
use super::context::{Access, Read};
use super::error::ServiceError;
use super::labels::{Found, Selection, shown};
use super::slots::Language;
use crate::node::backend::SeriesExemplars;

impl Service {
    /// The exemplars of series; more than a query may hold samples are an error.
    pub async fn exemplars(
        &self,
        access: &Access<Read>,
        asked: Selection,
    ) -> Result<Found<Vec<SeriesExemplars>>, ServiceError> {
        let admitted = self.admit(access, Language::Exemplars, asked.as_of).await?;
        admitted.slot.shows(&shown("exemplars", &asked.matchers));
        let (database, querier) = (access.database().clone(), admitted.querier);
        let most = querier.max_samples();
        let find = Box::pin(async move {
            let Selection {
                matchers,
                range,
                partial,
                ..
            } = asked;
            querier
                .exemplars(&database, &matchers, range, most, partial)
                .await
        });
        let found = self.compute(&admitted.lane, find);
        let found = admitted.deadline.within(found);
        let found = admitted.slot.watch(async { found.await? }).await?;
        Ok((found, admitted.slot))
    }
}
