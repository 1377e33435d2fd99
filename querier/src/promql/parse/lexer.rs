//! Text to tokens.
//!
//! PromQL's tokens depend on where they stand: inside braces every word is a label, inside brackets
//! words are units or duration functions. The lexer therefore tracks braces, brackets and
//! parentheses itself, and its errors about them are those of Prometheus.

use super::ast::{BinaryOp, Span};
use super::error::ParseError;
use super::quote::{quote, quote_char};
use super::token::{Keyword, Kind, Token, duration_keyword, keyword};

/// Most tokens of a query. Bounds the tree that a query can make the parser build; long literals
/// count once.
pub(super) const MAX_TOKENS: usize = 100_000;

/// Which characters may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Statement,
    /// After `[`, until the first literal.
    Duration,
    Braces,
}

/// Cuts a query into tokens, on demand.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    query: &'a str,
    /// Where the current token begins.
    start: usize,
    pos: usize,
    state: State,
    parens: usize,
    in_brackets: bool,
    seen_colon: bool,
    tokens: usize,
    /// Set once the lexer has failed; from then on all tokens are [`Kind::Error`].
    pub error: Option<ParseError>,
}

impl<'a> Lexer<'a> {
    pub fn new(query: &'a str) -> Self {
        Self {
            query,
            start: 0,
            pos: 0,
            state: State::Statement,
            parens: 0,
            in_brackets: false,
            seen_colon: false,
            tokens: 0,
            error: None,
        }
    }

    /// The next token; [`Kind::End`] again and again after the last.
    pub fn next_token(&mut self) -> Token<'a> {
        if self.error.is_none() {
            self.skip_blanks();
            self.start = self.pos;
            self.tokens += 1;
            let found = if self.tokens > MAX_TOKENS {
                Err(format!(
                    "query is too long: it has more than {MAX_TOKENS} tokens"
                ))
            } else {
                match self.state {
                    State::Statement => self.statement(),
                    State::Duration => self.duration(),
                    State::Braces => self.braces(),
                }
            };
            match found {
                Ok(kind) => return self.token(kind),
                Err(message) => {
                    let span = Span {
                        start: self.start as u32,
                        end: self.query.len() as u32,
                    };
                    self.error = Some(ParseError::new(self.query, span, message));
                }
            }
        }
        Token {
            kind: Kind::Error,
            text: "",
            span: Span {
                start: self.start as u32,
                end: self.start as u32,
            },
        }
    }

    fn token(&self, kind: Kind) -> Token<'a> {
        let text = self.query.get(self.start..self.pos).unwrap_or("");
        Token {
            kind,
            text,
            span: Span {
                start: self.start as u32,
                end: self.pos as u32,
            },
        }
    }

    fn rest(&self) -> &'a str {
        self.query.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, accept: impl Fn(char) -> bool) -> bool {
        let found = self.peek().filter(|c| accept(*c));
        self.pos += found.map_or(0, char::len_utf8);
        found.is_some()
    }

    fn eat_while(&mut self, accept: impl Fn(char) -> bool) {
        while self.eat(&accept) {}
    }

    fn skip_blanks(&mut self) {
        loop {
            self.eat_while(is_space);
            if self.state == State::Duration || !self.eat(|c| c == '#') {
                return;
            }
            self.eat_while(|c| c != '\n' && c != '\r');
        }
    }

    fn statement(&mut self) -> Result<Kind, String> {
        use BinaryOp as B;
        let Some(c) = self.bump() else {
            return match (self.parens, self.in_brackets) {
                (0, false) => Ok(Kind::End),
                (0, true) => Err("unclosed left bracket".to_owned()),
                (_, _) => Err("unclosed left parenthesis".to_owned()),
            };
        };
        Ok(match c {
            ',' => Kind::Comma,
            '@' => Kind::At,
            '=' => match self.peek() {
                Some('=') => self.two(B::Eql),
                Some('~') => return Err("unexpected character after '=': '~'".to_owned()),
                _ => Kind::Assign,
            },
            '!' => match self.bump() {
                Some('=') => Kind::Operator(B::Neq),
                other => {
                    return Err(format!(
                        "unexpected character after '!': {}",
                        quote_char(other.unwrap_or('\u{fffd}'))
                    ));
                }
            },
            '<' => match self.peek() {
                Some('=') => self.two(B::Lte),
                Some('/') => self.two(B::TrimUpper),
                _ => Kind::Operator(B::Lt),
            },
            '>' => match self.peek() {
                Some('=') => self.two(B::Gte),
                Some('/') => self.two(B::TrimLower),
                _ => Kind::Operator(B::Gt),
            },
            '"' | '\'' | '`' => self.text(c)?,
            '{' => {
                self.state = State::Braces;
                Kind::LeftBrace
            }
            '[' if self.in_brackets => return Err("unexpected left bracket '['".to_owned()),
            '[' => {
                self.in_brackets = true;
                self.seen_colon = false;
                self.state = State::Duration;
                Kind::LeftBracket
            }
            ']' if !self.in_brackets => return Err("unexpected right bracket ']'".to_owned()),
            ':' if self.in_brackets && self.seen_colon => {
                return Err("unexpected colon ':'".to_owned());
            }
            c if self.starts_number(c) => self.number_or_duration()?,
            c if is_letter(c) && self.in_brackets => self
                .duration_word()
                .ok_or_else(|| format!("unexpected character: {}, expected ':'", quote_char(c)))?,
            c if is_letter(c) || (c == ':' && !self.in_brackets) => self.word(),
            c => match self.in_common(c)? {
                Some(kind) => kind,
                None => return Err(format!("unexpected character: {}", quote_char(c))),
            },
        })
    }

    fn duration(&mut self) -> Result<Kind, String> {
        let Some(c) = self.bump() else {
            return Err("unexpected end of input in duration expression".to_owned());
        };
        match c {
            ':' if self.seen_colon => {
                return Err("unexpected repeated colon in duration expression".to_owned());
            }
            ',' => return Ok(Kind::Comma),
            c if self.starts_number(c) => {
                self.state = State::Statement;
                return self.number_or_duration();
            }
            c if is_letter(c) => {
                if let Some(kind) = self.duration_word() {
                    return Ok(kind);
                }
            }
            c => {
                if let Some(kind) = self.in_common(c)? {
                    return Ok(kind);
                }
            }
        }
        Err(format!(
            "unexpected character in duration expression: {}",
            quote_char(c)
        ))
    }

    /// What statements and durations share: arithmetic, parentheses, and the end of brackets.
    fn in_common(&mut self, c: char) -> Result<Option<Kind>, String> {
        Ok(Some(match c {
            '+' => Kind::Operator(BinaryOp::Add),
            '-' => Kind::Operator(BinaryOp::Sub),
            '*' => Kind::Operator(BinaryOp::Mul),
            '/' => Kind::Operator(BinaryOp::Div),
            '%' => Kind::Operator(BinaryOp::Mod),
            '^' => Kind::Operator(BinaryOp::Pow),
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' if self.parens == 0 => return Err("unexpected right parenthesis ')'".to_owned()),
            ')' => {
                self.parens -= 1;
                Kind::RightParen
            }
            ']' if self.in_brackets => {
                self.in_brackets = false;
                self.state = State::Statement;
                Kind::RightBracket
            }
            ':' if self.in_brackets => {
                self.seen_colon = true;
                Kind::Colon
            }
            _ => return Ok(None),
        }))
    }

    fn braces(&mut self) -> Result<Kind, String> {
        let Some(c) = self.bump() else {
            return Err("unexpected end of input inside braces".to_owned());
        };
        Ok(match c {
            ',' => Kind::Comma,
            '"' | '\'' | '`' => self.text(c)?,
            '=' if self.eat(|c| c == '~') => Kind::RegexMatch,
            '=' => Kind::Assign,
            '!' => match self.bump() {
                Some('~') => Kind::RegexMismatch,
                Some('=') => Kind::Operator(BinaryOp::Neq),
                other => {
                    let other = quote_char(other.unwrap_or('\u{fffd}'));
                    return Err(format!(
                        "unexpected character after '!' inside braces: {other}"
                    ));
                }
            },
            '{' => return Err("unexpected left brace '{'".to_owned()),
            '}' => {
                self.state = State::Statement;
                Kind::RightBrace
            }
            c if is_letter(c) => {
                self.eat_while(is_name_char);
                Kind::Identifier
            }
            c => {
                return Err(format!(
                    "unexpected character inside braces: {}",
                    quote_char(c)
                ));
            }
        })
    }

    fn two(&mut self, op: BinaryOp) -> Kind {
        self.bump();
        Kind::Operator(op)
    }

    /// A name or keyword whose first character has been read.
    fn word(&mut self) -> Kind {
        self.eat_while(|c| is_name_char(c) || c == ':');
        let word = self.query.get(self.start..self.pos).unwrap_or("");
        match keyword(word) {
            // `fill` came late to the language: it must remain a metric's name in all queries that
            // were valid before.
            Some(Kind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.rest().trim_start_matches(is_space).starts_with('(') =>
            {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        }
    }

    /// The rest of a word inside brackets.
    fn duration_word(&mut self) -> Option<Kind> {
        self.eat_while(is_letter);
        duration_keyword(self.query.get(self.start..self.pos).unwrap_or(""))
    }

    /// The rest of a quoted text.
    fn text(&mut self, delimiter: char) -> Result<Kind, String> {
        loop {
            match self.bump() {
                Some('\u{fffd}') => return Err("invalid UTF-8 rune".to_owned()),
                Some(c) if c == delimiter => return Ok(Kind::Text),
                Some('\\') if delimiter != '`' => self.escape(delimiter)?,
                None if delimiter == '`' => return Err("unterminated raw string".to_owned()),
                None => return Err("unterminated quoted string".to_owned()),
                Some('\n') if delimiter != '`' => {
                    return Err("unterminated quoted string".to_owned());
                }
                Some(_) => {}
            }
        }
    }

    /// The rest of an escape; `quote::unquote` relies on all of them being well-formed but for
    /// invalid UTF-8.
    fn escape(&mut self, delimiter: char) -> Result<(), String> {
        const UNTERMINATED: &str = "escape sequence not terminated";
        let c = self.bump().ok_or(UNTERMINATED)?;
        let (digits, radix, first) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == delimiter => return Ok(()),
            '0'..='7' => (3, 8, Some(c)),
            'x' => (2, 16, None),
            'u' => (4, 16, None),
            'U' => (8, 16, None),
            c => {
                return Err(format!(
                    "unknown escape sequence U+{:04X} {}",
                    c as u32,
                    quote_char(c)
                ));
            }
        };
        let mut value = first.and_then(|c| c.to_digit(radix)).unwrap_or(0);
        for _ in first.iter().count()..digits {
            let c = self.bump().ok_or(UNTERMINATED)?;
            let digit = c.to_digit(radix).ok_or_else(|| {
                format!(
                    "illegal character U+{:04X} {} in escape sequence",
                    c as u32,
                    quote_char(c)
                )
            })?;
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        let valid = if digits <= 3 {
            value <= 255
        } else {
            char::from_u32(value).is_some()
        };
        if valid {
            Ok(())
        } else {
            Err("escape sequence is an invalid Unicode code point".to_owned())
        }
    }

    fn starts_number(&self, c: char) -> bool {
        c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|c| c.is_ascii_digit()))
    }

    fn number_or_duration(&mut self) -> Result<Kind, String> {
        self.pos = self.start;
        if self.scan_number() {
            return Ok(Kind::Number);
        }
        if self.scan_duration() {
            return Ok(Kind::Duration);
        }
        let read = self.query.get(self.start..self.pos).unwrap_or("");
        Err(format!("bad number or duration syntax: {}", quote(read)))
    }

    /// Whether a number stands here. What is read is not always a valid number: `number::parse` has
    /// the last word.
    fn scan_number(&mut self) -> bool {
        let hex = self.eat(|c| c == '0') && self.eat(|c| c == 'x' || c == 'X') && {
            self.eat(|c| c == '_');
            true
        };
        let is_digit = |c: char| {
            if hex {
                c.is_ascii_hexdigit()
            } else {
                c.is_ascii_digit()
            }
        };
        let mut dot = self.eat(|c| c == '.');
        let mut exponent = false;
        loop {
            self.eat_while(is_digit);
            match self.peek() {
                Some('.') => {
                    self.bump();
                    if dot || hex || self.eat(|c| c == '_' || c == '.') {
                        return false;
                    }
                    dot = true;
                }
                Some('e' | 'E') => {
                    self.bump();
                    if exponent {
                        return false;
                    }
                    exponent = true;
                    self.eat(|c| c == '+' || c == '-');
                    if self.eat(|c| "._eE".contains(c)) || self.peek().is_none() {
                        return false;
                    }
                }
                Some('_') => {
                    self.bump();
                    if self.eat(|c| "._eE".contains(c)) || self.peek().is_none() {
                        return false;
                    }
                }
                Some(c) => return !is_name_char(c),
                None => return true,
            }
        }
    }

    /// Whether units follow the digits that [`Self::scan_number`] has read. Order and spelling of
    /// units are checked later.
    fn scan_duration(&mut self) -> bool {
        let is_unit = |c| "smhdw".contains(c);
        if !self.eat(|c| is_unit(c) || c == 'y') {
            return false;
        }
        self.eat(|c| c == 's');
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.eat_while(|c| c.is_ascii_digit());
            if !self.eat(is_unit) {
                return false;
            }
            self.eat(|c| c == 's');
        }
        // The character that spoils it is part of the message.
        !self.eat(is_name_char)
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_letter(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_name_char(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}
