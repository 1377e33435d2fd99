//! Transactions, as far as clients see them: each statement reads the state at its beginning, and
//! what it changes is done when it is answered. Only settings are taken back.

use super::super::command::Command;
use super::super::error::{PgError, code};
use super::super::settings::Settings;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Idle,
    Open,
    Failed,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    state: State,
    /// The settings when it began.
    before: Option<Settings>,
    /// What local settings were, in the order in which they were made.
    locals: Vec<(String, Option<String>)>,
}

/// How settings are restored.
pub(super) enum Restored {
    All(Settings),
    Some(Vec<(String, Option<String>)>),
}

impl Restored {
    pub fn apply(self, settings: &mut Settings) {
        match self {
            Restored::All(before) => *settings = before,
            Restored::Some(locals) => {
                for (name, value) in locals.into_iter().rev() {
                    // It was the value before.
                    let _ = settings.set(&name, value.as_deref());
                }
            }
        }
    }
}

impl Transaction {
    /// As the protocol tells it.
    pub fn status(&self) -> u8 {
        match self.state {
            State::Idle => b'I',
            State::Open => b'T',
            State::Failed => b'E',
        }
    }

    pub fn is_open(&self) -> bool {
        self.state != State::Idle
    }

    pub fn begin(&mut self, settings: &Settings) {
        if self.state == State::Idle {
            self.state = State::Open;
            self.before = Some(settings.clone());
        }
    }

    /// A statement has failed.
    pub fn fail(&mut self) {
        if self.state == State::Open {
            self.state = State::Failed;
        }
    }

    /// Whether a statement may run.
    pub fn check(&self, command: &Command) -> Result<(), PgError> {
        match self.state {
            State::Failed if !command.ends_transaction() => Err(PgError::new(
                code::FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )),
            _ => Ok(()),
        }
    }

    /// A savepoint is made, released, or returned to.
    pub fn recover(&mut self, tag: &str) -> Result<(), PgError> {
        match (self.state, tag) {
            (State::Idle, _) => Err(PgError::new(
                code::NO_TRANSACTION,
                "savepoints are for transaction blocks",
            )),
            (State::Failed, "ROLLBACK") => {
                self.state = State::Open;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Notes what a setting was that is made for this transaction only.
    pub fn remember(&mut self, name: &str, before: Option<String>) {
        self.locals.push((name.to_owned(), before));
    }

    /// Ends it. Returns whether it had not failed, and how settings are restored.
    pub fn end(&mut self, is_commit: bool) -> (bool, Option<Restored>) {
        let is_good = is_commit && self.state != State::Failed;
        let Transaction { before, locals, .. } = std::mem::take(self);
        let restored = match is_good {
            true => Some(Restored::Some(locals)),
            false => before.map(Restored::All),
        };
        (is_good, restored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(application: &str) -> Settings {
        let mut settings = Settings::default();
        settings.set("application_name", Some(application)).unwrap();
        settings
    }

    #[test]
    fn a_rollback_restores_settings_and_a_commit_local_ones() {
        let mut transaction = Transaction::default();
        let mut now = settings("a");
        transaction.begin(&now);
        now.set("application_name", Some("b")).unwrap();
        let (is_good, restored) = transaction.end(false);
        restored.unwrap().apply(&mut now);
        assert!(!is_good && now.get("application_name") == Some("a"));

        transaction.begin(&now);
        transaction.remember("application_name", Some("a".into()));
        now.set("application_name", Some("c")).unwrap();
        now.set("work_mem", Some("1MB")).unwrap();
        let (is_good, restored) = transaction.end(true);
        restored.unwrap().apply(&mut now);
        assert!(is_good && now.get("application_name") == Some("a"));
        assert_eq!(now.get("work_mem"), Some("1MB"));
    }

    #[test]
    fn a_failed_one_takes_nothing_but_its_end() {
        let mut transaction = Transaction::default();
        assert_eq!(transaction.status(), b'I');
        transaction.fail();
        assert_eq!(transaction.status(), b'I');
        transaction.begin(&Settings::default());
        transaction.fail();
        assert_eq!(transaction.status(), b'E');
        let query = Command::Query { sets: Vec::new() };
        assert_eq!(transaction.check(&query).unwrap_err().code, "25P02");
        transaction.check(&Command::Rollback).unwrap();
        transaction.recover("ROLLBACK").unwrap();
        assert_eq!(transaction.status(), b'T');
        transaction.fail();
        assert!(!transaction.end(true).0);
        assert_eq!(transaction.status(), b'I');
        assert!(transaction.recover("SAVEPOINT").is_err());
    }
}
