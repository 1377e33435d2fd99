//! Durations of ranges, subqueries and offsets: literals, and arithmetic over them.

use super::ast::{AggregateOp, BinaryOp, DurationExpr, Span};
use super::error::ParseError;
use super::number::{MAX_DURATION_MS, parse_duration, parse_number};
use super::parser::{Parsed, Parser, precedence};
use super::token::{Builtin, Kind, Token};

/// Where a duration stands; errors say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Range,
    Step,
    Offset,
}

impl Parser<'_> {
    /// A duration in brackets; a literal must be positive.
    pub(super) fn positive_duration(&mut self, place: Place) -> Parsed<DurationExpr> {
        let duration = self.duration(place, precedence::LOWEST)?;
        let is_positive = match &duration {
            DurationExpr::Literal { ms, .. } => *ms > 0,
            DurationExpr::Number { value, .. } => *value > 0.0,
            _ => true,
        };
        if is_positive {
            Ok(settled(duration))
        } else {
            Err(self.error(duration.span(), "duration must be greater than 0"))
        }
    }

    /// The duration of an offset. Without parentheses it ends before an operator: `a offset 5m * 2`
    /// is `(a offset 5m) * 2`.
    pub(super) fn offset_duration(&mut self) -> Parsed<DurationExpr> {
        let start = self.token.span.start;
        let duration = if self.token.kind == Kind::LeftParen {
            self.duration(Place::Offset, precedence::LOWEST)?
        } else if let Some(negative) = self.sign() {
            let operand = self.duration_operand(Place::Offset)?;
            self.duration_signed(negative, start, operand)?
        } else {
            self.duration_operand(Place::Offset)?
        };
        Ok(settled(duration))
    }

    /// Arithmetic of operators that bind at least as tightly as `min`.
    fn duration(&mut self, place: Place, min: u8) -> Parsed<DurationExpr> {
        self.enter()?;
        let mut lhs = self.duration_operand(place)?;
        while let Kind::Operator(op) = self.token.kind {
            let binding = match op {
                BinaryOp::Add | BinaryOp::Sub => precedence::ADDITIVE,
                BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => precedence::MULTIPLICATIVE,
                BinaryOp::Pow => precedence::POWER,
                _ => break,
            };
            if binding < min {
                break;
            }
            let (height, op_span) = (self.height, self.token.span);
            self.bump();
            let rhs = self.duration(place, binding + u8::from(op != BinaryOp::Pow))?;
            self.raise(height)?;
            match op {
                BinaryOp::Div if is_zero(&rhs) => {
                    return Err(self.error(op_span, "division by zero"));
                }
                BinaryOp::Mod if is_zero(&rhs) => return Err(self.error(op_span, "modulo by zero")),
                _ => {}
            }
            let span = Span {
                start: lhs.span().start,
                end: rhs.span().end,
            };
            lhs = DurationExpr::Binary {
                op,
                lhs: Box::new(lhs),
                rhs: Box::new(rhs),
                span,
            };
        }
        self.leave();
        Ok(lhs)
    }

    fn duration_operand(&mut self, place: Place) -> Parsed<DurationExpr> {
        let Token { kind, span, .. } = self.token;
        self.height = 1;
        match kind {
            Kind::Number | Kind::Duration => self.duration_literal(),
            Kind::Operator(BinaryOp::Add | BinaryOp::Sub) => {
                let negative = self.sign().unwrap_or(false);
                let operand = self.duration(place, precedence::POWER)?;
                self.duration_signed(negative, span.start, operand)
            }
            Kind::LeftParen => {
                self.bump();
                let inner = self.duration(place, precedence::LOWEST)?;
                self.duration_token(place, Kind::RightParen)?;
                self.raise(0)?;
                Ok(DurationExpr::Paren(Box::new(inner), self.since(span.start)))
            }
            Kind::Builtin(word @ (Builtin::Step | Builtin::Range)) => {
                self.bump();
                self.duration_token(place, Kind::LeftParen)?;
                self.duration_token(place, Kind::RightParen)?;
                let span = self.since(span.start);
                Ok(if word == Builtin::Step {
                    DurationExpr::Step(span)
                } else {
                    DurationExpr::Range(span)
                })
            }
            Kind::Builtin(Builtin::MaxOf) | Kind::Aggregate(AggregateOp::Max) => {
                self.duration_extreme(place, true)
            }
            Kind::Builtin(Builtin::MinOf) | Kind::Aggregate(AggregateOp::Min) => {
                self.duration_extreme(place, false)
            }
            _ => Err(self.unexpected_duration(place)),
        }
    }

    /// `max_of(a, b)`, `min_of(a, b)`
    fn duration_extreme(&mut self, place: Place, max: bool) -> Parsed<DurationExpr> {
        let start = self.token.span.start;
        self.bump();
        self.duration_token(place, Kind::LeftParen)?;
        let lhs = Box::new(self.duration(place, precedence::LOWEST)?);
        let height = self.height;
        self.duration_token(place, Kind::Comma)?;
        let rhs = Box::new(self.duration(place, precedence::LOWEST)?);
        self.duration_token(place, Kind::RightParen)?;
        self.raise(height)?;
        Ok(DurationExpr::Extreme {
            max,
            lhs,
            rhs,
            span: self.since(start),
        })
    }

    fn duration_literal(&mut self) -> Parsed<DurationExpr> {
        let Token { kind, text, span } = self.token;
        let literal = if kind == Kind::Duration {
            parse_duration(text).map(|ms| DurationExpr::Literal { ms, span })
        } else {
            parse_number(text).map(|value| DurationExpr::Number { value, span })
        };
        let literal = literal.map_err(|message| self.error(span, message))?;
        if let DurationExpr::Number { value, .. } = literal
            && (value.is_nan() || value * 1000.0 > MAX_DURATION_MS as f64)
        {
            return Err(self.error(span, "duration out of range"));
        }
        self.bump();
        Ok(literal)
    }

    /// A sign goes into a literal; before anything else a minus is a node and a plus is nothing.
    fn duration_signed(
        &mut self,
        negative: bool,
        start: u32,
        operand: DurationExpr,
    ) -> Parsed<DurationExpr> {
        let span = Span {
            start,
            end: operand.span().end,
        };
        Ok(match operand {
            DurationExpr::Literal { ms, .. } => DurationExpr::Literal {
                ms: if negative { -ms } else { ms },
                span,
            },
            DurationExpr::Number { value, .. } => DurationExpr::Number {
                value: if negative { -value } else { value },
                span,
            },
            operand if negative => {
                self.raise(0)?;
                DurationExpr::Unary {
                    negative,
                    expr: Box::new(operand),
                    span,
                }
            }
            operand => operand,
        })
    }

    fn duration_token(&mut self, place: Place, kind: Kind) -> Parsed<()> {
        if self.eat(kind) {
            Ok(())
        } else {
            Err(self.unexpected_duration(place))
        }
    }

    fn unexpected_duration(&self, place: Place) -> Box<ParseError> {
        const DURATION: &str = "number, duration, step(), or range()";
        match place {
            Place::Range => self.unexpected_in("subquery or range selector", DURATION),
            Place::Step => self.unexpected_in(
                "subquery selector",
                "number, duration, step(), range(), or \"]\"",
            ),
            Place::Offset => self.unexpected_in("offset", DURATION),
        }
    }
}

/// A bare number that is the whole duration is its seconds, rounded to nanoseconds and then cut off
/// at milliseconds.
fn settled(duration: DurationExpr) -> DurationExpr {
    match duration {
        DurationExpr::Number { value, span } => DurationExpr::Literal {
            ms: (value * 1e9).round() as i64 / 1_000_000,
            span,
        },
        duration => duration,
    }
}

fn is_zero(duration: &DurationExpr) -> bool {
    match duration {
        DurationExpr::Literal { ms, .. } => *ms == 0,
        DurationExpr::Number { value, .. } => *value == 0.0,
        _ => false,
    }
}
