//! Plans of queries that differ only in the texts that they compare with.
//!
//! A dashboard asks the same query again and again, each time about other hosts and other times.
//! Most of what a small query costs is to plan it. The texts that `WHERE` compares columns with are
//! therefore taken out of a statement; what is left, its shape, is planned once with parameters in
//! their place. A plan is kept if all its parameters are in filters of a scan, as then nothing else
//! of it depends on the texts. Asked again, the scan gets the texts of that query, and the tables
//! as they are now. Where it reads few rows, its operators are kept as well (`ready`).
//!
//! What cannot be done so, errors included, is planned as it is written.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Volatility};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr as Ast, SetExpr, Statement as SqlStatement, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use parking_lot::Mutex;
use tidelake_catalog::segment::scan::Edge;

use super::catalog::{Database, PUBLIC_SCHEMA};
use super::error::SqlError;
use super::provider::ViewProvider;
use super::ready::ReadyPlan;
use super::view::TableView;

/// Shapes that are known, of short texts. When there are as many, all are forgotten: a dashboard
/// has some dozens.
const MAX_SHAPES: usize = 64;
/// How parameters are called: no statement can name them so.
const PARAMETER: &str = "$ ";

/// A database and a statement with parameters.
type Key = (Arc<str>, SqlStatement);

/// A statement without the texts that it compares with.
pub(super) struct Shape {
    key: Key,
    texts: Vec<String>,
}

impl Shape {
    /// Takes the texts out of a statement; `None` if there is nothing to take.
    pub fn of(db: &str, statement: &Statement) -> Option<Self> {
        let Statement::Statement(statement) = statement else {
            return None;
        };
        let mut statement = statement.as_ref().clone();
        let SqlStatement::Query(query) = &mut statement else {
            return None;
        };
        let SetExpr::Select(select) = query.body.as_mut() else {
            return None;
        };
        let mut texts = Vec::new();
        take_texts(select.selection.as_mut()?, &mut texts);
        if texts.is_empty() {
            return None;
        }
        let _ = statement.visit(&mut WithoutPlaces);
        let key = (Arc::from(db), statement);
        Some(Self { key, texts })
    }

    /// With parameters in the place of texts.
    pub fn statement(&self) -> Statement {
        Statement::Statement(Box::new(self.key.1.clone()))
    }
}

/// Forgets where constants were written, which depends on how long texts are.
struct WithoutPlaces;

impl VisitorMut for WithoutPlaces {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &mut Ast) -> ControlFlow<Infallible> {
        match expr {
            Ast::Value(value) => value.span = Span::empty(),
            Ast::TypedString(typed) => typed.value.span = Span::empty(),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Puts parameters in the place of the texts of comparisons that must all hold.
fn take_texts(condition: &mut Ast, texts: &mut Vec<String>) {
    let is_column = |expr: &Ast| matches!(expr, Ast::Identifier(_) | Ast::CompoundIdentifier(_));
    let mut take = |expr: &mut Ast| {
        if let Ast::Value(value) = expr
            && let Value::SingleQuotedString(text) = &mut value.value
        {
            texts.push(std::mem::take(text));
            value.value = Value::Placeholder(format!("{PARAMETER}{}", texts.len() - 1));
        }
    };
    match condition {
        Ast::Nested(inner) => take_texts(inner, texts),
        Ast::BinaryOp { left, op, right } => match op {
            BinaryOperator::And => {
                take_texts(left, texts);
                take_texts(right, texts);
            }
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
                if is_column(left) =>
            {
                take(right);
            }
            _ => {}
        },
        Ast::InList { expr, list, .. } if is_column(expr) => list.iter_mut().for_each(take),
        Ast::Between {
            expr, low, high, ..
        } if is_column(expr) => {
            take(low);
            take(high);
        }
        _ => {}
    }
}

/// The plan of a shape: of one table, optimized, with parameters in its filters.
#[derive(Debug)]
struct ShapePlan {
    plan: LogicalPlan,
    schema: String,
    /// What the user calls it.
    table: String,
    view: Arc<TableView>,
    edge: Option<Edge>,
    scan: TableScan,
    /// Its operators; `None` inside if they cannot be kept.
    ready: OnceLock<Option<ReadyPlan>>,
}

/// The plan of a shape for the texts of one query.
pub(super) struct KnownPlan {
    shape: Arc<ShapePlan>,
    table: Arc<ViewProvider>,
    filters: Vec<Expr>,
}

impl KnownPlan {
    /// It, over the table as it is now.
    pub fn logical(&self) -> Result<LogicalPlan> {
        let source = provider_as_source(Arc::clone(&self.table) as Arc<dyn TableProvider>);
        on_scan(&self.shape.plan, |scan| TableScan {
            source: Arc::clone(&source),
            filters: self.filters.clone(),
            ..scan
        })
    }

    /// Its operators over what there is to read now, if they are kept and that is little.
    pub async fn ready(&self) -> Result<Option<ReadyPlan>> {
        let Some(Some(ready)) = self.shape.ready.get() else {
            return Ok(None);
        };
        let filters: Vec<Expr> = unnormalize_cols(self.filters.clone());
        let projection = self.shape.scan.projection.as_ref();
        let few = self.table.few_rows(projection, &filters).await?;
        few.map(|rows| ready.over(rows)).transpose()
    }

    /// Keeps its operators.
    pub fn keep(&self, ready: impl FnOnce() -> Option<ReadyPlan>) {
        self.shape.ready.get_or_init(ready);
    }

    /// Whether it is not known yet if its operators can be kept.
    pub fn is_new(&self) -> bool {
        self.shape.ready.get().is_none()
    }
}

/// The shapes that were asked for. `None` is one whose plan depends on the texts.
#[derive(Default)]
pub(super) struct Shapes(Mutex<HashMap<Key, Option<Arc<ShapePlan>>>>);

impl fmt::Debug for Shapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.lock();
        let planned = known.values().flatten();
        let ready = planned
            .clone()
            .filter(|plan| matches!(plan.ready.get(), Some(Some(_))));
        let (all, planned, ready) = (known.len(), planned.count(), ready.count());
        write!(f, "Shapes({planned} of {all}, {ready} ready)")
    }
}

/// What is known of a shape.
pub(super) enum Known {
    /// This is the plan for its texts.
    Plan(KnownPlan),
    /// Nothing: it may be [planned](Shapes::keep).
    No,
    /// It has to be planned as it is written.
    AsWritten,
}

impl Shapes {
    /// Whether a plan of a shape is kept.
    pub fn has(&self, shape: &Shape) -> bool {
        matches!(self.0.lock().get(&shape.key), Some(Some(_)))
    }

    /// The plan of a shape for the texts that were taken out of it.
    pub async fn find(&self, database: &Database, shape: &Shape) -> Result<Known, SqlError> {
        let known = self.0.lock().get(&shape.key).cloned();
        let Some(known) = known else {
            return Ok(Known::No);
        };
        let Some(known) = known else {
            return Ok(Known::AsWritten);
        };
        let now = database.view(&known.schema, &known.table).await?;
        if now.as_ref() != Some(&known.view) {
            self.0.lock().remove(&shape.key);
            return Ok(Known::No);
        }
        // A text may be no time.
        let Ok(filters) = filled(&known.scan.filters, &shape.texts) else {
            return Ok(Known::AsWritten);
        };
        let table = database.provider(Arc::clone(&known.view), known.edge);
        Ok(Known::Plan(KnownPlan {
            shape: known,
            table: Arc::new(table),
            filters,
        }))
    }

    /// Keeps the plan of a shape, or that there is none for all texts. `logical` is the plan before
    /// it was optimized.
    pub fn keep(&self, shape: &Shape, logical: &LogicalPlan, optimized: &LogicalPlan) {
        let plan = match depends_on_query(logical) {
            true => None,
            false => shape_plan(optimized),
        };
        let mut known = self.0.lock();
        if known.len() >= MAX_SHAPES {
            known.clear();
        }
        known.insert(shape.key.clone(), plan.map(Arc::new));
    }
}

/// Whether a plan has a function whose value is another one at another time, as `now()`, or one
/// that holds the limits of its query, as those of windows do.
fn depends_on_query(plan: &LogicalPlan) -> bool {
    let is_immutable = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
        Expr::WindowFunction(_) => false,
        _ => true,
    };
    plan.exists(|node| {
        let expressions = node.expressions();
        let depends = |expr: &Expr| expr.exists(|part| Ok(!is_immutable(part)));
        Ok(expressions.iter().any(|expr| depends(expr).unwrap_or(true)))
    })
    .unwrap_or(true)
}

/// What is kept of an optimized plan; `None` if a parameter is anywhere but in the filters of its
/// one scan.
fn shape_plan(optimized: &LogicalPlan) -> Option<ShapePlan> {
    let mut scans = Vec::new();
    let mut fits = true;
    let looked = optimized.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => scans.push(scan.clone()),
            node => fits &= !node.expressions().iter().any(has_parameters),
        }
        Ok(TreeNodeRecursion::Continue)
    });
    let [scan] = scans.as_slice() else {
        return None;
    };
    if looked.is_err() || !fits {
        return None;
    }
    let provider = source_as_provider(&scan.source).ok()?;
    let provider = provider.downcast_ref::<ViewProvider>()?;
    let view = Arc::clone(provider.view());
    // The kept plan must not hold what the database was like.
    let blank = provider_as_source(Arc::new(EmptyTable::new(provider.schema())));
    let plan = on_scan(optimized, |scan| TableScan {
        source: Arc::clone(&blank),
        ..scan
    });
    Some(ShapePlan {
        plan: plan.ok()?,
        schema: scan.table_name.schema().unwrap_or(PUBLIC_SCHEMA).to_owned(),
        table: scan.table_name.table().to_owned(),
        view,
        edge: provider.edge(),
        scan: TableScan {
            source: blank,
            ..scan.clone()
        },
        ready: OnceLock::new(),
    })
}

fn has_parameters(expr: &Expr) -> bool {
    expr.exists(|part| Ok(matches!(part, Expr::Placeholder(_))))
        .unwrap_or(true)
}

/// Filters with texts in the place of parameters.
///
/// # Errors
/// If a text is none of the column's values.
fn filled(filters: &[Expr], texts: &[String]) -> Result<Vec<Expr>> {
    let fill = |filter: &Expr| {
        let filled = filter.clone().transform(|part| match &part {
            Expr::Placeholder(parameter) => Ok(Transformed::yes(literal(parameter, texts)?)),
            _ => Ok(Transformed::no(part)),
        });
        filled.map(|filled| filled.data)
    };
    filters.iter().map(fill).collect()
}

fn on_scan(plan: &LogicalPlan, change: impl Fn(TableScan) -> TableScan) -> Result<LogicalPlan> {
    let changed = plan.clone().transform(|node| match node {
        LogicalPlan::TableScan(scan) => Ok(Transformed::yes(LogicalPlan::TableScan(change(scan)))),
        node => Ok(Transformed::no(node)),
    })?;
    Ok(changed.data)
}

/// The text of a parameter, as the type that the column is compared in.
fn literal(parameter: &Placeholder, texts: &[String]) -> Result<Expr> {
    let missing = || DataFusionError::Internal(format!("{} has no text", parameter.id));
    let text = parameter
        .id
        .strip_prefix(PARAMETER)
        .and_then(|at| texts.get(at.parse::<usize>().ok()?))
        .ok_or_else(missing)?;
    let text = ScalarValue::Utf8(Some(text.clone()));
    let value = match &parameter.field {
        Some(field) => text.cast_to(field.data_type())?,
        None => text,
    };
    Ok(Expr::Literal(value, None))
}

/// A filter with some value in the place of each parameter, to see what a scan can do with it.
pub(super) fn with_examples(filter: &Expr) -> Option<Expr> {
    if !has_parameters(filter) {
        return None;
    }
    let example = filter.clone().transform(|part| match &part {
        Expr::Placeholder(Placeholder {
            field: Some(field), ..
        }) => {
            let value = ScalarValue::new_default(field.data_type())?;
            Ok(Transformed::yes(Expr::Literal(value, None)))
        }
        _ => Ok(Transformed::no(part)),
    });
    example.ok().map(|example| example.data)
}
