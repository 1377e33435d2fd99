//! The tokens of a statement, read from its beginning.

use crate::pg::error::{PgError, code};
use crate::pg::lexer::{Kind, Lexer, Token, value};

/// The tokens of a statement, one of them looked at.
pub(super) struct Tokens<'a> {
    pub text: &'a str,
    lexer: Lexer<'a>,
    pub next: Option<Token>,
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let next = lexer.next();
        Self { text, lexer, next }
    }

    /// The next token as it is written.
    pub fn shown(&self) -> &'a str {
        let next = self.next.as_ref();
        next.and_then(|token| self.text.get(token.at.clone()))
            .unwrap_or_default()
    }

    pub fn advance(&mut self) {
        self.next = self.lexer.next();
    }

    /// Takes a keyword or a symbol, if it comes next.
    pub fn take(&mut self, word: &str) -> bool {
        let kind = self.next.as_ref().map(|token| token.kind);
        let fits = matches!(kind, Some(Kind::Word | Kind::Symbol));
        let found = fits && self.shown().eq_ignore_ascii_case(word);
        if found {
            self.advance();
        }
        found
    }

    /// Takes one of some keywords.
    pub fn take_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.take(word))
    }

    /// The error that something else was expected here.
    pub fn unexpected(&self, expected: &str) -> PgError {
        let found = match self.shown() {
            "" => "the end of the statement".to_owned(),
            shown => format!("{:?}", shown.chars().take(60).collect::<String>()),
        };
        PgError {
            position: self.next.as_ref().map(|token| {
                let before = self.text.get(..token.at.start).unwrap_or_default();
                before.chars().count() + 1
            }),
            ..PgError::new(code::SYNTAX, format!("expected {expected}, found {found}"))
        }
    }

    /// A name; without quotes it is in lower case, as PostgreSQL has it.
    pub fn name(&mut self, what: &str) -> Result<String, PgError> {
        let name = match &self.next {
            Some(token) if token.kind == Kind::Word => self.shown().to_lowercase(),
            Some(token) if token.kind == Kind::Quoted => value(self.text, token),
            _ => return Err(self.unexpected(what)),
        };
        self.advance();
        Ok(name)
    }

    /// A name with dots.
    pub fn dotted(&mut self, what: &str) -> Result<String, PgError> {
        let mut name = self.name(what)?;
        while self.take(".") {
            name = format!("{name}.{}", self.name(what)?);
        }
        Ok(name)
    }

    /// Takes `TIME ZONE`, if it comes next.
    pub fn take_time_zone(&mut self) -> bool {
        let zone = self.lexer.clone().next();
        let zone = zone.and_then(|token| self.text.get(token.at));
        let is_zone = zone.is_some_and(|word| word.eq_ignore_ascii_case("ZONE"));
        is_zone && self.take("TIME") && self.take("ZONE")
    }

    /// A value of a setting: a word, a text, or a number.
    pub fn setting(&mut self) -> Result<String, PgError> {
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

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), PgError> {
        match self.next {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the statement")),
        }
    }

    /// What is left, as it is written.
    pub fn rest(&self) -> &'a str {
        let next = self.next.as_ref();
        next.and_then(|token| self.text.get(token.at.start..))
            .unwrap_or_default()
    }

    /// What stands in parentheses that have just been opened, and the closing one.
    pub fn parenthesized(&mut self) -> Result<&'a str, PgError> {
        let start = self.text.len() - self.rest().len();
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
