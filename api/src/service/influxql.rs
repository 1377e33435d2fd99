//! Statements of InfluxQL.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use tidelake_catalog::{Policies, Retention, Snapshot, base_database};
use tidelake_querier::influxql::{Batches, PolicyOptions, Scope, Series, Statement, change};

use super::Service;
use super::context::{Access, Action, Admin, Delete, Read, RequestContext};
use super::error::{Code, ServiceError};
use super::maintain::Deletion;
use super::read::Deadline;
use super::slots::{Language, QuerySlot};
use super::sql::SqlRows;
use crate::node::backend::{InfluxqlAnswer, InfluxqlError, Querier};

/// InfluxDB takes no shorter retention.
const MIN_POLICY_NS: i64 = 3_600_000_000_000;

/// The statements of a request.
#[derive(Debug)]
pub struct InfluxqlRequest {
    /// The database that names without one mean.
    pub database: Option<String>,
    /// The retention policy that names without one mean.
    pub policy: Option<String>,
    /// The statements.
    pub statements: Vec<Statement>,
    /// What they were parsed from.
    pub text: String,
    /// Whether damaged segments may be left out, if it says so.
    pub partial: Option<bool>,
}

/// Carries the statements of a request out, one after the other.
pub struct InfluxqlSession {
    context: RequestContext,
    request: InfluxqlRequest,
    /// The state that is read, and the place of the request among the queries.
    admitted: Option<(Arc<Querier>, Deadline)>,
    slot: Option<Arc<QuerySlot>>,
}

/// What a statement answers.
#[derive(Debug)]
pub struct StatementAnswer {
    /// Its series, and their memory.
    pub answer: Option<InfluxqlAnswer>,
    /// What is to be known about them.
    pub warnings: Vec<String>,
}

impl StatementAnswer {
    /// The series.
    pub fn series(&self) -> &[Series] {
        self.answer.as_ref().map_or(&[], |answer| &answer.series)
    }
}

impl Service {
    /// Begins a request, which then has one place among the queries.
    ///
    /// # Errors
    /// [`Code::Forbidden`] if it may not do all that it asks for, and those of
    /// [`admit`](Self::admit).
    pub async fn influxql(
        &self,
        context: &RequestContext,
        request: InfluxqlRequest,
    ) -> Result<InfluxqlSession, ServiceError> {
        let named = request.database.as_deref().filter(|name| !name.is_empty());
        let mut read = None;
        for statement in &request.statements {
            for database in statement.databases(named) {
                match statement {
                    Statement::Delete(..) | Statement::DropSeries(..) => {
                        context.access::<Delete>(database)?;
                    }
                    statement if statement.is_read() => {
                        let access = context.access::<Read>(database)?;
                        read.get_or_insert(access);
                    }
                    _ => drop(context.access::<Admin>(database)?),
                }
            }
        }
        let (admitted, slot) = match read {
            Some(access) => {
                let admitted = self.admit(&access, Language::Influxql, None).await?;
                admitted.slot.shows(&request.text);
                let read = (admitted.querier, admitted.deadline);
                (Some(read), Some(Arc::new(admitted.slot)))
            }
            None => (None, None),
        };
        Ok(InfluxqlSession {
            context: context.clone(),
            request,
            admitted,
            slot,
        })
    }

    /// The rows of the one statement of a request, which must read, as the clients of InfluxDB 3
    /// get them (see [`Batches`]), and what is to be known about them.
    ///
    /// # Errors
    /// [`Code::BadRequest`] for anything but one statement that reads, and those of
    /// [`influxql`](Self::influxql).
    pub async fn influxql_rows(
        &self,
        context: &RequestContext,
        request: InfluxqlRequest,
    ) -> Result<(SqlRows, Vec<String>), ServiceError> {
        if request.statements.len() != 1 {
            return Err(ServiceError::bad_request(format!(
                "there are {} statements: send one at a time, or all of them to /query",
                request.statements.len()
            )));
        }
        if !request.statements.iter().all(Statement::is_read) {
            return Err(ServiceError::bad_request(
                "the statement changes something: send it to /query by POST",
            ));
        }
        let session = self.influxql(context, request).await?;
        let answered = session.run(self, 0).await;
        if let (Err(error), Some(slot)) = (&answered, &session.slot) {
            slot.fail(error);
        }
        let StatementAnswer { answer, warnings } = answered?;
        let (deadline, slot) = match (session.admitted, session.slot) {
            (Some((_, deadline)), Some(slot)) => (deadline, slot),
            // What needs no database was answered without a place.
            _ => {
                let slot = self.slots.enter(Language::Influxql).await?;
                (Deadline::new(self.config.query_timeout()), Arc::new(slot))
            }
        };
        let answer = answer.ok_or_else(|| {
            ServiceError::new(Code::Internal, "the statement has no answer, and it reads")
        })?;
        let batches = Batches::new(answer)?;
        let schema = batches.schema();
        let batches = stream::iter(batches).map(|batch| batch.map_err(DataFusionError::from));
        let rows = SqlRows {
            stream: Box::pin(RecordBatchStreamAdapter::new(schema, batches)),
            deadline,
            slot,
        };
        Ok((rows, warnings))
    }
}

impl InfluxqlSession {
    /// How many statements there are.
    pub fn statements(&self) -> usize {
        self.request.statements.len()
    }

    /// The place of the request; to be held until all is sent.
    pub fn slot(&self) -> Option<&Arc<QuerySlot>> {
        self.slot.as_ref()
    }

    /// Carries one out.
    pub async fn run(
        &self,
        service: &Service,
        number: usize,
    ) -> Result<StatementAnswer, ServiceError> {
        let Some(statement) = self.request.statements.get(number) else {
            return Err(ServiceError::new(
                Code::Internal,
                "there is no such statement",
            ));
        };
        if statement.is_read() {
            return self.read(service, statement).await;
        }
        let change = Change {
            service,
            context: &self.context,
            database: self.request.database.as_deref(),
        };
        change.carry_out(statement).await?;
        Ok(StatementAnswer {
            answer: None,
            warnings: Vec::new(),
        })
    }

    async fn read(
        &self,
        service: &Service,
        statement: &Statement,
    ) -> Result<StatementAnswer, ServiceError> {
        let may_read = |database: &str| self.context.may(database, Read::NEEDED);
        let scope = Scope {
            database: self.request.database.as_deref(),
            policy: self.request.policy.as_deref(),
            may_read: &may_read,
        };
        let partial = self
            .request
            .partial
            .unwrap_or(service.config.allow_partial_results);
        let now = (service.now_ms)().saturating_mul(1_000_000);
        let (answer, warnings) = match &self.admitted {
            Some((querier, deadline)) => {
                let read = Box::pin(querier.influxql(statement, &scope, now, partial));
                deadline.within(read).await??
            }
            // What needs no database reads no rows.
            None => {
                let querier = service.querier(None).await?;
                Box::pin(querier.influxql(statement, &scope, now, partial)).await?
            }
        };
        Ok(StatementAnswer {
            answer: Some(answer),
            warnings,
        })
    }
}

/// A statement that changes something.
struct Change<'a> {
    service: &'a Service,
    context: &'a RequestContext,
    database: Option<&'a str>,
}

impl Change<'_> {
    async fn carry_out(&self, statement: &Statement) -> Result<(), ServiceError> {
        match statement {
            Statement::CreateDatabase(name, options) => self.create_database(name, options).await,
            Statement::DropDatabase(name) => self.drop_database(name).await,
            Statement::CreatePolicy(name, database, options) => {
                self.create_policy(name, database, options).await
            }
            Statement::AlterPolicy(name, database, options) => {
                self.alter_policy(name, database, options).await
            }
            Statement::DropPolicy(name, database) => self.drop_policy(name, database).await,
            Statement::DropMeasurement(name) => {
                let database = self.database()?;
                for stored in self.stored_databases(database)? {
                    let access = self.context.access::<Admin>(&stored)?;
                    match self.service.drop_table(&access, name).await {
                        Err(error) if error.code == Code::NotFound => {}
                        dropped => drop(dropped?),
                    }
                }
                Ok(())
            }
            Statement::DropSeries(sources, condition) | Statement::Delete(sources, condition) => {
                let database = self.database()?;
                let now = (self.service.now_ms)().saturating_mul(1_000_000);
                for stored in self.stored_databases(database)? {
                    let snapshot = self.snapshot()?;
                    let condition = condition.as_ref();
                    let deleted = change::deletions(&snapshot, &stored, sources, condition, now)?;
                    let deletions = deleted.into_iter().map(|deleted| Deletion {
                        table: deleted.table,
                        matchers: deleted.matchers,
                        range: deleted.range,
                    });
                    let access = self.context.access::<Delete>(&stored)?;
                    self.service.delete(&access, deletions.collect()).await?;
                }
                Ok(())
            }
            _ => Err(ServiceError::new(
                Code::Internal,
                "the statement changes nothing",
            )),
        }
    }

    fn snapshot(&self) -> Result<Arc<Snapshot>, ServiceError> {
        Ok(self.service.backend()?.catalog().snapshot())
    }

    /// The database of the request.
    fn database(&self) -> Result<&str, ServiceError> {
        let named = self.database.filter(|name| !name.is_empty());
        named.ok_or_else(|| InfluxqlError::DatabaseRequired.into())
    }

    /// The databases of all retention policies of a database.
    fn stored_databases(&self, database: &str) -> Result<Vec<String>, ServiceError> {
        let snapshot = self.snapshot()?;
        if snapshot.database(database).is_none() {
            return Err(not_found(database));
        }
        let names = snapshot.databases().map(|other| other.name.to_string());
        Ok(names
            .filter(|name| base_database(name) == database)
            .collect())
    }

    async fn create_database(
        &self,
        name: &str,
        options: &PolicyOptions,
    ) -> Result<(), ServiceError> {
        super::database::check_base_name(name)?;
        let retention = retention(options)?;
        let access = self.context.access::<Admin>(name)?;
        let is_new = self.snapshot()?.database(name).is_none();
        if is_new {
            let kept = retention.unwrap_or_default();
            match self.service.create_database(&access, kept).await {
                // Another request was faster.
                Err(error) if error.code == Code::Conflict => {}
                created => created?,
            }
        } else if let Some(retention) = retention {
            self.service.set_retention(&access, None, retention).await?;
        }
        if let Some(policy) = &options.name {
            let policies = Policies {
                own: policy.as_str().into(),
                default: policy.as_str().into(),
            };
            self.set_policies(&access, &policies).await?;
        }
        Ok(())
    }

    async fn set_policies(
        &self,
        access: &Access<Admin>,
        policies: &Policies,
    ) -> Result<(), ServiceError> {
        let catalog = self.service.backend()?.catalog();
        let target = format!("database {:?}: {policies:?}", access.database());
        let set = async {
            let set = catalog.set_policies(access.database(), policies).await;
            set.map_err(|error| self.service.refuse_commit(error))
        };
        let principal = access.principal();
        self.service
            .audited(principal, "set_policies", &target, set)
            .await?;
        Ok(())
    }

    async fn drop_database(&self, name: &str) -> Result<(), ServiceError> {
        self.context.access::<Admin>(name)?;
        let Ok(stored) = self.stored_databases(name) else {
            return Ok(());
        };
        // The database itself is the first of them: what is dropped last is found again.
        for stored in stored.iter().rev() {
            let access = self.context.access::<Admin>(stored)?;
            match self.service.drop_database(&access).await {
                Err(error) if error.code == Code::NotFound => {}
                dropped => drop(dropped?),
            }
        }
        Ok(())
    }

    async fn create_policy(
        &self,
        name: &str,
        database: &str,
        options: &PolicyOptions,
    ) -> Result<(), ServiceError> {
        let snapshot = self.snapshot()?;
        let Some(found) = snapshot.database(database) else {
            return Err(not_found(database));
        };
        let retention = retention(options)?.unwrap_or_default();
        let stored = found.stored_policy(Some(name));
        super::database::check_name(&stored)?;
        let access = self.context.access::<Admin>(&stored)?;
        match snapshot.database(&stored) {
            Some(known) if known.retention == retention => {}
            Some(_) => {
                return Err(ServiceError::new(
                    Code::Conflict,
                    format!("retention policy already exists: {name:?} with another duration"),
                ));
            }
            None => self.service.create_database(&access, retention).await?,
        }
        if options.is_default {
            self.make_default(found.policies.clone(), database, name)
                .await?;
        }
        Ok(())
    }

    async fn make_default(
        &self,
        mut policies: Policies,
        database: &str,
        name: &str,
    ) -> Result<(), ServiceError> {
        policies.default = name.into();
        let access = self.context.access::<Admin>(database)?;
        self.set_policies(&access, &policies).await
    }

    async fn alter_policy(
        &self,
        name: &str,
        database: &str,
        options: &PolicyOptions,
    ) -> Result<(), ServiceError> {
        let snapshot = self.snapshot()?;
        let Some(found) = snapshot.database(database) else {
            return Err(not_found(database));
        };
        let stored = found.stored_policy(Some(name));
        if snapshot.database(&stored).is_none() {
            let shown: String = name.chars().take(80).collect();
            return Err(InfluxqlError::NoPolicy(shown).into());
        }
        if let Some(retention) = retention(options)? {
            let access = self.context.access::<Admin>(&stored)?;
            self.service.set_retention(&access, None, retention).await?;
        }
        if options.is_default {
            self.make_default(found.policies.clone(), database, name)
                .await?;
        }
        Ok(())
    }

    async fn drop_policy(&self, name: &str, database: &str) -> Result<(), ServiceError> {
        let snapshot = self.snapshot()?;
        let Some(found) = snapshot.database(database) else {
            return Err(not_found(database));
        };
        if *found.policies.own == *name {
            return Err(ServiceError::bad_request(format!(
                "the retention policy {name:?} is the database itself: use DROP DATABASE, DROP \
                 MEASUREMENT or DELETE"
            )));
        }
        let stored = found.stored_policy(Some(name));
        if snapshot.database(&stored).is_none() {
            return Ok(());
        }
        let access = self.context.access::<Admin>(&stored)?;
        self.service.drop_database(&access).await?;
        if *found.policies.default == *name {
            let own = found.policies.own.to_string();
            self.make_default(found.policies.clone(), database, &own)
                .await?;
        }
        Ok(())
    }
}

/// What a duration of a policy means; `None` if none is said.
fn retention(options: &PolicyOptions) -> Result<Option<Retention>, ServiceError> {
    match options.duration {
        None => Ok(None),
        Some(0) => Ok(Some(Retention::Inherit)),
        Some(ns) if ns < MIN_POLICY_NS => Err(ServiceError::bad_request(
            "retention policy duration must be at least 1h0m0s",
        )),
        Some(ns) => Ok(Some(Retention::Millis(ns.unsigned_abs() / 1_000_000))),
    }
}

fn not_found(database: &str) -> ServiceError {
    InfluxqlError::NoDatabase(database.chars().take(80).collect()).into()
}
