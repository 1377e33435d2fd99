//! What a session keeps: prepared statements, and portals with their parameters and rows to come.
//!
//! They are bounded in number and bytes, and counted in the memory for bodies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelake_catalog::memory::Reservation;
use tokio::time::Instant;

use crate::node::backend::{Description, PgValue};
use crate::pg::command::Command;
use crate::pg::error::{PgError, code};
use crate::pg::rows::Formats;
use crate::pg::running::Running;
use crate::service::slots::Outcome;

/// Statements that are prepared, and their bytes.
const MAX_PREPARED: usize = 1000;
const MAX_PREPARED_BYTES: usize = 4 << 20;
/// Portals that are open, the bytes of their statements and parameters, and those among them whose
/// queries run.
const MAX_PORTALS: usize = 100;
const MAX_PORTAL_BYTES: usize = 16 << 20;
const MAX_RUNNING: usize = 4;
/// What is below it is not counted in the memory of the server.
const UNCOUNTED_BYTES: usize = 16 << 10;
/// Memory of the type of a parameter, and of a column beside its name.
const PARAMETER_BYTES: usize = 32;
const COLUMN_BYTES: usize = 256;

/// A statement that was prepared.
pub(super) struct Prepared {
    pub text: String,
    /// `None` if the text says nothing.
    pub command: Option<Command>,
    /// Types of parameters that the client gave; 0 is none.
    pub types: Vec<u32>,
    /// How many parameters there are.
    pub parameters: usize,
    pub described: Mutex<Option<Arc<Description>>>,
}

impl Prepared {
    fn bytes(&self) -> usize {
        let described = self.described.lock().as_deref().map_or(0, columns_bytes);
        self.text.len() + self.parameters * PARAMETER_BYTES + described
    }
}

fn columns_bytes(description: &Description) -> usize {
    let columns = description.columns.fields().iter();
    columns
        .map(|column| COLUMN_BYTES + column.name().len())
        .sum()
}

/// A statement with its parameters.
pub(super) struct Portal {
    pub prepared: Arc<Prepared>,
    pub values: Vec<PgValue>,
    pub formats: Formats,
    pub state: PortalState,
    /// Whether it outlives its transaction.
    pub is_held: bool,
}

impl Portal {
    /// Its statement may be kept by nothing else.
    fn bytes(&self) -> usize {
        let values: usize = self.values.iter().map(PgValue::bytes).sum();
        self.prepared.bytes() + values
    }
}

pub(super) enum PortalState {
    Ready,
    Running(Running),
    Done,
    /// Its query was ended, for this reason.
    Lost(PgError),
}

/// See the module.
pub(super) struct Kept {
    prepared: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    held: Reservation,
}

impl Kept {
    /// Nothing yet; `held` is of the memory to count it in.
    pub fn new(held: Reservation) -> Self {
        Self {
            prepared: HashMap::new(),
            portals: HashMap::new(),
            held,
        }
    }

    fn prepared_bytes(&self) -> usize {
        self.prepared.values().map(|one| one.bytes()).sum()
    }

    fn portal_bytes(&self) -> usize {
        self.portals.values().map(Portal::bytes).sum()
    }

    /// Counts the memory of all, and of some more bytes.
    fn hold(&mut self, more: usize) -> Result<(), PgError> {
        let bytes = self.prepared_bytes() + self.portal_bytes() + more;
        let counted = if bytes > UNCOUNTED_BYTES { bytes } else { 0 };
        self.held.try_resize(counted).map_err(|error| {
            let message = format!("a statement or its parameters do not fit into memory: {error}");
            PgError::new(code::OUT_OF_MEMORY, message)
        })
    }

    /// Counts less memory after something is gone.
    fn give_back(&mut self) {
        // Less is always to be had.
        let _ = self.hold(0);
    }

    pub fn has_statement(&self, name: &str) -> bool {
        self.prepared.contains_key(name)
    }

    pub fn statement(&self, name: &str) -> Result<Arc<Prepared>, PgError> {
        let found = self.prepared.get(name).cloned();
        found.ok_or_else(|| no_statement(name))
    }

    /// Keeps a statement, in the place of another one of its name.
    pub fn prepare(&mut self, name: String, prepared: Prepared) -> Result<(), PgError> {
        self.prepared.remove(&name);
        let bytes = prepared.bytes();
        if self.prepared_bytes() + bytes > MAX_PREPARED_BYTES {
            // Descriptions can be asked for again.
            let others = self.prepared.values();
            others.for_each(|other| *other.described.lock() = None);
        }
        let is_full = self.prepared.len() >= MAX_PREPARED;
        if is_full || self.prepared_bytes() + bytes > MAX_PREPARED_BYTES {
            return Err(PgError::new(
                code::TOO_COMPLEX,
                format!(
                    "a connection may have {MAX_PREPARED} prepared statements of together \
                     {MAX_PREPARED_BYTES} bytes; close some"
                ),
            ));
        }
        self.hold(bytes)?;
        self.prepared.insert(name, Arc::new(prepared));
        Ok(())
    }

    /// Keeps what a statement takes and answers, if there is room: else it is asked for again.
    pub fn describe(&mut self, prepared: &Prepared, description: &Arc<Description>) {
        let bytes = columns_bytes(description);
        let has_room = self.prepared_bytes() + bytes <= MAX_PREPARED_BYTES;
        if has_room && self.hold(bytes).is_ok() {
            *prepared.described.lock() = Some(Arc::clone(description));
        }
    }

    /// Forgets a statement.
    pub fn forget(&mut self, name: &str) -> Result<(), PgError> {
        let forgotten = self.prepared.remove(name);
        self.give_back();
        forgotten.map(drop).ok_or_else(|| no_statement(name))
    }

    /// Forgets all statements.
    pub fn forget_all(&mut self) {
        self.prepared.clear();
        self.give_back();
    }

    pub fn has_portal(&self, name: &str) -> bool {
        self.portals.contains_key(name)
    }

    pub fn portal(&self, name: &str) -> Result<&Portal, PgError> {
        self.portals.get(name).ok_or_else(|| no_cursor(name))
    }

    pub fn portal_mut(&mut self, name: &str) -> Result<&mut Portal, PgError> {
        self.portals.get_mut(name).ok_or_else(|| no_cursor(name))
    }

    /// The query of a cursor.
    pub fn running(&mut self, name: &str) -> Result<&mut Running, PgError> {
        match &mut self.portal_mut(name)?.state {
            PortalState::Running(running) => Ok(running),
            PortalState::Lost(reason) => Err(reason.clone()),
            PortalState::Ready | PortalState::Done => Err(no_cursor(name)),
        }
    }

    /// Opens a portal, in the place of another one of its name.
    pub fn open(&mut self, name: String, portal: Portal) -> Result<(), PgError> {
        self.portals.remove(&name);
        if self.portals.len() >= MAX_PORTALS {
            return Err(PgError::new(
                code::TOO_COMPLEX,
                format!("a connection may have {MAX_PORTALS} open portals; close some"),
            ));
        }
        let bytes = portal.bytes();
        if self.portal_bytes() + bytes > MAX_PORTAL_BYTES {
            return Err(PgError::new(
                code::TOO_COMPLEX,
                format!(
                    "the statements and parameters of open portals may take {MAX_PORTAL_BYTES} \
                     bytes; close some"
                ),
            ));
        }
        self.hold(bytes)?;
        self.portals.insert(name, portal);
        Ok(())
    }

    /// Closes a portal; its query ends.
    pub fn close(&mut self, name: &str) -> Result<(), PgError> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_cursor(name))?;
        if let PortalState::Running(running) = &mut portal.state {
            running.end(Outcome::Answered);
        }
        self.give_back();
        Ok(())
    }

    /// Closes all portals but some.
    pub fn close_all_but(&mut self, is_kept: impl Fn(&Portal) -> bool) {
        self.portals.retain(|_, portal| is_kept(portal));
        self.give_back();
    }

    /// Whether one more query may run.
    pub fn may_run_more(&self) -> Result<(), PgError> {
        if self.running_since().count() < MAX_RUNNING {
            return Ok(());
        }
        let message = format!(
            "a connection may have {MAX_RUNNING} queries whose rows are still to be fetched; \
             close a cursor or use another connection"
        );
        Err(PgError::new(code::THROTTLED, message))
    }

    /// When rows were last asked for of each query that runs.
    pub fn running_since(&self) -> impl Iterator<Item = Instant> {
        let running = self
            .portals
            .values()
            .filter_map(|portal| match &portal.state {
                PortalState::Running(running) => Some(running),
                _ => None,
            });
        running
            .filter(|running| running.is_open())
            .map(|running| running.touched)
    }

    /// Ends the queries of which no rows were asked for in `limit`.
    pub fn expire(&mut self, limit: Duration) {
        let now = Instant::now();
        for portal in self.portals.values_mut() {
            if let PortalState::Running(running) = &mut portal.state
                && running.is_open()
                && running.touched + limit <= now
            {
                running.end(Outcome::Stalled);
                let ms = limit.as_millis();
                let message = format!(
                    "the query was ended: no rows were fetched from it for write_timeout_ms = {ms}"
                );
                portal.state = PortalState::Lost(PgError::new(code::CANCELED, message));
            }
        }
    }
}

/// A name from outside for a message, not too long.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

fn no_cursor(name: &str) -> PgError {
    let message = format!("cursor {:?} does not exist", shown(name));
    PgError::new(code::NO_CURSOR, message)
}

fn no_statement(name: &str) -> PgError {
    let message = format!("prepared statement {:?} does not exist", shown(name));
    PgError::new(code::NO_STATEMENT, message)
}
