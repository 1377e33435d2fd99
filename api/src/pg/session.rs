//! A session: what a client prepares, runs and sets, message by message.
//!
//! `simple` runs the statements of a text, `extended` those that come in a message for each step.
//! `kept` bounds what is prepared and open, and `engine` asks the service.
//!
//! A portal whose query has begun has a place among the queries of the server. So there are few of
//! these, and they lose it when the client asks for no rows for `write_timeout_ms`.

mod engine;
mod extended;
mod kept;
mod simple;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelake_catalog::memory::Share;
use tokio::sync::watch;
use tokio::time::Instant;

use self::kept::Kept;
use self::transaction::Transaction;
use super::Door;
use super::cancel::{Cancel, Registered};
use super::error::{PgError, code};
use super::frontend::Message;
use super::link::{Ended, Link, MAX_MESSAGE_BYTES};
use super::settings::Settings;
use super::startup::{Started, Stream};
use crate::node::backend::PgSession;
use crate::service::context::RequestContext;

/// See the module.
pub struct Session {
    door: Arc<Door>,
    context: RequestContext,
    user: String,
    database: Arc<str>,
    settings: Settings,
    registered: Registered,
    transaction: Transaction,
    kept: Kept,
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
            kept: Kept::new(door.app.service.memory.empty(Share::Bodies)),
            door,
            context,
            user,
            database,
            settings,
            registered,
            transaction: Transaction::default(),
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
            // Messages of a few bytes have answers of many.
            let handled = match handled {
                Ok(()) => link.flush_if_full().await,
                failed => failed,
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
        let write = self.door.limits.write;
        loop {
            let expiry = self.kept.running_since().min().map(|since| since + write);
            let until = expiry.map_or(idle, |expiry| expiry.min(idle));
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
                    self.kept.expire(write);
                }
            }
        }
    }

    fn ready<S: Stream>(&mut self, link: &mut Link<S>) {
        // The end of what was no transaction ends its portals.
        if !self.transaction.is_open() {
            self.kept.close_all_but(|portal| portal.is_held);
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
                // It ends what has no name, if there is any.
                let _ = self.kept.close("");
                let _ = self.kept.forget("");
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
                self.parse(name, &query, types)?;
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
            // The rest of a copy that was refused.
            Message::Copy | Message::Terminate => {}
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
            let value = self.settings.get(reported).unwrap_or_default();
            link.out.parameter_status(reported, value);
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
        self.kept.close_all_but(|portal| portal.is_held && is_good);
        if let Some(restored) = restored {
            self.restore(link, |settings| restored.apply(settings));
        }
        is_good
    }

    fn cancel(&self) -> Arc<Cancel> {
        Arc::clone(&self.registered.cancel)
    }
}
