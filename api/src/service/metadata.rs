//! What targets say about their metrics, and which databases and tables there are.

use std::sync::Arc;

use tidelake_catalog::model::Permissions;
use tidelake_catalog::{Database, MetricMetadata, Retention};

use super::Service;
use super::context::{Access, Read, RequestContext};
use super::error::{Code, ServiceError};

impl Service {
    /// Metadata by metric family, sorted; of one family only when it is named.
    pub fn metadata(
        &self,
        access: &Access<Read>,
        metric: Option<&str>,
    ) -> Result<Vec<(String, MetricMetadata)>, ServiceError> {
        Ok(self.backend()?.querier.metadata(access.database(), metric))
    }

    /// The databases in which the principal may do anything, with how long they keep their rows.
    pub fn databases(
        &self,
        context: &RequestContext,
    ) -> Result<Vec<(Arc<str>, Retention)>, ServiceError> {
        let anything = Permissions::READ | Permissions::WRITE | Permissions::DELETE;
        let snapshot = self.backend()?.catalog().snapshot();
        let databases = snapshot.databases();
        let visible = databases.filter(|database| context.may(&database.name, anything));
        Ok(visible
            .map(|database| (Arc::clone(&database.name), database.retention))
            .collect())
    }

    /// Whether there is a database of the name.
    pub fn has_database(&self, name: &str) -> Result<bool, ServiceError> {
        let snapshot = self.backend()?.catalog().snapshot();
        Ok(snapshot.database(name).is_some())
    }

    /// A database with its tables.
    ///
    /// # Errors
    /// [`Code::NotFound`]
    pub fn database(&self, access: &Access<Read>) -> Result<Arc<Database>, ServiceError> {
        let snapshot = self.backend()?.catalog().snapshot();
        let name = access.database();
        let missing =
            || ServiceError::new(Code::NotFound, format!("database {name:?} does not exist"));
        snapshot.database(name).cloned().ok_or_else(missing)
    }
}
