//! Expressions over the values of one row.

use regex::Regex;

use super::ast::{Expr, Literal, Operator, Reference};
use super::error::InfluxqlError;
use super::value::{DataType, Value, ValueRef};

/// A function of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Math {
    Abs,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Atan2,
    Exp,
    Log,
    Ln,
    Log2,
    Log10,
    Sqrt,
    Pow,
    Floor,
    Ceil,
    Round,
}

impl Math {
    /// The function of a name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "abs" => Self::Abs,
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" => Self::Tan,
            "asin" => Self::Asin,
            "acos" => Self::Acos,
            "atan" => Self::Atan,
            "atan2" => Self::Atan2,
            "exp" => Self::Exp,
            "log" => Self::Log,
            "ln" => Self::Ln,
            "log2" => Self::Log2,
            "log10" => Self::Log10,
            "sqrt" => Self::Sqrt,
            "pow" => Self::Pow,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            "round" => Self::Round,
            _ => return None,
        })
    }

    /// How many arguments it takes.
    pub fn arity(self) -> usize {
        match self {
            Self::Atan2 | Self::Log | Self::Pow => 2,
            _ => 1,
        }
    }

    /// Whether the result of an integer is one.
    fn keeps_integers(self) -> bool {
        matches!(self, Self::Abs | Self::Floor | Self::Ceil | Self::Round)
    }

    fn call(self, args: [ValueRef<'_>; 2]) -> ValueRef<'static> {
        let [first, second] = args;
        match (self, first) {
            (Self::Abs, ValueRef::Integer(value)) => {
                return ValueRef::Integer(value.wrapping_abs());
            }
            (_, ValueRef::Integer(value)) if self.keeps_integers() => {
                return ValueRef::Integer(value);
            }
            (_, ValueRef::Unsigned(value)) if self.keeps_integers() => {
                return ValueRef::Unsigned(value);
            }
            _ => {}
        }
        let Some(x) = first.as_float() else {
            return ValueRef::Null;
        };
        let y = match (self.arity(), second.as_float()) {
            (2, None) => return ValueRef::Null,
            (_, y) => y.unwrap_or(0.0),
        };
        ValueRef::Float(match self {
            Self::Abs => x.abs(),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Asin => x.asin(),
            Self::Acos => x.acos(),
            Self::Atan => x.atan(),
            Self::Atan2 => x.atan2(y),
            Self::Exp => x.exp(),
            Self::Log => x.ln() / y.ln(),
            Self::Ln => x.ln(),
            Self::Log2 => x.log2(),
            Self::Log10 => x.log10(),
            Self::Sqrt => x.sqrt(),
            Self::Pow => x.powf(y),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            // Half goes away from zero.
            Self::Round => x.round(),
        })
    }
}

/// Where a value of a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// What was read.
    Slot(usize),
    /// What a function made of it.
    Call(usize),
}

/// An expression whose references are positions.
#[derive(Debug, Clone)]
pub enum Node {
    /// The value at a position.
    Value(At),
    /// A constant.
    Constant(Value),
    /// `left op right`
    Binary(Operator, Box<Node>, Box<Node>),
    /// All or any of several.
    Logical(Operator, Vec<Node>),
    /// Whether a text matches, or does not.
    Matches(Box<Node>, Regex, bool),
    /// A function of numbers.
    Math(Math, Vec<Node>),
}

impl Node {
    /// An expression with `resolve` for its references and for calls that are no functions of
    /// numbers.
    pub fn build(
        expr: &Expr,
        resolve: &mut dyn FnMut(&Expr) -> Result<Node, InfluxqlError>,
    ) -> Result<Self, InfluxqlError> {
        Ok(match expr {
            Expr::Literal(literal) => Self::Constant(Value::of(literal)),
            Expr::Binary(op @ (Operator::Matches | Operator::NotMatches), text, pattern) => {
                let Expr::Literal(Literal::Regex(pattern)) = &**pattern else {
                    return Err(InfluxqlError::invalid("what =~ compares with is no regex"));
                };
                let text = Self::build(text, resolve)?;
                let regex = pattern.regex.clone();
                Self::Matches(Box::new(text), regex, *op == Operator::Matches)
            }
            Expr::Binary(op, left, right) => {
                let left = Box::new(Self::build(left, resolve)?);
                Self::Binary(*op, left, Box::new(Self::build(right, resolve)?))
            }
            Expr::Logical(op, terms) => {
                let terms = terms.iter().map(|term| Self::build(term, resolve));
                Self::Logical(*op, terms.collect::<Result<_, _>>()?)
            }
            Expr::Call(name, args) => match Math::named(name) {
                Some(math) => {
                    let args = args.iter().map(|arg| Self::build(arg, resolve));
                    Self::Math(math, args.collect::<Result<_, _>>()?)
                }
                None => resolve(expr)?,
            },
            Expr::Reference(_) | Expr::Wildcard(_) => resolve(expr)?,
        })
    }

    /// The value of a row.
    pub fn eval<'a>(&'a self, row: &dyn Fn(At) -> ValueRef<'a>) -> ValueRef<'a> {
        match self {
            Self::Value(at) => row(*at),
            Self::Constant(value) => value.as_ref(),
            Self::Binary(op, left, right) => binary(*op, left.eval(row), right.eval(row)),
            Self::Logical(op, terms) => {
                const TRUE: ValueRef<'static> = ValueRef::Boolean(true);
                ValueRef::Boolean(match op {
                    Operator::And => terms.iter().all(|term| term.eval(row) == TRUE),
                    _ => terms.iter().any(|term| term.eval(row) == TRUE),
                })
            }
            Self::Matches(text, regex, wanted) => match text.eval(row) {
                ValueRef::String(text) => ValueRef::Boolean(regex.is_match(text) == *wanted),
                _ => ValueRef::Boolean(false),
            },
            Self::Math(math, args) => {
                let arg = |at: usize| args.get(at).map_or(ValueRef::Null, |arg| arg.eval(row));
                math.call([arg(0), arg(1)])
            }
        }
    }

    /// Whether any position passes.
    pub fn any(&self, is: &dyn Fn(At) -> bool) -> bool {
        match self {
            Self::Value(at) => is(*at),
            Self::Constant(_) => false,
            Self::Binary(_, left, right) => left.any(is) || right.any(is),
            Self::Logical(_, terms) | Self::Math(_, terms) => terms.iter().any(|term| term.any(is)),
            Self::Matches(text, ..) => text.any(is),
        }
    }
}

/// An operator and two values. Of a value and none nothing comes, but that none is false beside a
/// boolean; values that cannot be compared are neither equal nor different.
fn binary<'a>(op: Operator, left: ValueRef<'a>, right: ValueRef<'a>) -> ValueRef<'a> {
    use ValueRef::{Boolean, Float, Integer, Null, String, Unsigned};
    let (left, right) = match (left, right) {
        (Null, Boolean(right)) => (Boolean(false), Boolean(right)),
        (Boolean(left), Null) => (Boolean(left), Boolean(false)),
        sides => sides,
    };
    let value = match (left, right) {
        (Boolean(a), Boolean(b)) => match op {
            Operator::BitAnd => Some(Boolean(a & b)),
            Operator::BitOr => Some(Boolean(a | b)),
            Operator::BitXor => Some(Boolean(a ^ b)),
            Operator::Equal => Some(Boolean(a == b)),
            Operator::NotEqual => Some(Boolean(a != b)),
            _ => None,
        },
        (String(a), String(b)) => match op {
            Operator::Equal => Some(Boolean(a == b)),
            Operator::NotEqual => Some(Boolean(a != b)),
            _ => None,
        },
        (Integer(a), Integer(b)) => integers(op, a, b),
        (Unsigned(a), Unsigned(b)) => unsigned(op, a, b),
        (Integer(a), Unsigned(b)) | (Unsigned(b), Integer(a)) if op.is_comparison() => {
            let is_swapped = matches!(left, Unsigned(_));
            let (a, b) = (i128::from(a), i128::from(b));
            let (a, b) = if is_swapped { (b, a) } else { (a, b) };
            compared(op, a.partial_cmp(&b))
        }
        (Integer(a), Unsigned(b)) => match u64::try_from(a) {
            Ok(a) => unsigned(op, a, b),
            Err(_) => floats(op, a as f64, b as f64),
        },
        (Unsigned(a), Integer(b)) => match u64::try_from(b) {
            Ok(b) => unsigned(op, a, b),
            Err(_) => floats(op, a as f64, b as f64),
        },
        (Float(_), Float(_) | Integer(_) | Unsigned(_)) | (Integer(_) | Unsigned(_), Float(_)) => {
            match (left.as_float(), right.as_float()) {
                (Some(a), Some(b)) => floats(op, a, b),
                _ => None,
            }
        }
        _ => None,
    };
    match value {
        Some(value) => value,
        None if op.is_comparison() => Boolean(false),
        None => Null,
    }
}

fn compared(op: Operator, order: Option<std::cmp::Ordering>) -> Option<ValueRef<'static>> {
    let order = order.map(|order| match op {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        _ => order.is_ge(),
    });
    Some(ValueRef::Boolean(order.unwrap_or(op == Operator::NotEqual)))
}

fn floats(op: Operator, a: f64, b: f64) -> Option<ValueRef<'static>> {
    if op.is_comparison() {
        return compared(op, a.partial_cmp(&b));
    }
    let value = match op {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide if b == 0.0 => 0.0,
        Operator::Divide => a / b,
        Operator::Modulo => a % b,
        _ => return None,
    };
    Some(ValueRef::Float(value))
}

/// Arithmetic of whole numbers wraps around; what is divided becomes a float.
macro_rules! whole_numbers {
    ($name:ident, $number:ty, $value:path) => {
        fn $name(op: Operator, a: $number, b: $number) -> Option<ValueRef<'static>> {
            if op.is_comparison() {
                return compared(op, Some(a.cmp(&b)));
            }
            Some($value(match op {
                Operator::Add => a.wrapping_add(b),
                Operator::Subtract => a.wrapping_sub(b),
                Operator::Multiply => a.wrapping_mul(b),
                Operator::Divide => return floats(op, a as f64, b as f64),
                Operator::Modulo => a.checked_rem(b).unwrap_or(0),
                Operator::BitAnd => a & b,
                Operator::BitOr => a | b,
                Operator::BitXor => a ^ b,
                _ => return None,
            }))
        }
    };
}

whole_numbers!(integers, i64, ValueRef::Integer);
whole_numbers!(unsigned, u64, ValueRef::Unsigned);

/// The type of an expression; `None` if it is not known, as nothing has the field.
///
/// # Errors
/// [`InfluxqlError::Invalid`] if an operator or a function is not defined for its operands.
pub fn type_of(
    expr: &Expr,
    of_reference: &dyn Fn(&Reference) -> Option<DataType>,
) -> Result<Option<DataType>, InfluxqlError> {
    Ok(match expr {
        Expr::Literal(literal) => Some(match literal {
            Literal::Integer(_) | Literal::Duration(_) | Literal::Time(_) => DataType::Integer,
            Literal::Unsigned(_) => DataType::Unsigned,
            Literal::Number(_) => DataType::Float,
            Literal::String(_) | Literal::Regex(_) => DataType::String,
            Literal::Boolean(_) => DataType::Boolean,
        }),
        Expr::Reference(reference) => of_reference(reference),
        Expr::Wildcard(_) => None,
        Expr::Logical(..) => Some(DataType::Boolean),
        Expr::Call(name, args) => {
            let first = match args.first() {
                Some(arg) => type_of(arg, of_reference)?,
                None => None,
            };
            type_of_call(name, first)?
        }
        Expr::Binary(op, left, right) => {
            let sides = (type_of(left, of_reference)?, type_of(right, of_reference)?);
            let (Some(a), Some(b)) = sides else {
                return Ok(sides.0.or(sides.1));
            };
            let wrong = || {
                let (op, a, b) = (op.as_str(), a.name(), b.name());
                InfluxqlError::Invalid(format!(
                    "incompatible operands for the {op} operator: {a} and {b}"
                ))
            };
            if op.is_comparison() {
                return Ok(Some(DataType::Boolean));
            }
            let is_bit = matches!(op, Operator::BitAnd | Operator::BitOr | Operator::BitXor);
            match (a, b) {
                (DataType::Boolean, DataType::Boolean) if is_bit => Some(DataType::Boolean),
                _ if !a.is_numeric() || !b.is_numeric() => return Err(wrong()),
                (DataType::Float, _) | (_, DataType::Float) if is_bit => return Err(wrong()),
                (DataType::Float, _) | (_, DataType::Float) => Some(DataType::Float),
                _ if *op == Operator::Divide => Some(DataType::Float),
                (DataType::Unsigned, _) | (_, DataType::Unsigned) => Some(DataType::Unsigned),
                _ => Some(DataType::Integer),
            }
        }
    })
}

/// The type of a function's result for the type of what it is called with.
fn type_of_call(name: &str, of: Option<DataType>) -> Result<Option<DataType>, InfluxqlError> {
    let wrong = |of: DataType| {
        let of = of.name();
        Err(InfluxqlError::Invalid(format!(
            "{name}() is not defined for a {of}"
        )))
    };
    if let (Some(_), Some(of)) = (Math::named(name), of)
        && !of.is_numeric()
    {
        return wrong(of);
    }
    if let Some(math) = Math::named(name) {
        return Ok(match of {
            Some(of) if math.keeps_integers() => Some(of),
            _ => Some(DataType::Float),
        });
    }
    let takes_all = [
        "count", "first", "last", "distinct", "elapsed", "mode", "sample",
    ];
    let takes_booleans = ["min", "max"];
    if let Some(of) = of
        && !takes_all.contains(&name)
        && !of.is_numeric()
        && !(of == DataType::Boolean && takes_booleans.contains(&name))
    {
        return wrong(of);
    }
    Ok(match name {
        "count" | "elapsed" => Some(DataType::Integer),
        "mean"
        | "median"
        | "stddev"
        | "derivative"
        | "non_negative_derivative"
        | "moving_average"
        | "integral"
        | "holt_winters"
        | "holt_winters_with_fit" => Some(DataType::Float),
        _ => of,
    })
}
