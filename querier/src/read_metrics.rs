//! What EXPLAIN ANALYZE says about the store: rounds, requests, bytes, dollars, and what needed
//! none.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use datafusion::physical_plan::metrics::{
    Count, CustomMetricValue, Metric, MetricValue, MetricsSet,
};
use parking_lot::Mutex;
use tidelake_catalog::segment::ReadCounts;

/// Adds what a scan has read to its metrics.
pub(crate) fn add(metrics: &mut MetricsSet, counts: ReadCounts, request_price: f64) {
    for (name, value) in [
        ("store_rounds", counts.rounds),
        ("store_requests", counts.requests),
        ("store_bytes", counts.bytes),
        ("memory_hits", counts.memory_hits),
        ("disk_hits", counts.disk_hits),
    ] {
        let count = Count::new();
        count.add(usize::try_from(value).unwrap_or(usize::MAX));
        let name = name.into();
        metrics.push(Arc::new(Metric::new(
            MetricValue::Count { name, count },
            None,
        )));
    }
    let value = Dollars(Mutex::new(counts.requests as f64 * request_price));
    metrics.push(Arc::new(Metric::new(
        MetricValue::Custom {
            name: "store_dollars".into(),
            value: Arc::new(value),
        },
        None,
    )));
}

/// What requests cost.
#[derive(Debug, Default)]
struct Dollars(Mutex<f64>);

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Prices are known to a part of a millionth.
        let text = format!("{:.12}", self.0.lock());
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl CustomMetricValue for Dollars {
    fn new_empty(&self) -> Arc<dyn CustomMetricValue> {
        Arc::new(Self::default())
    }

    fn aggregate(&self, other: Arc<dyn CustomMetricValue + 'static>) {
        if let Some(other) = other.as_any().downcast_ref::<Self>() {
            let more = *other.0.lock();
            *self.0.lock() += more;
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn is_eq(&self, other: &Arc<dyn CustomMetricValue>) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| {
            let other = *other.0.lock();
            *self.0.lock() == other
        })
    }
}
