//! The predicate of `/api/v2/delete`: `_measurement="cpu" AND host='a'`.
//!
//! InfluxDB documents `=` and `AND` only; a key is a word or in double quotes, a value a word, a
//! number, or in quotes of either kind. In quotes a backslash takes the next character as it is.

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagEquals {
    /// Name of the tag, or `_measurement`.
    pub key: String,
    /// Not empty.
    pub value: String,
}

/// Reads a predicate; an empty one has no comparisons. The error names the position, counted in
/// characters from 1.
pub fn parse(text: &str) -> Result<Vec<TagEquals>, String> {
    let mut reader = Reader { text, at: 0 };
    let mut comparisons = Vec::new();
    if reader.skip_blanks().is_none() {
        return Ok(comparisons);
    }
    loop {
        let key = reader.operand("a tag key")?;
        if ["_field", "_value", "_time"].contains(&key.as_str()) {
            return Err(reader.error(&format!(
                "{key} cannot be used: a delete takes whole rows, by time, tags and _measurement"
            )));
        }
        reader.equals()?;
        let value = reader.operand("a tag value")?;
        if value.is_empty() {
            return Err(reader.error("a tag value is empty, and no tag has such a value"));
        }
        comparisons.push(TagEquals { key, value });
        if reader.skip_blanks().is_none() {
            return Ok(comparisons);
        }
        reader.and()?;
    }
}

struct Reader<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn error(&self, what: &str) -> String {
        format!(
            "{what}, at position {} of the predicate",
            self.text[..self.at].chars().count() + 1
        )
    }

    fn found(&self) -> String {
        let rest: String = self.rest().chars().take(20).collect();
        if rest.is_empty() {
            "the end".to_owned()
        } else {
            format!("{rest:?}")
        }
    }

    fn operand(&mut self, what: &str) -> Result<String, String> {
        match self.skip_blanks() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            Some(c) if is_plain(c) => {
                let rest = self.rest();
                let word = rest[..rest.find(|c| !is_plain(c)).unwrap_or(rest.len())].to_owned();
                self.at += word.len();
                Ok(word)
            }
            _ => Err(self.error(&format!("expected {what}, found {}", self.found()))),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let (mut value, mut escaped) = (String::new(), false);
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(value);
                }
                c => value.push(c),
            }
        }
        Err(self.error("a quote is not closed"))
    }

    fn equals(&mut self) -> Result<(), String> {
        self.skip_blanks();
        if !self.rest().starts_with('=') || self.rest().starts_with("=~") {
            return Err(self.error(&format!(
                "expected =, which is all that a delete predicate can compare with, found {}",
                self.found()
            )));
        }
        self.at += 1;
        Ok(())
    }

    fn and(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let word = &rest[..rest.find(|c: char| !is_plain(c)).unwrap_or(rest.len())];
        if !word.eq_ignore_ascii_case("AND") {
            return Err(self.error(&format!(
                "expected AND, which is all that can join comparisons here, found {}",
                self.found()
            )));
        }
        self.at += word.len();
        Ok(())
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(k, v)| TagEquals {
                    key: (*k).into(),
                    value: (*v).into(),
                })
                .collect();
            assert_eq!(parse(text), Ok(expected), "{text}");
        };
        check("", &[]);
        check("  ", &[]);
        check("_measurement=\"cpu\"", &[("_measurement", "cpu")]);
        check(
            "key1=\"value1\" AND key2='value 2' and \"AND\" = x-1.5",
            &[("key1", "value1"), ("key2", "value 2"), ("AND", "x-1.5")],
        );
        check(
            r#"a="say \"hi\" \\" AND b='don\'t'"#,
            &[("a", r#"say "hi" \"#), ("b", "don't")],
        );
        check("ключ=значение", &[("ключ", "значение")]);
        check("a=1 AND b=true", &[("a", "1"), ("b", "true")]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |text: &str, word: &str| {
            let message = parse(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message} lacks {word}");
        };
        check("a", "expected =");
        check("a=", "expected a tag value, found the end, at position 3");
        check("=b", "expected a tag key, found \"=b\", at position 1");
        check("a!=b", "found \"!=b\", at position 2");
        check("a=~/b/", "found \"=~/b/\"");
        check(
            "a=b OR c=d",
            "expected AND, which is all that can join comparisons here, found \"OR c=d\", at \
             position 5",
        );
        check("a=b AND", "found the end");
        check("a=b c=d", "expected AND");
        check("(a=b)", "found \"(a=b)\"");
        check("é='b", "not closed, at position 3");
        check("a=''", "empty");
        check("_field=\"x\"", "_field cannot be used");
        check("a=\"b\" AND _time=\"x\"", "_time cannot be used");
    }
}
