//! Label matchers: the four comparisons of a PromQL selector.

use std::fmt;

use regex::Regex;

use super::labels::Labels;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// As written in PromQL.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// One comparison of a label with a value. A label that is absent has the empty value.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Name of the label, `__name__` for the metric.
    pub name: String,
    /// The comparison.
    pub op: MatchOp,
    /// The value or the pattern as written.
    pub value: String,
    pattern: Option<Pattern>,
}

/// A pattern, or what it amounts to when it only lists texts.
#[derive(Debug, Clone)]
enum Pattern {
    /// `a|b|c`: no regular expression is run.
    OneOf(Vec<String>),
    /// Anything but a line feed matches `.*`; Prometheus compiles with the dot matching line feeds too.
    Regex(Regex),
}

/// Largest compiled pattern, in bytes; larger ones are refused.
const PATTERN_SIZE_LIMIT: usize = 4 << 20;

impl Matcher {
    /// A matcher; the error is the regular expression's, in words for the user.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, String> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Pattern::compile(&value)?),
        };
        Ok(Self { name, op, value, pattern })
    }

    /// `name = value`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), pattern: None }
    }

    /// Whether a value of the label passes.
    #[inline]
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(pattern)) => pattern.is_match(value),
            (MatchOp::NotRegex, Some(pattern)) => !pattern.is_match(value),
            (_, None) => false,
        }
    }

    /// Whether a label set passes.
    #[inline]
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// Whether the empty value passes, and with it every series without the label.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The values that can pass, if they can be listed.
    pub fn listed_values(&self) -> Option<Vec<&str>> {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => Some(vec![self.value.as_str()]),
            (MatchOp::Regex, Some(Pattern::OneOf(texts))) => Some(texts.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

impl Pattern {
    fn compile(pattern: &str) -> Result<Self, String> {
        let plain = |text: &str| !text.contains(|c: char| "\\.+*?()[]{}^$|".contains(c));
        if pattern.split('|').all(plain) {
            return Ok(Self::OneOf(pattern.split('|').map(str::to_owned).collect()));
        }
        // Alone first: `a)(b` would close the group that anchors it.
        let describe = |error: regex::Error| format!("invalid regular expression {pattern:?}: {error}");
        check_alone(pattern).map_err(describe)?;
        regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).size_limit(PATTERN_SIZE_LIMIT).build().map(Self::Regex).map_err(describe)
    }

    fn is_match(&self, value: &str) -> bool {
        match self {
            Self::OneOf(texts) => texts.iter().any(|text| text == value),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Whether the pattern stands on its own.
fn check_alone(pattern: &str) -> Result<(), regex::Error> {
    regex::RegexBuilder::new(pattern).size_limit(PATTERN_SIZE_LIMIT).build().map(drop)
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: MatchOp, pattern: &str, value: &str, expected: bool) {
        let matcher = Matcher::new("l", op, pattern).unwrap();
        assert_eq!(matcher.matches(value), expected, "{matcher} on {value:?}");
    }

    #[test]
    fn patterns_are_anchored() {
        check(MatchOp::Regex, "a.c", "abc", true);
        check(MatchOp::Regex, "a.c", "xabc", false);
        check(MatchOp::Regex, "a|b", "b", true);
        check(MatchOp::Regex, "a|b", "ab", false);
        check(MatchOp::Regex, "a|b.", "bx", true);
        check(MatchOp::NotRegex, "a.*", "abc", false);
        check(MatchOp::Regex, ".*", "two\nlines", true);
        check(MatchOp::Regex, "", "", true);
    }

    #[test]
    fn an_unclosed_group_cannot_escape_the_anchor() {
        assert!(Matcher::new("l", MatchOp::Regex, "a)(b").is_err());
        assert!(Matcher::new("l", MatchOp::Regex, "(").is_err());
    }
}
