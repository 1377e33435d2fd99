//! Operators that are planned once and run again over other rows.
//!
//! To make operators of a small query takes longer than to run them. Those of a shape that reads
//! few rows of one table are kept, with a scan of nothing as their leaf; asked again, they get a
//! scan of what there is to read then. They hold nothing of the query that they were made for:
//! their functions have limits of nobody, and only such are kept whose calls are bounded by their
//! arguments.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::prelude::SessionConfig;

use super::provider::Rows;
use super::scan_exec::ScanExec;

/// Operators and what they are run with.
#[derive(Debug, Clone)]
pub(super) struct ReadyPlan {
    pub plan: Arc<dyn ExecutionPlan>,
    pub config: SessionConfig,
}

impl ReadyPlan {
    /// Keeps operators; `None` if they are not in one line above a scan of one partition.
    pub fn of(plan: &Arc<dyn ExecutionPlan>, config: SessionConfig) -> Option<Self> {
        let plan = on_scan(plan, &|scan| scan.blank()).ok()?;
        let is_one = plan.properties().output_partitioning().partition_count() == 1;
        is_one.then_some(Self { plan, config })
    }

    /// The same over other rows.
    pub fn over(&self, rows: Rows) -> Result<Self> {
        let (summary, units) = (rows.summary, rows.units);
        let plan = on_scan(&self.plan, &|scan| {
            scan.over(units.clone(), summary.clone())
        })?;
        Ok(Self {
            plan,
            config: self.config.clone(),
        })
    }
}

/// Operators with another scan, and with nothing in them of an earlier run.
pub(super) fn on_scan(
    plan: &Arc<dyn ExecutionPlan>,
    change: &dyn Fn(&ScanExec) -> ScanExec,
) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(scan) = plan.downcast_ref::<ScanExec>() {
        return Ok(Arc::new(change(scan)));
    }
    let [input] = plan.children()[..] else {
        return internal_err!("{} does not have one input", plan.name());
    };
    let input = on_scan(input, change)?;
    replace_children_if_necessary(Arc::clone(plan), vec![input])?.reset_state()
}
