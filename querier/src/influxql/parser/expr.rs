//! Expressions.

use super::super::ast::{Cast, Expr, Literal, Operator, Reference};
use super::super::lexer::Token;
use super::{MAX_CHAIN, ParseError, Parser};

impl Parser<'_> {
    /// An expression of operators that bind at least as strongly.
    pub(super) fn expr(&mut self, least: u8) -> Result<Expr, ParseError> {
        let mut left = self.nested(Self::operand)?;
        let mut chained = 0;
        while let Some(op) = self.operator() {
            let precedence = op.precedence();
            if precedence < least {
                break;
            }
            self.advance()?;
            let right = match op {
                Operator::Matches | Operator::NotMatches => {
                    Expr::Literal(Literal::Regex(self.expect_regex()?))
                }
                _ => self.nested(|parser| parser.expr(precedence + 1))?,
            };
            left = match (op, left) {
                (Operator::And | Operator::Or, Expr::Logical(joined, mut terms))
                    if joined == op && chained > 0 =>
                {
                    terms.push(right);
                    Expr::Logical(op, terms)
                }
                (Operator::And | Operator::Or, left) => Expr::Logical(op, vec![left, right]),
                (op, left) => {
                    chained += 1;
                    if chained > MAX_CHAIN {
                        return Err(self.error("the expression has too many operands"));
                    }
                    Expr::Binary(op, Box::new(left), Box::new(right))
                }
            };
            if matches!(left, Expr::Logical(..)) {
                chained = 1;
            }
        }
        Ok(left)
    }

    fn operator(&self) -> Option<Operator> {
        if self.is_keyword("AND") {
            return Some(Operator::And);
        }
        if self.is_keyword("OR") {
            return Some(Operator::Or);
        }
        let Token::Symbol(symbol) = self.peek() else {
            return None;
        };
        Some(match *symbol {
            "=" => Operator::Equal,
            "!=" | "<>" => Operator::NotEqual,
            "=~" => Operator::Matches,
            "!~" => Operator::NotMatches,
            "<" => Operator::Less,
            "<=" => Operator::LessEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterEqual,
            "+" => Operator::Add,
            "-" => Operator::Subtract,
            "|" => Operator::BitOr,
            "^" => Operator::BitXor,
            "*" => Operator::Multiply,
            "/" => Operator::Divide,
            "%" => Operator::Modulo,
            "&" => Operator::BitAnd,
            _ => return None,
        })
    }

    fn operand(&mut self) -> Result<Expr, ParseError> {
        if self.take_symbol("(")? {
            let inner = self.expr(0)?;
            self.expect_symbol(")")?;
            return Ok(inner);
        }
        if self.take_symbol("*")? {
            let cast = match self.take_symbol("::")? {
                true => Some(self.cast()?),
                false => None,
            };
            return match cast {
                None | Some(Cast::Field | Cast::Tag) => Ok(Expr::Wildcard(cast)),
                Some(_) => Err(self.unexpected(&["field", "tag"])),
            };
        }
        if self.take_symbol("-")? {
            return self.negative();
        }
        if self.take_symbol("+")? {
            return match self.peek() {
                Token::Integer(_) | Token::Number(_) | Token::Duration(_) => self.operand(),
                _ => Err(self.unexpected(&["number"])),
            };
        }
        if let Some(pattern) = self.regex()? {
            return Ok(Expr::Literal(Literal::Regex(pattern)));
        }
        if let Some(literal) = self.literal()? {
            return Ok(Expr::Literal(literal));
        }
        if self.is_keyword("DISTINCT") {
            self.advance()?;
            return self.distinct();
        }
        if !self.is_identifier() {
            return Err(self.unexpected(&["identifier", "string", "number", "bool"]));
        }
        self.call_or_reference()
    }

    fn negative(&mut self) -> Result<Expr, ParseError> {
        // The least integer has a sign to be one.
        if let Token::Integer(digits) = self.peek()
            && let Ok(number) = format!("-{digits}").parse()
        {
            self.advance()?;
            return Ok(Expr::Literal(Literal::Integer(number)));
        }
        match self.nested(Self::operand)? {
            Expr::Literal(Literal::Integer(number)) => {
                Ok(Expr::Literal(Literal::Integer(number.wrapping_neg())))
            }
            Expr::Literal(Literal::Number(number)) => Ok(Expr::Literal(Literal::Number(-number))),
            Expr::Literal(Literal::Duration(ns)) => {
                Ok(Expr::Literal(Literal::Duration(ns.wrapping_neg())))
            }
            expr @ (Expr::Reference(_) | Expr::Call(..) | Expr::Binary(..)) => Ok(Expr::Binary(
                Operator::Multiply,
                Box::new(Expr::Literal(Literal::Integer(-1))),
                Box::new(expr),
            )),
            _ => Err(self.error("only numbers, durations and fields can be negative")),
        }
    }

    /// A constant, if one stands here.
    fn literal(&mut self) -> Result<Option<Literal>, ParseError> {
        let literal = match self.peek() {
            Token::Text(text) => Literal::String(text.clone()),
            Token::Integer(digits) => match (digits.parse(), digits.parse()) {
                (Ok(number), _) => Literal::Integer(number),
                (_, Ok(number)) => Literal::Unsigned(number),
                _ => return Err(self.error("unable to parse integer")),
            },
            Token::Number(digits) => match digits.parse() {
                Ok(number) => Literal::Number(number),
                Err(_) => return Err(self.error("unable to parse number")),
            },
            Token::Duration(ns) => Literal::Duration(*ns),
            Token::Param(name) => self.param(name)?,
            _ if self.is_keyword("TRUE") => Literal::Boolean(true),
            _ if self.is_keyword("FALSE") => Literal::Boolean(false),
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(literal))
    }

    /// What follows `DISTINCT`: a name, or one in parentheses.
    fn distinct(&mut self) -> Result<Expr, ParseError> {
        let args = match self.take_symbol("(")? {
            true => self.arguments()?,
            false => vec![Expr::reference(self.identifier()?)],
        };
        Ok(Expr::Call("distinct".to_owned(), args))
    }

    fn call_or_reference(&mut self) -> Result<Expr, ParseError> {
        let is_bare = matches!(self.peek(), Token::Word(_));
        let mut name = self.identifier()?;
        if is_bare && self.take_symbol("(")? {
            let args = self.arguments()?;
            return Ok(Expr::Call(name.to_ascii_lowercase(), args));
        }
        // A name may have parts, as one of a measurement has.
        while self.take_symbol(".")? {
            name.push('.');
            name.push_str(&self.identifier()?);
        }
        let cast = match self.take_symbol("::")? {
            true => Some(self.cast()?),
            false => None,
        };
        Ok(Expr::Reference(Reference { name, cast }))
    }

    /// Arguments up to and with the closing parenthesis.
    fn arguments(&mut self) -> Result<Vec<Expr>, ParseError> {
        let mut args = Vec::new();
        if self.take_symbol(")")? {
            return Ok(args);
        }
        loop {
            args.push(match self.regex()? {
                Some(pattern) => Expr::Literal(Literal::Regex(pattern)),
                None => self.expr(0)?,
            });
            if self.take_symbol(")")? {
                return Ok(args);
            }
            self.expect_symbol(",")?;
        }
    }

    fn cast(&mut self) -> Result<Cast, ParseError> {
        let found = match self.peek() {
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "float" => Some(Cast::Float),
                "integer" => Some(Cast::Integer),
                "unsigned" => Some(Cast::Unsigned),
                "string" => Some(Cast::String),
                "boolean" => Some(Cast::Boolean),
                "field" => Some(Cast::Field),
                "tag" => Some(Cast::Tag),
                _ => None,
            },
            _ => None,
        };
        let expected = [
            "float", "integer", "unsigned", "string", "boolean", "field", "tag",
        ];
        let cast = found.ok_or_else(|| self.unexpected(&expected))?;
        self.advance()?;
        Ok(cast)
    }
}
