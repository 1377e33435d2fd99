//! `tidelake pull`: a time range of tables or series of a store, into a folder that a local server
//! then serves.
//!
//! Rows are read as queries read them, with deletes and retention applied, and written as merges
//! write them, so that every value is the same to the last bit. The folder has its name once all is
//! there. It has no tokens, limits or retention of its own: what was pulled stays.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use futures::future::try_join;
use serde::Serialize;
use tidelake_catalog::model::{Column, Day, METRIC_NAME, Matcher, TableKind, TimeRange, TimeUnit};
use tidelake_catalog::segment::SortOrder;
use tidelake_catalog::segment::encoding::Effort;
use tidelake_catalog::segment::scan::{ScanRequest, ScanUnit, plan_stored};
use tidelake_catalog::segment_upload::{SegmentShape, SegmentUpload};
use tidelake_catalog::{
    Catalog, Covered, Database, S3Settings, SegmentMeta, Store, Table, TableColumns, WalPosition,
};
use tidelake_querier::labels::metric_name;
use tidelake_querier::tables::Tables;
use tokio::time::Instant;

use super::opened_store::StoreArgs;
use super::output::Format;
use crate::config::Config;
use crate::node::backend::parse_selector;
use crate::node::memory;
use crate::node::view::{self, View};
use crate::prometheus::params::parse_time;

/// The name under which this command commits.
const NODE: &str = "tidelake-pull";
/// A file larger than this goes on in another, from the next series on.
const TARGET_BYTES: u64 = 512 << 20;
/// Exit status after Ctrl-C.
const INTERRUPTED: u8 = 130;
/// Whole days, over which nothing has to be merged any more.
const LEVEL: u8 = 2;

/// What to pull, and where to.
#[derive(Debug, Args)]
pub struct PullArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Where to: a folder that is not there yet, or is empty
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Database; may be given several times
    #[arg(long, default_value = "default")]
    database: Vec<String>,
    /// Only this table, where `metrics` are all metrics and `exemplars` theirs; may be given
    /// several times
    #[arg(long)]
    table: Vec<String>,
    /// Only series that a selector such as 'up{job="a"}' selects; of tables their whole rows. May
    /// be given several times
    #[arg(long = "match", value_name = "SELECTOR")]
    selectors: Vec<String>,
    /// First time: RFC 3339 or seconds since 1970
    #[arg(long)]
    from: Option<String>,
    /// Last time
    #[arg(long)]
    to: Option<String>,
    /// How to print what was pulled
    #[arg(long, default_value = "table")]
    format: Format,
}

/// What was pulled.
#[derive(Debug, Default, Serialize)]
struct Pulled {
    tables: u64,
    segments: u64,
    /// Of each segment, that is of each day, anew.
    series: u64,
    rows: u64,
    bytes: u64,
}

impl Pulled {
    fn add(&mut self, segments: &[SegmentMeta]) {
        self.segments += segments.len() as u64;
        for segment in segments {
            self.series += segment.series;
            self.rows += segment.rows;
            self.bytes += segment.data_bytes + segment.index_bytes;
        }
    }
}

/// Pulls, and prints what; gives the exit code.
pub async fn run(args: &PullArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let began = Instant::now();
    let slice = Slice::of(args)?;
    let config = args.store.config()?;
    let place = config.store_location()?;
    check_target(&args.into)?;
    let memory = memory::budget(&config);
    let view = view::open(&config, &memory, args.store.with_logs()).await;
    let view = view.with_context(|| format!("cannot read the store {place}"))?;
    let part = part_of(&args.into);
    let pulled = async {
        let target = Target::open(&part).await?;
        let pulled = pull(args, &slice, &view, &target).await?;
        target.catalog.leave().await?;
        anyhow::Ok(pulled)
    };
    let pulled = tokio::select! {
        pulled = pulled => pulled,
        _ = tokio::signal::ctrl_c() => {
            let _ = std::fs::remove_dir_all(&part);
            return Ok(INTERRUPTED);
        }
    };
    let finished = pulled.and_then(|pulled| {
        if args.into.exists() {
            std::fs::remove_dir(&args.into)?;
        }
        std::fs::rename(&part, &args.into)?;
        Ok(pulled)
    });
    let pulled = match finished {
        Ok(pulled) => pulled,
        Err(error) => {
            // What there is of it is of no use.
            let _ = std::fs::remove_dir_all(&part);
            return Err(error);
        }
    };
    if view.left_out > 0 {
        let left_out = view.left_out;
        let _ = writeln!(
            std::io::stderr(),
            "warning: up to {left_out} objects of write-ahead logs are left out"
        );
    }
    let into = args.into.display();
    let seconds = began.elapsed().as_secs_f64();
    match args.format {
        Format::Json => {
            let mut answer = serde_json::to_value(&pulled)?;
            answer["into"] = into.to_string().into();
            answer["seconds"] = seconds.into();
            answer["log_objects_left_out"] = view.left_out.into();
            writeln!(out, "{answer}")?;
        }
        Format::Table => {
            let Pulled {
                tables,
                segments,
                rows,
                bytes,
                ..
            } = pulled;
            writeln!(
                out,
                "{rows} rows of {tables} tables in {segments} segments of {bytes} bytes, in \
                 {seconds:.1} s\nserve them with: tidelake serve --data-dir {into}"
            )?;
        }
    }
    Ok(0)
}

/// The folder under its name until all is there.
fn part_of(into: &Path) -> PathBuf {
    let mut name = into.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    into.with_file_name(name)
}

fn check_target(into: &Path) -> anyhow::Result<()> {
    if into.file_name().is_none() {
        bail!("--into {} is no folder with a name", into.display());
    }
    let is_empty = match std::fs::read_dir(into) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look into {}", into.display()));
        }
    };
    if !is_empty {
        bail!(
            "{} is not empty; give another folder with --into",
            into.display()
        );
    }
    let part = part_of(into);
    if part.exists() {
        bail!(
            "{} is there: another pull into this folder runs, or was killed; remove it then",
            part.display()
        );
    }
    Ok(())
}

/// Which rows.
struct Slice {
    /// In milliseconds.
    range: TimeRange,
    /// Any of these; all if there are none.
    selectors: Vec<Vec<Matcher>>,
}

impl Slice {
    fn of(args: &PullArgs) -> anyhow::Result<Self> {
        let time = |name: &str, text: &Option<String>, default| match text {
            None => Ok(default),
            Some(text) => {
                parse_time(text).map_err(|why| anyhow::anyhow!("--{name} {text:?}: {why}"))
            }
        };
        let range = TimeRange::new(
            time("from", &args.from, TimeRange::ALL.min)?,
            time("to", &args.to, TimeRange::ALL.max)?,
        );
        if range.is_empty() {
            bail!("--to is before --from");
        }
        let selector = |text: &String| {
            parse_selector(text).map_err(|why| anyhow::anyhow!("--match {text:?}: {why}"))
        };
        Ok(Self {
            range,
            selectors: args
                .selectors
                .iter()
                .map(selector)
                .collect::<Result<_, _>>()?,
        })
    }

    /// What the series of a table have to pass, any of these; `None` if none of them can.
    fn matchers(&self, table: &Table) -> Option<Vec<Vec<Matcher>>> {
        if self.selectors.is_empty() {
            return Some(vec![Vec::new()]);
        }
        if table.schema.kind != TableKind::Wide {
            return Some(self.selectors.clone());
        }
        // The name of a metric is that of a field.
        let fields = || {
            table
                .schema
                .fields()
                .map(|field| metric_name(&table.name, &field.name))
        };
        let selects = |selector: &&Vec<Matcher>| {
            let mut names = selector.iter().filter(|m| m.name == METRIC_NAME).peekable();
            names.peek().is_none()
                || fields().any(|name| names.clone().all(|matcher| matcher.matches(&name)))
        };
        let tags = |selector: &Vec<Matcher>| {
            let tags = selector.iter().filter(|m| m.name != METRIC_NAME);
            tags.cloned().collect()
        };
        let found: Vec<_> = self.selectors.iter().filter(selects).map(tags).collect();
        (!found.is_empty()).then_some(found)
    }

    /// The times in the unit of a table.
    fn range(&self, unit: TimeUnit) -> TimeRange {
        match unit {
            TimeUnit::Millisecond => self.range,
            TimeUnit::Nanosecond => TimeRange::new(
                unit.from_millis(self.range.min),
                unit.from_millis(self.range.max).saturating_add(999_999),
            ),
        }
    }
}

/// The store that is made.
struct Target {
    store: Store,
    catalog: Catalog,
    epoch: u64,
}

impl Target {
    async fn open(folder: &Path) -> anyhow::Result<Self> {
        let address = folder
            .to_str()
            .context("the name of the folder is no UTF-8")?;
        let store = Store::open(address, &S3Settings::default())?;
        let catalog = Catalog::open(store.clone(), NODE, "").await?;
        let (_, epoch) = catalog.node().unwrap_or_default();
        Ok(Self {
            store,
            catalog,
            epoch,
        })
    }

    /// Names the segments of a table.
    async fn commit(&self, table: &Table, mut segments: Vec<SegmentMeta>) -> anyhow::Result<()> {
        let Some(database) = segments
            .first()
            .map(|segment| Arc::clone(&segment.database))
        else {
            return Ok(());
        };
        let columns = table.schema.columns.iter();
        let columns = TableColumns {
            table: table.name.to_string(),
            kind: table.schema.kind,
            columns: columns
                .map(|column| (column.name.to_string(), column.kind))
                .collect(),
        };
        let made = self.catalog.ensure_columns(&database, &[columns]).await?;
        let made = made.table(&database, &table.name);
        let table_id = made.context("the table that was made is not there")?.id;
        let mut order = 0;
        for segment in &mut segments {
            segment.table_id = table_id;
            order = order.max(segment.order.1);
        }
        let wal = WalPosition {
            epoch: self.epoch,
            next_seq: 1,
        };
        self.catalog
            .commit_flush(Covered { wal, order }, &segments)
            .await?;
        Ok(())
    }
}

async fn pull(args: &PullArgs, slice: &Slice, view: &View, to: &Target) -> anyhow::Result<Pulled> {
    let tables = view.backend.querier.tables();
    let snapshot = tables.snapshot();
    let mut pulled = Pulled::default();
    for name in &args.database {
        let database = snapshot.database(name);
        let database = database.with_context(|| format!("there is no database {name:?}"))?;
        let is_named = |name: &String| {
            database
                .tables
                .values()
                .any(|table| name == shown_name(table))
        };
        if let Some(missing) = args.table.iter().find(|name| !is_named(name)) {
            bail!("there is no table {missing:?} in the database {name:?}");
        }
        to.catalog.create_database(name).await?;
        let wanted = database.tables.values();
        let wanted = wanted.filter(|table| {
            args.table.is_empty() || args.table.iter().any(|name| name == shown_name(table))
        });
        for table in wanted {
            let segments = pull_table(slice, tables, database, table, to).await;
            let segments =
                segments.with_context(|| format!("cannot pull {name}.{}", shown_name(table)))?;
            pulled.add(&segments);
            pulled.tables += u64::from(!segments.is_empty());
            to.commit(table, segments).await?;
        }
        let metadata: BTreeMap<_, _> = database
            .metadata
            .iter()
            .map(|(metric, metadata)| (metric.to_string(), metadata.clone()))
            .collect();
        to.catalog.set_metadata(name, &metadata).await?;
    }
    Ok(pulled)
}

/// As users name a table.
fn shown_name(table: &Table) -> &str {
    match table.schema.kind {
        TableKind::Metrics => "metrics",
        TableKind::Exemplars => "exemplars",
        TableKind::Wide => &table.name,
    }
}

async fn pull_table(
    slice: &Slice,
    tables: &Tables,
    database: &Database,
    table: &Table,
    to: &Target,
) -> anyhow::Result<Vec<SegmentMeta>> {
    let unit = table.schema.kind.time_unit();
    let Some(matchers) = slice.matchers(table) else {
        return Ok(Vec::new());
    };
    let mut written = Vec::new();
    let mut shown = Shown::default();
    for &day in table.days.keys() {
        let range = slice.range(unit).intersect(&day.range(unit));
        if range.is_empty() {
            continue;
        }
        written.extend(pull_day(&matchers, tables, database, table, day, range, to).await?);
        shown.progress(database, table, day, &written);
    }
    shown.end(database, table, &written);
    Ok(written)
}

async fn pull_day(
    matchers: &[Vec<Matcher>],
    tables: &Tables,
    database: &Database,
    table: &Table,
    day: Day,
    range: TimeRange,
    to: &Target,
) -> anyhow::Result<Vec<SegmentMeta>> {
    let kind = table.schema.kind;
    let sources = tables.sources(&database.name, &table.name, range).await?;
    let Some(found) = sources else {
        return Ok(Vec::new());
    };
    let has_field = |field: &&Column| {
        found
            .sources
            .iter()
            .any(|source| source.has_field(&field.name))
    };
    let fields: Arc<[Column]> = table.schema.fields().filter(has_field).cloned().collect();
    let request = ScanRequest {
        fields: Arc::clone(&fields),
        // Several are told apart below.
        matchers: match matchers {
            [one] => one.clone(),
            _ => Vec::new(),
        },
        range: range.intersect(&found.kept),
        edge: None,
    };
    let mut plan = plan_stored(kind, found.sources, request, None).await?;
    let series = plan.units.iter().flat_map(ScanUnit::series);
    let order = SortOrder::choose(kind, series.map(|series| &series.labels));
    if matchers.len() > 1 {
        plan.retain(|labels| {
            let passes = |all: &Vec<Matcher>| all.iter().all(|one| one.matches_labels(labels));
            matchers.iter().any(passes)
        });
    }
    let orders = table
        .days
        .get(&day)
        .into_iter()
        .flat_map(|segments| segments.iter());
    let orders = orders.map(|segment| segment.order);
    let orders = orders
        .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        .unwrap_or((0, 0));
    let shape = SegmentShape {
        kind,
        order,
        fields,
        effort: Effort::Compacted,
        layout: Config::default().value_layout,
        write_order: format!("{}..{}", orders.0, orders.1),
    };
    let environment = to.catalog.environment();
    let begin = || {
        let meta = SegmentMeta {
            id: environment.segment_id(),
            database: Arc::clone(&database.name),
            table: Arc::clone(&table.name),
            // Known when the table is made.
            table_id: 0,
            day,
            level: LEVEL,
            order: orders,
            deletes_applied: 0,
            // Known at the end.
            sort_tags: Arc::from([]),
            time: TimeRange::EMPTY,
            rows: 0,
            series: 0,
            data_bytes: 0,
            index_bytes: 0,
            data_checksum: 0,
            index_tail_bytes: 0,
            index_checksum: 0,
        };
        SegmentUpload::begin(&to.store, meta, &shape)
    };
    let mut written = Vec::new();
    let mut upload: Option<SegmentUpload> = None;
    let mut units = plan.units.into_iter();
    let mut next = async || match units.next() {
        Some(unit) => anyhow::Ok(Some(tables.read(&unit).await?)),
        None => Ok(None),
    };
    let mut rows = next().await?;
    while let Some(unit) = rows {
        let current = match upload.take() {
            Some(current) => current,
            None => begin()?,
        };
        // While one unit is encoded the next is read.
        let pushed = async { Ok(current.push(environment, unit).await?) };
        let (current, following) = try_join(pushed, next()).await?;
        rows = following;
        if current.bytes() >= TARGET_BYTES {
            written.extend(current.finish(&to.store, environment).await?);
        } else {
            upload = Some(current);
        }
    }
    if let Some(upload) = upload {
        written.extend(upload.finish(&to.store, environment).await?);
    }
    Ok(written)
}

/// How far a table is, on the standard error.
#[derive(Default)]
struct Shown {
    is_begun: bool,
}

impl Shown {
    /// On a terminal, in one line that changes.
    fn progress(&mut self, database: &Database, table: &Table, day: Day, written: &[SegmentMeta]) {
        if std::io::stderr().is_terminal() {
            self.is_begun = true;
            let name = (&database.name, shown_name(table));
            let rows: u64 = written.iter().map(|segment| segment.rows).sum();
            // Nothing is lost with it.
            let _ = write!(
                std::io::stderr(),
                "\r\x1b[K{}.{}: {rows} rows up to {day}",
                name.0,
                name.1
            );
        }
    }

    fn end(&self, database: &Database, table: &Table, written: &[SegmentMeta]) {
        let mut pulled = Pulled::default();
        pulled.add(written);
        let back = if self.is_begun { "\r\x1b[K" } else { "" };
        let (name, Pulled { rows, bytes, .. }) = (shown_name(table), pulled);
        let database = &database.name;
        let _ = writeln!(
            std::io::stderr(),
            "{back}{database}.{name}: {rows} rows, {bytes} bytes"
        );
    }
}

#[cfg(test)]
mod tests;
