//! Statements by what the connection does with them: those about itself it carries out, those that
//! read or change data go to the engine.

mod copies;
mod cursors;
#[cfg(test)]
mod tests;
mod tokens;

use self::tokens::Tokens;
use super::copy::CopyOptions;
use super::error::{PgError, code};
use super::lexer::{Kind, value};

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Answered by the engine, after these settings were made.
    Query {
        sets: Vec<SetConfig>,
    },
    /// Changes what is stored; with the word that tells that it is done.
    Change(&'static str),
    /// `None` is the default.
    Set {
        name: String,
        value: Option<String>,
        is_local: bool,
    },
    /// Does nothing here; with the word that tells that it is done.
    Nothing(&'static str),
    Show(String),
    ShowAll,
    Reset(String),
    ResetAll,
    Discard,
    /// Statements to forget; `None` is all.
    Deallocate(Option<String>),
    Begin,
    Commit,
    Rollback,
    /// Savepoints, which save nothing; with the word that tells that it is done.
    Savepoint(&'static str),
    Declare {
        name: String,
        query: String,
        is_held: bool,
        is_binary: bool,
    },
    Fetch {
        name: String,
        /// `None` is all.
        rows: Option<u64>,
        /// Whether rows are passed over instead of shown.
        is_move: bool,
    },
    /// `None` is all.
    CloseCursor(Option<String>),
    Copy {
        query: String,
        options: CopyOptions,
    },
}

/// A call of `set_config()`.
#[derive(Debug, Clone, PartialEq)]
pub struct SetConfig {
    pub name: String,
    pub value: String,
    pub is_local: bool,
}

const WRITES_ELSEWHERE: &str = "rows are written by line protocol (/api/v2/write, \
    /api/v3/write_lp), Prometheus remote write or OTLP";

/// The first words of statements that the engine answers, beside `SHOW`.
const READING: [&str; 7] = [
    "SELECT", "WITH", "VALUES", "EXPLAIN", "DESCRIBE", "DESC", "TABLE",
];

impl Command {
    /// Reads one statement.
    pub fn parse(text: &str) -> Result<Self, PgError> {
        let mut tokens = Tokens::new(text);
        let word = tokens.shown().to_ascii_uppercase();
        let first = tokens.next.as_ref().map(|token| token.kind);
        if first != Some(Kind::Word) || READING.contains(&word.as_str()) {
            let sets = set_configs(text)?;
            return Ok(Command::Query { sets });
        }
        let refused = |message: String| Err(PgError::new(code::UNSUPPORTED, message));
        match word.as_str() {
            "DELETE" => return Ok(Command::Change("DELETE 0")),
            "INSERT" | "UPDATE" | "MERGE" => {
                return refused(format!("{word} is not supported: {WRITES_ELSEWHERE}"));
            }
            _ => tokens.advance(),
        }
        let command = match word.as_str() {
            "SET" => return set(tokens),
            "SHOW" => return show(tokens),
            "RESET" if tokens.take("ALL") => Command::ResetAll,
            "RESET" => match tokens.take_time_zone() {
                true => Command::Reset("timezone".to_owned()),
                false => Command::Reset(tokens.dotted("the name of a setting")?),
            },
            "DISCARD" if tokens.take("ALL") => Command::Discard,
            "DISCARD" => match tokens.take_any(&["PLANS", "SEQUENCES", "TEMP", "TEMPORARY"]) {
                true => Command::Nothing("DISCARD"),
                false => return Err(tokens.unexpected("ALL")),
            },
            "DEALLOCATE" => {
                tokens.take("PREPARE");
                match tokens.take("ALL") {
                    true => Command::Deallocate(None),
                    false => Command::Deallocate(Some(tokens.name("the name of a statement")?)),
                }
            }
            "BEGIN" | "START" => {
                if word == "START" && !tokens.take("TRANSACTION") {
                    return Err(tokens.unexpected("TRANSACTION"));
                }
                // Isolation and access modes say nothing here.
                return Ok(Command::Begin);
            }
            "COMMIT" | "END" => end_of_transaction(&mut tokens, Command::Commit)?,
            "ROLLBACK" | "ABORT" => {
                tokens.take_any(&["WORK", "TRANSACTION"]);
                if tokens.take("TO") {
                    tokens.take("SAVEPOINT");
                    tokens.name("the name of a savepoint")?;
                    Command::Savepoint("ROLLBACK")
                } else {
                    end_of_transaction(&mut tokens, Command::Rollback)?
                }
            }
            "SAVEPOINT" => {
                tokens.name("the name of a savepoint")?;
                Command::Savepoint("SAVEPOINT")
            }
            "RELEASE" => {
                tokens.take("SAVEPOINT");
                tokens.name("the name of a savepoint")?;
                Command::Savepoint("RELEASE")
            }
            "DECLARE" => return cursors::declare(tokens),
            "FETCH" | "MOVE" => return cursors::fetch(tokens, word == "MOVE"),
            "CLOSE" => match tokens.take("ALL") {
                true => Command::CloseCursor(None),
                false => Command::CloseCursor(Some(tokens.name("the name of a cursor")?)),
            },
            "UNLISTEN" => return Ok(Command::Nothing("UNLISTEN")),
            "COPY" => return copies::copy(tokens),
            "DROP" => {
                let word = tokens.shown().to_ascii_uppercase();
                return Ok(Command::Change(match word.as_str() {
                    "DATABASE" => "DROP DATABASE",
                    _ => "DROP TABLE",
                }));
            }
            "ALTER" => {
                let word = tokens.shown().to_ascii_uppercase();
                return Ok(Command::Change(match word.as_str() {
                    "DATABASE" => "ALTER DATABASE",
                    "SCHEMA" => "ALTER SCHEMA",
                    _ => "ALTER TABLE",
                }));
            }
            "PREPARE" | "EXECUTE" => {
                return refused(format!(
                    "{word} is not supported: prepare statements by the protocol, as drivers do"
                ));
            }
            "LISTEN" | "NOTIFY" => {
                return refused(format!(
                    "{word} is not supported: there are no notifications"
                ));
            }
            "CREATE" | "TRUNCATE" | "GRANT" | "REVOKE" | "COMMENT" | "VACUUM" | "ANALYZE"
            | "REINDEX" | "CLUSTER" | "LOCK" | "CALL" | "DO" | "LOAD" | "CHECKPOINT"
            | "REFRESH" | "IMPORT" | "SECURITY" | "REASSIGN" => {
                return refused(format!(
                    "{word} is not supported: tables and databases come with the first rows; \
                     {WRITES_ELSEWHERE}"
                ));
            }
            // The engine says what there is.
            _ => return Ok(Command::Query { sets: Vec::new() }),
        };
        tokens.end()?;
        Ok(command)
    }

    /// Whether it may run after an error inside a transaction.
    pub fn ends_transaction(&self) -> bool {
        matches!(
            self,
            Command::Commit | Command::Rollback | Command::Savepoint("ROLLBACK")
        )
    }
}

/// What may follow `COMMIT` and `ROLLBACK`.
fn end_of_transaction(tokens: &mut Tokens<'_>, command: Command) -> Result<Command, PgError> {
    tokens.take_any(&["WORK", "TRANSACTION"]);
    let unsupported = |message: &str| Err(PgError::new(code::UNSUPPORTED, message));
    if tokens.take("PREPARED") {
        return unsupported("prepared transactions are not supported");
    }
    if tokens.take("AND") {
        if !tokens.take("NO") {
            return unsupported("AND CHAIN is not supported: begin the next transaction");
        }
        if !tokens.take("CHAIN") {
            return Err(tokens.unexpected("CHAIN"));
        }
    }
    Ok(command)
}

fn set(mut tokens: Tokens<'_>) -> Result<Command, PgError> {
    let mut is_local = false;
    if tokens.take("LOCAL") {
        is_local = true;
    } else if tokens.take("SESSION") && tokens.take_any(&["CHARACTERISTICS", "AUTHORIZATION"])
        || tokens.take_any(&["TRANSACTION", "CONSTRAINTS"])
    {
        return Ok(Command::Nothing("SET"));
    }
    if tokens.take("ROLE") {
        return Err(PgError::new(
            code::UNSUPPORTED,
            "SET ROLE is not supported: connect with another token",
        ));
    }
    let (name, needs_to) = if tokens.take_time_zone() {
        ("timezone".to_owned(), false)
    } else if tokens.take("NAMES") {
        ("client_encoding".to_owned(), false)
    } else {
        (tokens.dotted("the name of a setting")?, true)
    };
    if needs_to && !tokens.take_any(&["TO", "="]) {
        return Err(tokens.unexpected("TO or ="));
    }
    if tokens.take_any(&["DEFAULT", "LOCAL"]) {
        tokens.end()?;
        let value = None;
        return Ok(Command::Set {
            name,
            value,
            is_local,
        });
    }
    let mut value = tokens.setting()?;
    while tokens.take(",") {
        value = format!("{value}, {}", tokens.setting()?);
    }
    tokens.end()?;
    Ok(Command::Set {
        name,
        value: Some(value),
        is_local,
    })
}

fn show(mut tokens: Tokens<'_>) -> Result<Command, PgError> {
    if is_shown_by_engine(&tokens) {
        return Ok(Command::Query { sets: Vec::new() });
    }
    let command = if tokens.take("ALL") {
        Command::ShowAll
    } else if tokens.take_time_zone() {
        Command::Show("timezone".to_owned())
    } else if tokens.take("TRANSACTION") {
        match tokens.take("ISOLATION") && tokens.take("LEVEL") {
            true => Command::Show("transaction_isolation".to_owned()),
            false => return Err(tokens.unexpected("ISOLATION LEVEL")),
        }
    } else {
        Command::Show(tokens.dotted("the name of a setting")?)
    };
    tokens.end()?;
    Ok(command)
}

/// Whether the engine answers what follows `SHOW`.
fn is_shown_by_engine(tokens: &Tokens<'_>) -> bool {
    let shown = ["TABLES", "COLUMNS", "FUNCTIONS", "RETENTION", "CREATE"];
    let word = tokens.shown();
    shown.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether a statement within another one is answered by the engine. Only its beginning is looked
/// at: statements may lie within one another as often as a message has room for.
fn is_query(text: &str) -> bool {
    let mut tokens = Tokens::new(text);
    match tokens.next.as_ref().map(|token| token.kind) {
        None => false,
        Some(Kind::Word) if tokens.take("SHOW") => is_shown_by_engine(&tokens),
        Some(Kind::Word) => READING.contains(&tokens.shown().to_ascii_uppercase().as_str()),
        Some(_) => true,
    }
}

/// The calls of `set_config()` in a query.
fn set_configs(text: &str) -> Result<Vec<SetConfig>, PgError> {
    const NAME: &str = "set_config";
    let mut found = Vec::new();
    let is_called = text
        .as_bytes()
        .windows(NAME.len())
        .any(|window| window.eq_ignore_ascii_case(NAME.as_bytes()));
    if !is_called {
        return Ok(found);
    }
    let mut tokens = Tokens::new(text);
    while tokens.next.is_some() {
        if !(tokens.take(NAME) && tokens.take("(")) {
            tokens.advance();
            continue;
        }
        let constant = |tokens: &mut Tokens<'_>| match &tokens.next {
            Some(token) if token.kind == Kind::Text => {
                let given = value(text, token);
                tokens.advance();
                Ok(given)
            }
            _ => Err(tokens.unexpected("a text: set_config() takes constants")),
        };
        let name = constant(&mut tokens)?;
        if !tokens.take(",") {
            return Err(tokens.unexpected(","));
        }
        let value = constant(&mut tokens)?;
        let is_local = tokens.take(",") && tokens.take("true");
        found.push(SetConfig {
            name,
            value,
            is_local,
        });
    }
    Ok(found)
}
