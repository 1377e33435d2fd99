//! Tokens to statements, by recursive descent.
//!
//! Expressions and subqueries nest at most [`MAX_DEPTH`] deep; conditions joined by `AND` or `OR`
//! lie beside each other, however many they are.

mod error;
mod expr;
mod schema;
mod select;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tidelake_catalog::model::matcher::compile_within;
use tidelake_catalog::model::pattern::from_re2;

use super::ast::{Literal, Pattern, Statement};
use super::lexer::{Lexer, Token};

pub use error::ParseError;

/// How deep expressions and subqueries may nest.
const MAX_DEPTH: usize = 100;
/// Most operands of one expression beside each other that are not conditions: each is a level of
/// the tree.
const MAX_CHAIN: usize = 200;
/// Statements of one request.
const MAX_STATEMENTS: usize = 1000;
/// Bounds of a compiled pattern in bytes, tried one after the other.
const PATTERN_BYTES: [usize; 3] = [128 << 10, 1 << 20, 4 << 20];
/// Bytes of all compiled patterns of a request.
const ALL_PATTERN_BYTES: usize = 16 << 20;

/// Values of `$name`.
pub type Params = BTreeMap<String, Literal>;

/// The statements of a text, in order.
///
/// # Errors
/// [`ParseError::Syntax`] with the position of what is wrong.
pub fn parse(text: &str, params: &Params) -> Result<Vec<Statement>, ParseError> {
    let mut parser = Parser::new(text, params)?;
    let mut statements = Vec::new();
    loop {
        while parser.take_symbol(";")? {}
        if parser.peek() == &Token::End {
            return Ok(statements);
        }
        if statements.len() == MAX_STATEMENTS {
            return Err(parser.error(format_args!(
                "there are more than {MAX_STATEMENTS} statements"
            )));
        }
        statements.push(parser.statement()?);
        match parser.peek() {
            Token::End | Token::Symbol(";") => {}
            _ => return Err(parser.unexpected(&[";"])),
        }
    }
}

/// A compiled regular expression, as between slashes.
///
/// # Errors
/// [`ParseError::Syntax`] if it is none.
pub fn pattern(text: &str) -> Result<Pattern, ParseError> {
    let params = Params::new();
    Parser::new("", &params)?.compile(text.to_owned(), 0)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    params: &'a Params,
    /// The next token, where it begins, and the lexer before it.
    token: Token,
    token_at: usize,
    before: Lexer<'a>,
    depth: usize,
    pattern_bytes: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, params: &'a Params) -> Result<Self, ParseError> {
        let before = Lexer::new(text);
        let mut lexer = before.clone();
        let (token, token_at) = lexer.next()?;
        Ok(Self {
            lexer,
            params,
            token,
            token_at,
            before,
            depth: 0,
            pattern_bytes: 0,
        })
    }

    fn peek(&self) -> &Token {
        &self.token
    }

    /// Whether the next token is this symbol.
    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(&self.token, Token::Symbol(found) if *found == symbol)
    }

    fn advance(&mut self) -> Result<Token, ParseError> {
        self.before = self.lexer.clone();
        // An end stays the end.
        let (token, at) = self.lexer.next()?;
        self.token_at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn error(&self, message: impl std::fmt::Display) -> ParseError {
        self.lexer.error(self.token_at, message)
    }

    /// The next token is none of these.
    fn unexpected(&self, expected: &[&str]) -> ParseError {
        let expected = expected.join(", ");
        self.error(format_args!("found {}, expected {expected}", self.token))
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(&self.token, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> Result<bool, ParseError> {
        let found = self.is_keyword(keyword);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_keyword(&mut self, keyword: &str) -> Result<(), ParseError> {
        match self.take_keyword(keyword)? {
            true => Ok(()),
            false => Err(self.unexpected(&[keyword])),
        }
    }

    fn take_symbol(&mut self, symbol: &str) -> Result<bool, ParseError> {
        let found = self.is_symbol(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), ParseError> {
        match self.take_symbol(symbol)? {
            true => Ok(()),
            false => Err(self.unexpected(&[symbol])),
        }
    }

    /// A name that is no keyword, or in quotes.
    fn identifier(&mut self) -> Result<String, ParseError> {
        match &self.token {
            Token::Name(_) => {}
            Token::Word(word) if !is_reserved(word) => {}
            _ => return Err(self.unexpected(&["identifier"])),
        }
        match self.advance()? {
            Token::Word(name) | Token::Name(name) => Ok(name),
            _ => Err(self.unexpected(&["identifier"])),
        }
    }

    fn is_identifier(&self) -> bool {
        match &self.token {
            Token::Name(_) => true,
            Token::Word(word) => !is_reserved(word),
            _ => false,
        }
    }

    /// A regular expression, if one begins here.
    fn regex(&mut self) -> Result<Option<Pattern>, ParseError> {
        if !self.is_symbol("/") {
            return Ok(None);
        }
        let mut lexer = self.before.clone();
        let Some(text) = lexer.regex()? else {
            return Ok(None);
        };
        let at = self.token_at;
        self.lexer = lexer;
        self.advance()?;
        self.compile(text, at).map(Some)
    }

    fn expect_regex(&mut self) -> Result<Pattern, ParseError> {
        if let Token::Param(name) = &self.token {
            return match self.param(name)? {
                Literal::Regex(pattern) => {
                    self.advance()?;
                    Ok(pattern)
                }
                _ => Err(self.error(format_args!("the parameter {name} is no regex"))),
            };
        }
        self.regex()?.ok_or_else(|| self.unexpected(&["regex"]))
    }

    fn compile(&mut self, text: String, at: usize) -> Result<Pattern, ParseError> {
        let wrong = |error: String| {
            self.lexer
                .error(at, format_args!("error parsing regexp: {error}"))
        };
        let translated = from_re2(&text).map_err(|error| wrong(error.to_string()))?;
        let (regex, bytes) = compile_within(&translated, &PATTERN_BYTES)
            .map_err(|error| wrong(error.to_string()))?;
        self.pattern_bytes += bytes;
        if self.pattern_bytes > ALL_PATTERN_BYTES {
            return Err(wrong("the statement has too many".to_owned()));
        }
        Ok(Pattern { text, regex })
    }

    fn param(&self, name: &str) -> Result<Literal, ParseError> {
        let value = self.params.get(name).cloned();
        value.ok_or_else(|| ParseError::Syntax(format!("missing parameter: {name}")))
    }

    /// Goes a level down in what `parse` reads.
    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format_args!(
                "the query nests deeper than {MAX_DEPTH} levels"
            )));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// A number that is not negative.
    fn count(&mut self) -> Result<u64, ParseError> {
        let number = match &self.token {
            Token::Integer(digits) => digits.parse().ok(),
            Token::Param(name) => match self.param(name)? {
                Literal::Integer(number) => u64::try_from(number).ok(),
                _ => None,
            },
            _ => return Err(self.unexpected(&["integer"])),
        };
        let number = number.ok_or_else(|| self.error("unable to parse integer"))?;
        self.advance()?;
        Ok(number)
    }
}

/// Words that a name must have quotes to be.
fn is_reserved(word: &str) -> bool {
    const WORDS: [&str; 74] = [
        "ALL",
        "ALTER",
        "ANALYZE",
        "AND",
        "ANY",
        "AS",
        "ASC",
        "BEGIN",
        "BY",
        "CARDINALITY",
        "CONTINUOUS",
        "CREATE",
        "DATABASE",
        "DATABASES",
        "DEFAULT",
        "DELETE",
        "DESC",
        "DESTINATIONS",
        "DIAGNOSTICS",
        "DISTINCT",
        "DROP",
        "DURATION",
        "END",
        "EVERY",
        "EXACT",
        "EXPLAIN",
        "FALSE",
        "FIELD",
        "FOR",
        "FROM",
        "GRANT",
        "GRANTS",
        "GROUP",
        "GROUPS",
        "IN",
        "INF",
        "INSERT",
        "INTO",
        "KEY",
        "KEYS",
        "KILL",
        "LIMIT",
        "MEASUREMENT",
        "MEASUREMENTS",
        "NAME",
        "OFFSET",
        "ON",
        "OR",
        "ORDER",
        "PASSWORD",
        "POLICIES",
        "POLICY",
        "PRIVILEGES",
        "QUERIES",
        "QUERY",
        "READ",
        "REPLICATION",
        "RESAMPLE",
        "RETENTION",
        "REVOKE",
        "SELECT",
        "SERIES",
        "SET",
        "SHARD",
        "SHARDS",
        "SHOW",
        "SLIMIT",
        "SOFFSET",
        "STATS",
        "SUBSCRIPTION",
        "TAG",
        "TO",
        "TRUE",
        "VALUES",
    ];
    const MORE: [&str; 6] = ["SUBSCRIPTIONS", "USER", "USERS", "WHERE", "WITH", "WRITE"];
    WORDS
        .iter()
        .chain(&MORE)
        .any(|reserved| reserved.eq_ignore_ascii_case(word))
}
