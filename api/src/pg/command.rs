//! Statements by what the connection does with them: those about itself it carries out, those that
//! read or change data go to the engine.

use super::copy::CopyOptions;
use super::error::{PgError, code};
use super::lexer::{Kind, Lexer, Token, value};

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

/// Tokens that are looked at.
struct Cursor<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    next: Option<Token>,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let next = lexer.next();
        Self { text, lexer, next }
    }

    fn shown(&self) -> &'a str {
        let next = self.next.as_ref();
        next.and_then(|token| self.text.get(token.at.clone()))
            .unwrap_or_default()
    }

    fn advance(&mut self) {
        self.next = self.lexer.next();
    }

    /// Takes a keyword or a symbol, if it comes next.
    fn take(&mut self, word: &str) -> bool {
        let kind = self.next.as_ref().map(|token| token.kind);
        let fits = matches!(kind, Some(Kind::Word | Kind::Symbol));
        let found = fits && self.shown().eq_ignore_ascii_case(word);
        if found {
            self.advance();
        }
        found
    }

    /// Takes one of some keywords.
    fn take_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.take(word))
    }

    fn unexpected(&self, expected: &str) -> PgError {
        let found = match self.shown() {
            "" => "the end of the statement".to_owned(),
            shown => format!("{:?}", shown.chars().take(60).collect::<String>()),
        };
        PgError {
            position: self.next.as_ref().map(|token| {
                self.text
                    .get(..token.at.start)
                    .map_or(0, |text| text.chars().count())
                    + 1
            }),
            ..PgError::new(code::SYNTAX, format!("expected {expected}, found {found}"))
        }
    }

    /// A name; without quotes it is in lower case, as PostgreSQL has it.
    fn name(&mut self, what: &str) -> Result<String, PgError> {
        let name = match &self.next {
            Some(token) if token.kind == Kind::Word => self.shown().to_lowercase(),
            Some(token) if token.kind == Kind::Quoted => value(self.text, token),
            _ => return Err(self.unexpected(what)),
        };
        self.advance();
        Ok(name)
    }

    /// A name with dots.
    fn dotted(&mut self, what: &str) -> Result<String, PgError> {
        let mut name = self.name(what)?;
        while self.take(".") {
            name = format!("{name}.{}", self.name(what)?);
        }
        Ok(name)
    }

    /// A value of a setting: a word, a text, or a number.
    fn setting(&mut self) -> Result<String, PgError> {
        let is_negative = self.take("-");
        if !is_negative {
            self.take("+");
        }
        let value = match &self.next {
            Some(token) if token.kind != Kind::Symbol => value(self.text, token),
            _ => return Err(self.unexpected("a value")),
        };
        self.advance();
        Ok(if is_negative {
            format!("-{value}")
        } else {
            value
        })
    }

    fn end(&mut self) -> Result<(), PgError> {
        match self.next {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the statement")),
        }
    }

    /// What is left, as it is written.
    fn rest(&self) -> &'a str {
        let next = self.next.as_ref();
        next.and_then(|token| self.text.get(token.at.start..))
            .unwrap_or_default()
    }

    /// What stands in parentheses that have just been opened, and the closing one.
    fn parenthesized(&mut self) -> Result<&'a str, PgError> {
        let start = self
            .next
            .as_ref()
            .map_or(self.text.len(), |token| token.at.start);
        let mut open = 1usize;
        while let Some(token) = &self.next {
            let end = token.at.start;
            match self.shown() {
                "(" => open += 1,
                ")" => open -= 1,
                _ => {}
            }
            self.advance();
            if open == 0 {
                return Ok(self.text.get(start..end).unwrap_or_default());
            }
        }
        Err(self.unexpected(")"))
    }
}

const WRITES_ELSEWHERE: &str = "rows are written by line protocol (/api/v2/write, /api/v3/write_lp), \
    Prometheus remote write or OTLP";

impl Command {
    /// Reads one statement.
    pub fn parse(text: &str) -> Result<Self, PgError> {
        let mut cursor = Cursor::new(text);
        let word = cursor.shown().to_ascii_uppercase();
        let first = cursor.next.as_ref().map(|token| token.kind);
        if first != Some(Kind::Word) {
            return Ok(Command::Query { sets: Vec::new() });
        }
        let refused = |message: String| Err(PgError::new(code::UNSUPPORTED, message));
        match word.as_str() {
            "SELECT" | "WITH" | "VALUES" | "EXPLAIN" | "DESCRIBE" | "DESC" | "TABLE" => {
                let sets = set_configs(text)?;
                return Ok(Command::Query { sets });
            }
            "DELETE" => return Ok(Command::Change("DELETE 0")),
            "INSERT" | "UPDATE" | "MERGE" => {
                return refused(format!("{word} is not supported: {WRITES_ELSEWHERE}"));
            }
            _ => cursor.advance(),
        }
        let command = match word.as_str() {
            "SET" => return set(cursor),
            "SHOW" => return show(cursor),
            "RESET" if cursor.take("ALL") => Command::ResetAll,
            "RESET" => match time_zone(&mut cursor) {
                true => Command::Reset("timezone".to_owned()),
                false => Command::Reset(cursor.dotted("the name of a setting")?),
            },
            "DISCARD" => {
                let all = cursor.take("ALL");
                if !all && !cursor.take_any(&["PLANS", "SEQUENCES", "TEMP", "TEMPORARY"]) {
                    return Err(cursor.unexpected("ALL"));
                }
                match all {
                    true => Command::Discard,
                    false => Command::Nothing("DISCARD"),
                }
            }
            "DEALLOCATE" => {
                cursor.take("PREPARE");
                match cursor.take("ALL") {
                    true => Command::Deallocate(None),
                    false => Command::Deallocate(Some(cursor.name("the name of a statement")?)),
                }
            }
            "BEGIN" | "START" => {
                if word == "START" && !cursor.take("TRANSACTION") {
                    return Err(cursor.unexpected("TRANSACTION"));
                }
                // Isolation and access modes say nothing here.
                return Ok(Command::Begin);
            }
            "COMMIT" | "END" | "ROLLBACK" | "ABORT" => {
                cursor.take_any(&["WORK", "TRANSACTION"]);
                let is_rollback = matches!(word.as_str(), "ROLLBACK" | "ABORT");
                if is_rollback && cursor.take("TO") {
                    cursor.take("SAVEPOINT");
                    cursor.name("the name of a savepoint")?;
                    Command::Savepoint("ROLLBACK")
                } else if cursor.take("PREPARED") {
                    return refused("prepared transactions are not supported".to_owned());
                } else {
                    if cursor.take("AND") {
                        cursor.take("NO");
                        cursor.take("CHAIN");
                    }
                    match is_rollback {
                        true => Command::Rollback,
                        false => Command::Commit,
                    }
                }
            }
            "SAVEPOINT" => {
                cursor.name("the name of a savepoint")?;
                Command::Savepoint("SAVEPOINT")
            }
            "RELEASE" => {
                cursor.take("SAVEPOINT");
                cursor.name("the name of a savepoint")?;
                Command::Savepoint("RELEASE")
            }
            "DECLARE" => return declare(cursor),
            "FETCH" | "MOVE" => fetch(&mut cursor, word == "MOVE")?,
            "CLOSE" => match cursor.take("ALL") {
                true => Command::CloseCursor(None),
                false => Command::CloseCursor(Some(cursor.name("the name of a cursor")?)),
            },
            "UNLISTEN" => return Ok(Command::Nothing("UNLISTEN")),
            "COPY" => return copy(cursor),
            "DROP" => {
                let word = cursor.shown().to_ascii_uppercase();
                return Ok(Command::Change(match word.as_str() {
                    "DATABASE" => "DROP DATABASE",
                    _ => "DROP TABLE",
                }));
            }
            "ALTER" => {
                let word = cursor.shown().to_ascii_uppercase();
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
        cursor.end()?;
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

/// `TIME ZONE`
fn time_zone(cursor: &mut Cursor<'_>) -> bool {
    let mut ahead = cursor.lexer.clone();
    let zone = ahead.next().and_then(|token| cursor.text.get(token.at));
    let is_zone = zone.is_some_and(|word| word.eq_ignore_ascii_case("ZONE"));
    is_zone && cursor.take("TIME") && cursor.take("ZONE")
}

fn set(mut cursor: Cursor<'_>) -> Result<Command, PgError> {
    let mut is_local = false;
    if cursor.take("LOCAL") {
        is_local = true;
    } else if cursor.take("SESSION") && cursor.take_any(&["CHARACTERISTICS", "AUTHORIZATION"])
        || cursor.take_any(&["TRANSACTION", "CONSTRAINTS"])
    {
        return Ok(Command::Nothing("SET"));
    }
    if cursor.take("ROLE") {
        return Err(PgError::new(
            code::UNSUPPORTED,
            "SET ROLE is not supported: connect with another token",
        ));
    }
    let (name, needs_to) = if time_zone(&mut cursor) {
        ("timezone".to_owned(), false)
    } else if cursor.take("NAMES") {
        ("client_encoding".to_owned(), false)
    } else {
        (cursor.dotted("the name of a setting")?, true)
    };
    if needs_to && !cursor.take_any(&["TO", "="]) {
        return Err(cursor.unexpected("TO or ="));
    }
    if cursor.take_any(&["DEFAULT", "LOCAL"]) {
        cursor.end()?;
        let value = None;
        return Ok(Command::Set {
            name,
            value,
            is_local,
        });
    }
    let mut value = cursor.setting()?;
    while cursor.take(",") {
        value = format!("{value}, {}", cursor.setting()?);
    }
    cursor.end()?;
    Ok(Command::Set {
        name,
        value: Some(value),
        is_local,
    })
}

fn show(mut cursor: Cursor<'_>) -> Result<Command, PgError> {
    // What the engine shows.
    let engine = ["TABLES", "COLUMNS", "FUNCTIONS", "RETENTION", "CREATE"];
    let word = cursor.shown();
    if engine.iter().any(|known| word.eq_ignore_ascii_case(known)) {
        return Ok(Command::Query { sets: Vec::new() });
    }
    let command = if cursor.take("ALL") {
        Command::ShowAll
    } else if time_zone(&mut cursor) {
        Command::Show("timezone".to_owned())
    } else if cursor.take("TRANSACTION") {
        match cursor.take("ISOLATION") && cursor.take("LEVEL") {
            true => Command::Show("transaction_isolation".to_owned()),
            false => return Err(cursor.unexpected("ISOLATION LEVEL")),
        }
    } else {
        Command::Show(cursor.dotted("the name of a setting")?)
    };
    cursor.end()?;
    Ok(command)
}

fn declare(mut cursor: Cursor<'_>) -> Result<Command, PgError> {
    let name = cursor.name("the name of a cursor")?;
    let (mut is_binary, mut is_held) = (false, false);
    while !cursor.take("CURSOR") {
        if cursor.take("BINARY") {
            is_binary = true;
        } else if cursor.take("NO") {
            cursor.take("SCROLL");
        } else if cursor.take("SCROLL") {
            return Err(PgError::new(
                code::UNSUPPORTED,
                "SCROLL is not supported: cursors go forward only",
            ));
        } else if !cursor.take_any(&["INSENSITIVE", "ASENSITIVE"]) {
            return Err(cursor.unexpected("CURSOR"));
        }
    }
    if cursor.take_any(&["WITH", "WITHOUT"]) {
        is_held = cursor
            .text
            .get(..cursor.lexer.at())
            .is_some_and(|before| !before.to_ascii_uppercase().contains("WITHOUT"));
        if !cursor.take("HOLD") {
            return Err(cursor.unexpected("HOLD"));
        }
    }
    if !cursor.take("FOR") {
        return Err(cursor.unexpected("FOR"));
    }
    let query = cursor.rest().to_owned();
    match Command::parse(&query)? {
        Command::Query { .. } if !query.is_empty() => Ok(Command::Declare {
            name,
            query,
            is_held,
            is_binary,
        }),
        _ => Err(cursor.unexpected("a statement that reads")),
    }
}

fn fetch(cursor: &mut Cursor<'_>, is_move: bool) -> Result<Command, PgError> {
    let backward = || {
        Err(PgError::new(
            "55000",
            "cursors go forward only: there are NEXT, FORWARD, a number and ALL",
        ))
    };
    if cursor.take_any(&[
        "PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "BACKWARD", "-",
    ]) {
        return backward();
    }
    let is_forward = cursor.take("FORWARD");
    let is_next = !is_forward && cursor.take("NEXT");
    let mut rows = Some(1);
    if !is_next {
        let is_number = cursor
            .next
            .as_ref()
            .is_some_and(|token| token.kind == Kind::Number);
        if cursor.take("ALL") {
            rows = None;
        } else if is_number {
            let number = cursor.shown().parse();
            rows = Some(number.map_err(|_| cursor.unexpected("a number of rows"))?);
            cursor.advance();
        }
    }
    cursor.take_any(&["FROM", "IN"]);
    Ok(Command::Fetch {
        name: cursor.name("the name of a cursor")?,
        rows,
        is_move,
    })
}

fn copy(mut cursor: Cursor<'_>) -> Result<Command, PgError> {
    let query = if cursor.take("(") {
        cursor.parenthesized()?.to_owned()
    } else {
        let start = cursor.next.as_ref().map_or(0, |token| token.at.start);
        let mut end = start;
        loop {
            end = cursor.next.as_ref().map_or(end, |token| token.at.end);
            let is_name = matches!(&cursor.next, Some(token) if token.kind == Kind::Word || token.kind == Kind::Quoted);
            if !is_name {
                return Err(cursor.unexpected("the name of a table"));
            }
            cursor.advance();
            if !cursor.take(".") {
                break;
            }
        }
        let table = cursor.text.get(start..end).unwrap_or_default();
        let columns = match cursor.take("(") {
            true => cursor.parenthesized()?,
            false => "*",
        };
        format!("SELECT {columns} FROM {table}")
    };
    if cursor.take("FROM") {
        return Err(PgError::new(
            code::UNSUPPORTED,
            format!("COPY FROM is not supported: {WRITES_ELSEWHERE}"),
        ));
    }
    if !cursor.take("TO") {
        return Err(cursor.unexpected("TO"));
    }
    if !cursor.take("STDOUT") {
        return Err(PgError::new(
            code::FORBIDDEN,
            "COPY writes to STDOUT only: no files of the server can be named",
        ));
    }
    match Command::parse(&query)? {
        Command::Query { .. } => {}
        _ => {
            return Err(PgError::new(
                code::SYNTAX,
                "COPY takes a statement that reads",
            ));
        }
    }
    cursor.take("WITH");
    let mut options = CopyOptions::default();
    if cursor.take("(") {
        loop {
            let name = cursor.name("an option of COPY")?;
            let value = match cursor.next.as_ref().map(|token| token.kind) {
                Some(Kind::Symbol) | None => "true".to_owned(),
                Some(_) => cursor.setting()?,
            };
            options.set(&name, &value)?;
            if !cursor.take(",") {
                break;
            }
        }
        if !cursor.take(")") {
            return Err(cursor.unexpected(")"));
        }
    } else {
        // As before PostgreSQL 9.
        while cursor.next.is_some() {
            let name = cursor.name("an option of COPY")?;
            match name.as_str() {
                "csv" | "binary" => options.set("format", &name)?,
                "header" => options.set("header", "true")?,
                _ => {
                    cursor.take("AS");
                    let value = cursor.setting()?;
                    options.set(&name, &value)?;
                }
            }
        }
    }
    cursor.end()?;
    options.check()?;
    Ok(Command::Copy { query, options })
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
    let mut cursor = Cursor::new(text);
    while cursor.next.is_some() {
        if !(cursor.take(NAME) && cursor.take("(")) {
            cursor.advance();
            continue;
        }
        let constant = |cursor: &mut Cursor<'_>| match &cursor.next {
            Some(token) if token.kind == Kind::Text => {
                let given = value(text, token);
                cursor.advance();
                Ok(given)
            }
            _ => Err(cursor.unexpected("a text: set_config() takes constants")),
        };
        let name = constant(&mut cursor)?;
        if !cursor.take(",") {
            return Err(cursor.unexpected(","));
        }
        let value = constant(&mut cursor)?;
        let is_local = cursor.take(",") && cursor.take("true");
        found.push(SetConfig {
            name,
            value,
            is_local,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Command) {
        assert_eq!(Command::parse(text), Ok(expected), "{text}");
    }

    #[track_caller]
    fn check_bad(text: &str, state: &str, words: &str) {
        let error = Command::parse(text).unwrap_err();
        assert_eq!(error.code, state, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }

    fn set(name: &str, value: Option<&str>) -> Command {
        Command::Set {
            name: name.into(),
            value: value.map(Into::into),
            is_local: false,
        }
    }

    #[test]
    fn settings() {
        check("SET a TO 'b'", set("a", Some("b")));
        check(
            "set session DateStyle = ISO, MDY",
            set("datestyle", Some("ISO, MDY")),
        );
        check(
            "SET extra_float_digits = 3",
            set("extra_float_digits", Some("3")),
        );
        check(
            "SET TIME ZONE 'Europe/Berlin'",
            set("timezone", Some("Europe/Berlin")),
        );
        check("SET TIME ZONE -7", set("timezone", Some("-7")));
        check("SET TimeZone TO DEFAULT", set("timezone", None));
        check("SET NAMES 'utf8'", set("client_encoding", Some("utf8")));
        check("SET my.app = x", set("my.app", Some("x")));
        check(
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            Command::Nothing("SET"),
        );
        check(
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            Command::Nothing("SET"),
        );
        let local = Command::Set {
            name: "a".into(),
            value: Some("1".into()),
            is_local: true,
        };
        check("SET LOCAL a = 1", local);
        check("SHOW ALL", Command::ShowAll);
        check("SHOW TIME ZONE", Command::Show("timezone".into()));
        check(
            "SHOW TRANSACTION ISOLATION LEVEL",
            Command::Show("transaction_isolation".into()),
        );
        check("SHOW TABLES", Command::Query { sets: vec![] });
        check("RESET ALL", Command::ResetAll);
        check("DISCARD ALL", Command::Discard);
        check_bad("SET a", "42601", "expected TO or =");
        check_bad("SET a = 1 2", "42601", "found \"2\"");
        let set_config = SetConfig {
            name: "a".into(),
            value: "b".into(),
            is_local: true,
        };
        let sets = vec![set_config];
        check(
            "SELECT pg_catalog.set_config('a', 'b', true)",
            Command::Query { sets },
        );
        check_bad(
            "SELECT set_config($1, 'b', true)",
            "42601",
            "takes constants",
        );
    }

    #[test]
    fn cursors_and_transactions() {
        check(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Command::Begin,
        );
        check("START TRANSACTION", Command::Begin);
        check("end", Command::Commit);
        check("ROLLBACK TO SAVEPOINT x", Command::Savepoint("ROLLBACK"));
        let declare = |is_held| Command::Declare {
            name: "Cur".into(),
            query: "SELECT 1".into(),
            is_held,
            is_binary: false,
        };
        check("DECLARE \"Cur\" CURSOR FOR SELECT 1", declare(false));
        check(
            "DECLARE \"Cur\" NO SCROLL CURSOR WITH HOLD FOR SELECT 1",
            declare(true),
        );
        check(
            "DECLARE \"Cur\" CURSOR WITHOUT HOLD FOR SELECT 1",
            declare(false),
        );
        let fetch = |rows, is_move| Command::Fetch {
            name: "c".into(),
            rows,
            is_move,
        };
        check("FETCH c", fetch(Some(1), false));
        check("FETCH FORWARD 100 FROM \"c\"", fetch(Some(100), false));
        check("fetch all in c", fetch(None, false));
        check("MOVE 5 c", fetch(Some(5), true));
        check_bad("FETCH BACKWARD 1 FROM c", "55000", "forward only");
        check_bad("DECLARE c SCROLL CURSOR FOR SELECT 1", "0A000", "SCROLL");
        check_bad("DECLARE c CURSOR FOR DELETE FROM t", "42601", "reads");
        check("CLOSE ALL", Command::CloseCursor(None));
        check("UNLISTEN *", Command::Nothing("UNLISTEN"));
    }

    #[test]
    fn copies() {
        let copy = |query: &str, options: &[(&str, &str)]| {
            let mut all = CopyOptions::default();
            options
                .iter()
                .for_each(|(name, value)| all.set(name, value).unwrap());
            Command::Copy {
                query: query.into(),
                options: all,
            }
        };
        check("COPY (SELECT (1)) TO STDOUT", copy("SELECT (1)", &[]));
        check(
            "COPY public.\"T\" (a, b) TO STDOUT WITH (FORMAT csv, HEADER, DELIMITER '|')",
            copy(
                "SELECT a, b FROM public.\"T\"",
                &[("format", "csv"), ("header", "true"), ("delimiter", "|")],
            ),
        );
        check(
            "COPY t TO STDOUT CSV HEADER",
            copy("SELECT * FROM t", &[("format", "csv"), ("header", "true")]),
        );
        check(
            "COPY t TO STDOUT (FORMAT BINARY)",
            copy("SELECT * FROM t", &[("format", "binary")]),
        );
        check_bad("COPY t FROM STDIN", "0A000", "line protocol");
        check_bad("COPY t TO '/etc/passwd'", "42501", "no files");
        check_bad("COPY t TO PROGRAM 'sh'", "42501", "no files");
        check_bad("COPY (DELETE FROM t) TO STDOUT", "42601", "reads");
        check_bad("COPY t TO STDOUT (FORMAT x)", "22023", "format");
        check_bad("COPY (SELECT 1 TO STDOUT", "42601", "expected )");
    }

    #[test]
    fn what_writes_is_told_where_to_go() {
        check_bad("INSERT INTO t VALUES (1)", "0A000", "line protocol");
        check_bad("CREATE TABLE t (a int)", "0A000", "first rows");
        check("DELETE FROM t", Command::Change("DELETE 0"));
        check("DROP DATABASE d", Command::Change("DROP DATABASE"));
        check("/* x */ (SELECT 1)", Command::Query { sets: vec![] });
    }
}
