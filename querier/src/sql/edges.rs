//! Queries for the ends of series: `DISTINCT ON (host) ... ORDER BY host, time DESC`,
//! `last_value(x ORDER BY time) ... GROUP BY host`, `max(time)`, `ORDER BY time DESC LIMIT 10`.
//!
//! The newest rows of a group are among the newest of its series, as a series has each time once
//! and its tags are the same in all rows. Scans below such a node are told which [`Edge`] of each
//! series is enough; the node stays as it is and finds what it wants in fewer rows.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, TableScan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::prelude::Column;
use tidelake_catalog::model::TableKind;
use tidelake_catalog::segment::scan::Edge;

use super::provider::ViewProvider;
use super::view::Origin;

/// See above. It comes after the rules that move filters into scans.
#[derive(Debug)]
pub(super) struct SeriesEdges;

impl OptimizerRule for SeriesEdges {
    fn name(&self) -> &str {
        "series_edges"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let edge = match &plan {
            LogicalPlan::Sort(sort) => sort.fetch.and_then(|rows| {
                let rows = u64::try_from(rows).ok()?;
                first_rows(&sort.expr, &sort.input, rows)
            }),
            LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
            _ => None,
        };
        match edge {
            Some(edge) => plan.map_children(|input| narrowed(input, edge)),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// What the first rows in an order need: tags are the same in all rows of a series, so that its
/// rows come in the order of their times, and the rest of the order decides nothing.
fn first_rows(order: &[Sort], input: &LogicalPlan, rows: u64) -> Option<Edge> {
    for sort in order {
        match origin(&sort.expr, input)? {
            Origin::Tag(_) => {}
            Origin::Time if sort.asc => return Some(Edge::Oldest(rows)),
            Origin::Time => return Some(Edge::Newest(rows)),
            Origin::Field(_) => return None,
        }
    }
    None
}

fn of_aggregate(aggregate: &Aggregate) -> Option<Edge> {
    let input = &aggregate.input;
    let is_of_series = |expr: &Expr| matches!(origin(expr, input), Some(Origin::Tag(_)));
    if !aggregate.group_expr.iter().all(is_of_series) {
        return None;
    }
    let mut edges = aggregate.aggr_expr.iter().map(|expr| {
        let mut expr = expr;
        while let Expr::Alias(alias) = expr {
            expr = &alias.expr;
        }
        match expr {
            Expr::AggregateFunction(function) => of_function(function, input),
            _ => None,
        }
    });
    match edges.next() {
        Some(first) => first.filter(|first| edges.all(|edge| edge == Some(*first))),
        // The groups alone: any row of a series tells that there is one.
        None if !aggregate.group_expr.is_empty() => scan_below(input).map(|_| Edge::Newest(1)),
        None => None,
    }
}

fn of_function(function: &AggregateFunction, input: &LogicalPlan) -> Option<Edge> {
    let params = &function.params;
    let keeps_nulls = params.null_treatment != Some(NullTreatment::IgnoreNulls);
    if params.filter.is_some() || params.distinct || !keeps_nulls {
        return None;
    }
    let of_time = |edge| match params.args.as_slice() {
        [arg] if params.order_by.is_empty() => {
            (origin(arg, input)? == Origin::Time).then_some(edge)
        }
        _ => None,
    };
    match function.func.name() {
        "max" => of_time(Edge::Newest(1)),
        "min" => of_time(Edge::Oldest(1)),
        "first_value" => first_rows(&params.order_by, input, 1),
        "last_value" => match first_rows(&params.order_by, input, 1)? {
            Edge::Oldest(rows) => Some(Edge::Newest(rows)),
            Edge::Newest(rows) => Some(Edge::Oldest(rows)),
        },
        _ => None,
    }
}

/// Where the column comes from that an expression is, if nothing between it and a scan adds rows,
/// drops or reorders them.
fn origin(expr: &Expr, plan: &LogicalPlan) -> Option<Origin> {
    match (expr, plan) {
        (Expr::Alias(alias), _) => origin(&alias.expr, plan),
        (Expr::Column(column), LogicalPlan::Projection(projection)) => {
            let at = projection.schema.maybe_index_of_column(column)?;
            origin(projection.expr.get(at)?, &projection.input)
        }
        (Expr::Column(column), LogicalPlan::SubqueryAlias(alias)) => {
            let at = alias.schema.maybe_index_of_column(column)?;
            let inner = Column::from(alias.input.schema().qualified_field(at));
            origin(&Expr::Column(inner), &alias.input)
        }
        (Expr::Column(column), LogicalPlan::TableScan(scan)) => {
            provider(scan)?.view().origin(&column.name).cloned()
        }
        _ => None,
    }
}

fn scan_below(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::Projection(projection) => scan_below(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => scan_below(&alias.input),
        LogicalPlan::TableScan(scan) => Some(scan),
        _ => None,
    }
}

/// The view that a scan is of. Only rows of wide tables are all of a series: of metrics some are
/// markers, which queries do not see.
fn provider(scan: &TableScan) -> Option<ViewProvider> {
    let provider = source_as_provider(&scan.source).ok()?;
    let view = provider.downcast_ref::<ViewProvider>()?;
    (view.view().kind == TableKind::Wide).then(|| view.clone())
}

/// The same plan above a scan of less.
fn narrowed(plan: LogicalPlan, edge: Edge) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::TableScan(mut scan) => match provider(&scan).map(|view| view.at(edge)) {
            Some(Some(view)) => {
                scan.source = provider_as_source(Arc::new(view));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            _ => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
        },
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.map_children(|input| narrowed(input, edge))
        }
        _ => Ok(Transformed::no(plan)),
    }
}
