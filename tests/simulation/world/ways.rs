//! The ways out of the database, each of which has to say the same.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tidelake_catalog::model::METRICS_TABLE;
use tidelake_querier::Querier;

use super::{Shared, Verdict};
use crate::model::{Cells, Floor, Model};
use crate::process::Process;
use crate::read;
use crate::read::ReadError;
use crate::workload::METRICS;

/// A way out of the database.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Scan,
    /// A field.
    Promql(String),
    /// Of the metrics table a metric.
    Sql(String),
}

pub(super) fn is_number(field: &str) -> bool {
    !field.starts_with('s')
}

impl Way {
    pub(super) fn draw(random: &mut StdRng, model: &Model, table: &str) -> Self {
        let fields: Vec<String> = model
            .fields(table)
            .into_iter()
            .filter(|field| is_number(field))
            .collect();
        match (random.random_range(0..3), fields.choose(random)) {
            (0, _) => Self::Scan,
            (1, Some(field)) => Self::Promql(field.clone()),
            _ => Self::Sql(
                METRICS
                    .choose(random)
                    .map_or(String::new(), |metric| (*metric).to_owned()),
            ),
        }
    }

    pub(super) async fn read(
        &self,
        querier: &Querier,
        table: &str,
        now_ms: i64,
    ) -> Result<Cells, ReadError> {
        match self {
            Self::Scan => read::scan(querier.tables(), table).await,
            Self::Promql(field) => read::promql(querier, table, field, now_ms).await,
            Self::Sql(metric) => read::sql(querier, table, metric).await,
        }
    }
}

impl Way {
    /// The rows of all processes, as the service has a process read them.
    pub(super) async fn read_all(
        &self,
        process: &Process,
        table: &str,
        now_ms: i64,
    ) -> Result<Cells, ReadError> {
        // An expression asks for rows before it looks at the catalog.
        if !matches!(self, Self::Promql(_)) {
            let met = process.cluster.meet().await;
            met.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        }
        self.read(&process.querier, table, now_ms).await
    }
}

pub(super) fn judge(
    shared: &Shared,
    way: &Way,
    table: &str,
    cells: &Cells,
    floor: &Floor,
    what: &str,
) -> Verdict {
    let prefix = match way {
        Way::Sql(metric) if table == METRICS_TABLE => format!("__name__={metric},"),
        _ => String::new(),
    };
    let is_read = |(series, _, field): &(String, i64, String)| match way {
        Way::Promql(wanted) => field == wanted,
        _ => series.starts_with(&prefix),
    };
    shared
        .model
        .lock()
        .judge(table, cells, floor, is_read)
        .map_err(|error| format!("{what}, {way:?}: {error}"))
}

pub(super) async fn check_table(
    shared: &Shared,
    querier: &Querier,
    way: &Way,
    table: &str,
    floor: &Floor,
    now_ms: i64,
    what: &str,
) -> Verdict {
    shared.figures.lock().queries += 1;
    let cells = way
        .read(querier, table, now_ms)
        .await
        .map_err(|error| format!("{what}, {way:?} of {table}: {error}"))?;
    judge(shared, way, table, &cells, floor, what)
}
