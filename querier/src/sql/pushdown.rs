//! Which part of a `WHERE` clause the scan can answer itself.
//!
//! Comparisons of tags become matchers on series, comparisons of `time` a range. SQL and matchers
//! differ in one point: a series without a tag has NULL there in SQL, and a comparison with NULL
//! selects nothing; a matcher sees the empty text instead. Each translation therefore also says
//! "and the tag is there" where the matcher alone would let such series pass. Stored tags are never
//! empty.

use arrow::datatypes::{DataType, TimeUnit as ArrowTimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use tidelake_catalog::model::{MatchOp, Matcher, TimeRange, TimeUnit};

use super::view::{Origin, TableView};

/// Longest list of texts that becomes a matcher.
const MAX_LIST: usize = 10_000;

/// What filters amount to for a scan.
#[derive(Debug, Clone)]
pub(super) struct Pushed {
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
    /// No row can pass.
    pub nothing: bool,
    /// Every row that the scan then gives passes the filter; otherwise it has to be filtered
    /// again.
    pub exact: bool,
}

impl Pushed {
    fn all() -> Self {
        Self {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            nothing: false,
            exact: true,
        }
    }

    fn nothing() -> Self {
        Self {
            nothing: true,
            ..Self::all()
        }
    }

    fn matchers(matchers: Vec<Matcher>) -> Self {
        Self {
            matchers,
            ..Self::all()
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.matchers.extend(other.matchers);
        self.range = self.range.intersect(&other.range);
        self.nothing |= other.nothing || self.range.is_empty();
        self.exact &= other.exact;
        self
    }
}

/// What all filters together amount to; those that cannot be translated are left out.
pub(super) fn translate_all(filters: &[Expr], view: &TableView) -> Pushed {
    filters
        .iter()
        .filter_map(|filter| translate(filter, view))
        .fold(Pushed::all(), Pushed::and)
}

/// What a filter amounts to, if the scan can do anything with it.
pub(super) fn translate(filter: &Expr, view: &TableView) -> Option<Pushed> {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => Some(translate(left, view)?.and(translate(right, view)?)),
        Expr::BinaryExpr(BinaryExpr {
            op: Operator::Or, ..
        }) => {
            let mut values = Vec::new();
            let tag = listed(filter, view, &mut values)?;
            one_of(tag, values)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            comparison(left, *op, right, view).or_else(|| comparison(right, op.swap()?, left, view))
        }
        Expr::InList(InList {
            expr,
            list,
            negated,
        }) => in_list(tag_of(expr, view)?, list, *negated),
        Expr::Like(like) => self::like(like, view),
        Expr::IsNull(expr) => Some(Pushed::matchers(vec![Matcher::equal(
            tag_of(expr, view)?,
            "",
        )])),
        Expr::IsNotNull(expr) => Some(Pushed::matchers(vec![present(tag_of(expr, view)?)?])),
        _ => None,
    }
}

/// The tag that an expression is, casts between kinds of text aside.
fn tag_of<'a>(expr: &Expr, view: &'a TableView) -> Option<&'a str> {
    match expr {
        Expr::Column(column) => match view.origin(&column.name)? {
            Origin::Tag(label) => Some(label),
            _ => None,
        },
        Expr::Cast(cast)
            if matches!(
                cast.field.data_type(),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            ) =>
        {
            tag_of(&cast.expr, view)
        }
        _ => None,
    }
}

/// A literal text; the inner `None` is NULL.
fn text_of(expr: &Expr) -> Option<Option<&str>> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str(),
        _ => None,
    }
}

fn present(tag: &str) -> Option<Matcher> {
    Matcher::new(tag, MatchOp::NotEqual, "").ok()
}

fn comparison(column: &Expr, op: Operator, literal: &Expr, view: &TableView) -> Option<Pushed> {
    if let Some(tag) = tag_of(column, view) {
        let Some(value) = text_of(literal)? else {
            return Some(Pushed::nothing());
        };
        return match op {
            Operator::Eq => one_of(tag, vec![value]),
            Operator::NotEq => {
                let mut matchers = vec![present(tag)?];
                if !value.is_empty() {
                    matchers.push(Matcher::new(tag, MatchOp::NotEqual, value).ok()?);
                }
                Some(Pushed::matchers(matchers))
            }
            // The filter is checked again, so that the two need not agree on every detail of the
            // syntax.
            Operator::RegexMatch => {
                contains(column, MatchOp::Regex, literal, view).map(|pushed| Pushed {
                    exact: false,
                    ..pushed
                })
            }
            _ => None,
        };
    }
    let (times, precision) = time_of(column, view)?;
    let Expr::Literal(literal, _) = literal else {
        return None;
    };
    time_comparison(times, precision, op, nanoseconds(literal)?)
}

/// A tag in which a pattern is found somewhere (or nowhere, for [`MatchOp::NotRegex`]).
pub(super) fn contains(
    column: &Expr,
    op: MatchOp,
    literal: &Expr,
    view: &TableView,
) -> Option<Pushed> {
    let tag = tag_of(column, view)?;
    let Some(value) = text_of(literal)? else {
        return Some(Pushed::nothing());
    };
    // Alone first: an unbalanced pattern must stay an error, whatever is put around it.
    regex::Regex::new(value).ok()?;
    let matcher = Matcher::new(tag, op, format!("(?s:.*)(?-s:{value})(?s:.*)")).ok()?;
    Some(Pushed::matchers(vec![matcher, present(tag)?]))
}

fn one_of(tag: &str, mut values: Vec<&str>) -> Option<Pushed> {
    values.retain(|value| !value.is_empty());
    values.sort_unstable();
    values.dedup();
    match values.as_slice() {
        [] => Some(Pushed::nothing()),
        [value] => Some(Pushed::matchers(vec![Matcher::equal(tag, *value)])),
        values if values.len() > MAX_LIST => None,
        values => {
            let pattern = values
                .iter()
                .map(|value| regex::escape(value))
                .collect::<Vec<_>>()
                .join("|");
            Some(Pushed::matchers(vec![
                Matcher::new(tag, MatchOp::Regex, pattern).ok()?,
            ]))
        }
    }
}

/// The values in `tag = 'a' OR tag = 'b' OR tag IN ('c')`, if all terms are about one tag.
fn listed<'a, 'v>(
    filter: &'a Expr,
    view: &'v TableView,
    values: &mut Vec<&'a str>,
) -> Option<&'v str> {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => {
            let tag = listed(left, view, values)?;
            (listed(right, view, values)? == tag).then_some(tag)
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => {
            let (tag, literal) = match tag_of(left, view) {
                Some(tag) => (tag, right),
                None => (tag_of(right, view)?, left),
            };
            values.extend(text_of(literal)?);
            Some(tag)
        }
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            for item in list {
                values.extend(text_of(item)?);
            }
            tag_of(expr, view)
        }
        _ => None,
    }
}

fn in_list(tag: &str, list: &[Expr], negated: bool) -> Option<Pushed> {
    let values: Vec<Option<&str>> = list.iter().map(text_of).collect::<Option<_>>()?;
    if !negated {
        // A NULL in the list makes no row pass.
        return one_of(tag, values.into_iter().flatten().collect());
    }
    let Some(values) = values.into_iter().collect::<Option<Vec<_>>>() else {
        return Some(Pushed::nothing());
    };
    if values.len() > MAX_LIST {
        return None;
    }
    let mut matchers = vec![present(tag)?];
    let values: Vec<&str> = values
        .into_iter()
        .filter(|value| !value.is_empty())
        .collect();
    match values.as_slice() {
        [] => {}
        [value] => matchers.push(Matcher::new(tag, MatchOp::NotEqual, *value).ok()?),
        values => {
            let pattern = values
                .iter()
                .map(|value| regex::escape(value))
                .collect::<Vec<_>>()
                .join("|");
            matchers.push(Matcher::new(tag, MatchOp::NotRegex, pattern).ok()?);
        }
    }
    Some(Pushed::matchers(matchers))
}

fn like(like: &Like, view: &TableView) -> Option<Pushed> {
    let tag = tag_of(&like.expr, view)?;
    let Some(pattern) = text_of(&like.pattern)? else {
        return Some(Pushed::nothing());
    };
    if like.case_insensitive || like.escape_char.is_some() || pattern.contains('\\') {
        return None;
    }
    let mut regex = String::with_capacity(pattern.len() + 8);
    let mut buffer = [0u8; 4];
    for c in pattern.chars() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut buffer))),
        }
    }
    let op = if like.negated {
        MatchOp::NotRegex
    } else {
        MatchOp::Regex
    };
    Some(Pushed::matchers(vec![
        Matcher::new(tag, op, regex).ok()?,
        present(tag)?,
    ]))
}

/// The unit of `time` if the expression is that column, and the unit in which the expression
/// counts.
fn time_of(expr: &Expr, view: &TableView) -> Option<(i128, i128)> {
    match expr {
        Expr::Column(column) if matches!(view.origin(&column.name)?, Origin::Time) => {
            let unit = match view.time_unit() {
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Nanosecond => 1,
            };
            Some((unit, unit))
        }
        Expr::Cast(cast) => match cast.field.data_type() {
            // With another zone the cast moves the time by its offset.
            DataType::Timestamp(unit, zone) if zone.as_deref().is_none_or(is_utc) => {
                let Expr::Column(_) = cast.expr.as_ref() else {
                    return None;
                };
                let (stored, _) = time_of(&cast.expr, view)?;
                Some((stored, unit_nanoseconds(*unit)))
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Z" | "+00:00" | "+00")
}

fn unit_nanoseconds(unit: ArrowTimeUnit) -> i128 {
    match unit {
        ArrowTimeUnit::Second => 1_000_000_000,
        ArrowTimeUnit::Millisecond => 1_000_000,
        ArrowTimeUnit::Microsecond => 1_000,
        ArrowTimeUnit::Nanosecond => 1,
    }
}

/// Nanoseconds since 1970 of a literal; the inner `None` is NULL.
fn nanoseconds(literal: &ScalarValue) -> Option<Option<i128>> {
    let (value, unit, zone) = match literal {
        ScalarValue::TimestampSecond(value, zone) => (value, ArrowTimeUnit::Second, zone),
        ScalarValue::TimestampMillisecond(value, zone) => (value, ArrowTimeUnit::Millisecond, zone),
        ScalarValue::TimestampMicrosecond(value, zone) => (value, ArrowTimeUnit::Microsecond, zone),
        ScalarValue::TimestampNanosecond(value, zone) => (value, ArrowTimeUnit::Nanosecond, zone),
        _ => return None,
    };
    zone.as_deref()
        .is_none_or(is_utc)
        .then(|| value.map(|value| i128::from(value) * unit_nanoseconds(unit)))
}

/// `stored` and `compared` are the lengths in nanoseconds of the stored unit and of the one in
/// which the query compares.
fn time_comparison(
    stored: i128,
    compared: i128,
    op: Operator,
    literal: Option<i128>,
) -> Option<Pushed> {
    let Some(literal) = literal else {
        return matches!(
            op,
            Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
        )
        .then(Pushed::nothing);
    };
    // A cast to a coarser unit drops digits of the stored time; a range that is one such unit wider
    // on either side has all rows that can pass.
    let slack = if compared > stored { compared } else { 0 };
    let floor = |ns: i128| ns.div_euclid(stored);
    let ceil = |ns: i128| -(-ns).div_euclid(stored);
    let (min, max) = match op {
        Operator::Eq => (ceil(literal - slack), floor(literal + slack)),
        Operator::GtEq => (ceil(literal - slack), i128::MAX),
        Operator::Gt => (floor(literal - slack) + 1, i128::MAX),
        Operator::LtEq => (i128::MIN, floor(literal + slack)),
        Operator::Lt => (i128::MIN, ceil(literal + slack) - 1),
        _ => return None,
    };
    if min > max || min > i128::from(i64::MAX) || max < i128::from(i64::MIN) {
        return Some(Pushed::nothing());
    }
    let clamp = |time: i128| time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    Some(Pushed {
        range: TimeRange::new(clamp(min), clamp(max)),
        exact: slack == 0,
        ..Pushed::all()
    })
}
