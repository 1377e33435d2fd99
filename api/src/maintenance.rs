//! Changes of what is kept: deletes, drops, retention. All protocols come here.
//!
//! A change is about everything that was acknowledged before it, and the catalog knows only of
//! segments: so the buffer is flushed first, and the change committed after. What another process
//! of the same store has in its own buffer is not reached. If the flush or the commit fails,
//! nothing has changed, or the answer is 503 and the same request is safe to repeat.
use std::sync::Arc;

use tidelake_catalog::model::{EXEMPLARS_TABLE, METRICS_TABLE, Matcher, TimeRange};
use tidelake_catalog::{CatalogError, Refusal, Retention, Snapshot};

use crate::app::App;
use crate::error::{ApiError, Kind};

/// Rows of one table that go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The stored table; that of the samples stands for the exemplars as well.
    pub table: String,
    /// All must match a series; without any all series do.
    pub matchers: Vec<Matcher>,
    /// In the table's unit.
    pub range: TimeRange,
}

/// Deletes rows; returns the number of the last commit. Each deletion is a commit of its own; who
/// repeats them after a 503 deletes nothing else.
pub async fn delete(app: &App, database: &str, deletions: Vec<Deletion>) -> Result<u64, ApiError> {
    let backend = app.backend()?;
    let mut last = backend.catalog().snapshot().sequence();
    if deletions.is_empty() {
        return Ok(last);
    }
    flush(app).await?;
    let has_exemplars = backend
        .catalog()
        .snapshot()
        .table(database, EXEMPLARS_TABLE)
        .is_some();
    // Exemplars go with the samples of their series.
    let with_exemplars = |deletion: Deletion| {
        let exemplars = (has_exemplars && deletion.table == METRICS_TABLE).then(|| Deletion {
            table: EXEMPLARS_TABLE.to_owned(),
            ..deletion.clone()
        });
        [deletion].into_iter().chain(exemplars)
    };
    for Deletion {
        table,
        matchers,
        range,
    } in deletions.into_iter().flat_map(with_exemplars)
    {
        let deleted = backend
            .catalog()
            .delete(database, &table, matchers, range)
            .await;
        last = deleted.map_err(|error| refuse(app, error))?.sequence();
    }
    Ok(last)
}

/// Drops a table with its rows and columns; returns the number of the commit.
pub async fn drop_table(app: &App, database: &str, table: &str) -> Result<u64, ApiError> {
    flush(app).await?;
    sequence(
        app,
        app.backend()?.catalog().drop_table(database, table).await,
    )
}

/// Drops a database with all its tables; returns the number of the commit.
pub async fn drop_database(app: &App, database: &str) -> Result<u64, ApiError> {
    flush(app).await?;
    sequence(app, app.backend()?.catalog().drop_database(database).await)
}

/// Sets how long rows are kept, of one table or as the default of the database; returns the number
/// of the commit.
pub async fn set_retention(
    app: &App,
    database: &str,
    table: Option<&str>,
    retention: Retention,
) -> Result<u64, ApiError> {
    flush(app).await?;
    sequence(
        app,
        app.backend()?
            .catalog()
            .set_retention(database, table, retention)
            .await,
    )
}

async fn flush(app: &App) -> Result<(), ApiError> {
    app.backend()?
        .ingester
        .flush()
        .await
        .map_err(|error| app.refuse(error))
}

fn sequence(app: &App, committed: Result<Arc<Snapshot>, CatalogError>) -> Result<u64, ApiError> {
    committed
        .map(|snapshot| snapshot.sequence())
        .map_err(|error| refuse(app, error))
}

/// Notes what a failure of the catalog means for the process, and words it for the client.
pub fn refuse(app: &App, error: CatalogError) -> ApiError {
    let message = error.to_string();
    match error {
        CatalogError::Fenced { .. } => {
            app.fence(message.clone());
            ApiError::unavailable(message)
        }
        CatalogError::Refused(Refusal::NoDatabase { .. } | Refusal::NoTable { .. }) => {
            ApiError::new(Kind::NotFound, message)
        }
        // The compactor applies deletes within minutes.
        CatalogError::Refused(Refusal::TooManyDeletes { .. }) => {
            ApiError::new(Kind::Unavailable { retry_after_s: 60 }, message)
        }
        CatalogError::Refused(_) | CatalogError::NoSuchState(_) => ApiError::bad_request(message),
        CatalogError::Store(error) if error.is_transient() => ApiError::unavailable(message),
        CatalogError::Store(_) | CatalogError::NotRegistered => {
            ApiError::new(Kind::Internal, message)
        }
    }
}
