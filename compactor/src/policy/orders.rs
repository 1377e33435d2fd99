//! Whether the rows of a merge keep their places in the order of all writes.
//!
//! Of segments whose orders do not overlap it suffices to know which is later. Where several
//! processes take writes, the rows of one segment lie between those of another, and each has its
//! order. When nothing lies between those of a merge any more, nor can come, they are left out.

use tidelake_catalog::model::TimeRange;
use tidelake_catalog::snapshot::{Snapshot, Table, is_clock_order};

use super::Plan;

/// The results of a plan keep the orders of their rows; `have_orders` says whether any input has.
pub fn keeps_orders(snapshot: &Snapshot, table: &Table, plan: &Plan, have_orders: bool) -> bool {
    let orders = plan.segments.iter().map(|segment| segment.order);
    let orders = orders.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let times = plan.segments.iter().map(|segment| segment.time);
    let times = times.reduce(|a, b| a.union(&b));
    let (Some(orders), Some(times)) = (orders, times) else {
        return false;
    };
    is_interleaved(table, plan, orders, times) || (have_orders && !is_settled(snapshot, orders.1))
}

/// Whether rows of other segments may lie between those of the inputs.
fn is_interleaved(table: &Table, plan: &Plan, orders: (u64, u64), times: TimeRange) -> bool {
    let days = plan
        .segments
        .iter()
        .filter_map(|input| table.days.get(&input.day));
    let mut others = days.flat_map(|day| day.iter()).filter(|other| {
        let mut inputs = plan.segments.iter();
        inputs.all(|input| input.id != other.id) && other.time.overlaps(&times)
    });
    others.any(|other| other.order.0 <= orders.1 && orders.0 <= other.order.1)
}

/// Whether all rows up to an order are in segments.
fn is_settled(snapshot: &Snapshot, order: u64) -> bool {
    let mut writers = snapshot.nodes().filter(|node| node.takes_writes());
    !is_clock_order(order) || writers.all(|node| node.order >= order)
}
