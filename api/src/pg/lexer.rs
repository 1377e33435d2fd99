//! Cuts what a client sends into statements, and their beginnings into words.
//!
//! The engine parses statements itself. This only finds where they end, and reads those that are
//! about the connection. Where a quote is not closed, the rest is one token, and the engine's
//! error says so.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or keyword without quotes.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A text in single quotes or dollars.
    Text,
    /// A number, without sign.
    Number,
    /// One other character.
    Symbol,
}

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// Its bytes, quotes included.
    pub at: Range<usize>,
}

/// Tokens of a text, without white space and comments.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.bytes().get(self.at + ahead).copied()
    }

    /// Passes over bytes while they are of a kind.
    fn pass(&mut self, is_of: impl Fn(u8) -> bool) {
        while self.byte(0).is_some_and(&is_of) {
            self.at += 1;
        }
    }

    fn skip_gaps(&mut self) {
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(byte), _) if byte.is_ascii_whitespace() => self.at += 1,
                (Some(b'-'), Some(b'-')) => self.pass(|byte| byte != b'\n'),
                (Some(b'/'), Some(b'*')) => self.skip_comment(),
                _ => return,
            }
        }
    }

    /// Comments may have others in them.
    fn skip_comment(&mut self) {
        let mut open = 0usize;
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'/'), Some(b'*')) => (open, self.at) = (open + 1, self.at + 2),
                (Some(b'*'), Some(b'/')) => (open, self.at) = (open - 1, self.at + 2),
                (Some(_), _) => self.at += 1,
                (None, _) => return,
            }
            if open == 0 {
                return;
            }
        }
    }

    /// Passes over a text up to its closing quote; two of them are one of the text.
    fn skip_quoted(&mut self, quote: u8, has_escapes: bool) {
        self.at += 1;
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'\\'), Some(_)) if has_escapes => self.at += 2,
                (Some(byte), Some(next)) if byte == quote && next == quote => self.at += 2,
                (Some(byte), _) if byte == quote => {
                    self.at += 1;
                    return;
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return,
            }
        }
    }

    /// Passes over `$tag$ .. $tag$`, if it is one.
    fn skip_dollars(&mut self) -> bool {
        let rest = self.bytes().get(self.at..).unwrap_or_default();
        let name = rest.iter().skip(1).position(|byte| !is_name(*byte));
        let Some(end) = name.map(|len| len + 1) else {
            return false;
        };
        let starts_with_digit = rest.get(1).is_some_and(u8::is_ascii_digit);
        if rest.get(end) != Some(&b'$') || starts_with_digit {
            return false;
        }
        let (tag, body) = rest.split_at(end + 1);
        let close = memchr_pair(body, tag);
        self.at += tag.len() + close.map_or(body.len(), |at| at + tag.len());
        true
    }
}

/// Where some bytes begin in others.
fn memchr_pair(body: &[u8], tag: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let rest = body.get(from..)?;
        let at = from + rest.iter().position(|byte| *byte == b'$')?;
        if body.get(at..)?.starts_with(tag) {
            return Some(at);
        }
        from = at + 1;
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_gaps();
        let start = self.at;
        let kind = match (self.byte(0)?, self.byte(1)) {
            (b'\'', _) => {
                self.skip_quoted(b'\'', false);
                Kind::Text
            }
            (b'e' | b'E', Some(b'\'')) => {
                self.at += 1;
                self.skip_quoted(b'\'', true);
                Kind::Text
            }
            (b'"', _) => {
                self.skip_quoted(b'"', false);
                Kind::Quoted
            }
            (b'$', _) if self.skip_dollars() => Kind::Text,
            (byte, _) if byte.is_ascii_digit() => {
                self.pass(|byte| is_name(byte) || byte == b'.');
                Kind::Number
            }
            (byte, _) if is_name(byte) => {
                self.pass(|byte| is_name(byte) || byte == b'$');
                Kind::Word
            }
            _ => {
                self.at += 1;
                Kind::Symbol
            }
        };
        Some(Token {
            kind,
            at: start..self.at,
        })
    }
}

/// The statements of a text, without the semicolons between them; those that say nothing are left
/// out.
pub fn statements(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut lexer = Lexer::new(text);
    std::iter::from_fn(move || {
        let mut found: Option<Range<usize>> = None;
        loop {
            let Some(token) = lexer.next() else {
                return found;
            };
            let is_end = token.kind == Kind::Symbol && text.get(token.at.clone()) == Some(";");
            match (&mut found, is_end) {
                (Some(_), true) => return found,
                (None, true) => {}
                (Some(range), false) => range.end = token.at.end,
                (None, false) => found = Some(token.at),
            }
        }
    })
}

/// The value of a quoted token, or the token itself.
pub fn value(text: &str, token: &Token) -> String {
    let shown = text.get(token.at.clone()).unwrap_or_default();
    let without = |quote: char| {
        let inner = shown.strip_prefix(quote).unwrap_or(shown);
        let inner = inner.strip_suffix(quote).unwrap_or(inner);
        inner.replace(
            [quote, quote].iter().collect::<String>().as_str(),
            &quote.to_string(),
        )
    };
    match (token.kind, shown.as_bytes().first()) {
        (Kind::Quoted, _) => without('"'),
        (Kind::Text, Some(b'\'')) => without('\''),
        (Kind::Text, Some(b'$')) => {
            let tag = shown
                .get(1..)
                .and_then(|rest| rest.find('$'))
                .map_or(0, |at| at + 2);
            shown
                .get(tag..shown.len().saturating_sub(tag))
                .unwrap_or_default()
                .to_owned()
        }
        (Kind::Text, _) => unescaped(shown),
        _ => shown.to_owned(),
    }
}

/// `E'..'`
fn unescaped(shown: &str) -> String {
    let inner = shown.get(2..).unwrap_or_default();
    let inner = inner.strip_suffix('\'').unwrap_or(inner);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match (c, chars.peek()) {
            ('\\', Some(next)) => {
                let made = match next {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    other => *other,
                };
                chars.next();
                made
            }
            ('\'', Some('\'')) => {
                chars.next();
                '\''
            }
            (c, _) => c,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = statements(text).map(|range| &text[range]).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes() {
        check("", &[]);
        check(" ; ;; -- ping", &[]);
        check("SELECT 1", &["SELECT 1"]);
        check("a; b ;", &["a", "b"]);
        check("SELECT ';' ; SELECT \";\"", &["SELECT ';'", "SELECT \";\""]);
        check("SELECT 'a''; b'; c", &["SELECT 'a''; b'", "c"]);
        check(r"SELECT E'a\'; b'; c", &[r"SELECT E'a\'; b'", "c"]);
        check(r"SELECT 'a\'; b", &[r"SELECT 'a\'", "b"]);
        check("SELECT $$a;b$$; c", &["SELECT $$a;b$$", "c"]);
        check("SELECT $x$a;$$b$x$; c", &["SELECT $x$a;$$b$x$", "c"]);
        check("SELECT $1; c", &["SELECT $1", "c"]);
        check(
            "a /* ; /* ; */ ; */ b; c -- ;\n d",
            &["a /* ; /* ; */ ; */ b", "c -- ;\n d"],
        );
        check("SELECT 'open; b", &["SELECT 'open; b"]);
        check("/* open ; b", &[]);
        check("SELECT 'é;ü'; ñ", &["SELECT 'é;ü'", "ñ"]);
    }

    #[test]
    fn values_have_no_quotes() {
        let check = |text: &str, expected: &str| {
            let token = Lexer::new(text).next().unwrap();
            assert_eq!(value(text, &token), expected);
            assert_eq!(token.at, 0..text.len());
        };
        check("'it''s'", "it's");
        check("\"a\"\"b\"", "a\"b");
        check("$t$x$t$", "x");
        check(r"E'a\n\'b'''", "a\n'b'");
        check("word", "word");
        check("1.5e3", "1.5e3");
    }

    proptest! {
        #[test]
        fn any_text_has_tokens_in_order(text in "[a-z'\"$;/*\\-\\\\E 1é\n]{0,40}") {
            let mut end = 0;
            for token in Lexer::new(&text) {
                prop_assert!(token.at.start >= end && token.at.end > token.at.start);
                prop_assert!(text.get(token.at.clone()).is_some());
                let _ = value(&text, &token);
                end = token.at.end;
            }
            for range in statements(&text) {
                prop_assert!(text.get(range).is_some());
            }
        }
    }
}
