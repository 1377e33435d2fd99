//! SQL: statements that read, and those that change something.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt, stream};

use super::Service;
use super::context::{Access, Admin, Delete, Read, RequestContext};
use super::error::{Code, ServiceError};
use super::maintain::Deletion;
use super::read::Deadline;
use super::slots::{Language, QuerySlot};
use crate::node::backend::{
    AsOf, Command, Description, Held, PARTIAL_TRIES, SqlAnswer, SqlError, SqlOutline, SqlParam,
    SqlText,
};

/// A statement that reads.
#[derive(Debug, Clone)]
pub struct SqlRequest {
    /// The statement.
    pub text: SqlText,
    /// Values of its `$name` parameters.
    pub params: HashMap<String, SqlParam>,
    /// Whether damaged segments may be left out, if it says so.
    pub partial: Option<bool>,
    /// Which state is read, if not the present one.
    pub as_of: Option<AsOf>,
    /// Longest time, if it is to be less than that of the server.
    pub timeout: Option<Duration>,
}

/// The rows of a statement while they are computed; also those of InfluxQL, where they are answered
/// as those of SQL are.
pub struct SqlRows {
    /// Them.
    pub stream: SendableRecordBatchStream,
    /// When they must have been computed.
    pub deadline: Deadline,
    /// To be held until they are sent.
    pub slot: Arc<QuerySlot>,
}

impl SqlRows {
    /// Its batches as long as they are in time, and what to hold until they are sent.
    pub fn in_time(
        self,
    ) -> (
        impl Stream<Item = Result<RecordBatch, ServiceError>> + Send + use<>,
        Arc<QuerySlot>,
    ) {
        let Self {
            stream: batches,
            deadline,
            slot,
        } = self;
        let in_time = stream::unfold(Some((batches, deadline)), async |rest| {
            let (mut batches, deadline) = rest?;
            match deadline.within(batches.next()).await {
                Ok(Some(Ok(batch))) => Some((Ok(batch), Some((batches, deadline)))),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(failure_of_rows(error)), None)),
                Err(late) => Some((Err(late), None)),
            }
        });
        (in_time, slot)
    }
}

/// What a failure means that rows end with.
pub fn failure_of_rows(error: DataFusionError) -> ServiceError {
    if let found @ (SqlError::Damaged { .. }
    | SqlError::Unavailable(_)
    | SqlError::NewTags(_)
    | SqlError::ResourcesExhausted(_)
    | SqlError::Timeout) = SqlError::from_ref(&error)
    {
        return found.into();
    }
    let kind = match error.find_root() {
        DataFusionError::ObjectStore(_)
        | DataFusionError::IoError(_)
        | DataFusionError::Internal(_)
        | DataFusionError::External(_) => Code::Internal,
        // Division by zero, casts that fail, overflows: the query meets data that it was not
        // written for.
        _ => Code::Execution,
    };
    ServiceError::new(kind, error.strip_backtrace())
}

impl Service {
    /// What a statement that reads takes and answers; parameters need no values.
    pub async fn sql_outline(
        &self,
        access: &Access<Read>,
        request: SqlRequest,
    ) -> Result<SqlOutline, ServiceError> {
        let admitted = self.admit(access, Language::Sql, request.as_of).await?;
        admitted
            .slot
            .shows(&format!("DESCRIBE {}", request.text.shown()));
        let (querier, deadline) = (admitted.querier, admitted.deadline);
        let outline = querier.sql_outline(access.database(), request.text, request.params);
        let in_time = async {
            let outlined = deadline.within(Box::pin(outline)).await?;
            outlined.map_err(ServiceError::from)
        };
        admitted.slot.watch(in_time).await
    }

    /// Looks at a SQL text: does it read, and as of when.
    pub fn read_sql(&self, sql: &str) -> Result<SqlText, ServiceError> {
        Ok(self.backend()?.querier.read_sql(sql)?)
    }

    /// Runs a statement that reads. `begin` takes its first rows; if they meet damage and the
    /// answer may be partial, it is called again with the rows of another try. Returns what it
    /// made, and what is to be known about it.
    pub async fn sql<T, F>(
        &self,
        access: &Access<Read>,
        request: SqlRequest,
        begin: impl Fn(SqlRows) -> F,
    ) -> Result<(T, Vec<String>), ServiceError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let partial = request.partial.unwrap_or(self.config.allow_partial_results);
        let admitted = self.admit(access, Language::Sql, request.as_of).await?;
        admitted.slot.shows(request.text.shown());
        let (querier, deadline) = (
            admitted.querier,
            admitted.deadline.or_sooner(request.timeout),
        );
        let slot = Arc::new(admitted.slot);
        let mut tries = if partial { PARTIAL_TRIES } else { 1 };
        loop {
            tries -= 1;
            let begun = async {
                let (text, params) = (request.text.clone(), request.params.clone());
                let held = Arc::clone(&slot) as Held;
                let answer =
                    Box::pin(querier.sql(access.database(), text, params, partial, Some(held)));
                let SqlAnswer { stream, warnings } = deadline.within(answer).await??;
                let rows = SqlRows {
                    stream,
                    deadline: deadline.clone(),
                    slot: Arc::clone(&slot),
                };
                // What expressions of PromQL remark is known when the first rows are.
                Ok((begin(rows).await?, warnings.list()))
            };
            match begun.await {
                // Nothing was answered yet, and the damage that was met is known now.
                Err(ServiceError {
                    code: Code::Damaged,
                    ..
                }) if tries > 0 => {}
                Err(error) => {
                    slot.fail(&error);
                    return Err(error);
                }
                begun => return begun,
            }
        }
    }

    /// What a statement that reads takes and answers; it has a place among queries while it is
    /// looked at.
    pub async fn describe_sql(
        &self,
        access: &Access<Read>,
        text: SqlText,
    ) -> Result<Description, ServiceError> {
        let admitted = self.admit(access, Language::Sql, text.as_of()).await?;
        admitted.slot.shows(&format!("DESCRIBE {}", text.shown()));
        let work = admitted.querier.describe_sql(access.database(), text);
        let described = admitted.deadline.within(admitted.slot.watch(work)).await;
        described?
    }

    /// Carries out a statement that changes something; what was done, and the number of the commit.
    pub async fn sql_command(
        &self,
        context: &RequestContext,
        database: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<(&'static str, u64), ServiceError> {
        // What it names is looked up, which only those may who may then change it. Another database
        // is not looked up.
        match text.first_words().split_whitespace().collect::<Vec<_>>()[..] {
            [verb, ..] if verb.eq_ignore_ascii_case("delete") => {
                context.access::<Delete>(database)?;
            }
            [_, what, ..] if what.eq_ignore_ascii_case("database") => {}
            _ => drop(context.access::<Admin>(database)?),
        }
        let named = Access::of(context, database);
        let _among_queries = self.admit_query(&named)?;
        let querier = &self.backend()?.querier;
        let command = Box::pin(querier.sql_command(database, text, params)).await?;
        let unchanged = || Ok::<_, ServiceError>(self.backend()?.catalog().snapshot().sequence());
        Ok(match command {
            Command::Nothing => ("nothing", unchanged()?),
            Command::Delete {
                table,
                matchers,
                range,
            } => {
                let access = context.access::<Delete>(database)?;
                let deletion = Deletion {
                    table,
                    matchers,
                    range,
                };
                ("delete", self.delete(&access, vec![deletion]).await?)
            }
            Command::DropTable { table } => {
                let access = context.access::<Admin>(database)?;
                ("drop table", self.drop_table(&access, &table).await?)
            }
            Command::DropDatabase {
                database,
                if_exists,
            } => {
                let access = context.access::<Admin>(&database)?;
                match self.drop_database(&access).await {
                    Err(error) if if_exists && error.code == Code::NotFound => {
                        ("nothing", unchanged()?)
                    }
                    dropped => ("drop database", dropped?),
                }
            }
            Command::SetRetention {
                database,
                table,
                retention,
            } => {
                let access = context.access::<Admin>(&database)?;
                let set = self.set_retention(&access, table.as_deref(), retention);
                ("set retention", set.await?)
            }
        })
    }
}
