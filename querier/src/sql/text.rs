//! What can be told of a text before it is parsed: whether it reads or changes, and as of when it
//! reads.
//!
//! `AS OF` at the end of a statement is not SQL that the parser knows. It is found among the
//! tokens, so that strings and comments may say what they like, and taken off.

use std::sync::Arc;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::error::SqlError;
use super::postgres::{PgParams, PgSession, PgStatement};
use super::{information, tokens};
use crate::as_of::{AsOf, parse_as_of};

/// First words of statements that change something; see [`super::command`].
const COMMANDS: [&str; 3] = ["DELETE", "DROP", "ALTER"];

/// Bytes of a text that is short.
const SHORT_BYTES: usize = 2 << 10;

/// Characters of a text that are kept to be shown: all of a short one.
const MAX_SHOWN_CHARS: usize = SHORT_BYTES;

/// A text of one statement, cut into tokens and within the limits that can be seen from these.
#[derive(Debug, Clone)]
pub struct SqlText {
    pub(super) tokens: Vec<TokenWithSpan>,
    /// Its beginning as it was written.
    shown: Box<str>,
    /// To name the statement by.
    pub(super) first_words: String,
    as_of: Option<AsOf>,
    is_command: bool,
    parameters: Vec<String>,
    /// Whether its plan is small, and made on a small stack.
    pub(super) is_short: bool,
    /// In whose words it is, if in those of a client of PostgreSQL.
    pub(super) postgres: Option<PgStatement>,
}

impl SqlText {
    /// Reads a text of at most so many bytes.
    pub(super) fn read(sql: &str, max_bytes: usize) -> Result<Self, SqlError> {
        if sql.len() > max_bytes {
            return Err(SqlError::BadRequest(format!(
                "the SQL text has {} bytes; {max_bytes} are allowed",
                sql.len()
            )));
        }
        let mut tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .map_err(|e| SqlError::Syntax(format!("SQL syntax: {e}")))?;
        let is_flat = tokens::check(tokens.iter().map(|t| &t.token))?;
        let first_words = tokens::first_words(tokens.iter().map(|t| &t.token));
        let is_command = COMMANDS
            .iter()
            .any(|word| first_words.split(' ').next() == Some(word));
        let as_of = take_as_of(&mut tokens)?;
        select_table(&mut tokens);
        information::standardize(&mut tokens);
        let parameters = name_parameters(&mut tokens);
        if as_of.is_some() && is_command {
            return Err(SqlError::BadRequest(format!(
                "AS OF is for statements that read; {first_words} changes the present state"
            )));
        }
        Ok(Self {
            shown: sql.chars().take(MAX_SHOWN_CHARS).collect(),
            tokens,
            first_words,
            as_of,
            is_command,
            parameters,
            is_short: is_flat && sql.len() <= SHORT_BYTES,
            postgres: None,
        })
    }

    /// The same in the words of PostgreSQL, with parameters `$1`, `$2` and so on.
    pub fn in_postgres(self, session: Arc<PgSession>, params: PgParams) -> Self {
        Self {
            postgres: Some(PgStatement { session, params }),
            ..self
        }
    }

    pub(super) fn session(&self) -> Option<Arc<PgSession>> {
        let postgres = self.postgres.as_ref();
        postgres.map(|postgres| Arc::clone(&postgres.session))
    }

    /// The state of the database that the statement reads; `None` is the present one.
    pub fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }

    /// The beginning of the text, for lists of what runs.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The first words of the statement, to name it by.
    pub fn first_words(&self) -> &str {
        &self.first_words
    }

    /// The names of its parameters, without the dollar sign, in the order of their first uses;
    /// numbered ones in that of their numbers.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// Whether it deletes, drops or sets something.
    pub fn is_command(&self) -> bool {
        self.is_command
    }
}

/// Finds the parameters. The first `?` becomes `$1`, the second `$2`.
fn name_parameters(tokens: &mut [TokenWithSpan]) -> Vec<String> {
    let (mut names, mut marks) = (Vec::<String>::new(), 0);
    for token in tokens {
        let Token::Placeholder(name) = &mut token.token else {
            continue;
        };
        if name == "?" {
            marks += 1;
            *name = format!("${marks}");
        }
        let plain = name.trim_start_matches(['$', '?']);
        if !names.iter().any(|known| known == plain) {
            names.push(plain.to_owned());
        }
    }
    if names.iter().all(|name| name.parse::<u64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<u64>().unwrap_or(u64::MAX));
    }
    names
}

/// `TABLE t` as `SELECT * FROM t`: the parser loses what follows the name.
fn select_table(tokens: &mut Vec<TokenWithSpan>) {
    let is_gap = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let Some(at) = tokens.iter().position(|token| !is_gap(token)) else {
        return;
    };
    let Some(table) = tokens
        .get(at)
        .filter(|token| is_word(&token.token, "TABLE"))
    else {
        return;
    };
    let words = [
        Token::make_word("SELECT", None),
        Token::Mul,
        Token::make_word("FROM", None),
    ];
    let span = table.span;
    let words = words.map(|token| TokenWithSpan { token, span });
    tokens.splice(at..=at, words);
}

/// Whether a token is this unquoted word.
pub(super) fn is_word(token: &Token, expected: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
}

/// Takes `AS OF <literal>` off the end.
fn take_as_of(tokens: &mut Vec<TokenWithSpan>) -> Result<Option<AsOf>, SqlError> {
    let is_gap = |token: &Token| matches!(token, Token::Whitespace(_) | Token::EOF);
    let seen: Vec<usize> = (0..tokens.len())
        .filter(|&at| !is_gap(&tokens[at].token))
        .collect();
    let text = |nth: usize| seen.get(nth).map(|&at| &tokens[at].token);
    let word = |nth: usize, expected: &str| text(nth).is_some_and(|token| is_word(token, expected));
    let end = (0..seen.len())
        .rev()
        .find(|&nth| text(nth) != Some(&Token::SemiColon))
        .map_or(0, |nth| nth + 1);
    let mut found = None;
    for of in (0..seen.len()).filter(|&nth| word(nth, "OF") && nth > 0 && word(nth - 1, "AS")) {
        let is_typed =
            word(of + 1, "TIMESTAMP") && matches!(text(of + 2), Some(Token::SingleQuotedString(_)));
        let value = of + 1 + usize::from(is_typed);
        let literal = match text(value) {
            Some(Token::Number(number, _)) => number,
            Some(Token::SingleQuotedString(string)) => string,
            // A name called "of", or an error that the parser words better.
            _ => continue,
        };
        if value + 1 != end {
            let message = "AS OF belongs at the end of the statement: everything that it names is \
                           read as of one time";
            return Err(SqlError::BadRequest(message.to_owned()));
        }
        let as_of =
            parse_as_of(literal).map_err(|why| SqlError::BadRequest(format!("AS OF: {why}")))?;
        if is_typed && matches!(as_of, AsOf::Sequence(_)) {
            return Err(SqlError::BadRequest(format!(
                "AS OF: {literal:?} is no timestamp"
            )));
        }
        found = Some((of - 1, as_of));
    }
    let Some((from, as_of)) = found else {
        return Ok(None);
    };
    tokens.truncate(seen[from]);
    Ok(Some(as_of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Result<SqlText, SqlError> {
        SqlText::read(sql, 1000)
    }

    #[track_caller]
    fn check(sql: &str, as_of: Option<AsOf>, left: &str) {
        let text = read(sql).unwrap();
        assert_eq!(text.as_of(), as_of, "{sql}");
        let shown: String = text.tokens.iter().map(|t| t.token.to_string()).collect();
        assert_eq!(shown.trim_end_matches("EOF").trim_end(), left, "{sql}");
    }

    #[test]
    fn as_of_is_taken_off_the_end() {
        let time = Some(AsOf::TimeMs(1_764_064_800_000));
        check("SELECT 1 AS OF 7", Some(AsOf::Sequence(7)), "SELECT 1");
        check(
            "SELECT 1\nas /* when */ of 7 ; ; -- AS OF 8",
            Some(AsOf::Sequence(7)),
            "SELECT 1",
        );
        check(
            "EXPLAIN ANALYZE SELECT * FROM t WHERE a = 'b' AS OF '7'",
            Some(AsOf::Sequence(7)),
            "EXPLAIN ANALYZE SELECT * FROM t WHERE a = 'b'",
        );
        check("SELECT 1 AS OF '2025-11-25T10:00:00Z'", time, "SELECT 1");
        check(
            "SELECT 1 AS OF TIMESTAMP '2025-11-25 10:00:00'",
            time,
            "SELECT 1",
        );
        check("SELECT 1 AS OF 1764064800.0", time, "SELECT 1");
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for sql in [
            "SELECT 'x AS OF 7'",
            "SELECT 1 AS of",
            "SELECT a AS \"OF\" FROM b",
            "SELECT 1 -- AS OF 7",
            "SELECT 7",
            "SELECT a AS of, 7 FROM t",
        ] {
            check(sql, None, sql);
        }
    }

    #[test]
    fn wrong_ones_are_named() {
        let check = |sql: &str, word: &str| match read(sql) {
            Err(SqlError::BadRequest(message)) => {
                assert!(message.contains(word), "{message} lacks {word}")
            }
            other => panic!("{sql}: {other:?}"),
        };
        check("SELECT * FROM (SELECT 1 AS OF 7)", "end of the statement");
        check(
            "SELECT * FROM a AS OF 7 JOIN b AS OF 8",
            "end of the statement",
        );
        check("SELECT 1 AS OF 7 AS OF 8", "end of the statement");
        check("SELECT 1 AS OF 'yesterday'", "yesterday");
        check("SELECT 1 AS OF TIMESTAMP '7'", "no timestamp");
        check("DELETE FROM t AS OF 7", "changes the present state");
    }

    #[test]
    fn parameters_are_found_and_marks_numbered() {
        let check = |sql: &str, names: &[&str], left: &str| {
            let text = read(sql).unwrap();
            assert_eq!(text.parameters(), names, "{sql}");
            let shown: String = text.tokens.iter().map(|t| t.token.to_string()).collect();
            assert_eq!(shown.trim_end_matches("EOF"), left, "{sql}");
        };
        check("SELECT 1", &[], "SELECT 1");
        check("SELECT $b, $a, $b", &["b", "a"], "SELECT $b, $a, $b");
        check(
            "SELECT $2, $10, $1",
            &["1", "2", "10"],
            "SELECT $2, $10, $1",
        );
        check("SELECT ?, '?' = ?", &["1", "2"], "SELECT $1, '?' = $2");
    }

    #[test]
    fn information_is_asked_for_in_any_case() {
        let check = |sql: &str, left: &str| {
            let text = read(sql).unwrap();
            let shown: String = text.tokens.iter().map(|t| t.token.to_string()).collect();
            assert_eq!(shown.trim_end_matches("EOF"), left, "{sql}");
        };
        check(
            "SELECT DISTINCT TABLE_SCHEMA from information_schema.TABLES where TABLE_TYPE != 'X'",
            "SELECT DISTINCT table_schema from information_schema.tables where table_type <> 'X'",
        );
        check(
            "SELECT \"TABLE_NAME\" FROM information_schema.tables WHERE table_schema = 'iox'",
            "SELECT \"TABLE_NAME\" FROM information_schema.tables WHERE table_schema = 'public'",
        );
        for other in [
            "SELECT TABLE_NAME FROM TABLES WHERE host = 'iox'",
            "SELECT 'information_schema', 'iox'",
        ] {
            check(other, other);
        }
    }

    #[test]
    fn commands_are_told_from_queries() {
        let check = |sql: &str, expected: bool| {
            assert_eq!(read(sql).unwrap().is_command(), expected, "{sql}")
        };
        check("/* x */ delete FROM t", true);
        check("DROP TABLE t", true);
        check("ALTER TABLE t SET (retention = '1d')", true);
        check("SELECT 'DELETE'", false);
        check("EXPLAIN DELETE FROM t", false);
        check("", false);
    }
}
