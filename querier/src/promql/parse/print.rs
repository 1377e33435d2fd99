//! Trees as text, in Prometheus' normal form: one line, single spaces, matchers sorted. Parsing the
//! text gives the same tree.

use std::fmt::{self, Display, Formatter};

use tidelake_catalog::model::{MatchOp, Matcher};

use super::ast::*;
use super::number::{write_duration, write_number, write_number_short};
use super::quote::{quote, quote_bytes};
use super::token::keyword;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number(number) if number.is_duration => {
                write_duration((number.value * 1000.0).round() as i64, f)
            }
            Expr::Number(number) => write_number(number.value, f),
            Expr::String(text) => f.write_str(&quote_bytes(
                text.not_utf8.as_deref().unwrap_or(text.value.as_bytes()),
            )),
            Expr::Vector(vector) => vector.fmt(f),
            Expr::Matrix(matrix) => matrix.fmt(f),
            Expr::Subquery(subquery) => subquery.fmt(f),
            Expr::Call(call) => call.fmt(f),
            Expr::Aggregate(aggregate) => aggregate.fmt(f),
            Expr::Binary(binary) => binary.fmt(f),
            Expr::Unary(unary) => write!(
                f,
                "{}{}",
                if unary.negative { '-' } else { '+' },
                unary.expr
            ),
            Expr::Paren(paren) => write!(f, "({})", paren.expr),
        }
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_selector(self, f)?;
        write_at(self.at, f)?;
        write_reach(self.reach, f)?;
        write_offset(self.offset.as_ref(), f)
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_selector(&self.selector, f)?;
        write!(f, "[{}]", self.range)?;
        write_reach(self.selector.reach, f)?;
        write_at(self.selector.at, f)?;
        write_offset(self.selector.offset.as_ref(), f)
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expr)?;
        self.write_suffix(f)
    }
}

impl Subquery {
    fn write_suffix(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", self.range)?;
        if let Some(step) = &self.step {
            step.fmt(f)?;
        }
        f.write_str("]")?;
        write_at(self.at, f)?;
        write_offset(self.offset.as_ref(), f)
    }

    /// What follows the expression: `[1h:5m] @ end() offset 1m`.
    pub(super) fn suffix(&self) -> impl Display + '_ {
        fmt::from_fn(|f| self.write_suffix(f))
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name)?;
        for (at, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_head(f)?;
        match &self.param {
            Some(param) => write!(f, "({param}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}

impl Aggregate {
    fn write_head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if self.without || !self.grouping.is_empty() {
            write!(
                f,
                " {} {} ",
                if self.without { "without" } else { "by" },
                LabelList(&self.grouping)
            )?;
        }
        Ok(())
    }

    /// What stands before the parenthesis: `sum by (x) `.
    pub(super) fn head(&self) -> String {
        fmt::from_fn(|f| self.write_head(f)).to_string()
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.lhs)?;
        self.write_operator(f)?;
        write!(f, " {}", self.rhs)
    }
}

impl Binary {
    fn write_operator(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            self.op.as_str(),
            if self.return_bool { " bool" } else { "" }
        )?;
        self.matching
            .as_ref()
            .map_or(Ok(()), |matching| matching.fmt(f))
    }

    /// What stands between the operands: `* on (x) group_left ()`.
    pub(super) fn operator(&self) -> impl Display + '_ {
        fmt::from_fn(|f| self.write_operator(f))
    }
}

/// With a leading space, if there is anything to write.
impl Display for VectorMatching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = match self.cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if self.on || !self.labels.is_empty() || group.is_some() {
            write!(
                f,
                " {} {}",
                if self.on { "on" } else { "ignoring" },
                LabelList(&self.labels)
            )?;
        }
        if let Some(group) = group {
            write!(f, " {group} {}", LabelList(&self.include))?;
        }
        let mut fill = |word: &str, value: f64| {
            write!(f, " {word} (")?;
            write_number_short(value, f)?;
            f.write_str(")")
        };
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if left == right => fill("fill", left)?,
            (left, right) => {
                left.map_or(Ok(()), |value| fill("fill_left", value))?;
                right.map_or(Ok(()), |value| fill("fill_right", value))?;
            }
        }
        Ok(())
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Literal { ms, .. } => write_duration(*ms, f),
            DurationExpr::Number { value, .. } => write_number(*value, f),
            DurationExpr::Step(_) => f.write_str("step()"),
            DurationExpr::Range(_) => f.write_str("range()"),
            DurationExpr::Unary { negative, expr, .. } => {
                write!(f, "{}{expr}", if *negative { "-" } else { "" })
            }
            DurationExpr::Binary { op, lhs, rhs, .. } => write!(f, "{lhs} {} {rhs}", op.as_str()),
            DurationExpr::Extreme { max, lhs, rhs, .. } => write!(
                f,
                "{}({lhs}, {rhs})",
                if *max { "max_of" } else { "min_of" }
            ),
            DurationExpr::Paren(inner, _) => write!(f, "({inner})"),
        }
    }
}

/// The name and the matchers in braces.
fn write_selector(selector: &VectorSelector, f: &mut Formatter<'_>) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    f.write_str(name)?;
    let is_name = |matcher: &Matcher| {
        matcher.name == "__name__" && matcher.op == MatchOp::Equal && matcher.value == name
    };
    let mut matchers: Vec<String> = selector
        .matchers
        .iter()
        .filter(|matcher| name.is_empty() || !is_name(matcher))
        .map(|matcher| {
            format!(
                "{}{}{}",
                label(&matcher.name),
                matcher.op.as_str(),
                quote(&matcher.value)
            )
        })
        .collect();
    matchers.sort_unstable();
    // Without name and matchers it must still read as a selector.
    if matchers.is_empty() && !name.is_empty() {
        Ok(())
    } else {
        write!(f, "{{{}}}", matchers.join(","))
    }
}

fn write_at(at: Option<At>, f: &mut Formatter<'_>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Time(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
    }
}

fn write_reach(reach: Reach, f: &mut Formatter<'_>) -> fmt::Result {
    match reach {
        Reach::Plain => Ok(()),
        Reach::Anchored => f.write_str(" anchored"),
        Reach::Smoothed => f.write_str(" smoothed"),
    }
}

fn write_offset(offset: Option<&DurationExpr>, f: &mut Formatter<'_>) -> fmt::Result {
    offset.map_or(Ok(()), |offset| write!(f, " offset {offset}"))
}

/// `(a, "b.c")`
struct LabelList<'a>(&'a [String]);

impl Display for LabelList<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (at, name) in self.0.iter().enumerate() {
            // Some keywords cannot be read back bare here, though they can in braces.
            let keyword = keyword(name).is_some_and(|kind| !kind.names_label());
            let written = if keyword { quote(name) } else { label(name) };
            write!(f, "{}{written}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

/// A label's name, quoted unless every version of Prometheus reads it bare.
fn label(name: &str) -> String {
    let bare = name
        .chars()
        .enumerate()
        .all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()));
    if bare && !name.is_empty() {
        name.to_owned()
    } else {
        quote(name)
    }
}
