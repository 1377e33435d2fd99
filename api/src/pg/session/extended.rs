//! Statements that are prepared, given parameters, described and executed, one message each.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parking_lot::Mutex;

use super::Session;
use super::kept::{Portal, PortalState, Prepared, shown};
use super::simple::{of_part, verb};
use crate::node::backend::{Description, PgParams, PgValue, TypeOf};
use crate::pg::command::Command;
use crate::pg::error::{PgError, code};
use crate::pg::frontend::Target;
use crate::pg::lexer::{Kind, Lexer, statements};
use crate::pg::link::{Ended, Link};
use crate::pg::params;
use crate::pg::rows::{Format, Formats};
use crate::pg::running::{self, Running};
use crate::pg::startup::Stream;

impl Session {
    pub(super) fn parse(
        &mut self,
        name: String,
        query: &str,
        types: Vec<u32>,
    ) -> Result<(), PgError> {
        if !name.is_empty() && self.kept.has_statement(&name) {
            return Err(PgError::new(
                code::DUPLICATE_STATEMENT,
                format!("prepared statement {:?} already exists", shown(&name)),
            ));
        }
        let mut found = statements(query);
        let statement = found.next();
        if found.next().is_some() {
            return Err(PgError::new(
                code::SYNTAX,
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        for oid in &types {
            params::arrow_type(*oid)?;
        }
        // Without a semicolon at its end, and with what comes before it: places are those in the
        // whole text.
        let text = statement.and_then(|range| query.get(..range.end));
        let command = text.map(Command::parse).transpose()?;
        if let Some(command) = &command {
            self.transaction.check(command)?;
        }
        let text = text.unwrap_or_default();
        let prepared = Prepared {
            parameters: placeholders(text).max(types.len()),
            text: text.to_owned(),
            command,
            types,
            described: Mutex::new(None),
        };
        self.kept.prepare(name, prepared)
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
        let prepared = self.kept.statement(statement)?;
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
        if !portal.is_empty() && self.kept.has_portal(&portal) {
            let message = format!("portal {:?} already exists", shown(&portal));
            return Err(PgError::new(code::DUPLICATE_CURSOR, message).into());
        }
        let opened = Portal {
            prepared,
            values,
            formats: Formats::from_codes(results)?,
            state: PortalState::Ready,
            is_held: false,
        };
        Ok(self.kept.open(portal, opened)?)
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
        let types = prepared.types.iter().map(|oid| params::arrow_type(*oid));
        let types = PgParams::Types(types.collect::<Result<_, _>>()?);
        let description = self.described(link, statement, types).await;
        let description = description.map_err(|ended| of_part(ended, &prepared.text, statement));
        let description = Arc::new(description?);
        self.kept.describe(prepared, &description);
        Ok(Some(description))
    }

    pub(super) async fn describe<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        target: Target,
        name: &str,
    ) -> Result<(), Ended> {
        let (prepared, formats) = match target {
            Target::Statement => (self.kept.statement(name)?, Formats::All(Format::Text)),
            Target::Portal => {
                let portal = self.kept.portal(name)?;
                (Arc::clone(&portal.prepared), portal.formats.clone())
            }
        };
        let mut schema = None;
        if target == Target::Statement {
            let types = self.parameter_types(link, &prepared).await?;
            let description = self.description(link, &prepared).await?;
            schema = description.map(|description| Arc::clone(&description.columns));
            link.out.parameters(types.into_iter());
        }
        let has_columns = match &prepared.command {
            Some(Command::Query { .. }) => {
                let schema = match schema {
                    Some(schema) => schema,
                    // The query of a portal begins here: its first rows tell the columns.
                    None => self.started(link, name).await?,
                };
                running::describe(&schema, &formats, &mut link.out);
                true
            }
            Some(command) => self.describe_answer(link, command, &formats)?,
            None => false,
        };
        if !has_columns {
            link.out.no_data();
        }
        Ok(())
    }

    /// Begins the query of a portal, if it has not begun. Returns its columns.
    async fn started<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
    ) -> Result<SchemaRef, Ended> {
        let portal = self.kept.portal_mut(name)?;
        if !matches!(portal.state, PortalState::Ready) {
            return Ok(Arc::clone(&self.kept.running(name)?.schema));
        }
        let prepared = Arc::clone(&portal.prepared);
        // A query begins once.
        let values = std::mem::take(&mut portal.values);
        if let Some(command @ Command::Query { sets }) = &prepared.command {
            self.transaction.check(command)?;
            self.make_sets(link, sets)?;
        }
        let running = self.start_one_more(link, &prepared.text, values).await?;
        check_same(&prepared, &running)?;
        let schema = Arc::clone(&running.schema);
        self.kept.portal_mut(name)?.state = PortalState::Running(running);
        Ok(schema)
    }

    async fn start_one_more<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        statement: &str,
        values: Vec<PgValue>,
    ) -> Result<Running, Ended> {
        self.kept.may_run_more()?;
        self.start(link, statement, values).await
    }

    pub(super) async fn execute<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
        max_rows: u32,
    ) -> Result<(), Ended> {
        let portal = self.kept.portal_mut(name)?;
        let (prepared, formats) = (Arc::clone(&portal.prepared), portal.formats.clone());
        let Some(command) = &prepared.command else {
            link.out.empty_query();
            return Ok(());
        };
        self.transaction.check(command)?;
        if matches!(command, Command::Query { .. }) {
            let text = &prepared.text;
            return self
                .execute_query(link, name, text, &formats, max_rows)
                .await;
        }
        if !matches!(portal.state, PortalState::Ready) {
            let message = format!("portal {:?} cannot be run again", shown(name));
            return Err(PgError::new(code::NOT_IN_THIS_STATE, message).into());
        }
        portal.state = PortalState::Done;
        let values = std::mem::take(&mut portal.values);
        self.carry_out(link, command, &prepared.text, values, &formats)
            .await
    }

    async fn execute_query<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
        statement: &str,
        formats: &Formats,
        max_rows: u32,
    ) -> Result<(), Ended> {
        let verb = verb(statement);
        if matches!(self.kept.portal(name)?.state, PortalState::Done) {
            link.out.command_complete(&format!("{verb} 0"));
            return Ok(());
        }
        self.started(link, name).await?;
        let (cancel, zone) = (self.cancel(), self.settings.zone());
        let max = match max_rows {
            0 => u64::MAX,
            max => u64::from(max),
        };
        let running = self.kept.running(name)?;
        let sent = running.send(link, &cancel, formats, zone, max).await;
        let sent = match sent {
            Ok(sent) => sent,
            Err(ended) => {
                let _ = self.kept.close(name);
                return Err(ended);
            }
        };
        if sent == max {
            link.out.suspended();
            return Ok(());
        }
        self.kept.portal_mut(name)?.state = PortalState::Done;
        link.out.command_complete(&format!("{verb} {sent}"));
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
        if self.kept.has_portal(name) {
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
            formats: Formats::All(match is_binary {
                true => Format::Binary,
                false => Format::Text,
            }),
            state: PortalState::Running(running),
            is_held,
        };
        Ok(self.kept.open(name.to_owned(), opened)?)
    }

    /// Forgets a statement or a portal, if there is one of the name.
    pub(super) fn close(&mut self, target: Target, name: &str) {
        let _ = match target {
            Target::Statement => self.kept.forget(name),
            Target::Portal => self.kept.close(name),
        };
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
