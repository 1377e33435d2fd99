//! Regular expressions as Prometheus reads them (RE2, as Go has it), in the syntax of the crate
//! `regex`.
//!
//! Most patterns read alike. Some would be refused (`a{`, `\Q.\E`, `\101`), some taken that are
//! refused there (`a**`, `(?x)a`), and some would silently mean something else: `\d`, `\w`, `\s`
//! and `\b` know ASCII alone, within brackets `[`, `&&`, `--` and `~~` are letters, and `\<` is a
//! letter too.

use std::iter::Peekable;
use std::str::Chars;

/// Most repetitions in braces.
const MAX_REPETITIONS: u32 = 1000;

/// The classes of POSIX, which stand in brackets: `[[:alpha:]]`, and all else `[[:^alpha:]]`.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// The same pattern for the crate `regex`; the error says what Prometheus refuses. Whatever else is
/// wrong is left to the crate to say.
pub fn from_re2(pattern: &str) -> Result<String, String> {
    let mut translation = Translation {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 8),
        repeated: None,
        classes_end: true,
    };
    translation.run()?;
    Ok(translation.out)
}

struct Translation<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// The repetition that was read last, if nothing was read since.
    repeated: Option<String>,
    /// Whether there may still be a `:]`.
    classes_end: bool,
}

/// What a backslash and a letter stand for within and without brackets.
enum Escape {
    Literal(char),
    /// Members of a class, and whether it is all else.
    Class(&'static str, bool),
    Other(String),
}

impl Translation<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            let before = self.repeated.take();
            match c {
                '*' | '+' | '?' => self.repetition(c.to_string(), before)?,
                '{' => match self.counted()? {
                    Some(counted) => self.repetition(counted, before)?,
                    None => self.out.push_str("\\{"),
                },
                '[' => self.brackets()?,
                '(' => self.group()?,
                '\\' => self.escaped()?,
                '.' | '|' | ')' | '^' | '$' => self.out.push(c),
                c => push_literal(c, &mut self.out),
            }
        }
        Ok(())
    }

    /// A repetition; one of a repetition is refused.
    fn repetition(&mut self, mut op: String, before: Option<String>) -> Result<(), String> {
        if self.rest.next_if_eq(&'?').is_some() {
            op.push('?');
        }
        if let Some(before) = before {
            return Err(format!(
                "invalid nested repetition operator: `{before}{op}`"
            ));
        }
        self.out.push_str(&op);
        self.repeated = Some(op);
        Ok(())
    }

    /// `{2}`, `{2,}` or `{2,3}`, whose brace has been read; `None` if it is a letter here.
    fn counted(&mut self) -> Result<Option<String>, String> {
        let mut ahead = self.rest.clone();
        let Some(least) = digits(&mut ahead) else {
            return Ok(None);
        };
        let mut text = format!("{{{least}");
        let mut most = Some(least.clone());
        if ahead.next_if_eq(&',').is_some() {
            text.push(',');
            most = None;
            if ahead.peek() != Some(&'}') {
                let Some(number) = digits(&mut ahead) else {
                    return Ok(None);
                };
                text.push_str(&number);
                most = Some(number);
            }
        }
        if ahead.next() != Some('}') {
            return Ok(None);
        }
        text.push('}');
        self.rest = ahead;
        let count = |digits: &str| {
            digits
                .parse::<u32>()
                .ok()
                .filter(|count| *count <= MAX_REPETITIONS)
        };
        let valid = match (count(&least), most.as_deref().map(count)) {
            (Some(_), None) => true,
            (Some(least), Some(Some(most))) => least <= most,
            _ => false,
        };
        if valid {
            Ok(Some(text))
        } else {
            Err(format!("invalid repeat count: `{text}`"))
        }
    }

    /// A parenthesis with what may follow it: a name or flags.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.out.push('?');
        let named = matches!(self.rest.peek(), Some('P' | '<'));
        for c in self.rest.by_ref() {
            self.out.push(c);
            match c {
                '>' if named => return Ok(()),
                ':' | ')' if !named => return Ok(()),
                'i' | 'm' | 's' | 'U' | '-' => {}
                c if named && (c == 'P' || c == '<' || c == '_' || c.is_ascii_alphanumeric()) => {}
                c => return Err(format!("invalid or unsupported Perl syntax: `(?{c}`")),
            }
        }
        Ok(())
    }

    /// What follows a backslash outside brackets.
    fn escaped(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            Some('Q') => {
                self.rest.next();
                self.quoted();
            }
            Some('b' | 'B') => {
                let c = self.rest.next().unwrap_or('b');
                self.out.push_str("(?-u:\\");
                self.out.push(c);
                self.out.push(')');
            }
            Some(c @ ('A' | 'z')) => {
                self.out.push('\\');
                self.out.push(*c);
                self.rest.next();
            }
            _ => match self.escape()? {
                Escape::Literal(c) => push_literal(c, &mut self.out),
                Escape::Class(members, negated) => push_class(members, negated, &mut self.out),
                Escape::Other(text) => self.out.push_str(&text),
            },
        }
        Ok(())
    }

    /// Letters up to `\E`.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            push_literal(c, &mut self.out);
        }
    }

    /// What follows a backslash anywhere.
    fn escape(&mut self) -> Result<Escape, String> {
        let Some(c) = self.rest.next() else {
            return Err("trailing backslash at end of expression".to_owned());
        };
        let literal = match c {
            'd' | 'D' => return Ok(Escape::Class("0-9", c == 'D')),
            'w' | 'W' => return Ok(Escape::Class("0-9A-Za-z_", c == 'W')),
            's' | 'S' => return Ok(Escape::Class("\\t\\n\\x0c\\r\\x20", c == 'S')),
            'p' | 'P' => return Ok(Escape::Other(self.unicode(c == 'P'))),
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            'x' => self.hexadecimal(),
            // A digit alone would refer to a group, which there is not.
            '1'..='7' if !self.rest.peek().is_some_and(|c| c.is_digit(8)) => None,
            '0'..='7' => {
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    value = value * 8 + digit;
                    self.rest.next();
                }
                char::from_u32(value)
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        };
        literal
            .map(Escape::Literal)
            .ok_or_else(|| format!("invalid escape sequence: `\\{c}`"))
    }

    /// `\x41` or `\x{1f600}`, of which the `x` has been read.
    fn hexadecimal(&mut self) -> Option<char> {
        let braces = self.rest.next_if_eq(&'{').is_some();
        let mut value = 0u32;
        for read in 0.. {
            let c = self.rest.next()?;
            if braces && c == '}' {
                return if read > 0 {
                    char::from_u32(value)
                } else {
                    None
                };
            }
            value = value.checked_mul(16)?.checked_add(c.to_digit(16)?)?;
            if !braces && read == 1 {
                break;
            }
        }
        char::from_u32(value)
    }

    /// `\pL` or `\p{^Greek}`, of which the `p` has been read.
    fn unicode(&mut self, mut negated: bool) -> String {
        let mut name = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            negated ^= self.rest.next_if_eq(&'^').is_some();
            while let Some(c) = self.rest.next()
                && c != '}'
            {
                name.push(c);
            }
        } else {
            name.extend(self.rest.next());
        }
        format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' })
    }

    /// What is in brackets, of which the first has been read.
    fn brackets(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            match self.rest.peek() {
                None => return Err("missing closing ]".to_owned()),
                Some(']') if !first => break,
                _ => self.member()?,
            }
            first = false;
        }
        self.rest.next();
        self.out.push(']');
        Ok(())
    }

    /// A letter, a range or a class in brackets.
    fn member(&mut self) -> Result<(), String> {
        if let Some(name) = self.posix()? {
            self.out.push_str(&name);
            return Ok(());
        }
        let low = match self.member_escape()? {
            Escape::Literal(c) => c,
            Escape::Class(members, false) => {
                self.out.push_str(members);
                return Ok(());
            }
            Escape::Class(members, true) => {
                push_class(members, true, &mut self.out);
                return Ok(());
            }
            Escape::Other(text) => {
                self.out.push_str(&text);
                return Ok(());
            }
        };
        push_literal(low, &mut self.out);
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.peek().is_some_and(|c| *c != ']') {
            self.rest = ahead;
            let Escape::Literal(high) = self.member_escape()? else {
                return Err("invalid character class range".to_owned());
            };
            self.out.push('-');
            push_literal(high, &mut self.out);
        }
        Ok(())
    }

    fn member_escape(&mut self) -> Result<Escape, String> {
        match self.rest.next() {
            None => Err("missing closing ]".to_owned()),
            Some('\\') => self.escape(),
            Some(c) => Ok(Escape::Literal(c)),
        }
    }

    /// `[:alpha:]`, if that is what follows.
    fn posix(&mut self) -> Result<Option<String>, String> {
        let mut ahead = self.rest.clone();
        if !self.classes_end || ahead.next() != Some('[') || ahead.next() != Some(':') {
            return Ok(None);
        }
        let mut name = String::from("[:");
        for c in ahead.by_ref() {
            name.push(c);
            if name.ends_with(":]") && name.len() > 3 {
                self.rest = ahead;
                let class = name
                    .strip_prefix("[:")
                    .and_then(|class| class.strip_suffix(":]"))
                    .unwrap_or_default();
                let is_known = POSIX.contains(&class.strip_prefix('^').unwrap_or(class));
                return if is_known {
                    Ok(Some(name))
                } else {
                    Err(format!("invalid character class range: `{name}`"))
                };
            }
        }
        // To look for it again at every `[:` would take the square of the length.
        self.classes_end = false;
        Ok(None)
    }
}

/// Decimal digits without zeros in front; `None` if there are none.
fn digits(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut out = String::new();
    while let Some(c) = chars.next_if(char::is_ascii_digit) {
        out.push(c);
    }
    (!out.is_empty() && (out.len() == 1 || !out.starts_with('0'))).then_some(out)
}

fn push_class(members: &str, negated: bool, out: &mut String) {
    out.push_str(if negated { "[^" } else { "[" });
    out.push_str(members);
    out.push(']');
}

fn push_literal(c: char, out: &mut String) {
    if c.is_ascii_punctuation() && !matches!(c, '_' | '<' | '>') {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, value: &str, expected: bool) {
        let translated = from_re2(pattern).unwrap();
        let regex = regex::Regex::new(&format!("^(?s:{translated})$"))
            .unwrap_or_else(|error| panic!("{pattern} {translated}: {error}"));
        assert_eq!(
            regex.is_match(value),
            expected,
            "{pattern} as {translated} on {value:?}"
        );
    }

    fn refused(pattern: &str, expected: &str) {
        match from_re2(pattern) {
            Ok(taken) => panic!("{pattern} was taken as {taken}"),
            Err(error) => assert_eq!(error, expected, "{pattern}"),
        }
    }

    #[test]
    fn classes_are_of_ascii() {
        check(r"\d+", "12", true);
        check(r"\d", "\u{663}", false);
        check(r"\w+", "a_1", true);
        check(r"\w", "\u{e9}", false);
        check(r"\W", "\u{e9}", true);
        check(r"\s", "\u{a0}", false);
        check(r"\s", "\x0b", false);
        check(r"[\d\S]", "\u{663}", true);
        check(
            r"\u{e9}\b".replace("\\u{e9}", "\u{e9}").as_str(),
            "\u{e9}",
            false,
        );
        check(r"a\bx|a\By", "ay", true);
        check(r"\pL\p{Greek}\p{^Greek}", "\u{e9}\u{3b1}x", true);
    }

    #[test]
    fn braces_may_be_letters() {
        check("a{2}", "aa", true);
        check("a{2,}b{1,2}?", "aaabb", true);
        check("{", "{", true);
        check("a{x}", "a{x}", true);
        check("a{,2}", "a{,2}", true);
        check("a{02}", "a{02}", true);
        check("a{1", "a{1", true);
        check("}", "}", true);
    }

    #[test]
    fn brackets_hold_letters() {
        check("[[]", "[", true);
        check("[]a]+", "]a", true);
        check("[a&&b]", "&", true);
        check("[a~~b]", "~", true);
        check("[+--]", ",", true);
        check("[--/]", ".", true);
        check("[a-]", "-", true);
        check("[[:digit:]x]+", "1x", true);
        check("[[:^digit:]]", "1", false);
        check(r"[^\D]", "5", true);
        check(r"[\x41-\x{43}]", "B", true);
        check("[a^]", "^", true);
        check("[[:a]+", ":a[", true);
        check("[[:]+", "[:", true);
    }

    #[test]
    fn escapes() {
        check(r"\Qa.*\Eb", "a.*b", true);
        check(r"\Qa", "a", true);
        check(r"\101\0", "A\0", true);
        check(r"\<a\>", "<a>", true);
        check(r"\_\-\/\ ", "_-/ ", true);
        check(r"\n\t\x20", "\n\t ", true);
        check(r"\A(?i:A)(?P<n>b)(?<m>c)\z", "abc", true);
        check("#a ~", "#a ~", true);
    }

    #[test]
    fn what_prometheus_refuses() {
        refused("a**", "invalid nested repetition operator: `**`");
        refused("a*??", "invalid nested repetition operator: `*??`");
        refused(
            "x{1,2}{3}",
            "invalid nested repetition operator: `{1,2}{3}`",
        );
        refused("a{1001}", "invalid repeat count: `{1001}`");
        refused("a{3,2}", "invalid repeat count: `{3,2}`");
        refused("a{99999999999}", "invalid repeat count: `{99999999999}`");
        refused(r"\1", "invalid escape sequence: `\\1`");
        refused(r"\Z", "invalid escape sequence: `\\Z`");
        refused(r"[\b]", "invalid escape sequence: `\\b`");
        refused(r"\u0041", "invalid escape sequence: `\\u`");
        refused(r"\x{}", "invalid escape sequence: `\\x`");
        refused("(?x)a", "invalid or unsupported Perl syntax: `(?x`");
        refused("[a", "missing closing ]");
        refused("[[:nope:]]", "invalid character class range: `[:nope:]`");
        refused("[[:a]b:]", "invalid character class range: `[:a]b:]`");
        refused(
            "[[:[:alpha:]]",
            "invalid character class range: `[:[:alpha:]`",
        );
        refused("[[::]]", "invalid character class range: `[::]`");
        refused("\\", "trailing backslash at end of expression");
    }

    #[test]
    fn any_text_is_translated_or_refused() {
        let letters: Vec<char> = "\\[](){}*+?.|^$-:,<>=!ab&~PQEdxp0129_ \u{e9}\n"
            .chars()
            .collect();
        let mut state = 1u64;
        for _ in 0..20_000 {
            let text: String = (0..8)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    letters[(state >> 33) as usize % letters.len()]
                })
                .collect();
            if let Ok(translated) = from_re2(&text) {
                // Whatever the crate says to it, it must not panic.
                let _ = regex::Regex::new(&translated);
            }
        }
    }
}
