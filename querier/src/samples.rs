//! Tables as PromQL sees them: the metrics table, and every numeric field of a wide table as a
//! metric.
//!
//! Field `usage_user` of measurement `cpu` is the metric `cpu_usage_user`; a field called `value`
//! is just `cpu`.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    ArrowNativeType, Float64Type, Int64Type, TimestampMillisecondType, UInt64Type,
};
use async_trait::async_trait;
use datafusion::common::runtime::SpawnedTask;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tidelake_catalog::memory::Reservation;
use tidelake_catalog::model::histogram::HistogramArray;
use tidelake_catalog::model::schema::START_TIME_COLUMN;
use tidelake_catalog::model::{
    Column, ColumnType, Histogram, Labels, LabelsBuilder, METRIC_NAME, METRICS_TABLE, Matcher,
    TableKind, TableSchema, TimeRange, TimeUnit,
};
use tidelake_catalog::segment::scan::{ScanRequest, ScanUnit, plan, plan_by, plan_stored};
use tidelake_catalog::segment::{FieldArray, SegmentError, SortedRows};

use crate::labels::{self, LabelError, Search};
use crate::memory::{QueryBytes, QueryPool};
use crate::processors::processors;
use crate::promql::source::{
    Part, SampleSource, SelectRequest, SelectedSeries, SeriesBatch, SeriesParts, SeriesSamples,
    SeriesShape, SeriesStream, SourceError, series_bytes,
};
use crate::small::{self, FEW_ROWS, FEW_SERIES};
use crate::tables::{State, TableRange, Tables};

/// The field of the metrics table that holds histograms.
const HISTOGRAM_FIELD: &str = "histogram";

/// A field of a wide table that is a metric.
#[derive(Debug, Clone)]
pub(crate) struct FieldMetric {
    pub(crate) table: Arc<str>,
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) field: Column,
    pub(crate) name: String,
}

/// The fields of a database's wide tables that are metrics whose names pass.
pub(crate) fn field_metrics(
    tables: &Tables,
    database: &str,
    matchers: &[Matcher],
) -> Vec<FieldMetric> {
    let mut found = Vec::new();
    for (table, schema) in tables.wide_tables(database) {
        for field in schema.fields() {
            if !matches!(
                field.kind,
                ColumnType::Float
                    | ColumnType::Integer
                    | ColumnType::Unsigned
                    | ColumnType::Boolean
            ) {
                continue;
            }
            let name = labels::metric_name(&table, &field.name);
            if matchers
                .iter()
                .filter(|m| m.name == METRIC_NAME)
                .all(|m| m.matches(&name))
            {
                found.push(FieldMetric {
                    table: Arc::clone(&table),
                    schema: Arc::clone(&schema),
                    field: field.clone(),
                    name,
                });
            }
        }
    }
    found
}

/// The matchers that apply to tags.
pub(crate) fn tag_matchers(matchers: &[Matcher]) -> Vec<Matcher> {
    matchers
        .iter()
        .filter(|m| m.name != METRIC_NAME)
        .cloned()
        .collect()
}

/// A range of milliseconds in the unit of a table.
pub(crate) fn to_unit(range: TimeRange, unit: TimeUnit) -> TimeRange {
    match unit {
        TimeUnit::Millisecond => range,
        TimeUnit::Nanosecond => TimeRange::new(
            unit.from_millis(range.min),
            unit.from_millis(range.max).saturating_add(999_999),
        ),
    }
}

/// One database as a source of samples.
#[derive(Debug, Clone)]
pub struct DatabaseSamples {
    tables: Tables,
    database: Arc<str>,
}

impl DatabaseSamples {
    /// The samples of a database.
    pub fn new(tables: Tables, database: &str) -> Self {
        Self {
            tables,
            database: database.into(),
        }
    }
}

/// What is said to a query that reads too much.
pub(crate) fn too_many_bytes(limit: u64) -> String {
    format!(
        "more than {limit} bytes would be read from the store; narrow the selectors or the time \
         range, or raise max_query_read_bytes"
    )
}

/// Why rows could not be read, in the words of PromQL.
pub(crate) fn source_error(error: SegmentError) -> SourceError {
    match error {
        SegmentError::Corrupt { object, message } => SourceError::Corrupt { object, message },
        SegmentError::ReadLimit(limit) => SourceError::LimitExceeded(too_many_bytes(limit)),
        SegmentError::Memory(error) => SourceError::Memory(error.into()),
        other => SourceError::Unavailable(other.to_string()),
    }
}

fn label_error(error: LabelError) -> SourceError {
    match error {
        LabelError::Segment(error) => source_error(error),
        LabelError::Memory(error) => SourceError::Memory(error),
        timeout @ LabelError::Timeout => SourceError::Unavailable(timeout.to_string()),
    }
}

/// The series of one table that are to be read: samples that were sent as such, or a field of a
/// wide table as the metric `name`.
pub(crate) struct Feed {
    pub(crate) units: Vec<ScanUnit>,
    /// The memory of the units until [`hold_plan`] has counted them.
    found: Vec<Reservation>,
    pub(crate) name: Option<Arc<str>>,
}

/// In which order the series of a feed come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedOrder {
    Any,
    /// About that in which they are stored, see [`plan_stored`]: neighbours lie together.
    Stored,
    /// That of their labels.
    Labels,
}

/// Tables whose segments are opened at a time: a database may have thousands, of a file each.
const TABLES_AT_ONCE: usize = 16;

fn task_ended(error: impl std::fmt::Display) -> SegmentError {
    SegmentError::Unavailable {
        object: "the segments of a table".to_owned(),
        message: format!("a task that opens them ended early: {error}"),
    }
}

/// One field of a wide table; `None` if the table is gone.
async fn field_feed(
    tables: Tables,
    database: Arc<str>,
    metric: FieldMetric,
    tags: Arc<[Matcher]>,
    range: TimeRange,
    order: FeedOrder,
) -> Result<Option<Feed>, SegmentError> {
    let range = to_unit(range, metric.schema.kind.time_unit());
    let Some(found) = tables.sources(&database, &metric.table, range).await? else {
        return Ok(None);
    };
    let range = range.intersect(&found.kept);
    let scan = ScanRequest {
        fields: [metric.field.clone()].into(),
        matchers: tags.to_vec(),
        range,
        edge: None,
    };
    let (kind, late, meter) = (found.schema.kind, scan.clone(), tables.meter());
    let plan = match order {
        FeedOrder::Labels => {
            let key = |tags: &Labels| named(tags, &metric.name);
            plan_by(kind, found.sources, scan, key, meter).await?
        }
        FeedOrder::Stored => plan_stored(kind, found.sources, scan, meter).await?,
        FeedOrder::Any => plan(kind, found.sources, scan, meter).await?,
    };
    tables
        .late_scans()
        .note(&database, &metric.table, late, &plan);
    Ok(Some(Feed {
        units: plan.units,
        found: plan.held,
        name: Some(metric.name.into()),
    }))
}

/// What a selector selects, table by table.
pub(crate) async fn feeds(
    tables: &Tables,
    database: &str,
    matchers: &[Matcher],
    range: TimeRange,
    order: FeedOrder,
) -> Result<Vec<Feed>, SegmentError> {
    let mut feeds = Vec::new();
    // As far as the tables are known here.
    let mut ahead: Vec<TableRange> = vec![(METRICS_TABLE.into(), range)];
    for metric in field_metrics(tables, database, matchers) {
        if ahead.last().is_none_or(|(table, _)| *table != metric.table) {
            let range = to_unit(range, metric.schema.kind.time_unit());
            ahead.push((metric.table, range));
        }
    }
    tables.ask_ahead(database, &ahead).await?;
    if let Some(found) = tables.sources(database, METRICS_TABLE, range).await? {
        // Most databases have no histograms and no start times: these columns are read only where
        // one is.
        let present = |field: &Column| {
            &*field.name == "value"
                || found
                    .sources
                    .iter()
                    .any(|source| source.has_field(&field.name))
        };
        let fields = found
            .schema
            .fields()
            .filter(|f| present(f))
            .cloned()
            .collect();
        let scan = ScanRequest {
            fields,
            matchers: matchers.to_vec(),
            range: range.intersect(&found.kept),
            edge: None,
        };
        let (kind, late, meter) = (TableKind::Metrics, scan.clone(), tables.meter());
        let plan = match order {
            FeedOrder::Labels => plan_by(kind, found.sources, scan, Labels::clone, meter).await?,
            FeedOrder::Stored => plan_stored(kind, found.sources, scan, meter).await?,
            FeedOrder::Any => plan(kind, found.sources, scan, meter).await?,
        };
        tables
            .late_scans()
            .note(database, METRICS_TABLE, late, &plan);
        feeds.push(Feed {
            units: plan.units,
            found: plan.held,
            name: None,
        });
    }
    let tags: Arc<[Matcher]> = tag_matchers(matchers).into();
    let database: Arc<str> = database.into();
    let wide = field_metrics(tables, &database, matchers)
        .into_iter()
        .map(|metric| {
            let (tables, database, tags) = (tables.clone(), Arc::clone(&database), tags.clone());
            field_feed(tables, database, metric, tags, range, order)
        });
    let mut wide: Vec<_> = wide.collect();
    // To hand over all there is to another thread gains nothing.
    if wide.len() == 1
        && let Some(only) = wide.pop()
    {
        feeds.extend(only.await?);
        return Ok(feeds);
    }
    let planned = stream::iter(wide)
        .map(|feed| SpawnedTask::spawn(feed).map(|joined| joined.map_err(task_ended)))
        .buffered(TABLES_AT_ONCE);
    feeds.extend(
        planned
            .map(|planned| planned?)
            .try_filter_map(futures::future::ok)
            .try_collect::<Vec<_>>()
            .await?,
    );
    Ok(feeds)
}

/// Bytes of a row while it is read: its time and a number.
const ROW_BYTES: usize = 16;

/// Bytes of a series in the plan of a scan: its place, its runs of rows, an entry of a table, and
/// its labels, although queries share these.
pub(crate) const PLANNED_SERIES_BYTES: usize = 512;

/// Counts the plan of a scan.
pub(crate) fn hold_plan(
    feeds: &mut [Feed],
    pool: &Arc<QueryPool>,
) -> Result<QueryBytes, SourceError> {
    let units = feeds.iter().flat_map(|feed| &feed.units);
    let series: usize = units.map(|unit| unit.series().len()).sum();
    let held = pool.try_hold(series.saturating_mul(PLANNED_SERIES_BYTES))?;
    for feed in feeds {
        feed.found.clear();
    }
    Ok(held)
}

/// Reads a unit of a feed. The rows of its series are counted before they are read: all of them,
/// as a series is cut to its range after it was read.
async fn read_here(
    tables: Tables,
    unit: Arc<ScanUnit>,
    name: Option<Arc<str>>,
    pool: Arc<QueryPool>,
) -> Result<SeriesBatch, SourceError> {
    let rows = usize::try_from(unit.rows_bound()).unwrap_or(usize::MAX);
    let mut held = pool.try_hold(rows.saturating_mul(ROW_BYTES))?;
    let rows = tables.read(&unit).await.map_err(source_error)?;
    // The samples are copies of the rows; numbers of wide tables may be copied twice.
    let copied = match name {
        None => 0,
        Some(_) => rows.len().saturating_mul(ROW_BYTES),
    };
    held.try_resize(
        rows_bytes(&rows)
            .saturating_add(samples_bytes(&rows))
            .saturating_add(copied),
    )?;
    let series = match name {
        None => metric_samples(&rows)?,
        Some(name) => field_samples(&rows, &name),
    };
    drop(rows);
    held.try_resize(series_bytes(&series))?;
    Ok(SeriesBatch { series, held })
}

/// Bytes of a row in an array of histograms, also where there is none.
const HISTOGRAM_ROW_BYTES: usize = 64;

fn rows_bytes(rows: &SortedRows) -> usize {
    let histograms = rows.column(HISTOGRAM_FIELD).map_or(0, |column| {
        column.memory_size() + HISTOGRAM_ROW_BYTES * rows.len()
    });
    8 * rows.len() * (1 + rows.columns.len()) + histograms
}

/// What the samples of some rows will take, without their labels.
fn samples_bytes(rows: &SortedRows) -> usize {
    let histograms = rows.column(HISTOGRAM_FIELD).map_or(0, |column| {
        let present = match column {
            FieldArray::Dense(array) => array.len() - array.null_count(),
            FieldArray::Sparse(array) => array.entries().len(),
        };
        column.memory_size() + present * (size_of::<Histogram>() + 32)
    });
    ROW_BYTES * rows.len() + size_of::<SeriesSamples>() * rows.runs.len() + histograms
}

/// Reads a unit of a feed, in a task of its own.
pub(crate) async fn read_unit(
    tables: Tables,
    unit: Arc<ScanUnit>,
    name: Option<Arc<str>>,
    pool: Arc<QueryPool>,
) -> Result<SeriesBatch, SourceError> {
    let task = SpawnedTask::spawn(read_here(tables, unit, name, pool));
    task.await
        .map_err(|error| SourceError::Unavailable(format!("a reading task ended early: {error}")))?
}

/// Refuses to read more series than are allowed.
pub(crate) fn check_series(feeds: &[Feed], most: usize) -> Result<(), SourceError> {
    let series: usize = feeds
        .iter()
        .flat_map(|feed| &feed.units)
        .map(|unit| unit.series().len())
        .sum();
    if series > most {
        return Err(SourceError::LimitExceeded(format!(
            "a selector matches {series} series, at most {most} are allowed; narrow it, or raise \
             max_query_series"
        )));
    }
    Ok(())
}

#[async_trait]
impl SampleSource for DatabaseSamples {
    async fn select(&self, request: SelectRequest) -> Result<SelectedSeries, SourceError> {
        let SelectRequest {
            matchers,
            range,
            limits,
            meter,
            pool,
            alone,
            part,
            is_shared,
            is_ordered,
        } = request;
        let tables = self.tables.counted(&meter).noting(is_shared);
        let order = match is_ordered {
            true => FeedOrder::Stored,
            false => FeedOrder::Any,
        };
        let mut feeds = feeds(&tables, &self.database, &matchers, range, order)
            .await
            .map_err(source_error)?;
        check_series(&feeds, limits.max_series)?;
        let planned = hold_plan(&mut feeds, &pool)?;
        let units = feeds.iter().flat_map(|feed| &feed.units);
        let (rows, series) = units.fold((0, 0), |(rows, series), unit| {
            (rows + unit.rows_bound(), series + unit.series().len())
        });
        if rows > FEW_ROWS || series > FEW_SERIES {
            small::large().await;
        }
        let jobs = feeds.into_iter().flat_map(|Feed { units, name, .. }| {
            units
                .into_iter()
                .map(move |unit| (Arc::new(unit), name.clone()))
        });
        let selected = Arc::new(Selected {
            jobs: jobs.collect(),
            tables,
            pool,
            alone,
            _planned: planned,
        });
        Ok(SelectedSeries {
            series,
            rows,
            batches: selected.jobs.len(),
            stream: selected.part(part),
            parts: is_shared.then(|| Arc::new(selected) as _),
        })
    }

    async fn shape(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        pool: &Arc<QueryPool>,
    ) -> Result<Option<SeriesShape>, SourceError> {
        let metrics = self.tables.sources(&self.database, METRICS_TABLE, range);
        let metrics = metrics.await.map_err(source_error)?;
        let mut sources = metrics.iter().flat_map(|found| &found.sources);
        let may_have_histograms = sources.any(|source| source.has_field(HISTOGRAM_FIELD));
        let search = Search::new(pool, None).map_err(label_error)?;
        let sets = [matchers.to_vec()];
        let (label_names, _) = labels::names(&self.tables, &self.database, &sets, range, search)
            .await
            .map_err(label_error)?;
        Ok(Some(SeriesShape {
            label_names: label_names.into_iter().collect(),
            may_have_histograms,
        }))
    }
}

/// Series that were found and can be read.
struct Selected {
    jobs: Vec<(Arc<ScanUnit>, Option<Arc<str>>)>,
    tables: Tables,
    pool: Arc<QueryPool>,
    /// Whether nothing else of the query is read at the same time.
    alone: bool,
    /// The plan is counted as long as anybody may read units of it.
    _planned: QueryBytes,
}

impl Selected {
    fn part(self: &Arc<Self>, part: Part) -> SeriesStream {
        let jobs = part.range(self.jobs.len());
        // To hand over all there is to another thread gains nothing.
        let is_single = self.alone && jobs.len() == 1;
        let selected = Arc::clone(self);
        let read = move |job: usize| {
            let (unit, name) = selected.jobs[job].clone();
            let (tables, pool) = (selected.tables.clone(), Arc::clone(&selected.pool));
            match is_single {
                true => read_here(tables, unit, name, pool).left_future(),
                false => read_unit(tables, unit, name, pool).right_future(),
            }
        };
        stream::iter(jobs)
            .map(read)
            .buffered(processors())
            .try_filter(|batch| futures::future::ready(!batch.series.is_empty()))
            .boxed()
    }
}

/// The same for whoever shares them with others.
impl SeriesParts for Arc<Selected> {
    fn read(&self, part: Part) -> SeriesStream {
        self.part(part)
    }

    fn state(&self) -> Option<Arc<State>> {
        self.tables.noted().map(Arc::new)
    }
}

fn metric_samples(rows: &SortedRows) -> Result<Vec<SeriesSamples>, SourceError> {
    let corrupt = |what: &str| {
        SourceError::Unavailable(format!(
            "the metrics table has a column of the wrong type: {what}"
        ))
    };
    let values = rows.array("value");
    let values = values
        .as_ref()
        .and_then(|c| c.as_primitive_opt::<Float64Type>())
        .ok_or_else(|| corrupt("value"))?;
    let histograms = rows.array(HISTOGRAM_FIELD);
    let histograms = match &histograms {
        Some(array) => Some(
            array
                .as_struct_opt()
                .and_then(|array| HistogramArray::try_new(array).ok())
                .ok_or_else(|| corrupt("histogram"))?,
        ),
        None => None,
    };
    let start_times = rows.array(START_TIME_COLUMN);
    let start_times = match &start_times {
        Some(array) => Some(
            array
                .as_primitive_opt::<TimestampMillisecondType>()
                .ok_or_else(|| corrupt(START_TIME_COLUMN))?,
        ),
        None => None,
    };
    let series = rows.runs.iter().map(|run| {
        let mut samples = SeriesSamples {
            labels: run.series.labels.clone(),
            times: part(&rows.time, &run.rows()),
            values: part(values.values(), &run.rows()),
            histograms: Vec::new(),
            start_times: Vec::new(),
        };
        if let Some(array) = start_times
            && array.null_count() < array.len()
        {
            let known = run.rows().map(|row| {
                if array.is_valid(row) {
                    array.value(row)
                } else {
                    0
                }
            });
            samples.start_times = known.collect();
            if samples.start_times.iter().all(|time| *time == 0) {
                samples.start_times = Vec::new();
            }
        }
        if let Some(array) = &histograms {
            let mut values = Vec::new();
            for row in run.rows() {
                if let Some(histogram) = array.get(row) {
                    let at = row - run.rows().start;
                    if values.is_empty() {
                        values = samples.values.to_vec();
                    }
                    values[at] = f64::NAN;
                    samples.histograms.push((at as u32, Arc::new(histogram)));
                }
            }
            if !values.is_empty() {
                samples.values = values.into();
            }
        }
        samples
    });
    Ok(series.collect())
}

/// Some of what a buffer holds: without a copy, unless most of the buffer would be kept for
/// nothing.
fn part<T: ArrowNativeType>(buffer: &ScalarBuffer<T>, rows: &Range<usize>) -> ScalarBuffer<T> {
    let used = size_of_val::<[T]>(buffer);
    if buffer.inner().capacity() / 2 > used {
        return buffer[rows.clone()].to_vec().into();
    }
    buffer.slice(rows.start, rows.len())
}

/// Nanoseconds become milliseconds; of several rows in one millisecond the last counts.
fn field_samples(rows: &SortedRows, name: &str) -> Vec<SeriesSamples> {
    let Some(column) = rows.columns.first() else {
        return Vec::new();
    };
    let column = column.to_array();
    let values = numbers(&column);
    let millis = |time: &i64| TimeUnit::Nanosecond.to_millis(*time);
    let times: ScalarBuffer<i64> = rows.time.iter().map(millis).collect();
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
    let runs = rows.runs.iter().filter_map(|run| {
        let of = run.rows();
        let is_whole = nulls.is_none_or(|nulls| nulls.slice(of.start, of.len()).null_count() == 0);
        let has_twins = || times[of.clone()].array_windows().any(|[a, b]| a == b);
        let (times, values) = if is_whole && !has_twins() {
            (part(&times, &of), part(&values, &of))
        } else {
            let present = of.filter(|row| nulls.is_none_or(|nulls| nulls.is_valid(*row)));
            last_of_each(present.map(|row| (times[row], values[row])))
        };
        (!times.is_empty()).then(|| SeriesSamples {
            labels: named(&run.series.labels, name),
            times,
            values,
            ..SeriesSamples::default()
        })
    });
    runs.collect()
}

/// Of values with the same time the last one.
fn last_of_each(
    samples: impl Iterator<Item = (i64, f64)>,
) -> (ScalarBuffer<i64>, ScalarBuffer<f64>) {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for (time, value) in samples {
        if times.last() == Some(&time) {
            values.pop();
        } else {
            times.push(time);
        }
        values.push(value);
    }
    (times.into(), values.into())
}

/// Tags with the metric's name.
pub(crate) fn named(tags: &Labels, name: &str) -> Labels {
    let mut labels = LabelsBuilder::from_labels(tags);
    labels.set(METRIC_NAME, name);
    labels.build()
}

/// The values of a column; those of nulls mean nothing.
fn numbers(column: &ArrayRef) -> ScalarBuffer<f64> {
    if let Some(array) = column.as_primitive_opt::<Float64Type>() {
        array.values().clone()
    } else if let Some(array) = column.as_primitive_opt::<Int64Type>() {
        array.values().iter().map(|value| *value as f64).collect()
    } else if let Some(array) = column.as_primitive_opt::<UInt64Type>() {
        array.values().iter().map(|value| *value as f64).collect()
    } else if let Some(array) = column.as_boolean_opt() {
        let bits = array.values().iter();
        bits.map(|bit| f64::from(u8::from(bit))).collect()
    } else {
        vec![f64::NAN; column.len()].into()
    }
}
