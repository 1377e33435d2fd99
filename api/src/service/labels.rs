//! Label names, label values, series, and how many there are of what.

use std::fmt::Write as _;
use std::sync::Arc;

use tidelake_catalog::model::{Labels, Matcher, TimeRange};

use super::Service;
use super::context::{Access, Read};
use super::error::ServiceError;
use super::slots::{Language, QuerySlot};
use crate::node::backend::{Answer, AsOf, Cardinality, Querier, QueryError};

/// Selectors of a request that are shown.
const MAX_SHOWN_SELECTORS: usize = 8;

/// Which series are asked for.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Those that match any of these; all if there are none.
    pub matchers: Vec<Vec<Matcher>>,
    /// Those that may have samples then, in ms.
    pub range: TimeRange,
    /// Most to find; 0 for all.
    pub limit: usize,
    /// Which state is read, if not the present one.
    pub as_of: Option<AsOf>,
    /// Whether damaged segments may be left out.
    pub partial: bool,
}

/// What was found, and the place of the query: to be held until the answer is sent.
pub type Found<T> = (Answer<T>, QuerySlot);

impl Service {
    /// Sorted names of the labels of series.
    pub async fn label_names(
        &self,
        access: &Access<Read>,
        asked: &Selection,
    ) -> Result<Found<Vec<String>>, ServiceError> {
        let look = |querier: Arc<Querier>, db: Arc<str>, asked: Selection| async move {
            let (matchers, range) = (&asked.matchers, asked.range);
            let found = querier.label_names(&db, matchers, range, asked.limit, asked.partial);
            found.await
        };
        self.find(access, "label names", asked, look).await
    }

    /// Sorted values of one label of series.
    pub async fn label_values(
        &self,
        access: &Access<Read>,
        name: String,
        asked: &Selection,
    ) -> Result<Found<Vec<String>>, ServiceError> {
        let named = format!("values of {name}");
        let look = |querier: Arc<Querier>, db: Arc<str>, asked: Selection| async move {
            let (matchers, range) = (&asked.matchers, asked.range);
            let found =
                querier.label_values(&db, &name, matchers, range, asked.limit, asked.partial);
            found.await
        };
        self.find(access, &named, asked, look).await
    }

    /// Series.
    pub async fn series(
        &self,
        access: &Access<Read>,
        asked: &Selection,
    ) -> Result<Found<Vec<Labels>>, ServiceError> {
        let look = |querier: Arc<Querier>, db: Arc<str>, asked: Selection| async move {
            let (matchers, range) = (&asked.matchers, asked.range);
            querier
                .series(&db, matchers, range, asked.limit, asked.partial)
                .await
        };
        self.find(access, "series", asked, look).await
    }

    /// How many series there are, and of what most; rankings have at most `asked.limit` entries.
    pub async fn cardinality(
        &self,
        access: &Access<Read>,
        asked: &Selection,
    ) -> Result<Answer<Cardinality>, ServiceError> {
        let look = |querier: Arc<Querier>, db: Arc<str>, asked: Selection| async move {
            querier
                .cardinality(&db, asked.range, asked.limit, asked.partial)
                .await
        };
        let (found, _) = self.find(access, "cardinality", asked, look).await?;
        Ok(found)
    }

    /// Admits a query, computes it in time, and keeps its place for the answer.
    async fn find<T, F>(
        &self,
        access: &Access<Read>,
        what: &str,
        asked: &Selection,
        look: impl FnOnce(Arc<Querier>, Arc<str>, Selection) -> F,
    ) -> Result<Found<T>, ServiceError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Answer<T>, QueryError>> + Send + 'static,
    {
        let admitted = self.admit(access, Language::Labels, asked.as_of).await?;
        admitted.slot.shows(&shown(what, &asked.matchers));
        let database = Arc::clone(access.database());
        let found = Box::pin(look(admitted.querier, database, asked.clone()));
        let found = admitted
            .deadline
            .within(self.compute_small(&admitted.lane, found));
        let found = admitted.slot.watch(async { found.await? }).await?;
        Ok((found, admitted.slot))
    }
}

/// What is asked, and of which series, to be shown.
pub(super) fn shown<'a>(
    what: &str,
    selectors: impl IntoIterator<Item = &'a Vec<Matcher>>,
) -> String {
    let mut text = what.to_owned();
    for matchers in selectors.into_iter().take(MAX_SHOWN_SELECTORS) {
        text.push_str(" {");
        for (i, matcher) in matchers.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            // A text takes everything.
            let _ = write!(text, "{comma}{matcher}");
        }
        text.push('}');
    }
    text
}
