//! What the operators of one query share: where samples come from, limits, annotations, counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tidelake_catalog::model::TimeRange;
use tidelake_catalog::panics;
use tidelake_catalog::segment::ReadMeter;
use tokio::time::Instant;

use crate::lane::Lane;
use crate::processors::processors;
use crate::small;

use super::super::source::{
    Part, SampleSource, SelectLimits, SelectRequest, SelectedSeries, SeriesBatch, SeriesSamples,
    SeriesStream,
};
use super::annotations::Collector;
use super::finish::{merge_rows, without_metadata};
use super::grid::Grid;
use super::limits::{Charge, Limits};
use super::profile::Profile;
use super::row::{Row, Rows, labels_bytes, labels_in_work_bytes};
use super::scalar::Scalar;
use super::selector::{Points, Select};
use super::spread::{Shape, Spread};
use super::stats::{Counter, StepCounts};
use super::{EngineOptions, QueryError, reset_hints};

/// The value of an operator.
#[derive(Debug)]
pub(crate) enum Evaluated {
    /// One float per step.
    Scalar(Scalar),
    /// Rows as long as the grid.
    Vector(Rows),
    /// Raw samples; only at the top of a query.
    Range(Vec<Points>, Charge),
    /// A text.
    String(String),
}

/// One query while it is evaluated.
pub(crate) struct Work {
    source: Arc<dyn SampleSource>,
    /// Time and memory of the query.
    pub limits: Arc<Limits>,
    annotations: Arc<Mutex<Collector>>,
    /// The steps of the query.
    pub grid: Grid,
    /// How far instant selectors look back, in milliseconds.
    pub lookback: i64,
    /// Where it computes, and what it has taken.
    pub lane: Lane,
    max_series: usize,
    /// See [`EngineOptions::undivided_values`].
    undivided_values: usize,
    /// What a request to the store costs, in dollars.
    pub request_price: f64,
    /// What is read for the query.
    pub meter: Arc<ReadMeter>,
    /// Whether what each operator does is noted.
    pub is_profiled: bool,
    /// Whether metric names are removed at the end only.
    pub drops_names_late: bool,
    counts: Option<Arc<StepCounts>>,
    /// Who else may take a part.
    pub spread: Option<Spread>,
    /// What the only selector has to find.
    pub expected: Option<Shape>,
    /// Pairs of operators that are being evaluated at the same time.
    pairs: AtomicUsize,
    /// Time that it took to put the answer into its order.
    sort_nanos: AtomicU64,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.limits.cancel();
    }
}

/// What is to be read for a selector.
pub(crate) struct Scan<'a> {
    pub select: &'a Select,
    pub range: TimeRange,
    /// Which of the series.
    pub part: Part,
    /// Whether batches have to come in the order of their series.
    pub is_ordered: bool,
    /// The number of steps, if they may be asked for one after the other.
    pub divided: Option<usize>,
    /// Of the operator that reads, if it is profiled.
    pub profile: Option<Arc<Profile>>,
}

impl Scan<'_> {
    /// Samples before this time are only there to be compared with.
    fn since(&self) -> Option<i64> {
        let min = self.range.min;
        self.select.counts_only.then(|| min.saturating_sub(1))
    }
}

/// See [`Work::computing`]. It may outlive the query's operators, not its limits.
pub(crate) struct Computing<U> {
    compute: Arc<dyn Fn(SeriesBatch) -> Result<(U, Collector), QueryError> + Send + Sync>,
    annotations: Arc<Mutex<Collector>>,
    lane: Lane,
    alone: bool,
}

impl<U: Send + 'static> Computing<U> {
    /// What comes out of batches, in their order.
    pub fn run(&self, stream: SeriesStream) -> BoxStream<'static, Result<U, QueryError>> {
        // To hand over all there is to another thread gains nothing.
        let is_only = self.alone && stream.size_hint().1 == Some(1);
        let (compute, lane) = (Arc::clone(&self.compute), self.lane.clone());
        let annotations = Arc::clone(&self.annotations);
        let tasks = stream.map(move |batch| {
            let (compute, lane) = (Arc::clone(&compute), lane.clone());
            async move {
                let batch = batch?;
                if is_only {
                    return compute(batch);
                }
                let task = tokio::spawn(async move {
                    let begun = Instant::now();
                    let computed = panics::caught_call(|| compute(batch));
                    lane.computed(begun.elapsed());
                    computed
                });
                // Its threads end.
                task.await.map_err(|_| QueryError::Canceled)??
            }
        });
        let merged = tasks.buffered(processors() + 1).map(move |done| {
            let (result, remarks) = done?;
            annotations.lock().merge(remarks);
            Ok(result)
        });
        merged.boxed()
    }
}

impl Work {
    /// With `is_profiled`, what each operator does is noted.
    pub fn new(
        source: Arc<dyn SampleSource>,
        options: &EngineOptions,
        limits: Arc<Limits>,
        grid: Grid,
        lookback: i64,
        is_profiled: bool,
    ) -> Self {
        Self {
            grid,
            meter: options.lane.meter(options.max_read_bytes),
            request_price: options.request_price,
            is_profiled,
            drops_names_late: options.experimental,
            source,
            limits,
            annotations: Arc::default(),
            spread: None,
            expected: None,
            lookback: lookback.max(1),
            lane: options.lane.clone(),
            max_series: options.max_series,
            undivided_values: options.undivided_values,
            counts: None,
            pairs: AtomicUsize::new(0),
            sort_nanos: AtomicU64::new(0),
        }
    }

    /// Counts the samples that the steps look at, if there is something to count with.
    pub fn counting(mut self, counts: Option<Arc<StepCounts>>) -> Self {
        self.counts = counts;
        self
    }

    /// Counts samples for an operator that is evaluated at these steps.
    pub fn counter(&self, grid: Grid) -> Counter {
        Counter::new(self.counts.as_ref(), grid)
    }

    /// The samples that steps looked at so far, if they are counted.
    pub fn counts(&self) -> Option<&Arc<StepCounts>> {
        self.counts.as_ref()
    }

    /// What was remarked so far.
    pub fn annotations(&self) -> Collector {
        self.annotations.lock().clone()
    }

    /// Adds remarks.
    pub fn annotate(&self, remarks: impl FnOnce(&mut Collector)) {
        remarks(&mut self.annotations.lock());
    }

    /// Counts the time that it took to put the answer into its order.
    pub fn sorted(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sort_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Time that it took to put the answer into its order.
    pub fn sorting(&self) -> Duration {
        Duration::from_nanos(self.sort_nanos.load(Ordering::Relaxed))
    }

    /// Awaits two operands that are evaluated at the same time.
    pub async fn both<A, B>(
        &self,
        lhs: impl Future<Output = Result<A, QueryError>>,
        rhs: impl Future<Output = Result<B, QueryError>>,
    ) -> Result<(A, B), QueryError> {
        self.pairs.fetch_add(1, Ordering::Relaxed);
        let values = futures::try_join!(lhs, rhs);
        self.pairs.fetch_sub(1, Ordering::Relaxed);
        values
    }

    /// Finds the series of a scan.
    pub async fn select(
        &self,
        scan: &Scan<'_>,
        is_shared: bool,
    ) -> Result<SelectedSeries, QueryError> {
        let Scan { select, range, .. } = *scan;
        let range = match scan.since() {
            // The first sample that counts is compared with the one before it.
            Some(_) => TimeRange::new(range.min.saturating_sub(self.lookback), range.max),
            None => range,
        };
        let meter = scan
            .profile
            .as_ref()
            .map_or(&self.meter, |profile| &profile.read);
        let request = SelectRequest {
            matchers: select.matchers.clone(),
            range,
            limits: SelectLimits {
                max_series: self.max_series,
            },
            meter: Arc::clone(meter),
            pool: Arc::clone(self.limits.pool()),
            alone: self.is_alone(),
            part: scan.part,
            is_shared,
            is_ordered: scan.is_ordered,
        };
        let selected = self.source.select(request).await?;
        if self.lane.reads(selected.rows) {
            // The query moves to the threads for heavy ones at this pause.
            small::large().await;
        }
        if let Some(steps) = scan.divided {
            let most = (self.undivided_values / selected.series.max(1)).max(1);
            if steps > most {
                return Err(QueryError::Divide(most));
            }
        }
        Ok(selected)
    }

    /// Whether no other operator is being evaluated at the same time.
    pub fn is_alone(&self) -> bool {
        self.pairs.load(Ordering::Relaxed) == 0
    }

    /// What is done with each batch of the series of a scan: `work` with every series, and `stage`
    /// with all that comes out. `need` tells how many bytes the work on a series allocates, its
    /// result included.
    pub fn computing<T, U>(
        &self,
        scan: &Scan<'_>,
        need: impl Fn(&SeriesSamples) -> usize + Send + Sync + 'static,
        work: impl Fn(SeriesSamples, &mut Collector) -> Result<Option<T>, QueryError>
        + Send
        + Sync
        + 'static,
        stage: impl Fn(Vec<T>, Charge, &mut Collector) -> Result<U, QueryError> + Send + Sync + 'static,
    ) -> Computing<U>
    where
        T: Weighed + Send + 'static,
        U: Send + 'static,
    {
        let (limits, profile) = (Arc::clone(&self.limits), scan.profile.clone());
        let since = scan.since();
        let compute = move |batch: SeriesBatch| -> Result<_, QueryError> {
            let mut remarks = Collector::default();
            let begun = profile.as_ref().map(|profile| {
                profile.batch(&batch.series);
                Instant::now()
            });
            // The raw samples are gone before the next stage.
            let (results, charge) = of_batch(batch, &limits, since, &need, &work, &mut remarks)?;
            if let Some((profile, begun)) = profile.as_ref().zip(begun) {
                profile.computed(begun.elapsed());
            }
            Ok((stage(results, charge, &mut remarks)?, remarks))
        };
        Computing {
            compute: Arc::new(compute),
            annotations: Arc::clone(&self.annotations),
            lane: self.lane.clone(),
            alone: self.is_alone(),
        }
    }

    /// Runs `work` over every series that matches, and `stage` over what comes out of each batch;
    /// several batches at a time, each in a task of its own.
    ///
    /// Results come in the order of the source's batches.
    pub async fn batches<T: Weighed + Send + 'static, U: Send + 'static>(
        &self,
        scan: Scan<'_>,
        need: impl Fn(&SeriesSamples) -> usize + Send + Sync + 'static,
        work: impl Fn(SeriesSamples, &mut Collector) -> Result<Option<T>, QueryError>
        + Send
        + Sync
        + 'static,
        stage: impl Fn(Vec<T>, Charge, &mut Collector) -> Result<U, QueryError> + Send + Sync + 'static,
    ) -> Result<BoxStream<'static, Result<U, QueryError>>, QueryError> {
        if scan.range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let selected = self.select(&scan, false).await?;
        Ok(self
            .computing(&scan, need, work, stage)
            .run(selected.stream))
    }

    /// The same for results that are wanted all together; callers sort them.
    pub async fn map_series<T: Weighed + Send + 'static>(
        &self,
        scan: Scan<'_>,
        need: impl Fn(&SeriesSamples) -> usize + Send + Sync + 'static,
        work: impl Fn(SeriesSamples, &mut Collector) -> Result<Option<T>, QueryError>
        + Send
        + Sync
        + 'static,
    ) -> Result<(Vec<T>, Charge), QueryError> {
        let stage = |results, charge, _: &mut Collector| Ok((results, charge));
        let mut batches = self.batches(scan, need, work, stage).await?;
        let mut all: Option<(Vec<T>, Charge)> = None;
        while let Some(batch) = batches.next().await {
            let (part, part_charge) = batch?;
            let Some((results, charge)) = &mut all else {
                all = Some((part, part_charge));
                continue;
            };
            charge.merge(part_charge);
            if part.len() > results.capacity() - results.len() {
                let grown = (2 * results.capacity()).max(results.len() + part.len());
                charge.take(
                    grown.saturating_sub(results.capacity() + part.capacity()) * size_of::<T>(),
                )?;
                // While it grows the old list is still there.
                charge.reserve(results.capacity() * size_of::<T>())?;
                results.reserve_exact(grown - results.len());
            }
            results.extend(part);
        }
        match all {
            Some(all) => Ok(all),
            None => Ok((Vec::new(), self.limits.charge(0)?)),
        }
    }

    /// Removes the metric names that have to go, where the query does not wait with that until its
    /// end.
    pub fn without_names(&self, value: Evaluated) -> Result<Evaluated, QueryError> {
        let Evaluated::Vector(rows) = value else {
            return Ok(value);
        };
        if !rows.list.iter().any(|row| row.drop_name) {
            return Ok(Evaluated::Vector(rows));
        }
        let rows = rows.try_map(|mut rows, charge| {
            drop_names(&mut rows, charge)?;
            rows.iter_mut().for_each(|row| row.drop_name = false);
            merge_rows(rows, charge)
        })?;
        Ok(Evaluated::Vector(rows))
    }
}

/// Works on the series of a batch, one after the other.
fn of_batch<T: Weighed>(
    batch: SeriesBatch,
    limits: &Arc<Limits>,
    since: Option<i64>,
    need: impl Fn(&SeriesSamples) -> usize,
    work: impl Fn(SeriesSamples, &mut Collector) -> Result<Option<T>, QueryError>,
    remarks: &mut Collector,
) -> Result<(Vec<T>, Charge), QueryError> {
    let SeriesBatch {
        series: batch,
        held,
    } = batch;
    let samples = batch.iter().map(SeriesSamples::weight).sum();
    // The raw samples count as long as the batch is worked on.
    let _raw = limits.charge_read(samples, held)?;
    let mut charge = limits.charge(batch.len() * size_of::<T>())?;
    let mut results = Vec::with_capacity(batch.len());
    let (mut held, mut bytes) = (0u64, 0);
    for mut series in batch {
        limits.check()?;
        charge.reserve(need(&series))?;
        match since {
            None => reset_hints::forget(&mut series),
            Some(since) => reset_hints::without_buckets(&mut series, since),
        }
        if let Some(result) = work(series, remarks)? {
            held += result.weight();
            if held > limits.max_samples() {
                return Err(QueryError::TooManySamples(limits.max_samples()));
            }
            let more = result.heap_bytes();
            charge.take(more)?;
            bytes += more;
            results.push(result);
        }
    }
    charge.add_samples(held)?;
    charge.settle(results.capacity() * size_of::<T>() + bytes)?;
    Ok((results, charge))
}

/// What results of [`Work::batches`] hold.
pub(crate) trait Weighed {
    /// Samples.
    fn weight(&self) -> u64;
    /// Bytes, without its own place.
    fn heap_bytes(&self) -> usize;
}

impl Weighed for Row {
    fn weight(&self) -> u64 {
        Row::weight(self)
    }

    fn heap_bytes(&self) -> usize {
        Row::heap_bytes(self)
    }
}

impl Weighed for Points {
    fn weight(&self) -> u64 {
        Points::weight(self)
    }

    fn heap_bytes(&self) -> usize {
        Points::heap_bytes(self)
    }
}

/// Removes the metric names that have to go.
pub(crate) fn drop_names(rows: &mut [Row], charge: &mut Charge) -> Result<(), QueryError> {
    for row in rows.iter_mut().filter(|row| row.drop_name) {
        let len = row.labels.as_str().len();
        charge.reserve(labels_in_work_bytes(len))?;
        row.labels = without_metadata(&row.labels);
        charge.take(labels_bytes(&row.labels))?;
    }
    Ok(())
}

/// Rows in the order of their labels.
pub(crate) fn sort_rows(rows: &mut [Row], charge: &mut Charge) -> Result<(), QueryError> {
    // A stable sort has a buffer of half its input.
    charge.reserve(size_of_val(rows) / 2)?;
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(())
}
