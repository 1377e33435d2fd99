//! Limits on a text's tokens: what the parser would follow without a bound of its own.
//!
//! The parser counts its depth in expressions, queries and tables. It does not in a few other
//! places, and loops there build values that are as deep as the text is long; each limit here
//! belongs to one of them.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::error::SqlError;

/// Parentheses inside parentheses; the parser tries some of them twice per level.
const MAX_PARENTHESES: usize = 24;
/// Words and operators, literals and commas not counted. Bounds chains of operators.
const MAX_WORDS: usize = 20_000;
/// The same word again and again: `INTERVAL INTERVAL ...`.
const MAX_REPEATS: usize = 32;
/// `EXPLAIN` of `EXPLAIN`.
const MAX_EXPLAINS: usize = 4;
/// `[...][...]` as subscripts or array types, and `ARRAY<ARRAY<...`, in the whole text.
const MAX_NESTED_TYPES: usize = 32;
/// Parts of one dotted name.
const MAX_NAME_PARTS: usize = 32;

fn too_many(limit: usize, what: &str) -> SqlError {
    SqlError::BadRequest(format!(
        "the query is too complex: more than {limit} {what}"
    ))
}

/// What a text has at most that is flat: parentheses inside parentheses, and whatever else makes
/// expressions deep.
const FLAT_PARENTHESES: usize = 4;
const FLAT_OPERATORS: usize = 16;

/// Checks the limits in one pass. Says whether the text is flat: such is planned on a small stack.
pub(super) fn check<'a>(tokens: impl Iterator<Item = &'a Token>) -> Result<bool, SqlError> {
    let (mut words, mut open, mut repeats, mut explains, mut types, mut dots) =
        (0usize, 0usize, 0usize, 0usize, 0usize, 0usize);
    let (mut deepest, mut operators) = (0, 0);
    let mut previous = &Token::EOF;
    for token in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen => open += 1,
            Token::RParen => open = open.saturating_sub(1),
            Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::EOF => {}
            _ => words += 1,
        }
        deepest = deepest.max(open);
        operators += usize::from(match token {
            Token::Word(word) => is_operator(&word.value),
            Token::LParen | Token::RParen | Token::Comma | Token::Period => false,
            Token::Number(..) | Token::SingleQuotedString(_) | Token::EOF => false,
            _ => true,
        });
        match token {
            Token::Period => dots += 1,
            Token::Word(_) => {}
            _ => dots = 0,
        }
        if let Token::Word(word) = token
            && word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case("EXPLAIN")
        {
            explains += 1;
        }
        types += usize::from(match (previous, token) {
            (Token::RBracket, Token::LBracket) => true,
            (before, Token::Lt) => is_type(before),
            _ => false,
        });
        repeats = match (previous, token) {
            (Token::Word(before), Token::Word(now))
                if before.value.eq_ignore_ascii_case(&now.value) =>
            {
                repeats + 1
            }
            _ => 0,
        };
        let checks = [
            (open, MAX_PARENTHESES, "open parentheses"),
            (words, MAX_WORDS, "words and operators"),
            (repeats, MAX_REPEATS, "times the same word"),
            (explains, MAX_EXPLAINS, "times EXPLAIN"),
            (types, MAX_NESTED_TYPES, "subscripts or nested types"),
            (dots, MAX_NAME_PARTS, "parts in a name"),
        ];
        if let Some((_, limit, what)) = checks.into_iter().find(|(count, limit, _)| count > limit) {
            return Err(too_many(limit, what));
        }
        previous = token;
    }
    Ok(deepest <= FLAT_PARENTHESES && operators <= FLAT_OPERATORS)
}

fn is_operator(word: &str) -> bool {
    let operators = [
        "AND", "OR", "NOT", "CASE", "WHEN", "IS", "SELECT", "UNION", "LIKE",
    ];
    (operators.iter()).any(|operator| word.eq_ignore_ascii_case(operator))
}

fn is_type(token: &Token) -> bool {
    matches!(token, Token::Word(word) if ["ARRAY", "STRUCT", "MAP"].iter().any(|name| word.value.eq_ignore_ascii_case(name)))
}

/// The first words of a text, to name a statement by.
pub(super) fn first_words<'a>(tokens: impl Iterator<Item = &'a Token>) -> String {
    let words = tokens.filter_map(|token| {
        if let Token::Word(word) = token {
            Some(word.value.to_uppercase())
        } else {
            None
        }
    });
    let text = words.take(2).collect::<Vec<_>>().join(" ");
    text.chars().take(40).collect()
}
