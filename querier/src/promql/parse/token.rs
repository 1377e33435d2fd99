//! Tokens: what the lexer hands to the parser, and how errors name them.

use super::ast::{AggregateOp, BinaryOp, Span};
use super::quote::quote;

/// What a token is. Keywords are told apart here; whether one serves as a name is the parser's
/// decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The end of the query.
    End,
    /// The lexer failed; its error is in [`super::lexer::Lexer::error`].
    Error,
    /// A name without colons.
    Identifier,
    /// A name with colons.
    MetricIdentifier,
    Number,
    Duration,
    /// A quoted text, quotes included.
    Text,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    At,
    /// `=`
    Assign,
    /// `=~`
    RegexMatch,
    /// `!~`
    RegexMismatch,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Builtin(Builtin),
}

/// Words that modify operators, selectors and aggregations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
}

/// Words that are functions, and also mean something in durations or after `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// A token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    /// As written.
    pub text: &'a str,
    pub span: Span,
}

/// The token that a word stands for, whatever its case; `None` for an ordinary name.
pub(super) fn keyword(word: &str) -> Option<Kind> {
    use AggregateOp as A;
    // The longest keyword has 12 letters; most names in queries are longer and end here.
    let mut lower = [0u8; 12];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"and" => Kind::Operator(BinaryOp::And),
        b"or" => Kind::Operator(BinaryOp::Or),
        b"unless" => Kind::Operator(BinaryOp::Unless),
        b"atan2" => Kind::Operator(BinaryOp::Atan2),
        b"sum" => Kind::Aggregate(A::Sum),
        b"avg" => Kind::Aggregate(A::Avg),
        b"count" => Kind::Aggregate(A::Count),
        b"min" => Kind::Aggregate(A::Min),
        b"max" => Kind::Aggregate(A::Max),
        b"group" => Kind::Aggregate(A::Group),
        b"stddev" => Kind::Aggregate(A::Stddev),
        b"stdvar" => Kind::Aggregate(A::Stdvar),
        b"topk" => Kind::Aggregate(A::Topk),
        b"bottomk" => Kind::Aggregate(A::Bottomk),
        b"count_values" => Kind::Aggregate(A::CountValues),
        b"quantile" => Kind::Aggregate(A::Quantile),
        b"limitk" => Kind::Aggregate(A::Limitk),
        b"limit_ratio" => Kind::Aggregate(A::LimitRatio),
        b"offset" => Kind::Keyword(Keyword::Offset),
        b"smoothed" => Kind::Keyword(Keyword::Smoothed),
        b"anchored" => Kind::Keyword(Keyword::Anchored),
        b"by" => Kind::Keyword(Keyword::By),
        b"without" => Kind::Keyword(Keyword::Without),
        b"on" => Kind::Keyword(Keyword::On),
        b"ignoring" => Kind::Keyword(Keyword::Ignoring),
        b"group_left" => Kind::Keyword(Keyword::GroupLeft),
        b"group_right" => Kind::Keyword(Keyword::GroupRight),
        b"fill" => Kind::Keyword(Keyword::Fill),
        b"fill_left" => Kind::Keyword(Keyword::FillLeft),
        b"fill_right" => Kind::Keyword(Keyword::FillRight),
        b"bool" => Kind::Keyword(Keyword::Bool),
        b"start" => Kind::Builtin(Builtin::Start),
        b"end" => Kind::Builtin(Builtin::End),
        b"step" => Kind::Builtin(Builtin::Step),
        b"range" => Kind::Builtin(Builtin::Range),
        b"max_of" => Kind::Builtin(Builtin::MaxOf),
        b"min_of" => Kind::Builtin(Builtin::MinOf),
        b"inf" | b"nan" => Kind::Number,
        _ => return None,
    })
}

/// The words that mean something inside brackets. `min` and `max` are the older spelling of
/// `min_of` and `max_of`.
pub(super) fn duration_keyword(word: &str) -> Option<Kind> {
    Some(Kind::Builtin(match word.to_ascii_lowercase().as_str() {
        "step" => Builtin::Step,
        "range" => Builtin::Range,
        "max_of" | "max" => Builtin::MaxOf,
        "min_of" | "min" => Builtin::MinOf,
        _ => return None,
    }))
}

impl Kind {
    /// Whether the token may be a metric's name where an expression begins.
    pub fn names_metric(self) -> bool {
        match self {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) | Kind::Builtin(_) => {
                true
            }
            Kind::Operator(op) => matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless),
            Kind::Keyword(word) => {
                use Keyword::*;
                !matches!(word, On | Ignoring | GroupLeft | GroupRight | Bool)
            }
            _ => false,
        }
    }

    /// Whether the token may be a label's name in `by (...)`, `on (...)` and the like.
    pub fn names_label(self) -> bool {
        match self {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) | Kind::Builtin(_) => {
                true
            }
            Kind::Operator(op) => matches!(
                op,
                BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::Atan2
            ),
            Kind::Keyword(word) => word != Keyword::Without,
            _ => false,
        }
    }

    /// Whether an expression may begin with the token.
    pub fn begins_expression(self) -> bool {
        matches!(
            self,
            Kind::Number
                | Kind::Duration
                | Kind::Text
                | Kind::LeftParen
                | Kind::LeftBrace
                | Kind::Operator(BinaryOp::Add | BinaryOp::Sub)
        ) || self.names_metric()
    }
}

impl Token<'_> {
    /// How errors name the token: `identifier "foo"`, `<op:+>`, `"("`.
    pub fn describe(&self) -> String {
        let text = self.text;
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Error => "error".to_owned(),
            Kind::Identifier => format!("identifier {}", quote(text)),
            Kind::MetricIdentifier => format!("metric identifier {}", quote(text)),
            Kind::Number => format!("number {}", shortened(text)),
            Kind::Duration => format!("duration {}", shortened(text)),
            Kind::Text => format!("string {}", shortened(text)),
            Kind::Operator(_) | Kind::At | Kind::RegexMatch | Kind::RegexMismatch => {
                format!("<op:{text}>")
            }
            Kind::Aggregate(_) => format!("<aggr:{text}>"),
            Kind::Keyword(_) => format!("<{text}>"),
            _ => quote(text),
        }
    }
}

/// Literals may be very long; ten letters are enough to find them.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(10) {
        Some((end, _)) => format!("{}...", quote(&text[..end])),
        None => quote(text),
    }
}
