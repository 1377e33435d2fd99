//! Text to tokens.
//!
//! A slash is a division or begins a regular expression, which only the grammar knows: the parser
//! asks for one where one may stand ([`Lexer::regex`]).

use std::fmt;

use super::parser::ParseError;

/// What is read at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A bare word: a name or, in any case of letters, a keyword.
    Word(String),
    /// A name in double quotes.
    Name(String),
    /// A text in single quotes.
    Text(String),
    /// Digits.
    Integer(String),
    /// Digits with a point.
    Number(String),
    /// Digits and units, in nanoseconds.
    Duration(i64),
    /// `$name`
    Param(String),
    /// An operator or a delimiter.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(text) | Token::Name(text) | Token::Text(text) => {
                let shown: String = text.chars().take(80).collect();
                f.write_str(&shown)
            }
            Token::Integer(text) | Token::Number(text) => f.write_str(text),
            Token::Duration(ns) => write!(f, "{ns}ns"),
            Token::Param(name) => write!(f, "${name}"),
            Token::Symbol(symbol) => f.write_str(symbol),
            Token::End => f.write_str("EOF"),
        }
    }
}

/// Symbols, those of two characters first.
const SYMBOLS: [&str; 25] = [
    "!=", "<>", "<=", ">=", "=~", "!~", "::", "=", "<", ">", "+", "-", "*", "/", "%", "&", "|",
    "^", "(", ")", ",", ";", ":", ".", "!",
];

/// Reads tokens off a text.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// A byte of the text as its readers count: line and character from 1.
    pub fn position(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let character = before[start..].chars().count() + 1;
        format!("line {line}, char {character}")
    }

    /// An error at a byte of the text.
    pub fn error(&self, at: usize, message: impl fmt::Display) -> ParseError {
        ParseError::Syntax(format!("{message} at {}", self.position(at)))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips blanks and comments.
    pub fn skip_blanks(&mut self) -> Result<(), ParseError> {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            let rest = self.rest();
            if rest.starts_with("--") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").ok_or_else(|| {
                    self.error(self.at, "the comment that begins here does not end")
                })?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    /// The next token and where it begins.
    pub fn next(&mut self) -> Result<(Token, usize), ParseError> {
        self.skip_blanks()?;
        let at = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, at));
        };
        let token = match first {
            '"' => Token::Name(self.quoted('"')?),
            '\'' => Token::Text(self.quoted('\'')?),
            '$' => {
                self.at += 1;
                match self.rest().starts_with('"') {
                    true => Token::Param(self.quoted('"')?),
                    false => Token::Param(self.word().to_owned()),
                }
            }
            '0'..='9' => self.number()?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            c if c == '_' || c.is_alphabetic() => Token::Word(self.word().to_owned()),
            _ => {
                let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
                let symbol = symbol.ok_or_else(|| {
                    self.error(at, format_args!("found {first:?}, which is no token"))
                })?;
                self.at += symbol.len();
                Token::Symbol(symbol)
            }
        };
        Ok((token, at))
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c != '_' && !c.is_alphanumeric())
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// What stands between two quotes; a backslash quotes a quote, a backslash or `n`.
    fn quoted(&mut self, quote: char) -> Result<String, ParseError> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at = start + at + 1;
                    return Ok(text);
                }
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, c)) if c == '\\' || c == '"' || c == '\'' => text.push(c),
                    _ => return Err(self.error(start + at, "bad escape")),
                },
                c => text.push(c),
            }
        }
        Err(self.error(start, "the quote that begins here does not end"))
    }

    /// A number or a duration.
    fn number(&mut self) -> Result<Token, ParseError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let digits = &rest[..end];
        if digits.contains('.') {
            self.at += end;
            if digits.matches('.').count() > 1 {
                return Err(self.error(self.at - end, format_args!("{digits} is no number")));
            }
            return Ok(Token::Number(digits.to_owned()));
        }
        if !rest[end..].starts_with(|c: char| c.is_alphabetic()) {
            self.at += end;
            return Ok(Token::Integer(digits.to_owned()));
        }
        let start = self.at;
        let end = rest
            .find(|c: char| !c.is_alphanumeric())
            .unwrap_or(rest.len());
        self.at += end;
        let ns =
            parse_duration(&rest[..end]).ok_or_else(|| self.error(start, "invalid duration"))?;
        Ok(Token::Duration(ns))
    }

    /// A regular expression between slashes, if one begins here: a slash in it is written `\/`.
    pub fn regex(&mut self) -> Result<Option<String>, ParseError> {
        self.skip_blanks()?;
        let start = self.at;
        if !self.rest().starts_with('/') {
            return Ok(None);
        }
        let mut pattern = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '/' => {
                    self.at = start + at + 1;
                    return Ok(Some(pattern));
                }
                '\n' => break,
                '\\' if chars.next_if(|(_, c)| *c == '/').is_some() => pattern.push('/'),
                '\\' => {
                    pattern.push('\\');
                    if let Some((_, c)) = chars.next() {
                        pattern.push(c);
                    }
                }
                c => pattern.push(c),
            }
        }
        Err(self.error(
            start,
            "the regular expression that begins here does not end",
        ))
    }
}

/// Nanoseconds of a duration such as `1h30m`; `None` if it is none, or too long.
pub fn parse_duration(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1,
            "u" | "µ" | "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[end..];
    }
    Some(total)
}
