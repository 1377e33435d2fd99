//! What texts have in common that differ only in their constants.

use std::borrow::Cow;

use crate::service::slots::Language;

/// The text with `?` in the place of each string and number, and one space for many. Texts of
/// other languages than SQL and InfluxQL have no times in them and stay as they are.
pub fn shape(language: Language, text: &str) -> Cow<'_, str> {
    match language {
        Language::Sql => Cow::Owned(without_constants(text, false)),
        Language::Influxql => Cow::Owned(without_constants(text, true)),
        _ => Cow::Borrowed(text),
    }
}

fn without_constants(text: &str, has_escapes: bool) -> String {
    let mut shape = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    // Whether a digit belongs to a name or to a parameter.
    let mut in_word = false;
    while let Some(char) = chars.next() {
        match char {
            '\'' => {
                while let Some(inner) = chars.next() {
                    match inner {
                        '\'' if chars.next_if_eq(&'\'').is_none() => break,
                        '\\' if has_escapes => drop(chars.next_if_eq(&'\'')),
                        _ => {}
                    }
                }
                shape.push('?');
            }
            '"' => {
                shape.push('"');
                for inner in chars.by_ref() {
                    shape.push(inner);
                    if inner == '"' {
                        break;
                    }
                }
            }
            digit if digit.is_ascii_digit() && !in_word => {
                let is_number = |next: &char| next.is_alphanumeric() || *next == '.';
                while chars.next_if(is_number).is_some() {}
                shape.push('?');
            }
            space if space.is_whitespace() => {
                while chars.next_if(|next| next.is_whitespace()).is_some() {}
                shape.push(' ');
            }
            other => shape.push(other),
        }
        in_word =
            char.is_alphabetic() || matches!(char, '_' | '$') || (in_word && char.is_numeric());
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_left_out() {
        let check = |text: &str, expected: &str| {
            assert_eq!(without_constants(text, false), expected);
        };
        check("SELECT 1", "SELECT ?");
        check(
            "SELECT a1, b_2 FROM t3\n  WHERE time >= '2026-01-01' AND x<-1.5e3",
            "SELECT a1, b_2 FROM t3 WHERE time >= ? AND x<-?",
        );
        check("x = 'it''s' AND y = 'c'", "x = ? AND y = ?");
        check(r"x = 'c:\' AND y = 'c'", "x = ? AND y = ?");
        let escaped = without_constants(r"x = 'it\'s' AND y = 'c'", true);
        assert_eq!(escaped, "x = ? AND y = ?");
        check(
            r#"SELECT "2 col's 3" FROM t"#,
            r#"SELECT "2 col's 3" FROM t"#,
        );
        check(
            "time > 1700000000000ms GROUP BY time(5m)",
            "time > ? GROUP BY time(?)",
        );
        check("x = $1 AND y IN (1,2)", "x = $1 AND y IN (?,?)");
        // Texts may be cut off anywhere.
        check("x = 'abc", "x = ?");
        check("x = \"abc", "x = \"abc");
        check("é1 = 'é'", "é1 = ?");
    }

    #[test]
    fn promql_is_as_it_is() {
        assert_eq!(shape(Language::Promql, "up{a='1'}[5m]"), "up{a='1'}[5m]");
        assert_eq!(shape(Language::Sql, "SELECT 5"), "SELECT ?");
    }
}
