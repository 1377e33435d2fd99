//! `EXPLAIN`: how a query would be carried out.

use std::sync::Arc;

use super::plan::{Function, Plan, PlanSource};
use super::select::Series;
use super::value::{Column, Value};

/// The lines of an explanation.
pub(super) fn explain(plan: &Plan) -> Series {
    let mut lines = Vec::new();
    describe(plan, 0, &mut lines);
    let values: Vec<Value> = lines
        .iter()
        .map(|line| Value::String(line.as_str().into()))
        .collect();
    Series {
        name: None,
        tags: Vec::new(),
        columns: Arc::from(["QUERY PLAN".to_owned()]),
        times: None,
        zone: None,
        len: values.len(),
        values: vec![Column::Values(values)],
    }
}

fn describe(plan: &Plan, depth: usize, lines: &mut Vec<String>) {
    let mut line = |text: String| lines.push(format!("{}{text}", "  ".repeat(depth)));
    let is_mergeable = !plan.is_raw()
        && plan
            .calls
            .iter()
            .all(|call| call.function.as_ref().is_some_and(Function::is_mergeable));
    line(match (plan.is_raw(), is_mergeable) {
        (true, _) => "RAW ROWS".to_owned(),
        (false, true) => "FUNCTIONS, run by run".to_owned(),
        (false, false) => "FUNCTIONS, over the joined rows of a group".to_owned(),
    });
    let columns: Vec<&str> = plan
        .fields
        .iter()
        .map(|field| field.column.as_str())
        .collect();
    line(format!("COLUMNS: {}", columns.join(", ")));
    line(format!("TIME: {} to {} ns", plan.range.0, plan.range.1));
    if let Some(windows) = plan.windows {
        line(format!(
            "WINDOWS: {} ns, offset {} ns",
            windows.every, windows.offset
        ));
    }
    if !plan.dimensions.is_empty() {
        line(format!("GROUP BY: {}", plan.dimensions.join(", ")));
    }
    for source in &plan.sources {
        match source {
            PlanSource::Measure(measure) => lines.push(format!(
                "{}MEASUREMENT: {} of database {}",
                "  ".repeat(depth),
                measure.name,
                measure.database
            )),
            PlanSource::Subquery(inner) => {
                lines.push(format!("{}SUBQUERY:", "  ".repeat(depth)));
                describe(inner, depth + 1, lines);
            }
        }
    }
}
