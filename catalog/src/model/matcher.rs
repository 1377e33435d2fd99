//! Label matchers: the four comparisons of a PromQL selector.

use std::fmt;

use regex::Regex;

use super::labels::Labels;
use super::pattern::from_re2;

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
    /// What the pattern was translated to, if it was written in another syntax.
    translated: Option<Box<str>>,
}

/// A pattern, or what it amounts to when it only lists texts.
#[derive(Debug, Clone)]
enum Pattern {
    /// `a|b|c`: no regular expression is run.
    OneOf(Vec<String>),
    /// `a.*b` or `a.+b`, where either text may be empty: to compile it would take longer than many
    /// a query.
    Around {
        before: String,
        after: String,
        least_between: usize,
    },
    /// Anything but a line feed matches `.*`; Prometheus compiles with the dot matching line feeds
    /// too.
    Regex {
        regex: Regex,
        /// The bound by which it was compiled, see [`PATTERN_SIZE_LIMITS`].
        most_bytes: usize,
    },
}

/// Bounds of a compiled pattern in bytes, which are tried one after the other: the first that is
/// enough is what the pattern counts as. Patterns beyond the last are refused.
const PATTERN_SIZE_LIMITS: [usize; 3] = [128 << 10, 1 << 20, 4 << 20];

/// Compiles a regular expression of the crate `regex`, with the least of some bounds in bytes that
/// is enough for it.
///
/// # Errors
/// The error of the last bound.
pub fn compile_within(pattern: &str, limits: &[usize]) -> Result<(Regex, usize), regex::Error> {
    let mut failed = None;
    for limit in limits {
        match regex::RegexBuilder::new(pattern).size_limit(*limit).build() {
            Ok(regex) => return Ok((regex, *limit)),
            Err(error @ regex::Error::CompiledTooBig(_)) => failed = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(failed.unwrap_or(regex::Error::CompiledTooBig(0)))
}

impl Matcher {
    /// A matcher, its pattern in the syntax of the crate `regex`; the error is the regular
    /// expression's, in words for the user.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, String> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Pattern::compile(&value, &value)?),
        };
        Ok(Self {
            name,
            op,
            value,
            pattern,
            translated: None,
        })
    }

    /// A matcher of PromQL, whose patterns are [those of RE2](super::pattern).
    pub fn promql(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, String> {
        let (name, value) = (name.into(), value.into());
        if matches!(op, MatchOp::Equal | MatchOp::NotEqual) || is_list(&value) {
            return Self::new(name, op, value);
        }
        let translated = from_re2(&value)
            .map_err(|error| format!("invalid regular expression {value:?}: {error}"))?;
        let pattern = Some(Pattern::compile(&value, &translated)?);
        let translated = (translated != value).then(|| translated.into());
        Ok(Self {
            name,
            op,
            value,
            pattern,
            translated,
        })
    }

    /// `name = value`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            pattern: None,
            translated: None,
        }
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

    /// The value, or the pattern in the syntax that [`Self::new`] takes: what is stored.
    pub fn stored_value(&self) -> &str {
        self.translated.as_deref().unwrap_or(&self.value)
    }

    /// At most so many bytes are taken by its compiled pattern, if it has one.
    pub fn pattern_bytes(&self) -> usize {
        match &self.pattern {
            Some(Pattern::Regex { most_bytes, .. }) => *most_bytes,
            _ => 0,
        }
    }

    /// What all values that can pass begin with; empty if nothing is known.
    pub fn prefix(&self) -> &str {
        match (self.op, &self.pattern) {
            (MatchOp::Regex, Some(Pattern::Around { before, .. })) => before,
            _ => "",
        }
    }

    /// The values that can pass, if they can be listed.
    pub fn listed_values(&self) -> Option<Vec<&str>> {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => Some(vec![self.value.as_str()]),
            (MatchOp::Regex, Some(Pattern::OneOf(texts))) => {
                Some(texts.iter().map(String::as_str).collect())
            }
            _ => None,
        }
    }
}

impl Pattern {
    /// Compiles a pattern; `written` is what errors name.
    fn compile(written: &str, pattern: &str) -> Result<Self, String> {
        if is_list(pattern) {
            return Ok(Self::OneOf(pattern.split('|').map(str::to_owned).collect()));
        }
        if let Some(around) = Self::around(pattern) {
            return Ok(around);
        }
        let describe =
            |error: &dyn fmt::Display| format!("invalid regular expression {written:?}: {error}");
        // Alone first: `a)(b` would close the group that anchors it.
        regex_syntax::parse(pattern).map_err(|error| describe(&error))?;
        compile_within(&format!("^(?s:{pattern})$"), &PATTERN_SIZE_LIMITS)
            .map(|(regex, most_bytes)| Self::Regex { regex, most_bytes })
            .map_err(|error| describe(&error))
    }

    fn around(pattern: &str) -> Option<Self> {
        let (before, rest) = pattern.split_once('.')?;
        let least_between = usize::from(rest.starts_with('+'));
        let after = rest.strip_prefix(['*', '+'])?;
        let is_text = |text: &str| is_list(text) && !text.contains('|');
        (is_text(before) && is_text(after)).then(|| Self::Around {
            before: before.to_owned(),
            after: after.to_owned(),
            least_between,
        })
    }

    fn is_match(&self, value: &str) -> bool {
        match self {
            Self::OneOf(texts) => texts.iter().any(|text| text == value),
            Self::Around {
                before,
                after,
                least_between,
            } => {
                value.len() >= before.len() + least_between + after.len()
                    && value.starts_with(before.as_str())
                    && value.ends_with(after.as_str())
            }
            Self::Regex { regex, .. } => regex.is_match(value),
        }
    }
}

/// Whether a pattern is nothing but texts with bars between them.
fn is_list(pattern: &str) -> bool {
    !pattern.contains(|c: char| "\\.+*?()[]{}^$".contains(c))
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, self.stored_value()) == (&other.name, other.op, other.stored_value())
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
    fn texts_around_a_dot_are_what_the_regular_expression_is() {
        let texts = [
            "", "a", "b", "c", "ab", "ba", "aba", "a\nb", "a\u{e9}b", "aab", "abb",
        ];
        for pattern in [
            ".*", ".+", "a.*", "a.+", ".*b", ".+b", "a.*b", "a.+b", "ab.*b", "a.*ab", "a.+?",
            "a.b", "a.*|b", "a|b.*", "a.*b.*",
        ] {
            let regex = Regex::new(&format!("^(?s:{pattern})$")).unwrap();
            for text in texts {
                check(MatchOp::Regex, pattern, text, regex.is_match(text));
            }
        }
        let is_around = |pattern| {
            matches!(
                Pattern::compile(pattern, pattern),
                Ok(Pattern::Around { .. })
            )
        };
        assert!(is_around("a.+b") && !is_around("a.*b.*") && !is_around("a.*|b"));
    }

    #[test]
    fn patterns_of_promql_are_stored_in_the_syntax_of_the_crate() {
        let check = |pattern: &str, value: &str, expected: bool| {
            let matcher = Matcher::promql("l", MatchOp::Regex, pattern).unwrap();
            assert_eq!(matcher.matches(value), expected, "{pattern} on {value:?}");
            assert_eq!(matcher.value, pattern);
            let stored = Matcher::new("l", MatchOp::Regex, matcher.stored_value()).unwrap();
            assert_eq!(
                stored.matches(value),
                expected,
                "{pattern} as {} on {value:?}",
                stored.value
            );
            assert_eq!(stored, matcher);
        };
        check(r"\w+", "\u{e9}", false);
        check(r"a{|\Q.\E", "a{", true);
        check("[a&&b]+", "a&b", true);
        check("a|b", "b", true);
        assert!(
            Matcher::new("l", MatchOp::Regex, r"\w+")
                .unwrap()
                .matches("\u{e9}")
        );
        assert!(Matcher::promql("l", MatchOp::Regex, "a**").is_err());
        assert!(Matcher::promql("l", MatchOp::NotRegex, "a)(b").is_err());
    }

    #[test]
    fn an_unclosed_group_cannot_escape_the_anchor() {
        assert!(Matcher::new("l", MatchOp::Regex, "a)(b").is_err());
        assert!(Matcher::new("l", MatchOp::Regex, "(").is_err());
    }
}
