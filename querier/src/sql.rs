//! SQL, by DataFusion.
//!
//! In the order in which a query passes them:
//!
//! 1. `planning`: threads with large stacks, as everything up to the plan recurses with the
//!    query, unless a plan for it is kept;
//! 2. `text`, `tokens`, `information`, `statement`: text to a statement that only reads and is not too deep for
//!    what follows;
//! 3. `catalog`, `view`: names to tables, wide ones as they are, each metric as a table of its own;
//! 4. `session`: statement to plan, or of `shapes` and `ready` the plan of one that only compares
//!    with other texts; its functions (`functions`) have the `limits` of the query,
//!    with `promql` for what the function of that name answers, and
//!    `yielding` joins; `provider` and `pushdown` turn filters into matchers and a time range, and
//!    `edges` what only needs the newest rows into a scan of these;
//! 5. `scan_exec`, `batches`: units of sorted rows to record batches;
//! 6. `threads`, `deadline`: the answer, computed on threads of its own unless there is little to
//!    compute, as a stream that ends in time.
//!
//! `outline` tells what a statement answers without running it.
//! `postgres` is what clients of PostgreSQL say and ask beside that.
//!
//! A statement that changes something becomes a [`Command`] (`command`, `deletion`, `retention`),
//! which others carry out.
//!
//! What never happens here: a query names no file, URL or other database, writes nothing, changes
//! no setting, and no text is looked at per row of a tag.

mod batches;
mod catalog;
mod command;
mod computing;
mod deadline;
mod deletion;
mod edges;
mod error;
mod functions;
mod guard;
mod information;
mod limits;
mod long_constants;
mod outline;
pub(crate) mod part;
mod planning;
pub mod postgres;
mod promql;
mod provider;
mod pushdown;
mod ready;
mod retention;
mod scan_exec;
mod session;
mod shapes;
mod source;
mod spread;
mod statement;
#[cfg(test)]
mod tests;
mod text;
mod threads;
mod tokens;
mod view;
mod windows;
mod yielding;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::sql::parser::Statement;
use tidelake_catalog::segment::ReadMeter;
use tidelake_catalog::{Environment, panics};
use tokio::time::Instant;

use self::limits::{QueryLimits, StopOnDrop};
use self::planning::Planners;
use self::postgres::{Description, PgSession};
use self::promql::{PromqlCalls, Remarks};
use self::session::{Basis, Planned, Planning, Templates};
use self::shapes::{Shape, Shapes};
use self::spread::Spread;
use crate::lane::Lane;
use crate::memory::QueryMemory;
use crate::promql::exec::EngineOptions;
use crate::small;
use crate::tables::State;

pub use catalog::{INFORMATION_SCHEMA, METRICS_SCHEMA, PUBLIC_SCHEMA};
pub use command::Command;
pub use error::SqlError;
pub use limits::Held;
pub use outline::SqlOutline;
pub use part::SqlPartError;
pub use retention::{Retention, RetentionSetting, parse_retention, settings, show_retention};
pub use source::{RowRequest, RowSource, RowUnit};
pub use text::SqlText;

/// What queries may use.
#[derive(Debug, Clone)]
pub struct SqlOptions {
    /// Where queries have their memory from. A query that would exceed it fails alone.
    pub memory: QueryMemory,
    /// Partitions that a query runs in: usually the number of cores.
    pub target_partitions: usize,
    /// Rows per batch.
    pub batch_rows: usize,
    /// Longest SQL text, in bytes.
    pub max_sql_bytes: usize,
    /// Time for a whole query, planning and reading the answer included; `None` is without end.
    pub timeout: Option<Duration>,
    /// Where sorts and aggregations may put what does not fit into memory; `None` is nowhere.
    pub spill_dir: Option<PathBuf>,
    /// Limits of the PromQL expressions in statements; their time is what is left of `timeout`.
    pub promql: EngineOptions,
    /// The threads that queries compute on; also of the expressions in `promql`.
    pub lane: Lane,
    /// Where threads for planning come from.
    pub environment: Environment,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            memory: QueryMemory::unlimited(),
            target_partitions: std::thread::available_parallelism().map_or(1, usize::from),
            batch_rows: 8192,
            max_sql_bytes: 1 << 20,
            timeout: None,
            spill_dir: None,
            promql: EngineOptions::default(),
            lane: Lane::default(),
            environment: Environment::system(),
        }
    }
}

/// The value of a query parameter (`$name`).
#[derive(Debug, Clone, PartialEq)]
pub enum SqlParam {
    /// NULL
    Null,
    /// A boolean.
    Boolean(bool),
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer, for what is too large for a signed one.
    Unsigned(u64),
    /// A float.
    Float(f64),
    /// A text; where a time is expected, one in RFC 3339.
    String(String),
    /// A time, in nanoseconds since 1970.
    Time(i64),
}

/// Answers SQL queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqlEngine {
    source: Arc<dyn RowSource>,
    /// What a query reads, also where other processes read it.
    meter: Option<Arc<ReadMeter>>,
    options: Arc<SqlOptions>,
    templates: Arc<Templates>,
    shapes: Arc<Shapes>,
    /// Of texts in the words of PostgreSQL.
    postgres_shapes: Arc<Shapes>,
    planners: Planners,
}

impl SqlEngine {
    /// An engine over tables. Fails if the options cannot be used, for example if the spill
    /// directory cannot be created.
    pub fn new(source: Arc<dyn RowSource>, options: SqlOptions) -> Result<Self, SqlError> {
        let templates = Arc::new(session::templates(&options)?);
        Ok(Self {
            source,
            meter: None,
            options: Arc::new(options),
            templates,
            shapes: Arc::default(),
            postgres_shapes: Arc::default(),
            planners: Planners::new().map_err(|error| {
                SqlError::Internal(format!("cannot prepare threads for planning: {error}"))
            })?,
        })
    }

    /// Looks at a text, without reading it to its end.
    pub fn read(&self, sql: &str) -> Result<SqlText, SqlError> {
        SqlText::read(sql, self.options.max_sql_bytes)
    }

    /// The same over other tables.
    pub fn over(&self, source: Arc<dyn RowSource>) -> Self {
        Self {
            source,
            meter: None,
            options: Arc::clone(&self.options),
            templates: Arc::clone(&self.templates),
            shapes: Arc::clone(&self.shapes),
            postgres_shapes: Arc::clone(&self.postgres_shapes),
            planners: self.planners.clone(),
        }
    }

    /// The same for a query whose reads a meter counts.
    pub fn metered(self, meter: Arc<ReadMeter>) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    /// The same with other limits of the PromQL expressions in statements.
    pub fn with_promql(&self, promql: EngineOptions) -> Self {
        let options = SqlOptions {
            promql,
            ..SqlOptions::clone(&self.options)
        };
        Self {
            options: Arc::new(options),
            ..self.clone()
        }
    }

    /// The same for a query that computes on other threads.
    pub fn on(&self, lane: &Lane) -> Self {
        let mut options = SqlOptions::clone(&self.options);
        options.lane = lane.clone();
        options.promql.lane = lane.clone();
        Self {
            options: Arc::new(options),
            ..self.clone()
        }
    }

    /// Plans a query and starts it. The stream's errors are understood by [`SqlError::from_ref`].
    /// What it reads is the state that the tables of this engine are in, whatever
    /// [`SqlText::as_of`] says.
    ///
    /// `params` are the values of `$name` (without the dollar sign); `$1` is called `1`. `held` is
    /// dropped when all that computes for the query has ended, which may be after its stream was
    /// dropped: a call of a function goes on until it returns.
    pub async fn query(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
        held: Option<Held>,
    ) -> Result<SqlAnswer, SqlError> {
        let deadline = self.deadline();
        let promql = EngineOptions {
            timeout: self.options.timeout.unwrap_or(Duration::MAX),
            ..self.options.promql.clone()
        };
        let limits = QueryLimits::new(self.options.memory.pool(), deadline, held);
        let mut stop = StopOnDrop(Some(Arc::clone(&limits)));
        let promql = PromqlCalls::new(
            self.source.samples(db),
            promql,
            self.options.environment.now_ms(),
            Arc::clone(limits.pool()),
        );
        let spread = self.spread(db, &text, &params, deadline);
        let basis = Basis {
            // Others have to plan as of the same time.
            started: spread
                .as_ref()
                .and_then(|spread| DateTime::from_timestamp_millis(spread.started_ms)),
            partitions: None,
        };
        let planning = self.planning(db, text.session(), &limits, basis)?;
        let (mut planned, remarks) =
            until(deadline, self.plan(planning, text, params, promql)).await?;
        if let Some(spread) =
            spread.filter(|spread| planned.reads(spread.part_rows.saturating_mul(2)))
            && let Some(state) = self.source.noted()
        {
            let state = Arc::new(state);
            planned.plan = Spread { state, ..spread }.over(&planned.plan)?;
        }
        let lane = &self.options.lane;
        // What is not known shows while it is computed.
        lane.starts(planned.rows.unwrap_or(0));
        let stream = panics::caught_call(|| match lane.threads() {
            Some(threads) if !planned.is_small => {
                // Operators may spawn when they are started.
                let _entered = threads.enter();
                Ok(threads::on(
                    lane,
                    threads,
                    planned.start(lane)?,
                    Arc::clone(&limits),
                ))
            }
            _ => planned.start(lane),
        })
        .map_err(SqlError::from)??;
        // From here on the stream stops it.
        stop.0 = None;
        let value = deadline::answer(stream, limits);
        Ok(SqlAnswer {
            stream: value,
            warnings: Warnings {
                left_out: Vec::new(),
                remarks,
            },
        })
    }

    /// What a statement takes and answers, if it reads. `text` must have
    /// [types](postgres::PgParams) instead of values.
    pub async fn describe(&self, db: &str, text: SqlText) -> Result<Description, SqlError> {
        let deadline = self.deadline();
        let limits = QueryLimits::new(self.options.memory.pool(), deadline, None);
        let promql = EngineOptions {
            timeout: self.options.timeout.unwrap_or(Duration::MAX),
            ..self.options.promql.clone()
        };
        let promql = PromqlCalls::new(
            self.source.samples(db),
            promql,
            self.options.environment.now_ms(),
            Arc::clone(limits.pool()),
        );
        let planning = self.planning(db, text.session(), &limits, Basis::default())?;
        let threads = self.options.lane.threads();
        let work = move || async move { planning.describe(text, &promql).await };
        let work = self.planners.run(&self.options.environment, threads, work);
        until(deadline, work).await
    }

    fn planning(
        &self,
        db: &str,
        session: Option<Arc<PgSession>>,
        limits: &Arc<QueryLimits>,
        basis: Basis,
    ) -> Result<Planning, SqlError> {
        let shapes = match session {
            Some(_) => &self.postgres_shapes,
            None => &self.shapes,
        };
        Ok(Planning {
            templates: Arc::clone(&self.templates),
            shapes: Arc::clone(shapes),
            database: catalog::Database::open(self.source.clone(), db)?,
            db: db.to_owned(),
            session,
            limits: Arc::clone(limits),
            basis,
        })
    }

    /// How others could help with a query: one that they can read as it was written.
    fn spread(
        &self,
        db: &str,
        text: &SqlText,
        params: &HashMap<String, SqlParam>,
        deadline: Option<Instant>,
    ) -> Option<Spread> {
        let promql = &self.options.promql;
        let workers = promql.workers.as_ref()?;
        let is_plain = text.is_short && params.is_empty() && text.postgres.is_none();
        if !is_plain || !workers.has_any() {
            return None;
        }
        Some(Spread {
            workers: Arc::clone(workers),
            state: Arc::new(State::of(Arc::default())),
            database: db.to_owned(),
            text: text.shown().to_owned(),
            started_ms: self.options.environment.now_ms(),
            meter: self.meter.clone(),
            max_read_bytes: promql.max_read_bytes,
            deadline,
            part_rows: promql.distributed_query_rows,
            partitions: self.options.target_partitions,
        })
    }

    /// Plans a short text here if a plan of its shape is kept, and else on threads for it.
    async fn plan(
        &self,
        planning: Planning,
        text: SqlText,
        params: HashMap<String, SqlParam>,
        promql: Arc<PromqlCalls>,
    ) -> Result<(Planned, Option<Remarks>), SqlError> {
        let threads = self.options.lane.threads();
        let mut shape = None;
        let text = match text.is_short {
            true => {
                let statement = statement::parse(text)?;
                let key = planning.key();
                shape = Shape::of(&key, &statement).filter(|_| params.is_empty());
                Parsed::Statement(statement)
            }
            false => Parsed::Text(text),
        };
        let shape = shape.map(Arc::new);
        if let Some(shape) = shape.clone().filter(|shape| planning.shapes.has(shape)) {
            let planning = planning.clone();
            let work = async move { planning.known(&shape).await };
            let known = small::here_first(threads, panics::caught(work)).await;
            let stopped = |_| SqlError::Unavailable("the server stops".to_owned());
            if let Some(planned) = known.map_err(stopped)??? {
                return Ok((planned, None));
            }
        }
        let work = move || async move {
            let statement = match text {
                Parsed::Text(text) => statement::parse(text)?,
                Parsed::Statement(statement) => statement,
            };
            let shape = shape.as_deref();
            let planned = planning.plan(statement, shape, params, &promql).await?;
            Ok((planned, Some(promql.remarks())))
        };
        self.planners
            .run(&self.options.environment, threads, work)
            .await
    }

    /// What a text that [`is_command`](SqlText::is_command) wants to have changed. Nothing is
    /// changed by this.
    pub async fn command(
        &self,
        db: &str,
        text: SqlText,
        params: HashMap<String, SqlParam>,
    ) -> Result<Command, SqlError> {
        let (source, db) = (self.source.clone(), db.to_owned());
        let templates = Arc::clone(&self.templates);
        let deadline = self.deadline();
        let limits = QueryLimits::new(self.options.memory.pool(), deadline, None);
        let planning = self.planners.run(
            &self.options.environment,
            self.options.lane.threads(),
            move || async move {
                let draft = command::parse(text)?;
                deletion::resolve(&templates.usual, source, &db, draft, params, &limits).await
            },
        );
        until(deadline, planning).await
    }

    fn deadline(&self) -> Option<Instant> {
        // A deadline too far away to be told is none.
        self.options
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

/// The answer to a statement.
pub struct SqlAnswer {
    /// Its rows.
    pub stream: SendableRecordBatchStream,
    /// What is to be known about it.
    pub warnings: Warnings,
}

/// What is to be known about an answer: more of it while the answer is read.
#[derive(Debug, Clone)]
pub struct Warnings {
    left_out: Vec<String>,
    remarks: Option<Remarks>,
}

impl Warnings {
    /// Sentences about what was left out, and what expressions of PromQL remarked so far.
    pub fn list(&self) -> Vec<String> {
        let remarks = self.remarks.as_ref().map(Remarks::list);
        let left_out = self.left_out.iter().cloned();
        left_out.chain(remarks.into_iter().flatten()).collect()
    }

    /// Adds sentences about what was left out.
    pub(crate) fn leave_out(&mut self, left_out: Vec<String>) {
        self.left_out.extend(left_out);
    }
}

/// A text, or what it says if it is short.
enum Parsed {
    Text(SqlText),
    Statement(Statement),
}

async fn until<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, SqlError> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| SqlError::Timeout)?,
        None => work.await,
    }
}
