//! A session: what a client prepares, runs and sets, message by message.
//!
//! Statements and portals are bounded in number and bytes. A portal whose query has begun has a
//! place among the queries of the server, so that there are few of these, and they lose it when the
//! client asks for no rows for `write_timeout_ms`.

mod extended;
mod transaction;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelake_catalog::memory::{Reservation, Share};
use tokio::sync::watch;
use tokio::time::Instant;

use self::transaction::Transaction;
use super::Door;
use super::cancel::{Cancel, Registered};
use super::command::Command;
use super::error::{PgError, code};
use super::frontend::Message;
use super::lexer::statements;
use super::link::{Ended, Link, MAX_MESSAGE_BYTES};
use super::rows::{Format, Formats};
use super::running::{self, Running};
use super::settings::{SERVER_VERSION, Settings};
use super::startup::{Started, Stream};
use crate::node::backend::{Description, PgParams, PgSession, PgValue};
use crate::service::context::{Read, RequestContext};
use crate::service::error::{Code, ServiceError};
use crate::service::slots::Outcome;
use crate::service::sql::SqlRequest;

/// Statements in one message.
const MAX_STATEMENTS: usize = 1000;
/// Statements that are prepared, and their bytes.
const MAX_PREPARED: usize = 1000;
const MAX_PREPARED_BYTES: usize = 4 << 20;
/// Portals that are open, the bytes of their parameters, and those among them whose queries run.
const MAX_PORTALS: usize = 100;
const MAX_PORTAL_BYTES: usize = 16 << 20;
const MAX_RUNNING: usize = 4;
/// Prepared statements and parameters below it are not counted in the memory of the server.
const UNCOUNTED_BYTES: usize = 16 << 10;

/// A statement that was prepared.
struct Prepared {
    text: String,
    command: Option<Command>,
    /// Types of parameters that the client gave; 0 is none.
    types: Vec<u32>,
    /// How many parameters there are.
    parameters: usize,
    described: Mutex<Option<Arc<Description>>>,
}

impl Prepared {
    fn bytes(&self) -> usize {
        self.text.len() + 4 * self.types.len()
    }
}

/// A statement with its parameters.
struct Portal {
    prepared: Arc<Prepared>,
    values: Vec<PgValue>,
    /// Bytes of `values`.
    bytes: usize,
    formats: Formats,
    state: PortalState,
    /// Whether it outlives its transaction.
    is_held: bool,
}

enum PortalState {
    Ready,
    Running(Running),
    Done,
    /// Its query was ended, for this reason.
    Lost(PgError),
}

/// See the module.
pub struct Session {
    door: Arc<Door>,
    context: RequestContext,
    user: String,
    database: Arc<str>,
    settings: Settings,
    registered: Registered,
    transaction: Transaction,
    prepared: HashMap<String, Arc<Prepared>>,
    /// Memory of prepared statements and of parameters.
    held: Reservation,
    portals: HashMap<String, Portal>,
    /// What statements see of the session, until a setting changes.
    seen: Option<Arc<PgSession>>,
    /// Whether messages are void until the next Sync.
    is_skipping: bool,
}

impl Session {
    pub fn new(door: Arc<Door>, started: Started) -> Self {
        let Started {
            context,
            user,
            database,
            settings,
            registered,
        } = started;
        Self {
            held: door.app.service.memory.empty(Share::Bodies),
            door,
            context,
            user,
            database,
            settings,
            registered,
            transaction: Transaction::default(),
            prepared: HashMap::new(),
            portals: HashMap::new(),
            seen: None,
            is_skipping: false,
        }
    }

    /// Serves the session to its end.
    pub async fn run<S: Stream>(mut self, mut link: Link<S>, stopped: watch::Receiver<bool>) {
        link.out.ready(b'I');
        let ended = self.serve(&mut link, stopped).await;
        match ended {
            Ended::Told(error) => link.close(Some(&error.ending())).await,
            Ended::Stalled => tracing::warn!("a client took nothing of its answer for too long"),
            Ended::Closed => {}
        }
    }

    async fn serve<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        mut stopped: watch::Receiver<bool>,
    ) -> Ended {
        loop {
            let (tag, body) = match self.next(link, &mut stopped).await {
                Ok(message) => message,
                Err(ended) => return ended,
            };
            let is_extended = b"PBDECH".contains(&tag);
            if self.is_skipping && !b"SX".contains(&tag) {
                continue;
            }
            let handled = match Message::decode(tag, body) {
                Ok(Message::Terminate) => return Ended::Closed,
                Ok(message) => {
                    self.registered.cancel.clear();
                    self.handle(link, message).await
                }
                Err(error) => Err(error.into()),
            };
            match handled {
                Ok(()) => {}
                Err(Ended::Told(error)) if !error.is_fatal => {
                    link.out.error(&error);
                    self.transaction.fail();
                    match is_extended {
                        true => self.is_skipping = true,
                        false => self.ready(link),
                    }
                }
                Err(ended) => return ended,
            }
        }
    }

    /// Waits for the next message; portals of which nothing is asked meanwhile lose their queries.
    async fn next<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(u8, bytes::Bytes), Ended> {
        if link.has_message() {
            return link.message(MAX_MESSAGE_BYTES).await;
        }
        link.flush().await?;
        let idle = Instant::now() + self.door.limits.idle;
        loop {
            let write = self.door.limits.write;
            let expiries = self
                .portals
                .values()
                .filter_map(|portal| match &portal.state {
                    PortalState::Running(running) => running.expiry(write),
                    _ => None,
                });
            let until = expiries.min().map_or(idle, |expiry| expiry.min(idle));
            tokio::select! {
                message = link.message(MAX_MESSAGE_BYTES) => return message,
                () = super::until_stopped(stopped) => {
                    return Err(PgError::fatal(code::STOPPING, "the server stops").into());
                }
                () = tokio::time::sleep_until(until) => {
                    if Instant::now() >= idle {
                        let message = "no statement has come in idle_timeout_ms";
                        return Err(PgError::fatal(code::IDLE, message).into());
                    }
                    self.expire(write);
                }
            }
        }
    }

    fn expire(&mut self, write: Duration) {
        let now = Instant::now();
        for portal in self.portals.values_mut() {
            if let PortalState::Running(running) = &mut portal.state
                && running.expiry(write).is_some_and(|expiry| expiry <= now)
            {
                running.end(Outcome::Stalled);
                portal.state = PortalState::Lost(PgError::new(
                    code::CANCELED,
                    format!(
                        "the query was ended: no rows were fetched from it for write_timeout_ms = {}",
                        write.as_millis()
                    ),
                ));
            }
        }
    }

    fn ready<S: Stream>(&mut self, link: &mut Link<S>) {
        // The end of what was no transaction ends its portals.
        if !self.transaction.is_open() {
            self.portals.retain(|_, portal| portal.is_held);
            self.give_back();
        }
        link.out.ready(self.transaction.status());
    }

    async fn handle<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        message: Message,
    ) -> Result<(), Ended> {
        match message {
            Message::Query(text) => {
                self.portals.remove("");
                self.forget("");
                self.simple(link, &text).await?;
                self.ready(link);
            }
            Message::Sync => {
                self.is_skipping = false;
                self.ready(link);
                link.flush().await?;
            }
            Message::Flush => link.flush().await?,
            Message::Parse { name, query, types } => {
                self.parse(name, query, types)?;
                link.out.parse_complete();
            }
            Message::Bind {
                portal,
                statement,
                formats,
                values,
                results,
            } => {
                self.bind(link, portal, &statement, &formats, &values, &results)
                    .await?;
                link.out.bind_complete();
            }
            Message::Describe(target, name) => self.describe(link, target, &name).await?,
            Message::Execute { portal, max_rows } => self.execute(link, &portal, max_rows).await?,
            Message::Close(target, name) => {
                self.close(target, &name);
                link.out.close_complete();
            }
            Message::Password(_) => {
                let message = "a password was not asked for";
                return Err(PgError::fatal(code::PROTOCOL_VIOLATION, message).into());
            }
            // What is left of a copy that nobody takes.
            Message::Copy | Message::Terminate => {}
        }
        Ok(())
    }

    /// Runs the statements of a text one after the other, to the first that fails.
    async fn simple<S: Stream>(&mut self, link: &mut Link<S>, text: &str) -> Result<(), Ended> {
        let mut count = 0;
        for range in statements(text) {
            count += 1;
            if count > MAX_STATEMENTS {
                let message = format!("a message has more than {MAX_STATEMENTS} statements");
                return Err(PgError::new(code::TOO_COMPLEX, message).into());
            }
            let before = text.get(..range.start).unwrap_or_default();
            let statement = text.get(range).unwrap_or_default();
            let done = self.simple_statement(link, statement).await;
            done.map_err(|ended| match ended {
                Ended::Told(mut error) => {
                    let before = before.chars().count();
                    if let Some(position) = &mut error.position {
                        *position += before;
                    }
                    error.located(statement, before).into()
                }
                ended => ended,
            })?;
        }
        if count == 0 {
            link.out.empty_query();
        }
        Ok(())
    }

    async fn simple_statement<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        statement: &str,
    ) -> Result<(), Ended> {
        let command = Command::parse(statement)?;
        self.transaction.check(&command)?;
        let formats = Formats::All(Format::Text);
        match &command {
            Command::Query { .. } => {
                self.make_sets(link, &command)?;
                let mut running = self.start(link, statement, Vec::new()).await?;
                running::describe(&running.schema, &formats, &mut link.out);
                let cancel = Arc::clone(&self.registered.cancel);
                let zone = self.settings.zone();
                let rows = running
                    .send(link, &cancel, &formats, zone, u64::MAX)
                    .await?;
                link.out
                    .command_complete(&format!("{} {rows}", verb(statement)));
                Ok(())
            }
            Command::Show(_) | Command::ShowAll => {
                shown_columns(&command, &formats, &mut link.out);
                self.carry_out(link, &command, statement, Vec::new(), &formats)
                    .await
            }
            Command::Fetch { name, is_move, .. } => {
                let format = match self.portals.get(name) {
                    // As the cursor was declared.
                    Some(portal) => portal.formats.clone(),
                    None => formats,
                };
                if !is_move {
                    self.describe_cursor(link, name, &format)?;
                }
                self.carry_out(link, &command, statement, Vec::new(), &format)
                    .await
            }
            _ => {
                self.carry_out(link, &command, statement, Vec::new(), &formats)
                    .await
            }
        }
    }

    /// Carries out a statement that is no query.
    async fn carry_out<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        command: &Command,
        statement: &str,
        values: Vec<PgValue>,
        formats: &Formats,
    ) -> Result<(), Ended> {
        let cancel = Arc::clone(&self.registered.cancel);
        let tag = match command {
            Command::Query { .. } => return Ok(()),
            Command::Change(tag) => {
                self.change(link, statement, values).await?;
                tag
            }
            Command::Set {
                name,
                value,
                is_local,
            } => {
                self.set(link, name, value.as_deref(), *is_local)?;
                "SET"
            }
            Command::Nothing(tag) => tag,
            Command::Show(name) => {
                let value = self.settings.show(name)?;
                link.out.texts([Some(value)].into_iter());
                "SHOW"
            }
            Command::ShowAll => {
                for (name, value, description) in self.settings.all() {
                    let cells = [name, value, description].map(Some);
                    link.out.texts(cells.into_iter());
                }
                "SHOW"
            }
            Command::Reset(name) => {
                self.set(link, name, None, false)?;
                "RESET"
            }
            Command::ResetAll => {
                self.restore(link, Settings::reset);
                "RESET"
            }
            Command::Discard => {
                if self.transaction.is_open() {
                    let message = "DISCARD ALL cannot run inside a transaction block";
                    return Err(PgError::new("25001", message).into());
                }
                self.restore(link, Settings::reset);
                self.prepared.clear();
                self.portals.clear();
                self.give_back();
                "DISCARD ALL"
            }
            Command::Deallocate(None) => {
                self.prepared.clear();
                self.give_back();
                "DEALLOCATE ALL"
            }
            Command::Deallocate(Some(name)) => {
                if !self.forget(name) {
                    return Err(no_statement(name).into());
                }
                "DEALLOCATE"
            }
            Command::Begin => {
                self.transaction.begin(&self.settings);
                "BEGIN"
            }
            Command::Commit => match self.end_transaction(link, true) {
                true => "COMMIT",
                false => "ROLLBACK",
            },
            Command::Rollback => {
                self.end_transaction(link, false);
                "ROLLBACK"
            }
            Command::Savepoint(tag) => {
                self.transaction.recover(tag)?;
                tag
            }
            Command::Declare {
                name,
                query,
                is_held,
                is_binary,
            } => {
                self.declare(link, name, query, *is_held, *is_binary, values)
                    .await?;
                "DECLARE CURSOR"
            }
            Command::Fetch {
                name,
                rows,
                is_move,
            } => {
                let zone = self.settings.zone();
                let max = rows.unwrap_or(u64::MAX);
                let running = running_portal(&mut self.portals, name)?;
                let done = match is_move {
                    true => running.skip(link, &cancel, max).await,
                    false => running.send(link, &cancel, formats, zone, max).await,
                };
                let word = if *is_move { "MOVE" } else { "FETCH" };
                link.out.command_complete(&format!("{word} {}", done?));
                return Ok(());
            }
            Command::CloseCursor(None) => {
                self.portals.clear();
                "CLOSE CURSOR ALL"
            }
            Command::CloseCursor(Some(name)) => {
                if self.portals.remove(name).is_none() {
                    return Err(no_cursor(name).into());
                }
                "CLOSE CURSOR"
            }
            Command::Copy { query, options } => {
                let mut running = self.start(link, query, values).await?;
                let zone = self.settings.zone();
                let rows = running.copy(link, &cancel, options, zone).await?;
                link.out.command_complete(&format!("COPY {rows}"));
                return Ok(());
            }
        };
        link.out.command_complete(tag);
        Ok(())
    }

    /// Deletes, drops, or sets how long rows are kept.
    async fn change<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        statement: &str,
        values: Vec<PgValue>,
    ) -> Result<(), Ended> {
        let context = self.renewed()?;
        let seen = self.seen(statement)?;
        let (door, cancel) = (Arc::clone(&self.door), Arc::clone(&self.registered.cancel));
        let service = &door.app.service;
        let text = service.read_sql(statement).map_err(PgError::from)?;
        let text = text.in_postgres(seen, PgParams::Values(values));
        let work = service.sql_command(&context, &self.database, text, HashMap::new());
        let done = link.attend(&cancel, Box::pin(work)).await?;
        done.map_err(|error| self.worded(error))?;
        Ok(())
    }

    /// Starts a statement that reads.
    async fn start<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        statement: &str,
        values: Vec<PgValue>,
    ) -> Result<Running, Ended> {
        let context = self.renewed()?;
        let access = context
            .access::<Read>(&self.database)
            .map_err(PgError::from)?;
        let seen = self.seen(statement)?;
        let (door, cancel) = (Arc::clone(&self.door), Arc::clone(&self.registered.cancel));
        let service = &door.app.service;
        let text = service
            .read_sql(statement)
            .map_err(|error| self.worded(error))?;
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
        let (running, warnings) = begun.map_err(|error| self.worded(error))?;
        for warning in warnings {
            link.out.warning(&PgError::new("01000", warning));
        }
        Ok(running)
    }

    /// Makes the settings of `set_config()`.
    fn make_sets<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        command: &Command,
    ) -> Result<(), PgError> {
        if let Command::Query { sets } = command {
            for set in sets {
                self.set(link, &set.name, Some(&set.value), set.is_local)?;
            }
        }
        Ok(())
    }

    fn set<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        name: &str,
        value: Option<&str>,
        is_local: bool,
    ) -> Result<(), PgError> {
        let before = self.settings.get(name).map(str::to_owned);
        if let Some(reported) = self.settings.set(name, value)? {
            link.out
                .parameter_status(reported, self.settings.get(reported).unwrap_or_default());
        }
        if is_local {
            self.transaction.remember(name, before);
        }
        self.seen = None;
        Ok(())
    }

    /// Changes settings, and tells of those that clients are told of.
    fn restore<S: Stream>(&mut self, link: &mut Link<S>, change: impl FnOnce(&mut Settings)) {
        let before: BTreeMap<&str, String> = self
            .settings
            .reported()
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        change(&mut self.settings);
        self.seen = None;
        for (name, value) in self.settings.reported() {
            if before.get(name).map(String::as_str) != Some(value) {
                link.out.parameter_status(name, value);
            }
        }
    }

    /// Ends a transaction; returns whether it had not failed.
    fn end_transaction<S: Stream>(&mut self, link: &mut Link<S>, is_commit: bool) -> bool {
        let (is_good, restored) = self.transaction.end(is_commit);
        self.portals.retain(|_, portal| portal.is_held && is_good);
        if let Some(restored) = restored {
            self.restore(link, |settings| restored.apply(settings));
        }
        is_good
    }

    /// Who asks, if the token still allows anything.
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
        const DATABASES: &str = "pg_database";
        let wants_databases = statement.contains(DATABASES);
        if let Some(seen) = self.seen.as_ref().filter(|_| !wants_databases) {
            return Ok(Arc::clone(seen));
        }
        let databases = match wants_databases {
            false => Vec::new(),
            true => {
                let databases = self.door.app.service.databases(&self.context)?;
                databases
                    .into_iter()
                    .map(|(name, _)| name.to_string())
                    .collect()
            }
        };
        let owned = |(name, value, what): (&str, &str, &'static str)| {
            (name.to_owned(), value.to_owned(), what)
        };
        let seen = Arc::new(PgSession {
            user: self.user.clone(),
            pid: self.registered.pid,
            version: format!("PostgreSQL {SERVER_VERSION}"),
            databases,
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
        let is_gone = error.code == Code::NotFound
            && matches!(
                self.door.app.service.has_database(&self.database),
                Ok(false)
            );
        let error = PgError::from(error);
        match is_gone {
            true => PgError {
                code: code::NO_DATABASE,
                ..error
            },
            false => error,
        }
    }

    fn cancel(&self) -> Arc<Cancel> {
        Arc::clone(&self.registered.cancel)
    }
}

/// The columns of what settings are shown in.
fn shown_columns(command: &Command, formats: &Formats, out: &mut super::backend::Output) {
    let names: Vec<&str> = match command {
        Command::Show(name) => vec![name.as_str()],
        _ => vec!["name", "setting", "description"],
    };
    let fields = names
        .iter()
        .enumerate()
        .map(|(at, name)| super::backend::FieldDescription {
            name,
            oid: 25,
            size: -1,
            is_binary: formats.of(at) == Format::Binary,
        });
    out.row_description(fields);
}

/// The word that tells that a statement that reads is done.
fn verb(statement: &str) -> &'static str {
    let first = super::lexer::Lexer::new(statement).next();
    let word = first
        .and_then(|token| statement.get(token.at))
        .unwrap_or_default();
    match word.to_ascii_uppercase().as_str() {
        "EXPLAIN" => "EXPLAIN",
        "SHOW" | "DESCRIBE" | "DESC" => "SHOW",
        _ => "SELECT",
    }
}

/// The query of a cursor.
fn running_portal<'a>(
    portals: &'a mut HashMap<String, Portal>,
    name: &str,
) -> Result<&'a mut Running, PgError> {
    match portals.get_mut(name).map(|portal| &mut portal.state) {
        Some(PortalState::Running(running)) => Ok(running),
        Some(PortalState::Lost(reason)) => Err(reason.clone()),
        _ => Err(no_cursor(name)),
    }
}

fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

fn no_cursor(name: &str) -> PgError {
    PgError::new(
        code::NO_CURSOR,
        format!("cursor {:?} does not exist", shown(name)),
    )
}

fn no_statement(name: &str) -> PgError {
    let message = format!("prepared statement {:?} does not exist", shown(name));
    PgError::new(code::NO_STATEMENT, message)
}
