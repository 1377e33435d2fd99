//! Selectors, and what may follow an operand: ranges, subqueries, `offset`, `@`, `anchored`,
//! `smoothed`.

use std::fmt::Write as _;

use tidelake_catalog::model::{MatchOp, Matcher};

use super::ast::*;
use super::duration::Place;
use super::number::{MAX_DURATION_MS, write_number};
use super::parser::{MAX_PATTERN_BYTES, MAX_PATTERNS, Parsed, Parser};
use super::token::{Builtin, Keyword, Kind};

/// The label that holds a metric's name.
const METRIC_NAME: &str = "__name__";

impl Parser<'_> {
    /// `{...}`
    pub(super) fn bare_selector(&mut self) -> Parsed<Box<Expr>> {
        let start = self.token.span.start;
        self.selector(None, start)
    }

    /// A selector whose name has been read; braces may follow.
    pub(super) fn selector(&mut self, name: Option<String>, start: u32) -> Parsed<Box<Expr>> {
        let mut matchers = Vec::new();
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        if self.eat(Kind::LeftBrace) {
            self.matchers(&mut matchers)?;
        }
        self.height = 1;
        let span = self.since(start);
        Ok(Box::new(Expr::Vector(VectorSelector {
            name,
            matchers,
            offset: None,
            at: None,
            reach: Reach::Plain,
            span,
        })))
    }

    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<()> {
        const PLACE: &str = "label matching";
        let mut first = true;
        while first || self.token.kind != Kind::RightBrace {
            let start = self.token.span.start;
            let quoted = self.token.kind == Kind::Text;
            let label = match self.token.kind {
                Kind::Text => self.unquoted()?,
                Kind::Identifier => {
                    let label = self.token.text.to_owned();
                    self.bump();
                    label
                }
                Kind::RightBrace => break,
                _ => return Err(self.unexpected_in(PLACE, "identifier or \"}\"")),
            };
            first = false;
            let op = match self.token.kind {
                Kind::Assign => Some(MatchOp::Equal),
                Kind::Operator(BinaryOp::Neq) => Some(MatchOp::NotEqual),
                Kind::RegexMatch => Some(MatchOp::Regex),
                Kind::RegexMismatch => Some(MatchOp::NotRegex),
                _ => None,
            };
            matchers.push(match op {
                Some(op) => {
                    self.bump();
                    if self.token.kind != Kind::Text {
                        return Err(self.unexpected_in(PLACE, "string"));
                    }
                    let value = self.unquoted()?;
                    self.patterns += usize::from(matches!(op, MatchOp::Regex | MatchOp::NotRegex));
                    if self.patterns > MAX_PATTERNS {
                        let message = format!(
                            "query has more than {MAX_PATTERNS} regular expression matchers"
                        );
                        return Err(self.error(self.since(start), message));
                    }
                    let matcher = Matcher::promql(label, op, value)
                        .map_err(|message| self.error(self.since(start), message))?;
                    self.pattern_bytes += matcher.pattern_bytes();
                    if self.pattern_bytes > MAX_PATTERN_BYTES {
                        let message = format!(
                            "the regular expressions of the query take more than \
                             {MAX_PATTERN_BYTES} bytes"
                        );
                        return Err(self.error(self.since(start), message));
                    }
                    matcher
                }
                None if quoted => Matcher::equal(METRIC_NAME, label),
                None => return Err(self.unexpected_in(PLACE, "label matching operator")),
            });
            if !self.eat(Kind::Comma) && self.token.kind != Kind::RightBrace {
                return Err(self.unexpected_in(PLACE, "\",\" or \"}\""));
            }
        }
        self.bump();
        Ok(())
    }

    /// All that follows an operand and binds more tightly than operators.
    pub(super) fn modifiers(&mut self, mut expr: Box<Expr>) -> Parsed<Box<Expr>> {
        loop {
            match self.token.kind {
                Kind::LeftBracket => expr = self.range(expr)?,
                Kind::Keyword(Keyword::Offset) => self.offset(&mut expr)?,
                Kind::Keyword(Keyword::Anchored) => self.reach(&mut expr, Reach::Anchored)?,
                Kind::Keyword(Keyword::Smoothed) => self.reach(&mut expr, Reach::Smoothed)?,
                Kind::At => self.at(&mut expr)?,
                _ => return Ok(expr),
            }
        }
    }

    /// `[range]` or `[range:step]`
    fn range(&mut self, expr: Box<Expr>) -> Parsed<Box<Expr>> {
        let height = self.height;
        let bracket = self.token.span.start;
        self.bump();
        let range = self.positive_duration(Place::Range)?;
        self.raise(height)?;
        let start = expr.span().start;
        match self.token.kind {
            Kind::RightBracket => {
                self.bump();
                let message = match *expr {
                    Expr::Vector(selector)
                        if selector.offset.is_none() && selector.at.is_none() =>
                    {
                        return Ok(Box::new(Expr::Matrix(MatrixSelector {
                            selector,
                            range,
                            span: self.since(start),
                        })));
                    }
                    Expr::Vector(selector) if selector.offset.is_some() => {
                        "no offset modifiers allowed before range"
                    }
                    Expr::Vector(_) => "no @ modifiers allowed before range",
                    _ => "ranges only allowed for vector selectors",
                };
                Err(self.error(self.since(bracket), message))
            }
            Kind::Colon => {
                let height = self.height;
                self.bump();
                let mut step = None;
                if self.token.kind != Kind::RightBracket {
                    step = Some(self.positive_duration(Place::Step)?);
                    self.height += 1;
                }
                self.height = self.height.max(height);
                if !self.eat(Kind::RightBracket) {
                    return Err(self.unexpected_in("subquery selector", "\"]\""));
                }
                let span = self.since(start);
                Ok(Box::new(Expr::Subquery(Subquery {
                    expr,
                    range,
                    step,
                    offset: None,
                    at: None,
                    span,
                })))
            }
            _ => Err(self.unexpected_in("subquery or range", "\":\" or \"]\"")),
        }
    }

    fn offset(&mut self, expr: &mut Expr) -> Parsed<()> {
        let height = self.height;
        self.bump();
        let duration = self.offset_duration()?;
        self.height = (self.height + 1).max(height);
        let end = self.last_end;
        let (slot, span) = match expr {
            Expr::Vector(vector) => (&mut vector.offset, &mut vector.span),
            Expr::Matrix(matrix) => (&mut matrix.selector.offset, &mut matrix.span),
            Expr::Subquery(subquery) => (&mut subquery.offset, &mut subquery.span),
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or \
                               range vector selector or a subquery";
                return Err(self.error(expr.span(), message));
            }
        };
        if slot.is_some() {
            return Err(self.error(*span, "offset may not be set multiple times"));
        }
        // An offset of nothing is no offset: Prometheus takes another one after it, and ranges too.
        *slot = Some(duration)
            .filter(|duration| !matches!(duration, DurationExpr::Literal { ms: 0, .. }));
        span.end = end;
        Ok(())
    }

    fn reach(&mut self, expr: &mut Expr, reach: Reach) -> Parsed<()> {
        let word = if reach == Reach::Anchored {
            "anchored"
        } else {
            "smoothed"
        };
        self.bump();
        let end = self.last_end;
        let (slot, span) = match expr {
            Expr::Vector(vector) => (&mut vector.reach, &mut vector.span),
            Expr::Matrix(matrix) => (&mut matrix.selector.reach, &mut matrix.span),
            Expr::Subquery(subquery) => {
                return Err(self.error(
                    subquery.span,
                    format!("{word} modifier is not supported for subqueries"),
                ));
            }
            _ => return Err(self.error(expr.span(), format!("{word} modifier not implemented"))),
        };
        if *slot != Reach::Plain && *slot != reach {
            return Err(self.error(
                *span,
                "anchored and smoothed modifiers cannot be used together",
            ));
        }
        *slot = reach;
        span.end = end;
        Ok(())
    }

    /// `@ time`, `@ start()`, `@ end()`
    fn at(&mut self, expr: &mut Expr) -> Parsed<()> {
        const PLACE: &str = "@";
        const EXPECTED: &str = "timestamp";
        self.bump();
        let at = match self.token.kind {
            Kind::Builtin(word @ (Builtin::Start | Builtin::End)) => {
                self.bump();
                if !self.eat(Kind::LeftParen) || !self.eat(Kind::RightParen) {
                    return Err(self.unexpected_in(PLACE, EXPECTED));
                }
                if word == Builtin::Start {
                    At::Start
                } else {
                    At::End
                }
            }
            _ => {
                let negative = self.sign().unwrap_or(false);
                let Some(number) = self.number_token()? else {
                    return Err(self.unexpected_in(PLACE, EXPECTED));
                };
                let seconds = if negative {
                    -number.value
                } else {
                    number.value
                };
                At::Time(milliseconds(seconds).map_err(|message| self.error(expr.span(), message))?)
            }
        };
        let end = self.last_end;
        let (slot, span) = match expr {
            Expr::Vector(vector) => (&mut vector.at, &mut vector.span),
            Expr::Matrix(matrix) => (&mut matrix.selector.at, &mut matrix.span),
            Expr::Subquery(subquery) => (&mut subquery.at, &mut subquery.span),
            _ => {
                let message = "@ modifier must be preceded by an instant vector selector or range \
                               vector selector or a subquery";
                return Err(self.error(expr.span(), message));
            }
        };
        if slot.is_some() {
            return Err(self.error(*span, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        span.end = end;
        Ok(())
    }
}

/// A time in seconds to milliseconds. The bound leaves room to subtract ranges and offsets without
/// overflow.
fn milliseconds(seconds: f64) -> Result<i64, String> {
    let ms = (seconds * 1000.0).round();
    // Durations reach about 9.2e12 ms; times may be a thousand times that and still be far from the
    // ends of i64.
    if ms.abs() <= MAX_DURATION_MS as f64 * 1000.0 {
        return Ok(ms as i64);
    }
    let mut message = "timestamp out of bounds for @ modifier: ".to_owned();
    let written = if seconds.is_finite() {
        write!(message, "{seconds:.6}")
    } else {
        write_number(seconds, &mut message)
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    Err(message)
}
