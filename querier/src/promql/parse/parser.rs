//! Tokens to tree: operators, by precedence climbing. Operands are in `selector.rs` and `call.rs`,
//! durations in `duration.rs`.
//!
//! The tree is never higher than [`MAX_DEPTH`], counting chains of operators too, because
//! everything that walks a tree (type check, planning, printing, dropping) recurses, and a query
//! must not be able to overflow a thread's stack.

use super::ast::*;
use super::error::ParseError;
use super::lexer::Lexer;
use super::number::{parse_duration, parse_number};
use super::quote::{quote, unquote, unquote_bytes};
use super::token::{Keyword, Kind, Token};

/// Most levels of an expression. A chain such as `a + b + c` has as many levels as terms.
pub const MAX_DEPTH: usize = 200;

/// Longest query in bytes.
pub const MAX_QUERY_BYTES: usize = 1 << 20;

/// Most regular expressions of a query. Each may take milliseconds to compile, before any limit on
/// evaluation applies.
pub(super) const MAX_PATTERNS: usize = 1_000;

/// Most bytes of the compiled patterns of a query together: a pattern of a few characters may take
/// megabytes.
pub const MAX_PATTERN_BYTES: usize = 256 << 20;

/// How tightly operators bind.
pub(super) mod precedence {
    /// Anything.
    pub const LOWEST: u8 = 0;
    /// `+`, `-` between operands.
    pub const ADDITIVE: u8 = 4;
    /// `*`, `/`, `%`, `atan2`.
    pub const MULTIPLICATIVE: u8 = 5;
    /// `^`, the only one that groups from the right. A sign binds less tightly: `-1^2` is `-(1^2)`.
    pub const POWER: u8 = 6;
}

/// How tightly an operator binds its operands.
fn binding(op: BinaryOp) -> u8 {
    use BinaryOp::*;
    match op {
        Or => 1,
        And | Unless => 2,
        Eql | Neq | Lt | Gt | Lte | Gte | TrimUpper | TrimLower => 3,
        Add | Sub => precedence::ADDITIVE,
        Mul | Div | Mod | Atan2 => precedence::MULTIPLICATIVE,
        Pow => precedence::POWER,
    }
}

/// What parsing functions return. Trees and errors are boxed so that the functions' frames, of
/// which hundreds are on the stack at once, stay small in unoptimised builds too; for the same
/// reason the recursive functions leave it to others to build nodes.
pub(super) type Parsed<T> = Result<T, Box<ParseError>>;

/// The parser's state: one token of lookahead.
pub(super) struct Parser<'a> {
    pub query: &'a str,
    lexer: Lexer<'a>,
    /// The next token.
    pub token: Token<'a>,
    /// Where the last token read ended.
    pub last_end: u32,
    /// Calls of recursive functions that have not returned.
    depth: usize,
    /// Levels of the tree last returned by a parsing function.
    pub height: usize,
    /// Aggregations whose arguments are being read; errors inside mention it.
    pub aggregations: usize,
    /// Regular expressions so far.
    pub patterns: usize,
    /// Bytes that they take, compiled.
    pub pattern_bytes: usize,
}

impl<'a> Parser<'a> {
    pub fn new(query: &'a str) -> Self {
        let mut lexer = Lexer::new(query);
        let token = lexer.next_token();
        Self {
            query,
            lexer,
            token,
            last_end: 0,
            depth: 0,
            height: 0,
            aggregations: 0,
            patterns: 0,
            pattern_bytes: 0,
        }
    }

    /// The whole query.
    pub fn query(&mut self) -> Parsed<Box<Expr>> {
        if self.query.len() > MAX_QUERY_BYTES {
            let message = format!(
                "query is too long: {} bytes, at most {MAX_QUERY_BYTES} are allowed",
                self.query.len()
            );
            return Err(self.error(Span::default(), message));
        }
        if self.token.kind == Kind::End {
            return Err(self.error(Span::default(), "no expression found in input"));
        }
        let expr = self.expr(precedence::LOWEST)?;
        if self.token.kind != Kind::End {
            return Err(self.unexpected());
        }
        Ok(expr)
    }

    /// An expression of operators that bind at least as tightly as `min`.
    pub fn expr(&mut self, min: u8) -> Parsed<Box<Expr>> {
        self.enter()?;
        let mut lhs = self.operand()?;
        while let Kind::Operator(op) = self.token.kind
            && binding(op) >= min
        {
            lhs = self.binary(lhs, op)?;
        }
        self.leave();
        Ok(lhs)
    }

    /// The rest of a binary expression whose left side has been read.
    fn binary(&mut self, lhs: Box<Expr>, op: BinaryOp) -> Parsed<Box<Expr>> {
        let height = self.height;
        self.bump();
        let (return_bool, matching) = self.matching()?;
        let right_to_left = op == BinaryOp::Pow;
        let rhs = self.expr(binding(op) + u8::from(!right_to_left))?;
        self.raise(height)?;
        Ok(binary(op, lhs, rhs, return_bool, matching))
    }

    /// What may stand between an operator and its right side. That it fits the operands is for the
    /// type check to say.
    fn matching(&mut self) -> Parsed<(bool, VectorMatching)> {
        let mut matching = VectorMatching {
            cardinality: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let return_bool = self.eat(Kind::Keyword(Keyword::Bool));
        if let Kind::Keyword(word @ (Keyword::On | Keyword::Ignoring)) = self.token.kind {
            self.bump();
            matching.on = word == Keyword::On;
            matching.labels = self.labels()?;
            if let Kind::Keyword(word @ (Keyword::GroupLeft | Keyword::GroupRight)) =
                self.token.kind
            {
                self.bump();
                matching.cardinality = if word == Keyword::GroupLeft {
                    Cardinality::ManyToOne
                } else {
                    Cardinality::OneToMany
                };
                if self.token.kind == Kind::LeftParen {
                    matching.include = self.labels()?;
                }
            }
        }
        if self.eat(Kind::Keyword(Keyword::Fill)) {
            let value = self.fill_value()?;
            (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
            return Ok((return_bool, matching));
        }
        loop {
            let side = match self.token.kind {
                Kind::Keyword(Keyword::FillLeft) if matching.fill_left.is_none() => {
                    &mut matching.fill_left
                }
                Kind::Keyword(Keyword::FillRight) if matching.fill_right.is_none() => {
                    &mut matching.fill_right
                }
                _ => return Ok((return_bool, matching)),
            };
            self.bump();
            *side = Some(self.fill_value()?);
        }
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.expect(Kind::LeftParen)?;
        let negative = self.sign().unwrap_or(false);
        let value = self.number_token()?.ok_or_else(|| self.unexpected())?.value;
        self.expect(Kind::RightParen)?;
        Ok(if negative { -value } else { value })
    }

    /// An operand with its signs and with the modifiers that follow it.
    fn operand(&mut self) -> Parsed<Box<Expr>> {
        if matches!(
            self.token.kind,
            Kind::Operator(BinaryOp::Add | BinaryOp::Sub)
        ) {
            return self.signed();
        }
        let expr = match self.token.kind {
            Kind::LeftParen => self.paren()?,
            Kind::LeftBrace => self.bare_selector()?,
            Kind::Text => self.text()?,
            Kind::Number | Kind::Duration => self.number()?,
            Kind::Aggregate(op) => self.aggregate_or_selector(op)?,
            kind if kind.names_metric() => self.call_or_selector()?,
            _ => return Err(self.unexpected()),
        };
        self.modifiers(expr)
    }

    fn signed(&mut self) -> Parsed<Box<Expr>> {
        let start = self.token.span.start;
        let negative = self.sign().unwrap_or(false);
        let mut operand = self.expr(precedence::POWER)?;
        if let Expr::Number(number) = &mut *operand {
            number.value = if negative {
                -number.value
            } else {
                number.value
            };
            number.span.start = start;
            return Ok(operand);
        }
        self.raise(0)?;
        let span = Span {
            start,
            end: operand.span().end,
        };
        Ok(unary(negative, operand, span))
    }

    fn paren(&mut self) -> Parsed<Box<Expr>> {
        let start = self.token.span.start;
        self.bump();
        let expr = self.expr(precedence::LOWEST)?;
        self.expect(Kind::RightParen)?;
        self.raise(0)?;
        Ok(paren(expr, self.since(start)))
    }

    fn number(&mut self) -> Parsed<Box<Expr>> {
        let number = self.number_token()?.ok_or_else(|| self.unexpected())?;
        self.height = 1;
        Ok(Box::new(Expr::Number(number)))
    }

    /// A number or duration without a sign, if the next token is one.
    pub fn number_token(&mut self) -> Parsed<Option<NumberLiteral>> {
        let Token { kind, text, span } = self.token;
        let value = match kind {
            Kind::Number => parse_number(text),
            Kind::Duration => parse_duration(text).map(|ms| ms as f64 / 1000.0),
            _ => return Ok(None),
        };
        let value = value.map_err(|message| self.error(span, message))?;
        self.bump();
        Ok(Some(NumberLiteral {
            value,
            is_duration: kind == Kind::Duration,
            span,
        }))
    }

    fn text(&mut self) -> Parsed<Box<Expr>> {
        let span = self.token.span;
        let bytes = unquote_bytes(self.token.text).map_err(|message| self.error(span, message))?;
        self.bump();
        self.height = 1;
        let (value, not_utf8) = match String::from_utf8(bytes) {
            Ok(value) => (value, None),
            Err(error) => (
                String::from_utf8_lossy(error.as_bytes()).into_owned(),
                Some(error.into_bytes().into()),
            ),
        };
        Ok(Box::new(Expr::String(StringLiteral {
            value,
            not_utf8,
            span,
        })))
    }

    /// The text of the next token, which is a quoted one.
    pub fn unquoted(&mut self) -> Parsed<String> {
        let value =
            unquote(self.token.text).map_err(|message| self.error(self.token.span, message))?;
        self.bump();
        Ok(value)
    }

    /// Labels in parentheses, with or without a comma at the end.
    pub fn labels(&mut self) -> Parsed<Vec<String>> {
        const PLACE: &str = "grouping opts";
        if !self.eat(Kind::LeftParen) {
            return Err(self.unexpected_in(PLACE, "\"(\""));
        }
        let mut labels = Vec::new();
        while self.token.kind != Kind::RightParen {
            let Token { kind, text, span } = self.token;
            let label = match kind {
                Kind::Text => self.unquoted()?,
                kind if kind.names_label() => {
                    self.bump();
                    text.to_owned()
                }
                _ => return Err(self.unexpected_in(PLACE, "label")),
            };
            if label.is_empty() {
                return Err(self.error(
                    span,
                    format!("invalid label name for grouping: {}", quote(&label)),
                ));
            }
            labels.push(label);
            if !self.eat(Kind::Comma) && self.token.kind != Kind::RightParen {
                return Err(self.unexpected_in(PLACE, "\",\" or \")\""));
            }
        }
        self.bump();
        Ok(labels)
    }

    /// Reads the next token.
    pub fn bump(&mut self) {
        self.last_end = self.token.span.end;
        self.token = self.lexer.next_token();
    }

    /// Reads the next token if it is of a kind.
    pub fn eat(&mut self, kind: Kind) -> bool {
        let found = self.token.kind == kind;
        if found {
            self.bump();
        }
        found
    }

    /// Reads the next token, which must be of a kind.
    pub fn expect(&mut self, kind: Kind) -> Parsed<()> {
        if self.eat(kind) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// Reads a sign; whether it is a minus.
    pub fn sign(&mut self) -> Option<bool> {
        let Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.token.kind else {
            return None;
        };
        self.bump();
        Some(op == BinaryOp::Sub)
    }

    /// From a start to the end of the last token read.
    pub fn since(&self, start: u32) -> Span {
        Span {
            start,
            end: self.last_end,
        }
    }

    /// Called on entry of each function that can come to call itself.
    pub fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            Err(self.too_deep())
        } else {
            Ok(())
        }
    }

    /// The counterpart of [`Self::enter`]; not needed after errors, which end parsing.
    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Puts a node on top of the tree last read and of one with `other` levels.
    pub fn raise(&mut self, other: usize) -> Parsed<()> {
        self.height = self.height.max(other) + 1;
        if self.height > MAX_DEPTH {
            Err(self.too_deep())
        } else {
            Ok(())
        }
    }

    fn too_deep(&self) -> Box<ParseError> {
        let message = format!(
            "expression is nested too deeply: parentheses, calls and chained operators have more \
             than {MAX_DEPTH} levels"
        );
        self.error(self.token.span, message)
    }

    /// An error with a place.
    pub fn error(&self, span: Span, message: impl Into<String>) -> Box<ParseError> {
        Box::new(ParseError::new(self.query, span, message))
    }

    /// The next token cannot stand here.
    pub fn unexpected(&self) -> Box<ParseError> {
        self.unexpected_in(
            if self.aggregations > 0 {
                "aggregation"
            } else {
                ""
            },
            "",
        )
    }

    /// The next token cannot stand in `place`, which wants `expected`; either may be empty.
    pub fn unexpected_in(&self, place: &str, expected: &str) -> Box<ParseError> {
        if let Some(error) = &self.lexer.error
            && self.token.kind == Kind::Error
        {
            return Box::new(error.clone());
        }
        let mut message = format!("unexpected {}", self.token.describe());
        if !place.is_empty() {
            message.push_str(" in ");
            message.push_str(place);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.error(self.token.span, message)
    }
}

fn binary(
    op: BinaryOp,
    lhs: Box<Expr>,
    rhs: Box<Expr>,
    return_bool: bool,
    matching: VectorMatching,
) -> Box<Expr> {
    let span = Span {
        start: lhs.span().start,
        end: rhs.span().end,
    };
    Box::new(Expr::Binary(Binary {
        op,
        lhs,
        rhs,
        return_bool,
        matching: Some(matching),
        span,
    }))
}

fn unary(negative: bool, expr: Box<Expr>, span: Span) -> Box<Expr> {
    Box::new(Expr::Unary(Unary {
        negative,
        expr,
        span,
    }))
}

fn paren(expr: Box<Expr>, span: Span) -> Box<Expr> {
    Box::new(Expr::Paren(Paren { expr, span }))
}
