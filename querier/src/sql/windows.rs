//! Window functions within the limits of a query.
//!
//! A window has a result for each row, and `string_agg(...) OVER (...)` repeats all texts so far in
//! each: nothing in DataFusion counts them. The functions of windows are therefore wrapped; what
//! they return is counted until their partition has ended. Aggregates outside of windows are not:
//! DataFusion counts what they hold.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::{
    AggregateFunction, AggregateFunctionParams, WindowFunctionParams,
};
use datafusion::logical_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, ExpressionArgs, PartitionEvaluatorArgs,
    StateFieldsArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator,
    LimitEffect, Operator, PartitionEvaluator, ReversedUDAF, ReversedUDWF, SetMonotonicity,
    Signature, StatisticsArgs, WindowFunctionDefinition, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;

use super::limits::QueryLimits;
use crate::memory::QueryBytes;

/// Values up to this size are not counted.
const SMALL_BYTES: usize = 128;
/// Results are counted in blocks of so many bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// Results after which the time is looked at.
const CHECK_EVERY: u32 = 1024;

/// A window function within limits; `None` if it is already.
pub(super) fn counted(
    function: &WindowFunctionDefinition,
    limits: &Arc<QueryLimits>,
) -> Option<WindowFunctionDefinition> {
    match function {
        WindowFunctionDefinition::AggregateUDF(function) => {
            if function.inner().is::<CountedAggregate>() {
                return None;
            }
            Some(WindowFunctionDefinition::AggregateUDF(Arc::new(
                count_aggregate(function, limits),
            )))
        }
        WindowFunctionDefinition::WindowUDF(function) => {
            if function.inner().is::<CountedWindow>() {
                return None;
            }
            Some(WindowFunctionDefinition::WindowUDF(Arc::new(
                WindowUDF::new_from_impl(CountedWindow {
                    inner: function.as_ref().clone(),
                    limits: Arc::clone(limits),
                }),
            )))
        }
    }
}

fn count_aggregate(function: &AggregateUDF, limits: &Arc<QueryLimits>) -> AggregateUDF {
    AggregateUDF::new_from_impl(CountedAggregate {
        inner: function.clone(),
        limits: Arc::clone(limits),
    })
}

/// The results of one function for one partition.
#[derive(Debug)]
struct Results {
    function: String,
    limits: Arc<QueryLimits>,
    held: Option<QueryBytes>,
    uncounted: usize,
    values: u32,
}

impl Results {
    fn new(function: &str, limits: &Arc<QueryLimits>) -> Self {
        Self {
            function: function.to_owned(),
            limits: Arc::clone(limits),
            held: None,
            uncounted: 0,
            values: 0,
        }
    }

    fn add(&mut self, bytes: usize) -> Result<()> {
        self.values = self.values.wrapping_add(1);
        if self.values.is_multiple_of(CHECK_EVERY) {
            self.limits.check()?;
        }
        if bytes <= SMALL_BYTES {
            return Ok(());
        }
        self.uncounted = self.uncounted.saturating_add(bytes);
        if self.uncounted < BLOCK_BYTES {
            return Ok(());
        }
        self.limits.check()?;
        // They become an array, which copies them.
        let bytes = std::mem::take(&mut self.uncounted).saturating_mul(2);
        let grown = match &mut self.held {
            Some(held) => held.try_grow(bytes),
            none => self.limits.pool().try_hold(bytes).map(|held| {
                *none = Some(held);
            }),
        };
        grown.map_err(|error| {
            DataFusionError::ResourcesExhausted(format!(
                "the results of {}() OVER (...) are too long together: {error}",
                self.function
            ))
        })
    }
}

/// An aggregate of a window.
#[derive(Debug, Clone)]
struct CountedAggregate {
    inner: AggregateUDF,
    limits: Arc<QueryLimits>,
}

impl PartialEq for CountedAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for CountedAggregate {}

impl Hash for CountedAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl CountedAggregate {
    fn accumulator_of(&self, inner: Box<dyn Accumulator>) -> Box<dyn Accumulator> {
        Box::new(CountedAccumulator {
            inner,
            rows: 0,
            is_evaluated: false,
            results: Results::new(self.name(), &self.limits),
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl AggregateUDFImpl for CountedAggregate {
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(self.accumulator_of(self.inner.inner().accumulator(args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(self.accumulator_of(self.inner.inner().create_sliding_accumulator(args)?))
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial_ordering: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = Arc::clone(self.inner.inner());
        Ok(inner
            .with_beneficial_ordering(beneficial_ordering)?
            .map(|inner| {
                Arc::new(Self {
                    inner: AggregateUDF::new_from_shared_impl(inner),
                    limits: Arc::clone(&self.limits),
                }) as Arc<dyn AggregateUDFImpl>
            }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner.inner().reverse_expr() {
            ReversedUDAF::Reversed(inner) => {
                ReversedUDAF::Reversed(Arc::new(count_aggregate(&inner, &self.limits)))
            }
            other => other,
        }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.inner().aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.inner().schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.inner().human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.inner().window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.inner().display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.inner().window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner.inner().return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner.inner().is_nullable()
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.inner().state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.inner().create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.inner().order_sensitivity()
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner.inner().simplify()
    }

    fn simplify_expr_op_literal(
        &self,
        agg_function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        lit: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.inner
            .inner()
            .simplify_expr_op_literal(agg_function, arg, op, lit, arg_is_left)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.inner().is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.inner().value_from_stats(args)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.inner().default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.inner().supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner.inner().supports_within_group_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }
}

#[derive(Debug)]
struct CountedAccumulator {
    inner: Box<dyn Accumulator>,
    /// Rows before the first result.
    rows: usize,
    is_evaluated: bool,
    results: Results,
}

#[deny(clippy::missing_trait_methods)]
impl Accumulator for CountedAccumulator {
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.inner.evaluate()?;
        // The result of a whole partition is asked for once, and repeated for each of its rows.
        let times = if self.is_evaluated {
            1
        } else {
            self.rows.max(1)
        };
        self.is_evaluated = true;
        self.results.add(value.size().saturating_mul(times))?;
        Ok(value)
    }

    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if !self.is_evaluated {
            self.rows += values.first().map_or(0, |values| values.len());
        }
        self.inner.update_batch(values)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

/// A function of windows only.
#[derive(Debug)]
struct CountedWindow {
    inner: WindowUDF,
    limits: Arc<QueryLimits>,
}

impl PartialEq for CountedWindow {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for CountedWindow {}

impl Hash for CountedWindow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

#[deny(clippy::missing_trait_methods)]
impl WindowUDFImpl for CountedWindow {
    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(CountedEvaluator {
            inner: self.inner.inner().partition_evaluator(args)?,
            results: Results::new(self.name(), &self.limits),
        }))
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        match self.inner.inner().reverse_expr() {
            ReversedUDWF::Reversed(inner) => {
                ReversedUDWF::Reversed(Arc::new(WindowUDF::new_from_impl(Self {
                    inner: inner.as_ref().clone(),
                    limits: Arc::clone(&self.limits),
                })))
            }
            other => other,
        }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.inner().aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.inner.inner().expressions(args)
    }

    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        self.inner.inner().simplify()
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        self.inner.inner().field(args)
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.inner.inner().sort_options()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.inner.inner().limit_effect(args)
    }
}

#[derive(Debug)]
struct CountedEvaluator {
    inner: Box<dyn PartitionEvaluator>,
    results: Results,
}

#[deny(clippy::missing_trait_methods)]
impl PartitionEvaluator for CountedEvaluator {
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let value = self.inner.evaluate(values, range)?;
        self.results.add(value.size())?;
        Ok(value)
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef> {
        let array = self.inner.evaluate_all(values, num_rows)?;
        self.results.add(array.get_array_memory_size())?;
        Ok(array)
    }

    fn evaluate_all_with_rank(
        &self,
        num_rows: usize,
        ranks_in_partition: &[Range<usize>],
    ) -> Result<ArrayRef> {
        self.inner
            .evaluate_all_with_rank(num_rows, ranks_in_partition)
    }

    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.inner.memoize(state)
    }

    fn get_range(&self, idx: usize, n_rows: usize) -> Result<Range<usize>> {
        self.inner.get_range(idx, n_rows)
    }

    fn is_causal(&self) -> bool {
        self.inner.is_causal()
    }

    fn supports_bounded_execution(&self) -> bool {
        self.inner.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.inner.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.inner.include_rank()
    }
}
