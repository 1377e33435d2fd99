//! From a request to rows: decompress, parse, and make sure that the catalog has every column
//! first.
//!
//! Replay runs the same code on the same bytes. It sees the catalog as it is later, which has every
//! table and column that was there when the request came, so that a line that was good then is good
//! now. A line that needs more was refused then, and is refused again: replay adds no table and no
//! column of line protocol. Labels are held to the limits of the frame, not to those of today.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};
use tidelake_catalog::model::{
    ColumnType, EXEMPLARS_TABLE, INTERNAL_DATABASE, METRIC_NAME, METRICS_TABLE, TableKind,
    TableSchema,
};
use tidelake_catalog::snapshot::{MetricMetadata, Snapshot};
use tidelake_catalog::{Catalog, CatalogError, NameLimits, Retention, TableColumns};

use crate::buffer::TableName;
use crate::column::FieldColumn;
use crate::content::{self, ContentError};
use crate::exposition::{self, TextFormat};
use crate::label_limits::LabelLimits;
use crate::line_protocol::{self, LineError, LineLimits, LineOptions, ParsedLines, TableLookup};
use crate::otlp;
use crate::otlp::accumulate::{AccumulateError, Accumulated, Accumulator};
use crate::registries::Registries;
use crate::remote_write::{self, DecodeError, WrittenSamples};
use crate::request::{IngestError, WriteOutcome, WriteRequest, Written};
use crate::retention::Oldest;
use crate::rows::Rows;
use crate::series_registry::SeriesRegistry;
use crate::wal::{ContentEncoding, Frame, OtlpFormat, Precision, Protocol};

/// Rows of one table.
#[derive(Debug)]
pub struct TableBatch {
    pub(crate) name: TableName,
    pub(crate) kind: TableKind,
    pub(crate) registry: Arc<SeriesRegistry>,
    pub(crate) rows: Rows,
    /// The memory of the rows, until they are in the buffer.
    #[allow(dead_code, reason = "held for its drop")]
    pub(crate) memory: Option<Reservation>,
}

/// A request that was read, and whose columns are in the catalog.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) tables: Vec<TableBatch>,
    pub(crate) outcome: WriteOutcome,
}

/// Times that a body is read again because another writer added a column meanwhile.
const TRIES: usize = 5;

/// Reads requests.
#[derive(Debug)]
pub struct Preparer {
    catalog: Arc<Catalog>,
    registries: Arc<Registries>,
    max_lines_bytes: usize,
    max_remote_write_bytes: usize,
    max_samples: usize,
    is_replay: bool,
    memory: Arc<MemoryBudget>,
    said: otlp::SaidMetrics,
}

/// Bytes of memory for each byte of line protocol: short lines are rows of 24 bytes, and columns
/// grow to twice what they hold.
const LINE_MEMORY: usize = 8;
/// How long a body waits for memory to be parsed in.
const MEMORY_WAIT: Duration = Duration::from_secs(2);

/// Reads a body of one version of remote write.
type Decode =
    fn(&[u8], &SeriesRegistry, Oldest, &LabelLimits) -> Result<WrittenSamples, DecodeError>;

/// A logged body of OTLP, taken apart.
struct Otlp<'b> {
    settings: &'b otlp::Settings,
    head: &'b [u8],
    body: &'b [u8],
}

struct Lookup<'a> {
    snapshot: &'a Snapshot,
    database: &'a Arc<str>,
    registries: &'a Registries,
    limits: LabelLimits,
    now_ms: i64,
}

impl TableLookup for Lookup<'_> {
    fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        self.snapshot
            .table(self.database, table)
            .map(|t| Arc::clone(&t.schema))
    }

    fn registry(&self, table: &str) -> Arc<SeriesRegistry> {
        let name = table_name(self.snapshot, self.database, table);
        self.registries.get(&name, self.limits)
    }

    fn oldest(&self, table: &str) -> Oldest {
        oldest(
            self.snapshot,
            self.database,
            table,
            TableKind::Wide,
            self.now_ms,
        )
    }
}

/// When a request was received: a replay refuses as too old what was refused then.
fn received_ms(frame: &Frame) -> i64 {
    frame.received_ns.div_euclid(1_000_000)
}

/// The oldest time that a table takes.
fn oldest(
    snapshot: &Snapshot,
    database: &str,
    table: &str,
    kind: TableKind,
    now_ms: i64,
) -> Oldest {
    let Some(database) = snapshot.database(database) else {
        return Oldest::NONE;
    };
    let retention_ms = match (database.table(table), database.retention) {
        (Some(table), _) => database.retention_ms(table),
        (None, Retention::Millis(ms)) => Some(ms),
        (None, Retention::Inherit | Retention::Forever) => None,
    };
    retention_ms.map_or(Oldest::NONE, |ms| Oldest::new(ms, now_ms, kind.time_unit()))
}

impl Preparer {
    /// For the requests of the log, which were acknowledged: what they name is there. The sizes
    /// bound decompressed bodies.
    pub fn new(
        catalog: Arc<Catalog>,
        registries: Arc<Registries>,
        max_lines_bytes: usize,
        max_remote_write_bytes: usize,
        memory: Arc<MemoryBudget>,
    ) -> Self {
        Self {
            catalog,
            registries,
            max_lines_bytes,
            max_remote_write_bytes,
            max_samples: usize::MAX,
            is_replay: true,
            memory,
            said: otlp::SaidMetrics::default(),
        }
    }

    /// For new requests: what they name is added to the catalog, within its limits, and bodies of
    /// remote write with more samples are refused.
    #[must_use]
    pub fn for_new(self, max_samples: usize) -> Self {
        Self {
            max_samples,
            is_replay: false,
            ..self
        }
    }

    /// What the lines of a frame are held to.
    fn line_limits(&self, snapshot: &Snapshot, frame: &Frame) -> LineLimits {
        let limits = LineLimits {
            labels: frame.limits,
            ..LineLimits::default()
        };
        if self.is_replay {
            return LineLimits {
                columns: 0,
                tables_left: 0,
                ..limits
            };
        }
        let names = match *frame.database == *INTERNAL_DATABASE {
            // What the server records about itself comes in any case.
            true => NameLimits::default(),
            false => self.catalog.name_limits(),
        };
        LineLimits {
            columns: match names.columns {
                0 => usize::MAX,
                columns => columns,
            },
            tables: names.tables,
            tables_left: names.tables_left(snapshot),
            ..limits
        }
    }

    /// Refuses a request for one more database than there may be, before it is read.
    fn check_database(&self, snapshot: &Snapshot, database: &str) -> Result<(), IngestError> {
        if self.is_replay {
            return Ok(());
        }
        self.catalog
            .name_limits()
            .check_database(snapshot, database)
            .map_err(|refusal| IngestError::BadRequest(refusal.to_string()))
    }

    /// Waits a little for memory to parse in.
    async fn reserve(&self, bytes: usize) -> Result<Reservation, IngestError> {
        let reserved = self.memory.reserve(Share::Parsing, bytes);
        match tokio::time::timeout(MEMORY_WAIT, reserved).await {
            Ok(reserved) => reserved.map_err(IngestError::unavailable),
            Err(_) => Err(IngestError::unavailable(format!(
                "other bodies are being parsed in the memory for it (setting memory_bytes); send \
                 again later, or smaller bodies than the {bytes} bytes that this one takes"
            ))),
        }
    }

    /// Reads a request. Its new tables and columns are committed when this returns. Without
    /// `accept_partial` one bad line refuses all.
    pub async fn prepare(
        &self,
        frame: &Frame,
        accept_partial: bool,
    ) -> Result<Prepared, IngestError> {
        let limit = match frame.protocol {
            Protocol::LineProtocol { .. } | Protocol::LineProtocol1 { .. } => self.max_lines_bytes,
            _ => self.max_remote_write_bytes,
        };
        self.check_database(&self.catalog.snapshot(), &frame.database)?;
        let mut inflated = self.reserve(0).await?;
        let (translation, sent) = match frame.protocol {
            Protocol::Otlp { .. } => {
                let (settings, head, sent) =
                    otlp::Settings::split(&frame.body).map_err(IngestError::Internal)?;
                (Some((settings, head)), sent)
            }
            Protocol::Exposition { .. } => {
                let (_, sent) =
                    exposition::Settings::split(&frame.body).map_err(IngestError::Internal)?;
                (None, sent)
            }
            _ => (None, &*frame.body),
        };
        let body = content::decompress(sent, frame.encoding, limit, &mut inflated)
            .map_err(|error| body_error(frame, error))?;
        match frame.protocol {
            Protocol::LineProtocol { precision } | Protocol::LineProtocol1 { precision } => {
                self.lines(frame, &body, precision, accept_partial).await
            }
            Protocol::RemoteWrite1 => {
                self.remote_write(frame, &body, remote_write::v1::decode)
                    .await
            }
            Protocol::RemoteWrite2 => {
                self.remote_write(frame, &body, remote_write::v2::decode)
                    .await
            }
            Protocol::Otlp { format } => {
                let (settings, head) = translation.unwrap_or_default();
                let body = protobuf_of(body, format, limit, &mut inflated)?;
                let (settings, body) = (&settings, &*body);
                let request = Otlp {
                    settings,
                    head,
                    body,
                };
                self.otlp(frame, request).await
            }
            Protocol::Exposition { format } => {
                self.text(frame, &body, format, accept_partial).await
            }
        }
    }

    async fn text(
        &self,
        frame: &Frame,
        body: &[u8],
        format: TextFormat,
        accept_partial: bool,
    ) -> Result<Prepared, IngestError> {
        let (settings, _) =
            exposition::Settings::split(&frame.body).map_err(IngestError::Internal)?;
        let decode = |registry: &SeriesRegistry, oldest, _| {
            let rules = exposition::Rules {
                settings: &settings,
                format,
                time_ms: settings.time_ms.unwrap_or_else(|| received_ms(frame)),
                oldest,
                limits: frame.limits,
            };
            Ok(exposition::decode(body, registry, rules))
        };
        self.samples(frame, accept_partial, decode).await
    }

    async fn remote_write(
        &self,
        frame: &Frame,
        body: &[u8],
        decode: Decode,
    ) -> Result<Prepared, IngestError> {
        let decode = |registry: &SeriesRegistry, oldest, _| {
            decode(body, registry, oldest, &frame.limits)
                .map_err(|error| IngestError::BadRequest(error.to_string()))
        };
        self.samples(frame, true, decode).await
    }

    async fn otlp(&self, frame: &Frame, request: Otlp<'_>) -> Result<Prepared, IngestError> {
        // A replay keeps no metadata.
        let said = (!self.is_replay).then_some(&self.said);
        let mut new_said = Vec::new();
        let decode = |registry: &SeriesRegistry, oldest, table| {
            let rules = otlp::Rules {
                settings: request.settings,
                head: request.head,
                oldest,
                limits: frame.limits,
                table,
            };
            let (written, said) = otlp::decode(request.body, registry, rules, said)
                .map_err(|error| IngestError::BadRequest(error.to_string()))?;
            new_said = said;
            Ok(written)
        };
        let prepared = self.samples(frame, true, decode).await?;
        self.said.add(new_said);
        Ok(prepared)
    }

    /// A request of OTLP with sums in place of its deltas, and what was refused of it; the memory
    /// is that of its body.
    pub(crate) async fn accumulate(
        &self,
        sums: &Accumulator,
        request: WriteRequest,
        format: OtlpFormat,
        now_ms: i64,
    ) -> Result<(WriteRequest, Accumulated, Reservation), IngestError> {
        let limit = self.max_remote_write_bytes;
        let mut memory = self.reserve(0).await?;
        let body = content::decompress(&request.body, request.encoding, limit, &mut memory)
            .map_err(content_error)?;
        let body = protobuf_of(body, format, limit, &mut memory)?;
        let done = sums.rewrite(&request.database, &body, now_ms, limit, &mut memory);
        let done = done.map_err(|error| match error {
            AccumulateError::Malformed(error) => IngestError::BadRequest(error.to_string()),
            AccumulateError::OutOfMemory(error) => IngestError::unavailable(error),
        })?;
        let Some(mut done) = done else {
            return Ok((request, Accumulated::default(), memory));
        };
        let request = WriteRequest {
            protocol: Protocol::Otlp {
                format: OtlpFormat::Protobuf,
            },
            encoding: ContentEncoding::Identity,
            body: std::mem::take(&mut done.body).into(),
            ..request
        };
        Ok((request, done, memory))
    }

    async fn lines(
        &self,
        frame: &Frame,
        body: &[u8],
        precision: Precision,
        accept_partial: bool,
    ) -> Result<Prepared, IngestError> {
        let memory = self.reserve(body.len() * LINE_MEMORY).await?;
        let mut tries = 0;
        loop {
            let snapshot = self.catalog.snapshot();
            let options = LineOptions {
                limits: self.line_limits(&snapshot, frame),
                shares_names: matches!(frame.protocol, Protocol::LineProtocol1 { .. }),
                ..LineOptions::new(precision, frame.received_ns)
            };
            let parsed = {
                let (database, registries) = (&frame.database, &self.registries);
                let lookup = Lookup {
                    snapshot: &snapshot,
                    database,
                    registries,
                    limits: frame.limits,
                    now_ms: received_ms(frame),
                };
                line_protocol::parse(body, &options, &lookup)
            };
            // The whole request, or a replay with more memory would bring back what was refused.
            if parsed.registry_full {
                if tries < TRIES && self.registries.renew() {
                    tries += 1;
                    continue;
                }
                return Err(full());
            }
            if parsed.over_quota {
                return Err(self.over_quota(frame));
            }
            if !accept_partial && parsed.lines_refused > 0 {
                let outcome = WriteOutcome {
                    errors: parsed.errors,
                    refused: parsed.lines_refused as u64,
                    ..WriteOutcome::default()
                };
                return Ok(Prepared {
                    tables: Vec::new(),
                    outcome,
                });
            }
            let missing: Vec<TableColumns> = parsed
                .tables
                .iter()
                .filter(|t| t.is_new || !t.new_columns.is_empty())
                .map(columns)
                .collect();
            if !missing.is_empty() {
                match self.catalog.ensure_columns(&frame.database, &missing).await {
                    Ok(created) => {
                        let replaced = |t: &line_protocol::TableRows| {
                            !t.is_new
                                && table_name(&created, &frame.database, &t.table).id
                                    != table_name(&snapshot, &frame.database, &t.table).id
                        };
                        // Dropped and made anew since, with other columns: the lines decide anew.
                        if parsed.tables.iter().any(replaced) && tries < TRIES {
                            tries += 1;
                            continue;
                        }
                        for table in parsed.tables.iter().filter(|t| t.is_new) {
                            let name = table_name(&created, &frame.database, &table.table);
                            self.registries.adopt(
                                &TableName {
                                    id: 0,
                                    ..name.clone()
                                },
                                &name,
                            );
                        }
                        return Ok(prepared_lines(&created, &frame.database, parsed, memory));
                    }
                    // Another writer was first with a column of another type, or with the last
                    // table that there may be: the lines decide anew.
                    Err(CatalogError::Refused(_)) if tries < TRIES => {
                        tries += 1;
                        continue;
                    }
                    Err(error) => return Err(catalog_error(error)),
                }
            }
            return Ok(prepared_lines(&snapshot, &frame.database, parsed, memory));
        }
    }

    /// The whole request, as a replay knows no quotas and would bring back what was refused.
    fn over_quota(&self, frame: &Frame) -> IngestError {
        let quota = self.registries.quota(&frame.database);
        IngestError::Throttled {
            reason: format!(
                "the database {:?} has {} active series and may have {} (limit active_series); series \
                 that get no points are forgotten when the buffer is flushed",
                &*frame.database,
                quota.held(),
                quota.limit().unwrap_or(u64::MAX)
            ),
            retry_after_s: 30,
        }
    }

    /// Takes samples that `decode` gives for a registry, the oldest time taken, and the number of
    /// the table. Without `accept_partial` one that is refused refuses all.
    async fn samples(
        &self,
        frame: &Frame,
        accept_partial: bool,
        mut decode: impl FnMut(&SeriesRegistry, Oldest, u64) -> Result<WrittenSamples, IngestError>,
    ) -> Result<Prepared, IngestError> {
        let snapshot = self.catalog.snapshot();
        let mut name = table_name(&snapshot, &frame.database, METRICS_TABLE);
        let mut registry = self.registries.get(&name, frame.limits);
        let oldest = oldest(
            &snapshot,
            &frame.database,
            METRICS_TABLE,
            TableKind::Metrics,
            received_ms(frame),
        );
        let mut renewed = false;
        let mut parsed = loop {
            let parsed = decode(&registry, oldest, name.id)?;
            if let Some(error) = parsed.out_of_memory {
                return Err(IngestError::unavailable(error));
            }
            if !parsed.registry_full {
                break parsed;
            }
            if renewed || !self.registries.renew() {
                return Err(full());
            }
            renewed = true;
            registry = self.registries.get(&name, frame.limits);
        };
        if parsed.over_quota {
            return Err(self.over_quota(frame));
        }
        if parsed.rows.len() > self.max_samples {
            return Err(IngestError::TooLarge(format!(
                "the body has {} samples, at most {} are taken at a time; send it in smaller parts",
                parsed.rows.len(),
                self.max_samples
            )));
        }
        if !accept_partial && parsed.refused > 0 {
            return Ok(Prepared {
                tables: Vec::new(),
                outcome: WriteOutcome {
                    written: Written::default(),
                    ..outcome(&mut parsed)
                },
            });
        }
        let mut memory = parsed.memory.take();
        if let Some(memory) = &mut memory {
            settle(memory, parsed.rows.bytes() + parsed.exemplars.bytes());
        }
        let mut exemplars_name = table_name(&snapshot, &frame.database, EXEMPLARS_TABLE);
        let missing: Vec<TableColumns> = [
            missing_columns(
                &snapshot,
                &frame.database,
                METRICS_TABLE,
                TableSchema::metrics(),
                &parsed.rows,
            ),
            missing_columns(
                &snapshot,
                &frame.database,
                EXEMPLARS_TABLE,
                TableSchema::exemplars(),
                &parsed.exemplars,
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !missing.is_empty() {
            let created = self
                .catalog
                .ensure_columns(&frame.database, &missing)
                .await
                .map_err(catalog_error)?;
            let before = std::mem::replace(
                &mut name,
                table_name(&created, &frame.database, METRICS_TABLE),
            );
            if before.id == 0 && name.id != 0 {
                self.registries.adopt(&before, &name);
            }
            exemplars_name = table_name(&created, &frame.database, EXEMPLARS_TABLE);
        }
        // A replay finds it kept: that is done before anything is acknowledged.
        if !self.is_replay {
            self.keep_metadata(frame, &mut parsed).await?;
        }
        let outcome = outcome(&mut parsed);
        // Exemplars are of the series of the samples.
        let exemplars = TableBatch {
            name: exemplars_name,
            kind: TableKind::Exemplars,
            registry: Arc::clone(&registry),
            rows: parsed.exemplars,
            memory: None,
        };
        let samples = TableBatch {
            name,
            kind: TableKind::Metrics,
            registry,
            rows: parsed.rows,
            memory,
        };
        Ok(Prepared {
            tables: vec![samples, exemplars],
            outcome,
        })
    }

    /// Commits what is new about metric families. Of those that are too many or whose names are too
    /// long nothing is kept but a refusal.
    async fn keep_metadata(
        &self,
        frame: &Frame,
        parsed: &mut WrittenSamples,
    ) -> Result<(), IngestError> {
        let (snapshot, database) = (self.catalog.snapshot(), &*frame.database);
        let known = snapshot.database(database).map(|d| Arc::clone(&d.metadata));
        let limits = self.catalog.name_limits();
        let mut left = limits.families_left(&snapshot, database);
        let mut too_many = 0;
        let mut news = BTreeMap::<String, MetricMetadata>::new();
        for said in std::mem::take(&mut parsed.metadata) {
            if said.family.is_empty() {
                continue;
            }
            let metadata = MetricMetadata {
                kind: said.kind,
                help: shortened(&said.help).into(),
                unit: shortened(&said.unit).into(),
            };
            let found = known.as_ref().and_then(|k| k.get(said.family.as_str()));
            if found == Some(&metadata) {
                continue;
            }
            if found.is_none() && !news.contains_key(&said.family) {
                if let Err(error) = frame.limits.check("label", &[(METRIC_NAME, &*said.family)]) {
                    parsed.refuse(format!("metadata are not kept: {error}"));
                    continue;
                }
                if left == 0 {
                    too_many += 1;
                    continue;
                }
                left -= 1;
            }
            news.insert(said.family, metadata);
        }
        if too_many > 0 {
            parsed.refuse(format!(
                "metadata of {too_many} metric families are not kept: a database has those of at \
                 most {} (setting max_metric_families)",
                limits.families
            ));
        }
        if !news.is_empty() {
            self.catalog
                .set_metadata(database, &news)
                .await
                .map_err(catalog_error)?;
        }
        Ok(())
    }
}

/// What was kept and what was refused: first what stands in a line.
fn outcome(parsed: &mut WrittenSamples) -> WriteOutcome {
    let mut errors = std::mem::take(&mut parsed.line_errors);
    let others = std::mem::take(&mut parsed.errors).into_iter();
    errors.extend(others.map(LineError::of_request));
    WriteOutcome {
        written: Written {
            samples: parsed.samples as u64,
            histograms: parsed.histograms as u64,
            exemplars: parsed.exemplars.len() as u64,
        },
        errors,
        refused: parsed.refused as u64,
    }
}

/// Bytes of the help and of the unit of a metric family that are kept; the rest is cut off.
const MAX_METADATA_BYTES: usize = 1024;

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_METADATA_BYTES)]
}

/// What a table needs for these rows and does not have: its usual columns if it is not there, any
/// other with the first row that has it.
fn missing_columns(
    snapshot: &Snapshot,
    database: &str,
    table: &str,
    usual: TableSchema,
    rows: &Rows,
) -> Option<TableColumns> {
    let found = snapshot.table(database, table);
    let known = found.map_or(&usual, |found| &found.schema);
    let more: Vec<&FieldColumn> = rows
        .fields
        .iter()
        .filter(|field| known.column(&field.name).is_none())
        .collect();
    if rows.is_empty() || (found.is_some() && more.is_empty()) {
        return None;
    }
    let columns = usual
        .columns
        .iter()
        .map(|c| (c.name.to_string(), c.kind))
        .chain(more.iter().map(|f| (f.name.to_string(), f.kind)));
    Some(TableColumns {
        table: table.to_owned(),
        kind: usual.kind,
        columns: columns.collect(),
    })
}

fn columns(table: &line_protocol::TableRows) -> TableColumns {
    let columns: Vec<(String, ColumnType)> = table
        .new_columns
        .iter()
        .map(|c| (c.name.to_string(), c.kind))
        .collect();
    TableColumns {
        table: table.table.to_string(),
        kind: TableKind::Wide,
        columns,
    }
}

/// A table by name, with the id of the one that there is; 0 if there is none.
fn table_name(snapshot: &Snapshot, database: &Arc<str>, table: &str) -> TableName {
    let found = snapshot.table(database, table);
    let name = found.map_or_else(|| table.into(), |found| Arc::clone(&found.name));
    TableName {
        database: Arc::clone(database),
        table: name,
        id: found.map_or(0, |found| found.id),
    }
}

/// A message of OTLP as protobuf, of at most `limit` bytes.
fn protobuf_of<'b>(
    body: Cow<'b, [u8]>,
    format: OtlpFormat,
    limit: usize,
    memory: &mut Reservation,
) -> Result<Cow<'b, [u8]>, IngestError> {
    match format {
        OtlpFormat::Protobuf => Ok(body),
        OtlpFormat::Json => {
            let most = body.len().saturating_mul(otlp::json::MAX_GROWTH);
            memory.try_grow(most).map_err(IngestError::unavailable)?;
            let message = otlp::json::to_protobuf(&body, limit)
                .map_err(|error| IngestError::BadRequest(error.to_string()))?;
            Ok(Cow::Owned(message))
        }
    }
}

/// Makes a reservation what was really taken.
fn settle(memory: &mut Reservation, bytes: usize) {
    match bytes.checked_sub(memory.bytes()) {
        Some(more) => memory.grow(more),
        None => memory.shrink(memory.bytes() - bytes),
    }
}

fn prepared_lines(
    snapshot: &Snapshot,
    database: &Arc<str>,
    parsed: ParsedLines,
    mut memory: Reservation,
) -> Prepared {
    settle(
        &mut memory,
        parsed.tables.iter().map(|table| table.rows.bytes()).sum(),
    );
    let mut memory = Some(memory);
    let outcome = WriteOutcome {
        written: Written {
            samples: parsed.lines_ok as u64,
            ..Written::default()
        },
        errors: parsed.errors,
        refused: parsed.lines_refused as u64,
    };
    let batch = |table: line_protocol::TableRows| TableBatch {
        name: table_name(snapshot, database, &table.table),
        kind: TableKind::Wide,
        registry: table.registry,
        rows: table.rows,
        memory: memory.take(),
    };
    Prepared {
        tables: parsed.tables.into_iter().map(batch).collect(),
        outcome,
    }
}

fn full() -> IngestError {
    IngestError::Unavailable {
        reason: "the memory for new series is used up until the next flush".to_owned(),
        retry_after_s: 2,
    }
}

/// Remote write is snappy by its specification: a body that is not what else its header says is
/// an encoding that is not supported, so that the sender falls back to snappy.
fn body_error(frame: &Frame, error: ContentError) -> IngestError {
    let is_samples = matches!(
        frame.protocol,
        Protocol::RemoteWrite1 | Protocol::RemoteWrite2
    );
    match (&error, frame.encoding) {
        (ContentError::Corrupt(_), ContentEncoding::Gzip | ContentEncoding::Zstd) if is_samples => {
            IngestError::Unsupported(format!("{error}; send snappy (block format)"))
        }
        _ => content_error(error),
    }
}

fn content_error(error: ContentError) -> IngestError {
    match error {
        ContentError::TooLarge { .. } => IngestError::TooLarge(error.to_string()),
        ContentError::OutOfMemory(_) => IngestError::unavailable(error),
        ContentError::Unsupported(_) => IngestError::Unsupported(error.to_string()),
        ContentError::Corrupt { .. } => IngestError::BadRequest(error.to_string()),
    }
}

/// What a failed commit means for a write.
pub(crate) fn catalog_error(error: CatalogError) -> IngestError {
    match error {
        CatalogError::Fenced { .. } => IngestError::Fenced(error.to_string()),
        CatalogError::Refused(_) => IngestError::BadRequest(error.to_string()),
        // Another process will take it.
        CatalogError::Store(_) | CatalogError::NotRegistered | CatalogError::OtherStore { .. } => {
            IngestError::unavailable(error)
        }
        _ => IngestError::Internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_left_asks_for_another_try() {
        let left = catalog_error(CatalogError::NotRegistered);
        assert!(matches!(left, IngestError::Unavailable { .. }), "{left:?}");
    }
}
