//! Scalar functions within the limits of a query.
//!
//! DataFusion's functions allocate what their arguments ask for: `repeat('x', 1000000000)` is a
//! gigabyte that no pool knows of. Each function is therefore wrapped ([`BoundedFunction`]): before
//! a call, `cost` bounds the bytes of the result and the time; they are reserved, or the call is
//! refused. Calls that cost much are made in slices of rows, so that they end at the deadline. What
//! they return is counted in the query's pool as long as it lives.
//!
//! Functions come into a plan from the registry, from the planner and from each other, when they
//! are simplified. `BoundedExpressions` wraps those of a plan once more, and turns `||` into
//! a function.
//!
//! Invariant: no plan that [`super::session`] makes calls a function that is not wrapped, but for
//! those of [`UNBOUNDED`].

mod concat_operator;
mod cost;
#[cfg(test)]
mod registry_tests;
mod rewrite;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod widths;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, ExprSchema, Result, ScalarValue, internal_err};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, StructFieldMapping,
};
use tidelake_catalog::panics;

use self::cost::{Cost, Rule, costs};
use self::widths::{fixed_width, scalar_width, total};
use super::error::SqlError;
use super::limits::{LimitsExtension, QueryLimits};
use crate::memory::ClaimPool;

pub(super) use rewrite::BoundedExpressions;

/// Longest value that a function may return, in bytes.
pub(super) const MAX_VALUE_BYTES: u64 = 64 << 20;
/// Longest time that one value may take, in nanoseconds, as `cost` estimates it.
const MAX_VALUE_WORK: u64 = 4_000_000_000;
/// Rows are computed together as long as their results have at most this many bytes.
const SLICE_BYTES: u64 = 16 << 20;
/// The same in nanoseconds of work.
const SLICE_WORK: u64 = 200_000_000;
/// Results below this size are not counted: a query has few of them at a time.
const MIN_COUNTED_BYTES: usize = 64 << 10;
/// Constants below this size may be repeated for each row of a batch.
const SHORT_CONSTANT_BYTES: u64 = 1 << 10;
/// Arrays with 32-bit offsets have at most this many bytes.
const MAX_ARRAY_BYTES: u64 = i32::MAX as u64;
/// Functions that stay as they are. They look for each other by their type, and return no more
/// than their arguments.
const UNBOUNDED: [&str; 5] = ["log", "power", "get_field", "named_struct", "struct"];

/// Wraps all scalar functions of a session.
pub(super) fn bound_all(state: &mut SessionState) -> Result<()> {
    let functions: Vec<_> = state.scalar_functions().values().cloned().collect();
    for function in functions {
        if let Some(bounded) = bounded(&function) {
            state.register_udf(bounded)?;
        }
    }
    Ok(())
}

/// A function within limits; `None` if it is already, or need not be.
fn bounded(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    if function.inner().is::<BoundedFunction>() || UNBOUNDED.contains(&function.name()) {
        return None;
    }
    Some(Arc::new(ScalarUDF::new_from_impl(BoundedFunction {
        rule: Rule::of(function.name()),
        inner: function.as_ref().clone(),
    })))
}

/// Whether a call takes little more time than its arguments are long.
pub(super) fn is_cheap(function: &ScalarUDF) -> bool {
    let Some(bounded) = function.inner().downcast_ref::<BoundedFunction>() else {
        return UNBOUNDED.contains(&function.name());
    };
    matches!(bounded.rule, Rule::Linear(_))
}

/// A function that reserves what it is going to use. See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BoundedFunction {
    rule: Rule,
    inner: ScalarUDF,
}

impl Hash for BoundedFunction {
    /// Planning hashes expressions all the time, and a signature is long.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.name().hash(state);
    }
}

impl BoundedFunction {
    /// Whether a call is bounded by its arguments, which are there already.
    fn is_small(&self, args: &ScalarFunctionArgs) -> bool {
        let Rule::Linear(factor) = self.rule else {
            return false;
        };
        let mut bytes = 0u64;
        let returns_little =
            fixed_width(args.return_field.data_type()).is_some_and(|bytes| bytes <= 64);
        for arg in &args.args {
            match arg {
                ColumnarValue::Array(_) if returns_little => {}
                ColumnarValue::Array(array) => {
                    bytes = bytes.saturating_add(total(array.as_ref()));
                }
                ColumnarValue::Scalar(scalar) => match scalar_width(scalar) {
                    Ok(width) if returns_little && width <= SHORT_CONSTANT_BYTES => {}
                    // Functions repeat constants for each row.
                    Ok(width) => {
                        bytes = bytes.saturating_add(width.saturating_mul(args.number_rows as u64));
                    }
                    Err(_) => return false,
                },
            }
        }
        let fixed = fixed_width(args.return_field.data_type()).unwrap_or(0);
        bytes
            .saturating_mul(factor)
            .saturating_add(fixed.saturating_mul(args.number_rows as u64))
            <= SLICE_BYTES
    }

    fn call(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        panics::caught_call(|| self.inner.invoke_with_args(args)).unwrap_or_else(|panicked| {
            Err(SqlError::Internal(format!("{}(): {panicked}", self.name())).into())
        })
    }

    /// A call that may be large, in slices of rows.
    fn call_in_slices(
        &self,
        mut args: ScalarFunctionArgs,
        limits: &QueryLimits,
    ) -> Result<ColumnarValue> {
        if self.rule == Rule::Pad {
            raise_to_zero(&mut args);
        }
        let is_constant = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        // A constant is computed once.
        let rows = if is_constant { 1 } else { args.number_rows };
        let costs = costs(self.rule, &args, rows)?;
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut start = 0;
        while start < rows {
            limits.check()?;
            let (len, cost) = self.next_slice(&costs[start..])?;
            let bytes = usize::try_from(cost.bytes).unwrap_or(usize::MAX);
            let reserved = self.reserve(limits, bytes)?;
            if len == rows {
                let result = self.call(args)?;
                drop(reserved);
                return Ok(result);
            }
            let part = self.call(slice(&args, start, len))?.into_array(len)?;
            drop(reserved);
            self.count(limits, part.as_ref())?;
            parts.push(part);
            start += len;
        }
        let all = parts
            .iter()
            .fold(0u64, |sum, part| sum.saturating_add(total(part.as_ref())));
        self.check_array(all)?;
        let _reserved = self.reserve(limits, usize::try_from(all).unwrap_or(usize::MAX))?;
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }

    /// How many of the rows are computed together, and what they cost.
    fn next_slice(&self, costs: &[Cost]) -> Result<(usize, Cost)> {
        let mut sum = Cost::default();
        for (row, cost) in costs.iter().enumerate() {
            if cost.bytes > MAX_VALUE_BYTES {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "{}() would return a value of up to {} bytes; a value may have at most \
                     {MAX_VALUE_BYTES}",
                    self.name(),
                    cost.bytes
                )));
            }
            if cost.work > MAX_VALUE_WORK {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "{}() would take about {} ms for a value; a value may take at most {}; use \
                     shorter arguments",
                    self.name(),
                    cost.work / 1_000_000,
                    MAX_VALUE_WORK / 1_000_000
                )));
            }
            let with = Cost {
                bytes: sum.bytes + cost.bytes,
                work: sum.work + cost.work,
            };
            if row > 0 && (with.bytes > SLICE_BYTES || with.work > SLICE_WORK) {
                return Ok((row, sum));
            }
            sum = with;
        }
        Ok((costs.len(), sum))
    }

    fn reserve(
        &self,
        limits: &QueryLimits,
        bytes: usize,
    ) -> Result<Option<crate::memory::QueryBytes>> {
        if bytes < MIN_COUNTED_BYTES {
            return Ok(None);
        }
        limits.pool().try_hold(bytes).map(Some).map_err(|error| {
            DataFusionError::ResourcesExhausted(format!(
                "{}() may return {bytes} bytes for a batch of rows: {error}",
                self.name()
            ))
        })
    }

    /// Counts a result as long as it lives.
    fn count(&self, limits: &QueryLimits, array: &dyn Array) -> Result<()> {
        let bytes = array.get_array_memory_size();
        if bytes >= MIN_COUNTED_BYTES {
            drop(self.reserve(limits, bytes)?);
            array.claim(&ClaimPool(Arc::clone(limits.pool())));
        }
        Ok(())
    }

    fn check_array(&self, bytes: u64) -> Result<()> {
        if bytes > MAX_ARRAY_BYTES {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{}() would return {bytes} bytes for a batch of rows; they may have at most \
                 {MAX_ARRAY_BYTES}",
                self.name()
            )));
        }
        Ok(())
    }

    /// A result that is counted, and that does not grow when it is repeated for each row.
    fn finish(
        &self,
        result: ColumnarValue,
        rows: usize,
        limits: &QueryLimits,
    ) -> Result<ColumnarValue> {
        match result {
            ColumnarValue::Array(array) => {
                if array.len() == 1 {
                    limits.fold(self.name(), clamp(total(array.as_ref())))?;
                }
                self.count(limits, array.as_ref())?;
                Ok(ColumnarValue::Array(array))
            }
            ColumnarValue::Scalar(scalar) => {
                let width = scalar_width(&scalar)?;
                limits.fold(self.name(), clamp(width))?;
                if width <= SHORT_CONSTANT_BYTES || rows == 0 {
                    return Ok(ColumnarValue::Scalar(scalar));
                }
                let bytes = width.saturating_mul(rows as u64);
                self.check_array(bytes)?;
                let _reserved = self.reserve(limits, clamp(bytes))?;
                let array = scalar.to_array_of_size(rows)?;
                self.count(limits, array.as_ref())?;
                Ok(ColumnarValue::Array(array))
            }
        }
    }
}

/// Makes a negative length of `lpad` and `rpad` none: DataFusion may take it for a very large one,
/// and panics.
fn raise_to_zero(args: &mut ScalarFunctionArgs) {
    match args.args.get_mut(1) {
        Some(ColumnarValue::Array(lengths)) => {
            if let Some(numbers) = lengths.as_primitive_opt::<Int64Type>()
                && numbers.iter().flatten().any(|length| length < 0)
            {
                *lengths = Arc::new(numbers.unary::<_, Int64Type>(|length| length.max(0)));
            }
        }
        Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(length)))) => *length = (*length).max(0),
        _ => {}
    }
}

fn clamp(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn slice(args: &ScalarFunctionArgs, start: usize, len: usize) -> ScalarFunctionArgs {
    let part = |arg: &ColumnarValue| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(start, len)),
        scalar => scalar.clone(),
    };
    ScalarFunctionArgs {
        args: args.args.iter().map(part).collect(),
        arg_fields: args.arg_fields.clone(),
        number_rows: len,
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    }
}

// Every method is passed on: a default would change how queries are planned.
#[deny(clippy::missing_trait_methods)]
impl ScalarUDFImpl for BoundedFunction {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let is_small = rows == 0 || self.is_small(&args);
        let limits = args.config_options.extensions.get::<LimitsExtension>();
        let Some(LimitsExtension(limits)) = limits else {
            if is_small {
                return self.call(args);
            }
            return internal_err!("{}() was called without limits", self.name());
        };
        let limits = Arc::clone(limits);
        let result = if is_small {
            self.call(args)?
        } else {
            self.call_in_slices(args, &limits)?
        };
        self.finish(result, rows, &limits)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.inner.simplify(args, info)? {
            ExprSimplifyResult::Original(args) => ExprSimplifyResult::Original(args),
            ExprSimplifyResult::Simplified(expr) => {
                ExprSimplifyResult::Simplified(rewrite::bound_expression(expr)?)
            }
        })
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Self {
            rule: self.rule,
            inner,
        }))
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    #[expect(deprecated)]
    fn display_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    #[expect(deprecated)]
    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        self.inner.is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn preimage(
        &self,
        args: &[Expr],
        lit_expr: &Expr,
        info: &SimplifyContext,
    ) -> Result<PreimageResult> {
        self.inner.preimage(args, lit_expr, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(
        &self,
        interval: &Interval,
        inputs: &[&Interval],
    ) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn struct_field_mapping(
        &self,
        literal_args: &[Option<ScalarValue>],
    ) -> Option<StructFieldMapping> {
        self.inner.struct_field_mapping(literal_args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}
