//! What a call of a function may cost, estimated from its arguments before it is made.
//!
//! A bound of bytes holds for whatever the function does; one of work is in nanoseconds, roughly.
//! A function that is not named here returns at most a few times the bytes of its arguments, and
//! takes time in proportion to them.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::widths::{Integers, Widths, fixed_width};

/// Bytes that a result has at least, whatever the arguments are: texts of numbers and times.
const BASE_BYTES: u64 = 64;
/// Nanoseconds of a day of 23 hours.
const SHORT_DAY_NS: i128 = 23 * 3600 * 1_000_000_000;

/// How the result of a function depends on its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// So many times the bytes of all arguments.
    Linear(u64),
    /// As linear, but each of two arguments is compared with the whole other one.
    Product,
    /// `repeat(text, n)`, `array_repeat(value, n)`.
    Repeat,
    /// `lpad(text, chars, ..)`.
    Pad,
    /// `replace(text, from, to)`.
    Replace,
    /// `regexp_like(text, pattern, ..)` and others that return no more than the text.
    Regex,
    /// `regexp_replace(text, pattern, replacement, flags)`.
    RegexReplace,
    /// `concat_ws(separator, ..)`.
    Separate,
    /// `array_resize(list, n, value)`.
    Resize,
    /// `range(start, stop, step)`.
    Range,
    /// `array_to_string(list, separator, null)`.
    ListToText,
    /// `array_replace(list, from, to)`.
    ListReplace,
}

impl Rule {
    /// The rule of a function.
    pub fn of(name: &str) -> Self {
        match name {
            "repeat" | "array_repeat" => Self::Repeat,
            "lpad" | "rpad" => Self::Pad,
            "replace" => Self::Replace,
            "regexp_like" | "regexp_match" | "regexp_count" | "regexp_instr" => Self::Regex,
            "regexp_replace" => Self::RegexReplace,
            "concat_ws" => Self::Separate,
            "array_resize" => Self::Resize,
            "range" | "generate_series" => Self::Range,
            "array_to_string" => Self::ListToText,
            "array_replace" | "array_replace_n" | "array_replace_all" => Self::ListReplace,
            "levenshtein" | "array_has_all" | "array_has_any" | "find_in_set" => Self::Product,
            // Each character may become an element of a list, or each of a format a date.
            "string_to_array" | "to_char" | "date_format" => Self::Linear(48),
            _ => Self::Linear(4),
        }
    }
}

/// What one row may cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Bytes of the result.
    pub bytes: u64,
    /// Nanoseconds.
    pub work: u64,
}

/// What each of the first `rows` rows of a call may cost.
pub(super) fn costs(rule: Rule, args: &ScalarFunctionArgs, rows: usize) -> Result<Vec<Cost>> {
    let widths = args
        .args
        .iter()
        .map(Widths::of)
        .collect::<Result<Vec<_>>>()?;
    let width = |arg: usize, row: usize| widths.get(arg).map_or(0, |widths| widths.at(row));
    let sum =
        |row: usize| (0..widths.len()).fold(0u64, |sum, arg| sum.saturating_add(width(arg, row)));
    let fixed = fixed_width(args.return_field.data_type()).unwrap_or(0);
    let returns_little = args.return_field.data_type().is_primitive()
        || matches!(args.return_field.data_type(), DataType::Boolean);
    let cost = |row: usize, bytes: u64, factor: u64| Cost {
        bytes: bytes.saturating_add(BASE_BYTES).saturating_add(fixed),
        work: sum(row)
            .saturating_mul(factor)
            .saturating_add(bytes / 4)
            .saturating_add(100),
    };
    let count = |arg: usize| match args.args.get(arg) {
        Some(arg) => Integers::of(arg),
        None => Ok(Integers::Same(None)),
    };
    let at_least_none =
        |count: &Integers, row: usize| u64::try_from(count.at(row).unwrap_or(0)).unwrap_or(0);
    Ok(match rule {
        Rule::Linear(factor) => (0..rows)
            .map(|row| cost(row, sum(row).saturating_mul(factor), 4))
            .collect(),
        Rule::Product => (0..rows)
            .map(|row| {
                let product = width(0, row).saturating_mul(width(1, row));
                Cost {
                    bytes: sum(row).saturating_mul(16).saturating_add(BASE_BYTES),
                    work: product.saturating_mul(4),
                }
            })
            .collect(),
        Rule::Repeat => {
            let count = count(1)?;
            // An element of a list has an offset or a view, too.
            let element = if matches!(args.return_field.data_type(), DataType::List(_)) {
                16
            } else {
                0
            };
            (0..rows)
                .map(|row| {
                    let one = width(0, row).saturating_add(element);
                    cost(row, one.saturating_mul(at_least_none(&count, row)), 4)
                })
                .collect()
        }
        Rule::Pad => {
            let count = count(1)?;
            (0..rows)
                .map(|row| {
                    let chars = at_least_none(&count, row);
                    cost(row, chars.saturating_mul(4), 4)
                })
                .collect()
        }
        Rule::Replace => (0..rows)
            .map(|row| {
                let matches = match width(1, row) {
                    // Between all characters.
                    0 => width(0, row).saturating_add(1),
                    from => width(0, row) / from,
                };
                let added = matches.saturating_mul(width(2, row));
                cost(row, width(0, row).saturating_add(added), 4)
            })
            .collect(),
        Rule::Regex => {
            let programs = programs(&args.args, rows)?;
            (0..rows)
                .map(|row| {
                    let matches = if returns_little { 0 } else { 4 };
                    let mut cost = cost(row, sum(row).saturating_mul(matches), 4);
                    cost.work = programs.work(row, width(0, row));
                    cost
                })
                .collect()
        }
        Rule::RegexReplace => {
            let programs = programs(&args.args, rows)?;
            let everywhere = args.args.len() > 3;
            (0..rows)
                .map(|row| {
                    let (text, replacement) = (width(0, row), width(2, row));
                    let matches = if everywhere {
                        text.saturating_add(1)
                    } else {
                        1
                    };
                    // A reference to a group repeats what it matched: in all the text, once per
                    // two bytes of the replacement (`\1`).
                    let added = matches
                        .saturating_mul(replacement)
                        .saturating_add(text.saturating_mul(replacement / 2));
                    let mut cost = cost(row, text.saturating_add(added), 4);
                    cost.work = programs.work(row, text).saturating_add(added / 4);
                    cost
                })
                .collect()
        }
        Rule::Separate => (0..rows)
            .map(|row| {
                // Lists among the arguments are joined element by element.
                let separators = (widths.len() as u64).saturating_add(if has_list(args) {
                    sum(row) / 8
                } else {
                    0
                });
                let added = separators.saturating_mul(width(0, row));
                cost(row, sum(row).saturating_add(added), 4)
            })
            .collect(),
        Rule::Resize => {
            let count = count(1)?;
            (0..rows)
                .map(|row| {
                    let one = width(2, row).saturating_add(16);
                    let added = one.saturating_mul(at_least_none(&count, row));
                    cost(row, width(0, row).saturating_add(added), 4)
                })
                .collect()
        }
        Rule::Range => ranges(&args.args, rows)?
            .into_iter()
            .map(|values| Cost {
                bytes: values.saturating_mul(8).saturating_add(BASE_BYTES),
                work: values.saturating_mul(20),
            })
            .collect(),
        Rule::ListToText => (0..rows)
            .map(|row| {
                let one = width(1, row)
                    .saturating_add(width(2, row))
                    .saturating_add(16);
                let elements = width(0, row) / 8 + 1;
                let bytes = elements.saturating_mul(one);
                cost(
                    row,
                    bytes.saturating_add(width(0, row).saturating_mul(4)),
                    4,
                )
            })
            .collect(),
        Rule::ListReplace => (0..rows)
            .map(|row| {
                let elements = width(0, row) / 8 + 1;
                let added = elements.saturating_mul(width(2, row).saturating_add(16));
                cost(row, width(0, row).saturating_add(added), 8)
            })
            .collect(),
    })
}

fn has_list(args: &ScalarFunctionArgs) -> bool {
    args.args.iter().any(|arg| arg.data_type().is_nested())
}

/// Steps that the patterns of a call may take per byte of text.
enum Programs {
    Same(u64),
    /// One per row; each is compiled, too.
    Each(Vec<u64>),
}

impl Programs {
    fn work(&self, row: usize, text: u64) -> u64 {
        match self {
            Self::Same(steps) => text.saturating_mul(*steps),
            Self::Each(steps) => {
                let steps = steps.get(row).copied().unwrap_or(1);
                text.saturating_add(1000).saturating_mul(steps)
            }
        }
    }
}

fn programs(args: &[ColumnarValue], rows: usize) -> Result<Programs> {
    Ok(match args.get(1) {
        Some(ColumnarValue::Array(patterns)) => {
            let patterns = arrow::compute::cast(patterns, &DataType::Utf8View)?;
            let patterns = patterns.as_string_view();
            Programs::Each(
                (0..rows.min(patterns.len()))
                    .map(|row| program_steps(patterns.value(row)))
                    .collect(),
            )
        }
        Some(ColumnarValue::Scalar(
            ScalarValue::Utf8(Some(pattern))
            | ScalarValue::LargeUtf8(Some(pattern))
            | ScalarValue::Utf8View(Some(pattern)),
        )) => Programs::Same(program_steps(pattern)),
        _ => Programs::Same(1),
    })
}

/// Steps of a pattern: its length times all its repetition counts.
fn program_steps(pattern: &str) -> u64 {
    let mut steps = pattern.len() as u64 + 1;
    for part in pattern.split('{').skip(1) {
        let counts = part.split('}').next().unwrap_or("");
        let most = counts
            .split(',')
            .filter_map(|count| count.trim().parse::<u64>().ok())
            .max();
        steps = steps.saturating_mul(most.unwrap_or(1).max(1));
    }
    // The regex crate refuses larger programs.
    steps.min(1_000_000)
}

/// How many values the ranges of a call have.
fn ranges(args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
    let (start, stop) = match args {
        [stop] => (None, Some(stop)),
        [start, stop, ..] => (Some(start), Some(stop)),
        [] => (None, None),
    };
    let points = |arg: Option<&ColumnarValue>| match arg {
        Some(arg) if !arg.data_type().is_null() => Integers::of(arg),
        _ => Ok(Integers::Same(Some(0))),
    };
    let unit = |arg: Option<&ColumnarValue>| arg.map_or(1, |arg| unit_ns(&arg.data_type()));
    let (starts, stops) = (points(start)?, points(stop)?);
    let (start_unit, stop_unit) = (unit(start), unit(stop));
    let steps = Steps::of(args.get(2))?;
    Ok((0..rows)
        .map(|row| {
            let start = i128::from(starts.at(row).unwrap_or(0)) * start_unit;
            let stop = i128::from(stops.at(row).unwrap_or(0)) * stop_unit;
            let values = (stop - start).unsigned_abs() / steps.at(row).max(1) + 1;
            u64::try_from(values).unwrap_or(u64::MAX)
        })
        .collect())
}

fn unit_ns(data_type: &DataType) -> i128 {
    match data_type {
        DataType::Date32 => 24 * 3600 * 1_000_000_000,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1000,
        _ => 1,
    }
}

/// Steps of ranges, in the unit of their ends.
enum Steps {
    Numbers(Integers),
    Intervals(Vec<u128>),
}

impl Steps {
    fn of(arg: Option<&ColumnarValue>) -> Result<Self> {
        let Some(arg) = arg.filter(|arg| !arg.data_type().is_null()) else {
            return Ok(Self::Numbers(Integers::Same(Some(1))));
        };
        if !matches!(arg.data_type(), DataType::Interval(_)) {
            return Ok(Self::Numbers(Integers::of(arg)?));
        }
        let array = match arg {
            ColumnarValue::Array(array) => array.clone(),
            ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(1)?,
        };
        let array = arrow::compute::cast(&array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let steps = array
            .as_primitive::<IntervalMonthDayNanoType>()
            .values()
            .iter()
            .map(|step| {
                let days = i128::from(step.months) * 28 + i128::from(step.days);
                (days * SHORT_DAY_NS + i128::from(step.nanoseconds)).unsigned_abs()
            })
            .collect();
        Ok(Self::Intervals(steps))
    }

    fn at(&self, row: usize) -> u128 {
        match self {
            Self::Numbers(numbers) => u128::from(numbers.at(row).unwrap_or(1).unsigned_abs()),
            // A constant has one for all rows.
            Self::Intervals(steps) => steps.get(row).or(steps.first()).copied().unwrap_or(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_counts_multiply_the_steps_of_a_pattern() {
        for (pattern, expected) in [
            ("abc", 4),
            ("a{10}", 60),
            ("a{2,5}b{3}", 165),
            ("((a{100}){100}){1000}", 1_000_000),
            ("a{", 3),
            ("{}", 3),
        ] {
            assert_eq!(program_steps(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn ranges_have_as_many_values_as_steps_fit() {
        let number = |n: i64| ColumnarValue::Scalar(ScalarValue::Int64(Some(n)));
        let check = |args: &[i64], expected: u64| {
            let args: Vec<_> = args.iter().copied().map(number).collect();
            assert_eq!(ranges(&args, 1).unwrap(), [expected], "{args:?}");
        };
        check(&[10], 11);
        check(&[0, 10, 2], 6);
        check(&[10, 0, -5], 3);
        check(&[i64::MIN, i64::MAX, 1], u64::MAX);
        check(&[i64::MIN, i64::MAX, i64::MIN], 2);
        check(&[0, 10, 0], 11);
    }
}
