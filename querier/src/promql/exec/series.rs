//! Reads the series of a selector and makes a row of each.

use std::sync::Arc;

use futures::StreamExt;
use tidelake_catalog::model::TimeRange;

use super::super::plan::{Inputs, Stage, Unit, Units};
use super::super::source::{Part, SeriesSamples};
use super::QueryError;
use super::annotations::Collector;
use super::grid::Grid;
use super::limits::Charge;
use super::profile::Profile;
use super::row::{Row, Rows, rows_bytes};
use super::selector::Select;
use super::spread::Spread;
use super::work::{Scan, Work, sort_rows};

/// What becomes of the samples of one series.
pub(crate) trait SeriesKernel: Send + Sync + 'static {
    /// Which series.
    fn select(&self) -> &Select;
    /// All samples that any step needs.
    fn time_range(&self) -> TimeRange;
    /// Bytes that a row needs, and what is needed to make it.
    fn need(&self, samples: &SeriesSamples) -> usize;
    /// The row of a series, if it has any value.
    fn row(
        &self,
        samples: SeriesSamples,
        remarks: &mut Collector,
    ) -> Result<Option<Row>, QueryError>;
}

/// All rows, sorted by labels.
pub(crate) async fn rows(
    work: &Work,
    kernel: impl SeriesKernel,
    grid: Grid,
    profile: Option<Arc<Profile>>,
) -> Result<Rows, QueryError> {
    let kernel = Arc::new(kernel);
    let (needing, making) = (Arc::clone(&kernel), Arc::clone(&kernel));
    let scan = Scan {
        select: kernel.select(),
        range: kernel.time_range(),
        part: Part::WHOLE,
        is_ordered: false,
        divided: grid.is_divisible.then_some(grid.count),
        profile,
    };
    let (mut rows, mut charge) = work
        .map_series(
            scan,
            move |samples| needing.need(samples),
            move |samples, remarks| making.row(samples, remarks),
        )
        .await?;
    sort_rows(&mut rows, &mut charge)?;
    charge.settle(rows_bytes(&rows))?;
    Ok(Rows::charged(rows, charge))
}

/// The rows batch by batch in the order of the series, with a stage of work on each batch. Other
/// processes make those of a part of the series, if the operator allows it and there are many.
pub(crate) async fn batches<'a>(
    on: Inputs<'a>,
    kernel: impl SeriesKernel,
    stage: Stage,
) -> Result<Units<'a>, QueryError> {
    let work = on.work;
    let kernel = Arc::new(kernel);
    let (needing, making) = (Arc::clone(&kernel), Arc::clone(&kernel));
    let profile = on.profile();
    let scan = Scan {
        select: kernel.select(),
        range: kernel.time_range(),
        part: on.extent.part,
        is_ordered: true,
        divided: None,
        profile: profile.clone(),
    };
    if scan.range.is_empty() {
        return Ok(futures::stream::empty().boxed());
    }
    let is_shared = on.extent.fragment.is_some() && work.spread.is_some();
    let selected = work.select(&scan, is_shared).await?;
    if let Some(expected) = work.expected {
        expected.check(&selected)?;
    }
    let computing = work.computing(
        &scan,
        move |samples| needing.need(samples),
        move |samples, remarks| making.row(samples, remarks),
        move |rows: Vec<Row>, charge: Charge, remarks: &mut Collector| {
            stage(Unit::Rows(Rows::charged(rows, charge)), remarks)
        },
    );
    match Spread::plan(on, &selected) {
        Some(parts) => Ok(parts.run(computing)),
        None => Ok(computing.run(selected.stream)),
    }
}
