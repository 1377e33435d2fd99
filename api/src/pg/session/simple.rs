//! The statements of a text, one after the other, and all statements that are no queries.

use super::Session;
use crate::node::backend::PgValue;
use crate::pg::backend::{FieldDescription, Output};
use crate::pg::command::{Command, SetConfig};
use crate::pg::error::{PgError, code};
use crate::pg::lexer::{Lexer, statements};
use crate::pg::link::{Ended, Link};
use crate::pg::rows::{Format, Formats};
use crate::pg::running;
use crate::pg::settings::Settings;
use crate::pg::startup::Stream;

/// Statements in one message.
const MAX_STATEMENTS: usize = 1000;

impl Session {
    /// Runs the statements of a text up to the first that fails.
    pub(super) async fn simple<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        text: &str,
    ) -> Result<(), Ended> {
        let mut count = 0;
        for range in statements(text) {
            count += 1;
            if count > MAX_STATEMENTS {
                let message = format!("a message has more than {MAX_STATEMENTS} statements");
                return Err(PgError::new(code::TOO_COMPLEX, message).into());
            }
            let start = range.start;
            let statement = text.get(range).unwrap_or_default();
            let done = self.simple_statement(link, statement).await;
            done.map_err(|ended| match ended {
                Ended::Told(mut error) => {
                    let before = text.get(..start).unwrap_or_default().chars().count();
                    error.position = error.position.map(|position| position + before);
                    error.into()
                }
                ended => ended,
            })?;
            link.flush_if_full().await?;
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
        let mut formats = Formats::All(Format::Text);
        match &command {
            Command::Query { sets } => {
                self.make_sets(link, sets)?;
                let mut running = self.start(link, statement, Vec::new()).await?;
                running::describe(&running.schema, &formats, &mut link.out);
                let (cancel, zone) = (self.cancel(), self.settings.zone());
                let rows = running.send(link, &cancel, &formats, zone, u64::MAX);
                let tag = format!("{} {}", verb(statement), rows.await?);
                link.out.command_complete(&tag);
                return Ok(());
            }
            Command::Fetch { name, .. } => {
                // As the cursor was declared.
                formats = self.kept.portal(name)?.formats.clone();
            }
            _ => {}
        }
        self.describe_answer(link, &command, &formats)?;
        self.carry_out(link, &command, statement, Vec::new(), &formats)
            .await
    }

    /// Tells the columns of what a statement that is no query answers. Returns whether it has any.
    pub(super) fn describe_answer<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        command: &Command,
        formats: &Formats,
    ) -> Result<bool, PgError> {
        match command {
            Command::Show(name) => texts_described(&[name], formats, &mut link.out),
            Command::ShowAll => {
                let names = ["name", "setting", "description"];
                texts_described(&names, formats, &mut link.out);
            }
            Command::Fetch {
                name,
                is_move: false,
                ..
            } => {
                let running = self.kept.running(name)?;
                running::describe(&running.schema, formats, &mut link.out);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Carries out a statement that is no query.
    pub(super) async fn carry_out<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        command: &Command,
        statement: &str,
        values: Vec<PgValue>,
        formats: &Formats,
    ) -> Result<(), Ended> {
        let cancel = self.cancel();
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
                    return Err(PgError::new(code::OPEN_TRANSACTION, message).into());
                }
                self.restore(link, Settings::reset);
                self.kept.forget_all();
                self.kept.close_all_but(|_| false);
                "DISCARD ALL"
            }
            Command::Deallocate(None) => {
                self.kept.forget_all();
                "DEALLOCATE ALL"
            }
            Command::Deallocate(Some(name)) => {
                self.kept.forget(name)?;
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
                let declared = self.declare(link, name, query, *is_held, *is_binary, values);
                let declared = declared.await;
                declared.map_err(|ended| of_part(ended, statement, query))?;
                "DECLARE CURSOR"
            }
            Command::Fetch {
                name,
                rows,
                is_move,
            } => {
                let zone = self.settings.zone();
                let max = rows.unwrap_or(u64::MAX);
                let running = self.kept.running(name)?;
                let done = match is_move {
                    true => running.skip(link, &cancel, max).await,
                    false => running.send(link, &cancel, formats, zone, max).await,
                };
                let word = if *is_move { "MOVE" } else { "FETCH" };
                link.out.command_complete(&format!("{word} {}", done?));
                return Ok(());
            }
            Command::CloseCursor(None) => {
                self.kept.close_all_but(|_| false);
                "CLOSE CURSOR ALL"
            }
            Command::CloseCursor(Some(name)) => {
                self.kept.close(name)?;
                "CLOSE CURSOR"
            }
            Command::Copy { query, options } => {
                let running = self.start(link, query, values).await;
                let mut running = running.map_err(|ended| of_part(ended, statement, query))?;
                let zone = self.settings.zone();
                let rows = running.copy(link, &cancel, options, zone).await?;
                link.out.command_complete(&format!("COPY {rows}"));
                return Ok(());
            }
        };
        link.out.command_complete(tag);
        Ok(())
    }

    /// Makes the settings of `set_config()`.
    pub(super) fn make_sets<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        sets: &[SetConfig],
    ) -> Result<(), PgError> {
        sets.iter()
            .try_for_each(|set| self.set(link, &set.name, Some(&set.value), set.is_local))
    }
}

/// An error of a query as one of the statement that it is a part of.
pub(super) fn of_part(ended: Ended, statement: &str, query: &str) -> Ended {
    match ended {
        Ended::Told(error) => error.of_part(statement, query).into(),
        ended => ended,
    }
}

/// Tells the names of columns of texts.
fn texts_described(names: &[&str], formats: &Formats, out: &mut Output) {
    let fields = names.iter().enumerate().map(|(at, name)| FieldDescription {
        name,
        oid: 25,
        size: -1,
        is_binary: formats.of(at) == Format::Binary,
    });
    out.row_description(fields);
}

/// The word that tells that a statement that reads is done.
pub(super) fn verb(statement: &str) -> &'static str {
    let first = Lexer::new(statement).next();
    let word = first.and_then(|token| statement.get(token.at));
    match word.unwrap_or_default().to_ascii_uppercase().as_str() {
        "EXPLAIN" => "EXPLAIN",
        "SHOW" | "DESCRIBE" | "DESC" => "SHOW",
        _ => "SELECT",
    }
}
