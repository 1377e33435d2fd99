//! What a `SELECT` must be like, whatever data there are: arguments of functions, and which of them
//! may stand beside each other.

use super::ast::{Dimension, Expr, Field, Fill, Literal, Select};
use super::condition::{Clock, duration_of, parse_time};
use super::error::InfluxqlError;
use super::eval::Math;

/// What is known of the functions of a `SELECT`.
#[derive(Debug, Default)]
struct Seen {
    calls: usize,
    has_only_selectors: bool,
    has_distinct: bool,
    has_plain: bool,
    top_or_bottom: Option<String>,
}

/// Length and offset of the windows of `GROUP BY time()` in ns.
///
/// # Errors
/// [`InfluxqlError::Invalid`] if there are several, or its arguments are no durations.
pub fn interval(select: &Select, clock: Clock) -> Result<Option<(i64, i64)>, InfluxqlError> {
    let mut interval = None;
    for dimension in &select.dimensions {
        let Dimension::Time(args) = dimension else {
            continue;
        };
        let (every, offset) = match args.as_slice() {
            [every] => (every, None),
            [every, offset] => (every, Some(offset)),
            _ => return Err(invalid("time dimension expected 1 or 2 arguments")),
        };
        let every = duration_of(every)
            .ok_or_else(|| invalid("time dimension must have duration argument"))?;
        if interval.is_some() {
            return Err(invalid("multiple time dimensions not allowed"));
        }
        if every <= 0 {
            return Err(invalid("time dimension must have a duration above 0"));
        }
        let offset = match offset {
            None => 0,
            Some(Expr::Call(name, args)) if name == "now" && args.is_empty() => {
                clock.now.rem_euclid(every)
            }
            Some(Expr::Literal(Literal::String(text))) => {
                parse_time(text, clock.zone)?.rem_euclid(every)
            }
            Some(offset) => duration_of(offset)
                .ok_or_else(|| invalid("time dimension offset must be duration or now()"))?
                .wrapping_rem(every),
        };
        interval = Some((every, offset));
    }
    Ok(interval)
}

/// Checks the columns. `is_windowed` tells whether this query says `GROUP BY time()`, and
/// `is_inherited` whether one around it does.
///
/// # Errors
/// [`InfluxqlError::Invalid`] with what InfluxDB says.
pub fn fields(
    select: &Select,
    fields: &[Field],
    is_windowed: bool,
    is_inherited: bool,
) -> Result<(), InfluxqlError> {
    let mut seen = Seen {
        has_only_selectors: true,
        ..Seen::default()
    };
    let checker = Checker {
        limit: select.limit,
        is_windowed: is_windowed || is_inherited,
        is_own_window: is_windowed,
    };
    for field in fields {
        checker.expr(&field.expr, true, &mut seen)?;
    }
    if fields.is_empty() {
        return Err(invalid("at least 1 non-time field must be queried"));
    }
    if let (Some(name), true) = (&seen.top_or_bottom, seen.calls > 1) {
        return Err(InfluxqlError::Invalid(format!(
            "selector function {name}() cannot be combined with other functions"
        )));
    }
    if seen.calls == 0 {
        match select.fill {
            Fill::None => return Err(invalid("fill(none) must be used with a function")),
            Fill::Linear => return Err(invalid("fill(linear) must be used with a function")),
            _ => {}
        }
        if is_windowed {
            return Err(invalid("GROUP BY requires at least one aggregate function"));
        }
    }
    if seen.has_distinct && (seen.calls != 1 || seen.has_plain) {
        return Err(invalid(
            "aggregate function distinct() cannot be combined with other functions or fields",
        ));
    }
    if seen.has_plain && !seen.has_only_selectors {
        return Err(invalid(
            "mixing aggregate and non-aggregate queries is not supported",
        ));
    }
    if seen.has_plain && seen.calls > 1 {
        return Err(invalid(
            "mixing multiple selector functions with tags or fields is not supported",
        ));
    }
    Ok(())
}

/// Checks that a condition calls nothing but functions of numbers.
///
/// # Errors
/// [`InfluxqlError::Invalid`]
pub fn condition(condition: &Expr) -> Result<(), InfluxqlError> {
    let mut wrong = None;
    condition.walk(&mut |expr| {
        let Expr::Call(name, args) = expr else { return };
        let expected = Math::named(name).map(Math::arity);
        if expected.is_none() {
            wrong.get_or_insert(format!("invalid function call in condition: {name}()"));
        } else if expected != Some(args.len()) {
            wrong.get_or_insert(format!("invalid number of arguments for {name}"));
        }
    });
    match wrong {
        Some(message) => Err(InfluxqlError::Invalid(message)),
        None => Ok(()),
    }
}

struct Checker {
    limit: u64,
    is_windowed: bool,
    is_own_window: bool,
}

impl Checker {
    fn expr(&self, expr: &Expr, alone: bool, seen: &mut Seen) -> Result<(), InfluxqlError> {
        match expr {
            Expr::Reference(_) => seen.has_plain = true,
            Expr::Wildcard(_) if !alone => {
                return Err(invalid("unable to use wildcard in a binary expression"));
            }
            Expr::Literal(Literal::Regex(_)) if !alone => {
                return Err(invalid("unable to use regex in a binary expression"));
            }
            Expr::Wildcard(_) | Expr::Literal(Literal::Regex(_)) => seen.has_plain = true,
            Expr::Literal(_) => {
                return Err(invalid("field must contain at least one variable"));
            }
            Expr::Call(name, args) => match Math::named(name) {
                Some(math) => {
                    count(name, args, math.arity(), math.arity())?;
                    for arg in args.iter().filter(|arg| !is_literal(arg)) {
                        self.expr(arg, alone, seen)?;
                    }
                }
                None => {
                    seen.calls += 1;
                    self.call(name, args, alone, seen)?;
                }
            },
            Expr::Binary(_, left, right) => match (is_literal(left), is_literal(right)) {
                (true, true) => {
                    return Err(invalid(
                        "cannot perform a binary expression on two literals",
                    ));
                }
                (left_is, right_is) => {
                    if !left_is {
                        self.expr(left, false, seen)?;
                    }
                    if !right_is {
                        self.expr(right, false, seen)?;
                    }
                }
            },
            Expr::Logical(..) => return Err(invalid("a condition is no field")),
        }
        Ok(())
    }

    fn call(
        &self,
        name: &str,
        args: &[Expr],
        alone: bool,
        seen: &mut Seen,
    ) -> Result<(), InfluxqlError> {
        match name {
            "min" | "max" | "first" | "last" => {
                count(name, args, 1, 1)?;
                self.symbol(name, &args[0], alone, seen)
            }
            "count" | "sum" | "mean" | "median" | "mode" | "stddev" | "spread" => {
                seen.has_only_selectors = false;
                count(name, args, 1, 1)?;
                match &args[0] {
                    Expr::Call(inner, args) if name == "count" && inner == "distinct" => {
                        distinct(args)
                    }
                    arg => self.symbol(name, arg, alone, seen),
                }
            }
            "percentile" => {
                count(name, args, 2, 2)?;
                if !matches!(
                    args[1],
                    Expr::Literal(Literal::Integer(_) | Literal::Number(_))
                ) {
                    return Err(invalid("expected float argument in percentile()"));
                }
                self.symbol(name, &args[0], alone, seen)
            }
            "sample" => {
                count(name, args, 2, 2)?;
                at_least(&args[1], 1, "sample window must be greater than 1")?;
                self.symbol(name, &args[0], alone, seen)
            }
            "distinct" => {
                seen.has_only_selectors = false;
                seen.has_distinct = true;
                distinct(args)
            }
            "top" | "bottom" => self.top_or_bottom(name, args, seen),
            "integral" => {
                seen.has_only_selectors = false;
                count(name, args, 1, 2)?;
                positive_duration(args.get(1))?;
                self.symbol(name, &args[0], alone, seen)
            }
            "derivative" | "non_negative_derivative" | "elapsed" => {
                count(name, args, 1, 2)?;
                positive_duration(args.get(1))?;
                self.transform(name, &args[0], alone, seen)
            }
            "difference" | "non_negative_difference" | "cumulative_sum" => {
                count(name, args, 1, 1)?;
                self.transform(name, &args[0], alone, seen)
            }
            "moving_average" => {
                count(name, args, 2, 2)?;
                at_least(&args[1], 2, "moving_average window must be greater than 1")?;
                self.transform(name, &args[0], alone, seen)
            }
            "holt_winters" | "holt_winters_with_fit" => {
                count(name, args, 3, 3)?;
                at_least(
                    &args[1],
                    1,
                    "second arg to holt_winters must be greater than 0",
                )?;
                at_least(&args[2], 0, "third arg to holt_winters cannot be negative")?;
                if !matches!(args[0], Expr::Call(..)) {
                    return Err(invalid("must use aggregate function with holt_winters"));
                }
                self.transform(name, &args[0], alone, seen)
            }
            _ => Err(InfluxqlError::Invalid(format!(
                "undefined function {name}()"
            ))),
        }
    }

    /// What a function of points is called with: a field, or several if it stands alone.
    fn symbol(
        &self,
        name: &str,
        arg: &Expr,
        alone: bool,
        seen: &mut Seen,
    ) -> Result<(), InfluxqlError> {
        match arg {
            Expr::Reference(_) => Ok(()),
            Expr::Wildcard(_) | Expr::Literal(Literal::Regex(_)) if alone => {
                seen.has_only_selectors = false;
                Ok(())
            }
            Expr::Wildcard(_) | Expr::Literal(Literal::Regex(_)) => Err(InfluxqlError::Invalid(
                format!("unsupported expression with wildcard: {name}()"),
            )),
            _ => Err(InfluxqlError::Invalid(format!(
                "expected field argument in {name}()"
            ))),
        }
    }

    /// What a function of consecutive points is called with: a field, or with `GROUP BY time()`
    /// another function.
    fn transform(
        &self,
        name: &str,
        arg: &Expr,
        alone: bool,
        seen: &mut Seen,
    ) -> Result<(), InfluxqlError> {
        seen.has_only_selectors = false;
        match arg {
            Expr::Call(inner, args) if Math::named(inner).is_none() => {
                if !self.is_windowed {
                    return Err(InfluxqlError::Invalid(format!(
                        "{name} aggregate requires a GROUP BY interval"
                    )));
                }
                seen.calls += 1;
                match inner.as_str() {
                    "distinct" => distinct(args),
                    inner if is_transform(inner) => Err(InfluxqlError::Invalid(format!(
                        "{name}() of {inner}() is not supported: use a subquery"
                    ))),
                    inner => self.call(inner, args, alone, seen),
                }?;
                seen.calls -= 1;
                Ok(())
            }
            _ if self.is_own_window => Err(InfluxqlError::Invalid(format!(
                "aggregate function required inside the call to {name}"
            ))),
            arg => self.symbol(name, arg, alone, seen),
        }
    }

    fn top_or_bottom(
        &self,
        name: &str,
        args: &[Expr],
        seen: &mut Seen,
    ) -> Result<(), InfluxqlError> {
        if let Some(other) = &seen.top_or_bottom {
            return Err(InfluxqlError::Invalid(format!(
                "selector function {other}() cannot be combined with other functions"
            )));
        }
        let (Some(first), Some(last), true) = (args.first(), args.last(), args.len() >= 2) else {
            return Err(InfluxqlError::Invalid(format!(
                "invalid number of arguments for {name}, expected at least 2, got {}",
                args.len()
            )));
        };
        let Expr::Literal(Literal::Integer(most)) = last else {
            return Err(InfluxqlError::Invalid(format!(
                "expected integer as last argument in {name}()"
            )));
        };
        if *most <= 0 {
            return Err(InfluxqlError::Invalid(format!(
                "limit ({most}) in {name} function must be at least 1"
            )));
        }
        if self.limit > 0 && most.unsigned_abs() > self.limit {
            return Err(InfluxqlError::Invalid(format!(
                "limit ({most}) in {name} function can not be larger than the LIMIT ({}) in the \
                 select statement",
                self.limit
            )));
        }
        if !matches!(first, Expr::Reference(_)) {
            return Err(InfluxqlError::Invalid(format!(
                "expected first argument to be a field in {name}()"
            )));
        }
        let tags = &args[1..args.len() - 1];
        if !tags.iter().all(|tag| matches!(tag, Expr::Reference(_))) {
            return Err(InfluxqlError::Invalid(format!(
                "only fields or tags are allowed in {name}()"
            )));
        }
        seen.has_plain |= !tags.is_empty();
        seen.top_or_bottom = Some(name.to_owned());
        Ok(())
    }
}

/// Whether a function looks at consecutive points.
pub fn is_transform(name: &str) -> bool {
    matches!(
        name,
        "derivative"
            | "non_negative_derivative"
            | "difference"
            | "non_negative_difference"
            | "elapsed"
            | "cumulative_sum"
            | "moving_average"
            | "holt_winters"
            | "holt_winters_with_fit"
    )
}

fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(literal) => !matches!(literal, Literal::Regex(_)),
        Expr::Binary(_, left, right) => is_literal(left) && is_literal(right),
        _ => false,
    }
}

fn count(name: &str, args: &[Expr], least: usize, most: usize) -> Result<(), InfluxqlError> {
    let got = args.len();
    if (least..=most).contains(&got) {
        return Ok(());
    }
    let expected = match least == most {
        true => format!("{least}"),
        false => format!("at least {least} but no more than {most}"),
    };
    Err(InfluxqlError::Invalid(format!(
        "invalid number of arguments for {name}, expected {expected}, got {got}"
    )))
}

fn distinct(args: &[Expr]) -> Result<(), InfluxqlError> {
    match args {
        [Expr::Reference(_)] => Ok(()),
        [_] => Err(invalid("expected field argument in distinct()")),
        [] => Err(invalid("distinct function requires at least one argument")),
        _ => Err(invalid("distinct function can only have one argument")),
    }
}

fn positive_duration(arg: Option<&Expr>) -> Result<(), InfluxqlError> {
    match arg {
        None => Ok(()),
        Some(Expr::Literal(Literal::Duration(ns))) if *ns > 0 => Ok(()),
        Some(Expr::Literal(Literal::Duration(_))) => {
            Err(invalid("duration argument must be positive"))
        }
        Some(_) => Err(invalid("second argument must be a duration")),
    }
}

fn at_least(arg: &Expr, least: i64, message: &str) -> Result<(), InfluxqlError> {
    match arg {
        Expr::Literal(Literal::Integer(number)) if *number >= least => Ok(()),
        Expr::Literal(Literal::Integer(number)) => {
            Err(InfluxqlError::Invalid(format!("{message}, got {number}")))
        }
        _ => Err(invalid("an argument that must be an integer is none")),
    }
}

fn invalid(message: &str) -> InfluxqlError {
    InfluxqlError::invalid(message)
}
