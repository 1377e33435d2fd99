//! JSON, read from its beginning to its end without a tree in between.

use std::borrow::Cow;

/// Objects and arrays within one another.
const MAX_DEPTH: usize = 128;

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) at: usize,
    pub(super) what: Cow<'static, str>,
}

/// A text of JSON, and how far it was read.
#[derive(Debug)]
pub(super) struct Lexer<'b> {
    text: &'b str,
    at: usize,
    depth: usize,
}

impl<'b> Lexer<'b> {
    pub(super) fn new(text: &'b str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
        }
    }

    #[cold]
    pub(super) fn bad(&self, what: impl Into<Cow<'static, str>>) -> Bad {
        Bad {
            at: self.at,
            what: what.into(),
        }
    }

    /// Enters an object or an array.
    pub(super) fn deeper(&mut self) -> Result<(), Bad> {
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err(self.bad("it is nested too deep")),
            false => Ok(()),
        }
    }

    /// Leaves an object or an array.
    pub(super) fn higher(&mut self) {
        self.depth -= 1;
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), Bad> {
        match self.take(byte) {
            true => Ok(()),
            false => Err(self.bad(format!("there should be a {:?}", char::from(byte)))),
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.peek();
        let is_next = self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word));
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    /// Nothing comes any more.
    pub(super) fn end(&mut self) -> Result<(), Bad> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.bad("there is something after its end")),
        }
    }

    pub(super) fn take_null(&mut self) -> bool {
        self.take_word("null")
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Bad> {
        if self.take_word("true") {
            return Ok(true);
        }
        match self.take_word("false") {
            true => Ok(false),
            false => Err(self.bad("there should be true or false")),
        }
    }

    pub(super) fn begin_object(&mut self) -> Result<(), Bad> {
        self.expect(b'{')
    }

    /// The next key of an object, with its colon; `None` at the end of the object.
    pub(super) fn next_key(&mut self, is_first: &mut bool) -> Result<Option<Cow<'b, str>>, Bad> {
        if self.take(b'}') {
            return Ok(None);
        }
        if !std::mem::take(is_first) {
            self.expect(b',')?;
        }
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    pub(super) fn begin_array(&mut self) -> Result<(), Bad> {
        self.expect(b'[')
    }

    /// Whether an array has another item, which comes next.
    pub(super) fn next_item(&mut self, is_first: &mut bool) -> Result<bool, Bad> {
        if self.take(b']') {
            return Ok(false);
        }
        if !std::mem::take(is_first) {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// A string without its quotes and escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'b, str>, Bad> {
        self.expect(b'"')?;
        let mut unescaped: Option<String> = None;
        let mut start = self.at;
        loop {
            let Some(&byte) = self.text.as_bytes().get(self.at) else {
                return Err(self.bad("a string does not end"));
            };
            if !matches!(byte, b'"' | b'\\' | 0..0x20) {
                self.at += 1;
                continue;
            }
            // Quotes and backslashes are no parts of other characters.
            let run = self.text.get(start..self.at).unwrap_or_default();
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(run),
                        Some(text) => Cow::Owned(text + run),
                    });
                }
                b'\\' => {
                    let text = unescaped.get_or_insert_default();
                    text.push_str(run);
                    self.at += 1;
                    let escaped = self.escape()?;
                    unescaped.get_or_insert_default().push(escaped);
                    start = self.at;
                }
                _ => return Err(self.bad("a string has a control character")),
            }
        }
    }

    /// The character after a backslash.
    fn escape(&mut self) -> Result<char, Bad> {
        let byte = self.text.as_bytes().get(self.at).copied();
        self.at += 1;
        Ok(match byte {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex4()?;
                if let 0xd800..0xdc00 = first
                    && let Some(second @ 0xdc00..0xe000) = self.second_half()
                {
                    self.at += 6;
                    let pair = ((first - 0xd800) << 10 | (second - 0xdc00)) + 0x10000;
                    return Ok(char::from_u32(pair).unwrap_or('\u{fffd}'));
                }
                char::from_u32(first).unwrap_or('\u{fffd}')
            }
            _ => return Err(self.bad("an escape is unknown")),
        })
    }

    /// The number of an escape that comes next, without taking it.
    fn second_half(&self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    }

    fn hex4(&mut self) -> Result<u32, Bad> {
        let digits = self.text.get(self.at..self.at + 4);
        let is_hex = |digits: &&str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = digits
            .filter(is_hex)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.bad("an escape is not four hexadecimal digits"))?;
        self.at += 4;
        Ok(value)
    }

    /// A number as it is written, or a string.
    pub(super) fn number_or_string(&mut self) -> Result<Cow<'b, str>, Bad> {
        match self.peek() {
            Some(b'"') => self.string(),
            _ => self.number().map(Cow::Borrowed),
        }
    }

    fn digits(&mut self) -> Result<(), Bad> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        match digits {
            0 => Err(self.bad("there should be a digit")),
            _ => Ok(()),
        }
    }

    fn number(&mut self) -> Result<&'b str, Bad> {
        self.peek();
        let start = self.at;
        let at = |lexer: &Self| lexer.text.as_bytes().get(lexer.at).copied();
        if at(self) == Some(b'-') {
            self.at += 1;
        }
        match at(self) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if at(self) == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = at(self) {
            self.at += 1;
            if let Some(b'+' | b'-') = at(self) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// Passes over a value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), Bad> {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                self.deeper()?;
                let mut is_first = true;
                while self.next_key(&mut is_first)?.is_some() {
                    self.skip()?;
                }
                self.higher();
            }
            Some(b'[') => {
                self.at += 1;
                self.deeper()?;
                let mut is_first = true;
                while self.next_item(&mut is_first)? {
                    self.skip()?;
                }
                self.higher();
            }
            Some(b'"') => drop(self.string()?),
            Some(b'n') if self.take_null() => {}
            Some(b't' | b'f') => drop(self.boolean()?),
            _ => drop(self.number()?),
        }
        Ok(())
    }
}
