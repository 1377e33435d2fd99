//! Calls of functions, and aggregations.

use super::super::functions;
use super::ast::*;
use super::parser::{Parsed, Parser, precedence};
use super::quote::quote;
use super::token::{Keyword, Kind, Token};

impl Parser<'_> {
    /// A name: a function's if a parenthesis follows, else a metric's.
    pub(super) fn call_or_selector(&mut self) -> Parsed<Box<Expr>> {
        let name = self.token;
        self.bump();
        let callable = matches!(name.kind, Kind::Identifier | Kind::Builtin(_));
        if !callable || self.token.kind != Kind::LeftParen {
            return self.selector(Some(name.text.to_owned()), name.span.start);
        }
        let args = self.args()?;
        self.raise(0)?;
        self.call(name, args)
    }

    fn call(&self, name: Token<'_>, args: Vec<Expr>) -> Parsed<Box<Expr>> {
        // Looked up only after the arguments, so that a misspelt name does not hide an error in
        // their syntax.
        let Some(function) = functions::lookup(name.text) else {
            return Err(self.error(
                name.span,
                format!("unknown function with name {}", quote(name.text)),
            ));
        };
        Ok(Box::new(Expr::Call(Call {
            function,
            args,
            span: self.since(name.span.start),
        })))
    }

    /// An aggregation's name: a metric's if nothing follows that belongs to an aggregation.
    pub(super) fn aggregate_or_selector(&mut self, op: AggregateOp) -> Parsed<Box<Expr>> {
        let name = self.token;
        self.bump();
        let mut grouping = self.grouping()?;
        if grouping.is_none() && self.token.kind != Kind::LeftParen {
            return self.selector(Some(name.text.to_owned()), name.span.start);
        }
        self.aggregations += 1;
        let args = self.args()?;
        self.aggregations -= 1;
        let height = self.height;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        self.height = height;
        self.raise(0)?;
        self.aggregate(op, grouping, args, self.since(name.span.start))
    }

    fn aggregate(
        &self,
        op: AggregateOp,
        grouping: Option<(bool, Vec<String>)>,
        args: Vec<Expr>,
        span: Span,
    ) -> Parsed<Box<Expr>> {
        let got = args.len();
        let mut args = args.into_iter().map(Box::new);
        let wanted = 1 + usize::from(op.has_param());
        let param = if op.has_param() { args.next() } else { None };
        let (Some(expr), None) = (args.next(), args.next()) else {
            let message = match got {
                0 => "no arguments for aggregate expression provided".to_owned(),
                _ => format!(
                    "wrong number of arguments for aggregate expression provided, expected \
                     {wanted}, got {got}"
                ),
            };
            return Err(self.error(span, message));
        };
        let (without, grouping) = grouping.unwrap_or_default();
        Ok(Box::new(Expr::Aggregate(Aggregate {
            op,
            expr,
            param,
            grouping,
            without,
            span,
        })))
    }

    /// `by (...)` or `without (...)`: whether it is `without`, and the labels.
    fn grouping(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let Kind::Keyword(word @ (Keyword::By | Keyword::Without)) = self.token.kind else {
            return Ok(None);
        };
        self.bump();
        Ok(Some((word == Keyword::Without, self.labels()?)))
    }

    /// Arguments in parentheses. Sets `height` to that of the highest.
    fn args(&mut self) -> Parsed<Vec<Expr>> {
        self.expect(Kind::LeftParen)?;
        let (mut args, mut height) = (Vec::new(), 0);
        if self.token.kind != Kind::RightParen {
            loop {
                let arg = self.expr(precedence::LOWEST)?;
                args.push(*arg);
                height = self.height.max(height);
                let comma = self.token.span;
                if !self.eat(Kind::Comma) {
                    break;
                }
                if self.token.kind != Kind::Error && !self.token.kind.begins_expression() {
                    return Err(
                        self.error(comma, "trailing commas not allowed in function call args")
                    );
                }
            }
        }
        self.expect(Kind::RightParen)?;
        self.height = height;
        Ok(args)
    }
}
