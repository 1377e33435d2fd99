//! Statements on their way to the service, with the rights of the session and what it has set.

use std::collections::HashMap;
use std::sync::Arc;

use super::Session;
use crate::node::backend::{Description, PgParams, PgSession, PgValue};
use crate::pg::error::{PgError, code};
use crate::pg::link::{Ended, Link};
use crate::pg::running::Running;
use crate::pg::settings::SERVER_VERSION;
use crate::pg::startup::Stream;
use crate::service::context::{Read, RequestContext};
use crate::service::error::{Code, ServiceError};
use crate::service::sql::SqlRequest;

impl Session {
    /// Deletes, drops, or sets how long rows are kept.
    pub(super) async fn change<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        statement: &str,
        values: Vec<PgValue>,
    ) -> Result<(), Ended> {
        let context = self.renewed()?;
        let seen = self.seen(statement)?;
        let (door, cancel) = (Arc::clone(&self.door), self.cancel());
        let service = &door.app.service;
        let text = service.read_sql(statement);
        let text = text.map_err(|error| self.worded(error).located(statement))?;
        let text = text.in_postgres(seen, PgParams::Values(values));
        let work = service.sql_command(&context, &self.database, text, HashMap::new());
        let done = link.attend(&cancel, Box::pin(work)).await?;
        done.map_err(|error| self.worded(error).located(statement))?;
        Ok(())
    }

    /// Starts a statement that reads.
    pub(super) async fn start<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        statement: &str,
        values: Vec<PgValue>,
    ) -> Result<Running, Ended> {
        let context = self.renewed()?;
        let access = context.access::<Read>(&self.database);
        let access = access.map_err(PgError::from)?;
        let seen = self.seen(statement)?;
        let (door, cancel) = (Arc::clone(&self.door), self.cancel());
        let service = &door.app.service;
        let text = service.read_sql(statement);
        let text = text.map_err(|error| self.worded(error).located(statement))?;
        let as_of = text.as_of();
        let request = SqlRequest {
            text: text.in_postgres(seen, PgParams::Values(values)),
            params: HashMap::new(),
            partial: None,
            as_of,
            timeout: self.settings.statement_timeout(),
        };
        let work = service.sql(&access, request, Running::begin);
        let begun = link.attend(&cancel, Box::pin(work)).await?;
        let begun = begun.map_err(|error| self.worded(error).located(statement));
        let (running, warnings) = begun?;
        for warning in warnings {
            link.out.warning(&PgError::new(code::WARNING, warning));
        }
        Ok(running)
    }

    /// What a statement that reads takes and answers.
    pub(super) async fn described<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        statement: &str,
        params: PgParams,
    ) -> Result<Description, Ended> {
        let context = self.renewed()?;
        let access = context.access::<Read>(&self.database);
        let access = access.map_err(PgError::from)?;
        let seen = self.seen(statement)?;
        let (door, cancel) = (Arc::clone(&self.door), self.cancel());
        let service = &door.app.service;
        let text = service.read_sql(statement);
        let text = text.map_err(|error| self.worded(error).located(statement))?;
        let work = service.describe_sql(&access, text.in_postgres(seen, params));
        let described = link.attend(&cancel, Box::pin(work)).await?;
        Ok(described.map_err(|error| self.worded(error).located(statement))?)
    }

    /// The context of the client, if its token still allows anything.
    fn renewed(&mut self) -> Result<RequestContext, PgError> {
        let renewed = self.door.app.service.still_valid(self.context.principal());
        // An open connection must not outlive its token.
        let principal = renewed.map_err(|error| match error.code {
            Code::Unauthenticated => PgError::from(error).ending(),
            _ => error.into(),
        })?;
        self.context = RequestContext::new(principal);
        Ok(self.context.clone())
    }

    /// What a statement sees of the session.
    fn seen(&mut self, statement: &str) -> Result<Arc<PgSession>, PgError> {
        let wants_databases = statement.contains("pg_database");
        if let Some(seen) = self.seen.as_ref().filter(|_| !wants_databases) {
            return Ok(Arc::clone(seen));
        }
        let databases = match wants_databases {
            false => Vec::new(),
            true => self.door.app.service.databases(&self.context)?,
        };
        let databases = databases.into_iter().map(|(name, _)| name.to_string());
        let owned = |(name, value, what): (&str, &str, &'static str)| {
            (name.to_owned(), value.to_owned(), what)
        };
        let seen = Arc::new(PgSession {
            user: self.user.clone(),
            pid: self.registered.pid,
            version: format!("PostgreSQL {SERVER_VERSION}"),
            databases: databases.collect(),
            settings: self.settings.all().map(owned).collect(),
            schema: self.settings.schema().to_owned(),
            time_zone: self.settings.zone_name(),
        });
        if !wants_databases {
            self.seen = Some(Arc::clone(&seen));
        }
        Ok(seen)
    }

    /// An error of the service; a database that is gone is told from a table.
    fn worded(&self, error: ServiceError) -> PgError {
        let service = &self.door.app.service;
        let is_gone = error.code == Code::NotFound
            && matches!(service.has_database(&self.database), Ok(false));
        let error = PgError::from(error);
        match is_gone {
            true => PgError {
                code: code::NO_DATABASE,
                ..error
            },
            false => error,
        }
    }
}
