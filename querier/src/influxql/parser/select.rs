//! `SELECT`.

use super::super::ast::{
    Dimension, Expr, Field, Fill, Literal, Measurement, MeasurementName, Select, Source,
};
use super::super::lexer::Token;
use super::{ParseError, Parser};

impl Parser<'_> {
    /// What follows `SELECT`.
    pub(super) fn select(&mut self) -> Result<Select, ParseError> {
        let mut fields = vec![self.field()?];
        while self.take_symbol(",")? {
            fields.push(self.field()?);
        }
        if self.is_keyword("INTO") {
            return Err(ParseError::Unsupported(
                "SELECT ... INTO is not supported: write the answer back with line protocol"
                    .to_owned(),
            ));
        }
        self.expect_keyword("FROM")?;
        let mut sources = vec![self.source()?];
        while self.take_symbol(",")? {
            sources.push(self.source()?);
        }
        let condition = self.condition()?;
        let (dimensions, fill) = self.group_by()?;
        let (is_ordered, descending) = self.order_by()?;
        let [limit, offset, series_limit, series_offset] = self.limits()?;
        let zone = self.zone()?;
        Ok(Select {
            fields,
            sources,
            condition,
            dimensions,
            fill,
            descending,
            is_ordered,
            limit,
            offset,
            series_limit,
            series_offset,
            zone,
        })
    }

    fn field(&mut self) -> Result<Field, ParseError> {
        let expr = self.expr(0)?;
        let alias = match self.take_keyword("AS")? {
            true => Some(self.identifier()?),
            false => None,
        };
        Ok(Field { expr, alias })
    }

    fn source(&mut self) -> Result<Source, ParseError> {
        if self.take_symbol("(")? {
            let inner = self.nested(|parser| {
                parser.expect_keyword("SELECT")?;
                parser.select()
            })?;
            self.expect_symbol(")")?;
            return Ok(Source::Subquery(Box::new(inner)));
        }
        self.measurement().map(Source::Measurement)
    }

    /// `database.policy.name`, of which all but the name may be left out or empty.
    pub(super) fn measurement(&mut self) -> Result<Measurement, ParseError> {
        let mut parts: Vec<Option<String>> = Vec::new();
        loop {
            if let Some(pattern) = self.regex()? {
                return self.qualified(parts, MeasurementName::Regex(pattern));
            }
            if self.is_symbol(".") && parts.len() == 1 {
                // `database..name`
                self.advance()?;
                parts.push(None);
                continue;
            }
            parts.push(Some(self.identifier()?));
            if !self.take_symbol(".")? {
                break;
            }
        }
        match parts.pop().flatten() {
            Some(name) => self.qualified(parts, MeasurementName::Name(name)),
            None => Err(self.unexpected(&["identifier"])),
        }
    }

    fn qualified(
        &self,
        parts: Vec<Option<String>>,
        name: MeasurementName,
    ) -> Result<Measurement, ParseError> {
        let mut parts = parts.into_iter();
        let (database, policy) = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => (None, None),
            (Some(policy), None, _) => (None, policy),
            (Some(database), Some(policy), None) => (database, policy),
            _ => {
                return Err(self.error(
                    "too many segments: a measurement is named database.policy.measurement",
                ));
            }
        };
        Ok(Measurement {
            database,
            policy,
            name,
        })
    }

    /// `WHERE`, if it stands here.
    pub(super) fn condition(&mut self) -> Result<Option<Expr>, ParseError> {
        match self.take_keyword("WHERE")? {
            true => self.expr(0).map(Some),
            false => Ok(None),
        }
    }

    fn group_by(&mut self) -> Result<(Vec<Dimension>, Fill), ParseError> {
        let mut dimensions = Vec::new();
        if self.take_keyword("GROUP")? {
            self.expect_keyword("BY")?;
            dimensions.push(self.dimension()?);
            while self.take_symbol(",")? {
                dimensions.push(self.dimension()?);
            }
        }
        let mut fill = Fill::Null;
        if self.is_keyword("fill") {
            self.advance()?;
            self.expect_symbol("(")?;
            fill = self.fill()?;
            self.expect_symbol(")")?;
        }
        Ok((dimensions, fill))
    }

    fn dimension(&mut self) -> Result<Dimension, ParseError> {
        if let Some(pattern) = self.regex()? {
            return Ok(Dimension::Regex(pattern));
        }
        match self.expr(0)? {
            Expr::Wildcard(_) => Ok(Dimension::All),
            Expr::Reference(tag) if tag.name.eq_ignore_ascii_case("time") => {
                Err(ParseError::Meaningless(
                    "time() is a function and expects at least one argument".to_owned(),
                ))
            }
            Expr::Reference(tag) => Ok(Dimension::Tag(tag.name)),
            Expr::Call(name, args) if name == "time" => Ok(Dimension::Time(args)),
            Expr::Call(..) => Err(ParseError::Meaningless(
                "only time() calls allowed in dimensions".to_owned(),
            )),
            _ => Err(ParseError::Meaningless(
                "only time and tag dimensions allowed".to_owned(),
            )),
        }
    }

    fn fill(&mut self) -> Result<Fill, ParseError> {
        let word = match self.peek() {
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => String::new(),
        };
        let fill = match word.as_str() {
            "null" => Fill::Null,
            "none" => Fill::None,
            "previous" => Fill::Previous,
            "linear" => Fill::Linear,
            _ => {
                return match self.expr(0)? {
                    Expr::Literal(Literal::Integer(number)) => Ok(Fill::Integer(number)),
                    Expr::Literal(Literal::Number(number)) => Ok(Fill::Number(number)),
                    _ => Err(self.unexpected(&["null", "none", "previous", "linear", "number"])),
                };
            }
        };
        self.advance()?;
        Ok(fill)
    }

    /// Whether `ORDER BY` stands here, and whether the newest rows come first.
    pub(super) fn order_by(&mut self) -> Result<(bool, bool), ParseError> {
        if !self.take_keyword("ORDER")? {
            return Ok((false, false));
        }
        self.expect_keyword("BY")?;
        let is_bare = self.is_keyword("ASC") || self.is_keyword("DESC");
        if !is_bare {
            let name = self.identifier()?;
            if !name.eq_ignore_ascii_case("time") {
                return Err(ParseError::Syntax(
                    "only ORDER BY time supported at this time".to_owned(),
                ));
            }
        }
        let descending = self.take_keyword("DESC")?;
        if !descending {
            self.take_keyword("ASC")?;
        }
        Ok((true, descending))
    }

    /// `LIMIT`, `OFFSET`, `SLIMIT` and `SOFFSET`, in this order.
    pub(super) fn limits(&mut self) -> Result<[u64; 4], ParseError> {
        let mut limits = [0; 4];
        let words = ["LIMIT", "OFFSET", "SLIMIT", "SOFFSET"];
        for (limit, word) in limits.iter_mut().zip(words) {
            if self.take_keyword(word)? {
                *limit = self.count()?;
            }
        }
        Ok(limits)
    }

    fn zone(&mut self) -> Result<Option<chrono_tz::Tz>, ParseError> {
        if !self.take_keyword("tz")? {
            return Ok(None);
        }
        self.expect_symbol("(")?;
        let name = match self.peek() {
            Token::Text(name) => name.clone(),
            _ => return Err(self.unexpected(&["string"])),
        };
        let zone = name
            .parse()
            .map_err(|_| ParseError::Syntax(format!("unable to find time zone {name}")))?;
        self.advance()?;
        self.expect_symbol(")")?;
        Ok(Some(zone))
    }
}
