//! Statements that are prepared, given parameters, described and executed, one message each.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parking_lot::Mutex;

use super::super::command::Command;
use super::super::error::{PgError, code};
use super::super::frontend::Target;
use super::super::lexer::{Kind, Lexer, statements};
use super::super::link::{Ended, Link};
use super::super::params;
use super::super::rows::{Format, Formats};
use super::super::running::{self, Running};
use super::super::startup::Stream;
use super::{
    MAX_PORTAL_BYTES, MAX_PORTALS, MAX_PREPARED, MAX_PREPARED_BYTES, MAX_RUNNING, Portal,
    PortalState, Prepared, Session, UNCOUNTED_BYTES, no_cursor, no_statement, running_portal,
    shown, shown_columns, verb,
};
use crate::node::backend::{Description, PgParams, PgValue, TypeOf};
use crate::service::context::Read;
use crate::service::slots::Outcome;

impl Session {
    pub(super) fn parse(
        &mut self,
        name: String,
        query: String,
        types: Vec<u32>,
    ) -> Result<(), PgError> {
        if !name.is_empty() && self.prepared.contains_key(&name) {
            return Err(PgError::new(
                code::DUPLICATE_STATEMENT,
                format!("prepared statement {:?} already exists", shown(&name)),
            ));
        }
        let mut found = statements(&query).take(2).collect::<Vec<_>>();
        let statement = found.pop();
        if !found.is_empty() {
            return Err(PgError::new(
                code::SYNTAX,
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        for oid in &types {
            params::arrow_type(*oid)?;
        }
        // Without a semicolon at its end.
        let text = statement
            .and_then(|range| query.get(range))
            .unwrap_or_default();
        let command = match text {
            "" => None,
            text => {
                let command = Command::parse(text)?;
                self.transaction.check(&command)?;
                Some(command)
            }
        };
        let prepared = Prepared {
            parameters: placeholders(text).max(types.len()),
            text: text.to_owned(),
            command,
            types,
            described: Mutex::new(None),
        };
        self.forget(&name);
        let others: usize = self
            .prepared
            .values()
            .map(|prepared| prepared.bytes())
            .sum();
        let prepared_bytes = prepared.bytes();
        if self.prepared.len() >= MAX_PREPARED || others + prepared_bytes > MAX_PREPARED_BYTES {
            return Err(PgError::new(
                code::TOO_COMPLEX,
                format!(
                    "a connection may have {MAX_PREPARED} prepared statements of together \
                     {MAX_PREPARED_BYTES} bytes; close some"
                ),
            ));
        }
        self.hold(prepared_bytes)?;
        self.prepared.insert(name, Arc::new(prepared));
        Ok(())
    }

    /// Counts the memory of all statements and parameters, and of some more bytes.
    fn hold(&mut self, more: usize) -> Result<(), PgError> {
        let prepared: usize = self
            .prepared
            .values()
            .map(|prepared| prepared.bytes())
            .sum();
        let portals: usize = self.portals.values().map(|portal| portal.bytes).sum();
        let bytes = prepared + portals + more;
        let counted = if bytes > UNCOUNTED_BYTES { bytes } else { 0 };
        self.held.try_resize(counted).map_err(|error| {
            PgError::new(
                code::OUT_OF_MEMORY,
                format!("a statement or its parameters do not fit into memory: {error}"),
            )
        })
    }

    /// Counts less memory after statements or portals are gone.
    pub(super) fn give_back(&mut self) {
        // Less is always to be had.
        let _ = self.hold(0);
    }

    /// Forgets a statement; returns whether there was one.
    pub(super) fn forget(&mut self, name: &str) -> bool {
        self.prepared.remove(name).is_some()
    }

    pub(super) async fn bind<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        portal: String,
        statement: &str,
        formats: &[i16],
        values: &[Option<Bytes>],
        results: &[i16],
    ) -> Result<(), Ended> {
        let prepared = self.prepared.get(statement).cloned();
        let prepared = prepared.ok_or_else(|| no_statement(statement))?;
        if let Some(command) = &prepared.command {
            self.transaction.check(command)?;
        }
        if values.len() != prepared.parameters {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement {:?} requires {}",
                values.len(),
                shown(statement),
                prepared.parameters
            );
            return Err(PgError::new(code::PROTOCOL_VIOLATION, message).into());
        }
        let formats = Formats::from_codes(formats)?;
        let types = self.parameter_types(link, &prepared).await?;
        let zone = self.settings.zone();
        let values = values.iter().enumerate().map(|(at, value)| {
            let oid = types.get(at).copied().unwrap_or(0);
            params::value(oid, formats.of(at), value.as_ref(), zone)
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            let message = format!("portal {:?} already exists", shown(&portal));
            return Err(PgError::new(code::DUPLICATE_CURSOR, message).into());
        }
        let bytes = values.iter().map(PgValue::bytes).sum();
        let opened = Portal {
            prepared,
            values,
            bytes,
            formats: Formats::from_codes(results)?,
            state: PortalState::Ready,
            is_held: false,
        };
        self.open_portal(portal, opened)?;
        Ok(())
    }

    fn open_portal(&mut self, name: String, portal: Portal) -> Result<(), PgError> {
        self.portals.remove(&name);
        if self.portals.len() >= MAX_PORTALS {
            return Err(PgError::new(
                code::TOO_COMPLEX,
                format!("a connection may have {MAX_PORTALS} open portals; close some"),
            ));
        }
        let others: usize = self.portals.values().map(|portal| portal.bytes).sum();
        if others + portal.bytes > MAX_PORTAL_BYTES {
            return Err(PgError::new(
                code::TOO_COMPLEX,
                format!(
                    "the parameters of open portals may take {MAX_PORTAL_BYTES} bytes; close some"
                ),
            ));
        }
        self.hold(portal.bytes)?;
        self.portals.insert(name, portal);
        Ok(())
    }

    /// The types of all parameters: as given, or else as they follow from the statement.
    async fn parameter_types<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        prepared: &Arc<Prepared>,
    ) -> Result<Vec<u32>, Ended> {
        let mut types = prepared.types.clone();
        types.resize(prepared.parameters, 0);
        if types.contains(&0)
            && let Some(description) = self.description(link, prepared).await?
        {
            for (at, oid) in types.iter_mut().enumerate().filter(|(_, oid)| **oid == 0) {
                let found = description.parameters.get(at).and_then(Option::as_ref);
                *oid = params::oid_of(found);
            }
        }
        Ok(types)
    }

    /// What a statement that reads takes and answers.
    async fn description<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        prepared: &Arc<Prepared>,
    ) -> Result<Option<Arc<Description>>, Ended> {
        let statement = match &prepared.command {
            Some(Command::Query { .. }) => prepared.text.as_str(),
            Some(Command::Declare { query, .. } | Command::Copy { query, .. }) => query,
            _ => return Ok(None),
        };
        if let Some(known) = prepared.described.lock().clone() {
            return Ok(Some(known));
        }
        let context = self.renewed()?;
        let access = context
            .access::<Read>(&self.database)
            .map_err(PgError::from)?;
        let seen = self.seen(statement)?;
        let types = prepared.types.iter().map(|oid| params::arrow_type(*oid));
        let types = PgParams::Types(types.collect::<Result<_, _>>()?);
        let (door, cancel) = (Arc::clone(&self.door), self.cancel());
        let service = &door.app.service;
        let text = service
            .read_sql(statement)
            .map_err(|error| self.worded(error))?;
        let text = text.in_postgres(seen, types);
        let work = service.describe_sql(&access, text);
        let described = link.attend(&cancel, Box::pin(work)).await?;
        let described = described.map_err(|error| self.worded(error).located(statement, 0))?;
        let described = Arc::new(described);
        *prepared.described.lock() = Some(Arc::clone(&described));
        Ok(Some(described))
    }

    pub(super) async fn describe<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        target: Target,
        name: &str,
    ) -> Result<(), Ended> {
        match target {
            Target::Statement => self.describe_statement(link, name).await,
            Target::Portal => self.describe_portal(link, name).await,
        }
    }

    async fn describe_statement<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
    ) -> Result<(), Ended> {
        let prepared = self
            .prepared
            .get(name)
            .cloned()
            .ok_or_else(|| no_statement(name))?;
        let types = self.parameter_types(link, &prepared).await?;
        let description = self.description(link, &prepared).await?;
        link.out.parameters(types.into_iter());
        let formats = Formats::All(Format::Text);
        match &prepared.command {
            Some(Command::Query { .. }) => match description {
                Some(description) => {
                    running::describe(&description.columns, &formats, &mut link.out);
                }
                None => link.out.no_data(),
            },
            Some(command @ (Command::Show(_) | Command::ShowAll)) => {
                shown_columns(command, &formats, &mut link.out);
            }
            Some(Command::Fetch {
                name,
                is_move: false,
                ..
            }) => {
                self.describe_cursor(link, name, &formats)?;
            }
            _ => link.out.no_data(),
        }
        Ok(())
    }

    async fn describe_portal<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
    ) -> Result<(), Ended> {
        let portal = self.portals.get(name).ok_or_else(|| no_cursor(name))?;
        let (prepared, formats) = (Arc::clone(&portal.prepared), portal.formats.clone());
        match &prepared.command {
            // The query begins here: its first rows tell the columns.
            Some(Command::Query { .. }) => {
                let schema = self.started(link, name).await?;
                running::describe(&schema, &formats, &mut link.out);
            }
            Some(command @ (Command::Show(_) | Command::ShowAll)) => {
                shown_columns(command, &formats, &mut link.out);
            }
            Some(Command::Fetch {
                name,
                is_move: false,
                ..
            }) => {
                self.describe_cursor(link, name, &formats)?;
            }
            _ => link.out.no_data(),
        }
        Ok(())
    }

    /// The columns of a cursor.
    pub(super) fn describe_cursor<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
        formats: &Formats,
    ) -> Result<(), PgError> {
        let running = running_portal(&mut self.portals, name)?;
        running::describe(&running.schema, formats, &mut link.out);
        Ok(())
    }

    /// Begins the query of a portal, if it has not begun. Returns its columns.
    async fn started<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
    ) -> Result<SchemaRef, Ended> {
        let portal = self.portals.get(name).ok_or_else(|| no_cursor(name))?;
        match &portal.state {
            PortalState::Running(running) => return Ok(Arc::clone(&running.schema)),
            PortalState::Lost(reason) => return Err(reason.clone().into()),
            PortalState::Ready => {}
            PortalState::Done => return Err(no_cursor(name).into()),
        }
        let (prepared, values) = (Arc::clone(&portal.prepared), portal.values.clone());
        if let Some(command) = &prepared.command {
            self.transaction.check(command)?;
            self.make_sets(link, command)?;
        }
        let running = self.start_one_more(link, &prepared.text, values).await;
        let running = running.map_err(|ended| match ended {
            Ended::Told(error) => error.located(&prepared.text, 0).into(),
            ended => ended,
        })?;
        check_same(&prepared, &running)?;
        let schema = Arc::clone(&running.schema);
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = PortalState::Running(running);
        }
        Ok(schema)
    }

    async fn start_one_more<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        statement: &str,
        values: Vec<PgValue>,
    ) -> Result<Running, Ended> {
        let limit = self.door.limits.write;
        let computes = |portal: &&Portal| matches!(&portal.state, PortalState::Running(running) if running.expiry(limit).is_some());
        if self.portals.values().filter(computes).count() >= MAX_RUNNING {
            let message = format!(
                "a connection may have {MAX_RUNNING} queries whose rows are still to be fetched; \
                 close a cursor or use another connection"
            );
            return Err(PgError::new(code::THROTTLED, message).into());
        }
        self.start(link, statement, values).await
    }

    pub(super) async fn execute<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
        max_rows: u32,
    ) -> Result<(), Ended> {
        let portal = self.portals.get(name).ok_or_else(|| no_cursor(name))?;
        let (prepared, formats) = (Arc::clone(&portal.prepared), portal.formats.clone());
        let command = match &prepared.command {
            None => {
                link.out.empty_query();
                return Ok(());
            }
            Some(Command::Query { .. }) => {
                return self
                    .execute_query(link, name, &prepared, &formats, max_rows)
                    .await;
            }
            Some(command) => command,
        };
        if !matches!(portal.state, PortalState::Ready) {
            let message = format!("portal {:?} cannot be run again", shown(name));
            return Err(PgError::new("55000", message).into());
        }
        self.transaction.check(command)?;
        let values = portal.values.clone();
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = PortalState::Done;
        }
        self.carry_out(link, command, &prepared.text, values, &formats)
            .await
    }

    async fn execute_query<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
        prepared: &Prepared,
        formats: &Formats,
        max_rows: u32,
    ) -> Result<(), Ended> {
        if matches!(
            self.portals.get(name).map(|portal| &portal.state),
            Some(PortalState::Done)
        ) {
            link.out
                .command_complete(&format!("{} 0", verb(&prepared.text)));
            return Ok(());
        }
        self.started(link, name).await?;
        let (cancel, zone) = (self.cancel(), self.settings.zone());
        let running = running_portal(&mut self.portals, name)?;
        let max = if max_rows == 0 {
            u64::MAX
        } else {
            u64::from(max_rows)
        };
        let sent = running.send(link, &cancel, formats, zone, max).await;
        let sent = match sent {
            Ok(sent) => sent,
            Err(ended) => {
                self.portals.remove(name);
                return Err(ended);
            }
        };
        if sent == max {
            link.out.suspended();
            return Ok(());
        }
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = PortalState::Done;
        }
        link.out
            .command_complete(&format!("{} {sent}", verb(&prepared.text)));
        Ok(())
    }

    pub(super) async fn declare<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
        query: &str,
        is_held: bool,
        is_binary: bool,
        values: Vec<PgValue>,
    ) -> Result<(), Ended> {
        if !is_held && !self.transaction.is_open() {
            let message = "DECLARE CURSOR can only be used in transaction blocks, unless it says \
                           WITH HOLD";
            return Err(PgError::new(code::NO_TRANSACTION, message).into());
        }
        if self.portals.contains_key(name) {
            let message = format!("cursor {:?} already exists", shown(name));
            return Err(PgError::new(code::DUPLICATE_CURSOR, message).into());
        }
        let running = self.start_one_more(link, query, values).await?;
        let prepared = Prepared {
            text: query.to_owned(),
            command: Some(Command::Query { sets: Vec::new() }),
            types: Vec::new(),
            parameters: 0,
            described: Mutex::new(None),
        };
        let opened = Portal {
            prepared: Arc::new(prepared),
            values: Vec::new(),
            bytes: 0,
            formats: Formats::All(if is_binary {
                Format::Binary
            } else {
                Format::Text
            }),
            state: PortalState::Running(running),
            is_held,
        };
        Ok(self.open_portal(name.to_owned(), opened)?)
    }

    pub(super) fn close(&mut self, target: Target, name: &str) {
        match target {
            Target::Statement => {
                self.forget(name);
                let bytes = self
                    .prepared
                    .values()
                    .map(|prepared| prepared.bytes())
                    .sum();
                // Less is always to be had.
                let _ = self.hold(bytes);
            }
            Target::Portal => {
                if let Some(mut portal) = self.portals.remove(name)
                    && let PortalState::Running(running) = &mut portal.state
                {
                    running.end(Outcome::Answered);
                }
            }
        }
    }
}

/// Clients that know the columns of a prepared statement must get these.
fn check_same(prepared: &Prepared, running: &Running) -> Result<(), PgError> {
    let mut described = prepared.described.lock();
    let Some(known) = described.as_ref() else {
        return Ok(());
    };
    let (known, found) = (known.columns.fields(), running.schema.fields());
    let mut pairs = known.iter().zip(found);
    let oid = |of: &arrow::datatypes::Field| TypeOf::of(of.data_type()).oid();
    if known.len() == found.len() && pairs.all(|(known, found)| oid(known) == oid(found)) {
        return Ok(());
    }
    *described = None;
    Err(PgError {
        routine: Some("RevalidateCachedQuery"),
        ..PgError::new(code::UNSUPPORTED, "cached plan must not change result type")
    })
}

/// The largest number of a parameter in a statement.
fn placeholders(text: &str) -> usize {
    let mut largest = 0;
    let mut dollar = None;
    for token in Lexer::new(text) {
        let shown = text.get(token.at.clone()).unwrap_or_default();
        let is_number = token.kind == Kind::Number && dollar == Some(token.at.start);
        if is_number && let Ok(number) = shown.parse::<u16>() {
            largest = largest.max(usize::from(number));
        }
        dollar = (shown == "$").then_some(token.at.end);
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted() {
        assert_eq!(
            placeholders("SELECT $1, $12, '$99', \"$98\", $$ $97 $$"),
            12
        );
        assert_eq!(placeholders("SELECT 1 -- $5"), 0);
        assert_eq!(placeholders("SELECT $99999999"), 0);
    }
}
